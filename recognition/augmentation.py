"""Changes of training images at random, each with a chance: black frames, low resolution, colours, erased parts.

The first three are those of AdaFace's code (Kim et al. 2022), and the last is random erasing (Zhong et al. 2020). All
images are [B, S, S, 3] with pixel values from 0 to 255. The random numbers follow from a seed alone.
"""
import math
from typing import NamedTuple

import tensorflow as tf

tf1 = tf.compat.v1

_KEPT_AREAS, _KEPT_RATIOS = (.2, 1.), (3 / 4, 4 / 3)            # of torchvision's random resized crop
_ERASED_AREAS, _ERASED_RATIOS = (.02, .33), (.3, 3.3)           # of torchvision's random erasing
_ERASED = 127.5                     # value of an erased pixel: 0 for a network that sees (v - 127.5) / 127.5
_LEAST_RESOLUTION = .2              # share of the side at which an image is seen at worst
_COLOR = .5                         # how far brightness, contrast and saturation go from 1 in either direction
_LUMA = .299, .587, .114            # of red, green and blue
_NUMBERS = 8                        # random numbers for each image and change: the first decides whether


class Chances(NamedTuple):
    """The probability of each change of an image."""
    crop: float                     # keep a rectangle, with black around it
    resolution: float               # make it smaller, and large again
    color: float                    # change brightness, contrast and saturation
    erasing: float                  # paint a rectangle grey


def chances_of(options):
    """Collect the Chances from the options of `recognizer.py train`."""
    return Chances(options.augment_crop, options.augment_resolution, options.augment_color, options.random_erasing)


def alter(x, chances, seeds, part=None):
    """Change images `x` [B, S, S, 3] by Chances -> [B, S, S, 3]. `seeds` are four, of a Chances' changes.

    Each seed is [2] int32, for `tf.random.stateless_uniform`. `part` (first, whole) says that `x` are the images from
    number `first` on of a batch of `whole` images, which share one set of random numbers.
    """
    for chance, change, seed in zip(chances, (_keep_rectangle, _lower_resolution, _change_color, _erase), seeds):
        if chance:
            first, whole = part or (0, x.shape[0])
            numbers = tf.random.stateless_uniform([whole, _NUMBERS], seed)
            if part:
                numbers = numbers[first:first + x.shape[0]]
            chosen = numbers[:, 0] < chance
            x = tf.where(chosen[:, None, None, None], change(x, numbers[:, 1:]), x)
    return x


def _keep_rectangle(x, numbers):
    """Paint all but a rectangle black: what a detector's crop that is far off would show."""
    return x * _rectangles(numbers, x.shape[1], _KEPT_AREAS, _KEPT_RATIOS)


def _erase(x, numbers):
    """Paint a rectangle grey."""
    return x + _rectangles(numbers, x.shape[1], _ERASED_AREAS, _ERASED_RATIOS) * (_ERASED - x)


def _rectangles(numbers, size, areas, ratios):
    """Place a rectangle in each image -> [B, size, size, 1], 1 within it and 0 elsewhere.

    `numbers` [B, 4 or more] are random ones in [0, 1). The area is a share of the image within the limits `areas`, and
    width / height lies within `ratios`, as often above 1 as below. What would be longer than the image is cut.
    """
    area = areas[0] + (areas[1] - areas[0]) * numbers[:, 0]
    ratio = tf.exp(math.log(ratios[0]) + math.log(ratios[1] / ratios[0]) * numbers[:, 1])
    sides = [tf.minimum(1., tf.sqrt(area * ratio)), tf.minimum(1., tf.sqrt(area / ratio))]      # width, height
    middles = (tf.range(size, dtype=tf.float32) + .5)[None, :] / size
    columns, rows = (tf.logical_and(middles >= (place * (1 - side))[:, None],
                                    middles < (place * (1 - side) + side)[:, None])
                     for place, side in zip((numbers[:, 2], numbers[:, 3]), sides))
    return tf.cast(tf.logical_and(rows[:, :, None], columns[:, None, :]), tf.float32)[..., None]


def _lower_resolution(x, numbers):
    """Make images smaller and large again: both ways smoothly, or by the nearest pixel, as a random number says.

    The smaller side is a share from _LEAST_RESOLUTION to 1. Both resizings are one product with a matrix for rows, and
    one with the same for columns.
    """
    size = x.shape[1]
    side = tf.maximum(1., tf.floor((_LEAST_RESOLUTION + (1 - _LEAST_RESOLUTION) * numbers[:, 0]) * size))[:, None]
    step = size / side                                              # pixels of the image for one of the smaller [B, 1]
    line = tf.range(size, dtype=tf.float32)[None, :] + .5
    smaller = _weights(line * step - .5, step, numbers[:, 1] < .5)                  # [B, smaller pixels, pixels]
    larger = _weights(tf.clip_by_value(line / step - .5, 0., side - 1.), tf.ones_like(step), numbers[:, 2] < .5)
    resize = tf.matmul(larger, smaller)
    return tf.einsum("bip,bpqc,bjq->bijc", resize, x, resize)


def _weights(places, reach, nearest):
    """Weigh the pixels of a line for each of `places` [B, S] on it -> [B, S, S], which sum to 1.

    Those nearer than `reach` [B, 1] count, the more the nearer; where `nearest` [B] is true, the nearest one alone.
    """
    size = places.shape[1]
    places = tf.clip_by_value(places, 0., size - 1.)
    distances = tf.abs(places[:, :, None] - tf.range(size, dtype=tf.float32)[None, None, :])
    smooth = tf.nn.relu(1. - distances / tf.maximum(reach, 1.)[:, :, None])
    weights = tf.where(nearest[:, None, None], tf.cast(distances <= .5, tf.float32), smooth)
    return weights / tf.reduce_sum(weights, 2, keepdims=True)


def _change_color(x, numbers):
    """Change brightness, then contrast, then saturation, each by a factor from 1 - _COLOR to 1 + _COLOR."""
    brightness, contrast, saturation = (
        (1 - _COLOR + 2 * _COLOR * numbers[:, number])[:, None, None, None] for number in range(3))
    x = tf.clip_by_value(brightness * x, 0., 255.)
    mean = tf.reduce_mean(_grey(x), [1, 2, 3], keepdims=True)
    x = tf.clip_by_value(mean + contrast * (x - mean), 0., 255.)
    grey = _grey(x)
    return tf.clip_by_value(grey + saturation * (x - grey), 0., 255.)


def _grey(x):
    """Compute the luma of images [B, S, S, 3] -> [B, S, S, 1]."""
    return tf.reduce_sum(x * tf.constant(_LUMA), 3, keepdims=True)
