"""What gpu.py measures: its parts, and the cases of each. A case runs in a process of its own; see gpu_parts.py.

The order is that of use: what is still to be done when time is over matters least. How long a case may take bounds what
one that hangs can cost. Seconds that it should take on a modern GPU, reckoned and not measured:

    device 10; start 200 (cold, code may be compiled), of which a second run needs 30; placement 4 x 20;
    goldens 2 x 50; determinism 6 x 25; profile 2 x 25; synthesis 4 x 20; input 2 x 15; training 190: about 900 in all.
    steps: 18 x 17 without XLA, of which 12 are the start and the graph, and 18 x 35 with XLA: about 950.

That is more than 25 minutes by some of the steps with XLA, which come last. The command stops at --minutes, says which
cases are left, and does them when it is run again.
"""
from typing import NamedTuple

# Options of main.py that every case has besides its own: networks of the default widths, and a classifier of random
# weights, as in step.py.
FULL = {"model_def": "inception_resnet_v1", "pretrained_rec": "random"}
# The least that runs every part's code: 16 pixels, a few filters.
NARROW = {"input_scale_size": 16, "conv_hidden_num": 4, "conv_hidden_num_res": 4, "z_num": 8, "num_res_rep": 1}
NARROW_CLASSIFIER = {"model_def": "small", "image_size": 32, "embedding_size": 16, "pretrained_rec": "random"}
SIZES, BATCHES, PRECISIONS = (64, 108), (16, 64, 256), ("float32", "tf32", "bfloat16")


class Case(NamedTuple):
    """One measurement."""
    part: str
    name: str               # unique within the part
    kind: str               # of gpu_parts.KINDS: the function that measures
    settings: dict          # its arguments
    limit: float            # seconds that it may take

    @property
    def key(self):
        """Name the case among all of them."""
        return self.part, self.name


class Scale(NamedTuple):
    """How much is measured: all of it, or as little as runs all code."""
    quick: bool

    @property
    def classifier(self):
        """Give the options of the classifier."""
        return NARROW_CLASSIFIER if self.quick else FULL

    def options(self, size=64, batch_size=16, **more):
        """Give options of main.py for crops of `size` pixels."""
        batch_size = 2 if self.quick else batch_size
        return {"input_scale_size": size, **(NARROW if self.quick else {}), **self.classifier,
                "batch_size": batch_size, **more}

    def limit(self, seconds):
        """Give the seconds that a case may take: those given, or 5 minutes for what a busy CPU runs."""
        return 300 if self.quick else seconds


def _device(scale):
    yield "", "device", {}, 60


def _start(scale):
    yield "", "start", {"options": scale.options(method_c="none"), "kinds": ["cold"] if scale.quick else
                        ["cold", "warm"]}, 420


def _placement(scale):
    for name, more in (("training, began", {}), ("training, hinge", {"game": "hinge", "augment": "shift,cut,color"})):
        yield name, "placement", {"what": "training", "options": scale.options(**more)}, 120
    yield "synthesis", "placement", {"what": "synthesis", "options": scale.options(generate_dataset=True)}, 120
    yield "classifier", "placement", {"what": "classifier", "options": {
        **({"model_def": "small", "image_size": 32, "embedding_size": 16} if scale.quick else {}),
        "batch_size": 4 if scale.quick else 90}}, 120


def _goldens(scale):
    for precision in ("float32",) if scale.quick else ("float32", "tf32"):
        yield precision, "goldens", {"precision": precision, "files": ["B"] if scale.quick else []}, 180


def _determinism(scale):
    steps = 4 if scale.quick else 200
    for deterministic in (True, False):
        word = "deterministic" if deterministic else "free"
        for role in ("first", "again", "resumed"):
            if not scale.quick or deterministic or role == "first":
                yield f"{word}, {role}", "train_steps", {
                    "options": scale.options(), "steps": steps, "deterministic": deterministic,
                    "resume": role == "resumed", "keep": word if role != "again" else ""}, 150


def _profile(scale):
    for size in (16,) if scale.quick else SIZES:
        yield f"{size}", "profile", {"options": scale.options(size)}, 120


def _synthesis(scale):
    for size in (16,) if scale.quick else SIZES:
        for scores in (True, False):
            yield f"{size}, {'with scores' if scores else 'images only'}", "synthesis", {
                "options": scale.options(size, generate_dataset=True, scores=scores), "seconds": scale.quick or 5}, 90


def _input(scale):
    for size in (16,) if scale.quick else SIZES:
        yield f"{size}", "input_alone", {"options": scale.options(size, method_c="none"),
                                         "batches": 3 if scale.quick else 100}, 90


def _training(scale):
    yield "", "training", {"seconds": 1 if scale.quick else 120, "quick": scale.quick}, 420


def _steps(scale):
    if scale.quick:
        chosen = [(False, precision, 16, 2) for precision in ("float32", "bfloat16")]
    else:
        chosen = [(xla, precision, size, batch) for xla in (False, True) for batch in BATCHES for size in SIZES
                  for precision in PRECISIONS]
    for xla, precision, size, batch in chosen:
        more = {"method_c": "none"} if scale.quick else {}
        yield f"{size}, {batch}, {precision}{', XLA' if xla else ''}", "steps", {
            "options": scale.options(size, batch, precision=precision, xla=xla, **more),
            "seconds": .1 if scale.quick else 3}, 150 if xla else 90


PARTS = {"device": _device, "start": _start, "placement": _placement, "goldens": _goldens,
         "determinism": _determinism, "profile": _profile, "synthesis": _synthesis, "input": _input,
         "training": _training, "steps": _steps}


def cases_of(parts, quick):
    """List the Cases of `parts`, names of PARTS, in the order of PARTS."""
    scale = Scale(quick)
    return [Case(part, name, kind, settings, scale.limit(limit)) for part, list_cases in PARTS.items() if part in parts
            for name, kind, settings, limit in list_cases(scale)]
