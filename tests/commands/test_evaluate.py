"""evaluate.py: the distance between sets of images; `gen_syn_latent.py drawn`, whose sets the demo compares."""
import os
import subprocess
import sys

import numpy as np
import pytest
import scipy.stats

import evaluate
from cli.options import parse
from datasets.image_sets import find_pairs, find_photos
from datasets.images import load_image
from tool import ROOT


def run(program, *words):
    """Run a program of the project -> (exit status, stdout, stderr)."""
    done = subprocess.run([sys.executable, ROOT / program, *map(str, words)], capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def test_distance_of_normal_distributions():
    """Of independent features it is a sum over features: (difference of means)² + (difference of deviations)²."""
    rng = np.random.default_rng(0)
    a, b = (scipy.stats.zscore(rng.normal(size=[4000, 3])) for _ in range(2))
    a, b = (np.linalg.qr(each - each.mean(axis=0))[0] * np.sqrt(len(each) - 1) for each in (a, b))      # exactly white
    assert evaluate.frechet_distance(a, a) == pytest.approx(0, abs=1e-6)
    assert evaluate.frechet_distance(a, b * [1, 2, 3] + [0, 0, .5]) == pytest.approx(1 + 4 + .25, rel=1e-4)


def test_features_tell_colour_and_detail_of_each_place():
    image = np.zeros([32, 32, 3], np.uint8)
    image[:4, 4:8] = 255, 0, 51
    image[8:12:2, :4] = 255
    found = evaluate.features(image)
    colours, detail = found[:192].reshape(8, 8, 3), found[192:].reshape(8, 8)
    assert colours[0, 1] == pytest.approx([1, 0, .2]) and colours[2, 0] == pytest.approx([.5] * 3)
    assert detail[2, 0] == pytest.approx(.5) and (detail > 0).sum() == 1


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """A folder with photos and pairs that `gen_syn_latent.py drawn` drew."""
    folder = tmp_path_factory.mktemp("sets")
    status, _, err = run("gen_syn_latent.py", "drawn", "--output", folder, "--photos", 12, "--pairs", 8, "--size", 32,
                         "--model", "builtin")
    assert status == 0, err
    return folder


@pytest.mark.slow
def test_drawn_photos_and_their_renderings(sets):
    """Five photos a person; each pair shows one face, in the photo with something behind it."""
    photos, pairs = find_photos(str(sets / "real")), find_pairs(str(sets / "paired"))
    assert len(photos.names) == 12 and len({os.path.dirname(name) for name in photos.names}) == 3
    assert len(pairs.photos.names) == len(pairs.renderings.names) == 8
    for photo, rendering in zip(*([load_image(os.path.join(part.root, name), 32).astype(float)
                                   for name in part.names] for part in pairs)):
        face = rendering.min(axis=2) > 25
        behind = rendering.max(axis=2) < 8
        assert face.mean() > .2 and behind.mean() > .05
        assert photo[behind].mean() > 20            # the scene, where the rendering is black
        assert np.corrcoef(photo[face].mean(axis=1), rendering[face].mean(axis=1))[0, 1] > .6


@pytest.mark.slow
def test_renderings_are_further_from_photos_than_other_photos(sets):
    status, out, err = run("evaluate.py", "--photos", sets / "real", sets / "paired" / "3dmm", sets / "paired",
                           sets / "real")
    renderings, photos, same = (float(line.split()[0]) for line in out.splitlines())
    assert status == 0 and renderings > 1.5 * photos > 0 and same < 1e-3, err


def test_a_folder_without_images_is_refused(tmp_path):
    status, out, err = run("evaluate.py", "--photos", tmp_path, tmp_path)
    assert status == 2 and not out and err.startswith(f"evaluate.py: error: {tmp_path}: no images"), err


@pytest.mark.parametrize("line", [
    "a b --utility --seed 3", "--utility --seed 3 a b", "a --utility b --seed 3", "a --utility True b --seed 3",
    "--seed 3 a b --utility", "--seed 3 --utility -- a b", "--utility=yes a --seed=3 b"])
def test_folders_stand_before_and_after_options(line):
    command = next(command for command in evaluate.COMMANDS if command.name == "judge")
    options = parse(command, evaluate.folders_first(command, ["--photos", "p", *line.split()])).options
    assert (options.data, options.utility, options.seed) == (["a", "b"], True, 3)
