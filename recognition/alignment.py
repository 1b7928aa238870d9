"""Lay faces on a classifier's own crop by five landmarks, where these are known, else by its window.

Only classifiers whose own crop is placed by landmarks are served: ArcFace's, and dlib's with its chip.
"""
import numpy as np

from datasets import landmarks

# Where each kind of crop has the five points of datasets.landmarks, in shares of its sides. dlib places its chip by
# points of its own. The places here are the medians, over the photos of 50 people of LFW, of where that alignment
# carries the points that MTCNN finds.
_CHIP = np.array([(46.86, 44.79), (100.24, 45.00), (73.41, 76.73), (49.93, 102.49), (96.75, 103.00)])    # of 150 pixels
TARGETS = {"arcface": landmarks.template_in_shares(), "dlib": _CHIP / 150}


def find_faces(folder, names, native):
    """Read the landmarks of the crops `names` in `folder` for a classifier of the kind `native` -> {name: Face}.

    There is none for a classifier that is not placed by landmarks.
    """
    return landmarks.read(folder, names) if native in TARGETS else {}


def transforms_for(faces, names, native, view, side):
    """Tell where the pixels of a classifier's input lie in the crops `names` of `side` pixels -> float32 [n, 8].

    `faces` {name: Face} have landmarks, which are laid on the crop of the kind `native`. Of other images, the window of
    the input_size.View is shown. Each row is that of tf.raw_ops.ImageProjectiveTransformV3.
    """
    rows = []
    for name in names:
        face = faces.get(name)
        rows.append(_in_pixels(_from_window(view.window) if face is None else _from_points(face, native), view.size,
                               side))
    return np.array(rows, np.float32).reshape(-1, 8)


def _from_window(window):
    """Make the matrix [2, 3] from shares of the input's sides to shares of the crop's, for an input_size.Window."""
    return np.array([[window.right - window.left, 0, window.left], [0, window.bottom - window.top, window.top]])


def _from_points(face, native):
    """Make the same matrix for a Face: by similarity in the picture that the crop was cut from, before its squeeze."""
    squeeze = np.array([1., face.tall])
    there = landmarks.similarity(face.points * squeeze, TARGETS[native])
    back = np.linalg.inv(there[:, :2])
    return np.column_stack([back, -back @ there[:, 2]]) / squeeze[:, None]


def _in_pixels(matrix, size, side):
    """Turn a matrix of shares into one of pixels, counted from the centre of the first, of `size` and `side` -> [8]."""
    turn = matrix[:, :2] * side / size
    move = matrix[:, 2] * side - .5 + turn.sum(axis=1) / 2
    return [*turn[0], move[0], *turn[1], move[1], 0., 0.]
