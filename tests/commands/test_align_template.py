"""align.py --template arcface: photos by five points, --labels by latents.npz; what goes along; bad input."""
import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import align
from conftest import tree
from datasets import alignment_table, crop, crop_kinds, landmarks, scores
from datasets.image_sets import find_renderings
from datasets.images import load_image, save_image
from datasets.landmarks import ARCFACE_TEMPLATE
from tool import one_line
from utils import UserError

SIDE = 200                                  # of the whole pictures
TURN, SCALE, SHIFT = .3, 1.1, (45., 10)     # of the faces in them


def face_points(offsets=0.):
    """Places [5, 2] of a turned face's five points in a whole picture, in pixels from its corner."""
    cosine, sine = np.cos(TURN), np.sin(TURN)
    return SCALE * (ARCFACE_TEMPLATE + offsets + .5) @ np.array([[cosine, sine], [-sine, cosine]]) + SHIFT


def picture_of(points, side=SIDE):
    """Draw white discs at five places -> Pillow image."""
    columns, rows = np.meshgrid(np.arange(side) + .5, np.arange(side) + .5)
    near = np.min([np.hypot(columns - x, rows - y) for x, y in points], axis=0)
    return Image.fromarray(np.repeat(np.uint8(255 * np.clip(6 - near, 0, 1))[..., None], 3, 2))


def discs_in(image, expected):
    """Measure how far the discs of an image are from where they are expected -> [5] pixels."""
    grey, found = np.asarray(image, float)[..., 0], []
    for x, y in expected:
        left, top = round(x) - 9, round(y) - 9
        around = grey[top:top + 19, left:left + 19]
        centre = [around.sum(axis=axis) @ np.arange(19) / around.sum() for axis in (0, 1)]
        found.append(np.hypot(left + centre[0] - x, top + centre[1] - y))
    return np.array(found)


@pytest.fixture(autouse=True)
def in_this_process(tmp_path, monkeypatch):
    """Do the work of workers in this process, in `tmp_path`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(align.processes, "process_all", lambda function, options, items, keep, pool: [
        keep(function(options, item)) for item in items])


# Photos

@pytest.fixture
def photo(monkeypatch):
    """Write a photo with a face, and put in a detector that finds it: box (60, 30, 140, 150), points of the face."""
    os.mkdir("photos")
    picture_of(face_points()).save("photos/1.png")
    face = np.concatenate([[60, 30, 140, 150, .99], face_points().T.ravel()])
    monkeypatch.setattr(align, "detector", lambda: None)
    monkeypatch.setattr(align, "detect", lambda picture, longest: np.array([face]))


def test_photos_are_laid_on_the_template(photo):
    align.main(["--input", "photos", "--output", "out", "--template", "arcface", "--format", "png", "--preview",
                "sheet.png"])
    image = load_image("out/1.png", 112)
    assert discs_in(image, ARCFACE_TEMPLATE).max() < .15
    settings = json.loads(Path("out/settings.json").read_text())
    assert settings == {"command": "align.py", "template": "arcface", "size": 112, "format": "png",
                        "detection_size": 500, "pairs": False}
    assert crop_kinds.kind_of("out") == "arcface"
    row = alignment_table.load_table("out/alignment.csv")["1.png"]
    assert tuple(row) == align.FIELDS and [row[edge] for edge in align.BOX] == ["60.00", "30.00", "140.00", "150.00"]
    np.testing.assert_allclose([float(row[name]) for name in align.LANDMARKS], face_points().ravel(), atol=.01)
    shares = landmarks.read("out", ["1.png"])["1.png"].points
    np.testing.assert_allclose(shares * 112 - .5, ARCFACE_TEMPLATE, atol=.01)
    sheet = np.asarray(Image.open("sheet.png")).astype(int)
    corners = crop.corners_of(crop_kinds.template_box(face_points())) * align.CELL / SIDE
    edges = [(corners[number] + corners[number - 1]) / 2 for number in range(4)]
    near = [sheet[max(int(y) - 2, 0):int(y) + 3, max(int(x) - 2, 0):int(x) + 3] for x, y in edges
            if max(x, y) < align.CELL]
    assert near and all((each == align.GREEN).all(axis=-1).any() for each in near)


@pytest.mark.parametrize("size", [56, 224])
def test_other_sizes_are_scaled(photo, size):
    align.main(["--input", "photos", "--output", "out", "--template", "arcface", "--size", str(size)])
    scaled = Image.fromarray(load_image("out/1.jpg", size)).resize((112, 112), Image.Resampling.BILINEAR)
    assert discs_in(scaled, ARCFACE_TEMPLATE).max() < .3


def test_renderings_are_cut_by_the_transform_of_their_photo(photo):
    os.mkdir("renderings")
    picture_of(face_points()).transpose(Image.Transpose.FLIP_TOP_BOTTOM).save("renderings/1.png")
    align.main(["--input", "photos", "--pairs", "renderings", "--output", "out", "--template", "arcface"])
    box = crop_kinds.template_box(face_points())
    expected = crop.cut_out(Image.open("renderings/1.png"), box, 112)
    assert np.abs(load_image("out/3dmm/1.jpg", 112) - expected.astype(float)).mean() < 1
    assert discs_in(load_image("out/1.jpg", 112), ARCFACE_TEMPLATE).max() < .15


def test_points_that_are_one_are_no_face(photo, monkeypatch):
    monkeypatch.setattr(align, "detect", lambda picture, longest: np.array([[9, 9, 50, 50, .9, *[20.] * 10]]))
    align.main(["--input", "photos", "--output", "out", "--template", "arcface"])
    row = alignment_table.load_table("out/alignment.csv")["1.png"]
    assert row["status"] == "no face" and not os.path.exists("out/1.jpg")


@pytest.mark.parametrize("words, named", [
    ("--template arcface --margin 20", ["--margin", "no meaning with --template arcface"]),
    ("--template arcface --square", ["--square", "no meaning with --template arcface"]),
    ("--template dlib", ["--template dlib", "box, arcface"]),
    ("--labels", ["--labels: needs --template arcface"]),
    ("--labels --template arcface --pairs photos", ["--labels", "--pairs"]),
    ("--labels --template arcface --recursive", ["--labels", "--recursive"])])
def test_contradictions_are_told_in_one_line(capsys, words, named):
    with pytest.raises(SystemExit) as end:
        align.main(["--input", "photos", "--output", "out", *words.split()])
    said = capsys.readouterr().err
    assert end.value.code == 2 and said.count("\n") == 1 and all(word in said for word in named), said


@pytest.mark.parametrize("first, second, told", [
    (["--template", "arcface"], [], "template arcface there, box given"),
    ([], ["--template", "arcface"], "template box there, arcface given")])
def test_a_folder_keeps_its_template(photo, first, second, told):
    align.main(["--input", "photos", "--output", "out", *first])
    with pytest.raises(UserError) as error:
        align.main(["--input", "photos", "--output", "out", *second])
    one_line(error, told)


def test_a_folder_of_an_older_version_goes_on(photo):
    align.main(["--input", "photos", "--output", "out"])
    path = Path("out/settings.json")
    settings = json.loads(path.read_text())
    assert settings.pop("template") == "box"
    path.write_text(json.dumps(settings))
    align.main(["--input", "photos", "--output", "out"])


# Labelled images

def write_identity(folder, identity, count=2, shown=(20., 0., 170., 200), side=120, **more):
    """Write an identity's images of a squeezed part of the whole picture, and its labels."""
    place = Path(folder) / identity
    place.mkdir(parents=True)
    points = face_points(crop_kinds.RENDERED_OFFSETS)
    whole = picture_of(face_points())
    for number in range(1, count + 1):
        save_image(crop.cut_out(whole, shown, side), str(place / f"{number:05}.png"))
    inside = np.zeros([68, 2])
    for index, point in zip(([*range(36, 42)], [*range(42, 48)], [30], [48], [54]), points):
        inside[index] = crop.points_in_crop(point[None] - .5, shown, 60)     # labels of renderings of 60 pixels
    labels = dict(landmarks=np.array([inside] * count), box=np.array([shown] * count), size=60, identity=int(identity),
                  names=[f"{number:05}.jpg" for number in range(1, count + 1)], seed=1, Exp_Para=np.ones([count, 3]))
    np.savez(place / "latents.npz", **{**labels, **more})


@pytest.fixture
def generated():
    """Write a generated set: two identities with labels and scores, one of them with an image without landmarks."""
    write_identity("generated", "00001")
    write_identity("generated", "00002", count=3, names=["00001.jpg", "00002.jpg", "x.jpg"])
    lines = [f"/{identity}/0000{number}.png .5 .25 {number}.5\n" for identity in ("00001", "00002")
             for number in (1, 2, 3) if not (identity == "00001" and number == 3)]
    Path("generated/confidence_scores.csv").write_text("".join(lines))
    Path("generated/people.csv").write_text("identity,age\n00001,30\n00002,40\n00003,50\n")
    Path("generated/settings.json").write_text('{"command": "main.py --generate_dataset", "template": "box"}')


CUT = ["--input", "generated", "--labels", "--template", "arcface", "--output", "out"]


def test_labelled_faces_are_laid_on_the_template_in_their_own_proportions(generated, caplog):
    """Images are squeezed, of another size than the renderings that the labels tell of, and of another suffix."""
    align.main([*CUT, "--preview", "sheet.png"])
    cut = sorted(str(path.relative_to("out")) for path in Path("out").rglob("*.jpg"))
    assert cut == ["00001/00001.jpg", "00001/00002.jpg", "00002/00001.jpg", "00002/00002.jpg"]
    for name in cut:
        assert discs_in(load_image(f"out/{name}", 112), ARCFACE_TEMPLATE).max() < .3
    rows = alignment_table.load_table("out/alignment.csv")
    assert rows["00002/00003.png"]["status"] == "no landmarks"
    lines = [record.getMessage() for record in caplog.records if "without a crop" in record.getMessage()]
    assert len(lines) == 1 and "00002/00003.png (no landmarks)" in lines[0]
    left_eye = [float(rows["00001/00001.png"][f"left_eye_{axis}"]) for axis in "xy"]
    expected = crop.points_in_crop(face_points(crop_kinds.RENDERED_OFFSETS)[:1] - .5, (20, 0, 170, 200), 120) + .5
    np.testing.assert_allclose(left_eye, expected[0], atol=.01)
    assert crop_kinds.kind_of("out") == "arcface" and os.path.exists("sheet.png")


def test_labels_scores_and_people_go_along(generated):
    align.main(CUT)
    with np.load("out/00002/latents.npz") as labels:
        assert labels["names"].tolist() == ["00001.jpg", "00002.jpg", "x.jpg"] and int(labels["size"]) == 112
        assert labels["box"].shape == (3, 5) and np.isnan(labels["landmarks"][2]).all()
        assert (labels["Exp_Para"] == 1).all() and int(labels["identity"]) == 2
        five = landmarks.five_of_68(labels["landmarks"][:2])
    np.testing.assert_allclose(five, [ARCFACE_TEMPLATE + crop_kinds.RENDERED_OFFSETS] * 2, atol=1e-6)
    faces = find_renderings("out")
    weights = scores.score_weights(faces, ["out"], "original")
    np.testing.assert_allclose(weights, .5 * np.exp(-np.array([1.5, 2.5, 1.5, 2.5]) / 4), rtol=1e-6)
    assert "00003" not in Path("out/confidence_scores.csv").read_text()
    rows = list(csv.reader(Path("out/people.csv").read_text().splitlines()))
    assert rows == [["identity", "age"], ["00001", "30"], ["00002", "40"]]
    assert set(landmarks.read("out", faces.names)) == set(faces.names)


def test_the_same_again_changes_nothing_and_mends_what_is_lost(generated):
    """But for the record of sources: it tells that the image without landmarks was looked at again."""
    def written():
        """Read all that is written but that record."""
        return {name: content for name, content in tree("out").items() if name != ".sources.jsonl"}

    align.main(CUT)
    before = written()
    times = {path: path.stat().st_mtime_ns for path in Path("out").rglob("*.npz")}
    align.main(CUT)
    assert written() == before and all(path.stat().st_mtime_ns == when for path, when in times.items())
    for name in ("00001/00002.jpg", "00002/latents.npz", "confidence_scores.csv"):
        os.remove(f"out/{name}")
    align.main(CUT)
    assert written() == before


def test_changed_labels_are_cut_again(generated):
    align.main(CUT)
    before = Path("out/00001/00001.jpg").read_bytes()
    with np.load("generated/00001/latents.npz") as file:
        labels = dict(file)
    np.savez("generated/00001/latents.npz", **{**labels, "landmarks": labels["landmarks"] + 5})
    align.main(CUT)
    assert Path("out/00001/00001.jpg").read_bytes() != before


def test_whole_pictures_and_older_labels_without_a_box(tmp_path):
    write_identity("generated", "00001", shown=(0., 0., 200., 200), side=200)
    with np.load("generated/00001/latents.npz") as file:
        labels = {name: file[name] for name in file.files if name != "box"}
    np.savez("generated/00001/latents.npz", **labels)
    align.main(CUT)
    assert discs_in(load_image("out/00001/00001.jpg", 112), ARCFACE_TEMPLATE).max() < .3


def no_labels():
    for path in Path("generated").glob("*/latents.npz"):
        path.unlink()


def broken_labels():
    for path in Path("generated").glob("*/latents.npz"):
        path.write_bytes(path.read_bytes()[:300])


@pytest.mark.parametrize("act, named", [
    (no_labels, ["--labels --input generated", "no landmarks of any of 5 images"]),
    (broken_labels, ["--labels --input generated", "no landmarks of any of 5 images"]),
    (lambda: Path("generated/settings.json").write_text('{"template": "arcface"}'), ["already"])])
def test_a_set_without_landmarks_is_refused_before_anything_is_written(generated, act, named):
    act()
    with pytest.raises(UserError) as error:
        align.main(CUT)
    one_line(error, *named)
    assert not os.path.exists("out")
