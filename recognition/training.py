"""Training of the identity classifier: the session of a `training_graph`, its steps, and what is verified between."""
import logging
import os

import tensorflow as tf

from data_loader import count_readable
from engine import checkpoints
from engine.cluster.following import follow_steps
from engine.cluster.team import ALONE
from engine.loop import Due, run_steps, StepResult
from engine.session import needs_met, session_options
from recognition import networks, verification
from recognition.training_graph import ClassifierGraph, recipe_of
from utils import UserError

tf1 = tf.compat.v1


def count_parameters(options):
    """Count the numbers in the variables of a training's network -> {name of the network: count}.

    The softmax heads do not count. The network is built in a graph of its own.
    """
    with tf.Graph().as_default():
        tf1.set_random_seed(options.seed)
        images = tf1.placeholder(tf.float32, [1, options.image_size, options.image_size, 3])
        networks.embed(images, recipe_of(options).architecture)
        return {options.model_def: sum(variable.shape.num_elements() for variable in tf1.global_variables())}


class ClassifierTrainer:
    """The graph of a training and its session. A caller needs `train` and, in the end, `close`.

    `engine.loop.run_steps` calls `begin`, `train_step` and `look`. A training that leaves nothing on disk calls `steps`
    and `embed` instead of `train`.
    """

    def __init__(self, options, faces, schedule, pairs=None, embedded=None, team=ALONE):
        """Build the graph, and open the session with all variables at their initial values.

        `options` are those of `recognizer.py train`, and `faces` is a labelled_data.Faces. `schedule(step)` gives the
        learning rate of a step, counted from 0. `pairs`, a verification.FacePairs, are to be verified during the
        training; None: there is no validation. `embedded` is the kind of the crops of these pairs, and of those that
        `embed` is for, "box" or "arcface"; None: that of the training, if there are pairs. `team` is the
        `cluster.team.Team` of several workers.
        """
        self.team = team
        self._options, self._faces, self._schedule, self._pairs = options, faces, schedule, pairs
        self._epoch_size = 1                        # until `train` is given one
        with tf.Graph().as_default() as graph:
            tf1.set_random_seed(options.seed)
            self.graph = ClassifierGraph(options, faces, embedded or (options.crop if pairs else None), team.exchange())
            self.saver = tf1.train.Saver(self.graph.saved_variables, max_to_keep=None)
            self.session = team.open_session(graph, session_options(options.use_gpu))
            self.session.run([variable.initializer for variable in tf1.global_variables()])
            graph.finalize()
        self.all_finite = self.graph.all_finite

    def close(self):
        """Close the session. Python may hang at its end if images are still being decoded then."""
        self.session.close()

    def _resume(self, path):
        """Load all that the next step depends on from a checkpoint -> the number of steps done.

        It is the newest whole checkpoint at `path`. Raises UserError where no checkpoint is whole, and where the
        checkpoint lacks a variable.
        """
        variables = self.graph.saved_variables
        names = [variable.op.name for variable in variables]
        prefix, values = checkpoints.read_newest(path, names)
        checkpoints.assign(self.session, variables, values, prefix, required=names)
        step = int(self.session.run(self.graph.step))
        logging.info("%s: going on after step %d", prefix, step)
        return step

    def train(self, run, epochs, epoch_size):
        """Train for `epochs` of `epoch_size` steps in an engine.runs.Run -> that Run.

        The training goes on from the newest checkpoint of the run if there is one. Raises Interrupted after SIGINT or
        SIGTERM, when everything is saved. Raises Diverged where a loss or a weight is no longer finite.
        """
        options, last = self._options, epochs * epoch_size
        self._epoch_size = epoch_size
        step = self._resume(run.folder) if run.checkpoints else 0
        if step >= last:
            logging.info("this training has done its %d steps; give a larger --max_nrof_epochs to go on", last)
            return run
        self.team.compare_weights(self.session, {each.op.name: each for each in self.graph.saved_variables}, step)
        self.restart(step)
        between = options.validate_every_n_epochs * epoch_size
        steps = run_steps if self.team.leads else follow_steps
        steps(self, run, Due(step, last, options.log_step, checkpoint_step=between, look_step=between,
                             checkpoint_minutes=options.checkpoint_minutes,
                             patience=0 if self.team.cluster else options.patience))
        return run

    def steps(self, count):
        """Run the first `count` steps and yield the losses {name: number} of each. Nothing is written to disk.

        Raises ImagesGone and NoMemory of engine.session.
        """
        self.restart(0)
        for step in range(count):
            with needs_met(step + 1):
                result = self.train_step(step, summarize=False)
            yield result.losses

    def embed(self, images):
        """Embed the images of an ImageSet or of Renderings by the averaged weights -> [n, E], nan where one is broken.

        The trainer needs `embedded`, or pairs.
        """
        return self.graph.embedder.embed_all(self.session, images.root, images.names, self._options.num_worker)

    def restart(self, step):
        """Read the images anew from step number `step` on, counted from 0."""
        self.session.run(self.graph.iterator.initializer, {self.graph.start_step: step})

    def count_readable(self):
        """Count which of some images of each set to train on can be read; 0 where a set has none."""
        return count_readable([images for images in (self._faces.real, self._faces.synthetic) if images])

    def begin(self, run):
        """Do nothing: of a classifier, nothing is written before its first step."""

    def train_step(self, step, summarize):
        """Run the step number `step`, counted from 0 -> engine.loop.StepResult, with a summary if asked to."""
        graph, rate = self.graph, self._schedule(step)
        fetches = {"train": graph.train_op, "losses": graph.losses,
                   "accuracy": {"accuracy" + share.suffix: share.accuracy for share in graph.shares}}
        if summarize:
            fetches["summary"] = graph.summary
        results = self.team.run_step(self.session, graph, fetches, {graph.rate: rate})
        losses_now = {name: float(value) for name, value in results["losses"].items()}
        terms = {name: value for name, value in losses_now.items() if name != "total"}
        numbers = {"epoch": step // self._epoch_size + 1, "loss": losses_now["total"], **terms,
                   **{name: float(value) for name, value in results["accuracy"].items()}, "rate": rate}
        return StepResult(losses_now, numbers, {"loss": losses_now["total"]}, results.get("summary"))

    def look(self, run, step, events):
        """Verify the averaged weights on the pairs, if there are any; tell the log, stats.jsonl and TensorBoard."""
        pairs, options = self._pairs, self._options
        if not pairs:
            return
        embeddings = self.graph.embedder.embed_all(self.session, pairs.root, pairs.names, options.num_worker)
        try:
            pairs = verification.with_embeddings(pairs, embeddings)
        except UserError as problem:            # that is no reason to end a training
            logging.warning("not verified after step %d: %s", step, problem)
            return
        result = verification.verify(embeddings, pairs, options.lfw_distance_metric, options.lfw_subtract_mean)
        scalars = {f"lfw/{name}": value for name, value in result.row().items()}
        events.add(tf1.Summary(value=[tf1.Summary.Value(tag=tag, simple_value=value)
                                      for tag, value in scalars.items()]), step)
        run.note(step, {"validation_accuracy": result.accuracy, "validation_auc": result.auc})
        logging.info("[%d] epoch %d %s: accuracy %.4f +- %.4f, AUC %.4f, EER %.4f", step, step // self._epoch_size,
                     os.path.basename(os.path.normpath(pairs.root)), result.accuracy, result.accuracy_std, result.auc,
                     result.eer)
        doubt = verification.doubt(result.accuracy, len(pairs.same))
        if doubt:
            logging.warning("[%d] %s", step, doubt)
