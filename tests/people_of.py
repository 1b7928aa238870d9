"""Subjects that the tests of the evaluation judge: identities with drawn embeddings."""
import numpy as np

from datasets.image_sets import Renderings
from evaluation.subjects import Subject


def unit(features):
    """Vectors scaled to length 1."""
    return (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)


def subject_of(labels, features, known=None):
    """A Subject of images with these labels and features; identity 3 is named 00003."""
    labels = np.asarray(labels, np.int32)
    identities = [f"{label:05}" for label in range(labels.max() + 1)]
    names = [f"{identities[label]}/{number:05}.jpg" for number, label in enumerate(labels)]
    return Subject("data/set", Renderings("data/set", names, labels, identities), np.asarray(features, np.float32),
                   known or {})


def people(count, images=5, spread=1., seed=0, size=32):
    """A Subject of `count` people, whose images lie about a direction of each; `spread` is noise to signal."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(count), images)
    noise = spread * rng.normal(size=(count * images, size)) / size ** .5
    return subject_of(labels, unit(unit(rng.normal(size=(count, size)))[labels] + noise))


def doubled(subject):
    """The same people twice, under two names each."""
    labels = np.concatenate([subject.images.labels, subject.images.labels + len(subject.images.identities)])
    return subject_of(labels, np.concatenate([subject.features] * 2))
