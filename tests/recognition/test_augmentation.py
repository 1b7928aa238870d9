"""recognition.augmentation: what each change does to an image, how often, and that a seed decides all."""
import numpy as np
import pytest
import tensorflow as tf

from recognition import augmentation
from recognition.augmentation import alter, Chances

tf1 = tf.compat.v1
SEEDS = [np.array([7, stream], np.int32) for stream in range(4)]
NEVER = Chances(0., 0., 0., 0.)


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


def photos(count=100, size=16):
    return np.random.default_rng(1).uniform(1, 255, [count, size, size, 3]).astype(np.float32)


def altered(images, chances, seeds=SEEDS):
    with tf1.Session() as session:
        return session.run(alter(tf.constant(images), chances, seeds))


def test_without_a_chance_nothing_is_added_to_the_graph(graph):
    images = tf.zeros([2, 8, 8, 3])
    count = len(graph.get_operations())
    assert alter(images, NEVER, SEEDS) is images and len(graph.get_operations()) == count


@pytest.mark.parametrize("name", Chances._fields)
def test_a_chance_is_how_often_an_image_changes(name):
    """The same seed changes the same images in the same way, and another one others."""
    images = photos(400)
    once, again, other = (altered(images, NEVER._replace(**{name: .2}), seeds)
                          for seeds in (SEEDS, SEEDS, [seed + 1 for seed in SEEDS]))
    changed = (once != images).any(axis=(1, 2, 3))
    assert .13 < changed.mean() < .27                       # 3.5 deviations
    assert np.array_equal(once, again) and not np.array_equal(once, other)
    assert once.min() >= 0 and once.max() <= 255


def rectangles(mask):
    """Rows, columns of the true part of each mask [B, S, S]; it must be a rectangle."""
    for each in mask:
        rows, columns = each.any(1), each.any(0)
        assert np.array_equal(each, rows[:, None] & columns[None, :])
        assert all(np.ptp(np.flatnonzero(line)) == line.sum() - 1 for line in (rows, columns) if line.any())
        yield rows.sum(), columns.sum()


@pytest.mark.parametrize("name, value, areas, most", [
    ("crop", 0., (.2, 1.), 4 / 3), ("erasing", 127.5, (.02, .33), 3.3)])
def test_rectangles(name, value, areas, most):
    """A rectangle is kept, with black around it, or painted grey; its area and shape are within the limits."""
    images = photos(200, 32)
    seen = altered(images, NEVER._replace(**{name: 1.}))
    painted = (seen == value).all(-1)
    assert np.array_equal(seen[~painted], images[~painted])
    sides = np.array(list(rectangles(~painted if name == "crop" else painted)), float)
    area = sides.prod(1) / 32 ** 2
    assert areas[0] - .04 < area.min() < areas[0] + .1 and areas[1] - .15 < area.max() < areas[1] + .04
    inner = sides[(sides.min(1) > 3) & (sides.max(1) < 32)]
    assert (inner.max(1) / inner.min(1)).max() < most * 1.4         # a side is a whole number of pixels


def test_a_lower_resolution_keeps_a_plain_image_and_blurs_a_fine_one():
    plain = np.full([50, 20, 20, 3], 90., np.float32)
    assert np.allclose(altered(plain, NEVER._replace(resolution=1.)), 90., atol=1e-3)
    images = photos(50, 20)
    seen = altered(images, NEVER._replace(resolution=1.))
    assert seen.min() >= images.min() - 1e-3 and seen.max() <= images.max() + 1e-3
    assert np.abs(seen.mean((1, 2)) - images.mean((1, 2))).max() < 60
    smooth = np.abs(np.diff(seen, axis=1)).mean((1, 2, 3)) / np.abs(np.diff(images, axis=1)).mean((1, 2, 3))
    assert smooth.max() < 1.05 and np.median(smooth) < .6


def test_the_lowest_resolution_is_a_fifth():
    """20 pixels become 4: by the nearest pixel both ways, 4 values in a row of an image are left."""
    numbers = tf.constant([[0., 0., 0.]])
    image = np.tile(np.arange(20, dtype=np.float32)[None, None, :, None], [1, 20, 1, 3])
    with tf1.Session() as session:
        seen, = session.run(augmentation._lower_resolution(tf.constant(image), numbers))
        whole, = session.run(augmentation._lower_resolution(tf.constant(image), tf.constant([[1., .9, .9]])))
    assert np.array_equal(np.unique(seen), [2., 7., 12., 17.]) and np.array_equal(seen[0, :5, 0], [2.] * 5)
    assert np.allclose(whole, image[0], atol=1e-4)


def test_colours():
    """Grey stays grey; brightness alone scales; saturation 0.5 halves what a colour differs from its luma."""
    grey = np.repeat(photos(20)[..., :1], 3, -1)
    seen = altered(grey, NEVER._replace(color=1.))
    assert np.allclose(seen, seen[..., :1], atol=1e-3) and not np.allclose(seen, grey, atol=5)
    image = np.tile(np.array([100., 60., 20.], np.float32), [1, 4, 4, 1])
    luma = image[0, 0, 0] @ [.299, .587, .114]
    for numbers, wanted in (([.75, .5, .5], 1.25 * image), ([.5, .5, 0.], luma + .5 * (image - luma)),
                            ([.5, 0., .5], luma + .5 * (image - luma))):
        with tf1.Session() as session:
            found = session.run(augmentation._change_color(tf.constant(image), tf.constant([numbers])))
        assert np.allclose(found, wanted, atol=1e-3)
