"""Charts of trainings drawn with Pillow: a frame with ticks and curves in it, and legends that name their colours.

Places on a picture are pixels (across, down) from its upper left corner; a point of a chart is an (x, y) of its axes.
"""
import math
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

FINE = 3                            # drawn so many times larger, then reduced: smooth lines
INK, GREY, LIGHT = (40, 40, 44), (120, 120, 126), (226, 226, 230)
COLOURS = [(31, 105, 180), (226, 118, 20), (58, 150, 62), (170, 60, 130), (120, 90, 60), (0, 160, 175), (205, 45, 55),
           (180, 155, 0)]
ENTRY_SIZE, ENTRY_HEIGHT = 14, 22   # pixels of a legend's letters, and from one of its lines to the next
ENTRY_START, ENTRY_GAP = 40, 26     # pixels from an entry's left to its words, and between two entries
UNITS = (1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k"), (0, 1, "")       # of numbers from the first on


class Layout(NamedTuple):
    """The sizes of a chart in pixels: the whole, the margins around its frame, and its letters."""
    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    title_size: int
    label_size: int
    tick_size: int


SMALL = Layout(440, 290, 66, 20, 36, 48, title_size=15, label_size=12, tick_size=12)


class Canvas:
    """A picture to draw on. It is FINE times larger than `pixels` returns it."""

    def __init__(self, width, height):
        """Make a white picture of `width` x `height` pixels."""
        self.picture = Image.new("RGB", (width * FINE, height * FINE), "white")
        self.draw = ImageDraw.Draw(self.picture)

    def text(self, across, down, words, size, colour, anchor="mm"):
        """Write `words`, `size` pixels high, with their Pillow `anchor` at (across, down)."""
        self.draw.text((across * FINE, down * FINE), words, colour, _font(size), anchor=anchor)

    def legend_entry(self, across, down, colour, words):
        """Draw a piece of line and write `words` right of it, in a row whose left is at (across, down)."""
        self.draw.line([pixel * FINE for pixel in (across + 10, down, across + 32, down)], colour, 4 * FINE)
        self.text(across + ENTRY_START, down, words, ENTRY_SIZE, INK, "lm")

    def pixels(self):
        """Return the picture as uint8 [H, W, 3]."""
        return np.asarray(self.picture.reduce(FINE))


class Chart(Canvas):
    """A canvas with a title and labels, and with axes for points (x, y)."""

    def __init__(self, title, x_label, y_label, x_range, y_range, layout=SMALL):
        """Write title and labels. The axes run over `x_range` and `y_range`, (low, high) each."""
        super().__init__(layout.width, layout.height)
        self.layout, self.x_range, self.y_range = layout, x_range, y_range
        middle = (layout.left + layout.width - layout.right) / 2
        self.text(middle, layout.top // 2 - 2, title, layout.title_size, INK)
        self.text(middle, layout.height - layout.label_size - 3, x_label, layout.label_size, INK)
        if y_label:
            label = Image.new("L", (layout.height * FINE, 24 * FINE))
            ImageDraw.Draw(label).text((layout.height * FINE / 2, 12 * FINE), y_label, 255, _font(layout.label_size),
                                       anchor="mm")
            turned = label.rotate(90, expand=True)
            self.picture.paste(INK, (6 * FINE, (layout.top - layout.bottom) * FINE // 2), turned)

    def place(self, x_value, y_value):
        """Compute the pixels (across, down) of a point on the fine picture. Takes numbers or arrays."""
        layout, (x_low, x_high), (y_low, y_high) = self.layout, self.x_range, self.y_range
        frame_width = layout.width - layout.left - layout.right
        frame_height = layout.height - layout.top - layout.bottom
        return (FINE * (layout.left + (x_value - x_low) / (x_high - x_low) * frame_width),
                FINE * (layout.height - layout.bottom - (y_value - y_low) / (y_high - y_low) * frame_height))

    def ticks(self, x_ticks, y_ticks):
        """Draw the frame, and grid lines with labels at {position: label} of each axis."""
        size = self.layout.tick_size
        for position, label in x_ticks.items():
            across, down = self.place(position, self.y_range[0])
            self.line([(position, self.y_range[0]), (position, self.y_range[1])], LIGHT, 1)
            self.text(across / FINE, down / FINE + size + 2, label, size, GREY)
        for position, label in y_ticks.items():
            across, down = self.place(self.x_range[0], position)
            self.line([(self.x_range[0], position), (self.x_range[1], position)], LIGHT, 1)
            self.text(across / FINE - 9, down / FINE, label, size, GREY, "rm")
        self.line(list(zip(np.take(self.x_range, [0, 1, 1, 0, 0]), np.take(self.y_range, [0, 0, 1, 1, 0]))), GREY, 1)

    def line(self, points, colour, width):
        """Draw a line through `points`, (x, y) each."""
        self.draw.line([self.place(*point) for point in points], colour, round(width * FINE), joint="curve")

    def curve(self, points, colour, width, opacity=1.):
        """Draw a line through `points` float [n, 2] within the frame. It has a gap where a y is not finite.

        A point between two gaps becomes a dot. An `opacity` below 1 lets show through what was drawn before.
        """
        frame = [*self.place(self.x_range[0], self.y_range[1]), *self.place(self.x_range[1], self.y_range[0])]
        box = [round(pixel + widths * width * FINE) for pixel, widths in zip(frame, (-2, -1, 2, 1))]
        mask = Image.new("L", (box[2] - box[0], box[3] - box[1]))
        draw, fill = ImageDraw.Draw(mask), round(255 * opacity)
        across, down = self.place(points[:, 0], points[:, 1])
        height = mask.height
        places = np.stack([across - box[0], np.clip(down - box[1], -9 * height, 9 * height)], axis=1)
        shown = np.flatnonzero(np.isfinite(points[:, 1]))
        for piece in np.split(places[shown], np.flatnonzero(np.diff(shown) > 1) + 1):
            if len(piece) == 1:
                draw.circle(tuple(piece[0]), 1.6 * width * FINE, fill)
            elif len(piece):
                draw.line(piece.ravel().tolist(), fill, round(width * FINE), joint="curve")
        self.picture.paste(colour, (box[0], box[1]), mask)


# Legends of several charts

def draw_legend(entries, width, left=0, note=""):
    """Draw a legend of (colour, words) side by side -> uint8 [H, width, 3], in as many rows as they need.

    The rows begin `left` pixels from the edge. A `note` follows in grey.
    """
    rows, first = [[]], left - 10
    across = first
    for colour, words in [*entries, *([(None, note)] if note else [])]:
        start = ENTRY_START if colour else 10
        words = shorten(words, ENTRY_SIZE, width - first - start - 10)
        needed = start + _width_of(words, ENTRY_SIZE)
        if rows[-1] and across + needed > width - 10:
            rows.append([])
            across = first
        rows[-1].append((across, colour, words))
        across += needed + ENTRY_GAP
    canvas = Canvas(width, 14 + ENTRY_HEIGHT * len(rows))
    for i, row in enumerate(rows):
        for across, colour, words in row:
            middle = 10 + ENTRY_HEIGHT * i + ENTRY_HEIGHT // 2
            if colour:
                canvas.legend_entry(across, middle, colour, words)
            else:
                canvas.text(across + 10, middle, words, ENTRY_SIZE, GREY, "lm")
    return canvas.pixels()


def shorten(words, size, width):
    """Cut the middle out of `words` until they are at most `width` pixels wide. Letters are `size` pixels high."""
    words = " ".join(words.split())
    kept, short = len(words), words
    while kept > 2 and _width_of(short, size) > width:
        kept -= 1
        short = f"{words[:kept - kept // 2]}...{words[-(kept // 2):]}"
    return short


def _font(size):
    return ImageFont.load_default(size * FINE)


def _width_of(words, size):
    return _font(size).getlength(words) / FINE


# Ticks

def round_ticks(low, high, least=0):
    """Choose round positions between `low` and `high`, `least` or more apart -> {position: label}."""
    step = max(round_step(high - low), least)
    places = range(math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6) + 1)
    positions = [place * step for place in places]
    return dict(zip(positions, _labels(positions, step)))


def round_step(span):
    """Choose a step of 1, 2 or 5 times a power of ten that divides `span` into 4 to 10 parts."""
    power = 10. ** math.floor(math.log10(span / 4))
    return next((factor * power for factor in (5, 2) if factor * power <= span / 4), power)


def _labels(positions, step):
    """Write positions with as many digits as a `step` between them needs: 0.25, 10k, 1.5M or 2e-5."""
    largest = max(map(abs, positions), default=0)
    if not 1e-3 <= largest < 1e12:
        return [f"{position:.4g}".replace("e-0", "e-").replace("e+0", "e+") for position in positions]
    unit, letter = next((unit, letter) for first, unit, letter in UNITS if largest >= first)
    decimals = max(0, -math.floor(math.log10(step / unit) + 1e-9))
    return [f"{position / unit:.{decimals}f}{letter}" if position else "0" for position in positions]
