"""Write a part of a data set as a set of its own: some of its images, with their labels, scores and rows of tables.

Each image is the same file under a second name, a hard link, which takes no room. Where no link can be made, as on
another disk, it is a copy. So no image is encoded anew. A killed run is gone on with: what is right already stays.
"""
import errno
import filecmp
import io
import logging
import os
import shutil

import numpy as np

import utils
from datasets import scores
from datasets.images import stem
from datasets.labelled_crops import rows_of, write_changed
from datasets.side_files import ALIGNMENT, LABELS, PEOPLE

# Of a file system without hard links, or that allows none of this file, or no more of them.
NO_LINK = {errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
# Labels of a person, in a row for each image only where a sweep changes who it is. All others of as many rows as there
# are names have one for each image.
OF_A_PERSON = {"Shape_Para", "Tex_Para", "age", "female", "origin", "origins", "hair", "beard", "glasses",
               "trait_names"}
CHANGING = "age", "identity"            # what a sweep changes then


def read_tables(images):
    """Read the tables of a set, cut to `images`, Renderings of some of its images -> {name of a file: bytes}.

    They are the scores, people.csv and alignment.csv, as far as they are there. Raises UserError where one can't be
    read.
    """
    chosen = {name: name for name in images.names}
    found = {scores.CSV_NAME: scores.renamed(images.root, chosen),
             PEOPLE: rows_of(os.path.join(images.root, PEOPLE), "identity", set(images.identities)),
             ALIGNMENT: rows_of(os.path.join(images.root, ALIGNMENT), "crop", chosen)}
    return {name: content for name, content in found.items() if content is not None}


def write(images, tables, folder):
    """Write `images`, Renderings of some images of a set, with the labels of each identity and `tables` into `folder`.

    Damaged labels are left out, with a warning. Raises OSError.
    """
    names_of = {identity: [] for identity in images.identities}
    for name, label in zip(images.names, images.labels.tolist()):
        names_of[images.identities[label]].append(name)
    damaged = []
    with utils.progress_bar("image", len(images.names)) as bar:
        for identity, names in names_of.items():
            here = os.path.join(folder, identity)
            os.makedirs(here, exist_ok=True)
            utils.clean_temporary(here)
            for name in names:
                place(os.path.join(images.root, name), os.path.join(folder, name))
                bar.update()
            damaged += _write_labels(os.path.join(images.root, identity, LABELS), names, os.path.join(here, LABELS))
    if damaged:
        logging.warning("%d files of labels are damaged and left out, such as %s", len(damaged), damaged[0])
    for name, content in tables.items():
        write_changed(os.path.join(folder, name), content)


def place(source, target):
    """Let the image `source` have the name `target` too, or copy it there. Where it is there already, it stays."""
    if os.path.lexists(target):
        if os.path.isfile(target) and (os.path.samefile(source, target)
                                       or filecmp.cmp(source, target, shallow=False)):
            return
    else:
        try:
            os.link(os.path.realpath(source), target)       # and not the name of a link
            return
        except OSError as error:
            if error.errno not in NO_LINK:
                raise
    with utils.open_regular(source) as file, utils.atomic_write(target) as copy:
        shutil.copyfileobj(file, copy)


def _write_labels(source, names, target):
    """Write the labels at `source` of the images `names` to `target` -> [source] where they are damaged, else []."""
    if not os.path.lexists(source):
        return []
    try:
        with utils.open_regular(source) as file, np.load(file, allow_pickle=False) as fields:
            labels = _rows_of_images({field: fields[field] for field in fields.files}, names)
    except utils.ARRAY_ERRORS:
        return [source]
    encoded = io.BytesIO()
    np.savez(encoded, **labels)
    write_changed(target, encoded.getvalue())
    return []


def _rows_of_images(labels, names):
    """Cut the labels {field: array} of an identity to those of the images `names` -> {field: array}.

    Images are found by their names without suffix. Raises KeyError, TypeError or ValueError for labels of no images.
    """
    wanted = {stem(os.path.basename(name)) for name in names}
    listed = labels["names"].tolist()
    if labels["names"].ndim != 1:
        raise ValueError("no list of names")
    rows = [row for row, name in enumerate(listed) if stem(name) in wanted]
    swept = str(labels.get("sweep")) in CHANGING
    return {field: values[rows] if values.ndim and len(values) == len(listed) and (
        swept or field not in OF_A_PERSON) else values for field, values in labels.items()}
