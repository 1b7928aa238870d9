"""Pictures of a report: images as small JPEG or PNG data, charts as SVG, or the reason why there is none."""
import base64
import io
import logging
import re
from typing import NamedTuple

import numpy as np
from PIL import Image

from evaluation.report import charts

MOST_BYTES = 2_000_000              # of all pictures of a page together: with all else it stays below 3 MB
WIDEST = 1280                       # pixels of a picture: more than a page shows on most screens
SMALLEST = 160                      # pixels of the longer side below which no picture is reduced
FLAT = 64                           # colours up to which a picture is a drawing, which PNG keeps smaller and sharp
QUALITIES = 88, 78, 65              # of JPEG, tried one after the other


class Shown(NamedTuple):
    """A picture as a page shows it."""
    markup: str                     # of an <svg>, "" where it is no chart
    source: str                     # a data: address, "" where it is a chart or is missing
    size: tuple                     # (width, height) in pixels, of an image
    why: str                        # why it is missing, "" where it is not


def show_all(sections):
    """Turn all pictures of Sections into what a page shows -> {(section's key, picture's number): Shown}.

    Images share MOST_BYTES. Without matplotlib, charts are missing, and one warning says so.
    """
    pictures = {(section.key, i): picture.image for section in sections for i, picture in enumerate(section.pictures)}
    drawings = {place: image for place, image in pictures.items() if callable(image)}
    if drawings and not charts.available():
        logging.warning("the report goes without its charts (%d): %s", len(drawings), charts.MISSING)
    most = MOST_BYTES // max(1, len(pictures) - len(drawings))
    return {place: _show_chart(image, "-".join(map(str, place))) if callable(image) else _show_image(image, most)
            for place, image in pictures.items()}


def _show_chart(draw, name):
    """Draw a chart as SVG -> Shown; `name` tells it from the others of a page."""
    if not charts.available():
        return Shown("", "", (), f"not drawn: {charts.MISSING}")
    return Shown(charts.as_svg(draw, re.sub(r"[^A-Za-z0-9_-]", "_", name)), "", (), "")


def _show_image(image, most):
    """Encode uint8 [H, W, 3] in at most about `most` bytes -> Shown. A grey image [H, W] is taken too."""
    image = np.asarray(image)
    if image.ndim not in (2, 3) or not image.size or image.dtype != np.uint8:
        return Shown("", "", (), "not shown: there is no image")
    encoded, kind, size = encode(image, most)
    return Shown("", f"data:image/{kind};base64,{base64.b64encode(encoded).decode()}", size, "")


def encode(image, most):
    """Encode `image` uint8 [H, W, 3] in at most `most` bytes of base64, as far as that goes -> (bytes, kind, (W, H)).

    It is reduced to WIDEST first. Quality goes first, then pixels, but never below SMALLEST.
    """
    picture = Image.fromarray(image).convert("RGB")
    picture.thumbnail((WIDEST, 3 * WIDEST), Image.Resampling.LANCZOS)
    if picture.getcolors(FLAT):
        written = _write(picture, "PNG", optimize=True)
        if len(written) * 4 // 3 <= most:
            return written, "png", picture.size
    while True:
        for quality in QUALITIES:
            written = _write(picture, "JPEG", quality=quality, optimize=True)
            if len(written) * 4 // 3 <= most:
                return written, "jpeg", picture.size
        if max(picture.size) <= SMALLEST:
            return written, "jpeg", picture.size
        factor = min(.9, .95 * (most / (len(written) * 4 / 3)) ** .5)           # bytes go with the area
        factor = max(factor, .5, SMALLEST / max(picture.size))
        picture = picture.resize([max(1, round(side * factor)) for side in picture.size], Image.Resampling.LANCZOS)


def _write(picture, kind, **options):
    """Write a Pillow image as a file of this kind -> bytes."""
    written = io.BytesIO()
    picture.save(written, kind, **options)
    return written.getvalue()
