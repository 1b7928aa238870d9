"""Find the face in each photo of a folder with MTCNN and cut the face out: any photos to crops for training.

    python align.py --input PHOTOS --output data/real
    python align.py --input PHOTOS --pairs RENDERINGS --output data/paired
    python align.py --input data/generated --labels --template arcface --output data/generated112

The package `mtcnn` detects faces, in processes of its own. Which face is chosen, and how the box is clipped, follows
FaceNet's alignment (align_dataset_mtcnn.py of Sandberg's facenet). With --template arcface, crops are those of
ArcFace's code. With --labels nothing is detected: the labels of rendered people tell where faces are.
"""
if __name__ == "__main__":
    from cli import interrupts
    interrupts.leave_on_signals("align.py")      # before the imports below, which take a while

import collections
import contextlib
import logging
import os
import sys

import numpy as np
from PIL import Image, ImageDraw

import footprint
import utils
from cli import cautions, outputs, places, processes, program
from cli.options import boolean, Command, one_of, parse, path, text, whole
from cli.shards import shard_option
from datasets import crop, crop_kinds, labelled_crops
from datasets.alignment_table import (
    BOX,
    CROPPED,
    encode_rows,
    FIELDS,
    LANDMARKS,
    load_tables,
    NO_FACE,
    save_table,
)
from datasets.detection import detect, detector
from datasets.image_sets import find_photos, list_images, warn_of
from datasets.images import (
    BrokenImage,
    make_grid,
    PICTURES,
    read_picture,
    save_image,
    save_picture,
    stem,
)
from datasets.neighbours import check_links, check_outside, check_picture_place, warn_of_others
from datasets.shards import Work
from datasets.side_files import ALIGNMENT as TABLE
from datasets.sources import SourceRecord
from datasets.writer import is_whole

NO_LANDMARKS = "no landmarks"                               # status of an image that its labels do not tell of
PREVIEWED, PREVIEW_COLUMNS, CELL = 64, 8, 160               # photos, cells a row, pixels a cell
YELLOW, GREEN, RED = (255, 220, 0), (0, 255, 0), (255, 0, 0)


# The command line

def _input_options(add):
    """Add the options that name files."""
    add("input", text, None, "folder of photos, or of one sub-folder of photos per person", needed=True)
    add("output", text, None, "folder to write to; what is complete there is kept", needed=True)
    add("pairs", path, None, "folder of renderings in the photos' frames, of the same names: each is cropped like its "
        "photo, to OUTPUT/3dmm")
    add("recursive", boolean, False, "read photos in sub-folders of any depth, which OUTPUT mirrors, not of one level")
    add("labels", boolean, False, "cut rendered or synthesized people by the landmarks in their latents.npz, without a "
        "detector; labels and scores are carried along")
    shard_option(add, "crop only each N-th photo")
    add("preview", outputs.image_file(PICTURES), None, f"image to write: {PREVIEWED} photos and their boxes")


def _face_options(add):
    """Add the options that say how faces are found and cropped."""
    add("template", one_of(crop_kinds.KINDS), crop_kinds.BOX, "box: MTCNN's box with a margin; arcface: turned and "
        "scaled so that eyes, nose and mouth lie where ArcFace's code has them")
    outputs.crop_options(add, turned="--template arcface")
    add("square", boolean, False, "cut out squares, rather than squeeze the box to one: a face keeps its proportions")
    add("format", one_of(("jpg", "png")), "jpg", "format of the crops; jpg is of quality 100")
    add("detection_size", whole(60, 65536, " of pixels"), 500,
        "a photo with a longer side of more pixels is reduced to so many to find its face; the smallest face that is "
        "found has 20 of them")
    add("workers", whole(1, 1024), len(os.sched_getaffinity(0)), "processes", "one for each core")


def _resolve(options, error):
    """Fill in --size and --margin, and call `error` with one line if the options contradict each other."""
    by_points = options.template == crop_kinds.ARCFACE
    if by_points and options.square:
        error("--square: has no meaning with --template arcface, whose crops keep a face's proportions; leave it out")
    outputs.resolve_crop(options, error, "--template arcface" if by_points else None)
    if options.recursive and options.pairs:
        error("--recursive: not with --pairs, which are read from no sub-folders; leave one out")
    if options.labels and not by_points:
        error("--labels: needs --template arcface; give it, or leave --labels out to detect faces")
    if options.labels and (options.pairs or options.recursive):
        error(f"--labels: not with --{'pairs' if options.pairs else 'recursive'}: labels are read from "
              "INPUT/IDENTITY/latents.npz; leave one out")


COMMAND = Command(
    "align.py", "", "Find the face in each photo with MTCNN and cut it out: OUTPUT/NAME.jpg or OUTPUT/PERSON/NAME.jpg, "
    "as in INPUT, and OUTPUT/alignment.csv, which tells of every photo what was found.",
    ("align.py --input PHOTOS --output data/real --preview sheet.png",
     "align.py --input PHOTOS --pairs RENDERINGS --output data/paired",
     "align.py --input data/generated --labels --template arcface --output data/generated112"),
    {"Files": _input_options, "Faces": _face_options}, _resolve)


def main(arguments):
    """Crop the photos that `arguments`, the words of the command line, name. Raises UserError for bad input."""
    parsed = parse(COMMAND, arguments)
    cautions.warn_of_unused(cautions.ALIGN, parsed.options, parsed.typed)
    align(parsed.options)


# Preparation

def _find_names(options):
    """List the names of the photos, and of the renderings -> (names, {stem: name of a rendering}).

    Without --pairs there is None for the renderings. With --pairs, sub-folders are not read: data sets of pairs have no
    folders of people. Raises UserError when there is no photo or no rendering.
    """
    if options.labels:
        return labelled_crops.find(options.input), None
    if not options.pairs:
        return find_photos(options.input, options.recursive, "--input").names, None
    names, renderings = list_images(options.input, warn=True), list_images(options.pairs, warn=True)
    for option, folder, found in (("--input", options.input, names), ("--pairs", options.pairs, renderings)):
        if not found:
            raise utils.UserError(f"{option} {folder}: no images directly in it; pairs are read from INPUT/NAME.jpg "
                                  "and RENDERINGS/NAME.jpg")
    return names, {stem(name): name for name in renderings}


def _check_apart(options):
    """Raise UserError if files that are written could be read as photos, or overwrite photos."""
    outputs.check_apart("--output", options.output, {"--input": options.input, "--pairs": options.pairs or ""})
    check_outside("--output", options.output)
    check_links(options.output)
    if options.pairs and os.path.realpath(options.pairs) == os.path.realpath(options.input):
        raise utils.UserError(f"--pairs {options.pairs}: must be another folder than --input: photos are no renderings")
    if not options.preview:
        return
    places.check_written(f"--preview {options.preview}", [options.preview])
    folder = os.path.dirname(os.path.realpath(options.preview))
    taken = map(os.path.realpath, (options.output, options.input))
    if any(os.path.commonpath([each, folder]) == each for each in taken):
        raise utils.UserError(f"--preview {options.preview}: within --input or --output it would be taken for a photo; "
                              "name another folder")
    check_picture_place("--preview", options.preview)


def _settings_of(options):
    """Collect the settings that all crops of a folder share -> dict."""
    names = ("template", "size") if options.template == crop_kinds.ARCFACE else ("template", "size", "margin", "square")
    names += ("format",) if options.labels else ("format", "detection_size")
    settings = {name: getattr(options, name) for name in names}
    return {"command": "align.py", **settings, "pairs": options.pairs is not None,
            **({"labels": True} if options.labels else {})}


# The rows of the table

def make_row(options, name, status, face=None, sides=("", "")):
    """Make the row of photo `name` -> dict of FIELDS.

    `status` is CROPPED, NO_FACE, or what is wrong with the photo. `face` [15] is the face that was cropped, a row of
    `detect`, and `sides` are the photo's width and height in pixels.
    """
    row = dict.fromkeys(FIELDS, "") | {"source": name, "status": " ".join(status.split())}
    if face is not None:
        points = face[5:].reshape(2, 5).T.ravel()
        row.update(zip((*BOX, *LANDMARKS), [f"{value:.2f}" for value in (*face[:4], *points)]))
        row.update(crop=_crop_name(options, name), confidence=f"{face[4]:.4f}", width=str(sides[0]),
                   height=str(sides[1]))
    return row


def _crop_name(options, name):
    """Return the name in the output folder of the crop of photo `name`."""
    return f"{stem(name)}.{options.format}"


def _crop_paths(options, name):
    """List the path of the crop of photo `name` and, with --pairs, before it that of the rendering."""
    folders = [os.path.join(options.output, "3dmm"), options.output] if options.pairs else [options.output]
    return [os.path.join(folder, _crop_name(options, name)) for folder in folders]


def _record_of(options, renderings, work):
    """Read the record of what was cropped -> a SourceRecord, in which a photo's name stands for its crop.

    `renderings` are as returned by `_find_names`. Each is a source of its crop as well. `work` is the shards.Work.
    """
    def sources_of(name):
        """List the paths of the photo and, with --pairs, of its rendering; with --labels, of its labels."""
        paths = [os.path.join(options.input, name)]
        if options.labels:
            return paths + labelled_crops.label_paths(options.input, name)
        return paths + [os.path.join(options.pairs, renderings[stem(name)])] if renderings else paths

    return SourceRecord(options.output, sources_of, lambda name: _crop_paths(options, name)[-1], work)


def _find_changed(options, record, names, rows):
    """Find which of the photos `names` were replaced since their rows were written -> set of names.

    Raises UserError where most were: the output folder is of another set of photos.
    """
    done = [name for name in names if rows.get(name, {}).get("status") in (CROPPED, NO_FACE)]
    changed = record.changed(done)
    if record.are_others(changed, set(done)):
        raise utils.UserError(f"--input {options.input}: other photos of the same names than those that --output "
                              f"{options.output} was made from; name another folder")
    if changed:
        logging.info("%s: %d photos have changed and are cropped again", options.input, len(changed))
    return changed


def _plan(options, names, renderings, rows, changed=()):
    """List the `names` of the photos that are to be cropped.

    `renderings` are as returned by `_find_names`, `rows` as by `load_table`. The photos `changed` are cropped again. A
    photo without a rendering, or whose crop would have the name of another photo's crop, gets its row in `rows` here.
    """
    owner, todo, wanted = {}, [], set(names)
    for name in sorted({*names, *rows}, key=lambda name: (rows.get(name, {}).get("status") != CROPPED, name)):
        if name in wanted or rows[name]["status"] == CROPPED:        # that of a photo of an earlier --input counts
            owner.setdefault(_crop_name(options, name), name)
    for name in names:
        first, status = owner[_crop_name(options, name)], rows.get(name, {}).get("status")
        if first != name:
            rows[name] = make_row(options, name, f"same name: {first}")
        elif renderings is not None and stem(name) not in renderings:
            rows[name] = make_row(options, name, "no rendering")
        elif name in changed or (status != NO_FACE and not (
                status == CROPPED and all(map(is_whole, _crop_paths(options, name))))):
            todo.append(name)
    return todo


# Detection and cropping, in the workers

def crop_box(options, box, width, height, points=None):
    """Compute what to cut out of a picture of `width` and `height` pixels for MTCNN's `box` and `points` [5, 2].

    Returns left, top, right, bottom in pixels, within the picture; with --template arcface, a turned box. Raises
    ValueError where the points tell none.
    """
    if options.template == crop_kinds.ARCFACE:
        return crop_kinds.template_box(points)
    box = crop.add_margin(box, options.size, options.margin)
    return crop.clip_box(crop.square_box(box) if options.square else box, height, width)


def _crop_photo(options, names):
    """Write the crop of a photo, and before it the crop of its rendering, in a worker -> the photo's row.

    `names` are those of the photo and of the rendering, None for no rendering.
    """
    name, rendering = names
    detector()                                              # if it is missing, that is said once, and not of each photo
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
    face = faces[crop.choose_box(faces[:, :4], width, height)]
    try:
        box = crop_box(options, face[:4], width, height, face[5:].reshape(2, 5).T)
    except ValueError:                                      # all points are one
        return make_row(options, name, NO_FACE)
    if crop.lies_outside(box, height, width):
        return make_row(options, name, NO_FACE)
    for picture, crop_path in zip(pictures, _crop_paths(options, name)):    # the photo last: it never stands alone
        os.makedirs(os.path.dirname(crop_path), exist_ok=True)
        save_image(crop.cut_out(picture, box, options.size), crop_path, quality=100)
    return make_row(options, name, CROPPED, face, (width, height))


def _crop_labelled(options, names):
    """Write the crop of a labelled image, in a worker -> the image's row. `names` are that of the image, and None."""
    name, _ = names
    try:
        picture = read_picture(os.path.join(options.input, name))
    except BrokenImage as error:
        return make_row(options, name, f"unreadable: {error}")
    place = labelled_crops.place_of(options.input, name)
    if not place:
        return make_row(options, name, NO_LANDMARKS)
    crop_path = _crop_paths(options, name)[0]
    os.makedirs(os.path.dirname(crop_path), exist_ok=True)
    save_image(crop.cut_out(picture, place.box, options.size, place.shown), crop_path, quality=100)
    return make_row(options, name, CROPPED, labelled_crops.face_in(place, picture.size), picture.size)


# The whole

def align(options):
    """Crop the photos that are new, add their rows to the table, and log how all photos fared.

    Raises UserError for bad input, and for a missing package.
    """
    _check_apart(options)
    places.check_folders({f"--{name} {getattr(options, name)}": getattr(options, name) for name in ("input", "pairs")})
    work, settings = Work(options.shard), _settings_of(options)
    outputs.check_output(options.output, settings, share=work.share)
    work.check_there(options.output)
    names, renderings = _find_names(options)
    own = work.of(names)
    if not options.labels:
        footprint.check(footprint.of_detection(options, len(own)))
    with outputs.begin_output(options.output, settings, share=work.share):
        work.begin(options.output, names, settings)
        for folder in {os.path.dirname(path) for name in own for path in _crop_paths(options, name)}:
            if os.path.isdir(folder):
                utils.clean_temporary(folder, alone=not work.in_shards)
        rows, new = _crop_new(options, names, renderings, work)
        crops = [os.path.relpath(path, options.output) for name in own if rows[name]["crop"]
                 for path in _crop_paths(options, name)]
        work.end(options.output, crops, lambda: _finish(options, names, rows, work))
    told = [rows[name] for name in (own if work.share else names)]
    if options.preview:
        _draw_preview(options, told)
    _tell(options, told, new)
    if work.share:
        return
    made = {row["crop"] for row in rows.values()}
    warn_of_others(options.output, lambda name: name.removeprefix("3dmm/" if options.pairs else "") in made)
    others = [name for name in rows.keys() - set(names) if rows[name]["status"] == CROPPED]
    if others:
        logging.info("%s: crops of %d photos that --input does not have are there too, and are kept, such as %s",
                     options.output, len(others), min(others))


def _draw_preview(options, rows):
    """Write the image of --preview, which shows the first photos of `rows`. A shard may have none."""
    if not rows:
        logging.warning("--preview %s: not written, as this shard has no photo", options.preview)
        return
    cells = [_preview_cell(options, row) for row in rows[:PREVIEWED]]
    os.makedirs(os.path.dirname(options.preview) or ".", exist_ok=True)
    save_picture(make_grid(np.stack(cells), PREVIEW_COLUMNS), options.preview)


def _finish(options, names, rows, work):
    """Do what depends on the crops of all `names` -> names of files: write the table of all shards, carry labels along.

    `rows` {name of a photo: row} are of this process, and get those of the other shards. Raises UserError where a row
    is lost.
    """
    if work.in_shards:
        rows.update(load_tables(work.paths(options.output, TABLE)))
        lost = [name for name in names if name not in rows]
        if lost:
            raise utils.UserError(f"{options.output}: the rows of {len(lost)} photos are lost, such as {lost[0]}; run "
                                  "the shards again")
        save_table(os.path.join(options.output, TABLE), rows, names)
    if not options.labels:
        return [TABLE]
    labelled_crops.carry(options, {name: rows[name]["crop"] for name in names})
    return [TABLE, *labelled_crops.carried(options.output, names)]


def _crop_new(options, names, renderings, work):
    """Crop those photos that have no crop yet -> ({name of a photo: row}, how many there were).

    `names` and `renderings` are as returned by `_find_names`. `work` is the shards.Work, which chooses some of them.
    """
    rows = load_tables(work.paths(options.output, TABLE))
    if work.finishes:
        return rows, 0
    table_path, own = work.path(options.output, TABLE), work.of(names)
    record, chosen = _record_of(options, renderings, work), set(own)

    def of_shard():
        """Choose the rows that the table of this process has."""
        return {name: row for name, row in rows.items() if name in chosen} if work.share else rows

    todo = [name for name in _plan(options, names, renderings, rows, _find_changed(options, record, own, rows))
            if name in chosen]
    record.check_own([name for name in todo if rows.get(name, {}).get("status") != CROPPED],
                     lambda name: _crop_paths(options, name))
    save_table(table_path, of_shard())
    items = [(name, renderings[stem(name)] if options.pairs else None) for name in todo]
    with open(table_path, "ab") as table, record.of_run(todo):
        def keep(row):
            """Add a row to the table at once, so that a kill loses none."""
            rows[row["source"]] = row
            table.write(encode_rows([row]))
            table.flush()
            record.add(row["source"])
            if record.full:
                record.flush()

        # spawn, as TensorFlow doesn't survive a fork
        pool = processes.Pool(options.workers, "photo", method="spawn", prepare=processes.silence)
        try:
            processes.process_all(_crop_labelled if options.labels else _crop_photo, options, items, keep, pool)
        except ImportError as error:
            raise utils.UserError(f"detection can't start ({error}); pip install -r requirements-tools.txt") from error
    save_table(table_path, of_shard(), own)
    return rows, len(items)


def _tell(options, rows, new):
    """Log how many photos have which status, and name some photos without a crop.

    `new` is the number of photos that this run has worked on.
    """
    counts = collections.Counter(row["status"].split(":")[0] for row in rows)
    logging.info("%s: %d photos, %d of them new: %s", options.output, len(rows), new,
                 ", ".join(f"{count} {status}" for status, count in counts.most_common()))
    warn_of(options.input, f"photos without a crop, see {TABLE}",
            [f"{row['source']} ({row['status'].split(':')[0]})" for row in rows if row["status"] != CROPPED])


def _preview_cell(options, row):
    """Draw the photo of a row, with MTCNN's box in yellow, and the crop and landmarks in green.

    Returns uint8 [CELL, CELL, 3]. A photo without a crop has a red frame. A photo that can't be read is black.
    """
    cell = Image.new("RGB", (CELL, CELL))
    pen = ImageDraw.Draw(cell)
    with contextlib.suppress(BrokenImage):
        picture = read_picture(os.path.join(options.input, row["source"]))
        scale = CELL / max(picture.size)
        cell.paste(picture.resize([max(round(scale * length), 1) for length in picture.size]))
        if row["status"] == CROPPED:
            box = [float(row[edge]) for edge in BOX]
            points = np.array([float(row[name]) for name in LANDMARKS]).reshape(5, 2)
            cut = labelled_crops.corners_in(labelled_crops.place_of(options.input, row["source"]), picture.size) if \
                options.labels else crop.corners_of(crop_box(options, box, *picture.size, points))
            for corners, colour in ((crop.corners_of(box), YELLOW), (cut, GREEN)):
                pen.polygon(np.minimum(scale * corners, CELL - 1).ravel().tolist(), outline=colour)
            for x, y in scale * points:
                pen.ellipse((x - 2, y - 2, x + 2, y + 2), fill=GREEN)
    if row["status"] != CROPPED:
        pen.rectangle((0, 0, CELL - 1, CELL - 1), outline=RED, width=3)
    return np.asarray(cell)


if __name__ == "__main__":
    sys.exit(program.run("align.py", main, sys.argv[1:]))
