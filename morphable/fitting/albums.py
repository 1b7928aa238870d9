"""Photos sorted by who is in them, what became of each, and the files of a folder of pairs that tell so.

A folder below the photos' holds photos of one person. A photo that lies in no folder is of a person of its own. What
was found of a person is one hidden file, so that a run goes on where it stopped. Two tables are made of these files:
fitting.csv for people to read, and latents.npz.
"""
import collections
import contextlib
import csv
import hashlib
import io
import json
import logging
import os
from typing import NamedTuple

import numpy as np

import utils
from datasets.image_sets import find_photos, list_images, warn_of
from datasets.images import stem
from datasets.side_files import FITTING as TABLE
from datasets.side_files import LABELS
from datasets.sources import checksum_of, SourceRecord, stamp_of
from datasets.writer import is_whole
from utils import UserError

PARTS = ".fits"                     # folder of what was found of each person
RENDERINGS = "3dmm"
FITTED, SKIPPED = "fitted", "skipped"
FIELDS = ("photo", "person", "pair", "status", "reason", "landmark_error", "eyes", "pitch", "yaw", "roll", "score",
          "left", "top", "right", "bottom")
MOST_NAME = 200                     # bytes of a pair's name
SECOND = "+"                        # before the number of a second face


class Album(NamedTuple):
    """The photos of one person."""
    person: str                     # the path of the folder, or of the photo that lies in none
    photos: list                    # paths within the photos' folder
    names: list                     # of the pairs, without suffix; None where there can't be one
    reasons: list                   # why not, or None


# Who is there

def find(folder, crowds=False):
    """Find the people in the photos' folder -> list of Album. Raises UserError where there are no photos.

    With `crowds`, a photo has several pairs, whose names have to stay free.
    """
    photos, owners, albums = find_photos(folder, True, "--photos").names, {}, {}
    for photo in photos:
        inside = os.path.dirname(photo)
        name = stem(photo).replace(os.sep, "-")
        reason = None
        first = owners.setdefault(name, photo)
        if first != photo:
            name, reason = None, f"same name as {first}"
        elif crowds and name.rpartition(SECOND)[2].isdecimal() and SECOND in name:
            name, reason = None, f"a name that ends like that of a second face, in {SECOND} and a number"
        elif len(os.fsencode(name)) > MOST_NAME:
            name, reason = None, f"a name of more than {MOST_NAME} bytes"
        album = albums.setdefault(inside + os.sep if inside else photo, Album(inside or photo, [], [], []))
        for values, value in zip(album[1:], (photo, name, reason)):
            values.append(value)
    return list(albums.values())


# What was found of a person

def part_path(output, album):
    """Return the path of the file that tells what was found of a person."""
    digest = hashlib.sha1(os.fsencode("\0".join([album.person, str(album.photos == [album.person])]))).hexdigest()[:20]
    return os.path.join(output, PARTS, f"{digest}.npz")


def pair_paths(output, name):
    """Return the paths of a pair's photo and of its rendering."""
    return os.path.join(output, f"{name}.jpg"), os.path.join(output, RENDERINGS, f"{name}.jpg")


def save_part(output, album, stamps, rows, labels):
    """Write what was found of a person: `stamps` {photo: [stamp, checksum]}, rows of the table, {field: array}."""
    about = {"person": album.person, "stamps": stamps, "rows": rows}
    with utils.atomic_write(part_path(output, album)) as file:
        np.savez(file, about=np.frombuffer(json.dumps(about).encode(), np.uint8), **labels)


def load_part(path):
    """Read what was found of a person -> (about, {field: array}), or None where that is missing or damaged."""
    with contextlib.suppress(*utils.ARRAY_ERRORS):
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        about = json.loads(arrays.pop("about").tobytes())
        rows, stamps = about["rows"], about["stamps"]
        if all(set(row) == set(FIELDS) for row in rows) and all(len(stamp) == 2 for stamp in stamps.values()):
            return about, arrays
    return None


def stamps_of(folder, photos):
    """Stamp photos as they are now -> {photo: [stamp, checksum]}; of one that can't be read, empty words."""
    result = {}
    for photo in photos:
        result[photo] = ["", ""]
        with contextlib.suppress(OSError):
            path = [os.path.join(folder, photo)]
            result[photo] = [stamp_of(path), checksum_of(path)]
    return result


def find_missing(folder, output, albums):
    """Find the people of whom something has to be done anew -> list of Album.

    Raises UserError where most photos are others than those that the pairs were made from.
    """
    missing, changed, known = [], 0, 0
    for album in albums:
        part = load_part(part_path(output, album))
        if part is None:
            missing.append(album)
            continue
        about, _ = part
        others = [photo for photo in album.photos if photo in about["stamps"]
                  and _is_changed(os.path.join(folder, photo), about["stamps"][photo])]
        changed, known = changed + len(others), known + len(about["stamps"])
        pairs = [row["pair"] for row in about["rows"] if row["status"] == FITTED]
        whole = all(is_whole(path) for name in pairs for path in pair_paths(output, name))
        if others or not whole or set(album.photos) != set(about["stamps"]):
            missing.append(album)
    if changed > max(2, known / 2):
        raise UserError(f"--photos {folder}: other photos of the same names than those that --output {output} was made "
                        "from; name another folder")
    if changed:
        logging.info("%s: %d photos have changed and are fitted again", folder, changed)
    return missing


def _is_changed(path, known):
    """Tell whether the photo at `path` is another than that of [stamp, checksum]."""
    try:
        return stamp_of([path]) != known[0] and checksum_of([path]) != known[1]
    except OSError:                 # whoever reads it says what is wrong
        return True


def drop_pairs(output, album, kept):
    """Remove a person's file, and those pairs in it that are not among the names `kept`; photos first."""
    path = part_path(output, album)
    part = load_part(path)
    with contextlib.suppress(FileNotFoundError):
        os.remove(path)
    for row in part[0]["rows"] if part else ():
        if row["status"] == FITTED and row["photo"] in album.photos and row["pair"] not in kept:
            for each in pair_paths(output, row["pair"]):
                with contextlib.suppress(FileNotFoundError):
                    os.remove(each)


def prepare(output, alone):
    """Make the folders that pairs need, and remove what a kill left in them; unless we are `alone`, only old files."""
    for name in (RENDERINGS, PARTS):
        folder = os.path.join(output, name)
        os.makedirs(folder, exist_ok=True)
        utils.clean_temporary(folder, alone)


def claim(output, albums, work):
    """Record the names of the pairs of `albums` as begun. `work` is the shards.Work that is done.

    Raises UserError where one has a photo that was never begun: it is somebody's.
    """
    record = SourceRecord(output, lambda name: [], lambda name: pair_paths(output, name)[0], work)
    names = [name for album in albums for name in album.names if name]
    record.check_own(names)
    record.plan(names)


# The tables

def write_tables(output, albums):
    """Write fitting.csv and latents.npz of what was found of all people so far -> rows of the table."""
    rows, fields, names = [], {}, []
    for album in albums:
        part = load_part(part_path(output, album))
        if part is None:
            continue
        about, labels = part
        rows += about["rows"]
        good = [row for row in about["rows"] if row["status"] == FITTED]
        names += [(f"{row['pair']}.jpg", row["person"], row["photo"]) for row in good]
        for field, values in labels.items():
            fields.setdefault(field, []).append(values)
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(rows)
    with utils.atomic_write(os.path.join(output, TABLE)) as file:
        file.write(text.getvalue().encode(errors="surrogateescape"))
    if names:
        columns = dict(zip(("names", "people", "photos"), map(np.array, zip(*names))))
        with utils.atomic_write(os.path.join(output, LABELS)) as file:
            np.savez(file, **columns, **{field: np.concatenate(values) for field, values in fields.items()})
    return rows


def tables_in(output):
    """List the names of the tables that are in the folder `output`."""
    return [name for name in (TABLE, LABELS) if os.path.exists(os.path.join(output, name))]


def files_of(output, albums):
    """List the files of what was made of the people in `albums`, as paths within `output`."""
    found = []
    for album in albums:
        part = load_part(part_path(output, album))
        pairs = [row["pair"] for row in part[0]["rows"] if row["status"] == FITTED] if part else []
        found += [path for name in pairs for path in pair_paths(output, name)]
        found += [part_path(output, album)] if part else []
    return [os.path.relpath(path, output) for path in found]


def tell(options, rows, new, people):
    """Log how all photos fared, of `new` people in this run, and name some without a pair.

    Raises UserError where no photo could be fitted.
    """
    fitted = [row for row in rows if row["status"] == FITTED]
    why = collections.Counter(row["reason"].split(":")[0] for row in rows if row["status"] != FITTED)
    logging.info("%s: %d pairs of %d people, %d people new%s", options.output, len(fitted),
                 len({row["person"] for row in fitted}), new,
                 "".join(f"; {count} {reason}" for reason, count in why.most_common()))
    warn_of(options.photos, f"photos or faces without a pair, see {TABLE}",
            [f"{row['photo']} ({row['reason'].split(':')[0]})" for row in rows if row["status"] != FITTED])
    if fitted:
        errors = sorted(float(row["landmark_error"]) for row in fitted)
        logging.info("landmarks: in the median %.1f %% of the distance between the eyes away",
                     100 * errors[len(errors) // 2])
    if not options.shard:
        known = {f"{row['pair']}.jpg" for row in fitted}
        others = [name for name in list_images(options.output) if name not in known]
        if others:
            logging.warning("%s: %d pairs of photos that --photos does not have are there too, and are kept, such as "
                            "%s", options.output, len(others), others[0])
    if rows and not fitted and sum(len(album.photos) for album in people) <= len(rows):
        raise UserError(f"--photos {options.photos}: none of {len(rows)} photos or faces can be fitted; "
                        f"{os.path.join(options.output, TABLE)} says why")
