"""Run the steps of a training, do what is due after each, and end in good order when interrupted."""
import contextlib
import logging
import time
from typing import NamedTuple

from tqdm.contrib.logging import logging_redirect_tqdm

from engine.profiling import Trace
from engine.session import Events, images_needed, save_checkpoint
from utils import Interrupted, progress_bar, StopRequest


class Due(NamedTuple):
    """When something is due. Steps count from 1; at the last one, everything is due but a log line."""
    first: int                      # steps that an earlier part of the training did
    last: int                       # the last step
    log_step: int                   # steps between two log lines
    checkpoint_step: int            # steps between two checkpoints
    look_step: int                  # steps between two looks at how good the networks are
    profile: str = ""               # folder for a trace of a few steps

    def log(self, step):
        """Tell whether a log line is due after `step`."""
        return step % self.log_step == 0

    def checkpoint(self, step):
        """Tell whether a checkpoint is due after `step`."""
        return step % self.checkpoint_step == 0 or step == self.last

    def look(self, step):
        """Tell whether a look at the networks is due after `step`."""
        return step % self.look_step == 0 or step == self.last


class StepResult(NamedTuple):
    """What a step gives: dicts {name: number}, and a summary for TensorBoard."""
    losses: dict                    # all of these have to be finite
    numbers: dict                   # for the log line and stats.jsonl
    bar: dict                       # for the progress bar
    summary: object                 # serialised; None where none was asked for


def run_steps(training, run, due):
    """Run the steps of a training that are left by a Due, and write to an engine.runs.Run.

    `training` has these attributes:
    - `session`, `saver` and the tensor `all_finite`, with which checkpoints are saved;
    - `begin(run)`, called once, when the run has a folder;
    - `train_step(step, summarize)`, which runs a step, counted from 0, and returns a StepResult;
    - `look(run, step, events)`, called when a look at the networks is due.

    Raises Interrupted after SIGINT or SIGTERM, when a checkpoint is saved. Raises Diverged. Raises UserError where the
    disk is full or images are gone.
    """
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(StopRequest())
        stack.enter_context(run)
        training.begin(run)
        events = stack.enter_context(Events(run.folder, training.session.graph, due.first))
        progress = stack.enter_context(progress_bar("step", due.last, due.first))
        trace = stack.enter_context(Trace(due.profile))
        stack.enter_context(logging_redirect_tqdm())
        watch = StopWatch(due.first)
        for step in range(due.first + 1, due.last + 1):
            with trace.step(step - 1), images_needed(run, step):
                result = training.train_step(step - 1, summarize=due.log(step))
            run.check_losses(step, result.losses)
            progress.update()
            progress.set_postfix({name: f"{value:.4f}" for name, value in result.bar.items()}, refresh=False)
            if due.log(step):
                events.add(result.summary, step)
                numbers = {"seconds_per_step": watch.lap(step), **result.numbers}
                run.note(step, numbers)
                logging.info("%s", status_line(step, due.last, numbers))
            stopping = stop.signal
            with watch.paused():
                if due.checkpoint(step) or stopping:
                    save_checkpoint(training.session, training.saver, training.all_finite, run, step)
                if due.look(step) and not stopping:
                    training.look(run, step, events)
            if stopping or (stop.signal and step == due.last):      # no later step would see a signal of the last look
                raise Interrupted(stop.signal, f"saved at step {step}; go on with --load_path {run.folder}")


def status_line(step, last, numbers):
    """Write the `numbers` {name: number} of a step as a line, aligned with the others of a training.

    `numbers` has seconds_per_step, and `last` is the training's last step.
    """
    count = f"[{step}/{last}]".ljust(2 * len(str(last)) + 3)
    seconds = numbers["seconds_per_step"]
    shown = "  ".join(f"{name}: {value:<10.4g}" for name, value in numbers.items() if name != "seconds_per_step")
    return f"{count} {seconds:6.3f} s/step  {shown}".rstrip()


class StopWatch:
    """A watch for the seconds that a training step needs."""

    def __init__(self, step):
        """Start when the steps up to `step` are done."""
        self._step, self._start = step, time.monotonic()

    def lap(self, step):
        """Compute the mean seconds of a step since the last call, when the steps up to `step` are done."""
        now = time.monotonic()
        seconds = (now - self._start) / max(step - self._step, 1)
        self._step, self._start = step, now
        return seconds

    @contextlib.contextmanager
    def paused(self):
        """Leave the time of this context out of the seconds of a step."""
        start = time.monotonic()
        yield
        self._start += time.monotonic() - start
