"""A table of the people of a folder of renderings: who each identity is, by the labels beside its images."""
import os

import numpy as np

import utils
from datasets.side_files import LABELS
from datasets.side_files import PEOPLE as INDEX

PLAIN = "age", "female", "hair", "beard", "glasses"         # labels that are one number or word


def write(output):
    """Write the table of all identities that are in the folder `output` by now, whichever run or machine made them.

    An identity whose age or person changes from image to image, in a sweep, has no row. Returns the names of the files
    that were written: of the table, or none. Raises OSError.
    """
    rows, origins = [], []
    for name in sorted(name for name in os.listdir(output) if name.isdecimal()):
        labels = _read(os.path.join(output, name, LABELS))
        if labels:
            origins = origins or labels["origins"].tolist()
            shares = dict(zip(labels["origins"].tolist(), labels["origin"].round(4).tolist()))
            rows.append([name, round(float(labels["age"]), 2), round(float(labels["female"]), 4),
                         *(shares.get(origin, 0.0) for origin in origins),
                         *(str(labels[field]) for field in PLAIN[2:])])
    if not rows:
        return []
    with utils.atomic_write(os.path.join(output, INDEX)) as file:
        file.write(utils.csv_bytes([["identity", *PLAIN[:2], *origins, *PLAIN[2:]], *rows]))
    return [INDEX]


def _read(path):
    """Read what a row needs from an identity's labels -> {field: array}; None where they are not there or swept."""
    try:
        with np.load(path, allow_pickle=False) as labels:
            found = {field: labels[field] for field in (*PLAIN, "origin", "origins")}
    except utils.ARRAY_ERRORS:
        return None                         # another machine may be writing it just now
    return None if found["age"].ndim else found
