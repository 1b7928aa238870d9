"""Check and create the folders that commands write to, and keep the settings that all images in one share."""
import os

import utils
from cli.options import checked, whole
from utils import UserError

SETTINGS = "settings.json"
PAPER_CROP, PAPER_MARGIN = 108, 26          # --size and --margin of the crops that the paper trains on


def crop_options(add, size=PAPER_CROP):
    """Add --size with the default `size`, and --margin, whose default `resolve_margin` fills in."""
    add("size", whole(16, 4096, " of pixels"), size, "side of the crops in pixels")
    add("margin", whole(0, 4096, " of pixels"), None, "pixels of a crop that lie outside MTCNN's box",
        f"{PAPER_MARGIN} of {PAPER_CROP}, in proportion")


def resolve_margin(options, error):
    """Fill in the default of --margin. Call `error` with one line where it leaves nothing of the crop."""
    if options.margin is None:
        options.margin = round(PAPER_MARGIN * options.size / PAPER_CROP)
    if options.margin >= options.size:
        error(f"--margin {options.margin}: leaves nothing of {options.size} pixels; give a smaller one")


def image_file(suffixes):
    """Make a type of the names of image files that end in one of `suffixes`, in any case."""
    return checked("FILE", str, lambda name: os.path.splitext(name)[1].lower() in suffixes,
                   f"a file name that ends in {', '.join(suffixes)}")


def check_folder(folder):
    """Raise UserError where no file can be written into the output folder. Nothing is created."""
    try:
        utils.check_writable(folder)
    except OSError as error:
        raise UserError(f"--output {folder}: can't write there ({error.strerror}); name another folder") from error


def open_output(folder, settings):
    """Create the output folder, or go on with one of the same `settings`, a dict of JSON values.

    Raises UserError where the folder can't be written, or was begun with other settings.
    """
    check_folder(folder)
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, SETTINGS)
    there = utils.load_json(path, settings)
    if not isinstance(there, dict):
        raise UserError(f"{path}: no settings in it; restore it, or name another --output")
    different = [f"{name} {there.get(name)} there, {value} given" for name, value in settings.items()
                 if there.get(name) != value]
    if different:
        raise UserError(f"--output {folder}: begun with other settings: {', '.join(different)}; give the same, or "
                        "another folder")
    if not os.path.exists(path):
        utils.save_json(settings, path)
