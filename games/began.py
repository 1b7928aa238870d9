"""BEGAN's game of a generator with an auto-encoder, whose reconstruction error tells real images from fake ones."""
import tensorflow as tf

import losses
from models import DiscriminatorCNN

tf1 = tf.compat.v1


class Began:
    """The game of Berthelot et al. 2017: the two players are balanced by a number k."""

    balances = True                 # whether the k's move
    reconstructs = True             # whether a discriminator makes an image of what it sees
    matches_features = False        # whether there is a feature matching loss

    def __init__(self, config):
        """Take `gamma` and the discriminators' widths from the options `config`."""
        self.config = config

    def discriminator(self, name, precision=tf.float32):
        """Make the discriminator `name`."""
        return DiscriminatorCNN(name, self.config.conv_hidden_num, self.config.z_num, precision)

    @staticmethod
    def score(discriminator, x):
        """Compute the d_score [B] of images `x` [B, S, S, 3], the reconstruction error. It is low for real ones."""
        return losses.l1_per_example(discriminator(x), x)

    @staticmethod
    def seen_pairs(photos, renderings, chance):
        """Leave pairs of `photos` and `renderings` [B, S, S, 3] as they are. There is no use for `chance`."""
        del chance
        return photos, renderings

    def play(self, discriminator, images, k, gradients, chance):
        """Build the losses.Game of `discriminator` on `images` [2B, S, S, 3], B fake ones and then B real ones.

        Without `gradients`, the game ends with its losses. There is no use for `chance`, since nothing here is random.
        """
        del chance
        fake, real = tf.split(images, 2)
        reconstruction, layers_called = discriminator.reconstruct(images)
        fake_reconstruction, real_reconstruction = tf.split(reconstruction, 2)
        terms = losses.began_terms(real, real_reconstruction, fake, fake_reconstruction, k, self.config.gamma)
        by_both = both_players(layers_called, fake, terms.real + terms.generator, k) if gradients else (None, None)
        return losses.Game(terms, *by_both, fake_reconstruction, real_reconstruction)


# One backward pass for both players

def both_players(layers_called, fake, loss, k):
    """Back-propagate both losses of a discriminator at once (Berthelot et al. 2017, sec. 3.4).

    `layers_called` are the `models.Layer`s of the discriminator's call on images [fake, real], as many of the one as of
    the other. `fake` [B, S, S, 3] are the first half, and `loss` is L(real) + L(fake).

    One pass gives the gradient of `loss` by each layer's output. On the fake half, this gradient is that of L(fake),
    which the generator minimises. The discriminator minimises L(real) - k L(fake). Its gradient differs by a factor of
    -k on the fake half. Each layer sums over examples when it forms its weight gradient. The factor -k is applied to
    the fake half at that moment. Nothing is divided by k, so k = 0 is exact.

    Returns the gradient of L(fake) by `fake`, and those of L(real) - k L(fake) by every variable in the layers' order.
    """
    first = layers_called[0]
    *upstream, directly = _gradients(loss, [layer.output for layer in layers_called] + [fake], stop=[first.output])
    through = _gradients(first.product(fake), [fake], tf.split(upstream[0], 2)[0])[0]
    by_variables = [by for layer, gradient in zip(layers_called, upstream) for by in _by_variables(layer, gradient, k)]
    return directly + through, by_variables


def _by_variables(layer, upstream, k):
    """Compute the gradients of L(real) - k L(fake) by a layer's weights and biases.

    `upstream` [2B, ...] is the gradient of L(real) + L(fake) by the layer's output. The gradient by the biases is one
    sum over both halves of the batch, as in the original: halves that are summed apart are rounded differently, by more
    than 1e-4. The gradient by the weights is such a sum too where an output has fewer numbers than the weights, since
    one sum is faster there.
    """
    half = tf.ones([tf.shape(upstream)[0] // 2] + [1] * (upstream.shape.rank - 1))
    weighted = tf.concat([-k * half, half], 0) * upstream
    if upstream.shape[1:].num_elements() <= layer.weights.shape.num_elements():
        return _gradients(layer.output, [layer.weights, layer.biases], weighted)
    fake, real = (_gradients(layer.product(x), [layer.weights], gradient)[0]
                  for x, gradient in zip(tf.split(layer.input, 2), tf.split(upstream, 2)))
    return [real - k * fake] + _gradients(layer.output, [layer.biases], weighted)


def _gradients(ys, xs, upstream=None, stop=None):
    """Call `tf.gradients`, with each gradient on the device of the operation that it belongs to."""
    return tf1.gradients(ys, xs, upstream, colocate_gradients_with_ops=True, stop_gradients=stop)
