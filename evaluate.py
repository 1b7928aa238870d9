"""Judge a data set: how far its images are, as a whole, from photos. python evaluate.py --photos DIR FOLDER [FOLDER ...]

Prints for each FOLDER the Frechet distance (Dowson, Landau 1982; Heusel et al. 2017, eq. 6) between its images and the
photos, each set seen as a normal distribution of simple features: colours and the amount of detail, place by place. It
needs no weights of any network and compares sets of the same size and kind; it is not the FID of the literature.
"""
import argparse
import logging
import os
import sys

import numpy as np
import scipy.linalg

import utils
from cli import program
from cli.options import at_least, Parser
from datasets.image_sets import find_photos
from datasets.images import load_image

SIDE, PLACES = 32, 8        # pixels that images are reduced to; places along each side
MINIMUM = 2                 # images of a set, for a covariance


def features(image):
    """Features [4 PLACES²] of `image` uint8 [SIDE, SIDE, 3]: rgb means and the deviation within it of each place, 0..1."""
    step = SIDE // PLACES
    places = (image / 255.).reshape(PLACES, step, PLACES, step, 3)
    return np.concatenate([places.mean(axis=(1, 3)).ravel(), places.mean(axis=4).std(axis=(1, 3)).ravel()])


def frechet_distance(a, b):
    """|mean_a - mean_b|² + tr(C_a + C_b - 2 (C_a C_b)^½) of two sets of features [n, k] and [m, k]."""
    covariances = [np.cov(each, rowvar=False) for each in (a, b)]
    root = scipy.linalg.sqrtm(covariances[0])                       # C_a C_b and its symmetric form have one spectrum
    spectrum = np.linalg.eigvalsh(root.real @ covariances[1] @ root.real)
    overlap = np.sqrt(np.maximum(spectrum, 0)).sum()
    return float(((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum() + sum(map(np.trace, covariances)) - 2 * overlap)


def read_features(folder, limit):
    """Features [n, k] of at most `limit` images in and below `folder`, evenly chosen. Raises UserError if too few."""
    images = find_photos(folder)
    count = len(images.names)
    chosen = np.unique(np.linspace(0, count - 1, min(limit, count)).round().astype(int))
    if len(chosen) < MINIMUM:
        raise utils.UserError(f"{folder}: one image only; name a folder with more")
    return np.array([features(load_image(os.path.join(images.root, images.names[i]), SIDE)) for i in chosen])


def main():
    """Print a line a folder. Exit status: 2 bad input."""
    parser = Parser("evaluate.py", description="How far the images of folders are, as a whole, from photos.",
                    formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="images, with or without a folder for each person")
    parser.add_argument("--photos", required=True, help="folder of the photos that they should look like")
    parser.add_argument("--limit", type=at_least(2), default=5000, help="images of each folder to look at")
    options = parser.parse_args()
    return program.run("evaluate.py", compare, options)


def compare(options):
    """Print the distance of each folder."""
    photos = read_features(options.photos, options.limit)
    distances = {folder: frechet_distance(read_features(folder, options.limit), photos) for folder in options.folders}
    logging.info("distance to %d photos of %s:", len(photos), options.photos)
    for folder, distance in distances.items():
        print(f"{distance:8.3f}  {folder}")


if __name__ == "__main__":
    sys.exit(main())
