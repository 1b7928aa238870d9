"""Does the set show a real person: the nearest training photo of each image and identity, beside real strangers'.

A real stranger finds somebody alike among many photos too, and the nearer, the more photos there are. So each image is
compared with what real people reach who are not among the photos, with a gallery of the same size. By default they are
the training's own people, each with all photos but that person's (leave one person out).

The threshold is the distance that a share LEVEL of strangers' nearest photos is within; where there are fewer than
1 / LEVEL strangers, their least distance. Where k of n strangers are within it, so are k / (n + 1) of the images of a
set that shows nobody of the training, on average.
"""
import logging
import os
from typing import NamedTuple

import numpy as np

from datasets.image_sets import Renderings
from evaluation import bootstrap
from evaluation.figures import Figure, HIGHER, LOWER, Measure, not_measured, Picture, Section, SET
from evaluation.people.nearest import nearest, work_of
from evaluation.people.uniqueness import means_of, typical_images
from evaluation.subjects import measurable, measurable_rows, NO_IMAGES, part_of, Subject

LEVEL = 1e-3                        # share of strangers who are within the threshold
SAME = 1e-5                         # distance within which two photos are one, saved twice
MOST_WORK = 1e12                    # multiplications for a row: three minutes at 6e9 a second, measured on 2 busy cores
MOST_LISTED = 1000                  # exceedances that are listed
SHARE = "leaked_images"             # key of the measure that a gate asks for
_SHOWN = 20                         # nearest pairs that are listed, whether they exceed or not
KINDS = "images", "identities"


class Strangers(NamedTuple):
    """How near real people come to the photos of others."""
    distances: np.ndarray           # [n] of each stranger to the nearest photo, ascending
    radius: float | None            # the threshold; None where there is nobody
    expected: float                 # share of other strangers within it
    pair: tuple                     # (number of the stranger, number of the photo) at this distance
    copies: int                     # people left out: the same photo is in the gallery under another name


class Leaks(NamedTuple):
    """What a set leaks."""
    section: Section
    shown: dict                     # {name of an image: whether it is within the threshold}, of the set as compared

    @property
    def share(self):
        """The share of the set's images that show a real person, as far as distances tell: a Figure, for a gate."""
        return next(measure.figures[SET] for measure in self.section.measures if measure.key == SHARE)


def judge(rows, training, strangers=None, embedder="", seed=0):
    """Judge how near Subjects come to real people whom the generator has seen -> Leaks.

    `rows` is {name of a row: Subject} and `training` a Subject of the training photos. `strangers` is a Subject of real
    people who are not among them; None takes the training's own people, one left out at a time. Of strangers, and of
    rows other than SET, that lie in the training's own folder, nobody is compared with photos of the same name.
    """
    (rows, notes), training = measurable_rows(rows), measurable(training)
    strangers, tables, found, shown = strangers and measurable(strangers), {}, {}, {}
    figures = {key: {} for key in (*(f"leaked_{kind}" for kind in KINDS), "nearest_photo")}
    for kind in KINDS:
        people = _affordable(_seen_as(kind, strangers or training), training, seed)
        found[kind] = find_strangers(people, training)
        notes += _about(kind, found[kind], people, training)
    for row, subject in rows.items():
        for kind in KINDS:
            whole = _seen_as(kind, subject)
            each = _affordable(whole, training, seed)
            if each is not whole:
                notes.append(f"{row}: {each.count} of {whole.count} {kind} were compared with {training.count} photos, "
                             "drawn at random: all would take too long")
            distances, photos = nearest(each.features, training.features, *(
                (None, None) if row == SET else _numbers(each, training)))
            figures[f"leaked_{kind}"][row] = _share(distances, found[kind].radius, each.images.labels, seed)
            if kind == "images":
                figures["nearest_photo"][row] = _median(distances, each.images.labels, seed)
            if row == SET:
                tables |= _pairs(kind, each, training, (distances, photos), found[kind].radius)
                if kind == "images" and found[kind].radius is not None:
                    shown = dict(zip(each.images.names, (distances <= found[kind].radius).tolist()))
    section = Section("leakage", "Does it show a real person?", _measures(figures, found, embedder), _pictures(
        tables.pop("distances", None), found["images"]), _findings(figures, found) + notes, tables)
    return Leaks(section, shown)


def find_strangers(people, training):
    """Find how near real `people` come to the `training` photos of others, both Subjects -> Strangers."""
    distances, photos = nearest(people.features, training.features, *_numbers(people, training))
    there = np.flatnonzero(np.isfinite(distances) & (distances > SAME))
    copies = int((distances <= SAME).sum())
    if not len(there):
        return Strangers(np.empty(0), None, 0., (), copies)
    order = there[np.argsort(distances[there], kind="stable")]
    place = max(round(LEVEL * len(order)), 1)
    last = order[place - 1]
    within = int((distances[order] <= distances[last]).sum())       # of a pair of strangers, either finds the other
    return Strangers(distances[order], float(distances[last]), within / (len(order) + 1),
                     (int(last), int(photos[last])), copies)


def _seen_as(kind, subject):
    """Return a Subject for its images; for its identities, one with the mean embedding of each as its only image.

    This image is named after the one that is nearest to the mean.
    """
    if kind == "images":
        return subject
    means, images = means_of(subject), subject.images
    names = [images.names[i] for i in typical_images(subject, means)]
    return Subject(subject.name, Renderings(images.root, names, np.arange(len(names), dtype=np.int32),
                                            images.identities), means, {})


def _affordable(subject, training, seed):
    """Choose as many images of a Subject at random as can be compared with all photos -> Subject; itself, if all."""
    work = work_of(subject.features, training.features)
    if work <= MOST_WORK:
        return subject
    count = max(int(subject.count * MOST_WORK / work), 1)
    return part_of(subject, np.sort(np.random.default_rng(seed).choice(subject.count, count, replace=False)))


def _numbers(subject, training):
    """Number the people of a Subject and of the training photos -> (own [n], owners [G]), as `nearest` takes them.

    One number stands for one folder. Subjects of different folders share nobody: (None, None).
    """
    if os.path.realpath(subject.images.root) != os.path.realpath(training.images.root):
        return None, None
    places = {identity: number for number, identity in enumerate(training.images.identities)}
    numbers = np.array([places.get(identity, -1) for identity in subject.images.identities])
    return numbers[subject.images.labels], training.images.labels


# Figures

def _share(distances, radius, labels, seed):
    """Measure the share of `distances` [n] within the threshold `radius` -> Figure."""
    if radius is None:
        return not_measured("no real strangers to compare with; give training photos of at least two people")
    if not len(distances):
        return not_measured(NO_IMAGES)
    within = distances <= radius
    return Figure(float(within.mean()), *bootstrap.around_mean(within, labels, seed), len(within))


def _median(distances, labels, seed):
    """Measure the median of `distances` [n] -> Figure."""
    if not len(distances):
        return not_measured(NO_IMAGES)
    if not np.isfinite(distances).all():
        return not_measured("no photos of other people to compare with; give training photos of at least two")
    order = np.argsort(distances)
    middles = []
    for times in bootstrap.counts(labels, seed=seed) if len(np.unique(labels)) > 1 else ():
        upto = np.cumsum(times[labels[order]])
        middles.append(distances[order[np.searchsorted(upto, upto[-1] / 2)]])
    return Figure(float(np.median(distances)), *bootstrap.between(middles), len(distances))


def _measures(figures, found, embedder):
    """Name the figures {key: {row: Figure}} -> list of Measure."""
    title = f" ({embedder})" if embedder else ""
    return [*(Measure(f"leaked_{kind}", f"{kind.capitalize()} nearer to a training photo than strangers{title}", LOWER,
                      f"Share of {kind} that lie nearer to a photo the generator was trained on than real strangers do"
                      f"; {found[kind].expected:.2%} is chance.", figures[f"leaked_{kind}"]) for kind in KINDS),
            Measure("nearest_photo", f"Distance to the nearest training photo{title}", HIGHER,
                    "The median over images; real strangers show what it is without any leak.",
                    figures["nearest_photo"])]


def _about(kind, strangers, people, training):
    """Say what the threshold of `kind` is -> list of sentences."""
    notes = []
    if strangers.radius is not None:
        one, photo = strangers.pair
        notes.append(f"threshold of {kind}: {strangers.radius:.4f}, the distance that {strangers.expected:.2%} of real "
                     f"strangers come within ({len(strangers.distances)} measured, each against the photos of others). "
                     f"{people.images.names[one]} and {training.images.names[photo]} lie at this distance; if they "
                     "show one person, put them into one folder and judge again")
    if strangers.copies:
        notes.append(f"{strangers.copies} {kind} of strangers were left out: the same photo is a training photo under "
                     "another name")
    return notes


def _findings(figures, found):
    """Say what the set leaks -> list of sentences, also as warnings."""
    notes = []
    for kind in KINDS:
        figure = figures[f"leaked_{kind}"].get(SET)
        if figure and figure.value and figure.low is not None and figure.low > found[kind].expected:
            notes.append(f"{figure.value:.2%} of the {kind} are nearer to a training photo than real strangers are, "
                         f"where {found[kind].expected:.2%} is chance: look at these pairs, and do not publish images "
                         "that show a real person")
            logging.warning("%s", notes[-1])
    return notes


def _pairs(kind, subject, training, nearest_photos, radius):
    """List the images of a Subject with their nearest photos -> tables: those within `radius`, and the nearest."""
    distances, photos = nearest_photos
    order = np.argsort(distances, kind="stable")
    within = int((distances <= radius).sum()) if radius is not None else 0
    rows = [{"image": subject.images.names[i], "photo": training.images.names[photos[i]],
             "distance": round(float(distances[i]), 6)} for i in order[:max(min(within, MOST_LISTED), _SHOWN)]]
    tables = {f"exceeding_{kind}": rows[:min(within, MOST_LISTED)], f"nearest_{kind}": rows[:_SHOWN]}
    return tables | ({"distances": distances} if kind == "images" else {})


def _pictures(distances, strangers):
    """Make the picture of the distances of the set's images and of strangers to their nearest photos -> list."""
    if distances is None or not len(distances) or strangers.radius is None:
        return []
    edges = np.linspace(0, max(distances.max(), strangers.distances[-1]), 61)
    heights = {"images": np.histogram(distances, edges, density=True)[0],
               "real strangers": np.histogram(strangers.distances, edges, density=True)[0]}

    def draw(axes):
        """Draw the histograms on `axes`."""
        for name, height in heights.items():
            axes.stairs(height, edges, fill=True, alpha=.5, label=name)
        axes.axvline(strangers.radius, linestyle="--", color="black", linewidth=1, label="threshold")
        axes.set_xlabel("distance to the nearest training photo (1 - cosine)")
        axes.set_yticks([])
        axes.legend()

    return [Picture("nearest_photos", "How near images come to training photos, beside real strangers", draw)]
