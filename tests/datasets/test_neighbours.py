"""datasets/neighbours: where a file or folder may be written, and where it would come to lie among others' images."""
import json

import pytest

from datasets.neighbours import check_outside, check_picture_place, PEOPLE
from drawn import draw_face, write
from engine.runs import PARAMS
from utils import UserError


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Data sets of all kinds, with a working folder beside them."""
    image = draw_face(1, 1, 16, photo=True)
    for name in ("flat/1.jpg", "one_person/a/1.jpg", "mixed/flat/1.jpg", "mixed/others/1.jpg", "ours/00001/1.jpg",
                 "run/10_G.png", "here/mine.jpg", "here/flat/1.jpg", "damaged/1/1.jpg", "project/tests/1.jpg"):
        write(str(tmp_path), name, image)
    for number in range(PEOPLE):
        write(str(tmp_path), f"people/{number}/1.jpg", image)
        write(str(tmp_path), f"runs/{number}/10_G.png", image)
        write(str(tmp_path), f"sets/{number}/1.jpg", image)
        (tmp_path / f"runs/{number}/{PARAMS}").write_text("{}")
        (tmp_path / f"sets/{number}/settings.json").write_text('{"version": 1}')
    (tmp_path / f"run/{PARAMS}").write_text("{}")
    (tmp_path / "ours/settings.json").write_text(json.dumps({"command": "gen_syn_latent.py people"}))
    (tmp_path / "damaged/settings.json").write_text("{")
    (tmp_path / "project/settings.json").write_text('{"editor.tabSize": 4}')
    (tmp_path / "link").symlink_to(tmp_path / "flat")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


@pytest.mark.parametrize("path", [
    "../flat/new", "../flat/new/deeper", "../link/new", "../one_person/a/new", "../people/new", "../people/0/new",
    "../ours/new", "../ours/00001/new", "../ours/new/deeper", "../damaged/new", "flat/new"])
def test_within_a_set_is_refused(place, path):
    for check in (check_outside, check_picture_place):
        with pytest.raises(UserError, match=f"--output {path}: would lie in .*; name another place"):
            check("--output", path)


@pytest.mark.parametrize("path", [
    "new", "../here/new", "../new", "../mixed/new", "../one_person/new", "../runs/new", "../run/new", "../sets/new",
    "../project/new", "../project/tests2/new", "../nowhere/deep/down"])
def test_beside_sets_and_in_runs_is_fine(place, path):
    """Also in the working folder, where users keep pictures."""
    check_outside("--output", path)
    check_picture_place("--output", path)


def test_in_a_set_that_is_the_working_folder_is_refused(place, monkeypatch):
    monkeypatch.chdir(place / "ours")
    with pytest.raises(UserError, match=r"would lie in .*ours"):
        check_picture_place("--output", "curves.png")
