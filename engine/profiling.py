"""A trace of a few training steps, for TensorBoard's profiler."""
import contextlib
import logging

import tensorflow as tf

SKIPPED, TRACED = 3, 3          # steps; the first ones also compile, so they are not typical


class Trace:
    """A trace of the steps that follow the first few, in `<folder>/plugins/profile/*/*.xplane.pb`.

    Use as a context, and run each step in the context of `step(number)`. The files are written after the last traced
    step, or on leaving. Without a folder there is no trace.
    """

    def __init__(self, folder):
        """Prepare a trace into `folder`, "" for none."""
        self._folder, self._steps, self._running = folder, 0, False

    def step(self, number):
        """Make the context in which to run the step `number`."""
        self._steps += 1
        if self._folder and self._steps == SKIPPED + 1:
            tf.profiler.experimental.start(self._folder)
            self._running = True
        if self._steps == SKIPPED + TRACED + 1:
            self._stop()
        if not self._running:
            return contextlib.nullcontext()
        return tf.profiler.experimental.Trace("train", step_num=number, _r=1)

    def _stop(self):
        if self._running:
            tf.profiler.experimental.stop()
            self._running = False

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._stop()
        if self._folder and self._steps <= SKIPPED:
            logging.warning("--profile %s: no trace, as the first %d steps are not traced", self._folder, SKIPPED)
