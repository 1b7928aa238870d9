"""Files of 3D morphable face models: every known format is read into a `FaceModel`, and one is written.

The facts about the formats are their authors': Paysan et al. 2009 (Basel Face Model), Gerig et al. 2018 (BFM 2017),
Zhu et al. 2016 (3DDFA), Booth et al. 2018 (LSFM), Li et al. 2020 (ICT-FaceKit).
"""
import glob
import logging
import os
import re
from typing import NamedTuple, Optional

import numpy as np
import scipy.io

import utils
from morphable.face_model import FaceModel

FACE = 2e5                                  # micrometres: what a face or head is across, to a factor of 3
UNITS = {"um": 1, "mm": 1e3, "cm": 1e4, "m": 1e6}
PLAUSIBLE = 1e3, 3e4                       # micrometres that the shape modes together move a vertex; BFM: 5e3, ICT: 6e3
TYPICAL = {"sigma": (6e5, -.75), "sigma_tex": (6e3, -.8), "sigma_exp": (1.5, -.7)}  # a * k^b, near 3DDFA's own fits
HDF5 = b"\x89HDF\r\n"

# ICT-FaceKit: its 68 landmarks are on the face, the first 9,409 vertices; as released it has 26,719, and those from
# 24,591 are tear film, occlusion shells and lashes, which only a transparent material could show.
ICT_FACE, ICT_OPAQUE, ICT_FULL = 9409, 24591, 26719
ICT_EXPRESSION_STD = .2                     # they are meant for weights of 0 to 1
ICT_LANDMARKS = np.int32([
    1225, 1888, 1052, 367, 1719, 1722, 2199, 1447, 966, 3661, 4390, 3927, 3924, 2608, 3272, 4088, 3443,
    268, 493, 1914, 2044, 1401, 3615, 4240, 4114, 2734, 2509, 978, 4527, 4942, 4857, 1140, 2075, 1147, 4269, 3360,
    1507, 1542, 1537, 1528, 1518, 1511, 3742, 3751, 3756, 3721, 3725, 3732,
    5708, 5695, 2081, 0, 4275, 6200, 6213, 6346, 6461, 5518, 5957, 5841,
    5702, 5711, 5533, 6216, 6207, 6470, 5517, 5966])


class Modes(NamedTuple):
    """A basis [n, 3V] and `spread` [n]: the deviations of its coefficients or, if `variance`, their squares."""
    basis: np.ndarray
    spread: np.ndarray
    variance: bool = False


class Source(NamedTuple):
    """What a file holds, in its own layout, units and counting; `finish` makes a FaceModel of it."""
    path: str
    name: str
    mean: np.ndarray                        # [3V], x y z x y z ... or x x ... y y ... z z ...
    triangles: np.ndarray                   # [T, 3] or [3, T], from 0 or 1
    shape: Modes
    expression: Optional[Modes] = None
    texture_mean: Optional[np.ndarray] = None   # [3V], 0..1 or 0..255
    texture: Optional[Modes] = None
    landmarks: Optional[np.ndarray] = None  # [68], counted as the triangles
    unit: Optional[str] = None              # a key of UNITS
    keep_norms: bool = False                # published coefficients belong to the bases as they are
    explicit: bool = False                  # the file says plainly whether spreads are deviations or variances


def load(path):
    """The FaceModel in `path`, whose format is told from its content.

    - Basel Face Model 2009: `01_MorphableModel.mat` (shapeMU, shapePC, shapeEV, texMU, texPC, texEV, tl)
    - Basel Face Model 2017, 2019: HDF5 (shape|color|expression/model/mean, pcaBasis, pcaVariance)
    - 3DDFA: `Model_Shape.mat` with `Model_Exp.mat` beside it: their folder or either file
    - LSFM: `all_all_all.mat` (mean, components, eigenvalues, trilist) or rescaled (mu_shape, w, eigenvalues, trilist)
    - ICT-FaceKit: its folder of .obj files, or an .npz (mean, identity, expression, triangles)
    - any other model as an .npz: mean [V, 3]; basis [n, V, 3] or [3V, n]; std [n] or variance [n]; triangles [T, 3];
      and optionally expression, expression_std, texture_mean, texture_basis, texture_std, landmarks [68], name, and
      unit, one of um, mm, cm, m. `save` writes this. A mean [3V] may be in blocks of x, y, z if basis is [3V, n].

    MATLAB files may be of version 5 or 7.3. Without a unit it is the power of ten that makes the mean a face of about
    20 cm. Raises ValueError, one line naming file and field, when `path` holds none of these.
    """
    if os.path.isdir(path):
        return read_folder(path)
    fields = read_fields(path)
    for mark, read in READERS.items():
        if mark in fields:
            return finish(read(path, fields))
    raise ValueError(f"{path}: no known face model: its fields are {', '.join(sorted(fields)[:9]) or 'none'}; name a "
                     f"file of BFM, 3DDFA, LSFM or ICT-FaceKit, or an .npz with mean, basis, std and triangles")


def save(model, path):
    """Write `model` as the .npz that `load` describes; it appears whole or not at all."""
    fields = dict(name=model.name, unit="um", triangles=model.triangles, mean=model.shape_mean, basis=model.shape_basis,
                  std=model.shape_std)
    if len(model.expression_basis):
        fields.update(expression=model.expression_basis, expression_std=model.expression_std)
    if len(model.texture_basis):
        fields.update(texture_basis=model.texture_basis, texture_std=model.texture_std)
    optional = dict(texture_mean=model.texture_mean, landmarks=model.landmarks)
    fields.update({name: value for name, value in optional.items() if value is not None})
    with utils.atomic_write(path) as file:
        np.savez(file, **fields)


# Fields of a file

def read_fields(path):
    """The arrays of an .npz, MATLAB or HDF5 file by name. Raises ValueError."""
    try:
        with open(path, "rb") as file:
            head = file.read(1024)
    except OSError as error:
        raise ValueError(f"{path}: can't be read ({error.strerror}); name a model's file or folder") from error
    try:
        if HDF5 in (head[:6], head[512:518]):       # MATLAB 7.3 puts a header of its own before it
            return read_hdf5(path)
        if head.startswith(b"PK"):
            with np.load(path, allow_pickle=False) as file:
                return dict(file)
        return {name: value for name, value in scipy.io.loadmat(path).items() if not name.startswith("__")}
    except ImportError as error:
        raise ValueError(f"{path}: reading HDF5 and MATLAB 7.3 needs h5py; pip install h5py") from error
    except Exception as error:      # these readers raise nearly anything on broken files
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path}: not a readable .mat, .h5 or .npz file ({reason}); "
                         f"download or write it anew") from error


def read_hdf5(path):
    """The arrays of an HDF5 file: MATLAB 7.3's variables, transposed back, or BFM 2017's models by their full names."""
    import h5py
    wanted = re.compile(r"(shape|color|expression)/(model/(mean|pcaBasis|pcaVariance)|representer/cells)$")
    fields = {}

    def visit(name, item):
        """Keep what is a numeric array of interest."""
        if isinstance(item, h5py.Dataset) and item.dtype.kind in "uif" and ("/" not in name or wanted.match(name)):
            fields[name] = item[()] if "/" in name else item[()].T

    with h5py.File(path, "r") as file:
        file.visititems(visit)
    return fields


def array(path, fields, name):
    """The numbers in field `name`. Raises ValueError when it is missing, empty, not of numbers, or not finite."""
    if name not in fields:
        raise ValueError(f"{path}: field {name} is missing; add it, or name a complete file")
    value = np.asarray(fields[name])
    if value.dtype.kind not in "buif" or not value.size:
        raise ValueError(f"{path}: field {name} is not an array of numbers; write it anew")
    if not np.isfinite(value).all():
        raise ValueError(f"{path}: field {name} contains NaN or infinity; download or write it anew")
    return value


def flat(path, fields, name, length=None):
    """Field `name`, a row, a column or [V, 3], as float64 [3V]. Raises ValueError when its length is not `length`."""
    value = array(path, fields, name).astype(np.float64).ravel()
    if len(value) != (length or len(value) // 3 * 3):
        raise ValueError(f"{path}: field {name} has {len(value)} numbers, not {length or 'x, y, z of every vertex'}; "
                         f"take all fields from one model")
    return value


def components(path, fields, name, length):
    """Field `name`, [length, n], [n, length] or [n, V, 3], as [n, length]. Raises ValueError when it is neither."""
    value = array(path, fields, name)
    if value.ndim == 3 and value[0].size == length:
        return value.reshape(len(value), length)
    if value.size % length == 0 and value.shape[0] == length:
        return value.reshape(length, -1).T          # one component may have come as a plain vector
    if value.ndim == 2 and value.shape[1] == length:
        return value
    raise ValueError(f"{path}: field {name} has shape {list(value.shape)}, but the mean has {length} numbers; "
                     f"take all fields from one model")


def modes(path, fields, basis, spread, length, variance=False):
    """The Modes in the fields named `basis` and `spread`; `length` is 3V. Raises ValueError when they don't fit."""
    basis_values = components(path, fields, basis, length)
    count = len(basis_values)
    if spread not in fields and spread in TYPICAL:
        factor, power = TYPICAL[spread]
        logging.info("%s: no field %s; typical deviations are used", path, spread)
        return Modes(basis_values, factor * np.arange(1, count + 1) ** power)
    values = array(path, fields, spread).astype(np.float64).ravel()
    if len(values) != count:
        raise ValueError(f"{path}: field {spread} has {len(values)} numbers, but {basis} {count} components; "
                         f"take all fields from one model")
    if values.min() < -1e-6 * np.abs(values).max():
        raise ValueError(f"{path}: field {spread} has negative numbers; "
                         f"put the {'variances' if variance else 'standard deviations'} of {basis} there")
    return Modes(basis_values, np.maximum(values, 0), variance)     # a rank-deficient model's last may be -1e-12


# Formats

def read_bfm2009(path, fields):
    """Paysan et al. 2009; its "EV" are standard deviations."""
    mean = flat(path, fields, "shapeMU")
    size = len(mean)
    return Source(path, "BFM 2009", mean, array(path, fields, "tl"), modes(path, fields, "shapePC", "shapeEV", size),
                  texture_mean=flat(path, fields, "texMU", size), texture=modes(path, fields, "texPC", "texEV", size))


def read_bfm2017(path, fields):
    """Gerig et al. 2018 and its successor of 2019; colour and expression are optional."""
    mean = flat(path, fields, "shape/model/mean")
    size = len(mean)
    found = {part: modes(path, fields, f"{part}/model/pcaBasis", f"{part}/model/pcaVariance", size, variance=True)
             for part in ("shape", "expression", "color") if part == "shape" or f"{part}/model/mean" in fields}
    if "expression" in found:
        mean = mean + flat(path, fields, "expression/model/mean", size)
    colours = flat(path, fields, "color/model/mean", size) if "color" in found else None
    return Source(path, "BFM 2017/2019", mean, array(path, fields, "shape/representer/cells"), found["shape"],
                  found.get("expression"), colours, found.get("color"))


def read_3ddfa(path, fields):
    """Zhu et al. 2016: `path` is Model_Shape.mat or Model_Exp.mat; published Shape_Para belong to `w` as it is."""
    shape_path, exp_path = (os.path.join(os.path.dirname(path), name) for name in ("Model_Shape.mat", "Model_Exp.mat"))
    if "w_exp" in fields:
        exp_path, exp, fields = path, fields, read_fields(shape_path)
    else:
        shape_path, exp = path, read_fields(exp_path) if os.path.exists(exp_path) else {}
    mean = flat(shape_path, fields, "mu_shape")
    size = len(mean)
    shape = modes(shape_path, fields, "w", "sigma", size)
    norms = np.linalg.norm(shape.basis, axis=1)
    if np.abs(norms - 1).max() > .01:
        logging.info("%s: columns of w are %.3g to %.3g long, not 1; kept, as its coefficients belong to them",
                     shape_path, norms.min(), norms.max())
    if not exp:
        logging.warning("%s: no Model_Exp.mat beside it, so faces have no expressions; add it", shape_path)
    expression = modes(exp_path, exp, "w_exp", "sigma_exp", size) if exp else None
    if "mu_exp" in exp:
        mean = mean + flat(exp_path, exp, "mu_exp", size)
    colours = flat(shape_path, fields, "mu_tex", size) if "mu_tex" in fields else None
    tints = None if colours is None else modes(shape_path, fields, "w_tex", "sigma_tex", size)
    keypoints = np.ravel(fields.get("keypoints", []))
    return Source(shape_path, "3DDFA", mean, array(shape_path, fields, "tri"), shape, expression, colours, tints,
                  keypoints if len(keypoints) == 68 else None, keep_norms=True)


def read_lsfm(path, fields):
    """Booth et al. 2018, as released or rescaled under 3DDFA's names. Shape only; eigenvalues are variances."""
    mean_name, basis = ("mu_shape", "w") if "w" in fields else ("mean", "components")
    faces = "tri" if "tri" in fields else "trilist"
    if faces not in fields:
        raise ValueError(f"{path}: field trilist is missing; copy it from all_all_all.mat, or tri from "
                         f"Model_Shape.mat, which has the same vertices")
    mean = flat(path, fields, mean_name)
    return Source(path, "LSFM", mean, array(path, fields, faces),
                  modes(path, fields, basis, "eigenvalues", len(mean), variance=True))


def read_ict(path, fields):
    """Li et al. 2020: modes are differences from the mean, for weights of N(0, 1) and, expressions, of 0..1."""
    mean = flat(path, fields, "mean")
    count = len(mean) // 3
    shape = components(path, fields, "identity", len(mean))
    expression = components(path, fields, "expression", len(mean))
    triangles = array(path, fields, "triangles")
    if count == ICT_FULL:
        triangles = triangles[triangles.max(axis=1) < ICT_OPAQUE]
    return Source(path, "ICT-FaceKit", mean, triangles, Modes(shape, np.ones(len(shape))),
                  Modes(expression, np.full(len(expression), ICT_EXPRESSION_STD)),
                  landmarks=ICT_LANDMARKS if count in (ICT_FACE, ICT_FULL) else None, explicit=True)


def read_folder(path):
    """The FaceModel in a folder: 3DDFA's two .mat files, or the .obj files of ICT-FaceKit or of its FaceXModel."""
    if os.path.exists(os.path.join(path, "Model_Shape.mat")):
        return load(os.path.join(path, "Model_Shape.mat"))
    for folder in (path, os.path.join(path, "FaceXModel")):
        neutral = os.path.join(folder, "generic_neutral_mesh.obj")
        if os.path.exists(neutral):
            return finish(read_ict(folder, read_objs(neutral)))
    raise ValueError(f"{path}: neither Model_Shape.mat nor generic_neutral_mesh.obj in this folder; "
                     f"name the model's file, or the folder of 3DDFA's or ICT-FaceKit's files")


def read_objs(neutral):
    """The fields of ICT-FaceKit's .npz from the .obj files beside the `neutral` one."""
    mean, triangles = read_obj(neutral)
    meshes = {}
    for path in sorted(set(glob.glob(os.path.join(glob.escape(os.path.dirname(neutral)), "*.obj"))) - {neutral}):
        points, _ = read_obj(path)
        if len(points) != len(mean):
            raise ValueError(f"{path}: {len(points)} vertices, but {len(mean)} in {os.path.basename(neutral)}; "
                             f"take all meshes from one release")
        meshes[os.path.basename(path)] = points - mean
    identity = [mode for name, mode in meshes.items() if re.match(r"identity\d+\.obj$", name)]
    others = [mode for name, mode in meshes.items() if not re.match(r"identity\d+\.obj$", name)]
    return {"mean": mean, "triangles": triangles, "identity": np.array(identity), "expression": np.array(others)}


def read_obj(path):
    """Vertices [V, 3] float64 and triangles [T, 3], from 1, of a Wavefront .obj; polygons become fans."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
        points = np.array([line.split()[1:4] for line in lines if line.startswith("v ")], np.float64)
        faces = [[int(corner.partition("/")[0]) for corner in line.split()[1:]] for line in lines
                 if line.startswith("f ")]
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: not a readable .obj mesh ({error}); download it again") from error
    if points.ndim != 2 or not faces:
        raise ValueError(f"{path}: no vertices (v) or no faces (f) in this .obj; download it again")
    return points, np.array([(face[0], *pair) for face in faces for pair in zip(face[1:], face[2:])])


def read_generic(path, fields):
    """The documented .npz of any model; see `load`."""
    mean = flat(path, fields, "mean")
    size = len(mean)
    unit = str(fields["unit"]) if "unit" in fields else None
    if unit not in (None, *UNITS):
        raise ValueError(f"{path}: field unit is {unit!r}; give one of {', '.join(UNITS)}")
    variance = "std" not in fields and "variance" in fields
    expression, tints = (modes(path, fields, basis, spread, size) if basis in fields else None for basis, spread in
                         (("expression", "expression_std"), ("texture_basis", "texture_std")))
    colours = flat(path, fields, "texture_mean", size) if "texture_mean" in fields else None
    return Source(path, str(fields.get("name", os.path.basename(path))), mean, array(path, fields, "triangles"),
                  modes(path, fields, "basis", "variance" if variance else "std", size, variance), expression,
                  colours, tints, fields.get("landmarks"), unit, keep_norms=unit == "um", explicit=True)


# The field that marks each format, in the order of asking
READERS = {"shapePC": read_bfm2009, "shape/model/pcaBasis": read_bfm2017, "eigenvalues": read_lsfm, "w_exp": read_3ddfa,
           "w": read_3ddfa, "mu_shape": read_3ddfa, "components": read_lsfm, "identity": read_ict,
           "basis": read_generic}


# The internal form

def finish(source):
    """The FaceModel of a Source: vertices interleaved, micrometres, colours 0..255, counting from 0, faces outward."""
    triangles, first, blocked = arrange(source)
    mean = points(source.mean, blocked)
    scale = unit_scale(source, mean[np.unique(triangles)])
    shape, expression, tints = (Modes(np.ascontiguousarray(points(part.basis, blocked), np.float32), *part[1:])
                                if part else Modes(np.zeros([0, *mean.shape], np.float32), np.zeros(0))
                                for part in (source.shape, source.expression, source.texture))
    colours, white = None, 1.0
    if source.texture_mean is not None:
        white = 255.0 if source.texture_mean.max() <= 2 else 1.0    # 0..1, and a little more is possible
        colours = np.float32(points(source.texture_mean, blocked) * white)
    swap, keep = misread(source, shape, scale), source.keep_norms
    return FaceModel(source.name, outward(mean, triangles).astype(np.int32), np.float32(mean * scale),
                     *scaled(shape, scale, swap, keep), *scaled(expression, scale, swap, True), colours,
                     *scaled(tints, white, swap, keep), find_indices(source, first, len(mean)))


def points(values, blocked):
    """`values` [..., 3V] as [..., V, 3]: x, y, z of one vertex after another or, if `blocked`, all x, all y, all z."""
    if blocked:
        return np.swapaxes(values.reshape(*values.shape[:-1], 3, -1), -1, -2)
    return values.reshape(*values.shape[:-1], -1, 3)


def arrange(source):
    """Triangles [T, 3] from 0, what the file counts from, and whether its vertices are in blocks of x, y, z.

    Of the readings that are possible the one with the shortest edges is right. Raises ValueError without any.
    """
    triangles = source.triangles
    if triangles.ndim == 2 and triangles.shape[1] != 3:
        triangles = triangles.T
    if triangles.ndim != 2 or triangles.shape[1] != 3 or (triangles != np.rint(triangles)).any():
        raise ValueError(f"{source.path}: triangles have shape {list(source.triangles.shape)} or are not indices; "
                         f"give three vertex numbers each, [T, 3] or [3, T]")
    triangles, count = triangles.astype(np.int64), len(source.mean) // 3
    readings = [(first, blocked) for first in (0, 1) for blocked in (False, True)
                if triangles.min() >= first and triangles.max() < count + first]
    if not readings:
        raise ValueError(f"{source.path}: triangles name vertices {triangles.min()} to {triangles.max()}, but the mean "
                         f"has {count}; take all fields from one model")
    first, blocked = min(readings, key=lambda reading: edge_length(points(source.mean, reading[1]),
                                                                   triangles - reading[0]))
    return triangles - first, first, blocked


def edge_length(mean, triangles):
    """The mean length of the edges of a mesh."""
    return np.linalg.norm(mean[triangles] - mean[np.roll(triangles, 1, axis=1)], axis=-1).mean()


def outward(mean, triangles):
    """`triangles`, turned over if most of their area looks towards the middle of the mesh."""
    a, b, c = np.moveaxis(mean[triangles], 1, 0)
    normals = np.cross(b - a, c - a)
    outside = np.sum(normals * ((a + b + c) / 3 - mean[np.unique(triangles)].mean(axis=0)))
    return triangles[:, ::-1] if outside < 0 else triangles


def unit_scale(source, mean):
    """Micrometres in the file's unit of length: as it says, or the power of ten that makes a face of it."""
    if source.unit:
        return UNITS[source.unit]
    size = np.ptp(mean, axis=0).max()
    if size == 0:
        raise ValueError(f"{source.path}: the mean's vertices are all in one place; download or write it anew")
    return 10.0 ** np.rint(np.log10(FACE / size))


def misread(source, shape, scale):
    """Whether the file has deviations where its format has variances, or the reverse.

    That is so only if the format's own reading gives no human variety of shapes and the opposite one does.
    """
    norms = np.linalg.norm(shape.basis.reshape(len(shape.basis), -1), axis=1)

    def plausible(variance):
        """Whether the modes together move vertices by a plausible distance."""
        std = np.sqrt(shape.spread) if variance else shape.spread
        moved = np.sqrt(np.sum((std * norms * scale) ** 2) / shape.basis.shape[1])
        return PLAUSIBLE[0] <= moved <= PLAUSIBLE[1]

    if source.explicit or plausible(shape.variance) or not plausible(not shape.variance):
        return False
    logging.warning("%s: its eigenvalues are taken as %s, since faces would not differ as people's do otherwise",
                    source.path, "standard deviations" if shape.variance else "variances")
    return True


def scaled(part, scale, swap, keep_norms):
    """Basis [n, V, 3] and deviations [n] float32 in our units; components get unit norm unless `keep_norms`.

    `swap`: the spreads are variances where the format has deviations, or the reverse.
    """
    std = np.sqrt(part.spread) if part.variance != swap else part.spread
    if keep_norms:
        return part.basis * np.float32(scale), np.float32(std)
    norms = np.array([np.linalg.norm(mode.astype(np.float64)) for mode in part.basis])
    divisors = np.where(norms > 0, norms, 1).astype(np.float32)
    return part.basis / divisors[:, None, None], np.float32(std * norms * scale)


def find_indices(source, first, count):
    """The landmarks as [68] int32 from 0, or None. Raises ValueError when they are no vertices of the model."""
    if source.landmarks is None:
        return None
    landmarks = np.ravel(source.landmarks).astype(np.int64)
    if source.landmarks is not ICT_LANDMARKS:
        landmarks = landmarks - first
    if len(landmarks) != 68 or landmarks.min() < 0 or landmarks.max() >= count:
        raise ValueError(f"{source.path}: field landmarks must hold 68 of the model's {count} vertices; "
                         f"correct it, or leave it out to have them found")
    return landmarks.astype(np.int32)
