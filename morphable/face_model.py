"""The one form of a 3D morphable model, the faces it stands for, and what one model can borrow from another.

A morphable model makes a face from a mean and a weighted sum of components (Blanz, Vetter 1999, "A Morphable Model for
the Synthesis of 3D Faces"). `model_files.py` brings every file format to the form here.
"""
import functools
import zlib
from typing import NamedTuple

import numpy as np
from scipy.interpolate import RBFInterpolator
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

PRODUCT_ROWS = 16                           # rows of every matrix product, see `combine`

# Registration compares only the fronts of two faces, since models differ in how much neck and skull they have.
FRONT_RADIUS, FRONT_DEPTH = 9e4, 7e4        # micrometres that a front reaches around the tip of the nose, and behind it
SEARCH_FACTOR = 1.4                         # in a front this many times as large, a point's partner is looked for
MOST_POINTS = 3000                          # of a front that are compared: more would only take longer
FIRST_SCALES, FIRST_TILTS = (.8, 1, 1.25), (-.2, 0, .2)     # what registration starts from; tilts in radians
ROUNDS = 30
KEPT_SHARE = .9                             # of the pairs, the closest ones: what one model lacks has no true partner


class FaceModel(NamedTuple):
    """A linear model of faces, such as one of principal components.

    Lengths are in micrometres, colours are rgb in 0..255.
    """
    name: str                               # e.g. "BFM 2009"
    triangles: np.ndarray                   # [T, 3] int32, 0-based, counter-clockwise seen from outside
    shape_mean: np.ndarray                  # [V, 3] float32; x to the right of the image, y up, z towards the viewer
    shape_basis: np.ndarray                 # [n_shape, V, 3] float32, of unit norm (3DDFA and .npz: as in the file)
    shape_std: np.ndarray                   # [n_shape] float32, micrometres
    expression_basis: np.ndarray            # [n_expression, V, 3] float32, micrometres per unit of coefficient
    expression_std: np.ndarray              # [n_expression] float32
    texture_mean: np.ndarray | None         # [V, 3] float32; None where the file has no texture
    texture_basis: np.ndarray               # [n_texture, V, 3] float32 ([0, V, 3] if none)
    texture_std: np.ndarray                 # [n_texture] float32
    landmarks: np.ndarray | None            # [68] int32 vertex indices in iBUG's order, or None where unknown


# Evaluation

def combine(coefficients, basis):
    """Sum the components of `basis` [n, V, 3], weighted by `coefficients` [n] or [B, n].

    Returns float32 [V, 3] or [B, V, 3]. Raises ValueError unless there is one coefficient for each component.

    Every matrix product has PRODUCT_ROWS rows; the last product is filled up with zeros. A matrix library adds up in
    another order for another number of rows, and a face must not depend on how many others are computed with it. With
    one thread, OpenBLAS also adds up in another order in the later rows of a product: there, the last bits of a face
    depend on its place in the batch.
    """
    coefficients = np.asarray(coefficients, np.float32)
    count, vertices, _ = basis.shape
    if coefficients.shape[-1] != count:
        raise ValueError(f"{coefficients.shape[-1]} coefficients for a model of {count} components; give {count}")
    batch = coefficients.shape[:-1]
    total = int(np.prod(batch))
    rows = np.zeros([-(-total // PRODUCT_ROWS) * PRODUCT_ROWS, count], np.float32)
    rows[:total] = coefficients.reshape(total, count)
    flat = basis.reshape(count, vertices * 3)
    result = np.empty([total, vertices * 3], np.float32)
    for start in range(0, total, PRODUCT_ROWS):
        result[start:start + PRODUCT_ROWS] = (rows[start:start + PRODUCT_ROWS] @ flat)[:total - start]
    return result.reshape(*batch, vertices, 3)


def compute_vertices(model, shape, expression):
    """Compute the vertices of a face, float32 [V, 3] in micrometres, or of a batch of faces, [B, V, 3].

    Vertices are mean + shape basis · shape + expression basis · expression (Zhu et al. 2016, "Face Alignment Across
    Large Poses", eq. 1). `shape` is [n_shape] or [B, n_shape], in micrometres. `expression` is [n_expression] or
    [B, n_expression], in the unit of the expression basis. Neither `shape` nor `expression` is divided by a standard
    deviation. One shape with B expressions is computed once for all B faces. Raises ValueError for a wrong number of
    coefficients.
    """
    return model.shape_mean + combine(shape, model.shape_basis) + combine(expression, model.expression_basis)


def compute_texture(model, coefficients):
    """Compute the texture [V, 3] of `coefficients` [n_texture], or [B, V, 3] of [B, n_texture].

    A texture is the colour of each vertex without light: float32 rgb in 0..255, but not clipped to that range. The
    model must have a texture. Raises ValueError for a wrong number of coefficients.
    """
    return model.texture_mean + combine(coefficients, model.texture_basis)


def checksum(model):
    """Compute the CRC-32 of all arrays of a FaceModel, by which two models of one name are told apart."""
    arrays = [array for array in model if isinstance(array, np.ndarray)]
    return functools.reduce(lambda value, array: zlib.crc32(np.ascontiguousarray(array), value), arrays, 0)


# What one model can borrow from another

class Registration(NamedTuple):
    """How the points of one model are laid on another: p goes to scale · p · rotation + offset."""
    scale: float
    rotation: np.ndarray                    # [3, 3], for points that are rows
    offset: np.ndarray                      # [3], micrometres


def find_landmarks(model, reference):
    """Find the vertices of `model` nearest to the landmarks of `reference` -> int32 [68].

    `model` and `reference` are FaceModels, and `reference` has landmarks. `model` is first registered to `reference`.
    Only vertices of triangles are found.

    The result is rough, as the mean faces of two models differ. With ICT-FaceKit registered to the built-in model,
    brows, eyes and nose are 5 to 7 mm from ICT-FaceKit's own landmarks, the mouth 10 mm, the jaw line 17 mm.
    """
    used = np.unique(model.triangles)
    placed = apply_registration(register(model, reference), model.shape_mean[used])
    nearest = cKDTree(placed).query(reference.shape_mean[reference.landmarks])[1]
    return used[nearest].astype(np.int32)


def borrow_texture(model, reference):
    """Return the FaceModel `model` with the texture of `reference`, a FaceModel that has one.

    `model` is first registered to `reference`. If both models have landmarks, `model` is then bent until its landmarks
    meet those of `reference`, so that the colours of lips lie on lips. Each vertex gets the mean of the three nearest
    vertices of `reference`, weighted by their inverse distances. The name of the result tells of the loan.
    """
    placed = apply_registration(register(model, reference), model.shape_mean)
    if model.landmarks is not None and reference.landmarks is not None:
        start, places = np.unique(model.landmarks, return_index=True)
        goal = reference.shape_mean[reference.landmarks[places]]
        # In 3D this kernel is the biharmonic spline, which bends least. The spline is smoothed, since a landmark never
        # means quite the same point in two models.
        bend = RBFInterpolator(placed[start], goal - placed[start], kernel="linear", degree=1, smoothing=1e3)
        placed = placed + bend(placed)
    distances, nearest = cKDTree(reference.shape_mean).query(placed, 3)
    weights = 1 / (distances + 1)
    weights = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)[..., None]

    def carry_over(colours):
        """Interpolate `colours` at the vertices of `reference` -> colours [V, 3] at those of `model`."""
        return (colours[nearest] * weights).sum(axis=1)

    basis = np.empty([len(reference.texture_basis), *placed.shape], np.float32)
    for component, original in zip(basis, reference.texture_basis):
        component[:] = carry_over(original)
    return model._replace(name=f"{model.name}, colours of {reference.name}", texture_std=reference.texture_std,
                          texture_mean=carry_over(reference.texture_mean), texture_basis=basis)


def apply_registration(registration, points):
    """Apply a Registration to `points` [n, 3] -> [n, 3], on the other model."""
    return registration.scale * points @ registration.rotation + registration.offset


def register(model, reference):
    """Find the Registration that lays the mean face of `model` on the mean face of `reference`.

    The method is iterated closest points by distances along the normals (Chen, Medioni 1992, "Object Modelling by
    Registration of Multiple Range Images"), with a scale. Every search starts with the tips of both noses together, one
    search from each of FIRST_SCALES. The tip of the nose is the foremost vertex. In a model with a tilted head, the
    foremost vertex may be on a lip or the chin; so each of FIRST_TILTS gives a tip to start from. The result with the
    smallest mean distance is returned.
    """
    nose = _foremost(reference)
    fixed = _front(reference, nose, SEARCH_FACTOR)
    results = []
    for tip in {_foremost(model, tilt) for tilt in FIRST_TILTS}:
        for scale in FIRST_SCALES:
            start = Registration(scale, np.eye(3), reference.shape_mean[nose] - scale * model.shape_mean[tip])
            moving = _front(model, tip, SEARCH_FACTOR / scale)
            results.append(_iterate_closest_points(moving, fixed, reference.shape_mean[nose], start))
    return min(results, key=lambda result: result[1])[0]


def _foremost(model, tilt=0):
    """Find the vertex of the mean face that is foremost once the head leans forward by `tilt` radians."""
    used = np.unique(model.triangles)
    return used[(model.shape_mean[used] @ np.float32([0, tilt, 1])).argmax()]


def _front(model, nose, factor):
    """Pick points of the mean face around the vertex `nose`, and their unit normals -> float64 [2, n, 3].

    Points are vertices of triangles, within `factor` times the region of `_in_front`. At most MOST_POINTS are taken,
    evenly from the list. Normals are weighted by the areas of the triangles.
    """
    mean = model.shape_mean.astype(np.float64)
    near = _in_front(mean, mean[nose], factor) & np.isin(np.arange(len(mean)), model.triangles)
    a, b, c = np.moveaxis(mean[model.triangles], 1, 0)
    normals = np.zeros_like(mean)
    for corner in model.triangles.T:
        np.add.at(normals, corner, np.cross(b - a, c - a))
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    return np.stack([mean[near], normals[near]])[:, ::-(-near.sum() // MOST_POINTS)]


def _in_front(points, nose, factor=1):
    """Tell which of `points` [n, 3] lie in the front of a face -> bool [n].

    The tip of the nose is at the point `nose`. The front reaches `factor` x FRONT_RADIUS around the tip and `factor` x
    FRONT_DEPTH behind it.
    """
    from_nose = points - nose
    return (np.linalg.norm(from_nose, axis=1) < factor * FRONT_RADIUS) & (from_nose[:, 2] > -factor * FRONT_DEPTH)


def _iterate_closest_points(moving, fixed, nose, start):
    """Improve the Registration `start` by ROUNDS of iterated closest points.

    Returns the improved Registration, and how far it leaves the faces apart: the mean distance along the normals, in
    micrometres. `moving` [2, n, 3] and `fixed` [2, m, 3] are points and normals of the two faces; `nose` [3] is the tip
    of the fixed face's nose.

    Each round pairs every point of either front with the closest point of the other face. Pairs go both ways, because a
    face whose points alone look for partners would shrink to shorten its distances. Partners may lie outside the front,
    where both faces go on, so that a point on the rim of one is not drawn to the rim of the other.
    """
    registration, (goals, goal_normals) = start, fixed
    fixed_tree, fixed_front = cKDTree(goals), _in_front(goals, nose)
    for _ in range(ROUNDS):
        placed, turned = apply_registration(registration, moving[0]), moving[1] @ registration.rotation
        moving_front = _in_front(placed, nose)
        gaps, partners = fixed_tree.query(placed[moving_front])
        gaps_back, partners_back = cKDTree(placed).query(goals[fixed_front])
        pairs = np.concatenate([
            np.stack([placed[moving_front], goals[partners], turned[moving_front]]),
            np.stack([placed[partners_back], goals[fixed_front], goal_normals[fixed_front]])], 1)
        gaps = np.concatenate([gaps, gaps_back])
        starts, ends, normals = pairs[:, gaps <= np.quantile(gaps, KEPT_SHARE)]
        registration = _step(registration, starts, ends, normals)
    return registration, np.abs(((starts - ends) * normals).sum(axis=1)).mean()


def _step(registration, starts, goals, normals):
    """Follow a Registration by the small motion that brings `starts` closest to planes at `goals`.

    A plane goes through one of `goals`, at a right angle to one of `normals`. `starts`, `goals` and `normals` are [n,
    3]. The motion is a rotation, a scaling and a shift, found by least squares of the equations for small angles.
    """
    middle = goals.mean(axis=0)
    relative = (starts - middle) / FRONT_RADIUS     # about 1, like the normals: so the system is well conditioned
    system = np.column_stack([np.cross(relative, normals), normals, (relative * normals).sum(axis=1)])
    distances = ((goals - starts) * normals).sum(axis=1) / FRONT_RADIUS
    motion = np.linalg.lstsq(system, distances, rcond=None)[0]      # three angles, three shifts, the growth
    turn, growth = Rotation.from_rotvec(motion[:3]).as_matrix().T, 1 + motion[6]
    return Registration(registration.scale * growth, registration.rotation @ turn,
                        growth * (registration.offset - middle) @ turn + motion[3:6] * FRONT_RADIUS + middle)
