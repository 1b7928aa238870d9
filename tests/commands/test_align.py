"""align.py by its command line: crops, their table, re-runs, kills, pairs, preview, bad input; and its rules."""
import csv
import importlib.util
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import align
from cli.options import parse
from conftest import tree
from datasets import alignment_table, crop
from datasets.image_sets import find_pairs, find_photos
from datasets.images import FORMATS, load_image, read_picture, save_image, stem, suffix
from morphable import drawn_photos, latents
from morphable.scene import Framing, set_scene
from tool import alive, builtin_face_model, finish, one_line, Tool, wait_for
from utils import UserError

TOOL = Tool("align.py")
start, run, succeed, refused = TOOL.start, TOOL.run, TOOL.succeed, TOOL.refused
SIZE, MARGIN, PHOTOS = 160, 80, 6           # of the drawn photos: half of each is around the head
MANY = 40
ROTATED, TAG = 6, 274                       # EXIF: turn by a quarter, clockwise; the tag's number
slow = pytest.mark.slow
detects = [slow, pytest.mark.skipif(any(importlib.util.find_spec(name) is None for name in ("mtcnn", "joblib", "lz4")),
                                    reason="needs requirements-tools.txt")]


def marked(function):
    """Mark a test that runs the detector."""
    for mark in detects:
        function = mark(function)
    return function


# Files

def table(output):
    """Read the table of a folder -> {name of a photo: row}."""
    with open(output / align.TABLE, newline="") as file:
        return {row["source"]: row for row in csv.DictReader(file)}


def options_of(*words):
    """Parse a command line that names folders and has these words too -> options."""
    return parse(align.COMMAND, ["--input", "a", "--output", "b", *words]).options


def numbers(row, names=align.BOX):
    """Read the columns `names` of a row as numbers."""
    return np.array([float(row[name]) for name in names])


def crops(output):
    """Collect the names of the crops in a folder."""
    return {str(path.relative_to(output)) for path in output.rglob("*") if suffix(path.name) in FORMATS}


@pytest.fixture(scope="module")
def pictures():
    """Draw PHOTOS pairs of a photo and its rendering, uint8 [SIZE, SIZE, 3], of one person each."""
    framing = Framing(SIZE, MARGIN, supersample=1)
    scene = set_scene(builtin_face_model(), framing, latents.builtin_statistics())
    return [drawn_photos.draw_pair(scene, identity, 1) for identity in range(1, PHOTOS + 1)]


def write_formats(folder, photo):
    """Write one photo to files of all formats and modes."""
    folder.mkdir()
    picture = Image.fromarray(photo)
    picture.save(folder / "plain.png")
    picture.save(folder / "webp.webp", quality=95)
    picture.save(folder / "bmp.bmp")
    picture.convert("RGBA").save(folder / "alpha.png")
    picture.convert("L").save(folder / "grey.jpg", quality=95)
    picture.convert("CMYK").save(folder / "cmyk.jpeg", quality=95)
    Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257).save(folder / "deep.png")
    exif = Image.Exif()
    exif[TAG] = ROTATED
    picture.transpose(Image.Transpose.ROTATE_90).save(folder / "turned.jpg", quality=95, exif=exif)
    picture.resize((4 * SIZE, 4 * SIZE), Image.Resampling.BICUBIC).save(folder / "large.png")


@pytest.fixture(scope="module")
def photos(pictures, tmp_path_factory):
    """Write photos: of people, flat, of all formats, broken, without a face, two of one name -> folder."""
    folder = tmp_path_factory.mktemp("photos")
    for person, (photo, _) in enumerate(pictures[1:4], 1):
        (folder / f"{person:05}").mkdir()
        save_image(photo, str(folder / f"{person:05}" / "0001.jpg"))
    write_formats(folder / "formats", pictures[0][0])
    save_image(pictures[4][0], str(folder / "flat.jpg"))
    save_image(pictures[5][0], str(folder / "flat.png"))
    (folder / "broken.jpg").write_bytes((folder / "flat.jpg").read_bytes()[:2000])
    save_image(np.full([100, 140, 3], 128, np.uint8), str(folder / "nobody.png"))
    save_image(np.zeros([1, 1, 3], np.uint8), str(folder / "dot.png"))
    return folder


@pytest.fixture(scope="module")
def aligned(photos, tmp_path_factory):
    """Crop the `photos`, with a preview beside the crops -> (folder of the crops, Result)."""
    output = tmp_path_factory.mktemp("aligned") / "real"
    result = succeed("--input", photos, "--output", output, "--workers", 1, "--preview", output.parent / "sheet.png")
    return output, result


# The rules

def test_the_face_that_a_picture_is_of():
    """FaceNet's rule: area - 2 x squared distance of the centre to the picture's, here 50, 50."""
    faces = np.array([[40, 40, 60, 60], [0, 0, 40, 40], [70, 30, 100, 60]])     # 400 - 0, 1600 - 3600, 900 - 2500
    assert crop.choose_box(faces, 100, 100) == 0
    faces[1] = 10, 10, 70, 70                                                   # 3600 - 400
    assert crop.choose_box(faces, 100, 100) == 1


def test_a_square_grows_the_shorter_side_around_its_centre():
    assert crop.square_box((10, 20, 30, 60)) == (0, 20, 40, 60)
    assert crop.square_box((10, 20, 50, 40)) == (10, 10, 50, 50)


@pytest.mark.parametrize("squares, expected", [(False, (40, 30, 80, 110)), (True, (20, 30, 100, 110))])
def test_a_margin_lies_around_the_box(squares, expected):
    """Half of a crop is margin here, so that the box doubles."""
    options = options_of("--size", "100", "--margin", "50", *["--square"] * squares)
    assert align.crop_box(options, (50, 50, 70, 90), 200, 200) == expected
    assert align.crop_box(options, (50, 50, 70, 90), 70, 90) == (*expected[:2], 70, 90)     # clipped


def test_the_margin_is_in_proportion():
    assert options_of().margin == 26
    assert options_of("--size", "182").margin == 44         # FaceNet's


def test_a_line_that_a_kill_cut_off_is_dropped(tmp_path):
    options = options_of()
    rows = {name: align.make_row(options, name, align.CROPPED, np.arange(15)) for name in ("a,b.jpg", 'c"\n.png')}
    path = str(tmp_path / "table.csv")
    align.save_table(path, rows)
    assert alignment_table.load_table(path) == rows and rows["a,b.jpg"]["left_eye_y"] == "10.00"
    whole = Path(path).read_bytes()
    for cut in range(1, len(align.encode_rows([rows['c"\n.png']]))):
        Path(path).write_bytes(whole[:-cut])
        assert alignment_table.load_table(path) == {"a,b.jpg": rows["a,b.jpg"]}
    assert alignment_table.load_table(str(tmp_path / "none.csv")) == {}


def test_a_table_of_an_older_version_is_gone_on_with(tmp_path):
    """It does not tell how large the photos are."""
    row = align.make_row(options_of(), "a.jpg", align.CROPPED, np.arange(15), (640, 480))
    assert [row["width"], row["height"]] == ["640", "480"]
    fields = alignment_table.OLD_FIELDS
    old = [",".join(values) for values in (fields, [row[name] for name in fields])]
    (tmp_path / "table.csv").write_text("\n".join(old) + "\n")
    assert alignment_table.load_table(str(tmp_path / "table.csv")) == {"a.jpg": row | {"width": "", "height": ""}}


# Crops

@marked
def test_crops_mirror_the_folder(photos, aligned):
    output, result = aligned
    formats = {f"formats/{path.stem}.jpg" for path in (photos / "formats").iterdir()}
    assert crops(output) == formats | {f"0000{person}/0001.jpg" for person in (1, 2, 3)} | {"flat.jpg"}
    assert {Image.open(output / name).size for name in crops(output)} == {(108, 108)}
    assert "13 cropped" in result.err and "2 no face" in result.err and "4 photos without a crop" in result.err


@marked
def test_the_table_lists_every_photo(photos, aligned):
    rows = table(aligned[0])
    assert list(rows) == find_photos(str(photos)).names
    without = {name: row["status"].split(":")[0] for name, row in rows.items() if row["status"] != "cropped"}
    assert without == {"flat.png": "same name", "broken.jpg": "unreadable", "nobody.png": "no face",
                       "dot.png": "no face"}
    assert rows["flat.png"]["status"] == "same name: flat.jpg" and rows["flat.png"]["left"] == ""
    assert {row["crop"] for row in rows.values()} == crops(aligned[0]) | {""}
    for row in (row for row in rows.values() if row["crop"]):
        left, top, right, bottom = numbers(row)
        points = numbers(row, align.LANDMARKS).reshape(5, 2)
        left_eye, right_eye, nose, *mouth = points
        assert left_eye[0] < right_eye[0] and mouth[0][0] < mouth[1][0] and left_eye[1] < nose[1] < mouth[0][1]
        assert (points > [left, top]).all() and (points < [right, bottom]).all() and float(row["confidence"]) > .8


@marked
def test_every_format_shows_the_same_face(photos, aligned):
    rows = {name: row for name, row in table(aligned[0]).items() if name.startswith("formats/")}
    plain, reference = numbers(rows["formats/plain.png"]), load_image(str(aligned[0] / "formats/plain.jpg"), 108)
    for name, row in rows.items():
        scale = 4 if "large" in name else 1
        assert np.abs(numbers(row) / scale - plain).max() < 6, name
        image = load_image(str(aligned[0] / row["crop"]), 108).astype(float)
        assert np.corrcoef(image.mean(axis=2).ravel(), reference.mean(axis=2).ravel())[0, 1] > .8, name


@marked
def test_a_crop_is_the_box_with_its_margin(photos, aligned):
    row = table(aligned[0])["formats/plain.png"]
    box = crop.clip_box(crop.add_margin(numbers(row), 108, 26), SIZE, SIZE)
    expected = crop.cut_out(read_picture(str(photos / "formats/plain.png")), box, 108)
    found = load_image(str(aligned[0] / "formats/plain.jpg"), 108)
    assert np.abs(found.astype(float) - expected).mean() < 1.5


@marked
def test_preview(aligned):
    """A yellow box in every cell with a crop, a red frame around the four others."""
    sheet = np.asarray(Image.open(aligned[0].parent / "sheet.png")).astype(int)
    cell, names = align.CELL, list(table(aligned[0]))
    assert sheet.shape == (3 * (cell + 2) - 2, 8 * (cell + 2) - 2, 3)
    for number, row in enumerate(table(aligned[0]).values()):
        y, x = (number // 8) * (cell + 2), (number % 8) * (cell + 2)
        shown = sheet[y:y + cell, x:x + cell]
        assert (shown[0, :] == align.RED).all() == (row["status"] != "cropped"), names[number]
        assert ((shown == align.YELLOW).all(axis=2).sum() > 100) == (row["status"] == "cropped"), names[number]


@marked
def test_a_second_run_does_what_is_new(photos, aligned, tmp_path):
    """A repaired photo, a new photo and a lost crop are done. Other crops stay, and don't start the detector."""
    given, output = tmp_path / "photos", tmp_path / "real"
    shutil.copytree(photos, given)
    shutil.copytree(aligned[0], output)
    os.remove(given / "broken.jpg")
    before = tree(output)
    result = run("--input", given, "--output", output, env=without_mtcnn(tmp_path))
    after = tree(output)
    assert result.status == 0 and table(output) == table(aligned[0]), result.err
    assert {name for name in before | after if before.get(name) != after.get(name)} == {align.TABLE}    # its order
    times = {path: path.stat().st_mtime_ns for path in output.rglob("*.jpg")}
    shutil.copy(given / "00001/0001.jpg", given / "broken.jpg")
    shutil.copy(given / "00002/0001.jpg", given / "00001/0002.jpg")
    os.remove(output / "flat.jpg")
    result = succeed("--input", given, "--output", output, "--workers", 1)
    assert "3 of them new" in result.err
    assert crops(output) == crops(aligned[0]) | {"broken.jpg", "00001/0002.jpg"}
    assert all(path.stat().st_mtime_ns == when for path, when in times.items() if path.name != "flat.jpg")
    assert (output / "flat.jpg").read_bytes() == before["flat.jpg"]
    assert list(table(output)) == find_photos(str(given)).names


# Pairs

@marked
def test_pairs(pictures, tmp_path):
    """Photo and rendering get the photo's box. Neither is written where one of them is missing. Crops are square."""
    given, renderings, output = (tmp_path / name for name in ("photos", "renderings", "paired"))
    given.mkdir(), renderings.mkdir()
    for number, (photo, rendering) in enumerate(pictures[:4], 1):
        save_image(photo, str(given / f"{number}.jpg"))
        save_image(rendering, str(renderings / f"{number}.png"))
    os.remove(renderings / "2.png")
    save_image(pictures[2][1][:90], str(renderings / "3.png"))
    succeed("--input", given, "--pairs", renderings, "--output", output, "--size", 64, "--format", "png", "--square",
            "--workers", 2)
    assert crops(output) == {"1.png", "3dmm/1.png", "4.png", "3dmm/4.png"}
    rows = table(output)
    assert [row["status"].split(":")[0] for row in rows.values()] == ["cropped", "no rendering",
                                                                     "rendering of another size", "cropped"]
    box = crop.square_box(crop.add_margin(numbers(rows["1.jpg"]), 64, 15))
    for folder, image in (("", given / "1.jpg"), ("3dmm", renderings / "1.png")):
        expected = crop.cut_out(read_picture(str(image)), crop.clip_box(box, SIZE, SIZE), 64)
        assert np.abs(load_image(str(output / folder / "1.png"), 64).astype(float) - expected).max() <= 2
    assert len(find_pairs(str(output)).photos.names) == 2


# What is cropped again

@pytest.fixture
def cropping(tmp_path, monkeypatch):
    """A function that runs align.py in this process on `photos`, with a detector that takes every photo for a face.

    It returns the names of the photos that were cropped. `photos` has three photos; "nobody" in the name is no face.
    """
    worked = []

    def crop_here(function, options, items, keep, pool):
        for name, _ in items:
            worked.append(name)
            if "nobody" in name:
                keep(align.make_row(options, name, align.NO_FACE))
                continue
            image = load_image(str(tmp_path / options.input / name), options.size)
            path = tmp_path / options.output / f"{stem(name)}.{options.format}"
            path.parent.mkdir(parents=True, exist_ok=True)
            save_image(image, str(path), quality=100)
            keep(align.make_row(options, name, align.CROPPED, np.zeros(15)))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(align.processes, "process_all", crop_here)
    for number, name in enumerate(("a/1.jpg", "a/2.jpg", "b/1.png", "nobody.jpg")):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        save_image(np.full([20, 20, 3], 50 * number, np.uint8), f"photos/{name}")

    def align_here(*more):
        worked.clear()
        align.main(["--input", "photos", "--output", "out", "--size", "16", *more])
        return sorted(worked)

    assert align_here() == ["a/1.jpg", "a/2.jpg", "b/1.png", "nobody.jpg"] and align_here() == []
    return align_here


def repaint(path, value):
    save_image(np.full([20, 20, 3], value, np.uint8), path)


@pytest.mark.parametrize("act, again", [
    (lambda: repaint("photos/a/2.jpg", 200), ["a/2.jpg"]),
    (lambda: repaint("photos/nobody.jpg", 200), ["nobody.jpg"]),
    (lambda: os.utime("photos/a/1.jpg", (5, 5)), []),
    (lambda: os.remove("out/a/1.jpg"), ["a/1.jpg"]),
    (lambda: open("out/a/1.jpg", "wb").close(), ["a/1.jpg"]),
    (lambda: os.truncate("out/b/1.jpg", 300), ["b/1.png"]),
    (lambda: os.remove("out/.sources.jsonl"), ["nobody.jpg"]),
    (lambda: repaint("photos/new.jpg", 9), ["new.jpg"])])
def test_what_was_replaced_or_lost_is_cropped_again(cropping, act, again):
    act()
    assert cropping() == again and cropping() == []


def test_another_set_of_the_same_names_is_refused(cropping):
    for number, name in enumerate(("a/1.jpg", "a/2.jpg", "b/1.png")):
        repaint(f"photos/{name}", 200 + number)
    before = {path: path.stat().st_mtime_ns for path in Path("out").rglob("*")}
    with pytest.raises(UserError) as error:
        cropping()
    one_line(error, "--input photos: other photos of the same names", "--output out", "name another folder")
    assert before == {path: path.stat().st_mtime_ns for path in Path("out").rglob("*")}


def test_a_photo_of_another_input_keeps_its_crop(cropping, caplog):
    """A second folder may be cropped to the same output. A crop of the first is not overwritten."""
    caplog.set_level("INFO")
    Path("photos").rename("first")
    Path("photos/a").mkdir(parents=True)
    repaint("photos/a/1.png", 99)
    repaint("photos/a/7.png", 99)
    before = Path("out/a/1.jpg").read_bytes()
    assert cropping() == ["a/7.png"] and Path("out/a/1.jpg").read_bytes() == before
    rows = alignment_table.load_table("out/alignment.csv")
    assert rows["a/1.png"]["status"] == "same name: a/1.jpg" and rows["a/1.jpg"]["status"] == "cropped"
    assert "out: crops of 3 photos that --input does not have are there too, and are kept, such as" in caplog.text


# Ends before the end

@marked
def test_kill_interrupt_and_run_again(pictures, tmp_path):
    """First it is killed, which ends its workers. Then all processes get Ctrl-C. Then the first gets SIGTERM."""
    given, output = tmp_path / "photos", tmp_path / "real"
    given.mkdir()
    save_image(pictures[0][0], str(given / "1.jpg"))
    for number in range(2, MANY + 1):
        os.link(given / "1.jpg", given / f"{number}.jpg")
    command = "--input", given, "--output", output, "--workers", 1
    left = 0

    def begin():
        """Start the command, and wait until it has written a few crops."""
        process = start(*command)
        wait_for(lambda: len(crops(output)) > left + 2 or process.poll() is not None)
        return process

    process = begin()
    process.kill()
    wait_for(lambda: not alive(process.pid))
    process.communicate()
    left = len(crops(output))
    assert 0 < left < MANY
    done = [output / row["crop"] for row in table(output).values()]
    kept = {path: path.stat().st_mtime_ns for path in done}
    assert len(kept) >= left - 3            # at most those whose rows were under way
    for number, send, status in ((signal.SIGINT, os.killpg, 130), (signal.SIGTERM, os.kill, 143)):
        process = begin()
        send(process.pid, number)
        result = finish(process)
        words = [line for line in result.err.splitlines() if line.startswith("align.py")]
        assert result.status == status and len(words) == 1 and "interrupted" in words[0], result.err
        assert "Traceback" not in result.err
        wait_for(lambda group=process.pid: not alive(group))        # a helper of multiprocessing needs a moment
        assert {row["crop"] for row in table(output).values()} == crops(output)
        left = len(crops(output))
        assert left < MANY
    succeed(*command)
    assert len(crops(output)) == len(table(output)) == MANY and not list(output.glob(".tmp-*"))
    assert {path.stat().st_mtime_ns == when for path, when in kept.items()} == {True}


# Bad input

def without_mtcnn(folder):
    """Make an environment in which the package mtcnn is missing."""
    (folder / "mtcnn.py").write_text("raise ImportError(\"No module named 'mtcnn'\")")
    return {**os.environ, "PYTHONPATH": str(folder)}


@slow
def test_a_missing_package_is_told_with_its_remedy(tmp_path):
    (tmp_path / "photos").mkdir()
    save_image(np.zeros([60, 60, 3], np.uint8), str(tmp_path / "photos/a.png"))
    refused(run("--input", tmp_path / "photos", "--output", tmp_path / "out", env=without_mtcnn(tmp_path)),
            "'mtcnn'", "pip install -r requirements-tools.txt")


@pytest.fixture
def folders(tmp_path):
    """Make a folder with a photo in `photos`, no image in `empty`, and a file `file`."""
    for name in ("photos/person", "empty"):
        (tmp_path / name).mkdir(parents=True)
    save_image(np.zeros([60, 60, 3], np.uint8), str(tmp_path / "photos/person/a.png"))
    (tmp_path / "file").write_text("")
    return tmp_path


@slow
@pytest.mark.parametrize("given, named", [
    (dict(input="none"), ["--input none", "not there"]),
    (dict(input="empty"), ["empty", "no images"]),
    (dict(output="file"), ["--output", "can't write"]),
    (dict(output="photos/crops"), ["--output", "--input"]),
    (dict(output="."), ["--output", "--input"]),
    (dict(pairs="empty"), ["--input", "no images directly"]),
    (dict(input="photos/person", pairs="empty"), ["--pairs", "no images directly"]),
    (dict(input="photos/person", pairs="out/3dmm"), ["--output", "--pairs"]),
    (dict(preview="out/sheet.png"), ["--preview", "taken for a photo"]),
    (dict(pairs="photos"), ["--pairs", "another folder than --input"]),
    (dict(preview="photos/sheet.png"), ["--preview", "taken for a photo"]),
    (dict(preview="sheet.txt"), ["--preview", ".png"]),
    (dict(size="8"), ["--size", "8: must be", "from 16 to 4096"]),
    (dict(size="x"), ["--size", "x: must be a whole number"]),
    (dict(margin="108"), ["--margin", "leaves nothing"]),
    (dict(workers="0"), ["--workers"]),
    (dict(sise="64"), ["--sise"])])
def test_bad_input_is_told_in_one_line(folders, given, named):
    given = {"input": "photos", "output": "out", **given}
    words = [word for option, value in given.items() for word in (f"--{option}", value)]
    refused(run(*words, cwd=folders), *named)


@slow
def test_crops_of_other_settings_or_a_foreign_table_are_not_mixed(folders):
    (folders / "out").mkdir()
    (folders / "out" / align.TABLE).write_text("name,value\na,1\n")
    command = "--input", folders / "photos", "--output", folders / "out"
    refused(run(*command), "out", "did not begin")
    (folders / "out" / "settings.json").write_text(
        '{"command": "align.py", "size": 108, "margin": 26, "square": false, "format": "jpg", "detection_size": 500, '
        '"pairs": false}')
    refused(run(*command), align.TABLE, "not a table")
    refused(run(*command, "--size", 64), "size 108 there, 64 given", "margin")
    refused(run(*command, "--preview", folders / "out" / "sheet.png"), "taken for a photo")
