"""A morphable model as its file holds it, in the file's own layout and units, and its conversion to a FaceModel.

Files differ in the unit of length, in the order of coordinates, in whether they count vertices from 0 or from 1, and in
which side of a triangle is outside. Few files say which; the conversion finds out from the numbers.
"""
import logging
from typing import NamedTuple

import numpy as np

from morphable.face_model import FaceModel

FACE_SIZE = 2e5                             # micrometres that a face or a head is across, to a factor of 3
UNITS = {"um": 1, "mm": 1e3, "cm": 1e4, "m": 1e6}       # in micrometres
PLAUSIBLE_SHIFT = 1e3, 3e4      # micrometres that people's shapes move a vertex (root mean square); BFM 5e3, ICT 6e3


class Components(NamedTuple):
    """A basis, and how far its coefficients spread."""
    basis: np.ndarray                       # [n, 3V], or [n, V, 3] once coordinates are split
    spread: np.ndarray                      # [n] standard deviations of the coefficients; variances if `variance`
    variance: bool = False


class RawModel(NamedTuple):
    """What a file holds of a morphable model.

    Coordinates are interleaved (x, y, z of one vertex after another) or planar (all x, all y, all z): both in the mean
    and in all bases.
    """
    path: str
    name: str
    mean: np.ndarray                        # [3V] float64
    triangles: np.ndarray                   # [T, 3] or [3, T], counted from 0 or from 1
    shape: Components
    expression: Components | None = None
    texture_mean: np.ndarray | None = None  # [3V] float64, rgb in 0..1 or 0..255
    texture: Components | None = None
    landmarks: np.ndarray | None = None     # [68] vertices, counted as in `triangles`
    landmarks_from_0: bool = False          # whether landmarks count from 0, however triangles do
    unit: str | None = None                 # of length, a key of UNITS; None: not known
    keep_norms: bool = False                # whether published coefficients need the bases as they are
    explicit: bool = False                  # whether the file says plainly if spreads are deviations or variances


def to_face_model(raw):
    """Convert a RawModel to a FaceModel, which has one layout and one set of units.

    Lengths become micrometres, colours 0..255, vertices count from 0, and triangles face outward. Raises ValueError,
    one line with the file and the field, when the triangles, the mean or the landmarks make no sense.
    """
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        model = _convert(raw)
    for name, values in model._asdict().items():
        if isinstance(values, np.ndarray) and not np.isfinite(values).all():
            raise ValueError(f"{raw.path}: numbers too large to compute {name}; download or write it anew")
    return model


def _convert(raw):
    """Convert a RawModel to a FaceModel, in which numbers may have overflowed."""
    triangles, first, planar = _find_layout(raw)
    mean = _split_coordinates(raw.mean, planar)
    scale = _micrometres_per_unit(raw, mean[np.unique(triangles)])
    shape, expression, texture = (_split_components(components, planar, len(mean))
                                  for components in (raw.shape, raw.expression, raw.texture))
    texture_mean, white = None, 1.0
    if raw.texture_mean is not None:
        white = 255.0 if raw.texture_mean.max() <= 2 else 1.0       # colours in 0..1 may go a little beyond
        texture_mean = np.float32(_split_coordinates(raw.texture_mean, planar) * white)
    swapped = _spreads_are_swapped(raw, shape, scale)
    shape_basis, shape_std = _scale_components(shape, scale, swapped, raw.keep_norms)
    expression_basis, expression_std = _scale_components(expression, scale, swapped, True)
    texture_basis, texture_std = _scale_components(texture, white, swapped, raw.keep_norms)
    return FaceModel(
        raw.name, _turn_outward(mean, triangles).astype(np.int32), np.float32(mean * scale), shape_basis, shape_std,
        expression_basis, expression_std, texture_mean, texture_basis, texture_std,
        _landmark_indices(raw, first, len(mean)))


def _split_coordinates(values, planar):
    """Reshape `values` [..., 3V], planar or interleaved, to [..., V, 3]."""
    if planar:
        return np.swapaxes(values.reshape(*values.shape[:-1], 3, -1), -1, -2)
    return values.reshape(*values.shape[:-1], -1, 3)


def _split_components(components, planar, count):
    """Reshape the basis of Components to float32 [n, V, 3]. None becomes no components of `count` vertices."""
    if components is None:
        return Components(np.zeros([0, count, 3], np.float32), np.zeros(0))
    basis = np.ascontiguousarray(_split_coordinates(components.basis, planar), np.float32)
    return components._replace(basis=basis)


def _find_layout(raw):
    """Find out how a file lays out its numbers -> (triangles [T, 3] counted from 0, first, planar).

    `first`, 0 or 1, is what the file counts vertices from. `planar` tells whether coordinates are planar. Of the
    layouts that the numbers allow, the one with the shortest edges of triangles is right. Raises ValueError when none
    is allowed.
    """
    triangles = raw.triangles
    if triangles.ndim == 2 and triangles.shape[1] != 3:
        triangles = triangles.T
    if triangles.ndim != 2 or triangles.shape[1] != 3 or (triangles != np.rint(triangles)).any():
        raise ValueError(f"{raw.path}: triangles have shape {list(raw.triangles.shape)} or are not indices; "
                         f"give three vertex numbers each, [T, 3] or [3, T]")
    triangles, count = triangles.astype(np.int64), len(raw.mean) // 3
    layouts = [(first, planar) for first in (0, 1) for planar in (False, True)
               if triangles.min() >= first and triangles.max() < count + first]
    if not layouts:
        raise ValueError(f"{raw.path}: triangles name vertices {triangles.min()} to {triangles.max()}, but the mean "
                         f"has {count}; take all fields from one model")
    first, planar = min(layouts, key=lambda layout: _mean_edge_length(_split_coordinates(raw.mean, layout[1]),
                                                                      triangles - layout[0]))
    return triangles - first, first, planar


def _mean_edge_length(mean, triangles):
    """Compute the mean length of the edges of a mesh with vertices `mean` [V, 3]."""
    return np.linalg.norm(mean[triangles] - mean[np.roll(triangles, 1, axis=1)], axis=-1).mean()


def _turn_outward(mean, triangles):
    """Reverse all `triangles` if most of their area faces the middle of the mesh.

    `mean` [V, 3] are the vertices of the mesh.
    """
    a, b, c = np.moveaxis(mean[triangles], 1, 0)
    normals = np.cross(b - a, c - a)
    outside = np.sum(normals * ((a + b + c) / 3 - mean[np.unique(triangles)].mean(axis=0)))
    return triangles[:, ::-1] if outside < 0 else triangles


def _micrometres_per_unit(raw, mean):
    """Find the length of a file's unit in micrometres: the unit it names, or else a power of ten.

    The power of ten is the one that makes a face of FACE_SIZE of the vertices `mean` [n, 3]. Raises ValueError when all
    vertices are in one place.
    """
    if raw.unit:
        return UNITS[raw.unit]
    size = np.ptp(mean, axis=0).max()
    if size == 0:
        raise ValueError(f"{raw.path}: the mean's vertices are all in one place; download or write it anew")
    return 10.0 ** np.rint(np.log10(FACE_SIZE / size))


def _spreads_are_swapped(raw, shape, scale):
    """Tell whether a file has standard deviations where its format has variances, or the reverse.

    The answer is yes if people's shapes would not differ plausibly by the format's own reading, but would by the
    opposite reading. Then a warning is logged.
    """
    norms = np.linalg.norm(shape.basis.reshape(len(shape.basis), -1), axis=1)

    def plausible(variance):
        """Tell whether people's shapes differ plausibly if spreads are variances, or else deviations."""
        std = np.sqrt(shape.spread) if variance else shape.spread
        shift = np.sqrt(np.sum((std * norms * scale) ** 2) / shape.basis.shape[1])
        return PLAUSIBLE_SHIFT[0] <= shift <= PLAUSIBLE_SHIFT[1]

    if raw.explicit or plausible(shape.variance) or not plausible(not shape.variance):
        return False
    logging.warning("%s: its eigenvalues are taken as %s, since faces would not differ as people's do otherwise",
                    raw.path, "standard deviations" if shape.variance else "variances")
    return True


def _scale_components(components, scale, swapped, keep_norms):
    """Convert Components to a FaceModel's units -> (basis [n, V, 3], standard deviations [n]).

    Basis and deviations are float32. `scale` is how many units of a FaceModel the file's unit has. Unless `keep_norms`,
    components get unit norm, and the standard deviations take on the norm. `swapped` is as returned by
    `_spreads_are_swapped`.
    """
    std = np.sqrt(components.spread) if components.variance != swapped else components.spread
    if keep_norms:
        return components.basis * np.float32(scale), np.float32(std)
    norms = np.array([np.linalg.norm(component.astype(np.float64)) for component in components.basis])
    divisors = np.where(norms > 0, norms, 1).astype(np.float32)
    return components.basis / divisors[:, None, None], np.float32(std * norms * scale)


def _landmark_indices(raw, first, count):
    """Convert the landmarks to [68] int32, counted from 0, or None if there are none.

    Raises ValueError when the landmarks are not 68 of the model's `count` vertices.
    """
    if raw.landmarks is None:
        return None
    landmarks = np.ravel(raw.landmarks)
    if landmarks.dtype.kind not in "uif" or (landmarks != np.rint(landmarks)).any():        # NaN is no whole number
        raise ValueError(f"{raw.path}: field landmarks is not numbers of vertices; correct it, or leave it out to have "
                         "them found")
    landmarks = landmarks.astype(np.int64)
    if not raw.landmarks_from_0:
        landmarks = landmarks - first
    if len(landmarks) != 68 or landmarks.min() < 0 or landmarks.max() >= count:
        raise ValueError(f"{raw.path}: field landmarks must hold 68 of the model's {count} vertices; "
                         f"correct it, or leave it out to have them found")
    return landmarks.astype(np.int32)
