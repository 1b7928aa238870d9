"""Read a checkpoint's index, and check whether its files are whole, with the standard library only, without TensorFlow.

The index is a table in leveldb's format (its doc/table_format.md): blocks of sorted entries, a block that lists these,
and a footer. In it, TensorFlow maps a variable's name to a BundleEntryProto, and "" to a BundleHeaderProto
(tensor_bundle.proto). A variable saved in slices has an entry for each slice too, whose key begins with a zero byte. A
checkpoint in TensorFlow's first format has no index.
"""
import functools
import hashlib
import os
import struct

from engine import weight_files
from utils import open_regular, UserError

_FOOTER, _MAGIC = 48, struct.pack("<Q", 0xdb4775248b80fb57)     # bytes in all, and the last 8 of them
_TRAILER = struct.Struct("<BI")                                 # after each block: compression, checksum
_VARINT, _BYTES, _FOUR = 0, 2, 5                                # protobuf's wire types: integer, message, four bytes
_DAMAGED = "damaged, or not the index of a checkpoint"


def read_index(prefix):
    """Read the names and shapes of a checkpoint's variables -> {name: tuple of int}.

    Only `<prefix>.index` is read, and no data file. Raises ValueError, one line that begins with the file's name, when
    the index is missing, cut short, damaged, compressed or something else.
    """
    return _load(prefix)[0]


def read_shapes(files, source):
    """Read the shapes of the variables in the first whole one of the checkpoints `files` -> {name: shape}.

    Returns None where only TensorFlow can read the file: a frozen graph, or TensorFlow's first format of checkpoints.
    Raises UserError, which begins with `source`, where none is whole.
    """
    for prefix in files:
        if os.path.isfile(prefix):
            return None
        problem = check_whole(prefix)
        if not problem:
            shapes = read_index(prefix)
            if weight_files.is_of_objects(shapes):
                raise UserError(f"{source}: a checkpoint of tf.train.Checkpoint or Keras, whose variables have other "
                                "names; name one that tf.compat.v1.train.Saver wrote, such as those of a run")
            return shapes
    raise UserError(f"{source}: no whole checkpoint there ({problem}); restore it, or name another")


def named(prefix):
    """Name a checkpoint by its `prefix` for settings.json -> "model.ckpt-STEP FINGERPRINT", the same in any folder."""
    return f"{os.path.basename(prefix)} {fingerprint(prefix)}"


def fingerprint(path):
    """Compute a fingerprint of weights: a checkpoint's prefix, or one file -> 16 hexadecimal digits.

    A checkpoint's index holds a checksum of every variable, so that it alone is read. Raises UserError.
    """
    name = f"{path}.index" if os.path.isfile(f"{path}.index") else path
    try:
        with open_regular(name) as file:
            return hashlib.sha256(file.read()).hexdigest()[:16]
    except OSError as error:
        raise UserError(f"{name}: can't be read ({error.strerror}); restore it from a copy") from error


def check_whole(prefix):
    """Find what a checkpoint's files lack -> None, or a line that begins with the name of the file.

    The index has to be whole, and each data file as long in bytes as the index says. The data files aren't read.
    """
    try:
        _, sizes = _load(prefix)
    except ValueError as error:
        return str(error)
    for ending, size in sorted(sizes.items()):
        path = f"{prefix}.{ending}"
        if not os.path.isfile(path):
            return f"{os.path.basename(path)}: missing"
        if os.path.getsize(path) < size:
            return f"{os.path.basename(path)}: cut short ({os.path.getsize(path)} of {size} bytes)"
    return None


def _load(prefix):
    """Read `<prefix>.index` -> what `_parse` gives. Raises ValueError with the file's name."""
    path = f"{prefix}.index"
    try:
        with open_regular(path) as file:
            return _parse(file.read())
    except FileNotFoundError:
        reason = "missing"
    except OSError as error:
        reason = f"can't be read ({error.strerror})"
    except (IndexError, struct.error, UnicodeDecodeError):      # in the footer, or behind a right checksum
        reason = _DAMAGED
    except ValueError as error:
        reason = str(error)
    raise ValueError(f"{os.path.basename(path)}: {reason}")


def _parse(content):
    """Decode an index -> ({variable: shape}, {ending of a data file's name: bytes it needs})."""
    if len(content) < _FOOTER or not content.endswith(_MAGIC):
        raise ValueError("cut short, or not the index of a checkpoint" if content else "empty")
    body, footer, position = content[:-_FOOTER], content[-_FOOTER:], 0
    for _ in range(2):                      # the first is for filters, of which TensorFlow has none
        blocks, position = _read_block(body, footer, position)
    entries = {key: _read_fields(value) for _, handle in _read_entries(blocks)
               for key, value in _read_entries(_read_block(body, handle, 0)[0])}
    count = entries.pop(b"", {}).get((1, _VARINT), [0])[-1]
    if not count:
        raise ValueError(_DAMAGED)
    shapes, sizes = {}, {}
    for key, fields in entries.items():
        shard, offset, size = (fields.get((number, _VARINT), [0])[-1] for number in (3, 4, 5))
        ending = f"data-{shard:05d}-of-{count:05d}"
        sizes[ending] = max(sizes.get(ending, 0), offset + size)
        if not key.startswith(b"\0"):
            dimensions = _read_fields(fields.get((2, _BYTES), [b""])[-1]).get((2, _BYTES), [])
            shapes[key.decode()] = tuple(_read_fields(dimension).get((1, _VARINT), [0])[-1] for dimension in dimensions)
    return shapes, sizes


def _read_block(body, handles, position):
    """Check the block that the handle at `position` points to -> (the block, position after the handle)."""
    start, position = _read_varint(handles, position)
    size, position = _read_varint(handles, position)
    end = start + size
    if end + _TRAILER.size > len(body):
        raise ValueError(f"damaged (the block at byte {start} goes beyond the end)")
    compression, checksum = _TRAILER.unpack_from(body, end)
    if _masked_checksum(body[start:end + 1]) != checksum:
        raise ValueError(f"damaged (the block at byte {start} doesn't match its checksum)")
    if compression:
        raise ValueError(f"compressed (the block at byte {start}), which TensorFlow doesn't write")
    return body[start:end], position


def _read_entries(block):
    """Iterate over a block's entries: (key, value), in bytes. An entry may share the first bytes of the key before."""
    restarts, = struct.unpack("<I", block[-4:])                 # the number of offsets, 4 bytes each, before it
    key, position, end = b"", 0, len(block) - 4 * (restarts + 1)
    while position < end:
        shared, position = _read_varint(block, position)
        added, position = _read_varint(block, position)
        size, position = _read_varint(block, position)
        key = key[:shared] + block[position:position + added]
        yield key, block[position + added:position + added + size]
        position += added + size
    if position != end:
        raise ValueError(_DAMAGED)


def _read_fields(message):
    """Decode a protobuf message -> {(field number, wire type): its values, of int or of bytes}."""
    fields, position = {}, 0
    while position < len(message):
        tag, position = _read_varint(message, position)
        wire_type = tag & 7
        value, position = (4, position) if wire_type == _FOUR else _read_varint(message, position)
        if wire_type != _VARINT:                                # the value is the number of bytes that follow
            value, position = message[position:position + value], position + value
        fields.setdefault((tag >> 3, wire_type), []).append(value)
    if position > len(message):
        raise ValueError(_DAMAGED)
    return fields


def _read_varint(data, position):
    """Decode the varint at `position` -> (its value, the position after it). It has 7 bits a byte, the lowest first."""
    value = shift = 0
    while data[position] >= 128:
        value |= (data[position] & 127) << shift
        shift, position = shift + 7, position + 1
    return value | data[position] << shift, position + 1


@functools.cache
def _checksums_of_bytes():
    """Make the table of the CRC-32C of each byte."""
    table = list(range(256))
    for _ in range(8):
        table = [crc >> 1 ^ (0x82f63b78 if crc & 1 else 0) for crc in table]
    return table


def _masked_checksum(data):
    """Compute the CRC-32C of `data` as leveldb stores it: rotated by 15 bits, with a constant added."""
    crc, table = 0xffffffff, _checksums_of_bytes()
    for byte in data:
        crc = table[(crc ^ byte) & 255] ^ crc >> 8
    crc = ~crc & 0xffffffff
    return (crc >> 15 | crc << 17) + 0xa282ead8 & 0xffffffff
