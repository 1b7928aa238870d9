"""Refuse outputs that would lie among images of others or within another data set; tell of images of others."""
import itertools
import logging
import os

import utils
from datasets.image_sets import list_folders, list_images, walk
from datasets.images import check_picture, is_marked
from utils import UserError

SETTINGS, PARAMS = "settings.json", "params.json"   # lie in each data set, and in each run, that a command began
PEOPLE = 10                 # sub-folders, all with images, that make a folder a set of people
LOOKED_AT = 20              # of them, since a set may have thousands
DEEP = 2                    # folders above an image that a set can have: that of a person, and its own


def check_outside(option, path):
    """Raise UserError where the file or folder `path`, which `option` names, would lie in a set of images.

    That is a data set which a command began, a folder with images, or one with a folder of images for each person. In
    the working folder and in those above it, users often keep pictures: there, only a data set counts. Nothing is
    created.
    """
    folder, here = os.path.realpath(path), os.path.realpath(os.curdir)
    for _ in range(DEEP):
        folder = os.path.dirname(folder)
        if not os.access(folder, os.R_OK | os.X_OK) or os.path.exists(os.path.join(folder, PARAMS)):
            continue                        # not there, of others who let nobody look, or a run
        above = os.path.commonpath([folder, here]) == folder
        if _is_begun(folder) or (not above and (_holds_images(folder) or _holds_people(folder))):
            raise UserError(f"{option} {path}: would lie in {folder}, among images that this command did not begin; "
                            "name another place")


def check_without_photos(option, folder):
    """Raise UserError where `folder`, which `option` names, is or lies in a set of images that we did not begin.

    It is one where an image lies in it, other than our own charts, or where there is one in each of its sub-folders. A
    sub-folder is ours where it is a run.
    """
    check_outside(option, folder)
    if not os.path.isdir(folder):
        return
    inside = [os.path.join(folder, name) for name in list_folders(folder)]
    people = all(not os.path.exists(os.path.join(each, PARAMS)) and list_images(each) for each in inside)
    if (inside and people) or _is_begun(folder) or _holds_images(folder):
        raise UserError(f"{option} {folder}: holds images that this command did not begin; name another folder")


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
    check_outside(option, path)


def _is_begun(folder):
    """Tell whether a command began a data set in `folder`. A file of settings that can't be read counts as one."""
    try:
        settings = utils.load_json(os.path.join(folder, SETTINGS), {})
    except UserError:
        return True
    return isinstance(settings, dict) and not settings.keys().isdisjoint({"command", "version"})


def _holds_images(folder):
    """Tell whether an image lies directly in `folder`, other than our own charts."""
    return any(not is_marked(os.path.join(folder, name)) for name in list_images(folder))


def _holds_people(folder):
    """Tell whether `folder` has many sub-folders, and images in each of them."""
    inside = [os.path.join(folder, name) for name in itertools.islice(list_folders(folder), LOOKED_AT)]
    inside = [each for each in inside if os.access(each, os.R_OK | os.X_OK)]
    return len(inside) >= PEOPLE and all(
        not os.path.exists(os.path.join(each, PARAMS)) and not _is_begun(each) and list_images(each) for each in inside)
