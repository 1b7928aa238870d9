"""Find out what a file of published weights is, and what its classifier is in this project."""
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from recognition import registry
from recognition.conversion import iresnet_weights, onnx_file, onnx_iresnet, torch_weights
from utils import open_regular, UserError

_ONNX = b"\x08"                         # begins an ONNX file: its first field, the version of the format
_FACENET_SIZE = 160                     # pixels; its variables are the same for any size


class Published(NamedTuple):
    """A published classifier, before it is converted."""
    architecture: registry.Architecture
    image_size: int                     # of its input, in pixels
    standardization: str                # see `preprocessing.standardize`
    state: dict                         # {published name: array}; `values_of` may take arrays out of it
    values_of: Callable                 # {name of a variable: its shape} -> {name: array}; raises UserError


def read(path, channels="auto"):
    """Read the weights in the file `path` -> Published.

    The file is an ONNX model, a file of torch.save, or an .npz of a state dict. `channels` is the order "rgb" or "bgr"
    in which the network sees colours; "auto" means "bgr" for AdaFace's checkpoints, and else "rgb". Raises UserError
    where the file holds no network that is known here.
    """
    if _is_onnx(path):
        state, standardization = onnx_iresnet.read_state(onnx_file.read(path), path)
        return of_iresnet(state, path, "rgb" if channels == "auto" else channels, standardization)
    state = torch_weights.read(path)
    if torch_weights.FIRST in state:
        return of_facenet(state, path)
    plain = iresnet_weights.plain(state)
    if not iresnet_weights.is_known(plain):
        raise UserError(f"--input {path}: not weights of facenet-pytorch's InceptionResnetV1, and not of an iresnet of "
                        f"InsightFace or AdaFace: {torch_weights.FIRST}, conv1.weight and input_layer.0.weight are not "
                        "there")
    if channels == "auto":
        channels = "bgr" if iresnet_weights.trained_on_bgr(state) else "rgb"
    del state
    return of_iresnet(iresnet_weights.in_arcface_names(plain), path, channels)


def _is_onnx(path):
    """Tell whether the file `path` is an ONNX model, by its name or its first byte."""
    if path.lower().endswith(".onnx"):
        return True
    try:
        with open_regular(path) as file:
            return file.read(1) == _ONNX
    except OSError:                     # whoever reads it says so
        return False


def of_facenet(state, path):
    """Make the Published of facenet-pytorch's `state` {name: array}, from the file `path`."""
    weights = np.atleast_1d(state.get("last_linear.weight", np.zeros([512, 0])))
    return Published(registry.Architecture("inception_resnet_v1", len(weights)), _FACENET_SIZE, "fixed",
                     state, lambda shapes: torch_weights.convert(state, list(shapes), path))


def of_iresnet(state, path, channels="rgb", standardization="arcface"):
    """Make the Published of a `state` {name: array} under arcface_torch's names, from the file `path`.

    The network here sees red, green, blue: of one that sees "bgr", the first weights are put in that order.
    """
    found = iresnet_weights.architecture_of(state, path)
    if channels == "bgr" and state["conv1.weight"].ndim == 4:
        state["conv1.weight"] = state["conv1.weight"][:, ::-1]
    size = registry.size_for(found) or 0
    problem = registry.image_size_problem(found.model_def, size)
    if problem:
        fits = f"images of {size} pixels" if size else "no size of images"
        raise UserError(f"--input {path}: not weights of {found.model_def}: fc.weight is "
                        f"{list(state['fc.weight'].shape)}, which is for {fits}")
    return Published(found, size, standardization, state,
                     lambda shapes: iresnet_weights.values_of(state, shapes, found.model_def, path))
