"""engine/runs: folders of runs, their options, their numbers and checkpoints: found, checked, written."""
import argparse
import errno
import json
import logging
import os
import re
from pathlib import Path

import numpy as np
import pytest

import utils
from engine import runs
from engine.curves import read_stats
from engine.runs import Run, Stats
from tool import one_line, touch
from utils import Diverged, UserError

FIRST_FORMAT = bytes.fromhex("57fb808b247547db")         # ends a checkpoint in TensorFlow's first format


@pytest.fixture
def options(tmp_path):
    """Those that a Run needs, and two more."""
    return argparse.Namespace(log_dir=str(tmp_path / "logs"), task="task", g_lr=8e-5, name=None)


def lines(folder):
    return Path(folder, "stats.jsonl").read_text().splitlines()


# A run

def test_a_run_leaves_no_trace_before_it_is_entered(tmp_path, options):
    run = Run(options, ["a", "b"])
    assert run.folder is None and run.checkpoints == [] and not list(tmp_path.iterdir())
    with run:
        assert re.fullmatch(rf"{tmp_path}/logs/task_gen_\d{{4}}_\d{{6}}", run.folder)
        assert sorted(os.listdir(run.folder)) == [utils.LOCK, "identities.json", "params.json", "stats.jsonl"]
    assert utils.LOCK not in os.listdir(run.folder)
    params = runs.load_params(run.folder)
    assert (params["g_lr"], params["task"], params["identities"]) == (8e-5, "task", "identities.json")
    assert json.loads(Path(run.folder, "identities.json").read_text()) == ["a", "b"]
    with Run(options, {}, kind="rec") as other:
        assert "/task_rec_" in other.folder and other.folder != run.folder


def test_a_run_without_a_task_is_called_after_the_branch(options, monkeypatch):
    monkeypatch.setattr(utils, "git_branch", lambda: "topic/mine")
    options.task = None
    with Run(options, []) as run:
        assert os.path.basename(run.folder).startswith("topic-mine_gen_")


def test_a_run_that_goes_on_keeps_its_folder_and_its_numbers(options):
    """And loses what a kill left; its options are those of now."""
    with Run(options, ["a"]) as first:
        first.note(1, {"loss": .5})
    touch(first.folder, ".tmp-model.ckpt-7.index", ".tmp-0123456789abcdef", "model.ckpt-3.index")
    options.g_lr = 1.
    with Run(options, ["a"], folder=first.folder) as run:
        run.note(2, {"loss": .25})
        assert run.folder == first.folder and run.checkpoints == [f"{first.folder}/model.ckpt-3"]
    assert sorted(os.listdir(run.folder)) == ["identities.json", "model.ckpt-3.index", "params.json", "stats.jsonl"]
    assert os.listdir(options.log_dir) == [os.path.basename(run.folder)] and runs.load_params(run.folder)["g_lr"] == 1
    assert [json.loads(line) for line in lines(run.folder)] == [{"step": 1, "loss": .5}, {"step": 2, "loss": .25}]


@pytest.mark.parametrize("loss", [np.nan, np.inf, -np.inf])
def test_losses_have_to_be_finite(options, loss):
    with Run(options, []) as run:
        run.check_losses(6, {"d": 1e30, "g": -1.})
        with pytest.raises(Diverged) as error:
            run.check_losses(7, {"d": .123456, "g": loss})
        assert str(error.value) == f"step 7: d 0.1235, g {loss}; last good checkpoint: none"
        touch(run.folder, "model.ckpt-3.index", "model.ckpt-20.index")
        assert str(run.diverged(8, "why")) == f"step 8: why; last good checkpoint: {run.folder}/model.ckpt-20"


# Numbers

def test_stats_are_lines_of_json_rounded_to_six_digits(tmp_path):
    stats = Stats(str(tmp_path / "stats.jsonl"))
    stats.add({"step": 123456789, "a": .123456789, "b": 1234567., "c": 1e-9 / 3, "d": 0., "e": -2., "f": "word"})
    stats.add({"step": 2})
    assert lines(tmp_path) == [
        '{"step": 123456789, "a": 0.123457, "b": 1234570.0, "c": 3.33333e-10, "d": 0.0, "e": -2.0, "f": "word"}',
        '{"step": 2}']                              # there before the file is closed
    stats.close()
    stats.close()
    stats.add({"step": 3})
    assert len(lines(tmp_path)) == 2


def test_numpys_numbers_become_numbers(tmp_path):
    stats = Stats(str(tmp_path / "stats.jsonl"))
    stats.add({"step": 1, "a": float(np.float32(.1)), "b": np.float64(1 / 3)})
    stats.close()
    assert lines(tmp_path) == ['{"step": 1, "a": 0.1, "b": 0.333333}']


@pytest.mark.parametrize("cut", range(1, len('{"step": 20, "loss": 2.5}')))
def test_half_a_line_that_a_kill_left_stands_alone_and_is_skipped(tmp_path, cut):
    path = tmp_path / "stats.jsonl"
    whole = b'{"step": 20, "loss": 2.5}'
    path.write_bytes(b'{"step": 10, "loss": 1.5}\n' + whole[:cut])
    for _ in range(2):                              # the second time, nothing is to be ended
        Stats(str(path)).close()
    stats = Stats(str(path))
    stats.add({"step": 20, "loss": 3.5})
    stats.close()
    assert lines(tmp_path) == ['{"step": 10, "loss": 1.5}', whole[:cut].decode(), '{"step": 20, "loss": 3.5}']
    steps, values = read_stats(str(tmp_path))["loss"]
    assert (steps.tolist(), values.tolist()) == ([10, 20], [1.5, 3.5])


def test_a_line_that_lacks_only_its_end_is_kept(tmp_path):
    path = tmp_path / "stats.jsonl"
    path.write_bytes(b'{"step": 10, "loss": 1.5}')
    stats = Stats(str(path))
    stats.add({"step": 20, "loss": 2.5})
    stats.close()
    assert lines(tmp_path) == ['{"step": 10, "loss": 1.5}', '{"step": 20, "loss": 2.5}']


def test_a_full_disk_ends_the_numbers_with_one_warning(options, caplog):
    with Run(options, []) as run:
        run.note(1, {"loss": 1.})
        run._stats.close()
        run._stats = Stats("/dev/full")
        for step in (2, 3, 4):
            run.note(step, {"loss": 2.})
    assert [(record.levelno, record.getMessage()) for record in caplog.records if record.levelno > logging.INFO] == [
        (logging.WARNING, f"/dev/full: ends here ({os.strerror(errno.ENOSPC)})")]
    assert len(lines(run.folder)) == 1


# Folders

def test_run_directories(tmp_path, monkeypatch):
    log_dir = str(tmp_path / "new" / "logs")
    assert re.fullmatch(r"a-b_gen_\d{4}_\d{6}", os.path.basename(runs.prepare_dirs(log_dir, "a/b")))
    monkeypatch.setattr(runs.time, "strftime", lambda form: "0102_030405")
    names = [os.path.relpath(runs.prepare_dirs(log_dir, "t"), log_dir) for _ in range(3)]
    assert names == ["t_gen_0102_030405", "t_gen_0102_030405_2", "t_gen_0102_030405_3"]


def test_log_dir_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    for log_dir in (tmp_path / "file", tmp_path / "file" / "logs", "/proc/logs"):
        with pytest.raises(UserError) as error:
            runs.prepare_dirs(str(log_dir), "t")
        one_line(error, f"--log_dir {log_dir}", "name a folder")


def test_find_run_by_name_and_path(tmp_path, monkeypatch):
    (tmp_path / "logs" / "run").mkdir(parents=True)
    (tmp_path / "logs" / "data").mkdir()                        # of images, say
    (tmp_path / "logs" / "run" / "params.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    for log_dir, load_path in (("logs", "run"), ("logs", "run/"), ("logs", "logs/run"), ("elsewhere", "logs/run"),
                               ("logs", str(tmp_path / "logs" / "run"))):
        assert os.path.samefile(runs.find_run(log_dir, load_path), "logs/run")
    with pytest.raises(UserError) as error:
        runs.find_run("logs", "other")
    with pytest.raises(UserError, match="--load_path data: no such run"):
        runs.find_run("logs", "data")
    one_line(error, "--load_path other", "logs")


def test_newest_run_is_that_of_the_newest_checkpoint(tmp_path):
    assert runs.newest_run(str(tmp_path / "absent")) is None
    touch(tmp_path, "empty/params.json", "a/model.ckpt-3.index", "b/model.ckpt-9.index", "c/model.ckpt-1.index.tmp")
    os.utime(tmp_path / "b" / "model.ckpt-9.index", (1, 1))
    touch(tmp_path, "a_rec_0102_030405/model.ckpt-5.index", "a_rec_0102_030405_2/model.ckpt-5.index")    # classifiers
    assert runs.newest_run(str(tmp_path)) == str(tmp_path / "a")


def test_params_tell_options_versions_and_extras(tmp_path):
    config = argparse.Namespace(g_lr=8e-5, task=None)
    runs.save_config(config, str(tmp_path), identities="identities.json")
    params = runs.load_params(str(tmp_path))
    assert params["g_lr"] == 8e-5 and params["task"] is None and params["identities"] == "identities.json"
    assert set(params["versions"]) == {"python", "numpy", "pillow", "tensorflow"} and all(params["versions"].values())
    assert params["git_commit"] == utils.git("rev-parse", "HEAD") and re.match(r"\d{4}-\d\d-\d\dT", params["date"])


@pytest.mark.parametrize("text", ['{"a": ', "[1, 2]", "\udcff", ""])
def test_broken_params(tmp_path, text):
    (tmp_path / "params.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UserError) as error:
        runs.load_params(str(tmp_path))
    one_line(error, "params.json")


def test_absent_params(tmp_path):
    assert runs.load_params(str(tmp_path)) == {}


# Checkpoints

@pytest.mark.parametrize("path, found", [
    ("run", [1000, 20, 3]), ("run/model.ckpt", [1000, 20, 3]), ("run/model.ckpt-20", [20]), ("run/model.ckpt-2", []),
    ("bare/model.ckpt", [0]), ("bare", [0]), ("old/model.ckpt-5", [5]), ("absent", []), ("empty", [])])
def test_list_checkpoints(tmp_path, monkeypatch, path, found):
    monkeypatch.chdir(tmp_path)
    touch(tmp_path / "run", *(f"model.ckpt-{step}.index" for step in (3, 20, 1000)), ".tmp-model.ckpt-9.index",
          "model.ckpt-20.data-00000-of-00001", "model.ckpt-30.data-00000-of-00001")
    touch(tmp_path, "bare/model.ckpt.index", "old/model.ckpt-5", "empty/file")
    (tmp_path / "old/model.ckpt-5").write_bytes(FIRST_FORMAT)
    assert [runs.step_of(prefix) for prefix in runs.list_checkpoints(path)] == found
    assert all(os.path.exists(prefix + ".index") or os.path.exists(prefix) for prefix in runs.list_checkpoints(path))


def test_find_checkpoint_by_path_and_in_log_dir(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "logs/run/model.ckpt-7.index", "here/model.ckpt-9.index", "logs/here/model.ckpt-8.index", "no/file")
    for path, found in (("run", "logs/run"), ("run/model.ckpt-7", "logs/run/model.ckpt-7"), ("logs/run", "logs/run"),
                        ("here", "here"), (str(tmp_path / "here"), str(tmp_path / "here")), ("no", None), ("x", None)):
        assert runs.find_checkpoint("logs", path, missing=None) == found
        if found is None:
            with pytest.raises(UserError, match=f"--pretrained_gen {path}: no checkpoint there"):
                runs.find_checkpoint("logs", path)


def test_weights_are_checkpoints_then_frozen_graphs(tmp_path):
    folder = touch(tmp_path, "model-1.ckpt-5.index", "model-1.ckpt-90.index", "b.pb", "a.pb", "notes.txt")
    assert [os.path.basename(path) for path in runs.list_weights(folder)] == [
        "model-1.ckpt-90", "model-1.ckpt-5", "a.pb", "b.pb"]
    assert runs.list_weights(f"{folder}/a.pb") == [f"{folder}/a.pb"] and runs.list_weights(f"{folder}/c.pb") == []


def test_folder_of(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    assert [runs.folder_of(path) for path in ("run", "run/model.ckpt-3", "model.ckpt-3", "/a/b")] == [
        "run", "run", ".", "/a"]


# Checks before work starts

def test_where_a_run_will_be_written_is_checked_and_nothing_created(tmp_path):
    touch(tmp_path, "file")
    for log_dir, resumed in ((tmp_path / "new/logs", None), ("/proc/logs", tmp_path)):
        runs.check_run_writable(str(log_dir), resumed and str(resumed))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    with pytest.raises(UserError) as error:
        runs.check_run_writable(str(tmp_path / "file"), None)
    one_line(error, f"--log_dir {tmp_path}/file: can't create a run directory there (", "name a folder")
    with pytest.raises(UserError) as error:
        runs.check_run_writable(str(tmp_path), "/proc/run")
    one_line(error, "--load_path /proc/run: can't write there (")


def test_a_run_of_other_options_is_refused():
    runs.check_options("run", [])
    with pytest.raises(UserError) as error:
        runs.check_options("run", ["a (run: 1, given: 2)", "b (run: x, given: y)"])
    one_line(error, "--load_path run: ", "a (run: 1, given: 2), b (run: x, given: y)", "or start a new run")


def test_a_run_of_other_identities_is_refused(tmp_path):
    runs.check_run_identities(str(tmp_path), ["a", "b"])             # it does not say
    utils.save_json(["a", "b"], str(tmp_path / "identities.json"))
    runs.check_run_identities(str(tmp_path), ["a", "b"])
    runs.check_run_identities(str(tmp_path), ["a", "b", "c"], all_known=False)      # c may have no good image
    for identities, all_known in ((["a"], True), (["b", "a"], True), (["a", "b", "c"], True), (["a", "c"], False)):
        with pytest.raises(UserError) as error:
            runs.check_run_identities(str(tmp_path), identities, all_known)
        one_line(error, f"--load_path {tmp_path}: trained on other identities")


def test_a_run_that_has_saved_nothing_starts_again(tmp_path, caplog):
    runs.warn_of_start(str(tmp_path))
    assert "stopped before its first checkpoint" in caplog.text
    caplog.clear()
    runs.warn_of_start(touch(tmp_path, "model.ckpt-3.index"))
    assert not caplog.records


@pytest.mark.parametrize("content", ["5", "{}", "[[1]]", "null"])
@pytest.mark.parametrize("all_known", [True, False])
def test_a_list_of_identities_that_is_none(tmp_path, content, all_known):
    (tmp_path / "identities.json").write_text(content)
    with pytest.raises(UserError, match=r"identities\.json: no identities in it; restore it"):
        runs.check_run_identities(str(tmp_path), ["a"], all_known)


# Versions

def test_copies_of_a_program_have_one_digest_and_other_programs_others(tmp_path):
    for copy in "abcd":
        for name in ("main.py", "room/__init__.py", "room/work.py", "tests/test_work.py", "room/notes.txt"):
            (tmp_path / copy / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / copy / name).write_text(name)
    (tmp_path / "b/tests/test_work.py").write_text("another test")
    (tmp_path / "b/room/notes.txt").write_text("other notes")
    (tmp_path / "c/room/work.py").write_text("other work")
    (tmp_path / "d/room/work.py").rename(tmp_path / "d/room/job.py")
    digests = [runs.digest_of_program(str(tmp_path / copy)) for copy in "abcd"]
    assert digests[0] == digests[1] and len(set(digests)) == 3
    assert runs.digest_of_program() not in digests
