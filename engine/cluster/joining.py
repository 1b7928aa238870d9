"""Make the team of a training from its options and its data, and say what has to be the same for all workers."""
import hashlib

import tensorflow as tf

from engine import runs
from engine.cluster.addresses import cluster_of
from engine.cluster.team import ALONE, DIGITS, Team
from engine.session import session_options

# Options that may differ: each machine has its own places, devices and threads.
OF_A_MACHINE = {"worker", "cluster", "collective_timeout", "collectives", "use_gpu", "num_worker", "log_level",
                "log_dir", "task", "profile", "preset", "dry_run", "load_path", "cont", "pretrained_gen", "data_dir",
                "pretrained_rec", "lfw_dir", "lfw_pairs", "filter_filename", "learning_rate_schedule_file",
                "checkpoint_minutes", "patience"}


def join(options, image_sets):
    """Make the Team of the resolved options of a training, ALONE where one process trains. Use it as a context.

    `image_sets` {name: set} are what is trained on, tuples of names, labels and the like.
    """
    cluster = cluster_of(options)
    if not cluster:
        return ALONE
    has_gpu = options.use_gpu and bool(tf.config.list_physical_devices("GPU"))
    hint = options.collectives if options.collectives != "auto" else "nccl" if has_gpu else "ring"
    card = {"the program": runs.digest_of_program()[:DIGITS],
            "the version of TensorFlow": runs.package_version("tensorflow")}
    card |= {f"--{name}": value for name, value in vars(options).items() if name not in OF_A_MACHINE}
    card |= {f"the images of {name}": digest_of_images(images) for name, images in image_sets.items() if images}
    return Team(cluster, session_options(options.use_gpu, getattr(options, "xla", False)), hint, card)


def digest_of_images(images):
    """Digest the names, labels and identities of a set of images -> words, which tell their number too.

    `images` are an ImageSet, Renderings, or Pairs, which are two ImageSets. Where they lie does not count.
    """
    total, sets = hashlib.sha256(), [images] if hasattr(images, "root") else images
    for _, *columns in sets:
        for column in columns:
            total.update("\0".join(map(str, column)).encode(errors="surrogateescape") + b"\n")
    return f"{len(sets[0].names)} images with digest {total.hexdigest()[:DIGITS]}"
