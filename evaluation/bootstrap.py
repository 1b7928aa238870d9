"""Intervals of figures: what they could have been with other identities, by the bootstrap (Efron, Tibshirani 1993).

Images of one identity resemble each other, so identities are drawn and not images: as many as there are, with
replacement, each with all its images. Intervals are too narrow where there are fewer than about ten identities.

There are three ways to take part, from the simple to the fast:
`interval` calls a statistic with the indices of the images drawn.
`counts` tells how often each identity is drawn. A statistic that is a sum over identities becomes one matrix product.
`shares` evaluates means over images that way, and `around_mean` makes an interval of them. `between` turns values of
any origin into an interval.
"""
import numpy as np

from recognition import verification

REPEATS = 200           # draws; the 2.5 % ends of so many are known to about a tenth of the width of the interval
LEVEL = .95


def interval(statistic, *labels, repeats=REPEATS, seed=0, around=None):
    """Compute the 95 % percentile interval of a statistic by drawing identities -> (low, high).

    `labels` [n] tells the identity of each image; a Subject stands for its labels. `statistic(indices)` computes a
    number from the images drawn; an image may be in `indices` several times. A statistic of two sets is given the
    labels of both, and `statistic(first, second)` gets indices of each; both are drawn, independently.
    `around` is as in `between`. The interval is (None, None) where a set has a single identity.
    """
    sets = [_labels_of(each) for each in labels]
    if any(len(np.unique(each)) < 2 for each in sets):
        return None, None
    drawn = [_draw_images(each, repeats, np.random.default_rng([seed, side])) for side, each in enumerate(sets)]
    return between([statistic(*indices) for indices in zip(*drawn)], around)


def between(values, around=None):
    """Find the 95 % percentile interval of the values of a statistic over draws -> (low, high).

    Values that are not finite are left out: a statistic may be undefined for some draws. Where none is left, the
    interval is (None, None). With `around`, the interval is shifted until the median of the values lies there. This is
    for statistics that repeated images bias, such as distances between distributions: drawn sets have fewer different
    images, which moves them further apart.
    """
    values = np.asarray(values, np.float64)
    values = values[np.isfinite(values)]
    if not len(values):
        return None, None
    if around is not None:
        values = values + (around - np.median(values))
    low, high = np.percentile(values, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return float(low), float(high)


def counts(labels, repeats=REPEATS, seed=0):
    """Draw identities -> how often each is there, int64 [repeats, C]. Each row sums to C.

    `labels` [n] has the numbers 0 to C - 1. `counts(labels)[:, labels]` are the weights of the images.
    """
    count = int(np.max(labels)) + 1
    return np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=repeats)


def shares(values, labels, drawn):
    """Compute the mean of `values` [n] over images for each draw [repeats, C] that `counts` made -> [repeats].

    A draw of identities that have no image has no mean: nan.
    """
    sums = np.bincount(labels, weights=values, minlength=drawn.shape[1])
    sizes = np.bincount(labels, minlength=drawn.shape[1])
    with np.errstate(invalid="ignore"):
        return (drawn @ sums) / (drawn @ sizes)


def _labels_of(each):
    """Return the labels of a Subject, or labels as an array."""
    return np.asarray(each.images.labels if hasattr(each, "images") else each)


def _draw_images(labels, repeats, rng):
    """Draw identities `repeats` times, and yield the indices of their images."""
    _, numbers, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    images = np.split(np.argsort(numbers, kind="stable"), np.cumsum(sizes)[:-1])
    for _ in range(repeats):
        yield np.concatenate([images[i] for i in rng.integers(len(images), size=len(images))])


def around_mean(values, labels, seed=0):
    """Compute the 95 % interval of the mean of `values` [n], one of each image -> (low, high).

    `labels` [n] tells the identity of each image. Where all values are 0, or all are 1, every draw has this mean: then
    the interval is Wilson's, of a share of so many identities. It is (None, None) for a single identity otherwise.
    """
    numbers = np.unique(labels, return_inverse=True)[1]
    count, first = int(numbers.max()) + 1, float(values[0])
    if first in (0, 1) and (np.asarray(values) == first).all():
        low, high = verification.interval(first, count)
        return (low, 1.) if first else (0., high)           # but for rounding
    return between(shares(values, numbers, counts(numbers, seed=seed))) if count > 1 else (None, None)
