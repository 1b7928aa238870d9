"""Folders that commands write to: created, checked, and begun with the settings that all of their images share."""
import argparse
import os

import utils
from cli.options import at_least

SETTINGS = "settings.json"


def add_crop_options(parser):
    """Add --size and --margin; `margin_of` resolves the latter."""
    parser.add_argument("--size", type=at_least(16), default=108, help="side of the crops in pixels")
    parser.add_argument("--margin", type=at_least(0), default=argparse.SUPPRESS,
                        help="pixels of a crop that lie outside MTCNN's box (default: 26 of 108, in proportion)")


def margin_of(parser, options):
    """The margin in pixels; ends with status 2 where it leaves nothing of the crop."""
    margin = getattr(options, "margin", round(26 * options.size / 108))
    if margin >= options.size:
        parser.error(f"argument --margin: {margin} leaves nothing of {options.size} pixels; give a smaller one")
    return margin


def check_folder(folder):
    """Create the output folder if need be. Raises UserError where no file can be written."""
    try:
        utils.check_writable(folder)
    except OSError as error:
        raise utils.UserError(f"--output {folder}: can't write there ({error.strerror}); name another folder") from error


def open_output(folder, settings):
    """Create the output folder, with the `settings` (a dict) that all of its images share.

    Raises UserError where it can't be written, or holds images of other settings.
    """
    check_folder(folder)
    path = os.path.join(folder, SETTINGS)
    there = utils.load_json(path, settings)
    if not isinstance(there, dict):
        raise utils.UserError(f"{path}: no settings in it; restore it, or name another --output")
    different = [f"{name} {there.get(name)} there, {value} given" for name, value in settings.items()
                 if there.get(name) != value]
    if different:
        raise utils.UserError(f"--output {folder}: begun with other settings: {', '.join(different)}; give the same, or "
                              "another folder")
    if not os.path.exists(path):
        utils.save_json(settings, path)
