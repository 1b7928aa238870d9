"""What all trainings share: session options, TensorBoard's events, saving, images that are gone."""
import contextlib
import logging
import re

import tensorflow as tf
from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig

from engine import checkpoints
from utils import UserError

tf1 = tf.compat.v1


def check_optimized_once(groups, trainable, not_trained=()):
    """Raise ValueError unless each variable of `trainable` belongs to exactly one optimizer.

    `groups` is {optimizer: list of variables}. A variable of `not_trained` must belong to no optimizer.
    """
    owners = {}
    for optimizer, variables in groups.items():
        for variable in variables:
            owners.setdefault(variable.op.name, []).append(optimizer)
    kept = {variable.op.name for variable in not_trained}
    problems = [f"{name} belongs to {' and '.join(found)}" for name, found in owners.items() if len(found) > 1]
    problems += [f"{name} belongs to {owners[name][0]} and must not be trained"
                 for name in sorted(kept & owners.keys())]
    problems += [f"{variable.op.name} belongs to no optimizer" for variable in trainable
                 if variable.op.name not in owners and variable.op.name not in kept]
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise ValueError(f"every trainable variable needs exactly one optimizer, but {'; '.join(problems[:3])}{more}")


def save_checkpoint(session, saver, all_finite, run, step):
    """Save a checkpoint of `step` into the runs.Run `run`.

    `all_finite` is a scalar bool tensor, False where a weight is not finite: then Diverged is raised. Raises UserError
    when the checkpoint can't be written.
    """
    if not session.run(all_finite):
        raise run.diverged(step, "a weight is not finite")
    checkpoints.save(session, saver, run.folder, step, keep_every=run.options.keep_every)


class ImagesGone(UserError):
    """No image of a set can be read any more. The message tells the step, the folder, the file and why."""


class NoMemory(UserError):
    """A step needs more memory than there is. The message tells the step."""


@contextlib.contextmanager
def needs_met(step):
    """Raise ImagesGone or NoMemory where a graph that runs `step` in this context lacks images or memory."""
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        raise NoMemory(f"step {step}: not enough memory; take a smaller --batch_size") from error
    except tf.errors.OpError as error:
        found = re.search(r"NoImageLeft: (.+)", error.message)
        if not found:
            raise
        raise ImagesGone(f"step {step}: {found.group(1)}") from error


class Events:
    """TensorBoard's file of events of a run. A full disk ends the file, with one warning. Use as a context."""

    def __init__(self, run_dir, graph, step):
        """Open a file in `run_dir` for a tf.Graph and a training that starts, or goes on, at `step`."""
        self._run_dir, self._writer = run_dir, tf1.summary.FileWriter(run_dir)
        self._graph = graph         # still to be written, which needs a second: not before the first step
        self._writer.add_session_log(tf1.SessionLog(status=tf1.SessionLog.START), step)

    def add(self, summary, step):
        """Write the `summary`, a tf1.Summary or a serialised one, of `step`."""
        self._try(lambda: self._writer.add_summary(summary, step))
        self._add_graph()

    def _add_graph(self):
        if self._graph:
            self._try(lambda: self._writer.add_graph(self._graph))
            self._graph = None

    def _try(self, write):
        try:
            if self._writer:
                write()
        except checkpoints.FILE_ERRORS as error:
            logging.warning("%s: TensorBoard's events end here (%s)", self._run_dir, checkpoints.first_line(error))
            self._writer = None

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._add_graph()
        self._try(lambda: self._writer.close())


def session_options(use_gpu, xla=False):
    """Make the tf1.ConfigProto of a session.

    `use_gpu` False hides any GPU. With `xla`, XLA compiles what `startup.start` allows it to.
    """
    settings = tf1.ConfigProto(allow_soft_placement=True)
    settings.gpu_options.allow_growth = True
    # All passes, run twice as by default, cost seconds and gain nothing. "arithmetic" changes the order of sums.
    rewriting = settings.graph_options.rewrite_options
    rewriting.meta_optimizer_iterations = RewriterConfig.ONE
    rewriting.optimizers.extend(["pruning", "constfold", "layout", "remap"])
    if xla:
        settings.graph_options.optimizer_options.global_jit_level = tf1.OptimizerOptions.ON_1
    if not use_gpu:
        settings.device_count["GPU"] = 0
    return settings
