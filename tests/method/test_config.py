"""config.py: defaults, every value read, bad ones answered by one line, old spellings, presets, what runs remember."""
import json
import logging
import os
from argparse import Namespace

import pytest

import config as config_module
from cli.options import preset_names, PRESETS
from config import COMMAND, get_config, read_command_line, structural_differences
from engine import runs
from utils import UserError

# SPEC's table, then the options of ours.
DEFAULTS = dict(
    preset=None, dry_run=False,
    input_scale_size=64, syn_scale_size=64, conv_hidden_num=64, conv_hidden_num_res=32, num_res_rep=3, z_num=64,
    upsampling="transposed", normalization="instance", game="began", d_scales=1, d_layers="3", background="black",
    data_dir="data", dataset="vgg-aligned-64", syn_dataset="syn_lsfm-64", dataset_3dmm="paired_data-64",
    dataset_3dmm_test="AFLW-test", split="", batch_size=16, grayscale=False, num_worker=4, num_gpu=1, test_data_path="",
    train_generator=True, generate_dataset=False, fit_dataset=False, is_train=True, cont="", load_path="",
    pretrained_gen="", save_syn_dataset="generated", save_fitting="fitting", overwrite=False, task=None, shard=None,
    sample_per_image=1,
    max_step=248000, lr_update_step=128000, lr_lower_boundary=5e-6, warm_up=5000, g_lr=8e-5, d_lr=8e-5,
    optimizer="adam", beta1=.9, beta2=.999, average_decay=.9999, augment="none", r1=0., use_gpu=True, random_seed=123,
    gamma=.5, lambda_k=.001, lambda_d=.5, lambda_s=.5, lambda_p=.1, lambda_f=0., lambda_m=0., lambda_e=0.,
    lambda_c=.001, lambda_c_upper=.001, pixel_loss="absolute", chroma_weight=0., loosen_step=0,
    method_c="magnet", relax_c=False, pretrained_rec="", model_def="nn4", embedding_size=128, keep_probability=1.,
    weight_decay=0., center_loss_alfa=.95, facenet_scope="InceptionResnetV1", image_size=96, standardization="auto",
    log_dir="logs", log_step=50, save_step=20, num_log_id=16, num_log_samples=8, log_level="INFO",
    dropout_keep=.9, scores=True, judge=False, generation_dropout=True, random_crop=True, random_flip=True,
    checkpoint_step=1000, keep_every=0, checkpoint_minutes=10., patience=600.,
    precision="float32", xla=False, profile="", cluster="", worker=None, collective_timeout=300., collectives="auto")

# Another good value of every option: what is typed, and what the program gets.
OTHERS = dict(
    preset=("cpu", "cpu"), dry_run=("yes", True),
    input_scale_size=("108", 108), syn_scale_size=("64", 64), conv_hidden_num=("7", 7), conv_hidden_num_res=("5", 5),
    num_res_rep=("1", 1), z_num=("9", 9), dropout_keep=("1", 1.),
    upsampling=("Resize", "resize"), normalization=("None", "none"),
    game=("hinge", "hinge"), d_scales=("2", 2), d_layers=("3, 1", "1,3"), background=("noise", "noise"),
    data_dir=("d", "d"), dataset=("photos", "photos"), syn_dataset=("syn", "syn"), dataset_3dmm=("p", "p"),
    dataset_3dmm_test=("q", "q"), split=("train", "train"), batch_size=("2", 2), grayscale=("yes", True),
    num_worker=("1", 1), num_gpu=("2", 2), test_data_path=("t", "t"),
    train_generator=("True", True), generate_dataset=("true", True), fit_dataset=("1", True), is_train=("no", False),
    cont=("gen", "gen"), load_path=("logs/run", "logs/run"), pretrained_gen=("r/model.ckpt", "r/model.ckpt"),
    save_syn_dataset=("g", "g"), save_fitting=("f", "f"), overwrite=("True", True), task=("mine", "mine"),
    shard=("2/5", (2, 5)),
    sample_per_image=("3", 3),
    scores=("FALSE", False), judge=("True", True), generation_dropout=("0", False),
    max_step=("6", 6), lr_update_step=("3", 3), lr_lower_boundary=("0", 0.), warm_up=("1", 1), g_lr=("1e-4", 1e-4),
    d_lr=("2e-4", 2e-4), optimizer=("SGD", "sgd"), beta1=("0", 0.), beta2=(".9", .9),
    average_decay=("0", 0.), augment=("Shift, color", "shift,color"), r1=("1e-1", .1), use_gpu=("No", False),
    random_seed=("2147483647", 2 ** 31 - 1),
    gamma=("1", 1.), lambda_k=("0", 0.), lambda_d=("0", 0.), lambda_s=("2", 2.), lambda_p=("3", 3.),
    lambda_f=("2", 2.), lambda_m=("3", 3.), lambda_e=("5", 5.), lambda_c=("0", 0.), lambda_c_upper=("7", 7.),
    pixel_loss=("Squared", "squared"), chroma_weight=("2", 2.), loosen_step=("5", 5),
    method_c=("center", "center"), relax_c=("True", True),
    pretrained_rec=("w", "w"), model_def=("small", "small"), embedding_size=("8", 8), keep_probability=(".8", .8),
    weight_decay=("1e-4", 1e-4), center_loss_alfa=("1", 1.), facenet_scope=("Scope", "Scope"), image_size=("65", 65),
    standardization=("Fixed", "fixed"),
    random_crop=("False", False), random_flip=("False", False),
    log_dir=("runs", "runs"), log_step=("10", 10), save_step=("2", 2), checkpoint_step=("5", 5), keep_every=("4", 4),
    checkpoint_minutes=("0", 0.), patience=("1.5", 1.5),
    num_log_id=("3", 3), num_log_samples=("2", 2), log_level=("debug", "DEBUG"),
    precision=("BFloat16", "bfloat16"), xla=("1", True), profile=("t", "t"),
    cluster=("a:1,b:2", "a:1,b:2"), worker=("1", 1), collective_timeout=("60", 60.), collectives=("Ring", "ring"))

NEEDED = {"cluster": "--worker 1", "worker": "--cluster a:1,b:2"}        # what an option can't be without
BOOLS = [name for name, value in DEFAULTS.items() if isinstance(value, bool)]

BAD = [
    *((name, value) for name in BOOLS for value in ("maybe", "2", "")),
    *((name, value) for value in ("0", "-1", "1.5", "ten", "nan") for name in (
        "conv_hidden_num", "conv_hidden_num_res", "num_res_rep", "z_num", "batch_size", "num_worker", "num_gpu",
        "sample_per_image", "d_scales", "max_step", "lr_update_step", "warm_up", "embedding_size",
        "log_step", "save_step", "num_log_id", "num_log_samples")),
    *((name, value) for value in ("-1", "-1e-3", "nan", "inf", "-inf", "much") for name in (
        "lr_lower_boundary", "lambda_k", "lambda_d", "lambda_s", "lambda_p", "lambda_f", "lambda_m", "lambda_e",
        "lambda_c", "lambda_c_upper", "chroma_weight", "average_decay", "r1", "weight_decay", "g_lr", "d_lr", "gamma",
        "keep_probability", "dropout_keep", "center_loss_alfa", "beta1", "beta2", "checkpoint_minutes", "patience")),
    *((name, "0") for name in ("g_lr", "d_lr", "gamma", "keep_probability", "dropout_keep")),
    *((name, "1.1") for name in ("keep_probability", "dropout_keep", "center_loss_alfa", "beta1", "beta2")),
    *((name, "1") for name in ("beta1", "beta2", "average_decay")),
    *(("augment", value) for value in ("", "blur", "shift,", "none,cut", "shift;cut")),
    *((name, value) for name in ("checkpoint_step", "keep_every", "loosen_step") for value in ("-1", "x")),
    *((name, value) for name in ("input_scale_size", "syn_scale_size") for value in ("50", "12", "0", "-4", "big")),
    *(("random_seed", value) for value in ("-1", "2147483648", "a")),
    *(("image_size", value) for value in ("31", "64", "97", "x")),
    *((name, "") for name in ("data_dir", "dataset", "syn_dataset", "dataset_3dmm", "dataset_3dmm_test", "task",
                              "save_syn_dataset", "save_fitting", "facenet_scope", "log_dir", "preset")),
    *(("d_layers", value) for value in ("0", "4", "", "1,", "1,1", "3;1")),
    ("game", "chess"), ("d_scales", "5"), ("upsampling", "bicubic"), ("normalization", "batch"), ("pixel_loss", "2"),
    ("optimizer", "lion"),
    ("method_c", "triplet"), ("model_def", "models.vgg"), ("cont", "rec"), ("log_level", "LOUD"),
    ("precision", "float16"), ("precision", "float"), ("cluster", "a:1,b:2"), ("cluster", "here"), ("worker", "0"),
    ("worker", "-1"), ("worker", "one"), ("collective_timeout", "4"), ("collective_timeout", "nan"),
    ("collectives", "mpi"),
    *(("shard", value) for value in ("0/4", "5/4", "2", "2/", "a/b", "1/2/3", "finished", "")),
    ("syn_scale_size", "108"), ("lambda_c_upper", "0.0001"), ("train_generator", "False"),
]


@pytest.fixture(scope="module", autouse=True)
def elsewhere(tmp_path_factory):
    """A working directory of these tests: there are no runs in its folder logs."""
    before = os.getcwd()
    os.chdir(tmp_path_factory.mktemp("elsewhere"))
    yield
    os.chdir(before)


def error_line(capsys, *argv):
    """The line that `argv` is answered with; asserts that it is the only one, and the exit status 2."""
    with pytest.raises(SystemExit) as exit:
        get_config(argv)
    captured = capsys.readouterr()
    assert exit.value.code == 2
    assert captured.out == ""
    assert captured.err.startswith("main.py: error: ") and captured.err.endswith("\n")
    assert captured.err.count("\n") == 1
    return captured.err.removeprefix("main.py: error: ").rstrip("\n")


def help_text(capsys):
    with pytest.raises(SystemExit) as exit:
        get_config(["--help"])
    assert exit.value.code == 0
    return capsys.readouterr().out


def test_defaults():
    config, unparsed = get_config([])
    assert vars(config) == DEFAULTS
    assert unparsed == []


def test_values_are_plain():
    values = vars(get_config([])[0])
    assert json.loads(json.dumps(values)) == values
    assert {name: type(value) for name, value in values.items()} == {n: type(v) for n, v in DEFAULTS.items()}


def test_every_option_is_tried_here():
    assert OTHERS.keys() == DEFAULTS.keys()


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("form", ["words", "equals"])
def test_value_is_read(name, form):
    typed, value = OTHERS[name]
    config, unparsed = get_config([*([f"--{name}", typed] if form == "words" else [f"--{name}={typed}"]),
                                   *NEEDED.get(name, "").split()])
    assert getattr(config, name) == value
    assert type(getattr(config, name)) is type(value)
    assert unparsed == []


def test_command_line_is_read_without_argv(monkeypatch):
    monkeypatch.setattr("sys.argv", ["main.py", "--batch_size", "3"])
    assert get_config()[0].batch_size == 3


@pytest.mark.parametrize("typed, value", [
    ("true", True), ("True", True), ("TRUE", True), ("1", True), ("yes", True), ("YES", True),
    ("false", False), ("False", False), ("FALSE", False), ("0", False), ("no", False), ("No", False)])
def test_bool_spellings(typed, value):
    assert get_config(["--grayscale", typed])[0].grayscale is value


@pytest.mark.parametrize("name", BOOLS)
def test_bare_bool_is_true(name):
    assert getattr(get_config([f"--{name}", "--batch_size", "2"])[0], name) is True


@pytest.mark.parametrize("name, value", BAD)
def test_bad_value(capsys, name, value):
    line = error_line(capsys, f"--{name}", value)
    assert line.startswith(f"--{name} {value}".strip())
    assert ":" in line


def test_bad_value_says_what_is_allowed(capsys):
    assert error_line(capsys, "--input_scale_size", "50") == \
        "--input_scale_size 50: must be a multiple of 4, 16 or more (try 52)"
    assert error_line(capsys, "--method_c", "x") == "--method_c x: must be one of none, magnet, softmax, center"
    assert error_line(capsys, "--batch_size", "a\nb") == r"--batch_size a\nb: must be a whole number from 1 to 65536"


@pytest.mark.parametrize("argv", [["--batch_size"], ["--batch_size", "--log_step", "5"]])
def test_missing_value(capsys, argv):
    assert error_line(capsys, *argv).startswith("--batch_size ")


@pytest.mark.parametrize("argv, named, suggested", [
    (["--bach_size", "3"], "--bach_size:", "--batch_size"),
    (["--bach_size=3"], "--bach_size:", "--batch_size"),
    (["--data-dir", "x"], "--data-dir:", "--data_dir"),
    (["--lambda", ".1"], "--lambda:", "--lambda_"),
    (["--qqqqqq"], "--qqqqqq:", "--help"),
    (["--batch", "3"], "--batch:", ""),
    (["-b", "3"], "-b:", ""),
    (["train"], "train:", ""),
    (["--dataset", "two", "words"], "words:", "")])
def test_unknown_option(capsys, argv, named, suggested):
    line = error_line(capsys, *argv)
    assert line.startswith(named)
    assert suggested in line


def test_old_options_are_accepted_and_reported():
    config, unparsed = get_config(["--ren_lr", "1e-4", "--learning_rate", "-1", "--lfw_pairs", "data/pairs.txt",
                                   "--log_histograms", "--batch_size", "2", "--no_store_revision_info"])
    assert set(unparsed) == {"ren_lr", "learning_rate", "lfw_pairs", "log_histograms", "no_store_revision_info"}
    assert vars(config) == {**DEFAULTS, "batch_size": 2}


@pytest.mark.parametrize("name", ["reg_lr", "logs_base_dir", "models_base_dir", "gpu_memory_fraction", "lfw_nrof_folds",
                                  "pretrained_model", "max_nrof_epochs", "alpha", "moving_average_decay"])
def test_old_option(name):
    assert get_config([f"--{name}", "anything"])[1] == [name]


def test_old_options_are_hidden_and_not_in_the_way():
    assert not set(config_module.LEGACY) & DEFAULTS.keys()
    assert len(set(config_module.LEGACY)) == len(config_module.LEGACY)


def test_help(capsys):
    text = help_text(capsys)
    positions = [text.index(f"\n{title}:") for title in
                 ("Network", "Data", "Mode", "Training", "Loss", "Identity", "Logging", "Speed")]
    assert positions == sorted(positions)
    shown = [line.split()[0] for line in text.splitlines() if line.startswith("  --")]
    assert sorted(shown) == sorted(f"--{name}" for name in DEFAULTS)
    assert text.count("(default:") == len(DEFAULTS)
    for name in config_module.LEGACY:
        assert f"--{name} " not in text


@pytest.mark.parametrize("given, trains", [
    ("", True),
    ("--generate_dataset True", False),
    ("--fit_dataset True", False),
    ("--generate_dataset False", True),
    ("--generate_dataset True --train_generator True", True),
    ("--generate_dataset True --train_generator False", False),
    ("--is_train False", False),
    ("--is_train False --train_generator True", False),
    ("--is_train False --train_generator False", False)])
def test_train_generator(given, trains):
    assert get_config(given.split())[0].train_generator is trains


@pytest.mark.parametrize("given, samples", [
    ("", 1), ("--test_data_path faces", 8), ("--test_data_path faces --sample_per_image 3", 3),
    ("--sample_per_image 2", 2)])
def test_sample_per_image(given, samples):
    assert get_config(given.split())[0].sample_per_image == samples


@pytest.mark.parametrize("given, name, value", [
    ("--input_scale_size 108", "syn_scale_size", 108),
    ("--input_scale_size 108 --syn_scale_size 108", "syn_scale_size", 108),
    ("--input_scale_size 16", "input_scale_size", 16),
    ("--lambda_c .5", "lambda_c_upper", .5),
    ("--lambda_c .0001", "lambda_c_upper", .001),
    ("--lambda_c .1 --lambda_c_upper .1", "lambda_c_upper", .1),
    ("--log_step 3 --save_step 4", "checkpoint_step", 12),
    ("--log_step 3 --checkpoint_step 5", "checkpoint_step", 5),
    ("--model_def models.nn4", "model_def", "nn4"),
    ("--model_def models.inception_resnet_v1 --image_size 160", "model_def", "inception_resnet_v1"),
    ("--model_def small --image_size 32", "image_size", 32),
    ("--relax_c --method_c softmax", "relax_c", True)])
def test_resolved(given, name, value):
    assert getattr(get_config(given.split())[0], name) == value


@pytest.mark.parametrize("spelling, name, value", [
    ("--seed 666", "random_seed", 666), ("--random_seed 666", "random_seed", 666), ("--seed=0", "random_seed", 0),
    ("--size 108", "input_scale_size", 108), ("--input_scale_size 108", "input_scale_size", 108),
    ("--workers 2", "num_worker", 2), ("--num_worker 2", "num_worker", 2),
    ("--num_worker 2 --workers 3", "num_worker", 3), ("--workers 3 --num_worker 2", "num_worker", 2)])
def test_synonyms(spelling, name, value):
    config = get_config(spelling.split())[0]
    assert getattr(config, name) == value
    assert vars(config).keys() == DEFAULTS.keys()


@pytest.mark.parametrize("argv, start", [
    (["--seed", "x"], "--random_seed x: must be"), (["--size", "50"], "--input_scale_size 50: must be"),
    (["--workers"], "--num_worker ")])
def test_a_mistake_names_the_option_whichever_synonym_is_typed(capsys, argv, start):
    assert error_line(capsys, *argv).startswith(start)


@pytest.mark.parametrize("model_def", ["nn4", "inception_resnet_v1", "small"])
@pytest.mark.parametrize("prefix", ["", "models.", "Models."])
def test_a_network_may_be_spelled_as_the_original_does(prefix, model_def):
    config, _ = get_config(["--model_def", prefix + model_def, "--image_size", "96"])
    assert config.model_def == model_def


@pytest.mark.parametrize("typed, value", [("gen", "gen"), ("GEN", "gen"), ("", "")])
def test_cont(typed, value):
    assert get_config(["--cont", typed])[0].cont == value


@pytest.mark.parametrize("given, start", [
    ("--relax_c True --method_c none", "--relax_c True: needs --method_c"),
    ("--lambda_c .01 --lambda_c_upper .001", "--lambda_c_upper 0.001: must not be below --lambda_c 0.01"),
    ("--syn_scale_size 64 --input_scale_size 108", "--syn_scale_size 64: must equal --input_scale_size 108"),
    ("--model_def nn4 --image_size 128", "--image_size 128: must be from 65 to 96 for --model_def nn4"),
    ("--model_def inception_resnet_v1 --image_size 74", "--image_size 74: must be from 75 up"),
    ("--generate_dataset True --save_syn_dataset syn_lsfm-64", "--save_syn_dataset syn_lsfm-64: must be another"),
    ("--fit_dataset True --dataset a --save_fitting ./a/", "--save_fitting ./a/: must be another"),
    ("--generate_dataset True --fit_dataset True --save_fitting generated", "--save_fitting generated: must be")])
def test_contradictions(capsys, given, start):
    assert error_line(capsys, *given.split()).startswith(start)


def test_a_generated_data_set_can_be_trained_on():
    assert get_config(["--dataset", "generated"])[0].train_generator


def test_structural_differences():
    saved = vars(get_config([])[0])
    assert structural_differences(get_config([])[0], saved) == []
    assert structural_differences(get_config(["--g_lr", "1", "--max_step", "3", "--log_dir", "x"])[0], saved) == []
    config, _ = get_config(["--input_scale_size", "108", "--optimizer", "sgd", "--relax_c"])
    assert structural_differences(config, saved) == [
        "input_scale_size (run: 64, given: 108)", "optimizer (run: adam, given: sgd)",
        "relax_c (run: False, given: True)"]


def test_structural_options_are_options():
    assert set(config_module.STRUCTURAL) < DEFAULTS.keys()


def test_classifier_is_structural_only_with_an_identity_loss():
    changed = "--model_def small --embedding_size 64 --facenet_scope other"
    saved = vars(get_config([])[0])
    assert len(structural_differences(get_config(changed.split())[0], saved)) == 3
    without = "--method_c none"
    saved = vars(get_config(without.split())[0])
    assert structural_differences(get_config(f"{changed} {without}".split())[0], saved) == []
    assert structural_differences(get_config([])[0], saved) == ["method_c (run: none, given: magnet)"]


@pytest.mark.parametrize("saved, differences", [
    ({"d_layers": 3}, []), ({}, []), ({"d_layers": "3"}, []), ({"d_layers": 2}, ["d_layers (run: 2, given: 3)"]),
    ({"d_layers": "1,3"}, ["d_layers (run: 1,3, given: 3)"])])
def test_old_runs_saved_the_layers_of_discriminators_as_a_number_or_not_at_all(saved, differences):
    assert structural_differences(get_config(["--game", "hinge"])[0], {"game": "hinge", **saved}) == differences


def test_only_the_name_of_a_classifier_loses_what_the_original_puts_before_it():
    config, _ = get_config(["--facenet_scope", "models.net"])
    assert structural_differences(config, vars(config)) == []


def test_structural_differences_of_a_run_of_the_original():
    assert structural_differences(get_config([])[0], {"model_def": "models.nn4", "ren_lr": 1e-4, "z_num": 64}) == []


# Presets

def preset(path, **sections):
    """Write a preset, {"main": {option: value}} or what else `sections` say -> its path."""
    path.write_text(json.dumps({name.replace("main", "main.py"): options for name, options in sections.items()}))
    return str(path)


@pytest.mark.parametrize("name", preset_names(COMMAND))
def test_a_preset_of_ours_is_taken_as_it_says(name):
    with open(os.path.join(PRESETS, f"{name}.json")) as file:
        section = json.load(file)["main.py"]
    parsed = read_command_line(["--preset", name])
    assert section and {option: getattr(parsed.options, option) for option in section} == section
    assert parsed.given == {"preset": name, **section} and parsed.notes == []


def test_a_preset_may_be_a_file_anywhere(tmp_path):
    section = {"batch_size": 3, "grayscale": True, "g_lr": "1e-3", "model_def": "models.nn4"}
    path = preset(tmp_path / "mine", main=section, other={"unknown": 1})
    config, _ = get_config(["--preset", path])
    assert vars(config) == {**DEFAULTS, "preset": path, "batch_size": 3, "grayscale": True, "g_lr": 1e-3}


def test_the_command_line_wins_over_a_preset(tmp_path):
    path = preset(tmp_path / "mine", main={"batch_size": 3, "input_scale_size": 16, "z_num": 0, "g_lr": 1e-3})
    for words in (["--preset", path, "--batch_size", "16", "--size", "32", "--z_num", "64"],
                  ["--z_num", "64", "--size", "32", "--batch_size", "16", "--preset", path]):
        config, _ = get_config(words)
        assert vars(config) == {**DEFAULTS, "preset": path, "g_lr": 1e-3, "input_scale_size": 32, "syn_scale_size": 32}


def test_a_preset_that_contradicts_the_command_line_is_a_mistake_of_the_command_line(tmp_path, capsys):
    path = preset(tmp_path / "mine", main={"relax_c": True})
    assert error_line(capsys, "--preset", path, "--method_c", "none").startswith("--relax_c True: needs --method_c")


@pytest.mark.parametrize("content, wanted", [
    ({"main.py": {"bach_size": 3}}, "--preset mine.json: main.py has no option bach_size; correct the name"),
    ({"main.py": {"batch_size": 0}}, "--preset mine.json: batch_size 0: must be a whole number from 1 to 65536; "),
    ({"main.py": {"batch_size": [3]}}, "--preset mine.json: batch_size [3]: must be one value; "),
    ({"main.py": {"grayscale": "maybe"}}, "--preset mine.json: grayscale maybe: must be true, false"),
    ({"recognizer.py train": {}}, "--preset mine.json: has no options of main.py; "),
    ({"main.py": 1}, "--preset mine.json: has no options of main.py; "),
    ([1], "--preset mine.json: has no options of main.py; "),
    ("{", "--preset mine.json: not JSON ("),
    (None, "--preset mine.json: neither one of arcface, cpu, demo, gpu, hour, paper nor a file that can be read "
           "(No such")])
def test_a_preset_that_is_wrong(tmp_path, monkeypatch, content, wanted):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / "mine.json").write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(UserError) as error:
        get_config(["--preset", "mine.json"])
    assert str(error.value).startswith(wanted) and "\n" not in str(error.value)


# What runs remember

def make_run(folder, **options):
    """Write a run of main.py, with an empty checkpoint, that differs from the defaults in `options` -> its path."""
    folder.mkdir(parents=True, exist_ok=True)
    size = options.get("input_scale_size", DEFAULTS["input_scale_size"])
    runs.save_config(Namespace(**{**DEFAULTS, "syn_scale_size": size, **options}), str(folder))
    (folder / "model.ckpt-5.index").touch()
    return str(folder)


@pytest.fixture
def logs(tmp_path, monkeypatch):
    """The folder `logs` of the working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "logs"


@pytest.mark.parametrize("run, preset_value, typed, wanted", [
    (None, None, None, 16), (2, None, None, 2), (None, 3, None, 3), (None, None, 4, 4),
    (2, 3, None, 3), (2, None, 4, 4), (None, 3, 4, 4), (2, 3, 4, 4), (2, 16, None, 16), (2, 3, 16, 16)])
def test_layers(logs, run, preset_value, typed, wanted):
    """Defaults, a run, a preset, the command line: the last that says something counts, also if it says the default."""
    words = []
    if run is not None:
        words += ["--load_path", make_run(logs / "run", batch_size=run)]
    if preset_value is not None:
        words += ["--preset", preset(logs.parent / "p.json", main={"batch_size": preset_value})]
    if typed is not None:
        words += ["--batch_size", str(typed)]
    assert get_config(words)[0].batch_size == wanted


@pytest.mark.parametrize("words", [
    "--load_path old", "--load_path logs/old", "--load_path logs/old --is_train False", "--cont gen --load_path old",
    "--load_path old --generate_dataset", "--load_path old --fit_dataset --train_generator",
    "--pretrained_gen old", "--pretrained_gen logs/old", "--pretrained_gen logs/old/model.ckpt-5",
    "--pretrained_gen old/model.ckpt-5 --generate_dataset", "--pretrained_gen old --is_train False"])
def test_the_options_of_the_run_that_is_named_are_taken(logs, words):
    make_run(logs / "old", z_num=5, batch_size=2)
    make_run(logs / "new", z_num=6)
    os.utime(logs / "old" / "model.ckpt-5.index", (1, 1))
    config, _ = get_config(words.split())
    assert (config.z_num, config.batch_size) == (5, 2)


@pytest.mark.parametrize("words, z_num", [
    ("", 64), ("--generate_dataset --train_generator", 64), ("--generate_dataset", 6), ("--fit_dataset", 6),
    ("--is_train False", 6), ("--cont gen", 6), ("--cont gen --generate_dataset", 6),
    ("--generate_dataset --log_dir others", 64), ("--load_path missing", 64), ("--pretrained_gen missing", 64),
    ("--generate_dataset --pretrained_gen missing", 64)])
def test_the_newest_run_counts_where_its_weights_are_used(logs, words, z_num):
    """It is preflight that complains of a run that is missing."""
    make_run(logs / "old", z_num=5)
    make_run(logs / "new", z_num=6)
    make_run(logs / "a_rec_0101_000000", z_num=7)               # of recognizer.py
    os.utime(logs / "old" / "model.ckpt-5.index", (1, 1))
    os.utime(logs / "new" / "model.ckpt-5.index", (2, 2))
    assert get_config(words.split())[0].z_num == z_num


def test_the_run_to_go_on_with_wins_over_the_one_to_start_from(logs):
    make_run(logs / "a", z_num=5, num_res_rep=2)
    make_run(logs / "b", z_num=6)
    config, _ = get_config(["--pretrained_gen", "a", "--load_path", "b"])
    assert (config.z_num, config.num_res_rep) == (6, 3)


@pytest.mark.parametrize("name", sorted(OTHERS.keys() - config_module.OF_THE_MOMENT))
def test_an_option_is_remembered(logs, name):
    _, value = OTHERS[name]
    make_run(logs / "run", **{name: value})
    assert getattr(get_config(["--load_path", "run"])[0], name) == value


def test_options_of_the_moment_are_not_remembered(logs):
    make_run(logs / "run", batch_size=2, **{name: OTHERS[name][1] for name in config_module.OF_THE_MOMENT})
    config, _ = get_config(["--load_path", "run"])
    assert vars(config) == {**DEFAULTS, "batch_size": 2, "load_path": "run"}


def test_options_of_the_moment_are_options():
    assert DEFAULTS.keys() > config_module.OF_THE_MOMENT


def test_what_an_option_names_now_is_not_taken_from_a_run(logs):
    """What the run was started from, and what else it was told to do, is its own past."""
    make_run(logs / "run", pretrained_gen="gone", load_path="gone", generate_dataset=True, train_generator=False)
    config, _ = get_config(["--load_path", "run"])
    assert (config.pretrained_gen, config.load_path, config.generate_dataset, config.train_generator) == (
        "", "run", False, True)


def test_a_run_of_the_original_tells_of_its_networks_alone(logs):
    """Its file holds options that its code did not follow, such as beta1; it spells others in its own way."""
    (logs / "run").mkdir(parents=True)
    saved = {"model_def": "models.inception_resnet_v1", "image_size": 96, "z_num": 128, "beta1": .5,
             "weight_decay": 5e-5, "ren_lr": 1e-4, "batch_size": 8, "lfw_pairs": "data/pairs.txt", "task": None}
    (logs / "run" / "params.json").write_text(json.dumps(saved))
    config, unparsed = get_config(["--load_path", "run"])
    assert (config.model_def, config.z_num, config.beta1, config.weight_decay, config.batch_size) == (
        "inception_resnet_v1", 128, .9, 0, 16)
    assert unparsed == []


def test_a_run_may_lack_options(logs):
    """As those of the original, and older ones of ours, do."""
    saved = {"input_scale_size": 32, "syn_scale_size": 32, "lambda_c": .001, "log_step": 50, "save_step": 20}
    for more in ({}, {"versions": {}}):
        (logs / "run").mkdir(parents=True, exist_ok=True)
        (logs / "run" / "params.json").write_text(json.dumps({**saved, **more}))
        config, _ = get_config(["--load_path", "run"])
        assert vars(config) == {**DEFAULTS, "load_path": "run", "input_scale_size": 32, "syn_scale_size": 32}


@pytest.mark.parametrize("path", ["rec", "rec/model.ckpt-5", "rec/frozen.pb"])
def test_a_classifiers_run_tells_of_its_network_alone(logs, path):
    folder = logs.parent / "rec"
    make_run(folder, model_def="small", embedding_size=16, image_size=40, batch_size=90, input_scale_size=44)
    (folder / "frozen.pb").touch()
    config, _ = get_config(["--pretrained_rec", path])
    assert vars(config) == {**DEFAULTS, "pretrained_rec": path, "model_def": "small", "embedding_size": 16,
                            "image_size": 40}
    config, _ = get_config(["--pretrained_rec", path, "--model_def", "nn4", "--image_size", "96"])
    assert (config.model_def, config.embedding_size, config.image_size) == ("nn4", 16, 96)


def test_a_classifier_without_a_run_tells_nothing(logs):
    logs.mkdir()
    (logs / "model.ckpt.index").touch()
    for path in ("logs/model.ckpt", "logs", "missing", "missing/model.ckpt-3"):
        assert vars(get_config(["--pretrained_rec", path])[0]) == {**DEFAULTS, "pretrained_rec": path}


def test_a_classifier_that_is_gone_is_forgotten_unless_it_trains(logs, caplog):
    make_run(logs / "run", pretrained_rec="gone")
    assert get_config(["--load_path", "run"])[0].pretrained_rec == "gone"       # and preflight complains
    assert not caplog.records
    for mode in ("--fit_dataset", "--is_train=False", "--generate_dataset --scores False"):     # which need none
        assert get_config(["--load_path", "run", *mode.split()])[0].pretrained_rec == ""
    assert not caplog.records
    assert get_config(["--load_path", "run", "--generate_dataset"])[0].pretrained_rec == ""
    (record,) = caplog.records
    assert record.levelno == logging.WARNING and "gone" in record.message
    caplog.clear()
    make_run(logs.parent / "gone")
    make_run(logs.parent / "other")
    assert get_config(["--load_path", "run", "--generate_dataset"])[0].pretrained_rec == "gone"
    make_run(logs / "run", pretrained_rec="nowhere")
    given = get_config(["--load_path", "run", "--generate_dataset", "--pretrained_rec", "other"])[0]
    assert given.pretrained_rec == "other" and not caplog.records


@pytest.mark.parametrize("mode", ["--fit_dataset", "--is_train=False", "--generate_dataset --scores False"])
def test_a_mode_without_use_for_the_classifier_reads_none(logs, mode):
    assert get_config(["--pretrained_rec", "missing", *mode.split()])[0].pretrained_rec == ""


@pytest.mark.parametrize("option", ["--load_path", "--pretrained_gen"])
def test_a_run_of_recognizer_is_refused(logs, option):
    run = make_run(logs / "run", max_nrof_epochs=3)
    with pytest.raises(UserError, match=r"a run of recognizer\.py; name one of main\.py"):
        get_config([option, run])


def test_a_note_names_what_was_taken(logs):
    make_run(logs / "run", z_num=5, batch_size=2, grayscale=True)
    rec = make_run(logs.parent / "rec", model_def="small")
    assert read_command_line(["--load_path", "run", "--batch_size", "3", "--pretrained_rec", rec]).notes == [
        f"{rec}: its options are taken where none is given: --model_def small",
        "logs/run: its options are taken where none is given: --z_num 5 --grayscale True"]
    assert read_command_line([]).notes == []


def test_there_is_no_note_where_nothing_is_taken(logs):
    run = make_run(logs / "run", z_num=5, batch_size=2, grayscale=True)
    assert read_command_line(["--load_path", run, "--batch_size", "3", "--z_num", "5", "--grayscale"]).notes == []
    make_run(logs / "plain")
    assert read_command_line(["--load_path", "plain"]).notes == []


def test_only_what_is_given_counts_as_given(logs):
    make_run(logs / "run", z_num=5)
    assert read_command_line(["--load_path", "run", "--seed", "123", "--ren_lr", "1"]).given == {
        "load_path": "run", "random_seed": 123}


@pytest.mark.parametrize("option", ["load_path", "pretrained_gen", "pretrained_rec"])
@pytest.mark.parametrize("content", ["{", "[1]", "\x80"])
def test_a_run_whose_options_cannot_be_read(logs, option, content):
    make_run(logs / "run")
    (logs / "run" / "params.json").write_bytes(content.encode("latin1"))
    with pytest.raises(UserError) as error:
        get_config([f"--{option}", "logs/run"])
    assert str(error.value).startswith("logs/run/params.json: can't be read (") and "\n" not in str(error.value)


def test_a_run_with_a_bad_value(logs):
    make_run(logs / "run", batch_size=0, z_num=5)
    with pytest.raises(UserError) as error:
        get_config(["--load_path", "run"])
    assert str(error.value) == ("logs/run: batch_size 0: must be a whole number from 1 to 65536; correct it there, "
                                "or give --batch_size")
    config, _ = get_config(["--load_path", "run", "--batch_size", "3"])
    assert (config.batch_size, config.z_num) == (3, 5)


@pytest.mark.parametrize("words, name, value", [
    ("--load_path run --lambda_c .01", "lambda_c_upper", .01),
    ("--load_path run --log_step 10", "checkpoint_step", 200),
    ("--load_path run --save_step 3", "checkpoint_step", 150),
    ("--pretrained_gen run --size 108", "syn_scale_size", 108)])
def test_what_follows_from_an_option_follows_from_a_new_value_too(logs, words, name, value):
    """Though the run's file holds what followed from its own value."""
    make_run(logs / "run")
    assert getattr(get_config(words.split())[0], name) == value


def test_what_was_given_to_a_run_stays_when_another_option_changes(logs):
    make_run(logs / "run", lambda_c_upper=.5, checkpoint_step=7)
    config, _ = get_config(["--load_path", "run", "--lambda_c", ".01", "--log_step", "10"])
    assert (config.lambda_c_upper, config.checkpoint_step) == (.5, 7)


def test_a_checkpoint_tells_its_network(classifier):
    """Without a params.json beside it, as FaceNet publishes them."""
    config, _ = get_config(["--pretrained_rec", classifier, "--image_size", "32"])
    assert (config.model_def, config.embedding_size) == ("small", 16)
    given, _ = get_config(["--pretrained_rec", classifier, "--model_def", "inception_resnet_v1"])
    assert (given.model_def, given.embedding_size) == ("inception_resnet_v1", 16)


def test_a_run_that_goes_on_keeps_its_own_view_of_the_classifier(logs):
    """Though the classifier has moved, and its own run tells another size."""
    make_run(logs / "run", image_size=40, pretrained_rec="gone")
    rec = make_run(logs.parent / "rec", image_size=64, model_def="small", max_nrof_epochs=1)
    make_run(logs / "run", image_size=80, pretrained_rec="gone", model_def="small")
    config, _ = get_config(["--load_path", "run", "--pretrained_rec", rec])
    assert (config.image_size, config.model_def, config.pretrained_rec) == (80, "small", rec)


def test_a_training_without_identity_loss_forgets_a_lost_classifier(logs):
    make_run(logs / "run", pretrained_rec="gone", method_c="none")
    assert get_config(["--load_path", "run"])[0].pretrained_rec == ""


def test_a_classifier_that_is_no_path_is_a_bad_value(logs):
    make_run(logs / "run", pretrained_rec=["a"])
    with pytest.raises(UserError, match=r"pretrained_rec .*must be one value"):
        get_config(["--load_path", "run", "--generate_dataset"])


def test_a_preset_may_use_synonyms(tmp_path):
    path = preset(tmp_path / "mine.json", main={"seed": 7, "size": 32})
    config, _ = get_config(["--preset", path])
    assert (config.random_seed, config.input_scale_size) == (7, 32)
