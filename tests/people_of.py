"""Subjects that the tests of the evaluation judge: identities with drawn embeddings."""
import numpy as np
from scipy.ndimage import gaussian_filter

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


def textured(count, seed=0, side=48):
    """Photos of nothing: noise that is smoothed a little, as cameras do it."""
    rng = np.random.default_rng(seed)
    images = gaussian_filter(rng.normal(size=[count, side, side, 3]), [0, 1, 1, 0])
    images += 3 * gaussian_filter(rng.normal(size=images.shape), [0, 4, 4, 0])
    return np.clip(128 + 60 * images, 0, 255).astype(np.uint8)


def blurred(images, sigma):
    """The same images, blurred."""
    return gaussian_filter(images, [0, sigma, sigma, 0])
