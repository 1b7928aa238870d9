"""Run the steps of a training, do what is due after each, and end in good order when interrupted."""
import contextlib
import logging
import time
from typing import NamedTuple

from tqdm.contrib.logging import logging_redirect_tqdm

from engine.profiling import Trace
from engine.session import Events, ImagesGone, needs_met, NoMemory, save_checkpoint
from utils import Interrupted, progress_bar, reason_of, UserError


class Due(NamedTuple):
    """When something is due. Steps count from 1; at the last one, everything is due but a log line."""
    first: int                      # steps that an earlier part of the training did
    last: int                       # the last step
    log_step: int                   # steps between two log lines
    checkpoint_step: int            # steps between two checkpoints
    look_step: int                  # steps between two looks at how good the networks are
    profile: str = ""               # folder for a trace of a few steps
    checkpoint_minutes: float = 0   # minutes after which a checkpoint is due in any case; 0: never
    patience: float = 0             # seconds to wait for images that can't be read

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
    - `team`, a cluster.team.Team or ALONE, whose `stop_request` tells when to stop;
    - `begin(run)`, called once, when the run has a folder;
    - `train_step(step, summarize)`, which runs a step, counted from 0, and returns a StepResult;
    - `look(run, step, events)`, called when a look at the networks is due;
    - `restart(step)`, called before `train_step(step)` when images could not be read;
    - `count_readable()`, which tells how many of some images can be read, 0 where none of a set can.

    Logs a summary in the end. Raises Interrupted after SIGINT or SIGTERM, when a checkpoint is saved. Raises Diverged.
    Raises UserError where the last checkpoint can't be saved, or images stay away.
    """
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(training.team.stop_request())
        stack.enter_context(run)
        training.team.keep_in(run.folder)
        _try_to_draw(run.folder, training.begin, run)
        events = stack.enter_context(Events(run.folder, training.session.graph, due.first))
        progress = stack.enter_context(progress_bar("step", due.last, due.first))
        trace = stack.enter_context(Trace(due.profile))
        stack.enter_context(logging_redirect_tqdm())
        watch, start = StopWatch(due.first), time.monotonic()
        keeper = Keeper(training, run, due, stop)
        for step in range(due.first + 1, due.last + 1):
            with trace.step(step - 1):
                result = _train(training, step, due, keeper, watch)
            run.check_losses(step, result.losses)
            progress.update()
            progress.set_postfix({name: f"{value:.4f}" for name, value in result.bar.items()}, refresh=False)
            if due.log(step):
                events.add(result.summary, step)
                numbers = {"seconds_per_step": watch.lap(step), **result.numbers}
                run.note(step, numbers)
                logging.info("%s", status_line(step, due.last, numbers))
            with watch.paused():
                if keeper.is_due(step) or stop.signal:
                    keeper.save(step, needed=stop.signal or step == due.last)
                if due.look(step) and not stop.signal:
                    stop.cut_short(_try_to_draw, f"step {step}", training.look, run, step, events)
                if stop.signal:                     # perhaps only since the look
                    keeper.stop(step)
    _tell_end(due, result, time.monotonic() - start)
    logging.info("the run: %s", run.folder)


def _train(training, step, due, keeper, watch):
    """Run a step -> StepResult. Where images can't be read, save, wait for them, and run the step then.

    A step without its images has changed nothing, and `restart` gives it the same ones as if nothing had happened.
    """
    begun = None
    while True:
        try:
            with needs_met(step):
                result = training.train_step(step - 1, summarize=due.log(step))
            if begun is not None:
                logging.info("step %d: the images are back after %.0f s", step, time.monotonic() - begun)
            return result
        except NoMemory as problem:
            raise NoMemory(f"{problem}; {keeper.save(step - 1)}") from problem
        except ImagesGone as problem:
            with watch.paused():
                if begun is None:
                    begun, saved = time.monotonic(), keeper.save(step - 1)
                    if due.patience:
                        logging.warning("%s; %s; waiting up to %g s for them", problem, saved, due.patience)
                keeper.wait_for_images(problem, step - 1, begun + due.patience)
                training.restart(step - 1)


def _try_to_draw(where, draw, *arguments):
    """Call `draw`, which a training can do without: a full disk or a lost image becomes a warning."""
    try:
        draw(*arguments)
    except (UserError, OSError) as problem:
        logging.warning("%s: nothing is drawn (%s); the training goes on", where, reason_of(problem))


def _tell_end(due, result, seconds):
    """Log how many steps were trained in how many seconds, and the numbers of the last one, a StepResult."""
    size, unit = next((size, unit) for size, unit in ((3600, "hours"), (60, "minutes"), (1, "seconds"))
                      if seconds >= 2 * size or size == 1)
    numbers = ", ".join(f"{name} {value:.4g}" for name, value in result.numbers.items())
    logging.info("done: %d steps, %d of them now, in %.3g %s; the last one: %s", due.last, due.last - due.first,
                 seconds / size, unit, numbers)


class Keeper:
    """Saves the checkpoints of a training: when they are due, when images are gone, and before it stops."""

    POLL = .2               # seconds between two looks whether a signal came
    AGAIN = 1               # seconds between two looks whether images are back

    def __init__(self, training, run, due, stop):
        """Take what `run_steps` is given, and its StopRequest."""
        self._training, self._run, self._due, self._stop = training, run, due, stop
        self._saved, self._tried = due.first, time.monotonic()

    def is_due(self, step):
        """Tell whether a checkpoint is due after `step`: by its number, or by the minutes since the last one."""
        minutes = self._due.checkpoint_minutes
        return self._due.checkpoint(step) or bool(minutes and time.monotonic() - self._tried >= 60 * minutes)

    def save(self, step, needed=False):
        """Save a checkpoint of `step`, unless there is one -> a few words that tell which step is saved.

        Where it can't be written, a warning says so, or UserError is raised if it is `needed`.
        """
        if step > self._saved:
            self._tried = time.monotonic()
            try:
                training = self._training
                save_checkpoint(training.session, training.saver, training.all_finite, self._run, step)
                self._saved = step
            except (UserError, OSError) as problem:
                if needed:
                    raise UserError(f"{problem}; {self._words()}; make room and go on with --load_path "
                                    f"{self._run.folder}") from problem
                logging.warning("%s; the training goes on, and tries again later", problem)
        return self._words()

    def _words(self):
        """Tell which step is saved."""
        return f"saved at step {self._saved}" if self._saved else "no step is saved yet"

    def stop(self, step):
        """Save `step`, the last one that is done, and raise Interrupted."""
        raise Interrupted(self._stop.signal,
                          f"{self.save(step, needed=True)}; go on with --load_path {self._run.folder}")

    def wait_for_images(self, problem, done, deadline):
        """Wait until as many images can be read as a second before: they may be just being copied.

        `done` is the last step that is done. Raises Interrupted after a signal. Raises UserError, with the ImagesGone
        `problem`, at the `deadline`, a time of the monotonic clock.
        """
        before = 0
        while True:
            count = self._training.count_readable()
            if count and count == before:
                return
            before = count
            if time.monotonic() >= deadline:
                raise UserError(f"{problem}; {self.save(done, needed=True)}; bring the images back and go on with "
                                f"--load_path {self._run.folder}") from problem
            until = time.monotonic() + self.AGAIN
            while time.monotonic() < until:
                if self._stop.signal:
                    self.stop(done)
                time.sleep(self.POLL)


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
