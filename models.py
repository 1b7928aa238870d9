"""The networks that are trained: generators, from renderings to photos or back, and BEGAN's discriminators.

A network is a callable with a name. All of its calls share its variables. At the widths of Gecer et al. 2018, the names
and shapes of the variables are those of the checkpoints published with the paper.
"""
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from engine import layers

tf1 = tf.compat.v1


class Network:
    """A callable whose variables lie in a variable scope of its name."""

    def __init__(self, name, precision):
        """Name the network. `precision`, tf.float32 or tf.bfloat16, is what its convolutions compute in."""
        self.name, self.precision = name, precision

    def scope(self):
        """Open the network's variable scope, in which a second call finds the variables of the first."""
        return tf1.variable_scope(self.name, reuse=tf1.AUTO_REUSE, dtype=self.precision)

    @property
    def variables(self):
        """List the network's variables, in the order in which its first call created them."""
        return tf1.trainable_variables(self.name + "/")


class Variant(NamedTuple):
    """What may differ from the generator of Gecer et al. 2018.

    With `resizes`, the way up is by upscaling and a convolution, instead of a transposed convolution, which leaves a
    checkerboard pattern (Odena et al. 2016, Deconvolution and Checkerboard Artifacts).
    With `normalises`, residual blocks have instance norm, which takes from each feature how strong it is in an image
    (compare Karras et al. 2020, Analyzing and Improving the Image Quality of StyleGAN, sec. 2). Without it, they have
    biases.
    """
    resizes: bool = False
    normalises: bool = True


ORIGINAL = Variant()


class Generator(Network):
    """The network of Gecer et al. 2018, sec. 3.1, from image to image.

    Two strided convolutions lead down to residual blocks, and two transposed ones up again.
    """

    WEIGHTS = layers.WeightSpec(initializer=tf1.random_normal_initializer(0.0, 0.02))

    def __init__(self, name, filters, num_res_rep, skips, precision=tf.float32, variant=ORIGINAL):
        """Choose `filters` at full size, and `num_res_rep` residual blocks.

        With `skips`, the features of each size on the way down are used again on the way up.
        """
        super().__init__(name, precision)
        self.filters, self.num_res_rep, self.skips, self.variant = filters, num_res_rep, skips, variant

    def __call__(self, x, dropout=None):
        """Translate images `x` [B, S, S, 3] in [-1, 1] -> the same shape and range. S is a multiple of 4.

        A `layers.Dropout` acts after each residual block, with another seed for each.
        """
        filters = self.filters
        with self.scope():
            full = layers.reflect_pad(x, 3)
            full = tf.nn.relu(self._conv("c7s1_32", full, filters, 7, padding="VALID"))     # [B, S, S, filters]
            half = tf.nn.relu(self._conv("d64", full, 2 * filters, 3, stride=2))            # [B, S/2, S/2, 2*filters]
            x = tf.nn.relu(self._conv("d128", half, 4 * filters, 3, stride=2))              # [B, S/4, S/4, 4*filters]
            for i in range(self.num_res_rep):
                with tf1.variable_scope(f"R{4 * filters}_{i + 1}"):
                    x = self._residual_block(x)
                if dropout and dropout.keep < 1:
                    x = layers.dropout(x, dropout._replace(seed=dropout.seed + [i, 0]))
            x = self._upsample("u64", x, 2 * filters)                                       # [B, S/2, S/2, 2*filters]
            x = self._upsample("u32", tf.concat([x, half], -1) if self.skips else x, filters)       # [B, S, S, filters]
            features = [layers.reflect_pad(each, 3) for each in ([x, full] if self.skips else [x])]
            with tf1.variable_scope("output"):
                return tf.nn.tanh(layers.conv2d_to_few(features, 3, 7, self.WEIGHTS.initializer))  # [B, S, S, 3]

    def _conv(self, name, x, filters, kernel, **options):
        with tf1.variable_scope(name):
            return layers.conv2d(x, filters, kernel, weights=self.WEIGHTS, **options)

    def _upsample(self, name, x, filters):
        with tf1.variable_scope(name):
            if self.variant.resizes:
                return tf.nn.relu(layers.lay_out_upscaled(
                    layers.conv2d_of_upscaled(x, filters, self.WEIGHTS.initializer)))
            return tf.nn.relu(layers.conv2d_transpose(x, filters, 3, 2, self.WEIGHTS))

    def _residual_block(self, x):
        """Add to `x` [B, H, W, C] what two 3x3 convolutions make of it."""
        y = x
        for i in (1, 2):
            with tf1.variable_scope(f"layer{i}"):
                y = layers.conv2d(layers.reflect_pad(y, 1), x.shape[-1], 3, padding="VALID",
                                  weights=self.WEIGHTS._replace(name=f"weights{i}"))
                y = layers.instance_norm(y) if self.variant.normalises else layers.add_bias(y)
            if i == 1:
                y = tf.nn.relu(y)
        return x + y


class Layer(NamedTuple):
    """A layer of a network, as called. The `output`, before any activation, is product(input) plus biases."""
    input: tf.Tensor
    output: tf.Tensor
    product: Callable[[tf.Tensor], tf.Tensor]       # acts on each example alone, and is linear in `weights`
    weights: tf.Variable
    biases: tf.Variable


class DiscriminatorCNN(Network):
    """An auto-encoder whose reconstruction error tells real images from fake ones (Berthelot et al. 2017, BEGAN)."""

    def __init__(self, name, hidden_num, z_num, precision=tf.float32):
        """Choose `hidden_num` filters of its convolutions at full size, and `z_num` numbers of its code."""
        super().__init__(name, precision)
        self.hidden_num, self.z_num = hidden_num, z_num

    def __call__(self, images):
        """Reconstruct `images` [B, S, S, 3] in [-1, 1] -> [B, S, S, 3], unbounded."""
        return self.reconstruct(images)[0]

    def reconstruct(self, images):
        """Reconstruct `images` as a call does -> (the reconstruction, the list of the Layers that led to it)."""
        size, hidden = int(images.shape[1]), self.hidden_num
        levels = size.bit_length() - 3                                                  # floor(log2 S) - 2
        self._layers, self._convolutions = [], 0
        with self.scope():
            x = tf.nn.elu(self._conv(images, hidden))                                   # [B, S, S, hidden]
            for level in range(1, levels + 1):
                x = tf.nn.elu(self._conv(x, hidden * level))
                x = tf.nn.elu(self._conv(x, hidden * level))
                if level < levels:
                    x = tf.nn.elu(self._conv(x, hidden * level, stride=2))              # half the size before
            side = int(x.shape[1])
            x = tf.reshape(x, [-1, side * side * hidden * levels])
            x = self._dense("fully_connected", x, self.z_num)                           # [B, z_num]
            x = self._dense("fully_connected_1", x, side * side * hidden)
            x = tf.nn.elu(self._conv(tf.reshape(x, [-1, side, side, hidden]), hidden))  # [B, side, side, hidden]
            x = tf.nn.elu(self._conv(x, hidden))
            for _ in range(levels - 2):
                x = layers.lay_out_upscaled(tf.nn.elu(self._conv_of_upscaled(x, hidden)))
                x = tf.nn.elu(self._conv(x, hidden))                                    # twice the size before
            x = tf.nn.elu(self._conv_of_upscaled(x, hidden))
            # The original convolves twice more, at a size of `margin` pixels more than S on each side, and crops last.
            # Of these pixels only the 2 next to S matter: each of the two convolutions, VALID here, uses one up.
            margin = (side * 2 ** (levels - 1) - size) // 2                             # 0, or even
            if margin:
                x = tf.nn.elu(self._conv(layers.lay_out_upscaled(x, margin - 2), hidden, padding="VALID"))
            else:
                x = layers.zero_pad(tf.nn.elu(self._conv(layers.lay_out_upscaled(x), hidden)), 1)
            return self._last_conv(x, 3), self._layers                  # [B, S+2, S+2, hidden] -> [B, S, S, 3]

    def _conv(self, x, filters, stride=1, padding="SAME"):
        """Call the next 3x3 convolution on `x`."""
        return self._layer(self._next_conv(), x, lambda x: layers.conv2d(x, filters, 3, stride, padding))

    def _conv_of_upscaled(self, x, filters):
        """Call the next 3x3 convolution on `x` upscaled by 2, for `layers.lay_out_upscaled`."""
        return self._layer(self._next_conv(), x, lambda x: layers.conv2d_of_upscaled(x, filters), repeats=4)

    def _last_conv(self, x, filters):
        """Call the next 3x3 convolution, VALID and to few filters, on `x`."""
        return self._layer(self._next_conv(), x, lambda x: layers.conv2d_to_few([x], filters, 3))

    def _dense(self, name, x, units):
        """Call the dense layer `name` on `x` [B, n] -> [B, units]."""
        return self._layer(name, x, lambda x: layers.dense(x, units, bias=False))

    def _next_conv(self):
        """Name the next convolution: Conv, Conv_1, Conv_2, ... in the order of the calls."""
        self._convolutions += 1
        return f"Conv_{self._convolutions - 1}" if self._convolutions > 1 else "Conv"

    def _layer(self, name, x, product, repeats=1):
        """Compute `product(x)` plus biases, with variables in the scope `name`, and list it as a Layer."""
        with tf1.variable_scope(name) as scope:
            output = layers.add_bias(product(x), repeats)

        def in_scope(x):
            with tf1.variable_scope(scope):
                return product(x)

        self._layers.append(Layer(x, output, in_scope, *tf1.trainable_variables(scope.name + "/")))
        return output
