"""Read images and their identities from a .rec file with its .idx, as InsightFace's data sets have them.

The .idx is text: a line `NUMBER<tab>OFFSET` for each record. Record 0 may tell how many images there are: its labels
are then [n + 1, n + 1 + identities], the images are records 1 to n, and after them comes a record for each identity,
whose labels are the number of its first image and the one after its last. Without it, every record is an image.
"""
import functools
import logging
import os
from typing import NamedTuple

import numpy as np

import utils
from datasets.packed import record_format
from datasets.packed.record_format import HEADER_LENGTH, WHOLE
from utils import load_json, open_regular, read_text, reason_of, UserError

SUFFIX = ".rec"
USUAL = "train.rec"                 # among several in a folder
NAMES = ".identities.json"          # instead of .rec: the names of the identities by their labels; only ours have it
MOST_LABEL = 2 ** 24                # a label is a float32, and whole numbers above are not exact
_PROBES = 64                        # records that are looked at, whether the .idx is of this .rec
_OPEN = 8                           # files that stay open


def find(place):
    """Find the .rec file that `place` names: itself, or one in this folder -> its path; None where there is none.

    Among several in a folder, it is USUAL. Raises UserError where that is not there.
    """
    if place.lower().endswith(SUFFIX) and os.path.isfile(place):
        return place
    try:
        with os.scandir(place) as entries:
            names = [entry.name for entry in entries
                     if entry.name.lower().endswith(SUFFIX) and not entry.name.startswith(".") and entry.is_file()]
    except OSError:
        return None
    if len(names) > 1 and USUAL not in names:
        raise UserError(f"{place}: several .rec files are there, such as {min(names)}; name one of them")
    return os.path.join(place, USUAL if USUAL in names else names[0]) if names else None


def name_of(identity, number):
    """Name the image in the record `number` -> `IDENTITY/NUMBER.jpg`. Its suffix says nothing of its format."""
    return f"{identity}/{number:05}.jpg"


class Listing(NamedTuple):
    """The images of a .rec file, ordered by identity, then by number."""
    numbers: np.ndarray             # int64 [n] of the records
    labels: np.ndarray              # int64 [n] as the file tells them, perhaps with gaps
    names: dict                     # {label: name of the identity}


class RecordFile:
    """An open .rec file. Threads and forked processes may read from it at the same time."""

    def __init__(self, path):
        """Open the file `path` and read its .idx. Raises OSError, and UserError where the two do not fit."""
        self.path, index = path, path[:-len(SUFFIX)] + ".idx"
        self._file = open_regular(path)
        self._descriptor, self._size = self._file.fileno(), os.fstat(self._file.fileno()).st_size
        self.numbers, self._offsets = _read_index(index)
        if len(self._offsets) and self._offsets.max() >= self._size:
            raise UserError(f"{path}: cut short, or {index} is of another file: it names records beyond the end; "
                            "copy both files again")
        probes = np.unique(np.linspace(0, len(self.numbers) - 1, _PROBES).round().astype(int))
        # The last record shows best whether the file is whole.
        probes = [*probes, int(np.argmax(self._offsets))]
        for probe in probes:
            try:
                record_format.part_at(self._read, int(self._offsets[probe]), self._size)
            except ValueError as error:
                raise UserError(f"{path}: record {self.numbers[probe]} can't be read ({error}): the file is damaged, "
                                f"or {index} is of another file; copy both files again") from error

    def __del__(self):
        if hasattr(self, "_file"):
            self._file.close()

    def _read(self, count, offset):
        """Read `count` bytes at `offset`, fewer at the end of the file. Nobody else's place in the file changes."""
        return os.pread(self._descriptor, count, offset)

    def _offset_of(self, number):
        """Look up the offset of the record `number`. Raises ValueError where there is none."""
        place = number - int(self.numbers[0])           # where no number is left out
        if not 0 <= place < len(self.numbers) or self.numbers[place] != number:
            place = int(np.searchsorted(self.numbers, number))
        if place == len(self.numbers) or self.numbers[place] != number:
            raise ValueError(f"no record {number} in it")
        return int(self._offsets[place])

    def read(self, number):
        """Read the record `number` -> record_format.Image. Raises ValueError for a damaged one, and OSError."""
        return record_format.unpack(record_format.from_parts(self._read, self._offset_of(number), self._size)[0])

    def look(self, number):
        """Read the labels of the record `number` -> (tuple of labels, whether it has no image).

        No more is read than the beginning of the record. Raises ValueError for a damaged one, and OSError.
        """
        kind, start, length = record_format.part_at(self._read, self._offset_of(number), self._size)
        beginning = self._read(min(length, HEADER_LENGTH + 8), start)
        end = record_format.header_end(beginning)
        if kind != WHOLE or len(beginning) < end:
            image = self.read(number)
            return image.labels, not image.content
        return record_format.unpack(beginning).labels, length == end


def _read_index(path):
    """Read an .idx -> numbers int64 [n], in order, and offsets int64 [n]. Raises UserError for any other file."""
    try:
        table = np.array([int(word) for word in read_text(path).split()], np.int64).reshape(-1, 2)
        numbers, offsets = table[np.argsort(table[:, 0], kind="stable")].T
        if not len(table) or (table < 0).any() or (offsets % 4).any() or (np.diff(numbers) == 0).any():
            raise ValueError("a number is below 0 or there twice, an offset no multiple of 4, or the file is empty")
        return numbers.copy(), offsets.copy()
    except (OSError, ValueError, OverflowError) as error:
        raise UserError(f"{path}: no index of a .rec file, a line `NUMBER OFFSET` for each record "
                        f"({reason_of(error)}); copy it again") from error


def open_records(path):
    """Open a .rec file, or return the one that is open already, unless it was replaced since -> RecordFile.

    Raises what RecordFile raises.
    """
    state = os.stat(path)
    return _opened(path, (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns))


@functools.lru_cache(_OPEN)
def _opened(path, _state):
    return RecordFile(path)


def list_images(path):
    """List the images of a .rec file -> Listing.

    Where record 0 tells of identities, only their records and an image of each are looked at. Else the header of every
    record is. Raises UserError where the file, its .idx or a label can't be read.
    """
    try:
        file = open_records(path)
        numbers, labels = _numbers_and_labels(file)
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror}); check the path") from error
    if not len(numbers):
        raise UserError(f"{path}: no images in it; name another file")
    order = np.lexsort([numbers, labels])
    names = _names_of(path)
    found = {int(label): names[label] if label < len(names) else str(label) for label in np.unique(labels)}
    if len(set(found.values())) < len(found):
        raise UserError(f"{path[:-len(SUFFIX)]}{NAMES}: two identities have one name; {utils.RESTORE}")
    return Listing(numbers[order], labels[order], found)


def _numbers_and_labels(file):
    """Find the images of a RecordFile and their labels, int64 [n] each."""
    numbers, ends = file.numbers, None
    if numbers[0] == 0:
        labels, empty = _look(file, 0)
        ends = labels if empty and len(labels) >= 2 else None
    if ends is None:
        return numbers, _labels_of(file, numbers)
    if not 1 <= ends[0] <= ends[1] or ends[0] > numbers[-1] + 1 + ends[0] / MOST_LABEL:    # which is its rounding
        raise UserError(f"{file.path}: record 0 tells of {ends[0] - 1:g} images and {ends[1] - ends[0]:g} identities, "
                        f"and the last record is {numbers[-1]}: the file is damaged; copy it again")
    images = numbers[(numbers >= 1) & (numbers < ends[0])]
    of_identities = numbers[(numbers >= ends[0]) & (numbers < ends[1])]
    labels = _labels_by_identity(file, images, of_identities)
    return images, _labels_of(file, images) if labels is None else labels


def _look(file, number):
    """Look at a record of a RecordFile as `look` does. Raises UserError for a damaged one."""
    try:
        return file.look(number)
    except ValueError as error:
        raise UserError(f"{file.path}: record {number} is damaged ({error}), and its identity is not known; copy the "
                        "file again") from error


def _whole_label(file, number):
    """Read the first label of an image as a whole number. Raises UserError where it is none."""
    label = _look(file, number)[0][0]
    if not 0 <= label <= MOST_LABEL or label != int(label):
        raise UserError(f"{file.path}: the label of record {number} is {label:g}, which is the number of no identity; "
                        "name another file")
    return int(label)


def _labels_by_identity(file, images, of_identities):
    """Read the labels of `images` by the records of identities -> int64 [n]; None where these do not tell all.

    The first and the last image of an identity have to have one label.
    """
    labels = np.full(len(images), -1)
    for number in of_identities.tolist():
        bounds, _ = _look(file, number)
        bounds = [int(min(max(0, bound), MOST_LABEL + 1)) for bound in bounds[:2]]          # nan becomes 0
        first, last = np.searchsorted(images, bounds) if len(bounds) > 1 else (0, 0)
        if first < last:
            label = _whole_label(file, int(images[first]))
            if (labels[first:last] >= 0).any() or label != _whole_label(file, int(images[last - 1])):
                break
            labels[first:last] = label
    if (labels >= 0).all():
        return labels
    logging.warning("%s: its records of identities do not fit its images; the label of each image counts", file.path)
    return None


def _labels_of(file, images):
    """Read the labels of `images` from their headers -> int64 [n]. A bar shows how far it is."""
    with utils.progress_bar("record", len(images)) as bar:
        labels = np.empty(len(images), np.int64)
        for place, number in enumerate(images.tolist()):
            labels[place] = _whole_label(file, number)
            bar.update()
    return labels


def _names_of(path):
    """Read the names of identities that we wrote beside a .rec file -> list, [] where there are none."""
    side = path[:-len(SUFFIX)] + NAMES
    names = load_json(side, [])
    if not isinstance(names, list) or not all(
            isinstance(name, str) and name not in ("", ".", "..") and "/" not in name for name in names):
        raise UserError(f"{side}: no list of names of identities; {utils.RESTORE}")
    return names
