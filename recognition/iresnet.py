"""Residual networks of the ArcFace family: InsightFace's iresnet18 to iresnet100, and ir_se50 with squeeze-excitation.

A block is batch norm, convolution, batch norm, PReLU, convolution, batch norm, and a shortcut around them (Deng et al.
2019, "improved ResNet"). Four stages of blocks each halve the image, and a dense layer sees all that is left. Variables
have the names that arcface_torch gives its layers, with slashes for dots, and `Bottleneck` for `fc`.
"""
import tensorflow as tf

from engine import layers
from recognition import registry
from recognition.batch_norm import normalize

tf1 = tf.compat.v1

EPSILON = 1e-5                      # of torch's batch norm
STATISTICS = "moving_mean", "moving_variance"
_SLOPE = .25                        # of PReLU for negative numbers, at the beginning
_REDUCTION = 16                     # channels for each number of the squeezed vector (Hu et al. 2018)
_WEIGHTS = layers.WeightSpec(initializer=tf1.random_normal_initializer(stddev=.1))       # as arcface_torch begins


def bottleneck(images, architecture, dropout):
    """Turn standardised `images` [B, H, W, 3] into the bottleneck [B, E] of a registry.Architecture.

    `dropout`, a layers.Dropout or None, acts on the features before the dense layer. The shapes on the right are those
    for images of 112 x 112 pixels and a width of 1.
    """
    plan = registry.STAGES[architecture.model_def]
    filters = registry.filters_of(architecture.width)
    x = _batch_norm(_convolve(images, "conv1", filters), "bn1")                         # [B, 112, 112, 64]
    x = _prelu(x, "prelu")
    for stage, blocks in enumerate(plan.blocks, 1):
        for block in range(blocks):
            with tf1.variable_scope(f"layer{stage}/{block}"):
                x = _block(x, filters << stage - 1, 2 if block == 0 else 1, plan)
    x = _batch_norm(x, "bn2")                                                           # [B, 7, 7, 512]
    # Torch lays out channels first, and so the dense layer's weights are those of the published files as they are.
    features = tf.reshape(tf.transpose(x, [0, 3, 1, 2]), [-1, x.shape[1] * x.shape[2] * x.shape[3]])
    if dropout and dropout.keep < 1:
        features = layers.dropout(features, dropout)
    with tf1.variable_scope("Bottleneck"):
        x = layers.dense(features, architecture.embedding_size)
    return _batch_norm(x, "features", fixed_gamma=True)                                 # [B, E]


def _block(x, filters, stride, plan):
    """Apply a block to `x` [B, H, W, C] -> [B, H / stride, W / stride, filters], sides rounded up.

    The first block of a stage has a `stride` of 2. `plan` is a registry.Stages.
    """
    y = _convolve(_batch_norm(x, "bn1"), "conv1", filters)
    y = _prelu(_batch_norm(y, "bn2"), "prelu")
    y = _batch_norm(_convolve(y, "conv2", filters, stride), "bn3")
    if plan.excited:
        y = _excite(y)
    if x.shape[-1] == filters and (stride == 1 or plan.excited):        # ir_se50 skips pixels where it can
        return y + x[:, ::stride, ::stride]
    with tf1.variable_scope("downsample/0"):
        x = layers.conv2d(x, filters, 1, stride, weights=_WEIGHTS)
    return y + _batch_norm(x, "downsample/1")


def _convolve(x, name, filters, stride=1):
    """Convolve `x` [B, H, W, C] with 3x3 weights -> [B, H / stride, W / stride, filters], sides rounded up.

    One pixel of zeros surrounds `x`, on all sides. TensorFlow's SAME would leave out the first row and column where
    the stride is 2.
    """
    with tf1.variable_scope(name):
        if stride == 1:
            return layers.conv2d(x, filters, 3, weights=_WEIGHTS)
        return layers.conv2d(layers.zero_pad(x, 1), filters, 3, stride, "VALID", _WEIGHTS)


def _batch_norm(x, name, fixed_gamma=False):
    """Apply batch norm to `x` [..., C]. With `fixed_gamma`, its factor is no variable of the training.

    So has arcface_torch the last one, since a factor of the embedding would compete with the scale of the loss.
    """
    shape = [x.shape[-1]]
    with tf1.variable_scope(name):
        gamma = layers.get_variable("gamma", shape, tf1.ones_initializer(), trainable=not fixed_gamma)
        beta = layers.get_variable("beta", shape, tf1.zeros_initializer())
        mean, variance = (layers.get_variable(statistic, shape, start, trainable=False)
                          for statistic, start in zip(STATISTICS, (tf1.zeros_initializer(), tf1.ones_initializer())))
    return normalize(x, mean, variance, beta, gamma, EPSILON)


def _prelu(x, name):
    """Multiply the negative numbers of `x` [B, H, W, C] by a slope for each channel (He et al. 2015)."""
    with tf1.variable_scope(name):
        slopes = layers.get_variable("slopes", [x.shape[-1]], tf1.constant_initializer(_SLOPE))
    return tf.nn.relu(x) - slopes * tf.nn.relu(-x)


def _excite(x):
    """Multiply each channel of `x` [B, H, W, C] by a number from 0 to 1 that all channels' means decide.

    This is squeeze-and-excitation (Hu et al. 2018).
    """
    channels = x.shape[-1]
    y = tf.reduce_mean(x, [1, 2], keepdims=True)
    with tf1.variable_scope("se/fc1"):
        y = tf.nn.relu(layers.conv2d(y, max(channels // _REDUCTION, 1), 1))
    with tf1.variable_scope("se/fc2"):
        return x * tf.sigmoid(layers.conv2d(y, channels, 1))
