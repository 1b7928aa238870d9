"""Glasses for people of MakeHuman's head: rims before the eyes, a bridge over the nose, and temples to the ears.

They are tubes, laid before the skin of the person who wears them. There are no lenses. Lengths are millimetres.
"""
import numpy as np

from morphable.makehuman.mesh import BLOCKS
from morphable.makehuman.people import GLASSES

CURVE = .004                        # the front falls back by CURVE x^2
GAP, TILT = 1.0, .06                 # between frames and skin; how far rims fall back downwards
RIM_STEPS, AROUND = 26, 6           # points along a rim, and around a tube
# Half the width and half the height of a rim, how square it is (the power of a superellipse), thickness of the tube
FORMS = {"round": (23.5, 21.0, 2.0, 1.0), "square": (26.0, 17.5, 3.6, 1.7), "half-rim": (25.0, 16.5, 3.0, 1.2)}
COLOURS = np.array([[24, 22, 24], [58, 36, 26], [150, 138, 112], [120, 122, 128], [34, 40, 62.0]])


def make(points, eyes, person):
    """Make the glasses of a Person -> list of (points, follow, triangles, texels, threshold, shade), empty without.

    `points` [n, 3] are of the skin, `eyes` the centres [2, 3] of the eyeballs, of either side.
    """
    kind = GLASSES[person.glasses]
    if kind not in FORMS:
        return []
    wide, high, power, thick = FORMS[kind]
    middle = eyes.mean(axis=0)
    level, apart = middle[1] - 2, max(np.abs(eyes[:, 0] - middle[0]).mean(), wide + 5.5)
    near = (np.abs(points[:, 1] - level) < high) & (np.abs(points[:, 0]) > 13) & (np.abs(points[:, 0]) < apart + wide)
    front = (points[near, 2] + CURVE * points[near, 0] ** 2).max() + GAP + thick + TILT * high
    bridge_y = level + .35 * high
    nose = (np.abs(points[:, 0]) < 8) & (np.abs(points[:, 1] - bridge_y) < 3)
    top = max(points[nose, 2].max() + GAP, front - 4)
    temple = (np.abs(points[:, 1] - level - 6) < 9) & (points[:, 2] > 8) & (points[:, 2] < 60)
    side = np.abs(points[temple, 0]).max() + GAP
    tubes = []
    for sign in (-1, 1):
        turn = np.linspace(0, np.pi, RIM_STEPS) if kind == "half-rim" else np.linspace(0, 2 * np.pi, RIM_STEPS)
        across = np.sign(np.cos(turn)) * np.abs(np.cos(turn)) ** (2 / power)
        up = np.sign(np.sin(turn)) * np.abs(np.sin(turn)) ** (2 / power)
        x, y = sign * (apart + wide * across), level + high * up * np.where(up < 0, 1.08, 1)
        tubes.append((np.column_stack([x, y, front - CURVE * x ** 2 + TILT * (y - level)]), thick))
        outer = apart + wide
        ends = np.array([[outer, level + .45 * high, front - CURVE * outer ** 2], [side, level + 6, 38],
                         [side, level + 6, 0], [side - 1, level + 2, -12]])
        steps = np.linspace(0, 3, 10)
        temple_line = np.column_stack([np.interp(steps, range(4), ends[:, axis]) for axis in range(3)])
        tubes.append((temple_line * [sign, 1, 1], thick * .8))
    x = np.linspace(-1, 1, 7)
    inner = apart - wide
    depth = top + (front - CURVE * inner ** 2 - top) * x ** 2
    bridge = np.column_stack([x * inner, bridge_y + 2.5 * (1 - x ** 2), depth])
    tubes.append((bridge, thick))
    return [_tube(line + [middle[0], 0, 0], radius) for line, radius in tubes]


def colour(phase):
    """Choose the colour of the frames by `phase` in 0..1 -> rgb [3]."""
    return COLOURS[int(phase * 997) % len(COLOURS)]


def _tube(line, radius):
    """Make a tube about the points `line` [n, 3] -> (points, follow, triangles, texels, threshold, shade)."""
    along = np.gradient(line, axis=0)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    side = np.cross(along, [.05, .1, 1.0])
    side /= np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-9)
    over = np.cross(along, side)
    turn = np.linspace(0, 2 * np.pi, AROUND, endpoint=False)
    ring = np.cos(turn)[None, :, None] * side[:, None] + np.sin(turn)[None, :, None] * over[:, None]
    points = (line[:, None] + radius * ring).reshape(-1, 3)
    number = np.arange(len(points)).reshape(len(line), AROUND)
    a, b = number[:-1], number[1:]
    c, d = np.roll(b, -1, 1), np.roll(a, -1, 1)
    triangles = np.concatenate([np.stack([a, d, c], -1).reshape(-1, 3), np.stack([a, c, b], -1).reshape(-1, 3)])
    left, top, width, height = BLOCKS["glasses"]
    texels = np.full([len(triangles), 3, 2], [left + width / 2, top + height / 2], np.float32)
    return points, np.full(len(points), -1), triangles.astype(np.int32), texels, -1.0, np.ones(len(points))
