"""Exports: what stands in the files by their formats' own rules, read back equal, gone on with after a kill."""
import csv
import hashlib
import io
import json
import os
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import evaluate
from conftest import tree, words
from datasets import crop_kinds, scores
from datasets.export import export, record_files, tfrecord
from datasets.export.source import Source
from datasets.image_sets import find_renderings
from datasets.packed.opening import open_image
from drawn import draw_face, write, write_many
from record_files import header, identity_records, MAGIC, part
from tool import call, kill_often, Tool
from utils import UserError

TOOL = Tool("evaluate.py")
FILES = {"rec": ["property", "train.identities.json", "train.idx", "train.lst", "train.rec"],
         "webdataset": [f"shard-00000{number}.tar" for number in range(3)],
         "tfrecord": [f"images-0000{number}-of-00003.tfrecord" for number in range(3)],
         "folder": ["ann/1.jpg", "ann/2.png", "ann/10.jpg", "bob/a b.jpg", "10/x.jpg", "10/y.png"]}


@pytest.fixture
def data(tmp_path, monkeypatch):
    """The folder `set` of 6 images of 3 identities, with labels and scores; the working folder holds it."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(FILES["folder"]):
        write("set", name, draw_face(number, 1, 20, photo=True))
    np.savez("set/ann/latents.npz", names=["10.jpg", "1.jpg", "2.jpg"], Pose_Para=np.arange(21).reshape(3, 7) / 10,
             age=np.array([30., 31, 32]), female=np.array(1.), hair=np.array("bob"))
    (tmp_path / "set/confidence_scores.csv").write_text('/ann/1.jpg 0.5 0.25 nan\n"/bob/a b.jpg" 1 2 3\n')
    return tmp_path / "set"


def exported(to, *more, data="set", output="out"):
    """Export a data set -> the output folder's files {name: bytes}."""
    result = call(evaluate, "export", data, *words(to=to, output=output, shard_size=2), *more)
    assert result.status == 0, result.err
    return tree(output)


def images_of(root):
    """[(identity, label, bytes)] of a data set."""
    found = find_renderings(str(root))
    return [(found.identities[label], label, open_image(os.path.join(found.root, name)).read())
            for name, label in zip(found.names, found.labels.tolist())]


# What is written

@pytest.mark.parametrize("to", export.FORMATS)
def test_the_files_are_these_and_their_checksums_are_noted(data, to):
    found = exported(to)
    assert found.keys() == {*FILES[to], "index.csv", "manifest.json", "settings.json"}
    noted = json.loads(found["manifest.json"])["files"]
    assert noted == {name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
                     for name, content in found.items() if name not in ("manifest.json", "settings.json")}


@pytest.mark.parametrize("to", ["rec", "folder"])
def test_what_is_read_back_is_equal(data, to):
    """The images byte for byte, the identities and the labels; and a second export of the first."""
    exported(to)
    assert images_of("out") == images_of("set")
    exported("rec", data="out", output="again")
    exported("folder", data="again", output="back")
    assert images_of("again") == images_of("back") == images_of("set")
    assert sum(name.endswith(".png") for name in tree("back")) == 2         # a packed png is a png again


@pytest.mark.parametrize("settings, kind", [(None, "box"), ('{"template": "arcface"}', "arcface")])
def test_the_kind_of_crop_goes_along(data, settings, kind):
    """So that a classifier sees the same part of a face in the export, and in an export of that."""
    if settings:
        (data / "settings.json").write_text(settings)
    exported("rec")
    exported("folder", data="out", output="again")
    assert [crop_kinds.kind_of(name) for name in ("out", "out/train.rec", "again")] == [kind] * 3


def test_a_rec_file_is_laid_out_as_insightface_does(data):
    found, images = exported("rec"), [content for _, _, content in images_of("set")]
    expected = identity_records({0: images[:2], 1: images[2:5], 2: images[5:]})
    assert found["train.rec"] == b"".join(expected.values())
    lines = [line.split("\t") for line in found["train.idx"].decode().splitlines()]
    assert [int(number) for number, _ in lines] == list(expected)
    assert all(found["train.rec"].startswith(expected[int(number)], int(offset)) for number, offset in lines)
    assert found["property"] == b"3,20,20\n" and json.loads(found["train.identities.json"]) == ["10", "ann", "bob"]
    assert found["train.lst"].splitlines()[2] == b"3\t1\tann/1.jpg"
    assert found["train.rec"].startswith(part(0, header([7, 10], 0)))


def test_the_table_tells_all_that_is_known(data):
    rows = list(csv.DictReader(io.StringIO(exported("rec")["index.csv"].decode())))
    assert list(rows[0]) == ["record", "path", "identity", "label", "pitch", "yaw", "roll", "age", "female", "hair",
                             "d_score", "s_score", "c_score"]
    by_path = {row["path"]: row for row in rows}
    assert list(by_path["ann/1.jpg"].values()) == ["3", "ann/1.jpg", "ann", "1", "0.7", "0.8", "0.9", "31.0", "1.0",
                                                   "bob", "0.5", "0.25", ""]
    assert list(by_path["bob/a b.jpg"].values())[4:] == [*[""] * 6, "1.0", "2.0", "3.0"]


@pytest.mark.parametrize("to", ["rec", "folder"])
def test_an_export_still_weights_its_images(data, to):
    """A classifier that learns from it finds the scores in index.csv, image for image."""
    names = sorted(FILES["folder"])
    (data / "confidence_scores.csv").write_text("".join(f'"/{name}" 1 2 {i}\n' for i, name in enumerate(names)))
    exported(to)
    there = find_renderings("out")
    contents = {(data / name).read_bytes(): i for i, name in enumerate(names)}
    expected = [contents[open_image(os.path.join(there.root, name)).read()] for name in there.names]
    np.testing.assert_allclose(scores.score_weights(there, [there.root], "original"),
                               .5 * np.exp(-np.array(expected) / 4), rtol=1e-6)


@pytest.mark.parametrize("to", ["rec", "folder"])
def test_scores_are_known_where_the_table_has_them(data, to):
    exported(to)
    root = find_renderings("out").root
    assert scores.are_known(root) and scores.are_known("set")
    table = Path("out/index.csv").read_text()
    for changed, known in (table.replace("c_score", "x", 1), False), ("", False), (table, True):
        Path("out/index.csv").write_text(changed)
        assert scores.are_known(root) == known
    os.remove("out/index.csv")
    assert not scores.are_known(root)


@pytest.mark.parametrize("table, named", [
    (None, "index.csv: can't be read"), ("record,path,identity,label\n1,a,a,0\n", "index.csv: no scores in it"),
    ("record,path,identity,label,d_score,s_score,c_score\nx,a,a,0,1,1,1\n", "index.csv: no table of evaluate.py"),
    ("record,path,identity,label,d_score,s_score,c_score\n", "6 of 6 images have no c_score")])
def test_an_export_without_scores_can_not_weight(data, table, named):
    exported("rec")
    os.remove("out/index.csv")
    if table:
        Path("out/index.csv").write_text(table)
    there = find_renderings("out")
    with pytest.raises(UserError, match=named) as error:
        scores.score_weights(there, [there.root], "original")
    assert "--score_weights none" in str(error.value)


def test_webdataset_shards_are_plain_tar_files(data):
    found, members = exported("webdataset"), {}
    for name in FILES["webdataset"]:
        with tarfile.open(fileobj=io.BytesIO(found[name])) as archive:
            part_of = {member.name: archive.extractfile(member).read() for member in archive.getmembers()}
            assert len(part_of) == 6
            members.update(part_of)
    images = images_of("set")
    assert [members[f"00000000{number}.{ending}"] for number, ending in enumerate(
        ["jpg", "png", "jpg", "png", "jpg", "jpg"])] == [content for *_, content in images]
    assert [int(members[f"00000000{number}.cls"]) for number in range(6)] == [label for _, label, _ in images]
    assert json.loads(members["000000002.json"]) == {
        "name": "ann/1.jpg", "identity": "ann", "label": 1, "pitch": .7, "yaw": .8, "roll": .9, "age": 31, "female": 1,
        "hair": "bob", "d_score": .5, "s_score": .25}
    row = list(csv.DictReader(io.StringIO(found["index.csv"].decode())))[2]
    assert (row["shard"], row["key"], row["path"]) == ("shard-000001.tar", "000000002", "ann/1.jpg")


def test_tensorflow_reads_the_tfrecords(data):
    """TensorFlow checks the checksums, and parses the examples."""
    exported("tfrecord")
    paths = [f"out/{name}" for name in FILES["tfrecord"]]
    kinds = {f"image/{name}": tf.io.FixedLenFeature([], kind) for name, kind in (
        ("encoded", tf.string), ("format", tf.string), ("filename", tf.string), ("class/label", tf.int64),
        ("class/text", tf.string))}
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.compat.v1.set_random_seed(0)             # determinism insists on one
        batch = tf.compat.v1.data.make_one_shot_iterator(tf.data.TFRecordDataset(paths).batch(10)).get_next()
        found = session.run(tf.io.parse_example(batch, kinds))
    assert list(zip(*(found[f"image/{name}"].tolist() for name in ("class/text", "class/label", "encoded")))) == [
        (identity.encode(), label, content) for identity, label, content in images_of("set")]
    assert found["image/format"].tolist() == [b"jpeg", b"png", b"jpeg", b"png", b"jpeg", b"jpeg"]
    assert found["image/filename"][2] == b"ann/1.jpg"


def test_checksums_are_crc32c():
    """Those of RFC 3720, B.4, and of all lengths around the length of a block, bit by bit."""
    assert tfrecord.crc32c(b"\0" * 32) == 0x8a9136aa and tfrecord.crc32c(b"\xff" * 32) == 0x62a8ab43
    assert tfrecord.crc32c(bytes(range(32))) == 0x46dd794e and tfrecord.crc32c(b"123456789") == 0xe3069283
    rng = np.random.default_rng(0)
    for length in (0, 1, 3, 4, 5, 1023, 1024, 1025, 2050):
        content, state = rng.bytes(length), 0xffffffff
        for byte in content:
            state ^= byte
            for _ in range(8):
                state = state >> 1 ^ (0x82f63b78 if state & 1 else 0)
        assert tfrecord.crc32c(content) == state ^ 0xffffffff


def test_large_numbers_in_examples():
    example = tf.train.Example.FromString(tfrecord.example({"a": 300, "b": 0, "c": b"x" * 1000}))
    assert example.features.feature["a"].int64_list.value == [300] and len(example.features.feature) == 3
    assert example.features.feature["b"].int64_list.value == [0]


def test_images_with_the_magic_number_in_them_are_written_in_parts(tmp_path, monkeypatch):
    """The picture ends before it, where a decoder stops looking."""
    monkeypatch.chdir(tmp_path)
    for name in ("a/1.jpg", "b/1.jpg"):
        write("set", name, draw_face(1, 1, 16, photo=True))
        with open(f"set/{name}", "ab") as file:
            file.write(bytes(-file.tell() % 4) + MAGIC + b"tail")
    found = exported("rec")["train.rec"]
    assert images_of("out") == images_of("set")
    assert {struct.unpack_from("<I", found, place + 4)[0] >> 29
            for place in range(0, len(found), 4) if found.startswith(MAGIC, place)} == {0, 1, 3}


# Going on

class Killed(BaseException):
    """What a kill is in a test: nothing catches it, and nothing after it is run but `finally`."""


@pytest.mark.parametrize("to", export.FORMATS)
def test_a_stopped_export_goes_on(data, to, monkeypatch):
    """Stopped before each image in turn; in the end, every file is that of an undisturbed run."""
    alone = exported(to, output="alone")
    read, left = Source.content, [0]

    def content(source, index):
        if not left[0]:
            raise Killed
        left[0] -= 1
        return read(source, index)

    monkeypatch.setattr(record_files, "_CHUNK", 1)
    for stop in (1, 3, 2, 3):
        left[0] = stop
        monkeypatch.setattr(Source, "content", content)
        try:
            call(evaluate, "export", "set", *words(to=to, output="out", shard_size=2))
        except Killed:
            assert "manifest.json" not in tree("out")
    monkeypatch.setattr(Source, "content", lambda source, index: pytest.fail("read again") if to != "folder"
                        else read(source, index))
    assert exported(to) == alone


@pytest.mark.parametrize("to", export.FORMATS)
def test_what_is_lost_or_cut_is_written_again(data, to):
    alone = exported(to)
    first = FILES[to][-1]
    os.truncate(f"out/{first}", 5)
    assert exported(to) == alone
    os.remove(f"out/{first}")
    assert exported(to) == alone


def test_a_damaged_note_or_rest_of_an_export_counts_for_nothing(data):
    alone = exported("rec", output="alone")
    os.mkdir("out")
    (data.parent / "out/settings.json").write_bytes(alone["settings.json"])
    for note, rest in ((b'{"records": 3, "bytes": 999999}', b"short"), (b"{", b""),
                       (b'{"records": 1, "bytes": 44}', b""),
                       (b'{"records": 9, "bytes": 40}', alone["train.rec"][:100])):
        (data.parent / "out/.train.json").write_bytes(note)
        (data.parent / "out/.train.rec").write_bytes(rest)
        assert exported("rec") == alone
        os.remove("out/train.rec")


@pytest.mark.slow
@pytest.mark.parametrize("to", export.FORMATS)
def test_a_killed_export_goes_on(tmp_path, monkeypatch, to):
    """SIGKILL at many moments; what has its name by then is whole, and in the end all is as if nothing had been."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(record_files, "_CHUNK", 100)
    write_many("set", 15, 100)
    source = Source(find_renderings("set"))
    kills, _ = kill_often(lambda folder: export.write(source, export.format_of(to, source, 100), folder))
    assert kills > 1


# What is refused

@pytest.mark.parametrize("line, parts", [
    (["set"], ["--to", "needed"]), (["set", "--to", "rec"], ["--output", "needed"]),
    (["set", "--to", "zip", "--output", "out"], ["--to zip", "rec, webdataset"]),
    (["set", "--to", "rec", "--output", "set"], ["--output set", "another folder"]),
    (["set", "--to", "rec", "--output", "set/new"], ["--output set/new", "another folder"]),
    (["set", "--to", "rec", "--output", "."], ["--output", "another folder"]),
    (["set", "set", "--to", "rec", "--output", "out"], ["one data set"]),
    (["nowhere", "--to", "rec", "--output", "out"], ["nowhere: not there"]),
    (["nowhere.rec", "--to", "rec", "--output", "out"], ["nowhere.rec: not there"]),
    (["flat", "--to", "rec", "--output", "out"], ["flat: no identities"]),
    (["set", "--to", "rec", "--output", "full"], ["--output full", "did not begin"]),
    (["set", "--to", "rec", "--output", "packed/new"], ["--output packed/new", "among images"]),
    (["broken", "--to", "rec", "--output", "out"], ["no image there can be decoded"])])
def test_what_cannot_be_is_one_line(data, line, parts):
    write("flat", "1.jpg", draw_face(1, 1, 16, photo=True))
    for name in ("full/notes.txt", "packed/train.rec", "packed/train.idx", "broken/1/1.jpg"):
        os.makedirs(os.path.dirname(name), exist_ok=True)
        (data.parent / name).write_text("words")
    before = tree(".")
    TOOL.refused(call(evaluate, "export", *line), *parts)
    assert tree(".") == before and not os.path.exists("out")


def test_an_export_of_other_images_or_of_another_kind_is_refused(data):
    before = exported("rec")
    TOOL.refused(call(evaluate, "export", "set", *words(to="folder", output="out")), "--output out", "settings: to rec")
    write("set", "bob/new.jpg", draw_face(7, 1, 20, photo=True))
    TOOL.refused(call(evaluate, "export", "set", *words(to="rec", output="out")), "images 6 there, 7 given")
    assert tree("out") == before


def test_more_than_float32_can_number_is_refused(data, monkeypatch):
    monkeypatch.setattr(record_files, "MOST_LABEL", 9)
    TOOL.refused(call(evaluate, "export", "set", *words(to="rec", output="out")), "--to rec: 6 images of 3 identities")
    assert not os.path.exists("out")


def test_damaged_labels_are_left_out_and_broken_images_too(data):
    (data / "ann/latents.npz").write_bytes(b"PK words")
    (data / "ann/10.jpg").write_bytes(b"words")
    result = call(evaluate, "export", "set", *words(to="rec", output="out"))
    assert result.status == 0 and "latents.npz: labels that can't be read" in result.err and "1 broken" in result.err
    assert len(images_of("out")) == 5
