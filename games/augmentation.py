"""What discriminators see images through, so that they don't tell images by what photos lack by chance.

All changes are differentiable, and act on generated and real images alike (DiffAugment, Zhao et al. 2020).
"""
import math

import tensorflow as tf

from engine import layers

SHIFT = .125                            # largest shift, as a share of the side
CUT = .5                                # side of the square that is cut out, as a share of the side
BRIGHTNESS, SATURATION, CONTRAST = .5, (0., 2.), (.5, 1.5)
ZOOM = 2 ** .25                         # most that an image is enlarged or reduced in height, and in width
# Of a shade: the least light on its dark side, as a share of that on the bright one; the softest and the hardest change
# from one to the other, as the slope of a sigmoid over half a side; how far from the centre it lies, in half sides.
DARKEST, SLOPES, OFF_CENTRE = .15, (3., 30.), .5


def augment(images, kinds, chance):
    """Change `images` [2B, S, S, 3], two halves of B, at random. The second half is changed as the first.

    `kinds` are some of KINDS, with commas, or none. `shift` moves by up to an eighth of the side. `cut` sets a square
    of half the side to grey. `color` changes brightness, saturation and contrast. `zoom` scales height and width
    (Karras et al. 2020, Training GANs with Limited Data, appendix B). `shade` darkens one side and brightens the
    other, as a light from there would. `chance` is a layers.Dropout, whose seed [2] decides all.
    """
    for stream, (kind, change) in enumerate(KINDS.items()):
        if kind in kinds.split(","):
            images = change(images, chance._replace(seed=chance.seed + [stream, 0]))
    return images


def augment_pairs(photos, renderings, kinds, chance):
    """Shade `photos` and their `renderings`, each [B, S, S, 3], alike, if `shade` is among the `kinds`.

    So G learns that a shaded rendering is a shaded photo, even where photos are lit from the front. The other kinds
    leave pairs as they are.
    """
    if "shade" not in kinds.split(","):
        return photos, renderings
    both = _shade(tf.concat([photos, renderings], 0), chance)
    return tf.split(both, 2)


def _random(images, count, how):
    """Draw `count` numbers in [0, 1) for each of the first half of `images` [2B, ...], twice -> [2B, count]."""
    drawn = layers.uniform_share(tf.stack([tf.shape(images)[0] // 2, count]), how)
    return tf.concat([drawn, drawn], 0)


def _between(bounds, share):
    """Go the `share` of the way from the first of two `bounds` to the second."""
    first, second = bounds
    return first + (second - first) * share


def _shift(images, how):
    """Move each of `images` [B, S, S, 3] by whole pixels, and leave 0, which is grey, where nothing comes to lie."""
    side = int(images.shape[1])
    most = max(1, round(SHIFT * side))
    offsets = tf.cast(tf.floor(_random(images, 2, how) * (2 * most + 1)), tf.int32) - most        # [B, 2]
    places = tf.range(side)[None, :] + offsets[:, :, None]                                        # [B, 2, S]
    return _resample(images, tf.one_hot(places, side))


def _zoom(images, how):
    """Scale the height and the width of each of `images` [B, S, S, 3] about its centre, by two random factors.

    Pixels are interpolated linearly. What comes to lie outside is lost, and 0 is left where nothing comes to lie.
    """
    side = int(images.shape[1])
    factors = ZOOM ** (2 * _random(images, 2, how) - 1)                                           # [B, 2]
    pixels = tf.range(side, dtype=tf.float32)
    middle = (side - 1) / 2
    places = (pixels - middle)[None, None, :] * factors[:, :, None] + middle                      # [B, 2, S]
    return _resample(images, tf.nn.relu(1 - tf.abs(places[..., None] - pixels)))


def _resample(images, weights):
    """Make each row, and then each column, of `images` [B, S, S, 3] a sum of those there, with `weights` [B, 2, S, S].

    Products with matrices are used, since their gradients are deterministic on every device.
    """
    side = int(images.shape[1])
    for matrix in tf.unstack(weights, axis=1):
        images = tf.matmul(matrix, tf.reshape(images, [-1, side, side * 3]))
        images = tf.transpose(tf.reshape(images, [-1, side, side, 3]), [0, 2, 1, 3])
    return images


def _cut(images, how):
    """Set a square of each of `images` [B, S, S, 3] to 0, at a random place, which may be partly outside."""
    side = int(images.shape[1])
    half = CUT * side / 2
    centres = _random(images, 2, how) * side                                                      # [B, 2]
    inside = tf.abs(tf.range(side, dtype=tf.float32)[None, None] + .5 - centres[:, :, None]) < half       # [B, 2, S]
    rows, columns = tf.unstack(tf.cast(inside, tf.float32), axis=1)
    return images * (1 - rows[:, :, None, None] * columns[:, None, :, None])


def _change_colors(images, how):
    """Change brightness, saturation and contrast of each of `images` [B, S, S, 3]."""
    brightness, saturation, contrast = tf.split(_random(images, 3, how)[:, :, None, None], 3, axis=1)
    images += BRIGHTNESS * (2 * brightness - 1) / 2
    grey = tf.reduce_mean(images, axis=3, keepdims=True)
    images = grey + (images - grey) * _between(SATURATION, saturation)
    middle = tf.reduce_mean(images, axis=[1, 2, 3], keepdims=True)
    return middle + (images - middle) * _between(CONTRAST, contrast)


def _shade(images, how):
    """Multiply each of `images` [B, S, S, 3], black being 0, by a light that changes along a random direction.

    The light is a sigmoid of the place along the direction, from a random share of 1 up to 1. It is divided by its
    mean, so that there is as much light as before. What would be brighter than white is white.
    """
    side = int(images.shape[1])
    angle, place, slope, dark = tf.unstack(_random(images, 4, how)[:, :, None, None], axis=1)       # each [B, 1, 1]
    ahead = (tf.range(side, dtype=tf.float32) + .5) * 2 / side - 1
    along = tf.cos(2 * math.pi * angle) * ahead[None, None, :] + tf.sin(2 * math.pi * angle) * ahead[None, :, None]
    along -= OFF_CENTRE * (2 * place - 1)
    light = _between((_between((DARKEST, 1), dark), 1), tf.sigmoid(_between(SLOPES, slope) * along))
    light /= tf.reduce_mean(light, axis=[1, 2], keepdims=True)
    return tf.minimum((images + 1) * light[..., None] - 1, 1)


# In the order of their seeds, which are counted on from that of a play: no two kinds share their random numbers.
KINDS = {"shift": _shift, "cut": _cut, "color": _change_colors, "zoom": _zoom, "shade": _shade}
