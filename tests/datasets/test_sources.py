"""datasets/sources: what the images of a folder were made from, and which of them have to be made again."""
import json
import os
import shutil

import pytest

from datasets.sources import RECORD, SourceRecord
from utils import Interrupted, UserError

NAMES = ["00001/1.png", "00001/2.png", "b.png", 'odd, "name"\nof\udcff two lines.png']


@pytest.fixture
def place(tmp_path):
    """A folder `in` with the sources of NAMES, a folder `out` with an image of each, made and recorded."""
    for folder in ("in", "out"):
        for name in NAMES:
            path = tmp_path / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(f"{folder} {name}".encode(errors="surrogateescape"))
    record = record_of(tmp_path)
    with record.of_run(NAMES):
        for name in NAMES:
            record.add(name)
    return tmp_path


def record_of(place):
    return SourceRecord(str(place / "out"), lambda name: [str(place / "in" / name)])


def rewrite(path, content, after=10):
    """Give a file another content, `after` seconds later than its time now."""
    seconds = path.stat().st_mtime + after
    path.write_bytes(content)
    os.utime(path, (seconds, seconds))


def test_nothing_has_changed(place):
    record = record_of(place)
    assert record.changed(NAMES) == set() and sorted(record.names) == sorted(NAMES)
    assert not record.are_others(set(), set(NAMES))


@pytest.mark.parametrize("content, after", [
    (b"more than was there before", 10), (b"", 10), (b"IN b.png", 10), (b"IN b.png", -1000), (b"longer, as old", 0)])
def test_a_replaced_source_is_noticed(place, content, after):
    rewrite(place / "in" / "b.png", content, after)
    record = record_of(place)
    assert record.changed(NAMES) == {"b.png"} and not record.are_others({"b.png"}, set(NAMES))


def test_what_was_never_begun_is_somebody_s(place):
    """By the image itself, or by another file of the same name."""
    for name in ("in/new.png", "out/new.png", "out/other/more.png"):
        path = place / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"mine")
    record_of(place).check_own(NAMES)
    record_of(place).check_own([*NAMES, "more.png"])
    with pytest.raises(UserError, match=r"out/new.png: has the name of an image to make"):
        record_of(place).check_own([*NAMES, "new.png"])
    with pytest.raises(UserError, match=r"other/more.png: has the name"):
        record_of(place).check_own(["more.png"], lambda name: [str(place / folder / name) for folder in (
            "out", "out/other")])


@pytest.mark.parametrize("line", [b'["torn", "12', b"garbage\n", b'["../b", "1", "2"]\n'])
def test_a_damaged_line_is_mended_by_the_next_run(place, caplog, line):
    """Until then, nobody knows what was never begun."""
    with open(place / "out" / RECORD, "ab") as file:
        file.write(line)
    (place / "out/new.png").write_bytes(b"mine")
    record = record_of(place)
    record.check_own([*NAMES, "new.png"])
    with record.of_run([]):
        pass
    caplog.clear()
    again = record_of(place)
    assert again.changed(NAMES) == set() and not caplog.text
    with pytest.raises(UserError, match=r"new.png"):
        again.check_own([*NAMES, "new.png"])


def test_a_source_that_is_gone_counts_as_changed(place):
    (place / "in/b.png").unlink()
    assert record_of(place).changed(NAMES) == {"b.png"}


def test_a_copy_with_other_times_is_the_same(place):
    """Its content is read once: after a flush, the new times are known."""
    for name in NAMES:
        rewrite(place / "in" / name, (place / "in" / name).read_bytes(), 1000)
    record = record_of(place)
    assert record.changed(NAMES) == set()
    record.flush()
    lines = (place / "out" / RECORD).read_bytes()
    again = record_of(place)
    assert again.changed(NAMES) == set()
    again.flush()
    assert (place / "out" / RECORD).read_bytes() == lines


def test_another_set_of_sources_is_told(place):
    for name in NAMES[:2]:
        rewrite(place / "in" / name, b"other")
    record = record_of(place)
    assert not record.are_others(record.changed(NAMES), set(NAMES))             # half of them
    rewrite(place / "in" / NAMES[2], b"other")
    record = record_of(place)
    assert record.are_others(record.changed(NAMES), set(NAMES))


@pytest.mark.parametrize("newer", [True, False])
def test_without_a_record_the_times_decide(place, newer):
    """As after a kill before the record was written, or where hidden files were not copied."""
    (place / "out" / RECORD).unlink()
    rewrite(place / "in/b.png", b"in b.png", 100 if newer else -100)
    record = record_of(place)
    assert record.changed(NAMES) == ({"b.png"} if newer else set()) and not record.are_others({"b.png"}, set(NAMES))
    record.flush()
    assert sorted(record_of(place).names) == sorted(set(NAMES) - ({"b.png"} if newer else set()))


def test_what_was_begun_is_known_by_its_name(place):
    """After an error, images that were added last are perhaps not on disk: they are only known to be begun."""
    shutil.rmtree(place / "out")
    (place / "out").mkdir()
    record = record_of(place)
    with pytest.raises(KeyError), record.of_run(NAMES):
        record.add(NAMES[0])
        record.flush()
        record.add(NAMES[1])
        raise KeyError
    assert sorted(record_of(place).names) == sorted(NAMES)
    (place / "out/00001").mkdir()
    for name in NAMES[:2]:
        (place / "out" / name).touch()
        os.utime(place / "out" / name, (0, 0))                      # older than the source
    assert record_of(place).changed(NAMES) == set(NAMES[1:])


def test_what_was_added_before_a_signal_is_recorded(place):
    (place / "out" / RECORD).unlink()
    record = record_of(place)
    with pytest.raises(Interrupted), record.of_run(NAMES):
        record.add(NAMES[0])
        raise Interrupted(2)
    os.utime(place / "out" / NAMES[0], (0, 0))
    assert record_of(place).changed(NAMES[:1]) == set()


def test_a_source_that_changes_while_its_image_is_made(place):
    record = record_of(place)
    record.plan(["b.png"])
    rewrite(place / "in/b.png", b"other")
    record.add("b.png")
    record.flush()
    assert record_of(place).changed(NAMES) == {"b.png"}


@pytest.mark.parametrize("damage", [
    lambda content: content[:-10], lambda content: b"", lambda content: b"\0\xff\n" + content,
    lambda content: content + b'["', lambda content: content + b"half a li",
    lambda content: b"\n\n[1,2]\n{}\n" + content,
    lambda content: b"[" * 100000 + b"\n" + content])
def test_a_damaged_record_loses_no_image(place, damage):
    """What can't be read is not recorded; the rest is, and so is what is added afterwards."""
    path = place / "out" / RECORD
    path.write_bytes(damage(path.read_bytes()))
    record = record_of(place)
    assert record.changed(NAMES) == set()
    with record.of_run([]):
        for name in NAMES:
            record.add(name)
    assert set(record_of(place).names) == set(NAMES) and record_of(place).changed(NAMES) == set()


@pytest.mark.parametrize("name", ["/etc/passwd", "../mine.jpg", "a/../../mine.jpg", ""])
def test_a_record_names_nothing_outside_of_its_folder(place, name):
    with open(place / "out" / RECORD, "a") as file:
        file.write(json.dumps([name, "1@2", "00000000"]) + "\n")
    assert set(record_of(place).names) == set(NAMES)


def test_a_record_that_is_a_folder_is_named(place):
    (place / "out" / RECORD).unlink()
    (place / "out" / RECORD).mkdir()
    with pytest.raises(UserError, match=r"\.sources\.jsonl: can't be read \(Is a directory\); restore it"):
        record_of(place)


def test_an_image_of_two_sources(place):
    def record():
        return SourceRecord(str(place / "out"), lambda name: [str(place / "in" / name), str(place / "in/b.png")])

    first = record()
    with first.of_run(NAMES[:2]):
        for name in NAMES[:2]:
            first.add(name)
    assert record().changed(NAMES[:2]) == set()
    rewrite(place / "in/b.png", b"IN b.png")
    assert record().changed(NAMES[:2]) == set(NAMES[:2])
