"""recognition.margins: logits, losses and gradients of each head against NumPy, by finite differences."""
import numpy as np
import pytest
import tensorflow as tf

import losses
from recognition import margins
from recognition.margins import Margin

tf1 = tf.compat.v1
LABELS = np.array([0, 1, 2, 0, 1])
HEADS = [Margin("arcface", .5, 64.), Margin("cosface", .4, 64.), Margin("adaface", .4, 64.), Margin("arcface", .2, 8.),
         Margin("adaface", .3, 8.)]


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as graph:
        tf1.set_random_seed(1)
        yield graph


def examples():
    """A bottleneck [5, 4] and a kernel [4, 3]: one example lies opposite to its own direction, lengths vary a lot."""
    rng = np.random.default_rng(4)
    bottleneck, kernel = rng.normal(size=[5, 4]), rng.normal(size=[4, 3])
    bottleneck[1] = -kernel[:, 1] + .05
    return bottleneck * np.array([1., 2., 300., 1e-5, 20.])[:, None], kernel


def quality_of(bottleneck, mean=20., deviation=100.):
    """AdaFace's scaler of each example [B], from the statistics before, and the statistics after."""
    lengths = np.clip(np.linalg.norm(bottleneck, axis=1), .001, 100)
    mean = .01 * lengths.mean() + .99 * mean
    deviation = .01 * lengths.std(ddof=1) + .99 * deviation
    return np.clip(.333 * (lengths - mean) / (deviation + 1e-3), -1, 1), mean, deviation


def twin(how, bottleneck, kernel, quality):
    """The logits [B, N], as the papers and their authors' code have them."""
    cosines = bottleneck / np.linalg.norm(bottleneck, axis=1, keepdims=True) @ (kernel / np.linalg.norm(kernel, axis=0))
    if how.loss == "adaface":
        cosines = np.clip(cosines, -1 + 1e-3, 1 - 1e-3)
    changed = cosines.copy()
    for row, label in enumerate(LABELS):
        angle = np.arccos(cosines[row, label])
        if how.loss == "arcface":
            changed[row, label] = np.cos(angle + how.margin) if angle + how.margin < np.pi else \
                cosines[row, label] - how.margin * np.sin(how.margin)
        elif how.loss == "cosface":
            changed[row, label] -= how.margin
        else:
            angle = np.clip(angle - how.margin * quality[row], 1e-3, np.pi - 1e-3)
            changed[row, label] = np.cos(angle) - (how.margin + how.margin * quality[row])
    return how.scale * changed


def twin_loss(how, bottleneck, kernel, quality):
    logits = twin(how, bottleneck, kernel, quality)
    highest = logits.max(1)
    return (highest + np.log(np.exp(logits - highest[:, None]).sum(1)) - logits[np.arange(5), LABELS]).mean()


def slopes(function, at):
    """The gradient of a function of an array, by central differences that suit each entry's size."""
    found = np.zeros_like(at)
    for place in np.ndindex(at.shape):
        width = 1e-6 * max(np.abs(at[place]), np.abs(at[place[0]]).max())
        ends = []
        for sign in (1, -1):
            moved = at.copy()
            moved[place] += sign * width
            ends.append(function(moved))
        found[place] = (ends[0] - ends[1]) / (2 * width)
    return found


def run(how, bottleneck, kernel):
    """Of the head: Scores, the loss, its gradients by bottleneck and kernel, and the next state {name: value}."""
    given = tf.constant(bottleneck, tf.float32)
    scores = margins.score(given, tf.constant(LABELS, tf.int32), 3, how)
    loss = tf.reduce_mean(losses.softmax_loss(scores.logits, tf.constant(LABELS, tf.int32)))
    weights, = tf1.trainable_variables()
    gradients = tf1.gradients(loss, [given, weights])
    with tf1.Session() as session:
        session.run(tf1.global_variables_initializer())
        weights.load(kernel.astype(np.float32), session)
        return session.run((scores.cosines, scores.logits, loss, gradients,
                            {variable.op.name: value for variable, value in scores.state}))


@pytest.mark.parametrize("how", HEADS, ids=str)
def test_each_head_equals_its_twin(how):
    bottleneck, kernel = examples()
    quality, mean, deviation = quality_of(bottleneck)
    cosines, logits, loss, (by_bottleneck, by_kernel), state = run(how, bottleneck, kernel)
    assert np.allclose(cosines, twin(Margin("cosface", 0., 1.), bottleneck, kernel, None), atol=1e-6)
    assert np.allclose(logits, twin(how, bottleneck, kernel, quality), atol=2e-5 * how.scale)
    assert loss == pytest.approx(twin_loss(how, bottleneck, kernel, quality), rel=1e-4)
    wanted = slopes(lambda moved: twin_loss(how, moved, kernel, quality), bottleneck)
    size = np.linalg.norm(bottleneck, axis=1, keepdims=True)            # a long embedding has a small gradient
    assert np.allclose(by_bottleneck * size, wanted * size, atol=1e-3 * np.abs(wanted * size).max())
    wanted = slopes(lambda moved: twin_loss(how, bottleneck, moved, quality), kernel)
    assert np.allclose(by_kernel, wanted, atol=1e-3 * np.abs(wanted).max())
    assert state == ({} if how.loss != "adaface" else pytest.approx(
        {"Logits/length_mean": mean, "Logits/length_deviation": deviation}, rel=1e-5))


def test_a_margin_makes_the_own_identity_harder_and_no_other():
    """Also beyond an angle of pi - margin, where the cosine of the sum would rise: farther off is always worse."""
    for how in HEADS[:2]:
        angles = np.linspace(.01, np.pi - .01, 50)
        bottleneck = np.stack([np.cos(angles), np.sin(angles)], 1)
        with tf.Graph().as_default(), tf1.Session() as session:
            tf1.set_random_seed(1)
            scores = margins.score(tf.constant(bottleneck, tf.float32), tf.zeros([50], tf.int32), 2, how)
            session.run(tf1.global_variables_initializer())
            tf1.trainable_variables()[0].load(np.eye(2, dtype=np.float32), session)
            cosines, logits = session.run((scores.cosines, scores.logits))
        assert np.allclose(logits[:, 1], how.scale * cosines[:, 1], rtol=1e-5)
        assert (logits[:, 0] < how.scale * cosines[:, 0]).all() and (np.diff(logits[:, 0]) < 0).all()


@pytest.mark.parametrize("loss", margins.LOSSES)
def test_gradients_stay_finite_at_the_ends(loss):
    """Where an embedding lies exactly on its identity's direction, or opposite to it, or is 0."""
    bottleneck = np.array([[1., 0.], [-1., 0.], [0., 0.], [3., 0.], [0., 5.]])
    found = run(Margin(loss, .5, 64.), np.concatenate([bottleneck, np.zeros([5, 2])], 1), np.eye(4)[:, :3])
    assert all(np.isfinite(each).all() for each in (found[1], *found[3]))


def test_adafaces_margin_follows_the_length_of_the_bottleneck():
    """Of two images with the same direction, the one with the longer bottleneck has the larger difference."""
    bottleneck = np.ones([5, 4]) * np.array([1., 10., 20., 40., 5.])[:, None]
    logits = run(Margin("adaface", .4, 1.), bottleneck, np.ones([4, 3]) + np.eye(4)[:, :3])[1]
    own = logits[np.arange(5), LABELS]
    assert own[3] < own[2] < own[1] < own[0]
