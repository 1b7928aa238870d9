"""Read an ONNX file: its nodes in their order, and the arrays that it holds; with NumPy only.

The file is a protobuf message, whose fields are those of onnx.proto. It is mapped into memory and not copied: large
arrays are views of the file.
"""
import math
import mmap
import struct
from typing import NamedTuple

import numpy as np

from utils import open_regular, reason_of, UserError

_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5                     # protobuf's wire types
# Of TensorProto's data types: NumPy's name, the field of the numbers where raw_data has none, and the type there.
_TYPES = {1: ("<f4", 4, "<f4"), 2: ("u1", 5, None), 3: ("i1", 5, None), 5: ("<i2", 5, None), 6: ("<i4", 5, None),
          7: ("<i8", 7, None), 9: ("?", 5, None), 10: ("<f2", 5, None), 11: ("<f8", 10, "<f8")}
_HALF = 10                          # the data type whose numbers are the bits of a float16
_MOST_DIMENSIONS = 32               # that NumPy takes
_ERRORS = (OSError, ValueError, IndexError, TypeError, struct.error, OverflowError, MemoryError, RecursionError)


class Node(NamedTuple):
    """An operation. An attribute is a float, an int, a list of ints, bytes or an array."""
    kind: str                       # such as "Conv"
    name: str
    inputs: list                    # names of tensors; "" for one that is left out
    outputs: list
    attributes: dict                # {name: value}


class Graph(NamedTuple):
    """An ONNX graph."""
    nodes: list                     # of Node, in an order in which they can be computed
    arrays: dict                    # {name: array} of the file's weights and constants
    inputs: list                    # names of the tensors that a user gives
    outputs: list                   # names of the tensors that a user gets


def read(path):
    """Read the ONNX file `path` -> Graph. Raises UserError where it can't be read as one."""
    try:
        with open_regular(path) as file:
            content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        graphs = [value for number, _, value in _fields(content) if number == 7]
        if not graphs:
            raise ValueError("no graph in it")
        return _read_graph(graphs[-1])
    except _ERRORS as error:
        raise UserError(f"--input {path}: can't be read as an ONNX model ({reason_of(error)}); give a file that "
                        "torch.onnx.export or onnx.save wrote, with its weights inside") from error


def _read_graph(message):
    """Read a GraphProto -> Graph."""
    nodes, arrays, inputs, outputs = [], {}, [], []
    for number, _, value in _fields(message):
        if number == 1:
            nodes.append(_read_node(value))
        elif number == 5:
            name, array = _read_tensor(value)
            arrays[name] = array
        elif number in (11, 12):
            name = next((_text(field) for key, _, field in _fields(value) if key == 1), "")
            (inputs if number == 11 else outputs).append(name)
    for node in nodes:
        if node.kind == "Constant" and isinstance(node.attributes.get("value"), np.ndarray):
            arrays[node.outputs[0]] = node.attributes["value"]
    # Old files list their weights among the inputs too.
    return Graph([node for node in nodes if node.kind != "Constant"], arrays,
                 [name for name in inputs if name not in arrays], outputs)


def _read_node(message):
    """Read a NodeProto -> Node."""
    inputs, outputs, name, kind, attributes = [], [], "", "", {}
    for number, _, value in _fields(message):
        if number == 1:
            inputs.append(_text(value))
        elif number == 2:
            outputs.append(_text(value))
        elif number == 3:
            name = _text(value)
        elif number == 4:
            kind = _text(value)
        elif number == 5:
            key, attribute = _read_attribute(value)
            attributes[key] = attribute
    return Node(kind, name, inputs, outputs, attributes)


def _read_attribute(message):
    """Read an AttributeProto -> (name, value). Of the kinds of values, those that a Node may have are read."""
    name, value = "", None
    for number, wire, field in _fields(message):
        if number == 1:
            name = _text(field)
        elif number == 2:
            value = struct.unpack("<f", field)[0]
        elif number == 3:
            value = _signed(field)
        elif number == 4:
            value = bytes(field)
        elif number == 5:
            value = _read_tensor(field)[1]
        elif number == 8:
            value = (value or []) + (_varints(field) if wire == _BYTES else [_signed(field)])
    return name, value


def _read_tensor(message):
    """Read a TensorProto -> (name, array). Raises ValueError for a type or a place of the numbers that is not known."""
    shape, kind, name, raw, lists = [], 0, "", None, {}
    for number, wire, value in _fields(message):
        if number == 1:
            shape += _varints(value) if wire == _BYTES else [_signed(value)]
        elif number == 2:
            kind = value
        elif number == 8:
            name = _text(value)
        elif number == 9:
            raw = value
        elif number in (4, 5, 7, 10):
            lists.setdefault(number, []).append((wire, value))
        elif number == 14 and value == 1:
            raise ValueError(f"the numbers of {name or 'a tensor'} lie in another file")
    if kind not in _TYPES:
        raise ValueError(f"{name or 'a tensor'} is of type {kind}, which is not read here")
    if len(shape) > _MOST_DIMENSIONS or min(shape, default=0) < 0:
        raise ValueError(f"{name or 'a tensor'} has no valid shape")
    dtype, field, packed = _TYPES[kind]
    if raw is not None:
        values = np.frombuffer(raw, dtype)
    elif packed:                    # floats and doubles: one message of all, or a field for each
        values = np.concatenate([np.frombuffer(value, packed) for _, value in lists.get(field, [])] or
                                [np.zeros(0, packed)])
    else:
        whole = [each for wire, value in lists.get(field, [])
                 for each in (_varints(value) if wire == _BYTES else [_signed(value)])]
        values = np.array(whole, np.int64).astype("<u2").view("<f2") if kind == _HALF else np.array(whole).astype(dtype)
    if math.prod(shape) != len(values):
        raise ValueError(f"{name or 'a tensor'} has {len(values)} numbers, and its shape is {shape}")
    return name, values.reshape(shape)


# Protobuf

def _fields(message):
    """Iterate over the fields of a message, a memoryview -> (field number, wire type, int or memoryview)."""
    position, end = 0, len(message)
    while position < end:
        tag, position = _varint(message, position)
        wire = tag & 7
        if wire == _VARINT:
            value, position = _varint(message, position)
        else:
            if wire == _BYTES:
                size, position = _varint(message, position)
            elif wire in (_FOUR, _EIGHT):
                size = 4 if wire == _FOUR else 8
            else:
                raise ValueError(f"no protobuf message at byte {position}")
            value, position = message[position:position + size], position + size
            if position > end:
                raise ValueError("cut short")
        yield tag >> 3, wire, value


def _varint(message, position):
    """Decode the varint at `position` -> (its value, the position after it). It has 7 bits a byte, the lowest first."""
    value = shift = 0
    while message[position] >= 128:
        value |= (message[position] & 127) << shift
        shift, position = shift + 7, position + 1
        if shift > 63:
            raise ValueError(f"no protobuf message at byte {position}")
    return value | message[position] << shift, position + 1


def _varints(message):
    """Decode all varints of a packed field -> a list of int."""
    values, position = [], 0
    while position < len(message):
        value, position = _varint(message, position)
        values.append(_signed(value))
    return values


def _signed(value):
    """Read an unsigned number of 64 bits as one with a sign."""
    return value - (1 << 64) if value >> 63 else value


def _text(message):
    """Decode a name."""
    return bytes(message).decode()
