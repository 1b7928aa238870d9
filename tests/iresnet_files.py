"""Published residual networks as files, made without torch and onnx, and their embeddings computed by plain NumPy."""
import struct

import numpy as np

EPSILON = 1e-5
BLOCKS = {"iresnet18": (2, 2, 2, 2), "iresnet34": (3, 4, 6, 3), "iresnet50": (3, 4, 14, 3), "ir_se50": (3, 4, 14, 3),
          "iresnet100": (3, 13, 30, 3)}
NORM = "weight", "bias", "running_mean", "running_var"


def random_state(model_def="iresnet18", filters=4, size=32, embedding_size=8, seed=0):
    """{name: float32 array} of a random network in arcface_torch's layout; no batch norm is trivial.

    ir_se50 gets squeeze-and-excitation, and its first block no convolution beside it.
    """
    rng, state = np.random.default_rng(seed), {}

    def norm(name, count):
        state.update({f"{name}.weight": rng.uniform(.5, 1.5, count), f"{name}.bias": rng.normal(0, .1, count),
                      f"{name}.running_mean": rng.normal(0, .1, count),
                      f"{name}.running_var": rng.uniform(.5, 1.5, count),
                      f"{name}.num_batches_tracked": np.array(7, np.int64)})

    def convolution(name, count, channels, side):
        state[f"{name}.weight"] = rng.normal(0, (2 / (channels * side * side)) ** .5, [count, channels, side, side])

    def slopes(name, count):
        state[f"{name}.weight"] = rng.uniform(.1, .4, count)

    excited = model_def == "ir_se50"
    convolution("conv1", filters, 3, 3)
    norm("bn1", filters)
    slopes("prelu", filters)
    channels = filters
    for stage, blocks in enumerate(BLOCKS[model_def]):
        count = filters << stage
        for block in range(blocks):
            name = f"layer{stage + 1}.{block}"
            norm(f"{name}.bn1", channels)
            convolution(f"{name}.conv1", count, channels, 3)
            norm(f"{name}.bn2", count)
            slopes(f"{name}.prelu", count)
            convolution(f"{name}.conv2", count, count, 3)
            norm(f"{name}.bn3", count)
            if excited:
                convolution(f"{name}.se.fc1", max(count // 16, 1), count, 1)
                convolution(f"{name}.se.fc2", count, max(count // 16, 1), 1)
            if block == 0 and not (excited and channels == count):
                convolution(f"{name}.downsample.0", count, channels, 1)
                norm(f"{name}.downsample.1", count)
            channels = count
    norm("bn2", channels)
    cells = -(-size // 16)
    state["fc.weight"] = rng.normal(0, (channels * cells ** 2) ** -.5, [embedding_size, channels * cells ** 2])
    state["fc.bias"] = rng.normal(0, .1, embedding_size)
    norm("features", embedding_size)
    return {name: value if value.dtype == np.int64 else value.astype(np.float32) for name, value in state.items()}


def numbered(state, adaface=True):
    """The arrays of `random_state` in AdaFace's layout, or in that of InsightFace_Pytorch: {name: array}.

    AdaFace's first block has no convolution beside it, and its last batch norm neither weight nor bias. The other
    layout has no batch norm before its PReLUs. What they lack is left out.
    """
    ends = {"conv1": "input_layer.0", "bn1": "input_layer.1", "prelu": "input_layer.2", "bn2": "output_layer.0",
            "fc": "output_layer.3", "features": "output_layer.4"}
    inner = ["bn1", "conv1", "bn2", "prelu", "conv2", "bn3", "se"]
    inner.remove("se" if adaface else "bn2")
    blocks = list(dict.fromkeys(name.rsplit(".", 3)[0] if ".downsample." in name or ".se." in name
                                else name.rsplit(".", 2)[0] for name in state if name.startswith("layer")))
    found = {}
    for name, value in state.items():
        layer, _, array = name.rpartition(".")
        if layer in ends:
            if not (layer == "features" and adaface and array in ("weight", "bias")):
                found[f"{ends[layer]}.{array}"] = value
            continue
        block = next(block for block in blocks if name.startswith(f"{block}."))
        part = layer[len(block) + 1:]
        if part.startswith("downsample."):
            if block != "layer1.0":
                found[f"body.{blocks.index(block)}.shortcut_layer.{part[-1]}.{array}"] = value
        elif part.split(".")[0] in inner:
            first, _, rest = part.partition(".")
            place = "se_block" if adaface and first == "se" else inner.index(first)
            found[f"body.{blocks.index(block)}.res_layer.{place}.{rest + '.' if rest else ''}{array}"] = value
    return found


# The network, from its description alone

def convolve(x, weights, stride=1):
    """`x` [C, H, W] and `weights` [out, C, k, k] -> [out, H', W'], with k // 2 zeros around `x`."""
    side = weights.shape[2]
    x = np.pad(x, [(0, 0), (side // 2, side // 2), (side // 2, side // 2)])
    windows = np.lib.stride_tricks.sliding_window_view(x, (side, side), (1, 2))[:, ::stride, ::stride]
    return np.einsum("cijhw,ochw->oij", windows, weights, optimize=True)


def normalise(x, state, name):
    """Apply the batch norm `name` to `x` [C, ...]; one that is not there changes nothing."""
    if f"{name}.running_mean" not in state:
        return x
    arrays = [state[f"{name}.{kind}"].astype(np.float64).reshape([-1] + [1] * (x.ndim - 1)) for kind in NORM]
    scale, shift, mean, variance = arrays
    return (x - mean) / np.sqrt(variance + EPSILON) * scale + shift


def rectify(x, slopes):
    """PReLU of `x` [C, H, W]."""
    return np.where(x > 0, x, slopes[:, None, None] * x)


def apply_block(x, state, name, stride):
    """A block of the network: `x` [C, H, W] -> [C', H', W']."""
    y = convolve(normalise(x, state, f"{name}.bn1"), state[f"{name}.conv1.weight"])
    y = rectify(normalise(y, state, f"{name}.bn2"), state[f"{name}.prelu.weight"])
    y = normalise(convolve(y, state[f"{name}.conv2.weight"], stride), state, f"{name}.bn3")
    if f"{name}.se.fc1.weight" in state:
        squeezed = np.maximum(state[f"{name}.se.fc1.weight"][:, :, 0, 0] @ y.mean(axis=(1, 2)), 0)
        gate = 1 / (1 + np.exp(-state[f"{name}.se.fc2.weight"][:, :, 0, 0] @ squeezed))
        y = y * gate[:, None, None]
    if f"{name}.downsample.0.weight" in state:
        x = normalise(convolve(x, state[f"{name}.downsample.0.weight"], stride), state, f"{name}.downsample.1")
    else:
        x = x[:, ::stride, ::stride]
    return y + x


def embed(state, pixels):
    """The bottleneck [E] of `pixels` [S, S, 3] in 0..255, by a network with weights in arcface_torch's layout."""
    x = (pixels.astype(np.float64).transpose(2, 0, 1) / 255 - .5) / .5
    x = rectify(normalise(convolve(x, state["conv1.weight"]), state, "bn1"), state["prelu.weight"])
    for stage in range(1, 5):
        for block in range(sum(name.startswith(f"layer{stage}.") and name.endswith(".conv1.weight") for name in state)):
            x = apply_block(x, state, f"layer{stage}.{block}", 2 if block == 0 else 1)
    x = state["fc.weight"] @ normalise(x, state, "bn2").reshape(-1) + state["fc.bias"]
    return normalise(x, state, "features")


# ONNX files

def varint(value):
    """A number as protobuf writes it."""
    value &= (1 << 64) - 1
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def field(number, value):
    """A field of a message: an int, a float, text, bytes, or a list of ints, packed."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    content = value.encode() if isinstance(value, str) else b"".join(map(varint, value)) if isinstance(value, list) \
        else value
    return varint(number << 3 | 2) + varint(len(content)) + content


def tensor(name, array, raw=True):
    """A TensorProto, whose float32 numbers are raw bytes or float_data."""
    kind = {"f4": 1, "f8": 11, "f2": 10, "i8": 7}[array.dtype.str[1:]]
    numbers = field(9, array.tobytes()) if raw else field(4, array.astype("<f4").tobytes())
    return field(1, list(array.shape)) + field(2, kind) + field(8, name) + numbers


def attribute(name, value):
    """An AttributeProto of an int, a float or a list of ints."""
    number, kind = {int: (3, 2), float: (2, 1), list: (8, 7)}[type(value)]
    return field(1, name) + field(number, value) + field(20, kind)


class OnnxWriter:
    """A graph that grows node by node."""

    def __init__(self, raw=True):
        self.nodes, self.arrays, self._raw, self._count = [], b"", raw, 0

    def array(self, value):
        """Add an initializer with a number for a name, as exporters give them -> its name."""
        self._count += 1
        self.arrays += field(5, tensor(str(self._count), np.ascontiguousarray(value), self._raw))
        return str(self._count)

    def node(self, kind, inputs, **attributes):
        """Add a node; an input that is an array becomes an initializer -> the name of its output."""
        names = [self.array(each) if isinstance(each, np.ndarray) else each for each in inputs]
        self._count += 1
        output = str(self._count)
        self.nodes.append(b"".join([*(field(1, name) for name in names), field(2, output), field(3, f"{kind}_{output}"),
                                    field(4, kind), *(field(5, attribute(*each)) for each in attributes.items())]))
        return output

    def write(self, path, output, inputs=("input.1",)):
        """Write the graph, whose result is `output`, as a model."""
        graph = b"".join(field(1, node) for node in self.nodes) + field(2, "main_graph") + self.arrays
        graph += b"".join(field(11, field(1, name)) for name in inputs) + field(12, field(1, output))
        path.write_bytes(field(1, 6) + field(2, "pytorch") + field(7, graph) + field(8, field(2, 11)))


def write_onnx(path, state, raw=True, sub_mul=None, edit=None, unfolded=None):
    """Write the network of `state` as torch.onnx.export does, with batch norms folded where it folds them.

    With `unfolded`, an epsilon, no batch norm is folded, and all have that epsilon. `sub_mul` are two numbers that
    pixels are standardised with first. `edit(kind, inputs, attributes)` may change each node before it is added.
    """
    graph, epsilon = OnnxWriter(raw), unfolded or EPSILON

    def node(kind, inputs, **attributes):
        return graph.node(*(edit(kind, inputs, attributes) or (kind, inputs)) if edit else (kind, inputs), **attributes)

    def norm(x, name):
        arrays = [state[f"{name}.{kind}"] for kind in NORM]
        return node("BatchNormalization", [x, *arrays], epsilon=epsilon)

    def convolution(x, name, batch_norm, stride=1):
        weights = state[f"{name}.weight"]
        side = weights.shape[2]
        how = dict(kernel_shape=[side] * 2, strides=[stride] * 2, pads=[side // 2] * 4, dilations=[1, 1], group=1)
        if unfolded:
            return norm(node("Conv", [x, weights], **how), batch_norm)
        scale, shift, mean, variance = (state[f"{batch_norm}.{kind}"].astype(np.float64) for kind in NORM)
        factor = scale / np.sqrt(variance + EPSILON)
        return node("Conv", [x, (weights * factor[:, None, None, None]).astype(np.float32),
                             (shift - mean * factor).astype(np.float32)], **how)

    def rectified(x, name):
        return node("PRelu", [x, state[f"{name}.weight"][:, None, None]])

    x = "input.1"
    if sub_mul:
        x = node("Mul", [node("Sub", [x, np.float32([sub_mul[0]])]), np.float32([sub_mul[1]])])
    x = rectified(convolution(x, "conv1", "bn1"), "prelu")
    for stage in range(1, 5):
        for block in range(sum(name.startswith(f"layer{stage}.") and name.endswith(".conv1.weight") for name in state)):
            name, stride = f"layer{stage}.{block}", 2 if block == 0 else 1
            y = rectified(convolution(norm(x, f"{name}.bn1"), f"{name}.conv1", f"{name}.bn2"), f"{name}.prelu")
            y = convolution(y, f"{name}.conv2", f"{name}.bn3", stride)
            if stride == 2:
                x = convolution(x, f"{name}.downsample.0", f"{name}.downsample.1", 2)
            x = node("Add", [y, x])
    x = node("Dropout", [norm(x, "bn2")])
    x = node("Gemm", [node("Flatten", [x], axis=1), state["fc.weight"], state["fc.bias"]], transB=1, alpha=1., beta=1.)
    graph.write(path, norm(x, "features"))
