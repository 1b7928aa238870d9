"""evaluation.choosing.calibration: probabilities that mean what they say, and the choice of the best images."""
import numpy as np
import pytest

from evaluation import logistic
from evaluation.choosing import calibration
from evaluation.figures import SET

LABELS = np.repeat(np.arange(40), 25)


def scored(seed=0):
    """Scores of which one tells how probable it is that an image is good, and one tells nothing."""
    rng = np.random.default_rng(seed)
    helpful = rng.uniform(0, 1, len(LABELS))
    return {"helpful": 100 * helpful, "noise": rng.normal(size=len(LABELS))}, rng.uniform(size=len(LABELS)) < helpful


def test_confidences_are_probabilities():
    scores, good = scored()
    found = calibration.confidences(scores, good, LABELS)
    assert np.abs(found.values - scores["helpful"] / 100).mean() < .06
    figures = {measure.key: measure.figures[SET].value for measure in found.section.measures}
    assert figures["confidence_auc"] > .75 and figures["confidence_error"] < .06
    table, = found.section.tables.values()
    assert table[0]["auc"] > .75 > .55 > table[1]["auc"] > .45


def test_confidences_of_scores_that_tell_nothing_are_all_alike():
    scores, _ = scored()
    good = np.random.default_rng(3).uniform(size=len(LABELS)) < .7
    found = calibration.confidences(scores, good, LABELS)
    assert np.abs(found.values - .7).max() < .15
    assert .4 < found.section.measures[0].figures[SET].value < .6


def test_no_image_is_judged_by_what_was_measured_of_its_own_identity():
    """Each identity is good or not as a whole, by chance: whoever has seen it would know."""
    rng = np.random.default_rng(0)
    good = (rng.uniform(size=40) < .5)[LABELS]
    scores = {"identity": LABELS + rng.uniform(0, .1, len(LABELS))}
    assert calibration.ranking(calibration.confidences(scores, good, LABELS).values, good) < .65


def test_units_outliers_and_unknown_scores_do_not_matter():
    scores, good = scored()
    twisted = {"helpful": np.exp(scores["helpful"] / 5), "noise": scores["noise"]}
    assert np.allclose(calibration.confidences(scores, good, LABELS).values,
                       calibration.confidences(twisted, good, LABELS).values)
    twisted["noise"] = np.full(len(LABELS), np.nan)
    found = calibration.confidences(twisted, good, LABELS)
    assert np.isfinite(found.values).all()
    assert next(iter(found.section.tables.values()))[1]["auc"] is None


def test_too_little_to_learn_from_is_an_error():
    scores, good = scored()
    for few, labels in ((np.arange(len(good)) < 5, LABELS), (np.ones(len(good), bool), LABELS), (good, LABELS % 3)):
        with pytest.raises(ValueError, match="are needed"):
            calibration.confidences(scores, few, labels)


def test_a_condition_that_hardly_any_image_meets_counts_as_its_share():
    scores, good = scored()
    never, always = np.arange(len(good)) < 3, np.arange(len(good)) > 3
    alone = calibration.confidences(scores, good, LABELS).values
    found = calibration.confidences(scores, good & never, LABELS, parts={"likely": good, "never": never})
    left = good.sum()
    assert np.allclose(found.values, alone * ((never & good).sum() + 1) / (left + 2)) and found.values.max() < .02
    assert "product of the probabilities" in found.section.notes[0]
    last = calibration.confidences(scores, good & never, LABELS, parts={"never": never, "likely": good})
    assert np.allclose(last.values, alone * 4 / 1002)           # of the few that are left, nothing could be learned
    found = calibration.confidences(scores, never & always, LABELS, parts={"likely": good, "b": never, "c": always})
    assert "none of 1000 images are good" in found.section.measures[0].figures[SET].why
    with pytest.raises(ValueError, match=r"nearly all images are alike \(never: 3, always: 996 of 1000\)"):
        calibration.confidences(scores, never & always, LABELS, parts={"never": never, "always": always})


def test_figures_of_confidences_have_intervals():
    scores, good = scored()
    for measure in calibration.confidences(scores, good, LABELS).section.measures:
        figure = measure.figures[SET]
        assert figure.low < figure.value < figure.high and figure.high - figure.low < .12 and figure.n == 1000


def test_fit_finds_the_least_loss():
    rng = np.random.default_rng(0)
    columns = rng.normal(size=[200, 3])
    good = rng.uniform(size=200) < 1 / (1 + np.exp(-columns @ [1, -2, .5] - .3))
    best = logistic.fit(columns, good)

    def loss(weights):
        chance = 1 / (1 + np.exp(-(columns @ weights[:3] + weights[3])))
        return -np.log(np.where(good, chance, 1 - chance)).sum() + .5 * (weights[:3] ** 2).sum()

    assert all(loss(best) < loss(best + step) for step in rng.normal(0, .05, [50, 4]))
    assert np.allclose(logistic.probability(best, columns), 1 / (1 + np.exp(-(columns @ best[:3] + best[3]))))


def test_ranking_and_error_equal_slow_twins():
    rng = np.random.default_rng(0)
    values, good = rng.integers(0, 20, 60) / 20, rng.uniform(size=60) < .5
    wins = [(a > b) + .5 * (a == b) for a in values[good] for b in values[~good]]
    assert calibration.ranking(values, good) == pytest.approx(np.mean(wins))
    order = np.argsort(values, kind="stable")
    gaps = [abs(values[order[i:i + 6]].mean() - good[order[i:i + 6]].mean()) for i in range(0, 60, 6)]
    assert calibration.calibration_error(values, good) == pytest.approx(np.mean(gaps))


def test_labels_are_kept_where_errors_are_as_small_as_most_of_the_renderings():
    reference = np.append(np.linspace(0, 1, 101), np.nan)
    assert calibration.keeps_labels(np.array([.5, .9, .95, np.nan]), reference).tolist() == [True, True, False, False]


@pytest.mark.parametrize("options, kept", [
    (dict(keep=.5), [0, 2, 5, 6]), (dict(keep=1.), range(8)), (dict(keep=.1), []), (dict(keep=.1, at_least=2),
                                                                                    [0, 2, 5, 6, 7]),
    (dict(threshold=.75), [0, 2, 5]), (dict(threshold=.75, at_least=1), [0, 2, 5, 7]),
    (dict(threshold=9., at_least=0), []), (dict(threshold=9., at_least=9), range(8))])
def test_choose(options, kept):
    """Of identities with four images, with three, of which one has no value, and with one: 1.5 is rounded to 2."""
    values = np.array([.9, .1, .8, .2, np.nan, .8, .7, .3])
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 2])
    options = {"at_least": 0} | options
    assert calibration.choose(values, labels, **options).tolist() == list(kept)


def test_equal_values_keep_the_first():
    assert calibration.choose(np.zeros(4), np.zeros(4, int), keep=.5).tolist() == [0, 1]
