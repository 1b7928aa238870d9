"""Sample grids of a training (trainer, synthesis, sheets): what each shows, and that drawing them changes nothing."""
import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import main
import models
from conftest import NAMES, NARROW, only_run, read_checkpoint, words
from datasets.image_sets import find_pairs, find_photos
from drawn import draw_face, write
from engine import layers
from engine.checkpoints import AVERAGE, averages_read, set_values
from synthesis.sheets import first_of_rows, image_seed, load_spread, Sheet
from tool import succeed_here

tf1 = tf.compat.v1

STEPS, PAIRS, PHOTOS, SIZE = 4, 18, 20, NARROW["input_scale_size"]
IDENTITIES, EACH = 3, 4                         # renderings; a sheet shows two identities
KINDS = "G", "G_raw", "pairs", "reconstructions"
CONFIG = SimpleNamespace(input_scale_size=SIZE, grayscale=False)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder of data in PNG, which loses nothing."""
    folder = str(tmp_path_factory.mktemp("data"))
    for identity in range(1, IDENTITIES + 1):
        for number in range(1, EACH + 1):
            write(folder, f"syn/{identity}/{number}.png", draw_face(identity, number, SIZE, photo=False))
    for number in range(1, PHOTOS + 1):
        write(folder, f"real/{number:02}.png", draw_face(100 + number, 1, SIZE, photo=True))
    for number in range(1, PAIRS + 1):
        write(folder, f"paired/{number:02}.png", draw_face(200 + number, 1, SIZE, photo=True))
        write(folder, f"paired/3dmm/{number:02}.png", draw_face(200 + number, 1, SIZE, photo=False))
    return folder


def train(data, log_dir, **options):
    """Train in this process -> (the run directory, the command's result)."""
    result = succeed_here(main, *words(**{
        **NAMES, **NARROW, "data_dir": data, "log_dir": log_dir, "method_c": "none", "batch_size": 2, "max_step": STEPS,
        "checkpoint_step": STEPS, "log_step": 1, "save_step": 1, "num_log_id": 2, "num_log_samples": 3, "g_lr": 1e-2,
        "d_lr": 1e-2, "average_decay": .5, **options}))
    return only_run(log_dir), result


@pytest.fixture(scope="module")
def run_dir(data, tmp_path_factory):
    """A training that draws grids after each of its steps."""
    return train(data, tmp_path_factory.mktemp("logs"))[0]


def cells(path, columns):
    """The cells of a grid with so many columns: uint8 [rows, columns, S, S, 3]."""
    image = np.asarray(Image.open(path))
    assert image.shape[1] == columns * (SIZE + 2) - 2 and (image.shape[0] + 2) % (SIZE + 2) == 0
    return np.array([[image[y:y + SIZE, x:x + SIZE] for x in range(0, image.shape[1], SIZE + 2)]
                     for y in range(0, image.shape[0], SIZE + 2)])


def images(folder, names):
    """The images `names` in a folder: uint8 [n, S, S, 3]."""
    return np.array([np.asarray(Image.open(os.path.join(folder, name)).convert("RGB")) for name in names])


def shown(count):
    """The names of the images of a set of so many that are shown."""
    return [f"{1 + round(place):02}.png" for place in np.linspace(0, count - 1, 16)]


# What is loaded

def test_sixteen_images_of_a_set_are_far_apart_and_pairs_stay_together(data):
    photos, renderings = load_spread(CONFIG, find_pairs(f"{data}/paired"))
    assert np.array_equal(photos, images(f"{data}/paired", shown(PAIRS)))
    assert np.array_equal(renderings, images(f"{data}/paired/3dmm", shown(PAIRS)))
    few, = load_spread(CONFIG, [find_photos(f"{data}/real")._replace(names=["03.png", "01.png"])])
    assert np.array_equal(few, images(f"{data}/real", ["03.png", "01.png"]))


@pytest.mark.parametrize("folder", ["paired", "paired/3dmm"])
def test_a_damaged_pair_is_left_out_with_a_warning(data, tmp_path, caplog, folder):
    shutil.copytree(f"{data}/paired", tmp_path / "paired")
    pairs = find_pairs(str(tmp_path / "paired"))
    broken = tmp_path / folder / shown(PAIRS)[1]
    broken.write_bytes(broken.read_bytes()[:100])
    photos, renderings = load_spread(CONFIG, pairs)
    left = [name for name in shown(PAIRS) if name != broken.name]
    assert np.array_equal(photos, images(f"{data}/paired", left)) and len(left) == 15
    assert np.array_equal(renderings, images(f"{data}/paired/3dmm", left))
    assert f"left out of the sample grids: {broken} (" in caplog.text and len(caplog.records) == 1


def test_of_a_set_that_is_broken_nothing_is_shown(tmp_path):
    (tmp_path / "1.png").write_bytes(b"")
    assert [len(found) for found in load_spread(CONFIG, [find_photos(str(tmp_path))] * 2)] == [0, 0]


def test_the_first_image_of_each_identity_comes_first():
    sheet = Sheet(None, 3, [(0, "a"), (1, "b"), (3, "c"), (5, "d"), (6, "e")])         # the second row lacks one
    assert first_of_rows(sheet) == [(0, "a"), (3, "c"), (6, "e"), (1, "b"), (5, "d")]
    assert first_of_rows(sheet, 2) == [(0, "a"), (3, "c")]


def test_networks_read_averages_and_make_none():
    with tf.Graph().as_default():
        tf1.set_random_seed(1)
        network, x = models.Generator("G_inf", 2, 1, skips=True), tf.zeros([1, 16, 16, 3])
        network(x)
        with pytest.raises(ValueError, match=f"G_inf/c7s1_32/weights{AVERAGE} does not exist"), averages_read():
            network(x)
        for variable in network.variables:
            tf1.get_variable(variable.op.name + AVERAGE, initializer=variable.initial_value, trainable=False,
                             use_resource=True)
        names = {variable.op.name for variable in tf1.global_variables()}
        with averages_read():
            made = network(x)
        assert {variable.op.name for variable in tf1.global_variables()} == names
        assert len(network.variables) == len(names) / 2
        reads, waiting = set(), [made.op]
        while waiting:
            operation = waiting.pop()
            if operation not in reads:
                reads.add(operation)
                waiting += [tensor.op for tensor in operation.inputs]
        handles = {operation.name for operation in reads if operation.type == "VarHandleOp"}
        assert handles == {name for name in names if name.endswith(AVERAGE)}


# What a training draws

@pytest.mark.slow
def test_every_look_leaves_four_grids_of_their_sizes(run_dir):
    there = sorted(path.name for path in run_dir.glob("*.png"))
    assert there == sorted(["syn_fixed.png", *(f"{step}_{kind}.png" for step in range(1, STEPS + 1) for kind in KINDS)])
    for step in range(1, STEPS + 1):
        shapes = [cells(run_dir / f"{step}_{kind}.png", columns).shape[:2]
                  for kind, columns in zip(KINDS, (3, 3, 3, 8))]
        assert shapes == [(2, 3), (2, 3), (16, 3), (6, 8)]          # six renderings are on the sheet


@pytest.mark.slow
def test_the_averaged_grid_is_what_synthesis_makes(data, run_dir, tmp_path):
    options = dict(data_dir=tmp_path, load_path=run_dir, syn_dataset=f"{data}/syn", scores=False)
    succeed_here(main, *words(**options, generate_dataset=True, save_syn_dataset="generated"))
    grid = cells(run_dir / f"{STEPS}_G.png", 3)
    made = [images(tmp_path / f"generated/{identity}", ["1.png", "2.png", "3.png"]) for identity in (1, 2)]
    assert np.array_equal(grid, made)
    succeed_here(main, *words(**options, train_generator=False, is_train=False))
    assert (run_dir / f"{STEPS}_test.png").read_bytes() == (run_dir / f"{STEPS}_G.png").read_bytes()
    (run_dir / f"{STEPS}_test.png").unlink()


@pytest.mark.slow
def test_pairs_are_photo_rendering_and_what_fitting_makes(data, run_dir, tmp_path):
    shutil.copytree(f"{data}/paired", tmp_path / "real", ignore=shutil.ignore_patterns("3dmm"))
    succeed_here(main, *words(data_dir=tmp_path, dataset="real", load_path=run_dir, fit_dataset=True,
                              save_fitting="fitted"))
    photos, renderings, fitted = np.swapaxes(cells(run_dir / f"{STEPS}_pairs.png", 3), 0, 1)
    assert np.array_equal(photos, images(f"{data}/paired", shown(PAIRS)))
    assert np.array_equal(renderings, images(f"{data}/paired/3dmm", shown(PAIRS)))
    assert np.array_equal(fitted, images(tmp_path / "fitted", shown(PAIRS)))


def see(values, photos, renderings, seeds):
    """What the networks with weights {name: array} make of images: generated photos, and all that a game shows."""
    with tf.Graph().as_default(), tf1.Session() as session:
        tf1.set_random_seed(1)          # to be had, as operations have to be deterministic
        r, s = (tf.constant(each / 127.5 - 1, tf.float32) for each in (photos, renderings))
        x = models.Generator("G_inf", 4, 1, skips=True)(s, layers.Dropout(.9, tf.constant(seeds)))
        y = models.Generator("G_inv", 4, 1, skips=False)(x)
        forw, back = (models.DiscriminatorCNN(name, 4, 8) for name in ("D_forw", "D_back"))
        fetches = [r, forw(r), x, forw(x), s, back(s), y, back(y)]
        set_values(session, {variable: values[variable.op.name] for variable in tf1.global_variables()})
        return np.clip((np.stack(session.run(fetches), 1) + 1) * 127.5, 0, 255)


@pytest.mark.slow
def test_reconstructions_and_the_raw_grid_are_of_the_weights_that_train(data, run_dir):
    names = [f"{identity}/{number}.png" for number in (1, 2, 3) for identity in (1, 2)]
    values = read_checkpoint(run_dir / f"model.ckpt-{STEPS}")
    wanted = see(values, images(f"{data}/real", shown(PHOTOS)[:6]), images(f"{data}/syn", names),
                 [image_seed(123, name) for name in names])
    grid = cells(run_dir / f"{STEPS}_reconstructions.png", 8)
    assert np.abs(grid - wanted).max() < .6
    assert len(np.unique(grid.reshape(48, -1), axis=0)) == 48                       # no column is another one
    raw, averaged = (cells(run_dir / f"{STEPS}_{kind}.png", 3) for kind in ("G_raw", "G"))
    assert np.array_equal(np.swapaxes(raw, 0, 1).reshape(6, SIZE, SIZE, 3), grid[:, 2])
    assert np.abs(raw - averaged.astype(int)).mean() > .5


@pytest.mark.long
@pytest.mark.slow
def test_grids_change_no_bit_of_a_training(data, run_dir, tmp_path):
    """The run without them begins and ends the same, and draws after its last checkpoint only."""
    other, _ = train(data, tmp_path / "logs", save_step=100)
    assert sorted(path.name for path in other.glob("*.png")) == ["4_G.png", "4_G_raw.png", "4_pairs.png",
                                                                 "4_reconstructions.png", "syn_fixed.png"]
    ours, theirs = (read_checkpoint(each / f"model.ckpt-{STEPS}") for each in (run_dir, other))
    assert ours.keys() == theirs.keys() and any(AVERAGE in name for name in ours)
    assert not [name for name in ours if ours[name].tobytes() != theirs[name].tobytes()]
    assert all((run_dir / f"4_{kind}.png").read_bytes() == (other / f"4_{kind}.png").read_bytes() for kind in KINDS)


@pytest.mark.long
@pytest.mark.slow
def test_damaged_pairs_end_no_training_of_another_game(data, tmp_path, monkeypatch):
    """They are damaged after all images were checked. Patch discriminators have no reconstructions."""
    shutil.copytree(data, tmp_path / "data")
    broken = [tmp_path / "data/paired/01.png", tmp_path / "data/paired/3dmm/18.png"]
    monkeypatch.setattr(main, "start", lambda xla, precision: [
        path.write_bytes(path.read_bytes()[:100]) for path in broken])
    made, result = train(tmp_path / "data", tmp_path / "logs", game="hinge", save_step=100)
    assert all(f"left out of the sample grids: {path} (" in result.err for path in broken)
    assert sorted(path.name for path in made.glob("4_*")) == ["4_G.png", "4_G_raw.png", "4_pairs.png"]
    assert np.array_equal(cells(made / "4_pairs.png", 3)[:, 0], images(f"{data}/paired", shown(PAIRS)[1:-1]))


@pytest.mark.long
@pytest.mark.slow
def test_without_pairs_there_is_no_grid_of_them(data, tmp_path):
    shutil.copytree(data, tmp_path / "data", ignore=shutil.ignore_patterns("paired"))
    made, _ = train(tmp_path / "data", tmp_path / "logs", lambda_d=0, save_step=100)
    assert sorted(path.name for path in made.glob("4_*")) == ["4_G.png", "4_G_raw.png", "4_reconstructions.png"]
