"""Read an image file whole, upright and resized; write one whole; lay images out in a grid."""
import contextlib
import io
import os

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from datasets.packed.opening import open_image
from utils import atomic_write, reason_of, UserError

# What Pillow calls the format of each suffix: of those that are written, and of those that are read.
FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".bmp": "BMP"}
READ_FORMATS = {**FORMATS, ".jpe": "JPEG", ".jfif": "JPEG", ".mpo": "JPEG", ".apng": "PNG", ".dib": "DIB",
                ".tif": "TIFF", ".tiff": "TIFF", ".gif": "GIF", ".ppm": "PPM", ".pgm": "PPM", ".pbm": "PPM",
                ".pnm": "PPM", ".jp2": "JPEG2000", ".j2k": "JPEG2000", ".avif": "AVIF"}
DECODERS = tuple(dict.fromkeys(READ_FORMATS.values()))


PICTURES = ".png", ".jpg", ".jpeg"      # of sheets and charts, which are for people to look at
MARK = "facegan"                        # in such a picture: this program wrote it and may replace it


class BrokenImage(UserError):
    """An image file that can't be decoded. The message is its path and, in brackets, why."""


def save_image(image, path, quality=95):
    """Write `image` uint8 [H, W, 3] to `path`, whole or not at all.

    The suffix of `path`, one of FORMATS, tells the format. `quality`, 1 to 100, is for the formats that lose detail.
    Raises OSError when the file can't be written.
    """
    encoded = io.BytesIO()              # writing into a file itself, Pillow overlooks that a full disk cuts it short
    Image.fromarray(image).save(encoded, FORMATS[suffix(path)], quality=quality, subsampling=0)
    with atomic_write(path) as file:
        file.write(encoded.getvalue())


def save_picture(image, path):
    """Write `image` uint8 [H, W, 3] to `path`, whose suffix is one of PICTURES, with a mark of this program in it.

    Raises OSError when the file can't be written.
    """
    marked = PngInfo()
    marked.add_text("Software", MARK)
    encoded = io.BytesIO()
    Image.fromarray(image).save(encoded, FORMATS[suffix(path)], quality=95, subsampling=0, pnginfo=marked, comment=MARK)
    with atomic_write(path) as file:
        file.write(encoded.getvalue())


def check_picture(option, path):
    """Raise UserError where `path`, which `option` names, is a file that `save_picture` did not write."""
    if os.path.lexists(path) and not is_marked(path):
        raise UserError(f"{option} {path}: there is another file, which this command did not write; name a new one")


def is_marked(path):
    """Tell whether the file `path` is a picture that `save_picture` wrote."""
    with contextlib.suppress(Exception), Image.open(path, formats=("PNG", "JPEG")) as picture:
        return MARK in (picture.info.get("Software"), picture.info.get("comment", b"").decode())
    return False


def make_grid(images, columns, padding=2):
    """Lay `images` uint8 [N, H, W, 3] out in rows of `columns` -> uint8 [H', W', 3].

    They are `padding` black pixels apart. Cells without an image are black.
    """
    count, height, width, channels = images.shape
    rows = -(-count // columns)
    cells = np.zeros([rows * columns, height + padding, width + padding, channels], np.uint8)
    cells[:count, :height, :width] = images
    cells = cells.reshape(rows, columns, *cells.shape[1:]).swapaxes(1, 2)
    grid = cells.reshape(rows * (height + padding), columns * (width + padding), channels)
    return grid[:len(grid) - padding, :grid.shape[1] - padding]


def suffix(name):
    """Return the suffix of a file's name in lower case: `.jpg` of `a/B.JPG`."""
    return os.path.splitext(name)[1].lower()


def stem(name):
    """Return a file's name without its suffix: `B` of `B.JPG`."""
    return os.path.splitext(name)[0]


def output_name(name):
    """Return the name under which what is made of the image `name` is written: .png where FORMATS lacks its suffix."""
    return name if suffix(name) in FORMATS else stem(name) + ".png"


def to_rgb(picture):
    """Convert a Pillow image of any mode to RGB. 16 bits are scaled to 8, transparency is laid over black."""
    if picture.mode.startswith("I"):        # 16-bit grey, which Pillow's own conversion clips at 255
        grey = np.clip(np.asarray(picture, np.int64), 0, 65535)
        picture = Image.fromarray(((grey + 128) // 257).astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "black"), picture)
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def read_picture(path):
    """Read the image file `path` -> a Pillow RGB image, turned upright as its EXIF data says.

    The image may be packed in another file, see `packed.opening`. Of several pictures in a file, the first is read.
    Raises BrokenImage when it can't be decoded whole.
    """
    try:
        with open_image(path) as file, Image.open(file, formats=DECODERS) as picture:
            ImageOps.exif_transpose(picture, in_place=True)
            return to_rgb(picture)
    except UnidentifiedImageError as error:
        raise BrokenImage(f"{path} (no image of a known kind)") from error
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error, DecompressionBombError
        raise BrokenImage(f"{path} ({reason_of(error)})") from error


def load_image(path, size, grayscale=False):
    """Read the image file `path` -> uint8 [size, size, 3], resized where it has another size.

    With `grayscale`, each channel is the luma. Raises BrokenImage when it can't be decoded whole.
    """
    picture = read_picture(path)
    if picture.size != (size, size):
        picture = picture.resize((size, size), Image.Resampling.BILINEAR)
    if grayscale:
        picture = picture.convert("L").convert("RGB")
    return np.asarray(picture)
