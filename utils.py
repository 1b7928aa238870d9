"""What every module may need: how a program ends, logging, git, files that appear whole, progress. No TensorFlow."""
import contextlib
import glob
import json
import logging
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time

from tqdm import tqdm

SIGNALS = signal.SIGINT, signal.SIGTERM
PROJECT = os.path.dirname(os.path.abspath(__file__))
TEMPORARY = ".tmp-"             # begins the names of files that are not yet whole
RESTORE = "restore it from a copy, or move it away to go without"       # what to do about a damaged file


# How a program ends

class UserError(Exception):
    """Bad input, or a full disk. The message is one line: where, what, what to do.

    `cli.program` prints the message and ends the program with status 2.
    """


class Interrupted(Exception):
    """An end in good order after a signal, whose number is `signal`. The message tells how to go on."""

    def __init__(self, number, message="run the same command again for the rest"):
        """Take the `number` of the signal, that of SIGINT or SIGTERM, and the message."""
        super().__init__(message)
        self.signal = number


class Diverged(Exception):
    """The end of a training whose losses or weights are no longer finite.

    The message is one line: the step, the losses, and the last good checkpoint.
    """


class SignalWatch:
    """A context in which each SIGINT and SIGTERM is given to the function `answer`, in a thread of its own.

    So a signal is answered while the main thread is in a long call of TensorFlow, which Python's own handlers wait for.
    Contexts may lie in each other: the innermost one answers.
    """

    def __init__(self, answer):
        """Take the function, which is called with the number of the signal."""
        self._answer = answer

    def __enter__(self):
        reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._thread = threading.Thread(target=self._watch, args=(reader,), daemon=True)
        self._thread.start()
        self._outer = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        self._previous = [signal.signal(number, self._note) for number in SIGNALS]
        return self

    def _note(self, number, _frame):
        """Do nothing, in the main thread: Python tells signals to the thread only where there is a handler."""

    def _watch(self, reader):
        with open(reader, "rb", buffering=0) as numbers:
            for number in iter(lambda: ord(numbers.read(1) or b"\0"), 0):
                if number in SIGNALS:
                    self._answer(number)

    def __exit__(self, *exception):
        signal.set_wakeup_fd(self._outer)
        for number, handler in zip(SIGNALS, self._previous):
            signal.signal(number, handler)
        os.write(self._writer, b"\0")
        self._thread.join(1)
        os.close(self._writer)


class _CutShort(BaseException):
    """Raised in the main thread by a signal, where a StopRequest lets it. No handler of Exception stops it."""


class StopRequest(SignalWatch):
    """A context in which the first SIGINT or SIGTERM interrupts nothing, and the second one ends the program at once.

    The work looks at `signal` now and then, and stops when it can. `signal` is the number of the last signal, None
    before there was one. A line answers the first signal at once.
    """

    TWICE = .1              # seconds in which a second signal is the first one again, as `timeout` sends it

    def __init__(self, before_leaving=lambda: None):
        """Take a function to call before the program ends at once."""
        super().__init__(self._tell)
        self.signal, self._first, self._before_leaving, self._cuts = None, None, before_leaving, False

    def cut_short(self, work, *arguments):
        """Call `work(*arguments)`, and leave out the rest of it at a signal."""
        try:
            try:
                self._cuts = True
                work(*arguments)
            finally:
                self._cuts = False
        except _CutShort:
            pass

    def _note(self, number, _frame):
        self.signal = number
        if self._cuts:
            self._cuts = False
            raise _CutShort

    def _tell(self, number):
        self.signal, now = self.signal or number, time.monotonic()      # the main thread may note it later
        if self._first is None:
            self._first = now
            if sys.stderr is not None:
                tqdm.write("finishing what is under way; once more to stop at once", file=sys.stderr)
        elif now > self._first + self.TWICE:
            self._before_leaving()
            if sys.stderr is not None:
                os.write(2, b"\nstopped at once\n")
            os._exit(128 + number)


# Logging and git

def set_up_logging(level):
    """Send log lines of `level` ("INFO", "WARNING", ...) and above to stderr as `[time] message`."""
    logging.basicConfig(format="[%(asctime)s] %(message)s", datefmt="%m-%d %H:%M:%S")
    logging.getLogger().setLevel(level)
    logging.getLogger("PIL").setLevel(logging.WARNING)  # at DEBUG it logs every chunk of every PNG
    logging.getLogger("tensorflow").handlers.clear()    # its own handler would print its lines a second time


def git(*arguments):
    """Ask git about the project's own folder -> its answer, or None where there is no git or it fails."""
    try:
        done = subprocess.run(["git", "-C", PROJECT, *arguments], capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def git_branch():
    """Name the branch that is checked out: "HEAD" where there is none, "master" without git."""
    branch = git("branch", "--show-current")
    return "master" if branch is None else branch or "HEAD"


# Files

def load_json(path, default):
    """Read the JSON file `path` -> its value, or `default` where there is no file.

    Raises UserError when the file can't be read or is not JSON.
    """
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        return default
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: can't be read ({error}); {RESTORE}") from error


def save_json(value, path):
    """Write `value` to the file `path` as indented JSON."""
    with atomic_write(path) as file:
        file.write(json.dumps(value, indent=2).encode() + b"\n")


@contextlib.contextmanager
def atomic_write(path):
    """Open a binary file that appears under `path`, whole, when the context ends well.

    When the context raises or is killed, `path` stays as it was. An OSError tells `path` as its file name.
    """
    temporary = os.path.join(os.path.dirname(path), TEMPORARY + secrets.token_hex(8))
    try:
        with open(temporary, "xb") as file:
            yield file
        os.replace(temporary, path)
    except BaseException as error:
        if isinstance(error, OSError):
            error.filename, error.filename2 = path, None    # the user's name, and not the temporary one
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)
        raise


def check_writable(folder):
    """Raise OSError where no file can be written into `folder`, or where `folder` can't be created.

    Nothing is left behind: of a folder that is not there, the nearest parent that is there is tried.
    """
    folder = os.path.abspath(folder)
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    with tempfile.TemporaryFile(dir=folder):
        pass


def clean_temporary(folder):
    """Remove what a killed `atomic_write` left in `folder`. Nothing else may be writing there."""
    for path in glob.glob(os.path.join(glob.escape(folder), TEMPORARY + "*")):
        os.remove(path)


# Progress

def progress_bar(unit, total, initial=0):
    """Make a tqdm bar that counts `unit`s up to `total`. In a log file, it prints a line every half minute."""
    terminal = sys.stderr is not None and sys.stderr.isatty()
    return tqdm(total=total, initial=initial, unit=unit, dynamic_ncols=terminal, mininterval=0.2 if terminal else 30,
                disable=sys.stderr is None)
