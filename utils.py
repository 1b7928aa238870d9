"""Files: run directory, logging, params.json, atomic writes, image grids, listing and reading images. No TensorFlow."""
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

from tqdm import tqdm

SIGNALS = signal.SIGINT, signal.SIGTERM
PROJECT = os.path.dirname(os.path.abspath(__file__))
TEMPORARY = ".tmp-"
class UserError(Exception):
    """Bad input. The message is one line: what, where, what to do; `main.py` prints it and exits with status 2."""


class Interrupted(Exception):
    """SIGINT or SIGTERM ended the work in good order; `signal` is its number. The message tells how to go on."""

    def __init__(self, number, message="run the same command again for the rest"):
        super().__init__(message)
        self.signal = number


class Diverged(Exception):
    """A loss or a weight is no longer finite. The message is one line: step, losses, last good checkpoint."""


class StopRequest:
    """While in this context, SIGINT and SIGTERM only set `signal` to their number: the work stops when it can."""

    def __enter__(self):
        self.signal = None
        self.previous = [signal.signal(number, self._note) for number in SIGNALS]
        return self

    def _note(self, number, frame):
        self.signal = number

    def __exit__(self, *exception):
        for number, handler in zip(SIGNALS, self.previous):
            signal.signal(number, handler)


# Run directory

def set_up_logging(level):
    """Send log lines of `level` ("INFO", "WARNING", ...) and above to stderr as `[time] message`."""
    logging.basicConfig(format="[%(asctime)s] %(message)s", datefmt="%m-%d %H:%M:%S")
    logging.getLogger().setLevel(level)
    logging.getLogger("PIL").setLevel(logging.WARNING)  # at DEBUG it logs every chunk of every PNG
    logging.getLogger("tensorflow").handlers.clear()    # its own handler would print its lines a second time


def git(*arguments):
    """What git answers about the project's own folder, or None where it can't."""
    try:
        done = subprocess.run(["git", "-C", PROJECT, *arguments], capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def git_branch():
    """The name of the branch, "HEAD" between branches, "master" without git."""
    branch = git("branch", "--show-current")
    return "master" if branch is None else branch or "HEAD"


def load_json(path, default):
    """What the JSON file `path` holds, `default` where there is none. Raises UserError when the file is broken."""
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        return default
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: can't be read ({error}); restore it, or remove it to go without") from error


# Writing

@contextlib.contextmanager
def atomic_write(path):
    """A binary file that appears under `path` when the block ends well, and not at all when it raises or is killed."""
    temporary = os.path.join(os.path.dirname(path), TEMPORARY + secrets.token_hex(8))
    try:
        with open(temporary, "xb") as file:
            yield file
        os.replace(temporary, path)
    except BaseException as error:
        if isinstance(error, OSError):
            error.filename = error.filename or path         # writing tells no name
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)
        raise


def check_writable(folder):
    """Create `folder` if need be, and raise OSError where no file can be written into it."""
    os.makedirs(folder, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def clean_temporary(folder):
    """Remove what a killed `atomic_write` left in `folder`; call it when nothing else writes there."""
    for path in glob.glob(os.path.join(glob.escape(folder), TEMPORARY + "*")):
        os.remove(path)


def save_json(value, path):
    """Write `value` to `path` as indented JSON."""
    with atomic_write(path) as file:
        file.write(json.dumps(value, indent=2).encode() + b"\n")


# Finding images

# Reading images

# Progress

def progress_bar(unit, total, initial=0):
    """tqdm on a terminal; in a log file, a line of it every half minute."""
    terminal = sys.stderr.isatty()
    return tqdm(total=total, initial=initial, unit=unit, dynamic_ncols=terminal, mininterval=0.2 if terminal else 30)
