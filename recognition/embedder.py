"""A classifier at work: embeddings of a folder's images by a network, or by the bare pixels as a baseline."""
import contextlib
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from data_loader import read_in_order, Reading
from datasets.image_sets import ImageSet
from engine import checkpoints
from engine.layers import to_network
from engine.session import session_options
from recognition import input_size, networks, pretrained, registry
from recognition.alignment import transforms_for
from recognition.preprocessing import place, preprocess

tf1 = tf.compat.v1

_BIN_SIZE = 112                         # side in pixels of the images in a .bin file
_BARE_SIZE = 32                         # side in pixels of the image that `bare_pixels` gives


class Recipe(NamedTuple):
    """How an image file becomes an embedding."""
    size: int                           # side S in pixels at which the crop is read
    view: input_size.View               # what the network sees of the crop
    architecture: registry.Architecture
    flipped: bool = False               # append the embedding of the mirrored image
    placed: bool = False                # place each crop by a transform of its own, see `alignment`
    scaled: bool = True                 # False: the bottleneck, which is not scaled to length 1


class Embedder:
    """Operations of a graph that embed always `batch_size` images at a time."""

    def __init__(self, recipe, batch_size, compute=None):
        """Add the operations of a Recipe to the current graph.

        `compute(crops)` embeds crops [B, S, S, 3] in [-1, 1] -> [B, E]. By default it is the network of the Recipe,
        and only that can be `placed`.
        """
        self._recipe, self._batch_size = recipe, batch_size
        compute = compute or self._network
        with tf1.name_scope("embedder"):
            self._images = tf1.placeholder(tf.uint8, [batch_size, recipe.size, recipe.size, 3])
            crops = to_network(self._images)
            self._transforms = tf1.placeholder(tf.float32, [batch_size, 8]) if recipe.placed else None
            if recipe.placed:
                views = [self._placed(crops, mirrored) for mirrored in (False, True)[:1 + recipe.flipped]]
            else:
                views = [compute(crops), compute(tf.reverse(crops, [2]))] if recipe.flipped else [compute(crops)]
            self._embeddings = tf.concat(views, 1)

    def _network(self, crops):
        """Embed `crops` [B, S, S, 3] by the Recipe's network -> [B, E]."""
        return self._embed(preprocess(crops, self._recipe.view))

    def _placed(self, crops, mirrored):
        """Embed `crops` [B, S, S, 3], each placed by its transform and perhaps `mirrored` -> [B, E]."""
        return self._embed(place(crops, self._recipe.view, self._transforms, mirrored))

    def _embed(self, inputs):
        """Embed what the network sees, `inputs` [B, s, s, 3] -> [B, E], scaled as the Recipe says."""
        bottleneck, embeddings = networks.embed(inputs, self._recipe.architecture)
        return embeddings if self._recipe.scaled else bottleneck

    def embed_all(self, session, root, names, workers, transforms=None):
        """Compute embeddings [n, E] of the images `names` in `root`, which `workers` threads decode.

        `transforms` [n, 8] place the images, where the Recipe asks for it.
        E is twice as long where the Recipe appends mirrored images. The embedding of an image that can't be decoded is
        nan; a warning names the image.
        """
        found = np.full([len(names), self._embeddings.shape[1]], np.nan, np.float32)
        reading = Reading(self._recipe.size, self._batch_size, workers)
        with contextlib.closing(read_in_order(ImageSet(root, names), reading)) as batches:
            for indices, batch in batches:
                found[indices] = self._run(session, batch, None if transforms is None else transforms[indices])
        return found

    def embed_arrays(self, session, images, transforms=None):
        """Compute embeddings [n, E] of `images` uint8 [n, S, S, 3], where S is the Recipe's size; see `embed_all`."""
        parts = [slice(start, start + self._batch_size) for start in range(0, len(images), self._batch_size)]
        return np.concatenate([self._run(session, images[part], None if transforms is None else transforms[part])
                               for part in parts])

    def _run(self, session, batch, transforms):
        """Embed a `batch` of images uint8 [n, S, S, 3], where n is at most the batch size -> [n, E]."""
        # The last batch may be short, and the graph accepts whole ones only.
        filling = np.repeat(batch[-1:], self._batch_size - len(batch), 0)
        feed = {self._images: np.concatenate([batch, filling])}
        if transforms is not None:
            feed[self._transforms] = np.resize(transforms, [self._batch_size, 8])
        return session.run(self._embeddings, feed)[:len(batch)]


@contextlib.contextmanager
def _embedding(recipe, options, weights):
    """Open a session with an Embedder of a Recipe, with a pretrained.Weights -> (session, Embedder) in a context."""
    with tf.Graph().as_default(), tf1.Session(config=session_options(options.use_gpu)) as session:
        tf1.set_random_seed(options.seed)
        network = Embedder(recipe, options.batch_size)
        variables = tf1.global_variables()
        checkpoints.assign(session, variables, pretrained.values_for(weights, variables, "--weights"), weights.source)
        yield session, network


def features_of_sets(options, weights, sets):
    """Compute the features of the images of several FacePairs with a pretrained.Weights -> {name: [n, 2 E]}.

    `sets` is {name: FacePairs} of .bin files, whose images are crops placed by five landmarks. A row has the
    bottleneck of the image and that of its mirror image; nan where the image can't be decoded.
    """
    view, found = pretrained.view_for(options, weights, "arcface"), {}
    with _embedding(Recipe(_BIN_SIZE, view, weights.architecture, flipped=True, scaled=False), options, weights) as (
            session, network):
        for name, pairs in sets.items():
            found[name] = network.embed_all(session, pairs.root, pairs.names, options.num_worker)
    return found


def bare_pixels(crops):
    """Embed `crops` [B, S, S, 3] in [-1, 1] as their own pixels -> [B, 3072].

    The pixels are those of 32 x 32 standardised images, scaled to length 1.
    """
    small = preprocess(crops, input_size.View(_BARE_SIZE))
    return tf.nn.l2_normalize(tf.reshape(small, [-1, _BARE_SIZE * _BARE_SIZE * 3]), 1)


def embed_pairs(options, weights, pairs, faces):
    """Embed the images of FacePairs with a pretrained.Weights -> {name: embeddings [n, E]}.

    Images with a landmarks.Face in `faces` {name: Face} are placed by it. The names are "classifier" and, with
    --baselines, "random network" and "bare pixels". The embedding of an image that can't be decoded is nan.
    """
    view = pretrained.view_for(options, weights, options.crop)
    recipe = Recipe(options.input_scale_size, view, weights.architecture, options.use_flipped_images, bool(faces))
    transforms = transforms_for(faces, pairs.names, weights.native, view, recipe.size) if faces else None
    images = pairs.root, pairs.names, options.num_worker
    with _embedding(recipe, options, weights) as (session, network):
        at_random = tf1.global_variables_initializer()
        found = {"classifier": network.embed_all(session, *images, transforms)}
        if options.baselines:
            session.run(at_random)
            found["random network"] = network.embed_all(session, *images, transforms)
            bare = Embedder(recipe._replace(placed=False), options.batch_size, bare_pixels)
            found["bare pixels"] = bare.embed_all(session, *images)
    return found
