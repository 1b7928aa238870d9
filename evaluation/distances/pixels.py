"""Pixels before they are compared: a common size, shrunk and recompressed copies, colours as people see them."""
import io

import numpy as np
from PIL import Image

SHRUNK, QUALITY = 32, 75            # what `degrade` leaves: pixels of a side, and the quality of a JPEG file
# From linear red, green, blue to X, Y, Z, and the white: IEC 61966-2-1, D65.
TO_XYZ = np.array([[.4124, .3576, .1805], [.2126, .7152, .0722], [.0193, .1192, .9505]])
WHITE = TO_XYZ.sum(axis=1)
GREY = np.array([.299, .587, .114], np.float32)     # brightness of red, green, blue: ITU-R BT.601


def shrink(images, size):
    """Reduce `images` uint8 [n, S, S, 3] to `size`, antialiased -> uint8 [n, size, size, 3]."""
    if images.shape[1:3] == (size, size):
        return images
    return np.stack([_resize(image, size) for image in images])


def degrade(images):
    """Reduce `images` uint8 [n, S, S, 3] to SHRUNK pixels, enlarge them again, and compress them as JPEG of QUALITY.

    What is left are differences that a reader would see, too: neither fine noise nor traces of other compression.
    """
    return np.stack([_recompress(_resize(_resize(image, SHRUNK), len(image))) for image in images])


def _resize(image, size):
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))


def _recompress(image):
    """Write an image as JPEG of QUALITY and read it."""
    encoded = io.BytesIO()
    Image.fromarray(image).save(encoded, "JPEG", quality=QUALITY)
    return np.asarray(Image.open(encoded).convert("RGB"))


def to_grey(images):
    """Convert images uint8 [n, S, S, 3] to their brightness -> float32 [n, S, S]."""
    return images.astype(np.float32) @ GREY


def to_lab(colours):
    """Convert sRGB colours uint8 [..., 3] to CIE L*a*b* -> float32 [..., 3]. A distance of 1 can hardly be seen."""
    steps = np.arange(256) / 255
    linear = np.where(steps <= .04045, steps / 12.92, ((steps + .055) / 1.055) ** 2.4)
    relative = linear.astype(np.float32)[colours] @ (TO_XYZ / WHITE[:, None]).T.astype(np.float32)
    edge = 6 / 29
    curved = np.where(relative > edge ** 3, np.cbrt(relative), relative / (3 * edge ** 2) + 4 / 29)
    x, y, z = np.moveaxis(curved, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)
