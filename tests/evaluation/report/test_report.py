"""evaluation.report: verdicts, numbers, the page, its pictures, report.json, the data sheet; names from outside."""
import html.parser
import json
import math
import os
import re
from pathlib import Path

import numpy as np
import pytest

import judged
import utils
from evaluation.figures import Figure, HIGHER, LOWER, Measure, NEITHER, not_measured, Picture, Section
from evaluation.report import charts, datasheet, page, pictures, report, sheets, standing, verdicts
from evaluation.report.markup import element, join, Markup
from evaluation.report.numbers import in_words, number, of_figure
from tool import one_line

FILES = Path(__file__).resolve().parents[3] / "docs/files.md"
HOSTILE = "<script>alert(1)</script>\"' onload=x &amp; [a](http://evil) `|\n\udcff"
EMPTY = {"meta", "img", "br", "hr", "wbr", "path", "rect", "circle", "line", "use"}
NOISE = np.random.default_rng(0).integers(0, 256, [700, 900, 3], np.uint8)


class Page(html.parser.HTMLParser):
    """What a page consists of. Asserts that its elements are closed in order."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.attributes, self.words, self.inside = [], [], [], "", ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attributes]
        if tag not in EMPTY or self.rawdata[self.rawdata.find("<"):].startswith("</"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attributes]

    def handle_endtag(self, tag):
        if self.open and self.open[-1] != tag and tag in EMPTY:
            return
        if tag in EMPTY and (not self.open or self.open[-1] != tag):
            return
        assert self.open.pop() == tag

    def handle_data(self, text):
        if "style" not in self.open:
            self.words += text + " "


@pytest.fixture(scope="module")
def example():
    return judged.sections()


@pytest.fixture(scope="module")
def whole(example):
    """The page of the example as text."""
    return page.make(example, judged.FACTS).decode()


def measure(own, floor=None, start=None, better=LOWER, name="m"):
    figures = {"set": own, "renderings": start, "photos": floor}
    return Measure("key", name, better, "Tells something.", {key: each for key, each in figures.items() if each})


def section(measures=(), images=(), notes=(), tables=None, title="Title"):
    return Section("some", title, list(measures), [Picture(f"p{i}", "caption", image) for i, image in
                                                   enumerate(images)], list(notes), tables or {})


def f(value, half=None, n=10):
    return judged.figure(value, half, n)


# Verdicts

@pytest.mark.parametrize("own, floor, start, better, word, said", [
    (f(1., .1), f(2., .1), f(9., .1), LOWER, verdicts.LIKE_PHOTOS, "At least as good"),
    (f(3., .1), f(2., .1), f(1., .1), HIGHER, verdicts.LIKE_PHOTOS, "At least as good"),
    (f(2.1, .2), f(2., .1), f(9., .1), LOWER, verdicts.LIKE_PHOTOS, "intervals overlap"),
    (f(3., .1), f(1., .1), f(9., .1), LOWER, verdicts.NEARER_TO_PHOTOS, "75 % of the way"),
    (f(.7, .01), f(.9, .01), f(.1, .01), HIGHER, verdicts.NEARER_TO_PHOTOS, "75 % of the way"),
    (f(7., .1), f(1., .1), f(9., .1), LOWER, verdicts.NEARER_TO_RENDERINGS, "25 % of the way"),
    (f(9., .1), f(1., .1), f(9., .1), LOWER, verdicts.NO_BETTER, "nothing was gained"),
    (f(12., .1), f(1., .1), f(9., .1), LOWER, verdicts.NO_BETTER, "nothing was gained"),
    (f(5., 4.5), f(1., .6), f(9., .6), LOWER, verdicts.UNDECIDED, "more images"),
    (f(5., .1), f(1., .1), f(1.1, .1), LOWER, verdicts.WORSE, "the renderings are not"),
    (f(5., .1), f(1., .1), f(.5, .1), LOWER, verdicts.WORSE, "the renderings are not"),
    (f(5., .1), f(1., .1), None, LOWER, verdicts.WORSE, "Worse than real photos."),
    (f(5.), f(5.), None, LOWER, verdicts.LIKE_PHOTOS, "At least as good"),
    (f(5.), f(4.9), None, LOWER, verdicts.WORSE, "Worse"),
    (f(5.), None, f(9.), LOWER, verdicts.NO_FLOOR, "it has no figure of real photos."),
    (f(5.), not_measured("no labels"), f(9.), LOWER, verdicts.NO_FLOOR, "Nothing to compare with: no labels."),
    (not_measured("one image: give more"), f(1.), f(2.), LOWER, verdicts.NOT_MEASURED, "One image: give more."),
    (f(math.nan), f(1.), f(2.), LOWER, verdicts.NOT_MEASURED, "no figure"),
    (None, f(1.), f(2.), LOWER, verdicts.NOT_MEASURED, "no figure of the set"),
    (f(.5), f(.4), None, NEITHER, verdicts.PLAIN, "")])
def test_verdicts(own, floor, start, better, word, said):
    found = verdicts.judge(measure(own, floor, start, better))
    assert found.word == word and said in found.sentence and bool(said) == bool(found.sentence)


def test_verdicts_are_counted_from_the_best_to_the_worst(example):
    counts = verdicts.count_words(example)
    assert list(counts.items()) == [
        ("like photos", 3), ("nearer to photos", 2), ("nearer to renderings", 4), ("worse than photos", 1),
        ("no better than renderings", 1), ("no floor", 1), ("not measured", 2)]


# Numbers

@pytest.mark.parametrize("value, width, written", [
    (.0812, .004, "0.081"), (31.42, 1.31, "31.4"), (118.2, 3.6, "118"), (1234.6, 210., "1,235"), (.5, 0., "0.500"),
    (.5, None, "0.5"), (.23456, None, "0.235"), (12345.6, None, "12,346"), (12, None, "12"),
    (-3, None, "\N{MINUS SIGN}3"), (-.25, .13, "\N{MINUS SIGN}0.25"), (-.0001, .2, "0.0"), (0., None, "0"),
    (3.2e-6, None, "3.20e-6"), (2.5e9, None, "2.50e9"),
    (math.nan, None, "\N{EN DASH}"), (None, None, "\N{EN DASH}"), (True, None, "True"),
    (1e-300, 1e-300, "1.00e-300")])
def test_numbers_are_rounded_by_their_intervals(value, width, written):
    assert number(value, width) == written


def test_figures_in_words():
    assert of_figure(Figure(.31, .28, .34, 1200)) == ("0.31", "0.28 to 0.34")
    assert in_words(Figure(.31, .28, .34, 1200)) == "0.31 (0.28 to 0.34; n = 1,200)"
    assert in_words(Figure(3)) == "3" and in_words(not_measured("no labels")) == "not measured: no labels"
    assert of_figure(Figure(math.inf)) == ("not measured", "the measure gave no number")


# The page

def test_the_page_is_whole_and_needs_nothing_else(whole):
    found = Page(whole)
    assert len(whole) < 1_000_000 and found.tags.count("img") == 6
    assert not {"script", "link", "iframe", "object", "base"} & set(found.tags)
    addresses = [value for _, name, value in found.attributes if name in ("src", "href", "xlink:href", "srcset")]
    assert addresses and all(re.match(r"data:image/(png|jpeg);base64,|#", value) for value in addresses)
    assert not re.search(r"https?:|//\w|@import|url\((?!#)", re.sub(r"base64,[^\"]*", "", whole))
    assert not any(name.startswith("on") for _, name, _ in found.attributes)
    ids = [value for _, name, value in found.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert {value[1:] for tag, name, value in found.attributes if (tag, name) == ("a", "href")} <= set(ids)
    assert ("meta", "content", page._POLICY) in found.attributes and "default-src 'none'" in page._POLICY
    assert "prefers-color-scheme: dark" in whole and "max-width: 900px" in whole


def test_the_page_says_what_was_found(example, whole):
    words = " ".join(Page(whole).words.split())
    for each in example:
        assert each.title in words and all(note in words for note in each.notes)
        for one in each.measures:
            assert one.name in words and one.meaning in words and verdicts.judge(one).sentence in words
        assert all(picture.caption in words for picture in each.pictures) and all(name in words for name in each.tables)
    assert words.index("Warning: the generator was trained with this embedder") < words.index("Verdict")
    for said in ("31.4 30.1 to 32.7 n = 5,000", "Too few pairs: 10,000", "and 129 more in report.json",
                 "python evaluate.py judge", "2026-03-04", "6f1c" * 16, "numpy 2.1.3", "halves 0, bootstrap 1",
                 "settings.json of the renderings"):
        assert said in words, said


def test_the_same_judgement_gives_the_same_page(example, whole):
    assert page.make(example, judged.FACTS).decode() == whole


def test_names_from_outside_are_no_markup(tmp_path):
    sections = [Section(HOSTILE, HOSTILE, [Measure(HOSTILE, HOSTILE, LOWER, HOSTILE, {
        "set": f(.5), HOSTILE: f(.4), "photos": not_measured(HOSTILE)})], [Picture(HOSTILE, HOSTILE, NOISE[:9, :9])],
        [HOSTILE], {HOSTILE: [{HOSTILE: HOSTILE, "more": {HOSTILE: HOSTILE}, "figure": not_measured(HOSTILE)}]})]
    if charts.available():
        sections[0].pictures.append(Picture(HOSTILE, HOSTILE, lambda axes: charts.draw_bars(axes, {HOSTILE: f(.5)})))
    facts = {"warnings": [HOSTILE], "command": [HOSTILE], "versions": {HOSTILE: HOSTILE},
             "sets": {"set": {"folder": HOSTILE, "settings": {HOSTILE: HOSTILE}}}, "embedder": {"name": HOSTILE}}
    report.save(sections, facts, str(tmp_path))
    text = (tmp_path / "report.html").read_text("utf-8")
    found = Page(text)
    assert "script" not in found.tags and not any(name.startswith("on") for _, name, _ in found.attributes)
    assert "<script>alert(1)</script>" in found.words and "\\udcff" in found.words
    sheet = (tmp_path / "DATASHEET.md").read_text("utf-8")
    assert not re.search(r"(?<!\\)<(?!!-- (yours|end))", sheet) and "[a](" not in sheet
    assert report.load(str(tmp_path / "report.json"))[0][0].title == HOSTILE


@pytest.mark.parametrize("sections, facts, said", [
    ([], {}, "Nothing was measured"), ([section()], {}, "Judgement of unknown"),
    ([section([measure(None)])], {}, "There is no figure of the set"),
    ([section([measure(not_measured(""))])], {"sets": None, "embedder": None, "warnings": None}, "not measured"),
    ([section(tables={"nothing": []})], {"embedder": {}}, "Nothing: none"),
    ([section(tables={"radius_at": [{"far_of": .1, **f(.5, .1).as_json()}, {"far_of": 0, "not_measured": "few"}]})], {},
     "Radius at value far of 0.50 0.40 to 0.60 n = 10 0.1 not measured few 0"),
    ([section(tables={"odd": [{"a": None}, {"b": [1]}, {}]})], {"sets": {"set": 5}}, "[1]"),
    ([section(images=[None, np.zeros([0, 5, 3], np.uint8), np.zeros([4, 4, 3])])], {}, "not shown: there is no image")])
def test_pages_of_little(sections, facts, said, tmp_path):
    report.save(sections, facts, str(tmp_path))
    assert said in " ".join(Page((tmp_path / "report.html").read_text()).words.split())
    assert "nknown" in (tmp_path / "DATASHEET.md").read_text()


def test_measures_by_group_are_one_table_of_each_trait(tmp_path):
    def row(measure, group, value, worse=False):
        return {"measure": measure, "group": group, **value.as_json(), "rest": .4, "worse": worse}
    shown = section(tables={
        "sex": [{"group": "female", "images": 5}, {"group": "male", "images": 7}],
        "sex: kid": [row("KID", "female", f(.5, .1), True), row("KID", "male", f(.3, .1))],
        "sex: own": [row("share", "female", f(.7, .1)), row("share", "male", not_measured("few"))]})
    report.save([shown._replace(key="balance")], {}, str(tmp_path))
    words = " ".join(Page((tmp_path / "report.html").read_text()).words.split())
    assert ("Sex group images female 5 male 7 measure female male KID 0.50 0.40 to 0.60 n = 10 worse than others: 0.4 "
            "0.30 0.20 to 0.40 n = 10 Share 0.70 0.60 to 0.80 n = 10 not measured few") in words
    sheet = (tmp_path / "DATASHEET.md").read_text()
    assert "| female | 5 |" in sheet and "KID" not in sheet.split("## How")[0].split("## Composition")[1]
    assert report.load(str(tmp_path / "report.json"))[0][0].tables.keys() == shown.tables.keys()


def test_without_matplotlib_the_page_has_all_but_the_charts(example, monkeypatch, caplog):
    monkeypatch.setattr(charts, "available", lambda: False)
    found = Page(page.make(example, judged.FACTS).decode())
    [record] = caplog.records
    assert record.getMessage() == f"the report goes without its charts (3): {charts.MISSING}"
    assert found.words.count(f"not drawn: {charts.MISSING}") == 3 and found.tags.count("img") == 6


def places(own, **others):
    """Where the line puts the middle of each mark, from 0, its left end, to 1."""
    figures = {"set": own, **others}
    text = standing.standing(Measure("", "", LOWER, "", figures), "said")
    found = {"set": re.search(r'cx="([^"]+)"', text), "photos": re.search(r'x1="([^"]+)"[^>]+class="photos"', text),
             "renderings": re.search(r'x="([^"]+)"[^>]+class="renderings"', text),
             "pixels": re.search(r'x1="([^"]+)"[^>]+class="pixels"', text)}
    offset = {"renderings": 4, "pixels": 3.5}
    span = standing.WIDTH - 2 * standing.EDGE
    return {name: (float(mark[1]) + offset.get(name, 0) - standing.EDGE) / span for name, mark in found.items() if mark}


def test_the_line_puts_the_better_to_the_right():
    assert places(f(5.), renderings=f(9.), photos=f(1.)) == pytest.approx({"set": .5, "renderings": 0, "photos": 1})
    found = places(f(5., 1), renderings=f(9.), photos=f(2., 1), pixels=f(1e6))
    assert found == pytest.approx({"set": .5, "renderings": 0, "photos": .875, "pixels": 0}, abs=.01)
    assert places(f(5.), photos=f(5.)) == pytest.approx({"set": .5, "photos": .5})
    assert standing.standing(measure(f(5.)), "") == standing.standing(measure(None, f(1.), f(2.)), "") == ""


def test_markup_escapes_all_but_itself():
    assert element("p", "<b>", element("b", "&"), title='"<') == '<p title="&quot;&lt;">&lt;b&gt;<b>&amp;</b></p>'
    assert element("img", src="x", alt=None) == '<img src="x">' and isinstance(join(["<"]), Markup)


# Pictures

def test_pictures_share_what_a_page_may_weigh():
    sections = [section(images=[NOISE[:560, :720]] * 6)]
    found = page.make(sections, {})
    assert pictures.MOST_BYTES * .5 < len(found) < 3_000_000
    sizes = {(width, height) for width, height in (seen.size for seen in pictures.show_all(sections).values())}
    assert len(sizes) == 1 and 400 <= max(sizes.pop()) < 900


@pytest.mark.parametrize("image, kind, size", [
    (NOISE[:90, :120], "jpeg", (120, 90)), (np.zeros([50, 40, 3], np.uint8), "png", (40, 50)),
    (np.zeros([50, 40], np.uint8), "png", (40, 50)), (np.tile(NOISE, (1, 2, 1)), "jpeg", (1280, 498))])
def test_an_image_is_encoded_small(image, kind, size):
    encoded, found, shape = pictures.encode(image, 10 ** 7)
    assert (found, shape) == (kind, size) and encoded[:2] == (b"\xff\xd8" if kind == "jpeg" else b"\x89P")


def test_an_image_never_becomes_smaller_than_can_be_seen():
    assert 120 < max(pictures.encode(NOISE, 10)[2]) <= pictures.SMALLEST


def test_sheets():
    images = np.arange(6, dtype=np.uint8)[:, None, None, None] * np.ones([1, 4, 5, 3], np.uint8)
    sheet = sheets.of_people(images, [7, 7, 7, 9, 9, 3], people=3, each=2)
    assert sheet.shape == (3 * 6 - 2, 2 * 7 - 2, 3) and (sheet[:4, :5] == 5).all() and not sheet[:4, 7:].any()
    assert np.array_equal(sheet, sheets.of_people(images, [7, 7, 7, 9, 9, 3], people=3, each=2))
    pairs = sheets.of_pairs(images[:3], images[3:], columns=2)
    assert pairs.shape == (2 * 12 + 8, 2 * 18 + 8, 3) and pairs[8, 8, 0] == 0 and pairs[8, 13, 0] == 3
    assert pairs[8, 26, 0] == 1 and pairs[20, 8, 0] == 2 and (pairs[20:, 26:] == 128).all()
    low, high = sheets.by_score([3, 1, np.nan, 2, 5], 2)
    assert low.tolist() == [1, 3] and high.tolist() == [4, 0]


# report.json

def without_images(sections):
    return [each._replace(pictures=[picture._replace(image=None) for picture in each.pictures]) for each in sections]


def test_a_report_is_read_as_it_was_written(example, tmp_path):
    report.save(example, judged.FACTS, str(tmp_path))
    sections, facts = report.load(str(tmp_path / "report.json"))
    assert sections == without_images(example) and facts == judged.FACTS
    assert sorted(path.name for path in tmp_path.iterdir()) == ["DATASHEET.md", "report.html", "report.json"]
    assert "NaN" not in (tmp_path / "report.json").read_text()


def test_numbers_of_numpy_and_none_become_json():
    table = [{"a": np.float32(.5), "b": np.int64(3), "c": np.array([1., np.nan]), "d": Path("x"), "e": np.bool_(True),
              "f": Figure(np.float64(.5), np.float64(.25), None, np.int64(4)), "g": (1, math.inf), 3: None}]
    found = report.as_json([section(tables={"t": table})], {"when": np.float64(1)})
    assert found["sections"][0]["tables"]["t"] == [
        {"a": .5, "b": 3, "c": [1, None], "d": "x", "e": True, "f": {"value": .5, "low": .25, "n": 4}, "g": [1, None],
         "3": None}]
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def paths_of(value, path=""):
    """The names of all that is in a JSON value, with `[]` for lists."""
    if isinstance(value, dict):
        return set().union(*({f"{path}{name}"} | paths_of(each, f"{path}{name}.") for name, each in value.items()))
    if isinstance(value, list):
        return set().union(*(paths_of(each, path.removesuffix(".") + "[].") for each in value))
    return set()


def test_the_manual_describes_every_name_in_a_report(example):
    """And no other. Names of sets, tables, columns and what is in free dicts are not fixed."""
    text = FILES.read_text()
    table = text.split("\n## report.json\n")[1].split("\n## ")[0]
    told = set(re.findall(r"^\| `([^`]+)` \|", table, re.M))
    found = set()
    for path in paths_of(report.as_json(example, judged.FACTS)):
        path = re.sub(r"figures\.[^.]+", "figures.SET", path)
        path = re.sub(r"facts\.sets\.[^.]+", "facts.sets.SET", path)
        path = re.sub(r"tables\..*", "tables.NAME[]", path)
        path = re.sub(r"(facts\.(versions|seeds)|settings|params)\..*", r"\1", path)
        found.add(path)
    assert found == told


@pytest.mark.parametrize("change, said", [
    (None, "no such file"), ("[]", "no report"), ("{", "can't be read"), ('{"format": 2}', "of format 2"),
    ('{"format": 1, "facts": {}}', "no report"), ('{"format": 1, "facts": {}, "sections": [{"key": 1}]}', "no report"),
    ('{"format": 1, "facts": {}, "sections": [{"key": "a", "title": "b", "notes": [], "pictures": [], "tables": {}, '
     '"measures": [{"key": "a", "name": "b", "better": "odd", "meaning": "", "figures": {}}]}]}', "no report"),
    ('{"format": 1, "facts": {}, "sections": [{"key": "a", "title": "b", "notes": [], "pictures": [], "tables": {}, '
     '"measures": [{"key": "a", "name": "b", "better": "", "meaning": "", "figures": {"set": {"value": "x", "n": 1}}}]}'
     ']}', "no report")])
def test_what_is_no_report_is_refused(change, said, tmp_path):
    path = tmp_path / "report.json"
    if change is not None:
        path.write_text(change)
    with pytest.raises(utils.UserError) as error:
        report.load(str(path))
    one_line(error, str(path), said)


def test_files_appear_whole_or_not_at_all(example, tmp_path, monkeypatch):
    """Where a page can't be made, the numbers are there all the same, and the page of before."""
    report.save(example[:1], judged.FACTS, str(tmp_path))
    before = (tmp_path / "report.html").read_bytes()
    monkeypatch.setattr(page, "make", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        report.save(example, judged.FACTS, str(tmp_path))
    assert (tmp_path / "report.html").read_bytes() == before
    assert len(report.load(str(tmp_path / "report.json"))[0]) == len(example)
    monkeypatch.setattr(utils.os, "replace", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        report.save(example[:1], judged.FACTS, str(tmp_path))
    assert len(report.load(str(tmp_path / "report.json"))[0]) == len(example)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["DATASHEET.md", "report.html", "report.json"]


def test_all_files_name_their_judgement_and_get_their_names_together(example, tmp_path, monkeypatch):
    more = {"confidences.csv": b"image,confidence\n"}
    report.save(example[:1], judged.FACTS, str(tmp_path), more)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    name = json.loads(before["report.json"])["judgement"]
    assert len(name) == report.DIGITS and all(name.encode() in before[each] for each in report.NAMES)
    replace, named = os.replace, []

    def rename(source, target):
        """Let a file have its name where all are written."""
        assert len([path for path in tmp_path.iterdir() if path.name.startswith(utils.TEMPORARY)]) == 4 - len(named)
        named.append(os.path.basename(target))
        replace(source, target)

    monkeypatch.setattr(utils.os, "replace", rename)
    report.save(example, judged.FACTS, str(tmp_path), more)
    assert sorted(named) == sorted([*report.NAMES, *more]) and named[-1] == "report.json"
    assert name not in (tmp_path / "report.html").read_text()
    monkeypatch.setattr(page, "make", lambda *_: b"x" * 10 ** 6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils.os, "replace", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            report.save(example[:1], judged.FACTS, str(tmp_path), more)
    assert {path.name for path in tmp_path.iterdir()} == {*report.NAMES, *more}


def test_a_file_of_another_judgement_is_told(example, tmp_path):
    table = tmp_path / "confidences.csv"
    report.check_beside(str(tmp_path), table.name)                          # no report
    report.save(example[:1], judged.FACTS, str(tmp_path), {table.name: b"1"})
    report.check_beside(str(tmp_path), table.name)
    table.write_bytes(b"2")
    with pytest.raises(utils.UserError) as error:
        report.check_beside(str(tmp_path), table.name)
    one_line(error, str(table), "not of the same judgement", "judge the set again")
    (tmp_path / "report.json").write_text('{"format": 1}')                  # of an older version
    report.check_beside(str(tmp_path), table.name)


@pytest.mark.parametrize("data, folder", [
    ("data/set", "data/set_report"), ("set/", "set_report"), ("a//set/.", "a/set_report"), (".", "{here}_report"),
    ("set/..", "{here}_report"), ("..", "{above}_report"), ("packed/train.rec", "packed/train.rec_report")])
def test_a_report_lies_beside_its_set(data, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert report.folder_for(data) == folder.format(here=tmp_path, above=tmp_path.parent)


# The data sheet

def test_a_data_sheet_tells_what_is_known(example):
    text = datasheet.make(example, judged.FACTS)
    headings = re.findall(r"^## (.*)$", text, re.M)
    assert headings == ["Motivation", "Composition", "How it was made", "Known flaws", "Uses", "Distribution",
                        "Maintenance"]
    for said in ("images: 10,000", "identities: 500", "images for each identity, on average: 20", "random\\_seed: 0",
                 "| women, 18 to 40 | 131 |", "3D face model, licence: CC0", "generator, licence: unknown",
                 "embedder, sha256: " + "6f1c" * 16,
                 "Uniqueness (DCFace) at FAR 1e-3: 0.72", "KID on dlib's features",
                 "takes hours: give --utility", "Share of women: 0.47", "**Warning:** the generator was trained"):
        assert said in text, said
    flaws = text.split("Worse than real photos:")[1].split("Not measured:")[0]
    assert "Coverage" not in flaws and "Consistency" not in flaws and "27" not in flaws
    assert text.count("<!-- yours: ") == text.count("<!-- end -->") == len(datasheet.QUESTIONS) == 5


def test_a_data_sheet_says_what_is_unknown():
    text = datasheet.make([], {})
    for said in ("Data sheet of unknown", "images: unknown", "labels: unknown", "unknown, as there are no labels",
                 "unknown, as there is no `settings.json`", "3D face model, licence: unknown",
                 "Unknown: nothing was measured", "embedder unknown", *datasheet.QUESTIONS.values()):
        assert said in text, said
    assert "No measure shows" in datasheet.make([section([measure(f(1.), f(2.))])], {})


def test_answers_are_kept_when_a_data_sheet_is_written_anew(example, tmp_path, caplog):
    path = tmp_path / "DATASHEET.md"
    path.write_bytes(datasheet.renew(example, judged.FACTS, str(path)))
    answer = "CC BY 4.0, at `here`;\n\n- \\1 two lines"
    path.write_text(path.read_text().replace(datasheet.QUESTIONS["licence"], answer).replace("\n", "\r\n"))
    path.write_bytes(datasheet.renew(example, judged.FACTS | {"seed": 77}, str(path)))
    text = path.read_text()
    assert f"<!-- yours: licence -->\n{answer}\n<!-- end -->" in text and "seed: 77" in text and not caplog.records
    assert datasheet.QUESTIONS["consent"] in text


@pytest.mark.parametrize("content", [b"My own words.", b"\xff\xfe", b""])
def test_a_file_of_others_is_left_alone(content, tmp_path, caplog):
    path = tmp_path / "DATASHEET.md"
    path.write_bytes(content)
    report.save([], {}, str(tmp_path))
    [record] = caplog.records
    assert path.read_bytes() == content and f"{path}: not written" in record.getMessage()
