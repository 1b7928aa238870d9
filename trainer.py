"""The session and the loop: train, resume, synthesize a data set, fit renderings, test."""
import contextlib
import logging
import os

import numpy as np
import tensorflow as tf
from tqdm.contrib.logging import logging_redirect_tqdm

import losses
from data_loader import count_readable, read_in_order, Reading
from datasets.image_sets import ImageSet
from datasets.images import BrokenImage, make_grid, save_image
from datasets.scores import ScoreStore
from datasets.writer import copy_labels, existing_images, ImageWriter
from engine import checkpoints, runs
from engine.cluster.following import follow_steps
from engine.cluster.replicas import replicas_of
from engine.cluster.team import ALONE
from engine.loop import Due, run_steps, StepResult
from engine.session import session_options
from graph import Networks, TrainingGraph
from recognition import pretrained
from synthesis.graphs import FittingGraph, ReconstructionGraph, SynthesisGraph
from synthesis.products import classifier_mark
from synthesis.sheets import first_of_rows, image_seed, load_images, load_spread, sample_sheet, Sheet
from utils import Interrupted, progress_bar, StopRequest

tf1 = tf.compat.v1

SHEET_ROWS = 32                 # renderings on one sheet of samples
# What a log line and stats.jsonl call the losses.
LOGGED_LOSSES = {"Loss_D": "d_loss", "Loss_G": "g_loss", "cycle": "s_loss", "identity": "c_loss"}


def count_parameters(config):
    """Count the parameters of each network that `config` describes -> {name: count}, in a graph of its own."""
    with tf.Graph().as_default():
        tf1.set_random_seed(config.random_seed)
        networks = Networks(config, architecture=pretrained.architecture_for(config))
        images = tf1.placeholder(tf.float32, [1, config.input_scale_size, config.input_scale_size, 3])
        for network in (networks.G, networks.G_inv, networks.D_forw, networks.D_back):
            network(images)
        counts = {network.name: _count(network.variables)
                  for network in (networks.G, networks.G_inv, networks.D_forw, networks.D_back)}
        if networks.has_classifier:
            networks.embed(images)
            counts[config.model_def] = _count(networks.classifier_variables)
    return counts


def _count(variables):
    """How many numbers `variables` hold together."""
    return sum(variable.shape.num_elements() for variable in variables)


def _save_columns(columns, path):
    """Write a grid whose columns are arrays uint8 [n, S, S, 3] to the image file `path`."""
    save_image(make_grid(np.stack(columns, 1).reshape(-1, *columns[0].shape[1:]), len(columns)), path)


class Trainer:
    """Holds one graph and the session that runs it.

    `config` holds the resolved options (`config.get_config`). A caller builds with `build_model` what is to be done,
    then calls `train`, `generate_dataset`, `fit_dataset` or `test`, and `close` in the end. `team` is the
    `cluster.team.Team` of several workers.
    """

    def __init__(self, config, team=ALONE):
        self.config, self.team, self.replicas = config, team, replicas_of(config)
        self.training = self.synthesis = self.fitting = self.session = self.all_finite = None
        self.averaged_synthesis = self.averaged_fitting = self.reconstruction = None

    # Building

    def build_model(self, data=None, synthesis=False, fitting=False, classifier=None, crop="box"):
        """Build the graph and open the session, all weights at their initial values.

        With `data`, the training step is built: `data` has the image sets `photos`, `renderings` and `pairs`, and
        `test_pairs` to report on, which may be None. `classifier` are the pretrained.Weights of the identity
        classifier; by default, those of --pretrained_rec are read. Without values in it, `set_values` has to follow.
        `crop` is the kind of crop that the images are, see recognition/input_size.py.
        """
        if self.config.pretrained_rec and classifier is None:
            classifier = pretrained.read_for(self.config)
        self.data = data
        with tf.Graph().as_default() as graph:
            tf1.set_random_seed(self.config.random_seed)
            self.networks = Networks(self.config, pretrained.view_for(self.config, classifier, crop),
                                     classifier.architecture) if classifier else Networks(self.config)
            if data:
                self.training = TrainingGraph(self.networks, data, exchange=self.team.exchange())
                self.saver = tf1.train.Saver(self.training.saved_variables, max_to_keep=None)
                self.all_finite = self.training.all_finite
            if synthesis:
                self.synthesis = SynthesisGraph(self.networks, self.config.generate_dataset and self.config.scores)
            if fitting:
                self.fitting = FittingGraph(self.networks)
            if data and synthesis:
                self._build_grids()
            self.weights = self.networks.weights
            self.session = self.team.open_session(graph, session_options(self.config.use_gpu, self.config.xla))
            frozen = checkpoints.names_of(self.networks.classifier_variables)
            self.session.run([variable.initializer for variable in tf1.global_variables()
                              if variable.op.name not in frozen])
            graph.finalize()
        if self.networks.classifier_variables and classifier.values:
            self._load_classifier(classifier)

    def _build_grids(self):
        """Build what sample grids need besides `synthesis`. It reads variables, and makes none."""
        with checkpoints.averages_read():
            self.averaged_synthesis = SynthesisGraph(self.networks, scores=False)
            if self.data.pairs:
                self.averaged_fitting = FittingGraph(self.networks)
        if self.networks.game.reconstructs:
            self.reconstruction = ReconstructionGraph(self.networks, self.synthesis)

    @property
    def variables(self):
        """Collect everything that a step depends on, the classifier included -> {name: variable}."""
        saved = self.training.saved_variables if self.training else []
        return {variable.op.name: variable for variable in [*saved, *self.weights, *self.networks.classifier_variables]}

    def set_values(self, values):
        """Give variables the arrays of {name: array}."""
        known = self.variables
        checkpoints.set_values(self.session, {known[name]: value for name, value in values.items()})

    def close(self):
        """Close the session. Python may hang at its end if images of a training are still being decoded then."""
        if self.session:
            self.session.close()

    def _load_classifier(self, weights):
        """Give the identity classifier its pretrained.Weights."""
        variables = self.networks.classifier_variables
        values = pretrained.values_for(weights, variables, "--pretrained_rec")
        checkpoints.assign(self.session, variables + self._averages(variables), values, weights.source)

    def _averages(self, variables):
        """List the moving averages of those of `variables` that train."""
        names = {variable.op.name + checkpoints.AVERAGE for variable in variables}
        saved = self.training.saved_variables if self.training else []
        return [variable for variable in saved if variable.op.name in names]

    def load_weights(self, path):
        """Load averaged weights for synthesis, from the newest whole checkpoint at `path`. Returns its prefix."""
        weights, tuned = self.weights, self.networks.classifier_variables
        prefix, values = checkpoints.read_newest(path, checkpoints.names_to_read(weights + tuned))
        tuned = [variable for variable in tuned if variable.op.name in values]               # by --relax_c
        required = checkpoints.names_of(weights)
        checkpoints.assign(self.session, weights + tuned, values, prefix, required, averages=True)
        logging.info("%s: averaged weights loaded", prefix)
        return prefix

    def _resume(self, path):
        """Load everything the next step depends on, from the newest whole checkpoint at `path`; return that step."""
        variables = self.training.saved_variables
        prefix, values = checkpoints.read_newest(path, checkpoints.names_to_read(variables))
        checkpoints.assign(self.session, variables, values, prefix, required=checkpoints.names_of(self.weights))
        step = int(self.session.run(self.training.step))
        logging.info("%s: going on after step %d", prefix, step)
        return step

    def _warm_start(self, path):
        """Load the weights of --pretrained_gen, its k's and centroids, to start a new training from."""
        graph, names = self.training, checkpoints.names_of(self.weights)
        state = graph.k + ([] if graph.centroids is None else [graph.centroids])
        prefix, values = checkpoints.read_newest(path, names | checkpoints.names_of(state))
        checkpoints.assign(self.session, self.weights + self._averages(self.weights) + state, values, prefix, names)
        logging.info("%s: a new training starts from these weights", prefix)

    # Training

    def train(self, run, samples, weights=None):
        """Train to --max_step, from the newest checkpoint of a runs.Run, or else from the start.

        A training from the start takes the `weights` of another one, a run's folder or a checkpoint, if they are given.
        `samples` is the Sheet to draw now and then. Returns the run. Raises Interrupted after SIGINT or SIGTERM, when
        everything is saved, and Diverged.
        """
        config, step = self.config, 0
        self.samples = samples
        self.shown_pairs = load_spread(config, self.data.pairs) if self.averaged_fitting else None
        self.shown_photos = load_spread(config, [self.data.photos])[0] if self.reconstruction else None
        if run.checkpoints:
            step = self._resume(run.folder)
        elif weights:
            self._warm_start(weights)
        last_step = config.max_step // self.replicas.total
        if step >= last_step:
            logging.info("this training has done its %d steps; give a larger --max_step to go on", last_step)
            return run
        self.team.compare_weights(self.session, self.variables, step)
        self.restart(step)
        steps = run_steps if self.team.leads else follow_steps
        steps(self, run, Due(step, last_step, config.log_step, config.checkpoint_step,
                             config.log_step * config.save_step, config.profile, config.checkpoint_minutes,
                             0 if self.team.cluster else config.patience))
        return run

    def restart(self, step):
        """Read the images anew from step number `step` on, counted from 0."""
        self.session.run(self.training.iterator.initializer, {self.training.start_step: step})

    def count_readable(self):
        """Count which of some images of each set to train on can be read; 0 where a set has none."""
        return count_readable([self.data.photos, self.data.renderings, *(self.data.pairs or ())])

    def begin(self, run):
        """Draw the renderings of the sample sheet into the run's folder."""
        sheet = self.samples
        save_image(make_grid(sheet.images, sheet.columns), os.path.join(run.folder, "syn_fixed.png"))

    def run_step(self, step, fetches, feed=()):
        """Train step number `step` (from 0) with its scheduled rates, and fetch more; `feed` may replace the batch."""
        config, graph = self.config, self.training
        interval = config.lr_update_step // self.replicas.total
        schedule = dict(lower=config.lr_lower_boundary, update_step=interval, warm_up=config.warm_up,
                        factor=self.replicas.total)
        rates = {graph.g_lr: losses.learning_rate(step, config.g_lr, **schedule),
                 graph.d_lr: losses.learning_rate(step, config.d_lr, **schedule),
                 graph.lambda_c: losses.identity_weight(step, config.lambda_c, config.lambda_c_upper, interval)}
        return self.team.run_step(self.session, graph, {"train": graph.train_op, **fetches}, {**rates, **dict(feed)})

    def train_step(self, step, summarize):
        """Run step number `step`, from 0 -> StepResult."""
        graph = self.training
        fetches = {"losses": graph.losses, "k_t": graph.k_now[0]}
        if summarize:
            fetches["summary"] = graph.summary
        results = self.run_step(step, fetches)
        values = {name: float(value) for name, value in results["losses"].items()}
        numbers = {label: values[name] for label, name in LOGGED_LOSSES.items()}
        bar = {"D": values["d_loss"], "G": values["g_loss"]}
        return StepResult(values, {**numbers, "k_t": float(results["k_t"])}, bar, results.get("summary"))

    def look(self, run, step, events):
        """Draw the sample grids, and report the paired loss on the test pairs, if there are any."""
        start = os.path.join(run.folder, f"{step}_")
        self.generate(self.samples, start + "G.png", self.averaged_synthesis)
        self.generate(self.samples, start + "G_raw.png")
        self._draw_pairs(start + "pairs.png")
        self._draw_reconstructions(start + "reconstructions.png")
        if self.data.test_pairs:
            try:
                error = self._test_error(self.data.test_pairs)
            except BrokenImage as problem:          # that is no reason to end a training
                logging.warning("[%d] no paired loss on the test pairs: broken image: %s", step, problem)
                return
            events.add(tf1.Summary(value=[tf1.Summary.Value(tag="loss/paired_test", simple_value=error)]), step)
            logging.info("[%d] paired loss on %d test pairs: %.6f", step, len(self.data.test_pairs.photos.names), error)

    def _draw_pairs(self, path):
        """Draw some pairs, a row each: the photo, its rendering, and what G_inv's averages make of the photo."""
        if self.shown_pairs and len(self.shown_pairs[0]):
            (photos, renderings), graph = self.shown_pairs, self.averaged_fitting
            _save_columns([photos, renderings, *self._run_padded(graph.BATCH, {graph.photos: photos},
                                                                 [graph.renderings])], path)

    def _draw_reconstructions(self, path):
        """Draw what the discriminators see, and their reconstructions of it: the columns of a ReconstructionGraph."""
        graph, cells = self.reconstruction, first_of_rows(self.samples)
        rows = min(len(cells), len(self.shown_photos)) if graph else 0
        if rows:
            feed = {graph.photos: self.shown_photos[:rows],
                    graph.renderings: self.samples.images[[cell for cell, _ in cells[:rows]]],
                    graph.seeds: np.array([seed for _, seed in cells[:rows]])}
            # One after another: all at once, they would take the memory of a step and more.
            _save_columns([column for both in graph.columns for column in self._run_padded(graph.BATCH, feed, both)],
                          path)

    def _test_error(self, pairs):
        """Compute the mean error of G_inv's renderings of the photos of Pairs."""
        graph, errors = self.fitting, []
        for first in range(0, len(pairs.photos.names), graph.BATCH):
            photos, renderings = (load_images(self.config, images, images.names[first:first + graph.BATCH])
                                  for images in pairs)
            errors += self._run_padded(graph.BATCH, {graph.photos: photos, graph.annotations: renderings},
                                       [graph.error])[0].tolist()
        return float(np.mean(errors))

    # Synthesis

    def _run_padded(self, size, feed, fetches):
        """Run `fetches` on {placeholder: array of n <= `size` examples} -> a list of arrays [n, ...].

        The batch is filled up to `size` by repeating its last example.
        """
        count = len(next(iter(feed.values())))
        padded = {tensor: np.concatenate([array, np.repeat(array[-1:], size - count, 0)])
                  for tensor, array in feed.items()}
        return [value[:count] for value in self.session.run(fetches, padded)]

    def _synthesize(self, graph, renderings, seeds, fetches):
        """Run `fetches` of a SynthesisGraph on uint8 [n, S, S, 3] with a dropout seed each -> a list of [n, ...]."""
        return self._run_padded(graph.BATCH, {graph.renderings: renderings, graph.seeds: np.array(seeds)}, fetches)

    def generate(self, sheet, path, graph=None):
        """Write the photos of a Sheet of renderings as a grid to the image file `path`.

        They are made by a SynthesisGraph, by default that of the weights and not of their averages.
        """
        graph, photos = graph or self.synthesis, sheet.images.copy()
        for first in range(0, len(sheet.cells), graph.BATCH):
            cells = sheet.cells[first:first + graph.BATCH]
            index = [cell for cell, _ in cells]
            photos[index] = self._synthesize(graph, sheet.images[index], [seed for _, seed in cells],
                                             [graph.photos])[0]
        save_image(make_grid(photos, sheet.columns), path)

    def generate_dataset(self, product):
        """Write the photo of every one of a Product's Renderings under the same name in its folder, and store scores.

        Images that are already there are kept, unless their renderings have changed. Raises Interrupted after SIGINT or
        SIGTERM, with nothing half-written.
        """
        config, graph, renderings, folder = self.config, self.synthesis, product.images, product.folder
        store = ScoreStore(folder, classifier_mark(config), product.work)
        record, written = self._find_written(product)
        scored = store.scored(self.networks.has_classifier) if config.scores else written
        missing = [name for name in renderings.names if name not in written or name not in scored]
        if config.scores and not self.networks.has_classifier:
            logging.warning("no --pretrained_rec: the fourth score, c_score, of images that are made now will be nan")

        def convert(names, images):
            seeds = [image_seed(config.random_seed, name) for name in names]
            photos, *scores = self._synthesize(graph, images, seeds, [graph.photos] + graph.scores)
            for name, *row in zip(names, *scores) if scores else ():
                store.add(name, *row)
            return photos

        self._convert(ImageSet(renderings.root, missing), folder, convert, record, written, store)
        copy_labels(renderings, folder)
        logging.info("%s: %d images of %d identities; %d were there and were kept", folder, len(renderings.names),
                     len(renderings.identities), len(written))

    def fit_dataset(self, product):
        """Write G_inv's rendering of every photo of a Product's ImageSet under the same name in its folder.

        Images that are already there are kept, unless their photos have changed. Raises Interrupted after SIGINT or
        SIGTERM.
        """
        graph, photos, folder = self.fitting, product.images, product.folder
        record, written = self._find_written(product)
        missing = [name for name in photos.names if name not in written]
        self._convert(ImageSet(photos.root, missing), folder, lambda names, images: self._run_padded(
            graph.BATCH, {graph.photos: images}, [graph.renderings])[0], record)
        logging.info("%s: renderings of %d photos; %d were there and were kept", folder, len(photos.names),
                     len(written))

    def _find_written(self, product):
        """Find which images of a Product its folder has whole, made from the files that there are now.

        Returns the folder's SourceRecord and the set of their names.
        """
        record = product.record()
        there = existing_images(product.folder, product.images.names, alone=not product.work.in_shards)
        changed = record.changed(there)
        if changed:
            logging.info("%s: %d images are made again, since the files that they were made from have changed",
                         product.folder, len(changed))
        return record, there - changed

    def _convert(self, images, folder, convert, record, written=(), store=None):
        """Save `convert(names, images)` of every image of an ImageSet under the image's name in `folder`.

        Names in `written` are converted, for their scores in `store`, and not saved again. What the images were made
        from goes into `record`, a SourceRecord.
        """
        config = self.config
        batches = read_in_order(images, Reading(config.input_scale_size, SynthesisGraph.BATCH, config.num_worker,
                                                config.grayscale))
        with contextlib.ExitStack() as stack:
            stack.enter_context(record.of_run(images.names))
            stop = stack.enter_context(StopRequest())
            progress = stack.enter_context(progress_bar("image", len(images.names)))
            stack.enter_context(logging_redirect_tqdm())
            writer = stack.enter_context(ImageWriter(folder, config.num_worker))
            stack.enter_context(contextlib.closing(batches))
            for indices, batch in batches:
                names = [images.names[i] for i in indices]
                for name, image in zip(names, convert(names, batch)):
                    if name not in written:
                        writer.add(name, image)
                    record.add(name)
                progress.update(len(names))
                if record.full:
                    self._flush(writer, store, record)
                if stop.signal:
                    break
            self._flush(writer, store, record)
        if stop.signal:
            raise Interrupted(stop.signal, f"{progress.n} of {len(images.names)} images written to {folder}; "
                                           "run the same command again for the rest")

    def _flush(self, writer, store, record):
        """Bring images to disk, then their scores, if there is a `store`, then what the images were made from."""
        writer.flush()
        if store:
            store.flush()
        record.flush()

    def test(self, renderings, test_renderings, folder, prefix):
        """Draw --sample_per_image dropout samples with the weights of checkpoint `prefix` into `folder`.

        With `test_renderings`, an ImageSet, the sheets are test_0001.png, ...: a row for each rendering, with the
        rendering and its samples. Without them, the sheets are those of `sample_sheet` of the Renderings `renderings`:
        STEP_test.png, and STEP_test_2.png, ... for more samples.
        """
        config = self.config
        if test_renderings is None:
            for sample in range(config.sample_per_image):
                name = f"{runs.step_of(prefix)}_test{f'_{sample + 1}' if sample else ''}.png"
                self.generate(sample_sheet(config, renderings, sample), os.path.join(folder, name))
                logging.info("%s: drawn", os.path.join(folder, name))
            return
        columns = 1 + config.sample_per_image
        for number, first in enumerate(range(0, len(test_renderings.names), SHEET_ROWS), 1):
            names = test_renderings.names[first:first + SHEET_ROWS]
            images = np.repeat(load_images(config, test_renderings, names), columns, 0)
            cells = [(row * columns + column, image_seed(config.random_seed, name, column - 1))
                     for row, name in enumerate(names) for column in range(1, columns)]
            path = os.path.join(folder, f"test_{number:04d}.png")
            self.generate(Sheet(images, columns, cells), path)
            logging.info("%s: drawn", path)
