"""benchmarks/quality.py: what it holds out, what it refuses, budgets, and a row from training to table."""
import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks import quality, quality_data, quality_judge, quality_table
from conftest import NARROW, small_classifier, words, write_checkpoint
from datasets.image_sets import find_photos, find_renderings
from datasets.images import load_image, read_picture
from drawn import write_dataset
from evaluation.labels import face_points
from tool import call, ROOT
from utils import sha256_of, UserError

SIZE = 32
NO_DETECTOR = "the package that finds faces is not there; install it"
CONFIGURATION = [*words(**{name: value for name, value in NARROW.items() if name != "input_scale_size"}, batch_size=2,
                        method_c="none", log_step=1, save_step=1)]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Drawn photos of 30 people, renderings of 12, and pairs, the first of which shows the last person."""
    folder = tmp_path_factory.mktemp("photos")
    write_dataset(str(folder), SIZE, identities=12, per_identity=6, photos=150, pairs=6)
    (folder / "paired/00001.jpg").write_bytes((folder / "real/10030/00002.jpg").read_bytes())
    return folder


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """The folder of a classifier with random weights."""
    folder = tmp_path_factory.mktemp("classifier")
    write_checkpoint(folder / "model-1", small_classifier())
    return folder


def contents(folder):
    """The digests of all images in a folder."""
    images = find_photos(str(folder))
    return {sha256_of(os.path.join(images.root, name)) for name in images.names}


# The data

def test_held_out_people_are_not_trained_on(photos, tmp_path):
    split = quality_data.make(str(tmp_path), "faces108", SIZE, str(photos))
    people = find_renderings(split.people).identities
    assert people == [str(10025 + number) for number in range(6)]
    assert find_renderings(split.seen).identities == find_renderings(split.training + "/real").identities == [
        str(10001 + number) for number in range(24)]
    assert find_renderings(split.renderings).identities == [f"{number:05}" for number in range(9, 13)]
    assert find_renderings(split.training + "/syn").identities == [f"{number:05}" for number in range(1, 9)]
    trained = contents(split.training)
    assert not trained & (contents(split.people) | contents(split.renderings))
    assert find_photos(split.training + "/paired/3dmm").names == [f"{number:05}.jpg" for number in range(2, 7)]
    assert quality_data.count(split) == {"training photos": 120, "training renderings": 48, "pairs": 5,
                                         "held-out renderings": 24, "held-out photos": 30}


def test_judged_images_have_the_size_of_the_training(photos, tmp_path):
    split = quality_data.make(str(tmp_path), "faces108", 16, str(photos))
    for folder in (split.renderings, split.people, split.seen):
        images = find_photos(folder)
        assert {read_picture(os.path.join(folder, name)).size for name in images.names} == {(16, 16)}
    name = "10030/00001"
    assert (load_image(f"{split.people}/{name}.png", 16) == load_image(f"{photos}/real/{name}.jpg", 16)).all()


def test_data_are_made_once(photos, tmp_path):
    made = quality_data.make(str(tmp_path), "faces108", SIZE, str(photos))
    before = os.stat(made.training).st_mtime_ns
    assert quality_data.make(str(tmp_path), "faces108", SIZE, str(photos)) == made
    assert os.stat(made.training).st_mtime_ns == before
    with pytest.raises(UserError, match=r"made from other photos.*another --out"):
        quality_data.make(str(tmp_path), "faces108", SIZE, str(tmp_path))


def test_too_few_people_to_hold_some_out(tmp_path):
    write_dataset(str(tmp_path / "few"), SIZE, photos=10)
    with pytest.raises(UserError, match="2 identities are too few to hold out 20%"):
        quality_data.make(str(tmp_path), "faces108", SIZE, str(tmp_path / "few"))


# What is refused

@pytest.mark.parametrize("arguments, named", [
    ([], ["NAME", "needed"]),
    (["a", "b", "--steps", "1"], ["b", "one name"]),
    (["../a", "--steps", "1"], ["../a", "name of letters"]),
    (["a"], ["one of --steps, --minutes and --cpu_minutes"]),
    (["a", "--steps", "1", "--minutes", "1"], ["one of --steps"]),
    (["a", "--minutes", "0"], ["--minutes 0", "above 0"]),
    (["a", "--steps", "1", "--size", "63"], ["--size 63", "multiple of 4"]),
    (["a", "--steps", "1", "--", "--method_c", "none"], ["--photos_root", "needed"]),
    (["a", "--steps", "1", "--photos_root", "{photos}/real", "--", "--method_c", "none"], ["real/real", "not there"]),
    (["a", "--steps", "1", "--domain", "drawn", "--photos_root", "{photos}", "--", "--method_c", "none"],
     ["--photos_root", "leave it out"]),
    (["a", "--steps", "1", "--photos_root", "{photos}", "--", "--max_step", "5"], ["--max_step", "leave it out"]),
    (["a", "--minutes", "1", "--photos_root", "{photos}", "--", "--data_dir", "x"], ["--data_dir", "leave it out"]),
    (["a", "--steps", "1", "--photos_root", "{photos}"], ["--pretrained_rec", "needed"]),
    (["a", "--steps", "1", "--photos_root", "{photos}", "--out", "{photos}/real/new", "--", "--method_c", "none"],
     ["--out", "real/new: must be another folder"]),
    (["a", "--steps", "1", "--photos_root", "{photos}", "--weights", "{photos}", "--", "--method_c", "none"],
     ["--weights", "no weights"]),
    (["a", "--steps", "1", "--photos_root", "{photos}", "--", "--g_lr", "x"], ["--g_lr x"])])
def test_bad_input(photos, tmp_path, monkeypatch, arguments, named):
    monkeypatch.chdir(tmp_path)
    result = call(quality, *(word.format(photos=photos) for word in arguments))
    lines = [line for line in result.err.splitlines() if ": error: " in line]
    assert result.status == 2 and len(lines) == 1, result.err
    assert all(word in lines[0] for word in named), lines[0]
    assert not list(tmp_path.iterdir())


# Budgets

SLEEPER = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (open(sys.argv[1] + "-7.index", "w").close(), os._exit(143)))
open(sys.argv[1] + "-3.index", "w").close()
while True:
    pass
"""


@pytest.fixture
def sleeper(monkeypatch, tmp_path):
    """Trainings save step 3, and at SIGTERM step 7 -> what makes a Training with these options."""
    run = tmp_path / "runs" / "a" / "a_gen_0101_000000"
    run.mkdir(parents=True)
    monkeypatch.setattr(quality, "POLL", .02)
    monkeypatch.setattr(quality, "main_command", lambda given, more: [
        sys.executable, "-c", SLEEPER, str(run / "model.ckpt")])

    def make(*arguments):
        options = quality.parse(quality.COMMAND, ["a", "--out", str(tmp_path), *arguments]).options
        return quality.Training(options, ["--method_c", "none"])
    return make


@pytest.mark.parametrize("budget", ["minutes", "cpu_minutes"])
def test_a_budget_of_minutes_ends_a_training_in_good_order(sleeper, budget):
    split, began = quality_data.Split("training", "judged"), time.monotonic()
    training = sleeper(f"--{budget}", ".005")
    training.train(split)
    assert training.steps == 7 and .005 <= training.spent(budget) < (time.monotonic() - began) / 60 + .005
    again = sleeper(f"--{budget}", ".005")
    again.train(split)
    assert again.sessions == training.sessions and len(again.sessions) == 1         # nothing is left to do
    longer = sleeper(f"--{budget}", ".012")
    longer.train(split)
    assert [session["from"] for session in longer.sessions] == [0, 7] and longer.spent(budget) >= .012


def test_a_child_ends_in_good_order_when_its_parent_is_killed(tmp_path):
    child = ("import signal, sys, time\n"
             "signal.signal(signal.SIGTERM, lambda *_: (open(sys.argv[1], 'w').close(), sys.exit()))\n"
             "print('ready', flush=True)\ntime.sleep(60)")
    parent = ("import subprocess, sys\nfrom benchmarks.quality_data import end_with_us\n"
              "subprocess.run([sys.executable, '-c', *sys.argv[1:]], preexec_fn=end_with_us())")
    with subprocess.Popen([sys.executable, "-c", parent, child, str(tmp_path / "ended")], stdout=subprocess.PIPE,
                          cwd=ROOT) as process:
        assert process.stdout.readline() == b"ready\n"
        process.kill()
        assert process.stdout.read() == b""             # the child, which holds the pipe too, has ended
    assert (tmp_path / "ended").exists()


@pytest.mark.parametrize("arguments, named", [
    (["--steps", "9", "--seed", "5"], "seed 123"), (["--steps", "9", "--size", "32"], "size 64"),
    (["--steps", "5"], "7 steps already")])
def test_a_name_belongs_to_one_configuration(sleeper, arguments, named):
    sleeper("--minutes", ".005").train(quality_data.Split("training", "judged"))
    with pytest.raises(UserError, match=named):
        sleeper(*arguments)


# The judge and the table

def test_moved_landmarks_are_measured_in_distances_between_the_eyes():
    renderings = {name: np.random.default_rng(1).random([468, 2]) for name in "abc"}
    for points in renderings.values():
        points[[33, 133]], points[[362, 263]] = (.2, .5), (.6, .5)          # .4 apart
    points = {"a": renderings["a"], "b": renderings["b"] + [0, .02], "d": renderings["c"]}
    assert np.allclose(quality_judge.moved(points, renderings), [0, .05])


def test_the_table_compares_what_is_comparable(tmp_path):
    def result(name, size, kid):
        figures = {"kid": {"value": kid}, "d_prime": {"not_measured": "no people"}}
        return {"name": name, "domain": "drawn", "size": size, "judge": "dlib", "steps": 10, "minutes": 1.25,
                "cpu_minutes": 2., "seed": 1, "options": ["--g_lr", ".1"], "finished": name, "figures": figures}

    for name, size in (("b", 48), ("a", 48), ("c", 64)):
        (tmp_path / "results").mkdir(exist_ok=True)
        (tmp_path / "results" / f"{name}.json").write_text(json.dumps(result(name, size, .0456)))
    (tmp_path / "data/drawn_48").mkdir(parents=True)
    rows = {name: {"kid": {"value": .5}} for name in quality_table.REFERENCES}
    (tmp_path / "data/drawn_48/reference_0.json").write_text(json.dumps(
        {"domain": "drawn", "size": 48, "judge": "dlib", "rows": rows}))
    quality_table.write(str(tmp_path))
    with open(tmp_path / "table.csv", newline="") as file:
        found = list(csv.DictReader(file))
    assert [(row["size"], row["name"], row["KID"], row["d'"]) for row in found] == [
        ("48", "renderings themselves", "500", ""), ("48", "real people (floor)", "500", ""),
        ("48", "a", "46", ""), ("48", "b", "46", ""), ("64", "c", "46", "")]
    text = (tmp_path / "table.md").read_text()
    assert text.count("## drawn, ") == 2 and "| a | 10 | 1.2 | 2.0 | 1 | 46 |" in text


# From end to end

@pytest.mark.long
@pytest.mark.slow
def test_a_row_from_training_to_table(photos, classifier, tmp_path, monkeypatch):
    monkeypatch.setattr(face_points, "missing", lambda: NO_DETECTOR)       # drawn faces are none to it
    monkeypatch.setattr(quality_judge, "usual_path", lambda: str(tmp_path / "cache"))

    def measure(name, steps):
        result = call(quality, name, "--steps", steps, "--size", SIZE, "--photos_root", photos, "--out",
                      tmp_path / "out", "--weights", classifier, "--", *CONFIGURATION)
        assert result.status == 0, result.err
        return result.out

    assert "| first | 2 |" in measure("first", 2)
    first = sorted((tmp_path / "out/runs/first").glob("first_gen_*"))
    table = measure("first", 3)
    assert sorted((tmp_path / "out/runs/first").glob("first_gen_*")) == first and len(first) == 1      # it went on
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    assert [line.split(" | ")[0] for line in lines[1:]] == [
        "| renderings themselves", "| real people (floor)", "| first"] and "| first | 3 |" in lines[-1]
    found = json.loads(next((tmp_path / "out/results").glob("first@*.json")).read_text())
    assert found["figures"]["kid"]["n"] == 24 and found["figures"]["label_error"] == {"not_measured": NO_DETECTOR}
    assert [session["to"] for session in found["sessions"]] == [2, 3] and found["options"] == CONFIGURATION
    sheet = read_picture(str(tmp_path / "out/sheets/first.png"))
    assert sheet.size == (16 * (SIZE + 2) - 2, 4 * (SIZE + 2) - 2)         # 24 images: two rows, and what was made
    assert {path.name for path in (tmp_path / "out/sheets/first").iterdir()} == {
        "syn_fixed.png", "3_G.png", "3_G_raw.png", "3_pairs.png", "3_reconstructions.png"}
    assert len(find_photos(str(tmp_path / "out/generated/first")).names) == 24


@pytest.mark.long
@pytest.mark.slow
def test_people_of_the_demo_are_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(quality_data, "DRAWN_IDENTITIES", 6)
    monkeypatch.setattr(quality_data, "DRAWN_PHOTOS", 50)
    monkeypatch.setattr(quality_data, "DRAWN_PAIRS", 2)
    split = quality_data.make(str(tmp_path), "drawn", 16)
    assert quality_data.count(split) == {"training photos": 40, "training renderings": 32, "pairs": 2,
                                         "held-out renderings": 16, "held-out photos": 10}
    assert not Path(tmp_path, "data/drawn_16.new").exists()
