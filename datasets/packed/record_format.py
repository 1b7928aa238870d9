"""The bytes of a .rec file: a record in one or more parts, and the header of the image in it; both ways.

The parts are those of dmlc's RecordIO: the number MAGIC, a word with the kind and the length of the part, its bytes,
and zeros up to a multiple of 4. Where a record itself holds MAGIC at a multiple of 4, it is cut there in two parts,
and MAGIC is left out. So a reader that is lost finds the next record. The header is MXNet's IRHeader.
"""
import struct
from typing import NamedTuple

MAGIC = 0xced7230a
MOST_LENGTH = 2 ** 29 - 1           # bytes of a part
HEADER_LENGTH = 24                  # bytes before the labels of a header
WHOLE, FIRST, MIDDLE, LAST = range(4)       # kinds of parts

_MAGIC = struct.pack("<I", MAGIC)
_PART, _HEADER = struct.Struct("<II"), struct.Struct("<IfQQ")
_CUT_SHORT = "the file ends within the record"


class Image(NamedTuple):
    """What a record holds."""
    labels: tuple                   # floats; one is usual
    content: bytes                  # the encoded image; empty in a record that tells of others


def pack(labels, number, content=b""):
    """Make the bytes of a record from its `labels`, its `number` and the encoded image `content`.

    A single label stands in the header, whose flag is 0. Several stand after the header, and the flag is their count.
    """
    if len(labels) == 1:
        return _HEADER.pack(0, labels[0], number, 0) + content
    return _HEADER.pack(len(labels), 0., number, 0) + struct.pack(f"<{len(labels)}f", *labels) + content


def header_end(beginning):
    """Tell how many bytes of a record its header takes with all labels, from the `beginning` of the record."""
    return HEADER_LENGTH + 4 * int.from_bytes(beginning[:4], "little")


def unpack(record):
    """Take the bytes of a record apart -> Image. Raises ValueError where they are too few."""
    if len(record) < HEADER_LENGTH:
        raise ValueError("the record is too short for its header")
    flag, label, _, _ = _HEADER.unpack_from(record)
    start = header_end(record)
    if len(record) < start:
        raise ValueError("the record is too short for its labels")
    return Image(struct.unpack_from(f"<{flag}f", record, HEADER_LENGTH) if flag else (label,), record[start:])


def to_parts(record):
    """Write the bytes of a record as parts -> bytes, a multiple of 4 long. Raises ValueError for too long a record."""
    if len(record) > MOST_LENGTH:
        raise ValueError(f"a record has {len(record)} bytes, and at most {MOST_LENGTH} are possible")
    starts, place = [0], record.find(_MAGIC)
    while place >= 0:
        if place % 4 == 0:
            starts.append(place + 4)
        place = record.find(_MAGIC, place + (4 if place % 4 == 0 else 1))
    ends = [start - 4 for start in starts[1:]] + [len(record)]
    kinds = [WHOLE] if len(starts) == 1 else [FIRST, *[MIDDLE] * (len(starts) - 2), LAST]
    return b"".join(_PART.pack(MAGIC, kind << 29 | end - start) + record[start:end] + bytes(-(end - start) % 4)
                    for kind, start, end in zip(kinds, starts, ends))


def part_at(read, offset, size):
    """Read the head of the part at `offset` of a file of `size` bytes -> (kind, offset of its bytes, their length).

    `read(count, offset)` reads bytes. Raises ValueError where there is no such part.
    """
    head = read(_PART.size, offset)
    if len(head) < _PART.size:
        raise ValueError(_CUT_SHORT)
    magic, word = _PART.unpack(head)
    if magic != MAGIC:
        raise ValueError("no record begins there")
    kind, length = word >> 29, word & MOST_LENGTH
    if kind > LAST:
        raise ValueError(f"a part of the unknown kind {kind}")
    if offset + _PART.size + length > size:
        raise ValueError(_CUT_SHORT)
    return kind, offset + _PART.size, length


def _after(start, length):
    """Compute where a part ends whose bytes begin at `start`: zeros fill it up to a multiple of 4."""
    return start + length + -length % 4


def end_of(read, offset, size):
    """Find where the record ends whose first part is at `offset` of a file of `size` bytes -> the offset after it.

    Of each part only the head is read, by `read(count, offset)`. Raises ValueError where there is no such part.
    """
    kind = None
    while kind not in (WHOLE, LAST):
        kind, start, length = part_at(read, offset, size)
        offset = _after(start, length)
    return offset


def from_parts(read, offset, size):
    """Read the record whose first part is at `offset` of a file of `size` bytes -> (bytes, offset after it).

    `read(count, offset)` reads bytes. Raises ValueError where the parts are not those of a whole record.
    """
    parts, allowed = [], (WHOLE, FIRST)
    while True:
        kind, start, length = part_at(read, offset, size)
        if kind not in allowed:
            raise ValueError("parts of records in a wrong order")
        parts.append(read(length, start))
        if len(parts[-1]) < length:
            raise ValueError(_CUT_SHORT)
        offset = _after(start, length)
        if kind in (WHOLE, LAST):
            return _MAGIC.join(parts), offset
        allowed = MIDDLE, LAST
