"""What must be there before main.py starts work: folders, weights, data.

The cheapest check comes first: whether folders are there, whether they can be written, what the files of weights say,
which images there are, and last, whether the images can be decoded. TensorFlow is not needed for any of them.
"""
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
from engine import checkpoint_index, endings, runs
from recognition import registry
from utils import UserError

FINDERS = {"dataset": find_photos, "syn_dataset": find_renderings, "dataset_3dmm": find_pairs,
           "dataset_3dmm_test": find_pairs, "test_data_path": find_photos}
FIELDS = {"dataset": "photos", "syn_dataset": "renderings", "dataset_3dmm": "pairs", "dataset_3dmm_test": "test_pairs",
          "test_data_path": "test_renderings"}
GENERATOR = "G_inf/c7s1_32/weights"         # a variable that every checkpoint of main.py has


class Data(NamedTuple):
    """The image sets that the asked-for modes need; None for the others."""
    photos: ImageSet | None = None
    renderings: Renderings | None = None
    pairs: Pairs | None = None
    test_pairs: Pairs | None = None
    test_renderings: ImageSet | None = None


class Work(NamedTuple):
    """All that is known before TensorFlow is needed."""
    data: Data
    resumed: str | None          # folder of the run to go on with
    weights: str | None          # where a training or synthesis takes its weights: a folder or a prefix


def check(config):
    """Check all that `config` asks for -> Work. Raises UserError, one line that says how to go on."""
    check_named_runs(config)
    folders = find_folders(config)
    check_outputs(config)
    check_classifier(config)
    resumed, weights = find_weights(config)
    if config.train_generator:
        runs.check_run_writable(config.log_dir, resumed)
    elif not config.is_train:
        runs.check_run_writable(config.log_dir, runs.folder_of(weights))        # for the sheets
    data = Data(**{FIELDS[option]: FINDERS[option](folder) for option, folder in folders.items()})
    check_identities(config, data.renderings, resumed, decoded=False)
    data = Data(*(images and check_images(images, config.input_scale_size, config.num_worker) for images in data))
    check_identities(config, data.renderings, resumed, decoded=True)
    return Work(data, resumed, weights)


# Folders

def check_named_runs(config):
    """Raise UserError where --load_path or --pretrained_gen names what is not there: all else follows from a run."""
    if config.load_path:
        runs.find_run(config.log_dir, config.load_path)
    if config.pretrained_gen:
        runs.find_checkpoint(config.log_dir, config.pretrained_gen)


def find_folders(config):
    """Find the folders that the asked-for modes read -> {option: folder}. Raises UserError where one is missing."""
    wanted = {"dataset": config.train_generator or config.fit_dataset,
              "syn_dataset": config.train_generator or config.generate_dataset or not (
                  config.is_train or config.test_data_path),
              "dataset_3dmm": config.train_generator,
              "dataset_3dmm_test": config.train_generator and os.path.isdir(
                  os.path.join(config.data_dir, config.dataset_3dmm_test))}
    folders = {option: data_folder(f"--{option}", config.data_dir, getattr(config, option), config.split)
               for option, needed in wanted.items() if needed}
    if config.test_data_path and not config.is_train:
        folders["test_data_path"] = data_folder("--test_data_path", "", config.test_data_path)
    return folders


def check_outputs(config):
    """Raise UserError where a folder of synthesis, of fitting or of traces can't be written; create none."""
    folders = {}
    if config.generate_dataset:
        folders["save_syn_dataset"] = os.path.join(config.data_dir, config.save_syn_dataset)
    if config.fit_dataset:
        folders["save_fitting"] = os.path.join(config.data_dir, config.save_fitting)
    if config.train_generator and config.profile:
        folders["profile"] = config.profile
    for option, folder in folders.items():
        try:
            utils.check_writable(folder)
        except OSError as error:
            raise UserError(f"--{option} {folder}: can't write there ({error.strerror}); name another folder"
                            ) from error


# Weights

def check_classifier(config):
    """Raise UserError if the classifier's weights are needed and not there, or are those of another network."""
    ways = ("train one with recognizer.py, give a FaceNet checkpoint of --model_def and --embedding_size (for example "
            "20170511-185253, with inception_resnet_v1 and 128), or take --method_c none")
    if config.train_generator and config.method_c != "none" and not config.pretrained_rec:
        raise UserError(f"--pretrained_rec: needed by --method_c {config.method_c}; {ways}")
    if not config.pretrained_rec:
        return
    files = runs.list_weights(config.pretrained_rec)
    if not files:
        raise UserError(f"--pretrained_rec {config.pretrained_rec}: no checkpoint there; {ways}")
    shapes = checkpoint_index.read_shapes(files, f"--pretrained_rec {config.pretrained_rec}")
    if shapes is not None:
        model_def, embedding_size = registry.recognise(shapes, config.facenet_scope)
        known = model_def and embedding_size
        found = registry.Architecture(model_def, embedding_size, config.facenet_scope) if known else None
        problem = registry.architecture_problem(found, config)
        if problem:
            raise UserError(problem)


def find_weights(config):
    """Find the run to go on with, and the weights to start from -> (folder, folder or prefix).

    Each is None where there is none.

    Raises UserError when what was named is not there or was trained with other options, or when synthesis has no
    weights to work with.
    """
    resumed = runs.find_run(config.log_dir, config.load_path) if config.load_path else None
    if config.cont and not resumed:
        resumed = runs.newest_run(config.log_dir)
        if not resumed:
            raise UserError(f"--cont: no run with a checkpoint under {config.log_dir}; start one without --cont")
    weights = resumed
    if config.pretrained_gen:
        weights = runs.find_checkpoint(config.log_dir, config.pretrained_gen)
    elif resumed and not config.train_generator and not runs.list_checkpoints(resumed):
        raise UserError(f"--load_path {resumed}: no checkpoint there; name a run that has saved one")
    elif not resumed and not config.train_generator:
        weights = runs.newest_run(config.log_dir)
        if not weights:
            raise UserError(f"no weights: no run with a checkpoint under --log_dir {config.log_dir}; give "
                            "--pretrained_gen or --load_path")
    if resumed and config.train_generator:
        runs.check_options(resumed, structural_differences(config, runs.load_params(resumed)))
        runs.warn_of_start(resumed)
    if config.train_generator and resumed and runs.list_checkpoints(resumed):
        weights = resumed                                       # a training that goes on needs no others
    if not weights or not runs.list_checkpoints(weights):
        return resumed, None
    check_networks(config, weights)
    return resumed, weights


def done_run(config):
    """Find the run that is done, where all that is asked for is to go on with it -> its folder, or None."""
    if not config.train_generator or config.generate_dataset or config.fit_dataset or config.dry_run:
        return None
    resumed = runs.find_run(config.log_dir, config.load_path, missing=None) if config.load_path else \
        runs.newest_run(config.log_dir) if config.cont else None
    if not resumed or structural_differences(config, runs.load_params(resumed)):
        return None
    return resumed if endings.steps_done(resumed) >= config.max_step // config.num_gpu else None


def check_networks(config, weights):
    """Raise UserError if the networks to be built are not those of `weights`, a run's folder or a checkpoint."""
    options = ("conv_hidden_num_res", "num_res_rep", "grayscale")
    if config.train_generator or (config.generate_dataset and config.scores):         # these need a discriminator
        options += ("conv_hidden_num", "z_num", "input_scale_size")
    differences = structural_differences(config, runs.load_params(runs.folder_of(weights)), options)
    shapes = checkpoint_index.read_shapes(runs.list_checkpoints(weights), weights)
    if shapes is not None and GENERATOR not in shapes:
        raise UserError(f"{weights}: no generators in it; give a run of main.py, or a checkpoint of one")
    if shapes and not differences:
        there = {option: value for option, value in networks_of(shapes).items() if option in options}
        differences = structural_differences(config, there, options)
    if differences:
        raise UserError(f"{weights}: trained with other options: {', '.join(differences)}; give the run's")


def networks_of(shapes):
    """Tell the options of the networks from the `shapes` {name: shape} of their variables, as far as possible."""
    sizes = {"conv_hidden_num_res": (GENERATOR, -1), "conv_hidden_num": ("D_forw/Conv/weights", -1),
             "z_num": ("D_forw/fully_connected/weights", -1)}
    found = {option: shapes[name][axis] for option, (name, axis) in sizes.items() if name in shapes}
    blocks = {name.split("/")[1] for name in shapes if name.startswith("G_inf/R")}
    return {**found, "num_res_rep": len(blocks)} if blocks else found


# Identities

def check_identities(config, renderings, resumed, decoded):
    """Raise UserError where the identities of `renderings` are too few for the loss, or not those of the run `resumed`.

    Before the images are `decoded`, there may be more identities than those with a good image.
    """
    if not config.train_generator:
        return
    if config.method_c == "magnet" and len(renderings.identities) < 2:
        raise UserError(f"{renderings.root}: one identity only, and --method_c magnet compares identities; "
                        "add renderings of others, or take --method_c none")
    if decoded and config.method_c == "magnet" and config.batch_size == 1:
        logging.warning("--batch_size 1: the set-based loss has no set to work on and changes nothing")
    if resumed:
        runs.check_run_identities(resumed, renderings.identities, all_known=decoded)
