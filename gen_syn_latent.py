"""Sample people of a 3D morphable model and render them, with their labels; or render the people of annotated photos.

    python gen_syn_latent.py --output data/syn --n_id 10000 --n_im 50
    python gen_syn_latent.py pairs --annotations 300W-3D --model 3DDFA --output data/paired
"""
import argparse
import collections
import functools
import logging
import math
import os
import secrets
import shutil
import sys
import zlib
from typing import NamedTuple

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")          # every worker has a core of its own

import numpy as np

import utils
from cli import outputs, processes, program
from cli.options import at_least, Parser
from datasets import crop
from datasets.image_sets import LABELS
from datasets.images import BrokenImage, FORMATS, read_picture, save_image, stem, suffix
from morphable import builtin_model, face_model, latents, model_files, renderer

CANVAS = 450                # pixels: the picture that the sampled pose stands in
CHUNK = 16                  # images whose vertices are made at once
VERSION = 1                 # of the labels and of all that makes the images
DESCRIPTIONS = {
    "sample": "Render people of a face model: OUTPUT/IDENTITY/IMAGE.jpg, and latents.npz beside them. `gen_syn_latent.py "
              "pairs --help` tells how to render the people of annotated photos.",
    "pairs": "Render the people of annotated photos: OUTPUT/*.jpg and OUTPUT/3dmm/*.jpg."}


class Job(NamedTuple):
    """What a worker needs: a FaceModel and renderer.incidence of it, latents.Statistics, and the resolved options."""
    model: face_model.FaceModel
    touching: object
    statistics: latents.Statistics
    options: argparse.Namespace


# The command line

def get_options(arguments=None):
    """The options of the command line, as a Namespace; `command` is "sample" or "pairs". A typo ends with status 2."""
    arguments = sys.argv[1:] if arguments is None else arguments
    command = "pairs" if arguments[:1] == ["pairs"] else "sample"
    if command == "pairs":
        arguments = arguments[1:]
    parser = Parser("gen_syn_latent.py" + " pairs" * (command == "pairs"), description=DESCRIPTIONS[command],
                    formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.set_defaults(command=command)
    parser.add_argument("--output", required=True, help="folder to write to; what is complete there is kept")
    {"sample": add_sample_options, "pairs": add_pair_options}[command](parser)
    outputs.add_crop_options(parser)
    parser.add_argument("--supersample", type=at_least(1), default=2, help="samples a pixel along each side")
    parser.add_argument("--workers", type=at_least(1), default=len(os.sched_getaffinity(0)), help="processes")
    options = parser.parse_args(arguments)
    options.margin = outputs.margin_of(parser, options)
    for angle in latents.ANGLES if command == "sample" else ():
        low, high = getattr(options, angle) or (0, 0)
        if low > high:
            parser.error(f"argument --{angle}: {low:g} is more than {high:g}; give the lower one first")
    return options


def add_sample_options(parser):
    parser.add_argument("--n_id", type=at_least(1), default=10000, help="identities")
    parser.add_argument("--n_im", type=at_least(1), default=50, help="images of each")
    parser.add_argument("--model", help="a morphable model's file or folder, see README; by default the built-in one")
    parser.add_argument("--statistics", help="folder of 300W-3D / AFLW2000-3D .mat files that expressions, light, pose "
                                             "and colour are sampled like; by default built-in statistics")
    parser.add_argument("--seed", type=at_least(0, 2 ** 63 - 1), default=1, help="of all random numbers")
    for angle in latents.ANGLES:
        parser.add_argument(f"--{angle}", type=finite, nargs=2, metavar=("LOW", "HIGH"),
                            help=f"range of the {angle} in radians; by default as in the statistics")
    parser.add_argument("--crop", choices=("face", "none"), default="face",
                        help=f"around the face, or none: the whole picture of {CANVAS} pixels")
    parser.add_argument("--format", choices=("jpg", "png"), default="jpg", help="jpg is of quality 100")
    parser.add_argument("--shard", type=shard, default=(1, 1), metavar="I/N",
                        help="render only each N-th identity, from the I-th on: for several machines")


def add_pair_options(parser):
    parser.add_argument("--annotations", required=True,
                        help="folder of photos (.jpg, .png) with their .mat files beside them, as in 300W-3D")
    parser.add_argument("--model", required=True, help="the model that they were fitted with: 3DDFA's or BFM 2009")


def finite(text):
    """A type for argparse: a number, neither nan nor infinite."""
    if not math.isfinite(float(text)):
        raise argparse.ArgumentTypeError(f"{text} is not a finite number")
    return float(text)


def shard(text):
    """A type for argparse: "2/5" -> (2, 5)."""
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise argparse.ArgumentTypeError(f"{text} is not I/N with I from 1 to N, such as 2/5")
    return int(index), int(count)


# Preparation

def stated(function, *arguments):
    """`function(*arguments)`, whose ValueError about a file becomes a UserError."""
    try:
        return function(*arguments)
    except ValueError as error:
        raise utils.UserError(str(error)) from error


def load_model(path):
    """The FaceModel at `path`, or the built-in one, which lends texture and landmarks to a model without."""
    if path is None:
        return builtin_model.build()
    model = stated(model_files.load, path)
    if model.landmarks is None or model.texture_mean is None:
        builtin = builtin_model.build()
        if model.texture_mean is None:
            logging.info("%s: no texture in this model; it borrows the built-in one's", path)
            model = face_model.lend_texture(model, builtin)
        if model.landmarks is None:
            logging.info("%s: no landmarks in this model; they are found by laying it on the built-in one", path)
            model = model._replace(landmarks=face_model.find_landmarks(model, builtin))
    return model


def prepare(options):
    """The Job of `options`. Raises UserError when the model or the statistics can't be used."""
    model = load_model(options.model)
    statistics = None
    if options.command == "sample":
        statistics = stated(latents.fit_statistics, options.statistics) if options.statistics \
            else latents.builtin_statistics()
        logging.info("statistics: %s", statistics.source)
    logging.info("model: %s, %d vertices", model.name, len(model.shape_mean))
    return Job(model, renderer.incidence(model.triangles, len(model.shape_mean)), statistics, options)


def open_output(job, names, **settings):
    """Create the output folder, with the settings of its images: the options `names`, and `settings`. Raises UserError."""
    outputs.open_output(job.options.output, {
        "version": VERSION, "model": job.model.name, "model_checksum": checksum(job.model), **settings,
        **{name: getattr(job.options, name) for name in names}})


def checksum(model):
    """CRC-32 of all arrays of a FaceModel."""
    arrays = [array for array in model if isinstance(array, np.ndarray)]
    return functools.reduce(lambda value, array: zlib.crc32(np.ascontiguousarray(array), value), arrays, 0)


def render_all(job, function, items, images=1):
    """What `function(job, item)` returns for all `items`, in no certain order; progress is in `images` an item."""
    results = []
    processes.process_all(function, job, items, results.append, workers=job.options.workers, unit="image", per_item=images)
    return results


# Sampling

def sample(options):
    """Render what is missing of the identities of this shard."""
    job = prepare(options)
    open_output(job, ("seed", "n_im", *latents.ANGLES, "crop", "size", "margin", "format", "supersample"),
                statistics=job.statistics.source)
    first, count = options.shard
    identities = list(range(first, options.n_id + 1, count))
    missing = [identity for identity in identities if not os.path.isdir(os.path.join(options.output, f"{identity:05}"))]
    if len(missing) < len(identities):
        logging.info("%s: %d identities are there and are kept", options.output, len(identities) - len(missing))
    remove_temporary(options.output, missing)
    render_all(job, render_identity, missing, options.n_im)
    logging.info("%s: %d images of %d identities rendered", options.output, len(missing) * options.n_im, len(missing))


def render_identity(job, identity):
    """Write the folder of one identity: all of its images and labels, or nothing."""
    output = job.options.output
    temporary = os.path.join(output, f"{utils.TEMPORARY}{identity:05}-{secrets.token_hex(4)}")
    os.mkdir(temporary)
    try:
        write_identity(job, identity, temporary)
        os.rename(temporary, os.path.join(output, f"{identity:05}"))
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def write_identity(job, identity, folder):
    """Write the images and labels of one identity into `folder`."""
    options, model = job.options, job.model
    shape, tint = latents.sample_identity(job.statistics, model, options.seed, identity)
    person = model.shape_mean + face_model.combine(shape, model.shape_basis)
    texture = np.clip(face_model.texture(model, tint), 0, 255)
    ranges = {angle: getattr(options, angle) for angle in latents.ANGLES if getattr(options, angle)}
    images = [latents.sample_image(job.statistics, model, options.seed, identity, image, ranges)
              for image in range(1, options.n_im + 1)]
    names = [f"{image:05}.{options.format}" for image in range(1, options.n_im + 1)]
    frames = []
    for start in range(0, options.n_im, CHUNK):
        chunk = slice(start, start + CHUNK)
        moved = face_model.combine([expression for expression, *_ in images[chunk]], model.expression_basis)
        for name, vertices, (_, *parameters) in zip(names[chunk], person + moved, images[chunk]):
            picture, *frame = draw(job, vertices, texture, *parameters)
            save_image(picture, os.path.join(folder, name), quality=100)
            frames.append(frame)
    blocks = dict(zip(("Exp_Para", "Illum_Para", "Pose_Para", "Color_Para"), map(np.array, zip(*images))))
    boxes, landmarks = zip(*frames)
    with utils.atomic_write(os.path.join(folder, LABELS)) as file:
        np.savez(file, Shape_Para=shape, Tex_Para=tint, **blocks, box=np.array(boxes, np.float64),
                 landmarks=np.array(landmarks), names=names, identity=identity, seed=options.seed,
                 size=picture.shape[0], model=model.name, statistics=job.statistics.source, version=VERSION)


def remove_temporary(output, identities):
    """Remove what a killed run left of `identities`; other shards may be writing theirs."""
    ours = {f"{utils.TEMPORARY}{identity:05}" for identity in identities}
    for name in os.listdir(output):
        if name.rpartition("-")[0] in ours:
            shutil.rmtree(os.path.join(output, name))


def frame_face(job, vertices, pose, height):
    """The landmarks [68, 2] of `vertices` [V, 3] in a picture of `height`, and the box of the crop around the face."""
    landmarks = renderer.project(vertices[job.model.landmarks], pose, height)[:, :2]
    return landmarks, crop.with_margin(crop.face_box(landmarks), job.options.size, job.options.margin)


def draw(job, vertices, texture, illumination, pose, color):
    """(uint8 [S, S, 3], its box in the whole picture, the landmarks [68, 2] in it) of `vertices` [V, 3]."""
    options, model = job.options, job.model
    landmarks, box = frame_face(job, vertices, pose, CANVAS)
    size = options.size
    if options.crop == "none":
        box, size = (0, 0, CANVAS, CANVAS), CANVAS
    picture, _ = renderer.render(vertices, texture, model.triangles, job.touching, illumination, pose, color,
                                 CANVAS, CANVAS, box, (size, size), options.supersample)
    return picture, box, crop.place(landmarks, box, size)


# Pairs

def pairs(options):
    """Render the person of each annotated photo, and crop both alike."""
    photos = find_annotated(options.annotations)
    job = prepare(options)
    model = job.model
    counts = {"Shape_Para": len(model.shape_std), "Exp_Para": len(model.expression_std), "Tex_Para": len(model.texture_std)}
    if any(counts[name] != latents.BLOCKS[name] for name in counts):
        raise utils.UserError(f"--model {options.model}: {', '.join(f'{n} {name}' for name, n in counts.items())}, not "
                              "those of 300W-3D's annotations; give 3DDFA's Model_Shape.mat with Model_Exp.mat")
    open_output(job, ("size", "margin", "supersample"))
    outputs.check_folder(os.path.join(options.output, "3dmm"))
    missing = [photo for photo in photos if not all(map(os.path.exists, pair_paths(options.output, photo)))]
    skipped = sorted(filter(None, render_all(job, render_pair, missing)))
    for reason in skipped:
        logging.warning("not used: %s", reason)
    if len(skipped) == len(photos):
        raise utils.UserError(f"--annotations {options.annotations}: none of {len(photos)} annotated photos can be used")
    logging.info("%s: %d pairs rendered, %d were there and were kept", options.output, len(missing) - len(skipped),
                 len(photos) - len(missing))


def find_annotated(folder):
    """Paths of the photos in and below `folder` that have a .mat file. Raises UserError when there is none."""
    found = []
    for root, _, names in os.walk(folder):
        annotated = {stem(name) for name in names if os.path.splitext(name)[1] == ".mat"}
        found += [os.path.join(root, name) for name in names
                  if suffix(name) in FORMATS and stem(name) in annotated]
    if not found:
        raise utils.UserError(f"--annotations {folder}: no photo with a .mat file of its name beside it; name the folder "
                              "of 300W-3D or AFLW2000-3D")
    name, count = collections.Counter(stem(os.path.basename(path)) for path in found).most_common(1)[0]
    if count > 1:
        raise utils.UserError(f"--annotations {folder}: {name} is there more than once; render these folders apart")
    return sorted(found)


def pair_paths(output, photo):
    """Where the crop of a photo and its rendering go."""
    name = stem(os.path.basename(photo)) + ".jpg"
    return os.path.join(output, name), os.path.join(output, "3dmm", name)


def render_pair(job, photo):
    """Write the crop of `photo` and its rendering. Returns what is wrong, with the file, if that can't be done."""
    options, model = job.options, job.model
    path = stem(photo) + ".mat"
    try:
        blocks = latents.read_annotation(path)
        picture = read_picture(photo)
    except (ValueError, BrokenImage) as error:
        return str(error)
    if latents.rounded(blocks):
        return f"{path} (Exp_Para holds whole numbers: the expression is lost)"
    vertices = face_model.vertices(model, blocks["Shape_Para"], blocks["Exp_Para"])
    texture = face_model.texture(model, blocks["Tex_Para"])
    pose, (width, height) = blocks["Pose_Para"], picture.size
    box = crop.clip(frame_face(job, vertices, pose, height)[1], height, width)
    if box[2] - box[0] < 2 or box[3] - box[1] < 2:
        return f"{path} (Pose_Para puts the face outside the photo)"
    try:
        rendering, _ = renderer.render(vertices, texture, model.triangles, job.touching, blocks["Illum_Para"], pose,
                                       blocks["Color_Para"], height, width, box, (options.size, options.size),
                                       options.supersample)
    except ValueError as error:
        return f"{path} (Pose_Para: {error})"
    crop_path, rendering_path = pair_paths(options.output, photo)
    save_image(rendering, rendering_path, quality=100)        # a photo never stands alone
    try:
        save_image(crop.cut(picture, box, options.size), crop_path, quality=100)
    except BaseException:
        os.remove(rendering_path)
        raise


if __name__ == "__main__":
    chosen = get_options()
    sys.exit(program.run("gen_syn_latent.py", pairs if chosen.command == "pairs" else sample, chosen))
