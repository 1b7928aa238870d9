"""The 451 parameters of an image: read from annotations, their statistics, and samples of new people and pictures.

Layout and annotations are those of 300W-3D and AFLW2000-3D (Zhu et al. 2016, "Face Alignment Across Large Poses").
"""
import glob
import logging
import os
from typing import NamedTuple

import numpy as np
import scipy.io

BLOCKS = {"Shape_Para": 199, "Exp_Para": 29, "Tex_Para": 199, "Illum_Para": 10, "Pose_Para": 7, "Color_Para": 7}
ENOUGH = 300                                # annotations for a covariance of 199 numbers
FITTED_MODELS = "3DDFA", "BFM 2009"         # the models whose coefficients the annotations are
ANGLES = {"pitch": 0, "yaw": 1, "roll": 2}  # places in Pose_Para
IDENTITY, IMAGE = 1, 2                      # streams of random numbers


class Block(NamedTuple):
    """A normal distribution of n numbers: mean + factor x N(0, I)."""
    mean: np.ndarray                        # [n] float64
    factor: np.ndarray                      # [n, k] float64, or [n], the deviations of independent numbers


class Statistics(NamedTuple):
    """The distribution of the parameters of an image: `blocks` has a Block for each key of BLOCKS."""
    source: str                             # for the user: where the numbers are from
    blocks: dict
    in_deviations: bool                     # Shape_Para, Exp_Para and Tex_Para count a model's own deviations


# Annotations

def read_annotation(path):
    """The {block: float64 [n]} of one .mat file. Raises ValueError, one line with file and field, when it is broken."""
    return annotation(path, read_mat(path))


def annotation(path, fields):
    """`read_annotation` of the variables `fields` of `path`."""
    blocks = {}
    for name, count in BLOCKS.items():
        if name not in fields:
            raise ValueError(f"{path}: field {name} is missing; remove this file or download it again")
        value = np.asarray(fields[name])
        if value.dtype.kind not in "buif" or value.size != count:
            raise ValueError(f"{path}: field {name} has shape {list(value.shape)}, not {count} numbers; "
                             f"remove this file or download it again")
        if not np.isfinite(value).all():
            raise ValueError(f"{path}: field {name} contains NaN or infinity; remove this file or download it again")
        blocks[name] = value.astype(np.float64).ravel()
    return blocks


def read_mat(path):
    """Those variables of a .mat file that are blocks. Raises ValueError when it can't be read."""
    try:
        return scipy.io.loadmat(path, variable_names=list(BLOCKS))
    except Exception as error:      # what is no MATLAB file raises nearly anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path}: not a readable .mat file ({reason}); remove it or download it again") from error


def rounded(blocks):
    """Whether the expression was stored in whole numbers: some published files have it in uint8, negatives lost."""
    return bool((blocks["Exp_Para"] == np.rint(blocks["Exp_Para"])).all())


# Statistics

def fit_statistics(folder):
    """The Statistics of all annotations in and below `folder`; the built-in ones, and `source` says so, if too few.

    Annotations with a rounded expression and .mat files without any block are left out, said in a log line. Raises
    ValueError when there is no annotation, or one is broken.
    """
    paths = sorted(glob.glob(os.path.join(glob.escape(folder), "**", "*.mat"), recursive=True))
    read = {path: fields for path, fields in ((path, read_mat(path)) for path in paths) if BLOCKS.keys() & fields.keys()}
    if not read:
        raise ValueError(f"{folder}: no .mat file with {', '.join(BLOCKS)} in or below this folder; "
                         f"name the folder of 300W-3D or AFLW2000-3D")
    annotations = [annotation(path, fields) for path, fields in read.items()]
    skipped = [path for path, blocks in zip(read, annotations) if rounded(blocks)]
    if skipped:
        logging.warning("%s: %d files with Exp_Para in whole numbers, not used: %s%s", folder, len(skipped),
                        ", ".join(os.path.basename(path) for path in skipped[:3]), ", ..." if len(skipped) > 3 else "")
    annotations = [blocks for blocks in annotations if not rounded(blocks)]
    if len(annotations) < ENOUGH:
        return builtin_statistics()._replace(
            source=f"built-in, as {folder} has only {len(annotations)} usable .mat files and {ENOUGH} are needed")
    blocks = {name: fit_block(np.array([each[name] for each in annotations])) for name in BLOCKS}
    return Statistics(f"{len(annotations)} .mat files of {folder}", blocks, False)


def fit_block(samples):
    """The Block of `samples` [N, n] with the covariance of ddof 1; it may be singular."""
    values, vectors = np.linalg.eigh(np.cov(samples, rowvar=False, ddof=1))
    return Block(samples.mean(axis=0), vectors * np.sqrt(np.maximum(values, 0)))


def builtin_statistics():
    """Statistics of our own, rounded to what fits of ordinary photos look like; coefficients in deviations."""
    together = np.sqrt([.97, .03])          # red, green and blue of a light or a gain mostly vary together
    lights = np.zeros([10, 11])
    lights[:3, :4] = .12 * np.column_stack([np.full(3, together[0]), together[1] * np.eye(3)])
    lights[3:6, 4:8] = .22 * np.column_stack([np.full(3, together[0]), together[1] * np.eye(3)])
    lights[[6, 7, 8], [8, 9, 10]] = .5, 1.3, .1
    colors = np.zeros([7, 7])
    colors[:3, :4] = .2 * np.column_stack([np.full(3, together[0]), together[1] * np.eye(3)])
    colors[3:6] = -.5 * colors[:3]          # a fit with less gain has more offset
    colors[3:6, 4:] += .02 * np.eye(3)
    blocks = {name: Block(np.zeros(BLOCKS[name]), np.ones(BLOCKS[name]))
              for name in ("Shape_Para", "Exp_Para", "Tex_Para")}
    blocks["Illum_Para"] = Block(np.array([.9, .85, .8, .5, .55, .6, .4, 0, 0, 20]), lights)
    blocks["Pose_Para"] = Block(np.array([0, 0, 0, 225, 180, -90, 1.35e-3]),
                                np.array([.25, .5, .15, 50, 40, 28, 1.5e-4]))
    blocks["Color_Para"] = Block(np.array([.9, .9, .95, 0, 0, 0, 1]), colors)
    return Statistics("built-in", blocks, True)


def for_model(statistics, model):
    """`statistics` whose Exp_Para and Tex_Para are coefficients of `model`, as many as it has, in its units.

    Fitted ones hold for FITTED_MODELS with the same number of components, those of textures only if it was not lent,
    which shows in the name. In all other cases coefficients are independent, of mean 0 and the model's own deviations.
    """
    own_texture, ours = model.name in FITTED_MODELS, model.name.startswith(FITTED_MODELS)
    blocks = dict(statistics.blocks)
    for name, std, same in ("Exp_Para", model.expression_std, ours), ("Tex_Para", model.texture_std, own_texture):
        if statistics.in_deviations or not same or len(std) != len(blocks[name].mean):
            blocks[name] = Block(np.zeros(len(std)), np.asarray(std, np.float64))
    return statistics._replace(blocks=blocks)


# Samples

def sample_identity(statistics, model, seed, identity):
    """(shape [n_shape], texture [n_texture]) float64 of a person: N(0, I) x the model's deviations, and N(mu, cov).

    They depend on `seed` and `identity` only, integers from 0.
    """
    random = generator(seed, IDENTITY, identity)
    shape = random.standard_normal(len(model.shape_std)) * model.shape_std
    return shape, draw(random, for_model(statistics, model).blocks["Tex_Para"])


def sample_image(statistics, model, seed, identity, image, ranges=None):
    """(expression [n_expression], illumination [10], pose [7], color [7]) float64 of one image of a person.

    Expression ~ N(mu, cov / 2), the others ~ N(mu, cov / 3), roll x 1.5; ambient and directional light, specular
    strength and shininess are at least 0. `ranges`, e.g. {"yaw": (-1, 1)} in radians, draws pitch, yaw or roll
    uniformly instead and changes nothing else. All depends on `seed`, `identity` and `image` only, integers from 0.
    """
    blocks = for_model(statistics, model).blocks
    random = generator(seed, IMAGE, identity, image)
    illumination, pose, color = (draw(random, blocks[name], 1 / 3)
                                 for name in ("Illum_Para", "Pose_Para", "Color_Para"))
    uniform = random.random(len(ANGLES))
    expression = draw(random, blocks["Exp_Para"], 1 / 2)
    illumination[:6] = np.maximum(illumination[:6], 0)
    illumination[8:] = np.maximum(illumination[8:], 0)
    pose[ANGLES["roll"]] *= 1.5
    for angle, (low, high) in (ranges or {}).items():
        pose[ANGLES[angle]] = low + (high - low) * uniform[ANGLES[angle]]
    return expression, illumination, pose, color


def generator(*key):
    """Random numbers that depend on `key` alone; the stream's number in it keeps [s, i] apart from [s, i, 0]."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


def draw(random, block, fraction=1):
    """A sample [n] of `block` with `fraction` of its covariance."""
    noise = random.standard_normal(block.factor.shape[-1]) * np.sqrt(fraction)
    return block.mean + (block.factor * noise if block.factor.ndim == 1 else block.factor @ noise)
