"""evaluation.report.illustrations: what is shown of a set's files, in which places; files that can't be shown."""
import numpy as np
import pytest

from datasets.image_sets import find_photos, find_renderings
from datasets.images import save_image
from evaluation.figures import Section
from evaluation.report.illustrations import best_and_worst, ENDS, illustrate, pairs_of, sample, SIDE


@pytest.fixture
def folder(tmp_path):
    """Eight identities of three images each, whose grey is their number from 0 to 23, times 10."""
    for i in range(24):
        (tmp_path / f"set/{i // 3}").mkdir(parents=True, exist_ok=True)
        save_image(np.full([20, 20, 3], 10 * i, np.uint8), str(tmp_path / f"set/{i // 3}/{i % 3}.png"))
    (tmp_path / "photos").mkdir()
    save_image(np.full([30, 30, 3], 255, np.uint8), str(tmp_path / "photos/a.png"))
    return tmp_path


@pytest.fixture
def images(folder):
    return find_renderings(str(folder / "set"))


def greys(picture):
    """The greys of the middles of a picture's images, in rows."""
    return picture.image[SIDE // 2::SIDE + 2, SIDE // 2::SIDE + 2, 0].tolist()


def test_a_sample_has_a_row_for_each_identity(images):
    [picture] = sample(images, seed=1, people=3, each=2)
    rows = greys(picture)
    assert [len(row) for row in rows] == [2, 2, 2] and len({row[0] // 30 for row in rows}) == 3
    assert all(row[0] // 30 == row[1] // 30 for row in rows) and "3 identities" in picture.caption
    assert greys(sample(images, seed=1, people=3, each=2)[0]) == rows != greys(sample(images, 2, 3, 2)[0])


def test_the_best_and_the_worst_come_in_their_order(images):
    scores = 1 - np.arange(24.)
    scores[5] = np.nan
    best, worst = best_and_worst(images, scores, "confidence")
    assert np.ravel(greys(best)).tolist() == [10 * i for i in range(17) if i != 5]
    assert np.ravel(greys(worst)).tolist() == [10 * i for i in range(23, 23 - ENDS, -1)]
    assert best.caption == "The best by confidence, the best first: 1 to -15."


def test_pairs_of_tables_are_shown(images, folder):
    photos = find_photos(str(folder / "photos"))
    sections = [Section("identity", "", [], [], [], {
        "collisions": [{"image": "0/1.png", "other_image": "4/0.png", "distance": .1}], "thresholds": [{"value": 1}]}),
        Section("leakage", "", [], ["own"], [], {"nearest_images": [{"image": "7/2.png", "photo": "a.png"}]})]
    identity, leakage = illustrate(sections, images, photos)
    assert [picture.key for picture in identity.pictures] == ["sample", "pairs_collisions"]
    pair = identity.pictures[1].image[8:-8, 8:-8]
    assert pair.shape == (SIDE, 2 * SIDE, 3) and (pair[:, :SIDE] == 10).all() and (pair[:, SIDE:] == 120).all()
    shown, own = leakage.pictures
    assert own == "own" and shown.image[9, -9, 0] == 255 and shown.caption.startswith("Nearest images: left of the set")
    assert len(illustrate(sections, images)[1].pictures) == 1                       # no training photos, no pairs
    assert illustrate(sections, images, photos, {"s": np.arange(24)})[0].pictures[1].key == "best_s"


def test_files_that_cannot_be_shown_are_left_out(images, folder):
    (folder / "set/0/1.png").write_bytes(b"no image")
    (folder / "set/4/0.png").unlink()
    rows = [{"image": "0/1.png", "other_image": "1/0.png"}, {"image": "1/0.png", "other_image": "4/0.png"}]
    assert pairs_of("collisions", rows, images) == pairs_of("collisions", [], images) == []
    [picture] = pairs_of("collisions", [*rows, {"image": "0/0.png", "other_image": "1/0.png"}], images)
    assert picture.image.shape[1] == 2 * SIDE + 16
    assert len(greys(sample(images, people=8, each=3)[0])) == 8
    for path in (folder / "set").rglob("*.png"):
        path.unlink()
    assert sample(images) == best_and_worst(images, np.arange(24), "s") == [] and illustrate([], images) == []
