"""The built-in head's colours: a painted mean and the fields by which people differ. NumPy and SciPy only.

Colours are rgb in 0..255. Every field is what one standard deviation adds, before `builtin_model.py` makes an
orthonormal basis of them. Shade that light alone does not give (sockets, nostrils, folds) is painted as a factor, so
that dark and fair skin get their share. Tints stay small and along colours that people have: no face is green.
"""
from typing import NamedTuple

import numpy as np

from morphable.builtin_head import bump, EYE_HALF, EYE_X, EYE_Y, first_row, lens, MOUTH_HALF, smooth_step

SKIN, MELANIN = np.array([166.0, 126, 106]), np.array([38.0, 33.5, 31])      # the mean, and one deviation towards fair
HAIR = np.array([78.0, 58, 44])
LIPS, SCLERA, IRIS = np.array([.86, .62, .63]), np.array([198.0, 191, 184]), np.array([88.0, 70, 52])
MOUTH, TEETH = np.array([48.0, 18, 18]), np.array([212.0, 203, 186])
PUPIL, LASHES = np.array([18.0, 15, 14]), np.array([30.0, 22, 20])
NOISE = 185                                     # random smooth fields
WAVES = 16                                      # in each


class Palette(NamedTuple):
    """Colours [3] (skin: or [V, 3]) of the features, or differences of colours in a field."""
    skin: np.ndarray = (0, 0, 0)
    hair: np.ndarray = (0, 0, 0)
    lips: np.ndarray = (0, 0, 0)
    sclera: np.ndarray = (0, 0, 0)
    iris: np.ndarray = (0, 0, 0)
    brow: np.ndarray = (0, 0, 0)
    fixed: float = 0.0          # 1 where pupils, lashes, mouth and teeth are to be painted, which are everybody's


def rows_between(head, begin, end, soft):
    """0..1 for rows from one key curve to another, with borders `soft` rows wide on either side."""
    first, last = first_row(begin), first_row(end)
    return smooth_step(head.row, first - soft, first + soft) * (1 - smooth_step(head.row, last - soft, last + soft))


def soft_noise(points, length, random):
    """Smooth noise [V] of unit variance over `points` [V, 3]: random waves about `length` mm long."""
    waves = random.standard_normal([3, WAVES]) * (2 / length)
    phases = (points @ waves + random.uniform(0, 2 * np.pi, WAVES)).astype(np.float32)
    return np.cos(phases) @ random.standard_normal(WAVES) / np.sqrt(WAVES / 2)


def masks(head):
    """Where features lie: a dict of arrays [V] in 0..1."""
    front = smooth_step(head.points[:, 2], 10, 40)
    s = np.abs(head.across) / MOUTH_HALF
    upper, lower = first_row("upper_lip"), first_row("lower_lip")
    mouth = ((head.row > upper) & (head.row < lower)) * lens(s / .99, .1)
    teeth = ((head.row > upper + 1) & (head.row <= upper + 3)) * lens(s / .8, .3)
    lip = rows_between(head, "upper_border", "lower_border", .8) * lens(s / 1.01, .25) * front
    return {"front": front, "mouth": mouth, "teeth": mouth * teeth, "lip": lip * (1 - mouth),
            "hair": head.hair * (1 - head.eyeball), "brow": brow_mask(head) * front,
            "beard": beard_mask(head) * (1 - lip), **eye_masks(head, front)}


def eye_masks(head, front):
    """The parts of the masks that belong to eyes: a dict of arrays [V]."""
    x, y, _ = head.points.T
    t = (np.abs(head.across) - EYE_X) / EYE_HALF
    radius = np.hypot(np.abs(x) - EYE_X, y - EYE_Y - .5)
    upper, lower = first_row("upper_lid"), first_row("lower_lid")
    edges = np.select([head.row == row for row in (upper, upper + 1, upper - 1, lower)], [1, 1, .22, .38], 0)
    return {"eyeball": head.eyeball.astype(float), "lash": front * lens(t / 1.06, .3) * edges,
            "iris": head.eyeball / (1 + np.exp((radius - 5.9) / .35)),
            "rim": head.eyeball * np.exp(-((radius - 5.6) / .7) ** 2),
            "pupil": head.eyeball / (1 + np.exp((radius - 2.3) / .3)),
            "caruncle": head.eyeball * smooth_step(-t, .68, .95)}


def brow_mask(head):
    """Where brows are [V], round the head; arched by the rows, thinner outside."""
    across = np.abs(head.across)
    middle = first_row("brow") + 2.6 + .35 * smooth_step(across, 20, 55)
    half = 1.9 - .9 * smooth_step(across, 36, 58)
    ends = smooth_step(across, 9, 19) * (1 - smooth_step(across, 46, 59))
    return np.exp(-np.abs((head.row - middle) / half) ** 3.5) * ends


def beard_mask(head):
    """Where beards grow [V]: from the upper lip and the ears down to the neck."""
    x, y, z = head.points.T
    line = -18 - 16 * smooth_step(np.abs(x), 20, 50) + 40 * smooth_step(np.abs(x), 56, 66)
    beard = smooth_step(line - y, 0, 18) * (1 - smooth_step(-y, 88, 112)) * smooth_step(z, -20, 10)
    return beard * (1 - .8 * bump(x, y, 0, -26, 3, 6)) * (1 - .75 * bump(x, y, 26, -50, 7, 7))


def shade(head, m):
    """Painted ambient shade as a factor [V]."""
    x, y, z = head.points.T
    across = np.abs(head.across)
    t = (across - EYE_X) / EYE_HALF
    dark = (.15 * bump(x, y, 16, 35, 5, 7) + .10 * bump(x, y, 31, 39, 16, 4.5) + .10 * bump(x, y, 27, 21, 13, 4)
            + .85 * bump(x, y, 6.3, -18.2, 2.9, 1.7) + .25 * bump(x, y, 0, -21, 9, 2.2)
            + .22 * bump(x, y, 18.5, -13.5, 1.6, 4.5) + .10 * bump(x, y, 0, -52, 13, 3)
            + .12 * bump(x, y, MOUTH_HALF + 1, -41, 3, 3)) * m["front"]
    crease = (head.row == first_row("crease")) * lens(t / 1.15, .5) * m["front"]
    fold = 22 + .32 * (-14 - y)
    folds = np.exp(-((np.abs(x) - fold) / 2.2) ** 2) * smooth_step(-y, 10, 17) * (1 - smooth_step(-y, 34, 46))
    under_jaw = smooth_step(head.row, first_row("jaw") - 2, first_row("jaw") + 5)
    seam = np.exp(-np.abs(head.row - first_row("upper_lip")) / .7) * lens(across / (MOUTH_HALF + 1.5), .3) * .5
    ear = smooth_step(np.abs(x), 72, 78) * smooth_step(-z, -20, 0)
    along = z + 4 - .18 * (y - 10)
    concha = .5 * np.exp(-(((along - 2) / 7) ** 2 + ((y - 6) / 9) ** 2)) * (np.abs(head.angle) > 80)
    return (1 - np.clip(dark, 0, .9)) * (1 - .22 * crease) * (1 - .07 * folds * m["front"]) * (1 - .3 * under_jaw) \
        * (1 - seam * m["front"]) * (1 - .06 * ear) * (1 - concha)


def mix(colours, other, share):
    """`colours` [V, 3] with a `share` [V] of another colour [3] or colours [V, 3]."""
    return colours + share[:, None] * (other - colours)


def strands(head, random):
    """Light and dark streaks in the hair [V], mean 1."""
    around = np.radians(head.angle)
    coordinates = np.stack([26 * np.sin(around), .22 * head.points[:, 1], 26 * np.cos(around)], 1)
    return 1 + .10 * soft_noise(coordinates, 4, random) + .04 * soft_noise(head.points, 22, random)


def compose(head, m, factor, streak, palette):
    """Colours [V, 3] of a Palette in layers from the skin outward; linear in the palette, so right for fields too."""
    skin = np.broadcast_to(palette.skin, head.points.shape)
    colours = mix(skin * factor[:, None], np.asarray(palette.lips) * factor[:, None], m["lip"])
    colours = mix(colours, np.asarray(palette.brow), .72 * m["brow"])
    colours = mix(colours, np.asarray(palette.hair) * streak[:, None], m["hair"])
    eye = mix(np.broadcast_to(palette.sclera, colours.shape), np.asarray(palette.iris), m["iris"])
    eye = mix(eye, np.asarray(palette.iris) * .45, .6 * m["rim"])
    eye = mix(eye, palette.fixed * PUPIL, m["pupil"])
    eye = mix(eye, skin * [.95, .72, .70], .8 * m["caruncle"])
    lid_shadow = 1 - .38 * smooth_step(head.points[:, 1], EYE_Y + 2, EYE_Y + 6.5)
    colours = mix(colours, eye * lid_shadow[:, None], m["eyeball"])
    colours = mix(colours, palette.fixed * LASHES, .8 * m["lash"])
    colours = mix(colours, palette.fixed * MOUTH, m["mouth"])
    return mix(colours, palette.fixed * TEETH, .9 * m["teeth"])


def paint(head, random):
    """The mean texture [V, 3] and the fields [n, V, 3], the large ones first."""
    m = masks(head)
    factor = shade(head, m)
    x, y, z = head.points.T
    streak = strands(head, random)
    blush = m["front"] * (.6 * bump(x, y, 38, -4, 15, 13) + .5 * bump(x, y, 0, -10, 11, 8)
                          + .3 * bump(x, y, 0, -72, 14, 8))
    ear = smooth_step(np.abs(x), 71, 78) * smooth_step(-z, -25, 0) * (1 - m["hair"])
    skin = SKIN + np.outer(blush, [7, -5, -4]) + np.outer(ear, [7, -6, -5]) - np.outer(m["beard"], [9, 8, 6])
    mean = compose(head, m, factor, streak, Palette(skin, HAIR, SKIN * LIPS, SCLERA, IRIS, HAIR * .8, 1.0))
    tints = [compose(head, m, factor, streak, palette) for palette in palettes(blush)]
    parts = patches(head, m, factor, streak, blush, random)
    return mean, np.concatenate([tints, parts, blotches(head, m, factor, random)])


def palettes(blush):
    """The tints of whole features: Palettes of differences of colours."""
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


def patches(head, m, factor, streak, blush, random):
    """Fields [n, V, 3] of parts of features: stubble, brows, blush, lids, the hair's line and its streaks."""
    x, y, _ = head.points.T
    bare = (1 - m["eyeball"]) * (1 - m["mouth"]) * (1 - m["lip"]) * (1 - m["hair"])
    fringe = np.exp(-((m["hair"] - .5) / .28) ** 2)
    return np.array([
        np.outer(m["beard"] * factor * bare, [-11.0, -10, -9]),
        np.outer(m["brow"] * (1 - m["eyeball"]), [-13.0, -12, -11]),            # how dense brows are
        np.outer(blush * bare, [5.0, -4, -3]),
        np.outer(bump(x, y, 29, 20, 14, 6) * m["front"] * bare, [-9.0, -10, -8]),               # tired
        np.outer(bump(x, y, 31, 38, 15, 4.5) * m["front"] * bare, [-10.0, -11, -9]),            # eye shadow
        np.outer(fringe, .13 * (SKIN - HAIR)),                                  # where hair begins
        np.outer(m["hair"] * smooth_step(y, 90, 140), .05 * (SKIN - HAIR)),     # thin on top
        np.outer(m["hair"] * soft_noise(head.points, 40, random), [4.0, 3, 2]),
        np.outer(m["hair"] * (streak - 1), HAIR * .3),
        np.outer(m["lash"], [-7.0, -6, -6])])


def blotches(head, m, factor, random):
    """Random fields [NOISE, V, 3] of skin and hair, smooth for the first and fine for the last, mostly symmetric."""
    skin = factor * (1 - m["eyeball"]) * (1 - m["mouth"]) * (1 - m["hair"])
    fields = []
    for index in range(NOISE):
        length = 60 * 8 ** (-index / NOISE) + 4
        noise = soft_noise(head.points, length, random)
        noise = (.8 * (noise + noise[head.mirror]) + .35 * (noise - noise[head.mirror])) / 1.6
        tint = np.array([1, .95, .9]) + .22 * random.standard_normal(3) * [1, -.6, -.6]
        size = .9 * .988 ** index
        hair = np.outer(noise * m["hair"], size * np.array([1, .8, .6]))
        fields.append(np.outer(noise * skin, size * tint) + hair)
    return np.array(fields)
