"""losses.py: every term against a twin in NumPy and the original's own numbers; schedules against its table."""
import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

import losses
from conftest import HERE

tf1 = tf.compat.v1
ALFA, SHORT, LOWER = .95, 16, 5e-6


@pytest.fixture(scope="module")
def units():
    with np.load(HERE / "golden" / "units.npz", allow_pickle=False) as file:
        return dict(file)


def run(build):
    """What the tensors (or tuple of tensors) that `build()` makes are worth."""
    with tf.Graph().as_default(), tf1.Session() as session:
        return session.run(build())


def close(got, wanted, tolerance=1e-5):
    """Whether both are finite and differ by less than `tolerance` of the largest value."""
    got, wanted = np.asarray(got, np.float64), np.asarray(wanted, np.float64)
    return got.shape == wanted.shape and np.abs(got - wanted).max() <= tolerance * np.abs(wanted).max()


def images(count):
    return np.random.default_rng(0).uniform(-1, 1, [count, 3, 5, 5, 3]).astype(np.float32)


# Images

def test_l1_per_example():
    a, b = images(2)
    assert close(run(lambda: losses.l1_per_example(a, b)), np.abs(a - b).mean((1, 2, 3)))


def test_began_terms():
    real, real_reconstruction, fake, fake_reconstruction = images(4)
    got = run(lambda: losses.began_terms(real, real_reconstruction, fake, fake_reconstruction, .3, .5))
    real_loss, fake_loss = np.abs(real_reconstruction - real).mean(), np.abs(fake_reconstruction - fake).mean()
    assert close(got.discriminator, real_loss - .3 * fake_loss)
    assert close(got.generator, fake_loss)
    assert close(got.balance, .5 * real_loss - fake_loss)
    assert close(got.fake_each, np.abs(fake_reconstruction - fake).mean((1, 2, 3)))


def test_paired_terms():
    fitted, rendering = images(2)
    got = run(lambda: losses.paired_terms(fitted, rendering, tf.constant(.4), .1, .7))
    real = np.abs(fitted - rendering).mean()
    assert close(got.real, real) and close(got.generator, real - .1 * .4) and close(got.balance, .7 * real - .4)


def test_pixel_loss_is_a_mean_over_all_values_also_the_masked():
    photo, rendering, noise = images(3)
    mask = (noise > 0).astype(np.float32)
    assert close(run(lambda: losses.pixel_loss(photo, rendering, mask)), (mask * np.abs(photo - rendering)).mean())
    assert run(lambda: losses.pixel_loss(photo, rendering, 0 * mask)) == 0


def test_squared_pixel_loss():
    photo, rendering, noise = images(3)
    mask = (noise > 0).astype(np.float32)
    got = run(lambda: losses.squared_pixel_loss(photo, rendering, mask))
    assert close(got, 2 * (mask * (photo - rendering) ** 2).mean())


@pytest.mark.parametrize("difference, ratio", [(.25, .5), (.5, 1), (1, 2)])
def test_squared_pixels_cost_as_much_as_absolute_ones_at_64_levels(difference, ratio):
    black, everywhere = np.zeros([2, 4, 4, 3], np.float32), np.ones([2, 4, 4, 3], np.float32)
    squared, absolute = run(lambda: [loss(black + difference, black, everywhere)
                                     for loss in (losses.squared_pixel_loss, losses.pixel_loss)])
    assert squared / absolute == pytest.approx(ratio, rel=1e-4)


def chroma_numpy(photo, rendering, mask):
    """Twin of `losses.chroma_loss`, one image and one pair of opponent colours after the other."""
    total = []
    for d, face in zip(photo - rendering, mask.max(-1) > 0):
        for c in (d[..., 0] - d[..., 1], (d[..., 0] + d[..., 1]) / 2 - d[..., 2]):
            total.append(np.where(face, np.abs(c - c[face].mean() if face.any() else 0), 0))
    return np.mean(total)


def test_chroma_loss_sees_colours_that_differ_within_a_face():
    photo, rendering, noise = images(3)
    mask = (noise > .3).astype(np.float32)
    mask[0] = 0                                         # a rendering without a face
    assert close(run(lambda: losses.chroma_loss(photo, rendering, mask)), chroma_numpy(photo, rendering, mask))
    assert chroma_numpy(photo, rendering, mask) > .01


def test_chroma_loss_allows_an_equal_change_of_all_channels_and_one_tint_of_a_face():
    rendering, noise = images(2)
    mask = np.ones_like(rendering)
    lit = rendering + noise[..., :1]
    tinted = rendering + np.array([.2, -.1, .3], np.float32)
    for allowed in (lit, tinted):
        assert run(lambda allowed=allowed: losses.chroma_loss(allowed, rendering, mask)) < 1e-6
    spotted = rendering.copy()
    spotted[:, 2:4, 2:4] += np.array([.5, .4, -.4], np.float32)                 # yellow
    shaded = rendering.copy()                           # multiplied, which brings R, G and B nearer to each other
    shaded[:, :, :2] = (shaded[:, :, :2] + 1) / 2 - 1
    for costly in (spotted, shaded):
        assert run(lambda costly=costly: losses.chroma_loss(costly, rendering, mask)) > .005


def edges_numpy(image):
    """|difference to the next row| + |difference to the next column| of an image's values -> [S, S, 3]."""
    found = np.zeros_like(image)
    found[:-1] += np.abs(np.diff(image, axis=0))
    found[:, :-1] += np.abs(np.diff(image, axis=1))
    return found


def edge_loss(photo, rendering, mask):
    return run(lambda: losses.edge_loss(tf.constant(photo), tf.constant(rendering), mask))


@pytest.mark.parametrize("side, reach", [(16, 0), (32, 1), (64, 2), (108, 3)])
def test_edge_loss(side, reach):
    photo, rendering, noise = np.random.default_rng(3).uniform(-1, 1, [3, 2, side, side, 3]).astype(np.float32)
    rendering[:, side // 3:] *= .2                      # smooth, for the most part
    mask, total = (noise > 0).astype(np.float32), []
    for ours, theirs, face in zip(photo, rendering, mask):
        theirs = np.pad(edges_numpy(theirs), ((reach, reach), (reach, reach), (0, 0)), constant_values=-1)
        near = [theirs[i:i + side, j:j + side] for i in range(2 * reach + 1) for j in range(2 * reach + 1)]
        total.append(face * np.maximum(edges_numpy(ours) - np.max(near, 0) - .12, 0))
    assert close(edge_loss(photo, rendering, mask), np.mean(total)) and np.mean(total) > .01


def test_edge_loss_sees_dots_and_lines_and_allows_shade_blur_and_features_that_lie_near():
    rendering, everywhere = np.zeros([1, 64, 64, 3], np.float32), np.ones([1, 64, 64, 3], np.float32)
    rendering[:, 20:30, 20:30] = -.8                    # an eye
    lit = rendering + np.linspace(0, .6, 64, dtype=np.float32)[:, None]
    moved, blurred = np.roll(rendering, 2, (1, 2)), ndimage.uniform_filter(rendering, (1, 5, 5, 1))
    for allowed in (rendering, lit, moved, blurred, .5 * rendering):
        assert edge_loss(allowed, rendering, everywhere) == 0
    dotted, lined, far = rendering.copy(), rendering.copy(), np.roll(rendering, 4, (1, 2))
    dotted[:, 50, 50], lined[:, 50] = .5, .2
    for costly in (dotted, lined, far):
        assert edge_loss(costly, rendering, everywhere) > 0
    assert edge_loss(dotted, rendering, 0 * everywhere) == 0


def test_update_k(units):
    k, balance = units["k_clip/in"].T
    assert np.allclose(run(lambda: losses.update_k(k, balance, .001)), units["k_clip/out"], atol=1e-7)


# Identity

def magnet_numpy(features, labels, centroids):
    """Twin of `losses.magnet_loss`, one example after the other."""
    cost = np.array([[np.sum((c - e) ** 2) for c in centroids] for e in features.astype(np.float64)])
    intra = cost[np.arange(len(labels)), labels]
    variance = intra.sum() / (len(labels) - 1)
    each = []
    for own, costs in zip(labels, cost):
        weight = -1 / (2 * variance ** 2)
        others = sum(np.exp(weight * c) for j, c in enumerate(costs) if j != own)
        each.append(max(0, -np.log(np.exp(weight * costs[own] - 1) / (others + 1e-8) + 1e-8)))
    return np.array(each)


def moved_numpy(features, labels, centroids):
    moved = centroids.astype(np.float64)
    for label, e in zip(labels, features):
        moved[label] -= (1 - ALFA) * (centroids[label] - e)
    return moved


def magnet_run(features, labels, start, moves=True):
    """Per-example losses, gradient of their mean, and the centroids after it."""
    def build():
        e, centroids = tf.constant(features), tf.constant(start)
        if moves:
            centroids = losses.move_centroids(centroids, e, labels, ALFA)
        each = losses.magnet_loss(e, labels, centroids)
        return each, tf.gradients(tf.reduce_mean(each), e)[0], centroids
    return run(build)


@pytest.mark.parametrize("labels", ["distinct", "dup"])
@pytest.mark.parametrize("mode", ["magnet", "magnet_test"])
def test_magnet_equals_the_original_and_numpy(units, mode, labels):
    classes, case = units[f"label_{labels}"], f"{mode}_{labels}"
    each, gradient, centroids = magnet_run(units["features"], classes, units["centroids0"], mode == "magnet")
    for name, got in (("each", each), ("loss", each.mean()), ("dfeatures", gradient)):
        assert close(got, units[f"{case}/{name}"]), name
    assert close(centroids, units[f"{case}/centroids_after"])
    assert close(each, magnet_numpy(units["features"], classes, centroids))
    if mode == "magnet":
        assert close(centroids, moved_numpy(units["features"], classes, units["centroids0"]))


def test_magnet_of_one_example_is_a_constant(units):
    each, gradient, _ = magnet_run(units["features"][:1], units["label_distinct"][:1], units["centroids0"])
    assert close(each, [units["magnet_batch1/loss"]]) and not gradient.any()


@pytest.mark.parametrize("spread", [0, 1e-6, 1e3])
@pytest.mark.parametrize("classes", [2, 6])
def test_magnet_is_finite_at_and_far_from_the_centroids(spread, classes):
    start = np.eye(classes, 8, dtype=np.float32)
    labels = np.arange(4) % classes
    features = start[labels] + np.float32(spread) * np.random.default_rng(0).normal(size=[4, 8]).astype(np.float32)
    assert all(np.isfinite(result).all() for result in magnet_run(features, labels, start, moves=False))


@pytest.mark.parametrize("labels", ["distinct", "dup"])
def test_center_loss_equals_the_original(units, labels):
    """Its centroids move afterwards, as they should have in the original (`centroids_if_scatter_is_run`)."""
    classes, case = units[f"label_{labels}"], f"center_{labels}"

    def build():
        e, start = tf.constant(units["features"]), tf.constant(units["centroids0"])
        each = losses.center_loss(e, classes, start)
        return each, tf.gradients(tf.reduce_mean(each), e)[0], losses.move_centroids(start, e, classes, ALFA)

    each, gradient, centroids = run(build)
    assert close(each, ((units["features"] - units["centroids0"][classes]) ** 2).mean(1))
    assert close(each.mean(), units[f"{case}/loss"]) and close(gradient, units[f"{case}/dfeatures"])
    assert close(centroids, units[f"{case}/centroids_if_scatter_is_run"])


def test_softmax_loss():
    logits, labels = np.random.default_rng(1).normal(size=[4, 6]).astype(np.float32), [0, 5, 2, 2]
    wanted = np.log(np.exp(logits).sum(1)) - logits[range(4), labels]
    assert close(run(lambda: losses.softmax_loss(logits, labels)), wanted)


# Schedules

def halvings_numpy(step, interval):
    """Twin of `losses.halvings`, one step after the other."""
    count = 0
    for n in range(step):
        event = interval < 1 or n % interval == interval - 1
        count, interval = count + event, interval >> event
    return count


@pytest.mark.parametrize("table, update_step, last", [("lr/0", 128000, 248000), ("lr/0_short_nowarm", SHORT, 60)])
def test_learning_rate_equals_the_originals_table(units, table, update_step, last):
    """The table's rows are (step n, rate after it); before the first change, n is -1."""
    for (done, rate), end in zip(units[table], [*units[table][1:, 0], last - 1]):
        for step in {int(done) + 1, int(end)}:
            assert losses.learning_rate(step, 8e-5, LOWER, update_step) == pytest.approx(rate, rel=1e-6), step


@pytest.mark.parametrize("update_step", [0, 1, 2, 3, 7, 16, 100])
def test_halvings_are_a_pure_function_of_the_step(update_step):
    assert [losses.halvings(n, update_step) for n in range(260)] == [halvings_numpy(n, update_step) for n in range(260)]


@pytest.mark.parametrize("step, wanted", [
    (0, 8e-5), (50, 8e-5 * 2.5), (100, 8e-5 * 4), (127999, 8e-5 * 4), (128000, 8e-5 * 2), (240000, 8e-5 / 4),
    (10 ** 7, 5e-6)])
def test_learning_rate_with_warm_up(step, wanted):
    """To 4 times the rate over 100 steps; the halvings apply to the result."""
    assert losses.learning_rate(step, 8e-5, LOWER, 128000, warm_up=100, factor=4) == pytest.approx(wanted)


def test_learning_rate_corner_cases():
    assert losses.learning_rate(0, 8e-5, LOWER, 128000, warm_up=0, factor=4) == pytest.approx(32e-5)
    assert losses.learning_rate(10 ** 6, 1e-6, LOWER, 10) == 1e-6       # the bound raises no rate above its start


@pytest.mark.parametrize("base, upper, wanted", [
    (.001, .001, [.001] * 5), (.001, .004, [.001, .002, .004, .004, .004]), (.01, .001, [.01] * 5), (0, 1, [0] * 5),
    (.001, .003, [.001, .002, .003, .003, .003])])
def test_identity_weight_doubles_at_each_halving(base, upper, wanted):
    steps = [0, SHORT, 24, 28, 10 ** 6]
    assert [losses.identity_weight(step, base, upper, SHORT) for step in steps] == pytest.approx(wanted)


@pytest.mark.parametrize("table, factor, rates", [
    ([(0, .1)], 1., [.1] * 12), ([(0, .1)], .5, [.1] * 6 + [.05] * 6),
    ([(1, .1), (3, .01)], 1., [.1] * 6 + [.01] * 6), ([(2, .1), (4, .02)], .5, [.1] * 6 + [.05] * 3 + [.01] * 3)])
def test_classifier_rate(table, factor, rates):
    """Epochs of 3 steps, counted from 1; a factor every 2 epochs."""
    assert np.allclose([losses.classifier_rate(step, 3, table, 2, factor) for step in range(12)], rates)
