"""The square crop around a face: MTCNN's box estimated from landmarks, its margin, and cutting it out.

A box is left, top, right, bottom in pixels from the corner of the picture, where the centre of the first pixel is at
(.5, .5). Points, such as landmarks, count from the centre of the first pixel. A crop stretches a box to a square.
A turned box has a fifth number: it is the box, turned clockwise around its centre by so many radians.
"""
import math

import numpy as np
from PIL import Image

EYES, NOSE_TIP, MOUTH_CORNERS = (slice(36, 42), slice(42, 48)), 30, [48, 54]        # of iBUG's 68 points

FINEST = 4096       # pixels of the side of a finer crop, see `_cut_turned`

# The linear estimate of MTCNN's box. There is a column for each of left, top, right and bottom, counted from the middle
# between eyes and mouth. The unit is the root of the sum of squares of two distances: between the eyes, and from eyes
# to mouth. The first row is a constant. The other rows are multiplied by how far the tip of the nose is right of the
# middle and below the middle, and by how far the columns of the eyes are apart. The numbers are fitted to MTCNN's boxes
# of 164 renderings of the built-in model and of 9 annotated photos, and of the mirror images of both. The mean overlap
# with MTCNN's boxes (intersection over union) is .87 and .89.
BOX = np.array([[-.98, -1.89, .98, 1.23],
                [-1.17, 0, -1.17, 0],
                [.15, -.37, -.15, -.04],
                [.34, 1.10, -.34, -.55]])


def face_box(landmarks):
    """Estimate the box that MTCNN would find around a face -> (left, top, right, bottom).

    `landmarks` [68, 2] of the face are columns and rows in iBUG's order. BOX says how the estimate is made.
    """
    right_eye, left_eye = (landmarks[eye].mean(axis=0) for eye in EYES)
    eyes, mouth = (right_eye + left_eye) / 2, landmarks[MOUTH_CORNERS].mean(axis=0)
    middle = (eyes + mouth) / 2
    unit = np.sqrt(((left_eye - right_eye) ** 2).sum() + ((mouth - eyes) ** 2).sum())
    apart = abs(left_eye[0] - right_eye[0]) / unit
    box = np.array([1, *((landmarks[NOSE_TIP] - middle) / unit), apart]) @ BOX
    return tuple((unit * box + np.tile(middle, 2) + .5).tolist())


def add_margin(box, size, margin):
    """Widen `box` so that in a crop of `size` pixels, `margin` of them lie outside it, half on each side."""
    left, top, right, bottom = box
    grown = margin / (size - margin) / 2
    across, down = grown * (right - left), grown * (bottom - top)
    return left - across, top - down, right + across, bottom + down


def square_box(box):
    """Grow the shorter side of `box` to the longer one, around its centre."""
    left, top, right, bottom = box
    column, row, half = (left + right) / 2, (top + bottom) / 2, max(right - left, bottom - top) / 2
    return column - half, row - half, column + half, row + half


def clip_box(box, height, width):
    """Clip `box` to a picture of `height` and `width` pixels, as FaceNet's alignment does.

    A turned box stays as it is: what of it lies beyond the picture is black in the crop.
    """
    if len(box) == 5:
        return box
    left, top, right, bottom = box
    return max(left, 0), max(top, 0), min(right, width), min(bottom, height)


def lies_outside(box, height, width):
    """Tell whether less than 2 pixels of `box`, across or down, lie in a picture of `height` and `width` pixels."""
    corners = corners_of(box)
    left, top, right, bottom = clip_box((*corners.min(axis=0), *corners.max(axis=0)), height, width)
    return bool(right - left < 2 or bottom - top < 2)


def corners_of(box):
    """Compute where the corners of `box` lie in the picture, clockwise from its own upper left -> [4, 2] (x, y).

    They are in pixels from the corner of the picture, as the box is.
    """
    left, top, right, bottom = box[:4]
    corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float64)
    if len(box) == 4:
        return corners
    centre, turn = _turn_of(box)
    return (corners - centre) @ turn.T + centre


def _turn_of(box):
    """Compute the centre [2] of a turned box and the matrix [2, 2] that turns columns (x, y) by its angle."""
    left, top, right, bottom, angle = box
    cosine, sine = math.cos(angle), math.sin(angle)
    return np.array([(left + right) / 2, (top + bottom) / 2]), np.array([[cosine, -sine], [sine, cosine]])


def turn_back(points, box):
    """Turn `points` [n, 2] of a picture, in pixels from its corner, by which a turned box is upright -> [n, 2]."""
    centre, turn = _turn_of(box)
    return (points - centre) @ turn + centre


def cut_out(picture, box, size, shown=None):
    """Cut `box` out of a Pillow image, stretched with antialiasing -> uint8 [size, size, 3].

    Where the image is a part of a whole picture, stretched to other sides, a turned box may be told in pixels of that
    picture: `shown` is the left, top, right and bottom of the part then.
    """
    if len(box) == 5:
        return _cut_turned(picture, box, size, shown or (0, 0, *picture.size))
    return np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR, box=box))


def _cut_turned(picture, box, size, shown):
    """Cut a turned box out of a Pillow image, as `cut_out` tells. Beyond the image's border the crop is black.

    Pillow's affine transform looks at the nearest pixels only, and of a picture that it makes smaller it would skip
    some. So it makes a finer crop, of two samples a pixel of the picture, or one where that takes much memory. The
    finer crop is reduced then. Its samples are bicubic, since linear ones would blur what the reduction blurs too.
    """
    centre, turn = _turn_of(box)
    scale = np.divide(picture.size, [shown[2] - shown[0], shown[3] - shown[1]])[:, None]
    sides = scale * turn * [box[2] - box[0], box[3] - box[1]]       # columns: the crop's upper and left side
    first = scale[:, 0] * (centre - shown[:2]) - sides.sum(axis=1) / 2
    shrinks = max(np.hypot(*sides)) / size                          # pixels of the image to one of the crop
    fine = size * math.ceil(2 * shrinks) if shrinks > 1 else size
    if fine > FINEST:
        fine = size * math.ceil(shrinks)
    affine = np.column_stack([sides / fine, first]).ravel().tolist()
    if fine == size:
        return np.asarray(picture.transform((size, size), Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR))
    finer = picture.transform((fine, fine), Image.Transform.AFFINE, affine, Image.Resampling.BICUBIC)
    return np.asarray(finer.resize((size, size), Image.Resampling.BILINEAR))


def points_in_crop(points, box, size):
    """Map `points` [n, 2] (column, row) of a picture to the crop of `size` pixels that `box` becomes."""
    left, top, right, bottom = box[:4]
    places = points + .5
    if len(box) == 5:
        places = turn_back(places, box)
    return (places - [left, top]) * [size / (right - left), size / (bottom - top)] - .5


def choose_box(boxes, width, height):
    """Choose the one of `boxes` [n, 4] that a picture of `width` and `height` pixels is of -> its index.

    FaceNet's rule prefers large and central faces: the largest area, less twice the squared distance of the box's
    centre from the centre of the picture. Boxes are left, top, right, bottom in pixels.
    """
    left, top, right, bottom = boxes.T
    off_centre = ((left + right) / 2 - width / 2) ** 2 + ((top + bottom) / 2 - height / 2) ** 2
    return int(np.argmax((right - left) * (bottom - top) - 2 * off_centre))
