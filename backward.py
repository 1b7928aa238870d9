"""One backward pass through a discriminator for both players: what it learns from its images, and its fakes from it."""
import tensorflow as tf

tf1 = tf.compat.v1


def both_players(layers, fake, loss, k):
    """Gradients of both losses of a discriminator (Berthelot et al. 2017, sec. 3.4), back-propagated once.

    `layers` are the `models.Layer`s of its call on images [fake, real], as many of the one as of the other, `fake`
    [B, S, S, 3] are the first half, and `loss` is L(real) + L(fake). Down to any layer's output, the gradient of
    L(fake) is that of `loss` on the fake half, and the gradient of L(real) - k L(fake), which the discriminator
    minimises, is the same but for a factor of -k there. Its variables add up what comes from each image. So only these
    sums take the two halves apart: exact for k = 0 too.

    Returns the gradient of L(fake) by `fake`, and those of L(real) - k L(fake) by every variable in the layers' order.
    """
    *upstream, by_fake = _gradients(loss, [layer.output for layer in layers] + [fake])
    by_variables = [by(layer, gradient, k) for layer, gradient in zip(layers, upstream)
                    for by in (_by_weights, _by_biases)]
    return by_fake, by_variables


def _by_weights(layer, upstream, k):
    """The gradient by a layer's weights, given that of `loss` by its output [2B, ...]."""
    fake, real = (_gradients(layer.product(x), layer.weights, gradient)[0]
                  for x, gradient in zip(tf.split(layer.input, 2), tf.split(upstream, 2)))
    return real - k * fake


def _by_biases(layer, upstream, k):
    """The same by its biases, which the output may hold several times in a row.

    One sum over the weighted batch, as in the original: halves summed apart are rounded otherwise, by more than 1e-4.
    """
    half = tf.ones([tf.shape(upstream)[0] // 2] + [1] * (upstream.shape.rank - 1))
    total = tf.raw_ops.BiasAddGrad(out_backprop=tf.concat([-k * half, half], 0) * upstream)        # [repeats * C]
    return tf.reduce_sum(tf.reshape(total, [-1, layer.biases.shape[0]]), 0)


def _gradients(ys, xs, upstream=None):
    """`tf.gradients`, each on the device of what it is the gradient of."""
    return tf1.gradients(ys, xs, upstream, colocate_gradients_with_ops=True)
