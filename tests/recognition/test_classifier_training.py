"""recognition.training: a step against its terms, averages, batch statistics, heads, several GPUs, exact resume."""
import contextlib
import functools
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

import recognizer
from cli.options import parse
from conftest import differences, read_checkpoint, small_classifier, steps_saved, words
from drawn import draw_face, write
from engine import runs
from recognition import embedder, labelled_data, pretrained, registry, training, training_graph, verification
from recognition.training import ClassifierGraph, ClassifierTrainer
from utils import Diverged

tf1 = tf.compat.v1
AVERAGE = "/ExponentialMovingAverage"
BASE = dict(model_def="small", image_size=32, embedding_size=8, batch_size=6, seed=1, moving_average_decay=.9)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The folder of `real`, 4 people of 4 photos, and `generated`, 3 of 3 with scores, of 36 x 36 pixels."""
    root = tmp_path_factory.mktemp("faces")
    for folder, people, count in (("real", range(1, 5), 4), ("generated", range(11, 14), 3)):
        for person in people:
            for image in range(1, count + 1):
                write(str(root), f"{folder}/{person}/{image}.jpg", draw_face(person, image, 36, photo=True))
    lines = [f"/{person}/{image}.jpg 0.1 0.1 {person + image - 12}\n"
             for person in range(11, 14) for image in range(1, 4)]
    (root / "generated" / "confidence_scores.csv").write_text("".join(lines))
    return root


TRAIN, VERIFY, _ = recognizer.COMMANDS


def options_of(data, *more, **others):
    """The options of `recognizer.py train` with BASE, `others` and the words `more`."""
    given = {**BASE, "data_dir": data, "real": "real", **others}
    return parse(TRAIN, [*words(**{name: value for name, value in given.items() if value != ""}), *more]).options


def graph_of(options):
    """A ClassifierGraph in the current graph, and a session in which it can be run from step 0."""
    tf1.set_random_seed(options.seed)
    graph = ClassifierGraph(options, labelled_data.load(options))
    session = tf1.Session()
    session.run(tf1.global_variables_initializer())
    session.run(graph.iterator.initializer, {graph.start_step: 0})
    return graph, session


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


def values_of(session):
    return {v.op.name: value for v, value in zip(tf1.global_variables(), session.run(tf1.global_variables()))}


# A step

def test_a_step_moves_statistics_and_averages(data):
    """Each by min(its decay, (1 + step) / (10 + step)): a statistic to the batch's, an average to the new weights."""
    graph, session = graph_of(options_of(data))
    with session:
        before = values_of(session)
        statistics = {v.op.name: value for v, value in graph.shares[0].statistics}
        got, _ = session.run([statistics, graph.train_op], {graph.rate: .05})
        after = values_of(session)
    moving = [name for name in before if name.endswith(("moving_mean", "moving_variance"))]
    assert sorted(moving) == sorted(statistics)
    for name in moving:
        assert np.allclose(after[name], .1 * before[name] + .9 * got[name], atol=1e-6)
    averages = [name for name in before if name.endswith(AVERAGE)]
    assert len(averages) == 6 * 4                   # layers, and weights, beta and two statistics of each
    for name in averages:
        old, new = before[name.removesuffix(AVERAGE)], after[name.removesuffix(AVERAGE)]
        assert np.allclose(after[name], .1 * old + .9 * new, atol=1e-6) and not np.array_equal(old, new)
    assert after[registry.STEP] == 1 and not after[registry.FIXED]


def test_losses_are_those_of_the_recipe(data):
    graph, session = graph_of(options_of(data, center_loss_factor=.5, center_loss_alfa=.75, weight_decay=.01))
    with session:
        session.run(graph.train_op, {graph.rate: 0.})
        before = values_of(session)
        loss = session.run(graph.losses)
    weights = [value for name, value in before.items() if name.endswith("/weights")]
    assert loss["regularization"] == pytest.approx(.01 * sum(np.square(value).sum() / 2 for value in weights), rel=1e-5)
    terms = loss["cross_entropy"] + .5 * loss["center"] + loss["regularization"]
    assert loss["total"] == pytest.approx(terms, rel=1e-5)
    assert before["centers"].any() and loss["center"] > 0


def test_synthetic_identities_have_a_head_of_their_own(data):
    """The real head learns nothing from them, the network does, by lambda_synthetic and each image's weight."""
    options = options_of(data, "--synthetic", "generated", lambda_synthetic=.5, score_weights="original",
                         weight_decay=0, center_loss_factor=.1)
    graph, session = graph_of(options)
    real, synthetic = graph.shares
    heads = {v.op.name: v for v in graph.trained if v.op.name.startswith("Logits")}
    assert {name: v.shape.as_list() for name, v in heads.items()} == {
        "Logits/weights": [8, 4], "Logits/biases": [4],
        "Logits_synthetic/weights": [8, 3], "Logits_synthetic/biases": [3]}
    gradients = tf1.gradients([synthetic.cross_entropy, real.cross_entropy], list(heads.values()))
    cross = tf1.gradients(real.cross_entropy, heads["Logits_synthetic/weights"]) + tf1.gradients(
        synthetic.cross_entropy, heads["Logits/weights"])
    assert cross == [None, None] and None not in gradients
    with session:
        loss = session.run(graph.losses)
        session.run(graph.train_op, {graph.rate: .05})
        after = values_of(session)
    terms = loss["cross_entropy"] + .1 * loss["center"]
    terms += .5 * (loss["cross_entropy_synthetic"] + .1 * loss["center_synthetic"])
    assert loss["total"] == pytest.approx(terms, rel=1e-5)
    assert after["centers"].shape == (4, 8) and after["centers_synthetic"].shape == (3, 8)
    assert after["centers_synthetic"].any()


def test_weights_of_images_scale_their_losses(data):
    faces = labelled_data.load(options_of(data, "--synthetic", "generated", real=""))
    results = []
    for factor in (1, 3):
        with tf.Graph().as_default():
            options = options_of(data, "--synthetic", "generated", real="")
            tf1.set_random_seed(1)
            graph = ClassifierGraph(options, faces._replace(weights=factor * faces.weights))
            with tf1.Session() as session:
                session.run(tf1.global_variables_initializer())
                session.run(graph.iterator.initializer, {graph.start_step: 0})
                results.append(session.run(graph.losses["cross_entropy_synthetic"]))
            assert [share.suffix for share in graph.shares] == ["_synthetic"]
    assert results[1] == pytest.approx(3 * results[0], rel=1e-5)


AT_TIMES = ("random_erasing", "augment_crop", "augment_resolution", "augment_color")


@pytest.mark.parametrize("option", ["random_crop", "random_flip", "random_rotate", *AT_TIMES])
def test_each_augmentation_can_be_turned_on_alone(data, option):
    """The same images look otherwise with it, and otherwise again in the next step."""
    seen = []
    for given in ({}, {option: .9 if option in AT_TIMES else True}):
        with tf.Graph().as_default():
            options = options_of(data, **{"random_crop": False, "random_flip": False, **given})
            builder = SimpleNamespace(options=options, step_now=tf1.placeholder(tf.int32, []))
            builder._seed = functools.partial(ClassifierGraph._seed, builder)
            images = tf.constant(np.stack([draw_face(i, 1, 36, True) for i in range(6)]))
            crops = ClassifierGraph._augment(builder, 0, images)
            with tf1.Session() as session:
                seen.append([session.run(crops, {builder.step_now: step}) for step in (0, 1, 0)])
    (plain, same, _), (once, other, again) = seen
    assert np.array_equal(plain, same) and np.array_equal(once, again)
    assert not np.array_equal(plain, once) and not np.array_equal(once, other)


@pytest.mark.parametrize("name", ["adagrad", "adadelta", "adam", "rmsprop", "mom", "sgd"])
def test_every_optimizer_descends(name):
    x = tf1.get_variable("x", initializer=tf.constant([3., -2.]), use_resource=True)
    loss = tf.reduce_sum(tf.square(x))
    step = training_graph.make_optimizer(name, tf.constant(.1)).minimize(loss)
    with tf1.Session() as session:
        session.run(tf1.global_variables_initializer())
        before = session.run(loss)
        for _ in range(5):
            session.run(step)
        assert session.run(loss) < before


# Heads with a margin

def test_the_recipe_of_arcface(data):
    """A head with a margin for each set, no center loss; SGD decays all that it trains, also what batch norm adds."""
    options = options_of(data, "--synthetic", "generated", loss="arcface", optimizer="sgd", weight_decay=.01,
                         lambda_synthetic=.5, learning_rate=.1)
    graph, session = graph_of(options)
    with session:
        before = values_of(session)
        loss, gradients, _ = session.run([graph.losses, tf1.gradients(graph.losses["total"], graph.trained),
                                          graph.train_op], {graph.rate: .1})
        after = values_of(session)
    heads = {name: value.shape for name, value in before.items() if name.startswith(("Logits", "centers"))}
    assert heads == {"Logits/weights": (8, 4), "Logits_synthetic/weights": (8, 3), "Logits/weights/Momentum": (8, 4),
                     "Logits_synthetic/weights/Momentum": (8, 3)}
    decayed = sum(np.square(before[v.op.name]).sum() / 2 for v in graph.trained)
    assert any(v.op.name.endswith("/beta") for v in graph.trained)
    assert loss["regularization"] == pytest.approx(.01 * decayed, rel=1e-5)
    assert loss.keys() == {"regularization", "cross_entropy", "cross_entropy_synthetic", "total"}
    assert loss["total"] == pytest.approx(
        loss["regularization"] + loss["cross_entropy"] + .5 * loss["cross_entropy_synthetic"], rel=1e-5)
    assert 15 < loss["cross_entropy"] < 80              # 64 times the margin, about, before anything is learned
    for variable, gradient in zip(graph.trained, gradients):
        name = variable.op.name
        assert np.allclose(after[name], before[name] - .1 * gradient, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["softmax_center", "arcface", "adaface"])
def test_a_shared_head_has_the_synthetic_identities_as_more_classes(data, loss):
    """The labels count on from the real ones, and one head's state moves with both sets."""
    options = options_of(data, "--synthetic", "generated", loss=loss, shared_head=True, weight_decay=0,
                         lambda_synthetic=.5)
    graph, session = graph_of(options)
    heads = {v.op.name: v.shape.as_list() for v in tf1.trainable_variables("Logits")}
    assert heads["Logits/weights"] == [8, 7] and not tf1.trainable_variables("Logits_synthetic")
    by_each = [tf1.gradients(share.cross_entropy, tf1.trainable_variables("Logits/weights"))[0]
               for share in graph.shares]
    with session:
        losses, gradients, _ = session.run([graph.losses, by_each, graph.train_op], {graph.rate: .0})
        after = values_of(session)
    assert all(np.abs(gradient).sum(0).all() for gradient in gradients)         # each image is none of the others
    total = losses["cross_entropy"] + .5 * losses["cross_entropy_synthetic"]
    assert losses["total"] == pytest.approx(total, rel=1e-5)
    if loss == "softmax_center":
        moved = after["centers"].any(1)
        assert after["centers"].shape == (7, 8) and moved[:4].any() and moved[4:].any()
    if loss == "adaface":
        assert after["Logits/length_mean"] < 20 and after["Logits/length_deviation"] < 100


def test_labels_of_a_shared_head_count_on(data):
    options = options_of(data, "--synthetic", "generated", shared_head=True)
    faces = labelled_data.load(options)
    builder = SimpleNamespace(options=options, start_step=tf.constant(0, tf.int64))
    real, synthetic = ClassifierGraph._build_inputs(builder, faces)
    assert real.classes == synthetic.classes == 7
    with tf1.Session() as session:
        session.run(builder.iterator.initializer)
        labels = session.run([real.labels, synthetic.labels])
    assert set(labels[0]) <= set(range(4)) and set(labels[1]) <= set(range(4, 7))


def one_step(options, faces, frozen):
    """What two steps leave, the devices that were asked for, and the first layer's means in the first batch."""
    with tf.Graph().as_default() as built, pytest.MonkeyPatch.context() as patch:
        if frozen:
            patch.setattr(training_graph, "batch_statistics", lambda: contextlib.nullcontext([]))
        tf1.set_random_seed(options.seed)
        graph = ClassifierGraph(options, faces)
        with tf1.Session(config=tf1.ConfigProto(allow_soft_placement=True)) as session:
            session.run(tf1.global_variables_initializer())
            session.run(graph.iterator.initializer, {graph.start_step: 0})
            for v in tf1.global_variables():            # the first weights depend on the size of the graph
                if v.op.name.endswith(("/weights", "/weights" + AVERAGE)):
                    rng = np.random.default_rng(len(v.op.name.removesuffix(AVERAGE)))
                    v.load(rng.normal(0, .1, v.shape.as_list()).astype(np.float32), session)
            first = session.run([value for _, value in graph.shares[0].statistics[:1]])
            session.run(graph.iterator.initializer, {graph.start_step: 0})
            for _ in range(2):
                session.run(graph.train_op, {graph.rate: .05})
            return values_of(session), {op.device for op in built.get_operations() if "tower_" in op.name}, first


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["softmax_center", "adaface"])
def test_two_gpus_take_the_steps_of_one_with_the_whole_batch(data, loss):
    """In all but batch norm's statistics, which are those of each GPU's share: here, they stay as they are.

    With dropout, all that is random in an image, and AdaFace's statistics, which are those of the whole batch.
    """
    more = dict(loss=loss, keep_probability=.7, center_loss_factor=.1, optimizer="sgd", random_erasing=.5,
                augment_crop=.5, augment_resolution=.5, augment_color=.5)
    one, two = (options_of(data, "--synthetic", "generated", **more, num_gpu=gpus, batch_size=6 // gpus)
                for gpus in (1, 2))
    faces = labelled_data.load(one)
    (alone, nothing, _), (together, devices, _) = one_step(one, faces, True), one_step(two, faces, True)
    assert not nothing and {"/device:GPU:0", "/device:GPU:1"} <= devices
    assert alone.keys() == together.keys()
    for name, value in alone.items():
        scale = max(np.abs(value).max(), 1e-6) if value.dtype.kind == "f" else 1
        assert np.abs(value.astype(float) - together[name]).max() <= 2e-5 * scale, name


@pytest.mark.slow
def test_moving_statistics_are_those_of_all_gpus(data):
    options = [options_of(data, num_gpu=gpus, batch_size=6 // gpus) for gpus in (1, 2)]
    faces = labelled_data.load(options[0])
    (_, _, one), (_, _, two) = (one_step(each, faces, False) for each in options)
    assert one[0].any() and np.allclose(one[0], two[0], atol=1e-5)


@pytest.mark.slow
def test_bfloat16_is_for_the_network_s_convolutions_alone(data):
    """Variables, batch norm, the dense layers and the head stay float32."""
    graph, session = graph_of(options_of(data, loss="arcface", precision="bfloat16"))
    operations = tf1.get_default_graph().get_operations()
    kinds = {kind: {op.inputs[0].dtype.base_dtype.name for op in operations if op.type == kind}
             for kind in ("Conv2D", "MatMul", "FusedBatchNormV3")}
    assert kinds == {"Conv2D": {"bfloat16"}, "MatMul": {"float32"}, "FusedBatchNormV3": {"float32"}}
    assert {v.dtype.base_dtype.name for v in graph.saved_variables} == {"float32", "int32", "bool"}
    with session:
        assert np.isfinite(session.run([graph.losses, graph.train_op], {graph.rate: .05})[0]["total"])


# Training

def train(options, run_dir, epochs, pairs=None):
    """Train in the folder `run_dir`, from its newest checkpoint if it has one; an epoch has 3 steps -> runs.Run."""
    trainer = ClassifierTrainer(options, labelled_data.load(options), lambda step: .05 / (1 + step), pairs)
    try:
        return trainer.train(runs.Run(options, {"real": ["1"]}, "rec", str(run_dir)), epochs, 3)
    finally:
        trainer.close()


@pytest.mark.slow
def test_resume_is_exact(data, tmp_path):
    """6 steps equal 3 + 3, in every bit: with both heads, dropout, center loss and every augmentation."""
    options = options_of(data, "--synthetic", "generated", keep_probability=.7, center_loss_factor=.1,
                         random_rotate=True, validate_every_n_epochs=2)
    for name in ("whole", "halves", "other"):
        (tmp_path / name).mkdir()
    train(options, tmp_path / "whole", 2)
    train(options, tmp_path / "halves", 1)
    first = read_checkpoint(tmp_path / "halves" / "model.ckpt-3")
    run = train(options, tmp_path / "halves", 2)
    assert run.folder == str(tmp_path / "halves") and steps_saved(run.folder) == [3, 6]
    assert differences(tmp_path / "whole" / "model.ckpt-6", tmp_path / "halves" / "model.ckpt-6") == []
    last = read_checkpoint(tmp_path / "halves" / "model.ckpt-6")
    assert [name for name in last if np.array_equal(last[name], first[name])] == [registry.FIXED]
    other = options_of(data, "--synthetic", "generated", keep_probability=.7, seed=2)
    train(other, tmp_path / "other", 1)
    assert "Logits/weights" in differences(tmp_path / "other" / "model.ckpt-3", tmp_path / "halves" / "model.ckpt-3")


@pytest.mark.long
@pytest.mark.slow
def test_resume_is_exact_with_adaface_and_all_augmentations(data, tmp_path):
    """6 steps equal 3 + 3, in every bit, AdaFace's statistics and the order of --oversample too."""
    options = options_of(data, "--synthetic", "generated", loss="adaface", optimizer="sgd", shared_head=True,
                         oversample=True, random_rotate=True, random_erasing=.5, augment_crop=.5, augment_resolution=.5,
                         augment_color=.5, validate_every_n_epochs=2)
    for name in ("whole", "halves"):
        (tmp_path / name).mkdir()
    train(options, tmp_path / "whole", 2)
    train(options, tmp_path / "halves", 1)
    first = read_checkpoint(tmp_path / "halves" / "model.ckpt-3")
    train(options, tmp_path / "halves", 2)
    assert differences(tmp_path / "whole" / "model.ckpt-6", tmp_path / "halves" / "model.ckpt-6") == []
    last = read_checkpoint(tmp_path / "halves" / "model.ckpt-6")
    assert [name for name in last if np.array_equal(last[name], first[name])] == [registry.FIXED]
    assert {"Logits/length_mean", "Logits/length_deviation"} <= last.keys()


@pytest.mark.slow
def test_a_new_run_gets_a_folder_with_its_numbers(data, tmp_path, caplog):
    """A second call finds nothing left to do, and says so."""
    caplog.set_level("INFO")
    options = options_of(data, log_dir=tmp_path, task="new", log_step=1)
    trainer = ClassifierTrainer(options, labelled_data.load(options), lambda step: .05)
    try:
        run = trainer.train(runs.Run(options, {"real": ["1"]}, "rec"), 1, 2)
        assert trainer.train(run, 1, 2) is run and "has done its 2 steps" in caplog.text
    finally:
        trainer.close()
    assert [str(path) for path in tmp_path.iterdir()] == [run.folder] and "new_rec_" in run.folder
    assert steps_saved(run.folder) == [2]
    rows = [json.loads(line) for line in (Path(run.folder) / "stats.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2] and [row["epoch"] for row in rows] == [1, 1]
    for row in rows:
        assert row.keys() >= {"seconds_per_step", "loss", "cross_entropy", "center", "regularization", "accuracy",
                              "rate"}
        assert row["rate"] == .05 and 0 <= row["accuracy"] <= 1


def test_parameters_are_counted_without_a_session(data):
    """As many as the network has weights: those of the softmax head and of the averages don't count."""
    count = sum(value.size for value in small_classifier(embedding_size=8).values())
    assert training.count_parameters(options_of(data)) == {"small": count}


@pytest.mark.slow
def test_validation_uses_the_averages(data, tmp_path, monkeypatch):
    """What is validated is what `verify` would say of the checkpoint: the averaged weights, not the raw ones."""
    seen = []
    verify = verification.verify
    monkeypatch.setattr(verification, "verify", lambda embeddings, *others: (
        seen.append(embeddings) or verify(embeddings, *others)))
    options = options_of(data, lfw_dir=data / "real", lfw_nrof_folds=2, lfw_use_flipped_images=True, lfw_batch_size=5)
    pairs = recognizer.find_pairs(options, ("lfw_dir", "lfw_pairs"), verification.PairChoice(2))
    train(options, tmp_path, 1, pairs)
    weights = pretrained.read(str(tmp_path), "--weights")
    options = parse(VERIFY, words(weights=tmp_path, images=data / "real", use_flipped_images=True,
                                  standardization="image")).options
    found = embedder.embed_pairs(options, weights, pairs, {})["classifier"]
    assert found.shape == (16, 16) and np.allclose(seen[-1], found, atol=1e-5)
    saved = read_checkpoint(tmp_path / "model.ckpt-3")
    name = "InceptionResnetV1/Bottleneck/weights"
    assert not np.allclose(saved[name], saved[name + AVERAGE], atol=1e-4)


@pytest.mark.slow
def test_a_training_that_diverges_names_the_last_good_checkpoint(data, tmp_path):
    options = options_of(data, learning_rate=1)
    trainer = ClassifierTrainer(options, labelled_data.load(options), lambda step: 1e30 if step >= 3 else 0.)
    try:
        with pytest.raises(Diverged, match=r"step [45]: .*model.ckpt-3"):
            trainer.train(runs.Run(options, {}, "rec", str(tmp_path)), 3, 3)
    finally:
        trainer.close()
    assert runs.list_checkpoints(str(tmp_path)) == [str(tmp_path / "model.ckpt-3")]
