"""cli/processes: every item once, by forked and by spawned workers; errors, kills and signals in good order."""
import os
import signal
import subprocess
import sys
import time

import pytest

from conftest import HERE
from tool import alive, finish, wait_for

# In processes of their own, which have no TensorFlow: its threads would not survive a fork.
HEAD = """
import os, signal, sys, time
from cli.processes import Pool, process_all
from utils import Interrupted, UserError

kept = []


def square(shared, item):
    return item, item ** 2 + shared["add"]


def slow(shared, item):
    open(f"{shared}/began-{item}", "x").close()
    time.sleep(.3)
    return item


def very_slow(shared, item):
    slow(shared, item)
    time.sleep(60)


def fail(shared, item):
    if item == 5:
        raise UserError("item 5 is broken")
    return item


def die(shared, item):
    if item == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def prepare():
    os.environ["PREPARED"] = "yes"


def start_slowly():
    open(f"{sys.argv[1]}/starting-{os.getpid()}", "x").close()
    time.sleep(60)


def prepared(shared, item):
    return os.environ.get("PREPARED"), os.getpid()


if __name__ == "__main__":
    print_kept = lambda: print(len(kept), sorted(kept), flush=True)
"""


@pytest.fixture
def program(tmp_path):
    """A function that starts HEAD and what is given as a program, in a process group of its own."""
    def start(body, *arguments):
        path = tmp_path / "program.py"              # a file, which spawned workers import
        path.write_text(HEAD + "".join(f"    {line}\n" for line in body.strip().splitlines()))
        return subprocess.Popen([sys.executable, path, *map(str, arguments)], text=True, start_new_session=True,
                                env={**os.environ, "PYTHONPATH": str(HERE.parent)}, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE)

    return start


def ended(process, status=0):
    """The stdout of a program that has to end with this status and leave no process behind."""
    result = finish(process)
    assert result.status == status and "Traceback" not in result.err, result.err
    wait_for(lambda: not alive(process.pid))        # a helper of multiprocessing needs a moment
    return result


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("workers, count", [(2, 50), (8, 3), (1, 1), (3, 0)])
def test_every_item_is_done_once(program, method, workers, count):
    result = ended(program(f"""
process_all(square, {{"add": 7}}, range({count}), kept.append, Pool({workers}, "image", method="{method}"))
print_kept()
"""))
    assert result.out == f"{count} {[(i, i ** 2 + 7) for i in range(count)]}\n"
    assert f"{count}/{count}" in result.err or not count


def test_progress_counts_the_units_of_an_item(program):
    result = ended(program("""
process_all(square, {"add": 0}, range(4), kept.append, Pool(2, "image", per_item=25))
"""))
    assert "100/100 [" in result.err and "image/s" in result.err


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_are_prepared_and_work_elsewhere(program, method):
    result = ended(program(f"""
process_all(prepared, None, range(6), kept.append, Pool(2, "image", method="{method}", prepare=prepare))
words, numbers = map(set, zip(*kept))
print(len(kept), words, os.getpid() in numbers, "PREPARED" in os.environ)
"""))
    assert result.out == "6 {'yes'} False False\n"


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_an_error_of_the_function_is_raised_and_what_is_done_is_kept(program, method):
    result = ended(program(f"""
try:
    process_all(fail, None, range(100), kept.append, Pool(2, "image", method="{method}"))
except UserError as error:
    print(error)
print(len(kept) == len(set(kept)), set(range(5)) <= set(kept), 5 in kept, len(kept) < 30)
"""))
    assert result.out == "item 5 is broken\nTrue True False True\n"


def test_an_error_while_keeping_is_raised(program):
    result = ended(program("""
def keep(value):
    raise OSError(28, "No space left on device")

try:
    process_all(square, {"add": 0}, range(100), keep, Pool(2, "image"))
except OSError as error:
    print(error.strerror)
"""))
    assert result.out == "No space left on device\n"


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_killed_worker_ends_the_work_with_advice(program, method):
    result = ended(program(f"""
try:
    process_all(die, None, range(100), kept.append, Pool(2, "image", method="{method}"))
except UserError as error:
    print(error)
"""))
    assert result.out == ("a worker was killed, perhaps for want of memory; run the same command again, perhaps with "
                          "fewer --workers\n")


@pytest.mark.slow
@pytest.mark.parametrize("whom", ["main", "group"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_what_is_under_way_finish(program, tmp_path, number, whom):
    """Also one of the terminal, which every process of the group gets. What began is kept, and nothing else begins."""
    process = program("""
before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
try:
    process_all(slow, sys.argv[1], range(100), kept.append, Pool(2, "image"))
except Interrupted as stop:
    print(int(stop.signal))
print([signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before)
print_kept()
""", tmp_path)
    wait_for(lambda: len(list(tmp_path.glob("began-*"))) >= 4)
    (os.killpg if whom == "group" else os.kill)(process.pid, number)
    result = ended(process)
    began = sorted(int(path.name.removeprefix("began-")) for path in tmp_path.glob("began-*"))
    assert result.out == f"{number:d}\nTrue\n{len(began)} {began}\n" and 4 <= len(began) < 20


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_end_with_a_main_process_that_is_killed(program, tmp_path, method):
    process = program(f"""
process_all(slow, sys.argv[1], range(1000), kept.append, Pool(2, "image", method="{method}"))
""", tmp_path)
    wait_for(lambda: len(list(tmp_path.glob("began-*"))) >= 2)
    assert len(alive(process.pid)) >= 3
    process.kill()
    finish(process)
    wait_for(lambda: not alive(process.pid), seconds=20)
    count = len(list(tmp_path.glob("began-*")))
    time.sleep(.5)
    assert len(list(tmp_path.glob("began-*"))) == count


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_items_that_wait_are_not_begun_after_a_signal(program, tmp_path, method):
    process = program(f"""
try:
    process_all(slow, sys.argv[1], range(100), kept.append, Pool(2, "image", method="{method}"))
except Interrupted as stop:
    print(len(kept))
""", tmp_path)
    wait_for(lambda: len(list(tmp_path.glob("began-*"))) >= 4)
    os.kill(process.pid, signal.SIGINT)
    begun = len(list(tmp_path.glob("began-*")))
    result = ended(process)
    assert begun <= int(result.out) == len(list(tmp_path.glob("began-*"))) <= begun + 2     # before it was seen


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("begun", [0, 1, 4])
def test_a_second_signal_ends_all_processes_at_once(program, tmp_path, method, number, begun):
    """Also while workers start. No worker is left, and none complains."""
    prepare = None if begun else "start_slowly"
    process = program(f"""
process_all(very_slow, sys.argv[1], range(100), kept.append, Pool(4, "image", method="{method}", prepare={prepare}))
""", tmp_path)
    wait_for(lambda: len(list(tmp_path.glob("began-*" if begun else "starting-*"))) >= (begun or 1))
    os.killpg(process.pid, number)
    time.sleep(.4)                              # or else the two would be taken for one
    os.killpg(process.pid, number)
    start = time.monotonic()
    result = finish(process)
    wait_for(lambda: not alive(process.pid), seconds=10)
    assert time.monotonic() - start < 10 and result.status == 128 + number
    lines = [line for line in result.err.splitlines() if line.strip() and "image" not in line]
    assert lines == ["finishing what is under way; once more to stop at once", "stopped at once"], result.err
