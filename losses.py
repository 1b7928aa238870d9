"""Loss terms and schedules. Every function takes tensors (or numbers) and returns the same; none creates a variable.

Symbols follow Gecer et al. 2018; images are [B, S, S, 3], embeddings [B, E], centroids [N, E].
"""
from typing import NamedTuple

import tensorflow as tf


def l1_per_example(a, b):
    """Mean absolute difference of `a` and `b` [B, S, S, 3] over each example -> [B]."""
    return tf.reduce_mean(tf.abs(a - b), axis=[1, 2, 3])


class BeganTerms(NamedTuple):
    """One discriminator's game, all scalars but the per-example `fake_each` [B]."""
    discriminator: tf.Tensor
    generator: tf.Tensor
    real: tf.Tensor
    balance: tf.Tensor
    fake_each: tf.Tensor


def began_terms(real, real_reconstruction, fake, fake_reconstruction, k, gamma):
    """Berthelot et al. 2017, sec. 3.4: L(real) - k L(fake) for D, L(fake) for G; gamma L(real) - L(fake) moves k."""
    real_loss = tf.reduce_mean(l1_per_example(real_reconstruction, real))
    fake_each = l1_per_example(fake_reconstruction, fake)
    fake_loss = tf.reduce_mean(fake_each)
    return BeganTerms(real_loss - k * fake_loss, fake_loss, real_loss, gamma * real_loss - fake_loss, fake_each)


class PairedTerms(NamedTuple):
    """The supervised game against the cycle loss, all scalars."""
    generator: tf.Tensor
    balance: tf.Tensor
    real: tf.Tensor


def paired_terms(fitted, rendering, cycle_loss, k, gamma):
    """Gecer et al. 2018: the error of `fitted` = G_inv(photo) to its `rendering`, against the cycle loss."""
    real = tf.reduce_mean(l1_per_example(fitted, rendering))
    return PairedTerms(real - k * cycle_loss, gamma * real - cycle_loss, real)


def pixel_loss(photo, rendering, mask):
    """Mean over all values of |photo - rendering| where `mask` (0 or 1) says that there is a face."""
    return tf.reduce_mean(mask * tf.abs(photo - rendering))


def update_k(k, balance, lambda_k):
    """Berthelot et al. 2017, sec. 3.4: proportional control of k, kept within [0, 1]."""
    return tf.clip_by_value(k + lambda_k * balance, 0.0, 1.0)


def move_centroids(centroids, embeddings, labels, alfa):
    """Centroids after one step of (1 - alfa) towards every example's embedding (Wen et al. 2016), as a constant.

    Examples of one class add up, all seen from the old centroid. The sum is a product with the one-hot labels, so
    that it is deterministic on every device.
    """
    difference = (1 - alfa) * (tf.gather(centroids, labels) - embeddings)
    moves = tf.matmul(tf.one_hot(labels, centroids.shape[0]), difference, transpose_a=True)
    return tf.stop_gradient(centroids - moves)


def magnet_loss(embeddings, labels, centroids):
    """Set-based loss of Gecer et al. 2018 (after Rippel et al. 2016, magnet loss) -> per example [B].

    The batch's variance, sum of squared distances / (B - 1), is squared once more in the exponent, as in the
    authors' code. For B = 1 it is infinite: the loss is the constant 1 + log(N - 1) and pulls nothing.
    """
    cost = tf.reduce_sum(tf.math.squared_difference(centroids[None], embeddings[:, None]), -1)      # [B, N]
    own = tf.one_hot(labels, centroids.shape[0])
    intra = tf.reduce_sum(own * cost, 1)                                                            # [B]
    freedom = tf.cast(tf.size(labels) - 1, tf.float32)
    weight = -0.5 * tf.square(freedom / tf.maximum(tf.reduce_sum(intra), 1e-8))             # -1 / (2 variance^2)
    numerator = tf.exp(weight * intra - 1)
    denominator = tf.reduce_sum((1 - own) * tf.exp(weight * cost), 1)
    return tf.nn.relu(-tf.math.log(numerator / (denominator + 1e-8) + 1e-8))


def center_loss(embeddings, labels, centroids):
    """Mean squared difference to the own centroid (Wen et al. 2016) -> per example [B]."""
    return tf.reduce_mean(tf.math.squared_difference(embeddings, tf.gather(centroids, labels)), 1)


def softmax_loss(logits, labels):
    """Cross-entropy of `logits` [B, N] -> per example [B]."""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)


def halvings(step, update_step):
    """How often the learning rate was halved before the (0-based) `step` runs.

    It happens at the end of step n where n % u == u - 1 (or u < 1); the interval u starts at `update_step` and is
    itself halved each time.
    """
    count, done, interval = 0, 0, update_step
    while interval >= 1:
        event = done + (interval - 1 - done) % interval
        if event >= step:
            return count
        count, done, interval = count + 1, event + 1, interval // 2
    return count + step - done


def learning_rate(step, base, lower, update_step, warm_up=0, factor=1):
    """Learning rate of the (0-based) `step`: `base`, halved on schedule, but not below `lower`.

    With `factor` towers it rises over `warm_up` steps from `base` to `factor * base` (Goyal et al. 2017).
    """
    rate = base * (1 + (factor - 1) * (min(1.0, step / warm_up) if warm_up else 1.0))
    return max(rate * 0.5 ** min(halvings(step, update_step), 60), min(lower, rate))


def identity_weight(step, base, upper, update_step):
    """Weight of the identity loss at `step`: doubled whenever the learning rate is halved, up to `upper`."""
    return min(base * 2.0 ** min(halvings(step, update_step), 60), max(base, upper))


def classifier_rate(step, epoch_size, table, decay_epochs, factor):
    """Learning rate of the (0-based) `step` of a classifier's training, as in FaceNet's trainer.

    `table` lists (epoch, rate) in ascending order: a rate holds from its epoch on, where the first epoch is 1 (before
    the first of the table, the first rate). It is multiplied by `factor` after every `decay_epochs` epochs.
    """
    epoch = step // epoch_size + 1
    rate = next((rate for first, rate in reversed(table) if first <= epoch), table[0][1])
    return rate * factor ** (step // (decay_epochs * epoch_size))
