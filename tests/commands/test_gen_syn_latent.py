"""gen_syn_latent.py by its command line: files and labels, the same bytes always, kill and re-run, bad input."""
import os
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image, JpegImagePlugin
from scipy.spatial.transform import Rotation

import gen_syn_latent
from conftest import tree
from datasets import crop
from datasets.images import save_image
from morphable import builtin_model, face_model, latents, model_files, renderer
from tool import alive, builtin_face_model, finish, limit_files, Tool, wait_for
from utils import UserError

TOOL = Tool("gen_syn_latent.py")
BUILTIN = "--model", "builtin"
start, run, succeed, last_words, refused = TOOL.start, TOOL.run, TOOL.succeed, TOOL.last_words, TOOL.refused
SIZE, IMAGES, PEOPLE, CANVAS = 48, 4, 6, 450            # of `whole`; of the picture that poses stand in
SHAPES = {"Exp_Para": 29, "Illum_Para": 10, "Pose_Para": 7, "Color_Para": 7}
MARKED = [8, 27, 30, 36, 45, 57]          # landmarks that face the viewer: chin, nose, eyes, lower lip
pytestmark = pytest.mark.slow


# Files

def arrays(path):
    """Read an .npz -> {name: array}."""
    with np.load(path) as file:
        return dict(file)


def content(folder):
    """Read all files of a folder -> {relative path: bytes}.

    Of labels it is the type, shape and bytes of every array, since the .npz around the arrays has a date.
    """
    files = tree(folder)
    for name in [name for name in files if name.endswith(".npz")]:
        files[name] = {field: (value.dtype.str, value.shape, value.tobytes())
                       for field, value in arrays(Path(folder) / name).items()}
    return files


def times(folder):
    """List when each file of a folder was last written -> {path: nanoseconds}."""
    return {path: path.stat().st_mtime_ns for path in Path(folder).rglob("*") if path.is_file()}


def people(folder):
    """List the folders of identities that are there, each of which has to be complete."""
    found = sorted(path for path in Path(folder).glob("[0-9]*"))
    for path in found:
        assert {each.name for each in path.iterdir()} == {*arrays(path / "latents.npz")["names"], "latents.npz"}
    return found


def pixels(path):
    """Read an image -> float [H, W, 3]."""
    return np.asarray(Image.open(path).convert("RGB")).astype(float)


# Models and whole data sets

@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """Save a few components of the built-in model, which are read in no time -> the file's path."""
    path, builtin = tmp_path_factory.mktemp("model") / "few.npz", builtin_face_model()
    model_files.save(builtin._replace(
        name="few", shape_basis=builtin.shape_basis[:8], shape_std=builtin.shape_std[:8],
        expression_basis=builtin.expression_basis[:4], expression_std=builtin.expression_std[:4],
        texture_basis=builtin.texture_basis[:5], texture_std=builtin.texture_std[:5]), str(path))
    return path


@pytest.fixture(scope="module")
def usual(few):
    """List the options of `whole` without the folder and the number of identities."""
    return ["--model", few, "--n_im", IMAGES, "--size", SIZE, "--margin", 12]


@pytest.fixture(scope="module")
def whole(usual, tmp_path_factory):
    """Render PEOPLE identities at one go by one worker -> their folder."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    succeed("--output", folder, "--n_id", PEOPLE, "--workers", 1, *usual)
    return folder


@pytest.fixture(scope="module")
def png(usual, tmp_path_factory):
    """Render the first identity of `whole` as .png, with more images than a chunk has -> the folder."""
    folder = tmp_path_factory.mktemp("png") / "out"
    succeed("--output", folder, "--n_id", 1, *usual, "--n_im", 18, "--format", "png")
    return folder


# Sampling

def test_folders_files_and_jpegs(whole):
    assert [path.name for path in people(whole)] == [f"{identity:05}" for identity in range(1, PEOPLE + 1)]
    assert {path.name for path in whole.iterdir() if path.is_file()} == {"settings.json"}
    for folder in people(whole):
        assert list(arrays(folder / "latents.npz")["names"]) == [f"{image:05}.jpg" for image in range(1, IMAGES + 1)]
        for path in folder.glob("*.jpg"):
            picture = Image.open(path)
            assert picture.format == "JPEG" and picture.size == (SIZE, SIZE) and picture.mode == "RGB"
            # quality 100: nothing but rounding, and colours as sharp as brightness
            assert {step for table in picture.quantization.values() for step in table} == {1}
            assert JpegImagePlugin.get_sampling(picture) == 0
    assert len({path.read_bytes() for path in whole.rglob("*.jpg")}) == PEOPLE * IMAGES


def test_the_builtin_model_and_the_usual_size(tmp_path):
    succeed("--output", tmp_path / "out", "--n_id", 1, "--n_im", 2, "--seed", 7, "--model", "builtin")
    labels = arrays(tmp_path / "out" / "00001" / "latents.npz")
    assert labels["Shape_Para"].shape == labels["Tex_Para"].shape == (199,)
    assert {name: labels[name].shape for name in SHAPES} == {name: (2, count) for name, count in SHAPES.items()}
    assert labels["box"].shape == (2, 4) and labels["landmarks"].shape == (2, 68, 2)
    told = {name: labels[name].item() for name in ("identity", "seed", "size", "model", "version")}
    assert told == dict(identity=1, seed=7, size=108, model="built-in", version=1)
    assert pixels(tmp_path / "out" / "00001" / "00002.jpg").shape == (108, 108, 3)


def test_labels_are_sensible(whole):
    for identity, folder in enumerate(people(whole), 1):
        labels = arrays(folder / "latents.npz")
        assert labels["identity"] == identity and np.isfinite(labels["landmarks"]).all()
        assert np.abs(labels["Pose_Para"][:, :3]).max() < np.pi         # radians
        landmarks = labels["landmarks"]
        assert landmarks.min() > -.3 * SIZE and landmarks.max() < 1.3 * SIZE
        right_eye, left_eye, mouth = (points.mean(axis=1) for points in np.split(landmarks, [36, 42, 48], axis=1)[1:])
        assert (right_eye[:, 0] < left_eye[:, 0]).all()
        assert (np.maximum(right_eye[:, 1], left_eye[:, 1]) < mouth[:, 1]).all()


def test_landmarks_are_the_vertices_projected_by_hand(few, whole):
    """Rotation about x, then y, then z, each the other way round than usual; rows count from the top."""
    model = model_files.load(str(few))
    labels = arrays(whole / "00003" / "latents.npz")
    for image, (pitch, yaw, roll, tx, ty, _, scale) in enumerate(labels["Pose_Para"]):
        vertices = face_model.compute_vertices(model, labels["Shape_Para"], labels["Exp_Para"][image])[model.landmarks]
        matrix = scale * Rotation.from_euler("XYZ", [-pitch, -yaw, -roll]).as_matrix()
        x, y, _ = matrix @ vertices.T.astype(float) + [[tx], [ty], [0]]     # the bottom left pixel is at (1, 1)
        from_corner = np.stack([x - .5, CANVAS - y + .5], 1)
        left, top, right, bottom = labels["box"][image]
        expected = (from_corner - [left, top]) / [right - left, bottom - top] * SIZE - .5
        np.testing.assert_allclose(labels["landmarks"][image], expected, atol=1e-2)


def test_an_image_is_what_its_labels_say_and_black_around(few, png):
    model = model_files.load(str(few))
    labels = arrays(png / "00001" / "latents.npz")
    texture = np.clip(face_model.compute_texture(model, labels["Tex_Para"]), 0, 255)
    incidence = renderer.compute_incidence(model.triangles, len(model.shape_mean))
    for image in (0, 15, 16):                   # the first chunk has 16
        vertices = face_model.compute_vertices(model, labels["Shape_Para"], labels["Exp_Para"][image])
        mesh = renderer.Mesh(vertices, texture, model.triangles, incidence)
        shot = renderer.Shot(*(labels[name][image] for name in ("Illum_Para", "Pose_Para", "Color_Para")))
        picture, covered = renderer.render(
            mesh, shot, renderer.Frame(CANVAS, CANVAS, tuple(labels["box"][image]), (SIZE, SIZE), 2))
        there = pixels(png / "00001" / labels["names"][image])
        np.testing.assert_array_equal(there, picture)
        assert .4 < covered.mean() < 1 and not there[~covered].any() and there[covered].any(axis=-1).mean() > .95


def test_painted_landmarks_show_where_the_labels_say(few, tmp_path):
    """Two renderings that differ only in the colours of a few vertices."""
    model = model_files.load(str(few))
    for name, colour in ("plain", 40), ("painted", 160):
        texture = np.full_like(model.texture_mean, 40)
        texture[model.landmarks[MARKED]] = colour
        model_files.save(model._replace(texture_mean=texture, texture_std=0 * model.texture_std),
                         str(tmp_path / f"{name}.npz"))
        succeed("--output", tmp_path / name, "--model", tmp_path / f"{name}.npz", "--n_id", 1, "--n_im", 2, "--format",
                "png", "--size", 216, "--supersample", 3, "--yaw", -.1, .1, "--pitch", -.1, .1)
    labels = arrays(tmp_path / "painted" / "00001" / "latents.npz")
    for name, landmarks in zip(labels["names"], labels["landmarks"]):
        plain, painted = (pixels(tmp_path / folder / "00001" / name).sum(axis=-1) for folder in ("plain", "painted"))
        difference = np.abs(painted - plain)
        rows, columns = np.indices(difference.shape)
        near = [np.hypot(rows - row, columns - column) < 9 for column, row in landmarks[MARKED]]
        assert not difference[~np.any(near, axis=0)].any()
        for place, (column, row) in zip(near, landmarks[MARKED]):
            weights = difference * place
            assert weights.max() > 30
            assert np.hypot((weights * rows).sum() / weights.sum() - row,
                            (weights * columns).sum() / weights.sum() - column) < 1


def test_ranges_hold_and_nothing_else_changes(usual, whole, tmp_path):
    succeed("--output", tmp_path / "out", "--n_id", 1, *usual, "--yaw", .5, .6, "--pitch", -1, -1)
    free, bound = (arrays(folder / "00001" / "latents.npz") for folder in (whole, tmp_path / "out"))
    pitch, yaw = bound["Pose_Para"][:, :2].T
    assert (pitch == -1).all() and (yaw >= .5).all() and (yaw <= .6).all() and len(set(yaw)) == IMAGES
    np.testing.assert_array_equal(free["Pose_Para"][:, 2:], bound["Pose_Para"][:, 2:])
    for name in ("Shape_Para", "Tex_Para", "Exp_Para", "Illum_Para", "Color_Para"):
        np.testing.assert_array_equal(free[name], bound[name])


def test_negative_numbers_of_any_notation_are_read(usual, tmp_path):
    succeed("--output", tmp_path / "out", "--n_id", 1, *usual, "--roll", "-.5", "-0.25", "--yaw", "-1", 0)
    roll = arrays(tmp_path / "out" / "00001" / "latents.npz")["Pose_Para"][:, 2]
    assert (roll >= -.5).all() and (roll <= -.25).all()


def test_without_a_crop_the_whole_picture_is_there(usual, whole, tmp_path):
    succeed("--output", tmp_path / "out", "--n_id", 1, *usual, "--crop", "none")
    cropped, labels = (arrays(folder / "00001" / "latents.npz") for folder in (whole, tmp_path / "out"))
    assert pixels(tmp_path / "out" / "00001" / "00001.jpg").shape == (CANVAS, CANVAS, 3) and labels["size"] == CANVAS
    assert (labels["box"] == [0, 0, CANVAS, CANVAS]).all()
    for box, inside, landmarks in zip(cropped["box"], cropped["landmarks"], labels["landmarks"]):
        np.testing.assert_allclose(crop.points_in_crop(landmarks, box, SIZE), inside, atol=1e-2)


# The same bytes, whatever was rendered with them

def test_more_workers_and_a_subset_first(usual, whole, tmp_path):
    out = tmp_path / "out"
    succeed("--output", out, "--n_id", 2, "--workers", 2, *usual)
    before = times(out)
    assert len(people(out)) == 2
    result = succeed("--output", out, "--n_id", PEOPLE, "--workers", 2, *usual)
    assert "2 identities are there and are kept" in result.err and content(out) == content(whole)
    assert times(out).items() >= {path: when for path, when in before.items() if path.name != "settings.json"}.items()
    for identity in ("00001", "00004"):
        shutil.rmtree(out / identity)
    succeed("--output", out, "--n_id", PEOPLE, "--workers", 1, *usual)
    assert content(out) == content(whole)


def test_shards(usual, whole, tmp_path):
    for shard in ("2/2", "1/2"):
        succeed("--output", tmp_path / shard[0], "--n_id", PEOPLE, "--shard", shard, *usual)
    second, first = (content(tmp_path / shard) for shard in "21")
    assert {second.pop(f".shards/2-of-2/{name}")[:1] for name in ("work.json", "files.csv")} == {b"{", b'"'}
    assert {first.pop(f".shards/1-of-2/{name}")[:1] for name in ("work.json", "files.csv")} == {b"{", b'"'}
    assert {name.split("/")[0] for name in second} == {"00002", "00004", "00006", "settings.json"}
    assert second | first == content(whole)


def test_an_image_does_not_depend_on_how_many_follow(whole, png, tmp_path):
    few, many = (arrays(folder / "00001" / "latents.npz") for folder in (whole, png))
    for name in (*SHAPES, "box", "landmarks"):
        np.testing.assert_array_equal(few[name], many[name][:IMAGES])
    for name in few["names"]:
        save_image(np.asarray(Image.open(png / "00001" / f"{name[:5]}.png")), str(tmp_path / name), quality=100)
        assert (tmp_path / name).read_bytes() == (whole / "00001" / name).read_bytes()


# Ends before the end

def test_kill_and_run_again(usual, whole, tmp_path):
    out = tmp_path / "out"
    process = start("--output", out, "--n_id", PEOPLE, "--workers", 1, *usual)
    wait_for(lambda: list(out.glob("[0-9]*")) and list(out.glob(".tmp-0*/*.jpg")))      # one is whole, another begun
    os.killpg(process.pid, signal.SIGKILL)
    finish(process)
    complete = people(out)
    assert 0 < len(complete) < PEOPLE and list(out.glob(".tmp-0*"))
    before = times(out)
    succeed("--output", out, "--n_id", PEOPLE, "--workers", 2, *usual)
    assert times(out).items() >= {path: when for path, when in before.items() if path.parent in complete}.items()
    assert content(out) == content(whole) and not list(out.glob(".tmp-*"))


@pytest.mark.parametrize("number, send, status", [(signal.SIGINT, os.killpg, 130), (signal.SIGTERM, os.kill, 143)])
def test_interrupted(usual, tmp_path, number, send, status):
    """Ctrl-C reaches all processes, the SIGTERM of a queue only the first."""
    out = tmp_path / "out"
    process = start("--output", out, "--n_id", 500, "--workers", 2, *usual)
    wait_for(lambda: list(out.glob("[0-9]*")))
    send(process.pid, number)
    result = finish(process)
    assert result.status == status and len(last_words(result)) == 1 and "interrupted" in last_words(result)[0]
    assert 0 < len(people(out)) < 500 and not list(out.glob(".tmp-*")) and not alive(process.pid)


def test_workers_do_not_outlive_a_killed_program(usual, tmp_path):
    """As when memory runs out: then nobody ends them."""
    out = tmp_path / "out"
    process = start("--output", out, "--n_id", 500, "--workers", 2, *usual)
    wait_for(lambda: list(out.glob("[0-9]*")))
    process.kill()
    process.wait()
    try:
        wait_for(lambda: not alive(process.pid), seconds=5)
    finally:
        for worker in alive(process.pid):
            os.kill(worker, signal.SIGKILL)
        process.communicate()


def test_a_killed_worker_is_told_in_one_line(usual, tmp_path):
    out = tmp_path / "out"
    process = start("--output", out, "--n_id", 500, "--workers", 2, *usual)
    wait_for(lambda: list(out.glob("[0-9]*")))
    os.kill(max(set(alive(process.pid)) - {process.pid}), signal.SIGKILL)
    result = finish(process)
    assert result.status not in (0, None) and len(last_words(result)) == 1
    assert people(out)


def test_disk_full(usual, tmp_path):
    """The settings fit, an image does not."""
    result = run("--output", tmp_path / "out", "--n_id", 3, "--workers", 2, *usual, preexec_fn=limit_files(600))
    refused(result, "00001.jpg", "File too large")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["settings.json"]


# Drawn photos and pairs

def draw(folder, *more):
    """Draw six photos and three pairs into a folder -> Result."""
    return succeed("drawn", *BUILTIN, "--output", folder, "--photos", 6, "--pairs", 3, "--size", 32, *more)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Draw at one go -> the folder."""
    folder = tmp_path_factory.mktemp("drawn") / "out"
    assert "6 photos drawn, 0 were there and were kept; 3 pairs drawn, 0 were there" in draw(folder).err
    return folder


def test_drawing_again_keeps_what_is_complete(drawn, tmp_path):
    out = shutil.copytree(drawn, tmp_path / "out")
    for name in ("real/00002/00001.jpg", "paired/00001.jpg", "paired/3dmm/00003.jpg"):
        (out / name).unlink()
    before = times(out)
    assert "1 photos drawn, 5 were there and were kept; 2 pairs drawn, 1 were there" in draw(out).err
    again = [path for path, when in times(out).items() if before.get(path) == when]
    assert tree(out) == tree(drawn)
    assert len(again) == 5 + 2 + 2                  # photos, the files of a pair, the settings of both folders
    assert "0 photos drawn, 6 were there and were kept; 0 pairs drawn, 3 were there" in draw(out).err
    assert tree(out) == tree(drawn)


def test_drawing_goes_on_after_ctrl_c(tmp_path):
    words = ["drawn", "--output", tmp_path / "out", "--pairs", 2, "--size", 32, "--workers", 2]
    process = start(*words, "--photos", 2000)
    wait_for(lambda: list(tmp_path.glob("out/real/*/*.jpg")))
    os.killpg(process.pid, signal.SIGINT)
    assert finish(process).status == 130
    there = len(list(tmp_path.glob("out/real/*/*.jpg")))
    assert 0 < there < 2000
    result = succeed(*words, "--photos", there + 1)
    assert f"1 photos drawn, {there} were there and were kept; 2 pairs drawn, 0 were there" in result.err


def test_files_of_other_settings_or_of_others_are_not_touched(drawn, tmp_path):
    other, out = shutil.copytree(drawn, tmp_path / "other"), tmp_path / "out"
    for more in (("--seed", 2), ("--margin", 4)):
        TOOL.refused(TOOL.run("drawn", *BUILTIN, "--output", other, "--photos", 6, "--pairs", 3, "--size", 32, *more),
                     "other/real: begun with other settings", more[0].strip("-"))
    assert tree(other) == tree(drawn)
    for name in ("real/00001/00001.jpg", "paired/00001.jpg"):
        (out / name).parent.mkdir(parents=True)
        (out / name).write_bytes(b"somebody else's")
        TOOL.refused(TOOL.run("drawn", *BUILTIN, "--output", out, "--photos", 6, "--pairs", 3, "--size", 32),
                     "did not begin")
        assert tree(out) == {name: b"somebody else's"}
        shutil.rmtree(out)


# Other settings in the same folder

OTHERS = [(["--seed", 2], "seed 1 there, 2 given"), (["--n_im", 5], "n_im 4 there, 5 given"),
          (["--size", 50], "size 48 there, 50 given"), (["--margin", 10], "margin 12 there, 10 given"),
          (["--yaw", 0, 1], "yaw None there, [0.0, 1.0] given"), (["--format", "png"], "format jpg there, png given"),
          (["--crop", "none"], "crop face there, none given"), (["--supersample", 1], "supersample 2 there, 1 given")]


def test_other_settings_are_refused(few, usual, whole, tmp_path):
    model_files.save(model_files.load(str(few))._replace(name="other"), str(tmp_path / "other.npz"))
    others = [*OTHERS, (["--model", tmp_path / "other.npz"], "model few there, other given")]
    before, untouched = content(whole), times(whole)
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda row: run("--output", whole, "--n_id", PEOPLE + 1, *usual, *row[0]), others))
    for result, (_, named) in zip(results, others):
        refused(result, whole, named)
    assert content(whole) == before and times(whole) == untouched


def test_another_model_of_the_same_name_and_mean_is_refused(few, usual, whole, tmp_path):
    model = model_files.load(str(few))
    model_files.save(model._replace(texture_mean=255 - model.texture_mean, shape_std=model.shape_std / 2),
                     str(tmp_path / "few.npz"))
    shutil.copytree(whole, tmp_path / "out")
    refused(run("--output", tmp_path / "out", "--n_id", PEOPLE + 1, *usual, "--model", tmp_path / "few.npz"), "model")


@pytest.mark.parametrize("text", ["{", "[]"])
def test_broken_settings_are_named(usual, tmp_path, text):
    (tmp_path / "settings.json").write_text(text)
    refused(run("--output", tmp_path, "--n_id", 1, *usual), tmp_path / "settings.json")
    assert [path.name for path in tmp_path.iterdir()] == ["settings.json"]


# Bad input

BAD_OPTIONS = [             # what is given beside --output, and what the line names
    ("--n_id 0", ["--n_id", "0"]), ("--n_im many", ["--n_im", "many"]), ("--seed -1", ["--seed", "-1"]),
    ("--n_ids 3", ["--n_ids"]), ("--margin 108", ["--margin", "108"]),
    ("--size 64 --margin 99", ["--margin", "99", "64"]),
    ("--shard 3/2", ["--shard", "3/2"]), ("--shard 2", ["--shard", "2"]), ("--yaw 1", ["--yaw"]),
    ("--yaw nan 1", ["--yaw", "nan"]), ("--roll 0 inf", ["--roll", "inf"]), ("--format gif", ["--format", "gif"]),
    ("--model nowhere.npz", ["nowhere.npz"]), ("--model broken.npz", ["broken.npz"]),
    ("--model part.npz", ["part.npz", "std"]),
    ("--statistics empty", ["empty", ".mat"]), ("--statistics nan", ["nan/a.mat", "Illum_Para", "NaN"]),
    ("--output file", ["--output file"]), ("--output file/out", ["--output file/out"])]
OPTIONS = [row[0] for row in BAD_OPTIONS]


@pytest.fixture(scope="module")
def bad_runs(few, tmp_path_factory):
    """Run each row of BAD_OPTIONS in a folder of its own -> {options: (Result, whether it wrote)}."""
    folder = tmp_path_factory.mktemp("bad")
    (folder / "broken.npz").write_bytes(few.read_bytes()[:5000])
    np.savez(folder / "part.npz", **{name: value for name, value in arrays(few).items() if name != "std"})
    for name in ("empty", "nan"):
        (folder / name).mkdir()
    scipy.io.savemat(folder / "nan" / "a.mat", {
        name: np.full(count, np.nan if name == "Illum_Para" else .1) for name, count in latents.BLOCKS.items()})
    (folder / "file").write_text("not a folder")

    def run_one(arguments):
        """Run one row -> (Result, whether files were written)."""
        here = shutil.copytree(folder, tmp_path_factory.mktemp("bad") / "files")
        result = run("--output", "out", "--n_id", 2, "--n_im", 2, "--model", few, *arguments.split(), cwd=here)
        return result, tree(here) != tree(folder) or (here / "out").exists()

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(OPTIONS, pool.map(run_one, OPTIONS)))


@pytest.mark.parametrize("arguments, named", BAD_OPTIONS, ids=OPTIONS)
def test_bad_options(bad_runs, arguments, named):
    result, wrote = bad_runs[arguments]
    refused(result, *named)
    assert "image/s" not in result.err and not wrote


@pytest.mark.parametrize("name", ["--model", "--statistics"])
def test_a_missing_path_is_told_before_the_builtin_model_is_built(name, tmp_path, monkeypatch):
    monkeypatch.setattr(builtin_model, "build", lambda: pytest.fail("built"))
    with pytest.raises(UserError, match=f"^{name} nowhere: not there"):
        gen_syn_latent.main(["people", "--output", str(tmp_path / "out"), name, "nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty"):
        gen_syn_latent.main(["people", "--output", str(tmp_path / "out"), "--statistics", str(tmp_path / "empty")])
    assert not (tmp_path / "out").exists()


def test_output_has_to_be_named():
    refused(run("--n_id", 1), "--output")
