"""The images that sample grids are made of: renderings of the first identities, some pairs, some photos."""
import logging
import os
import zlib
from typing import NamedTuple

import numpy as np

from datasets.images import BrokenImage, load_image

SHOWN = 16                      # most pairs or photos in a grid, a row each


class Sheet(NamedTuple):
    """A sheet of renderings whose photos are to be drawn."""
    images: np.ndarray          # uint8 [rows * columns, S, S, 3], black where a row has too few renderings
    columns: int
    cells: list                 # (index into `images`, dropout seed) of each cell that is to become a photo


def image_seed(random_seed, name, sample=0):
    """Make the dropout seed [2] of one image from the run's seed, the image's name and the `sample`'s number.

    So the image is the same in every batch and every order.
    """
    return [random_seed, zlib.crc32(f"{name}#{sample}".encode(errors="surrogateescape")) >> 1]


def load_images(config, image_set, names):
    """Read the images `names` of an ImageSet -> uint8 [n, S, S, 3]. Raises BrokenImage."""
    return np.stack([load_image(os.path.join(image_set.root, name), config.input_scale_size, config.grayscale)
                     for name in names])


def sample_sheet(config, renderings, sample=0):
    """Lay out a Sheet: the first --num_log_id identities, a row each, with --num_log_samples renderings.

    `sample` numbers the dropout samples of a rendering, from 0.
    """
    rows = min(config.num_log_id, len(renderings.identities))
    images = np.zeros([rows * config.num_log_samples, config.input_scale_size, config.input_scale_size, 3], np.uint8)
    cells = []
    for row in range(rows):
        for column, i in enumerate(np.flatnonzero(renderings.labels == row)[:config.num_log_samples]):
            name = renderings.names[i]
            cell = row * config.num_log_samples + column
            try:
                images[cell] = load_images(config, renderings, [name])[0]
            except BrokenImage as error:            # of a large set, only a sample was decoded before
                logging.warning("broken image, left out of the sheet: %s", error)
                continue
            cells.append((cell, image_seed(config.random_seed, name, sample)))
    return Sheet(images, config.num_log_samples, cells)


def first_of_rows(sheet, count=SHOWN):
    """Choose at most `count` of a Sheet's cells, those of the first columns, so that they are of many identities."""
    return sorted(sheet.cells, key=lambda cell: (cell[0] % sheet.columns, cell[0]))[:count]


def load_spread(config, image_sets, count=SHOWN):
    """Read at most `count` images of each of several ImageSets of one length -> a list of uint8 [n, S, S, 3].

    They are as far apart in their set as can be, and have the same places in each set. Where one of them is broken, a
    warning says so, and its place is left out of all.
    """
    rows = []
    for index in sorted({round(place) for place in np.linspace(0, len(image_sets[0].names) - 1, count)}):
        try:
            rows.append([load_images(config, images, [images.names[index]])[0] for images in image_sets])
        except BrokenImage as error:
            logging.warning("broken image, left out of the sample grids: %s", error)
    size = config.input_scale_size
    return [np.reshape(images, [-1, size, size, 3]).astype(np.uint8) for images in zip(*rows)] or [
        np.zeros([0, size, size, 3], np.uint8) for _ in image_sets]
