"""Options of gen_syn_latent.py that say whom to render, in which poses, and how: their types, defaults and checks."""
import os

from cli import outputs
from cli.options import boolean, checked, number, one_of, path, text, whole
from cli.shards import shard_option

ANGLES = "pitch", "yaw", "roll"
ORIGINS = "african", "asian", "caucasian"               # as in morphable/makehuman/people.py
SEXES = {"any": .5, "female": 1.0, "male": 0.0}         # shares of women
ADULT = 18
CORES = len(os.sched_getaffinity(0))
MODEL = "builtin, makehuman, or the file or folder of a morphable model, see docs/people.md"
BY_BOX = "cut out around the face as by MTCNN"
BY_POINTS = "turned and scaled so that eyes, nose and mouth lie where ArcFace's code has them"
DRAWN_SIZE = 64                                         # --size of drawn photos
USUAL_MODEL = "makehuman where its data are installed, else builtin"


def _parse_sex(word):
    """Convert "any", "female", "male" or a share of women to that share. Raises ValueError for another form."""
    return SEXES[word.lower()] if word.lower() in SEXES else float(word)


def _parse_origin(word):
    """Convert "african=1,asian=2" to weights in the order of ORIGINS. Raises ValueError for another form."""
    pairs = [part.partition("=") for part in word.lower().split(",")]
    names = [name.strip() for name, _, _ in pairs]
    if len(set(names)) < len(names) or not set(names) <= set(ORIGINS):
        raise ValueError
    weights = {name: float(value) if equals else 1.0 for name, (_, equals, value) in zip(names, pairs)}
    return tuple(weights.get(name, 0.0) for name in ORIGINS)


angle = number(-10, 10)
years = number(5, 90)
sex = checked("SEX", _parse_sex, lambda value: 0 <= value <= 1, "any, female, male, or the share of women from 0 to 1")
origin = checked("SHARES", _parse_origin, lambda value: 0 < sum(value) < float("inf") and min(value) >= 0,
                 "shares that are not all 0, such as african=1,asian=1,caucasian=2")
swept = checked("WORD", str.strip, bool, "what changes, or a number")


def people_options(add):
    """Add the options that say whom to render."""
    add("output", text, None, "folder to write to; what is complete there is kept", needed=True)
    add("n_id", whole(1, 9_999_999), 10000, "identities")
    add("n_im", whole(1, 99_999), 50, "images of each identity")
    add("model", path, None, MODEL, USUAL_MODEL)
    add("age", years, None, "ages of the people of makehuman, in years", "18 75, or 5 75 with --children",
        values=("LOW", "HIGH"))
    add("sex", sex, None, "sex of the people of makehuman: any, female, male, or the share of women", "any")
    add("origin", origin, None, "origins of the people of makehuman, in shares that the data set then has",
        "african=1,asian=1,caucasian=1")
    add("children", boolean, False, "children among the people of makehuman")
    add("statistics", path, None, "folder of 300W-3D / AFLW2000-3D .mat files that expressions, light, pose and colour "
        "are sampled like", "built-in statistics")
    add("seed", whole(0, 2 ** 63 - 1), 1, "seed of all random numbers")
    for name in ANGLES:
        add(name, angle, None, f"range of the {name} in radians", "as in the statistics", values=("LOW", "HIGH"))
    add("sweep", swept, None, "images in which only this changes: pitch, yaw, roll, light, light_height; of makehuman "
        "also age, identity (towards the next one) and expressions such as laugh, see docs/people.md", "not swept",
        values=("WHAT", "LOW", "HIGH", "COUNT"))
    shard_option(add, "render only each N-th identity")


def pairs_options(add):
    """Add the options that say which pairs to render."""
    add("annotations", text, None, "folder of photos (.jpg, .png) with their .mat files beside them, as in 300W-3D",
        needed=True)
    add("model", text, None, "the model that the annotations were fitted with: 3DDFA's or BFM 2009", needed=True)
    add("output", text, None, "folder to write to; what is complete there is kept", needed=True)
    shard_option(add, "render only each N-th pair")


def fit_options(add):
    """Add the options that say what is fitted to which photos."""
    add("photos", text, None, "folder of photos; the photos in a folder below it are of one person", needed=True)
    add("output", text, None, "folder to write to; what is complete there is kept", needed=True)
    add("model", path, None, MODEL, USUAL_MODEL)
    add("faces", one_of(("largest", "all")), "largest", "faces of a photo: the large and central one, or all of them, "
        "each as a person of its own")
    add("preview", outputs.image_file((".png", ".jpg", ".jpeg")), None,
        "image to write: photo, rendering and both laid over each other, of some pairs")
    shard_option(add, "fit only each N-th person")


def drawn_options(add):
    """Add the options of drawn photos and pairs."""
    add("output", text, None, "folder to write to; what is complete there is kept", needed=True)
    add("photos", whole(0, 9_999_999), 600, "photos, 5 of each person")
    add("pairs", whole(0, 9_999_999), 200, "pairs of a photo and its rendering")
    add("model", path, None, MODEL, USUAL_MODEL)
    add("seed", whole(0, 2 ** 63 - 1), 1, "seed of all random numbers")
    shard_option(add, "draw only each N-th photo and pair")
    crop_option(add)
    outputs.crop_options(add, size=DRAWN_SIZE)
    add("workers", whole(1, 1024), CORES, "processes", "one for each core")


def picture_options(add):
    """Add the options that say how to render pairs."""
    crop_option(add)
    _frame_options(add)


def crop_option(add):
    """Add --crop for pictures that are always cropped."""
    add("crop", one_of(("face", "arcface")), "face", f"face: {BY_BOX}; arcface: {BY_POINTS}")


def _frame_options(add):
    """Add the options of all renderings."""
    outputs.crop_options(add)
    add("supersample", whole(1, 16), 2, "samples a pixel along each side")
    add("workers", whole(1, 1024), CORES, "processes", "one for each core")


def people_picture_options(add):
    """Add the options that say how to render people."""
    add("crop", one_of(("face", "arcface", "none")), "face",
        f"face: {BY_BOX}; arcface: {BY_POINTS}; none: the whole picture of 450 pixels")
    add("format", one_of(("jpg", "png")), "jpg", "format of the images; jpg is of quality 100")
    _frame_options(add)


def resolve_pictures(options, error, size=outputs.PAPER_CROP):
    """Fill in --size, which is `size` for crops of boxes, and --margin. Call `error` with one line for a bad one."""
    outputs.resolve_crop(options, error, "--crop arcface" if options.crop == "arcface" else None, size)


def resolve_people(options, error):
    """Fill in --size and --margin, and call `error` with one line if the options contradict each other."""
    resolve_pictures(options, error)
    for name in ANGLES:
        low, high = getattr(options, name) or (0, 0)
        if low > high:
            error(f"--{name}: {low:g} is more than {high:g}; give the lower one first")
    if options.age:
        low, high = options.age
        if low > high:
            error(f"--age: {low:g} is more than {high:g}; give the lower one first")
        if low < ADULT and not options.children:
            error(f"--age {low:g}: children are left out by default; say --children True, or give {ADULT} or more")
    if options.sweep:
        what, *numbers = options.sweep
        try:
            low, high, count = float(numbers[0]), float(numbers[1]), int(numbers[2])
        except ValueError:
            error(f"--sweep {' '.join(options.sweep)}: must be WHAT LOW HIGH COUNT, such as yaw -1 1 9")
        if not 2 <= count <= 99_999:
            error(f"--sweep: COUNT {count} must be from 2 to 99999")
        options.sweep, options.n_im = [what.lower(), low, high, count], count
