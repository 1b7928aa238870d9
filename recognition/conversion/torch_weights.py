"""A file of torch.save, read without torch; and the weights of facenet-pytorch's network under FaceNet's names.

Such a file holds a pickle, which could run any code. Here it can rebuild tensors alone. Objects of a few packages that
a training saves besides are passed over, and any other name is refused.
"""
import collections
import functools
import io
import math
import pickle
import re
import zipfile
import zlib

import numpy as np

from utils import open_regular, reason_of, UserError

# NumPy's names of the types of torch's storages.
_DTYPES = {"FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2", "LongStorage": "<i8",
           "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "<i1", "ByteStorage": "<u1", "BoolStorage": "?"}
_LEGACY_MAGIC = 0x1950a86a20f9469cfc6c      # begins what torch.save wrote before version 1.6
# All that pickle, zipfile and NumPy raise for a damaged file.
_FILE_ERRORS = (OSError, ValueError, KeyError, IndexError, EOFError, TypeError, AttributeError, pickle.UnpicklingError,
                zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, OverflowError, MemoryError)
# FaceNet's names of variables and blocks, and facenet-pytorch's.
_BATCH_NORM = {"beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
_REPEATS = {"Repeat/block35": "repeat_1", "Repeat_1/block17": "repeat_2", "Repeat_2/block8": "repeat_3"}
FIRST = "conv2d_1a.conv.weight"        # an array of each state dict of this network
_STATES = "state_dict", "state_dict_backbone", "backbone", "model"      # where trainings save a network's state dict
# Packages whose objects a training saves besides: none of them is imported or called, see _Ignored.
_BESIDES = {"pytorch_lightning", "lightning", "lightning_fabric", "lightning_utilities", "omegaconf", "argparse",
            "torch", "numpy", "_codecs"}
_NAMED = 3                                  # most arrays that an error names


# Reading

def read(path):
    """Read the state dict in the file `path` -> {name: array}.

    The file is one that torch.save wrote, or an .npz of the arrays. Raises UserError where it can't be read as that.
    """
    try:
        with open_regular(path) as file:
            zipped = file.read(2) == b"PK"
        if path.lower().endswith(".npz"):
            if not zipped:                  # NumPy would advise to trust it
                raise ValueError("no .npz file")
            with np.load(path, allow_pickle=False) as file:
                state = dict(file)
        else:
            state = _read_zip(path) if zipfile.is_zipfile(path) else _read_legacy(path)
        state = _state_in(state)
        for name, value in state.items():
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                raise ValueError(f"{name} holds NaN or infinity")
        return state
    except _FILE_ERRORS as error:
        raise UserError(f"--input {path}: can't be read as weights of torch ({reason_of(error)}); give a state dict "
                        "that torch.save wrote, or its arrays as .npz") from error


def _state_in(value):
    """Find the state dict in what torch.save wrote: that itself, or what a training saved with its other state."""
    for name in ("", *_STATES):
        state = value.get(name) if name and isinstance(value, dict) else value
        if isinstance(state, dict) and state and all(isinstance(array, np.ndarray) for array in state.values()):
            return state
    raise ValueError("it holds no state dict")


class _Ignored:
    """Stands for an object of a training that no weight is in, such as Lightning's callbacks. It does nothing."""

    def __init__(self, *arguments, **options):
        """Take what the pickle would make the object of."""

    def __setstate__(self, state):
        """Do nothing with the attributes."""

    def __setitem__(self, key, value):
        """Do nothing with an item."""

    def append(self, value):
        """Do nothing with an element."""

    def extend(self, values):
        """Do nothing with elements."""


class _Unpickler(pickle.Unpickler):
    """Reads a state dict and nothing else.

    In torch's files, tensors refer to storages, which are flat arrays kept outside the pickle.
    """

    def __init__(self, file, read_storage):
        """Read from `file`, whose storages `read_storage(key, dtype, count)` gives as flat arrays."""
        super().__init__(file)
        self._read_storage = read_storage

    def find_class(self, module, name):
        """Give the pickle what stands for `module`.`name`. Raises UnpicklingError for any but torch's tensors."""
        allowed = {("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor, ("collections", "OrderedDict"): _State,
                   ("torch._utils", "_rebuild_parameter"): lambda tensor, *others: tensor}
        if (module, name) in allowed:
            return allowed[module, name]
        if module == "torch" and name in _DTYPES:
            return functools.partial(str, name)         # stands for a storage's type, whose name it gives when called
        if module.partition(".")[0] in _BESIDES:
            return _Ignored
        raise pickle.UnpicklingError(f"{module}.{name} in it is no part of a state dict")

    def persistent_load(self, identity):
        """Give the pickle the storage of an `identity`: ("storage", type, key, device, number of elements, ...)."""
        what, storage_type, key, _, count = identity[:5]
        if what != "storage":
            raise pickle.UnpicklingError(f"{what} in it is no part of a state dict")
        return self._read_storage(key, np.dtype(_DTYPES[storage_type()]), int(count))


class _State(collections.OrderedDict):
    """An OrderedDict that leaves out the attributes which torch gives to it, the versions of modules."""

    def __setstate__(self, state):
        """Do nothing with the attributes."""


def _rebuild_tensor(storage, offset, size, stride, *others):
    """Find a tensor in a flat `storage` -> a view of it, an array of the shape `size`.

    Its first element lies at `offset`, and neighbours along each axis lie `stride` elements apart.
    Raises ValueError where the tensor would reach beyond the storage.
    """
    if len(size) != len(stride) or min((offset, *size, *stride)) < 0:
        raise ValueError("a tensor without sense")
    last = offset + sum((length - 1) * step for length, step in zip(size, stride)) if 0 not in size else -1
    if last >= len(storage) or math.prod(size) > len(storage):      # with a stride of 0, it could fill the memory
        raise ValueError("a tensor that reaches beyond its storage")
    return np.lib.stride_tricks.as_strided(storage[offset:], size, [step * storage.itemsize for step in stride])


def _read_zip(path):
    """Read a file of torch 1.6 or later: a zip of `NAME/data.pkl`, and of each storage as `NAME/data/KEY`."""
    with zipfile.ZipFile(path) as archive:
        root = next((name.removesuffix("data.pkl") for name in archive.namelist() if name.endswith("/data.pkl")), None)
        if root is None:
            raise ValueError("no data.pkl in it")
        if root + "byteorder" in archive.namelist() and archive.read(root + "byteorder") != b"little":
            raise ValueError("big-endian")

        @functools.cache
        def read_storage(key, dtype, count):
            values = np.frombuffer(archive.read(f"{root}data/{key}"), dtype)
            if len(values) < count:
                raise ValueError(f"data/{key} is too short")
            return values

        return _Unpickler(io.BytesIO(archive.read(root + "data.pkl")), read_storage).load()


def _read_legacy(path):
    """Read a file of torch before 1.6: five pickles, then each storage.

    The pickles are a magic number, the version, the machine's byte order, the state, and the keys of the storages.
    The state comes before its storages. So it is read twice: once to learn their types, and again to fill them.
    """
    storages = {}

    def read_storage(key, dtype, count):
        return storages.setdefault(key, np.zeros(count, dtype))

    def refuse(*arguments):
        raise pickle.UnpicklingError("a tensor where there should be none")

    with open(path, "rb") as file:
        if _Unpickler(file, refuse).load() != _LEGACY_MAGIC:
            raise ValueError("not written by torch.save")
        _Unpickler(file, refuse).load()                                         # the version
        if not _Unpickler(file, refuse).load().get("little_endian", True):
            raise ValueError("big-endian")
        start = file.tell()
        _Unpickler(file, read_storage).load()
        for key in _Unpickler(file, refuse).load():
            count = int.from_bytes(file.read(8), "little")
            data = file.read(count * storages[key].itemsize)
            storages[key] = np.frombuffer(data, storages[key].dtype)
            if len(storages[key]) != count:
                raise ValueError(f"storage {key} is too short")
        file.seek(start)
        return _Unpickler(file, read_storage).load()


# Names

def convert(state, names, path):
    """Convert facenet-pytorch's `state` {name: array} to the variables `names` of FaceNet -> {name: float32 array}.

    Kernels [out, in, h, w] become [h, w, in, out]. FaceNet's batch norm has no gamma: the weight of torch's batch norm
    goes into the kernel before it and into the moving mean. The softmax head comes along if it is there.
    Raises UserError, which names the file `path`, where an array is missing or has other dimensions.
    """
    refused = f"--input {path}: not weights of facenet-pytorch's InceptionResnetV1"
    values, missing, chains = {}, [], _chains(names)
    for name in names:
        try:
            values[name] = np.ascontiguousarray(_convert_one(state, name, chains), np.float32)
        except KeyError as error:
            missing.append(str(error.args[0]))
        except ValueError as error:                         # arrays of other dimensions
            raise UserError(f"{refused}: what should be {name} has another shape ({error})") from error
    if missing:
        more = f" (and {len(missing) - _NAMED} more)" if len(missing) > _NAMED else ""
        raise UserError(f"{refused}: {', '.join(missing[:_NAMED])} {'is' if len(missing) == 1 else 'are'} not "
                        f"there{more}")
    if "logits.weight" in state and "logits.bias" in state:
        values["Logits/weights"] = np.ascontiguousarray(state["logits.weight"].T, np.float32)
        values["Logits/biases"] = state["logits.bias"].astype(np.float32)
    return values


def _chains(names):
    """Find the layers of each block's branches in FaceNet's variable `names` -> {branch: layers, in order}."""
    chains = collections.defaultdict(set)
    for name in names:
        branch, _, rest = name.rpartition("/Conv2d_")
        if re.search(r"Branch_\d$", branch):
            chains[branch].add("Conv2d_" + rest.split("/")[0])
    return {branch: sorted(layers) for branch, layers in chains.items()}


def _convert_one(state, name, chains):
    """Compute the value of FaceNet's variable `name` from facenet-pytorch's `state`.

    `chains` are those of `_chains`. Raises KeyError, with the name in `state`, where an array is missing.
    """
    scope, _, rest = name.partition("/")
    if rest.startswith("Bottleneck"):
        layer, norm = "last_linear", "last_bn"
    else:
        place = re.match(r"(.*?)/(BatchNorm/\w+|weights|biases)$", rest).group(1)
        layer = _torch_layer(f"{scope}/{place}", chains)
        norm = layer + ".bn"
        layer += "" if layer.endswith("conv2d") else ".conv"        # the projection of a block is a bare convolution
    variable = rest.rsplit("/", 1)[1]
    if variable == "biases":
        return state[layer + ".bias"]
    if variable in _BATCH_NORM:
        gamma = state[norm + ".weight"] if variable == "moving_mean" else 1
        return state[f"{norm}.{_BATCH_NORM[variable]}"] * gamma
    weights = state[layer + ".weight"]
    gamma = 1 if layer.endswith("conv2d") else state[norm + ".weight"]
    return weights.transpose([*range(2, weights.ndim), 1, 0]) * gamma


def _torch_layer(place, chains):
    """Translate a `place` among FaceNet's variables to the name of facenet-pytorch's layer.

    `InceptionResnetV1/Repeat/block35_1/Branch_1/Conv2d_0a_1x1` is the layer `repeat_1.0.branch1.0`. `chains` are those
    of `_chains`.
    """
    block, _, layer = place.partition("/")[2].rpartition("/")
    if not block:
        return re.match(r"Conv2d_\d[a-z]", layer).group(0).lower()
    block, branch, number = block.partition("/Branch_")
    for ours, theirs in _REPEATS.items():
        repeated = re.fullmatch(rf"{ours}_(\d+)", block)
        if repeated:
            block = f"{theirs}.{int(repeated.group(1)) - 1}"        # FaceNet counts from 1
    block = block.lower()
    if not branch:
        return block + ".conv2d"
    chain = chains[place.rpartition("/")[0]]
    return f"{block}.branch{number}" + (f".{chain.index(layer)}" if len(chain) > 1 else "")
