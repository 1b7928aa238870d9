"""Make batches of image sets: shuffled ones for trainings, and all images in order.

The order of a training is a pure function of seed and step. So a resumed training reads the batches that it would have
read uninterrupted. The pipelines' threads call Python: close the session before the program ends, or it may hang.
"""
import collections
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from datasets.images import BrokenImage, load_image
from datasets.packed.opening import open_image
from utils import UserError

tf1 = tf.compat.v1

REAL, SYN, PAIRS = range(3)  # streams, each of which is shuffled in another order
PREFETCH = 2                 # batches that are decoded ahead, besides one for each worker
PROBES = 16                  # files to try before a set of images counts as gone
ROUNDS = 16                  # of the shuffling cipher; with TensorFlow's own 4, epochs of a large set are nearly alike


class NoImageLeft(UserError):
    """No image of a set can be read. The message says of which, and why. A training waits for them (engine.loop)."""


class Reading(NamedTuple):
    """How image files become batches."""
    size: int                # side in pixels that images are resized to
    batch_size: int
    workers: int             # threads that decode
    grayscale: bool = False  # True: each channel is the luma
    part: tuple | None = None   # which images of a training's batch to read: (the first one, how many); None: all


class Order(NamedTuple):
    """The order of a training's images, and where in it to start."""
    seed: int
    start: object            # number of the first batch, counted from 0: the training step, an int or a scalar tensor


def get_loader(photos, reading, order):
    """Make an endless tf.data.Dataset of batches of an ImageSet of photos: uint8 [B, S, S, 3].

    Batch number i of an Order is the same whatever batch it starts with.
    A broken image is named in a warning, and the next good one of the set is used instead. The same goes for a file
    that is gone. Where no file of the set can be opened, the whole Dataset fails with NoImageLeft.
    """
    return training_batches([photos], reading, order, REAL).map(lambda indices, images: images)


def get_syn_loader(renderings, reading, order):
    """Make a Dataset as `get_loader` does, of Renderings: uint8 [B, S, S, 3], and their labels int32 [B]."""
    return training_batches([renderings], reading, order, SYN).map(
        lambda indices, images: (images, tf.gather(renderings.labels, indices)))


def get_3dmm_loader(pairs, reading, order):
    """Make a Dataset as `get_loader` does, of Pairs: photos and renderings, uint8 [B, S, S, 3] each."""
    return training_batches(pairs, reading, order, PAIRS).map(
        lambda indices, photos, renderings: (photos, renderings))


def read_in_order(images, reading):
    """Iterate over the batches of an ImageSet, each image once, in order.

    A batch is indices int64 [n] and images uint8 [n, S, S, 3].
    Broken images are left out and named in a warning. So n may be less than the batch size, and a batch may be missing.
    """
    broken = set()

    def gather(futures):
        """Make a list of the batch of [(index, future row)], an empty one where all of its images are broken."""
        rows = [(index, future.result()) for index, future in futures]
        good = [(index, row[0]) for index, row in rows if row]
        return [tuple(map(np.array, zip(*good)))] if good else []

    with ThreadPoolExecutor(reading.workers) as pool:
        waiting = collections.deque()
        for first in range(0, len(images.names), reading.batch_size):
            indices = range(first, min(first + reading.batch_size, len(images.names)))
            waiting.append([(index, pool.submit(_load_row, [images], index, reading, broken)) for index in indices])
            if len(waiting) > PREFETCH:
                yield from gather(waiting.popleft())
        for futures in waiting:
            yield from gather(futures)


def training_batches(image_sets, reading, order, stream, labels=None):
    """Make an endless Dataset of batches of several `image_sets` of the same length, shuffled alike.

    Its elements are indices int64 [B], then images uint8 [B, S, S, 3] of each set. The order is that of `shuffled`, in
    which `stream` tells Datasets with the same seed apart. Broken images are replaced as in `get_loader`.
    With `labels`, the identity of each image, the order is that of `balanced`. Where `reading` has a part, the elements
    are that part of each batch, and nothing else is decoded.
    """
    count, size = len(image_sets[0].names), reading.size
    first, length = reading.part or (0, reading.batch_size)
    broken = set()

    def decode(indices):
        rows = [_load_good_row(image_sets, index, reading, broken) for index in indices]
        used, images = zip(*rows)
        return np.array(used), *(np.stack(column) for column in zip(*images))

    def batch(step):
        positions = step * reading.batch_size + tf.range(first, first + length, dtype=tf.int64)
        chosen = shuffled(positions, count, order.seed, stream) if labels is None else \
            balanced(positions, labels, order.seed, stream)
        indices, *batches = tf.numpy_function(decode, [chosen], [tf.int64] + [tf.uint8] * len(image_sets),
                                              stateful=False)
        return (tf.ensure_shape(indices, [length]),
                *(tf.ensure_shape(images, [length, size, size, 3]) for images in batches))

    return in_parallel(tf.data.Dataset.range(tf.cast(order.start, tf.int64), tf.int64.max), batch, reading.workers)


def in_parallel(dataset, function, workers):
    """Call `function` on each element of a tf.data.Dataset, `workers` at a time -> Dataset.

    The results come in the order of the elements.
    """
    options = tf.data.Options()
    options.autotune.enabled = False    # there is nothing to tune, and closing a session may wait 40 s for the tuner
    results = dataset.map(function, num_parallel_calls=workers, deterministic=True)
    return results.prefetch(PREFETCH).with_options(options)


def shuffled(positions, count, seed, stream):
    """Look up which image stands at each of `positions` [n] int64 of a training -> its index, int64 [n].

    A training reads a set of `count` images in epochs: positions 0 to count - 1, count to 2 count - 1, and so on. Each
    epoch has all images, in a random order that depends on `seed`, `stream` and the number of the epoch alone.
    """
    epochs = tf.cast(positions // count, tf.uint32)
    seeds = tf.stack([tf.fill(tf.shape(epochs), tf.constant(word, tf.uint32)) for word in (seed % 2**32, stream)]
                     + [epochs], axis=1)
    # The Python wrapper of this operation refuses more than one seed, and a batch may lie in two epochs.
    return tf.raw_ops.RandomIndexShuffle(
        index=positions % count, seed=seeds, max_index=tf.constant(count - 1, tf.int64), rounds=ROUNDS)


def balanced(positions, labels, seed, stream):
    """Look up which image stands at each of `positions` [n] int64 of a training that sees all identities equally often.

    `labels` [m] tell the identity of each image. An epoch has about m images, and of each identity as many as of the
    others: m divided by the number of identities, rounded up. An identity with fewer images shows some of them again,
    and one with more shows others in the next epoch. The order is random as in `shuffled`. The result is int64 [n].
    """
    _, labels, counts = np.unique(labels, return_inverse=True, return_counts=True)
    by_identity, firsts = np.argsort(labels, kind="stable"), np.cumsum(counts) - counts
    each = -(-len(labels) // len(counts))
    places = shuffled(positions, each * len(counts), seed, stream)
    identities, numbers = places // each, places % each + positions // (each * len(counts)) * each
    counts, firsts = (tf.gather(tf.constant(table, tf.int64), identities) for table in (counts, firsts))
    return tf.gather(tf.constant(by_identity, tf.int64), firsts + numbers % counts)


def count_readable(image_sets):
    """Count which of some files of each of several ImageSets can be opened -> their number, 0 where a set has none."""
    counts = [sum(_can_open(images, index) for index in _spread(len(images.names))) for images in image_sets]
    return sum(counts) if all(counts) else 0


def _spread(count):
    """List at most PROBES of the numbers below `count`, the first and the last among them, as far apart as can be."""
    return sorted({round(index) for index in np.linspace(0, count - 1, PROBES)})


def _can_open(images, index):
    """Tell whether the file of image number `index` can be opened."""
    try:
        with open_image(os.path.join(images.root, images.names[index])) as file:
            file.read(1)
    except OSError as error:
        return error.errno is None      # packed and damaged: the file that it is in is there
    return True


def _load_good_row(image_sets, index, reading, broken):
    """Load the images number `index` of each set, or of the next number where none is broken.

    Returns that number, and a list of uint8 [S, S, 3]. After the last index comes 0. Raises NoImageLeft when there is
    no such index, and where the set is out of reach for the moment: its images must not be replaced by others then.
    """
    count = len(image_sets[0].names)
    for offset in range(count):
        candidate = (index + offset) % count
        images = _load_row(image_sets, candidate, reading, broken)
        if images:
            return candidate, images
    raise NoImageLeft(f"{image_sets[0].root}: none of its {count} images can be decoded any more")


def _load_row(image_sets, index, reading, broken):
    """Load the images number `index` of each set -> list of uint8 [S, S, 3], None when one is broken or gone.

    Such an image is named in a warning, unless `index` is in the set `broken`, to which it is added. Raises NoImageLeft
    where a file can't be opened, nor any other one of its set.
    """
    for attempt in range(2):
        try:
            return [load_image(os.path.join(images.root, images.names[index]), reading.size, reading.grayscale)
                    for images in image_sets]
        except BrokenImage as error:
            reason = getattr(error.__cause__, "errno", None) and error.__cause__.strerror
            if reason and not attempt:              # of the file, and not of what is in it
                for images in image_sets:
                    if not count_readable([images]):
                        raise NoImageLeft(f"{images.root}: none of its {len(images.names)} images can be read any more "
                                          f"({images.names[index]}: {reason})") from error
                continue                            # the others are there: it may be back, or else it is gone for good
            if index not in broken:
                broken.add(index)
                logging.warning("broken image, skipped: %s", error)
            return None
