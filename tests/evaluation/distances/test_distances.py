"""evaluation.distances: every distance against a slow twin, and where its answer is known."""
import io

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
from PIL import Image
from scipy.ndimage import convolve

from evaluation import bootstrap, logistic
from evaluation.distances import features, neighbours, patches, pixels, sliced, two_sample


def clusters(seed, count=60, each=3, width=6, shift=0.):
    """Features of identities: float32 [count each, width], of length 1, and labels."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(count), each)
    found = rng.normal(size=[count, width])[labels] + .4 * rng.normal(size=[count * each, width]) + shift
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32), labels


# KID

def slow_kernel(x, y):
    return (float(x.astype(float) @ y.astype(float)) / len(x) + 1) ** 3


def slow_kid(first, second, first_labels, second_labels):
    """Pair by pair, as the formula is written."""
    means = []
    for each, labels in ((first, first_labels), (second, second_labels)):
        means.append(np.mean([slow_kernel(each[i], each[j]) for i in range(len(each)) for j in range(len(each))
                              if labels[i] != labels[j]]))
    return sum(means) - 2 * np.mean([slow_kernel(x, y) for x in first for y in second])


def test_kid_is_the_sum_over_pairs():
    (first, labels), (second, others) = clusters(0, count=7), clusters(1, count=5, shift=.3)
    assert features.kid(first, second, labels, others) == pytest.approx(slow_kid(first, second, labels, others))
    alone = np.arange(len(first)), np.arange(len(second))           # Gretton's, where nobody has a second image
    assert features.kid(first, second, *alone) == pytest.approx(slow_kid(first, second, *alone))
    with pytest.raises(ValueError, match="one identity"):
        features.kid(first, second, labels * 0, others)


def test_kid_of_one_distribution_is_zero_on_average_however_many_images_an_identity_has():
    found = {(each, apart): np.mean([features.kid(*(clusters(1000 * apart + 2 * seed + side, 20, each)[0] * 6 ** .5
                                                   for side in (0, 1)), *([np.repeat(np.arange(20), each)] * 2))
                                     for seed in range(60)])
             for each in (1, 6) for apart in (0, 1)}
    assert all(abs(value) < .03 for value in found.values()), found


def test_kid_of_subsets_is_that_of_all_on_average():
    (first, labels), (second, others) = clusters(0, 100), clusters(1, 100, shift=.3)
    first, second = first * 2, second * 2
    of_all = features.kid(first, second, labels, others)
    assert features.kid_of_subsets(first, second, labels, others, size=300) == of_all
    found = features.kid_of_subsets(first, second, labels, others, size=80)
    assert found != of_all and found == pytest.approx(of_all, rel=.15)
    assert features.kid_of_subsets(first, second, labels, others, size=80) == found
    assert features.kid_of_subsets(first, second, labels, others, size=80, seed=1) != found


def test_kid_of_draws_is_that_of_the_images_drawn(monkeypatch):
    monkeypatch.setattr(features, "BLOCK", 50)
    (first, labels), (second, others) = clusters(0, 6), clusters(1, 4, shift=.5)
    drawn = [bootstrap.counts(each, 5, seed=side) for side, each in enumerate((labels, others))]
    weights = drawn[0][:, labels], drawn[1][:, others]
    found = (features.kid_within(first, labels, weights[0]) + features.kid_within(second, others, weights[1])
             - 2 * features.kid_between(first, second, *weights))
    for value, times, other_times in zip(found, *weights):
        copies, other_copies = np.repeat(first, times, axis=0), np.repeat(second, other_times, axis=0)
        twin = slow_kid(copies, other_copies, np.repeat(labels, times), np.repeat(others, other_times))
        assert value == pytest.approx(twin, rel=1e-4, abs=1e-6)


# Frechet

def test_the_frechet_distance_is_its_formula():
    first, second = clusters(0, 100)[0].astype(float), clusters(1, 80, shift=.4)[0].astype(float)
    one, other = np.cov(first.T), np.cov(second.T)
    twin = (((first.mean(0) - second.mean(0)) ** 2).sum()
            + np.trace(one + other - 2 * scipy.linalg.sqrtm(one @ other).real))
    assert features.frechet_distance(first, second) == pytest.approx(twin)
    assert features.frechet_of(features.moments(first), features.moments(second)) == pytest.approx(twin)
    assert features.frechet_distance(first, first) == pytest.approx(0, abs=1e-6)


def test_moments_of_draws_are_those_of_the_images_drawn():
    found, labels = clusters(0, 9)
    weights = bootstrap.counts(labels, 6)[:, labels]
    for (mean, covariance), times in zip(features.moments_of_draws(found, weights), weights):
        copies = np.repeat(found.astype(float), times, axis=0)
        assert mean == pytest.approx(copies.mean(axis=0))
        assert covariance == pytest.approx(np.cov(copies.T))


def test_wide_features_get_fewer_draws():
    assert [features.repeats_for(width, 200) for width in (128, 512)] == [200, 50]


# Precision, recall, density, coverage

def slow_membership(own, reference, labels, others):
    """Image by image, as the papers define them; neighbours are of other identities."""
    def radius(all_features, all_labels, i, k):
        return sorted(np.linalg.norm(all_features[i] - all_features[j]) for j in range(len(all_features))
                      if all_labels[j] != all_labels[i])[k - 1]

    distances = np.array([[np.linalg.norm(x - y) for y in reference] for x in own])
    near, wide = (np.array([radius(reference, others, j, k) for j in range(len(reference))]) for k in (3, 5))
    around = np.array([radius(own, labels, i, 3) for i in range(len(own))])
    return {"precision": (distances <= near).any(1), "recall": (distances <= around[:, None]).any(0),
            "density": (distances <= wide).sum(1) / 5, "coverage": (distances <= wide).any(0)}


@pytest.mark.parametrize("each", [1, 4])
@pytest.mark.parametrize("block", [7, 10 ** 6])
def test_membership_is_that_of_the_papers(monkeypatch, each, block):
    monkeypatch.setattr(neighbours, "BLOCK", block)
    (own, labels), (reference, others) = clusters(0, 12, each, 4), clusters(1, 10, each, 4, shift=.5)
    found = membership(own, reference, labels, others)
    for name, twin in slow_membership(own.astype(float), reference.astype(float), labels, others).items():
        assert getattr(found, name) == pytest.approx(twin), name


def membership(own, reference, labels, others):
    """Compare features."""
    return neighbours.compare(own, reference, neighbours.squared_radii(own, labels, 3),
                              neighbours.squared_radii(reference, others, 3, 5))


def test_a_set_lies_in_itself_and_in_nothing_far_away():
    own, labels = clusters(0, 40, 2, 4)
    found = membership(own, own, labels, labels)
    assert found.precision.all() and found.recall.all() and found.coverage.all() and found.density.mean() > 1
    far = membership(own, own + 10, labels, labels)
    assert not any(values.any() for values in far)


def test_one_mode_has_precision_and_no_recall():
    reference, others = clusters(1, 150, 1, 3)
    middle = reference[np.linalg.norm(reference - reference[0], axis=1) < .6]
    found = membership(middle, reference, np.arange(len(middle)), others)
    assert found.precision.mean() == 1 and found.recall.mean() < .5 and found.coverage.mean() < .5


def test_too_few_neighbours_are_an_error():
    own, labels = clusters(0, 2, 4)
    with pytest.raises(ValueError, match="5 of other identities"):
        neighbours.squared_radii(own, labels, 5)


# The two-sample test

def slow_regression(found, side, steps=3000):
    """Gradient descent on the same loss."""
    weights, constant = np.zeros(found.shape[1]), 0.
    importance = np.where(side > 0, .5 / side.mean(), .5 / (1 - side.mean()))
    for _ in range(steps):
        error = importance * (1 / (1 + np.exp(-found @ weights - constant)) - side)
        weights -= .1 * (found.T @ error + weights)
        constant -= .1 * error.sum()
    return [*weights, constant]


def test_the_regression_is_the_best():
    rng = np.random.default_rng(0)
    found, side = rng.normal(size=[30, 3]), (rng.random(30) < .3).astype(float)
    assert two_sample.train(found, side) == pytest.approx(slow_regression(found, side), abs=1e-4)


def test_who_is_told_apart_equals_a_twin():
    """A regression for each fold, on features of mean 0 and deviation 1 of the others."""
    (first, labels), (second, others) = clusters(0, 12, 3, 3), clusters(1, 10, 2, 3, shift=.5)
    right = np.concatenate(two_sample.tell_apart(first, second, labels, others, seed=4))
    both, side = np.concatenate([first, second]).astype(float), np.repeat([0., 1.], [36, 20])
    folds = np.concatenate([logistic.folds_of(labels, 4), logistic.folds_of(others, 4)])
    for image in range(56):
        seen = both[folds != folds[image]]
        *weights, constant = slow_regression((seen - seen.mean(0)) / seen.std(0), side[folds != folds[image]], 1000)
        told = (both[image] - seen.mean(0)) / seen.std(0) @ weights + constant
        assert right[image] == ((told > 0) == side[image])
    assert .5 < right.mean() < 1


def test_nobody_is_in_two_folds():
    labels = np.repeat([5, 2, 9, 11, 30, 31, 40], 4)
    folds = logistic.folds_of(labels)
    assert all(len({*folds[labels == label]}) == 1 for label in labels) and {*folds} == set(range(5))


@pytest.mark.parametrize("shift, low, high", [(0, .4, .6), (.3, .6, .85), (8, .97, 1)])
def test_accuracy_grows_with_the_difference(shift, low, high):
    (first, labels), (second, others) = clusters(0, 200, 2), clusters(1, 200, 2, shift=shift)
    right = two_sample.tell_apart(first, second, labels, others)
    assert low <= np.mean([each.mean() for each in right]) <= high


def test_people_can_not_be_learned_by_heart():
    """Identities are easy to tell apart, and each is in one set only; still, that tells nothing of new ones."""
    (first, labels), (second, others) = clusters(0, 25, 6, 60), clusters(1, 25, 6, 60)
    right = two_sample.tell_apart(first, second, labels, others)
    assert .38 < np.mean([each.mean() for each in right]) < .62
    images = np.arange(150)                         # with images divided instead of identities, it would
    right = two_sample.tell_apart(first, second, images, images)
    assert np.mean([each.mean() for each in right]) > .8


def test_a_set_is_not_told_from_itself():
    first, labels = clusters(0)
    right = two_sample.tell_apart(first, first, labels, labels)
    assert np.mean([each.mean() for each in right]) == pytest.approx(.5)
    with pytest.raises(ValueError, match="5 folds"):
        two_sample.tell_apart(first[:12], first, labels[:12], labels)


# The sliced Wasserstein distance

def test_the_sliced_distance_is_the_mean_of_transports():
    rng = np.random.default_rng(0)
    directions = sliced.draw_directions(4, 7, rng)
    assert np.linalg.norm(directions, axis=1) == pytest.approx(1)
    first, second = rng.normal(size=[50, 4]), rng.gamma(1, size=[50, 4])
    twin = np.mean([scipy.stats.wasserstein_distance(first @ each, second @ each) for each in directions])
    rows = [np.sort(directions @ each.T, axis=1) for each in (first, second)]
    assert sliced.distance(*rows) == pytest.approx(twin) and sliced.distance(rows[0], rows[0]) == 0


def test_distances_of_draws_are_those_of_the_points_drawn():
    """But for the width of bins."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(8), 25)
    first = rng.normal(size=[3, 200]) + rng.normal(size=8)[labels]
    second = rng.normal(size=[3, 200]) * 1.5 + rng.normal(size=8)[labels]
    drawn = [bootstrap.counts(labels, 6, seed=side) for side in (0, 1)]
    bins = sliced.Bins(second)
    shares = [bins.shares(each, labels, times) for each, times in zip((first, second), drawn)]
    for value, *times in zip(bins.distances(*shares), *drawn):
        twin = np.mean([scipy.stats.wasserstein_distance(one, other, *(each[labels] for each in times))
                        for one, other in zip(first, second)])
        assert value == pytest.approx(twin, rel=.02)


# Patches

def slow_pyramid(image):
    """One channel [S, S], with a two-dimensional filter."""
    line = np.array([1, 4, 6, 4, 1]) / 16
    square = np.outer(line, line)
    current, levels = image.astype(float), []
    for _ in range(2):
        smaller = convolve(current, square, mode="mirror")[::2, ::2]
        larger = np.zeros_like(current)
        larger[::2, ::2] = smaller
        levels.append(current - convolve(larger, 4 * square, mode="mirror"))
        current = smaller
    return [*levels, current]


@pytest.mark.parametrize("size", [25, 32])
def test_the_pyramid_is_burts_and_adelsons(size):
    images = np.random.default_rng(0).integers(0, 256, [2, size, size, 3], np.uint8)
    for image in (0, 1):
        for channel in range(3):
            for found, twin in zip(patches.pyramid(images), slow_pyramid(images[image, :, :, channel])):
                assert found[image, :, :, channel] == pytest.approx(twin, abs=1e-3)


def test_patches_are_pieces_of_the_levels():
    images = np.random.default_rng(0).integers(0, 256, [2, 25, 25, 3], np.uint8)
    found = patches.cut(images, 4, np.random.default_rng(1))
    assert [each.shape for each in found] == [(8, 147)] * 3
    for level, pieces in zip(patches.pyramid(images), found):
        for number, piece in enumerate(pieces):
            image, side = level[number // 4], len(level[0]) - 6
            possible = [image[y:y + 7, x:x + 7] for y in range(side) for x in range(side)]
            assert any((piece.reshape(7, 7, 3) == each).all() for each in possible)


def test_normalized_channels_have_mean_zero_and_deviation_one():
    found = np.random.default_rng(0).normal([3, 50, 9], [1, 20, 3], size=[40, 49, 3]).reshape(40, -1).astype(np.float32)
    channels = patches.normalize(found.copy()).reshape(-1, 3)
    assert channels.mean(axis=0) == pytest.approx([0] * 3, abs=1e-5)
    assert channels.std(axis=0) == pytest.approx([1] * 3, abs=1e-5)
    twin = (found.reshape(-1, 3) - found.reshape(-1, 3).mean(0)) / found.reshape(-1, 3).std(0)
    assert channels == pytest.approx(twin, abs=1e-4)


# Pixels

@pytest.mark.parametrize("colour, lab", [       # CIE's values of sRGB's corners, D65
    ((255, 255, 255), (100, 0, 0)), ((0, 0, 0), (0, 0, 0)), ((255, 0, 0), (53.24, 80.09, 67.20)),
    ((0, 255, 0), (87.73, -86.18, 83.18)), ((0, 0, 255), (32.30, 79.19, -107.86)), ((119, 119, 119), (50.03, 0, 0)),
    ((10, 10, 10), (2.74, 0, 0))])
def test_colours_become_lab(colour, lab):
    assert pixels.to_lab(np.array(colour, np.uint8)) == pytest.approx(lab, abs=.05)


def test_images_are_reduced_antialiased():
    """A pattern of lines that a reduction by picking pixels would turn into a plain surface."""
    lines = np.zeros([1, 64, 64, 3], np.uint8)
    lines[:, ::2] = 200
    found = pixels.shrink(lines, 32)
    assert found.shape == (1, 32, 32, 3) and abs(found[0, 4:-4].astype(int) - 100).max() <= 3
    assert pixels.shrink(lines, 64) is lines


def test_degraded_images_keep_shapes_and_lose_detail():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, [2, 64, 64, 3], np.uint8)
    found = pixels.degrade(noise)
    small = Image.fromarray(noise[1]).resize((32, 32), Image.Resampling.BILINEAR)
    encoded = io.BytesIO()
    small.resize((64, 64), Image.Resampling.BILINEAR).save(encoded, "JPEG", quality=75)
    assert (found[1] == np.asarray(Image.open(encoded))).all()
    assert found.dtype == np.uint8 and found.shape == noise.shape and found.std() < noise.std() / 2
