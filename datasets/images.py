"""One image file: read whole, turned upright and resized; written whole; and grids of images."""
import io
import os

import numpy as np
from PIL import Image, ImageOps

from utils import atomic_write, UserError

FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".bmp": "BMP"}


class BrokenImage(UserError):
    """A file that can't be decoded; the message is its path and, in brackets, why."""


def save_image(image, path, quality=95):
    """Write `image` uint8 [H, W, 3] in the format of `path`'s suffix: jpg, jpeg, png, webp or bmp."""
    encoded = io.BytesIO()              # given a file, Pillow takes no notice when a full disk accepts only a part
    Image.fromarray(image).save(encoded, FORMATS[suffix(path)], quality=quality, subsampling=0)
    with atomic_write(path) as file:
        file.write(encoded.getvalue())


def make_grid(images, columns, padding=2):
    """Lay `images` uint8 [N, H, W, 3] in rows of `columns`, `padding` black pixels apart; missing cells are black."""
    count, height, width, channels = images.shape
    rows = -(-count // columns)
    cells = np.zeros([rows * columns, height + padding, width + padding, channels], np.uint8)
    cells[:count, :height, :width] = images
    cells = cells.reshape(rows, columns, *cells.shape[1:]).swapaxes(1, 2)
    grid = cells.reshape(rows * (height + padding), columns * (width + padding), channels)
    return grid[:len(grid) - padding, :grid.shape[1] - padding]


def suffix(name):
    """`.jpg` of `a/B.JPG`."""
    return os.path.splitext(name)[1].lower()


def stem(name):
    """`B` of `B.JPG`."""
    return os.path.splitext(name)[0]


def to_rgb(picture):
    """A Pillow image of any mode as RGB: 16 bits scaled to 8, transparency over black."""
    if picture.mode.startswith("I"):  # 16-bit grey; Pillow's own conversion clips it at 255
        grey = np.clip(np.asarray(picture, np.int64), 0, 65535)
        picture = Image.fromarray(((grey + 128) // 257).astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "black"), picture)
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def read_picture(path):
    """The image file `path` as a Pillow RGB image, turned upright by its EXIF. Raises BrokenImage."""
    try:
        with Image.open(path, formats=tuple(FORMATS.values())) as picture:
            ImageOps.exif_transpose(picture, in_place=True)
            return to_rgb(picture)
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error, DecompressionBombError
        raise BrokenImage(f"{path} ({error})") from error


def load_image(path, size, grayscale=False):
    """The image file `path` as uint8 [size, size, 3], resized if need be, its luma thrice if `grayscale`.

    Raises BrokenImage when it can't be decoded whole.
    """
    picture = read_picture(path)
    if picture.size != (size, size):
        picture = picture.resize((size, size), Image.Resampling.BILINEAR)
    if grayscale:
        picture = picture.convert("L").convert("RGB")
    return np.asarray(picture)
