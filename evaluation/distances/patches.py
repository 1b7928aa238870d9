"""Patches of a Laplacian pyramid: what the sliced Wasserstein distance compares, Karras et al. 2018 (appendix B).

A level of the pyramid (Burt, Adelson 1983) holds the detail of one scale; the last level holds all that is coarser.
Patches of a level, 7 x 7 pixels, are normalized for each set and channel. So colours and contrast of whole sets don't
count, only how pixels hang together.
"""
import numpy as np
from scipy.ndimage import correlate1d

LEVELS, SIDE = 3, 7
FILTER = np.array([1, 4, 6, 4, 1], np.float32) / 16
SMALLEST = SIDE * 2 ** (LEVELS - 1) - 2 ** (LEVELS - 1) + 1         # side of an image whose last level has one patch


def pyramid(images):
    """Compute the levels of `images` [n, S, S, 3], the finest first -> a list of float32 [n, S_l, S_l, 3]."""
    current, levels = images.astype(np.float32), []
    for _ in range(LEVELS - 1):
        smaller = _smooth(current)[:, ::2, ::2]
        levels.append(current - _enlarge(smaller, current.shape))
        current = smaller
    return [*levels, current]


def _smooth(images):
    """Blur rows and columns; outside, the image is mirrored."""
    return correlate1d(correlate1d(images, FILTER, axis=1, mode="mirror"), FILTER, axis=2, mode="mirror")


def _enlarge(images, shape):
    """Double the size of images to `shape`: pixels in between are zero, then blurred."""
    larger = np.zeros(shape, np.float32)
    larger[:, ::2, ::2] = images
    return 4 * _smooth(larger)


def cut(images, count, rng):
    """Cut `count` patches out of each level of each image, at random places -> LEVELS arrays float32 [n count, 147].

    Patches of an image stand together. Within a patch, channels come last.
    """
    found = []
    for level in pyramid(images):
        number, side = len(level), level.shape[1] - SIDE + 1
        rows, columns = rng.integers(side, size=[2, number, count])
        windows = np.lib.stride_tricks.sliding_window_view(level, (SIDE, SIDE), axis=(1, 2))   # [n, y, x, 3, 7, 7]
        chosen = windows[np.arange(number)[:, None], rows, columns]
        found.append(np.ascontiguousarray(chosen.transpose(0, 1, 3, 4, 2)).reshape(number * count, -1))
    return found


def normalize(patches):
    """Bring each channel of `patches` [n, 147] to mean 0 and deviation 1, in place; return them."""
    channels = patches.reshape(len(patches), -1, 3)
    channels -= channels.mean(axis=(0, 1), dtype=np.float64).astype(np.float32)
    squares = np.einsum("ijk,ijk->k", channels, channels, dtype=np.float64) / (channels.size // 3)
    channels /= np.maximum(np.sqrt(squares), 1e-6).astype(np.float32)
    return patches
