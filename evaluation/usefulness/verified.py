"""How well one trained recogniser tells held-out people apart, also for draws of these people; what several reached."""
import math

import numpy as np
from scipy import stats

from evaluation import bootstrap
from evaluation.figures import Figure, not_measured
from evaluation.people import face_pairs, separation
from evaluation.subjects import measurable
from evaluation.usefulness.store import Verified
from recognition import verification

KEYS = "accuracy", *separation.MEASURES
MOST_PAIRS = 50_000             # of either kind: each training repeats the draws on all of them
REPEATS = bootstrap.REPEATS     # draws of people
CHOICE = verification.PairChoice()      # of the accuracy: LFW's protocol, 10 folds


def verify(subject, seed=0):
    """Verify the embeddings of a Subject of held-out people -> Verified.

    The same people, images and `seed` give the same pairs and draws of people, whatever the embeddings are. So
    trainings can be compared draw by draw. The accuracy is that of `recognizer.py verify`: on as many pairs of the same
    as of different people, in folds. The other numbers are of all pairs, or of up to MOST_PAIRS of either kind. Raises
    UserError where there are too few pairs for the folds.
    """
    subject = measurable(subject)
    drawn = bootstrap.counts(subject.images.labels, REPEATS, seed)
    pairs = face_pairs.measure(subject, MOST_PAIRS, seed)
    values = separation.statistics(pairs, verification.roc(pairs.distances, pairs.same))
    draws = separation.drawn_statistics(pairs, drawn)
    strangers = int((~pairs.same).sum())
    chosen = verification.choose_pairs(subject.images, CHOICE._replace(seed=seed))
    right = _right(subject.features, chosen)
    labels = subject.images.labels
    both = drawn[:, labels[chosen.first]] * np.where(chosen.same, 1, drawn[:, labels[chosen.second]])
    accuracies = np.mean([_shares(both[:, chosen.same == same], right[chosen.same == same])
                          for same in (True, False)], axis=0)
    found = {"accuracy": (float(right.mean()), accuracies.tolist())}
    for key in KEYS[1:]:
        far = float(key.removeprefix("tar_at_")) if key.startswith("tar_at_") else 1
        if strangers * far >= separation.LEAST_ACCEPTS:
            found[key] = float(values[key]), [float(draw[key]) for draw in draws]
    return Verified(*({key: pair[part] for key, pair in found.items()} for part in range(2)))


def _right(features, pairs):
    """Tell which FacePairs are told right by the threshold that is the best on the other folds -> bool [n]."""
    distances = verification.distance(features[pairs.first], features[pairs.second], metric=0)
    right = np.zeros(len(distances), bool)
    for fold in np.unique(pairs.fold):
        test = pairs.fold == fold
        threshold = verification.best_threshold(distances[~test], pairs.same[~test])
        right[test] = (distances[test] <= threshold) == pairs.same[test]
    return right


def _shares(weights, right):
    """Compute the share of `right` [n] for each row of `weights` [repeats, n]; nan where a row has no weight."""
    with np.errstate(invalid="ignore"):
        return (weights @ right) / weights.sum(axis=1)


# Several trainings of one row

def mean_of(trainings, key, n):
    """Average number `key` over the Verified of several seeds -> Figure of `n` people. See `sure`."""
    found = [(each.values[key], each.draws[key]) for each in trainings if key in each.values]
    if not found:
        return not_measured("too few pairs of different people; hold more people out")
    value, low, high = sure(*zip(*found))
    return Figure(value, max(low, 0.), min(high, 1.), n)


def difference_of(trainings, others, key, n):
    """Average how much higher number `key` is in `trainings` than in `others` -> Figure. See `sure`.

    Both are lists of the Verified of the same seeds. Both are verified on the same draws of people, so that what makes
    some people hard for either row does not count.
    """
    both = [(one, other) for one, other in zip(trainings, others) if key in one.values and key in other.values]
    if not both:
        return not_measured("too few pairs of different people; hold more people out")
    values = [one.values[key] - other.values[key] for one, other in both]
    draws = [np.subtract(one.draws[key], other.draws[key]) for one, other in both]
    return Figure(*sure(values, draws), n)


def sure(values, draws):
    """Average the `values` of several seeds, and find the interval that covers seeds and people -> (value, low, high).

    `draws` [seeds, repeats] are the values for draws of the held-out people. The interval of people is that of the mean
    over seeds, by bootstrap. The one of seeds is Student's: t s / sqrt(n), with the deviation s of n seeds. Both are
    independent, so the distances of their ends to the value are added as squares. A single seed has no deviation: the
    interval covers people alone.
    """
    value, count = float(np.mean(values)), len(values)
    low, high = bootstrap.between(np.mean(np.asarray(draws, np.float64), axis=0))
    spread = stats.t.ppf(.975, count - 1) * np.std(values, ddof=1) / math.sqrt(count) if count > 1 else 0.
    low, high = (value, value) if low is None else (min(low, value), max(high, value))
    return value, float(value - math.hypot(value - low, spread)), float(value + math.hypot(high - value, spread))
