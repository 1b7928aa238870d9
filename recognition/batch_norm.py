"""Batch norm of classifiers: with moving statistics that stay, or in a training with those of the batch."""
import contextlib

import tensorflow as tf

from engine import layers

tf1 = tf.compat.v1

EPSILON = 1e-3          # of FaceNet's networks

_updates = []           # the list of the enclosing `batch_statistics`, if there is one


@contextlib.contextmanager
def batch_statistics():
    """Let networks that are built in this context normalise with the statistics of their batch.

    The statistics are those over all axes but the last. Yields a list that fills with pairs of variables of moving
    statistics and their values [C] in this batch: the caller has to move the former towards the latter.
    """
    _updates.append([])
    try:
        yield _updates[-1]
    finally:
        _updates.pop()


def normalize(x, mean, variance, beta, gamma=None, epsilon=EPSILON):
    """Apply batch norm (Ioffe, Szegedy 2015) to `x` [..., C]: (x - mean) / sqrt(variance + epsilon) * gamma + beta.

    `mean` and `variance` [C] are variables of moving statistics. In `batch_statistics`, those of `x` replace them.
    """
    if not _updates:
        return layers.frozen_batch_norm(x, mean, variance, beta, gamma, epsilon)
    flat = x if x.shape.rank == 4 else x[:, None, None, :]
    normalised, batch_mean, batch_variance = tf1.nn.fused_batch_norm(
        flat, tf.ones_like(beta) if gamma is None else gamma, beta, epsilon=epsilon, is_training=True)
    count = tf.cast(tf.reduce_prod(tf.shape(flat)[:3]), tf.float32)
    # TensorFlow gives the variance with Bessel's factor, count / (count - 1); the moving one is without.
    _updates[-1] += [(mean, batch_mean), (variance, batch_variance * (count - 1) / count)]
    return tf.reshape(normalised, tf.shape(x)) if x.shape.rank != 4 else normalised
