"""How much fine detail single images have, beside photos: what blur takes away, and noise adds. It needs no network.

An embedder hardly sees blur. Its features of blurred faces lie nearer to the middle of those of photos, so that
precision rises with blur: on photos of Labeled Faces in the Wild it was .84, and with a Gaussian blur of 1 and of 2
pixels .88 and .95. So each image's detail is measured, too:

    amount of a scale = log2(root mean square of the scale / that of the coarsest level)

for the two finer of the three levels of a Laplacian pyramid (evaluation.distances.patches) of the image's grey. Only
the middle half of the image counts, where the face is. Contrast and brightness of an image do not matter. An image is
detailed like photos if both amounts lie in the range in which the share USUAL of photos lies. In the example, .95, .76
and .003 of the images are.
"""
from typing import NamedTuple

import numpy as np

from evaluation.distances import patches
from evaluation.distances.pixels import to_grey

USUAL = .95             # share of photos in the range of a scale; the other .05 are as many on either side
SCALES = patches.LEVELS - 1
_LEAST = 1e-3           # grey levels: the detail of an even image


class Usual(NamedTuple):
    """The amounts of detail that photos have."""
    low: np.ndarray     # [SCALES] where the range begins,
    middle: np.ndarray  # [SCALES] the median,
    high: np.ndarray    # [SCALES] and where it ends


def amounts(images):
    """Measure the detail of `images` uint8 [n, S, S, 3] -> float32 [n, SCALES]. S is patches.SMALLEST at least."""
    grey = np.repeat(to_grey(images)[..., None], 3, axis=3)
    found = []
    for level in patches.pyramid(grey):
        edge = level.shape[1] // 4
        inner = level[:, edge:level.shape[1] - edge, edge:level.shape[1] - edge, 0].reshape(len(level), -1)
        found.append(np.sqrt(np.mean(inner ** 2, axis=1) if len(found) < SCALES else inner.var(axis=1)) + _LEAST)
    return np.log2(np.stack(found[:SCALES], axis=1) / found[SCALES][:, None])


def usual_of(found):
    """Find the Usual amounts of photos whose amounts are `found` [m, SCALES]."""
    return Usual(*np.quantile(found, [(1 - USUAL) / 2, .5, (1 + USUAL) / 2], axis=0))


def oddness(found, usual):
    """Tell how unusual each of the amounts `found` [n, SCALES] is among photos -> [n]: 0 in the middle, 1 at the end.

    The scale that is further off counts. Above 1, an image has less or more detail than photos have.
    """
    below = (usual.middle - found) / np.maximum(usual.middle - usual.low, 1e-6)
    above = (found - usual.middle) / np.maximum(usual.high - usual.middle, 1e-6)
    return np.maximum(below, above).max(axis=1)
