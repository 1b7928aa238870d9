"""morphable/mat_files: arrays as SciPy reads them; damaged files are refused, where SciPy would crash."""
import random
import struct
import zlib

import numpy as np
import pytest
import scipy.io

from morphable import mat_files

ARRAYS = {f"{kind}_{index}": np.arange(np.prod(shape)).reshape(shape).astype(kind)
          for kind in ("f4", "f8", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8")
          for index, shape in enumerate([(1, 1), (3, 5), (2, 3, 4), (0, 2)])}
OTHERS = {"text": "word", "struct": {"a": 1}, "cell": np.array([1, "a"], object), "complex": np.array([1j, 2])}


def write(path, compressed=False, version="5", fields=ARRAYS):
    scipy.io.savemat(path, fields, format=version, do_compression=compressed)
    return str(path)


@pytest.mark.parametrize("compressed", [False, True])
def test_arrays_are_those_that_scipy_reads(tmp_path, compressed):
    found = mat_files.read(write(tmp_path / "a.mat", compressed, fields=ARRAYS | OTHERS))
    assert found.keys() == ARRAYS.keys() | OTHERS.keys()
    wanted = scipy.io.loadmat(tmp_path / "a.mat")
    for name in ARRAYS:
        np.testing.assert_array_equal(found[name], wanted[name], strict=True)
    assert all(found[name].dtype == object for name in OTHERS)


def test_version_4(tmp_path):
    found = mat_files.read(write(tmp_path / "a.mat", version="4", fields={"a": np.eye(3)}))
    assert found.keys() == {"a"} and np.array_equal(found["a"], np.eye(3))


def big_endian(name, values):
    """A file of one float64 matrix in the other order of bytes."""
    parts = struct.pack(">IIII", 6, 8, 6, 0) + struct.pack(">IIii", 5, 8, *values.shape)
    parts += struct.pack(">II8s", 1, len(name), name)
    parts += struct.pack(">II", 9, values.nbytes) + values.astype(">f8").tobytes("F")
    return b"MATLAB".ljust(124) + b"\x01\x00MI" + struct.pack(">II", 14, len(parts)) + parts


def test_the_other_order_of_bytes(tmp_path):
    values = np.arange(6.).reshape(2, 3)
    (tmp_path / "a.mat").write_bytes(big_endian(b"ab", values))
    np.testing.assert_array_equal(mat_files.read(str(tmp_path / "a.mat"))["ab"], values)
    np.testing.assert_array_equal(scipy.io.loadmat(tmp_path / "a.mat")["ab"], values)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_damaged_files_are_refused_or_read_and_never_crash(tmp_path, compressed, seed):
    write(tmp_path / "a.mat", compressed)
    whole = (tmp_path / "a.mat").read_bytes()
    draw = random.Random(seed)
    for _ in range(60):
        content = bytearray(whole[:draw.randrange(len(whole))] if draw.random() < .3 else whole)
        for _ in range(draw.randrange(1, 9)):
            if content:
                content[draw.randrange(len(content))] = draw.randrange(256)
        (tmp_path / "a.mat").write_bytes(content)
        try:
            mat_files.read(str(tmp_path / "a.mat"))
        except (ValueError, zlib.error) as error:
            assert str(error)
