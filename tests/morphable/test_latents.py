"""latents.py: moments, clamps and ranges of samples, independence from order, and annotations good and bad."""
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.io

from morphable import latents
from morphable.latents import (
    adapt_to_model,
    BLOCKS,
    BlockStatistics,
    builtin_statistics,
    fit_statistics,
    sample_identity,
    sample_image,
)


def model_of(shape, expression, texture, name="3DDFA"):
    """Make what sampling reads of a FaceModel: its name and standard deviations."""
    return SimpleNamespace(name=name, shape_std=np.linspace(9, 1, shape), expression_std=np.linspace(2, 1, expression),
                           texture_std=np.linspace(5, 3, texture))


FULL, SMALL = model_of(199, 29, 199), model_of(5, 3, 4, "ICT-FaceKit")


def annotation(random, **changes):
    """Make random fields of a .mat file, shaped as in real ones.

    `changes` replace fields, or remove fields by None.
    """
    fields = {name: random.normal(1, 2, count) for name, count in BLOCKS.items()}
    fields["Tex_Para"][40:] = 0                             # as in the published fits: the covariance is singular
    fields = {name: value[:, None] if len(value) > 20 else value[None] for name, value in fields.items()}
    return {name: value for name, value in {**fields, **changes}.items() if value is not None}


def write(folder, count, **changes):
    """Write `count` annotations into `folder`, made with these `changes` -> the folder's path."""
    random = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        scipy.io.savemat(folder / f"{number:04}.mat", annotation(random, **changes))
    return str(folder)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """Write just enough annotations -> (their folder, the Statistics fitted to them)."""
    folder = tmp_path_factory.mktemp("fitted")
    write(folder / "AFW", latents.LEAST_ANNOTATIONS)
    scipy.io.savemat(folder / "AFW" / "landmarks.mat", dict(pts_2d=np.zeros([68, 2])))
    return folder, fit_statistics(str(folder))


# Annotations and statistics

def test_an_annotation_comes_back_whatever_its_shape_and_type(tmp_path):
    fields = annotation(np.random.default_rng(0), Pose_Para=np.float32(np.arange(7))[:, None], roi=np.int16([[1, 2]]))
    scipy.io.savemat(tmp_path / "a.mat", fields)
    blocks = latents.read_annotation(str(tmp_path / "a.mat"))
    assert list(blocks) == list(BLOCKS) and sum(len(value) for value in blocks.values()) == 451
    for name, value in blocks.items():
        np.testing.assert_array_equal(value, np.ravel(fields[name]))
        assert value.dtype == np.float64


@pytest.mark.parametrize("changes, message", [
    (dict(Tex_Para=None), "field Tex_Para is missing"), (dict(Exp_Para=np.ones([1, 28])), "field Exp_Para has shape"),
    (dict(Pose_Para=np.full(7, np.nan)), "field Pose_Para contains NaN"),
    (dict(Color_Para=np.full(7, np.inf)), "field Color_Para contains NaN or infinity"),
    (dict(Illum_Para="dark"), "field Illum_Para has shape")])
def test_a_broken_annotation_is_named(tmp_path, changes, message):
    folder = write(tmp_path, 1, **changes)
    for read in (lambda: latents.read_annotation(folder + "/0000.mat"), lambda: fit_statistics(folder)):
        with pytest.raises(ValueError) as error:
            read()
        assert str(error.value).startswith(folder + "/0000.mat: " + message) and "\n" not in str(error.value)


def test_a_file_that_is_no_mat_and_a_folder_without_any_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"empty: no \.mat file with Shape_Para"):
        fit_statistics(str(tmp_path / "empty"))
    (tmp_path / "b.mat").write_bytes(b"no\nmat")
    with pytest.raises(ValueError, match=r"b\.mat: not a readable \.mat file"):
        fit_statistics(str(tmp_path))


def test_fitted_statistics_have_the_moments_of_the_files(fitted):
    folder, statistics = fitted
    assert statistics.description == f"{latents.LEAST_ANNOTATIONS} .mat files of {folder}"
    random = np.random.default_rng(0)
    samples = [annotation(random) for _ in range(latents.LEAST_ANNOTATIONS)]
    for name, block in statistics.blocks.items():
        values = np.array([np.ravel(each[name]) for each in samples])
        np.testing.assert_allclose(block.mean, values.mean(axis=0))
        np.testing.assert_allclose(block.factor @ block.factor.T, np.cov(values.T, ddof=1), atol=1e-9)
    assert not statistics.blocks["Tex_Para"].factor[40:].round(9).any()


def test_rounded_expressions_are_not_used_and_too_few_files_mean_builtin(tmp_path, caplog):
    write(tmp_path, 3)
    write(tmp_path / "uint8", 2, Exp_Para=np.zeros([29, 1], np.uint8))
    statistics = fit_statistics(str(tmp_path))
    assert statistics.description == f"built-in, as {tmp_path} has only 3 usable .mat files and 300 are needed"
    assert "2 files with Exp_Para in whole numbers, not used: 0000.mat, 0001.mat" in caplog.text
    np.testing.assert_array_equal(statistics.blocks["Illum_Para"].mean, builtin_statistics().blocks["Illum_Para"].mean)


def test_builtin_statistics_have_the_layout():
    statistics = builtin_statistics()
    assert {name: len(block.mean) for name, block in statistics.blocks.items()} == BLOCKS
    lights = statistics.blocks["Illum_Para"].factor
    np.testing.assert_allclose(np.sqrt((lights ** 2).sum(1)), [.12] * 3 + [.22] * 3 + [.5, 1.3, .1, 0])


def test_fitted_coefficients_are_only_for_the_model_they_belong_to(fitted):
    statistics = fitted[1]
    for model, expression, texture in [(FULL, True, True), (model_of(60, 29, 199, "built-in"), False, False),
                                       (model_of(199, 29, 50), True, False),
                                       (model_of(199, 29, 199, "3DDFA, colours of built-in"), True, False)]:
        blocks = adapt_to_model(statistics, model).blocks
        assert (blocks["Exp_Para"] is statistics.blocks["Exp_Para"]) == expression
        assert (blocks["Tex_Para"] is statistics.blocks["Tex_Para"]) == texture
        if not texture:
            np.testing.assert_array_equal(blocks["Tex_Para"].factor, model.texture_std)
    blocks = adapt_to_model(builtin_statistics(), FULL).blocks
    np.testing.assert_array_equal(blocks["Exp_Para"].factor, FULL.expression_std)


# Samples

def known(name, size, singular=False):
    """Make BlockStatistics with a mean far from 0 and a full covariance, of half the rank if `singular`."""
    random = np.random.default_rng(len(name))
    return BlockStatistics(random.uniform(20, 30, size), random.normal(size=[size, size // 2 if singular else size]))


def test_moments_are_the_fractions_asked_for():
    blocks = {name: known(name, size, singular=name != "Pose_Para") for name, size in BLOCKS.items()}
    statistics = latents.Statistics("test", blocks, False)
    model = model_of(5, 29, 199)
    images = list(zip(*(sample_image(statistics, model, 1, 0, image) for image in range(6000))))
    for name, values, fraction in zip(("Exp_Para", "Illum_Para", "Pose_Para", "Color_Para"), images, (2, 3, 3, 3)):
        values, block = np.array(values), blocks[name]
        factor, mean = block.factor.copy(), block.mean.copy()
        if name == "Pose_Para":
            factor[2], mean[2] = factor[2] * 1.5, mean[2] * 1.5
        cov = factor @ factor.T / fraction
        limit = 6 * np.sqrt(np.outer(np.diag(cov), np.diag(cov)) * 2 / len(values))
        assert (np.abs(np.cov(values.T) - cov) < limit).all()
        assert (np.abs(values.mean(0) - mean) < 6 * np.sqrt(np.diag(cov) / len(values))).all()
    people = [sample_identity(statistics, model, 1, identity) for identity in range(4000)]
    shapes, textures = (np.array(each) for each in zip(*people))
    np.testing.assert_allclose(shapes.std(0), model.shape_std, rtol=.07)
    assert (np.abs(shapes.mean(0)) < 5 * model.shape_std / np.sqrt(4000)).all()
    factor = blocks["Tex_Para"].factor
    np.testing.assert_allclose(textures.std(0), np.sqrt((factor ** 2).sum(1)), rtol=.07)
    assert np.linalg.matrix_rank(textures[:300] - blocks["Tex_Para"].mean, tol=1e-6) == 99


def test_models_of_other_sizes_get_vectors_of_their_own():
    statistics = builtin_statistics()
    shape, texture = sample_identity(statistics, SMALL, 0, 0)
    assert (len(shape), len(texture)) == (5, 4)
    assert [len(each) for each in sample_image(statistics, SMALL, 0, 0, 0)] == [3, 10, 7, 7]
    bare = model_of(5, 0, 0)
    assert not len(sample_identity(statistics, bare, 0, 0)[1]) and not len(sample_image(statistics, bare, 0, 0, 0)[0])


def test_a_sample_depends_on_its_numbers_only():
    statistics = builtin_statistics()
    keys = [(identity, image) for identity in range(4) for image in range(4)]
    everything = {key: np.concatenate(sample_image(statistics, SMALL, 7, *key)) for key in keys}
    for key in reversed(keys):
        np.testing.assert_array_equal(np.concatenate(sample_image(statistics, SMALL, 7, *key)), everything[key])
    first = [tuple(value[:3]) for value in everything.values()]
    people = [tuple(sample_identity(statistics, SMALL, 7, identity)[0]) for identity in range(4)]
    assert len(set(first)) == 16 and len(set(people)) == 4
    assert (sample_identity(statistics, SMALL, 8, 0)[0] != people[0]).all()
    keys = ((latents.IDENTITY_STREAM, 0), (latents.IMAGE_STREAM, 0, 0), (latents.IMAGE_STREAM, 0, 1),
            (latents.IMAGE_STREAM, 1, 0))
    assert len({latents.make_generator(7, *key).random() for key in keys}) == 4


def test_lights_are_never_negative():
    statistics = builtin_statistics()
    statistics.blocks["Illum_Para"] = BlockStatistics(np.zeros(10), np.ones(10))
    lights = np.array([sample_image(statistics, SMALL, 0, 0, image)[1] for image in range(200)])
    others = np.r_[0:6, 8, 9]
    assert lights[:, others].min() == 0 and .3 < (lights[:, others] == 0).mean() < .7
    assert lights[:, 6:8].min() < 0                         # angles may be


def test_ranges_are_kept_and_change_nothing_else():
    statistics = builtin_statistics()
    ranges = {"yaw": (-1.2, -.4), "roll": (.1, .1)}
    free, bound = (np.array([np.concatenate(sample_image(statistics, SMALL, 3, 1, image, each))
                             for image in range(500)]) for each in (None, ranges))
    yaw, roll = 3 + 10 + 1, 3 + 10 + 2
    assert -1.2 <= bound[:, yaw].min() < -1.15 and -.45 < bound[:, yaw].max() <= -.4
    assert abs(bound[:, yaw].mean() + .8) < .05 and (bound[:, roll] == .1).all()
    changed = np.flatnonzero((free != bound).any(axis=0))
    np.testing.assert_array_equal(changed, [yaw, roll])
