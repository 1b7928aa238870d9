"""The sets of a judgement as files: found, and checked as far as that goes without looking at an image."""
import logging
import os
from typing import NamedTuple

import numpy as np

import utils
from cli import outputs
from datasets import scores
from datasets.image_sets import find_renderings, Renderings
from datasets.images import BrokenImage, read_picture
from engine import checkpoint_index, runs
from utils import UserError

SIDE = 64                       # pixels of a side that a set is taken to have where no image can be read


class Sets(NamedTuple):
    """The sets of a judgement, as files: Renderings; None for what is not there."""
    judged: Renderings
    photos: Renderings
    renderings: Renderings | None = None
    training: Renderings | None = None          # the photos that the generator has seen
    scores: dict | None = None                  # {d_score, s_score, c_score: [n], or nan}, as far as known

    @property
    def there(self):
        """List the sets that are there, each folder once: the photos may be those of the training."""
        found = (self.judged, self.photos, self.renderings, self.training)
        return list({each.root: each for each in found if each is not None}.values())


def find_sets(judged, photos, renderings="", training=""):
    """Find the images of the folders of a judgement -> Sets. Renderings are those of identities that are judged.

    Raises UserError where a folder has no images, where the judged set or the photos have a single identity, and where
    the scores of the judged set can't be read.
    """
    found, real = find_renderings(judged), find_renderings(photos)
    check_several(judged, found.identities)
    check_several(photos, real.identities, photos=True)
    return Sets(found, real, find_renderings(renderings) if renderings else None,
                find_renderings(training) if training else None, _scores_of(found))


def check_several(folder, identities, photos=False):
    """Raise UserError where the set in `folder` has a single one of `identities`."""
    if len(identities) < 2 and photos:
        raise UserError(f"{folder}: photos of one person only; two halves of real people are needed, so give a folder "
                        "with photos of two or more, better of 20")
    if len(identities) < 2:
        raise UserError(f"{folder}: one identity only; a set that can be judged has two or more")


def _scores_of(images):
    """Read the scores that synthesis wrote for Renderings -> {name: [n], nan where unknown}; {} where there are none.

    Those of a .rec file stand in the table of its export. Raises UserError where they can't be read.
    """
    if not scores.are_known(images.root):
        return {}
    return {name: values for name, values in scores.read_columns(images, "judge a copy without it").items()
            if np.isfinite(values).any()}


def generator_of(judged):
    """Find the run that made the set in the folder `judged`, by its settings.json -> its folder, or "".

    The settings tell the run's path from the set, and which checkpoint it was. A run that has it not is another one,
    or has been trained on since: a message tells so.
    """
    settings = settings_in(judged)
    if not isinstance(settings.get(outputs.RUN), str):
        return ""
    folder = os.path.relpath(os.path.join(os.path.realpath(judged), settings[outputs.RUN]))
    if weights_of(folder, settings):
        return folder
    logging.info("%s: made by the run %s, which is not there or has not got these weights any more; --generator names "
                 "another place", judged, folder)
    return ""


def weights_of(run, settings):
    """Find the checkpoint in the folder of a `run` that the settings of a set name -> its prefix, None without one."""
    for prefix in runs.list_checkpoints(run):
        if os.path.basename(prefix) == str(settings.get("weights")).partition(" ")[0]:
            try:
                return prefix if checkpoint_index.named(prefix) == settings["weights"] else None
            except (OSError, ValueError, UserError):            # damaged
                return None
    return None


def settings_in(folder):
    """Read the settings.json of a set, {} where there is none that can be read."""
    try:
        found = utils.read_json(os.path.join(folder, utils.SETTINGS))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def training_of(generator):
    """Find the folder of the photos that the run of a generator was trained on; "" where it is not there any more."""
    params = runs.load_params(generator) if generator else {}
    folder = os.path.join(str(params.get("data_dir", "")), str(params.get("dataset", "")))
    return folder if params.get("dataset") and os.path.isdir(folder) else ""


def side_of(images):
    """Tell the shorter side in pixels of the first image of Renderings that can be read."""
    for name in images.names:
        try:
            return min(read_picture(os.path.join(images.root, name)).size)
        except BrokenImage:
            continue
    return SIDE
