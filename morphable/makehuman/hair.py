"""Hair and beards of MakeHuman's head: layers over the skin with holes between strands, and hair that hangs down.

A layer is a copy of the skin of the skull, or of the jaw, that is lifted by a share of the hair's height. The atlas
holds how high hair stands at each texel; a layer has holes where that is lower than the layer. So hair lines are made
of strands, and are drawn for each person. Long hair hangs from the skull in two sheets. Lengths are millimetres.
"""
from typing import NamedTuple

import numpy as np

from morphable.makehuman.mesh import AXIS_Z, BLOCKS
from morphable.makehuman.people import BEARDS, CUTS
from morphable.makehuman.texture import (
    as_column,
    bump,
    hair_colour,
    join,
    noise,
    read,
    rest_positions,
    skin_tone,
    smooth_step,
)

# The hair line of the mean: height over the angle about a vertical axis, in degrees from the front
LINE_ANGLES = np.array([0, 14, 25, 34, 43, 52, 60, 68, 73, 77, 81, 86, 93, 100, 108, 114, 120, 132, 150, 180.0])
LINE_HEIGHTS = np.array([93, 95, 96, 92, 81, 68, 56, 42, 22, 12, 24, 42, 50, 46, 36, 8, -26, -58, -72, -76.0])
LINE_AXIS = -5.0                    # z of that axis
CENTRE, CROWN = np.array([0, 25, -5.0]), np.array([0, .94, -.342])      # what the hair's block is unrolled about
WIDEST_ANGLE = np.radians(128)      # from the crown, at the rim of the block
WHORL = np.array([6, 138, -40.0])   # where hair thins first
LAYERS = (.12, .66), (.38, .78), (.64, .9), (.86, 1.0)      # share of the hair's height, and how bright it is there
BEARD_LAYERS = (.1, .62), (.42, .82), (.75, 1.0)
BEARD_BOX = 60.0, 278.0, 520.0, 258.0       # left, top, width and height of the beard's block within the skin's
SHEETS = (.22, .55)                 # thresholds of long hair, inner and outer sheet
SHEET_ANGLES, SHEET_ROWS = 73, 22
PATTERNS = "radial", "side", "back", "curls", "fine"


class Kit(NamedTuple):
    """What the hair of all people is made of."""
    skull: np.ndarray           # [n] vertices of the head under hair
    triangles: np.ndarray       # [t, 3] of them, numbered within `skull`
    texels: np.ndarray          # [t, 3, 2]
    jaw: np.ndarray             # [m] vertices of the head under a beard
    jaw_triangles: np.ndarray   # [u, 3]
    jaw_texels: np.ndarray      # [u, 3, 2]
    rest: np.ndarray            # [V, 3] the mean head
    positions: np.ndarray       # [h, w, 3] of the mean's skin at the texels of the hair's block
    patterns: np.ndarray        # [5, h, w] noise along strands, for PATTERNS
    beard: np.ndarray           # [h, w, 2] of the beard's block: how much beard there is, noise
    beard_places: np.ndarray    # [h, w, 3] of the mean's skin at the texels of the beard's block
    sheet: np.ndarray           # [h, w, 2] noise of long hair: along strands, and how long each is


class Dress(NamedTuple):
    """The hair of one person, to be added to the head."""
    points: np.ndarray          # [n, 3]
    follow: np.ndarray          # [n] vertices of the head whose motions they follow; -1: none
    triangles: np.ndarray       # [t, 3], numbered from 0
    texels: np.ndarray          # [t, 3, 2]
    thresholds: np.ndarray      # [t]
    shade: np.ndarray           # [n]
    flat: int                   # triangles from this one on are seen from both sides


# Once

def build(mesh, rest, masks, positions):
    """Build the Kit of a HeadMesh whose mean has the points `rest` [V, 3].

    `masks` and `positions` are those of the skin's block.
    """
    skin = (mesh.part == 0) & (mesh.inner[mesh.triangles].max(axis=1) < .1)
    distance, _ = line_distance(rest)
    ear = (np.abs(rest[:, 0]) > 68) & (rest[:, 1] < 45) & (rest[:, 2] > -32) & (distance < 25)
    hairy = (distance > -30) & ~ear & (rest[:, 1] > -110)
    skull, triangles, chosen = _cut_out(mesh, skin & hairy[mesh.triangles].all(axis=1))
    texels = disc(rest)[mesh.triangles[chosen]]
    places, _ = rest_positions(mesh, rest, ("hair", chosen), texels)
    patterns = np.stack([_strands(places, pattern) for pattern in PATTERNS]).astype(np.float16)
    zone = (rest[:, 1] < 18) & (rest[:, 1] > -112) & (rest[:, 2] > -12) & (np.abs(rest[:, 0]) < 84)
    jaw, jaw_triangles, at_jaw = _cut_out(mesh, skin & zone[mesh.triangles].all(axis=1))
    left, top, width, height = BEARD_BOX
    block = BLOCKS["beard"]
    scale = np.array([block[2] / width, block[3] / height])
    jaw_texels = np.clip((mesh.texels[at_jaw] - [left, top]) * scale, .5, [block[2] - 1, block[3] - 1]) + block[:2]
    row, column = np.mgrid[:block[3], :block[2]] + .5
    row, column = (np.clip(a, 0, 639).astype(int) for a in (row / scale[1] + top, column / scale[0] + left))
    beard_places = positions[row, column]
    hairs = noise(beard_places.reshape(-1, 3) * [1, .3, 1], 1.8, 31).reshape(row.shape)
    beard = np.stack([masks["beard"][row, column], hairs], -1)
    _, _, width, height = BLOCKS["long_hair"]
    down, across = np.mgrid[:height, :width].astype(np.float32)
    sheet = np.stack([np.column_stack([across.ravel() * .66, down.ravel() * size, 0 * down.ravel()])
                      for size in (.05, .0)])
    sheet = np.stack([.6 * noise(sheet[0], 2.2, 33, 1) + .6 * noise(sheet[0], 8, 34, 1),
                      noise(sheet[1], 5, 35, 2)], -1).reshape(height, width, 2)
    return Kit(skull, triangles, texels.astype(np.float32), jaw, jaw_triangles, jaw_texels.astype(np.float32), rest,
               places.astype(np.float32), patterns, beard.astype(np.float16), beard_places.astype(np.float32),
               sheet.astype(np.float16))


def _cut_out(mesh, which):
    """Take the triangles `which` [T] of a mesh -> (their vertices, triangles numbered within them, indices)."""
    chosen = np.flatnonzero(which)
    vertices, local = np.unique(mesh.triangles[chosen], return_inverse=True)
    return vertices, local.reshape(-1, 3).astype(np.int32), chosen


def angle_of(points):
    """Find angles about the vertical axis, in degrees from the front, both sides alike."""
    return np.degrees(np.arctan2(np.abs(points[..., 0]), points[..., 2] - LINE_AXIS))


def line_distance(points):
    """Find how far `points` [..., 3] lie within the mean's hair line, and their angles."""
    angle = angle_of(points)
    line = np.interp(angle, LINE_ANGLES, LINE_HEIGHTS)
    slope = (np.interp(angle + 2, LINE_ANGLES, LINE_HEIGHTS) - np.interp(angle - 2, LINE_ANGLES, LINE_HEIGHTS)) / 4
    return (points[..., 1] - line) / np.sqrt(1 + (slope / 1.4) ** 2), angle


def disc(points):
    """Find where `points` [..., 3] lie in the hair's block, unrolled about the crown -> [..., 2]."""
    left, top, width, height = BLOCKS["hair"]
    ray = points - CENTRE
    ray = ray / np.linalg.norm(ray, axis=-1, keepdims=True)
    side = np.cross(CROWN, [1, 0, 0])
    polar = np.arccos(np.clip(ray @ CROWN, -1, 1)) / WIDEST_ANGLE
    around = np.arctan2(ray @ side, ray[..., 0])
    radius = np.minimum(polar, .998)
    return np.stack([left + width / 2 * (1 + radius * np.cos(around)),
                     top + height / 2 * (1 + radius * np.sin(around))], -1)


def _strands(places, pattern):
    """Make noise that is stretched along the strands of a cut -> [h, w] of about unit variance."""
    ray = places.reshape(-1, 3) - CENTRE
    if pattern in ("curls", "fine"):
        length = 5.5 if pattern == "curls" else 1.5
        return noise(places.reshape(-1, 3), length, 41 + len(pattern), 2).reshape(places.shape[:2])
    if pattern == "radial":
        rest = ray - [6, 0, -8]
        around = np.arctan2(rest[:, 0], rest[:, 2])
        across = np.column_stack([np.cos(around), np.sin(around), np.linalg.norm(rest, axis=1) * .0012]) * 90
    elif pattern == "side":
        over = np.arctan2(ray[:, 1], ray[:, 0])
        across = np.column_stack([ray[:, 2] + 9 * np.cos(over), over * 5, 0 * over])
    else:
        over = np.arctan2(ray[:, 1], ray[:, 2])
        across = np.column_stack([ray[:, 0] * 1.0 + 4 * np.sin(over * 2), over * 5, 0 * over])
    return (.75 * noise(across, 2.0, 51, 1) + .65 * noise(across, 6.5, 52, 1)).reshape(places.shape[:2])


# For each person

def reach(places, person):
    """Find how far `places` [..., 3] of the mean's skin lie within a person's hair line."""
    distance, angle = line_distance(places)
    temples = read(person, "temples")
    distance = distance - 2.2 * read(person, "line") - (2.2 * temples + 2.4 * max(0, temples - 1)) * \
        np.exp(-((angle - 36) / 15) ** 2)
    if CUTS[person.cut] in ("bob", "long", "parted", "short") and read(person, "fringe") > .45 and person.age < 62:
        depth = np.clip((read(person, "fringe") - .2) * 20, 0, 31)      # a fringe over the forehead
        distance = distance + depth * np.exp(-((angle / 46) ** 4))
    distance = np.where(angle > 62, distance + 1.6 * read(person, "side"), distance)
    if CUTS[person.cut] == "bald":
        distance = np.minimum(distance, 52 - places[..., 1] + 5 * np.cos(np.radians(angle * 2)))
    thin = read(person, "crown")
    if thin > -.5:
        from_whorl = np.linalg.norm(places - WHORL, axis=-1)
        distance = np.minimum(distance, from_whorl - 16 - 26 * thin)
    return distance


def heights(kit, person, inside):
    """Find how high a person's hair stands over each vertex of the skull, `inside` [n] the hair line -> [n]."""
    x, y, z = kit.rest[kit.skull].T
    cut, volume = CUTS[person.cut], read(person, "volume")
    top = smooth_step(y, 50, 125)
    full = {"bald": 1.2, "buzz": 1.6, "short": 5 + 7 * top, "parted": 7 + 9 * top, "curly": 15 + 10 * top,
            "swept": 5 + 12 * top, "bob": 10 + 6 * top, "long": 8 + 7 * top, "bun": 4.5 + 2 * top}[cut]
    full = full * (1 + .17 * np.clip(volume, -1.5, 2)) + 0 * y
    curl = read(person, "curl")
    waves = noise(kit.rest[kit.skull] + 60 * read(person, "phase"), 16, 61, 2)
    if cut == "curly":
        full = full * (.75 + .6 * curl) * (1 + .13 * waves)
    elif cut not in ("buzz", "bald", "bun"):
        full = full * (1 + (.08 + .08 * curl) * waves)
    if cut == "swept":
        full += (7 + 2 * volume) * bump(x, z, 0, 62, 46, 34) * top
    if cut == "parted":
        side = 24 if read(person, "phase") > .5 else -24
        full *= 1 - .65 * np.exp(-((x - side) / 6) ** 2) * smooth_step(z, -40, 20) * top
        full += 3.5 * np.sign(-side) * np.tanh(x / 25) * top
    if cut in ("bob", "long") and read(person, "fringe") <= .45:
        full *= 1 - .45 * np.exp(-((x - 14 * np.sign(read(person, "side"))) / 5) ** 2) * smooth_step(z, -40, 10)
    soft = 2.0 if cut in ("buzz", "bald") else 20.0
    return np.where(inside > 0, full * (1 - np.exp(-np.maximum(inside, 0) / soft)), .25 * inside) + .25


def paint_scalp(skin, positions, person):
    """Paint what shows of the scalp between hair on `skin` [5, n] at `positions` [n, 3], in place.

    Hair also casts a shade.
    """
    if CUTS[person.cut] == "bald" and read(person, "crown") < 0:
        strength = .28
    else:
        strength = .8
    here = np.flatnonzero(positions[:, 1] > -80)
    places = np.take(positions, here, 0)
    inside = reach(places, person)
    hairs = noise(places * [1, .5, 1], 1.6, 71, 1)
    cover = strength * smooth_step(inside + 3.2 * hairs, -4, 9)
    shade = 1 - (.2 if CUTS[person.cut] not in ("bald", "buzz") else .05) * smooth_step(inside, -15, 1)
    colour = .62 * hair_colour(person) + .16 * skin_tone(person)
    red, green, blue, gloss, _ = skin
    for plane, value in zip((red, green, blue), colour):
        plane[here] = plane[here] * shade * (1 - cover) + cover * value
    gloss[here] *= 1 - .8 * cover


def dress(kit, points, normals, person, worn=()):
    """Make the Dress of a Person whose head has `points` and `normals` [V, 3].

    `worn` are parts of what the person wears, as `_layers` makes them, with closed surfaces.
    """
    parts = list(worn)
    cut = CUTS[person.cut]
    if not (cut == "bald" and read(person, "crown") < 0):
        height = heights(kit, person, reach(kit.rest[kit.skull], person))
        skull = kit.skull, kit.triangles, kit.texels
        parts += _layers(points[kit.skull], normals[kit.skull] * height[:, None], skull, LAYERS)
    if BEARDS[person.beard] not in ("none", "stubble"):
        tall = 2.5 + 7 * read(person, "beard_length") ** 2
        height = tall * smooth_step(kit.rest[kit.jaw][:, 1], -15, -70) * .7 + .3 * tall + .3
        jaw = kit.jaw, kit.jaw_triangles, kit.jaw_texels
        parts += _layers(points[kit.jaw], normals[kit.jaw] * height[:, None], jaw, BEARD_LAYERS)
    flat = sum(len(part[2]) for part in parts)
    if cut in ("bob", "long"):
        parts += _sheets(kit, points, person)
    return _join(parts, flat)


def _layers(points, lift, surface, layers):
    """Lift copies of a part of the skin -> list of (points, follow, triangles, texels, threshold, shade).

    `surface` has the part's vertices, triangles and texels; `points` and `lift` [n, 3] are of its vertices.
    """
    vertices, triangles, texels = surface
    return [(points + share * lift, vertices, triangles, texels, share * .9, np.full(len(vertices), bright))
            for share, bright in layers]


def _join(parts, flat):
    """Join (points, follow, triangles, texels, threshold, shade) to a Dress."""
    first, numbers = 0, []
    for part in parts:
        numbers.append(part[2] + first)
        first += len(part[0])
    if not parts:
        return Dress(np.zeros([0, 3]), np.zeros(0, int), np.zeros([0, 3], np.int32), np.zeros([0, 3, 2], np.float32),
                     np.zeros(0, np.float32), np.zeros(0), 0)
    return Dress(*(np.concatenate([part[index] for part in parts]) for index in (0, 1)), np.concatenate(numbers),
                 np.concatenate([part[3] for part in parts]),
                 np.concatenate([np.full(len(part[2]), part[4], np.float32) for part in parts]),
                 np.concatenate([part[5] for part in parts]), flat)


def _pattern(kit, person, texels):
    """Choose the noise along the strands of a person's cut, at `texels` [n] of the hair's block -> [n]."""
    cut, curl = CUTS[person.cut], read(person, "curl")
    name = {"buzz": "fine", "bald": "fine", "curly": "curls", "parted": "side", "swept": "back", "bun": "back",
            "bob": "side", "long": "side"}.get(cut, "radial")
    strands = np.take(kit.patterns[PATTERNS.index(name)], texels).astype(np.float32)
    if name not in ("fine", "curls") and curl > .3:
        strands = (1 - .6 * curl) * strands + .6 * curl * np.take(kit.patterns[PATTERNS.index("curls")], texels)
    return strands


def paint_hair(kit, person, texels):
    """Paint `texels` [n] of the hair's block -> float32 [5, n]: colour along strands, and how high hair stands."""
    strands, inside = _pattern(kit, person, texels), reach(np.take(kit.positions.reshape(-1, 3), texels, 0), person)
    ragged = 4.5 if CUTS[person.cut] not in ("buzz", "bald") else 1.5
    tall = smooth_step(inside + ragged * strands, -.5, 9) * np.clip(.8 + .24 * strands, .2, 1.1)
    grey = read(person, "grey")
    salt = 1 + (.15 + .12 * grey * (1 - grey) * 4) * strands
    gloss = (.5 + .25 * strands) * (.45 if CUTS[person.cut] in ("curly", "buzz", "bald") else 1)
    return join(np.clip(as_column(hair_colour(person)) * salt, 0, 255), gloss, tall)


def paint_beard(kit, person, texels):
    """Paint `texels` [n] of the beard's block -> float32 [5, n]."""
    x, y, _ = np.take(kit.beard_places.reshape(-1, 3), texels, 0).T
    x = np.abs(x)
    zone, hairs = np.take(kit.beard.reshape(-1, 2), texels, 0).astype(np.float32).T
    lip = smooth_step(x, 34, 26) * smooth_step(y, -50, -44)
    chin = smooth_step(x, 32, 22) * smooth_step(y, -45, -53)
    round_ = smooth_step(x, 36, 28) * smooth_step(x, 22, 27)
    kind = BEARDS[person.beard]
    if kind == "moustache":
        zone = zone * lip
    elif kind == "goatee":
        zone = zone * np.maximum(np.maximum(lip, chin), round_ * smooth_step(y, -76, -66))
    tall = smooth_step(zone + .12 * hairs, .12, .7) * smooth_step(zone, .04, .2) * np.clip(.78 + .25 * hairs, 0, 1.1)
    colour = .9 * hair_colour(person) + read(person, "grey") * 8 + np.array([8, 2, 0])
    return join(np.clip(as_column(colour) * (1 + .2 * hairs), 0, 255), .3, tall)


def paint_sheet(kit, person, texels):
    """Paint `texels` [n] of the block of long hair -> float32 [5, n]: strands run down, each of another length."""
    _, _, width, height = BLOCKS["long_hair"]
    strands, lengths = np.take(kit.sheet.reshape(-1, 2), texels, 0).astype(np.float32).T
    down = np.linspace(0, 1, height)[texels // width]
    ends = smooth_step(down + .05 * lengths + .02 * strands, 1.0, .9)
    across = np.linspace(-1, 1, width)[texels % width]
    rim = smooth_step(np.abs(across) + .02 * strands, 1.0, .95)
    colours = np.clip(as_column(hair_colour(person)) * (1 + .2 * strands), 0, 255)
    return join(colours, .7 + .3 * strands, ends * rim * np.clip(.72 + .3 * strands, 0, 1))


def _sheets(kit, points, person):
    """Hang two sheets of long hair from the skull -> list as `_layers` makes."""
    cut, curl = CUTS[person.cut], read(person, "curl")
    bottom = (-64 - 10 * read(person, "length")) if cut == "bob" else (-175 - 14 * read(person, "length"))
    bottom = float(np.clip(bottom, -225, -45))
    front = 63 - 3 * np.clip(read(person, "side"), -1.5, 1.5)
    angle = np.linspace(front, 360 - front, SHEET_ANGLES)
    rows = np.linspace(0, 1, SHEET_ROWS)
    y = 92 + (bottom - 92) * rows
    radius = _radii(points, angle, y)
    left, top, width, height = BLOCKS["long_hair"]
    texel_x, texel_y = np.meshgrid(left + 1 + np.linspace(0, 1, SHEET_ANGLES) * (width - 3),
                                   top + 1 + rows * (height - 3))
    number = np.arange(SHEET_ANGLES * SHEET_ROWS).reshape(SHEET_ROWS, SHEET_ANGLES)
    a, b, c, d = number[:-1, :-1].ravel(), number[1:, :-1].ravel(), number[1:, 1:].ravel(), number[:-1, 1:].ravel()
    triangles = np.concatenate([np.stack([a, b, c], -1), np.stack([a, c, d], -1)]).astype(np.int32)
    texels = np.stack([texel_x, texel_y], -1).reshape(-1, 2)[triangles].astype(np.float32)
    sheets = []
    for index, threshold in enumerate(SHEETS):
        lift = (4.5 + 5 * index + 2 * np.clip(read(person, "volume"), -1, 2)) * smooth_step(rows, 0, .16) - 2.5
        wave = (1.2 + 3.5 * curl) * np.sin(rows[:, None] * (14 + 10 * curl) + .06 * angle[None] * (1 + index) + index)
        out = radius + lift[:, None] + wave * smooth_step(rows, .15, .5)[:, None]
        if cut == "bob":
            out -= 9 * smooth_step(rows, .75, 1)[:, None]
        turn = np.radians(angle)[None] + .05 * np.sin(rows * 3)[:, None] * np.sign(180 - angle)[None] * -1
        sheet = np.stack([out * np.sin(turn), np.broadcast_to(y[:, None], out.shape),
                          out * np.cos(turn) + AXIS_Z - 8], -1).reshape(-1, 3)
        sheets.append((sheet, np.full(len(sheet), -1), triangles, texels, threshold,
                       np.full(len(sheet), (.62, .95)[index])))
    return sheets


def _radii(points, angle, heights_):
    """Find how far out hair hangs that lies on the skull and then falls straight -> [rows, angles]."""
    skin = points[points[:, 1] > -80]
    around = np.degrees(np.arctan2(skin[:, 0], skin[:, 2] - AXIS_Z + 8)) % 360
    out = np.hypot(skin[:, 0], skin[:, 2] - AXIS_Z + 8)
    table = np.zeros([len(heights_), 72])
    column = (around // 5).astype(int)
    row = np.clip(np.searchsorted(-heights_, -skin[:, 1]), 0, len(heights_) - 1)
    np.maximum.at(table, (row, column), out)
    table = np.maximum(table, np.maximum(np.roll(table, 1, 1), np.roll(table, -1, 1)))
    table = np.maximum.accumulate(table, axis=0)
    table = .25 * np.roll(table, 1, 1) + .5 * table + .25 * np.roll(table, -1, 1)
    table = np.apply_along_axis(lambda line: np.convolve(np.pad(line, 1, "edge"), [.25, .5, .25], "valid"), 0, table)
    place = angle / 5 - .5
    low = np.floor(place).astype(int)
    share = place - low
    found = table[:, low % 72] * (1 - share) + table[:, (low + 1) % 72] * share
    return found * (1 - .07 * smooth_step(heights_, -10, -120)[:, None])


