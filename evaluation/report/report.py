"""Write what a judgement found: report.json, report.html, DATASHEET.md; and read report.json again."""
import math
import os

import utils
from evaluation.figures import Figure, HIGHER, LOWER, Measure, NEITHER, Picture, Section
from evaluation.report import datasheet, page
from evaluation.report.verdicts import judge
from utils import UserError

FORMAT = 1                              # of report.json; a later format that can't be read as this one has a higher one
JSON, PAGE, DATASHEET = NAMES = "report.json", "report.html", "DATASHEET.md"


def save(sections, facts, folder):
    """Write the three files about Sections and facts (see `evaluation.report.facts`) into `folder`, which is there.

    Each appears whole or not at all. The numbers come first, so that no trouble with a picture loses them. What a
    user filled in DATASHEET.md is kept. Raises OSError where a file can't be written.
    """
    utils.save_json(as_json(sections, facts), os.path.join(folder, JSON))
    with utils.atomic_write(os.path.join(folder, PAGE)) as file:
        file.write(page.make(sections, facts))
    datasheet.save(sections, facts, os.path.join(folder, DATASHEET))


# report.json

def as_json(sections, facts):
    """Make the dict of report.json, as docs/files.md describes it. Numbers that are not finite become null."""
    return {"format": FORMAT, "facts": plain(facts), "sections": [
        {"key": section.key, "title": section.title, "measures": [_measure(measure) for measure in section.measures],
         "tables": {name: [plain(row) for row in rows] for name, rows in section.tables.items()},
         "notes": list(map(str, section.notes)),
         "pictures": [{"key": picture.key, "caption": picture.caption} for picture in section.pictures]}
        for section in sections]}


def _measure(measure):
    """Make the dict of a Measure."""
    figures = {name: plain(figure) for name, figure in measure.figures.items()}
    return {"key": measure.key, "name": measure.name, "better": measure.better, "meaning": measure.meaning,
            "verdict": judge(measure).word, "figures": figures}


def plain(value):
    """Turn a value into what JSON can hold: NumPy's numbers and arrays, Figures and paths too."""
    if isinstance(value, Figure):
        return plain(Figure(*map(plain, value)).as_json())
    if isinstance(value, dict):
        return {str(name): plain(each) for name, each in value.items()}
    if hasattr(value, "tolist"):                    # NumPy's arrays and numbers
        return plain(value.tolist())
    if isinstance(value, (list, tuple, set)):
        return [plain(each) for each in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def load(path):
    """Read a report.json -> (Sections, facts). Its pictures have no image. Raises UserError where it is none."""
    found = utils.load_json(path, None)
    if found is None:
        raise UserError(f"{path}: no such file; name the {JSON} that evaluate.py judge wrote")
    try:
        if found["format"] != FORMAT:
            raise UserError(f"{path}: of format {found['format']}, and only {FORMAT} can be read; judge the set anew")
        return [_read_section(each) for each in found["sections"]], dict(found["facts"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: no report of evaluate.py judge, or a damaged one; judge the set anew") from error


def _read_section(found):
    """Make a Section of its dict. Raises KeyError, TypeError, ValueError or AttributeError where it is none."""
    measures = [Measure(each["key"], each["name"], each["better"], each["meaning"],
                        {name: _read_figure(figure) for name, figure in each["figures"].items()})
                for each in found["measures"]]
    if any(measure.better not in (LOWER, HIGHER, NEITHER) for measure in measures):
        raise ValueError("a measure that is better neither lower nor higher")
    tables = {name: [{key: _read_figure(cell) if _is_figure(cell) else cell for key, cell in row.items()}
                     for row in rows] for name, rows in found["tables"].items()}
    return Section(found["key"], found["title"], measures,
                   [Picture(each["key"], each["caption"], None) for each in found["pictures"]],
                   list(found["notes"]), tables)


def _is_figure(cell):
    """Tell whether a cell of a table was a Figure."""
    return isinstance(cell, dict) and ("not_measured" in cell or {"value", "n"} <= cell.keys())


def _read_figure(found):
    """Make a Figure of its dict. Raises KeyError or TypeError where it is none."""
    if "not_measured" in found:
        return Figure(None, why=found["not_measured"])
    value = found.get("value")                      # lacks where it was not finite
    return Figure(None if value is None else value + 0, found.get("low"), found.get("high"), found["n"])
