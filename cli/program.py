"""How a command runs: one line for what goes wrong, signals, exit status."""
import os
import signal
import sys

import utils
from utils import Diverged, Interrupted, SIGNALS


def run(program, work, options):
    """`work(options)` with one line on stderr for what goes wrong; SIGINT and SIGTERM raise Interrupted in it.

    Returns the exit status: 0, 1 diverged, 2 bad input or no room on the disk, 128 + signal when interrupted.
    """
    utils.set_up_logging("INFO")
    for number in SIGNALS:
        signal.signal(number, interrupt)
    return in_one_line(program, work, options) or 0


def in_one_line(program, work, options):
    """What `work(options)` returns, or the exit status of `run` after one line on stderr about what ended it."""
    try:
        return work(options)
    except utils.UserError as error:
        print(f"{program}: error: {error}", file=sys.stderr)
    except OSError as error:
        where = error.filename or getattr(options, "output", "writing")
        print(f"{program}: error: {where}: {error.strerror}", file=sys.stderr)
    except Interrupted as stop:
        print(f"{program}: interrupted; {stop}", file=sys.stderr)
        return 128 + stop.signal
    except Diverged as stop:
        print(f"{program}: the training diverged; {stop}", file=sys.stderr)
        return 1
    return 2


def interrupt(number, frame):
    raise Interrupted(number)


def leave_on_signals(program):
    """End at once on SIGINT and SIGTERM while there is nothing to save: an exception could get lost in a callback."""
    def leave(number, frame):
        print(f"{program}: interrupted", file=sys.stderr)
        os._exit(128 + number)

    for number in SIGNALS:
        signal.signal(number, leave)
