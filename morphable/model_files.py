"""Files of 3D morphable face models: every known format is read to a FaceModel, and one format is written.

What is said of the formats here is from their authors: Paysan et al. 2009 (Basel Face Model), Gerig et al. 2018 (BFM
2017), Zhu et al. 2016 (3DDFA), Booth et al. 2018 (LSFM), Li et al. 2020 (ICT-FaceKit).
"""
import glob
import logging
import os
import re
from itertools import pairwise

import numpy as np

import utils
from morphable import mat_files
from morphable.raw_model import Components, RawModel, to_face_model, UNITS

# Standard deviations for files of 3DDFA without them: component k, from 1, gets a · k^b. That is close to 3DDFA's own
# fits to photos.
TYPICAL_SPREADS = {"sigma": (6e5, -.75), "sigma_tex": (6e3, -.8), "sigma_exp": (1.5, -.7)}
HDF5_MAGIC = b"\x89HDF\r\n"

# ICT-FaceKit as released has 26,719 vertices. The first 9,409 are the face, with all landmarks. The last, from 24,591
# on, are tear film, occlusion shells and lashes, which only a transparent material could show.
ICT_FACE, ICT_OPAQUE, ICT_FULL = 9409, 24591, 26719
ICT_EXPRESSION_STD = .2                     # the expressions are meant for weights of 0 to 1
ICT_LANDMARKS = np.int32([
    1225, 1888, 1052, 367, 1719, 1722, 2199, 1447, 966, 3661, 4390, 3927, 3924, 2608, 3272, 4088, 3443,
    268, 493, 1914, 2044, 1401, 3615, 4240, 4114, 2734, 2509, 978, 4527, 4942, 4857, 1140, 2075, 1147, 4269, 3360,
    1507, 1542, 1537, 1528, 1518, 1511, 3742, 3751, 3756, 3721, 3725, 3732,
    5708, 5695, 2081, 0, 4275, 6200, 6213, 6346, 6461, 5518, 5957, 5841,
    5702, 5711, 5533, 6216, 6207, 6470, 5517, 5966])


def load(path):
    """Read the morphable model in a file or folder -> FaceModel. The content tells the format.

    - Basel Face Model 2009: `01_MorphableModel.mat` (shapeMU, shapePC, shapeEV, texMU, texPC, texEV, tl)
    - Basel Face Model 2017, 2019: HDF5 (shape|color|expression/model/mean, pcaBasis, pcaVariance)
    - 3DDFA: `Model_Shape.mat` with `Model_Exp.mat` beside it: their folder or either file
    - LSFM: `all_all_all.mat` (mean, components, eigenvalues, trilist) or rescaled (mu_shape, w, eigenvalues, trilist)
    - ICT-FaceKit: its folder of .obj files, or an .npz (mean, identity, expression, triangles)
    - any other model as an .npz: mean [V, 3]; basis [n, V, 3] or [3V, n]; std [n] or variance [n]; triangles [T, 3];
      and optionally expression, expression_std, texture_mean, texture_basis, texture_std, landmarks [68], name, and
      unit, one of um, mm, cm, m. `save` writes this format. A mean [3V] with a basis [3V, n] may also be planar: all x,
      all y, all z.

    MATLAB files may be of version 5 or 7.3. If a file names no unit, the unit is taken to be the power of ten that
    makes the mean a face of about 20 cm. Raises ValueError, one line with the file and the field, when `path` can't be
    read or holds none of these formats.
    """
    if os.path.isdir(path):
        return _load_folder(path)
    fields = _read_fields(path)
    marks = {read: mark for mark, read in _readers(fields).items() if mark in fields}
    if not marks:
        raise ValueError(f"{path}: no known face model: its fields are {', '.join(sorted(fields)[:9]) or 'none'}; name "
                         f"a file of BFM, 3DDFA, LSFM or ICT-FaceKit, or an .npz with mean, basis, std and triangles")
    if len(marks) > 1:
        raise ValueError(f"{path}: fields of several models, {' and '.join(marks.values())}; leave only those of the "
                         "one that is meant")
    with np.errstate(over="ignore"):        # numbers that are too large are refused afterwards
        return to_face_model(*(read(path, fields) for read in marks))


def save(model, path):
    """Write a FaceModel to `path` as the .npz that `load` describes, whole or not at all.

    Raises OSError when the file can't be written.
    """
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

def _read_fields(path):
    """Read the arrays of an .npz, MATLAB or HDF5 file -> {name: array}.

    Raises ValueError when the file can't be read, is broken, or needs h5py and there is none.
    """
    try:
        with utils.open_regular(path) as file:
            head = file.read(1024)
    except OSError as error:
        raise ValueError(f"{path}: can't be read ({error.strerror}); name a model's file or folder") from error
    try:
        if HDF5_MAGIC in (head[:6], head[512:518]):     # MATLAB 7.3 puts 512 bytes of its own before it
            return _read_hdf5(path)
        if head.startswith(b"PK"):
            with np.load(path, allow_pickle=False) as file:
                return dict(file)
        return mat_files.read(path)
    except ImportError as error:
        raise ValueError(f"{path}: reading HDF5 and MATLAB 7.3 needs h5py; pip install h5py") from error
    except Exception as error:      # these readers raise nearly anything on broken files
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path}: not a readable .mat, .h5 or .npz file ({reason}); "
                         f"download or write it anew") from error


def _read_hdf5(path):
    """Read the arrays of an HDF5 file -> {name: array}.

    Variables of MATLAB 7.3 lie at the top level and are stored transposed; they are transposed back. Of a Basel Face
    Model 2017 the means, bases, variances and triangles are read, under their full names such as shape/model/mean.
    """
    import h5py
    wanted = re.compile(r"(shape|color|expression)/(model/(mean|pcaBasis|pcaVariance)|representer/cells)$")
    fields = {}

    def keep(name, item):
        """Keep an item of the file if it is a numeric array of interest."""
        if isinstance(item, h5py.Dataset) and item.dtype.kind in "uif" and ("/" not in name or wanted.match(name)):
            fields[name] = item[()] if "/" in name else item[()].T

    with h5py.File(path, "r") as file:
        file.visititems(keep)
    return fields


def _get_numbers(path, fields, name):
    """Get the array of field `name`. Raises ValueError when it is missing, empty, not of numbers, or not finite."""
    if name not in fields:
        raise ValueError(f"{path}: field {name} is missing; add it, or name a complete file")
    value = np.asarray(fields[name])
    if value.dtype.kind not in "buif" or not value.size:
        raise ValueError(f"{path}: field {name} is not an array of numbers; write it anew")
    if not np.isfinite(value).all():
        raise ValueError(f"{path}: field {name} contains NaN or infinity; download or write it anew")
    return value


def _get_mean(path, fields, name, length=None):
    """Get field `name`, a row, a column or [V, 3], as float64 [3V].

    Raises ValueError when the field has not `length` numbers, or, without `length`, not three for each vertex.
    """
    value = _get_numbers(path, fields, name).astype(np.float64).ravel()
    if len(value) != (length or len(value) // 3 * 3):
        raise ValueError(f"{path}: field {name} has {len(value)} numbers, not {length or 'x, y, z of every vertex'}; "
                         f"take all fields from one model")
    return value


def _get_basis(path, fields, name, length):
    """Get field `name`, [length, n], [n, length] or [n, V, 3], as [n, length]. `length` is 3V.

    Raises ValueError when the field has another shape.
    """
    value = _get_numbers(path, fields, name)
    if value.ndim == 3 and value[0].size == length:
        return value.reshape(len(value), length)
    if value.size % length == 0 and value.shape[0] == length:
        return value.reshape(length, -1).T          # one component may have come as a plain vector
    if value.ndim == 2 and value.shape[1] == length:
        return value
    raise ValueError(f"{path}: field {name} has shape {list(value.shape)}, but the mean has {length} numbers; "
                     f"take all fields from one model")


def _get_components(path, fields, basis, spread, length, variance=False):
    """Get Components from the fields named `basis` and `spread`; `length` is 3V.

    `variance` tells whether the format has variances there, not standard deviations. Without the field, a spread of
    TYPICAL_SPREADS is used. Raises ValueError when a field is missing or broken, or when the two do not fit each other.
    """
    basis_values = _get_basis(path, fields, basis, length)
    count = len(basis_values)
    if spread not in fields and spread in TYPICAL_SPREADS:
        factor, power = TYPICAL_SPREADS[spread]
        logging.info("%s: no field %s; typical deviations are used", path, spread)
        return Components(basis_values, factor * np.arange(1, count + 1) ** power)
    values = _get_numbers(path, fields, spread).astype(np.float64).ravel()
    if len(values) != count:
        raise ValueError(f"{path}: field {spread} has {len(values)} numbers, but {basis} {count} components; "
                         f"take all fields from one model")
    if values.min() < -1e-6 * np.abs(values).max():
        raise ValueError(f"{path}: field {spread} has negative numbers; "
                         f"put the {'variances' if variance else 'standard deviations'} of {basis} there")
    return Components(basis_values, np.maximum(values, 0), variance)    # a rank-deficient model's last may be -1e-12


# Formats

def _read_bfm2009(path, fields):
    """Read a Basel Face Model 2009 (Paysan et al. 2009) -> RawModel. `shapeEV`, `texEV` are standard deviations."""
    mean = _get_mean(path, fields, "shapeMU")
    size = len(mean)
    return RawModel(path, "BFM 2009", mean, _get_numbers(path, fields, "tl"),
                    _get_components(path, fields, "shapePC", "shapeEV", size),
                    texture_mean=_get_mean(path, fields, "texMU", size),
                    texture=_get_components(path, fields, "texPC", "texEV", size))


def _read_bfm2017(path, fields):
    """Read a Basel Face Model 2017 or 2019 (Gerig et al. 2018) -> RawModel. Colour and expression are optional."""
    mean = _get_mean(path, fields, "shape/model/mean")
    size = len(mean)
    there = [name for name in ("shape", "expression", "color") if name == "shape" or f"{name}/model/mean" in fields]
    found = {name: _get_components(path, fields, f"{name}/model/pcaBasis", f"{name}/model/pcaVariance", size, True)
             for name in there}
    if "expression" in found:
        mean = mean + _get_mean(path, fields, "expression/model/mean", size)
    texture_mean = _get_mean(path, fields, "color/model/mean", size) if "color" in found else None
    return RawModel(path, "BFM 2017/2019", mean, _get_numbers(path, fields, "shape/representer/cells"), found["shape"],
                    found.get("expression"), texture_mean, found.get("color"))


def _read_3ddfa(path, fields):
    """Read 3DDFA's model (Zhu et al. 2016) -> RawModel. `path` is Model_Shape.mat or Model_Exp.mat.

    Published Shape_Para are coefficients of the basis `w` as it is, even where its columns are not of unit norm.
    Without Model_Exp.mat beside Model_Shape.mat there are no expressions, and a warning says so.
    """
    shape_path, exp_path = (os.path.join(os.path.dirname(path), name) for name in ("Model_Shape.mat", "Model_Exp.mat"))
    if "w_exp" in fields:
        exp_path, exp_fields, fields = path, fields, _read_fields(shape_path)
    else:
        shape_path, exp_fields = path, _read_fields(exp_path) if os.path.exists(exp_path) else {}
    mean = _get_mean(shape_path, fields, "mu_shape")
    size = len(mean)
    shape = _get_components(shape_path, fields, "w", "sigma", size)
    norms = np.linalg.norm(shape.basis, axis=1)
    if np.abs(norms - 1).max() > .01:
        logging.info("%s: columns of w are %.3g to %.3g long, not 1; kept, as its coefficients belong to them",
                     shape_path, norms.min(), norms.max())
    if not exp_fields:
        logging.warning("%s: no Model_Exp.mat beside it, so faces have no expressions; add it", shape_path)
    expression = _get_components(exp_path, exp_fields, "w_exp", "sigma_exp", size) if exp_fields else None
    if "mu_exp" in exp_fields:
        mean = mean + _get_mean(exp_path, exp_fields, "mu_exp", size)
    texture_mean, texture = None, None
    if "mu_tex" in fields:
        texture_mean = _get_mean(shape_path, fields, "mu_tex", size)
        texture = _get_components(shape_path, fields, "w_tex", "sigma_tex", size)
    keypoints = np.ravel(fields.get("keypoints", []))
    return RawModel(shape_path, "3DDFA", mean, _get_numbers(shape_path, fields, "tri"), shape, expression, texture_mean,
                    texture, keypoints if len(keypoints) == 68 else None, keep_norms=True)


def _read_lsfm(path, fields):
    """Read LSFM (Booth et al. 2018) -> RawModel, shape only.

    The file is as released, or rescaled with 3DDFA's names of fields. The field `eigenvalues` holds variances.
    """
    mean_name, basis = ("mu_shape", "w") if "w" in fields else ("mean", "components")
    faces = "tri" if "tri" in fields else "trilist"
    if faces not in fields:
        raise ValueError(f"{path}: field trilist is missing; copy it from all_all_all.mat, or tri from "
                         f"Model_Shape.mat, which has the same vertices")
    mean = _get_mean(path, fields, mean_name)
    return RawModel(path, "LSFM", mean, _get_numbers(path, fields, faces),
                    _get_components(path, fields, basis, "eigenvalues", len(mean), variance=True))


def _read_ict(path, fields):
    """Read ICT-FaceKit (Li et al. 2020) -> RawModel.

    Components are differences from the mean. The weights of identities are N(0, 1), the weights of expressions 0 to 1.
    """
    mean = _get_mean(path, fields, "mean")
    count = len(mean) // 3
    shape = _get_basis(path, fields, "identity", len(mean))
    expression = _get_basis(path, fields, "expression", len(mean))
    triangles = _get_numbers(path, fields, "triangles")
    if count == ICT_FULL:
        triangles = triangles[triangles.max(axis=1) < ICT_OPAQUE]
    return RawModel(path, "ICT-FaceKit", mean, triangles, Components(shape, np.ones(len(shape))),
                    Components(expression, np.full(len(expression), ICT_EXPRESSION_STD)),
                    landmarks=ICT_LANDMARKS if count in (ICT_FACE, ICT_FULL) else None, landmarks_from_0=True,
                    explicit=True)


def _load_folder(path):
    """Read the model in a folder -> FaceModel.

    The folder holds 3DDFA's two .mat files, or the .obj files of ICT-FaceKit, directly or in its sub-folder FaceXModel.
    Raises ValueError when the folder holds neither.
    """
    if os.path.exists(os.path.join(path, "Model_Shape.mat")):
        return load(os.path.join(path, "Model_Shape.mat"))
    for folder in (path, os.path.join(path, "FaceXModel")):
        neutral = os.path.join(folder, "generic_neutral_mesh.obj")
        if os.path.exists(neutral):
            return to_face_model(_read_ict(folder, _read_objs(neutral)))
    raise ValueError(f"{path}: neither Model_Shape.mat nor generic_neutral_mesh.obj in this folder; "
                     f"name the model's file, or the folder of 3DDFA's, ICT-FaceKit's or MakeHuman's files")


def _read_objs(neutral):
    """Read ICT-FaceKit's .obj files -> the same fields as in ICT-FaceKit's .npz.

    `neutral` is the path of the neutral face. All other .obj files beside it are components. Raises ValueError when a
    mesh can't be read, or has another number of vertices than the neutral one.
    """
    mean, triangles = _read_obj(neutral)
    meshes = {}
    for path in sorted(set(glob.glob(os.path.join(glob.escape(os.path.dirname(neutral)), "*.obj"))) - {neutral}):
        vertices, _ = _read_obj(path)
        if len(vertices) != len(mean):
            raise ValueError(f"{path}: {len(vertices)} vertices, but {len(mean)} in {os.path.basename(neutral)}; "
                             f"take all meshes from one release")
        meshes[os.path.basename(path)] = vertices - mean
    identity = [component for name, component in meshes.items() if re.match(r"identity\d+\.obj$", name)]
    others = [component for name, component in meshes.items() if not re.match(r"identity\d+\.obj$", name)]
    return {"mean": mean, "triangles": triangles, "identity": np.array(identity), "expression": np.array(others)}


def _read_obj(path):
    """Read a Wavefront .obj -> vertices [V, 3] float64 and triangles [T, 3], counted from 1. Polygons become fans.

    Raises ValueError when the file can't be read, has no vertices or no faces, or a face of other vertices than its.
    """
    vertices, faces = [], []
    try:
        with utils.open_regular(path) as file:
            lines = re.sub(rb"\\[ \t]*\r?\n", b" ", file.read()).decode("utf-8-sig", "replace").splitlines()
        for line in lines:
            kind, *words = line.partition("#")[0].split() or [""]
            if kind == "v":
                vertices.append(words[:3])
            elif kind == "f":
                corners = [int(word.partition("/")[0]) for word in words]
                faces.append([corner + len(vertices) + 1 if corner < 0 else corner for corner in corners])
        vertices = np.array(vertices, np.float64)
    except OSError as error:
        raise ValueError(f"{path}: can't be read ({error.strerror}); download it again") from error
    except ValueError as error:
        raise ValueError(f"{path}: not a readable .obj mesh ({error}); download it again") from error
    if vertices.ndim != 2 or not faces:
        raise ValueError(f"{path}: no vertices (v) or no faces (f) in this .obj; download it again")
    if vertices.shape[1] != 3 or not np.isfinite(vertices).all():
        raise ValueError(f"{path}: a vertex (v) without three finite numbers; download it again")
    triangles = np.array([(face[0], *edge) for face in faces for edge in pairwise(face[1:])]).reshape(-1, 3)
    if min(map(len, faces)) < 3 or triangles.min() < 1 or triangles.max() > len(vertices):
        raise ValueError(f"{path}: a face (f) without three of the {len(vertices)} vertices; download it again")
    return vertices, triangles


def _read_generic(path, fields):
    """Read the .npz of any model, as `load` describes it -> RawModel. Raises ValueError for an unknown unit too."""
    mean = _get_mean(path, fields, "mean")
    size = len(mean)
    unit = str(fields["unit"]) if "unit" in fields else None
    if unit not in (None, *UNITS):
        raise ValueError(f"{path}: field unit is {unit!r}; give one of {', '.join(UNITS)}")
    variance = "std" not in fields and "variance" in fields
    if "eigenvalues" in fields and not (variance or "std" in fields):
        raise ValueError(f"{path}: fields basis and eigenvalues, but neither std nor variance; rename eigenvalues to "
                         "what it holds")
    expression, texture = (_get_components(path, fields, basis, spread, size) if basis in fields else None
                           for basis, spread in (("expression", "expression_std"), ("texture_basis", "texture_std")))
    texture_mean = _get_mean(path, fields, "texture_mean", size) if "texture_mean" in fields else None
    name = utils.one_line(str(fields.get("name", os.path.basename(path))))[:100]
    return RawModel(path, name, mean, _get_numbers(path, fields, "triangles"),
                    _get_components(path, fields, "basis", "variance" if variance else "std", size, variance),
                    expression, texture_mean, texture, fields.get("landmarks"), unit=unit, keep_norms=unit == "um",
                    explicit=True)


def _readers(fields):
    """Collect the field that marks each format -> {name: what reads it}. Two formats have a basis `w`."""
    of_w = _read_lsfm if "eigenvalues" in fields else _read_3ddfa
    return {"basis": _read_generic, "identity": _read_ict, "components": _read_lsfm, "mu_shape": of_w, "w": of_w,
            "w_exp": _read_3ddfa, "shape/model/pcaBasis": _read_bfm2017, "shapePC": _read_bfm2009}
