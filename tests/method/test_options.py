"""main.py, preflight.py, trainer.py, graph.py: every option has the effect that its help promises, in a table.

A row has a value, what to look at, and what is seen.
"""
import contextlib
import functools
import glob
import itertools
import logging
import os
import re
import shutil
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf

import data_loader
import graph
import losses
import main
import preflight
import trainer as trainer_module
import utils
from config import COMMAND, get_config
from conftest import draw_face, NAMES, NARROW, SMALL, small_classifier, tree, words, write, write_checkpoint
from datasets.image_sets import Pairs
from engine import checkpoints, layers, runs
from engine.cluster.addresses import cluster_of
from engine.cluster.joining import join
from engine.session import session_options
from evaluation import judge_command
from games import hinge
from graph import make_optimizer, Networks, TrainingGraph
from synthesis import products
from synthesis.graphs import SynthesisGraph
from synthesis.sheets import sample_sheet
from trainer import Trainer
from utils import UserError

tf1 = tf.compat.v1
pytestmark = pytest.mark.slow

BASE = {**NAMES, **NARROW, **SMALL, "batch_size": 2, "method_c": "none"}


class World(NamedTuple):
    """What the rows look at: folders, and a classifier's checkpoint."""
    data: str           # renderings of 3 identities, photos, pairs; `real/half` and `others` too
    classifier: str
    logs: str           # runs `old` and `new`, each with a checkpoint
    scratch: object     # a new folder at each call


class Case(NamedTuple):
    """A command line, and what a probe may look at and change."""
    world: World
    line: tuple
    patch: pytest.MonkeyPatch

    @property
    def config(self):
        return get_config(self.line)[0]

    @property
    def data(self):
        return preflight.check(self.config).data


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("world")
    for name in ("data", "elsewhere"):
        for folder in ("real", "paired", "paired/3dmm", "others", "others/3dmm", "real/half"):
            for number in (1, 2):
                write(str(root / name), f"{folder}/{number}.png", draw_face(number, 1, 16, photo=True))
        for identity, number in itertools.product((1, 2, 3), (1, 2)):
            image = draw_face(identity, number, 16, photo=False)
            for folder in ("syn", "others"):
                write(str(root / name), f"{folder}/{identity}/{number}.png", image)
    for number, run in enumerate(("old", "new")):
        (root / "logs" / run).mkdir(parents=True)
        prefix = write_checkpoint(root / "logs" / run / "model.ckpt-5", {
            "step": np.int32(5), preflight.GENERATOR: np.zeros([7, 7, 3, NARROW["conv_hidden_num_res"]], np.float32)})
        os.utime(f"{prefix}.index", (number, number))
    numbers = itertools.count()

    def scratch():
        folder = root / f"scratch{next(numbers)}"
        folder.mkdir()
        return str(folder)

    classifier = write_checkpoint(root / "classifier", small_classifier())
    return World(str(root / "data"), classifier, str(root / "logs"), scratch)


def command_line(world, options):
    """The words of BASE with `options`, in which {data}, {logs} and {classifier} stand for the world's."""
    options = {**BASE, "data_dir": "{data}", "log_dir": "{logs}", **options}
    return tuple(word.format(**world._asdict()) for word in words(**options))


@pytest.fixture(autouse=True)
def log_level_as_before():
    level = logging.getLogger().level
    yield
    logging.getLogger().setLevel(level)


# Probes: what is looked at

def data_of(kind):
    """The folder, seen from the world's data, of an image set."""
    def probe(case):
        found = getattr(case.data, kind)
        found = found.photos if isinstance(found, Pairs) else found
        return found and os.path.relpath(found.root, case.world.data)
    return probe


def resumed(case):
    """The run that a training goes on with."""
    run = preflight.find_weights(case.config)[0]
    return run and os.path.basename(run)


def source(case):
    """The run that synthesis takes its weights from."""
    return os.path.basename(preflight.find_weights(case.config)[1])


def run_directory(case):
    """(folder, start of the name) of a new run directory."""
    with runs.Run(case.config, []) as run:
        folder, name = os.path.split(run.folder)
    return os.path.relpath(folder, case.world.logs), name.split("_gen_")[0]


def asked(case, do):
    """What `do()` asks the trainer to do, and the folders to write to, seen from the world's data."""
    calls = []

    class Recorder:
        def __init__(self, config, team):
            pass

        def build_model(self, data, synthesis, fitting, crop):
            pass

        def train(self, run, samples, weights):
            calls.append(("train",))
            return SimpleNamespace(folder="run")

        def load_weights(self, path):
            return path

        def generate_dataset(self, product):
            calls.append(("generate_dataset", os.path.relpath(product.folder, case.world.data)))

        def fit_dataset(self, product):
            calls.append(("fit_dataset", os.path.relpath(product.folder, case.world.data)))

        def test(self, renderings, test_renderings, folder, prefix):
            calls.append(("test",))

        def close(self):
            pass

    case.patch.setattr(trainer_module, "Trainer", Recorder)
    case.patch.setattr(products, "begin_product", lambda config, product, prefix: contextlib.nullcontext())
    case.patch.setattr(products, "end_product", lambda config, product: None)
    do()
    return calls


def work(case):
    """What main.py asks the trainer to do."""
    return asked(case, lambda: main.run(case.config, preflight.check(case.config)))


def judged(case):
    """The folders that are judged after main.py's work: the set, photos, renderings; nothing where none is."""
    found = []
    case.patch.setattr(preflight, "check_judging", lambda config: None)      # the photos here are of no people
    case.patch.setattr(judge_command, "judge", lambda options, words: found.extend(
        os.path.basename(name) for name in (*options.data, options.photos, options.renderings)))
    work(case)
    return found


def begun_anew(case):
    """May a folder be written to that was made with another seed?"""
    folder = Path(case.world.data) / "generated"
    folder.mkdir()
    (folder / "settings.json").write_text('{"command": "main.py --generate_dataset", "random_seed": 99}')
    try:
        preflight.check(case.config)
    except UserError as error:
        return "random_seed 99 there" not in str(error)
    finally:
        shutil.rmtree(folder)
    return True


def done(case):
    """What the whole command asks the trainer to do."""
    case.patch.setattr(main, "start", lambda xla, precision: None)         # it has been started
    return asked(case, lambda: main.main(case.line))


def sheet(case):
    """(cells, columns, colourless?) of the sheet of samples."""
    made = sample_sheet(case.config, case.data.renderings)
    return len(made.images), made.columns, bool((made.images == made.images[..., :1]).all())


def columns(case):
    """Columns of the sheets that --is_train False draws of a folder."""
    trainer, seen = Trainer(case.config), []
    trainer.generate = lambda sheet, path: seen.append(sheet.columns)
    trainer.test(None, case.data.test_renderings, "", "model.ckpt-5")
    return seen


def refused(case):
    """Is the command line an error?"""
    try:
        return not case.config
    except SystemExit:
        return True


def log_level(case):
    utils.set_up_logging(case.config.log_level)
    return logging.getLogger().level


def gpus(case):
    """The number of GPUs that a session may see at most; None: all."""
    return session_options(case.config.use_gpu).device_count.get("GPU")


def rates(step):
    """(g_lr, d_lr, lambda_c) that a step of the training is given."""
    def probe(case):
        trainer = Trainer(case.config)
        trainer.training = SimpleNamespace(g_lr="g_lr", d_lr="d_lr", lambda_c="lambda_c", train_op=None)
        trainer.session = SimpleNamespace(run=lambda fetches, feed: feed)
        feed = trainer.run_step(step, {})
        return tuple(float(f"{feed[name]:.6g}") for name in ("g_lr", "d_lr", "lambda_c"))
    return probe


GRADIENTS = (1., -2., 1.)


def updates(case):
    """What GRADIENTS make of a weight that is 0, at rate .1."""
    with tf.Graph().as_default(), tf1.Session() as session:
        tf1.set_random_seed(1)
        weight = tf1.get_variable("w", initializer=0., use_resource=True)
        gradient = tf1.placeholder(tf.float32, [])
        step = make_optimizer(case.config, tf.constant(.1)).apply_gradients([(gradient, weight)])
        session.run(tf1.global_variables_initializer())
        for value in GRADIENTS:
            session.run(step, {gradient: value})
        return round(float(session.run(weight)), 5)


def updated(rule, beta1=.9, beta2=.999):
    """The same in Python: Kingma and Ba 2015; Tieleman and Hinton 2012, with momentum; Polyak 1964."""
    weight = mean = 0.
    square = 1. if rule == "rmsprop" else 0.
    for t, g in enumerate(GRADIENTS, 1):
        square = beta2 * square + (1 - beta2) * g * g
        if rule == "sgd":
            mean = beta1 * mean + .1 * g
            weight -= mean
        elif rule == "rmsprop":
            mean = beta1 * mean + .1 * g / np.sqrt(square + 1e-10)
            weight -= mean
        else:
            mean = beta1 * mean + (1 - beta1) * g
            weight -= .1 * np.sqrt(1 - beta2 ** t) / (1 - beta1 ** t) * mean / (np.sqrt(square) + 1e-8)
    return round(weight, 5)


@functools.cache
def networks(line):
    """Of the synthesis with scores: side of its images, shape of every variable, and the operations."""
    config, _ = get_config(line)
    with tf.Graph().as_default() as graph:
        tf1.set_random_seed(config.random_seed)
        side = SynthesisGraph(Networks(config), True).photos.shape[1]
        return side, {v.op.name: v.shape.as_list() for v in tf1.global_variables()}, graph.get_operations()


def side(case):
    return networks(case.line)[0]


def shape(name):
    """Shape of a variable, None where there is none."""
    return lambda case: networks(case.line)[1].get(name)


def blocks(case):
    """The number of residual blocks of each generator."""
    return [len({name.split("/")[1] for name in networks(case.line)[1] if name.startswith(f"{net}/R")})
            for net in ("G_inf", "G_inv")]


def classifier_input(case):
    """Side of the images that reach the classifier's first convolution."""
    operation, = (op for op in networks(case.line)[2] if op.type == "Conv2D" and "Conv2d_1/" in op.name)
    return operation.inputs[0].shape[1]


def precisions(case):
    """The number formats of the convolutions."""
    return {op.inputs[0].dtype.name for op in networks(case.line)[2] if op.type == "Conv2D"}


def started_with(case):
    """The precision with which main.py starts TensorFlow."""
    asked = []
    case.patch.setattr(main, "start", lambda xla, precision: asked.append(precision))
    case.patch.setattr(main, "tell", lambda config, data: None)
    main.main([*case.line, "--dry_run"])
    return asked


def fused(case):
    """Does a session let XLA fuse operations?"""
    return session_options(True, case.config.xla).graph_options.optimizer_options.global_jit_level > 0


def noise(case):
    """How often synthesis draws random numbers: for each image on its own."""
    return sum(op.type.startswith("StatelessRandomUniform") for op in networks(case.line)[2])


def forward(case, look):
    """`look(graph, session)` at a training without its gradients, which take seconds, fed by its own pipeline."""
    with tf.Graph().as_default(), tf1.Session(config=session_options(case.config.use_gpu)) as session:
        tf1.set_random_seed(case.config.random_seed)
        graph = TrainingGraph(Networks(case.config), case.data, gradients=False)
        session.run(tf1.global_variables_initializer())
        session.run(graph.iterator.initializer, {graph.start_step: 0})
        return look(graph, session)


def calls(case, module, name, pick):
    """`pick(*arguments)` of every call of `module.name` while a training's forward part is built."""
    function, seen = getattr(module, name), []

    def called(*arguments):
        seen.append(pick(*arguments))
        return function(*arguments)

    case.patch.setattr(module, name, called)
    forward(case, lambda graph, session: None)
    case.patch.setattr(module, name, function)
    return seen


def calls_of(module, name, pick):
    """A probe of `calls`."""
    return lambda case: calls(case, module, name, pick)


def pairs_changed(case):
    """Are the paired photos other ones than those of the pipeline?"""
    def look(graph, session):
        seen, read = session.run([graph.tower.paired_photo, graph.batch.paired_photo])
        return not np.allclose((seen + 1) * 127.5, read, atol=.01)
    return forward(case, look)


def beside_pixel_loss(case, other):
    """p_loss and f_loss: each beside the absolute pixel loss and the loss `other` of the same images and mask."""
    def look(graph, session):
        tower = graph.tower
        compared = [(tower.x, tower.s, tower.mask), (tower.painted, tower.paired_photo, tower.paired_mask)]
        return session.run([[graph.losses[name], losses.pixel_loss(*images), other(*images)]
                            for name, images in zip(("p_loss", "f_loss"), compared)])
    return forward(case, look)


def chroma_counts(case):
    """How often does the chroma loss count in p_loss and in f_loss?"""
    return [round(float((loss - pixels) / chroma), 2)
            for loss, pixels, chroma in beside_pixel_loss(case, losses.chroma_loss)]


def squared_ones(case):
    """Which of p_loss and f_loss is the squared pixel loss, and which the absolute one?"""
    return ["squared" if np.isclose(loss, squared, rtol=1e-4) else "absolute" if np.isclose(loss, pixels, rtol=1e-4)
            else "neither" for loss, pixels, squared in beside_pixel_loss(case, losses.squared_pixel_loss)]


def edges_compared(case):
    """Is e_loss that of G's photo beside its rendering, where the rendering shows a face?"""
    def look(graph, session):
        if "e_loss" not in graph.losses:
            return None
        tower = graph.tower
        renderings, photos = session.run([graph.batch.rendering, tower.r])
        renderings[:, :, :6] = 0
        got, wanted, whole, swapped = session.run([
            graph.losses["e_loss"], losses.edge_loss(tower.x, tower.s, tower.mask),
            losses.edge_loss(tower.x, tower.s, tf.ones_like(tower.mask)),
            losses.edge_loss(tower.s, tower.x, tower.mask)],
            {graph.batch.rendering: renderings, tower.x: photos})           # G's own have no edges yet
        return bool(np.isclose(got, wanted, rtol=1e-4) and not np.isclose(got, [whole, swapped], rtol=1e-3).any())
    return forward(case, look)


def pairs_matched(case):
    """Is m_loss that of D_forw's features, with the photo around the face in both images?"""
    def look(graph, session):
        tower, net = graph.tower, graph.networks
        if "m_loss" not in graph.losses:
            return None
        made = tf.where(tower.paired_mask > 0, tower.painted, tower.paired_photo)
        whole, faces = (net.game.match_features(net.D_forw, images, tower.paired_photo)
                        for images in (tower.painted, made))
        renderings = session.run(graph.batch.paired_rendering)
        renderings[:, :, :6] = 0
        got, whole, faces = session.run([graph.losses["m_loss"], whole, faces],
                                        {graph.batch.paired_rendering: renderings})
        return bool(np.isclose(got, faces, rtol=1e-4) and not np.isclose(got, whole, rtol=1e-3))
    return forward(case, look)


def background_of_pairs(case):
    """Is the background of pairs that of their renderings as they were read, though G sees these shaded?"""
    function, asked = graph._is_background, []
    case.patch.setattr(graph, "_is_background", lambda s: asked.append(s) or function(s))

    def look(built, session):
        decides, seen, read = session.run([asked[-1], built.tower.paired_rendering, built.batch.paired_rendering])
        return np.allclose((decides + 1) * 127.5, read, atol=.01) and not np.allclose(decides, seen, atol=.01)
    return forward(case, look)


def workers(case):
    """The threads that decode photos, renderings and pairs."""
    return calls(case, data_loader, "in_parallel", lambda dataset, function, workers: workers)


def keeps(case):
    """The keep probability of each dropout."""
    return calls(case, layers, "dropout", lambda x, how: how.keep)


def places_and_flips(case):
    """(does the classifier see crops at random places, and mirrored ones?)"""
    return calls(case, graph, "preprocess", lambda x, view, offset=None, flips=None: (
        offset is not None, flips is not None))


def batch(case):
    """The length of each part of a batch."""
    return forward(case, lambda graph, session: [len(part) for part in session.run(graph.batch)])


def devices(case):
    """The devices that the convolutions ask for."""
    return forward(case, lambda graph, session: sorted(
        {op.device for op in session.graph.get_operations() if op.type == "Conv2D"}))


def replicas(case):
    """How many shares a batch has, and which ones this worker computes."""
    return forward(case, lambda graph, session: tuple(graph.replicas))


def draws(case):
    """A weight of G, the sum of the photos, and a pixel of the first photo made."""
    return forward(case, lambda graph, session: [float(np.ravel(value)[0]) for value in session.run(
        [graph.networks.G.variables[0], tf.reduce_sum(graph.tower.r), graph.tower.x])])


def identity_loss(case):
    """(c_loss with all centroids at 0; do Logits learn; do centroids move; does the classifier learn?)"""
    def look(graph, session):
        names = [v.op.name for v in graph.trained["G"]]
        return (round(float(session.run(graph.losses["c_loss"])), 5), "Logits/weights" in names,
                graph.moved_centroids is not None, "InceptionResnetV1/Bottleneck/weights" in names)
    return forward(case, look)


def centroid_kept(case):
    """The share of itself that a centroid keeps when one embedding pulls at it."""
    def look(graph, session):
        moved, embeddings = session.run([graph.moved_centroids, graph.tower.embeddings], {graph.batch.label: [0, 2]})
        return round(1 - float(np.linalg.norm(moved[2]) / np.linalg.norm(embeddings[1])), 4)
    return forward(case, look)


def synthesis(look):
    """`look(trainer)` at a Trainer that is ready to synthesize."""
    def probe(case):
        trainer = Trainer(case.config)
        trainer.build_model(synthesis=True)
        seen = look(trainer)
        trainer.close()
        return seen
    return probe


def bottleneck(trainer):
    """A weight of the classifier, None without one."""
    found = {v.op.name: v for v in trainer.networks.classifier_variables}
    return float(trainer.session.run(found["InceptionResnetV1/Bottleneck/weights"])[0, 0]) if found else None


TERMS = {"G": ("g_loss_forw", "c_loss", "s_loss", "p_loss", "f_loss", "m_loss", "e_loss"),
         "G_inv": ("g_loss_back", "sd_loss_forw", "s_loss")}


@functools.cache
def learner(line):
    """A whole training in memory: (Trainer, {network: (some of its weights, gradients of each of TERMS by them)})."""
    case = Case(None, line, None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tf.Graph, "finalize", lambda graph: None)
        trainer = Trainer(case.config)
        trainer.build_model(case.data, synthesis=True)
    graph, gradients = trainer.training, {}
    with trainer.session.graph.as_default():
        for net, names in TERMS.items():
            weights = (trainer.networks.G if net == "G" else trainer.networks.G_inv).variables[-4:]
            gradients[net] = weights, [tf1.gradients(graph.losses.get(name, tf.zeros([])), weights,
                                                     unconnected_gradients="zero") for name in names]
    trainer.session.run(graph.iterator.initializer, {graph.start_step: 0})
    return trainer, gradients


@pytest.fixture(scope="module", autouse=True)
def learners_end():
    yield
    learner.cache_clear()
    networks.cache_clear()


def weight_of(net, name):
    """The weight of a loss in what a network minimises, from the gradients; lambda_c is 1."""
    def probe(case):
        trainer, gradients = learner(case.line)
        weights, parts = gradients[net]
        by_name = {v.op.name: gradient for gradient, v in trainer.training.gradients[net]}
        whole = [by_name[v.op.name] for v in weights]
        whole, parts = trainer.session.run([whole, parts], {trainer.training.lambda_c: 1.})
        flat = np.stack([np.concatenate([np.ravel(g) for g in part]) for part in [whole, *parts]]).astype(np.float64)
        norms = np.maximum(np.linalg.norm(flat[1:], axis=1), 1e-30)
        found = np.linalg.lstsq((flat[1:] / norms[:, None]).T, flat[0], rcond=None)[0] / norms
        return round(float(found[TERMS[net].index(name)]), 2)
    return probe


def weight_of_edges(case):
    """The same of the edge loss, for a G whose photos have edges."""
    trainer, _ = learner(case.line)
    before = trainer.session.run(trainer.variables["G_inf/output/weights"])
    trainer.set_values({"G_inf/output/weights": 100 * before})
    try:
        return weight_of("G", "e_loss")(case)
    finally:
        trainer.set_values({"G_inf/output/weights": before})


def before_and_after(case):
    """The weights of the losses that hold G to renderings and pairs, and G_inv to renderings, in two steps, 4 and 5."""
    trainer, _ = learner(case.line)
    seen = []
    for step in (4, 5):
        trainer.set_values({"step": step})
        seen += [*(weight_of("G", name)(case) for name in ("s_loss", "p_loss", "f_loss")),
                 weight_of("G_inv", "s_loss")(case)]
    trainer.set_values({"step": 0})
    return seen


def test_all_gpus_share_the_steps_before_weights_count_half():
    def weight(gpus, step):
        there = SimpleNamespace(config=SimpleNamespace(loosen_step=5), replicas=SimpleNamespace(total=gpus),
                                step_now=tf.constant(step))
        return TrainingGraph._loosened(there, 3.)

    cases = {(1, 4): 3, (1, 5): 1.5, (2, 1): 3, (2, 2): 1.5, (8, 0): 3, (8, 1): 1.5}
    with tf.Graph().as_default(), tf1.Session() as session:
        assert session.run([weight(*case) for case in cases]) == list(cases.values())


def balance(case):
    """(gamma, lambda_k), from what a step makes of k_t."""
    trainer, _ = learner(case.line)
    trainer.set_values({"k_t": .5})
    loss = trainer.run_step(0, {"losses": trainer.training.losses})["losses"]
    real = loss["d_loss_forw"] + .5 * loss["g_loss_forw"]
    return (round(float((loss["balance1"] + loss["g_loss_forw"]) / real), 3),
            round(float((trainer.session.run(trainer.variables["k_t"]) - .5) / loss["balance1"]), 3))


def average_kept(case):
    """The share of itself that an average keeps in a step at which it could keep nearly all."""
    trainer, _ = learner(case.line)
    average = "G_inv/output/weights" + checkpoints.AVERAGE
    before = trainer.session.run(trainer.variables[average])
    trainer.set_values({average: np.ones_like(before), "step": 10 ** 6})
    weights = trainer.session.run(trainer.variables["G_inv/output/weights"])
    trainer.run_step(0, {})
    after = trainer.session.run(trainer.variables[average])
    trainer.set_values({average: before, "step": 0})
    return round(float(np.mean((after - weights) / (1 - weights))), 4)


def decay(case):
    """The share of itself that the softmax head's gradient holds when the losses weigh nothing, None without a head."""
    trainer, _ = learner(case.line)
    for gradient, weights in trainer.training.gradients["G"]:
        if weights.op.name == "Logits/weights":
            gradient, weights = trainer.session.run([gradient, weights], {trainer.training.lambda_c: 0.})
            return round(float(gradient[0, 0] / weights[0, 0]), 4)


def training(look):
    """`look(names of the files, log lines)` at what a training leaves."""
    def probe(case):
        trainer, _ = learner(command_line(case.world, {}))         # none of these options is part of the graph
        trainer.config, lines = case.config, []
        run = runs.Run(case.config, [], folder=case.world.scratch())
        case.patch.setattr(logging, "info", lambda form, *values: lines.append(form % values))
        trainer.train(run, sample_sheet(case.config, case.data.renderings))
        case.patch.undo()
        return look(os.listdir(run.folder), lines)
    return probe


def traces(case):
    """The number of traces that a training leaves for TensorBoard."""
    training(lambda names, lines: None)(case)
    folder = case.config.profile
    return len(glob.glob(os.path.join(folder, "plugins/profile/*/*.xplane.pb"))) if folder else 0


@training
def grids(names, lines):
    """The steps of the sample grids."""
    return sorted(int(name.split("_")[0]) for name in names if name.endswith("_G.png"))


@training
def saved(names, lines):
    """The steps of the checkpoints."""
    return sorted(runs.step_of(name.removesuffix(".index")) for name in names if name.endswith(".index"))


@training
def logged(names, lines):
    """The steps with a log line."""
    return [int(line[1:].split("/")[0]) for line in lines if line.startswith("[")]


def waits(case):
    """The seconds that a training waits for lost images."""
    trainer, _ = learner(command_line(case.world, {}))
    trainer.config, seen = case.config, []
    case.patch.setattr(trainer_module, "run_steps", lambda training, run, due: seen.append(due.patience))
    trainer.train(runs.Run(case.config, [], folder=case.world.scratch()), sample_sheet(
        case.config, case.data.renderings))
    return seen


# The table

class Row(NamedTuple):
    """With `option` at `value` besides `others`, `probe` sees `seen`; with `otherwise`, something else.

    `seen` may be a function of what is seen otherwise and of what is seen. `otherwise` defaults to `others`.
    """
    option: str
    value: object
    probe: object
    seen: object
    others: dict = MappingProxyType({})
    otherwise: dict | None = None


REC = dict(pretrained_rec="{classifier}")
MADE = dict(generate_dataset=True, load_path="new")
FITTED = dict(fit_dataset=True, load_path="new")
DRAWN = dict(is_train=False, load_path="new")
RATES = dict(g_lr=8e-4, d_lr=4e-4, lr_update_step=10)
SHORT = dict(max_step=6, log_step=1, save_step=3)
TWO = dict(cluster="localhost:65533,localhost:65534", worker=0)
# One training differs from BASE in all of these, as building one takes seconds; each row sees one of them alone.
OTHER = dict(**REC, lambda_s=.7, lambda_d=.3, lambda_p=.2, lambda_f=.6, lambda_e=4., gamma=.4, lambda_k=.03,
             method_c="softmax", weight_decay=.25)


def learned(*flags):
    """Is c_loss above 0, and is the rest of what `identity_loss` sees as `flags` say?"""
    return lambda before, seen: seen[0] > 0 and seen[1:] == flags


def learns(option, probe, seen):
    return Row(option, OTHER[option], probe, seen, OTHER, {})


ROWS = [
    Row("input_scale_size", 32, side, 32),
    Row("syn_scale_size", 32, refused, True),
    Row("conv_hidden_num", 6, shape("D_forw/Conv/weights"), [3, 3, 3, 6]),
    Row("conv_hidden_num_res", 6, shape("G_inf/c7s1_32/weights"), [7, 7, 3, 6]),
    Row("num_res_rep", 2, blocks, [2, 2]),
    Row("z_num", 5, shape("D_forw/fully_connected/biases"), [5]),
    Row("upsampling", "resize", shape("G_inf/u64/weights"), [3, 3, 16, 8]),
    Row("normalization", "none", shape("G_inf/R16_1/layer1/biases"), [16]),
    Row("game", "hinge", shape("D_forw/scale1/conv1/weights"), [4, 4, 3, 4]),
    Row("d_scales", 2, shape("D_forw/scale2/verdict/biases"), [1], dict(game="hinge")),
    Row("d_layers", "1,3", shape("D_forw/scale1_layers1/verdict/weights"), [4, 4, 8, 1], dict(game="hinge")),
    Row("background", "noise", calls_of(layers, "smooth_noise", lambda x, how: how.seed.shape.rank), [1]),
    Row("dropout_keep", .6, keeps, [.6]),

    Row("data_dir", "{data}/../elsewhere", data_of("photos"), "../elsewhere/real"),
    Row("dataset", "others", data_of("photos"), "others"),
    Row("syn_dataset", "others", data_of("renderings"), "others"),
    Row("dataset_3dmm", "others", data_of("pairs"), "others"),
    Row("dataset_3dmm_test", "others", data_of("test_pairs"), "others"),
    Row("split", "half", data_of("photos"), "real/half"),
    Row("batch_size", 3, batch, [3] * 5),
    Row("grayscale", True, sheet, (24, 8, True)),
    Row("num_worker", 7, workers, [7] * 3),
    Row("num_gpu", 2, devices, ["/device:GPU:0", "/device:GPU:1"]),
    Row("test_data_path", "{data}/others/1", data_of("test_renderings"), "others/1", DRAWN),

    Row("preset", "cpu", rates(0), (2e-4, 1e-3, .02)),
    Row("dry_run", True, done, []),
    Row("train_generator", True, work, [("train",), ("generate_dataset", "generated")], MADE),
    Row("generate_dataset", True, work, [("generate_dataset", "generated")], dict(load_path="new")),
    Row("fit_dataset", True, work, [("fit_dataset", "fitting")], dict(load_path="new")),
    Row("is_train", False, work, [("test",)], dict(load_path="new")),
    Row("cont", "gen", resumed, "new"),
    Row("load_path", "old", resumed, "old"),
    Row("load_path", "old", source, "old", dict(generate_dataset=True)),
    Row("pretrained_gen", "{logs}/old", source, "old", dict(generate_dataset=True)),
    Row("save_syn_dataset", "there", work, [("generate_dataset", "there")], MADE),
    Row("save_fitting", "there", work, [("fit_dataset", "there")], FITTED),
    Row("overwrite", True, begun_anew, True, MADE),
    Row("task", "mine", run_directory, (".", "mine")),
    Row("sample_per_image", 3, columns, [4], dict(**DRAWN, test_data_path="{data}/others/1")),
    Row("shard", "2/2", lambda case: case.data.renderings.identities, ["2"], MADE),
    Row("scores", False, synthesis(lambda trainer: len(trainer.synthesis.scores)), 0, MADE),
    Row("judge", True, judged, ["generated", "real", "syn"], MADE),
    Row("generation_dropout", False, noise, lambda before, seen: (before, seen) == (SynthesisGraph.BATCH, 0)),

    Row("max_step", 3, saved, [3], dict(log_step=100), dict(log_step=100, max_step=2)),
    Row("lr_update_step", 5, rates(5), (4e-4, 2e-4, .001), RATES),
    Row("lr_lower_boundary", 3e-4, rates(15), (3e-4, 3e-4, .001), RATES),
    Row("warm_up", 4, rates(2), (1.2e-3, 6e-4, .001), dict(**RATES, num_gpu=2)),
    Row("g_lr", 1e-4, rates(0), (1e-4, 8e-5, .001)),
    Row("d_lr", 1e-4, rates(0), (8e-5, 1e-4, .001)),
    Row("optimizer", "sgd", updates, updated("sgd")),
    Row("optimizer", "rmsprop", updates, updated("rmsprop")),
    Row("beta1", .3, updates, updated("adam", beta1=.3)),
    Row("beta1", .3, updates, updated("sgd", beta1=.3), dict(optimizer="sgd")),
    Row("beta1", .3, updates, updated("rmsprop", beta1=.3), dict(optimizer="rmsprop")),
    Row("beta2", .5, updates, updated("adam", beta2=.5)),
    Row("beta2", .5, updates, updated("rmsprop", beta2=.5), dict(optimizer="rmsprop")),
    Row("average_decay", .05, average_kept, .05),
    Row("augment", "cut,shift", calls_of(hinge, "augment", lambda images, kinds, chance: kinds), ["cut,shift"] * 2,
        dict(game="hinge")),
    Row("augment", "shade", pairs_changed, True, dict(game="hinge")),
    Row("augment", "shade", background_of_pairs, True, dict(game="hinge", background="noise", lambda_f=1)),
    Row("r1", .1, calls_of(hinge, "slope_at_real", lambda seen, verdicts: len(verdicts)), [1, 1], dict(game="hinge")),
    Row("use_gpu", False, gpus, 0),
    Row("random_seed", 5, draws, lambda before, seen: all(a != b for a, b in zip(before, seen))),

    learns("gamma", balance, (.4, .03)),
    learns("lambda_k", balance, (.4, .03)),
    learns("lambda_d", weight_of("G_inv", "sd_loss_forw"), .3),
    learns("lambda_s", weight_of("G_inv", "s_loss"), .7),
    learns("lambda_s", weight_of("G", "s_loss"), .7),
    learns("lambda_p", weight_of("G", "p_loss"), .2),
    learns("lambda_f", weight_of("G", "f_loss"), .6),
    Row("lambda_m", 2, weight_of("G", "m_loss"), 2., dict(game="hinge")),
    learns("lambda_e", weight_of_edges, 4.),
    Row("lambda_e", 2, edges_compared, True),
    Row("lambda_m", 2, pairs_matched, True, dict(game="hinge")),
    Row("pixel_loss", "squared", squared_ones, ["squared", "absolute"], dict(lambda_f=1)),
    Row("chroma_weight", 2, chroma_counts, [2., 2.], dict(lambda_f=1)),
    Row("loosen_step", 5, before_and_after, [.7, .2, .6, .7, .35, .1, .3, .35], OTHER),
    learns("method_c", weight_of("G", "c_loss"), 1.),
    Row("lambda_c", 5e-4, rates(0), (8e-5, 8e-5, 5e-4)),
    Row("lambda_c_upper", .003, rates(12), (5e-6, 5e-6, .003), dict(lr_update_step=5)),
    Row("method_c", "magnet", identity_loss, learned(False, True, False), REC),
    Row("method_c", "softmax", identity_loss, learned(True, False, False), REC),
    Row("method_c", "center", identity_loss, (1 / 16, False, True, False), REC),
    Row("relax_c", True, identity_loss, (1 / 16, False, True, True), dict(**REC, method_c="center")),

    Row("pretrained_rec", "{classifier}", synthesis(bottleneck),
        float(small_classifier()["InceptionResnetV1/Bottleneck/weights"][0, 0]), MADE),
    Row("model_def", "nn4", shape("InceptionResnetV1/conv1_7x7/weights"), [7, 7, 3, 64], dict(**REC, image_size=96)),
    Row("embedding_size", 8, shape("InceptionResnetV1/Bottleneck/weights"), [192, 8], REC),
    Row("keep_probability", .7, keeps, [.9, .7], REC),
    learns("weight_decay", decay, .25),
    Row("center_loss_alfa", .75, centroid_kept, .75, dict(**REC, method_c="magnet")),
    Row("facenet_scope", "Other", shape("Other/Bottleneck/weights"), [192, 16], REC),
    Row("image_size", 40, classifier_input, 40, REC),
    Row("standardization", "fixed", synthesis(lambda trainer: trainer.networks.view.standardization), "fixed", REC),
    Row("random_crop", False, places_and_flips, [(False, True)], dict(**REC, input_scale_size=96)),
    Row("random_flip", False, places_and_flips, [(True, False)], dict(**REC, input_scale_size=96)),

    Row("log_dir", "{logs}/others", run_directory, lambda before, seen: (before[0], seen[0]) == (".", "others")),
    Row("log_step", 2, logged, [2, 4, 6], SHORT),
    Row("checkpoint_minutes", 1e-6, saved, [2, 3], dict(max_step=3, log_step=100)),
    Row("patience", 5., waits, [5.]),
    Row("save_step", 2, grids, [2, 4, 6], SHORT),
    Row("checkpoint_step", 4, saved, [4, 6], SHORT),
    Row("keep_every", 2, saved, [2, 4, 5, 6], dict(**SHORT, checkpoint_step=1)),
    Row("num_log_id", 2, sheet, (16, 8, False)),
    Row("num_log_samples", 5, sheet, (15, 5, False)),
    Row("log_level", "warning", log_level, logging.WARNING),

    Row("precision", "bfloat16", precisions, {"bfloat16"}),
    Row("precision", "tf32", started_with, ["tf32"]),
    Row("xla", True, fused, True),
    Row("profile", "{data}/../trace", traces, 1, SHORT),

    Row("cluster", TWO["cluster"], replicas, (2, 1, 1), dict(worker=1), {}),
    Row("worker", 1, replicas, (2, 1, 1), TWO),
    Row("collective_timeout", 7, lambda case: cluster_of(case.config).timeout, 7., TWO),
    Row("collectives", "nccl", lambda case: join(case.config, {}).exchange().hint, "nccl", TWO),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.option}={row.value}")
def test_option(world, monkeypatch, row):
    def look(options):
        return row.probe(Case(world, command_line(world, options), monkeypatch))

    seen = look({**row.others, row.option: row.value})
    before = look(row.others if row.otherwise is None else row.otherwise)
    assert seen != before
    assert row.seen(before, seen) if callable(row.seen) else seen == row.seen, (before, seen)


def test_every_option_has_a_row():
    assert {row.option for row in ROWS} == set(COMMAND.by_name())


def test_a_dry_run_tells_what_would_be_done_and_writes_nothing(world, monkeypatch, capsys):
    line = command_line(world, dict(**REC, method_c="magnet", log_dir="{data}/../nowhere", profile="{data}/../traces",
                                    generate_dataset=True, train_generator=True, dry_run=True))
    before = tree(os.path.dirname(world.data))
    assert done(Case(world, line, monkeypatch)) == []
    assert tree(os.path.dirname(world.data)) == before and not os.path.exists(f"{world.data}/../nowhere")
    printed = capsys.readouterr().out
    parts = re.split("(?m)^(?:Options.*|Data|Networks):\n", printed)[1:]
    options, data, networks = map(str.splitlines, parts)
    assert "  --batch_size 2" in options and "  --conv_hidden_num 4" in options
    assert not any(option.startswith(("  --method_c", "  --z_num 64", "  --dry_run")) for option in options)
    assert [each.split()[0] for each in data] == ["photos", "renderings", "pairs"]
    assert data[1].endswith("syn: 6 images of 3 identities")
    sizes = {name: int(count.replace(",", "")) for name, count, _ in map(str.split, networks)}
    assert sizes.keys() == {"G_inf", "G_inv", "D_forw", "D_back", "small"}
    assert sizes["small"] == sum(value.size for value in small_classifier().values())
    assert sizes["D_forw"] == sizes["D_back"] > 0 and sizes["G_inf"] > sizes["G_inv"]
