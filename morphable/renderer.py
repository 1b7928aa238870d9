"""Vertices and colours to pixels: pose, normals, light, colour and an exact z-buffer. NumPy and SciPy only.

Space: x to the right of the image, y up, z towards the viewer, in micrometres; the numbers of pose, illumination and
colour have the layout of the 3D morphable model fits of 300W-3D and AFLW2000-3D (Zhu et al. 2016, "Face Alignment
Across Large Poses"). Pixel centres lie at whole 0-based coordinates. Light is fixed to the head, as in those fits.
"""
import numpy as np
from scipy import sparse

OFFSET_SCALE = 255.0        # the colour offset is in 0..1; the fits' public viewer adds it to 0..255, without effect
SUBPIXELS = 12              # vertices lie on a grid of 2^-12 pixel, never on the rows and columns of pixel centres
REACH = 2.0 ** 18           # pixels; grid coordinates beyond it would not fit int32
CHUNK = 1 << 15             # pixels of bounding boxes that are tested at once: what a cache holds


def rotation(pitch, yaw, roll):
    """R = Rx·Ry·Rz [3, 3] of three angles in radians, for column vectors; transposed against the usual convention.

    Positive pitch looks up, positive yaw turns the face to the left of the image, and positive roll tips the top of
    the head to the right of the image.
    """
    (sx, sy, sz), (cx, cy, cz) = np.sin([pitch, yaw, roll]), np.cos([pitch, yaw, roll])
    return (np.array([[1, 0, 0], [0, cx, sx], [0, -sx, cx]])
            @ np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
            @ np.array([[cz, sz, 0], [-sz, cz, 0], [0, 0, 1]]))


def project(vertices, pose, height):
    """Weak perspective p = f·R·V + (tx, ty) of `vertices` [V, 3] in micrometres: column, row, depth [V, 3] in pixels.

    `pose` [7] is pitch, yaw, roll in radians, tx, ty, tz in pixels from the bottom left of a picture of `height`
    rows, counted from 1, and f in pixels per micrometre. Hence column = x - 1 and row = height - y, from 0. A larger
    depth is nearer. tz is not used, as in the fits: it would only shift all depths.
    """
    pitch, yaw, roll, tx, ty, _, scale = pose
    matrix = scale * rotation(pitch, yaw, roll).T * [1, -1, 1]
    return vertices @ matrix.astype(vertices.dtype) + np.array([tx - 1, height - ty, 0], vertices.dtype)


def incidence(triangles, n_vertices):
    """Which of `triangles` [T, 3] touch which vertex: a sparse float32 [V, T] of ones, made once for many normals."""
    count = len(triangles)
    columns = np.repeat(np.arange(count), 3)
    return sparse.csr_matrix((np.ones(3 * count, np.float32), (triangles.ravel(), columns)), [n_vertices, count])


def vertex_normals(vertices, triangles, touching):
    """Area-weighted unit normals [V, 3] of `vertices` [V, 3]; 0 where all triangles of a vertex have no area.

    `triangles` [T, 3] are 0-based and counter-clockwise seen from outside, which is where the normals point;
    `touching` is their `incidence`.
    """
    a, b, c = (np.take(vertices.T, corner, 1) for corner in triangles.T)
    b -= a
    c -= a
    x, y, z = (touching @ (b[i] * c[j] - b[j] * c[i]) for i, j in ((1, 2), (2, 0), (0, 1)))
    length = np.sqrt(x * x + y * y + z * z)
    factor = np.divide(1, length, out=np.zeros_like(length), where=length > 0)
    return np.stack([x * factor, y * factor, z * factor], 1)


def light(texture, normals, illumination):
    """Lambert and Blinn-Phong light on a texture: amb·T + dir·max(n·l, 0)·T + ks·dir·max(n·h, 0)^v.

    T is `texture` [V, 3], rgb in 0..255, and n are `normals` [V, 3]. `illumination` [10] is the rgb of the ambient and
    of the directional light, theta and phi in radians, ks and v. Directional light comes from l = (cos theta sin phi,
    sin theta, cos theta cos phi): positive phi is the right of the image, positive theta above; h lies midway between
    l and the viewer. The last term is on the scale of 0..255 as it stands.
    Both lights, ks and v count as 0 where they are negative. Returns [V, 3], not clipped.
    """
    theta, phi = illumination[6:8]
    ambient, directional = np.maximum(illumination[:6], 0).reshape(2, 3)
    strength, shininess = np.maximum(illumination[8:], 0)
    source = np.array([np.cos(theta) * np.sin(phi), np.sin(theta), np.cos(theta) * np.cos(phi)])
    lit = texture * affine(facing(normals, source)[:, None], directional[None], ambient)
    if strength > 0:
        halfway = source + [0, 0, 1]
        halfway /= max(np.linalg.norm(halfway), 1e-12)      # no direction where the light comes from behind
        lit += affine((facing(normals, halfway) ** shininess)[:, None], strength * directional[None])
    return lit


def facing(normals, direction):
    """max(n·direction, 0) [V] of `normals` [V, 3]."""
    return np.maximum(normals @ direction.astype(normals.dtype), 0)


def tone(colours, color):
    """Gain, contrast and offset of a camera on `colours` [V, 3]: gain·(c·L + (1 - c)·(.3 .59 .11)·L) + offset.

    `color` [7] is the gain's rgb, the offset's rgb (in 0..1, see OFFSET_SCALE) and c. Returns [V, 3] within 0..255.
    """
    gain, offset, contrast = np.array(color[:3]), np.array(color[3:6]), color[6]
    mixed = contrast * np.eye(3) + (1 - contrast) * np.array([[.3], [.59], [.11]])
    return np.clip(affine(colours, mixed * gain, offset * OFFSET_SCALE), 0, 255)


def affine(x, matrix, offset=0.0):
    """`x` [V, n] times `matrix` [n, 3] plus `offset` [3] or a number: [V, 3] in x's type."""
    return np.add(x @ matrix.astype(x.dtype), np.asarray(offset, x.dtype))


def rasterize(points, colours, triangles, height, width):
    """Draw `triangles` [T, 3] between `points` [V, 3] (column, row, depth in pixels) with `colours` [V, 3] in 0..255.

    Returns the image, float32 [height, width, 3], black elsewhere, and where it is covered, bool [height, width].
    A triangle covers the pixels whose centres lie in it or on its rim, whichever way it faces, so that neighbours
    leave no gap; colours and depths are interpolated linearly. The nearest triangle wins, of equally near ones the
    last in `triangles`. A triangle without area covers nothing.

    Before that, columns and rows are rounded to odd multiples of 1/8192 pixel. On that grid all tests are exact as
    long as a triangle extends over less than 8192 pixels, and no vertex shares its row or column with a pixel centre:
    a triangle whose vertices lie in one cell between centres can be dropped without a further test.
    Raises ValueError when a point is not finite or further than 2^18 pixels away.
    """
    steps = grid_steps(points)
    columns = np.clip(steps[0] >> SUBPIXELS, -1, width - 1)         # of the last pixel centres before the points
    rows = np.clip(steps[1] >> SUBPIXELS, -1, height - 1)
    corners = np.take(triangles, hits(columns, rows, triangles), 0).T.copy()        # [3, T]
    x, y = np.take(steps, corners, 1)
    depth = np.take(points[:, 2], corners)
    nearest = np.full(height * width, -1)
    depths = np.full(height * width, -np.inf)
    for pixels, owners in candidates(np.take(columns, corners), np.take(rows, corners), width):
        weights, sums = edge_functions(x, y, pixels, owners, width)
        inside = np.flatnonzero(((weights >= 0).all(0) | (weights <= 0).all(0)) & (sums != 0))
        pixels, owners = pixels[inside], owners[inside]
        found = interpolate(weights[:, inside], sums[inside], np.take(depth, owners, 1))
        np.maximum.at(depths, pixels, found)
        won = found == depths[pixels]
        nearest[pixels[won]] = owners[won]          # NumPy keeps the last of several values for one pixel
    image = np.zeros([height * width, 3], np.float32)
    pixels = np.flatnonzero(nearest >= 0)
    owners = nearest[pixels]
    weights, sums = edge_functions(x, y, pixels, owners, width)
    image[pixels] = interpolate(weights[..., None], sums[:, None], np.take(colours, np.take(corners, owners, 1), 0))
    return image.reshape(height, width, 3), (nearest >= 0).reshape(height, width)


def grid_steps(points):
    """Columns and rows of `points` [V, 3] on the grid: int32 [2, V], s for (2 s + 1) / 2^(SUBPIXELS + 1) pixels."""
    if not (np.isfinite(points).all() and (np.abs(points[:, :2]) < REACH).all()):
        raise ValueError("points to draw must be finite and within 2^18 pixels")
    return np.floor(points[:, :2].T * points.dtype.type(2 ** SUBPIXELS)).astype(np.int32)


def hits(columns, rows, triangles):
    """Indices of the `triangles` [T, 3] whose box holds a pixel centre: whose vertices differ in column and in row.

    `columns` and `rows` [V] are those of the pixel centre before each vertex, limited to the picture.
    """
    packed = columns << 16 | rows & 0xffff
    a, b, c = (np.take(packed, corner) for corner in triangles.T)
    differ = (a ^ b) | (a ^ c)
    return np.flatnonzero((differ & 0xffff != 0) & (differ >> 16 != 0))


def candidates(columns, rows, width):
    """Yield pairs of arrays: the flat indices of pixels in the boxes of triangles, and whose box it was.

    `columns` and `rows` [3, T] are those of the pixel centre before each corner. Triangles come in their order, about
    CHUNK pixels at a time, or one triangle if it is larger.
    """
    left, top = columns.min(0) + 1, rows.min(0) + 1
    wide, high = columns.max(0) - left + 1, rows.max(0) - top + 1
    counts = wide * high
    starts = np.cumsum(counts) - counts
    bounds = [0, *np.flatnonzero(np.diff(starts // CHUNK)) + 1, len(counts)]
    for begin, end in zip(bounds, bounds[1:]):
        owners = np.repeat(np.arange(begin, end), counts[begin:end])
        within = np.arange(len(owners)) - np.repeat(starts[begin:end] - starts[begin:begin + 1], counts[begin:end])
        row, column = np.divmod(within.astype(np.int32), wide[owners])
        yield (row + top[owners]) * width + column + left[owners], owners


def edge_functions(x, y, pixels, owners, width):
    """Twice the areas [3, P] between each pixel and the side opposite to each corner of its triangle, signed; sums [P].

    `x` and `y` [3, T] are the corners' grid columns and rows; `pixels` [P] are flat indices and `owners` [P]
    triangles. The unit is half a grid step, squared. All three have one sign inside (Pineda 1988, "A Parallel
    Algorithm for Polygon Rasterization"). Two triangles that share a side get opposite numbers for it exactly.
    """
    row, column = np.divmod(pixels, width)
    x = 2.0 * (np.take(x, owners, 1) - (column << SUBPIXELS)) + 1
    y = 2.0 * (np.take(y, owners, 1) - (row << SUBPIXELS)) + 1
    weights = np.stack([x[i] * y[j] - x[j] * y[i] for i, j in ((1, 2), (2, 0), (0, 1))])
    return weights, weights[0] + weights[1] + weights[2]


def interpolate(weights, sums, values):
    """The mean [P, ...] of `values` [3, P, ...] with `weights` [3, P, ...], whose sums are `sums` [P, ...]."""
    return (weights[0] * values[0] + weights[1] * values[1] + weights[2] * values[2]) / sums


def window(points, box, height, width):
    """`points` [V, 3] (column, row, depth) of a picture, in the part of it that `box` cuts out, stretched to a new size.

    `box` is left, top, right, bottom in pixels from the picture's corner, where the first pixel's centre is at (.5, .5);
    `height` and `width` are those of the new picture.
    """
    left, top, right, bottom = box
    scale = np.array([width / (right - left), height / (bottom - top), 1], points.dtype)
    return (points - np.array([left - .5, top - .5, 0], points.dtype)) * scale - np.array([.5, .5, 0], points.dtype)


def render(vertices, texture, triangles, touching, illumination, pose, color, height, width, box=None, size=None,
           supersample=1):
    """A picture uint8 [height, width, 3] of a head, black around it, and where the head is, bool [height, width].

    `vertices` [V, 3] are in micrometres, `texture` [V, 3] rgb in 0..255, `triangles` [T, 3] 0-based and
    counter-clockwise from outside, `touching` their `incidence`; `illumination` [10], `pose` [7] and `color` [7] are
    those of `light`, `project` and `tone`. Of a `box` of that picture (see `window`), which may reach beyond it, only
    this part is drawn, at `size` (height, width). Raises ValueError for vertices that are not finite.

    With `supersample` = k the head is drawn k times as large and reduced. A pixel is covered when at least half its
    k x k samples are; it gets the mean of those, and all others are black: the rim does not fade, and the mask says
    exactly what isn't background, as without supersampling.
    """
    k, (rows, columns) = supersample, size or (height, width)
    colours = tone(light(texture, vertex_normals(vertices, triangles, touching), illumination), color)
    points = window(project(vertices, pose, height), box or (0, 0, width, height), k * rows, k * columns)
    image, covered = rasterize(points, colours, triangles, k * rows, k * columns)
    if k > 1:
        samples = covered.reshape(rows, k, columns, k).sum((1, 3))
        covered = 2 * samples >= k * k
        image = image.reshape(rows, k, columns, k, 3).sum((1, 3)) * (covered / np.maximum(samples, 1))[..., None]
    return np.rint(image).astype(np.uint8), covered
