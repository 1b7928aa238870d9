"""scene: how a rendered face is cut out of the whole picture, by MTCNN's box or by ArcFace's template."""
import numpy as np
import pytest

from cli.options import parse
from datasets import crop, crop_kinds
from datasets.landmarks import ARCFACE_TEMPLATE, five_of_68
from gen_syn_latent import COMMANDS
from morphable import scene
from tool import builtin_face_model

SIZE = 112


@pytest.fixture(scope="module")
def by_points():
    """Set a scene of the built-in model whose crops are those of ArcFace's template."""
    return scene.set_scene(builtin_face_model(), scene.Framing(SIZE, None, 1, by_points=True),
                           scene.load_statistics(None), 1)


def face_of(setting, roll=0., scale=1.):
    """Render person 1, whose head is tipped by `roll`, larger by `scale`."""
    subject = scene.sample_subject(setting, 1)
    _, shot = scene.sample_shot(setting, 1, 1)
    pose = shot.pose * [0, 0, 0, 1, 1, 1, scale] + [0, 0, roll, 0, 0, 0, 0]
    return scene.render_face(setting, subject.pose(np.zeros_like(setting.model.shape_mean)), shot._replace(pose=pose))


def test_a_rendered_face_lies_on_the_template(by_points):
    face = face_of(by_points, roll=.5)
    assert face.image.shape == (SIZE, SIZE, 3) and len(face.box) == 5
    off = five_of_68(face.landmarks) - (ARCFACE_TEMPLATE + crop_kinds.RENDERED_OFFSETS)
    assert np.abs(off.mean(axis=0)).max() < 1e-4 and np.abs(off).max() < 6


def test_a_tipped_or_larger_head_is_cut_out_upright_and_as_large(by_points):
    """Light turns with the head, so that only the sampling differs."""
    plain = face_of(by_points)
    for other in (face_of(by_points, roll=.5), face_of(by_points, roll=-2.), face_of(by_points, scale=1.7)):
        np.testing.assert_allclose(other.landmarks, plain.landmarks, atol=.01)
        assert np.abs(other.image.astype(float) - plain.image).mean() < 3 < plain.image.std()


def test_a_photo_and_its_rendering_are_cut_alike(by_points):
    """What is drawn into the whole picture lies in the crop where the rendering's landmarks say."""
    setting = by_points._replace(framing=by_points.framing._replace(whole=True))
    whole, turned = face_of(setting, roll=.5), face_of(by_points, roll=.5)
    np.testing.assert_allclose(crop.points_in_crop(whole.landmarks, turned.box, SIZE), turned.landmarks, atol=1e-3)


@pytest.mark.parametrize("command, words, size, margin", [
    ("people", "", 108, 26), ("people", "--crop arcface", 112, None), ("people", "--crop none", 108, 26),
    ("fit", "--crop arcface --photos a", 112, None), ("fit", "--photos a", 108, 26),
    ("pairs", "--crop arcface --annotations a --model b", 112, None), ("drawn", "", 64, 15),
    ("drawn", "--crop arcface", 112, None), ("people", "--crop arcface --size 224", 224, None)])
def test_the_size_follows_the_kind_of_crop(command, words, size, margin):
    command, = (each for each in COMMANDS if each.name == command)
    options = parse(command, ["--output", "o", *words.split()]).options
    assert (options.size, options.margin) == (size, margin)


@pytest.mark.parametrize("command, more", [("people", ""), ("fit", "--photos a"), ("drawn", "")])
def test_a_margin_has_no_meaning_where_points_place_a_face(command, more, capsys):
    command, = (each for each in COMMANDS if each.name == command)
    with pytest.raises(SystemExit) as end:
        parse(command, ["--output", "o", "--crop", "arcface", "--margin", "9", *more.split()])
    said = capsys.readouterr().err
    assert end.value.code == 2 and said.count("\n") == 1 and "--margin: has no meaning with --crop arcface" in said
