"""What is known of each classifier before it is built: sizes of input, its own kind of crop, names in a checkpoint.

This module imports no package, so that a command line can ask it before TensorFlow loads.
"""
import math
from typing import NamedTuple


class Facts(NamedTuple):
    """What is known of one network. Sizes are sides in pixels of its square input."""
    least: int                      # smallest size that the network's strides and its last pooling leave room for
    most: float                     # largest size
    usual: int                      # size where neither an option nor the weights' run says one
    first_layer: str                # name of the layer by which a checkpoint is recognised
    native: str = "box"             # kind of crop that it was made for, see `input_size.window_for`
    standardization: str | None = None      # the one that it needs; None: what its weights or an option say
    frozen: bool = False            # whether it is used as it is, and can't be trained

    @property
    def sizes(self):
        """Say in words which sizes the network accepts."""
        if self.least == self.most:
            return str(self.least)
        return f"from {self.least} up" if self.most == math.inf else f"from {self.least} to {self.most}"


CLASSIFIERS = {"nn4": Facts(65, 96, 96, "conv1_7x7"),
               "inception_resnet_v1": Facts(75, math.inf, 160, "Conv2d_1a_3x3"),
               "small": Facts(32, math.inf, 160, "Conv2d_1"),
               "dlib": Facts(150, 150, 150, "Stem", "dlib", "dlib", frozen=True)}
SCOPE = "InceptionResnetV1"         # scope of the variables in FaceNet's checkpoints, whatever the network
STEP = "recognizer/step"            # name of a variable that only checkpoints of recognizer.py have
FIXED = "recognizer/fixed_standardization"      # name of a variable that is True for a classifier of (v - 127.5) / 128
DLIB_EMBEDDING = 128                # dimensions of dlib's classifier
SIZES = ", ".join(f"{facts.sizes} for {name}" for name, facts in CLASSIFIERS.items())      # for help texts


class Architecture(NamedTuple):
    """A network of CLASSIFIERS, the length E of its embedding, and the scope of its variables."""
    model_def: str
    embedding_size: int
    scope: str = SCOPE


def image_size_problem(model_def, image_size):
    """Say what is wrong with an input of `image_size` pixels for `model_def`; None if nothing is wrong."""
    facts = CLASSIFIERS[model_def]
    if facts.least <= image_size <= facts.most:
        return None
    return f"--image_size {image_size}: must be {facts.sizes} for --model_def {model_def}"


def frozen_problem(model_def):
    """Say that `model_def` can't be trained, and what to do; None if it can."""
    if not CLASSIFIERS[model_def].frozen:
        return None
    return f"--model_def {model_def} is used as it is, and can't be trained"


def standardization_problem(model_def, standardization):
    """Say what is wrong with a typed `standardization` for `model_def`; None if nothing is wrong."""
    needed = CLASSIFIERS[model_def].standardization
    if standardization == "auto" or needed in (None, standardization):
        return None
    return f"--standardization {standardization}: --model_def {model_def} has one of its own; leave it out"


def recognise(shapes, scope=SCOPE):
    """Tell which network has variables of these `shapes` {name: shape} -> (model_def, embedding_size).

    Only variables under `scope` count. Either result is None where the variables don't tell.
    """
    model_def = next((name for name, facts in CLASSIFIERS.items() if f"{scope}/{facts.first_layer}/weights" in shapes),
                     None)
    bottleneck = shapes.get(f"{scope}/Bottleneck/weights")
    return model_def, bottleneck[-1] if bottleneck else None


def architecture_problem(found, config):
    """Say how the Architecture `found` at --pretrained_rec differs from `config`; None if it doesn't.

    `found` is None where no known network was found. The answer names the options to give.
    """
    path = config.pretrained_rec
    if not found:
        return (f"--pretrained_rec {path}: no classifier under {config.facenet_scope}/ in it; give a run of "
                "recognizer.py train, or FaceNet's weights")
    if (found.model_def, found.embedding_size) != (config.model_def, config.embedding_size):
        return (f"--pretrained_rec {path}: holds another network; give --model_def {found.model_def} "
                f"--embedding_size {found.embedding_size}")
    return None
