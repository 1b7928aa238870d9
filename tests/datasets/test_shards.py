"""datasets.shards: who makes which items, what refuses to be mixed, who ends last, and what two of a kind do."""
import csv
import json
import os
import shutil

import numpy as np
import pytest

import utils
from datasets import scores, shards
from datasets.scores import ScoreStore, write_scores
from datasets.shards import ALL, FILES, FINISH, FOLDER, MANIFEST, Work
from datasets.sources import SourceRecord
from tool import one_line
from utils import UserError

ITEMS = [f"{number}.jpg" for number in range(7)]
SETTINGS = {"seed": 1}


def make(folder, shard, items=ITEMS, settings=SETTINGS, end=True):
    """Do a part of the work: write each item as a file -> how often the whole was finished."""
    work, finished = Work(shard), []
    folder.mkdir(exist_ok=True)
    work.begin(str(folder), items, settings)
    for name in work.of(items):
        (folder / name).write_text(name)

    def finish():
        (folder / "whole.csv").write_text(" ".join(sorted(path.name for path in folder.glob("*.jpg"))))
        finished.append(True)
        return ["whole.csv"]

    if end:
        work.end(str(folder), work.of(items), finish)
    return len(finished)


def manifest(folder):
    """The merged manifest -> {file: (sha256, shard)}."""
    with open(folder / FOLDER / MANIFEST, newline="") as file:
        return {row["file"]: (row["sha256"], row["shard"]) for row in csv.DictReader(file)}


def visible(folder):
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize("count", [1, 2, 3, 7, 9])
def test_each_item_has_one_shard(count):
    parts = [Work((number, count)).of(ITEMS) for number in range(1, count + 1)]
    assert sorted(name for part in parts for name in part) == ITEMS and max(map(len, parts)) - min(map(len, parts)) <= 1
    assert list(Work((2, 3)).of(range(1, 8))) == [2, 5] and Work(FINISH).of(ITEMS) == [] and ALL.of(ITEMS) == ITEMS


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_last_one_finishes_and_all_is_as_without_shards(tmp_path, count):
    make(tmp_path / "one", None)
    ends = [make(tmp_path / "parts", (number, count)) for number in range(count, 0, -1)]
    assert ends == [0] * (count - 1) + [1]
    assert visible(tmp_path / "parts") == visible(tmp_path / "one") and not (tmp_path / "one" / FOLDER).exists()
    rows = manifest(tmp_path / "parts")
    assert rows.keys() == {*ITEMS, "whole.csv"} and rows["whole.csv"][1] == "all"
    assert all(rows[name] == (utils.sha256_of(str(tmp_path / "parts" / name)), f"{i % count + 1}/{count}")
               for i, name in enumerate(ITEMS))


def test_finish_names_what_is_missing_and_then_does_the_rest(tmp_path):
    """Shards that lay in folders of their own are copied together."""
    for number in (1, 3):
        make(tmp_path / str(number), (number, 4))
        shutil.copytree(tmp_path / str(number), tmp_path / "out", dirs_exist_ok=True)
    with pytest.raises(UserError) as error:
        make(tmp_path / "out", FINISH)
    one_line(error, "--shard finish", "out", "shards 2/4, 4/4 are not done")
    make(tmp_path / "out", (2, 4))
    make(tmp_path / "4", (4, 4))
    shutil.copytree(tmp_path / "4" / FOLDER, tmp_path / "out" / FOLDER, dirs_exist_ok=True)     # but not its images
    with pytest.raises(UserError) as error:
        make(tmp_path / "out", FINISH)
    one_line(error, "shard 4/4 is not done or has lost files")
    shutil.copytree(tmp_path / "4", tmp_path / "out", dirs_exist_ok=True)
    assert make(tmp_path / "out", FINISH) == 1 and len(manifest(tmp_path / "out")) == 8
    (tmp_path / "out" / "2.jpg").unlink()
    with pytest.raises(UserError, match="shard 3/4"):
        make(tmp_path / "out", FINISH)


def test_finish_looks_once_for_the_files_of_a_shard(tmp_path, monkeypatch):
    read, looked = shards._read_rows, []
    for number in range(1, 6):
        make(tmp_path, (number, 5))
    monkeypatch.setattr(shards, "_read_rows", lambda place: looked.append(place) or read(place))
    work = Work(FINISH)
    work.begin(str(tmp_path), ITEMS, SETTINGS)
    assert len(looked) == len(set(looked)) == 5


def test_the_same_shard_twice_changes_nothing(tmp_path):
    for number in (1, 2):
        make(tmp_path, (number, 2))
    before, rows = visible(tmp_path), manifest(tmp_path)
    assert make(tmp_path, (1, 2)) == 1                          # a slow machine, which began before all was done
    assert (visible(tmp_path), manifest(tmp_path)) == (before, rows)


@pytest.mark.parametrize("shard, items, settings, told", [
    ((2, 5), ITEMS, SETTINGS, "begun in 4 shards, not 5"), ((2, 4), ITEMS[:6], SETTINGS, "shares 7 items and not 6"),
    ((2, 4), [*ITEMS[:6], "x.jpg"], SETTINGS, "other files"), ((2, 4), ITEMS, {"seed": 2}, "other settings"),
    (FINISH, ITEMS, {"seed": 2}, "other settings"), (FINISH, ITEMS[:3], SETTINGS, "shares 7 items and not 3")])
def test_what_differs_among_shards_is_refused(tmp_path, shard, items, settings, told):
    make(tmp_path, (1, 4))
    before = sorted(map(str, tmp_path.rglob("*")))
    with pytest.raises(UserError) as error:
        make(tmp_path, shard, items, settings)
    one_line(error, "--shard", told)
    assert sorted(map(str, tmp_path.rglob("*"))) == before


def test_nothing_to_finish(tmp_path):
    with pytest.raises(UserError) as error:
        Work(FINISH).check_there(str(tmp_path / "nowhere"), "--save_syn_dataset")
    one_line(error, "--shard finish", "--save_syn_dataset", "nowhere", "1/N")
    Work((1, 2)).check_there(str(tmp_path / "nowhere"))


def test_a_set_that_is_done_may_grow_and_be_shared_otherwise(tmp_path):
    for number in (1, 2):
        make(tmp_path, (number, 2), ITEMS[:4])
    for number in (3, 1, 2):
        finished = make(tmp_path, (number, 3))
    assert finished == 1 and len(manifest(tmp_path)) == 8
    assert make(tmp_path, FINISH) == 1


def test_a_shard_that_begins_anew_is_not_done(tmp_path):
    for number in (1, 2):
        make(tmp_path, (number, 2), ITEMS[:4])
    make(tmp_path, (1, 2), end=False)
    assert not (tmp_path / FOLDER / "1-of-2" / FILES).exists()
    with pytest.raises(UserError, match="shards 1/2, 2/2"):
        make(tmp_path, FINISH)


def test_a_whole_run_takes_over_what_shards_have_begun(tmp_path):
    make(tmp_path, (1, 2))
    make(tmp_path, None)
    assert not (tmp_path / FOLDER).exists() and len(visible(tmp_path)) == 8


@pytest.mark.parametrize("name, content", [(FILES, b"\xff\xfe"), (FILES, b"a,b\n"), (FILES, b""), ("work.json", b"{")])
def test_a_damaged_file_is_told(tmp_path, name, content):
    make(tmp_path, (1, 2))
    (tmp_path / FOLDER / "1-of-2" / name).write_bytes(content)
    with pytest.raises(UserError) as error:
        make(tmp_path, (2, 2))
    one_line(error, name, utils.RESTORE)


# What shards keep for themselves

def test_records_of_shards_are_read_together_and_become_one(tmp_path):
    (tmp_path / "source").write_text("a")
    out = str(tmp_path / "out")
    for number in (1, 2):
        work = Work((number, 2))
        os.makedirs(out, exist_ok=True)
        work.begin(out, ITEMS, SETTINGS)
        record = SourceRecord(out, lambda name: [str(tmp_path / "source")], work=work)
        with record.of_run(work.of(ITEMS)):
            for name in work.of(ITEMS):
                record.add(name)
    assert not os.path.exists(f"{out}/.sources.jsonl")
    whole = SourceRecord(out, lambda name: [str(tmp_path / "source")])
    assert sorted(whole.names) == ITEMS
    whole.plan([])
    shutil.rmtree(tmp_path / "out" / FOLDER)
    again = SourceRecord(out, lambda name: [str(tmp_path / "source")])
    assert sorted(again.names) == ITEMS and not again.changed(ITEMS[:0])
    lines = (tmp_path / "out" / ".sources.jsonl").read_text().splitlines()
    assert {json.loads(line)[0] for line in lines} == set(ITEMS)


def test_scores_of_two_machines_with_one_shard_are_all_kept(tmp_path):
    """Each has counted the files before the other one wrote."""
    stores = [ScoreStore(str(tmp_path), "net", Work((1, 2))) for _ in range(2)]
    for number, store in enumerate(stores):
        store._files = lambda: []
        store.add(f"{number}.jpg", .5, .25, [1, 0])
        store.flush()
    assert ScoreStore(str(tmp_path), "net").scored(True) == {"0.jpg", "1.jpg"}


def test_scores_have_the_same_bits_in_whatever_order_they_were_stored(tmp_path, monkeypatch):
    read, compute = [], scores.magnet_scores

    def keep(embeddings, labels):
        """Keep what is read, too."""
        read[:] = embeddings()
        return compute(embeddings, labels)

    monkeypatch.setattr(scores, "magnet_scores", keep)
    random, names = np.random.default_rng(1), [f"{i % 30:02}/{i}.jpg" for i in range(3000)]
    values = random.normal(size=[len(names), 16]).astype(np.float32)
    labels, files = [int(name[:2]) for name in names], []
    for order, chunk in ((range(3000), 1024), (random.permutation(3000), 70)):
        folder = tmp_path / str(chunk)
        store = ScoreStore(str(folder), "net")
        for place, i in enumerate(order):
            store.add(names[i], i / 7, i / 9, values[i])
            if place % chunk == chunk - 1:
                store.flush()
        store.flush()
        assert write_scores(str(folder), names, labels, store) == []
        files.append((folder / "confidence_scores.csv").read_bytes())
        assert [len(indices) for indices, _ in read] == [1024, 1024, 952]
        assert np.array_equal(np.concatenate([rows for _, rows in read]), values)
    assert files[0] == files[1] and files[0].count(b"\n") == 3000
