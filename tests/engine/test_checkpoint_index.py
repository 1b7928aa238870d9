"""engine/checkpoint_index: an index read as TensorFlow reads it, without it, and what is said of a damaged one."""
import os
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from conftest import HERE
from engine import checkpoint_index
from engine.checkpoint_index import check_whole, read_index

FOOTER, MAGIC, TRAILER = 48, 8, 5                                   # bytes
BLOCK = 262144                                                      # bytes, after which TensorFlow begins another
VALUES = {"step": np.int32(3), "big": np.int64(2 ** 40), "flag": np.bool_(True), "flags": np.zeros(7, bool),
          "none": np.zeros([0, 5], np.float32), "half": np.zeros(300, np.float16), "text": np.array([b"a", b"bcd"]),
          "net/Conv/weights": np.zeros([3, 3, 8, 130], np.float32), "net/Conv/weights/Adam": np.zeros([1, 1, 2, 2]),
          "net/Conv/weights/Adam_1": np.zeros([1], np.float32), "net/Conv_1/biases": np.zeros(129, np.float32),
          "größe": np.float32(1)}


def save(prefix, values, slices=None):
    """Write a checkpoint: {name: array}, or [(name, array)] with parts, of which `slices` says where they lie."""
    names, arrays = zip(*(values.items() if isinstance(values, dict) else values))
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        session.run(tf.raw_ops.SaveV2(prefix=str(prefix), tensor_names=names, tensors=[tf.constant(a) for a in arrays],
                                      shape_and_slices=slices or [""] * len(names)))
    return str(prefix)


def shapes_by_tensorflow(prefix):
    return {name: tuple(shape) for name, shape in
            tf.train.load_checkpoint(prefix).get_variable_to_shape_map().items()}


def many(count, length=0):
    """{name: array} of `count` variables with long common prefixes, and `length` characters of their own."""
    rng = np.random.default_rng(count)
    return {f"generator/a_scope_that_all_of_them_share/block_{i // 7}/conv_{i}/{rng.bytes(length // 2).hex()}weights":
            np.zeros([i % 3] * (i % 5), np.float32) for i in range(count)}


def masked_checksum(data, folder):
    """The checksum that TensorFlow itself computes: it stores records with the same."""
    with tf.io.TFRecordWriter(str(folder / "record")) as writer:
        writer.write(data)
    return struct.unpack("<I", (folder / "record").read_bytes()[-4:])[0]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The prefix of a checkpoint of VALUES."""
    return save(tmp_path_factory.mktemp("saved") / "model.ckpt-10", VALUES)


@pytest.fixture
def copied(saved, tmp_path):
    """The prefix of a copy of it, and the paths of its index and of its data file."""
    for path in Path(saved).parent.iterdir():
        shutil.copy(path, tmp_path)
    prefix = str(tmp_path / "model.ckpt-10")
    return prefix, Path(prefix + ".index"), Path(prefix + ".data-00000-of-00001")


def refused(prefix, pattern):
    """Both functions find fault with the checkpoint, in the same line, of which `pattern` matches the beginning."""
    with pytest.raises(ValueError, match=f"^model.ckpt-10.index: {pattern}") as caught:
        read_index(prefix)
    assert "\n" not in str(caught.value)
    assert check_whole(prefix) == str(caught.value)


# Whole ones

def test_reads_what_was_saved(saved):
    assert read_index(saved) == {name: np.shape(value) for name, value in VALUES.items()}
    assert read_index(saved) == shapes_by_tensorflow(saved)
    assert check_whole(saved) is None
    assert read_index(Path(saved)) == read_index(saved) and check_whole(Path(saved)) is None


@pytest.mark.parametrize("count, length, full", [(1, 0, 0), (16, 0, 0), (17, 0, 0), (400, 0, 0), (1500, 500, 3)])
def test_reads_any_number(tmp_path, count, length, full):
    """The last one has `full` blocks and a part of another."""
    prefix = save(tmp_path / "many", many(count, length))
    assert read_index(prefix) == shapes_by_tensorflow(prefix)
    assert len(read_index(prefix)) == count
    assert os.path.getsize(prefix + ".index") // BLOCK == full
    assert check_whole(prefix) is None


def test_reads_a_variable_in_parts(tmp_path):
    parts = [("whole", np.zeros(3)), ("parted", np.zeros([2, 3])), ("parted", np.zeros([4, 3]))]
    prefix = save(tmp_path / "parts", parts, ["", "6 3 0,2:0,3", "6 3 2,4:0,3"])
    assert read_index(prefix) == shapes_by_tensorflow(prefix) == {"whole": (3,), "parted": (6, 3)}
    assert check_whole(prefix) is None
    os.truncate(prefix + ".data-00000-of-00001", 3 * 8 + 6 * 3 * 8 - 1)
    assert check_whole(prefix) == "parts.data-00000-of-00001: cut short (167 of 168 bytes)"


def test_reads_several_data_files(tmp_path):
    prefixes = [save(tmp_path / f"part{i}", {f"net/{i}": np.zeros([i, 2])}) for i in (1, 2, 3)]
    merged = str(tmp_path / "merged")
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        session.run(tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=prefixes, destination_prefix=merged))
    assert read_index(merged) == shapes_by_tensorflow(merged) == {"net/1": (1, 2), "net/2": (2, 2), "net/3": (3, 2)}
    assert check_whole(merged) is None
    os.remove(merged + ".data-00001-of-00003")
    assert check_whole(merged) == "merged.data-00001-of-00003: missing"


def test_is_fast(tmp_path):
    prefix = save(tmp_path / "many", many(500))
    times = []
    for _ in range(5):
        start = time.perf_counter()
        read_index(prefix)
        times.append(time.perf_counter() - start)
    assert min(times) < .2                                          # seconds; a hundredth is usual


def test_needs_no_tensorflow(saved):
    code = ("import sys; from engine.checkpoint_index import read_index; print(len(read_index(sys.argv[1])));"
            "print(*{'tensorflow', 'numpy', 'google.protobuf'} & sys.modules.keys())")
    child = subprocess.run([sys.executable, "-c", code, saved], cwd=HERE.parent, capture_output=True,
                           text=True, check=True)
    assert child.stdout == f"{len(VALUES)}\n\n"


def test_checksum(tmp_path):
    for data in (b"", b"\0", bytes(range(256)) * 3):
        assert checkpoint_index._masked_checksum(data) == masked_checksum(data, tmp_path)


# Damaged ones

def test_missing(copied):
    prefix, index, data = copied
    data.unlink()
    assert check_whole(prefix) == "model.ckpt-10.data-00000-of-00001: missing"
    assert read_index(prefix)
    index.unlink()
    refused(prefix, "missing$")
    index.mkdir()
    refused(prefix, "can't be read")


def test_empty(copied):
    copied[1].write_bytes(b"")
    refused(copied[0], "empty$")


def test_short_data(copied):
    prefix, _, data = copied
    size = data.stat().st_size
    for length in (size - 1, 0):
        os.truncate(data, length)
        assert check_whole(prefix) == f"{data.name}: cut short ({length} of {size} bytes)"
    assert read_index(prefix)


def test_truncated_anywhere(copied):
    prefix, index, _ = copied
    content = index.read_bytes()
    for length in range(1, len(content)):
        index.write_bytes(content[:length])
        refused(prefix, "cut short, or not the index of a checkpoint$")


def test_bytes_lost_within(copied):
    prefix, index, _ = copied
    content = index.read_bytes()
    for start in range(0, len(content) - FOOTER, 7):
        index.write_bytes(content[:start] + content[start + 10:])
        refused(prefix, "damaged|cut short")


@pytest.mark.parametrize("mask", [1, 128, 255])
def test_flipped_anywhere(copied, mask):
    """Each byte counts, but for those that fill the footer up, and a bit that prolongs its last number by a zero."""
    prefix, index, _ = copied
    content, shapes = index.read_bytes(), read_index(prefix)
    end = len(content[:-MAGIC].rstrip(b"\0"))                       # of what the footer says
    for position in range(len(content)):
        index.write_bytes(content[:position] + bytes([content[position] ^ mask]) + content[position + 1:])
        if end <= position < len(content) - MAGIC or (position, mask) == (end - 1, 128):
            assert read_index(prefix) == shapes
        else:
            refused(prefix, "damaged|cut short, or not the index")


def test_compressed(copied, tmp_path):
    """The first block, marked as compressed, with the right checksum."""
    prefix, index, _ = copied
    content = index.read_bytes()
    end = next(end for end in range(len(content) - FOOTER) if content[end:end + TRAILER] == bytes(1) + struct.pack(
        "<I", checkpoint_index._masked_checksum(content[:end + 1])))
    checksum = masked_checksum(content[:end] + b"\1", tmp_path)
    index.write_bytes(content[:end] + b"\1" + struct.pack("<I", checksum) + content[end + TRAILER:])
    refused(prefix, r"compressed \(the block at byte 0\)")


@pytest.mark.parametrize("content", [b"x", b"\0" * 4096, b"\xff" * 4096, b"\x89PNG\r\n\x1a\n" * 30])
def test_something_else(copied, content):
    prefix, index, _ = copied
    index.write_bytes(content)
    refused(prefix, "cut short, or not the index of a checkpoint$")
    index.write_bytes(content + index.with_suffix(".data-00000-of-00001").read_bytes()[:50])
    refused(prefix, "cut short, or not the index of a checkpoint$")
    index.write_bytes(content * 50 + struct.pack("<Q", 0xdb4775248b80fb57))
    refused(prefix, "damaged")


def test_another_table(copied, tmp_path):
    """A table with the right checksums that has no header of a checkpoint in it."""
    prefix, index, _ = copied

    def block(*entries):
        content = b"".join(bytes([0, len(key), len(value)]) + key + value for key, value in entries)
        content += struct.pack("<II", 0, 1) + b"\0"
        return content + struct.pack("<I", masked_checksum(content, tmp_path))

    for entries in ([], [(b"key", b"value")], [(b"", b"\x0a\1\0")], [(b"", b"\x08\1"), (b"a", b"\x12\x70")],
                    [(b"", b"\x08\1"), (b"\xff", b"")]):
        data, filters = block(*entries), block()
        blocks = block((b"z", bytes([0, len(data) - TRAILER])))
        handles = bytes([len(data), len(filters) - TRAILER, len(data + filters), len(blocks) - TRAILER])
        index.write_bytes(data + filters + blocks + handles.ljust(40, b"\0") + struct.pack("<Q", 0xdb4775248b80fb57))
        refused(prefix, "damaged, or not the index of a checkpoint$")
