"""MakeHuman's head with all that people of it need: built from the data once, kept in a cache, and put together.

The cache lies beside the environment. It has the checksum of code and data in its name, so that either makes a new one.
"""
import functools
import glob
import logging
import os
import sys
import zipfile
import zlib
from typing import NamedTuple

import numpy as np
from scipy import sparse

import utils
from morphable import face_model, renderer, textured_renderer
from morphable.makehuman import expressions as makehuman_expressions
from morphable.makehuman import files as makehuman_files
from morphable.makehuman import glasses as makehuman_glasses
from morphable.makehuman import hair as makehuman_hair
from morphable.makehuman import mesh as makehuman_mesh
from morphable.makehuman import people as makehuman_people
from morphable.makehuman import texture as makehuman_texture
from morphable.makehuman.atlas import Atlas
from morphable.makehuman.mesh import EYE, HeadMesh, PARTS

NAME = "MakeHuman"
MICROMETRES = 1000.0
MEAN_AGE = 32.0
COUNT = 406                         # targets that people are made of
SHADE_POWER, TINT = .8, np.array([.80, 1.02, 1.12])     # dark is warm
# What the head is stretched by about its eyes, in x, y and z: as far as the distances between 468 landmarks of frontal
# renderings and of a hundred news photos are apart on average
PROPORTIONS = np.array([.965, 1.03, 1.0])
SUNK = 7000.0                       # micrometres; the mouth's inside does not show through a cheek that a smile draws
LEAST_LIGHT = .25                   # in the mouth
KEPT_CACHES = 3
# Vertices of base.obj for the 68 landmarks in iBUG's order (Sagonas et al. 2013)
LANDMARKS = np.array([
    5739, 5455, 5759, 912, 895, 893, 3698, 914, 732, 7616, 10366, 7595, 7597, 7614, 12356, 12054, 12336,
    5262, 232, 222, 223, 208, 6983, 6997, 6996, 7005, 11870, 136, 135, 201, 5054, 333, 309, 317, 7073, 7095,
    6781, 4849, 54, 1103, 6772, 6776, 7795, 6838, 11467, 13377, 13372, 13368,
    527, 5364, 460, 455, 7219, 11966, 7272, 7235, 7241, 492, 486, 480, 527, 472, 468, 7228, 7272, 7228, 474, 472])


class Head(NamedTuple):
    """The head, its people and its colours."""
    catalogue: np.ndarray       # [n] names of targets
    base: np.ndarray            # [C, 3] millimetres, coarse vertices that targets move; in a restful expression
    fields: np.ndarray          # [n, C, 3] float32, millimetres
    expressions: np.ndarray     # [e, V, 3] float32, micrometres
    deviations: np.ndarray      # [e]
    mesh: HeadMesh
    rest: np.ndarray            # [V, 3] the mean, without expression
    shade: np.ndarray           # [V, 3] float32
    masks: dict                 # of the skin's block
    positions: np.ndarray       # [h, w, 3] of the mean's skin at the texels of the skin's block
    kit: makehuman_hair.Kit
    incidence: sparse.csr_matrix
    checksum: int               # CRC-32 of the targets' fields, by which data of two versions are told apart


class Figure(NamedTuple):
    """A person with hair, ready to be rendered with any expression."""
    points: np.ndarray          # [W, 3] float32 micrometres: the head, then its hair
    follow: np.ndarray          # [W - V] vertices of the head that hair follows; -1: none
    mesh: textured_renderer.TexturedMesh


# The data

def load(path=None):
    """Load the Head from the installed package, or from the folder `path`; from a cache if there is one.

    Raises UserError for data that are missing or broken.
    """
    root = makehuman_files.find(path)
    key = _key(root)
    cache = os.path.join(sys.prefix, "var", "facegan", f"makehuman-{key:08x}.npz")
    try:
        with np.load(cache, allow_pickle=False) as file:
            return _unpack(dict(file))
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        logging.warning("%s: can't be read (%s), the model is built anew", cache, utils.one_line(str(error)))
    logging.info("building the model %s from %s", NAME, root)
    head = build(root)
    try:
        os.makedirs(os.path.dirname(cache), exist_ok=True)
        with utils.atomic_write(cache) as file:
            np.savez(file, **_pack(head))
        others = sorted(glob.glob(os.path.join(glob.escape(os.path.dirname(cache)), "makehuman-*.npz")),
                        key=os.path.getmtime)
        for old in others[:-KEPT_CACHES]:
            os.remove(old)
    except OSError as error:
        logging.info("%s: can't be kept (%s), the model is built again next time", cache, error.strerror)
    return _unpack(_pack(head))         # as from a cache, to the bit


def _key(root):
    """Compute the CRC-32 of the data and of the code that makes the model of them."""
    folder, value = os.path.dirname(os.path.abspath(__file__)), makehuman_files.checksum(root)
    for name in sorted(os.listdir(folder)):
        if name.endswith(".py"):
            with open(os.path.join(folder, name), "rb") as file:
                value = zlib.crc32(file.read(), value)
    return value


def build(root):
    """Build the Head from the data in the folder `root`. This takes some seconds. Raises UserError."""
    base = makehuman_files.read_mesh(root)
    count = len(base.points)
    folders = "macrodetails", *makehuman_files.LOCAL_FOLDERS
    catalogue = makehuman_people.list_catalogue({folder: makehuman_files.list_targets(root, folder)
                                                 for folder in folders})
    macros = makehuman_people.macro_weights(MEAN_AGE, .5, [1 / 3] * 3, .5, .5)
    targets = os.path.join(root, *makehuman_files.TARGETS.split("/"))
    missing = sorted(set(macros) - {name.partition("/")[2] for name in catalogue})
    if missing:
        raise utils.UserError(f"{os.path.join(targets, 'macrodetails', missing[0])}.target.gz: is missing; "
                              f"{makehuman_files.INSTALL}")
    if len(catalogue) != COUNT:
        raise utils.UserError(f"{targets}: has {len(catalogue)} targets of the head and not {COUNT}; damaged, or of "
                              f"another version than {makehuman_files.VERSION}; {makehuman_files.INSTALL}")
    everywhere = np.stack([makehuman_files.read_target(root, f"{makehuman_files.TARGETS}/{name}.target.gz", count)
                           for name in catalogue])
    usual = np.array([macros.get(name.partition("/")[2], 0) for name in catalogue], np.float32)
    mean = base.points + np.tensordot(usual, everywhere, 1)
    mesh = makehuman_mesh.build(root, base, mean)
    skin = np.unique(mesh.quads)
    fields, middle = everywhere[:, mesh.coarse], mean[mesh.coarse] + mesh.offset
    steady = skin[middle[skin, 1] > -60]
    fields = fields - fields[:, steady].mean(axis=1, keepdims=True)
    # What the targets move the whole head by is taken out of them, not out of the mean
    start = middle - np.tensordot(usual, fields, 1)
    rest = mesh.refine @ middle + mesh.shift
    modes, deviations = makehuman_expressions.read_modes(root, mesh.coarse, count)
    pleasant = np.tensordot(makehuman_expressions.coefficients(makehuman_expressions.REST), modes, 1)
    fine = np.stack([mesh.refine @ mode for mode in modes]) * MICROMETRES
    incidence = renderer.compute_incidence(mesh.triangles, len(rest))
    shade = _shade(mesh, rest, incidence)
    chosen = np.flatnonzero((mesh.part == 0) & (mesh.inner[mesh.triangles].min(axis=1) <= .5))
    positions, lips = makehuman_texture.rest_positions(mesh, rest, ("skin", chosen), mesh.texels[chosen])
    masks = makehuman_texture.make_masks(positions, lips)
    kit = makehuman_hair.build(mesh, rest, masks, positions)
    middle = EYE * [0, 1, 1]
    start, rest = ((points - middle) * PROPORTIONS + middle for points in (start + pleasant, rest))
    fields, fine = (np.asarray(moves * PROPORTIONS, np.float32) for moves in (fields, fine))
    return Head(np.array(catalogue), start.astype(np.float32), fields, fine, deviations, mesh, rest.astype(np.float32),
                shade, masks, positions.astype(np.float32), kit, incidence, zlib.crc32(np.ascontiguousarray(fields)))


def _shade(mesh, rest, incidence):
    """Compute how much of the surroundings each vertex sees, as factors of colours -> float32 [V, 3]."""
    seen = makehuman_texture.occlusion(rest, mesh.triangles)
    around = incidence @ incidence.T
    around = sparse.diags(1 / np.asarray(around.sum(axis=1)).ravel()) @ around
    for _ in range(3):
        seen = .3 * seen + .7 * (around @ seen)
    part = np.zeros(len(rest), np.int8)
    part[mesh.triangles.ravel()] = np.repeat(mesh.part, 3)
    factor = np.maximum(seen, LEAST_LIGHT) ** SHADE_POWER
    teeth = np.isin(part, [PARTS.index("upper_teeth"), PARTS.index("lower_teeth")])
    eyes = np.isin(part, [PARTS.index("left_eye"), PARTS.index("right_eye")])
    factor = np.where(teeth, np.maximum(factor, .8), factor)
    factor = np.where(eyes, np.clip(.55 + .55 * seen, 0, 1), factor)
    return np.where(eyes[:, None], factor[:, None], factor[:, None] ** TINT).astype(np.float32)


# The cache

def _pack(head):
    """Lay a Head out as plain arrays -> {name: array}."""
    arrays = {name: value for name, value in head._asdict().items() if isinstance(value, (np.ndarray, int, np.generic))}
    for prefix, group in (("mesh", head.mesh._asdict()), ("kit", head.kit._asdict()), ("mask", head.masks)):
        for name, value in group.items():
            if sparse.issparse(value):
                arrays.update({f"{prefix}.{name}.{part}": getattr(value, part)
                               for part in ("data", "indices", "indptr")})
                arrays[f"{prefix}.{name}.shape"] = np.array(value.shape)
            else:
                arrays[f"{prefix}.{name}"] = value.astype(np.float16) if prefix == "mask" else value
    return arrays


def _unpack(arrays):
    """Make a Head of what `_pack` laid out."""
    groups = {"mesh": {}, "kit": {}, "mask": {}}
    for name in list(arrays):
        prefix, _, rest = name.partition(".")
        if rest:
            groups[prefix][rest] = arrays.pop(name)
    mesh = groups["mesh"]
    refine = {part: mesh.pop(f"refine.{part}") for part in ("data", "indices", "indptr", "shape")}
    refine = sparse.csr_matrix((refine["data"], refine["indices"], refine["indptr"]), tuple(refine["shape"]))
    mesh = HeadMesh(refine=refine, **mesh)
    masks = {name: mask.astype(np.float32) for name, mask in groups["mask"].items()}
    incidence = renderer.compute_incidence(mesh.triangles, len(arrays["rest"]))
    arrays["checksum"] = int(arrays["checksum"])
    return Head(mesh=mesh, kit=makehuman_hair.Kit(**groups["kit"]), masks=masks, incidence=incidence, **arrays)


# People

def to_face_model(head):
    """Describe a Head as a FaceModel: the mean with expressions, colours and landmarks, without ways to differ."""
    vertices = len(head.rest)
    skin = head.mesh.coarse[:np.unique(head.mesh.quads).size]
    landmarks = np.minimum(np.searchsorted(skin, LANDMARKS), len(skin) - 1)
    mean = head.rest * MICROMETRES
    none = np.zeros([0, vertices, 3], np.float32)
    colours = np.full([vertices, 3], makehuman_texture.TONES[2], np.float32) * head.shade
    return face_model.FaceModel(
        NAME, head.mesh.triangles, mean.astype(np.float32), none, np.zeros(0, np.float32), head.expressions,
        head.deviations, colours, none, np.zeros(0, np.float32), landmarks.astype(np.int32))


def make_atlas(head, person):
    """Make the Atlas of a makehuman_people.Person, still bare."""
    phase = makehuman_texture.read(person, "phase")
    plain = makehuman_texture.plain_texels(person)
    plain["glasses"] = np.append(makehuman_glasses.colour(phase), [1.2, 1])
    painters = {name: functools.partial(_fill, texel) for name, texel in plain.items()}
    for teeth in ("upper_teeth", "lower_teeth"):
        painters[teeth] = functools.partial(makehuman_texture.paint_teeth, person, teeth)
    for eye in ("left_eye", "right_eye"):
        painters[eye] = functools.partial(makehuman_texture.paint_eye, person)
    painters["skin"] = functools.partial(_paint_skin, head, person)
    for name, painter in (("hair", makehuman_hair.paint_hair), ("beard", makehuman_hair.paint_beard),
                          ("long_hair", makehuman_hair.paint_sheet)):
        painters[name] = functools.partial(painter, head.kit, person)
    return Atlas(painters)


def _fill(texel, texels):
    """Fill `texels` of a block with one texel [5] -> [5, 1], which stands for any number."""
    return texel[:, None]


def _paint_skin(head, person, texels):
    """Paint `texels` [n] of the skin's block, with the scalp -> float32 [5, n]."""
    masks = {name: np.take(mask, texels) for name, mask in head.masks.items()}
    positions = np.take(head.positions.reshape(-1, 3), texels, 0)
    skin = makehuman_texture.paint_skin(masks, positions, person)
    makehuman_hair.paint_scalp(skin, positions, person)
    return skin


def make_figure(head, person):
    """Give a makehuman_people.Person a body -> Figure."""
    coarse = head.base + face_model.combine(person.weights, head.fields)
    points = head.mesh.refine @ coarse + head.mesh.shift
    normals = renderer.compute_normals(points, head.mesh.triangles, head.incidence)
    atlas = make_atlas(head, person)
    eyes = np.stack([points[np.unique(head.mesh.triangles[head.mesh.part == PARTS.index(side)])].mean(axis=0)
                     for side in ("left_eye", "right_eye")])
    skin_points = points[np.unique(head.mesh.triangles[head.mesh.part == 0])]
    worn = makehuman_glasses.make(skin_points, eyes, person)
    hair = makehuman_hair.dress(head.kit, points, normals, person, worn)
    count, opaque = len(points), len(head.mesh.triangles)
    triangles = np.concatenate([head.mesh.triangles, hair.triangles + count]).astype(np.int32)
    points = (np.concatenate([points, hair.points]) * MICROMETRES).astype(np.float32)
    shade = np.concatenate([head.shade, np.repeat(hair.shade[:, None], 3, axis=1)]).astype(np.float32)
    texels = np.concatenate([head.mesh.texels, hair.texels]).astype(np.float32)
    mesh = textured_renderer.TexturedMesh(
        points, triangles, renderer.compute_incidence(triangles, len(points)), texels, atlas.image, shade, opaque,
        hair.thresholds, opaque + hair.flat, _sink(head.mesh, len(points)), atlas.paint)
    return Figure(points, hair.follow, mesh)


def _sink(mesh, count):
    """Find how far inside the mouth the vertices of a HeadMesh lie, with hair after them -> float32 [count]."""
    inside = np.zeros(count, np.float32)
    inside[:len(mesh.inner)] = mesh.inner
    behind = np.isin(mesh.part, [PARTS.index(part) for part in ("upper_teeth", "lower_teeth", "tongue")])
    inside[mesh.triangles[behind].ravel()] = 1
    return SUNK * inside


def with_expression(figure, moves):
    """Move a Figure by `moves` [V, 3] in micrometres -> textured_renderer.TexturedMesh."""
    moves = np.concatenate([moves, np.zeros([1, 3], moves.dtype)])
    every = np.concatenate([np.arange(len(moves) - 1), figure.follow])
    return figure.mesh._replace(vertices=figure.points + moves[every])
