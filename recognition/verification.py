"""Verification: how well the distances of embeddings tell pairs of the same person from pairs of different people.

Pairs are chosen at random, or read from a file in the format of LFW's pairs.txt. They are divided into folds.
"""
import contextlib
import logging
import math
import os
from typing import NamedTuple

import numpy as np

from datasets.image_sets import list_images
from datasets.images import READ_FORMATS, stem, suffix
from engine import weight_files
from utils import load_json, read_text, reason_of, UserError

MOST_IMAGES = 5000                  # of a person from which pairs are chosen: there are n² / 2 pairs of n images
WIDEST = .1                         # width of a confidence interval that still tells something
_Z = 1.96                           # deviations of a normal distribution that hold 95 % of it
_FALSE_ACCEPTS = (1e-2, 1e-3)       # rates of false accepts at which the rate of true accepts is reported


class FacePairs(NamedTuple):
    """Pairs of face images."""
    root: str                       # folder of the images
    names: list                     # the images' paths in `root`
    first: np.ndarray               # [n] the first image of each pair, an index into `names`
    second: np.ndarray              # [n] the second one
    same: np.ndarray                # [n] bool: whether both show one person
    fold: np.ndarray                # [n] the fold of each pair, from 0


# Pairs

class PairChoice(NamedTuple):
    """How many pairs are chosen at random, and from which seed."""
    folds: int = 10
    per_fold: int = 300             # most pairs of the same person in a fold, and most of different people
    seed: int = 0


_DEFAULT_CHOICE = PairChoice()


def choose_pairs(faces, choice=_DEFAULT_CHOICE):
    """Choose FacePairs at random from Renderings (images with their identities) as a PairChoice says.

    A fold has as many pairs of different people as of the same person, and no pair is there twice. Identities
    alternate: none gets its next pair of the same person before every other that has pairs left got as many. Each
    identity is in about as many pairs of different people. The same seed gives the same pairs.
    Raises UserError where there are fewer pairs than folds.
    """
    folds, per_fold, seed = choice
    rng = np.random.default_rng(seed)
    images = [np.flatnonzero(faces.labels == label) for label in range(len(faces.identities))]
    same = _same_pairs(images, folds * per_fold, rng)
    different = _different_pairs(images, len(same), rng)
    count = min(len(same), len(different)) // folds * folds
    if not count:
        raise UserError(f"{faces.root}: {len(same)} pairs of the same and {len(different)} of different people are too "
                        f"few for {folds} folds; add images, or take fewer folds")
    first, second = np.array(same[:count] + different[:count]).T
    fold = np.arange(count) % folds
    return FacePairs(faces.root, faces.names, first, second, np.arange(2 * count) < count, np.concatenate([fold, fold]))


def _same_pairs(images, wanted, rng):
    """Draw up to `wanted` pairs of images of one person -> a list of (index, index).

    `images` lists the indices of each identity's images, and `rng` is a NumPy generator.
    """
    queues = [rng.permutation(np.stack(np.triu_indices(min(len(own), MOST_IMAGES), 1), 1))[:wanted].astype(np.int32)
              for own in images]
    pairs, turn = [], 0
    while len(pairs) < wanted and any(turn < len(queue) for queue in queues):
        for identity in rng.permutation(len(images)):
            if turn < len(queues[identity]):
                pairs.append(tuple(images[identity][queues[identity][turn]]))
        turn += 1
    return pairs[:wanted]


def _different_pairs(images, wanted, rng):
    """Draw up to `wanted` pairs of images of two people -> a list of (index, index).

    The arguments are those of `_same_pairs`. In a round, each identity gets one pair with the identity next to it in a
    random order. After 100 rounds in a row without a new pair, the search ends.
    """
    pairs, failures = {}, 0
    while len(pairs) < wanted and failures < 100 and len(images) > 1:
        order = rng.permutation(len(images))
        before = len(pairs)
        for one, other in zip(order, np.roll(order, 1)):
            tries = (sorted((rng.choice(images[one]), rng.choice(images[other]))) for _ in range(20))
            new = next((tuple(pair) for pair in tries if tuple(pair) not in pairs), None)
            if new:
                pairs[new] = None
        failures = failures + 1 if len(pairs) == before else 0
    return list(pairs)[:wanted]


def read_pairs(path, root, option="--pairs", folds=10):
    """Read the FacePairs of the images in `root` that the file `path` names.

    The file has the format of LFW's pairs.txt. Its first line has the number of folds and, for a fold, the number of
    pairs of the same person, which is also that of different people. If only the latter is there, the pairs are divided
    into `folds`. Each further line is a pair: `NAME 1 2`, or `NAME 1 OTHER 2`. Image 1 of NAME is NAME/NAME_0001.jpg,
    or any image in NAME/ that is named by this number.
    Or the file has lines `IMAGE OTHER 1` of pairs of the same person, and with 0 of different people. IMAGE is a path
    in `root`. They are divided into `folds`.
    Columns lie between tabs, commas or blanks. Pairs that lack an image are skipped, with a warning. Raises UserError,
    which begins with `option`, for any other file, and where a fold lacks pairs.
    """
    heading, rows, same = _read_lines(path, option)
    if len(set(same.tolist())) < 2:
        raise UserError(f"{option} {path}: all {len(same)} pairs are of {'the same person' if same[0] else 'different'}"
                        f"{'' if same[0] else ' people'}; an accuracy needs both kinds, so add the other")
    finder = _ImageFinder(root)
    found = [(finder.find(*one), finder.find(*other)) for one, other in rows]
    complete = [i for i, pair in enumerate(found) if None not in pair]
    if len(complete) < len(rows):
        logging.warning("%s: %d of %d pairs lack an image in %s, skipped", path, len(rows) - len(complete), len(rows),
                        root)
    if len(heading) == 2:
        folds, fold = heading[0], np.arange(len(rows)) // (2 * heading[1])
    else:
        fold = np.where(same, np.cumsum(same), np.cumsum(~same)) % folds
    if folds < 2:
        raise UserError(f"{option} {path}: one fold only, and an accuracy needs two; leave the first number out of it")
    same, fold = same[complete], fold[complete]
    if any(len(set(same[fold == number])) < 2 for number in range(folds)):
        raise UserError(f"{option} {path}: of its {folds} folds one has no pair of both kinds in {root}; check the "
                        "folder, or take fewer folds")
    first, second = np.array([found[i] for i in complete]).T
    return FacePairs(root, finder.names, first, second, same, fold)


def _read_lines(path, option):
    """Read a file of pairs -> the numbers of its first line, [] where it has none, the pairs, and `same` [n].

    A pair is two tuples that `_ImageFinder.find` takes. Raises UserError as `read_pairs` does.
    """
    try:
        lines = [_columns(line) for line in read_text(path, "surrogateescape").splitlines() if line.strip()]
        if len(lines[0]) == 3 and all(line[-1] in ("0", "1") and not line[1].isdecimal() for line in lines
                                      if len(line) == 3):
            if {len(line) for line in lines} != {3}:
                raise ValueError("a line is not `IMAGE OTHER 0` or `IMAGE OTHER 1`")
            return [], [((one,), (other,)) for one, other, _ in lines], np.array([line[-1] == "1" for line in lines])
        if not all(word.isdecimal() for word in lines[0]):
            raise ValueError("its first line is neither how many folds and pairs it has, nor `IMAGE OTHER 0` or "
                             "`IMAGE OTHER 1`")
        heading = [int(word) for word in lines[0]]
        rows = [((row[0], int(row[1])), (row[-2] if len(row) == 4 else row[0], int(row[-1])))
                for row in lines[1:] if len(row) in (3, 4)]
        if len(rows) < len(lines) - 1 or not rows or len(heading) > 2 or min(heading) < 1:
            raise ValueError("a line has neither 3 nor 4 columns, or there is no pair")
        same = np.array([one[0] == other[0] for one, other in rows])
        if len(rows) != 2 * math.prod(heading) and len(set(same.tolist())) == 2:
            raise ValueError(f"{len(rows)} pairs, {2 * math.prod(heading)} by its first line")
        return heading, rows, same
    except (OSError, ValueError, IndexError) as error:
        raise UserError(f"{option} {path}: not pairs as in LFW's pairs.txt "
                        f"({reason_of(error)}); mend it, or leave it out for pairs at random"
                        ) from error


def _columns(line):
    """Divide a line at tabs, or at commas where a number comes last then, or else at blanks -> list of words."""
    by_commas = line.split(",")
    words = line.split("\t") if "\t" in line else by_commas if by_commas[-1].strip().isdecimal() else line.split()
    return [word.strip() for word in words] if len(words) > 1 else line.split()


class _ImageFinder:
    """Finds images in the folder `root`, by person and number or by path; `names` lists those that were found."""

    def __init__(self, root):
        """Find nothing yet in the folder `root`."""
        self.names = []
        self._root, self._people, self._indices = root, {}, {}

    def find(self, person, number=None):
        """Find image `number` of `person` -> its index into `names`, or None where it is not there.

        Without a number, `person` is the path of the image.
        """
        if number is None:
            there = suffix(person) in READ_FORMATS and os.path.isfile(os.path.join(self._root, person))
            return self._index_of(os.path.normpath(person)) if there else None
        if person not in self._people:
            folder = os.path.join(self._root, person)
            images = list_images(folder) if os.path.isdir(folder) else []
            self._people[person] = {self._number_of(person, image): image for image in images}
        image = self._people[person].get(number)
        if image is None:
            return None
        return self._index_of(f"{person}/{image}")

    def _index_of(self, name):
        """Look up the index of an image into `names`, to which it may have to be added."""
        if name not in self._indices:
            self._indices[name] = len(self.names)
            self.names.append(name)
        return self._indices[name]

    @staticmethod
    def _number_of(person, image):
        """Tell the number in the name of an `image` of `person`, None where there is none."""
        word = stem(image).removeprefix(person + "_")
        return int(word) if word.isdecimal() else None


# Distances and what they tell

class Verification(NamedTuple):
    """How well distances tell same from different people. A rate is from 0 to 1."""
    accuracy: float                 # mean accuracy of the folds
    accuracy_std: float             # standard deviation of the folds' accuracies
    auc: float                      # area under the ROC curve, see `auc`
    eer: float                      # equal error rate, see `eer`
    tar: dict                       # {rate of false accepts: rate of true accepts}
    threshold: float                # mean of the folds' thresholds
    distances: np.ndarray           # [n] of all pairs
    roc: np.ndarray                 # [m, 2] rates of false and of true accepts, see `roc`

    def row(self):
        """List the numbers without the arrays -> a dict that JSON can hold."""
        return {"accuracy": self.accuracy, "accuracy_std": self.accuracy_std, "auc": self.auc, "eer": self.eer,
                **{f"tar_at_far_{far:g}": rate for far, rate in self.tar.items()}, "threshold": self.threshold}


def verify(embeddings, pairs, metric=0, subtract_mean=False):
    """Verify `embeddings` [names, E] on FacePairs -> Verification, by the protocol of LFW's View 2.

    By that protocol (Huang et al. 2007), a fold's threshold is the one that is best on the other folds. `metric` is
    that of `distance`. With `subtract_mean`, the mean embedding in the pairs of the other folds is subtracted first.
    All of `pairs` have to have embeddings that are finite, see `with_embeddings`. Warns where all distances are equal.
    """
    distances, accuracies, thresholds = np.zeros(len(pairs.same)), [], []
    for fold in np.unique(pairs.fold):
        test = pairs.fold == fold
        first, second = embeddings[pairs.first], embeddings[pairs.second]
        mean = np.concatenate([first[~test], second[~test]]).mean(axis=0) if subtract_mean else 0
        all_distances = distance(first - mean, second - mean, metric)
        thresholds.append(best_threshold(all_distances[~test], pairs.same[~test]))
        distances[test] = all_distances[test]
        accuracies.append(((distances[test] <= thresholds[-1]) == pairs.same[test]).mean())
    if np.ptp(distances) <= max(1e-9, 1e-6 * np.abs(distances).max()):         # but for rounding
        logging.warning("all %d distances are %.3g: these embeddings tell nobody apart, and the accuracy means nothing",
                        len(distances), distances[0])
    curve = roc(distances, pairs.same)
    tar = {far: true_accepts(curve, far) for far in _FALSE_ACCEPTS}
    return Verification(float(np.mean(accuracies)), float(np.std(accuracies)), auc(curve), eer(curve), tar,
                        float(np.mean(thresholds)), distances, curve)


def table_of(results, pairs):
    """Write {name: Verification} of FacePairs as a table: two lines of heading, then a line for each."""
    lines = [f"{len(pairs.same)} pairs, {len(set(pairs.fold.tolist()))} folds",
             f"{'':16} accuracy            AUC    EER   TAR@FAR 1e-2   1e-3"]
    for name, result in results.items():
        lines.append(f"{name:16} {result.accuracy:.4f} +- {result.accuracy_std:.4f}  {result.auc:.4f} {result.eer:.4f}"
                     f"         {result.tar[1e-2]:.4f} {result.tar[1e-3]:.4f}")
    return "\n".join(lines)


def with_embeddings(pairs, embeddings):
    """Choose those FacePairs whose two images have finite `embeddings` [names, E] -> FacePairs.

    Warns where some have not: their images are broken. Raises UserError where a fold has no pair of both kinds left.
    """
    good = np.isfinite(embeddings).all(axis=1)
    keep = good[pairs.first] & good[pairs.second]
    if keep.all():
        return pairs
    left = pairs._replace(**{name: getattr(pairs, name)[keep] for name in ("first", "second", "same", "fold")})
    logging.warning("%s: %d of %d pairs have a broken image, skipped", pairs.root, (~keep).sum(), len(keep))
    if any(len(set(left.same[left.fold == fold])) < 2 for fold in np.unique(pairs.fold)):
        raise UserError(f"{pairs.root}: of its pairs' images {(~good).sum()} can't be decoded, and a fold has no pair "
                        "of both kinds left; replace them")
    return left


def distance(first, second, metric):
    """Compute the distances [n] of embeddings `first` and `second` [n, E].

    With `metric` 0 they are squared Euclidean distances, with 1 angles, where 1 is 180 degrees.
    """
    if metric == 0:
        return np.square(first - second).sum(axis=1)
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return np.arccos(np.clip((first * second).sum(axis=1) / np.maximum(lengths, 1e-12), -1, 1)) / math.pi


def best_threshold(distances, same):
    """Find the threshold at which `distances` [n] <= threshold predicts `same` [n] bool best.

    Of equally good thresholds, the middle one is returned.
    """
    order = np.argsort(distances, kind="stable")
    ordered, right = distances[order], np.where(same[order], 1, -1)
    gains = np.concatenate([[0], np.cumsum(right)])             # of accepting the i nearest pairs
    cuts = np.concatenate([[ordered[0] - 1e-6], (ordered[1:] + ordered[:-1]) / 2, [ordered[-1]]])
    possible = np.concatenate([[True], ordered[1:] > ordered[:-1], [True]])     # not between equal distances
    best = np.flatnonzero(possible & (gains == gains[possible].max()))
    return float(cuts[best[len(best) // 2]])


def roc(distances, same):
    """Compute the ROC curve of `distances` [n]: rates of false and of true accepts [m, 2] at every threshold.

    The curve goes from (0, 0) to (1, 1). `same` [n] bool must have both values.
    """
    order = np.argsort(distances, kind="stable")
    true, false = np.cumsum(same[order]), np.cumsum(~same[order])
    last = np.append(np.diff(distances[order]) > 0, True)       # of pairs that are equally far, which count at once
    points = np.stack([false[last] / false[-1], true[last] / true[-1]], 1)
    return np.concatenate([[[0., 0.]], points])


def auc(curve):
    """Compute the area under a `roc` curve.

    It is how often a pair of the same person is nearer than one of different people, where equally near counts half.
    """
    false, true = curve.T
    return float(((true[1:] + true[:-1]) / 2 * np.diff(false)).sum())


def eer(curve):
    """Compute the equal error rate of a `roc` curve, whose points are joined by lines.

    At this rate, false accepts and false rejects are equally frequent.
    """
    false, true = curve.T
    gap = false - (1 - true)                                    # rises from -1 to 1
    i = int(np.searchsorted(gap, 0))
    if gap[i] == 0:
        return float(false[i])
    fraction = -gap[i - 1] / (gap[i] - gap[i - 1])
    return float(false[i - 1] + fraction * (false[i] - false[i - 1]))


def true_accepts(curve, most):
    """Find the highest rate of true accepts on a `roc` curve with a rate of false accepts up to `most`."""
    return float(curve[curve[:, 0] <= most, 1].max())


# How sure an accuracy is

def interval(accuracy, count):
    """Compute the 95 % confidence interval of an `accuracy` that `count` pairs gave -> (low, high).

    It is Wilson's, which holds for few pairs and near 0 and 1 too.
    """
    centre, spread = accuracy + _Z ** 2 / (2 * count), accuracy * (1 - accuracy) / count + _Z ** 2 / (4 * count ** 2)
    scale = 1 + _Z ** 2 / count
    return (centre - _Z * math.sqrt(spread)) / scale, (centre + _Z * math.sqrt(spread)) / scale


def doubt(accuracy, count):
    """Say that `count` pairs are too few to tell, where the interval of an `accuracy` is wider than WIDEST; else ""."""
    low, high = interval(accuracy, count)
    if high - low <= WIDEST:
        return ""
    return f"too few pairs to tell: of {count}, the accuracy may be anything from {low:.2f} to {high:.2f} (95 %)"


# Results on disk

def paths_of(options):
    """Collect the real paths of what --weights, --images and --pairs name -> {option: path}; of none, ""."""
    named = {"weights": weight_files.locate(options.weights), "images": options.images, "pairs": options.pairs}
    return {name: path and os.path.realpath(path) for name, path in named.items()}


def check_results(path, options):
    """Raise UserError where the file of results `path` is of other --weights, --images or --pairs than `options`.

    A damaged file does not count: it is written anew.
    """
    different = []
    with contextlib.suppress(UserError, OSError, ValueError, TypeError, KeyError):
        asked = paths_of(options)
        there = load_json(path, {"paths": asked})["paths"]
        different = [f"--{name} {there[name] or '(none)'}" for name in asked if there[name] != asked[name]]
    if different:
        raise UserError(f"--output {os.path.dirname(path)}: holds the results of {', '.join(different)}; name another "
                        "folder")
