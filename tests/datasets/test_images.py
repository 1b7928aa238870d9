"""datasets/images: image files of every kind read, broken ones named, written whole or not at all; grids of images."""
import errno
import io
import os

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin

from datasets.images import (
    BrokenImage,
    FORMATS,
    load_image,
    make_grid,
    output_name,
    READ_FORMATS,
    read_picture,
    save_image,
    stem,
    suffix,
    to_rgb,
)

SIZE = 16


def ramp(size=SIZE):
    """A smooth picture: uint8 [S, S, 3]."""
    values = np.linspace(0, 255, size).astype(np.uint8)
    return np.stack(np.broadcast_arrays(values[:, None], values[None, :], values[:, None] // 2), axis=2)


# Writing

def test_full_disk_leaves_no_image(tmp_path, monkeypatch):
    def save(self, file, *arguments, **options):
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", save)
    with pytest.raises(OSError, match="No space"):
        save_image(ramp(), str(tmp_path / "a.jpg"))
    assert os.listdir(tmp_path) == []


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


def test_suffix_and_stem():
    assert (suffix("a.b/C.D.JPG"), stem("C.D.JPG")) == (".jpg", "C.D")
    assert (suffix("a.b/C"), stem("C"), suffix(".jpg")) == ("", "C", "")


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


READ = {".jpe": "JPEG", ".jfif": "JPEG", ".mpo": "MPO", ".apng": "PNG", ".dib": "BMP", ".tif": "TIFF", ".tiff": "TIFF",
        ".gif": "GIF", ".ppm": "PPM", ".pgm": "PPM", ".pbm": "PPM", ".pnm": "PPM", ".jp2": "JPEG2000",
        ".j2k": "JPEG2000", ".avif": "AVIF", **FORMATS}


@pytest.mark.parametrize("ending", READ)
def test_what_pillow_reads_is_read(tmp_path, ending):
    assert ending in READ_FORMATS and len(READ) == len(READ_FORMATS)
    grey = Image.fromarray(ramp()[:, :, 0])
    mode = {".pgm": "L", ".pbm": "1"}.get(ending, "RGB")
    image = load_image(saved(tmp_path, grey.convert(mode), f"a{ending}", format=READ[ending]), SIZE)
    assert np.abs(image.astype(float)[..., 0] - np.asarray(grey.convert(mode).convert("L"))).mean() < 8


def test_of_an_animation_the_first_picture_counts(tmp_path):
    first, second = (Image.new("RGB", (SIZE, SIZE), colour) for colour in ("red", "blue"))
    path = saved(tmp_path, first, "a.gif", save_all=True, append_images=[second])
    assert (load_image(path, SIZE) == [255, 0, 0]).all()


def test_what_is_made_of_an_image_has_a_suffix_that_can_be_written():
    assert [output_name(name) for name in ("a/b.JPG", "b.webp", "c.gif", "d.e.tiff")] == [
        "a/b.JPG", "b.webp", "c.png", "d.e.png"]


def test_a_pipe_is_broken_and_never_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    for path in (str(tmp_path / "pipe.jpg"), "/dev/zero"):
        with pytest.raises(BrokenImage, match="Not a regular file"):
            read_picture(path)


def test_bombs_folders_and_absent_files_are_broken(tmp_path, monkeypatch):
    bomb = saved(tmp_path, Image.fromarray(ramp()), "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    (tmp_path / "folder.jpg").mkdir()
    for path in (bomb, str(tmp_path / "folder.jpg"), str(tmp_path / "absent.jpg")):
        with pytest.raises(BrokenImage, match=os.path.basename(path)):
            load_image(path, SIZE)
