"""The skin, eyes, teeth and lips of MakeHuman's head, painted for each person on the atlas. NumPy and SciPy only.

Where features lie is found once on the mean head, at each texel of the skin's block. A person's traits then mix colours
with these masks: tone by origin, wrinkles and spots by age, stubble by sex. Lengths are millimetres.
"""
import functools

import numpy as np
from scipy import ndimage

from morphable import renderer
from morphable.makehuman.mesh import BLOCKS, EYE, EYE_RADIUS
from morphable.makehuman.people import TRAITS

# rgb of skin by melanin, from fair to dark
TONES = np.array([[222, 187, 169], [206, 167, 145], [180, 138, 112], [149, 110, 87], [115, 84, 67], [88, 64, 52.0]])
TONE_STEPS = np.array([0, .2, .42, .64, .84, 1])
IRISES = np.array([[112, 138, 158], [96, 118, 98], [112, 82, 48], [66, 42, 26], [44, 28, 19]], float)
IRIS_STEPS = np.array([0, .25, .5, .8, 1])
SEED = 77                           # of all patterns of the skin
# The middle line of the right half's brow: x and y, and half its width there
BROW_X = np.array([6.5, 12, 20, 30, 40, 50, 58, 64.0])
BROW_Y = np.array([49.0, 49.6, 50.7, 52.2, 53.2, 52.3, 49.0, 45.0])
BROW_HALF = np.array([1.6, 2.9, 3.2, 3.0, 2.6, 2.0, 1.3, .7])


def smooth_step(x, begin, end):
    """Rise smoothly from 0 at `begin` to 1 at `end`; `begin` may be the larger one."""
    t = np.clip((x - begin) / (end - begin), 0, 1)
    return t * t * (3 - 2 * t)


def bump(x, y, cx, cy, sx, sy):
    """Compute a round bump of height 1 about (cx, cy)."""
    return np.exp(-((x - cx) / sx) ** 2 - ((y - cy) / sy) ** 2)


def noise(points, length, seed, octaves=2):
    """Make noise of about unit variance at `points` [n, 3], with features of `length` millimetres -> float32 [n]."""
    total, norm = np.zeros(len(points), np.float32), 0
    for octave, grid in enumerate(_noise_grids(seed, octaves)):
        places = (points / (length * .5 ** octave)).T % 48
        total += .6 ** octave * ndimage.map_coordinates(grid, places, order=1, mode="grid-wrap")
        norm += .36 ** octave
    return total / np.float32(np.sqrt(norm))


@functools.lru_cache(maxsize=4)
def _noise_grids(seed, octaves):
    """Make the values that noise has at whole coordinates -> list of float32 [48, 48, 48]."""
    random, grids = np.random.default_rng([SEED, seed]), []
    for _ in range(octaves):
        grid = random.standard_normal([48, 48, 48]).astype(np.float32)
        grid = ndimage.gaussian_filter(grid, .7, mode="wrap")
        grids.append(grid / grid.std())
    return grids


# Once: where things lie on the mean head

def rest_positions(mesh, points, block, texels):
    """Find the point of the mean head at each texel of a block -> (positions [h, w, 3], values of `lips` [h, w]).

    `texels` [t, 3, 2] are the corners of the triangles `block` names, by their indices, on the atlas.
    """
    name, chosen = block
    left, top, width, height = BLOCKS[name]
    corners = points[mesh.triangles[chosen]].reshape(-1, 3)
    flat = texels.reshape(-1, 2) - [left, top] - .5
    depth = np.hypot(corners[:, 0], corners[:, 2]) if name == "skin" else np.linalg.norm(corners, axis=1)
    order = np.arange(len(flat)).reshape(-1, 3)
    pixels, owners, weights, sums = renderer.find_visible(np.column_stack([flat, depth]), order, height, width)
    shares = (weights / sums)[..., None]
    values = np.column_stack([corners, mesh.lips[mesh.triangles[chosen]].ravel()])
    found = np.zeros([height * width, 4])
    found[pixels] = (values[order[owners].T] * shares).sum(axis=0)
    missing = np.ones(height * width, bool)
    missing[pixels] = False
    nearest = ndimage.distance_transform_edt(missing.reshape(height, width), return_distances=False,
                                             return_indices=True)
    found = found.reshape(height, width, 4)[tuple(nearest)]
    return found[..., :3], found[..., 3]


def make_masks(positions, lips):
    """Compute where each feature of the skin lies -> {name: float32 [h, w]}."""
    x, y, z = np.moveaxis(positions, -1, 0)
    ax = np.abs(x)
    flat = positions.reshape(-1, 3)
    mirrored = np.abs(flat * [1, 0, 0]) + flat * [0, 1, 1]

    def pattern(length, seed, octaves=2, of=flat):
        return noise(of, length, seed, octaves).reshape(x.shape)

    front = smooth_step(z, 15, 50)
    ex, ey = ax - EYE[0], y - EYE[1]
    lid = np.sqrt(ex ** 2 + ey ** 2 + (z - EYE[2]) ** 2) - EYE_RADIUS          # off the eyeball
    near_eye = np.exp(-((ex / 19) ** 2 + ((ey - 1) / 13) ** 4)) * front
    upper, lower = smooth_step(ey, -1, 2), smooth_step(ey, 1, -3)
    lips = ndimage.gaussian_filter(lips, 1.2)
    beard = _beard_zone(x, y, z) * (1 - smooth_step(lips, .1, .5))
    waves = pattern(9, 1) * 1.4
    lines = np.sin((y + waves) * 2 * np.pi / 8.5)
    forehead = smooth_step(lines, .35, 1) * np.clip(.75 + .4 * pattern(16, 11), 0, 1.2)
    forehead *= smooth_step(y, 56, 64) * smooth_step(y, 96, 80) * np.exp(-(x / 42) ** 4)
    around = np.arctan2(ey + 2, np.maximum(ex + 6, 1))
    far = np.hypot(ex, ey)
    crow = smooth_step(np.sin(around * 19 + pattern(14, 2) * .5), .3, .95) * smooth_step(ex, 15, 20) * \
        smooth_step(far, 35, 22) * smooth_step(np.abs(around), .75, .45)
    fold_x = np.interp(y, [-52, -40, -26, -12, -4], [34, 33, 29, 22.5, 17])
    fold = np.exp(-((ax - fold_x) / 1.7) ** 2) * smooth_step(y, -52, -42) * smooth_step(y, -2, -10) * front
    bag = np.exp(-((ey + 14 - .008 * ex ** 2) / 1.6) ** 2) * smooth_step(np.abs(ex + 2), 17, 8) * front
    pouch = bump(ax, y, EYE[0] - 2, EYE[1] - 12, 13, 5) * front
    frown = np.exp(-((ax - 6.5 - .05 * (y - 50)) / 1.1) ** 2) * smooth_step(y, 42, 47) * smooth_step(y, 64, 56)
    mouth_line = np.exp(-((ax - 30 - .12 * (-52 - y)) / 1.4) ** 2)
    mouth_line *= smooth_step(y, -48, -54) * smooth_step(y, -76, -64)
    speckle = pattern(2.6, 3, 1)
    masks = dict(
        cheek=(bump(ax, y, 40, -2, 19, 17) + .8 * bump(x, y, 0, 2, 12, 12) + .35 * bump(x, y, 0, -76, 16, 10)) * front,
        eye=near_eye * (.45 + .55 * lower), beard=beard, lips=smooth_step(lips, .25, .75),
        lip_line=np.exp(-((lips - .5) / .22) ** 2), ear=smooth_step(ax, 70, 78) * (np.abs(y - 18) < 48),
        liner=np.maximum(smooth_step(lid, 1.8, .5) * upper * smooth_step(ex, 17, 11),
                         .3 * smooth_step(lid, 1.1, .3) * lower) * near_eye,
        crease=np.exp(-((lid - 4.6) / 1.1) ** 2) * smooth_step(ey, 2, 6) * near_eye,
        shadow=smooth_step(lid, 9, 2) * smooth_step(ey, 0, 5) * near_eye, bag=bag, pouch=pouch,
        wrinkle=forehead * .8 + crow * .8 + frown * .8 + fold * .9 + .55 * bag + .6 * mouth_line,
        fold=fold, pores=pattern(1.5, 4, 1) * front, mottle=pattern(7, 5), blotch=pattern(24, 6, 3),
        freckles=smooth_step(speckle, 1.1, 1.8) * (bump(ax, y, 30, 2, 30, 22) + bump(x, y, 0, 4, 22, 16)) * front,
        spots=smooth_step(pattern(7, 7, 2), 1.7, 2.3), stubble=np.clip(.75 + .5 * pattern(1.3, 8, 1), 0, 1.6) * beard,
        oil=(bump(x, y, 0, 72, 34, 18) + bump(x, y, 0, 12, 9, 26) + .6 * bump(ax, y, 36, 6, 12, 9)
             + .4 * bump(x, y, 0, -74, 12, 8)) * front,
        brow_noise=noise(np.column_stack([mirrored[:, 0] * .55 - mirrored[:, 1] * .25, mirrored[:, 1] * 1.6,
                                          mirrored[:, 2] * 0]), 2.1, 9, 1).reshape(x.shape))
    return {name: np.ascontiguousarray(mask, np.float32) for name, mask in masks.items()}


def _beard_zone(x, y, z):
    """Compute where a beard grows -> [h, w] in 0..1."""
    ax = np.abs(x)
    top = np.interp(ax, [0, 8, 22, 34, 46, 58, 66, 74], [-17.5, -18, -22.5, -33, -40, -33, -12, 12])
    zone = smooth_step(y, top + 3, top - 4) * smooth_step(y, -108, -88) * smooth_step(z, -12, 12)
    under_lip = bump(ax, y, 13, -54, 7, 4) * .5
    return np.clip(zone - under_lip, 0, 1) * smooth_step(ax, 82, 74)


# For each person

def read(person, name):
    """Read a trait of a Person by its name."""
    return person.traits[TRAITS.index(name)]


def skin_tone(person):
    """Find the colour of the skin -> rgb [3]."""
    tone = np.array([np.interp(read(person, "melanin"), TONE_STEPS, TONES[:, channel]) for channel in range(3)])
    return tone + read(person, "yellow") * np.array([0, 1.5, -5]) + read(person, "ruddy") * np.array([3, -3.5, -3])


def hair_colour(person):
    """Find the colour of the hair, with what is grey of it -> rgb [3]."""
    melanin, red, grey = (read(person, name) for name in ("hair_melanin", "hair_red", "grey"))
    steps = [0, .25, .5, .75, 1]
    tones = np.array([[196, 166, 118], [152, 116, 74], [98, 68, 44], [60, 44, 35], [40, 34, 32]], float)
    colour = np.array([np.interp(melanin, steps, tones[:, channel]) for channel in range(3)])
    colour = colour + red * np.array([26, -4, -16]) * (1 - .7 * melanin)
    return (1 - grey) * colour + grey * np.array([172, 170, 168])


def paint_skin(masks, positions, person):
    """Paint the skin of a Person at the texels of `masks` [n] and `positions` [n, 3] -> float32 [5, n]."""
    get = {name: read(person, name) for name in TRAITS}
    tone = skin_tone(person)
    fair = np.clip(tone.mean() / 160, .25, 1.2)
    old = np.clip(get["wrinkles"], 0, 1.3)
    factor = (1 + .016 * masks["pores"] + .014 * masks["mottle"] + (.022 + .015 * old) * masks["blotch"]
              - .05 * masks["fold"] - (.04 + .11 * old) * np.minimum(old, 1) * masks["wrinkle"]
              - .17 * masks["crease"] - .16 * get["bags"] * masks["bag"] - .07 * masks["eye"]
              - (.05 + .07 * get["bags"]) * masks["pouch"]
              - .30 * get["freckles"] * masks["freckles"] * .6 - .2 * get["spots"] * masks["spots"])
    skin = factor * as_column(tone.astype(np.float32))
    red = (.075 + .03 * get["blush"] + .02 * get["ruddy"]) * masks["cheek"]
    red += .07 * masks["ear"] + .012 * masks["blotch"]
    skin += fair * red * as_column(np.float32([70, -70, -62]))
    skin += fair * masks["eye"] * as_column(np.float32([-5, -8, -4]))
    shadow = .5 * get["shadow"] * masks["shadow"]
    skin += shadow * (as_column(np.float32([92, 66, 64])) - skin)
    stubble = np.clip(get["stubble"] * .48 * masks["stubble"] * smooth_step(get["grey"], 1.5, .2), 0, .8)
    skin += stubble * (as_column(.45 * tone + .35 * np.minimum(hair_colour(person), 90) - [0, 0, -6]) - skin)
    lip = tone * [.86, .64, .63] + [10, 4, 6] + get["lip_red"] * np.array([7, -9, -6]) * fair \
        - max(0, get["lip_dark"]) * np.array([14, 13, 11]) * fair
    lip = np.maximum(lip, [42, 22, 22])
    lip_factor = 1 + .04 * masks["pores"] - .10 * masks["lip_line"]
    skin += .88 * masks["lips"] * (lip_factor * as_column(lip) - skin)
    brows = _brows(masks, positions, get)
    brow_colour = np.minimum(.72 * hair_colour(person) + .06 * tone, [96, 84, 76])
    brow_colour *= 1 - .25 * np.clip(get["brow_dark"], -1, 1)
    skin += brows * (as_column(brow_colour) - skin)
    liner = np.clip((.25 + .6 * get["liner"]) * masks["liner"], 0, .92)
    skin += liner * (as_column(np.float32([30, 22, 20])) - skin)
    gloss = get["gloss"] * (.42 + .75 * masks["oil"] + .06 * masks["pores"]) * (1 - .3 * old)
    gloss = gloss * (1 - .75 * np.maximum(brows, .8 * stubble)) + masks["lips"] * .8
    return join(np.clip(skin, 0, 255), gloss, 1)


def as_column(colour):
    """Make a column of a `colour` [3] -> [3, 1], to go with the colours [3, n] of many texels."""
    return colour[:, None]


def join(colours, gloss, height):
    """Join `colours` [3, n], `gloss` and the `height` of hair, [n] or numbers, to texels -> float32 [5, n]."""
    texels = np.empty([5, colours.shape[1]], np.float32)
    texels[:3], texels[3], texels[4] = colours, gloss, height
    return texels


def _brows(masks, positions, get):
    """Compute how much of each texel is brow -> [n] in 0..1."""
    x, y = np.abs(positions[..., 0]), positions[..., 1]
    line = np.interp(x, BROW_X, BROW_Y).astype(np.float32) + .9 * get["brow_high"]
    line += get["brow_arch"] * 1.1 * (np.exp(-((x - 44) / 13) ** 2) - .35)
    half = np.interp(x, BROW_X, BROW_HALF).astype(np.float32) * (1 + .22 * np.clip(get["brow_thick"], -1.6, 1.8))
    across = np.abs(y - line) / half + .28 * masks["brow_noise"]
    ends = smooth_step(x, 6.5, 13) * smooth_step(x, 63, 53) * smooth_step(positions[..., 2], 25, 50)
    density = np.clip(.8 + .16 * get["brow_dark"] + .1 * get["brow_thick"], .35, .96)
    return density * ends * smooth_step(across, 1.35, .45) * np.clip(.86 + .22 * masks["brow_noise"], 0, 1)


def paint_eye(person, texels):
    """Paint `texels` [n] of an eyeball's block, seen from ahead -> float32 [5, n]."""
    _, _, width, height = BLOCKS["left_eye"]
    column, row = texels % width + .5, texels // width + .5
    x = (column - width / 2) / (width * .47) * EYE_RADIUS
    y = (height / 2 - row) / (height * .47) * EYE_RADIUS
    radius, around = np.hypot(x, y), np.arctan2(y, x)
    age = np.clip(person.age / 80, 0, 1)
    melanin, green = read(person, "eye_melanin"), read(person, "eye_green")
    sclera = np.array([222, 214, 208.0]) - age * np.array([10, 12, 22])
    sclera -= read(person, "melanin") * np.array([18, 22, 26])
    eye = as_column(sclera) * (1 - .22 * smooth_step(radius, 6, 15))
    melanin = np.clip(melanin - .25 * green * (melanin < .7), 0, 1)
    iris = np.array([np.interp(melanin, IRIS_STEPS, IRISES[:, channel]) for channel in range(3)])
    random = np.random.default_rng([SEED, 55])
    rays = sum(np.cos(around * count + random.uniform(0, 6)) for count in (7, 13, 19, 29)) / 4
    fibre = 1 + .22 * rays * smooth_step(radius, 2, 3.5) + .22 * smooth_step(radius, 4.6, 2.4)
    fibre -= .55 * smooth_step(radius, 4.7, 5.9)
    fibre = fibre * (1 - .28 * smooth_step(y, 0, 5)) + .12 * smooth_step(-y, 0, 4)
    eye += smooth_step(radius, 6.05, 5.55) * (fibre * as_column(iris) - eye)
    eye += smooth_step(radius, 2.45, 2.0) * (as_column(np.array([12, 10, 10])) - eye)
    eye *= 1 - .55 * smooth_step(y, 1.5, 6.5) - .15 * smooth_step(y, -4, -8)
    glint = smooth_step(np.hypot(x + 1.7, y - 2.0), 1.15, .55)
    eye += glint * (as_column(np.array([246, 246, 248])) - eye)
    return join(np.clip(eye, 0, 255), .5, 1)


def paint_teeth(person, name, texels):
    """Paint `texels` [n] of the block `name` of teeth, upper or lower ones -> float32 [5, n]."""
    _, _, width, height = BLOCKS[name]
    age = np.clip((person.age - 20) / 60, 0, 1)
    tooth = np.array([226, 216, 198.0]) - age * np.array([16, 22, 38])
    across, down = np.linspace(-1, 1, width)[texels % width], np.linspace(0, 1, height)[texels // width]
    gum = smooth_step(down, .34, .2) if name == "upper_teeth" else smooth_step(down, .66, .8)
    edge = np.abs((np.abs(across) * 6.5) % 1 - .5)
    gap = smooth_step(edge, .40, .5)
    colour = as_column(tooth) * (1 - .30 * gap - .35 * smooth_step(np.abs(across), .35, 1))
    colour += gum * (as_column(np.array([172, 98, 92])) - colour)
    return join(colour, .8, 1)


def plain_texels(person):
    """List the colour and gloss of each block that is all alike -> {name: rgb, gloss, height [5]}."""
    lash = np.array([28, 21, 19.0])
    return {"tongue": np.array([168, 88, 84, .5, 1]), "mouth": np.array([92, 38, 35, .1, 1]),
            "lashes": np.append(lash + (.12 + .3 * (1 - person.female)) * (.8 * skin_tone(person) - lash), [.05, 1])}


# How much of the surroundings each vertex sees

def occlusion(points, triangles, directions=80, size=320, reach=420.0):
    """Compute the share of light from all around that reaches each vertex of the mean head -> [V] in 0..1."""
    number = np.arange(directions) + .5
    height, turn = 1 - 2 * number / directions, np.pi * (1 + 5 ** .5) * number
    flat = np.sqrt(1 - height ** 2)
    lights = np.stack([flat * np.cos(turn), height, flat * np.sin(turn)], -1)
    a, b, c = np.moveaxis(points[triangles], 1, 0)
    normals = np.zeros_like(points)
    for corner in triangles.T:
        np.add.at(normals, corner, np.cross(b - a, c - a))
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    total, all_ = np.zeros(len(points)), np.zeros(len(points))
    for light in lights:
        facing = normals @ light
        weight = (.55 + .45 * np.maximum(light[1], 0) + .25 * np.maximum(light[2], 0)) * np.maximum(facing + .15, 0)
        side = np.cross([0, 1, .01], light)
        side /= np.linalg.norm(side)
        frame = np.stack([side, np.cross(light, side), light])
        turned = points @ frame.T
        screen = np.column_stack([(turned[:, :2] - [0, 0]) * size / reach + size / 2, turned[:, 2]])
        pixels, owners, weights, sums = renderer.find_visible(screen, triangles, size, size)
        depth = np.full(size * size, -1e9)
        depth[pixels] = (weights / sums * screen[triangles[owners].T, 2]).sum(axis=0)
        where = np.clip(np.rint(screen[:, :2]).astype(int), 0, size - 1)
        hidden = np.clip((depth[where[:, 1] * size + where[:, 0]] - screen[:, 2] - 5) / 3, 0, 1)
        total += weight * (1 - hidden)
        all_ += weight
    return total / np.maximum(all_, 1e-9)
