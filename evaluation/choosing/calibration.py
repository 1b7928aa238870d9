"""How sure one can be of each image: scores turned into the probability that an image is good, and the best images.

An image is good if it shows its identity, keeps its labels and looks like photos. Which ones do is measured on the set
itself, as far as there are labels and photos (`goodness`). A logistic regression then tells the probability of that
from scores (`confidences`): the d, s and c scores of synthesis, and distances of embeddings. An image's confidence
comes from a regression that has not seen its identity. So it is an honest guess, and not the measurement again.
"""
from typing import NamedTuple

import numpy as np

from evaluation import bootstrap, logistic
from evaluation.figures import Figure, HIGHER, LOWER, Measure, not_measured, Section, SET
from evaluation.logistic import FOLDS

BINS = 10                   # of equally many images, for the calibration's error
LEAST_OF_A_KIND = 10        # good images, and others, for a regression
WORST_LABELS = .9           # quantile of the renderings' own landmark errors up to which labels count as kept


class Confidences(NamedTuple):
    """What is thought of each image."""
    values: np.ndarray      # [n] probability that it is good, 0..1
    good: np.ndarray        # [n] bool: whether it is
    section: Section        # how well one tells the other


def keeps_labels(errors, reference):
    """Tell for which images the landmark `errors` [n] are no larger than most of the renderings' own -> bool [n].

    `reference` [m] are those of the renderings; nan, of images without a detected face, are not kept.
    """
    known = reference[np.isfinite(reference)]
    limit = np.quantile(known, WORST_LABELS) if len(known) else np.inf
    with np.errstate(invalid="ignore"):
        return np.isfinite(errors) & (errors <= limit)


def confidences(scores, good, labels, seed=0, known=None, parts=None):
    """Tell the probability that each image is good from its scores -> Confidences.

    `scores` {name: [n]}, in any scale, nan where unknown; they go in by their rank, so that no unit and no outlier
    matters. `good` [n] bool is right for the images of which it is `known` [n] bool; by default, for all. `labels` [n]
    are identities. Where there are fewer than LEAST_OF_A_KIND good images, or others, the `parts` {name: bool [n]} that
    `good` is made of are told one by one, and the probabilities multiplied: see `_part_by_part`. Raises ValueError
    where there are too few good images, or others, of each part too, or too few identities.
    """
    known = np.ones(len(good), bool) if known is None else known
    note = ""
    try:
        values = _tell(scores, good, labels, seed, known)
    except ValueError as problem:
        if not parts or len(np.unique(labels[known])) < FOLDS:
            raise
        values, note = _part_by_part(scores, parts, labels, seed, known), str(problem)
    section = _section(values[known], good[known], np.asarray(labels)[known], {
        name: np.asarray(each, np.float64)[known] for name, each in scores.items()}, seed)
    if note:
        section.notes.append(f"Too few to learn at once which images are good ({note}). So a confidence is the product "
                             "of the probabilities of each condition; one that nearly all images meet, or nearly none, "
                             "counts as its share.")
    return Confidences(values, good, section)


def _tell(scores, good, labels, seed, known):
    """Tell the probability that each image is good -> [n]; see `confidences`. Raises ValueError."""
    labels_known, good_known = labels[known], good[known]
    identities = np.unique(labels_known)
    if min(good_known.sum(), (~good_known).sum()) < LEAST_OF_A_KIND or len(identities) < FOLDS:
        raise ValueError(f"{good_known.sum()} good images, {(~good_known).sum()} others, {len(identities)} identities; "
                         f"{LEAST_OF_A_KIND}, {LEAST_OF_A_KIND} and {FOLDS} are needed")
    columns = np.stack([_ranks(np.asarray(values, np.float64)) for values in scores.values()], 1)
    columns = np.concatenate([columns, columns ** 2], 1)        # what is best may lie in the middle
    fold_of = logistic.folds_of(identities, seed)
    places = np.minimum(np.searchsorted(identities, labels), len(identities) - 1)
    folds = np.where(identities[places] == labels, fold_of[places], -1)        # -1: no image of the identity is known
    values = np.empty(len(good))
    for fold in range(-1, FOLDS):
        learn = known & (folds != fold)
        weights = logistic.fit(columns[learn], good[learn])
        values[folds == fold] = logistic.probability(weights, columns[folds == fold])
    return values


def _part_by_part(scores, parts, labels, seed, known):
    """Tell the probability that all `parts` {name: bool [n]} are true -> [n].

    It is the product of the probability of each part among images for which those before it are true, or among all
    images, where those are too few. A part that is nearly always true there, or nearly never, says nothing of single
    images: it counts as its share, (k + 1) / (n + 2) by Laplace's rule. Raises ValueError where that is so of all
    parts.
    """
    values, left, learned = np.ones(len(known)), known.copy(), False
    for part in parts.values():
        for some in (left, known):
            try:
                values *= _tell(scores, part, labels, seed, some)
                learned = True
                break
            except ValueError:
                continue
        else:
            values *= (np.sum(part[left]) + 1) / (left.sum() + 2)
        left = left & part
    if not learned:
        told = ", ".join(f"{name}: {int(np.sum(part[known]))}" for name, part in parts.items())
        raise ValueError(f"nearly all images are alike ({told} of {int(known.sum())}), and {LEAST_OF_A_KIND} of either "
                         f"kind, of {FOLDS} identities, are needed to learn which are better")
    return values


def _ranks(values):
    """Turn values [n] into ranks from -1 to 1; equal ones share theirs. What is unknown is in the middle, at 0."""
    known = np.isfinite(values)
    ordered = np.sort(values[known])
    places = (np.searchsorted(ordered, values[known], "left") + np.searchsorted(ordered, values[known], "right")) / 2
    result = np.zeros(len(values))
    result[known] = 2 * places / max(len(ordered), 1) - 1
    return result


# How good the confidences are

def calibration_error(values, good):
    """Compute the expected calibration error (Naeini 2015): how far probabilities are from shares, on average.

    Images are put into BINS of equally many, by their probability.
    """
    bins = np.array_split(np.argsort(values, kind="stable"), BINS)
    return float(sum(len(each) * abs(values[each].mean() - good[each].mean()) for each in bins if len(each))
                 / len(values))


def ranking(values, good):
    """Compute how often a good image has a higher value than another one; equal ones count half (the AUC).

    It is nan where all images are good, or none is.
    """
    if good.all() or not good.any():
        return np.nan
    ordered = np.sort(values[~good])
    below = np.searchsorted(ordered, values[good], "left") + np.searchsorted(ordered, values[good], "right")
    return float(below.mean() / 2 / len(ordered))


def _section(values, good, labels, scores, seed):
    """Say how well confidences, and each score alone, tell good images -> Section. `labels` [n] are identities."""
    count = len(values)
    if good.any() and not good.all():
        auc = Figure(ranking(values, good), *bootstrap.interval(
            lambda own: ranking(values[own], good[own]), labels, seed=seed), n=count)
    else:
        auc = not_measured(f"{'all' if good.any() else 'none'} of {count} images are good: there are none of the other "
                           "kind to compare with")
    error = calibration_error(values, good)
    errors = bootstrap.interval(lambda own: calibration_error(values[own], good[own]), labels, seed=seed, around=error)
    measures = [
        Measure("confidence_auc", "how often a good image has a higher confidence than another one", HIGHER,
                ".5 is chance: then the confidences tell nothing, and choosing by them is no use.", {SET: auc}),
        Measure("confidence_error", "expected calibration error of the confidences", LOWER,
                "By so much the confidences differ from the share of good images, on average.",
                {SET: Figure(error, max(errors[0], 0.), errors[1], n=count)})]
    rows = [{"score": name, "auc": _ranking_of_known(np.asarray(each, np.float64), good)}
            for name, each in scores.items()]
    return Section("confidence", "How sure can one be of an image?", measures, [], [],
                   {"scores alone: how often a good image has a higher one": rows})


def _ranking_of_known(values, good):
    """Compute `ranking` over the images that have a value, None where there is none of both kinds."""
    known = np.isfinite(values)
    found = ranking(values[known], good[known])
    return None if np.isnan(found) else found


def unmeasured(why):
    """Make the Section of confidences that could not be had, with the reason."""
    return Section("confidence", "How sure can one be of an image?", [
        Measure("confidence_auc", "how often a good image has a higher confidence than another one", HIGHER, "",
                {SET: not_measured(why)})], [], [], {})


# Choosing

def choose(values, labels, keep=None, threshold=None, at_least=1):
    """Choose the images with the best values -> their indices, sorted.

    Either the share `keep` of each identity, rounded, or all with a value of `threshold` or more. No identity is left
    with fewer than `at_least` images, if it has so many: then its best ones stay. `values` [n], of which nan is the
    worst; `labels` [n] identities. Of equal values, the image that comes first is better.
    """
    values = np.where(np.isnan(values), -np.inf, values)
    order = np.lexsort((np.arange(len(values)), -values, labels))           # by identity, then the best first
    _, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
    place = np.arange(len(values)) - np.repeat(starts, counts)
    size = np.repeat(counts, counts)
    chosen = place < np.round(keep * size) if keep is not None else values[order] >= threshold
    return np.sort(order[chosen | (place < at_least)])
