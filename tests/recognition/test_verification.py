"""recognition.verification: pairs, folds and rates by hand."""
import itertools

import numpy as np
import pytest

import utils
from datasets.image_sets import Renderings
from recognition import verification
from recognition.verification import (
    auc,
    best_threshold,
    distance,
    eer,
    FacePairs,
    PairChoice,
    roc,
    true_accepts,
    verify,
)

T, F = True, False


def folder(root, counts, name="{person}_{number:04}.jpg"):
    """`root` with empty image files: `counts` {person: images}."""
    for person, count in counts.items():
        (root / person).mkdir(parents=True)
        for number in range(1, count + 1):
            (root / person / name.format(person=person, number=number)).touch()
    return str(root)


# Rates

@pytest.mark.parametrize("distances, same, points, area, equal", [
    ([.1, .2, .3, .4], [T, T, F, F], [(0, 0), (0, .5), (0, 1), (.5, 1), (1, 1)], 1, 0),
    ([.1, .2, .3, .4], [T, F, T, F], [(0, 0), (0, .5), (.5, .5), (.5, 1), (1, 1)], .75, .5),
    ([.4, .3, .2, .1], [T, T, F, F], [(0, 0), (.5, 0), (1, 0), (1, .5), (1, 1)], 0, 1),
    ([1, 1], [T, F], [(0, 0), (1, 1)], .5, .5),                             # equally far: half a win
    ([1, 2, 2, 3], [T, T, F, F], [(0, 0), (0, .5), (.5, 1), (1, 1)], .875, .25)])       # the line between meets
def test_roc_auc_eer_by_hand(distances, same, points, area, equal):
    curve = roc(np.array(distances, float), np.array(same))
    assert np.allclose(curve, points)
    assert auc(curve) == pytest.approx(area) and eer(curve) == pytest.approx(equal)


def test_auc_is_how_often_a_same_pair_is_nearer():
    rng = np.random.default_rng(0)
    distances, same = rng.integers(0, 9, 60) / 8, rng.uniform(size=60) < .4
    wins = [(a < b) + (a == b) / 2 for a in distances[same] for b in distances[~same]]
    assert auc(roc(distances, same)) == pytest.approx(np.mean(wins))


def test_true_accepts():
    """Of 100 different pairs, the first is accepted beyond 3 of 4 same pairs, the second beyond all."""
    distances = np.array([1, 2, 3, 5, 4, 6] + [7] * 98, float)
    curve = roc(distances, np.arange(104) < 4)
    assert true_accepts(curve, 1e-3) == .75 and true_accepts(curve, 1e-2) == 1 and true_accepts(curve, .009) == .75


@pytest.mark.parametrize("distances, same, threshold", [
    ([.1, .2, .3, .4], [T, T, F, F], .25), ([.2, .1, .4, .3], [F, T, F, F], .15),
    ([.1, .2], [F, F], .1 - 1e-6), ([.1, .2], [T, T], .2), ([.2, .2, .4], [T, F, T], .4)])
def test_best_threshold(distances, same, threshold):
    assert best_threshold(np.array(distances), np.array(same)) == pytest.approx(threshold)


def test_distances():
    a, b = np.array([[1., 0], [0, 2]]), np.array([[0., 1], [0, 5]])
    assert np.allclose(distance(a, b, 0), [2, 9]) and np.allclose(distance(a, b, 1), [.5, 0])


def line(points, subtract=0.):
    """FacePairs of two folds and embeddings on a line: in each fold a same and a different pair, this far apart."""
    embeddings = np.array([[subtract + at] for far in points for at in (0, far ** .5)])
    return embeddings, FacePairs("", [], np.arange(0, 8, 2), np.arange(1, 8, 2), np.array([T, F, T, F]),
                                 np.array([0, 0, 1, 1]))


def test_the_threshold_comes_from_the_other_folds():
    """Fold 0's best threshold is .5: it takes fold 1's same pair, .52 apart, for different people."""
    result = verify(*line([.1, .9, .52, .6]))
    assert result.accuracy == .75 and result.accuracy_std == .25
    assert result.threshold == pytest.approx((.5 + .56) / 2)
    assert result.auc == 1 and result.eer == 0 and result.tar == {1e-2: 1, 1e-3: 1}
    assert np.allclose(result.distances, [.1, .9, .52, .6])


def test_subtracting_the_mean_changes_angles_only():
    embeddings, pairs = line([.1, .9, .52, .6], subtract=5.)
    assert np.allclose(verify(embeddings, pairs, 0, True).distances, [.1, .9, .52, .6])
    moved = verify(embeddings, pairs, 1, True).distances
    assert np.allclose(verify(embeddings, pairs, 1).distances, 0, atol=1e-6) and moved.max() == pytest.approx(1)
    mean = embeddings[4:].mean()                                    # fold 0 sees the other's
    assert np.allclose(moved[:2], [(np.prod(embeddings[i:i + 2] - mean) < 0) for i in (0, 2)], atol=1e-6)


# Drawn pairs

def drawn(counts, **options):
    labels = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    faces = Renderings("root", [f"{i}" for i in range(len(labels))], labels, [f"{i}" for i in range(len(counts))])
    return labels, verification.choose_pairs(faces, PairChoice(**options))


@pytest.mark.parametrize("counts, folds, per_fold", [([12] * 20, 10, 30), ([5] * 6, 10, 300), ([3, 9, 2, 1, 4], 3, 4)])
def test_drawn_pairs_are_balanced(counts, folds, per_fold):
    labels, pairs = drawn(counts, folds=folds, per_fold=per_fold)
    both = list(zip(pairs.first, pairs.second))
    assert len({frozenset(pair) for pair in both}) == len(both) and all(a != b for a, b in both)
    assert np.array_equal(labels[pairs.first] == labels[pairs.second], pairs.same)
    for fold in range(folds):
        assert pairs.same[pairs.fold == fold].sum() == (~pairs.same)[pairs.fold == fold].sum() > 0
    assert (np.bincount(pairs.fold) <= 2 * per_fold).all()
    used = np.bincount(labels[pairs.first[pairs.same]], minlength=len(counts))
    most = np.array([n * (n - 1) // 2 for n in counts])
    assert used[most > used].min(initial=99) >= used.max() - 1      # who has pairs left has no fewer than the others
    apart = np.bincount(labels[np.concatenate([pairs.first, pairs.second])[np.tile(~pairs.same, 2)]])
    if len(set(counts)) == 1:
        assert apart.max() - apart.min() <= 2


def test_drawn_pairs_follow_from_the_seed():
    first, again, other = (drawn([6] * 8, folds=4, per_fold=9, seed=seed)[1] for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first[2:], again[2:]))
    assert not np.array_equal(first.first, other.first)


def test_different_pairs_may_be_few():
    _, pairs = drawn([9, 1], folds=3, per_fold=300)
    assert len(pairs.same) == 18 and (~pairs.same).sum() == 9


@pytest.mark.parametrize("counts", [[12], [1, 1, 1, 1], [3, 1]])
def test_too_few_images(counts):
    with pytest.raises(utils.UserError, match="too few for 10 folds"):
        drawn(counts)


# pairs.txt

LINES = ["2\t1", "ann\t1\t2", "ann\t1\tbob jr\t1", "bob jr\t2\t1", "bob jr\t2\tann\t1"]


@pytest.mark.parametrize("name", ["{person}_{number:04}.jpg", "{number:05}.PNG", "{number}.jpeg"])
def test_read_pairs(tmp_path, name):
    root = folder(tmp_path / "faces", {"ann": 2, "bob jr": 2}, name)
    (tmp_path / "pairs.txt").write_text("\n".join(LINES) + "\n")
    pairs = verification.read_pairs(str(tmp_path / "pairs.txt"), root)
    images = ("ann", 1), ("ann", 2), ("bob jr", 1), ("bob jr", 2)
    wanted = [f"{person}/{name.format(person=person, number=number)}" for person, number in images]
    got = [(pairs.names[a], pairs.names[b]) for a, b in zip(pairs.first, pairs.second)]
    assert got == [(wanted[0], wanted[1]), (wanted[0], wanted[2]), (wanted[3], wanted[2]), (wanted[3], wanted[0])]
    assert pairs.same.tolist() == [T, F, T, F] and pairs.fold.tolist() == [0, 0, 1, 1]


def test_a_file_without_folds_is_divided(tmp_path):
    root = folder(tmp_path / "faces", {"a": 4, "b": 4})
    rows = [f"a {i} {j}" for i, j in itertools.combinations(range(1, 5), 2)]
    rows += [f"a {i} b {i % 4 + 1}" for i in (1, 2, 3, 4, 1, 2)]
    (tmp_path / "pairs.txt").write_text("\n".join(["6", *rows]))
    pairs = verification.read_pairs(str(tmp_path / "pairs.txt"), root, folds=3)
    assert [sorted(pairs.same[pairs.fold == fold].tolist()) for fold in range(3)] == [[F, F, T, T]] * 3


def test_pairs_without_images_are_skipped(tmp_path, caplog):
    root = folder(tmp_path / "faces", {"ann": 2, "bob jr": 2})
    (tmp_path / "pairs.txt").write_text("\n".join([
        "2 2", *LINES[1:3], "ann\t1\t3", "ann\t1\tzoe\t1", *LINES[3:], "zoe\t1\t2", "zoe\t1\tann\t1"]))
    pairs = verification.read_pairs(str(tmp_path / "pairs.txt"), root)
    assert pairs.fold.tolist() == [0, 0, 1, 1] and "4 of 8 pairs lack an image" in caplog.text


@pytest.mark.parametrize("text", ["", "2 1\nann 1", "1 1\n" + "\n".join(LINES[1:3]), "2 1\n" + "\n".join(LINES[1:2]),
                                  "x\n" + LINES[1], "2 1\nann one two", "2 2\n" + "\n".join(LINES[1:]),
                                  "2 1\n" + "\n".join(LINES[1:] + LINES[1:3])])
def test_bad_pairs(tmp_path, text):
    root = folder(tmp_path / "faces", {"ann": 2, "bob jr": 2})
    (tmp_path / "pairs.txt").write_text(text)
    with pytest.raises(utils.UserError, match=r"pairs\.txt: ") as error:
        verification.read_pairs(str(tmp_path / "pairs.txt"), root)
    assert "\n" not in str(error.value)
    with pytest.raises(utils.UserError, match=r"nowhere: .*No such file"):
        verification.read_pairs(str(tmp_path / "nowhere"), root)


PATHS = [("ann/1.jpg", "ann/2.jpg", 1), ("ann/1.jpg", "bob jr/1.jpg", 0), ("bob jr/1.jpg", "bob jr/2.jpg", 1),
         ("ann/2.jpg", "bob jr/2.jpg", 0)]
LISTS = {                   # how a list of paths may be written
    "tabs": "\n".join("\t".join(map(str, row)) for row in PATHS),
    "commas": "\n".join(",".join(map(str, row)) for row in PATHS),
    "blanks": "\n".join(" ".join(map(str, row)) for row in PATHS).replace("bob jr", "zoe"),
    "mark and crlf": "\ufeff" + "\r\n".join("\t".join(map(str, row)) for row in PATHS) + "\r\n\r\n",
    "dots": "\n".join("./{},./{} , {}".format(*row) for row in PATHS),
}


@pytest.mark.parametrize("name", LISTS)
def test_lists_of_paths(tmp_path, name):
    root = folder(tmp_path / "faces", {"ann": 2, "bob jr": 2, "zoe": 2}, "{number}.jpg")
    (tmp_path / "list.txt").write_bytes(LISTS[name].encode())
    pairs = verification.read_pairs(str(tmp_path / "list.txt"), root, folds=2)
    other = "zoe" if name == "blanks" else "bob jr"
    got = [(pairs.names[a], pairs.names[b]) for a, b in zip(pairs.first, pairs.second)]
    assert got == [tuple(path.replace("bob jr", other) for path in row[:2]) for row in PATHS]
    assert pairs.same.tolist() == [T, F, T, F] and sorted(pairs.fold.tolist()) == [0, 0, 1, 1]


def test_a_mark_of_utf_8_is_no_part_of_a_number(tmp_path):
    root = folder(tmp_path / "faces", {"ann": 2, "bob jr": 2})
    (tmp_path / "pairs.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(LINES).encode())
    assert len(verification.read_pairs(str(tmp_path / "pairs.txt"), root).same) == 4


@pytest.mark.parametrize("text, named", [
    ("2\t1\nann\t1\t2\nbob jr\t1\t2\n", "all 2 pairs are of the same person"),
    ("2\t1\nann\t1\tbob jr\t2\n", "all 1 pairs are of different people"),
    ("ann/1.jpg\tann/2.jpg\t1\n", "all 1 pairs are of the same person"),
    ("ann/1.jpg bob/2.jpg 0\nann/2.jpg bob/2.jpg 0", "all 2 pairs are of different people"),
    ("ann/1.jpg\tann/2.jpg\t1\nann/1.jpg\tann/2.jpg\n", "not `IMAGE OTHER 0`"),
    ("a/1.jpg a/2.jpg 1\na/1.jpg b/2.jpg 0", "of its 10 folds one has no pair")])
def test_lists_that_tell_nothing(tmp_path, text, named):
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(utils.UserError, match=named) as error:
        verification.read_pairs(str(tmp_path / "list.txt"), str(tmp_path))
    assert "\n" not in str(error.value)


def test_equal_distances_are_told(caplog):
    verify(*line([.1, .9, .52, .6]))
    assert not caplog.records
    embeddings, pairs = line([0, 0, 0, 0])
    assert verify(embeddings, pairs).auc == .5
    assert "all 4 distances are 0" in caplog.text and "means nothing" in caplog.text


def test_pairs_with_a_broken_image_are_left_out(caplog):
    embeddings = np.arange(8.)[:, None]
    pairs = FacePairs("root", [], np.array([0, 0, 1, 1, 2, 3]), np.array([4, 5, 5, 4, 6, 7]),
                      np.array([T, F, T, F, T, F]), np.array([0, 0, 1, 1, 0, 0]))
    assert verification.with_embeddings(pairs, embeddings) is pairs and not caplog.records
    embeddings[2] = np.nan
    left = verification.with_embeddings(pairs, embeddings)
    assert left.first.tolist() == [0, 0, 1, 1, 3] and left.fold.tolist() == [0, 0, 1, 1, 0]
    assert "root: 1 of 6 pairs have a broken image, skipped" in caplog.text
    embeddings[1] = np.nan
    with pytest.raises(utils.UserError, match="2 can't be decoded, and a fold has no pair of both kinds left"):
        verification.with_embeddings(pairs, embeddings)


# Pictures
