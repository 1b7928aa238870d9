"""evaluation.usefulness: who is held out, what a training depends on, intervals, tables, going on; real trainings."""
import json
import os
import signal

import numpy as np
import pytest

from cli.options import PRESETS
from datasets.image_sets import find_renderings, subset
from drawn import draw_face, write
from evaluation.figures import PHOTOS, RENDERINGS, SET
from evaluation.subjects import Subject
from evaluation.usefulness import rows, store, training, utility, verified
from evaluation.usefulness.rows import BOTH, FILTERED
from people_of import people, subject_of
from recognition import verification
from tool import one_line
from utils import Diverged, Interrupted, UserError

SHORT = training.Settings(steps=3, seeds=2, image_size=32)


def put(folder, count, images=3, first=0):
    """Write files of `count` people, which are no images, and find them -> Renderings. Each has content of its own."""
    for person in range(first, first + count):
        for image in range(images):
            path = folder / f"{person:05}" / f"{image}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{person} {image}")
    return find_renderings(str(folder))


@pytest.fixture
def photos(tmp_path):
    return put(tmp_path / "real", 24)


@pytest.fixture
def sets(tmp_path, photos):
    """Sets of photos, renderings and a set, each of other people."""
    return rows.Sets(photos.root, put(tmp_path / "syn", 5, first=100), put(tmp_path / "generated", 5, first=200))


class FakeTraining:
    """Stands for training.train: embeddings that tell people apart the better, the more identities were given."""

    def __init__(self, fail_at=None, error=KeyboardInterrupt):
        self.done, self.fail_at, self.error = [], fail_at, error

    def __call__(self, row, held_out, settings, options, tell, stop):
        if len(self.done) == self.fail_at:
            raise self.error
        count = sum(len(images.identities) for images in (row.real, row.synthetic) if images)
        self.done.append((count, settings.steps, options.seed))
        for _ in range(settings.steps):
            tell()
        spread = 20 / count + 30 * (settings.steps == 0)
        found = people(len(held_out.identities), 3, spread, seed=options.seed)
        return Subject("held out", held_out, found.features, {})


@pytest.fixture
def fake(monkeypatch):
    """Let trainings be faked: `fake(...)` makes the FakeTraining that is called from now on. Draws are few."""
    monkeypatch.setattr(verified, "REPEATS", 20)

    def make(*arguments):
        made = FakeTraining(*arguments)
        monkeypatch.setattr(training, "train", made)
        return made
    return make


# Who is held out

def test_people_are_divided_by_chance(photos):
    first, again, other = (rows.split(photos, 11, seed=seed) for seed in (0, 0, 1))
    assert first.learned.names == again.learned.names != other.learned.names
    assert len(first.learned.identities) == len(other.learned.identities) == 11
    assert sorted(first.learned.identities + first.held_out.identities) == photos.identities and not first.excluded
    assert len(rows.split(photos).learned.identities) == 12


def test_people_with_one_photo_are_not_learned_from(photos):
    kept = [i for i, name in enumerate(photos.names) if name.endswith("0.jpg") or name < "00020"]
    split = rows.split(subset(photos, kept), 10)
    assert not {"00020", "00021", "00022", "00023"} & set(split.learned.identities)
    assert "00020" in split.held_out.identities


@pytest.mark.parametrize("place", ["real", "copied"])
def test_people_whom_the_generator_knows_are_never_held_out(photos, tmp_path, place):
    """Neither those of the same folder, nor those in another one under another name, by the content of a photo."""
    known = subset(photos, np.flatnonzero(photos.labels < 13))
    if place == "copied":
        for name in known.names[::3]:
            path = tmp_path / "copied" / ("x" + name)
            path.parent.mkdir(parents=True)
            path.write_bytes((tmp_path / "real" / name).read_bytes())
        known = find_renderings(str(tmp_path / "copied"))
    split = rows.split(photos, 11, known)
    assert split.held_out.identities == photos.identities[13:] and split.excluded == 13
    assert set(split.learned.identities) <= set(photos.identities[:13])     # so that few are lost


@pytest.mark.parametrize("count, wanted, known", [(24, 15, 0), (24, 9, 0), (18, None, 0), (24, None, 15)])
def test_too_few_people_are_told(photos, count, wanted, known):
    some = subset(photos, np.flatnonzero(photos.labels < count))
    train_photos = subset(photos, np.flatnonzero(photos.labels < known)) if known else None
    with pytest.raises(UserError) as error:
        rows.split(some, wanted, train_photos)
    one_line(error, photos.root, f"{count} people", "give photos of more")


def test_rows_of_folders(sets, tmp_path):
    made, held_out, notes = rows.make(sets, people=11)
    assert list(made) == [RENDERINGS, SET, PHOTOS, BOTH] and len(held_out.identities) == 13
    assert made[BOTH].real is made[PHOTOS].real and made[BOTH].synthetic is made[SET].synthetic
    assert made[PHOTOS].synthetic is None and made[SET].real is None and "13 real people are held out" in notes[0]
    filtered = put(tmp_path / "filtered", 4, first=200)
    weights = np.linspace(0, 2, 12)
    made, _, _ = rows.make(sets._replace(filtered=filtered, weights=weights), people=11)
    assert made[BOTH].synthetic is made[FILTERED].synthetic is filtered
    assert made[BOTH].weights is made[FILTERED].weights is weights and made[SET].weights is None
    made, _, _ = rows.make(rows.Sets(sets.photos))
    assert all(made[name].why for name in (RENDERINGS, SET, BOTH)) and not made[PHOTOS].why


def test_a_digest_is_of_content_and_people(photos, tmp_path):
    def digest(images):
        return rows.digest_of(images, rows.contents_of(images))

    twin = put(tmp_path / "elsewhere", 24)
    assert digest(twin) == digest(photos)
    assert digest(photos._replace(labels=photos.labels[::-1])) != digest(photos)
    (tmp_path / "elsewhere" / photos.names[5]).write_text("another one")
    assert digest(twin) != digest(photos)


# A training

def test_the_recipe_is_that_of_the_preset():
    with open(os.path.join(PRESETS, "cpu.json")) as file:
        recipe = json.load(file)["recognizer.py train"]
    options = training.options_of(training.Settings(), 7, "arcface")
    assert {name: getattr(options, name) for name in recipe if name != "real"} == {
        name: value for name, value in recipe.items() if name != "real"}
    assert options.seed == 7 and options.crop == "arcface"
    assert training._decay_step(training.Settings(steps=300), options) == 200
    small = training.options_of(SHORT, 7, "box")
    assert small.image_size == small.input_scale_size == 32


@pytest.mark.parametrize("change, same", [({}, True), ({"workers": 1}, True), ({"use_gpu": False}, True),
                                          ({"steps": 4}, False), ({"batch_size": 8}, False), ({"side": 36}, False)])
def test_a_key_is_of_what_a_training_depends_on(change, same):
    def key(settings, seed=0, data="a"):
        return training.key_of(settings, training.options_of(settings, seed, "box"), data)

    assert (key(SHORT._replace(**change)) == key(SHORT)) == same
    assert len({key(SHORT), key(SHORT, seed=1), key(SHORT, data="b")}) == 3


# Figures

def test_a_verification_is_that_of_the_recognizer():
    subject = people(30, 6, 2.)
    found = verified.verify(subject, seed=3)
    pairs = verification.choose_pairs(subject.images, verification.PairChoice(seed=3))
    assert found.values["accuracy"] == pytest.approx(verification.verify(subject.features, pairs).accuracy)
    assert found.values.keys() == found.draws.keys() == set(verified.KEYS) and {
        len(each) for each in found.draws.values()} == {200}
    for key, draws in found.draws.items():
        assert np.percentile(draws, 2.5) < found.values[key] < np.percentile(draws, 97.5)
    few = verified.verify(people(10, 5, 2.))
    assert few.values.keys() == {"accuracy", "auc", "eer", "tar_at_0.01"}
    shuffled = subject_of(np.random.default_rng(0).permutation(subject.images.labels), subject.features)
    assert verified.verify(shuffled).values["auc"] == pytest.approx(.5, abs=.05)


def test_an_image_without_an_embedding_is_left_out():
    subject = people(20, 6, 2.)
    subject.features[4] = np.nan
    assert np.isfinite(list(verified.verify(subject).values.values())).all()


def test_an_interval_covers_seeds_and_people():
    draws = np.linspace(.6, .8, 201)
    assert verified.sure([.7], [draws]) == pytest.approx((.7, .605, .795))              # people alone
    flat = np.full(201, .7)
    assert verified.sure([.7, .7, .7], [flat] * 3) == pytest.approx((.7, .7, .7))
    half = 4.30265 * .1 / 3 ** .5                               # Student's t of 2 degrees of freedom
    assert verified.sure([.6, .7, .8], [flat] * 3) == pytest.approx((.7, .7 - half, .7 + half), abs=1e-5)
    both = np.hypot(half, .095)
    assert verified.sure([.6, .7, .8], [draws] * 3) == pytest.approx((.7, .7 - both, .7 + both), abs=1e-5)


def test_a_difference_is_of_the_same_people():
    """What makes some people hard for both does not count: the interval is far narrower than that of either."""
    hard = np.random.default_rng(0).normal(.7, .1, 200)
    one, other = (verified.Verified({"auc": value}, {"auc": (hard + value - .7).tolist()}) for value in (.75, .7))
    difference = verified.difference_of([one] * 3, [other] * 3, "auc", 10)
    assert (difference.value, difference.low, difference.high) == pytest.approx((.05, .05, .05))
    figure = verified.mean_of([one] * 3, "auc", 10)
    assert figure.high - figure.low > .2 and figure.high <= 1
    assert verified.mean_of([one], "eer", 10).value is None


# The file of results

def test_results_are_kept(tmp_path):
    kept = store.Store(str(tmp_path / "new"))
    kept.keep("a", verified.Verified({"auc": .7}, {"auc": [.1, float("nan")]}), {"row": SET})
    kept.keep("b", "the training diverged in step 3", {})
    again = store.Store(str(tmp_path / "new"))
    assert again.find("a").values == {"auc": .7} and again.find("a").draws["auc"][0] == .1
    assert np.isnan(again.find("a").draws["auc"][1]) and "diverged" in again.find("b") and again.find("c") is None
    assert "NaN" not in (tmp_path / "new" / store.NAME).read_text()


@pytest.mark.parametrize("content", ["", "[]", '{"trainings": 3}', '{"trainings": {"a": 1}}', '{"trainings"'])
def test_a_damaged_file_is_told(tmp_path, content):
    (tmp_path / store.NAME).write_text(content)
    with pytest.raises(UserError) as error:
        store.Store(str(tmp_path))
    one_line(error, store.NAME, "restore")


# The section

def test_all_rows_are_trained_alike_and_compared(sets, tmp_path, fake):
    made, held_out, _ = rows.make(sets, people=11)
    trainings = fake()
    section = utility.measure(made, held_out, SHORT, seed=5, folder=str(tmp_path / "out"))
    assert sorted(trainings.done) == sorted((count, steps, seed) for seed in (5, 6) for count, steps in (
        (5, 3), (5, 3), (11, 3), (16, 3), (5, 0)))
    table = {line["trained on"]: line for line in section.tables["Recognisers"]}
    assert [table["real people and the set"][name] for name in ("identities", "images")] == ["11 + 5", "33 + 15"]
    auc = {name: line["AUC"].value for name, line in table.items()}
    assert auc["an untrained network"] < auc["the set"] < auc["real people"] < auc["real people and the set"]
    for line in table.values():
        assert line["AUC"].low <= line["AUC"].value <= line["AUC"].high and line["AUC"].n == 13
        assert "too few pairs" in line["true accepts at 0.001 false ones"].why
    measures = {measure.key: measure.figures for measure in section.measures}
    assert measures["use_auc"] == {SET: table["the set"]["AUC"], RENDERINGS: table["renderings"]["AUC"],
                                   PHOTOS: table["real people"]["AUC"]}
    assert section.tables["Differences"][0]["compared"] == "real people and the set less real people"
    assert any("3 steps of 90 images, with 2 seeds" in note for note in section.notes)
    assert any(note.startswith("AUC trained on real people and the set, less that trained on real people: ")
               for note in section.notes)
    assert [line["seed"] for line in section.tables["Single trainings"]] == [5, 6] * 5
    assert sorted(os.listdir(tmp_path / "out")) == [store.NAME]


@pytest.mark.parametrize("fail_at", [0, 4, 9])
def test_a_killed_program_goes_on(sets, tmp_path, fake, fail_at):
    made, held_out, _ = rows.make(sets, people=11)
    fake()
    whole = utility.measure(made, held_out, SHORT, folder=str(tmp_path / "whole"))
    fake(fail_at)
    with pytest.raises(KeyboardInterrupt):
        utility.measure(made, held_out, SHORT, folder=str(tmp_path / "out"))
    rest = fake()
    assert utility.measure(made, held_out, SHORT, folder=str(tmp_path / "out")) == whole
    assert len(rest.done) == 10 - fail_at
    nothing = fake(0)
    assert utility.measure(made, held_out, SHORT, folder=str(tmp_path / "out")) == whole and not nothing.done


def test_a_signal_ends_it_in_good_order(sets, tmp_path, fake):
    made, held_out, _ = rows.make(sets, people=11)
    fake(2, Interrupted(signal.SIGTERM))
    with pytest.raises(Interrupted, match=r"^2 of 10 trainings were done and are kept; run the same command") as end:
        utility.measure(made, held_out, SHORT, folder=str(tmp_path / "out"))
    assert end.value.signal == signal.SIGTERM


def test_time_left_is_told(sets, tmp_path, fake, caplog):
    made, held_out, _ = rows.make(sets, people=11)
    fake()
    with caplog.at_level("INFO"):
        utility.measure(made, held_out, SHORT, folder=str(tmp_path / "out"))
    lines = [line for line in caplog.messages if line.startswith("use: training")]
    assert len(lines) == 10 and "1 of 10 (renderings, seed 0): AUC" in lines[0] and lines[0].endswith("left")
    assert "left" not in lines[-1]


def test_a_training_that_diverges_spoils_its_row_alone(sets, tmp_path, fake, monkeypatch):
    made, held_out, _ = rows.make(sets, people=11)
    good = fake()

    def train(row, held_out, settings, *others):
        """Diverge where the set alone is learned from."""
        if row.synthetic is made[SET].synthetic and not row.real:
            raise Diverged("the training diverged in step 2")
        return good(row, held_out, settings, *others)

    monkeypatch.setattr(training, "train", train)
    section = utility.measure(made, held_out, SHORT, folder=str(tmp_path / "out"))
    figures = next(measure.figures for measure in section.measures if measure.key == "use_auc")
    assert figures[SET].value is None and "diverged in step 2 (seed 0)" in figures[SET].why
    assert figures[PHOTOS].value is not None


@pytest.mark.parametrize("name, spoil, why", [
    ("one identity", lambda images: subset(images, [0, 1]), "one identity"),
    ("single images", lambda images: subset(images, [0, 3, 6]), "one image of each"),
    ("nothing", lambda images: None, "no images")])
def test_what_can_not_be_learned_from_is_told(sets, tmp_path, fake, name, spoil, why):
    made, held_out, _ = rows.make(sets, people=11)
    made[SET] = None, spoil(made[SET].synthetic), None
    fake()
    section = utility.measure(made, held_out, SHORT._replace(seeds=1), folder=str(tmp_path / "out"))
    figures = section.measures[0].figures
    assert why in figures[SET].why and figures[PHOTOS].value is not None
    assert any("single seed" in note for note in section.notes)


def test_crops_of_two_kinds_are_not_mixed(sets, tmp_path, fake):
    (tmp_path / "generated" / "settings.json").write_text('{"crop": "arcface"}')
    made, held_out, _ = rows.make(sets, people=11)
    trainings = fake()
    section = utility.measure(made, held_out, SHORT, folder=str(tmp_path / "out"))
    table = {line["trained on"]: line["AUC"] for line in section.tables["Recognisers"]}
    assert "two kinds" in table["real people and the set"].why and table["the set"].value is not None
    assert all(count != 16 for count, _, _ in trainings.done)


def test_too_few_held_out_people_are_told(sets, tmp_path, fake):
    made, held_out, _ = rows.make(sets, people=11)
    section = utility.measure(made, subset(held_out, np.arange(9)), SHORT, folder=str(tmp_path))
    assert "3 people with several photos are held out" in section.measures[0].figures[SET].why and section.notes
    nothing = {SET: (None, None, None)}
    assert "no images" in utility.measure(nothing, held_out, SHORT, folder=str(tmp_path)).measures[0].figures[SET].why


def test_nobody_is_verified_on_what_is_learned(sets, tmp_path, fake, photos):
    made, held_out, _ = rows.make(sets, people=11)
    (tmp_path / "generated" / "00200" / "9.jpg").write_bytes((tmp_path / "real" / held_out.names[0]).read_bytes())
    made[SET] = made[SET]._replace(synthetic=find_renderings(made[SET].synthetic.root))
    trainings = fake()
    with pytest.raises(UserError) as error:
        utility.measure(made, held_out, SHORT, folder=str(tmp_path))
    one_line(error, "generated: 1 of its images", "held out")
    assert not trainings.done


# Real trainings

@pytest.mark.long
@pytest.mark.slow
def test_many_people_teach_more_than_few_and_shuffled_labels_nothing(tmp_path, monkeypatch):
    """On drawn people: what is learned comes from the labels, and grows with the number of people.

    A signal after the second training stops it in the third; then the same call goes on, to the same end.
    """
    for person in range(10001, 10085):
        for image in range(1, 7):
            write(str(tmp_path), f"real/{person}/{image}.jpg", draw_face(person, image, 32, photo=True))
    split = rows.split(find_renderings(str(tmp_path / "real")), 60)
    few = subset(split.learned, np.flatnonzero(split.learned.labels < 2))
    shuffled = split.learned._replace(labels=np.random.default_rng(0).permutation(split.learned.labels))
    made = {"many": (split.learned, None, None), "few": (few, None, None), "shuffled": (shuffled, None, None),
            "both": (few, split.learned, None)}
    settings = training.Settings(steps=60, seeds=1, batch_size=24, image_size=32)

    def measure():
        return utility.measure(made, split.held_out, settings, folder=str(tmp_path / "out"))

    reached = []                    # in the order of the rows, the untrained network last

    def verify(*arguments):
        reached.append(whole(*arguments))
        if len(reached) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return reached[-1]

    whole = verified.verify
    monkeypatch.setattr(verified, "verify", verify)
    with pytest.raises(Interrupted, match=r"^2 of 5 trainings"):
        measure()
    section = measure()
    many, few, shuffled, both, untrained = ([each] for each in reached)
    assert verified.difference_of(many, few, "auc", 24).low > 0 and verified.difference_of(both, few, "auc", 24).low > 0
    assert verified.difference_of(many, untrained, "auc", 24).low > 0
    assert verified.difference_of(shuffled, untrained, "auc", 24).low <= 0
    assert measure() == section and len(reached) == 5
    assert sorted(os.listdir(tmp_path)) == ["out", "real"] and os.listdir(tmp_path / "out") == [store.NAME]
