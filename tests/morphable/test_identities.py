"""morphable/identities: which identities are missing or damaged, and what is made again of a damaged one."""
import os
import shutil

import pytest

from conftest import tree
from datasets.image_sets import LABELS
from morphable import identities
from morphable.scene import Framing, load_statistics, set_scene
from tool import builtin_face_model

COUNT = 2


@pytest.fixture(scope="module")
def scene():
    return set_scene(builtin_face_model(), Framing(16, 4, 1), load_statistics(None), 1)


@pytest.fixture(scope="module")
def rendered(scene, tmp_path_factory):
    """A folder with the identities 1 to 3."""
    folder = tmp_path_factory.mktemp("rendered")
    for identity in (1, 2, 3):
        identities.render_identity(scene, series_of(folder), identity)
    return folder


def series_of(folder):
    return identities.Series(str(folder), COUNT, "jpg", {})


@pytest.fixture
def folder(rendered, tmp_path):
    return shutil.copytree(rendered, tmp_path / "syn")


def test_nothing_is_missing(folder):
    assert identities.find_missing(series_of(folder), range(1, 4)) == ([], [])
    assert identities.find_missing(series_of(folder), range(1, 6, 2)) == ([5], [])


def test_identities_beyond_the_last_are_counted(folder):
    (folder / "00009").mkdir()
    (folder / "notes").mkdir()
    assert [identities.count_beyond(str(folder), last) for last in (1, 3, 8, 9)] == [3, 1, 1, 0]


def test_of_a_new_folder_the_range_itself_is_missing(tmp_path):
    """So that ten million identities take no memory."""
    missing, damaged = identities.find_missing(series_of(tmp_path), range(1, 10_000_000))
    assert missing == range(1, 10_000_000) and damaged == []


def empty(path):
    path.write_bytes(b"")


def cut(path):
    path.write_bytes(path.read_bytes()[:-20])


def garbage(path):
    path.write_bytes(b"\0" * path.stat().st_size)


def spoil(path):
    """Change a byte in the middle, as a bad disk does."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(bytes(content))


def lose(path):
    path.unlink()




@pytest.mark.parametrize("name, damage", [
    *((name, damage) for name in ("00001.jpg", "00002.jpg", LABELS) for damage in (empty, cut, garbage, lose)),
    (LABELS, spoil)])
def test_what_is_lost_or_damaged_is_made_again(scene, rendered, folder, name, damage):
    """And nothing else is touched, also not what a user keeps there."""
    (folder / "00002/mine.txt").write_text("mine")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.jpg") if path.name != name}
    damage(folder / "00002" / name)
    missing, damaged = identities.find_missing(series_of(folder), range(1, 4))
    assert missing == [2] and damaged == [str(folder / "00002")]
    identities.render_identity(scene, series_of(folder), 2)
    again = {path: content for path, content in tree(folder).items() if path.endswith(".jpg")}
    assert again == {path: content for path, content in tree(rendered).items() if path.endswith(".jpg")}
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert (folder / "00002/mine.txt").read_text() == "mine"
    assert identities.find_missing(series_of(folder), range(1, 4)) == ([], [])
    assert not [entry for entry in os.listdir(folder) if entry.startswith(".")]


def test_what_a_kill_left_goes_and_what_others_write_stays(folder):
    for name in (".tmp-00001-ab12", ".tmp-00002-0123", ".tmp-x", ".tmp-", ".tmp-00001"):
        (folder / name).mkdir()
    identities.remove_temporary(str(folder), range(1, 4, 2))
    assert sorted(name for name in os.listdir(folder) if name.startswith(".")) == [
        ".tmp-", ".tmp-00001", ".tmp-00002-0123", ".tmp-x"]
