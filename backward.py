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
    first = layers[0]
    *upstream, directly = _gradients(loss, [layer.output for layer in layers] + [fake], stop=[first.output])
    through = _gradients(first.product(fake), [fake], tf.split(upstream[0], 2)[0])[0]
    by_variables = [by for layer, gradient in zip(layers, upstream) for by in _by_variables(layer, gradient, k)]
    return directly + through, by_variables


def _by_variables(layer, upstream, k):
    """The gradients by a layer's weights and biases, given that of `loss` by its output [2B, ...].

    The biases' is one sum over the weighted batch, as in the original: halves summed apart are rounded otherwise, by
    more than 1e-4. Where an output is smaller than the weights, theirs is such a sum too, which is then the faster one.
    """
    half = tf.ones([tf.shape(upstream)[0] // 2] + [1] * (upstream.shape.rank - 1))
    weighted = tf.concat([-k * half, half], 0) * upstream
    if upstream.shape[1:].num_elements() <= layer.weights.shape.num_elements():
        return _gradients(layer.output, [layer.weights, layer.biases], weighted)
    fake, real = (_gradients(layer.product(x), [layer.weights], gradient)[0]
                  for x, gradient in zip(tf.split(layer.input, 2), tf.split(upstream, 2)))
    return [real - k * fake] + _gradients(layer.output, [layer.biases], weighted)


def _gradients(ys, xs, upstream=None, stop=None):
    """`tf.gradients`, each on the device of what it is the gradient of."""
    return tf1.gradients(ys, xs, upstream, colocate_gradients_with_ops=True, stop_gradients=stop)
