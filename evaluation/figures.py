"""What a judgement is made of: figures with their intervals, measures with a figure for each set, sections of these."""
import math
from typing import NamedTuple

# The sets that are judged side by side. The photos are split in two halves by identity: figures of the second half
# against the first are what a perfect set would reach, the floor.
SET, RENDERINGS, PHOTOS, PIXELS = "set", "renderings", "photos", "pixels"
LOWER, HIGHER, NEITHER = "lower", "higher", ""


class Figure(NamedTuple):
    """A number that was measured, or why it was not."""
    value: float | None
    low: float | None = None        # 95 % interval, by bootstrap over identities
    high: float | None = None
    n: int = 0                      # how many images, pairs or identities it was measured on
    why: str = ""                   # where `value` is None: a reason with the way on, "no labels: give ..."

    def as_json(self):
        """Make a dict that JSON can hold. A number that is not finite is left out, as JSON has no word for it."""
        if self.value is None:
            return {"not_measured": self.why}
        numbers = {"value": self.value, "low": self.low, "high": self.high, "n": self.n}
        return {name: number for name, number in numbers.items() if number is not None and math.isfinite(number)}

    @classmethod
    def from_json(cls, row):
        """Make the Figure that `as_json` made `row` of, a dict that may hold more."""
        return cls(row.get("value"), row.get("low"), row.get("high"), row.get("n") or 0, row.get("not_measured", ""))


class Measure(NamedTuple):
    """One measure of all sets."""
    key: str                        # its name in report.json
    name: str                       # its name for readers, with the unit; one of features names the embedder
    better: str                     # LOWER, HIGHER or NEITHER
    meaning: str                    # one plain sentence: what a reader learns from it
    figures: dict                   # {name of a set: Figure}


class Picture(NamedTuple):
    """A picture of a report."""
    key: str
    caption: str
    image: object                   # uint8 [H, W, 3], or a function that draws on the matplotlib Axes given to it


class Section(NamedTuple):
    """What belongs together in a report."""
    key: str
    title: str
    measures: list                  # of Measure
    pictures: list                  # of Picture
    notes: list                     # sentences: warnings and findings
    tables: dict                    # {name: list of dicts}: what has more than one number, such as a table by group


def not_measured(why):
    """Make the Figure of what could not be measured, with the reason `why`."""
    return Figure(None, why=why)
