"""Classifiers whose variables have FaceNet's names: Inception-ResNet-v1, NN4 and a small one of this project."""
from typing import NamedTuple

import tensorflow as tf

from engine import layers
from recognition.batch_norm import normalize

tf1 = tf.compat.v1

_SMALL_FILTERS = (32, 64, 128, 256, 192)         # of the convolutions of `small`


class _Nn4Module(NamedTuple):
    """An inception module of NN4: the filters of its branches. A branch that is None is not there."""
    name: str
    direct: int | None              # filters of the 1x1 branch
    three: tuple                    # filters of the 3x3 branch: of its 1x1 reduction, and of its 3x3 convolution
    five: tuple | None              # filters of the 5x5 branch, likewise
    projection: int | None          # filters of the 1x1 convolution after the pooling; None: pooling alone
    stride: int = 1                 # of the 3x3 and 5x5 convolutions and of the pooling


_NN4_MODULES = (
    _Nn4Module("incept3a", 64, (96, 128), (16, 32), 32),
    _Nn4Module("incept3b", 64, (96, 128), (32, 64), 64),
    _Nn4Module("incept3c", None, (128, 256), (32, 64), None, 2),
    _Nn4Module("incept4a", 256, (96, 192), (32, 64), 128),
    _Nn4Module("incept4b", 224, (112, 224), (32, 64), 128),
    _Nn4Module("incept4c", 192, (128, 256), (32, 64), 128),
    _Nn4Module("incept4d", 160, (144, 288), (32, 64), 128),
    _Nn4Module("incept4e", None, (160, 256), (64, 128), None, 2),
    _Nn4Module("incept5a", 384, (192, 384), None, 128),
    _Nn4Module("incept5b", 384, (192, 384), None, 128))


def bottleneck(images, architecture, dropout):
    """Turn standardised `images` [B, H, W, 3] into the bottleneck [B, E] of a registry.Architecture.

    `dropout`, a layers.Dropout or None, acts on the pooled features.
    """
    features = NETWORKS[architecture.model_def](images)
    if dropout and dropout.keep < 1:
        features = layers.dropout(features, dropout)
    with tf1.variable_scope("Bottleneck"):
        if architecture.model_def == "nn4":
            return layers.dense(features, architecture.embedding_size)
        return _batch_norm(layers.dense(features, architecture.embedding_size, bias=False))


# Inception-ResNet-v1 (Szegedy et al. 2016, as in FaceNet)

def inception_resnet_v1(images):
    """Turn `images` [B, H, W, 3] into pooled features [B, 1792].

    The shapes on the right are those for images of 96 x 96 pixels.
    """
    x = _conv(images, "Conv2d_1a_3x3", 32, 3, 2, "VALID")                          # [B, 47, 47, 32]
    x = _conv(x, "Conv2d_2a_3x3", 32, 3, 1, "VALID")                               # [B, 45, 45, 32]
    x = _conv(x, "Conv2d_2b_3x3", 64, 3)                                           # [B, 45, 45, 64]
    x = tf.nn.max_pool2d(x, 3, 2, "VALID")                                         # [B, 22, 22, 64]
    x = _conv(x, "Conv2d_3b_1x1", 80, 1)                                           # [B, 22, 22, 80]
    x = _conv(x, "Conv2d_4a_3x3", 192, 3, 1, "VALID")                              # [B, 20, 20, 192]
    x = _conv(x, "Conv2d_4b_3x3", 256, 3, 2, "VALID")                              # [B, 9, 9, 256]
    for i in range(1, 6):
        x = tf.nn.relu(_block35(x, f"Repeat/block35_{i}", 0.17))                   # [B, 9, 9, 256]
    x = _mixed_6a(x)                                                               # [B, 4, 4, 896]
    for i in range(1, 11):
        x = tf.nn.relu(_block17(x, f"Repeat_1/block17_{i}", 0.10))                 # [B, 4, 4, 896]
    x = _mixed_7a(x)                                                               # [B, 1, 1, 1792]
    for i in range(1, 6):
        x = tf.nn.relu(_block8(x, f"Repeat_2/block8_{i}", 0.20))                   # [B, 1, 1, 1792]
    x = _block8(x, "Block8", 1.0)                                                  # [B, 1, 1, 1792]
    return tf.reduce_mean(x, [1, 2])                                               # [B, 1792]


def _block35(x, name, scale):
    """Apply the residual block of 35 x 35 pixels, if the network's input has 299; `x` keeps its shape."""
    return _residual(
        x, name, scale,
        [("Conv2d_1x1", 32, 1)],
        [("Conv2d_0a_1x1", 32, 1), ("Conv2d_0b_3x3", 32, 3)],
        [("Conv2d_0a_1x1", 32, 1), ("Conv2d_0b_3x3", 32, 3), ("Conv2d_0c_3x3", 32, 3)])


def _block17(x, name, scale):
    """Apply the residual block of 17 x 17 pixels, if the network's input has 299; `x` keeps its shape."""
    return _residual(
        x, name, scale,
        [("Conv2d_1x1", 128, 1)],
        [("Conv2d_0a_1x1", 128, 1), ("Conv2d_0b_1x7", 128, (1, 7)), ("Conv2d_0c_7x1", 128, (7, 1))])


def _block8(x, name, scale):
    """Apply the residual block of 8 x 8 pixels, if the network's input has 299; `x` keeps its shape."""
    return _residual(
        x, name, scale,
        [("Conv2d_1x1", 192, 1)],
        [("Conv2d_0a_1x1", 192, 1), ("Conv2d_0b_1x3", 192, (1, 3)), ("Conv2d_0c_3x1", 192, (3, 1))])


def _mixed_6a(x):
    """Apply reduction A to `x` [B, H, W, 256] -> [B, (H-1)//2, (W-1)//2, 896]."""
    with tf1.variable_scope("Mixed_6a"):
        return tf.concat(_branches(
            x,
            [("Conv2d_1a_3x3", 384, 3, 2, "VALID")],
            [("Conv2d_0a_1x1", 192, 1), ("Conv2d_0b_3x3", 192, 3), ("Conv2d_1a_3x3", 256, 3, 2, "VALID")],
        ) + [tf.nn.max_pool2d(x, 3, 2, "VALID")], 3)


def _mixed_7a(x):
    """Apply reduction B to `x` [B, H, W, 896] -> [B, (H-1)//2, (W-1)//2, 1792]."""
    with tf1.variable_scope("Mixed_7a"):
        return tf.concat(_branches(
            x,
            [("Conv2d_0a_1x1", 256, 1), ("Conv2d_1a_3x3", 384, 3, 2, "VALID")],
            [("Conv2d_0a_1x1", 256, 1), ("Conv2d_1a_3x3", 256, 3, 2, "VALID")],
            [("Conv2d_0a_1x1", 256, 1), ("Conv2d_0b_3x3", 256, 3), ("Conv2d_1a_3x3", 256, 3, 2, "VALID")],
        ) + [tf.nn.max_pool2d(x, 3, 2, "VALID")], 3)


def _residual(x, name, scale, *branches):
    """Add the outputs of `branches` to `x` [B, H, W, C], times `scale` -> [B, H, W, C].

    The outputs are concatenated and projected linearly to C channels first. A branch is one as in `_branches`.
    """
    with tf1.variable_scope(name):
        mixed = tf.concat(_branches(x, *branches), 3)
        with tf1.variable_scope("Conv2d_1x1"):
            return x + scale * layers.add_bias(layers.conv2d(mixed, x.shape[-1], 1))


def _branches(x, *branches):
    """Apply each of `branches` to `x` [B, H, W, C] -> a list of their outputs.

    A branch is a chain: a list of the arguments of `_conv`, from the name on, of one convolution after another.
    """
    outputs = []
    for i, chain in enumerate(branches):
        with tf1.variable_scope(f"Branch_{i}"):
            output = x
            for arguments in chain:
                output = _conv(output, *arguments)
            outputs.append(output)
    return outputs


def _conv(x, name, filters, kernel, stride=1, padding="SAME"):
    """Apply convolution, batch norm and ReLU to `x` [B, H, W, C] -> [B, H', W', filters].

    `kernel` is a side or a (height, width) pair.
    """
    with tf1.variable_scope(name):
        return tf.nn.relu(_batch_norm(layers.conv2d(x, filters, kernel, stride, padding)))


def _batch_norm(x):
    """Apply batch norm without gamma to `x` [..., C]. Its variables have TF-Slim's names and `trainable` flags."""
    shape = [x.shape[-1]]
    with tf1.variable_scope("BatchNorm"):
        beta = layers.get_variable("beta", shape, tf1.zeros_initializer())
        mean = layers.get_variable("moving_mean", shape, tf1.zeros_initializer())
        variance = layers.get_variable("moving_variance", shape, tf1.ones_initializer())
    return normalize(x, mean, variance, beta)


# NN4 (Schroff et al. 2015, as in the FaceNet release of the time)

def nn4(images):
    """Turn `images` [B, H, W, 3] into pooled features [B, 896], where H and W are from 65 to 96.

    The shapes on the right are those for images of 96 x 96 pixels.
    """
    x = _nn4_conv(images, "conv1_7x7", 64, 7, 2)                                   # [B, 48, 48, 64]
    x = tf.nn.max_pool2d(x, 3, 2, "SAME")                                          # [B, 24, 24, 64]
    x = _nn4_conv(x, "conv2_1x1", 64, 1)                                           # [B, 24, 24, 64]
    x = _nn4_conv(x, "conv3_3x3", 192, 3)                                          # [B, 24, 24, 192]
    x = tf.nn.max_pool2d(x, 3, 2, "SAME")                                          # [B, 12, 12, 192]
    for module in _NN4_MODULES:
        x = _nn4_module(x, module)                                                 # [B, 3, 3, 896] at the end
    x = tf.nn.avg_pool2d(x, 3, 1, "VALID")                                         # [B, 1, 1, 896]
    return tf.squeeze(x, [1, 2])                                                   # [B, 896]


def _nn4_module(x, module):
    """Apply an _Nn4Module to `x` [B, H, W, C] -> its branches' outputs, concatenated in their order."""
    with tf1.variable_scope(module.name):
        outputs = [_nn4_conv(x, "branch1_1x1/conv1x1", module.direct, 1)] if module.direct else []
        for branch, kernel, filters in (("branch2_3x3", 3, module.three), ("branch3_5x5", 5, module.five)):
            if filters:
                reduced = _nn4_conv(x, f"{branch}/conv1x1", filters[0], 1)
                outputs.append(_nn4_conv(reduced, f"{branch}/conv{kernel}x{kernel}", filters[1], kernel, module.stride))
        pooled = tf.nn.max_pool2d(x, 3, module.stride, "SAME")
        outputs.append(_nn4_conv(pooled, "branch4_pool/conv1x1", module.projection, 1) if module.projection else pooled)
        return tf.concat(outputs, 3)


def _nn4_conv(x, name, filters, kernel, stride=1):
    """Apply convolution, batch norm, bias and ReLU to `x` [B, H, W, C] -> [B, H', W', filters].

    The convolution is SAME: H' is H / stride, rounded up, and W' likewise.
    """
    with tf1.variable_scope(name):
        x = _nn4_batch_norm(layers.conv2d(x, filters, kernel, stride))
        return tf.nn.relu(tf.nn.bias_add(x, layers.get_variable("biases", [filters], tf1.zeros_initializer())))


def _nn4_batch_norm(x):
    """Apply batch norm to `x` [B, H, W, C], with variables of the names in the published checkpoint.

    There the statistics are moving averages of moments, named after the operations that computed these.
    """
    shape = [x.shape[-1]]
    with tf1.variable_scope("batch_norm") as here:
        beta = layers.get_variable("batch_norm/beta", shape, tf1.zeros_initializer())
        gamma = layers.get_variable("batch_norm/gamma", shape, tf1.ones_initializer())
        mean, variance = (
            layers.get_variable(f"{here.name}/moments/{moment}/ExponentialMovingAverage", shape, start, trainable=False)
            for moment, start in (("Squeeze", tf1.zeros_initializer()), ("Squeeze_1", tf1.ones_initializer())))
    return normalize(x, mean, variance, beta, gamma)


# A network of this project, for CPUs and tests

def small(images):
    """Turn `images` [B, H, W, 3] into pooled features [B, 192] with less than a million weights."""
    x = images
    for i, filters in enumerate(_SMALL_FILTERS, 1):
        x = _conv(x, f"Conv2d_{i}", filters, 3, 2)                                 # [B, H / 2^i, W / 2^i, filters]
    return tf.reduce_mean(x, [1, 2])                                               # [B, 192]


NETWORKS = {"inception_resnet_v1": inception_resnet_v1, "nn4": nn4, "small": small}
