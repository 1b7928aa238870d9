"""Read a .bin file of pairs, such as lfw.bin: a pickle of encoded images and of which pairs show one person.

Two images after each other are a pair. A pickle may name any function to call. So the file is read by an unpickler
that knows lists, tuples, bytes, numbers and NumPy's arrays of whole numbers, and calls nothing of anybody else's.
"""
import functools
import io
import os
import pickle
import pickletools
from typing import NamedTuple

import numpy as np

from utils import open_regular, reason_of, UserError

SUFFIX = ".bin"

# Steps of a pickle that make lists, tuples, bytes, words, numbers, and what _NAMED allows.
_STEPS = {"PROTO", "FRAME", "STOP", "MARK", "POP", "POP_MARK", "NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT",
          "BININT1", "BININT2", "LONG", "LONG1", "STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES",
          "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
          "EMPTY_LIST", "LIST", "APPEND", "APPENDS", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "GET",
          "BINGET", "LONG_BINGET", "PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "GLOBAL", "STACK_GLOBAL", "REDUCE",
          "BUILD"}
_PLACES = {"PUT", "BINPUT", "LONG_BINPUT"}      # steps that keep a value at a place for later
_KINDS = "b1", "?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8"      # NumPy's kinds of whole numbers


class PairSet(NamedTuple):
    """The pairs of a file: images 2 i and 2 i + 1 are pair i."""
    images: list                    # 2 n encoded images, bytes
    same: np.ndarray                # bool [n]: whether both show one person


class _Kind:
    """Stands for a NumPy dtype in a pickle."""

    __slots__ = ("_code", "_order")

    def __init__(self, code, *_):
        code = code.decode("ascii") if isinstance(code, bytes) else code
        if code not in _KINDS:
            raise ValueError(f"an array of {code!r}, and only whole numbers are allowed")
        self._code, self._order = "?" if code == "b1" else code, "="

    def __setstate__(self, state):
        order = state[1].decode("ascii") if isinstance(state[1], bytes) else state[1]
        if order not in ("|", "<", ">", "="):
            raise ValueError("an array of an unknown order of bytes")
        self._order = order

    def array(self, content, shape):
        """Make an array from its bytes. Raises ValueError where they are not as many as the shape asks for."""
        kind = np.dtype(self._code).newbyteorder(self._order)
        return np.frombuffer(content, kind).reshape([int(length) for length in shape])


class _Array:
    """Stands for a NumPy array in a pickle, until its bytes are known."""

    __slots__ = ("array",)

    def __setstate__(self, state):
        _, shape, kind, by_columns, content = state
        if by_columns and len(shape) > 1:
            raise ValueError("an array that is stored by columns")
        if isinstance(content, str):
            content = content.encode("latin-1")
        self.array = kind.array(content, shape)


class _Maker:
    """Stands for a function that a pickle may call. Nothing about it can be changed."""

    __slots__ = ("_make",)

    def __init__(self, make):
        self._make = make

    def __call__(self, *arguments):
        return self._make(*arguments)

    def __setstate__(self, state):
        raise ValueError("an attempt to change a function")


def _encode(word, code="latin1"):
    """Turn a word into bytes, as Python 3 writes bytes for older readers."""
    if code not in ("latin1", "latin-1"):
        raise ValueError(f"bytes in the code {code!r}")
    return word.encode("latin-1")


def _frombuffer(content, kind, shape, order):
    """Make an array as NumPy's newest pickles do."""
    if order != "C" and len(shape) > 1:
        raise ValueError("an array that is stored by columns")
    return kind.array(content, shape)


def _bytes(content=b""):
    """Return bytes, which an empty one is written as."""
    if content != b"":
        raise ValueError("bytes that are made of something else")
    return b""


_CORE = "numpy.core", "numpy._core"             # what NumPy calls its own rooms, before and since version 2
_NAMED = {("numpy", "ndarray"): None,
          ("numpy", "dtype"): _Kind,
          ("_codecs", "encode"): _encode,
          ("builtins", "bytes"): _bytes,
          **{(f"{core}.multiarray", "_reconstruct"): lambda *_: _Array() for core in _CORE},
          **{(f"{core}.multiarray", "scalar"): lambda kind, content: kind.array(content, []).item() for core in _CORE},
          **{(f"{core}.numeric", "_frombuffer"): _frombuffer for core in _CORE}}


class _Unpickler(pickle.Unpickler):
    """Reads only what _NAMED lists."""

    def find_class(self, module, name):
        """Return what stands for `name` of `module`. Raises ValueError for all that is not listed."""
        if (module, name) not in _NAMED:
            raise ValueError(f"it asks for {module}.{name}, which pairs of images do not need")
        return _Maker(_NAMED[module, name])


def _unpickle(content):
    """Read a pickle -> its value. Raises ValueError, and anything that the pickle module raises."""
    for count, (step, argument, _) in enumerate(pickletools.genops(content)):
        if step.name not in _STEPS:
            raise ValueError(f"the step {step.name}, which pairs of images do not need")
        if step.name in _PLACES and not 0 <= argument <= count + 1:         # else it costs any amount of memory
            raise ValueError("a value that is kept far away from the others")
    return _Unpickler(io.BytesIO(content), encoding="bytes").load()


def _as_list(value):
    """Return a list, tuple or array of a pickle as a list. Raises ValueError for any other value."""
    if isinstance(value, _Array):
        value = value.array
    if isinstance(value, np.ndarray):
        return list(value)
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"a {type(value).__name__} in the place of a list")
    return list(value)


def _as_image(value):
    """Return an encoded image as bytes; of pixels [height, width, 3], those of a file. Raises ValueError."""
    if isinstance(value, _Array):
        value = value.array
    if isinstance(value, np.ndarray) and value.dtype == np.uint8:
        if value.ndim == 3 and value.shape[2] == 3:
            return b"P6 %d %d 255\n" % (value.shape[1], value.shape[0]) + value.tobytes()
        if value.ndim == 1:
            return value.tobytes()
    if not isinstance(value, (bytes, bytearray)):
        raise ValueError(f"a {type(value).__name__} in the place of an encoded image")
    return bytes(value)


def read(path):
    """Read the .bin file `path` -> PairSet. Raises UserError, a line that begins with the path, for any other file."""
    try:
        state = os.stat(path)
        return _read(path, (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns))
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror}); name a file of pairs") from error


@functools.lru_cache(1)                 # a file has a hundred megabytes
def _read(path, _state):
    with open_regular(path) as file:
        content = file.read()
    try:
        value = _unpickle(content)
        if not isinstance(value, (list, tuple)) or len(value) != 2:
            raise ValueError("not two values, images and which pairs are of one person")
        images = [_as_image(each) for each in _as_list(value[0])]
        same = _as_list(value[1])
        if not all(isinstance(each, (bool, int, np.bool_, np.integer)) and each in (0, 1) for each in same):
            raise ValueError("which pairs are of one person is told by something else than true and false")
    except Exception as error:          # of a hostile or damaged pickle, nearly anything
        raise UserError(f"{path}: no pickle of encoded images and of which pairs are of one person "
                        f"({reason_of(error)}); name a file such as lfw.bin") from error
    if len(images) % 2:
        raise UserError(f"{path}: {len(images)} images, an odd number, and two are a pair; get a whole copy of it")
    if len(images) != 2 * len(same) or not images:
        raise UserError(f"{path}: {len(images)} images for {len(same)} pairs; get a whole copy of it")
    return PairSet(images, np.array(same, bool))
