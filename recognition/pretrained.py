"""Weights of trained classifiers: which network they belong to, what it expects, and the values of its variables.

They come from a run of recognizer.py, from FaceNet's releases, or from dlib's file. A checkpoint of recognizer.py is
known by its variable `recognizer/step`, and its moving averages are used. FaceNet's checkpoints (`.ckpt`) and frozen
graphs (`.pb`) are used as they are, because FaceNet itself does so.
"""
import logging
import os
import re
from typing import NamedTuple

import google.protobuf.message
import numpy as np
import tensorflow as tf

from engine import checkpoints, runs, weight_files
from recognition import dlib_file, input_size, networks, registry
from utils import open_regular, UserError

tf1 = tf.compat.v1

_PUBLISHED_FIXED = re.compile(r"2018040[28]")    # FaceNet's releases trained with --use_fixed_image_standardization
# What TensorFlow, protobuf and NumPy raise for a damaged file.
_FILE_ERRORS = (*checkpoints.FILE_ERRORS, google.protobuf.message.DecodeError, TypeError, KeyError, AttributeError)
_NAMED = 3                                      # most variables that an error names


class Weights(NamedTuple):
    """What a file of weights holds."""
    source: str                                 # the file, for messages
    values: dict                                # {name of a variable: array}
    architecture: registry.Architecture | None          # None where no known network is in the file
    standardization: str                        # see `preprocessing.standardize`
    native: str = "box"                         # kind of crop that it was made for, see `input_size.window_for`


def read(path, option, scope=registry.SCOPE):
    """Read the first whole file of weights at `path` -> Weights of the network under `scope`.

    A checkpoint of recognizer.py says which standardization its network expects, and its run on which kind of crop it
    was trained. A network that is used as it is, dlib's, has one of its own. Any other file means "fixed" where it or
    its folder is named like FaceNet's releases 20180402 and 20180408. It also means "fixed" where it holds an
    Inception-ResNet-v1 of 512 dimensions, because only those releases have 512. Else it means the usual one of its
    network.
    Raises UserError, which begins with `option`, where no weights can be read.
    """
    weight_files.check_packaged(option, path)
    source, values = _read_file(path, option, scope)
    architecture = registry.architecture_in({name: value.shape for name, value in values.items()}, scope)
    native = _native_of(source, architecture and architecture.model_def, registry.STEP in values)
    return Weights(source, values, architecture, _standardization_of(source, values, architecture), native)


def _standardization_of(source, values, architecture):
    """Tell which standardization the network of a file `source` expects, whose variables are `values` {name: array}."""
    facts = registry.CLASSIFIERS[architecture.model_def] if architecture else None
    if facts and facts.frozen:
        return facts.standardization
    noted, fixed = values.get(registry.STANDARDIZATION), values.get(registry.FIXED)
    if noted is not None and 0 <= noted < len(input_size.STANDARDIZATIONS):
        return input_size.STANDARDIZATIONS[int(noted)]
    if fixed is None:
        names = os.path.abspath(source).split(os.sep)[-2:]
        published = any(map(_PUBLISHED_FIXED.search, names)) or (architecture or ())[:2] == ("inception_resnet_v1", 512)
        fixed = published and registry.STEP not in values
    return "fixed" if fixed else facts.standardization if facts else "image"


def architecture_for(config):
    """Read the registry.Architecture of the classifier that the `config` of main.py names; None where nothing tells.

    Only a checkpoint's index is read, or dlib's file. Raises UserError where no checkpoint is whole.
    """
    files = runs.list_weights(config.pretrained_rec) if config.pretrained_rec else []
    shapes = dlib_file.read_shapes(files, "--pretrained_rec", config.pretrained_rec, config.facenet_scope) if files \
        else None
    return registry.architecture_in(shapes, config.facenet_scope) if shapes else None


def read_for(config):
    """Read the classifier that the `config` of main.py names as --pretrained_rec -> Weights.

    Its standardization is the one that `config` asks for, and with "auto" that of the file. Raises UserError where the
    file holds another network than `config` names. Warns where the network was trained on images of another size.
    """
    path, scope = config.pretrained_rec, config.facenet_scope
    weights = read(path, "--pretrained_rec", scope)
    problem = registry.architecture_problem(weights.architecture, config)
    if problem:
        raise UserError(problem)
    size = runs.load_params(runs.folder_of(weights.source)).get("image_size", config.image_size)
    if size != config.image_size:
        logging.warning("%s: trained with --image_size %s, not %d", path, size, config.image_size)
    if config.standardization != "auto":
        return weights._replace(standardization=config.standardization)
    logging.info("%s: its --standardization is %s", path, weights.standardization)
    return weights


def view_for(config, weights, crop="box"):
    """Make the input_size.View in which the classifier of Weights sees crops, by the options of a command.

    `crop` is the kind of crops that it is shown, one of input_size.CROPS.
    """
    return input_size.View(config.image_size, weights.standardization, input_size.window_for(weights.native, crop))


def _native_of(source, model_def, trained_here):
    """Tell the kind of crop that a network was trained on: a run of recognizer.py says it, else the registry."""
    usual = registry.CLASSIFIERS[model_def].native if model_def else "box"
    said = runs.load_params(runs.folder_of(source)).get("crop") if trained_here else None
    return said if said in input_size.CROPS else usual


def values_for(weights, variables, option):
    """Select the values of `variables` in a Weights -> {name: array}.

    Raises UserError, which begins with `option`, where a variable is missing or has another shape.
    """
    average = checkpoints.AVERAGE if registry.STEP in weights.values else ""
    found = {variable.op.name: weights.values.get(variable.op.name + average, weights.values.get(variable.op.name))
             for variable in variables}
    problems = list(filter(None, (_difference(variable, found[variable.op.name]) for variable in variables)))
    if problems:
        network = weights.architecture
        holds = f"--model_def {network.model_def} --embedding_size {network.embedding_size}" if network else \
            "no known network"
        more = f" (and {len(problems) - _NAMED} more)" if len(problems) > _NAMED else ""
        raise UserError(f"{option} {weights.source}: holds {holds}, not the network asked for: "
                        f"{', '.join(problems[:_NAMED])}{more}")
    return found


def _difference(variable, value):
    """Say what is wrong with the `value` that a file has for a variable; None if nothing is wrong.

    `value` is an array, or None where the file has none.
    """
    name, shape = variable.op.name, variable.shape.as_list()
    if value is None:
        return f"{name} is not there"
    return None if list(value.shape) == shape else f"{name} is {list(value.shape)} there, {shape} here"


def _read_file(path, option, scope):
    """Read the first whole file of weights at `path` -> (file, {name: array}).

    dlib's variables are those under `scope`, which its file does not name. A warning names each file that is not whole.
    Raises UserError, which begins with `option`, where none is whole.
    """
    for source in runs.list_weights(path):
        try:
            if weight_files.is_of_dlib(source):
                return source, dlib_file.read(source, option, scope)
            return source, _read_frozen(source) if source.endswith(".pb") else checkpoints.read(source, None)
        except _FILE_ERRORS as error:
            logging.warning("%s: not whole, or no weights (%s)", source, checkpoints.first_line(error))
    raise UserError(f"{option} {path}: no weights there that can be read; give a checkpoint's prefix, a frozen graph "
                    "(.pb) or their folder; files of torch and ONNX are to be converted first (recognizer.py convert)")


def _read_frozen(path):
    """Read the constants of a frozen graph -> {name: array}; each is named after the variable that it was.

    A constant without a type is left out. Raises ValueError for a graph without any other.
    """
    graph = tf1.GraphDef()
    with open_regular(path) as file:
        graph.ParseFromString(file.read())
    tensors = {node.name: node.attr["value"].tensor for node in graph.node if node.op == "Const"}
    values = {name: tf.make_ndarray(tensor) for name, tensor in tensors.items() if tensor.dtype}
    if not values:
        raise ValueError("no constants in it")
    return values


def write_converted(weights, folder):
    """Write a conversion.published.Published as a checkpoint into `folder` -> its prefix.

    Raises UserError where an array is missing or of another shape.
    """
    with tf.Graph().as_default(), tf1.Session() as session:
        tf1.set_random_seed(0)              # the initial values are never used, but determinism insists on a seed
        networks.embed(tf1.placeholder(tf.float32, [None, weights.image_size, weights.image_size, 3]),
                       weights.architecture)
        shapes = {variable.op.name: variable.shape.as_list() for variable in tf1.global_variables()}
        values = weights.values_of(shapes)
        checkpoints.assign(session, tf1.global_variables(), values, "--input", required=shapes)
        others = {name: value for name, value in values.items() if name not in shapes}
        name, noted = registry.standardization_note(weights.standardization)
        others[name] = np.array(noted)
        variables = [tf1.get_variable(name, initializer=value, use_resource=True) for name, value in others.items()]
        session.run([variable.initializer for variable in variables])
        os.makedirs(folder, exist_ok=True)
        return checkpoints.save(session, tf1.train.Saver(), folder, 0)
