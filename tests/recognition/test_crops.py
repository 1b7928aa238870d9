"""The kind of crops that a classifier is shown: told by settings.json, remembered by its run, warned of where mixed."""
import json
import types
from pathlib import Path

import numpy as np
import pytest

import preflight
import recognizer
from cli.options import parse
from config import get_config
from conftest import draw_face, NAMES, NARROW, SMALL, small_classifier, words, write
from recognition import input_size, pretrained, registry, training, training_graph
from synthesis import products
from utils import UserError

TRAIN, VERIFY, _ = recognizer.COMMANDS


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Make empty folders `box`, without settings, and `five`, whose settings.json tells of ArcFace's template."""
    monkeypatch.chdir(tmp_path)
    for name, settings in (("box", None), ("five", {"crop": "arcface"})):
        (tmp_path / name).mkdir()
        if settings:
            (tmp_path / name / "settings.json").write_text(json.dumps(settings))
    return tmp_path


def train_options(data, **more):
    return parse(TRAIN, words(data_dir=data, **more)).options


@pytest.mark.parametrize("given, crop, side", [
    (dict(real="box"), "box", 108), (dict(real="five"), "arcface", 96), (dict(synthetic="five"), "arcface", 96),
    (dict(real="box", synthetic="five"), "box", 108), (dict(real="five", crop="box"), "box", 108),
    (dict(real="box", crop="arcface", image_size=64, model_def="small"), "arcface", 64),
    (dict(real="five", input_scale_size=120), "arcface", 120), (dict(real="none"), "box", 108)])
def test_training_sees_crops_as_its_data_say(data, given, crop, side):
    options = train_options(data, **given)
    assert (options.crop, options.input_scale_size) == (crop, side)
    view = training_graph.view_of(options)
    assert view.window == (None if crop == "box" else input_size.Window(0, 0, 1, 1))


@pytest.mark.parametrize("given, warned", [
    (dict(real="box", synthetic="five"), True), (dict(real="five", lfw_dir="box"), True), (dict(real="five"), False),
    (dict(real="box", synthetic="five", crop="box"), False)])
def test_a_training_on_mixed_crops_is_told_in_one_line(data, given, warned, caplog):
    with pytest.raises(UserError):                              # there is no image
        recognizer.main(["train", *words(data_dir=data, **given)])
    lines = [record.getMessage() for record in caplog.records if "mixed" in record.getMessage()]
    assert len(lines) == warned and all("box" in line and "arcface" in line for line in lines)


@pytest.mark.parametrize("settings, window", [
    (None, "same"), ({"command": "align.py"}, ("arcface", "box")), ({"template": "arcface"}, "same")])
def test_other_people_are_seen_in_the_window_of_their_crops(data, monkeypatch, settings, window):
    """Of a training's --lfw_dir, by its own settings.json; without one, its crops are as those of the training."""
    for folder in ("five", "lfw"):
        for person in ("1", "2"):
            for number in (1, 2):
                write(str(data / folder / person), f"{number}.jpg", draw_face(int(person), number, 32, photo=True))
    if settings:
        (data / "lfw/settings.json").write_text(json.dumps(settings))
    seen = []
    monkeypatch.setattr(training_graph, "Embedder", lambda recipe, count: seen.append(recipe.view.window))
    monkeypatch.setattr(training.ClassifierTrainer, "train", lambda *_: types.SimpleNamespace(folder="run"))
    options = {**SMALL, "data_dir": data, "real": "five", "lfw_dir": "lfw", "lfw_nrof_folds": 2, "log_dir": "runs"}
    recognizer.main(["train", *words(**options)])
    assert seen == [input_size.window_for(*(("arcface", "arcface") if window == "same" else window))]


def make_run(folder, **params):
    """Write a run of `small` with these options, whose checkpoint is no whole one."""
    folder.mkdir()
    (folder / "params.json").write_text(json.dumps({"command": "train", **params}))
    (folder / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-1"\n')
    for ending in ("index", "data-00000-of-00001", "meta"):
        (folder / f"model.ckpt-1.{ending}").write_bytes(b"")
    return folder


@pytest.mark.parametrize("params, step, native", [
    ({"crop": "arcface"}, True, "arcface"), ({"crop": "box"}, True, "box"), ({}, True, "box"),
    ({"crop": "arcface"}, False, "box"), ({"crop": ["x"]}, True, "box")])
def test_a_run_tells_on_which_crops_it_was_trained(data, monkeypatch, params, step, native):
    run = make_run(data / "run", **params)
    values = small_classifier() | ({registry.STEP: np.int32(1)} if step else {})
    monkeypatch.setattr(pretrained, "_read_file", lambda path, option, scope: (str(run / "model.ckpt-1"), values))
    weights = pretrained.read(str(run), "--weights")
    assert weights.native == native
    options = types.SimpleNamespace(image_size=96)
    for crop in input_size.CROPS:
        assert pretrained.view_for(options, weights, crop).window == input_size.window_for(native, crop)


@pytest.mark.parametrize("crop, images, given, expected", [
    ("box", "box", {}, ("box", 108)), ("box", "five", {}, ("arcface", None)), ("arcface", "five", {}, ("arcface", 108)),
    (None, "box", {}, ("box", 108)), (None, "five", {}, ("arcface", None)),
    ("box", "five", {"crop": "box"}, ("box", 108)), ("box", "five", {"input_scale_size": 90}, ("arcface", 90))])
def test_verify_takes_the_run_s_side_for_crops_of_its_kind(data, crop, images, given, expected):
    """Of other crops the window holds another part, so that its side follows from that."""
    run = make_run(data / "run", image_size=96, input_scale_size=108, **({"crop": crop} if crop else {}))
    options = parse(VERIFY, words(weights=run, images=data / images, **given)).options
    assert (options.crop, options.input_scale_size) == expected


@pytest.mark.parametrize("kinds, crop", [
    ({}, "box"), (dict.fromkeys(("real", "syn", "paired"), "arcface"), "arcface"), ({"syn": "arcface"}, "arcface"),
    ({"real": "arcface"}, "box")])
def test_main_py_shows_the_classifier_what_the_renderings_are(data, monkeypatch, caplog, kinds, crop):
    for folder in ("real", "paired", "paired/3dmm", "syn/1", "syn/2"):
        write("data", f"{folder}/1.png", draw_face(1, 1, 16, photo=False))
    for folder, kind in kinds.items():
        Path("data", folder, "settings.json").write_text(json.dumps({"command": "align.py", "template": kind}))
    config = get_config(words(**{**NAMES, **NARROW, **SMALL, "data_dir": "data", "method_c": "none"}))[0]
    work = preflight.check(config)
    assert work.crop == crop
    mixed = [record.getMessage() for record in caplog.records if "mixed" in record.getMessage()]
    assert len(mixed) == (len(kinds) == 1)
    config.generate_dataset = True
    product, = products.products_of(config, work.data)
    assert products.settings_of(config, product, None)["template"] == kinds.get("syn", "box")
