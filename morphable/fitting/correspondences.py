"""Find which point of a face model each of the network's 468 points is: the network looks at renderings of the model.

So any model with landmarks can be fitted, and no list says which of its vertices are meant. The mean face is rendered
in several poses. Below each point that the network finds there lies a point of the model's surface.
"""
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage
from scipy.sparse import csgraph, csr_matrix
from scipy.spatial import cKDTree

from morphable import renderer
from utils import UserError

# Points of the network's mesh
LIDS = np.array([33, 7, 163, 144, 145, 153, 154, 155, 133, 246, 161, 160, 159, 158, 157, 173,
                 263, 249, 390, 373, 374, 380, 381, 382, 362, 466, 388, 387, 386, 385, 384, 398])
LIPS = np.array([61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 185, 40, 39, 37, 0, 267, 269, 270, 409,
                 78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 191, 80, 81, 82, 13, 312, 311, 310, 415])
BROWS = np.array([46, 53, 52, 65, 55, 70, 63, 105, 66, 107, 276, 283, 282, 295, 285, 300, 293, 334, 296, 336])
OVAL = np.array([10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176,
                 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109])     # in order
EYES = LIDS[:16], LIDS[16:]         # at the left and at the right of the image
NOSE_TIP, CHIN, BRIDGE, UPPER_LIP, LOWER_LIP = 30, 8, 27, 51, 57      # of the model's 68 landmarks

VIEWS = (0, 0), (.35, 0), (-.35, 0), (0, .25), (0, -.2)             # yaw and pitch in radians
OPEN_VIEWS = (0, 0), (.2, 0), (-.2, 0)
SIDE, FACE_SHARE = 512, .42         # of a view in pixels; from chin to bridge of the nose, as a share of it
GREY = 110, 115, 120                # behind the head
LIGHT = np.array([.75, .75, .75, .35, .35, .35, .4, .3, 0, 20])
PLAIN = np.array([1, 1, 1, 0, 0, 0, 1.0])
MILLIMETRE = 1000.0
OPENING = 13 * MILLIMETRE           # of the mouth, in the views that tell upper lips from lower ones
THIN, AROUND = 4 * MILLIMETRE, 11   # a lip's or lid's point is no deeper behind what is foremost within so many pixels
SPREAD = 6 * MILLIMETRE             # over views, at which a point counts half
# Other people than the mean, who tell how far the points are off: their number, seed, components, share of expressions
# and yaw in radians
TRIED, SEED, LEADING, MILD, TURNED = 16, 14, 40, .7, .4
FINE = 5.0                          # weight of lips and lids
BROW = 2.0


class Correspondences(NamedTuple):
    """The point of a model that each of the network's 468 points is."""
    vertices: np.ndarray            # [468] the nearest vertex
    offsets: np.ndarray             # [468, 3] from there, micrometres
    weights: np.ndarray             # [468] how much a point counts


def find(model, incidence, net):
    """Find the Correspondences of a FaceModel. `net` is a landmark_net.LandmarkNet.

    Raises UserError where the network sees no face in the renderings of the model.
    """
    skin = _component(model)
    still = _look(model, incidence, net, skin, model.shape_mean, VIEWS)
    places, spread = _mean_of(still)
    vertices, offsets = _nearest(model.shape_mean, skin, places)
    opened = model.shape_mean + _open_mouth(model)
    if not np.array_equal(opened, model.shape_mean):
        lips, lip_spread = _mean_of(_look(model, incidence, net, skin, opened, OPEN_VIEWS))
        found, moved = _nearest(opened, skin, lips[LIPS])
        vertices[LIPS], offsets[LIPS], spread[LIPS] = found, moved, lip_spread[LIPS]
    offsets = offsets + _correct(model, incidence, net, vertices, offsets)
    weights = 1 / (1 + (spread / SPREAD) ** 2)
    weights[LIPS] *= FINE
    weights[LIDS] *= FINE
    weights[BROWS] *= BROW
    return Correspondences(vertices.astype(np.int32), offsets.astype(np.float32), weights)


def _correct(model, incidence, net, vertices, offsets):
    """Find how far the points are off on average, on renderings of other people than the mean -> [468, 3]."""
    matrix = np.repeat(TRIED / 4 * np.eye(3)[None], len(vertices), axis=0)
    right = np.zeros([len(vertices), 3])
    for number in range(TRIED):
        random = np.random.default_rng([SEED, number])
        shape = np.zeros(len(model.shape_std))
        count = min(len(shape), LEADING)
        shape[:count] = random.standard_normal(count)
        expression = random.standard_normal(len(model.expression_std)) * MILD
        seen = (model.shape_mean + np.tensordot((shape * model.shape_std).astype(np.float32), model.shape_basis, 1)
                + np.tensordot((expression * model.expression_std).astype(np.float32), model.expression_basis, 1))
        yaw, pitch = random.uniform(-TURNED, TURNED, 2) * [1, .6]
        image, pose = _photograph(model, incidence, seen, yaw, pitch)
        faces = net.find(image)
        if not faces:
            continue
        placed = renderer.project(seen[vertices] + offsets.astype(np.float32), pose, SIDE)[:, :2]
        away = (faces[0].points - placed) * [1, -1] / pose[6]           # micrometres
        camera = renderer.rotation_matrix(*pose[:3])[:2]
        matrix += camera.T @ camera
        right += away @ camera
    return np.linalg.solve(matrix, right[..., None])[..., 0]


def _component(model):
    """Tell which vertices hang together with the tip of the nose -> bool [V]. Eyeballs and teeth often do not."""
    count = len(model.shape_mean)
    a, b, c = model.triangles.T
    edges = csr_matrix((np.ones(2 * len(a), bool), (np.r_[a, b], np.r_[b, c])), (count, count))
    labels = csgraph.connected_components(edges, directed=False)[1]
    return labels == labels[model.landmarks[NOSE_TIP]]


def _open_mouth(model):
    """Find the move [V, 3] that opens the mouth by OPENING, or as far as expressions go."""
    upper, lower = model.landmarks[[UPPER_LIP, LOWER_LIP]]
    gaps = (model.expression_basis[:, upper, 1] - model.expression_basis[:, lower, 1]) * model.expression_std
    if not gaps.size or not gaps.any():
        return 0
    gaps = np.where(np.abs(gaps) > np.abs(gaps).max() / 2, gaps, 0)
    expression = np.clip(gaps * OPENING / (gaps @ gaps), -3, 3) * model.expression_std
    return np.tensordot(expression.astype(np.float32), model.expression_basis, 1)


def _look(model, incidence, net, skin, vertices, views):
    """Let the network look at `vertices` from `views` -> list of (places [468, 3], weights [468])."""
    normals, seen = renderer.compute_normals(vertices, model.triangles, incidence), []
    for yaw, pitch in views:
        image, pose = _photograph(model, incidence, vertices, yaw, pitch)
        faces = net.find(image)
        if faces:
            points = renderer.project(vertices, pose, SIDE)
            facing = normals @ renderer.rotation_matrix(pitch, yaw, 0)[2]
            found = _places_below(points, vertices, facing, model.triangles, skin, faces[0].points)
            seen.append((*found, 2.0 if (yaw, pitch) == (0, 0) else 1.0))
    if not seen:
        raise UserError(f"--model: the network for landmarks finds no face in renderings of {model.name}; name another "
                        "model")
    return [(places, factor * np.clip(facing - .15, .01, 1) ** 2) for places, facing, factor in seen]


def _photograph(model, incidence, vertices, yaw, pitch):
    """Render `vertices` in the mean's colours -> (Pillow image, Pose_Para)."""
    mesh = renderer.Mesh(vertices, np.clip(model.texture_mean, 0, 255), model.triangles, incidence)
    landmarks = vertices[model.landmarks]
    scale = FACE_SHARE * SIDE / np.linalg.norm(landmarks[CHIN] - landmarks[BRIDGE])
    middle = scale * renderer.rotation_matrix(pitch, yaw, 0) @ landmarks[NOSE_TIP]
    pose = np.array([pitch, yaw, 0, SIDE / 2 + .5 - middle[0], SIDE / 2 + .5 - middle[1], 0, scale])
    image, covered = renderer.render(mesh, renderer.Shot(LIGHT, pose, PLAIN), renderer.Frame(SIDE, SIDE))
    image[~covered] = GREY
    return Image.fromarray(image), pose


def _places_below(points, vertices, facing, triangles, skin, wanted):
    """Find the points of the surface below the pixels `wanted` [468, 2] -> (places [468, 3], how they face [468])."""
    pixels, owners, weights, sums = renderer.find_visible(points, triangles, SIDE, SIDE)
    corners, shares = triangles[owners].T, (weights / sums)
    of_skin = skin[corners[0]]
    place = (vertices[corners] * shares[..., None]).sum(axis=0)
    faces = (facing[corners] * shares).sum(axis=0)
    scale = np.abs(points[:, 2]).max() / max(np.abs(vertices).max(), 1)      # pixels in a micrometre, roughly
    deep = np.full(SIDE * SIDE, -np.inf)
    deep[pixels[of_skin]] = (points[corners, 2] * shares).sum(axis=0)[of_skin]
    foremost = ndimage.maximum_filter(deep.reshape(SIDE, SIDE), AROUND).ravel()
    thin = of_skin & (deep[pixels] > foremost[pixels] - THIN * scale)
    result, direction = np.empty([len(wanted), 3]), np.empty(len(wanted))
    fine = np.isin(np.arange(len(wanted)), np.r_[LIPS, LIDS])
    for chosen, allowed in ((~fine, of_skin), (fine, thin)):
        where = np.flatnonzero(allowed)
        row, column = np.divmod(pixels[where], SIDE)
        nearest = where[cKDTree(np.column_stack([column, row])).query(wanted[chosen])[1]]
        result[chosen], direction[chosen] = place[nearest], faces[nearest]
    return result, direction


def _mean_of(seen):
    """Average places over views -> (places [468, 3], root mean square distance from them [468])."""
    places, weights = (np.array(each) for each in zip(*seen))
    weights = weights / weights.sum(axis=0)
    mean = (places * weights[..., None]).sum(axis=0)
    return mean, np.sqrt((((places - mean) ** 2).sum(axis=2) * weights).sum(axis=0))


def _nearest(vertices, skin, places):
    """Find the vertices of the skin nearest to `places` [n, 3] -> (vertices [n], offsets [n, 3] from them)."""
    indices = np.flatnonzero(skin)
    found = indices[cKDTree(vertices[indices]).query(places)[1]]
    return found, places - vertices[found]
