"""face_model.py: vertices and textures against plain sums, registration, borrowed landmarks and textures."""
import numpy as np
import pytest

from morphable.face_model import (
    apply_registration,
    borrow_texture,
    combine,
    compute_texture,
    compute_vertices,
    FaceModel,
    find_landmarks,
    PRODUCT_ROWS,
    register,
)

ROWS, COLUMNS = 60, 50
V = ROWS * COLUMNS


def ellipsoid_face(stretch=1., rows=ROWS, columns=COLUMNS):
    """Make a half ellipsoid with a nose, a chin and sockets -> FaceModel.

    There are two components each of shape, expression and texture, and 68 vertices are landmarks.
    """
    random = np.random.default_rng(0)
    u, v = np.meshgrid(np.linspace(-1.4, 1.4, columns), np.linspace(-1.3, 1.3, rows))
    relief = 3e4 * np.exp(-(u / .15) ** 2 - (v / .25) ** 2) + 2e4 * np.exp(-(u / .3) ** 2 - ((v + .9) / .2) ** 2)
    relief -= 2e4 * np.exp(-((abs(u) - .5) / .25) ** 2 - ((v - .4) / .15) ** 2)
    x, y, z = 7e4 * np.sin(u) * np.cos(v) * stretch, 1.1e5 * np.sin(v), 8e4 * np.cos(u) * np.cos(v) + relief
    mean = np.stack([x, y, z], -1)
    corner = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = (each.ravel() for each in (corner[:-1, :-1], corner[:-1, 1:], corner[1:, 1:], corner[1:, :-1]))
    triangles = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)]).astype(np.int32)
    mean = np.float32(mean.reshape(-1, 3))
    basis = np.float32(random.normal(size=[2, *mean.shape]))
    front = np.flatnonzero((abs(u.ravel()) < .8) & (abs(v.ravel()) < 1))
    colours = np.float32(128 + mean / 1e3)                  # colours that tell the place
    return FaceModel("ellipsoid", triangles, mean, basis, np.float32([3, 2]), basis * 2, np.float32([1, .5]), colours,
                     np.stack([colours / 100, colours[:, ::-1] / 50]), np.float32([2, 1]),
                     np.int32(random.choice(front, 68, replace=False)))


FACE = ellipsoid_face()


def test_vertices_and_texture_are_the_sums_of_the_definition():
    shape, expression, texture = np.array([3., -2]), np.array([.5, 4]), np.array([-1., 2])
    wanted = FACE.shape_mean + sum(a * component for a, component in zip(shape, FACE.shape_basis))
    wanted = wanted + sum(b * component for b, component in zip(expression, FACE.expression_basis))
    got = compute_vertices(FACE, shape, expression)
    np.testing.assert_allclose(got, wanted, atol=.05)
    assert got.dtype == np.float32 and got.shape == (V, 3)
    wanted = FACE.texture_mean + sum(t * component for t, component in zip(texture, FACE.texture_basis))
    np.testing.assert_allclose(compute_texture(FACE, texture), wanted, atol=1e-3)


def expressive():
    """A model with expressions, and those of 37 faces."""
    random = np.random.default_rng(1)
    return FACE._replace(expression_basis=np.float32(random.normal(size=[29, V, 3]))), random.normal(size=[37, 29])


def test_a_face_has_the_same_bits_however_many_come_after_it():
    """In its place of a batch, and in the same place of a later product: so has an image, whatever --n_im is."""
    model, expressions = expressive()
    together = compute_vertices(model, [1, 2], expressions)
    for some in (slice(0, 1), slice(0, 9), slice(16, 30), slice(32, 37)):
        np.testing.assert_array_equal(compute_vertices(model, [1, 2], expressions[some]), together[some])
    np.testing.assert_array_equal(together[:5], compute_vertices(model, [1, 2], expressions[np.arange(37) % 16])[16:21])


def test_a_batch_is_bit_by_bit_its_members_whatever_its_size():
    model, expressions = expressive()
    shape = [1, 2]
    alike = combine(np.array([expressions[0]] * PRODUCT_ROWS), model.expression_basis)
    if (alike != alike[0]).any():
        pytest.skip("this matrix library adds up by the place in a batch, as OpenBLAS does with one thread")
    together = compute_vertices(model, shape, expressions)
    assert together.shape == (37, V, 3)
    for some in (slice(0, 1), slice(3, 20), slice(30, 37)):
        np.testing.assert_array_equal(compute_vertices(model, shape, expressions[some]), together[some])
    np.testing.assert_array_equal(compute_vertices(model, shape, expressions[36]), together[36])
    np.testing.assert_array_equal(compute_vertices(model, np.array([shape] * 37), expressions), together)


def test_a_model_without_expressions_has_one_face_an_identity():
    model = FACE._replace(expression_basis=np.zeros([0, V, 3], np.float32))
    np.testing.assert_array_equal(compute_vertices(model, [0, 0], np.zeros(0)), FACE.shape_mean)
    assert compute_vertices(model, [0, 0], np.zeros([4, 0])).shape == (4, V, 3)
    assert compute_vertices(model, [0, 0], np.zeros([0, 0])).shape == (0, V, 3)


def test_coefficients_of_another_model_are_refused():
    with pytest.raises(ValueError, match="199 coefficients for a model of 2 components"):
        compute_vertices(FACE, np.zeros(199), np.zeros(2))


def moved(model, scale, tilt, offset):
    """Scale `model`, tilt it about x by radians, shift it, and forget its landmarks."""
    cos, sin = np.cos(tilt), np.sin(tilt)
    turn = np.array([[1, 0, 0], [0, cos, sin], [0, -sin, cos]])
    mean = np.float32(scale * model.shape_mean @ turn + offset)
    return model._replace(shape_mean=mean, landmarks=None)


@pytest.mark.slow
@pytest.mark.parametrize("scale, tilt", [(1, 0), (.8, .1), (1.25, -.1), (1.1, .2)])
def test_faces_are_registered_whatever_their_place_size_and_mesh(scale, tilt):
    other = moved(ellipsoid_face(1.03, 71, 63), scale, tilt, [2e4, -7e4, 5e4])
    placed = apply_registration(register(other, FACE), other.shape_mean[find_landmarks(other, FACE)])
    landmarks = FACE.shape_mean[FACE.landmarks]
    assert np.linalg.norm(placed - landmarks, axis=1).mean() < 3e3
    true = ellipsoid_face(1.03, 71, 63).shape_mean[find_landmarks(other, FACE)]
    assert np.linalg.norm(true - landmarks, axis=1).mean() < 5e3


def test_landmarks_are_vertices_of_triangles():
    extra = np.float32(np.concatenate([FACE.shape_mean[FACE.landmarks], FACE.shape_mean]))
    other = FACE._replace(shape_mean=extra, triangles=FACE.triangles + 68, landmarks=None)
    np.testing.assert_array_equal(find_landmarks(other, FACE), FACE.landmarks + 68)


def test_borrowed_colours_lie_where_they_belong():
    other = moved(ellipsoid_face(1.03, 71, 63), .9, .1, [0, 5e4, 0])._replace(texture_mean=None, texture_basis=None)
    got = borrow_texture(other, FACE)
    wanted = ellipsoid_face(1, 71, 63)
    assert np.abs(got.texture_mean - wanted.texture_mean).mean() < 4            # 1 is a millimetre
    assert got.texture_basis.shape == (2, 71 * 63, 3) and got.texture_basis.dtype == np.float32
    assert np.abs(got.texture_basis[0] - wanted.texture_basis[0]).mean() < .04
    np.testing.assert_array_equal(got.texture_std, FACE.texture_std)
    assert got.name == "ellipsoid, colours of ellipsoid"


def test_landmarks_pull_the_colours_to_their_places():
    """A face with the landmarks of a mouth 2 cm lower gets the colours of the mouth there."""
    low = FACE.landmarks[np.abs(FACE.shape_mean[FACE.landmarks, 1] + 6e4).argmin()]
    lower = np.abs(FACE.shape_mean - FACE.shape_mean[low] + [0, 1.5e4, 0]).sum(axis=1).argmin()
    landmarks = FACE.landmarks.copy()
    landmarks[landmarks == low] = lower
    got = borrow_texture(FACE._replace(landmarks=landmarks), FACE)
    before, after = (np.abs(each[lower] - FACE.texture_mean[low]).max() for each in
                     (FACE.texture_mean, got.texture_mean))
    assert after < before / 2
