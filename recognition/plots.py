"""Plots of a verification: ROC curves, and histograms of the distances of same and of different people."""
import math

import numpy as np

from engine.charts import Chart, COLOURS, GREY, INK, round_step

_SAME, _DIFFERENT = COLOURS[0], COLOURS[1]
_BINS = 40                      # of a histogram


def plot_roc(results):
    """Plot the ROC curves of {name: verification.Verification} -> uint8 [H, W, 3].

    The rate of false accepts has a logarithmic axis of two to four decades, as far as the curves reach.
    """
    lowest = min(rates[rates > 0].min() for rates in (result.roc[:, 0] for result in results.values()))
    decades = min(4, max(2, math.floor(-math.log10(lowest) + 1e-9)))
    chart = Chart("Verification: who is accepted", "false accepts (of pairs of different people)",
                  "true accepts (of pairs of the same person)", (-decades, 0), (0, 1))
    chart.ticks({-i: f"{10. ** -i:g}" for i in range(decades + 1)}, {i / 5: f"{i / 5:.1f}" for i in range(6)})
    chance = np.logspace(-decades, 0, 100)
    chart.line(list(zip(np.log10(chance), chance)), GREY, 1)
    for result, colour in reversed(list(zip(results.values(), COLOURS))):      # the first on top
        false, true = result.roc.T
        decade = np.maximum(np.log10(np.maximum(false, 1e-12)), -decades)
        steps = [(place, rate) for i, place in enumerate(decade) for rate in (true[max(i - 1, 0)], true[i])]
        chart.line(steps, colour, 2.5)
    entries = [(colour, f"{name}: AUC {result.auc:.3f}, EER {result.eer:.3f}")
               for (name, result), colour in zip(results.items(), COLOURS)] + [(GREY, "chance")]
    chart.legend_below(entries)
    return chart.pixels()


def plot_histograms(results, same):
    """Plot histograms of the distances of {name: verification.Verification} in a row -> uint8 [H, n W, 3].

    `same`, bool [pairs], tells which pairs are of one person; {name: bool [pairs]} where they are not the same ones.
    """
    return np.concatenate([_histogram(name, result, same[name] if isinstance(same, dict) else same)
                           for name, result in results.items()], axis=1)


def _histogram(name, result, same):
    """Plot the histogram of one Verification, called `name` -> uint8 [H, W, 3]."""
    low, high = result.distances.min(), result.distances.max()
    step = round_step((high - low) or 1.)
    first = math.floor(low / step)
    edges = np.linspace(step * first, step * max(math.ceil(high / step), first + 1), _BINS + 1)
    fractions = [np.histogram(result.distances[chosen], edges)[0] / chosen.sum() for chosen in (same, ~same)]
    top = max(fraction.max() for fraction in fractions) * 1.3
    chart = Chart(f"Distances: {name}", "distance", "share of pairs", (edges[0], edges[-1]), (0, top))
    x_positions = [edges[0] + i * step for i in range(round((edges[-1] - edges[0]) / step) + 1)]
    y_positions = [i * round_step(top) for i in range(int(top / round_step(top)) + 1)]
    chart.ticks({position: f"{position:.4g}" for position in x_positions},
                {position: f"{position:.3g}" for position in y_positions})
    for fraction, colour in zip(fractions, (_SAME, _DIFFERENT)):
        chart.bars(edges, fraction, colour)
    if edges[0] <= result.threshold <= edges[-1]:
        chart.line([(result.threshold, 0), (result.threshold, top)], INK, 2, dash=7)
    chart.legend_inside([(_SAME, "same person"), (_DIFFERENT, "different people"),
                         (INK, f"threshold {result.threshold:.3g}, accuracy {result.accuracy:.3f}")])
    return chart.pixels()
