"""evaluation.report.charts: what matplotlib draws, as pixels and as SVG; odd names and values; without matplotlib."""
import functools
import importlib.util
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

import recognizer
from evaluation.figures import Figure, not_measured
from evaluation.report import charts
from recognition.verification import FacePairs, roc, Verification, verify

pytestmark = pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="needs matplotlib")
HOSTILE = "_<b>$x_{$ & \"quoted\" \n\udcff"
T, F = True, False


def rgb(colour):
    return np.array([int(colour[i:i + 2], 16) for i in (1, 3, 5)])


def near(image, colour, tolerance):
    return np.abs(image.astype(int) - rgb(colour)).max(axis=2) < tolerance


@pytest.fixture(scope="module")
def verified():
    """{name: Verification} of two rows, and which pairs are of one person."""
    rng = np.random.default_rng(1)
    same = np.arange(400) < 200
    pairs = FacePairs("", [], np.arange(400), np.arange(400, 800), same, np.arange(400) % 10)
    embeddings = {name: np.concatenate([rng.normal(0, 1, [400, 8]),
                                        rng.normal(0, 1, [400, 8]) + shift * same[::-1, None]])
                  for name, shift in (("one", 2), ("two", 0))}
    return {name: verify(values, pairs) for name, values in embeddings.items()}, same


def histograms(distances, same):
    return functools.partial(charts.draw_histograms, groups={"same": distances[same], "other": distances[~same]})


def test_charts_have_a_colour_for_each_row(verified):
    rows, same = verified
    curve = charts.as_pixels(functools.partial(charts.draw_roc, curves={name: row.roc for name, row in rows.items()}))
    histogram = charts.as_pixels(histograms(rows["one"].distances, same))
    for image in curve, histogram:
        assert image.dtype == np.uint8 and image.shape == (round(3.7 * 130), round(5.6 * 130), 3)
        for colour in charts.COLOURS[:2]:
            assert near(image, colour, 40).sum() > 100
        assert not near(image, charts.COLOURS[2], 8).any()
        for edge in (image[:, -2:], image[:2], image[-2:]):
            assert (edge == 255).all()                                                  # nothing runs over it


def test_no_legend_hides_a_roc(verified):
    rows, _ = verified
    curve = charts.as_pixels(functools.partial(charts.draw_roc, curves={name: row.roc for name, row in rows.items()}))
    for colour in charts.COLOURS[:2]:
        columns = np.flatnonzero(near(curve, colour, 60).any(axis=0))
        assert len(columns) > .95 * np.ptp(columns) > 400                               # seen in every column


@pytest.mark.parametrize("distances", [[0, 0, 0, 0], [1, 1, 1, 1], [1e-9, 2e-9, 3e-9, 4e-9], [-1, 5, 900, 7e4],
                                       [np.nan, 1, 2, np.inf]])
def test_odd_distances(distances):
    distances, same = np.array(distances, float), np.array([T, F, T, F])
    assert near(charts.as_pixels(histograms(distances, same)), charts.DIFFERENT, 60).any()
    curve = functools.partial(charts.draw_roc, curves={"odd": roc(np.nan_to_num(distances), same)})
    assert near(charts.as_pixels(curve), charts.SAME, 60).any()


def test_a_long_curve_is_drawn_by_few_points():
    rng = np.random.default_rng(0)
    same = np.arange(40_000) % 2 == 0
    curve = roc(np.where(same, .5, 1) + rng.normal(0, .3, len(same)), same)
    assert len(curve) == 40_001
    text = charts.as_svg(functools.partial(charts.draw_roc, curves={"set": curve}), "roc")
    assert len(text) < 60_000
    kept = charts._thinned(np.log10(np.maximum(curve[:, 0], 1e-5)))
    assert len(kept) <= charts.POINTS and kept[0] == 0 and kept[-1] == 40_000


@pytest.mark.parametrize("draw", [
    lambda name: functools.partial(charts.draw_roc, curves={name: np.array([[0, 0], [.1, .5], [1, 1]])}),
    lambda name: functools.partial(charts.draw_histograms, groups={name: np.arange(9)}, label=name,
                                   thresholds={name: 4}),
    lambda name: functools.partial(charts.draw_bars, figures={name: Figure(.5, .4, .6, 9), "none": not_measured("few")},
                                   label=name, reference=(name, .4))])
def test_an_svg_is_whole_and_takes_any_name(draw):
    """Well-formed, no colour of letters but the page's, no address, no style sheet, ids of its own, the same again."""
    drawn = draw(HOSTILE)
    text = charts.as_svg(drawn, "roc")
    tree = ElementTree.fromstring(text)
    assert tree.tag == "svg" and text == charts.as_svg(drawn, "roc")
    assert "currentColor" in text and charts._INK not in text
    assert not any(word in text for word in ("http:", "https:", "<style", "<metadata", "<b>", "\udcff"))
    ids = [element.get("id") for element in tree.iter() if element.get("id")]
    assert len(ids) == len(set(ids)) and all(each.startswith("roc-") for each in ids)
    used = [element.get("href")[1:] for element in tree.iter("use")]
    assert used and set(used) <= set(ids)
    words = "".join(tree.itertext())
    assert "$x_{$" in words and "<b>" in words


def test_a_plain_chart_takes_colours_and_numbers_of_the_page():
    """What others draw by matplotlib's own means: its colours, black lines, logarithmic axes."""
    def draw(axes):
        axes.plot([.001, 1], [1, 2], label="one")
        axes.axvline(.1, color="black")
        axes.set_xscale("log")

    text = charts.as_svg(draw, "plain")
    words = "".join(ElementTree.fromstring(text).itertext()).split()
    assert charts.COLOURS[0] in text and "#000000" not in text and {"0.001", "0.01", "0.1", "1"} <= set(words)
    assert "math" not in text.replace("mathtext", "")


def test_bars_say_what_was_not_measured():
    text = charts.as_svg(functools.partial(charts.draw_bars, figures={"few": not_measured("one image")}), "bars")
    assert "not measured" in text and charts.COLOURS[0] not in text


def test_drawing_leaves_the_settings_of_matplotlib_alone():
    import matplotlib

    before = dict(matplotlib.rcParams)
    charts.as_pixels(lambda axes: axes.plot([1, 2]))
    assert dict(matplotlib.rcParams) == before


# The pictures of recognizer.py verify

def test_verification_is_drawn(verified, tmp_path):
    rows, same = verified
    assert recognizer._draw_verification(rows, dict.fromkeys(rows, same), str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["distances.png", "roc.png"]


def test_without_matplotlib_verification_says_so_in_a_line(verified, tmp_path, monkeypatch, caplog):
    rows, same = verified
    monkeypatch.setattr(charts, "available", lambda: False)
    (tmp_path / "roc.png").touch()
    assert not recognizer._draw_verification(rows, dict.fromkeys(rows, same), str(tmp_path))
    [record] = caplog.records
    assert record.getMessage() == ("no pictures of this verification: matplotlib is not installed: pip install -r "
                                   "requirements-tools.txt; roc.png there are of an earlier one")


def test_odd_verifications_are_drawn(tmp_path):
    same, distances = np.array([T, F, T, F]), np.zeros(4)
    result = Verification(.5, 0., .5, .5, {}, 0., distances, roc(distances, same))
    assert recognizer._draw_verification({"odd": result}, {"odd": same}, str(tmp_path))
