"""What synthesis and fitting make: their folders, what all images in one share, shards, and the scores of the whole.

TensorFlow is not needed for any of it.
"""
import contextlib
import logging
import os
from typing import NamedTuple

import numpy as np

import utils
from cli import outputs
from datasets import crop_kinds, scores, shards, sources, writer
from datasets.image_sets import ImageSet, LABELS, Renderings, subset
from datasets.images import output_name
from datasets.neighbours import warn_of_others
from engine import checkpoint_index, runs
from utils import UserError

LOOKED_AT = 1000                            # images of a product that are compared with their sources at a start
VERSION = 1                                 # of all that makes the images of synthesis and of fitting
TO_COME = "of the training to come"         # instead of the weights of a product


class Product(NamedTuple):
    """What synthesis or fitting makes: an image for each image of a set."""
    option: str                  # that names the folder, such as --save_syn_dataset
    folder: str                  # to write to
    images: object               # the ImageSet or Renderings that are turned into it, here
    scores: bool                 # whether it is synthesized, with the rendering's labels and perhaps scores
    work: shards.Work            # the part of the work that this process does
    whole: object                # the ImageSet or Renderings of all shards

    def record(self):
        """Read the record of what the images in the folder were made from."""
        return sources.SourceRecord(self.folder, lambda name: [os.path.join(self.images.root, name)], self.path_of,
                                    self.work)

    def path_of(self, name):
        """Return the path of what is made of the image `name`."""
        return os.path.join(self.folder, output_name(name))


def products_of(config, data, whole=None):
    """List the Products that are asked for, of the images in `data`; with --shard, `whole` has those of all shards."""
    whole = whole or data
    wanted = ((config.generate_dataset, "save_syn_dataset", data.renderings, whole.renderings, True),
              (config.fit_dataset, "save_fitting", data.photos, whole.photos, False))
    return [Product(f"--{option}", os.path.join(config.data_dir, getattr(config, option)), images, scored,
                    shards.Work(config.shard), everything) for asked, option, images, everything, scored in wanted
            if asked]


def part_of(images, work):
    """Choose what a shards.Work makes of a set: of Renderings each N-th identity, else each N-th image."""
    if isinstance(images, Renderings):
        return subset(images, np.flatnonzero(np.isin(images.labels, work.of(range(len(images.identities))))))
    return ImageSet(images.root, work.of(images.names))


def shared_of(config, product, settings):
    """Collect what shards of a Product have to have in common -> {name: JSON value}, besides its `settings`."""
    return settings | ({"scores": config.scores, "classifier": classifier_mark(config)} if product.scores else {})


def classifier_mark(config):
    """Say in a word which classifier embeds images, and how; None without one."""
    if not config.pretrained_rec:
        return None
    weights = checkpoint_index.fingerprint(runs.list_weights(config.pretrained_rec)[0])
    return f"{weights}-{config.image_size}-{config.standardization}"


def settings_of(config, product, prefix):
    """Collect what all images of a Product share -> {name: JSON value}.

    `prefix` is the checkpoint with the weights, None for those of a training that is still to be done.
    """
    names = ("input_scale_size", "grayscale", "precision")
    settings = {"command": f"main.py {'--generate_dataset' if product.scores else '--fit_dataset'}", "version": VERSION,
                "weights": checkpoint_index.named(prefix) if prefix else TO_COME}
    if product.scores:
        names += ("random_seed", "generation_dropout", "dropout_keep")
        path = os.path.join(product.images.root, outputs.SETTINGS)
        settings["renderings"] = checkpoint_index.fingerprint(path) if os.path.isfile(path) else None
    settings["template"] = crop_kinds.kind_of(product.images.root)      # what is made lies as its source does
    return settings | {name: getattr(config, name) for name in names}


def check_product(config, product, weights):
    """Raise UserError where the folder of a Product can't be begun, or not be gone on with.

    `weights` is the run or the checkpoint that it is to be made with; None: they are still to be trained.
    """
    check_output_names(product.images)
    settings = settings_of(config, product, newest_whole(weights) if weights else None)
    outputs.check_ours(product.folder, product.option, settings["command"], strict=True)
    utils.check_free(product.folder, product.work.share)
    product.work.check_there(product.folder, product.option)
    if product.scores:
        scores.check_places(product.folder)
    record, names = product.record(), set(map(output_name, product.images.names))
    record.check_own(part_of(product.whole, product.work).names if product.work.share else product.images.names)
    warn_of_others(product.folder, (names | set(map(output_name, record.names))).__contains__)
    different = difference_of(product, settings, record)
    if different and not config.overwrite:
        raise UserError(f"{product.option} {product.folder}: {different}; name another folder, or give --overwrite to "
                        "begin it anew")
    if product.work.in_shards:
        product.work.check(product.folder, product.whole.names, shared_of(config, product, settings))


def difference_of(product, settings, record):
    """Say how what is in the folder of a Product was made otherwise than by `settings`, in words; None if it was not.

    `record` is what `Product.record` read. Raises UserError where the folder's settings can't be read.
    """
    different = outputs.differences_of(product.folder, settings)
    if different:
        return f"begun with other settings: {different}"
    left = sorted(set(record.names).difference(product.images.names))
    if left:
        return f"holds {len(left)} images that {product.images.root} has no source of, such as {left[0]}"
    some = record.names[::max(len(record.names) // LOOKED_AT, 1)]
    some = {image for image in some if os.path.exists(product.path_of(image))}
    if record.are_others(record.changed(some), some):
        return f"made from other images: those in {product.images.root} have the same names and another content"
    return None


def check_output_names(images):
    """Raise UserError where two images of an ImageSet or Renderings would be written under one name."""
    first = {}
    for name in images.names:
        other = first.setdefault(output_name(name), name)
        if other != name:
            raise UserError(f"{images.root}: what is made of {other} and of {name} would have one name, "
                            f"{output_name(name)}; rename one of them")


@contextlib.contextmanager
def begin_product(config, product, prefix):
    """Open the folder of a Product to be made with the checkpoint `prefix`, and hold it in this context.

    With --overwrite, a folder that was made otherwise is emptied first of what was made there.
    """
    settings, told = settings_of(config, product, prefix), {}
    if product.scores and prefix:
        told[outputs.RUN] = os.path.relpath(*map(os.path.realpath, (runs.folder_of(prefix), product.folder)))

    def renew():
        """Empty the folder, which is held now, where it was made otherwise."""
        outputs.check_ours(product.folder, product.option, settings["command"], strict=True)
        record = product.record()
        different = difference_of(product, settings, record)
        if not different:
            return
        logging.warning("%s %s: %s; --overwrite: what was made there is removed", product.option, product.folder,
                        different)
        names = {*record.names, *product.images.names}
        writer.clear(product.folder, names, labels=product.scores)
        if product.scores:
            scores.clear(product.folder)
        with contextlib.suppress(FileNotFoundError):
            os.remove(os.path.join(product.folder, sources.RECORD))
        utils.save_json(settings | told, os.path.join(product.folder, outputs.SETTINGS))

    more = {"renew": renew} if config.overwrite else {}
    with outputs.begin_output(product.folder, settings, product.option, product.work.share, told=told, **more):
        if product.work.in_shards:
            product.work.begin(product.folder, product.whole.names, shared_of(config, product, settings))
        yield


def end_product(config, product):
    """Note that the images of a Product are made; after the last shard, write the scores of the whole set."""
    names = [output_name(name) for name in product.images.names] if product.work.share else []
    if product.work.share and product.scores:
        names += [f"{identity}/{LABELS}" for identity in product.images.identities]
    names = [name for name in names if os.path.exists(os.path.join(product.folder, name))]
    product.work.end(product.folder, names, lambda: _write_scores(config, product))


def _write_scores(config, product):
    """Write the file of scores of the whole of a Product, if it has any -> names of files."""
    if not (product.scores and config.scores):
        return []
    images, store = product.whole, scores.ScoreStore(product.folder, classifier_mark(config), product.work)
    without = scores.write_scores(product.folder, images.names, images.labels, store)
    if 0 < len(without) < len(images.names):
        logging.warning("%s: %d of %d images have no c_score, since they were made without a classifier, such as %s; "
                        "give --pretrained_rec, and all get one", product.folder, len(without), len(images.names),
                        without[0])
    return [scores.CSV_NAME]


def finish(config, data, weights):
    """Do what is left of all Products when their shards have ended, by --shard finish. No network is needed.

    `data` are the image sets, and `weights` the run or the checkpoint that they were made with.
    """
    for product in products_of(config, data):
        with begin_product(config, product, newest_whole(weights)):
            end_product(config, product)


def newest_whole(weights):
    """Find the newest checkpoint at `weights`, a folder or a prefix, whose files are whole -> its prefix, or None."""
    return next((prefix for prefix in runs.list_checkpoints(weights)
                 if os.path.isfile(prefix) or not checkpoint_index.check_whole(prefix)), None)
