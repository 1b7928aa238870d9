"""A trace of a few training steps, for TensorBoard's profiler."""
import contextlib
import logging

import tensorflow as tf

SKIPPED, TRACED = 3, 3          # steps: the first ones compile, and are not typical


class Trace:
    """Traces into `folder` the steps that follow the first few of this run; with "" for a folder, none.

    Use as a context, and run each step in that of `step(number)`: `<folder>/plugins/profile/*/*.xplane.pb` is written
    after the last traced step, or on leaving.
    """

    def __init__(self, folder):
        self.folder, self.steps, self.running = folder, 0, False

    def step(self, number):
        """The context to run step `number` in."""
        self.steps += 1
        if self.folder and self.steps == SKIPPED + 1:
            tf.profiler.experimental.start(self.folder)
            self.running = True
        if self.steps == SKIPPED + TRACED + 1:
            self._stop()
        if not self.running:
            return contextlib.nullcontext()
        return tf.profiler.experimental.Trace("train", step_num=number, _r=1)

    def _stop(self):
        if self.running:
            tf.profiler.experimental.stop()
            self.running = False

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._stop()
        if self.folder and self.steps <= SKIPPED:
            logging.warning("--profile %s: no trace, as the first %d steps are not traced", self.folder, SKIPPED)
