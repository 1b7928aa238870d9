"""Photo-like pictures of the built-in model's people, for the demo: `real` to learn the look of, `paired` to supervise.

    python drawn_photos.py --output data --photos 600 --pairs 200 --size 48

They are drawn, not taken: a head of `gen_syn_latent.py` with shine on its skin, hair, clothes and a background, seen by
a camera with blur, vignetting, a tone and noise. A pair is exact: the photo and the rendering of the same parameters.
"""
import argparse
import os
import sys

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")          # every worker has a core of its own

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

import gen_syn_latent
from cli import outputs, program
from cli.options import at_least, Parser
from datasets.images import save_image
from morphable import face_model, latents, renderer

FINE = 4                    # a photo is composed so many times larger, then reduced
SHINE = .18, 14             # strength and exponent of the light reflected by skin, on 0..1
CLOTHES = [(52, 70, 120), (130, 44, 52), (44, 96, 80), (70, 70, 78), (40, 44, 56), (196, 188, 172), (150, 96, 50)]
PER_PERSON = 5
FIRST_PHOTO, FIRST_PAIR = 10_000_000, 20_000_000            # identities of their own: nobody is in two sets


def draw_pair(job, identity, image):
    """(photo, rendering) uint8 [S, S, 3] of picture number `image` of a person; all follows from `identity`, `image`."""
    options, model = job.options, job.model
    shape, tint = latents.sample_identity(job.statistics, model, options.seed, identity)
    expression, illumination, pose, color = latents.sample_image(job.statistics, model, options.seed, identity, image)
    vertices = face_model.vertices(model, shape, expression)
    texture = np.clip(face_model.texture(model, tint), 0, 255)
    rendering, box, landmarks = gen_syn_latent.draw(job, vertices, texture, illumination, pose, color)
    side, canvas = FINE * options.size, gen_syn_latent.CANVAS
    illumination[8:] = 255 * SHINE[0], SHINE[1]
    head, covered = renderer.render(vertices, texture, model.triangles, job.touching, illumination, pose, color,
                                    canvas, canvas, box, (side, side))
    random = np.random.default_rng([options.seed, identity, image])
    person = np.random.default_rng([options.seed, identity])
    hair = tuple(int(v) for v in head[covered][:50].mean(axis=0))       # the uppermost rows of the head
    behind = dress(background(random, side), FINE * landmarks, hair, person)
    return take(np.where(covered[..., None], head, behind), options.size, random), rendering


def background(random, size):
    """A blurred scene of a few colours, lit from above, with finer texture on it: float [S, S, 3], 0..255."""
    scene = np.zeros([size, size, 3])
    for cells, strength in ((2, 60), (5, 35), (16, 24)):
        colours = random.integers(0, 256, [cells, cells, 3])
        texture = Image.fromarray((.3 * colours + .7 * colours.mean(axis=2, keepdims=True)).astype(np.uint8))
        scene += (np.asarray(texture.resize((size, size), Image.Resampling.BICUBIC)) / 255. - .5) * strength
    scene += np.linspace(60, -60, size)[:, None, None]
    return np.clip(scene + random.uniform(80, 190) + random.uniform(-25, 25, 3), 0, 255)


def dress(scene, landmarks, hair, person):
    """`scene` [S, S, 3] with what lies behind the head of `landmarks` [68, 2]: hair for every other one, shoulders."""
    picture = Image.fromarray(scene.astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    jaw, brows = landmarks[0:17], landmarks[17:27]
    (x, y), wide = jaw.mean(axis=0), np.linalg.norm(jaw[16] - jaw[0])
    high = jaw[8, 1] - brows[:, 1].mean()
    shoulders, neck = (1.5 + .3 * person.random()) * wide, y + (.9 + .3 * person.random()) * high
    draw.ellipse((x - shoulders, neck, x + shoulders, neck + 3 * high), fill=CLOTHES[person.integers(len(CLOTHES))])
    if person.random() < .5:
        around, down = (.62 + .1 * person.random()) * wide, (.4 + .7 * person.random()) * high
        draw.ellipse((x - around, y - 1.35 * high, x + around, y + down), fill=hair)
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(FINE / 2)), np.float64)


def take(scene, size, random):
    """The camera: `scene` float [S, S, 3] reduced, blurred, darker at the corners, toned and noisy: uint8 [s, s, 3]."""
    across = np.linspace(-1, 1, len(scene)) ** 2
    scene = scene * (1 - random.uniform(0, .12) * (across[:, None] + across[None, :]))[..., None]
    tone = 255 * (np.clip(scene, 0, 255) / 255) ** random.uniform(.75, 1.15) * random.uniform(.9, 1.06, 3)
    picture = Image.fromarray(np.clip(tone, 0, 255).astype(np.uint8))
    picture = picture.filter(ImageFilter.GaussianBlur(FINE * random.uniform(.2, .6)))
    reduced = np.asarray(picture.resize((size, size), Image.Resampling.BOX), np.float64)
    return np.clip(reduced + random.normal(0, random.uniform(2, 6), reduced.shape), 0, 255).astype(np.uint8)


def write_photo(job, number):
    """Write photo `number` (from 0) of OUTPUT/real, PER_PERSON of each person."""
    person, image = number // PER_PERSON + 1, number % PER_PERSON + 1
    photo, _ = draw_pair(job, FIRST_PHOTO + person, image)
    write(photo, job.options.output, f"real/{person:05}/{image:05}.jpg")


def write_pair(job, number):
    """Write pair `number` (from 0) of OUTPUT/paired, each of another person."""
    photo, rendering = draw_pair(job, FIRST_PAIR + number, 1)
    write(rendering, job.options.output, f"paired/3dmm/{number + 1:05}.jpg")
    write(photo, job.options.output, f"paired/{number + 1:05}.jpg")


def write(image, folder, name):
    """Write `image` to `<folder>/<name>`, making folders."""
    path = os.path.join(folder, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    save_image(image, path)


def draw_all(options):
    """Draw what the command line asks for."""
    job = gen_syn_latent.prepare(options)
    outputs.check_folder(options.output)
    gen_syn_latent.render_all(job, write_photo, range(options.photos))
    gen_syn_latent.render_all(job, write_pair, range(options.pairs))


def get_options():
    """The options of the command line, and those of `gen_syn_latent.py sample` that drawing reads."""
    parser = Parser("drawn_photos.py", description="Draw photos of the built-in model's people: OUTPUT/real/PERSON/*.jpg, "
                    "and pairs: OUTPUT/paired/*.jpg with OUTPUT/paired/3dmm/*.jpg.",
                    formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--output", required=True, help="folder to write to")
    parser.add_argument("--photos", type=at_least(0), default=600, help=f"photos, {PER_PERSON} of each person")
    parser.add_argument("--pairs", type=at_least(0), default=200, help="pairs of a photo and its rendering")
    parser.add_argument("--size", type=at_least(16), default=64, help="side of the pictures in pixels")
    given = vars(parser.parse_args())
    counts = {name: given.pop(name) for name in ("photos", "pairs")}
    options = gen_syn_latent.get_options([word for name, value in given.items() for word in (f"--{name}", str(value))])
    return argparse.Namespace(**vars(options), **counts)


if __name__ == "__main__":
    sys.exit(program.run("drawn_photos.py", draw_all, get_options()))
