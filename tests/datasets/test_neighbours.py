"""datasets/neighbours: where a file or folder may be written, and where it would come to lie among others' images."""
import json

import numpy as np
import pytest

from datasets.images import save_picture
from datasets.neighbours import check_links, check_outside, check_picture_place, check_without_photos, PEOPLE
from drawn import draw_face, write
from engine.runs import PARAMS
from tool import touch
from utils import UserError


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Data sets of all kinds, and folders that are none, with a working folder beside them."""
    image = draw_face(1, 1, 16, photo=True)

    def photos(folder, count=3):
        for number in range(count):
            write(str(tmp_path), f"{folder}/{number}.jpg", image)

    for folder in ("flat", "person/a", "ours/00001", "ours/deep/er", "here", "here/flat", "sets/one", "sets/two",
                   "sets/three", "sets/four", "sets/five", "old/pictures", "damaged/1"):
        photos(folder)
    for folder in ("lying", "lying/data", "few"):
        photos(folder, 1)
    touch(tmp_path, "lying/data/syn/x", "lying/a.txt", "few/notes.txt", "few/2.txt", "old/pictures/model.ckpt-3.index",
          "old/pictures/checkpoint", "old/pictures/events.out.tfevents.1", "pretrained/some/frozen.pb")
    photos("pretrained/some", 1)
    for number in range(PEOPLE):
        photos(f"people/{number}", 1)
    photos("run", 9)
    (tmp_path / "run" / PARAMS).write_text("{}")
    (tmp_path / "charts").mkdir()
    for number in range(4):
        save_picture(np.zeros([4, 4, 3], np.uint8), str(tmp_path / f"charts/{number}.png"))
    for folder, settings in (("ours", {"command": "gen_syn_latent.py people"}), ("crops", {"size": 1, "margin": 1,
                             "format": "jpg"}), ("older", {"version": 1, "model": "built-in"}),
                             ("editor", {"version": "1.0", "editor.tabSize": 4}), ("other", {"command": "build"})):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "settings.json").write_text(json.dumps(settings))
    (tmp_path / "damaged/settings.json").write_text("// mine {")
    (tmp_path / "link").symlink_to(tmp_path / "flat")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


@pytest.mark.parametrize("path", [
    "../flat/new", "../link/new", "../person/a/new", "../people/new", "../ours/new", "../ours/00001/new",
    "../ours/new/deeper/and/deeper", "../crops/new", "../older/new/deeper", "flat/new", "../damaged/1/new"])
def test_within_a_set_is_refused(place, path):
    for check in (check_outside, check_picture_place):
        with pytest.raises(UserError, match=f"--output {path}: would lie in .*; name another place"):
            check("--output", path)


@pytest.mark.parametrize("path", [
    "new", "../here/new", "../new", "../person/new", "../run/new", "../sets/new", "../lying/new", "../lying/data/syn",
    "../lying/data/new/deeper", "../few/new", "../editor/new", "../other/new", "../damaged/new", "../charts/new",
    "../old/pictures/new", "../flat/new/deeper", "../nowhere/deep/down", "../ours"])
def test_beside_sets_and_in_runs_is_fine(place, path):
    """Also where a picture lies about, and in the working folder, where users keep some."""
    check_outside("--output", path)
    if not (place / "here" / path).exists():
        check_picture_place("--output", path)


def test_in_a_set_that_is_the_working_folder_is_refused(place, monkeypatch):
    monkeypatch.chdir(place / "ours")
    with pytest.raises(UserError, match=r"would lie in .*ours"):
        check_picture_place("--output", "curves.png")


def test_our_own_picture_is_replaced_whatever_lies_beside_it(place):
    save_picture(np.zeros([4, 4, 3], np.uint8), str(place / "flat/curves.png"))
    check_picture_place("--output", "../flat/curves.png")
    with pytest.raises(UserError, match="another file"):
        check_picture_place("--output", "../flat/1.jpg")


@pytest.mark.parametrize("folder", ["flat", "person", "people", "ours", "ours/new", "sets", "link"])
def test_no_runs_among_photos(place, folder):
    with pytest.raises(UserError, match=r"--log_dir .*images that this command did not begin"):
        check_without_photos("--log_dir", f"../{folder}")


@pytest.mark.parametrize("folder", ["lying", "few", "old", "pretrained", "charts", "new", ".", "editor"])
def test_runs_beside_other_things(place, folder):
    check_without_photos("--log_dir", f"../{folder}")


def test_a_folder_that_nobody_may_look_into_is_no_set(place, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: not str(path).endswith("flat"))
    check_without_photos("--log_dir", "../flat")
    check_outside("--output", "../flat/new")


@pytest.mark.parametrize("link", ["new/00001", "new/a/b"])
def test_links_in_an_output_are_refused(place, link):
    (place / link).parent.mkdir(parents=True)
    check_links(str(place / "new"))
    (place / link).symlink_to(place / "flat")
    with pytest.raises(UserError, match=f"{link}: a link to another folder"):
        check_links(str(place / "new"))
