"""Layers on `tf.get_variable`: convolutions, dense, norms, dropout, padding. Images are NHWC float32.

Convolutions compute in the `dtype` of the variable scope, float32 or bfloat16. Their inputs and outputs are float32.
"""
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

tf1 = tf.compat.v1

XAVIER = tf1.glorot_uniform_initializer()


def type_of(precision):
    """Find the type in which convolutions compute for a value of --precision. TF32 is a way to multiply float32."""
    return tf.bfloat16 if precision == "bfloat16" else tf.float32


def get_variable(name, shape, initializer, trainable=True):
    """Get or create the float32 variable `name` of the current variable scope.

    It is a resource variable, whose reads and updates have a defined order.
    """
    return tf1.get_variable(name, shape, tf.float32, initializer, trainable=trainable, use_resource=True)


class WeightSpec(NamedTuple):
    """A variable of weights: its name in the current variable scope, its initializer, and what is made of it."""
    name: str = "weights"
    initializer: Callable = XAVIER
    used_as: Callable = lambda weights: weights         # such as `spectral_norm`


WEIGHTS = WeightSpec()


def conv2d(x, filters, kernel, stride=1, padding="SAME", weights=WEIGHTS):
    """Convolve `x` [B, H, W, C] with WeightSpec [kh, kw, C, filters], without bias -> [B, H', W', filters].

    `kernel` is a side in pixels or a pair (kh, kw).
    """
    height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
    weights = weights.used_as(get_variable(weights.name, [height, width, x.shape[-1], filters], weights.initializer))
    if height == width == stride == 1:
        x = _in_precision(_pixelwise, x, weights)
    else:
        x = _in_precision(lambda x, weights: tf.nn.conv2d(x, weights, stride, padding), x, weights)
    return x


def _pixelwise(x, weights):
    """Convolve `x` [B, H, W, C] with `weights` [1, 1, C, filters], as a matrix product.

    For a few pixels of many channels, that needs a third of the time of a convolution.
    """
    result = tf.matmul(tf.reshape(x, [-1, x.shape[-1]]), tf.squeeze(weights, [0, 1]))
    return tf.reshape(result, [-1, *x.shape[1:3], weights.shape[-1]])


def _in_precision(product, x, weights):
    """Compute `product(x, weights)` in the `dtype` of the variable scope -> float32."""
    dtype = tf1.get_variable_scope().dtype
    return tf.cast(product(tf.cast(x, dtype), tf.cast(weights, dtype)), tf.float32)


def add_bias(x, repeats=1):
    """Add a variable `biases` [C] to `x` [..., C].

    With `repeats`, `x` is [..., repeats * C]: so many groups of C channels, each of which gets the same biases.
    """
    biases = get_variable("biases", [x.shape[-1] // repeats], tf1.zeros_initializer())
    return tf.nn.bias_add(x, tf.tile(biases, [repeats]) if repeats > 1 else biases)


def conv2d_to_few(features, filters, kernel, initializer=XAVIER):
    """Convolve a list of `features` with a variable `weights` to a few filters, VALID, without bias.

    `features` are [B, H, W, C_i]. The result [B, H-kernel+1, W-kernel+1, filters], whose sides must be even, is that of
    their concatenation along the channels, for which `weights` is [kernel, kernel, sum of C_i, filters].

    A convolution to few filters is slow, since it is a matrix product with few columns. Here each window yields a tile
    of 2x2 pixels of the output. The window is one pixel larger than the kernel, and has four times as many filters: the
    kernel at each of its four places in the window. That gives the same sums in a third of the time.
    """
    channels = [each.shape[-1] for each in features]
    weights = get_variable("weights", [kernel, kernel, sum(channels), filters], initializer)
    kernels = tf.split(weights, channels, axis=2)
    return tf.add_n([_in_precision(_convolve_to_few, each, its_kernel) for each, its_kernel in zip(features, kernels)])


@tf.custom_gradient
def _convolve_to_few(x, weights):
    """Convolve `x` [B, H, W, C] with `weights` [k, k, C, filters] as `conv2d_to_few` does.

    The gradient by `x` is a convolution of the upstream gradient with the turned kernel. The gradient by `weights` is
    that of the same convolution by its kernel, turned back. Both are fast, since this convolution goes from few to many
    channels.
    """
    places = [tf.pad(weights, [[i, 1 - i], [j, 1 - j], [0, 0], [0, 0]]) for i in (0, 1) for j in (0, 1)]
    tiles = tf.nn.conv2d(x, tf.concat(places, -1), 2, "VALID")

    def gradients(upstream):
        framed = zero_pad(upstream, int(weights.shape[0]) - 1)
        back = _turned(weights)
        by_weights = tf1.nn.conv2d_backprop_filter(framed, back.shape, x, [1, 1, 1, 1], "VALID")
        return tf.nn.conv2d(framed, back, 1, "VALID"), _turned(by_weights)

    return tf.nn.depth_to_space(tiles, 2), gradients


def _turned(weights):
    """Turn the kernel [k, k, C, filters] by 180 degrees, and swap its channels with its filters."""
    return tf.transpose(tf.reverse(weights, [0, 1]), [0, 1, 3, 2])


def conv2d_of_upscaled(x, filters, initializer=XAVIER):
    """Upscale `x` [B, H, W, C] by 2 and convolve it 3x3, SAME, without bias -> [B, H+1, W+1, 4*filters].

    Upscaling makes a 2x2 block of each pixel. So a 3x3 window on the large image covers only 2x2 different pixels of
    `x`. Which weights of the window meet in the same pixel depends on whether the window's row and column are odd or
    even. Each of these four cases is a 2x2 convolution of `x`. Its weights are sums of some of the 3x3 weights, a
    variable `weights` [3, 3, C, filters]. That gives the same pixels in 4/9 of the time.

    The four results lie side by side as channels. `lay_out_upscaled` makes the image [B, 2*H, 2*W, filters] of them.
    """
    weights = get_variable("weights", [3, 3, x.shape[-1], filters], initializer)
    cases = [each for rows in _odd_and_even(weights, 0) for each in _odd_and_even(rows, 1)]     # 4x [2, 2, C, filters]
    return _in_precision(lambda x, weights: tf.nn.conv2d(x, weights, 1, "VALID"), zero_pad(x, 1), tf.concat(cases, -1))


def lay_out_upscaled(x, margin=0):
    """Lay the result `x` [B, H+1, W+1, 4*C] of `conv2d_of_upscaled` out as an image [B, 2*H, 2*W, C].

    The image lacks `margin` pixels on each side.
    """
    return crop(tf.nn.depth_to_space(x, 2), 1 + margin)


def _odd_and_even(kernel, axis):
    """Reduce the 3 weights along `axis` to 2 that act on the image before its upscaling.

    Returns a kernel for odd pixels, and one for even pixels, counted from 0. The window around an odd pixel covers both
    copies of a pixel of the small image, and one of the next. Around an even pixel, it covers one copy, and both of the
    next.
    """
    first, middle, last = tf.unstack(kernel, axis=axis)
    return tf.stack([first + middle, last], axis), tf.stack([first, middle + last], axis)


def conv2d_transpose(x, filters, kernel, stride, weights=WEIGHTS):
    """Convolve `x` [B, H, W, C] transposed with WeightSpec [kernel, kernel, filters, C], SAME, without bias.

    The result is [B, H*stride, W*stride, filters].
    """
    weights = get_variable(weights.name, [kernel, kernel, filters, x.shape[-1]], weights.initializer)
    height, width = x.shape[1:3]
    shape = tf.stack([tf.shape(x)[0], height * stride, width * stride, filters])
    return _in_precision(lambda x, weights: tf.nn.conv2d_transpose(x, weights, shape, stride), x, weights)


def dense(x, units, bias=True, initializer=XAVIER):
    """Multiply `x` [B, n] by a variable `weights` [n, units]. With `bias`, add a variable `biases` [units]."""
    x = tf.matmul(x, get_variable("weights", [x.shape[-1], units], initializer))
    return add_bias(x) if bias else x


def instance_norm(x, epsilon=1e-5):
    """Normalise each channel of each image of `x` [B, H, W, C], then scale and shift it (Ulyanov et al. 2016)."""
    with tf1.variable_scope("instance_norm"):
        scale = get_variable("scale", [x.shape[-1]], tf1.random_normal_initializer(1.0, 0.02))
        offset = get_variable("offset", [x.shape[-1]], tf1.zeros_initializer())
        mean, variance = tf.nn.moments(x, [1, 2], keepdims=True)
        return scale * ((x - mean) * reciprocal_root(variance + epsilon)) + offset


def frozen_batch_norm(x, mean, variance, beta, gamma=None, epsilon=1e-3):
    """Normalise `x` [..., C] as batch norm does after training (Ioffe, Szegedy 2015).

    The statistics `mean` and `variance`, `beta` and, if there is one, `gamma` are [C].
    """
    factor = reciprocal_root(variance + epsilon)
    if gamma is not None:
        factor *= gamma
    return x * factor + (beta - mean * factor)


def spectral_norm(weights, iterations=8):
    """Divide `weights` [kh, kw, C, filters] by their largest singular value, as a matrix of a row for each input.

    This bounds how fast a discriminator's verdict changes (Miyato et al. 2018). The singular value is estimated by
    power iteration, which here starts anew in each step instead of where the last step ended. So the result depends on
    nothing but the weights, also for averages of them. No gradient flows through the two singular vectors.
    """
    matrix = tf.reshape(weights, [-1, weights.shape[-1]])
    fixed = tf.stop_gradient(matrix)
    right = tf.ones([matrix.shape[1], 1])
    for _ in range(iterations):
        right = _normalised(tf.matmul(fixed, tf.matmul(fixed, right), transpose_a=True))
    left = _normalised(tf.matmul(fixed, right))
    return weights / tf.matmul(left, tf.matmul(matrix, right), transpose_a=True)[0, 0]


def _normalised(vector):
    """Divide `vector` [n, 1] by its length."""
    return vector * reciprocal_root(tf.reduce_sum(tf.square(vector)) + 1e-12)


def reciprocal_root(x):
    """Compute 1 / sqrt(`x`), with the same rounding on every machine.

    It is computed in float64, since the float32 estimates of different CPUs differ.
    """
    return tf.cast(tf.math.rsqrt(tf.cast(x, tf.float64)), tf.float32)


class Dropout(NamedTuple):
    """Which values are dropped (Srivastava et al. 2014)."""
    keep: float             # probability to keep a value
    seed: tf.Tensor         # int32: [2], one for the whole batch, or [B, 2], one for each of a known number of examples
    tower: int = 0          # number, from 0, of the GPU whose share of the whole batch this is
    towers: int = 1         # GPUs that share the whole batch


def dropout(x, how):
    """Drop values of `x` [B, ...] as the Dropout `how` says, and scale the others by 1 / keep.

    With a seed for each example, which of its values are dropped does not depend on the other examples.
    """
    return x / how.keep * tf.floor(how.keep + _noise(tf.shape(x)[0], x.shape[1:], how))


def _noise(count, shape, how):
    """Make random numbers in [0, 1), [count, *shape], from the seed of a Dropout for the batch or for each example."""
    if how.seed.shape.rank == 2:        # one after another: a loop would wait for the host at each turn
        return tf.stack([tf.random.stateless_uniform(shape, each) for each in tf.unstack(how.seed)])
    return uniform_share(tf.stack([count, *shape]), how)


def uniform_share(shape, how):
    """Make random numbers in [0, 1) of `shape` [B, ...] for the tower of a Dropout whose seed is [2].

    They are the tower's share of the numbers that the seed gives for the whole batch [towers * B, ...]. So any count of
    GPUs gives a whole batch the same numbers.
    """
    noise = tf.random.stateless_uniform(tf.concat([shape[:1] * how.towers, shape[1:]], 0), how.seed)
    return noise[how.tower * shape[0]:(how.tower + 1) * shape[0]]


def smooth_noise(x, how, cells=4):
    """Make smooth random images in [-1, 1] of the shape of `x` [B, H, W, C], from the seed of a Dropout.

    They are interpolated from `cells` x `cells` random pixels. With a seed for each example, an image does not depend
    on the other ones.
    """
    noise = _noise(tf.shape(x)[0], [cells, cells, x.shape[-1]], how)
    return tf.image.resize(2 * noise - 1, x.shape[1:3])


def reflect_pad(x, width):
    """Mirror `width` pixels around `x` [B, H, W, C], without repeating the edge.

    The result is that of `tf.pad` in mode REFLECT, in a third of the time.
    """
    height, breadth, channels = x.shape[1:]
    rows, columns = _mirrored(height, width), _mirrored(breadth, width)
    pixels = [[row * breadth + column for column in columns] for row in rows]
    paddings = [[0, 0], [width, width], [width, width], [0, 0]]

    @tf.custom_gradient
    def gather(x):
        padded = tf.gather(tf.reshape(x, [-1, height * breadth, channels]), pixels, axis=1)
        return padded, lambda upstream: tf.raw_ops.MirrorPadGrad(input=upstream, paddings=paddings, mode="REFLECT")

    return gather(x)


def _mirrored(side, width):
    """List the numbers of a line's pixels, 0 to `side` - 1, with `width` more mirrored at either end."""
    return [*range(width, 0, -1), *range(side), *range(side - 2, side - 2 - width, -1)]


def crop(x, width):
    """Cut `width` pixels off each side of `x` [B, H, W, C]."""
    height, breadth = (side - 2 * width for side in x.shape[1:3])
    # The gradient of tf.slice needs a tenth of the time of that of x[:, a:b].
    return tf.slice(x, [0, width, width, 0], [-1, height, breadth, -1])


def zero_pad(x, width):
    """Put `width` zeros on each side of `x` [B, H, W, C]."""
    return tf.pad(x, [[0, 0], [width, width], [width, width], [0, 0]])


# Between image files and networks

def to_network(images):
    """Convert `images` uint8 0..255 to float32 -1..1."""
    return tf.cast(images, tf.float32) / 127.5 - 1


def to_image(images):
    """Convert `images` float32 -1..1 to uint8 0..255, rounded and clipped."""
    return tf.cast(tf.round(tf.clip_by_value((images + 1) * 127.5, 0, 255)), tf.uint8)
