"""evaluation: pairs, separation, thresholds, uniqueness and consistency, against slow twins and known answers."""
import itertools

import numpy as np
import pytest

from evaluation.figures import Figure, not_measured, PHOTOS, PIXELS, RENDERINGS, SET
from evaluation.people import face_pairs, identity, separation, uniqueness
from evaluation.subjects import at_most, part_of
from people_of import doubled, people, subject_of, unit
from recognition import verification


def slow_pairs(subject):
    """{whether of the same person: sorted distances} of all pairs."""
    found = {True: [], False: []}
    features, labels = subject.features.astype(np.float64), subject.images.labels
    for i, j in itertools.combinations(range(subject.count), 2):
        found[bool(labels[i] == labels[j])].append(1 - features[i] @ features[j])
    return {same: np.sort(values) for same, values in found.items()}


def uneven(seed=0):
    """A Subject of people with 1 to 6 images, in mixed order."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(8), [1, 2, 6, 1, 3, 4, 5, 2]))
    return subject_of(labels, unit(rng.normal(size=(24, 4)) + np.eye(8, 4)[labels]))


# Pairs

def test_all_pairs_where_they_are_few():
    subject = uneven()
    pairs, slow = face_pairs.measure(subject), slow_pairs(subject)
    assert not pairs.sampled and (np.diff(pairs.distances) >= 0).all()
    for same in (True, False):
        np.testing.assert_allclose(pairs.of(same), slow[same], atol=1e-6)
    assert ((pairs.first == pairs.second) == pairs.same).all()


def test_samples_are_balanced_distinct_and_repeatable():
    sizes = np.array([40, 5, 5, 5, 5, 1])
    subject = subject_of(np.repeat(np.arange(6), sizes), unit(np.random.default_rng(1).normal(size=(61, 8))))
    pairs = face_pairs.measure(subject, most=60)
    assert pairs.sampled and np.bincount(pairs.first[pairs.same], minlength=6).tolist() == [20, 10, 10, 10, 10, 0]
    assert len(set(pairs.of(True).tolist())) == 60          # no pair twice
    different = ~pairs.same
    both = np.bincount(np.append(pairs.first[different], pairs.second[different]), minlength=6)
    assert 30 < different.sum() <= 60 and both[5] > 5 and both[0] < 40       # people first, however many images
    again = face_pairs.measure(subject, most=60)
    assert again.distances.tolist() == pairs.distances.tolist()
    assert face_pairs.measure(subject, most=60, seed=1).distances.tolist() != pairs.distances.tolist()


def test_fewer_pairs_than_identities():
    pairs = face_pairs.measure(people(30, 2), most=10)
    assert pairs.same.sum() == 10 and 0 < (~pairs.same).sum() <= 10


def test_unranked_pairs_are_all_pairs_of_a_large_identity():
    places, complete = face_pairs._same_pairs(np.array([2, 300]), 10 ** 6, None)
    assert complete and {tuple(pair) for pair in places.tolist()} == {(0, 1), *itertools.combinations(range(2, 302), 2)}


# Separation

def test_separation_is_that_of_its_definitions():
    subject = uneven(3)
    slow, found = slow_pairs(subject), separation.separate(subject).figures
    same, different = slow[True], slow[False]
    value = {key: figure.value for key, figure in found.items()}
    assert value["genuine_distance"] == pytest.approx(same.mean(), abs=1e-6)
    assert value["impostor_distance"] == pytest.approx(different.mean(), abs=1e-6)
    expected = abs(same.mean() - different.mean()) / np.sqrt((same.var() + different.var()) / 2)
    assert value["d_prime"] == pytest.approx(expected, abs=1e-5)
    assert value["auc"] == pytest.approx((same[:, None] < different).mean(), abs=1e-6)
    assert found["auc"].n == len(same) + len(different) and found["genuine_distance"].n == len(same)
    assert found["tar_at_0.01"].value is None and "needs 1000" in found["tar_at_0.01"].why


def test_true_accepts_and_intervals():
    found = separation.separate(people(20, 10, 1.2)).figures
    slow = slow_pairs(people(20, 10, 1.2))
    first_too_many = slow[False][int(.01 * len(slow[False]))]
    assert found["tar_at_0.01"].value == pytest.approx((slow[True] < first_too_many).mean(), abs=1e-9)
    assert found["tar_at_0.001"].value is not None
    for figure in found.values():
        assert figure.low <= figure.value <= figure.high and figure.high > figure.low


def test_a_draw_counts_pairs_as_often_as_its_people_are_drawn():
    """The fast numbers of a draw are those of pairs that are really repeated."""
    pairs = face_pairs.measure(uneven(4))
    times = np.array([2, 0, 1, 1, 3, 0, 1, 0])
    weights = times[pairs.first] * np.where(pairs.same, 1, times[pairs.second])
    repeated = pairs._replace(**{name: np.repeat(getattr(pairs, name), weights) for name in (
        "distances", "same", "first", "second")})
    slow = separation.statistics(repeated, verification.roc(repeated.distances, repeated.same))
    fast, = separation.drawn_statistics(pairs, times[None])
    assert fast == pytest.approx(slow, abs=1e-9)


def test_the_auc_of_a_part_is_measured_on_some_of_its_pairs(monkeypatch):
    subject = people(20, 10, 1.2)
    assert separation.auc_of(subject) == separation.separate(subject, most=separation.MOST_OF_PARTS).figures["auc"]
    monkeypatch.setattr(separation, "MOST_OF_PARTS", 300)
    sampled, everything = separation.auc_of(subject), separation.separate(subject).figures["auc"]
    assert 580 < sampled.n <= 600 < everything.n and sampled.value == pytest.approx(everything.value, abs=.05)


def test_shuffled_labels_tell_nobody_apart():
    subject = people(40, 10, .5)
    shuffled = np.random.default_rng(1).permutation(subject.images.labels)
    found = separation.separate(subject_of(shuffled, subject.features)).figures
    assert found["eer"].value == pytest.approx(.5, abs=.03) and found["eer"].low < .5 < found["eer"].high
    assert found["auc"].value == pytest.approx(.5, abs=.03) and found["d_prime"].value < .1


@pytest.mark.parametrize("count, images, why", [(1, 5, "one identity"), (5, 1, "one image of each")])
def test_what_no_pairs_can_tell(count, images, why):
    found = separation.separate(people(count, images)).figures
    assert found.keys() == set(separation.KEYS) and all(why in figure.why for figure in found.values())


def test_equal_embeddings_are_told():
    found = separation.separate(subject_of([0, 0, 1, 1], np.tile([[1, 0]], (4, 1)))).figures
    assert found["d_prime"].value is None and found["auc"].value == .5


# Thresholds

def test_thresholds_are_quantiles_of_strangers():
    strangers = people(20, 12)
    found, slow = separation.thresholds(strangers), slow_pairs(strangers)[False]
    radius = found[1e-3]
    assert radius.n == len(slow) and (slow <= radius.value + 1e-6).sum() == len(slow) // 1000
    assert radius.low <= radius.value <= radius.high and found[1e-4].value is None
    assert "100000" in found[1e-4].why


@pytest.mark.parametrize("strangers, why", [(people(3, 5), "75 pairs"), (people(1, 5), "one identity")])
def test_too_few_strangers(strangers, why):
    found = separation.thresholds(strangers)
    assert found[1e-3].value is None and why in found[1e-3].why


# Uniqueness and consistency

def slow_uniqueness(means, radius):
    """U of all identities in their order, and the mean of U over random orders of k of them."""
    def of(order):
        return np.mean([all(1 - means[n] @ means[m] > radius for m in order[:place]) for place, n in enumerate(order)])
    rng = np.random.default_rng(0)
    return of(np.arange(len(means))), lambda k: np.mean(
        [of(rng.choice(len(means), k, replace=False)) for _ in range(1500)])


def test_uniqueness_is_dcfaces_and_equal_sets_are_its_mean():
    means = unit(np.random.default_rng(2).normal(size=(14, 3)))
    literal, equal = slow_uniqueness(means, .2)
    found = uniqueness.uniqueness(means, .2, k=6)
    assert found.literal.value == pytest.approx(literal) and .2 < literal < 1 and found.literal.n == 14
    assert found.equal.value == pytest.approx(equal(6), abs=.015) and found.equal.n == 6
    distances = 1 - means @ means.T
    pairs = [(i, j) for i, j in itertools.combinations(range(14), 2) if distances[i, j] <= .2]
    assert {(one, other) for one, other, _ in found.collisions} == set(pairs)
    assert np.diff([each.distance for each in found.collisions]).min() >= 0
    assert found.rate.value == pytest.approx(len(pairs) / 91)
    for figure in (found.literal, found.equal, found.rate):
        assert figure.low <= figure.value <= figure.high


def test_unique_people_of_a_part_are_those_of_unscaled_means():
    subject = people(14, 6, .8, size=4)
    _, equal = slow_uniqueness(np.stack([subject.features[subject.images.labels == i].mean(0) for i in range(14)]), .6)
    found = uniqueness.unique_of(subject, Figure(.6), 6)
    assert found.value == pytest.approx(equal(6), abs=.015) and found.n == 6 and .3 < found.value < .95
    subject.features[:6] = np.nan                                   # nobody is left of the first one
    assert uniqueness.unique_of(subject, Figure(.6), 99).n == 13
    assert uniqueness.unique_of(subject, not_measured("no photos"), 6).why == "no photos"


def test_the_jackknife_leaves_each_identity_out():
    means = unit(np.random.default_rng(3).normal(size=(12, 3)))
    whole = uniqueness.uniqueness(means, .25, k=5)
    parts = [uniqueness.uniqueness(np.delete(means, i, axis=0), .25, k=5) for i in range(12)]
    for name in ("literal", "equal", "rate"):
        values = np.array([getattr(part, name).value for part in parts])
        error = np.sqrt(11 / 12 * ((values - values.mean()) ** 2).sum())
        figure = getattr(whole, name)
        assert figure.low == pytest.approx(max(figure.value - 1.96 * error, 0), abs=1e-6)
        assert figure.high == pytest.approx(min(figure.value + 1.96 * error, 1), abs=1e-6)


def test_blocks_and_the_shortened_list_change_nothing(monkeypatch):
    means = unit(np.random.default_rng(4).normal(size=(30, 3)))
    whole = uniqueness.uniqueness(means, .4)
    monkeypatch.setattr(uniqueness, "_BLOCK", 70)
    assert uniqueness.uniqueness(means, .4) == whole
    monkeypatch.setattr(uniqueness, "MOST_COLLISIONS", 5)
    assert uniqueness.uniqueness(means, .4).collisions == whole.collisions[:5]
    monkeypatch.setattr(uniqueness, "MOST_IDENTITIES", 10)
    assert uniqueness.uniqueness(means, .4).measured == 10


def test_twins_halve_uniqueness():
    means = uniqueness.means_of(doubled(people(60, 4, .3)))
    found = uniqueness.uniqueness(means, .1)
    assert found.literal.value == found.equal.value == .5 and len(found.collisions) == 60
    assert {other - one for one, other, _ in found.collisions} == {60}


def test_means_and_typical_images():
    subject = uneven(5)
    means = uniqueness.means_of(subject)
    typical = uniqueness.typical_images(subject, means)
    for label in range(8):
        own = np.flatnonzero(subject.images.labels == label)
        mean = subject.features[own].sum(axis=0)
        np.testing.assert_allclose(means[label], mean / np.linalg.norm(mean), atol=1e-6)
        np.testing.assert_allclose(uniqueness.means_of(subject, scaled=False)[label], mean / len(own), atol=1e-6)
        assert typical[label] == own[np.argmax(subject.features[own] @ means[label])]


def test_means_that_are_not_scaled_lie_apart_as_their_images_do_on_average():
    subject = people(12, 4, .8)
    first, second = (subject.features[subject.images.labels == label] for label in (0, 1))
    radius = (1 - first @ second.T).mean()
    means = uniqueness.means_of(subject, scaled=False)[:2]
    assert uniqueness.uniqueness(means, radius + 1e-5).collisions[0].distance == pytest.approx(radius, abs=1e-6)
    assert not uniqueness.uniqueness(means, radius - 1e-5).collisions


def test_real_people_are_unique_by_a_threshold_of_images():
    """Embeddings share a direction, as those of networks do: then scaled means lie nearer than images do."""
    everybody = people(160, 8, 1., seed=3)
    features = unit(everybody.features + np.float32([3] + [0] * 31))
    one, other = (subject_of(np.repeat(np.arange(80), 8), features[part]) for part in (slice(640), slice(640, None)))
    figures = figures_of(identity.judge({SET: one}, other))
    assert figures["uniqueness_equal_at_0.001"][SET].value > .97 > figures["uniqueness_at_0.001"][SET].value


def test_consistency_is_dcfaces():
    subject = uneven(6)
    means, shares = uniqueness.means_of(subject), []
    for label in range(8):
        own = subject.features[subject.images.labels == label]
        if len(own) > 1:
            shares.append((1 - own @ means[label] <= .2).mean())
    found = uniqueness.consistency(subject, .2)
    assert found.value == pytest.approx(np.mean(shares)) and 0 < found.value < 1 and found.n == 6
    assert found.low <= found.value <= found.high
    assert "two images" in uniqueness.consistency(people(5, 1), .2).why


def test_at_most_takes_as_many_images_of_each():
    subject = at_most(uneven(), 3)
    assert np.bincount(subject.images.labels).tolist() == [1, 2, 3, 1, 3, 3, 3, 2]
    assert subject.images.names != at_most(uneven(), 3, seed=1).images.names


# The section

@pytest.fixture(scope="module")
def strangers():
    return people(20, 12, .8, seed=9)


def figures_of(section):
    return {measure.key: measure.figures for measure in section.measures}


def test_a_section_has_all_rows_and_compares_like_with_like(strangers):
    rows = {SET: people(30, 8, .8), RENDERINGS: people(24, 6, .3, seed=1), PHOTOS: people(12, 4, .8, seed=2),
            PIXELS: subject_of(np.repeat(np.arange(30), 8), np.random.default_rng(0).normal(size=(240, 9)))}
    section = identity.judge(rows, strangers, "dlib")
    figures = figures_of(section)
    assert all(set(each) == set(rows) for each in figures.values())
    equal = figures["uniqueness_equal_at_0.001"]
    assert {row: figure.n for row, figure in equal.items()} == {SET: 12, RENDERINGS: 12, PHOTOS: 12, PIXELS: 0}
    assert "pixels" in equal[PIXELS].why
    assert figures["uniqueness_at_0.001"][SET].n == 30 and figures["consistency_at_0.001"][SET].value > .9
    assert all("dlib" in measure.name for measure in section.measures)
    assert "at most 4 images" in next(each for each in section.measures if each.key.startswith("consistency")).meaning
    assert section.tables["thresholds"][0]["n"] == 27360 and "collisions_at_0.001" in section.tables
    assert any("no threshold at 0.0001" in note for note in section.notes)
    assert not any("background" in note for note in section.notes)
    assert [picture.key for picture in section.pictures] == ["roc", *(f"distances_{row}" for row in rows)]


def test_collisions_are_named_with_their_images(strangers):
    twins = doubled(people(6, 4, .3))
    listed = identity.judge({SET: twins}, strangers).tables["collisions_at_0.001"]
    assert [(row["identity"], row["other"]) for row in listed] == [(f"{i:05}", f"{i + 6:05}") for i in sorted(
        range(6), key=lambda i: [row["identity"] for row in listed].index(f"{i:05}"))]
    assert all(row["image"].startswith(row["identity"] + "/") and row["image"] in twins.images.names and
               row["other_image"].startswith(row["other"] + "/") for row in listed)


def test_people_who_differ_by_background_alone_are_told(strangers, caplog):
    embedded = people(20, 6, 3.)
    background = subject_of(embedded.images.labels, np.random.default_rng(0).normal(size=(20, 9))[
        embedded.images.labels])
    section = identity.judge({SET: embedded, PIXELS: background}, strangers)
    assert "background" in section.notes[0] and "background" in caplog.text


def test_without_photos_there_is_no_threshold():
    section = identity.judge({SET: people(5, 3)})
    figures = figures_of(section)
    assert figures["auc"][SET].value is not None and "--photos" in figures["uniqueness_at_0.001"][SET].why


def without_faces(subject, indices):
    """A Subject of which these images could not be embedded."""
    subject.features[indices] = np.nan
    return subject


def test_images_that_were_not_embedded_are_left_out_and_counted(strangers):
    lost = without_faces(people(6, 5), [0, 7])
    section, rest = (identity.judge({SET: each}, strangers) for each in (lost, part_of(
        people(6, 5), np.delete(np.arange(30), [0, 7]))))
    assert section.measures == rest.measures and "set: 2 of 30 images have no embedding" in section.notes[0]


@pytest.mark.parametrize("subject", [people(1, 5), people(4, 1), part_of(people(2, 1), [0]),
                                     without_faces(people(3, 2), slice(None))])
def test_odd_sets_say_what_is_not_measured(subject, strangers):
    section = identity.judge({SET: subject, PHOTOS: people(6, 3)}, strangers)
    assert all(figure.value is not None or figure.why for measure in section.measures
               for figure in measure.figures.values())
    assert figures_of(section)["auc"][PHOTOS].value is not None


def test_the_pictures_can_be_drawn(strangers):
    pyplot = pytest.importorskip("matplotlib.figure")
    for picture in identity.judge({SET: people(5, 3)}, strangers).pictures:
        axes = pyplot.Figure().subplots()
        picture.image(axes)
        assert axes.has_data()
