"""recognition.pretrained, conversion.torch_weights: published weights load, give their numbers, are never trusted."""
import collections
import json
import os
import pickle
import shutil
import zipfile

import numpy as np
import pytest
import tensorflow as tf

import torch_files
from conftest import HERE, small_classifier, write_checkpoint
from engine.checkpoints import assign, set_values
from recognition import networks, pretrained, registry
from recognition.conversion import torch_weights
from recognition.conversion.published import of_facenet
from recognition.preprocessing import standardize
from recognition.registry import Architecture
from utils import UserError

tf1 = tf.compat.v1


def published(embedding_size):
    """{name: array} of FaceNet's Inception-ResNet-v1, by the name list of 20170511, whose softmax head is cut short."""
    rng = np.random.default_rng(1)
    with open(HERE / "golden" / "facenet_20170511_variables.json") as file:
        shapes = dict(json.load(file)["variables"])
    shapes["InceptionResnetV1/Bottleneck/weights"][1] = embedding_size
    for name in shapes:
        if name.startswith("InceptionResnetV1/Bottleneck/BatchNorm"):
            shapes[name] = [embedding_size]
    shapes.update({"Logits/weights": [embedding_size, 5], "Logits/biases": [5]})
    values = {name: rng.standard_normal(shape, np.float32) * np.float32(.05) for name, shape in shapes.items()}
    return {name: np.abs(value) + 1 if name.endswith("variance") else value for name, value in values.items()}


def write_frozen(path, values):
    """Write {name: array} as a frozen graph: constants, with operations that use them."""
    with tf.Graph().as_default() as graph:
        for name, value in values.items():
            tf.identity(tf1.constant(value, name=name), name=name + "/read")
        path.write_bytes(graph.as_graph_def().SerializeToString())


@pytest.fixture(scope="module")
def releases(tmp_path_factory):
    """Folders as FaceNet published them: 20170511-185253 with a checkpoint, 20180402-114759 with a frozen graph."""
    root = tmp_path_factory.mktemp("releases")
    values = {128: published(128), 512: published(512)}
    for name in ("20170511-185253", "20180402-114759"):
        (root / name).mkdir()
    average = {"InceptionResnetV1/Bottleneck/weights/ExponentialMovingAverage": np.zeros([1792, 128], np.float32)}
    write_checkpoint(root / "20170511-185253" / "model-20170511-185253.ckpt-80000", values[128] | average)
    write_frozen(root / "20180402-114759" / "20180402-114759.pb", values[512])
    return root, values


def network(model_def, embedding_size, size=80):
    """Placeholder, embeddings and variables of a classifier in the current graph."""
    tf1.set_random_seed(1)                  # deterministic operations insist on seeds
    images = tf1.placeholder(tf.float32, [None, size, size, 3])
    return images, networks.embed(images, Architecture(model_def, embedding_size))[1], tf1.global_variables()


def what(path):
    """(model_def, embedding_size, standardization) of the weights at `path`."""
    weights = pretrained.read(str(path), "--w")
    return (*weights.architecture[:2], weights.standardization)


def values_at(path, variables):
    """The values {name: array} of `variables` in the weights at `path`."""
    return pretrained.values_for(pretrained.read(str(path), "--w"), variables, "--w")


# Published files

@pytest.mark.slow
@pytest.mark.parametrize("path, embedding_size, standardization", [
    ("20170511-185253", 128, "image"), ("20170511-185253/model-20170511-185253.ckpt-80000", 128, "image"),
    ("20180402-114759", 512, "fixed"), ("20180402-114759/20180402-114759.pb", 512, "fixed")])
def test_published_weights_load(releases, path, embedding_size, standardization):
    """The raw weights, as FaceNet takes them, though averages are there."""
    root, values = releases
    assert what(root / path) == ("inception_resnet_v1", embedding_size, standardization)
    with tf.Graph().as_default():
        found = values_at(root / path, network("inception_resnet_v1", embedding_size)[2])
    names = [name for name in values[embedding_size] if not name.startswith("Logits")]
    assert sorted(found) == sorted(names)
    assert all(np.array_equal(found[name], values[embedding_size][name]) for name in names)


@pytest.mark.long
@pytest.mark.slow
def test_another_network_is_named(releases):
    root, _ = releases
    with tf.Graph().as_default(), pytest.raises(UserError) as error:
        values_at(root / "20180402-114759", network("inception_resnet_v1", 128)[2])
    said = str(error.value)
    assert said.startswith("--w ") and "holds --model_def inception_resnet_v1 --embedding_size 512" in said
    assert "InceptionResnetV1/Bottleneck/weights is [1792, 512] there, [1792, 128] here" in said
    assert "(and 1 more)" in said
    with tf.Graph().as_default(), pytest.raises(UserError, match=r"conv1_7x7/weights is not there.* \(and \d+ more\)$"):
        values_at(root / "20170511-185253", network("nn4", 128)[2])


@pytest.mark.parametrize("folder, others, standardization", [
    ("models", {}, "image"), ("20180408-102900", {}, "fixed"), ("20180402", {registry.STEP: np.int32(1)}, "image"),
    ("20180408-102900/mine", {}, "image"), ("models", {registry.FIXED: np.array(True)}, "fixed"),
    ("20180408", {registry.FIXED: np.array(False)}, "image")])
def test_standardization_follows_from_the_weights(tmp_path, folder, others, standardization):
    """What recognizer.py wrote says it itself; a folder's name counts for others."""
    (tmp_path / folder).mkdir(parents=True)
    write_checkpoint(tmp_path / folder / "model-1.ckpt-3", small_classifier() | others)
    assert what(tmp_path / folder) == ("small", 16, standardization)


def test_unknown_and_broken_files(tmp_path):
    write_checkpoint(tmp_path / "alien-1", {"a": np.zeros(3, np.float32)})
    assert pretrained.read(str(tmp_path / "alien"), "--w").architecture is None
    for name, content in (("broken.pb", b"\xff\xfe broken"), ("text.ckpt", b"text")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=f"^--w .*{name}: no weights there that can be read"):
            pretrained.read(str(tmp_path / name), "--w")
    with pytest.raises(UserError, match=r"^--w .*nowhere: no weights"):
        pretrained.read(str(tmp_path / "nowhere"), "--w")


def test_averages_are_taken_of_our_own_alone(tmp_path):
    values = small_classifier()
    averages = {name + "/ExponentialMovingAverage": value + 1 for name, value in values.items()}
    ours = write_checkpoint(tmp_path / "ours-1", values | averages | {registry.STEP: np.int32(1)})
    theirs = write_checkpoint(tmp_path / "theirs-1", values | averages)
    with tf.Graph().as_default():
        variables = network("small", 16)[2]
        for path, more in ((ours, 1), (theirs, 0)):
            found = values_at(path, variables)
            assert all(np.array_equal(found[name], values[name] + np.float32(more)) for name in values)


# facenet-pytorch

@pytest.fixture(scope="module")
def state():
    """A random InceptionResnetV1 in facenet-pytorch's layout."""
    return torch_files.random_state()


@pytest.mark.parametrize("written", ["zip", "legacy", "npz"])
def test_state_dicts_are_read(state, tmp_path, monkeypatch, written):
    path = str(tmp_path / f"weights.{'npz' if written == 'npz' else 'pt'}")
    if written == "npz":
        np.savez(path, **state)
    else:
        ordered = collections.OrderedDict(state)
        ordered._metadata = collections.OrderedDict([("", {"version": 1})])             # as torch's state dicts have
        torch_files.save(path, ordered, monkeypatch, legacy=written == "legacy")
    read = torch_weights.read(path)
    assert read.keys() == state.keys() and all(np.array_equal(read[name], state[name]) for name in state)


@pytest.mark.slow
def test_converted_weights_give_the_same_embeddings(state, tmp_path):
    """Against the network computed by NumPy from facenet-pytorch's own layout; batch norm with weights of its own."""
    prefix = pretrained.write_converted(of_facenet(state, "a.pt"), str(tmp_path))
    assert what(tmp_path) == ("inception_resnet_v1", 512, "fixed")
    pixels = np.random.default_rng(0).integers(0, 256, [1, 80, 80, 3])
    with tf.Graph().as_default(), tf1.Session() as session:
        images, embeddings, variables = network("inception_resnet_v1", 512)
        values = values_at(prefix, variables)
        set_values(session, {v: values[v.op.name] for v in variables})
        got = session.run(embeddings, {images: standardize(pixels.astype(np.float32), "fixed")})
    assert np.abs(got[0] - torch_files.embed(state, pixels[0])).max() < 1e-5
    head = tf.train.load_checkpoint(prefix)
    assert np.array_equal(head.get_tensor("Logits/weights"), state["logits.weight"].T)
    assert np.array_equal(head.get_tensor("Logits/biases"), state["logits.bias"])


def test_other_state_dicts_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"^--input a\.pt: not .*conv2d_1a.bn.bias.* not there \(and \d+ more\)$"):
        pretrained.write_converted(of_facenet({"a": np.zeros(3, np.float32)}, "a.pt"), str(tmp_path))
    assert not list(tmp_path.iterdir())


class Evil:
    def __reduce__(self):
        return os.system, ("touch evil",)


@pytest.mark.parametrize("value", [Evil(), {"a": Evil()}, [1], {"a": 1}, collections.Counter("a"), {"a": print}])
def test_a_pickle_can_do_nothing_else(tmp_path, monkeypatch, value):
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile("zip.pt", "w") as archive:
        archive.writestr("model/data.pkl", pickle.dumps(value, protocol=2))
    with open("legacy.pt", "wb") as file:
        pickle.dump(value, file, protocol=2)
    for name in ("zip.pt", "legacy.pt"):
        with pytest.raises(UserError, match=f"^--input {name}: can't be read as weights of torch") as error:
            torch_weights.read(name)
        assert "\n" not in str(error.value)
    assert not os.path.exists("evil")


def edit_graph(path, edit):
    """Write a frozen graph of two constants that `edit` has changed."""
    write_frozen(path, {"a/weights": np.ones([2, 3], np.float32), "b/weights": np.zeros(3, np.float32)})
    graph = tf1.GraphDef.FromString(path.read_bytes())
    edit(next(node for node in graph.node if node.op == "Const"))
    path.write_bytes(graph.SerializeToString())


GRAPHS = {"empty": lambda path: path.write_bytes(b""), "text": lambda path: path.write_bytes(b"no graph at all\n" * 9),
          "pipe": lambda path: os.mkfifo(path), "folder": lambda path: path.mkdir(),
          "cut": lambda path: edit_graph(path, lambda node: None) or path.write_bytes(path.read_bytes()[:-50]),
          "odd type": lambda path: edit_graph(path, lambda node: setattr(node.attr["value"].tensor, "dtype", 120)),
          "short": lambda path: edit_graph(path, lambda node: setattr(
              node.attr["value"].tensor, "tensor_content", b"1234567"))}


@pytest.mark.parametrize("damage", GRAPHS)
def test_damaged_graphs_are_refused(tmp_path, damage):
    GRAPHS[damage](tmp_path / "a.pb")
    for path in (tmp_path / "a.pb", tmp_path):
        with pytest.raises(UserError, match="no weights there that can be read") as error:
            pretrained.read(str(path), "--weights")
        assert "\n" not in str(error.value)


def test_a_constant_without_a_type_is_left_out(tmp_path):
    edit_graph(tmp_path / "a.pb", lambda node: node.attr["value"].tensor.ClearField("dtype"))
    assert list(pretrained.read(str(tmp_path / "a.pb"), "--weights").values) == ["b/weights"]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(tmp_path, value):
    values = small_classifier()
    values["InceptionResnetV1/Conv2d_3/weights"][0, 0, 0, 0] = value
    write_frozen(tmp_path / "a.pb", values)
    weights = pretrained.read(str(tmp_path / "a.pb"), "--weights")
    with tf.Graph().as_default(), tf1.Session() as session:
        network("small", 16)
        variables = tf1.global_variables()
        with pytest.raises(UserError, match=r"Conv2d_3/weights holds NaN or infinity; name another checkpoint"):
            assign(session, variables, pretrained.values_for(weights, variables, "--weights"), weights.source)


def test_a_checkpoint_in_a_folder_whose_name_is_not_utf_8_is_read(tmp_path):
    prefix = write_checkpoint(tmp_path / "model.ckpt-1", small_classifier())
    folder = tmp_path / "\udcff"
    folder.mkdir()
    for path in tmp_path.glob("model.ckpt-1.*"):
        path.rename(folder / path.name)
    assert pretrained.read(str(folder), "--weights").architecture.model_def == "small" and prefix


@pytest.mark.parametrize("size, stride", [((10 ** 6, 10 ** 6), (0, 0)), ((3, 3), (0, 1)), ((10 ** 20,), (0,))])
def test_no_tensor_is_larger_than_its_storage(size, stride):
    with pytest.raises(ValueError, match="beyond"):
        torch_weights._rebuild_tensor(np.zeros(5), 0, size, stride)


@pytest.mark.parametrize("name, content", [
    ("a.npz", b""), ("a.pt", b""), ("a.pt", b"PK\3\4"), ("a.npz", b"\x80\x04cos\nsystem\n(S'touch evil'\ntR."),
    ("a.npz", None), ("a.pt", None), ("a.pt", b"\x80\x02" + b"(" * 10 ** 6), ("a.npz", np.array([{}])),
    ("a.npz", np.float32([np.nan]))])
def test_other_files_are_no_weights_of_torch(tmp_path, monkeypatch, name, content):
    monkeypatch.chdir(tmp_path)
    if content is None:
        os.mkfifo(name)
    elif isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    else:
        np.savez(name, a=content)
    with pytest.raises(UserError, match=f"^--input {name}: can't be read as weights of torch") as error:
        torch_weights.read(name)
    assert "\n" not in str(error.value) and not os.path.exists("evil")


def test_damaged_files_are_refused(tmp_path, monkeypatch):
    good = {"a": np.arange(6, dtype=np.float32).reshape(2, 3)}
    for legacy in (False, True):
        path = tmp_path / f"{legacy}.pt"
        torch_files.save(path, good, monkeypatch, legacy)
        assert np.array_equal(torch_weights.read(str(path))["a"], good["a"])
        path.write_bytes(path.read_bytes()[:-12])
        with pytest.raises(UserError):
            torch_weights.read(str(path))
    with pytest.raises(UserError, match="nowhere"):
        torch_weights.read(str(tmp_path / "nowhere"))
    shutil.copy(HERE / "golden" / "units.npz", tmp_path / "state.npz")
    with pytest.raises(UserError, match="not there"):
        pretrained.write_converted(of_facenet(torch_weights.read(str(tmp_path / "state.npz")), "state.npz"),
                                   str(tmp_path / "out"))
    with pytest.raises(ValueError, match="beyond"):
        torch_weights._rebuild_tensor(np.zeros(5), 0, (2, 3), (3, 1))
    with pytest.raises(ValueError, match="sense"):
        torch_weights._rebuild_tensor(np.zeros(5), 0, (2,), (-1,))
