"""The identity classifier: train it, verify it on pairs of faces, convert published weights: `recognizer.py COMMAND --help`.

    python recognizer.py train --real FOLDER [--synthetic FOLDER ...]
    python recognizer.py verify --weights RUN --images FOLDER [--pairs pairs.txt]
    python recognizer.py convert --input facenet-pytorch.pt --output FOLDER
"""
import functools
import logging
import os
import sys

import utils
from cli import outputs, program
from cli.options import (
    above_0,
    add_option,
    boolean,
    checked,
    count,
    count_or_0,
    decay,
    keep,
    not_below_0,
    one_of,
    Parser,
    path,
    pixels,
    seed,
    share,
    text,
)
from config import differences_in, model
from datasets.image_sets import check_images, data_folder, find_renderings
from datasets.images import save_image
from engine import runs
from recognition import labelled_data, plots, verification
from recognition.input_size import image_size_problem
from utils import UserError

USAGE = """recognizer.py train --real FOLDER [--synthetic FOLDER ...] [options]    train a classifier
       recognizer.py verify --weights WEIGHTS --images FOLDER [options]       tell how good one is
       recognizer.py convert --input FILE --output FOLDER                     take over weights of facenet-pytorch"""
# What a resumed run must keep.
STRUCTURAL = ("model_def", "embedding_size", "image_size", "input_scale_size", "optimizer", "standardization")

rate_or_file = checked("X", float, lambda x: 0 < x < float("inf") or x == -1, "a number above 0, or -1")
percentile = checked("X", float, lambda x: 0 < x <= 100, "a number above 0, up to 100")
two_or_more = checked("N", int, lambda n: n >= 2, "a whole number, 2 or more")
metric = checked("{0,1}", int, (0, 1).__contains__, "0 (Euclidean) or 1 (cosine)")
side = checked("N", int, lambda n: n >= 32, "a whole number of pixels, 32 or more")
image_or_fixed = one_of(("image", "fixed"))


# Options

def data_options(add):
    add("data_dir", text, "data", "folder that holds the data sets")
    add("real", path, "", "photos: a folder in data_dir with one sub-folder per person")
    add("lambda_synthetic", above_0, 1., "weight of the synthetic images' losses")
    add("score_weights", one_of(("none", "original", "calibrated")), "none", "weight of a synthetic image by its c_score: "
        "original, 0.5 exp(-c_score / 4); calibrated, by its rank in the set, from 2 (best) to 0, 1 on average")
    add("input_scale_size", side, None, "side in pixels at which crops are read", "image_size * 108 / 96")
    add("batch_size", count, 90, "real images in a step, and as many synthetic ones")
    add("num_worker", count, 4, "threads that read and decode images")
    add("filter_filename", path, "", "HDF5 file with the distances of real images to the centres of their classes")
    add("filter_percentile", percentile, 100., "with it, drop images whose distance lies above this percentile")
    add("filter_min_nrof_images_per_class", count_or_0, 0, "drop people with fewer real images")


def network_options(add):
    add("model_def", model, "inception_resnet_v1", "network, with or without a leading models.")
    add("embedding_size", count, 128, "length of the embedding")
    add("image_size", pixels, 96, "side in pixels of the network's input: 65 to 96 for nn4, from 75 up for "
        "inception_resnet_v1, from 32 up for small")
    add("standardization", image_or_fixed, "image",
        "what the network sees: image, each image with mean 0 and deviation 1; fixed, (v - 127.5) / 128")
    add("keep_probability", keep, 1., "keep probability of the dropout before the bottleneck (1: none)")


def training_options(add):
    add("max_nrof_epochs", count, 100, "epochs to train")
    add("epoch_size", count_or_0, 0, "steps in an epoch; 0: one pass through the real images, or else the synthetic ones")
    add("learning_rate", rate_or_file, .05, "learning rate; -1: from learning_rate_schedule_file")
    add("learning_rate_decay_epochs", count, 100, "epochs after which the learning rate is multiplied by a factor")
    add("learning_rate_decay_factor", above_0, 1., "that factor")
    add("learning_rate_schedule_file", path, "", "file with a line `EPOCH: RATE` for each change, epochs counted from 1; "
        "rate -1 ends the training; # begins a comment")
    add("optimizer", one_of(("adagrad", "adadelta", "adam", "rmsprop", "mom")), "adam",
        "update rule, with FaceNet's settings: adam has an epsilon of 0.1, hence the large learning rate")
    add("weight_decay", not_below_0, 5e-4, "L2 weight decay of convolutions and dense layers")
    add("center_loss_factor", not_below_0, 0., "weight of the center loss")
    add("center_loss_alfa", share, .95, "share of itself that a center keeps in a step (1: centers never move)")
    add("moving_average_decay", decay, .9999, "decay of the weights' moving averages, which are what is verified and used")
    add("random_crop", boolean, True, "move each image's crop at random")
    add("random_flip", boolean, True, "mirror images at random")
    add("random_rotate", boolean, False, "turn images at random by up to 10 degrees")
    add("seed", seed, 123, "seed of weights, data order, crops, flips, rotations and dropout")
    add("use_gpu", boolean, True, "use a GPU where there is one")


def validation_options(add):
    add("lfw_dir", path, "", "folder of other people, such as LFW, to verify on during training")
    add("lfw_pairs", path, "", "file of its pairs in the format of LFW's pairs.txt", "pairs drawn at random")
    add("lfw_nrof_folds", two_or_more, 10, "folds, unless lfw_pairs says how many")
    add("lfw_batch_size", count, 32, "images to embed at a time")
    add("lfw_distance_metric", metric, 0, "0: squared Euclidean distance, 1: angle")
    add("lfw_use_flipped_images", boolean, False, "append the embedding of the mirrored image")
    add("lfw_subtract_mean", boolean, False, "take distances from the mean of the other folds' embeddings")
    add("validate_every_n_epochs", count, 1, "epochs between two checkpoints, each of which is verified")


def logging_options(add):
    add("log_dir", text, "recognizers", "folder of the runs")
    add("task", text, None, "first part of the run folder's name", "the git branch, master without git")
    add("load_path", path, "", "run to go on with: its folder, or its name in log_dir")
    add("log_step", count, 50, "steps between two log lines and TensorBoard summaries")
    add("keep_every", count_or_0, 0,
        "keep for good the checkpoints at multiples of this step, besides the last 2; 0: keep no others")


def verify_options(add):
    add("weights", text, None, "classifier: a run of train, a checkpoint, a frozen graph (.pb), or a folder with one")
    add("images", text, None, "folder with one sub-folder of images per person")
    add("output", text, "verification", "folder for verification.json, roc.png and distances.png")
    add("pairs", path, "", "file of pairs in the format of LFW's pairs.txt", "pairs drawn at random")
    add("nrof_folds", two_or_more, 10, "folds, unless pairs says how many")
    add("pairs_per_fold", count, 300, "most pairs of the same, and of different people to draw for a fold")
    add("seed", seed, 0, "seed of the drawn pairs, and of the random network of baselines")
    add("distance_metric", metric, 0, "0: squared Euclidean distance, 1: angle")
    add("use_flipped_images", boolean, False, "append the embedding of the mirrored image")
    add("subtract_mean", boolean, False, "take distances from the mean of the other folds' embeddings")
    add("baselines", boolean, False, "add bare pixels, and the same network with random weights")
    add("image_size", pixels, None, "side in pixels of the network's input", "the run's; else 160, 96 for nn4")
    add("input_scale_size", side, None, "side in pixels at which crops are read", "the run's; else image_size * 108 / 96")
    add("standardization", one_of(("auto", "image", "fixed")), "auto", "what the network sees: image, each image with mean "
        "0 and deviation 1; fixed, (v - 127.5) / 128; auto, as its weights say")
    add("batch_size", count, 32, "images to embed at a time")
    add("num_worker", count, 4, "threads that read and decode images")
    add("use_gpu", boolean, True, "use a GPU where there is one")


def convert_options(add):
    add("input", text, None, "state dict of facenet-pytorch's InceptionResnetV1: a file of torch.save, or .npz")
    add("output", text, None, "folder for the checkpoint, under FaceNet's names")


GROUPS = {"train": {"Data": data_options, "Network": network_options, "Training": training_options,
                    "Validation": validation_options, "Logging": logging_options},
          "verify": {"Verification": verify_options}, "convert": {"Conversion": convert_options}}
REQUIRED = {"train": (), "verify": ("weights", "images"), "convert": ("input", "output")}


def get_options(arguments):
    """The options of a command line, as a namespace of plain values; `command` says what to do. A mistake ends with
    status 2 and one line."""
    command = arguments[0] if arguments[:1] and arguments[0] in GROUPS else None
    parser = Parser("recognizer.py" + (f" {command}" if command else ""), USAGE)
    for title, add_options in GROUPS.get(command, {}).items():
        group = parser.add_argument_group(title)
        add_options(functools.partial(add_option, group, needed=REQUIRED[command]))
        if title == "Data":
            group.add_argument("--synthetic", nargs="+", type=text, default=[], metavar="FOLDER",
                               help="folders in data_dir that main.py synthesized, whose identities get a head of their own")
    if not command and arguments and not arguments[0].startswith("-"):
        parser.error(f"{arguments[0]}: no such command; give one of {', '.join(GROUPS)}")
    options = parser.parse_args(arguments[1:] if command else arguments)
    if not command:
        parser.error(f"give a command: {', '.join(GROUPS)}; --help tells more")
    options.command = command
    for name in REQUIRED[command]:
        if not getattr(options, name):
            parser.error(f"--{name}: needed by {command}")
    if command == "train":
        resolve(options, parser.error)
    return options


def resolve(options, error):
    """Fill in what follows from other options of `train`; call `error` with one line where they contradict each other."""
    o = options
    o.input_scale_size = o.input_scale_size or round(o.image_size * 108 / 96)
    if not (o.real or o.synthetic):
        error("--real: give a folder of photos, or --synthetic ones")
    if (o.learning_rate == -1) != bool(o.learning_rate_schedule_file):
        error("--learning_rate -1 and --learning_rate_schedule_file FILE: give both, or neither")
    for given, needed in (("filter_filename", "real"), ("lfw_pairs", "lfw_dir")):
        if getattr(o, given) and not getattr(o, needed):
            error(f"--{given}: needs --{needed}")
    if not o.synthetic and (o.score_weights != "none" or o.lambda_synthetic != 1):
        error("--score_weights, --lambda_synthetic: need --synthetic")
    if bool(o.filter_filename) != (o.filter_percentile < 100):
        error("--filter_filename and --filter_percentile below 100: give both, or neither")
    problem = image_size_problem(o.model_def, o.image_size)
    if problem:
        error(problem)


# Training

def train(options):
    """Train a classifier. Returns the exit status."""
    o = options
    table = read_schedule(o.learning_rate_schedule_file) if o.learning_rate == -1 else [(0, o.learning_rate)]
    resumed = runs.find_run(o.log_dir, o.load_path) if o.load_path else None
    pairs = find_pairs(o.lfw_dir, "--lfw_dir", o.lfw_pairs, "--lfw_pairs", o.lfw_nrof_folds, o) if o.lfw_dir else None
    faces = labelled_data.load(o)
    identities = {kind: part.identities if part else [] for kind, part in faces._asdict().items() if kind != "weights"}
    if resumed:
        runs.check_run(resumed, differences_in(STRUCTURAL, o, runs.load_params(resumed)), identities)
        runs.warn_of_start(resumed)
    runs.check_log_dir(o.log_dir)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import losses  # importing TensorFlow takes seconds
    from recognition.training import ClassifierTrainer

    epoch_size = o.epoch_size or -(-len((faces.real or faces.synthetic).names) // o.batch_size)
    schedule = functools.partial(losses.classifier_rate, epoch_size=epoch_size, table=table,
                                 decay_epochs=o.learning_rate_decay_epochs, factor=o.learning_rate_decay_factor)
    epochs = min([o.max_nrof_epochs] + [epoch - 1 for epoch, rate in table if rate <= 0])
    trainer = ClassifierTrainer(o, faces, schedule, pairs)
    try:
        trainer.train(epochs * epoch_size, epoch_size, resumed,
                      functools.partial(runs.open_run, o, resumed, identities, "rec"))
    finally:
        trainer.close()
    print(f"trained: {trainer.run_dir}")
    return 0


def read_schedule(file_name):
    """[(epoch, rate)] of a schedule in FaceNet's format, up to the first rate of 0 or less. Raises UserError."""
    table, number = [], 1
    try:
        with open(file_name, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                line = line.split("#")[0].strip()
                if line and (not table or table[-1][1] > 0):
                    epoch, rate = line.split(":")
                    table.append((int(epoch), float(rate)))
                    if not -1 <= table[-1][1] < float("inf") or table[-1][0] < 1 or sorted(table)[-1] != table[-1]:
                        raise ValueError("epochs must ascend from 1, and rates be numbers")
    except OSError as error:
        raise UserError(f"--learning_rate_schedule_file {file_name}: can't be read ({error.strerror})") from error
    except ValueError as error:
        raise UserError(f"--learning_rate_schedule_file {file_name}: line {number}: not `EPOCH: RATE` ({error})") from error
    if not table or table[0][1] <= 0:
        raise UserError(f"--learning_rate_schedule_file {file_name}: no learning rate in it; give lines `EPOCH: RATE`")
    return table


def find_pairs(folder, option, file_name, file_option, folds, options, per_fold=300, seed=0):
    """The FacePairs in `folder`: of the file `file_name`, or drawn. Raises UserError, which names the option."""
    folder = data_folder(option, "", folder)
    if file_name:
        return verification.read_pairs(file_name, folder, file_option, folds)
    faces = check_images(find_renderings(folder), options.input_scale_size, options.num_worker)
    return verification.draw_pairs(faces, folds, per_fold, seed)


# Verification

def verify(options):
    """Verify a classifier, and write a table, JSON and plots."""
    o = options
    data_folder("--images", "", o.images)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from recognition import pretrained  # importing TensorFlow takes seconds

    kind = pretrained.recognize(o.weights, "--weights")
    if not kind.model_def:
        raise UserError(f"--weights {o.weights}: neither inception_resnet_v1, nn4 nor small is in it; give a run of "
                        "recognizer.py train, or FaceNet's weights")
    run = runs.load_params(runs.folder_of(o.weights))
    o.model_def, o.embedding_size = kind.model_def, kind.embedding_size
    o.image_size = o.image_size or run.get("image_size") or (96 if kind.model_def == "nn4" else 160)
    o.input_scale_size = o.input_scale_size or run.get("input_scale_size") or round(o.image_size * 108 / 96)
    o.standardization = kind.standardization if o.standardization == "auto" else o.standardization
    problem = image_size_problem(o.model_def, o.image_size)
    if problem:
        raise UserError(problem)
    outputs.check_folder(o.output)
    pairs = find_pairs(o.images, "--images", o.pairs, "--pairs", o.nrof_folds, o, o.pairs_per_fold, o.seed)
    results = {name: verification.verify(embeddings, pairs, o.distance_metric, o.subtract_mean)
               for name, embeddings in embeddings_of(o, pairs).items()}
    print(table_of(results, pairs))
    save_image(plots.draw_roc(results), os.path.join(o.output, "roc.png"))
    save_image(plots.draw_histograms(results, pairs.same), os.path.join(o.output, "distances.png"))
    utils.save_json({"options": vars(o), "people": len({name.split("/")[0] for name in pairs.names}),
                     "pairs": len(pairs.same), "folds": len(set(pairs.fold.tolist())),
                     "results": {name: result.row() for name, result in results.items()}},
                    os.path.join(o.output, "verification.json"))
    logging.info("%s: verification.json, roc.png, distances.png", o.output)


def embeddings_of(options, pairs):
    """{name of a classifier: embeddings [n, E] of the images of `pairs`}; the first is that of `--weights`."""
    import tensorflow as tf

    from engine import checkpoints, session
    from recognition import embedder, pretrained

    o, tf1 = options, tf.compat.v1
    recipe = embedder.Recipe(o.input_scale_size, o.image_size, o.standardization, o.model_def, o.embedding_size,
                             o.use_flipped_images)
    with tf.Graph().as_default(), tf1.Session(config=session.session_options(o.use_gpu)) as running:
        tf1.set_random_seed(o.seed)
        network = embedder.Embedder(recipe, o.batch_size)
        variables, start = tf1.global_variables(), tf1.global_variables_initializer()
        values = pretrained.read(o.weights, variables, "--weights")
        checkpoints.assign(running, variables, values, o.weights)
        found = {"classifier": network.embed_all(running, pairs.root, pairs.names, o.num_worker)}
        if o.baselines:
            running.run(start)
            found["random network"] = network.embed_all(running, pairs.root, pairs.names, o.num_worker)
            bare = embedder.Embedder(recipe, o.batch_size, embedder.bare_pixels)
            found["bare pixels"] = bare.embed_all(running, pairs.root, pairs.names, o.num_worker)
    return found


def table_of(results, pairs):
    """A line for each of {name: Verification}, under a heading."""
    lines = [f"{len(pairs.same)} pairs, {len(set(pairs.fold.tolist()))} folds",
             f"{'':16} accuracy            AUC    EER   TAR@FAR 1e-2   1e-3"]
    for name, r in results.items():
        lines.append(f"{name:16} {r.accuracy:.4f} +- {r.accuracy_std:.4f}  {r.auc:.4f} {r.eer:.4f}         "
                     f"{r.tar[1e-2]:.4f} {r.tar[1e-3]:.4f}")
    return "\n".join(lines)


# Conversion

def convert(options):
    """Write facenet-pytorch's weights as a checkpoint under FaceNet's names."""
    from recognition import torch_weights

    state = torch_weights.read(options.input)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from recognition import pretrained

    prefix = pretrained.write_converted(state, options.output)
    print(f"converted: {prefix}")


def main():
    """Run what the command line asks for. Exit status: 2 bad input, 1 diverged, 128 + signal when interrupted."""
    program.leave_on_signals("recognizer.py")
    options = get_options(sys.argv[1:])
    utils.set_up_logging("INFO")
    work = {"train": train, "verify": verify, "convert": convert}[options.command]
    return program.in_one_line("recognizer.py", work, options) or 0


if __name__ == "__main__":
    sys.exit(main())
