"""A command of the project as tests run it: in this process, or started, killed, finished, refused; waiting for it."""
import contextlib
import functools
import io
import logging
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from tqdm import tqdm

from cli import program
from conftest import Result, TIMEOUT, tree
from utils import SIGNALS

ROOT = Path(__file__).resolve().parent.parent


class Tool:
    """The program `name`, such as "align.py"."""

    def __init__(self, name):
        self.name = name

    def start(self, *arguments, **popen):
        """A started command, in a process group of its own, which takes its workers along."""
        return subprocess.Popen([sys.executable, ROOT / self.name, *map(str, arguments)], text=True,
                                start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **popen)

    def run(self, *arguments, **popen):
        """Run a command -> Result."""
        return finish(self.start(*arguments, **popen))

    def succeed(self, *arguments):
        """Run a command, which has to end well -> Result."""
        result = self.run(*arguments)
        assert result.status == 0, result.err[-3000:]
        return result

    def last_words(self, result):
        """The lines that the program itself ends with; there must be no other complaint."""
        assert "Traceback" not in result.err, result.err[-3000:]
        return [line for line in result.err.splitlines() if line.startswith(self.name)]

    def refused(self, result, *named):
        """Assert status 2 and one line that names `named`."""
        lines = self.last_words(result)
        assert result.status == 2 and len(lines) == 1 and ": error: " in lines[0], result.err[-2000:]
        assert all(str(word) in lines[0] for word in named), lines[0]


def call(module, *words):
    """Run the program of a module such as `main` in this process -> Result. Signals and logging stay as they were.

    What the program would log goes to its stderr alone.
    """
    loggers = [logging.getLogger(name) for name in (None, "PIL", "matplotlib", "tensorflow")]
    before = [(logger, logger.level, logger.handlers[:]) for logger in loggers]
    signals = {number: signal.getsignal(number) for number in SIGNALS}
    out, err = io.StringIO(), io.StringIO()
    logging.getLogger().handlers.clear()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = program.run(Path(module.__file__).name, module.main, [str(word) for word in words])
    except SystemExit as end:
        status = end.code or 0
    finally:
        for logger, level, handlers in before:
            logger.setLevel(level)
            logger.handlers[:] = handlers
        for number, handler in signals.items():
            signal.signal(number, handler)
    return Result(status, out.getvalue(), err.getvalue())


def succeed_here(module, *words):
    """Run the program of a module in this process, which has to end well -> Result."""
    result = call(module, *words)
    assert result.status == 0, result.err[-3000:]
    return result


@functools.cache
def builtin_face_model():
    """Build the built-in FaceModel once for all tests of this process."""
    from morphable import builtin_model

    return builtin_model.build()


def share_model(patch):
    """Let commands in this process find the built-in model built. `patch` is pytest's monkeypatch."""
    from morphable import scene

    load = scene.load_model
    patch.setattr(scene, "load_model", lambda path: builtin_face_model() if path in (None, "", scene.BUILTIN)
                  else load(path))


def limit_files(size, hard=None):
    """For a child: no file may grow beyond `size` bytes, which is how a full disk looks to it.

    `hard` bytes are what the limit may be raised to later.
    """
    def apply():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size if hard is None else hard))
    return apply


def finish(process):
    """Wait for the end of a command -> Result."""
    try:
        out, err = process.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return Result(process.returncode, out, err)


def alive(group):
    """Process ids of a process group that still run; the dead whom nobody has asked about don't count."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = path.read_text().rpartition(")")[2].split()[:3]
        except OSError:                 # it has ended since
            continue
        if int(its_group) == group and state != "Z":
            found.append(int(path.parent.name))
    return found


def kill_often(work, moments=15):
    """Do `work(folder)` to its end, then in processes killed at many moments, then to its end -> (kills, partial ones).

    After each kill, whatever has its name has to be whole. A kill is partial where some files have no name yet. When
    all have, the folder is emptied for the next kill. In the end, all has to be as if nothing had been.
    """
    os.mkdir("alone")
    began = time.monotonic()
    work("alone")
    seconds, alone, kills, partial = time.monotonic() - began, tree("alone"), 0, 0
    for moment in range(1, moments + 1):
        os.makedirs("out", exist_ok=True)
        child = os.fork()
        if not child:
            try:
                tqdm.set_lock(threading.RLock())        # the usual one is shared: a kill would leave it locked here
                work("out")
            finally:
                os._exit(0)
        time.sleep(seconds * moment / 20)
        os.kill(child, signal.SIGKILL)
        kills += os.waitpid(child, 0)[1] == signal.SIGKILL
        found = {name: content for name, content in tree("out").items() if not os.path.basename(name).startswith(".")}
        assert all(alone[name] == content for name, content in found.items())
        partial += 0 < len(found) < len(alone)
        if len(found) == len(alone):
            shutil.rmtree("out")
    os.makedirs("out", exist_ok=True)
    work("out")
    assert {name: content for name, content in tree("out").items() if "/" in name or ".tmp-" not in name} == alone
    return kills, partial


def wait_for(condition, seconds=60):
    """Wait until `condition()`, and fail if it takes too long."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(.005)


def touch(folder, *names):
    """Make empty files, and the folders that they lie in -> the folder's path."""
    for name in names:
        path = Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return str(folder)


def one_line(error, *parts):
    """Assert that the message of what `pytest.raises` caught is one line that names `parts`."""
    message = str(error.value)
    assert "\n" not in message and all(part in message for part in parts), message


@contextlib.contextmanager
def held(folder):
    """Hold `folder` by another process in this context -> its number. In the end it is killed."""
    hold = "import sys, time, utils\nwith utils.hold(sys.argv[1]):\n    print('held', flush=True)\n    time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", hold, folder], cwd=ROOT, text=True,
                          stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout.readline() == "held\n"
            yield other.pid
        finally:
            other.kill()
