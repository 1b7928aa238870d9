"""The folder of one rendered identity: its images and, in latents.npz, their labels; all of them or nothing."""
import os
import secrets
import shutil
from typing import NamedTuple

import numpy as np

import utils
from datasets.image_sets import list_images
from datasets.images import BrokenImage, read_picture, save_image
from datasets.side_files import LABELS
from datasets.writer import is_whole, is_whole_archive
from morphable import face_model, sweeps
from morphable.scene import expose, render_face, sample_shot, sample_subject

SAME = 3                    # mean difference, of 255, up to which two images are one, computed by other processors
CHUNK = 16                  # images whose vertices are computed at once
VERSION = 1                 # of the labels and of all that makes the images


class Series(NamedTuple):
    """What is rendered of each identity."""
    output: str                             # folder that holds the identities' folders
    count: int                              # images of each
    format: str                             # jpg or png
    ranges: dict                            # {angle: (low, high)} in radians, of angles that are spread evenly
    sweep: tuple | None = None              # (what, low, high, count): the one thing that changes, see sweeps.py
    seed: int | None = None                 # of the scene; None takes labels of any seed for ours


def folder_of(output, identity):
    """Return the path of the folder of number `identity` in `output`."""
    return os.path.join(output, f"{identity:05}")


def find_missing(series, wanted):
    """Find which of the identities `wanted`, a range of numbers, a Series lacks -> (numbers, paths).

    The numbers are those of all identities to be rendered. The paths are those of folders that are there and whose
    images or labels are lost, damaged, or of another identity.
    """
    with os.scandir(series.output) as entries:
        there = {entry.name for entry in entries if entry.name.isdecimal()}
    if not there:
        return wanted, []               # the range itself, which takes no memory
    missing, damaged = [], []
    for identity in wanted:
        folder = folder_of(series.output, identity)
        if os.path.basename(folder) not in there:
            missing.append(identity)
        elif not (has_labels(series, folder, identity) and all(
                is_whole(os.path.join(folder, name)) for name in image_names(series))):
            missing.append(identity)
            damaged.append(folder)
    return missing, damaged


def count_beyond(output, last):
    """Count the identities in the folder `output` whose numbers are above `last`."""
    return sum(name.isdecimal() and int(name) > last for name in os.listdir(output))


def has_labels(series, folder, identity):
    """Tell whether `folder` has whole labels, and those of number `identity` of a Series."""
    path = os.path.join(folder, LABELS)
    if not is_whole_archive(path):
        return False
    try:
        with np.load(path, allow_pickle=False) as labels:
            return int(labels["identity"]) == identity and series.seed in (None, int(labels["seed"]))
    except (OSError, ValueError, TypeError, KeyError):      # no array of ours
        return False


def is_named_by_us(series, name):
    """Tell whether `name`, a path within the output folder, is one that an image of a Series could have."""
    folder, _, image = name.partition("/")
    number, _, ending = image.partition(".")
    return folder.isdecimal() and len(folder) >= 5 and number.isdecimal() and len(number) == 5 and (
        1 <= int(number) <= series.count and ending == series.format)


def image_names(series):
    """List the names of the images in an identity's folder."""
    return [f"{image:05}.{series.format}" for image in range(1, series.count + 1)]


def render_identity(scene, series, identity):
    """Render a Series of number `identity` into its folder -> None, or the folder if its images are somebody else's.

    A new folder gets its name once all of it is there. In a folder that is there, only what is not whole is replaced.
    Without labels of this identity, images of other content are somebody else's, and then nothing is touched there.
    Raises OSError when something can't be written. Then nothing is left of a new folder.
    """
    temporary = os.path.join(series.output, f"{utils.TEMPORARY}{identity:05}-{secrets.token_hex(4)}")
    folder = folder_of(series.output, identity)
    os.mkdir(temporary)
    try:
        _write_identity(scene, series, identity, temporary)
        if not _give_name(temporary, folder):
            if not has_labels(series, folder, identity) and _holds_others(folder, temporary, image_names(series)):
                shutil.rmtree(temporary)
                return folder
            for name in sorted(os.listdir(temporary)):
                if name == LABELS or not is_whole(os.path.join(folder, name)):
                    os.replace(os.path.join(temporary, name), os.path.join(folder, name))
            shutil.rmtree(temporary)
    except BaseException as error:
        if isinstance(error, OSError) and isinstance(error.filename, str):
            error.filename = error.filename.replace(temporary, folder)      # the name that it was to get
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return None


def _give_name(temporary, folder):
    """Rename the folder `temporary` to `folder`, unless that is there -> whether it was done. Raises OSError."""
    if os.path.isdir(folder):
        return False
    try:
        os.rename(temporary, folder)
    except OSError:
        if os.path.isdir(folder):               # since a moment ago
            return False
        raise
    return True


def _holds_others(folder, rendered, names):
    """Tell whether `folder` has images that are not those `names` in the folder `rendered`.

    Damaged ones do not count.
    """
    for name in list_images(folder):
        path = os.path.join(folder, name)
        if name not in names:
            return True
        if is_whole(path):
            try:
                there, here = (np.asarray(read_picture(each), np.float64)
                               for each in (path, os.path.join(rendered, name)))
            except BrokenImage:
                return True
            if there.shape != here.shape or np.abs(there - here).mean() > SAME:
                return True
    return False


def _write_identity(scene, series, identity, folder):
    """Write the images and labels of one identity into `folder`."""
    model = scene.model
    if series.sweep:
        subjects, expressions, shots = sweeps.plan(scene, series.sweep, identity)
    else:
        subjects = [sample_subject(scene, identity)] * series.count
        numbers = range(1, series.count + 1)
        expressions, shots = zip(*(sample_shot(scene, identity, image, series.ranges) for image in numbers))
    shots = [expose(subject, shot) for subject, shot in zip(subjects, shots)]
    names = image_names(series)
    boxes, landmarks = [], []
    for start in range(0, series.count, CHUNK):
        chunk = slice(start, start + CHUNK)
        moves = face_model.combine(expressions[chunk], model.expression_basis)
        for subject, name, move, shot in zip(subjects[chunk], names[chunk], moves, shots[chunk]):
            face = render_face(scene, subject.pose(move), shot)
            save_image(face.image, os.path.join(folder, name), quality=100)
            boxes.append(face.box)
            landmarks.append(face.landmarks)
    illumination, pose, color = map(np.array, zip(*shots))
    with utils.atomic_write(os.path.join(folder, LABELS)) as file:
        np.savez(file, **_labels(subjects, series.sweep), Exp_Para=np.array(expressions), Illum_Para=illumination,
                 Pose_Para=pose, Color_Para=color, box=np.array(boxes, np.float64), landmarks=np.array(landmarks),
                 names=names, identity=identity, seed=scene.seed, size=face.image.shape[0], model=model.name,
                 statistics=scene.statistics.description, version=VERSION)


def _labels(subjects, sweep):
    """Collect what is known of the person; of each image where `sweep` changes who it is -> {field: array}."""
    if not sweep:
        return subjects[0].labels
    what, low, high, count = sweep
    swept = {"sweep": what, "sweep_values": np.linspace(low, high, count)}
    if what not in sweeps.OF_PEOPLE:
        return {**subjects[0].labels, **swept}
    return {**{name: np.array([subject.labels[name] for subject in subjects]) for name in subjects[0].labels}, **swept}


def files_of(series, wanted):
    """List the files of the identities `wanted`, as paths within the output folder."""
    names = [*image_names(series), LABELS]
    return [f"{identity:05}/{name}" for identity in wanted for name in names]


def remove_temporary(output, wanted, alone=True):
    """Remove from `output` what a killed run left of the identities `wanted`, numbers in a range or list.

    Temporary folders of other identities stay: another machine may be writing them into the same `output`. Unless we
    are `alone`, another one may make the same identities, and what is an hour old counts as left.
    """
    for name in os.listdir(output):
        number = name.removeprefix(utils.TEMPORARY).rpartition("-")[0]
        if name.startswith(utils.TEMPORARY) and number.isdecimal() and int(number) in wanted:
            path = os.path.join(output, name)
            if alone or utils.is_abandoned(path):
                shutil.rmtree(path, ignore_errors=not alone)
