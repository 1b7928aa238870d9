"""The scores of a synthesized set: stored while it is made, written as confidence_scores.csv, read as weights."""
import glob
import os

import numpy as np

import utils
from utils import UserError

CSV_NAME = "confidence_scores.csv"
SCORES_FOLDER = ".scores"


class ScoreStore:
    """Scores of a data set's images on disk: `d_score`, `s_score` and, with a classifier, embeddings [E] of each."""

    CHUNK = 1024                    # images in a file

    def __init__(self, folder):
        self.folder = os.path.join(folder, SCORES_FOLDER)
        if os.path.isdir(self.folder):
            utils.clean_temporary(self.folder)
        self.rows = []

    def scored(self, with_embeddings):
        """Names of all images with stored scores; with `with_embeddings`, of those that have an embedding."""
        return {name for chunk in self.chunks() if chunk["embeddings"].size or not with_embeddings
                for name in chunk["names"].tolist()}

    def add(self, name, d_score, s_score, embedding=()):
        self.rows.append((name, d_score, s_score, embedding))

    @property
    def full(self):
        return len(self.rows) >= self.CHUNK

    def flush(self):
        """Write what was added since the last flush. The images themselves have to be on disk before."""
        if not self.rows:
            return
        os.makedirs(self.folder, exist_ok=True)
        number = 1 + max([int(os.path.basename(p)[:-4]) for p in self._files()], default=0)
        names, d_score, s_score, embeddings = zip(*self.rows)
        with utils.atomic_write(os.path.join(self.folder, f"{number:08d}.npz")) as file:
            np.savez(file, names=np.array(names), d_score=np.array(d_score, np.float32),
                     s_score=np.array(s_score, np.float32), embeddings=np.array(embeddings, np.float32))
        self.rows = []

    def _files(self):
        return sorted(glob.glob(os.path.join(glob.escape(self.folder), "[0-9]*.npz")))

    def chunks(self):
        """One dict of arrays (`names`, `d_score`, `s_score`, `embeddings`) a stored file, the oldest first."""
        for path in self._files():
            with np.load(path, allow_pickle=False) as file:
                yield dict(file)


def write_scores(folder, names, labels, store):
    """Write `confidence_scores.csv` into `folder`: a line `/identity/image.jpg d_score s_score c_score` an image.

    `names` and `labels` [N] are the data set's images and their 0-based classes; images without stored scores are
    left out. Of an image scored twice the last score counts. c_score is the magnet loss with the data set's own
    class means and variance, nan where there is no embedding.
    """
    position = {name: i for i, name in enumerate(names)}
    d_score, s_score = (np.full(len(names), np.nan, np.float32) for _ in range(2))
    source = np.full(len(names), -1)
    for number, chunk in enumerate(store.chunks()):
        for row, name in enumerate(chunk["names"].tolist()):
            i = position.get(name)
            if i is not None:
                d_score[i], s_score[i], source[i] = chunk["d_score"][row], chunk["s_score"][row], number

    def embeddings():
        for number, chunk in enumerate(store.chunks()):
            rows = [(row, position[name]) for row, name in enumerate(chunk["names"].tolist())
                    if name in position and source[position[name]] == number]
            if rows and chunk["embeddings"].size:
                row, index = np.array(rows).T
                yield index, chunk["embeddings"][row]

    c_score = magnet_scores(embeddings, np.asarray(labels))
    with utils.atomic_write(os.path.join(folder, CSV_NAME)) as file:
        for i, name in enumerate(names):
            if source[i] >= 0:
                file.write(f"/{name} {d_score[i]:.6f} {s_score[i]:.6f} {c_score[i]:.6f}\n".encode())


def magnet_scores(embeddings, labels):
    """Per-example magnet loss (see `losses.magnet_loss`) over a whole data set -> [N] float32, nan where not embedded.

    `embeddings()` yields (indices [n], embeddings [n, E]) and is run three times: for the class means, for the
    variance, and for the scores. `labels` [N] are the classes of all indices.
    """
    scores = np.full(len(labels), np.nan, np.float32)
    sums, counts = 0, np.zeros(labels.max() + 1 if len(labels) else 0)
    for index, values in embeddings():
        if np.ndim(sums) == 0:
            sums = np.zeros((len(counts), values.shape[1]))
        np.add.at(sums, labels[index], values)
        np.add.at(counts, labels[index], 1)
    if not counts.sum():
        return scores
    present = np.flatnonzero(counts)
    means = sums[present] / counts[present, None]
    rank = np.searchsorted(present, labels)                                     # class -> row of `means`
    spread = sum(np.square(values - means[rank[index]]).sum() for index, values in embeddings())
    weight = -0.5 * np.square((counts.sum() - 1) / max(spread, 1e-8))           # -1 / (2 variance^2)
    for index, values in embeddings():
        for part in range(0, len(index), 64):
            own, e = rank[index[part:part + 64]], values[part:part + 64].astype(np.float64)
            cost = np.square(e).sum(1)[:, None] - 2 * e @ means.T + np.square(means).sum(1)         # [n, classes]
            near = np.exp(weight * np.maximum(cost, 0))
            near[np.arange(len(own)), own] = 0                                                      # not its own class
            numerator = np.exp(weight * np.square(e - means[own]).sum(1) - 1)
            denominator = near.sum(1)
            scores[index[part:part + 64]] = np.maximum(0, -np.log(numerator / (denominator + 1e-8) + 1e-8))
    return scores


def score_weights(faces, folders, kind):
    """Weights [n] float32 of the images of `faces`, which come from `folders`, by the c_score of each: low is good.

    "none": 1. "original": 0.5 exp(-c / 4), the authors' first version. "calibrated": 2 (1 - u), where u is the share
    of the set whose c_score is lower (of equal ones, half counts): from 2 for the best to 0 for the worst, 1 on average
    whatever the scale of the scores. Raises UserError where a score is needed and not there.
    """
    if kind == "none":
        return np.ones(len(faces.names), np.float32)
    scores = {}
    for folder in folders:
        scores.update(read_scores(folder))
    c = np.array([scores.get(os.path.abspath(os.path.join(faces.root, name)), np.nan) for name in faces.names])
    if not np.isfinite(c).all():
        name = faces.names[int(np.flatnonzero(~np.isfinite(c))[0])]
        raise UserError(f"--score_weights {kind}: {(~np.isfinite(c)).sum()} of {len(c)} images have no c_score, such as "
                        f"{name}; synthesize with --pretrained_rec, or take --score_weights none")
    if kind == "original":
        return (.5 * np.exp(-c / 4)).astype(np.float32)
    ordered = np.sort(c)
    below, up_to = np.searchsorted(ordered, c, "left"), np.searchsorted(ordered, c, "right")
    return (2 - (below + up_to) / len(c)).astype(np.float32)


def read_scores(folder):
    """{absolute path: c_score} of `<folder>/confidence_scores.csv`. Raises UserError where it can't be read."""
    path = os.path.join(folder, CSV_NAME)
    try:
        with open(path, encoding="utf-8") as file:
            rows = [line.rsplit(maxsplit=3) for line in file if line.strip()]
        return {os.path.abspath(folder + row[0]): float(row[3]) for row in rows}
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror}); give a set that main.py synthesized, or take "
                        "--score_weights none") from error
    except (ValueError, IndexError) as error:
        raise UserError(f"{path}: not lines of `/identity/image.jpg d_score s_score c_score`; synthesize the set again, or "
                        "take --score_weights none") from error
