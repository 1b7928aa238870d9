"""Bad input (preflight, config, main): status 2 and one line that says what, where and what to do, before long work."""
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import main
import preflight
from conftest import (
    HERE,
    NAMES,
    NARROW,
    only_run,
    products,
    Program,
    run,
    SMALL,
    small_classifier,
    steps_saved,
    words,
    write_checkpoint,
)
from datasets import image_sets
from tool import call, limit_files, succeed_here, Tool

TOOL = Tool("main.py")
BASE = {**NAMES, **NARROW, "data_dir": "data", "method_c": "none"}
MAGNET = {**SMALL, "method_c": "magnet", "pretrained_rec": "classifier"}


def copied(drawn, folder):
    shutil.copytree(drawn, folder)
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory, classifier):
    """{name: folder} of a classifier, of one under other names, and of a checkpoint of something else."""
    alien, other = (tmp_path_factory.mktemp(name) for name in ("alien", "other_scope"))
    write_checkpoint(alien / "model.ckpt-1", {"a": np.zeros(3, np.float32)})
    write_checkpoint(other / "model.ckpt-1", small_classifier("Other"))
    return {"classifier": Path(classifier).parent, "alien": alien, "other_scope": other}


@pytest.fixture
def place(tmp_path, drawn, weights, monkeypatch):
    """The working folder, with `data`, `weights`, a `file`, and a `run` whose only checkpoint is empty."""
    monkeypatch.chdir(tmp_path)
    copied(drawn, tmp_path / "data")
    for name, folder in weights.items():
        (tmp_path / name).symlink_to(folder)
    (tmp_path / "file").write_text("not a folder")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/model.ckpt-1.index").write_text("")
    return tmp_path


@pytest.fixture
def without_tensorflow(monkeypatch):
    """Fail where TensorFlow is asked for."""
    def start(xla, precision):
        raise AssertionError("TensorFlow is asked for")

    monkeypatch.setattr(main, "start", start)


@pytest.fixture
def undecoded(monkeypatch, without_tensorflow):
    """Fail where an image is decoded, or where TensorFlow is asked for."""
    def decode(*arguments):
        raise AssertionError("images are decoded")

    monkeypatch.setattr(image_sets, "read_picture", decode)
    monkeypatch.setattr(preflight, "check_images", decode)


def refused(options, *named):
    """Assert that main.py answers these options with one line that names `named`, and writes nothing."""
    def content():
        return {path: path.stat().st_mtime_ns for path in Path().rglob("*")}

    before = content()
    result = call(main, *words(**options))
    TOOL.refused(result, *named)
    assert result.out == "" and content() == before


# Data

def no_folder(data):
    shutil.rmtree(data / "real")


def empty_folder(data):
    no_folder(data)
    (data / "real").mkdir()


def no_identities(data):
    shutil.rmtree(data / "syn")
    (data / "syn").mkdir()
    Image.new("RGB", (16, 16)).save(data / "syn" / "1.png")


def one_identity(data):
    for folder in sorted((data / "syn").iterdir())[1:]:
        shutil.rmtree(folder)


def no_partners(data):
    shutil.rmtree(data / "paired" / "3dmm")


def all_broken(data):
    for path in (data / "paired" / "3dmm").iterdir():
        path.write_bytes(path.read_bytes()[:100])


def one_identity_unbroken(data):
    for path in data.glob("syn/*/*.jpg"):
        if path.parent.name != "00002":
            path.write_bytes(b"")


BAD_DATA = [                # what happens to the data, further options, what the line names
    (no_folder, {}, ["--dataset", "real"]),
    (empty_folder, {}, ["real", "no images"]),
    (no_identities, {}, ["syn", "no identities"]),
    (one_identity, MAGNET, ["one identity", "--method_c none"]),
    (no_partners, {}, ["paired", "no pairs", "3dmm"]),
]


@pytest.mark.parametrize("spoil, options, named", BAD_DATA, ids=[row[0].__name__ for row in BAD_DATA])
def test_bad_data(place, undecoded, spoil, options, named):
    spoil(place / "data")
    refused(BASE | options, *named)


@pytest.mark.parametrize("spoil, options, named", [
    (all_broken, {}, ["paired", "decoded"]), (one_identity_unbroken, MAGNET, ["one identity", "--method_c none"])])
def test_broken_images(place, without_tensorflow, spoil, options, named):
    spoil(place / "data")
    refused(BASE | options, *named)


# Options, folders, weights

SYNTHESIS = dict(generate_dataset=True, pretrained_gen="run")
BAD_OPTIONS = [             # options, what the line names
    (dict(data_dir="nowhere"), ["--dataset", "nowhere"]),
    (dict(input_scale_size=50), ["--input_scale_size 50", "multiple of 4", "52"]),
    (dict(input_scale_size=12), ["--input_scale_size 12"]),
    (dict(batchsize=3), ["--batchsize", "--batch_size"]),
    (dict(g_lr="fast"), ["--g_lr", "fast"]),
    (dict(gamma="nan"), ["--gamma", "nan"]),
    (dict(batch_size=0), ["--batch_size", "0"]),
    (dict(use_gpu="maybe"), ["--use_gpu", "maybe"]),
    (dict(preset="nowhere"), ["--preset nowhere", "cpu", "paper"]),
    (dict(log_dir="file"), ["--log_dir file"]),
    (dict(log_dir="file/logs"), ["--log_dir file/logs", "name a folder that can be written"]),
    (dict(log_dir="/proc/logs"), ["--log_dir /proc/logs"]),
    (dict(profile="file"), ["--profile file", "can't write there"]),
    (dict(load_path="nowhere"), ["--load_path nowhere"]),
    (dict(load_path="data"), ["--load_path data", "params.json"]),
    (dict(cont="gen"), ["--cont"]),
    (dict(cluster="nowhere.invalid:1,localhost:2", worker=1), ["nowhere.invalid:1", "no machine of this name"]),
    (dict(cluster="a:1,b:2", worker=0, generate_dataset=True), ["--cluster", "--shard"]),
    (dict(pretrained_gen="nowhere/model.ckpt"), ["--pretrained_gen nowhere/model.ckpt"]),
    (dict(pretrained_gen="run"), ["run: no whole checkpoint there", "model.ckpt-1.index: empty"]),
    (dict(pretrained_gen="alien"), ["alien: no generators in it"]),
    (dict(generate_dataset=True, pretrained_gen="alien"), ["alien: no generators in it"]),
    (dict(method_c="magnet"), ["--pretrained_rec", "--method_c none", "FaceNet"]),
    (dict(method_c="softmax", pretrained_rec="nowhere/model"), ["--pretrained_rec nowhere/model", "--method_c none"]),
    (dict(MAGNET, pretrained_rec="data"), ["--pretrained_rec data: no checkpoint there", "--method_c none"]),
    (dict(MAGNET, pretrained_rec="run"), ["--pretrained_rec run: no whole", "model.ckpt-1.index: empty"]),
    (dict(MAGNET, pretrained_rec="alien"), ["--pretrained_rec alien: no classifier", "recognizer.py train"]),
    (dict(MAGNET, pretrained_rec="other_scope"), ["other_scope: no classifier under InceptionResnetV1/"]),
    (dict(MAGNET, model_def="nn4", image_size=96), ["--pretrained_rec classifier: holds another network",
                                                    "--model_def small --embedding_size 16"]),
    (dict(MAGNET, embedding_size=8), ["--pretrained_rec classifier: holds another network", "--embedding_size 16"]),
    (dict(SYNTHESIS, **SMALL, pretrained_rec="alien"), ["--pretrained_rec alien: no classifier"]),
    (dict(generate_dataset=True), ["no weights", "--pretrained_gen"]),
    (dict(fit_dataset=True), ["no weights", "--pretrained_gen"]),
    (dict(is_train=False), ["no weights", "--pretrained_gen"]),
    (dict(is_train=False, test_data_path="nowhere"), ["--test_data_path", "nowhere"]),
    (dict(SYNTHESIS, save_syn_dataset="/dev/null/x"), ["--save_syn_dataset /dev/null/x", "can't write there"]),
    (dict(SYNTHESIS, save_syn_dataset="../file"), ["--save_syn_dataset data/../file", "can't write there"]),
    (dict(SYNTHESIS, fit_dataset=True, save_fitting="/dev/null/x"), ["--save_fitting /dev/null/x", "can't write"]),
    (dict(SYNTHESIS, save_syn_dataset="syn"), ["--save_syn_dataset syn", "--syn_dataset"]),
]


@pytest.mark.parametrize("options, named", BAD_OPTIONS, ids=["-".join(map(str, row[0])) for row in BAD_OPTIONS])
def test_bad_options(place, undecoded, options, named):
    refused(BASE | options, *named)


def test_of_several_mistakes_the_first_is_named(place, undecoded):
    """The run that is named, folders, outputs, the classifier, the folder of runs, images."""
    (place / "data/syn/00001/00001.jpg").write_bytes(b"")
    wrong = {"load_path": "nowhere", "dataset": "nowhere", "profile": "file", "pretrained_rec": "alien",
             "log_dir": "file"}
    for option, value in list(wrong.items()):
        refused(BASE | MAGNET | wrong, f"--{option}" if option != "dataset" else "--dataset: no folder", value)
        wrong = {name: value for name, value in wrong.items() if name != option}


# Runs and checkpoints of other networks, and damaged ones

@pytest.fixture
def bare(trained, place):
    """`bare`: a run's checkpoint without params.json, whose variables alone tell what networks they are of."""
    (place / "bare").mkdir()
    for path in trained.run_dir.glob("model.ckpt-200.*"):
        shutil.copy(path, place / "bare")
    return place / "bare"


WIDTHS = "conv_hidden_num_res", "num_res_rep", "conv_hidden_num", "z_num"


@pytest.mark.slow
@pytest.mark.parametrize("option", [*WIDTHS, "grayscale", "input_scale_size"])
def test_a_run_of_other_networks(place, trained, undecoded, option):
    given = {"grayscale": True, "input_scale_size": 32}.get(option, 3)
    options = BASE | {"load_path": trained.run_dir, option: given}
    for way in ({}, {"generate_dataset": True}, {"train_generator": True, "generate_dataset": True}):
        refused(options | way, f"{option} (run: ", f"given: {given})", "give the run's", trained.run_dir)


@pytest.mark.slow
@pytest.mark.parametrize("option", WIDTHS)
def test_a_bare_checkpoint_of_other_networks(place, bare, undecoded, option):
    options = BASE | {option: 3}
    was = {"num_res_rep": 1, "z_num": 8}.get(option, 4)
    for way in ({"pretrained_gen": "bare/model.ckpt-200"}, {"pretrained_gen": "bare", "generate_dataset": True},
                {"load_path": "bare"}, {"load_path": "bare", "generate_dataset": True}):
        refused(options | way, f"{option} (run: {was}, given: 3)", "give the run's", "bare")


@pytest.mark.slow
@pytest.mark.parametrize("option, given, was", [
    ("game", "hinge", "began"), ("upsampling", "resize", "transposed"), ("normalization", "none", "instance")])
def test_a_bare_checkpoint_of_another_game(place, bare, undecoded, option, given, was):
    for way in ({"pretrained_gen": "bare"}, {"load_path": "bare", "generate_dataset": True}):
        refused(BASE | {option: given} | way, f"{option} (run: {was}, given: {given})", "give the run's", "bare")


@pytest.mark.slow
def test_what_needs_no_discriminator_takes_any_of_its_widths(place, bare, monkeypatch):
    """Synthesis without scores, fitting and drawing samples get as far as TensorFlow."""
    class Reached(Exception):
        pass

    def start(xla, precision):
        raise Reached

    monkeypatch.setattr(main, "start", start)
    options = BASE | {"pretrained_gen": "bare", "conv_hidden_num": 3, "z_num": 3}
    for way in ({"generate_dataset": True, "scores": False}, {"fit_dataset": True}, {"is_train": False}):
        with pytest.raises(Reached):
            call(main, *words(**options | way))


@pytest.mark.slow
@pytest.mark.parametrize("ending, length, reason", [
    ("data-00000-of-00001", -1, "cut short"), ("data-00000-of-00001", 0, "cut short"), ("index", -20, "cut short"),
    ("index", 0, "empty")])
def test_a_truncated_checkpoint_is_refused_where_it_is_the_only_one(bare, undecoded, ending, length, reason):
    path = bare / f"model.ckpt-200.{ending}"
    path.write_bytes(path.read_bytes()[:length])
    for way in ({"pretrained_gen": "bare"}, {"pretrained_gen": "bare/model.ckpt-200", "generate_dataset": True},
                {"load_path": "bare"}, {"load_path": "bare", "fit_dataset": True}):
        weights = way.get("pretrained_gen", "bare")
        refused(BASE | way, f"{weights}: no whole checkpoint there", path.name, reason)


@pytest.mark.slow
def test_load_path_alone_tells_of_a_truncated_checkpoint(bare, trained, undecoded):
    """The run remembers where its data are."""
    shutil.copy(trained.run_dir / "params.json", bare)
    (bare / "model.ckpt-200.data-00000-of-00001").unlink()
    refused({"load_path": "bare"}, "bare: no whole checkpoint there", "model.ckpt-200.data-00000-of-00001: missing")


# As users meet it: whole processes

TIMED = """
import sys
import main
from cli import program
status = program.run("main.py", main.main, sys.argv[1:])
print({"tensorflow", "tensorflow.python"} & sys.modules.keys())
sys.exit(status)
"""


def test_a_missing_folder_is_named_within_two_seconds_and_without_tensorflow(place):
    shutil.rmtree("data/real")
    times = []
    for _ in range(3):                                      # other programs may be busy
        start = time.monotonic()
        result = run(cwd=place, **BASE)
        times.append(time.monotonic() - start)
    TOOL.refused(result, "--dataset", "real")
    assert min(times) < 2, times
    assert result.out == "" and len(result.err.splitlines()) == 1
    done = subprocess.run([sys.executable, "-c", TIMED, *words(**BASE)], cwd=place, capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(HERE.parent)})
    assert (done.returncode, done.stdout) == (2, "set()\n") and done.stderr == result.err


# Odd images

def odd_images(data):
    """Replace some images by ones of every odd kind that has to work, and break two."""
    real = sorted((data / "real").rglob("*.jpg"))
    rgba = np.dstack([np.full([16, 16, 3], 200, np.uint8), np.arange(256, dtype=np.uint8).reshape(16, 16)])
    kinds = [Image.fromarray(rgba), Image.fromarray(np.arange(256, dtype=np.uint16).reshape(16, 16) * 256),
             Image.new("L", (16, 16), 99), Image.new("P", (20, 12), 3), Image.new("LA", (16, 16), (50, 60))]
    for path, kind in zip(real, kinds):
        path.unlink()
        kind.save(path.with_suffix(".png"))
    real[5].unlink()
    Image.new("CMYK", (16, 16), (10, 20, 30, 40)).save(real[5])
    real[6].write_bytes(real[6].read_bytes()[:200])
    rendering = next((data / "syn").rglob("*.jpg"))
    rendering.write_bytes(b"no image")
    return real[6], rendering


@pytest.mark.slow
def test_odd_images_work_and_broken_ones_are_named_and_skipped(drawn, tmp_path):
    data = copied(drawn, tmp_path / "data")
    broken = odd_images(data)
    result = succeed_here(main, *words(**NAMES, **NARROW, data_dir=data, method_c="none", batch_size=10, max_step=2,
                                       log_dir=tmp_path / "logs"))
    for path in broken:
        named = [line for line in result.err.splitlines() if "skipped" in line and str(path.relative_to(data)) in line]
        assert len(named) == 1, result.err[-3000:]


# A full disk

@pytest.mark.slow
def test_disk_full_while_saving_a_checkpoint(drawn, tmp_path):
    """The events file and the sheets fit, the checkpoint does not."""
    options = {**NAMES, **NARROW, "conv_hidden_num": 128, "data_dir": drawn, "method_c": "none", "batch_size": 1,
               "max_step": 1, "log_dir": tmp_path / "logs"}
    result = Program(preexec_fn=limit_files(20_000_000), **options).finish()
    TOOL.refused(result, "model.ckpt-1", "can't write the checkpoint")
    assert not [path for path in only_run(tmp_path / "logs").iterdir() if "model.ckpt" in path.name]


@pytest.mark.long
@pytest.mark.slow
def test_a_disk_that_is_full_for_a_while(drawn, tmp_path):
    """Checkpoints that do not fit are warnings, and the training goes on until there is room again."""
    options = {**NAMES, **NARROW, "conv_hidden_num": 128, "data_dir": drawn, "method_c": "none", "batch_size": 1,
               "max_step": 4, "checkpoint_step": 1, "log_step": 1, "log_dir": tmp_path / "logs"}
    limited = Program(preexec_fn=limit_files(20_000_000, hard=resource.RLIM_INFINITY), **options)
    limited.read_until("model.ckpt-1: can't write the checkpoint")
    resource.prlimit(limited.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    result, run_dir = limited.finish(), only_run(tmp_path / "logs")
    assert result.status == 0 and steps_saved(run_dir)[-1] == 4 and steps_saved(run_dir)[0] > 1, result.err
    lines = [line for line in result.err.splitlines() if "can't write the checkpoint" in line]
    assert lines and all(line.endswith("the training goes on, and tries again later") for line in lines)
    assert not list(run_dir.glob(".tmp-*"))


@pytest.mark.slow
def test_disk_full_while_writing_images(drawn, trained, tmp_path):
    out = tmp_path / "out"
    options = {**NAMES, **NARROW, "data_dir": drawn, "generate_dataset": True, "save_syn_dataset": out,
               "load_path": trained.run_dir}
    result = Program(preexec_fn=limit_files(500), **options).finish()
    TOOL.refused(result, "can't write the image")
    assert not products(out)
