"""Write what a judgement found: report.json, report.html, DATASHEET.md; and read report.json again."""
import contextlib
import hashlib
import json
import math
import os

import utils
from evaluation.figures import Figure, HIGHER, LOWER, Measure, NEITHER, Picture, Section
from evaluation.report import datasheet, page
from evaluation.report.verdicts import judge
from utils import UserError

FORMAT = 1                              # of report.json; a later format that can't be read as this one has a higher one
DIGITS = 12                             # of the digest that names a judgement
JSON, PAGE, DATASHEET = NAMES = "report.json", "report.html", "DATASHEET.md"
ENDING = "_report"                      # of the folder's name, after that of the set


def folder_for(data):
    """Name the folder of the report on the set `data`, beside it."""
    name = os.path.normpath(data)
    return (os.path.abspath(name) if os.path.basename(name) in ("", ".", "..") else name) + ENDING


def save(sections, facts, folder, more=None):
    """Write the three files about Sections and facts (see `evaluation.report.facts`) into `folder`, which is there.

    `more` {name: bytes} are files that belong to them. All are written under temporary names first, and renamed one
    right after the other. Each names the judgement, by a digest of its numbers; report.json has the digests of `more`:
    see `check_beside`. So what a kill between two names mixes is found. Where the page can't be made, the numbers
    are written all the same. What a user filled in DATASHEET.md is kept. Raises OSError where a file can't be written.
    """
    more, numbers = more or {}, as_json(sections, facts)
    judgement = hashlib.sha256(json.dumps(numbers).encode()).hexdigest()[:DIGITS]
    numbers["judgement"] = judgement
    numbers["files"] = {name: hashlib.sha256(content).hexdigest() for name, content in more.items()}
    try:
        made = {PAGE: page.make(sections, facts, judgement),
                DATASHEET: datasheet.renew(sections, facts, os.path.join(folder, DATASHEET), judgement)}
    except Exception:
        utils.save_json(numbers, os.path.join(folder, JSON))
        raise
    utils.clean_temporary(folder)
    with contextlib.ExitStack() as files:               # they get their names when it ends, report.json last
        for name, content in {JSON: utils.json_bytes(numbers), **made, **more}.items():
            if content is not None:
                file = files.enter_context(utils.atomic_write(os.path.join(folder, name)))
                file.write(content)
                file.flush()                            # a full disk is told here, before any has its name


def check_beside(folder, name):
    """Raise UserError where the file `name` in `folder` is of another judgement than the report.json beside it."""
    numbers = utils.load_json(os.path.join(folder, JSON), {})
    files = numbers.get("files") if isinstance(numbers, dict) else None
    expected = files.get(name) if isinstance(files, dict) else None
    path = os.path.join(folder, name)
    if expected and utils.sha256_of(path) != expected:
        raise UserError(f"{path}: not of the same judgement as the {JSON} beside it, which was stopped while it wrote, "
                        "or one of the two has changed since; judge the set again, or name this file itself")


# report.json

def as_json(sections, facts):
    """Make the dict of report.json, as docs/files.md describes it. Numbers that are not finite become null.

    `save` fills in the judgement and its files.
    """
    return {"format": FORMAT, "judgement": "", "files": {}, "facts": plain(facts), "sections": [
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
