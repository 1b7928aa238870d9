"""evaluation.bootstrap: intervals by drawing identities."""
import numpy as np
import pytest

from datasets.image_sets import Renderings
from evaluation import bootstrap
from evaluation.subjects import Subject


def test_identities_are_drawn_with_all_their_images():
    labels = np.array([2, 0, 2, 1, 1, 2])
    images = [sorted(np.flatnonzero(labels == label)) for label in range(3)]
    seen = []
    bootstrap.interval(lambda indices: seen.append(sorted(indices)) or 0., labels, repeats=40)
    possible = [sorted(a + b + c) for a in images for b in images for c in images]
    assert len(seen) == 40 and all(indices in possible for indices in seen) and len({*map(tuple, seen)}) > 5


def test_the_interval_holds_the_truth_as_often_as_it_says():
    """Of means of images whose identities differ: drawing single images would hold it in 66 % of cases."""
    held = 0
    for seed in range(250):
        rng = np.random.default_rng(seed)
        values, labels = np.repeat(rng.normal(size=40), 4) + .2 * rng.normal(size=160), np.repeat(np.arange(40), 4)
        low, high = bootstrap.interval(lambda indices, values=values: values[indices].mean(), labels, seed=seed)
        held += low < 0 < high
    assert .9 < held / 250 < .97


def test_both_sides_are_drawn_and_independently():
    rng = np.random.default_rng(0)
    first, labels = rng.normal(size=200), np.arange(200)
    one = bootstrap.interval(lambda indices: first[indices].mean(), labels)
    two = bootstrap.interval(lambda a, b: first[a].mean() - first[b].mean(), labels, labels)
    assert (two[1] - two[0]) / (one[1] - one[0]) == pytest.approx(2 ** .5, rel=.15)


def test_fast_means_are_those_of_the_images():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 9, 60)
    values, drawn = rng.normal(size=60), bootstrap.counts(labels, 50, seed=1)
    assert drawn.shape == (50, 9) and (drawn.sum(axis=1) == 9).all() and drawn.std() > .5
    twin = [np.concatenate([np.tile(values[labels == label], times) for label, times in enumerate(row)]).mean()
            for row in drawn]
    assert bootstrap.shares(values, labels, drawn) == pytest.approx(twin)


def test_the_same_seed_draws_the_same():
    labels, values = np.repeat(np.arange(10), 3), np.random.default_rng(0).normal(size=30)
    first, again, other = (bootstrap.interval(lambda indices: values[indices].mean(), labels, seed=seed)
                           for seed in (5, 5, 6))
    assert first == again != other
    subject = Subject("set", Renderings("root", ["name"] * 30, labels, ["identity"] * 10), None, {})
    assert bootstrap.interval(lambda indices: values[indices].mean(), subject, seed=5) == first


def test_an_interval_can_be_moved_to_the_figure_and_skips_what_is_undefined():
    values = [float("nan"), *np.linspace(0, 1, 101), float("inf")]
    assert bootstrap.between(values) == pytest.approx((.025, .975))
    assert bootstrap.between(values, around=.2) == pytest.approx((-.275, .675))
    assert bootstrap.between([float("nan")]) == (None, None)


def test_a_share_of_nobody_or_everybody_is_not_known_for_sure():
    """No draw differs, and yet the next identity may: of 10 identities, by Wilson."""
    labels = np.repeat(np.arange(10) + 5, 3)
    assert bootstrap.around_mean(np.zeros(30, bool), labels) == pytest.approx((0, .2775), abs=1e-3)
    assert bootstrap.around_mean(np.ones(30), labels) == pytest.approx((.7225, 1), abs=1e-3)
    values = np.random.default_rng(0).random(30)
    drawn = bootstrap.shares(values, labels - 5, bootstrap.counts(labels - 5, seed=2))
    assert bootstrap.around_mean(values, labels, 2) == bootstrap.between(drawn)
    assert bootstrap.around_mean(values, np.zeros(30)) == (None, None)


def test_one_identity_has_no_interval():
    assert bootstrap.interval(lambda indices: 1., [4, 4, 4]) == (None, None)
    assert bootstrap.interval(lambda a, b: 1., [0, 1, 2], [3, 3]) == (None, None)
