"""Lay images of a set out in sheets: people in rows, pairs side by side, the best and the worst by a score."""
import numpy as np

from datasets.images import make_grid

GAP = 8                     # pixels between pairs, and around them
GREY = 128                  # what lies between them, fit for a light and for a dark page


def of_people(images, labels, people=8, each=12, seed=0):
    """Lay out up to `each` images of up to `people` identities, drawn from `seed`, a row for each -> uint8 [H, W, 3].

    `images` are uint8 [n, H, W, 3] and `labels` [n] their identities. Rows of fewer images end in black.
    """
    labels = np.asarray(labels)
    identities, counts = np.unique(labels, return_counts=True)
    rng, rows, columns = np.random.default_rng(seed), [], min(each, counts.max())
    for identity in np.sort(rng.permutation(identities)[:people]):
        row = np.zeros([columns, *images.shape[1:]], np.uint8)
        chosen = np.sort(rng.permutation(np.flatnonzero(labels == identity))[:columns])
        row[:len(chosen)] = images[chosen]
        rows.append(row)
    return make_grid(np.concatenate(rows), columns)


def of_pairs(first, second, columns=4):
    """Lay out pairs of images side by side, `columns` pairs a row -> uint8 [H, W, 3].

    `first` and `second` are uint8 [n, H, W, 3]. What lies between pairs is grey.
    """
    pairs = np.concatenate([first, second], axis=2)
    count, height, width, _ = pairs.shape
    rows = -(-count // columns)
    sheet = np.full([rows * (height + GAP) + GAP, min(columns, count) * (width + GAP) + GAP, 3], GREY, np.uint8)
    for i, pair in enumerate(pairs):
        top, left = GAP + i // columns * (height + GAP), GAP + i % columns * (width + GAP)
        sheet[top:top + height, left:left + width] = pair
    return sheet


def by_score(scores, count=12):
    """Find the images of the `count` lowest and of the `count` highest `scores` [n] -> two arrays of indices.

    Both begin with the most extreme. Scores that are not finite take no part.
    """
    scores = np.asarray(scores, float)
    finite = np.flatnonzero(np.isfinite(scores))
    order = finite[np.argsort(scores[finite], kind="stable")]
    return order[:count], order[::-1][:count]
