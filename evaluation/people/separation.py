"""How well embeddings tell people apart: distances of the same and of different people, d', ROC, thresholds."""
import itertools
import math
from typing import NamedTuple

import numpy as np

from evaluation import bootstrap
from evaluation.figures import Figure, HIGHER, LOWER, not_measured
from evaluation.people import face_pairs
from evaluation.subjects import NO_IMAGES
from recognition import verification

FALSE_ACCEPTS = 1e-2, 1e-3          # rates at which true accepts are reported
THRESHOLDS = 1e-3, 1e-4             # rates of false accepts among real strangers that a distance is found for
LEAST_ACCEPTS = 10                  # false accepts that a rate needs to be measured: fewer are chance
MOST_STRANGERS = 1_000_000          # pairs of real strangers for thresholds
ONE_IDENTITY = "one identity only: no pair of different people; give at least two"
ONE_IMAGE = "one image of each identity: no pair of the same person; give several of each"
MOST_OF_PARTS = 10_000              # pairs of either kind in one of many parts of a set: the AUC is sure enough
_BINS = 4000                        # points of the ROC of a draw
_POINTS = 500                       # of a ROC curve in a picture


class Separation(NamedTuple):
    """How well embeddings tell the people of a set apart."""
    figures: dict                   # {key: Figure}, with keys of KEYS
    pairs: face_pairs.PairDistances | None      # what they were measured on; None where nothing could be
    curve: np.ndarray | None        # [m, 2] the ROC, see `verification.roc`


# Measures of a ROC: {key: (name, what is better, what a reader learns)}.
MEASURES = {
    "auc": ("AUC", HIGHER, "How often a pair of the same person is nearer than one of different people; .5 is chance."),
    "eer": ("equal error rate", LOWER, "Share of errors where false accepts and false rejects are as frequent; .5 is "
            "chance."),
    **{f"tar_at_{far:g}": (f"true accepts at {far:g} false ones", HIGHER, "Share of pairs of the same person that are "
                           f"accepted where {far:g} of the different ones are.") for far in FALSE_ACCEPTS}}
KEYS = "genuine_distance", "impostor_distance", "d_prime", *MEASURES


def separate(subject, seed=0, most=face_pairs.MOST):
    """Measure how well a Subject's embeddings tell its people apart -> Separation.

    d' is |difference of the two means| / sqrt(mean of the two variances) of genuine and impostor distances. Intervals
    are by bootstrap over identities: a genuine pair counts as often as its identity is drawn, an impostor pair as often
    as both of its identities are, multiplied.
    """
    labels = subject.images.labels
    if len(subject.images.identities) < 2:
        why = ONE_IDENTITY if subject.count else NO_IMAGES
        return Separation(dict.fromkeys(KEYS, not_measured(why)), None, None)
    if np.bincount(labels).max() < 2:
        return Separation(dict.fromkeys(KEYS, not_measured(ONE_IMAGE)), None, None)
    pairs = face_pairs.measure(subject, most, seed)
    counts = {True: int(pairs.same.sum()), False: int((~pairs.same).sum())}
    curve = verification.roc(pairs.distances, pairs.same)
    draws = drawn_statistics(pairs, bootstrap.counts(labels, seed=seed))
    figures = {}
    for key, value in statistics(pairs, curve).items():
        n = counts[True] if key == "genuine_distance" else counts[False] if key == "impostor_distance" else len(
            pairs.same)
        figures[key] = Figure(value, *bootstrap.between([draw[key] for draw in draws]), n)
    for far in FALSE_ACCEPTS:
        if counts[False] * far < LEAST_ACCEPTS:
            figures[f"tar_at_{far:g}"] = not_measured(too_few_strangers(counts[False], far))
    if not math.isfinite(figures["d_prime"].value):
        figures["d_prime"] = not_measured("all genuine distances are equal, and all impostor distances; check the "
                                          "embeddings")
    return Separation(figures, pairs, curve)


def auc_of(subject, seed=0):
    """Measure the AUC of a Subject that is one of many parts of a set -> Figure."""
    return separate(subject, seed, MOST_OF_PARTS).figures["auc"]


def too_few_strangers(count, far):
    """Say that `count` pairs of different people are too few for a rate `far` of false accepts."""
    return f"{count} pairs of different people, and a rate of {far:g} needs {LEAST_ACCEPTS / far:.0f}; give more images"


def statistics(pairs, curve):
    """Compute the numbers of KEYS of PairDistances and their ROC `curve` -> {key: number}."""
    return _numbers(*((values.mean(), values.var()) for values in (pairs.of(True), pairs.of(False))), curve)


def _numbers(genuine, impostor, curve):
    """Compute the numbers of KEYS from (mean, variance) of genuine and of impostor distances, and a ROC `curve`."""
    spread = math.sqrt((genuine[1] + impostor[1]) / 2)
    return {"genuine_distance": float(genuine[0]), "impostor_distance": float(impostor[0]),
            "d_prime": float(abs(impostor[0] - genuine[0]) / spread) if spread else math.inf,
            "auc": verification.auc(curve), "eer": verification.eer(curve),
            **{f"tar_at_{far:g}": verification.true_accepts(curve, far) for far in FALSE_ACCEPTS}}


def drawn_statistics(pairs, drawn):
    """Compute the numbers of KEYS for each draw [repeats, C] of identities -> list of {key: number or nan}.

    A draw's ROC has no more than about _BINS points; as many again lie below twice the highest of FALSE_ACCEPTS.
    """
    rises = np.append(True, np.diff(pairs.distances) > 0)           # a curve has no point between equal distances
    impostors = np.flatnonzero(~pairs.same)
    low = impostors[:int(2 * max(FALSE_ACCEPTS) * len(impostors)) + 1]
    starts = np.union1d(np.arange(0, len(rises), 1 + len(rises) // _BINS), low[::1 + len(low) // _BINS] + 1)
    starts = np.array([start for start in starts if start < len(rises) and rises[start]])
    nobody = drawn.shape[1]                                         # counts once in each draw: second of the same
    second = np.where(pairs.same, nobody, pairs.second)
    squares, result = pairs.distances ** 2, []
    for times in np.column_stack([drawn, np.ones(len(drawn))]).astype(np.float64):
        weights = times[pairs.first] * times[second]
        genuine = weights * pairs.same
        # einsum and not @: BLAS starts threads for each product, and these wait for each other on a busy machine
        sums = np.array([[each.sum(), *(np.einsum("i,i", each, powers) for powers in (pairs.distances, squares))]
                         for each in (genuine, weights)])
        sums[1] -= sums[0]
        if not sums[:, 0].all():                    # a draw of one identity, or of people with one image each
            result.append(dict.fromkeys(KEYS, math.nan))
            continue
        means, powers = sums[:, 1:].T / sums[:, 0]
        true, both = (np.cumsum(np.add.reduceat(each, starts)) for each in (genuine, weights))
        curve = np.stack([(both - true) / (both - true)[-1], true / true[-1]], 1)
        curve = np.concatenate([[[0., 0.]], curve])
        result.append(_numbers(*zip(means, np.maximum(powers - means ** 2, 0)), curve))
    return result


# Thresholds of real strangers

def thresholds(strangers, seed=0, most=MOST_STRANGERS):
    """Find the distances within which so few real strangers lie -> {rate of false accepts, of THRESHOLDS: Figure}.

    `strangers` is a Subject of real people. The distance of a rate is the largest one that at most this share of all
    pairs of different people is within. A rate is not measured on fewer than LEAST_ACCEPTS / rate pairs.
    """
    if len(strangers.images.identities) < 2:
        return dict.fromkeys(THRESHOLDS, not_measured(ONE_IDENTITY))
    pairs = face_pairs.measure(strangers, most, seed, kinds=(False,))
    count = len(pairs.distances)
    possible = [far for far in THRESHOLDS if count * far >= LEAST_ACCEPTS]
    draws = {far: [] for far in possible}
    drawn = bootstrap.counts(strangers.images.labels, seed=seed).astype(np.float64)
    for times in drawn if possible else ():
        within = np.cumsum(times[pairs.first] * times[pairs.second])
        for far in possible:
            draws[far].append(_quantile(pairs.distances, within, far))
    return {far: Figure(_quantile(pairs.distances, np.arange(1, count + 1), far), *bootstrap.between(draws[far]), count)
            if far in possible else not_measured(too_few_strangers(count, far)) for far in THRESHOLDS}


def _quantile(distances, within, far):
    """Find the largest of ascending `distances` [n] with a share of at most `far` of the pairs `within` [n] it.

    `within` counts the pairs up to each; nan where the first is too many already.
    """
    place = np.searchsorted(within, far * within[-1] * (1 + 1e-12), side="right") - 1
    return float(distances[place]) if place >= 0 else math.nan


# Pictures

def draw_roc(separations):
    """Make the function that draws the ROC curves of {name of a row: Separation} on matplotlib's Axes."""
    curves = {name: each.curve for name, each in separations.items() if each.curve is not None}

    def draw(axes):
        """Draw the curves on `axes`, the rates of false accepts on a logarithmic scale."""
        for name, curve in curves.items():
            curve = curve[curve[:, 0] > 0]
            kept = np.unique(np.geomspace(1, len(curve), _POINTS).astype(int)) - 1
            axes.plot(*curve[kept].T, label=name)
        axes.set_xscale("log")
        axes.set_xlabel("false accepts")
        axes.set_ylabel("true accepts")
        axes.set_ylim(0, 1.02)
        axes.legend(loc="lower right")

    return draw


def draw_distances(separation, marks, unit="1 - cosine"):
    """Make the function that draws histograms of a Separation's distances, with lines at `marks` {name: distance}."""
    parts = {"same person": separation.pairs.of(True), "different people": separation.pairs.of(False)}
    edges = np.linspace(0, max(separation.pairs.distances[-1], 1e-9), 61)
    heights = {name: np.histogram(values, edges, density=True)[0] for name, values in parts.items()}

    def draw(axes):
        """Draw the histograms on `axes`."""
        for name, height in heights.items():
            axes.stairs(height, edges, fill=True, alpha=.5, label=name)
        for style, (name, place) in zip(itertools.cycle(("--", ":")), marks.items()):
            axes.axvline(place, linestyle=style, color="black", linewidth=1, label=name)
        axes.set_xlabel(f"distance ({unit})")
        axes.set_yticks([])
        axes.legend()

    return draw
