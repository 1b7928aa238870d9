"""Images that vanish while main.py or recognizer.py train: saved, waited for, and the same bits as undisturbed."""
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest

import main
import recognizer
from conftest import differences, NAMES, NARROW, only_run, steps_saved, words
from drawn import draw_face, write
from engine import loop
from recognition.training import ClassifierTrainer
from tool import call
from trainer import Trainer

STEPS = 16                  # more than what is read ahead
GENERATORS = {**NAMES, **NARROW, "method_c": "none", "batch_size": 3, "num_worker": 1, "max_step": STEPS, "log_step": 1,
              "checkpoint_step": 100, "save_step": 100, "keep_every": 1}
CLASSIFIER = {"real": "real", "synthetic": "syn", "model_def": "small", "image_size": 32, "embedding_size": 8,
              "batch_size": 3, "num_worker": 1, "epoch_size": STEPS, "max_nrof_epochs": 1, "log_step": 1,
              "keep_every": 1}
KINDS = {"generators": (main, [], GENERATORS, Trainer), "classifier": (recognizer, ["train"], CLASSIFIER,
                                                                       ClassifierTrainer)}
CASES = [("generators", "real"), ("classifier", "syn")]
SELDOM = [("generators", "syn"), ("generators", "paired"), ("generators", "paired/3dmm"), ("classifier", "real")]
CLASSIFIER_USUALLY = ["classifier", pytest.param("generators", marks=pytest.mark.long)]


def train(kind, data, log_dir, **options):
    """Train in this process -> Result."""
    module, command, usual, _ = KINDS[kind]
    return call(module, *command, *words(**usual | options, data_dir=data, log_dir=log_dir))


def fill(folder):
    """Draw the data of both kinds of trainings."""
    for person in range(1, 5):
        for image in range(1, 4):
            write(str(folder), f"real/{person}/{image}.jpg", draw_face(person, image, 16, photo=True))
            write(str(folder), f"syn/{person}/{image}.jpg", draw_face(person, image, 16, photo=False))
    for image in range(1, 9):
        write(str(folder), f"paired/{image}.jpg", draw_face(image, 1, 16, photo=True))
        write(str(folder), f"paired/3dmm/{image}.jpg", draw_face(image, 1, 16, photo=False))
    return folder


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """{kind: run directory} of trainings that nothing disturbs."""
    data, found = fill(tmp_path_factory.mktemp("data")), {}
    for kind in KINDS:
        log_dir = tmp_path_factory.mktemp("undisturbed")
        result = train(kind, data, log_dir)
        assert result.status == 0, result.err
        found[kind] = only_run(log_dir)
    return found


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Data and an empty folder of runs. Waiting is short."""
    monkeypatch.setattr(loop.Keeper, "AGAIN", .2)
    monkeypatch.setattr(loop.Keeper, "POLL", .05)
    fill(tmp_path / "data")
    return tmp_path


def at_step(monkeypatch, kind, step, action):
    """Do something before a training of this kind runs the step number `step`, from 1."""
    trainer = KINDS[kind][-1]
    train_step = trainer.train_step

    def changed(self, number, summarize):
        if number + 1 == step:
            action()
        return train_step(self, number, summarize)

    monkeypatch.setattr(trainer, "train_step", changed)


def when_looked_for(monkeypatch, kind, times, action):
    """Do something when a training of this kind has looked so many times whether its images are back."""
    trainer, left = KINDS[kind][-1], [times]
    count_readable = trainer.count_readable

    def changed(self):
        left[0] -= 1
        if not left[0]:
            action()
        return count_readable(self)

    monkeypatch.setattr(trainer, "count_readable", changed)


def waited_step(result):
    """The step that a training waited at, and how often it told so."""
    waits = [line for line in result.err.splitlines() if "waiting up to" in line]
    assert len(waits) == 1 and "images can be read any more (" in waits[0], result.err[-2000:]
    return int(waits[0].partition("step ")[2].partition(":")[0])


@pytest.mark.slow
@pytest.mark.parametrize("kind, folder", [*CASES, *(pytest.param(*case, marks=pytest.mark.long) for case in SELDOM)])
def test_a_drive_that_comes_back_changes_no_bit(undisturbed, place, monkeypatch, kind, folder):
    path, away = place / "data" / folder, place / "away"
    at_step(monkeypatch, kind, 3, lambda: path.rename(away))
    when_looked_for(monkeypatch, kind, 3, lambda: away.rename(path))
    result = train(kind, place / "data", place / "logs", patience=60)
    assert result.status == 0, result.err[-2000:]
    run_dir, step = only_run(place / "logs"), waited_step(result)
    assert 3 <= step < STEPS and steps_saved(run_dir) == [step - 1, STEPS]
    assert f"step {step}: the images are back after" in result.err and "Traceback" not in result.err
    assert "skipped" not in result.err
    assert not differences(run_dir / f"model.ckpt-{STEPS}", undisturbed[kind] / f"model.ckpt-{STEPS}")


@pytest.mark.slow
@pytest.mark.parametrize("kind", CLASSIFIER_USUALLY)
def test_a_folder_that_is_copied_back_slowly_changes_no_bit(undisturbed, place, monkeypatch, kind):
    path, away = place / "data" / "real", place / "away"

    def copy_back():
        for name in sorted(str(file.relative_to(away)) for file in away.rglob("*.jpg")):
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(away / name, path / name)
            time.sleep(.05)

    at_step(monkeypatch, kind, 3, lambda: path.rename(away))
    when_looked_for(monkeypatch, kind, 2, lambda: threading.Thread(target=copy_back).start())
    result = train(kind, place / "data", place / "logs", patience=60)
    assert result.status == 0 and "skipped" not in result.err, result.err[-2000:]
    waited_step(result)
    assert not differences(only_run(place / "logs") / f"model.ckpt-{STEPS}",
                           undisturbed[kind] / f"model.ckpt-{STEPS}")


@pytest.mark.slow
@pytest.mark.parametrize("kind, folder", [
    ("classifier", "real"), pytest.param("generators", "paired", marks=pytest.mark.long)])
def test_images_that_stay_away_end_a_training_that_goes_on_later(undisturbed, place, monkeypatch, kind, folder):
    path, away = place / "data" / folder, place / "away"
    with monkeypatch.context() as patch:
        at_step(patch, kind, 3, lambda: path.rename(away))
        result = train(kind, place / "data", place / "logs", patience=0)
    run_dir = only_run(place / "logs")
    saved, = steps_saved(run_dir)
    last = result.err.splitlines()[-1]
    assert result.status == 2 and ": error: " in last and str(path) in last and "waiting" not in result.err
    assert f"step {saved + 1}: " in last and last.endswith(
        f"saved at step {saved}; bring the images back and go on with --load_path {run_dir}")
    away.rename(path)
    module, command, *_ = KINDS[kind]
    result = call(module, *command, "--load_path", run_dir)
    assert result.status == 0 and steps_saved(run_dir) == [saved, STEPS], result.err[-2000:]
    assert not differences(run_dir / f"model.ckpt-{STEPS}", undisturbed[kind] / f"model.ckpt-{STEPS}")


@pytest.mark.slow
@pytest.mark.parametrize("kind, number", [
    ("classifier", signal.SIGTERM), pytest.param("generators", signal.SIGINT, marks=pytest.mark.long)])
def test_ctrl_c_while_waiting_saves(place, monkeypatch, kind, number):
    path, sent = place / "data" / "real", []
    at_step(monkeypatch, kind, 3, lambda: path.rename(place / "away"))
    when_looked_for(monkeypatch, kind, 2, lambda: (sent.append(time.monotonic()), os.kill(os.getpid(), number)))
    result = train(kind, place / "data", place / "logs", patience=600)
    run_dir = only_run(place / "logs")
    saved, = steps_saved(run_dir)
    assert result.status == 128 + number and saved + 1 == waited_step(result)
    assert result.err.endswith(f"interrupted; saved at step {saved}; go on with --load_path {run_dir}\n")
    assert time.monotonic() - sent[0] < 5


@pytest.mark.slow
@pytest.mark.parametrize("kind", CLASSIFIER_USUALLY)
def test_a_single_image_that_is_removed_is_replaced_and_named(place, monkeypatch, kind):
    """Nobody waits for it: the others are there."""
    at_step(monkeypatch, kind, 3, (place / "data/real/2/1.jpg").unlink)
    result = train(kind, place / "data", place / "logs", patience=600)
    assert result.status == 0 and "waiting" not in result.err
    assert len([line for line in result.err.splitlines() if "skipped" in line and "real/2/1.jpg" in line]) == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", CLASSIFIER_USUALLY)
def test_checkpoints_by_the_clock_change_no_bit(undisturbed, place, kind):
    result = train(kind, place / "data", place / "logs", checkpoint_minutes=1e-9)
    run_dir = only_run(place / "logs")
    assert result.status == 0 and steps_saved(run_dir) == [*range(1, STEPS + 1)]
    assert not differences(run_dir / f"model.ckpt-{STEPS}", undisturbed[kind] / f"model.ckpt-{STEPS}")


# The end of a training

@pytest.mark.slow
def test_trainings_tell_what_they_did_and_what_comes_next(undisturbed, place):
    logs = place / "logs with blanks"
    result = train("generators", place / "data", logs)
    run_dir, lines = only_run(logs), [line.partition("] ")[2] for line in result.err.splitlines()]
    done, run, look, following = lines[-4:]
    assert done.startswith(f"done: {STEPS} steps, {STEPS} of them now, in ") and "Loss_D " in done and ", k_t 0" in done
    assert run == f"the run: {run_dir}" and f"{run_dir}/{STEPS}_G.png: " in look
    assert Path(look.removeprefix("look at ").partition(":")[0]).is_file()
    assert following == f"next: python main.py --generate_dataset --load_path '{run_dir}'"

    result = train("classifier", place / "data", place / "recognizers")
    run_dir, lines = only_run(place / "recognizers"), [line.partition("] ")[2] for line in result.err.splitlines()]
    done, run, look, following, other = lines[-5:]
    assert done.startswith(f"done: {STEPS} steps, ") and "accuracy " in done and run == f"the run: {run_dir}"
    assert look.endswith(f"python evaluate.py curves {run_dir}")
    assert following == f"next: python main.py --pretrained_rec {run_dir}"
    assert other.startswith(f"or: python recognizer.py verify --weights {run_dir} ")
    assert result.out == f"trained: {run_dir}\n"


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_finished_training_is_answered_without_tensorflow_and_images(undisturbed, monkeypatch, kind):
    module, command, *_ = KINDS[kind]
    monkeypatch.setattr(module, "start", None)
    monkeypatch.setattr("datasets.image_sets.read_picture", None)
    result = call(module, *command, "--load_path", undisturbed[kind])
    assert result.status == 0, result.err
    assert f"this training has done its {STEPS} steps; give a larger --max_" in result.err
    assert "] next: python main.py " in result.err and str(undisturbed[kind]) in result.err


@pytest.mark.slow
def test_a_finished_training_is_answered_for_cont_too(undisturbed, monkeypatch):
    monkeypatch.setattr(main, "start", None)
    result = call(main, "--cont", "gen", "--log_dir", undisturbed["generators"].parent)
    assert result.status == 0 and f"this training has done its {STEPS} steps" in result.err
