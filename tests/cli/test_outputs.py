"""cli/outputs: folders that commands write to, begun with settings that hold for all of their images."""
import json
from argparse import Namespace

import pytest

from cli.outputs import check_folder, crop_options, open_output, resolve_margin
from tool import one_line, touch
from utils import UserError

SETTINGS = {"size": 64, "margin": 15, "seed": None}


def test_a_new_folder_gets_the_settings(tmp_path):
    folder = tmp_path / "new" / "deep"
    for _ in range(2):                              # the second time, it goes on
        open_output(str(folder), SETTINGS)
        assert [path.name for path in folder.iterdir()] == ["settings.json"]
        assert json.loads((folder / "settings.json").read_text()) == SETTINGS


def test_settings_stay_as_they_were_written(tmp_path):
    open_output(str(tmp_path), SETTINGS | {"more": 1})
    before = (tmp_path / "settings.json").stat().st_mtime_ns
    open_output(str(tmp_path), SETTINGS)
    assert (tmp_path / "settings.json").stat().st_mtime_ns == before


def test_other_settings_are_refused(tmp_path):
    open_output(str(tmp_path), SETTINGS)
    with pytest.raises(UserError) as error:
        open_output(str(tmp_path), {"size": 108, "margin": 15, "seed": 3})
    one_line(error, f"--output {tmp_path}: begun with other settings: size 64 there, 108 given, ",
             "seed None there, 3 given; give the same, or another folder")


@pytest.mark.parametrize("content, part", [("[1]", "no settings in it"), ("{", "can't be read")])
def test_broken_settings_are_named(tmp_path, content, part):
    (tmp_path / "settings.json").write_text(content)
    with pytest.raises(UserError) as error:
        open_output(str(tmp_path), SETTINGS)
    one_line(error, f"{tmp_path}/settings.json: ", part)


@pytest.mark.parametrize("folder", ["file", "file/below", "/proc/new"])
def test_a_folder_that_cannot_be_written_is_refused(tmp_path, monkeypatch, folder):
    monkeypatch.chdir(touch(tmp_path, "file"))
    for refuse in (check_folder, lambda folder: open_output(folder, SETTINGS)):
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
    added = {}
    crop_options(lambda name, kind, default, *more: added.update({name: default}))
    assert added == {"size": 108, "margin": None}
