"""The table of quality.py: a row for each result, written as Markdown and as CSV."""
import glob
import os

import utils

# What a column is called, where its number stands in a result, what it is multiplied by, and its digits.
RUN = (("steps", "steps", 1, 0), ("minutes", "minutes", 1, 1), ("CPU min", "cpu_minutes", 1, 1),
       ("seed", "seed", 1, 0))
FIGURES = (("KID", "kid", 1000, 0), ("Frechet", "frechet", 1000, 0), ("SWD", "swd", 1, 0),
           ("SWD fine", "swd_fine", 1, 0), ("colour", "colour", 1, 1),
           ("label error", "label_error", 1, 3), ("d'", "d_prime", 1, 2), ("consistency", "consistency_at_0.001", 1, 3),
           ("collisions", "collision_rate_at_0.001", 1, 3), ("faces", "faces_found", 1, 3))
NAMES = ["name", *(name for name, *_ in (*RUN, *FIGURES))]
RENDERINGS, PEOPLE = REFERENCES = "renderings themselves", "real people (floor)"


def write(out):
    """Write OUT/table.md and OUT/table.csv anew from all results in OUT/results and all references in OUT/data."""
    found = sorted(glob.glob(os.path.join(glob.escape(out), "results", "*.json")))
    results = [utils.load_json(path, {}) for path in found]
    references = {}
    for path in glob.glob(os.path.join(glob.escape(out), "data", "*", "reference_*.json")):
        reference = utils.load_json(path, {})
        references[group_of(reference)] = reference["rows"]
    groups = sorted({*references, *map(group_of, results)})
    tables = {group: _rows(references.get(group, {}), [each for each in results if group_of(each) == group])
              for group in groups}
    _save(os.path.join(out, "table.md"), "\n".join(_markdown(group, rows) for group, rows in tables.items()).encode())
    _save(os.path.join(out, "table.csv"), utils.csv_bytes([
        ["domain", "size", "judge", *NAMES, "options"],
        *([*group, *cells, options] for group, rows in tables.items() for cells, options in rows)]))


def group_of(result):
    """Tell which results can be compared with one -> (domain, size, judge)."""
    return result["domain"], result["size"], result["judge"]


def _rows(references, results):
    """Make the rows of a table, those of the references first -> list of (cells, options)."""
    rows = [([name, *[""] * len(RUN), *_cells(FIGURES, references[name])], "") for name in REFERENCES
            if name in references]
    for each in sorted(results, key=lambda result: result["finished"]):
        cells = _cells(RUN, {key: {"value": each[key]} for _, key, *_ in RUN})
        rows.append(([each["name"], *cells, *_cells(FIGURES, each["figures"])], " ".join(each["options"])))
    return rows


def _cells(columns, figures):
    """Write the numbers of some columns -> list of words, "" for what was not measured."""
    return ["" if figures.get(key, {}).get("value") is None else f"{figures[key]['value'] * times:.{digits}f}"
            for _, key, times, digits in columns]


def _markdown(group, rows):
    """Write the table of a group as Markdown."""
    domain, size, judge = group
    lines = [f"## {domain}, {size} pixels, judged by {judge}", "", f"| {' | '.join(NAMES)} |",
             f"|{'---|' * len(NAMES)}"]
    return "\n".join([*lines, *(f"| {' | '.join(cells)} |" for cells, _ in rows), ""])


def _save(path, content):
    """Write a file of these bytes that appears whole."""
    with utils.atomic_write(path) as file:
        file.write(content)
