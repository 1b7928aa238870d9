"""recognition.labelled_data, datasets.scores: who is learned from, FaceNet's filters, weights by scores."""
import os
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from drawn import draw_face, write
from recognition import labelled_data
from utils import UserError


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The folder of `real` (3 people of 3, 2 and 1 images) and of two synthetic sets with scores."""
    root = tmp_path_factory.mktemp("data")
    for person, count in ((1, 3), (2, 2), (3, 1)):
        for image in range(1, count + 1):
            write(str(root), f"real/{person}/{image}.jpg", draw_face(person, image, 32, photo=True))
    for folder, scores in (("gen a", [2, 4, 4, 8]), ("b", [0, 1])):
        names = [f"{1 + i // 2}/{1 + i % 2} x.jpg" if folder == "gen a" else f"{i + 1}/1.jpg"
                 for i in range(len(scores))]
        for name in names:
            write(str(root / folder), name, draw_face(9, 1, 32, photo=True))
        lines = [f"/{name} 0.1 0.2 {score:.6f}\n" for name, score in zip(names, scores)]
        (root / folder / "confidence_scores.csv").write_text("".join(lines))
    return root


def load(data, **others):
    options = dict(data_dir=str(data), real="real", synthetic=[], score_weights="none", input_scale_size=32,
                   num_worker=2, filter_filename="", filter_percentile=100., filter_min_nrof_images_per_class=0)
    return labelled_data.load(SimpleNamespace(**{**options, **others}))


def test_real_and_synthetic_identities_are_counted_apart(data):
    faces = load(data, synthetic=["gen a", "b"])
    assert faces.real.identities == ["1", "2", "3"] and faces.real.labels.tolist() == [0, 0, 0, 1, 1, 2]
    assert [identity.removeprefix(f"{data}/") for identity in faces.synthetic.identities] == [
        "gen a/1", "gen a/2", "b/1", "b/2"]
    assert faces.synthetic.labels.tolist() == [0, 0, 1, 1, 2, 3] and faces.weights.tolist() == [1] * 6
    alone = load(data, real="", synthetic=["gen a"])
    assert alone.real is None and alone.synthetic.names == ["1/1 x.jpg", "1/2 x.jpg", "2/1 x.jpg", "2/2 x.jpg"]


def test_weights(data):
    original, calibrated = (load(data, synthetic=["gen a"], score_weights=name).weights
                            for name in ("original", "calibrated"))
    assert np.allclose(original, .5 * np.exp(-np.array([2, 4, 4, 8]) / 4))
    assert np.allclose(calibrated, 2 * (1 - np.array([.5, 2, 2, 3.5]) / 4)) and calibrated.mean() == 1
    both = load(data, synthetic=["gen a", "b"], score_weights="calibrated").weights
    assert np.allclose(both, 2 * (1 - np.array([2.5, 4, 4, 5.5, .5, 1.5]) / 6))


@pytest.mark.parametrize("text, named", [
    (None, "can't be read"),
    ("/1/1.jpg 0.1 0.2 nan\n/2/1.jpg 0.1 0.2 1\n", "1 of 2 images have no c_score, such as 1/1.jpg"),
    ("/1/1.jpg 0.1 0.2 1\n", "1 of 2 images have no c_score"),
    ("/1/1.jpg 0.1\n", "not lines"), ("/1/1.jpg a b c\n", "not lines")])
def test_missing_scores(data, tmp_path, text, named):
    for identity in "12":
        write(str(tmp_path), f"set/{identity}/1.jpg", draw_face(1, 1, 32, photo=True))
    if text:
        (tmp_path / "set" / "confidence_scores.csv").write_text(text)
    assert load(tmp_path, real="", synthetic=["set"]).weights.tolist() == [1, 1]        # not needed
    with pytest.raises(UserError, match=named):
        load(tmp_path, real="", synthetic=["set"], score_weights="original")


def test_few_images_per_class(data):
    faces = load(data, filter_min_nrof_images_per_class=2)
    assert faces.real.identities == ["1", "2"] and faces.real.labels.tolist() == [0, 0, 0, 1, 1]


def test_far_images_go_and_then_small_classes(data, tmp_path):
    with h5py.File(tmp_path / "distances.h5", "w") as file:
        file["distance_to_center"] = [.1, .9, .2, .3, .8]
        names = "1/1.jpg", "1/2.jpg", "1/3.jpg", "2/1.jpg", "2/2.jpg"
        file["image_list"] = [f"/elsewhere/{name}".encode() for name in names]
    options = dict(filter_filename=str(tmp_path / "distances.h5"), filter_percentile=60.)
    assert load(data, **options).real.names == ["1/1.jpg", "1/3.jpg", "2/1.jpg", "3/1.jpg"]
    assert load(data, **{**options, "filter_percentile": 100.}).real.names == load(data).real.names
    with pytest.raises(UserError, match="one identity only"):
        load(data, **options, filter_min_nrof_images_per_class=2)
    with pytest.raises(UserError, match="no image is left by --filter_percentile 60"):
        load(data, **options, filter_min_nrof_images_per_class=3)


def test_bad_filter_files(data, tmp_path):
    (tmp_path / "text").write_text("no HDF5")
    with h5py.File(tmp_path / "short", "w") as file:
        file["distance_to_center"], file["image_list"] = [.1, .9], [b"1/1.jpg"]
    with h5py.File(tmp_path / "other", "w") as file:
        file["distance_to_center"] = [.1]
    with h5py.File(tmp_path / "nan", "w") as file:
        file["distance_to_center"], file["image_list"] = [.1, np.nan], [b"1/1.jpg", b"1/2.jpg"]
    with h5py.File(tmp_path / "words", "w") as file:
        file["distance_to_center"], file["image_list"] = [b"x"], [b"1/1.jpg"]
    with h5py.File(tmp_path / "numbers", "w") as file:
        file["distance_to_center"], file["image_list"] = [.1], [1]
    with h5py.File(tmp_path / "groups", "w") as file:
        file["distance_to_center/a"], file["image_list/a"] = [.1], [b"1/1.jpg"]
    (tmp_path / "cut").write_bytes((tmp_path / "nan").read_bytes()[:1000])
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("text", "short", "other", "nowhere", "nan", "words", "numbers", "groups", "cut", "empty", "folder",
                 "pipe"):
        with pytest.raises(UserError, match=f"--filter_filename .*{name}: ") as error:
            load(data, filter_filename=str(tmp_path / name))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("options, named", [
    (dict(real="b"), "give it as --synthetic b"), (dict(real="nowhere"), "--real: no folder"),
    (dict(synthetic=["nowhere"]), "--synthetic: no folder"), (dict(real="real/1"), "no identities")])
def test_bad_folders(data, options, named):
    with pytest.raises(UserError, match=named):
        load(data, **options)
