"""Read what is known of each image of a folder: who is shown, in which pose, light and expression.

Rendered people carry it in latents.npz beside their images, and what was synthesized from them has a copy. Where an
identity has none, people.csv may still tell who it is. An image is found by its name without suffix: a synthesized one
may have another suffix than its rendering.
"""
import csv
import io
import logging
import os

import numpy as np

import utils
from datasets.image_sets import LABELS
from datasets.images import stem
from morphable import latents, people_index, sweeps
from morphable.makehuman import expressions
from morphable.makehuman import model as makehuman_model

ORIGIN = "origin_"                  # begins the labels of shares of origins, such as origin_asian
WORDS = "hair", "beard", "glasses", "expression"        # labels that are words, "" where unknown
# From which weight on an expression is seen: the least that people who laugh, have an open mouth or smile are given,
# but more of a smile, as its mode also goes up by chance. The first that fits counts.
SEEN = {"laugh": .3, "open": .08, "smile": .15}
EXPRESSIONS = {"laugh": "laugh", "open": "open mouth", "smile": "smile"}
OTHER = "other"
_MODES = list(expressions.MODES)


def read_labels(images, shapes=False):
    """Read what is known of the images of Renderings -> {name: array [n]}: floats, nan where unknown, or WORDS.

    The names are age in years, female (1 for a woman, 0 for a man), a share origin_NAME of each origin; pitch, yaw and
    roll in radians; light_height and light_side, the direction of the light in radians, which comes from above and from
    the right of the image where they are positive; expression_strength, the root mean square of the coefficients; hair,
    beard, glasses and expression. With `shapes`, there are also `landmarks` [n, 68, 2] in shares of a crop's sides and
    `coefficients` [n, m] of the expression. A name of which nothing is known is left out. One warning tells of damaged
    files.
    """
    result, damaged = {}, []
    people = _read_people(images.root)
    labels = np.asarray(images.labels)
    order = np.argsort(labels, kind="stable")
    for own in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1):
        identity = images.identities[labels[own[0]]]
        path = os.path.join(images.root, identity, LABELS)
        known, rows = people.get(identity, {}), np.zeros(len(own), np.int64)
        if os.path.lexists(path):
            try:
                places, known = _read_identity(path, shapes)
                rows = np.array([places.get(stem(os.path.basename(images.names[i])), -1) for i in own])
            except utils.ARRAY_ERRORS:
                damaged.append(os.path.join(identity, LABELS))
        there = rows >= 0
        for name, values in known.items():
            if name not in result:
                result[name] = _unknown(name, len(labels), np.shape(values)[1:])
            if result[name].shape[1:] == np.shape(values)[1:]:          # else coefficients of another model
                result[name][own[there]] = values[rows[there]] if np.ndim(values) else values
    if damaged:
        logging.warning("%s: %d files of labels are damaged, and what they tell is taken as unknown, such as %s",
                        images.root, len(damaged), damaged[0])
    return result


def _unknown(name, count, shape):
    """Make the array [count, *shape] of a label of which nothing is known."""
    if name in WORDS:
        return np.full(count, "", "U24")
    return np.full([count, *shape], np.nan, np.float64 if shape else np.float32)


def _read_identity(path, shapes):
    """Read the file LABELS at `path` -> ({name of an image without suffix: its row}, {label: number, word or array}).

    Arrays have a row for each image. Raises one of utils.ARRAY_ERRORS where the file is damaged or somebody else's.
    """
    known = {}
    with utils.open_regular(path) as file, np.load(file, allow_pickle=False) as fields:
        names = fields["names"]
        count = len(names)
        if "Pose_Para" in fields:
            pose = _rows(fields["Pose_Para"], count)
            known.update({angle: pose[:, place] for angle, place in latents.ANGLES.items()})
        if "Illum_Para" in fields:
            light = _rows(fields["Illum_Para"], count)
            known.update(light_side=light[:, sweeps.LIGHT["light"]],
                         light_height=light[:, sweeps.LIGHT["light_height"]])
        if "Exp_Para" in fields:
            moves = _rows(fields["Exp_Para"], count)
            known["expression_strength"] = np.sqrt(np.mean(moves ** 2, axis=1))
            if shapes:
                known["coefficients"] = moves
            if str(fields["model"]) == makehuman_model.NAME and moves.shape[1] == len(_MODES):
                known["expression"] = name_expressions(moves)
        if shapes and "landmarks" in fields:
            landmarks = _rows(fields["landmarks"], count, (68, 2))
            known["landmarks"] = (landmarks + .5) / float(fields["size"])
        if "origins" in fields:
            known.update({name: _each(fields[name], count) for name in people_index.PLAIN})
            for name, share in zip(fields["origins"].tolist(), np.moveaxis(fields["origin"], -1, 0)):
                known[ORIGIN + name] = _each(share, count)
    return {stem(str(name)): row for row, name in enumerate(names)}, known


def _rows(values, count, shape=None):
    """Return `values` [count, k], or [count, *shape], as float64. Raises ValueError where they are others."""
    values = np.asarray(values, np.float64)
    if values.shape != (count, *(shape or values.shape[1:2])) or values.ndim < 2:
        raise ValueError("not one row for each image")
    return values


def _each(values, count):
    """Return what is known of a person, once, or in a sweep for each of `count` images. Raises ValueError otherwise."""
    if values.shape not in ((), (count,)):
        raise ValueError("neither one value nor one for each image")
    return values


def name_expressions(moves):
    """Name expressions by the coefficients [n, modes] of MakeHuman's head -> words [n]."""
    strong = [moves[:, _MODES.index(mode)] >= least for mode, least in SEEN.items()]
    return np.select(strong, [EXPRESSIONS[mode] for mode in SEEN], OTHER)


def _read_people(root):
    """Read the table of people in the folder `root` -> {identity: {label: number or word}}; {} where there is none."""
    try:
        rows = list(csv.reader(io.StringIO(utils.read_text(os.path.join(root, people_index.INDEX)))))
        heading = [name if name in ("identity", *people_index.PLAIN) else ORIGIN + name for name in rows[0]]
        return {row["identity"]: {name: row[name] if name in WORDS else float(row[name])
                                  for name in heading if name != "identity"}
                for row in (dict(zip(heading, values)) for values in rows[1:])}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, IndexError) as error:
        logging.warning("%s: not read (%s); who the people are is taken from %s alone",
                        os.path.join(root, people_index.INDEX), utils.reason_of(error), LABELS)
        return {}
