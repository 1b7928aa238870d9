"""Keep how sure one can be of each image of a set in a table: `evaluate.py judge` writes it, `filter` reads it."""
import csv
import io
import math
import os

import utils
from utils import UserError

NAME = "confidences.csv"                # in the folder of a report
HEADING = ["image", "confidence"]
AGAIN = "judge the set again, or name another report's folder with --confidences"


def table_of(names, values):
    """Make the file of the confidence of each image -> bytes: a line `IDENTITY/IMAGE,confidence` for each.

    `names` [n] are as in Renderings, `values` [n] from 0 to 1, or nan where nothing is known.
    """
    return utils.csv_bytes([HEADING, *((name, f"{value:.6f}") for name, value in zip(names, values, strict=True))])


def read(place):
    """Read the confidences of images -> {name: number from 0 to 1, or nan}.

    `place` is the file, or the folder of the report that it lies in. Raises UserError, with the way on.
    """
    path = os.path.join(place, NAME) if os.path.isdir(place) else place
    try:
        rows = list(csv.reader(io.StringIO(utils.read_text(path, "surrogateescape"), newline="")))
    except FileNotFoundError as error:
        raise UserError(f"{path}: not there; {AGAIN}") from error
    except (OSError, csv.Error) as error:
        raise UserError(f"{path}: can't be read ({utils.reason_of(error)}); {AGAIN}") from error
    try:
        if rows[0] != HEADING:
            raise ValueError("another heading")
        found = {name: float(number) for name, number in rows[1:]}
        if len(found) < len(rows) - 1 or not all(math.isnan(value) or 0 <= value <= 1 for value in found.values()):
            raise ValueError("an image that is there twice, or a number that is no probability")
    except (ValueError, IndexError) as error:
        raise UserError(f"{path}: not a line `IDENTITY/IMAGE,confidence` for each image, below `{','.join(HEADING)}`; "
                        f"{AGAIN}") from error
    return found
