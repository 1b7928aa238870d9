"""What a recogniser is trained on to tell the use of a set: real people divided by chance, renderings, the set."""
import hashlib
import os
from typing import NamedTuple

import numpy as np

from datasets.image_sets import find_renderings, Renderings, subset
from evaluation import contents
from evaluation.figures import PHOTOS, RENDERINGS, SET
from utils import UserError

FILTERED, BOTH = "filtered set", "photos and set"
TITLES = {RENDERINGS: "renderings", SET: "the set", FILTERED: "the filtered set", PHOTOS: "real people",
          BOTH: "real people and the set"}
LEAST_PEOPLE = 10               # with several photos, on either side: fewer make intervals too narrow to mean anything


class Row(NamedTuple):
    """What one recogniser is trained on, as in labelled_data.Faces."""
    real: Renderings | None
    synthetic: Renderings | None
    weights: np.ndarray | None = None       # float32 [n] of the synthetic images in the loss; None: 1
    why: str = ""                           # where there is nothing to train on: a reason with the way on


class Sets(NamedTuple):
    """The sets that rows are made from: each the path of a folder or of a .rec file, Renderings, or None."""
    photos: object                  # of real people: some are trained on, the others are held out
    renderings: object = None
    generated: object = None        # the set that is judged
    filtered: object = None         # what is left of it
    train_photos: object = None     # those that the generator of the set was trained on
    weights: np.ndarray | None = None   # float32 [n] of the images of the filtered set, or, without one, of the set


class Split(NamedTuple):
    """Real people, divided by chance."""
    learned: Renderings             # a recogniser may be trained on these
    held_out: Renderings            # nothing has learned from these
    excluded: int                   # people that could not be held out, since the judged set's generator knows them


def make(sets, people=None, seed=0):
    """Make the rows of `utility.measure` from Sets -> ({name: Row}, the held-out Renderings, sentences on them).

    `people` of the photos, by default half of them, are trained on in every row that has real people. The people of
    `train_photos` are not held out. Raises UserError where there are too few real people.
    """
    sets = Sets(*(find_renderings(each) if isinstance(each, (str, os.PathLike)) else each for each in sets))
    learned, held_out, excluded = split(sets.photos, people, sets.train_photos, seed)
    none = {RENDERINGS: "no renderings; give --renderings", SET: "no set", FILTERED: "no filtered set"}
    synthetic = {RENDERINGS: sets.renderings, SET: sets.generated, FILTERED: sets.filtered}
    rows = {name: Row(None, images, None, "" if images else none[name]) for name, images in synthetic.items()
            if images or name != FILTERED}
    best = FILTERED if sets.filtered else SET
    rows[best] = rows[best]._replace(weights=sets.weights)
    rows[PHOTOS] = Row(learned, None)
    rows[BOTH] = Row(learned, rows[best].synthetic, sets.weights, rows[best].why)
    notes = [f"{len(held_out.identities)} real people are held out, and {len(learned.identities)} others are trained "
             "on, chosen at random"]
    if excluded:
        notes.append(f"{excluded} people of the photos are among those that the generator was trained on, and are not "
                     "held out")
    return rows, held_out, notes


def split(photos, people=None, train_photos=None, seed=0):
    """Divide the people of the Renderings `photos` at random -> Split.

    `people` of those with two photos or more are learned from, by default half of them. All others are held out, but
    for the people of the Renderings `train_photos`. Of these, as many as possible are among the learned ones, so that
    few are lost, see `shared_people`. Raises UserError where fewer than LEAST_PEOPLE people with several photos are
    left on a side.
    """
    counts = np.bincount(photos.labels, minlength=len(photos.identities))
    several = np.flatnonzero(counts > 1)
    known = shared_people(photos, train_photos) if train_photos else set()
    free = sum(label not in known for label in several)
    people = len(several) // 2 if people is None else people
    left = min(free, len(several) - people)
    if people < LEAST_PEOPLE or left < LEAST_PEOPLE:
        raise UserError(
            f"{photos.root}: {len(several)} people with several photos, {len(several) - free} of them known to the "
            f"generator; to train on {people} and to hold {max(left, 0)} others out is too few, {LEAST_PEOPLE} of each "
            "are needed; give photos of more people")
    order = np.random.default_rng(seed).permutation(several)
    order = order[np.argsort([label not in known for label in order], kind="stable")]
    learned = np.isin(photos.labels, order[:people])
    out = ~learned & ~np.isin(photos.labels, list(known))
    return Split(subset(photos, np.flatnonzero(learned)), subset(photos, np.flatnonzero(out)), len(known))


def shared_people(photos, others):
    """Find the people of the Renderings `photos` who are among the `others` too -> set of labels.

    A person is the same where both have the same folder, or where a file of both has the same content.
    """
    same_folder = os.path.realpath(photos.root) == os.path.realpath(others.root)
    if same_folder:
        names = set(others.identities)
        return {label for label, name in enumerate(photos.identities) if name in names}
    known = set(contents_of(others)) - {b""}
    return {int(label) for label, content in zip(photos.labels, contents_of(photos)) if content in known}


def contents_of(images):
    """Digest the content of each image of Renderings -> yields bytes for each, b"" where it can't be read."""
    return (contents.digest_of(os.path.join(images.root, name)) for name in images.names)


def digest_of(images, digests):
    """Digest what is in the images of Renderings, and which of them show one person -> a word.

    `digests` are those that `contents_of` yields. Names and places do not count.
    """
    state = hashlib.blake2b(np.ascontiguousarray(images.labels, np.int64).tobytes(), digest_size=contents.DIGEST)
    for each in digests:
        state.update(each)
    return state.hexdigest()
