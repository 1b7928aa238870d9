"""builtin_model.py: a model like any other, whose heads are upright and of human size, colour and expression."""
import numpy as np
import pytest

from morphable import builtin_model, face_model, renderer
from morphable.builtin_head import build_head, first_row
from tool import builtin_face_model

MILLIMETRE = 1000
LEFT_EYE, RIGHT_EYE, MOUTH = slice(36, 42), slice(42, 48), slice(48, 68)        # of the landmarks; sides of the image
LIPS = 62, 66                                                                   # the middle of the upper and the lower
HEADS = 80
PLAIN = np.array([1, 1, 1, 0, 0, 0, 1.0])


@pytest.fixture(scope="module")
def model():
    """Build the built-in FaceModel."""
    return builtin_face_model()


@pytest.fixture(scope="module")
def head():
    """Build the mean head -> builtin_head.Head."""
    return build_head()[0]


@pytest.fixture(scope="module")
def people(model):
    """Sample people without an expression -> (vertices in millimetres, textures), both [HEADS, V, 3]."""
    random = np.random.default_rng(0)
    shape = random.standard_normal([HEADS, 199]) * model.shape_std
    texture = random.standard_normal([HEADS, 199]) * model.texture_std
    shapes = face_model.compute_vertices(model, shape, np.zeros([HEADS, 29])) / MILLIMETRE
    return shapes, face_model.compute_texture(model, texture)


def expression(model, index, size):
    """Compute the vertices, in millimetres, of the mean head with `size` deviations of one expression."""
    coefficients = np.zeros(29)
    coefficients[index] = size * model.expression_std[index]
    return face_model.compute_vertices(model, np.zeros(199), coefficients) / MILLIMETRE


def normals(points, triangles):
    """Compute normals [..., T, 3] of triangles, as long as twice the triangles' areas."""
    a, b, c = (points[..., corner, :].astype(np.float64) for corner in triangles.T)
    return np.cross(b - a, c - a)


def width(points, landmarks, left, right):
    """Measure the distance [...] of two landmarks, counted from 0, in the unit of `points` [..., V, 3]."""
    return np.linalg.norm(points[..., landmarks[left], :] - points[..., landmarks[right], :], axis=-1)


# The model's form

def test_shapes_and_types(model):
    count = len(model.shape_mean)
    assert 9000 < count < 12000 and 18000 < len(model.triangles) < 24000
    wanted = {"triangles": [len(model.triangles), 3], "shape_mean": [count, 3], "shape_basis": [199, count, 3],
              "shape_std": [199], "expression_basis": [29, count, 3], "expression_std": [29],
              "texture_mean": [count, 3], "texture_basis": [199, count, 3], "texture_std": [199], "landmarks": [68]}
    for name, shape in wanted.items():
        array = getattr(model, name)
        assert list(array.shape) == shape, name
        assert array.dtype == (np.int32 if name in ("triangles", "landmarks") else np.float32), name
        assert np.isfinite(array).all(), name
    assert model.name == "built-in"


def test_every_vertex_is_used_and_every_landmark_is_another(model):
    assert np.array_equal(np.unique(model.triangles), np.arange(len(model.shape_mean)))
    assert len(set(model.landmarks.tolist())) == 68


@pytest.mark.parametrize("name", ["shape", "texture"])
def test_components_are_orthonormal_and_fall(model, name):
    basis = getattr(model, f"{name}_basis").reshape(199, -1).astype(np.float64)
    np.testing.assert_allclose(basis @ basis.T, np.eye(199), atol=1e-5)
    std = getattr(model, f"{name}_std")
    assert (np.diff(std) <= 0).all() and std[-1] > std[0] / 1e4


@pytest.mark.slow
def test_it_is_always_the_same(model):
    for first, second in zip(model[1:], builtin_model.build()[1:]):
        np.testing.assert_array_equal(first, second)


# The mean

def test_triangles_face_outward(model):
    """As a whole (the volume is positive) and wherever there is nothing but skull."""
    points = model.shape_mean / MILLIMETRE
    area, middle = normals(points, model.triangles), points[model.triangles].mean(1)
    assert (points[model.triangles[:, 0]] * area).sum() / 6 > 3e6           # cubic millimetres
    skull = (middle[:, 1] > 60) & (middle[:, 1] < 140)
    assert ((area * (middle - [0, 45, 0])).sum(1)[skull] > 0).all()


def test_the_mean_is_symmetric(model, head):
    mirrored = model.shape_mean[head.mirror] * [-1, 1, 1]
    np.testing.assert_allclose(mirrored, model.shape_mean, atol=.1)
    assert np.abs(model.texture_mean[head.mirror] - model.texture_mean)[head.hair < .01].max() < 1
    assert np.array_equal(head.mirror[head.mirror], np.arange(len(head.mirror)))


def test_landmarks_lie_where_they_should(model):
    points = model.shape_mean[model.landmarks] / MILLIMETRE
    x, y, z = points.T
    left_eye, right_eye = (points[eye].mean(0) for eye in (LEFT_EYE, RIGHT_EYE))
    assert left_eye[0] == pytest.approx(-right_eye[0], abs=.1) and left_eye[0] < -28    # 37..42 is on the left
    brows, eyes, nose, mouth, jaw = (y[a:b].mean() for a, b in ((17, 27), (36, 48), (30, 36), (48, 68), (7, 10)))
    assert brows > eyes + 10 > nose + 30 > mouth + 10 and mouth > jaw + 25
    for begin, end in ((0, 17), (17, 27), (31, 36), (48, 55), (60, 65)):                # left to right
        assert (np.diff(x[begin:end]) > 0).all()
    assert np.diff(x[54:60]).max() < 0 and np.diff(x[64:68]).max() < 0                  # and back below
    assert (np.diff(y[27:31]) < 0).all() and z.argmax() == 30                           # the nose, to its tip
    for outer, tops, bottoms in ((36, [37, 38], [41, 40]), (45, [44, 43], [46, 47])):
        assert (y[tops] > y[bottoms] + 5).all() and abs(x[outer]) > abs(x[tops]).max()
    np.testing.assert_allclose(x[[8, 27, 28, 29, 30, 33, 51, 57, 62, 66]], 0, atol=.01)
    assert (z[17:] > 40).all()                                                          # none on the back of the head


def test_size_of_a_head(model):
    points, marks = model.shape_mean / MILLIMETRE, model.landmarks
    assert 215 < points[:, 1].max() - points[marks[8], 1] < 250                         # crown to chin
    assert 115 < points[marks[17:27], 1].max() - points[marks[8], 1] < 145              # brow to chin
    assert 60 < width(points, marks, 36, 45) - width(points, marks, 36, 39) < 68        # between pupils
    assert 45 < width(points, marks, 48, 54) < 55
    assert 30 < width(points, marks, 31, 35) + 8 < 40


# People

def test_faces_differ_as_peoples_do(model, people):
    shapes, marks = people[0], model.landmarks
    assert 4.5 < width(shapes, marks, 1, 15).std() < 9                                  # width of the face
    assert 3 < width(shapes, marks, 27, 33).std() < 6                                   # length of the nose
    assert 2 < width(shapes, marks, 48, 54).std() < 5
    assert 2 < (width(shapes, marks, 36, 45) - width(shapes, marks, 36, 39)).std() < 5
    assert 3.5 < width(shapes, marks, 27, 8).std() < 10


def test_no_triangle_of_the_face_turns_over(model, people):
    """Next to none: less than 1 of 2,000 on average, and 1 of 200 in the worst head, turn by a right angle."""
    front = model.shape_mean[model.triangles].mean(1)[:, 2] > 40 * MILLIMETRE
    triangles = model.triangles[front]
    mean = normals(model.shape_mean / MILLIMETRE, triangles)
    turned = [((normals(shape, triangles) * mean).sum(1) < 0).mean() for shape in people[0]]
    assert np.mean(turned) < 5e-4 and max(turned) < 5e-3


def test_skin_from_dark_to_fair(model, people):
    x, y, z = model.shape_mean.T / MILLIMETRE
    forehead = (np.abs(x) < 25) & (y > 62) & (y < 82) & (z > 50)
    skins = people[1][:, forehead].mean(1)
    luminance = skins @ [.299, .587, .114]
    assert np.percentile(luminance, 3) < 90 and np.percentile(luminance, 97) > 170
    assert luminance.min() > 30 and luminance.max() < 240
    red, green, blue = skins.T
    assert (red > green).all() and (green > blue).all()                                 # nobody is green or blue


def test_colours_stay_within_0_and_255(people, head):
    """But for black hair, which a little of is darker than black."""
    outside = (people[1] < -12) | (people[1] > 267)
    assert outside.mean() < .02
    assert outside[:, head.hair < .05].mean() < 2e-3


def test_identity_carries_the_paint(model, people, head):
    """Where eyes go, irises go: pupils stay in the middle between the corners of the eyes."""
    pupil = head.eyeball & (model.texture_mean.sum(1) < 90) & (head.nominal_x > 0)
    for shape in people[0]:
        corners = shape[model.landmarks[[42, 45]]]
        share = (shape[pupil].mean(0) - corners[0])[0] / (corners[1] - corners[0])[0]
        assert .35 < share < .65


# Expressions

def test_the_leading_expressions_have_their_deviations(model):
    np.testing.assert_allclose(model.expression_std[:5], [1.5, 1.4, .54, .53, .19])
    assert (np.diff(model.expression_std) <= 0).all() and model.expression_std[-1] == pytest.approx(.05)


def test_an_open_jaw_parts_the_lips(model):
    gaps = []
    for size in (-2, 0, 1, 2):
        upper, lower = expression(model, 0, size)[model.landmarks[list(LIPS)]]
        gaps.append(upper[1] - lower[1])
    assert 0 < gaps[1] < 2 and gaps[2] > gaps[1] + 2 and gaps[3] > 5
    assert gaps[0] > -8                                 # the lower lip slides before the upper
    upper, lower = expression(model, 0, -2)[model.landmarks[list(LIPS)]]
    assert lower[2] > upper[2]


def test_a_smile_lifts_and_spreads_the_corners(model):
    still, smile = (expression(model, 1, size)[model.landmarks] for size in (0, 1.5))
    assert (smile[[48, 54], 1] > still[[48, 54], 1] + 2).all()
    assert width(smile, np.arange(68), 48, 54) > width(still, np.arange(68), 48, 54) + 3


def test_teeth_and_eyeballs_stay_when_lips_and_lids_move(model, head):
    teeth = (head.row == first_row("upper_lip") + 3) & (np.abs(head.nominal_x) < 10)
    for index in range(len(model.expression_std)):
        moved = expression(model, index, 2) - expression(model, index, 0)
        assert np.abs(moved[teeth]).max() < 1.5, index
        if index not in (16, 17):                       # where the eyes look
            assert np.abs(moved[head.eyeball]).max() < .5, index


# Pictures

def test_a_rendering_is_a_face(model):
    """A dark pupil on a bright eye, red lips, and the same face left and right."""
    incidence = renderer.compute_incidence(model.triangles, len(model.shape_mean))
    pose = np.array([0, 0, 0, 100.5, 100.5, 0, .0008])
    flat = np.array([1, 1, 1, 0, 0, 0, 0, 0, 0, 20.0])
    image, covered = renderer.render(renderer.Mesh(model.shape_mean, model.texture_mean, model.triangles, incidence),
                                     renderer.Shot(flat, pose, PLAIN), renderer.Frame(200, 200))
    assert .3 < covered.mean() < .8
    points = renderer.project(model.shape_mean, pose, 200)[model.landmarks]
    column, row = points[LEFT_EYE, :2].mean(0)
    eye = image[round(row) - 2:round(row) + 3, round(column) - 10:round(column) + 11].astype(int).sum(2)
    assert eye.min() < 200 and eye.max() > 450
    lip, chin = (image[round(points[i, 1] + up), round(points[i, 0])].astype(int) for i, up in ((57, -4), (8, -6)))
    assert lip[0] - lip[1] > chin[0] - chin[1] + 15
    face = image[60:180].astype(int)
    assert np.abs(face - face[:, ::-1])[:, 60:140].mean() < 2
