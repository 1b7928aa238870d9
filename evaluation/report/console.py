"""The figures of one set, or of several side by side, as a table for a terminal."""
import os
import textwrap

from evaluation.figures import PHOTOS, PIXELS, RENDERINGS, SET
from evaluation.report.numbers import of_figure, title
from evaluation.report.verdicts import judge
from utils import one_line

NAME, CELL = 62, 11             # letters of a measure's name, and of a figure


def table_of(judged):
    """Write the figures of several sets as a table -> str. `judged` is {name of a set: its Sections}.

    Rows are measures, columns the sets, and last the renderings and real photos of the first. A verdict is printed
    where there is one set.
    """
    first = next(iter(judged.values()))
    columns = [*judged, *(name for name in (RENDERINGS, PHOTOS, PIXELS) if any(
        name in measure.figures for section in first for measure in section.measures))]
    alone, lines = len(judged) == 1, []
    shown = [one_line(os.path.basename(os.path.normpath(name))) for name in columns]
    widths = [max(len(name), CELL) for name in shown]
    for section in (each for each in first if each.measures):
        lines += ["", section.title, f"{'':{NAME}}" + "".join(f"{name:>{width + 2}}" for name, width in zip(
            shown, widths))]
        for measure in section.measures:
            figures = [_find(judged[name], section.key, measure.key).get(SET) for name in judged]
            figures += [measure.figures.get(name) for name in columns[len(judged):]]
            cells = "".join(f"{_cell(figure):>{width + 2}}" for figure, width in zip(figures, widths))
            word = f"  {judge(measure).word}" if alone else ""
            lines += textwrap.wrap(title(measure.name), NAME - 1)
            lines[-1] = f"{lines[-1]:{NAME}}{cells}{word}".rstrip()
    return "\n".join(lines[1:])


def _find(sections, section_key, key):
    """Find the figures of a measure among Sections, {} where it is not there."""
    return next((measure.figures for section in sections if section.key == section_key
                 for measure in section.measures if measure.key == key), {})


def _cell(figure):
    """Write a Figure for a table: its value, or a dash."""
    value, _ = of_figure(figure) if figure else ("", "")
    return "-" if value == "not measured" else value
