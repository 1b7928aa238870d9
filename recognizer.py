"""The identity classifier: train it, verify it on pairs of faces, convert published weights.

    python recognizer.py train --real FOLDER [--synthetic FOLDER ...]
    python recognizer.py verify --weights RUN --images FOLDER [--pairs pairs.txt]
    python recognizer.py verify --weights RUN --bin lfw.bin cfp_fp.bin
    python recognizer.py convert --input FILE --output FOLDER

`python recognizer.py COMMAND --help` lists the options.
"""
if __name__ == "__main__":
    from cli import interrupts
    interrupts.leave_on_signals("recognizer.py")      # before the imports below, which take a while

import functools
import logging
import os
import sys

import numpy as np

import footprint
import utils
from cli import cautions, outputs, places, program
from cli.options import changed_options, choose, Command, parse
from config import differences_in
from datasets import crop_kinds
from datasets.image_sets import check_images, data_folder, find_renderings
from datasets.images import save_picture
from datasets.neighbours import check_outside, check_without_photos
from engine import checkpoint_index, endings, runs, weight_files
from engine.cluster import addresses
from engine.startup import hush, start
from evaluation.report import charts
from preflight import newest_whole
from recognition import (
    alignment,
    dlib_file,
    input_size,
    known_people,
    labelled_data,
    outcome,
    pyeer,
    recognizer_options,
    registry,
    standard_sets,
    verification,
)
from recognition.schedule import length_of, table_of
from utils import UserError

# Options that decide which variables a checkpoint holds, or what they mean: a resumed run must keep them.
STRUCTURAL = ("model_def", "width", "embedding_size", "image_size", "input_scale_size", "crop", "optimizer",
              "standardization", "loss", "shared_head")
# What runs did before they had these options.
FORMERLY = {"crop": "box", "loss": "softmax_center", "shared_head": False}
# Options that tell what to do now and where: a run does not remember them.
OF_THE_MOMENT = {"preset", "dry_run", "load_path", "log_dir", "task", "num_worker", "use_gpu", "cluster", "worker",
                 "collective_timeout", "collectives"}
WRITTEN = "verification.json", "roc.png", "distances.png"            # by `verify`
# Options of `verify` that a run of `train` remembers.
_VERIFIED_AS_TRAINED = ("image_size", "input_scale_size")


# Reading the command line

def _run_to_go_on_with(options):
    """Find the run that `train --load_path` names -> [(run, {option: value})], empty where none is named.

    Raises UserError where the run is not there or is one of main.py, and for a params.json that can't be read.
    """
    if not options.load_path:
        return []
    folder = runs.find_run(options.log_dir, options.load_path)
    saved = runs.load_params(folder)
    if "conv_hidden_num" in saved:
        raise UserError(f"--load_path {folder}: a run of main.py; name one of recognizer.py train")
    runs.warn_without_options(folder, saved)
    return [(folder, {name: value for name, value in {**FORMERLY, **saved}.items() if name not in OF_THE_MOMENT})]


def _verified_run(options):
    """Find the run that `verify --weights` names -> [(run, {option: value})], empty where there is none.

    Raises UserError for a params.json that can't be read.
    """
    if not options.weights or not runs.list_weights(options.weights):
        return []
    folder = runs.folder_of(weight_files.locate(options.weights))
    saved = runs.load_params(folder)
    if "conv_hidden_num" in saved:              # of main.py: its sizes are not those of a classifier
        return []
    if os.path.isfile(os.path.join(folder, runs.STATS)):        # a run, and not weights that somebody published
        runs.warn_without_options(folder, saved)
    recalled = {name: saved[name] for name in _VERIFIED_AS_TRAINED if name in saved}
    if {**FORMERLY, **saved}["crop"] != recognizer_options.crop_shown(options):    # its window differs
        recalled.pop("input_scale_size", None)
    return [(options.weights, recalled)]


def _resolve_training(options, error):
    """Fill in what follows from other options of `train`, and from the variables that tell who trains together."""
    addresses.resolve(options, error)
    recognizer_options.resolve(options, error)


COMMANDS = [
    Command("recognizer.py", "train", "Train a classifier of people.",
            ("recognizer.py train --preset cpu",),
            recognizer_options.TRAIN, _resolve_training, _run_to_go_on_with, presets=True),
    Command("recognizer.py", "verify", "Tell how well a classifier recognises people whom it has not seen.",
            ("recognizer.py verify --weights recognizers/RUN --images data/syn --baselines",
             "recognizer.py verify --weights recognizers/RUN --bin lfw.bin cfp_fp.bin agedb_30.bin"),
            {"Verification": recognizer_options.verify_options}, recognizer_options.resolve_verify, _verified_run),
    Command("recognizer.py", "convert", "Convert published weights to a checkpoint.",
            ("recognizer.py convert --input w600k_r50.onnx --output w600k_r50",
             "recognizer.py convert --input 20180402-114759-vggface2.pt --output vggface2"),
            {"Conversion": recognizer_options.convert_options})]


def main(words):
    """Run the command that the `words` of a command line ask for."""
    command, words = choose(COMMANDS, words)
    parsed = parse(command, words)
    for note in parsed.notes:
        logging.info("%s", note)
    cautions.warn_of_unused({"train": cautions.TRAIN, "verify": cautions.VERIFY}.get(command.name, ()), parsed.options,
                            parsed.typed)
    if command.name == "train" and "crop" not in parsed.typed:
        crop_kinds.warn_of_mixed(recognizer_options.kinds_of_data(parsed.options))
    cautions.warn_of_gpus(parsed.options, parsed.typed)
    {"train": train, "verify": verify, "convert": convert}[command.name](parsed.options)


# Training

def train(options):
    """Train a classifier, or with --dry_run tell what would be trained.

    Everything is checked before TensorFlow is imported, because the import takes seconds. Raises UserError, and what
    `ClassifierTrainer.train` raises.
    """
    places.check_files({f"--{name} {getattr(options, name)}": getattr(options, name)
                        for name in ("learning_rate_schedule_file", "filter_filename", "lfw_pairs")})
    cluster = addresses.cluster_of(options)
    if cluster:
        addresses.check(cluster)
    table, read = table_of(options), _folders_read(options)
    resumed = _check_places(options, read)
    faces = labelled_data.find(options)
    if resumed and _is_done(options, resumed, faces, table):
        return
    footprint.check(footprint.of_classifier_training(options, sum(map(len, _identities_of(faces).values()))),
                    footprint.uses_gpu(options))
    choice = verification.PairChoice(options.lfw_nrof_folds)
    pairs = find_pairs(options, ("lfw_dir", "lfw_pairs"), choice) if options.lfw_pairs else None
    faces = labelled_data.decode(faces, options)
    identities = _identities_of(faces)
    if options.lfw_dir:
        known_people.warn_of_shared_people(f"--lfw_dir {options.lfw_dir}", options.lfw_dir, read, identities)
    if resumed:
        runs.check_run_identities(resumed, identities)
    if options.lfw_dir and not options.lfw_pairs:
        pairs = find_pairs(options, ("lfw_dir", "lfw_pairs"), choice)
    if cluster:
        hush()
    start(precision=options.precision)
    from engine.cluster.joining import join
    from losses import classifier_rate
    from recognition.training import ClassifierTrainer, count_parameters

    if options.dry_run:
        image_sets = {"real": faces.real, "synthetic": faces.synthetic}
        summaries = {name: images.summary for name, images in image_sets.items() if images}
        program.tell(changed_options(COMMANDS[0], options), summaries, count_parameters(options))
        return
    options.command = "train"           # for params.json
    epochs, epoch_size = length_of(options, faces, table)
    schedule = functools.partial(classifier_rate, epoch_size=epoch_size, table=table,
                                 decay_epochs=options.learning_rate_decay_epochs,
                                 factor=options.learning_rate_decay_factor)
    verified_on = crop_kinds.kind_of(options.lfw_dir, options.crop) if pairs else None
    with join(options, {"--real": faces.real, "--synthetic": faces.synthetic}) as team:
        trainer = ClassifierTrainer(options, faces, schedule, pairs, verified_on, team)
        try:
            run = trainer.train(runs.Run(options, identities, "rec", resumed), epochs, epoch_size)
        finally:
            trainer.close()
    if team.leads:
        print(f"trained: {utils.one_line(run.folder)}")
        endings.tell_classifier(run.folder)


def _folders_read(options):
    """Tell which folders a training reads -> {option: folder}, "" where an option names none."""
    read = {"--real": options.real and os.path.join(options.data_dir, options.real), "--lfw_dir": options.lfw_dir}
    return read | {f"--synthetic {name}": os.path.join(options.data_dir, name) for name in options.synthetic}


def _check_places(options, read):
    """Check where a training writes, apart from the folders `read`, and its run -> the run to go on with, or None.

    Raises UserError.
    """
    resumed = runs.find_run(options.log_dir, options.load_path) if options.load_path else None
    if resumed:
        runs.check_options(resumed, differences_in(STRUCTURAL, options, {**FORMERLY, **runs.load_params(resumed)}))
        runs.warn_of_start(resumed)
        if runs.list_checkpoints(resumed):
            checkpoint_index.read_shapes(runs.list_checkpoints(resumed), f"--load_path {resumed}")
    outputs.check_apart("--log_dir", options.log_dir, read, holding=False)
    if not resumed:
        check_without_photos("--log_dir", options.log_dir)
    if not options.worker:              # another worker than 0 writes nothing
        runs.check_run_writable(options.log_dir, resumed)
    runs.check_name(f"--task {options.task or ''}")
    if options.lfw_dir:
        data_folder("--lfw_dir", "", options.lfw_dir)
    return resumed


def _is_done(options, resumed, faces, table):
    """Tell whether the run `resumed` has done all its steps; say so then, but for a dry run.

    Raises UserError where the run was begun with other people than the labelled_data.Faces.
    """
    runs.check_run_identities(resumed, _identities_of(faces), all_known=False)
    epochs, epoch_size = length_of(options, faces, table)
    if runs.step_of(newest_whole(resumed) or "") < epochs * epoch_size or options.dry_run:
        return False
    endings.tell_done(epochs * epoch_size, "max_nrof_epochs")
    endings.tell_classifier(resumed)
    return True


def _identities_of(faces):
    """The identities of labelled_data.Faces, as identities.json holds them."""
    return {"real": faces.real.identities if faces.real else [],
            "synthetic": faces.synthetic.identities if faces.synthetic else []}


def find_pairs(options, names, choice):
    """Find the verification.FacePairs of a folder: those of a file of pairs, or else some chosen at random.

    `names` are the options that name the folder and the file, without dashes. `choice` is a verification.PairChoice.
    Raises UserError, which begins with the option that is wrong.
    """
    folder_option, file_option = names
    folder = data_folder(f"--{folder_option}", "", getattr(options, folder_option))
    file_name = getattr(options, file_option)
    if file_name:
        return verification.read_pairs(file_name, folder, f"--{file_option}", choice.folds)
    faces = check_images(find_renderings(folder), options.input_scale_size, options.num_worker)
    return verification.choose_pairs(faces, choice)


# Verification

def verify(options):
    """Verify a classifier, print a table of how good it is, and write the numbers and plots to --output.

    What can be checked without TensorFlow is checked before its import, which takes seconds. The weights are read once.
    Raises UserError.
    """
    names = standard_sets.names_of(options.bin)
    written = [*WRITTEN, *(file for name in names or [""] if options.pyeer for file in pyeer.files_of(name))]
    _check_verification(options, written)
    sets = {name: standard_sets.read(path) for name, path in names.items()}
    choice = verification.PairChoice(options.nrof_folds, options.pairs_per_fold, options.seed)
    pairs = find_pairs(options, ("images", "pairs"), choice) if options.pairs else None
    start()
    from recognition import embedder, pretrained

    weights = _as_asked(options, pretrained.read(options.weights, "--weights"))
    if sets:
        found = outcome.of_sets(sets, embedder.features_of_sets(options, weights, sets), options)
    else:
        pairs = pairs or find_pairs(options, ("images", "pairs"), choice)
        faces = alignment.find_faces(pairs.root, pairs.names, weights.native) if options.landmarks else {}
        if weights.native in alignment.TARGETS:
            logging.info("%s: %d images are placed by landmarks, %d by the classifier's window", options.images,
                         len(faces), len(pairs.names) - len(faces))
        found = outcome.of_pairs(pairs, embedder.embed_pairs(options, weights, pairs, faces), options)
        found.report["placed_by_landmarks"] = len(faces)
    print(found.table)
    for doubt in found.doubts:
        logging.warning("%s", doubt)
    _write_verification(options, weights.architecture, found, written)


def _check_verification(options, written):
    """Check what `verify` reads and where it writes the files `written`, and warn, before TensorFlow is imported.

    Raises UserError.
    """
    if options.images:
        data_folder("--images", "", options.images)
    places.check_files({f"--pairs {options.pairs}": options.pairs, **{f"--bin {path}": path for path in options.bin}})
    outputs.check_apart("--output", options.output, {"--images": options.images})
    check_outside("--output", options.output)
    outputs.check_begun(options.output, WRITTEN[:1])
    verification.check_results(os.path.join(options.output, WRITTEN[0]), options)
    places.check_written(f"--output {options.output}", [os.path.join(options.output, name) for name in written])
    weight_files.check_packaged("--weights", options.weights)
    files = runs.list_weights(options.weights)
    if not files:
        raise UserError(f"--weights {options.weights}: {weight_files.describe(options.weights)}no weights there that "
                        "can be read; give a run of recognizer.py train, FaceNet's weights, or what recognizer.py "
                        "convert makes of others")
    shapes = dlib_file.read_shapes(files, "--weights", options.weights)
    if shapes is not None:
        network = registry.architecture_in(shapes)
        _check_network(options, network)
        footprint.check(footprint.of_verification(options, network), footprint.uses_gpu(options))
    if options.images:
        known_people.warn_of_known_people(options.weights, options.images)


def _as_asked(options, weights):
    """Fill in from a pretrained.Weights what the options of `verify` leave open -> the Weights, with what they ask for.

    Raises UserError where the network can't take what the options ask it to see.
    """
    network = weights.architecture
    _check_network(options, network)
    options.image_size = options.image_size or registry.usual_size(network)
    window = input_size.window_for(weights.native, options.crop)
    options.input_scale_size = options.input_scale_size or input_size.crop_for(options.image_size, window)
    if options.standardization != "auto":
        weights = weights._replace(standardization=options.standardization)
    options.standardization = weights.standardization
    return weights


def _write_verification(options, network, found, written):
    """Write an outcome.Outcome of a registry.Architecture to --output: the files `written`, as far as they can be."""
    os.makedirs(options.output, exist_ok=True)
    more = {"command": "verify", "model_def": network.model_def, "embedding_size": network.embedding_size}
    utils.save_json({"options": vars(options) | more, "paths": verification.paths_of(options), **found.report,
                     "results": {name: result.row() for name, result in found.results.items()}},
                    os.path.join(options.output, WRITTEN[0]))
    for name in (found.results if options.bin else ["classifier"]) if options.pyeer else ():
        pyeer.write(options.output, found.results[name].distances, found.same[name], options.distance_metric,
                    name if options.bin else "")
    drawn = _draw_verification(found.results, found.same, options.output)
    logging.info("%s: %s", options.output, ", ".join(name for name in written if drawn or name not in WRITTEN[1:]))


def _draw_verification(results, same, folder):
    """Draw roc.png and distances.png of {name: verification.Verification} into `folder`. Tells whether it could.

    `same` {name: bool [pairs]} tells which pairs are of one person. Without matplotlib, a warning says what is missing.
    """
    if not charts.available():
        there = [name for name in WRITTEN[1:] if os.path.exists(os.path.join(folder, name))]
        logging.warning("no pictures of this verification: %s%s", charts.MISSING,
                        f"; {' and '.join(there)} there are of an earlier one" if there else "")
        return False
    labels = {name: f"{name}: AUC {result.auc:.3f}, EER {result.eer:.3f}" for name, result in results.items()}
    save_picture(charts.as_pixels(functools.partial(charts.draw_roc, labels=labels, curves={
        name: result.roc for name, result in results.items()})), os.path.join(folder, WRITTEN[1]))
    save_picture(np.concatenate([charts.as_pixels(functools.partial(
        charts.draw_histograms, label=f"distance, {name}",
        groups={"same person": result.distances[same[name]], "different people": result.distances[~same[name]]},
        thresholds={f"threshold {result.threshold:.3g}, accuracy {result.accuracy:.3f}": result.threshold}))
        for name, result in results.items()], axis=1), os.path.join(folder, WRITTEN[2]))
    return True


def _check_network(options, network):
    """Raise UserError where the Architecture of --weights is None, or can't take what the options ask it to see."""
    if not network:
        *known, last = [name for name, facts in registry.CLASSIFIERS.items() if not facts.frozen]
        raise UserError(f"--weights {options.weights}: neither {', '.join(known)} nor {last} is in it; give a run of "
                        "recognizer.py train, FaceNet's weights, or the word dlib")
    size = options.image_size
    for problem in (size and registry.image_size_problem(network.model_def, size),
                    size and registry.cells_problem(network, size),
                    registry.standardization_problem(network.model_def, options.standardization)):
        if problem:
            raise UserError(problem)


# Conversion

def convert(options):
    """Convert published weights to a checkpoint, and print its prefix.

    Raises UserError where --input holds no such weights, and where --output can't be written or has checkpoints.
    """
    from recognition.conversion import published

    runs.check_name(f"--output {options.output}")
    outputs.check_folder(options.output)
    if runs.list_checkpoints(options.output):
        raise UserError(f"--output {options.output}: there are checkpoints already; name another folder")
    check_outside("--output", options.output)
    outputs.check_begun(options.output)
    places.check_files({f"--input {options.input}": options.input})
    weights = published.read(options.input, options.channels)           # before TensorFlow is imported
    network = weights.architecture
    logging.info("%s: --model_def %s --embedding_size %d --image_size %d", options.input, network.model_def,
                 network.embedding_size, weights.image_size)
    start()
    from recognition import pretrained

    prefix = pretrained.write_converted(weights, options.output)
    print(f"converted: {utils.one_line(prefix)}")


if __name__ == "__main__":
    sys.exit(program.run("recognizer.py", main, sys.argv[1:]))
