"""crop.py: box, margin, border, where pixels land; `gen_syn_latent.py pairs`: photo and rendering cropped alike."""
import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image
from scipy import ndimage

from conftest import products
from datasets import crop, crop_kinds
from morphable import face_model, model_files, renderer
from tool import builtin_face_model, limit_files, Tool

TOOL = Tool("gen_syn_latent.py")
run, last_words, refused = TOOL.run, TOOL.last_words, TOOL.refused
# The point on the other half of the face for each of iBUG's 68: jaw and brows, nose, eyes, lips
MIRROR = np.array([*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1),
                   *range(45, 41, -1), 47, 46, *range(39, 35, -1), 41, 40,
                   *range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), 67, 66, 65])
WIDTH, HEIGHT = 400, 450


@pytest.fixture(scope="module")
def built():
    """Build the built-in FaceModel."""
    return builtin_face_model()


@pytest.fixture(scope="module")
def head(built):
    """Pick the landmarks [68, 3] of the built-in mean face, in micrometres."""
    return built.shape_mean[built.landmarks]


def landmarks_of(head, pitch=0, yaw=0, roll=0):
    """Project the landmarks of a turned head to a picture of WIDTH and HEIGHT -> [68, 2]."""
    return renderer.project(head, [pitch, yaw, roll, 190, 230, 0, 1.3e-3], HEIGHT)[:, :2].astype(float)


# The box

@pytest.mark.parametrize("turned", [dict(), dict(yaw=.3), dict(yaw=.8, pitch=.3), dict(yaw=1.2, roll=-.4)], ids=str)
def test_the_box_of_a_mirrored_face_is_the_mirrored_box(head, turned):
    landmarks = landmarks_of(head, **turned)
    left, top, right, bottom = crop.face_box(landmarks)
    mirrored = np.stack([WIDTH - 1 - landmarks[MIRROR, 0], landmarks[MIRROR, 1]], 1)
    np.testing.assert_allclose(crop.face_box(mirrored), [WIDTH - right, top, WIDTH - left, bottom], atol=1e-6)


@pytest.mark.parametrize("factor, shift", [(1, (31, -12.5)), (2.5, (0, 0)), (.3, (-100, 7))])
def test_the_box_moves_and_grows_with_the_face(head, factor, shift):
    landmarks = landmarks_of(head, yaw=.4)
    box = np.array(crop.face_box(landmarks))
    # pixel centres are at .5 from the picture's corner, from which boxes count
    moved = (landmarks + .5) * factor + shift - .5
    np.testing.assert_allclose(crop.face_box(moved), factor * box + [*shift, *shift], atol=1e-6)


@pytest.mark.parametrize("yaw", [-1, -.5, 0, .5, 1])
def test_the_box_holds_eyes_nose_and_mouth(head, yaw):
    landmarks = landmarks_of(head, yaw=yaw)
    left, top, right, bottom = crop.face_box(landmarks)
    inner = landmarks[17:]
    assert left < inner[:, 0].min() and inner[:, 0].max() < right
    assert top < inner[:, 1].min() and inner[:, 1].max() < bottom
    assert .5 < (right - left) / (bottom - top) < 1


# Margin and border

def test_the_margin_by_hand():
    """The box has 82 x 164 pixels, of which 82 of the crop's 108 are left: 13 lie outside left and right.

    Along the height a pixel of the crop is two of the picture, so that 26 lie outside above and below.
    """
    np.testing.assert_allclose(crop.add_margin((100, 50, 182, 214), 108, 26), (87, 24, 195, 240))
    assert crop.add_margin((1, 2, 3, 4), 64, 0) == (1, 2, 3, 4)


@pytest.mark.parametrize("size, margin", [(108, 26), (64, 1), (50, 49), (200, 60)])
def test_the_box_is_margin_pixels_smaller_than_the_crop(size, margin):
    box = (-20.3, 31.7, 133.1, 240.9)
    corners = np.reshape(box, [2, 2]) - .5                      # as positions from the first pixel's centre
    (left, top), (right, bottom) = crop.points_in_crop(corners, crop.add_margin(box, size, margin), size) + .5
    np.testing.assert_allclose([right - left, bottom - top], size - margin)
    np.testing.assert_allclose([left, top, size - right, size - bottom], margin / 2)


@pytest.mark.parametrize("box, clipped", [
    ((1, 2, 3, 4), (1, 2, 3, 4)), ((-1, -2, 300, 200), (0, 0, 150, 100)),
    ((-.5, 20.5, 149.5, 100.5), (0, 20.5, 149.5, 100)), ((20, -7, 151, 30), (20, 0, 150, 30))])
def test_a_box_ends_at_the_border(box, clipped):
    assert crop.clip_box(box, 100, 150) == clipped


# Pixels and landmarks

def test_places_by_hand():
    """A box of 100 x 200 pixels in a crop of 50: columns are halved, rows quartered."""
    landmarks = np.array([[60, 120], [9.5, 19.5], [109.5, 219.5]])
    np.testing.assert_allclose(crop.points_in_crop(landmarks, (10, 20, 110, 220), 50),
                               [[24.75, 24.625], [-.5, -.5], [49.5, 49.5]])


@pytest.mark.parametrize("box", [(40.5, 20, 141, 110.5), (85.2, 48.4, 117.9, 80), (0, 0, 200, 160)], ids=str)
@pytest.mark.parametrize("size", [48, 108])
def test_a_square_lands_where_its_place_says(box, size):
    picture = np.zeros([160, 200, 3], np.uint8)
    picture[55:67, 92:108] = 250, 120, 40
    cut = crop.cut_out(Image.fromarray(picture), box, size)
    assert cut.shape == (size, size, 3) and cut.dtype == np.uint8
    weights = cut.sum(axis=-1, dtype=float)
    centre = [(weights.sum(axis=axis) @ np.arange(size)) / weights.sum() for axis in (0, 1)]
    expected = crop.points_in_crop(np.array([[99.5, 60.5]]), box, size)[0]       # between the middle pixels' centres
    np.testing.assert_allclose(centre, expected, atol=.1)
    colour = cut[tuple(np.rint(expected[::-1]).astype(int))]
    assert np.abs(colour - np.array([250., 120, 40])).max() < 12


def test_a_rendering_of_a_box_puts_points_where_place_does(head):
    points = renderer.project(head.astype(float), [.1, -.3, .2, 190, 230, 0, 1.3e-3], HEIGHT)
    box = (50.3, 90.1, 300.7, 401)
    windowed = renderer.points_in_box(points, box, 64, 64)[:, :2]
    np.testing.assert_allclose(windowed, crop.points_in_crop(points[:, :2], box, 64), atol=1e-9)


# Turned boxes

TURNED = (40.5, 20, 141, 110.5, .4), (85.2, 48.4, 117.9, 81.1, -2.5), (0, 0, 200, 160, 0)


@pytest.mark.parametrize("box", TURNED, ids=str)
def test_corners_of_a_turned_box_are_those_of_the_crop(box):
    corners = crop.corners_of(box)
    np.testing.assert_allclose(crop.points_in_crop(corners - .5, box, 64) + .5, [(0, 0), (64, 0), (64, 64), (0, 64)],
                               atol=1e-9)
    np.testing.assert_allclose(corners.mean(axis=0), [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2])
    right = corners[1] - corners[0]                 # clockwise, as rows go down
    np.testing.assert_allclose(np.arctan2(right[1], right[0]), box[4], atol=1e-9)


@pytest.mark.parametrize("box", TURNED, ids=str)
@pytest.mark.parametrize("size", [24, 108])
def test_a_square_lands_in_a_turned_crop_where_its_place_says(box, size):
    picture = np.zeros([160, 200, 3], np.uint8)
    picture[55:67, 92:108] = 250, 120, 40
    cut = crop.cut_out(Image.fromarray(picture), box, size)
    weights = cut.sum(axis=-1, dtype=float)
    centre = [(weights.sum(axis=axis) @ np.arange(size)) / weights.sum() for axis in (0, 1)]
    expected = crop.points_in_crop(np.array([[99.5, 60.5]]), box, size)[0]
    assert cut.shape == (size, size, 3) and cut.dtype == np.uint8
    np.testing.assert_allclose(centre, expected, atol=.1)


@pytest.mark.parametrize("side", [60, 250, 1000])
def test_a_crop_that_is_not_turned_is_as_one_of_a_plain_box(side):
    noise = ndimage.gaussian_filter(np.random.default_rng(0).uniform(0, 255, [side, side, 3]), [2, 2, 0]) * 6 - 637
    picture = Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8))
    box = .05 * side, .1 * side, .85 * side, .9 * side
    plain, turned = (crop.cut_out(picture, each, 112).astype(float) for each in (box, (*box, 0)))
    assert np.abs(plain - turned).mean() < .03 * plain.std()


@pytest.mark.parametrize("angle", [0, .3])
def test_a_large_face_is_cut_without_aliasing(angle):
    """Lines of 3 pixels, of a face of 1,000, are no pattern in 112 pixels: they are grey."""
    columns, rows = np.meshgrid(np.arange(1400), np.arange(1400))
    picture = Image.fromarray(np.repeat(np.uint8(255 * ((columns + rows) % 3 == 0))[..., None], 3, 2))
    box = 200, 200, 1200, 1200, angle
    assert crop.cut_out(picture, box, 112).std() < 3
    skipping = picture.transform((112, 112), Image.Transform.AFFINE, (1000 / 112, 0, 200, 0, 1000 / 112, 200),
                                 Image.Resampling.BILINEAR)
    assert np.asarray(skipping).std() > 30          # what is to be avoided


def test_what_of_a_turned_box_is_beyond_the_picture_is_black():
    cut = crop.cut_out(Image.new("RGB", (100, 100), (200, 200, 200)), (-50, -50, 50, 50, 0), 50)
    assert (cut[26:, 26:] == 200).all() and (cut[:24] == 0).all() and (cut[:, :24] == 0).all()


@pytest.mark.parametrize("box, outside", [
    ((1, 1, 9, 9), False), ((-5, 1, 1.5, 9), True), ((1, 1, 9, 9, .7), False), ((-30, 40, -2, 68, .1), True),
    ((-40, 40, -2, 78, .8), False), ((40, 99, 60, 119, 0), True), ((-500, -500, 900, 900, 1), False)])
def test_a_box_may_lie_outside(box, outside):
    assert crop.lies_outside(box, 100, 150) == outside and crop.clip_box((1, 2, 3, 4, .5), 1, 1) == (1, 2, 3, 4, .5)


@pytest.mark.parametrize("kind", [np.float64, np.float32])
def test_a_rendering_of_a_turned_box_puts_points_where_place_does(head, kind):
    points = renderer.project(head.astype(kind), [.1, -.3, .2, 190, 230, 0, 1.3e-3], HEIGHT)
    box = (50.3, 90.1, 300.7, 340.5, -.3)
    before = points.copy()
    windowed = renderer.points_in_box(points, box, 64, 64)
    np.testing.assert_allclose(windowed[:, :2], crop.points_in_crop(points[:, :2], box, 64), atol=2e-5)
    assert windowed.dtype == kind and (points == before).all() and (windowed[:, 2] == points[:, 2]).all()


# Pairs: `gen_syn_latent.py pairs` crops a photo and its rendering alike

POSES = {                   # photo -> its size, and its pose: from the middle, and across the left and upper border
    "front.jpg": ((450, 450), [.1, .3, -.1, 220, 240, -90, 1.3e-3]),
    "AFW/wide.png": ((300, 520), [0, -.5, .2, 350, 140, -90, 9e-4]),
    "border.jpg": ((450, 450), [0, .2, 0, 60, 350, -90, 1.3e-3])}
UNUSABLE = {                # photo -> fields of its annotation, and what is said of it
    "lost.jpg": (dict(Exp_Para=np.zeros([29, 1], np.uint8)), "lost.mat (Exp_Para holds whole numbers"),
    "nan.jpg": (dict(Pose_Para=np.full([1, 7], np.nan)), "nan.mat: field Pose_Para contains NaN"),
    "part.jpg": (dict(Color_Para=None), "part.mat: field Color_Para is missing")}
SIZE, MARGIN = 96, 24
BACKGROUND = 30, 200, 60


def annotation(**changes):
    """Make the fields of a .mat file, shaped as in AFLW2000-3D.

    `changes` replace fields, or remove fields by None.
    """
    random = np.random.default_rng(3)
    fields = dict(Shape_Para=random.normal(0, 1e4, [199, 1]), Exp_Para=random.normal(0, .1, [29, 1]),
                  Tex_Para=random.normal(0, 5, [199, 1]), Illum_Para=[[.7, .7, .7, .4, .4, .4, .3, .2, .1, 20]],
                  Pose_Para=[[.1, .3, -.1, 225, 200, -90, 1.3e-3]], Color_Para=[[1, 1, 1, 0, 0, 0, 1]])
    return {name: np.asarray(value) for name, value in {**fields, **changes}.items() if value is not None}


@pytest.fixture(scope="module")
def model(built, tmp_path_factory):
    """Save the built-in model, which has as many components as annotations count -> (FaceModel, path)."""
    path = tmp_path_factory.mktemp("model") / "model.npz"
    model_files.save(built, str(path))
    yield built, path
    path.unlink()               # 60 MB that nobody looks at


def write_photo(built, path, size, pose):
    """Write a photo of a head before BACKGROUND, and the annotation of the photo."""
    fields = annotation(Pose_Para=np.array([pose]))
    shape, expression, texture, illumination, color = (fields[name].ravel() for name in (
        "Shape_Para", "Exp_Para", "Tex_Para", "Illum_Para", "Color_Para"))
    mesh = renderer.Mesh(
        face_model.compute_vertices(built, shape, expression), face_model.compute_texture(built, texture),
        built.triangles, renderer.compute_incidence(built.triangles, len(built.shape_mean)))
    shot, frame = renderer.Shot(illumination, pose, color), renderer.Frame(*size, supersample=2)
    picture, covered = renderer.render(mesh, shot, frame)
    picture[~covered] = BACKGROUND
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(picture).save(path, quality=98, subsampling=0)
    scipy.io.savemat(path.with_suffix(".mat"), fields)


@pytest.fixture(scope="module")
def annotated(model, tmp_path_factory):
    """Write the photos of POSES and UNUSABLE, a photo without annotation, and the reverse -> folder."""
    folder = tmp_path_factory.mktemp("annotated")
    for name, (size, pose) in POSES.items():
        write_photo(model[0], folder / name, size, pose)
    for name, (changes, _) in UNUSABLE.items():
        shutil.copy(folder / "front.jpg", folder / name)
        scipy.io.savemat((folder / name).with_suffix(".mat"), annotation(**changes))
    shutil.copy(folder / "front.jpg", folder / "alone.jpg")
    scipy.io.savemat(folder / "absent.mat", annotation())
    return folder


def run_pairs(annotated, model_path, output, **popen):
    """Run `gen_syn_latent.py pairs` -> Result."""
    return run("pairs", "--annotations", annotated, "--model", model_path, "--output", output, "--size", SIZE,
               "--margin", MARGIN, "--workers", 2, **popen)


@pytest.fixture(scope="module")
def paired(annotated, model, tmp_path_factory):
    """Render the pairs of `annotated` -> (output folder, Result)."""
    output = tmp_path_factory.mktemp("paired") / "out"
    return output, run_pairs(annotated, model[1], output)


@pytest.mark.slow
def test_photos_and_renderings_partner_and_the_unusable_are_named(paired):
    output, result = paired
    assert result.status == 0 and not last_words(result), result.err[-3000:]
    names = {"front.jpg", "wide.jpg", "border.jpg"}
    assert set(products(output)) == names | {f"3dmm/{name}" for name in names} and (output / "settings.json").is_file()
    for path in output.rglob("*.jpg"):
        assert Image.open(path).size == (SIZE, SIZE)
    warned = [line for line in result.err.splitlines() if "not used: " in line]
    assert len(warned) == len(UNUSABLE) and "absent" not in result.err
    (alone,) = [line for line in result.err.splitlines() if "alone" in line]
    assert "1 photos without a .mat file of their name, skipped: " in alone
    for _, message in UNUSABLE.values():
        assert any(message in line for line in warned)


def pixels(path):
    """Read an image -> float [H, W, 3]."""
    return np.asarray(Image.open(path).convert("RGB")).astype(float)


def times(folder):
    """List when each file of a folder was last written -> {path: nanoseconds}."""
    return {path: path.stat().st_mtime_ns for path in Path(folder).rglob("*") if path.is_file()}


def differences(photo, rendering, inner):
    """Compare two crops inside the head, one of them shifted by a pixel -> {(dy, dx): mean difference}."""
    return {(dy, dx): np.abs(np.roll(rendering, (dy, dx), (0, 1)) - photo)[inner].mean()
            for dy in (-1, 0, 1) for dx in (-1, 0, 1)}


@pytest.mark.slow
def test_pairs_are_cropped_by_the_template(model, annotated, tmp_path):
    """Photo and rendering alike, with the landmarks of the model where those of photos are."""
    result = run("pairs", "--annotations", annotated, "--model", model[1], "--output", tmp_path / "out",
                 "--crop", "arcface", "--workers", 2)
    assert result.status == 0, result.err[-3000:]
    assert crop_kinds.kind_of(str(tmp_path / "out")) == "arcface"
    for name, ((height, _), pose) in POSES.items():
        crop_path = tmp_path / "out" / (Path(name).stem + ".jpg")
        photo, rendering = (pixels(path) for path in (crop_path, crop_path.parent / "3dmm" / crop_path.name))
        assert photo.shape == rendering.shape == (112, 112, 3)
        there = np.minimum(photo.sum(axis=-1), rendering.sum(axis=-1)) > 24     # beyond its border, a photo is black
        inner = ndimage.binary_erosion(there, iterations=6)
        gaps = differences(photo, rendering, inner)
        assert min(gaps, key=gaps.get) == (0, 0) and gaps[0, 0] < 4
        fields = annotation()
        vertices = face_model.compute_vertices(model[0], fields["Shape_Para"].ravel(), fields["Exp_Para"].ravel())
        landmarks = renderer.project(vertices[model[0].landmarks], pose, height)[:, :2]
        box = crop_kinds.template_box_of_68(landmarks)
        expected = crop.cut_out(Image.open(annotated / name).convert("RGB"), box, 112)
        assert np.abs(photo - expected).max() < 12


@pytest.mark.slow
@pytest.mark.parametrize("name", POSES)
def test_both_are_cropped_alike(model, annotated, paired, name):
    crop_path = paired[0] / (Path(name).stem + ".jpg")
    photo, rendering = (pixels(path) for path in (crop_path, crop_path.parent / "3dmm" / crop_path.name))
    covered = ndimage.median_filter((rendering.sum(axis=-1) > 24).astype(int), 5) > 0      # but what JPEG adds around
    inner, outer = (ndimage.binary_erosion(area, iterations=4, border_value=1) for area in (covered, ~covered))
    gaps = differences(photo, rendering, ndimage.binary_erosion(covered, iterations=4))
    assert min(gaps, key=gaps.get) == (0, 0) and gaps[0, 0] < 4 and gaps[0, 0] < .7 * np.median(list(gaps.values()))
    assert np.quantile(np.abs(photo - rendering)[inner], .95) < 20
    assert outer.sum() > 50 and np.abs(photo - BACKGROUND)[outer].max() < 25

    (height, width), pose = POSES[name]
    fields = annotation()
    vertices = face_model.compute_vertices(model[0], fields["Shape_Para"].ravel(), fields["Exp_Para"].ravel())
    landmarks = renderer.project(vertices[model[0].landmarks], pose, height)[:, :2]
    box = crop.clip_box(crop.add_margin(crop.face_box(landmarks), SIZE, MARGIN), height, width)
    assert (min(box[:2]) == 0) == (name == "border.jpg")
    expected = crop.cut_out(Image.open(annotated / name).convert("RGB"), box, SIZE)
    assert np.abs(photo - expected).max() < 12


@pytest.mark.slow
def test_a_second_run_renders_only_what_is_missing(annotated, model, paired, tmp_path):
    output = tmp_path / "out"
    shutil.copytree(paired[0], output)
    before, content = times(output), products(output)
    assert "0 pairs rendered, 3 were there" in run_pairs(annotated, model[1], output).err and times(output) == before
    (output / "wide.jpg").unlink()
    (output / "3dmm" / "front.jpg").unlink()
    assert "2 pairs rendered, 1 were there" in run_pairs(annotated, model[1], output).err
    assert products(output) == content


@pytest.mark.slow
def test_a_face_far_outside_is_skipped_and_named(model, annotated, tmp_path):
    """Poses that no photo has: a scale in other units, and a place beside the picture."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for name, pose in ("good", None), ("huge", [0, 0, 0, 225, 225, 0, 13]), ("outside", [0, 0, 0, 9000, 225, 0, 1e-3]):
        shutil.copy(annotated / "front.jpg", photos / f"{name}.jpg")
        shutil.copy(annotated / "front.mat", photos / f"{name}.mat")
        if pose:
            scipy.io.savemat(photos / f"{name}.mat", annotation(Pose_Para=np.array([pose])))
    result = run_pairs(photos, model[1], tmp_path / "out")
    assert result.status == 0 and not last_words(result), result.err[-2000:]
    assert "huge.mat" in result.err and "outside.mat (Pose_Para" in result.err
    assert set(products(tmp_path / "out")) == {"good.jpg", "3dmm/good.jpg"}


@pytest.mark.slow
def test_a_full_disk_leaves_nothing_without_partner(model, annotated, tmp_path):
    """The rendering's crop fits on the disk. The photo's crop, which has noise around the head, does not."""
    photo = np.random.default_rng(0).integers(0, 256, [450, 450, 3], np.uint8)
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.fromarray(photo).save(photos / "a.png")
    shutil.copy(annotated / "front.mat", photos / "a.mat")
    assert not last_words(run_pairs(photos, model[1], tmp_path / "whole"))
    limit = sum((tmp_path / "whole" / name).stat().st_size for name in ("a.jpg", "3dmm/a.jpg")) // 2
    assert limit > (tmp_path / "whole" / "3dmm" / "a.jpg").stat().st_size
    refused(run_pairs(photos, model[1], tmp_path / "out", preexec_fn=limit_files(limit)), "a.jpg", "File too large")
    assert not products(tmp_path / "out")


@pytest.mark.slow
def test_pairs_that_can_not_be_made_are_refused(model, annotated, tmp_path):
    built, path = model
    small = built._replace(shape_basis=built.shape_basis[:9], shape_std=built.shape_std[:9])
    model_files.save(small, str(tmp_path / "few.npz"))
    (tmp_path / "empty").mkdir()
    refused(run_pairs(annotated, tmp_path / "few.npz", tmp_path / "out"), "few.npz", "9 Shape_Para")
    refused(run_pairs(tmp_path / "empty", path, tmp_path / "out"), "--annotations", "empty")
    refused(run("pairs", "--model", path, "--output", tmp_path / "out"), "--annotations")
    refused(run("pairs", "--annotations", annotated, "--output", tmp_path / "out"), "--model")
    (tmp_path / "file").write_text("not a folder")
    refused(run_pairs(annotated, path, tmp_path / "file"), "--output")
    assert not (tmp_path / "out").exists()
