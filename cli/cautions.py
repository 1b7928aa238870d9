"""Options that contradict each other or what they name: a warning says which one counts, or what is odd.

Only what stands on the command line is looked at: a preset and a run give many options that a mode has no use for.
"""
import glob
import logging
import os
from collections.abc import Callable
from typing import NamedTuple

from cli.shards import FINISH


class Rule(NamedTuple):
    """Options that have an effect only where `used(options)` is true; `why` says, for users, why they have none."""
    names: tuple
    used: Callable
    why: str


def _draws(config):
    """Tell whether main.py draws photos: in a training its sheet, else a data set or samples."""
    return config.train_generator or config.generate_dataset or not config.is_train


WITHOUT_OTHERS = Rule(("collective_timeout", "collectives"), lambda options: options.cluster,
                      "one process trains, without --cluster and TF_CONFIG")
MAIN = (
    Rule(("train_generator",), lambda config: config.is_train, "--is_train False counts, and nothing is trained"),
    Rule(("test_data_path", "sample_per_image"), lambda config: not config.is_train,
         "only --is_train False draws samples"),
    Rule(("save_syn_dataset", "scores", "judge"), lambda config: config.generate_dataset,
         "only --generate_dataset True makes a data set"),
    Rule(("overwrite",), lambda config: config.generate_dataset or config.fit_dataset,
         "only --generate_dataset True and --fit_dataset True make images"),
    Rule(("save_fitting",), lambda config: config.fit_dataset, "only --fit_dataset True makes renderings"),
    Rule(("generation_dropout", "dropout_keep", "background"), _draws, "no photo is made"),
    Rule(("num_log_id", "num_log_samples"), lambda config: config.train_generator or not config.is_train,
         "no sample grid is drawn"),
    Rule(("profile", "max_step", "lr_update_step", "lr_lower_boundary", "warm_up", "g_lr", "d_lr", "beta1", "beta2",
          "average_decay", "augment", "r1", "gamma", "lambda_k", "lambda_d", "lambda_s", "lambda_p", "lambda_f",
          "lambda_m", "lambda_e", "lambda_c", "lambda_c_upper", "pixel_loss", "chroma_weight", "loosen_step",
          "weight_decay", "center_loss_alfa", "random_crop", "random_flip", "keep_probability", "log_step", "save_step",
          "checkpoint_step", "keep_every", "batch_size", "num_gpu"),
         lambda config: config.train_generator, "nothing is trained"),
    Rule(("lambda_c", "lambda_c_upper", "center_loss_alfa", "random_crop", "random_flip", "keep_probability"),
         lambda config: config.method_c != "none",
         "--method_c none counts, and there is no identity loss"),
    Rule(("pretrained_rec",), lambda config: config.pretrained_rec and not (
        config.train_generator and config.method_c == "none" and not (config.generate_dataset and config.scores)),
         "nothing that is asked for needs a classifier (--method_c none, --scores False or a mode without scores)"),
    Rule(("model_def", "embedding_size", "image_size", "standardization", "facenet_scope"),
         lambda config: config.pretrained_rec or config.method_c != "none", "no classifier is used"),
    Rule(("gamma", "lambda_k", "z_num"), lambda config: config.game == "began", "--game hinge has none"),
    Rule(("d_scales", "d_layers", "augment", "r1", "lambda_m"), lambda config: config.game == "hinge",
         "only --game hinge has it"),
    Rule(("pixel_loss",), lambda config: config.lambda_p, "--lambda_p is 0"),
    Rule(("chroma_weight",), lambda config: config.lambda_p or config.lambda_f, "--lambda_p and --lambda_f are 0"),
    Rule(("weight_decay",), lambda config: config.method_c == "softmax" or config.relax_c,
         "it acts only with --method_c softmax or --relax_c True"),
    Rule(("warm_up",), lambda config: config.num_gpu > 1 or config.cluster, "it acts only with --num_gpu above 1"),
    WITHOUT_OTHERS,
    Rule(("beta2",), lambda config: config.optimizer != "sgd", "--optimizer sgd has no beta2"),
    Rule(("lr_lower_boundary", "lr_update_step"),
         lambda config: config.lr_lower_boundary < max(config.g_lr, config.d_lr),
         "the learning rates begin below --lr_lower_boundary, and stay"),
    Rule(("loosen_step",), lambda config: config.loosen_step < config.max_step, "--max_step ends the training before"),
    Rule(("cont",), lambda config: not config.load_path, "--load_path counts, which names the run"))
TRAIN = (
    Rule(("lfw_nrof_folds", "lfw_batch_size", "lfw_distance_metric", "lfw_use_flipped_images", "lfw_subtract_mean"),
         lambda options: options.lfw_dir, "without --lfw_dir, nothing is verified"),
    Rule(("center_loss_factor", "center_loss_alfa"), lambda options: options.loss == "softmax_center",
         "only --loss softmax_center has a center loss"),
    Rule(("margin", "scale"), lambda options: options.loss != "softmax_center",
         "--loss softmax_center counts, which has neither"),
    Rule(("center_loss_alfa",), lambda options: options.center_loss_factor > 0,
         "--center_loss_factor 0 counts, and there is no center loss"),
    Rule(("learning_rate_decay_epochs",), lambda options: options.learning_rate_decay_factor != 1,
         "--learning_rate_decay_factor 1 counts, and the rate stays"),
    WITHOUT_OTHERS,
    Rule(("filter_min_nrof_images_per_class",), lambda options: options.real, "it filters --real only"))
VERIFY = (
    Rule(("nrof_folds", "pairs_per_fold", "seed", "use_flipped_images", "baselines", "input_scale_size"),
         lambda options: not options.bin, "--bin counts, whose protocol sets it"),
    Rule(("pairs_per_fold",), lambda options: not options.pairs, "--pairs counts, and none are chosen"),
    Rule(("seed",), lambda options: not options.pairs or options.baselines,
         "--pairs counts, and nothing is chosen at random"))
ALIGN = Rule(("detection_size",), lambda options: not options.labels, "--labels counts, and nothing is detected"),
PEOPLE = (
    Rule(("n_im", "pitch", "yaw", "roll"), lambda options: not options.sweep, "--sweep counts"),
    Rule(("size", "margin"), lambda options: options.crop != "none", "--crop none counts: the whole picture"),
    Rule(("shard",), lambda options: options.shard == FINISH or options.shard[0] <= options.n_id,
         "beyond --n_id, so this part has no identity"))


NOT_DRAWN = Rule(("age", "sex", "origin", "children"), lambda options: False,
                 "only the people of --model makehuman are drawn by it"),


def warn_of_unused(rules, options, typed):
    """Warn of each option in `typed`, {option: value}, that has no effect by one of the `rules`.

    `options` are the resolved ones. A typed value that asks for nothing, such as 0 or False, is no contradiction.
    """
    told = set()
    for rule in rules:
        idle = [name for name in rule.names if typed.get(name) and name not in told]
        if idle and not rule.used(options):
            told.update(idle)
            logging.warning("%s: no effect here: %s", ", ".join(f"--{name}" for name in idle), rule.why)


def warn_of_same_folder(first, second, why):
    """Warn where two folders, each (what a user typed, path), are one by their real paths; `why` says what is odd."""
    if os.path.realpath(first[1]) == os.path.realpath(second[1]):
        logging.warning("%s: the same folder as %s: %s", first[0], second[0], why)


def warn_of_gpus(config, typed):
    """Warn where --num_gpu asks for more GPUs than this machine shows."""
    if typed.get("num_gpu", 1) == 1 or not getattr(config, "train_generator", True):
        return
    count = count_gpus() if config.use_gpu else 0
    if count < config.num_gpu:
        why = "this machine shows" if config.use_gpu else "--use_gpu False counts, which leaves"
        logging.warning("--num_gpu %d: %s %s; %d batches a step are computed on what there is, one after another",
                        config.num_gpu, why, f"{count} GPU{'s' * (count != 1)}", config.num_gpu)


def count_gpus():
    """Count the NVIDIA GPUs that this process may see, without any driver: by their device files."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    there = len(glob.glob("/dev/nvidia[0-9]*"))
    if chosen is None:
        return there
    return min(there, len([name for name in chosen.split(",") if name.strip() and name.strip() != "-1"]))
