"""The two ways to cut a face out: by MTCNN's box, or by laying five points on ArcFace's template; which a folder has.

A crop by the template shows a face at one size, upright, and in its own proportions. It is a turned box, see crop.py.
"""
import contextlib
import logging
import math
import os

import numpy as np

from datasets.landmarks import five_of_68, RENDERED_OFFSETS, similarity, template_in_shares
from datasets.packed import records
from utils import read_json, SETTINGS, UserError

BOX, ARCFACE = KINDS = "box", "arcface"


def template_box(points, offsets=0.):
    """Find the turned square of a picture in which five points lie as in ArcFace's crops -> turned box.

    `points` [5, 2] are in pixels from the corner of the picture, in the order of detection.POINTS. They are laid on the
    template by `landmarks.similarity`. A larger crop shows the same square at more pixels. `offsets` [5, 2] are added
    to the template. Raises ValueError where the points tell no place.
    """
    points = np.asarray(points, np.float64)
    if not np.isfinite(points).all():
        raise ValueError("a point is not finite")
    matrix = similarity(points, template_in_shares(offsets))
    scale = math.hypot(matrix[0, 0], matrix[1, 0])              # crops to a pixel of the picture
    if not scale > 0 or not math.isfinite(1 / scale):
        raise ValueError("the points are those of no face")
    centre, half = np.linalg.solve(matrix[:, :2], .5 - matrix[:, 2]), .5 / scale
    turn = -math.atan2(matrix[1, 0], matrix[0, 0])
    return *(centre - half).tolist(), *(centre + half).tolist(), turn


def template_box_of_68(landmarks):
    """Find the turned square of a rendered face from its 68 `landmarks` [68, 2], as `template_box` does.

    They are columns and rows in pixels, counted from the centre of the first pixel. RENDERED_OFFSETS are allowed for,
    so that renderings lie in their crops as photos do in those by MTCNN's points.
    """
    return template_box(five_of_68(landmarks) + .5, RENDERED_OFFSETS)


def kind_of(folder, usual=BOX):
    """Tell which of KINDS the crops in `folder` are, by the settings.json there or in the folder that holds it.

    Of a .rec file, it is the settings.json beside it. Where nothing says so, images in a .rec file are ARCFACE, as the
    field packs them, and other images are of the `usual` kind.
    """
    path, packed = os.path.abspath(folder), _packed_in(folder)
    # A set may be divided into folders, see --split.
    places = [os.path.dirname(packed)] if packed else [path, os.path.dirname(path)]
    for place in places:
        try:
            settings = read_json(os.path.join(place, SETTINGS))
        except (OSError, ValueError):
            continue
        if isinstance(settings, dict):
            return ARCFACE if ARCFACE in (settings.get("template"), settings.get("crop")) else BOX
    return ARCFACE if packed else usual


def _packed_in(folder):
    """Find the .rec file that `folder` names or holds -> its absolute path; None where there is none to be read."""
    with contextlib.suppress(UserError):        # whoever reads it says so
        packed = records.find(folder)
        return packed and os.path.abspath(packed)


def warn_of_mixed(kinds):
    """Warn in one line where crops of both kinds are used together: `kinds` is {what a user typed: kind}."""
    if len(set(kinds.values())) > 1:
        logging.warning("crops of two kinds are mixed: %s; faces lie otherwise in them, so cut all alike (--template, "
                        "--crop)", ", ".join(f"{typed} {kind}" for typed, kind in kinds.items()))
