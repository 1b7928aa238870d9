"""What a classifier sees of a crop: which window, at which size, in which numbers.

Crops are cut in two ways. A "box" crop holds MTCNN's box with a margin, squeezed to a square, as the paper's 108 x 108.
An "arcface" crop is placed by five landmarks: the eyes, the tip of the nose and the corners of the mouth.
A classifier was trained on one of them, or on the "chip" that dlib places by landmarks of its own.
This module imports no package, so that a command line can ask it before TensorFlow loads.
"""
from typing import NamedTuple

CROPS = "box", "arcface"
STANDARDIZATIONS = "image", "fixed", "arcface", "dlib"

_CROP, _WINDOW = 108, 96            # pixels: of the paper's crops of 108 x 108, a classifier sees 96 x 96
_REACH = .03                        # of a crop's side: how far a random Window may move from its place


class Window(NamedTuple):
    """A part of a crop, as shares of the crop's sides: 0 is the left or upper edge, 1 the right or lower one.

    Shares below 0 and above 1 lie beyond the crop, whose border pixels are repeated there.
    """
    left: float
    top: float
    right: float
    bottom: float


class View(NamedTuple):
    """How a classifier sees crops."""
    size: int                       # side in pixels of its input
    standardization: str = "image"  # see `preprocessing.standardize`
    window: Window | None = None    # None: the central 96 of 108 pixels, see `window_of`


_WHOLE = Window(0., 0., 1., 1.)
# The Window that shows of a crop (second word) what a classifier's own crop (first word) shows. Where both are measured
# in shares, the mean places of MTCNN's five landmarks in one crop were fitted to those in the other by a line for each
# axis; between "arcface" and the chip, which both keep a face's proportions, by one scale for both axes. Those between
# "box" and "arcface" were measured on 100 photos of 20 people of LFW, cut both ways by align.py. Of box crops, a
# classifier of their kind sees the central 96 of 108 pixels, so that of other crops it is shown what these hold.
# The chip in a box crop was chosen among windows that lie within the crop.
_WINDOWS = {("box", "box"): None,
            ("box", "arcface"): Window(.0929, .0386, .9063, 1.1377),
            ("arcface", "arcface"): _WHOLE,
            ("arcface", "box"): Window(-.0456, .0246, 1.0465, .8329),
            ("dlib", "box"): Window(0., .16, 1., .96),
            ("dlib", "arcface"): Window(0.0547, 0.1906, 0.9647, 1.1006)}


def window_for(native, crop):
    """Look up which window of crops of the kind `crop` a classifier sees whose own crops are of the kind `native`.

    `crop` is one of CROPS; `native` is too, or "dlib". The result is that of View.window.
    """
    return _WINDOWS[native, crop]


def window_of(size):
    """Compute the side of the central window that a classifier sees of a box crop of side `size`, both in pixels.

    The window has 96 pixels of 108, in proportion. Below 96 pixels, the window is the whole crop.
    """
    return round(size * _WINDOW / _CROP) if size >= _WINDOW else size


def offsets_of(size, window=None):
    """Count the places of the `window` of a View along one axis of a crop of side `size` pixels.

    A place has a number from 0 to `offsets_of(size)` - 1.
    """
    return size - window_of(size) + 1 if window is None else 2 * round(_REACH * size) + 1


def shifts_of(size, window=None):
    """Compute how far the `window` of a View may move at random from its place -> (least, most) in pixels.

    The crop has the side `size`. A central window stays within the crop.
    But a crop below 96 pixels has no border to spare: there the window may reach a little beyond the crop.
    """
    central = (size - window_of(size)) // 2
    reach = round(size / 18) if window is None else round(_REACH * size)
    return (-central, offsets_of(size) - 1 - central) if central and window is None else (-reach, reach)


def crop_for(image_size, window=None):
    """Compute the side of the crops whose `window` fills an input of `image_size` pixels: 108 for 96 by default."""
    return round(image_size * _CROP / _WINDOW if window is None else image_size / (window.right - window.left))
