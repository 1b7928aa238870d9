"""Graphs of what trained networks do: photos from renderings, renderings from photos, reconstructions of both."""
import tensorflow as tf

import losses
from engine import layers
from engine.layers import to_image, to_network

tf1 = tf.compat.v1


class SynthesisGraph:
    """Turns renderings into photos, N = `BATCH` at a time.

    The number is fixed, since a convolution may round differently for another one: an image must not depend on
    --batch_size. A caller feeds `renderings` uint8 [N, S, S, 3] and `seeds` int32 [N, 2], a dropout seed for each
    image. A caller runs `photos` uint8 [N, S, S, 3] and, in a graph with scores, the list `scores`: d_score [N],
    s_score [N] and, with a classifier, embeddings [N, E]. Renderings and photos are there as the networks see them
    too: `s` and `x` [N, S, S, 3] in [-1, 1].
    """

    BATCH = 16

    def __init__(self, networks, scores):
        config = networks.config
        with tf1.name_scope("synthesis"):
            size = config.input_scale_size
            self.renderings = tf1.placeholder(tf.uint8, [self.BATCH, size, size, 3])
            self.seeds = tf1.placeholder(tf.int32, [self.BATCH, 2])
            self.s = s = to_network(self.renderings)
            dropout = layers.Dropout(config.dropout_keep, self.seeds) if config.generation_dropout else None
            noise = layers.Dropout(1, self.seeds + [networks.BACKGROUND_STREAM, 0])
            self.x = x = networks.photos_of(s, dropout, noise)
            self.photos = to_image(x)
            self.scores = []
            if scores:
                self.scores += [networks.game.score(networks.D_forw, x),
                                losses.l1_per_example(networks.G_inv(x), s)]
                self.scores += [networks.embed(x)[1]] if networks.has_classifier else []


class FittingGraph:
    """Turns photos into renderings, N = `BATCH` at a time.

    A caller feeds `photos` uint8 [N, S, S, 3] and runs `renderings`, of the same shape. A caller that runs `error` [N],
    the mean absolute difference to the right renderings, feeds these as `annotations` uint8 [N, S, S, 3].
    """

    BATCH = 16

    def __init__(self, networks):
        size = networks.config.input_scale_size
        with tf1.name_scope("fitting"):
            self.photos, self.annotations = (tf1.placeholder(tf.uint8, [self.BATCH, size, size, 3]) for _ in range(2))
            fitted = networks.G_inv(to_network(self.photos))
            self.renderings = to_image(fitted)
            self.error = losses.l1_per_example(fitted, to_network(self.annotations))


class ReconstructionGraph:
    """Shows what both discriminators of a training see, and their reconstructions of it, N = `BATCH` rows at a time.

    A caller feeds `photos` uint8 [N, S, S, 3], and `renderings` and `seeds` of the SynthesisGraph that it is given. A
    caller runs `columns`, four pairs of an image and its reconstruction, uint8 [N, S, S, 3] each: of the photos and of
    generated photos by D_forw, of the renderings and of those made from the generated photos by D_back.
    """

    BATCH = SynthesisGraph.BATCH

    def __init__(self, networks, synthesis):
        self.renderings, self.seeds = synthesis.renderings, synthesis.seeds
        with tf1.name_scope("reconstruction"):
            self.photos = tf1.placeholder(tf.uint8, self.renderings.shape)
            seen = [(networks.D_forw, to_network(self.photos)), (networks.D_forw, synthesis.x),
                    (networks.D_back, synthesis.s), (networks.D_back, networks.G_inv(synthesis.x))]
            self.columns = [[to_image(images), to_image(discriminator(images))] for discriminator, images in seen]
