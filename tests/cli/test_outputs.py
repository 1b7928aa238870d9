"""cli/outputs: folders that commands write to, begun with settings that hold for all of their images."""
import json
from argparse import Namespace

import pytest

import utils
from cli import outputs
from cli.outputs import check_folder, crop_options, resolve_crop, resolve_margin
from tool import one_line, touch
from utils import UserError

SETTINGS = {"size": 64, "margin": 15, "seed": None}


def begin_output(folder, settings):
    """Begin an output folder, and write nothing into it."""
    with outputs.begin_output(folder, settings):
        pass


def test_a_new_folder_gets_the_settings(tmp_path):
    folder = tmp_path / "new" / "deep"
    for _ in range(2):                              # the second time, it goes on
        begin_output(str(folder), SETTINGS)
        assert [path.name for path in folder.iterdir()] == ["settings.json"]
        assert json.loads((folder / "settings.json").read_text()) == SETTINGS


def test_settings_stay_as_they_were_written(tmp_path):
    begin_output(str(tmp_path), SETTINGS | {"more": 1})
    before = (tmp_path / "settings.json").stat().st_mtime_ns
    begin_output(str(tmp_path), SETTINGS)
    assert (tmp_path / "settings.json").stat().st_mtime_ns == before


def test_other_settings_are_refused(tmp_path):
    begin_output(str(tmp_path), SETTINGS)
    with pytest.raises(UserError) as error:
        begin_output(str(tmp_path), {"size": 108, "margin": 15, "seed": 3})
    one_line(error, f"--output {tmp_path}: begun with other settings: size 64 there, 108 given, ",
             "seed None there, 3 given; give the same, or another folder")


@pytest.mark.parametrize("content, part", [("[1]", "no settings in it"), ("{", "can't be read")])
def test_broken_settings_are_named(tmp_path, content, part):
    (tmp_path / "settings.json").write_text(content)
    with pytest.raises(UserError) as error:
        begin_output(str(tmp_path), SETTINGS)
    one_line(error, f"{tmp_path}/settings.json: ", part)


@pytest.mark.parametrize("files, begun", [
    (["a.jpg"], False), (["person/a.jpg"], False), (["notes.txt"], False), (["deep/er/x"], False),
    ([".hidden"], True), ([], True), (["settings.json", "a.jpg"], True)])
def test_a_folder_of_somebody_else_is_refused(tmp_path, files, begun):
    """One with files and without settings; it stays as it is."""
    touch(tmp_path, *files)
    if "settings.json" in files:
        utils.save_json(SETTINGS, str(tmp_path / "settings.json"))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    if begun:
        begin_output(str(tmp_path), SETTINGS)
        return
    for refuse in (begin_output, outputs.check_output):
        with pytest.raises(UserError) as error:
            refuse(str(tmp_path), SETTINGS)
        one_line(error, f"--output {tmp_path}: holds files that this command did not begin", "name another folder")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_half_written_files_of_a_killed_run_do_not_count(tmp_path):
    touch(tmp_path, ".tmp-0123456789abcdef", utils.LOCK)
    begin_output(str(tmp_path), SETTINGS)
    assert [path.name for path in tmp_path.iterdir()] == ["settings.json"]


@pytest.mark.parametrize("output, read, problem", [
    ("in", "in", True), ("in/", "in", True), ("./in/../in", "in", True), ("in/below", "in", True), (".", "in", True),
    ("link", "in", True), ("link/new", "in", True), ("in", "link", True), ("out", "link", False),
    ("out", "in", False), ("in2", "in", False), ("out", "", False), ("in/../out", "in", False), ("dead", "in", True)])
def test_an_output_is_apart_from_what_is_read(tmp_path, monkeypatch, output, read, problem):
    """By real paths: links and dots are no other folder."""
    monkeypatch.chdir(touch(tmp_path, "in/a.jpg"))
    (tmp_path / "link").symlink_to("in")
    (tmp_path / "dead").symlink_to("in/not there yet")
    told = outputs.overlap_problem(f"--output {output}", output, {"--input": read})
    assert told == (f"--output {output}: must be another folder than --input, and neither hold it nor lie in it"
                    if problem else None)
    if problem:
        with pytest.raises(UserError, match=r"^--output"):
            outputs.check_apart("--output", output, {"--other": "", "--input": read})


def test_a_folder_of_runs_may_hold_what_is_read(tmp_path):
    for folder, told in ((".", None), ("in", True), ("in/logs", True)):
        problem = outputs.overlap_problem("--log_dir", str(tmp_path / folder), {"--dataset": str(tmp_path / "in")},
                                          holding=False)
        assert bool(problem) == bool(told)


@pytest.mark.parametrize("folder", ["file", "file/below", "/proc/new"])
def test_a_folder_that_cannot_be_written_is_refused(tmp_path, monkeypatch, folder):
    monkeypatch.chdir(touch(tmp_path, "file"))
    for refuse in (check_folder, lambda folder: begin_output(folder, SETTINGS)):
        with pytest.raises(UserError) as error:
            refuse(folder)
        one_line(error, f"--output {folder}: can't write there (", "name another folder")


def test_a_check_creates_nothing(tmp_path):
    check_folder(str(tmp_path / "new"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("size, given, margin", [
    (108, None, 26), (54, None, 13), (64, None, 15), (64, 0, 0), (64, 63, 63)])
def test_a_margin_follows_from_the_size(size, given, margin):
    options = Namespace(size=size, margin=given)
    resolve_margin(options, pytest.fail)
    assert options.margin == margin


def test_a_margin_has_to_leave_something():
    errors = []
    resolve_margin(Namespace(size=64, margin=64), errors.append)
    assert errors == ["--margin 64: leaves nothing of 64 pixels; give a smaller one"]


def test_crop_options_have_the_papers_size():
    """Those that are placed by landmarks have ArcFace's size, and no margin."""
    added = {}
    crop_options(lambda name, kind, default, *more: added.update({name: default}))
    assert added == {"size": None, "margin": None}
    for turned, size, margin in ((None, 108, 26), ("--crop arcface", 112, None)):
        options = Namespace(**added)
        resolve_crop(options, pytest.fail, turned)
        assert (options.size, options.margin) == (size, margin)
    errors = []
    resolve_crop(Namespace(size=64, margin=9), errors.append, "--crop arcface")
    assert errors == ["--margin: has no meaning with --crop arcface, which places a face by its landmarks; leave it "
                      "out"]
