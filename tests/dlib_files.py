"""Files of dlib's face recogniser, written without dlib, and its network computed by plain NumPy."""
import numpy as np

from recognition import dlib_file

MEANS = 122.78199768066406, 117.0009994506836, 104.2979965209961
TINY = dlib_file.Plan(4, ((4, False), (6, True), (8, True), (8, False), (8, True), (10, True)), 5)
EMPTY = (np.zeros([0], np.float32), (0, 0, 0, 0))


def integer(value):
    """An integer: a byte with sign and length, then the magnitude."""
    count = max((abs(value).bit_length() + 7) // 8, 1)
    return bytes([count | (0x80 if value < 0 else 0)]) + abs(value).to_bytes(count, "little")


def integers(*values):
    return b"".join(map(integer, values))


def number(value, bits=24):
    """A number: a mantissa of at most so many `bits`, and the power of 2 that it is multiplied by."""
    mantissa, exponent = np.frexp(np.float32(value))
    mantissa, exponent = int(float(mantissa) * 2 ** bits), int(exponent) - bits
    for _ in range(8):
        if not mantissa & 0xff:
            mantissa, exponent = mantissa >> 8, exponent + 8
    return integers(mantissa, exponent)


RATES = b"".join(number(value, bits=53) for value in (1, 1, 1, 0))


def word(text):
    return integer(len(text)) + text.encode()


def tensor(values, shape):
    return integers(2, *shape) + values.astype("<f4").tobytes()


def alias(*shape):
    return integers(1, *shape)


def random_layers(plan, seed=0):
    """The layers of a plan with random parameters; no affine layer is trivial."""
    rng = np.random.default_rng(seed)
    layers = []
    for layer in dlib_file.layers_of(plan):
        values = None
        if layer.kind == "con_4":
            filters, channels, rows, columns = layer.numbers[:4]
            weights = rng.normal(0, (2 / (channels * rows * columns)) ** .5, filters * channels * rows * columns)
            values = np.concatenate([weights, rng.normal(0, .1, filters)])
        elif layer.kind == "affine_":
            values = np.concatenate([rng.uniform(.5, 1.5, layer.numbers[0]), rng.normal(0, .1, layer.numbers[0])])
        elif layer.kind == "fc_2":
            values = rng.normal(0, layer.numbers[1] ** -.5, layer.numbers[0] * layer.numbers[1])
        layers.append(layer._replace(values=None if values is None else values.astype(np.float32)))
    return layers


def bytes_of(layers):
    """The bytes of all layers. The last of a layer's three truth values tells that a relu_ follows."""
    kinds = [layer.kind for layer in layers[1:]] + [""]
    return b"".join(layer_bytes(layer, b"111" if layer.kind in ("affine_", "add_prev_") and following == "relu_" else
                                b"110", first=not index)
                    for index, (layer, following) in enumerate(zip(layers, kinds)))


def layer_bytes(layer, truths, first):
    """The bytes of a layer."""
    body = word(layer.kind)
    if layer.kind == "con_4":
        filters, channels, *others = layer.numbers
        body += tensor(layer.values, (len(layer.values), 1, 1, 1)) + integers(filters, *others)
        body += alias(filters, channels, *others[:2]) + alias(1, filters, 1, 1) + RATES
    elif layer.kind == "affine_":
        body += tensor(layer.values, (len(layer.values), 1, 1, 1)) + alias(1, layer.numbers[0], 1, 1) * 2 + integer(0)
    elif layer.kind == "fc_2":
        outputs, inputs = layer.numbers
        body += integers(outputs, inputs) + tensor(layer.values, (inputs, outputs, 1, 1))
        body += alias(inputs, outputs, 1, 1) + alias(0, 0, 0, 0) + integer(1) + RATES
    else:
        body += integers(*layer.numbers)
    return body + truths + tensor(*EMPTY) * 3 + (integer(1) if first else b"")


def file_bytes(layers, side=150, loss=dlib_file.LOSS, means=MEANS):
    """The bytes of a file of a recogniser. Tags, which have no bytes of their own, are where blocks begin."""
    nested = b"".join(integer(2) + (integer(1) if layer.kind == "add_prev_" else b"") for layer in layers[1:])
    heading = integer(1) + word(loss) + number(.04) + number(.6) + nested + integer(3)
    heading += word(dlib_file.INPUT) + b"".join(map(number, means)) + integers(side, side)
    return heading + bytes_of(layers)


def write(path, plan=TINY, seed=0):
    """Write a recogniser with random parameters -> its layers."""
    layers = random_layers(plan, seed)
    path.write_bytes(file_bytes(layers))
    return layers


# The network, from its description alone

def convolve(x, layer):
    """`x` [H, W, C] by a con_4 -> [H', W', filters]."""
    filters, channels, rows, columns, down, right, top, left = layer.numbers
    weights = layer.values[:-filters].reshape(filters, channels, rows, columns).astype(np.float64)
    x = np.pad(x, [(top, top), (left, left), (0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(x, (rows, columns), (0, 1))[::down, ::right]
    return np.einsum("ijchw,ochw->ijo", windows, weights, optimize=True) + layer.values[-filters:]


def pool(x, layer, reduce):
    """`x` [H, W, C] by a pool without padding; of 0 x 0 pixels, by one over all."""
    rows, columns, down, right = layer.numbers[:4]
    if not rows:
        return reduce(x, axis=(0, 1))[None, None]
    return reduce(np.lib.stride_tricks.sliding_window_view(x, (rows, columns), (0, 1))[::down, ::right], axis=(3, 4))


def add(one, other):
    """The sum of two arrays [H, W, C]; what one of them lacks at its end is zero."""
    total = np.zeros(np.maximum(one.shape, other.shape))
    for each in (one, other):
        total[tuple(map(slice, each.shape))] += each
    return total


def embed(layers, pixels):
    """The bottleneck [E] of `pixels` [150, 150, 3] in 0..255. A block begins after two convolutions, or a max pool."""
    x, shortcut, since = (pixels.astype(np.float64) - [122.782, 117.001, 104.298]) / 256, None, 0
    for layer in layers:
        if layer.kind == "con_4":
            if since == 2:
                shortcut, since = x, 0
            x, since = convolve(x, layer), since + 1
        elif layer.kind == "affine_":
            gamma, beta = layer.values.reshape(2, -1)
            x = x * gamma + beta
        elif layer.kind == "relu_":
            x = np.maximum(x, 0)
        elif layer.kind == "max_pool_2":
            x, since = pool(x, layer, np.max), 2
        elif layer.kind == "avg_pool_2" and layer.numbers[0]:
            shortcut = pool(shortcut, layer, np.mean)
        elif layer.kind == "avg_pool_2":
            x = pool(x, layer, np.mean)
        elif layer.kind == "add_prev_":
            x = add(shortcut, x)
        else:
            x = x.reshape(-1) @ layer.values.reshape(layer.numbers[::-1])
    return x
