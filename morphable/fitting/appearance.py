"""Estimate light and skin of a person in photos, from the colours that vertices of the fitted shape have there.

Light is one directional and one ambient light, as `renderer.apply_light` has them. The texture is a sum of a model's
components, which all photos of a person share. Light and texture take turns.
"""
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from morphable import renderer
from morphable.fitting.correspondences import BROWS, OVAL

WINDOW, BLUR = 160, 1.45            # side in pixels of the face's picture that colours are taken from, and its blur
ROOM = 1.3                          # side of the window, by that of the face
DEEPER = .04                        # what lies so much deeper than what is seen is hidden; shares of the window's side
CELL, MOST = 2, 2500                # one vertex of each cell of so many pixels; vertices of a photo
FACING = .25                        # cosine of the angle to the viewer, at least
HAIR_LIKE = .7                      # of the skin's brightness: darker vertices are hair
RING = 1.15, 1.5                    # the oval is so much larger where hair is looked for
HAIR_SHARE = .15                    # how much a vertex of hair counts
LEAST_HAIR = 15                     # vertices that tell its colour
TEXTURES = 60
SIGMA = 14.0                        # deviation of a colour in 0..255, of which a photo has so many independent ones:
INDEPENDENT = 40                    # more would paint moustaches on skin and bleach lips
MOST_TEXTURE = 3.0                  # standard deviations
DARKER = 1.7                        # errors where the photo is darker than the model count more: hair, glasses
FIRM, LOOSE = 1.5, 4.0              # robust scale: so many times the median error, and levels
PRIOR = .003                        # of a directional light half as strong as the ambient one
# Ambient and half the directional light are about USUAL, the more surely in the first rounds: else light would explain
# all that skin differs. With 1 instead of USUAL, fair people come out tanned and the whites of their eyes glow.
USUAL, EXPOSED = .85, (3.0, 1.0, .1, .03, .01)
HEIGHTS, SIDES = np.radians(np.linspace(-30, 75, 5)), np.radians(np.linspace(-80, 80, 8))
REFINED = np.radians([12, 6, 3])
GLOSSES, HIGHLIGHT = (8.0, 20.0), 12.0      # exponents that are tried; deviation of a highlight, in levels
LUMA = np.array([.299, .587, .114])


class Samples(NamedTuple):
    """The colours of a face in a photo."""
    vertices: np.ndarray            # [n]
    colours: np.ndarray             # [n, 3] rgb in 0..255
    normals: np.ndarray             # [n, 3] in the frame of the head
    hair: np.ndarray                # [n] bool: seen around the face, perhaps hair
    lower: np.ndarray               # [n] bool: below the tip of the nose


class Tone(NamedTuple):
    """What `fit` finds."""
    texture: np.ndarray             # [n] standard deviations
    lights: list                    # Illum_Para [10] of each photo
    hair: np.ndarray | None         # rgb [3] of the hair without light; None where too little was seen


def take(picture, model, vertices, normals, view):
    """Take the colours of a face from a Pillow image -> Samples.

    `vertices` and `normals` [V, 3] are those of the fitted shape. `view` is the pair of Pose_Para and of the network's
    points [468, 2].
    """
    pose, points = view
    placed = renderer.project(vertices, pose, picture.height)
    box = _window(points)
    seen = renderer.points_in_box(placed, box, WINDOW, WINDOW)
    cut = _cut_out(picture, box)
    pixels, owners, weights, sums = renderer.find_visible(seen, model.triangles, WINDOW, WINDOW)
    depth = np.full(WINDOW * WINDOW, np.inf)
    depth[pixels] = (seen[model.triangles[owners].T, 2] * weights / sums).sum(axis=0)
    column, row = np.clip(np.rint(seen[:, :2]).astype(int), 0, WINDOW - 1).T
    inside = (np.abs(seen[:, :2] - (WINDOW - 1) / 2) < WINDOW / 2 - 1).all(axis=1)
    facing = normals @ renderer.rotation_matrix(*pose[:3])[2]
    tolerance = DEEPER * (box[2] - box[0])
    visible = inside & (facing > FACING) & (placed[:, 2] > depth[row * WINDOW + column] - tolerance)
    frame = renderer.points_in_box(np.column_stack([points, np.zeros(len(points))]), box, WINDOW, WINDOW)[:, :2]
    oval, brow = frame[OVAL], frame[BROWS].mean(axis=0)
    up = frame[OVAL[0]] - frame[OVAL[18]]
    above = (seen[:, :2] - brow) @ up > 0
    middle = oval.mean(axis=0)
    near, far = (_inside(middle + size * (oval - middle))[row, column] for size in RING)
    dark = _dark(model)
    skin = visible & _inside(oval)[row, column] & ~(dark & above)
    hair = visible & dark & above & far & ~near
    chosen = np.r_[_thin(np.flatnonzero(skin), row, column, MOST), _thin(np.flatnonzero(hair), row, column, MOST // 5)]
    lower = (seen[chosen, :2] - frame[1]) @ up < 0
    return Samples(chosen, _look_up(cut, seen[chosen, :2]), normals[chosen], hair[chosen], lower)


def fit(model, photos):
    """Estimate light and texture from the Samples of one person's photos -> Tone."""
    count = min(TEXTURES, len(model.texture_std))
    texture = np.zeros(count)
    basis = [(model.texture_basis[:count, photo.vertices] * model.texture_std[:count, None, None]).astype(np.float64)
             for photo in photos]
    for exposed in EXPOSED[:-1]:
        lights, matrix, right = [], np.eye(count), np.zeros(count)
        for photo, components in zip(photos, basis):
            mean = model.texture_mean[photo.vertices].astype(np.float64)
            colours = np.clip(mean + np.tensordot(texture, components, 1), 1, 255)
            light, weights = fit_light(colours, photo, exposed)
            lights.append(light)
            if not count:
                continue
            strength = renderer.apply_light(np.ones_like(colours), photo.normals, np.r_[light[:8], 0, 1])
            weights = weights * INDEPENDENT / max(weights.sum(), 1e-9) / SIGMA ** 2
            system = (components * strength).reshape(count, -1)
            weights = np.repeat(weights, 3)
            matrix += (system * weights) @ system.T
            right += (system * weights) @ (photo.colours - strength * mean).ravel()
        texture = np.clip(np.linalg.solve(matrix, right), -MOST_TEXTURE, MOST_TEXTURE)
    return Tone(texture, lights, _hair_colour(photos, lights))


def _hair_colour(photos, lights):
    """Find the median colour of what is seen around the face, without its light -> rgb [3], or None for too little."""
    seen = [photo.colours[photo.hair] / np.maximum(renderer.apply_light(
        np.ones([photo.hair.sum(), 3]), photo.normals[photo.hair], np.r_[light[:8], 0, 1]), .1)
        for photo, light in zip(photos, lights)]
    seen = np.concatenate(seen)
    return np.median(np.clip(seen, 0, 255), axis=0) if len(seen) >= LEAST_HAIR else None


def fit_light(colours, photo, exposed=EXPOSED[-1]):
    """Estimate the light on `colours` [n, 3] of a texture in Samples -> (Illum_Para [10], weights of samples [n])."""
    weights = np.where(photo.hair, HAIR_SHARE, 1.0)
    directions = np.array([(height, side) for height in HEIGHTS for side in SIDES])
    best = _best_light(colours, photo, weights * ~photo.hair, directions, exposed)
    weights = _trust(colours, photo, best)
    for step in REFINED:
        around = best[6:8] + step * np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)])
        around = np.clip(around, [HEIGHTS[0], SIDES[0]], [HEIGHTS[-1], SIDES[-1]])
        best = _best_light(colours, photo, weights * ~photo.hair, around, exposed)
        weights = _trust(colours, photo, best)
    return _add_shine(colours, photo, weights, best), weights


def errors(colours, photo, light):
    """Compute how far the photo's colours are from lit ones -> [n, 3]."""
    return photo.colours - renderer.apply_light(colours, photo.normals, light)


def _best_light(colours, photo, weights, directions, exposed):
    """Find the direction, and the two lights >= 0, that explain the samples best -> [10]."""
    height, side = directions.T
    towards = np.stack([np.cos(height) * np.sin(side), np.sin(height), np.cos(height) * np.cos(side)])
    cosines = np.maximum(photo.normals @ towards, 0)                              # [n, D]
    squares, products = weights[:, None] * colours ** 2, weights[:, None] * colours * photo.colours
    whole = squares.sum(axis=0)[None]                                               # [1, 3]
    ridge, exposure = PRIOR * whole, exposed * whole
    a = whole + ridge / 16 + exposure
    b = cosines.T @ squares - ridge / 8 + exposure / 2
    c = (cosines ** 2).T @ squares + ridge / 4 + exposure / 4
    first = np.broadcast_to(products.sum(axis=0) + USUAL * exposure, b.shape)
    second = cosines.T @ products + USUAL * exposure / 2
    determinant = np.maximum(a * c - b * b, 1e-9)
    both = np.stack([(c * first - b * second) / determinant, (a * second - b * first) / determinant])
    only = np.stack([np.maximum(first / a, 0), np.zeros_like(first)]), np.stack([np.zeros_like(first), second / c])
    candidates = np.stack([np.maximum(both, 0), *only])                           # [3, 2, D, 3]
    ambient, directional = candidates[:, 0], candidates[:, 1]
    cost = (a * ambient ** 2 + 2 * b * ambient * directional + c * directional ** 2
            - 2 * first * ambient - 2 * second * directional)
    choice = cost.argmin(axis=0)
    index = cost.min(axis=0).sum(axis=1).argmin()
    ambient, directional = np.take_along_axis(candidates[:, :, index], choice[index][None, None], 0)[0]
    return np.r_[ambient, directional, directions[index], 0, 20]


def _trust(colours, photo, light):
    """Compute how much each sample counts -> [n]."""
    away = errors(colours, photo, light)
    size = np.sqrt((away ** 2).mean(axis=1)) * np.where(away.mean(axis=1) < 0, DARKER, 1)
    skin = ~photo.hair
    scale = FIRM * np.median(size[skin]) + LOOSE if skin.any() else LOOSE
    return np.where(photo.hair, HAIR_SHARE / (1 + (size / (3 * scale)) ** 2), 1 / (1 + (size / (2 * scale)) ** 4))


def _add_shine(colours, photo, weights, light):
    """Add the highlight that explains what is brighter in the photo, with a prior of none -> Illum_Para [10]."""
    away = errors(colours, photo, light)
    weights = (weights * ~photo.hair)[:, None] * INDEPENDENT / max(weights.sum(), 1e-9) / SIGMA ** 2
    found = []
    for gloss in GLOSSES:
        lobe = renderer.apply_light(np.zeros_like(colours), photo.normals, np.r_[0, 0, 0, light[3:8], 1, gloss])
        strongest = max(lobe.max(), 1e-6)
        above = (weights * lobe * away).sum() / ((weights * lobe ** 2).sum() + (strongest / HIGHLIGHT) ** 2)
        above = max(above, 0)
        left = (weights * (away - above * lobe) ** 2).sum() + (above * strongest / HIGHLIGHT) ** 2
        found.append((left, above, gloss))
    _, strength, gloss = min(found)
    return np.r_[light[:8], strength, gloss]


# Where things are in a window

def _window(points):
    """Find the square box around points [468, 2] that colours are taken from."""
    low, high = points.min(axis=0) + .5, points.max(axis=0) + .5
    middle, half = (low + high) / 2, ROOM * (high - low).max() / 2
    return (*(middle - half), *(middle + half))


def _cut_out(picture, box):
    """Cut a box, which may reach beyond the picture, out of a Pillow image -> float32 [WINDOW, WINDOW, 3], blurred."""
    left, top, right, bottom = box
    inner = max(left, 0), max(top, 0), min(right, picture.width), min(bottom, picture.height)
    result = Image.new("RGB", (WINDOW, WINDOW))
    if inner[2] - inner[0] > 1 and inner[3] - inner[1] > 1:
        scale = WINDOW / (right - left)
        begin = [round((inner[0] - left) * scale), round((inner[1] - top) * scale)]
        end = [round((inner[2] - left) * scale), round((inner[3] - top) * scale)]
        size = [max(end[0] - begin[0], 1), max(end[1] - begin[1], 1)]
        result.paste(picture.resize(size, Image.Resampling.BILINEAR, box=inner), begin)
    return np.asarray(result.filter(ImageFilter.GaussianBlur(BLUR)), np.float32)


def _inside(polygon):
    """Tell which pixels of the window lie in a polygon [n, 2] -> bool [WINDOW, WINDOW]."""
    mask = Image.new("1", (WINDOW, WINDOW))
    ImageDraw.Draw(mask).polygon([tuple(point) for point in polygon.tolist()], fill=1)
    return np.asarray(mask)


def _dark(model):
    """Tell which vertices of a FaceModel's mean are darker than skin, like hair -> bool [V]."""
    luma = model.texture_mean @ LUMA
    skin = np.median(luma[model.landmarks[[1, 3, 13, 15, 29, 31, 35]]])
    return luma < HAIR_LIKE * skin


def _thin(indices, row, column, most):
    """Keep one of `indices` in each cell of the window, and no more than `most`, evenly."""
    cell = row[indices] // CELL * WINDOW + column[indices] // CELL
    kept = indices[np.unique(cell, return_index=True)[1]]
    return kept[::-(-len(kept) // most)] if len(kept) > most else kept


def _look_up(image, places):
    """Interpolate an image between the pixels around `places` [n, 2] -> float64 [n, 3]."""
    low = np.clip(np.floor(places).astype(int), 0, WINDOW - 2)
    share = np.clip(places - low, 0, 1)
    (column, row), (x, y) = low.T, share.T[..., None]
    return ((image[row, column] * (1 - x) + image[row, column + 1] * x) * (1 - y)
            + (image[row + 1, column] * (1 - x) + image[row + 1, column + 1] * x) * y).astype(np.float64)
