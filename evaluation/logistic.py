"""Fit a logistic regression: the probability of one of two sides by a weighted sum of columns. And folds of identities.

A figure that rests on a regression is measured on identities that it has not seen, so identities are put into folds.
"""
import numpy as np
from scipy.optimize import minimize

FOLDS = 5
PENALTY = 1.            # of the squared weights, beside the sum of losses over images: a usual default


def folds_of(labels, seed=0):
    """Divide identities into FOLDS folds of images -> the fold of each image [n].

    Sets of equal labels are divided alike. So a set that is tested against itself has no image both in training and
    test.
    """
    _, numbers = np.unique(labels, return_inverse=True)
    order = np.random.default_rng(seed).permutation(numbers.max() + 1)
    return (order % FOLDS)[numbers]


def fit(columns, wanted, importance=1., **limits):
    """Fit a logistic regression -> weights [k + 1], the last of which is the constant.

    `columns` are [n, k], and `wanted` [n] is 0 or 1. `importance` [n] multiplies the loss of each row. The squared
    weights are penalized, the constant is not. `limits` are options of SciPy's L-BFGS-B.
    """
    wanted = np.asarray(wanted, np.float64)

    def loss(weights):
        logits = columns @ weights[:-1] + weights[-1]
        losses = importance * (np.logaddexp(0, logits) - wanted * logits)
        slope = importance * (_sigmoid(logits) - wanted)
        return (losses.sum() + PENALTY / 2 * weights[:-1] @ weights[:-1],
                np.append(columns.T @ slope + PENALTY * weights[:-1], slope.sum()))

    return minimize(loss, np.zeros(columns.shape[1] + 1), jac=True, method="L-BFGS-B", options=limits).x


def probability(weights, columns):
    """Compute the probabilities [n] that a regression's `weights` give to rows of `columns` [n, k]."""
    return _sigmoid(columns @ weights[:-1] + weights[-1])


def _sigmoid(logits):
    """Compute 1 / (1 + exp(-x)) without overflow."""
    return .5 * (1 + np.tanh(logits / 2))
