"""recognition.alignment: faces are laid on a classifier's own crop by their landmarks, others by its window."""
import numpy as np
import pytest
import tensorflow as tf

from datasets.landmarks import ARCFACE_TEMPLATE, Face
from recognition import alignment, preprocessing
from recognition.input_size import View, Window

tf1 = tf.compat.v1
VIEW = View(90, "arcface", Window(.1, -.1, .8, 1.2))
# Where the five points are in a photo, in pixels: of a face that is turned.
TURN = 3 * np.array([[.96, -.28], [.28, .96]])


def placed(crops, transforms, view=VIEW, mirrored=False):
    """The pixel values of `crops` [n, S, S, 3] in [-1, 1], placed by `transforms`."""
    with tf.Graph().as_default(), tf1.Session() as session:
        found = preprocessing.place(tf.constant(crops, tf.float32), view, tf.constant(transforms), mirrored)
        return session.run(found)


def smooth(side, waves=(2, 3)):
    """A crop [1, side, side, 3] that changes slowly, so that interpolation hardly counts."""
    row, column = (np.mgrid[:side, :side] + .5) / side
    return np.repeat(.9 * np.sin(waves[0] * column + waves[1] * row)[None, :, :, None], 3, 3)


def value_at(points, waves=(2, 3)):
    return .9 * np.sin(waves[0] * points[:, 0] + waves[1] * points[:, 1])


@pytest.mark.parametrize("native", alignment.TARGETS)
@pytest.mark.parametrize("tall", [1, 1.35])
@pytest.mark.parametrize("side", [64, 150])
def test_landmarks_come_to_their_places(native, tall, side):
    """In a crop that was squeezed from a box of 1 : `tall`, the points of a turned face lie on the template after."""
    target = alignment.TARGETS[native]
    in_photo = 40 * (target - .5) @ TURN.T + [200, 150]                 # a similarity of the template
    box = np.array([120., 150 - 80 * tall])
    points = (in_photo - box) / [160, 160 * tall]
    assert points.min() > .02 and points.max() < .98
    transforms = alignment.transforms_for({"a": Face(points, tall)}, ["a"], native, VIEW, side)
    there = placed(smooth(side), transforms)[0, ..., 0]
    column, row = (target * 90 - .5).round().astype(int).T
    # The pixel nearest to each place; where that pixel lies in the crop.
    nearest = (np.stack([column, row], 1) + .5) / 90
    in_crop = ((40 * (nearest - .5) @ TURN.T + [200, 150]) - box) / [160, 160 * tall]
    np.testing.assert_allclose(there[row, column], value_at(in_crop), atol=.01)
    assert np.abs(value_at(in_crop) - value_at(nearest)).max() > .05    # it was moved


def test_a_face_that_lies_on_the_template_stays():
    points = (ARCFACE_TEMPLATE + .5) / 112
    transforms = alignment.transforms_for({"a": Face(points)}, ["a"], "arcface", View(112, "arcface"), 112)
    np.testing.assert_allclose(transforms, [[1, 0, 0, 0, 1, 0, 0, 0]], atol=1e-5)


def test_without_landmarks_the_window_is_shown():
    """As `preprocess` shows it, border pixels repeated beyond the border; only the other image is placed by points."""
    crops = np.random.default_rng(1).uniform(-1, 1, [2, 64, 64, 3])
    face = Face((ARCFACE_TEMPLATE + .5) / 112)
    transforms = alignment.transforms_for({"b": face}, ["a", "b"], "arcface", VIEW, 64)
    with tf.Graph().as_default(), tf1.Session() as session:
        expected = session.run(preprocessing.preprocess(tf.constant(crops, tf.float32), VIEW))
    found = placed(crops, transforms)
    np.testing.assert_allclose(found[0], expected[0], atol=1e-3)
    assert np.abs(found[1] - expected[1]).mean() > .1
    np.testing.assert_array_equal(placed(crops, transforms, mirrored=True), found[:, :, ::-1])


def test_classifiers_of_boxes_are_not_placed_by_landmarks(tmp_path):
    assert alignment.find_faces(str(tmp_path / "nowhere"), ["a.jpg"], "box") == {}
    assert sorted(alignment.TARGETS) == ["arcface", "dlib"]
