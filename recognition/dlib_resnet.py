"""The network of dlib's face recogniser: a residual network of 29 convolutions, from images to their bottleneck.

Its weights come from `dlib_file`, where the layer that follows each convolution has become a part of it.
"""
import tensorflow as tf

from engine import layers
from recognition import dlib_file

tf1 = tf.compat.v1


def bottleneck(images, architecture, dropout):
    """Turn `images` [B, 150, 150, 3], standardised as "dlib", into the bottleneck [B, E] of a registry.Architecture.

    `dropout`, a layers.Dropout or None, acts on the pooled features. The shapes on the right are those of dlib's plan.
    """
    plan = dlib_file.PLAN
    with tf1.variable_scope("Stem"):
        x = tf.nn.relu(_conv(images, plan.stem, 7, 2, "VALID"))                    # [B, 72, 72, 32]
    x = tf.nn.max_pool2d(x, 3, 2, "VALID")                                         # [B, 35, 35, 32]
    for number, (filters, down) in enumerate(plan.blocks, 1):
        with tf1.variable_scope(f"Block_{number}"):
            x = _block(x, filters, down)                                           # [B, 2, 2, 256] at the end
    features = tf.reduce_mean(x, [1, 2])                                           # [B, 256]
    if dropout and dropout.keep < 1:
        features = layers.dropout(features, dropout)
    with tf1.variable_scope("Bottleneck"):
        return layers.dense(features, architecture.embedding_size, bias=False)     # [B, 128]


def _block(x, filters, down):
    """Apply a residual block to `x` [B, H, W, C] -> [B, H, W, filters], or with `down` half as high and wide.

    A block that goes down pools its shortcut, and its first convolution is without padding.
    """
    with tf1.variable_scope("Conv_1"):
        branch = tf.nn.relu(_conv(x, filters, 3, 2 if down else 1, "VALID" if down else "SAME"))
    with tf1.variable_scope("Conv_2"):
        branch = _conv(branch, filters, 3, 1, "SAME")
    shortcut = tf.nn.avg_pool2d(x, 2, 2, "VALID") if down else x
    return tf.nn.relu(_add(shortcut, branch))


def _add(one, other):
    """Add two tensors [B, H, W, C] of different sides. The smaller one is followed by zeros, as in dlib.

    The result has the larger of the two sides along each axis.
    """
    sides = [max(pair) for pair in zip(one.shape[1:], other.shape[1:])]

    def grown(x):
        """Add zeros below, on the right, and as last channels."""
        missing = [side - here for side, here in zip(sides, x.shape[1:])]
        return tf.pad(x, [[0, 0], *([0, count] for count in missing)]) if any(missing) else x

    return grown(one) + grown(other)


def _conv(x, filters, kernel, stride, padding):
    """Convolve `x` [B, H, W, C] and add a bias -> [B, H', W', filters]."""
    return layers.add_bias(layers.conv2d(x, filters, kernel, stride, padding))
