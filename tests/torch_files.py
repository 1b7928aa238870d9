"""Files as torch.save writes them, made without torch, and facenet-pytorch's network computed by plain NumPy."""
import io
import pickle
import sys
import types
import zipfile

import numpy as np

EPSILON = 1e-3
CHAINS = {                  # facenet-pytorch's layers: (name, out, in, height, width) of each branch's convolutions
    "block35": [[(32, 1, 1)], [(32, 1, 1), (32, 3, 3)], [(32, 1, 1), (32, 3, 3), (32, 3, 3)]],
    "block17": [[(128, 1, 1)], [(128, 1, 1), (128, 1, 7), (128, 7, 1)]],
    "block8": [[(192, 1, 1)], [(192, 1, 1), (192, 1, 3), (192, 3, 1)]],
    "mixed_6a": [[(384, 3, 3)], [(192, 1, 1), (192, 3, 3), (256, 3, 3)]],
    "mixed_7a": [[(256, 1, 1), (384, 3, 3)], [(256, 1, 1), (256, 3, 3)], [(256, 1, 1), (256, 3, 3), (256, 3, 3)]]}
STEM = {"conv2d_1a": (32, 3, 3), "conv2d_2a": (32, 3, 3), "conv2d_2b": (64, 3, 3), "conv2d_3b": (80, 1, 1),
        "conv2d_4a": (192, 3, 3), "conv2d_4b": (256, 3, 3)}
BLOCKS = ([(f"repeat_1.{i}", "block35", 256, .17) for i in range(5)] + [("mixed_6a", "mixed_6a", 256, None)]
          + [(f"repeat_2.{i}", "block17", 896, .10) for i in range(10)] + [("mixed_7a", "mixed_7a", 896, None)]
          + [(f"repeat_3.{i}", "block8", 1792, .20) for i in range(5)] + [("block8", "block8", 1792, 1.)])


def layer_names(block, chains):
    """The name of every convolution of each branch: `branch0` where it is alone, else `branch1.0`, `branch1.1`, ..."""
    return [[f"{block}.branch{i}" + (f".{j}" if len(chain) > 1 else "") for j in range(len(chain))]
            for i, chain in enumerate(chains)]


def random_state(seed=0, embedding_size=512, classes=3):
    """{name: float32 array} of a random InceptionResnetV1 in facenet-pytorch's layout; no batch norm is trivial."""
    rng = np.random.default_rng(seed)
    state = {}

    def norm(name, count):
        state.update({f"{name}.weight": rng.uniform(.5, 1.5, count), f"{name}.bias": rng.normal(0, .1, count),
                      f"{name}.running_mean": rng.normal(0, .1, count),
                      f"{name}.running_var": rng.uniform(.5, 1.5, count)})

    def convolution(name, count, channels, height, width):
        scale = (2 / (channels * height * width)) ** .5
        state[f"{name}.conv.weight"] = rng.normal(0, scale, [count, channels, height, width])
        norm(f"{name}.bn", count)

    channels = 3
    for name, (count, height, width) in STEM.items():
        convolution(name, count, channels, height, width)
        channels = count
    for block, plan, channels, scale in BLOCKS:
        outputs = 0
        for names, chain in zip(layer_names(block, CHAINS[plan]), CHAINS[plan]):
            inputs = channels
            for name, (count, height, width) in zip(names, chain):
                convolution(name, count, inputs, height, width)
                inputs = count
            outputs += inputs
        if scale:
            state[f"{block}.conv2d.weight"] = rng.normal(0, outputs ** -.5, [channels, outputs, 1, 1])
            state[f"{block}.conv2d.bias"] = rng.normal(0, .1, channels)
    state["last_linear.weight"] = rng.normal(0, 1792 ** -.5, [embedding_size, 1792])
    norm("last_bn", embedding_size)
    state["logits.weight"] = rng.normal(0, 1, [classes, embedding_size])
    state["logits.bias"] = rng.normal(0, 1, classes)
    state = {name: value.astype(np.float32) for name, value in state.items()}
    return state | {"conv2d_1a.bn.num_batches_tracked": np.array(7, np.int64)}


# The network, from its description alone

def convolve(x, weights, stride=1, same=True):
    """`x` [H, W, C] and `weights` [out, C, h, w] -> [H', W', out]; SAME at stride 1, else VALID."""
    height, width = weights.shape[2:]
    if same:
        x = np.pad(x, [(height // 2, height // 2), (width // 2, width // 2), (0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(x, (height, width), (0, 1))[::stride, ::stride]
    return np.einsum("ijchw,ochw->ijo", windows, weights, optimize=True)


def normalise(x, state, name):
    """Apply the batch norm `name` to `x` [..., C]."""
    scale, shift, mean, variance = (state[f"{name}.{array}"]
                                    for array in ("weight", "bias", "running_mean", "running_var"))
    return (x - mean) / np.sqrt(variance + EPSILON) * scale + shift


def pool(x):
    """Max-pool `x` [H, W, C] over windows of 3 x 3, 2 pixels apart."""
    return np.lib.stride_tricks.sliding_window_view(x, (3, 3), (0, 1))[::2, ::2].max(axis=(3, 4))


def layer(x, state, name, stride=1, same=True):
    """Convolution, batch norm, ReLU: `x` [H, W, C] -> [H', W', out]."""
    return np.maximum(normalise(convolve(x, state[f"{name}.conv.weight"], stride, same), state, f"{name}.bn"), 0)


def embed(state, pixels):
    """The embedding [E] of `pixels` [S, S, 3] in 0..255, by InceptionResnetV1 with the weights `state`."""
    x = (pixels.astype(np.float64) - 127.5) / 128
    for name, (stride, same) in dict(conv2d_1a=(2, False), conv2d_2a=(1, False), conv2d_2b=(1, True)).items():
        x = layer(x, state, name, stride, same)
    x = layer(layer(layer(pool(x), state, "conv2d_3b"), state, "conv2d_4a", 1, False), state, "conv2d_4b", 2, False)
    for block, plan, _, scale in BLOCKS:
        outputs = []
        for names in layer_names(block, CHAINS[plan]):
            y = x
            for name in names:
                reducing = scale is None and name == names[-1]
                y = layer(y, state, name, 2 if reducing else 1, not reducing)
            outputs.append(y)
        if scale is None:
            x = np.concatenate([*outputs, pool(x)], axis=2)
        else:
            mixed = convolve(np.concatenate(outputs, axis=2), state[f"{block}.conv2d.weight"])
            x = x + scale * (mixed + state[f"{block}.conv2d.bias"])
            x = x if block == "block8" else np.maximum(x, 0)
    x = normalise(state["last_linear.weight"] @ x.mean(axis=(0, 1)), state, "last_bn")
    return x / np.linalg.norm(x)


# Files

def fake_torch(monkeypatch):
    """Modules under torch's names, for the pickler to refer to; gone after the test."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")

    def _rebuild_tensor_v2(*arguments):
        raise AssertionError("only named, never called")

    def global_of(module, value, name):
        value.__module__, value.__qualname__, value.__name__ = module.__name__, name, name
        setattr(module, name, value)

    global_of(utils, _rebuild_tensor_v2, "_rebuild_tensor_v2")
    for name in ("FloatStorage", "LongStorage"):
        global_of(torch, type(name, (), {}), name)
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)
    return torch, utils


class TorchPickler(pickle.Pickler):
    """Pickles arrays as torch does tensors; `storages` collects {key: flat array}."""

    def __init__(self, file, torch, utils, legacy):
        super().__init__(file, protocol=2)
        self.torch, self.utils, self.legacy, self.storages = torch, utils, legacy, {}

    def persistent_id(self, value):
        if not isinstance(value, Storage):
            return None
        self.storages[value.key] = value.array
        storage_type = self.torch.FloatStorage if value.array.dtype == np.float32 else self.torch.LongStorage
        return ("storage", storage_type, value.key, "cpu", value.array.size) + ((None,) if self.legacy else ())

    def reducer_override(self, value):
        if not isinstance(value, np.ndarray):
            return NotImplemented
        storage = Storage(str(len(self.storages)), np.concatenate([np.zeros(2, value.dtype), value.T.ravel()]))
        strides = np.cumprod([1, *value.shape])[:-1]                # transposed, and not at the storage's beginning
        return self.utils._rebuild_tensor_v2, (storage, 2, value.shape, tuple(map(int, strides)), False, {})


class Storage:
    """A flat array under a key, as torch's storages are."""

    def __init__(self, key, array):
        self.key, self.array = key, array


def save(path, value, monkeypatch, legacy=False):
    """Write `value`, of which arrays become tensors, as torch.save does, or did before version 1.6."""
    torch, utils = fake_torch(monkeypatch)
    body = io.BytesIO()
    pickler = TorchPickler(body, torch, utils, legacy)
    pickler.dump(value)
    if not legacy:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("model/data.pkl", body.getvalue())
            archive.writestr("model/byteorder", "little")
            for key, array in pickler.storages.items():
                archive.writestr(f"model/data/{key}", array.tobytes())
            archive.writestr("model/version", "3\n")
        return
    with open(path, "wb") as file:
        for heading in (0x1950a86a20f9469cfc6c, 1001, {"protocol_version": 1001, "little_endian": True}):
            pickle.dump(heading, file, protocol=2)
        file.write(body.getvalue())
        pickle.dump(sorted(pickler.storages), file, protocol=2)
        for key in sorted(pickler.storages):
            file.write(pickler.storages[key].size.to_bytes(8, "little") + pickler.storages[key].tobytes())
