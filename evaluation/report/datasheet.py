"""Make DATASHEET.md of a set: what is in it, how it was made, its known flaws, what it is for.

Its questions follow Gebru et al. 2021, "Datasheets for Datasets". It tells only what files say, and says what they do
not. Some answers are for whoever passes the set on: they lie between two marks, and are kept when the file is written
anew.
"""
import contextlib
import json
import logging
import os
import re

from evaluation.figures import PHOTOS, SET
from evaluation.report import facts as known
from evaluation.report import groups
from evaluation.report.facts import UNKNOWN
from evaluation.report.numbers import in_words, joined, number, title
from evaluation.report.verdicts import FLAWS, judge, measured
from utils import one_line, read_text

BALANCE = "balance"                     # the key of the section that tells whom the set represents
MOST_ROWS = 30
_ANSWER = re.compile(r"<!-- yours: (\w+) -->\n(.*?)\n<!-- end -->", re.S)
# What only whoever passes the set on can answer: {key: the question, which stands there until it is answered}.
QUESTIONS = {
    "purpose": "Unknown: for which task was the set made, by whom, and who paid for it?",
    "consent": "Unknown: whose photos did the generator learn from, under which terms, and did they consent?",
    "uses": "Unknown: what has the set been used for already?",
    "licence": "Unknown: under which licence, where and to whom is the set passed on? Terms of the photos, of the 3D "
               "face model and of the networks it was made with may restrict it.",
    "maintenance": "Unknown: who maintains the set, how are they reached, where are errors reported, and will it be "
                   "updated?"}


def renew(sections, facts, path, judgement=""):
    """Make the bytes of DATASHEET.md, with the answers in the one at `path` -> None where that is not ours.

    A file without the marks of answers is not ours, and is left alone, with a warning. `judgement` is the digest that
    names the judgement in all of its files.
    """
    answers = {}
    if os.path.lexists(path):
        with contextlib.suppress(OSError, ValueError):
            answers = dict(_ANSWER.findall(read_text(path).replace("\r\n", "\n")))
        if not answers:
            logging.warning("%s: not written, as a file without the marks of a data sheet is there; move it away to "
                            "get one", path)
            return None
    text = make(sections, facts, answers) + (f"\nJudgement {judgement}, as in `report.json`.\n" if judgement else "")
    return text.encode("utf-8", "backslashreplace")


def make(sections, facts, answers=None):
    """Make the text of the data sheet of Sections and facts. `answers` are {key of QUESTIONS: text}."""
    def ask(key):
        return f"<!-- yours: {key} -->\n{(answers or {}).get(key) or QUESTIONS[key]}\n<!-- end -->"

    parts = [
        f"# Data sheet of {_plain(known.folder_of(facts))}",
        "Written by `evaluate.py judge`, after the questions of Gebru et al., *Datasheets for Datasets* (2021). Write "
        "your answers between the marks `yours` and `end`: they are kept when this file is written anew. Nothing else "
        "is. All numbers are in `report.json`.",
        *(f"**Warning:** {_plain(warning)}" for warning in known.warnings_of(facts)),
        "## Motivation", ask("purpose"),
        "## Composition", *_composition(facts), *_balance(sections),
        "## How it was made", *_making(facts), ask("consent"),
        "## Known flaws", *_flaws(sections),
        "## Uses", _USES, *_uses(facts), ask("uses"),
        "## Distribution", ask("licence"),
        "## Maintenance", ask("maintenance")]
    return "\n\n".join(parts) + "\n"


_USES = """Intended: to train and to test face recognition, where photos of people who consented are lacking, and to \
study it.

Not intended:

- to claim that a system works, or works equally well for all people: that takes photos of real people.
- to tell age, sex, origin or character of real people.
- to deceive: to pass the images off as photos of somebody."""


# What files tell

def _composition(facts):
    """Say what the set holds."""
    judged = known.sets_of(facts).get(SET, {})
    lines = [f"- {term}: {_known(judged.get(key))}" for key, term in (
        ("images", "images"), ("identities", "identities"), ("size", "side of an image in pixels"),
        ("labels", "labels"))]
    images, identities = (judged.get(key) for key in ("images", "identities"))
    if isinstance(images, int) and isinstance(identities, int) and identities:
        lines.append(f"- images for each identity, on average: {number(images / identities)}")
    return ["An instance is a synthesized photo of a face, in the folder of its identity. The identities are meant to "
            "be nobody's. Whether they are is measured as leakage.", "\n".join(lines)]


def _balance(sections):
    """Make the lines and tables that tell whom the set represents."""
    chosen = [section for section in sections if section.key == BALANCE]
    own = [f"- {_plain(measure.name)}: {_plain(in_words(measure.figures[SET]))}" for section in chosen
           for measure in section.measures if SET in measure.figures]
    divided = [groups.divide(section.tables) for section in chosen]
    found = [table for _, counts in divided for name, rows in counts.items() if rows
             for table in (f"{_plain(title(name))}:", _table(rows))]
    if any(by_trait for by_trait, _ in divided):
        found.append("Whether a group is worse off by any measure is told under the flaws. All figures of groups are "
                     "in `report.json`.")
    return (["\n".join(own)] if own else []) + found or [
        "Whom it represents (age, sex, origin): unknown, as there are no labels that tell."]


def _making(facts):
    """Say how the set was made: settings, networks, hashes, versions, seeds."""
    settings = known.sets_of(facts).get(SET, {}).get("settings") or {}
    lines = [f"- {_plain(name)}: {_known(value)}" for name, value in settings.items()]
    made = ["Settings of the set, from its `settings.json`:", "\n".join(lines)] if lines else [
        "Settings of the set: unknown, as there is no `settings.json`."]
    entries = [f"- {term}, {name}: {_known((facts.get(key) or {}).get(name))}" for key, term, names in (
        ("face_model", "3D face model", ("name", "licence", "sha256")),
        ("generator", "generator", ("run", "weights", "sha256", "licence"))) for name in names]
    made += ["What it was made with:", "\n".join(entries)]
    judged = [f"- {_plain(term)}: {_known(value)}" for term, value in known.listed(facts)
              if not term.startswith(("3D face model", "generator"))]
    command = known.command_of(facts)
    if command:
        judged.insert(0, f"- command: {_plain(command)}")
    return [*made, "How it was judged:", "\n".join(judged) or f"{UNKNOWN}"]


def _flaws(sections):
    """List what falls short of real photos, what could not be measured, and what the measures noted."""
    flaws, unmeasured, notes = [], [], []
    for section in sections:
        notes += [f"- {_plain(section.title)}: {_plain(note)}" for note in section.notes]
        for measure in section.measures:
            verdict = judge(measure)
            own, floor = (measured(measure.figures.get(name)) for name in (SET, PHOTOS))
            if verdict.word in FLAWS:
                flaws.append(f"- {_plain(measure.name)}: {in_words(own)}, real photos {in_words(floor)}. "
                             f"{_plain(measure.meaning)} {verdict.sentence}")
            elif own is None:
                why = measure.figures[SET].why if SET in measure.figures else ""
                unmeasured.append(f"- {_plain(measure.name)}: {_plain(why or 'no figure of the set')}")
    parts = [["Worse than real photos:", "\n".join(flaws)] if flaws else
             ["No measure shows the set to be worse than real photos."] if any(s.measures for s in sections) else
             ["Unknown: nothing was measured."],
             ["Not measured:", "\n".join(unmeasured)] if unmeasured else [],
             ["Noted:", "\n".join(notes)] if notes else []]
    return [line for part in parts for line in part]


def _uses(facts):
    """Say what the embedder forbids: a set must not be judged by the network that made it."""
    return [f"Figures of identity and of leakage hold for the embedder "
            f"{_known((facts.get('embedder') or {}).get('name'))}, and no other."]


# Markdown

def _table(rows):
    """Make the Markdown table of dicts. A long one is cut, and says so."""
    rows = joined(rows)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [columns, ["---"] * len(columns), *([row.get(column) for column in columns] for row in rows[:MOST_ROWS])]
    written = "\n".join("| " + " | ".join(_known(cell) if cell is not None else "" for cell in line) + " |"
                        for line in lines)
    return written + (f"\n\nand {len(rows) - MOST_ROWS:,} more in `report.json`" if len(rows) > MOST_ROWS else "")


def _known(value):
    """Write a value from outside, UNKNOWN where there is none."""
    if value is None or value in ("", [], {}):
        return UNKNOWN
    if hasattr(value, "why"):                       # a Figure
        return in_words(value)
    if isinstance(value, (int, float)):
        return number(value)
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_known, value))
    return _plain(value if isinstance(value, str) else json.dumps(value, default=str))


def _plain(words):
    """Write `words` in a line in which Markdown and HTML see nothing but letters."""
    return re.sub(r"([\\`*_\[\]<>|#~])", r"\\\1", one_line(str(words))) if words is not None else UNKNOWN
