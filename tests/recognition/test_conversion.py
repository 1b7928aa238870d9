"""recognition.conversion, recognition.iresnet: published residual networks give their numbers; others are refused."""
import json
import sys
import types

import numpy as np
import pytest
import tensorflow as tf

import iresnet_files
import preflight
import recognizer
import torch_files
from config import get_config
from drawn import write_dataset
from engine.checkpoints import set_values
from recognition import batch_norm, iresnet, networks, pretrained, registry
from recognition.conversion import iresnet_weights, onnx_file, published, torch_weights
from recognition.preprocessing import standardize
from recognition.registry import Architecture
from tool import call, one_line
from utils import UserError

tf1 = tf.compat.v1
PIXELS = np.random.default_rng(0).integers(0, 256, [2, 32, 32, 3])


@pytest.fixture(scope="module")
def state():
    """A narrow random iresnet18 for 32 x 32 pixels in arcface_torch's layout."""
    return iresnet_files.random_state()


def embed(folder, pixels=PIXELS, standardization="arcface"):
    """The embeddings of `pixels` by the converted checkpoint in `folder`."""
    weights = pretrained.read(str(folder), "--w")
    assert weights.standardization == standardization and weights.native == "arcface"
    with tf.Graph().as_default(), tf1.Session() as session:
        tf1.set_random_seed(1)
        images = tf1.placeholder(tf.float32, [None, *pixels.shape[1:]])
        embeddings = networks.embed(images, weights.architecture)[1]
        variables = tf1.global_variables()
        values = pretrained.values_for(weights, variables, "--w")
        set_values(session, {variable: values[variable.op.name] for variable in variables})
        return session.run(embeddings, {images: session.run(
            standardize(tf.constant(pixels, tf.float32), standardization))})


def wanted(state, pixels=PIXELS):
    """The embeddings of `pixels` by NumPy."""
    found = np.stack([iresnet_files.embed(state, each) for each in pixels])
    return found / np.linalg.norm(found, axis=1, keepdims=True)


# Networks

@pytest.mark.parametrize("model_def", ["iresnet18", "ir_se50"])
def test_a_block_equals_numpy(model_def):
    """Both kinds of blocks, at an odd size: where torch pads on all sides, SAME would not."""
    rng = np.random.default_rng(3)
    state = iresnet_files.random_state(model_def, 16, 32)
    images = rng.normal(0, 1, [1, 9, 9, 16])
    for block, channels, stride in (("layer1.1", 16, 1), ("layer2.0", 32, 2)):
        with tf.Graph().as_default(), tf1.Session() as session:
            tf1.set_random_seed(1)
            with tf1.variable_scope(f"a/{block.replace('.', '/')}"):
                result = iresnet._block(tf.constant(images, tf.float32), channels, stride, registry.STAGES[model_def])
            set_values(session, {variable: iresnet_weights.values_of(
                {name: state[name] for name in [iresnet_weights.name_of(variable.op.name)]},
                {variable.op.name: variable.shape.as_list()}, model_def, "x")[variable.op.name]
                for variable in tf1.global_variables()})
            got = session.run(result)[0]
        right = iresnet_files.apply_block(images[0].transpose(2, 0, 1), state, block, stride).transpose(1, 2, 0)
        assert got.shape == right.shape and np.abs(got - right).max() < 1e-5 * np.abs(right).max()


@pytest.mark.slow
@pytest.mark.parametrize("model_def", registry.STAGES)
def test_a_network_is_known_by_its_variables(model_def):
    size, width = 32, 1 / 16
    with tf.Graph().as_default():
        tf1.set_random_seed(1)
        asked = Architecture(model_def, 8, "teacher", width)
        bottleneck, _ = networks.embed(tf1.placeholder(tf.float32, [None, size, size, 3]), asked)
        assert bottleneck.shape.as_list() == [None, 8]
        shapes = {variable.op.name: variable.shape.as_list() for variable in tf1.global_variables()}
        assert registry.architecture_in(shapes, "teacher") == asked._replace(cells=2)
        trained = {variable.op.name for variable in networks.trained_variables("teacher")}
    assert shapes.keys() - trained == {name for name in shapes if "/moving_" in name} | {"teacher/features/gamma"}


@pytest.mark.slow
def test_the_statistics_of_a_batch_are_those_of_each_batch_norm():
    with tf.Graph().as_default():
        tf1.set_random_seed(1)
        with batch_norm.batch_statistics() as updates:
            networks.embed(tf1.placeholder(tf.float32, [4, 32, 32, 3]), Architecture("iresnet18", 8, width=1 / 16))
        moving = {variable.op.name for variable in tf1.global_variables() if "/moving_" in variable.op.name}
        assert {variable.op.name for variable, _ in updates} == moving
    assert registry.CLASSIFIERS["iresnet18"].statistics_decay == .9


@pytest.mark.slow
@pytest.mark.parametrize("size, cells", [(32, 2), (64, 4), (96, 6), (100, 7), (112, 7)])
def test_rows_of_the_last_features(size, cells):
    with tf.Graph().as_default():
        tf1.set_random_seed(1)
        networks.embed(tf1.placeholder(tf.float32, [None, size, size, 3]), Architecture("iresnet18", 8, width=1 / 16))
        rows = next(variable.shape[0] for variable in tf1.global_variables() if "Bottleneck/w" in variable.op.name)
    assert registry.cells_of(size) == cells and rows == cells ** 2 * 32


# Files

def written_as(layout, state, path, monkeypatch):
    """Write `state` in a layout of published files -> the path, and the state whose network it is."""
    if layout == "npz":
        np.savez(path.with_suffix(".npz"), **state)
        return path.with_suffix(".npz"), state
    plain = {name: value for name, value in state.items() if "num_batches" not in name}
    if layout.startswith("onnx"):
        more = {"onnx": {}, "onnx unfolded": dict(unfolded=1e-5), "onnx float_data": dict(raw=False)}[layout]
        iresnet_files.write_onnx(path, plain, **more)
        return path, state
    if layout == "adaface":
        saved = {f"model.{name}": value for name, value in iresnet_files.numbered(state).items()}
        saved = {"epoch": 25, "state_dict": saved | {"head.kernel": np.ones([8, 5], np.float32)}, "callbacks": {}}
        lacking = {name for name in state if name.startswith(("layer1.0.downsample", "features.w", "features.b"))}
    elif layout == "numbered":
        saved, lacking = iresnet_files.numbered(state, adaface=False), {name for name in state if ".bn2." in name}
    else:
        saved, lacking = {f"module.{name}": value for name, value in state.items()}, set()
        saved = {"state_dict_backbone": saved, "global_step": 3} if layout == "training" else saved
    torch_files.save(path, saved, monkeypatch)
    own = {name: value for name, value in state.items() if name not in lacking}
    if layout == "adaface":         # its network sees blue, green, red
        own |= {"conv1.weight": state["conv1.weight"][:, ::-1], "features.weight": np.ones(8)}
        own |= {"features.bias": np.zeros(8)}
    return path, own


@pytest.mark.parametrize("layout", ["onnx", "onnx unfolded", "onnx float_data", "pth", "training", "adaface", "npz"])
def test_a_published_file_is_understood(state, tmp_path, monkeypatch, layout):
    """Its arrays under arcface_torch's names are those of the same network, by NumPy."""
    path, own = written_as(layout, state, tmp_path / "weights", monkeypatch)
    weights = published.read(str(path))
    assert weights[:3] == (Architecture("iresnet18", 8, width=1 / 16, cells=2), 32, "arcface")
    assert np.abs(wanted(weights.state) - wanted(own)).max() < 1e-5


@pytest.mark.parametrize("layout, model_def", [
    ("numbered", "ir_se50"), ("pth", "ir_se50"), ("onnx", "iresnet50"), ("adaface", "iresnet50"), ("pth", "iresnet34"),
    ("onnx", "iresnet100"), ("adaface", "iresnet100")])
def test_larger_published_networks_are_understood(tmp_path, monkeypatch, layout, model_def):
    path, own = written_as(layout, iresnet_files.random_state(model_def), tmp_path / "weights", monkeypatch)
    weights = published.read(str(path))
    assert weights.architecture.model_def == model_def
    assert np.abs(wanted(weights.state, PIXELS[:1]) - wanted(own, PIXELS[:1])).max() < 1e-5


def test_a_converted_file_gives_its_embeddings(state, tmp_path, monkeypatch):
    path, own = written_as("adaface", state, tmp_path / "weights", monkeypatch)
    pretrained.write_converted(published.read(str(path)), str(tmp_path / "out"))
    assert np.abs(embed(tmp_path / "out") - wanted(own)).max() < 1e-5


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("layout, model_def", [("numbered", "ir_se50"), ("onnx", "iresnet50")])
def test_larger_converted_files_give_their_embeddings(tmp_path, monkeypatch, layout, model_def):
    path, own = written_as(layout, iresnet_files.random_state(model_def), tmp_path / "weights", monkeypatch)
    pretrained.write_converted(published.read(str(path)), str(tmp_path / "out"))
    assert np.abs(embed(tmp_path / "out") - wanted(own)).max() < 1e-5


def test_colours_are_put_in_order(state, tmp_path):
    """A network that sees blue, green, red gives for mirrored colours what it was trained to."""
    np.savez(tmp_path / "a.npz", **state)
    weights = published.read(str(tmp_path / "a.npz"), "bgr")
    assert np.abs(wanted(weights.state, PIXELS[..., ::-1]) - wanted(state)).max() < 1e-5


@pytest.mark.parametrize("sub_mul, standardization", [((127.5, 1 / 127.5), "arcface"), ((127.5, 1 / 128), "fixed")])
def test_a_graph_that_standardises_says_how(state, tmp_path, sub_mul, standardization):
    iresnet_files.write_onnx(tmp_path / "a.onnx", state, sub_mul=sub_mul)
    assert published.read(str(tmp_path / "a.onnx")).standardization == standardization


def test_another_epsilon_is_kept(state, tmp_path):
    iresnet_files.write_onnx(tmp_path / "a.onnx", state, unfolded=2e-5)
    found = published.read(str(tmp_path / "a.onnx")).state
    assert np.allclose(found["bn2.running_var"], state["bn2.running_var"] + 1e-5, rtol=0, atol=1e-7)


# Other files

def change(kind, number, edit):
    """An `edit` for write_onnx that changes the node of this kind with this number, from 0."""
    seen = []

    def apply(name, inputs, attributes):
        seen.extend([name] * (name == kind))
        return edit(inputs, attributes) if name == kind and len(seen) == number + 1 else None
    return apply


LATER = ["input.1", "later"]
OTHERS = [          # how a graph differs, and what the line names
    (change("PRelu", 2, lambda inputs, how: ("Relu", inputs[:1])), "as layer1.1.prelu, PRelu was expected"),
    (change("Conv", 0, lambda inputs, how: how.update(strides=[2, 2])), "has strides [2, 2], and [1, 1] was expected"),
    (change("Conv", 5, lambda inputs, how: how.update(group=4)), "has group 4, and 1 was expected"),
    (change("Add", 0, lambda inputs, how: ("Mul", inputs)), "after layer1.0.bn3, Add was expected, and there is Mul"),
    (change("Gemm", 0, lambda inputs, how: how.update(alpha=.5)), "an alpha, a beta or a transA"),
    (change("Flatten", 0, lambda inputs, how: ("GlobalAveragePool", inputs)), "after bn2, Flatten or Reshape"),
    (change("BatchNormalization", 0, lambda inputs, how: ("Add", inputs[:2])), "in layer1.0, a BatchNormalization"),
    (change("PRelu", 0, lambda inputs, how: ("PRelu", LATER)), "uses what no node before it makes")]


@pytest.mark.parametrize("edit, named", OTHERS, ids=[row[1] for row in OTHERS])
def test_an_onnx_file_of_another_model_says_where_it_differs(state, tmp_path, edit, named):
    iresnet_files.write_onnx(tmp_path / "a.onnx", state, edit=edit)
    with pytest.raises(UserError, match="not an iresnet of InsightFace") as error:
        published.read(str(tmp_path / "a.onnx"))
    one_line(error, "--input", "a.onnx", named)


def shapes_of(state):
    """{name: shape} of our variables for the network of `state` in arcface_torch's layout."""
    norm = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
    found = {}
    for name, value in state.items():
        layer, _, array = name.rpartition(".")
        shape, other = list(value.shape), "slopes" if "prelu" in layer else "weights" if array == "weight" else "biases"
        leaf = norm.get(array) if f"{layer}.running_var" in state else other
        if leaf:
            layer = "Bottleneck" if layer == "fc" else layer.replace(".", "/")
            found[f"a/{layer}/{leaf}"] = shape[2:] + shape[:2][::-1] if leaf == "weights" else shape
    return found


WRONG = [           # how a state differs, and what the line names
    (lambda state: state.pop("layer2.1.bn3.running_var"), ["layer2.1.bn3.running_var is not there"]),
    (lambda state: state.update({"layer1.0.prelu.weight": np.zeros(1)}), ["prelu.weight is [1] there, [4] here"]),
    (lambda state: state.update({"layer1.0.se.weight": np.zeros(1)}), ["layer1.0.se.weight has no place in it"]),
    (lambda state: [state.pop(f"layer3.1.{each}.weight") for each in ("bn1", "conv2", "prelu", "bn3")],
     ["layer3.1.bn1.weight", "(and 1 more)"])]


@pytest.mark.parametrize("edit, named", WRONG, ids=[row[1][0] for row in WRONG])
def test_wrong_state_dicts_say_which_layers_differ(state, tmp_path, edit, named):
    shapes, wrong = shapes_of(state), dict(state)
    edit(wrong)
    np.savez(tmp_path / "a.npz", **wrong)
    with pytest.raises(UserError, match="not weights of iresnet18") as error:
        published.read(str(tmp_path / "a.npz")).values_of(shapes)
    one_line(error, "a.npz", *named)


@pytest.mark.parametrize("edit, named", [
    (lambda state: state.pop("layer3.1.conv1.weight"), "four stages have 2, 2, 1, 2 blocks"),
    (lambda state: state.pop("fc.weight"), "conv1.weight or fc.weight"),
    (lambda state: state.update({"fc.weight": np.zeros([8, 32])}), "for images of 16 pixels"),
    (lambda state: state.update({"fc.weight": np.zeros([8, 9])}), "for no size of images"),
    (lambda state: state.pop("conv1.weight"), "conv1.weight and input_layer.0.weight are not there")])
def test_state_dicts_of_other_networks_are_refused(state, tmp_path, edit, named):
    wrong = dict(state)
    edit(wrong)
    np.savez(tmp_path / "a.npz", **wrong)
    with pytest.raises(UserError) as error:
        published.read(str(tmp_path / "a.npz"))
    one_line(error, "a.npz", named)


@pytest.mark.parametrize("content", [b"", b"\x08\x06", b"\x08\x06\x3a\xff\xff\xff\xff\x7f", b"\x08" + b"\xff" * 20,
                                     b"<html>", b"\x08\x06\x3a\x02\x0a\x01"])
def test_damaged_onnx_files_are_refused(tmp_path, content):
    (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(UserError, match=r"^--input .*a\.onnx: can't be read as an ONNX model") as error:
        published.read(str(tmp_path / "a.onnx"))
    one_line(error, "a.onnx")


def test_a_file_that_is_cut_short_is_refused(state, tmp_path):
    iresnet_files.write_onnx(tmp_path / "a.onnx", state)
    content = (tmp_path / "a.onnx").read_bytes()
    for end in range(1, len(content), len(content) // 40):
        (tmp_path / "cut.onnx").write_bytes(content[:end])
        with pytest.raises(UserError) as error:
            published.read(str(tmp_path / "cut.onnx"))
        one_line(error, "cut.onnx")


@pytest.mark.parametrize("fields, named", [
    ({1: [3], 2: 1, 8: "w", 14: 1}, "w lie in another file"), ({1: [3], 2: 16, 8: "w"}, "type 16"),
    ({1: [3], 2: 1, 8: "w", 9: bytes(8)}, "w has 2 numbers"), ({1: [-3], 2: 1, 8: "w"}, "w has no valid shape")])
def test_odd_tensors_are_refused(tmp_path, fields, named):
    content = b"".join(iresnet_files.field(*each) for each in fields.items())
    (tmp_path / "a.onnx").write_bytes(iresnet_files.field(7, iresnet_files.field(5, content)))
    with pytest.raises(UserError, match=r"^--input .*a\.onnx: can't be read as an ONNX model") as error:
        onnx_file.read(str(tmp_path / "a.onnx"))
    one_line(error, named)


@pytest.mark.parametrize("dtype, packed", [("<f2", None), ("<f8", None), ("<i8", None)])
def test_tensors_of_other_types_are_read(dtype, packed):
    array = np.arange(6).reshape(2, 3).astype(dtype)
    name, found = onnx_file._read_tensor(memoryview(iresnet_files.tensor("w", array)))
    assert name == "w" and found.dtype == dtype and np.array_equal(found, array)


# What a training saves besides

class Callback:
    """Stands for an object of a package that this project does not have."""


def test_what_lightning_saves_besides_is_passed_over(state, tmp_path, monkeypatch):
    """Objects are neither made nor called; another module's are refused, as ever."""
    module = types.ModuleType("pytorch_lightning.callbacks")
    monkeypatch.setitem(sys.modules, "pytorch_lightning", types.ModuleType("pytorch_lightning"))
    monkeypatch.setitem(sys.modules, "pytorch_lightning.callbacks", module)
    module.Checkpoint = type("Checkpoint", (Callback, dict), {"__module__": module.__name__})
    saved = module.Checkpoint(best=1)
    saved.path = "a"
    torch_files.save(tmp_path / "a.ckpt", {"callbacks": {module.Checkpoint: saved}, "state_dict": state}, monkeypatch)
    module.Checkpoint.__setitem__ = module.Checkpoint.__init__ = None
    assert torch_weights.read(str(tmp_path / "a.ckpt")).keys() == state.keys()
    module.Checkpoint.__module__ = "other"
    monkeypatch.setitem(sys.modules, "other", module)
    torch_files.save(tmp_path / "b.ckpt", {"callbacks": module.Checkpoint, "state_dict": state}, monkeypatch)
    with pytest.raises(UserError, match=r"other\.Checkpoint in it is no part of a state dict"):
        torch_weights.read(str(tmp_path / "b.ckpt"))


# Commands

def test_a_converted_network_is_verified_and_refused_at_another_size(state, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_dataset(".", size=36, identities=4, per_identity=3, photos=1, pairs=1)
    iresnet_files.write_onnx(tmp_path / "a.onnx", state)
    done = call(recognizer, "convert", "--input", "a.onnx", "--output", "out")
    assert done.status == 0 and done.out.startswith("converted: out/model.ckpt-0")
    assert "--model_def iresnet18 --embedding_size 8 --image_size 32" in done.err
    verify = ["verify", "--weights", "out", "--images", "syn", "--pairs_per_fold", "2", "--nrof_folds", "2"]
    done = call(recognizer, *verify)
    assert done.status == 0 and json.loads((tmp_path / "verification" / "verification.json").read_text())["options"][
        "image_size"] == 32
    done = call(recognizer, *verify, "--image_size", "64")
    assert done.status == 2 and "--image_size 64: these weights are for --image_size 32; give that" in done.err


def test_main_takes_width_and_size_from_the_weights(state, tmp_path):
    np.savez(tmp_path / "a.npz", **state)
    pretrained.write_converted(published.read(str(tmp_path / "a.npz")), str(tmp_path / "out"))
    config, _ = get_config(["--pretrained_rec", str(tmp_path / "out")])
    assert (config.model_def, config.embedding_size, config.image_size) == ("iresnet18", 8, 32)
    weights = pretrained.read_for(config)
    assert weights.architecture == pretrained.architecture_for(config) == preflight.check_classifier(config)
    assert weights.architecture.width == 1 / 16 and pretrained.view_for(config, weights).standardization == "arcface"
    config.image_size = 64
    with pytest.raises(UserError, match="--image_size 64: these weights are for --image_size 32"):
        preflight.check_classifier(config)


@pytest.mark.parametrize("words, named", [
    (["--model_def", "small", "--width", ".5"], "--width 0.5: must be 1 for --model_def small"),
    (["--model_def", "iresnet18", "--width", ".3"], "multiple of 1/64")])
def test_widths_that_cannot_be(words, named):
    done = call(recognizer, "train", "--real", "real", *words)
    assert done.status == 2 and named in done.err
