"""Make .rec files with their .idx, and .bin files, as others' programs write them: plain struct and pickle."""
import pickle
import struct
from pathlib import Path

MAGIC = struct.pack("<I", 0xced7230a)


def part(kind, content):
    """A part of a record: kind 0 is a whole record."""
    return MAGIC + struct.pack("<I", kind << 29 | len(content)) + content + bytes(-len(content) % 4)


def header(labels, number):
    """The header of an image with one label, or of more in the payload."""
    if isinstance(labels, (int, float)):
        return struct.pack("<IfQQ", 0, labels, number, 0)
    return struct.pack("<IfQQ", len(labels), 0, number, 0) + struct.pack(f"<{len(labels)}f", *labels)


def write_records(path, records):
    """Write {number: bytes of all parts} as a .rec file with its .idx -> the path as a word."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    offsets, content = [], b""
    for number, record in records.items():
        offsets.append(f"{number}\t{len(content)}\n")
        content += record
    path.write_bytes(content)
    path.with_suffix(".idx").write_text("".join(offsets))
    return str(path)


def identity_records(people):
    """The records of {label: [encoded images]} as InsightFace lays them out: {number: bytes}."""
    images = [(label, image) for label, each in people.items() for image in each]
    last = len(images) + 1
    records = {0: part(0, header([last, last + len(people)], 0))}
    for number, (label, image) in enumerate(images, 1):
        records[number] = part(0, header(label, number) + image)
    first = 1
    for number, each in enumerate(people.values(), last):
        records[number] = part(0, header([first, first + len(each)], number))
        first += len(each)
    return records


def write_bin(path, images, same, protocol=4):
    """Write a .bin file of pairs -> the path as a word."""
    Path(path).write_bytes(pickle.dumps((images, same), protocol))
    return str(path)
