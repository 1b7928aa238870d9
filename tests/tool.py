"""A command line tool of the project as tests run it: started, killed, finished, refused; and waiting for what it does."""
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from conftest import Result, TIMEOUT

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


def wait_for(condition, seconds=60):
    """Wait until `condition()`, and fail if it takes too long."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(.005)
