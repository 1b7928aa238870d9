"""The networks that train: generators (rendering to photo and back) and BEGAN's auto-encoding discriminators.

A network is a named callable: calling it again shares its variables. Their names and shapes are those of the
checkpoints published with Gecer et al. 2018, whatever the chosen widths.
"""
from typing import Callable, NamedTuple

import tensorflow as tf

from engine import layers

tf1 = tf.compat.v1


class Network:
    """A callable whose variables live under the scope `name`, and whose convolutions compute in `precision`."""

    def __init__(self, name, precision):
        self.name, self.precision = name, precision

    def scope(self):
        return tf1.variable_scope(self.name, reuse=tf1.AUTO_REUSE, dtype=self.precision)

    @property
    def variables(self):
        return tf1.trainable_variables(self.name + "/")


class Generator(Network):
    """Image-to-image network of Gecer et al. 2018, sec. 3.1: two strided convolutions, residual blocks, and back up.

    `filters` is the width at full size, `num_res_rep` the number of residual blocks, and `skips` joins the
    features of the way down to those of the way up.
    """

    INITIALIZER = tf1.random_normal_initializer(0.0, 0.02)

    def __init__(self, name, filters, num_res_rep, skips, precision=tf.float32):
        super().__init__(name, precision)
        self.filters, self.num_res_rep, self.skips = filters, num_res_rep, skips

    def __call__(self, x, keep=1.0, seed=None, part=(0, 1)):
        """Translate `x` [B, S, S, 3] in [-1, 1]; S is a multiple of 4. Returns the same shape and range.

        With `keep` below 1, dropout follows every residual block; see `layers.dropout` for `seed` and `part`.
        """
        f = self.filters
        with self.scope():
            full = tf.nn.relu(self._conv("c7s1_32", layers.reflect_pad(x, 3), f, 7, padding="VALID"))  # [B, S, S, f]
            half = tf.nn.relu(self._conv("d64", full, 2 * f, 3, stride=2))              # [B, S/2, S/2, 2f]
            x = tf.nn.relu(self._conv("d128", half, 4 * f, 3, stride=2))                # [B, S/4, S/4, 4f]
            for i in range(self.num_res_rep):
                with tf1.variable_scope(f"R{4 * f}_{i + 1}"):
                    x = self._residual_block(x)
                if keep < 1:
                    x = layers.dropout(x, keep, seed + [i, 0], part)
            x = self._upsample("u64", x, 2 * f)                                         # [B, S/2, S/2, 2f]
            x = self._upsample("u32", tf.concat([x, half], -1) if self.skips else x, f)     # [B, S, S, f]
            parts = [layers.reflect_pad(part, 3) for part in ([x, full] if self.skips else [x])]
            with tf1.variable_scope("output"):
                return tf.nn.tanh(layers.conv2d_to_few(parts, 3, 7, self.INITIALIZER))  # [B, S, S, 3]

    def _conv(self, name, x, filters, kernel, **options):
        with tf1.variable_scope(name):
            return layers.conv2d(x, filters, kernel, initializer=self.INITIALIZER, **options)

    def _upsample(self, name, x, filters):
        with tf1.variable_scope(name):
            return tf.nn.relu(layers.conv2d_transpose(x, filters, 3, 2, initializer=self.INITIALIZER))

    def _residual_block(self, x):
        """`x` [B, H, W, C] plus two normalised 3x3 convolutions of it."""
        y = x
        for i in (1, 2):
            with tf1.variable_scope(f"layer{i}"):
                y = layers.conv2d(layers.reflect_pad(y, 1), x.shape[-1], 3, padding="VALID",
                                  initializer=self.INITIALIZER, name=f"weights{i}")
                y = layers.instance_norm(y)
            if i == 1:
                y = tf.nn.relu(y)
        return x + y


class Layer(NamedTuple):
    """A layer as called in a network: its `output`, before any activation, is `product(input)` plus `biases`."""
    input: tf.Tensor
    output: tf.Tensor
    product: Callable[[tf.Tensor], tf.Tensor]       # linear in `weights`, for each example on its own
    weights: tf.Variable
    biases: tf.Variable


class DiscriminatorCNN(Network):
    """Auto-encoder whose reconstruction error tells real from fake (Berthelot et al. 2017, BEGAN).

    `hidden_num` is the width of its convolutions and `z_num` that of the code.
    """

    def __init__(self, name, hidden_num, z_num, precision=tf.float32):
        super().__init__(name, precision)
        self.hidden_num, self.z_num = hidden_num, z_num

    def __call__(self, images):
        """Reconstruct `images` [B, S, S, 3] in [-1, 1]. Returns [B, S, S, 3], unbounded."""
        return self.reconstruct(images)[0]

    def reconstruct(self, images):
        """The same, and the list of the Layers that led to it, the first one first."""
        size, h = int(images.shape[1]), self.hidden_num
        levels = size.bit_length() - 3                                                  # floor(log2 S) - 2
        self._layers, self._convolutions = [], 0
        with self.scope():
            x = tf.nn.elu(self._conv(images, h))                                        # [B, S, S, h]
            for level in range(1, levels + 1):
                x = tf.nn.elu(self._conv(x, h * level))
                x = tf.nn.elu(self._conv(x, h * level))
                if level < levels:
                    x = tf.nn.elu(self._conv(x, h * level, stride=2))                   # [B, S/2^level, .., h*level]
            side = int(x.shape[1])                                                      # d
            x = tf.reshape(x, [-1, side * side * h * levels])
            x = self._dense("fully_connected", x, self.z_num)                           # [B, z]
            x = self._dense("fully_connected_1", x, side * side * h)
            x = tf.nn.elu(self._conv(tf.reshape(x, [-1, side, side, h]), h))            # [B, d, d, h]
            x = tf.nn.elu(self._conv(x, h))
            for level in range(1, levels - 1):
                x = layers.lay_out_upscaled(tf.nn.elu(self._conv_of_upscaled(x, h)))
                x = tf.nn.elu(self._conv(x, h))                                         # [B, d*2^level, .., h]
            x = tf.nn.elu(self._conv_of_upscaled(x, h))
            margin = (side * 2 ** (levels - 1) - size) // 2                             # 0, or even
            if margin:                                      # of what is cropped away, the two pixels that S depends on
                x = tf.nn.elu(self._conv(layers.lay_out_upscaled(x, margin - 2), h, padding="VALID"))
            else:
                x = layers.zero_pad(tf.nn.elu(self._conv(layers.lay_out_upscaled(x), h)), 1)
            return self._last_conv(x, 3), self._layers                                  # [B, S+2, .., h] -> [B, S, S, 3]

    def _conv(self, x, filters, stride=1, padding="SAME"):
        """The next 3x3 convolution: `Conv`, `Conv_1`, ... in the order of the calls."""
        return self._layer(self._next_conv(), x, lambda x: layers.conv2d(x, filters, 3, stride, padding))

    def _conv_of_upscaled(self, x, filters):
        """The same of `x` upscaled by 2; the result is still to be laid out."""
        return self._layer(self._next_conv(), x, lambda x: layers.conv2d_of_upscaled(x, filters), repeats=4)

    def _last_conv(self, x, filters):
        """The same, VALID and to few filters."""
        return self._layer(self._next_conv(), x, lambda x: layers.conv2d_to_few([x], filters, 3))

    def _dense(self, name, x, units):
        """The dense layer `name` of `x` [B, n] -> [B, units]."""
        return self._layer(name, x, lambda x: layers.dense(x, units, bias=False))

    def _next_conv(self):
        """The name of the next convolution."""
        self._convolutions += 1
        return f"Conv_{self._convolutions - 1}" if self._convolutions > 1 else "Conv"

    def _layer(self, name, x, product, repeats=1):
        """`product(x)` plus biases, noted as a Layer; its variables lie in the scope `name`."""
        with tf1.variable_scope(name) as scope:
            output = layers.add_bias(product(x), repeats)

        def in_scope(x):
            with tf1.variable_scope(scope):
                return product(x)

        self._layers.append(Layer(x, output, in_scope, *tf1.trainable_variables(scope.name + "/")))
        return output
