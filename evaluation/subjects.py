"""The sets that are judged: images of identities, their embeddings, and what is known of each image."""
from typing import NamedTuple

import numpy as np

from datasets.image_sets import Renderings, subset


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


def halves(subject, seed=0):
    """Divide the identities of a Subject at random into two halves -> two Subjects, which share no identity."""
    count = len(subject.images.identities)
    first = np.isin(subject.images.labels, np.random.default_rng(seed).permutation(count)[:(count + 1) // 2])
    return part_of(subject, np.flatnonzero(first)), part_of(subject, np.flatnonzero(~first))


def at_most(subject, images, seed=0):
    """Choose at most so many `images` of each identity at random -> Subject, in the order of the images."""
    labels = subject.images.labels
    order = np.lexsort((np.random.default_rng(seed).random(subject.count), labels))
    ordered = labels[order]
    ranks = np.arange(subject.count) - np.searchsorted(ordered, ordered)
    return part_of(subject, np.sort(order[ranks < images]))
