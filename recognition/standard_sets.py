"""The field's own protocol on .bin files of pairs (lfw, cfp_fp, agedb_30, calfw, cplfw), figure for figure.

It is that of ArcFace's authors in arcface_torch: the features of an image and of its mirror image are added and scaled
to length 1, and distances are squared. Pairs are cut in 10 folds in their order. In each fold, the threshold is the
first of 0, .01, ... 3.99 that is best on the other folds, and a pair is accepted whose distance is below it.
"""
import os
from typing import NamedTuple

import numpy as np

from datasets.images import stem
from datasets.packed import pair_sets
from recognition.verification import FacePairs
from utils import UserError

FOLDS = 10
FALSE_ACCEPTS = 1e-3                                # rate at which the rate of true accepts is reported
_THRESHOLDS = np.arange(0, 4, .01)                  # of the accuracy
_FINE_THRESHOLDS = np.arange(0, 4, .001)            # of the rate of true accepts


class Standard(NamedTuple):
    """What the field reports of a .bin file. A rate is from 0 to 1."""
    accuracy: float                 # mean of the folds
    accuracy_std: float             # and their standard deviation
    val: float                      # mean rate of true accepts at FALSE_ACCEPTS; nan where a fold lacks a kind of pair
    val_std: float
    far: float                      # mean rate of false accepts at the same thresholds

    def row(self):
        """List the numbers -> a dict that JSON can hold."""
        return {name: None if np.isnan(value) else value for name, value in self._asdict().items()}


def names_of(paths):
    """Name .bin files by their own names without the ending -> {name: path}. Raises UserError where two have one name.

    A file that is named twice counts once.
    """
    names = {}
    for path in dict.fromkeys(paths):
        name = stem(os.path.basename(path))
        if name in names:
            raise UserError(f"--bin {path}: {names[name]} has the same name, and their results would have one; rename "
                            "one of them")
        names[name] = path
    return names


def read(path, option="--bin"):
    """Read a .bin file of pairs -> FacePairs, whose root is the file and whose folds lie one after the other.

    Raises UserError, which begins with `option`, for any other file, and where the pairs are too few or of one kind.
    """
    try:
        same = pair_sets.read(path).same
    except UserError as error:
        raise UserError(f"{option} {error}") from error
    if len(same) < FOLDS or len(set(same.tolist())) < 2:
        raise UserError(f"{option} {path}: {len(same)} pairs, {same.sum()} of them of the same person; {FOLDS} pairs "
                        "or more of both kinds are needed")
    indices = np.arange(len(same))
    return FacePairs(path, [f"{index:05}.jpg" for index in range(2 * len(same))], 2 * indices, 2 * indices + 1, same,
                     folds_of(len(same)))


def folds_of(count, folds=FOLDS):
    """Divide `count` pairs into folds in their order -> the fold of each, int [count].

    As in scikit-learn's KFold, the first folds get one more where the division leaves a rest.
    """
    sizes = np.full(folds, count // folds)
    sizes[:count % folds] += 1
    return np.repeat(np.arange(folds), sizes)


def flip_sum(features):
    """Join the features of images and of their mirror images, [n, 2 E] side by side -> float64 [n, E] of length 1."""
    first, mirrored = np.split(features.astype(np.float64), 2, axis=1)
    total = first + mirrored
    lengths = np.linalg.norm(total, axis=1, keepdims=True)
    return total / np.where(lengths == 0, 1, lengths)


def evaluate(embeddings, pairs):
    """Evaluate `embeddings` [names, E] on FacePairs by the field's protocol -> Standard."""
    difference = embeddings[pairs.first] - embeddings[pairs.second]
    distances = np.square(difference).sum(axis=1)
    accuracies, rates = [], []
    for fold in range(pairs.fold.max() + 1):
        test = pairs.fold == fold
        counts = _accepted(distances[~test], pairs.same[~test], _THRESHOLDS)
        threshold = _THRESHOLDS[np.argmax(_accuracy(*counts, pairs.same[~test]))]
        right = (distances[test] < threshold) == pairs.same[test]
        accuracies.append(right.sum() / len(right))
        rates.append(_rates_of_fold(distances, pairs.same, test))
    val, far = np.array(rates).T
    return Standard(float(np.mean(accuracies)), float(np.std(accuracies)), float(val.mean()), float(val.std()),
                    float(far.mean()))


def _accepted(distances, same, thresholds):
    """Count the pairs of the same and of different people that each of `thresholds` accepts -> two int [thresholds]."""
    return [np.searchsorted(np.sort(distances[chosen]), thresholds, side="left") for chosen in (same, ~same)]


def _accuracy(true_accepts, false_accepts, same):
    """Compute the accuracy at each threshold, from what it accepts of pairs that are `same` [n] or not."""
    return (true_accepts + (~same).sum() - false_accepts) / len(same)


def _rates_of_fold(distances, same, test):
    """Compute the rates of true and of false accepts in the fold `test` [n] bool -> (val, far).

    The threshold is where the others' rate of false accepts is FALSE_ACCEPTS, between two thresholds by a line; 0
    where that rate is never reached. Rates are nan where pairs of one kind are missing.
    """
    if min(same[test].sum(), (~same[test]).sum(), (~same[~test]).sum()) == 0:
        return np.nan, np.nan
    rates = _accepted(distances[~test], same[~test], _FINE_THRESHOLDS)[1] / (~same[~test]).sum()
    # Where several thresholds have one rate, the line begins at the last of the lower rate: np.interp, and SciPy's
    # interp1d of the authors' days.
    threshold = np.interp(FALSE_ACCEPTS, rates, _FINE_THRESHOLDS) if rates.max() >= FALSE_ACCEPTS else 0.
    accepted = distances[test] < threshold
    return accepted[same[test]].mean(), accepted[~same[test]].mean()


def table_of(standards, results):
    """Write {name: Standard} and our {name: Verification} of the same files as a table."""
    width = max(map(len, standards)) + 2
    lines = [f"{'':{width}}as arcface_torch               ours",
             f"{'':{width}}accuracy            VAL@1e-3   accuracy            AUC    EER    TAR@FAR 1e-2   1e-3"]
    for name, standard in standards.items():
        ours = results[name]
        lines.append(f"{name:{width}}{standard.accuracy:.5f} +- {standard.accuracy_std:.5f}  {standard.val:.5f}    "
                     f"{ours.accuracy:.4f} +- {ours.accuracy_std:.4f}    {ours.auc:.4f} {ours.eer:.4f} "
                     f"{ours.tar[1e-2]:.4f}         {ours.tar[1e-3]:.4f}")
    return "\n".join(lines)
