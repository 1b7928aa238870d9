"""A classifier at work: embeddings of a folder's images, by a network, at random or trained, or as bare pixels."""
import contextlib
from typing import NamedTuple

import numpy as np
import tensorflow as tf

import data_loader
import utils
from datasets.image_sets import ImageSet
from engine.layers import to_network
from recognition import facenet

tf1 = tf.compat.v1

PIXELS = 32                     # side of the image that stands for itself


class Recipe(NamedTuple):
    """From an image to its embedding: the side it is read at, the side and standardisation of the network's input, and
    the network; `flipped` appends the embedding of the mirrored image."""
    size: int
    image_size: int
    standardization: str
    model_def: str
    embedding_size: int
    flipped: bool = False


class Embedder:
    """The part of a graph that embeds, always `batch_size` images at a time. To be built within that graph.

    `compute(images)` gives [B, E] of images [B, S, S, 3] in [-1, 1].
    """

    def __init__(self, recipe, batch_size, compute=None):
        self.recipe, self.batch_size = recipe, batch_size
        compute = compute or self._network
        with tf1.name_scope("embedder"):
            self.images = tf1.placeholder(tf.uint8, [batch_size, recipe.size, recipe.size, 3])
            x = to_network(self.images)
            parts = [compute(x), compute(tf.reverse(x, [2]))] if recipe.flipped else [compute(x)]
            self.embeddings = tf.concat(parts, 1)

    def _network(self, x):
        r = self.recipe
        crops = facenet.preprocess(x, r.image_size, standardization=r.standardization)
        return facenet.embed(crops, r.model_def, r.embedding_size)[1]

    def embed_all(self, session, root, names, workers):
        """Embeddings [n, E] of the images `names` in `root`. Raises UserError where one can't be decoded."""
        found = np.zeros([len(names), self.embeddings.shape[1]], np.float32)
        done = 0
        images = ImageSet(root, names)
        with contextlib.closing(data_loader.read_in_order(
                images, self.recipe.size, self.batch_size, workers, False)) as batches:
            for indices, batch in batches:
                fill = self.batch_size - len(batch)
                padded = np.concatenate([batch, np.repeat(batch[-1:], fill, 0)])
                found[indices] = session.run(self.embeddings, {self.images: padded})[:len(batch)]
                done += len(indices)
        if done < len(names):
            raise utils.UserError(f"{root}: {len(names) - done} images of its pairs can't be decoded; replace them")
        return found


def bare_pixels(x):
    """The baseline that knows nothing: standardised pixels, at a side of 32, of crops [B, S, S, 3], scaled to length 1."""
    small = facenet.preprocess(x, PIXELS)
    return tf.nn.l2_normalize(tf.reshape(small, [-1, PIXELS * PIXELS * 3]), 1)
