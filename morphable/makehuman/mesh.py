"""The mesh of MakeHuman's head: what is taken of base.obj, refined, laid out on an atlas of textures. NumPy and SciPy.

The head has parts: skin, eyes, teeth, tongue, lashes. Everything that moves the coarse vertices of base.obj moves the
fine ones by one sparse matrix. Coordinates are millimetres in the frame of the built-in head: x to the right of the
image, y up, z forward, the mean's eyeballs at EYE.
"""
from typing import NamedTuple

import numpy as np
from scipy import sparse

from morphable.makehuman import files as makehuman_files

EYE = np.array([29.0, 31.84, 64.7])         # centre of the mean's left eyeball, which is at the right of the image
LOWEST, WIDEST = -168.0, 170.0              # of the skin that is taken
EYE_RADIUS = 15.5
EYE_RINGS = np.array([0, 9, 16, 22, 27, 33, 40, 50, 62, 76, 92])       # degrees from the pole, which looks ahead
EYE_COLUMNS = 24
PARTS = "skin", "left_eye", "right_eye", "upper_teeth", "lower_teeth", "tongue", "lashes"
GROUPS = {"left_eye": ["helper-l-eye"], "right_eye": ["helper-r-eye"], "upper_teeth": ["helper-upper-teeth"],
          "lower_teeth": ["helper-lower-teeth"], "tongue": ["helper-tongue"],
          "lashes": ["helper-l-eyelashes-2", "helper-r-eyelashes-2"]}
TEETH_FORWARD = {"upper_teeth": (0, -4, 5), "lower_teeth": (0, 1, 3)}   # millimetres, so that open lips show them
LASH_LENGTH = .05                           # of what it is in base.obj, where lashes are a bar before the eye

# The atlas: blocks of one image, (left, top, width, height) in texels. The skin is unrolled about a vertical axis.
ATLAS_WIDTH, ATLAS_HEIGHT = 640, 1860
BLOCKS = {"skin": (0, 0, 640, 640), "hair": (0, 640, 640, 640), "left_eye": (0, 1280, 160, 160),
          "right_eye": (160, 1280, 160, 160), "upper_teeth": (320, 1280, 160, 60), "lower_teeth": (320, 1340, 160, 60),
          "tongue": (320, 1400, 80, 40), "lashes": (400, 1400, 80, 40), "mouth": (480, 1400, 80, 40),
          "glasses": (560, 1400, 80, 40),
          "long_hair": (0, 1440, 640, 240), "beard": (0, 1680, 360, 180)}
AXIS_Z = 5.0                                # of the axis that the skin is unrolled about
FRONT_SHARE = .82                           # of the block's width that goes to the front half of the head
TOP, BOTTOM = 152.0, -172.0                 # heights of the block's upper and lower edge


class HeadMesh(NamedTuple):
    """The refined mesh of the head; its first vertices are those of base.obj that `coarse` names."""
    coarse: np.ndarray          # [C] numbers of the vertices of base.obj that fine vertices follow
    offset: np.ndarray          # [3], what is added to points of base.obj
    refine: sparse.csr_matrix   # [V, C]: fine points of coarse ones
    shift: np.ndarray           # [V, 3], what is added to fine points
    triangles: np.ndarray       # [T, 3] int32
    texels: np.ndarray          # [T, 3, 2] float32: column and row in the atlas of each corner
    part: np.ndarray            # [T] int8, index in PARTS
    inner: np.ndarray           # [V] in 0..1: how far a vertex of the skin lies inside the mouth
    lips: np.ndarray            # [V] in 0..1
    quads: np.ndarray           # [n, 4] of the skin before refinement, as coarse vertices


def build(root, base, mean):
    """Build the HeadMesh of base.obj below `root`, a makehuman_files.BaseMesh, for the mean head `mean` [B, 3]."""
    left, right = (mean[np.unique(base.quads[GROUPS[side][0]])].mean(axis=0) for side in ("left_eye", "right_eye"))
    offset = EYE * [0, 1, 1] - (left + right) / 2
    mean = mean + offset
    body = base.quads["body"]
    kept = (mean[body][..., 1] > LOWEST).all(axis=1) & (np.abs(mean[body][..., 0]) < WIDEST).all(axis=1)
    parts = {"skin": body[kept], **{part: np.concatenate([base.quads[group] for group in groups])
                                    for part, groups in GROUPS.items()}}
    coarse = np.concatenate([np.unique(quads) for quads in parts.values()])
    number = np.full(len(mean), -1)
    number[coarse] = np.arange(len(coarse))
    rows, faces, kinds, first = [], [], [], 0
    for index, part in enumerate(PARTS):
        quads = number[parts[part]]
        if part.endswith("eye"):
            matrix, triangles = _eyeball(mean[coarse], np.unique(quads), len(coarse))
        else:
            matrix, fine = _subdivide(quads, len(coarse))
            triangles = _cut(fine, matrix @ mean[coarse])
        rows.append(matrix)
        faces.append(triangles + first)
        kinds.append(np.full(len(triangles), index, np.int8))
        first += matrix.shape[0]
    refine = sparse.vstack(rows).tocsr()
    triangles, part = np.concatenate(faces).astype(np.int32), np.concatenate(kinds)
    points = refine @ mean[coarse]
    of_part = _vertex_parts(triangles, part, len(points))
    shift = np.zeros_like(points)
    for name, forward in TEETH_FORWARD.items():
        shift[of_part == PARTS.index(name)] = forward
    lash = of_part == PARTS.index("lashes")
    refine = _shorten_lashes(refine, points, lash, of_part == 0)
    points = refine @ mean[coarse] + shift
    inner, lips = (np.clip(refine @ _at_vertices(root, base, name)[coarse], 0, 1) for name in makehuman_files.MASKS)
    inner = np.where((of_part == 0) & (lips < .3) & (points[:, 2] < 93), inner, 0)
    texels = lay_out(points, triangles, part, inner)
    return HeadMesh(coarse, offset, refine, shift, triangles, texels.astype(np.float32), part,
                    inner.astype(np.float32), lips.astype(np.float32), number[parts["skin"]])


def _at_vertices(root, base, name):
    """Look up a mask of the body's texture at the vertices of base.obj -> [B]."""
    mask = makehuman_files.read_mask(root, name, 1024)
    column, row = np.clip((base.uv * [1, -1] + [0, 1]) * 1024, 0, 1023).astype(int).T
    return mask[row, column]


def _vertex_parts(triangles, part, count):
    """Tell the part of each of `count` vertices -> [V] indices in PARTS."""
    result = np.zeros(count, np.int8)
    result[triangles.ravel()] = np.repeat(part, 3)
    return result


# Refinement

def _subdivide(quads, count):
    """Refine quads once (Catmull, Clark 1978) -> (matrix [n, count], fine quads [4 F, 4] of its rows).

    `count` is the number of coarse vertices. The first rows are the coarse vertices of the quads in rising order, then
    come edges, then faces. On an open rim, points follow a cubic spline of the rim.
    """
    used, local = np.unique(quads, return_inverse=True)
    local = local.reshape(quads.shape)
    sides = np.stack([local, np.roll(local, -1, axis=1)], -1).reshape(-1, 2)
    edges, which, times = np.unique(np.sort(sides, axis=1), axis=0, return_inverse=True, return_counts=True)
    which = which.reshape(quads.shape)
    vertices, n_edges, n_faces = len(used), len(edges), len(local)
    face = sparse.csr_matrix((np.full(local.size, .25), (np.repeat(np.arange(n_faces), 4), local.ravel())),
                             [n_faces, vertices])
    ends = sparse.csr_matrix((np.full(edges.size, .5), (np.repeat(np.arange(n_edges), 2), edges.ravel())),
                             [n_edges, vertices])
    beside = sparse.csr_matrix((np.full(which.size, .5), (which.ravel(), np.repeat(np.arange(n_faces), 4))),
                               [n_edges, n_faces])
    rim = (times != 2).astype(float)
    edge = sparse.diags(.5 * (1 - rim)) @ (ends + beside @ face) + sparse.diags(rim) @ ends
    on_rim = np.zeros(vertices)
    on_rim[edges[rim > 0]] = 1
    touch = sparse.csr_matrix((np.ones(local.size), (local.ravel(), np.repeat(np.arange(n_faces), 4))),
                              [vertices, n_faces])
    meet = sparse.csr_matrix((np.ones(edges.size), (edges.ravel(), np.repeat(np.arange(n_edges), 2))),
                             [vertices, n_edges])
    valence = np.maximum(np.asarray(meet.sum(axis=1)).ravel(), 1)
    around = np.maximum(np.asarray(touch.sum(axis=1)).ravel(), 1)
    inside = (sparse.diags(1 / (valence * around)) @ touch @ face + sparse.diags(2 / valence ** 2) @ meet @ ends
              + sparse.diags((valence - 3) / valence))
    along = sparse.diags(.5 * np.ones(vertices)) + .25 * (meet @ sparse.diags(rim) @ ends) * 1.0
    point = sparse.diags(1 - on_rim) @ inside + sparse.diags(on_rim) @ along
    scale = np.asarray(point.sum(axis=1)).ravel()
    matrix = sparse.vstack([sparse.diags(1 / scale) @ point, edge, face]).tocsr()
    fine = np.stack([local, vertices + which, np.broadcast_to(np.arange(n_faces)[:, None], local.shape)
                     + vertices + n_edges, vertices + np.roll(which, 1, axis=1)], -1).reshape(-1, 4)
    place = sparse.csr_matrix((np.ones(vertices), (np.arange(vertices), used)), [vertices, count])
    return matrix @ place, fine


def _cut(quads, points):
    """Cut quads along their shorter diagonals -> triangles [2 n, 3]."""
    a, b, c, d = quads.T
    length_ac, length_bd = (np.linalg.norm(points[i] - points[j], axis=1) for i, j in ((a, c), (b, d)))
    one_way = (length_ac <= length_bd)[:, None, None]
    return np.where(one_way, np.stack([np.stack([a, b, c], -1), np.stack([a, c, d], -1)], 1),
                    np.stack([np.stack([a, b, d], -1), np.stack([b, c, d], -1)], 1)).reshape(-1, 3)


def _eyeball(points, vertices, count):
    """Lay the front of a sphere over an eyeball -> (matrix [n, count], triangles).

    Each point of the sphere is that combination of the eyeball's vertices which follows every affine motion of them.
    """
    centre = points[vertices].mean(axis=0)
    known = np.column_stack([np.ones(len(vertices)), (points[vertices] - centre) / EYE_RADIUS])
    polar, around = np.meshgrid(np.radians(EYE_RINGS), np.linspace(0, 2 * np.pi, EYE_COLUMNS, endpoint=False),
                                indexing="ij")
    goal = np.stack([np.ones_like(polar), np.sin(polar) * np.cos(around), np.sin(polar) * np.sin(around),
                     np.cos(polar)], -1).reshape(-1, 4)
    weights = goal @ np.linalg.pinv(known)
    matrix = np.zeros([len(goal), count])
    matrix[:, vertices] = weights
    ring = np.arange(len(EYE_RINGS) - 1)[:, None] * EYE_COLUMNS
    column = np.arange(EYE_COLUMNS)
    following = (column + 1) % EYE_COLUMNS
    a, b, c, d = ring + column, ring + EYE_COLUMNS + column, ring + EYE_COLUMNS + following, ring + following
    triangles = np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)])
    return sparse.csr_matrix(matrix), triangles


def _shorten_lashes(refine, points, lash, skin):
    """Draw the lashes towards the skin nearest to them -> the matrix `refine` with other rows for them."""
    from scipy.spatial import cKDTree
    number = np.flatnonzero(skin)
    nearest = number[cKDTree(points[number]).query(points[lash])[1]]
    keep = sparse.diags(np.where(lash, LASH_LENGTH, 1.0))
    pull = sparse.csr_matrix((np.full(len(nearest), 1 - LASH_LENGTH), (np.flatnonzero(lash), nearest)),
                             [len(points), len(points)])
    return (keep @ refine + pull @ refine).tocsr()


# The layout of the textures

def unroll(points):
    """Find where `points` [..., 3] of the mean's skin lie in its block -> columns and rows in texels, [..., 2].

    The front half of the head gets FRONT_SHARE of the width.
    """
    left, top, width, height = BLOCKS["skin"]
    angle = np.arctan2(points[..., 0], points[..., 2] - AXIS_Z) / np.pi         # -1..1, 0 in front
    front, back = np.abs(angle) * 2 * FRONT_SHARE, FRONT_SHARE + (np.abs(angle) * 2 - 1) * (1 - FRONT_SHARE)
    across = .5 + .5 * np.sign(angle) * np.where(np.abs(angle) < .5, front, back)
    return np.stack([left + across * width, top + (TOP - points[..., 1]) / (TOP - BOTTOM) * height], -1)


def lay_out(points, triangles, part, inner):
    """Lay all parts of the mean head out on the atlas -> [T, 3, 2] columns and rows in texels."""
    texels = np.zeros([len(triangles), 3, 2])
    skin = part == 0
    texels[skin] = unroll(points)[triangles[skin]]
    columns = texels[skin][..., 0]
    width = BLOCKS["skin"][2]
    torn = columns.max(axis=1) - columns.min(axis=1) > width / 2        # at the seam behind
    columns[torn] += width * (columns[torn] < width / 2)
    texels[skin, :, 0] = np.minimum(columns, width - .01)
    in_mouth = skin & (inner[triangles].min(axis=1) > .5)
    texels[in_mouth] = _fill("mouth", points[triangles[in_mouth]], (0, 1))
    for index, name in enumerate(PARTS[1:], 1):
        here = part == index
        corners = points[triangles[here]]
        if name.endswith("eye"):
            side = EYE * ([1, 1, 1] if name == "left_eye" else [-1, 1, 1])
            left, top, width, height = BLOCKS[name]
            texels[here] = np.stack([left + width / 2 + (corners[..., 0] - side[0]) / EYE_RADIUS * width * .47,
                                     top + height / 2 - (corners[..., 1] - side[1]) / EYE_RADIUS * height * .47], -1)
        else:
            texels[here] = _fill(name, corners, (0, 1))
    return texels


def _fill(name, corners, axes):
    """Stretch `corners` [t, 3, 3], seen along the axis that `axes` leave out, over a block -> [t, 3, 2]."""
    left, top, width, height = BLOCKS[name]
    flat = corners[..., axes]
    if not flat.size:
        return flat
    low, high = flat.min(axis=(0, 1)), flat.max(axis=(0, 1))
    share = (flat - low) / np.maximum(high - low, 1e-6)
    return np.stack([left + 1 + share[..., 0] * (width - 3), top + 1 + (1 - share[..., 1]) * (height - 3)], -1)
