"""Is everybody another person, and is each person always the same: uniqueness, consistency, collisions.

Uniqueness and consistency are those of DCFace (Kim et al. 2023, "DCFace: Synthetic Face Generation with Dual Condition
Diffusion Model"), with f_c the mean embedding of identity c, scaled to length 1, and d(f, g) = 1 - cosine:

    U = |{f_c : d(f_n, f_m) > r for all m < n}| / C
    C = mean over identities of the share of their images within r of their mean

This U has two faults. It falls with the number of identities, for real people too. And scaled means lie nearer to each
other than images do, so that an r that 1 of 1,000 pairs of images of strangers is within holds many pairs of their
means: of 50 people of Labeled Faces in the Wild, U was .26 by dlib's network. So sets are compared by means that are
not scaled, where 1 - f_n f_m is the average distance of the images of both, the quantity that r was measured on (U was
1), and by the U that k identities have on average, over all choices and orders of k.
"""
import math
from typing import NamedTuple

import numpy as np
import scipy.special

from evaluation import bootstrap
from evaluation.figures import Figure, not_measured
from evaluation.subjects import measurable
from recognition import verification

MOST_IDENTITIES = 50_000            # that uniqueness is measured on: it compares each with each
MOST_COLLISIONS = 100               # that are listed
_BLOCK = 1 << 23                    # distances of identities to each other that are in memory at once
_PART = 1024                        # identities that are averaged at once
_Z = 1.96


class Collision(NamedTuple):
    """Two identities that lie nearer to each other than real strangers do."""
    first: int                      # a label of the Subject
    second: int                     # one above `first`
    distance: float                 # 1 - the product of their mean embeddings


class Uniqueness(NamedTuple):
    """How many identities are unique."""
    literal: Figure                 # U in the order of the identities
    equal: Figure                   # U that `k` identities have on average
    rate: Figure                    # share of pairs of identities that collide
    collisions: list                # the nearest MOST_COLLISIONS, nearest first
    measured: int                   # identities measured: all, or a sample of MOST_IDENTITIES


def means_of(subject, scaled=True):
    """Compute the mean embedding of each identity, `scaled` to length 1 or not -> float32 [C, E]."""
    labels = np.asarray(subject.images.labels)
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], np.arange(len(subject.images.identities)))
    sums = np.empty((len(starts), subject.features.shape[1]), np.float32)
    for first in range(0, len(starts), _PART):
        last = starts[first + _PART] if first + _PART < len(starts) else len(order)
        part = subject.features[order[starts[first]:last]]
        sums[first:first + _PART] = np.add.reduceat(part, starts[first:first + _PART] - starts[first], axis=0)
    if not scaled:
        return sums / np.bincount(labels, minlength=len(starts))[:, None].astype(np.float32)
    return sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)


def distances_to_means(subject, means):
    """Compute the distance of each image to the mean embedding of its identity -> [n]."""
    labels, result = subject.images.labels, np.empty(subject.count)
    for start in range(0, subject.count, 1 << 15):
        part = slice(start, start + (1 << 15))
        result[part] = verification.distance(subject.features[part], means[labels[part]], metric=0) / 2
    return result


def typical_images(subject, means):
    """Find the image of each identity that is nearest to its mean embedding -> int [C], indices of images."""
    distances = distances_to_means(subject, means)
    order = np.lexsort((distances, subject.images.labels))
    return order[np.searchsorted(subject.images.labels[order], np.arange(len(means)))]


# Consistency

def consistency(subject, radius, seed=0):
    """Measure the consistency C of a Subject within the distance `radius` of means -> Figure.

    Identities with a single image are left out: it is its own mean.
    """
    labels = np.asarray(subject.images.labels)
    sizes = np.bincount(labels)
    if sizes.max(initial=0) < 2:
        return not_measured("no identity has two images, and one is its own mean; give several of each")
    within = distances_to_means(subject, means_of(subject)) <= radius
    several = np.flatnonzero(sizes > 1)
    shares = np.bincount(labels, weights=within)[several] / sizes[several]
    drawn = bootstrap.counts(np.arange(len(several)), seed=seed)
    interval = bootstrap.between(drawn @ shares / len(several)) if len(several) > 1 else (None, None)
    return Figure(float(shares.mean()), *interval, len(several))


# Uniqueness

def uniqueness(means, radius, k=None, seed=0):
    """Measure the uniqueness U of identities with the mean embeddings `means` [C, E] -> Uniqueness.

    Two identities collide where their distance 1 - f_n f_m is at most `radius`. `k` identities are compared with other
    sets; all where it is None. Intervals are by the jackknife over identities (Efron, Stein 1981), which leaves each
    out in turn: the bootstrap draws some twice, and these would collide with themselves.
    """
    chosen = np.arange(len(means))
    if len(means) > MOST_IDENTITIES:
        chosen = np.sort(np.random.default_rng(seed).choice(len(means), MOST_IDENTITIES, replace=False))
    means, count = means[chosen], len(chosen)
    if count < 2:
        none = not_measured("one identity only: nobody to be told from; give at least two")
        return Uniqueness(none, none, none, [], count)
    k = count if k is None else min(k, count)
    before, degrees = np.zeros(count, np.int64), np.zeros(count, np.int64)
    nearest = np.empty((0, 3))
    for start, distances in _blocks(means):
        near = distances <= radius
        rows = np.arange(start, start + len(near))
        degrees[rows] = near.sum(axis=1)
        near &= np.arange(count) < rows[:, None]                # each pair once
        before[rows] = near.sum(axis=1)
        places = np.flatnonzero(near)
        values = distances.ravel()[places]
        if len(places) > MOST_COLLISIONS:
            best = np.argpartition(values, MOST_COLLISIONS - 1)[:MOST_COLLISIONS]
            places, values = places[best], values[best]
        found = np.column_stack([places % count, places // count + start, values])
        nearest = np.concatenate([nearest, found])
        nearest = nearest[np.lexsort(nearest.T)][:MOST_COLLISIONS]      # by distance
    literal, equal, rate = _with_intervals(means, radius, before, degrees, k)
    collisions = [Collision(int(chosen[int(one)]), int(chosen[int(other)]), float(far)) for one, other, far in nearest]
    return Uniqueness(literal, equal, rate, collisions, count)


def unique_of(subject, within, k, seed=0):
    """Measure how many of `k` people of a Subject are unique, on average -> Figure.

    `within` is the Figure of the distance of average images at which two people collide: where it was not measured,
    nothing is.
    """
    if within.value is None:
        return within
    return uniqueness(means_of(measurable(subject), scaled=False), within.value, k, seed).equal


def _blocks(means):
    """Compute the distances of `means` [C, E] to each other, by blocks -> (first row, float32 [block, C]).

    The distance of an identity to itself is infinite.
    """
    size = max(1, _BLOCK // len(means))
    for start in range(0, len(means), size):
        distances = means[start:start + size] @ means.T
        np.subtract(1, distances, out=distances)
        np.maximum(distances, 0, out=distances)             # rounding may take equal ones below 0
        rows = np.arange(len(distances))
        distances[rows, start + rows] = np.inf
        yield start, distances


def _with_intervals(means, radius, before, degrees, k):
    """Make the three Figures of Uniqueness from the identities that each collides with, earlier ones and all [C]."""
    count = len(means)
    unique = before == 0
    chance = unique_chance(np.arange(degrees.max() + 1), count, k)
    shorter = unique_chance(np.arange(degrees.max() + 1), count - 1, min(k, count - 1))
    # What all others gain when an identity is left out: those that collide with it alone become unique, ...
    gains, more = np.zeros(count), np.zeros(count)
    single, better = (before == 1).astype(np.float32), shorter[np.maximum(degrees - 1, 0)] - shorter[degrees]
    for start, distances in _blocks(means):
        near = distances <= radius
        rows = np.arange(start, start + len(near))
        gains += single[rows] @ (near & (np.arange(count) < rows[:, None]))
        more[rows] = near @ better                          # ... and those that collide with it become more often so
    literal = unique.mean()
    left_out = (unique.sum() - unique + gains) / (count - 1)
    equal = chance[degrees].mean()
    equal_left_out = (shorter[degrees].sum() - shorter[degrees] + more) / (count - 1)
    rate = degrees.sum() / (count * (count - 1))
    rate_left_out = (degrees.sum() - 2 * degrees) / ((count - 1) * max(count - 2, 1))
    return (_jackknife(literal, left_out, count), _jackknife(equal, equal_left_out, k),
            _jackknife(rate, rate_left_out, count * (count - 1) // 2))


def unique_chance(degrees, count, k):
    """Compute how likely identities are unique among `k` of `count`, chosen and ordered at random -> [n].

    They have to be chosen, and to come first among those that they collide with, of whom there are `degrees` [n]. With
    G = degree + 1, some of these G are among the k with probability 1 - (count-G choose k) / (count choose k), and each
    of them is the first one as often. This is divided by the probability k / count to be chosen.
    """
    together = np.asarray(degrees) + 1.
    left = np.maximum(count - together, 0)
    ratio = np.where(left >= k, np.exp(_log_choose(np.maximum(left, k), k) - _log_choose(count, k)), 0.)
    return count / (k * together) * (1 - ratio)


def _log_choose(count, k):
    """Compute the logarithm of the binomial coefficient `count` over `k`."""
    return (scipy.special.gammaln(count + 1.) - scipy.special.gammaln(k + 1.) - scipy.special.gammaln(count - k + 1.))


def _jackknife(value, left_out, n):
    """Make the Figure of a share, from what it is without each identity `left_out` [C].

    Where no share changes, all identities are alike: then the interval is Wilson's of so many identities.
    """
    count = len(left_out)
    error = math.sqrt((count - 1) / count * np.square(left_out - left_out.mean()).sum())
    low, high = value - _Z * error, value + _Z * error
    if error < 1e-12:
        low, high = verification.interval(value, count)
    return Figure(float(value), float(max(low, 0)), float(min(high, 1)), n)
