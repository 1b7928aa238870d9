"""recognition.facenet: names and shapes, input sizes, preprocessing against NumPy, numbers of the original's run."""
import functools
import json

import numpy as np
import pytest
import rule
import tensorflow as tf

from conftest import HERE
from engine.checkpoints import set_values
from engine.layers import Dropout
from recognition import batch_norm, facenet, networks
from recognition.input_size import offsets_of, shifts_of, View, window_for, window_of
from recognition.preprocessing import augment, preprocess, standardize
from recognition.registry import Architecture

GOLDEN = HERE / "golden"
tf1 = tf.compat.v1


@pytest.fixture(autouse=True)
def graph():
    """A graph of its own for each test, seeded: where the trainer is imported too, TensorFlow insists on seeds."""
    with tf.Graph().as_default() as graph:
        tf1.set_random_seed(1)
        yield graph


def listed(name):
    """[name, shape, ...] of each variable in a golden list."""
    return json.loads((GOLDEN / name).read_text())["variables"]


def placeholder(size=96):
    return tf1.placeholder(tf.float32, [None, size, size, 3])


def shapes():
    return {variable.op.name: variable.shape.as_list() for variable in tf1.global_variables()}


@functools.cache
def published(model_def, scope="InceptionResnetV1"):
    """A network of 128 outputs as it is published, built once -> (graph, images, bottleneck, embeddings)."""
    with tf.Graph().as_default() as graph:
        tf1.set_random_seed(1)
        images = placeholder()
        return graph, images, *networks.embed(images, Architecture(model_def, 128, scope))


def run_by_rule(fetches, feed):
    """Fetches with every variable at the goldens' value for its name."""
    variables = tf1.global_variables()
    with tf1.Session() as session:
        set_values(session, {v: rule.variable(v.op.name, v.shape) for v in variables})
        return session.run(fetches, feed)


def relative_error(got, wanted):
    return np.abs(got - wanted).max() / np.abs(wanted).max()


# Names and shapes

@pytest.mark.parametrize("scope", ["InceptionResnetV1", "teacher"])
@pytest.mark.parametrize("model_def, golden", [
    ("inception_resnet_v1", "facenet_20170511_variables.json"), ("nn4", "nn4_20171214_variables.json")])
def test_variables_are_the_published_ones(model_def, golden, scope):
    with published(model_def, scope)[0].as_default():
        assert shapes() == {name.replace("InceptionResnetV1", scope): shape for name, shape in listed(golden)
                            if name.startswith("InceptionResnetV1/")}


def test_variables_flags_and_order_are_the_originals():
    with published("inception_resnet_v1")[0].as_default():
        ours = [[v.op.name, v.shape.as_list(), v.trainable] for v in tf1.global_variables()]
    for name in ("variables_108.json", "variables_64.json"):
        assert ours == [row for row in listed(name) if row[0].startswith("InceptionResnetV1/")]


@pytest.mark.parametrize("model_def", facenet.NETWORKS)
def test_trained_variables_are_all_but_the_moving_statistics(model_def):
    networks.embed(placeholder(), Architecture(model_def, 8))
    networks.embed(placeholder(), Architecture("small", 8, "InceptionResnetV12"))
    trained = {v.op.name for v in networks.trained_variables("InceptionResnetV1")}
    kept = {name for name in shapes() if name.startswith("InceptionResnetV1/")} - trained
    assert {name.rsplit("/", 1)[1] for name in trained} <= {"weights", "biases", "beta", "gamma"}
    assert {name.rsplit("/", 1)[1] for name in kept} <= {"moving_mean", "moving_variance", "ExponentialMovingAverage"}


def test_small_is_small():
    networks.embed(placeholder(), Architecture("small", 512, "teacher"))
    assert sum(np.prod(shape) for shape in shapes().values()) < 1e6
    assert {name.rsplit("/", 2 if "BatchNorm" in name else 1)[0] for name in shapes()} == {
        *(f"teacher/Conv2d_{i}" for i in range(1, 6)), "teacher/Bottleneck"}


# Input sizes

@pytest.mark.slow
@pytest.mark.parametrize("model_def, refused, accepted", [
    ("inception_resnet_v1", [74], [75, 160]), ("nn4", [64, 97], [65, 96]), ("small", [31], [32, 33, 160])])
def test_input_sizes(model_def, refused, accepted):
    for size in refused:
        with pytest.raises(ValueError, match=f"^--image_size {size}: must be from .* for --model_def {model_def}$"):
            networks.embed(placeholder(size), Architecture(model_def, 8))
    for size in accepted:
        bottleneck, embeddings = networks.embed(placeholder(size), Architecture(model_def, 8))
        assert bottleneck.shape.as_list() == embeddings.shape.as_list() == [None, 8]


@pytest.mark.slow
@pytest.mark.parametrize("model_def, size", [("inception_resnet_v1", 74), ("nn4", 64), ("nn4", 97)])
def test_refused_sizes_have_no_output(model_def, size):
    """The networks themselves can't be built: the limits in `registry.CLASSIFIERS` are theirs."""
    with pytest.raises(ValueError):
        facenet.NETWORKS[model_def](placeholder(size))


# Preprocessing

def preprocess_numpy(x, input_size, top, left, window, flips):
    """Twin of `preprocess` in float64."""
    x = np.clip((x.astype(np.float64) + 1) * 127.5, 0, 255)[:, top:top + window, left:left + window]
    place = np.arange(input_size) * (window / input_size)       # of the first corner: TF1's convention
    low = place.astype(int)
    high, share = np.minimum(low + 1, window - 1), place - low
    x = x[:, low] * (1 - share)[:, None, None] + x[:, high] * share[:, None, None]
    x = x[:, :, low] * (1 - share)[:, None] + x[:, :, high] * share[:, None]
    x = np.where(np.reshape(flips, [-1, 1, 1, 1]), x[:, :, ::-1], x)
    axes = (1, 2, 3)
    return (x - x.mean(axes, keepdims=True)) / np.maximum(x.std(axes, keepdims=True), x[0].size ** -0.5)


@pytest.mark.parametrize("size, input_size, window, offset, flips", [
    (108, 96, 96, None, None), (108, 96, 96, (0, 12), [True, False]), (108, 160, 96, (5, 7), [False, True]),
    (96, 96, 85, None, [True, True]), (128, 96, 114, (14, 0), None), (64, 96, 64, None, [False, True]),
    (92, 96, 92, None, None), (16, 32, 16, None, None)])
def test_preprocess_equals_numpy(size, input_size, window, offset, flips):
    x = np.random.default_rng(size).uniform(-1.2, 1.2, [2, size, size, 3]).astype(np.float32)
    x[1] = 0
    x[1, size // 2, size // 2] = 1 / 255      # a deviation below the least that is divided by
    images = tf1.placeholder(tf.float32, [None, size, size, 3])
    result = preprocess(images, View(input_size), offset and tf.constant(offset), flips and tf.constant(flips))
    assert result.shape.as_list()[1:] == [input_size, input_size, 3]
    with tf1.Session() as session:
        got = session.run(result, {images: x})
    top, left = offset or [(size - window) // 2] * 2
    wanted = preprocess_numpy(x, input_size, top, left, window, flips or [False] * 2)
    assert all(relative_error(*images) < 1e-4 for images in zip(got, wanted))


def test_preprocess_keeps_gradients_of_an_even_image():
    images = tf1.placeholder(tf.float32, [None, 108, 108, 3])
    gradient, = tf.gradients(preprocess(images, View(96))[:, :48], images)
    with tf1.Session() as session:
        got = session.run(gradient, {images: np.zeros([1, 108, 108, 3])})
    assert np.isfinite(got).all() and np.abs(got).max() > 0
    assert not got[:, :6].any() and got[:, 6:102, 6:102].all()


# Embeddings

def test_golden_case_b():
    """The original's own run at 64 pixels: G's image to the standardised input, and that to the embeddings."""
    golden = np.load(GOLDEN / "B.npz")
    graph, images, *outputs = published("inception_resnet_v1")
    with graph.as_default():
        x = placeholder(64)
        standardised, bottleneck, embeddings = run_by_rule(
            (preprocess(x, View(96)), *outputs), {x: golden["img/x"], images: golden["img/C_input"]})
    assert relative_error(standardised, golden["img/C_input"]) < 1e-4
    assert relative_error(embeddings, golden["embeddings"]) < 1e-4
    assert np.allclose(embeddings, bottleneck / np.linalg.norm(bottleneck, axis=1, keepdims=True), atol=1e-6)


def test_nn4_convolution_equals_numpy():
    """Convolution, batch norm, bias, ReLU, in this order."""
    x = tf1.placeholder(tf.float32, [None, 2, 2, 3])
    with tf1.variable_scope("S"):
        y = facenet._nn4_conv(x, "c", 4, 1)
    rng = np.random.default_rng(0)
    variables = tf1.global_variables()
    values = [rng.uniform(0.5, 1.5, v.shape) for v in variables]
    images = rng.normal(0, 3, [2, 2, 2, 3])
    with tf1.Session() as session:
        set_values(session, dict(zip(variables, values)))
        got = session.run(y, {x: images})
    values = {v.op.name: value for v, value in zip(variables, values)}
    mean, variance = (values[f"S/c/batch_norm/S/c/batch_norm/moments/{m}/ExponentialMovingAverage"]
                      for m in ("Squeeze", "Squeeze_1"))
    wanted = (images @ values["S/c/weights"][0, 0] - mean) / np.sqrt(variance + 1e-3)
    wanted = wanted * values["S/c/batch_norm/batch_norm/gamma"] + values["S/c/batch_norm/batch_norm/beta"]
    wanted = np.maximum(wanted + values["S/c/biases"], 0)
    assert (got == 0).any() and relative_error(got, wanted) < 1e-5


@pytest.mark.parametrize("model_def", ["nn4", "small"])
def test_second_call_shares_the_variables(model_def):
    images = placeholder()
    first = networks.embed(images, Architecture(model_def, 8))[1]
    variables = tf1.global_variables()
    second = networks.embed(images, Architecture(model_def, 8))[1]
    assert tf1.global_variables() == variables
    with tf1.Session() as session:
        session.run(tf1.global_variables_initializer())
        first, second = session.run((first, second), {images: rule.inputs(96)["real"] / 64 - 2})
    assert np.array_equal(first, second)
    assert np.allclose(np.linalg.norm(first, axis=1), 1, atol=1e-5)


def test_dropout_follows_the_seeds():
    images, seeds = placeholder(32), tf1.placeholder(tf.int32, [3, 2])
    plain = networks.embed(images, Architecture("small", 8))[1]
    dropped = networks.embed(images, Architecture("small", 8), Dropout(.5, seeds))[1]
    x = np.repeat(rule.inputs(32, 1)["real"] / 64 - 2, 3, axis=0)
    with tf1.Session() as session:
        session.run(tf1.global_variables_initializer())
        plain, once = session.run((plain, dropped), {images: x, seeds: [[1, 1], [1, 2], [1, 1]]})
        again = session.run(dropped, {images: x, seeds: [[1, 2], [1, 1], [1, 1]]})
    assert (np.abs(plain - once).max(axis=1) > 1e-3).all()
    assert np.allclose(once[0], once[2], atol=1e-6) and not np.allclose(once[0], once[1], atol=1e-3)
    assert np.allclose(again, once[[1, 0, 2]], atol=1e-6)


# Training

@pytest.mark.parametrize("size, input_size, shifts", [
    (108, 96, [(0, 0), (-6, 6), (3, -2)]), (108, 160, [(1, 2), (6, -6), (0, 0)]), (64, 48, [(0, 0)] * 3),
    (96, 96, [(5, -5)] * 3)])
def test_augment_moves_and_mirrors_like_preprocess(size, input_size, shifts):
    """But at the edge of an enlarged window, beyond which there are real pixels."""
    x = np.random.default_rng(0).uniform(-1.1, 1.1, [3, size, size, 3]).astype(np.float32)
    flips, view = [False, True, True], View(input_size, "fixed")
    images, center = placeholder(size), (size - window_of(size)) // 2
    got = augment(images, view, tf.constant(shifts), tf.constant(flips), tf.zeros([3]))
    wanted = [preprocess(images[i:i + 1], view, tf.constant(shift) + center, tf.constant([flip]))
              for i, (shift, flip) in enumerate(zip(shifts, flips))]
    with tf1.Session() as session:
        got, wanted = session.run((got, tf.concat(wanted, 0)), {images: x})
    assert np.abs(got - wanted)[:, 2:-2, 2:-2].max() < 1e-3


def test_augment_turns_and_reflects():
    x = np.random.default_rng(0).uniform(-1, 1, [3, 36, 36, 3]).astype(np.float32)
    images = placeholder(36)
    turned = augment(images, View(36, "fixed"), tf.constant([[0, 0], [2, 0], [0, -3]]), tf.constant([False] * 3),
                     tf.constant([np.pi / 2, 0, 0]))
    with tf1.Session() as session:
        got = session.run(turned, {images: x})
    x = x * 127.5 / 128
    assert np.abs(got[0] - np.rot90(x[0])).max() < 1e-3
    assert np.abs(got[1] - np.concatenate([x[1][2:], x[1][:-3:-1]])).max() < 1e-3
    assert np.abs(got[2] - np.concatenate([x[2][:, 2::-1], x[2][:, :-3]], 1)).max() < 1e-3


def cut_numpy(x, window, size, shift=(0, 0)):
    """Twin of `cut_window` in float64, a pixel at a time."""
    def matrix(first, last, pixels, moved):
        step = (last - first) * pixels / size
        result = np.zeros([size, pixels])
        for i in range(size):
            place = min(max(first * pixels + (i + .5) * step - .5 + moved, 0), pixels - 1)
            for j in range(pixels):
                result[i, j] = max(0, 1 - abs(place - j) / max(step, 1))
        return result / result.sum(1, keepdims=True)

    rows = matrix(window.top, window.bottom, x.shape[1], shift[0])
    columns = matrix(window.left, window.right, x.shape[2], shift[1])
    return np.einsum("ip,bpqc,jq->bijc", rows, x.astype(np.float64), columns, optimize=True)


@pytest.mark.parametrize("size, input_size, native, crop, offset", [
    (108, 150, "dlib", "box", None), (64, 150, "dlib", "box", (0, 3)), (112, 150, "dlib", "arcface", None),
    (108, 112, "arcface", "box", (6, 1)), (112, 112, "arcface", "arcface", None), (160, 64, "arcface", "box", None),
    (112, 96, "box", "arcface", None)])
def test_windows_equal_numpy(size, input_size, native, crop, offset):
    x = np.random.default_rng(size).uniform(-1, 1, [2, size, size, 3]).astype(np.float32)
    images, view = placeholder(size), View(input_size, "arcface", window_for(native, crop))
    least, _ = shifts_of(size, view.window)
    result = preprocess(images, view, offset and tf.constant(offset), tf.constant([False, True]))
    wanted = cut_numpy((x + 1) * 127.5, view.window, input_size, np.add(offset, least) if offset else (0, 0))
    wanted[1] = wanted[1, :, ::-1]
    with tf1.Session() as session:
        assert np.abs(session.run(result, {images: x}) - (wanted / 127.5 - 1)).max() < 1e-4


def test_the_window_of_a_classifier_s_own_crop_is_that_crop():
    x = np.random.default_rng(0).uniform(-1, 1, [1, 112, 112, 3]).astype(np.float32)
    with tf1.Session() as session:
        same = session.run(preprocess(tf.constant(x), View(112, "arcface", window_for("arcface", "arcface"))))
    assert np.abs(same - x).max() < 1e-5


@pytest.mark.parametrize("native, crop", [("dlib", "box"), ("arcface", "arcface"), ("box", "arcface")])
def test_augment_sees_the_window_that_preprocess_sees(native, crop):
    """Where nothing is made smaller, and but at the edge, which the one repeats and the other reflects."""
    x = np.random.default_rng(0).uniform(-1, 1, [2, 64, 64, 3]).astype(np.float32)
    images, view = placeholder(64), View(96, "fixed", window_for(native, crop))
    least, most = shifts_of(64, view.window)
    assert (least, most, offsets_of(64, view.window)) == (-2, 2, 5)
    flips = tf.constant([False, True])
    got = augment(images, view, tf.constant([[1, -2]] * 2), flips, tf.zeros([2]))
    wanted = preprocess(images, view, tf.constant([1, -2]) - least, flips)
    with tf1.Session() as session:
        got, wanted = session.run((got, wanted), {images: x})
    inner = slice(24, 72)
    assert np.abs(got - wanted)[:, inner, inner].max() < 1e-3


def test_standardizations():
    x = np.random.default_rng(0).uniform(0, 255, [2, 8, 8, 3]).astype(np.float32)
    with tf1.Session() as session:
        image, fixed = session.run([standardize(tf.constant(x), name) for name in ("image", "fixed")])
    assert np.allclose(fixed, (x - 127.5) / 128)
    assert np.abs(image.mean((1, 2, 3))).max() < 1e-5 and np.allclose(image.std((1, 2, 3)), 1)


@pytest.mark.slow
@pytest.mark.parametrize("model_def", facenet.NETWORKS)
def test_training_shares_the_frozen_network_s_variables(model_def):
    """Every moving statistic has its value in the batch, once; the networks' names stay."""
    networks.embed(placeholder(), Architecture(model_def, 8))
    before = shapes()
    with batch_norm.batch_statistics() as updates:
        networks.embed(placeholder(), Architecture(model_def, 8))
    assert shapes() == before
    kept = set(before) - {v.op.name for v in networks.trained_variables()}
    assert sorted(moving.op.name for moving, _ in updates) == sorted(kept)
    assert all(value.shape == moving.shape for moving, value in updates)


@pytest.mark.parametrize("shape", [(4, 3, 5, 2), (6, 2)])
@pytest.mark.parametrize("scaled", [False, True])
def test_batch_statistics_equal_numpy(shape, scaled):
    x = np.random.default_rng(0).normal(3, 2, shape).astype(np.float32)
    beta, gamma = np.float32([.5, -1]), np.float32([2, .3])
    inputs = tf1.placeholder(tf.float32, [None, *shape[1:]])
    moving = [tf1.get_variable(name, [2], use_resource=True) for name in ("mean", "variance")]
    with batch_norm.batch_statistics() as updates:
        y = batch_norm.normalize(inputs, *moving, tf.constant(beta), tf.constant(gamma) if scaled else None)
    gradient = tf.gradients(y[..., 0] * inputs[..., 1], inputs)[0]
    with tf1.Session() as session:
        got, (mean, variance), gradient = session.run((y, [value for _, value in updates], gradient), {inputs: x})
    axes = tuple(range(len(shape) - 1))
    assert np.allclose(mean, x.mean(axes), atol=1e-5) and np.allclose(variance, x.var(axes), atol=1e-4)
    wanted = (x - x.mean(axes)) / np.sqrt(x.var(axes) + 1e-3) * (gamma if scaled else 1) + beta
    assert np.allclose(got, wanted, atol=1e-4)
    gradient = gradient[..., 0]                                     # it passes through the batch's mean as well
    assert np.allclose(gradient.sum(), 0, atol=1e-4) and np.abs(gradient).max() > .01
