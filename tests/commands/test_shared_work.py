"""--shard of the commands that make images: the same bytes whatever the number of shards; what is missing is named."""
import csv
import os
import subprocess
import sys

import numpy as np
import pytest
import scipy.io

import align
import gen_syn_latent
import main
from cli import processes
from conftest import tree
from datasets.images import save_image
from datasets.shards import FOLDER, MANIFEST
from tool import call, ROOT, share_model, Tool
from utils import check_free

HIDDEN = f"{FOLDER}/", ".sources.jsonl"             # how the work was done
NOT_SHARED = {"settings.json", ".begun.json"}       # what each shard writes alike


def photos(folder):
    """Photos of two folders: two have one name but for the suffix, one shows nobody, one is broken."""
    for number, name in enumerate(("a/1.jpg", "a/1.png", "a/2.jpg", "b/nobody.png", "b/1.png", "b/3.jpg", "4.png")):
        (folder / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        save_image(np.full([40, 40 + number, 3], 30 * number, np.uint8), str(folder / "photos" / name))
    (folder / "photos/broken.jpg").write_bytes(b"no image")


def labelled(folder):
    """A generated set of two identities with landmarks and scores."""
    lines = []
    for identity in ("1", "2"):
        place = folder / "photos" / identity
        place.mkdir(parents=True)
        for number in (1, 2):
            save_image(np.full([40, 40, 3], 50 * number, np.uint8), str(place / f"{number}.jpg"))
            lines.append(f"/{identity}/{number}.jpg .5 .25 {number}.5\n")
        points = np.random.default_rng(int(identity)).uniform(5, 35, [2, 68, 2])
        np.savez(place / "latents.npz", landmarks=points, size=40, names=["1.jpg", "2.jpg"], identity=int(identity))
    (folder / "photos/confidence_scores.csv").write_text("".join(lines))


def annotated(folder):
    """Photos with annotations, one of which has no pose."""
    random = np.random.default_rng(3)
    (folder / "photos").mkdir()
    for name in ("a", "b", "c", "d", "e"):
        save_image(random.integers(0, 256, [450, 450, 3], np.uint8), str(folder / f"photos/{name}.png"))
        fields = dict(
            Shape_Para=random.normal(0, 1e4, [199, 1]), Exp_Para=random.normal(0, .1, [29, 1]),
            Tex_Para=random.normal(0, 5, [199, 1]), Illum_Para=[[.7, .7, .7, .4, .4, .4, .3, .2, .1, 20]],
            Pose_Para=[[.1, .3, -.1, 225, 200, -90, 1.3e-3]], Color_Para=[[1, 1, 1, 0, 0, 0, 1]])
        if name == "d":
            del fields["Pose_Para"]
        scipy.io.savemat(folder / f"photos/{name}.mat", fields)


def nothing(folder):
    """No input is needed."""


# What is run: the command, its words, how its input is made, and the folders that it writes to.
CASES = {
    "people": (gen_syn_latent, "people --model builtin --n_id 5 --n_im 1 --size 16", nothing, ["out"]),
    "drawn": (gen_syn_latent, "drawn --model builtin --photos 7 --pairs 4 --size 16", nothing,
              ["out/real", "out/paired"]),
    "pairs": (gen_syn_latent, "pairs --model builtin --annotations photos --size 16", annotated, ["out"]),
    "align": (align, "--input photos --size 16", photos, ["out"]),
    "align labels": (align, "--input photos --size 16 --labels --template arcface", labelled, ["out"])}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder to work in. Workers work in this process, and the detector takes most photos for faces."""
    def process_all(function, shared, items, keep, pool):
        for item in items:
            keep(function(shared, item))

    monkeypatch.chdir(tmp_path)
    share_model(monkeypatch)
    monkeypatch.setattr(processes, "process_all", process_all)
    monkeypatch.setattr(align, "detector", lambda: None)
    face = np.array([[9, 9, 30, 32, .9, 14, 25, 20, 15, 24, 15, 15, 20, 26, 26.]])
    monkeypatch.setattr(align, "detect", lambda picture, longest: face[:picture.size[0] != 43])     # b/nobody.png
    return tmp_path


def run(case, *more, output="out"):
    """Run a case in this process -> Result."""
    program, line, _, _ = CASES[case]
    return call(program, *line.split(), "--output", output, *more)


def succeed(case, *more, output="out"):
    result = run(case, *more, output=output)
    assert result.status == 0, result.err[-2000:]
    return result


def files(folder):
    """All files of an output, but for the notes of how the work was done -> {name: bytes}."""
    return {name: content for name, content in tree(folder).items()
            if not any(part in name for part in HIDDEN)}


def manifest(folder):
    """The merged manifest -> {file: (sha256, shard)}."""
    with open(folder / FOLDER / MANIFEST, newline="") as file:
        return {row["file"]: (row["sha256"], row["shard"]) for row in csv.DictReader(file)}


@pytest.mark.parametrize("case", [case if "align" in case else pytest.param(case, marks=pytest.mark.slow)
                                  for case in CASES])
def test_the_same_bytes_whatever_the_number_of_shards(here, case):
    CASES[case][2](here)
    succeed(case)
    whole, sums = files(here / "out"), []
    assert len(whole) > 5
    for count in (1, 2, 3):
        place = f"{count}/out"
        for number in range(count, 0, -1):
            result = succeed(case, "--shard", f"{number}/{count}", output=place)
            assert ("to come" in result.err) == (number > 1)
        assert files(here / place) == whole
        folders = [here / place.replace("out", folder) for folder in CASES[case][3]]
        found = [manifest(folder) for folder in folders]
        assert [part.keys() for part in found] == [files(folder).keys() - NOT_SHARED for folder in folders]
        sums.append([{name: each for name, (each, _) in part.items()} for part in found])
        owners = {owner for part in found for _, owner in part.values()} - {"all"}
        assert owners == {f"{number}/{count}" for number in range(1, count + 1)}
        times = {path: path.stat().st_mtime_ns for path in (here / place).rglob("*.jpg")}
        succeed(case, "--shard", f"1/{count}", output=place)
        succeed(case, "--shard", "finish", output=place)
        assert files(here / place) == whole and times == {path: path.stat().st_mtime_ns for path in times}
    assert sums[0] == sums[1] == sums[2]
    succeed(case, output="2/out")                                   # without shards again
    assert files(here / "2/out") == whole and not list((here / "2").rglob(FOLDER))


@pytest.mark.parametrize("case", [pytest.param(case, marks=pytest.mark.slow) if case in ("drawn", "pairs") else case
                                  for case in CASES])
def test_finish_names_what_is_missing_and_a_difference(here, case):
    CASES[case][2](here)
    refused = Tool(CASES[case][0].__name__ + ".py").refused
    refused(run(case, "--shard", "finish"), "--shard finish", "out", "1/N")
    assert not (here / "out").exists()
    succeed(case, "--shard", "2/3")
    before = tree(here / "out")
    refused(run(case, "--shard", "finish"), "--shard finish", "shards 1/3, 3/3 are not done")
    refused(run(case, "--shard", "1/4"), "begun in 3 shards, not 4")
    refused(run(case, "--shard", "1/3", "--size", "20"), "begun with other settings: size 16 there, 20 given")
    refused(run(case, "--shard", "finish", "--size", "20"), "begun with other settings: size 16 there, 20 given")
    assert tree(here / "out") == before


def test_shards_of_other_photos_or_people_are_refused(here):
    photos(here)
    succeed("align", "--shard", "1/2")
    os.remove("photos/4.png")
    Tool("align.py").refused(run("align", "--shard", "2/2"), "shard 1/2 there shares 8 items and not 7")
    succeed("people", "--shard", "1/2", output="syn")
    Tool("gen_syn_latent.py").refused(run("people", "--shard", "2/2", "--n_id", "6", output="syn"), "5 items and not 6")


def test_a_shard_without_photos_writes_no_preview(here):
    photos(here)
    result = succeed("align", "--shard", "9/9", "--preview", "sheet.png")
    assert "--preview sheet.png: not written" in result.err and not (here / "sheet.png").exists()
    succeed("align", "--shard", "1/9", "--preview", "sheet.png")
    assert (here / "sheet.png").exists()


@pytest.mark.parametrize("program, line", [
    *((program, line) for program, line, _, _ in CASES.values()), (main, "--generate_dataset --data_dir data"),
    (gen_syn_latent, "fit --photos photos")])
@pytest.mark.parametrize("shard", ["0/4", "5/4", "-1/2", "2", "one/two", "1/", "finished", "",
                                   "1/999999999999", "99999999999/2"])
def test_a_bad_shard_is_refused(here, program, line, shard):
    output = [] if program is main else ["--output", "out"]
    result = call(program, *line.split(), *output, f"--shard={shard}")
    Tool(program.__name__ + ".py").refused(result, "--shard", "I/N with I from 1 to N")
    assert not os.listdir(here)


@pytest.mark.parametrize("line, told", [
    ("--generate_dataset --overwrite", "--overwrite: not with --shard"),
    ("--generate_dataset --judge", "--judge: not with --shard"), ("--train_generator", "--shard"),
    ("--generate_dataset --train_generator", "--shard"), ("--is_train False", "--shard")])
def test_main_shares_the_making_of_a_set_only(here, line, told):
    result = call(main, *line.split(), "--method_c", "none", "--shard", "1/2")
    Tool("main.py").refused(result, told)
    assert not os.listdir(here)


HOLD = "import sys, time, utils\nwith utils.hold(*sys.argv[1:]):\n    print('held', flush=True)\n    time.sleep(600)"


def test_one_shard_has_one_process_on_a_machine_and_others_go_on(here):
    photos(here)
    (here / "out").mkdir()
    other = subprocess.Popen([sys.executable, "-c", HOLD, "out", "1-2"], text=True, stdout=subprocess.PIPE,
                             env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        assert other.stdout.readline() == "held\n"
        for more in (["--shard", "1/2"], ["--shard", "finish"], []):
            refused = run("align", *more)
            Tool("align.py").refused(refused, "out", *([f"process {other.pid} on "] if "1/2" in more else []))
        succeed("align", "--shard", "2/2")
    finally:
        other.kill()
        other.communicate()
    check_free("out")
    succeed("align", "--shard", "1/2")


def test_what_another_machine_is_writing_stays_and_what_is_old_goes(here):
    """Files of a process on another machine, whose lock is not seen here, that makes the same shard."""
    for name, age in (("0" * 16, 0), ("1" * 16, 7200)):
        path = here / "out" / f".tmp-{name}"
        path.parent.mkdir(exist_ok=True)
        path.write_text("half")
        os.utime(path, (os.stat(path).st_mtime - age,) * 2)
        folder = here / "out" / f".tmp-00001-{name[:8]}"
        folder.mkdir()
        os.utime(folder, (os.stat(folder).st_mtime - age,) * 2)
    succeed("people", "--shard", "1/1")
    assert sorted(path.name for path in (here / "out").glob(".tmp-*")) == [".tmp-" + "0" * 16, ".tmp-00001-00000000"]
