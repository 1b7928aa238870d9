"""games/augmentation.py: what each change does to images, alike to generated and real ones, and to pairs."""
import numpy as np
import pytest
import tensorflow as tf

from config import get_config
from conftest import NARROW, words
from engine import layers
from games.augmentation import augment, KINDS
from games.began import Began
from games.hinge import Hinge
from graph import Networks

tf1 = tf.compat.v1
SIZE = 16


def images(count=4, size=SIZE, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, [count, size, size, 3]).astype(np.float32)


def run(build):
    """What the tensors that `build()` makes are worth."""
    with tf.Graph().as_default(), tf1.Session() as session:
        tf1.set_random_seed(1)
        return session.run(build())


def chance(seed=5, tower=0, towers=1):
    return layers.Dropout(1, tf.constant([seed, 7]), tower, towers)


def game(kinds):
    return Hinge(get_config(words(**NARROW, game="hinge", augment=kinds))[0])


def test_the_option_takes_every_kind_and_names_them(capsys):
    assert game(",".join(KINDS)).config.augment == ",".join(KINDS)
    with pytest.raises(SystemExit):
        game("shift,blur")
    *most, last = KINDS
    assert f"some of {', '.join(most)} and {last}," in capsys.readouterr().err


def test_no_augmentation_leaves_images_as_they_are():
    assert np.array_equal(run(lambda: augment(tf.constant(images()), "none", chance())), images())


@pytest.mark.parametrize("kinds", ["shift", "cut", "color", "zoom", "shade", "shade,zoom,color,cut,shift"])
def test_fake_and_real_images_are_changed_alike_and_each_otherwise(kinds):
    x = np.repeat(images(1), 8, 0)
    changed, again, later = run(lambda: [augment(tf.constant(x), kinds, chance(seed)) for seed in (5, 5, 6)])
    assert np.array_equal(changed, again) and not np.array_equal(changed, later)
    assert np.array_equal(changed[:4], changed[4:])
    assert len({each.tobytes() for each in changed[:4]}) == 4 and np.isfinite(changed).all()


def test_shift_moves_whole_pixels_and_leaves_grey():
    x = images(40, 32)
    changed = run(lambda: augment(tf.constant(x), "shift", chance()))
    moves = set()
    for before, after in zip(x, changed):
        framed = np.pad(before, ((4, 4), (4, 4), (0, 0)))
        found = [(row, column) for row in range(9) for column in range(9)
                 if np.array_equal(framed[row:row + 32, column:column + 32], after)]
        assert len(found) == 1
        moves |= set(found)
    assert len(moves) > 15 and max(map(max, moves)) <= 8 and min(map(min, moves)) >= 0


def test_cut_sets_a_square_of_half_the_side_to_grey():
    changed = run(lambda: augment(tf.ones([40, 32, 32, 3]), "cut", chance()))
    assert set(np.unique(changed)) == {0., 1.}
    for each in changed:
        rows, columns = (np.flatnonzero((each == 0).all(2).any(axis)) for axis in (0, 1))
        assert (each[np.ix_(columns, rows)] == 0).all() and (each == 0).all(2).sum() == len(rows) * len(columns)
        assert 8 <= len(rows) <= 16 and 8 <= len(columns) <= 16


def test_color_changes_brightness_saturation_and_contrast():
    """Each image becomes a + b * (its grey) + c * (its colours), with numbers of its own within their bounds."""
    x = images(40)
    changed = run(lambda: augment(tf.constant(x), "color", chance())).astype(np.float64)
    found = []
    for before, after in zip(x.astype(np.float64), changed):
        grey = np.broadcast_to(before.mean(2, keepdims=True), before.shape)
        parts = np.stack([np.ones_like(before), grey, before - grey]).reshape(3, -1).T
        solution, residual, *_ = np.linalg.lstsq(parts, after.ravel(), rcond=None)
        assert residual < 1e-6
        found.append(solution)
    _, contrast, colour = np.transpose(found)
    assert .5 <= contrast.min() < .7 and 1.3 < contrast.max() <= 1.5
    assert 0 <= (colour / contrast).min() < .3 and 1.7 < (colour / contrast).max() <= 2


def test_zoom_scales_height_and_width_about_the_centre():
    """A slope stays a slope, with the same value in the centre; how steep it is tells the factor."""
    side, count = 33, 80
    down, right = (each.ravel() for each in np.mgrid[-16:17, -16:17].astype(np.float64))
    slope = np.broadcast_to((.3 + down / 50 + right / 80).reshape(side, side, 1), [count, side, side, 3])
    changed = run(lambda: augment(tf.constant(slope.astype(np.float32)), "zoom", chance()))
    inside = np.maximum(abs(down), abs(right)) <= 12                # all of these show something of the image
    parts = np.stack([np.ones(inside.sum()), down[inside] / 50, right[inside] / 80], 1)
    found = []
    for each in changed.astype(np.float64):
        solution, *_ = np.linalg.lstsq(parts, each.reshape(-1, 3)[inside], rcond=None)
        assert np.allclose(parts @ solution, each.reshape(-1, 3)[inside], atol=1e-5)
        assert np.allclose(solution[0], .3, atol=1e-5)
        found.append(solution[1:, 0])
    assert .84 <= np.min(found) < .88 and 1.14 < np.max(found) < 1.1893
    assert abs(np.corrcoef(np.transpose(found[:count // 2]))[0, 1]) < .5       # height and width on their own
    reduced = np.argmax(np.min(found, 1))
    assert (changed[reduced][0] == 0).all() and (changed[reduced][:, -1] == 0).all()       # grey, beside the image


def test_shade_is_a_light_from_one_side_and_keeps_the_brightness():
    count, side = 60, 96
    grey = np.full([count, side, side, 3], -.9, np.float32)
    light = (run(lambda: augment(tf.constant(grey), "shade", chance())).astype(np.float64) + 1) / .1
    assert np.allclose(light, light[..., :1]) and np.allclose(light.mean((1, 2, 3)), 1, atol=1e-4)
    angles, shares = [], []
    for each in light[:count // 2, :, :, 0]:
        down, right = np.gradient(each)
        steep = np.hypot(down, right)
        clear = steep > steep.max() / 3                 # where the slope tells the direction: the same everywhere
        direction = np.array([down[clear].sum(), right[clear].sum()]) / np.hypot(down[clear].sum(), right[clear].sum())
        assert (direction @ np.stack([down[clear], right[clear]]) / steep[clear]).min() > .98
        angles.append(np.degrees(np.arctan2(*direction)))
        shares.append(each.min() / each.max())
    assert len(set(np.floor(np.array(angles) / 90))) == 4 and .15 <= min(shares) < .4 and .7 < max(shares) < 1


def test_shade_leaves_black_black_and_nothing_is_brighter_than_white():
    x = np.concatenate([np.full([20, 8, 8, 3], -1.), np.full([20, 8, 8, 3], 1.)]).astype(np.float32)
    black, white = np.split(run(lambda: augment(tf.constant(x), "shade", chance())), 2)
    assert (black == -1).all() and white.max() == 1 and white.min() < .5


def test_pairs_are_shaded_alike_and_by_no_other_kind():
    renderings = images(8) * .2 - .8
    photos = (renderings + 1) / 2 - 1                   # half as bright, before and after
    seen, others, began = run(lambda: [seen_pairs(*map(tf.constant, (photos, renderings)), chance())
                                       for seen_pairs in (game("shade,zoom").seen_pairs, game("zoom,cut").seen_pairs,
                                                          Began(None).seen_pairs)])
    assert np.allclose(seen[0] + 1, (seen[1] + 1) / 2, atol=1e-5) and not np.allclose(seen[1], renderings, atol=.1)
    for left in (others, began):
        assert np.array_equal(left[0], photos) and np.array_equal(left[1], renderings)


def test_what_is_dark_in_a_shade_is_no_background():
    """Noise takes the place of what is black in the renderings before they were shaded, and of nothing else."""
    rendering = np.full([1, SIZE, SIZE, 3], -.5, np.float32)
    rendering[:, :, :SIZE // 2] = -1
    shaded = np.where(rendering == -.5, -.98, rendering).astype(np.float32)

    def build():
        networks = Networks(get_config(words(**NARROW, game="hinge", background="noise"))[0])
        networks.G = lambda s, dropout: s
        return networks.photos_of(tf.constant(shaded), None, chance(), tf.constant(rendering))

    seen = run(build)
    assert (seen[:, :, SIZE // 2:] == shaded[:, :, SIZE // 2:]).all()
    assert (abs(seen[:, :, :SIZE // 2] - shaded[:, :, :SIZE // 2]) > .01).mean() > .9


def test_two_towers_change_images_as_one_would():
    x = images(8)
    whole = run(lambda: augment(tf.constant(x), "shift,cut,color,zoom,shade", chance()))
    shares = [np.concatenate([half[2 * tower:2 * tower + 2] for half in (x[:4], x[4:])]) for tower in (0, 1)]
    parts = [run(lambda tower=tower: augment(tf.constant(shares[tower]), "shift,cut,color,zoom,shade",
                                             chance(tower=tower, towers=2))) for tower in (0, 1)]
    assert np.allclose(np.concatenate([parts[0][:2], parts[1][:2], parts[0][2:], parts[1][2:]]), whole, atol=1e-6)


@pytest.mark.parametrize("kinds", list(KINDS))
def test_gradients_pass_through_augmentation(kinds):
    """By differences: the mean square of what comes out, along a random direction of what goes in."""
    # So dark that no shade makes it white.
    x, direction = .2 * images().astype(np.float64) - .7, images(seed=1).astype(np.float64)

    def build():
        placed = [tf.constant((x + step * direction).astype(np.float32)) for step in (0, 1e-2, -1e-2)]
        values = [tf.reduce_mean(tf.square(augment(each, kinds, chance()))) for each in placed]
        return tf1.gradients(values[0], placed[0])[0], values

    gradient, (_, ahead, behind) = run(build)
    assert (gradient * direction).sum() == pytest.approx((ahead - behind) / 2e-2, rel=2e-2)
