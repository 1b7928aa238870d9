"""Which images are good, as far as that was measured, and how many beside those of real photos.

An image is good if all parts are true that could be measured: see PARTS.
"""
from typing import NamedTuple

import numpy as np

from evaluation import bootstrap
from evaluation.choosing import calibration
from evaluation.distances import detail, neighbours
from evaluation.figures import Figure, HIGHER, Measure, not_measured, PHOTOS, SET
from evaluation.people.nearest import nearest
from evaluation.people.uniqueness import distances_to_means, means_of
from evaluation.subjects import balanced, part_of

OWN, AMONG, DETAILED, LABELS = "own", "among", "detailed", "labels"
MOST_PHOTOS = 10_000        # that each image is compared with
# {key: (name, what it means for an image, sentence for readers)}
PARTS = {
    OWN: ("shows its identity", "images that show their identity",
          "The embedding is nearer to the mean of its own identity than to that of any other."),
    AMONG: ("lies among photos", "images that lie among photos",
            "The embedding lies among those of photos, as precision has it. Blur does not harm it."),
    DETAILED: ("is as detailed as photos", "images as detailed as photos",
               f"On both finer scales, the amount of detail is in the range of {detail.USUAL:.0%} of photos: neither "
               "blur nor noise."),
    LABELS: ("keeps its labels", "images that keep their labels",
             f"The landmarks are as near to the labels as {calibration.WORST_LABELS:.0%} of the renderings' are.")}


class Photos(NamedTuple):
    """What images are compared with."""
    features: np.ndarray        # float32 [m, E]
    radii: np.ndarray | None    # [m] of the balls that precision has around photos; None where these are too few
    usual: detail.Usual | None  # the detail of photos; None where images are too small


class Seen(NamedTuple):
    """What is known of each image of one row."""
    parts: dict                 # {key of PARTS: bool [n]}, without those that could not be measured
    scores: dict                # {name: [n]}, higher is better, nan where unknown
    labels: np.ndarray          # [n] identities

    @property
    def good(self):
        """Tell for which images all parts are true: bool [n]."""
        return np.logical_and.reduce(list(self.parts.values()))


def photos_of(subject, amounts=None):
    """Collect what images are compared with of a Subject of photos -> Photos.

    Of more than MOST_PHOTOS photos, as many are chosen evenly over people, so that many images do not take hours.
    `amounts` are those of `evaluation.distances.detail`; without them, detail is not measured.
    """
    chosen = part_of(subject, balanced(subject.images.labels, MOST_PHOTOS))
    try:
        radii, = neighbours.squared_radii(chosen.features, chosen.images.labels, neighbours.DENSITY_K)
    except ValueError:                                      # too few photos
        radii = None
    return Photos(chosen.features, radii, None if amounts is None else detail.usual_of(amounts))


def look(subject, photos, amounts=None):
    """Measure which images of a Subject show their identity and look like Photos -> Seen.

    `amounts` are as in `photos_of`.
    """
    means, labels = means_of(subject), subject.images.labels
    own = distances_to_means(subject, means)
    others, _ = nearest(subject.features, means, labels, np.arange(len(means)))
    parts = {OWN: own < others}
    scores = {"near its identity": -own, "far from other identities": np.where(np.isfinite(others), others, np.nan),
              "near to photos": -nearest(subject.features, photos.features)[0]}
    if photos.radii is not None:
        parts[AMONG] = neighbours.lie_among(subject.features, photos.features, photos.radii)
    if amounts is not None and photos.usual is not None:
        odd = detail.oddness(amounts, photos.usual)
        parts[DETAILED], scores["as detailed as photos"] = odd <= 1, -odd
    return Seen(parts, scores, labels)


def measures(rows, known):
    """Measure the share of good images, and the share for each part -> list of Measure.

    `rows` is {name of a row: Seen}. `known` [n] bool tells of which images of SET all parts are known.
    """
    found, labelled = [], LABELS in rows[SET].parts
    figures = {SET: _share(rows[SET].good, rows[SET].labels, known)}
    for row in (name for name in rows if name != SET):
        why = "photos have no labels to keep" if row == PHOTOS else "their landmarks are what labels are measured by"
        figures[row] = not_measured(why) if labelled else _share(rows[row].good, rows[row].labels)
    found.append(Measure("good_images", "share of good images", HIGHER,
                         f"An image is good if it {', '.join(PARTS[key][0] for key in rows[SET].parts)}.", figures))
    for key, part in rows[SET].parts.items():
        figures = {row: _share(seen.parts[key], seen.labels) for row, seen in rows.items() if key in seen.parts}
        if key == LABELS:
            figures = {SET: _share(part, rows[SET].labels, known), PHOTOS: not_measured("photos have no labels")}
        found.append(Measure(f"good_{key}", f"share of {PARTS[key][1]}", HIGHER, PARTS[key][2], figures))
    return found


def _share(good, labels, known=None):
    """Measure the share of `good` [n] among the images that are `known` [n] bool -> Figure."""
    if known is not None:
        good, labels = good[known], labels[known]
    if not len(good):
        return not_measured("no image was measured")
    return Figure(float(good.mean()), *bootstrap.around_mean(good, labels), n=len(good))
