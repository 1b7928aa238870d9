"""The field's protocol on .bin files, against a slow twin that follows its description; PyEER's files."""
import numpy as np
import pytest

from recognition import pyeer, standard_sets, verification
from record_files import write_bin
from tool import one_line
from utils import UserError


def twin(features, same):
    """The protocol in words, slowly: a pair and a threshold at a time. Returns the five numbers of a Standard.

    Images 2 i and 2 i + 1 are pair i. The ten folds are blocks of the file.
    """
    half = features.shape[1] // 2
    distances = []
    for pair in range(len(same)):
        one, other = (features[image, :half].astype(float) + features[image, half:]
                      for image in (2 * pair, 2 * pair + 1))
        one, other = one / np.sqrt((one ** 2).sum()), other / np.sqrt((other ** 2).sum())
        distances.append(((one - other) ** 2).sum())
    blocks, start = [], 0
    for fold in range(10):
        end = start + len(same) // 10 + (fold < len(same) % 10)
        blocks.append(list(range(start, end)))
        start = end

    def rates(threshold, pairs):
        """Accuracy, true accepts and false accepts among `pairs`."""
        accepted, own = np.array(distances)[pairs] < threshold, same[pairs]
        return (accepted == own).mean(), accepted[own].mean(), accepted[~own].mean()

    coarse, fine, accuracies, vals, fars = np.arange(0, 4, .01), np.arange(0, 4, .001), [], [], []
    for block in blocks:
        others = [pair for pair in range(len(same)) if pair not in block]
        best, threshold = -1, None
        for step in range(400):
            accuracy = rates(coarse[step], others)[0]
            if accuracy > best:
                best, threshold = accuracy, coarse[step]
        accuracies.append(rates(threshold, block)[0])
        curve = [rates(each, others)[2] for each in fine]
        threshold = 0
        if max(curve) >= 1e-3:
            right = next(i for i, rate in enumerate(curve) if rate > 1e-3)          # the first above
            left = right - 1                                                        # the last at or below
            share = (1e-3 - curve[left]) / (curve[right] - curve[left])
            threshold = fine[left] + share * (fine[right] - fine[left])
        vals.append(rates(threshold, block)[1])
        fars.append(rates(threshold, block)[2])
    return np.mean(accuracies), np.std(accuracies), np.mean(vals), np.std(vals), np.mean(fars)


def pairs_of(same):
    """FacePairs of a file with these pairs."""
    return verification.FacePairs("a.bin", [str(image) for image in range(2 * len(same))], 2 * np.arange(len(same)),
                                  2 * np.arange(len(same)) + 1, same, standard_sets.folds_of(len(same)))


def test_figures_are_those_of_the_protocol():
    """To the last digit but rounding, with folds of two sizes; the features are not of one length."""
    rng, count = np.random.default_rng(0), 83
    same = rng.random(count) < .5
    features = (rng.normal(size=[2 * count, 12]) * rng.uniform(.1, 9, [2 * count, 1])).astype(np.float32)
    features[1::2][same] = features[::2][same] + rng.normal(size=[same.sum(), 12]) * rng.uniform(.1, 9, [same.sum(), 1])
    found = standard_sets.evaluate(standard_sets.flip_sum(features), pairs_of(same))
    np.testing.assert_allclose(found, twin(features, same), rtol=0, atol=1e-12)
    assert .5 < found.accuracy < 1 and 0 < found.val < 1


def test_ties_take_the_first_threshold_and_a_distance_on_it_is_refused():
    """Squared distances .25 and .75, exactly: thresholds .26 to .75 are perfect, and .25 itself accepts nothing."""
    same = np.array([True, False] * 10)
    embeddings = np.zeros([40, 2])
    embeddings[1::2, 0] = np.where(same, .5, np.sqrt(.75))
    found = standard_sets.evaluate(embeddings, pairs_of(same))
    assert found.accuracy == 1 and found.val == 1 and found.far == 0
    embeddings[1, 0] = np.sqrt(.2601)                   # just above the threshold that the other folds choose
    assert standard_sets.evaluate(embeddings, pairs_of(same)).accuracy == pytest.approx(.95)


def test_folds_are_blocks_and_the_first_take_the_rest():
    assert np.bincount(standard_sets.folds_of(83)).tolist() == [9] * 3 + [8] * 7
    assert (np.diff(standard_sets.folds_of(83)) >= 0).all()


def test_a_fold_of_one_kind_has_no_val():
    same = np.arange(40) < 20
    found = standard_sets.evaluate(np.random.default_rng(0).normal(size=[80, 4]), pairs_of(same))
    assert np.isnan(found.val) and found.row()["val"] is None and 0 <= found.accuracy <= 1
    assert "nan" in standard_sets.table_of({"a": found}, {"a": verification.verify(
        np.random.default_rng(0).normal(size=[80, 4]), pairs_of(same)._replace(fold=np.arange(40) % 10))})


def test_files_of_pairs(tmp_path):
    same = [True, False] * 6
    path = write_bin(tmp_path / "lfw.bin", [b"image"] * 24, same)
    pairs = standard_sets.read(path)
    assert pairs.root == path and pairs.names[23] == "00023.jpg" and pairs.same.tolist() == same
    assert pairs.fold.tolist() == [0, 0, 1, 1, *range(2, 10)]
    assert standard_sets.names_of([path, path]) == {"lfw": path}
    for images, flags in (([b"a"] * 18, same[:9]), ([b"a"] * 24, [True] * 12)):
        with pytest.raises(UserError) as error:
            standard_sets.read(write_bin(tmp_path / "few.bin", images, flags))
        one_line(error, "--bin", "few.bin", "of both kinds")
    with pytest.raises(UserError) as error:
        standard_sets.names_of([path, "other/lfw.bin"])
    one_line(error, "--bin other/lfw.bin", "rename")


@pytest.mark.parametrize("metric, expected", [(0, [-.5, -2]), (1, [0, -1])])
def test_similarities_for_pyeer(tmp_path, metric, expected):
    """A number a line, larger where faces are more alike."""
    pyeer.write(str(tmp_path), np.array([.5, 1., 2.]) if not metric else np.array([.5, 1 / 3, 1.]),
                np.array([True, False, True]), metric, "lfw")
    genuine, impostor = ((tmp_path / f"lfw_{kind}.txt").read_text().splitlines() for kind in ("genuine", "impostor"))
    assert [float(line) for line in genuine] == pytest.approx(expected, abs=1e-9)
    assert [float(line) for line in impostor] == pytest.approx([-1. if not metric else .5])
    assert pyeer.files_of() == ["genuine.txt", "impostor.txt"]
