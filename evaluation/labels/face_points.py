"""Find 468 points on the face in each crop of a set, in processes of their own."""
import contextlib
import functools
import os

import numpy as np
from PIL import Image

from cli import processes
from datasets.images import BrokenImage, read_picture
from morphable.fitting import landmark_net
from utils import UserError

PAD = .5            # of a crop's side: how much of its repeated border is seen around it; a detector expects room
CHUNK = 32          # images that a worker gets at once


def missing():
    """Say what is missing to find points, with the way to install it; "" where nothing is."""
    try:
        landmark_net.check()
    except UserError as problem:
        return str(problem).removeprefix("fit: ")
    return ""


def find(images, workers):
    """Find the points of all images of an ImageSet or Renderings -> float32 [n, 468, 2].

    A point is told in shares of the crop's sides: (0, 0) is its upper left corner, and (1, 1) its lower right one.
    Where no face is found, and in a broken image, all are nan. Of several faces, the one with the best score counts.
    Raises UserError where a package is missing, and Interrupted.
    """
    landmark_net.check()
    found = np.full([len(images.names), landmark_net.POINTS, 2], np.nan, np.float32)
    starts = range(0, len(images.names), CHUNK)

    def keep(result):
        """Take the points of one chunk."""
        start, points = result
        found[start:start + len(points)] = points

    # Spawned: a process that has loaded TensorFlow can't be forked.
    pool = processes.Pool(workers, "image", CHUNK, method="spawn", prepare=processes.silence)
    processes.process_all(_find_some, images, starts, keep, pool)
    return found


def _find_some(images, start):
    """Find the points of CHUNK images from number `start` on, in a worker -> start, [n, 468, 2]."""
    names = images.names[start:start + CHUNK]
    return start, np.stack([_find_in(os.path.join(images.root, name)) for name in names])


def _find_in(path):
    """Find the points of the image `path` -> [468, 2]; nan where there is no face."""
    with contextlib.suppress(BrokenImage):
        points = points_of(_net(), read_picture(path))
        if points is not None:
            return points
    return np.full([landmark_net.POINTS, 2], np.nan, np.float32)


@functools.cache
def _net():
    """The networks of this process."""
    return landmark_net.LandmarkNet()


def points_of(net, picture):
    """Find the points of the best face in a Pillow RGB image of a crop -> [468, 2] in shares; None without a face."""
    width, height = picture.size
    across, down = round(PAD * width), round(PAD * height)
    padded = np.pad(np.asarray(picture), ((down, down), (across, across), (0, 0)), mode="edge")
    faces = net.find(Image.fromarray(padded))
    if not faces:
        return None
    return ((faces[0].points + .5 - [across, down]) / [width, height]).astype(np.float32)
