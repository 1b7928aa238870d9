"""The sliced Wasserstein distance, Rabin et al. 2011: how far points of a set have to be moved to become another set.

Points are projected on directions. In one dimension, the distance is the mean difference of the sorted projections.
The sliced distance is the mean over directions.
"""
import numpy as np

BINS = 128              # of projections, from which distances of draws are computed
REACH = 5               # deviations from the middle to the outermost bins


def draw_directions(width, count, rng):
    """Draw directions of length 1, evenly on the sphere -> float32 [count, width]."""
    directions = rng.normal(size=[count, width])
    return (directions / np.linalg.norm(directions, axis=1, keepdims=True)).astype(np.float32)


def distance(first, second):
    """Compute the sliced distance of projections [directions, n] and [directions, n], each row of which is sorted."""
    return float(np.mean([np.abs(one - other).mean(dtype=np.float64) for one, other in zip(first, second)]))


class Bins:
    """Bins of projections: the same for all sets that are compared, as wide as a reference needs."""

    def __init__(self, projections):
        """Lay BINS bins for each row of `projections` [directions, n]."""
        middle, deviation = projections.mean(axis=1), np.maximum(projections.std(axis=1), 1e-6)
        self.start, self.width = (middle - REACH * deviation)[:, None], (2 * REACH * deviation / BINS)[:, None]

    def shares(self, projections, labels, drawn):
        """Compute the share of projections up to the end of each bin -> [repeats, directions, BINS].

        `labels` [n] tells the identity of each point, and `drawn` [repeats, identities] how often each identity is
        there. What lies outside goes into the outermost bins.
        """
        identities, found = drawn.shape[1], []
        drawn = drawn.astype(np.float32)
        for row, start, width in zip(projections, self.start, self.width):
            place = np.clip((row - start) / width, 0, BINS - 1).astype(np.int64)
            counts = np.bincount(labels * BINS + place, minlength=identities * BINS).reshape(identities, BINS)
            found.append(np.cumsum(drawn @ counts.astype(np.float32), axis=1, dtype=np.float64))
        found = np.stack(found, axis=1)
        return found / found[:, :, -1:]

    def distances(self, first, second):
        """Compute the sliced distance for each draw, from the `shares` of two sets -> [repeats]."""
        return (np.abs(first - second).sum(axis=2) * self.width[:, 0]).mean(axis=1)
