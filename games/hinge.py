"""The other game: discriminators that judge patches by the hinge loss.

The discriminator is PatchGAN's (Isola et al. 2017, sec. 3.2.2). It has spectral norm (Miyato et al. 2018) and no batch
norm. The loss is that of Lim and Ye 2017. Augmentation is that of Zhao et al. 2020, R1 that of Mescheder et al. 2018.
"""
import tensorflow as tf

import losses
from engine import layers
from models import Network

tf1 = tf.compat.v1

SLOPE = .2                              # of a leaky ReLU below 0
SHIFT = .125                            # largest shift, as a share of the side
CUT = .5                                # side of the square that is cut out, as a share of the side
ZOOM = 2 ** .25                         # most that an image is enlarged or reduced in height, and in width
BRIGHTNESS, SATURATION, CONTRAST = .5, (0., 2.), (.5, 1.5)
# Counted on from the seed of a play, so that no two kinds of augmentation share their random numbers.
KINDS = "shift", "cut", "color", "zoom"


class PatchDiscriminator(Network):
    """Judges whether patches of an image are real.

    Three convolutions of stride 2 and two of stride 1, all 4x4, see patches of 70 x 70 pixels. The widths are w, 2w, 4w
    and 4w. At further scales, the same is done to images of half the size, with variables of their own.
    """

    WEIGHTS = layers.WeightSpec(initializer=tf1.random_normal_initializer(0.0, 0.02), used_as=layers.spectral_norm)

    def __init__(self, name, filters, scales=1, precision=tf.float32):
        """Choose `filters` of the first convolution, and the number of `scales`."""
        super().__init__(name, precision)
        self.filters, self.scales = filters, scales

    def __call__(self, images):
        """Judge `images` [B, S, S, 3] in [-1, 1] -> a list of verdicts [B, h, w, 1] of the scales. High is real."""
        verdicts = []
        with self.scope():
            for scale in range(self.scales):
                with tf1.variable_scope(f"scale{scale + 1}"):
                    verdicts.append(self._judge(images))
                images = tf.nn.avg_pool2d(images, 2, 2, "SAME")
        return verdicts

    def _judge(self, x):
        """Judge images `x` [B, S, S, 3] at one scale -> [B, h, w, 1]."""
        for i, (width, stride) in enumerate(((1, 2), (2, 2), (4, 2), (4, 1)), 1):
            x = tf.nn.leaky_relu(self._conv(f"conv{i}", x, width * self.filters, stride), SLOPE)
        return self._conv("verdict", x, 1, 1)

    def _conv(self, name, x, filters, stride):
        with tf1.variable_scope(name):
            return layers.add_bias(layers.conv2d(x, filters, 4, stride, weights=self.WEIGHTS))


class Hinge:
    """The game of patch discriminators. Nothing balances the two players: the k's stay at 0."""

    balances = reconstructs = False

    def __init__(self, config):
        """Take the discriminators' width and scales, the augmentation and R1's weight from the options `config`."""
        self.config = config

    def discriminator(self, name, precision=tf.float32):
        """Make the discriminator `name`."""
        return PatchDiscriminator(name, self.config.conv_hidden_num, self.config.d_scales, precision)

    @staticmethod
    def score(discriminator, x):
        """Compute the d_score [B] of images `x` [B, S, S, 3]: minus the mean verdict. It is low for real ones."""
        return losses.verdict_per_example(discriminator(x))

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
    """Compute R1: the mean squared length of the gradient of the `verdicts` on real images by these.

    `seen` [2B, S, S, 3] are the fake and the real images that the discriminator saw.
    """
    total = tf.add_n([tf.reduce_sum(tf.reduce_mean(each, axis=[1, 2, 3])) for each in verdicts])
    return tf.reduce_mean(tf.reduce_sum(tf.square(tf.split(_gradients(total, [seen])[0], 2)[1]), axis=[1, 2, 3]))


def _gradients(ys, xs):
    """Call `tf.gradients`, with each gradient on the device of the operation that it belongs to."""
    return tf1.gradients(ys, xs, colocate_gradients_with_ops=True)


# Augmentation

def augment(images, kinds, chance):
    """Change `images` [2B, S, S, 3], two halves of B, at random, by differentiable operations (Zhao et al. 2020).

    `kinds` are some of KINDS, with commas, or none: `shift` by up to an eighth of the side, `cut` out a square of half
    the side, change the `color`: brightness, saturation and contrast. `zoom`, which scales height and width, is from
    Karras et al. 2020 (appendix B). The second half is changed as the first.
    """
    for stream, kind in enumerate(KINDS):
        if kind in kinds.split(","):
            how = chance._replace(seed=chance.seed + [stream, 0])
            images = {"shift": _shift, "cut": _cut, "color": _change_colors, "zoom": _zoom}[kind](images, how)
    return images


def _random(images, count, how):
    """Draw `count` numbers in [0, 1) for each of the first half of `images` [2B, ...], twice -> [2B, count]."""
    drawn = layers.uniform_share(tf.stack([tf.shape(images)[0] // 2, count]), how)
    return tf.concat([drawn, drawn], 0)


def _shift(images, how):
    """Move each of `images` [B, S, S, 3] by whole pixels, and leave 0, which is grey, where nothing comes to lie."""
    side = int(images.shape[1])
    most = max(1, round(SHIFT * side))
    offsets = tf.cast(tf.floor(_random(images, 2, how) * (2 * most + 1)), tf.int32) - most        # [B, 2]
    places = tf.range(side)[None, :] + offsets[:, :, None]                                        # [B, 2, S]
    return _resample(images, tf.one_hot(places, side))


def _zoom(images, how):
    """Scale the height and the width of each of `images` [B, S, S, 3] about its centre, by two random factors.

    Pixels are interpolated linearly. What comes to lie outside is lost, and 0 is left where nothing comes to lie.
    """
    side = int(images.shape[1])
    factors = ZOOM ** (2 * _random(images, 2, how) - 1)                                           # [B, 2]
    pixels = tf.range(side, dtype=tf.float32)
    middle = (side - 1) / 2
    places = (pixels - middle)[None, None, :] * factors[:, :, None] + middle                      # [B, 2, S]
    return _resample(images, tf.nn.relu(1 - tf.abs(places[..., None] - pixels)))


def _resample(images, weights):
    """Make each row, and then each column, of `images` [B, S, S, 3] a sum of those there, with `weights` [B, 2, S, S].

    Products with matrices are used, since their gradients are deterministic on every device.
    """
    side = int(images.shape[1])
    for matrix in tf.unstack(weights, axis=1):
        images = tf.matmul(matrix, tf.reshape(images, [-1, side, side * 3]))
        images = tf.transpose(tf.reshape(images, [-1, side, side, 3]), [0, 2, 1, 3])
    return images


def _cut(images, how):
    """Set a square of each of `images` [B, S, S, 3] to 0, at a random place, which may be partly outside."""
    side = int(images.shape[1])
    half = CUT * side / 2
    centres = _random(images, 2, how) * side                                                      # [B, 2]
    inside = tf.abs(tf.range(side, dtype=tf.float32)[None, None] + .5 - centres[:, :, None]) < half       # [B, 2, S]
    rows, columns = tf.unstack(tf.cast(inside, tf.float32), axis=1)
    return images * (1 - rows[:, :, None, None] * columns[:, None, :, None])


def _change_colors(images, how):
    """Change brightness, saturation and contrast of each of `images` [B, S, S, 3]."""
    brightness, saturation, contrast = tf.split(_random(images, 3, how)[:, :, None, None], 3, axis=1)
    images += BRIGHTNESS * (2 * brightness - 1) / 2
    grey = tf.reduce_mean(images, axis=3, keepdims=True)
    images = grey + (images - grey) * (SATURATION[0] + (SATURATION[1] - SATURATION[0]) * saturation)
    middle = tf.reduce_mean(images, axis=[1, 2, 3], keepdims=True)
    return middle + (images - middle) * (CONTRAST[0] + (CONTRAST[1] - CONTRAST[0]) * contrast)
