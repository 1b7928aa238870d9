"""The options of main.py: their groups, meanings and defaults; checking and resolving them; what a run must keep."""
import argparse
import contextlib
import logging
import os
import re
import sys

from cli import outputs
from cli.cluster_options import cluster_options
from cli.options import boolean, checked, Command, number, one_of, parse, path, text, whole
from cli.shards import shard_option
from engine import checkpoint_index, runs, weight_files
from engine.cluster import addresses
from engine.cluster.replicas import replicas_of
from recognition import registry
from recognition.recognizer_options import model, pixels, PRECISION, precision
from utils import UserError

# Options with nothing to act on here: two of networks that the original's release dropped, and those of FaceNet's own
# trainers, many of which are recognizer.py's.
LEGACY = [
    "ren_lr", "reg_lr", "logs_base_dir", "models_base_dir", "gpu_memory_fraction", "pretrained_model",
    "max_nrof_epochs", "epoch_size", "random_rotate", "use_fixed_image_standardization", "decov_loss_factor",
    "center_loss_factor", "prelogits_norm_loss_factor", "prelogits_norm_p", "prelogits_hist_max", "learning_rate",
    "learning_rate_decay_epochs", "learning_rate_decay_factor", "learning_rate_schedule_file", "moving_average_decay",
    "nrof_preprocess_threads", "log_histograms", "no_store_revision_info", "filter_filename", "filter_percentile",
    "filter_min_nrof_images_per_class", "validate_every_n_epochs", "validation_set_split_ratio",
    "min_nrof_val_images_per_class", "people_per_batch", "images_per_person", "alpha", "lfw_pairs", "lfw_file_ext",
    "lfw_dir", "lfw_batch_size", "lfw_nrof_folds", "lfw_distance_metric", "lfw_use_flipped_images", "lfw_subtract_mean"]

# Options that decide which variables a checkpoint holds, or what they mean: a resumed run must keep them.
STRUCTURAL_IDENTITY = ("embedding_size", "model_def", "facenet_scope", "standardization")
STRUCTURAL = ("input_scale_size", "conv_hidden_num", "conv_hidden_num_res", "num_res_rep", "z_num", "grayscale",
              "upsampling", "normalization", "game", "d_scales", "d_layers", "background",
              "optimizer", "method_c", "relax_c", *STRUCTURAL_IDENTITY)
# What these options were before there was a choice: of the original's runs, and of old ones.
FORMERLY = dict(upsampling="transposed", normalization="instance", game="began", d_scales=1, d_layers="3",
                background="black")
# Options that tell what to do now and where: a run does not remember them.
OF_THE_MOMENT = {"preset", "dry_run", "train_generator", "generate_dataset", "fit_dataset", "is_train", "cont",
                 "load_path", "pretrained_gen", "save_syn_dataset", "save_fitting", "overwrite", "shard", "task",
                 "sample_per_image", "test_data_path", "judge", "log_dir", "log_level", "num_worker", "use_gpu", "xla",
                 "profile", "cluster", "worker", "collective_timeout", "collectives"}
# What a run of recognizer.py tells of a classifier.
OF_A_CLASSIFIER = ("model_def", "embedding_size", "image_size")


MOST_SIDE = 1024            # pixels


def side(word):
    """Convert a word to the side of a crop, which both generators halve twice."""
    allowed = f"{word}: must be a multiple of 4, 16 or more"
    try:
        value = int(word)
    except ValueError:
        raise argparse.ArgumentTypeError(allowed) from None
    if value > MOST_SIDE:
        raise argparse.ArgumentTypeError(f"{word}: must be at most {MOST_SIDE}")
    if value < 16 or value % 4:
        raise argparse.ArgumentTypeError(f"{allowed} (try {max(16, value + -value % 4)})")
    return value


side.metavar = "N"
gen = checked("gen", str.lower, lambda value: value in ("", "gen"), "gen")
scope = checked("NAME", str, re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]{0,199}").fullmatch,
                "a scope's name, of letters, digits and _ . - /")
depths = checked("LIST", lambda word: ",".join(sorted(depth.strip() for depth in word.split(","))),
                 {"1", "2", "3", "1,2", "1,3", "2,3", "1,2,3"}.__contains__, "1, 2 or 3, or several with commas")
augmentations = checked("LIST", lambda word: ",".join(kind.strip() for kind in word.lower().split(",")),
                        lambda x: x == "none" or set(x.split(",")) <= {"shift", "cut", "color", "zoom", "shade"},
                        "none, or some of shift, cut, color, zoom and shade, with commas between them")


def network_options(add):
    """Add the options of the group Network."""
    add("input_scale_size", side, 64,
        "side in pixels of every crop: photos, renderings and pairs; a multiple of 4 from 16 up (the paper's is 108)")
    add("syn_scale_size", side, None,
        "side of the renderings' crops; must equal input_scale_size when given", "input_scale_size")
    add("conv_hidden_num", whole(1, 1024), 64, "width of discriminators' first convolution; deeper ones are wider")
    add("conv_hidden_num_res", whole(1, 1024), 32, "width of generators' first convolution; the deepest has 4 times it")
    add("num_res_rep", whole(1, 100), 3, "residual blocks in each generator")
    add("z_num", whole(1, 65536), 64, "length of the discriminators' code")
    add("upsampling", one_of(("transposed", "resize")), "transposed", "how generators double the size: transposed "
        "convolutions, the original's, or upscaling and a convolution, which leaves no checkerboard")
    add("normalization", one_of(("instance", "none")), "instance", "norm in generators' residual blocks")
    add("game", one_of(("began", "hinge")), "began", "the discriminators: began, auto-encoders as in the paper; "
        "hinge, patch discriminators with spectral norm and hinge loss, without gamma, lambda_k and z_num")
    add("d_scales", whole(1, 4), 1, "hinge: sizes at which patches are judged, each half of the one before")
    add("d_layers", depths, "3", "hinge: layers of stride 2: 1 sees patches of 16 pixels, 2 of 34, 3 of 70; 1,3 both")
    add("background", one_of(("black", "noise")), "black", "what G sees around a face: black, as in the paper, or "
        "smooth random colours, of which it makes a background for each image")
    add("dropout_keep", number(above=0, most=1), .9,
        "keep probability of G's dropout, in training and while synthesizing (1: none)")


def data_options(add):
    """Add the options of the group Data."""
    add("data_dir", text, "data", "folder that holds the data sets")
    add("dataset", text, "vgg-aligned-64", "photos: a folder in data_dir, of images or of one sub-folder per person")
    add("syn_dataset", text, "syn_lsfm-64", "renderings: a folder in data_dir with one sub-folder per identity")
    add("dataset_3dmm", text, "paired_data-64",
        "pairs: a folder of photos in data_dir, with their renderings under the same names in its sub-folder 3dmm; "
        "with lambda_d 0, the folder may be missing")
    add("dataset_3dmm_test", text, "AFLW-test",
        "more pairs, on which the paired loss is reported and not trained, if the folder exists")
    add("split", path, "", "sub-folder to use inside a data set where it exists, such as train")
    add("batch_size", whole(1, 65536), 16, "photos, renderings and pairs in a step, on each GPU")
    add("grayscale", boolean, False, "take the colour out of every image")
    add("num_worker", whole(1, 1024), 4, "threads that read and decode images")
    add("num_gpu", whole(1, 64), 1, "GPUs to train on; max_step, lr_update_step and loosen_step are divided by it")
    add("test_data_path", path, "", "folder of renderings to draw samples of with --is_train False")


def mode_options(add):
    """Add the options of the group Mode."""
    add("dry_run", boolean, False, "check everything, print the options that differ from the defaults, the data found "
        "and the networks, and stop")
    add("train_generator", boolean, None, "train the networks",
        "True, but False where generate_dataset or fit_dataset is True or is_train is False")
    add("generate_dataset", boolean, False, "turn syn_dataset into photos of the same identities, after any training")
    add("fit_dataset", boolean, False, "turn the photos of dataset into renderings with G_inv, after any training")
    add("is_train", boolean, True, "False: train nothing whatever train_generator says, and draw the sample grid")
    add("cont", gen, "",
        "gen: go on with the training of load_path, or without one of the newest run in log_dir; for old commands")
    add("load_path", path, "", "run to go on with, or to take the weights from: its folder, or its name in log_dir")
    add("pretrained_gen", path, "",
        "weights for synthesis, or for a new training to begin with: a checkpoint's prefix, such as "
        "RUN/model.ckpt-1000, a run's folder, or demo, for those that come with the program",
        "load_path, else the newest run in log_dir")
    add("save_syn_dataset", text, "generated", "folder in data_dir that generate_dataset writes to")
    add("save_fitting", text, "fitting", "folder in data_dir that fit_dataset writes to")
    add("overwrite", boolean, False, "where save_syn_dataset or save_fitting was made from other weights, images or "
        "settings, begin it anew: its images, labels and scores are removed first, and nothing else")
    add("task", outputs.task, None, "first part of the run folder's name", "the git branch, master without git")
    add("sample_per_image", whole(1, 1024), None, "dropout samples of each rendering with --is_train False",
        "8 with test_data_path, else 1")
    shard_option(add, "with generate_dataset or fit_dataset, make only each N-th identity or photo")
    add("scores", boolean, True, "with generate_dataset, write confidence_scores.csv too")
    add("judge", boolean, False, "with generate_dataset, judge what was made by the photos of dataset, as evaluate.py "
        "judge does; the report lies beside it, in save_syn_dataset_report")
    add("generation_dropout", boolean, True, "keep G's dropout on while synthesizing, as the original does")


def training_options(add):
    """Add the options of the group Training."""
    add("max_step", whole(1), 248000, "steps to train")
    add("lr_update_step", whole(1), 128000,
        "steps to the first halving of the learning rates; each next wait is half as long")
    add("lr_lower_boundary", number(0), 5e-6, "learning rate below which no halving goes")
    add("warm_up", whole(1), 5000, "with num_gpu n above 1: steps in which learning rates rise to n times their value")
    add("g_lr", number(above=0), 8e-5, "learning rate of both generators")
    add("d_lr", number(above=0), 8e-5, "learning rate of both discriminators")
    add("optimizer", one_of(("adam", "rmsprop", "sgd")), "adam", "update rule of all networks")
    add("beta1", number(0, below=1), .9, "adam: decay of the mean gradient; rmsprop and sgd: momentum. The original "
        "parses .5 but trains with Adam's own .9")
    add("beta2", number(0, below=1), .999, "adam and rmsprop: decay of the mean squared gradient; sgd has none")
    add("average_decay", number(0, below=1), .9999, "most that an average of a weight keeps of itself in a step")
    add("augment", augmentations, "none", "hinge: what discriminators see real and generated images through, so that "
        "they don't memorise a small set: none, or some of shift, cut, color, zoom and shade, with commas")
    add("r1", number(0), 0., "hinge: weight of the penalty on the discriminators' gradient at real images (R1)")
    add("use_gpu", boolean, True, "use a GPU where there is one")
    add("random_seed", whole(0, 2 ** 31 - 1), 123, "seed of weights, data order, crops, flips and dropout")


def loss_options(add):
    """Add the options of the group Loss."""
    add("gamma", number(above=0), .5, "BEGAN: loss on generated images to aim at, as a share of that on real ones")
    add("lambda_k", number(0), .001, "step of the balances k_t, k_t2 and k_t3")
    add("lambda_d", number(0), .5, "weight of the paired loss, for G_inv")
    add("lambda_s", number(0), .5, "weight of the cycle loss, for G and G_inv")
    add("lambda_p", number(0), .1, "weight of the pixel loss between rendering and photo, for G")
    add("lambda_f", number(0), 0., "weight of the paired loss forward, between the photo of a pair and what G makes of "
        "its rendering, where that shows a face, for G; the original has none")
    add("lambda_m", number(0), 0., "hinge: weight of the feature matching loss of pairs, by D_forw's features, for G")
    add("lambda_e", number(0), 0., "weight of the edge loss, of edges in a photo and not in its rendering, for G")
    add("lambda_c", number(0), .001, "weight of the identity loss, for G")
    add("lambda_c_upper", number(0), None,
        "ceiling of lambda_c, which doubles whenever the learning rates are halved", "0.001, or lambda_c if larger")
    add("pixel_loss", one_of(("absolute", "squared")), "absolute", "what lambda_p counts: differences or their squares")
    add("chroma_weight", number(0), 0., "weight of uneven colours of a face, in the losses of lambda_p and lambda_f")
    add("loosen_step", whole(0), 0, "steps after which lambda_s, lambda_p and lambda_f count half (0: never)")
    add("method_c", one_of(("none", "magnet", "softmax", "center")), "magnet",
        "identity loss; magnet is the paper's set-based one, none needs no classifier")
    add("relax_c", boolean, False, "train the classifier's weights together with G (not its batch statistics)")


def identity_options(add):
    """Add the options of the group Identity."""
    add("pretrained_rec", path, "", "weights of the trained classifier, needed unless method_c is none: a run of "
        "recognizer.py, a checkpoint or frozen graph (.pb) of FaceNet, or dlib, which stands for the file that "
        "`make venv` installs; its path (.dat) will do too")
    add("model_def", model, "nn4", "network of the classifier, with or without a leading models.")
    add("embedding_size", whole(1, 65536), 128, "length of the classifier's embedding")
    add("keep_probability", number(above=0, most=1), 1.,
        "keep probability of the dropout before the classifier's bottleneck (1: none)")
    add("weight_decay", number(0), 0., "L2 weight decay of what the identity loss trains besides G: the softmax head, "
        "and the classifier with relax_c. The original parses 5e-5 but trains without any")
    add("center_loss_alfa", number(0, 1), .95,
        "share of itself that a centroid keeps in a step (1: centroids never move)")
    add("facenet_scope", scope, registry.SCOPE, "variable scope of the classifier in its checkpoint")
    add("image_size", pixels, 96, f"side in pixels of the classifier's input: {registry.SIZES}")
    add("standardization", one_of(("auto", "image", "fixed", "arcface")), "auto", "what the classifier expects: image, "
        "each image with mean 0 and deviation 1; fixed, (v - 127.5) / 128, as FaceNet's models of 2018; arcface, "
        "(v - 127.5) / 127.5; auto, as its weights say")
    add("random_crop", boolean, True, "in training, crop the classifier's input at random, else centrally")
    add("random_flip", boolean, True, "in training, mirror the classifier's input at random")


def logging_options(add):
    """Add the options of the group Logging."""
    add("log_dir", text, "logs", "folder of the runs")
    add("log_step", whole(1), 50, "steps between two log lines and TensorBoard summaries")
    add("save_step", whole(1), 20, "draw a sample grid every log_step * save_step steps")
    add("checkpoint_step", whole(0), 0, "steps between two checkpoints; 0: log_step * save_step")
    add("keep_every", whole(0), 0,
        "keep for good the checkpoints at multiples of this step, besides the last 2; 0: keep no others")
    add("num_log_id", whole(1, 1024), 16, "identities in a sample grid, one row each")
    add("num_log_samples", whole(1, 1024), 8, "renderings of each identity in a sample grid")
    outputs.safety_options(add)
    add("log_level", one_of(("DEBUG", "INFO", "WARNING", "ERROR"), str.upper), "INFO", "least level that is logged")


def speed_options(add):
    """Add the options of the group Speed."""
    add("precision", precision, "float32", PRECISION)
    add("xla", boolean, False, "let XLA fuse element-wise operations: compiles for half a minute first, and has gained "
        "nothing on a CPU")
    add("profile", path, "", "folder for a trace of a few training steps, to be read by TensorBoard's profiler")


# Resolving

def derived_values(config):
    """Compute what follows from other options where an option is not given -> {option: value}."""
    return {"syn_scale_size": config.input_scale_size, "lambda_c_upper": max(.001, config.lambda_c),
            "checkpoint_step": config.log_step * config.save_step}


def resolve(config, error):
    """Fill in what follows from other options; call `error` with one line where options contradict each other."""
    config.train_generator = trains(config)
    if config.is_train and not (config.train_generator or config.generate_dataset or config.fit_dataset):
        error("--train_generator False: nothing to do; give --generate_dataset True, --fit_dataset True or "
              "--is_train False")

    config.checkpoint_step = config.checkpoint_step or None         # 0 is another word for: not given
    for name, value in derived_values(config).items():
        if getattr(config, name) is None:
            setattr(config, name, value)
    if config.syn_scale_size != config.input_scale_size:
        error(f"--syn_scale_size {config.syn_scale_size}: must equal --input_scale_size {config.input_scale_size}")
    if config.lambda_c_upper < config.lambda_c:
        error(f"--lambda_c_upper {config.lambda_c_upper:g}: must not be below --lambda_c {config.lambda_c:g}")
    if config.relax_c and config.method_c == "none":
        error("--relax_c True: needs --method_c magnet, softmax or center, not none")
    problem = config.relax_c and registry.frozen_problem(config.model_def)
    if problem:
        error(f"--relax_c True: {problem}; leave it out")
    for problem in (registry.image_size_problem(config.model_def, config.image_size),
                    registry.standardization_problem(config.model_def, config.standardization)):
        if problem:
            error(problem)
    if config.train_generator:
        addresses.resolve(config, error)
    replicas = replicas_of(config).total
    if config.max_step < replicas:
        error(f"--max_step {config.max_step}: less than the {replicas} GPUs of all workers, which share the steps")
    check_separate(config, error)
    if not (config.train_generator or (config.generate_dataset and config.scores)):
        config.pretrained_rec = ""                                  # nothing asked for has a use for the classifier

    config.sample_per_image = config.sample_per_image or (8 if config.test_data_path else 1)


def check_separate(config, error):
    """Call `error` where a mode would write into a data set that it or another mode reads."""
    def folder(option):
        """The folder that an option names in data_dir."""
        return os.path.join(config.data_dir, getattr(config, option))

    read = "dataset", "syn_dataset", "dataset_3dmm", "dataset_3dmm_test"
    taken = {f"--{option}": folder(option) for option in read}
    taken["--test_data_path"] = config.test_data_path
    for wanted, option in ((config.generate_dataset, "save_syn_dataset"), (config.fit_dataset, "save_fitting")):
        problem = wanted and outputs.overlap_problem(f"--{option} {getattr(config, option)}", folder(option), taken)
        if problem:
            error(problem)
        if wanted:
            taken[f"--{option}"] = folder(option)
    for option in ("log_dir", "profile"):
        place = getattr(config, option)
        problem = config.train_generator and place and outputs.overlap_problem(
            f"--{option} {place}", place, taken, holding=False)
        if problem:
            error(problem)


GROUPS = {"Network": network_options, "Data": data_options, "Mode": mode_options, "Training": training_options,
          "Loss": loss_options, "Identity": identity_options, "Logging": logging_options, "Speed": speed_options,
          "Cluster": cluster_options}


# Reading the command line

def remembered(options):
    """Find the runs that --pretrained_gen, --load_path, --cont and --pretrained_rec name, and what they remember.

    Returns a list of (run, {option: value}). Of one option in several runs, the last counts. A run that is not there is
    left out, since `preflight` says so. Raises UserError for a params.json that can't be read.
    """
    training = trains(options)
    run, generator = ([(folder, memory_of(folder))] if folder else []
                      for folder in (run_folder(options), generator_folder(options)))
    if not options.pretrained_rec:
        forget_lost_classifiers(run + generator, training, needed=options.generate_dataset and options.scores)
    facts, weights = [], options.pretrained_rec
    path = weight_files.locate(weights)
    is_of_dlib = weight_files.is_of_dlib(path)
    if weights and (is_of_dlib or os.path.isdir(runs.folder_of(weights))):
        # A name tells that a file is dlib's. Where there is none of this name, nobody needs to hear what it would hold.
        told = weights if os.path.isfile(path) or not is_of_dlib else ""
        facts = [(told, facts_of(weights, options.facenet_scope))]
    # A run that goes on stays as it is. Without training, the weights are those of --pretrained_gen, if it is given.
    return generator + facts + run if training else run + generator + facts


def facts_of(weights, scope):
    """Read what the files of a classifier's `weights` tell of it -> {option: value}.

    A run of recognizer.py has a params.json. Of another checkpoint, the shapes of the variables under `scope` tell.
    dlib's file is of one network.
    """
    if weight_files.is_of_dlib(weight_files.locate(weights)):
        return {"model_def": "dlib", "embedding_size": registry.DLIB_EMBEDDING,
                "image_size": registry.CLASSIFIERS["dlib"].usual}
    saved = runs.load_params(runs.folder_of(weights))
    facts = {name: saved[name] for name in OF_A_CLASSIFIER if name in saved}
    prefix = next(iter(runs.list_checkpoints(weights)), None)
    if not facts and prefix and not checkpoint_index.check_whole(prefix):
        found = registry.architecture_in(checkpoint_index.read_index(prefix), scope)
        if found:
            facts = {"model_def": found.model_def, "embedding_size": found.embedding_size}
            facts |= {"image_size": registry.size_for(found)} if found.cells else {}
    return facts


def forget_lost_classifiers(found, training, needed):
    """Take out of `found`, a list of (run, {option: value}), each classifier that is not there any more.

    Only a `training` with an identity loss can't go on without it. Where it is `needed` for c_score, a warning says so.
    """
    for folder, memory in found:
        classifier = memory.get("pretrained_rec")
        if not isinstance(classifier, str) or (training and memory.get("method_c") != "none"):
            continue
        if classifier and not runs.list_weights(classifier):
            del memory["pretrained_rec"]
            if needed:
                logging.warning("%s: its classifier %s is not there any more; give --pretrained_rec for c_score",
                                folder, classifier)


def memory_of(folder):
    """Read what a run of main.py remembers -> {option: value}.

    The original's params.json holds options that its code did not follow, such as its beta1. Of those files, only what
    decides the variables counts. Raises UserError for a run of recognizer.py, and where the file can't be read.
    """
    saved = runs.load_params(folder)
    if "max_nrof_epochs" in saved:
        raise UserError(f"{folder}: a run of recognizer.py; name one of main.py")
    written_by_us = "versions" in saved
    derived = set()
    with contextlib.suppress(AttributeError, TypeError):            # of a file that lacks them or holds no numbers
        derived = {name for name, value in derived_values(argparse.Namespace(**saved)).items()
                   if saved.get(name) == value}
    memory = {name: value for name, value in saved.items()
              if name not in OF_THE_MOMENT | derived and (written_by_us or name in STRUCTURAL)}
    runs.warn_without_options(folder, memory)
    return memory


def run_folder(options):
    """Find the folder of the run that --load_path or --cont names; None where there is none."""
    if options.load_path:
        return runs.find_run(options.log_dir, options.load_path, missing=None)
    return runs.newest_run(options.log_dir) if options.cont or not (trains(options) or options.pretrained_gen) else None


def generator_folder(options):
    """Find the folder of the run that --pretrained_gen names; None where there is none."""
    path = options.pretrained_gen and runs.find_checkpoint(options.log_dir, options.pretrained_gen, missing=None)
    return runs.folder_of(path) if path else None


def trains(options):
    """Tell whether the networks are trained."""
    if not options.is_train:
        return False
    if options.train_generator is None:
        return not (options.generate_dataset or options.fit_dataset)
    return options.train_generator


COMMAND = Command(
    "main.py", "", "Train the generators, go on with a training, turn renderings into a data set of photos, turn "
    "photos into renderings, or draw samples.",
    ("main.py --preset cpu --dataset real --syn_dataset syn --dataset_3dmm paired --method_c none",
     "main.py --load_path RUN",
     "main.py --generate_dataset --load_path RUN",
     "main.py --fit_dataset --load_path RUN",
     "main.py --is_train False --load_path RUN"),
    GROUPS, resolve, remembered, tuple(LEGACY), presets=True)


def read_command_line(words):
    """Read the `words` of a command line -> cli.options.Parsed. A mistake ends the program with status 2."""
    return parse(COMMAND, words)


def get_config(words=None):
    """Read `words`, or the command line -> (config, unparsed).

    `config` is a namespace of every resolved option, each a plain value that JSON can hold. `unparsed` are the names of
    the given old options that have nothing to act on here. A bad or unknown option ends the program with one line on
    stderr and exit status 2.
    """
    parsed = read_command_line(sys.argv[1:] if words is None else words)
    return parsed.options, parsed.legacy


# What a run must keep

def structural_differences(config, saved, options=STRUCTURAL):
    """List what differs between `config` and `saved`, the params.json of a run: 'name (run: x, given: y)'.

    Only `options` are compared, and of these, only those that have an effect with the game and the identity loss of
    `config`. An option that the run lacks agrees, unless FORMERLY tells what it was.
    """
    idle = ("z_num",) if config.game == "hinge" else ("d_scales", "d_layers")
    idle += STRUCTURAL_IDENTITY * (config.method_c == "none")
    options = [option for option in options if option not in idle]
    return differences_in(options, config, {**FORMERLY, **saved} if saved else {})


def differences_in(options, config, saved):
    """List the differences of exactly these `options`, as `structural_differences` does."""
    differences = []
    for option in options:
        given = getattr(config, option)
        run = saved.get(option, given)
        if option == "model_def":
            run = str(run).removeprefix("models.")    # as the original saves it
        if run != given and str(run) != given:        # --d_layers was once saved as a number
            differences.append(f"{option} (run: {run}, given: {given})")
    return differences
