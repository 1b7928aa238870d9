"""Render a head whose colours are in an image, the atlas, with light at every sample and holes between strands of hair.

Pose, light and colour have the layout and the meaning that `renderer.py` gives them. What is more: normals and colours
are found for each sample rather than each vertex; a gloss in the atlas scales highlights; vertices carry a shade, which
is how much of the surroundings they see; and the silhouette fades over the pixels that it crosses.
"""
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import sparse

from morphable import renderer

SKY = .16                   # how much more ambient light comes from above than from the sides


class TexturedMesh(NamedTuple):
    """A head to be rendered."""
    vertices: np.ndarray                    # [V, 3] float32 in micrometres
    triangles: np.ndarray                   # [T, 3], counter-clockwise seen from outside
    incidence: sparse.csr_matrix            # `renderer.compute_incidence` of the triangles
    texels: np.ndarray                      # [T, 3, 2] column and row in the atlas of each corner
    atlas: np.ndarray                       # [5, H, W] float32: rgb in 0..255, gloss, height of hair in 0..1
    shade: np.ndarray                       # [V, 3] factors of the colours
    first_open: int                         # triangles from this one on have holes
    thresholds: np.ndarray                  # [T - first_open]: where the atlas is not higher, there is a hole
    first_flat: int                         # triangles from this one on are seen from both sides
    sunk: np.ndarray | None = None          # [V] micrometres by which vertices count as further away than they are
    paint: Callable | None = None           # takes flat indices [n], before the atlas is read there


def render(mesh, shot, frame):
    """Render a TexturedMesh as a renderer.Shot shows it, in a renderer.Frame -> (image, covered).

    The image is uint8 [rows, columns, 3], black around the head. `covered` bool [rows, columns] tells where at least
    half of a pixel is head. Raises ValueError for vertices that are not finite or project too far away.
    """
    k, (rows, columns) = frame.supersample, frame.size or (frame.height, frame.width)
    normals = renderer.compute_normals(mesh.vertices, mesh.triangles, mesh.incidence)
    points = renderer.project(mesh.vertices, shot.pose, frame.height)
    points = renderer.points_in_box(points, frame.box or (0, 0, frame.width, frame.height), k * rows, k * columns)
    if mesh.sunk is not None:
        points[:, 2] -= mesh.sunk * points.dtype.type(shot.pose[6])
    seen = _select_front(points, mesh)
    triangles = np.take(mesh.triangles, seen, 0)
    texels = np.ascontiguousarray(np.take(mesh.texels, seen, 0).transpose(2, 1, 0))         # [2, 3, T]
    first_open = int(np.searchsorted(seen, mesh.first_open))
    thresholds = mesh.thresholds[seen[first_open:] - mesh.first_open]

    def is_there(owners, weights, sums):
        """Tell which places of triangles are no holes -> bool [P]."""
        there = np.ones(len(owners), bool)
        open_ = slice(int(np.searchsorted(owners, first_open)), None)       # owners ascend
        if there[open_].size:
            owners = owners[open_]
            column, row = _mix(np.take(texels, owners, 2), weights[:, open_] / sums[open_]).astype(np.int32)
            places = row * mesh.atlas.shape[2] + column
            _paint(mesh, places)
            there[open_] = np.take(mesh.atlas[4], places) > np.take(thresholds, owners - first_open)
        return there

    pixels, owners, weights, sums = renderer.find_visible(points, triangles, k * rows, k * columns, is_there)
    shares = (weights / sums).astype(np.float32)
    samples = _look_up(mesh, _mix(np.take(texels, owners, 2), shares))
    corners = np.ascontiguousarray(np.take(triangles, owners, 0).T)
    packed = np.concatenate([normals.T, mesh.shade.T]).astype(np.float32)
    packed = _mix(np.take(packed, corners, 1), shares)
    image = np.zeros([k * rows * k * columns, 3], np.float32)
    image[pixels] = renderer.apply_color(_light(samples, packed[:3], packed[3:], shot.illumination), shot.color)
    count = np.zeros(k * rows * k * columns, np.float32)
    count[pixels] = 1
    image = image.reshape(rows, k, columns, k, 3).mean((1, 3))
    count = count.reshape(rows, k, columns, k).sum((1, 3))
    return np.rint(image).astype(np.uint8), 2 * count >= k * k


def _select_front(points, mesh):
    """Select the indices of triangles that face the viewer, and of flat ones whichever way they face."""
    corners = np.ascontiguousarray(mesh.triangles.T)
    (ax, bx, cx), (ay, by, cy) = (np.take(np.ascontiguousarray(points[:, axis]), corners) for axis in (0, 1))
    turn = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    front = turn < 0                        # rows go down
    front[mesh.first_flat:] = True
    return np.flatnonzero(front)


def _mix(values, shares):
    """Compute the mean [n, P] of `values` [n, 3, P] with `shares` [3, P]."""
    return values[:, 0] * shares[0] + values[:, 1] * shares[1] + values[:, 2] * shares[2]


def _paint(mesh, places):
    """Paint the atlas of a mesh at flat indices `places` [n] where it is bare."""
    if mesh.paint:
        mesh.paint(places)


def _look_up(mesh, places):
    """Interpolate a mesh's atlas between the four texels around each of `places` [2, P] -> rgb and gloss [4, P]."""
    _, height, width = mesh.atlas.shape
    places = places - np.float32(.5)
    low = np.floor(places)
    share = places - low
    column = np.clip(low[0].astype(np.int32), 0, width - 2)
    first = np.clip(low[1].astype(np.int32), 0, height - 2) * width + column
    around = np.stack([first, first + 1, first + width, first + width + 1])
    _paint(mesh, around.ravel())
    flat = mesh.atlas[:4].reshape(4, -1)
    x, y = share
    upper = np.take(flat, around[0], 1) * (1 - x) + np.take(flat, around[1], 1) * x
    lower = np.take(flat, around[2], 1) * (1 - x) + np.take(flat, around[3], 1) * x
    return upper * (1 - y) + lower * y


def _light(samples, normals, shade, illumination):
    """Light samples [4, P] of the atlas with `normals` and `shade` [3, P] -> colours [P, 3], not clipped."""
    x, y, z = normals
    normals = np.ascontiguousarray((normals / np.maximum(np.sqrt(x * x + y * y + z * z), 1e-6)).T)
    matt, shine = np.array(illumination), np.array(illumination)
    matt[8] = 0
    texture = samples[:3] * shade
    sky = (1 - SKY / 2 + SKY * normals[:, 1]).astype(np.float32)
    lit = renderer.apply_light(np.ascontiguousarray((texture * sky).T), normals, matt)
    shine[:3] = 0
    if shine[8] > 0:
        lit += (samples[3] * shade[0])[:, None] * renderer.apply_light(np.zeros_like(lit), normals, shine)
    return lit
