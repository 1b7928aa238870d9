"""State dicts of residual networks for faces, under arcface_torch's names, and under those of our variables.

Three layouts are known. InsightFace's arcface_torch has `layer1.0.conv1.weight` and the like. AdaFace and CVLFace
number the layers of a block: `body.0.res_layer.1.weight`. So does InsightFace_Pytorch (TreB1eN), whose blocks have
squeeze-and-excitation, and no batch norm before their PReLU.
"""
import math
import re

import numpy as np

from recognition import registry
from utils import UserError

EPSILON = 1e-5                          # of torch's batch norm
_NAMED = 3                              # most arrays that an error names
_PREFIXES = "module.", "model.", "net.", "backbone."            # before all names of a network that is part of another
_HEADS = "head."                        # begins the names of what only a training needs
_COUNTER = "num_batches_tracked"        # an array of each batch norm that changes nothing
_FIRST = {"conv1.weight": "arcface_torch's", "input_layer.0.weight": "AdaFace's"}
_NORM = "weight", "bias", "running_mean", "running_var"
_LEAVES = {"weights": "weight", "biases": "bias", "gamma": "weight", "beta": "bias", "moving_mean": "running_mean",
           "moving_variance": "running_var", "slopes": "weight"}                # of our variables, and torch's
# What stands where in the numbered layouts, in arcface_torch's words.
_ENDS = {"input_layer.0": "conv1", "input_layer.1": "bn1", "input_layer.2": "prelu", "output_layer.0": "bn2",
         "output_layer.3": "fc", "output_layer.4": "features"}
_BLOCK = "bn1", "conv1", "bn2", "prelu", "conv2", "bn3", "se"
_BLOCK_WITHOUT_BN2 = "bn1", "conv1", "prelu", "conv2", "bn3", "se"


def plain(state):
    """Take what stands before all names, counters and heads of a training out of the names in `state` {name: array}."""
    for prefix in _PREFIXES:
        if any(name.startswith(prefix) and name[len(prefix):] in _FIRST for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()
                     if name.startswith((prefix, _HEADS))}
    return {name: value for name, value in state.items()
            if not name.startswith(_HEADS) and name.rpartition(".")[2] != _COUNTER}


def is_known(state):
    """Tell whether the plain `state` is one of the known layouts, as far as one name tells."""
    return any(name in state for name in _FIRST)


def trained_on_bgr(state):
    """Tell whether the names in `state` are those of AdaFace's checkpoints, whose networks see blue, green, red."""
    return "model.input_layer.0.weight" in state


def in_arcface_names(state):
    """Give the arrays of a plain `state` of a known layout arcface_torch's names -> {name: array}.

    Where the layout lacks a layer, one that changes nothing is added. Raises UserError for a layer without a place.
    """
    if "input_layer.0.weight" not in state:
        return dict(state)
    found, shortcuts, excited = {}, {}, any(re.search(r"fc1\.weight$", name) for name in state)
    places = _places(state)
    for name, value in state.items():
        layer, _, array = name.rpartition(".")
        match = re.fullmatch(r"body\.(\d+)\.(res_layer|shortcut_layer)\.(\w+)(\.fc[12])?", layer)
        if layer in _ENDS:
            found[f"{_ENDS[layer]}.{array}"] = value
        elif match and match[1] in places:
            number, part, inner, excitation = match.groups()
            block = _BLOCK if f"body.{number}.res_layer.2.running_mean" in state else _BLOCK_WITHOUT_BN2
            where = dict(zip(map(str, range(7)), block)) | {"se_block": "se"}
            inner = f"downsample.{inner}" if part == "shortcut_layer" else where.get(inner, inner)
            found[f"{places[number]}.{inner}{excitation or ''}.{array}"] = value
        else:
            found[name] = value                 # `values_of` names it
    for place in places.values():
        filters = len(found[f"{place}.conv1.weight"]) if f"{place}.conv1.weight" in found else 0
        if filters and not any(name.startswith(f"{place}.bn2.") for name in found):
            found |= identity_norm(f"{place}.bn2", filters)
        if place == "layer1.0" and f"{place}.downsample.0.weight" not in found and not excited and filters:
            shortcuts[f"{place}.downsample.0.weight"] = np.eye(filters, dtype=np.float32)[:, :, None, None]
            shortcuts |= identity_norm(f"{place}.downsample.1", filters)
    return _with_last_norm(found | shortcuts)


def _places(state):
    """Tell which block of which stage each numbered block of `state` is -> {"0": "layer1.0", "1": "layer1.1", ...}.

    A stage has twice as many filters as the one before it.
    """
    numbers = sorted({int(match[1]) for match in (re.match(r"body\.(\d+)\.res_layer\.1\.weight$", name)
                                                  for name in state) if match})
    base, places, counts = len(np.atleast_1d(state["input_layer.0.weight"])), {}, {}
    for number in numbers:
        share = len(np.atleast_1d(state[f"body.{number}.res_layer.1.weight"])) // max(base, 1)
        stage = max(share, 1).bit_length()
        places[str(number)] = f"layer{stage}.{counts.get(stage, 0)}"
        counts[stage] = counts.get(stage, 0) + 1
    return places


def _with_last_norm(state):
    """Add weight and bias of the last batch norm to `state` where it has only statistics, as AdaFace's."""
    if "features.weight" in state or "features.running_mean" not in state:
        return state
    norm = identity_norm("features", len(np.atleast_1d(state["features.running_mean"])))
    return norm | state


def identity_norm(name, channels):
    """Make the arrays of a batch norm `name` that changes nothing -> {arcface_torch's name: array}."""
    zeros, ones = np.zeros(channels, np.float32), np.ones(channels, np.float32)
    return dict(zip((f"{name}.{array}" for array in _NORM), (ones, zeros, zeros, ones - np.float32(EPSILON))))


def architecture_of(state, path):
    """Tell which network a `state` under arcface_torch's names is -> registry.Architecture.

    Raises UserError, which names the file `path`, for one of other stages than those known here.
    """
    first_of_block = [re.match(r"layer([1-4])\.\d+\.conv1\.weight$", name) for name in state]
    stages = [match[1] for match in first_of_block if match]
    counts, excited = tuple(map(stages.count, "1234")), any(name.endswith(".se.fc1.weight") for name in state)
    model_def = next((name for name, plan in registry.STAGES.items() if plan == (counts, excited)), None)
    if not model_def:
        words = ", ".join(map(str, counts)) + " blocks" + " with squeeze-and-excitation" * excited
        known = ", ".join(f"{name} ({', '.join(map(str, plan.blocks))})" for name, plan in registry.STAGES.items())
        raise UserError(f"--input {path}: its four stages have {words}, and those of no network here do: {known}")
    filters, dense = len(np.atleast_1d(state["conv1.weight"])), state.get("fc.weight", np.zeros([0, 0]))
    if not filters or dense.ndim != 2 or not len(dense):
        raise UserError(f"--input {path}: not weights of {model_def}: conv1.weight or fc.weight is not there, or empty")
    cells = math.isqrt(dense.shape[1] // (8 * filters))
    return registry.Architecture(model_def, len(dense), width=filters / registry.filters_of(1), cells=cells)


def values_of(state, shapes, model_def, path):
    """Convert a `state` under arcface_torch's names to our variables -> {name: float32 array}.

    `shapes` {name: shape} are the variables of the network `model_def`. Kernels [out, in, h, w] become [h, w, in, out].
    Arrays are taken out of `state` one by one, so that a large file is not in memory twice. Raises UserError, which
    names the file `path`, with the first layers that are missing, have other shapes, or have no place in the network.
    """
    problems, values = [], {}
    for name, shape in shapes.items():
        theirs = name_of(name)
        array = state.pop(theirs, None)
        wanted = list(shape)[-2:][::-1] + list(shape)[:-2] if name.endswith("/weights") else list(shape)
        if array is None:
            problems.append(f"{theirs} is not there")
        elif list(array.shape) != wanted:
            problems.append(f"{theirs} is {list(array.shape)} there, {wanted} here")
        else:
            order = [*range(2, array.ndim), 1, 0] if name.endswith("/weights") else range(array.ndim)
            values[name] = np.ascontiguousarray(array.transpose(order), np.float32)
    problems += [f"{name} has no place in it" for name in state]
    if problems:
        more = f" (and {len(problems) - _NAMED} more)" if len(problems) > _NAMED else ""
        raise UserError(f"--input {path}: not weights of {model_def}: {', '.join(problems[:_NAMED])}{more}")
    return values


def name_of(variable):
    """Translate the name of a variable of recognition/iresnet.py to arcface_torch's."""
    layer, _, leaf = variable.partition("/")[2].rpartition("/")
    layer = "fc" if layer == "Bottleneck" else layer.replace("/", ".")
    return f"{layer}.{_LEAVES[leaf]}"
