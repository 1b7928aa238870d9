"""games/hinge.py: patch discriminators, their losses and gradients, spectral norm and augmentation, against NumPy."""
import numpy as np
import pytest
import tensorflow as tf

import losses
from config import get_config
from conftest import NARROW, words
from engine import layers
from games import hinge
from games.hinge import augment, Hinge, PatchDiscriminator

tf1 = tf.compat.v1
SIZE = 16


@pytest.fixture
def graph():
    """A graph of its own for the test, seeded: TensorFlow, as every command starts it, insists on seeds."""
    with tf.Graph().as_default() as graph:
        tf1.set_random_seed(1)
        yield graph


def images(count=4, size=SIZE, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, [count, size, size, 3]).astype(np.float32)


def run(build):
    """What the tensors that `build()` makes are worth, variables at their initial values."""
    with tf.Graph().as_default(), tf1.Session() as session:
        tf1.set_random_seed(1)
        made = build()
        session.run(tf1.global_variables_initializer())
        return session.run(made)


def chance(seed=5, tower=0, towers=1):
    return layers.Dropout(1, tf.constant([seed, 7]), tower, towers)


# The discriminator

@pytest.mark.parametrize("size", [16, 20, 64])
@pytest.mark.parametrize("scales", [1, 2])
def test_verdicts_have_a_scale_each_and_a_second_call_shares_the_variables(graph, size, scales):
    network = PatchDiscriminator("D", 2, scales)
    first, second = (network(tf.constant(images(2, size))) for _ in range(2))
    assert len(first) == scales and len(network.variables) == scales * 10
    assert tf1.global_variables() == network.variables
    with tf1.Session() as session:
        session.run(tf1.global_variables_initializer())
        for once, again in zip(*session.run((first, second))):
            assert np.array_equal(once, again) and once.shape[0] == 2 and once.shape[3] == 1 and once.std() > 0
    if size == 64:
        assert [each.shape[1:3].as_list() for each in first] == [[8, 8], [4, 4]][:scales]


def test_a_verdict_sees_70_pixels(graph):
    """The gradient of one verdict by a large image is 0 beyond them."""
    image = tf.constant(images(1, 128))
    verdict, = PatchDiscriminator("D", 4)(image)
    by_image = tf1.gradients(verdict[0, 8, 8, 0], image)[0]
    with tf1.Session() as session:
        session.run(tf1.global_variables_initializer())
        seen = np.abs(session.run(by_image)).sum((0, 3)) > 0
    assert [np.ptp(np.flatnonzero(seen.any(axis))) + 1 for axis in (0, 1)] == [70, 70]


@pytest.mark.parametrize("shape", [(4, 4, 3, 8), (4, 4, 8, 16), (4, 4, 16, 1)])
def test_spectral_norm_divides_by_the_largest_singular_value(shape):
    weights = np.random.default_rng(0).normal(0, .02, shape).astype(np.float32)
    largest = np.linalg.svd(weights.reshape(-1, shape[-1]), compute_uv=False)[0]
    ours = run(lambda: layers.spectral_norm(tf.constant(weights), 200))
    assert np.abs(ours - weights / largest).max() < 1e-4 * np.abs(ours).max()
    usual = run(lambda: layers.spectral_norm(tf.constant(weights)))
    assert 1 <= np.linalg.svd(usual.reshape(-1, shape[-1]), compute_uv=False)[0] + 1e-6 < 1.25


def test_spectral_norm_sends_no_gradient_along_the_weights():
    """Since the result does not depend on their length."""
    weights = np.random.default_rng(0).normal(0, 1, (4, 4, 3, 8)).astype(np.float32)

    def build():
        variable = tf.constant(weights)
        target = tf.constant(np.random.default_rng(1).normal(0, 1, weights.shape).astype(np.float32))
        return tf1.gradients(tf.reduce_sum(target * layers.spectral_norm(variable)), variable)[0]

    gradient = run(build)
    along = (gradient * weights).sum() / np.linalg.norm(gradient) / np.linalg.norm(weights)
    assert abs(along) < 1e-5 < np.linalg.norm(gradient)


# The losses

def test_hinge_terms():
    rng = np.random.default_rng(0)
    fake, real = ([rng.normal(0, 2, [3, side, side, 1]).astype(np.float32) for side in (4, 2)] for _ in range(2))
    got = run(lambda: losses.hinge_terms(list(map(tf.constant, fake)), list(map(tf.constant, real))))
    on_real = np.mean([np.maximum(1 - each, 0).mean() for each in real])
    assert got.real == pytest.approx(on_real, rel=1e-5)
    assert got.discriminator == pytest.approx(on_real + np.mean([np.maximum(1 + each, 0).mean() for each in fake]))
    each = -np.mean([verdict.mean((1, 2, 3)) for verdict in fake], axis=0)
    assert np.allclose(got.fake_each, each, atol=1e-6)
    assert got.generator == pytest.approx(each.mean(), rel=1e-5) and got.balance == 0


def playing(**options):
    config, _ = get_config(words(**NARROW, method_c="none", game="hinge", **options))
    return Hinge(config)


@pytest.mark.parametrize("options", [{}, {"d_scales": 2, "augment": "shift,cut,color"}, {"r1": 2.}])
def test_gradients_are_those_of_the_losses(graph, options):
    game = playing(**options)
    network, both = game.discriminator("D"), tf.constant(images(6))
    played = game.play(network, both, None, True, chance())
    apart = [tf1.gradients(played.terms.generator, both)[0][:3],
             *tf1.gradients(played.terms.discriminator, network.variables)]
    with tf1.Session() as session:
        session.run(tf1.global_variables_initializer())
        for ours, wanted in zip(*session.run([[played.by_fake, *played.by_variables], apart])):
            assert ours.shape == wanted.shape and np.abs(ours - wanted).max() <= 1e-6 * np.abs(wanted).max()
            assert np.isfinite(ours).all()
    without = game.play(network, both, None, False, chance())
    assert without.by_fake is without.by_variables is without.fake_reconstruction is None


def test_r1_is_the_squared_slope_at_real_images(graph):
    """By differences of the verdict along its gradient, at the real images, which are the second half."""
    network, both = PatchDiscriminator("D", 3), images(4)
    placed = tf1.placeholder(tf.float32, both.shape)
    verdict = network(placed)[0]
    penalty = hinge.slope_at_real(placed, [tf.split(verdict, 2)[1]])
    means = tf.reduce_mean(verdict, axis=[1, 2, 3])
    by_image = tf1.gradients(tf.reduce_sum(means), placed)[0]
    with tf1.Session() as session:
        session.run(tf1.global_variables_initializer())
        found, slopes = session.run([penalty, by_image], {placed: both})
        lengths = np.sqrt((slopes ** 2).sum((1, 2, 3), keepdims=True))
        ahead, behind = (session.run(means, {placed: both + sign * 1e-2 * slopes / lengths}) for sign in (1, -1))
    measured = (ahead - behind)[2:] / 2e-2
    assert found == pytest.approx(np.mean(measured ** 2), rel=.05)


def test_score_is_low_for_what_is_judged_real(graph):
    game, x = playing(), tf.constant(images())
    network = game.discriminator("D")
    score, verdicts = game.score(network, x), network(x)[0]
    with tf1.Session() as session:
        session.run(tf1.global_variables_initializer())
        score, verdicts = session.run([score, verdicts])
    assert np.allclose(score, -verdicts.mean((1, 2, 3)), atol=1e-6)


# Augmentation

def test_no_augmentation_leaves_images_as_they_are():
    assert np.array_equal(run(lambda: augment(tf.constant(images()), "none", chance())), images())


@pytest.mark.parametrize("kinds", ["shift", "cut", "color", "zoom", "zoom,color,cut,shift"])
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


def test_two_towers_change_images_as_one_would():
    x = images(8)
    whole = run(lambda: augment(tf.constant(x), "shift,cut,color,zoom", chance()))
    shares = [np.concatenate([half[2 * tower:2 * tower + 2] for half in (x[:4], x[4:])]) for tower in (0, 1)]
    parts = [run(lambda tower=tower: augment(tf.constant(shares[tower]), "shift,cut,color,zoom",
                                             chance(tower=tower, towers=2))) for tower in (0, 1)]
    assert np.allclose(np.concatenate([parts[0][:2], parts[1][:2], parts[0][2:], parts[1][2:]]), whole, atol=1e-6)


@pytest.mark.parametrize("kinds", ["shift", "cut", "color", "zoom"])
def test_gradients_pass_through_augmentation(kinds):
    """By differences: the mean square of what comes out, along a random direction of what goes in."""
    x, direction = images().astype(np.float64), images(seed=1).astype(np.float64)

    def build():
        placed = [tf.constant((x + step * direction).astype(np.float32)) for step in (0, 1e-2, -1e-2)]
        values = [tf.reduce_mean(tf.square(augment(each, kinds, chance()))) for each in placed]
        return tf1.gradients(values[0], placed[0])[0], values

    gradient, (_, ahead, behind) = run(build)
    assert (gradient * direction).sum() == pytest.approx((ahead - behind) / 2e-2, rel=2e-2)
