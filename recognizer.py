"""The identity classifier: train it, verify it on pairs of faces, convert published weights.

    python recognizer.py train --real FOLDER [--synthetic FOLDER ...]
    python recognizer.py verify --weights RUN --images FOLDER [--pairs pairs.txt]
    python recognizer.py convert --input facenet-pytorch.pt --output FOLDER

`python recognizer.py COMMAND --help` lists the options.
"""
if __name__ == "__main__":
    from cli import interrupts
    interrupts.leave_on_signals("recognizer.py")      # before the imports below, which take a while

import functools
import logging
import os
import sys

import footprint
import utils
from cli import cautions, outputs, places, program
from cli.options import boolean, changed_options, checked, choose, Command, number, one_of, parse, path, text, whole
from config import differences_in, model, safety_options
from datasets.image_sets import check_images, data_folder, find_renderings
from datasets.images import save_picture
from datasets.neighbours import check_outside, check_without_photos
from engine import checkpoint_index, endings, runs, weight_files
from engine.startup import start
from preflight import newest_whole
from recognition import known_people, labelled_data, plots, registry, verification
from recognition.schedule import length_of, read_schedule
from utils import UserError

# Options that decide which variables a checkpoint holds, or what they mean: a resumed run must keep them.
STRUCTURAL = ("model_def", "embedding_size", "image_size", "input_scale_size", "optimizer", "standardization")
# Options that tell what to do now and where: a run does not remember them.
OF_THE_MOMENT = {"preset", "dry_run", "load_path", "log_dir", "task", "num_worker", "use_gpu"}
WRITTEN = "verification.json", "roc.png", "distances.png"            # by `verify`
# Options of `verify` that a run of `train` remembers.
_VERIFIED_AS_TRAINED = ("image_size", "input_scale_size")

_pixels = whole(32, 1024, " of pixels")
_rate_or_file = checked("X", float, lambda rate: 0 < rate < float("inf") or rate == -1, "a number above 0, or -1")
_metric = checked("{0,1}", int, (0, 1).__contains__, "0 (Euclidean) or 1 (cosine)")


# Options

def _data_options(add):
    add("data_dir", text, "data", "folder that holds the data sets")
    add("real", path, "", "photos: a folder in data_dir with one sub-folder per person")
    add("lambda_synthetic", number(above=0), 1., "weight of the synthetic images' losses")
    add("score_weights", one_of(("none", "original", "calibrated")), "none", "weight of a synthetic image by its "
        "c_score: original, 0.5 exp(-c_score / 4); calibrated, by its rank in the set, from 2 (best) to 0, 1 on "
        "average")
    add("synthetic", text, [], "folders in data_dir that main.py synthesized, whose identities get a head of their own",
        values="+")
    add("input_scale_size", _pixels, None, "side in pixels at which crops are read", "image_size * 108 / 96")
    add("batch_size", whole(1, 65536), 90, "real images in a step, and as many synthetic ones")
    add("num_worker", whole(1, 1024), 4, "threads that read and decode images")
    add("filter_filename", path, "", "HDF5 file with the distances of real images to the centres of their classes")
    add("filter_percentile", number(above=0, most=100), 100.,
        "with it, drop images whose distance lies above this percentile")
    add("filter_min_nrof_images_per_class", whole(0), 0, "drop people with fewer real images")


def _network_options(add):
    add("model_def", model, "inception_resnet_v1", "network, with or without a leading models.")
    add("embedding_size", whole(1, 65536), 128, "length of the embedding")
    add("image_size", _pixels, 96, f"side in pixels of the network's input: {registry.SIZES}")
    add("standardization", one_of(("image", "fixed")), "image",
        "what the network sees: image, each image with mean 0 and deviation 1; fixed, (v - 127.5) / 128")
    add("keep_probability", number(above=0, most=1), 1.,
        "keep probability of the dropout before the bottleneck (1: none)")


def _training_options(add):
    add("max_nrof_epochs", whole(1), 100, "epochs to train")
    add("epoch_size", whole(0), 0,
        "steps in an epoch; 0: one pass through the real images, or else the synthetic ones")
    add("learning_rate", _rate_or_file, .05, "learning rate; -1: from learning_rate_schedule_file")
    add("learning_rate_decay_epochs", whole(1), 100, "epochs after which the learning rate is multiplied by a factor")
    add("learning_rate_decay_factor", number(above=0), 1., "that factor")
    add("learning_rate_schedule_file", path, "", "file with a line `EPOCH: RATE` for each change, epochs counted from "
        "1; rate -1 ends the training; # begins a comment")
    add("optimizer", one_of(("adagrad", "adadelta", "adam", "rmsprop", "mom")), "adam",
        "update rule, with FaceNet's settings: adam has an epsilon of 0.1, hence the large learning rate")
    add("weight_decay", number(0), 5e-4, "L2 weight decay of convolutions and dense layers")
    add("center_loss_factor", number(0), 0., "weight of the center loss")
    add("center_loss_alfa", number(0, 1), .95, "share of itself that a center keeps in a step (1: centers never move)")
    add("moving_average_decay", number(0, below=1), .9999,
        "decay of the weights' moving averages, which are what is verified and used")
    add("random_crop", boolean, True, "move each image's crop at random")
    add("random_flip", boolean, True, "mirror images at random")
    add("random_rotate", boolean, False, "turn images at random by up to 10 degrees")
    add("seed", whole(0, 2 ** 31 - 1), 123, "seed of weights, data order, crops, flips, rotations and dropout")
    add("use_gpu", boolean, True, "use a GPU where there is one")


def _validation_options(add):
    add("lfw_dir", path, "", "folder of other people, such as LFW, to verify on during training")
    add("lfw_pairs", path, "", "file of its pairs in the format of LFW's pairs.txt", "pairs chosen at random")
    add("lfw_nrof_folds", whole(2, 10_000), 10, "folds, unless lfw_pairs says how many")
    add("lfw_batch_size", whole(1, 65536), 32, "images to embed at a time")
    add("lfw_distance_metric", _metric, 0, "0: squared Euclidean distance, 1: angle")
    add("lfw_use_flipped_images", boolean, False, "append the embedding of the mirrored image")
    add("lfw_subtract_mean", boolean, False, "take distances from the mean of the other folds' embeddings")
    add("validate_every_n_epochs", whole(1), 1, "epochs between two checkpoints, each of which is verified")


def _mode_options(add):
    add("dry_run", boolean, False, "check everything, print the options that differ from the defaults, the data found "
        "and the network, and stop")
    add("load_path", path, "", "run to go on with: its folder, or its name in log_dir")


def _logging_options(add):
    add("log_dir", text, "recognizers", "folder of the runs")
    add("task", outputs.task, None, "first part of the run folder's name", "the git branch, master without git")
    add("log_step", whole(1), 50, "steps between two log lines and TensorBoard summaries")
    add("keep_every", whole(0), 0,
        "keep for good the checkpoints at multiples of this step, besides the last 2; 0: keep no others")
    safety_options(add)


def _verify_options(add):
    add("weights", text, None, "classifier: a run of train, a checkpoint, a frozen graph (.pb), or a folder with one",
        needed=True)
    add("images", text, None, "folder with one sub-folder of images per person", needed=True)
    add("output", text, "verification", "folder for verification.json, roc.png and distances.png")
    add("pairs", path, "", "file of pairs in the format of LFW's pairs.txt", "pairs chosen at random")
    add("nrof_folds", whole(2, 10_000), 10, "folds, unless pairs says how many")
    add("pairs_per_fold", whole(1, 10_000), 300, "most pairs of the same, and of different people to choose for a fold")
    add("seed", whole(0, 2 ** 31 - 1), 0, "seed of the choice of pairs, and of the random network of baselines")
    add("distance_metric", _metric, 0, "0: squared Euclidean distance, 1: angle")
    add("use_flipped_images", boolean, False, "append the embedding of the mirrored image")
    add("subtract_mean", boolean, False, "take distances from the mean of the other folds' embeddings")
    add("baselines", boolean, False, "add bare pixels, and the same network with random weights")
    add("image_size", _pixels, None, "side in pixels of the network's input", "the run's; else 160, 96 for nn4")
    add("input_scale_size", _pixels, None, "side in pixels at which crops are read",
        "the run's; else image_size * 108 / 96")
    add("standardization", one_of(("auto", "image", "fixed")), "auto", "what the network sees: image, each image with "
        "mean 0 and deviation 1; fixed, (v - 127.5) / 128; auto, as its weights say")
    add("batch_size", whole(1, 65536), 32, "images to embed at a time")
    add("num_worker", whole(1, 1024), 4, "threads that read and decode images")
    add("use_gpu", boolean, True, "use a GPU where there is one")


def _convert_options(add):
    add("input", text, None, "state dict of facenet-pytorch's InceptionResnetV1: a file of torch.save, or .npz",
        needed=True)
    add("output", text, None, "folder for the checkpoint, under FaceNet's names", needed=True)


# Reading the command line

def _resolve(options, error):
    """Fill in what follows from other options of `train`.

    Calls `error` with one line where options contradict each other.
    """
    options.input_scale_size = options.input_scale_size or registry.crop_for(options.image_size)
    if not (options.real or options.synthetic):
        error("--real: give a folder of photos, or --synthetic ones")
    if (options.learning_rate == -1) != bool(options.learning_rate_schedule_file):
        error("--learning_rate -1 and --learning_rate_schedule_file FILE: give both, or neither")
    for given, needed in (("filter_filename", "real"), ("lfw_pairs", "lfw_dir")):
        if getattr(options, given) and not getattr(options, needed):
            error(f"--{given}: needs --{needed}")
    if not options.synthetic and (options.score_weights != "none" or options.lambda_synthetic != 1):
        error("--score_weights, --lambda_synthetic: need --synthetic")
    if bool(options.filter_filename) != (options.filter_percentile < 100):
        error("--filter_filename and --filter_percentile below 100: give both, or neither")
    problem = registry.image_size_problem(options.model_def, options.image_size)
    if problem:
        error(problem)


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
    return [(folder, {name: value for name, value in saved.items() if name not in OF_THE_MOMENT})]


def _verified_run(options):
    """Find the run that `verify --weights` names -> [(run, {option: value})], empty where there is none.

    Raises UserError for a params.json that can't be read.
    """
    if not options.weights or not runs.list_weights(options.weights):
        return []
    folder = runs.folder_of(options.weights)
    saved = runs.load_params(folder)
    if "conv_hidden_num" in saved:              # of main.py: its sizes are not those of a classifier
        return []
    if os.path.isfile(os.path.join(folder, runs.STATS)):        # a run, and not weights that somebody published
        runs.warn_without_options(folder, saved)
    return [(options.weights, {name: saved[name] for name in _VERIFIED_AS_TRAINED if name in saved})]


COMMANDS = [
    Command("recognizer.py", "train", "Train a classifier of people.",
            ("recognizer.py train --preset cpu",),
            {"Data": _data_options, "Network": _network_options, "Mode": _mode_options, "Training": _training_options,
             "Validation": _validation_options, "Logging": _logging_options},
            _resolve, _run_to_go_on_with, presets=True),
    Command("recognizer.py", "verify", "Tell how well a classifier recognises people whom it has not seen.",
            ("recognizer.py verify --weights recognizers/RUN --images data/syn --baselines",),
            {"Verification": _verify_options}, remembered=_verified_run),
    Command("recognizer.py", "convert", "Convert weights of facenet-pytorch to a checkpoint.",
            ("recognizer.py convert --input 20180402-114759-vggface2.pt --output vggface2",),
            {"Conversion": _convert_options})]


def main(words):
    """Run the command that the `words` of a command line ask for."""
    command, words = choose(COMMANDS, words)
    parsed = parse(command, words)
    for note in parsed.notes:
        logging.info("%s", note)
    cautions.warn_of_unused({"train": cautions.TRAIN, "verify": cautions.VERIFY}.get(command.name, ()), parsed.options,
                            parsed.typed)
    {"train": train, "verify": verify, "convert": convert}[command.name](parsed.options)


# Training

def train(options):
    """Train a classifier, or with --dry_run tell what would be trained.

    Everything is checked before TensorFlow is imported, because the import takes seconds. Raises UserError, and what
    `ClassifierTrainer.train` raises.
    """
    places.check_files({f"--{name} {getattr(options, name)}": getattr(options, name)
                        for name in ("learning_rate_schedule_file", "filter_filename", "lfw_pairs")})
    table = read_schedule(options.learning_rate_schedule_file) if options.learning_rate == -1 else \
        [(0, options.learning_rate)]
    resumed = runs.find_run(options.log_dir, options.load_path) if options.load_path else None
    if resumed:
        runs.check_options(resumed, differences_in(STRUCTURAL, options, runs.load_params(resumed)))
        runs.warn_of_start(resumed)
        if runs.list_checkpoints(resumed):
            checkpoint_index.read_shapes(runs.list_checkpoints(resumed), f"--load_path {resumed}")
    read = {"--real": options.real and os.path.join(options.data_dir, options.real), "--lfw_dir": options.lfw_dir}
    read |= {f"--synthetic {name}": os.path.join(options.data_dir, name) for name in options.synthetic}
    outputs.check_apart("--log_dir", options.log_dir, read, holding=False)
    if not resumed:
        check_without_photos("--log_dir", options.log_dir)
    runs.check_run_writable(options.log_dir, resumed)
    runs.check_name(f"--task {options.task or ''}")
    if options.lfw_dir:
        data_folder("--lfw_dir", "", options.lfw_dir)
    faces = labelled_data.find(options)
    if resumed:
        runs.check_run_identities(resumed, _identities_of(faces), all_known=False)
        epochs, epoch_size = length_of(options, faces, table)
        if runs.step_of(newest_whole(resumed) or "") >= epochs * epoch_size and not options.dry_run:
            endings.tell_done(epochs * epoch_size, "max_nrof_epochs")
            endings.tell_classifier(resumed)
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
    start()
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
    trainer = ClassifierTrainer(options, faces, schedule, pairs)
    try:
        run = trainer.train(runs.Run(options, identities, "rec", resumed), epochs, epoch_size)
    finally:
        trainer.close()
    print(f"trained: {utils.one_line(run.folder)}")
    endings.tell_classifier(run.folder)


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
    data_folder("--images", "", options.images)
    places.check_files({f"--pairs {options.pairs}": options.pairs})
    outputs.check_apart("--output", options.output, {"--images": options.images})
    check_outside("--output", options.output)
    outputs.check_begun(options.output, ["verification.json"])
    verification.check_results(os.path.join(options.output, WRITTEN[0]), options)
    places.check_written(f"--output {options.output}", [os.path.join(options.output, name) for name in WRITTEN])
    files = runs.list_weights(options.weights)
    if not files:
        raise UserError(f"--weights {options.weights}: {weight_files.describe(options.weights)}no weights there that "
                        "can be read; give a run of recognizer.py train, or FaceNet's weights")
    shapes = checkpoint_index.read_shapes(files, f"--weights {options.weights}")
    if shapes is not None:
        _check_network(options, *registry.recognise(shapes))
        footprint.check(footprint.of_verification(options, *registry.recognise(shapes)), footprint.uses_gpu(options))
    known_people.warn_of_known_people(options.weights, options.images)
    choice = verification.PairChoice(options.nrof_folds, options.pairs_per_fold, options.seed)
    pairs = find_pairs(options, ("images", "pairs"), choice) if options.pairs else None
    start()
    from recognition import pretrained

    weights = pretrained.read(options.weights, "--weights")
    model_def, embedding_size, _ = weights.architecture or (None, None, None)
    _check_network(options, model_def, embedding_size)
    options.image_size = options.image_size or registry.CLASSIFIERS[model_def].usual
    options.input_scale_size = options.input_scale_size or registry.crop_for(options.image_size)
    options.standardization = weights.standardization if options.standardization == "auto" else options.standardization
    pairs = pairs or find_pairs(options, ("images", "pairs"), choice)
    found = embeddings_of(options, weights, pairs)
    pairs = verification.with_embeddings(pairs, found["classifier"])
    results = {name: verification.verify(embeddings, pairs, options.distance_metric, options.subtract_mean)
               for name, embeddings in found.items()}
    print(_table_of(results, pairs))
    doubt = verification.doubt(results["classifier"].accuracy, len(pairs.same))
    if doubt:
        logging.warning("%s", doubt)
    os.makedirs(options.output, exist_ok=True)
    more = {"command": "verify", "model_def": model_def, "embedding_size": embedding_size}
    utils.save_json({"options": vars(options) | more, "paths": verification.paths_of(options),
                     "people": len({name.split("/")[0] for name in pairs.names}),
                     "pairs": len(pairs.same), "folds": len(set(pairs.fold.tolist())),
                     "results": {name: result.row() for name, result in results.items()}},
                    os.path.join(options.output, "verification.json"))
    save_picture(plots.plot_roc(results), os.path.join(options.output, "roc.png"))
    save_picture(plots.plot_histograms(results, pairs.same), os.path.join(options.output, "distances.png"))
    logging.info("%s: verification.json, roc.png, distances.png", options.output)


def _check_network(options, model_def, embedding_size):
    """Raise UserError where --weights hold no known network, or one that can't take images of --image_size."""
    if not (model_def and embedding_size):
        *known, last = registry.CLASSIFIERS
        raise UserError(f"--weights {options.weights}: neither {', '.join(known)} nor {last} is in it; give a run of "
                        "recognizer.py train, or FaceNet's weights")
    problem = options.image_size and registry.image_size_problem(model_def, options.image_size)
    if problem:
        raise UserError(problem)


def embeddings_of(options, weights, pairs):
    """Embed the images of FacePairs with a pretrained.Weights -> {name: embeddings [n, E]}.

    The names are "classifier" and, with --baselines, "random network" and "bare pixels". The embedding of an image that
    can't be decoded is nan.
    """
    import tensorflow as tf

    from engine import checkpoints
    from engine.session import session_options
    from recognition import embedder, pretrained

    tf1 = tf.compat.v1
    recipe = embedder.Recipe(options.input_scale_size, options.image_size, options.standardization,
                             weights.architecture, options.use_flipped_images)
    with tf.Graph().as_default(), tf1.Session(config=session_options(options.use_gpu)) as session:
        tf1.set_random_seed(options.seed)
        network = embedder.Embedder(recipe, options.batch_size)
        variables, at_random = tf1.global_variables(), tf1.global_variables_initializer()
        checkpoints.assign(session, variables, pretrained.values_for(weights, variables, "--weights"), weights.source)
        found = {"classifier": network.embed_all(session, pairs.root, pairs.names, options.num_worker)}
        if options.baselines:
            session.run(at_random)
            found["random network"] = network.embed_all(session, pairs.root, pairs.names, options.num_worker)
            bare = embedder.Embedder(recipe, options.batch_size, embedder.bare_pixels)
            found["bare pixels"] = bare.embed_all(session, pairs.root, pairs.names, options.num_worker)
    return found


def _table_of(results, pairs):
    """Write {name: Verification} of FacePairs as a table: two lines of heading, then a line for each."""
    lines = [f"{len(pairs.same)} pairs, {len(set(pairs.fold.tolist()))} folds",
             f"{'':16} accuracy            AUC    EER   TAR@FAR 1e-2   1e-3"]
    for name, result in results.items():
        lines.append(f"{name:16} {result.accuracy:.4f} +- {result.accuracy_std:.4f}  {result.auc:.4f} {result.eer:.4f}"
                     f"         {result.tar[1e-2]:.4f} {result.tar[1e-3]:.4f}")
    return "\n".join(lines)


# Conversion

def convert(options):
    """Convert facenet-pytorch's weights to a checkpoint under FaceNet's names, and print its prefix.

    Raises UserError where --input holds no such weights, and where --output can't be written or has checkpoints.
    """
    from recognition import torch_weights

    runs.check_name(f"--output {options.output}")
    outputs.check_folder(options.output)
    if runs.list_checkpoints(options.output):
        raise UserError(f"--output {options.output}: there are checkpoints already; name another folder")
    check_outside("--output", options.output)
    outputs.check_begun(options.output)
    places.check_files({f"--input {options.input}": options.input})
    state = torch_weights.read(options.input)
    torch_weights.check_network(state, options.input)       # before TensorFlow is imported
    start()
    from recognition import pretrained

    prefix = pretrained.write_converted(state, options.output)
    print(f"converted: {utils.one_line(prefix)}")


if __name__ == "__main__":
    sys.exit(program.run("recognizer.py", main, sys.argv[1:]))
