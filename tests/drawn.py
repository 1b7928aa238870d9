"""Drawn faces: a small data set for tests and benchmarks, with renderings, photos and pairs; always the same."""
import os

import numpy as np
from PIL import Image, ImageDraw

from datasets.images import save_image

SKIN = [(255, 224, 196), (241, 194, 150), (224, 172, 120), (198, 134, 88), (141, 92, 60), (255, 205, 170)]
HAIR = [(40, 28, 22), (92, 58, 30), (214, 164, 72), (150, 70, 36), (110, 110, 116), (24, 22, 34)]
EYES = [(70, 110, 170), (84, 130, 80), (96, 62, 34), (60, 60, 70)]
LIPS = [(200, 84, 84), (178, 70, 90), (220, 96, 100)]
CLOTHES = [(52, 70, 120), (130, 44, 52), (44, 96, 80), (70, 70, 78), (40, 44, 56)]
SCALE = 4  # drawn so many times larger, then reduced: smooth edges


class Canvas:
    """Drawing of shapes on a black square, in a frame whose middle is (0, 0) and whose edges are -1 and 1."""

    def __init__(self, size):
        self.half = size * SCALE / 2
        self.picture = Image.new("RGB", (size * SCALE, size * SCALE))
        self.draw = ImageDraw.Draw(self.picture)

    def box(self, x, y, width, height):
        """Pixels of the box around (x, y) that reaches `width` and `height` to each side."""
        return [self.half * (1 + v) for v in (x - width, y - height, x + width, y + height)]

    def ellipse(self, x, y, width, height, colour):
        """A filled ellipse around (x, y) with these half axes."""
        self.draw.ellipse(self.box(x, y, width, height), fill=colour)

    def arc(self, place, angles, colour, thickness):
        """Draw a part of an ellipse's outline.

        `place` is (x, y, width, height) of `box`, and `angles` are (start, end) in degrees, clockwise from the right.
        """
        self.draw.arc(self.box(*place), *angles, fill=colour, width=max(1, int(thickness * self.half)))


def shade(colour, factor):
    """An RGB colour, darker or lighter."""
    return tuple(int(min(255, v * factor)) for v in colour)


def traits(identity):
    """What stays the same in all pictures of an identity: colours and proportions."""
    rng = np.random.default_rng(identity)
    colours = {name: choices[rng.integers(len(choices))]
               for name, choices in (("skin", SKIN), ("hair", HAIR), ("eyes", EYES), ("lips", LIPS))}
    ranges = {"width": (.5, .64), "height": (.66, .78), "apart": (.2, .26), "eye": (.085, .12), "brow": (.03, .07),
              "nose": (.05, .09), "mouth": (.14, .24), "fringe": (.3, .62), "long": (0, 1)}
    shapes = {name: rng.uniform(*limits) for name, limits in ranges.items()}
    return colours | shapes | {"clothes": CLOTHES[rng.integers(len(CLOTHES))]}


def draw_body(canvas, face):
    """Neck and shoulders, which photos show and renderings of a head do not."""
    canvas.ellipse(0, .75, .26, .3, shade(face["skin"], .7))
    canvas.ellipse(0, 1.2, .95, .42, face["clothes"])


def draw_head(canvas, face, turn, nod, smile):
    """The head of `traits` `face`, turned right by `turn` and down by `nod` (-1 to 1), smiling 0 to 1."""
    x, y = .065 * turn, .08 * nod  # what lies nearer to the camera moves further
    width, height, skin, dark = face["width"], face["height"], face["skin"], shade(face["skin"], .82)
    if face["long"] > .5:
        canvas.ellipse(0, .12, width + .14, height + .04, shade(face["hair"], .8))
    for side in (-1, 1):
        canvas.ellipse(side * width - x / 2, .08, .09, .15, dark)
    canvas.ellipse(0, -.1, width + .05, height - .04, face["hair"])
    canvas.ellipse(0, .08, width, height, skin)
    canvas.draw.chord(canvas.box(0, -.06, width + .03, height - .06), 180 + 90 * face["fringe"],
                      360 - 70 * face["fringe"], fill=face["hair"])
    for side in (-1, 1):
        canvas.ellipse(side * .55 * width + 1.5 * x, .3 + y, .11, .08, tuple((np.array(skin) * 3 + face["lips"]) // 4))
        eye = side * face["apart"] + 2 * x
        canvas.ellipse(eye, y, face["eye"] * 1.15, face["eye"], (250, 250, 248))
        canvas.ellipse(eye + x / 3, y + .01, face["eye"] * .72, face["eye"] * .78, face["eyes"])
        canvas.ellipse(eye + x / 3, y + .01, face["eye"] * .38, face["eye"] * .42, (16, 14, 18))
        canvas.ellipse(eye + x / 3 - .025, y - .025, .022, .022, (255, 255, 255))
        canvas.arc((eye, y - .02, face["eye"] * 1.5, .17), (215, 325), shade(face["hair"], .8), face["brow"])
    canvas.arc((2.6 * x, .14 + 1.4 * y, face["nose"], .1), (20, 160), shade(dark, .9), .035)
    canvas.arc((2 * x, .3 + y, face["mouth"], .06 + .16 * smile), (15, 165), face["lips"], .06)


def background(rng, size):
    """A blurred scene of a few colours, lit from above, with finer texture on it: float [S, S, 3], 0..255."""
    scene = np.zeros([size, size, 3])
    for cells, strength in ((2, 60), (5, 35), (16, 24)):
        texture = Image.fromarray(rng.integers(0, 256, [cells, cells, 3], dtype=np.uint8))
        scene += (np.asarray(texture.resize((size, size), Image.Resampling.BICUBIC)) / 255. - .5) * strength
    scene += np.linspace(60, -60, size)[:, None, None]
    return np.clip(scene + rng.uniform(80, 190) + rng.uniform(-25, 25, 3), 0, 255)


def draw_face(identity, image, size, photo):
    """Picture number `image` of an identity: uint8 [S, S, 3]; image numbers differ in pose, smile and light.

    A rendering lies on black. The photo of the same numbers shows the same face, with neck and shoulders, on a textured
    background, with a camera's tone and noise.
    """
    rng = np.random.default_rng([identity, image])
    turn, nod, light_x, light_y = rng.uniform(-1, 1, 4)
    canvas = Canvas(size)
    if photo:
        draw_body(canvas, traits(identity))
    draw_head(canvas, traits(identity), turn, nod, smile=rng.uniform())
    drawn = np.asarray(canvas.picture, np.float64)
    mask = drawn.any(axis=2, keepdims=True)
    across = np.linspace(-1, 1, len(drawn))
    light = 1 + .22 * (light_x * across[None, :] + light_y * across[:, None]) - .25 * across[None, :] ** 2
    drawn = drawn * light[:, :, None]
    if not photo:
        return reduced(drawn, size)
    scene = np.where(mask, drawn, background(rng, size * SCALE))
    tone = 255 * (np.clip(scene, 0, 255) / 255) ** rng.uniform(.8, 1.25) * rng.uniform(.88, 1.06, 3)
    return np.clip(reduced(tone, size) + rng.normal(0, 6, [size, size, 3]), 0, 255).astype(np.uint8)


def reduced(image, size):
    """Float [H, W, 3] reduced to uint8 [S, S, 3]."""
    picture = Image.fromarray(np.clip(image, 0, 255).astype(np.uint8))
    return np.asarray(picture.resize((size, size), Image.Resampling.BOX))


def write_dataset(folder, size=32, identities=4, per_identity=3, photos=10, pairs=6):
    """Write `<folder>/syn`, `<folder>/real` (5 photos a person) and `<folder>/paired`, all of different identities."""
    for identity in range(1, identities + 1):
        for image in range(1, per_identity + 1):
            write(folder, f"syn/{identity:05}/{image:05}.jpg", draw_face(identity, image, size, photo=False))
    for number in range(photos):
        person, image = 10001 + number // 5, 1 + number % 5
        write(folder, f"real/{person}/{image:05}.jpg", draw_face(person, image, size, photo=True))
    for number in range(1, pairs + 1):
        write(folder, f"paired/{number:05}.jpg", draw_face(20000 + number, 1, size, photo=True))
        write(folder, f"paired/3dmm/{number:05}.jpg", draw_face(20000 + number, 1, size, photo=False))


def write(folder, name, image):
    """Write `image` to `<folder>/<name>`, making folders."""
    path = os.path.join(folder, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    save_image(image, path)


def write_many(folder, identities, per_identity):
    """Write a data set of one small photo, again and again: files differ in two bytes after the image's end."""
    photo = os.path.join(folder, "0", "0.jpg")
    write(folder, "0/0.jpg", draw_face(1, 1, 16, photo=True))
    with open(photo, "rb") as file:
        content = file.read()
    for identity in range(identities):
        os.makedirs(os.path.join(folder, str(identity)), exist_ok=True)
        for number in range(per_identity):
            with open(os.path.join(folder, str(identity), f"{number}.jpg"), "wb") as file:
                file.write(content + bytes([identity, number]))
