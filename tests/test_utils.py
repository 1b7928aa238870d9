"""utils: files that appear whole, folders that can be written or held, JSON, git, log lines, requests to stop."""
import csv
import errno
import io
import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest

import utils
from datasets.image_sets import list_images
from tool import one_line, touch, wait_for
from utils import Interrupted, SIGNALS, StopRequest, UserError

# Files

def test_atomic_write_replaces_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with utils.atomic_write(str(path)) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new" and os.listdir(tmp_path) == ["a.bin"]
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask()


def umask():
    """The mask of this process."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_atomic_write_leaves_nothing_half_written(tmp_path, error):
    path = tmp_path / "a.bin"
    with pytest.raises(type(error)), utils.atomic_write(str(path)) as file:
        file.write(b"half")
        raise error
    assert os.listdir(tmp_path) == []


def test_a_killed_write_leaves_no_image_and_is_cleaned(tmp_path):
    code = ("import os, signal, sys, utils\n"
            "with utils.atomic_write(sys.argv[1]) as file:\n"
            "    file.write(b'half'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n")
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.jpg")], cwd=utils.PROJECT)
    assert done.returncode == -signal.SIGKILL
    (left,) = os.listdir(tmp_path)
    assert left.startswith(utils.TEMPORARY) and list_images(str(tmp_path)) == []
    touch(tmp_path, "b.jpg")
    utils.clean_temporary(str(tmp_path))
    assert os.listdir(tmp_path) == ["b.jpg"]


def test_an_error_while_writing_names_the_file(tmp_path):
    for path in (tmp_path / "absent" / "a.bin", tmp_path / "b.bin"):
        with pytest.raises(OSError) as error, utils.atomic_write(str(path)):
            raise OSError(errno.EIO, "Input/output error")
        assert os.path.dirname(error.value.filename) == str(path.parent)
    assert error.value.filename == str(path)


def test_json_there_and_back(tmp_path):
    path = str(tmp_path / "a.json")
    assert utils.load_json(path, "default") == "default"
    utils.save_json({"ä": [1, .5, None]}, path)
    assert utils.load_json(path, "default") == {"ä": [1, .5, None]} == json.loads((tmp_path / "a.json").read_bytes())
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_table_there_and_back():
    rows = [["name", "number"], ["a\rb", "1"], ["c\n,\"", ".5"], ["ä \udcff", ""]]
    content = utils.csv_bytes(rows)
    assert content.startswith(b"name,number\n") and content.endswith(b"\xff,\n")
    assert list(csv.reader(io.StringIO(content.decode(errors="surrogateescape"), newline=""))) == rows


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe", b"[1, 2"])
def test_broken_json_is_named(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError) as error:
        utils.load_json(str(tmp_path / "a.json"), None)
    one_line(error, f"{tmp_path}/a.json: can't be read (", utils.RESTORE)
    with pytest.raises(UserError) as error:
        utils.load_json(str(tmp_path), None)
    one_line(error, f"{tmp_path}: can't be read (")


@pytest.mark.parametrize("folder", ["", ".", "new", "new/deep/er", "there"])
def test_a_folder_that_can_be_written_stays_as_it_is(tmp_path, monkeypatch, folder):
    """Nothing is created, not even for a moment that another program could see in the folder's listing."""
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "there/file")
    before = {path: path.stat().st_mode for path in tmp_path.rglob("*")}
    utils.check_writable(folder)
    utils.check_writable(str(tmp_path / folder))
    assert {path: path.stat().st_mode for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("folder", ["file", "file/below/it", "/proc/new", "/dev/null/new", "dangling"])
def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "file")
    (tmp_path / "dangling").symlink_to("/proc/nowhere/at/all")
    with pytest.raises(OSError, match=r"\[Errno \d+\] "):
        utils.check_writable(folder)


# How a program ends

@pytest.fixture
def patient(monkeypatch):
    """However slow the machine is, further signals don't end the tests."""
    monkeypatch.setattr(StopRequest, "TWICE", 600)


def test_a_stop_request_notes_signals_and_gives_them_back(patient):
    before = [signal.getsignal(number) for number in SIGNALS]
    with StopRequest() as stop:
        assert stop.signal is None
        for number in SIGNALS:
            os.kill(os.getpid(), number)
            assert stop.signal == number
        with StopRequest() as inner:
            os.kill(os.getpid(), signal.SIGINT)
        assert (inner.signal, stop.signal) == (signal.SIGINT, signal.SIGTERM)
    assert [signal.getsignal(number) for number in SIGNALS] == before
    with pytest.raises(ZeroDivisionError), StopRequest():
        raise ZeroDivisionError
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_a_stop_request_cuts_work_short_and_nothing_else(patient):
    seen = []

    def work(*numbers):
        for number in numbers:
            seen.append(number)
            if number in SIGNALS:
                os.kill(os.getpid(), number)

    with StopRequest() as stop:
        stop.cut_short(work, 1, 4)
        assert (seen, stop.signal) == ([1, 4], None)
        stop.cut_short(work, 5, signal.SIGINT, 6)
        assert (seen, stop.signal) == ([1, 4, 5, signal.SIGINT], signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.signal == signal.SIGTERM
        with pytest.raises(ZeroDivisionError):
            stop.cut_short(lambda: 1 / 0)


def test_interrupted_tells_the_signal_and_how_to_go_on():
    assert Interrupted(signal.SIGTERM).signal == signal.SIGTERM
    assert str(Interrupted(2)) == "run the same command again for the rest" and str(Interrupted(2, "other")) == "other"


# Logging and git

def test_git_branch(tmp_path, monkeypatch):
    monkeypatch.setattr(utils, "PROJECT", str(tmp_path))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert utils.git_branch() == "master" and utils.git("rev-parse", "HEAD") is None
    assert utils.git("init", "-b", "topic") is not None and utils.git_branch() == "topic"
    assert utils.git("-c", "user.name=n", "-c", "user.email=e", "commit", "--allow-empty", "-m", "m") is not None
    assert utils.git("checkout", "--detach") is not None and utils.git_branch() == "HEAD"
    monkeypatch.setenv("PATH", "")
    assert utils.git_branch() == "master"


def test_log_lines_have_time_and_level():
    code = ("import logging, utils\nutils.set_up_logging('WARNING')\nutils.set_up_logging('INFO')\n"
            "logging.debug('no')\nlogging.info('yes')\n")
    done = subprocess.run([sys.executable, "-c", code], cwd=utils.PROJECT, capture_output=True, text=True)
    assert re.fullmatch(r"\[[^\]]*\d\d:\d\d:\d\d\] yes\n", done.stderr) and not done.stdout


def test_an_error_names_the_file_that_the_user_knows(tmp_path):
    """Not the temporary one, which can't take its name where there is a folder."""
    (tmp_path / "there").mkdir()
    with pytest.raises(OSError) as caught, utils.atomic_write(str(tmp_path / "there")) as file:
        file.write(b"x")
    assert caught.value.filename == str(tmp_path / "there") and caught.value.filename2 is None
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


# Holding a folder

HOLD = """
import sys, time, utils
with utils.hold(sys.argv[1], sys.argv[2] or None):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def others(tmp_path):
    """A function that lets another process hold `tmp_path`, with a share or without one -> the process."""
    started = []

    def hold(share=""):
        started.append(subprocess.Popen([sys.executable, "-c", HOLD, tmp_path, share], cwd=utils.PROJECT, text=True,
                                        stdout=subprocess.PIPE))
        assert started[-1].stdout.readline() == "held\n"
        return started[-1]

    yield hold
    for process in started:
        process.kill()
        process.communicate()


def is_free(folder, share=None):
    """Whether `folder` can be held."""
    try:
        with utils.hold(str(folder), share):
            return True
    except UserError as error:
        assert re.fullmatch(rf"{folder}: .* is writing there; wait until it ends, or name another folder", str(error))
        return False


def test_a_folder_is_held_against_others(tmp_path, others):
    other = others()
    for share in (None, "1-2"):
        with pytest.raises(UserError) as error, utils.hold(str(tmp_path), share):
            pass
        one_line(error, f"{tmp_path}: process {other.pid} on ", " (since 20", "wait until it ends, or name another")


def test_what_a_killed_process_held_is_taken_over(tmp_path, others):
    others().kill()
    wait_for(lambda: is_free(tmp_path))
    with utils.hold(str(tmp_path)):
        assert os.listdir(tmp_path) == [utils.LOCK]
    assert os.listdir(tmp_path) == []


def test_shares_of_a_folder_are_held_side_by_side(tmp_path, others):
    first, _ = others("1-3"), others("2-3")
    held = {share: is_free(tmp_path, share) for share in ("1-3", "2-3", "3-3", None)}
    assert held == {"1-3": False, "2-3": False, "3-3": True, None: False}
    first.kill()
    wait_for(lambda: is_free(tmp_path, "1-3"))
    assert not is_free(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}', "\0"])
def test_a_lock_that_says_nothing_still_holds(tmp_path, others, content):
    others()
    (tmp_path / utils.LOCK).write_text(content)
    with pytest.raises(UserError) as error:
        utils.check_free(str(tmp_path))
    one_line(error, f"{tmp_path}: another process is writing there")


def test_a_folder_that_is_not_there_is_free(tmp_path):
    utils.check_free(str(tmp_path / "new"))
    assert os.listdir(tmp_path) == []


def test_a_folder_is_free_again_after_an_error(tmp_path):
    with pytest.raises(KeyError), utils.hold(str(tmp_path)):
        raise KeyError
    assert os.listdir(tmp_path) == []


HOLD_OFTEN = """
import os, sys, utils
for number in range(300):
    try:
        with utils.hold(sys.argv[1]):
            mine = os.open(os.path.join(sys.argv[1], "inside"), os.O_CREAT | os.O_EXCL)
            os.close(mine)
            os.remove(os.path.join(sys.argv[1], "inside"))
    except utils.UserError:
        pass
"""


def test_no_two_processes_hold_a_folder_at_a_time(tmp_path):
    """Each makes a file that must not be there, very often."""
    processes = [subprocess.Popen([sys.executable, "-c", HOLD_OFTEN, tmp_path], cwd=utils.PROJECT, text=True,
                                  stderr=subprocess.PIPE) for _ in range(3)]
    assert [process.communicate()[1] for process in processes] == ["", "", ""]
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("make", [lambda path: path.write_text("mine"), lambda path: path.symlink_to("precious"),
                                  lambda path: path.mkdir()])
def test_a_file_of_the_locks_name_is_not_written_by_a_look(tmp_path, make):
    (tmp_path / "precious").write_text("mine")
    make(tmp_path / utils.LOCK)
    utils.check_free(str(tmp_path))
    assert os.path.lexists(tmp_path / utils.LOCK)
    with utils.hold(str(tmp_path)):
        assert (tmp_path / "precious").read_text() == "mine"


def test_numpys_advice_to_load_files_unsafely_is_not_passed_on(tmp_path):
    (tmp_path / "latents.npz").write_text("junk")
    with pytest.raises(ValueError) as error:
        np.load(tmp_path / "latents.npz")
    assert utils.reason_of(error.value) == "no file of arrays"
