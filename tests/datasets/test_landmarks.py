"""datasets.landmarks: five points of faces, read where commands leave them; the similarity that lays them on others."""
import re

import numpy as np
import pytest

from datasets import crop, landmarks
from datasets.detection import POINTS
from utils import save_json

SIDES = {"width": "200", "height": "100"}
BOX = (20., 30., 60., 90.)                      # with the margin, half of the crop: (0, 0, 80, 120), clipped to 100


def write_table(folder, rows, fields=None, **settings):
    """An alignment.csv of these rows, dicts, with settings.json."""
    names = fields or ("source", "crop", "left", "top", "right", "bottom",
                       *(f"{point}_{axis}" for point in POINTS for axis in "xy"), "confidence", "status", *SIDES)
    lines = [",".join(names)] + [",".join(str(row.get(name, "")) for name in names) for row in rows]
    (folder / "alignment.csv").write_text("\n".join(lines) + "\n")
    save_json({"size": 100, "margin": 50, "square": False, **settings}, str(folder / "settings.json"))


def row_of(name, points, **more):
    """A row of the table for a crop `name`."""
    flat = zip((f"{point}_{axis}" for point in POINTS for axis in "xy"), np.ravel(points))
    box = zip(("left", "top", "right", "bottom"), BOX)
    return {"source": name, "crop": name, **dict(box), **dict(flat), "status": "cropped", **SIDES, **more}


def write_labels(folder, count=2, size=100, **more):
    """A latents.npz of `count` images whose 68 points all lie at (9.5, 19.5), but for the eyes, nose and mouth."""
    points = np.full([count, 68, 2], [9.5, 19.5])
    points[:, 36:42], points[:, 42:48] = [[29, 39.5], [30, 39.5]] * 3, [69.5, 39.5]
    points[:, 30], points[:, 48], points[:, 54] = [49.5, 59.5], [34.5, 79.5], [64.5, 79.5]
    folder.mkdir(exist_ok=True)
    names = [f"{number + 1:05}.jpg" for number in range(count)]
    np.savez(folder / "latents.npz", **{"landmarks": points, "size": size, "names": names,
                                        "box": np.tile([0, 0, 80., 100.], (count, 1)), **more})


# The similarity

@pytest.mark.parametrize("angle, scale, move", [(0, 1, (0, 0)), (.7, 2.5, (3, -4)), (np.pi, .1, (0, 9))])
def test_a_similarity_is_found_again(angle, scale, move):
    source = np.random.default_rng(1).normal(size=[5, 2])
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = landmarks.similarity(source, source @ turn.T + move)
    np.testing.assert_allclose(matrix, np.column_stack([turn, move]), atol=1e-12)
    np.testing.assert_allclose(landmarks.transform(matrix, source), source @ turn.T + move, atol=1e-12)


def test_a_similarity_is_the_nearest_one_and_never_mirrors():
    random = np.random.default_rng(2)
    source, target = random.normal(size=[5, 2]), random.normal(size=[5, 2]) * [-1, 1]
    best = landmarks.similarity(source, target)
    error = ((landmarks.transform(best, source) - target) ** 2).sum()
    assert np.linalg.det(best[:, :2]) > 0 and best[0, 0] == best[1, 1] and best[0, 1] == -best[1, 0]
    for _ in range(50):
        cosine, sine, *move = random.normal(0, .01, 4)
        other = best + [[cosine, -sine, move[0]], [sine, cosine, move[1]]]
        assert ((landmarks.transform(other, source) - target) ** 2).sum() > error


def test_points_that_are_one_have_no_similarity():
    with pytest.raises(ValueError, match="one"):
        landmarks.similarity(np.ones([5, 2]), landmarks.ARCFACE_TEMPLATE)


# Reading

def test_points_of_crops_of_photos(tmp_path):
    """The crop is the box with its margin, clipped to the photo, and squeezed; the points are in the photo's pixels."""
    points = np.array([[20, 25], [60, 25], [40, 50], [30, 75], [50, 75]])
    write_table(tmp_path, [row_of("a/1.jpg", points), row_of("a/2.jpg", points, right="x"), row_of("a/3.jpg", points)])
    found = landmarks.read(str(tmp_path), ["a/1.jpg", "a/2.jpg", "a/4.jpg"])
    assert list(found) == ["a/1.jpg"]
    np.testing.assert_allclose(found["a/1.jpg"].points, points / [80, 100])
    assert found["a/1.jpg"].tall == 1.25


@pytest.mark.parametrize("settings, sides, box", [
    ({"square": True}, SIDES, (0, 0, 100, 100)), ({"margin": 0}, SIDES, BOX), ({}, {}, (0, 0, 80, 120)),
    ({}, {"width": "50", "height": "70"}, (0, 0, 50, 70))])
def test_the_crop_of_a_photo_is_the_one_that_was_cut(tmp_path, settings, sides, box):
    """A table of an older version does not tell the photo's sides: then nothing is clipped to them."""
    points = np.arange(10.).reshape(5, 2) ** 1.5
    write_table(tmp_path, [row_of("1.jpg", points) | {"width": "", "height": ""} | sides], **settings)
    found = landmarks.read(str(tmp_path), ["1.jpg"])["1.jpg"]
    np.testing.assert_allclose(found.points, (points - box[:2]) / [box[2] - box[0], box[3] - box[1]])
    assert found.tall == pytest.approx((box[3] - box[1]) / (box[2] - box[0]))


def test_points_of_crops_that_were_placed_by_them(tmp_path):
    """The crop keeps the face's proportions, so that points which lie like the template's lie on it."""
    points = 2 * landmarks.ARCFACE_TEMPLATE @ [[.6, .8], [-.8, .6]] + 30
    write_table(tmp_path, [row_of("1.jpg", points)], template="arcface")
    found = landmarks.read(str(tmp_path), ["1.jpg"])["1.jpg"]
    np.testing.assert_allclose(found.points, (landmarks.ARCFACE_TEMPLATE + .5) / 112)
    assert found.tall == 1


def test_points_of_rendered_images(tmp_path):
    """An image that another command wrote, of another format, has the points of its rendering."""
    write_labels(tmp_path / "00001")
    found = landmarks.read(str(tmp_path), ["00001/00001.jpg", "00001/00002.png", "00001/00003.jpg", "00002/00001.jpg"])
    assert sorted(found) == ["00001/00001.jpg", "00001/00002.png"]
    named = np.array([[.3, .4], [.7, .4], [.5, .6], [.35, .8], [.65, .8]])
    seen, squeeze = found["00001/00001.jpg"].points, [1, 1.25]
    np.testing.assert_allclose(seen * squeeze, landmarks.as_detected(named * squeeze))
    assert .005 < np.abs(seen - named).max() < .03 and found["00001/00002.png"].tall == 1.25


@pytest.mark.parametrize("angle, scale", [(0, 1), (.7, 2.5), (np.pi, .01)])
def test_rendered_faces_are_moved_to_where_a_detector_sees_them(angle, scale):
    """Whatever their place, size and turn: what lies off the template as renderings do comes to lie on it."""
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    rendered, seen = (points @ turn.T + [3, -4] for points in (
        landmarks.ARCFACE_TEMPLATE + landmarks.RENDERED_OFFSETS, landmarks.ARCFACE_TEMPLATE))
    np.testing.assert_allclose(landmarks.as_detected(rendered), seen, atol=1e-9)


def test_rendered_faces_without_extent_have_no_points(tmp_path):
    """One of them is no reason to leave out the others."""
    points = np.random.default_rng(1).uniform(20, 80, [2, 68, 2])
    points[0] = 50
    write_labels(tmp_path / "1", landmarks=points)
    assert list(landmarks.read(str(tmp_path), ["1/00001.jpg", "1/00002.jpg"])) == ["1/00002.jpg"]


def test_points_agree_with_the_crop_that_is_cut_out():
    """Points count from the centre of the first pixel in datasets.crop, and here from its corner."""
    points, box = np.array([[3., 4], [50, 20]]), (-2., 3., 70., 93.)
    there = crop.points_in_crop(points, box, 64)
    np.testing.assert_allclose((there + .5) / 64, landmarks.points_in_crop(points + .5, box))


def encrypted(path):
    """Set the bits that say of each array in an .npz that a password is needed."""
    content = path.read_bytes()
    for place in [match.start() for match in re.finditer(b"PK\x01\x02", content)]:
        content = content[:place + 8] + bytes([content[place + 8] | 1]) + content[place + 9:]
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [
    lambda folder: (folder / "1/latents.npz").write_bytes(b"PK\x03\x04 no archive"),
    lambda folder: encrypted(folder / "1/latents.npz"),
    lambda folder: write_labels(folder / "1", landmarks=np.zeros([2, 5, 2])),
    lambda folder: write_labels(folder / "1", box=[]),
    lambda folder: write_labels(folder / "1", names=["a", {"an": "object"}]),
    lambda folder: np.savez(folder / "1/latents.npz", size=3),
    lambda folder: (folder / "settings.json").unlink(),
    lambda folder: (folder / "settings.json").write_text("[]"),
    lambda folder: (folder / "alignment.csv").write_bytes(b"\xff\x00" * 9)])
def test_damaged_files_leave_the_others(tmp_path, caplog, damage):
    """One line for a file that can't be used, and the images of all others keep their points."""
    write_table(tmp_path, [row_of("2/1.jpg", np.arange(10))])
    write_labels(tmp_path / "1")
    damage(tmp_path)
    found = landmarks.read(str(tmp_path), ["1/00001.jpg", "2/1.jpg"])
    assert len(found) == 1 and len(caplog.records) <= 1 and "Traceback" not in caplog.text
    assert all("no landmarks can be read" in record.message for record in caplog.records)


def test_packed_images_have_no_landmarks_and_no_warning(tmp_path, caplog):
    (tmp_path / "train.rec").touch()
    assert landmarks.read(str(tmp_path / "train.rec"), ["7/00001.jpg"]) == {} and not caplog.records


def test_points_that_are_not_finite_are_left_out(tmp_path):
    write_table(tmp_path, [row_of("2/1.jpg", [[np.nan, 1]] * 5), row_of("2/2.jpg", [[1, 1]] * 5, left="70")])
    write_labels(tmp_path / "1", count=1, landmarks=np.full([1, 68, 2], np.inf))
    assert landmarks.read(str(tmp_path), ["1/00001.jpg", "2/1.jpg", "2/2.jpg"]) == {}
