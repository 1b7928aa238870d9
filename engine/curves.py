"""Draw curves of training runs: read what runs wrote to stats.jsonl, and draw a chart of each quantity."""
import json
import os

import numpy as np

from engine.charts import Chart, COLOURS, draw_legend, round_ticks, shorten, SMALL
from utils import one_line, read_text, UserError

STATS = "stats.jsonl"               # in a run's folder: a JSON object a line, {"step": 50, "d_loss": 0.12, ...}
LARGEST = float(np.finfo(np.float32).max)
MOST_RUNS = len(COLOURS)
SMOOTHED_FROM = 100                 # a curve of more points gets a smoothed one
SMOOTHING = 1 / 60                  # deviation of the smoothing's bell, of the curve's length
PALE = .3                           # opacity of a line that has a smoothed one
NOTE = "pale: as logged, full: smoothed"


# Reading

def read_stats(run_folder):
    """Read the stats.jsonl of a run -> {name: (steps int64 [n], values float64 [n])}, steps ascending.

    Lines that are no whole JSON object with an integer `step` are skipped: a kill can leave one. A line whose step is
    not above those of earlier lines replaces them from that step on, since a resumed run repeats steps. A line of the
    same step with other names only is joined to the line before it. Values that are null or not finite are nan. Names
    keep the order in which they first appear.
    Raises UserError where there is no stats.jsonl, or no number in it.
    """
    path = os.path.join(run_folder, STATS)
    try:
        rows = [row for row in map(_parse, read_text(path, "replace").split("\n")) if row]
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"{run_folder}: no {STATS} in it; name the folder of a run that has begun to train") from error
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror}); mend it, or leave out the run") from error
    kept = []
    for row in rows:
        if kept and kept[-1]["step"] == row["step"] and kept[-1].keys() & row.keys() == {"step"}:
            kept[-1] |= row
            continue
        while kept and kept[-1]["step"] >= row["step"]:
            kept.pop()
        kept.append(row)
    if not kept:
        raise UserError(f"{path}: no whole line with a step and numbers in it; train on, or leave out the run")
    names = dict.fromkeys(name for row in kept for name in row if name != "step")
    having = {name: [row for row in kept if name in row] for name in names}
    return {name: (np.array([row["step"] for row in found], np.int64), np.array([row[name] for row in found]))
            for name, found in having.items()}


def _parse(line):
    """Read a line -> {"step": int, name: float, ...}, or None where it is not a whole one."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or type(found.get("step")) is not int or abs(found["step"]) >= 2 ** 53:
        return None
    numbers = {name: float(value) if value is not None and abs(value) <= LARGEST else np.nan
               for name, value in found.items() if name != "step" and type(value) in (int, float, type(None))}
    return {"step": found["step"], **numbers} if numbers else None


# Drawing

def draw_curves(runs):
    """Draw the curves of {run name: what `read_stats` returns} -> uint8 [H, W, 3].

    Each quantity has a chart and each run a colour, which a legend above the charts names.
    Raises UserError for more runs than there are colours.
    """
    if len(runs) > MOST_RUNS:
        raise UserError(f"{len(runs)} runs: more than the {MOST_RUNS} colours there are; name fewer")
    names = list(dict.fromkeys(name for stats in runs.values() for name in stats))
    all_steps = np.concatenate([steps for stats in runs.values() for steps, _ in stats.values()])
    x_range = _step_range(all_steps.min(), all_steps.max())
    coloured = list(zip(runs.values(), COLOURS))
    charts = [_draw_chart(name, [(*stats[name], colour) for stats, colour in coloured if name in stats], x_range)
              for name in names]
    columns = min(len(charts), 2 if len(charts) <= 4 else 3)
    smoothed = any(np.isfinite(values).sum() > SMOOTHED_FROM for stats in runs.values() for _, values in stats.values())
    legend = draw_legend([(colour, one_line(name)) for name, colour in zip(runs, COLOURS)], columns * SMALL.width,
                         SMALL.left, NOTE if smoothed else "")
    blank = np.full_like(charts[0], 255)
    charts += [blank] * (-len(charts) % columns)
    rows = [np.concatenate(charts[i:i + columns], axis=1) for i in range(0, len(charts), columns)]
    return np.concatenate([legend, *rows])


def _draw_chart(name, curves, x_range):
    """Draw the chart of a quantity -> uint8 [H, W, 3]; `curves` are of (steps [n], values [n], colour)."""
    y_range = _value_range([values for _, values, _ in curves])
    title = shorten(one_line(name), SMALL.title_size, SMALL.width - SMALL.left - SMALL.right)
    chart = Chart(title, "step", "", x_range, y_range, SMALL)
    chart.ticks(round_ticks(*x_range, least=1), round_ticks(*y_range))
    smooth = []
    for steps, values, colour in curves:
        long = np.isfinite(values).sum() > SMOOTHED_FROM
        starts = _column_starts(steps, x_range)
        chart.curve(_extremes(steps, values, starts), colour, 1 if long else 1.5, PALE if long else 1)
        if long:
            smooth.append((_smoothed(steps, np.clip(values, *y_range), starts), colour))     # outliers don't bend it
    for points, colour in smooth:                   # over all that is pale
        chart.curve(points, colour, 2)
    return chart.pixels()


def _step_range(low, high):
    """Choose the range (low, high) of the axis of steps; it begins at 0 where the steps begin near it."""
    if 0 <= low < .1 * high:
        low = 0
    return (low, high) if low < high else (low - 1, high + 1)


def _value_range(series):
    """Choose the range (low, high) of an axis for the arrays of `series`, but for rare outliers of each.

    It is at least a thousandth of the values themselves, so that rounding errors look like a flat line.
    """
    finite = [values[np.isfinite(values)] for values in series]
    finite = [values for values in finite if len(values)]
    if not finite:
        return 0., 1.
    low = min(np.percentile(values, 1, method="lower") for values in finite)
    high = max(np.percentile(values, 99, method="higher") for values in finite)
    largest = max(abs(low), abs(high))
    if largest < 1e-30:
        return -1., 1.
    if low == high:
        return low - .1 * largest, high + .1 * largest
    middle, half = (low + high) / 2, max(high - low, 1e-3 * largest) / 2
    margin = .08 * 2 * half
    bottom = middle - half - margin
    return (0. if low >= 0 > bottom else bottom), middle + half + margin


# Reducing curves to the pixels they have

def _column_starts(steps, x_range):
    """Find where each column of pixels begins in `steps` [n] -> indexes [columns], ascending."""
    width = SMALL.width - SMALL.left - SMALL.right
    columns = (steps - x_range[0]) * width // (x_range[1] - x_range[0])
    return np.flatnonzero(np.diff(columns, prepend=columns[0] - 1))


def _extremes(steps, values, starts):
    """Keep the least and the greatest value of each column, in order -> points float [m, 2]."""
    kept = []
    for start, end in zip(starts, [*starts[1:], len(steps)]):
        finite = start + np.flatnonzero(np.isfinite(values[start:end]))
        if len(finite):
            kept += sorted({finite[values[finite].argmin()], finite[values[finite].argmax()]})
        else:
            kept.append(start)                      # a gap
    return np.stack([steps[kept], values[kept]], axis=1)


def _smoothed(steps, values, starts):
    """Average the columns' values with a bell-shaped weight around each -> points float [columns, 2]."""
    finite = np.isfinite(values)
    sums = np.add.reduceat(np.where(finite, values, 0.), starts)
    counts = np.add.reduceat(finite.astype(float), starts)
    centres = np.add.reduceat(steps.astype(float), starts) / np.diff(starts, append=len(steps))
    deviation = max(1., SMOOTHING * len(starts))
    offsets = np.arange(-int(3 * deviation), int(3 * deviation) + 1)
    bell = np.exp(-.5 * (offsets / deviation) ** 2)
    total, weight = (np.convolve(each, bell)[len(bell) // 2:][:len(starts)] for each in (sums, counts))
    averages = np.divide(total, weight, out=np.full(len(starts), np.nan), where=counts > 0)
    return np.stack([centres, averages], axis=1)
