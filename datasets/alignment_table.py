"""The table alignment.csv: what align.py found in each photo, and which part of the photo each crop shows."""
import contextlib
import csv
import io
import logging

import numpy as np

import utils
from datasets.detection import POINTS

BOX = "left", "top", "right", "bottom"
LANDMARKS = tuple(f"{point}_{axis}" for point in POINTS for axis in "xy")
OLD_FIELDS = ("source", "crop", *BOX, *LANDMARKS, "confidence", "status")        # of older versions
FIELDS = (*OLD_FIELDS, "width", "height")                   # the last two are of the photo
CROPPED, NO_FACE = "cropped", "no face"                     # statuses of photos that are done; others are tried again


def encode_rows(rows):
    """Encode `rows`, dicts of FIELDS, as CSV without a heading -> bytes."""
    return utils.csv_bytes([row[field] for field in FIELDS] for row in rows)


def load_table(path):
    """Read the table at `path` -> {name of a photo: row}, a row being a dict of FIELDS.

    Without a file there are no rows. A last line that a kill cut off is left out. So are damaged rows, with a warning:
    their photos are cropped again. Raises UserError when the file is no table of align.py.
    """
    try:
        content = utils.read_text(path, "surrogateescape")
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise utils.UserError(f"{path}: can't be read ({error.strerror}); {utils.RESTORE}") from error
    complete = content[:content.rfind("\n") + 1]
    reader = csv.DictReader(io.StringIO(complete, newline=""))
    try:
        if complete and tuple(reader.fieldnames) not in (FIELDS, OLD_FIELDS):
            raise csv.Error("another heading")
        old = complete and tuple(reader.fieldnames) == OLD_FIELDS
        rows = [{"width": "", "height": "", **row} if old else row for row in reader]
    except csv.Error as error:
        raise utils.UserError(f"{path}: not a table of align.py ({error}); {utils.RESTORE}") from error
    good = {row["source"]: row for row in rows if _is_whole(row)}
    damaged = sum(not _is_whole(row) for row in rows)
    if damaged:
        logging.warning("%s: %d damaged rows, whose photos are cropped again", path, damaged)
    return good


def load_tables(paths):
    """Read the tables at `paths` -> {name of a photo: row}. A later table wins. Raises UserError, see `load_table`."""
    rows = {}
    for path in paths:
        rows.update(load_table(path))
    return rows


def _is_whole(row):
    """Tell whether a row of the table has all FIELDS, and of a crop the numbers that say where it is."""
    if None in row or None in row.values() or not (row["source"] and row["status"]):
        return False
    if row["status"] != CROPPED:
        return True
    with contextlib.suppress(ValueError):
        return all(np.isfinite(float(row[field])) for field in (*BOX, *LANDMARKS, "confidence"))
    return False


def save_table(path, rows, names=()):
    """Write `rows` {name of a photo: row} as the table `path`, whole or not at all: those of `names`, then others."""
    ordered = [rows[name] for name in dict.fromkeys([*names, *rows])]
    with utils.atomic_write(path) as file:
        file.write((",".join(FIELDS) + "\n").encode() + encode_rows(ordered))
