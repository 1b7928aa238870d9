"""What every module may need: how a program ends, logging, git, files that appear whole, progress. No TensorFlow."""
import contextlib
import csv
import datetime
import errno
import fcntl
import glob
import hashlib
import io
import json
import logging
import os
import re
import secrets
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
import warnings
import zipfile
import zlib

from tqdm import tqdm

SIGNALS = signal.SIGINT, signal.SIGTERM
PROJECT = os.path.dirname(os.path.abspath(__file__))
TEMPORARY = ".tmp-"             # begins the names of files that are not yet whole
# What follows it: of `atomic_write`, or a checkpoint's name.
_TEMPORARY_NAME = re.compile(re.escape(TEMPORARY) + r"([0-9a-f]{16}|model\.ckpt-\d.*)")
ABANDONED = 3600                # seconds
LOCK = ".facegan-lock"          # begins the names of files that tell which process is writing into a folder
SETTINGS = "settings.json"      # in each folder that a command began
# What NumPy raises for a damaged file of arrays (.npz), and a reader for one of other arrays.
ARRAY_ERRORS = (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError, RuntimeError,
                zipfile.BadZipFile, zlib.error)
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
    before there was one. A line answers the first signal at once. `heard` then is the function that answers the second
    one, also after the context, until the program ends.
    """

    TWICE = .1              # seconds in which a second signal is the first one again, as `timeout` sends it
    heard = None

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
            self._first, StopRequest.heard = now, self._tell
            with contextlib.suppress(OSError, ValueError):      # where nobody reads stderr any more
                if sys.stderr is not None:
                    tqdm.write("finishing what is under way; once more to stop at once", file=sys.stderr)
        elif now > self._first + self.TWICE:
            try:
                self._before_leaving()
                if sys.stderr is not None:
                    os.write(2, b"\nstopped at once\n")
            finally:
                os._exit(128 + number)


# Logging and git

class _OneLine(logging.Formatter):
    """Formats log lines, each of which stays one line whatever names it tells."""

    def formatMessage(self, record):
        """Write the line of a record, without what belongs to an exception."""
        return one_line(super().formatMessage(record))


def reason_of(error):
    """Say in a line of at most 160 characters why an exception was raised, without the names of files."""
    lines = str(getattr(error, "strerror", None) or error).strip().splitlines()
    if "allow_pickle" in str(error):            # NumPy's advice to load it unsafely is none for a user
        return "no file of arrays"
    return lines[0][:160] if lines else type(error).__name__


def one_line(text):
    """Write `text` in one printable line: line breaks, and bytes of names that are not UTF-8, become escapes."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def set_up_logging(level):
    """Send log lines of `level` ("INFO", "WARNING", ...) and above to stderr as `[time] message`."""
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine("[%(asctime)s] %(message)s", "%m-%d %H:%M:%S"))
    logging.basicConfig(handlers=[handler])
    warnings.filterwarnings("ignore", module="PIL")     # on odd images, in two lines that name none
    logging.getLogger().setLevel(level)
    logging.getLogger("PIL").setLevel(logging.WARNING)  # at DEBUG it logs every chunk of every PNG
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
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

def open_regular(path):
    """Open the file `path` to read bytes. Raises OSError where it is no regular file: a pipe would never end."""
    opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)          # else a pipe waits for a writer
    mode = os.fstat(opened).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(opened, "rb")
    os.close(opened)
    number = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
    raise OSError(number, os.strerror(number) if stat.S_ISDIR(mode) else "Not a regular file", path)


def read_text(path, errors="strict"):
    """Read the UTF-8 text of the file `path`, with or without a mark of UTF-8 at its head.

    Line breaks stay as they are. Raises OSError when the file can't be read, and ValueError when it is no such text.
    """
    with open_regular(path) as file:
        return file.read().decode("utf-8-sig", errors)


def sha256_of(path):
    """Compute the SHA-256 of the file `path` -> 64 hexadecimal digits. Raises OSError where it can't be read."""
    total = hashlib.sha256()
    with open_regular(path) as file:
        while block := file.read(1 << 20):
            total.update(block)
    return total.hexdigest()


def read_json(path):
    """Read the JSON file `path` -> its value. Raises OSError when it can't be read, and ValueError otherwise."""
    try:
        return json.loads(read_text(path))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def load_json(path, default):
    """Read the JSON file `path` -> its value, or `default` where there is no file.

    Raises UserError when the file can't be read or is not JSON.
    """
    try:
        return read_json(path)
    except FileNotFoundError:
        return default
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: can't be read ({reason_of(error)}); {RESTORE}") from error


def save_json(value, path):
    """Write `value` to the file `path` as indented JSON."""
    with atomic_write(path) as file:
        file.write(json_bytes(value))


def json_bytes(value):
    """Write `value` as indented JSON -> bytes."""
    return json.dumps(value, indent=2).encode() + b"\n"


def csv_bytes(rows):
    """Write `rows`, sequences of words or numbers, as CSV -> bytes. Names that are not UTF-8 keep their bytes."""
    text = io.StringIO()
    for row in rows:                # the module csv doesn't quote a carriage return by itself
        quoting = csv.QUOTE_ALL if any("\r" in value for value in row if isinstance(value, str)) else csv.QUOTE_MINIMAL
        csv.writer(text, lineterminator="\n", quoting=quoting).writerow(row)
    return text.getvalue().encode(errors="surrogateescape")


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
            error.filename = path           # the user's name, and not the temporary one
            del error.filename2
        with contextlib.suppress(OSError):
            os.remove(temporary)
        raise


def check_writable(folder):
    """Raise OSError where no file can be written into `folder`, or where `folder` can't be created.

    Nothing is left behind: of a folder that is not there, the nearest parent that is there is tried.
    """
    folder = os.path.abspath(folder)
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    os.stat(folder)                             # or else a link to nothing would pass
    # through a link, the system would give the file a name for a moment
    with tempfile.TemporaryFile(dir=os.path.realpath(folder), buffering=0) as file:
        file.write(b"\n")                       # on a full disk, an empty file can still be made


def clean_temporary(folder, alone=True):
    """Remove the temporary files that killed processes of ours left in `folder`.

    Unless we are `alone` there, others may be writing young ones, and only old ones are removed.
    """
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if _TEMPORARY_NAME.fullmatch(name) and os.path.isfile(path) and (alone or is_abandoned(path)):
            with contextlib.suppress(() if alone else FileNotFoundError):       # another machine removes it too
                os.remove(path)


def is_abandoned(path):
    """Tell whether nothing was written to the temporary file or folder `path` for an hour: a killed process left it."""
    try:
        return os.stat(path).st_mtime < time.time() - ABANDONED
    except FileNotFoundError:
        return False


# Holding a folder

@contextlib.contextmanager
def hold(folder, share=None):
    """Hold `folder`, which has to be there, against other processes until this context ends.

    Processes with different shares, words, may hold it together. One with the same share, or with none, is kept out.
    The system frees the lock of a process that ends, however it ends: what a killed one left is taken over. Raises
    UserError, which names the holder. Where no lock can be made, nothing is held. A process must not hold a folder
    twice.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(_locked(folder, LOCK, alone=not share))
        if share:
            stack.enter_context(_locked(folder, f"{LOCK}-{share}", alone=True))
        yield


def check_free(folder, share=None):
    """Raise UserError where another process holds `folder` alone, or its `share`. Nothing is written or removed."""
    for name in (LOCK, f"{LOCK}-{share}")[:2 if share else 1]:
        with contextlib.suppress(OSError), _open_lock(os.path.join(folder, name), os.O_RDONLY) as file:
            if not _try_lock(file, fcntl.LOCK_SH):
                raise _held(folder)


@contextlib.contextmanager
def _locked(folder, name, alone):
    """Lock the file `name` in `folder`, alone or together with others. It is removed by the last who leaves."""
    path = os.path.join(folder, name)
    file = _lock_named(folder, path, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
    try:
        yield
    finally:
        if file is not None:
            with contextlib.suppress(OSError):
                if _try_lock(file, fcntl.LOCK_EX, seconds=0):       # not where others share the lock
                    os.remove(path)
            file.close()


def _lock_named(folder, path, kind):
    """Create and lock the file `path` -> the open file, None where no lock can be made. Raises UserError."""
    while True:
        try:
            file = _open_lock(path, os.O_RDWR | os.O_CREAT)
            locked = _try_lock(file, kind)
        except OSError:                     # no right to write there, a link, or a file system without locks
            return None
        if not locked:
            file.close()
            raise _held(folder)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
                file.truncate(0)
                file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": now}).encode())
                return file
        file.close()                        # another process removed the file after we had opened it


def _open_lock(path, flags):
    """Open the file of a lock, but follow no link. Raises OSError."""
    mode = "rb" if flags == os.O_RDONLY else "r+b"
    return os.fdopen(os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666), mode, buffering=0)


def _try_lock(file, kind, seconds=.2):
    """Lock an open file, and try again for some `seconds`: others look at locks for moments. Tells whether it worked.

    Raises OSError where there are no locks.
    """
    end = time.monotonic() + seconds
    while True:
        try:
            fcntl.lockf(file, kind | fcntl.LOCK_NB)
            return True
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
        if time.monotonic() >= end:
            return False
        time.sleep(.02)


def _held(folder):
    """Make the UserError that says who holds `folder`, as far as the files of its locks tell."""
    who = "another process"
    for path in sorted(glob.glob(os.path.join(glob.escape(folder), LOCK + "*")), reverse=True):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            holder = read_json(path)
            who = f"process {holder['pid']} on {holder['host']} (since {holder['since']})"
    return UserError(f"{folder}: {who} is writing there; wait until it ends, or name another folder")


# Progress

def progress_bar(unit, total, initial=0):
    """Make a tqdm bar that counts `unit`s up to `total`. In a log file, it prints a line every half minute."""
    terminal = sys.stderr is not None and sys.stderr.isatty()
    return tqdm(total=total, initial=initial, unit=unit, dynamic_ncols=terminal, mininterval=0.2 if terminal else 30,
                disable=sys.stderr is None)
