"""Find 468 points on the face in each crop of a set, in processes of their own. What a cache has is not looked for."""
import contextlib
import functools
import os

import numpy as np
from PIL import Image

from cli import processes
from datasets.images import BrokenImage, read_picture
from evaluation.contents import digest_of
from evaluation.embedding_cache import EmbeddingCache
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


def find(images, workers, cache):
    """Find the points of all images of an ImageSet or Renderings -> float32 [n, 468, 2].

    A point is told in shares of the crop's sides: (0, 0) is its upper left corner, and (1, 1) its lower right one.
    Where no face is found, and in a broken image, all are nan. Of several faces, the one with the best score counts.
    The file `cache` keeps the points of an image by what is in its file, as it keeps embeddings. Images without a face
    are not kept, and are looked at each time.
    Raises UserError where a package is missing, and Interrupted.
    """
    landmark_net.check()
    found = np.full([len(images.names), landmark_net.POINTS, 2], np.nan, np.float32)
    keys = [digest_of(os.path.join(images.root, name)) for name in images.names]
    kept = EmbeddingCache(cache, f"points {landmark_net.checksum()} {PAD}")

    def keep(result):
        """Take the points of one chunk."""
        numbers, points = result
        found[numbers] = points
        kept.keep([keys[i] for i in numbers], points.reshape(len(points), -1))

    try:
        missing = kept.fill(keys, found.reshape(-1, 2 * landmark_net.POINTS))
        # Spawned: a process that has loaded TensorFlow can't be forked.
        pool = processes.Pool(workers, "image", CHUNK, method="spawn", prepare=processes.silence)
        chunks = [missing[start:start + CHUNK] for start in range(0, len(missing), CHUNK)]
        processes.process_all(_find_some, images, chunks, keep, pool)
    finally:
        kept.close()
    return found


def _find_some(images, numbers):
    """Find the points of the images with these numbers, in a worker -> the numbers, [n, 468, 2]."""
    return numbers, np.stack([_find_in(os.path.join(images.root, images.names[i])) for i in numbers])


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
