"""Commands on packed images: train, verify and synthesize from .rec files as from folders; verify on .bin files."""
import json
import os
import shutil

import numpy as np
import pytest

import align
import evaluate
import gen_syn_latent
import main
import recognizer
from conftest import differences, NARROW, only_run, small_classifier, tree, words, write_checkpoint
from datasets.image_sets import find_renderings
from datasets.images import load_image
from drawn import draw_face, write, write_dataset
from recognition import embedder, pretrained, standard_sets, verification
from record_files import write_bin
from tool import call, Tool

TOOL = Tool("recognizer.py")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a drawn data set, the same sets packed, weights, and a .bin file of 24 pairs."""
    folder = tmp_path_factory.mktemp("packed")
    write_dataset(str(folder / "data"), size=36, identities=4, per_identity=4, photos=15, pairs=4)
    for name in ("real", "syn"):
        if not any((folder / "data" / name).glob("*/*")):           # photos that lie in no folder
            for number, path in enumerate(sorted((folder / "data" / name).glob("*.*"))):
                face = draw_face(number % 3, number, 36, photo=True)
                write(str(folder), f"data/{name}/{number % 3}/{path.name}", face)
                path.unlink()
        result = call(evaluate, "export", folder / "data" / name,
                      *words(to="rec", output=folder / f"data/packed_{name}"))
        assert result.status == 0, result.err
    for number in range(48):
        write(str(folder), f"files/{number}.jpg", draw_face(number // 4, number, 112, photo=True))
    images = [(folder / f"files/{number}.jpg").read_bytes() for number in range(48)]
    order = [image for pair in range(12) for image in (2 * pair, 2 * pair + 1, 2 * pair, (2 * pair + 9) % 48)]
    write_bin(folder / "lfw.bin", [images[image] for image in order], [True, False] * 12)
    (folder / "weights").mkdir()
    write_checkpoint(folder / "weights/model.ckpt-7", small_classifier())
    return folder


@pytest.fixture
def here(place, monkeypatch, tmp_path):
    """The same place, as the working folder; results go elsewhere."""
    monkeypatch.chdir(place)
    return tmp_path


# .bin files

VERIFY = dict(weights="weights", image_size=32)


def test_verify_on_a_file_of_pairs(here, monkeypatch):
    """Both results are of the features that the network makes; the similarities are those of our result."""
    features, embed = {}, embedder.features_of_sets
    monkeypatch.setattr(embedder, "features_of_sets", lambda *of: features.update(embed(*of)) or features)
    result = call(recognizer, "verify", *words(**VERIFY, bin="lfw.bin", output=here / "out", batch_size=7), "--pyeer")
    assert result.status == 0, result.err
    written = json.loads((here / "out/verification.json").read_text())
    pairs = standard_sets.read("lfw.bin")
    embeddings = standard_sets.flip_sum(features["lfw"])
    assert np.allclose(np.linalg.norm(embeddings, axis=1), 1) and features["lfw"].shape == (48, 32)
    assert written["arcface_torch"]["lfw"] == standard_sets.evaluate(embeddings, pairs).row()
    ours = verification.verify(embeddings, pairs)
    assert written["results"]["lfw"] == ours.row() and written["pairs"] == {"lfw": 24} and written["folds"] == 10
    assert f"{written['arcface_torch']['lfw']['accuracy']:.5f} +- " in result.out and "lfw" in result.out
    assert result.err.count("lfw: too few pairs to tell: of 24") == 1
    assert sorted(tree(here / "out")) == ["distances.png", "lfw_genuine.txt", "lfw_impostor.txt", "roc.png",
                                          "verification.json"]
    genuine = np.loadtxt(here / "out/lfw_genuine.txt")
    np.testing.assert_allclose(genuine, -ours.distances[::2], rtol=1e-6)


@pytest.mark.slow
def test_features_are_of_the_image_and_of_its_mirror_image(here):
    """They are not scaled, and the second half of one image is the first half of the mirrored one."""
    pairs = standard_sets.read("lfw.bin")
    options = recognizer.parse(recognizer.COMMANDS[1], words(**VERIFY, bin="lfw.bin")).options
    weights = pretrained.read("weights", "--weights")
    found = embedder.features_of_sets(options, weights, {"lfw": pairs})["lfw"]
    assert (np.linalg.norm(found[:, :16], axis=1) > 1.01).any() or (np.linalg.norm(found[:, :16], axis=1) < .99).any()
    mirrored = [load_image(f"lfw.bin/{name}", 112)[:, ::-1] for name in pairs.names[:2]]
    path = write_bin(here / "mirrored.bin", [np.ascontiguousarray(each) for each in mirrored] * 10, [True, False] * 5)
    other = embedder.features_of_sets(options, weights, {"m": standard_sets.read(path)})["m"]
    np.testing.assert_allclose(other[:2, :16], found[:2, 16:], atol=1e-4)
    np.testing.assert_allclose(other[:2, 16:], found[:2, :16], atol=1e-4)


@pytest.mark.parametrize("options, parts", [
    (dict(), ["--images FOLDER, --bin FILE"]), (dict(images="data/syn", bin="lfw.bin"), ["give one of the two"]),
    (dict(bin="lfw.bin", pairs="pairs.txt"), ["--pairs", "--images"]), (dict(bin="odd.bin"), ["--bin odd.bin", "odd"]),
    (dict(bin="evil.bin"), ["--bin evil.bin", "posix.system"]), (dict(bin="few.bin"), ["--bin few.bin", "10 pairs"]),
    (dict(bin="nowhere.bin"), ["--bin nowhere.bin: not there"])])
def test_pairs_that_cannot_be_are_one_line(here, place, options, parts):
    write_bin("odd.bin", [b"image"] * 21, [True, False] * 5)
    write_bin("few.bin", [b"image"] * 4, [True, False])
    (place / "evil.bin").write_bytes(b"cposix\nsystem\n(S'touch ran'\ntR.")
    TOOL.refused(call(recognizer, "verify", *words(**VERIFY, output=here / "out", **options)), *parts)
    assert not (here / "out").exists() and not (place / "ran").exists()


def test_results_of_other_pairs_are_not_replaced(here):
    (here / "out").mkdir()
    paths = {"weights": os.path.realpath("weights"), "images": os.path.realpath("data/syn"), "pairs": ""}
    (here / "out/verification.json").write_text(json.dumps({"paths": paths}))      # as before there was --bin
    before = tree(here / "out")
    TOOL.refused(call(recognizer, "verify", *words(**VERIFY, bin="lfw.bin", output=here / "out")),
                 "holds the results of --images")
    assert tree(here / "out") == before


# .rec files

@pytest.mark.slow
def test_verify_on_a_rec_file_is_verify_on_its_images(here):
    """The same pairs are chosen, and the figures are the same."""
    rows = {}
    for name in ("syn", "packed_syn"):
        result = call(recognizer, "verify", *words(**VERIFY, images=f"data/{name}", output=here / name, nrof_folds=2))
        assert result.status == 0, result.err
        rows[name] = json.loads((here / name / "verification.json").read_text())["results"]
    assert rows["syn"] == rows["packed_syn"]


def test_a_list_of_pairs_names_people_and_records(here):
    faces = find_renderings("data/packed_syn")
    one, other, third = (faces.names[np.flatnonzero(faces.labels == label)[place]]
                         for label, place in ((0, 0), (0, 1), (1, 0)))
    (here / "pairs.txt").write_text(f"{one} {other} 1\n{one} {third} 0\n" * 2)
    pairs = verification.read_pairs(str(here / "pairs.txt"), faces.root, folds=2)
    assert pairs.root == faces.root and pairs.names == [one, other, third] and pairs.same.tolist() == [True, False] * 2
    numbers = [int(name.split("/")[1].split(".")[0]) for name in (one, other, third)]
    people = [name.split("/")[0] for name in (one, third)]
    (here / "lfw.txt").write_text("2\t1\n" + "{0}\t{2}\t{3}\n{0}\t{2}\t{1}\t{4}\n".format(*people, *numbers) * 2)
    assert verification.read_pairs(str(here / "lfw.txt"), faces.root).names == [one, other, third]


@pytest.mark.slow
def test_trainings_from_packed_images_are_those_from_folders(here):
    """A classifier from real and synthetic sets, one of them packed: the same weights to the last bit."""
    train = words(model_def="small", image_size=32, embedding_size=8, batch_size=4, epoch_size=2, max_nrof_epochs=1,
                  lfw_nrof_folds=2)
    for name, real, synthetic in (("files", "real", "syn"), ("packed", "packed_real", "packed_syn")):
        result = call(recognizer, "train", *train, *words(real=real, synthetic=synthetic, log_dir=here / name,
                                                           lfw_dir=f"data/{synthetic}"))
        assert result.status == 0, result.err
    assert not differences(*(only_run(here / name) / "model.ckpt-2" for name in ("files", "packed")))


@pytest.mark.long
@pytest.mark.slow
def test_generators_learn_and_synthesize_from_packed_images(here):
    """The photos lie in a folder for each identity, under the numbers of the records."""
    options = words(**NARROW, method_c="none", dataset_3dmm="paired", batch_size=2, max_step=1, log_step=1, save_step=1,
                    num_log_id=2, num_log_samples=2)
    options += words(train_generator=True, generate_dataset=True, log_dir=here / "log", save_syn_dataset=here / "made")
    result = call(main, *options, *words(dataset="packed_real", syn_dataset="packed_syn/train.rec"))
    assert result.status == 0, result.err
    made, packed = find_renderings(str(here / "made")), find_renderings("data/packed_syn")
    assert made.names == packed.names and made.identities == packed.identities


@pytest.mark.parametrize("program, line", [
    (align, words(input="data/packed_real")), (gen_syn_latent, ["fit", *words(photos="data/packed_real")])])
def test_packed_photos_are_refused_where_faces_are_looked_for(here, program, line):
    """Before, each of them was called unreadable after a long work."""
    result = call(program, *line, *words(output=here / "out"))
    Tool(f"{program.__name__}.py").refused(result, "data/packed_real: a .rec file", "evaluate.py export --to folder")
    assert not (here / "out").exists()


@pytest.mark.parametrize("damage", ["cut", "index"])
def test_a_damaged_rec_file_is_one_line(here, damage):
    shutil.copytree("data/packed_real", here / "real")
    if damage == "cut":
        content = (here / "real/train.rec").read_bytes()
        (here / "real/train.rec").write_bytes(content[:len(content) // 2])
    else:
        shutil.copy("data/packed_syn/train.idx", here / "real/train.idx")
    for program, line in ((recognizer, ["train", *words(model_def="small", image_size=32, real=here / "real")]),
                          (recognizer, ["verify", *words(**VERIFY, images=here / "real")]),
                          (main, words(method_c="none", dataset=here / "real", syn_dataset="syn",
                                       dataset_3dmm="paired")),
                          (evaluate, ["distance", "data/syn", "--photos", str(here / "real/train.rec")]),
                          (evaluate, ["export", str(here / "real"), *words(to="folder", output=here / "out")])):
        result = call(program, *line)
        Tool(f"{program.__name__}.py").refused(result, "train.", "copy both files again")
