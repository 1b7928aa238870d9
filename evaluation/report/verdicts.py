"""What a measure says of a set: where it stands between its renderings and real photos, in a word and a sentence."""
import math
from typing import NamedTuple

from evaluation.figures import HIGHER, LOWER, PHOTOS, RENDERINGS, SET

LIKE_PHOTOS = "like photos"             # at least as good as real photos, or not told apart from them
NEARER_TO_PHOTOS = "nearer to photos"
NEARER_TO_RENDERINGS = "nearer to renderings"
NO_BETTER = "no better than renderings"
WORSE = "worse than photos"             # where there are no renderings to compare with, or these are like photos too
UNDECIDED = "undecided"                 # the interval holds photos and renderings
NO_FLOOR = "no floor"                   # no real photos to compare with
NOT_MEASURED = "not measured"
PLAIN = ""                              # a figure that is neither good nor bad
# From the best to the worst, then those that say nothing.
WORDS = (LIKE_PHOTOS, NEARER_TO_PHOTOS, NEARER_TO_RENDERINGS, WORSE, NO_BETTER, UNDECIDED, NO_FLOOR, NOT_MEASURED,
         PLAIN)
FLAWS = NEARER_TO_PHOTOS, NEARER_TO_RENDERINGS, WORSE, NO_BETTER        # worse than real photos, by less or more


class Verdict(NamedTuple):
    """Where a set stands by one measure."""
    word: str                   # one of WORDS
    sentence: str               # what this means, in plain words


def judge(measure):
    """Compare the figure of the set with the floor, that of real photos, and with its renderings -> Verdict.

    Two figures are told apart where their intervals do not overlap, or their values differ and one has no interval.
    """
    figures = measure.figures
    own, floor, start = (measured(figures.get(name)) for name in (SET, PHOTOS, RENDERINGS))
    if own is None:
        why = figures[SET].why if SET in figures else ""
        return Verdict(NOT_MEASURED, _sentence(why or "there is no figure of the set"))
    if measure.better not in (LOWER, HIGHER):
        return Verdict(PLAIN, "")
    if floor is None:
        why = figures[PHOTOS].why if PHOTOS in figures else "it has no figure of real photos"
        return Verdict(NO_FLOOR, _sentence(f"nothing to compare with: {why}"))
    return _compare(own, floor, start, -1 if measure.better == LOWER else 1)


def _compare(own, floor, start, sign):
    """Compare Figures of the set, of real photos and of renderings (None: none there); `sign` -1: lower is better."""
    if sign * (own.value - floor.value) >= 0:
        return Verdict(LIKE_PHOTOS, "At least as good as real photos.")
    if overlap(own, floor):
        if start is not None and overlap(own, start) and not overlap(start, floor):
            return Verdict(UNDECIDED, "The interval reaches to photos and to renderings: more images would tell.")
        return Verdict(LIKE_PHOTOS, "The intervals overlap: no difference from photos is shown.")
    if start is None:
        return Verdict(WORSE, "Worse than real photos.")
    way = sign * (floor.value - start.value)
    if way <= 0 or overlap(start, floor):
        return Verdict(WORSE, "Worse than real photos, and the renderings are not.")
    share = sign * (own.value - start.value) / way
    if share <= 0:
        return Verdict(NO_BETTER, "As far from photos as the renderings, or farther: nothing was gained.")
    word = NEARER_TO_PHOTOS if share >= .5 else NEARER_TO_RENDERINGS
    return Verdict(word, f"{round(100 * share)} % of the way from the renderings to photos.")


def _sentence(words):
    """Make a sentence of `words`: a capital at its head, a stop at its end."""
    return words[:1].upper() + words[1:] + ("" if words.endswith((".", "!", "?")) else ".")


def measured(figure):
    """Return a Figure whose value is a number, and None for any other."""
    return figure if figure is not None and figure.value is not None and math.isfinite(figure.value) else None


def overlap(one, other):
    """Tell whether the intervals of two Figures overlap. A figure without an interval is its value alone."""
    ends = [(figure.value, figure.value) if figure.low is None or figure.high is None else (figure.low, figure.high)
            for figure in (one, other)]
    return max(low for low, _ in ends) <= min(high for _, high in ends)


def count_words(sections):
    """Count the measures of Sections by their verdicts -> {word: how many}, in the order of WORDS, PLAIN left out."""
    found = [judge(measure).word for section in sections for measure in section.measures]
    return {word: found.count(word) for word in WORDS if word and word in found}
