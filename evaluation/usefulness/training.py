"""One training of the small recogniser that tells the use of a set: its recipe, its options, its embeddings."""
import hashlib
import json
import math
from typing import NamedTuple

from cli.options import Command, parse
from datasets import crop_kinds
from evaluation.subjects import Subject
from recognition import recognizer_options
from recognition.labelled_data import Faces
from utils import Diverged, Interrupted

PRESET = "cpu"                  # whose recipe is taken: the network `small` at 64 x 64 pixels
# Options that change nothing of what is learned: where, and on what machine.
_ELSEWHERE = {"preset", "data_dir", "real", "synthetic", "log_dir", "task", "num_worker", "use_gpu", "max_nrof_epochs",
              "learning_rate_decay_epochs"}
_TRAIN = Command("recognizer.py", "train", "", (), recognizer_options.TRAIN, recognizer_options.resolve, presets=True)


class Settings(NamedTuple):
    """How each recogniser is trained: all rows alike."""
    steps: int = 360                # of each training; the presets' 30 epochs of 1,000 photos are about as many
    seeds: int = 3                  # trainings of each row
    batch_size: int = 90            # images of a step, and of a row with photos and a set as many of each
    image_size: int | None = None   # side in pixels of the network's input; None: the recipe's
    side: int | None = None         # side in pixels at which all crops are read; None: image_size, or the recipe's
    workers: int = 4                # threads that read and decode images
    use_gpu: bool = True


def options_of(settings, seed, crop):
    """Make the options of `recognizer.py train` for Settings, with crops of the kind `crop` to learn from.

    They are those of the preset PRESET. The learning rate falls after the same share of the steps as there.
    """
    words = {"batch_size": settings.batch_size, "seed": seed, "crop": crop, "num_worker": settings.workers,
             "use_gpu": settings.use_gpu, "image_size": settings.image_size,
             "input_scale_size": settings.side or settings.image_size}
    return parse(_TRAIN, ["--preset", PRESET, *(word for name, value in words.items() if value is not None
                                                for word in (f"--{name}", str(value)))]).options


def crop_of(row):
    """Tell the kind of the crops of a Row -> one of crop_kinds.KINDS, None where it has both kinds."""
    kinds = {crop_kinds.kind_of(images.root) for images in (row.real, row.synthetic) if images}
    return kinds.pop() if len(kinds) == 1 else None


def key_of(settings, options, data):
    """Digest what a training depends on -> a word. `data` are digests of the images, a value that JSON can hold."""
    said = {name: value for name, value in vars(options).items() if name not in _ELSEWHERE}
    said |= {"steps": settings.steps, "decay": _decay_step(settings, options), "data": data}
    return hashlib.blake2b(json.dumps(said, sort_keys=True).encode(), digest_size=16).hexdigest()


def _decay_step(settings, options):
    """Compute the step after which the learning rate falls."""
    return max(1, round(settings.steps * options.learning_rate_decay_epochs / options.max_nrof_epochs))


def train(row, held_out, settings, options, tell, stop):
    """Train a recogniser on a Row, and embed the Renderings `held_out` -> Subject.

    `tell()` is called after each step. Nothing is written. Raises Interrupted where `stop`, a utils.StopRequest, has
    got a signal, and Diverged where a loss is not finite. With 0 steps, the network is that of the first weights.
    """
    # Here and not above: TensorFlow loads with them, which takes seconds.
    from losses import classifier_rate
    from recognition.training import ClassifierTrainer

    def schedule(step):
        """Compute the learning rate of a step."""
        return classifier_rate(step, 1, [(0, options.learning_rate)], _decay_step(settings, options),
                               options.learning_rate_decay_factor)

    trainer = ClassifierTrainer(options, Faces(row.real, row.synthetic, row.weights), schedule,
                                embedded=crop_kinds.kind_of(held_out.root))
    try:
        for step, losses in enumerate(trainer.steps(settings.steps), 1):
            if not math.isfinite(losses["total"]):
                raise Diverged(f"the training diverged in step {step}")
            tell()
            if stop.signal:
                raise Interrupted(stop.signal)
        return Subject(held_out.root, held_out, trainer.embed(held_out), {})
    finally:
        trainer.close()
