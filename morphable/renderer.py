"""Render the vertices and colours of a head to pixels: pose, normals, light, camera colour, an exact z-buffer.

NumPy and SciPy only. Space is in micrometres: x to the right of the image, y up, z towards the viewer. The numbers of
pose, illumination and color have the layout of the fits of 300W-3D and AFLW2000-3D (Zhu et al. 2016, "Face Alignment
Across Large Poses"). As in those fits, light is fixed to the head: a head that turns is lit as before. Pixel centres
lie at whole coordinates, counted from 0.
"""
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy import sparse

from datasets import crop

OFFSET_SCALE = 255.0        # the colour offset is in 0..1; the fits' public viewer adds it to 0..255, without effect
SUBPIXELS = 12              # vertices lie on a grid of 2^-12 pixel, never on the rows and columns of pixel centres
REACH = 2.0 ** 18           # pixels; grid coordinates beyond it would not fit int32
CHUNK = 1 << 15             # pixels of bounding boxes that are tested at once: what a cache holds


class Mesh(NamedTuple):
    """A head to be rendered."""
    vertices: np.ndarray                    # [V, 3] in micrometres
    texture: np.ndarray                     # [V, 3], the colour of each vertex without light, rgb in 0..255
    triangles: np.ndarray                   # [T, 3], 0-based, counter-clockwise seen from outside
    incidence: sparse.csr_matrix            # `compute_incidence` of the triangles


class Shot(NamedTuple):
    """How a head is lit and seen."""
    illumination: np.ndarray                # [10], see `apply_light`
    pose: np.ndarray                        # [7], see `project`
    color: np.ndarray                       # [7], see `apply_color`


class Frame(NamedTuple):
    """Which part of a picture is rendered, and how large; all in pixels."""
    height: int                             # of the whole picture
    width: int
    box: tuple | None = None                # left, top, right, bottom of the part; may be turned and reach beyond
    size: tuple | None = None               # height and width of the image that the part becomes
    supersample: int = 1                    # samples a pixel along each side


# Geometry

def rotation_matrix(pitch, yaw, roll):
    """Compute R = Rx·Ry·Rz [3, 3], for column vectors, of three angles in radians.

    As in the fits, each of Rx, Ry and Rz is the transpose of its usual form. Positive pitch looks up. Positive yaw
    turns the face to the left of the image. Positive roll tips the top of the head to the right of the image.
    """
    (sx, sy, sz), (cx, cy, cz) = np.sin([pitch, yaw, roll]), np.cos([pitch, yaw, roll])
    return (np.array([[1, 0, 0], [0, cx, sx], [0, -sx, cx]])
            @ np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
            @ np.array([[cz, sz, 0], [-sz, cz, 0], [0, 0, 1]]))


def project(vertices, pose, height):
    """Project `vertices` [V, 3] in micrometres to columns, rows and depths [V, 3] in pixels.

    The projection is weak perspective: p = f·R·V + (tx, ty). `pose` [7] is pitch, yaw, roll in radians; tx, ty, tz in
    pixels from the bottom left of a picture of `height` rows, counted from 1; and f in pixels per micrometre. Hence
    column = x - 1 and row = height - y, counted from 0. A larger depth is nearer. tz would shift all depths alike, and
    is not used.
    """
    pitch, yaw, roll, tx, ty, _, scale = pose
    matrix = scale * rotation_matrix(pitch, yaw, roll).T * [1, -1, 1]
    return vertices @ matrix.astype(vertices.dtype) + np.array([tx - 1, height - ty, 0], vertices.dtype)


def points_in_box(points, box, height, width):
    """Map `points` [V, 3] (column, row, depth) of a picture to the image that a box of it becomes.

    `box` is left, top, right, bottom in pixels from the corner of the picture, where the centre of the first pixel is
    at (.5, .5), and perhaps an angle, see datasets/crop.py. The box is stretched to an image of `height` and `width`
    pixels. Depths stay.
    """
    left, top, right, bottom = box[:4]
    if len(box) == 5:
        points = points.copy()
        points[:, :2] = crop.turn_back(points[:, :2].astype(np.float64) + .5, box) - .5
    scale = np.array([width / (right - left), height / (bottom - top), 1], points.dtype)
    return (points - np.array([left - .5, top - .5, 0], points.dtype)) * scale - np.array([.5, .5, 0], points.dtype)


def compute_incidence(triangles, count):
    """Compute which of `triangles` [T, 3] touch which of `count` vertices -> a sparse matrix of ones.

    The matrix is float32 [V, T]. `compute_normals` needs this matrix, which is the same for all heads of a model.
    """
    columns = np.repeat(np.arange(len(triangles)), 3)
    ones = np.ones(3 * len(triangles), np.float32)
    return sparse.csr_matrix((ones, (triangles.ravel(), columns)), [count, len(triangles)])


def compute_normals(vertices, triangles, incidence):
    """Compute unit normals [V, 3] of `vertices` [V, 3], weighted by the areas of triangles.

    `triangles` [T, 3] are 0-based and counter-clockwise seen from outside, which is where normals point. `incidence` is
    the triangles' `compute_incidence`. A normal is 0 where no triangle of the vertex has an area.
    """
    a, b, c = (np.take(vertices.T, corner, 1) for corner in triangles.T)
    b -= a
    c -= a
    x, y, z = (incidence @ (b[i] * c[j] - b[j] * c[i]) for i, j in ((1, 2), (2, 0), (0, 1)))
    length = np.sqrt(x * x + y * y + z * z)
    factor = np.divide(1, length, out=np.zeros_like(length), where=length > 0)
    return np.stack([x * factor, y * factor, z * factor], 1)


# Light and colour

def apply_light(texture, normals, illumination):
    """Light a `texture` [V, 3], rgb in 0..255, by Lambert and Blinn-Phong -> colours [V, 3], not clipped.

    Colours are amb·T + dir·max(n·l, 0)·T + ks·dir·max(n·h, 0)^v, with T of the texture and n of `normals` [V, 3].
    `illumination` [10] is rgb of the ambient light amb, rgb of the directional light dir, its direction theta and phi
    in radians, the specular strength ks and the shininess v. Negative rgb, ks and v count as 0.

    The directional light comes from l = (cos theta sin phi, sin theta, cos theta cos phi): from the right of the image
    for positive phi, from above for positive theta. h lies midway between l and the viewer. As in the fits, the last
    term is on the scale of 0..255 without a factor.
    """
    theta, phi = illumination[6:8]
    ambient, directional = np.maximum(illumination[:6], 0).reshape(2, 3)
    strength, shininess = np.maximum(illumination[8:], 0)
    direction = np.array([np.cos(theta) * np.sin(phi), np.sin(theta), np.cos(theta) * np.cos(phi)])
    lit = texture * _affine(_clamped_cosines(normals, direction)[:, None], directional[None], ambient)
    if strength > 0:
        halfway = direction + [0, 0, 1]
        halfway /= max(np.linalg.norm(halfway), 1e-12)      # no direction where the light comes from behind
        highlight = (_clamped_cosines(normals, halfway) ** shininess)[:, None]
        lit += _affine(highlight, strength * directional[None])
    return lit


def _clamped_cosines(normals, direction):
    """Compute max(n·direction, 0) [V] for `normals` [V, 3]."""
    return np.maximum(normals @ direction.astype(normals.dtype), 0)


def apply_color(colours, color):
    """Apply a camera's gain, contrast and offset to `colours` [V, 3] -> [V, 3], clipped to 0..255.

    Colour L becomes gain·(c·L + (1 - c)·(.3 .59 .11)·L) + offset. `color` [7] is rgb of the gain, rgb of the offset (in
    0..1, see OFFSET_SCALE), and the contrast c.
    """
    gain, offset, contrast = np.array(color[:3]), np.array(color[3:6]), color[6]
    mixed = contrast * np.eye(3) + (1 - contrast) * np.array([[.3], [.59], [.11]])
    return np.clip(_affine(colours, mixed * gain, offset * OFFSET_SCALE), 0, 255)


def _affine(rows, matrix, offset=0.0):
    """Multiply `rows` [V, n] by `matrix` [n, 3] and add `offset`, [3] or a number.

    Returns [V, 3] of the type of `rows`: float32 stays float32.
    """
    return np.add(rows @ matrix.astype(rows.dtype), np.asarray(offset, rows.dtype))


# The z-buffer

def rasterize(points, colours, triangles, height, width):
    """Render `triangles` [T, 3] between `points` [V, 3] with `colours` [V, 3] in 0..255.

    A point is a column, a row and a depth, in pixels. Returns the image, float32 [height, width, 3], black where there
    is no triangle, and where the image is covered, bool [height, width]. Raises ValueError when a point is not finite
    or further than 2^18 pixels away.

    A triangle covers the pixels whose centres lie in it or on its rim, whichever way it faces, so that neighbours leave
    no gap. A triangle without area covers nothing. Colours and depths are interpolated linearly. The nearest triangle
    wins, and of equally near ones the last in `triangles`.

    Columns and rows are first rounded to odd multiples of 1/8192 pixel. On that grid all tests are exact as long as a
    triangle extends over less than 8192 pixels. No point of the grid shares its row or its column with a pixel centre.
    Hence a triangle whose corners lie in one gap between two rows or columns of centres is dropped without a test.
    """
    pixels, owners, weights, sums = find_visible(points, triangles, height, width)
    image = np.zeros([height * width, 3], np.float32)
    covered = np.zeros(height * width, bool)
    covered[pixels] = True
    image[pixels] = _interpolate(weights[..., None], sums[:, None], np.take(colours, triangles[owners].T, 0))
    return image.reshape(height, width, 3), covered.reshape(height, width)


def find_visible(points, triangles, height, width, keep=None):
    """Find what is seen at each covered pixel, as `rasterize` tells -> (pixels, owners, weights, sums).

    `pixels` [P] are flat indices, `owners` [P] indices of the nearest triangles, and `weights` [3, P] over their `sums`
    [P] are the shares of the corners. `keep(owners, weights, sums)`, if given, tells which places of triangles are
    there at all -> bool [P], so that a triangle may have holes. There, `owners` ascend.
    """
    steps = _to_grid(points)
    columns = np.clip(steps[0] >> SUBPIXELS, -1, width - 1)         # of the last pixel centres before the points
    rows = np.clip(steps[1] >> SUBPIXELS, -1, height - 1)
    selected = _select_triangles(columns, rows, triangles)
    corners = np.take(triangles, selected, 0).T.copy()              # [3, T]
    x, y = np.take(steps, corners, 1)
    depth = np.take(points[:, 2], corners)
    nearest = np.full(height * width, -1)
    depths = np.full(height * width, -np.inf)
    for row, column, owners in _candidate_pixels(np.take(columns, corners), np.take(rows, corners)):
        weights, sums = _edge_functions(x, y, row, column, owners)
        inside = np.flatnonzero(((weights.min(0) >= 0) | (weights.max(0) <= 0)) & (sums != 0))
        if keep is not None:
            inside = inside[keep(selected[owners[inside]], np.take(weights, inside, 1), sums[inside])]
        pixels, owners = row[inside] * width + column[inside], owners[inside]
        found = _interpolate(np.take(weights, inside, 1), sums[inside], np.take(depth, owners, 1))
        np.maximum.at(depths, pixels, found)
        won = found == depths[pixels]
        nearest[pixels[won]] = owners[won]          # NumPy keeps the last of several values for one pixel
    pixels = np.flatnonzero(nearest >= 0)
    owners = nearest[pixels]
    weights, sums = _edge_functions(x, y, *np.divmod(pixels, width), owners)
    return pixels, selected[owners], weights, sums


def _to_grid(points):
    """Round columns and rows of `points` [V, 3] to the grid -> int32 [2, V].

    The number s stands for (2 s + 1) / 2^(SUBPIXELS + 1) pixels. Raises ValueError when a point is not finite or out of
    REACH.
    """
    if not (np.isfinite(points).all() and (np.abs(points[:, :2]) < REACH).all()):
        raise ValueError("points to draw must be finite and within 2^18 pixels")
    return np.floor(points[:, :2].T * points.dtype.type(2 ** SUBPIXELS)).astype(np.int32)


def _select_triangles(columns, rows, triangles):
    """Select the indices of those `triangles` [T, 3] whose bounding box holds a pixel centre.

    `columns` and `rows` [V] are those of the pixel centre before each vertex, clipped to the picture. A bounding box
    holds a centre if the three vertices differ both in column and in row.
    """
    packed = columns << 16 | rows & 0xffff
    a, b, c = (np.take(packed, corner) for corner in triangles.T)
    differ = (a ^ b) | (a ^ c)
    return np.flatnonzero((differ & 0xffff != 0) & (differ >> 16 != 0))


def _candidate_pixels(columns, rows):
    """Yield triples of arrays: rows and columns of the pixels in bounding boxes, and the triangle of each box.

    `columns` and `rows` [3, T] are those of the pixel centre before each corner. Triangles keep their order. A triple
    has about CHUNK pixels, or those of one triangle if there are more.
    """
    left, top = columns.min(0) + 1, rows.min(0) + 1
    wide, high = columns.max(0) - left + 1, rows.max(0) - top + 1
    counts = wide * high
    starts = np.cumsum(counts) - counts
    bounds = [0, *np.flatnonzero(np.diff(starts // CHUNK)) + 1, len(counts)]
    for begin, end in pairwise(bounds):
        owners = np.repeat(np.arange(begin, end), counts[begin:end])
        within = np.arange(len(owners)) - np.repeat(starts[begin:end] - starts[begin:begin + 1], counts[begin:end])
        row, column = np.divmod(within.astype(np.int32), np.take(wide, owners))
        yield row + np.take(top, owners), column + np.take(left, owners), owners


def _edge_functions(x, y, row, column, owners):
    """Compute how far each pixel is from the edges of its triangle -> (weights [3, P], their sums [P]).

    `x` and `y` [3, T] are the grid columns and rows of corners, `row` and `column` [P] those of pixels, and `owners`
    [P] triangles. The weight of a corner is twice the signed area between the pixel and the opposite edge (Pineda 1988,
    "A Parallel Algorithm for Polygon Rasterization"), in half grid steps squared. All three weights have one sign
    inside. Two triangles that share an edge get exactly opposite weights for it.
    """
    x = 2.0 * (np.take(x, owners, 1) - (column << SUBPIXELS)) + 1
    y = 2.0 * (np.take(y, owners, 1) - (row << SUBPIXELS)) + 1
    weights = np.empty_like(x)
    for weight, (i, j) in zip(weights, ((1, 2), (2, 0), (0, 1))):
        np.subtract(x[i] * y[j], x[j] * y[i], out=weight)
    return weights, weights[0] + weights[1] + weights[2]


def _interpolate(weights, sums, values):
    """Compute the mean [P, ...] of `values` [3, P, ...] with `weights` [3, P, ...].

    `sums` [P, ...] are the sums of the weights.
    """
    return (weights[0] * values[0] + weights[1] * values[1] + weights[2] * values[2]) / sums


# The whole

def render(mesh, shot, frame):
    """Render a Mesh as a Shot shows it, in a Frame.

    Returns an image uint8 [rows, columns, 3] of the head, black around the head, and where the head is, bool
    [rows, columns]. Raises ValueError for vertices that are not finite or project too far away; see `rasterize`.

    With a supersampling of k the head is rendered k times as large and then reduced. A pixel is covered when at least
    half of its k x k samples are. A covered pixel gets the mean of its covered samples, every other pixel is black. So
    the rim does not fade, and the mask says exactly what isn't background, as without supersampling.
    """
    k, (rows, columns) = frame.supersample, frame.size or (frame.height, frame.width)
    normals = compute_normals(mesh.vertices, mesh.triangles, mesh.incidence)
    colours = apply_color(apply_light(mesh.texture, normals, shot.illumination), shot.color)
    points = project(mesh.vertices, shot.pose, frame.height)
    points = points_in_box(points, frame.box or (0, 0, frame.width, frame.height), k * rows, k * columns)
    image, covered = rasterize(points, colours, mesh.triangles, k * rows, k * columns)
    if k > 1:
        samples = covered.reshape(rows, k, columns, k).sum((1, 3))
        covered = 2 * samples >= k * k
        image = image.reshape(rows, k, columns, k, 3).sum((1, 3)) * (covered / np.maximum(samples, 1))[..., None]
    return np.rint(image).astype(np.uint8), covered
