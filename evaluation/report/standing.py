"""A picture of where a set stands by one measure: on a line, with its renderings and real photos. Better is right."""
from evaluation.figures import HIGHER, LOWER, PHOTOS, PIXELS, RENDERINGS, SET
from evaluation.report.markup import element, Markup
from evaluation.report.verdicts import measured

WIDTH, HEIGHT, EDGE = 168, 30, 9            # of the drawing, and what stays free at its left and right
MIDDLE = HEIGHT / 2


def standing(measure, sentence):
    """Draw the figures of a measure on a line -> Markup of an <svg>, "" where nothing can be compared.

    Real photos are a band, as wide as their interval, with a line in it. The set is a dot on the line of its interval,
    renderings are a square, raw pixels a cross, at an end of the line where they are beyond it. `sentence` is what a
    screen reader reads.
    """
    figures = {name: measured(measure.figures.get(name)) for name in (PHOTOS, RENDERINGS, PIXELS, SET)}
    shown = {name: figure for name, figure in figures.items() if figure is not None}
    if SET not in shown or len(shown) < 2 or measure.better not in (LOWER, HIGHER):
        return Markup("")
    spanned = [figure for name, figure in shown.items() if name != PIXELS or len(shown) == 2]
    ends = [end for figure in spanned for end in (figure.value, figure.low, figure.high) if end is not None]
    low, high = min(ends), max(ends)
    if low == high:
        low, high = low - 1, high + 1

    def place(value):
        share = min(max((value - low) / (high - low), 0), 1)
        return round(EDGE + (WIDTH - 2 * EDGE) * (share if measure.better == HIGHER else 1 - share), 1)

    drawn = [_line(EDGE, MIDDLE, WIDTH - EDGE, MIDDLE, "axis")]
    for name, figure in shown.items():
        ends = None
        if figure.low is not None and figure.high is not None:
            ends = sorted((place(figure.low), place(figure.high)))
        drawn += _MARKS[name](place(figure.value), ends)
    return element("svg", *drawn, viewBox=f"0 0 {WIDTH} {HEIGHT}", width=WIDTH, height=HEIGHT, class_="standing",
                   role="img", aria_label=sentence)


def legend():
    """Draw the marks with their names -> Markup of a line."""
    names = {SET: "the set, with its interval", RENDERINGS: "renderings", PHOTOS: "real photos: the floor",
             PIXELS: "raw pixels"}
    return element("p", *(element("span", element(
        "svg", *_MARKS[name](11, (3, 19)), viewBox=f"0 0 22 {HEIGHT}", width=22, height=HEIGHT, aria_hidden="true",
        class_="standing"), words) for name, words in names.items()), class_="legend")


def _line(left, top, right, bottom, kind):
    """Draw a line."""
    return element("line", x1=left, y1=top, x2=right, y2=bottom, class_=kind)


def _photos(place, ends):
    """Draw a band, 3 wide at least."""
    left, right = ends or (place, place)
    left, right = min(left, place - 1.5), max(right, place + 1.5)
    return [element("rect", x=round(left, 1), y=3, width=round(right - left, 1), height=HEIGHT - 6, class_="photos"),
            _line(place, 3, place, HEIGHT - 3, "photos")]


def _renderings(place, _):
    """Draw a square."""
    return [element("rect", x=round(place - 4, 1), y=MIDDLE - 4, width=8, height=8, class_="renderings")]


def _pixels(place, _):
    """Draw a cross."""
    return [_line(place - 3.5, MIDDLE - 3.5, place + 3.5, MIDDLE + 3.5, "pixels"),
            _line(place - 3.5, MIDDLE + 3.5, place + 3.5, MIDDLE - 3.5, "pixels")]


def _set(place, ends):
    """Draw a dot on its interval."""
    return [*([_line(ends[0], MIDDLE, ends[1], MIDDLE, "set")] if ends else []),
            element("circle", cx=place, cy=MIDDLE, r=4.5, class_="set")]


_MARKS = {PHOTOS: _photos, RENDERINGS: _renderings, PIXELS: _pixels, SET: _set}
