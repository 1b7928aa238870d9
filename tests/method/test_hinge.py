"""games/hinge.py: patch discriminators, their losses and gradients, and spectral norm, against NumPy."""
import numpy as np
import pytest
import tensorflow as tf

import losses
from config import get_config
from conftest import NARROW, words
from engine import layers
from games import hinge
from games.hinge import Hinge, PatchDiscriminator
from preflight import networks_of

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


@pytest.mark.parametrize("depth, pixels", [(3, 70), (2, 34), (1, 16)])
def test_a_verdict_sees_a_patch(graph, depth, pixels):
    """The gradient of one verdict by a large image is 0 beyond so many pixels."""
    image = tf.constant(images(1, 128))
    verdict, = PatchDiscriminator("D", 4, depths=[depth])(image)
    middle = verdict.shape[1] // 2
    by_image = tf1.gradients(verdict[0, middle, middle, 0], image)[0]
    with tf1.Session() as session:
        session.run(tf1.global_variables_initializer())
        seen = np.abs(session.run(by_image)).sum((0, 3)) > 0
    assert [np.ptp(np.flatnonzero(seen.any(axis))) + 1 for axis in (0, 1)] == [pixels, pixels]


@pytest.mark.parametrize("scales, depths", [(1, "3"), (2, "2"), (3, "1"), (1, "1,3"), (2, "1,2,3")])
def test_its_shape_is_known_from_its_variables(graph, scales, depths):
    network = PatchDiscriminator("D_forw", 5, scales, [int(depth) for depth in depths.split(",")])
    network(tf.constant(images(1)))
    found = networks_of({variable.op.name: variable.shape.as_list() for variable in network.variables})
    assert found == dict(game="hinge", conv_hidden_num=5, d_scales=scales, d_layers=depths)
    assert not networks_of({"D_forw/scale2/conv1/weights": [4, 4, 3, 5], "D_forw/scale1/conv3/weights": [4, 4, 5, 5]})


def test_depths_side_by_side_judge_as_each_alone(graph):
    image, names = tf.constant(images(2)), {1: "scale1_layers1", 3: "scale1"}
    together = PatchDiscriminator("D", 4, depths=(1, 3))
    verdicts = together(image)
    alone = [PatchDiscriminator(f"D{depth}", 4, depths=[depth]) for depth in names]
    apart = [network(image)[0] for network in alone]
    by_name = {variable.op.name: variable for variable in together.variables}
    same = [variable.assign(by_name[variable.op.name.replace(f"D{depth}/scale1", f"D/{names[depth]}")])
            for depth, network in zip(names, alone) for variable in network.variables]
    assert len(same) == len(by_name)
    with tf1.Session() as session:
        session.run(tf1.global_variables_initializer())
        session.run(same)
        for one, other in zip(*session.run([verdicts, apart])):
            assert np.array_equal(one, other) and one.std() > 0


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


def test_feature_matching_loss():
    rng = np.random.default_rng(0)
    made, wanted = ([rng.normal(0, size, [3, 4, 4, 2]).astype(np.float32) for size in (1, 50)] for _ in range(2))
    got = run(lambda: losses.feature_matching_loss(list(map(tf.constant, made)), list(map(tf.constant, wanted))))
    each = [np.abs(ours - theirs).mean((1, 2, 3)) / np.abs(theirs).mean((1, 2, 3))
            for ours, theirs in zip(made, wanted)]
    assert got == pytest.approx(np.mean(each), rel=1e-5)
    larger = [[layers_[0], 50 * layers_[1]] for layers_ in (made, wanted)]
    assert run(lambda: losses.feature_matching_loss(*larger)) == pytest.approx(got, rel=1e-5)
    nothing = [np.zeros([1, 2, 2, 1], np.float32)]
    assert run(lambda: losses.feature_matching_loss(nothing, nothing)) == 0


@pytest.mark.slow
def test_images_are_matched_by_the_features_of_all_layers_and_not_by_verdicts(graph):
    game = playing(d_layers="1,3", d_scales=2)
    network, made, wanted = game.discriminator("D"), tf.constant(images(2)), tf.constant(images(2, seed=1))
    seen = [[features for outputs in network.run(each) for features in outputs[:-1]] for each in (made, wanted)]
    assert [features.shape[-1] for features in seen[0]] == [4, 8, 4, 8, 16, 16] * 2
    same = game.match_features(network, made, made)
    with tf1.Session() as session:
        session.run(tf1.global_variables_initializer())
        got, (ours, theirs), none = session.run([game.match_features(network, made, wanted), seen, same])
        verdicts, judged = session.run([network(made), [outputs[-1] for outputs in network.run(made)]])
    each = [np.abs(one - other).mean((1, 2, 3)) / np.abs(other).mean((1, 2, 3)) for one, other in zip(ours, theirs)]
    assert got == pytest.approx(np.mean(each), rel=1e-4) and none == 0
    assert all(np.array_equal(one, other) for one, other in zip(verdicts, judged))


def playing(**options):
    config, _ = get_config(words(**NARROW, method_c="none", game="hinge", **options))
    return Hinge(config)


@pytest.mark.parametrize("options", [{}, {"d_scales": 2, "augment": "shift,cut,color"}, {"r1": 2., "d_layers": "1,2"}])
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
