"""How much memory networks, classifiers and renderings take, estimated from options alone, against what there is.

The factors were fitted to measured peaks of trainings, syntheses and renderings on a CPU (docs/machines.md), all of
which lie within a factor of 1.4 of the estimate. What a GPU has is not known without TensorFlow, and is not looked at.
"""
import itertools
import logging
import os
from typing import NamedTuple

from engine import memory, startup
from recognition import input_size, registry
from utils import UserError

GIB = 2 ** 30
SLACK = 1.3                         # more than what there is times this is refused: the estimate may be too large
FLOAT = 4                           # bytes of a number
PROGRAM, TRAINING = .55 * GIB, .2 * GIB         # Python, TensorFlow and its threads; a step's graph besides
IN_WORK = 2                         # copies of a weight, outside of a training
AHEAD = 3                           # batches of a loader, besides one for each worker
GENERATOR_KEPT, DISCRIMINATOR_KEPT = 3.75, 1.17         # times the activations of an image: of all calls in a step
PATCH_KEPT = 8                      # times the activations of an image: of both patch discriminators
# Numbers that a head keeps for each image and identity, as measured with 1,000 and 100,000 identities.
HEAD_KEPT = {"softmax_center": 5, "arcface": 7.5, "cosface": 7.5, "adaface": 9.5}
SYNTHESIS_BATCH = 16                # images at a time
MADE, JUDGED = 3.8, 1.5             # numbers an image keeps for each pixel and filter, without gradients
SHEETS, SHEET_ROWS = 3, 32          # copies of a sample sheet, and the most rows of one
CANVAS = 450                        # side in pixels of a whole rendering
RENDERER = .35 * GIB                # Python, NumPy and the built-in model
MODEL_COPIES = 3                    # of a model's file
PER_RENDERER = .15 * GIB            # of a worker that renders
PER_SAMPLE = 115                    # bytes of each sample of a rendering
PER_DETECTOR = .75 * GIB            # of a worker that finds faces, with a TensorFlow of its own


class Classifier(NamedTuple):
    """What is known of a classifier's memory."""
    weights: float                  # before its bottleneck
    features: int                   # numbers that go into the bottleneck; of an iresnet, for each of its cells
    graph: float                    # bytes of its graph and of what oneDNN prepares
    kept: float                     # numbers that a training keeps of an image, for each pixel of its input
    embeds: float                   # the same where it only embeds


CLASSIFIERS = {"inception_resnet_v1": Classifier(22.58e6, 1792, .7 * GIB, 240, 20),
               "nn4": Classifier(6.86e6, 896, .25 * GIB, 215, 20),
               "small": Classifier(.833e6, 192, 0, 57, 10),
               "dlib": Classifier(5.575e6, 256, .27 * GIB, 40, 18),
               "iresnet18": Classifier(11.2e6, 512, .2 * GIB, 600, 200),
               "iresnet34": Classifier(21.3e6, 512, .3 * GIB, 900, 200),
               "iresnet50": Classifier(30.8e6, 512, .4 * GIB, 1200, 200),
               "ir_se50": Classifier(31.0e6, 512, .4 * GIB, 1300, 200),
               "iresnet100": Classifier(52.4e6, 512, .7 * GIB, 2000, 200)}


class Part(NamedTuple):
    """A part of what is needed."""
    needed: float                   # bytes
    options: str                    # those to make smaller; "" for none
    on_device: bool = False         # whether a GPU holds it, where there is one


# Networks

def copies_of(optimizer):
    """Count the copies of each weight in a training: itself, gradient, average, the optimizer's, those in work."""
    return 7 if optimizer in ("adam", "adadelta", "rmsprop") else 6


def classifier_weights(architecture, image_size):
    """Count the weights of a classifier, a registry.Architecture, for images of `image_size` pixels."""
    facts, width = CLASSIFIERS[architecture.model_def], architecture.width
    features = facts.features
    if architecture.model_def in registry.STAGES:
        features *= width * registry.cells_of(image_size) ** 2
    return facts.weights * width ** 2 + features * architecture.embedding_size


def generator_weights(filters, blocks, skips, normalises=True):
    """Count the weights of a generator with `filters` at full size and `blocks` residual blocks."""
    down = 49 * 3 * filters + 9 * 2 * filters ** 2 + 9 * 8 * filters ** 2
    up = 9 * 8 * filters ** 2 + 9 * (4 if skips else 2) * filters ** 2 + 49 * 3 * (2 if skips else 1) * filters
    return down + up + blocks * (2 * 9 * 16 * filters ** 2 + (16 if normalises else 8) * filters)


def discriminator_weights(size, hidden, code):
    """Count the weights of a discriminator with `hidden` filters at full size and a code of `code` numbers."""
    levels, side = _levels_of(size)
    encoder = 9 * 3 * hidden + hidden + sum(_level_weights(level, levels, hidden) for level in range(1, levels + 1))
    dense = side * side * hidden * (levels + 1) * code + code + side * side * hidden
    return encoder + dense + 2 * levels * (9 * hidden + 1) * hidden + 9 * 3 * hidden + 3


def patch_discriminator_weights(filters, scales, layers):
    """Count the weights of a patch discriminator with `filters` of its first convolution. `layers` are --d_layers."""
    widths = [[3, *_patch_widths(filters, depth), 1] for depth in _depths_of(layers)]
    return scales * sum((16 * before + 1) * here for each in widths for before, here in itertools.pairwise(each))


def _depths_of(layers):
    """List the depths of a patch discriminator from what --d_layers says."""
    return [int(depth) for depth in layers.split(",")]


def _patch_widths(filters, depth):
    """List the widths of a patch discriminator's convolutions, without the last."""
    return [min(2 ** i, 4) * filters for i in range(depth + 1)]


def _level_weights(level, levels, hidden):
    """Count the weights of one size of a discriminator's encoder."""
    before, here = hidden * max(level - 1, 1), hidden * level
    return 9 * before * here + here + (9 * here + 1) * here * (2 if level < levels else 1)


def _levels_of(size):
    """Count the sizes at which a discriminator works, and the side of the smallest."""
    levels, side = size.bit_length() - 3, size
    for _ in range(levels - 1):
        side = -(-side // 2)
    return levels, side


def generator_activations(size, filters, blocks):
    """Count the numbers that a generator keeps of an image for its gradient."""
    return size ** 2 * filters * (9 + 2.5 * blocks)


def discriminator_activations(size, hidden):
    """Count the numbers that a discriminator keeps of an image for its gradient."""
    levels, _ = _levels_of(size)
    encoder = 2 + sum((4.5 if level < levels else 4) * level / 4 ** (level - 1) for level in range(1, levels + 1))
    return size ** 2 * hidden * (encoder + 8)


def patch_discriminator_activations(size, filters, scales, layers):
    """Count the numbers that a patch discriminator keeps of an image for its gradients."""
    once = sum(width / 4 ** min(i, depth) for depth in _depths_of(layers)
               for i, width in enumerate(_patch_widths(filters, depth), 1))
    return sum(size ** 2 * (PATCH_KEPT * once + 3 * 6) / 4 ** scale for scale in range(scales))


# The commands

def of_main(config, identities, classifier_width=1.):
    """List the Parts of what main.py needs for the modes that `config` asks for, with so many `identities`.

    `classifier_width` is the width of a registry.Architecture.
    """
    size, width, hidden = config.input_scale_size, config.conv_hidden_num_res, config.conv_hidden_num
    both = sum(generator_weights(width, config.num_res_rep, skips, config.normalization == "instance")
               for skips in (True, False))
    judged = config.train_generator or (config.generate_dataset and config.scores)
    without_code = code = 0
    if judged and config.game == "hinge":
        without_code = 2 * patch_discriminator_weights(hidden, config.d_scales, config.d_layers)
    elif judged:
        without_code = 2 * discriminator_weights(size, hidden, 0)
        code = 2 * discriminator_weights(size, hidden, config.z_num) - without_code
    copies = copies_of(config.optimizer) if config.train_generator else IN_WORK
    parts = [Part(PROGRAM + config.train_generator * TRAINING, ""),
             Part(FLOAT * copies * both, "--conv_hidden_num_res or --num_res_rep", on_device=True),
             Part(FLOAT * copies * without_code, "--conv_hidden_num", on_device=True),
             Part(FLOAT * copies * code, "--z_num", on_device=True)]
    if config.train_generator:
        parts += _training_of(config, identities, classifier_width)
    if config.train_generator or not config.is_train:
        rows = min(config.num_log_id, identities) if config.train_generator or not config.test_data_path else SHEET_ROWS
        columns = max(config.num_log_samples, config.sample_per_image)
        parts.append(Part(SHEETS * 3 * size ** 2 * rows * columns, "--num_log_samples or --sample_per_image"))
    pictures = SYNTHESIS_BATCH * size ** 2 * FLOAT
    if not config.train_generator:              # or else a step needs more
        parts += [Part(pictures * width * MADE, "--conv_hidden_num_res", on_device=True),
                  Part(pictures * (hidden + width) * JUDGED * bool(judged), "--conv_hidden_num", on_device=True)]
    return parts


def _training_of(config, identities, width):
    """List the Parts of main.py's training alone."""
    size, batch = config.input_scale_size, config.batch_size * config.num_gpu
    smaller = "--batch_size" if config.batch_size > 1 else "--input_scale_size"
    kept = GENERATOR_KEPT * generator_activations(size, config.conv_hidden_num_res, config.num_res_rep)
    if config.game == "hinge":
        kept += patch_discriminator_activations(size, config.conv_hidden_num, config.d_scales, config.d_layers)
    else:
        kept += DISCRIMINATOR_KEPT * discriminator_activations(size, config.conv_hidden_num)
    parts = [Part(FLOAT * batch * kept, smaller, on_device=True),
             Part((config.num_worker + AHEAD) * 4 * batch * 3 * size ** 2, f"{smaller} or --num_worker")]
    if config.pretrained_rec:
        copies = copies_of(config.optimizer)
        facts = CLASSIFIERS[config.model_def]
        network = registry.Architecture(config.model_def, config.embedding_size, width=width)
        heads = identities * config.embedding_size * (copies + 2)
        parts += [Part(facts.graph * config.relax_c, "", on_device=True),
                  Part(FLOAT * heads, "--embedding_size", on_device=True),
                  Part(FLOAT * classifier_weights(network, config.image_size) * (
                      copies if config.relax_c else IN_WORK), "--embedding_size", on_device=True),
                  Part(FLOAT * batch * config.image_size ** 2 * facts.kept * width, smaller, on_device=True)]
    return parts


def of_classifier_training(options, identities):
    """List the Parts of what `recognizer.py train` needs, with so many `identities`, real and synthetic together."""
    facts, sets = CLASSIFIERS[options.model_def], bool(options.real) + bool(options.synthetic)
    copies, batch = copies_of(options.optimizer), options.batch_size * options.num_gpu * sets
    network = registry.Architecture(options.model_def, options.embedding_size, width=options.width)
    parts = [Part(PROGRAM + TRAINING + facts.graph, ""),
             Part(FLOAT * copies * classifier_weights(network, options.image_size), "--embedding_size", on_device=True),
             Part(FLOAT * (copies + 2) * identities * options.embedding_size, "--embedding_size", on_device=True),
             Part(FLOAT * batch * identities * HEAD_KEPT[options.loss], "--batch_size", on_device=True),
             Part(FLOAT * batch * options.image_size ** 2 * facts.kept * options.width, "--batch_size", on_device=True),
             Part((options.num_worker + AHEAD) * batch * 3 * options.input_scale_size ** 2,
                  "--batch_size or --num_worker")]
    if options.lfw_dir:
        parts += _embedding(network, options.lfw_batch_size, options, "--lfw_batch_size",
                            options.lfw_use_flipped_images)
    return parts


def of_verification(options, network):
    """List the Parts of what `recognizer.py verify` needs for a classifier, a registry.Architecture."""
    facts = CLASSIFIERS[network.model_def]
    weights = IN_WORK * classifier_weights(network, options.image_size or registry.usual_size(network))
    return [Part(PROGRAM + facts.graph / 3, ""), Part(FLOAT * weights, "--embedding_size", on_device=True),
            *_embedding(network, options.batch_size, options, "--batch_size", options.use_flipped_images)]


def _embedding(network, batch, options, smaller, flipped):
    """List the Parts of embedding a `batch` of images by a registry.Architecture."""
    facts = CLASSIFIERS[network.model_def]
    side = options.image_size or registry.usual_size(network)
    crops = options.input_scale_size or input_size.crop_for(side)
    return [Part(FLOAT * batch * side ** 2 * facts.embeds * network.width * (1 + flipped), smaller, on_device=True),
            Part((AHEAD + 2) * batch * 3 * crops ** 2, smaller)]


def of_rendering(options, images):
    """List the Parts of what gen_syn_latent.py needs to render or draw so many `images`."""
    workers = min(options.workers, max(images, 1))
    size = CANVAS if getattr(options, "crop", "face") == "none" else options.size
    samples = (size * getattr(options, "supersample", 2)) ** 2
    model = getattr(options, "model", None)
    stored = os.path.getsize(model) if model and os.path.isfile(model) else 0
    return [Part(RENDERER, ""), Part(MODEL_COPIES * stored, "--model"),
            Part(workers * PER_RENDERER, "--workers"),
            Part(workers * samples * PER_SAMPLE,
                 "--size, --supersample or --workers" if hasattr(options, "supersample") else "--size or --workers")]


def of_detection(options, photos):
    """List the Parts of what align.py needs for so many `photos`."""
    return [Part(RENDERER, ""), Part(min(options.workers, max(photos, 1)) * PER_DETECTOR, "--workers")]


# Against what there is

def check(parts, on_gpu=False, there=None):
    """Raise UserError where `parts` are clearly more than this machine has; warn where they are more than is free.

    With `on_gpu`, only what a GPU does not hold is counted. `there`, a memory.Memory, is what there is; by default,
    this machine is asked. Nothing is said where that is not known.
    """
    there = there or memory.read()
    if not there:
        return
    counted = [part for part in parts if not (on_gpu and part.on_device)]
    needed = sum(part.needed for part in counted)
    by_option = {}
    for part in counted:
        by_option[part.options] = by_option.get(part.options, 0) + part.needed
    option = max(filter(None, by_option), key=by_option.get, default=None)
    way = f"take a smaller {option} ({_gib(by_option[option])} of it)" if option else "close other programs"
    if needed > SLACK * there.total:
        raise UserError(f"not enough memory: about {_gib(needed)} are needed, and this machine has "
                        f"{_gib(there.total)}; {way}")
    if needed > there.available:
        logging.warning("about %s of memory are needed, and %s are free: if memory ends, %s", _gib(needed),
                        _gib(there.available), way)


def uses_gpu(options):
    """Tell whether networks may lie on a GPU: one is allowed, and the machine has a driver."""
    return options.use_gpu and os.path.exists(startup.GPU_DEVICE)


def _gib(count):
    """Write a number of bytes in GiB."""
    return f"{count / GIB:,.1f} GiB" if count < 100 * GIB else f"{count / GIB:,.0f} GiB"
