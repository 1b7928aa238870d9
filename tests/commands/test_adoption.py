"""Files of a user that have names of images to come: they are told, stay as they are, and count as nobody's images."""
import shutil

import numpy as np
import pytest

import gen_syn_latent
from conftest import tree
from datasets.image_sets import LABELS
from drawn import draw_face, write
from morphable import scene
from tool import call, share_model, Tool

TOOL = Tool("gen_syn_latent.py")


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    share_model(monkeypatch)
    return tmp_path


def people(count, *more):
    return call(gen_syn_latent, "people", *f"--n_id {count} --n_im 2 --size 16 --output syn".split(),
                *more)


def mine(folder):
    """Two photos of a user in `folder`, of the size and names of renderings."""
    for number in (1, 2):
        write(".", f"{folder}/{number:05}.jpg", draw_face(number, 7, 16, photo=True))


@pytest.mark.parametrize("labels", ["none", "of another identity", "of another seed", "damaged"])
def test_an_identity_that_somebody_else_made_is_no_rendering(place, labels):
    assert people(2).status == 0
    mine("syn/00003")
    if labels != "none":
        shutil.copy(f"syn/00001/{LABELS}", "syn/00003")
    if labels == "of another seed":
        np.savez(f"syn/00003/{LABELS}", identity=3, seed=2)
    if labels == "damaged":
        (place / f"syn/00003/{LABELS}").write_bytes(b"PK")
    before = tree("syn")
    result = people(4)
    TOOL.refused(result, "syn/00003", "did not make")
    after = tree("syn")
    assert {name: after[name] for name in before} == before
    assert {name.partition("/")[0] for name in after.keys() - before.keys()} == {"00004"}
    shutil.move("syn/00003", "elsewhere")
    assert people(4).status == 0
    assert len(tree("syn")) == 1 + 4 * 3


def test_a_folder_with_an_image_of_another_name_is_no_rendering(place):
    assert people(1).status == 0
    write(".", "syn/00002/me.jpg", draw_face(1, 7, 16, photo=True))
    TOOL.refused(people(2), "syn/00002", "did not make")
    assert sorted(tree("syn/00002")) == ["me.jpg"]


def test_a_folder_keeps_its_model_where_none_is_named(place, monkeypatch):
    """Even if others are the usual ones by now."""
    assert people(1).status == 0 and drawn(5, 1).status == 0
    monkeypatch.setattr(scene, "usual_model", lambda: "a model that is not there")
    assert people(2).status == 0 and drawn(6, 2).status == 0
    TOOL.refused(people(2, "--model", "missing.npz"), "--model missing.npz")


def test_labels_of_an_own_identity_that_were_lost_come_back(place):
    assert people(2).status == 0
    before = tree("syn")
    (place / f"syn/00002/{LABELS}").unlink()
    assert people(2).status == 0
    assert tree("syn").keys() == before.keys()
    assert all(content == before[name] for name, content in tree("syn").items() if not name.endswith(LABELS))


def test_images_of_other_names_are_told(place):
    assert people(1).status == 0
    for name in ("00001/me.jpg", "bob/00001.jpg", "00001/00003.jpg", "me.png"):
        write(".", f"syn/{name}", draw_face(1, 7, 16, photo=True))
    assert "4 images that this command does not make are there too, and are kept, such as me.png" in people(1).err


def drawn(photos, pairs):
    return call(gen_syn_latent, "drawn", *f"--photos {photos} --pairs {pairs} --size 16 --output data".split())


def test_photos_of_others_are_no_drawn_ones(place):
    assert drawn(5, 1).status == 0
    mine("data/real/00002")
    before = tree("data")
    result = drawn(10, 2)
    TOOL.refused(result, "data/real/00002/00001.jpg", "did not draw")
    assert tree("data") == before
    shutil.move("data/real/00002", "elsewhere")
    assert drawn(10, 2).status == 0
    assert len([name for name in tree("data/real") if name.endswith(".jpg")]) == 10


def test_drawn_photos_beyond_those_asked_for_are_told(place):
    assert drawn(7, 2).status == 0
    write(".", "data/real/00001/me.jpg", draw_face(1, 7, 16, photo=True))
    result = drawn(5, 1)
    assert result.status == 0
    told = "images that are not among those asked for now are there too, and are kept"
    assert f"3 {told}" in result.err and f"2 {told}" in result.err          # two of person 2 and me.jpg, and a pair
    assert f"1 {told}, such as real/00001/me.jpg" in drawn(7, 0).err
