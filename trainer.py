"""The session and the loop: train, resume, synthesize a data set, fit renderings, test."""
import contextlib
import logging
import os
import zlib
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tqdm.contrib.logging import logging_redirect_tqdm

import data_loader
import losses
from datasets.image_sets import ImageSet
from datasets.images import load_image, make_grid, save_image
from datasets.scores import ScoreStore, write_scores
from datasets.writer import copy_labels, existing_images, ImageWriter
from engine import checkpoints, profiling, runs
from engine.session import check_losses, Events, images_needed, save_checkpoint, session_options
from graph import FittingGraph, Networks, SynthesisGraph, TrainingGraph
from recognition import pretrained
from utils import Interrupted, progress_bar, StopRequest

tf1 = tf.compat.v1

SHEET_ROWS = 32                 # renderings on one sheet of samples
PROGRESS_LOSSES = {"D": "d_loss", "G": "g_loss"}


def image_seed(random_seed, name, sample=0):
    """Dropout seed [2] of one image: of the run, and of the image's name, whatever the batch or the order."""
    return [random_seed, zlib.crc32(f"{name}#{sample}".encode()) >> 1]


class Sheet(NamedTuple):
    """A sheet of renderings to be drawn: uint8 [rows * columns, S, S, 3], black where a row has too few.

    `cells` lists (index into `images`, dropout seed) of the cells that are there.
    """
    images: np.ndarray
    columns: int
    cells: list


def sample_sheet(config, renderings, sample=0):
    """The Sheet of the first `num_log_id` identities, a row each, with their first `num_log_samples` renderings.

    `sample` numbers the dropout samples of a rendering.
    """
    c = config
    rows = min(c.num_log_id, len(renderings.identities))
    images = np.zeros([rows * c.num_log_samples, c.input_scale_size, c.input_scale_size, 3], np.uint8)
    cells = []
    for row in range(rows):
        for column, i in enumerate(np.flatnonzero(renderings.labels == row)[:c.num_log_samples]):
            name = renderings.names[i]
            cell = row * c.num_log_samples + column
            images[cell] = load_image(os.path.join(renderings.root, name), c.input_scale_size, c.grayscale)
            cells.append((cell, image_seed(c.random_seed, name, sample)))
    return Sheet(images, c.num_log_samples, cells)


class Trainer:
    """One graph, and a session to run it in.

    `config` holds the resolved options (`config.get_config`). Call `build_model` for what is to be done, then `train`,
    `generate_dataset`, `fit_dataset` or `test`.
    """

    def __init__(self, config):
        self.config, self.run_dir = config, None
        self.training = self.synthesis = self.fitting = self.session = None

    # Building

    def build_model(self, training_data=None, synthesis=False, fitting=False):
        """Build the graph and open the session, all weights at their initial values.

        The classifier's weights come from `--pretrained_rec`. `training_data` is (photos, renderings, pairs) as
        `find_photos`, `find_renderings` and `find_pairs` give them: with it, the training step is built.
        """
        with tf.Graph().as_default() as graph:
            tf1.set_random_seed(self.config.random_seed)
            self.networks = Networks(self.config, pretrained.standardization(self.config))
            if training_data:
                self.training = TrainingGraph(self.networks, *training_data)
                self.saver = tf1.train.Saver(self.training.saved_variables, max_to_keep=None)
            if synthesis:
                self.synthesis = SynthesisGraph(self.networks, self.config.generate_dataset and self.config.scores)
            if fitting:
                self.fitting = FittingGraph(self.networks)
            self.weights = self.networks.weights
            self.session = tf1.Session(graph=graph, config=session_options(self.config.use_gpu, self.config.xla))
            classifier = {v.op.name for v in self.networks.classifier_variables}
            self.session.run([v.initializer for v in tf1.global_variables() if v.op.name not in classifier])
            graph.finalize()
        if self.networks.classifier_variables:
            self._load_classifier()

    def close(self):
        """Close the session. Python may hang at its end if images are still being decoded then."""
        if self.session:
            self.session.close()

    def _load_classifier(self):
        """Weights of the identity classifier, from `--pretrained_rec`."""
        variables = self.networks.classifier_variables
        values = pretrained.read(self.config.pretrained_rec, variables, "--pretrained_rec", self.config.facenet_scope)
        checkpoints.assign(self.session, variables + self._averages(variables), values, self.config.pretrained_rec)

    def _averages(self, variables):
        """The moving averages of those of `variables` that train."""
        names = {v.op.name + checkpoints.AVERAGE for v in variables}
        return [v for v in self.training.saved_variables if v.op.name in names] if self.training else []

    def load_weights(self, path):
        """Averaged weights for synthesis, from the newest whole checkpoint at `path`. Returns its prefix."""
        weights, tuned = self.weights, self.networks.classifier_variables
        prefix, values = checkpoints.read_newest(path, checkpoints.names_to_read(weights + tuned))
        tuned = [v for v in tuned if v.op.name in values]               # by --relax_c
        required = {v.op.name for v in weights}
        checkpoints.assign(self.session, weights + tuned, values, prefix, required, averages=True)
        logging.info("%s: averaged weights loaded", prefix)
        return prefix

    def _resume(self, path):
        """Load everything the next step depends on, from the newest whole checkpoint at `path`; return that step."""
        variables = self.training.saved_variables
        prefix, values = checkpoints.read_newest(path, checkpoints.names_to_read(variables))
        checkpoints.assign(self.session, variables, values, prefix, required={v.op.name for v in self.weights})
        step = int(self.session.run(self.training.step))
        logging.info("%s: going on after step %d", prefix, step)
        return step

    def _warm_start(self, path):
        """Load the weights of `--pretrained_gen`, its k's and centroids to start a new training from."""
        graph, names = self.training, {v.op.name for v in self.weights}
        state = graph.k + ([] if graph.centroids is None else [graph.centroids])
        prefix, values = checkpoints.read_newest(path, names | {v.op.name for v in state})
        checkpoints.assign(self.session, self.weights + self._averages(self.weights) + state, values, prefix, names)
        logging.info("%s: a new training starts from these weights", prefix)

    # Training

    def train(self, samples, test_pairs, resume_from, open_run):
        """Train to `max_step`, from the newest checkpoint in `resume_from` (a run directory), or else from the start.

        `samples` is the Sheet to draw now and then, `test_pairs` are the Pairs to report on, or None. When the first
        step is to be run, `open_run()` gives the run directory; `run_dir` holds it then.
        Raises Interrupted after SIGINT or SIGTERM, when everything is saved, and Diverged.
        """
        c, graph = self.config, self.training
        step, self.run_dir = 0, resume_from
        if resume_from and runs.list_checkpoints(resume_from):
            step = self._resume(resume_from)
        elif c.pretrained_gen:
            self._warm_start(c.pretrained_gen)
        last_step = c.max_step // c.num_gpu
        if step >= last_step:
            logging.info("this training has done its %d steps; give a larger --max_step to go on", last_step)
            return
        self.session.run(graph.iterator.initializer, {graph.start_step: step})
        with contextlib.ExitStack() as stack:
            stop = stack.enter_context(StopRequest())
            self.run_dir = open_run()
            save_image(make_grid(samples.images, samples.columns), os.path.join(self.run_dir, "syn_fixed.png"))
            events = stack.enter_context(Events(self.run_dir, self.session.graph, step))
            progress = stack.enter_context(progress_bar("step", last_step, step))
            trace = stack.enter_context(profiling.Trace(c.profile))
            stack.enter_context(logging_redirect_tqdm())
            while step < last_step:
                with trace.step(step):
                    step = self._train_step(step, events, progress)
                stopping = stop.signal
                if step % c.checkpoint_step == 0 or step == last_step or stopping:
                    self._save(step)
                if stopping:
                    raise Interrupted(stop.signal, f"saved at step {step}; go on with --load_path {self.run_dir}")
                if step % (c.log_step * c.save_step) == 0 or step == last_step:
                    self.generate(samples, os.path.join(self.run_dir, f"{step}_G.png"))
                    self._report_test_pairs(test_pairs, step, events)

    def run_step(self, step, fetches, feed=()):
        """Train step number `step` (from 0) with its scheduled rates, and fetch more; `feed` may replace the batch."""
        c, graph = self.config, self.training
        interval = c.lr_update_step // c.num_gpu
        schedule = dict(lower=c.lr_lower_boundary, update_step=interval, warm_up=c.warm_up, factor=c.num_gpu)
        rates = {graph.g_lr: losses.learning_rate(step, c.g_lr, **schedule),
                 graph.d_lr: losses.learning_rate(step, c.d_lr, **schedule),
                 graph.lambda_c: losses.identity_weight(step, c.lambda_c, c.lambda_c_upper, interval)}
        return self.session.run({"train": graph.train_op, **fetches}, {**rates, **dict(feed)})

    def _train_step(self, step, events, progress):
        """Run step number `step`, log what is due, and return the number of steps done."""
        c, graph = self.config, self.training
        done = step + 1
        fetches = {"losses": graph.losses, "k_t": graph.k_now[0]}
        if done % c.log_step == 0:
            fetches["summary"] = graph.summary
        with images_needed(self.run_dir, done):
            results = self.run_step(step, fetches)
        values = results["losses"]
        check_losses(self.run_dir, done, values)
        progress.update()
        progress.set_postfix({name: f"{values[loss]:.4f}" for name, loss in PROGRESS_LOSSES.items()}, refresh=False)
        if "summary" in results:
            events.add(results["summary"], done)
            logging.info("[%d/%d] Loss_D: %.6f Loss_G: %.6f , k_t: %.4f", done, progress.total,
                         values["d_loss"], values["g_loss"], results["k_t"])
        return done

    def _save(self, step):
        save_checkpoint(self.session, self.saver, self.run_dir, step, self.training.all_finite, self.config.keep_every)

    def _report_test_pairs(self, pairs, step, events):
        """Log the paired loss on `pairs`, if there are any."""
        if not pairs:
            return
        graph, errors = self.fitting, []
        for first in range(0, len(pairs.photos.names), graph.BATCH):
            photos, renderings = (self._load_images(part, part.names[first:first + graph.BATCH]) for part in pairs)
            errors += self._run_padded(graph.BATCH, {graph.photos: photos, graph.annotations: renderings},
                                       [graph.error])[0].tolist()
        error = float(np.mean(errors))
        events.add(tf1.Summary(value=[tf1.Summary.Value(tag="loss/paired_test", simple_value=error)]), step)
        logging.info("[%d] paired loss on %d test pairs: %.6f", step, len(errors), error)

    def _load_images(self, image_set, names):
        c = self.config
        return np.stack([load_image(os.path.join(image_set.root, name), c.input_scale_size, c.grayscale)
                         for name in names])

    # Synthesis

    def _run_padded(self, size, feed, fetches):
        """Run `fetches` on arrays of n <= `size` examples, filled up by repeating the last; [n, ...] of each."""
        count = len(next(iter(feed.values())))
        padded = {tensor: np.concatenate([array, np.repeat(array[-1:], size - count, 0)])
                  for tensor, array in feed.items()}
        return [value[:count] for value in self.session.run(fetches, padded)]

    def _synthesize(self, renderings, seeds, fetches):
        graph = self.synthesis
        return self._run_padded(graph.BATCH, {graph.renderings: renderings, graph.seeds: np.array(seeds)}, fetches)

    def generate(self, sheet, path):
        """Draw the photos of a `Sheet` of renderings as a grid at `path`."""
        photos = sheet.images.copy()
        for first in range(0, len(sheet.cells), self.synthesis.BATCH):
            cells = sheet.cells[first:first + self.synthesis.BATCH]
            index = [cell for cell, _ in cells]
            photos[index] = self._synthesize(sheet.images[index], [seed for _, seed in cells],
                                             [self.synthesis.photos])[0]
        save_image(make_grid(photos, sheet.columns), path)

    def generate_dataset(self, renderings, folder):
        """Write the photo of every rendering under the same name in `folder`, and `confidence_scores.csv`.

        What is already there is kept. Raises Interrupted after SIGINT or SIGTERM, with nothing half-written.
        """
        c, graph = self.config, self.synthesis
        store = ScoreStore(folder)
        written = existing_images(folder, renderings.names)
        scored = store.scored(self.networks.has_classifier) if c.scores else written
        missing = [name for name in renderings.names if name not in written or name not in scored]
        if c.scores and not self.networks.has_classifier:
            logging.warning("no --pretrained_rec: the fourth score, c_score, will be nan")

        def convert(names, images):
            seeds = [image_seed(c.random_seed, name) for name in names]
            photos, *scores = self._synthesize(images, seeds, [graph.photos] + graph.scores)
            for name, *row in zip(names, *scores) if scores else ():
                store.add(name, *row)
            return photos

        self._convert(ImageSet(renderings.root, missing), folder, convert, written, store)
        copy_labels(renderings, folder)
        if c.scores:
            write_scores(folder, renderings.names, renderings.labels, store)
        logging.info("%s: %d images of %d identities; %d were there and were kept", folder, len(renderings.names),
                     len(renderings.identities), len(written))

    def fit_dataset(self, photos, folder):
        """Write G_inv's rendering of every photo under the same name in `folder`; what is already there is kept."""
        graph = self.fitting
        written = existing_images(folder, photos.names)
        missing = [name for name in photos.names if name not in written]
        self._convert(ImageSet(photos.root, missing), folder,
                      lambda names, images: self._run_padded(graph.BATCH, {graph.photos: images}, [graph.renderings])[0])
        logging.info("%s: renderings of %d photos", folder, len(photos.names))

    def _convert(self, images, folder, convert, written=(), store=None):
        """Save `convert(names, images)` of every image under its name in `folder`, unless its name is in `written`."""
        c = self.config
        batches = data_loader.read_in_order(images, c.input_scale_size, SynthesisGraph.BATCH, c.num_worker, c.grayscale)
        with contextlib.ExitStack() as stack:
            stop = stack.enter_context(StopRequest())
            progress = stack.enter_context(progress_bar("image", len(images.names)))
            stack.enter_context(logging_redirect_tqdm())
            writer = stack.enter_context(ImageWriter(folder, c.num_worker))
            stack.enter_context(contextlib.closing(batches))
            for indices, batch in batches:
                names = [images.names[i] for i in indices]
                for name, image in zip(names, convert(names, batch)):
                    if name not in written:
                        writer.add(name, image)
                progress.update(len(names))
                if store and store.full:
                    writer.flush()
                    store.flush()
                if stop.signal:
                    break
            writer.flush()
            if store:
                store.flush()
        if stop.signal and progress.n < len(images.names):
            raise Interrupted(stop.signal, f"{progress.n} of {len(images.names)} images written to {folder}; "
                                           "run the same command again for the rest")

    def test(self, renderings, test_renderings, folder, prefix):
        """Draw `sample_per_image` dropout samples with the weights of checkpoint `prefix` into `folder`.

        `test_renderings` (an ImageSet) gives `test_0001.png`, ..., a row each: the rendering, and its samples. Without
        them, the sample sheet of `renderings` gives `<step>_test.png`, and `<step>_test_2.png`, ... for more samples.
        """
        c = self.config
        if test_renderings is None:
            for sample in range(c.sample_per_image):
                name = f"{runs.step_of(prefix)}_test{f'_{sample + 1}' if sample else ''}.png"
                self.generate(sample_sheet(c, renderings, sample), os.path.join(folder, name))
                logging.info("%s: drawn", os.path.join(folder, name))
            return
        columns = 1 + c.sample_per_image
        for number, first in enumerate(range(0, len(test_renderings.names), SHEET_ROWS), 1):
            names = test_renderings.names[first:first + SHEET_ROWS]
            images = np.repeat(self._load_images(test_renderings, names), columns, 0)
            cells = [(row * columns + column, image_seed(c.random_seed, name, column - 1))
                     for row, name in enumerate(names) for column in range(1, columns)]
            path = os.path.join(folder, f"test_{number:04d}.png")
            self.generate(Sheet(images, columns, cells), path)
            logging.info("%s: drawn", path)
