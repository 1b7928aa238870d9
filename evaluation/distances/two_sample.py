"""The classifier two-sample test: can a simple classifier tell two sets apart? Lopez-Paz, Oquab 2017.

The classifier is a logistic regression on features. It is tested on identities that it has not seen. An accuracy of .5
says that it finds no difference, 1 that no image is mistaken for one of the other set.
"""
import numpy as np

from evaluation import logistic
from evaluation.logistic import FOLDS


def tell_apart(first, second, first_labels, second_labels, seed=0):
    """Tell for each image whether a classifier that has not seen its identity puts it into its own set.

    Features are [n, d] and [m, d]. Returns bool [n] and bool [m]; the accuracy is the mean of their means. Raises
    ValueError where a set has fewer than FOLDS identities.
    """
    folds = [logistic.folds_of(labels, seed) for labels in (first_labels, second_labels)]
    if any(len(np.unique(each)) < FOLDS for each in folds):
        raise ValueError(f"{FOLDS} folds need as many identities on each side")
    features = np.concatenate([first, second]).astype(np.float64)
    fold, side = np.concatenate(folds), np.repeat([0., 1.], [len(first), len(second)])
    correct = np.zeros(len(features), bool)
    for number in range(FOLDS):
        seen = fold != number
        mean, deviation = features[seen].mean(axis=0), features[seen].std(axis=0)
        standard = (features - mean) / np.where(deviation > 1e-12, deviation, 1)
        weights = train(standard[seen], side[seen])
        correct[~seen] = (logistic.probability(weights, standard[~seen]) > .5) == (side[~seen] > 0)
    return correct[:len(first)], correct[len(first):]


def train(features, side):
    """Fit a logistic regression -> weights [d + 1], the last of which is the constant.

    `side` [n] is 0 or 1. Both sides count the same in all, however many images they have.
    """
    ones = side.mean()
    importance = np.where(side > 0, .5 / max(ones, 1e-12), .5 / max(1 - ones, 1e-12))
    return logistic.fit(features, side, importance, maxiter=500, gtol=1e-5 * len(features))
