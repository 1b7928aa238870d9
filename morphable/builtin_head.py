"""The mean of the built-in head: a grid of rows and columns laid along lids, lips, jaw and ears.

NumPy and SciPy only. Lengths are in millimetres: x to the right of the image, y up, z towards the viewer. The origin
lies between the ears at the height of the nose. Measures follow common anthropometric means (Farkas 1994,
"Anthropometry of the Head and Face").

A column runs from the crown to the neck, at one angle around the head. A row runs around the head. Some rows, the key
curves, follow the edges of features such as lids and lips, so that an edge is sharp although colours belong to
vertices. Between two key curves there is a fixed number of rows. The eyeballs go on behind the lids, and behind the
lips there are teeth and a dark pocket: once an expression opens eyes or mouth, the z-buffer shows what is behind.

One half of the head is built, on the right of the image, and then mirrored.
"""
from typing import NamedTuple

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter

EYE_X, EYE_Y, EYE_Z = 31.5, 32.0, 79.5          # the middle of the pupil of the eye on the right of the image
EYE_HALF = 14.3                                 # half the width of an eye, from the pupil to a corner
MOUTH_Y, MOUTH_HALF = -40.0, 25.5               # height and half the width of the mouth
WIDEST = 70.0                                   # half the width of a face; gives each column its nominal x

# Angles of the columns of one half, in degrees from the front: nose, eye, temple, ear, back of the head
ANGLES = np.concatenate([
    np.arange(9) * 1.47, np.linspace(13.2, 22.0, 7), np.linspace(23.0, 31.5, 11), np.linspace(32.8, 40.5, 6),
    np.linspace(42.5, 84.5, 11), np.linspace(88.5, 120, 10), [126, 136, 150, 165, 180]])

# Number of rows from each key curve to the next, from the crown to the neck; see `_key_curves`
ROWS = {"crown": 9, "hairline": 7, "brow": 5, "brow_end": 3, "crease": 3, "upper_lid": 12, "lower_lid": 3, "bag": 8,
        "nose": 11, "nose_end": 3, "upper_border": 4, "upper_lip": 7, "lower_lip": 4, "lower_border": 4, "chin": 7,
        "jaw": 9}
KEYS = list(ROWS)

# Sections of a bare head, without nose, lips and hair: y, half the width, how far to the front and to the back
SECTIONS = np.array([
    [-90, 50, 74, 52], [-84, 51, 82, 56], [-76, 53.5, 87, 60], [-66, 55.5, 88.5, 64], [-54, 58, 87.5, 70],
    [-40, 62, 90, 76], [-19, 65.5, 89, 85], [0, 68.5, 87.5, 92], [15, 70, 87, 96], [32, 70.5, 87.5, 98],
    [47, 71.5, 91.5, 99], [62, 73, 92, 98.5], [80, 74.5, 89, 96], [97, 73, 81.5, 90], [113, 67, 69, 79],
    [127, 56, 52, 63], [137, 43, 36.5, 46], [143, 29, 23, 30], [146, 14, 11, 14], [146.6, 3, 2.5, 3]])
NECK_HALF, NECK_Z, NECK_DEPTH, NECK_END = 48.0, -14.0, 48.0, -168.0     # its ellipse in x and z, and its lowest y

# Degrees from the front, and y of where hair begins, and of where the jaw ends
HAIRLINE = np.array([[0, 97], [14, 98.5], [28, 96], [40, 84], [50, 70], [60, 60], [70, 49], [76, 26], [81, 12],
                     [85, 20], [90, 46], [105, 50], [114, 38], [121, -8], [132, -62], [150, -84], [180, -90]])
JAW = np.array([[0, -84], [10, -84], [20, -82.5], [32, -78], [45, -70], [58, -59], [70, -46], [80, -32], [90, -24],
                [110, -24], [140, -32], [180, -36]])
# y, how far the nose stands out of the bare head, and half its width
NOSE = np.array([[46, 0, 9], [39, .2, 8], [33, 1.2, 7], [26, 5, 6.8], [17, 9.8, 7.4], [8, 14.2, 8.2], [0, 18.8, 9.3],
                 [-5, 21.8, 10.2], [-9, 23.2, 10.6], [-13, 22, 10.2], [-16, 17, 9.5], [-18, 9.5, 9],
                 [-20, 3, 9], [-23, 0, 9]])[::-1]
UPPER_LIP, LOWER_LIP = [0, 1.3, 2.3, 2.5, .9], [1.2, 3.2, 3.9, 3.0, .8]        # how far forward, from the top row down
# The rows behind the lips, from the upper lip to the lower one: y and z relative to the seam of the lips
POCKET = np.array([[1.8, -2.6], [1.4, -4.2], [-5.0, -4.6], [-5.6, -9], [-4, -19], [-2.2, -3.5]])


class Head(NamedTuple):
    """The mean head. V vertices lie in rows of N columns, from the front around; the last vertex is the crown."""
    points: np.ndarray          # [V, 3] millimetres
    triangles: np.ndarray       # [T, 3] int32, counter-clockwise seen from outside
    mirror: np.ndarray          # [V] index of the same vertex on the other half
    row: np.ndarray             # [V] counted from 0 at the crown; `first_row` tells those of key curves
    angle: np.ndarray           # [V] of the column, in degrees from the front, signed like x
    nominal_x: np.ndarray       # [V] of the column: x where the face is widest, the same from top to bottom
    hair: np.ndarray            # [V] 0..1, how much hair there is
    eyeball: np.ndarray         # [V] bool, whether the vertex is on an eyeball


def first_row(key):
    """Return the number of the row of a key curve, one of KEYS, counted from 0 at the crown."""
    return sum(ROWS[name] for name in KEYS[:KEYS.index(key)])


def _look_up(table, places, column=1):
    """Interpolate `column` of a `table` over the table's first column, at `places` [...] -> [...].

    The interpolation is monotone (Fritsch, Carlson 1980, "Monotone Piecewise Cubic Interpolation"), and constant beyond
    the table's ends.
    """
    return PchipInterpolator(table[:, 0], table[:, column])(np.clip(places, table[0, 0], table[-1, 0]))


def smooth_step(x, begin, end):
    """Rise smoothly from 0 at x = `begin` to 1 at x = `end`: 3 t^2 - 2 t^3, where t goes from 0 to 1."""
    t = np.clip((x - begin) / (end - begin), 0, 1)
    return t * t * (3 - 2 * t)


def bump(x, y, cx, cy, sx, sy):
    """Make Gaussian hills of height 1 on both halves of the face, at (±cx, cy), `sx` and `sy` wide.

    With cx = 0 there is one hill. `x` and `y` are arrays of one shape, which the result has too.
    """
    y_part = np.exp(-((y - cy) / sy) ** 2)
    if cx == 0:
        return np.exp(-(x / sx) ** 2) * y_part
    return (np.exp(-((x - cx) / sx) ** 2) + np.exp(-((x + cx) / sx) ** 2)) * y_part


def lens(t, power):
    """Make an arch over t = -1..1: (1 - t^2)^power, and 0 elsewhere."""
    return np.clip(1 - t * t, 0, None) ** power


def _key_curves(x, angle):
    """Compute y [16, N] of the key curves at columns of nominal `x` [N] >= 0 and `angle` [N] in degrees."""
    eye_x = (x - EYE_X) / EYE_HALF                                  # -1 and 1 at the corners of the eye
    tilt = 1.2 * np.clip(eye_x, -1, 1)
    away = smooth_step(np.abs(eye_x), 1, 2.6)                       # curves spread again beyond the eye's corners
    upper_arch = lens(eye_x - .08 * (1 - eye_x * eye_x), .62)       # highest a little outside of the pupil
    lower_arch = lens(eye_x + .06 * (1 - eye_x * eye_x), .62)
    upper_lid = EYE_Y + tilt + 5.6 * upper_arch + .15 + np.where(eye_x > 0, 8, 3) * away
    lower_lid = EYE_Y + tilt - 4.6 * lower_arch - .15 - np.where(eye_x > 0, 11, 4) * away
    brow = 47.8 + 4.4 * lens((x - 36) / 30, 1) - 2.5 * smooth_step(x, 40, 57) + 10 * smooth_step(x, 58, 70)
    mouth_x = x / MOUTH_HALF                                        # 1 at the corner of the mouth
    spread = smooth_step(x, MOUTH_HALF, 60)
    seam = MOUTH_Y + 1.6 * np.minimum(mouth_x, 1) ** 2 - .6 * np.exp(-(x / 6) ** 2) + .3 * bump(x, 0, 10, 0, 6, 1)
    upper_lip = seam + .25 * lens(mouth_x, .5) + .1 + 2 * spread
    lower_lip = seam - .25 * lens(mouth_x, .5) - .1 - 2 * spread
    upper_border = upper_lip + 6.9 * lens(mouth_x, .85) - 1.5 * np.exp(-(x / 3.2) ** 2) + .35 + 4 * spread
    lower_border = lower_lip - 8.6 * lens(mouth_x, .62) - .35 - 4 * spread
    level = np.ones_like(x)
    curves = [147 * level, np.maximum(_look_up(HAIRLINE, angle), 84), brow + 4, brow - 4.6,
              upper_lid + 3.6 + .6 * np.exp(-eye_x * eye_x), upper_lid, lower_lid, lower_lid - 5,
              -2 * level, -22 * level, upper_border, upper_lip, lower_lip, lower_border,
              -58 * level, _look_up(JAW, angle)]
    lower = np.array(curves[8:15])
    curves[8:15] = 5 + (lower - 5) * (5 - curves[15]) / (5 + 84)    # towards the ears the jaw rises, and these rows too
    return np.array(curves)


def _row_heights(x, angle):
    """Compute y [R, N] of the rows from the crown to the jaw, which is the last of them.

    `x` [N] is the nominal x, `angle` [N] the angle of columns.
    """
    keys = _key_curves(x, angle)
    rows = []
    for index, count in enumerate(list(ROWS.values())[:-1]):
        fraction = np.arange(count)[:, None] / count
        if index == 0:                                              # crown: equal steps along the round skull
            fraction = (1 - np.cos(np.pi / 2 * (fraction + .12) / 1.12)) / (1 - np.cos(np.pi / 2))
        rows.append(keys[index] + fraction * (keys[index + 1] - keys[index]))
    return np.concatenate([*rows, keys[-1:]])


def _bare_head(y, angle):
    """Compute x and z of the bare head at heights `y` and at angles in degrees.

    Horizontal sections of the bare head are superellipses.
    """
    half, front, back = (_look_up(SECTIONS, y, column) for column in (1, 2, 3))
    sine, cosine = np.sin(np.radians(angle)), np.cos(np.radians(angle))
    power = 2.25 - .35 * smooth_step(-y, -60, 80)                   # squarer skull, rounder jaw
    stretch = (np.abs(sine) ** power + np.abs(cosine) ** power) ** (-1 / power)
    return half * sine * stretch, np.where(cosine > 0, front, back) * cosine * stretch


def _relief(x, y):
    """Compute how far the face stands out of the bare head at (x, y). Eyes and lips come later."""
    across_nose = x / _look_up(NOSE, y, 2)
    nose = _look_up(NOSE, y, 1) * np.exp(-.85 * np.abs(across_nose) ** 2.2)
    wings = 9.5 * bump(x, y, 12.2, -12.5, 4.2, 5.2) - 1.6 * bump(x, y, 20.5, -12, 2.6, 6)
    nostrils = -5.5 * bump(x, y, 6.0, -17.6, 2.6, 1.9)
    fold = 21 + .3 * (-14 - y)                                      # nasolabial
    folds = -.9 * (np.exp(-((np.abs(x) - fold) / 3) ** 2) * smooth_step(-y, 10, 18) * (1 - smooth_step(-y, 36, 48)))
    return (nose + wings + nostrils + folds
            + 2.6 * bump(x, y, 20, 47.5, 17, 6) - .8 * bump(x, y, 0, 47, 7, 6)      # brows, glabella
            - 6.5 * bump(x, y, 17.5, 34, 8, 8) - 2.5 * bump(x, y, 36, 39, 12, 6)    # sockets
            + 3.4 * bump(x, y, 44, 4, 13, 13) + 1.5 * bump(x, y, 26, 4, 13, 12)     # cheeks
            - 2.6 * bump(x, y, 46, -34, 12, 17)                     # hollow of the cheek
            + 3.2 * bump(x, y, 0, -37, 24, 14) - .8 * bump(x, y, 0, -26, 2.6, 4)    # muzzle, philtrum
            + .5 * bump(x, y, 5, -27, 2.6, 5) - 2.6 * bump(x, y, 0, -56, 17, 4.5)   # fold over the chin
            + 4.5 * bump(x, y, 0, -70, 16, 9) - .3 * bump(x, y, 0, -73, 5, 6)       # chin
            + 1.6 * bump(x, y, 26, 70, 24, 17))                     # forehead


def _eyeball(x, y, radius):
    """Compute z of an eyeball at (x, y), and the distance of (x, y) from the pupil.

    The distance is about 1 at the rim of the socket. A lid lies on an eyeball of a larger `radius`. The eyeball is the
    one on the same half of the face as x.
    """
    dx, dy = np.abs(x) - EYE_X, y - EYE_Y
    inside = 1 - (dx / (radius + 5.2)) ** 2 - (dy / (radius + 1)) ** 2
    return EYE_Z - 12 + radius * np.sqrt(np.clip(inside, .02, None)) - .36 * dx, np.hypot(dx / 20, dy / 12.5)


def _half_head():
    """Build half a head -> (points [R, N, 3] of the columns of ANGLES, their nominal x [N]).

    Rows go from the crown to the end of the neck.
    """
    nominal_x = WIDEST * np.where(ANGLES < 90, np.sin(np.radians(ANGLES)), 1)
    y = _row_heights(nominal_x, ANGLES)
    x, z = _bare_head(y, ANGLES)
    front = smooth_step(np.cos(np.radians(ANGLES)), 0, .5)
    z = z + _relief(x, y) * front
    y, z = _form_eyes(nominal_x, x, y, z)
    y, z = _form_mouth(nominal_x, x, y, z)
    x, y, z = _add_ears(x, y, z)
    return _add_neck(x, y, z), nominal_x


def _form_eyes(nominal_x, x, y, z):
    """Lay the lids on a ball, and let the eyeball go on behind the lids -> new y and z [R, N]."""
    upper, lower = first_row("upper_lid"), first_row("lower_lid")
    lids, distance = _eyeball(x, y, 13.4)
    weight = smooth_step(66 - nominal_x, 0, 6) / (1 + distance ** 9)
    lid_depth = z + weight * (lids - z)
    crease = first_row("crease")
    lid_depth[crease] -= 1.1 * lens((nominal_x - EYE_X) / 19, .5)
    inside = lens((nominal_x - EYE_X) / EYE_HALF, .3) * (nominal_x < 60)
    y, ball = y.copy(), slice(upper + 1, lower)
    fraction = np.linspace(0, 1, lower - upper - 1)[:, None]
    top, bottom = y[upper] + 1.8 * inside, y[lower] - 1.6 * inside
    y[ball] += inside * (top + fraction * (bottom - top) - y[ball])
    depth, _ = _eyeball(x[ball], y[ball], 12.0)
    lid_depth[ball] += np.sqrt(inside) * (depth - lid_depth[ball])
    return y, lid_depth


def _form_mouth(nominal_x, x, y, z):
    """Swell the lips, and put teeth and a pocket behind the lips -> new y and z [R, N]."""
    full = lens(nominal_x / MOUTH_HALF, .5)
    y, z = y.copy(), z.copy()
    for key, forward in ("upper_border", UPPER_LIP), ("lower_lip", LOWER_LIP):
        z[first_row(key):first_row(key) + 5] += np.array(forward)[:, None] * full
    upper, lower = first_row("upper_lip"), first_row("lower_lip")
    z_seam = (z[upper] + z[lower]) / 2
    y_seam = (y[upper] + y[lower]) / 2
    inside = slice(upper + 1, lower)
    within = lens(nominal_x / (MOUTH_HALF - 1), .35)
    y[inside] += within * (y_seam + POCKET[:, :1] - y[inside])
    z[inside] += within * (z_seam + POCKET[:, 1:] - z[inside])
    return y, z


def _add_ears(x, y, z):
    """Pull an ear out of the half head -> new x, y and z [R, N].

    The ear is attached in front and stands off behind, with a rim and a hollow.
    """
    along = z + 4 - .18 * (y - 10)                                  # to the front, along the slanted ear
    radius = np.sqrt((along / 17.5) ** 2 + ((y - 12) / np.where(y > 12, 32, 30)) ** 2)      # 1 at the outline
    inside = smooth_step(1 - radius, -.04, .4)
    behind = smooth_step(-along, -15, 12)
    rim = np.exp(-((radius - .66) / .18) ** 2) * smooth_step(behind, .05, .5)
    hollow = np.exp(-(((along - 1) / 6.5) ** 2 + ((y - 7) / 9) ** 2))
    out = inside * (1.5 + 13.5 * behind + 2.6 * rim - 7 * hollow)
    out, back = gaussian_filter(np.stack([out, 7 * inside * behind]), (0, 2.2, .7))
    return x + out, y, z - back


def _add_neck(x, y, z):
    """Add rows from the jaw to the end of the neck, inward first and then down -> points [R, N, 3]."""
    sine, cosine = np.sin(np.radians(ANGLES)), np.cos(np.radians(ANGLES))
    fraction = np.arange(1, ROWS["jaw"] + 1)[:, None] / ROWS["jaw"]
    inward, down = 1 - (1 - fraction) ** 2.6, fraction ** 1.35
    flare = 1 + .4 * fraction ** 4
    x_neck, z_neck = NECK_HALF * sine * flare, NECK_Z + NECK_DEPTH * cosine * flare
    rows = np.stack([x[-1] + inward * (x_neck - x[-1]), y[-1] + down * (NECK_END - y[-1]),
                     z[-1] + inward * (z_neck - z[-1])], -1)
    return np.concatenate([np.stack([x, y, z], -1), rows])


def _landmark_vertices(points, mirror, columns):
    """Find the vertices [68] of iBUG's landmarks (Sagonas et al. 2013, "300 Faces in-the-Wild Challenge").

    `points` are [V, 3], of `columns` columns. The order is jaw, brows, nose, eyes, mouth, each from the left of the
    image.
    """
    def near(key, x, offset=0):
        """Find the vertex on the right half whose x is nearest, `offset` rows below a key curve."""
        first = (first_row(key) + offset) * columns
        return first + np.abs(points[first:first + np.searchsorted(ANGLES, 90), 0] - x).argmin()

    def at_angle(key, degrees):
        """Find the vertex of a key curve on the right half at an angle from the front."""
        return first_row(key) * columns + np.abs(ANGLES - degrees).argmin()

    def mid_face(x, y):
        """Find the vertex of the right half's front that is nearest to (x, y)."""
        half = np.flatnonzero((points[:, 0] >= -1e-6) & (points[:, 2] > 40))
        return half[np.hypot(points[half, 0] - x, points[half, 1] - y).argmin()]

    jaw = [*(at_angle(key, 80) for key in ("lower_lid", "nose", "nose_end")), at_angle("chin", 78),
           *(at_angle("jaw", degrees) for degrees in (60, 45, 30, 15, 0))]
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

    def both_halves(right):
        """Order vertices from the left of the image to its right; `right` goes from outside to the midline."""
        return [*map(left, right), *right[-2::-1]]

    eyes = [*map(left, eye), eye[3], eye[2], eye[1], eye[0], eye[5], eye[4]]
    mouth = [*both_halves(top), *bottom, *map(left, bottom[-2::-1])]
    inner = [*both_halves(upper), *lower, left(lower[0])]
    return np.array([*both_halves(jaw), *map(left, brow), *brow[::-1], *bridge, *both_halves(base), *eyes, *mouth,
                     *inner], np.int32)


def build_head():
    """Build the mean head -> (Head, its landmarks: int32 [68] vertices in iBUG's order)."""
    half, half_x = _half_head()
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
    triangles = np.concatenate([_split_quads(*quads, np.tile(angle >= 0, rows - 1)), crown]).astype(np.int32)
    points = np.concatenate([points.reshape(-1, 3), [[0, 147, 0]]])
    angles = np.append(np.tile(angle, rows), 0.0)
    hair = _hair_mask(points, angles)
    row = np.append(np.repeat(np.arange(rows), columns), 0)
    nominal_x = np.append(np.tile(half_x[column] * np.sign(angle), rows), 0.0)
    between_lids = (row > first_row("upper_lid")) & (row < first_row("lower_lid"))
    eyeball = between_lids & (np.abs(np.abs(nominal_x) - EYE_X) < EYE_HALF)
    landmarks = _landmark_vertices(points, mirror, columns)
    points = points + _hair_thickness(points, hair)
    return Head(points, triangles, mirror, row, angles, nominal_x, hair, eyeball), landmarks


def _split_quads(first, second, third, fourth, one_way):
    """Split quadrangles, whose corners are counter-clockwise, in two -> triangles [2 Q, 3].

    The diagonal goes from the first corner to the third where `one_way` is true, else from the second to the fourth.
    """
    one = np.where(one_way, [first, second, third], [first, second, fourth])
    other = np.where(one_way, [first, third, fourth], [second, third, fourth])
    return np.concatenate([one, other], 1).T


def _hair_mask(points, angle):
    """Compute how much hair there is at `points` [V, 3] of columns at `angle` [V] -> [V] in 0..1."""
    softness = 1.6 + 2 * smooth_step(np.abs(angle), 30, 80)         # columns lie wider apart at the sides
    return 1 / (1 + np.exp(-(points[:, 1] - _look_up(HAIRLINE, np.abs(angle))) / softness))


def _hair_thickness(points, hair):
    """Compute how far `hair` [V] lifts `points` [V, 3] -> displacements [V, 3].

    Displacements point outward from the middle of the skull. The largest are on top of the skull, the smallest on the
    neck.
    """
    outward = points - [0, 45, -5]
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    return outward * (hair * (3 + 7 * smooth_step(points[:, 1], 20, 120)))[:, None]
