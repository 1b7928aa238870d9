"""Photo-like pictures of people of MakeHuman's head: what a rendering lacks, and a camera.

A photo has a blurred scene behind the head, clothes, loose strands of hair, pores and fine wrinkles, and shadows that
the head casts on itself. The camera has depth of field, a white balance, a tone, noise, sharpening and JPEG.
"""
import functools
import io

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from scipy import ndimage

from morphable import renderer, textured_renderer
from morphable.makehuman import atlas as makehuman_atlas
from morphable.makehuman import texture as makehuman_texture
from morphable.makehuman.mesh import BLOCKS
from morphable.makehuman.people import CUTS

SHADOW_SIZE, SHADOW_REACH = 176, 430.0          # pixels and millimetres of the picture that the light sees
BIAS, RAMP = 4.0, 5.0                           # millimetres behind that picture at which a shadow begins, and is full
PORES, FINE_WRINKLES = .014, .06                # of the skin's brightness
BARE_CUTS = "bald", "buzz"                      # hair without loose strands
# rgb of clothes, and of what is behind people: walls, wood, plants, sky, night
CLOTHES = ((38, 42, 54), (28, 28, 32), (74, 80, 92), (92, 34, 40), (40, 62, 98), (214, 212, 206), (120, 104, 84),
           (58, 78, 60), (168, 150, 128), (152, 60, 52), (92, 118, 148), (226, 222, 214))
SCENES = (((196, 190, 180), (150, 142, 130)), ((120, 92, 66), (70, 52, 40)), ((92, 116, 74), (46, 66, 42)),
          ((168, 190, 212), (120, 134, 120)), ((44, 48, 62), (22, 22, 28)), ((176, 154, 122), (106, 92, 80)),
          ((112, 124, 140), (62, 68, 80)), ((140, 60, 54), (70, 34, 40)), ((60, 86, 130), (36, 46, 78)))
# Points of a neckline, in millimetres in the frame of the head: from the right shoulder of the image to its left
NECKLINE = np.array([[240, -158, -20], [150, -124, -24], [84, -94, -22], [60, -104, 20], [34, -124, 42],
                     [0, -134, 50]])


# The head

def detail_skin(mesh, masks, person, random):
    """Make an Atlas like that of a TexturedMesh of a Person, with pores and fine wrinkles in the skin.

    `masks` are those of the skin. The mesh has to have the `paint` of an Atlas.
    """
    _, _, width, height = BLOCKS["skin"]
    grain = random.standard_normal([height, width]).astype(np.float32)
    pores, creases = ndimage.gaussian_filter(grain, .8), ndimage.gaussian_filter(grain[::-1], (.7, 4.5))
    old = np.clip(makehuman_texture.read(person, "wrinkles"), .08, 1)
    flat, paint_flat = mesh.atlas.reshape(5, -1), mesh.paint            # the rest of the mesh need not stay in memory

    def copy(block, texels):
        """Copy `texels` [n] of a block from the atlas of the mesh -> [5, n]."""
        places = makehuman_atlas.find(block, texels)
        paint_flat(places)
        return np.take(flat, places, 1)

    def paint(texels):
        """Paint `texels` [n] of the skin's block -> [5, n]."""
        skin, pore = copy("skin", texels), np.take(pores, texels) * 2.6
        crease = np.minimum(np.take(creases, texels) * 5, 0)
        lips, wrinkle, eye, cheek = (np.take(masks[name], texels) for name in ("lips", "wrinkle", "eye", "cheek"))
        lined = np.clip(wrinkle + .5 * eye + .25 * cheek, 0, 1)
        factor = 1 + PORES * pore * (1 - .7 * lips) + FINE_WRINKLES * old * lined * crease
        skin[:3] = np.clip(skin[:3] * factor, 0, 255)
        skin[3] *= np.clip(1 + .35 * pore, .2, 2)
        return skin

    return makehuman_atlas.Atlas({**{block: functools.partial(copy, block) for block in BLOCKS}, "skin": paint})


def cast_shadow(mesh, shot, strength=.85):
    """Darken what the directional light of a renderer.Shot does not reach -> a TexturedMesh with a shade of its own."""
    theta, phi = shot.illumination[6:8]
    ambient, directional = np.maximum(shot.illumination[:6], 0).reshape(2, 3).mean(axis=1)
    light = np.array([np.cos(theta) * np.sin(phi), np.sin(theta), np.cos(theta) * np.cos(phi)])
    side = np.cross([0, 1, .01], light)
    side /= max(np.linalg.norm(side), 1e-9)
    seen = mesh.vertices / np.float32(1000) @ np.stack([side, np.cross(light, side), light]).T.astype(np.float32)
    screen = np.column_stack([seen[:, :2] * (SHADOW_SIZE / SHADOW_REACH) + SHADOW_SIZE / 2, seen[:, 2]])
    opaque = mesh.triangles[:mesh.first_open]
    pixels, owners, weights, sums = renderer.find_visible(screen, opaque, SHADOW_SIZE, SHADOW_SIZE)
    depth = np.full(SHADOW_SIZE ** 2, -1e9, np.float32)
    depth[pixels] = (weights / sums * screen[opaque[owners].T, 2]).sum(axis=0)
    column, row = np.clip(np.rint(screen[:, :2]).astype(int), 0, SHADOW_SIZE - 1).T
    hidden = np.zeros(len(screen), np.float32)
    places = ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0))
    for down, across in places:         # the mean of some, for a soft rim
        around = np.clip(row + down, 0, SHADOW_SIZE - 1) * SHADOW_SIZE + np.clip(column + across, 0, SHADOW_SIZE - 1)
        hidden += np.clip((depth[around] - screen[:, 2] - BIAS) / RAMP, 0, 1) / len(places)
    lost = strength * directional / max(ambient + directional, 1e-6)
    return mesh._replace(shade=(mesh.shade * (1 - lost * hidden[:, None])).astype(np.float32))


# What is around it

def paint_scene(random, size):
    """Paint a scene out of focus: a gradient, soft shapes, perhaps lights -> float [S, S, 3] in 0..255."""
    small = 96
    upper, lower = (np.array(colour, float) for colour in SCENES[random.integers(len(SCENES))])
    bright = random.uniform(.6, 1.15)
    ramp = np.clip(np.linspace(-.3, 1.3, small) + random.uniform(-.3, .3), 0, 1)[:, None, None]
    sides = np.linspace(random.uniform(.8, 1), random.uniform(.8, 1), small)[:, None]
    base = (upper * (1 - ramp) + lower * ramp) * sides
    picture = Image.fromarray(np.clip(bright * base, 0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    for _ in range(random.integers(3, 12)):
        colour = np.array(SCENES[random.integers(len(SCENES))][random.integers(2)]) * random.uniform(.5, 1.3)
        colour = tuple(int(value) for value in np.clip(.5 * colour + .5 * upper, 0, 250))
        x, y = random.uniform(-.2, 1.1, 2) * small
        wide, high = random.uniform(.06, .5), random.uniform(.1, .9)
        box = x, y, x + wide * small, y + high * small
        (pen.rectangle if random.random() < .65 else pen.ellipse)(box, fill=colour)
    blurred = np.asarray(picture.filter(ImageFilter.GaussianBlur(float(random.uniform(1.2, 7)))), float)
    if random.random() < .3:                            # lights out of focus are discs
        lights = Image.new("RGB", (small, small))
        pen = ImageDraw.Draw(lights)
        for _ in range(random.integers(3, 14)):
            x, y, radius = *random.uniform(0, small, 2), random.uniform(1.5, 6)
            glow = tuple(int(value) for value in random.uniform(.4, 1) * np.array([150, 128, 92]))
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=glow)
        blurred = blurred + np.asarray(lights.filter(ImageFilter.GaussianBlur(.8)), float)
    grown = Image.fromarray(np.clip(blurred, 0, 255).astype(np.uint8)).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(grown, np.float64)


def paint_clothes(picture, project, random):
    """Paint clothes over the shoulders on an image, in place; `project` maps points [n, 3] in millimetres to pixels."""
    size, pen = picture.width, ImageDraw.Draw(picture)
    right = project(NECKLINE)
    left = project(NECKLINE * [-1, 1, 1])
    colour = np.array(CLOTHES[random.integers(len(CLOTHES))]) * random.uniform(.8, 1.1)
    line = [tuple(point) for point in np.concatenate([right, left[::-1][1:]])]
    below = [(line[-1][0] - size, 3 * size), (line[0][0] + size, 3 * size)]
    fill = tuple(int(value) for value in np.clip(colour, 0, 255))
    kind = random.random()
    if kind < .4:                                       # a suit: a shirt, then lapels, perhaps a tie
        shirt = tuple(int(value) for value in np.array([222, 222, 226]) * random.uniform(.75, 1))
        pen.polygon(line + below, fill=shirt)
        for sign in (1, -1):
            points = project(np.array([[50, -108, 28], [84, -92, -22], [150, -122, -24], [240, -156, -20],
                                       [400, -420, -20], [6, -420, 95], [14, -250, 84]]) * [sign, 1, 1])
            pen.polygon([tuple(point) for point in points], fill=fill)
        if random.random() < .6:
            tie = tuple(int(value) for value in np.array(CLOTHES[random.integers(len(CLOTHES))]) * .9)
            knot = project(np.array([[-13, -128, 54], [13, -128, 54], [9, -152, 64], [22, -420, 96], [-22, -420, 96],
                                     [-9, -152, 64]]))
            pen.polygon([tuple(point) for point in knot], fill=tie)
    else:
        pen.polygon(line + below, fill=fill)
        rim = tuple(int(value) for value in np.clip(colour * random.uniform(.6, 1.3), 0, 255))
        if kind < .7:
            pen.line(line, fill=rim, width=max(2, size // 40))


def add_strands(picture, covered, colour, top, random):
    """Draw loose strands of hair about the outline of the head above row `top`, on an image in place."""
    edge = covered & ~ndimage.binary_erosion(covered)
    rows, columns = np.nonzero(edge)
    above = rows < top
    rows, columns = rows[above], columns[above]
    if not len(rows):
        return
    pen, size = ImageDraw.Draw(picture, "RGBA"), picture.width
    slope_y, slope_x = np.gradient(ndimage.gaussian_filter(covered.astype(np.float32), size / 40))
    for index in random.integers(0, len(rows), random.integers(20, 70)):
        y, x = float(rows[index]), float(columns[index])
        out = -np.array([slope_x[rows[index], columns[index]], slope_y[rows[index], columns[index]]])
        out /= max(np.linalg.norm(out), 1e-6)
        along = np.array([-out[1], out[0]]) * random.choice([-1, 1])
        bend, length = random.uniform(.1, .6), size * random.uniform(.03, .11)
        steps = np.linspace(0, 1, 6)[:, None]
        path = steps * along * (1 - .3 * bend) + bend * steps * (1.2 - steps) * out
        path = np.array([x, y]) - out * 2 + length * path
        shade = np.clip(colour * random.uniform(.7, 1.25), 0, 255).astype(int)
        pen.line([tuple(point) for point in path], fill=(*shade.tolist(), int(random.uniform(60, 170))), width=1)


# The camera

def expose(pixels, size, random):
    """Imitate a camera: vignetting, white balance, a tone, blur, noise, sharpening and JPEG.

    `pixels` are float [S, S, 3] in 0..255. Returns uint8 [size, size, 3].
    """
    across = np.linspace(-1, 1, len(pixels)) ** 2
    pixels = pixels * (1 - random.uniform(0, .14) * (across[:, None] + across[None, :]))[..., None]
    balance = np.exp(random.normal(0, .03) * np.array([1, 0, -1.2]) + random.normal(0, .012) * np.array([0, 1, 0]))
    light = np.clip(pixels / 255 * balance, 0, 1.2)
    light = np.clip(light, 0, 1) ** random.uniform(.85, 1.12)
    steep = random.uniform(0, .45)                      # of an S-shaped tone
    light = (1 - steep) * light + steep * light * light * (3 - 2 * light)
    picture = Image.fromarray(np.rint(255 * light).astype(np.uint8))
    fine = len(pixels) / size
    picture = picture.filter(ImageFilter.GaussianBlur(float(fine * random.uniform(.22, .62))))
    reduced = np.asarray(picture.resize((size, size), Image.Resampling.BOX), np.float64)
    level = random.uniform(.8, 3.2)
    noise = random.normal(0, 1, reduced.shape) + .7 * random.normal(0, 1, reduced.shape[:2])[..., None]
    noisy = reduced + level * noise * (.5 + .8 * np.sqrt(reduced / 255)) * .8
    picture = Image.fromarray(np.clip(np.rint(noisy), 0, 255).astype(np.uint8))
    if random.random() < .5:
        picture = picture.filter(ImageFilter.UnsharpMask(1.0, int(random.integers(20, 90)), 2))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=int(random.integers(62, 95)))
    return np.asarray(Image.open(file).convert("RGB"))


# The whole

def take(mesh, person, shot, frame, random):
    """Take a photo of a TexturedMesh of a Person, lit and seen as a renderer.Shot tells -> uint8 [S, S, 3].

    `frame` is a renderer.Frame several times as large as the photo, which has the side of its `size` over its
    `supersample`. The skin of the mesh has details. `random` is a np.random.Generator.
    """
    fine, size = frame.size[0], frame.size[0] // frame.supersample
    mesh = cast_shadow(mesh, shot)
    head, covered = textured_renderer.render(mesh, shot, frame._replace(supersample=1))

    def project(points):
        """Map points [n, 3] in millimetres to columns and rows of the fine picture."""
        places = renderer.project(np.float32(points) * 1000, shot.pose, frame.height)
        return renderer.points_in_box(places, frame.box, fine, fine)[:, :2].astype(float)

    picture = Image.fromarray(np.where(covered[..., None], head, paint_scene(random, fine)).astype(np.uint8))
    paint_clothes(picture, project, random)
    if CUTS[person.cut] not in BARE_CUTS:
        brow = project(np.array([[0, 40, 60.0]]))[0, 1]
        lit = head[covered].mean() / 140 if covered.any() else 1
        add_strands(picture, covered, makehuman_texture.hair_colour(person) * np.clip(lit, .5, 1.3), brow, random)
    return expose(np.asarray(picture, np.float64), size, random)
