"""evaluation.distances.realism: all measures of sets whose answers are known, on drawn faces and on drawn features."""
import json
import tracemalloc

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from datasets.image_sets import Renderings
from drawn import draw_face
from evaluation import bootstrap
from evaluation.distances import neighbours, pixels, realism
from evaluation.figures import HIGHER, LOWER
from evaluation.subjects import balanced, halves, part_of, Subject

PEOPLE, EACH, SIZE = 24, 2, 32
FEATURES = ("kid", "frechet", "two_sample", "precision", "recall", "density", "coverage")
PATCHES = ("swd", "swd_fine", "swd_middle", "swd_coarse")
COLOURS = ("colour", "colour_mean", "colour_deviation")


def subject_of(name, images, labels):
    """A Subject whose features are colours and the amount of detail at 4 x 4 places; of length 1."""
    small = pixels.shrink(images, 4).reshape(len(images), -1) / 255. - .5
    places = images.mean(axis=3).reshape(len(images), 4, SIZE // 4, 4, SIZE // 4) / 255
    features = np.concatenate([small, 4 * places.std(axis=(2, 4)).reshape(len(images), -1)], axis=1)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    files = Renderings("root", [f"{i}.jpg" for i in range(len(labels))], labels, [str(i) for i in {*labels}])
    return Subject(name, files, features.astype(np.float32), {})


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Look at fewer patches and colours than usual, and draw fewer times, which is faster."""
    monkeypatch.setattr(bootstrap, "REPEATS", 60)
    monkeypatch.setattr(realism, "PATCHES", 2 ** 13)
    monkeypatch.setattr(realism, "COLOURS", 2 ** 14)


@pytest.fixture(scope="module")
def faces():
    """Photos of people, uint8 [n, SIZE, SIZE, 3], and their labels."""
    labels = np.repeat(np.arange(2 * PEOPLE), EACH)
    return np.stack([draw_face(label, image, SIZE, photo=True) for image, label in enumerate(labels)]), labels


@pytest.fixture(scope="module")
def measured(faces):
    """Call `measure` of copies of the second half of the photos -> {key: Measure} and the notes."""
    images, labels = faces
    first, second = halves(subject_of("photos", images, labels), seed=1)
    indices = [np.array([int(name.partition(".")[0]) for name in half.images.names]) for half in (first, second)]
    reference, own = images[indices[0]], images[indices[1]]

    def of(*copies, **more):
        changed = {f"copy {number}": copy(own) for number, copy in enumerate(copies)}
        subjects = {name: subject_of(name, pictures, second.images.labels) for name, pictures in changed.items()}
        section = realism.measure(subjects, first, changed | {"reference": reference}, "tiny", **more)
        return {measure.key: measure for measure in section.measures}, section.notes
    return of


def values(measure):
    """The values of all rows, in order."""
    return [figure.value for figure in measure.figures.values()]


def blurred(sigma):
    """Blur images by so many pixels."""
    return lambda images: np.stack([gaussian_filter(image, (sigma, sigma, 0)) for image in images])


def reddish(strength):
    """Give images a colour cast."""
    return lambda images: np.clip(images * np.array([1 + strength, 1, 1 - strength]), 0, 255).astype(np.uint8)


def same(images):
    return images


def test_all_is_measured_with_intervals_and_counts(measured):
    found, notes = measured(same, degraded=None)
    assert [*found] == ["kid", "frechet", "two_sample", "two_sample_degraded", "precision", "recall", "density",
                        "coverage", *PATCHES, *COLOURS]
    for key, measure in found.items():
        figure = measure.figures["copy 0"]
        if key == "two_sample_degraded":
            assert "were not embedded" in figure.why
            continue
        assert figure.n == PEOPLE * EACH and figure.low <= figure.value <= figure.high, key
        assert figure.low < figure.high or figure.value == 1, key
        assert json.dumps(figure.as_json(), allow_nan=False)
    for measure in found.values():
        assert "FID" not in measure.name and measure.better in (LOWER, HIGHER) and measure.meaning.endswith(".")
    assert all("on tiny's features" in found[key].name for key in FEATURES)
    assert f"compares {PEOPLE * EACH} images" in notes[0]
    assert any("48 images are too few for a covariance of 64 features" in note for note in notes)


def test_another_half_of_the_photos_is_the_floor(measured):
    """People who are others, and as good: nothing is far away."""
    found, _ = measured(same)
    assert found["kid"].figures["copy 0"].low < 0 < found["kid"].figures["copy 0"].high
    assert abs(values(found["two_sample"])[0] - .5) < .15
    for key in ("precision", "recall", "density", "coverage"):
        assert values(found[key])[0] > .6


def test_blur_looks_worse_the_more_there_is(measured):
    found, _ = measured(same, blurred(.7), blurred(1.5), blurred(3))
    for key in ("swd", "swd_fine", "swd_middle"):
        assert values(found[key]) == sorted(values(found[key])), key
        assert found[key].figures["copy 3"].low > found[key].figures["copy 0"].high, key
    for key in ("kid", "frechet"):
        assert values(found[key]) == sorted(values(found[key])), key
        assert found[key].figures["copy 3"].low > found[key].figures["copy 0"].high, key
    for key in ("precision", "coverage"):
        assert values(found[key])[3] < values(found[key])[0]
    assert values(found["two_sample"])[3] > values(found["two_sample"])[0]
    assert max(values(found["colour_mean"])) - min(values(found["colour_mean"])) < 1    # not a matter of colour


def test_a_colour_cast_is_seen_by_colours_and_not_by_patches(measured):
    found, _ = measured(same, reddish(.1), reddish(.25), lambda images: (images // 2 + 64).astype(np.uint8))
    for key in ("colour", "colour_mean"):
        assert values(found[key])[:3] == sorted(values(found[key])[:3]), key
        assert found[key].figures["copy 2"].low > found[key].figures["copy 0"].high, key
    assert values(found["swd"])[1] == pytest.approx(values(found["swd"])[0], rel=.15)
    none, _, _, grey = found["colour_deviation"].figures.values()           # the last copy lacks contrast
    assert grey.low > none.high


def test_colours_are_those_of_all_pixels(measured, faces):
    """With all pixels of an image looked at: the mean and the deviation are exact but for their random places."""
    found, _ = measured(reddish(.25))
    images, labels = faces
    first, second = (np.isin(labels, half) for half in known_halves(labels))
    lab = [pixels.to_lab(each).reshape(-1, 3) for each in (images[first], reddish(.25)(images[second]))]
    assert values(found["colour_mean"])[0] == pytest.approx(np.linalg.norm(lab[0].mean(0) - lab[1].mean(0)), rel=.05)
    assert values(found["colour_deviation"])[0] == pytest.approx(np.linalg.norm(lab[0].std(0) - lab[1].std(0)), abs=.3)


def known_halves(labels):
    """The identities of the halves that `measured` makes."""
    order = np.random.default_rng(1).permutation(len({*labels}))
    return order[:PEOPLE], order[PEOPLE:]


# Drawn features; images do not matter

def drawn_subject(seed, people=30, each=4, width=12, shift=0.):
    """A Subject of drawn features."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(people), each)
    features = rng.normal(size=[people, width])[labels] + .4 * rng.normal(size=[len(labels), width])
    features[:, 0] += shift
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    files = Renderings("root", [f"{i}.jpg" for i in range(len(labels))], labels, list(map(str, range(people))))
    return Subject(f"set {seed}", files, features.astype(np.float32), {})


def noise(subject, size=25, seed=0):
    return np.random.default_rng(seed).integers(0, 256, [subject.count, size, size, 3], np.uint8)


def judge(subjects, reference, **more):
    """Call `measure` with noise as images -> {key: {row: Figure}} and the notes."""
    images = {name: noise(subject) for name, subject in subjects.items()} | {"reference": noise(reference)}
    section = realism.measure(subjects, reference, images, "tiny", **more)
    return {measure.key: measure.figures for measure in section.measures}, section.notes


def test_a_set_against_itself_and_against_others():
    subject = drawn_subject(0)
    found, _ = judge({"itself": subject, "others": drawn_subject(1), "unlike": drawn_subject(2, shift=3)}, subject)
    for key in ("kid", "frechet", "two_sample"):
        itself, others, unlike = (figure.value for figure in found[key].values())
        assert itself <= others < unlike, key
    assert found["kid"]["others"].low < 0 < found["kid"]["others"].high < found["kid"]["unlike"].low
    assert found["frechet"]["itself"].value == pytest.approx(0, abs=1e-6) and found["frechet"]["itself"].low == 0
    assert found["two_sample"]["itself"].value == .5 and found["two_sample"]["unlike"].value > .85
    assert found["precision"]["itself"].value == 1
    for key in ("recall", "coverage"):
        assert found[key]["itself"].value == 1 and found[key]["unlike"].value < found[key]["others"].value, key


def test_the_same_seed_gives_the_same_figures():
    first, again, other = (judge({"set": drawn_subject(0, 10)}, drawn_subject(1, 9), seed=seed)[0]
                           for seed in (3, 3, 4))
    assert first == again and first != other


def test_features_that_are_shuffled_among_sets_are_alike():
    """What was far apart is not told apart once it is known no more which image was of which set."""
    one, other = drawn_subject(0), drawn_subject(1, shift=3)
    features = np.concatenate([one.features, other.features])
    people = np.random.default_rng(0).permutation(60)
    mixed = features.reshape(60, 4, -1)[people].reshape(2, 120, -1)
    apart, _ = judge({"other": other}, one)
    found, _ = judge({"other": other._replace(features=mixed[0])}, one._replace(features=mixed[1]))
    assert found["kid"]["other"].low < 0 < found["kid"]["other"].high < apart["kid"]["other"].low
    assert abs(found["two_sample"]["other"].value - .5) < .15 < apart["two_sample"]["other"].value - .5


def test_equal_numbers_are_compared_evenly_over_identities():
    big, small = drawn_subject(0, people=40, each=6), drawn_subject(1, people=20, each=3)
    found, notes = judge({"big": big, "small": small}, drawn_subject(2, people=50))
    assert {figure.n for figures in found.values() for figure in figures.values() if figure.value is not None} == {60}
    assert "big 40, small 20, first half of the photos 50" in notes[0]
    chosen = balanced(np.repeat([0, 1, 2], [50, 2, 7]), 18)
    counts = np.bincount(np.repeat([0, 1, 2], [50, 2, 7])[chosen])
    assert counts.tolist() == [9, 2, 7] and len({*chosen}) == 18 and (np.diff(chosen) > 0).all()
    assert balanced([4, 4, 7], 5).tolist() == [0, 1, 2]


def test_copies_are_tested_where_they_were_embedded():
    subject, reference = drawn_subject(0, shift=3), drawn_subject(1)
    plain = {"set": drawn_subject(2).features, "reference": reference.features}
    asked = []

    def embed(indices):
        asked.append(indices)
        return plain["set"][indices]

    found, _ = judge({"set": subject}, reference, degraded=plain | {"set": embed})
    assert found["two_sample"]["set"].value > .85 and abs(found["two_sample_degraded"]["set"].value - .5) < .15
    assert len(asked) == 1 and len(asked[0]) == 120
    plain["set"] = np.full_like(plain["set"], np.nan)
    found, _ = judge({"set": subject}, reference, degraded=plain)
    assert "5 identities" in found["two_sample_degraded"]["set"].why


def test_sets_of_other_sizes_are_compared_at_the_smallest():
    subject, reference = drawn_subject(0), drawn_subject(1)
    large = noise(reference, 32)
    small = pixels.shrink(noise(reference, 32, seed=1), 28)
    section = realism.measure({"set": subject}, reference, {"set": small, "reference": large}, "tiny")
    assert any("compared at 28 pixels" in note and "set 28, reference 32" in note for note in section.notes)
    again = realism.measure({"set": subject}, reference, {"set": lambda indices: small[indices],
                                                          "reference": pixels.shrink(large, 28)}, "tiny")
    assert again.measures == section.measures


@pytest.mark.parametrize("people, each, why, measured", [
    (3, 6, "18 images are fewer than 20: add images", ()),
    (1, 30, "an identity has but 0 images of others beside it: add people", (*PATCHES, *COLOURS)),
    (4, 8, "needs 5 identities on each side: add people", (*PATCHES, *COLOURS, *FEATURES))])
def test_what_is_too_small_says_so(people, each, why, measured):
    found, notes = judge({"good": drawn_subject(0), "small": drawn_subject(1, people, each)}, drawn_subject(2))
    assert why in {figures["small"].why for figures in found.values()}
    for key, figures in found.items():
        assert list(figures) == ["good", "small"] and (figures["good"].value is not None) != (key.endswith("graded"))
        assert key == "two_sample" or (figures["small"].value is not None) == (key in measured)
    assert any("intervals are too narrow" in note for note in notes) == bool(measured)
    if people == 1:
        assert found["colour"]["small"].low is None


def test_too_few_photos_say_so():
    found, _ = judge({"set": drawn_subject(0)}, drawn_subject(1, 4, 4))
    assert {figures["set"].why for figures in found.values()} == {
        "16 photos to compare with are fewer than 20: add photos"}
    found, _ = judge({"set": drawn_subject(0)}, drawn_subject(1, 1, 40))
    assert found["kid"]["set"].why.startswith("first half of the photos: an identity has but 0")


def test_tiny_images_have_no_patches_and_faceless_ones_no_features():
    subject, reference = drawn_subject(0), drawn_subject(1)
    subject.features[:7] = np.nan
    section = realism.measure({"set": subject}, reference, {"set": noise(subject, 16), "reference": noise(reference)},
                              "tiny")
    found = {measure.key: measure.figures["set"] for measure in section.measures}
    assert all("16 pixels: patches need 25" in found[key].why for key in PATCHES)
    assert all(found[key].n == 113 for key in (*FEATURES, *COLOURS))
    assert "Images without features were left out: set 7." in section.notes


def test_neighbours_of_many_images_fit_into_memory():
    features = np.random.default_rng(0).normal(size=[4000, 16]).astype(np.float32)
    tracemalloc.start()
    try:
        radii = neighbours.squared_radii(features, np.arange(4000), 3, 5)
        neighbours.compare(features, features, radii[:1], radii)
        assert tracemalloc.get_traced_memory()[1] < 100e6           # all distances would take 128 MB
    finally:
        tracemalloc.stop()


def test_parts_of_subjects_can_be_measured():
    """What `halves` returns numbers identities anew."""
    first, second = halves(drawn_subject(0, people=30))
    found, _ = judge({"photos": second}, first)
    assert found["kid"]["photos"].n == 60 and part_of(first, [0, 1]).count == 2


def test_kid_of_parts_of_other_sizes_can_be_compared():
    reference, subject = drawn_subject(1), drawn_subject(0)
    figure = realism.kid_of(subject, reference)
    found, _ = judge({"set": subject}, reference)
    assert figure.value == pytest.approx(found["kid"]["set"].value) and figure.n == 120
    assert figure.low < figure.value < figure.high
    values = [realism.kid_of(part_of(subject, np.arange(start, start + 40)), reference).value for start in (0, 40, 80)]
    assert np.abs(values).max() < realism.kid_of(drawn_subject(0, shift=3), reference).low
    assert "too few" in realism.kid_of(part_of(subject, [0, 1, 4, 5]), reference).why
