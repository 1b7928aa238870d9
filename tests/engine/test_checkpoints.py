"""engine/checkpoints on disk: whole or not there, the newest whole one found, a full disk. See also test_assign.py."""
import contextlib
import errno
import os
import resource
import shutil
import subprocess
import sys
from collections import namedtuple

import numpy as np
import pytest
import tensorflow as tf

import utils
from conftest import write_checkpoint
from engine import runs
from engine.checkpoints import NAME, read, read_newest, save, set_values
from utils import UserError

tf1 = tf.compat.v1
SHAPES = {"net/w": [40, 5], "net/w/Adam": [40, 5], "net/w/ExponentialMovingAverage": [40, 5], "net/b": [3], "step": []}
DATA, INDEX = ".data-00000-of-00001", ".index"


def value_of(name, number):
    """What the variable `name` is worth at step `number`."""
    return np.random.default_rng([number, *name.encode()]).normal(size=SHAPES[name]).astype(np.float32)


class Model:
    """A session with the variables of SHAPES, and a saver of them."""

    def __init__(self):
        with tf.Graph().as_default() as graph:
            self.variables = [tf1.get_variable(name, shape, initializer=tf1.zeros_initializer(), use_resource=True)
                              for name, shape in SHAPES.items()]
            self.saver = tf1.train.Saver(self.variables, max_to_keep=None)
            self.session = tf1.Session(graph=graph)

    def fill(self, number):
        set_values(self.session, {v: value_of(v.op.name, number) for v in self.variables})

    def save(self, folder, step, **options):
        self.fill(step)
        return save(self.session, self.saver, str(folder), step, **options)


@pytest.fixture(scope="module")
def model():
    model = Model()
    yield model
    model.session.close()


@pytest.fixture
def two(model, tmp_path):
    """A run directory with checkpoints of steps 10 and 20."""
    for step in (10, 20):
        model.save(tmp_path, step)
    return tmp_path


def steps(folder):
    return [runs.step_of(prefix) for prefix in runs.list_checkpoints(str(folder))]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "checkpoint"}


def newest(path):
    """The step of the newest whole checkpoint, every value of which is checked."""
    prefix, values = read_newest(str(path), list(SHAPES))
    step = runs.step_of(prefix)
    assert values.keys() == SHAPES.keys()
    assert all(np.array_equal(value, value_of(name, step)) for name, value in values.items())
    return step


# Which are there

@pytest.mark.parametrize("options, kept", [
    ({}, [100, 20]), (dict(keep=1), [100]), (dict(keep_every=10), [100, 20, 10]), (dict(keep_every=4), [100, 20, 8]),
    (dict(keep=3, keep_every=7), [100, 20, 10])])
def test_old_ones_go(model, tmp_path, options, kept):
    for step in (8, 9, 10, 20, 100):
        prefix = model.save(tmp_path, step, **options)
        assert prefix == str(tmp_path / f"{NAME}-{step}") == runs.list_checkpoints(str(tmp_path))[0]
    assert steps(tmp_path) == kept
    assert contents(tmp_path).keys() == {f"{NAME}-{step}{part}" for step in kept for part in (INDEX, DATA)}
    assert tf.train.latest_checkpoint(str(tmp_path)) == prefix


def test_newest_is_that_of_the_highest_step(model, tmp_path):
    for step in (100, 9, 20):
        model.save(tmp_path, step, keep=9)
    assert steps(tmp_path) == [100, 20, 9] and newest(tmp_path) == newest(tmp_path / NAME) == 100
    assert newest(tmp_path / f"{NAME}-9") == 9


def test_left_over_temporary_files_are_no_checkpoint(two):
    for part in (INDEX, DATA):
        shutil.copy(two / f"{NAME}-20{part}", two / f".tmp-{NAME}-30{part}")
    assert steps(two) == [20, 10] and newest(two) == 20
    utils.clean_temporary(str(two))
    assert not list(two.glob(".tmp-*")) and newest(two) == 20


# Cut short, or damaged

def places(size):
    """Places below `size`: the first and last ten, and every 37th."""
    return sorted({*range(min(10, size)), *range(0, size, 37), *range(max(0, size - 10), size)})


@pytest.mark.parametrize("part", [DATA, INDEX])
def test_a_truncated_one_is_never_picked_up(two, part, caplog):
    path = two / f"{NAME}-20{part}"
    whole = path.read_bytes()
    for length in places(len(whole)):
        path.write_bytes(whole[:length])
        caplog.clear()
        assert newest(two) == 10, length
        message, = caplog.messages
        assert f"{NAME}-20 is not a whole checkpoint (" in message and "\n" not in message
    path.unlink()
    assert newest(two) == 10


def test_a_changed_byte_is_found(two):
    path = two / f"{NAME}-20{DATA}"
    whole = path.read_bytes()
    for place in places(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1:])
        assert newest(two) == 10, place


def test_no_whole_one_at_all(two, tmp_path_factory):
    for path in two.glob("*.index"):
        path.write_bytes(b"")
    for folder in (two, tmp_path_factory.mktemp("empty"), two / "absent"):
        with pytest.raises(UserError, match=f"^{folder}: no checkpoint there; "):
            read_newest(str(folder), None)


# A full disk

@contextlib.contextmanager
def largest_file(size):
    """Files can't grow beyond `size` bytes: writing more fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def save_on_full_disks(folder):
    """Step 30 of a folder with `two`, while ever longer files fit and at last as many as need be."""
    model, before = Model(), contents(folder)
    for size in (0, 1, 100, 2000):
        message = f"{NAME}-30: can't write the checkpoint .*File too large"
        with largest_file(size), pytest.raises(UserError, match=message):
            model.save(folder, 30)
        assert contents(folder) == before and newest(folder) == 20, size
    model.save(folder, 30)


@pytest.mark.slow
def test_disk_full_while_saving(two):
    """In a process of its own: programs that other tests start meanwhile would inherit the limit."""
    code = ("import pathlib, sys, test_checkpoints; from engine.startup import start; start();"
            "test_checkpoints.save_on_full_disks(pathlib.Path(sys.argv[1]))")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.run([sys.executable, "-c", code, two], env=environment, capture_output=True, text=True)
    assert child.returncode == 0, child.stderr[-3000:]
    assert steps(two) == [30, 20] and newest(two) == 30


@pytest.mark.parametrize("done", [0, 1])
def test_disk_full_while_renaming(model, two, monkeypatch, done):
    """`done` renames work, the next one does not."""
    before, replace, calls = contents(two), os.replace, []

    def limited(source, target):
        calls.append(target)
        if len(calls) > done:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", limited)
    with pytest.raises(UserError, match="No space left on device"):
        model.save(two, 30)
    assert newest(two) == 20 and contents(two) == before


class SmallDisk:
    """A disk with room for `count` checkpoints of the model, beside other files."""

    def __init__(self, model, folder, count, monkeypatch):
        self.folder, self.save, self.size = folder, model.saver.save, sum(
            path.stat().st_size for path in folder.glob(f"{NAME}-10.*"))
        self.room = count * self.size
        monkeypatch.setattr(model.saver, "save", self.save_if_there_is_room)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("Usage", "free")(self.free))

    @property
    def free(self):
        return self.room - sum(path.stat().st_size for path in self.folder.glob("*model.ckpt-*"))

    def save_if_there_is_room(self, *arguments, **options):
        if self.free < self.size:
            raise tf.errors.ResourceExhaustedError(None, None, f"{arguments[1]}.data.tempstate12; No space left")
        self.save(*arguments, **options)


@pytest.mark.parametrize("room, keep_every", [(2.5, 0), (2.5, 20), (9, 0)])
def test_on_a_small_disk_the_oldest_checkpoint_makes_way(model, two, caplog, room, keep_every):
    with pytest.MonkeyPatch.context() as monkeypatch:
        SmallDisk(model, two, room, monkeypatch)
        model.save(two, 30, keep_every=keep_every)
    assert steps(two) == [30, 20] and ("model.ckpt-10 makes way" in caplog.text) == (room < 3)


@pytest.mark.parametrize("room, keep_every", [(1.5, 0), (2.5, 10)])
def test_none_makes_way_in_vain_or_that_is_to_be_kept(model, two, monkeypatch, room, keep_every):
    SmallDisk(model, two, room, monkeypatch)
    before = contents(two)
    with pytest.raises(UserError, match="the older ones are untouched") as end:
        model.save(two, 30, keep_every=keep_every)
    assert contents(two) == before and ".tmp-" not in str(end.value) and "\n" not in str(end.value)


def test_of_two_checkpoints_the_newer_one_has_to_be_whole_to_make_way(model, two, monkeypatch):
    disk = SmallDisk(model, two, 2.5, monkeypatch)
    data = two / f"{NAME}-20{DATA}"
    data.write_bytes(data.read_bytes()[:-5])
    disk.room -= 5
    with pytest.raises(UserError, match="No space left"):
        model.save(two, 30)
    assert steps(two) == [20, 10]


def test_the_first_checkpoint_on_a_full_disk(model, two, tmp_path_factory, monkeypatch):
    SmallDisk(model, two, 0, monkeypatch)
    with pytest.raises(UserError, match=r"can't write the checkpoint \(.*No space left\)$"):
        model.save(tmp_path_factory.mktemp("new"), 1)


def test_a_folder_may_have_letters_that_are_wildcards(tmp_path):
    folder = tmp_path / "runs [x] * ?"
    folder.mkdir()
    prefix = write_checkpoint(folder / "model.ckpt-3", {"step": np.int32(3)})
    assert read(prefix, None) == {"step": 3}
    assert read_newest(str(folder), ["step"]) == (prefix, {"step": 3})
