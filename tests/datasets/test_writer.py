"""datasets/writer and datasets/scores: images by several threads, stored scores, their file, a set's magnet loss."""
import errno
import os
import re
import threading

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import losses
from datasets import writer as writer_module
from datasets.image_sets import LABELS as LABELS_FILE
from datasets.image_sets import Renderings
from datasets.images import save_image
from datasets.scores import CSV_NAME, magnet_scores, SCORES_FOLDER, ScoreStore, write_scores
from datasets.writer import clear, copy_labels, existing_images, ImageWriter, is_whole
from utils import UserError

tf1 = tf.compat.v1
NAMES = [f"{identity:05}/{image}.png" for identity in range(3) for image in range(4)]
LABELS = np.repeat(np.arange(3), 4)
LINE = re.compile(r"/(\S+) (\d+\.\d{6}) (\d+\.\d{6}) (\d+\.\d{6}|nan)")


def image_of(number):
    return np.full([4, 4, 3], number, np.uint8)


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# Images

@pytest.mark.parametrize("workers", [1, 5])
def test_every_image_is_written(tmp_path, workers):
    with ImageWriter(str(tmp_path / "new"), workers) as writer:
        for i, name in enumerate(NAMES):
            writer.add(name, image_of(i))
    assert files(tmp_path / "new") == NAMES
    for i, name in enumerate(NAMES):
        assert np.array_equal(np.asarray(Image.open(tmp_path / "new" / name)), image_of(i))


def test_workers_write_at_the_same_time(tmp_path, monkeypatch):
    """Three images that wait for each other."""
    barrier = threading.Barrier(3)
    monkeypatch.setattr(writer_module, "save_image", lambda image, path: barrier.wait(10))
    with ImageWriter(str(tmp_path), 3) as writer:
        for name in NAMES[:3]:
            writer.add(name, image_of(0))


def test_few_images_wait_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(ImageWriter, "QUEUE", 2)
    with ImageWriter(str(tmp_path), 1) as writer:
        for name in NAMES:
            writer.add(name, image_of(0))
            assert len(writer.pending) <= 2
        writer.flush()
        assert not writer.pending and files(tmp_path) == NAMES


@pytest.mark.parametrize("number, text", [(errno.ENOSPC, "No space left on device"), (errno.EACCES, "not allowed")])
def test_an_image_that_cant_be_written(tmp_path, monkeypatch, number, text):
    """One line that names it; nothing is left of it, and the others are whole."""
    replace = os.replace

    def limited(source, target):
        if target.endswith(NAMES[5]):
            raise OSError(number, text)
        replace(source, target)

    monkeypatch.setattr(os, "replace", limited)
    message = rf"^{tmp_path / NAMES[5]}: can't write the image \({text}\)$"
    with pytest.raises(UserError, match=message), ImageWriter(str(tmp_path), 2) as writer:
        for i, name in enumerate(NAMES):
            writer.add(name, image_of(i))
    assert files(tmp_path) == [name for name in NAMES if name != NAMES[5]]


def test_a_file_where_a_folder_should_be(tmp_path):
    (tmp_path / "00000").write_bytes(b"")
    with pytest.raises(UserError, match="can't write the image"), ImageWriter(str(tmp_path), 1) as writer:
        writer.add(NAMES[0], image_of(0))
        writer.flush()
    assert files(tmp_path) == ["00000"]


def test_an_error_elsewhere_is_the_one_that_is_raised(tmp_path):
    with pytest.raises(ZeroDivisionError), ImageWriter(str(tmp_path / "no" / "\0"), 1) as writer:
        writer.add(NAMES[0], image_of(0))
        raise ZeroDivisionError


def test_existing_images(tmp_path):
    assert existing_images(str(tmp_path), NAMES) == set()
    for name in (NAMES[1], NAMES[7], "00001/other.png", "00001/.tmp-0123456789abcdef", "other/.tmp-0123456789abcdef"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert existing_images(str(tmp_path), NAMES) == set(), "empty ones do not count"
    for name in (NAMES[1], NAMES[7]):
        save_image(image_of(1), str(tmp_path / name))
    assert existing_images(str(tmp_path), NAMES) == {NAMES[1], NAMES[7]}
    assert files(tmp_path) == sorted([NAMES[1], NAMES[7], "00001/other.png", "other/.tmp-0123456789abcdef"])


@pytest.mark.parametrize("name", ["a.jpg", "a.JPEG", "a.png", "a.webp", "a.bmp"])
def test_a_whole_image_is_told_from_half_of_one(tmp_path, name):
    path = tmp_path / name
    assert not is_whole(str(path))
    noise = np.random.default_rng(0).integers(0, 256, [16, 16, 3], np.uint8)
    save_image(noise, str(path))
    whole = path.read_bytes()
    assert is_whole(str(path))
    for damaged in (b"", b"x", whole[:1], whole[:-1], whole[:len(whole) // 2], b"\0" * len(whole)):
        path.write_bytes(damaged)
        assert not is_whole(str(path)), len(damaged)
    path.unlink()
    path.mkdir()
    assert not is_whole(str(path))


def test_an_image_of_another_suffix_is_not_whole(tmp_path):
    save_image(image_of(1), str(tmp_path / "a.png"))
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    assert not is_whole(str(tmp_path / "a.jpg"))


@pytest.mark.parametrize("labels", [True, False])
def test_clearing_leaves_what_is_not_named(tmp_path, labels):
    """Also what lies behind a link."""
    for name in (*NAMES, "00001/latents.npz", "00002/mine.txt", "00002/latents.npz", "me", "other/0.png",
                 "other/latents.npz", "00001/5.png/deep"):
        (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / name).touch()
    (tmp_path / "out/link").symlink_to(tmp_path / "out/other")
    clear(str(tmp_path / "out"), NAMES[4:] + ["gone/1.png", "me/1.png", "link/0.png", "00001/5.png"], labels)
    left = [*NAMES[:4], "00002/mine.txt", "me", "other/0.png", "other/latents.npz", "00001/5.png/deep"]
    left += [] if labels else ["00001/latents.npz", "00002/latents.npz"]
    assert files(tmp_path / "out") == sorted(left) and (tmp_path / "out/link").is_symlink()


@pytest.fixture
def labelled(tmp_path):
    """Renderings of two identities with labels, and the folder of their images."""
    for number, identity in enumerate(("00000", "00001")):
        (tmp_path / "syn" / identity).mkdir(parents=True)
        (tmp_path / "out" / identity).mkdir(parents=True)
        np.savez(tmp_path / "syn" / identity / LABELS_FILE, pose=np.full(7, number))
    return Renderings(str(tmp_path / "syn"), NAMES[:8], LABELS[:8], ["00000", "00001"])


def test_labels_go_with_the_images(labelled, tmp_path, caplog):
    """Whole, and again where they were; not of an identity without images."""
    (tmp_path / "out/00000").rmdir()
    for _ in range(2):
        copy_labels(labelled, str(tmp_path / "out"))
        assert files(tmp_path / "out") == ["00001/latents.npz"]
        assert (tmp_path / "out/00001/latents.npz").read_bytes() == (tmp_path / "syn/00001/latents.npz").read_bytes()
    assert not caplog.text


@pytest.mark.parametrize("damage, word", [
    (lambda path: path.write_bytes(b""), "damaged"),
    (lambda path: path.write_bytes(path.read_bytes()[:-30]), "damaged"),
    (lambda path: path.write_bytes(path.read_bytes().replace(b"\1\0\0\0\0\0\0\0", b"\2\0\0\0\0\0\0\0", 1)), "damaged"),
    (lambda path: path.unlink(), "lost")])
def test_damaged_labels_replace_no_good_ones(labelled, tmp_path, caplog, damage, word):
    copy_labels(labelled, str(tmp_path / "out"))
    good = (tmp_path / "out/00001/latents.npz").read_bytes()
    damage(tmp_path / "syn/00001/latents.npz")
    copy_labels(labelled, str(tmp_path / "out"))
    assert (tmp_path / "out/00001/latents.npz").read_bytes() == good
    assert word in caplog.text and "00001" in caplog.text and "00000" not in caplog.text


def test_renderings_need_no_labels(labelled, tmp_path, caplog):
    for path in (tmp_path / "syn").rglob("*.npz"):
        path.unlink()
    copy_labels(labelled, str(tmp_path / "out"))
    assert not caplog.text and not files(tmp_path / "out")


# Scores

def store_of(folder, rows, flush_every=5):
    """A ScoreStore of rows (name, d_score, s_score, embedding), in files of `flush_every` rows."""
    store = ScoreStore(str(folder))
    for number, row in enumerate(rows, 1):
        store.add(*row)
        if number % flush_every == 0:
            store.flush()
    store.flush()
    return store


def rows_of(names, shift=0., size=4):
    rng = np.random.default_rng(len(names))
    return [(name, i + shift, 2 * i + shift, rng.normal(size=size).astype(np.float32)) for i, name in enumerate(names)]


def read_csv(folder):
    """{name: (d, s, c)} of the lines, whose format is checked."""
    lines = (folder / CSV_NAME).read_text().splitlines()
    fields = [LINE.fullmatch(line).groups() for line in lines]
    return {name: tuple(map(float, scores)) for name, *scores in fields}


def test_scores_round_trip(tmp_path):
    rows = rows_of(NAMES)
    store = store_of(tmp_path, rows)
    assert files(tmp_path) == [f"{SCORES_FOLDER}/{number:08d}.npz" for number in (1, 2, 3)]
    for again in (store, ScoreStore(str(tmp_path))):
        chunks = list(again.chunks())
        assert [name for chunk in chunks for name in chunk["names"].tolist()] == NAMES
        for key, column in (("d_score", 1), ("s_score", 2), ("embeddings", 3)):
            assert np.array_equal(np.concatenate([chunk[key] for chunk in chunks]), [row[column] for row in rows])
        assert again.scored(True) == again.scored(False) == set(NAMES)
    store = store_of(tmp_path / "no embeddings", [(name, 1, 2) for name in NAMES[:3]])
    assert store.scored(False) == set(NAMES[:3]) and store.scored(True) == set()


def test_a_kill_loses_what_was_not_flushed_and_nothing_else(tmp_path):
    """Left-over temporary files go; the next file gets the next number."""
    store = store_of(tmp_path, rows_of(NAMES[:5]))
    store.add(NAMES[5], 1, 2, [3])
    (tmp_path / SCORES_FOLDER / ".tmp-0123456789abcdef").touch()
    again = ScoreStore(str(tmp_path))
    assert again.scored(True) == set(NAMES[:5])
    again.add(*rows_of(NAMES)[5])
    for _ in range(2):
        again.flush()
    assert files(tmp_path) == [f"{SCORES_FOLDER}/{number:08d}.npz" for number in (1, 2)]
    assert ScoreStore(str(tmp_path)).scored(True) == set(NAMES[:6])


def test_only_the_last_scores_of_an_image_count(tmp_path):
    """Scored with one classifier, then with another: for the first one, all has to be embedded again."""
    for classifier in ("a", "b"):
        store = ScoreStore(str(tmp_path), classifier)
        assert store.scored(True) == set()
        for row in rows_of(NAMES):
            store.add(*row)
        store.flush()
        assert store.scored(True) == set(NAMES)
        assert write_scores(str(tmp_path), NAMES, LABELS, store) == []
    assert ScoreStore(str(tmp_path), "a").scored(True) == set()
    assert ScoreStore(str(tmp_path), "a").scored(False) == set(NAMES)


def test_csv(tmp_path):
    """In the data set's order; of an image scored twice the last scores count; one without scores is left out."""
    store = store_of(tmp_path, rows_of(NAMES[::-1]) + rows_of(NAMES[2:], shift=100) + rows_of(["gone/1.png"]))
    names, labels = [*NAMES, "new/1.png"], [*LABELS, 3]
    assert write_scores(str(tmp_path), names, labels, store) == []
    scores = read_csv(tmp_path)
    assert list(scores) == NAMES
    assert [scores[NAMES[i]][:2] for i in (0, 2, 4)] == [(11, 22), (100, 100), (102, 104)]
    embeddings = np.array([*[row[3] for row in rows_of(NAMES[::-1])[:9:-1]], *[row[3] for row in rows_of(NAMES[2:])]])
    wanted = magnet_scores(lambda: [(np.arange(12), embeddings)], LABELS)
    assert np.allclose([row[2] for row in scores.values()], wanted, atol=1e-6) and wanted.any()


def test_csv_without_embeddings(tmp_path):
    """c_score is nan; where only some images have an embedding, the others' is nan."""
    store = store_of(tmp_path, [(name, 1, 2) for name in NAMES])
    assert write_scores(str(tmp_path), NAMES, LABELS, store) == NAMES
    assert np.isnan([row[2] for row in read_csv(tmp_path).values()]).all() and files(tmp_path)[-1] == CSV_NAME
    store_of(tmp_path, rows_of(NAMES[:9]))
    assert write_scores(str(tmp_path), NAMES, LABELS, ScoreStore(str(tmp_path))) == NAMES[9:]
    assert np.isnan([row[2] for row in read_csv(tmp_path).values()]).tolist() == [False] * 9 + [True] * 3


def test_embeddings_of_another_classifier_do_not_count(tmp_path):
    """Without a classifier, those of the last one do."""
    def store(classifier, rows=()):
        opened = ScoreStore(str(tmp_path), classifier)
        for row in rows:
            opened.add(*row)
        opened.flush()
        return opened

    store("first", rows_of(NAMES))
    assert store("first").scored(True) == set(NAMES) and store("second").scored(True) == set()
    assert store("second").scored(False) == set(NAMES)
    second = store("second", rows_of(NAMES[:3], size=7))
    for each, counted in (("first", NAMES[3:]), ("second", NAMES[:3]), (None, NAMES[:3])):
        write_scores(str(tmp_path), NAMES, LABELS, store(each))
        finite = [name for name, row in read_csv(tmp_path).items() if np.isfinite(row[2])]
        assert finite == counted, each
    assert second.scored(True) == set(NAMES[:3])


@pytest.mark.parametrize("labels", [np.arange(90) % 7, np.arange(90) // 13, np.arange(90) % 3 * 4, np.arange(90)])
@pytest.mark.parametrize("spread", [.05, .5])
def test_magnet_scores_are_the_loss_of_one_large_batch(labels, spread):
    """With the class means as centroids; whatever the chunks and their order. Some classes may have no image."""
    rng = np.random.default_rng(1)
    features = rng.normal(size=[int(labels.max()) + 1, 8])[labels] + spread * rng.normal(size=[90, 8])
    features = (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)
    present, own = np.unique(labels, return_inverse=True)
    means = np.array([features[labels == c].mean(0) for c in present])
    with tf.Graph().as_default(), tf1.Session() as session:
        wanted = session.run(losses.magnet_loss(tf.constant(features), own, tf.constant(means)))
    order = rng.permutation(90)
    for chunks in ([np.arange(90)], np.split(order, 90), np.split(order, [1, 70])):
        got = magnet_scores(lambda chunks=chunks: [(index, features[index]) for index in chunks], labels)
        assert got.dtype == np.float32 and np.allclose(got, wanted, atol=1e-4 * max(1, wanted.max()))
