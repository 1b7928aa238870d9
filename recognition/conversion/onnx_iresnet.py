"""Find the layers of an iresnet in an ONNX graph: the graph is walked, and each array gets arcface_torch's name.

Exporters number what they fold. So a layer is known by its place: what follows the input, block by block. A batch norm
that was folded into the convolution before it becomes one that only adds the convolution's bias.
"""
import numpy as np

from recognition.conversion.iresnet_weights import EPSILON, identity_norm
from utils import UserError

_PASSED = "Identity", "Dropout", "Cast", "Unsqueeze", "Squeeze"         # change no number here
_LOOKED_AT = "Shape",                   # tells no number of an image
_INPUTS = {(127.5, 127.5): "arcface", (127.5, 128.): "fixed", (0., 1.): "arcface"}      # (v - first) / second


class OtherNetwork(Exception):
    """The graph is not that of an iresnet; the message says from where on."""


def read_state(graph, path):
    """Read the iresnet in an onnx_file.Graph of the file `path` -> ({arcface_torch's name: array}, standardization).

    The standardization is one of `preprocessing.standardize`: that which the graph does not do itself. Raises UserError
    that names the first layer where the graph is another one.
    """
    try:
        walk = _Walk(graph)
        walk.follow()
    except OtherNetwork as error:
        raise UserError(f"--input {path}: not an iresnet of InsightFace: {error}") from error
    return walk.state, walk.standardization


class _Walk:
    """A walk through a graph, from its input to its output. `state` collects the arrays."""

    def __init__(self, graph):
        """Prepare the walk through an onnx_file.Graph."""
        self._graph, self.state, self.standardization = graph, {}, "arcface"
        self._users, self._copied = {}, {}
        made = {*graph.arrays, *graph.inputs, ""}
        for node in graph.nodes:
            if not made.issuperset(node.inputs) or not made.isdisjoint(node.outputs) or not node.outputs:
                raise OtherNetwork(f"{node.name or node.kind} uses what no node before it makes")
            made.update(node.outputs)
            for name in dict.fromkeys(node.inputs) if node.kind not in _LOOKED_AT else ():
                self._users.setdefault(name, []).append(node)
            if node.kind in _PASSED:
                self._copied[node.outputs[0]] = node.inputs[0]

    def follow(self):
        """Walk through the whole graph. Raises OtherNetwork."""
        if len(self._graph.inputs) != 1:
            raise OtherNetwork(f"it has {len(self._graph.inputs)} inputs, and 1 was expected")
        x = self._convolution(self._standardized(self._graph.inputs[0]), "conv1", "bn1", 3)
        x = self._prelu(x, "prelu")
        stage = block = 0
        while len(self._after(x)) > 1:          # a block and a shortcut around it
            name = f"layer{stage}.{block + 1}"
            x, stride = self._block(x, name if stage else "layer1.0", f"layer{stage + 1}.0")
            stage, block = (stage + 1, 0) if stride == 2 else (stage, block + 1)
        x = self._batch_norm(x, "bn2")
        node = self._only(x, ("Flatten", "Reshape"), "after bn2")
        x = self._dense(node.outputs[0])
        if any(node.kind == "BatchNormalization" for node in self._after(x)):
            x = self._batch_norm(x, "features")
        else:
            self._identity("features", len(self.state["fc.bias"]))
        if not self._is_output(x):
            raise OtherNetwork(f"after features, its output was expected, and {self._said(self._after(x))} follows")

    # Parts of the network

    def _standardized(self, x):
        """Follow the nodes that standardise pixel values `x`, if there are any -> the tensor after them."""
        subtracted, divided = 0., 1.
        while len(self._after(x)) == 1 and self._after(x)[0].kind in ("Sub", "Div", "Mul"):
            node = self._after(x)[0]
            value = self._array(node, 1)
            if value is None or value.size != 1 or (node.kind == "Sub" and divided != 1):
                break
            value = float(value.reshape(()))
            subtracted += value * (node.kind == "Sub")
            divided *= value if node.kind == "Div" else 1 / value if node.kind == "Mul" and value else 1
            x = node.outputs[0]
        known = next((name for numbers, name in _INPUTS.items() if np.allclose(numbers, (subtracted, divided))), None)
        if not known:
            raise OtherNetwork(f"it sees pixels v as (v - {subtracted:g}) / {divided:g}, which no network here does")
        self.standardization = known
        return x

    def _block(self, x, same, halved):
        """Follow a block from `x` -> (the tensor after it, its stride).

        The block's name is `same` where its stride is 1, and `halved` where it is 2.
        """
        after = self._after(x)
        norms = [node for node in after if node.kind == "BatchNormalization"]
        if len(norms) != 1 or len(after) != 2:
            raise OtherNetwork(f"in {same}, a BatchNormalization and a shortcut were expected, and there are "
                               f"{self._said(after)}")
        second = self._second_convolution(norms[0])
        stride = 2 if second.attributes.get("strides") == [2, 2] else 1
        name = halved if stride == 2 else same
        y = self._batch_norm(x, f"{name}.bn1", norms[0])
        y = self._prelu(self._convolution(y, f"{name}.conv1", f"{name}.bn2", 3), f"{name}.prelu")
        y = self._convolution(y, f"{name}.conv2", f"{name}.bn3", 3, stride)
        shortcut = next(node for node in after if node is not norms[0])
        if shortcut.kind == "Conv":
            z = self._convolution(x, f"{name}.downsample.0", f"{name}.downsample.1", 1, stride, shortcut)
        else:
            z = x
        if stride == 2 and z == x:
            raise OtherNetwork(f"beside {name}, a Conv was expected, and there is {self._said([shortcut])}")
        total = self._only(y, ("Add",), f"after {name}.bn3")
        if set(map(self._source, total.inputs)) != {self._source(y), self._source(z)}:
            raise OtherNetwork(f"in {name}, {total.name or 'an Add'} does not add the block and its shortcut")
        return total.outputs[0], stride

    def _second_convolution(self, node):
        """Find the second convolution after a node of a block, of those that follow each other; the node if none is."""
        convolutions = 0
        for _ in range(6):
            after = self._after(node.outputs[0])
            if len(after) != 1:
                break
            node = after[0]
            convolutions += node.kind == "Conv"
            if convolutions == 2:
                break
        return node

    def _convolution(self, x, name, norm, side, stride=1, node=None):
        """Follow a convolution `name` from `x`, and its batch norm `norm`, folded or not -> the tensor after them."""
        node = node or self._only(x, ("Conv",), f"as {name}")
        wanted = {"kernel_shape": [side, side], "strides": [stride] * 2, "pads": [side // 2] * 4, "dilations": [1, 1],
                  "group": 1}
        weights = self._array(node, 1)
        usual = {"kernel_shape": list(weights.shape[2:]) if weights is not None else None, "strides": [1, 1],
                 "pads": [0] * 4, "dilations": [1, 1], "group": 1}
        for attribute, value in wanted.items():
            found = node.attributes.get(attribute, usual[attribute])
            if found != value:
                raise OtherNetwork(f"{name} ({node.name or 'Conv'}) has {attribute} {found}, and {value} was expected")
        self.state[f"{name}.weight"] = self._needed(node, 1, f"{name}.weight")
        bias = self._array(node, 2)
        after = self._after(node.outputs[0])
        if len(after) == 1 and after[0].kind == "BatchNormalization":
            x = self._batch_norm(node.outputs[0], norm)
            if bias is not None:
                self.state[f"{norm}.running_mean"] = self.state[f"{norm}.running_mean"] - bias
            return x
        self._identity(norm, len(weights))
        if bias is not None:
            self.state[f"{norm}.bias"] = bias
        return node.outputs[0]

    def _batch_norm(self, x, name, node=None):
        """Follow the batch norm `name` from `x` -> the tensor after it."""
        node = node or self._only(x, ("BatchNormalization",), f"as {name}")
        arrays = [self._needed(node, place, f"{name}.{kind}")
                  for place, kind in enumerate(("weight", "bias", "running_mean", "running_var"), 1)]
        arrays[3] = arrays[3].astype(np.float64) + node.attributes.get("epsilon", 1e-5) - EPSILON
        for kind, array in zip(("weight", "bias", "running_mean", "running_var"), arrays):
            self.state[f"{name}.{kind}"] = array
        return node.outputs[0]

    def _identity(self, name, channels):
        """Let the batch norm `name` change nothing."""
        self.state |= identity_norm(name, channels)

    def _prelu(self, x, name):
        """Follow the PReLU `name` from `x` -> the tensor after it."""
        node = self._only(x, ("PRelu",), f"as {name}")
        self.state[f"{name}.weight"] = self._needed(node, 1, f"{name}.weight").reshape(-1)
        return node.outputs[0]

    def _dense(self, x):
        """Follow the dense layer `fc` from `x` -> the tensor after it."""
        node = self._only(x, ("Gemm", "MatMul"), "as fc")
        weights, bias, output = self._needed(node, 1, "fc.weight"), self._array(node, 2), node.outputs[0]
        if any(node.attributes.get(name, 1.) != 1 for name in ("alpha", "beta")) or node.attributes.get("transA"):
            raise OtherNetwork(f"fc ({node.name or 'a Gemm'}) has an alpha, a beta or a transA of its own")
        self.state["fc.weight"] = weights if node.attributes.get("transB") else weights.T
        after = self._after(output)
        if node.kind == "MatMul" and len(after) == 1 and after[0].kind == "Add":
            bias = self._array(after[0], 1 if after[0].inputs[0] == output else 0)
            output = after[0].outputs[0]
        self.state["fc.bias"] = np.zeros(len(self.state["fc.weight"]), np.float32) if bias is None else bias.reshape(-1)
        return output

    # The graph

    def _after(self, tensor):
        """List the nodes that use `tensor`; in place of one that changes no number, those that use what it gives."""
        found = []
        for node in self._users.get(tensor, []):
            found += self._after(node.outputs[0]) if node.kind in _PASSED and node.inputs[0] == tensor else [node]
        return found

    def _source(self, tensor):
        """Find the tensor that `tensor` is a copy of."""
        while tensor in self._copied:
            tensor = self._copied[tensor]
        return tensor

    def _is_output(self, tensor):
        """Tell whether `tensor` or a copy of it is an output of the graph."""
        return self._source(tensor) in map(self._source, self._graph.outputs)

    def _only(self, tensor, kinds, where):
        """Find the node that alone uses `tensor`. Raises OtherNetwork unless it is of one of `kinds`."""
        after = self._after(tensor)
        if len(after) != 1 or after[0].kind not in kinds:
            raise OtherNetwork(f"{where}, {' or '.join(kinds)} was expected, and there is {self._said(after)}")
        return after[0]

    def _array(self, node, place):
        """Find the array that is a node's input number `place`; None where there is none."""
        tensor = self._source(node.inputs[place]) if place < len(node.inputs) else None
        return self._graph.arrays.get(tensor)

    def _needed(self, node, place, name):
        """Find the array as `_array` does. Raises OtherNetwork, which calls it `name`, where there is none."""
        array = self._array(node, place)
        if array is None:
            raise OtherNetwork(f"{name} is computed and not stored ({node.name or node.kind})")
        return array

    @staticmethod
    def _said(nodes):
        """Say in words what `nodes` are."""
        return " and ".join(f"{node.kind} {node.name}".strip() for node in nodes) or "nothing"
