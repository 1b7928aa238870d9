"""Find the face in each photo of a folder with MTCNN and cut it out: any photos to crops for training.

    python align.py --input PHOTOS --output data/real
    python align.py --input PHOTOS --pairs RENDERINGS --output data/paired

Detection is the package `mtcnn`'s, run by processes of their own; the rules around it are those of FaceNet's alignment
(Sandberg's align_dataset_mtcnn.py).
"""
import argparse
import collections
import contextlib
import csv
import io
import logging
import os
import sys

import numpy as np
from PIL import Image, ImageDraw

import utils
from cli import outputs, processes, program
from cli.options import at_least, Parser
from datasets import crop
from datasets.detection import detect, detector, POINTS
from datasets.image_sets import find_photos, list_images, scan, warn_of
from datasets.images import BrokenImage, FORMATS, make_grid, read_picture, save_image, stem, suffix

TABLE = "alignment.csv"
BOX = "left", "top", "right", "bottom"
LANDMARKS = tuple(f"{point}_{axis}" for point in POINTS for axis in "xy")
FIELDS = ("source", "crop", *BOX, *LANDMARKS, "confidence", "status")
CROPPED, NO_FACE = "cropped", "no face"                     # statuses that a re-run accepts; others are tried again
PREVIEWED, PREVIEW_COLUMNS, CELL = 64, 8, 160               # photos, cells a row, pixels a cell
YELLOW, GREEN, RED = (255, 220, 0), (0, 255, 0), (255, 0, 0)


# The command line

def get_options(arguments=None):
    """The options of the command line, as a Namespace. A typo ends with status 2."""
    parser = Parser("align.py", description="Find the face in each photo and cut it out: OUTPUT/NAME.jpg or "
                                            "OUTPUT/PERSON/NAME.jpg, as in INPUT, and OUTPUT/alignment.csv.",
                    formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--input", required=True, help="folder of photos, or of one sub-folder of photos per person")
    parser.add_argument("--output", required=True, help="folder to write to; what is complete there is kept")
    outputs.add_crop_options(parser)
    parser.add_argument("--square", action="store_true",
                        help="cut out squares, rather than squeeze the box to one: a face keeps its proportions")
    parser.add_argument("--format", choices=("jpg", "png"), default="jpg", help="jpg is of quality 100")
    parser.add_argument("--pairs", metavar="RENDERINGS",
                        help="folder of renderings in the photos' frames, of the same names: each is cropped like its "
                             "photo, to OUTPUT/3dmm")
    parser.add_argument("--detection_size", type=at_least(60), default=500,
                        help="a photo with a longer side of more pixels is reduced to so many to find its face; the "
                             "smallest face that is found has 20 of them")
    parser.add_argument("--preview", type=image_name, help=f"image to write: {PREVIEWED} photos and their boxes")
    parser.add_argument("--workers", type=at_least(1), default=len(os.sched_getaffinity(0)), help="processes")
    options = parser.parse_args(arguments)
    options.margin = outputs.margin_of(parser, options)
    return options


def image_name(text):
    """A type for argparse: the name of an image file."""
    if suffix(text) not in FORMATS:
        raise argparse.ArgumentTypeError(f"{text} ends in none of {', '.join(FORMATS)}")
    return text


# Preparation

def find_sources(options):
    """Names of the photos, and {stem: name} of the renderings, None without --pairs. Raises UserError if there is none.

    The two photos of a pair have no folder of their own, so that with --pairs only a flat folder is read.
    """
    if not options.pairs:
        return find_photos(options.input).names, None
    names, renderings = list_images(options.input), list_images(options.pairs)
    for option, folder, found in (("--input", options.input, names), ("--pairs", options.pairs, renderings)):
        if not found:
            raise utils.UserError(f"{option} {folder}: no images directly in it; pairs are read from INPUT/NAME.jpg "
                                  "and RENDERINGS/NAME.jpg")
    return names, {stem(name): name for name in renderings}


def check_apart(options):
    """Raises UserError where written files would be read as photos, or photos be overwritten."""
    output = os.path.realpath(options.output)
    for option in ("input", "pairs"):
        folder = os.path.realpath(getattr(options, option) or options.input)
        if os.path.commonpath([output, folder]) in (output, folder):
            raise utils.UserError(f"--output {options.output}: it is or holds --{option}, or lies in it; name a folder "
                                  "beside it")
    if not options.preview:
        return
    folder = os.path.dirname(os.path.realpath(options.preview))
    if not os.path.isdir(folder):
        raise utils.UserError(f"--preview {options.preview}: no folder {folder}; name one that is there")
    if any(os.path.commonpath([each, folder]) == each for each in (output, os.path.realpath(options.input))):
        raise utils.UserError(f"--preview {options.preview}: within --input or --output it would be taken for a photo; "
                              "name another folder")


def open_output(options):
    """Create the output folder, with its settings. Raises UserError when it holds crops of other settings."""
    settings = {name: getattr(options, name) for name in ("size", "margin", "square", "format", "detection_size")}
    outputs.open_output(options.output, {**settings, "pairs": options.pairs is not None})
    for folder in (options.output, *(entry.path for entry in scan(options.output) if entry.is_dir())):
        utils.clean_temporary(folder)


# The table of what was found

def encode(rows):
    """Rows, dicts of FIELDS, as CSV without heading: bytes."""
    text = io.StringIO()
    csv.DictWriter(text, FIELDS, lineterminator="\n").writerows(rows)
    return text.getvalue().encode(errors="surrogateescape")


def load_table(path):
    """{source: row} of the table `path`, {} where there is none, without a line that a kill cut off.

    Raises UserError when it isn't align.py's.
    """
    if not os.path.exists(path):
        return {}
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        text = file.read()
    whole = text[:text.rfind("\n") + 1]
    reader = csv.DictReader(io.StringIO(whole, newline=""))
    if whole and tuple(reader.fieldnames) != FIELDS:
        raise utils.UserError(f"{path}: not a table of align.py; remove it, or name another folder")
    return {row["source"]: row for row in reader if row["status"]}


def save_table(path, rows):
    """Write {source: row}, in their order."""
    with utils.atomic_write(path) as file:
        file.write((",".join(FIELDS) + "\n").encode() + encode(rows.values()))


def make_row(options, name, status, face=None):
    """The row of photo `name`: its status, and what `detect` found there."""
    row = dict.fromkeys(FIELDS, "") | {"source": name, "status": " ".join(status.split())}
    if face is not None:
        points = face[5:].reshape(2, 5).T.ravel()
        row.update(zip((*BOX, *LANDMARKS), [f"{value:.2f}" for value in (*face[:4], *points)]))
        row.update(crop=crop_name(options, name), confidence=f"{face[4]:.4f}")
    return row


def crop_name(options, name):
    """The name of the crop of photo `name` in the output folder."""
    return f"{stem(name)}.{options.format}"


def crop_paths(options, name):
    """Where the crop of photo `name` goes, and before it that of its rendering."""
    name = crop_name(options, name)
    return [os.path.join(options.output, *folder, name) for folder in ([["3dmm"], []] if options.pairs else [[]])]


def plan(options, names, renderings, rows):
    """Names of the photos to do. Rows of those that can't be done are put into `rows`."""
    owner, todo = {}, []
    for name in sorted(names, key=lambda name: rows.get(name, {}).get("status") != CROPPED):
        owner.setdefault(crop_name(options, name), name)
    for name in names:
        first, status = owner[crop_name(options, name)], rows.get(name, {}).get("status")
        if first != name:
            rows[name] = make_row(options, name, f"same name: {first}")
        elif renderings is not None and stem(name) not in renderings:
            rows[name] = make_row(options, name, "no rendering")
        elif status != NO_FACE and not (status == CROPPED and all(map(os.path.exists, crop_paths(options, name)))):
            todo.append(name)
    return todo


# Detection and cropping, in the workers

def choose(faces, width, height):
    """The one of `faces` [n, 15] that a picture is of: large and central, by FaceNet's rule."""
    left, top, right, bottom = faces[:, :4].T
    away = ((left + right) / 2 - width / 2) ** 2 + ((top + bottom) / 2 - height / 2) ** 2
    return faces[np.argmax((right - left) * (bottom - top) - 2 * away)]


def square(box):
    """`box` with its shorter side grown to the longer one, around its centre."""
    left, top, right, bottom = box
    column, row, half = (left + right) / 2, (top + bottom) / 2, max(right - left, bottom - top) / 2
    return column - half, row - half, column + half, row + half


def crop_box(options, box, width, height):
    """What to cut out of a picture for MTCNN's `box`: left, top, right, bottom, within the picture."""
    box = crop.with_margin(box, options.size, options.margin)
    return crop.clip(square(box) if options.square else box, height, width)


def process(options, job):
    """Write the crop of a photo, before it that of its rendering -> its row. `job` has their names, None for no rendering."""
    name, rendering = job
    detector()                                              # before anything is said of a photo
    try:
        pictures = [read_picture(os.path.join(options.input, name))]
        if rendering:
            pictures.insert(0, read_picture(os.path.join(options.pairs, rendering)))
    except BrokenImage as error:
        return make_row(options, name, f"unreadable: {error}")
    width, height = pictures[-1].size
    if pictures[0].size != (width, height):
        return make_row(options, name, f"rendering of another size: {pictures[0].size}, the photo {width, height}")
    faces = detect(pictures[-1], options.detection_size)
    if not len(faces):
        return make_row(options, name, NO_FACE)
    face = choose(faces, width, height)
    box = crop_box(options, face[:4], width, height)
    if box[2] - box[0] < 2 or box[3] - box[1] < 2:          # all of it lies outside the photo
        return make_row(options, name, NO_FACE)
    for picture, path in zip(pictures, crop_paths(options, name)):      # a photo never stands alone
        os.makedirs(os.path.dirname(path), exist_ok=True)
        save_image(crop.cut(picture, box, options.size), path, quality=100)
    return make_row(options, name, CROPPED, face)


def hush():
    """Say nothing in a worker: TensorFlow would, into the progress bar."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


# The whole

def align(options):
    """Do what is new, with its rows in the table, then tell what there is."""
    check_apart(options)
    names, renderings = find_sources(options)
    open_output(options)
    path = os.path.join(options.output, TABLE)
    rows = load_table(path)
    todo = plan(options, names, renderings, rows)
    save_table(path, rows)
    jobs = [(name, renderings[stem(name)] if options.pairs else None) for name in todo]
    if jobs:
        with open(path, "ab") as table:
            def keep(row):
                rows[row["source"]] = row
                table.write(encode([row]))
                table.flush()                               # row by row: a kill loses none

            try:                                            # spawn, as TensorFlow doesn't survive a fork
                processes.process_all(process, options, jobs, keep, workers=options.workers, unit="photo",
                                      method="spawn", prepare=hush)
            except ImportError as error:
                raise utils.UserError(f"detection can't start ({error}); pip install -r requirements-tools.txt") from error
    save_table(path, {name: rows[name] for name in dict.fromkeys([*names, *rows])})
    if options.preview:
        sheet = make_grid(np.stack([draw(options, rows[name]) for name in names[:PREVIEWED]]), PREVIEW_COLUMNS)
        save_image(sheet, options.preview)
    tell(options, [rows[name] for name in names], len(jobs))


def tell(options, rows, new):
    """Log how many photos have which status, and name some of those without a crop."""
    counts = collections.Counter(row["status"].split(":")[0] for row in rows)
    logging.info("%s: %d photos, %d of them new: %s", options.output, len(rows), new,
                 ", ".join(f"{count} {status}" for status, count in counts.most_common()))
    warn_of(options.input, f"photos without a crop, see {TABLE}",
                  [f"{row['source']} ({row['status'].split(':')[0]})" for row in rows if row["status"] != CROPPED])


def draw(options, row):
    """A photo of the table with MTCNN's box (yellow), the crop (green) and landmarks: uint8 [CELL, CELL, 3].

    A red frame tells that it has no crop; it is black where it can't be read.
    """
    cell = Image.new("RGB", (CELL, CELL))
    pen = ImageDraw.Draw(cell)
    with contextlib.suppress(BrokenImage):
        picture = read_picture(os.path.join(options.input, row["source"]))
        scale = CELL / max(picture.size)
        cell.paste(picture.resize([max(round(scale * side), 1) for side in picture.size]))
        if row["status"] == CROPPED:
            box = [float(row[side]) for side in BOX]
            for corners, colour in ((box, YELLOW), (crop_box(options, box, *picture.size), GREEN)):
                pen.rectangle([min(scale * value, CELL - 1) for value in corners], outline=colour)
            points = np.array([float(row[name]) for name in LANDMARKS]).reshape(5, 2)
            for x, y in scale * points:
                pen.ellipse((x - 2, y - 2, x + 2, y + 2), fill=GREEN)
    if row["status"] != CROPPED:
        pen.rectangle((0, 0, CELL - 1, CELL - 1), outline=RED, width=3)
    return np.asarray(cell)


if __name__ == "__main__":
    sys.exit(program.run("align.py", align, get_options()))
