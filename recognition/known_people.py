"""Warn where a classifier is to be verified on people whom it has learned from: that says nothing of others."""
import logging
import os

from datasets.image_sets import list_folders
from engine import runs, weight_files
from utils import load_json


def warn_of_known_people(weights, images):
    """Warn where the folder `images` holds people that the classifier at `weights`, a run's, was trained on."""
    run = runs.folder_of(weight_files.locate(weights))
    params, known = runs.load_params(run), load_json(os.path.join(run, runs.IDENTITIES), {})
    if not isinstance(known, dict) or "max_nrof_epochs" not in params:
        return
    names = [params.get("real")] + (params["synthetic"] if isinstance(params.get("synthetic"), list) else [])
    folders = [os.path.join(str(params.get("data_dir", "")), name) for name in names if name and isinstance(name, str)]
    warn_of_shared_people(f"--images {images}", images, {folder: folder for folder in folders}, known)


def warn_of_shared_people(typed, folder, trained, identities):
    """Warn where people to verify on are among those of a training.

    `typed` is what a user typed for their `folder`. `trained` is {what to call it: folder} of what is trained on, and
    `identities` {kind: names of people} of the same. Two folders are compared by their real paths. Names count only
    where they are no numbers: 00001 is a person of any rendered set.
    """
    same = [name for name, other in trained.items()
            if other and name != "--lfw_dir" and os.path.realpath(other) == os.path.realpath(folder)]
    if same:
        logging.warning("%s: the people of %s, which the classifier learns from: it says nothing of others; take "
                        "people whom it has not seen", typed, same[0])
        return
    lists = [names for names in identities.values() if isinstance(names, list)]
    learned = {str(name).rpartition("/")[2] for names in lists for name in names}
    shared = [name for name in list_folders(folder) if name in learned and not name.isdecimal()]
    if shared:
        logging.warning("%s: %d people have names of those that the classifier learns from, such as %s: if they are "
                        "the same, it says nothing of others", typed, len(shared), shared[0])
