"""Compare the port with numbers of the original's own graph: python tests/check_goldens.py [DIR]

Every case DIR/*.npz (default: tests/golden) names its options; its weights and inputs follow tests/golden/rule.py. The
Trainer that main.py trains with is built for it, given those weights and inputs, and run for three steps. Prints the
largest relative error of each kind of number; exit status 1 if one is above its tolerance.

CPUs round convolutions differently, and where a and b of a loss |a - b|, or a ReLU's input and 0, agree to the last
digits, rounding decides what goes into the gradient. So the kernels of the original's run are chosen (AVX2, no oneDNN
operations, two threads), images, losses, scores and embeddings are compared as our graph computes them, and the
gradients and the first step are taken at the original's own images, fed in place of ours.
"""
import glob
import json
import os
import sys
import tempfile

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
GOLDEN = os.path.join(HERE, "golden")
KERNELS = {"TF_ENABLE_ONEDNN_OPTS": "0", "ONEDNN_MAX_CPU_ISA": "AVX2", "TF_NUM_INTRAOP_THREADS": "2"}
FORWARD, LATER_STEPS = 1e-4, 2e-3           # tolerances
NOT_OURS = {"g_lr", "d_lr", "ren_lr", "reg_lr", "lambda_c"}     # scalars that the original keeps as variables
RENAMED = {"size": "input_scale_size", "batch": "batch_size"}
INPUTS = {"photo": "real", "rendering": "syn", "label": "label", "paired_photo": "image_3dmm",
          "paired_rendering": "annot_3dmm"}
IMAGES = {"x": "x", "y": "y", "paired_y": "fitted", "AE_x_forw": "x_reconstruction", "AE_u_forw": "r_reconstruction",
          "AE_x_back": "y_reconstruction", "AE_u_back": "s_reconstruction"}


def write_data(folder, size, n_id):
    """Write a data set for shapes alone -> its sets: `n_id` identities of one black rendering, one photo, one pair."""
    from datasets.image_sets import find_pairs, find_photos, find_renderings
    from datasets.images import save_image
    from preflight import Data

    black = np.zeros([size, size, 3], np.uint8)
    for name in [f"syn/{i + 1}/1.png" for i in range(n_id)] + ["real/1.png", "paired/1.png", "paired/3dmm/1.png"]:
        os.makedirs(os.path.dirname(os.path.join(folder, name)), exist_ok=True)
        save_image(black, os.path.join(folder, name))
    return Data(find_photos(os.path.join(folder, "real")), find_renderings(os.path.join(folder, "syn")),
                find_pairs(os.path.join(folder, "paired")))


def build(case, folder, more=()):
    """The Trainer of a golden case, its variables by the rule; `more` are words of main.py's command line."""
    import rule

    from config import get_config
    from recognition.pretrained import Weights
    from trainer import Trainer

    case = dict(case)
    n_id = case.pop("n_id")
    options = {"model_def": "inception_resnet_v1", **{RENAMED.get(name, name): value for name, value in case.items()},
               "dropout_keep": 1, "random_crop": False, "random_flip": False, "pretrained_rec": "rule"}
    config, _ = get_config([word for name, value in options.items() for word in (f"--{name}", str(value))] + list(more))
    trainer = Trainer(config)
    data = write_data(folder, config.input_scale_size, n_id)
    trainer.build_model(data, classifier=Weights("rule", {}, None, "image"))
    trainer.set_values({name: rule.variable(name, v.shape) for name, v in trainer.variables.items()})
    return trainer


def relative(ours, golden, scale=None):
    """Largest |ours - golden|, relative to |golden| (to `scale` if given); infinite where the golden is an exact 0 and
    ours is not."""
    ours, golden = np.asarray(ours, np.float64), np.asarray(golden, np.float64)
    difference = np.abs(ours - golden)
    scale = np.broadcast_to(np.abs(golden if scale is None else scale), difference.shape)
    if not np.isfinite(difference).all():
        return np.inf
    return float(np.max(np.where(difference == 0, 0, difference / np.where(scale == 0, 1e-300, scale)), initial=0))


def original_images(golden, others):
    """The original's images of a case, from its file or from one of the `others` with the same norms; {} if none."""
    for donor in [golden, *others]:
        if all(f"img/{name}" in donor and donor[f"img_l2/{name}"] == golden[f"img_l2/{name}"] for name in IMAGES):
            return {name: donor[f"img/{name}"] for name in IMAGES}
    return {}


def check_forward(trainer, feed, golden):
    """Errors of images, losses, scores and embeddings at the rule's weights: {kind: error}."""
    graph = trainer.training
    ours = trainer.session.run(
        {"images": {name: getattr(graph.tower, field) for name, field in IMAGES.items()},
         "losses": graph.losses, "scores": graph.scores, "embeddings": graph.tower.embeddings}, feed)
    errors = {"images": 0.0}
    for name, image in ours["images"].items():
        norm = np.linalg.norm(image.astype(np.float64))
        errors["images"] = max(errors["images"], relative(norm, golden[f"img_l2/{name}"]))
        if f"img/{name}" in golden:
            stored = golden[f"img/{name}"]
            errors["images"] = max(errors["images"], relative(image, stored, np.abs(stored).max()))
    errors["losses"] = relative([ours["losses"][name] for name in golden["loss_names"]], golden["losses"])
    kinds = ["d_score", "s_score"] + ["c_score"] * (trainer.config.method_c == "magnet")    # the original has no others
    errors["scores"] = max(relative(ours["scores"][kind], golden[f"each/{kind}"].reshape(-1)) for kind in kinds)
    errors["embeddings"] = relative(ours["embeddings"], golden["embeddings"], np.abs(golden["embeddings"]).max())
    return errors


def check_gradients(trainer, feed, golden):
    """Errors of every gradient's norm and sum, both relative to the norm: {kind: error}."""
    errors = {}
    for name, pairs in trainer.training.gradients.items():
        gradients = trainer.session.run([gradient for gradient, _ in pairs], feed)
        by_name = {v.op.name: g.astype(np.float64) for g, (_, v) in zip(gradients, pairs)}
        listed, norms, sums = (golden[f"grad/{name}/{kind}"] for kind in ("names", "l2", "sum"))
        assert set(by_name) >= set(listed), set(listed) - set(by_name)
        errors[f"grad {name}"] = max(relative([np.linalg.norm(by_name[n]) for n in listed], norms),
                                     relative([by_name[n].sum() for n in listed], sums, norms))
    return errors


def check_step(trainer, feed, golden, number):
    """Run step `number` (1, 2, 3) and return its errors: {kind: error}."""
    import rule

    from engine.checkpoints import AVERAGE

    graph, at = trainer.training, f"canon_pre/{number}/"
    # The original never moves the centroids of the center loss, and its identity loss goes on from there.
    centers_move = trainer.config.method_c != "center"
    losses = trainer.run_step(number - 1, {"losses": graph.losses}, feed)["losses"]
    values = trainer.session.run(trainer.variables)
    compared = [i for i, name in enumerate(golden["loss_names"]) if centers_move or name != "c_loss"]
    names = list(golden["loss_names"])
    errors = {"losses": relative([losses[names[i]] for i in compared], golden[at + "losses_in_run"][compared]),
              "k": relative([values[k] for k in ("k_t", "k_t2", "k_t3")], golden[at + "k"])}
    assert values["step"] == golden[at + "step"]
    if centers_move:
        stored = golden[at + "centroids"]
        errors["centroids"] = relative(values["centroids/centers"], stored, np.abs(stored).max())

    def moved(name):
        return np.linalg.norm(values[name].astype(np.float64) - rule.variable(name, values[name].shape))

    for kind, suffix in (("variables", ""), ("averages", AVERAGE)):
        column = list(golden["var_stats_cols"]).index("delta_l2")
        deltas = zip(golden["var_names"], golden[at + ("shadow_stats" if suffix else "var_stats")][:, column])
        pairs = [(moved(name + suffix), delta) for name, delta in deltas if name not in NOT_OURS]
        errors[kind] = relative(*zip(*pairs))
    if at + "C_stats" in golden:
        names = golden["C_names"] if "C_names" in golden else golden[at + "C_names"]
        errors["classifier"] = relative([moved(name) for name in names], golden[at + "C_stats"][:, -1])
    return errors


def report(when, errors, tolerance):
    """Print the errors {kind: error}; True if all are within `tolerance`."""
    for kind, error in errors.items():
        print(f"  {when:13} {kind:11} {error:.1e}{'' if error <= tolerance else f'  ABOVE {tolerance:g}'}", flush=True)
    return max(errors.values()) <= tolerance


def errors_of(golden, others, more=()):
    """Yield the errors of one case, with `more` options, after each look at it: (when, {kind: error})."""
    import rule

    case = json.loads(str(golden["case"]))
    with tempfile.TemporaryDirectory() as folder:
        trainer = build(case, folder, more)
        graph, inputs = trainer.training, rule.inputs(case["size"], case["batch"])
        feed = {tensor: inputs[INPUTS[field]] for field, tensor in graph.batch._asdict().items()}
        feed[graph.lambda_c] = trainer.config.lambda_c
        images = {getattr(graph.tower, IMAGES[name]): image for name, image in original_images(golden, others).items()}
        yield "forward", check_forward(trainer, feed, golden)
        at_original = {**feed, **images}
        yield "forward", check_gradients(trainer, at_original, golden)
        for number in (1, 2, 3):
            yield f"after step {number}", check_step(trainer, at_original if number == 1 else feed, golden, number)
        trainer.close()


def check_case(path, golden, others):
    """Print the errors of one case; True if all are within their tolerances."""
    print(f"{os.path.basename(path)}: {json.loads(str(golden['case']))}")
    good = True
    for when, errors in errors_of(golden, others):
        good &= report(when, errors, FORWARD if when in ("forward", "after step 1") else LATER_STEPS)
    return good


def read_cases(folder):
    """{path: {key: array}} of the golden cases in a folder."""
    cases = {}
    for path in sorted(glob.glob(os.path.join(folder, "*.npz"))):
        with np.load(path, allow_pickle=False) as file:
            if "case" in file:
                cases[path] = dict(file)
    return cases


def main(folder=GOLDEN):
    """Check all cases in `folder` -> exit status."""
    for variable, value in KERNELS.items():
        os.environ.setdefault(variable, value)              # TensorFlow reads it when it is imported
    sys.path[:0] = [os.path.dirname(HERE), GOLDEN]
    from engine.startup import start
    start()
    import tensorflow as tf

    cases = read_cases(folder)
    if not cases:
        print(f"{folder}: no golden cases (*.npz with a `case`)", file=sys.stderr)
        return 2
    others = [*cases.values(), *read_cases(GOLDEN).values()]
    results = [check_case(path, golden, others) for path, golden in cases.items()]
    print(f"{sum(results)} of {len(results)} cases within tolerance (TensorFlow {tf.__version__})")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
