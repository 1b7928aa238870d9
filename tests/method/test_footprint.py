"""footprint: estimates against peaks that were measured, against the networks themselves, and what the commands say."""
import logging

import numpy as np
import pytest

import align
import footprint
import gen_syn_latent
import main
import recognizer
from cli import processes
from cli.options import parse
from config import get_config
from conftest import NAMES, NARROW, SMALL, small_classifier, words, write_checkpoint
from engine import memory
from engine.memory import Memory
from footprint import GIB, Part
from preflight import GENERATOR
from recognition.registry import Architecture
from tool import call, one_line, Tool
from utils import UserError

# GiB at the peak of a process with 4 identities, 2 real and 2 synthetic people, a sheet of 2 x 2, on 2 cores without a
# GPU, TensorFlow 2.21. Trainings did two steps, with log lines, checkpoints and sheets.
TRAININGS = [
    ("", 1.848), ("--batch_size 1", 1.114), ("--batch_size 4", 1.254), ("--batch_size 64", 4.137),
    ("--batch_size 128", 8.746),
    ("--size 16 --batch_size 1 --conv_hidden_num 4 --conv_hidden_num_res 4 --num_res_rep 1 --z_num 8", .69),
    ("--batch_size 2 --conv_hidden_num 256", 3.639), ("--batch_size 2 --conv_hidden_num_res 256", 4.778),
    ("--size 128 --batch_size 8", 2.694), ("--size 256 --batch_size 4 --conv_hidden_num 8", 2.843),
    ("--batch_size 2 --z_num 4096", 5.475), ("--batch_size 2 --z_num 4096 --optimizer sgd", 4.696),
    ("--size 108", 3.53), ("--batch_size 32 --conv_hidden_num 8 --conv_hidden_num_res 8 --num_res_rep 1", 1.074),
    ("--conv_hidden_num 128", 2.626), ("--conv_hidden_num_res 64", 2.454), ("--num_res_rep 12 --batch_size 8", 2.155),
    ("--size 512 --batch_size 1 --conv_hidden_num 4 --conv_hidden_num_res 4", 1.523),
    ("--game hinge", 1.372), ("--game hinge --batch_size 64 --d_scales 2", 2.993),
    ("--game hinge --batch_size 64 --d_layers 2", 2.76), ("--game hinge --batch_size 64 --d_layers 1", 2.648),
    ("--game hinge --batch_size 64 --d_layers 1,3", 2.991), ("--game hinge --batch_size 64 --d_layers 1,2,3", 2.884),
    ("--game hinge --conv_hidden_num 128 --r1 1 --augment shift,cut,color --batch_size 8", 1.566),
    ("--game hinge --size 128 --batch_size 8 --upsampling resize --lambda_f 1", 1.991),
    ("--game hinge --batch_size 64 --d_layers 1,3 --lambda_f 1 --lambda_m 1", 3.474),
    ("--game hinge --conv_hidden_num 256 --batch_size 2", 2.6)]
IDENTITY = [        # with a frozen or tuned Inception-ResNet-v1
    ("--method_c magnet", 2.09), ("--method_c magnet --size 108", 3.783),
    ("--method_c magnet --size 108 --batch_size 2", 1.673), ("--method_c softmax --relax_c", 3.103)]
SYNTHESES = [
    ("--generate_dataset", .701), ("--generate_dataset --scores False", .609), ("--fit_dataset", .595),
    ("--generate_dataset --size 256 --conv_hidden_num 8", 1.222),
    ("--generate_dataset --scores False --size 256 --conv_hidden_num 8", 1.042),
    ("--fit_dataset --size 256 --conv_hidden_num 8", 1.001),
    ("--generate_dataset --size 512 --conv_hidden_num_res 8 --conv_hidden_num 4", 1.366),
    ("--fit_dataset --size 512 --conv_hidden_num_res 8 --conv_hidden_num 4", 1.0),
    ("--generate_dataset --size 256 --conv_hidden_num_res 64 --conv_hidden_num 4 --num_res_rep 1", 1.736),
    ("--fit_dataset --size 256 --conv_hidden_num_res 64 --conv_hidden_num 4 --num_res_rep 1", 1.415)]
CLASSIFIERS = [
    ("", 2.712), ("--optimizer mom", 2.319), ("--batch_size 8", 2.144), ("--batch_size 180", 3.573),
    ("--batch_size 32 --image_size 160", 2.888), ("--batch_size 8 --embedding_size 16384", 2.932),
    ("--model_def nn4 --batch_size 64", 1.702), ("--model_def nn4 --batch_size 180", 2.585),
    ("--model_def small --batch_size 256", 1.22), ("--model_def small --batch_size 64 --image_size 160", 1.027),
    ("--model_def small --batch_size 1024 --image_size 64", 1.614),
    ("--model_def iresnet18 --width .25 --image_size 64 --batch_size 64", 1.123),
    ("--model_def iresnet18 --image_size 64 --batch_size 8", 1.238),
    ("--model_def iresnet18 --image_size 64 --batch_size 32", 1.685),
    ("--model_def iresnet50 --image_size 64 --batch_size 8", 2.173),
    ("--model_def ir_se50 --image_size 64 --batch_size 8", 2.306)]
VERIFICATIONS = [
    ("inception_resnet_v1", 4, 1.021), ("inception_resnet_v1", 128, 1.127), ("inception_resnet_v1", 512, 1.439),
    ("nn4", 4, .747), ("nn4", 128, .866), ("nn4", 512, 1.332), ("small", 4, .611), ("small", 128, .701),
    ("small", 512, .966), ("dlib", 32, .728), ("dlib", 128, .872)]
RENDERINGS = [("--size 512", .6), ("--size 1024", .94), ("--size 2048", 2.26), ("--size 1024 --supersample 8", 7.57)]
TRAIN, VERIFY = recognizer.COMMANDS[:2]


def gib(parts):
    return sum(part.needed for part in parts) / GIB


def config_of(line):
    return get_config(["--method_c", "none", "--num_log_id", "2", "--num_log_samples", "2", *line.split()])[0]


def close(estimate, measured):
    assert measured / 1.4 < estimate < 1.4 * measured, (estimate, measured)


@pytest.mark.parametrize("line, measured", TRAININGS + SYNTHESES)
def test_the_peak_of_main(line, measured):
    close(gib(footprint.of_main(config_of(line), 4)), measured)


@pytest.mark.parametrize("line, measured", IDENTITY)
def test_the_peak_of_a_training_with_a_classifier(line, measured):
    config = config_of(f"{line} --pretrained_rec x --model_def inception_resnet_v1")
    close(gib(footprint.of_main(config, 4)), measured)


@pytest.mark.parametrize("batch_size, measured", [(4, .777), (32, .865)])
def test_the_peak_of_a_training_with_dlibs_classifier(batch_size, measured):
    config = config_of(f"--method_c magnet --pretrained_rec dlib --input_scale_size 16 --conv_hidden_num 4 "
                       f"--conv_hidden_num_res 4 --num_res_rep 1 --z_num 8 --batch_size {batch_size}")
    close(gib(footprint.of_main(config, 48)), measured)


@pytest.mark.parametrize("line, measured", CLASSIFIERS)
def test_the_peak_of_training_a_classifier(line, measured):
    close(gib(footprint.of_classifier_training(parse(TRAIN, ["--real", "real", *line.split()]).options, 2)), measured)


@pytest.mark.parametrize("loss, measured", [("softmax_center", .513), ("arcface", .726), ("adaface", .927)])
def test_the_peak_of_a_head(loss, measured):
    """Of 256 images and 100,000 identities, beyond that of 1,000, for embeddings of 16 numbers."""
    options = parse(TRAIN, words(real="r", model_def="small", loss=loss, batch_size=256, embedding_size=16)).options
    few, many = (gib(footprint.of_classifier_training(options, count)) for count in (1000, 100_000))
    close(many - few, measured)


def test_the_images_of_all_gpus_are_counted():
    one, two = (parse(TRAIN, words(real="r", batch_size=90 // gpus, num_gpu=gpus)).options for gpus in (1, 2))
    assert gib(footprint.of_classifier_training(one, 9)) == gib(footprint.of_classifier_training(two, 9))


@pytest.mark.parametrize("model_def, batch_size, measured", VERIFICATIONS)
def test_the_peak_of_verifying(model_def, batch_size, measured):
    options = parse(VERIFY, words(weights="w", images="i", image_size=150 if model_def == "dlib" else 96,
                                  batch_size=batch_size)).options
    close(gib(footprint.of_verification(options, Architecture(model_def, 128))), measured)


@pytest.mark.parametrize("line, measured", RENDERINGS)
def test_the_peak_of_rendering(line, measured):
    options = parse(gen_syn_latent.COMMANDS[0], ["--output", "o", "--workers", "1", *line.split()]).options
    close(gib(footprint.of_rendering(options, 1)), measured)


@pytest.mark.parametrize("line", [
    "", "--size 108 --conv_hidden_num 24 --z_num 100", "--size 16 --conv_hidden_num_res 5 --num_res_rep 2",
    "--size 512 --conv_hidden_num 4", "--size 20 --conv_hidden_num 3 --z_num 7",
    "--game hinge --upsampling resize", "--normalization none --num_res_rep 2",
    "--game hinge --d_scales 2 --size 20 --conv_hidden_num 3", "--game hinge --d_layers 2 --d_scales 3",
    "--game hinge --d_layers 1", "--game hinge --d_layers 1,2,3 --d_scales 2"])
def test_weights_are_counted_as_the_networks_have_them(line):
    from trainer import count_parameters
    config = config_of(line)
    found = count_parameters(config)
    generator = config.conv_hidden_num_res, config.num_res_rep
    normalises = config.normalization == "instance"
    if config.game == "hinge":
        discriminator = footprint.patch_discriminator_weights(config.conv_hidden_num, config.d_scales, config.d_layers)
    else:
        discriminator = footprint.discriminator_weights(config.input_scale_size, config.conv_hidden_num, config.z_num)
    assert found == {"G_inf": footprint.generator_weights(*generator, True, normalises), "D_forw": discriminator,
                     "G_inv": footprint.generator_weights(*generator, False, normalises), "D_back": discriminator}


# Against what there is

PARTS = [Part(1 * GIB, ""), Part(3 * GIB, "--batch_size"), Part(2 * GIB, "--z_num", on_device=True)]


@pytest.mark.parametrize("total, available, on_gpu, answer", [
    (20, 10, False, ""), (20, 5, False, "about 6.0 GiB of memory are needed, and 5.0 GiB are free"),
    (5, 5, False, "about 6.0 GiB of memory are needed, and 5.0 GiB are free"),
    (4, 4, False, "not enough memory: about 6.0 GiB are needed, and this machine has 4.0 GiB; take a smaller "
     "--batch_size (3.0 GiB of it)"),
    (5, 4, True, ""), (4, 3, True, "about 4.0 GiB"), (3, 3, True, "not enough memory: about 4.0 GiB")])
def test_what_is_too_much_is_refused_and_what_is_not_free_is_warned_of(caplog, total, available, on_gpu, answer):
    there = Memory(total * GIB, available * GIB)
    if answer.startswith("not enough"):
        with pytest.raises(UserError) as error:
            footprint.check(PARTS, on_gpu, there)
        one_line(error, answer)
    else:
        footprint.check(PARTS, on_gpu, there)
        assert [record.message[:len(answer)] for record in caplog.records] == [answer] * bool(answer)


def test_nothing_is_said_where_nothing_is_known(monkeypatch, caplog):
    monkeypatch.setattr(memory, "read", lambda: None)
    footprint.check([Part(10 ** 30, "--batch_size")])
    assert not caplog.records


# The commands, on a machine of 24 GiB

@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    wide = write_checkpoint(folder / "run/model.ckpt-1", {GENERATOR: np.zeros([7, 7, 3, 1024], np.float32)})
    return {"wide": wide, "classifier": write_checkpoint(folder / "classifier", small_classifier())}


@pytest.fixture
def machine(monkeypatch, tmp_path, drawn):
    """A machine of 24 GiB without a GPU, on which TensorFlow and workers may not be asked for."""
    def work(*arguments, **options):
        raise AssertionError("work has begun")

    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(drawn)
    monkeypatch.setattr(memory, "read", lambda: Memory(24 * GIB, 20 * GIB))
    monkeypatch.setattr(footprint, "uses_gpu", lambda options: False)
    for module, name in ((main, "start"), (recognizer, "start"), (processes, "process_all")):
        monkeypatch.setattr(module, name, work)


MAIN = words(**NAMES, **NARROW, method_c="none")
CLASSIFY = ["train", *words(**SMALL, real="real")]
DRAWN = ["drawn", "--output", "new"]
PEOPLE = ["people", "--output", "new"]
TOO_MUCH = [
    (main, [*MAIN, "--batch_size", "65536", "--size", "64"], "--batch_size"),
    (main, [*MAIN, "--size", "1024", "--batch_size", "200"], "--batch_size"),
    (main, [*MAIN, "--size", "1024", "--conv_hidden_num_res", "256", "--batch_size", "1"], "--input_scale_size"),
    (main, [*MAIN, "--conv_hidden_num", "1024", "--size", "64"], "--conv_hidden_num"),
    (main, [*MAIN, "--conv_hidden_num_res", "1024", "--num_res_rep", "20"], "--conv_hidden_num_res or --num_res_rep"),
    (main, [*MAIN, "--z_num", "65536", "--size", "1024", "--conv_hidden_num", "64"], "--z_num"),
    (main, [*MAIN, "--num_worker", "1024", "--batch_size", "4096", "--size", "32"], "--batch_size or --num_worker"),
    (main, [*MAIN, "--num_log_samples", "1024", "--size", "1024"], "--num_log_samples"),
    (main, [*MAIN, "--num_gpu", "64", "--batch_size", "64", "--size", "256"], "--batch_size"),
    (recognizer, [*CLASSIFY, "--batch_size", "65536", "--image_size", "96"], "--batch_size"),
    (recognizer, [*CLASSIFY, "--batch_size", "2048", "--image_size", "512"], "--batch_size"),
    (recognizer, [*CLASSIFY, "--model_def", "inception_resnet_v1", "--embedding_size", "65536", "--image_size", "1024"],
     "--batch_size"),
    (recognizer, [*CLASSIFY, "--lfw_dir", "data/syn", "--lfw_batch_size", "65536", "--image_size", "160"],
     "--lfw_batch_size"),
    (recognizer, [*CLASSIFY, "--num_worker", "1024", "--size", "1024"], "--batch_size or --num_worker"),
    (gen_syn_latent, [*PEOPLE, "--size", "4096", "--supersample", "16", "--workers", "1024"], "--size, --supersample"),
    (gen_syn_latent, [*PEOPLE, "--size", "4096", "--supersample", "16", "--workers", "1"], "--size, --supersample"),
    (gen_syn_latent, [*PEOPLE, "--size", "2048", "--supersample", "4", "--workers", "64"], "--size, --supersample"),
    (gen_syn_latent, [*PEOPLE, "--workers", "1024"], "--workers"),
    (gen_syn_latent, [*PEOPLE, "--crop", "none", "--supersample", "16", "--workers", "16"], "--size, --supersample"),
    (gen_syn_latent, [*DRAWN, "--size", "4096", "--workers", "8"], "--size or --workers"),
    (gen_syn_latent, [*DRAWN, "--workers", "500"], "--workers")]


@pytest.mark.parametrize("number", range(len(TOO_MUCH)))
def test_a_command_that_is_too_large_for_the_machine_is_refused(machine, tmp_path, number):
    module, line, option = TOO_MUCH[number]
    result = call(module, *line)
    Tool(module.__file__.rpartition("/")[2]).refused(
        result, "not enough memory: about ", f"this machine has 24.0 GiB; take a smaller {option}")
    assert not (tmp_path / "new").exists()


def test_a_verification_that_is_too_large(machine, weights):
    result = call(recognizer, "verify", *words(weights=weights["classifier"], images="data/real", batch_size=65536))
    Tool("recognizer.py").refused(result, "not enough memory", "take a smaller --batch_size")


@pytest.mark.parametrize("mode", ["generate_dataset", "fit_dataset"])
def test_a_synthesis_that_is_too_large(machine, weights, mode):
    wide = {**NARROW, "input_scale_size": 1024, "conv_hidden_num_res": 1024}
    result = call(main, *words(**NAMES, **wide, scores=False, pretrained_gen=weights["wide"], **{mode: True}))
    Tool("main.py").refused(result, "not enough memory", "take a smaller --conv_hidden_num_res")


def test_many_detectors_are_too_large(machine, tmp_path):
    (tmp_path / "photos").mkdir()
    for number in range(99):
        (tmp_path / f"photos/{number}.jpg").touch()
    result = call(align, "--input", "photos", "--output", "new", "--workers", "1024")
    Tool("align.py").refused(result, "not enough memory", "take a smaller --workers")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("line", [
    [*MAIN, "--size", "108", "--conv_hidden_num", "64", "--conv_hidden_num_res", "32", "--batch_size", "64"],
    [*MAIN, "--batch_size", "256"], [*MAIN, "--num_worker", "64"]])
def test_what_fits_begins_without_a_word(machine, line, caplog):
    with pytest.raises(AssertionError, match="work has begun"), caplog.at_level(logging.WARNING):
        call(main, *line)
    assert "memory" not in caplog.text


@pytest.mark.parametrize("modes", [
    [], ["--generate_dataset"], ["--generate_dataset", "--scores", "False"], ["--fit_dataset"],
    ["--is_train", "False"]])
def test_what_a_graphics_card_holds_does_not_count(modes):
    """What is left is the program, for which no option can be made smaller."""
    config = get_config([*words(**NAMES, **NARROW, method_c="none"), *modes])[0]
    parts = footprint.of_main(config, 3)
    for on_gpu in (True, False):
        with pytest.raises(UserError, match=r"not enough memory: about .* GiB are needed, .*; (take a|close)"):
            footprint.check(parts, on_gpu, memory.Memory(1, 1))
    footprint.check(parts, on_gpu=True, there=memory.Memory(1e15, 1e15))


def test_a_graphics_card_is_asked_by_tensorflow_itself(machine, monkeypatch):
    monkeypatch.setattr(footprint, "uses_gpu", lambda options: True)
    with pytest.raises(AssertionError, match="work has begun"):
        call(main, *MAIN, "--conv_hidden_num", "1024", "--size", "64")
