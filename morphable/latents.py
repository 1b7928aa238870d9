"""The 451 parameters of an image: read from annotations, their statistics, and samples of new people and images.

An annotation is a .mat file of 300W-3D or AFLW2000-3D: the parameters of the 3D face that was fitted to a photo (Zhu et
al. 2016, "Face Alignment Across Large Poses"). The parameters come in six blocks, and samples have the same layout:

- Shape_Para, Exp_Para, Tex_Para: coefficients of a model's shape, expression and texture basis
- Illum_Para: rgb of the ambient and of the directional light, theta, phi, ks, v; see `renderer.apply_light`
- Pose_Para: pitch, yaw, roll, tx, ty, tz, f; see `renderer.project`
- Color_Para: rgb of the gain, rgb of the offset, contrast; see `renderer.apply_color`
"""
import logging
import os
import zlib
from typing import NamedTuple

import numpy as np

from datasets.image_sets import walk, warn_of
from morphable import mat_files
from utils import reason_of

BLOCKS = {"Shape_Para": 199, "Exp_Para": 29, "Tex_Para": 199, "Illum_Para": 10, "Pose_Para": 7, "Color_Para": 7}
LEAST_ANNOTATIONS = 300                     # that a covariance of 199 numbers is fitted to
FITTED_MODELS = "3DDFA", "BFM 2009"         # names of the models that annotations hold coefficients of
ANGLES = {"pitch": 0, "yaw": 1, "roll": 2}  # places in Pose_Para
IDENTITY_STREAM, IMAGE_STREAM = 1, 2        # separate random numbers for identities and for images


class BlockStatistics(NamedTuple):
    """The normal distribution of a block of n numbers: mean + factor · N(0, I)."""
    mean: np.ndarray                        # [n] float64
    factor: np.ndarray                      # [n, k] float64, the covariance is factor · factor^T; or [n], deviations


class Statistics(NamedTuple):
    """The distribution of an image's parameters; different blocks are independent of each other.

    If `in_deviations`, shape, expression and texture count standard deviations of whatever model is used. Else shape,
    expression and texture are coefficients of FITTED_MODELS.
    """
    description: str                        # where the numbers are from, for the user
    blocks: dict                            # {name of a block: its BlockStatistics}
    in_deviations: bool


# Annotations

def read_annotation(path):
    """Read the parameters in the .mat file `path` -> {name of a block: float64 [n]}.

    Raises ValueError, one line with the file and the block, when a block is missing, of another length, or not finite.
    """
    return _check_annotation(path, _read_mat(path))


def _check_annotation(path, fields):
    """Check the blocks among the variables `fields` of the file `path` -> {name of a block: float64 [n]}."""
    parameters = {}
    for name, count in BLOCKS.items():
        if name not in fields:
            raise ValueError(f"{path}: field {name} is missing; move this file away or download it again")
        value = np.asarray(fields[name])
        if value.dtype.kind not in "buif" or value.size != count:
            raise ValueError(f"{path}: field {name} has shape {list(value.shape)}, not {count} numbers; "
                             f"move this file away or download it again")
        if not np.isfinite(value).all():
            raise ValueError(f"{path}: field {name} contains NaN or infinity; move this file away or download it again")
        parameters[name] = value.astype(np.float64).ravel()
    return parameters


def _read_mat(path):
    """Read those variables of a .mat file that are blocks -> {name: array}. Raises ValueError when it can't be read."""
    try:
        return {name: value for name, value in mat_files.read(path).items() if name in BLOCKS}
    except Exception as error:      # what is no MATLAB file raises nearly anything
        reason = reason_of(error)
        raise ValueError(f"{path}: not a readable .mat file ({reason}); move it away or download it again") from error


def find_mat_files(folder):
    """List the paths of the .mat files in and below `folder`, sorted, each file once however many links lead to it.

    Links that lead nowhere or in a circle are told in a warning. Raises UserError when a folder can't be listed.
    """
    found, astray = {}, []
    for inside, listing, _ in walk(folder, once=True) if os.path.isdir(folder) else ():
        here = os.path.join(folder, inside)
        real = os.path.realpath(here)
        astray += [os.path.join(inside, name) for name in listing.astray]
        for name in listing.others:
            if os.path.splitext(name)[1] == ".mat":
                path = os.path.join(here, name)
                found[os.path.realpath(path) if name in listing.linked else os.path.join(real, name)] = path
    warn_of(folder, "links that lead nowhere or in a circle", astray)
    return sorted(found.values())


def has_rounded_expression(parameters):
    """Tell whether all numbers of Exp_Para are whole, so that the expression is lost.

    Some published files store Exp_Para as uint8, which also loses the signs.
    """
    return bool((parameters["Exp_Para"] == np.rint(parameters["Exp_Para"])).all())


# Statistics

def fit_statistics(folder):
    """Fit Statistics to all annotations in and below `folder`.

    Annotations with a rounded expression are left out, with a warning; .mat files without any block are ignored. If
    fewer than LEAST_ANNOTATIONS are left, the result is `builtin_statistics()`, and its description says so. Raises
    ValueError when there is no annotation, or when one is broken.
    """
    paths = find_mat_files(folder)
    files = {path: _read_mat(path) for path in paths}
    files = {path: fields for path, fields in files.items() if BLOCKS.keys() & fields.keys()}
    if not files:
        raise ValueError(f"{folder}: no .mat file with {', '.join(BLOCKS)} in or below this folder; "
                         f"name the folder of 300W-3D or AFLW2000-3D")
    annotations = {path: _check_annotation(path, fields) for path, fields in files.items()}
    skipped = [path for path, parameters in annotations.items() if has_rounded_expression(parameters)]
    if skipped:
        logging.warning("%s: %d files with Exp_Para in whole numbers, not used: %s%s", folder, len(skipped),
                        ", ".join(os.path.basename(path) for path in skipped[:3]), ", ..." if len(skipped) > 3 else "")
    usable = [parameters for parameters in annotations.values() if not has_rounded_expression(parameters)]
    if len(usable) < LEAST_ANNOTATIONS:
        return builtin_statistics()._replace(
            description=f"built-in, as {folder} has only {len(usable)} usable .mat files and {LEAST_ANNOTATIONS} are "
            "needed")
    blocks = {name: _fit_block(np.array([parameters[name] for parameters in usable])) for name in BLOCKS}
    return Statistics(f"{len(usable)} .mat files of {folder}", blocks, False)


def _fit_block(samples):
    """Fit BlockStatistics to `samples` [N, n]: their mean and unbiased covariance, which may be singular."""
    values, vectors = np.linalg.eigh(np.cov(samples, rowvar=False, ddof=1))     # Cholesky needs full rank
    return BlockStatistics(samples.mean(axis=0), vectors * np.sqrt(np.maximum(values, 0)))


def builtin_statistics():
    """Make Statistics without any data: round numbers, chosen to resemble fits to ordinary photos.

    Shape, expression and texture count standard deviations of the model that is used.
    """
    together = np.sqrt([.97, .03])          # red, green and blue of a light or a gain mostly vary together
    lights = np.zeros([10, 11])
    lights[:3, :4] = .12 * np.column_stack([np.full(3, together[0]), together[1] * np.eye(3)])      # ambient
    lights[3:6, 4:8] = .22 * np.column_stack([np.full(3, together[0]), together[1] * np.eye(3)])    # directional
    lights[[6, 7, 8], [8, 9, 10]] = .5, 1.3, .1         # theta, phi, ks; v is always the same
    colors = np.zeros([7, 7])
    colors[:3, :4] = .2 * np.column_stack([np.full(3, together[0]), together[1] * np.eye(3)])       # gain
    colors[3:6] = -.5 * colors[:3]          # a fit with less gain has more offset
    colors[3:6, 4:] += .02 * np.eye(3)
    blocks = {name: BlockStatistics(np.zeros(BLOCKS[name]), np.ones(BLOCKS[name]))
              for name in ("Shape_Para", "Exp_Para", "Tex_Para")}
    blocks["Illum_Para"] = BlockStatistics(np.array([.9, .85, .8, .5, .55, .6, .4, 0, 0, 20]), lights)
    blocks["Pose_Para"] = BlockStatistics(np.array([0, 0, 0, 225, 180, -90, 1.35e-3]),
                                          np.array([.25, .5, .15, 50, 40, 28, 1.5e-4]))
    blocks["Color_Para"] = BlockStatistics(np.array([.9, .9, .95, 0, 0, 0, 1]), colors)
    return Statistics("built-in", blocks, True)


def mark_of(statistics):
    """Say in a few words what the numbers of Statistics are, whatever the folder that they are from is called.

    The numbers are rounded first, since other processors compute other last digits.
    """
    if statistics.in_deviations:
        return statistics.description.partition(", as ")[0]
    words = [f"{value:.4g}" for block in statistics.blocks.values()
             for value in [*block.mean, *np.sqrt(np.square(np.atleast_2d(block.factor)).sum(axis=-1))]]
    return f"of annotations, checksum {zlib.crc32(' '.join(words).encode()):08x}"


def adapt_to_model(statistics, model):
    """Return `statistics` with an Exp_Para and a Tex_Para for the coefficients of a FaceModel.

    Blocks fitted to annotations are kept if `model` is one of FITTED_MODELS, and has as many components as the block
    has numbers. Tex_Para is kept only if the texture of `model` is not borrowed, which shows in the model's name. In
    all other cases the coefficients are independent, with mean 0 and the standard deviations of `model`.
    """
    own_texture, own_expressions = model.name in FITTED_MODELS, model.name.startswith(FITTED_MODELS)
    blocks = dict(statistics.blocks)
    for name, std, fitted in (("Exp_Para", model.expression_std, own_expressions),
                              ("Tex_Para", model.texture_std, own_texture)):
        if statistics.in_deviations or not fitted or len(std) != len(blocks[name].mean):
            blocks[name] = BlockStatistics(np.zeros(len(std)), np.asarray(std, np.float64))
    return statistics._replace(blocks=blocks)


# Samples

def sample_identity(statistics, model, seed, identity):
    """Sample a person -> (shape [n_shape], texture [n_texture]), float64 coefficients of a FaceModel.

    As in the original gen_syn_latent.m, shape is N(0, I) times the model's standard deviations, and texture has the
    mean and the covariance of `statistics`. The sample depends on `seed` and `identity` (integers from 0) only.
    """
    random = make_generator(seed, IDENTITY_STREAM, identity)
    shape = random.standard_normal(len(model.shape_std)) * model.shape_std
    return shape, _sample_block(random, adapt_to_model(statistics, model).blocks["Tex_Para"])


def sample_image(statistics, model, seed, identity, image, ranges=None):
    """Sample one image of a person -> (expression, illumination, pose, color).

    The four are float64 [n_expression], [10], [7] and [7], with the layout of Exp_Para, Illum_Para, Pose_Para and
    Color_Para.

    As in the original gen_syn_latent.m, expression has half the covariance of `statistics`; illumination, pose and
    color have a third of the covariance; roll is multiplied by 1.5. Negative rgb of lights, ks and v are then raised to
    0.

    `ranges`, e.g. {"yaw": (-1, 1)} in radians, samples pitch, yaw or roll uniformly instead, and changes nothing else.
    The sample depends on `seed`, `identity`, `image` (integers from 0) and `ranges` only.
    """
    blocks = adapt_to_model(statistics, model).blocks
    random = make_generator(seed, IMAGE_STREAM, identity, image)
    illumination, pose, color = (_sample_block(random, blocks[name], 1 / 3)
                                 for name in ("Illum_Para", "Pose_Para", "Color_Para"))
    uniform = random.random(len(ANGLES))    # always, so that what comes after does not depend on `ranges`
    expression = _sample_block(random, blocks["Exp_Para"], 1 / 2)
    illumination[:6] = np.maximum(illumination[:6], 0)
    illumination[8:] = np.maximum(illumination[8:], 0)
    pose[ANGLES["roll"]] *= 1.5
    for angle, (low, high) in (ranges or {}).items():
        pose[ANGLES[angle]] = low + (high - low) * uniform[ANGLES[angle]]
    return expression, illumination, pose, color


def make_generator(seed, stream, *numbers):
    """Make a np.random.Generator that depends on these integers alone.

    `stream` keeps identity i apart from image 0 of identity i: NumPy seeds [s, i] and [s, i, 0] alike.
    """
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, stream, *numbers])))


def _sample_block(random, block, fraction=1):
    """Sample the numbers [n] of a block by its BlockStatistics, with `fraction` of the covariance."""
    noise = random.standard_normal(block.factor.shape[-1]) * np.sqrt(fraction)
    return block.mean + (block.factor * noise if block.factor.ndim == 1 else block.factor @ noise)
