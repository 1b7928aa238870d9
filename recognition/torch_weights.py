"""Weights of facenet-pytorch's InceptionResnetV1: a file of torch.save, read without torch, under FaceNet's names.

Of the pickle in such a file, nothing is run but the rebuilding of tensors: any other name in it is refused.
"""
import collections
import functools
import io
import pickle
import re
import zipfile
import zlib

import numpy as np

from utils import UserError

DTYPES = {"FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2", "LongStorage": "<i8", "IntStorage": "<i4",
          "ShortStorage": "<i2", "CharStorage": "<i1", "ByteStorage": "<u1", "BoolStorage": "?"}
LEGACY_MAGIC = 0x1950a86a20f9469cfc6c       # begins what torch.save wrote before version 1.6
FILE_ERRORS = (OSError, ValueError, KeyError, IndexError, EOFError, TypeError, AttributeError, pickle.UnpicklingError,
               zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, OverflowError, MemoryError)
BATCH_NORM = {"beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
REPEATS = {"Repeat/block35": "repeat_1", "Repeat_1/block17": "repeat_2", "Repeat_2/block8": "repeat_3"}


# Reading

def read(path):
    """{name: array} of the state dict in `path`: a file of torch.save, or an .npz of its arrays. Raises UserError."""
    try:
        if path.lower().endswith(".npz"):
            with np.load(path, allow_pickle=False) as file:
                return dict(file)
        state = _read_zip(path) if zipfile.is_zipfile(path) else _read_legacy(path)
        if not isinstance(state, dict) or not all(isinstance(value, np.ndarray) for value in state.values()):
            raise ValueError("it holds no state dict")
        return state
    except FILE_ERRORS as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path}: can't be read as weights of torch ({text[:160]}); give a state dict that torch.save "
                        "wrote, or its arrays as .npz") from error


class Unpickler(pickle.Unpickler):
    """Reads a state dict and nothing else. `storage(key, dtype, count)` gives the flat array of a storage."""

    def __init__(self, file, storage):
        super().__init__(file)
        self.storage = storage

    def find_class(self, module, name):
        allowed = {("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor, ("collections", "OrderedDict"): State,
                   ("torch._utils", "_rebuild_parameter"): lambda tensor, *others: tensor}
        if (module, name) in allowed:
            return allowed[module, name]
        if module == "torch" and name in DTYPES:
            return functools.partial(str, name)         # stands for the type; is only compared
        raise pickle.UnpicklingError(f"{module}.{name} in it is no part of a state dict")

    def persistent_load(self, identity):
        kind, storage_type, key, _, count = identity[:5]
        if kind != "storage":
            raise pickle.UnpicklingError(f"{kind} in it is no part of a state dict")
        return self.storage(key, np.dtype(DTYPES[storage_type()]), int(count))


class State(collections.OrderedDict):
    """An OrderedDict whose attributes, torch's versions of modules, are left out."""

    def __setstate__(self, state):
        pass


def rebuild_tensor(storage, offset, size, stride, *others):
    """The array of `size` whose elements lie `stride` apart in a flat `storage`, from `offset` on."""
    if len(size) != len(stride) or min((offset, *size, *stride)) < 0:
        raise ValueError("a tensor without sense")
    last = offset + sum((length - 1) * step for length, step in zip(size, stride)) if 0 not in size else -1
    if last >= len(storage):
        raise ValueError("a tensor that reaches beyond its storage")
    return np.lib.stride_tricks.as_strided(storage[offset:], size, [step * storage.itemsize for step in stride]).copy()


def _read_zip(path):
    """Since torch 1.6: `<name>/data.pkl`, and the storages as `<name>/data/<key>`."""
    with zipfile.ZipFile(path) as archive:
        root = next((name.removesuffix("data.pkl") for name in archive.namelist() if name.endswith("/data.pkl")), None)
        if root is None:
            raise ValueError("no data.pkl in it")
        if root + "byteorder" in archive.namelist() and archive.read(root + "byteorder") != b"little":
            raise ValueError("big-endian")

        @functools.cache
        def storage(key, dtype, count):
            values = np.frombuffer(archive.read(f"{root}data/{key}"), dtype)
            if len(values) < count:
                raise ValueError(f"data/{key} is too short")
            return values

        return Unpickler(io.BytesIO(archive.read(root + "data.pkl")), storage).load()


def _read_legacy(path):
    """Before: five pickles, of which the fourth is the state and the fifth lists the keys; then each storage."""
    storages = {}

    def storage(key, dtype, count):
        return storages.setdefault(key, np.zeros(count, dtype))

    def nothing(*arguments):
        raise pickle.UnpicklingError("a tensor where there should be none")

    with open(path, "rb") as file:
        if Unpickler(file, nothing).load() != LEGACY_MAGIC:
            raise ValueError("not written by torch.save")
        Unpickler(file, nothing).load()                                         # protocol
        if not Unpickler(file, nothing).load().get("little_endian", True):      # of the machine
            raise ValueError("big-endian")
        start, _ = file.tell(), Unpickler(file, storage).load()                 # to learn of the storages
        for key in Unpickler(file, nothing).load():
            count = int.from_bytes(file.read(8), "little")
            data = file.read(count * storages[key].itemsize)
            storages[key] = np.frombuffer(data, storages[key].dtype)
            if len(storages[key]) != count:
                raise ValueError(f"storage {key} is too short")
        file.seek(start)
        return Unpickler(file, storage).load()


# Names

def convert(state, names):
    """{name: array} of FaceNet's variables `names`, from facenet-pytorch's `state` {name: array}. Raises UserError.

    Kernels [out, in, h, w] become [h, w, in, out]. FaceNet's batch norm has no gamma: torch's weight goes into the
    kernel before it and into the moving mean. The softmax head comes along if it is there.
    """
    values, missing, chains = {}, [], _chains(names)
    for name in names:
        try:
            values[name] = np.ascontiguousarray(_convert_one(state, name, chains), np.float32)
        except KeyError as error:
            missing.append(str(error.args[0]))
        except ValueError as error:                         # arrays of other dimensions
            raise UserError(f"not weights of facenet-pytorch's InceptionResnetV1: what should be {name} has another shape "
                            f"({error})") from error
    if missing:
        raise UserError(f"not weights of facenet-pytorch's InceptionResnetV1: {', '.join(missing[:3])} "
                        f"{'is' if len(missing) == 1 else 'are'} not there" + (f" (and {len(missing) - 3} more)"
                                                                              if len(missing) > 3 else ""))
    if "logits.weight" in state and "logits.bias" in state:
        values["Logits/weights"] = np.ascontiguousarray(state["logits.weight"].T, np.float32)
        values["Logits/biases"] = state["logits.bias"].astype(np.float32)
    return values


def _chains(names):
    """{branch: layers, in order} of the branches of blocks among FaceNet's variable `names`."""
    chains = collections.defaultdict(set)
    for name in names:
        branch, found, rest = name.rpartition("/Conv2d_")
        if re.search(r"Branch_\d$", branch):
            chains[branch].add("Conv2d_" + rest.split("/")[0])
    return {branch: sorted(layers) for branch, layers in chains.items()}


def _convert_one(state, name, chains):
    scope, _, rest = name.partition("/")
    if rest.startswith("Bottleneck"):
        layer, norm = "last_linear", "last_bn"
    else:
        place = re.match(r"(.*?)/(BatchNorm/\w+|weights|biases)$", rest).group(1)
        layer = _torch_layer(f"{scope}/{place}", chains)
        norm = layer + ".bn"
        layer += "" if layer.endswith("conv2d") else ".conv"        # the projection of a block is a bare convolution
    kind = rest.rsplit("/", 1)[1]
    if kind == "biases":
        return state[layer + ".bias"]
    if kind in BATCH_NORM:
        gamma = state[norm + ".weight"] if kind == "moving_mean" else 1
        return state[f"{norm}.{BATCH_NORM[kind]}"] * gamma
    weights = state[layer + ".weight"]
    gamma = 1 if layer.endswith("conv2d") else state[norm + ".weight"]
    return weights.transpose([*range(2, weights.ndim), 1, 0]) * gamma


def _torch_layer(place, chains):
    """`repeat_1.0.branch1.0` of `.../Repeat/block35_1/Branch_1/Conv2d_0a_1x1`."""
    block, _, layer = place.partition("/")[2].rpartition("/")
    if not block:
        return re.match(r"Conv2d_\d[a-z]", layer).group(0).lower()
    block, branch, number = block.partition("/Branch_")
    for ours, theirs in REPEATS.items():
        block = re.sub(rf"^{ours}_(\d+)$", lambda match: f"{theirs}.{int(match.group(1)) - 1}", block)
    block = block.lower()
    if not branch:
        return block + ".conv2d"
    chain = chains[place.rpartition("/")[0]]
    return f"{block}.branch{number}" + (f".{chain.index(layer)}" if len(chain) > 1 else "")
