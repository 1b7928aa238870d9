"""Options: defaults, every value read, each bad one answered by one line, old command lines, what follows from what."""
import json

import pytest

import config as config_module
from config import get_config, structural_differences

# SPEC's table, then the options of ours.
DEFAULTS = dict(
    input_scale_size=64, syn_scale_size=64, conv_hidden_num=64, conv_hidden_num_res=32, num_res_rep=3, z_num=64,
    data_dir="data", dataset="vgg-aligned-64", syn_dataset="syn_lsfm-64", dataset_3dmm="paired_data-64",
    dataset_3dmm_test="AFLW-test", split="", batch_size=16, grayscale=False, num_worker=4, num_gpu=1, test_data_path="",
    train_generator=True, generate_dataset=False, fit_dataset=False, is_train=True, cont="", load_path="",
    pretrained_gen="", save_syn_dataset="generated", save_fitting="fitting", task=None, sample_per_image=1,
    max_step=248000, lr_update_step=128000, lr_lower_boundary=5e-6, warm_up=5000, g_lr=8e-5, d_lr=8e-5,
    optimizer="adam", beta1=.9, beta2=.999, use_gpu=True, random_seed=123,
    gamma=.5, lambda_k=.001, lambda_d=.5, lambda_s=.5, lambda_p=.1, lambda_c=.001, lambda_c_upper=.001,
    method_c="magnet", relax_c=False,
    pretrained_rec="", model_def="nn4", embedding_size=128, keep_probability=1., weight_decay=0.,
    center_loss_alfa=.95, facenet_scope="InceptionResnetV1", image_size=96, standardization="auto",
    log_dir="logs", log_step=50, save_step=20, num_log_id=16, num_log_samples=8, log_level="INFO",
    dropout_keep=.9, scores=True, generation_dropout=True, random_crop=True, random_flip=True,
    checkpoint_step=1000, keep_every=0, precision="float32", xla=False, profile="")

# Another good value of every option: what is typed, and what the program gets.
OTHERS = dict(
    input_scale_size=("108", 108), syn_scale_size=("64", 64), conv_hidden_num=("7", 7), conv_hidden_num_res=("5", 5),
    num_res_rep=("1", 1), z_num=("9", 9), dropout_keep=("1", 1.),
    data_dir=("d", "d"), dataset=("photos", "photos"), syn_dataset=("syn", "syn"), dataset_3dmm=("p", "p"),
    dataset_3dmm_test=("q", "q"), split=("train", "train"), batch_size=("2", 2), grayscale=("yes", True),
    num_worker=("1", 1), num_gpu=("2", 2), test_data_path=("t", "t"),
    train_generator=("True", True), generate_dataset=("true", True), fit_dataset=("1", True), is_train=("no", False),
    cont=("gen", "gen"), load_path=("logs/run", "logs/run"), pretrained_gen=("r/model.ckpt", "r/model.ckpt"),
    save_syn_dataset=("g", "g"), save_fitting=("f", "f"), task=("mine", "mine"), sample_per_image=("3", 3),
    scores=("FALSE", False), generation_dropout=("0", False),
    max_step=("6", 6), lr_update_step=("3", 3), lr_lower_boundary=("0", 0.), warm_up=("1", 1), g_lr=("1e-4", 1e-4),
    d_lr=("2e-4", 2e-4), optimizer=("SGD", "sgd"), beta1=("0", 0.), beta2=(".9", .9), use_gpu=("No", False),
    random_seed=("2147483647", 2 ** 31 - 1),
    gamma=("1", 1.), lambda_k=("0", 0.), lambda_d=("0", 0.), lambda_s=("2", 2.), lambda_p=("3", 3.),
    lambda_c=("0", 0.), lambda_c_upper=("7", 7.), method_c=("center", "center"), relax_c=("True", True),
    pretrained_rec=("w", "w"), model_def=("small", "small"), embedding_size=("8", 8), keep_probability=(".8", .8),
    weight_decay=("1e-4", 1e-4), center_loss_alfa=("1", 1.), facenet_scope=("Scope", "Scope"), image_size=("65", 65),
    standardization=("Fixed", "fixed"),
    random_crop=("False", False), random_flip=("False", False),
    log_dir=("runs", "runs"), log_step=("10", 10), save_step=("2", 2), checkpoint_step=("5", 5), keep_every=("4", 4),
    num_log_id=("3", 3), num_log_samples=("2", 2), log_level=("debug", "DEBUG"),
    precision=("BFloat16", "bfloat16"), xla=("1", True), profile=("t", "t"))

BOOLS = [name for name, value in DEFAULTS.items() if isinstance(value, bool)]

BAD = [
    *((name, value) for name in BOOLS for value in ("maybe", "2", "")),
    *((name, value) for value in ("0", "-1", "1.5", "ten", "nan") for name in (
        "conv_hidden_num", "conv_hidden_num_res", "num_res_rep", "z_num", "batch_size", "num_worker", "num_gpu",
        "sample_per_image", "max_step", "lr_update_step", "warm_up", "embedding_size", "log_step", "save_step",
        "num_log_id", "num_log_samples")),
    *((name, value) for value in ("-1", "-1e-3", "nan", "inf", "-inf", "much") for name in (
        "lr_lower_boundary", "lambda_k", "lambda_d", "lambda_s", "lambda_p", "lambda_c", "lambda_c_upper",
        "weight_decay", "g_lr", "d_lr", "gamma", "keep_probability", "dropout_keep", "center_loss_alfa", "beta1",
        "beta2")),
    *((name, "0") for name in ("g_lr", "d_lr", "gamma", "keep_probability", "dropout_keep")),
    *((name, "1.1") for name in ("keep_probability", "dropout_keep", "center_loss_alfa", "beta1", "beta2")),
    *((name, "1") for name in ("beta1", "beta2")),
    *((name, value) for name in ("checkpoint_step", "keep_every") for value in ("-1", "x")),
    *((name, value) for name in ("input_scale_size", "syn_scale_size") for value in ("50", "12", "0", "-4", "big")),
    *(("random_seed", value) for value in ("-1", "2147483648", "a")),
    *(("image_size", value) for value in ("31", "64", "97", "x")),
    *((name, "") for name in ("data_dir", "dataset", "syn_dataset", "dataset_3dmm", "dataset_3dmm_test", "task",
                              "save_syn_dataset", "save_fitting", "facenet_scope", "log_dir")),
    ("optimizer", "lion"), ("method_c", "triplet"), ("model_def", "models.vgg"), ("cont", "rec"), ("log_level", "LOUD"),
    ("precision", "float16"),
    ("syn_scale_size", "108"), ("lambda_c_upper", "0.0001"), ("train_generator", "False"),
]


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
    config, unparsed = get_config([f"--{name}", typed] if form == "words" else [f"--{name}={typed}"])
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
    assert error_line(capsys, "--batch_size", "a\nb") == "--batch_size a b: must be a whole number, 1 or more"


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
                                   "--log_histograms", "--batch_size", "2", "--seed=666"])
    assert set(unparsed) == {"ren_lr", "learning_rate", "lfw_pairs", "log_histograms", "seed"}
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
    assert get_config("--dataset generated".split())[0].train_generator


def test_structural_differences():
    saved = vars(get_config([])[0])
    assert structural_differences(get_config([])[0], saved) == []
    assert structural_differences(get_config("--g_lr 1 --max_step 3 --log_dir x".split())[0], saved) == []
    config, _ = get_config("--input_scale_size 108 --optimizer sgd --relax_c".split())
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


def test_structural_differences_of_a_run_of_the_original():
    assert structural_differences(get_config([])[0], {"model_def": "models.nn4", "ren_lr": 1e-4, "z_num": 64}) == []
