"""What the command lines share: types of options, an output folder's settings, progress, signals, exit status."""
import argparse
import math
import os
import signal
import sys

import utils
from utils import Diverged, Interrupted, SIGNALS

SETTINGS = "settings.json"


def at_least(least, most=math.inf):
    """A type for argparse: an integer from `least` to `most`."""
    def integer(text):
        if not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text} is {f'less than {least}' if int(text) < least else 'too large'}")
        return int(text)
    return integer


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


def run(program, work, options):
    """`work(options)` with one line on stderr for what goes wrong; SIGINT and SIGTERM raise Interrupted in it.

    Returns the exit status: 0, 1 diverged, 2 bad input or no room on the disk, 128 + signal when interrupted.
    """
    utils.set_up_logging("INFO")
    for number in SIGNALS:
        signal.signal(number, interrupt)
    return in_one_line(program, work, options) or 0


def in_one_line(program, work, options):
    """What `work(options)` returns, or the exit status of `run` after one line on stderr about what ended it."""
    try:
        return work(options)
    except utils.UserError as error:
        print(f"{program}: error: {error}", file=sys.stderr)
    except OSError as error:
        where = error.filename or getattr(options, "output", "writing")
        print(f"{program}: error: {where}: {error.strerror}", file=sys.stderr)
    except Interrupted as stop:
        print(f"{program}: interrupted; {stop}", file=sys.stderr)
        return 128 + stop.signal
    except Diverged as stop:
        print(f"{program}: the training diverged; {stop}", file=sys.stderr)
        return 1
    return 2


def interrupt(number, frame):
    raise Interrupted(number)


def leave_on_signals(program):
    """End at once on SIGINT and SIGTERM while there is nothing to save: an exception could get lost in a callback."""
    def leave(number, frame):
        print(f"{program}: interrupted", file=sys.stderr)
        os._exit(128 + number)

    for number in SIGNALS:
        signal.signal(number, leave)
