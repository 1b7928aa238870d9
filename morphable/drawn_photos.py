"""Photo-like pictures of people, for the demo: photos to learn the look of, and exact pairs.

A drawn photo is a rendering with shine on its skin, laid over hair, clothes and a background, and seen by a camera with
blur, vignetting, a tone and noise. A pair is exact: the drawn photo and the rendering have the same parameters.
Photos of people of MakeHuman's head are drawn by makehuman_photos.py.
"""
import os

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

import utils
from datasets.images import FORMATS, save_image, suffix
from datasets.writer import is_whole
from morphable import face_model, renderer
from morphable.makehuman import photos as makehuman_photos
from morphable.scene import (
    CANVAS,
    clipped_texture,
    expose,
    locate_face,
    make_mesh,
    meet_person,
    render_face,
    sample_person,
    sample_shot,
)

FINE, FINE_CAST = 4, 3      # a photo is composed so many times larger, then reduced; one of MakeHuman's people
SHINE = .18, 14             # strength and exponent of the light reflected by skin, in 0..1
CLOTHES = [(52, 70, 120), (130, 44, 52), (44, 96, 80), (70, 70, 78), (40, 44, 56), (196, 188, 172), (150, 96, 50)]
PHOTOS_PER_PERSON = 5
BEGUN = ".begun.json"       # in a folder of drawn images: the number of items that were begun there
FIRST_PHOTO, FIRST_PAIR = 10_000_000, 20_000_000            # identities of their own: nobody is in two sets


def draw_pair(scene, identity, image, paired=True):
    """Draw image number `image` of a person twice -> (photo, rendering), both uint8 [S, S, 3].

    Without `paired` there may be None for the rendering, which takes time.
    Photo and rendering depend on the scene, `identity` and `image` only. A person keeps clothes and hair in all images.
    """
    if scene.cast:
        return _draw_cast(scene, identity, image, paired)
    size = scene.framing.size
    shape, texture = sample_person(scene, identity)
    expression, shot = sample_shot(scene, identity, image)
    vertices = face_model.compute_vertices(scene.model, shape, expression)
    mesh = make_mesh(scene, vertices, clipped_texture(scene, texture))
    rendering, box, landmarks = render_face(scene, mesh, shot)
    fine_size = FINE * size
    shot.illumination[8:] = 255 * SHINE[0], SHINE[1]
    head, covered = renderer.render(mesh, shot, renderer.Frame(CANVAS, CANVAS, box, (fine_size, fine_size)))
    random = np.random.default_rng([scene.seed, identity, image])
    person_random = np.random.default_rng([scene.seed, identity])
    hair = tuple(int(value) for value in head[covered][:50].mean(axis=0))       # the uppermost rows of the head
    behind = _add_body(_make_background(random, fine_size), FINE * landmarks, hair, person_random)
    return _expose(np.where(covered[..., None], head, behind), size, random), rendering


def _draw_cast(scene, identity, image, paired):
    """Draw image number `image` of a person of MakeHuman's head, as `draw_pair` tells."""
    person, subject = meet_person(scene, identity)
    expression, shot = sample_shot(scene, identity, image)
    shot = expose(subject, shot)
    mesh = subject.pose(face_model.combine(expression, scene.model.expression_basis))
    _, box = locate_face(scene, mesh.vertices, shot.pose, CANVAS)
    fine = FINE_CAST * scene.framing.size
    frame = renderer.Frame(CANVAS, CANVAS, box, (fine, fine), FINE_CAST)
    atlas, random = _detailed_atlas(scene, identity, mesh, person), np.random.default_rng([scene.seed, identity, image])
    photo = makehuman_photos.take(mesh._replace(atlas=atlas.image, paint=atlas.paint), person, shot, frame, random)
    return photo, render_face(scene, mesh, shot).image if paired else None


def _detailed_atlas(scene, identity, mesh, person):
    """Make the Atlas, with pores, of person number `identity`, whose mesh this is; it is remembered with the person."""
    atlases, key = scene.cast.detailed, (scene.seed, identity)
    if key not in atlases:              # `meet_person` forgets that of another person
        random = np.random.default_rng(list(key))
        atlases[key] = makehuman_photos.detail_skin(mesh, scene.cast.head.masks, person, random)
    return atlases[key]


def _make_background(random, size):
    """Make a blurred background of a few colours, lit from above, with finer patterns over it.

    Returns float [S, S, 3] in 0..255.
    """
    pixels = np.zeros([size, size, 3])
    for cells, strength in ((2, 60), (5, 35), (16, 24)):
        colours = random.integers(0, 256, [cells, cells, 3])
        greyish = (.3 * colours + .7 * colours.mean(axis=2, keepdims=True)).astype(np.uint8)
        layer = Image.fromarray(greyish).resize((size, size), Image.Resampling.BICUBIC)
        pixels += (np.asarray(layer) / 255. - .5) * strength
    pixels += np.linspace(60, -60, size)[:, None, None]
    return np.clip(pixels + random.uniform(80, 190) + random.uniform(-25, 25, 3), 0, 255)


def _add_body(background, landmarks, hair, random):
    """Paint shoulders and long hair, which lie behind the head, on `background` -> float [S, S, 3].

    `landmarks` [68, 2] tell where the head is, in pixels. Every other person, by `random`, has long hair, of the colour
    `hair`.
    """
    picture = Image.fromarray(background.astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    jaw, brows = landmarks[0:17], landmarks[17:27]
    (x, y), wide = jaw.mean(axis=0), np.linalg.norm(jaw[16] - jaw[0])
    high = jaw[8, 1] - brows[:, 1].mean()
    shoulders, neck = (1.5 + .3 * random.random()) * wide, y + (.9 + .3 * random.random()) * high
    pen.ellipse((x - shoulders, neck, x + shoulders, neck + 3 * high), fill=CLOTHES[random.integers(len(CLOTHES))])
    if random.random() < .5:
        around, down = (.62 + .1 * random.random()) * wide, (.4 + .7 * random.random()) * high
        pen.ellipse((x - around, y - 1.35 * high, x + around, y + down), fill=hair)
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(FINE / 2)), np.float64)


def _expose(pixels, size, random):
    """Imitate a camera: darken the corners, apply a tone, blur, reduce, add noise.

    `pixels` are float [S, S, 3]. Returns uint8 [size, size, 3].
    """
    across = np.linspace(-1, 1, len(pixels)) ** 2
    pixels = pixels * (1 - random.uniform(0, .12) * (across[:, None] + across[None, :]))[..., None]
    toned = 255 * (np.clip(pixels, 0, 255) / 255) ** random.uniform(.75, 1.15) * random.uniform(.9, 1.06, 3)
    picture = Image.fromarray(np.clip(toned, 0, 255).astype(np.uint8))
    picture = picture.filter(ImageFilter.GaussianBlur(FINE * random.uniform(.2, .6)))
    reduced = np.asarray(picture.resize((size, size), Image.Resampling.BOX), np.float64)
    return np.clip(reduced + random.normal(0, random.uniform(2, 6), reduced.shape), 0, 255).astype(np.uint8)


def photo_names(number):
    """Name the file of photo `number`, from 0: PHOTOS_PER_PERSON of each person."""
    return [f"real/{number // PHOTOS_PER_PERSON + 1:05}/{number % PHOTOS_PER_PERSON + 1:05}.jpg"]


def pair_names(number):
    """Name the files of pair `number`, from 0: the rendering, and the photo, each pair of another person."""
    return [f"paired/3dmm/{number + 1:05}.jpg", f"paired/{number + 1:05}.jpg"]


def begin(output, wanted, name_files):
    """Note in `output` that the items 0 to `wanted` - 1 are begun, and find those with lost or damaged files.

    `name_files` is `photo_names` or `pair_names`. Returns the numbers of these items, and the names of images that are
    there and belong to no item. Raises UserError where an item that was not begun before has a file: it is somebody's.
    """
    folder = os.path.join(output, name_files(0)[-1].partition("/")[0])
    there = {os.path.relpath(os.path.join(parent, name), output)
             for parent, _, names in os.walk(folder) for name in names if suffix(name) in FORMATS}
    record = os.path.join(folder, BEGUN)
    begun = utils.load_json(record, wanted if there else 0)         # older versions wrote no record
    begun = begun if not there or (isinstance(begun, int) and begun > 0) else wanted
    if there:
        taken = next((name for number in range(begun, wanted) for name in name_files(number) if name in there), None)
        if taken:
            raise utils.UserError(f"{os.path.join(output, taken)}: has the name of an image to draw, and this command "
                                  "did not draw it; move it elsewhere")
    utils.save_json(max(begun, wanted), record)
    if not there:
        return range(wanted), []        # a range takes no memory
    whole = {name for name in there if is_whole(os.path.join(output, name))}
    missing = [number for number in range(wanted) if not whole.issuperset(name_files(number))]
    return missing, sorted(there.difference(*map(name_files, range(wanted))))


def write_photo(scene, output, number):
    """Draw photo `number`, from 0, into `output`. Raises OSError when the photo can't be written."""
    photo, _ = draw_pair(scene, FIRST_PHOTO + number // PHOTOS_PER_PERSON + 1, number % PHOTOS_PER_PERSON + 1,
                         paired=False)
    _write([photo], output, photo_names(number))


def write_pair(scene, output, number):
    """Draw pair `number`, from 0, into `output`.

    Raises OSError when a file can't be written. The rendering is written first, so that a photo never stands alone.
    """
    photo, rendering = draw_pair(scene, FIRST_PAIR + number, 1)
    _write([rendering, photo], output, pair_names(number))


def _write(images, folder, names):
    """Write each of `images` to `<folder>/<name>`, and create the folders on the way."""
    for image, name in zip(images, names):
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        save_image(image, path)
