"""That learning works, by the commands as users type them: trainer.py and graph.py; recognition/training.py."""
import json

import pytest

from conftest import only_run, scenario
from drawn import draw_face, write, write_dataset
from evaluate import frechet_distance, read_features
from tool import Tool

pytestmark = pytest.mark.slow

SIZE, STEPS = 32, 300
GENERATORS = ["--method_c", "none", "--input_scale_size", SIZE, "--conv_hidden_num", 8, "--conv_hidden_num_res", 8,
              "--num_res_rep", 1, "--z_num", 16, "--batch_size", 8, "--g_lr", 1e-3, "--d_lr", 1e-3, "--gamma", .8,
              "--lambda_k", .03, "--lambda_p", .8, "--lambda_s", .3, "--max_step", STEPS, "--log_step", 10]
PEOPLE, STRANGERS, PHOTOS = 16, 10, 8       # people to learn from, others to verify on, photos of each
CLASSIFIER = ["--real", "real", "--model_def", "small", "--image_size", SIZE, "--input_scale_size", SIZE,
              "--embedding_size", 32, "--max_nrof_epochs", 1, "--epoch_size", 150, "--batch_size", 32]
# For 16 people, a smaller scale and margin than for thousands, and a network that learns in few steps.
ARCFACE = [*CLASSIFIER, "--loss", "arcface", "--scale", 16, "--margin", .2, "--optimizer", "sgd", "--learning_rate",
           .05]


@scenario
def learned(tools):
    """The folder of a training of 300 narrow steps on drawn faces, and of the photos synthesized after it."""
    folder = tools.new_folder()
    write_dataset(str(folder), size=SIZE, identities=12, per_identity=6, photos=80, pairs=30)
    Tool("main.py").succeed("--data_dir", folder, "--dataset", "real", "--syn_dataset", "syn", "--dataset_3dmm",
                            "paired", *GENERATORS, "--log_dir", folder / "logs", "--train_generator",
                            "--generate_dataset", "--scores", "False")
    return folder


def verified_after(tools, options):
    """The results of a classifier trained with `options` on drawn people, verified on others, beside its baselines."""
    folder = tools.new_folder()
    for person in range(PEOPLE + STRANGERS):
        for image in range(PHOTOS):
            group = "real" if person < PEOPLE else "strangers"
            write(str(folder), f"{group}/{person}/{image}.png", draw_face(1000 + person, image, SIZE, photo=True))
    recognizer = Tool("recognizer.py")
    recognizer.succeed("train", "--data_dir", folder, *options, "--log_dir", folder / "runs")
    recognizer.succeed("verify", "--weights", only_run(folder / "runs"), "--images", folder / "strangers",
                       "--nrof_folds", 5, "--baselines", "--output", folder / "verification")
    return json.loads((folder / "verification" / "verification.json").read_text())["results"]


@scenario
def verified(tools):
    """The results of FaceNet's recipe."""
    return verified_after(tools, CLASSIFIER)


@scenario
def verified_arcface(tools):
    """The results of ArcFace's."""
    return verified_after(tools, ARCFACE)


def test_the_cycle_loss_falls_to_half(learned):
    lines = (only_run(learned / "logs") / "stats.jsonl").read_text().splitlines()
    cycle = [json.loads(line)["cycle"] for line in lines]
    assert len(cycle) == STEPS // 10
    assert sum(cycle[-5:]) / 5 < cycle[0] / 2


def test_generated_photos_are_three_times_as_near_to_the_photos_as_the_renderings(learned):
    photos, renderings, generated = (read_features(str(learned / name), 100) for name in ("real", "syn", "generated"))
    assert frechet_distance(generated, photos) < frechet_distance(renderings, photos) / 3


def test_a_classifier_tells_strangers_apart(verified):
    """Chance is .5. What is learned counts beyond what the same network does with random weights."""
    trained, at_random = verified["classifier"], verified["random network"]
    assert trained["accuracy"] > .7 and trained["auc"] > .8
    assert trained["auc"] > at_random["auc"] + .05


@pytest.mark.long
def test_arcface_tells_strangers_apart(verified_arcface):
    """By the same measure."""
    trained, at_random = verified_arcface["classifier"], verified_arcface["random network"]
    assert trained["accuracy"] > .7 and trained["auc"] > .8
    assert trained["auc"] > at_random["auc"] + .05
