"""Make report.html: one page that needs no network and no script, with the verdict first and how it was made last."""
import json
import os

from evaluation.figures import Figure, PHOTOS, PIXELS, RENDERINGS, SET
from evaluation.report import facts as known
from evaluation.report import groups
from evaluation.report.markup import element, join, Markup, pairs, table, text
from evaluation.report.numbers import joined, NOTHING, number, of_figure, title
from evaluation.report.pictures import show_all
from evaluation.report.standing import legend, standing
from evaluation.report.verdicts import (
    count_words,
    judge,
    LIKE_PHOTOS,
    NEARER_TO_PHOTOS,
    NEARER_TO_RENDERINGS,
    NO_BETTER,
    NO_FLOOR,
    NOT_MEASURED,
    UNDECIDED,
    WORSE,
)
from utils import read_text

MOST_ROWS = 12                          # of a table; all of them are in report.json
LONG = 46                               # letters of a word that is broken at will
NAMES = {"train_photos": "training photos"}         # of sets that have no figures
COLUMNS = {SET: "set", RENDERINGS: "renderings", PHOTOS: "real photos (floor)", PIXELS: "raw pixels"}
# For each verdict: a sign, so that colours are not all that tells them apart, and the name of its colour in page.css.
SIGNS = {LIKE_PHOTOS: ("●", "best"), NEARER_TO_PHOTOS: ("◕", "good"), NEARER_TO_RENDERINGS: ("◔", "fair"),
         WORSE: ("◑", "poor"), NO_BETTER: ("○", "bad"), UNDECIDED: ("?", "open"), NO_FLOOR: ("◇", "open"),
         NOT_MEASURED: ("◇", "open")}
# A page that can load nothing, whatever is in it.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_HOW_TO_READ = (
    "Each measure is taken of several sets, side by side. Real photos are split in two halves that share no person: "
    "the second half against the first gives the floor, which is what a perfect set would reach. Small figures are "
    "95 % intervals, by bootstrap over identities, and n. Two figures count as different where their intervals do not "
    "overlap. On the line, better is to the right.")


def make(sections, facts, judgement=""):
    """Make the page of Sections and facts (see `evaluation.report.facts`) -> bytes of HTML.

    `judgement` is the digest that names the judgement in all of its files.
    """
    shown = show_all(sections)
    heading = f"Judgement of {known.folder_of(facts)}"
    main = element("main", _verdicts(sections), *(_section(section, shown) for section in sections),
                   _made(facts, judgement))
    page = element("html", element(
        "head", element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="color-scheme", content="light dark"),
        element("title", heading), element("style", Markup(_style()))),
        element("body", _head(heading, facts), main), lang="en")
    return f"<!DOCTYPE html>\n{page}\n".encode("utf-8", "backslashreplace")


def _style():
    """Read page.css, which lies beside this file -> str."""
    return read_text(os.path.join(os.path.dirname(os.path.abspath(__file__)), "page.css"))


def _head(heading, facts):
    """Make the head of the page: title, warnings, and in a line what was judged."""
    warnings = [element("p", element("strong", "Warning: "), warning, class_="warning") for warning in
                known.warnings_of(facts)]
    return element("header", element("h1", breakable(heading)), *warnings,
                   element("p", " · ".join(known.in_short(facts)), class_="short"))


# The verdict

def _verdicts(sections):
    """Make the section with the table of all measures."""
    counts = count_words(sections)
    chips = [element("li", _pill(word, f"{count} {word}")) for word, count in counts.items()]
    names = _set_names(sections)
    columns = ["measure", *(COLUMNS.get(name, name) for name in names), "where it stands", "verdict"]
    head = element("thead", element("tr", *(element("th", name, scope="col") for name in columns)))
    bodies = [element("tbody", element("tr", element(
        "th", element("a", section.title, href=f"#{_anchor(section)}"), colspan=len(columns), scope="rowgroup"),
        class_="group"), *(_verdict_row(measure, names) for measure in section.measures))
        for section in sections if section.measures]
    return element("section", element("h2", "Verdict"),
                   *([element("ul", *chips, class_="chips")] if chips else [element("p", "Nothing was measured.")]),
                   *([element("p", _HOW_TO_READ, class_="quiet"), legend()] if bodies else []),
                   *([element("table", head, *bodies, class_="verdicts")] if bodies else []), id="verdict")


def _set_names(sections):
    """List the names of the sets that have figures: the usual ones first."""
    found = dict.fromkeys(name for section in sections for measure in section.measures for name in measure.figures)
    return [name for name in COLUMNS if name in found] + [name for name in found if name not in COLUMNS]


def _verdict_row(measure, names):
    """Make the row of a Measure with a cell for each of the sets `names`."""
    verdict = judge(measure)
    better = f" {measure.better.capitalize()} is better." if measure.better else ""
    first = element("th", element("span", title(measure.name), class_="name"),
                    element("span", measure.meaning + better, class_="quiet"), scope="row")
    cells = [_figure_cell(measure.figures.get(name), COLUMNS.get(name, name), name == SET) for name in names]
    drawn = element("td", standing(measure, verdict.sentence), class_="where")
    last = element("td", *([_pill(verdict.word, verdict.word)] if verdict.word else []),
                   element("span", verdict.sentence, class_="sentence"), class_="verdict")
    return element("tr", first, *cells, drawn, last)


def _figure_cell(figure, label=None, strong=False, more=()):
    """Make the cell of a Figure, or of None. `label` stands beside it where a page is narrow, and `more` below it."""
    if figure is None:
        return element("td", element("span", NOTHING, class_="quiet"), class_="figure none", data_label=label)
    value, interval = of_figure(figure)
    if value == "not measured":
        reason = [] if strong else [element("span", interval, class_="reason")]     # else it stands in the verdict
        return element("td", element("span", value, class_="why"), *reason, class_="figure", data_label=label)
    small = [element("span", words, class_="interval") for words in
             (interval, f"n = {figure.n:,}" if figure.n else "") if words]
    return element("td", element("strong" if strong else "span", value, class_="value"), *small, *more,
                   class_="figure", data_label=label)


def _pill(word, words):
    """Make the sign and words of a verdict, in its colour."""
    sign, colour = SIGNS[word]
    return element("span", element("span", sign, aria_hidden="true"), f" {words}", class_=f"pill {colour}")


# A section

def _section(section, shown):
    """Make what a Section shows: its notes, pictures and tables."""
    notes = [element("li", breakable(_sentence(note))) for note in section.notes]
    figures = [_picture(picture, shown[section.key, i]) for i, picture in enumerate(section.pictures)]
    if not (notes or figures or section.tables):
        notes = [element("li", "All of its figures are in the table above.")]
    return element("section", element("h2", section.title),
                   *([element("ul", *notes, class_="notes")] if notes else []),
                   *([element("div", *figures, class_="pictures")] if figures else []),
                   *_tables(section), id=_anchor(section))


def _tables(section):
    """Make the tables of a Section: those of measures by group stand below the counts of their groups."""
    by_trait, others = groups.divide(section.tables)
    found = []
    for name in dict.fromkeys([*others, *by_trait]):
        found += [_table(name, others[name])] if name in others else [element("h3", title(name))]
        found += [groups.show(by_trait[name], _figure_cell)] if name in by_trait else []
    return found


def _sentence(note):
    """Let a note begin with a capital and end with a stop -> str."""
    note = str(note)
    return note[:1].upper() + note[1:] + ("" if note.endswith((".", "!", "?", ":")) else ".")


def _anchor(section):
    """Make the anchor of a Section: its key, without what an address can't have."""
    return "section-" + "".join(letter if letter.isalnum() else "-" for letter in section.key)


def _picture(picture, seen):
    """Make the figure of a Picture as `seen`, a Shown."""
    caption = element("figcaption", breakable(picture.caption))
    if seen.why:
        return element("figure", element("p", seen.why, class_="why"), caption)
    if seen.markup:
        return element("figure", Markup(seen.markup), caption, class_="chart")
    width, height = seen.size
    return element("figure", element("img", src=seen.source, width=width, height=height, alt=picture.caption),
                   caption, class_="wide" if width > 700 else None)


def _table(name, rows):
    """Make the table of dicts, whose columns are all their keys. Long ones are cut, and say so."""
    rows = joined(rows)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[_cell(row.get(column)) for column in columns] for row in rows[:MOST_ROWS]]
    if not rows:
        return element("p", f"{title(name)}: none", class_="quiet")
    more = [element("p", f"and {len(rows) - MOST_ROWS:,} more in report.json", class_="quiet")] \
        if len(rows) > MOST_ROWS else []
    names = [str(column).replace("_", " ") for column in columns]
    return join([element("h3", title(name)), table(names, cells, "data"), *more])


def _cell(value):
    """Make the cell of a table of what JSON or a Figure holds."""
    if isinstance(value, Figure):
        return _figure_cell(value)
    if isinstance(value, (dict, list)):
        return json.dumps(value)
    if isinstance(value, str):
        return breakable(value)
    return element("td", number(value), class_="figure")


def breakable(words):
    """Let long names of files break at their slashes -> Markup."""
    if isinstance(words, Markup) or not any(len(word) > LONG // 2 for word in str(words).split()):
        return text(words)
    return Markup(text(words).replace("/", "/<wbr>"))


# How it was made

def _made(facts, judgement):
    """Make the last section: commands, versions, seeds, hashes, and the settings in folds."""
    parts = [element("h2", "How it was made")]
    command = known.command_of(facts)
    if command:
        parts.append(element("pre", command))
    sets = known.sets_of(facts)
    rows = [[{**COLUMNS, **NAMES}.get(name, name).partition(" (")[0], breakable(each.get("folder", known.UNKNOWN)),
             *(_cell(each.get(key)) for key in ("images", "identities"))] for name, each in sets.items()]
    if rows:
        parts.append(table(["", "folder", "images", "identities"], rows, "data"))
    listed = [*known.listed(facts), *([("judgement, as in report.json", judgement)] if judgement else [])]
    parts.append(pairs([(term, breakable(words)) for term, words in listed]))
    for name, values in known.folded(facts):
        parts.append(element("details", element("summary", name), element(
            "pre", Markup("\n".join(text(line) for line in json.dumps(values, indent=2).splitlines())))))
    return element("section", *parts, id="made")
