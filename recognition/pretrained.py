"""Trained classifiers' weights, from a run of recognizer.py or as FaceNet published them: what they are, and their values.

A checkpoint of recognizer.py is known by its variable `recognizer/step`; of it the moving averages are taken. Those of
FaceNet, as `.ckpt` or as a frozen graph (`.pb`), are taken as they are, as FaceNet itself loads them.
"""
import logging
import os
import re
from typing import NamedTuple

import google.protobuf.message
import numpy as np
import tensorflow as tf

import utils
from cli import outputs
from engine import checkpoints, runs
from recognition import facenet, torch_weights

tf1 = tf.compat.v1

STEP, FIXED = "recognizer/step", "recognizer/fixed_standardization"
FIRST_LAYER = {"inception_resnet_v1": "Conv2d_1a_3x3", "nn4": "conv1_7x7", "small": "Conv2d_1"}
PUBLISHED_FIXED = re.compile(r"2018040[28]")     # FaceNet's models that were trained with --use_fixed_image_standardization
FILE_ERRORS = checkpoints.FILE_ERRORS + (google.protobuf.message.DecodeError,)


class Kind(NamedTuple):
    """What a file of weights holds; `model_def` is None where no known network is in it."""
    model_def: str
    embedding_size: int
    standardization: str


def standardization(config):
    """"image" or "fixed": what the classifier of `config`, `--pretrained_rec`, expects.

    Raises UserError where the file holds another network, and warns where it was trained at another size.
    """
    c = config
    if not runs.list_weights(c.pretrained_rec):
        return "image" if c.standardization == "auto" else c.standardization
    kind = recognize(c.pretrained_rec, "--pretrained_rec", c.facenet_scope)
    if not kind.model_def:
        raise utils.UserError(f"--pretrained_rec {c.pretrained_rec}: no classifier under {c.facenet_scope}/ in it; give a run "
                              "of recognizer.py train, or FaceNet's weights")
    if (kind.model_def, kind.embedding_size) != (c.model_def, c.embedding_size):
        raise utils.UserError(f"--pretrained_rec {c.pretrained_rec}: holds another network; give --model_def "
                              f"{kind.model_def} --embedding_size {kind.embedding_size}")
    size = runs.load_params(runs.folder_of(c.pretrained_rec)).get("image_size", c.image_size)
    if size != c.image_size:
        logging.warning("%s: trained with --image_size %d, not %d", c.pretrained_rec, size, c.image_size)
    if c.standardization != "auto":
        return c.standardization
    logging.info("%s: it takes --standardization %s", c.pretrained_rec, kind.standardization)
    return kind.standardization


def recognize(path, option, scope="InceptionResnetV1"):
    """The Kind of the weights at `path`. Raises UserError, which begins with `option`, where there are none.

    Their standardisation is said by recognizer.py's own; it is "fixed" for FaceNet's 20180402 and 20180408, by the
    name of folder or file, and for any Inception-ResNet-v1 of 512 dimensions, as only those were published.
    """
    source, values = _read(path, option)
    return _kind(source, values, scope)


def read(path, variables, option, scope="InceptionResnetV1"):
    """Values of `variables` in the weights at `path`, as {name: array}. Raises UserError, which says what differs."""
    source, values = _read(path, option)
    average = checkpoints.AVERAGE if STEP in values else ""
    found = {v.op.name: values.get(v.op.name + average, values.get(v.op.name)) for v in variables}
    wrong = [_difference(v, found[v.op.name]) for v in variables
             if found[v.op.name] is None or list(found[v.op.name].shape) != v.shape.as_list()]
    if wrong:
        kind = _kind(source, values, scope)
        holds = (f"--model_def {kind.model_def} --embedding_size {kind.embedding_size}" if kind.model_def else
                 f"no known network under {scope}/")
        more = f" (and {len(wrong) - 3} more)" if len(wrong) > 3 else ""
        raise utils.UserError(f"{option} {source}: holds {holds}, not the network asked for: {', '.join(wrong[:3])}{more}")
    return found


def _kind(source, values, scope):
    model_def = next((name for name, layer in FIRST_LAYER.items() if f"{scope}/{layer}/weights" in values), None)
    bottleneck = values.get(f"{scope}/Bottleneck/weights")
    embedding_size = None if bottleneck is None else bottleneck.shape[-1]
    fixed = values.get(FIXED)
    if fixed is None:
        names = os.path.abspath(source).split(os.sep)[-2:]
        fixed = STEP not in values and (any(map(PUBLISHED_FIXED.search, names)) or
                                        (model_def, embedding_size) == ("inception_resnet_v1", 512))
    return Kind(model_def, embedding_size, "fixed" if fixed else "image")


def _difference(variable, value):
    name = variable.op.name
    if value is None:
        return f"{name} is not there"
    return f"{name} is {list(value.shape)} there, {variable.shape.as_list()} here"


def _read(path, option):
    """(file, {name: array}) of the first whole file of weights at `path`. Raises UserError where there is none."""
    for source in runs.list_weights(path):
        try:
            return source, _read_frozen(source) if source.endswith(".pb") else checkpoints.read(source, None)
        except FILE_ERRORS as error:
            logging.warning("%s: not whole, or no weights (%s)", source, checkpoints.first_line(error))
    raise utils.UserError(f"{option} {path}: no weights there that can be read; give a checkpoint's prefix, a frozen graph "
                          "(.pb) or their folder; those of facenet-pytorch are to be converted (recognizer.py convert)")


def _read_frozen(path):
    """The constants of a frozen graph {name: array}: their names are those of the variables that they were."""
    graph = tf1.GraphDef()
    with open(path, "rb") as file:
        graph.ParseFromString(file.read())
    return {node.name: tf.make_ndarray(node.attr["value"].tensor) for node in graph.node if node.op == "Const"}


def write_converted(state, folder):
    """Write facenet-pytorch's weights, {name: array} as `torch_weights.read` gives them, as a checkpoint in `folder`.

    Returns its prefix. Raises UserError.
    """
    if runs.list_checkpoints(folder):
        raise utils.UserError(f"--output {folder}: there are checkpoints already; name another folder")
    weights = np.atleast_1d(state.get("last_linear.weight", np.zeros([512, 0])))
    with tf.Graph().as_default(), tf1.Session() as session:
        tf1.set_random_seed(0)                          # of no effect, but where ops must be deterministic asked for
        facenet.embed(tf1.placeholder(tf.float32, [None, 160, 160, 3]), "inception_resnet_v1", len(weights))
        network = {v.op.name: v.shape.as_list() for v in tf1.global_variables()}
        values = torch_weights.convert(state, list(network))
        checkpoints.assign(session, tf1.global_variables(), values, "--input", required=network)
        others = {name: value for name, value in values.items() if name not in network} | {FIXED: np.array(True)}
        variables = [tf1.get_variable(name, initializer=value, use_resource=True) for name, value in others.items()]
        session.run([v.initializer for v in variables])
        outputs.check_folder(folder)
        return checkpoints.save(session, tf1.train.Saver(), folder, 0)
