"""The built-in head's mean: a grid of rows and columns laid along lids, lips, jaw and ears. NumPy and SciPy only.

Millimetres here; x to the right of the image, y up, z towards the viewer, the origin between the ears at the height
of the nose. Measures follow common anthropometric means (Farkas 1994, "Anthropometry of the Head and Face").
Rows follow the features, so that a lid or a lip has a sharp edge although colours belong to vertices. Eyeballs go on
behind the lids, and behind the lips there are teeth and a dark pocket: what opens shows them, by the z-buffer.
"""
from typing import NamedTuple

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter

EYE_X, EYE_Y, EYE_Z = 31.5, 32.0, 79.5          # the middle of the pupil of the eye on the right of the image
EYE_HALF = 14.3                                 # from the middle to a corner
MOUTH_Y, MOUTH_HALF = -40.0, 25.5
WIDEST = 70.0                                   # half a face, which a column's nominal x refers to

# Angles of half the columns, in degrees from the front: nose, eye, temple, ear, back of the head
ANGLES = np.concatenate([
    np.arange(9) * 1.47, np.linspace(13.2, 22.0, 7), np.linspace(23.0, 31.5, 11), np.linspace(32.8, 40.5, 6),
    np.linspace(42.5, 84.5, 11), np.linspace(88.5, 120, 10), [126, 136, 150, 165, 180]])

# Rows between a key curve and the next, from the crown to the neck; see `key_curves`
ROWS = {"crown": 9, "hairline": 7, "brow": 5, "brow_end": 3, "crease": 3, "upper_lid": 12, "lower_lid": 3, "bag": 8,
        "nose": 11, "nose_end": 3, "upper_border": 4, "upper_lip": 7, "lower_lip": 4, "lower_border": 4, "chin": 7,
        "jaw": 9}
KEYS = list(ROWS)

# y: half width, front, back of the sections of a bare head, without nose, lips and hair
SECTIONS = np.array([
    [-90, 50, 74, 52], [-84, 51, 82, 56], [-76, 53.5, 87, 60], [-66, 55.5, 88.5, 64], [-54, 58, 87.5, 70],
    [-40, 62, 90, 76], [-19, 65.5, 89, 85], [0, 68.5, 87.5, 92], [15, 70, 87, 96], [32, 70.5, 87.5, 98],
    [47, 71.5, 91.5, 99], [62, 73, 92, 98.5], [80, 74.5, 89, 96], [97, 73, 81.5, 90], [113, 67, 69, 79],
    [127, 56, 52, 63], [137, 43, 36.5, 46], [143, 29, 23, 30], [146, 14, 11, 14], [146.6, 3, 2.5, 3]])
NECK_HALF, NECK_Z, NECK_DEPTH, NECK_END = 48.0, -14.0, 48.0, -168.0

# degrees from the front: the height where hair begins, and where the jaw ends
HAIRLINE = np.array([[0, 97], [14, 98.5], [28, 96], [40, 84], [50, 70], [60, 60], [70, 49], [76, 26], [81, 12],
                     [85, 20], [90, 46], [105, 50], [114, 38], [121, -8], [132, -62], [150, -84], [180, -90]])
JAW = np.array([[0, -84], [10, -84], [20, -82.5], [32, -78], [45, -70], [58, -59], [70, -46], [80, -32], [90, -24],
                [110, -24], [140, -32], [180, -36]])
# y: height and half width of the nose over the bare head
NOSE = np.array([[46, 0, 9], [39, .2, 8], [33, 1.2, 7], [26, 5, 6.8], [17, 9.8, 7.4], [8, 14.2, 8.2], [0, 18.8, 9.3],
                 [-5, 21.8, 10.2], [-9, 23.2, 10.6], [-13, 22, 10.2], [-16, 17, 9.5], [-18, 9.5, 9],
                 [-20, 3, 9], [-23, 0, 9]])[::-1]
UPPER_LIP, LOWER_LIP = [0, 1.3, 2.3, 2.5, .9], [1.2, 3.2, 3.9, 3.0, .8]        # forward, from the top down
# Behind the lips, from the upper to the lower: up from the seam, forward
POCKET = np.array([[1.8, -2.6], [1.4, -4.2], [-5.0, -4.6], [-5.6, -9], [-4, -19], [-2.2, -3.5]])


class Head(NamedTuple):
    """The mean head; V vertices in rows of N columns from the front round, and the crown as the last vertex."""
    points: np.ndarray          # [V, 3] millimetres
    triangles: np.ndarray       # [T, 3] int32, counter-clockwise seen from outside
    mirror: np.ndarray          # [V] the vertex on the other side
    row: np.ndarray             # [V] from 0 at the crown, `first_row` of each key curve
    angle: np.ndarray           # [V] degrees from the front, signed like x
    across: np.ndarray          # [V] nominal x of the column
    hair: np.ndarray            # [V] 0..1
    eyeball: np.ndarray         # [V] bool


def first_row(key):
    """The row of a key curve."""
    return sum(ROWS[name] for name in KEYS[:KEYS.index(key)])


def table(data, at, column=1):
    """Monotone interpolation of a table's `column` over its first, constant beyond its ends (Fritsch, Carlson 1980)."""
    return PchipInterpolator(data[:, 0], data[:, column])(np.clip(at, data[0, 0], data[-1, 0]))


def smooth_step(x, begin, end):
    """0 before `begin`, 1 after `end`, in between 3 t^2 - 2 t^3."""
    t = np.clip((x - begin) / (end - begin), 0, 1)
    return t * t * (3 - 2 * t)


def bump(x, y, cx, cy, sx, sy):
    """A Gaussian hill of height 1 on both sides of the face: at (±cx, cy), `sx` and `sy` wide."""
    y_part = np.exp(-((y - cy) / sy) ** 2)
    if cx == 0:
        return np.exp(-(x / sx) ** 2) * y_part
    return (np.exp(-((x - cx) / sx) ** 2) + np.exp(-((x + cx) / sx) ** 2)) * y_part


def lens(t, power):
    """(1 - t^2)^power within -1..1, else 0."""
    return np.clip(1 - t * t, 0, None) ** power


def key_curves(x, angle):
    """Heights [16, N] of the key curves at columns of nominal `x` [N] >= 0 and `angle` [N] in degrees."""
    t = (x - EYE_X) / EYE_HALF
    tilt = 1.2 * np.clip(t, -1, 1)
    away = smooth_step(np.abs(t), 1, 2.6)                           # curves spread again beyond the eye's corners
    upper_lid = EYE_Y + tilt + 5.6 * lens(t - .08 * (1 - t * t), .62) + .15 + np.where(t > 0, 8, 3) * away
    lower_lid = EYE_Y + tilt - 4.6 * lens(t + .06 * (1 - t * t), .62) - .15 - np.where(t > 0, 11, 4) * away
    brow = 47.8 + 4.4 * lens((x - 36) / 30, 1) - 2.5 * smooth_step(x, 40, 57) + 10 * smooth_step(x, 58, 70)
    s = x / MOUTH_HALF
    spread = smooth_step(x, MOUTH_HALF, 60)
    seam = MOUTH_Y + 1.6 * np.minimum(s, 1) ** 2 - .6 * np.exp(-(x / 6) ** 2) + .3 * bump(x, 0, 10, 0, 6, 1)
    upper_lip = seam + .25 * lens(s, .5) + .1 + 2 * spread
    lower_lip = seam - .25 * lens(s, .5) - .1 - 2 * spread
    upper_border = upper_lip + 6.9 * lens(s, .85) - 1.5 * np.exp(-(x / 3.2) ** 2) + .35 + 4 * spread
    lower_border = lower_lip - 8.6 * lens(s, .62) - .35 - 4 * spread
    level = np.ones_like(x)
    curves = [147 * level, np.maximum(table(HAIRLINE, angle), 84), brow + 4, brow - 4.6,
              upper_lid + 3.6 + .6 * np.exp(-t * t), upper_lid, lower_lid, lower_lid - 5, -2 * level, -22 * level,
              upper_border, upper_lip, lower_lip, lower_border, -58 * level, table(JAW, angle)]
    lower = np.array(curves[8:15])
    curves[8:15] = 5 + (lower - 5) * (5 - curves[15]) / (5 + 84)    # the jaw rises to the ears, and all above with it
    return np.array(curves)


def rows_of_heights(x, angle):
    """Heights [R, N] of the rows down to the jaw, whose last row it is."""
    keys = key_curves(x, angle)
    rows = []
    for index, count in enumerate(list(ROWS.values())[:-1]):
        part = np.arange(count)[:, None] / count
        if index == 0:                                              # crown: equal steps along the round skull
            part = (1 - np.cos(np.pi / 2 * (part + .12) / 1.12)) / (1 - np.cos(np.pi / 2))
        rows.append(keys[index] + part * (keys[index + 1] - keys[index]))
    return np.concatenate([*rows, keys[-1:]])


def bare(y, angle):
    """Points of the bare head at heights `y` and angles in degrees: x, z. Sections are superellipses."""
    half, front, back = (table(SECTIONS, y, column) for column in (1, 2, 3))
    sine, cosine = np.sin(np.radians(angle)), np.cos(np.radians(angle))
    power = 2.25 - .35 * smooth_step(-y, -60, 80)                   # squarer skull, rounder jaw
    stretch = (np.abs(sine) ** power + np.abs(cosine) ** power) ** (-1 / power)
    return half * sine * stretch, np.where(cosine > 0, front, back) * cosine * stretch


def relief(x, y):
    """How far the face stands out of the bare head at (x, y), but for eyes and lips."""
    u = x / table(NOSE, y, 2)
    nose = table(NOSE, y, 1) * np.exp(-.85 * np.abs(u) ** 2.2)
    wings = 9.5 * bump(x, y, 12.2, -12.5, 4.2, 5.2) - 1.6 * bump(x, y, 20.5, -12, 2.6, 6)
    nostrils = -5.5 * bump(x, y, 6.0, -17.6, 2.6, 1.9)
    fold = 21 + .3 * (-14 - y)                                      # nasolabial
    folds = -.9 * (np.exp(-((np.abs(x) - fold) / 3) ** 2) * smooth_step(-y, 10, 18) * (1 - smooth_step(-y, 36, 48)))
    return (nose + wings + nostrils + folds
            + 2.6 * bump(x, y, 20, 47.5, 17, 6) - .8 * bump(x, y, 0, 47, 7, 6)          # brows, glabella
            - 6.5 * bump(x, y, 17.5, 34, 8, 8) - 2.5 * bump(x, y, 36, 39, 12, 6)        # sockets
            + 3.4 * bump(x, y, 44, 4, 13, 13) + 1.5 * bump(x, y, 26, 4, 13, 12)         # cheeks
            - 2.6 * bump(x, y, 46, -34, 12, 17)                                         # hollow of the cheek
            + 3.2 * bump(x, y, 0, -37, 24, 14) - .8 * bump(x, y, 0, -26, 2.6, 4)        # muzzle, philtrum
            + .5 * bump(x, y, 5, -27, 2.6, 5) - 2.6 * bump(x, y, 0, -56, 17, 4.5)       # fold over the chin
            + 4.5 * bump(x, y, 0, -70, 16, 9) - .3 * bump(x, y, 0, -73, 5, 6)           # chin
            + 1.6 * bump(x, y, 26, 70, 24, 17))                                         # forehead


def eye_surface(x, y, radius):
    """Depth of an eyeball (or a lid, of a larger `radius`) around the eye on x's side, and distance from its middle."""
    dx, dy = np.abs(x) - EYE_X, y - EYE_Y
    inside = 1 - (dx / (radius + 5.2)) ** 2 - (dy / (radius + 1)) ** 2
    return EYE_Z - 12 + radius * np.sqrt(np.clip(inside, .02, None)) - .36 * dx, np.hypot(dx / 20, dy / 12.5)


def half_head():
    """Points [R, N, 3] of the columns of ANGLES, and their nominal x [N]: from the crown to the end of the neck."""
    x_nominal = WIDEST * np.where(ANGLES < 90, np.sin(np.radians(ANGLES)), 1)
    y = rows_of_heights(x_nominal, ANGLES)
    x, z = bare(y, ANGLES)
    front = smooth_step(np.cos(np.radians(ANGLES)), 0, .5)
    z = z + relief(x, y) * front
    y, z = fit_eyes(x_nominal, x, y, z)
    y, z = fit_mouth(x_nominal, x, y, z)
    x, y, z = add_ears(x, y, z)
    return add_neck(x, y, z), x_nominal


def fit_eyes(x_nominal, x, y, z):
    """Lay lids on a ball, and let the eyeball go on behind them."""
    upper, lower = first_row("upper_lid"), first_row("lower_lid")
    lids, distance = eye_surface(x, y, 13.4)
    weight = smooth_step(66 - x_nominal, 0, 6) / (1 + distance ** 9)
    lid_depth = z + weight * (lids - z)
    crease = first_row("crease")
    lid_depth[crease] -= 1.1 * lens((x_nominal - EYE_X) / 19, .5)
    inside = lens((x_nominal - EYE_X) / EYE_HALF, .3) * (x_nominal < 60)
    y, ball = y.copy(), slice(upper + 1, lower)
    part = np.linspace(0, 1, lower - upper - 1)[:, None]
    top, bottom = y[upper] + 1.8 * inside, y[lower] - 1.6 * inside
    y[ball] += inside * (top + part * (bottom - top) - y[ball])
    depth, _ = eye_surface(x[ball], y[ball], 12.0)
    lid_depth[ball] += np.sqrt(inside) * (depth - lid_depth[ball])
    return y, lid_depth


def fit_mouth(x_nominal, x, y, z):
    """Swell the lips, and put teeth and a pocket behind them."""
    full = lens(x_nominal / MOUTH_HALF, .5)
    y, z = y.copy(), z.copy()
    for key, forward in ("upper_border", UPPER_LIP), ("lower_lip", LOWER_LIP):
        z[first_row(key):first_row(key) + 5] += np.array(forward)[:, None] * full
    upper, lower = first_row("upper_lip"), first_row("lower_lip")
    z_seam = (z[upper] + z[lower]) / 2
    y_seam = (y[upper] + y[lower]) / 2
    inside = slice(upper + 1, lower)
    within = lens(x_nominal / (MOUTH_HALF - 1), .35)
    y[inside] += within * (y_seam + POCKET[:, :1] - y[inside])
    z[inside] += within * (z_seam + POCKET[:, 1:] - z[inside])
    return y, z


def add_ears(x, y, z):
    """Pull ears out of the sides of the head: attached in front, standing off behind, with a rim and a hollow."""
    along = z + 4 - .18 * (y - 10)
    e = np.sqrt((along / 17.5) ** 2 + ((y - 12) / np.where(y > 12, 32, 30)) ** 2)
    inside = smooth_step(1 - e, -.04, .4)
    behind = smooth_step(-along, -15, 12)
    rim = np.exp(-((e - .66) / .18) ** 2) * smooth_step(behind, .05, .5)
    hollow = np.exp(-(((along - 1) / 6.5) ** 2 + ((y - 7) / 9) ** 2))
    out = inside * (1.5 + 13.5 * behind + 2.6 * rim - 7 * hollow)
    out, back = gaussian_filter(np.stack([out, 7 * inside * behind]), (0, 2.2, .7))
    return x + out, y, z - back


def add_neck(x, y, z):
    """Points [R, N, 3] with rows from the jaw, inward first and then down, to the end of the neck."""
    sine, cosine = np.sin(np.radians(ANGLES)), np.cos(np.radians(ANGLES))
    part = np.arange(1, ROWS["jaw"] + 1)[:, None] / ROWS["jaw"]
    inward, down = 1 - (1 - part) ** 2.6, part ** 1.35
    flare = 1 + .4 * part ** 4
    x_neck, z_neck = NECK_HALF * sine * flare, NECK_Z + NECK_DEPTH * cosine * flare
    rows = np.stack([x[-1] + inward * (x_neck - x[-1]), y[-1] + down * (NECK_END - y[-1]),
                     z[-1] + inward * (z_neck - z[-1])], -1)
    return np.concatenate([np.stack([x, y, z], -1), rows])


def landmark_vertices(points, mirror, columns):
    """The 68 vertices of iBUG's points (Sagonas et al. 2013): jaw, brows, nose, eyes, mouth, from the image's left."""
    def near(key, x, offset=0):
        """The vertex of a row on the right half whose x is nearest."""
        first = (first_row(key) + offset) * columns
        return first + np.abs(points[first:first + np.searchsorted(ANGLES, 90), 0] - x).argmin()

    def at_angle(key, degrees):
        return first_row(key) * columns + np.abs(ANGLES - degrees).argmin()

    def mid_face(x, y):
        """The vertex of the right half's front that is nearest."""
        half = np.flatnonzero((points[:, 0] >= -1e-6) & (points[:, 2] > 40))
        return half[np.hypot(points[half, 0] - x, points[half, 1] - y).argmin()]

    side = [first_row(key) * columns + np.abs(ANGLES - 80).argmin() for key in ("lower_lid", "nose", "nose_end")]
    jaw = [*side, at_angle("chin", 78), *(at_angle("jaw", degrees) for degrees in (60, 45, 30, 15, 0))]
    brow = [near("brow", x, 2) for x in (55, 46, 36, 26, 14)]
    bridge = [mid_face(0, y) for y in (31, 17, 4, -9)]
    base = [mid_face(x, y) for x, y in ((13, -17), (6.5, -19), (0, -20))]
    eye = [near("upper_lid", EYE_X + EYE_HALF), near("upper_lid", EYE_X + 5), near("upper_lid", EYE_X - 5),
           near("upper_lid", EYE_X - EYE_HALF), near("lower_lid", EYE_X - 5), near("lower_lid", EYE_X + 5)]
    top = [near("upper_border", x) for x in (MOUTH_HALF, 15, 6, 0)]
    bottom = [near("lower_border", x) for x in (15, 7, 0)]
    upper = [near("upper_lip", x) for x in (MOUTH_HALF - 2, 8, 0)]
    lower = [near("lower_lip", x) for x in (8, 0)]
    left = mirror.__getitem__

    def across(half):
        """From the left of the image to the right, `half` running from outside to the midline."""
        return [*map(left, half), *half[-2::-1]]

    eyes = [*map(left, eye), eye[3], eye[2], eye[1], eye[0], eye[5], eye[4]]
    mouth = [*across(top), *bottom, *map(left, bottom[-2::-1])]
    inner = [*across(upper), *lower, left(lower[0])]
    return np.array([*across(jaw), *map(left, brow), *brow[::-1], *bridge, *across(base), *eyes, *mouth, *inner],
                    np.int32)


def build_head():
    """The Head and its 68 landmarks."""
    half, x_nominal = half_head()
    rows, count, _ = half.shape
    other = half[:, -2:0:-1] * [-1, 1, 1]
    half[:, [0, -1], 0] = 0
    points = np.concatenate([half, other], 1)
    columns = points.shape[1]
    column = np.concatenate([np.arange(count), np.arange(count - 2, 0, -1)])
    angle = ANGLES[column] * np.where(np.arange(columns) < count, 1, -1)
    index = np.arange(rows * columns).reshape(rows, columns)
    mirror = np.append(index[:, -np.arange(columns) % columns].ravel(), rows * columns)
    right = np.roll(index, -1, 1)
    quads = [corner.ravel() for corner in (index[1:], right[1:], right[:-1], index[:-1])]
    crown = np.stack([index[0], right[0], np.full(columns, rows * columns)], 1)
    triangles = np.concatenate([split_quads(*quads, np.tile(angle >= 0, rows - 1)), crown]).astype(np.int32)
    points = np.concatenate([points.reshape(-1, 3), [[0, 147, 0]]])
    angles = np.append(np.tile(angle, rows), 0.0)
    hair = hair_mask(points, angles)
    row = np.append(np.repeat(np.arange(rows), columns), 0)
    across = np.append(np.tile(x_nominal[column] * np.sign(angle), rows), 0.0)
    ball = (row > first_row("upper_lid")) & (row < first_row("lower_lid")) & (np.abs(np.abs(across) - EYE_X) < EYE_HALF)
    landmarks = landmark_vertices(points, mirror, columns)
    points = points + thickness(points, hair)
    return Head(points, triangles, mirror, row, angles, across, hair, ball), landmarks


def split_quads(a, b, c, d, one_way):
    """Two triangles of each quadrangle a, b, c, d (counter-clockwise), along a-c, or along b-d unless `one_way`."""
    first = np.where(one_way, [a, b, c], [a, b, d])
    second = np.where(one_way, [a, c, d], [b, c, d])
    return np.concatenate([first, second], 1).T


def hair_mask(points, angle):
    """0..1: how much hair there is."""
    softness = 1.6 + 2 * smooth_step(np.abs(angle), 30, 80)         # columns lie wider apart at the sides
    return 1 / (1 + np.exp(-(points[:, 1] - table(HAIRLINE, np.abs(angle))) / softness))


def thickness(points, hair):
    """Displacement [V, 3] by hair: outward from the middle of the skull, most on its top, little on the neck."""
    outward = points - [0, 45, -5]
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    return outward * (hair * (3 + 7 * smooth_step(points[:, 1], 20, 120)))[:, None]
