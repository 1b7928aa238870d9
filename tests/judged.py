"""A judgement with made-up figures, for the tests of reports.

`PYTHONPATH=. python tests/judged.py FOLDER` writes its report there.

Its faces are those of docs/demo.png. No figure in it was measured.
"""
import functools
import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from evaluation.figures import (
    Figure,
    HIGHER,
    LOWER,
    Measure,
    NEITHER,
    not_measured,
    PHOTOS,
    Picture,
    PIXELS,
    RENDERINGS,
    Section,
    SET,
)
from evaluation.report import charts, report, sheets
from recognition.verification import roc

ROOT = Path(__file__).resolve().parent.parent

FACTS = {
    "command": ["python", "evaluate.py", "judge", "data/generated", "--photos", "data/real", "--renderings", "data/syn",
                "--train_photos", "data/real", "--output", "report"],
    "date": "2026-03-04T10:20:30+01:00", "seconds": 412.6, "seeds": {"halves": 0, "bootstrap": 1, "subsets": 2},
    "commit": "0123abc", "warnings": ["the generator was trained with this embedder (small, sha256 5d41402abc4b), so "
                                      "figures of identity flatter it: give --weights of another one"],
    "sets": {
        "set": {"folder": "data/generated", "images": 10_000, "identities": 500, "size": 108,
                "labels": ["pose", "light", "expression", "landmarks"],
                "settings": {"command": "main.py --generate_dataset", "random_seed": 0, "generation_dropout": True}},
        "renderings": {"folder": "data/syn", "images": 10_000, "identities": 500,
                       "settings": {"model": "makehuman", "n_id": 500, "n_im": 20, "seed": 7}},
        "photos": {"folder": "data/real", "images": 1000, "identities": 100},
        "train_photos": {"folder": "data/real", "images": 1000, "identities": 100}},
    "embedder": {"name": "dlib", "file": "dlib_face_recognition_resnet_model_v1.dat", "sha256": "6f1c" * 16,
                 "licence": "CC0", "size": 128},
    "generator": {"run": "logs/main_gen_0304_090000", "weights": "model.ckpt-248000", "sha256": "90ab" * 16,
                  "params": {"conv_hidden_num": 128, "method_c": "small", "max_step": 248000}},
    "face_model": {"name": "makehuman", "licence": "CC0", "sha256": "77fe" * 16},
    "versions": {"python": "3.11.7", "numpy": "2.1.3", "tensorflow": "2.21.0", "scipy": "1.14.1"}}


def faces():
    """Tiles of docs/demo.png -> uint8 [3, 10, 96, 96, 3]: renderings, what was generated from them, photos."""
    with Image.open(ROOT / "docs/demo.png") as picture:
        tiles = [[picture.convert("RGB").crop((66 * column, 66 * row, 66 * column + 64, 66 * row + 64)).resize((96, 96))
                  for column in range(10)] for row in (0, 1, 3)]
    return np.stack([[np.asarray(tile) for tile in row] for row in tiles])


def figure(value, half=None, n=10_000):
    """A Figure with an interval of `half` on either side."""
    return Figure(value, None if half is None else value - half, None if half is None else value + half, n)


def measure(key, name, better, meaning, figures):
    """A Measure of figures in the order of set, renderings, photos, pixels."""
    return Measure(key, name, better, meaning, {place: each for place, each in zip(
        (SET, RENDERINGS, PHOTOS, PIXELS), figures) if each is not None})


def sections():
    """The Sections of the judgement."""
    return [_realism(), _identity(), _labels(), _leakage(), _balance(), _utility()]


def _realism():
    rendered, generated, real = faces()
    sheet = np.concatenate([generated, generated[:, :, ::-1]], axis=1).reshape(20, 96, 96, 3)
    worst, best = sheets.by_score(np.linspace(0, 1, 10), 5)
    return Section("realism", "Do the faces look real?", [
        measure("kid_dlib", "KID on dlib's features, x 1000", LOWER,
                "How far the set as a whole is from photos; unbiased, so that 0 is within reach.",
                [figure(31.42, 1.31, 5000), figure(118.2, 3.6, 5000), figure(.08, .21, 500)]),
        measure("frechet_dlib", "Fréchet distance on dlib's features", LOWER,
                "The same by mean and covariance; grows as n gets smaller, so n is equal in all columns.",
                [figure(.0812, .004, 500), figure(.2911, .011, 500), figure(.0119, .0009, 500),
                 not_measured("features of pixels are no features of faces")]),
        measure("swd_7", "Sliced Wasserstein distance, finest level", LOWER,
                "Whether the finest detail, noise and edges, is like that of photos.",
                [figure(.352, .02, 4000), figure(.41, .03, 4000), figure(.0113, .0042, 4000)]),
        measure("two_sample", "Classifier two-sample test, accuracy", LOWER,
                "How well a classifier tells the set from photos; 0.5 is chance.",
                [figure(.931, .021, 1000), figure(.998, .002, 1000), figure(.517, .034, 1000)]),
        measure("coverage", "Coverage", HIGHER, "The share of photos that have an image of the set near them.",
                [figure(.42, .07, 500), figure(.11, .04, 500), figure(.49, .08, 500)])],
        [Picture("sample", "Drawn at random: 5 people of the set, 8 images each.",
                 sheets.of_people(np.repeat(sheet, 2, axis=0), np.repeat(np.arange(5), 8), 5, 8)),
         Picture("best", "The best by calibrated confidence, the best first.", sheets.of_people(
             generated[best], np.zeros(5), 1, 5)),
         Picture("worst", "The worst, the worst first.", sheets.of_people(generated[worst], np.zeros(5), 1, 5)),
         Picture("beside", "Renderings, what was generated from them, real photos of other people.",
                 sheets.of_people(np.concatenate([rendered, generated, real]), np.repeat([0, 1, 2], 10), 3, 10))],
        ["The classifier tells the set from photos as well after both were shrunk to half and recompressed (0.92)."],
        {"Classifier two-sample test, by kind of input": [
            {"input": "as it is", "accuracy": figure(.931, .021, 1000), "chance": .5},
            {"input": "half the size, JPEG 75", "accuracy": figure(.918, .026, 1000), "chance": .5}]})


def _identity():
    rng = np.random.default_rng(0)
    same = np.arange(6000) < 2000
    distances = {name: np.where(same, rng.normal(near, .1, 6000), rng.normal(far, .1, 6000))
                 for name, near, far in (("set", .42, .74), ("renderings", .3, .7), ("real photos", .38, .88))}
    generated = faces()[1]
    pair = sheets.of_pairs(generated[:4], generated[4:8], 4)
    return Section("identity", "Is everybody a different person, and stays the same?", [
        measure("auc", "AUC of verification", HIGHER, "How well distances tell the same person from others.",
                [figure(.967, .004, 9000), figure(.991, .002, 9000), figure(.995, .003, 900), figure(.71, .02, 9000)]),
        measure("eer", "Equal error rate", LOWER, "The rate of both errors at the threshold where they are equal.",
                [figure(.089, .006, 9000), figure(.041, .005, 9000), figure(.022, .009, 900),
                 figure(.35, .01, 9000)]),
        measure("uniqueness", "Uniqueness (DCFace) at FAR 1e-3", HIGHER,
                "The share of identities that are nobody else's near double.",
                [figure(.718, .034, 500), figure(.702, .035, 500), figure(.98, .02, 50)]),
        measure("consistency", "Consistency (DCFace) at FAR 1e-3", HIGHER,
                "The share of images that are near the mean of their identity.",
                [figure(.941, .008), figure(.955, .007), figure(.936, .019, 500)]),
        measure("tar", "True accepts at 1e-4 false ones", HIGHER, "The same where false accepts are rare.",
                [not_measured("too few pairs: 10,000 of different people are needed and there are 4,950; give more "
                              "identities"), None, not_measured("too few pairs")])],
        [Picture("roc", "ROC curves, dlib.", functools.partial(
            charts.draw_roc, curves={name: roc(each, same) for name, each in distances.items()})),
         Picture("distances", "Distances of pairs in the set.", functools.partial(
             charts.draw_histograms, groups={"same person": distances["set"][same],
                                             "different people": distances["set"][~same]},
             thresholds={"threshold at FAR 1e-3": .45})),
         Picture("collisions", "Collisions: identities nearer to each other than real strangers ever are.", pair)],
        ["141 of 500 identities are within reach of another one at FAR 1e-3.",
         "Colour and background alone (27 pixels) reach an AUC of 0.71: they help to tell these people apart."],
        {"Collisions, the nearest first": [
            {"identity": f"{i:05d}", "other": f"{2 * i + 1:05d}", "distance": .2 + .003 * i} for i in range(1, 142)]})


def _labels():
    return Section("labels", "Are the labels kept?", [
        measure("landmarks", "Landmarks off, % of the distance between the eyes", LOWER,
                "How far found landmarks are from those that were projected.",
                [figure(4.31, .12), figure(2.2, .08), not_measured("photos have no labels")]),
        measure("no_face", "Share of images without a face that is found", LOWER,
                "What a detector can't use is lost to training too.",
                [figure(.0031, .0009), figure(.0052, .0014), figure(0., None, 1000)])], [], [], {})


def _leakage():
    generated, real = faces()[1:]
    return Section("leakage", "Does it leak a real person?", [
        measure("exceedances", "Share of identities nearer to a training photo than real strangers", LOWER,
                "A real stranger is as near in 0.1 % of cases.",
                [figure(.004, .006, 500), figure(.0, .004, 500), figure(.001, .01, 50)])],
        [Picture("nearest", "The nearest pairs: left of the set, right the nearest training photo.",
                 sheets.of_pairs(generated[:8], real[:8], 4))],
        ["2 identities exceed the threshold of 0.41."],
        {"Exceedances": [{"image": "00017/00003.jpg", "photo": "00061/2.jpg", "distance": .381},
                         {"image": "00243/00011.jpg", "photo": "00007/4.jpg", "distance": .402}]})


def _balance():
    groups = {"women, 18 to 40": 131, "women, over 40": 102, "men, 18 to 40": 140, "men, over 40": 127}
    means = {name: figure(value, .04, count) for (name, count), value in zip(groups.items(), (.93, .9, .95, .96))}
    return Section("balance", "Whom does it represent?", [
        Measure("share_women", "Share of women", NEITHER, "Of the identities, by their labels.",
                {SET: figure(.466, .044, 500), RENDERINGS: figure(.466, .044, 500)})],
        [Picture("groups", "AUC by group, with 95 % intervals.", functools.partial(
            charts.draw_bars, figures={**means, "others": not_measured("fewer than 10 identities")}, label="AUC",
            reference=("all", .94)))], [],
        {"Groups": [{"group": name, "identities": count, "AUC": means[name], "KID x 1000": figure(30 + count / 20, 4)}
                    for name, count in groups.items()]})


def _utility():
    return Section("utility", "Does it help?", [
        Measure("utility", "Accuracy of a recogniser trained on it", HIGHER, "On real people who were held out.",
                {SET: not_measured("takes hours: give --utility")})], [], [], {})


if __name__ == "__main__":
    os.makedirs(sys.argv[1], exist_ok=True)
    report.save(sections(), FACTS, sys.argv[1])
