"""models.py, engine/layers.py, graph.py: names and shapes of a training's variables, who trains them, sizes, layers."""
import itertools
import json

import numpy as np
import pytest
import tensorflow as tf

from config import get_config
from conftest import HERE, SMALL, words
from datasets.image_sets import find_pairs, find_photos, find_renderings
from drawn import write_dataset
from engine import checkpoints, layers
from engine.session import check_optimized_once
from games.began import both_players
from graph import Networks, TrainingGraph
from losses import began_terms
from models import DiscriminatorCNN, Generator
from preflight import Data
from recognition.pretrained import Weights
from trainer import Trainer

tf1 = tf.compat.v1
GOLDEN = HERE / "golden"
CLASSIFIER = "InceptionResnetV1/"
TRAINED = ("G_inf/", "G_inv/", "D_forw/", "D_back/")
SLOTS = ("Adam", "Adam_1", "ExponentialMovingAverage")
NARROWEST = words(input_scale_size=16, conv_hidden_num=2, conv_hidden_num_res=2, num_res_rep=1, z_num=2)
POWERS = {f"beta{i}_power{suffix}" for i in (1, 2) for suffix in ("", "_1", "_2")}


@pytest.fixture
def graph():
    """A graph of its own for the test, seeded: TensorFlow, as every command starts it, insists on seeds."""
    with tf.Graph().as_default() as graph:
        tf1.set_random_seed(1)
        yield graph


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """12 drawn identities, a photo and a pair."""
    folder = str(tmp_path_factory.mktemp("data"))
    write_dataset(folder, size=16, identities=12, per_identity=1, photos=1, pairs=1)
    return Data(find_photos(f"{folder}/real"), find_renderings(f"{folder}/syn"), find_pairs(f"{folder}/paired"))


def training_variables(data, *options):
    """Name to (shape, trainable) of all variables of a training but the classifier's."""
    config, _ = get_config(["--model_def", "small", "--pretrained_rec", "none", *options])
    trainer = Trainer(config)
    trainer.build_model(data, classifier=Weights("none", {}, None, "image"))
    trainer.close()
    trainable = {v.op.name for v in trainer.session.graph.get_collection("trainable_variables")}
    return {v.op.name: (v.shape.as_list(), v.op.name in trainable) for v in trainer.training.saved_variables}


# Names and shapes

@pytest.mark.slow
@pytest.mark.parametrize("size", [pytest.param(64, marks=pytest.mark.long), 108])
def test_variables_are_the_originals(data, size):
    """The classifier's own, for which a small one stands here, are compared in test_facenet.py."""
    with open(GOLDEN / f"variables_{size}.json") as file:
        listed = {name: (shape, trainable) for name, shape, trainable in json.load(file)["variables"]
                  if not name.startswith(CLASSIFIER)}
    ours = training_variables(data, "--input_scale_size", str(size))
    assert {name: ours.get(name) for name in listed} == listed
    slots = {f"{name}/{slot}": listed[name][0] for name in listed if name.startswith(TRAINED) for slot in SLOTS}
    heads = {f"{name}/{SLOTS[2]}": listed[name][0] for name in listed if name.startswith("Logits/")}
    assert {name: shape for name, (shape, _) in ours.items() if name not in listed} == {
        **slots, **heads, **{name: [] for name in POWERS}}


@pytest.mark.slow
@pytest.mark.parametrize("options, more, fewer", [
    (["--method_c", "softmax"], {f"Logits/{v}/{s}" for v in ("weights", "biases") for s in SLOTS}, set()),
    (["--pretrained_rec", "", "--method_c", "none"], set(), {"Logits/weights", "centroids/centers"}),
    (["--optimizer", "sgd"], {"G_inf/output/weights/Momentum"}, {"G_inf/output/weights/Adam", "beta1_power"}),
    (["--optimizer", "rmsprop"], {"D_back/Conv/biases/RMSProp"}, {"D_back/Conv/biases/Adam", "beta1_power"}),
    (["--relax_c", "True"], {f"{CLASSIFIER}Bottleneck/weights", f"{CLASSIFIER}Bottleneck/weights/Adam",
                             f"{CLASSIFIER}Bottleneck/BatchNorm/moving_mean"},
     {f"{CLASSIFIER}Bottleneck/BatchNorm/moving_mean/Adam"})])
def test_options_change_the_saved_variables(data, options, more, fewer):
    ours = set(training_variables(data, *NARROWEST, *options))
    assert ours >= more and not ours & fewer


# Who trains what

def variables(*names):
    return [tf1.get_variable(name, [], use_resource=True) for name in names]


@pytest.mark.parametrize("groups, wanted", [
    ({"G": "ab", "D": "c"}, None),
    ({"G": "ab", "D": "bc"}, "b belongs to G and D"),
    ({"G": "a", "D": "c"}, "b belongs to no optimizer"),
    ({"G": "abz", "D": "c"}, "z belongs to G and must not be trained"),
    ({"G": "az", "D": "ac"}, "a belongs to G and D; z belongs to G and must not be trained; b belongs to no optimizer"),
    ({"G": "ac", "D": "acz"}, "and 1 more")])
def test_a_variable_has_one_optimizer(graph, groups, wanted):
    """`z` is frozen; it counts as trainable for TensorFlow, which knows nothing of that."""
    by_name = dict(zip("abcz", variables(*"abcz")))
    arguments = ({name: [by_name[each] for each in found] for name, found in groups.items()}, by_name.values(),
                 [by_name["z"]])
    if wanted is None:
        check_optimized_once(*arguments)
    else:
        with pytest.raises(ValueError, match=wanted):
            check_optimized_once(*arguments)


@pytest.mark.parametrize("method_c, relax_c, classifier", [
    ("none", False, ""), ("none", False, "w"),
    *((method_c, relax_c, "w") for method_c in ("magnet", "softmax", "center") for relax_c in (False, True))])
def test_every_variable_trains_in_one_group_or_is_frozen(graph, data, method_c, relax_c, classifier):
    """The classifier's moving statistics, which are marked as trainable, are always frozen."""
    config, _ = get_config([*NARROWEST, *words(**SMALL, method_c=method_c, relax_c=relax_c, pretrained_rec=classifier)])
    training = TrainingGraph(Networks(config), data, gradients=False)
    assert training.train_op is training.gradients is training.summary is None
    groups = {name: {v.op.name for v in group} for name, group in training.trained.items()}
    trained = [v.op.name for group in training.trained.values() for v in group]
    assert len(trained) == len(set(trained)) and not any("/moving_" in name for name in trained)
    frozen = {v.op.name for v in tf1.trainable_variables() if "/moving_" not in v.op.name} - set(trained)
    expected = {CLASSIFIER: "frozen" if not relax_c else "G", "Logits/": "G" if method_c == "softmax" else "frozen",
                "G_inf/": "G", "G_inv/": "G_inv", "D_forw/": "D", "D_back/": "D"}
    if not classifier:
        del expected[CLASSIFIER], expected["Logits/"]
    for prefix, group in expected.items():
        for name, names in [*groups.items(), ("frozen", frozen)]:
            assert any(each.startswith(prefix) for each in names) == (name == group), (prefix, name)
    assert all(name.startswith(tuple(expected)) for name in [*trained, *frozen])


def test_a_training_with_a_variable_that_nobody_trains_is_not_built(graph, data):
    config, _ = get_config([*NARROWEST, "--method_c", "none"])
    variables("stray")
    with pytest.raises(ValueError, match="stray belongs to no optimizer"):
        TrainingGraph(Networks(config), data, gradients=False)


# Discriminator

def test_discriminator_sizes_are_the_originals(graph):
    with np.load(GOLDEN / "units.npz", allow_pickle=False) as units:
        columns, rows = list(units["D/cols"]), units["D/rows"]
    for row in rows:
        wanted = dict(zip(columns, row.tolist()))
        name, size = f"D{wanted['size']}", wanted["size"]
        network = DiscriminatorCNN(name, 64, 64)
        output = network(tf1.placeholder(tf.float32, [None, size, size, 3]))
        shapes = {v.op.name[len(name) + 1:]: v.shape.as_list() for v in network.variables}
        side = round((shapes["fully_connected_1/weights"][1] / 64) ** .5)
        assert output.shape.as_list() == [None, size, size, 3] and wanted["out"] == size
        assert shapes["fully_connected/weights"] == [wanted["fc_in"], 64]
        assert side * 2 ** (wanted["repeat_num"] - 1) == wanted["dim_before_crop"]
        assert sum(np.prod(shape) for shape in shapes.values()) == wanted["params"]


def plain_discriminator(images, weights, levels):
    """SPEC's layers one by one, with the variables `weights` {name: variable}: upscaled, convolved, cropped."""
    numbers = itertools.count()

    def conv(x, stride=1):
        name = f"Conv_{number}" if (number := next(numbers)) else "Conv"
        return tf.nn.bias_add(tf.nn.conv2d(x, weights[f"{name}/weights"], stride, "SAME"), weights[f"{name}/biases"])

    def dense(x, name):
        return tf.matmul(x, weights[f"{name}/weights"]) + weights[f"{name}/biases"]

    x = tf.nn.elu(conv(images))
    for level in range(levels):
        for stride in (1, 1, 2)[:3 if level < levels - 1 else 2]:
            x = tf.nn.elu(conv(x, stride))
    x = dense(dense(tf.reshape(x, [len(images), -1]), "fully_connected"), "fully_connected_1")
    side = round((x.shape[1] / weights["Conv/biases"].shape[0]) ** .5)
    x = tf.reshape(x, [len(images), side, side, -1])
    for level in range(levels):
        x = tf.repeat(tf.repeat(x, 2, 1), 2, 2) if level else x
        x = tf.nn.elu(conv(tf.nn.elu(conv(x))))
    x = conv(x)
    margin = (x.shape[1] - images.shape[1]) // 2
    return x[:, margin:margin + images.shape[1], margin:margin + images.shape[2]]


@pytest.mark.parametrize("size, levels, margin", [(16, 2, 0), (36, 3, 0), (100, 4, 2), (132, 5, 6)])
def test_discriminator_is_that_of_the_original(graph, size, levels, margin):
    """Up to rounding, though upscaling, convolution and crop are not computed one by one; cropped centrally."""
    images = np.random.default_rng(size).uniform(-1, 1, [2, size, size, 3]).astype(np.float32)
    network = DiscriminatorCNN("D", 3, 5)
    ours = network(tf.constant(images))
    plain = plain_discriminator(images, {v.op.name[2:]: v for v in network.variables}, levels)
    with tf1.Session() as session:
        checkpoints.set_values(session, {v: np.random.default_rng(i).normal(0, .3, v.shape)
                                         for i, v in enumerate(network.variables)})
        ours, plain = session.run([ours, plain])
    assert ours.shape == plain.shape == images.shape
    assert np.abs(ours - plain).max() < 1e-5 * np.abs(plain).max()


@pytest.mark.parametrize("size", [16, 100])
def test_one_backward_pass_gives_both_players_gradients(graph, size):
    """Those of each loss on its own: by every variable, and by the fake images, with a k of 0 too."""
    rng = np.random.default_rng(1)
    fake, real = (tf.constant(rng.uniform(-1, 1, [2, size, size, 3]).astype(np.float32)) for _ in range(2))
    network, k = DiscriminatorCNN("D", 2, 3), tf1.placeholder(tf.float32, [])
    reconstruction, called = network.reconstruct(tf.concat([fake, real], 0))
    terms = began_terms(real, reconstruction[2:], fake, reconstruction[:2], k, .5)
    by_fake, by_variables = both_players(called, fake, terms.real + terms.generator, k)
    apart = tf1.gradients(terms.generator, fake) + tf1.gradients(terms.discriminator, network.variables)
    with tf1.Session() as session:
        session.run(tf1.global_variables_initializer())
        for value in (0., .7):
            for ours, wanted in zip(*session.run([[by_fake, *by_variables], apart], {k: value})):
                assert ours.shape == wanted.shape and np.abs(ours - wanted).max() < 2e-5 * np.abs(wanted).max()


# Sizes and widths

@pytest.mark.parametrize("size", [16, 20, 36, 100])
@pytest.mark.parametrize("width", [1, 3])
def test_any_size_and_width(graph, size, width):
    """Images of the input's size, G's within -1 and 1; a second call shares the variables."""
    x = np.random.default_rng(size).uniform(-1, 1, [2, size, size, 3]).astype(np.float32)
    networks = [Generator("G", width, 2, skips=True), Generator("G_inv", width, 0, skips=False),
                DiscriminatorCNN("D", width, width)]
    first = [network(tf.constant(x)) for network in networks]
    variables = tf1.global_variables()
    second = [network(tf.constant(x)) for network in networks]
    assert tf1.global_variables() == variables == [v for network in networks for v in network.variables]
    assert f"G/R{4 * width}_2/layer2/weights2" in {v.op.name for v in variables}
    with tf1.Session() as session:
        session.run(tf1.global_variables_initializer())
        first, second = session.run((first, second))
    for once, again in zip(first, second):
        assert once.shape == x.shape and np.isfinite(once).all() and np.array_equal(once, again)
    assert max(np.abs(image).max() for image in first[:2]) <= 1


# Layers

def same_gradients(ours, wanted, inputs, rng):
    """Have two tensors the same values, and gradients by `inputs` for a random gradient of their own?"""
    upstream = tf.constant(rng.normal(size=wanted.shape).astype(np.float32))
    with tf1.Session() as session:
        session.run(tf1.global_variables_initializer())
        pairs = zip(*(session.run([y, *tf1.gradients(y, inputs, upstream)]) for y in (ours, wanted)))
        return all(a.shape == b.shape and np.abs(a - b).max() < 1e-5 * np.abs(b).max() for a, b in pairs)


def test_convolution_of_an_upscaled_image_is_an_ordinary_one(graph):
    rng = np.random.default_rng(0)
    x = tf.constant(rng.normal(size=[2, 4, 6, 5]).astype(np.float32))
    ours = layers.lay_out_upscaled(layers.conv2d_of_upscaled(x, 7))
    weights, = tf1.trainable_variables()
    wanted = tf.nn.conv2d(tf.repeat(tf.repeat(x, 2, 1), 2, 2), weights, 1, "SAME")
    assert ours.shape == [2, 8, 12, 7] and same_gradients(ours, wanted, [x, weights], rng)


def test_convolution_of_single_pixels_is_an_ordinary_one(graph):
    rng = np.random.default_rng(0)
    x = tf.constant(rng.normal(size=[2, 4, 6, 5]).astype(np.float32))
    ours = layers.conv2d(x, 7, 1)
    weights, = tf1.trainable_variables()
    assert same_gradients(ours, tf.nn.conv2d(x, weights, 1, "SAME"), [x, weights], rng)


def test_convolution_to_few_filters_is_an_ordinary_one(graph):
    rng = np.random.default_rng(2)
    parts = [tf.constant(rng.normal(size=[2, 12, 14, channels]).astype(np.float32)) for channels in (5, 3)]
    few = layers.conv2d_to_few(parts, 3, 7, tf1.random_normal_initializer())
    weights, = tf1.trainable_variables()
    wanted = tf.nn.conv2d(tf.concat(parts, -1), weights, 1, "VALID")
    assert same_gradients(few, wanted, [*parts, weights], rng)


def test_reflect_padding_is_tensorflows(graph):
    rng = np.random.default_rng(3)
    x = tf.constant(rng.normal(size=[2, 6, 9, 5]).astype(np.float32))
    wanted = tf.pad(x, [[0, 0], [3, 3], [3, 3], [0, 0]], "REFLECT")
    assert same_gradients(layers.reflect_pad(x, 3), wanted, [x], rng)


def test_bfloat16_is_near_float32(graph):
    """Convolutions compute in it, with the same float32 variables; images and gradients stay float32."""
    x = tf.constant(np.random.default_rng(2).uniform(-1, 1, [2, 16, 16, 3]).astype(np.float32))
    for name, build in (("G", lambda precision: Generator("G", 4, 2, skips=True, precision=precision)),
                        ("D", lambda precision: DiscriminatorCNN("D", 4, 4, precision))):
        exact, near = (build(precision)(x) for precision in (tf.float32, tf.bfloat16))
        variables = tf1.trainable_variables(name + "/")
        gradients = [tf1.gradients(y, variables) for y in (exact, near)]
        assert {tensor.dtype for tensor in [near, *variables, *gradients[1]]} == {tf.float32}
        with tf1.Session() as session:
            session.run(tf1.global_variables_initializer())
            pairs = list(zip(*session.run([[exact, *gradients[0]], [near, *gradients[1]]])))
            assert all(np.linalg.norm(a - b) < .15 * np.linalg.norm(a) for a, b in pairs)
            assert 0 < np.abs(pairs[0][0] - pairs[0][1]).max() < .05


def test_reciprocal_root_is_rounded_correctly(graph):
    """To the nearest float32: what the CPU's own estimate, which differs between makers, does not promise."""
    x = np.random.default_rng(1).uniform(1e-5, 10, 10000).astype(np.float32)
    with tf1.Session() as session:
        root = session.run(layers.reciprocal_root(tf.constant(x)))
    assert root.dtype == np.float32 and np.array_equal(root, (1 / np.sqrt(x.astype(np.float64))).astype(np.float32))


def independent(batch, keep):
    """Whether images share as many zeros as independent masks do, two by two."""
    kept = [image > 0 for image in batch]
    return all(abs((a & b).mean() - keep ** 2) < .04 for i, a in enumerate(kept) for b in kept[:i])


def test_dropout(graph):
    """About `keep` of the values stay, scaled up. With a seed each, an image's mask does not depend on its batch."""
    keep, shape = .8, [20, 20, 5]
    x = tf1.placeholder(tf.float32, [None, *shape])
    seed = tf1.placeholder(tf.int32, [2])
    whole = layers.dropout(x, layers.Dropout(keep, seed))
    with tf1.Session() as session:
        def run(*rows):
            y = layers.dropout(x, layers.Dropout(keep, tf.constant(rows)))
            return session.run(y, {x: np.ones([len(rows), *shape])})

        batch, alone = run([1, 7], [1, 8], [2, 7], [1, 7]), run([1, 8])
        one, again, other = (session.run(whole, {x: np.ones([3, *shape]), seed: [1, row]}) for row in (7, 7, 8))
    for images in (batch, one):
        assert set(np.unique(images)) == {0, np.float32(1 / keep)}
        assert all(abs((image > 0).mean() - keep) < .04 for image in images)
    assert np.array_equal(batch[0], batch[3]) and np.array_equal(batch[1], alone[0]) and independent(batch[:3], keep)
    numbers = [tf.random.stateless_uniform(shape, row) for row in ([1, 7], [1, 8], [2, 7])]
    with tf1.Session() as session:
        assert all(np.array_equal(image > 0, kept >= np.float32(1 - keep))
                   for image, kept in zip(batch, session.run(numbers)))
    assert np.array_equal(one, again) and independent([*one, *other], keep)


def test_generator_dropout(graph):
    """A photo depends on its own seed only; `keep` 1 needs no seeds and is the network without dropout."""
    x = tf.constant(np.random.default_rng(0).uniform(-1, 1, [2, 16, 16, 3]).astype(np.float32)[[0, 0]])
    seeds = tf1.placeholder(tf.int32, [2, 2])
    network = Generator("G", 2, 2, skips=True)
    plain, kept, dropped = network(x), network(x, layers.Dropout(1, seeds)), network(x, layers.Dropout(.5, seeds))
    with tf1.Session() as session:
        session.run(tf1.global_variables_initializer())
        plain, kept = session.run([plain, kept])
        a, b = (session.run(dropped, {seeds: rows}) for rows in ([[5, 1], [5, 2]], [[5, 2], [5, 1]]))
    assert np.array_equal(plain[0], plain[1]) and np.array_equal(plain, kept)
    assert np.allclose(a, b[::-1], atol=1e-6) and not np.allclose(a[0], a[1], atol=1e-5)
    assert not np.allclose(a[0], plain[0], atol=1e-5)
