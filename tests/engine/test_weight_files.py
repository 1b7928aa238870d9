"""engine/weight_files: what is no checkpoint is called by its name; a file of a checkpoint stands for it."""
import json
import struct

import numpy as np
import pytest

from conftest import write_checkpoint
from engine import checkpoint_index, runs, weight_files
from tool import one_line, touch
from utils import UserError

SAFETENSORS = struct.pack("<Q", 40) + json.dumps({"a": {"dtype": "F32", "shape": [1]}}).encode()


@pytest.mark.parametrize("name, content, words", [
    ("saved/saved_model.pb", b"", "a SavedModel"), ("saved/saved_model.pbtxt", b"", "a SavedModel"),
    ("model.h5", b"", "an HDF5 file"), ("weights.bin", b"\x89HDF\r\n\x1a\n" + bytes(20), "an HDF5 file"),
    ("model.keras", b"PK", "a Keras model"), ("weights.zip", b"PK\x03\x04" + bytes(20), "a zip file"),
    ("model.safetensors", b"", "a safetensors file"), ("anything", SAFETENSORS, "a safetensors file"),
    ("model.onnx", b"", "an ONNX model"), ("model.tflite", b"", "a TensorFlow Lite model"),
    ("lite.bin", bytes(4) + b"TFL3" + bytes(8), "a TensorFlow Lite model"), ("model.pt", b"", "weights of PyTorch"),
    ("MODEL.PTH", b"", "weights of PyTorch"), ("arrays.npz", b"", "a file of arrays"),
    ("graph.meta", b"", "the graph of a checkpoint"), ("weights.tar", b"", "an archive; unpack it"),
    ("params.json", b"{}", "a file of JSON")])
def test_what_is_no_checkpoint_is_called_by_its_name(tmp_path, name, content, words):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    place = path.parent if path.parent.name == "saved" else path
    for find in (runs.find_run, runs.find_checkpoint):
        with pytest.raises(UserError) as error:
            find(str(tmp_path / "logs"), str(place))
        one_line(error, f" {place}: {words}")
    assert not runs.list_checkpoints(str(place)) and not runs.list_weights(str(place))


def test_a_folder_of_other_files_is_told(tmp_path):
    assert weight_files.describe(touch(tmp_path, "a.txt", "model.safetensors")) == \
        "holds model.safetensors, a safetensors file, "


@pytest.mark.parametrize("name", ["", "text", "missing", "link"])
def test_nothing_is_said_of_what_nobody_knows(tmp_path, name):
    (tmp_path / "text").write_text("words and more words")
    (tmp_path / "link").symlink_to("link")
    assert weight_files.describe(str(tmp_path / name)) == ""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run's folder, whose name has blanks and wildcards, with two checkpoints and all of their files."""
    folder = tmp_path_factory.mktemp("logs") / "my run [1] *?"
    for step in (20, 1200):
        write_checkpoint(folder / f"model.ckpt-{step}", {"a": np.float32(step)})
        touch(folder, f"model.ckpt-{step}.meta")
    touch(folder, "checkpoint", "params.json")
    (folder / "params.json").write_text("{}")
    return folder


@pytest.mark.parametrize("typed, found", [
    ("model.ckpt-1200", [1200]), ("model.ckpt-1200.index", [1200]), ("model.ckpt-1200.data-00000-of-00001", [1200]),
    ("model.ckpt-1200.meta", [1200]), ("model.ckpt-20.index", [20]), ("model.ckpt", [1200, 20]), ("", [1200, 20]),
    ("/", [1200, 20]), ("//", [1200, 20]), ("checkpoint", [1200, 20]), ("model.ckpt-1200/", [1200]),
    ("model.ckpt-3.index", []), ("params.json", [])])
def test_a_file_of_a_checkpoint_stands_for_it(run, typed, found):
    path = f"{run}/{typed}" if typed else str(run)
    assert [runs.step_of(prefix) for prefix in runs.list_checkpoints(path)] == found
    assert [runs.step_of(prefix) for prefix in runs.list_weights(path)] == found
    assert runs.folder_of(path).rstrip("/") == str(run)
    if found:
        assert runs.list_checkpoints(runs.find_checkpoint("nowhere", path)) == runs.list_checkpoints(path)
        assert runs.list_checkpoints(runs.find_checkpoint(str(run.parent), f"{run.name}/{typed}"))


@pytest.mark.parametrize("typed", ["", "/", "checkpoint", "model.ckpt", "model.ckpt-1200", "model.ckpt-1200.index",
                                   "model.ckpt-1200.data-00000-of-00001"])
def test_the_newest_checkpoint_stands_for_its_run(run, typed):
    for log_dir, path in ((str(run.parent), f"{run.name}/{typed}"), ("nowhere", f"{run}/{typed}")):
        assert runs.find_run(log_dir, path) == str(run)


def test_an_older_checkpoint_is_no_run(run):
    with pytest.raises(UserError) as error:
        runs.find_run("nowhere", f"{run}/model.ckpt-20.index")
    one_line(error, f"--load_path {run}/model.ckpt-20.index: not the newest checkpoint", f"--load_path {run}",
             "--pretrained_gen")
    assert runs.find_run("nowhere", f"{run}/model.ckpt-20.index", missing=None) is None


def test_a_checkpoint_of_objects_is_called_so(tmp_path):
    import tensorflow as tf
    tf1 = tf.compat.v1
    with tf.Graph().as_default(), tf1.Session() as session:
        variable = tf1.get_variable("a", initializer=np.zeros(3, np.float32), use_resource=True)
        session.run(variable.initializer)
        prefix = tf1.train.Checkpoint(net=variable).save(str(tmp_path / "ckpt"), session=session)
    with pytest.raises(UserError) as error:
        checkpoint_index.read_shapes([prefix], "--weights here")
    one_line(error, "--weights here: a checkpoint of tf.train.Checkpoint or Keras", "tf.compat.v1.train.Saver")
