"""Check and create the folders that commands write to, and keep the settings that all images in one share."""
import contextlib
import os

import utils
from cli.options import checked, number, place, whole
from utils import SETTINGS, UserError

OF_THE_SYSTEM = {"lost+found"}              # at the root of a disk
WAYS = "give the same, or another folder"   # to go on where settings differ
RUN = "run"                                 # setting: the run that made a set, as a path from the set's own folder
MOST_TASK = 200                             # bytes of --task
PAPER_CROP, PAPER_MARGIN = 108, 26          # --size and --margin of the crops that the paper trains on
TURNED_CROP = 112                           # --size of crops that are placed by landmarks, as ArcFace's code has it
# Settings that older versions did not write, and what they mean there.
LATER = {"template": "box", "crop": "face"}


def crop_options(add, size=PAPER_CROP, turned="--crop arcface"):
    """Add --size, whose default is `size`, and --margin; `resolve_crop` fills in both.

    `turned` is what a user types for crops that are placed by landmarks.
    """
    add("size", whole(16, 4096, " of pixels"), None, "side of the crops in pixels",
        f"{size}, or {TURNED_CROP} with {turned}")
    add("margin", whole(0, 4096, " of pixels"), None, "pixels of a crop that lie outside MTCNN's box",
        f"{PAPER_MARGIN} of {PAPER_CROP}, in proportion")


def safety_options(add):
    """Add the options that say how little a training may lose, of main.py and of recognizer.py."""
    add("checkpoint_minutes", number(0), 10.,
        "minutes after which a checkpoint is saved, besides those of certain steps; 0: none")
    add("patience", number(0), 600.,
        "seconds to wait for images that can't be read any more, such as those of a network drive, before a training "
        "ends; 0: do not wait")


def resolve_crop(options, error, turned=None, size=PAPER_CROP):
    """Fill in the defaults of --size and of --margin. Call `error` with one line where they can't be used.

    `turned` is what the user typed for crops that are placed by landmarks, None for others, whose usual side is `size`.
    """
    options.size = options.size or (TURNED_CROP if turned else size)
    if not turned:
        resolve_margin(options, error)
    elif options.margin is not None:
        error(f"--margin: has no meaning with {turned}, which places a face by its landmarks; leave it out")


def resolve_margin(options, error):
    """Fill in the default of --margin. Call `error` with one line where it leaves nothing of the crop."""
    if options.margin is None:
        options.margin = round(PAPER_MARGIN * options.size / PAPER_CROP)
    if options.margin >= options.size:
        error(f"--margin {options.margin}: leaves nothing of {options.size} pixels; give a smaller one")


def image_file(suffixes):
    """Make a type of the names of image files that end in one of `suffixes`, in any case."""
    return checked("FILE", place, lambda name: os.path.splitext(name)[1].lower() in suffixes,
                   f"a file name that ends in {', '.join(suffixes)}")


def _is_task(name):
    """Tell whether a run's folder can begin with `name`, to which its date and number are added."""
    return name and not name.startswith(".") and len(os.fsencode(name)) <= MOST_TASK


task = checked("NAME", place, _is_task, f"a name of at most {MOST_TASK} bytes that does not begin with a dot")


def overlap_problem(option, output, inputs, holding=True):
    """Say how the folder `output` overlaps one that is read; None where it does not.

    `option` is what a user typed for `output`, such as "--output here". `inputs` is {option: folder}, where an empty
    folder's name stands for none. Real paths are compared, so that a link or `.` is no other folder. With `holding`
    False, `output` may hold a folder that is read.
    """
    written = os.path.realpath(output)
    for name, folder in inputs.items():
        read = os.path.realpath(folder)
        together = os.path.commonpath([written, read])
        if folder and (together == read or (holding and together == written)):
            return f"{option}: must be another folder than {name}, and neither hold it nor lie in it"
    return None


def check_apart(option, output, inputs, holding=True):
    """Raise UserError where a folder to write to overlaps one that is read, as `overlap_problem` says."""
    problem = overlap_problem(f"{option} {output}", output, inputs, holding)
    if problem:
        raise UserError(problem)


def check_folder(folder, option="--output"):
    """Raise UserError where no file can be written into the folder that `option` names. Nothing is created."""
    try:
        utils.check_writable(folder)
    except OSError as error:
        raise UserError(f"{option} {folder}: can't write there ({error.strerror}); name another folder") from error


def check_begun(folder, ours=(), option="--output"):
    """Raise UserError where a folder that is written anew each time holds files of others. Nothing is created.

    They are others' where none of the names `ours` is among them.
    """
    check_folder(folder, option)
    names = _visible(folder)
    if names and not set(ours).intersection(names):
        raise UserError(f"{option} {folder}: holds files that this command did not begin; name another folder")


def check_output(folder, settings, option="--output", share=None, ways=WAYS):
    """Raise UserError unless the output folder is new or was begun with the same `settings`, a dict of JSON values.

    Nothing is created. A folder with files but without settings was not begun by us. Another process may not be writing
    there, see `utils.hold` for `share`. `option` is the one that names the folder, and `ways` says in a message how to
    go on.
    """
    check_ours(folder, option, settings.get("command"))
    different = differences_of(folder, settings)
    if different:
        raise UserError(f"{option} {folder}: begun with other settings: {different}; {ways}")
    utils.check_free(folder, share)


def check_ours(folder, option="--output", command=None, strict=False):
    """Raise UserError where an output folder can't be written, or has files but no settings. Nothing is created.

    So it is, too, where the settings tell another command than `command`. Those of older versions tell none, which is
    no fault unless it has to be `strict`.
    """
    check_folder(folder, option)
    there = settings_in(folder).get("command")
    if command and there != command and (there or (strict and os.path.exists(os.path.join(folder, SETTINGS)))):
        raise UserError(f"{option} {folder}: was made by {there or 'another command'}; name another folder")
    if _visible(folder) and not os.path.exists(os.path.join(folder, SETTINGS)):
        raise UserError(f"{option} {folder}: holds files that this command did not begin (there is no {SETTINGS}); "
                        "name another folder")


def _visible(folder):
    """List the names in `folder` that somebody may have put there, [] where it is no folder."""
    there = os.listdir(folder) if os.path.isdir(folder) else []
    return [name for name in there if not name.startswith(".") and name not in OF_THE_SYSTEM]


def differences_of(folder, settings):
    """Say how the settings of an output folder differ from `settings`, in words; "" where they do not.

    Those of a folder without any do not differ. Raises UserError where they can't be read.
    """
    if not os.path.exists(os.path.join(folder, SETTINGS)):
        return ""
    there = {**LATER, **settings_in(folder)}
    return ", ".join(f"{name} {there.get(name)} there, {value} given" for name, value in settings.items()
                     if there.get(name) != value and (name != "command" or name in there))


def settings_in(folder):
    """Read the settings of an output folder -> dict, empty where there are none. Raises UserError."""
    path = os.path.join(folder, SETTINGS)
    settings = utils.load_json(path, {})
    if not isinstance(settings, dict):
        raise UserError(f"{path}: no settings in it; {utils.RESTORE}")
    return settings


@contextlib.contextmanager
def begin_output(folder, settings, option="--output", share=None, renew=lambda: None, told=None):
    """Create the output folder with its `settings`, or go on with one of the same, and hold it in this context.

    Raises UserError as `check_output` does. What a killed process has left half-written in the folder is removed.
    `told` are further values that a new folder's settings get, for readers: none of them has to be the same later.
    `renew` is called when the folder is held, before its settings are looked at.
    """
    check_ours(folder, option, settings.get("command"))
    os.makedirs(folder, exist_ok=True)
    with utils.hold(folder, share):
        renew()
        different = differences_of(folder, settings)
        if different:
            raise UserError(f"{option} {folder}: begun with other settings: {different}; {WAYS}")
        if not share:
            utils.clean_temporary(folder)
        if not os.path.exists(os.path.join(folder, SETTINGS)):
            utils.save_json(settings | (told or {}), os.path.join(folder, SETTINGS))
            different = differences_of(folder, settings)            # of a shard that began in the same moment
            if different:
                raise UserError(f"{option} {folder}: begun with other settings: {different}; {WAYS}")
        yield
