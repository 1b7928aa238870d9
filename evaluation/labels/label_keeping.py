"""Whether generated images keep the labels of their renderings: landmarks, pose, expression and light.

A generator that moves an eye or turns a head makes the labels wrong which the images carry. Each is measured on the
renderings too, whose labels are exact: what is measured there is what the measuring itself loses. And each is measured
against the labels of another view of the same identity: that is chance.
Points are those that a detector finds (evaluation.labels.face_points), in shares of a crop's sides.
"""
from typing import NamedTuple

import numpy as np

from datasets.landmarks import similarity, transform
from evaluation import bootstrap
from evaluation.distances.pixels import to_grey
from evaluation.figures import Figure, HIGHER, LOWER, Measure, not_measured, RENDERINGS, Section, SET
from evaluation.labels import known_labels

TITLE = "Are the labels kept?"
CHANCE = "another view"         # the row of labels of another image of the same identity
# Points of the detector's mesh, and of iBUG's 68, that are the same place of a face: corners of the eyes, the tip of
# the nose, corners of the mouth.
MESH_POINTS = 33, 133, 362, 263, 1, 61, 291
LANDMARKS = 36, 39, 42, 45, 30, 48, 54
MESH_EYES = (33, 133), (362, 263)
# Of the regressions: folds, principal components of what is seen, and strength of the ridge, as a share of the mean
# variance of a component.
FOLDS, COMPONENTS, STRENGTH = 5, 24, 1e-2
LEAST_IMAGES = 40               # for a regression
BRIGHTNESS_SIDE = 8             # pixels: light is told from an image that is reduced to this
MOST_PARTS = 10                 # principal components of expression's and light's labels
_NO_LABELS = "no labels of this kind beside the images; they come with renderings of gen_syn_latent.py"


class Seen(NamedTuple):
    """What is seen in the images of one set."""
    points: np.ndarray          # [n, 468, 2] the detector's, nan where it finds no face
    brightness: np.ndarray      # [n, k] of reduced images, see `reduce`


class Errors(NamedTuple):
    """Landmark errors of single images, as shares of the distance between the eyes; nan without a face or labels."""
    names: list                 # of the set's images
    own: np.ndarray             # [n] of these
    renderings: np.ndarray      # [m] of renderings, or of the set itself where there are none


def read_labels(images):
    """Read the labels that `measure` uses of Renderings -> {name: array [n, ...]}, nan where unknown.

    What no file tells is left out: landmarks, pose, expression, light. One warning tells of damaged files.
    """
    known = known_labels.read_labels(images, shapes=True)
    found = {name: known[label] for name, label in (("landmarks", "landmarks"), ("expression", "coefficients"))
             if label in known}
    for name, parts in (("pose", ("pitch", "yaw", "roll")), ("light", ("light_side", "light_height"))):
        if all(part in known for part in parts):
            found[name] = np.stack([known[part] for part in parts], 1)
    return found


def errors_of(subjects, seen):
    """Compute the landmark error of each image of the set -> Errors; None where there are no labelled landmarks.

    The arguments are those of `measure`.
    """
    if "landmarks" not in subjects[SET].labels:
        return None
    teacher = RENDERINGS if RENDERINGS in subjects and "landmarks" in subjects[RENDERINGS].labels else SET
    offsets = offsets_of(seen[teacher].points, subjects[teacher].labels["landmarks"])
    own, there = (landmark_errors(seen[row].points, subjects[row].labels["landmarks"], offsets)
                  for row in (SET, teacher))
    return Errors(subjects[SET].images.names, own, there)


def unmeasured(why):
    """Make the Section of what could not be measured, with the reason."""
    measure = Measure("landmark_error", "distance of detected points from the labelled landmarks", LOWER, "",
                      {SET: not_measured(why)})
    return Section("labels", TITLE, [measure], [], [], {})


def reduce(images):
    """Reduce uint8 images [n, S, S, 3] to their brightness, place by place -> float32 [n, BRIGHTNESS_SIDE²].

    The mean of each is 1, so that a brighter picture alone tells nothing.
    """
    count, side = len(images), images.shape[1]
    grey = to_grey(images)
    edges = np.linspace(0, side, BRIGHTNESS_SIDE + 1).round().astype(int)
    sums = np.add.reduceat(np.add.reduceat(grey, edges[:-1], 1), edges[:-1], 2)
    places = (sums / np.outer(np.diff(edges), np.diff(edges))).reshape(count, -1)
    return places / np.maximum(places.mean(axis=1, keepdims=True), 1e-3)


def measure(subjects, seen, seed=0):
    """Measure how well labels are kept -> Section.

    `subjects` {row: Subject} and `seen` {row: Seen} are of the set, and of the renderings where there are any. Labels
    are those of Subject.labels: landmarks [n, 68, 2] in shares of a crop's sides, pose [n, 3] (pitch, yaw and roll in
    radians), expression [n, m] and light [n, k]; each may be missing.
    """
    rows = {row: (subjects[row], seen[row]) for row in (SET, RENDERINGS) if row in subjects}
    measures = [_faces_found({row: (subjects[row], seen[row]) for row in subjects})]
    measures += _landmark_measures(rows, seed)
    for column, name in ((1, "yaw"), (0, "pitch")):
        measures.append(_angle_measure(rows, column, name))
    measures.append(_share_measure(rows, "expression", _shapes_of, "the shape of the detected points"))
    measures.append(_share_measure(rows, "light", lambda each: each.brightness, "the brightness of each place"))
    return Section("labels", TITLE, measures, [], [], {})


# Faces and landmarks

def _faces_found(rows):
    """Measure in which share of images a face is detected."""
    figures = {}
    for row, (subject, seen) in rows.items():
        found = _has_face(seen)
        labels = subject.images.labels
        values = bootstrap.shares(found, labels, bootstrap.counts(labels))
        figures[row] = Figure(float(found.mean()), *bootstrap.between(values), n=len(found))
    return Measure("faces_found", "images in which a face is detected", HIGHER,
                   "The other images are of no use to a program that looks for a face first.", figures)


def _landmark_measures(rows, seed):
    """Measure the distance of detected points from labelled landmarks, and from those of another view."""
    figures, others = {}, {}
    teacher, shown = rows.get(RENDERINGS) or rows[SET]
    offsets = offsets_of(shown.points, teacher.labels["landmarks"]) if "landmarks" in teacher.labels else 0.
    for row, (subject, seen) in rows.items():
        if "landmarks" not in subject.labels:
            figures[row] = others[row] = not_measured(_NO_LABELS)
            continue
        labels = subject.images.labels
        landmarks = subject.labels["landmarks"]
        figures[row] = _mean_figure(100 * landmark_errors(seen.points, landmarks, offsets), labels)
        views = landmarks[another_view(labels, seed)]
        others[row] = _mean_figure(100 * landmark_errors(seen.points, views, offsets), labels)
    name = "distance of detected points from the labelled landmarks, % of the distance between the eyes"
    return [Measure("landmark_error", name, LOWER, "How far eyes, nose and mouth lie from where the labels say. The "
                    "detector's usual offset on the renderings is taken away; their figure is what it is off besides.",
                    figures),
            Measure("landmark_error_chance", f"the same, from the landmarks of {CHANCE}", "",
                    "What labels would reach that have nothing to do with the image but its identity.", others)]


def landmark_errors(points, landmarks, offsets=0.):
    """Compute the distance of detected `points` [n, 468, 2] from `landmarks` [n, 68, 2] -> [n], nan without a face.

    It is the mean of seven points, as a share of the distance between the eyes as they are detected. `offsets` [7, 2],
    those of `offsets_of`, are taken from the detected points first.
    """
    return np.linalg.norm(_differences(points, landmarks) - offsets, axis=2).mean(axis=1)


def offsets_of(points, landmarks):
    """Compute by how much the detector's points lie elsewhere than the `landmarks` of the same name -> [7, 2].

    It is the median over the images, as a share of the distance between the eyes: the detector and the model do not
    mean quite the same places of a face.
    """
    differences = _differences(points, landmarks)
    good = np.isfinite(differences).all(axis=(1, 2))
    return np.median(differences[good], axis=0) if good.any() else 0.


def _differences(points, landmarks):
    """Subtract landmarks from the detected points of the same place -> [n, 7, 2], in distances between the eyes."""
    apart = np.linalg.norm(points[:, MESH_EYES[0]].mean(axis=1) - points[:, MESH_EYES[1]].mean(axis=1), axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (points[:, MESH_POINTS] - landmarks[:, LANDMARKS]) / apart[:, None, None]


def another_view(labels, seed=0):
    """Choose for each image another one of the same identity -> indices [n]; the image itself where there is none.

    `labels` [n] are the identities.
    """
    rng, result = np.random.default_rng(seed), np.arange(len(labels))
    for identity in np.unique(labels):
        own = rng.permutation(np.flatnonzero(labels == identity))
        result[own] = np.roll(own, 1)
    return result


# Regressions

def _angle_measure(rows, column, name):
    """Measure by how many degrees an angle that is told from the detected points differs from its label."""
    figures = {}
    for row, (subject, _) in rows.items():
        if "pose" not in subject.labels:
            figures[row] = not_measured(_NO_LABELS)
            continue
        told = _tell(rows, row, "pose", _shapes_of)
        if isinstance(told, Figure):
            figures[row] = told
            continue
        labelled = subject.labels["pose"]
        figures[row] = _mean_figure(np.degrees(np.abs(told - labelled)[:, column]), subject.images.labels)
    return Measure(f"{name}_error", f"{name}, mean difference from the label in degrees", LOWER,
                   f"The {name} is told from the detected points by a regression that learned from the renderings of "
                   "other identities.", figures)


def _share_measure(rows, label, regressors, what):
    """Measure which share of a label's variance can be told from the images: 1 is all of it, 0 is chance."""
    figures = {}
    for row, (subject, seen) in rows.items():
        if label not in subject.labels:
            figures[row] = not_measured(_NO_LABELS)
            continue
        told = _tell({row: rows[row]}, row, label, regressors)
        figures[row] = told if isinstance(told, Figure) else _share_figure(
            told, _parts(subject.labels[label], _usable(subject, seen, label)), subject.images.labels)
    return Measure(label, f"share of the variance of {label} that can be told from the image", HIGHER,
                   f"{label.capitalize()} is told from {what}, by a regression that learned from other identities of "
                   "the same set. 0 is what chance reaches.", figures)


def _tell(rows, row, label, regressors):
    """Tell a label of the images of a `row` from `regressors(Seen)` [n, k] -> its value [n, m], nan where unknown.

    A ridge regression learns from the renderings, if they are among the `rows`, else from the set itself, and always
    from other identities than those that it tells. Returns a Figure that says why, where there are too few images.
    """
    subject, seen = rows[row]
    teacher, shown = rows.get(RENDERINGS, (subject, seen))
    if label not in teacher.labels:
        teacher, shown = subject, seen
    taught = _usable(teacher, shown, label)
    names = sorted({*teacher.images.identities, *subject.images.identities})
    if taught.sum() < LEAST_IMAGES or len(names) < FOLDS:
        return not_measured(f"{taught.sum()} images with labels and a face, and {len(names)} identities: too few, "
                            f"{LEAST_IMAGES} and {FOLDS} are needed")
    fold_of = {name: number % FOLDS for number, name in enumerate(names)}
    folds, own_folds = (np.array([fold_of[each.images.identities[i]] for i in each.images.labels])
                        for each in (teacher, subject))
    x, y = regressors(shown), teacher.labels[label].astype(np.float64)
    middle, axes = x[taught].mean(axis=0), _main_axes(x[taught])
    x, own_x = (x - middle) @ axes, (regressors(seen) - middle) @ axes
    if label != "pose":
        y = _parts(y, taught)
    told = np.full([len(own_x), y.shape[1]], np.nan)
    for fold in range(FOLDS):
        learn, use = taught & (folds != fold), own_folds == fold
        if learn.sum() >= LEAST_IMAGES // 2 and use.any():
            told[use] = _ridge(x[learn], y[learn], own_x[use])
    return told


def _usable(subject, seen, label):
    """Tell which images have a face and the label -> bool [n]."""
    return _has_face(seen) & np.isfinite(subject.labels[label].reshape(subject.count, -1)).all(axis=1)


def _has_face(seen):
    """Tell in which images a face was detected -> bool [n]."""
    return np.isfinite(seen.points[:, 0, 0])


def _shapes_of(seen):
    """Turn points into regressors [n, 936]: the points laid on the mean face, without place, scale and roll.

    The three that are taken away are told too: they are the last of the columns.
    """
    good = _has_face(seen)
    result = np.full([len(good), 2 * seen.points.shape[1] + 2], np.nan)
    if good.any():
        middle = seen.points[good].mean(axis=0)
        for i in np.flatnonzero(good):
            matrix = similarity(seen.points[i], middle)
            result[i] = [*transform(matrix, seen.points[i]).ravel(), *matrix[0, :2]]
    return result


def _parts(values, usable):
    """Reduce labels [n, m] to their first principal components -> [n, at most MOST_PARTS]; their variance is kept."""
    centred = values - values[usable].mean(axis=0)
    axes = np.linalg.svd(centred[usable], full_matrices=False)[2][:MOST_PARTS]
    return centred @ axes.T


def _main_axes(x):
    """Find the COMPONENTS directions in which x [n, k] varies most -> [k, COMPONENTS]. The others are mostly noise."""
    centred = x - x.mean(axis=0)
    if len(x) < x.shape[1]:
        return np.linalg.svd(centred, full_matrices=False)[2][:COMPONENTS].T
    return np.linalg.eigh(centred.T @ centred)[1][:, -COMPONENTS:]


def _ridge(x, y, asked):
    """Fit y [n, m] to regressors x [n, k] by ridge regression, and tell it of those `asked` [p, k] -> [p, m]."""
    mean, wanted = x.mean(axis=0), y.mean(axis=0)
    gram = (x - mean).T @ (x - mean)
    gram[np.diag_indices_from(gram)] += STRENGTH * max(float(gram.trace()) / len(gram), 1e-12)
    return (asked - mean) @ np.linalg.solve(gram, (x - mean).T @ (y - wanted)) + wanted


# Figures

def _mean_figure(values, labels):
    """Make the Figure of the mean of `values` [n], of which those that are nan do not count."""
    good = np.isfinite(values)
    if not good.any():
        return not_measured("no image has both a detected face and the label")
    numbers = np.unique(labels[good], return_inverse=True)[1]
    spread = bootstrap.between(bootstrap.shares(values[good], numbers, bootstrap.counts(numbers)))
    return Figure(float(values[good].mean()), *spread, n=int(good.sum()))


def _share_figure(told, wanted, labels):
    """Make the Figure of the share of variance of `wanted` [n, m] that `told` [n, m] explains."""
    good = np.isfinite(told).all(axis=1) & np.isfinite(wanted).all(axis=1)
    if good.sum() < LEAST_IMAGES:
        return not_measured(f"{good.sum()} images with labels and a face are too few; {LEAST_IMAGES} are needed")
    missed = ((told - wanted)[good] ** 2).sum(axis=1)
    there = ((wanted[good] - wanted[good].mean(axis=0)) ** 2).sum(axis=1)
    if not there.sum() > 0:
        return not_measured("it is the same in all images")
    numbers = np.unique(labels[good], return_inverse=True)[1]
    drawn = bootstrap.counts(numbers)
    values = 1 - bootstrap.shares(missed, numbers, drawn) / bootstrap.shares(there, numbers, drawn)
    return Figure(float(1 - missed.sum() / there.sum()), *bootstrap.between(values), n=int(good.sum()))
