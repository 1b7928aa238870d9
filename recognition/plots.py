"""Plots of a verification, drawn with Pillow: the ROC, and histograms of same and different people's distances."""
import math

import numpy as np
from PIL import Image, ImageDraw, ImageFont

FINE = 3                            # drawn so many times larger, then reduced: smooth lines
WIDTH, HEIGHT = 720, 540            # pixels of one chart
LEFT, RIGHT, TOP, BOTTOM = 78, 24, 48, 62
INK, GREY, LIGHT = (40, 40, 44), (120, 120, 126), (226, 226, 230)
COLOURS = [(31, 105, 180), (226, 118, 20), (58, 150, 62), (170, 60, 130), (120, 90, 60)]
SAME, DIFFERENT = COLOURS[0], COLOURS[1]
BINS = 40


class Chart:
    """A white picture with a frame, whose axes run over `x_range` and `y_range`, (low, high) each."""

    def __init__(self, title, x_label, y_label, x_range, y_range):
        self.picture = Image.new("RGB", (WIDTH * FINE, HEIGHT * FINE), "white")
        self.draw = ImageDraw.Draw(self.picture)
        self.x_range, self.y_range = x_range, y_range
        self.text((LEFT + WIDTH - RIGHT) / 2, 22, title, 19, INK)
        self.text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 18, x_label, 15, INK)
        label = Image.new("L", (HEIGHT * FINE, 24 * FINE))
        font = ImageFont.load_default(15 * FINE)
        ImageDraw.Draw(label).text((HEIGHT * FINE / 2, 12 * FINE), y_label, 255, font, anchor="mm")
        turned = label.rotate(90, expand=True)
        self.picture.paste(INK, (6 * FINE, (TOP - BOTTOM) * FINE // 2), turned)

    def place(self, x, y):
        """Pixel (across, down) of the point (x, y), on the fine picture."""
        (x_low, x_high), (y_low, y_high) = self.x_range, self.y_range
        return (FINE * (LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)),
                FINE * (HEIGHT - BOTTOM - (y - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM)))

    def text(self, x, y, words, size, colour, anchor="mm"):
        self.draw.text((x * FINE, y * FINE), words, colour, ImageFont.load_default(size * FINE), anchor=anchor)

    def ticks(self, x_ticks, y_ticks):
        """Grid lines with labels at {position: label}, and the frame."""
        for x, label in x_ticks.items():
            across, down = self.place(x, self.y_range[0])
            self.line([(x, self.y_range[0]), (x, self.y_range[1])], LIGHT, 1)
            self.text(across / FINE, down / FINE + 16, label, 14, GREY)
        for y, label in y_ticks.items():
            across, down = self.place(self.x_range[0], y)
            self.line([(self.x_range[0], y), (self.x_range[1], y)], LIGHT, 1)
            self.text(across / FINE - 9, down / FINE, label, 14, GREY, "rm")
        corners = [(x, y) for x, y in zip(np.take(self.x_range, [0, 1, 1, 0, 0]), np.take(self.y_range, [0, 0, 1, 1, 0]))]
        self.line(corners, GREY, 1)

    def line(self, points, colour, width, dash=0):
        """A line through points (x, y); with `dash`, one of pieces that many pixels long."""
        places = [self.place(*point) for point in points]
        if not dash:
            self.draw.line(places, colour, round(width * FINE), joint="curve")
            return
        (x0, y0), (x1, y1) = places
        pieces = max(1, round(math.hypot(x1 - x0, y1 - y0) / (dash * FINE)))
        for i in range(0, pieces, 2):
            ends = [(x0 + (x1 - x0) * at / pieces, y0 + (y1 - y0) * at / pieces) for at in (i, min(i + 1, pieces))]
            self.draw.line(ends, colour, round(width * FINE))

    def bars(self, edges, heights, colour):
        """Translucent bars between `edges` [n + 1], with an outline."""
        tint = Image.new("L", self.picture.size)
        draw = ImageDraw.Draw(tint)
        for low, high, height in zip(edges, edges[1:], heights):
            if height:
                (x0, y1), (x1, y0) = self.place(low, 0), self.place(high, height)
                draw.rectangle((round(x0), round(y0), round(x1) - 1, round(y1)), fill=110)
        self.picture.paste(colour, (0, 0), tint)
        corners = [(edge, height) for i, height in enumerate(heights) for edge, height in
                   ((edges[i], height), (edges[i + 1], height))]
        self.line([(edges[0], 0), *corners, (edges[-1], 0)], colour, 2)

    def legend(self, entries):
        """Lines of (colour, words) in a white box, in the upper left corner."""
        font = ImageFont.load_default(14 * FINE)
        width = max(font.getlength(words) for _, words in entries) / FINE + 50
        x, y = LEFT + 14, TOP + 12
        self.draw.rectangle([v * FINE for v in (x, y, x + width, y + 10 + 22 * len(entries))], "white", LIGHT, FINE)
        self._entries(x, y, entries)

    def legend_below(self, entries):
        """The same lines below the chart, where they hide no curve: the picture grows by as much."""
        chart = self.picture
        self.picture = Image.new("RGB", (chart.width, chart.height + (16 + 22 * len(entries)) * FINE), "white")
        self.picture.paste(chart)
        self.draw = ImageDraw.Draw(self.picture)
        self._entries(LEFT - 10, HEIGHT, entries)

    def _entries(self, x, y, entries):
        for i, (colour, words) in enumerate(entries):
            middle = y + 16 + 22 * i
            self.draw.line([v * FINE for v in (x + 10, middle, x + 32, middle)], colour, 4 * FINE)
            self.text(x + 40, middle, words, 14, INK, "lm")

    def pixels(self):
        """uint8 [H, WIDTH, 3], H being HEIGHT and that of a legend below."""
        return np.asarray(self.picture.reduce(FINE))


def draw_roc(results):
    """The ROCs of {name: verification.Verification}, false accepts on a logarithmic axis: uint8 [H, W, 3]."""
    lowest = min(rates[rates > 0].min() for rates in (result.roc[:, 0] for result in results.values()))
    decades = min(4, max(2, math.floor(-math.log10(lowest) + 1e-9)))
    chart = Chart("Verification: who is accepted", "false accepts (of pairs of different people)",
                  "true accepts (of pairs of the same person)", (-decades, 0), (0, 1))
    chart.ticks({-i: f"{10. ** -i:g}" for i in range(decades + 1)}, {i / 5: f"{i / 5:.1f}" for i in range(6)})
    chance = np.logspace(-decades, 0, 100)
    chart.line(list(zip(np.log10(chance), chance)), GREY, 1)
    for result, colour in reversed(list(zip(results.values(), COLOURS))):      # the first on top
        false, true = result.roc.T
        low = np.maximum(np.log10(np.maximum(false, 1e-12)), -decades)
        steps = [(x, y) for i, x in enumerate(low) for y in (true[max(i - 1, 0)], true[i])]
        chart.line(steps, colour, 2.5)
    entries = [(colour, f"{name}: AUC {result.auc:.3f}, EER {result.eer:.3f}")
               for (name, result), colour in zip(results.items(), COLOURS)] + [(GREY, "chance")]
    chart.legend_below(entries)
    return chart.pixels()


def draw_histograms(results, same):
    """Histograms of the distances of {name: verification.Verification} side by side, `same` [n]: uint8 [H, n W, 3]."""
    return np.concatenate([_histogram(name, result, same) for name, result in results.items()], axis=1)


def _histogram(name, result, same):
    low, high = result.distances.min(), result.distances.max()
    step = _round_step((high - low) or 1.)
    first = math.floor(low / step)
    edges = np.linspace(step * first, step * max(math.ceil(high / step), first + 1), BINS + 1)
    shares = [np.histogram(result.distances[kind], edges)[0] / kind.sum() for kind in (same, ~same)]
    top = max(share.max() for share in shares) * 1.3
    chart = Chart(f"Distances: {name}", "distance", "share of pairs", (edges[0], edges[-1]), (0, top))
    tick = _round_step(top)
    x_ticks = {edges[0] + i * step: f"{edges[0] + i * step:.4g}" for i in range(round((edges[-1] - edges[0]) / step) + 1)}
    chart.ticks(x_ticks, {i * tick: f"{i * tick:.3g}" for i in range(int(top / tick) + 1)})
    for share, colour in zip(shares, (SAME, DIFFERENT)):
        chart.bars(edges, share, colour)
    if edges[0] <= result.threshold <= edges[-1]:
        chart.line([(result.threshold, 0), (result.threshold, top)], INK, 2, dash=7)
    chart.legend([(SAME, "same person"), (DIFFERENT, "different people"),
                  (INK, f"threshold {result.threshold:.3g}, accuracy {result.accuracy:.3f}")])
    return chart.pixels()


def _round_step(span):
    """A step of 1, 2 or 5 times a power of ten that divides `span` into 4 to 10 parts."""
    power = 10. ** math.floor(math.log10(span / 4))
    return next(factor * power for factor in (5, 2, 1) if factor * power <= span / 4)
