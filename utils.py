"""Files: run directory, logging, params.json, atomic writes, image grids, listing and reading images. No TensorFlow."""
import concurrent.futures
import contextlib
import glob
import io
import json
import logging
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

SIGNALS = signal.SIGINT, signal.SIGTERM
PROJECT = os.path.dirname(os.path.abspath(__file__))
TEMPORARY = ".tmp-"
LABELS = "latents.npz"          # beside an identity's images: shape, expression, light, pose, landmarks
FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".bmp": "BMP"}


class UserError(Exception):
    """Bad input. The message is one line: what, where, what to do; `main.py` prints it and exits with status 2."""


class Interrupted(Exception):
    """SIGINT or SIGTERM ended the work in good order; `signal` is its number. The message tells how to go on."""

    def __init__(self, number, message="run the same command again for the rest"):
        super().__init__(message)
        self.signal = number


class Diverged(Exception):
    """A loss or a weight is no longer finite. The message is one line: step, losses, last good checkpoint."""


class StopRequest:
    """While in this context, SIGINT and SIGTERM only set `signal` to their number: the work stops when it can."""

    def __enter__(self):
        self.signal = None
        self.previous = [signal.signal(number, self._note) for number in SIGNALS]
        return self

    def _note(self, number, frame):
        self.signal = number

    def __exit__(self, *exception):
        for number, handler in zip(SIGNALS, self.previous):
            signal.signal(number, handler)


class BrokenImage(UserError):
    """A file that can't be decoded; the message is its path and, in brackets, why."""


class ImageSet(NamedTuple):
    """Images by name: the file of `names[i]` is `<root>/<names[i]>`."""
    root: str
    names: list


class Renderings(NamedTuple):
    """An ImageSet with the class of every image.

    `labels` [n] int32 counts from 0; `identities[label]` is the folder that the class comes from.
    """
    root: str
    names: list
    labels: np.ndarray
    identities: list


class Pairs(NamedTuple):
    """Photos and the renderings of the same faces: two ImageSets of the same length and order."""
    photos: ImageSet
    renderings: ImageSet


# Run directory

def set_up_logging(level):
    """Send log lines of `level` ("INFO", "WARNING", ...) and above to stderr as `[time] message`."""
    logging.basicConfig(format="[%(asctime)s] %(message)s", datefmt="%m-%d %H:%M:%S")
    logging.getLogger().setLevel(level)
    logging.getLogger("PIL").setLevel(logging.WARNING)  # at DEBUG it logs every chunk of every PNG
    logging.getLogger("tensorflow").handlers.clear()    # its own handler would print its lines a second time


def git(*arguments):
    """What git answers about the project's own folder, or None where it can't."""
    try:
        done = subprocess.run(["git", "-C", PROJECT, *arguments], capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def git_branch():
    """The name of the branch, "HEAD" between branches, "master" without git."""
    branch = git("branch", "--show-current")
    return "master" if branch is None else branch or "HEAD"


def load_json(path, default):
    """What the JSON file `path` holds, `default` where there is none. Raises UserError when the file is broken."""
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        return default
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: can't be read ({error}); restore it, or remove it to go without") from error


# Writing

@contextlib.contextmanager
def atomic_write(path):
    """A binary file that appears under `path` when the block ends well, and not at all when it raises or is killed."""
    temporary = os.path.join(os.path.dirname(path), TEMPORARY + secrets.token_hex(8))
    try:
        with open(temporary, "xb") as file:
            yield file
        os.replace(temporary, path)
    except BaseException as error:
        if isinstance(error, OSError):
            error.filename = error.filename or path         # writing tells no name
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)
        raise


def check_writable(folder):
    """Create `folder` if need be, and raise OSError where no file can be written into it."""
    os.makedirs(folder, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def clean_temporary(folder):
    """Remove what a killed `atomic_write` left in `folder`; call it when nothing else writes there."""
    for path in glob.glob(os.path.join(glob.escape(folder), TEMPORARY + "*")):
        os.remove(path)


def save_json(value, path):
    """Write `value` to `path` as indented JSON."""
    with atomic_write(path) as file:
        file.write(json.dumps(value, indent=2).encode() + b"\n")


def save_image(image, path, quality=95):
    """Write `image` uint8 [H, W, 3] in the format of `path`'s suffix: jpg, jpeg, png, webp or bmp."""
    encoded = io.BytesIO()              # given a file, Pillow takes no notice when a full disk accepts only a part
    Image.fromarray(image).save(encoded, FORMATS[suffix(path)], quality=quality, subsampling=0)
    with atomic_write(path) as file:
        file.write(encoded.getvalue())


def make_grid(images, columns, padding=2):
    """Lay `images` uint8 [N, H, W, 3] in rows of `columns`, `padding` black pixels apart; missing cells are black."""
    count, height, width, channels = images.shape
    rows = -(-count // columns)
    cells = np.zeros([rows * columns, height + padding, width + padding, channels], np.uint8)
    cells[:count, :height, :width] = images
    cells = cells.reshape(rows, columns, *cells.shape[1:]).swapaxes(1, 2)
    grid = cells.reshape(rows * (height + padding), columns * (width + padding), channels)
    return grid[:len(grid) - padding, :grid.shape[1] - padding]


# Finding images

def suffix(name):
    """`.jpg` of `a/B.JPG`."""
    return os.path.splitext(name)[1].lower()


def stem(name):
    """`B` of `B.JPG`."""
    return os.path.splitext(name)[0]


def natural_order(name):
    """Sorting key: numeric names first, by number, then the others, by text."""
    number = stem(name)
    return (0, int(number), name) if number.isdecimal() else (1, 0, name)


def scan(folder):
    """The entries of `folder` but hidden ones. Raises UserError when it can't be listed."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise UserError(f"{folder}: can't list this folder ({error.strerror}); check the path") from error


def list_folders(folder):
    """Names of the folders in `folder`, in natural order. Raises UserError when it can't be listed."""
    return sorted((entry.name for entry in scan(folder) if entry.is_dir()), key=natural_order)


def list_images(folder):
    """Names of the images directly in `folder`, in natural order. Raises UserError when it can't be listed."""
    return sorted((entry.name for entry in scan(folder) if suffix(entry.name) in FORMATS and entry.is_file()),
                  key=natural_order)


def data_folder(option, data_dir, name, split=""):
    """`<data_dir>/<name>`, or its sub-folder `split` when there is one; an absolute `name` stands for itself.

    Raises UserError, which begins with `option` (such as "--dataset"), when there is no such folder.
    """
    folder = os.path.join(data_dir, name)
    if not os.path.isdir(folder):
        raise UserError(f"{option}: no folder {folder}; check {option}{' and --data_dir' if data_dir else ''}")
    inside = os.path.join(folder, split)
    return inside if split and os.path.isdir(inside) else folder


def find_photos(folder):
    """The ImageSet of `<folder>/*.jpg` and `<folder>/<person>/*.jpg`. Raises UserError when there is no image."""
    names = list_images(folder)
    for person in list_folders(folder):
        names += [f"{person}/{name}" for name in list_images(os.path.join(folder, person))]
    if not names:
        raise UserError(f"{folder}: no images in it or its sub-folders; put {', '.join(FORMATS)} files there")
    return ImageSet(folder, names)


def find_renderings(folder):
    """The Renderings in `<folder>/<identity>/*.jpg`; warns of empty identities and skips them.

    Raises UserError when no identity is left.
    """
    found = {identity: list_images(os.path.join(folder, identity)) for identity in list_folders(folder)}
    warn_of(folder, "identities without images", [identity for identity in found if not found[identity]])
    identities = [identity for identity in found if found[identity]]
    if not identities:
        raise UserError(f"{folder}: no identities; images are read from {folder}/IDENTITY/IMAGE.jpg")
    names = [f"{identity}/{name}" for identity in identities for name in found[identity]]
    labels = np.repeat(np.arange(len(identities), dtype=np.int32), [len(found[identity]) for identity in identities])
    return Renderings(folder, names, labels, identities)


def find_pairs(folder):
    """The Pairs of `<folder>/NAME.jpg` with `<folder>/3dmm/NAME.jpg`; suffixes may differ; warns of singles.

    Raises UserError when there is no pair.
    """
    inside = os.path.join(folder, "3dmm")
    photos = {stem(name): name for name in list_images(folder)}
    renderings = {stem(name): name for name in list_images(inside)} if os.path.isdir(inside) else {}
    both = [key for key in photos if key in renderings]
    if not both:
        raise UserError(f"{folder}: no pairs; they are read from {folder}/NAME.jpg with {inside}/NAME.jpg")
    singles = [name for key, name in photos.items() if key not in renderings]
    warn_of(folder, "images without partner",
            singles + [f"3dmm/{name}" for key, name in renderings.items() if key not in photos])
    return Pairs(ImageSet(folder, [photos[key] for key in both]), ImageSet(inside, [renderings[key] for key in both]))


def warn_of(folder, what, names):
    """One warning that `names`, if there are any, are skipped: their count and the first three."""
    if names:
        more = ", ..." if len(names) > 3 else ""
        logging.warning("%s: %d %s, skipped: %s%s", folder, len(names), what, ", ".join(names[:3]), more)


# Reading images

def to_rgb(picture):
    """A Pillow image of any mode as RGB: 16 bits scaled to 8, transparency over black."""
    if picture.mode.startswith("I"):  # 16-bit grey; Pillow's own conversion clips it at 255
        grey = np.clip(np.asarray(picture, np.int64), 0, 65535)
        picture = Image.fromarray(((grey + 128) // 257).astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "black"), picture)
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def read_picture(path):
    """The image file `path` as a Pillow RGB image, turned upright by its EXIF. Raises BrokenImage."""
    try:
        with Image.open(path, formats=tuple(FORMATS.values())) as picture:
            ImageOps.exif_transpose(picture, in_place=True)
            return to_rgb(picture)
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error, DecompressionBombError
        raise BrokenImage(f"{path} ({error})") from error


def load_image(path, size, grayscale=False):
    """The image file `path` as uint8 [size, size, 3], resized if need be, its luma thrice if `grayscale`.

    Raises BrokenImage when it can't be decoded whole.
    """
    picture = read_picture(path)
    if picture.size != (size, size):
        picture = picture.resize((size, size), Image.Resampling.BILINEAR)
    if grayscale:
        picture = picture.convert("L").convert("RGB")
    return np.asarray(picture)


def take(image_set, keep):
    """The images of an ImageSet, Renderings or Pairs at the indices `keep`.

    Classes of which no image is left are dropped, and the others numbered anew.
    """
    if isinstance(image_set, Pairs):
        return Pairs(*(take(part, keep) for part in image_set))
    names = [image_set.names[i] for i in keep]
    if isinstance(image_set, ImageSet):
        return ImageSet(image_set.root, names)
    classes, labels = np.unique(image_set.labels[keep], return_inverse=True)
    return Renderings(image_set.root, names, labels.astype(np.int32), [image_set.identities[c] for c in classes])


def check_images(image_set, size, workers, limit=5000):
    """Decode an ImageSet, Renderings or Pairs, and return it without broken images, which are named in a warning.

    Of more than `limit` images or pairs, a fixed random sample of that many is decoded, by `workers` threads. Says so
    if images are not `size` pixels square and will be resized. Raises UserError when none can be decoded.
    """
    parts = image_set if isinstance(image_set, Pairs) else [image_set]
    root, count = parts[0].root, len(parts[0].names)
    sample = np.arange(count) if count <= limit else np.random.default_rng(count).choice(count, limit, replace=False)

    def look(index):
        """The sizes of the images at `index`, or what is broken about them."""
        try:
            return [read_picture(os.path.join(part.root, part.names[index])).size for part in parts]
        except BrokenImage as error:
            return error

    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        looks = dict(zip(sample, pool.map(look, sample)))
    broken = {index: seen for index, seen in sorted(looks.items()) if isinstance(seen, BrokenImage)}
    warn_of(root, "broken images", [str(error) for error in broken.values()])
    if len(broken) == len(looks):
        raise UserError(f"{root}: no image there can be decoded; replace them")
    if any(seen != [(size, size)] * len(parts) for index, seen in looks.items() if index not in broken):
        logging.info("%s: images of other sizes are resized to %dx%d", root, size, size)
    return take(image_set, [index for index in range(count) if index not in broken])


# Progress

def progress_bar(unit, total, initial=0):
    """tqdm on a terminal; in a log file, a line of it every half minute."""
    terminal = sys.stderr.isatty()
    return tqdm(total=total, initial=initial, unit=unit, dynamic_ncols=terminal, mininterval=0.2 if terminal else 30)
