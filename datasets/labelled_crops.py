"""Cut rendered or synthesized people anew, by the landmarks in their labels, and carry labels and scores along.

An image was rendered of a box in a whole picture and squeezed to a square, see crop.py. Its labels tell the box. So the
turned square of ArcFace's template is found in the whole picture, where the face has its own proportions.
"""
import csv
import functools
import io
import logging
import os
from typing import NamedTuple

import numpy as np

import utils
from datasets import crop, crop_kinds, scores
from datasets.image_sets import find_renderings
from datasets.images import stem
from datasets.landmarks import five_of_68
from datasets.side_files import LABELS, PEOPLE
from datasets.sources import stamp_of
from utils import UserError

WAYS = ("give a folder that gen_syn_latent.py people rendered or that main.py made of one, or leave --labels out to "
        "detect faces")


class Place(NamedTuple):
    """Where the face of a labelled image is."""
    box: tuple                          # the turned square of the template, in pixels of the whole picture
    shown: tuple                        # left, top, right, bottom of what the image shows of that picture
    landmarks: np.ndarray               # [68, 2], in that picture, counted from the centre of the first pixel


# Finding

def find(folder):
    """List the names of the labelled images in `folder`, as IDENTITY/IMAGE, in the order of identities.

    Some may lack landmarks. Raises UserError where all do, and where images are cut by the template already.
    """
    if crop_kinds.kind_of(folder) == crop_kinds.ARCFACE:
        raise UserError(f"--labels --input {folder}: these images are cut by --template arcface already; use them as "
                        "they are")
    names = find_renderings(folder).names
    if not any(place_of(folder, name) for name in names):
        raise UserError(f"--labels --input {folder}: no landmarks of any of {len(names)} images in it (they are read "
                        f"from IDENTITY/{LABELS}); {WAYS}")
    return names


def label_paths(folder, name):
    """List the path of the labels of the image `name` in `folder`, if they are there."""
    path = os.path.join(folder, os.path.dirname(name), LABELS)
    return [path] if os.path.exists(path) else []


def _read(path):
    """Read the labels at `path` -> ({field: array}, {name of an image without suffix: its number}).

    Both are empty where there are none of use. A damaged file is told once.
    """
    try:
        return _load(path, stamp_of([path]))
    except OSError:
        return {}, {}


@functools.lru_cache(4)                 # images come identity by identity
def _load(path, _stamp):
    """Load the labels at `path`, as `_read` does, once for each `_stamp`."""
    try:
        with np.load(path, allow_pickle=False) as file:
            labels = {field: file[field] for field in file.files}
        landmarks, names = np.asarray(labels["landmarks"], np.float64), labels["names"]
        size = int(labels["size"])
        boxes = np.asarray(labels.get("box", [(0, 0, size, size)] * len(names)), np.float64)
        if landmarks.shape != (len(names), 68, 2) or boxes.shape != (len(names), 4) or not size > 0:
            raise ValueError("no landmarks and boxes of each image")
        numbers = {}
        for number, name in enumerate(names.tolist()):
            numbers.setdefault(stem(name), number)
        return {**labels, "landmarks": landmarks, "box": boxes}, numbers
    except utils.ARRAY_ERRORS as error:
        logging.warning("%s: no landmarks can be read in it (%s); render this identity again", path,
                        utils.reason_of(error))
        return {}, {}


def _place_in(labels, index):
    """Find the Place of image number `index` of {field: array}, or None where its landmarks are those of no face."""
    left, top, right, bottom = shown = labels["box"][index]
    shares = (labels["landmarks"][index] + .5) / int(labels["size"])
    landmarks = shares * [right - left, bottom - top] + [left, top] - .5
    try:
        box = crop_kinds.template_box_of_68(landmarks)
    except ValueError:
        return None
    return Place(box, tuple(shown.tolist()), landmarks) if left < right and top < bottom else None


def place_of(folder, name):
    """Find where the face of the image `name` in `folder` is -> Place, or None where its labels do not tell."""
    for path in label_paths(folder, name):
        labels, numbers = _read(path)
        number = numbers.get(stem(os.path.basename(name)))          # the suffix may be another one
        if number is not None:
            return _place_in(labels, number)
    return None


# In pixels of the image itself

def _in_image(points, shown, sides):
    """Map `points` [n, 2] of the whole picture to an image of `sides` (width, height) that shows the box `shown`.

    Both count from the corner of the first pixel.
    """
    left, top, right, bottom = shown
    return (points - [left, top]) * [sides[0] / (right - left), sides[1] / (bottom - top)]


def corners_in(place, sides):
    """Compute where the corners of the crop of a Place lie in the image, of `sides` (width, height) -> [4, 2]."""
    return _in_image(crop.corners_of(place.box), place.shown, sides)


def face_in(place, sides):
    """Compute a row [15], as of `detection.detect`, of the face of a Place in the image, of `sides` (width, height).

    The box is the estimate of MTCNN's, and the confidence is 1.
    """
    box = crop.corners_of(crop.face_box(place.landmarks))[[0, 2]]
    points = _in_image(five_of_68(place.landmarks) + .5, place.shown, sides)
    return np.concatenate([_in_image(box, place.shown, sides).ravel(), [1], points.T.ravel()])


# What goes along

def carry(options, crops):
    """Write the labels, the scores and the table of people of the crops, where --input has them.

    `crops` is {name of an image: name of its crop}, with "" for no crop. Files that are right already stay as they are.
    Raises UserError when a file can't be read, and OSError when one can't be written.
    """
    by_identity = {}
    for name, cut in crops.items():
        if cut:
            by_identity.setdefault(os.path.dirname(name), {})[stem(os.path.basename(name))] = os.path.basename(cut)
    for identity, names in by_identity.items():
        labels, _ = _read(os.path.join(options.input, identity, LABELS))
        if labels:
            encoded = io.BytesIO()
            np.savez(encoded, **_moved(labels, names, options))
            write_changed(os.path.join(options.output, identity, LABELS), encoded.getvalue())
    there = scores.renamed(options.input, {name: cut for name, cut in crops.items() if cut})
    if there is not None:
        write_changed(os.path.join(options.output, scores.CSV_NAME), there)
    people = rows_of(os.path.join(options.input, PEOPLE), "identity", by_identity)
    if people is not None:
        write_changed(os.path.join(options.output, PEOPLE), people)


def carried(output, names):
    """List the files that `carry` wrote into the folder `output` beside the crops of the images `names`."""
    identities = dict.fromkeys(os.path.dirname(name) for name in names)
    files = [*(f"{identity}/{LABELS}" for identity in identities), scores.CSV_NAME, PEOPLE]
    return [name for name in files if os.path.exists(os.path.join(output, name))]


def _moved(labels, names, options):
    """Move the landmarks and boxes of an identity's labels {field: array} to its crops -> {field: array}.

    `names` is {name of an image without its suffix: name of its crop}. Landmarks and boxes of images without a crop are
    nan.
    """
    there = [stem(name) for name in labels["names"].tolist()]
    landmarks, boxes = np.full([len(there), 68, 2], np.nan), np.full([len(there), 5], np.nan)
    for index, name in enumerate(there):
        place = _place_in(labels, index) if name in names else None
        if place:
            boxes[index] = place.box
            landmarks[index] = crop.points_in_crop(place.landmarks, place.box, options.size)
    return {**labels, "landmarks": landmarks, "box": boxes, "size": options.size,
            "names": [names.get(name, f"{name}.{options.format}") for name in there]}


def rows_of(path, column, wanted):
    """Read the table at `path`, cut to the rows whose `column` is one of `wanted` -> its bytes; None without a table.

    Raises UserError where it can't be read.
    """
    try:
        text = utils.read_text(path, "surrogateescape")
        heading, *rows = list(csv.reader(io.StringIO(text, newline=""))) or [[]]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: can't be read ({utils.reason_of(error)}); {utils.RESTORE}") from error
    place = heading.index(column) if column in heading else len(text)           # which no row has
    return utils.csv_bytes([heading, *(row for row in rows if place < len(row) and row[place] in wanted)])


def write_changed(path, content):
    """Write the bytes `content` to `path`, whole or not at all, unless they are there."""
    if os.path.isfile(path):
        with open(path, "rb") as file:
            if file.read() == content:
                return
    with utils.atomic_write(path) as file:
        file.write(content)
