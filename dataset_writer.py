"""Writing a synthesized data set: images by several threads, each complete or not there, and their scores.

The scores and embeddings of images already written lie in `<data set>/.scores/*.npz`, so that a run that was killed
goes on where it stopped, and the scores that depend on the whole set are computed at the end from all of them.
"""
import collections
import glob
import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import utils

CSV_NAME = "confidence_scores.csv"
SCORES_FOLDER = ".scores"


class ImageWriter:
    """Saves images under `folder` by `workers` threads. Use as a context: leaving it waits for the last image.

    Raises UserError when an image can't be written; nothing half-written is left under its name.
    """

    QUEUE = 256                     # images that may wait in memory

    def __init__(self, folder, workers):
        self.folder, self.pool, self.pending = folder, ThreadPoolExecutor(workers), collections.deque()

    def add(self, name, image):
        """Save `image` uint8 [H, W, 3] as `name`, relative to the folder; waits when too many are pending."""
        self.pending.append(self.pool.submit(self._save, name, image))
        while len(self.pending) > self.QUEUE:
            self.pending.popleft().result()

    def _save(self, name, image):
        path = os.path.join(self.folder, name)
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            utils.save_image(image, path)
        except OSError as error:
            raise utils.UserError(f"{path}: can't write the image ({error.strerror or error})")

    def flush(self):
        """Wait until everything added so far is on disk."""
        while self.pending:
            self.pending.popleft().result()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        self.pool.shutdown(wait=True, cancel_futures=kind is not None)
        if kind is None:
            self.flush()


def existing_images(folder, names):
    """The set of those of `names` (relative to `folder`) that are there; left-over temporary files are removed."""
    found = set()
    for parent in sorted({os.path.dirname(name) for name in names}):
        here = os.path.join(folder, parent)
        if os.path.isdir(here):
            utils.clean_temporary(here)
            found.update(os.path.join(parent, entry) for entry in os.listdir(here))
    return found.intersection(names)


def copy_labels(renderings, folder):
    """Copy the labels beside each identity's renderings, `utils.LABELS` where there is one, to its images in `folder`.

    `renderings` are utils.Renderings. Raises OSError.
    """
    for identity in renderings.identities:
        source = os.path.join(renderings.root, identity, utils.LABELS)
        if os.path.isfile(source):
            with open(source, "rb") as labels, utils.atomic_write(os.path.join(folder, identity, utils.LABELS)) as file:
                shutil.copyfileobj(labels, file)


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
