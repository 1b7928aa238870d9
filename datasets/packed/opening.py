"""Open an image by its path, be it a file or packed in another one: `faces.rec/IDENTITY/00012.jpg`, `lfw.bin/7.jpg`."""
import io
import os
import re

from datasets.packed import pair_sets, records
from utils import open_regular

_PACKED = re.compile(r"\.(?:rec|bin)(?=/)", re.IGNORECASE)


def split(path):
    """Divide the path of a packed image at the end of the file that it is packed in -> (file, rest); or None."""
    for ending in _PACKED.finditer(path):
        file = path[:ending.end()]
        if os.path.isfile(file):
            return file, path[ending.end() + 1:]
    return None


def open_image(path):
    """Open the image at `path` to read its bytes. Raises OSError, without a number where a packed one is damaged.

    A packed image is named by its number; what else is in the path does not count.
    """
    found = split(path)
    if found is None:
        return open_regular(path)
    try:
        return io.BytesIO(_unpacked(*found))
    except ValueError as error:
        raise OSError(str(error)) from error


def _unpacked(file, inside):
    """Read the packed image `inside` a file -> bytes. Raises ValueError where it is damaged, and OSError."""
    number = int(os.path.splitext(os.path.basename(inside))[0])
    if file.lower().endswith(records.SUFFIX):
        return records.open_records(file).read(number).content
    images = pair_sets.read(file).images
    if not 0 <= number < len(images):
        raise ValueError(f"no image {number} in it")
    return images[number]


def stat_of(path):
    """Return what the system knows of the file at `path`, or of the one that it is packed in. Raises OSError."""
    found = split(path)
    return os.stat(found[0] if found else path)
