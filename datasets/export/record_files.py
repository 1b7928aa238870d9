"""Write images as InsightFace's data sets have them: train.rec, train.idx, train.lst and property.

The .rec grows under another name. Now and then, what is on disk is noted, so that a killed export goes on there.
"""
import json
import os

import numpy as np

import utils
from datasets.packed import record_format
from datasets.packed.records import MOST_LABEL, NAMES
from utils import UserError

_STEM = "train"
_PART, _NOTE = f".{_STEM}.rec", f".{_STEM}.json"        # what is not yet whole, and how much of it counts
_CHUNK = 4096                       # records after which that is noted


class Records:
    """An export into a .rec file with record 0 and the records of identities, which `records.list_images` reads."""

    files = (f"{_STEM}.rec", f"{_STEM}.idx", f"{_STEM}.lst", f"{_STEM}{NAMES}", "property")

    def __init__(self, source):
        """Take a Source. Raises UserError where its images are too many for float32 to number them."""
        self._source, self._images = source, source.count
        self._bounds = np.searchsorted(source.labels, np.arange(len(source.identities) + 1)) + 1
        self._count = 1 + self._images + len(source.identities)         # of all records
        if self._count > MOST_LABEL:
            raise UserError(f"--to rec: {self._images} images of {len(source.identities)} identities are more than "
                            f"record 0 can number ({MOST_LABEL} in all); export them in parts, or to another format")

    def place(self, index):
        """Tell where image `index` is -> {column: value}."""
        return {"record": index + 1}

    def _record(self, number):
        """Make the bytes of the record `number`."""
        last = self._images + 1
        if number == 0:
            return record_format.pack([last, self._count], 0)
        if number < last:
            return record_format.pack([self._source.labels[number - 1]], number, self._source.content(number - 1))
        return record_format.pack(self._bounds[number - last:number - last + 2].tolist(), number)

    def write(self, folder, is_whole, bar):
        """Write the files into `folder` unless all are there, as `is_whole(name)` tells; tell a `bar` of the images."""
        if all(map(is_whole, self.files)):
            bar.update(self._images)
            return
        height, width = self._source.size()
        part = os.path.join(folder, _PART)
        offsets = self._write_records(part, os.path.join(folder, _NOTE), bar)
        source = self._source
        contents = {
            f"{_STEM}.idx": "".join(f"{number}\t{offset}\n" for number, offset in enumerate(offsets)),
            f"{_STEM}.lst": "".join(f"{index + 1}\t{label}\t{utils.one_line(source.names[index])}\n"
                                    for index, label in enumerate(source.labels)),
            f"{_STEM}{NAMES}": json.dumps(source.identities) + "\n",
            "property": f"{len(source.identities)},{height},{width}\n"}
        for name, text in contents.items():
            with utils.atomic_write(os.path.join(folder, name)) as file:
                file.write(text.encode())
        os.replace(part, os.path.join(folder, self.files[0]))
        os.remove(os.path.join(folder, _NOTE))

    def _write_records(self, path, note, bar):
        """Write all records to the file `path`, or go on where the file `note` says -> their offsets."""
        offsets = _go_on(path, note)
        bar.update(min(max(len(offsets) - 2, 0), self._images))
        with open(path, "r+b" if offsets else "wb") as file:
            place = offsets.pop() if offsets else 0         # the last is where the next record goes
            file.truncate(place)
            file.seek(place)
            for number in range(len(offsets), self._count):
                offsets.append(place)
                place += file.write(record_format.to_parts(self._record(number)))
                if 0 < number <= self._images:
                    bar.update()
                if number % _CHUNK == 0 or number == self._count - 1:
                    file.flush()
                    os.fsync(file.fileno())
                    utils.save_json({"records": number + 1, "bytes": place}, note)
        return offsets


def _go_on(path, note):
    """Find the records that an earlier export has written to `path` -> their offsets and, last, the next one's.

    The list is empty where nothing of it counts.
    """
    try:
        noted = utils.read_json(note)
        size, count = int(noted["bytes"]), int(noted["records"])
        offsets = [0]
        with utils.open_regular(path) as file:
            if os.fstat(file.fileno()).st_size < size:
                return []
            while offsets[-1] < size:
                offsets.append(record_format.end_of(
                    lambda wanted, at: os.pread(file.fileno(), wanted, at), offsets[-1], size))
        return offsets if len(offsets) == count + 1 else []
    except (OSError, ValueError, TypeError, KeyError):
        return []
