"""Training by main.py (trainer, engine): what a run writes, exact resume, kills, signals, a diverging run, memory."""
import contextlib
import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import main
import utils
from config import get_config
from conftest import (
    differences,
    events,
    HERE,
    NAMES,
    NARROW,
    only_run,
    Program,
    read_checkpoint,
    scenario,
    SMALL,
    small_classifier,
    steps_saved,
    succeed,
    words,
    write_checkpoint,
)
from engine import checkpoints, runs
from engine.checkpoint_index import fingerprint
from tool import call, succeed_here

tf1 = tf.compat.v1
pytestmark = pytest.mark.slow

SCALARS = {"loss/d_loss", "loss/g_loss", "loss/g_loss_back", "loss/s_loss", "loss/p_loss", "loss/c_loss",
           "loss/sd_loss_forw", "misc/k_t", "misc/k_t2", "misc/k_t3", "misc/d_lr", "misc/g_lr", "misc/lambda_c",
           "misc/balance"}
LOGGED = {"Loss_D": "loss/d_loss", "Loss_G": "loss/g_loss", "cycle": "loss/s_loss", "identity": "loss/c_loss",
          "k_t": "misc/k_t"}
LOG_LINE = (r"^\[\d\d-\d\d \d\d:\d\d:\d\d\] \[(\d+)/(\d+)\] +(\d+\.\d{3}) s/step  "
            + "  ".join(rf"{name}: (\S+) *" for name in LOGGED) + "$")


def narrow(tools, **options):
    """Options of the narrowest training, without a classifier, and where it writes."""
    return {**NAMES, **NARROW, "data_dir": tools.drawn, "method_c": "none", "batch_size": 2, "save_step": 100,
            "num_log_id": 2, "num_log_samples": 2, "log_dir": tools.new_folder(), **options}


# Exact resume: everything that is drawn at random is on, and the classifier learns too

def everything(tools, **options):
    return dict(**NAMES, **NARROW | {"input_scale_size": 96}, **SMALL, data_dir=tools.drawn96, batch_size=2, log_step=1,
                num_log_id=2, pretrained_rec=tools.classifier, relax_c=True, lambda_c=.1, keep_probability=.8,
                **options)


@scenario
def uninterrupted(tools):
    """9 steps -> (the run directory, the command's result)."""
    log_dir = tools.new_folder()
    result = succeed(**everything(tools, log_dir=log_dir, max_step=9, checkpoint_step=1, keep_every=3, save_step=5))
    return only_run(log_dir), result


@scenario
def resumed(tools):
    """3 steps in a relative --log_dir; all is moved to another place; `--cont gen` for 3 more.

    The second command has no option but that and --max_step -> (the run directory, the second result).
    """
    old, new = tools.new_folder(), tools.new_folder()
    first = Program(cwd=old, max_step=3, **everything(tools, log_dir="logs", save_step=100)).finish()
    assert first.status == 0, first.err
    shutil.move(old / "logs", new / "logs")
    second = Program(cwd=new, max_step=6, cont="gen").finish()
    assert second.status == 0, second.err
    return only_run(new / "logs"), second


@scenario
def killed(tools):
    """A kill in the middle, the newest checkpoint damaged, and the rest by --load_path alone.

    Returns (run directory, saved steps, the second result).
    """
    options = everything(tools, log_dir=tools.new_folder(), save_step=100)
    program = Program(max_step=9, checkpoint_step=1, **options)
    program.read_until(r"\[3/9\]")             # the second checkpoint is there, and six steps are left
    program.end(signal.SIGKILL)
    run_dir = only_run(options["log_dir"])
    saved = steps_saved(run_dir)[-2:]
    damaged = run_dir / f"model.ckpt-{saved[-1]}.data-00000-of-00001"
    damaged.write_bytes(damaged.read_bytes()[:-1000])
    with open(run_dir / "stats.jsonl", "ab") as stats:
        stats.write(b'{"step": 6, "seconds_per')                # as a kill may leave it
    return run_dir, saved, succeed(load_path=run_dir, cwd=options["log_dir"])


def test_six_steps_equal_three_and_resume_and_three(uninterrupted, resumed):
    run_dir, resumed = uninterrupted[0], resumed[0]
    assert not differences(run_dir / "model.ckpt-6", resumed / "model.ckpt-6")
    assert int(read_checkpoint(resumed / "model.ckpt-6")["step"]) == 6


def test_two_identical_runs_are_identical(uninterrupted, resumed):
    run_dir, resumed = uninterrupted[0], resumed[0]
    assert not differences(run_dir / "model.ckpt-3", resumed / "model.ckpt-3")
    ours, theirs = events(run_dir)[0], events(resumed)[0]
    assert {(tag, step) for tag, step in theirs if tag in SCALARS} == {(t, s) for t in SCALARS for s in range(1, 7)}
    assert all(ours[key] == theirs[key] for key in theirs)


@pytest.fixture(scope="module")
def hinge_runs(tools):
    """The hinge game with an identity loss: 4 steps at once, and 2 steps and 2 more -> both run directories."""
    options = narrow(tools, game="hinge", d_layers="1,3", augment="shift,cut,color,zoom,shade", r1=.1,
                     upsampling="resize", normalization="none", lambda_f=1, background="noise", loosen_step=3,
                     chroma_weight=2, lambda_m=1, lambda_e=2, pixel_loss="squared", checkpoint_step=2, log_step=2,
                     **SMALL, method_c="magnet", lambda_c=.1, pretrained_rec=tools.classifier)
    again = {**options, "log_dir": tools.new_folder()}
    succeed_here(main, *words(**options, max_step=4))
    succeed_here(main, *words(**again, max_step=2))
    succeed_here(main, *words(log_dir=again["log_dir"], cont="gen", max_step=4))
    return only_run(options["log_dir"]), only_run(again["log_dir"])


def test_the_hinge_game_resumes_exactly_and_trains_everything(hinge_runs):
    once, resumed = hinge_runs
    assert not differences(once / "model.ckpt-4", resumed / "model.ckpt-4")
    before, after = (read_checkpoint(once / f"model.ckpt-{step}") for step in (2, 4))
    still = {name for name in after if np.array_equal(before[name], after[name]) and not name.startswith("Logits/")}
    # The head of --method_c softmax, Logits, has no part in it.
    # While all verdicts lie between -1 and 1, real and fake ones pull alike at the last bias.
    assert {name for name in still if "/verdict/biases" not in name} == {"k_t", "k_t2", "k_t3"}
    assert not any(after[name].any() for name in still)
    assert {("loss/f_loss", 4), ("loss/m_loss", 4), ("loss/e_loss", 4)} <= events(once)[0].keys()


def test_a_killed_run_goes_on_before_its_damaged_checkpoint_and_repeats_its_steps(uninterrupted, killed):
    run_dir, saved, result = killed
    assert saved[0] + 1 == saved[1] < 9
    assert f"model.ckpt-{saved[1]} is not a whole checkpoint" in result.err
    assert f"going on after step {saved[0]}\n" in result.err
    assert not differences(uninterrupted[0] / "model.ckpt-9", run_dir / "model.ckpt-9")


def test_a_resumed_run_says_what_it_remembers_and_keeps_it(uninterrupted, killed, resumed):
    """All but where and when: what was given to the first command holds for those that go on."""
    ours = json.loads((uninterrupted[0] / "params.json").read_text())
    for run_dir, result, lasts in ((killed[0], killed[2], 9), (resumed[0], resumed[1], 6)):
        line, = [line for line in result.err.splitlines() if "its options are taken where none is given" in line]
        assert str(run_dir.name) in line and "--relax_c True" in line and "--conv_hidden_num 4" in line
        assert "--log_dir" not in line and "--load_path" not in line and "--cont" not in line
        theirs = json.loads((run_dir / "params.json").read_text())
        different = {name for name in ours if ours[name] != theirs[name]}
        assert different <= {"log_dir", "load_path", "cont", "save_step", "checkpoint_step", "keep_every", "max_step",
                             "date", "git_commit"}
        assert theirs["max_step"] == lasts


def test_every_variable_was_trained(uninterrupted):
    """Else the equality of two runs says nothing."""
    run_dir, _ = uninterrupted
    before, after = read_checkpoint(run_dir / "model.ckpt-3"), read_checkpoint(run_dir / "model.ckpt-9")
    still = [name for name in after if np.array_equal(before[name], after[name])]
    assert not [name for name in still if "/moving_" not in name and not name.startswith(("k_t", "Logits/"))]
    assert any(before[k] != after[k] for k in ("k_t", "k_t2", "k_t3"))


# What a run writes

def test_params_hold_every_option_and_the_versions(uninterrupted, tmp_path):
    run_dir, _ = uninterrupted
    params = json.loads((run_dir / "params.json").read_text())
    options = vars(get_config([])[0])
    assert options.keys() <= params.keys()
    assert (params["max_step"], params["relax_c"], params["checkpoint_step"]) == (9, True, 1)
    assert params["versions"]["tensorflow"] == tf.__version__ and params["versions"]["python"]
    assert params["identities"] == "identities.json" and "git_commit" in params
    assert params["classifier"] == fingerprint(params["pretrained_rec"])
    assert json.loads((run_dir / "identities.json").read_text()) == ["00001", "00002", "00003"]


def test_run_directory_has_the_name_and_the_files_of_the_specification(uninterrupted):
    run_dir, _ = uninterrupted
    assert re.fullmatch(r".+_gen_\d{4}_\d{6}", run_dir.name)
    kinds = {re.sub(r"tfevents\..*", "tfevents", path.name) for path in run_dir.iterdir()}
    assert kinds == {"params.json", "identities.json", "stats.jsonl", "syn_fixed.png", "checkpoint",
                     "events.out.tfevents", *(f"{step}_{kind}.png" for step in (5, 9)
                                              for kind in ("G", "G_raw", "pairs", "reconstructions")),
                     *(f"model.ckpt-{step}.{part}" for step in (3, 6, 8, 9)
                       for part in ("index", "data-00000-of-00001"))}


def test_checkpoints_are_the_last_two_and_every_third(uninterrupted):
    assert steps_saved(uninterrupted[0]) == [3, 6, 8, 9]
    assert tf.train.latest_checkpoint(str(uninterrupted[0])).endswith("model.ckpt-9")


def test_sample_sheets_have_a_row_for_each_identity(uninterrupted, drawn96):
    run_dir, _ = uninterrupted
    size = (8 * 98 - 2, 2 * 98 - 2)                     # 2 of 3 identities, 8 samples of which there are 3
    fixed, first, last = (np.asarray(Image.open(run_dir / name)).astype(int)
                          for name in ("syn_fixed.png", "5_G.png", "9_G.png"))
    assert [image.shape[1::-1] for image in (fixed, first, last)] == [size] * 3
    second = np.asarray(Image.open(drawn96 / "syn/00002/00001.jpg").convert("RGB"))
    assert np.array_equal(fixed[98:98 + 96, :96], second)
    assert all((image[:, 3 * 98:] == 0).all() and image[:96, :96].std() > 1 for image in (fixed, first, last))
    assert np.abs(first - last).mean() > .01


def test_log_lines_tell_the_losses(uninterrupted):
    """Of the run directory's events, with four digits; the lines are aligned."""
    run_dir, result = uninterrupted
    lines = re.findall(LOG_LINE, result.err, re.MULTILINE)
    assert [(int(step), int(of)) for step, of, *_ in lines] == [(step, 9) for step in range(1, 10)]
    scalars, _ = events(run_dir)
    for step, _, seconds, *shown in lines:
        assert 0 < float(seconds) < 60
        for tag, value in zip(LOGGED.values(), shown):
            assert float(value) == pytest.approx(scalars[tag, int(step)], rel=6e-4, abs=1e-9), (step, tag)
    whole_lines = [line for line in result.err.splitlines() if " Loss_D: " in line]
    assert len({tuple(line.index(f" {name}: ") for name in LOGGED) for line in whole_lines}) == 1


def numbers_in(run_dir):
    """The objects in the whole lines of a run's stats.jsonl, and the other lines."""
    rows, others = [], []
    for line in (run_dir / "stats.jsonl").read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            others.append(line)
    return rows, others


def test_stats_hold_the_numbers_of_the_log_lines(uninterrupted):
    run_dir, result = uninterrupted
    rows, others = numbers_in(run_dir)
    lines = re.findall(LOG_LINE, result.err, re.MULTILINE)
    assert len(rows) == len(lines) == 9 and not others
    for row, (step, _, seconds, *shown) in zip(rows, lines):
        assert list(row) == ["step", "seconds_per_step", *LOGGED] and row["step"] == int(step)
        assert row["seconds_per_step"] == pytest.approx(float(seconds), abs=6e-4)
        assert [row[name] for name in LOGGED] == pytest.approx([float(value) for value in shown], rel=6e-4, abs=1e-9)


def test_stats_of_resumed_runs_go_on(uninterrupted, resumed, killed):
    """The same numbers again, but for the time; what a kill cut off stands on a line of its own."""
    def timeless(rows):
        return [{name: value for name, value in row.items() if name != "seconds_per_step"} for row in rows]

    whole = timeless(numbers_in(uninterrupted[0])[0])
    rows, others = numbers_in(resumed[0])
    assert timeless(rows) == whole[:6] and not others
    rows, others = numbers_in(killed[0])
    assert others == ['{"step": 6, "seconds_per']
    last = next(i for i, row in enumerate(rows) if i and row["step"] <= rows[i - 1]["step"])       # before the kill
    assert timeless(rows[:last]) == whole[:last] and timeless(rows[last:]) == whole[killed[1][0]:]


def test_tensorboard_tags(uninterrupted):
    scalars, images = events(uninterrupted[0])
    assert set(scalars) == {(tag, step) for tag in SCALARS for step in range(1, 10)}
    assert all(np.isfinite(value) for value in scalars.values())
    assert {tag.split("/")[0] for tag in images} == {
        "real", "generated", "generated_rendering", "rendering", "generated_reconstruction", "real_reconstruction"}


def test_progress_tells_losses_speed_and_time_left(uninterrupted):
    assert re.search(r"9/9 \[\d\d:\d\d<\d\d:\d\d, +[\d.]+(step/s|s/step), D=[\d.]+, G=[\d.]+\]", uninterrupted[1].err)


# Memory

def test_memory_does_not_grow(trained):
    (resident, peak), (resident_later, peak_later) = trained.memory[50], trained.memory[200]
    print(f"memory in MB after step 50: {resident:.0f}, at most {peak:.0f}; "
          f"after step 200: {resident_later:.0f}, at most {peak_later:.0f}")
    assert resident_later - resident < 40 and peak_later - peak < 40


# Signals

@scenario
def stopped(tools):
    """{signal: (run directory, result)} of trainings that got SIGINT and SIGTERM."""
    programs = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        options = narrow(tools, max_step=10 ** 6, log_step=3)
        programs[number] = options["log_dir"], Program(**options)
    results = {}
    for number, (log_dir, program) in programs.items():
        program.read_until(r"\[6/1000000\]")
        results[number] = program.end(number), only_run(log_dir)
    return results


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_save_and_leave_with_one_line(stopped, number):
    result, run_dir = stopped[number]
    step = steps_saved(run_dir)[-1]
    assert result.status == 128 + number and "Traceback" not in result.err
    assert result.errors == [f"main.py: interrupted; saved at step {step}; go on with --load_path {run_dir}"]
    assert step >= 6 and int(read_checkpoint(run_dir / f"model.ckpt-{step}")["step"]) == step


def test_interrupted_before_any_work(tools_for_interruption):
    result, log_dir = tools_for_interruption
    assert result.status == 128 + signal.SIGINT and result.errors == ["main.py: interrupted"], result.err
    assert not list(log_dir.iterdir())


@scenario
def tools_for_interruption(tools):
    """SIGINT while the graph is being built."""
    options = narrow(tools, max_step=5, ren_lr=1)
    program = Program(**options)
    program.read_until("nothing to act on.*ren_lr")             # the first that it says
    time.sleep(3)
    return program.end(signal.SIGINT), options["log_dir"]


# Two towers

@pytest.fixture(scope="module")
def two_towers(tools):
    """--num_gpu 2 on a machine without GPUs -> (run directory, result)."""
    options = narrow(tools, num_gpu=2, max_step=5, warm_up=2, log_step=1)
    result = succeed_here(main, *words(**options))
    return only_run(options["log_dir"]), result


def test_two_towers_run_without_gpus(two_towers):
    """Half the steps, of two batches each; the rates rise to twice their value over the warm-up."""
    run_dir, result = two_towers
    assert steps_saved(run_dir) == [2] and re.search(r"\[2/2\] +\d+\.\d{3} s/step  Loss_D: ", result.err)
    scalars, _ = events(run_dir)
    assert [scalars["misc/g_lr", step] for step in (1, 2)] == pytest.approx([8e-5, 12e-5])


# Twenty kills

KILLS, SEED = 20, 5


@scenario
def battered(tools):
    """One run killed 20 times at random moments, most of them around checkpoints, and then let finish.

    `forked_run.py` builds the graph once, and goes on with the run in a new process each time it is told to: opening
    the session, restoring, training and saving are the program's own. Returns (run directory, a directory where the
    same steps went through at once, steps saved after each kill, the last command's result).
    """
    rng = random.Random(SEED)
    options = narrow(tools, log_step=7, save_step=1, checkpoint_step=1)
    (options["log_dir"] / "run").mkdir()
    (options["log_dir"] / "run" / "params.json").write_text("{}")       # as of a run that has saved nothing yet
    server = subprocess.Popen([sys.executable, str(HERE / "forked_run.py"), *words(
        load_path="run", max_step=10 ** 6, **options)], cwd=HERE, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, bufsize=1)
    run_dir, history = options["log_dir"] / "run", []
    try:
        for number in range(KILLS):
            server.stdin.write("go on\n")
            assert server.stdout.readline() == "started\n"
            saved = steps_saved(run_dir)[-1:]
            deadline = time.monotonic() + 60
            if number % 4:              # else at any moment of the start
                while steps_saved(run_dir)[-1:] == saved:
                    assert time.monotonic() < deadline, f"kill {number}: no step after {saved}"
                    time.sleep(.005)
            time.sleep(rng.uniform(0, .3 if number % 4 else 3))
            server.stdin.write("kill\n")
            assert server.stdout.readline() == "killed\n"
            history.append(steps_saved(run_dir)[-1:])
    finally:
        server.stdin.close()
        server.wait()
    last = (steps_saved(run_dir) or [0])[-1] + 2
    finished = succeed(**options, load_path="run", max_step=last)
    at_once = tools.new_folder()
    succeed(**options | {"log_dir": at_once, "log_step": 10 ** 6, "checkpoint_step": 10 ** 6}, max_step=last)
    return run_dir, only_run(at_once), history, finished


@pytest.mark.long
def test_a_run_killed_at_20_random_moments_ends_like_one_that_was_not(battered):
    run_dir, at_once, history, _ = battered
    print("steps saved after each kill:", history)
    assert len(history) == KILLS and history == sorted(history) and len({*map(tuple, history)}) > KILLS / 2
    last = steps_saved(at_once)[-1]
    assert not differences(at_once / f"model.ckpt-{last}", run_dir / f"model.ckpt-{last}")


@pytest.mark.long
def test_kills_leave_nothing_behind(battered):
    run_dir, _, _, result = battered
    assert "not a whole checkpoint" not in result.err
    assert not [path.name for path in run_dir.iterdir() if "tmp" in path.name]
    saved = steps_saved(run_dir)
    assert len(saved) == 2
    assert {path.name for path in run_dir.glob("model.ckpt*")} == {
        f"model.ckpt-{step}.{part}" for step in saved for part in ("index", "data-00000-of-00001")}


DAMAGE = {
    "no index": lambda index, data: index.unlink(),
    "an empty index": lambda index, data: index.write_bytes(b""),
    "half an index": lambda index, data: index.write_bytes(index.read_bytes()[:len(index.read_bytes()) // 2]),
    "no data": lambda index, data: data.unlink(),
    "empty data": lambda index, data: data.write_bytes(b""),
    "data cut short": lambda index, data: data.write_bytes(data.read_bytes()[:-1]),
    "data overwritten": lambda index, data: data.write_bytes(data.read_bytes()[:-4] + b"oops"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_never_picked_up(tmp_path, damage):
    for step in (1, 2):
        write_checkpoint(tmp_path / f"model.ckpt-{step}", {"a": np.full([5], step, np.float32),
                                                          "b": np.full([3], step, np.float32)})
    DAMAGE[damage](tmp_path / "model.ckpt-2.index", tmp_path / "model.ckpt-2.data-00000-of-00001")
    prefix, values = checkpoints.read_newest(str(tmp_path), ["a", "b"])
    assert prefix.endswith("model.ckpt-1") and (values["a"] == 1).all() and (values["b"] == 1).all()


class Killed(BaseException):
    """In place of a kill: nothing catches it."""


def test_a_kill_between_any_two_file_operations_of_a_save(tmp_path, monkeypatch):
    """The checkpoints before or the new one can be read, and the next save cleans up."""
    for step in (10, 20, 30, 40):
        write_checkpoint(tmp_path / f"made-{step}", {"a": np.full([9], step, np.float32)})

    def save(run_dir, step):
        def copy(session, prefix, **options):
            for part in tmp_path.glob(f"made-{step}.*"):
                shutil.copy(part, prefix + part.name.removeprefix(f"made-{step}"))
        checkpoints.save(None, SimpleNamespace(save=copy), str(run_dir), step)

    def counted(function):
        def call(*arguments):
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            return function(*arguments)
        return call

    for number in itertools.count():
        run_dir = tmp_path / f"run{number}"
        run_dir.mkdir()
        save(run_dir, 10)
        save(run_dir, 20)
        left = number
        with monkeypatch.context() as patch, contextlib.suppress(Killed):
            for name in ("replace", "remove", "fsync"):
                patch.setattr(os, name, counted(getattr(os, name)))
            save(run_dir, 30)
        prefix, values = checkpoints.read_newest(str(run_dir), ["a"])
        assert (values["a"] == runs.step_of(prefix)).all() and prefix.endswith(("-20", "-30"))
        utils.clean_temporary(str(run_dir))
        save(run_dir, 40)
        before = "30" if prefix.endswith("-30") else "20"
        assert {path.name for path in run_dir.iterdir()} == {"checkpoint", *(
            f"model.ckpt-{step}.{part}" for step in (before, 40) for part in ("index", "data-00000-of-00001"))}
        if left >= 0:
            break
    assert number >= 7


def test_a_new_checkpoint_stays_when_later_ones_are_damaged(tmp_path):
    for step in (3, 8, 9):
        write_checkpoint(tmp_path / f"model.ckpt-{step}", {"a": np.full([9], step, np.float32)})
    for step in (8, 9):
        (tmp_path / f"model.ckpt-{step}.data-00000-of-00001").write_bytes(b"")
    with tf.Graph().as_default(), tf1.Session() as session:
        a = tf1.get_variable("a", initializer=np.full([9], 4, np.float32))
        session.run(a.initializer)
        checkpoints.save(session, tf1.train.Saver([a]), str(tmp_path), 4)
    assert checkpoints.read_newest(str(tmp_path), ["a"])[0].endswith("model.ckpt-4")


# Resume of another run

@pytest.mark.parametrize("option, other", [
    ("conv_hidden_num", 8), ("conv_hidden_num_res", 8), ("num_res_rep", 2), ("z_num", 4), ("grayscale", True),
    ("game", "hinge"), ("upsampling", "resize"), ("normalization", "none"),
    ("optimizer", "sgd"), ("method_c", "center"), ("relax_c", True), ("embedding_size", 8),
    ("facenet_scope", "Other"), ("standardization", "fixed"), ("input_scale_size", 32)])
def test_a_run_of_other_structural_options_is_refused(trained, tmp_path, monkeypatch, option, other):
    """Also where the classifier that is given would fit the options."""
    monkeypatch.setattr(main, "start", None)
    before = {path: path.stat().st_mtime_ns for path in trained.run_dir.iterdir()}
    options = trained.options | {option: other}
    if option in ("embedding_size", "facenet_scope"):
        values = small_classifier(options.get("facenet_scope", "InceptionResnetV1"), options["embedding_size"])
        options["pretrained_rec"] = write_checkpoint(tmp_path / "model-1", values)
    result = call(main, *words(**options, load_path=trained.run_dir, max_step=300))
    was = trained.options.get(option, get_config([])[0].__dict__[option])
    assert result.status == 2 and len(result.errors) == 1, result.err
    assert f"{option} (run: {was}, given: {other})" in result.errors[0]
    assert {path: path.stat().st_mtime_ns for path in trained.run_dir.iterdir()} == before


def test_a_hinge_run_of_other_discriminators_is_refused(hinge_runs, monkeypatch):
    """But not for what only the other game has, which does not count."""
    class Reached(Exception):
        pass

    def start(xla, precision):
        raise Reached

    monkeypatch.setattr(main, "start", start)
    for option, was, given in (("d_layers", "1,3", 3), ("d_scales", 1, 2)):
        result = call(main, *words(load_path=hinge_runs[0], max_step=6, **{option: given}))
        assert result.status == 2 and len(result.errors) == 1, result.err
        assert f"{option} (run: {was}, given: {given})" in result.errors[0]
    with pytest.raises(Reached):
        call(main, *words(load_path=hinge_runs[0], max_step=6, z_num=3))


def test_a_run_of_other_identities_is_refused(trained, drawn, tmp_path, monkeypatch):
    """One that is called otherwise; one more; and one less, which shows when the images are decoded."""
    monkeypatch.setattr(main, "start", None)
    options = trained.options | {"data_dir": tmp_path / "data", "load_path": trained.run_dir, "max_step": 300}

    def refused():
        result = call(main, *words(**options))
        assert result.status == 2 and len(result.errors) == 1, result.err
        assert "identities" in result.errors[0] and str(trained.run_dir) in result.errors[0]

    shutil.copytree(drawn, tmp_path / "data")
    (tmp_path / "data/syn/00005").rename(tmp_path / "data/syn/00006")
    refused()
    shutil.copytree(drawn / "syn/00005", tmp_path / "data/syn/00005")
    refused()
    shutil.rmtree(tmp_path / "data/syn/00006")
    (tmp_path / "data/syn/00005/00001.jpg").write_bytes(b"")
    refused()


# A run that can't go on, and one that starts from another's weights

@pytest.fixture(scope="module")
def diverged(tools):
    options = narrow(tools, max_step=50, g_lr=1e9, checkpoint_step=1, log_step=1)
    return call(main, *words(**options)), only_run(options["log_dir"])


def test_a_loss_that_is_not_finite_ends_the_run(diverged):
    result, run_dir = diverged
    assert result.status == 1 and len(result.errors) == 1 and "Traceback" not in result.err
    step, = re.findall(r"^main.py: the training diverged; step (\d+): ", result.errors[0])
    good = steps_saved(run_dir)[-1]
    assert result.errors[0].endswith(f"last good checkpoint: {run_dir}/model.ckpt-{good}")
    assert good == int(step) - 1
    assert all(np.isfinite(value).all() for value in read_checkpoint(run_dir / f"model.ckpt-{good}").values())


@pytest.fixture(scope="module")
def warmed(tools, trained):
    """A new training, without a classifier, from the weights of `trained` -> (run directory, result)."""
    options = narrow(tools, max_step=1, g_lr=1e-7, d_lr=1e-7, pretrained_gen=trained.run_dir / "model.ckpt-200")
    result = succeed_here(main, *words(**options))
    return only_run(options["log_dir"]), result


def test_a_new_training_from_the_weights_of_another(trained, warmed):
    run_dir, result = warmed
    assert run_dir != trained.run_dir and "starts from these weights" in result.err
    old, new = read_checkpoint(trained.run_dir / "model.ckpt-200"), read_checkpoint(run_dir / "model.ckpt-1")
    assert int(new["step"]) == 1 and new["beta1_power"] == np.float32(.9) ** 2
    weights = [name for name in new if name.startswith(("G_inf/", "G_inv/", "D_forw/", "D_back/"))
               and "ExponentialMovingAverage" not in name and "Adam" not in name]
    assert weights and all(np.abs(new[name] - old[name]).max() < 1e-6 for name in weights)
    assert all(np.abs(new[f"{name}/ExponentialMovingAverage"] - old[name]).max() < 1e-6 for name in weights)


@pytest.mark.slow
def test_a_finished_training_is_answered_at_once(trained, monkeypatch):
    """Neither images are read nor TensorFlow is loaded."""
    monkeypatch.setattr(main, "start", None)
    monkeypatch.setattr(main.preflight, "check", None)
    result = call(main, "--load_path", trained.run_dir)
    assert result.status == 0 and "has done its 200 steps" in result.err
