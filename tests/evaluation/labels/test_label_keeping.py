"""evaluation.labels: kept labels, lost ones, chance; against slow twins. face_points on a face."""
import itertools

import numpy as np
import pytest
from PIL import Image

import gen_syn_latent
from conftest import words
from datasets.image_sets import find_renderings, ImageSet, Renderings
from evaluation.figures import PHOTOS, RENDERINGS, SET
from evaluation.labels import face_points, label_keeping
from evaluation.labels.label_keeping import LANDMARKS, MESH_EYES, MESH_POINTS, Seen
from evaluation.subjects import part_of, Subject
from morphable.fitting.landmark_net import FoundFace
from tool import call

IDENTITIES, VIEWS = 12, 10


def faces(seed=0, noise=.002):
    """A Subject of heads that are turned, smile and are lit, and what is Seen of them."""
    rng = np.random.default_rng(seed)
    mesh = np.random.default_rng(5).uniform(-.3, .3, [468, 3])
    for eye, column in zip(MESH_EYES, (-.15, .15)):
        mesh[list(eye)] = [[column - .05, -.1, .1], [column + .05, -.1, .1]]
    smile = np.random.default_rng(6).normal(0, .02, [468, 3])
    count = IDENTITIES * VIEWS
    labels = np.repeat(np.arange(IDENTITIES, dtype=np.int32), VIEWS)
    pose = rng.uniform(-.5, .5, [count, 3]) * [.5, 1, 0]
    expression, light = rng.normal(size=[count, 1]), rng.uniform(-1, 1, [count, 2])
    points = np.empty([count, 468, 2])
    for i in range(count):
        pitch, yaw, _ = pose[i]
        turn = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
        nod = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
        points[i] = ((mesh + expression[i] * smile) @ (nod @ turn).T)[:, :2] + .5
    landmarks = np.full([count, 68, 2], .5)
    landmarks[:, LANDMARKS] = points[:, MESH_POINTS]
    places = np.linspace(-1, 1, 8)
    brightness = 1 + .3 * (light[:, :1, None] * places + light[:, 1:, None] * places[:, None]).reshape(count, 64)
    images = Renderings("root", [f"{label}/{i}.png" for i, label in enumerate(labels)], labels,
                        [str(i) for i in range(IDENTITIES)])
    known = {"landmarks": landmarks, "pose": pose, "expression": expression, "light": light}
    return (Subject("set", images, np.zeros([count, 1], np.float32), known),
            Seen(points + rng.normal(0, noise, points.shape), brightness))


def values(section, row):
    """{key of a measure: its value in a row}."""
    return {measure.key: measure.figures[row].value for measure in section.measures}


def test_labels_that_are_kept_and_labels_of_other_images():
    subject, seen = faces()
    renderings = faces(noise=.0005)
    shuffled = np.random.default_rng(1).permutation(subject.count)
    kept, lost = (values(label_keeping.measure({SET: subject, RENDERINGS: renderings[0]},
                                               {SET: shown, RENDERINGS: renderings[1]}), SET)
                  for shown in (seen, Seen(seen.points[shuffled], seen.brightness[shuffled])))
    assert kept["faces_found"] == 1 and kept["landmark_error"] < 2 < 10 < kept["landmark_error_chance"]
    assert kept["yaw_error"] < 3 and kept["pitch_error"] < 3 and min(kept["expression"], kept["light"]) > .8
    assert lost["landmark_error"] > 10 and lost["yaw_error"] > 10 and lost["pitch_error"] > 5
    assert max(lost["expression"], lost["light"]) < .1


def test_a_mirrored_set_is_found_out():
    subject, seen = faces()
    mirrored = Seen(seen.points * [-1, 1] + [1, 0], seen.brightness)
    found = values(label_keeping.measure({SET: subject, RENDERINGS: subject}, {SET: mirrored, RENDERINGS: seen}), SET)
    assert found["yaw_error"] > 10 and found["landmark_error"] > 50


def test_without_renderings_the_set_is_its_own_teacher():
    subject, seen = faces()
    found = values(label_keeping.measure({SET: subject}, {SET: seen}), SET)
    assert found["yaw_error"] < 3 and found["landmark_error"] < 2


def test_errors_grow_with_the_noise():
    errors = [values(label_keeping.measure({SET: subject, RENDERINGS: faces()[0]}, {SET: seen, RENDERINGS: faces()[1]}),
                     SET)["landmark_error"] for subject, seen in (faces(1, noise) for noise in (.002, .01, .05))]
    assert errors[0] < errors[1] / 2 < errors[2] / 4


def test_landmark_errors_and_offsets_equal_a_twin():
    subject, seen = faces()
    landmarks = subject.labels["landmarks"] + [.02, -.01]
    got = label_keeping.landmark_errors(seen.points, landmarks)
    for i in range(0, subject.count, 17):
        points = seen.points[i]
        apart = np.hypot(*(np.mean(points[[33, 133]], 0) - np.mean(points[[362, 263]], 0)))
        wanted = np.mean([np.hypot(*(points[mesh] - landmarks[i, mark])) for mesh, mark in zip(MESH_POINTS, LANDMARKS)])
        assert got[i] == pytest.approx(wanted / apart)
    offsets = label_keeping.offsets_of(seen.points, landmarks)
    assert offsets.shape == (7, 2)
    assert label_keeping.landmark_errors(seen.points, landmarks, offsets).mean() < got.mean() / 3


def test_labels_that_are_told_equal_a_twin():
    """Ridge regressions on principal components, one for each fifth of the identities, written as their formulas."""
    subject, seen = faces(noise=.02)
    found = values(label_keeping.measure({SET: subject}, {SET: seen}), SET)
    folds = np.array([sorted(subject.images.identities).index(subject.images.identities[i]) % 5
                      for i in subject.images.labels])

    def told(x, y, count):
        x, result = x - x.mean(0), np.empty_like(y)
        x = x @ np.linalg.svd(x, full_matrices=False)[2][:count].T
        for fold in range(5):
            learn, use = folds != fold, folds == fold
            middle, mean = x[learn].mean(0), y[learn].mean(0)
            own = x[learn] - middle
            strength = .01 * np.trace(own.T @ own) / count
            weights = np.linalg.inv(own.T @ own + strength * np.eye(count)) @ own.T @ (y[learn] - mean)
            result[use] = (x[use] - middle) @ weights + mean
        return result

    middle, shapes = seen.points.mean(axis=0), []
    for points in seen.points:                              # the similarity of least squares, as complex numbers
        one, other = ((each - each.mean(0)) @ [1, 1j] for each in (points, middle))
        turn = np.vdot(one, other) / np.vdot(one, one)
        laid = turn * one + middle.mean(0) @ [1, 1j]
        shapes.append([*np.stack([laid.real, laid.imag], 1).ravel(), turn.real, -turn.imag])
    pose = told(np.array(shapes), subject.labels["pose"], 24)
    for column, key in ((1, "yaw_error"), (0, "pitch_error")):
        error = np.degrees(np.abs(pose - subject.labels["pose"])[:, column]).mean()
        assert found[key] == pytest.approx(error, rel=1e-6) and error > .1
    for label, x in (("expression", np.array(shapes)), ("light", seen.brightness)):
        wanted = subject.labels[label]
        missed = ((told(x, wanted, 24) - wanted) ** 2).sum()
        assert found[label] == pytest.approx(1 - missed / ((wanted - wanted.mean(0)) ** 2).sum(), abs=1e-6)


def test_reduce_equals_a_twin():
    images = np.random.default_rng(0).integers(0, 256, [3, 20, 20, 3], dtype=np.uint8)
    got = label_keeping.reduce(images).reshape(3, 8, 8)
    edges = [round(20 * i / 8) for i in range(9)]
    for n in range(3):
        grey = images[n].astype(float) @ [.299, .587, .114]
        pairs = list(itertools.pairwise(edges))
        places = np.array([[grey[top:end, left:right].mean() for left, right in pairs] for top, end in pairs])
        assert np.abs(got[n] - places / places.mean()).max() < 1e-4
    assert np.isfinite(label_keeping.reduce(np.zeros([1, 16, 16, 3], np.uint8))).all()


def test_another_view_is_of_the_same_identity_and_another_image():
    labels = np.array([0, 0, 1, 1, 1, 2])
    other = label_keeping.another_view(labels)
    assert (labels[other] == labels).all() and (other != np.arange(6)).tolist() == [True] * 5 + [False]
    assert sorted(other) == list(range(6))


def test_what_is_missing_is_said():
    subject, seen = faces()
    bare = subject._replace(labels={})
    section = label_keeping.measure({SET: bare, RENDERINGS: subject, PHOTOS: bare},
                                    dict.fromkeys((SET, RENDERINGS, PHOTOS), seen))
    for measure in section.measures[1:]:
        assert measure.figures[SET].value is None and "no labels" in measure.figures[SET].why
        assert PHOTOS not in measure.figures and measure.figures[RENDERINGS].value is not None
    assert section.measures[0].figures.keys() == {SET, RENDERINGS, PHOTOS}
    few, blind = part_of(subject, range(30)), Seen(np.full_like(seen.points, np.nan), seen.brightness)
    found = {measure.key: measure.figures[SET] for measure in label_keeping.measure(
        {SET: few}, {SET: Seen(seen.points[:30], seen.brightness[:30])}).measures}
    assert "too few" in found["yaw_error"].why and found["landmark_error"].value is not None
    found = {measure.key: measure.figures[SET] for measure in label_keeping.measure(
        {SET: subject}, {SET: blind}).measures}
    assert found["faces_found"].value == 0 and all(found[key].value is None for key in found if key != "faces_found")


def test_points_are_shares_of_the_crop():
    class Net:
        """Finds a face whose points lie in the middle of what it is shown."""
        def find(self, picture):
            return [FoundFace(np.full([468, 2], picture.width / 2 - .5), 1., 1., 0.)]

    picture = Image.fromarray(np.zeros([40, 40, 3], np.uint8))
    assert np.abs(face_points.points_of(Net(), picture) - .5).max() < 1e-6


@pytest.mark.slow
def test_faces_are_found_where_they_are_rendered(tmp_path, monkeypatch):
    if face_points.missing():
        pytest.skip(face_points.missing())
    assert not call(gen_syn_latent, "people", *words(n_id=2, n_im=2, size=96, output=tmp_path, workers=1)).status
    rendered = find_renderings(str(tmp_path))
    (tmp_path / "00001" / "broken.jpg").write_bytes(b"broken")
    images, cache = ImageSet(rendered.root, [*rendered.names, "00001/broken.jpg"]), str(tmp_path / "cache.sqlite3")
    points = face_points.find(images, 2, cache)
    assert points.shape == (5, 468, 2) and np.isnan(points[-1]).all()
    landmarks = np.concatenate([np.load(tmp_path / name / "latents.npz")["landmarks"] for name in rendered.identities])
    assert label_keeping.landmark_errors(points[:4], (landmarks + .5) / 96).max() < .12

    looked = []
    monkeypatch.setattr(face_points.processes, "process_all",
                        lambda function, images, chunks, keep, pool: looked.extend(chunks))
    again = face_points.find(ImageSet(rendered.root, images.names[::-1]), 2, cache)
    assert looked == [[0]], "only the broken image is looked at again"
    np.testing.assert_array_equal(again[::-1], points)
    monkeypatch.setattr(face_points, "PAD", .4)
    face_points.find(images, 2, cache)
    assert looked == [[0], [0, 1, 2, 3, 4]], "points of another kind are others"
