"""The options of recognizer.py: their groups, meanings and defaults, and what contradicts what."""
import os

from cli import outputs
from cli.cluster_options import cluster_options
from cli.options import boolean, checked, number, one_of, path, text, whole
from datasets import crop_kinds
from engine.cluster.replicas import replicas_of
from recognition import input_size, registry

model = one_of(tuple(registry.CLASSIFIERS), lambda word: word.lower().removeprefix("models."))
pixels = whole(32, 1024, " of pixels")
_rate_or_file = checked("X", float, lambda rate: 0 < rate < float("inf") or rate == -1, "a number above 0, or -1")
_crop = one_of(("auto", *input_size.CROPS))
_chance = number(0, most=1)
_width = checked("X", float, lambda width: .0625 <= width <= 2 and width * 64 % 1 == 0,
                 "a number from 0.0625 to 2 that is a multiple of 1/64, such as 0.25")
precision = one_of(("float32", "tf32", "bfloat16"))
PRECISION = ("number format of convolutions. float32: its digits are the original's. tf32: float32, of which NVIDIA's "
             "GPUs from Ampere on take 10 bits into convolutions and matrix products, and all other devices "
             "everything. bfloat16: 7 bits, for devices that compute in it. Variables, losses and norms stay float32")
_metric = checked("{0,1}", int, (0, 1).__contains__, "0 (Euclidean) or 1 (cosine)")

# {--loss: its usual margin and scale, as in its authors' code}
LOSSES = {"softmax_center": None, "arcface": (.5, 64.), "cosface": (.4, 64.), "adaface": (.4, 64.)}


# train

def data_options(add):
    """Add the options of the group Data."""
    add("data_dir", text, "data", "folder that holds the data sets")
    add("real", path, "", "photos: a folder in data_dir with one sub-folder per person, or a .rec file")
    add("lambda_synthetic", number(above=0), 1., "weight of the synthetic images' losses")
    add("score_weights", one_of(("none", "original", "calibrated")), "none", "weight of a synthetic image by its "
        "c_score: original, 0.5 exp(-c_score / 4); calibrated, by its rank in the set, from 2 (best) to 0, 1 on "
        "average")
    add("synthetic", text, [], "folders in data_dir that main.py synthesized, whose identities get a head of their own",
        values="+")
    add("shared_head", boolean, False, "synthetic identities are more classes of the real ones' head")
    add("oversample", boolean, False, "show all identities equally often: images of one with few come more often, of "
        "one with many less often")
    add("crop", _crop, "auto", "how the crops are cut: box, by MTCNN's box with a margin; arcface, by five landmarks; "
        "auto, as the settings.json of the data says, else arcface for .rec files and box for others")
    add("input_scale_size", pixels, None, "side in pixels at which crops are read",
        "image_size * 108 / 96; image_size for crops of arcface")
    add("batch_size", whole(1, 65536), 90, "real images in a step, and as many synthetic ones; on each of several GPUs")
    add("num_worker", whole(1, 1024), 4, "threads that read and decode images")
    add("filter_filename", path, "", "HDF5 file with the distances of real images to the centres of their classes")
    add("filter_percentile", number(above=0, most=100), 100.,
        "with it, drop images whose distance lies above this percentile")
    add("filter_min_nrof_images_per_class", whole(0), 0, "drop people with fewer real images")


def network_options(add):
    """Add the options of the group Network."""
    add("model_def", model, "inception_resnet_v1", "network, with or without a leading models.")
    add("width", _width, 1., "filters of an iresnet or of ir_se50, as a share of the usual ones")
    add("embedding_size", whole(1, 65536), 128, "length of the embedding")
    add("image_size", pixels, 96, f"side in pixels of the network's input: {registry.SIZES}")
    add("standardization", one_of(("image", "fixed", "arcface")), None,
        "what the network sees: image, each image with mean 0 and deviation 1; fixed, (v - 127.5) / 128; arcface, "
        "(v - 127.5) / 127.5", "image; arcface for an iresnet and ir_se50")
    add("keep_probability", number(above=0, most=1), 1.,
        "keep probability of the dropout before the bottleneck (1: none)")


def training_options(add):
    """Add the options of the group Training."""
    add("loss", one_of(tuple(LOSSES)), "softmax_center", "softmax_center: cross-entropy of a dense layer, and center "
        "loss; arcface, cosface or adaface: cross-entropy of cosines with a margin")
    add("margin", number(0, most=1.5), None, "margin of such a loss: of angles in radians, for cosface of cosines",
        ", ".join(f"{usual[0]:g} for {loss}" for loss, usual in LOSSES.items() if usual))
    add("scale", number(above=0), None, "what the cosines are multiplied by", "64")
    add("max_nrof_epochs", whole(1), 100, "epochs to train")
    add("epoch_size", whole(0), 0,
        "steps in an epoch; 0: one pass through the real images, or else the synthetic ones")
    add("learning_rate", _rate_or_file, .05, "learning rate; -1: from learning_rate_schedule_file")
    add("learning_rate_decay_epochs", whole(1), 100, "epochs after which the learning rate is multiplied by a factor")
    add("learning_rate_decay_factor", number(above=0), 1., "that factor")
    add("learning_rate_drops", whole(1), [], "epochs after which the learning rate is multiplied by 0.1", values="+")
    add("learning_rate_schedule_file", path, "", "file with a line `EPOCH: RATE` for each change, epochs counted from "
        "1; rate -1 ends the training; # begins a comment")
    add("optimizer", one_of(("adagrad", "adadelta", "adam", "rmsprop", "mom", "sgd")), "adam",
        "update rule, with FaceNet's settings: adam has an epsilon of 0.1, hence the large learning rate; mom is "
        "Nesterov's momentum of 0.9, and sgd the plain one")
    add("weight_decay", number(0), 5e-4, "L2 weight decay of convolutions and dense layers; with sgd of all that is "
        "trained")
    add("center_loss_factor", number(0), 0., "weight of the center loss")
    add("center_loss_alfa", number(0, 1), .95, "share of itself that a center keeps in a step (1: centers never move)")
    add("moving_average_decay", number(0, below=1), .9999,
        "decay of the weights' moving averages, which are what is verified and used")
    add("random_crop", boolean, True, "move each image's crop at random")
    add("random_flip", boolean, True, "mirror images at random")
    add("random_rotate", boolean, False, "turn images at random by up to 10 degrees")
    add("random_erasing", _chance, 0., "probability that a rectangle of an image is painted grey")
    add("augment_crop", _chance, 0., "probability that all but a rectangle is painted black")
    add("augment_resolution", _chance, 0., "probability that an image is made smaller, down to a fifth, and large")
    add("augment_color", _chance, 0., "probability that brightness, contrast and saturation change by up to a half")
    add("seed", whole(0, 2 ** 31 - 1), 123, "seed of weights, data order, crops, flips, all other changes and dropout")
    add("use_gpu", boolean, True, "use a GPU where there is one")
    add("num_gpu", whole(1, 64), 1, "GPUs to train on; the learning rate stays as given")
    add("precision", precision, "float32", PRECISION)


def validation_options(add):
    """Add the options of the group Validation."""
    add("lfw_dir", path, "", "folder of other people, such as LFW, to verify on during training")
    add("lfw_pairs", path, "", "file of its pairs in the format of LFW's pairs.txt", "pairs chosen at random")
    add("lfw_nrof_folds", whole(2, 10_000), 10, "folds, unless lfw_pairs says how many")
    add("lfw_batch_size", whole(1, 65536), 32, "images to embed at a time")
    add("lfw_distance_metric", _metric, 0, "0: squared Euclidean distance, 1: angle")
    add("lfw_use_flipped_images", boolean, False, "append the embedding of the mirrored image")
    add("lfw_subtract_mean", boolean, False, "take distances from the mean of the other folds' embeddings")
    add("validate_every_n_epochs", whole(1), 1, "epochs between two checkpoints, each of which is verified")


def mode_options(add):
    """Add the options of the group Mode."""
    add("dry_run", boolean, False, "check everything, print the options that differ from the defaults, the data found "
        "and the network, and stop")
    add("load_path", path, "", "run to go on with: its folder, or its name in log_dir")


def logging_options(add):
    """Add the options of the group Logging."""
    add("log_dir", text, "recognizers", "folder of the runs")
    add("task", outputs.task, None, "first part of the run folder's name", "the git branch, master without git")
    add("log_step", whole(1), 50, "steps between two log lines and TensorBoard summaries")
    add("keep_every", whole(0), 0,
        "keep for good the checkpoints at multiples of this step, besides the last 2; 0: keep no others")
    outputs.safety_options(add)


TRAIN = {"Data": data_options, "Network": network_options, "Mode": mode_options, "Training": training_options,
         "Validation": validation_options, "Logging": logging_options, "Cluster": cluster_options}


# verify and convert

def verify_options(add):
    """Add the options of the group Verification."""
    add("weights", text, None, "classifier: a run of train, a checkpoint, a frozen graph (.pb), or a folder with one; "
        "dlib: that of dlib, whose file `make venv` installs; its path (.dat) will do too", needed=True)
    add("images", path, "", "folder with one sub-folder of images per person, or a .rec file; or give bin")
    add("bin", text, [], "files of pairs that the field reports, such as lfw.bin, judged as arcface_torch does, and by "
        "our own protocol besides", values="+")
    add("output", text, "verification", "folder for verification.json and, with matplotlib, roc.png and distances.png")
    add("pyeer", boolean, False, "write similarities for PyEER too: genuine.txt and impostor.txt, minus the distance, "
        "or with distance_metric 1 the cosine")
    add("pairs", path, "", "file of pairs in the format of LFW's pairs.txt", "pairs chosen at random")
    add("nrof_folds", whole(2, 10_000), 10, "folds, unless pairs says how many")
    add("pairs_per_fold", whole(1, 10_000), 300, "most pairs of the same, and of different people to choose for a fold")
    add("seed", whole(0, 2 ** 31 - 1), 0, "seed of the choice of pairs, and of the random network of baselines")
    add("distance_metric", _metric, 0, "0: squared Euclidean distance, 1: angle")
    add("use_flipped_images", boolean, False, "append the embedding of the mirrored image")
    add("subtract_mean", boolean, False, "take distances from the mean of the other folds' embeddings")
    add("landmarks", boolean, True, "with a classifier whose crops are placed by landmarks, dlib's, place images by "
        "those in alignment.csv or latents.npz; the others, and all of them with False, by its window")
    add("baselines", boolean, False, "add bare pixels, and the same network with random weights")
    add("image_size", pixels, None, "side in pixels of the network's input",
        "the run's or the weights'; else 160, 96 for nn4")
    add("crop", _crop, "auto", "how the images are cut: box, by MTCNN's box with a margin; arcface, by five landmarks; "
        "auto, as the settings.json of the images says, else arcface for a .rec file and box for others")
    add("input_scale_size", pixels, None, "side in pixels at which crops are read",
        "the run's for crops of its kind; else image_size * 108 / 96, or what fills the classifier's window")
    add("standardization", one_of(("auto", "image", "fixed", "arcface")), "auto", "what the network sees: image, each "
        "image with mean 0 and deviation 1; fixed, (v - 127.5) / 128; arcface, (v - 127.5) / 127.5; auto, as its "
        "weights say")
    add("batch_size", whole(1, 65536), 32, "images to embed at a time")
    add("num_worker", whole(1, 1024), 4, "threads that read and decode images")
    add("use_gpu", boolean, True, "use a GPU where there is one")


def convert_options(add):
    """Add the options of the group Conversion."""
    add("input", text, None, "weights of InsightFace's iresnets (.onnx, .pt, .pth), of AdaFace's (.ckpt, .pt), or of "
        "facenet-pytorch's InceptionResnetV1 (.pt); a state dict may also be an .npz", needed=True)
    add("output", text, None, "folder for the checkpoint", needed=True)
    add("channels", one_of(("auto", "rgb", "bgr")), "auto", "order in which an iresnet was trained to see colours; "
        "auto: bgr for AdaFace's checkpoints, else rgb")


# What contradicts what

def kinds_of_data(options):
    """Tell the kind of the crops of each folder that `train` reads -> {what a user types: kind}, photos first."""
    folders = {f"--real {options.real}": options.real and os.path.join(options.data_dir, options.real),
               **{f"--synthetic {name}": os.path.join(options.data_dir, name) for name in options.synthetic},
               f"--lfw_dir {options.lfw_dir}": options.lfw_dir}
    return {typed: crop_kinds.kind_of(folder) for typed, folder in folders.items() if folder}


def crop_shown(options):
    """Tell the kind of the crops that `verify` reads, one of crop_kinds.KINDS."""
    return crop_kinds.kind_of(options.images or "") if options.crop == "auto" else options.crop


def resolve_verify(options, error):
    """Fill in --crop of `verify`, and call `error` with one line where options contradict each other."""
    if bool(options.images) == bool(options.bin):
        error("--images FOLDER, --bin FILE ...: give one of the two")
    if options.pairs and not options.images:
        error("--pairs: needs --images; a .bin file has its pairs in it")
    options.crop = crop_shown(options)


def resolve(options, error):
    """Fill in what follows from other options of `train`.

    Calls `error` with one line where options contradict each other.
    """
    if options.crop == "auto":
        options.crop = next(iter(kinds_of_data(options).values()), crop_kinds.BOX)
    window = input_size.window_for(options.crop, options.crop)
    options.input_scale_size = options.input_scale_size or input_size.crop_for(options.image_size, window)
    options.standardization = options.standardization or registry.CLASSIFIERS[options.model_def].standardization
    if options.width != 1 and options.model_def not in registry.STAGES:
        error(f"--width {options.width:g}: must be 1 for --model_def {options.model_def}; it is for "
              f"{', '.join(registry.STAGES)}")
    if not (options.real or options.synthetic):
        error("--real: give a folder of photos, or --synthetic ones")
    if (options.learning_rate == -1) != bool(options.learning_rate_schedule_file):
        error("--learning_rate -1 and --learning_rate_schedule_file FILE: give both, or neither")
    if options.learning_rate_drops and (options.learning_rate == -1 or options.learning_rate_decay_factor != 1):
        error("--learning_rate_drops, --learning_rate_schedule_file, --learning_rate_decay_factor: give one of them")
    if sorted(set(options.learning_rate_drops)) != options.learning_rate_drops:
        error(f"--learning_rate_drops {' '.join(map(str, options.learning_rate_drops))}: must ascend")
    usual = LOSSES[options.loss]
    if usual:
        options.margin = usual[0] if options.margin is None else options.margin
        options.scale = options.scale or usual[1]
    if options.loss == "adaface" and options.batch_size * replicas_of(options).total < 2:
        error("--batch_size 1: --loss adaface takes the deviation within a batch; give 2 or more")
    if options.shared_head and not (options.real and options.synthetic):
        error("--shared_head: needs --real and --synthetic")
    for given, needed in (("filter_filename", "real"), ("lfw_pairs", "lfw_dir")):
        if getattr(options, given) and not getattr(options, needed):
            error(f"--{given}: needs --{needed}")
    if not options.synthetic and (options.score_weights != "none" or options.lambda_synthetic != 1):
        error("--score_weights, --lambda_synthetic: need --synthetic")
    if bool(options.filter_filename) != (options.filter_percentile < 100):
        error("--filter_filename and --filter_percentile below 100: give both, or neither")
    problem = registry.frozen_problem(options.model_def)
    if problem:
        error(f"{problem}; take --model_def small, nn4 or inception_resnet_v1")
    problem = registry.image_size_problem(options.model_def, options.image_size)
    if problem:
        error(problem)
