"""recognizer.py on the command line: train, stop, go on, verify, convert, give to main.py; bad input in one line."""
import json
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import recognizer
import utils
from cli import cautions, program
from cli.options import parse
from config import get_config
from conftest import (
    differences,
    NARROW,
    only_run,
    read_checkpoint,
    small_classifier,
    steps_saved,
    tree,
    words,
    write_checkpoint,
)
from datasets import image_sets
from drawn import draw_face, write
from engine import checkpoints, runs
from evaluation.report import charts
from losses import classifier_rate
from recognition import pretrained, registry, schedule, training
from tool import finish, Tool
from trainer import Trainer

TOOL = Tool("recognizer.py")
SMALL = dict(model_def="small", image_size=32, embedding_size=8, batch_size=8, seed=1, epoch_size=10)
TRAIN = dict(model_def="small", image_size=32, real="real")
TRAIN_COMMAND, VERIFY_COMMAND, CONVERT_COMMAND = recognizer.COMMANDS


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The folder of `real`, 5 people of 4 photos, `others`, 4 of 4, `generated`, 3 of 3, and `one`; 36 x 36 pixels."""
    root = tmp_path_factory.mktemp("faces")
    for folder, people, count in (("real", range(1, 6), 4), ("others", range(21, 25), 4),
                                  ("generated", range(11, 14), 3), ("one", [1], 2)):
        for person in people:
            for image in range(1, count + 1):
                write(str(root), f"{folder}/{person}/{image}.jpg", draw_face(person, image, 36, photo=True))
    (root / "generated" / "confidence_scores.csv").write_text("/11/1.jpg 0.1 0.1 nan\n")
    (root / "schedule.txt").write_text("# epoch: rate\n1: 0.05\n\n2: 0.01 # lower\n4: -1\n9: 1\n")
    return root


class Run:
    """A training that was stopped by SIGTERM and resumed without options, and the same in one go; what each said."""

    def __init__(self, data, root):
        options = [*words(**SMALL, data_dir=data, real="real", learning_rate=-1, log_step=1, lfw_nrof_folds=2,
                          learning_rate_schedule_file=data / "schedule.txt", lfw_dir=data / "others"),
                   "--synthetic", "generated"]
        process = TOOL.start("train", *options, "--log_dir", root / "stopped")
        for line in process.stderr:
            if "[3/" in line:
                break
        process.send_signal(signal.SIGTERM)
        self.stopped = finish(process)
        self.run_dir = only_run(root / "stopped")
        self.steps = steps_saved(self.run_dir)
        self.resumed = TOOL.succeed("train", "--load_path", self.run_dir)
        self.whole = TOOL.succeed("train", *options, "--log_dir", root / "whole")
        self.whole_dir = only_run(root / "whole")
        self.options = options


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
    assert " rate: 0.05" in run.whole.err.split("[10/30]")[1].split("\n")[0]
    assert " rate: 0.01" in run.whole.err.split("[11/30]")[1].split("\n")[0]


@pytest.mark.slow
def test_going_on_takes_the_run_s_options(run):
    """What it takes, it says; what it writes are the same options, but for those that tell where to."""
    said, = [line for line in run.resumed.err.splitlines() if "its options are taken" in line]
    assert f"{run.run_dir}: " in said
    assert all(f"--{name} {value}" in said for name, value in SMALL.items())
    assert "--synthetic generated" in said and "--log_dir" not in said and "--task" not in said
    resumed, whole = (runs.load_params(str(folder)) for folder in (run.run_dir, run.whole_dir))
    assert resumed["load_path"] == str(run.run_dir)
    other = recognizer.OF_THE_MOMENT | {"date"}
    assert {name: value for name, value in resumed.items() if name not in other} == {
        name: value for name, value in whole.items() if name not in other}


@pytest.mark.slow
def test_what_a_run_writes(run):
    names = {path.name for path in run.whole_dir.iterdir()}
    assert {"params.json", "identities.json", "stats.jsonl", "checkpoint"} <= names
    assert any("tfevents" in name for name in names)
    assert json.loads((run.whole_dir / "identities.json").read_text()) == {
        "real": ["1", "2", "3", "4", "5"], "synthetic": ["11", "12", "13"]}
    params = runs.load_params(str(run.whole_dir))
    assert params["model_def"] == "small" and params["input_scale_size"] == 36 and params["command"] == "train"
    saved = read_checkpoint(run.whole_dir / "model.ckpt-30")
    assert saved["Logits/weights"].shape == (8, 5) and saved["Logits_synthetic/weights"].shape == (8, 3)
    assert run.whole.err.count("others: accuracy") == 3
    rows = [json.loads(line) for line in (run.whole_dir / "stats.jsonl").read_text().splitlines()]
    validations = [row for row in rows if "validation_auc" in row]
    assert [row["step"] for row in validations] == [10, 20, 30]
    assert all(0 <= row["validation_accuracy"] <= 1 for row in validations)
    rows = [row for row in rows if row not in validations]
    assert [row["step"] for row in rows] == list(range(1, 31)) and [row["epoch"] for row in rows[9:11]] == [1, 2]
    assert {"loss", "cross_entropy", "cross_entropy_synthetic", "accuracy", "accuracy_synthetic",
            "rate"} <= rows[0].keys()
    events = next(str(path) for path in run.whole_dir.iterdir() if "tfevents" in path.name)
    tags = {value.tag for event in tf.compat.v1.train.summary_iterator(events) for value in event.summary.value}
    assert {"loss/total", "loss/center_synthetic", "misc/learning_rate", "misc/accuracy"} <= tags
    assert {"lfw/accuracy", "lfw/auc"} <= tags


@pytest.mark.slow
def test_main_takes_the_averages(run):
    """main.py loads a run directory as its identity network: averaged weights and statistics, its standardisation."""
    config, _ = get_config(words(**NARROW, pretrained_rec=run.whole_dir, model_def="small", image_size=32,
                                 embedding_size=8, generate_dataset=True))
    trainer = Trainer(config)
    trainer.build_model(synthesis=True)
    variables = trainer.networks.classifier_variables
    values = dict(zip([v.op.name for v in variables], trainer.session.run(variables)))
    trainer.close()
    saved = read_checkpoint(run.whole_dir / "model.ckpt-30")
    assert len(values) == 24 and trainer.networks.view.standardization == "image"
    for name, value in values.items():
        assert np.array_equal(value, saved[name + "/ExponentialMovingAverage"])
        assert not np.array_equal(value, saved[name])


# Verify

@pytest.mark.slow
def test_verify_writes_table_plots_and_json(run, data, tmp_path):
    result = TOOL.succeed("verify", *words(weights=run.whole_dir, images=data / "others", output=tmp_path / "out",
                                           nrof_folds=3), "--baselines")
    written = json.loads((tmp_path / "out" / "verification.json").read_text())
    assert list(written["results"]) == ["classifier", "random network", "bare pixels"]
    assert written["people"] == 4 and written["pairs"] == 48 and written["folds"] == 3
    options = written["options"]
    assert options["image_size"] == 32 and options["input_scale_size"] == 36        # the run's
    assert options["command"] == "verify" and options["model_def"] == "small" and options["embedding_size"] == 8
    said = f"{run.whole_dir}: its options are taken where none is given: --image_size 32 --input_scale_size 36"
    assert [line.partition("] ")[2] for line in result.err.splitlines() if "are taken" in line] == [said]
    for name, row in written["results"].items():
        line = next(line for line in result.out.splitlines() if line.startswith(name))
        numbers = "accuracy", "accuracy_std", "auc", "eer", "tar_at_far_0.01", "tar_at_far_0.001"
        assert [f"{row[key]:.4f}" for key in numbers] == [
            word for word in line.removeprefix(name).split() if word != "+-"]
    drawn = ["distances.png", "roc.png"] if charts.available() else []
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [*drawn, "verification.json"]
    for name in drawn:
        Image.open(tmp_path / "out" / name).verify()


@pytest.fixture
def good(tmp_path):
    """A run's folder, with whole weights of the network `small`, of 16 dimensions, and the run's params.json."""
    folder = tmp_path / "good"
    folder.mkdir()
    write_checkpoint(folder / "model.ckpt-7", small_classifier())
    (folder / "params.json").write_text('{"image_size": 40, "input_scale_size": 44, "batch_size": 7}')
    return folder


@pytest.mark.parametrize("path", ["good", "good/model.ckpt-7", "model.ckpt-7"])
def test_verify_takes_sizes_from_the_run(good, monkeypatch, path):
    """By its folder or a checkpoint in it, also from within; an option that is given wins, others are not taken."""
    monkeypatch.chdir(good if path == "model.ckpt-7" else good.parent)
    parsed = parse(VERIFY_COMMAND, words(weights=path, images="others"))
    options = parsed.options
    assert (options.image_size, options.input_scale_size, options.batch_size) == (40, 44, 32)
    assert parsed.notes == [f"{path}: its options are taken where none is given: --image_size 40 --input_scale_size 44"]
    parsed = parse(VERIFY_COMMAND, words(weights=path, images="others", size=50))
    assert (parsed.options.image_size, parsed.options.input_scale_size) == (40, 50)
    assert parsed.notes == [f"{path}: its options are taken where none is given: --image_size 40"]


def test_without_a_run_verify_leaves_the_sizes_open(good, tmp_path):
    (good / "params.json").unlink()
    for weights in (good, tmp_path / "nowhere"):
        parsed = parse(VERIFY_COMMAND, words(weights=weights, images="others"))
        assert parsed.options.image_size is parsed.options.input_scale_size is None and not parsed.notes


def test_verify_reads_its_weights_once(data, good, tmp_path, monkeypatch):
    """For the network, its standardisation and its values, and with baselines too."""
    sources, read = [], checkpoints.read
    monkeypatch.setattr(checkpoints, "read", lambda source, names: sources.append(source) or read(source, names))
    recognizer.main(["verify", *words(weights=good, images=data / "others", output=tmp_path / "out", nrof_folds=2),
                     "--baselines"])
    assert sources == [str(good / "model.ckpt-7")]
    assert json.loads((tmp_path / "out" / "verification.json").read_text())["options"]["image_size"] == 40


def test_verify_shows_what_standardization_asks_for(data, good, tmp_path):
    """With auto, that of the weights; another one that is given counts."""
    found = {}
    for given in ("auto", "image", "fixed"):
        recognizer.main(["verify", *words(weights=good, images=data / "others", output=tmp_path / given, nrof_folds=2,
                                          standardization=given)])
        written = json.loads((tmp_path / given / "verification.json").read_text())
        found[given] = written["options"]["standardization"], written["results"]["classifier"]["threshold"]
    assert found["auto"] == found["image"] and found["fixed"][0] == "fixed" and found["auto"][1] != found["fixed"][1]


# A dry run, and what a run keeps

def listed(out):
    """{heading: lines} of what --dry_run prints."""
    found = {}
    for line in out.splitlines():
        if not line.startswith(" "):
            lines = found.setdefault(line.rstrip(":"), [])
        else:
            lines.append(" ".join(line.split()))
    return found


def test_a_dry_run_tells_everything_and_writes_nothing(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(training, "ClassifierTrainer", None)
    before = tree(data)
    recognizer.main(["train", *words(**TRAIN, data_dir=data, log_dir=tmp_path / "runs", embedding_size=16),
                     "--synthetic", "generated", "--dry_run"])
    said = listed(capsys.readouterr().out)
    assert list(said) == ["Options that differ from the defaults", "Data", "Networks"]
    assert {"--model_def small", "--image_size 32", "--embedding_size 16", "--real real"} <= set(
        said["Options that differ from the defaults"])
    assert "--dry_run" not in str(said) and "batch_size" not in str(said)
    assert said["Data"] == [f"real {data / 'real'}: 20 images of 5 identities",
                            f"synthetic {data / 'generated'}: 9 images of 3 identities"]
    count = sum(value.size for value in small_classifier().values())
    assert said["Networks"] == [f"small {count:,} parameters"]
    assert not list(tmp_path.iterdir()) and tree(data) == before


@pytest.mark.slow
def test_a_dry_run_leaves_its_run_alone(run, monkeypatch, capsys):
    """With all of the run's options given, too."""
    monkeypatch.setattr(training, "ClassifierTrainer", None)
    before = tree(run.whole_dir)
    for options in ([], run.options):
        recognizer.main(["train", *options, *words(load_path=run.whole_dir), "--dry_run"])
        assert "--embedding_size 8" in listed(capsys.readouterr().out)["Options that differ from the defaults"]
    assert tree(run.whole_dir) == before


def no_start(**options):
    raise AssertionError("TensorFlow is started before everything is checked")


OTHERS = dict(model_def="inception_resnet_v1", width=.25, embedding_size=16, image_size=128, input_scale_size=120,
              optimizer="mom", standardization="fixed", crop="arcface", loss="arcface", shared_head=True)


@pytest.mark.parametrize("option", recognizer.STRUCTURAL)
def test_a_run_keeps_its_structure(data, tmp_path, monkeypatch, option):
    """Another value is an error, found before any image is read; the run's own may be given."""
    monkeypatch.setattr(recognizer, "start", no_start)
    own = dict(model_def="iresnet18", width=1.0, embedding_size=8, image_size=96, input_scale_size=108,
               optimizer="adam", standardization="image")
    (tmp_path / "params.json").write_text(json.dumps({**own, "real": "real", "synthetic": ["generated"],
                                                      "data_dir": str(tmp_path / "gone")}))
    # Of runs from before there were these options.
    own |= dict(loss="softmax_center", shared_head=False, crop="box")
    with pytest.raises(utils.UserError) as error:
        recognizer.main(["train", *words(load_path=tmp_path, **{option: OTHERS[option]})])
    assert str(error.value) == (
        f"--load_path {tmp_path}: trained with other options: {option} (run: {own[option]}, given: {OTHERS[option]}); "
        "give the run's, or start a new run")
    with pytest.raises(utils.UserError, match=r"^--real: no folder .*gone"):
        recognizer.main(["train", *words(load_path=tmp_path, **{option: own[option]})])


# Bad input

def main_here(*arguments):
    """Run recognizer.py in this process -> its exit status."""
    handlers = {number: signal.getsignal(number) for number in utils.SIGNALS}
    try:
        return program.run("recognizer.py", recognizer.main, list(arguments))
    except SystemExit as stop:
        return stop.code
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


LAST = [*registry.CLASSIFIERS][-1]
SCHEDULE = dict(TRAIN, learning_rate=-1, learning_rate_schedule_file="bad.txt")
BAD = [                     # command, options, what the line names
    ("train", dict(TRAIN, real="nowhere"), ["--real", "nowhere"]),
    ("train", dict(TRAIN, real="one"), ["one identity only"]),
    ("train", dict(TRAIN, real="generated"), ["--synthetic generated"]),
    ("train", dict(model_def="small"), ["--real"]),
    ("train", dict(TRAIN, image_sise=32), ["--image_sise", "--image_size"]),
    ("train", dict(TRAIN, optimizer="best"), ["--optimizer", "adagrad"]),
    ("train", dict(TRAIN, image_size=31), ["--image_size 31"]),
    ("train", dict(TRAIN, model_def="nn4"), ["--image_size 32", "nn4"]),
    ("train", dict(TRAIN, learning_rate=-1), ["--learning_rate_schedule_file"]),
    ("train", dict(TRAIN, learning_rate=0), ["--learning_rate"]),
    ("train", dict(TRAIN, learning_rate_schedule_file="bad.txt"), ["--learning_rate -1"]),
    ("train", SCHEDULE, ["bad.txt: line 2"]),
    ("train", dict(SCHEDULE, learning_rate_schedule_file="nowhere"), ["nowhere", "not there"]),
    ("train", dict(TRAIN, score_weights="original"), ["--synthetic"]),
    ("train", dict(TRAIN, loss="triplet"), ["--loss triplet", "adaface"]),
    ("train", dict(TRAIN, margin=2), ["--margin 2"]),
    ("train", dict(TRAIN, scale=0), ["--scale 0"]),
    ("train", dict(TRAIN, loss="adaface", batch_size=1), ["--batch_size 1", "2 or more"]),
    ("train", dict(TRAIN, shared_head=True), ["--shared_head", "--synthetic"]),
    ("train", dict(TRAIN, random_erasing=1.5), ["--random_erasing 1.5"]),
    ("train", dict(TRAIN, learning_rate_drops=0), ["--learning_rate_drops 0"]),
    ("train", dict(TRAIN, learning_rate_drops=3, learning_rate_decay_factor=.5), ["--learning_rate_drops", "give one"]),
    ("train", dict(TRAIN, lfw_pairs="bad.txt"), ["--lfw_dir"]),
    ("train", dict(TRAIN, lfw_dir="one"), ["one", "too few"]),
    ("train", dict(TRAIN, load_path="nowhere"), ["--load_path nowhere"]),
    ("train", dict(TRAIN, load_path="run", embedding_size=128), ["--load_path", "embedding_size (run: 8, given: 128)"]),
    ("train", dict(TRAIN, load_path="broken"), ["broken", "params.json", "can't be read"]),
    ("train", dict(TRAIN, load_path="odd"), ["odd: embedding_size", "--embedding_size"]),
    ("train", dict(TRAIN, filter_filename="bad.txt"), ["--filter_percentile", "both"]),
    ("train", dict(TRAIN, synthetic="real"), ["named twice"]),
    ("train", dict(TRAIN, load_path="real"), ["--load_path real"]),
    ("train", dict(TRAIN, filter_min_nrof_images_per_class=9), ["no image is left"]),
    ("train", dict(TRAIN, filter_filename="bad.txt", filter_percentile=90), ["--filter_filename bad.txt"]),
    ("train", dict(TRAIN, log_dir="bad.txt"), ["--log_dir"]),
    ("train", dict(TRAIN, preset="paper"), ["--preset paper", "recognizer.py train"]),
    ("verify", dict(weights="alien-1"), ["--images"]),
    ("verify", dict(images="others"), ["--weights"]),
    ("verify", dict(weights="nowhere", images="others"), ["--weights nowhere", "no weights"]),
    ("verify", dict(weights="alien", images="nowhere"), ["--images", "nowhere"]),
    ("verify", dict(weights="good", images="others", image_size=32, output="bad.txt"), ["--output bad.txt"]),
    ("verify", dict(weights="good", images="others", output="bad.txt/new"), ["--output bad.txt/new"]),
    ("verify", dict(weights="broken", images="others"), ["broken", "params.json", "can't be read"]),
    ("convert", dict(input="bad.txt"), ["--output"]),
    ("convert", dict(input="bad.txt", output="new"), ["bad.txt", "torch"]),
    ("convert", dict(input="bad.txt", output="bad.txt"), ["--output bad.txt", "can't write"]),
    ("guess", {}, ["guess", "no such command"]),
    ("", {}, ["train, verify, convert"])]
# The same, and no image is decoded before.
BAD_BEFORE_IMAGES = [
    ("train", dict(TRAIN, synthetic="nowhere"), ["--synthetic", "nowhere"]),
    ("train", dict(TRAIN, lfw_dir="nowhere"), ["--lfw_dir", "nowhere"]),
    ("train", dict(TRAIN, lfw_dir="others", lfw_pairs="bad.txt"), ["--lfw_pairs bad.txt", "not pairs"]),
    ("train", dict(TRAIN, load_path="cut"), ["--load_path cut: no whole checkpoint", "model.ckpt-1.index: empty"]),
    ("verify", dict(weights="alien", images="others"), ["--weights alien", "neither nn4", f"nor {LAST}"]),
    ("verify", dict(weights="good", images="others", image_size=40, pairs="bad.txt"), ["--pairs bad.txt", "not pairs"]),
    ("verify", dict(weights="cut", images="others"), ["--weights cut: no whole checkpoint"]),
    ("verify", dict(weights="gan", images="others"), ["--weights gan", "neither nn4", f"nor {LAST}"])]
BAD += BAD_BEFORE_IMAGES


@pytest.mark.parametrize("case", BAD, ids=[f"{row[0]}-{'-'.join(row[2])}" for row in BAD])
def test_bad_input(data, tmp_path, monkeypatch, capsys, case):
    """In this process: before TensorFlow is started, with nothing written."""
    command, options, named = case
    for path in data.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "bad.txt").write_text("1: 0.1\n1 0.2\n")
    for name, params in (("run", '{"embedding_size": 8}'), ("cut", "{}"), ("broken", "{"),
                         ("odd", '{"embedding_size": "8 or so"}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "params.json").write_text(params)
        (tmp_path / name / "model.ckpt-1.index").touch()
    if "gan" in options.values():
        generator = {"G_inf/c7s1_32/weights": np.zeros([7, 7, 3, 4], np.float32)}
        write_checkpoint(tmp_path / "gan" / "model.ckpt-3", generator)
        (tmp_path / "gan" / "params.json").write_text('{"conv_hidden_num": 4, "input_scale_size": 16}')
    if "alien" in str(options):
        write_checkpoint(tmp_path / "alien-1", {"a": np.zeros(3, np.float32)})
    if "good" in str(options):
        write_checkpoint(tmp_path / "good-1", small_classifier())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(recognizer, "start", no_start)
    if case in BAD_BEFORE_IMAGES:
        monkeypatch.setattr(image_sets, "read_picture", None)
    before = tree(tmp_path)
    status = main_here(*([command] if command else []), *words(
        **({"data_dir": "."} if command == "train" else {}), **options))
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("recognizer.py")]
    assert status == 2 and len(lines) == 1 and ": error: " in lines[0]
    assert all(word in lines[0] for word in named), lines
    assert tree(tmp_path) == before


def test_convert_keeps_the_checkpoints_that_are_there(good, tmp_path, monkeypatch):
    """Refused before the weights are read, which may be large, and before TensorFlow is started."""
    monkeypatch.setattr(recognizer, "start", no_start)
    before = tree(good)
    with pytest.raises(utils.UserError, match=r"^--output .*good: there are checkpoints already; name another folder$"):
        recognizer.main(["convert", *words(input=tmp_path / "nowhere.pt", output=good)])
    assert tree(good) == before


def test_other_identities_can_not_go_on(data, tmp_path, monkeypatch):
    monkeypatch.setattr(recognizer, "start", no_start)
    run = tmp_path / "run"
    run.mkdir()
    (run / "identities.json").write_text('{"real": ["1", "2"], "synthetic": []}')
    (run / "params.json").write_text("{}")
    with pytest.raises(utils.UserError, match="other identities"):
        recognizer.main(["train", *words(**TRAIN, data_dir=data, load_path=run)])


@pytest.mark.slow
def test_bad_input_is_found_before_tensorflow_is_loaded(data, tmp_path):
    result = TOOL.run("train", *words(**TRAIN, data_dir=data, lfw_dir=data / "one"), cwd=tmp_path)
    TOOL.refused(result, "too few")
    assert "oneDNN" not in result.err and "absl" not in result.err and not list(tmp_path.iterdir())


def test_main_says_which_network_there_is(tmp_path, caplog):
    """Another network is refused with the options to give, another size of its input is warned of."""
    write_checkpoint(tmp_path / "model-1", small_classifier())
    (tmp_path / "params.json").write_text('{"image_size": 64}')
    with pytest.raises(utils.UserError, match=r"give --model_def small --embedding_size 16$"):
        pretrained.read_for(get_config(words(pretrained_rec=tmp_path, model_def="nn4", image_size=96))[0])
    small = dict(pretrained_rec=tmp_path, model_def="small", embedding_size=16)
    pretrained.read_for(get_config(words(**small, image_size=64))[0])
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
    pretrained.read_for(get_config(words(**small, image_size=96))[0])
    assert "trained with --image_size 64, not 96" in caplog.text
    write_checkpoint(tmp_path / "alien-2", {"G_inf/a": np.zeros(3, np.float32)})
    with pytest.raises(utils.UserError, match="no classifier"):
        pretrained.read_for(get_config(words(pretrained_rec=tmp_path / "alien-2", image_size=96))[0])


def test_help_lists_every_option(capsys):
    for command, wanted in ((TRAIN_COMMAND, "--learning_rate_schedule_file"), (VERIFY_COMMAND, "--baselines"),
                            (CONVERT_COMMAND, "--input")):
        with pytest.raises(SystemExit) as stop:
            recognizer.main([command.name, "--help"])
        text = capsys.readouterr().out
        assert stop.value.code == 0 and wanted in text
        assert all(f"  {option.usage}\n" in text for option in command.by_name().values())


def test_help_says_what_is_needed(capsys):
    for command, needed in ((VERIFY_COMMAND, ["weights"]), (CONVERT_COMMAND, ["input", "output"])):
        with pytest.raises(SystemExit):
            recognizer.main([command.name, "--help"])
        assert capsys.readouterr().out.count("(needed)") == len(needed)
        assert [name for name, option in command.by_name().items() if option.needed] == needed


def test_help_alone_is_an_overview(capsys):
    with pytest.raises(SystemExit) as stop:
        recognizer.main(["--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0
    assert all(f"\n{command.name}: {command.purpose}" in text for command in recognizer.COMMANDS)


def test_a_schedule_s_rates(data):
    assert schedule.read_schedule(str(data / "schedule.txt")) == [(1, .05), (2, .01), (4, -1.)]


@pytest.mark.parametrize("line, table", [
    ("--learning_rate .5", [(0, .5)]),
    ("--learning_rate .1 --learning_rate_drops 12 20 24", [(0, .1), (13, .01), (21, .001), (25, .0001)])])
def test_drops_of_the_learning_rate(line, table):
    """A rate holds for as many whole epochs as the option says."""
    options = parse(TRAIN_COMMAND, ["--real", "real", *line.split()]).options
    found = schedule.table_of(options)
    assert [epoch for epoch, _ in found] == [epoch for epoch, _ in table]
    assert [rate for _, rate in found] == pytest.approx([rate for _, rate in table])
    assert classifier_rate(11, 1, found, 100, 1.) == options.learning_rate
    assert classifier_rate(12, 1, found, 100, 1.) == pytest.approx(dict(table).get(13, options.learning_rate))


def test_an_epoch_of_several_gpus_has_fewer_steps():
    faces = SimpleNamespace(real=SimpleNamespace(names=[""] * 100))
    for gpus, steps in ((1, 10), (2, 5), (3, 4)):
        options = parse(TRAIN_COMMAND, words(real="real", batch_size=10, num_gpu=gpus)).options
        assert schedule.length_of(options, faces, [(0, .1)]) == (100, steps)


def test_the_usual_margins_and_scales():
    """Those of the authors' code, and 64 is what all multiply by."""
    for loss, margin in (("arcface", .5), ("cosface", .4), ("adaface", .4), ("softmax_center", None)):
        options = parse(TRAIN_COMMAND, words(real="real", loss=loss)).options
        assert (options.margin, options.scale) == (margin, margin and 64)
    options = parse(TRAIN_COMMAND, words(real="real", loss="arcface", margin=0, scale=16)).options
    assert (options.margin, options.scale) == (0, 16)


def test_the_preset_arcface_is_the_published_recipe():
    options = parse(TRAIN_COMMAND, ["--preset", "arcface"]).options
    given = dict(model_def="iresnet50", width=1, embedding_size=512, image_size=112, input_scale_size=112,
                 standardization="arcface", loss="arcface", margin=.5, scale=64, optimizer="sgd", weight_decay=5e-4,
                 learning_rate=.1, batch_size=512, max_nrof_epochs=26, moving_average_decay=0, random_flip=True,
                 random_erasing=.2, augment_crop=.2, augment_resolution=.2, augment_color=.2)
    assert {name: getattr(options, name) for name in given} == given
    rates = [classifier_rate(epoch, 1, schedule.table_of(options), options.learning_rate_decay_epochs,
                             options.learning_rate_decay_factor) for epoch in range(26)]
    assert rates == pytest.approx([.1] * 12 + [.01] * 8 + [.001] * 4 + [.0001] * 2)


def test_gpus_that_are_not_there_are_a_warning(data, caplog, monkeypatch):
    monkeypatch.setattr(cautions, "count_gpus", lambda: 0)
    recognizer.main(["train", *words(**TRAIN, data_dir=data, num_gpu=2, dry_run=True)])
    assert [each.message for each in caplog.records if "--num_gpu 2" in each.message]


@pytest.mark.parametrize("text", ["", "1: -1\n", "2: .1\n1: .2\n", "1: nan\n", "1: .1: 2\n", "x: .1\n", "1: inf"])
def test_bad_schedules(tmp_path, text):
    (tmp_path / "schedule").write_text(text)
    with pytest.raises(utils.UserError, match=r"--learning_rate_schedule_file .*schedule: "):
        schedule.read_schedule(str(tmp_path / "schedule"))


def test_standardization_reaches_main_s_classifier(tmp_path):
    """By what the checkpoint says, or by the option."""
    write_checkpoint(tmp_path / "model-1", small_classifier() | {registry.FIXED: np.array(True)})
    small = dict(pretrained_rec=tmp_path / "model-1", model_def="small", embedding_size=16)
    for given, wanted in (("auto", "fixed"), ("image", "image"), ("fixed", "fixed")):
        config, _ = get_config(words(**small, standardization=given))
        assert pretrained.read_for(config).standardization == wanted
