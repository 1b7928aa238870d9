"""evaluate.py judge --shard: the embeddings of shards are those of one machine, and what is missing is named."""
import shutil
import sqlite3

import numpy as np
import pytest

import evaluate
from conftest import small_classifier, words, write_checkpoint
from datasets.images import save_image
from datasets.shards import FINISH
from drawn import draw_face
from evaluation import embedding_shards, judge, judge_command
from tool import call, Tool, touch

WORK, OTHER = "a" * 32, "b" * 32
REFUSED = Tool("evaluate.py").refused


def shards(folder, count, done, work=WORK):
    """Write caches of the shards `done` of `count` -> the path of the cache that they are merged into."""
    cache = str(folder / "deep.v1" / "cache.sqlite3")
    (folder / "deep.v1").mkdir(exist_ok=True)
    for number in done:
        path = embedding_shards.path_for(cache, (number, count))
        with sqlite3.connect(path) as database:
            database.execute(embedding_shards.TABLE)
            database.execute("INSERT OR IGNORE INTO embeddings VALUES ('r', ?, ?)", [bytes([number]), b"0000"])
        database.close()
        embedding_shards.note_done(path, work)
    return cache


def rows_in(path):
    """All embeddings in a cache -> sorted rows."""
    database = sqlite3.connect(path)
    rows = sorted(database.execute("SELECT * FROM embeddings"))
    database.close()
    return rows


def test_caches_are_merged_and_may_be_twice(tmp_path):
    cache = shards(tmp_path, 3, (1, 2, 3))
    second = embedding_shards.path_for(cache, (2, 3))
    shutil.copy(second, second.replace("-of-3-", "-of-3-other"))          # another machine took the shard too
    for _ in range(2):
        embedding_shards.merge(cache, WORK)
        assert [image for _, image, _ in rows_in(cache)] == [b"\1", b"\2", b"\3"]


@pytest.mark.parametrize("make, told", [
    (lambda folder: shards(folder, 3, ()), "no shard of these sets is done"),
    (lambda folder: shards(folder, 3, (1, 2, 3), OTHER), "3 are there of other images or weights"),
    (lambda folder: shards(folder, 3, (2,)), "shard 1/3, 3/3 not done"),
    (lambda folder: shards(folder, 30, (2,)), "and 19 others not done"),
    (lambda folder: (shards(folder, 2, (1,)), shards(folder, 9, (5, 6)))[0], "shard 2/2 not done")])
def test_what_is_missing_is_named(tmp_path, make, told):
    cache = make(tmp_path)
    with pytest.raises(embedding_shards.UserError, match=told):
        embedding_shards.merge(cache, WORK)


def test_a_shard_that_can_t_be_kept_is_told(tmp_path):
    with pytest.raises(embedding_shards.UserError, match="name another --cache"):
        embedding_shards.note_done(str(tmp_path), WORK)


@pytest.mark.parametrize("shard", ["0/4", "5/4", "2", "a/b"])
def test_a_bad_shard_is_refused(tmp_path, shard):
    data = touch(tmp_path, "set/1/1.jpg", "real/1/1.jpg")
    result = call(evaluate, "judge", f"{data}/set", *words(photos=f"{data}/real", shard=shard))
    REFUSED(result, "--shard", shard)


@pytest.mark.parametrize("asked", [{"gate": .1}, {"gate": 0}, {"utility": True}, {"gate": .1, "utility": True}])
def test_a_shard_judges_nothing_so_what_a_judgement_does_is_refused(tmp_path, asked):
    data = touch(tmp_path, "set/1/1.jpg", "real/1/1.jpg")
    result = call(evaluate, "judge", f"{data}/set", *words(photos=f"{data}/real", shard="1/2", **asked))
    REFUSED(result, ", ".join(f"--{name}" for name in asked) + ": not with --shard I/N", "--shard finish")
    for shard in (None, FINISH):                                # these judge
        given = [data, *words(photos=data, **asked, **({"shard": shard} if shard else {}))]
        assert judge_command.parse(judge_command.JUDGE, list(map(str, given))).options.shard == shard


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A set, photos of other people, and a classifier with random weights."""
    folder = tmp_path_factory.mktemp("judged")
    for kind, first in (("set", 0), ("real", 50)):
        for person in range(first, first + 5):
            for number in range(3):
                (folder / kind / str(person)).mkdir(parents=True, exist_ok=True)
                save_image(draw_face(person, number, 36, True), str(folder / kind / str(person) / f"{number}.png"))
    (folder / "rec").mkdir()
    write_checkpoint(folder / "rec" / "model-1", small_classifier())
    return folder


@pytest.mark.slow
def test_shards_embed_what_one_machine_embeds(data, tmp_path, monkeypatch):
    """The bytes of all embeddings are the same, and with --shard finish nothing is embedded any more."""
    monkeypatch.setattr(judge.Judge, "judge", lambda self: None)            # the figures follow from the embeddings
    monkeypatch.setattr(judge, "facts_of", lambda *_: {"warnings": []})
    find, found = judge_command._judge_one, []

    def stop(*arguments):
        """Embed, and end before the report."""
        find(*arguments)
        found.append(True)
        raise judge_command.utils.UserError("embedded")

    monkeypatch.setattr(judge_command, "_judge_one", stop)

    def run(name, *more):
        (tmp_path / name).mkdir(exist_ok=True)
        return call(evaluate, "judge", data / "set", *words(
            photos=data / "real", weights=data / "rec", cache=tmp_path / name / "cache", num_worker=2,
            output=tmp_path / name / "report"), *more)

    run("one")
    for number in (2, 1):
        REFUSED(run("two", "--shard", FINISH), "1/2" if number == 1 else "no shard")
        assert run("two", "--shard", f"{number}/2").status == 0
    assert not found[1:] and not (tmp_path / "two" / "report").exists()
    from recognition.embedder import Embedder
    monkeypatch.setattr(Embedder, "embed_all", lambda *_: 1 / 0)
    assert "embedded" in run("two", "--shard", FINISH).err and len(found) == 2
    one, two = (rows_in(tmp_path / name / "cache") for name in ("one", "two"))
    assert one == two and len(one) == 30 and np.isfinite(np.frombuffer(one[0][2], np.float32)).all()
