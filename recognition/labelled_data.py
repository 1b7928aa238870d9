"""Labelled faces to train a classifier on: folders of identities, filters, weights of synthetic images by their scores."""
import logging
import os
from typing import NamedTuple

import numpy as np

from datasets.image_sets import check_images, data_folder, find_renderings, Renderings, take
from datasets.scores import CSV_NAME, score_weights
from utils import UserError


class Faces(NamedTuple):
    """What a classifier learns from; `real` and `synthetic` are Renderings, or None where there are none.

    `weights` [n] float32 are those of the losses of the synthetic images.
    """
    real: Renderings
    synthetic: Renderings
    weights: np.ndarray


def load(options):
    """The Faces that `options` (of `recognizer.py train`) name. Raises UserError."""
    o = options
    real = synthetic = weights = None
    if o.real:
        folder = data_folder("--real", o.data_dir, o.real)
        if os.path.exists(os.path.join(folder, CSV_NAME)):
            raise UserError(f"--real {o.real}: has {CSV_NAME}, so it is a synthetic set; give it as --synthetic {o.real}")
        real = filtered(find_renderings(folder), o)
        real = usable(real, "--real", o)
    if o.synthetic:
        folders = [data_folder("--synthetic", o.data_dir, name) for name in o.synthetic]
        places = [os.path.realpath(folder) for folder in folders + ([real.root] if real else [])]
        if len(set(places)) < len(places):
            raise UserError("--real, --synthetic: a folder is named twice, and each of its people would be two; name it once")
        found = [find_renderings(folder) for folder in folders]
        synthetic = usable(together(o.data_dir, o.synthetic, found), "--synthetic", o)
        weights = score_weights(synthetic, folders, o.score_weights)
    return Faces(real, synthetic, weights)


def usable(faces, option, options):
    """`faces` without broken images. Raises UserError where fewer than two identities are left."""
    faces = check_images(faces, options.input_scale_size, options.num_worker)
    if len(faces.identities) < 2:
        raise UserError(f"{option} {faces.root}: one identity only, and a classifier tells identities apart; add others")
    if len(faces.names) == len(faces.identities):
        logging.warning("%s %s: one image of each identity only: nothing shows how a face varies", option, faces.root)
    return faces


def together(data_dir, folders, parts):
    """Several Renderings, of `folders` in `data_dir`, as one; of more than one, identities are `FOLDER/IDENTITY`."""
    if len(parts) == 1:
        return parts[0]
    firsts = np.cumsum([0] + [len(part.identities) for part in parts])
    return Renderings(
        data_dir, [os.path.join(folder, name) for folder, part in zip(folders, parts) for name in part.names],
        np.concatenate([part.labels + np.int32(first) for part, first in zip(parts, firsts)]),
        [os.path.join(folder, identity) for folder, part in zip(folders, parts) for identity in part.identities])


# Filters, as in FaceNet's trainer

def filtered(faces, options):
    """`faces` without images far from their class's centre, then without classes of too few images. Raises UserError."""
    o = options
    keep = np.ones(len(faces.names), bool)
    if o.filter_filename:
        keep &= ~np.isin(faces.names, far_images(o.filter_filename, o.filter_percentile))
        logging.info("--filter_filename: %d of %d images left", keep.sum(), len(keep))
    counts = np.bincount(faces.labels[keep], minlength=len(faces.identities))
    keep &= counts[faces.labels] >= o.filter_min_nrof_images_per_class
    if not keep.any():
        raise UserError(f"--real {faces.root}: no image is left by --filter_percentile {o.filter_percentile:g} and "
                        f"--filter_min_nrof_images_per_class {o.filter_min_nrof_images_per_class}")
    return take(faces, np.flatnonzero(keep))


def far_images(path, percentile):
    """Names `class/image.jpg` of the images whose distance to their class's centre lies above this percentile.

    `path` is HDF5 as FaceNet writes it: `distance_to_center` [n], `image_list` [n] paths, of which the last two parts
    count, in the order of the distances. Raises UserError.
    """
    import h5py
    try:
        with h5py.File(path, "r") as file:
            distances = np.asarray(file["distance_to_center"], np.float64).ravel()
            paths = [os.fsdecode(each) for each in np.asarray(file["image_list"]).ravel()]
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise UserError(f"--filter_filename {path}: can't be read ({str(error).splitlines()[0]}); give an HDF5 file with "
                        "distance_to_center and image_list") from error
    if len(paths) != len(distances) or not len(paths):
        raise UserError(f"--filter_filename {path}: {len(distances)} distances of {len(paths)} images; give as many of both")
    far = distances > np.percentile(distances, percentile)
    return ["/".join(name.replace("\\", "/").split("/")[-2:]) for name, is_far in zip(paths, far) if is_far]


# Weights of synthetic images by their scores
