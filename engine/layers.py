"""Layers on `tf.get_variable`: convolutions, dense, norms, dropout, upscaling. Images are NHWC float32.

Convolutions compute in the `dtype` of the variable scope, float32 or bfloat16; what they take and give is float32.
"""
import tensorflow as tf

tf1 = tf.compat.v1

XAVIER = tf1.glorot_uniform_initializer()


def get_variable(name, shape, initializer, trainable=True):
    """A float32 resource variable in the current variable scope: its reads and updates have a defined order."""
    return tf1.get_variable(name, shape, tf.float32, initializer, trainable=trainable, use_resource=True)


def conv2d(x, filters, kernel, stride=1, padding="SAME", bias=False, initializer=XAVIER, name="weights"):
    """Convolution of `x` [B, H, W, C] with `name` [kh, kw, C, filters], plus `biases` [filters] if asked for.

    `kernel` is a side or a (height, width) pair; the variables lie directly in the current scope.
    """
    height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
    weights = get_variable(name, [height, width, x.shape[-1], filters], initializer)
    if height == width == stride == 1:
        x = _in_precision(_pixelwise, x, weights)
    else:
        x = _in_precision(lambda x, weights: tf.nn.conv2d(x, weights, stride, padding), x, weights)
    return add_bias(x) if bias else x


def _pixelwise(x, weights):
    """1x1 convolution as what it is, a matrix product: for a few pixels of many channels, in a third of the time."""
    result = tf.matmul(tf.reshape(x, [-1, x.shape[-1]]), tf.squeeze(weights, [0, 1]))
    return tf.reshape(result, [-1, *x.shape[1:3], weights.shape[-1]])


def _in_precision(product, x, weights):
    """`product(x, weights)` as float32, computed in the variable scope's `dtype`."""
    dtype = tf1.get_variable_scope().dtype
    return tf.cast(product(tf.cast(x, dtype), tf.cast(weights, dtype)), tf.float32)


def add_bias(x, repeats=1):
    """`x` [..., repeats * C] plus a variable `biases` [C], the same to every repetition."""
    biases = get_variable("biases", [x.shape[-1] // repeats], tf1.zeros_initializer())
    return tf.nn.bias_add(x, tf.tile(biases, [repeats]) if repeats > 1 else biases)


def conv2d_to_few(parts, filters, kernel, initializer=XAVIER):
    """Convolution of the list `parts` of [B, H, W, C] with `weights` [kernel, kernel, sum of C, filters] to few filters.

    It takes the parts' channels as lying side by side, and is VALID and of even size. A matrix product with so few
    columns is slow. So each 2x2 tile of the output is computed at once, with the kernel at its four places side by side:
    the same sums, in a third of the time. The gradients are taken the other way round, as convolutions *from* few
    channels.
    """
    channels = [part.shape[-1] for part in parts]
    weights = get_variable("weights", [kernel, kernel, sum(channels), filters], initializer)
    shares = tf.split(weights, channels, axis=2)
    return tf.add_n([_in_precision(_convolve_to_few, part, share) for part, share in zip(parts, shares)])


@tf.custom_gradient
def _convolve_to_few(x, weights):
    places = [tf.pad(weights, [[i, 1 - i], [j, 1 - j], [0, 0], [0, 0]]) for i in (0, 1) for j in (0, 1)]
    tiles = tf.nn.conv2d(x, tf.concat(places, -1), 2, "VALID")

    def gradients(upstream):
        framed = zero_pad(upstream, int(weights.shape[0]) - 1)
        back = _turned(weights)
        by_weights = tf1.nn.conv2d_backprop_filter(framed, back.shape, x, [1, 1, 1, 1], "VALID")
        return tf.nn.conv2d(framed, back, 1, "VALID"), _turned(by_weights)

    return tf.nn.depth_to_space(tiles, 2), gradients


def _turned(weights):
    """The kernel [k, k, in, out] of the convolution that goes back, from `out` to `in` channels, and the other way."""
    return tf.transpose(tf.reverse(weights, [0, 1]), [0, 1, 3, 2])


def conv2d_of_upscaled(x, filters, initializer=XAVIER):
    """SAME convolution with `weights` [3, 3, C, filters] of `x` [B, H, W, C] upscaled by 2 -> [B, H+1, W+1, 4*filters].

    A pixel and its like lie under each 3x3 window, so that four 2x2 windows on the small image, one for each parity of
    row and column, with the taps of like pixels added up, give the same sums in 4/9 of the time. All four lie side by
    side, each on the padded image's every window: `lay_out_upscaled` takes the result to [B, 2*H, 2*W, filters].
    """
    weights = get_variable("weights", [3, 3, x.shape[-1], filters], initializer)
    taps = _taps_by_parity(_taps_by_parity([weights], 0), 1)                          # 4 of [2, 2, C, filters]
    return _in_precision(lambda x, weights: tf.nn.conv2d(x, weights, 1, "VALID"), zero_pad(x, 1), tf.concat(taps, -1))


def lay_out_upscaled(x, margin=0):
    """The four parities [B, H+1, W+1, 4*C] of `conv2d_of_upscaled` as an image [B, 2*H, 2*W, C], less `margin` around."""
    return crop(tf.nn.depth_to_space(x, 2), 1 + margin)


def _taps_by_parity(kernels, axis):
    """For each of `kernels`, the 2 taps along `axis` that act on the small image at odd and at even pixels of the big one.

    Under an odd pixel's window lie two of its small pixel and one of the next; under an even one's, one of the small
    pixel before and two of its own.
    """
    parities = []
    for kernel in kernels:
        first, middle, last = tf.unstack(kernel, axis=axis)
        parities += [tf.stack([first + middle, last], axis), tf.stack([first, middle + last], axis)]
    return parities


def conv2d_transpose(x, filters, kernel, stride, initializer=XAVIER, name="weights"):
    """Transposed SAME convolution of `x` [B, H, W, C] with `name` [k, k, filters, C] -> [B, H*stride, W*stride, filters]."""
    weights = get_variable(name, [kernel, kernel, filters, x.shape[-1]], initializer)
    height, width = x.shape[1:3]
    shape = tf.stack([tf.shape(x)[0], height * stride, width * stride, filters])
    return _in_precision(lambda x, weights: tf.nn.conv2d_transpose(x, weights, shape, stride), x, weights)


def dense(x, units, bias=True, initializer=XAVIER):
    """`x` [B, n] times `weights` [n, units], plus `biases` [units] unless `bias` is False."""
    x = tf.matmul(x, get_variable("weights", [x.shape[-1], units], initializer))
    return add_bias(x) if bias else x


def instance_norm(x, epsilon=1e-5):
    """Normalise every channel of every image of `x` [B, H, W, C] (Ulyanov et al. 2016), then scale and shift."""
    with tf1.variable_scope("instance_norm"):
        scale = get_variable("scale", [x.shape[-1]], tf1.random_normal_initializer(1.0, 0.02))
        offset = get_variable("offset", [x.shape[-1]], tf1.zeros_initializer())
        mean, variance = tf.nn.moments(x, [1, 2], keepdims=True)
        return scale * ((x - mean) * reciprocal_root(variance + epsilon)) + offset


def frozen_batch_norm(x, mean, variance, beta, gamma=None, epsilon=1e-3):
    """Batch norm of `x` [..., C] in inference mode: with the stored `mean` and `variance` [C] (Ioffe, Szegedy 2015)."""
    factor = reciprocal_root(variance + epsilon)
    if gamma is not None:
        factor *= gamma
    return x * factor + (beta - mean * factor)


def reciprocal_root(x):
    """1 / sqrt(`x`), rounded alike on every machine: taken in float64, as CPUs' float32 estimates of it differ."""
    return tf.cast(tf.math.rsqrt(tf.cast(x, tf.float64)), tf.float32)


def dropout(x, keep, seed, part=(0, 1)):
    """Keep each value of `x` [B, ...] with probability `keep`, scaled by 1 / keep (Srivastava et al. 2014).

    `seed` int32 is either [B, 2], a seed for each example: then its mask does not depend on its batch; or [2], for a
    whole batch of which `x` is the part number `part[0]` of `part[1]`.
    """
    if seed.shape.rank == 2:
        noise = tf.map_fn(lambda each: tf.random.stateless_uniform(x.shape[1:], each), seed,
                          fn_output_signature=tf.float32)
    else:
        noise = uniform_part(tf.shape(x), seed, part)
    return x / keep * tf.floor(keep + noise)


def uniform_part(shape, seed, part):
    """Random numbers in [0, 1) of `shape` [B, ...]: part number `part[0]` of the `part[1]` that `seed` [2] gives."""
    number, count = part
    noise = tf.random.stateless_uniform(tf.concat([shape[:1] * count, shape[1:]], 0), seed)
    return noise[number * shape[0]:(number + 1) * shape[0]]


def reflect_pad(x, width):
    """Mirror `width` pixels around `x` [B, H, W, C], without repeating the edge: `tf.pad`'s, in a third of the time."""
    height, breadth, channels = x.shape[1:]
    rows, columns = _mirrored(height, width), _mirrored(breadth, width)
    sources = [[row * breadth + column for column in columns] for row in rows]
    paddings = [[0, 0], [width, width], [width, width], [0, 0]]

    @tf.custom_gradient
    def gather(x):
        padded = tf.gather(tf.reshape(x, [-1, height * breadth, channels]), sources, axis=1)
        return padded, lambda upstream: tf.raw_ops.MirrorPadGrad(input=upstream, paddings=paddings, mode="REFLECT")

    return gather(x)


def _mirrored(side, width):
    """The pixels 0 to `side` - 1 of a line, and what a mirror at either end shows of `width` more."""
    return [*range(width, 0, -1), *range(side), *range(side - 2, side - 2 - width, -1)]


def crop(x, width):
    """`x` [B, H, W, C] without `width` pixels on each side. The gradient of Python's slices takes ten times as long."""
    height, breadth = (side - 2 * width for side in x.shape[1:3])
    return tf.slice(x, [0, width, width, 0], [-1, height, breadth, -1])


def zero_pad(x, width):
    """`width` zeros around `x` [B, H, W, C]."""
    return tf.pad(x, [[0, 0], [width, width], [width, width], [0, 0]])


# Between image files and networks

def to_network(images):
    """uint8 0..255 to float32 -1..1."""
    return tf.cast(images, tf.float32) / 127.5 - 1


def to_image(images):
    """float32 -1..1 to uint8 0..255, rounded and clipped."""
    return tf.cast(tf.round(tf.clip_by_value((images + 1) * 127.5, 0, 255)), tf.uint8)
