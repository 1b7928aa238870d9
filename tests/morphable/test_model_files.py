"""model_files.py: one small model, written in every format, comes back as the same faces; traps and bad files."""
import os

import h5py
import numpy as np
import pytest
import scipy.io

from morphable import face_model
from morphable.face_model import FaceModel
from morphable.model_files import _read_obj, ICT_EXPRESSION_STD, ICT_LANDMARKS, load, save

ROWS, COLUMNS = 15, 20
V = ROWS * COLUMNS
N_SHAPE, N_EXPRESSION, N_TEXTURE = 5, 3, 4


def orthonormal(random, count):
    """Make `count` smooth components [count, V, 3] of unit norm, at right angles to each other."""
    u, v = np.meshgrid(np.linspace(-1, 1, COLUMNS), np.linspace(-1, 1, ROWS))
    waves = np.stack([np.cos(a * u.ravel() + b * v.ravel() + c)
                      for a, b, c in random.uniform(-3, 3, [8, 3])], 1)
    fields = np.einsum("vw,wcn->vcn", waves, random.normal(size=[8, 3, count])).reshape(V * 3, count)
    return np.linalg.qr(fields)[0].T.reshape(count, V, 3)


def small_model():
    """Make a half ellipsoid with a nose, 14 x 22 cm, with some components of each block -> FaceModel."""
    random = np.random.default_rng(0)
    u, v = np.meshgrid(np.linspace(-1.4, 1.4, COLUMNS), np.linspace(-1.4, 1.4, ROWS))
    nose = 2e4 * np.exp(-((u / .2) ** 2 + (v / .3) ** 2))
    mean = np.stack([7e4 * np.sin(u) * np.cos(v), 1.1e5 * np.sin(v), 8e4 * np.cos(u) * np.cos(v) + nose], -1)
    corner = np.arange(V).reshape(ROWS, COLUMNS)
    a, b, c, d = (each.ravel() for each in (corner[:-1, :-1], corner[:-1, 1:], corner[1:, 1:], corner[1:, :-1]))
    triangles = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    return FaceModel("small", triangles.astype(np.int32), np.float32(mean.reshape(V, 3)),
                     np.float32(orthonormal(random, N_SHAPE)), np.float32([6e4, 4e4, 2e4, 1e4, 5e3]),
                     np.float32(orthonormal(random, N_EXPRESSION) * 5e4), np.float32([1.5, 1, .5]),
                     np.float32(random.uniform(40, 250, [V, 3])), np.float32(orthonormal(random, N_TEXTURE)),
                     np.float32([400, 300, 200, 100]), None)


SMALL = small_model()


def flat(values):
    """Reshape a mean [V, 3] to a column [3V, 1], or a basis [n, V, 3] to [3V, n]."""
    return np.float64(values).reshape(-1, 1) if values.ndim == 2 else np.float64(values).reshape(len(values), -1).T


def planar(values):
    """Reshape a mean [V, 3] to [3V, 1], or a basis [n, V, 3] to [3V, n]: all x, all y, all z."""
    return flat(np.ascontiguousarray(np.swapaxes(values, -1, -2)))


# Writers of each format: they write SMALL into a folder, with fields replaced by `changes` or removed by None

def write_bfm2009(folder, **changes):
    """Write SMALL as a Basel Face Model 2009 -> its path."""
    fields = dict(shapeMU=flat(SMALL.shape_mean), shapePC=flat(SMALL.shape_basis), shapeEV=SMALL.shape_std[:, None],
                  texMU=flat(SMALL.texture_mean), texPC=flat(SMALL.texture_basis), texEV=SMALL.texture_std[:, None],
                  tl=np.float64(SMALL.triangles[:, ::-1] + 1))
    return write_mat(folder / "model.mat", {**fields, **changes})


def write_bfm2017(folder, **changes):
    """Write SMALL as a Basel Face Model 2017 -> its path."""
    fields = {"shape/model/mean": flat(SMALL.shape_mean).ravel() / 1e3 - .5,
              "shape/model/pcaBasis": flat(SMALL.shape_basis),
              "shape/model/pcaVariance": (SMALL.shape_std / 1e3) ** 2, "shape/representer/cells": SMALL.triangles.T,
              "color/model/mean": flat(SMALL.texture_mean).ravel() / 255,
              "color/model/pcaBasis": flat(SMALL.texture_basis),
              "color/model/pcaVariance": (SMALL.texture_std / 255) ** 2,
              "expression/model/mean": np.full(V * 3, .5),
              "expression/model/pcaBasis": flat(SMALL.expression_basis / 5e4),
              "expression/model/pcaVariance": (SMALL.expression_std * 50) ** 2, "version/majorVersion": 2}
    with h5py.File(folder / "model.h5", "w") as file:
        for name, value in {**fields, **changes}.items():
            if value is not None:
                file[name] = value
    return folder / "model.h5"


def shape_fields():
    """Make the fields of 3DDFA's Model_Shape.mat for SMALL."""
    return dict(mu_shape=flat(SMALL.shape_mean) - 7, w=flat(SMALL.shape_basis), sigma=SMALL.shape_std[:, None],
                mu_tex=flat(SMALL.texture_mean), w_tex=flat(SMALL.texture_basis), sigma_tex=SMALL.texture_std[:, None],
                tri=np.uint16(SMALL.triangles.T + 1), keypoints=np.arange(1, 69)[None])


def write_3ddfa(folder, writer=scipy.io.savemat, exp=True, **changes):
    """Write SMALL as 3DDFA's files, with Model_Exp.mat if `exp` -> their folder."""
    write_mat(folder / "Model_Shape.mat", {**shape_fields(), **changes}, writer)
    if exp:
        write_mat(folder / "Model_Exp.mat",
                  dict(mu_exp=np.full([V * 3, 1], 7.), w_exp=flat(SMALL.expression_basis),
                       sigma_exp=SMALL.expression_std[:, None]), writer)
    return folder


def write_lsfm(folder, **changes):
    """Write SMALL as LSFM -> its path."""
    fields = dict(mean=flat(SMALL.shape_mean).T / 1e3, components=flat(SMALL.shape_basis),
                  eigenvalues=(SMALL.shape_std[None] / 1e3) ** 2, trilist=SMALL.triangles)
    return write_mat(folder / "all_all_all.mat", {**fields, **changes})


def write_scaled_lsfm(folder, **changes):
    """Write SMALL as the rescaled LSFM -> its path."""
    fields = dict(mu_shape=flat(SMALL.shape_mean).T, w=flat(SMALL.shape_basis) * 10,
                  eigenvalues=(SMALL.shape_std[None] / 10) ** 2, trilist=SMALL.triangles)
    return write_mat(folder / "all_all_all_scaled.mat", {**fields, **changes})


def write_mat(path, fields, writer=scipy.io.savemat):
    """Write those `fields` that are not None to a MATLAB file -> its path."""
    writer(path, {name: value for name, value in fields.items() if value is not None})
    return path


def save_mat73(path, fields):
    """Write a file of MATLAB 7.3: HDF5 after 512 bytes of MATLAB's own, arrays transposed."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in fields.items():
            file[name] = np.transpose(value)
        file["#refs#/a"] = np.zeros(2)
    with open(path, "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512, b" "))


def ict_fields():
    """Make the fields of ICT-FaceKit's .npz for SMALL, in centimetres, of expressions for a weight of 1."""
    return dict(mean=SMALL.shape_mean / 1e4, identity=SMALL.shape_basis * SMALL.shape_std[:, None, None] / 1e4,
                expression=SMALL.expression_basis * (SMALL.expression_std / ICT_EXPRESSION_STD)[:, None, None] / 1e4,
                triangles=SMALL.triangles)


def write_npz(folder, **fields):
    """Write those `fields` that are not None to an .npz -> its path."""
    np.savez(folder / "model.npz", **{name: value for name, value in fields.items() if value is not None})
    return folder / "model.npz"


def write_ict_npz(folder, **changes):
    """Write SMALL as ICT-FaceKit's .npz -> its path."""
    return write_npz(folder, **{**ict_fields(), "expr_names": np.array(["a", "b", "c"]), **changes})


def write_objs(folder):
    """Write SMALL as ICT-FaceKit's .obj files -> their folder."""
    fields = ict_fields()
    count = len(SMALL.triangles) // 2       # its halves are the two triangles of each quad
    quads = np.column_stack([SMALL.triangles[:count], SMALL.triangles[count:, 2]])
    faces = [f"f {' '.join(f'{corner + 1}/1/2' for corner in quad)}" for quad in quads]
    meshes = {"generic_neutral_mesh": 0,
              **{f"identity{number:03}": difference for number, difference in enumerate(fields["identity"])},
              **dict(zip(["browDown_L", "jawOpen", "mouthSmile_R"], fields["expression"]))}
    for name, difference in meshes.items():
        points = [f"v {x:.7f} {y:.7f} {z:.7f}" for x, y, z in fields["mean"] + difference]
        lines = ["# ICT", "mtllib a.mtl", *points, "vt .5 .5", "vn 0 0 1", *faces]
        (folder / f"{name}.obj").write_text("\n".join(lines))
    return folder


def generic_fields():
    """Make the fields of the .npz of any model for SMALL."""
    return dict(mean=SMALL.shape_mean / 1e3, basis=SMALL.shape_basis, variance=(SMALL.shape_std / 1e3) ** 2, unit="mm",
                triangles=SMALL.triangles, expression=SMALL.expression_basis / 1e3, texture_mean=SMALL.texture_mean,
                expression_std=SMALL.expression_std, texture_basis=SMALL.texture_basis, texture_std=SMALL.texture_std)


def write_generic(folder, **changes):
    """Write SMALL as the .npz of any model -> its path."""
    return write_npz(folder, **{**generic_fields(), **changes})


def turned(triangles):
    """Collect triangles, each from its smallest index on, in a set.

    Two sets are equal only if all triangles face the same way.
    """
    return {tuple(np.roll(face, -face.argmin()).tolist()) for face in triangles}


def assert_same(model, expression=True, colours=True):
    """Assert that `model` has the triangles, faces and colours of SMALL, the latter for the same deviations."""
    random = np.random.default_rng(1)
    shape, expressions, texture = (random.normal(size=[4, count]) for count in (N_SHAPE, N_EXPRESSION, N_TEXTURE))
    assert len(model.expression_std) == (N_EXPRESSION if expression else 0)

    def faces(each):
        """Compute the vertices of some faces of a model."""
        used = expressions if expression else np.zeros([4, len(each.expression_std)])
        return face_model.compute_vertices(each, shape * each.shape_std, used * each.expression_std)

    np.testing.assert_allclose(faces(model), faces(SMALL), atol=.5)         # micrometres
    assert turned(model.triangles) == turned(SMALL.triangles)
    assert model.triangles.dtype == np.int32
    assert all(array.dtype == np.float32 for array in model[2:7])
    if colours:
        np.testing.assert_allclose(face_model.compute_texture(model, texture * model.texture_std),
                                   face_model.compute_texture(SMALL, texture * SMALL.texture_std), atol=.01)
    else:
        assert model.texture_mean is None and model.texture_basis.shape == (0, V, 3) and not len(model.texture_std)


WHOLE = [write_bfm2017, write_3ddfa, write_generic]


@pytest.mark.parametrize("write", WHOLE)
def test_formats_with_expression_and_texture(tmp_path, write):
    assert_same(load(str(write(tmp_path))))


@pytest.mark.parametrize("write, expression, colours", [
    (write_bfm2009, False, True), (write_lsfm, False, False), (write_scaled_lsfm, False, False),
    (write_ict_npz, True, False), (write_objs, True, False)])
def test_formats_without_everything(tmp_path, write, expression, colours):
    assert_same(load(str(write(tmp_path))), expression, colours)


def test_3ddfa_by_either_file_of_either_version_and_with_keypoints(tmp_path):
    write_3ddfa(tmp_path, save_mat73)
    for name in ("", "Model_Shape.mat", "Model_Exp.mat"):
        model = load(str(tmp_path / name))
        assert_same(model)
        np.testing.assert_array_equal(model.landmarks, np.arange(68))


def test_3ddfa_keeps_the_coefficients_of_a_basis_that_is_not_of_unit_norm(tmp_path, caplog):
    caplog.set_level("INFO")
    path = write_3ddfa(tmp_path, w=flat(SMALL.shape_basis) * 3, sigma=SMALL.shape_std / 3)
    alpha = np.array([1e4, -2e4, 3e3, 0, 1])
    got = face_model.compute_vertices(load(str(path)), alpha, np.zeros(N_EXPRESSION))
    wanted = flat(SMALL.shape_mean).ravel() + 3 * flat(SMALL.shape_basis) @ alpha
    np.testing.assert_allclose(got.ravel(), wanted, atol=.1)
    assert "columns of w" in caplog.text


def test_3ddfa_without_expressions_colours_and_deviations(tmp_path, caplog):
    caplog.set_level("INFO")
    model = load(str(write_3ddfa(tmp_path, exp=False, mu_tex=None, sigma=None)))
    assert model.texture_mean is None and not len(model.expression_basis)
    np.testing.assert_allclose(model.shape_std[:3], [6e5, 3.57e5, 2.63e5], rtol=.01)
    assert "no Model_Exp.mat" in caplog.text and "no field sigma" in caplog.text


def test_other_ways_to_store_the_same(tmp_path):
    """Variances for deviations and the reverse, counted from 0 or 1, columns, rows, winding, planar, units."""
    for changes in [dict(shapeEV=SMALL.shape_std ** 2, texEV=SMALL.texture_std ** 2), dict(tl=SMALL.triangles),
                    dict(tl=np.int32(SMALL.triangles.T)), dict(tl=SMALL.triangles + 1.),
                    dict(shapeMU=flat(SMALL.shape_mean).T, shapePC=flat(SMALL.shape_basis).T),
                    dict(shapeMU=planar(SMALL.shape_mean), shapePC=planar(SMALL.shape_basis),
                         texMU=planar(SMALL.texture_mean), texPC=planar(SMALL.texture_basis)),
                    dict(shapeMU=flat(SMALL.shape_mean) / 1e6, shapeEV=SMALL.shape_std / 1e6),
                    dict(shapeMU=flat(SMALL.shape_mean) / 1e4, shapeEV=SMALL.shape_std / 1e4)]:
        assert_same(load(str(write_bfm2009(tmp_path, **changes))), expression=False)
    for changes in [dict(eigenvalues=SMALL.shape_std / 1e3), dict(components=flat(SMALL.shape_basis).T),
                    dict(trilist=SMALL.triangles[:, ::-1] + 1)]:
        assert_same(load(str(write_lsfm(tmp_path, **changes))), expression=False, colours=False)
    for changes in [dict(variance=None, std=SMALL.shape_std / 1e3), dict(unit=None),
                    dict(basis=flat(SMALL.shape_basis)),
                    dict(texture_mean=SMALL.texture_mean / 255, texture_std=SMALL.texture_std / 255),
                    dict(mean=planar(SMALL.shape_mean).ravel() / 1e3, basis=planar(SMALL.shape_basis),
                         expression=planar(SMALL.expression_basis / 1e3), texture_mean=planar(SMALL.texture_mean),
                         texture_basis=planar(SMALL.texture_basis))]:
        assert_same(load(str(write_generic(tmp_path, **changes))))


def test_unused_vertices_leave_counting_to_the_edges(tmp_path):
    """Vertices 0 and V - 1 are in no triangle: the indices alone tell nothing."""
    inner = SMALL.triangles[(SMALL.triangles.min(1) > 0) & (SMALL.triangles.max(1) < V - 1)]
    order = np.random.default_rng(2).permutation(np.arange(1, V - 1))
    order = np.concatenate([[0], order, [V - 1]])       # neighbours are not next to each other in the list
    mean = np.empty_like(SMALL.shape_mean)
    mean[order] = SMALL.shape_mean
    for first in (0, 1):
        shifted = order[inner] + first
        if shifted.max() < V:
            model = load(str(write_generic(tmp_path, mean=mean / 1e3, triangles=shifted)))
            np.testing.assert_array_equal(np.sort(model.triangles, 1), np.sort(order[inner], 1))


def test_uint8_fields_and_lost_rank(tmp_path):
    basis = np.concatenate([SMALL.shape_basis, np.zeros([1, V, 3])])
    model = load(str(write_lsfm(tmp_path, components=flat(basis),
                                eigenvalues=np.append((SMALL.shape_std / 1e3) ** 2, -1e-12))))
    assert model.shape_std[-1] == 0 and np.isfinite(model.shape_basis).all()
    model = load(str(write_bfm2009(tmp_path, texMU=np.uint8(flat(SMALL.texture_mean)))))
    np.testing.assert_allclose(model.texture_mean, np.floor(SMALL.texture_mean))


def test_ict_components_have_unit_norm_and_expressions_keep_their_weights(tmp_path):
    model = load(str(write_ict_npz(tmp_path)))
    np.testing.assert_allclose(np.linalg.norm(model.shape_basis.reshape(N_SHAPE, -1), axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(model.expression_std, ICT_EXPRESSION_STD)
    assert model.landmarks is None and len(np.unique(ICT_LANDMARKS)) == 68


@pytest.mark.parametrize("landmarks", [None, np.arange(68, dtype=np.int32)])
@pytest.mark.parametrize("whole", [True, False])
def test_save_and_load_lose_nothing(tmp_path, landmarks, whole):
    model = SMALL._replace(shape_basis=SMALL.shape_basis * 2, landmarks=landmarks)
    if not whole:
        model = model._replace(texture_mean=None, texture_basis=np.zeros([0, V, 3], np.float32),
                               texture_std=np.zeros(0, np.float32), expression_basis=np.zeros([0, V, 3], np.float32),
                               expression_std=np.zeros(0, np.float32))
    path = tmp_path / "saved.npz"
    save(model, str(path))
    for name, got, wanted in zip(FaceModel._fields, load(str(path)), model):
        np.testing.assert_array_equal(got, wanted, err_msg=name)
    assert [each.name for each in tmp_path.iterdir()] == ["saved.npz"]


# Bad files

def with_nan(values):
    """Copy `values`, with a NaN among them."""
    values = np.array(values, np.float64)
    values.flat[7] = np.nan
    return values


def write_bytes(folder, content):
    """Write a file of these bytes -> its path."""
    (folder / "file").write_bytes(content)
    return folder / "file"


def write_mixed_meshes(folder):
    """Write .obj files of which one has other vertices -> their folder."""
    write_objs(folder)
    (folder / "identity003.obj").write_text("v 0 0 0\nv 0 0 1\nv 0 1 0\nf 1 2 3\n")
    return folder


def write_exp_only(folder):
    """Write 3DDFA's Model_Exp.mat alone -> its path."""
    write_3ddfa(folder)
    (folder / "Model_Shape.mat").unlink()
    return folder / "Model_Exp.mat"


def write_broken_mesh(folder, content):
    """Write .obj files of which one has this `content` -> their folder."""
    write_objs(folder)
    (folder / "jawOpen.obj").write_text(content)
    return folder


BAD = {
    "name a model's file or folder": lambda folder: folder / "absent.mat",
    "name the model's file, or the folder": lambda folder: folder,
    "not a readable .mat, .h5 or .npz file": lambda folder: write_bytes(folder, b"hello\nworld"),
    "not a readable": lambda folder: write_bytes(folder, b"PK\3\4 broken"),
    "file (": lambda folder: write_bytes(folder, b"\x89HDF\r\n\x1a\n broken"),
    "no known face model: its fields are Pose_Para":
        lambda folder: write_mat(folder / "a.mat", dict(Pose_Para=np.zeros(7))),
    "field shapeMU is missing": lambda folder: write_bfm2009(folder, shapeMU=None),
    "field tl is missing": lambda folder: write_bfm2009(folder, tl=None),
    "field texPC has shape [3, 3]": lambda folder: write_bfm2009(folder, texPC=np.ones([3, 3])),
    "field texMU has 6 numbers, not 900": lambda folder: write_bfm2009(folder, texMU=np.ones(6)),
    "field shapeEV has 2 numbers, but shapePC 5 components": lambda folder: write_bfm2009(folder, shapeEV=np.ones(2)),
    "field shapeEV has negative numbers": lambda folder: write_bfm2009(folder, shapeEV=-SMALL.shape_std),
    "field shapeMU contains NaN": lambda folder: write_bfm2009(folder, shapeMU=with_nan(flat(SMALL.shape_mean))),
    "field shapePC contains NaN": lambda folder: write_bfm2009(folder, shapePC=with_nan(flat(SMALL.shape_basis))),
    "field shapeMU has 899 numbers": lambda folder: write_bfm2009(folder, shapeMU=flat(SMALL.shape_mean)[1:]),
    "field texMU is not an array of numbers": lambda folder: write_bfm2009(folder, texMU="none"),
    "field shape/representer/cells is missing":
        lambda folder: write_bfm2017(folder, **{"shape/representer/cells": None}),
    "field color/model/pcaVariance is missing":
        lambda folder: write_bfm2017(folder, **{"color/model/pcaVariance": None}),
    "field trilist is missing; copy it": lambda folder: write_scaled_lsfm(folder, trilist=None),
    "triangles have shape [4, 4]": lambda folder: write_lsfm(folder, trilist=np.ones([4, 4])),
    "or are not indices": lambda folder: write_lsfm(folder, trilist=SMALL.triangles + .5),
    "triangles name vertices 2 to 301": lambda folder: write_lsfm(folder, trilist=SMALL.triangles + 2),
    "vertices are all in one place": lambda folder: write_lsfm(folder, mean=np.ones([1, 3 * V])),
    "Model_Shape.mat: can't be read": write_exp_only,
    "field expression is missing": lambda folder: write_ict_npz(folder, expression=None),
    "identity003.obj: 3 vertices, but 300": write_mixed_meshes,
    "jawOpen.obj: not a readable .obj mesh": lambda folder: write_broken_mesh(folder, "v 0 0 x\nf 1 2 3"),
    "jawOpen.obj: no vertices (v) or no faces (f)": lambda folder: write_broken_mesh(folder, "o nothing"),
    "field unit is 'inch'; give one of um, mm, cm, m": lambda folder: write_generic(folder, unit="inch"),
    "field std is missing": lambda folder: write_generic(folder, variance=None),
    "field expression_std is missing": lambda folder: write_generic(folder, expression_std=None),
    "field landmarks must hold 68": lambda folder: write_generic(folder, landmarks=np.arange(67)),
    "of the model's 300 vertices": lambda folder: write_generic(folder, landmarks=np.arange(68) + V),
    "not a readable .mat, .h5": lambda folder: write_generic(folder, mean=np.array([{}])),
    "fields of several models, basis and components":
        lambda folder: write_generic(folder, components=SMALL.shape_basis),
    "fields of several models, basis and identity": lambda folder: write_generic(folder, identity=SMALL.shape_basis),
    "fields of several models, basis and w": lambda folder: write_generic(folder, w=SMALL.shape_basis),
    "fields of several models, w and w_exp":
        lambda folder: write_scaled_lsfm(folder, w_exp=flat(SMALL.expression_basis)),
    "fields basis and eigenvalues, but neither std nor variance":
        lambda folder: write_generic(folder, variance=None, eigenvalues=SMALL.shape_std),
    "field landmarks is not numbers of vertices": lambda folder: write_generic(folder, landmarks=with_nan(range(68))),
    "landmarks is not numbers": lambda folder: write_generic(folder, landmarks=np.array(["a"] * 68)),
    "field triangles is not an array of numbers": lambda folder: write_generic(folder, triangles=np.array(["a"])),
    "numbers too large to compute shape_mean":
        lambda folder: write_generic(folder, mean=np.float64(SMALL.shape_mean) * 1e200),
    "field basis has shape []": lambda folder: write_generic(folder, basis=np.array(5.)),
    "no known face model: its fields are none": lambda folder: write_npz(folder),
    "pipe: can't be read (Not a regular file)": lambda folder: make_pipe(folder / "pipe"),
    "jawOpen.obj: a vertex (v) without three finite numbers":
        lambda folder: write_broken_mesh(folder, "v 0 0\nv 1 1\nf 1 2 1"),
    "three finite": lambda folder: write_broken_mesh(folder, "v 0 0 nan\nv 1 1 1\nf 1 2 1"),
    "jawOpen.obj: a face (f) without three of the 3 vertices":
        lambda folder: write_broken_mesh(folder, "v 0 0 0\nv 1 1 1\nv 2 2 1\nf 1 2 4"),
    "a face (f) without": lambda folder: write_broken_mesh(folder, "v 0 0 0\nv 1 1 1\nv 2 2 1\nf 1 2"),
    "without three of": lambda folder: write_broken_mesh(folder, "v 0 0 0\nv 1 1 1\nv 2 2 1\nf -1 -2 -4"),
    "not a readable .obj": lambda folder: write_broken_mesh(folder, "v 0 0 0\nf a b c"),
}


def make_pipe(path):
    """Make a pipe without a writer -> its path."""
    os.mkfifo(path)
    return path


@pytest.mark.parametrize("extra", ["eigenvalues", "sigma", "trilist"])
def test_fields_of_other_formats_that_mark_none_change_nothing(tmp_path, extra):
    assert_same(load(str(write_generic(tmp_path, **{extra: SMALL.shape_std}))))


SQUARE = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\n"
OBJS = {                    # how a square of two triangles may be written
    "plain": SQUARE + "f 1 2 3\nf 1 3 4\n", "polygon": SQUARE + "f 1 2 3 4", "negative": SQUARE + "f -4 -3 -2 -1\n",
    "negative, in between": "v 0 0 0\nv 1 0 0\nv 1 1 0\nf -3 -2 -1\nv 0 1 0\nf -4 -2 -1\n",
    "negative, with texture": SQUARE + "f -4/-1/-1 -3/-1 -2//-1 -1\n", "slashes": SQUARE + "f 1/ 2//3 3/4/ 4/5/6",
    "blanks": SQUARE.replace("\n", " \t\n") + "  f  1\t2  3 4   ",
    "crlf": (SQUARE + "f 1 2 3 4\n").replace("\n", "\r\n"),
    "continued": SQUARE + "f 1 2 \\\n3 4\n", "continued crlf": SQUARE + "f 1 2\\\r\n 3 4\r\n",
    "colours": SQUARE.replace("0\n", "0 .5 .5 .5\n") + "f 1 2 3 4",
    "weights": SQUARE.replace("0\n", "0 1.0\n") + "f 1 2 3 4",
    "comments": "# v 9 9 9\n" + SQUARE + "f 1 2 3 4 # the square\n", "mark": "\ufeff" + SQUARE + "f 1 2 3 4",
    "others": "mtllib a.mtl\no x\ng f\ns off\nusemtl v\nvt 0 0\nvn 0 0 1\nvp 1\nl 1 2\n" + SQUARE + "f 1 2 3 4"}


@pytest.mark.parametrize("text", OBJS.values(), ids=OBJS)
def test_every_way_to_write_an_obj(tmp_path, text):
    (tmp_path / "a.obj").write_bytes(text.encode())
    vertices, triangles = _read_obj(str(tmp_path / "a.obj"))
    assert vertices.tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]
    assert triangles.tolist() == [[1, 2, 3], [1, 3, 4]]


@pytest.mark.parametrize("message", BAD)
def test_bad_files_are_named_in_one_line(tmp_path, message):
    path = BAD[message](tmp_path)
    with pytest.raises(ValueError) as error:
        load(str(path))
    line = str(error.value)
    assert message in line and line.startswith(str(tmp_path)) and "\n" not in line


def test_hdf5_without_h5py_says_what_to_install(tmp_path, monkeypatch):
    path = write_bfm2017(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(ValueError, match="pip install h5py"):
        load(str(path))
