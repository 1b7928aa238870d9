"""Choose the best images of a set by a score: what is known of each, which ones stay, and what that changes.

A d_score, s_score or c_score is low for a good image, a confidence is high.
"""
import hashlib
import logging
import os
from typing import NamedTuple

import numpy as np

from datasets import scores
from evaluation.choosing import calibration
from evaluation.figures import HIGHER, LOWER, SET
from evaluation.report import numbers
from utils import UserError

COMMAND = "evaluate.py filter"
CALIBRATED, CONFIDENCE = "calibrated", "confidence"     # the word for --by, and the column
KINDS = CALIBRATED, *scores.COLUMNS
MOST_UNKNOWN = .1               # share of images without a confidence, above which it is of another set
OF_A_CHOICE = "by", "keep", "threshold", "at_least", "source", "chosen"


class Rule(NamedTuple):
    """By what images are chosen."""
    by: str                     # one of KINDS
    keep: float | None          # share of the images of each identity that stay
    threshold: float | None     # the score that an image has to have, or a better one; one of the two is None
    at_least: int               # images of an identity that stay in any case

    @property
    def column(self):
        """Name the column that counts."""
        return CONFIDENCE if self.by == CALIBRATED else self.by

    @property
    def condition(self):
        """Say which images stay."""
        if self.keep is not None:
            return f"the best {self.keep:g} of each identity by {self.column}"
        return f"a {self.column} of {self.threshold:g} or {'more' if self.by == CALIBRATED else 'less'}"


# What is known of each image

def read_columns(images, by, confidences=None):
    """Read what is known of each image of Renderings -> {name of a column: float [n], nan where unknown}.

    `confidences` {name of an image: number} is None where there are none. Scores are read where the set has any; they
    have to be there where `by` names one. Raises UserError, also where the confidences are those of another set.
    """
    columns = {}
    if by != CALIBRATED or os.path.isfile(os.path.join(images.root, scores.CSV_NAME)):
        columns.update(scores.read_columns(images, "move it away to go without" if by == CALIBRATED else
                                           "choose by the confidences of evaluate.py judge (--by calibrated)"))
    if confidences is not None:
        _check_confidences(images, confidences)
        columns[CONFIDENCE] = np.array([confidences.get(name, np.nan) for name in images.names], np.float64)
    return {name: np.where(np.isfinite(values), values, np.nan) for name, values in columns.items()}


def _check_confidences(images, confidences):
    """Raise UserError where confidences are not those of the images of Renderings."""
    there = set(images.names)
    others = next((name for name in confidences if name not in there), None)
    lacking = [name for name in images.names if name not in confidences]
    if others or len(lacking) > MOST_UNKNOWN * len(there):
        odd = f"tell of {others}, which is not there" if others else (
            f"do not tell of {len(lacking)} of its {len(there)} images, such as {lacking[0]}")
        raise UserError(f"{images.root}: the confidences are of another set, or it has changed since: they {odd}; "
                        "judge it again, or name the right report's folder with --confidences")


# Choosing

def choose(images, columns, rule):
    """Choose the images of Renderings that a Rule lets stay -> their indices, sorted.

    An image without a score is the worst; a warning tells how many are. Raises UserError where none has one, and where
    no image would be left.
    """
    values = columns[rule.column]
    unknown = np.flatnonzero(np.isnan(values))
    if len(unknown) == len(values):
        way = {"c_score": "synthesize it with --pretrained_rec", CONFIDENCE: "judge it again"}.get(
            rule.column, "synthesize it again with --scores True")
        raise UserError(f"{images.root}: no image has a {rule.column}; {way}, or choose by another one (--by)")
    if len(unknown):
        logging.warning("%s: %d of %d images have no %s and count as the worst, such as %s", images.root, len(unknown),
                        len(values), rule.column, images.names[unknown[0]])
    chosen = _choose(values, images.labels, rule, rule.at_least)
    if not len(chosen):
        good = np.nanmax if rule.by == CALIBRATED else np.nanmin
        way = f"the best one is {good(values):g}: give another --threshold" if rule.keep is None else (
            "give a larger --keep")
        raise UserError(f"{images.root}: no image would be left by {rule.condition}; {way}, or --at_least 1")
    return chosen


def _choose(values, labels, rule, at_least):
    """Choose by a Rule, with another least number of images of each identity."""
    sign = 1 if rule.by == CALIBRATED else -1
    threshold = None if rule.threshold is None else sign * rule.threshold
    return calibration.choose(sign * values, labels, rule.keep, threshold, at_least)


def check_smaller(images, chosen, rule):
    """Raise UserError where all of the Renderings were chosen."""
    if len(chosen) == len(images.names):
        raise UserError(f"{images.root}: all of its {len(chosen)} images would stay by {rule.condition} (--at_least "
                        f"{rule.at_least}), so there is nothing to write; use this set as it is, or give another "
                        f"{'--threshold' if rule.keep is None else '--keep'}")


def describe(images, columns, chosen, rule):
    """Say what a choice changes -> lines: a table of numbers before and after it, and what --at_least did."""
    labels = images.labels
    before, after = (np.bincount(some, minlength=len(images.identities)) for some in (labels, labels[chosen]))
    rows = [("", "before", "after"), ("images", str(len(labels)), f"{len(chosen)} ({len(chosen) / len(labels):.1%})"),
            ("identities", str(len(before)), str((after > 0).sum())),
            ("images of an identity", _spread(before), _spread(after[after > 0]))]
    rows += [(f"mean {name} ({'high' if name == CONFIDENCE else 'low'} is good)", _mean(values), _mean(values[chosen]))
             for name, values in columns.items()]
    saved = len(chosen) - len(_choose(columns[rule.column], labels, rule, 0))
    small = int((before < rule.at_least).sum())
    notes = [f"{saved} of these images stay only because of --at_least {rule.at_least}"] if saved else []
    notes += [f"{small} identities have fewer than {rule.at_least} images, and all of theirs stay"] if small else []
    return [f"{images.root}, {rule.condition}", *_table(rows), *notes]


def _spread(counts):
    """Write the least, the median and the largest of `counts` [n]."""
    return f"{counts.min()} to {counts.max()}, median {np.median(counts):g}"


def _mean(values):
    """Write the mean of those of `values` [n] that are known."""
    known = values[~np.isnan(values)]
    return numbers.number(float(known.mean()) if len(known) else None)


def _table(rows):
    """Lay rows of words out in columns -> lines."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return ["  ".join(word.ljust(width) for word, width in zip(row, widths)).rstrip() for row in rows]


def settings_of(there, images, chosen, rule, source):
    """Collect the settings of a filtered set -> {name: JSON value}: those of its source, and what was filtered by.

    `there` are the settings of the source, and `source` is a fingerprint of its files. What an earlier filter had is
    kept under `earlier`.
    """
    listed = "\0".join(images.names[index] for index in chosen)
    kept = {name: value for name, value in there.items() if name not in (*OF_A_CHOICE, "command")}
    if "chosen" in there:
        kept["earlier"] = {name: there[name] for name in (*OF_A_CHOICE, "earlier") if name in there}
    elif "command" in there:
        kept["made_by"] = there["command"]
    limit = {"keep": rule.keep} if rule.keep is not None else {"threshold": rule.threshold}
    return {**kept, "command": COMMAND, "by": rule.by, **limit, "at_least": rule.at_least,
            "source": source, "chosen": hashlib.sha256(listed.encode(errors="surrogateescape")).hexdigest()[:16]}


# What two judgements tell

def before_and_after(report_before, report_after):
    """Print each measure of a set before and after it was filtered.

    Both are what `evaluation.report.report.load` returns: (Sections, facts).
    """
    for line in compare(report_before, report_after):
        print(line)


def compare(report_before, report_after):
    """Compare each measure of the set in two judgements -> lines of a table, after sentences on what must be known."""
    (before, facts_before), (after, facts_after) = report_before, report_after
    found = {(section.key, measure.key): measure for section in before for measure in section.measures}
    rows, seen = [("measure", "before", "after", "")], set()
    for section in after:
        for measure in section.measures:
            seen.add((section.key, measure.key))
            earlier = found.get((section.key, measure.key))
            pair = [each and each.figures.get(SET) for each in (earlier, measure)]
            if any(pair):
                rows.append((measure.name, *map(_written, pair), _verdict(measure.better, *pair)))
    rows += [(measure.name, _written(measure.figures[SET]), _written(None), "") for key, measure in found.items()
             if key not in seen and SET in measure.figures]
    return [*_doubts(facts_before, facts_after), *_table(rows)]


def _doubts(before, after):
    """List what makes two judgements hard to compare."""
    networks = [(facts.get("embedder") or {}).get("sha256") for facts in (before, after)]
    return ["The two judgements rest on different embedders: figures of their features can't be compared."
            ] if networks[0] != networks[1] else []


def _written(figure):
    """Write a Figure with its interval, in brackets."""
    if figure is None:
        return numbers.NOTHING
    value, interval = numbers.of_figure(figure)
    return f"{value} ({interval})" if interval and value != "not measured" else value


def _verdict(better, before, after):
    """Say in words which of two Figures is better."""
    if better not in (LOWER, HIGHER) or not (before and after) or None in (before.value, after.value):
        return ""
    if before.value == after.value:
        return "the same"
    word = "better" if (after.value > before.value) == (better == HIGHER) else "worse"
    ends = before.low, before.high, after.low, after.high
    if None in ends:
        return word
    return f"{word}, but the intervals overlap" if before.low <= after.high and after.low <= before.high else word
