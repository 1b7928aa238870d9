"""evaluate.py filter: which images stay, what is told, what is written and read by other commands, what is refused."""
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import evaluate
import main
import recognizer
from conftest import NAMES, NARROW, SMALL, tree, words
from datasets import landmarks, selection
from datasets.image_sets import find_renderings, subset
from datasets.labelled_crops import find
from datasets.scores import read_scores
from drawn import draw_face, write, write_many
from evaluation.choosing import confidence_file, filtering
from evaluation.figures import Figure, HIGHER, LOWER, Measure, NEITHER, Section
from evaluation.labels.known_labels import read_labels
from evaluation.report import report
from judged import FACTS, sections
from tool import call, kill_often, Tool

TOOL = Tool("evaluate.py")
PEOPLE = {"ann": 6, "bob": 4, "cy d": 1}            # images of each
NAMES_OF = [f"{person}/{number}.jpg" for person, count in PEOPLE.items() for number in range(1, count + 1)]
# Scores are worse for later images; confidences are the other way round.
SCORES = {name: (number / 10, 1 - number / 10, number * 2.) for name in NAMES_OF
          for number in [int(name.split("/")[1][0])]}
SETTINGS = {"command": "main.py --generate_dataset", "random_seed": 3}


@pytest.fixture
def data(tmp_path, monkeypatch):
    """The folder `set` of 11 images of 3 people, with labels, scores, tables; a report's folder; all in here."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(NAMES_OF):
        write("set", name, draw_face(number, 1, 20, photo=True))
    for person, count in PEOPLE.items():
        rng = np.random.default_rng(count)
        np.savez(f"set/{person}/latents.npz", names=[f"{number}.png" for number in range(1, count + 1)],
                 Pose_Para=rng.random([count, 7]), landmarks=8 + 4 * rng.random([count, 68, 2]),
                 box=np.tile([0., 0, 20, 20], [count, 1]), Shape_Para=rng.random(6), origins=["a", "b", "c", "d"],
                 origin=rng.random(4), age=30., size=20, model="builtin", note=rng.random(count))
    lines = [f'"/{name}" ' if " " in name else f"/{name} " for name in NAMES_OF]
    (tmp_path / "set/confidence_scores.csv").write_text(
        "".join(f"{line}{' '.join(f'{score:.6f}' for score in SCORES[name])}\n" for line, name in zip(lines, NAMES_OF)))
    (tmp_path / "set/people.csv").write_text("identity,age\nann,30\nbob,30\ncy d,30\nsomebody,1\n")
    (tmp_path / "set/alignment.csv").write_text("source,crop,status\n" + "".join(
        f"{name},{name},cropped\n" for name in NAMES_OF) + "lost.jpg,,no face\n")
    (tmp_path / "set/settings.json").write_text(json.dumps(SETTINGS))
    (tmp_path / "set_report").mkdir()
    (tmp_path / "set_report/confidences.csv").write_bytes(confidence_file.table_of(
        NAMES_OF, [int(name.split("/")[1][0]) / 10 for name in NAMES_OF]))
    return tmp_path / "set"


def told(*line):
    """Filter a set, which has to end well -> (what stands on stdout, on stderr)."""
    result = call(evaluate, "filter", *line)
    assert result.status == 0, result.err
    return result.out, result.err


def filtered(*line, output="out"):
    """Filter the folder `set` -> names of the images in the output."""
    told("set", *line, "--output", output)
    return find_renderings(output).names


def of(**numbers):
    """Names of images by their people's first words: ann=[1, 2]."""
    full = {"ann": "ann", "bob": "bob", "cy": "cy d"}
    return [f"{full[person]}/{number}.jpg" for person, some in numbers.items() for number in some]


# Which images stay

@pytest.mark.parametrize("line, names", [
    (["--by", "d_score", "--keep", .5], of(ann=[1, 2, 3], bob=[1, 2], cy=[1])),
    (["--by", "s_score", "--keep", .5], of(ann=[4, 5, 6], bob=[3, 4], cy=[1])),
    (["--by", "c_score", "--keep", .5], of(ann=[1, 2, 3], bob=[1, 2], cy=[1])),
    (["--keep", .5], of(ann=[4, 5, 6], bob=[3, 4], cy=[1])),                             # calibrated, and set_report
    (["--keep", .5, "--confidences", "set_report/confidences.csv"], of(ann=[4, 5, 6], bob=[3, 4], cy=[1])),
    (["--threshold", .4], of(ann=[4, 5, 6], bob=[4], cy=[1])),
    (["--threshold", .4, "--at_least", 0], of(ann=[4, 5, 6], bob=[4])),
    (["--threshold", .4, "--at_least", 4], of(ann=[3, 4, 5, 6], bob=[1, 2, 3, 4], cy=[1])),
    (["--by", "c_score", "--threshold", 4], of(ann=[1, 2], bob=[1, 2], cy=[1]))])
def test_these_images_stay(data, line, names):
    assert filtered(*line) == names


def test_an_image_without_a_score_is_the_worst_and_that_is_told_once(data):
    path = data / "confidence_scores.csv"
    path.write_text(path.read_text().replace("0.900000 2.000000", "0.900000 nan"))        # the first of each person
    out, err = told("set", *words(by="c_score", keep=.5, output="out"))
    assert find_renderings("out").names == of(ann=[2, 3, 4], bob=[2, 3], cy=[1])
    assert err.count("have no c_score") == 1 and "3 of 11 images have no c_score and count as the worst" in err
    assert "ann/1.jpg" in err and "mean c_score" in out


def test_a_broken_image_is_left_out_and_takes_nobodys_place(data):
    (data / "ann/6.jpg").write_bytes(b"words")
    assert filtered("--keep", .5) == of(ann=[4, 5], bob=[3, 4], cy=[1])          # half of five, rounded to even


# What is told

def test_what_would_stay_is_told_and_nothing_is_written(data):
    before = tree(".")
    out, err = told("set", *words(by="c_score", threshold=4, at_least=2, confidences="set_report"))
    assert "nothing was written" in err and tree(".") == before
    rows = [line.split("  ") for line in out.splitlines()]
    table = {row[0]: [word.strip() for word in row[1:] if word] for row in rows}
    assert rows[0] == ["set, a c_score of 4 or less"]
    assert table["images"] == ["11", "5 (45.5%)"] and table["identities"] == ["3", "3"]
    assert table["images of an identity"] == ["1 to 6, median 4", "1 to 2, median 2"]
    assert table["mean c_score (low is good)"] == [f"{np.mean([score[2] for score in SCORES.values()]):.3g}", "2.8"]
    assert table["mean confidence (high is good)"][1] == "0.14"
    assert rows[-1] == ["1 identities have fewer than 2 images, and all of theirs stay"]
    out, _ = told("set", *words(threshold=.6, at_least=2))
    assert "4 of these images stay only because of --at_least 2" in out


def judged(folder, factor=1., **facts):
    """Write a report with made-up figures into `folder`, of measures that a factor changes."""
    def figure(value, half):
        return Figure(value * factor, value * factor - half, value * factor + half, 100)
    measures = [Measure("kid", "KID", LOWER, "", {"set": figure(2., .1)}),
                Measure("auc", "AUC", HIGHER, "", {"set": figure(.5, .4), "photos": figure(1., 0)}),
                Measure("share", "share of women", NEITHER, "", {"set": figure(.3, .1)}),
                Measure("floor", "only of photos", LOWER, "", {"photos": figure(1., 0)}),
                Measure("lost", "eyes", LOWER, "", {"set": Figure(None, why="no labels")})]
    os.makedirs(folder, exist_ok=True)
    report.save([Section("realism", "Realism", measures, [], [], {})], {**FACTS, **facts}, folder)


def test_before_and_after_of_every_measure_is_printed_when_both_sets_were_judged(data):
    line = ["set", *words(keep=.5, output="out")]
    judged("set_report")
    out, err = told(*line)
    assert "KID" not in out and "evaluate.py judge out --output out_report" in err
    _, err = told(*line[:-1], "an 'out'")
    assert """judge 'an '"'"'out'"'"'' --output 'an '"'"'out'"'"'_report', then""" in err
    judged("out_report", .5, sets={"set": {"images": 7}})
    out, err = told(*line)
    rows = {row.split("  ")[0]: row for row in out.splitlines()}
    assert rows["KID"].split("  ")[-1] == "better" and "2.00 (1.90 to 2.10)" in rows["KID"]
    assert rows["AUC"].endswith("worse, but the intervals overlap") and rows["share of women"].endswith(")")
    assert "only of photos" not in rows and rows["eyes"].split() == ["eyes", *["not", "measured"] * 2]
    assert "tells of 7 images, and out has 6: judge it again" in err
    (data.parent / "out_report/report.json").write_text("{}")
    out, err = told(*line)
    assert "measures can't be compared: out_report/report.json" in err and "KID" not in out


def test_other_embedders_and_lost_measures_are_told(capsys):
    before, after = (sections(), FACTS), (sections()[1:], {**FACTS, "embedder": {"sha256": "other"}})
    filtering.before_and_after(before, after)
    lines = capsys.readouterr().out.splitlines()
    assert "different embedders" in lines[0]
    by_name = {line.split("  ")[0]: line for line in lines}
    first = before[0][0].measures[0]
    assert by_name[first.name].split()[-1] == "\N{EN DASH}"
    assert by_name["AUC of verification"].endswith("the same")
    assert len(lines) == 2 + sum("set" in measure.figures for section in before[0] for measure in section.measures)


# What is written

def test_images_are_the_same_files_and_all_that_belongs_to_them_comes_along(data):
    before = tree(data)
    names = filtered("--keep", .5)
    found = tree("out")
    assert names == of(ann=[4, 5, 6], bob=[3, 4], cy=[1]) and tree(data) == before
    assert found.keys() == {*names, *(f"{person}/latents.npz" for person in PEOPLE), "confidence_scores.csv",
                            "people.csv", "alignment.csv", "settings.json"}
    assert all(os.path.samefile(f"out/{name}", f"set/{name}") for name in names)
    assert read_scores("out") == {os.path.abspath(f"out/{name}"): pytest.approx(SCORES[name]) for name in names}
    assert found["people.csv"] == b"identity,age\nann,30\nbob,30\ncy d,30\n"
    assert found["alignment.csv"].decode().splitlines() == ["source,crop,status",
                                                            *(f"{name},{name},cropped" for name in names)]
    settings = json.loads(found["settings.json"])
    assert settings.items() >= {"random_seed": 3, "made_by": SETTINGS["command"], "command": "evaluate.py filter",
                                "by": "calibrated", "keep": .5, "at_least": 1}.items()


def test_labels_of_images_are_cut_and_those_of_people_are_not(data):
    """Ann has as many images as her shape has numbers, and Bob as many as there are origins."""
    filtered("--keep", .5)
    for person, rows in (("ann", [3, 4, 5]), ("bob", [2, 3])):
        with np.load(f"set/{person}/latents.npz") as there, np.load(f"out/{person}/latents.npz") as here:
            assert here.files == there.files
            for field in there.files:
                each = field in ("names", "Pose_Para", "landmarks", "box", "note")
                assert (here[field] == (there[field][rows] if each else there[field])).all()
    images, cut = find_renderings("set"), find_renderings("out")
    rows = [images.names.index(name) for name in cut.names]
    before, after = read_labels(images), read_labels(cut)
    assert before.keys() == after.keys() and all((after[name] == before[name][rows]).all() for name in before)
    faces = landmarks.read("set", images.names)
    assert all((face.points == faces[name].points).all() for name, face in landmarks.read("out", cut.names).items())


def test_in_a_sweep_of_people_every_label_has_a_row_for_each_image(data):
    np.savez("set/ann/latents.npz", names=[f"{number}.jpg" for number in range(1, 7)], sweep="age",
             sweep_values=np.arange(6), age=np.arange(6.), Shape_Para=np.arange(12).reshape(6, 2), Pose_Para=np.ones(2))
    filtered("--keep", .5)
    with np.load("out/ann/latents.npz") as labels:
        assert {field: labels[field].tolist() for field in ("age", "sweep_values", "Shape_Para", "Pose_Para")} == {
            "age": [3, 4, 5], "sweep_values": [3, 4, 5], "Shape_Para": [[6, 7], [8, 9], [10, 11]], "Pose_Para": [1, 1]}


def test_the_labels_of_a_person_are_known(monkeypatch):
    """All that rendering writes of a person, so that no such field is cut by chance."""
    from morphable.makehuman import people

    class Anybody:
        def __getattr__(self, name):
            return 0

    monkeypatch.setattr(people, "CUTS", [""])
    monkeypatch.setattr(people, "BEARDS", [""])
    monkeypatch.setattr(people, "GLASSES", [""])
    assert {"Shape_Para", "Tex_Para"} | people.label(Anybody()).keys() == selection.OF_A_PERSON


@pytest.mark.parametrize("content", [b"PK words", b"", b"words"])
def test_damaged_labels_are_left_out_and_told(data, content):
    (data / "ann/latents.npz").write_bytes(content)
    (data / "bob/latents.npz").unlink()
    np.save("one.npy", np.zeros(3))
    shutil.move("one.npy", "set/cy d/latents.npz")
    _, err = told("set", *words(keep=.5, output="out"))
    assert "2 files of labels are damaged and left out, such as set/ann/latents.npz" in err
    assert not any(name.endswith(".npz") for name in tree("out")) and len(find_renderings("out").names) == 6


@pytest.mark.parametrize("reason", ["EXDEV", "EPERM", "EMLINK", "EOPNOTSUPP"])
def test_where_no_link_can_be_made_images_are_copied(data, monkeypatch, reason):
    import errno

    def link(source, target):
        raise OSError(getattr(errno, reason), reason)

    monkeypatch.setattr(os, "link", link)
    for name in filtered("--keep", .5):
        assert not os.path.samefile(f"out/{name}", f"set/{name}")
        assert (data / name).read_bytes() == (data.parent / "out" / name).read_bytes()


def test_links_in_the_source_are_followed(data):
    """The output holds images, and no links that break when the set is moved."""
    shutil.move("set/ann/6.jpg", "elsewhere.jpg")
    (data / "ann/6.jpg").symlink_to("../../elsewhere.jpg")
    filtered("--keep", .5)
    assert os.path.samefile("out/ann/6.jpg", "elsewhere.jpg") and not os.path.islink("out/ann/6.jpg")


def test_other_commands_read_the_result(data, drawn):
    """A filter, an export, the crops by labels, a classifier's training with weights, a synthesis of it."""
    filtered("--by", "c_score", "--keep", .7)
    assert call(evaluate, "export", "out", *words(to="rec", output="rec")).status == 0
    result = call(recognizer, "train", *words(synthetic="out", score_weights="calibrated", **SMALL, data_dir="."),
                  "--dry_run")
    assert result.status == 0 and "8 images of 3 identities" in result.out, result.err
    assert find("out") == find_renderings("out").names
    result = call(main, *words(**{**NAMES, **NARROW, "syn_dataset": os.path.abspath("out")}, data_dir=drawn,
                               method_c="none"), "--dry_run")
    assert result.status == 0 and "8 images of 3 identities" in result.out, result.err
    told("out", *words(by="c_score", keep=.5, output="again"))
    assert find_renderings("again").names == of(ann=[1, 2], bob=[1, 2], cy=[1])
    settings = json.loads(tree("again")["settings.json"])
    assert settings["earlier"]["keep"] == .7 and settings["keep"] == .5 and settings["made_by"] == SETTINGS["command"]


# Going on

class Killed(BaseException):
    """What a kill is in a test: nothing catches it, and nothing after it is run but `finally`."""


@pytest.mark.parametrize("linked", [True, False])
def test_a_stopped_filter_goes_on(data, monkeypatch, linked):
    """Stopped before each image and each table in turn; in the end, all is as if nothing had been."""
    if not linked:
        monkeypatch.setattr(selection, "NO_LINK", {0})
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(0, "no links")))
    filtered("--keep", .5, output="alone")
    left = [0]

    def limited(work):
        def step(*arguments):
            if not left[0]:
                raise Killed
            left[0] -= 1
            return work(*arguments)
        return step

    for name in ("place", "_write_labels", "write_changed"):
        monkeypatch.setattr(selection, name, limited(getattr(selection, name)))
    stops = 0
    for left[0] in range(0, 30, 3):
        try:
            told("set", *words(keep=.5, output="out"))
        except Killed:
            stops += 1
    assert stops > 3 and tree("out") == tree("alone")


def test_what_is_lost_cut_or_another_is_written_again(data):
    filtered("--keep", .5)
    alone = tree("out")
    os.remove("out/ann/4.jpg")
    os.remove("out/ann/5.jpg")
    shutil.copy("set/ann/1.jpg", "out/ann/5.jpg")
    os.truncate("out/confidence_scores.csv", 5)
    (data.parent / "out/bob/latents.npz").write_bytes(b"")
    (data.parent / "out/bob/.tmp-0123456789abcdef").write_bytes(b"half")
    filtered("--keep", .5)
    assert tree("out") == alone and os.path.samefile("out/ann/4.jpg", "set/ann/4.jpg")


@pytest.mark.slow
def test_a_killed_filter_goes_on(tmp_path, monkeypatch):
    """SIGKILL at many moments; what has its name by then is whole, and in the end all is as if nothing had been."""
    monkeypatch.chdir(tmp_path)
    write_many("set", 40, 50)
    for person in range(40):
        np.savez(f"set/{person}/latents.npz", names=[f"{number}.jpg" for number in range(50)],
                 Pose_Para=np.random.default_rng(person).random([50, 7]))
    chosen = subset(find_renderings("set"), range(0, 2000, 2))
    tables = {"confidence_scores.csv": b"words" * 100_000}
    kills, partial = kill_often(lambda folder: selection.write(chosen, tables, folder))
    assert kills > 3 and partial


# What is refused

@pytest.mark.parametrize("line, parts", [
    ([], ["FOLDER", "needed"]), (["set"], ["--keep, --threshold", "give one"]),
    (["set", "--keep", .5, "--threshold", .5], ["--keep, --threshold", "give one"]),
    (["set", "--keep", 0], ["--keep 0", "above 0"]), (["set", "--keep", 1], ["--keep 1", "below 1"]),
    (["set", "--keep", "nan"], ["--keep nan"]), (["set", "--threshold", "inf"], ["--threshold inf"]),
    (["set", "--threshold", 2], ["--threshold 2", "between 0 and 1"]),
    (["set", "--keep", .5, "--at_least", -1], ["--at_least -1"]), (["set", "--keep", .5, "--by", "age"], ["--by age"]),
    (["set", "bare", "--keep", .5], ["bare: one data set"]), (["nowhere", "--keep", .5], ["nowhere: not there"]),
    (["flat", "--keep", .5, "--by", "d_score"], ["flat: no identities"]),
    (["packed", "--keep", .5, "--by", "d_score"], ["packed", "can't be filtered", "export"]),
    (["packed/train.rec", "--keep", .5, "--by", "d_score"], ["train.rec", "can't be filtered"]),
    (["bare", "--keep", .5], ["--by calibrated", "bare_report/confidences.csv: not there", "--confidences"]),
    (["bare", "--keep", .5, "--by", "d_score"], ["bare/confidence_scores.csv", "--by calibrated"]),
    (["bare", "--keep", .5, "--confidences", "set_report"], ["bare", "another set", "ann/1.jpg"]),
    (["set", "--keep", .5, "--confidences", "few.csv"], ["do not tell of 10 of its 11 images", "ann/2.jpg"]),
    (["set", "--keep", .5, "--confidences", "bare"], ["--confidences bare", "confidences.csv: not there"]),
    (["set", "--keep", .5, "--confidences", "flat/1.jpg"], ["flat/1.jpg", "IDENTITY/IMAGE,confidence"]),
    (["set", "--keep", .5, "--confidences", "twice.csv"], ["twice.csv", "for each image"]),
    (["set", "--keep", .5, "--confidences", "above.csv"], ["above.csv", "for each image"]),
    (["set", "--keep", .5, "--confidences", "empty.csv"], ["empty.csv", "for each image"]),
    (["set", "--keep", .5, "--confidences", "unknown.csv"], ["no image has a confidence"]),
    (["set", "--threshold", .9, "--at_least", 0], ["no image would be left", "best one is 0.6", "--at_least 1"]),
    (["set", "--keep", .01, "--at_least", 0], ["no image would be left", "--keep"]),
    (["set", "--keep", .99, "--output", "out"], ["all of its 11 images would stay", "nothing to write", "--keep"]),
    (["set", "--threshold", 0, "--output", "out"], ["all of its 11 images would stay", "--threshold"]),
    (["set", "--keep", .5, "--at_least", 9, "--output", "out"], ["all of its 11 images", "--at_least 9"]),
    (["set", "--keep", .5, "--output", "set"], ["--output set", "another folder"]),
    (["set", "--keep", .5, "--output", "set/new"], ["--output set/new", "another folder"]),
    (["set", "--keep", .5, "--output", "."], ["--output", "another folder"]),
    (["set", "--keep", .5, "--output", "set_report"], ["--output set_report", "another folder"]),
    (["set", "--keep", .5, "--output", "full"], ["--output full", "did not begin"]),
    (["set", "--keep", .5, "--output", "packed/new"], ["packed/new", "among images"]),
    (["set", "--keep", .5, "--output", "exported"], ["exported", "was made by evaluate.py export"])])
def test_what_cannot_be_is_one_line(data, line, parts):
    write("flat", "1.jpg", draw_face(1, 1, 16, photo=True))
    write("bare", "1/1.jpg", draw_face(1, 1, 16, photo=True))
    (data.parent / "full").mkdir()
    (data.parent / "full/notes.txt").write_text("words")
    assert call(evaluate, "export", "bare", *words(to="rec", output="packed")).status == 0
    assert call(evaluate, "export", "bare", *words(to="folder", output="exported")).status == 0
    for name, lines in {"few": ["ann/1.jpg,0.5"], "twice": ["ann/1.jpg,0.5"] * 2, "above": ["ann/1.jpg,1.5"],
                        "unknown": [f"{name},nan" for name in NAMES_OF]}.items():
        (data.parent / f"{name}.csv").write_text("\n".join(["image,confidence", *lines]))
    (data.parent / "empty.csv").write_text("")
    before = tree(".")
    TOOL.refused(call(evaluate, "filter", *line), *parts)
    assert tree(".") == before and not os.path.exists("out")


@pytest.mark.parametrize("name", ["confidence_scores.csv", "people.csv", "settings.json"])
def test_a_damaged_table_is_told_before_anything_is_written(data, name):
    (data / name).write_bytes(b'{"words')
    if name == "people.csv":
        (data / name).unlink()
        (data / name).mkdir()
    TOOL.refused(call(evaluate, "filter", "set", *words(keep=.5, output="out")), f"set/{name}")
    assert not os.path.exists("out")


def test_other_settings_and_a_changed_source_are_refused(data):
    filtered("--keep", .5)
    before = tree("out")
    TOOL.refused(call(evaluate, "filter", "set", *words(keep=.4, output="out")), "--output out", "keep 0.5 there")
    Path("set_report/confidences.csv").write_bytes(confidence_file.table_of(NAMES_OF, np.linspace(1, 0, len(NAMES_OF))))
    TOOL.refused(call(evaluate, "filter", "set", *words(keep=.5, output="out")), "--output out", "chosen")
    shutil.copy("set/ann/1.jpg", "set/ann/6.jpg")
    TOOL.refused(call(evaluate, "filter", "set", *words(keep=.5, output="out")), "--output out", "source")
    assert {**tree("out"), "ann/6.jpg": b""} == {**before, "ann/6.jpg": b""}


def test_images_of_others_in_the_output_are_told(data):
    filtered("--keep", .5)
    write("out", "ann/mine.jpg", draw_face(1, 1, 16, photo=True))
    _, err = told("set", *words(keep=.5, output="out"))
    assert "1 images that this command does not make" in err and "ann/mine.jpg" in err


# The file of confidences

def test_confidences_are_read_as_they_were_written(tmp_path):
    names = ["a/1.jpg", 'b "c", d/2.jpg', "\udce9/3.jpg"]
    values = np.array([0, np.nan, .1234567])
    (tmp_path / "confidences.csv").write_bytes(confidence_file.table_of(names, values))
    found = confidence_file.read(str(tmp_path))
    assert list(found) == names and np.allclose(list(found.values()), [0, np.nan, .123457], atol=1e-9, equal_nan=True)
    assert (tmp_path / "confidences.csv").read_bytes().splitlines()[:2] == [b"image,confidence", b"a/1.jpg,0.000000"]
    with pytest.raises(ValueError):
        confidence_file.table_of(names, values[:2])
