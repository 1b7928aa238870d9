"""The sets that are judged: images of identities, their embeddings, and what is known of each image."""
from typing import NamedTuple

import numpy as np

from datasets.image_sets import Renderings, subset

NO_IMAGES = "no image could be embedded; check that they show faces"


class Subject(NamedTuple):
    """A set that is judged."""
    name: str                       # for readers: the folder as the user gave it
    images: Renderings
    features: np.ndarray            # float32 [n, E]: embeddings of length 1
    labels: dict                    # {name: array [n, ...]}: what is known of each image, nan where it is not

    @property
    def count(self):
        """Count the images."""
        return len(self.images.names)


def part_of(subject, indices):
    """Choose the images number `indices` of a Subject -> Subject. Identities without an image are left out."""
    indices = np.asarray(indices)
    return Subject(subject.name, subset(subject.images, indices), subject.features[indices],
                   {name: values[indices] for name, values in subject.labels.items()})


def measurable(subject):
    """Leave out the images of a Subject whose features are not finite: these could not be embedded -> Subject."""
    finite = np.isfinite(subject.features).all(axis=1)
    return subject if finite.all() else part_of(subject, np.flatnonzero(finite))


def measurable_rows(rows):
    """Leave out what could not be embedded of {name of a row: Subject} -> (the same of the rest, sentences on it)."""
    left = {row: measurable(subject) for row, subject in rows.items()}
    return left, [f"{row}: {subject.count - left[row].count} of {subject.count} images have no embedding and are left "
                  "out" for row, subject in rows.items() if left[row].count < subject.count]


def at_most(subject, images, seed=0):
    """Choose at most so many `images` of each identity at random -> Subject, in the order of the images."""
    labels = subject.images.labels
    order = np.lexsort((np.random.default_rng(seed).random(subject.count), labels))
    ordered = labels[order]
    ranks = np.arange(subject.count) - np.searchsorted(ordered, ordered)
    return part_of(subject, np.sort(order[ranks < images]))


def halves(subject, seed=0):
    """Divide the identities of a Subject at random into two halves -> two Subjects, which share no identity."""
    count = len(subject.images.identities)
    first = np.isin(subject.images.labels, np.random.default_rng(seed).permutation(count)[:(count + 1) // 2])
    return part_of(subject, np.flatnonzero(first)), part_of(subject, np.flatnonzero(~first))


def balanced(labels, count, seed=0):
    """Choose `count` images at random, about as many of each identity -> sorted indices [count].

    `labels` [n] tells the identity of each image. No identity gets another image before each that has one left got as
    many. Where there are fewer images, all are chosen.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    numbers = np.unique(np.asarray(labels)[order], return_inverse=True)[1]
    places = np.argsort(numbers, kind="stable")                     # identity by identity, each in random order
    starts = np.concatenate([[0], np.cumsum(np.bincount(numbers))])[:-1]
    rounds = np.empty(len(order), np.int64)
    rounds[places] = np.arange(len(order)) - starts[numbers[places]]
    return np.sort(order[np.argsort(rounds, kind="stable")[:count]])
