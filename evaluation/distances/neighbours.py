"""Precision, recall, density and coverage: how much of one set of features lies among those of another.

Precision and recall: Kynkaanniemi et al. 2019, "Improved Precision and Recall Metric for Assessing Generative Models".
Density and coverage: Naeem et al. 2020, "Reliable Fidelity and Diversity Metrics for Generative Models". Around each
image of a set lies a ball that reaches to its k-th nearest other image. All four tell which images lie in whose balls.
Here the k-th nearest image of another identity counts. With more than k images of each identity, balls would hold this
identity alone, and even photos of other people would lie in none. Where each identity has one image, all is as in the
papers. Distances are exact and computed by blocks, in 200 MB for 10,000 images.
"""
from typing import NamedTuple

import numpy as np

PRECISION_K, DENSITY_K = 3, 5           # the neighbour that a ball reaches to, as in the two papers
BLOCK = 2_000_000                       # distances that are computed at a time: 16 MB
TOLERANCE = 1e-9                        # of squared distances, in parts of the squared length of features: rounding


class Membership(NamedTuple):
    """For each image, what the four measures are means of: n images of a set, m of the reference."""
    precision: np.ndarray               # bool [n] whether it lies in any ball of the reference
    recall: np.ndarray                  # bool [m] whether it lies in any ball of the set
    density: np.ndarray                 # [n] in how many balls of the reference it lies, divided by k
    coverage: np.ndarray                # bool [m] whether its ball holds any image of the set


def squared_radii(features, labels, *ks):
    """Compute the squared distance of each image to the k-th nearest image of another identity -> [len(ks), n].

    There is a row for each of `ks`. `labels` [n] tells the identity of each image. Raises ValueError where an image has
    not so many of other identities.
    """
    if len(features) - np.unique(labels, return_counts=True)[1].max() < max(ks):
        raise ValueError(f"some of {len(features)} images lack {max(ks)} of other identities")
    found, places = np.empty([len(ks), len(features)]), [k - 1 for k in ks]
    for part, distances in _blocks(features, features):
        distances[labels[part, None] == labels] = np.inf
        found[:, part] = np.partition(distances, places, axis=1)[:, places].T
    return found


def compare(features, reference, radii, reference_radii):
    """Find the Membership of features [n, d] and a reference [m, d].

    The radii are what `squared_radii` returns for PRECISION_K and DENSITY_K. Radii of the set for DENSITY_K are not
    needed.
    """
    slack = _slack(features)
    own, (near, wide) = radii[0] + slack, reference_radii + slack
    precision, density = np.zeros(len(features), bool), np.zeros(len(features))
    recall, coverage = np.zeros(len(reference), bool), np.zeros(len(reference), bool)
    for part, distances in _blocks(features, reference):
        precision[part] = (distances <= near).any(axis=1)
        recall |= (distances <= own[part, None]).any(axis=0)
        held = distances <= wide
        density[part] = held.sum(axis=1) / DENSITY_K
        coverage |= held.any(axis=0)
    return Membership(precision, recall, density, coverage)


def lie_among(features, reference, radii):
    """Tell which of features [n, d] lie in any ball of a reference [m, d] -> bool [n].

    `radii` [m] are a row of what `squared_radii` returns for the reference.
    """
    inside, wide = np.zeros(len(features), bool), radii + _slack(features)
    for part, distances in _blocks(features, reference):
        inside[part] = (distances <= wide).any(axis=1)
    return inside


def _slack(features):
    """Tell by how much rounding may enlarge a squared distance of features [n, d]."""
    return TOLERANCE * np.einsum("ij,ij->i", features, features, dtype=np.float64).mean()


def _blocks(first, second):
    """Compute the squared distances of all pairs by blocks -> slices of `first`, and distances [rows, m]."""
    second = second.astype(np.float64)
    others = (second ** 2).sum(axis=1)
    step = max(1, BLOCK // len(second))
    for start in range(0, len(first), step):
        part = slice(start, min(start + step, len(first)))
        rows = first[part].astype(np.float64)
        distances = rows @ second.T
        distances *= -2
        distances += (rows ** 2).sum(axis=1)[:, None]
        distances += others
        yield part, np.maximum(distances, 0, out=distances)
