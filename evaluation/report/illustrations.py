"""Pictures of a set for its report, read from its files: a sample, pairs of images, the best and the worst."""
import contextlib
import os

import numpy as np

from datasets.images import BrokenImage, load_image
from evaluation.figures import Picture, Section
from evaluation.report import sheets
from evaluation.report.numbers import title

SIDE = 96                           # pixels of an image in a picture
MOST_PAIRS = 16                     # of a picture
ENDS = 16                           # images of the best, and of the worst
# Columns of a table that name the two images of a pair, and who is right.
IN_THE_SET, IN_TRAINING = ("image", "other_image"), ("image", "photo")


def illustrate(sections, images, training=None, scores=None, seed=0):
    """Add to Sections what there is to see of a set -> Sections.

    `images`, Renderings, are the set's. A section with the key `realism`, or else the first one, gets a sample drawn
    from `seed`, and the best and the worst images by each of `scores`, {name: array [n]}, higher is better. Each table
    whose rows name pairs of images, within the set or beside `training`, an ImageSet, gets them as a picture. Files
    that can't be decoded are left out.
    """
    added = {section.key: [] for section in sections}
    if added:
        own = added["realism" if "realism" in added else sections[0].key]
        own += sample(images, seed)
        for name, values in (scores or {}).items():
            own += best_and_worst(images, values, name)
    for section in sections:
        for name, rows in section.tables.items():
            added[section.key] += pairs_of(name, rows, images, training)
    return [Section(section.key, section.title, section.measures, added[section.key] + section.pictures, section.notes,
                    section.tables) for section in sections]


def sample(images, seed=0, people=6, each=12):
    """Draw `people` identities of Renderings, `each` images at most -> a list of a Picture, or of none."""
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(len(images.identities))[:people])
    indices = np.concatenate([np.sort(rng.permutation(np.flatnonzero(images.labels == identity))[:each])
                              for identity in chosen])
    found = _read(images.root, [images.names[i] for i in indices])
    if not found:
        return []
    labels = [images.labels[i] for i in indices if images.names[i] in found]
    sheet = sheets.of_people(np.stack(list(found.values())), labels, people, each)
    return [Picture("sample", f"Drawn at random: a row for each of {len(set(labels))} identities.", sheet)]


def best_and_worst(images, scores, name):
    """Show the images of Renderings with the highest and with the lowest `scores` [n] -> a list of Pictures."""
    worst, best = sheets.by_score(scores, ENDS)
    pictures = []
    for key, indices in (("best", best), ("worst", worst)):
        found = _read(images.root, [images.names[i] for i in indices])
        if found:
            caption = f"The {key} by {name}, the {key} first: {scores[indices[0]]:.3g} to {scores[indices[-1]]:.3g}."
            pictures.append(Picture(f"{key}_{name}", caption, sheets.of_people(
                np.stack(list(found.values())), np.arange(len(found)) // (ENDS // 2), 2, ENDS // 2)))
    return pictures


def pairs_of(name, rows, images, training=None):
    """Show the pairs that the first `rows` of the table `name` list -> a list of a Picture, or of none."""
    for (one, other), second, who in ((IN_THE_SET, images, "two identities of the set"),
                                      (IN_TRAINING, training, "left of the set, right a training photo")):
        listed = [(row[one], row[other]) for row in rows[:MOST_PAIRS] if one in row and other in row]
        if not listed or second is None:
            continue
        left, right = _read(images.root, [each for each, _ in listed]), _read(second.root, [each for _, each in listed])
        both = [(left[each], right[beside]) for each, beside in listed if each in left and beside in right]
        if both:
            return [Picture(f"pairs_{name}", f"{title(name)}: {who}.", sheets.of_pairs(*map(np.stack, zip(*both))))]
    return []


def _read(root, names):
    """Read the images `names` in `root` -> {name: uint8 [SIDE, SIDE, 3]}, without those that can't be decoded."""
    found = {}
    for name in names:
        with contextlib.suppress(BrokenImage):
            found[name] = load_image(os.path.join(root, name), SIDE)
    return found
