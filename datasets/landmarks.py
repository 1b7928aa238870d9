"""Five points of a face: where they lie in the crops of a folder, and the similarity that lays them on a template.

The five are, as seen in the picture: the left eye, the right eye, the tip of the nose, the left and the right corner of
the mouth. In a crop, a point is told in shares of the crop's sides: (0, 0) is the upper left corner of the first pixel,
and (1, 1) the lower right corner of the last. So it holds for the crop at any size.
"""
import contextlib
import csv
import io
import logging
import os
from typing import NamedTuple

import numpy as np

import utils
from datasets import crop
from datasets.detection import POINTS
from datasets.images import stem
from datasets.side_files import ALIGNMENT, LABELS
from utils import SETTINGS

# Where the crops of ArcFace-type trainers have the five points: in pixels of a crop of 112, counted from the centre of
# the first pixel (InsightFace's code).
ARCFACE_SIZE = 112
ARCFACE_TEMPLATE = np.array([(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655),
                             (70.7299, 92.2041)])
# How far the five points of rendered faces lie from where MTCNN sees them, in pixels of ARCFACE_SIZE: right and down.
# Means over 100 renderings each of the built-in model (97 were found) and of MakeHuman's head, in the usual
# poses, left and right taken alike: eyes (.1 .7) and (.2 1.3), nose (.3 .5) and (.3 1.9), mouth (.8 -1.4) and (.4 -.9).
# An x is outward, and to the right for the nose, where it is taken for chance.
RENDERED_OFFSETS = np.array([(-.2, 1.), (.2, 1.), (0., 1.2), (-.6, -1.1), (.6, -1.1)])


class Face(NamedTuple):
    """The five points of the face in a crop."""
    points: np.ndarray              # [5, 2], column and row in shares of the crop's sides
    tall: float = 1.                # height of what was cut out of a picture, for a width of 1, before it was squeezed


def similarity(source, target):
    """Fit the similarity transform that lays points `source` on `target`, both [n, 2] -> matrix [2, 3].

    `matrix @ (x, y, 1)` is the place of a point (x, y). The transform turns, scales and moves, and never mirrors. It is
    that of the least sum of squared distances (Umeyama 1991, "Least-squares estimation of transformation parameters
    between two point patterns"). Raises ValueError where all points of `source` are one.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    centre, middle = source.mean(axis=0), target.mean(axis=0)
    spread = ((source - centre) ** 2).sum()
    if not spread > 0:
        raise ValueError("all points are one")
    x, y = (source - centre).T
    across, down = (target - middle).T
    # In the plane, the best rotation times scale is a complex number: sum(target * conjugate(source)) / spread.
    cosine, sine = (across * x + down * y).sum() / spread, (down * x - across * y).sum() / spread
    turn = np.array([[cosine, -sine], [sine, cosine]])
    return np.column_stack([turn, middle - turn @ centre])


def template_in_shares(offsets=0.):
    """Tell where ARCFACE_TEMPLATE, moved by `offsets` [5, 2] pixels, lies in shares of a crop's sides -> [5, 2]."""
    return (ARCFACE_TEMPLATE + offsets + .5) / ARCFACE_SIZE


def transform(matrix, points):
    """Apply a transform [2, 3], such as that of `similarity`, to `points` [n, 2] -> [n, 2]."""
    return np.asarray(points) @ matrix[:, :2].T + matrix[:, 2]


def five_of_68(landmarks):
    """Choose the five points of iBUG's 68 `landmarks` [..., 68, 2] -> [..., 5, 2]. Eyes are means of their outlines."""
    eyes = [landmarks[..., eye, :].mean(axis=-2) for eye in crop.EYES]
    others = [landmarks[..., index, :] for index in (crop.NOSE_TIP, *crop.MOUTH_CORNERS)]
    return np.stack([*eyes, *others], axis=-2)


def as_detected(points):
    """Move the five points [5, 2] of a rendered face to where MTCNN would see them: by RENDERED_OFFSETS.

    The points are in any unit that is as long across as down. Raises ValueError where all points are one.
    """
    upright = similarity(points, ARCFACE_TEMPLATE + RENDERED_OFFSETS)
    back = np.linalg.inv(upright[:, :2])
    return np.asarray(points) - RENDERED_OFFSETS @ back.T


def points_in_crop(points, box):
    """Map `points` [n, 2] of a picture to shares of the sides of its `box` (left, top, right, bottom) -> [n, 2].

    Points and box are in pixels from the upper left corner of the picture.
    """
    left, top, right, bottom = box
    return (np.asarray(points) - [left, top]) / [right - left, bottom - top]


# Reading

def read(folder, names):
    """Read the five points of the crops `names` in `folder`, as far as they are known -> {name: Face}.

    They are told by the alignment.csv that align.py writes, and by the latents.npz of rendered or synthesized
    identities, which is taken where both are there. A file that is damaged is left out, with a warning.
    """
    found = _of_table(folder, names)
    by_folder = {}
    for name in names:
        by_folder.setdefault(os.path.dirname(name), []).append(name)
    for inside, here in by_folder.items():
        path = os.path.join(folder, inside, LABELS)
        if os.path.isfile(path):
            try:
                found.update(_of_labels(path, here))
            except utils.ARRAY_ERRORS as error:
                logging.warning("%s: no landmarks can be read in it (%s)", path, utils.reason_of(error))
    return found


def _of_labels(path, names):
    """Read the five points of images `names` from their identity's latents.npz -> {name: Face}.

    They are where MTCNN would see them, as those of photos are: see `as_detected`.
    """
    with np.load(path, allow_pickle=False) as labels:
        landmarks, size = np.asarray(labels["landmarks"], np.float64), float(labels["size"])
        named, boxes = [str(name) for name in labels["names"]], np.asarray(labels["box"], np.float64)
    if landmarks.shape != (len(named), 68, 2) or boxes.shape not in ((len(named), 4), (len(named), 5)):
        raise ValueError(f"landmarks {list(landmarks.shape)} of {len(named)} images")
    points = (five_of_68(landmarks) + .5) / size
    tall = (boxes[:, 3] - boxes[:, 1]) / (boxes[:, 2] - boxes[:, 0])
    index = {stem(name): number for number, name in enumerate(named)}           # the suffix may be another one
    found = {}
    for name in names:
        number = index.get(stem(os.path.basename(name)))
        if number is not None and np.isfinite(points[number]).all() and tall[number] > 0:
            squeeze = np.array([1., tall[number]])
            with contextlib.suppress(ValueError):           # all points are one
                found[name] = Face(as_detected(points[number] * squeeze) / squeeze, float(tall[number]))
    return found


def _of_table(folder, names):
    """Read the five points of crops `names` from align.py's table in `folder` -> {name: Face}; {} where there is none.

    Rows that are damaged, or of a photo without a face, are left out.
    """
    path = os.path.join(folder, ALIGNMENT)
    try:
        rows = list(csv.DictReader(io.StringIO(utils.read_text(path, "surrogateescape"), newline="")))
        settings = utils.load_json(os.path.join(folder, SETTINGS), {})
        cut = None if settings.get("template") == "arcface" else (
            int(settings["size"]), int(settings["margin"]), bool(settings["square"]))
    except (FileNotFoundError, NotADirectoryError):             # images that are packed in a file have no table
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, csv.Error, utils.UserError) as error:
        logging.warning("%s: no landmarks can be read in it (%s); its settings.json is needed too", path,
                        utils.reason_of(error))
        return {}
    wanted, found = set(names), {}
    for row in rows:
        if row.get("crop") in wanted:
            with contextlib.suppress(ValueError, TypeError, KeyError, ZeroDivisionError):
                found[row["crop"]] = Face(_on_template(row)) if cut is None else _of_row(row, *cut)
    return found


def _points_of(row):
    """Read the five points of a row of align.py's table -> [5, 2] in pixels of the photo. Raises ValueError."""
    return np.array([[float(row[f"{point}_{axis}"]) for axis in "xy"] for point in POINTS])


def _on_template(row):
    """Lay the points of a row on ARCFACE_TEMPLATE, as its crop was cut -> [5, 2] in shares of the crop's sides."""
    points = _points_of(row)
    return (transform(similarity(points, ARCFACE_TEMPLATE), points) + .5) / ARCFACE_SIZE


def _of_row(row, size, margin, square):
    """Find the Face of a row of align.py's table, a dict, by the settings of its crops. Raises ValueError.

    Where the table does not tell the photo's `width` and `height`, the crop is taken not to reach beyond its right and
    lower border.
    """
    width, height = (float(row.get(side) or "inf") for side in ("width", "height"))
    points = _points_of(row)
    box = crop.add_margin([float(row[edge]) for edge in ("left", "top", "right", "bottom")], size, margin)
    box = crop.clip_box(crop.square_box(box) if square else box, height, width)
    if not (np.isfinite([*box, *points.ravel()]).all() and box[0] < box[2] and box[1] < box[3]):
        raise ValueError("no box or no points")
    return Face(points_in_crop(points, box), (box[3] - box[1]) / (box[2] - box[0]))
