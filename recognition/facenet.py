"""The identity classifier's networks, frozen or in training, whose variables have FaceNet's names.

The networks are Inception-ResNet-v1, NN4 and a small one of this project. A network turns an image into its bottleneck,
a vector of numbers; scaled to length 1, that is the image's embedding. Embeddings of one person lie close together.
"""
import contextlib
from typing import NamedTuple

import tensorflow as tf

from engine import layers
from recognition import registry

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


# From crops to the network's input

def preprocess(x, input_size, offset=None, flips=None, standardization="image"):
    """Turn crops `x` [B, S, S, 3] in [-1, 1] into a network's input [B, input_size, input_size, 3].

    Each crop is cut to the window of `registry.window_of`, resized, and standardised. `offset` [2] int32 is the
    window's (top, left) in pixels for the whole batch, each below `registry.offsets_of(S)`; None: the window is in the
    centre. `flips` [B] bool says which images to mirror; None: no image. `standardization` is that of `standardize`.
    Resizing samples pixel i of the input at i * window / input_size, TF1's convention, as the original does.
    """
    size = x.shape[1]
    window = registry.window_of(size)
    x = _to_pixel_values(x)
    if window < size:
        top, left = [(size - window) // 2] * 2 if offset is None else tf.unstack(offset, 2)
        x = tf.image.crop_to_bounding_box(x, top, left, window, window)
    if window != input_size:
        x = tf1.image.resize_bilinear(x, [input_size] * 2, align_corners=False, half_pixel_centers=False)
    if flips is not None:
        x = tf.where(flips[:, None, None, None], tf.reverse(x, [2]), x)
    return standardize(x, standardization)


def augment(x, input_size, shifts, flips, angles, standardization="image"):
    """Preprocess crops `x` [B, S, S, 3] in [-1, 1] for a classifier's own training, each in its own way.

    `shifts` [B, 2] int32 moves each window from the centre by (down, right) pixels, see `registry.shifts_of`.
    `flips` [B] bool mirrors the window, and `angles` [B] turns it, in radians. Pixels beyond the crop's border are
    reflected. The result is [B, input_size, input_size, 3], standardised as `preprocess` does.
    Its gradient by `x` is not deterministic: use `preprocess` for images that a network made.
    """
    size = x.shape[1]
    window = registry.window_of(size)
    scale, middle = window / input_size, (window - 1) / 2
    down, right = tf.unstack(tf.cast(shifts, tf.float32) + (size - window) // 2 + middle, axis=1)
    across = tf.where(flips, -scale, scale)             # crop's pixels to the right, for each pixel of the input
    start = tf.where(flips, scale * (input_size - 1), 0.0) - middle             # where the first column lies
    sine, cosine = tf.sin(angles), tf.cos(angles)
    zeros = tf.zeros_like(angles)
    transform = tf.stack([cosine * across, -sine * scale, cosine * start + sine * middle + right,
                          sine * across, cosine * scale, sine * start - cosine * middle + down, zeros, zeros], 1)
    x = tf.raw_ops.ImageProjectiveTransformV3(
        images=_to_pixel_values(x), transforms=transform, output_shape=[input_size] * 2, fill_value=0.0,
        interpolation="BILINEAR", fill_mode="REFLECT")
    return standardize(x, standardization)


def standardize(x, standardization):
    """Standardise images `x` [B, H, W, 3] of pixel values in [0, 255] as a network expects them.

    With the `standardization` "image", each image gets mean 0 and standard deviation 1. With "fixed", it becomes
    (x - 127.5) / 128, which FaceNet's models of 2018 were trained with.
    """
    return (x - 127.5) / 128.0 if standardization == "fixed" else tf.image.per_image_standardization(x)


def _to_pixel_values(x):
    """Map `x` from [-1, 1] to [0, 255]; values beyond are clipped."""
    return tf.clip_by_value((x + 1.0) * 127.5, 0.0, 255.0)


# From the network's input to embeddings

def embed(images, architecture, dropout=None):
    """Embed standardised `images` [B, H, W, 3] with a registry.Architecture -> bottleneck, embeddings.

    Both are [B, E]; the embeddings are the bottleneck scaled to length 1. A second call uses the same variables.
    `dropout`, a layers.Dropout, acts on the pooled features before the bottleneck.
    Raises ValueError for a size that the network doesn't accept.
    """
    for size in images.shape[1:3]:
        problem = registry.image_size_problem(architecture.model_def, size)
        if problem:
            raise ValueError(problem)
    with tf1.variable_scope(architecture.scope, reuse=tf1.AUTO_REUSE):
        features = NETWORKS[architecture.model_def](images)
        if dropout and dropout.keep < 1:
            features = layers.dropout(features, dropout)
        with tf1.variable_scope("Bottleneck"):
            if architecture.model_def == "nn4":
                bottleneck = layers.dense(features, architecture.embedding_size)
            else:
                bottleneck = _batch_norm(layers.dense(features, architecture.embedding_size, bias=False))
    return bottleneck, tf.nn.l2_normalize(bottleneck, 1, 1e-10)


def logits(bottleneck, classes, scope="Logits"):
    """Score the `bottleneck` [B, E] for each class with a dense layer, the softmax head -> [B, classes].

    The head's variables are under `scope`, which lies outside the classifier's own scope.
    """
    with tf1.variable_scope(scope, reuse=tf1.AUTO_REUSE):
        return layers.dense(bottleneck, classes, initializer=tf1.truncated_normal_initializer(stddev=0.1))


def trained_variables(scope=registry.SCOPE):
    """List the variables under `scope` that gradient descent may change: all but the moving statistics.

    The published Inception-ResNet-v1 marks its moving statistics as trainable. So their names decide.
    """
    return [variable for variable in tf1.trainable_variables()
            if variable.name.startswith(scope + "/") and "/moving_" not in variable.name]


# Batch norm

_updates = []       # the list of the enclosing `batch_statistics`, if there is one


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


def _normalize(x, mean, variance, beta, gamma=None):
    """Apply batch norm (Ioffe, Szegedy 2015) to `x` [..., C]: (x - mean) / sqrt(variance + 0.001) * gamma + beta.

    `mean` and `variance` [C] are variables of moving statistics. In `batch_statistics`, those of `x` replace them.
    """
    if not _updates:
        return layers.frozen_batch_norm(x, mean, variance, beta, gamma)
    flat = x if x.shape.rank == 4 else x[:, None, None, :]
    normalised, batch_mean, batch_variance = tf1.nn.fused_batch_norm(
        flat, tf.ones_like(beta) if gamma is None else gamma, beta, epsilon=1e-3, is_training=True)
    count = tf.cast(tf.reduce_prod(tf.shape(flat)[:3]), tf.float32)
    # TensorFlow gives the variance with Bessel's factor, count / (count - 1); the moving one is without.
    _updates[-1] += [(mean, batch_mean), (variance, batch_variance * (count - 1) / count)]
    return tf.reshape(normalised, tf.shape(x)) if x.shape.rank != 4 else normalised


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
    return _normalize(x, mean, variance, beta)


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
    return _normalize(x, mean, variance, beta, gamma)


# A network of this project, for CPUs and tests

def small(images):
    """Turn `images` [B, H, W, 3] into pooled features [B, 192] with less than a million weights."""
    x = images
    for i, filters in enumerate(_SMALL_FILTERS, 1):
        x = _conv(x, f"Conv2d_{i}", filters, 3, 2)                                 # [B, H / 2^i, W / 2^i, filters]
    return tf.reduce_mean(x, [1, 2])                                               # [B, 192]


NETWORKS = {"inception_resnet_v1": inception_resnet_v1, "nn4": nn4, "small": small}
