"""Is everybody a different person, and does each person stay the same: the section of a report that tells so."""
import logging

import numpy as np

from evaluation.figures import Figure, HIGHER, LOWER, Measure, NEITHER, not_measured, Picture, PIXELS, Section, SET
from evaluation.people import face_pairs, separation, uniqueness
from evaluation.report.numbers import title
from evaluation.subjects import at_most, measurable, measurable_rows

# Pixels separate nearly as well from this far below the embedder's AUC on. AUC rather than d': it needs no scale and no
# form of the distributions, which for pixels are wide and skewed, so that a d' of pixels and one of embeddings are not
# of one kind. Both AUC near 1 is no false alarm: then colours and background alone give most people away.
NEARLY = .02
CHANCE = .6                         # AUC up to which pixels tell hardly anybody apart, however bad the embedder is
MOST_OF_PIXELS = 50_000             # pairs of either kind: pixels are many numbers, and the AUC is sure enough
_LISTED = {"genuine_distance": ("Distance of the same person", NEITHER, "How far images of one person lie apart, on "
                                "average: less is a steadier person; near 0, all images are nearly the same."),
           "impostor_distance": ("Distance of different people", NEITHER,
                                 "How far images of different people lie apart, on average."),
           "d_prime": ("d'", HIGHER, "How many deviations the distances of different people lie above those of the "
                       "same person."),
           **{key: (title(name), *rest) for key, (name, *rest) in separation.MEASURES.items()}}
NO_STRANGERS = "no photos of real people to measure the threshold on; give --photos"
OF_EMBEDDINGS = "the threshold is one of embeddings, which pixels are not"


def judge(rows, strangers=None, embedder="", seed=0):
    """Judge the identities of Subjects -> Section.

    `rows` is {name of a row: Subject}. The features of row PIXELS are pixels of the set's images rather than
    embeddings. `strangers` is a Subject of real people who are in no row: it gives the thresholds. `embedder` names the
    network, for readers.
    """
    rows, left_out = measurable_rows(rows)
    strangers = strangers and measurable(strangers)
    separations = {row: separation.separate(subject, seed, MOST_OF_PIXELS if row == PIXELS else face_pairs.MOST)
                   for row, subject in rows.items()}
    measures = [Measure(key, _titled(name, embedder), better, meaning,
                        {row: each.figures[key] for row, each in separations.items()})
                for key, (name, better, meaning) in _LISTED.items()]
    radii = separation.thresholds(strangers, seed) if strangers else dict.fromkeys(
        separation.THRESHOLDS, not_measured(NO_STRANGERS))
    tables = {"thresholds": [{"false_accepts": far, **radius.as_json()} for far, radius in radii.items()]}
    notes = _pixel_warning(separations) + left_out
    notes += [f"{row}: measured on {len(each.pairs.same)} pairs of images, drawn at random of all"
              for row, each in separations.items() if each.pairs and each.pairs.sampled]
    for far, radius in radii.items():
        if radius.value is None and far != separation.THRESHOLDS[0]:
            notes.append(f"no threshold at {far:g} false accepts: {radius.why}")
            continue
        added, found, said = _people(rows, radius, far, embedder, seed)
        measures += added
        notes += said
        if found is not None:
            tables[f"collisions_at_{far:g}"] = found
    marks = {f"{far:g} of strangers are nearer": radius.value for far, radius in radii.items() if radius.value}
    pictures = _pictures(separations, marks)
    return Section("identity", "Is everybody a different person, and always the same?", measures, pictures, notes,
                   tables)


def threshold_of(section):
    """Find the distance within which the usual share of real strangers lies, in the Section of `judge` -> Figure."""
    row = next(row for row in section.tables["thresholds"] if row["false_accepts"] == separation.THRESHOLDS[0])
    return Figure.from_json(row)


def _titled(name, embedder):
    """Name a measure of an embedder's features."""
    return f"{name} ({embedder})" if embedder else name


def _pixel_warning(separations):
    """Warn where colours and background alone separate people nearly as well as the embedder -> list of sentences."""
    if not (PIXELS in separations and SET in separations):
        return []
    pixels, embedded = (separations[row].figures["auc"].value for row in (PIXELS, SET))
    if pixels is None or embedded is None or pixels < max(embedded - NEARLY, CHANCE):
        return []
    sentence = (f"Colour or background alone tells the people apart: AUC {pixels:.3f} by small pixels, "
                f"{embedded:.3f} by the embedder. A classifier may learn these instead of faces; vary light, colour "
                "and background within each person.")
    logging.warning("%s", sentence)
    return [sentence]


def _people(rows, radius, far, embedder, seed):
    """Measure uniqueness and consistency within a threshold -> (measures, collisions of the set or None, notes).

    `radius` is the Figure of a threshold at `far` false accepts. For measures that depend on how much there is of a
    row, all rows have as many identities, and up to as many images of each.
    """
    judged = {row: subject for row, subject in rows.items() if row != PIXELS}
    several = {row: sizes for row, subject in judged.items()
               if (sizes := np.bincount(subject.images.labels)).max(initial=0) > 1}
    images = int(min((np.median(sizes[sizes > 1]) for sizes in several.values()), default=1))
    k = min((len(subject.images.identities) for subject in judged.values()
             if len(subject.images.identities) > 1), default=1)
    keys = "uniqueness", "uniqueness_equal", "collision_rate", "consistency"
    figures, collisions, notes = {key: {} for key in keys}, None, []
    for row, subject in rows.items():
        if row == PIXELS or radius.value is None:
            why = OF_EMBEDDINGS if row == PIXELS else radius.why
            found = dict.fromkeys(keys, not_measured(why))
        else:
            literal = uniqueness.uniqueness(uniqueness.means_of(subject), radius.value, seed=seed).literal
            people = uniqueness.uniqueness(uniqueness.means_of(subject, scaled=False), radius.value, k, seed)
            found = dict(zip(keys, (literal, people.equal, people.rate, uniqueness.consistency(
                at_most(subject, images, seed), radius.value, seed))))
            if 1 < people.measured < len(subject.images.identities):
                notes.append(f"{row}: uniqueness of {people.measured} identities, drawn of "
                             f"{len(subject.images.identities)}")
            if row == SET:
                collisions = _listed(subject, people.collisions)
        for key in keys:
            figures[key][row] = found[key]
    texts = {
        "uniqueness": (f"Uniqueness U at {far:g}", HIGHER, "DCFace's: share of identities whose mean lies farther from "
                       f"all means before it than {far:g} of the images of strangers do. It is small for real people "
                       "too, and falls with the number of identities: compare sets by the next line."),
        "uniqueness_equal": (f"Unique people among {k} at {far:g}", HIGHER, "Share of people whose images are, on "
                             "average, farther from those of everybody before them than the threshold; the mean over "
                             f"all choices of {k} identities."),
        "collision_rate": (f"Colliding pairs at {far:g}", LOWER, "Share of pairs of identities whose images are, on "
                           "average, within the threshold; it does not depend on how many identities there are."),
        "consistency": (f"Consistency C at {far:g}", HIGHER, "Share of an identity's images within the threshold of "
                        f"their mean, on average (DCFace); of at most {images} images of each.")}
    return [Measure(f"{key}_at_{far:g}", _titled(name, embedder), better, meaning, figures[key])
            for key, (name, better, meaning) in texts.items()], collisions, notes


def _listed(subject, collisions):
    """List collisions as rows of a table, each with the most typical image of both identities."""
    typical = uniqueness.typical_images(subject, uniqueness.means_of(subject)) if collisions else ()
    names, identities = subject.images.names, subject.images.identities
    return [{"identity": identities[one], "other": identities[other], "distance": round(distance, 6),
             "image": names[typical[one]], "other_image": names[typical[other]]}
            for one, other, distance in collisions]


def _pictures(separations, marks):
    """Make the pictures of the section: the ROC of all rows, and the distances of each."""
    shown = {row: each for row, each in separations.items() if each.pairs is not None}
    pictures = [Picture("roc", "True accepts at each rate of false ones", separation.draw_roc(shown))] if shown else []
    return pictures + [Picture(f"distances_{row}", f"Distances within the {row}", separation.draw_distances(
        each, *(({}, "half the squared difference") if row == PIXELS else (marks,)))) for row, each in shown.items()]
