"""Training of the identity classifier by FaceNet's recipe: the static graph of a step, and the loop around it.

Sandberg's train_softmax: cross-entropy and center loss on the bottleneck, before it is scaled to length 1; batch norm with
the batch's statistics; moving averages of the weights. Synthetic identities have a softmax head and centers of their own.
"""
import contextlib
import logging
import math
import os
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tqdm.contrib.logging import logging_redirect_tqdm

import data_loader
import losses
from engine import checkpoints, layers, runs
from engine.checkpoints import average_of
from engine.layers import to_image, to_network
from engine.session import check_losses, Events, images_needed, save_checkpoint, session_options
from recognition import facenet, pretrained, verification
from recognition.embedder import Embedder, Recipe
from utils import Interrupted, progress_bar, StopRequest

tf1 = tf.compat.v1

# Added to the seed, so that no two uses of random numbers in a step share theirs; real and synthetic images are 0 and 1 on.
DROPOUT_STREAM, SHIFT_STREAM, FLIP_STREAM, ROTATE_STREAM = 0, 10, 20, 30
ROTATION = 10                   # degrees to either side, as in FaceNet
STATISTICS_DECAY = .995         # of batch norm's moving statistics, as in FaceNet
SYNTHETIC = "_synthetic"        # ends the names of what belongs to the synthetic identities


class Part(NamedTuple):
    """What one step computes of its real or of its synthetic images; scalars, but for `crops` [B, s, s, 3], the
    network's input, and the lists of (variable, next value)."""
    suffix: str
    crops: tf.Tensor
    cross_entropy: tf.Tensor
    center: tf.Tensor
    accuracy: tf.Tensor
    statistics: list
    centers: list


def recipe_of(options):
    """The embedder.Recipe of a training's options, for its validation."""
    o = options
    return Recipe(o.input_scale_size, o.image_size, o.standardization, o.model_def, o.embedding_size,
                  o.lfw_use_flipped_images)


class ClassifierGraph:
    """One training step on a batch of labelled_data.Faces: of the real ones, of the synthetic ones, or of both.

    What a caller runs or looks at: `train_op`, `losses` (scalars by name), `summary`, `step`, `embedder` (of the averaged
    weights; None without `validation`), `saved_variables`, `all_finite`, and the placeholders `start_step`, `rate`.
    """

    def __init__(self, options, faces, validation=False):
        self.options = options
        self.start_step = tf1.placeholder(tf.int64, [], "start_step")
        self.rate = tf1.placeholder(tf.float32, [], "learning_rate")
        self.step = tf1.get_variable(pretrained.STEP, [], tf.int32, tf1.zeros_initializer(), trainable=False,
                                     use_resource=True)
        self.step_now = self.step.value()
        self.fixed = tf1.get_variable(pretrained.FIXED, initializer=tf.constant(options.standardization == "fixed"),
                                      trainable=False, use_resource=True)
        with tf1.name_scope("inputs"):
            batches = self._build_inputs(faces)
        self.parts = [self._build_part(i, *batch) for i, batch in enumerate(batches)]
        self.classifier_variables = tf1.global_variables("InceptionResnetV1/")
        with tf1.name_scope("losses"):
            self._build_losses()
        with tf1.name_scope("train"):
            self._build_train_op()
        self.saved_variables = tf1.global_variables()
        self.embedder = self._build_validation() if validation else None
        self._build_summary()
        self.all_finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(v)) for v in self.saved_variables
                                         if v.dtype.is_floating])

    def _build_inputs(self, faces):
        """(suffix, classes, images uint8 [B, S, S, 3], labels [B], weights [B]) of the real and the synthetic images."""
        o, sets = self.options, []
        for suffix, stream, images, weights in (("", data_loader.REAL, faces.real, None),
                                                (SYNTHETIC, data_loader.SYN, faces.synthetic, faces.weights)):
            if images:
                weights = np.ones(len(images.names), np.float32) if weights is None else weights
                dataset = data_loader.training_batches([images], o.input_scale_size, o.batch_size, o.seed, stream,
                                                       self.start_step, o.num_worker, False)
                sets.append((suffix, images, weights, dataset))
        self.iterator = tf1.data.make_initializable_iterator(tf.data.Dataset.zip(tuple(each[-1] for each in sets)))
        return [(suffix, len(images.identities), batch, tf.gather(tf.constant(images.labels), indices),
                 tf.gather(tf.constant(weights), indices))
                for (suffix, images, weights, _), (indices, batch) in zip(sets, self.iterator.get_next())]

    def _seed(self, stream):
        """Seed [2] int32 of one use of random numbers in this step."""
        return tf.stack([(self.options.seed + stream) % 2 ** 31, self.step_now])

    def _augment(self, index, images):
        """Standardised crops of `images` uint8 [B, S, S, 3], moved, mirrored and turned at random as the options say."""
        o, count = self.options, self.options.batch_size
        low, high = facenet.shift_range(o.input_scale_size)
        shifts, flips, angles = tf.zeros([count, 2], tf.int32), tf.zeros([count], tf.bool), tf.zeros([count])
        if o.random_crop:
            shifts = tf.random.stateless_uniform([count, 2], self._seed(SHIFT_STREAM + index), low, high + 1, tf.int32)
        if o.random_flip:
            flips = tf.random.stateless_uniform([count], self._seed(FLIP_STREAM + index)) < .5
        if o.random_rotate:
            most = math.radians(ROTATION)
            angles = tf.random.stateless_uniform([count], self._seed(ROTATE_STREAM + index), -most, most)
        return facenet.augment(to_network(images), o.image_size, shifts, flips, angles, o.standardization)

    def _build_part(self, index, suffix, classes, images, labels, weights):
        o = self.options
        crops = self._augment(index, images)
        with tf1.name_scope("network" + suffix), facenet.batch_statistics() as statistics:
            bottleneck, _ = facenet.embed(crops, o.model_def, o.embedding_size, keep=o.keep_probability,
                                          seed=self._seed(DROPOUT_STREAM + index))
        logits = facenet.logits(bottleneck, classes, "Logits" + suffix)
        centers = layers.get_variable("centers" + suffix, [classes, o.embedding_size], tf1.zeros_initializer(),
                                      trainable=False)
        before = centers.value()
        moved = losses.move_centroids(before, bottleneck, labels, o.center_loss_alfa)
        right = tf.equal(tf.argmax(logits, 1, tf.int32), labels)
        return Part(suffix, crops, tf.reduce_mean(weights * losses.softmax_loss(logits, labels)),
                    tf.reduce_mean(weights * losses.center_loss(bottleneck, labels, before)),
                    tf.reduce_mean(tf.cast(right, tf.float32)), statistics, [(centers, moved)])

    def _build_losses(self):
        o = self.options
        self.trained = facenet.trained_variables() + [v for part in self.parts
                                                      for v in tf1.trainable_variables(f"Logits{part.suffix}/")]
        decayed = [tf.nn.l2_loss(v) for v in self.trained if v.op.name.endswith("/weights")]
        self.losses = {"regularization": o.weight_decay * tf.add_n(decayed)}
        total = self.losses["regularization"]
        for part in self.parts:
            weight = o.lambda_synthetic if part.suffix else 1.0
            total += weight * (part.cross_entropy + o.center_loss_factor * part.center)
            self.losses.update({"cross_entropy" + part.suffix: part.cross_entropy, "center" + part.suffix: part.center})
        self.losses["total"] = total

    def _build_train_op(self):
        """All gradients and statistics from the weights as they are; then the update, then the averages of its result.

        Batch norm's moving statistics are those of the real images, if there are any: what the classifier is for.
        """
        o = self.options
        gradients = list(zip(tf1.gradients(self.losses["total"], self.trained), self.trained))
        step = tf.cast(self.step_now, tf.float32)
        warm = (1 + step) / (10 + step)                 # so that a short training forgets how it began
        slow = 1 - tf.minimum(STATISTICS_DECAY, warm)
        state = [(moving, moving + slow * (value - moving)) for moving, value in self.parts[0].statistics]
        state += [pair for part in self.parts for pair in part.centers]
        with tf.control_dependencies([gradient for gradient, _ in gradients] + [value for _, value in state]), \
                tf1.name_scope(None):
            updates = [optimizer(o.optimizer, self.rate).apply_gradients(gradients)]
            updates += [variable.assign(value, read_value=False) for variable, value in state]
        self.averages = {v.op.name: average_of(v) for v in self.classifier_variables}
        share = 1 - tf.minimum(o.moving_average_decay, warm)
        with tf.control_dependencies(updates):
            moves = [self.averages[v.op.name].assign_sub(share * (self.averages[v.op.name] - v.read_value()),
                                                         read_value=False) for v in self.classifier_variables]
        with tf.control_dependencies(moves):
            self.train_op = self.step.assign_add(1, read_value=False)

    def _build_validation(self):
        """The Embedder of the averaged weights."""
        def average(getter, name, *arguments, **options):
            return self.averages[name]

        with tf1.variable_scope(tf1.get_variable_scope(), custom_getter=average):
            return Embedder(recipe_of(self.options), self.options.lfw_batch_size)

    def _build_summary(self):
        scalars = {f"loss/{name}": value for name, value in self.losses.items()}
        scalars.update({f"misc/accuracy{part.suffix}": part.accuracy for part in self.parts})
        scalars["misc/learning_rate"] = self.rate
        self.summary = tf1.summary.merge(
            [tf1.summary.scalar(name, value) for name, value in scalars.items()]
            + [tf1.summary.image("input" + part.suffix, to_image(part.crops / 3), 4) for part in self.parts])


def optimizer(name, rate):
    """FaceNet's optimizers, with FaceNet's settings."""
    return {"adagrad": lambda: tf1.train.AdagradOptimizer(rate),
            "adadelta": lambda: tf1.train.AdadeltaOptimizer(rate, rho=.9, epsilon=1e-6),
            "adam": lambda: tf1.train.AdamOptimizer(rate, beta1=.9, beta2=.999, epsilon=.1),
            "rmsprop": lambda: tf1.train.RMSPropOptimizer(rate, decay=.9, momentum=.9, epsilon=1.),
            "mom": lambda: tf1.train.MomentumOptimizer(rate, .9, use_nesterov=True)}[name]()


class ClassifierTrainer:
    """The graph, and a session to train it in. `schedule` gives the learning rate of a step; `pairs`, a
    verification.FacePairs or None, are what it is validated on."""

    def __init__(self, options, faces, schedule, pairs=None):
        self.options, self.schedule, self.pairs = options, schedule, pairs
        with tf.Graph().as_default() as graph:
            tf1.set_random_seed(options.seed)
            self.graph = ClassifierGraph(options, faces, validation=bool(pairs))
            self.saver = tf1.train.Saver(self.graph.saved_variables, max_to_keep=None)
            self.session = tf1.Session(graph=graph, config=session_options(options.use_gpu))
            self.session.run([v.initializer for v in tf1.global_variables()])
            graph.finalize()

    def close(self):
        """Close the session. Python may hang at its end if images are still being decoded then."""
        self.session.close()

    def resume(self, path):
        """Load everything the next step depends on, from the newest whole checkpoint at `path`; return that step."""
        variables = self.graph.saved_variables
        names = [v.op.name for v in variables]
        prefix, values = checkpoints.read_newest(path, names)
        checkpoints.assign(self.session, variables, values, prefix, required=names)
        step = int(self.session.run(self.graph.step))
        logging.info("%s: going on after step %d", prefix, step)
        return step

    def train(self, last_step, epoch_size, resume_from, open_run):
        """Train to `last_step`, from the newest checkpoint in `resume_from` (a run directory), or else from the start.

        When the first step is to be run, `open_run()` gives the run directory; `run_dir` holds it then.
        Raises Interrupted after SIGINT or SIGTERM, when everything is saved, and Diverged.
        """
        o, graph = self.options, self.graph
        self.run_dir = resume_from
        step = self.resume(resume_from) if resume_from and runs.list_checkpoints(resume_from) else 0
        if step >= last_step:
            logging.info("this training has done its %d steps; give a larger --max_nrof_epochs to go on", last_step)
            return
        self.session.run(graph.iterator.initializer, {graph.start_step: step})
        with contextlib.ExitStack() as stack:
            stop = stack.enter_context(StopRequest())
            self.run_dir = open_run()
            events = stack.enter_context(Events(self.run_dir, self.session.graph, step))
            progress = stack.enter_context(progress_bar("step", last_step, step))
            stack.enter_context(logging_redirect_tqdm())
            while step < last_step:
                step = self._train_step(step, epoch_size, events, progress)
                stopping = stop.signal
                due = step % (o.validate_every_n_epochs * epoch_size) == 0 or step == last_step
                if due or stopping:
                    self._save(step)
                if stopping:
                    raise Interrupted(stop.signal, f"saved at step {step}; go on with --load_path {self.run_dir}")
                if due and self.pairs:
                    self._validate(step, step // epoch_size, events)

    def _train_step(self, step, epoch_size, events, progress):
        """Run step number `step`, log what is due, and return the number of steps done."""
        graph, done = self.graph, step + 1
        fetches = {"train": graph.train_op, "losses": graph.losses,
                   "accuracy": [part.accuracy for part in graph.parts]}
        if done % self.options.log_step == 0:
            fetches["summary"] = graph.summary
        rate = self.schedule(step)
        with images_needed(self.run_dir, done):
            results = self.session.run(fetches, {graph.rate: rate})
        values = results["losses"]
        check_losses(self.run_dir, done, values)
        progress.update()
        progress.set_postfix(loss=f"{values['total']:.3f}", refresh=False)
        if "summary" in results:
            events.add(results["summary"], done)
            terms = " ".join(f"{name} {value:.4f}" for name, value in values.items() if name != "total")
            logging.info("[%d/%d] epoch %d loss %.4f (%s) accuracy %s rate %.3g", done, progress.total,
                         step // epoch_size + 1, values["total"], terms,
                         " ".join(f"{value:.3f}" for value in results["accuracy"]), rate)
        return done

    def _save(self, step):
        save_checkpoint(self.session, self.saver, self.run_dir, step, self.graph.all_finite, self.options.keep_every)

    def _validate(self, step, epoch, events):
        """Verify the averaged weights on the pairs; to the log and to TensorBoard."""
        o = self.options
        embeddings = self.graph.embedder.embed_all(self.session, self.pairs.root, self.pairs.names, o.num_worker)
        result = verification.verify(embeddings, self.pairs, o.lfw_distance_metric, o.lfw_subtract_mean)
        scalars = {f"lfw/{name}": value for name, value in result.row().items()}
        events.add(tf1.Summary(value=[tf1.Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]),
                   step)
        logging.info("[%d] epoch %d %s: accuracy %.4f +- %.4f, AUC %.4f, EER %.4f", step, epoch,
                     os.path.basename(os.path.normpath(self.pairs.root)), result.accuracy, result.accuracy_std, result.auc,
                     result.eer)
