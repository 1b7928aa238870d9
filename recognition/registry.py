"""What is known of each classifier before it is built: sizes of input, its own kind of crop, names in a checkpoint.

This module imports none but `input_size`, so that a command line can ask it before TensorFlow loads.
"""
import math
from typing import NamedTuple

from recognition.input_size import STANDARDIZATIONS


class Facts(NamedTuple):
    """What is known of one network. Sizes are sides in pixels of its square input."""
    least: int                      # smallest size that the network's strides and its last pooling leave room for
    most: float                     # largest size
    usual: int                      # size where neither an option nor the weights' run says one
    layer: str                      # name of the layer by which a checkpoint is recognised
    native: str = "box"             # kind of crop that it was made for, see `input_size.window_for`
    standardization: str = "image"  # what it sees where nothing says another, see `preprocessing.standardize`
    statistics_decay: float = .995  # of batch norm's moving statistics in a training; FaceNet's, or 1 - torch's .1
    frozen: bool = False            # whether it is used as it is: it can't be trained, nor see anything else

    @property
    def sizes(self):
        """Say in words which sizes the network accepts."""
        if self.least == self.most:
            return str(self.least)
        return f"from {self.least} up" if self.most == math.inf else f"from {self.least} to {self.most}"


class Stages(NamedTuple):
    """The plan of a network of recognition/iresnet.py."""
    blocks: tuple                   # number of blocks in each of its four stages
    excited: bool = False           # whether its blocks have squeeze-and-excitation


def _iresnet(layer):
    """Make the Facts of a network of recognition/iresnet.py, known by the layer of this name."""
    return Facts(32, math.inf, 112, layer, "arcface", "arcface", .9)


# A network is the last one here whose layer a checkpoint has: a larger iresnet has the smaller ones' layers too.
CLASSIFIERS = {"nn4": Facts(65, 96, 96, "conv1_7x7"),
               "inception_resnet_v1": Facts(75, math.inf, 160, "Conv2d_1a_3x3"),
               "small": Facts(32, math.inf, 160, "Conv2d_1"),
               "dlib": Facts(150, 150, 150, "Stem", "dlib", "dlib", frozen=True),
               "iresnet18": _iresnet("layer3/1/conv1"),
               "iresnet34": _iresnet("layer3/5/conv1"),
               "iresnet50": _iresnet("layer3/13/conv1"),
               "ir_se50": _iresnet("layer3/13/se/fc1"),
               "iresnet100": _iresnet("layer3/29/conv1")}
STAGES = {"iresnet18": Stages((2, 2, 2, 2)), "iresnet34": Stages((3, 4, 6, 3)), "iresnet50": Stages((3, 4, 14, 3)),
          "ir_se50": Stages((3, 4, 14, 3), excited=True), "iresnet100": Stages((3, 13, 30, 3))}
SCOPE = "InceptionResnetV1"         # scope of the variables in FaceNet's checkpoints, whatever the network
STEP = "recognizer/step"            # name of a variable that only checkpoints of recognizer.py have
FIXED = "recognizer/fixed_standardization"      # name of a variable that is True for a classifier of (v - 127.5) / 128
STANDARDIZATION = "recognizer/standardization"  # where it is another one: its number in input_size.STANDARDIZATIONS
DLIB_EMBEDDING = 128                # dimensions of dlib's classifier
_FILTERS = 64                       # of the first convolution of an iresnet
_REDUCED = 16                       # pixels of the input for each of an iresnet's last features, along an axis


def _in_words(sizes):
    """Say in words which networks accept which sizes: `sizes` are a list of (network, its sizes in words)."""
    groups = {}
    for name, words in sizes:
        groups.setdefault(words, []).append(name)
    return ", ".join(f"{words} for {' and '.join(filter(None, [', '.join(names[:-1]), names[-1]]))}"
                     for words, names in groups.items())


SIZES = _in_words((name, facts.sizes) for name, facts in CLASSIFIERS.items())           # for help texts


class Architecture(NamedTuple):
    """A network of CLASSIFIERS with what decides its variables."""
    model_def: str
    embedding_size: int             # the length E of its embedding
    scope: str = SCOPE              # of its variables
    width: float = 1.               # its filters, as a share of the usual ones; another than 1 only for those of STAGES
    cells: int | None = None        # rows of the features that a dense layer was made for; None: not known, or any


def named_by(config):
    """Make the Architecture that the options `config` of main.py name, which have no width."""
    return Architecture(config.model_def, config.embedding_size, config.facenet_scope)


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
    facts = CLASSIFIERS[model_def]
    if not facts.frozen or standardization in ("auto", facts.standardization):
        return None
    return f"--standardization {standardization}: --model_def {model_def} has one of its own; leave it out"


def cells_problem(found, image_size):
    """Say what is wrong with an input of `image_size` pixels for the weights of an Architecture; None if nothing is.

    The dense layer of an iresnet has a weight for each place of its last features.
    """
    if not found.cells or cells_of(image_size) == found.cells:
        return None
    return f"--image_size {image_size}: these weights are for --image_size {size_for(found)}; give that"


def size_for(found):
    """Compute the size of input that the weights of an Architecture were made for; None where they don't tell."""
    return found.cells * _REDUCED if found.cells else None


def usual_size(network):
    """Tell the size of input of an Architecture where nothing says another: its weights', or else its network's."""
    return size_for(network) or CLASSIFIERS[network.model_def].usual


def filters_of(width):
    """Count the filters of the first convolution of an iresnet. The stages have so many, and 2, 4 and 8 times it."""
    return round(_FILTERS * width)


def cells_of(image_size):
    """Count the rows of an iresnet's last features: its four stages each halve the image, rounded up."""
    return -(-image_size // _REDUCED)


def recognise(shapes, scope=SCOPE):
    """Tell which network has variables of these `shapes` {name: shape} -> (model_def, embedding_size).

    Only variables under `scope` count. Either result is None where the variables don't tell.
    """
    known = [name for name, facts in CLASSIFIERS.items() if f"{scope}/{facts.layer}/weights" in shapes]
    model_def = known[-1] if known else None
    bottleneck = shapes.get(f"{scope}/Bottleneck/weights")
    return model_def, bottleneck[-1] if bottleneck else None


def architecture_in(shapes, scope=SCOPE):
    """Tell the Architecture of variables of these `shapes` {name: shape} under `scope`; None where they don't tell."""
    model_def, embedding_size = recognise(shapes, scope)
    if not (model_def and embedding_size):
        return None
    found = Architecture(model_def, embedding_size, scope)
    first = shapes.get(f"{scope}/conv1/weights")
    if model_def not in STAGES or not first:
        return found
    width = first[-1] / _FILTERS
    cells = math.isqrt(shapes[f"{scope}/Bottleneck/weights"][0] // (8 * filters_of(width)))
    return found._replace(width=width, cells=cells)


def standardization_note(standardization):
    """Make what tells in a checkpoint which input its network expects -> (name of a variable, its value)."""
    if standardization in ("image", "fixed"):           # as checkpoints had it before there were others
        return FIXED, standardization == "fixed"
    return STANDARDIZATION, STANDARDIZATIONS.index(standardization)


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
    return cells_problem(found, config.image_size) if found.cells else None
