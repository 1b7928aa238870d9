"""A 3D morphable face model: its one internal form, its vertices and colours, and what another model can lend it."""
from typing import NamedTuple, Optional

import numpy as np
from scipy.interpolate import RBFInterpolator
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

ROWS = 16                                   # of every matrix product, see `combine`
FRONT = 9e4, 7e4                            # micrometres from the tip of the nose: what is aligned, around and behind
MARGIN = 1.4                                # times FRONT: where counterparts are looked for
ENOUGH = 3000                               # points to align by
SCALES, TILTS = (.8, 1, 1.25), (-.2, 0, .2)     # first guesses of the alignment
ROUNDS, KEEP = 30, .9                       # steps, and the share of pairs to rely on: not all parts have a counterpart


class FaceModel(NamedTuple):
    """A linear model of faces, e.g. of principal components: lengths in micrometres, colours rgb 0..255."""
    name: str                               # e.g. "BFM 2009"
    triangles: np.ndarray                   # [T, 3] int32, 0-based, counter-clockwise seen from outside
    shape_mean: np.ndarray                  # [V, 3] float32; x to the right of the image, y up, z towards the viewer
    shape_basis: np.ndarray                 # [n_shape, V, 3] float32, of unit norm (3DDFA and .npz: as in the file)
    shape_std: np.ndarray                   # [n_shape] float32, micrometres
    expression_basis: np.ndarray            # [n_expression, V, 3] float32, micrometres per unit of coefficient
    expression_std: np.ndarray              # [n_expression] float32
    texture_mean: Optional[np.ndarray]      # [V, 3] float32; None where the file has no texture
    texture_basis: np.ndarray               # [n_texture, V, 3] float32 ([0, V, 3] if none)
    texture_std: np.ndarray                 # [n_texture] float32
    landmarks: Optional[np.ndarray]         # [68] int32 vertex indices in iBUG's order, or None where unknown


# Evaluation

def combine(coefficients, basis):
    """Sum of `basis` [n, V, 3] weighted by `coefficients` [n] or [B, n]: [V, 3] or [B, V, 3] float32.

    Products are always of 16 rows: a matrix library sums in another order for other sizes, and an image must not
    depend on which others are rendered with it. Raises ValueError when there is not one coefficient a component.
    """
    coefficients = np.asarray(coefficients, np.float32)
    count, points, _ = basis.shape
    if coefficients.shape[-1] != count:
        raise ValueError(f"{coefficients.shape[-1]} coefficients for a model of {count} components; give {count}")
    batch = coefficients.shape[:-1]
    total = int(np.prod(batch))
    rows = np.zeros([-(-total // ROWS) * ROWS, count], np.float32)
    rows[:total] = coefficients.reshape(total, count)
    flat = basis.reshape(count, points * 3)
    result = np.empty([total, points * 3], np.float32)
    for start in range(0, total, ROWS):
        result[start:start + ROWS] = (rows[start:start + ROWS] @ flat)[:total - start]
    return result.reshape(*batch, points, 3)


def vertices(model, shape, expression):
    """Vertices [V, 3] or [B, V, 3] float32 in micrometres: mean + shape basis x shape + expression basis x expression.

    `shape` [n_shape] in micrometres and `expression` [n_expression] are not normalised (Zhu et al. 2016, eq. 1); either
    may be a batch, [B, n]. One identity in B expressions costs one product for the identity.
    """
    return model.shape_mean + combine(shape, model.shape_basis) + combine(expression, model.expression_basis)


def texture(model, coefficients):
    """Colours [V, 3] or [B, V, 3] float32, rgb 0..255 but not clipped, for `coefficients` [n_texture] or [B, n]."""
    return model.texture_mean + combine(coefficients, model.texture_basis)


# What another model can lend

class Alignment(NamedTuple):
    """Takes `points` [V, 3] of one model to another's: scale x points x rotation + offset."""
    scale: float
    rotation: np.ndarray                    # [3, 3], for row vectors
    offset: np.ndarray                      # [3], micrometres


def find_landmarks(model, reference):
    """The 68 vertices [68] int32 of `model` at the landmarks of `reference`, a FaceModel that has some, laid on it.

    As two mean faces differ, this is rough: with ICT-FaceKit on the built-in model brows, eyes and nose are 5 to 7 mm
    off its own landmarks, the mouth 10, the jaw line 17.
    """
    used = np.unique(model.triangles)
    placed = apply(align(model, reference), model.shape_mean[used])
    nearest = cKDTree(placed).query(reference.shape_mean[reference.landmarks])[1]
    return used[nearest].astype(np.int32)


def lend_texture(model, reference):
    """`model` with the texture of `reference`, from the three nearest vertices once one is laid on the other.

    Where `model` has landmarks, it is bent until they meet those of `reference`: the colours of lips then lie on lips.
    The name tells of the loan.
    """
    placed = apply(align(model, reference), model.shape_mean)
    if model.landmarks is not None and reference.landmarks is not None:
        start, places = np.unique(model.landmarks, return_index=True)
        goal = reference.shape_mean[reference.landmarks[places]]
        # the biharmonic spline of 3D bends least; smoothed, since landmarks of two models never mean quite the same
        bend = RBFInterpolator(placed[start], goal - placed[start], kernel="linear", degree=1, smoothing=1e3)
        placed = placed + bend(placed)
    distances, nearest = cKDTree(reference.shape_mean).query(placed, 3)
    weights = 1 / (distances + 1)
    weights = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)[..., None]

    def carry(colours):
        """Colours [V, 3] at the vertices of `model`."""
        return (colours[nearest] * weights).sum(axis=1)

    basis = np.empty([len(reference.texture_basis), *placed.shape], np.float32)
    for mode, tint in zip(basis, reference.texture_basis):
        mode[:] = carry(tint)
    return model._replace(name=f"{model.name}, colours of {reference.name}", texture_std=reference.texture_std,
                          texture_mean=carry(reference.texture_mean), texture_basis=basis)


def align(model, reference):
    """The Alignment that lays the mean face of `model` on that of `reference`.

    Iterated closest points with scale, along the normals (Chen, Medioni 1992), on the fronts of the faces, from several
    scales, tips of noses together. Of a tilted head the foremost point may be a lip, so several tilts are tried; the
    fit of the smallest distances is taken.
    """
    nose = foremost(reference)
    target = front(reference, nose, MARGIN)
    fits = []
    for tip in {foremost(model, tilt) for tilt in TILTS}:
        for scale in SCALES:
            start = Alignment(scale, np.eye(3), reference.shape_mean[nose] - scale * model.shape_mean[tip])
            fits.append(closest_points(front(model, tip, MARGIN / scale), target, reference.shape_mean[nose], start))
    return min(fits, key=lambda fit: fit[1])[0]


def foremost(model, tilt=0):
    """The vertex of the mean face that is in front when it leans back by `tilt` radians."""
    used = np.unique(model.triangles)
    return used[(model.shape_mean[used] @ np.float32([0, tilt, 1])).argmax()]


def front(model, nose, size):
    """Some vertices that are drawn and within `size` x FRONT of the vertex `nose`, and unit normals: [2, n, 3]."""
    mean = model.shape_mean.astype(np.float64)
    near = inside(mean, mean[nose], size) & np.isin(np.arange(len(mean)), model.triangles)
    a, b, c = np.moveaxis(mean[model.triangles], 1, 0)
    normals = np.zeros_like(mean)
    for corner in model.triangles.T:
        np.add.at(normals, corner, np.cross(b - a, c - a))
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    return np.stack([mean[near], normals[near]])[:, ::-(-near.sum() // ENOUGH)]


def inside(points, nose, size=1):
    """Which of `points` [n, 3] are within `size` x FRONT of the point `nose`."""
    away = points - nose
    return (np.linalg.norm(away, axis=1) < size * FRONT[0]) & (away[:, 2] > -size * FRONT[1])


def closest_points(source, target, nose, fit):
    """(Alignment, mean distance along normals) of two fronts [2, n, 3] and [2, m, 3], from `fit` on.

    Each point of either in FRONT of `nose` is paired with the closest of the other, which reaches further, so that
    rims have no hold. In one direction only, the face that is searched would shrink.
    """
    goals, upright = target
    tree, inner = cKDTree(goals), inside(goals, nose)
    for _ in range(ROUNDS):
        placed, turned = apply(fit, source[0]), source[1] @ fit.rotation
        chosen = inside(placed, nose)
        gaps, there = tree.query(placed[chosen])
        gaps_back, back = cKDTree(placed).query(goals[inner])
        pairs = np.concatenate([np.stack([placed[chosen], goals[there], turned[chosen]]),
                                np.stack([placed[back], goals[inner], upright[inner]])], 1)
        gaps = np.concatenate([gaps, gaps_back])
        starts, ends, along = pairs[:, gaps <= np.quantile(gaps, KEEP)]
        fit = correct(fit, starts, ends, along)
    return fit, np.abs(((starts - ends) * along).sum(axis=1)).mean()


def correct(fit, starts, goals, normals):
    """`fit` after the small rotation, scaling and shift that brings `starts` to the planes through `goals` [n, 3]."""
    middle = goals.mean(axis=0)
    x = (starts - middle) / FRONT[0]                # of about 1, as the normals
    system = np.column_stack([np.cross(x, normals), normals, (x * normals).sum(axis=1)])
    step = np.linalg.lstsq(system, ((goals - starts) * normals).sum(axis=1) / FRONT[0], rcond=None)[0]
    turn, growth = Rotation.from_rotvec(step[:3]).as_matrix().T, 1 + step[6]
    return Alignment(fit.scale * growth, fit.rotation @ turn,
                     growth * (fit.offset - middle) @ turn + step[3:6] * FRONT[0] + middle)


def apply(alignment, points):
    """`points` [V, 3] after `alignment`."""
    return alignment.scale * points @ alignment.rotation + alignment.offset
