"""What every training shares: the session's options, TensorBoard's events, saving, what ends it early."""
import contextlib
import ctypes
import logging
import math
import sys

import tensorflow as tf
from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig

import utils
from engine import checkpoints, runs
from utils import Diverged

tf1 = tf.compat.v1
tf1.logging.set_verbosity(tf1.logging.ERROR)        # its deprecation notes tell our users nothing
tf.config.experimental.enable_op_determinism()      # a resumed run repeats the digits of an uninterrupted one


def check_losses(run_dir, step, losses):
    """Raise Diverged where one of `losses` {name: number} of `step` is not finite."""
    if not all(math.isfinite(value) for value in losses.values()):
        raise _diverged(run_dir, step, ", ".join(f"{name} {value:.4g}" for name, value in losses.items()))


def save_checkpoint(session, saver, run_dir, step, all_finite, keep_every):
    """`checkpoints.save`, unless `all_finite`, a tensor, says that a weight is not: that raises Diverged."""
    if not session.run(all_finite):
        raise _diverged(run_dir, step, "a weight is not finite")
    checkpoints.save(session, saver, run_dir, step, keep_every=keep_every)


def _diverged(run_dir, step, what):
    good = runs.list_checkpoints(run_dir)
    return Diverged(f"step {step}: {what}; last good checkpoint: {good[0] if good else 'none'}")


@contextlib.contextmanager
def images_needed(run_dir, step):
    """While in this context, a graph that finds no image of its set any more raises UserError with the way on."""
    try:
        yield
    except tf.errors.OpError as error:
        if "BrokenImage" not in error.message:
            raise
        raise utils.UserError(f"step {step}: {checkpoints.first_line(error)}; bring the images back and go on with "
                              f"--load_path {run_dir}") from error


class Events:
    """TensorBoard's file of a run that starts, or goes on, at `step`. A full disk cuts it short, with one warning."""

    def __init__(self, run_dir, graph, step):
        self.run_dir, self.writer = run_dir, tf1.summary.FileWriter(run_dir)
        self.graph = graph          # still to be written, which takes a second: not before the first step
        self.writer.add_session_log(tf1.SessionLog(status=tf1.SessionLog.START), step)

    def add(self, summary, step):
        self._try(lambda: self.writer.add_summary(summary, step))
        self._add_graph()

    def _add_graph(self):
        if self.graph:
            self._try(lambda: self.writer.add_graph(self.graph))
            self.graph = None

    def _try(self, write):
        try:
            if self.writer:
                write()
        except checkpoints.FILE_ERRORS as error:
            logging.warning("%s: TensorBoard's events end here (%s)", self.run_dir, checkpoints.first_line(error))
            self.writer = None

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._add_graph()
        self._try(lambda: self.writer.close())


def session_options(use_gpu, xla=False):
    """The tf1.ConfigProto of every session; `use_gpu` False hides any GPU, `xla` compiles what XLA is allowed to."""
    _keep_freed_memory()
    options = tf1.ConfigProto(allow_soft_placement=True)
    options.gpu_options.allow_growth = True
    # All passes, twice, cost seconds and gain nothing here; "arithmetic" adds up in another order than written.
    rewriting = options.graph_options.rewrite_options
    rewriting.meta_optimizer_iterations = RewriterConfig.ONE
    rewriting.optimizers.extend(["pruning", "constfold", "layout", "remap"])
    if xla:
        options.graph_options.optimizer_options.global_jit_level = tf1.OptimizerOptions.ON_1
    if not use_gpu:
        options.device_count["GPU"] = 0
    return options


def _keep_freed_memory():
    """Ask glibc to keep what is freed for the next step, instead of giving it back to the system page by page.

    Where TensorFlow computes without oneDNN, its default on CPUs without AVX-512 VNNI, that takes a sixth of a step.
    Elsewhere, and with other C libraries, it changes nothing. Blocks above 64 MiB still come and go: they leave holes.
    """
    if sys.platform != "linux":
        return
    set_option = getattr(ctypes.CDLL(None), "mallopt", lambda option, value: 0)
    trim_threshold, mmap_threshold, most_arenas = -1, -3, -8                # of malloc.h
    if set_option(mmap_threshold, 64 * 2 ** 20):                            # older ones can't; then the rest would harm
        set_option(trim_threshold, -1)                                      # never
        set_option(most_arenas, 1)
