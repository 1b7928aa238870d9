"""evaluation.choosing.goodness: which images are good, part by part, and the shares beside those of photos."""
import numpy as np
import pytest

from evaluation.choosing import goodness
from evaluation.distances import detail, neighbours
from evaluation.figures import PHOTOS, RENDERINGS, SET
from people_of import blurred, people, textured, unit

AMOUNTS = detail.amounts(textured(150))


def rows_of(images=None, label=None):
    """Rows of a set whose images may be others, and of photos."""
    photos, rows = goodness.photos_of(people(20, 6, seed=1), AMOUNTS), {}
    for name, seed, own in ((SET, 2, images), (PHOTOS, 3, None)):
        subject = people(20, 6, seed=seed)
        amounts = detail.amounts(textured(120, seed) if own is None else own)
        rows[name] = goodness.look(subject, photos, amounts)
    if label is not None:
        rows[SET].parts[goodness.LABELS] = label
    return rows


def figures_of(rows, known=None):
    found = goodness.measures(rows, np.ones(120, bool) if known is None else known)
    return {measure.key: measure.figures for measure in found}


def test_shares_stand_beside_those_of_photos():
    rows = rows_of()
    found = figures_of(rows)
    assert list(found) == ["good_images", "good_own", "good_among", "good_detailed"]
    for key, figures in found.items():
        assert figures[SET].n == figures[PHOTOS].n == 120, key
        assert figures[SET].low <= figures[SET].value <= figures[SET].high
    good = [all(each) for each in zip(*rows[SET].parts.values())]
    assert rows[SET].good.tolist() == good and 0 < np.mean(good) < 1
    assert found["good_images"][SET].value == pytest.approx(np.mean(good))


def test_parts_equal_slow_twins():
    subject, photos = people(12, 5, 4., seed=2), people(10, 6, 1.2, seed=1)
    photos.features[:, 0] += 1
    subject.features[:, 0] += np.linspace(-1, 1, 60)               # from far away of the photos to the middle of them
    photos.features[:], subject.features[:] = unit(photos.features), unit(subject.features)
    found = goodness.look(subject, goodness.photos_of(photos))
    labels, owners = subject.images.labels, photos.images.labels
    features, gallery = subject.features.astype(float), photos.features.astype(float)
    means = [features[labels == label].sum(0) / np.linalg.norm(features[labels == label].sum(0)) for label in range(12)]
    radii = [np.sort(np.linalg.norm(gallery[owners != owner] - photo, axis=1))[neighbours.DENSITY_K - 1]
             for owner, photo in zip(owners, gallery)]
    for image in range(60):
        near = [1 - features[image] @ mean for mean in means]
        others = min(each for label, each in enumerate(near) if label != labels[image])
        photo_distances = np.linalg.norm(gallery - features[image], axis=1)
        assert found.parts[goodness.OWN][image] == (near[labels[image]] < others)
        assert found.parts[goodness.AMONG][image] == (photo_distances <= radii).any()
        assert found.scores["near to photos"][image] == pytest.approx(-(1 - gallery @ features[image]).min(), abs=1e-6)
        assert found.scores["far from other identities"][image] == pytest.approx(others, abs=1e-6)
    assert all(0 < part.mean() < 1 for part in found.parts.values())


def test_blur_is_seen_where_the_embedder_sees_none():
    shares = [figures_of(rows_of(blurred(textured(120, 2), sigma)))["good_images"][SET].value
              for sigma in (0, .5, .8, 2)]
    assert (np.diff(shares) <= 0).all() and shares[-1] == 0 < shares[0]
    found = figures_of(rows_of(blurred(textured(120, 2), 2)))
    assert found["good_detailed"][SET].high < found["good_detailed"][PHOTOS].low
    assert found["good_own"] == figures_of(rows_of())["good_own"]


def test_labels_count_where_they_are_known():
    label, known = np.arange(120) % 2 == 0, np.arange(120) < 60
    found = figures_of(rows_of(label=label), known)
    assert found["good_labels"][SET].value == .5 and found["good_labels"][SET].n == 60 == found["good_images"][SET].n
    assert "no labels" in found["good_labels"][PHOTOS].why and "no labels to keep" in found["good_images"][PHOTOS].why


def test_what_can_t_be_measured_does_not_count():
    subject, photos = people(20, 6, seed=2), people(1, 3, seed=1)
    seen = goodness.look(subject, goodness.photos_of(photos))
    assert list(seen.parts) == [goodness.OWN] and "as detailed as photos" not in seen.scores
    assert list(figures_of({SET: seen, RENDERINGS: seen})) == ["good_images", "good_own"]
