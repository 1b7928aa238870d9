"""Read the arrays of numbers in a MATLAB file. SciPy's own reader crashes on damaged files of version 5.

Such a file is a header of 128 bytes, then elements: a tag with type and size, the data, and padding to 8 bytes. The
element of a variable is a matrix, itself made of elements, and mostly compressed.
"""
import math
import struct
import zlib

import numpy as np
import scipy.io

from utils import open_regular

_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_MATRIX, _COMPRESSED = 14, 15
_NUMERIC = range(6, 16)                     # classes of matrices that hold numbers
_COMPLEX = 0x0800                           # a flag of a matrix
_HEADER = 128
_MOST = 1 << 30                             # bytes of a variable


def read(path):
    """Read the variables of the MATLAB file `path`, of version 4 or 5 -> {name: array}.

    A variable that holds no real numbers, such as a text or a struct, becomes an array of None. Numbers have the type
    that they are stored in. Raises OSError when the file can't be read, and ValueError or zlib.error when it is damaged
    or something else.
    """
    with open_regular(path) as file:
        header = file.read(_HEADER)
        file.seek(0)
        if 0 in header[:4]:                 # as MATLAB tells version 4
            return _read_version_4(file)
        order = {b"IM": "<", b"MI": ">"}.get(header[126:])
        if not order:
            raise ValueError("not a MATLAB file")
        content = memoryview(file.read())[_HEADER:]
    variables = {}
    for kind, data in _elements(content, order):
        if kind == _COMPRESSED:
            kind, data = next(_elements(memoryview(_decompress(data)), order), (None, b""))
        if kind == _MATRIX:
            variables.update([_read_matrix(data, order)])
    return variables


def _decompress(data):
    """Decompress `data` -> bytes. Raises ValueError for more than any face model has."""
    decompressor = zlib.decompressobj()
    content = decompressor.decompress(data, _MOST)
    if decompressor.unconsumed_tail:
        raise ValueError(f"more than {_MOST} bytes in one variable")
    if not decompressor.eof:
        raise ValueError("cut short")
    return content


def _read_version_4(file):
    """Read the variables of an open file of version 4, which SciPy reads without crashing."""
    try:
        return {name: value for name, value in scipy.io.loadmat(file).items() if not name.startswith("__")}
    except Exception as error:              # it raises nearly anything
        raise ValueError(str(error) or "damaged") from error


def _elements(data, order):
    """Iterate over the elements in `data`: (type, data). `order` is "<" or ">", that of bytes in a number."""
    position = 0
    while position < len(data):
        if len(data) - position < 8:
            raise ValueError("cut short")
        kind, size = struct.unpack_from(order + "II", data, position)
        start, end = position + 8, position + 8 + size
        if kind >> 16:                      # the data of a small element lie in its tag
            kind, size, start, end = kind & 0xffff, kind >> 16, position + 4, position + 8
        if start + size > len(data) or (start < position + 8 and size > 4):
            raise ValueError("cut short, or damaged")
        yield kind, data[start:start + size]
        position = end + (-size % 8 if kind != _COMPRESSED and start == position + 8 else 0)


def _read_matrix(data, order):
    """Read the element of a variable -> (name, array)."""
    parts = _elements(data, order)
    try:
        (_, flags), (_, sides), (_, name) = next(parts), next(parts), next(parts)
        flags, = struct.unpack_from(order + "I", flags)
        sides = np.frombuffer(sides, order + "i4").tolist()
        name = bytes(name).decode("latin-1")
        if flags & 0xff not in _NUMERIC or flags & _COMPLEX:
            return name, np.array(None)
        kind, numbers = next(parts)
        values = np.frombuffer(numbers, order + _NUMBERS[kind])
    except (StopIteration, KeyError, struct.error) as error:
        raise ValueError("damaged") from error
    if min(sides, default=0) < 0 or math.prod(sides) != len(values):
        raise ValueError(f"damaged: {len(values)} numbers in {name}, not {sides}")
    return name, values.astype(values.dtype.newbyteorder("=")).reshape(sides, order="F")
