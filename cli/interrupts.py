"""Answer SIGINT and SIGTERM from the first line of a program on, before its imports. Imports next to nothing itself."""
import atexit
import functools
import os
import signal
import sys


def leave_on_signals(name):
    """Let SIGINT and SIGTERM end the program `name` at once, with one line. All files appear whole or not at all.

    When its work is over, and Python only cleans up, they end it without a line.
    """
    _handle(functools.partial(leave, name))
    atexit.register(_handle, _leave_quietly)


def _handle(handler):
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)


def _leave_quietly(number, _frame):
    """End the program at once, but bring what it has printed to its reader first."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    finally:
        os._exit(128 + number)


def leave(name, number, _frame=None):
    """End the program `name` at once with the exit status of the signal `number`."""
    try:
        if sys.stderr is not None:
            os.write(2, f"{name}: interrupted\n".encode())
    finally:                            # also where nobody reads stderr any more
        os._exit(128 + number)
