"""What must be there before work starts: data sets, classifier, weights, run directory. Fails in seconds, in one line."""
import logging
import os
from typing import NamedTuple

import utils
from config import structural_differences
from datasets.image_sets import (
    check_images,
    data_folder,
    find_pairs,
    find_photos,
    find_renderings,
    ImageSet,
    Pairs,
    Renderings,
)
from engine import runs
from utils import UserError


class Data(NamedTuple):
    """The image sets that the asked-for modes need; None for the others."""
    photos: ImageSet = None
    renderings: Renderings = None
    pairs: Pairs = None
    test_pairs: Pairs = None
    test_renderings: ImageSet = None


def load_data(config):
    """List the image sets that `config` needs, without files that can't be decoded. Raises UserError."""
    c = config
    data = Data()
    if c.train_generator or c.fit_dataset:
        data = data._replace(photos=_load(c, "dataset", find_photos))
    if c.train_generator or c.generate_dataset or not (c.is_train or c.test_data_path):
        data = data._replace(renderings=_load(c, "syn_dataset", find_renderings))
    if c.train_generator:
        _check_identities(c, data.renderings)
        data = data._replace(pairs=_load(c, "dataset_3dmm", find_pairs))
        if os.path.isdir(os.path.join(c.data_dir, c.dataset_3dmm_test)):
            data = data._replace(test_pairs=_load(c, "dataset_3dmm_test", find_pairs))
    if c.test_data_path and not c.is_train:
        folder = data_folder("--test_data_path", "", c.test_data_path)
        data = data._replace(test_renderings=check_images(
            find_photos(folder), c.input_scale_size, c.num_worker))
    return data


def _load(config, option, find):
    folder = data_folder(f"--{option}", config.data_dir, getattr(config, option), config.split)
    return check_images(find(folder), config.input_scale_size, config.num_worker)


def _check_identities(config, renderings):
    if config.method_c == "magnet" and len(set(renderings.labels.tolist())) < 2:
        raise UserError(f"{renderings.root}: one identity only, and --method_c magnet compares identities; "
                        "add renderings of others, or take --method_c none")
    if config.method_c == "magnet" and config.batch_size == 1:
        logging.warning("--batch_size 1: the set-based loss has no set to work on and changes nothing")


def check_classifier(config):
    """Raise UserError if the classifier's weights are needed and not there, saying how to go on."""
    c = config
    ways = ("train one with recognizer.py, give a FaceNet checkpoint of --model_def and --embedding_size (for example "
            "20170511-185253, with inception_resnet_v1 and 128), or take --method_c none")
    if c.pretrained_rec and not runs.list_weights(c.pretrained_rec):
        raise UserError(f"--pretrained_rec {c.pretrained_rec}: no checkpoint there; {ways}")
    if c.train_generator and c.method_c != "none" and not c.pretrained_rec:
        raise UserError(f"--pretrained_rec: needed by --method_c {c.method_c}; {ways}")


def open_outputs(config):
    """Create the folders that synthesis, fitting and traces are written to. Raises UserError where that can't be."""
    c = config
    folders = {"save_syn_dataset": os.path.join(c.data_dir, c.save_syn_dataset) if c.generate_dataset else "",
               "save_fitting": os.path.join(c.data_dir, c.save_fitting) if c.fit_dataset else "",
               "profile": c.profile if c.train_generator else ""}
    for option, folder in folders.items():
        if folder:
            try:
                utils.check_writable(folder)
            except OSError as error:
                raise UserError(f"--{option} {folder}: can't write there ({error.strerror}); name another folder")


def find_weights(config):
    """(run directory to go on with, where synthesis without training takes its weights), None where there is none.

    Raises UserError when what was named is not there, or when synthesis has no weights to work with.
    """
    c = config
    run_dir = runs.find_run(c.log_dir, c.load_path) if c.load_path else None
    if c.cont and not run_dir:
        run_dir = runs.newest_run(c.log_dir)
        if not run_dir:
            raise UserError(f"--cont: no run with a checkpoint under {c.log_dir}; start one without --cont")
    source = run_dir
    if c.pretrained_gen:
        source = next((p for p in (c.pretrained_gen, os.path.join(c.log_dir, c.pretrained_gen))
                       if runs.list_checkpoints(p)), None)
        if not source:
            raise UserError(f"--pretrained_gen {c.pretrained_gen}: no checkpoint there; give its prefix, such as "
                            "RUN/model.ckpt-1000, or a run directory")
    elif run_dir and not c.train_generator and not runs.list_checkpoints(run_dir):
        raise UserError(f"--load_path {run_dir}: no checkpoint there; name a run that has saved one")
    elif run_dir:
        runs.warn_of_start(run_dir)
    elif not run_dir and not c.train_generator:
        source = runs.newest_run(c.log_dir)
        if not source:
            raise UserError(f"no weights: no run with a checkpoint under --log_dir {c.log_dir}; give --pretrained_gen "
                            "or --load_path")
    if source and not c.train_generator:
        _check_networks(c, source)
    return run_dir, source


def _check_networks(config, source):
    """Raise UserError if the networks to be built here are not those of the run that `source` belongs to."""
    options = ("conv_hidden_num_res", "num_res_rep", "grayscale")
    if config.generate_dataset and config.scores:                   # these need a discriminator
        options += ("conv_hidden_num", "z_num", "input_scale_size")
    differences = structural_differences(config, runs.load_params(runs.folder_of(source)), options)
    if differences:
        raise UserError(f"{source}: trained with other options: {', '.join(differences)}; give the run's")
