"""Labelled faces to train a classifier on: folders of identities, filters, weights of synthetic images by their scores."""
import logging
import os
from typing import NamedTuple

import numpy as np

import utils
from utils import UserError

SCORES = "confidence_scores.csv"


class Faces(NamedTuple):
    """What a classifier learns from; `real` and `synthetic` are utils.Renderings, or None where there are none.

    `weights` [n] float32 are those of the losses of the synthetic images.
    """
    real: utils.Renderings
    synthetic: utils.Renderings
    weights: np.ndarray


def load(options):
    """The Faces that `options` (of `recognizer.py train`) name. Raises UserError."""
    o = options
    real = synthetic = weights = None
    if o.real:
        folder = utils.data_folder("--real", o.data_dir, o.real)
        if os.path.exists(os.path.join(folder, SCORES)):
            raise UserError(f"--real {o.real}: has {SCORES}, so it is a synthetic set; give it as --synthetic {o.real}")
        real = filtered(utils.find_renderings(folder), o)
        real = usable(real, "--real", o)
    if o.synthetic:
        folders = [utils.data_folder("--synthetic", o.data_dir, name) for name in o.synthetic]
        places = [os.path.realpath(folder) for folder in folders + ([real.root] if real else [])]
        if len(set(places)) < len(places):
            raise UserError("--real, --synthetic: a folder is named twice, and each of its people would be two; name it once")
        found = [utils.find_renderings(folder) for folder in folders]
        synthetic = usable(together(o.data_dir, o.synthetic, found), "--synthetic", o)
        weights = score_weights(synthetic, folders, o.score_weights)
    return Faces(real, synthetic, weights)


def usable(faces, option, options):
    """`faces` without broken images. Raises UserError where fewer than two identities are left."""
    faces = utils.check_images(faces, options.input_scale_size, options.num_worker)
    if len(faces.identities) < 2:
        raise UserError(f"{option} {faces.root}: one identity only, and a classifier tells identities apart; add others")
    if len(faces.names) == len(faces.identities):
        logging.warning("%s %s: one image of each identity only: nothing shows how a face varies", option, faces.root)
    return faces


def together(data_dir, folders, parts):
    """Several utils.Renderings, of `folders` in `data_dir`, as one; of more than one, identities are `FOLDER/IDENTITY`."""
    if len(parts) == 1:
        return parts[0]
    firsts = np.cumsum([0] + [len(part.identities) for part in parts])
    return utils.Renderings(
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
    return utils.take(faces, np.flatnonzero(keep))


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

def score_weights(faces, folders, kind):
    """Weights [n] float32 of the images of `faces`, which come from `folders`, by the c_score of each: low is good.

    "none": 1. "original": 0.5 exp(-c / 4), the authors' first version. "calibrated": 2 (1 - u), where u is the share
    of the set whose c_score is lower (of equal ones, half counts): from 2 for the best to 0 for the worst, 1 on average
    whatever the scale of the scores. Raises UserError where a score is needed and not there.
    """
    if kind == "none":
        return np.ones(len(faces.names), np.float32)
    scores = {}
    for folder in folders:
        scores.update(read_scores(folder))
    c = np.array([scores.get(os.path.abspath(os.path.join(faces.root, name)), np.nan) for name in faces.names])
    if not np.isfinite(c).all():
        name = faces.names[int(np.flatnonzero(~np.isfinite(c))[0])]
        raise UserError(f"--score_weights {kind}: {(~np.isfinite(c)).sum()} of {len(c)} images have no c_score, such as "
                        f"{name}; synthesize with --pretrained_rec, or take --score_weights none")
    if kind == "original":
        return (.5 * np.exp(-c / 4)).astype(np.float32)
    ordered = np.sort(c)
    below, up_to = np.searchsorted(ordered, c, "left"), np.searchsorted(ordered, c, "right")
    return (2 - (below + up_to) / len(c)).astype(np.float32)


def read_scores(folder):
    """{absolute path: c_score} of `<folder>/confidence_scores.csv`. Raises UserError where it can't be read."""
    path = os.path.join(folder, SCORES)
    try:
        with open(path, encoding="utf-8") as file:
            rows = [line.rsplit(maxsplit=3) for line in file if line.strip()]
        return {os.path.abspath(folder + row[0]): float(row[3]) for row in rows}
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror}); give a set that main.py synthesized, or take "
                        "--score_weights none") from error
    except (ValueError, IndexError) as error:
        raise UserError(f"{path}: not lines of `/identity/image.jpg d_score s_score c_score`; synthesize the set again, or "
                        "take --score_weights none") from error
