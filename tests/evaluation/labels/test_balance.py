"""evaluation.labels.balance and known_labels: what files tell of each image, counts by group, measures by group."""
import numpy as np
import pytest

from datasets.image_sets import find_renderings, Renderings
from evaluation.figures import Figure, HIGHER, LOWER
from evaluation.labels import balance, label_keeping
from evaluation.labels.known_labels import name_expressions, read_labels
from evaluation.people import separation
from evaluation.subjects import part_of
from morphable.makehuman import expressions
from people_of import people, subject_of, unit

CSV = "identity,age,female,african,asian,caucasian,hair,beard,glasses\n00009,33,1,.1,.7,.2,bob,none,none\n"


def write_identity(folder, number=1, images=3, suffix=".jpg", **other):
    """A folder of empty images with labels as the renderer writes them; `other` fields replace them, None removes."""
    inside = folder / f"{number:05}"
    inside.mkdir(parents=True)
    names = [f"{image:05}" for image in range(1, images + 1)]
    for name in names:
        (inside / (name + suffix)).touch()
    pose, light = np.zeros((images, 7)), np.zeros((images, 10))
    pose[:, 1], light[:, 7] = np.arange(images) / 10, .5
    fields = dict(names=[name + ".jpg" for name in names], Pose_Para=pose, Illum_Para=light, model="MakeHuman",
                  Exp_Para=np.zeros((images, len(expressions.MODES))), age=20. + number, female=1., hair="bob",
                  beard="none", glasses="none", origin=np.array([.1, .2, .7]),
                  origins=["african", "asian", "caucasian"])
    fields = {name: value for name, value in {**fields, **other}.items() if value is not None}
    with open(inside / "latents.npz", "wb") as file:
        np.savez(file, **fields)
    return inside


# What files tell

def test_labels_of_images_and_of_their_people(tmp_path):
    write_identity(tmp_path, 1)
    write_identity(tmp_path, 2, suffix=".png")              # synthesized: of another suffix than the rendering
    labels = read_labels(find_renderings(str(tmp_path)))
    assert labels["age"].tolist() == [21] * 3 + [22] * 3 and labels["hair"].tolist() == ["bob"] * 6
    np.testing.assert_allclose(labels["yaw"], [0, .1, .2] * 2, atol=1e-6)
    assert labels["origin_caucasian"] == pytest.approx([.7] * 6) and labels["light_side"].tolist() == [.5] * 6
    assert labels["expression"].tolist() == ["other"] * 6 and labels["expression_strength"].tolist() == [0] * 6


def test_shapes_are_read_where_they_are_asked_for(tmp_path):
    landmarks = np.random.default_rng(0).uniform(0, 96, (3, 68, 2))
    write_identity(tmp_path, 1, landmarks=landmarks, size=96)
    write_identity(tmp_path, 2, Exp_Para=np.ones((3, 2)), model="another")
    images = find_renderings(str(tmp_path))
    labels = read_labels(images, shapes=True)
    np.testing.assert_allclose(labels["landmarks"][:3], (landmarks + .5) / 96)
    assert np.isnan(labels["landmarks"][3:]).all() and np.isnan(labels["coefficients"][3:]).all()
    assert (labels["coefficients"][:3] == 0).all() and labels["expression_strength"][3:].tolist() == [1] * 3
    assert read_labels(images).keys() == labels.keys() - {"landmarks", "coefficients"}
    kept = label_keeping.read_labels(images)
    assert kept.keys() == {"landmarks", "expression", "pose", "light"} and kept["pose"][2].tolist()[0] == 0
    np.testing.assert_allclose(kept["pose"][:3, 1], [0, .1, .2], atol=1e-6)


def test_landmarks_that_are_none_are_damage(tmp_path, caplog):
    write_identity(tmp_path, 1, landmarks=np.zeros((3, 67, 2)), size=96)
    assert read_labels(find_renderings(str(tmp_path)), shapes=True) == {} and "damaged" in caplog.text


def test_rows_are_found_by_name_and_not_by_place(tmp_path):
    inside = write_identity(tmp_path, 1, 3)
    (inside / "00001.jpg").unlink()
    (inside / "extra.jpg").touch()
    labels = read_labels(find_renderings(str(tmp_path)))
    np.testing.assert_allclose(labels["yaw"], [.1, .2, np.nan], atol=1e-6)
    assert np.isnan(labels["age"][2]) and labels["glasses"].tolist() == ["none", "none", ""]


def test_a_sweep_has_a_value_for_each_image(tmp_path):
    shares = np.array([[.9, .1, 0], [.5, .5, 0], [0, 1, 0]])
    write_identity(tmp_path, age=np.array([20., 40, 60]), female=np.ones(3), origin=shares,
                   **{name: np.array(["none"] * 3) for name in ("hair", "beard", "glasses")})
    labels = read_labels(find_renderings(str(tmp_path)))
    assert labels["age"].tolist() == [20, 40, 60] and labels["origin_asian"] == pytest.approx([.1, .5, 1])


def test_other_models_have_poses_but_no_people(tmp_path):
    fields = ("age", "female", "origin", "origins", "hair", "beard", "glasses")
    write_identity(tmp_path, model="built-in", Exp_Para=np.full((3, 29), 2.), **dict.fromkeys(fields))
    labels = read_labels(find_renderings(str(tmp_path)))
    assert labels.keys() == {"pitch", "yaw", "roll", "light_side", "light_height", "expression_strength"}
    assert labels["expression_strength"].tolist() == [2, 2, 2]


def test_the_table_of_people_stands_in(tmp_path):
    write_identity(tmp_path, 9).joinpath("latents.npz").unlink()
    (tmp_path / "people.csv").write_text(CSV)
    labels = read_labels(find_renderings(str(tmp_path)))
    assert labels["age"].tolist() == [33] * 3 and labels["origin_asian"] == pytest.approx([.7] * 3)
    assert labels["hair"].tolist() == ["bob"] * 3


def test_photos_without_labels_tell_nothing(tmp_path):
    write_identity(tmp_path).joinpath("latents.npz").unlink()
    assert read_labels(find_renderings(str(tmp_path))) == {}


@pytest.mark.parametrize("damage", [
    {"names": None}, {"Pose_Para": np.zeros((2, 7))}, {"Illum_Para": np.array(["a"] * 3)}, {"age": np.zeros((2, 2))},
    {"Exp_Para": np.zeros(3)}, {"origin": np.zeros((7, 3))}, {"female": None}])
def test_damaged_labels_are_told_once_and_unknown(tmp_path, damage, caplog):
    write_identity(tmp_path, 1, **damage)
    write_identity(tmp_path, 2)
    labels = read_labels(find_renderings(str(tmp_path)))
    assert np.isnan(labels["age"][:3]).all() and labels["age"][3:].tolist() == [22] * 3
    assert len(caplog.records) == 1 and "00001/latents.npz" in caplog.text


@pytest.mark.parametrize("content", [b"", b"no archive", b"\x80\x04K\x01."])
def test_files_that_are_no_labels(tmp_path, content, caplog):
    write_identity(tmp_path).joinpath("latents.npz").write_bytes(content)
    assert read_labels(find_renderings(str(tmp_path))) == {} and "damaged" in caplog.text


@pytest.mark.parametrize("table", ["", "name,age\n1,2\n", CSV.replace("33", "old")])
def test_a_table_that_is_none_is_told(tmp_path, table, caplog):
    write_identity(tmp_path)
    (tmp_path / "people.csv").write_text(table)
    assert read_labels(find_renderings(str(tmp_path)))["age"].tolist() == [21] * 3
    assert "people.csv: not read" in caplog.text


def test_expressions_are_named_as_they_were_drawn():
    rng = np.random.default_rng(0)
    moves = np.array([expressions.draw(rng) for _ in range(2000)])
    named = name_expressions(moves).tolist()
    assert set(named) == {"laugh", "open mouth", "smile", "other"}
    assert .24 < named.count("laugh") / 2000 < .32 and .15 < named.count("open mouth") / 2000 < .25
    strip = np.stack([expressions.coefficients(expressions.NAMED[name]) for name in ("laugh", "smile", "surprise",
                                                                                    "sadness")])
    assert name_expressions(strip).tolist() == ["laugh", "smile", "open mouth", "other"]


# Groups

def subject_with(**labels):
    """A Subject of one image for each value."""
    count = len(next(iter(labels.values())))
    return subject_of(np.arange(count), np.eye(count), {name: np.array(values) for name, values in labels.items()})


@pytest.mark.parametrize("trait, labels, names", [
    ("age", {"age": [5, 18, 29.9, 44, 60, 90, np.nan]},
     ["under 18", "18 to 29", "18 to 29", "30 to 44", "60 and over", "60 and over", None]),
    ("sex", {"female": [0, .39, .5, .6, 1, np.nan]}, ["male", "male", "between", "female", "female", None]),
    ("origin", {"origin_a": [.9, .5, .1, np.nan], "origin_b": [.1, .5, .9, 1]}, ["a", "mixed", "b", None]),
    ("yaw", {"yaw": np.radians([-5, 16, -31, 80])},
     ["up to 15 degrees", "15 to 30 degrees", "30 to 45 degrees", "over 45 degrees"]),
    ("pitch", {"pitch": np.radians([-20, 0, 20])}, ["down", "level", "up"]),
    ("light", {"light_side": np.radians([-40, 0, 40])}, ["from the left", "from the front", "from the right"]),
    ("expression", {"expression": ["smile", "", "laugh", "other"]}, ["smile", None, "laugh", "other"]),
    ("expression", {"expression_strength": [1., 2, 3, np.nan]},
     ["weakest third", "middle third", "strongest third", None]),
    ("hair", {"hair": ["bob", "bald", ""]}, ["bob", "bald", None])])
def test_groups(trait, labels, names):
    groups, = balance.find_groups(subject_with(**labels)).values()
    assert [groups.names[code] if code >= 0 else None for code in groups.codes] == names
    assert list(balance.find_groups(subject_with(**labels))) == [trait]


def test_what_is_wholly_unknown_is_no_trait():
    assert balance.find_groups(subject_with(age=[np.nan, np.nan], hair=["", ""])) == {}


def test_counts_of_images_and_identities():
    subject = subject_of([0, 0, 0, 1, 1, 2], np.eye(6), {"yaw": np.radians([0, 20, 20, 0, 0, np.nan])})
    rows = balance.count(subject, balance.find_groups(subject)["yaw"])
    assert rows[0] == {"group": "up to 15 degrees", "images": 3, "share": .6, "identities": 2,
                       "share_of_identities": 1.}
    assert rows[1]["images"] == 2 and rows[1]["share_of_identities"] == .5
    assert rows[-1] == {"group": "unknown", "images": 1, "identities": 1} and len(rows) == 5


# Measures by group

def grouped(worse=0., count=60, images=4):
    """A Subject of women and men, whose images of women lie `worse` farther from each other."""
    subject = people(count, images, .4)
    female = (subject.images.labels % 2).astype(np.float32)
    noise = worse * np.random.default_rng(3).normal(size=subject.features.shape) * female[:, None]
    return subject._replace(features=unit(subject.features + noise), labels={"female": female})


def test_a_group_that_is_worse_is_flagged_and_only_it():
    subject = grouped(.15)
    groups = balance.find_groups(subject)["sex"]
    rows = balance.by_group(subject, groups, lambda part: separation.separate(part).figures["d_prime"], HIGHER)
    assert [(row["group"], row["worse"]) for row in rows] == [("female", True), ("male", False)]
    own = part_of(subject, np.flatnonzero(subject.labels["female"] == 1))
    assert rows[0]["figure"] == separation.separate(own).figures["d_prime"]
    equal = grouped(0)
    rows = balance.by_group(equal, groups, lambda part: separation.separate(part).figures["d_prime"], HIGHER)
    assert not any(row["worse"] for row in rows)


def test_means_by_group_are_means():
    subject = grouped()
    groups = balance.find_groups(subject)["sex"]
    values = np.arange(240.)
    values[:8] = np.nan
    female = subject.labels["female"] == 1
    rows = balance.means_by_group(values, subject.images.labels, groups)
    assert rows[0]["figure"].value == pytest.approx(np.nanmean(values[female])) and rows[0]["figure"].n == 116
    assert rows[0]["figure"].low < rows[0]["figure"].value < rows[0]["figure"].high
    assert rows[0]["rest"] == rows[1]["figure"]
    rows = balance.means_by_group(values + 300 * female, subject.images.labels, groups, LOWER)
    assert [row["worse"] for row in rows] == [True, False]
    assert [row["worse"] for row in balance.means_by_group(values + 300 * female, subject.images.labels, groups)] == [
        False, False]


def test_a_group_without_any_is_no_better_for_certain():
    """One in 80 images is hardly more than none in as many."""
    labels = np.repeat(np.arange(40), 4)
    values = np.where(np.isin(np.arange(160), (0, 8, 16)), 1., 0.)
    rows = balance.means_by_group(values, labels, balance.Groups("", ["some", "none"], labels % 2), LOWER)
    assert rows[0]["figure"].low > 0 == rows[1]["figure"].value and not rows[0]["worse"]


def test_the_others_are_cut_to_as_many_identities():
    subject = people(50, 2)
    groups = balance.Groups("Group", ["few", "many"], np.where(subject.images.labels < 12, 0, 1))
    rows = balance.by_group(subject, groups, lambda part: Figure(0., n=len(part.images.identities)))
    assert [(row["figure"].n, row["rest"].n) for row in rows] == [(12, 12), (38, 12)]


def test_small_groups_and_single_ones_are_not_measured():
    subject = people(30, 2)
    codes = np.where(subject.images.labels < 4, 0, 1)
    few, most = balance.means_by_group(np.ones(60), subject.images.labels, balance.Groups("", ["few", "most"], codes))
    assert "4 identities" in few["figure"].why and "too few" in most["rest"].why and most["figure"].value == 1
    everybody, = balance.means_by_group(np.ones(60), subject.images.labels, balance.Groups("", ["all", "none"],
                                                                                          np.zeros(60, int)))
    assert everybody["figure"].value == 1 and everybody["rest"].value is None and not everybody["worse"]


# The section

def test_a_section_tells_counts_and_what_is_worse(caplog):
    subject = grouped(.3)
    blur = ("Blur", LOWER, 1 - subject.labels["female"])
    section = balance.judge(subject, {"eer": ("Equal error rate", LOWER, lambda part: separation.separate(
        part).figures["eer"])}, {"blur": blur})
    assert set(section.tables) == {"sex", *(f"sex: {key}" for key in ("nearest_identity", "distance_to_mean", "eer",
                                                                      "blur"))}
    assert {row["group"]: row["worse"] for row in section.tables["sex: distance_to_mean"]} == {
        "female": True, "male": False}
    assert {row["group"]: row["worse"] for row in section.tables["sex: blur"]} == {"female": False, "male": True}
    assert any("mean of their identity is clearly worse by sex: female" in note for note in section.notes)
    assert "clearly worse" in caplog.text and [picture.key for picture in section.pictures] == ["balance_sex"]


def test_people_of_one_group_only():
    subject = people(12, 3)._replace(labels={"age": np.full(36, 25.)})
    section = balance.judge(subject)
    assert section.tables["age"][1]["share"] == 1
    assert section.notes == ["Age: nobody is under 18 or 30 to 44 or 45 to 59 or 60 and over"]


@pytest.mark.parametrize("count, images", [(1, 3), (3, 1)])
def test_odd_sets(count, images):
    subject = people(count, images)._replace(labels={"age": np.full(count * images, 25.)})
    assert balance.judge(subject).tables["age: nearest_identity"][0]["not_measured"]


def test_images_that_were_not_embedded_are_counted_but_not_measured():
    subject = people(12, 3)._replace(labels={"age": np.full(36, 25.)})
    subject.features[:2] = np.nan
    tables = balance.judge(subject).tables
    assert tables["age"][1]["images"] == 36 and tables["age: distance_to_mean"][0]["n"] == 34


def test_without_labels_it_says_so():
    section = balance.judge(people(3, 2))
    assert "latents.npz" in section.notes[0] and section.tables == {}


def test_the_bars_can_be_drawn():
    pyplot = pytest.importorskip("matplotlib.figure")
    picture, = balance.judge(people(12, 3)._replace(labels={"age": np.full(36, 25.)})).pictures
    axes = pyplot.Figure().subplots()
    picture.image(axes)
    assert axes.has_data()


def test_names_are_paths_within_the_folder():
    images = Renderings("none", ["a/1.jpg"], np.zeros(1, np.int32), ["a"])
    assert read_labels(images) == {}
