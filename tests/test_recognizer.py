"""recognizer.py on the command line: train, stop, go on, verify, give to main.py; bad input in one line."""
import json
import signal
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import recognizer
import utils
from config import get_config
from conftest import (
    differences,
    NARROW,
    only_run,
    read_checkpoint,
    small_classifier,
    steps_saved,
    words,
    write_checkpoint,
)
from drawn import draw_face, write
from engine import runs
from recognition import pretrained
from tool import finish, Tool
from trainer import Trainer

TOOL = Tool("recognizer.py")
SMALL = dict(model_def="small", image_size=32, embedding_size=8, batch_size=8, seed=1, epoch_size=10)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The folder of `real`, 5 people of 4 photos, `others`, 4 of 4, `generated`, 3 of 3, and `one`; 36 x 36 pixels."""
    root = tmp_path_factory.mktemp("faces")
    for folder, people, count in (("real", range(1, 6), 4), ("others", range(21, 25), 4), ("generated", range(11, 14), 3),
                                  ("one", [1], 2)):
        for person in people:
            for image in range(1, count + 1):
                write(str(root), f"{folder}/{person}/{image}.jpg", draw_face(person, image, 36, photo=True))
    (root / "generated" / "confidence_scores.csv").write_text("/11/1.jpg 0.1 0.1 nan\n")
    (root / "schedule.txt").write_text("# epoch: rate\n1: 0.05\n\n2: 0.01 # lower\n4: -1\n9: 1\n")
    return root


class Run:
    """A training that was stopped by SIGTERM, what it said, and the same in one go."""

    def __init__(self, data, root):
        options = [*words(**SMALL, data_dir=data, real="real", learning_rate=-1, learning_rate_schedule_file=data / "schedule.txt",
                          lfw_dir=data / "others", lfw_nrof_folds=2, log_step=1), "--synthetic", "generated"]
        process = TOOL.start("train", *options, "--log_dir", root / "stopped")
        for line in process.stderr:
            if "[3/" in line:
                break
        process.send_signal(signal.SIGTERM)
        self.stopped = finish(process)
        self.run_dir = only_run(root / "stopped")
        self.steps = steps_saved(self.run_dir)
        self.resumed = TOOL.succeed("train", *options, "--log_dir", root / "stopped", "--load_path", self.run_dir.name)
        self.whole = TOOL.succeed("train", *options, "--log_dir", root / "whole")
        self.whole_dir = only_run(root / "whole")


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    return Run(data, tmp_path_factory.mktemp("runs"))


# Train

@pytest.mark.slow
def test_stopped_by_sigterm_it_saves_and_says_how_to_go_on(run):
    assert run.stopped.status == 143
    line, = TOOL.last_words(run.stopped)
    assert "interrupted; saved at step" in line and f"--load_path {run.run_dir}" in line and 3 <= run.steps[-1] < 30


@pytest.mark.slow
def test_going_on_changes_nothing(run):
    """The schedule ends the training before epoch 4: after 3 epochs of 10 steps."""
    assert steps_saved(run.run_dir)[-1] == steps_saved(run.whole_dir)[-1] == 30
    assert differences(run.run_dir / "model.ckpt-30", run.whole_dir / "model.ckpt-30") == []
    assert f"going on after step {run.steps[-1]}" in run.resumed.err
    assert " rate 0.05" in run.whole.err.split("[10/30]")[1].split("\n")[0] and " rate 0.01" in run.whole.err.split("[11/30]")[1]


@pytest.mark.slow
def test_what_a_run_writes(run):
    names = {path.name for path in run.whole_dir.iterdir()}
    assert {"params.json", "identities.json", "checkpoint"} <= names and any("tfevents" in name for name in names)
    assert json.loads((run.whole_dir / "identities.json").read_text()) == {
        "real": ["1", "2", "3", "4", "5"], "synthetic": ["11", "12", "13"]}
    params = runs.load_params(str(run.whole_dir))
    assert params["model_def"] == "small" and params["input_scale_size"] == 36 and params["command"] == "train"
    saved = read_checkpoint(run.whole_dir / "model.ckpt-30")
    assert saved["Logits/weights"].shape == (8, 5) and saved["Logits_synthetic/weights"].shape == (8, 3)
    assert run.whole.err.count("others: accuracy") == 3
    events = next(str(path) for path in run.whole_dir.iterdir() if "tfevents" in path.name)
    tags = {value.tag for event in tf.compat.v1.train.summary_iterator(events) for value in event.summary.value}
    assert {"loss/total", "loss/center_synthetic", "misc/learning_rate", "misc/accuracy", "lfw/accuracy", "lfw/auc"} <= tags


@pytest.mark.slow
def test_main_takes_the_averages(run):
    """main.py loads a run directory as its identity network: averaged weights and statistics, its own standardisation."""
    config, _ = get_config(words(**NARROW, pretrained_rec=run.whole_dir, model_def="small", image_size=32, embedding_size=8,
                                 generate_dataset=True))
    trainer = Trainer(config)
    trainer.build_model(synthesis=True)
    variables = trainer.networks.classifier_variables
    values = dict(zip([v.op.name for v in variables], trainer.session.run(variables)))
    trainer.close()
    saved = read_checkpoint(run.whole_dir / "model.ckpt-30")
    assert len(values) == 24 and trainer.networks.standardization == "image"
    for name, value in values.items():
        assert np.array_equal(value, saved[name + "/ExponentialMovingAverage"])
        assert not np.array_equal(value, saved[name])


# Verify

@pytest.mark.slow
def test_verify_writes_table_plots_and_json(run, data, tmp_path):
    result = TOOL.succeed("verify", *words(weights=run.whole_dir, images=data / "others", output=tmp_path / "out", nrof_folds=3,
                                           baselines=True))
    written = json.loads((tmp_path / "out" / "verification.json").read_text())
    assert list(written["results"]) == ["classifier", "random network", "bare pixels"]
    assert written["people"] == 4 and written["pairs"] == 48 and written["folds"] == 3
    assert written["options"]["image_size"] == 32 and written["options"]["input_scale_size"] == 36      # the run's
    for name, row in written["results"].items():
        line = next(line for line in result.out.splitlines() if line.startswith(name))
        assert [f"{row[key]:.4f}" for key in ("accuracy", "accuracy_std", "auc", "eer", "tar_at_far_0.01", "tar_at_far_0.001")] == [
            word for word in line.removeprefix(name).split() if word != "+-"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["distances.png", "roc.png", "verification.json"]
    for name in ("distances", "roc"):
        Image.open(tmp_path / "out" / f"{name}.png").verify()


# Bad input

TRAIN = dict(model_def="small", image_size=32, real="real")
BAD = [                     # command, options, what the line names
    ("train", dict(TRAIN, real="nowhere"), ["--real", "nowhere"]), ("train", dict(TRAIN, real="one"), ["one identity only"]),
    ("train", dict(TRAIN, real="generated"), ["--synthetic generated"]), ("train", dict(model_def="small"), ["--real"]),
    ("train", dict(TRAIN, image_sise=32), ["--image_sise", "--image_size"]), ("train", dict(TRAIN, optimizer="best"), ["--optimizer", "adagrad"]),
    ("train", dict(TRAIN, image_size=31), ["--image_size 31"]), ("train", dict(TRAIN, model_def="nn4"), ["--image_size 32", "nn4"]),
    ("train", dict(TRAIN, learning_rate=-1), ["--learning_rate_schedule_file"]), ("train", dict(TRAIN, learning_rate=0), ["--learning_rate"]),
    ("train", dict(TRAIN, learning_rate_schedule_file="bad.txt"), ["--learning_rate -1"]),
    ("train", dict(TRAIN, learning_rate=-1, learning_rate_schedule_file="bad.txt"), ["bad.txt: line 2"]),
    ("train", dict(TRAIN, learning_rate=-1, learning_rate_schedule_file="nowhere"), ["nowhere", "can't be read"]),
    ("train", dict(TRAIN, score_weights="original"), ["--synthetic"]), ("train", dict(TRAIN, lfw_pairs="bad.txt"), ["--lfw_dir"]),
    ("train", dict(TRAIN, lfw_dir="one"), ["one", "too few"]), ("train", dict(TRAIN, load_path="nowhere"), ["--load_path nowhere"]),
    ("train", dict(TRAIN, load_path="run"), ["--load_path", "embedding_size (run: 8, given: 128)"]),
    ("train", dict(TRAIN, filter_filename="bad.txt"), ["--filter_percentile", "both"]),
    ("train", dict(TRAIN, synthetic="real"), ["named twice"]), ("train", dict(TRAIN, load_path="real"), ["--load_path real"]),
    ("train", dict(TRAIN, filter_min_nrof_images_per_class=9), ["no image is left"]),
    ("train", dict(TRAIN, filter_filename="bad.txt", filter_percentile=90), ["--filter_filename bad.txt"]), ("train", dict(TRAIN, log_dir="bad.txt"), ["--log_dir"]),
    ("verify", dict(weights="alien-1"), ["--images"]), ("verify", dict(images="others"), ["--weights"]),
    ("verify", dict(weights="nowhere", images="others"), ["--weights nowhere", "no weights"]),
    ("verify", dict(weights="alien", images="others"), ["--weights alien", "neither"]),
    ("verify", dict(weights="alien", images="nowhere"), ["--images", "nowhere"]),
    ("verify", dict(weights="good", images="others", image_size=32, output="bad.txt"), ["--output bad.txt"]),
    ("convert", dict(input="bad.txt"), ["--output"]), ("convert", dict(input="bad.txt", output="new"), ["bad.txt", "torch"]),
    ("guess", {}, ["guess", "no such command"]), ("", {}, ["train, verify, convert"])]


@pytest.mark.parametrize("command, options, named", BAD, ids=[f"{row[0]}-{'-'.join(row[2])}" for row in BAD])
def test_bad_input(data, tmp_path, monkeypatch, capsys, command, options, named):
    """In this process: before any graph is built."""
    for path in data.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "bad.txt").write_text("1: 0.1\n1 0.2\n")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "params.json").write_text('{"embedding_size": 8}')
    if "alien" in str(options):
        write_checkpoint(tmp_path / "alien-1", {"a": np.zeros(3, np.float32)})
    if "good" in str(options):
        write_checkpoint(tmp_path / "good-1", small_classifier())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["recognizer.py", *([command] if command else []), *words(
        **({"data_dir": "."} if command == "train" else {}), **options)])
    monkeypatch.setattr("cli.program.leave_on_signals", lambda program: None)
    monkeypatch.setattr("recognition.training.ClassifierTrainer", None)
    before = {path.name for path in Path().iterdir()}
    try:
        status = recognizer.main()
    except SystemExit as stop:
        status = stop.code
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("recognizer.py")]
    assert status == 2 and len(lines) == 1 and ": error: " in lines[0]
    assert all(word in lines[0] for word in named), lines
    assert {path.name for path in Path().iterdir()} - before <= {"verification", "new"}


def test_other_identities_can_not_go_on(data, tmp_path):
    options = recognizer.get_options(["train", *words(**TRAIN, data_dir=data)])
    run = tmp_path / "run"
    run.mkdir()
    (run / "identities.json").write_text('{"real": ["1", "2"], "synthetic": []}')
    (run / "params.json").write_text("{}")
    options.load_path = str(run)
    with pytest.raises(utils.UserError, match="other identities"):
        recognizer.train(options)


@pytest.mark.slow
def test_bad_input_is_found_before_tensorflow_is_loaded(data, tmp_path):
    result = TOOL.run("train", *words(**TRAIN, data_dir=data, lfw_dir=data / "one"), cwd=tmp_path)
    TOOL.refused(result, "too few")
    assert "oneDNN" not in result.err and "absl" not in result.err and not list(tmp_path.iterdir())

def test_main_says_which_network_there_is(tmp_path, caplog):
    """Another network is refused with the options to give, another size of its input is warned of."""
    write_checkpoint(tmp_path / "model-1", small_classifier())
    (tmp_path / "params.json").write_text('{"image_size": 64}')
    with pytest.raises(utils.UserError, match="give --model_def small --embedding_size 16$"):
        pretrained.standardization(get_config(words(pretrained_rec=tmp_path, model_def="nn4"))[0])
    small = dict(pretrained_rec=tmp_path, model_def="small", embedding_size=16)
    pretrained.standardization(get_config(words(**small, image_size=64))[0])
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
    pretrained.standardization(get_config(words(**small, image_size=96))[0])
    assert "trained with --image_size 64, not 96" in caplog.text
    write_checkpoint(tmp_path / "alien-2", {"G_inf/a": np.zeros(3, np.float32)})
    with pytest.raises(utils.UserError, match="no classifier"):
        pretrained.standardization(get_config(words(pretrained_rec=tmp_path / "alien-2"))[0])


def test_help_lists_every_option(capsys):
    for command, wanted in (("train", "--learning_rate_schedule_file"), ("verify", "--baselines"), ("convert", "--input")):
        with pytest.raises(SystemExit) as stop:
            recognizer.get_options([command, "--help"])
        assert stop.value.code == 0 and wanted in capsys.readouterr().out


def test_help_says_what_is_needed(capsys):
    with pytest.raises(SystemExit):
        recognizer.get_options(["verify", "--help"])
    assert capsys.readouterr().out.count("(needed)") == len(recognizer.REQUIRED["verify"])


def test_a_schedule_s_rates(data):
    assert recognizer.read_schedule(str(data / "schedule.txt")) == [(1, .05), (2, .01), (4, -1.)]


@pytest.mark.parametrize("text", ["", "1: -1\n", "2: .1\n1: .2\n", "1: nan\n", "1: .1: 2\n", "x: .1\n", "1: inf"])
def test_bad_schedules(tmp_path, text):
    (tmp_path / "schedule").write_text(text)
    with pytest.raises(utils.UserError, match="--learning_rate_schedule_file .*schedule: "):
        recognizer.read_schedule(str(tmp_path / "schedule"))


def test_standardization_reaches_main_s_classifier(tmp_path):
    """By what the checkpoint says, or by the option."""
    write_checkpoint(tmp_path / "model-1", small_classifier() | {pretrained.FIXED: np.array(True)})
    small = dict(pretrained_rec=tmp_path / "model-1", model_def="small", embedding_size=16)
    for given, wanted in (("auto", "fixed"), ("image", "image"), ("fixed", "fixed")):
        config, _ = get_config(words(**small, standardization=given))
        assert pretrained.standardization(config) == wanted
