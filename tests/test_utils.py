"""Files: atomic writes, run directories, params.json, listing, decoding of every kind of image, broken ones."""
import argparse
import errno
import io
import logging
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin

import utils
from datasets import image_sets
from datasets.image_sets import (
    check_images,
    data_folder,
    find_pairs,
    find_photos,
    find_renderings,
    ImageSet,
    list_images,
)
from datasets.images import BrokenImage, load_image, make_grid, read_picture, save_image, to_rgb
from drawn import draw_face, write_dataset
from engine import runs
from utils import UserError

SIZE = 16


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """The folder of a drawn data set."""
    folder = tmp_path_factory.mktemp("drawn")
    write_dataset(str(folder), size=SIZE, identities=3, per_identity=2, photos=7, pairs=3)
    return folder


def touch(folder, *names):
    """Make empty files."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return str(folder)


def ramp(size=SIZE):
    """A smooth picture: uint8 [S, S, 3]."""
    values = np.linspace(0, 255, size).astype(np.uint8)
    return np.stack(np.broadcast_arrays(values[:, None], values[None, :], values[:, None] // 2), axis=2)


def one_line(error, *parts):
    """The message of a UserError is one line that names `parts`."""
    message = str(error.value)
    assert "\n" not in message and all(part in message for part in parts), message


# Writing

def test_atomic_write_replaces_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with utils.atomic_write(str(path)) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new" and os.listdir(tmp_path) == ["a.bin"]
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask()


def umask():
    """The mask of this process."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_atomic_write_leaves_nothing_half_written(tmp_path, error):
    path = tmp_path / "a.bin"
    with pytest.raises(type(error)), utils.atomic_write(str(path)) as file:
        file.write(b"half")
        raise error
    assert os.listdir(tmp_path) == []


def test_full_disk_leaves_no_image(tmp_path, monkeypatch):
    def save(self, file, *arguments, **options):
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", save)
    with pytest.raises(OSError, match="No space"):
        save_image(ramp(), str(tmp_path / "a.jpg"))
    assert os.listdir(tmp_path) == []


def test_a_killed_write_leaves_no_image_and_is_cleaned(tmp_path):
    code = ("import os, signal, sys, utils\n"
            "with utils.atomic_write(sys.argv[1]) as file:\n"
            "    file.write(b'half'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n")
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.jpg")], cwd=utils.PROJECT)
    assert done.returncode == -signal.SIGKILL
    (left,) = os.listdir(tmp_path)
    assert left.startswith(utils.TEMPORARY) and list_images(str(tmp_path)) == []
    touch(tmp_path, "b.jpg")
    utils.clean_temporary(str(tmp_path))
    assert os.listdir(tmp_path) == ["b.jpg"]


@pytest.mark.parametrize("suffix, error", [("png", 0), ("bmp", 0), ("jpg", 6), ("JPEG", 6), ("webp", 8)])
def test_save_image_and_back(tmp_path, suffix, error):
    path = str(tmp_path / f"a.{suffix}")
    save_image(ramp(), path)
    difference = np.abs(load_image(path, SIZE).astype(int) - ramp())
    assert difference.mean() <= error / 3 and os.listdir(tmp_path) == [f"a.{suffix}"]


def test_jpegs_keep_full_colour_resolution(tmp_path):
    save_image(ramp(), str(tmp_path / "a.jpg"))
    with Image.open(tmp_path / "a.jpg") as picture:
        assert JpegImagePlugin.get_sampling(picture) == 0


def test_make_grid():
    images = np.arange(1, 6, dtype=np.uint8)[:, None, None, None] * np.ones([1, 4, 3, 3], np.uint8)
    grid = make_grid(images, columns=2, padding=1)
    assert grid.shape == (3 * 4 + 2, 2 * 3 + 1, 3) and grid.dtype == np.uint8
    assert [grid[y, x, 0] for y in (0, 5, 10) for x in (0, 4)] == [1, 2, 3, 4, 5, 0]
    assert not grid[4].any() and not grid[:, 3].any()
    assert make_grid(images, columns=5, padding=0).shape == (4, 15, 3)


# Run directory

def test_run_directories(tmp_path, monkeypatch):
    log_dir = str(tmp_path / "new" / "logs")
    assert re.fullmatch(r"a-b_gen_\d{4}_\d{6}", os.path.basename(runs.prepare_dirs(log_dir, "a/b")))
    monkeypatch.setattr(runs.time, "strftime", lambda form: "0102_030405")
    names = [os.path.relpath(runs.prepare_dirs(log_dir, "t"), log_dir) for _ in range(3)]
    assert names == ["t_gen_0102_030405", "t_gen_0102_030405_2", "t_gen_0102_030405_3"]


def test_log_dir_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    for log_dir in (tmp_path / "file", tmp_path / "file" / "logs", "/proc/logs"):
        with pytest.raises(UserError) as error:
            runs.prepare_dirs(str(log_dir), "t")
        one_line(error, f"--log_dir {log_dir}", "name a folder")


def test_find_run_by_name_and_path(tmp_path, monkeypatch):
    (tmp_path / "logs" / "run").mkdir(parents=True)
    (tmp_path / "logs" / "data").mkdir()                        # of images, say
    (tmp_path / "logs" / "run" / "params.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    for log_dir, load_path in (("logs", "run"), ("logs", "run/"), ("logs", "logs/run"), ("elsewhere", "logs/run"),
                               ("logs", str(tmp_path / "logs" / "run"))):
        assert os.path.samefile(runs.find_run(log_dir, load_path), "logs/run")
    with pytest.raises(UserError) as error:
        runs.find_run("logs", "other")
    with pytest.raises(UserError, match="--load_path data: no such run"):
        runs.find_run("logs", "data")
    one_line(error, "--load_path other", "logs")


def test_newest_run_is_that_of_the_newest_checkpoint(tmp_path):
    assert runs.newest_run(str(tmp_path / "absent")) is None
    touch(tmp_path, "empty/params.json", "a/model.ckpt-3.index", "b/model.ckpt-9.index", "c/model.ckpt-1.index.tmp")
    os.utime(tmp_path / "b" / "model.ckpt-9.index", (1, 1))
    touch(tmp_path, "a_rec_0102_030405/model.ckpt-5.index", "a_rec_0102_030405_2/model.ckpt-5.index")    # classifiers
    assert runs.newest_run(str(tmp_path)) == str(tmp_path / "a")


def test_git_branch(tmp_path, monkeypatch):
    monkeypatch.setattr(utils, "PROJECT", str(tmp_path))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert utils.git_branch() == "master" and utils.git("rev-parse", "HEAD") is None
    assert utils.git("init", "-b", "topic") is not None and utils.git_branch() == "topic"
    assert utils.git("-c", "user.name=n", "-c", "user.email=e", "commit", "--allow-empty", "-m", "m") is not None
    assert utils.git("checkout", "--detach") is not None and utils.git_branch() == "HEAD"
    monkeypatch.setenv("PATH", "")
    assert utils.git_branch() == "master"


def test_params_tell_options_versions_and_extras(tmp_path):
    config = argparse.Namespace(g_lr=8e-5, task=None)
    runs.save_config(config, str(tmp_path), identities="identities.json")
    params = runs.load_params(str(tmp_path))
    assert params["g_lr"] == 8e-5 and params["task"] is None and params["identities"] == "identities.json"
    assert set(params["versions"]) == {"python", "numpy", "pillow", "tensorflow"} and all(params["versions"].values())
    assert params["git_commit"] == utils.git("rev-parse", "HEAD") and re.match(r"\d{4}-\d\d-\d\dT", params["date"])


@pytest.mark.parametrize("text", ['{"a": ', "[1, 2]", "\udcff", ""])
def test_broken_params(tmp_path, text):
    (tmp_path / "params.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UserError) as error:
        runs.load_params(str(tmp_path))
    one_line(error, "params.json")


def test_absent_params(tmp_path):
    assert runs.load_params(str(tmp_path)) == {}


def test_log_lines_have_time_and_level():
    code = ("import logging, utils\nutils.set_up_logging('WARNING')\nutils.set_up_logging('INFO')\n"
            "logging.debug('no')\nlogging.info('yes')\n")
    done = subprocess.run([sys.executable, "-c", code], cwd=utils.PROJECT, capture_output=True, text=True)
    assert re.fullmatch(r"\[[^\]]*\d\d:\d\d:\d\d\] yes\n", done.stderr) and not done.stdout


# Finding images

def test_list_images(tmp_path):
    names = ["2.jpg", "010.JPG", "10.jpg", "b.png", "a.WebP", "img10.jpeg", "img2.bmp", "00001.jpg"]
    touch(tmp_path, *names, ".hidden.jpg", "._2.jpg", "notes.txt", "jpg", "folder.jpg/1.jpg")
    os.symlink(tmp_path / "2.jpg", tmp_path / "3.jpg")
    assert list_images(str(tmp_path)) == [
        "00001.jpg", "2.jpg", "3.jpg", "010.JPG", "10.jpg", "a.WebP", "b.png", "img10.jpeg", "img2.bmp"]
    with pytest.raises(UserError) as error:
        list_images(str(tmp_path / "absent"))
    one_line(error, "absent")


def test_data_folder(tmp_path):
    touch(tmp_path, "set/train/1.jpg")
    folder = str(tmp_path / "set")
    assert data_folder("--dataset", str(tmp_path), "set") == folder
    assert data_folder("--dataset", str(tmp_path), "set", "train") == os.path.join(folder, "train")
    assert data_folder("--dataset", str(tmp_path), "set", "test") == folder
    assert data_folder("--dataset", "elsewhere", folder) == folder
    with pytest.raises(UserError) as error:
        data_folder("--dataset", "data", "x")
    one_line(error, "--dataset: no folder data/x; ")


def test_find_photos(tmp_path):
    folder = touch(tmp_path, "3.jpg", "10/2.jpg", "10/1.png", "9/1.jpg", "9/deep/1.jpg", ".git/1.jpg")
    photos = find_photos(folder)
    assert photos == ImageSet(folder, ["3.jpg", "9/1.jpg", "10/1.png", "10/2.jpg"])
    with pytest.raises(UserError) as error:
        find_photos(touch(tmp_path / "empty", "person/notes.txt"))
    one_line(error, "empty", "no images")


def test_find_renderings(tmp_path, caplog):
    folder = touch(tmp_path, "10/1.jpg", "9/2.jpg", "9/1.jpg", "bob/1.jpg", "void/notes.txt", "stray.jpg")
    renderings = find_renderings(folder)
    assert renderings.names == ["9/1.jpg", "9/2.jpg", "10/1.jpg", "bob/1.jpg"]
    assert renderings.identities == ["9", "10", "bob"]
    assert renderings.labels.tolist() == [0, 0, 1, 2] and renderings.labels.dtype == np.int32
    assert "1 identities without images" in caplog.text and "void" in caplog.text
    with pytest.raises(UserError) as error:
        find_renderings(touch(tmp_path / "flat", "1.jpg"))
    one_line(error, "no identities", "IDENTITY/IMAGE.jpg")


def test_find_pairs(tmp_path, caplog):
    folder = touch(tmp_path, "2.jpg", "10.jpg", "a.jpg", "alone.jpg", "3dmm/10.jpg", "3dmm/2.jpg", "3dmm/a.png",
                   *(f"3dmm/single{i}.jpg" for i in range(5)))
    pairs = find_pairs(folder)
    assert pairs.photos == ImageSet(folder, ["2.jpg", "10.jpg", "a.jpg"])
    assert pairs.renderings == ImageSet(os.path.join(folder, "3dmm"), ["2.jpg", "10.jpg", "a.png"])
    (record,) = caplog.records
    assert "6 images without partner" in record.message and "alone.jpg, 3dmm/single0.jpg" in record.message
    assert "single4" not in record.message
    for bad in (("1.jpg",), ("1.jpg", "3dmm/2.jpg"), ("3dmm/1.jpg",)):
        with pytest.raises(UserError) as error:
            find_pairs(touch(tmp_path / "-".join(bad).replace("/", ""), *bad))
        one_line(error, "no pairs", "3dmm")


def test_drawn_data_set(drawn):
    assert len(find_photos(str(drawn / "real")).names) == 7
    assert find_renderings(str(drawn / "syn")).labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert len(find_pairs(str(drawn / "paired")).photos.names) == 3
    rendering, photo = (draw_face(5, 1, 32, photo) for photo in (False, True))
    assert rendering.shape == photo.shape == (32, 32, 3) and rendering.dtype == photo.dtype == np.uint8
    assert not rendering[0].any() and photo[0].all()
    assert np.array_equal(photo, draw_face(5, 1, 32, True)) and not np.array_equal(photo, draw_face(5, 2, 32, True))


# Reading images

def saved(tmp_path, picture, name, **options):
    """The path of a Pillow image, saved."""
    picture.save(tmp_path / name, **options)
    return str(tmp_path / name)


def test_plain_images_are_read_as_they_are(tmp_path):
    path = saved(tmp_path, Image.fromarray(ramp()), "a.png")
    image = load_image(path, SIZE)
    assert image.dtype == np.uint8 and np.array_equal(image, ramp())


def test_grey_images(tmp_path):
    grey = ramp()[:, :, 1]
    image = load_image(saved(tmp_path, Image.fromarray(grey), "a.png"), SIZE)
    assert np.array_equal(image, np.repeat(grey[:, :, None], 3, axis=2))
    image = load_image(saved(tmp_path, Image.fromarray(grey).point(lambda v: 255 * (v > 99), "1"), "b.png"), SIZE)
    assert np.array_equal(image[:, :, 2], 255 * (grey > 99))


def test_16_bit_images_are_scaled_not_clipped(tmp_path):
    deep = np.linspace(0, 65535, SIZE * SIZE).astype(np.uint16).reshape(SIZE, SIZE)
    image = load_image(saved(tmp_path, Image.fromarray(deep), "a.png"), SIZE)
    assert image.min() == 0 and image.max() == 255 and np.abs(image[:, :, 0] - deep / 257).max() <= .5
    assert np.array_equal(np.asarray(to_rgb(Image.fromarray(deep.astype(np.int32)))), image)  # mode I


def test_transparency_lies_over_black(tmp_path):
    alpha = np.full([SIZE, SIZE, 1], 128, np.uint8)
    alpha[:4], alpha[8:] = 0, 255
    expected = ramp() * (alpha / 255)
    image = load_image(saved(tmp_path, Image.fromarray(np.concatenate([ramp(), alpha], 2)), "a.png"), SIZE)
    assert np.abs(image - expected).max() <= 1
    grey = Image.fromarray(np.concatenate([ramp()[:, :, :1], alpha], 2))
    assert np.abs(load_image(saved(tmp_path, grey, "b.png"), SIZE)[:, :, 2] - expected[:, :, 0]).max() <= 1


def test_palettes_with_and_without_transparency(tmp_path):
    palette = Image.new("P", (SIZE, SIZE), 1)
    palette.putpalette([0, 0, 0, 10, 200, 30])
    assert (load_image(saved(tmp_path, palette, "a.png"), SIZE) == [10, 200, 30]).all()
    assert not load_image(saved(tmp_path, palette, "b.png", transparency=1), SIZE).any()


def test_cmyk_images(tmp_path):
    picture = Image.new("CMYK", (SIZE, SIZE), (0, 255, 255, 0))
    assert np.abs(load_image(saved(tmp_path, picture, "a.jpg"), SIZE).astype(int) - [255, 0, 0]).max() <= 3


def test_exif_orientation(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the picture is to be turned clockwise
    image = load_image(saved(tmp_path, Image.fromarray(ramp()), "a.png", exif=exif), SIZE)
    assert np.array_equal(image, np.rot90(ramp(), -1))
    wide = Image.fromarray(ramp()[:8])
    assert read_picture(saved(tmp_path, wide, "b.jpg", exif=exif)).size == (8, SIZE)


def test_other_sizes_are_resized_without_aliasing(tmp_path):
    stripes = np.zeros([64, 64, 3], np.uint8)
    stripes[:, ::2] = 255
    image = load_image(saved(tmp_path, Image.fromarray(stripes), "a.png"), SIZE)
    assert image.shape == (SIZE, SIZE, 3) and np.abs(image.astype(int) - 127.5).max() < 20
    assert load_image(saved(tmp_path, Image.fromarray(ramp()[:8]), "b.png"), 24).shape == (24, 24, 3)


def test_grayscale_is_luma(tmp_path):
    image = load_image(saved(tmp_path, Image.fromarray(ramp()), "a.png"), SIZE, grayscale=True)
    assert np.abs(image - (ramp() @ [.299, .587, .114])[:, :, None]).max() <= 1


def test_a_jpeg_under_another_name(tmp_path):
    assert load_image(saved(tmp_path, Image.fromarray(ramp()), "a.png", format="JPEG"), SIZE).shape == (SIZE, SIZE, 3)


def encoded(form):
    """A noisy picture's file."""
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, [64, 64, 3], dtype=np.uint8)
    Image.fromarray(noise).save(file, form)
    return file.getvalue()


BROKEN = {
    "empty.jpg": b"", "text.jpg": b"no image at all\n" * 50, "header.png": encoded("PNG")[:20],
    **{f"cut.{form.lower()}": encoded(form)[:len(encoded(form)) // 2] for form in ("JPEG", "PNG", "WEBP", "BMP")},
    "checksum.png": encoded("PNG").replace(b"IHDR", b"IHDS"),
    "flipped.png": encoded("PNG")[:3000] + b"\x00\xff\x00" + encoded("PNG")[3003:],
    "tail.jpg": encoded("JPEG")[:-200],
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_images_are_named(tmp_path, name):
    (tmp_path / name).write_bytes(BROKEN[name])
    with pytest.raises(BrokenImage, match=name):
        load_image(str(tmp_path / name), SIZE)


def test_bombs_folders_and_absent_files_are_broken(tmp_path, monkeypatch):
    bomb = saved(tmp_path, Image.fromarray(ramp()), "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    (tmp_path / "folder.jpg").mkdir()
    for path in (bomb, str(tmp_path / "folder.jpg"), str(tmp_path / "absent.jpg")):
        with pytest.raises(BrokenImage, match=os.path.basename(path)):
            load_image(path, SIZE)


def test_check_images_names_and_drops_broken_ones(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    write_dataset(str(tmp_path), size=SIZE, identities=3, per_identity=2, photos=7, pairs=3)
    photos, pairs = find_photos(str(tmp_path / "real")), find_pairs(str(tmp_path / "paired"))
    renderings = find_renderings(str(tmp_path / "syn"))
    for i in (1, 2, 4, 6):
        (tmp_path / "real" / photos.names[i]).write_bytes(b"")
    good = check_images(photos, SIZE, workers=2)
    assert good == ImageSet(photos.root, [photos.names[i] for i in (0, 3, 5)])
    (record,) = caplog.records
    assert "4 broken images" in record.message and photos.names[4] in record.message
    assert photos.names[6] not in record.message

    (tmp_path / "syn" / renderings.names[0]).write_bytes(b"")
    good = check_images(renderings, SIZE, workers=2)
    assert good.names == renderings.names[1:] and good.labels.tolist() == [0, 1, 1, 2, 2]
    (tmp_path / "syn" / renderings.names[1]).write_bytes(b"")
    good = check_images(renderings, SIZE, workers=2)
    assert good.labels.tolist() == [0, 0, 1, 1] and good.labels.dtype == np.int32
    assert good.identities == renderings.identities[1:]

    (tmp_path / "paired" / "3dmm" / pairs.renderings.names[0]).write_bytes(b"")
    (tmp_path / "paired" / pairs.photos.names[1]).write_bytes(b"")
    good = check_images(pairs, SIZE, workers=2)
    assert good.photos.names == pairs.photos.names[2:] and good.renderings.names == pairs.renderings.names[2:]
    assert "3dmm/" + pairs.renderings.names[0] in caplog.records[-1].message


def test_check_images_says_once_that_images_are_resized(drawn, caplog):
    caplog.set_level(logging.INFO)
    pairs = find_pairs(str(drawn / "paired"))
    assert check_images(pairs, SIZE, workers=1) == pairs and not caplog.records
    assert check_images(pairs, 32, workers=1) == pairs
    assert [record.levelname for record in caplog.records] == ["INFO"] and "32x32" in caplog.text


def test_check_images_of_a_large_set_takes_a_fixed_sample(drawn, monkeypatch):
    photos, looked = find_photos(str(drawn / "real")), []
    read_picture = image_sets.read_picture
    monkeypatch.setattr(image_sets, "read_picture", lambda path: looked.append(path) or read_picture(path))
    assert check_images(photos, SIZE, workers=1, limit=4) == photos
    assert len(set(looked)) == 4
    check_images(photos, SIZE, workers=1, limit=4)
    assert looked[4:] == looked[:4]


def test_no_image_that_can_be_decoded(tmp_path):
    photos = find_photos(touch(tmp_path, "1.jpg", "2.jpg"))
    with pytest.raises(UserError) as error:
        check_images(photos, SIZE, workers=1)
    one_line(error, str(tmp_path), "can be decoded")
