"""The identity classifier: Inception-ResNet-v1, NN4 and a small network, frozen or in training, under FaceNet's names."""
import contextlib

import tensorflow as tf

from engine import layers
from recognition.input_size import image_size_problem

tf1 = tf.compat.v1

CROP_FROM = 96                                                    # smaller crops keep their border
SMALL_FILTERS = (32, 64, 128, 256, 192)

NN4_MODULES = (   # name, 1x1, (3x3 reduce, 3x3), (5x5 reduce, 5x5), pool projection, stride
    ("incept3a", 64, (96, 128), (16, 32), 32, 1),
    ("incept3b", 64, (96, 128), (32, 64), 64, 1),
    ("incept3c", None, (128, 256), (32, 64), None, 2),
    ("incept4a", 256, (96, 192), (32, 64), 128, 1),
    ("incept4b", 224, (112, 224), (32, 64), 128, 1),
    ("incept4c", 192, (128, 256), (32, 64), 128, 1),
    ("incept4d", 160, (144, 288), (32, 64), 128, 1),
    ("incept4e", None, (160, 256), (64, 128), None, 2),
    ("incept5a", 384, (192, 384), None, 128, 1),
    ("incept5b", 384, (192, 384), None, 128, 1))


# From crops to the network's input

def crop_size(size):
    """Side of the window that a classifier sees of a crop of side `size`: 96 of 108, all of a small one."""
    return round(size * 96 / 108) if size >= CROP_FROM else size


def crop_range(size):
    """Number of places per axis for the window in a crop of side `size`: offsets are 0 .. crop_range - 1."""
    return size - crop_size(size) + 1


def preprocess(x, input_size, offset=None, flips=None, standardization="image"):
    """Crops `x` [B, S, S, 3] in [-1, 1] to standardised images [B, input_size, input_size, 3].

    `offset` [2] int32 places the window (top, left) for the whole batch, below `crop_range(S)`; None: centrally.
    `flips` [B] bool says which images to mirror. Resizing has TF1's corner convention, as in the original.
    """
    size = x.shape[1]
    window = crop_size(size)
    x = _to_values(x)
    if window < size:
        top, left = [(size - window) // 2] * 2 if offset is None else tf.unstack(offset, 2)
        x = tf.image.crop_to_bounding_box(x, top, left, window, window)
    if window != input_size:
        x = tf1.image.resize_bilinear(x, [input_size] * 2, align_corners=False, half_pixel_centers=False)
    if flips is not None:
        x = tf.where(flips[:, None, None, None], tf.reverse(x, [2]), x)
    return standardize(x, standardization)


def shift_range(size):
    """(least, most) of the shift from the centre, in pixels, of a random window in a crop of side `size`.

    Where a crop has no border to spare, the window may reach a little beyond it.
    """
    left = (size - crop_size(size)) // 2
    reach = round(size / 18)
    return (-left, crop_range(size) - 1 - left) if left else (-reach, reach)


def augment(x, input_size, shifts, flips, angles, standardization="image"):
    """`preprocess` for the classifier's own training: each image is moved, mirrored and turned in its own way.

    `x` [B, S, S, 3] in [-1, 1]; `shifts` [B, 2] int32 moves the window from the centre (down, right; see
    `shift_range`), `angles` [B] turns it, in radians, and `flips` [B] bool mirrors it. What lies beyond the border is
    reflected. Not differentiable in a deterministic way: for images that no network made.
    """
    size = x.shape[1]
    window = crop_size(size)
    scale, middle = window / input_size, (window - 1) / 2
    down, right = tf.unstack(tf.cast(shifts, tf.float32) + (size - window) // 2 + middle, axis=1)
    sign = tf.where(flips, -scale, scale)                                          # of the way across, from `start` on
    start = tf.where(flips, scale * (input_size - 1), 0.0) - middle
    sine, cosine = tf.sin(angles), tf.cos(angles)
    zeros = tf.zeros_like(angles)
    transform = tf.stack([cosine * sign, -sine * scale, cosine * start + sine * middle + right,
                          sine * sign, cosine * scale, sine * start - cosine * middle + down, zeros, zeros], 1)
    x = tf.raw_ops.ImageProjectiveTransformV3(
        images=_to_values(x), transforms=transform, output_shape=[input_size] * 2, fill_value=0.0,
        interpolation="BILINEAR", fill_mode="REFLECT")
    return standardize(x, standardization)


def standardize(x, standardization):
    """Pixels `x` [B, H, W, 3] in 0..255 as a network expects them: "image", each image with mean 0 and deviation 1, or
    "fixed", (x - 127.5) / 128, as FaceNet's models of 2018."""
    return (x - 127.5) / 128.0 if standardization == "fixed" else tf.image.per_image_standardization(x)


def _to_values(x):
    """-1..1 to 0..255, clipped."""
    return tf.clip_by_value((x + 1.0) * 127.5, 0.0, 255.0)


# From the network's input to embeddings

def embed(images, model_def, embedding_size, scope="InceptionResnetV1", keep=1.0, seed=None, part=(0, 1)):
    """Embed standardised `images` [B, H, W, 3] with the network `model_def`; a second call shares the variables.

    Returns the bottleneck [B, E] and the embeddings [B, E], which are the bottleneck scaled to length 1.
    With `keep` < 1, dropout (`layers.dropout`, for `seed` and `part`) follows the pooling.
    Raises ValueError for a size that the network can't take.
    """
    for side in images.shape[1:3]:
        problem = image_size_problem(model_def, side)
        if problem:
            raise ValueError(problem)
    with tf1.variable_scope(scope, reuse=tf1.AUTO_REUSE):
        features = NETWORKS[model_def](images)
        if keep < 1:
            features = layers.dropout(features, keep, seed, part)
        with tf1.variable_scope("Bottleneck"):
            if model_def == "nn4":
                bottleneck = layers.dense(features, embedding_size)
            else:
                bottleneck = _batch_norm(layers.dense(features, embedding_size, bias=False))
    return bottleneck, tf.nn.l2_normalize(bottleneck, 1, 1e-10)


def logits(bottleneck, classes, scope="Logits"):
    """Scores [B, classes] of the softmax head `scope`, which lies outside the classifier's scope, on [B, E]."""
    with tf1.variable_scope(scope, reuse=tf1.AUTO_REUSE):
        return layers.dense(bottleneck, classes, initializer=tf1.truncated_normal_initializer(stddev=0.1))


def trained_variables(scope="InceptionResnetV1"):
    """The variables under `scope` that gradient descent may change: all but the moving statistics.

    The moving statistics of the published Inception-ResNet-v1 are marked trainable, hence the look at the names.
    """
    return [variable for variable in tf1.trainable_variables()
            if variable.name.startswith(scope + "/") and "/moving_" not in variable.name]


# Batch norm

_updates = []       # of the enclosing `batch_statistics`, at most one


@contextlib.contextmanager
def batch_statistics():
    """Networks built in this context normalise with the statistics of their batch, over all but the last axis.

    Yields a list that fills with (moving statistic, its value [C] in this batch): the caller has to move it there.
    """
    _updates.append([])
    try:
        yield _updates[-1]
    finally:
        _updates.pop()


def _normalize(x, mean, variance, beta, gamma=None):
    """Batch norm (Ioffe, Szegedy 2015) of `x` [..., C] with the variables `mean` and `variance` [C], or the batch's."""
    if not _updates:
        return layers.frozen_batch_norm(x, mean, variance, beta, gamma)
    flat = x if x.shape.rank == 4 else x[:, None, None, :]
    y, batch_mean, batch_variance = tf1.nn.fused_batch_norm(
        flat, tf.ones_like(beta) if gamma is None else gamma, beta, epsilon=1e-3, is_training=True)
    count = tf.cast(tf.reduce_prod(tf.shape(flat)[:3]), tf.float32)
    _updates[-1] += [(mean, batch_mean), (variance, batch_variance * (count - 1) / count)]     # without Bessel's factor
    return tf.reshape(y, tf.shape(x)) if x.shape.rank != 4 else y


# Inception-ResNet-v1 (Szegedy et al. 2016, as in FaceNet)

def inception_resnet_v1(images):
    """`images` [B, H, W, 3] to pooled features [B, 1792]; sizes on the right are those of an input of 96."""
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
    """Residual block at 35 x 35 of a 299-pixel input; keeps the shape of `x`, as do the next two."""
    return _residual(
        x, name, scale,
        [("Conv2d_1x1", 32, 1)],
        [("Conv2d_0a_1x1", 32, 1), ("Conv2d_0b_3x3", 32, 3)],
        [("Conv2d_0a_1x1", 32, 1), ("Conv2d_0b_3x3", 32, 3), ("Conv2d_0c_3x3", 32, 3)])


def _block17(x, name, scale):
    """Residual block at 17 x 17."""
    return _residual(
        x, name, scale,
        [("Conv2d_1x1", 128, 1)],
        [("Conv2d_0a_1x1", 128, 1), ("Conv2d_0b_1x7", 128, (1, 7)), ("Conv2d_0c_7x1", 128, (7, 1))])


def _block8(x, name, scale):
    """Residual block at 8 x 8."""
    return _residual(
        x, name, scale,
        [("Conv2d_1x1", 192, 1)],
        [("Conv2d_0a_1x1", 192, 1), ("Conv2d_0b_1x3", 192, (1, 3)), ("Conv2d_0c_3x1", 192, (3, 1))])


def _mixed_6a(x):
    """Reduction A: `x` [B, H, W, 256] -> [B, (H-1)//2, (W-1)//2, 896]."""
    with tf1.variable_scope("Mixed_6a"):
        return tf.concat(_branches(
            x,
            [("Conv2d_1a_3x3", 384, 3, 2, "VALID")],
            [("Conv2d_0a_1x1", 192, 1), ("Conv2d_0b_3x3", 192, 3), ("Conv2d_1a_3x3", 256, 3, 2, "VALID")],
        ) + [tf.nn.max_pool2d(x, 3, 2, "VALID")], 3)


def _mixed_7a(x):
    """Reduction B: `x` [B, H, W, 896] -> [B, (H-1)//2, (W-1)//2, 1792]."""
    with tf1.variable_scope("Mixed_7a"):
        return tf.concat(_branches(
            x,
            [("Conv2d_0a_1x1", 256, 1), ("Conv2d_1a_3x3", 384, 3, 2, "VALID")],
            [("Conv2d_0a_1x1", 256, 1), ("Conv2d_1a_3x3", 256, 3, 2, "VALID")],
            [("Conv2d_0a_1x1", 256, 1), ("Conv2d_0b_3x3", 256, 3), ("Conv2d_1a_3x3", 256, 3, 2, "VALID")],
        ) + [tf.nn.max_pool2d(x, 3, 2, "VALID")], 3)


def _residual(x, name, scale, *branches):
    """`x` [B, H, W, C] plus `scale` times a linear projection to C channels of the concatenated `branches`."""
    with tf1.variable_scope(name):
        mixed = tf.concat(_branches(x, *branches), 3)
        with tf1.variable_scope("Conv2d_1x1"):
            return x + scale * layers.conv2d(mixed, x.shape[-1], 1, bias=True)


def _branches(x, *branches):
    """Each branch's output for `x`; a branch is a chain of `_conv` arguments from the name on."""
    outputs = []
    for i, chain in enumerate(branches):
        with tf1.variable_scope(f"Branch_{i}"):
            y = x
            for arguments in chain:
                y = _conv(y, *arguments)
            outputs.append(y)
    return outputs


def _conv(x, name, filters, kernel, stride=1, padding="SAME"):
    """Convolution, batch norm, ReLU: `x` [B, H, W, C] -> [B, H', W', filters]."""
    with tf1.variable_scope(name):
        return tf.nn.relu(_batch_norm(layers.conv2d(x, filters, kernel, stride, padding)))


def _batch_norm(x):
    """Batch norm of `x` [..., C] without gamma, under TF-Slim's names and `trainable` flags."""
    shape = [x.shape[-1]]
    with tf1.variable_scope("BatchNorm"):
        beta = layers.get_variable("beta", shape, tf1.zeros_initializer())
        mean = layers.get_variable("moving_mean", shape, tf1.zeros_initializer())
        variance = layers.get_variable("moving_variance", shape, tf1.ones_initializer())
    return _normalize(x, mean, variance, beta)


# NN4 (Schroff et al. 2015, as in the FaceNet release of the time)

def nn4(images):
    """`images` [B, 96, 96, 3] to pooled features [B, 896]."""
    x = _nn4_conv(images, "conv1_7x7", 64, 7, 2)                                   # [B, 48, 48, 64]
    x = tf.nn.max_pool2d(x, 3, 2, "SAME")                                          # [B, 24, 24, 64]
    x = _nn4_conv(x, "conv2_1x1", 64, 1)                                           # [B, 24, 24, 64]
    x = _nn4_conv(x, "conv3_3x3", 192, 3)                                          # [B, 24, 24, 192]
    x = tf.nn.max_pool2d(x, 3, 2, "SAME")                                          # [B, 12, 12, 192]
    for module in NN4_MODULES:
        x = _nn4_module(x, *module)                                                # [B, 3, 3, 896] at the end
    x = tf.nn.avg_pool2d(x, 3, 1, "VALID")                                         # [B, 1, 1, 896]
    return tf.squeeze(x, [1, 2])                                                   # [B, 896]


def _nn4_module(x, name, direct, three, five, projection, stride):
    """Inception module: 1x1, 3x3, 5x5 and pooling branches of `x` [B, H, W, C], concatenated; None: no such branch."""
    with tf1.variable_scope(name):
        outputs = [_nn4_conv(x, "branch1_1x1/conv1x1", direct, 1)] if direct else []
        for branch, side, filters in (("branch2_3x3", 3, three), ("branch3_5x5", 5, five)):
            if filters:
                y = _nn4_conv(x, f"{branch}/conv1x1", filters[0], 1)
                outputs.append(_nn4_conv(y, f"{branch}/conv{side}x{side}", filters[1], side, stride))
        pooled = tf.nn.max_pool2d(x, 3, stride, "SAME")
        outputs.append(_nn4_conv(pooled, "branch4_pool/conv1x1", projection, 1) if projection else pooled)
        return tf.concat(outputs, 3)


def _nn4_conv(x, name, filters, kernel, stride=1):
    """SAME convolution, batch norm, bias, ReLU: `x` [B, H, W, C] -> [B, H / stride, W / stride, filters]."""
    with tf1.variable_scope(name):
        x = _nn4_batch_norm(layers.conv2d(x, filters, kernel, stride))
        return tf.nn.relu(tf.nn.bias_add(x, layers.get_variable("biases", [filters], tf1.zeros_initializer())))


def _nn4_batch_norm(x):
    """Batch norm of `x` [B, H, W, C]; its statistics are averages of moments, named after the moments' ops."""
    shape = [x.shape[-1]]
    with tf1.variable_scope("batch_norm") as here:
        beta = layers.get_variable("batch_norm/beta", shape, tf1.zeros_initializer())
        gamma = layers.get_variable("batch_norm/gamma", shape, tf1.ones_initializer())
        mean, variance = (
            layers.get_variable(f"{here.name}/moments/{moment}/ExponentialMovingAverage", shape, start, trainable=False)
            for moment, start in (("Squeeze", tf1.zeros_initializer()), ("Squeeze_1", tf1.ones_initializer())))
    return _normalize(x, mean, variance, beta, gamma)


# Ours, for CPUs and tests

def small(images):
    """`images` [B, H, W, 3] to pooled features [B, 192] in under a million weights."""
    x = images
    for i, filters in enumerate(SMALL_FILTERS, 1):
        x = _conv(x, f"Conv2d_{i}", filters, 3, 2)                                 # [B, H / 2^i, W / 2^i, filters]
    return tf.reduce_mean(x, [1, 2])                                               # [B, 192]


NETWORKS = {"inception_resnet_v1": inception_resnet_v1, "nn4": nn4, "small": small}
