"""preflight: the folders that synthesis and fitting write to, and what they were made from."""
import argparse
import json
import os
import shutil

import numpy as np
import pytest

import preflight
from cli import outputs
from conftest import tree, write_checkpoint
from datasets.image_sets import find_photos, find_renderings
from datasets.images import save_image
from synthesis import products
from tool import one_line
from utils import LOCK, UserError

OPTIONS = dict(generate_dataset=True, fit_dataset=True, save_syn_dataset="generated", save_fitting="fitting",
               overwrite=False, shard=None, input_scale_size=16, grayscale=False, precision="float32", random_seed=1,
               generation_dropout=True, dropout_keep=.9)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """The prefixes of two checkpoints."""
    folder = tmp_path_factory.mktemp("weights")
    return [write_checkpoint(folder / f"model.ckpt-{step}", {"a": np.full(3, step, np.float32)}) for step in (1, 2)]


class Place:
    """A data folder, the options of a command, and the weights that it is given."""

    def __init__(self, data, weights):
        self.data, self.weights, self.prefix, self.options = data, weights, weights[0], dict(OPTIONS, data_dir=data)

    @property
    def config(self):
        return argparse.Namespace(**self.options)

    def products(self):
        data = preflight.Data(photos=find_photos(str(self.data / "real")),
                              renderings=find_renderings(str(self.data / "syn")))
        return products.products_of(self.config, data)

    def check(self):
        for product in self.products():
            products.check_product(self.config, product, self.prefix)

    def make(self):
        """Make both products, each image as a copy of its source."""
        for product in self.products():
            with products.begin_product(self.config, product, self.prefix):
                record = product.record()
                with record.of_run(product.images.names):
                    for name in product.images.names:
                        path = self.data / product.folder / name
                        path.parent.mkdir(exist_ok=True)
                        shutil.copy(self.data / product.images.root / name, path)
                        record.add(name)


@pytest.fixture
def place(drawn, weights, tmp_path):
    """Both products are made."""
    shutil.copytree(drawn / "syn", tmp_path / "syn")
    shutil.copytree(drawn / "real", tmp_path / "real")
    place = Place(tmp_path, weights)
    place.check()
    place.make()
    return place


def made(place):
    return {name: content for name, content in tree(place.data).items() if not name.startswith(("syn/", "real/"))}


def test_the_same_again_is_gone_on_with(place):
    before = made(place)
    place.check()
    assert made(place) == before
    assert json.loads(before["generated/settings.json"])["weights"].startswith("model.ckpt-1 ")


def test_the_settings_tell_the_run_and_older_ones_need_not(place):
    path = place.data / "generated/settings.json"
    settings = json.loads(path.read_text())
    assert os.path.samefile(place.data / "generated" / settings.pop("run"), os.path.dirname(place.prefix))
    assert "run" not in json.loads((place.data / "fitting/settings.json").read_text())
    path.write_text(json.dumps(settings))
    place.check()
    place.make()
    assert json.loads(path.read_text()) == settings


def give(**options):
    return lambda place: place.options.update(options)


def other_weights(place):
    place.prefix = place.weights[1]


def weights_to_come(place):
    place.prefix = None


def other_renderings(place):
    (place.data / "syn/settings.json").write_text('{"seed": 2}')


def fewer(folder):
    def act(place):
        path = sorted((place.data / folder).rglob("*.jpg"))[-1]
        path.unlink()
    return act


def replaced(folder, count):
    """Other images under the same names, all but a few."""
    def act(place):
        for path in sorted((place.data / folder).rglob("*.jpg"))[:count]:
            save_image(np.full([16, 16, 3], 9, np.uint8), str(path))
    return act


def foreign(folder):
    def act(place):
        (place.data / folder / "settings.json").unlink()
    return act


def of_another_command(place):
    (place.data / "generated/settings.json").write_text('{"command": "align.py", "size": 108}')


def test_images_of_others_are_told(place, caplog):
    for folder in ("generated", "fitting"):
        save_image(np.full([16, 16, 3], 9, np.uint8), str(place.data / folder / "mine.jpg"))
    place.check()
    assert [record.getMessage().count("1 images that this command does not make are there too") for record in
            caplog.records] == [1, 1]


def named_like_one_to_come(source, folder):
    """A user's file in the folder of a product, and a new image among the sources, of the same name."""
    def act(place):
        for inside in (source, folder):
            (place.data / inside / "mine").mkdir()
            save_image(np.full([16, 16, 3], 9, np.uint8), str(place.data / inside / "mine/me.jpg"))
        place.options.update(overwrite=True)
    return act


def folder_for_file(place):
    (place.data / "generated/confidence_scores.csv").mkdir()


def file_for_folder(place):
    (place.data / "generated/.scores").write_text("mine")


def no_settings_in_it(place):
    (place.data / "fitting/settings.json").write_text("[]")


@pytest.mark.parametrize("change, parts", [
    (give(random_seed=2), ["--save_syn_dataset", "random_seed 1 there, 2 given", "--overwrite"]),
    (give(input_scale_size=32), ["--save_syn_dataset", "input_scale_size 16 there, 32 given"]),
    (give(generation_dropout=False), ["generation_dropout True there, False given"]),
    (give(dropout_keep=.5), ["dropout_keep 0.9 there, 0.5 given"]),
    (give(precision="bfloat16"), ["precision float32 there, bfloat16 given"]),
    (give(grayscale=True, generate_dataset=False), ["--save_fitting", "grayscale False there, True given"]),
    (other_weights, ["weights model.ckpt-1 ", " there, model.ckpt-2 "]),
    (weights_to_come, ["weights model.ckpt-1 ", "of the training to come"]),
    (other_renderings, ["renderings None there"]),
    (fewer("syn"), ["--save_syn_dataset", "holds 1 images that ", "syn has no source of, such as 00005/"]),
    (fewer("real"), ["--save_fitting", "holds 1 images that ", "real has no source of", "--overwrite"]),
    (replaced("syn", 16), ["--save_syn_dataset", "made from other images", "the same names", "--overwrite"]),
    (replaced("real", 9), ["--save_fitting", "made from other images", "the same names"]),
    (foreign("generated"), ["--save_syn_dataset", "did not begin", "name another folder"]),
    (foreign("fitting"), ["--save_fitting", "did not begin"]),
    (named_like_one_to_come("syn", "generated"), ["generated/mine/me.jpg", "did not make it"]),
    (named_like_one_to_come("real", "fitting"), ["fitting/mine/me.jpg", "did not make it"]),
    (of_another_command, ["--save_syn_dataset", "was made by align.py; name another folder"]),
    (folder_for_file, ["generated/confidence_scores.csv: must be a file"]),
    (file_for_folder, ["generated/.scores: must be a folder"]),
    (no_settings_in_it, ["fitting/settings.json: no settings in it"])])
def test_what_would_be_mixed_is_refused_and_not_touched(place, change, parts):
    change(place)
    before = made(place)
    with pytest.raises(UserError) as error:
        place.check()
    one_line(error, *parts)
    assert made(place) == before


@pytest.mark.parametrize("change", [replaced("syn", 5), replaced("real", 3)])
def test_a_few_replaced_images_are_made_again(place, change):
    change(place)
    place.check()


def test_new_renderings_and_photos_are_added(place):
    for name in ("syn/00006/00001.jpg", "real/new.jpg"):
        (place.data / name).parent.mkdir(exist_ok=True)
        shutil.copy(place.data / "syn/00001/00001.jpg", place.data / name)
    place.check()
    place.make()
    assert {"generated/00006/00001.jpg", "fitting/new.jpg"} <= made(place).keys()


def without_record(place):
    """As after a copy of what is visible, and with other weights."""
    (place.data / "generated/.sources.jsonl").unlink()
    other_weights(place)


@pytest.mark.parametrize("change", [give(random_seed=2), other_weights, fewer("syn"), replaced("syn", 16),
                                    without_record])
def test_overwrite_begins_anew_and_leaves_what_is_not_ours(place, change):
    for name in ("mine.txt", "00001/mine.jpg", "mine/00001.jpg"):
        (place.data / "generated" / name).parent.mkdir(exist_ok=True)
        (place.data / "generated" / name).write_text("mine")
    change(place)
    place.options["overwrite"] = True
    place.check()
    product = place.products()[0]
    with products.begin_product(place.config, product, place.prefix):
        left = {name for name in made(place) if name.startswith("generated/")}
    ours = {"generated/settings.json", f"generated/{LOCK}"}
    assert left - ours == {"generated/mine.txt", "generated/00001/mine.jpg", "generated/mine/00001.jpg"}
    assert outputs.SETTINGS in {name.removeprefix("generated/") for name in left}


def test_overwrite_keeps_what_is_the_same(place):
    before = made(place)
    place.options["overwrite"] = True
    for product in place.products():
        with products.begin_product(place.config, product, place.prefix):
            pass
    assert made(place) == before


@pytest.mark.parametrize("change", [foreign("generated"), of_another_command])
def test_overwrite_does_not_touch_what_the_command_did_not_begin(place, change):
    change(place)
    place.options["overwrite"] = True
    before = made(place)
    with pytest.raises(UserError, match=r"--save_syn_dataset"):
        place.check()
    with pytest.raises(UserError, match=r"--save_syn_dataset"), \
            products.begin_product(place.config, place.products()[0], place.prefix):
        pass
    assert made(place) == before
