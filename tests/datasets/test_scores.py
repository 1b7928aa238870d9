"""datasets/scores: damaged files of scores are set aside and made again; every name survives the csv."""
import os

import numpy as np
import pytest

from datasets.scores import _read_scores, CSV_NAME, SCORES_FOLDER, ScoreStore, write_scores
from datasets.sources import SourceRecord
from utils import UserError

GOOD = dict(names=np.array(["1/a.jpg", "1/b.jpg"]), d_score=np.float32([.1, .2]), s_score=np.float32([.3, .4]),
            embeddings=np.float32([[1, 0], [0, 1]]))


def stored(folder, *names):
    """A store of one file that knows these images."""
    store = ScoreStore(str(folder))
    for name in names:
        store.add(name, .5, .25, np.float32([1, 0]))
    store.flush()
    return store


# Damaged files

def npz(path, **fields):
    with open(path, "wb") as file:
        np.savez(file, **{name: value for name, value in fields.items() if value is not None})


def cut(path):
    npz(path, **GOOD)
    path.write_bytes(path.read_bytes()[:-40])


DAMAGE = {
    "empty": lambda path: path.write_bytes(b""), "text": lambda path: path.write_bytes(b"no scores"),
    "cut": cut, "folder": lambda path: path.mkdir(), "pipe": lambda path: os.mkfifo(path),
    "pickle": lambda path: path.write_bytes(b"\x80\x04cos\nsystem\n(S'touch evil'\ntR."),
    "array": lambda path: np.save(path.open("wb"), GOOD["d_score"]),
    "no names": lambda path: npz(path, **GOOD | {"names": None}),
    "no embeddings": lambda path: npz(path, **GOOD | {"embeddings": None}),
    "objects": lambda path: npz(path, **GOOD | {"names": np.array(["1/a.jpg", None], object)}),
    "names in bytes": lambda path: npz(path, **GOOD | {"names": np.array([b"1/a.jpg", b"1/b.jpg"])}),
    "names in a table": lambda path: npz(path, **GOOD | {"names": GOOD["names"][None]}),
    "fewer names": lambda path: npz(path, **GOOD | {"names": GOOD["names"][:1]}),
    "fewer scores": lambda path: npz(path, **GOOD | {"d_score": np.float32([1])}),
    "fewer embeddings": lambda path: npz(path, **GOOD | {"embeddings": np.float32([[1, 0]])}),
    "long scores": lambda path: npz(path, **GOOD | {"s_score": np.float32([[1, 2], [3, 4]])}),
    "flat embeddings": lambda path: npz(path, **GOOD | {"embeddings": np.float32([1, 0])}),
    "other embeddings": lambda path: npz(path, **GOOD | {"embeddings": np.ones([2, 3], np.float32)}),
    "words": lambda path: npz(path, **GOOD | {"d_score": np.array(["a", "b"])}),
    "nan": lambda path: npz(path, **GOOD | {"d_score": np.float32([np.nan, 1])}),
    "infinite embedding": lambda path: npz(path, **GOOD | {"embeddings": np.float32([[np.inf, 0], [0, 1]])}),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_set_aside_and_its_images_are_scored_again(tmp_path, caplog, monkeypatch, damage):
    monkeypatch.chdir(tmp_path)
    stored(tmp_path, "1/c.jpg")
    path = tmp_path / SCORES_FOLDER / "00000002.npz"
    DAMAGE[damage](path)
    store = ScoreStore(str(tmp_path))
    assert store.scored(True) == {"1/c.jpg"}
    (record,) = caplog.records
    assert "unsafely" not in record.message
    assert f"{path}: damaged (" in record.message and "scored again" in record.message and "\n" not in record.message
    assert not path.exists() and path.with_name("00000002.npz.damaged").exists() and not os.path.exists("evil")
    for name in ("1/a.jpg", "1/b.jpg"):
        store.add(name, 1, 2, np.float32([0, 1]))
    store.flush()
    write_scores(str(tmp_path), ["1/a.jpg", "1/b.jpg", "1/c.jpg"], np.zeros(3, int), store)
    assert len((tmp_path / CSV_NAME).read_text().splitlines()) == 3 and len(caplog.records) == 1


@pytest.mark.parametrize("name", ["1x.npz", "x.npz", "1.npz", "00000001.npz.bak", "-1.npz", "99999999999999999999.npz"])
def test_files_of_other_names_are_left_alone(tmp_path, caplog, name):
    store = stored(tmp_path, "1/a.jpg")
    (tmp_path / SCORES_FOLDER / name).write_bytes(b"mine")
    assert store.scored(True) == {"1/a.jpg"} and not caplog.records
    stored(tmp_path, "1/b.jpg")
    assert sorted(os.listdir(tmp_path / SCORES_FOLDER)) == sorted(["00000001.npz", "00000002.npz", name])
    assert (tmp_path / SCORES_FOLDER / name).read_bytes() == b"mine"


# Names

NAMES = ["1/plain.jpg", "1/two  blanks.jpg", " lead/ .jpg", 'q/"quoted" "twice".jpg', "n/line\nbreak.jpg", "r/\r.jpg",
         "s/\udcff\udcfe.jpg", "t/tab\t.jpg", "u/\u2028\u00a0\x85.jpg", "c/a,b;c#d.jpg", "d/1 2 3.jpg", "1/ä.jpg",
         "x/" + "y" * 251 + ".jpg", "-/-.jpg", "%s/{}.jpg", "b/back\\slash.jpg", '"/".jpg']


def test_every_name_survives_store_and_csv(tmp_path):
    store = stored(tmp_path, *NAMES)
    assert store.scored(True) == set(NAMES)
    write_scores(str(tmp_path), NAMES, np.zeros(len(NAMES), int), store)
    assert set(_read_scores(str(tmp_path))) == {os.path.join(tmp_path, name) for name in NAMES}
    lines = (tmp_path / CSV_NAME).read_bytes()
    assert lines.startswith(b"/1/plain.jpg 0.500000 0.250000 ") and b'\n"/1/two  blanks.jpg" 0.5' in lines


@pytest.mark.parametrize("content, names", [
    ("/1/a b.jpg 1 2 3\n", ["1/a b.jpg"]), ('/1/a"b.jpg 1 2 3\n/1/"c" .jpg 1 2 3\n', ['1/a"b.jpg', '1/"c" .jpg']),
    ("\ufeff/1/a.jpg 1 2 3\n", ["1/a.jpg"]), ("/1/a.jpg 1 2 3\r\n\r\n/1/b.jpg 1 2 3", ["1/a.jpg", "1/b.jpg"]),
    ("\n\n  \n", []), ("/1/a.jpg\t1\t2\t3\n", ["1/a.jpg"])])
def test_old_files_are_read(tmp_path, content, names):
    (tmp_path / CSV_NAME).write_bytes(content.encode())
    assert list(_read_scores(str(tmp_path))) == [os.path.join(tmp_path, name) for name in names]


@pytest.mark.parametrize("content", ["/1/a.jpg\n", '"/1/a.jpg 1 2 3\n', "/1/a.jpg 1 2 x\n", "\x00" * 99, "{}"])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / CSV_NAME).write_text(content)
    with pytest.raises(UserError, match="not lines of"):
        _read_scores(str(tmp_path))


def test_a_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / CSV_NAME)
    with pytest.raises(UserError, match="Not a regular file"):
        _read_scores(str(tmp_path))


def test_every_name_survives_the_record_of_sources(tmp_path):
    (tmp_path / "source").touch()
    record = SourceRecord(str(tmp_path), lambda name: [str(tmp_path / "source")])
    with record.of_run(NAMES):
        for name in NAMES:
            record.add(name)
    again = SourceRecord(str(tmp_path), lambda name: [str(tmp_path / "source")])
    assert again.names == NAMES and not again.changed(NAMES)
    (tmp_path / "source").write_text("another")
    assert again.changed(NAMES) == set(NAMES)
