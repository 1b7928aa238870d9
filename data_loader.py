"""Folders of crops to batches (`tf.data`), in an order that is a pure function of seed and position.

The decoding threads call Python: close the session before the program ends (`with tf1.Session()`), or it may hang.
"""
import contextlib
import logging
import os

import numpy as np
import tensorflow as tf

from datasets.images import BrokenImage, load_image

tf1 = tf.compat.v1

REAL, SYN, PAIRS = range(3)  # streams: each is shuffled in its own way
PREFETCH = 2                 # batches ready beyond the one for each worker
ROUNDS = 16                  # of the shuffling cipher; with TensorFlow's own 4, epochs of a large set are nearly alike


def get_loader(photos, size, batch_size, seed, start, workers, grayscale):
    """Photos (an ImageSet) for training: an endless tf.data.Dataset of uint8 [B, S, S, 3].

    The dataset begins with batch number `start` (an int or an integer scalar tensor: the training step); batch i is
    the same whatever the start. `workers` batches are decoded at a time. A broken image is replaced by the next good
    one of the list and named in a warning.
    """
    return training_batches([photos], size, batch_size, seed, REAL, start, workers, grayscale).map(
        lambda indices, images: images)


def get_syn_loader(renderings, size, batch_size, seed, start, workers, grayscale):
    """Renderings and their classes, as get_loader: uint8 [B, S, S, 3], int32 [B]."""
    return training_batches([renderings], size, batch_size, seed, SYN, start, workers, grayscale).map(
        lambda indices, images: (images, tf.gather(renderings.labels, indices)))


def get_3dmm_loader(pairs, size, batch_size, seed, start, workers, grayscale):
    """Photos and the renderings of the same faces (Pairs), as get_loader: uint8 [B, S, S, 3] each."""
    return training_batches(pairs, size, batch_size, seed, PAIRS, start, workers, grayscale).map(
        lambda indices, photos, renderings: (photos, renderings))


def get_ordered_loader(images, size, batch_size, workers, grayscale):
    """Every image of an ImageSet or Renderings once, in order: indices int64 [B], uint8 [B, S, S, 3], valid bool [B].

    `valid` is False for what fills up the last batch, which repeats the last index, and for broken images, which are
    black and named in a warning.
    """
    count = len(images.names)
    broken = set()

    def decode(first):
        positions = np.arange(first, first + batch_size)
        indices = np.minimum(positions, count - 1)
        batch = np.zeros([batch_size, size, size, 3], np.uint8)
        valid = positions < count
        for row, index in enumerate(indices):
            loaded = load_row([images], index, size, grayscale, broken)
            valid[row] &= loaded is not None
            if loaded:
                batch[row] = loaded[0]
        return indices, batch, valid

    def shaped(first):
        indices, batch, valid = tf.numpy_function(decode, [first], [tf.int64, tf.uint8, tf.bool], stateful=False)
        return (tf.ensure_shape(indices, [batch_size]), tf.ensure_shape(batch, [batch_size, size, size, 3]),
                tf.ensure_shape(valid, [batch_size]))

    return in_parallel(tf.data.Dataset.range(0, count, batch_size), shaped, workers)


def read_in_order(images, size, batch_size, workers, grayscale):
    """Run `get_ordered_loader`: yields indices [n] and images uint8 [n, S, S, 3] of each batch, the valid ones only."""
    with tf.Graph().as_default(), tf1.Session(config=tf1.ConfigProto(device_count={"GPU": 0})) as session:
        iterator = tf1.data.make_initializable_iterator(
            get_ordered_loader(images, size, batch_size, workers, grayscale))
        element = iterator.get_next()
        session.run(iterator.initializer)
        with contextlib.suppress(tf.errors.OutOfRangeError):
            while True:
                indices, batch, valid = session.run(element)
                if valid.any():
                    yield indices[valid], batch[valid]


def training_batches(image_sets, size, batch_size, seed, stream, start, workers, grayscale):
    """Dataset from batch `start` on: indices int64 [B], then uint8 [B, S, S, 3] of each of `image_sets`."""
    count = len(image_sets[0].names)
    broken = set()

    def decode(indices):
        rows = [load_good_row(image_sets, index, size, grayscale, broken) for index in indices]
        used, images = zip(*rows)
        return np.array(used), *(np.stack(column) for column in zip(*images))

    def shaped(step):
        positions = step * batch_size + tf.range(batch_size, dtype=tf.int64)
        indices, *batches = tf.numpy_function(
            decode, [shuffled(positions, count, seed, stream)], [tf.int64] + [tf.uint8] * len(image_sets), stateful=False)
        return (tf.ensure_shape(indices, [batch_size]),
                *(tf.ensure_shape(batch, [batch_size, size, size, 3]) for batch in batches))

    return in_parallel(tf.data.Dataset.range(tf.cast(start, tf.int64), tf.int64.max), shaped, workers)


def in_parallel(dataset, function, workers):
    """`function` of every element of `dataset`, `workers` at a time, in order."""
    options = tf.data.Options()
    options.autotune.enabled = False    # there is nothing to tune, and closing a session may wait 40 s for the tuner
    return dataset.map(function, num_parallel_calls=workers, deterministic=True).prefetch(PREFETCH).with_options(options)


def shuffled(positions, count, seed, stream):
    """The index of the image at each of `positions` [n] int64 -> [n] int64: one permutation of 0..count-1 per epoch.

    Positions e*count..(e+1)*count-1 are epoch e. Its permutation depends on `seed`, `stream` and e alone.
    """
    epochs = tf.cast(positions // count, tf.uint32)
    seeds = tf.stack([tf.fill(tf.shape(epochs), tf.constant(word, tf.uint32)) for word in (seed % 2**32, stream)]
                     + [epochs], axis=1)
    # The raw operation: the Python wrapper refuses a seed per index.
    return tf.raw_ops.RandomIndexShuffle(
        index=positions % count, seed=seeds, max_index=tf.constant(count - 1, tf.int64), rounds=ROUNDS)


def load_good_row(image_sets, index, size, grayscale, broken):
    """The first index from `index` on, round the list, whose image can be decoded in each set, and those images."""
    count = len(image_sets[0].names)
    for offset in range(count):
        candidate = (index + offset) % count
        images = load_row(image_sets, candidate, size, grayscale, broken)
        if images:
            return candidate, images
    raise BrokenImage(f"{image_sets[0].root}: none of its {count} images can be decoded any more")


def load_row(image_sets, index, size, grayscale, broken):
    """The image number `index` of each set, a list of uint8 [S, S, 3], or None when one of them is broken.

    A broken one is named in a warning, once: `broken` holds the indices that were.
    """
    try:
        return [load_image(os.path.join(part.root, part.names[index]), size, grayscale) for part in image_sets]
    except BrokenImage as error:
        if index not in broken:
            broken.add(index)
            logging.warning("broken image, skipped: %s", error)
        return None
