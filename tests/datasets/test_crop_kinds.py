"""crop_kinds.py: the square that lays five points on ArcFace's template, and which kind of crop a folder holds."""
import json

import numpy as np
import pytest
from PIL import Image

from datasets import crop, crop_kinds
from datasets.landmarks import ARCFACE_SIZE, ARCFACE_TEMPLATE, five_of_68


def moved(points, angle, scale, shift):
    """Turn, scale and move points [n, 2]."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return scale * points @ np.array([[cosine, sine], [-sine, cosine]]) + shift


@pytest.mark.parametrize("angle, scale, shift", [(0, 1, (0, 0)), (.5, 2.7, (90, -30)), (-3, .1, (5, 5)),
                                                 (1.7, 40, (900, 2000))])
def test_points_of_the_template_land_on_it(angle, scale, shift):
    points = moved(ARCFACE_TEMPLATE + .5, angle, scale, shift)
    box = crop_kinds.template_box(points)
    np.testing.assert_allclose(crop.points_in_crop(points - .5, box, ARCFACE_SIZE), ARCFACE_TEMPLATE, atol=1e-6)
    np.testing.assert_allclose(box[2] - box[0], scale * ARCFACE_SIZE)
    np.testing.assert_allclose(box[3] - box[1], scale * ARCFACE_SIZE)
    twice = crop.points_in_crop(points - .5, box, 2 * ARCFACE_SIZE)     # at another size, the same shares of the side
    np.testing.assert_allclose((twice + .5) / 2, ARCFACE_TEMPLATE + .5, atol=1e-6)


def test_other_points_come_as_near_as_a_similarity_can():
    """No other turned square of those around brings them nearer to the template."""
    random = np.random.default_rng(1)
    points = moved(ARCFACE_TEMPLATE + random.normal(0, 5, [5, 2]), .2, 3, (50, 60))
    box = np.array(crop_kinds.template_box(points))

    def error(box):
        """Measure how far the points lie from the template in a crop."""
        return np.square(crop.points_in_crop(points - .5, tuple(box), ARCFACE_SIZE) - ARCFACE_TEMPLATE).sum()

    changes = np.array([[1, 0, 1, 0, 0], [0, 1, 0, 1, 0], [-1, -1, 1, 1, 0], [0, 0, 0, 0, .01]])
    assert all(error(box + sign * change) > error(box) for change in changes for sign in (1, -1))


def test_a_colour_lies_where_the_template_says():
    """Five discs of a large turned picture are found at the template's places."""
    angle, scale, shift = .35, 6., np.array([260., 40])
    points = moved(ARCFACE_TEMPLATE + .5, angle, scale, shift)
    columns, rows = np.meshgrid(np.arange(1000) + .5, np.arange(1000) + .5)
    near = np.min([np.hypot(columns - x, rows - y) for x, y in points], axis=0) < 12
    cut = crop.cut_out(Image.fromarray(np.repeat(np.uint8(255 * near)[..., None], 3, 2)),
                       crop_kinds.template_box(points), ARCFACE_SIZE)[..., 0].astype(float)
    for x, y in ARCFACE_TEMPLATE:
        around = cut[round(y) - 4:round(y) + 5, round(x) - 4:round(x) + 5]
        found = [around.sum(axis=axis) @ np.arange(-4, 5) / around.sum() for axis in (0, 1)]
        np.testing.assert_allclose([round(x) + found[0], round(y) + found[1]], [x, y], atol=.1)


@pytest.mark.parametrize("points", [np.ones([5, 2]), np.full([5, 2], np.nan), np.full([5, 2], np.inf)], ids=str)
def test_points_that_are_no_face_have_no_place(points):
    with pytest.raises(ValueError):
        crop_kinds.template_box(points)


def test_rendered_faces_lie_as_photos_do():
    """What the landmarks of a model miss MTCNN's points by is allowed for."""
    landmarks = np.zeros([68, 2])
    points = ARCFACE_TEMPLATE + crop_kinds.RENDERED_OFFSETS
    for index, point in zip(([*range(36, 42)], [*range(42, 48)], [30], [48], [54]), points):
        landmarks[index] = point
    np.testing.assert_allclose(five_of_68(landmarks), points)
    np.testing.assert_allclose(crop_kinds.template_box_of_68(landmarks), (0, 0, 112, 112, 0), atol=1e-9)


@pytest.mark.parametrize("settings, kind", [
    (None, "box"), ({"command": "align.py", "size": 108}, "box"), ({"template": "arcface"}, "arcface"),
    ({"template": "box"}, "box"), ({"crop": "arcface"}, "arcface"), ({"crop": "face"}, "box"), ([1], "box"),
    ({"crop": "none"}, "box"), ({"crop": ["arcface"]}, "box"), ("{", "box")])
def test_settings_tell_the_kind_of_crop(tmp_path, settings, kind):
    (tmp_path / "set/train").mkdir(parents=True)
    if settings is not None:
        text = settings if isinstance(settings, str) else json.dumps(settings)
        (tmp_path / "set/settings.json").write_text(text)
    assert crop_kinds.kind_of(str(tmp_path / "set")) == crop_kinds.kind_of(str(tmp_path / "set/train")) == kind


def test_a_part_of_a_set_has_settings_of_its_own(tmp_path):
    (tmp_path / "set/train").mkdir(parents=True)
    (tmp_path / "set/settings.json").write_text('{"template": "arcface"}')
    (tmp_path / "set/train/settings.json").write_text('{"command": "align.py"}')
    assert [crop_kinds.kind_of(str(tmp_path / name)) for name in ("set", "set/train", "none")] == [
        "arcface", "box", "box"]


def test_a_rec_file_holds_crops_of_the_field_unless_its_settings_say_otherwise(tmp_path):
    """Settings of the folder above are those of other sets."""
    for name, settings in (("faces_emore", None), ("ours", {"template": "box"}), ("cut", {"template": "arcface"})):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.rec").touch()
        if settings:
            (tmp_path / name / "settings.json").write_text(json.dumps(settings))
    (tmp_path / "settings.json").write_text('{"crop": "face"}')
    for name, kind in (("faces_emore", "arcface"), ("ours", "box"), ("cut", "arcface")):
        assert crop_kinds.kind_of(str(tmp_path / name)) == kind
        assert crop_kinds.kind_of(str(tmp_path / name / "train.rec")) == kind


def test_mixed_kinds_are_told_in_one_line(caplog):
    crop_kinds.warn_of_mixed({"--dataset real": "box", "--syn_dataset syn": "box"})
    assert not caplog.records
    crop_kinds.warn_of_mixed({"--dataset real": "box", "--syn_dataset syn": "arcface"})
    assert [record.getMessage().count("\n") for record in caplog.records] == [0]
    assert "--dataset real box, --syn_dataset syn arcface" in caplog.text
