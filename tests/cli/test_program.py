"""cli/program: exit status and one line for what goes wrong, signals, what a dry run prints."""
import errno
import os
import signal
import subprocess
import sys
import time
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


# Signals

HEAD = """
import os, signal, sys, threading, time
from cli import interrupts, program
from utils import Interrupted, StopRequest, UserError
"""


def ended(body, *arguments):
    """What a program of its own did, whose `work` has this body -> (status, stdout, stderr)."""
    code = HEAD + "def work(arguments):\n" + "".join(f"    {line}\n" for line in body.strip().splitlines())
    code += f"\nsys.exit(program.run('prog.py', work, {list(map(str, arguments))}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=HERE.parent, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


# As a call of TensorFlow looks: C code in which no signal wakes the main thread.
AWAY = "signal.pthread_sigmask(signal.SIG_BLOCK, (2, 15)); __import__('ctypes').CDLL(None).sleep"
DOING = ["time.sleep(60)", "threading.Event().wait()", "[None for _ in iter(int, 1)]", "os.read(os.pipe()[0], 1)",
         f"{AWAY}(60)"]


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("doing", DOING)
def test_a_signal_ends_the_program_within_a_second(number, doing):
    """Whatever would catch an exception, and whatever the main thread waits for."""
    start = time.monotonic()
    status, out, err = ended(f"""
threading.Timer(.2, os.kill, (os.getpid(), {number:d})).start()
try:
    {doing}
except BaseException:
    print("an exception")
finally:
    print("and more")
""")
    assert (status, out, err) == (128 + number, "", "prog.py: interrupted\n")
    assert time.monotonic() - start < 10            # and not 60; the start of Python takes most of it


TOLD = "finishing what is under way; once more to stop at once\n"


@pytest.mark.parametrize("number", SIGNALS)
def test_the_work_notes_a_first_signal_and_a_later_one_ends_it_at_once(number):
    status, out, err = ended(f"""
with StopRequest() as stop:
    signal.raise_signal({number:d})
    print(int(stop.signal), flush=True)
    time.sleep(.3)
    print("still here", flush=True)
    threading.Timer(.2, os.kill, (os.getpid(), {number:d})).start()
    {AWAY}(60)
    print("too long")
""")
    assert (status, out, err) == (128 + number, f"{number:d}\nstill here\n", TOLD + "\nstopped at once\n")


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS)
def test_a_first_signal_is_answered_while_the_main_thread_is_away(number):
    status, out, err = ended(f"""
with StopRequest() as stop:
    threading.Timer(.1, os.kill, (os.getpid(), {number:d})).start()
    threading.Timer(.8, lambda: print("later", file=sys.stderr, flush=True)).start()
    {AWAY}(2)
print(int(stop.signal))
""")
    assert (status, out, err) == (0, f"{number:d}\n", TOLD + "later\n")


def test_one_signal_that_comes_twice_counts_once():
    """`timeout` sends it to the process and to its group."""
    assert ended("""
with StopRequest() as stop:
    for _ in range(5):
        os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(.3)
print(int(stop.signal))
""") == (0, "15\n", TOLD)


def test_a_signal_after_a_stop_request_ends_the_program():
    status, out, err = ended("""
for _ in range(3):
    with StopRequest():
        pass
signal.raise_signal(signal.SIGINT)
time.sleep(60)
""")
    assert (status, out, err) == (130, "", "prog.py: interrupted\n")


@pytest.mark.parametrize("number", SIGNALS)
def test_a_second_signal_that_comes_after_the_stop_request_is_answered_as_announced(number):
    """As where the work ends between the two signals, and tables are still to be written."""
    status, out, err = ended(f"""
with StopRequest(lambda: print("before", flush=True)):
    signal.raise_signal({number:d})
    time.sleep(.3)
signal.raise_signal({number:d})
time.sleep(60)
""")
    assert (status, out, err) == (128 + number, "before\n", TOLD + "\nstopped at once\n")


def test_one_signal_that_comes_again_after_the_stop_request_does_not_hide_how_to_go_on():
    assert ended("""
StopRequest.TWICE = 30                  # and not .1, since other programs may be busy
with StopRequest():
    signal.raise_signal(signal.SIGTERM)
    while not StopRequest.heard:
        time.sleep(.001)
signal.raise_signal(signal.SIGTERM)
time.sleep(.3)
raise Interrupted(15, "go on")
""") == (143, "", TOLD + "prog.py: interrupted; go on\n")


@pytest.mark.parametrize("number", SIGNALS)
def test_what_is_called_before_a_program_ends_at_once(number):
    status, out, _ = ended(f"""
with StopRequest(lambda: print("before", flush=True)):
    for _ in range(2):
        signal.raise_signal({number:d})
        time.sleep(.3)
""")
    assert (status, out) == (128 + number, "before\n")


def test_threads_and_files_of_stop_requests_end():
    status, out, err = ended("""
def count():
    return len(os.listdir("/proc/self/fd")), threading.active_count()
before = count()
for _ in range(50):
    with StopRequest():
        pass
print(before == count())
""")
    assert (status, out, err) == (0, "True\n", "")


@pytest.mark.parametrize("number", SIGNALS)
def test_a_program_answers_signals_before_it_runs(number):
    code = HEAD + f"interrupts.leave_on_signals('prog.py')\nos.kill(os.getpid(), {number:d})\ntime.sleep(60)"
    done = subprocess.run([sys.executable, "-c", code], cwd=HERE.parent, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, "", "prog.py: interrupted\n")


def test_without_stderr_a_signal_ends_a_program_too():
    code = HEAD + """
def work(arguments):
    with StopRequest():
        for _ in range(2):
            signal.raise_signal(signal.SIGTERM)
            time.sleep(.3)
program.run("prog.py", work, [])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=HERE.parent, stdout=subprocess.PIPE,
                          preexec_fn=lambda: os.close(2))
    assert (done.returncode, done.stdout) == (143, b"")


def test_signals_are_as_before_after_a_program_has_run():
    before = [signal.getsignal(each) for each in SIGNALS]
    assert program.run("prog.py", lambda arguments: 3, []) == 3
    assert [signal.getsignal(each) for each in SIGNALS] == before and signal.set_wakeup_fd(-1) == -1


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
