"""Charts of a judgement, drawn by matplotlib: ROC curves, histograms, bars; as pixels or as SVG.

matplotlib is an optional tool. Nothing here needs it before a chart is drawn. A chart is a function that draws on the
Axes given to it, such as `functools.partial(draw_roc, curves=curves)`.
"""
import importlib.util
import io
import re
import sys
import warnings

import numpy as np

from utils import one_line

# Colours that are told apart on white and on black, by the colour-blind too (Okabe, Ito 2008, some of them darkened).
COLOURS = "#1f77b4", "#d9730d", "#1a9a6c", "#b5569a", "#8a6d3b", "#3aa0c9"
SAME, DIFFERENT = COLOURS[:2]
GREY = "#8a8a8a"
SIZE = 5.6, 3.7                     # inches of a chart that becomes pixels
PAGE_SIZE = 4.7, 3.3                # inches of one that becomes SVG: its letters are readable on a phone too
DOTS = 130                          # pixels of an inch, where a chart becomes pixels
POINTS = 400                        # most points of a curve: more can't be seen
MISSING = "matplotlib is not installed: pip install -r requirements-tools.txt"
_INK = "#0a0b0c"                    # letters and frames: a colour of its own, which the SVG replaces by the page's
_SMOOTH = 'style="stroke-linejoin: round; stroke-linecap: butt"'
_STYLE = {
    "font.family": "sans-serif", "font.size": 10, "text.color": _INK, "text.parse_math": False, "text.usetex": False,
    "axes.prop_cycle": f"cycler('color', {list(COLOURS)})",
    "axes.edgecolor": _INK, "axes.labelcolor": _INK, "axes.linewidth": .8, "axes.titlesize": 11,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True,
    "grid.color": GREY, "grid.alpha": .25, "grid.linewidth": .6, "xtick.color": _INK, "ytick.color": _INK,
    "legend.frameon": False, "legend.fontsize": 9, "lines.linewidth": 1.8, "svg.fonttype": "none",
    "svg.hashsalt": "facegan"}


def available():
    """Tell whether matplotlib is installed."""
    return "matplotlib" in sys.modules or importlib.util.find_spec("matplotlib") is not None


# What a chart becomes

def as_pixels(draw, size=SIZE):
    """Let `draw` draw a chart of `size` inches on white -> uint8 [H, W, 3]. Raises ImportError without matplotlib."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        warnings.simplefilter("ignore")             # of letters that its font lacks, in two lines for each
        canvas = FigureCanvasAgg(_figure(draw, size, DOTS))
        canvas.draw()
        return np.array(canvas.buffer_rgba())[..., :3]


def as_svg(draw, name, size=PAGE_SIZE):
    """Let `draw` draw a chart of `size` inches -> the text of an <svg>. Raises ImportError without matplotlib.

    Its letters and frames, and what is black, have the colour of the text around it, and its ground is transparent:
    it is readable on a light and on a dark page. Each id in it begins with `name`, so that no two charts of a page
    share one. The same chart gives the same text.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        figure = _figure(draw, size, 72)
        written = io.StringIO()
        FigureCanvasSVG(figure).print_svg(written, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    text = re.sub(r"<metadata>.*?</metadata>", "", written.getvalue()[written.getvalue().index("<svg"):], flags=re.S)
    text = re.sub(r'(?<= )id="', f'id="{name}-', text).replace("url(#", f"url(#{name}-")
    text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text).replace('xlink:href="#', f'href="#{name}-')
    text = re.sub(r"<style.*?</style>", "", text, flags=re.S).replace("<svg", f"<svg {_SMOOTH}", 1)     # a page's style
    return text.replace(_INK, "currentColor").replace(": #000000", ": currentColor").strip()


def _figure(draw, size, dots):
    """Make a matplotlib Figure on which `draw` has drawn."""
    from matplotlib.figure import Figure

    figure = Figure(size, dpi=dots, layout="constrained")
    if dots == 72:
        figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    draw(axes)
    for axis, scale in ((axes.xaxis, axes.get_xscale()), (axes.yaxis, axes.get_yscale())):
        if scale == "log":                          # the usual labels of its ticks need formulas in letters
            axis.set_major_formatter(lambda value, _place: f"{value:g}")
            axis.set_minor_formatter(lambda _value, _place: "")
    return figure


# Kinds of charts

def draw_roc(axes, curves, labels=None):
    """Draw the ROC curves {name: [n, 2] rates of false and of true accepts}.

    The rate of false accepts has a logarithmic axis of two to five decades, as far as the curves reach. `labels` are
    {name: words for the legend}.
    """
    positive = [rates[rates > 0] for rates in (np.asarray(curve)[:, 0] for curve in curves.values())]
    lowest = min((rates.min() for rates in positive if len(rates)), default=.01)
    decades = min(5, max(2, int(np.floor(-np.log10(lowest) + 1e-9))))
    low = 10. ** -decades
    for (name, curve), colour in zip(curves.items(), _colours(len(curves))):
        false, true = np.asarray(curve, float).T
        begin = max(0, np.searchsorted(false, low, "right") - 1)                # the last point left of the axis
        false, true = np.maximum(false[begin:], low), true[begin:]
        kept = _thinned(np.log10(false))
        axes.plot(false[kept], true[kept], color=colour, label=_words((labels or {}).get(name, name)),
                  drawstyle="steps-post")
    chance = np.logspace(-decades, 0, 60)
    axes.plot(chance, chance, color=GREY, linewidth=1, linestyle="--", label="chance")
    axes.set(xscale="log", xlim=(low, 1), ylim=(0, 1.01), xlabel="false accepts (of pairs of different people)",
             ylabel="true accepts (of the same person)")
    axes.legend(loc="upper left" if len(curves) < 3 else "best")


def draw_histograms(axes, groups, label="distance", thresholds=None, bins=50):
    """Draw the shares of the values {name: [n]} in `bins` bins, laid over one another.

    `label` names the axis of the values. `thresholds`, {words: value}, become broken lines.
    """
    finite = {name: np.asarray(values, float)[np.isfinite(values)] for name, values in groups.items()}
    together = np.concatenate([*finite.values(), np.zeros(0)])
    low, high = (together.min(), together.max()) if len(together) else (0., 1.)
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-30):
        low, high = low - .5, high + .5
    edges = np.linspace(low, high, bins + 1)
    for (name, values), colour in zip(finite.items(), _colours(len(finite))):
        shares = np.histogram(values, edges)[0] / max(len(values), 1)
        axes.stairs(shares, edges, fill=True, color=colour, alpha=.3)
        axes.stairs(shares, edges, color=colour, linewidth=1.5, label=f"{_words(name)} (n = {len(values):,})")
    inside = {words: value for words, value in (thresholds or {}).items() if low <= value <= high}
    room = 1.1 + .09 * (len(finite) + len(inside))                      # for the legend, above all else
    axes.set_ylim(0, axes.get_ylim()[1] * room)
    for words, value in inside.items():
        axes.axvline(value, ymax=1 / room, color=_INK, linewidth=1.2, linestyle="--", label=_words(words))
    axes.set(xlabel=_words(label), ylabel="share", xlim=(low, high))
    axes.legend(loc="upper left")


def draw_bars(axes, figures, label="", reference=None):
    """Draw a horizontal bar for each of {group: figures.Figure}, with its interval. The first is on top.

    What was not measured has no bar, and says so. `label` names the axis. `reference`, a (words, value), becomes a
    broken line.
    """
    places = np.arange(len(figures))
    for place, figure in zip(places, figures.values()):
        if figure.value is None:
            axes.text(0, place, " not measured", va="center", color=GREY, fontsize=9)
            continue
        axes.barh(place, figure.value, height=.62, color=COLOURS[0], alpha=.75)
        if figure.low is not None and figure.high is not None:
            axes.plot([figure.low, figure.high], [place, place], color=_INK, linewidth=1.3)
    if reference:
        axes.axvline(reference[1], color=_INK, linewidth=1.2, linestyle="--", label=_words(reference[0]))
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0)
    axes.set(yticks=places, yticklabels=[_words(name) for name in figures], xlabel=_words(label))
    axes.set_ylim(len(figures) - .4, -.6)
    axes.grid(axis="y", visible=False)


def _words(name):
    """Write a name from outside in a line that matplotlib can draw and does not leave out."""
    words = one_line(str(name))
    return f" {words}" if words.startswith("_") else words       # which a legend would leave out


def _colours(count):
    """List `count` colours; after the last, they begin anew."""
    return [COLOURS[i % len(COLOURS)] for i in range(count)]


def _thinned(places):
    """Choose at most POINTS of the ascending `places` [n] that lie evenly on an axis, with the ends -> indices."""
    if len(places) <= POINTS:
        return np.arange(len(places))
    even = np.searchsorted(places, np.linspace(places[0], places[-1], POINTS - 1))
    return np.unique(np.concatenate([[0], np.minimum(even, len(places) - 1), [len(places) - 1]]))
