"""What must be there before main.py starts work: folders, weights, data.

The cheapest check comes first: whether folders are there, whether they can be written, what the files of weights say,
which images there are, and last, whether the images can be decoded. TensorFlow is not needed for any of them.
"""
import logging
import os
import re
from types import MappingProxyType
from typing import NamedTuple

import footprint
import utils
from cli import cautions
from config import structural_differences
from datasets import crop_kinds, shards
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
from datasets.neighbours import check_links, check_outside, check_without_photos
from engine import checkpoint_index, runs, weight_files
from engine.cluster import addresses
from engine.cluster.replicas import replicas_of
from evaluation import judge_command
from recognition import dlib_file, registry
from synthesis.products import check_product, newest_whole, part_of, products_of
from utils import UserError

FINDERS = {"dataset": find_photos, "syn_dataset": find_renderings, "dataset_3dmm": find_pairs,
           "dataset_3dmm_test": find_pairs, "test_data_path": find_photos}
FIELDS = {"dataset": "photos", "syn_dataset": "renderings", "dataset_3dmm": "pairs", "dataset_3dmm_test": "test_pairs",
          "test_data_path": "test_renderings"}
PATCHES = re.compile(r"D_forw/scale(\d)(?:_layers(\d))?/conv(\d)/weights")       # of a patch discriminator
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
    crop: str = crop_kinds.BOX   # kind of crop that the classifier sees: that of the renderings, else of the photos
    whole: Data | None = None    # with --shard: the sets of which `data` has this shard's part


def check(config, typed=MappingProxyType({})):
    """Check all that `config` asks for -> Work. Raises UserError, one line that says how to go on.

    `typed`, {option: value}, stands on the command line itself. It has to be there, and a warning tells what has no
    effect.
    """
    check_shard(config)
    check_cluster(config)
    cautions.warn_of_unused(cautions.MAIN, config, typed)
    cautions.warn_of_gpus(config, typed)
    check_named_runs(config)
    folders = find_folders(config, typed)
    if {"dataset", "syn_dataset"} <= folders.keys():
        cautions.warn_of_same_folder(("--syn_dataset", folders["syn_dataset"]), ("--dataset", folders["dataset"]),
                                     "photos are no renderings, and nothing can be learned from them alone")
    kinds = {option: crop_kinds.kind_of(folder) for option, folder in folders.items()}
    crop_kinds.warn_of_mixed({f"--{option} {folders[option]}": kind for option, kind in kinds.items()})
    check_outputs(config)
    classifier = check_classifier(config)
    resumed, weights = find_weights(config)
    if config.pretrained_gen and {"pretrained_gen", "load_path", "cont"} & typed.keys():
        warn_of_two_sources(config, resumed, weights)
    if config.train_generator and not config.worker:            # another worker than 0 writes nothing
        runs.check_run_writable(config.log_dir, resumed)
        runs.check_name(f"--task {config.task or ''}")
        runs.check_name(f"--profile {config.profile}")
        if not resumed:
            check_without_photos("--log_dir", config.log_dir)
    if not config.is_train:
        check_sheets(runs.samples_folder(weights, config.log_dir))
    if config.judge and config.generate_dataset:
        check_judging(config)
    data = Data(**{FIELDS[option]: FINDERS[option](folder) for option, folder in folders.items()})
    check_identities(config, data.renderings, resumed, decoded=False)
    done = resumed and weights == resumed and steps_done(config, resumed)
    for product in products_of(config, data):
        check_product(config, product, weights if done or not config.train_generator else None)
    identities = len(data.renderings.identities) if data.renderings else 0
    width = classifier.width if classifier else 1.
    footprint.check(footprint.of_main(config, identities, width), footprint.uses_gpu(config))
    crop = kinds.get("syn_dataset") or next(iter(kinds.values()), crop_kinds.BOX)
    part = Data(*(images and part_of(images, shards.Work(config.shard)) for images in data)) if config.shard else data
    part = Data(*(images and check_decoded(config, images) for images in part))
    check_identities(config, part.renderings, resumed, decoded=True)
    return Work(part, resumed, weights, crop, data if config.shard else None)


def check_shard(config):
    """Raise UserError where --shard stands with what can't be shared."""
    if config.shard and (config.train_generator or not config.is_train):
        raise UserError("--shard: shares the making of a data set, and nothing else; give --generate_dataset or "
                        "--fit_dataset, and train before")
    for option in ("overwrite", "judge"):
        if config.shard and getattr(config, option):
            raise UserError(f"--{option}: not with --shard, as other shards have parts of the set; leave it out")


def check_cluster(config):
    """Raise UserError where several workers are to do more than train, or where this one can't be reached."""
    several = config.cluster or config.worker is not None
    if several and (not config.train_generator or config.generate_dataset or config.fit_dataset):
        raise UserError("--cluster, --worker: several workers train, and do nothing else; give --generate_dataset and "
                        "--fit_dataset in a command of their own, with --shard")
    cluster = addresses.cluster_of(config)
    if cluster:
        addresses.check(cluster)


def check_decoded(config, images):
    """Leave the broken images out of a set, as `check_images` does. A shard may have no image at all."""
    if config.shard and not images.names:
        return images
    return check_images(images, config.input_scale_size, config.num_worker)


# Folders

def check_named_runs(config):
    """Raise UserError where --load_path or --pretrained_gen names what is not there: all else follows from a run."""
    if config.load_path:
        runs.find_run(config.log_dir, config.load_path)
    if config.pretrained_gen:
        runs.find_checkpoint(config.log_dir, config.pretrained_gen)


def find_folders(config, typed=MappingProxyType({})):
    """Find the folders that the asked-for modes read -> {option: folder}. Raises UserError where one is missing.

    Pairs may be missing where they are not trained with, and test pairs where they are not `typed`. A --split has to be
    in one of the data sets at least.
    """
    def there(name):
        """Tell whether data_dir has the folder `name`."""
        return os.path.isdir(os.path.join(config.data_dir, name))

    paired = config.lambda_d, config.lambda_f, config.lambda_m * (config.game == "hinge")
    wanted = {"dataset": config.train_generator or config.fit_dataset,
              "syn_dataset": config.train_generator or config.generate_dataset or not (
                  config.is_train or config.test_data_path),
              # Without a paired loss, pairs are read only because they always were: the steps stay the same.
              "dataset_3dmm": config.train_generator and (max(paired) > 0 or there(config.dataset_3dmm)),
              "dataset_3dmm_test": config.train_generator and (
                  "dataset_3dmm_test" in typed or there(config.dataset_3dmm_test))}
    folders = {option: data_folder(f"--{option}", config.data_dir, getattr(config, option), config.split)
               for option, needed in wanted.items() if needed}
    places = [os.path.join(config.data_dir, getattr(config, option), config.split) for option in folders]
    if config.split and places and not any(map(os.path.isdir, places)):
        raise UserError(f"--split {config.split}: no such folder in {' or '.join(map('--{}'.format, folders))}; "
                        "correct the name, or leave it out")
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
        check = check_without_photos if option == "profile" else check_outside     # the others have settings.json
        check(f"--{option}", folder)
        if option != "profile":
            check_links(folder)


def check_sheets(folder):
    """Raise UserError where no sample sheets can be written into the folder of a run, which may still be training."""
    try:
        utils.check_writable(folder)
    except OSError as error:
        raise UserError(f"--is_train False: can't write samples into {folder} ({error.strerror}); make it writable, or "
                        "take a copy of the run") from error


def judging_of(config, generator):
    """Make the options by which the set that main.py makes is judged. `generator` is the folder of a run, or ""."""
    folders = [os.path.join(config.data_dir, name) for name in (config.save_syn_dataset, config.dataset,
                                                                config.syn_dataset)]
    return judge_command.options_for(*folders, generator, config.pretrained_rec)


def check_judging(config):
    """Raise UserError where what is to be made could not be judged in the end: for want of photos, weights, a place."""
    options = judging_of(config, "")
    judge_command.check(options)
    if len(find_renderings(options.photos).identities) < 2:
        raise UserError(f"--judge: {options.photos} has photos of one person only; name people with --dataset")


# Weights

def check_classifier(config):
    """Find the classifier's weights -> their registry.Architecture, None where there are none or they don't tell.

    Raises UserError if they are needed and not there, or are those of another network.
    """
    ways = ("take dlib's with --pretrained_rec dlib, train one with recognizer.py, convert one of InsightFace "
            "(recognizer.py convert), give a FaceNet checkpoint of --model_def and --embedding_size (for example "
            "20170511-185253, with inception_resnet_v1 and 128), or take --method_c none")
    if config.train_generator and config.method_c != "none" and not config.pretrained_rec:
        raise UserError(f"--pretrained_rec: needed by --method_c {config.method_c}; {ways}")
    if not config.pretrained_rec:
        return None
    weight_files.check_packaged("--pretrained_rec", config.pretrained_rec)
    files = runs.list_weights(config.pretrained_rec)
    if not files:
        what = weight_files.describe(config.pretrained_rec)
        raise UserError(f"--pretrained_rec {config.pretrained_rec}: {what}no checkpoint there; {ways}")
    shapes = dlib_file.read_shapes(files, "--pretrained_rec", config.pretrained_rec, config.facenet_scope)
    if shapes is None:
        return None
    found = registry.architecture_in(shapes, config.facenet_scope)
    problem = registry.architecture_problem(found, config)
    if problem:
        raise UserError(problem)
    return found


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
    return resumed if steps_done(config, resumed) else None


def steps_done(config, run_dir):
    """Tell whether the newest whole checkpoint of a run is that of the last step that `config` asks for."""
    prefix = newest_whole(run_dir)
    return bool(prefix) and runs.step_of(prefix) >= config.max_step // replicas_of(config).total


def warn_of_two_sources(config, resumed, weights):
    """Warn where both a run and --pretrained_gen are named, and the weights of one of them do not count."""
    if not resumed:
        return
    if config.train_generator and weights == resumed:
        logging.warning("--pretrained_gen %s: no effect here: the training of %s goes on from its own weights",
                        config.pretrained_gen, resumed)
    elif not config.train_generator:
        logging.warning("--load_path %s: its weights have no effect here: those of --pretrained_gen %s count",
                        resumed, config.pretrained_gen)


def check_networks(config, weights):
    """Raise UserError if the networks to be built are not those of `weights`, a run's folder or a checkpoint."""
    options = ("conv_hidden_num_res", "num_res_rep", "upsampling", "normalization", "background", "grayscale")
    if config.train_generator or (config.generate_dataset and config.scores):         # these need a discriminator
        options += ("game", "conv_hidden_num", "input_scale_size", "z_num", "d_scales", "d_layers")
    differences = structural_differences(config, runs.load_params(runs.folder_of(weights)), options)
    shapes = checkpoint_index.read_shapes(runs.list_checkpoints(weights), weights)
    if shapes is not None and GENERATOR not in shapes:
        raise UserError(f"{weights}: no generators in it; give a run of main.py, or a checkpoint of one")
    if shapes and not differences:
        there = {option: value for option, value in networks_of(shapes).items() if option in options}
        differences = structural_differences(config, there, list(there))
    if differences:
        raise UserError(f"{weights}: trained with other options: {', '.join(differences)}; give the run's")


def networks_of(shapes):
    """Tell the options of the networks from the `shapes` {name: shape} of their variables, as far as possible."""
    sizes = {"conv_hidden_num_res": (GENERATOR, -1), "conv_hidden_num": ("D_forw/Conv/weights", -1),
             "z_num": ("D_forw/fully_connected/weights", -1)}
    found = {option: shapes[name][axis] for option, (name, axis) in sizes.items() if name in shapes}
    patches = [match.groups() for match in map(PATCHES.fullmatch, shapes) if match]
    first = shapes.get("D_forw/scale1/conv1/weights")
    if first:
        scales, shallow, convolutions = zip(*patches)
        deepest = str(int(max(convolutions)) - 1)
        found |= {"game": "hinge", "conv_hidden_num": first[-1], "d_scales": int(max(scales)),
                  "d_layers": ",".join([*sorted({*shallow} - {None}), deepest])}
    elif "conv_hidden_num" in found:
        found["game"] = "began"
    upwards = shapes.get("G_inf/u64/weights", (3, 3, 1, 1))         # from more channels to fewer
    if upwards[2] != upwards[3]:
        found["upsampling"] = "transposed" if upwards[2] < upwards[3] else "resize"
    blocks = {name.split("/")[1] for name in shapes if name.startswith("G_inf/R")}
    if not blocks:
        return found
    normalised = any(name.startswith("G_inf/R") and "/instance_norm/" in name for name in shapes)
    return {**found, "num_res_rep": len(blocks), "normalization": "instance" if normalised else "none"}


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
