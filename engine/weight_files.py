"""Tell what a file or folder of weights is by its first or last bytes, without TensorFlow: for messages, and to choose.

What training and synthesis read are checkpoints of `tf.compat.v1.train.Saver` and frozen graphs. What people have
besides is often something else, which is to be called by its name.
"""
import importlib.util
import os
import struct
from typing import NamedTuple

from utils import UserError

_TABLE = struct.pack("<Q", 0xdb4775248b80fb57)      # ends an index, and a checkpoint of TensorFlow's first format
_OBJECTS = "_CHECKPOINTABLE_OBJECT_GRAPH"           # a variable of every checkpoint of tf.train.Checkpoint
_OF_DLIB = ".dat"
_ENDINGS = {".onnx": "an ONNX model", ".safetensors": "a safetensors file", ".tflite": "a TensorFlow Lite model",
            ".pt": "weights of PyTorch", ".pth": "weights of PyTorch", ".keras": "a Keras model",
            ".h5": "an HDF5 file, such as Keras's", ".hdf5": "an HDF5 file, such as Keras's",
            ".npz": "a file of arrays (.npz)", ".meta": "the graph of a checkpoint (.meta), without weights",
            _OF_DLIB: "a file of dlib's, to be named itself",
            ".tar": "an archive; unpack it", ".gz": "an archive; unpack it", ".json": "a file of JSON"}
_SAVED_MODEL = "saved_model.pb", "saved_model.pbtxt"


class Packaged(NamedTuple):
    """Weights that lie in a package of PyPI, whose code is not used."""
    package: str                    # as pip calls it
    version: str
    module: str                     # as Python calls it
    file: str                       # in the module's folder

    @property
    def install(self):
        """Write the command that installs the package."""
        return f"pip install --no-deps {self.package}=={self.version}"


# Words that stand for weights in a package. A folder of such a name is given with a slash.
PACKAGED = {"dlib": Packaged("face-recognition-models", "0.3.0", "face_recognition_models",
                             "models/dlib_face_recognition_resnet_model_v1.dat")}


def locate(path):
    """Find the file that a word of PACKAGED stands for -> its path; any other `path` unchanged.

    Nothing of the package is run. Without the package, the path leads nowhere.
    """
    if path not in PACKAGED:
        return path
    there = PACKAGED[path]
    try:
        spec = importlib.util.find_spec(there.module)
    except (ImportError, ValueError):
        spec = None
    places = list(spec.submodule_search_locations or ()) if spec else []
    return os.path.join(places[0] if places else there.module, *there.file.split("/"))


def check_packaged(option, path):
    """Raise UserError where `path` is a word of PACKAGED, and the package that has its weights is not installed."""
    if path in PACKAGED and not os.path.isfile(locate(path)):
        there = PACKAGED[path]
        raise UserError(f"{option} {path}: the package {there.package} is not installed; {there.install}, or give the "
                        f"path of {os.path.basename(there.file)}")


def is_of_dlib(path):
    """Tell by the file's name whether weights are in dlib's own format."""
    return path.lower().endswith(_OF_DLIB)


def is_saved_model(path):
    """Tell whether a frozen graph's name is that of a SavedModel, which is none."""
    return os.path.basename(path) in _SAVED_MODEL


def is_first_format(path):
    """Tell whether the file `path` is a checkpoint in TensorFlow's first format, which has no index beside it."""
    if not os.path.isfile(path):
        return False
    try:
        with open(path, "rb") as file:
            file.seek(0, os.SEEK_END)
            if file.tell() < len(_TABLE):
                return False
            file.seek(-len(_TABLE), os.SEEK_END)
            return file.read() == _TABLE
    except OSError:
        return False


def is_of_objects(names):
    """Tell whether the variables' `names` are those of a checkpoint of tf.train.Checkpoint."""
    return _OBJECTS in names


def describe(path):
    """Say what is at `path`, where it is something else than a checkpoint or frozen graph -> words, or "".

    The words follow a path in a message, such as ": a SavedModel".
    """
    if os.path.isdir(path):
        names = sorted(os.listdir(path))
        if set(names) & set(_SAVED_MODEL):
            return "a SavedModel, "
        first = next((name for name in names if name.endswith(tuple(_ENDINGS))), None)
        return f"holds {first}, {_ENDINGS[os.path.splitext(first)[1]]}, " if first else ""
    if is_saved_model(path):
        return "a SavedModel, "
    found = _of_file(path)
    return f"{found}, " if found else ""


def _of_file(path):
    """Say what the file `path` is -> words, or "" where nothing tells."""
    if not os.path.isfile(path):
        return ""
    ending = os.path.splitext(path)[1].lower()
    if ending in _ENDINGS:
        return _ENDINGS[ending]
    try:
        with open(path, "rb") as file:
            start = file.read(16)
    except OSError:
        return ""
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        return _ENDINGS[".h5"]
    if start[4:8] == b"TFL3":
        return _ENDINGS[".tflite"]
    if start.startswith(b"PK\x03\x04"):
        return "a zip file, such as PyTorch's or Keras's"
    if start[8:9] == b"{" and len(start) == 16 and struct.unpack("<Q", start[:8])[0] < 1 << 40:
        return _ENDINGS[".safetensors"]
    return ""
