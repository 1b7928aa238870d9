"""Read dlib's face recogniser from its file, dlib_face_recognition_resnet_model_v1.dat, without dlib and TensorFlow.

The file is what dlib's `serialize` writes: a heading, then the layers, from the one at the input to the last. Integers
are a byte with sign and length, then their magnitude, the lowest byte first. Numbers are an integer times 2 to the
power of another. Tensors are integers for their sides, then float32. Each convolution is followed by an `affine_`
layer, which multiplies and shifts every channel; it is folded into the weights here. `dlib_resnet` has the network.
"""
import math
import os
from typing import NamedTuple

import numpy as np

from engine import checkpoint_index, weight_files
from recognition import registry
from utils import open_regular, reason_of, UserError

LOSS, INPUT = "loss_metric_2", "input_rgb_image_sized"      # what dlib calls the loss and the input of its recogniser
# What the network subtracts from red, green and blue, and then divides by. A file tells the means again.
MEANS, SCALE = (122.782, 117.001, 104.298), 256.
MOST_BYTES = 1 << 26                    # that are read of a file; the recogniser's has 22 MB
_LAYER, _INNERMOST = (1, 2), 3          # versions of the nested layers in the heading
_MOST_NESTED = 10_000                   # layers in a heading


class Plan(NamedTuple):
    """The layers of a recogniser, of which only dlib's own is used; tests have smaller ones."""
    stem: int = 32                      # filters of the first convolution, 7 x 7 with stride 2
    blocks: tuple = ((32, False), (32, False), (32, False), (64, True), (64, False), (64, False), (64, False),
                     (128, True), (128, False), (128, False), (256, True), (256, False), (256, False), (256, True))
    embedding_size: int = 128

    @property
    def features(self):
        """Tell how many channels the last block has."""
        return self.blocks[-1][0]


PLAN = Plan()                           # a block is (filters, whether it halves the sides)


class Layer(NamedTuple):
    """A layer of the file."""
    kind: str                           # as dlib calls it, such as con_4
    numbers: tuple = ()                 # that say its shape, see `Reader.layer`
    values: np.ndarray | None = None    # flat float32, None for a layer without parameters


def layers_of(plan):
    """List the Layers of a Plan, without values, in the order of the file."""
    found = [Layer("con_4", (plan.stem, 3, 7, 7, 2, 2, 0, 0)), Layer("affine_", (plan.stem,)), Layer("relu_"),
             Layer("max_pool_2", (3, 3, 2, 2, 0, 0))]
    channels = plan.stem
    for filters, down in plan.blocks:
        stride, padding = (2, 0) if down else (1, 1)
        found += [Layer("con_4", (filters, channels, 3, 3, stride, stride, padding, padding)),
                  Layer("affine_", (filters,)), Layer("relu_"),
                  Layer("con_4", (filters, filters, 3, 3, 1, 1, 1, 1)), Layer("affine_", (filters,))]
        found += [Layer("avg_pool_2", (2, 2, 2, 2, 0, 0))] * down + [Layer("add_prev_"), Layer("relu_")]
        channels = filters
    return found + [Layer("avg_pool_2", (0, 0, 1, 1, 0, 0)), Layer("fc_2", (plan.embedding_size, channels))]


# The bytes

class Reader:
    """The content of a file and a place in it, which every method moves on. Each raises ValueError for other bytes."""

    def __init__(self, content):
        """Begin at the first byte of `content`."""
        self.content, self.place = content, 0

    def take(self, count):
        """Read `count` bytes."""
        start, self.place = self.place, self.place + count
        if self.place > len(self.content):
            raise ValueError(f"cut short, after {len(self.content):,} bytes")
        return self.content[start:self.place]

    def integer(self):
        """Read an integer."""
        head = self.take(1)[0]
        if head & 0x70 or not 1 <= head & 0x0f <= 8:
            raise ValueError(f"no integer at byte {self.place - 1:,}")
        magnitude = int.from_bytes(self.take(head & 0x0f), "little")
        return -magnitude if head & 0x80 else magnitude

    def integers(self, count):
        """Read `count` integers -> tuple."""
        return tuple(self.integer() for _ in range(count))

    def number(self):
        """Read a number -> float."""
        mantissa, exponent = self.integers(2)
        if abs(exponent) > 1100:            # beyond those of a double
            raise ValueError(f"no number at byte {self.place:,}")
        return math.ldexp(float(mantissa), exponent)

    def word(self):
        """Read a string of ASCII letters."""
        length = self.integer()
        if not 0 < length < 100:
            raise ValueError(f"no word at byte {self.place:,}")
        return self.take(length).decode("ascii")

    def tensor(self):
        """Read a tensor -> float32, flat."""
        version, *sides = self.integers(5)
        if version != 2 or min(sides) < 0:
            raise ValueError(f"no tensor at byte {self.place:,}")
        return np.frombuffer(self.take(4 * math.prod(sides)), "<f4")

    def alias(self):
        """Read a view into a tensor -> its four sides."""
        version, *sides = self.integers(5)
        if version != 1:
            raise ValueError(f"no view into a tensor at byte {self.place:,}")
        return tuple(sides)

    def heading(self):
        """Read what precedes the layers -> (how many of them there are, side of the input in pixels)."""
        if self.integer() != 1 or self.word() != LOSS:
            raise ValueError(f"its loss is not {LOSS}")
        self.number(), self.number()
        nested = 0
        for _ in range(_MOST_NESTED):
            version = self.integer()
            if version == _INNERMOST:
                break
            if version not in _LAYER:
                raise ValueError(f"no layer has the version {version}")
            nested += version == 2          # 1 marks a place, and has no bytes of its own
        if self.word() != INPUT:
            raise ValueError(f"its input is not {INPUT}")
        means = [self.number() for _ in range(3)]
        if not np.allclose(means, MEANS, rtol=0, atol=1e-3):
            raise ValueError(f"it subtracts {means} from colours, not {list(MEANS)}")
        rows, columns = self.integers(2)
        if rows != columns:
            raise ValueError(f"its input has {rows} x {columns} pixels")
        return nested + 1, rows

    def layer(self, first):
        """Read a layer, which may be the `first` -> Layer.

        The numbers of con_4 are: filters, channels of its input, rows and columns of the kernel, strides down and
        right, paddings. Those of a pool are: rows, columns, strides, paddings. Those of fc_2 are: outputs, inputs.
        """
        kind, numbers, values = self.word(), (), None
        if kind == "con_4":
            values = self.tensor()
            filters, *others = self.integers(7)
            numbers = (filters, self.alias()[1], *others)
            self.alias()
            self._rates()
        elif kind == "affine_":
            values = self.tensor()
            numbers = (self.alias()[1],)
            self.alias(), self.integer()
        elif kind in ("max_pool_2", "avg_pool_2"):
            numbers = self.integers(6)
        elif kind == "fc_2":
            numbers, values = self.integers(2), self.tensor()
            self.alias(), self.alias(), self.integer()
            self._rates()
        elif kind not in ("relu_", "add_prev_"):
            raise ValueError(f"a layer {kind!r}, which dlib's recogniser does not have")
        self.take(3)                        # truth values, one letter each
        for _ in range(3):
            self.tensor()                   # gradients and the like, empty in a file
        if first:
            self.integer()
        return Layer(kind, numbers, values)

    def _rates(self):
        """Read the factors of learning rate and weight decay."""
        for _ in range(4):
            self.number()


def parse(content):
    """Read the Layers of a recogniser of PLAN from the bytes of its file.

    Raises ValueError where the bytes end, or are those of something else.
    """
    expected, reader = layers_of(PLAN), Reader(content)
    (count, found_side), side = reader.heading(), registry.CLASSIFIERS["dlib"].usual
    if count != len(expected):
        raise ValueError(f"{count} layers, not {len(expected)}")
    if found_side != side:
        raise ValueError(f"its input has a side of {found_side} pixels, not {side}")
    found = []
    for index, layer in enumerate(expected):
        there = reader.layer(first=not index)
        if there[:2] != layer[:2]:
            raise ValueError(f"layer {index} is {there.kind} {list(there.numbers)}, not {layer.kind} "
                             f"{list(layer.numbers)}")
        if there.values is not None and len(there.values) != _count(layer):
            raise ValueError(f"layer {index} has {len(there.values)} numbers, not {_count(layer)}")
        found.append(there)
    if reader.place != len(content):
        raise ValueError(f"{len(content) - reader.place:,} bytes follow the last layer")
    return found


def _count(layer):
    """Count the parameters of a Layer by its numbers."""
    if layer.kind == "con_4":
        return layer.numbers[0] * (math.prod(layer.numbers[1:4]) + 1)
    return {"affine_": 2, "fc_2": layer.numbers[-1]}.get(layer.kind, 0) * layer.numbers[0]


# The variables

def names_of(plan):
    """List the scopes of the convolutions of a Plan, in the order of the file."""
    return ["Stem", *(f"Block_{number}/Conv_{each}" for number in range(1, len(plan.blocks) + 1) for each in (1, 2))]


def values_of(layers, scope):
    """Compute the variables of the network from its Layers -> {name of a variable under `scope`: float32 array}.

    A kernel becomes [rows, columns, channels, filters]. The affine layer after a convolution is folded into it.
    """
    kernels, affine = ([layer for layer in layers if layer.kind == kind] for kind in ("con_4", "affine_"))
    values = {}
    for name, kernel, after in zip(names_of(PLAN), kernels, affine):
        filters, channels, rows, columns = kernel.numbers[:4]
        gamma, beta = after.values.reshape(2, filters)
        weights = kernel.values[:-filters].reshape(filters, channels, rows, columns).transpose(2, 3, 1, 0)
        values[f"{scope}/{name}/weights"] = weights * gamma
        values[f"{scope}/{name}/biases"] = kernel.values[-filters:] * gamma + beta
    outputs, inputs = layers[-1].numbers
    values[f"{scope}/Bottleneck/weights"] = layers[-1].values.reshape(inputs, outputs)
    return values


def read(path, option, scope=registry.SCOPE):
    """Read the variables of the recogniser in the file `path` -> {name of a variable under `scope`: array}.

    Raises UserError, which begins with `option` and the path, for any other file.
    """
    try:
        with open_regular(path) as file:
            values = values_of(parse(file.read(MOST_BYTES)), scope)
        if not all(np.isfinite(value).all() for value in values.values()):
            raise ValueError("a weight is NaN or infinity")
        return values
    except (OSError, ValueError) as error:
        ways = f"give {os.path.basename(weight_files.PACKAGED['dlib'].file)}, or the word dlib"
        raise UserError(f"{option} {path}: not dlib's face recogniser, or not whole ({reason_of(error)}); {ways}"
                        ) from error


def read_shapes(files, option, path, scope=registry.SCOPE):
    """Read the shapes of the variables in the likeliest of `files`, as `checkpoint_index.read_shapes` does.

    dlib's file is read too. Its variables are those under `scope`. `option` and `path` are what a user typed.
    Raises UserError.
    """
    if weight_files.is_of_dlib(files[0]):
        return {name: value.shape for name, value in read(files[0], option, scope).items()}
    return checkpoint_index.read_shapes(files, f"{option} {path}")
