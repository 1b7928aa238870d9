"""data_loader.py: every epoch a permutation, batch i the same whatever the start, broken images replaced or omitted."""
import itertools
import os
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import data_loader
import utils
from data_loader import get_3dmm_loader, get_loader, get_syn_loader, Order, read_in_order, Reading
from datasets.image_sets import find_pairs, find_photos, find_renderings, ImageSet
from datasets.images import BrokenImage, load_image
from drawn import write_dataset

tf1 = tf.compat.v1
SIZE, BATCH = 16, 4
READING, ORDER = Reading(SIZE, BATCH, workers=2), Order(seed=123, start=0)


@pytest.fixture(autouse=True)
def graph():
    """A graph of its own for each test."""
    with tf.Graph().as_default() as graph:
        yield graph


@pytest.fixture(scope="module")
def numbered(tmp_path_factory):
    """11 photos, 11 renderings and 11 pairs; the first pixel tells the number of each (renderings: plus 100)."""
    root = tmp_path_factory.mktemp("numbered")
    for i in range(11):
        for name, value in ((f"real/{i}.png", i), (f"syn/{i // 4}/{i}.png", 100 + i),
                            (f"paired/{i}.png", i), (f"paired/3dmm/{i}.png", 100 + i)):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (SIZE, SIZE), (value, 0, 7)).save(root / name)
    return Sets(root)


class Sets:
    """The three image sets under a folder."""

    def __init__(self, root):
        self.root = root
        self.photos = find_photos(str(root / "real"))
        self.renderings = find_renderings(str(root / "syn"))
        self.pairs = find_pairs(str(root / "paired"))


def run(dataset, steps, feed=None):
    """The first `steps` elements of a dataset, or all there are."""
    iterator = tf1.data.make_initializable_iterator(dataset)
    element = iterator.get_next()
    elements = []
    with tf1.Session() as session:
        session.run(iterator.initializer, feed)
        try:
            while len(elements) < steps:
                elements.append(session.run(element))
        except tf.errors.OutOfRangeError:
            pass
    return elements


def numbers(batches):
    """The number that every image's first pixel tells, one list."""
    return np.concatenate(batches)[:, 0, 0, 0].tolist()


def test_shapes_and_types_are_static(numbered):
    images = tf.TensorSpec([BATCH, SIZE, SIZE, 3], tf.uint8)
    assert get_loader(numbered.photos, READING, ORDER).element_spec == images
    assert get_syn_loader(numbered.renderings, READING, ORDER).element_spec == (
        images, tf.TensorSpec([BATCH], tf.int32))
    assert get_3dmm_loader(numbered.pairs, READING, ORDER).element_spec == (images, images)


@pytest.mark.parametrize("count", [1, 2, 3, 11, 1000])
def test_every_epoch_is_another_permutation(count):
    with tf1.Session() as session:
        order = session.run(data_loader.shuffled(tf.range(6 * count, dtype=tf.int64), count, -1, data_loader.SYN))
    epochs = order.reshape(6, count)
    assert (np.sort(epochs, axis=1) == np.arange(count)).all()
    if count > 10:
        assert len({tuple(epoch) for epoch in epochs}) == 6


def test_small_permutations_are_all_equally_likely():
    with tf1.Session() as session:
        order = session.run(data_loader.shuffled(tf.range(3 * 1200, dtype=tf.int64), 3, 5, data_loader.REAL))
    _, times = np.unique(order.reshape(1200, 3), axis=0, return_counts=True)
    assert len(times) == 6 and ((times > 150) & (times < 250)).all()


@pytest.mark.parametrize("count", [1000, 200_000])
def test_orders_of_other_seeds_streams_and_epochs_are_unrelated(count):
    positions = tf.range(2 * count, dtype=tf.int64)
    with tf1.Session() as session:
        orders = session.run([data_loader.shuffled(positions, count, seed, stream)
                              for seed, stream in ((0, 0), (0, 1), (0, 2), (1, 0))])
    epochs = np.reshape(orders, [8, count])
    related = np.abs(np.corrcoef(epochs) - np.eye(8)).max()
    assert related < 5 / np.sqrt(count) and all((a != b).mean() > .98 for a, b in itertools.combinations(epochs, 2))


def order_of(labels, count, seed=1):
    with tf1.Session() as session:
        return session.run(data_loader.balanced(tf.range(count, dtype=tf.int64), np.array(labels, np.int32), seed, 0))


def test_balanced_orders_show_all_identities_equally_often():
    """3 identities of 1, 4 and 7 images: 4 of each in an epoch of 12, and in 7 epochs each image as often as others.

    The images of an identity need not be neighbours, and an identity may have none.
    """
    labels = np.random.default_rng(1).permutation([5] * 1 + [2] * 4 + [9] * 7)
    order = order_of(labels, 7 * 12)
    assert order.dtype == np.int64
    for epoch in order.reshape(7, 12):
        assert np.bincount(labels[epoch])[[2, 5, 9]].tolist() == [4, 4, 4]
        assert len(set(epoch[labels[epoch] == 2])) == len(set(epoch[labels[epoch] == 9])) == 4
    for label, times in ((5, 28), (2, 7), (9, 4)):
        assert np.bincount(order, minlength=12)[labels == label].tolist() == [times] * (labels == label).sum()
    assert not np.array_equal(labels[order[:12]], labels[order[12:24]])
    assert np.array_equal(order, order_of(labels, 7 * 12)) and not np.array_equal(order, order_of(labels, 7 * 12, 2))


def test_a_balanced_batch_is_the_same_whatever_the_start(numbered):
    """And of the labelled images it has as many of one identity as of the others."""
    labels = numbered.renderings.labels

    def batches(start, steps):
        order = ORDER._replace(start=start)
        return [indices for indices, _ in run(data_loader.training_batches(
            [numbered.renderings], READING, order, data_loader.SYN, labels), steps)]

    whole = batches(0, 6)
    assert all(map(np.array_equal, whole[3:], batches(3, 3)))
    assert np.bincount(labels[np.concatenate(whole[:3])]).tolist() == [4, 4, 4]


def test_batches_cover_the_set_epoch_by_epoch(numbered):
    found = numbers(run(get_loader(numbered.photos, READING, ORDER), 11))
    assert len(found) == 44
    assert all(sorted(found[e:e + 11]) == list(range(11)) for e in (0, 11, 22, 33))


def test_batch_i_is_the_same_whatever_the_start_and_the_workers(numbered):
    start = tf1.placeholder(tf.int64, [])
    loader = get_loader(numbered.photos, READING, Order(123, start))
    from_start = run(loader, 9, {start: 0})
    assert np.array_equal(run(loader, 4, {start: 5}), from_start[5:])
    alone = READING._replace(workers=1)
    assert np.array_equal(run(get_loader(numbered.photos, alone, Order(123, 5)), 4), from_start[5:])
    assert not np.array_equal(run(get_loader(numbered.photos, READING, Order(4, 0)), 9), from_start)


def test_renderings_come_with_their_classes(numbered):
    batches = run(get_syn_loader(numbered.renderings, READING, Order(123, 3)), 6)
    labels = np.concatenate([labels for _, labels in batches])
    assert labels.dtype == np.int32
    assert labels.tolist() == [(number - 100) // 4 for number in numbers([images for images, _ in batches])]


def test_pairs_stay_together_and_streams_differ(numbered):
    photos, renderings = zip(*run(get_3dmm_loader(numbered.pairs, READING, ORDER), 6))
    assert [number + 100 for number in numbers(photos)] == numbers(renderings)
    assert numbers(photos) != numbers(run(get_loader(numbered.photos, READING, ORDER), 6))


def test_grayscale_and_size(numbered):
    (batch,) = run(get_loader(numbered.photos, READING._replace(grayscale=True, size=24), ORDER), 1)
    assert batch.shape == (BATCH, 24, 24, 3) and (batch == batch[..., :1]).all()


def test_a_loader_works_in_a_zipped_training_graph_with_an_int32_step(numbered):
    step = tf1.get_variable("step", [], tf.int32, tf1.constant_initializer(2), use_resource=True)
    order = Order(123, step)
    dataset = tf.data.Dataset.zip((get_loader(numbered.photos, READING, order),
                                   get_syn_loader(numbered.renderings, READING, order)))
    iterator = tf1.data.make_initializable_iterator(dataset)
    photos, (_, labels) = iterator.get_next()
    with tf1.Session() as session:
        session.run(step.initializer)
        session.run(iterator.initializer)
        found = session.run([photos, labels])
    expected = run(get_loader(numbered.photos, READING, Order(123, 2)), 1)
    assert np.array_equal(found[0], expected[0])


@pytest.fixture
def damaged(tmp_path):
    """A drawn data set in which one file of each kind has been cut short after it was listed."""
    write_dataset(str(tmp_path), size=SIZE, identities=2, per_identity=3, photos=6, pairs=6)
    sets = Sets(tmp_path)
    for part, i in ((sets.photos, 5), (sets.renderings, 2), (sets.pairs.renderings, 1)):
        path = os.path.join(part.root, part.names[i])
        with open(path, "rb+") as file:
            file.truncate(os.path.getsize(path) // 2)
    return sets


def decoded(image_set, indices):
    """The images at `indices`."""
    return np.stack([load_image(os.path.join(image_set.root, image_set.names[i]), SIZE) for i in indices])


def test_a_broken_image_is_replaced_by_the_next_and_named_once(damaged, caplog):
    positions = tf.range(24, dtype=tf.int64)
    with tf1.Session() as session:
        photo, rendering, pair = session.run([data_loader.shuffled(positions, 6, 123, stream) for stream in range(3)])
    batches = np.concatenate(run(get_loader(damaged.photos, READING, ORDER), 6))
    assert np.array_equal(batches, decoded(damaged.photos, np.where(photo == 5, 0, photo)))  # round the list

    images, labels = zip(*run(get_syn_loader(damaged.renderings, READING, ORDER), 6))
    used = np.where(rendering == 2, 3, rendering)
    assert np.array_equal(np.concatenate(images), decoded(damaged.renderings, used))
    assert np.array_equal(np.concatenate(labels), damaged.renderings.labels[used])

    photos, _ = zip(*run(get_3dmm_loader(damaged.pairs, READING, ORDER), 6))
    assert np.array_equal(np.concatenate(photos), decoded(damaged.pairs.photos, np.where(pair == 1, 2, pair)))
    for part, i in ((damaged.photos, 5), (damaged.renderings, 2), (damaged.pairs.renderings, 1)):
        path = os.path.join(part.root, part.names[i])
        assert sum(path in record.message for record in caplog.records) == 1


# Files that are gone, for a while or for good

def remove(folder, names):
    for name in names:
        os.remove(os.path.join(folder, name))


def to_folders(folder, names):
    """Put folders in the place of images: they are there, and can't be opened."""
    remove(folder, names)
    for name in names:
        os.mkdir(os.path.join(folder, name))


def to_text(folder, names):
    for name in names:
        with open(os.path.join(folder, name), "w") as file:
            file.write("no image")


@pytest.mark.parametrize("spoil, reason", [
    (remove, r"none of its 6 images can be read any more \([0-9/]+\.jpg: No such file or directory\)"),
    (to_folders, r"none of its 6 images can be read any more \([0-9/]+\.jpg: Is a directory\)"),
    (to_text, "none of its 6 images can be decoded any more")])
@pytest.mark.parametrize("which", ["photos", "pairs.photos", "pairs.renderings"])
def test_a_set_that_is_gone_is_an_error(damaged, which, spoil, reason):
    pairs = which.startswith("pairs")
    part = damaged.photos if not pairs else getattr(damaged.pairs, which.partition(".")[2])
    spoil(part.root, part.names)
    loader = get_3dmm_loader(damaged.pairs, READING, ORDER) if pairs else get_loader(damaged.photos, READING, ORDER)
    root = damaged.pairs.photos.root if spoil is to_text and pairs else part.root
    with pytest.raises(tf.errors.OpError, match=f"NoImageLeft: {root}: {reason}"):
        run(loader, 1)


@pytest.mark.parametrize("spoil", [remove, to_folders])
def test_a_single_file_that_is_gone_is_replaced_as_a_broken_one(damaged, caplog, spoil):
    spoil(damaged.photos.root, damaged.photos.names[2:3])
    with tf1.Session() as session:
        photo = session.run(data_loader.shuffled(tf.range(24, dtype=tf.int64), 6, 123, data_loader.REAL))
    batches = np.concatenate(run(get_loader(damaged.photos, READING, ORDER), 6))
    expected = np.where(photo == 5, 0, np.where(photo == 2, 3, photo))
    assert np.array_equal(batches, decoded(damaged.photos, expected))
    assert sum(damaged.photos.names[2] in record.message for record in caplog.records) == 1


def test_a_file_that_is_back_at_once_is_used(numbered, monkeypatch):
    """A drive that is away for a moment, while one image is read, replaces none."""
    expected, failed = run(get_loader(numbered.photos, READING, ORDER), 6), []

    def load(path, size, grayscale):
        if path not in failed:
            failed.append(path)
            raise BrokenImage(f"{path} (gone)") from OSError(116, "Stale file handle")
        return load_image(path, size, grayscale)

    monkeypatch.setattr(data_loader, "load_image", load)
    assert np.array_equal(run(get_loader(numbered.photos, READING, ORDER), 6), expected) and len(failed) == 11


def test_a_training_reads_the_same_batches_after_its_images_were_gone(numbered, tmp_path):
    """By a second start from where it failed, in the same session."""
    sets = Sets(shutil.copytree(numbered.root, tmp_path / "copy"))
    start = tf1.placeholder(tf.int64, [])
    loader = get_syn_loader(sets.renderings, READING, Order(123, start))
    expected = run(loader, 12, {start: 0})
    iterator = tf1.data.make_initializable_iterator(loader)
    element, found, failures = iterator.get_next(), [], 0
    with tf1.Session() as session:
        session.run(iterator.initializer, {start: 0})
        while len(found) < 12:
            if len(found) == 3 and not failures:
                os.rename(tmp_path / "copy/syn", tmp_path / "away")
            try:
                found.append(session.run(element))
            except tf.errors.OpError:
                failures += 1
                if failures == 3:
                    os.rename(tmp_path / "away", tmp_path / "copy/syn")
                session.run(iterator.initializer, {start: len(found)})
    assert failures == 3
    for (images, labels), (images_there, labels_there) in zip(found, expected):
        assert np.array_equal(images, images_there) and np.array_equal(labels, labels_there)


@pytest.mark.parametrize("count, most", [(1, 1), (2, 2), (16, 16), (17, 16), (500_000, 16)])
def test_readable_files_are_counted_all_over_a_set(tmp_path, monkeypatch, count, most):
    opened = []
    monkeypatch.setattr(data_loader, "_can_open", lambda images, index: opened.append(index) or True)
    images = ImageSet(str(tmp_path), [f"{i}.jpg" for i in range(count)])
    assert data_loader.count_readable([images]) == most == len(set(opened))
    assert opened == sorted(opened) and (opened[0], opened[-1]) == (0, count - 1)


def test_readable_files_are_none_where_a_set_has_none(numbered, tmp_path):
    sets = Sets(shutil.copytree(numbered.root, tmp_path / "copy"))
    several = [sets.photos, sets.renderings, *sets.pairs]
    assert data_loader.count_readable(several) == 44
    remove(sets.photos.root, sets.photos.names[:5])
    assert data_loader.count_readable(several) == 39
    remove(sets.pairs.renderings.root, sets.pairs.renderings.names)
    assert data_loader.count_readable(several) == 0


def test_reading_in_order_ends_where_all_images_are_gone(numbered, tmp_path):
    """They would all be left out otherwise."""
    sets = Sets(shutil.copytree(numbered.root, tmp_path / "copy"))
    batches = read_in_order(sets.photos, READING)
    next(batches)
    shutil.rmtree(sets.photos.root)
    with pytest.raises(utils.UserError, match=r"none of its 11 images can be read any more \(.*No such file"):
        list(read_in_order(sets.photos, READING))


@pytest.mark.parametrize("batch_size", [1, 4, 16])
def test_images_are_read_once_in_order(numbered, batch_size):
    batches = list(read_in_order(numbered.photos, Reading(SIZE, batch_size, 3)))
    indices, images = zip(*batches)
    assert [len(each) for each in indices] == [len(each) for each in images] == [
        min(batch_size, 11 - first) for first in range(0, 11, batch_size)]
    assert all(each.dtype == np.int64 for each in indices) and all(each.dtype == np.uint8 for each in images)
    assert np.concatenate(indices).tolist() == numbers(images) == list(range(11))


def test_reading_in_order_leaves_broken_images_out(damaged, caplog):
    indices, images = zip(*read_in_order(damaged.photos, READING))
    assert [each.tolist() for each in indices] == [[0, 1, 2, 3], [4]]
    assert np.array_equal(np.concatenate(images), decoded(damaged.photos, range(5)))
    (record,) = caplog.records
    assert damaged.photos.names[5] in record.message
    indices, _ = zip(*read_in_order(damaged.photos, READING._replace(batch_size=1)))    # its batch would be empty
    assert np.concatenate(indices).tolist() == [0, 1, 2, 3, 4]


def test_reading_in_order_converts_like_a_training(numbered):
    (_, images), *_ = read_in_order(numbered.photos, Reading(24, BATCH, 2, grayscale=True))
    assert images.shape == (BATCH, 24, 24, 3) and (images == images[..., :1]).all()


def test_reading_in_order_reads_a_few_batches_ahead(numbered, monkeypatch):
    """So that memory does not grow with the set, and so that a reader who stops early waits for little."""
    started = []
    monkeypatch.setattr(data_loader, "load_image", lambda path, size, grayscale: started.append(path) or np.zeros(
        [size, size, 3], np.uint8))
    many = ImageSet(numbered.photos.root, numbered.photos.names * 100)
    threads = threading.active_count()
    batches = read_in_order(many, READING)
    next(batches)
    batches.close()
    assert len(started) <= 4 * BATCH
    assert threading.active_count() == threads


def test_names_are_not_in_the_graph(numbered, graph):
    many = ImageSet(numbered.photos.root, numbered.photos.names * 50000)
    assert len(run(get_loader(many, READING, ORDER), 2)) == 2
    assert graph.as_graph_def().ByteSize() < 100_000


@pytest.mark.slow
def test_a_program_ends_while_batches_are_being_decoded(numbered):
    code = ("import sys\n"
            "from engine.startup import start\n"
            "start()\n"
            "import tensorflow as tf\n"
            "from data_loader import get_loader, Order, Reading\n"
            "from datasets.image_sets import find_photos\n"
            "tf1 = tf.compat.v1\n"
            "dataset = get_loader(find_photos(sys.argv[1]), Reading(256, 64, workers=4), Order(seed=1, start=0))\n"
            "iterator = tf1.data.make_initializable_iterator(dataset)\n"
            "with tf1.Session() as session:\n"
            "    session.run(iterator.initializer)\n"
            "    session.run(iterator.get_next())\n"
            "    sys.exit(3)\n")
    done = subprocess.run([sys.executable, "-c", code, numbered.photos.root], cwd=utils.PROJECT, timeout=60,
                          capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
