"""Packed images: the bytes of .rec files, identities in them, .bin files of pairs, hostile and damaged ones."""
import os
import pickle
import random
import struct
import threading

import numpy as np
import pytest

from data_loader import count_readable, read_in_order, Reading
from datasets import sources
from datasets.image_sets import check_images, data_folder, find_photos, find_renderings, list_folders
from datasets.images import BrokenImage, load_image, read_picture
from datasets.packed import pair_sets, record_format, records
from datasets.packed.opening import open_image
from drawn import draw_face, write
from record_files import header, identity_records, MAGIC, part, write_bin, write_records
from tool import one_line
from utils import UserError


def encoded(tmp_path, person, number, suffix="jpg", size=16):
    """The bytes of a drawn image file."""
    name = f"{person}-{number}.{suffix}"
    write(str(tmp_path / "files"), name, draw_face(person, number, size, photo=True))
    return (tmp_path / "files" / name).read_bytes()


@pytest.fixture
def people(tmp_path):
    """{label: encoded images} of three people, one image of which is a png."""
    return {label: [encoded(tmp_path, label, number, "png" if (label, number) == (1, 1) else "jpg")
                    for number in range(label + 1)] for label in range(3)}


# Bytes

def reader(content):
    """A function that reads so many bytes of `content` at an offset."""
    return lambda count, offset: content[offset:offset + count]


def test_records_come_back_whatever_is_in_them():
    """Random payloads that hold the magic number at all places."""
    chance = random.Random(1)
    for _ in range(400):
        words = [MAGIC, MAGIC, MAGIC[:3], b"\0", bytes(chance.randrange(256) for _ in range(chance.randrange(9)))]
        payload = b"".join(chance.choice(words) for _ in range(chance.randrange(12)))
        content = record_format.to_parts(payload)
        found, end = record_format.from_parts(reader(content), 0, len(content))
        assert found == payload and end == len(content) and len(content) % 4 == 0
        aligned = sum(payload[place:place + 4] == MAGIC for place in range(0, len(payload), 4))
        assert sum(content[place:place + 4] == MAGIC for place in range(0, len(content), 4)) <= aligned + 1


def test_parts_are_those_of_recordio():
    """Parts 1, 2 and 3, from which the magic number at a multiple of 4 is left out; elsewhere it stays."""
    payload = b"abcd" + MAGIC + b"ef" + MAGIC + b"gh" + MAGIC + b"i"
    assert record_format.to_parts(payload) == part(1, b"abcd") + part(2, b"ef" + MAGIC + b"gh") + part(3, b"i")
    assert record_format.to_parts(MAGIC * 2) == part(1, b"") + part(2, b"") + part(3, b"")
    assert record_format.to_parts(b"abcde") == part(0, b"abcde")


def test_headers_are_those_of_mxnet():
    assert record_format.pack([7], 3, b"x") == header(7, 3) + b"x"
    assert record_format.pack([7, 9], 3) == header([7, 9], 3)
    assert record_format.unpack(header([1, 2, 3], 0) + b"rest") == ((1, 2, 3), b"rest")


@pytest.mark.parametrize("content, reason", [
    (b"", "ends within"), (b"\0" * 8, "no record begins"), (part(0, b"abcd")[:-1], "ends within"),
    (part(3, b""), "wrong order"), (part(1, b"") + part(1, b""), "wrong order"), (part(1, b"abcd"), "ends within"),
    (MAGIC + struct.pack("<I", 5 << 29), "unknown kind"), (MAGIC + b"\xff\xff\xff\x1f", "ends within")])
def test_damaged_parts_are_told(content, reason):
    with pytest.raises(ValueError, match=reason):
        record_format.from_parts(reader(content), 0, len(content))


def test_fuzzed_files_are_errors_of_one_line_or_broken_images(tmp_path, people):
    """Nothing but UserError leaves the search, and nothing but BrokenImage the decoding."""
    path = write_records(tmp_path / "faces.rec", identity_records(people))
    whole, index = (tmp_path / "faces.rec").read_bytes(), (tmp_path / "faces.idx").read_bytes()
    chance = random.Random(2)
    outcomes = set()
    for _ in range(60):
        target, content = chance.choice([("faces.rec", bytearray(whole)), ("faces.idx", bytearray(index))])
        for _ in range(chance.randrange(1, 4)):
            place = chance.randrange(len(content))
            content[place] = chance.randrange(256)
        del content[chance.choice([len(content), chance.randrange(len(content))]):]
        (tmp_path / "faces.rec").write_bytes(whole)
        (tmp_path / "faces.idx").write_bytes(index)
        (tmp_path / target).write_bytes(content)
        try:
            found = find_renderings(path)
            for name in found.names:
                read_picture(os.path.join(path, name))
            outcomes.add("whole")
        except BrokenImage:
            outcomes.add("broken")
        except UserError as error:
            assert "\n" not in str(error)
            outcomes.add("refused")
    assert outcomes == {"whole", "broken", "refused"}


# Identities

@pytest.mark.parametrize("layout", ["identities", "plain", "two labels", "in parts"])
def test_identities_are_found_in_every_layout(tmp_path, people, layout):
    """Each image is the one of its identity, whatever is beside it."""
    found = identity_records(people)
    images = {number: (label, image) for number, (label, image) in enumerate(
        ((label, image) for label, each in people.items() for image in each), 1)}
    if layout == "plain":               # in no order, from number 0
        found = {7 * number % 6: part(0, header(label, number) + image) for number, (label, image) in images.items()}
    elif layout == "two labels":
        found = {number: part(0, header([label, 0.5], number) + image) for number, (label, image) in images.items()}
    elif layout == "in parts":
        for number, (label, image) in images.items():
            payload = header(label, number) + image
            found[number] = part(1, payload[:28]) + part(2, payload[28:40]) + part(3, payload[40:])
    path = write_records(tmp_path / "set" / "train.rec", found)
    renderings = find_renderings(str(tmp_path / "set"))
    assert renderings.root == path and renderings.identities == ["0", "1", "2"]
    assert renderings.labels.tolist() == [0, 1, 1, 2, 2, 2] and renderings.labels.dtype == np.int32
    if layout == "in parts":
        return
    contents = [open_image(os.path.join(path, name)).read() for name in renderings.names]
    for label, each in people.items():
        assert sorted(each) == sorted(content for content, own in zip(contents, renderings.labels) if own == label)


def test_magic_numbers_within_an_image_come_back(tmp_path):
    image = b"\xff\xd8--" + MAGIC + b"1234" + MAGIC * 2 + b"end"
    path = write_records(tmp_path / "a.rec", {5: record_format.to_parts(header(3, 5) + image)})
    assert find_photos(path).names == ["3/00005.jpg"]
    assert open_image(f"{path}/3/00005.jpg").read() == image


def test_labels_with_gaps_and_wrong_records_of_identities(tmp_path, people, caplog):
    """The labels of images count, and names that we wrote beside the file."""
    found = identity_records({label * 10: images for label, images in people.items()})
    found[8] = part(0, header([1, 3], 8))               # of another identity's images
    path = write_records(tmp_path / "train.rec", found)
    assert list_folders(path) == ["0", "10", "20"] and "do not fit its images" in caplog.text
    (tmp_path / "train.identities.json").write_text('["ann"]')
    assert find_renderings(path).identities == ["10", "20", "ann"]
    (tmp_path / "train.identities.json").write_text('["../ann"]')
    with pytest.raises(UserError) as error:
        find_renderings(path)
    one_line(error, "train.identities.json", "no list of names")


@pytest.mark.parametrize("damage, part_of_message", [
    (lambda place: (place / "train.rec").write_bytes(b"\0" * 4 + (place / "train.rec").read_bytes()[4:]), "record 0"),
    (lambda place: os.truncate(place / "train.rec", (place / "train.rec").stat().st_size - 40), "cut short"),
    (lambda place: os.truncate(place / "train.rec", 9), "cut short"),
    (lambda place: (place / "train.idx").write_text("0\t0\n1\t44\n"), "is of another file"),
    (lambda place: (place / "train.idx").unlink(), "train.idx"),
    (lambda place: (place / "train.idx").write_text("0\t0\nwords\n"), "train.idx: no index"),
    (lambda place: (place / "train.idx").write_text("0\t0\n0\t0\n"), "there twice"),
    (lambda place: (place / "train.idx").write_text(""), "train.idx: no index"),
    (lambda place: write_records(place / "train.rec", {1: part(0, header(-1, 1) + b"x")}), "the number of no identity"),
    (lambda place: write_records(place / "train.rec", {1: part(0, header(float("nan"), 1))}), "of no identity"),
    (lambda place: write_records(place / "train.rec", {1: part(0, b"short")}), "record 1 is damaged"),
    (lambda place: write_records(place / "train.rec", {0: part(0, header([1, 1], 0))}), "no images in it"),
    *((lambda place, labels=labels: write_records(place / "train.rec", {0: part(0, header(labels, 0)),
                                                                        1: part(0, header(1, 1) + b"x")}),
       "record 0 tells of") for labels in ([1e30, 1e30], [float("nan")] * 2, [2, 1], [0, 2], [9, 10]))])
def test_corrupt_records_are_one_line(tmp_path, people, damage, part_of_message):
    write_records(tmp_path / "train.rec", identity_records(people))
    damage(tmp_path)
    with pytest.raises(UserError) as error:
        find_renderings(str(tmp_path))
    one_line(error, str(tmp_path), part_of_message)


def test_a_set_is_named_by_its_file_or_its_folder(tmp_path, people):
    path = write_records(tmp_path / "data" / "faces" / "train.rec", identity_records(people))
    data = str(tmp_path / "data")
    for name in ("faces", "faces/train.rec", path):
        assert data_folder("--real", data, name) == path
    assert data_folder("--real", str(tmp_path), "data", "faces") == path          # --split
    write_records(tmp_path / "data" / "faces" / "other.rec", {})
    assert data_folder("--real", data, "faces") == path
    os.rename(path, tmp_path / "data" / "faces" / "third.rec")
    with pytest.raises(UserError) as error:
        data_folder("--real", data, "faces")
    one_line(error, "several .rec files", "name one")


# Reading

def test_photos_in_files_of_their_own_are_asked_for(tmp_path, people):
    write_records(tmp_path / "train.rec", identity_records(people))
    with pytest.raises(UserError) as error:
        find_photos(str(tmp_path), loose="--input")
    one_line(error, f"--input {tmp_path}: a .rec file", "evaluate.py export")


def test_images_are_read_and_checked_as_files_are(tmp_path, people, caplog):
    people[2][1] = b"no image"
    path = write_records(tmp_path / "train.rec", identity_records(people))
    found = check_images(find_renderings(path), 16, 2)
    assert len(found.names) == 5 and "1 broken images" in caplog.text and "2/00005.jpg" in caplog.text
    batches = list(read_in_order(found, Reading(16, 2, 2)))
    write(str(tmp_path), "one.png", draw_face(1, 1, 16, photo=True))
    assert sum(len(indices) for indices, _ in batches) == 5
    assert (load_image(f"{path}/1/00003.jpg", 16) == load_image(str(tmp_path / "one.png"), 16)).all()       # a png
    assert count_readable([found]) == 5
    os.rename(path, tmp_path / "away.rec")
    assert count_readable([found]) == 0                 # out of reach, and not broken
    with pytest.raises(BrokenImage):
        read_picture(f"{path}/1/00003.jpg")


def test_a_damaged_record_is_a_broken_image(tmp_path, people):
    path = write_records(tmp_path / "train.rec", identity_records(people))
    names = find_renderings(path).names
    content = bytearray((tmp_path / "train.rec").read_bytes())
    offset = int((tmp_path / "train.idx").read_text().split()[5])
    content[offset] ^= 1
    (tmp_path / "train.rec").write_bytes(content)
    with pytest.raises((BrokenImage, UserError), match="begin"):
        read_picture(f"{path}/{names[1]}")
    with pytest.raises(BrokenImage):
        read_picture(f"{path}/0/99999.jpg")


def test_threads_and_forked_processes_read_at_once(tmp_path):
    """Nobody moves anybody's place in the file."""
    images = {number: part(0, header(0, number) + bytes([number]) * 5000) for number in range(40)}
    path = write_records(tmp_path / "a.rec", images)
    wrong = []

    def work():
        for number in list(range(40)) * 5:
            if open_image(f"{path}/0/{number:05}.jpg").read() != bytes([number]) * 5000:
                wrong.append(number)

    work()
    child = os.fork()
    if not child:
        work()
        os._exit(len(wrong) > 0)
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and os.waitpid(child, 0)[1] == 0


def test_a_file_that_is_replaced_is_opened_anew(tmp_path):
    path = write_records(tmp_path / "a.rec", {1: part(0, header(0, 1) + b"before")})
    name = f"{path}/0/00001.jpg"
    record = sources.SourceRecord(str(tmp_path), lambda image: [name])
    record.add("made.jpg")
    assert open_image(name).read() == b"before" and not record.changed(["made.jpg"])
    write_records(path, {0: part(0, header(0, 0)), 1: part(0, header(0, 1) + b"after")})
    assert open_image(name).read() == b"after" and record.changed(["made.jpg"]) == {"made.jpg"}


def test_listing_is_cheap(tmp_path):
    """Where records of identities are there, two images of each are looked at, and no more."""
    path = write_records(tmp_path / "a.rec", identity_records({label: [b"x"] * 50 for label in range(20)}))
    looked, look = [], records.RecordFile.look
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records.RecordFile, "look", lambda file, number: looked.append(number) or look(file, number))
        assert len(find_renderings(path).names) == 1000
    assert len(looked) <= 1 + 3 * 20


# Pairs

SAME = [True, False] * 5


def python2(images, same):
    """A pickle as Python 2 writes it: words are bytes, protocol 2."""
    words = b"".join(b"T" + struct.pack("<I", len(image)) + image + b"q" + bytes([place + 1])
                     for place, image in enumerate(images))
    flags = b"".join(b"\x88" if each else b"\x89" for each in same)
    return b"\x80\x02](" + words + b"e](" + flags + b"e\x86."


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("kind", ["bytes", "arrays", "flags", "tuples", "bytearrays"])
def test_pairs_are_read(tmp_path, protocol, kind):
    images, same = [bytes([number, 0, 255]) * 9 for number in range(20)], SAME
    told = {"bytes": (images, same), "tuples": (tuple(images), tuple(same)),
            "arrays": ([np.frombuffer(image, np.uint8).copy() for image in images], np.array(same)),
            "flags": (images, [np.bool_(each) for each in same]),
            "bytearrays": ([bytearray(image) for image in images], np.array(same, np.int64))}[kind]
    if kind == "bytearrays" and protocol < 5:
        told = images, np.array(same, np.int64)
    found = pair_sets.read(write_bin(tmp_path / "a.bin", *told, protocol))
    assert found.images == images and found.same.tolist() == same


def test_pairs_of_python2_are_read(tmp_path):
    images = [bytes(range(256)) * 3] * 20
    (tmp_path / "a.bin").write_bytes(python2(images, SAME))
    found = pair_sets.read(str(tmp_path / "a.bin"))
    assert found.images == images and found.same.tolist() == SAME
    assert open_image(f"{tmp_path}/a.bin/00003.jpg").read() == images[3]
    with pytest.raises(OSError):
        open_image(f"{tmp_path}/a.bin/00020.jpg")


def test_arrays_of_pixels_are_pictures(tmp_path):
    pixels = draw_face(1, 1, 16, photo=True)
    path = write_bin(tmp_path / "a.bin", [pixels] * 20, SAME)
    assert (load_image(f"{path}/00007.jpg", 16) == pixels).all()


class Call:
    """Pickles as a call of `function` with `arguments`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


HOSTILE = {
    "system": lambda mark: pickle.dumps(([Call(os.system, f"touch {mark}")], [True])),
    "system 0": lambda mark: pickle.dumps(([Call(os.system, f"touch {mark}")], [True]), 0),
    "eval": lambda mark: pickle.dumps(Call(eval, f"open({mark!r}, 'w')")),
    "open": lambda mark: pickle.dumps(Call(open, mark, "w")),
    "numpy's loader": lambda mark: b"\x80\x04\x8c\x05numpy\x8c\x04load\x93\x8c\x04file\x85R.",
    "a dotted name": lambda mark: b"\x80\x04\x8c\x05numpy\x8c\x0dndarray.dumps\x93)R.",
    "a class": lambda mark: b"\x80\x02cos\nPathLike\n)\x81.",
    "a changed function": lambda mark: b"cnumpy\nndarray\n}b.",
    "a set state": lambda mark: b"\x80\x02cnumpy\nndarray\n(K\x01tb.",
    "a persistent id": lambda mark: b"\x80\x02U\x01aQ.",
    "an extension": lambda mark: b"\x80\x02\x82\x01.",
    "a far memo": lambda mark: b"\x80\x02K\x01r\xff\xff\xff\x7f.",
    "a far memo in text": lambda mark: b"I1\np999999999999\n.",
    "a long number": lambda mark: b"I" + b"9" * 100_000 + b"\n.",
    "a long word": lambda mark: b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7fx.",
    "nested lists": lambda mark: b"(" * 20_000 + b"l" * 20_000 + b".",
    "nested tuples": lambda mark: b")" + b"\x85" * 50_000 + b".",
    "a list in itself": lambda mark: b"\x80\x02]q\x00h\x00a.",
    "an array of objects": lambda mark: pickle.dumps(([np.array([Call(os.system, f"touch {mark}")], object)], [True])),
    "an array of words": lambda mark: pickle.dumps(([np.array(["a"])], [True])),
    "an array of another size": lambda mark: pickle.dumps(
        ([np.zeros(1000, np.uint8)], [True])).replace(b"M\xe8\x03", b"M\xff\xff"),
    "a dict": lambda mark: pickle.dumps({"a": 1}), "a number": lambda mark: pickle.dumps(7),
    "no pickle": lambda mark: b"\x89PNG words", "nothing": lambda mark: b"",
    "cut short": lambda mark: pickle.dumps(([b"a" * 100] * 2, [True]))[:-50],
    "one value": lambda mark: pickle.dumps(([b"a"] * 2,)), "numbers": lambda mark: pickle.dumps(([1] * 2, [True])),
    "words": lambda mark: pickle.dumps((["a"] * 2, [True])), "a float": lambda mark: pickle.dumps(([b"a"] * 2, [.5])),
    "an odd number": lambda mark: pickle.dumps(([b"a"] * 19, SAME)),
    "too few": lambda mark: pickle.dumps(([b"a"] * 18, SAME)), "none": lambda mark: pickle.dumps(([], []))}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_pairs_are_one_line_and_run_nothing(tmp_path, kind):
    mark = tmp_path / "mark"
    (tmp_path / "a.bin").write_bytes(HOSTILE[kind](str(mark)))
    with pytest.raises(UserError) as error:
        pair_sets.read(str(tmp_path / "a.bin"))
    one_line(error, "a.bin", "odd number" if kind == "an odd number" else "")
    assert not mark.exists() and len(str(error.value)) < 400


def test_fuzzed_pairs_are_one_line(tmp_path):
    """Whatever the bytes, it is pairs or a UserError."""
    whole = pickle.dumps(([np.frombuffer(b"image", np.uint8)] * 4 + [b"bytes"] * 16, SAME), 4)
    chance = random.Random(3)
    refused = 0
    for _ in range(200):
        content = bytearray(whole)
        for _ in range(chance.randrange(1, 4)):
            content[chance.randrange(len(content))] = chance.randrange(256)
        (tmp_path / "a.bin").write_bytes(content)
        try:
            assert len(pair_sets.read(str(tmp_path / "a.bin")).images) % 2 == 0
        except UserError as error:
            refused += "\n" not in str(error)
    assert refused > 80
