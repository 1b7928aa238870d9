"""The other game: discriminators that judge patches by the hinge loss.

The discriminator is PatchGAN's (Isola et al. 2017, sec. 3.2.2 and appendix 6.1.2). It has spectral norm (Miyato et al.
2018) and no batch norm. The loss is that of Lim and Ye 2017. R1 is that of Mescheder et al. 2018, and feature matching
that of Wang et al. 2018.
"""
import tensorflow as tf

import losses
from engine import layers
from games.augmentation import augment, augment_pairs
from models import Network

tf1 = tf.compat.v1

SLOPE = .2                              # of a leaky ReLU below 0


class PatchDiscriminator(Network):
    """Judges whether patches of an image are real.

    `depth` convolutions of stride 2 and two of stride 1, all 4x4, see patches of 70 x 70 pixels at a depth of 3, of 34
    at 2, and of 16 at 1. The first has `filters` features. Each next one has twice as many, up to 4 times `filters`.
    Several depths are networks side by side. At further scales, the same is done to images of half the size. Each depth
    and scale has variables of its own. Those of the deepest network at the first scale have the scope `scale1`. Those
    of a network beside it whose depth is 1 have the scope `scale1_layers1`.
    """

    WEIGHTS = layers.WeightSpec(initializer=tf1.random_normal_initializer(0.0, 0.02), used_as=layers.spectral_norm)

    def __init__(self, name, filters, scales=1, depths=(3,), precision=tf.float32):
        """Choose `filters` of the first convolution, the number of `scales`, and the `depths`."""
        super().__init__(name, precision)
        self.filters, self.scales, self.depths = filters, scales, depths

    def __call__(self, images):
        """Judge `images` [B, S, S, 3] in [-1, 1] -> a list of verdicts [B, h, w, 1]. High is real.

        The list has the verdicts at each scale in turn, one for each depth.
        """
        return [outputs[-1] for outputs in self.run(images)]

    def run(self, images):
        """Run each network on `images` [B, S, S, 3] -> a list of the networks' outputs, in the order of `__call__`.

        The outputs of a network are a list: the features [B, h, w, C] after each convolution, and last its verdicts.
        """
        found = []
        with self.scope():
            for scale in range(self.scales):
                for depth in self.depths:
                    shallow = f"_layers{depth}" if depth < max(self.depths) else ""
                    with tf1.variable_scope(f"scale{scale + 1}{shallow}"):
                        found.append(self._run_one(images, depth))
                images = tf.nn.avg_pool2d(images, 2, 2, "SAME")
        return found

    def _run_one(self, x, depth):
        """Run the network of one scale and `depth` on images `x` [B, S, S, 3] -> its outputs, as `run` tells."""
        outputs = []
        for i in range(depth + 1):
            x = self._conv(f"conv{i + 1}", x, min(2 ** i, 4) * self.filters, stride=2 if i < depth else 1)
            x = tf.nn.leaky_relu(x, SLOPE)
            outputs.append(x)
        return outputs + [self._conv("verdict", x, 1, stride=1)]

    def _conv(self, name, x, filters, stride):
        with tf1.variable_scope(name):
            return layers.add_bias(layers.conv2d(x, filters, 4, stride, weights=self.WEIGHTS))


class Hinge:
    """The game of patch discriminators. Nothing balances the two players: the k's stay at 0."""

    balances = reconstructs = False
    matches_features = True

    def __init__(self, config):
        """Take the discriminators' shape, the augmentation and R1's weight from the options `config`."""
        self.config = config

    def discriminator(self, name, precision=tf.float32):
        """Make the discriminator `name`."""
        config = self.config
        depths = [int(depth) for depth in config.d_layers.split(",")]
        return PatchDiscriminator(name, config.conv_hidden_num, config.d_scales, depths, precision)

    @staticmethod
    def score(discriminator, x):
        """Compute the d_score [B] of images `x` [B, S, S, 3]: minus the mean verdict. It is low for real ones."""
        return losses.verdict_per_example(discriminator(x))

    @staticmethod
    def match_features(discriminator, made, wanted):
        """Compute the feature matching loss of images `made` and `wanted`, [B, S, S, 3] -> scalar."""
        return losses.feature_matching_loss(*(
            [features for outputs in discriminator.run(images) for features in outputs[:-1]]
            for images in (made, wanted)))

    def seen_pairs(self, photos, renderings, chance):
        """Change paired `photos` and `renderings` [B, S, S, 3] as --augment says, for G and G_inv to learn from."""
        return augment_pairs(photos, renderings, self.config.augment, chance)

    def play(self, discriminator, images, k, gradients, chance):
        """Build the losses.Game of `discriminator` on `images` [2B, S, S, 3], B fake ones and then B real ones.

        Without `gradients`, the game ends with its losses. `chance`, a layers.Dropout, seeds the augmentation, which
        treats the i-th fake image as the i-th real one. There is no use for `k`.
        """
        del k
        seen = augment(images, self.config.augment, chance)
        verdicts = discriminator(seen)
        by_image = [tf.split(each, 2) for each in verdicts]
        terms = losses.hinge_terms([each[0] for each in by_image], [each[1] for each in by_image])
        if self.config.r1:
            terms = terms._replace(discriminator=terms.discriminator + self.config.r1 / 2 * slope_at_real(
                seen, [each[1] for each in by_image]))
        if not gradients:
            return losses.Game(terms, None, None)
        by_fake = tf.split(_gradients(terms.generator, [images])[0], 2)[0]
        return losses.Game(terms, by_fake, _gradients(terms.discriminator, discriminator.variables))


def slope_at_real(seen, verdicts):
    """Compute R1: the mean squared length of a gradient by the real images.

    It is the gradient of the sum, over all networks, of an image's mean verdict. `verdicts` are those on the real
    images, a [B, h, w, 1] of each network. `seen` [2B, S, S, 3] are the fake and the real images that the
    discriminator saw.
    """
    total = tf.add_n([tf.reduce_sum(tf.reduce_mean(each, axis=[1, 2, 3])) for each in verdicts])
    return tf.reduce_mean(tf.reduce_sum(tf.square(tf.split(_gradients(total, [seen])[0], 2)[1]), axis=[1, 2, 3]))


def _gradients(ys, xs):
    """Call `tf.gradients`, with each gradient on the device of the operation that it belongs to."""
    return tf1.gradients(ys, xs, colocate_gradients_with_ops=True)
