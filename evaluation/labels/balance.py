"""Whom a set represents, and whether it does as well by each group: counts by group, and any measure by group."""
import itertools
import logging
from typing import NamedTuple

import numpy as np

from evaluation import bootstrap
from evaluation.figures import Figure, HIGHER, LOWER, NEITHER, not_measured, Picture, Section
from evaluation.labels.known_labels import EXPRESSIONS, ORIGIN, OTHER, WORDS
from evaluation.people.nearest import nearest
from evaluation.people.uniqueness import distances_to_means, means_of
from evaluation.subjects import part_of

AGES = 18, 30, 45, 60               # years at which groups of ages begin
TURNED = 15, 30, 45                 # degrees of yaw to either side at which groups of poses begin
LIFTED = 10                         # degrees of pitch from which a head looks up or down
ASIDE = 20                          # degrees from which light comes from a side
PLAIN = .6                          # share of one origin, or of one sex, from which a person is counted there
LEAST = 10                          # identities that a group needs for a measure: fewer give no interval to rely on
BETWEEN, MIXED = "between", "mixed"
OF_PEOPLE = "age", "sex", "origin"   # traits of which a group without anybody is told
NO_LABELS = "no labels of the images are known; keep latents.npz beside them"


class Groups(NamedTuple):
    """How one trait divides images."""
    title: str                      # for readers
    names: list                     # of the groups
    codes: np.ndarray               # int [n] the group of each image, -1 where it is unknown


def find_groups(subject):
    """Divide a Subject's images by what its labels tell -> {trait: Groups}.

    A trait of which nothing is known is left out.
    """
    labels, found = subject.labels, {}
    if "age" in labels:
        names = [f"under {AGES[0]}", *(f"{low} to {high - 1}" for low, high in itertools.pairwise(AGES)),
                 f"{AGES[-1]} and over"]
        found["age"] = Groups("Age", names, _cut(labels["age"], AGES))
    if "female" in labels:
        codes = 2 - _cut(labels["female"], (1 - PLAIN, PLAIN))
        found["sex"] = Groups("Sex", ["female", BETWEEN, "male"], _known(codes, labels["female"]))
    origins = [name for name in labels if name.startswith(ORIGIN)]
    if origins:
        shares = np.stack([labels[name] for name in origins], 1)
        unknown = np.isnan(shares).any(axis=1)
        codes = np.where(np.nan_to_num(shares).max(axis=1) < PLAIN, len(origins), np.nan_to_num(shares).argmax(axis=1))
        names = [name.removeprefix(ORIGIN) for name in origins] + [MIXED]
        found["origin"] = Groups("Origin", names, np.where(unknown, -1, codes))
    if "yaw" in labels:
        between = [f"{low} to {high} degrees" for low, high in itertools.pairwise(TURNED)]
        names = [f"up to {TURNED[0]} degrees", *between, f"over {TURNED[-1]} degrees"]
        found["yaw"] = Groups("Turned to a side (yaw)", names, _cut(np.abs(np.degrees(labels["yaw"])), TURNED))
    for trait, title, label, names, edge in (
            ("pitch", "Looking up or down (pitch)", "pitch", ["down", "level", "up"], LIFTED),
            ("light", "Light", "light_side", ["from the left", "from the front", "from the right"], ASIDE)):
        if label in labels:
            found[trait] = Groups(title, names, _cut(np.degrees(labels[label]), (-edge, edge)))
    for trait in WORDS:
        if trait in labels:
            usual = [*EXPRESSIONS.values(), OTHER] if trait == "expression" else []
            names = usual + sorted(set(labels[trait].tolist()) - {"", *usual})
            numbers = {name: number for number, name in enumerate(names)}
            codes = np.array([numbers.get(word, -1) for word in labels[trait].tolist()])
            found[trait] = Groups(trait.capitalize(), names, codes)
    if "expression" not in found and "expression_strength" in labels:
        strength = labels["expression_strength"]
        edges = np.nanquantile(strength, (1 / 3, 2 / 3)) if np.isfinite(strength).any() else (0, 1)
        found["expression"] = Groups("Expression", ["weakest third", "middle third", "strongest third"],
                                     _cut(strength, edges))
    return {trait: groups for trait, groups in found.items() if (groups.codes >= 0).any()}


def _cut(values, edges):
    """Find between which of ascending `edges` each of `values` [n] lies -> 0 to len(edges), -1 for nan."""
    return _known(np.digitize(np.nan_to_num(values), edges), values)


def _known(codes, values):
    """Return `codes` [n], with -1 where `values` [n] are nan."""
    return np.where(np.isnan(values), -1, codes)


# Counts

def count(subject, groups):
    """Count the images and identities of each group -> list of dicts, the unknown ones last where there are any.

    Shares are of all images and identities whose group is known. An identity counts in each group that it has an image
    of.
    """
    labels, rows = subject.images.labels, []
    known = groups.codes >= 0
    totals = int(known.sum()), len(np.unique(labels[known]))
    for code, name in [*enumerate(groups.names), (-1, "unknown")]:
        own = groups.codes == code
        images, people = int(own.sum()), len(np.unique(labels[own]))
        if code >= 0:
            rows.append({"group": name, "images": images, "share": round(images / totals[0], 4), "identities": people,
                         "share_of_identities": round(people / totals[1], 4)})
        elif images:
            rows.append({"group": name, "images": images, "identities": people})
    return rows


# Measures by group

def by_group(subject, groups, measure, better=NEITHER, seed=0):
    """Apply a measure to the images of each group, and to all others -> list of dicts, a row for each group.

    `measure(part)` makes a Figure, with its interval, of a Subject. A row has the `group`, its `figure`, `rest`, that
    of the others, and `worse`: whether its interval lies wholly on the worse side of the others'. `better` is HIGHER or
    LOWER; with NEITHER none is worse. Two disjoint 95 % intervals are a cautious test, as there are many groups.
    Measures may depend on how many identities there are, so no more of the others are taken than the group has, at
    random. A group of fewer than LEAST identities is not measured.
    """
    return _compare(subject.images.labels, groups, lambda own: measure(part_of(subject, own)), better, seed)


def means_by_group(values, labels, groups, better=NEITHER, seed=0):
    """Compute the mean of `values` [n], one of each image, for each group and for all others -> as `by_group`.

    `labels` [n] tells the identity of each image. Values that are nan are left out.
    """
    values, labels = np.asarray(values, np.float64), np.asarray(labels)

    def mean(own):
        """Compute the mean over the images `own` -> Figure."""
        own = own[np.isfinite(values[own])]
        if not len(own):
            return not_measured("no image of this group has a value")
        return Figure(float(values[own].mean()), *bootstrap.around_mean(values[own], labels[own], seed), len(own))

    return _compare(labels, groups, mean, better, seed)


def _compare(labels, groups, measure, better, seed):
    """Make the rows of `by_group`, where `measure` takes the indices of images."""
    rng, rows = np.random.default_rng(seed), []
    for code, name in enumerate(groups.names):
        own, rest = np.flatnonzero(groups.codes == code), np.flatnonzero((groups.codes >= 0) & (groups.codes != code))
        if not len(own):
            continue
        people, others = np.unique(labels[own]), np.unique(labels[rest])
        if len(others) > len(people):
            others = rng.choice(others, len(people), replace=False)
            rest = rest[np.isin(labels[rest], others)]
        figure = measure(own) if len(people) >= LEAST else not_measured(
            f"{len(people)} identities, and a group needs {LEAST}; make more of them")
        compared = measure(rest) if len(others) >= LEAST else not_measured("too few identities outside this group")
        rows.append({"group": name, "figure": figure, "rest": compared, "worse": _is_worse(figure, compared, better)})
    return rows


def _is_worse(figure, rest, better):
    """Tell whether the interval of a Figure lies wholly on the worse side of that of `rest`."""
    if not better or None in (figure.low, figure.high, rest.low, rest.high):
        return False
    return figure.low > rest.high if better == LOWER else figure.high < rest.low


# The section

def judge(subject, measures=None, values=None, seed=0):
    """Judge whom a Subject represents, and whether its people are as distinct and as steady in each group -> Section.

    `measures` is {key: (name for readers, better, measure)} of more measures, as `by_group` takes them, and `values`
    {key: (name, better, array [n])} of more numbers of each image, as `means_by_group` does. Tables are named after the
    trait: counts in `age`, a measure in `age: KEY`.
    """
    groups, tables, notes, pictures = find_groups(subject), {}, [], []
    values = {**(own_values(subject) if groups else {}), **(values or {})}
    for trait, each in groups.items():
        tables[trait] = count(subject, each)
        pictures.append(Picture(f"balance_{trait}", each.title, draw_counts(tables[trait])))
        empty = [row["group"] for row in tables[trait] if not row["images"] and row["group"] not in (BETWEEN, MIXED)]
        if empty and trait in OF_PEOPLE:
            notes.append(f"{each.title}: nobody is {' or '.join(empty)}")
        compared = {key: (name, by_group(subject, each, measure, better, seed))
                    for key, (name, better, measure) in (measures or {}).items()}
        compared |= {key: (name, means_by_group(array, subject.images.labels, each, better, seed))
                     for key, (name, better, array) in values.items()}
        for key, (name, rows) in compared.items():
            tables[f"{trait}: {key}"] = [{"measure": name, "group": row["group"], **row["figure"].as_json(),
                                          "rest": row["rest"].value, "worse": row["worse"]} for row in rows]
            worse = [f"{row['group']} ({row['figure'].value:.3g}, others {row['rest'].value:.3g})" for row in rows
                     if row["worse"]]
            if worse:
                notes.append(f"{name} is clearly worse by {each.title.lower()}: {', '.join(worse)}")
                logging.warning("%s", notes[-1])
    return Section("balance", "Whom does it represent?", [], pictures, notes if groups else [NO_LABELS], tables)


def own_values(subject):
    """Measure how distinct and how steady each image's identity is -> `values` as `judge` takes them.

    Both are found among all images before these are divided. So a group is not less distinct for the reason alone that
    its people are compared among themselves, where all are of one age or sex.
    """
    embedded = np.flatnonzero(np.isfinite(subject.features).all(axis=1))
    part = part_of(subject, embedded)
    means = means_of(part)
    numbers = np.arange(len(means))
    apart = nearest(means, means, numbers, numbers)[0]
    apart[np.isinf(apart)] = np.nan                             # of a single identity
    distinct, steady = np.full((2, subject.count), np.nan)
    distinct[embedded], steady[embedded] = apart[part.images.labels], distances_to_means(part, means)
    return {"nearest_identity": ("Distance to the nearest other identity", HIGHER, distinct),
            "distance_to_mean": ("Distance of images to the mean of their identity", LOWER, steady)}


def draw_counts(rows):
    """Make the function that draws the table `count` made as bars on matplotlib's Axes."""
    def draw(axes):
        """Draw a bar for each group on `axes`, the first one on top."""
        names = [row["group"] for row in rows]
        axes.barh(names, [row["images"] for row in rows])
        axes.invert_yaxis()
        axes.set_xlabel("images")

    return draw
