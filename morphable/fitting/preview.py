"""Draw a sheet of pairs: photo, rendering, and both laid over each other."""
import contextlib
import logging
import os

import numpy as np
from PIL import Image

import utils
from datasets.images import BrokenImage, load_image, make_grid, save_picture
from datasets.neighbours import check_picture_place
from morphable.fitting import albums
from utils import UserError

PAIRS, COLUMNS, CELL = 32, 4, 128           # pairs at most, pairs a row, pixels a cell


def check(path, folders):
    """Raise UserError where the sheet `path` can't be written, or would be taken for a photo. None stands for no sheet.

    It may lie in none of `folders`, {option: folder}, nor among the images of others.
    """
    if not path:
        return
    folder = os.path.dirname(os.path.realpath(path))
    for option, taken in folders.items():
        if os.path.commonpath([os.path.realpath(taken), folder]) == os.path.realpath(taken):
            raise UserError(f"--preview {path}: within {option} it would be taken for a photo; name another folder")
    check_picture_place("--preview", path)
    try:
        utils.check_writable(os.path.dirname(os.path.abspath(path)))
    except OSError as error:
        raise UserError(f"--preview {path}: can't write there ({error.strerror}); name another place") from error


def draw(path, output, rows):
    """Write the sheet `path` of those `rows` of the table that have a pair, from all people alike.

    Raises OSError when it can't be written.
    """
    fitted = [row["pair"] for row in rows if row["status"] == albums.FITTED]
    cells = []
    for name in fitted[::-(-len(fitted) // PAIRS)] if fitted else ():
        with contextlib.suppress(BrokenImage):
            photo, rendering = (load_image(each, CELL) for each in albums.pair_paths(output, name))
            both = np.asarray(Image.blend(Image.fromarray(photo), Image.fromarray(rendering), .5))
            cells += [photo, rendering, both]
    if cells:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        save_picture(make_grid(np.stack(cells), 3 * COLUMNS), path)
    else:
        logging.warning("%s: not written, there are no pairs to show", path)
