"""Labelled faces to train a classifier on: folders of identities, FaceNet's filters, weights of synthetic images."""
import logging
import os
from typing import NamedTuple

import numpy as np

from datasets.image_sets import check_images, data_folder, find_renderings, Renderings, subset
from datasets.scores import CSV_NAME, score_weights
from utils import open_regular, reason_of, UserError


class Faces(NamedTuple):
    """What a classifier learns from: real photos, and synthetic ones that main.py made of renderings.

    `real` and `synthetic` are each a Renderings (images with their identities), or None where there are none.
    `weights` [n] float32 are those of the n synthetic images in the loss; None where there are none.
    """
    real: Renderings | None
    synthetic: Renderings | None
    weights: np.ndarray | None


def load(options):
    """Find and decode the Faces that the `options` of `recognizer.py train` name. Raises UserError as both steps do."""
    return decode(find(options), options)


def find(options):
    """Find the Faces that the `options` of `recognizer.py train` name; no image is decoded yet.

    Raises UserError where a folder, a filter's file or a score is missing or of no use.
    """
    real = synthetic = weights = None
    if options.real:
        folder = data_folder("--real", options.data_dir, options.real)
        if os.path.exists(os.path.join(folder, CSV_NAME)):
            raise UserError(f"--real {options.real}: has {CSV_NAME}, so it is a synthetic set; give it as "
                            f"--synthetic {options.real}")
        real = _filtered(find_renderings(folder), options)
        _check_count(real, "--real")
    if options.synthetic:
        folders = [data_folder("--synthetic", options.data_dir, name) for name in options.synthetic]
        places = [os.path.realpath(folder) for folder in folders + ([real.root] if real else [])]
        if len(set(places)) < len(places):
            raise UserError("--real, --synthetic: a folder is named twice, and each of its people would be two; "
                            "name it once")
        found = [find_renderings(folder) for folder in folders]
        synthetic = _joined(options.data_dir, options.synthetic, found)
        _check_count(synthetic, "--synthetic")
        weights = score_weights(synthetic, folders, options.score_weights)
    return Faces(real, synthetic, weights)


def decode(faces, options):
    """Decode the images of Faces -> Faces without broken ones; the weights are those of the images that are left.

    Raises UserError where fewer than two identities are left, and warns where each has a single image.
    """
    checked = [images and check_images(images, options.input_scale_size, options.num_worker)
               for images in (faces.real, faces.synthetic)]
    for images, option in zip(checked, ("--real", "--synthetic")):
        if images:
            _check_count(images, option)
            if len(images.names) == len(images.identities):
                logging.warning("%s %s: one image of each identity only: nothing shows how a face varies", option,
                                images.root)
    real, synthetic = checked
    weights = faces.weights
    if synthetic and len(synthetic.names) < len(faces.synthetic.names):
        folders = [data_folder("--synthetic", options.data_dir, name) for name in options.synthetic]
        weights = score_weights(synthetic, folders, options.score_weights)
    return Faces(real, synthetic, weights)


def _check_count(faces, option):
    """Raise UserError where the Renderings `faces`, which `option` names, have fewer than two identities."""
    if len(faces.identities) < 2:
        raise UserError(f"{option} {faces.root}: one identity only; a classifier of one is always right in training, "
                        "and then no better than chance; add others")


def _joined(data_dir, folders, found):
    """Join the Renderings `found` in the `folders` of `data_dir` to one; their identities stay apart.

    A single Renderings stays as it is. Of several, an identity is named `FOLDER/IDENTITY`. An image is named by its
    path in `data_dir`.
    """
    if len(found) == 1:
        return found[0]
    # A .rec file may lie in the folder that a user named.
    roots = [folder if each.root == os.path.join(data_dir, folder) else
             os.path.join(folder, os.path.basename(each.root)) for folder, each in zip(folders, found)]
    first_labels = np.cumsum([0] + [len(each.identities) for each in found])
    return Renderings(
        data_dir,
        [os.path.join(root, name) for root, each in zip(roots, found) for name in each.names],
        np.concatenate([each.labels + np.int32(first) for each, first in zip(found, first_labels)]),
        [os.path.join(folder, identity) for folder, each in zip(folders, found) for identity in each.identities])


# Filters, as in FaceNet's trainer

def _filtered(faces, options):
    """Leave images out of the Renderings `faces` as the --filter_ options say.

    First go images that are far from the centre of their identity, then identities with too few images left.
    Raises UserError where no image is left.
    """
    keep = np.ones(len(faces.names), bool)
    if options.filter_filename:
        keep &= ~np.isin(faces.names, _far_images(options.filter_filename, options.filter_percentile))
        logging.info("--filter_filename: %d of %d images left", keep.sum(), len(keep))
    counts = np.bincount(faces.labels[keep], minlength=len(faces.identities))
    keep &= counts[faces.labels] >= options.filter_min_nrof_images_per_class
    if not keep.any():
        raise UserError(f"--real {faces.root}: no image is left by --filter_percentile {options.filter_percentile:g} "
                        f"and --filter_min_nrof_images_per_class {options.filter_min_nrof_images_per_class}")
    return subset(faces, np.flatnonzero(keep))


def _far_images(path, percentile):
    """List the images that are farther from the centre of their identity than a `percentile` of all.

    `percentile` is from 0 to 100.
    The file `path` is HDF5 as FaceNet writes it: `distance_to_center` [n] holds the distances of the images whose paths
    `image_list` [n] holds. Of a path only the last two names count, and so is an image named in the result:
    `IDENTITY/image.jpg`. Raises UserError for any other file.
    """
    # Here and not above: it is slow to import, and few trainings need it.
    import h5py
    try:
        open_regular(path).close()
        with h5py.File(path, "r") as file:
            distances = np.asarray(file["distance_to_center"], np.float64).ravel()
            paths = [os.fsdecode(each) for each in np.asarray(file["image_list"]).ravel()]
        if not np.isfinite(distances).all():
            raise ValueError("a distance is NaN or infinite")
    except Exception as error:          # h5py raises nearly anything for a damaged file
        reason = reason_of(error)
        raise UserError(f"--filter_filename {path}: can't be read ({reason}); give an HDF5 file with "
                        "distance_to_center and image_list") from error
    if len(paths) != len(distances) or not len(paths):
        raise UserError(f"--filter_filename {path}: {len(distances)} distances of {len(paths)} images; give as many of "
                        "both")
    far = distances > np.percentile(distances, percentile)
    return ["/".join(name.replace("\\", "/").split("/")[-2:]) for name, is_far in zip(paths, far) if is_far]
