"""weights/: whole, small and as promised; --pretrained_gen demo finds them, and nothing is written beside them."""
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import main
from config import FORMERLY
from conftest import tree, words
from drawn import write_dataset
from engine import runs
from engine.checkpoint_index import check_whole, read_index
from preflight import networks_of
from tool import succeed_here
from utils import PROJECT

WEIGHTS = Path(PROJECT) / "weights" / "demo"
MOST_BYTES = 5_000_000


def test_they_are_whole_and_small():
    sums = dict(reversed(line.split()) for line in (WEIGHTS / "SHA256SUMS").read_text().splitlines())
    assert {path.name for path in WEIGHTS.iterdir()} == {*sums, "SHA256SUMS"}
    assert {name: hashlib.sha256((WEIGHTS / name).read_bytes()).hexdigest() for name in sums} == sums
    assert sum(path.stat().st_size for path in WEIGHTS.iterdir()) < MOST_BYTES
    prefix, = runs.list_checkpoints(str(WEIGHTS))
    assert check_whole(prefix) is None


@pytest.mark.parametrize("bad", [("--max_step", "0"), ("--no_such", "1")])
def test_making_them_anew_refuses_a_bad_option_before_anything_is_made(tmp_path, bad):
    shutil.copytree(PROJECT, tmp_path / "copy", ignore=lambda folder, names: {
        name for name in names if name.startswith(".") or (folder == PROJECT and name in ("tests", "docs", "demo"))})
    done = subprocess.run([sys.executable, "weights/make.py", *bad], cwd=tmp_path / "copy", capture_output=True,
                          text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1) and bad[0] in done.stderr
    assert not (tmp_path / "copy/weights-demo").exists()


def test_their_params_tell_the_networks_and_the_commands():
    params = json.loads((WEIGHTS / "params.json").read_text())
    found = networks_of(read_index(runs.list_checkpoints(str(WEIGHTS))[0]))
    assert found == {name: {**FORMERLY, **params}[name] for name in found} and found["game"] == "hinge"
    assert any(command.startswith("main.py --preset cpu") for command in params["commands"])
    report = json.loads((WEIGHTS / "report.json").read_text())
    assert {section["key"] for section in report["sections"]} >= {"realism", "identity", "labels"}


def test_a_run_or_folder_of_that_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Path(runs.find_checkpoint("logs", "demo")) == WEIGHTS
    shutil.copytree(WEIGHTS, "logs/demo")
    assert runs.find_checkpoint("logs", "demo") == os.path.join("logs", "demo")
    (tmp_path / "demo").mkdir()                                 # as `make demo` makes it: no weights in it
    assert runs.find_checkpoint("elsewhere", "demo") == str(WEIGHTS)
    assert runs.find_checkpoint("logs", "demos", missing=None) is None


@pytest.mark.slow
def test_photos_are_made_and_samples_lie_with_the_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_dataset("data", size=64, identities=2, per_identity=2, photos=1, pairs=1)
    before = tree(WEIGHTS)
    options = dict(pretrained_gen="demo", syn_dataset="syn")
    succeed_here(main, *words(**options, generate_dataset=True))
    made = sorted(Path("data/generated").glob("*/*.*g"))
    assert len(made) == 4
    scores = [line.split() for line in Path("data/generated/confidence_scores.csv").read_text().splitlines()]
    assert len(scores) == 4 and np.isfinite(np.array([line[1:3] for line in scores], float)).all()
    succeed_here(main, *words(**options, is_train=False))
    assert [path.suffix for path in Path("logs/demo").iterdir()] == [".png"]
    assert tree(WEIGHTS) == before
