"""Verification: pairs of faces, the folds of LFW's protocol, and how well distances tell same from different people."""
import logging
import math
import os
from typing import NamedTuple

import numpy as np

from datasets.image_sets import list_images
from datasets.images import stem
from utils import UserError

FALSE_ACCEPTS = (1e-2, 1e-3)        # rates at which the true accepts are reported


class FacePairs(NamedTuple):
    """Pairs of images: `first` and `second` [n] are indices into `names` (relative to `root`), `same` [n] bool says
    whether they show one person, and `fold` [n] counts from 0."""
    root: str
    names: list
    first: np.ndarray
    second: np.ndarray
    same: np.ndarray
    fold: np.ndarray


# Pairs

def draw_pairs(faces, folds=10, per_fold=300, seed=0):
    """FacePairs of Renderings: in each fold at most `per_fold` of the same and as many of different people.

    Identities take turns: of the same person, none has a pair more than another unless those of the latter are used up;
    of different people, each appears in as many pairs while new ones are found. No pair is there twice. All follows
    from `seed`. Raises UserError where there are fewer pairs than folds.
    """
    rng = np.random.default_rng(seed)
    images = [np.flatnonzero(faces.labels == label) for label in range(len(faces.identities))]
    same = _same_pairs(images, folds * per_fold, rng)
    different = _different_pairs(images, len(same), rng)
    count = min(len(same), len(different)) // folds * folds
    if not count:
        raise UserError(f"{faces.root}: {len(same)} pairs of the same and {len(different)} of different people are too few "
                        f"for {folds} folds; add images, or take fewer folds")
    first, second = np.array(same[:count] + different[:count]).T
    fold = np.arange(count) % folds
    return FacePairs(faces.root, faces.names, first, second, np.arange(2 * count) < count, np.concatenate([fold, fold]))


def _same_pairs(images, wanted, rng):
    """Up to `wanted` pairs of indices of one identity each; `images` are the indices of each identity."""
    queues = [rng.permutation(np.stack(np.triu_indices(len(own), 1), 1)) for own in images]
    pairs, turn = [], 0
    while len(pairs) < wanted and any(turn < len(queue) for queue in queues):
        for identity in rng.permutation(len(images)):
            if turn < len(queues[identity]):
                pairs.append(tuple(images[identity][queues[identity][turn]]))
        turn += 1
    return pairs[:wanted]


def _different_pairs(images, wanted, rng):
    """Up to `wanted` pairs of indices of two identities each; gives up when new ones have become rare."""
    pairs, failures = {}, 0
    while len(pairs) < wanted and failures < 100 and len(images) > 1:
        order = rng.permutation(len(images))
        before = len(pairs)
        for one, other in zip(order, np.roll(order, 1)):
            draws = (sorted((rng.choice(images[one]), rng.choice(images[other]))) for _ in range(20))
            new = next((tuple(pair) for pair in draws if tuple(pair) not in pairs), None)
            if new:
                pairs[new] = None
        failures = failures + 1 if len(pairs) == before else 0
    return list(pairs)[:wanted]


def read_pairs(path, root, option="--pairs", folds=10):
    """FacePairs of the images in `root` that the file `path`, in the format of LFW's pairs.txt, names.

    Its first line is the number of folds and of pairs of either kind in each, or the latter alone: such a file is
    divided into `folds`. Then a line a pair: `NAME 1 2`, or `NAME 1 OTHER 2`. Image 1 of NAME is NAME/NAME_0001.jpg, or
    any image in NAME/ that is named by this number. Pairs that lack an image are skipped, with a warning. Raises UserError.
    """
    try:
        with open(path, encoding="utf-8") as file:
            lines = [line.split("\t") if "\t" in line else line.split() for line in file.read().splitlines() if line.strip()]
        heading = [int(word) for word in lines[0]]
        rows = [([row[0].strip(), int(row[1])], [row[-2].strip() if len(row) == 4 else row[0].strip(), int(row[-1])])
                for row in lines[1:] if len(row) in (3, 4)]
        if len(rows) < len(lines) - 1 or not rows or len(heading) > 2 or min(heading) < 1:
            raise ValueError("a line has neither 3 nor 4 columns, or there is no pair")
        if len(rows) != 2 * math.prod(heading):
            raise ValueError(f"{len(rows)} pairs, {2 * math.prod(heading)} by its first line")
    except (OSError, ValueError, IndexError) as error:
        raise UserError(f"{option} {path}: not pairs as in LFW's pairs.txt ({getattr(error, 'strerror', None) or error}); "
                        "mend it, or leave it out to draw pairs") from error
    finder = ImageFinder(root)
    found = [(finder.find(*one), finder.find(*other)) for one, other in rows]
    whole = [i for i, pair in enumerate(found) if None not in pair]
    if len(heading) == 2:
        folds, fold = heading[0], np.arange(len(rows)) // (2 * heading[1])
    else:
        kinds = np.array([one[0] == other[0] for one, other in rows])
        fold = np.where(kinds, np.cumsum(kinds), np.cumsum(~kinds)) % folds
    missing = len(rows) - len(whole)
    if missing:
        logging.warning("%s: %d of %d pairs lack an image in %s, skipped", path, missing, len(rows), root)
    same = np.array([rows[i][0][0] == rows[i][1][0] for i in whole], bool)
    fold = fold[whole]
    if folds < 2:
        raise UserError(f"{option} {path}: one fold only, and an accuracy needs two; leave the first number out of it")
    if any(len(set(same[fold == number])) < 2 for number in range(folds)):
        raise UserError(f"{option} {path}: of its {folds} folds one has no pair of both kinds in {root}; check the folder, "
                        "or take fewer folds")
    first, second = np.array([found[i] for i in whole]).T
    return FacePairs(root, finder.names, first, second, same, fold)


class ImageFinder:
    """Finds image number n of a person in `root`; `names` lists what was found, in the order of the indices."""

    def __init__(self, root):
        self.root, self.names, self.people, self.index = root, [], {}, {}

    def find(self, person, number):
        """The index into `names` of this image, or None where it is not there."""
        if person not in self.people:
            folder = os.path.join(self.root, person)
            images = list_images(folder) if os.path.isdir(folder) else []
            self.people[person] = {self._number(person, image): image for image in images}
        image = self.people[person].get(number)
        if image is None:
            return None
        name = f"{person}/{image}"
        if name not in self.index:
            self.index[name] = len(self.names)
            self.names.append(name)
        return self.index[name]

    @staticmethod
    def _number(person, image):
        word = stem(image).removeprefix(person + "_")
        return int(word) if word.isdecimal() else None


# Distances and what they tell

class Verification(NamedTuple):
    """How well distances tell same from different people. Rates are from 0 to 1; `distances` [n] are of all pairs,
    `roc` [m, 2] has the rates of false and true accepts."""
    accuracy: float
    accuracy_std: float
    auc: float
    eer: float
    tar: dict
    threshold: float
    distances: np.ndarray
    roc: np.ndarray

    def row(self):
        """The numbers alone, as JSON holds them."""
        return {"accuracy": self.accuracy, "accuracy_std": self.accuracy_std, "auc": self.auc, "eer": self.eer,
                **{f"tar_at_far_{far:g}": rate for far, rate in self.tar.items()}, "threshold": self.threshold}


def verify(embeddings, pairs, metric=0, subtract_mean=False):
    """Verification of `embeddings` [names, E] on FacePairs, by the protocol of LFW's View 2 (Huang et al. 2007).

    The accuracy in each fold has the threshold that is best on the other folds; mean and standard deviation are over
    the folds. With `subtract_mean`, a fold's distances are taken from the mean embedding in the pairs of the others.
    `threshold` is the mean of the folds'.
    """
    distances, accuracies, thresholds = np.zeros(len(pairs.same)), [], []
    for fold in np.unique(pairs.fold):
        test = pairs.fold == fold
        a, b = embeddings[pairs.first], embeddings[pairs.second]
        mean = np.concatenate([a[~test], b[~test]]).mean(axis=0) if subtract_mean else 0
        all_distances = distance(a - mean, b - mean, metric)
        thresholds.append(best_threshold(all_distances[~test], pairs.same[~test]))
        distances[test] = all_distances[test]
        accuracies.append(((distances[test] <= thresholds[-1]) == pairs.same[test]).mean())
    curve = roc(distances, pairs.same)
    return Verification(float(np.mean(accuracies)), float(np.std(accuracies)), auc(curve), eer(curve),
                        {far: true_accepts(curve, far) for far in FALSE_ACCEPTS}, float(np.mean(thresholds)), distances,
                        curve)


def distance(a, b, metric):
    """Distances [n] of embeddings [n, E]: metric 0 squared Euclidean, 1 the angle as a share of 180 degrees."""
    if metric == 0:
        return np.square(a - b).sum(axis=1)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.arccos(np.clip((a * b).sum(axis=1) / np.maximum(lengths, 1e-12), -1, 1)) / math.pi


def best_threshold(distances, same):
    """The threshold at which `distance <= threshold` says best who is the `same`; of equally good ones the middle one."""
    order = np.argsort(distances, kind="stable")
    ordered, right = distances[order], np.where(same[order], 1, -1)
    gains = np.concatenate([[0], np.cumsum(right)])                         # of accepting the i nearest pairs
    cuts = np.concatenate([[ordered[0] - 1e-6], (ordered[1:] + ordered[:-1]) / 2, [ordered[-1]]])
    possible = np.concatenate([[True], ordered[1:] > ordered[:-1], [True]])
    best = np.flatnonzero(possible & (gains == gains[possible].max()))
    return float(cuts[best[len(best) // 2]])


def roc(distances, same):
    """Rates of false and true accepts [m, 2] at every threshold, from (0, 0) to (1, 1); needs pairs of both kinds."""
    order = np.argsort(distances, kind="stable")
    true, false = np.cumsum(same[order]), np.cumsum(~same[order])
    last = np.append(np.diff(distances[order]) > 0, True)                   # of pairs that are equally far
    points = np.stack([false[last] / false[-1], true[last] / true[-1]], 1)
    return np.concatenate([[[0., 0.]], points])


def auc(curve):
    """Area under a `roc`: how often a same pair is nearer than a different one (ties count half)."""
    false, true = curve.T
    return float(((true[1:] + true[:-1]) / 2 * np.diff(false)).sum())


def eer(curve):
    """Rate at which false accepts and false rejects are equally frequent, between points of a `roc` by a line."""
    false, true = curve.T
    gap = false - (1 - true)                                                # rises from -1 to 1
    i = int(np.searchsorted(gap, 0))
    if gap[i] == 0:
        return float(false[i])
    share = -gap[i - 1] / (gap[i] - gap[i - 1])
    return float(false[i - 1] + share * (false[i] - false[i - 1]))


def true_accepts(curve, most):
    """The highest rate of true accepts at a threshold with false accepts of at most `most`."""
    return float(curve[curve[:, 0] <= most, 1].max())
