"""Find the nearest of many embeddings, exactly and by blocks, so that memory stays bounded."""
import numpy as np

from recognition import verification

_QUERIES, _GALLERY = 2048, 4096     # embeddings whose distances are in memory at once: 32 MiB


def nearest(queries, gallery, own=None, owners=None):
    """Find the nearest of `gallery` [G, E] for each of `queries` [n, E], all of length 1 -> (distances [n], index [n]).

    The distance is 1 - cosine. With numbers `own` [n] and `owners` [G], a query never finds what has its own number.
    Where nothing is left, the distance is infinite and the index -1.
    """
    distances, found = np.full(len(queries), np.inf), np.full(len(queries), -1, np.int64)
    for start in range(0, len(queries), _QUERIES):
        part = queries[start:start + _QUERIES]
        rows, best, index = np.arange(len(part)), np.full(len(part), -np.inf, np.float32), np.full(len(part), -1)
        for first in range(0, len(gallery), _GALLERY):
            cosines = part @ gallery[first:first + _GALLERY].T
            if own is not None:
                cosines[own[start:start + len(part), None] == owners[first:first + _GALLERY]] = -np.inf
            winners = cosines.argmax(axis=1)
            values = cosines[rows, winners]
            better = values > best
            best[better], index[better] = values[better], winners[better] + first
        there = index >= 0
        found[start:start + len(part)] = index
        # Exact where cosines are near 1, as those of a copy are
        distances[start:start + len(part)][there] = verification.distance(part[there], gallery[index[there]], 0) / 2
    return distances, found


def work_of(queries, gallery):
    """Count the multiplications that `nearest` takes."""
    return len(queries) * gallery.shape[0] * gallery.shape[1]
