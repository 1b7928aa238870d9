"""Run the steps of a training in a worker that writes nothing: all but worker 0."""
import logging
import math

from engine.loop import status_line, StopWatch
from engine.session import needs_met
from utils import Diverged, Interrupted


def follow_steps(training, run, due):
    """Run the steps of a training that are left by a `loop.Due`, together with worker 0, and write nothing.

    `training` has the attributes that `loop.run_steps` takes, and `run` is a runs.Run, which is not entered. Raises
    what `run_steps` raises, but waits for no images: worker 0 would wait too.
    """
    training.team.keep_in(run.folder)
    watch = StopWatch(due.first)
    with training.team.stop_request() as stop:
        for step in range(due.first + 1, due.last + 1):
            with needs_met(step):
                result = training.train_step(step - 1, summarize=False)
            if not all(map(math.isfinite, result.losses.values())):
                raise Diverged(f"step {step}: a loss is not finite; worker 0 tells which one, and what is saved")
            if due.log(step):
                numbers = {"seconds_per_step": watch.lap(step), **result.numbers}
                logging.info("%s", status_line(step, due.last, numbers))
            if stop.signal:
                way = f"; go on with --load_path {run.folder}" if run.folder else ""
                raise Interrupted(stop.signal, f"worker 0 saves step {step}, and tells how to go on{way}")
    logging.info("done: %d steps, %d of them now; worker 0 has the run", due.last, due.last - due.first)
