"""One backward pass through a discriminator for both players: what it learns from its images, and its fakes from it."""
import tensorflow as tf

tf1 = tf.compat.v1


def both_players(layers, fakes, loss, k, variables):
    """Gradients of both losses of a discriminator (Berthelot et al. 2017, sec. 3.4), back-propagated once.

    The discriminator was called on images [fake, real], as many of each, once a tower; `layers` are the
    `models.Layer`s of all calls, `fakes` the fake images of each. `loss` is L(real) + L(fake). Up to any layer, the
    gradient of the fakes' own loss, L(fake), is that of `loss` on the fake half, and the gradient of the
    discriminator's loss, L(real) - k L(fake), is the same but for the factor -k there. Variables add up what comes
    from each image, so it is enough to weight that: exact for k = 0 too.

    Returns the gradients of L(fake) by each of `fakes` and those of L(real) - k L(fake) by each of `variables`.
    """
    outputs = [layer.output for layer in layers]
    upstream = tf1.gradients(loss, outputs + fakes, colocate_gradients_with_ops=True)
    by_outputs, by_fakes = upstream[:len(outputs)], upstream[len(outputs):]
    half = tf.ones([tf.shape(fakes[0])[0]])
    weights = tf.concat([-k * half, half], 0)                                           # [2 * B]
    weighted = [gradient * tf.reshape(weights, [-1] + [1] * (gradient.shape.rank - 1)) for gradient in by_outputs]
    by_variables = tf1.gradients(outputs, variables, weighted, colocate_gradients_with_ops=True,
                                 stop_gradients=[layer.input for layer in layers])
    return by_fakes, by_variables
