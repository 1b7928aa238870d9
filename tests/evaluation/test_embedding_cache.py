"""evaluation.embedding_cache: what is kept, for whom, and what a damaged or locked-away file does."""
import logging
import os
import signal
import sqlite3
import subprocess
import sys

import numpy as np
import pytest

from evaluation.contents import DIGEST, digest, digest_of
from evaluation.embedding_cache import EmbeddingCache

VALUES = np.random.default_rng(0).normal(size=[1200, 4]).astype(np.float32)
KEYS = [digest(str(i).encode()) for i in range(len(VALUES))]


def test_embeddings_are_found_again(tmp_path):
    cache = EmbeddingCache(str(tmp_path / "deep" / "cache.sqlite3"), "one")
    cache.keep(KEYS[:1100], VALUES[:1100])
    found = cache.find(KEYS)
    assert found.keys() == set(KEYS[:1100]) and all(np.array_equal(found[key], value)
                                                    for key, value in zip(KEYS[:1100], VALUES))
    cache.close()
    assert len(EmbeddingCache(str(tmp_path / "deep" / "cache.sqlite3"), "one").find(KEYS)) == 1100
    assert not EmbeddingCache(str(tmp_path / "deep" / "cache.sqlite3"), "another").find(KEYS)


def test_rows_are_filled_in_where_they_are_known(tmp_path):
    cache = EmbeddingCache(str(tmp_path / "cache"), "one")
    cache.keep([KEYS[1], KEYS[3]], VALUES[[1, 3]])
    cache.keep(KEYS[2:3], VALUES[:1, :3])               # of another length
    found = np.zeros([5, 4], np.float32)
    assert cache.fill([*KEYS[:4], b""], found) == [0, 2, 4]
    np.testing.assert_array_equal(found[[1, 3]], VALUES[[1, 3]])
    assert not found[[0, 2, 4]].any()


def test_what_is_not_finite_is_not_kept(tmp_path):
    cache = EmbeddingCache(str(tmp_path / "cache"), "one")
    cache.keep(KEYS[:2], np.array([[1, np.nan], [1, 2]], np.float32))
    assert list(cache.find(KEYS[:2])) == KEYS[1:2]


def test_keys_tell_content_and_placement_apart():
    keys = {digest(b"a"), digest(b"b"), digest(b"a", b"x"), digest(b"a\0x"), digest(b"")}
    assert len(keys) == 5 and {len(key) for key in keys} == {DIGEST}
    assert digest(b"a", b"x") == digest(b"a", b"x") != digest(b"a")


def test_an_image_without_a_file_has_no_digest(tmp_path):
    (tmp_path / "1.jpg").write_bytes(b"a")
    assert digest_of(str(tmp_path / "1.jpg"), b"x") == digest(b"a", b"x")
    assert digest_of(str(tmp_path / "2.jpg")) == digest_of(str(tmp_path)) == b""


@pytest.mark.parametrize("make", [lambda path: path.write_bytes(b"no database " * 100), lambda path: path.mkdir()])
def test_without_a_cache_it_goes_on(tmp_path, make, caplog):
    path = tmp_path / "cache"
    make(path)
    with caplog.at_level(logging.INFO):
        cache = EmbeddingCache(str(path), "one")
        cache.keep(KEYS[:2], VALUES[:2])
        assert cache.find(KEYS) == {}
        cache.close()
    assert len(caplog.records) == 1 and "can't be kept" in caplog.text
    assert path.is_dir() or path.read_bytes() == b"no database " * 100


@pytest.mark.parametrize("entry", [b"odd", b"", "text", 7, 1.5, None, np.full(4, np.nan, np.float32).tobytes()])
def test_a_damaged_entry_is_computed_again(tmp_path, entry):
    path = str(tmp_path / "cache")
    cache = EmbeddingCache(path, "one")
    cache.keep(KEYS[:2], VALUES[:2])
    with sqlite3.connect(path) as database:
        database.execute("UPDATE embeddings SET value = ? WHERE image = ?", [entry, KEYS[0]])
    assert list(cache.find(KEYS[:2])) == KEYS[1:2]
    cache.keep(KEYS[:1], VALUES[:1])
    assert np.array_equal(cache.find(KEYS[:2])[KEYS[0]], VALUES[0])
    cache.close()


@pytest.mark.slow
def test_a_kill_loses_a_batch_at_most(tmp_path):
    code = ("import sys, time; sys.path[:0] = sys.argv[2:]\n"
            "from test_embedding_cache import *\n"
            "cache = EmbeddingCache(sys.argv[1], 'one')\n"
            "for i in range(0, 1200, 10):\n"
            "    cache.keep(KEYS[i:i + 10], VALUES[i:i + 10]); print(i, flush=True); time.sleep(.01)\n")
    path, here = str(tmp_path / "cache"), os.path.dirname(os.path.abspath(__file__))
    root = os.path.dirname(os.path.dirname(here))
    with subprocess.Popen([sys.executable, "-c", code, path, here, root, os.path.join(root, "tests")],
                          stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if int(line) >= 300:
                process.send_signal(signal.SIGKILL)
                break
    found = EmbeddingCache(path, "one").find(KEYS)
    assert set(found) >= set(KEYS[:310]) and all(np.array_equal(found[key], VALUES[KEYS.index(key)]) for key in found)
