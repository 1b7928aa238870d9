"""Refuse outputs that would lie among images of others or within another data set; tell of images of others."""
import logging
import os

import utils
from datasets.image_sets import Listing, look, walk
from datasets.images import check_picture, is_marked
from datasets.packed.records import SUFFIX
from utils import SETTINGS, UserError

OF_RUNS = "params.json", "stats.jsonl", "model.ckpt", "events.out"      # begin names of files in a run, ours or others'
PROGRAMS = "align.py", "evaluate.py", "gen_syn_latent.py", "main.py"
OLDER = {"version", "model"}, {"size", "margin", "format"}      # settings that tell no command: of people, of crops
LEAST = 3                   # images that make a folder one of photos, where they are most of what is there
LOOKED_AT = 50              # of them, whether they are our charts
PEOPLE = 20                 # sub-folders of photos, all that there are or so many, that make a folder a set of people


def check_outside(option, path):
    """Raise UserError where the file or folder `path`, which `option` names, would lie in a set of images of others.

    That is a data set that a command began, at any depth, a folder of photos, one with a folder of photos for each of
    many people, or one with a .rec file. Where `path` was begun before, nothing is checked. Nothing is created.
    """
    if _is_begun(path):
        return
    folder = os.path.dirname(os.path.realpath(path))
    place = next((above for above in _above(folder) if _is_begun(above)), None)
    if place is None and not _contains_working_folder(folder) and (
            _is_of_photos(folder, LEAST) or _is_of_people(folder, PEOPLE) or _is_of_records(folder)):
        place = folder
    if place:
        raise UserError(f"{option} {path}: would lie in {place}, among images that this command did not begin; name "
                        "another place")


def check_without_photos(option, folder):
    """Raise UserError where `folder`, which `option` names, is or lies in a set of images that we did not begin.

    It is a data set, a folder of photos, or one that holds nothing but folders of photos. In a folder with runs in it,
    runs may lie whatever else is there.
    """
    inside = _list(folder).folders
    if any(_is_run(os.path.join(folder, name)) for name in inside):
        return
    check_outside(option, folder)
    if _is_begun(folder) or _is_of_photos(folder, LEAST) or _is_of_people(folder, 1) or _is_of_records(folder):
        raise UserError(f"{option} {folder}: holds images that this command did not begin; name another folder")


def check_links(folder):
    """Raise UserError where a link to a folder lies in the output `folder`: what is written would go elsewhere."""
    for parent, names, _ in os.walk(folder):
        link = next((name for name in names if os.path.islink(os.path.join(parent, name))), None)
        if link:
            raise UserError(f"{os.path.join(parent, link)}: a link to another folder, within an output; move it away")


def warn_of_others(folder, is_made):
    """Warn of images in `folder` and its sub-folders of which `is_made(name)` is false: they are taken for ours."""
    others = [os.path.join(inside, name) for inside, found, _ in walk(folder, 1) for name in found.images
              if not is_made(os.path.join(inside, name))] if os.path.isdir(folder) else []
    if others:
        logging.warning("%s: %d images that this command does not make are there too, and are kept, such as %s; move "
                        "them elsewhere, or they count as images of this set", folder, len(others), others[0])


def check_picture_place(option, path):
    """Raise UserError where the picture `path`, which `option` names, would lie among images or replace another file.

    In a run's folder it may lie.
    """
    check_picture(option, path)
    if not os.path.lexists(path):
        check_outside(option, path)


def _above(folder):
    """Iterate over `folder` and all folders above it."""
    while folder != os.path.dirname(folder):
        yield folder
        folder = os.path.dirname(folder)


def _contains_working_folder(folder):
    """Tell whether the working folder is `folder` or lies in it: there, users often keep pictures."""
    return os.path.commonpath([folder, os.path.realpath(os.curdir)]) == folder


def _is_begun(folder):
    """Tell whether a command of ours began a data set in `folder`."""
    try:
        settings = utils.load_json(os.path.join(folder, SETTINGS), {})
    except UserError:
        return False
    if not isinstance(settings, dict):
        return False
    command = str(settings.get("command", "")).split(" ")[0]
    return command in PROGRAMS or ("command" not in settings and any(names <= settings.keys() for names in OLDER))


def _list(folder):
    """List what lies in `folder` -> Listing, empty where it is no folder or nobody lets us look."""
    return look(folder) if os.access(folder, os.R_OK | os.X_OK) and os.path.isdir(folder) else Listing(
        [], [], [], [], set())


def _is_run(folder):
    """Tell whether `folder` is a run, of ours or of others."""
    return any(name.startswith(OF_RUNS) for name in _list(folder).others)


def _is_of_photos(folder, least):
    """Tell whether at least so many images lie in `folder`, other than our own charts, and little else does."""
    found = _list(folder)
    charts = sum(is_marked(os.path.join(folder, name)) for name in found.images[:LOOKED_AT])
    photos, others = len(found.images) - charts, charts + len(found.folders) + len(found.others)
    return photos >= least and photos > others and not _is_run(folder)


def _is_of_people(folder, least):
    """Tell whether all of at least so many sub-folders of `folder` are folders of photos. The first PEOPLE tell."""
    inside = [os.path.join(folder, name) for name in _list(folder).folders[:PEOPLE]]
    return len(inside) >= least and all(not _is_begun(each) and _is_of_photos(each, 1) for each in inside)


def _is_of_records(folder):
    """Tell whether a .rec file and its .idx are in `folder`."""
    names = set(_list(folder).others)
    return any(name.endswith(SUFFIX) and name.removesuffix(SUFFIX) + ".idx" in names for name in names)
