"""evaluation.people.leakage and nearest: a planted photo is found, and only it; strangers are none; slow twins."""
import numpy as np
import pytest

from evaluation.figures import PHOTOS, SET
from evaluation.people import leakage
from evaluation.people.nearest import nearest
from evaluation.subjects import part_of
from people_of import people, subject_of, unit


def at(subject, root):
    """The same Subject in another folder."""
    return subject._replace(images=subject.images._replace(root=root))


@pytest.fixture(scope="module")
def training():
    return at(people(40, 6, seed=5), "data/real")


def figures_of(section, row=SET):
    return {measure.key: measure.figures[row] for measure in section.measures}


# Nearest neighbours

@pytest.mark.parametrize("block", [7, 4096])
def test_nearest_is_exact(block, monkeypatch):
    monkeypatch.setattr("evaluation.people.nearest._QUERIES", block)
    monkeypatch.setattr("evaluation.people.nearest._GALLERY", 2 * block)
    rng = np.random.default_rng(0)
    queries, gallery = unit(rng.normal(size=(20, 6))), unit(rng.normal(size=(50, 6)))
    own, owners = rng.integers(3, size=20), rng.integers(3, size=50)
    slow = 1 - queries.astype(np.float64) @ gallery.T
    distances, index = nearest(queries, gallery)
    assert index.tolist() == slow.argmin(axis=1).tolist()
    np.testing.assert_allclose(distances, slow.min(axis=1), atol=1e-6)
    slow[own[:, None] == owners] = np.inf
    distances, index = nearest(queries, gallery, own, owners)
    assert index.tolist() == slow.argmin(axis=1).tolist()
    np.testing.assert_allclose(distances, slow.min(axis=1), atol=1e-6)


def test_nobody_left_is_infinitely_far():
    features = unit(np.ones((3, 4)))
    distances, index = nearest(features, features, np.zeros(3), np.zeros(3))
    assert np.isinf(distances).all() and (index == -1).all()
    distances, index = nearest(features, features)
    assert (distances == 0).all()


# Strangers

def test_strangers_leave_their_own_photos_out(training):
    found = leakage.find_strangers(training, training)
    labels = training.images.labels
    slow = 1 - training.features.astype(np.float64) @ training.features.T
    slow[labels[:, None] == labels] = np.inf
    np.testing.assert_allclose(found.distances, np.sort(slow.min(axis=1)), atol=1e-6)
    assert found.radius == pytest.approx(slow.min(), abs=1e-6) and found.expected == pytest.approx(2 / 241)
    one, photo = found.pair
    assert slow[one, photo] == pytest.approx(slow.min(), abs=1e-6)


def test_the_threshold_is_the_quantile_of_many_strangers():
    found = leakage.find_strangers(at(people(500, 6, seed=1), "a"), at(people(5, 2, seed=2), "b"))
    assert (found.distances <= found.radius).sum() == 3 and found.expected == pytest.approx(3 / 3001)


def test_a_photo_that_is_there_twice_is_no_stranger(training):
    features = np.concatenate([training.features, training.features[:1]])
    twice = at(subject_of([*training.images.labels, 40], features), "data/real")
    found = leakage.find_strangers(twice, twice)
    assert found.copies == 2 and found.radius == leakage.find_strangers(training, training).radius
    section = leakage.judge({SET: people(5)}, twice).section
    assert any("left out" in note for note in section.notes)


# The section

def test_other_people_are_no_leak(training):
    found = leakage.judge({SET: people(30, seed=6), PHOTOS: training}, training)
    section = found.section
    assert found.share == figures_of(section)["leaked_images"]
    assert figures_of(section)["leaked_images"].value <= 2 / 150
    assert not any("publish" in note for note in section.notes)
    assert figures_of(section, PHOTOS)["leaked_images"].value == pytest.approx(2 / 240)     # the nearest two


def test_shares_and_distances_equal_slow_twins(training):
    """Of a set of which some lie near to people of the training."""
    features = unit(people(40, 6, seed=6).features + np.linspace(0, 2, 240)[:, None] * training.features)
    generated = subject_of(np.repeat(np.arange(40), 6), features)
    figures = figures_of(leakage.judge({SET: generated}, training).section)
    gallery, owners = training.features.astype(float), training.images.labels
    strangers = np.array([[np.inf if owners[i] == owners[j] else 1 - gallery[i] @ gallery[j] for j in range(240)]
                          for i in range(240)])
    near = np.array([min(1 - each @ photo for photo in gallery) for each in features.astype(float)])
    assert figures["leaked_images"].value == pytest.approx(np.mean(near <= strangers.min()))
    assert figures["nearest_photo"].value == pytest.approx(np.median(near), abs=1e-6)
    means = [unit(features[6 * i:6 * i + 6].sum(0)[None])[0] for i in range(40)]
    centres = np.array([unit(training.features[owners == i].sum(0)[None])[0] for i in range(40)])
    radius = min((1 - centres[i] @ photo) for i in range(40) for j, photo in enumerate(gallery) if owners[j] != i)
    assert figures["leaked_identities"].value == np.mean([min(1 - gallery @ mean) <= radius for mean in means])
    assert 0 < figures["leaked_images"].value < 1 and 0 < figures["leaked_identities"].value < 1


def test_a_planted_photo_is_found_and_only_it(training):
    generated = people(60, 5, seed=7)
    radius = leakage.find_strangers(training, training).radius
    fair = nearest(generated.features, training.features)[0] > radius
    generated = part_of(generated, np.flatnonzero(fair))
    generated.features[17] = unit(training.features[100:101] + .01)
    section, shown = leakage.judge({SET: generated}, training)
    assert list(shown) == generated.images.names
    assert [name for name, within in shown.items() if within] == [generated.images.names[17]]
    table = section.tables["exceeding_images"]
    assert [(row["image"], row["photo"]) for row in table] == [(generated.images.names[17], training.images.names[100])]
    assert table[0]["distance"] < .01 and len(section.tables["nearest_images"]) == 20
    assert section.tables["nearest_images"][0] == table[0]
    assert figures_of(section)["leaked_images"].value == pytest.approx(1 / generated.count)


def test_a_planted_person_is_found_among_identities(training, caplog):
    generated = people(30, 5, seed=8)
    labels = generated.images.labels
    generated.features[labels < 10] = training.features[training.images.labels < 10][:50]
    section = leakage.judge({SET: generated}, training, embedder="dlib").section
    listed = {row["image"].split("/")[0]: row["photo"].split("/")[0] for row in section.tables["exceeding_identities"]}
    assert {f"{i:05}" for i in range(10)} <= set(listed)
    figure = figures_of(section)["leaked_images"]
    assert figure.value >= 1 / 3 and figure.low < figure.value < figure.high and figure.n == 150
    assert "publish" in section.notes[0] and "publish" in caplog.text
    assert all("dlib" in measure.name for measure in section.measures)


def test_held_out_people_may_be_the_strangers(training):
    others = at(people(50, 4, seed=9), "data/held_out")
    section = leakage.judge({SET: people(20, seed=6)}, training, strangers=others).section
    slow = (1 - others.features.astype(np.float64) @ training.features.T).min()
    assert f"threshold of images: {slow:.4f}" in section.notes[0] and "(200 measured" in section.notes[0]


def test_what_takes_too_long_is_sampled(training, monkeypatch):
    monkeypatch.setattr(leakage, "MOST_WORK", 100 * training.features.size)
    section, shown = leakage.judge({SET: people(50, 6)}, training)
    assert len(shown) == 100 and sum(shown.values()) == 100 * figures_of(section)["leaked_images"].value
    assert figures_of(section)["leaked_images"].n == 100 and any("100 of 300 images" in note for note in section.notes)


@pytest.mark.parametrize("kind", [people(1, 3), people(5, 1)])
def test_odd_sets(kind, training):
    section = leakage.judge({SET: kind}, training).section
    assert all(figure.value is not None for figure in figures_of(section).values())


def test_images_that_were_not_embedded_are_left_out(training):
    lost = people(6, 5)
    lost.features[[0, 7]] = np.nan
    section = leakage.judge({SET: lost}, training).section
    assert figures_of(section)["leaked_images"].n == 28 and "2 of 30 images" in section.notes[0]
    lost.features[:] = np.nan
    figures = figures_of(leakage.judge({SET: lost}, training).section)
    assert all("embedded" in figure.why for figure in figures.values())


def test_one_training_person_has_no_strangers():
    section, shown = leakage.judge({SET: people(4)}, at(people(1, 3, seed=3), "data/real"))
    assert shown == {}
    assert "two people" in figures_of(section)["leaked_images"].why and not section.pictures
    assert figures_of(section)["nearest_photo"].value > 0 and section.tables["exceeding_images"] == []


def test_the_picture_can_be_drawn(training):
    pyplot = pytest.importorskip("matplotlib.figure")
    picture, = leakage.judge({SET: people(5)}, training).section.pictures
    axes = pyplot.Figure().subplots()
    picture.image(axes)
    assert axes.has_data()
