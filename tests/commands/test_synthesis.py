"""Synthesis by main.py (trainer, graph, datasets): sets and scores, fitting, sample grids, where weights come from."""
import os
import re
import shutil
import signal
import time

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import main
import models
from conftest import (
    events,
    NAMES,
    NARROW,
    only_run,
    products,
    Program,
    read_checkpoint,
    scenario,
    SMALL,
    small_classifier,
    succeed,
    tree,
    words,
    write_checkpoint,
)
from engine import layers, runs
from engine.checkpoints import set_values
from recognition import networks
from recognition.input_size import View
from recognition.preprocessing import preprocess
from recognition.registry import Architecture
from synthesis.sheets import image_seed
from tool import call, succeed_here

tf1 = tf.compat.v1
pytestmark = pytest.mark.slow

CSV = "confidence_scores.csv"
AVERAGE = "/ExponentialMovingAverage"


def renderings_only(tools):
    """A data folder that holds the drawn renderings and nothing else."""
    data = tools.new_folder()
    shutil.copytree(tools.drawn / "syn", data / "syn")
    return data


def options_for(tools, data, **options):
    """Options of a synthesis from the networks of `trained`, with scores."""
    return {**NAMES, **NARROW, **SMALL, "data_dir": data, "pretrained_rec": tools.classifier,
            "generate_dataset": True, "log_dir": data / "logs", **options}


def make(**options):
    """Run main.py with these options in this process, which has to end well -> Result."""
    return succeed_here(main, *words(**options))


def images_in(folder):
    """{relative path: bytes} of the images in a folder."""
    return {name: content for name, content in tree(folder).items() if name.endswith(".jpg")}


def pixels(folder, names):
    """The images `names` in a folder: int [N, S, S, 3]."""
    return np.stack([np.asarray(Image.open(folder / name).convert("RGB"), int) for name in names])


def scores_in(folder):
    """{name: [d_score, s_score, c_score]} of the file of scores in a data set, whose form is checked."""
    lines = (folder / CSV).read_text().splitlines()
    assert all(re.fullmatch(r"/\S+/\S+\.jpg \d\.\d{6} \d\.\d{6} (\d+\.\d{6}|nan)", line) for line in lines), lines
    return {name[1:]: np.array(values, float) for name, *values in (line.split(" ") for line in lines)}


def random_weights(seed, trained):
    """{name: array} of weights like those of the networks in a checkpoint."""
    rng = np.random.default_rng(seed)
    networks = ("G_inf/", "G_inv/", "D_forw/", "D_back/")
    shapes = {name: value.shape for name, value in read_checkpoint(trained.run_dir / "model.ckpt-200").items()
              if name.startswith(networks) and AVERAGE not in name and "Adam" not in name}
    return {name: rng.normal(0, (2 / max(1, np.prod(shape[:-1]))) ** .5, shape).astype(np.float32)
            for name, shape in shapes.items()}


def evaluate(weights, folder, names, dropout=True):
    """The networks' own view of the renderings `names` in a folder: dict of x [N, S, S, 3], d_score, s_score [N] and
    embeddings [N, E], from `weights` {name: array}."""
    with tf.Graph().as_default(), tf1.Session() as session:
        tf1.set_random_seed(1)          # to be had, as operations have to be deterministic
        s = tf.constant(pixels(folder, names) / 127.5 - 1, tf.float32)
        seeds = tf.constant([image_seed(123, name) for name in names])
        x = models.Generator("G_inf", 4, 1, skips=True)(s, layers.Dropout(.9, seeds) if dropout else None)
        y = models.Generator("G_inv", 4, 1, skips=False)(x)
        reconstruction = models.DiscriminatorCNN("D_forw", 4, 8)(x)
        _, embeddings = networks.embed(preprocess(x, View(32)), Architecture("small", 16))
        fetches = dict(x=x, d_score=tf.reduce_mean(tf.abs(reconstruction - x), [1, 2, 3]),
                       s_score=tf.reduce_mean(tf.abs(s - y), [1, 2, 3]), embeddings=embeddings)
        set_values(session, {variable: weights[variable.op.name] for variable in tf1.global_variables()})
        return session.run(fetches)


def averages_of(prefix):
    """{name: array} of a checkpoint's averaged weights, and the classifier's."""
    values = read_checkpoint(prefix)
    return small_classifier() | {name.removesuffix(AVERAGE): value for name, value in values.items() if AVERAGE in name}


def magnet_scores(embeddings, names):
    """c_score of SPEC 8, in NumPy: class means of the data set as centroids, and the data set's variance."""
    labels = np.unique([name.split("/")[0] for name in names], return_inverse=True)[1]
    e = embeddings.astype(np.float64)
    centers = np.stack([e[labels == label].mean(0) for label in range(labels.max() + 1)])
    cost = np.square(centers[None] - e[:, None]).sum(-1)
    intra = cost[np.arange(len(e)), labels]
    weight = -1 / (2 * (intra.sum() / (len(e) - 1)) ** 2)
    others = np.arange(len(centers))[None] != labels[:, None]
    ratio = np.exp(weight * intra - 1) / ((np.exp(weight * cost) * others).sum(1) + 1e-8)
    return np.maximum(0, -np.log(ratio + 1e-8))


# Data sets

@pytest.fixture(scope="module")
def by_one(tools, trained):
    """--batch_size 1, weights, widths, classifier and all the rest from --load_path -> the data folder."""
    data = renderings_only(tools)
    make(generate_dataset=True, load_path=trained.run_dir, syn_dataset="syn", data_dir=data, batch_size=1,
         log_dir=data / "logs")
    return data


@pytest.fixture(scope="module")
def by_five(tools, trained):
    """--batch_size 5, another --method_c than the training's, weights of a run given as --pretrained_gen."""
    data = renderings_only(tools)
    make(**options_for(tools, data, batch_size=5, method_c="softmax", pretrained_gen=trained.run_dir))
    return data


@pytest.fixture(scope="module")
def by_sixteen(tools, trained):
    """--batch_size 16, weights of the newest run in --log_dir -> (the data folder, the result)."""
    data = renderings_only(tools)
    shutil.copytree(trained.run_dir, data / "logs/run")
    result = make(**options_for(tools, data, batch_size=16, method_c="center"))
    return data, result


@pytest.fixture(scope="module")
def single(tools, trained):
    """One rendering, --batch_size 16, --method_c none -> the data folder."""
    data = tools.new_folder()
    (data / "syn/00005").mkdir(parents=True)
    shutil.copy(tools.drawn / "syn/00005/00001.jpg", data / "syn/00005/00001.jpg")
    make(**options_for(tools, data, batch_size=16, method_c="none", load_path=trained.run_dir))
    return data


def test_needs_only_renderings_and_weights_and_mirrors_the_renderings(by_one):
    assert sorted(os.listdir(by_one)) == ["generated", "syn"], "and no logs"
    assert images_in(by_one / "generated").keys() == images_in(by_one / "syn").keys()
    assert len(images_in(by_one / "generated")) == 17
    pictures = pixels(by_one / "generated", images_in(by_one / "syn"))
    assert pictures.shape == (17, 16, 16, 3) and pictures.std() > 5


def test_same_bytes_whatever_the_batch_and_the_method(by_one, by_five, by_sixteen):
    images = images_in(by_one / "generated")
    assert images == images_in(by_five / "generated") == images_in(by_sixteen[0] / "generated")
    assert len(set(images.values())) == 17


def test_a_single_image(by_one, single):
    image, = images_in(single / "generated").values()
    assert image == images_in(by_one / "generated")["00005/00001.jpg"]
    (name, score), = scores_in(single / "generated").items()
    assert name == "00005/00001.jpg" and np.isfinite(score).all()
    np.testing.assert_allclose(score[:2], scores_in(by_one / "generated")[name][:2], atol=1e-5)


def test_scores_are_the_same_whatever_the_batch(by_one, by_five, by_sixteen):
    scores = scores_in(by_one / "generated")
    assert list(scores) == sorted(images_in(by_one / "syn"))
    for other in (by_five, by_sixteen[0]):
        other = scores_in(other / "generated")
        assert other.keys() == scores.keys()
        assert max(np.abs(other[name] - scores[name]).max() for name in scores) <= 1e-5


def test_images_and_scores_are_what_the_averaged_networks_say(by_one, trained):
    scores = scores_in(by_one / "generated")
    names = list(scores)
    values = evaluate(averages_of(trained.run_dir / "model.ckpt-200"), by_one / "syn", names)
    assert np.abs(pixels(by_one / "generated", names) - (values["x"] + 1) * 127.5).mean() < 3     # JPEG
    got = np.stack(list(scores.values()))
    np.testing.assert_allclose(got[:, 0], values["d_score"], atol=1e-5)
    np.testing.assert_allclose(got[:, 1], values["s_score"], atol=1e-5)
    np.testing.assert_allclose(got[:, 2], magnet_scores(values["embeddings"], names), rtol=1e-3, atol=1e-3)
    assert got.std(0).min() > 1e-4


def test_no_run_directory_is_left_behind(by_sixteen):
    data, result = by_sixteen
    assert os.listdir(data / "logs") == ["run"]
    assert "model.ckpt-200: averaged weights loaded" in result.err
    assert re.search(r"17/17 \[.*image/s\]", result.err)


# Going on with a data set

@scenario
def stopped_and_killed(tools, trained):
    """2,417 renderings: SIGTERM after some, SIGKILL after more, then to the end.

    Returns (data folder, result of the first command, {path: (mtime, inode, bytes)} after the kill, the last result).
    """
    data = renderings_only(tools)
    sources = sorted((data / "syn").rglob("*.jpg"))
    for number in range(2400):
        path = data / f"syn/{100 + number // 40:05}/{number:05}.jpg"
        path.parent.mkdir(exist_ok=True)
        os.link(sources[number % 17], path)
    options = options_for(tools, data, load_path=trained.run_dir)
    made = data / "generated"

    def end(number, count):
        program = Program(**options)
        deadline = time.monotonic() + 120
        while len(list(made.rglob("*.jpg"))) < count:
            assert time.monotonic() < deadline and program.process.poll() is None
            time.sleep(.002)
        return program.end(number)

    first = end(signal.SIGTERM, 30)
    stopped = len(images_in(made))
    end(signal.SIGKILL, stopped + 100)
    (made / "00101/.tmp-0123456789abcdef").write_bytes(b"half an im")
    kept = {path: (path.stat().st_mtime_ns, path.stat().st_ino, path.read_bytes()) for path in made.rglob("*.jpg")}
    return data, first, stopped, kept, succeed(**options)


def test_a_signal_ends_synthesis_in_good_order(stopped_and_killed):
    data, first, stopped, *_ = stopped_and_killed
    assert first.status == 128 + signal.SIGTERM and "Traceback" not in first.err
    assert first.errors == [f"main.py: interrupted; {stopped} of 2417 images written to {data}/generated; "
                            "run the same command again for the rest"]
    assert 30 <= stopped < 2417


def test_a_rerun_finishes_and_touches_nothing_complete(stopped_and_killed, by_one):
    data, _, stopped, kept, _ = stopped_and_killed
    made = images_in(data / "generated")
    assert stopped < len(kept) < 2417 == len(made) and made.keys() == images_in(data / "syn").keys()
    assert kept == {path: (path.stat().st_mtime_ns, path.stat().st_ino, path.read_bytes()) for path in kept}
    assert images_in(by_one / "generated").items() <= made.items()
    assert not [name for name in tree(data / "generated") if ".tmp-" in name]
    scores = scores_in(data / "generated")
    assert scores.keys() == made.keys() and np.isfinite(list(scores.values())).all()


@pytest.fixture(scope="module")
def mended(tools, trained):
    """Two complete runs of one command, between which an image was lost -> (folder, files and scores before)."""
    data = renderings_only(tools)
    options = options_for(tools, data, load_path=trained.run_dir)
    make(**options)
    made = data / "generated"
    (made / "00002/00003.jpg").unlink()
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in made.rglob("*.jpg")}
    scores = scores_in(made)
    make(**options)
    return made, before, scores


def test_a_lost_image_is_made_again_and_the_others_are_left_alone(mended, by_one):
    made, before, scores = mended
    assert len(before) == 16 and images_in(made) == images_in(by_one / "generated")
    assert before == {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in before}
    again = scores_in(made)
    assert max(np.abs(again[name] - scores[name]).max() for name in scores) <= 1e-5 and again.keys() == scores.keys()


# Where weights come from

class Published(tuple):
    """(weights, averages): {name: array} of a checkpoint in the manner of the original."""


def publish(prefix, trained):
    """Write a checkpoint with averages that differ from the weights, by plain TensorFlow -> Published."""
    weights, averages = random_weights(1, trained), random_weights(2, trained)
    scalars = {"step": np.int32(1000), "k_t": np.float32(.1), "g_lr": np.float32(4e-5), "beta1_power": np.float32(.9)}
    write_checkpoint(prefix, weights | {name + AVERAGE: value for name, value in averages.items()} | scalars)
    return Published((weights, averages))


@pytest.fixture(scope="module")
def without_classifier(tools, trained):
    """A folder with a checkpoint `model.ckpt` as --pretrained_gen, no --pretrained_rec -> (data, Published, result)."""
    data = renderings_only(tools)
    (data / "release").mkdir()
    published = publish(data / "release/model.ckpt", trained)
    result = make(**options_for(tools, data, pretrained_rec="", pretrained_gen=data / "release"))
    return data, published, result


@pytest.fixture(scope="module")
def without_dropout(tools, trained):
    """The prefix of `model.ckpt-1000` without its step as --pretrained_gen; no dropout, no scores."""
    data = renderings_only(tools)
    (data / "release").mkdir()
    published = publish(data / "release/model.ckpt-1000", trained)
    make(**options_for(tools, data, pretrained_gen=data / "release/model.ckpt", generation_dropout=False,
                       scores=False))
    return data, published


def test_published_weights_are_used_averaged(without_classifier):
    data, (weights, averages), _ = without_classifier
    names = sorted(images_in(data / "syn"))
    made = pixels(data / "generated", names)
    averaged, raw = (evaluate(small_classifier() | values, data / "syn", names) for values in (averages, weights))
    assert np.abs(made - (averaged["x"] + 1) * 127.5).mean() < 6                    # noise, at the quality of a JPEG
    assert np.abs(made - (raw["x"] + 1) * 127.5).mean() > 30
    scores = np.stack([scores_in(data / "generated")[name] for name in names])
    np.testing.assert_allclose(scores[:, 0], averaged["d_score"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(scores[:, 1], averaged["s_score"], rtol=1e-4, atol=1e-5)


def test_without_a_classifier_the_fourth_column_is_nan(without_classifier):
    data, _, result = without_classifier
    assert all(np.isfinite(score[:2]).all() and np.isnan(score[2])
               for score in scores_in(data / "generated").values())
    assert len([line for line in result.err.splitlines() if "c_score" in line and "--pretrained_rec" in line]) == 1


def test_without_dropout_and_scores(without_classifier, without_dropout):
    data, (_, averages) = without_dropout
    names = sorted(images_in(data / "syn"))
    made = pixels(data / "generated", names)
    weights = small_classifier() | averages
    plain, dropped = (evaluate(weights, data / "syn", names, dropout) for dropout in (False, True))
    assert np.abs(made - (plain["x"] + 1) * 127.5).mean() < 6
    assert np.abs(made - (dropped["x"] + 1) * 127.5).mean() > 10
    with_dropout = images_in(without_classifier[0] / "generated")
    assert not set(with_dropout.items()) & set(images_in(data / "generated").items())
    assert products(data / "generated").keys() == with_dropout.keys()                   # no scores of any kind


@pytest.mark.parametrize("given", ["", "model.ckpt", "model.ckpt-1000"])
def test_prefixes_of_a_published_checkpoint(without_dropout, without_classifier, given):
    folder = without_dropout[0] / "release"
    assert runs.list_checkpoints(str(folder / given)) == [str(folder / "model.ckpt-1000")]
    plain = without_classifier[0] / "release"
    assert runs.list_checkpoints(str(plain / "model.ckpt")) == [str(plain / "model.ckpt")]


def test_no_weights_anywhere(drawn, tmp_path):
    (tmp_path / "logs").mkdir()
    before = sorted(os.listdir(drawn))
    options = {**NAMES, **NARROW, "data_dir": drawn, "generate_dataset": True, "log_dir": tmp_path / "logs"}
    result = call(main, *words(**options))
    assert result.status == 2 and len(result.err.splitlines()) == 1
    assert "--pretrained_gen" in result.err and "--load_path" in result.err
    assert sorted(os.listdir(drawn)) == before and not list((tmp_path / "logs").iterdir())


# Fitting, all modes at once

@pytest.fixture(scope="module")
def fitted(tools, trained):
    """Photos in a folder and in sub-folders, and no renderings at all -> the data folder."""
    data = tools.new_folder()
    shutil.copytree(tools.drawn / "real", data / "real")
    for path in list((data / "real/10002").iterdir()):
        path.rename(data / "real" / f"b{path.name}")
    (data / "real/10002").rmdir()
    make(**options_for(tools, data, pretrained_rec="", generate_dataset=False, fit_dataset=True,
                       load_path=trained.run_dir))
    return data


def test_fitting_mirrors_the_photos(fitted, trained):
    assert sorted(os.listdir(fitted)) == ["fitting", "real"]
    names = sorted(images_in(fitted / "real"))
    assert names[0] == "10001/00001.jpg" and names[-1] == "b00005.jpg" and len(names) == 10
    assert sorted(products(fitted / "fitting")) == names
    weights = averages_of(trained.run_dir / "model.ckpt-200")
    with tf.Graph().as_default(), tf1.Session() as session:
        tf1.set_random_seed(1)
        photos = tf.constant(pixels(fitted / "real", names) / 127.5 - 1, tf.float32)
        fits = models.Generator("G_inv", 4, 1, skips=False)(photos)
        set_values(session, {variable: weights[variable.op.name] for variable in tf1.global_variables()})
        wanted = (session.run(fits) + 1) * 127.5
    assert np.abs(pixels(fitted / "fitting", names) - wanted).mean() < 3


@scenario
def all_at_once(tools):
    """Two steps of training, then the data set and the fits, in one command -> (data folder, result)."""
    data = tools.new_folder()
    shutil.copytree(tools.drawn, data, dirs_exist_ok=True)
    shutil.copytree(data / "paired", data / "more")
    result = succeed(**options_for(tools, data, method_c="none", train_generator=True, fit_dataset=True, max_step=2,
                                   batch_size=2, log_step=1, save_step=1, dataset_3dmm_test="more"))
    return data, result


def test_train_then_generate_and_fit(all_at_once):
    data, result = all_at_once
    run_dir = only_run(data / "logs")
    assert (run_dir / "model.ckpt-2.index").exists() and re.search(r"\[2/2\] .* s/step  Loss_D: ", result.err)
    assert images_in(data / "generated").keys() == images_in(data / "syn").keys()
    assert images_in(data / "fitting").keys() == images_in(data / "real").keys()
    assert scores_in(data / "generated").keys() == images_in(data / "syn").keys()
    names = sorted(images_in(data / "syn"))
    values = evaluate(averages_of(run_dir / "model.ckpt-2"), data / "syn", names)
    assert np.abs(pixels(data / "generated", names) - (values["x"] + 1) * 127.5).mean() < 3


def test_test_pairs_are_reported_and_not_trained(all_at_once):
    data, result = all_at_once
    lines = re.findall(r"\[(\d)\] paired loss on 6 test pairs: (\d\.\d{6})", result.err)
    assert [step for step, _ in lines] == ["1", "2"]
    scalars, _ = events(only_run(data / "logs"))
    assert float(lines[1][1]) == pytest.approx(scalars["loss/paired_test", 2], abs=1e-6)


# Sample grids

def sheet_cells(path, columns):
    """The pictures of 16 x 16 in a grid, row by row: int [N, 16, 16, 3]."""
    image = np.asarray(Image.open(path).convert("RGB"), int)
    assert image.shape[1] == columns * 18 - 2
    return np.stack([image[y:y + 16, x:x + 16]
                     for y in range(0, image.shape[0], 18) for x in range(0, image.shape[1], 18)])


@pytest.fixture(scope="module")
def grid(tools, trained):
    """--is_train False -> (data folder, run directory, its files before)."""
    data = renderings_only(tools)
    run_dir = data / "logs/run"
    shutil.copytree(trained.run_dir, run_dir)
    before = tree(run_dir)
    make(**options_for(tools, data, generate_dataset=False, is_train=False, train_generator=True, load_path="run",
                       num_log_id=3, num_log_samples=5))
    return data, run_dir, before


def test_grid_of_the_fixed_identities(grid, trained, by_one):
    data, run_dir, before = grid
    assert sorted(os.listdir(data)) == ["logs", "syn"]
    after = tree(run_dir)
    assert after.keys() - before.keys() == {"200_test.png"} and before.items() <= after.items()
    cells = sheet_cells(run_dir / "200_test.png", 5).reshape(3, 5, 16, 16, 3)
    assert not cells[:, 4].any()                                                    # each has 4 renderings
    names = [f"{i:05}/{j:05}.jpg" for i in (1, 2, 3) for j in (1, 2, 3, 4)]
    values = evaluate(averages_of(run_dir / "model.ckpt-200"), data / "syn", names)
    assert np.abs(cells[:, :4].reshape(12, 16, 16, 3) - (values["x"] + 1) * 127.5).max() < .6


@pytest.fixture(scope="module")
def samples(tools, trained):
    """--is_train False --test_data_path DIR, with no data folder at all -> (DIR, run directory)."""
    folder = tools.new_folder()
    (folder / "faces/more").mkdir(parents=True)
    for name, source in (("a.jpg", "00001/00001"), ("b.jpg", "00002/00002"), ("more/c.jpg", "00003/00003")):
        shutil.copy(tools.drawn / f"syn/{source}.jpg", folder / "faces" / name)
    run_dir = folder / "run"
    shutil.copytree(trained.run_dir, run_dir)
    make(**options_for(tools, folder / "nothing", pretrained_rec="", generate_dataset=False, is_train=False,
                       load_path=run_dir, test_data_path=folder / "faces", sample_per_image=3))
    return folder / "faces", run_dir


def test_dropout_samples_of_a_folder_of_renderings(samples):
    faces, run_dir = samples
    cells = sheet_cells(run_dir / "test_0001.png", 4).reshape(3, 4, 16, 16, 3)
    assert np.array_equal(cells[:, 0], pixels(faces, ["a.jpg", "b.jpg", "more/c.jpg"]))
    for row in cells:
        assert all(np.abs(row[i] - row[j]).max() > 0 for i in range(1, 4) for j in range(1, i))
    assert not (faces.parent / "nothing").exists()
    assert [name for name in os.listdir(run_dir) if "test" in name] == ["test_0001.png"]
