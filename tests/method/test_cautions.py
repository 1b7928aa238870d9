"""cli/cautions, recognition/known_people: options without effect are told with what counts; presets are not."""
import json
import logging
import shutil

import numpy as np
import pytest

import evaluate
import gen_syn_latent
import main
import preflight
import recognizer
from cli import cautions
from cli.options import parse
from config import COMMAND, read_command_line
from conftest import NAMES, NARROW, SMALL, small_classifier, words, write_checkpoint
from preflight import GENERATOR
from recognition import known_people, verification
from tool import call, one_line
from utils import save_json, UserError

TRAINS = "nothing is trained"
NO_IDENTITY = "--method_c none counts"
# A command line of main.py after its BASE, and what is said of which options: (options, why), none for silence.
MAIN = [
    ("--train_generator True --is_train False", "--train_generator", "--is_train False counts"),
    ("--test_data_path x", "--test_data_path", "only --is_train False"),
    ("--sample_per_image 4", "--sample_per_image", "only --is_train False"),
    ("--test_data_path x --sample_per_image 4", "--test_data_path, --sample_per_image", "only --is_train False"),
    ("--is_train False --test_data_path x --sample_per_image 4", None, None),
    ("--save_syn_dataset x", "--save_syn_dataset", "only --generate_dataset True"),
    ("--save_fitting x", "--save_fitting", "only --fit_dataset True"),
    ("--fit_dataset --save_fitting x", None, None),
    ("--generate_dataset --save_syn_dataset x --scores True", None, None),
    ("--scores True", "--scores", "only --generate_dataset True"),
    ("--scores False", None, None),
    ("--generate_dataset --profile x", "--profile", TRAINS),
    ("--generate_dataset --max_step 9 --g_lr 1", "--max_step, --g_lr", TRAINS),
    ("--is_train False --batch_size 9", "--batch_size", TRAINS),
    ("--fit_dataset --generation_dropout True", "--generation_dropout", "no photo is made"),
    ("--generate_dataset --num_log_id 3", "--num_log_id", "no sample grid"),
    ("--is_train False --num_log_id 3", None, None),
    ("--max_step 9 --g_lr 1 --profile x --batch_size 3", None, None),
    ("--lambda_c 1", "--lambda_c", NO_IDENTITY), ("--lambda_c 0", None, None),
    ("--random_flip True --keep_probability .5", "--random_flip, --keep_probability", NO_IDENTITY),
    ("--lambda_c .0001 --method_c magnet --pretrained_rec x", None, None),
    ("--pretrained_rec x", "--pretrained_rec", "--method_c none"),
    ("--pretrained_rec x --generate_dataset --train_generator", None, None),
    ("--generate_dataset --scores False --pretrained_rec x", "--pretrained_rec", "--scores False"),
    ("--fit_dataset --pretrained_rec x", "--pretrained_rec", "a mode without scores"),
    ("--generate_dataset --pretrained_rec x --model_def small", None, None),
    ("--image_size 80 --model_def small", "--model_def, --image_size", "no classifier is used"),
    ("--weight_decay 1 --method_c magnet --pretrained_rec x", "--weight_decay", "--method_c softmax or --relax_c"),
    ("--weight_decay 1 --method_c softmax --pretrained_rec x", None, None),
    ("--warm_up 9", "--warm_up", "--num_gpu above 1"), ("--optimizer sgd --beta2 .5", "--beta2", "--optimizer sgd"),
    ("--optimizer sgd --beta1 .5", None, None),
    ("--game hinge --z_num 9 --gamma .4 --lambda_k .1", "--gamma, --lambda_k, --z_num", "--game hinge"),
    ("--r1 1 --augment cut --d_scales 2 --d_layers 2", "--d_scales, --d_layers, --augment, --r1", "only --game hinge"),
    ("--game hinge --r1 1 --augment cut --d_scales 2 --d_layers 2", None, None),
    ("--lambda_m 1", "--lambda_m", "only --game hinge"), ("--lambda_m 1 --game hinge", None, None),
    ("--pixel_loss squared --lambda_p 0", "--pixel_loss", "--lambda_p is 0"), ("--pixel_loss squared", None, None),
    ("--chroma_weight 2 --lambda_p 0", "--chroma_weight", "are 0"),
    ("--chroma_weight 2 --lambda_p 0 --lambda_f 1", None, None), ("--chroma_weight 2", None, None),
    ("--fit_dataset --r1 1 --game hinge", "--r1", "nothing is trained"),
    ("--lr_lower_boundary 1e-3", "--lr_lower_boundary", "begin below"),
    ("--lr_update_step 5 --g_lr 1e-6 --d_lr 1e-6", "--lr_update_step", "begin below"),
    ("--loosen_step 5 --max_step 5", "--loosen_step", "--max_step ends the training before"),
    ("--loosen_step 5 --max_step 6", None, None),
    ("--cont gen --load_path x", "--cont", "--load_path counts"),
    ("--preset cpu --generate_dataset", None, None), ("--preset cpu --fit_dataset", None, None), ("", None, None)]
TRAIN = [
    ("--lfw_batch_size 9", "--lfw_batch_size", "without --lfw_dir"),
    ("--lfw_subtract_mean --lfw_nrof_folds 3", "--lfw_nrof_folds, --lfw_subtract_mean", "without --lfw_dir"),
    ("--lfw_dir x --lfw_batch_size 9", None, None), ("--center_loss_alfa .5", "--center_loss_alfa", "no center loss"),
    ("--center_loss_alfa .5 --center_loss_factor 1", None, None),
    ("--loss arcface --center_loss_factor 1 --center_loss_alfa .5", "--center_loss_factor, --center_loss_alfa",
     "only --loss softmax_center"),
    ("--margin .3 --scale 16", "--margin, --scale", "--loss softmax_center counts"),
    ("--loss cosface --margin .3 --scale 16", None, None),
    ("--learning_rate_decay_epochs 3", "--learning_rate_decay_epochs", "the rate stays"),
    ("--learning_rate_decay_epochs 3 --learning_rate_decay_factor .5", None, None), ("--preset cpu", None, None)]
VERIFY = [
    ("--pairs x --pairs_per_fold 9", "--pairs_per_fold", "--pairs counts"), ("--pairs_per_fold 9", None, None),
    ("--pairs x --seed 3", "--seed", "nothing is chosen at random"),
    ("--pairs x --seed 3 --baselines", None, None)]
PEOPLE = [
    ("--crop none --size 64", "--size", "the whole picture"), ("--crop none --margin 3", "--margin", "whole picture"),
    ("--size 64 --margin 3", None, None), ("--n_id 3 --shard 4/8", "--shard", "beyond --n_id"),
    ("--n_id 3 --shard 3/8", None, None), ("--preset cpu --crop none", None, None)]


def told(caplog, rules, parsed):
    caplog.clear()
    cautions.warn_of_unused(rules, parsed.options, parsed.typed)
    return [record.message for record in caplog.records]


def said(lines, options, why):
    if options is None:
        assert not lines
    else:
        assert len(lines) == 1 and lines[0].startswith(f"{options}: no effect here: ") and why in lines[0], lines


@pytest.mark.parametrize("line, options, why", MAIN)
def test_main(caplog, line, options, why):
    names = [] if "--preset" in line else words(**NAMES)
    method = [] if "--method_c" in line else ["--method_c", "none"]
    said(told(caplog, cautions.MAIN, read_command_line([*names, *method, *line.split()])), options, why)


OTHERS = {"train": (recognizer.COMMANDS[0], cautions.TRAIN, "--real real"),
          "verify": (recognizer.COMMANDS[1], cautions.VERIFY, "--weights w --images i"),
          "people": (gen_syn_latent.COMMANDS[0], cautions.PEOPLE, "--output o")}


@pytest.mark.parametrize("name, line, options, why", [
    (name, *row) for name, rows in (("train", TRAIN), ("verify", VERIFY), ("people", PEOPLE)) for row in rows])
def test_the_other_commands(caplog, name, line, options, why):
    command, rules, base = OTHERS[name]
    said(told(caplog, rules, parse(command, [*base.split(), *line.split()])), options, why)


def test_the_rules_name_options_that_there_are():
    for rules, command in ((cautions.MAIN, COMMAND), (cautions.TRAIN, recognizer.COMMANDS[0]),
                           (cautions.VERIFY, recognizer.COMMANDS[1]), (cautions.PEOPLE, gen_syn_latent.COMMANDS[0])):
        assert {name for rule in rules for name in rule.names} <= command.by_name().keys()


def test_a_run_remembers_without_a_word(tmp_path, caplog):
    """What its params.json says is not typed."""
    write_checkpoint(tmp_path / "run/model.ckpt-1", {GENERATOR: np.zeros([7, 7, 3, 4], np.float32)})
    save_json({**NAMES, "g_lr": .5, "lambda_c": 1., "method_c": "none", "warm_up": 7, "versions": {}},
              str(tmp_path / "run/params.json"))
    parsed = read_command_line(["--generate_dataset", "--load_path", str(tmp_path / "run")])
    assert parsed.options.g_lr == .5 and not told(caplog, cautions.MAIN, parsed)


# GPUs

@pytest.mark.parametrize("there, visible, count", [
    (0, None, 0), (2, None, 2), (2, "", 0), (2, "0", 1), (2, "0,1", 2), (2, "0,1,2,3", 2), (2, "-1", 0), (0, "0", 0)])
def test_gpus_are_counted_by_their_files(monkeypatch, there, visible, count):
    monkeypatch.setattr(cautions.glob, "glob", lambda pattern: [f"/dev/nvidia{i}" for i in range(there)])
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert cautions.count_gpus() == count


@pytest.mark.parametrize("line, there, part", [
    ("--num_gpu 2", 0, "this machine shows 0 GPUs"), ("--num_gpu 2", 1, "this machine shows 1 GPU;"),
    ("--num_gpu 2", 2, None), ("--num_gpu 2 --use_gpu False", 2, "--use_gpu False counts"), ("--num_gpu 1", 0, None),
    ("", 0, None), ("--num_gpu 2 --generate_dataset", 0, None)])
def test_more_gpus_than_there_are(monkeypatch, caplog, line, there, part):
    monkeypatch.setattr(cautions, "count_gpus", lambda: there)
    parsed = read_command_line([*words(**NAMES, method_c="none"), *line.split()])
    cautions.warn_of_gpus(parsed.options, parsed.typed)
    assert (part in caplog.text and caplog.text.count("--num_gpu 2: ") == 1) if part else not caplog.records


# Two sources of weights, splits, test pairs: by the command

@pytest.fixture
def place(tmp_path, drawn, monkeypatch):
    """A folder with data, and two runs with a checkpoint."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(drawn, tmp_path / "data")
    for run in ("one", "two"):
        write_checkpoint(tmp_path / run / "model.ckpt-1", {GENERATOR: np.zeros([7, 7, 3, 4], np.float32)})
        save_json({"versions": {}, "log_step": 50}, str(tmp_path / run / "params.json"))
    monkeypatch.setattr(preflight, "check_images", lambda images, *others: images)
    return tmp_path


def check(*line):
    parsed = read_command_line([*words(**NAMES, **NARROW, method_c="none"), *line])
    return preflight.check(parsed.options, parsed.typed)


@pytest.mark.parametrize("line, part", [
    (["--load_path", "one", "--pretrained_gen", "two"], "--pretrained_gen two: no effect here"),
    (["--load_path", "one", "--pretrained_gen", "two", "--generate_dataset"], "those of --pretrained_gen two count"),
    (["--load_path", "one"], None), (["--pretrained_gen", "two"], None),
    (["--cont", "gen", "--log_dir", ".", "--pretrained_gen", "two"], "--pretrained_gen two: no effect here")])
def test_two_sources_of_weights(place, caplog, line, part):
    with caplog.at_level(logging.WARNING):
        check(*line)
    assert part in caplog.text if part else not caplog.records


def test_a_run_without_a_checkpoint_takes_the_weights_of_another(place, caplog):
    (place / "new").mkdir()
    save_json({}, str(place / "new/params.json"))
    assert check("--load_path", "new", "--pretrained_gen", "two").weights == "two"
    assert "no effect" not in caplog.text


@pytest.mark.parametrize("option", ["--load_path", "--pretrained_gen"])
@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_text("{}")])
def test_a_run_that_tells_no_options(place, caplog, option, damage):
    """Before the defaults are complained of, as folders of data that are not there."""
    damage(place / "one/params.json")
    check(option, "one")
    assert "one: no params.json with options there; those of the command line count" in caplog.text


@pytest.mark.parametrize("line, named", [
    (["--split", "nope"], ["--split nope: no such folder in --dataset or --syn_dataset or --dataset_3dmm"]),
    (["--dataset_3dmm_test", "nope"], ["--dataset_3dmm_test", "data/nope"])])
def test_a_folder_that_is_typed_has_to_be_there(place, line, named):
    with pytest.raises(UserError) as error:
        check(*line)
    one_line(error, *named)


def test_one_folder_for_photos_and_renderings(place, caplog):
    (place / "data/same").symlink_to("syn")
    check("--dataset", "same")
    assert caplog.text.count("--syn_dataset: the same folder as --dataset: ") == 1


@pytest.mark.parametrize("folder, same", [("data/real", True), ("data/../data/real/", True), ("data/syn", False)])
def test_a_distance_to_itself(place, folder, same):
    result = call(evaluate, "distance", folder, "data/paired", "--photos", "data/real")
    assert result.status == 0 and result.err.count("the same folder as --photos") == same


def test_a_split_in_one_data_set_is_enough(place):
    shutil.copytree(place / "data/real/10001", place / "data/real/half")
    data = check("--split", "half").data
    assert data.photos.root == "data/real/half" and data.renderings.root == "data/syn"


# People whom a classifier knows

@pytest.fixture
def classifier(place):
    """A run of recognizer.py train, trained on data/real and generated; other photos; a link to the known ones."""
    write_checkpoint(place / "run/model.ckpt-1", small_classifier())
    save_json({"max_nrof_epochs": 1, "data_dir": "data", "real": "real", "synthetic": ["generated"], "image_size": 32,
               "input_scale_size": 36}, str(place / "run/params.json"))
    save_json({"real": ["Anna_Bell", "10001"], "synthetic": ["generated/Carl_Dorn", "00001"]},
              str(place / "run/identities.json"))
    (place / "link").symlink_to("data/real")
    return place


@pytest.mark.parametrize("people, part", [
    ("data/real", "the people of data/real"), ("link", "the people of data/real"),
    ("./data/../data/real/", "data/real"),
    (["10001", "00001"], None), (["Anna_Bell", "Eve"], "1 people have names of those"),
    (["Carl_Dorn", "Anna_Bell"], "2 people have names of those"), (["Eve", "Fred"], None)])
def test_people_whom_the_classifier_knows(classifier, caplog, people, part):
    folder = people
    if isinstance(people, list):
        folder = "others"
        for name in people:
            (classifier / "others" / name).mkdir(parents=True)
    for weights in ("run", "run/model.ckpt-1", "run/model.ckpt-1.index"):
        caplog.clear()
        known_people.warn_of_known_people(weights, folder)
        assert part in caplog.text and len(caplog.records) == 1 if part else not caplog.records


@pytest.mark.parametrize("content", ["[]", "5", '{"real": 3}', '{"real": [1, null]}'])
def test_a_run_that_tells_no_people(classifier, caplog, content):
    (classifier / "run/identities.json").write_text(content)
    (classifier / "others/Anna_Bell").mkdir(parents=True)
    known_people.warn_of_known_people("run", "others")
    assert not caplog.records


def test_the_run_of_another_program_or_none_tells_nothing(classifier, caplog):
    save_json({"conv_hidden_num": 3, "real": "real"}, str(classifier / "run/params.json"))
    known_people.warn_of_known_people("run", "data/real")
    known_people.warn_of_known_people("one", "data/real")
    assert not caplog.records


def test_verifying_in_training_on_the_people_trained_on(classifier, monkeypatch):
    def work(precision):
        raise UserError("work has begun")

    monkeypatch.setattr(recognizer, "start", work)
    result = call(recognizer, "train", *words(**SMALL, real="real", lfw_dir="link", lfw_nrof_folds=2, batch_size=2))
    assert result.err.count("--lfw_dir link: the people of --real") == 1 and "work has begun" in result.err


# Too few pairs

@pytest.mark.parametrize("accuracy, count, low, high", [
    (.5, 100, .404, .596), (.9, 100, .826, .945), (1., 10, .722, 1.), (0., 10, 0., .278), (.99, 6000, .987, .992)])
def test_the_confidence_interval(accuracy, count, low, high):
    assert verification.interval(accuracy, count) == pytest.approx((low, high), abs=1e-3)


@pytest.mark.parametrize("accuracy, count, doubtful", [
    (.5, 300, True), (.5, 400, False), (.9, 100, True), (.9, 200, False), (1., 20, True), (1., 60, False),
    (.7, 6, True)])
def test_too_few_pairs_to_tell(accuracy, count, doubtful):
    text = verification.doubt(accuracy, count)
    assert text.startswith(f"too few pairs to tell: of {count}, ") and "(95 %)" in text if doubtful else text == ""


def test_the_options_typed_are_told_apart_from_those_given(tmp_path):
    preset = tmp_path / "mine.json"
    preset.write_text(json.dumps({"main.py": {"g_lr": .5, "batch_size": 3}}))
    parsed = read_command_line([*words(**NAMES, method_c="none"), "--preset", str(preset), "--batch_size", "4"])
    assert parsed.given["g_lr"] == .5 and "g_lr" not in parsed.typed and parsed.typed["batch_size"] == 4
    assert main.COMMAND is COMMAND
