"""renderer.py: the rasterizer against one that looks at every pixel, and which way is up, left, lit and bright."""
import math

import numpy as np
import pytest

from morphable import renderer

FRONT = np.array([0, 0, 0, 20, 20, 0, .001])            # pose of a head of 20 mm radius in a picture of 40 pixels
AMBIENT = np.array([1, 1, 1, 0, 0, 0, 0, 0, 0, 20.0])
PLAIN = np.array([1, 1, 1, 0, 0, 0, 1.0])               # the colours as they are


# The rasterizer against a reference

def reference(points, colours, triangles, height, width):
    """Rasterize as `renderer.rasterize` says, triangle by triangle and pixel by pixel in Python's numbers."""
    image = np.zeros([height, width, 3])
    depths = np.full([height, width], -math.inf)
    for corners in triangles:
        x, y = ([(math.floor(float(points[corner, axis]) * 4096) + .5) / 4096 for corner in corners] for axis in (0, 1))
        z = [float(points[corner, 2]) for corner in corners]
        for row in range(height):
            for column in range(width):
                w = [(x[i] - column) * (y[j] - row) - (x[j] - column) * (y[i] - row)
                     for i, j in ((1, 2), (2, 0), (0, 1))]
                if sum(w) == 0 or not (min(w) >= 0 or max(w) <= 0):
                    continue
                depth = (w[0] * z[0] + w[1] * z[1] + w[2] * z[2]) / (w[0] + w[1] + w[2])
                if depth >= depths[row, column]:
                    depths[row, column] = depth
                    image[row, column] = np.array(w) @ colours[corners] / sum(w)
    return image, depths > -math.inf


def agree(points, colours, triangles, height, width):
    """Assert that the rasterizer and the reference give the same image -> share of it that is covered."""
    points, colours = np.asarray(points, np.float32), np.asarray(colours, np.float32)
    image, covered = renderer.rasterize(points, colours, triangles, height, width)
    wanted, mask = reference(points, colours, triangles, height, width)
    np.testing.assert_array_equal(covered, mask)
    assert image.dtype == np.float32 and image.shape == (height, width, 3)
    assert np.abs(image - wanted).max() < .01           # of 255
    assert not image[~covered].any()
    return covered.mean()


def soup(random, count, height, width, spread, size):
    """Make `count` separate triangles of about `size` pixels -> (points, colours, triangles).

    The triangles lie in and around an image of `height` and `width` pixels, up to `spread` times its size outside it.
    """
    centres = random.uniform(-spread, 1 + spread, [count, 1, 2]) * [width, height]
    corners = centres + size * random.standard_normal([count, 3, 2])
    points = np.concatenate([corners, random.uniform(-9, 9, [count, 3, 1])], -1).reshape(-1, 3)
    return points, random.uniform(0, 255, points.shape), np.arange(3 * count, dtype=np.int32).reshape(-1, 3)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("size", [.5, 3, 40])
def test_random_triangles(seed, size):
    random = np.random.default_rng(seed)
    height, width = random.integers(5, 24, 2)
    assert agree(*soup(random, 40, height, width, .2, size), height, width) > 0


@pytest.mark.parametrize("seed", range(8))
def test_slivers(seed):
    random = np.random.default_rng(seed)
    points, colours, triangles = soup(random, 20, 16, 16, .2, 12)
    points[2::3] = points[::3] + random.uniform(0, 1, [20, 1]) * (points[1::3] - points[::3])
    points[2::3] += random.choice([0, 1e-4, 1e-2], [20, 1]) * random.standard_normal([20, 3])
    agree(points, colours, triangles, 16, 16)


@pytest.mark.parametrize("seed", range(8))
def test_corners_and_edges_on_pixel_centres(seed):
    random = np.random.default_rng(seed)
    points = random.integers(-2, 14, [30, 3])           # also equal depths, equal points and triangles without area
    triangles = random.integers(0, 30, [25, 3]).astype(np.int32)
    agree(points, random.uniform(0, 255, [30, 3]), triangles, 12, 12)


@pytest.mark.parametrize("step", [1, .37])
def test_neighbours_leave_no_gap(step):
    across, down = np.meshgrid(np.arange(25) * step - .5, np.arange(25) * step - .5)
    shake = np.random.default_rng(0).uniform(-.3, .3, [2, 625]) * step
    points = np.stack([across.ravel() + shake[0], down.ravel() + shake[1], np.zeros(625)], 1)
    corner = (np.arange(24)[:, None] * 25 + np.arange(24)).ravel()
    triangles = np.concatenate([np.stack([corner, corner + 1, corner + 26], 1),
                                np.stack([corner, corner + 26, corner + 25], 1)]).astype(np.int32)
    last = int(23 * step - 1)
    _, covered = renderer.rasterize(points, np.full([625, 3], 9.0), triangles, last + 1, last + 1)
    assert covered[1:, 1:].all()
    agree(points[:150], points[:150] + 9, triangles[(triangles < 150).all(1)], 8, 8)


def test_far_and_huge_triangles_come_in_chunks(monkeypatch):
    random = np.random.default_rng(3)
    monkeypatch.setattr(renderer, "CHUNK", 100)
    agree(*soup(random, 12, 20, 20, .1, 4000), 20, 20)
    agree(*soup(random, 40, 20, 20, .1, 3), 20, 20)
    points, colours, triangles = soup(random, 12, 20, 20, .1, 3)
    points[:, 2] = 1                                    # ties over several chunks
    agree(points, colours, triangles, 20, 20)


def test_off_screen_and_empty():
    points, colours, triangles = soup(np.random.default_rng(0), 9, 16, 16, 0, 2)
    for away in ([99, 0, 0], [-99, 0, 0], [0, 99, 0], [0, -99, 0], [2e5, 2e5, 0]):
        assert agree(points + away, colours, triangles, 16, 16) == 0
    assert agree(points, colours, triangles[:0], 16, 16) == 0


def test_the_last_of_equally_near_triangles_wins():
    points = np.array([[-9, -9, 1], [30, -9, 1], [-9, 30, 1]] * 2, np.float32)
    colours = np.repeat([[10.0] * 3, [20.0] * 3], 3, 0).astype(np.float32)
    for order, value in ([0, 1], 20), ([1, 0], 10):
        image, covered = renderer.rasterize(points, colours, np.arange(6).reshape(2, 3)[order], 4, 4)
        assert covered.all() and (image == value).all()


def test_the_nearest_triangle_wins_whichever_way_it_faces():
    points = np.array([[-9, -9, 2], [30, -9, 2], [-9, 30, 2], [-9, -9, 1], [30, -9, 1], [-9, 30, 1]], np.float32)
    colours = np.repeat([[10.0] * 3, [20.0] * 3], 3, 0).astype(np.float32)
    for near in ([0, 1, 2], [2, 1, 0]):
        for triangles in ([near, [3, 4, 5]], [[3, 4, 5], near]):
            assert (renderer.rasterize(points, colours, np.array(triangles), 4, 4)[0] == 10).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e5])
def test_points_that_can_not_be_rendered(value):
    points, colours, triangles = soup(np.random.default_rng(0), 2, 8, 8, 0, 2)
    points[3, 0] = value
    with pytest.raises(ValueError, match="finite"):
        renderer.rasterize(points, colours, triangles, 8, 8)


# Pose

def test_rotation_by_hand():
    x, y, z = np.eye(3)
    quarter = math.pi / 2
    np.testing.assert_allclose(renderer.rotation_matrix(0, 0, 0), np.eye(3))
    np.testing.assert_allclose(renderer.rotation_matrix(quarter, 0, 0) @ z, y, atol=1e-12)     # the face looks up
    np.testing.assert_allclose(renderer.rotation_matrix(0, quarter, 0) @ z, -x, atol=1e-12)    # to the image's left
    np.testing.assert_allclose(renderer.rotation_matrix(0, 0, quarter) @ y, x, atol=1e-12)     # its top is on the right
    pitched, turned, rolled = (renderer.rotation_matrix(*angles) for angles in ((.3, 0, 0), (0, .5, 0), (0, 0, .7)))
    np.testing.assert_allclose(renderer.rotation_matrix(.3, .5, .7), pitched @ turned @ rolled)


def test_project_by_hand():
    vertices = np.array([[0, 0, 0], [5000, 3000, 2000]], np.float32)
    points = renderer.project(vertices, [0, 0, 0, 7, 4, 99, .001], 20)
    np.testing.assert_allclose(points, [[6, 16, 0], [11, 13, 2]], rtol=1e-6)
    assert points.dtype == np.float32


# A head: a ball of 20 mm radius with a nose

def ball(rows=24, columns=48):
    """Make the head, with poles at top and bottom -> (vertices [V, 3], triangles [T, 3], nose).

    `nose` is bool [V], whether a vertex is on the nose.
    """
    around = np.arange(columns) * 2 * math.pi / columns
    up = np.linspace(-1, 1, rows)[:, None] * (math.pi / 2 - 1e-3)
    vertices = 20e3 * np.stack([np.cos(up) * np.sin(around), np.sin(up) + 0 * around, np.cos(up) * np.cos(around)], -1)
    vertices = vertices.reshape(-1, 3).astype(np.float32)
    nose = np.hypot(vertices[:, 0], vertices[:, 1]) < 4e3
    nose &= vertices[:, 2] > 0
    vertices[nose, 2] += 8e3
    index = np.arange(rows * columns).reshape(rows, columns)
    right = np.roll(index, -1, 1)
    quads = [corner.ravel() for corner in (index[:-1], right[:-1], right[1:], index[1:])]
    triangles = [np.stack([quads[i] for i in corners], 1) for corners in ((0, 1, 2), (0, 2, 3))]
    return vertices, np.concatenate(triangles).astype(np.int32), nose


HEAD, TRIANGLES, NOSE = ball()
INCIDENCE = renderer.compute_incidence(TRIANGLES, len(HEAD))
GREY = np.full_like(HEAD, 100)


def render(texture=GREY, illumination=AMBIENT, pose=FRONT, color=PLAIN, **options):
    """Render the head in a Frame of 40 x 40 pixels with these further `options` -> (image, covered)."""
    return renderer.render(renderer.Mesh(HEAD, texture, TRIANGLES, INCIDENCE),
                           renderer.Shot(illumination, pose, color), renderer.Frame(40, 40, **options))


def marked(where):
    """Make a grey texture with a bright red mark on the vertices `where`."""
    texture = GREY.copy()
    texture[where] = [255, 0, 0]
    return texture


def centre_of_red(image):
    """Find the column and the row of the red mark in an image."""
    red = np.clip(image[..., 0].astype(float) - image[..., 1], 0, None)
    rows, columns = np.indices(red.shape)
    return (red * columns).sum() / red.sum(), (red * rows).sum() / red.sum()


def test_normals_point_outward():
    normals = renderer.compute_normals(HEAD, TRIANGLES, INCIDENCE)
    assert normals.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, rtol=1e-5)
    far = np.hypot(HEAD[:, 0], HEAD[:, 1]) > 8e3        # from the nose
    assert (normals[far] * HEAD[far] / 20e3).sum(1).min() > .95


def test_normals_are_area_weighted_and_zero_without_area():
    vertices = np.array([[0, 0, 0], [3, 0, 0], [0, 1, 0], [0, 0, 1], [5, 5, 5]], np.float32)
    triangles = np.array([[0, 1, 2], [0, 2, 3], [4, 4, 4]])
    normals = renderer.compute_normals(vertices, triangles, renderer.compute_incidence(triangles, 5))
    np.testing.assert_allclose(normals[0], np.array([1, 0, 3]) / math.sqrt(10), rtol=1e-6)
    assert not normals[4].any()


def test_up_is_up():
    assert centre_of_red(render(marked(HEAD[:, 1] > 15e3))[0])[1] < 12


def test_right_is_right():
    assert centre_of_red(render(marked(HEAD[:, 0] > 15e3))[0])[0] > 28


def test_which_way_a_nose_points():
    def nose(*angles):
        """Find where the nose is at these angles."""
        return np.array(centre_of_red(render(marked(NOSE), pose=np.array([*angles, *FRONT[3:]]))[0]))
    ahead = nose(0, 0, 0)
    np.testing.assert_allclose(ahead, [19, 20], atol=.2)
    assert nose(0, .5, 0)[0] < ahead[0] - 8             # positive yaw: left
    assert nose(0, -.5, 0)[0] > ahead[0] + 8
    assert nose(.5, 0, 0)[1] < ahead[1] - 8             # positive pitch: up
    top = np.array(centre_of_red(render(marked(HEAD[:, 1] > 15e3), pose=np.array([0, 0, .5, *FRONT[3:]]))[0]))
    assert top[0] > 24                                  # positive roll: the top to the right


def test_the_far_side_is_hidden():
    image, covered = render(marked(HEAD[:, 2] < -1e3))
    assert (image[..., 0] > image[..., 1]).sum() < .05 * covered.sum()


def directional(theta, phi, strength=.8):
    """Make an illumination of a weak ambient and a directional light."""
    return np.array([.2, .2, .2, strength, strength, strength, theta, phi, 0, 20])


def test_light_brightens_the_side_it_comes_from():
    left, right = (render(illumination=directional(0, phi))[0].astype(float).sum(2) for phi in (-1, 1))
    assert left[:, :20].mean() > 1.5 * left[:, 20:].mean()
    assert right[:, 20:].mean() > 1.5 * right[:, :20].mean()
    above = render(illumination=directional(1, 0))[0].astype(float).sum(2)
    assert above[:20].mean() > 1.5 * above[20:].mean()
    turned = render(illumination=directional(0, -1), pose=np.array([0, 1, 0, *FRONT[3:]]))[0].astype(float).sum(2)
    assert turned[:, :20].mean() > 1.5 * turned[:, 20:].mean()      # fixed to the head, whose left is now further off


def test_light_by_hand():
    texture = np.array([[100, 50, 200], [100, 50, 200]], np.float32)
    normals = np.array([[0, 0, 1], [0, 0, -1]], np.float32)
    numbers = np.array([.5, .6, .7, 1, 2, 3, 0, 0, 0, 20])
    dull = renderer.apply_light(texture, normals, numbers)
    np.testing.assert_allclose(dull, [[150, 130, 740], [50, 30, 140]], rtol=1e-6)
    numbers[8] = 10                                     # adds ks·dir where the normal is halfway to the viewer
    glossy = renderer.apply_light(texture, normals, numbers)
    np.testing.assert_allclose(glossy, [[160, 150, 770], [50, 30, 140]], rtol=1e-6)


def test_the_highlight_is_narrower_than_the_light():
    numbers = directional(0, -1)
    dull = renderer.apply_light(GREY, renderer.compute_normals(HEAD, TRIANGLES, INCIDENCE), numbers)
    numbers[8] = 50
    glossy = renderer.apply_light(GREY, renderer.compute_normals(HEAD, TRIANGLES, INCIDENCE), numbers) - dull
    far = np.hypot(HEAD[:, 0], HEAD[:, 1]) > 8e3
    brightest = HEAD[far][glossy[far, 0].argmax()]
    assert math.atan2(brightest[0], brightest[2]) == pytest.approx(-.5, abs=.15)
    assert 35 < glossy.max() <= 40.01 and (glossy > 4).mean() < .2


def test_negative_lights_and_shininess_count_as_zero():
    normals = renderer.compute_normals(HEAD, TRIANGLES, INCIDENCE)
    negative = np.array([-1, -1, -1, -1, -1, -1, 0, 0, -1, -1.0])
    assert not renderer.apply_light(GREY, normals, negative).any()
    shininess = directional(0, 0)
    shininess[8:] = 10, -5
    dull = renderer.apply_light(GREY, normals, directional(0, 0))
    glossy = renderer.apply_light(GREY, normals, shininess)
    np.testing.assert_allclose(glossy - dull, 8, atol=1e-3)     # any cosine to the power 0


def test_light_from_behind_has_no_halfway():
    numbers = directional(0, math.pi)
    numbers[8] = 10
    assert np.isfinite(renderer.apply_light(GREY, renderer.compute_normals(HEAD, TRIANGLES, INCIDENCE), numbers)).all()


# Colour

def test_tone():
    colours = np.array([[100, 50, 200], [255, 255, 255]], np.float32)
    np.testing.assert_allclose(renderer.apply_color(colours, PLAIN), colours)
    np.testing.assert_allclose(renderer.apply_color(colours, np.array([1.1, .5, 1, .1, 0, -.1, 1])),
                               [[135.5, 25, 174.5], [255, 127.5, 229.5]], rtol=1e-6)
    np.testing.assert_allclose(renderer.apply_color(colours, np.array([1, 1, 1, 0, 0, 0, 0]))[0], [81.5] * 3, rtol=1e-6)
    np.testing.assert_allclose(renderer.apply_color(colours, np.array([9, 9, 9, 0, 0, 0, 1])), 255)
    np.testing.assert_allclose(renderer.apply_color(colours, np.array([1, 1, 1, -1, -1, -1, 1])), 0)


# Pictures

def test_a_picture_and_its_background():
    image, covered = render()
    assert image.dtype == np.uint8 and covered.dtype == bool
    assert (image[covered] == 100).all() and not image[~covered].any()
    assert covered.mean() == pytest.approx(math.pi / 4, abs=.03)


def test_a_shift_of_a_part_of_a_pixel():
    texture = np.repeat((HEAD[:, :1] / 20e3 + 1) * 100, 3, 1)
    still, moved = (render(texture, pose=FRONT + [0, 0, 0, shift, 0, 0, 0])[0][20, 10:30, 0].astype(float)
                    for shift in (0, .4))
    assert (still - moved).mean() == pytest.approx(.4 * 100 / 20, abs=.2)


@pytest.mark.parametrize("k", [2, 3, 4])
def test_supersampling_stays_in_place(k):
    pose = np.array([.1, .3, -.2, 21.3, 18.6, 0, .0008])
    texture = (HEAD / 25e3 + 1) * 100
    coarse, covered = render(texture, directional(.2, .3), pose)
    fine, mask = render(texture, directional(.2, .3), pose, supersample=k)
    assert fine.shape == coarse.shape and not fine[~mask].any()
    assert (covered != mask).mean() < .02
    inside = covered & mask
    assert np.abs(fine[inside].astype(float).mean(0) - coarse[inside].mean(0)).max() < .3
    for axis in (0, 1):
        middles = [np.nonzero(each)[axis].mean() for each in (covered, mask)]
        assert abs(middles[0] - middles[1]) < .1


def test_supersampling_needs_half_the_samples():
    pose = np.array([0, 0, 0, 20.5, 20.5, 0, .01])      # a square from 9.2 to 29.8 both ways
    square = np.array([[-1e4, -1e4, 0], [1e4, -1e4, 0], [1e4, 1e4, 0], [-1e4, 1e4, 0]], np.float32) * .103
    triangles = np.array([[0, 1, 2], [0, 2, 3]])
    mesh = renderer.Mesh(square, np.full([4, 3], 80, np.float32), triangles, renderer.compute_incidence(triangles, 4))
    image, covered = renderer.render(mesh, renderer.Shot(AMBIENT, pose, PLAIN), renderer.Frame(40, 40, supersample=2))
    columns = np.flatnonzero(covered.any(0))
    assert (columns[0], columns[-1]) == (9, 30) and covered.sum() == 22 ** 2 - 4     # a corner has 1 sample of 4
    assert (image[covered] == 80).all() and not image[~covered].any()


def test_a_box_is_that_part_of_the_picture():
    """Twice as large, pixel (u, v) of a part from (10, 8) on lies between the centres of whole pixels."""
    whole, covered = render(pose=FRONT, supersample=2)
    part, mask = render(pose=FRONT, supersample=2, box=(10, 8, 34, 28), size=(20, 24))
    assert part.shape == (20, 24, 3) and np.array_equal(mask, covered[8:28, 10:34])
    assert np.abs(part.astype(int) - whole[8:28, 10:34])[mask].max() <= 1
    _, mask = render(pose=FRONT, box=(10, 8, 34, 28), size=(40, 48))
    assert np.array_equal(4 * mask.reshape(20, 2, 24, 2).sum((1, 3)) >= 8, covered[8:28, 10:34])
    _, mask = render(pose=FRONT, box=(-40, 0, 40, 40), size=(40, 80))
    assert not mask[:, :40].any() and np.array_equal(mask[:, 40:], render(pose=FRONT)[1])
