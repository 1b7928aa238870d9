"""Render a head whose colours are in an image, the atlas, with light at every sample and holes between strands of hair.

Pose, light and colour have the layout and the meaning that `renderer.py` gives them. What is more: normals and colours
are found for each sample rather than each vertex; a gloss in the atlas scales highlights; vertices carry a shade, which
is how much of the surroundings they see; and the silhouette fades over the pixels that it crosses.
"""
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
    atlas: np.ndarray                       # [H, W, 5] float32: rgb in 0..255, gloss, height of hair in 0..1
    shade: np.ndarray                       # [V, 3] factors of the colours
    first_open: int                         # triangles from this one on have holes
    thresholds: np.ndarray                  # [T - first_open]: where the atlas is not higher, there is a hole
    first_flat: int                         # triangles from this one on are seen from both sides
    sunk: np.ndarray | None = None          # [V] micrometres by which vertices count as further away than they are


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
    triangles = mesh.triangles[seen]
    texels = mesh.texels[seen]
    first_open = int(np.searchsorted(seen, mesh.first_open))
    thresholds = mesh.thresholds[seen[first_open:] - mesh.first_open]

    def is_there(owners, weights, sums):
        """Tell which places of triangles are no holes -> bool [P]."""
        there = np.ones(len(owners), bool)
        open_ = np.flatnonzero(owners >= first_open)
        if open_.size:
            place = _mix(texels[owners[open_]].transpose(1, 0, 2), weights[:, open_] / sums[open_])
            height = mesh.atlas[place[:, 1].astype(np.int32), place[:, 0].astype(np.int32), 4]
            there[open_] = height > thresholds[owners[open_] - first_open]
        return there

    pixels, owners, weights, sums = renderer.find_visible(points, triangles, k * rows, k * columns, is_there)
    shares = (weights / sums).astype(np.float32)
    corners = triangles[owners].T
    samples = _look_up(mesh.atlas, _mix(texels[owners].transpose(1, 0, 2), shares))
    packed = np.concatenate([normals, mesh.shade], 1).astype(np.float32)
    packed = _mix(packed[corners], shares)
    image = np.zeros([k * rows * k * columns, 3], np.float32)
    image[pixels] = renderer.apply_color(_light(samples, packed[:, :3], packed[:, 3:], shot.illumination), shot.color)
    count = np.zeros(k * rows * k * columns, np.float32)
    count[pixels] = 1
    image = image.reshape(rows, k, columns, k, 3).mean((1, 3))
    count = count.reshape(rows, k, columns, k).sum((1, 3))
    return np.rint(image).astype(np.uint8), 2 * count >= k * k


def _select_front(points, mesh):
    """Select the indices of triangles that face the viewer, and of flat ones whichever way they face."""
    a, b, c = (points[corner, :2] for corner in mesh.triangles.T)
    turn = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    front = turn < 0                        # rows go down
    front[mesh.first_flat:] = True
    return np.flatnonzero(front)


def _mix(values, shares):
    """Compute the mean [P, n] of `values` [3, P, n] with `shares` [3, P]."""
    return (values[0] * shares[0][:, None] + values[1] * shares[1][:, None] + values[2] * shares[2][:, None])


def _look_up(atlas, places):
    """Interpolate the atlas between the four texels around each of `places` [P, 2] -> [P, 5]."""
    height, width, channels = atlas.shape
    places = places - np.float32(.5)
    low = np.floor(places)
    share = places - low
    column = np.clip(low[:, 0].astype(np.int32), 0, width - 2)
    first = np.clip(low[:, 1].astype(np.int32), 0, height - 2) * width + column
    flat = atlas.reshape(-1, channels)
    x, y = share[:, :1], share[:, 1:]
    upper = np.take(flat, first, 0) * (1 - x) + np.take(flat, first + 1, 0) * x
    lower = np.take(flat, first + width, 0) * (1 - x) + np.take(flat, first + width + 1, 0) * x
    return upper * (1 - y) + lower * y


def _light(samples, normals, shade, illumination):
    """Light samples [P, 5] of the atlas with `normals` and `shade` [P, 3] -> colours [P, 3], not clipped."""
    normals = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-6)
    matt, shine = np.array(illumination), np.array(illumination)
    matt[8] = 0
    texture = samples[:, :3] * shade
    sky = (1 - SKY / 2 + SKY * normals[:, 1:2]).astype(np.float32)
    lit = renderer.apply_light(texture * sky, normals, matt)
    shine[:3] = 0
    if shine[8] > 0:
        lit += (samples[:, 3:4] * shade[:, :1]) * (renderer.apply_light(np.zeros_like(texture), normals, shine))
    return lit
