"""cli/program: exit status and one line for what goes wrong, signals, what a dry run prints."""
import errno
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from cli import program
from conftest import HERE
from tool import call
from utils import Diverged, Interrupted, SIGNALS, UserError


def result_of(work):
    """What `program.run` makes of a function -> (status, stderr)."""
    result = call(SimpleNamespace(__file__="/somewhere/prog.py", main=work), "a", 1)
    assert result.out == ""
    return result.status, result.err


def raising(error):
    def work(arguments):
        raise error

    return work


@pytest.mark.parametrize("returned, status", [(None, 0), (0, 0), (3, 3)])
def test_what_the_work_returns_is_the_status(returned, status):
    assert result_of(lambda arguments: returned) == (status, "")


def test_the_work_is_given_the_words():
    seen = []
    result_of(seen.append)
    assert seen == [["a", "1"]]


FULL = OSError(errno.ENOSPC, "No space left on device")
MISSING = FileNotFoundError(errno.ENOENT, "No such file or directory", "a/b.jpg")


@pytest.mark.parametrize("error, status, line", [
    (UserError("--x: wrong; give y"), 2, "prog.py: error: --x: wrong; give y"),
    (MISSING, 2, "prog.py: error: a/b.jpg: No such file or directory"),
    (FULL, 2, "prog.py: error: writing: No space left on device"),
    (OSError(errno.ENOMEM, "Cannot allocate memory"), 2,
     "prog.py: error: writing: Cannot allocate memory; take less at a time"),
    (MemoryError(), 2, "prog.py: error: not enough memory; take less at a time"),
    (OSError("no number"), 2, "prog.py: error: writing: no number"),
    (Interrupted(signal.SIGINT, "go on so"), 130, "prog.py: interrupted; go on so"),
    (Interrupted(signal.SIGTERM), 143, "prog.py: interrupted; run the same command again for the rest"),
    (Diverged("step 3: why"), 1, "prog.py: the training diverged; step 3: why")])
def test_what_goes_wrong_is_one_line(error, status, line):
    assert result_of(raising(error)) == (status, line + "\n")


@pytest.mark.parametrize("name, part", [
    ("main.py", "--batch_size"), ("recognizer.py", "--batch_size"), ("gen_syn_latent.py", "--workers"),
    ("align.py", "--workers"), ("evaluate.py", "--limit")])
@pytest.mark.parametrize("kind", ["ResourceExhaustedError", "InternalError", "array"])
def test_want_of_memory_names_what_to_make_smaller(name, part, kind):
    import numpy as np
    import tensorflow as tf

    def work(arguments):
        if kind == "array":
            np.zeros(2 ** 50)
        raise getattr(tf.errors, kind)(None, None, "std::bad_alloc\nand more")

    result = call(SimpleNamespace(__file__=f"/somewhere/{name}", main=work))
    assert result.status == 2 and result.err.startswith(f"{name}: error: not enough memory; take ")
    assert part in result.err and result.err.count("\n") == 1


def test_another_error_of_tensorflow_is_no_want_of_memory():
    import tensorflow as tf
    assert not program.is_want_of_memory(tf.errors.InternalError(None, None, "a mistake"))
    assert not program.is_want_of_memory(ValueError("std::bad_alloc, says a user"))


@pytest.mark.parametrize("error", [ZeroDivisionError, AssertionError, KeyError("x")])
def test_a_mistake_of_ours_is_not_hidden(error):
    with pytest.raises(type(error) if isinstance(error, Exception) else error):
        result_of(raising(error))


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_raises_interrupted(number):
    def work(arguments):
        signal.raise_signal(number)

    before = [signal.getsignal(each) for each in SIGNALS]
    status, err = result_of(work)
    assert status == 128 + number and err.startswith("prog.py: interrupted; ") and err.count("\n") == 1
    assert [signal.getsignal(each) for each in SIGNALS] == before        # what `call` promises to the tests


@pytest.mark.parametrize("number", SIGNALS)
def test_a_program_that_saves_itself_is_ended_at_once_unless_it_notes_signals(number):
    """Whatever would catch an exception."""
    code = f"""
import signal, sys, time
from cli import program
from utils import StopRequest

def work(arguments):
    with StopRequest() as stop:
        signal.raise_signal({number:d})
    print(int(stop.signal), flush=True)
    try:
        signal.raise_signal({number:d})
        time.sleep(60)
    except BaseException:
        print("an exception")
    finally:
        print("and more")

sys.exit(program.run("prog.py", work, [], saves_itself=True))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=HERE.parent, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, f"{number:d}\n", "prog.py: interrupted\n")


def test_what_a_dry_run_prints(capsys):
    program.tell({"g_lr": .001, "synthetic": ["a", "b"]}, {"photos": "real: 7 images"}, {"G": 1234567, "small": 8})
    assert capsys.readouterr().out == """\
Options that differ from the defaults:
  --g_lr 0.001
  --synthetic a b
Data:
  photos               real: 7 images
Networks:
  G                    1,234,567 parameters
  small                8 parameters
"""
