"""The colours of the built-in head: a painted mean and the fields by which people differ. NumPy and SciPy only.

Colours are rgb in 0..255. A field [V, 3] is what one standard deviation adds to the colours. `builtin_model.py` makes
an orthonormal basis of the fields. Sockets, nostrils and folds are darker than light alone makes them, since the
renderer casts no shadows. That shade is painted as a factor, so that it suits dark and fair skin. Fields stay small and
along colours that people have: no face is green.
"""
from typing import NamedTuple

import numpy as np

from morphable.builtin_head import bump, EYE_HALF, EYE_X, EYE_Y, first_row, lens, MOUTH_HALF, smooth_step

SKIN, MELANIN = np.array([166.0, 126, 106]), np.array([38.0, 33.5, 31])      # the mean, and one deviation towards fair
HAIR = np.array([78.0, 58, 44])
LIPS = np.array([.86, .62, .63])                # times SKIN
SCLERA, IRIS = np.array([198.0, 191, 184]), np.array([88.0, 70, 52])
MOUTH, TEETH = np.array([48.0, 18, 18]), np.array([212.0, 203, 186])
PUPIL, LASHES = np.array([18.0, 15, 14]), np.array([30.0, 22, 20])
RANDOM_FIELDS = 185
WAVES = 16                                      # that a random field is the sum of


class Palette(NamedTuple):
    """Colours [3] of the features, or what a field adds to the colours.

    The skin may have a colour for each vertex, [V, 3].
    """
    skin: np.ndarray = (0, 0, 0)
    hair: np.ndarray = (0, 0, 0)
    lips: np.ndarray = (0, 0, 0)
    sclera: np.ndarray = (0, 0, 0)
    iris: np.ndarray = (0, 0, 0)
    brow: np.ndarray = (0, 0, 0)
    fixed: float = 0.0          # 1: paint pupils, lashes, mouth and teeth too; 0 in fields, as these are alike in all


def _rows_between(head, begin, end, soft):
    """Mask the rows from one key curve to another -> [V] in 0..1.

    The borders are soft, and reach `soft` rows to either side.
    """
    first, last = first_row(begin), first_row(end)
    return smooth_step(head.row, first - soft, first + soft) * (1 - smooth_step(head.row, last - soft, last + soft))


def soft_noise(points, length, random):
    """Make smooth noise of unit variance at `points` [V, 3] -> [V].

    The noise is a sum of random waves about `length` millimetres long. `random` is a np.random.Generator.
    """
    waves = random.standard_normal([3, WAVES]) * (2 / length)
    phases = (points @ waves + random.uniform(0, 2 * np.pi, WAVES)).astype(np.float32)
    return np.cos(phases) @ random.standard_normal(WAVES) / np.sqrt(WAVES / 2)


def _make_masks(head):
    """Compute where each feature lies -> {name: [V] in 0..1}."""
    front = smooth_step(head.points[:, 2], 10, 40)
    mouth_x = np.abs(head.nominal_x) / MOUTH_HALF                   # 1 at the corner of the mouth
    upper, lower = first_row("upper_lip"), first_row("lower_lip")
    mouth = ((head.row > upper) & (head.row < lower)) * lens(mouth_x / .99, .1)
    teeth = ((head.row > upper + 1) & (head.row <= upper + 3)) * lens(mouth_x / .8, .3)
    lip = _rows_between(head, "upper_border", "lower_border", .8) * lens(mouth_x / 1.01, .25) * front
    return {"front": front, "mouth": mouth, "teeth": mouth * teeth, "lip": lip * (1 - mouth),
            "hair": head.hair * (1 - head.eyeball), "brow": _brow_mask(head) * front,
            "beard": _beard_mask(head) * (1 - lip), **_eye_masks(head, front)}


def _eye_masks(head, front):
    """Compute where each feature of the eyes lies -> {name: [V] in 0..1}.

    `front` [V] is the mask of the face.
    """
    x, y, _ = head.points.T
    eye_x = (np.abs(head.nominal_x) - EYE_X) / EYE_HALF             # -1 and 1 at the corners of the eye
    radius = np.hypot(np.abs(x) - EYE_X, y - EYE_Y - .5)
    upper, lower = first_row("upper_lid"), first_row("lower_lid")
    edges = np.select([head.row == row for row in (upper, upper + 1, upper - 1, lower)], [1, 1, .22, .38], 0)
    return {"eyeball": head.eyeball.astype(float), "lash": front * lens(eye_x / 1.06, .3) * edges,
            "iris": head.eyeball / (1 + np.exp((radius - 5.9) / .35)),
            "rim": head.eyeball * np.exp(-((radius - 5.6) / .7) ** 2),
            "pupil": head.eyeball / (1 + np.exp((radius - 2.3) / .3)),
            "caruncle": head.eyeball * smooth_step(-eye_x, .68, .95)}


def _brow_mask(head):
    """Compute where brows are -> [V] in 0..1. Rows give brows their arch."""
    distance = np.abs(head.nominal_x)                               # from the midline
    middle = first_row("brow") + 2.6 + .35 * smooth_step(distance, 20, 55)
    half = 1.9 - .9 * smooth_step(distance, 36, 58)                 # the width in rows: thinner outside
    ends = smooth_step(distance, 9, 19) * (1 - smooth_step(distance, 46, 59))
    return np.exp(-np.abs((head.row - middle) / half) ** 3.5) * ends


def _beard_mask(head):
    """Compute where beards grow, from the upper lip and the ears down to the neck -> [V] in 0..1."""
    x, y, z = head.points.T
    line = -18 - 16 * smooth_step(np.abs(x), 20, 50) + 40 * smooth_step(np.abs(x), 56, 66)
    beard = smooth_step(line - y, 0, 18) * (1 - smooth_step(-y, 88, 112)) * smooth_step(z, -20, 10)
    return beard * (1 - .8 * bump(x, y, 0, -26, 3, 6)) * (1 - .75 * bump(x, y, 26, -50, 7, 7))


def _make_shade(head, masks):
    """Compute the painted shade of sockets, nostrils, folds, seams and ears -> a factor [V] of colours."""
    x, y, z = head.points.T
    distance = np.abs(head.nominal_x)                               # from the midline
    eye_x = (distance - EYE_X) / EYE_HALF
    dark = (.15 * bump(x, y, 16, 35, 5, 7) + .10 * bump(x, y, 31, 39, 16, 4.5) + .10 * bump(x, y, 27, 21, 13, 4)
            + .85 * bump(x, y, 6.3, -18.2, 2.9, 1.7) + .25 * bump(x, y, 0, -21, 9, 2.2)
            + .22 * bump(x, y, 18.5, -13.5, 1.6, 4.5) + .10 * bump(x, y, 0, -52, 13, 3)
            + .12 * bump(x, y, MOUTH_HALF + 1, -41, 3, 3)) * masks["front"]
    crease = (head.row == first_row("crease")) * lens(eye_x / 1.15, .5) * masks["front"]
    fold = 22 + .32 * (-14 - y)
    folds = np.exp(-((np.abs(x) - fold) / 2.2) ** 2) * smooth_step(-y, 10, 17) * (1 - smooth_step(-y, 34, 46))
    under_jaw = smooth_step(head.row, first_row("jaw") - 2, first_row("jaw") + 5)
    seam = np.exp(-np.abs(head.row - first_row("upper_lip")) / .7) * lens(distance / (MOUTH_HALF + 1.5), .3) * .5
    ear = smooth_step(np.abs(x), 72, 78) * smooth_step(-z, -20, 0)
    along = z + 4 - .18 * (y - 10)
    concha = .5 * np.exp(-(((along - 2) / 7) ** 2 + ((y - 6) / 9) ** 2)) * (np.abs(head.angle) > 80)
    return ((1 - np.clip(dark, 0, .9)) * (1 - .22 * crease) * (1 - .07 * folds * masks["front"]) * (1 - .3 * under_jaw)
            * (1 - seam * masks["front"]) * (1 - .06 * ear) * (1 - concha))


def _mix(colours, other, share):
    """Mix `colours` [V, 3] with a `share` [V] of `other`, one colour [3] or colours [V, 3]."""
    return colours + share[:, None] * (other - colours)


def _make_streaks(head, random):
    """Make light and dark streaks in the hair -> a factor [V] of mean 1."""
    around = np.radians(head.angle)
    coordinates = np.stack([26 * np.sin(around), .22 * head.points[:, 1], 26 * np.cos(around)], 1)
    return 1 + .10 * soft_noise(coordinates, 4, random) + .04 * soft_noise(head.points, 22, random)


def _compose(head, masks, shade, streaks, palette):
    """Lay the colours of a Palette over each other, from the skin outward -> [V, 3].

    The result is linear in the palette. So a palette of differences gives the field of these differences.
    """
    skin = np.broadcast_to(palette.skin, head.points.shape)
    colours = _mix(skin * shade[:, None], np.asarray(palette.lips) * shade[:, None], masks["lip"])
    colours = _mix(colours, np.asarray(palette.brow), .72 * masks["brow"])
    colours = _mix(colours, np.asarray(palette.hair) * streaks[:, None], masks["hair"])
    eye = _mix(np.broadcast_to(palette.sclera, colours.shape), np.asarray(palette.iris), masks["iris"])
    eye = _mix(eye, np.asarray(palette.iris) * .45, .6 * masks["rim"])
    eye = _mix(eye, palette.fixed * PUPIL, masks["pupil"])
    eye = _mix(eye, skin * [.95, .72, .70], .8 * masks["caruncle"])
    lid_shadow = 1 - .38 * smooth_step(head.points[:, 1], EYE_Y + 2, EYE_Y + 6.5)
    colours = _mix(colours, eye * lid_shadow[:, None], masks["eyeball"])
    colours = _mix(colours, palette.fixed * LASHES, .8 * masks["lash"])
    colours = _mix(colours, palette.fixed * MOUTH, masks["mouth"])
    return _mix(colours, palette.fixed * TEETH, .9 * masks["teeth"])


def paint(head, random):
    """Paint a Head -> (mean texture [V, 3], fields [n, V, 3]), float64 rgb in 0..255.

    The large fields come first. `random` is a np.random.Generator.
    """
    masks = _make_masks(head)
    shade = _make_shade(head, masks)
    x, y, z = head.points.T
    streaks = _make_streaks(head, random)
    blush = masks["front"] * (.6 * bump(x, y, 38, -4, 15, 13) + .5 * bump(x, y, 0, -10, 11, 8)
                              + .3 * bump(x, y, 0, -72, 14, 8))
    ear = smooth_step(np.abs(x), 71, 78) * smooth_step(-z, -25, 0) * (1 - masks["hair"])
    skin = SKIN + np.outer(blush, [7, -5, -4]) + np.outer(ear, [7, -6, -5]) - np.outer(masks["beard"], [9, 8, 6])
    mean_palette = Palette(skin, HAIR, SKIN * LIPS, SCLERA, IRIS, HAIR * .8, 1.0)
    mean = _compose(head, masks, shade, streaks, mean_palette)
    tints = [_compose(head, masks, shade, streaks, palette) for palette in _tints(blush)]
    patches = _patches(head, masks, shade, streaks, blush, random)
    return mean, np.concatenate([tints, patches, _blotches(head, masks, shade, random)])


def _tints(blush):
    """List the Palettes of fields that tint whole features; `blush` [V] is the mask of blushing skin."""
    melanin = Palette(MELANIN + np.outer(blush, [2, -2, -1.5]), [9, 6.7, 5], MELANIN * [.95, .62, .64], [5, 5, 5],
                      [10, 14, 18], [9, 7, 6])
    blond, grey, red = np.array([33.0, 24.5, 18.5]), np.array([19.5, 19.5, 19]), np.array([5.5, 0, -1.5])
    return [
        melanin,
        Palette(skin=[2, .3, -3.5], lips=[2, 0, -3]),                           # yellow or pink
        Palette(skin=[2, -1.5, -1.5], lips=[3, -2, -2]),                        # ruddy
        Palette(hair=blond, brow=.55 * blond), Palette(hair=grey, brow=.4 * grey), Palette(hair=red, brow=.7 * red),
        Palette(iris=[10, 15, 20]), Palette(iris=[4, 5, 2]),
        Palette(lips=[6, -4, -3]), Palette(lips=[-8, -9, -8])]


def _patches(head, masks, shade, streaks, blush, random):
    """Make fields [n, V, 3] of smaller areas: stubble, brows, blush, lids, hairline and streaks."""
    x, y, _ = head.points.T
    bare = (1 - masks["eyeball"]) * (1 - masks["mouth"]) * (1 - masks["lip"]) * (1 - masks["hair"])
    fringe = np.exp(-((masks["hair"] - .5) / .28) ** 2)
    return np.array([
        np.outer(masks["beard"] * shade * bare, [-11.0, -10, -9]),                              # stubble
        np.outer(masks["brow"] * (1 - masks["eyeball"]), [-13.0, -12, -11]),                    # how dense brows are
        np.outer(blush * bare, [5.0, -4, -3]),
        np.outer(bump(x, y, 29, 20, 14, 6) * masks["front"] * bare, [-9.0, -10, -8]),           # dark below the eyes
        np.outer(bump(x, y, 31, 38, 15, 4.5) * masks["front"] * bare, [-10.0, -11, -9]),        # eye shadow
        np.outer(fringe, .13 * (SKIN - HAIR)),                                                  # where hair begins
        np.outer(masks["hair"] * smooth_step(y, 90, 140), .05 * (SKIN - HAIR)),                 # thin on top
        np.outer(masks["hair"] * soft_noise(head.points, 40, random), [4.0, 3, 2]),
        np.outer(masks["hair"] * (streaks - 1), HAIR * .3),                                     # how streaky hair is
        np.outer(masks["lash"], [-7.0, -6, -6])])


def _blotches(head, masks, shade, random):
    """Make random fields [RANDOM_FIELDS, V, 3] of skin and hair, mostly symmetric.

    The first fields are smooth, the last ones fine.
    """
    skin = shade * (1 - masks["eyeball"]) * (1 - masks["mouth"]) * (1 - masks["hair"])
    fields = []
    for index in range(RANDOM_FIELDS):
        length = 60 * 8 ** (-index / RANDOM_FIELDS) + 4
        noise = soft_noise(head.points, length, random)
        noise = (.8 * (noise + noise[head.mirror]) + .35 * (noise - noise[head.mirror])) / 1.6
        tint = np.array([1, .95, .9]) + .22 * random.standard_normal(3) * [1, -.6, -.6]
        size = .9 * .988 ** index
        hair = np.outer(noise * masks["hair"], size * np.array([1, .8, .6]))
        fields.append(np.outer(noise * skin, size * tint) + hair)
    return np.array(fields)
