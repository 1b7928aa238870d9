"""A judgement: sets are read and embedded, each section measures them, and what is found becomes a report."""
import logging
import os
import time
from typing import NamedTuple

import numpy as np

import utils
from datasets.image_sets import columns_for, LABELS, places_of, Renderings
from datasets.images import BrokenImage, load_image
from engine import runs
from engine.checkpoint_index import fingerprint
from evaluation.choosing import calibration, goodness
from evaluation.distances import detail, patches, pixels, realism
from evaluation.embedding import sha256_of
from evaluation.figures import HIGHER, LOWER, NEITHER, not_measured, PHOTOS, PIXELS, RENDERINGS, SET
from evaluation.judged_sets import check_several, settings_in, SIDE, side_of, weights_of
from evaluation.labels import balance, face_points, label_keeping
from evaluation.labels.known_labels import read_labels
from evaluation.people import identity, leakage, separation, uniqueness
from evaluation.report.illustrations import illustrate
from evaluation.subjects import balanced, halves, measurable, part_of, Subject
from utils import progress_bar, UserError

MOST_SEEN = 2000                # images of a set in which faces and labels are looked for
MOST_PIXELS = 5000              # images of a set whose bare pixels are compared
PIXEL_SIDE = 27                 # pixels of a side, of bare pixels
DETAIL_SIDE = 128               # pixels of a side, at most, at which the detail of images is measured
CHUNK = 256                     # images that are read at a time for it


class Judgement(NamedTuple):
    """What was found."""
    sections: list                  # of Section, in the order of the report
    confidences: np.ndarray | None  # [n] of the subject's images, None where they could not be had
    subject: Subject                # the judged set, without images that can't be read
    gallery: Renderings             # the photos that its images were compared with for leakage
    leaked: object                  # Figure: share of images that show one of these photos

    def illustrated(self, seed):
        """Add pictures of the images -> the sections."""
        scores = {} if self.confidences is None else {"confidence": self.confidences}
        return illustrate(self.sections, self.subject.images, self.gallery, scores, seed)

    def confidences_of(self, names):
        """List the confidences of images by their `names` -> [n]; nan for those that can't be read, or all are nan."""
        known = {} if self.confidences is None else dict(zip(self.subject.images.names, self.confidences))
        return np.array([known.get(name, np.nan) for name in names])


class Judge:
    """Measures the sets of a judgement. A section that needs what another one found is given it."""

    def __init__(self, sets, embedder, workers, cache, seed=0):
        """Embed all images of Sets by an embedding.SetEmbedder. `workers` processes look for faces.

        The file `cache` keeps the points of faces that they find.
        """
        self._embedder, self._workers, self._cache, self._seed = embedder, workers, cache, seed
        embedder.place_alike(sets.there)
        read = {each.root: self._read(each) for each in sets.there}
        subject, photos = read[sets.judged.root], read[sets.photos.root]
        check_several(sets.judged.root, subject.images.identities)          # some may have had broken images only
        check_several(sets.photos.root, photos.images.identities, photos=True)
        self._scores = columns_for(sets.scores or {}, sets.judged, subject.images)
        self._subject = subject._replace(labels=read_labels(subject.images))
        self._first, self._second = halves(photos, seed)
        self._training = read[sets.training.root] if sets.training else None
        self._rows = {SET: self._subject, **({RENDERINGS: read[sets.renderings.root]} if sets.renderings else {}),
                      PHOTOS: self._second}

    def _read(self, images):
        """Embed Renderings -> Subject, without the images that can't be read. Raises UserError where none is left."""
        logging.info("%s: embedding %d images", images.root, len(images.names))
        subject = measurable(Subject(images.root, images, self._embedder.embed(images), {}))
        if not subject.count:
            raise UserError(f"{images.root}: none of its images can be decoded; replace them")
        return subject

    def judge(self):
        """Measure everything -> Judgement."""
        identities = self._identity()
        found = [self._realism(), identities]
        labels, errors = self._labels()
        leaks = self._leakage()
        confidence, values, parts = self._confidence(errors)
        within = identity.threshold_of(identities)
        found += [labels, leaks.section, self._balance(values, parts, errors, within, leaks), confidence]
        _without_floor(labels, "photos have no labels")
        _without_floor(leaks.section, "the other photos tell how near strangers come, which is the chance "
                       "that is named")
        _without_floor(confidence, "real photos were not given a confidence")
        gallery = self._first if self._training is None else self._training
        return Judgement(found, values, self._subject, gallery.images, leaks.share)

    # The sections

    def _realism(self):
        """Measure how real the images look -> Section."""
        logging.info("measuring: realism")
        everything = {**self._rows, realism.REFERENCE: self._first}
        side = min(SIDE, *(side_of(each.images) for each in everything.values()))
        images = {name: _reader(each.images, side) for name, each in everything.items()}
        degraded = {name: self._degraded(each.images) for name, each in everything.items()}
        return realism.measure(self._rows, self._first, images, self._embedder.name, self._seed, degraded)

    def _degraded(self, images):
        """Make the function that embeds shrunken and recompressed copies of images by their indices."""
        read = _reader(images, self._embedder.side_for(images))

        def embed(indices):
            return self._embedder.embed_pixels(pixels.degrade(read(indices)), images, indices)
        return embed

    def _identity(self):
        """Measure whether everybody is a different person, and always the same -> Section."""
        logging.info("measuring: identity")
        chosen = part_of(self._subject, balanced(self._subject.images.labels, MOST_PIXELS, self._seed))
        bare = _reader(chosen.images, PIXEL_SIDE)(range(chosen.count)).reshape(chosen.count, -1).astype(np.float32)
        bare -= bare.mean(axis=1, keepdims=True)
        bare /= np.maximum(np.linalg.norm(bare, axis=1, keepdims=True), 1e-6)
        rows = {**self._rows, PIXELS: chosen._replace(features=bare)}
        return identity.judge(rows, self._first, self._embedder.name, self._seed)

    def _labels(self):
        """Measure whether images keep their labels, on some of them -> (Section, label_keeping.Errors or None)."""
        logging.info("measuring: labels")
        missing = face_points.missing()
        if missing:
            return label_keeping.unmeasured(missing), None
        rows, seen = {}, {}
        for name, row in self._rows.items():
            row = part_of(row, balanced(row.images.labels, MOST_SEEN, self._seed))
            rows[name] = row._replace(labels=label_keeping.read_labels(row.images))
            points = face_points.find(row.images, self._workers, self._cache)
            bright = label_keeping.reduce(_reader(row.images, SIDE)(range(row.count)))
            seen[name] = label_keeping.Seen(points, bright)
        section = label_keeping.measure(rows, seen, self._seed)
        if rows[SET].count < self._subject.count:
            section.notes.append(f"Measured on {rows[SET].count} of {self._subject.count} images, chosen evenly over "
                                 "identities.")
        return section, label_keeping.errors_of(rows, seen)

    def _leakage(self):
        """Measure whether the set shows somebody of the training photos -> leakage.Leaks."""
        logging.info("measuring: leakage")
        if self._training is not None:
            return leakage.judge(self._rows, self._training, None, self._embedder.name, self._seed)
        # The second half of the photos can't show how near strangers come where they say what that is.
        rows = {name: row for name, row in self._rows.items() if name != PHOTOS}
        leaks = leakage.judge(rows, self._first, self._second, self._embedder.name, self._seed)
        leaks.section.notes.insert(0, "The training photos were not named (--train_photos): the first half of --photos "
                                   "stands for them.")
        return leaks

    def _confidence(self, errors):
        """Turn scores into the probability that an image is good -> (Section, [n] or None, {part of goodness: [n]}).

        `errors` are the label_keeping.Errors of some images, or None. The [n] are of the subject's images; the second
        is None where there is none.
        """
        logging.info("measuring: confidence")
        subject = self._subject
        amounts = self._detail()
        photos = goodness.photos_of(self._first, amounts.get(realism.REFERENCE))
        rows = {name: goodness.look(row, photos, amounts.get(name)) for name, row in self._rows.items()}
        seen, known = rows[SET], np.ones(subject.count, bool)
        if errors is not None:
            measured = places_of(subject.images.names, errors.names)
            known, kept = np.zeros((2, subject.count), bool)
            known[measured], kept[measured] = True, calibration.keeps_labels(errors.own, errors.renderings)
            seen.parts[goodness.LABELS] = kept
        scores = {**{name: -values for name, values in self._scores.items()}, **seen.scores}
        parts = {goodness.PARTS[key][0]: part for key, part in seen.parts.items()}
        try:
            found = calibration.confidences(scores, seen.good, subject.images.labels, self._seed, known, parts)
            section, values = found.section, found.values
        except ValueError as problem:
            section, values = calibration.unmeasured(str(problem)), None
        section.measures.extend(goodness.measures(rows, known))
        return section, values, {key: np.where(known | (key != goodness.LABELS), part, np.nan)
                                 for key, part in seen.parts.items()}

    def _detail(self):
        """Measure the detail of all images -> {row: what detail.amounts returns}; {} where images are too small."""
        everything = {**self._rows, realism.REFERENCE: self._first}
        side = min(DETAIL_SIDE, *(side_of(each.images) for each in everything.values()))
        if side < patches.SMALLEST:
            return {}
        found = {}
        with progress_bar("image", sum(each.count for each in everything.values())) as progress:
            for name, each in everything.items():
                read, found[name] = _reader(each.images, side), np.empty([each.count, detail.SCALES], np.float32)
                for start in range(0, each.count, CHUNK):
                    part = range(start, min(start + CHUNK, each.count))
                    found[name][part.start:part.stop] = detail.amounts(read(part))
                    progress.update(len(part))
        return found

    def _balance(self, confidences, parts, errors, within, leaks):
        """Measure whom the set represents, and whether a group is worse off -> Section.

        `confidences` [n], `parts` {part of goodness: [n]}, the label_keeping.Errors, or None, the Figure of the
        distance `within` which few strangers lie, and the leakage.Leaks are what was found.
        """
        logging.info("measuring: balance")
        subject, values = self._subject, {}
        if confidences is not None:
            values["confidence"] = "Confidence", HIGHER, confidences
        for key, part in parts.items():
            values[f"good_{key}"] = f"Share of {goodness.PARTS[key][1]}", HIGHER, part
        if errors is not None:
            own = places_of(errors.names, subject.images.names)
            values["landmark_error"] = ("Distance from labelled landmarks, % of the distance between the eyes", LOWER,
                                        100 * np.append(errors.own, np.nan)[own])
        name = self._embedder.name
        measures = {
            "kid": (f"KID on {name}'s features", LOWER, lambda part: realism.kid_of(part, self._first, self._seed)),
            # People of one age and sex are more alike than others, which is no fault: no group is called worse for it.
            "auc": (f"AUC among themselves ({name})", NEITHER, lambda part: separation.auc_of(part, self._seed)),
            "uniqueness": (f"Unique people among {balance.LEAST} of them ({name})", NEITHER, lambda part: (
                uniqueness.unique_of(part, within, balance.LEAST, self._seed)))}
        shown = "Share of images nearer to a training photo than strangers"
        if leaks.shown:
            values["leaked"] = shown, LOWER, [leaks.shown.get(name, np.nan) for name in subject.images.names]
        else:
            measures["leaked"] = shown, LOWER, lambda part: leaks.share
        return balance.judge(subject, measures, values, self._seed)


def _without_floor(section, why):
    """Say in the measures of a Section that have no figure of real photos why there is none."""
    for measure in section.measures:
        if measure.better and SET in measure.figures:
            measure.figures.setdefault(PHOTOS, not_measured(why))


def _reader(images, side):
    """Make the function that reads images of Renderings by their indices at `side` pixels -> uint8 [n, side, side, 3].

    An image that can't be decoded any more is grey.
    """
    def load(index):
        try:
            return load_image(os.path.join(images.root, images.names[index]), side)
        except BrokenImage:
            return np.full([side, side, 3], 128, np.uint8)

    return lambda indices: np.stack([load(index) for index in indices])


# What is known of it all

def facts_of(sets, named, embedder, generator, command, seed):
    """Collect what a report tells besides figures -> the dict that docs/files.md describes.

    `named` is {row: folder as it was typed}, and `generator` the folder of the run that made the set, "" where it is
    not known.
    """
    known = {row: {"folder": named[row], "images": len(images.names), "identities": len(images.identities),
                   "size": side_of(images), "labels": _names_of_labels(images),
                   "settings": settings_in(images.root)}
             for row, images in ((SET, sets.judged), (RENDERINGS, sets.renderings), (PHOTOS, sets.photos)) if images}
    facts = {"command": command, "date": time.strftime("%Y-%m-%d %H:%M"), "seed": seed,
             "versions": {name: runs.package_version(name) for name in ("numpy", "scipy", "tensorflow")},
             "warnings": [], "sets": known,
             "embedder": {"name": embedder.name, "file": embedder.source, "sha256": embedder.sha256,
                          "size": embedder.size}}
    if generator:
        params = runs.load_params(generator)
        prefix = weights_of(generator, known[SET]["settings"]) or next(iter(runs.list_checkpoints(generator)), None)
        facts["generator"] = {"run": generator, "weights": prefix, "params": params,
                              "sha256": prefix and sha256_of(prefix)}
        facts["warnings"] += _warnings_of(params, embedder)
    return facts


def _warnings_of(params, embedder):
    """List warnings where a generator, by its run's `params`, was trained with a SetEmbedder, or may have been.

    A run of an older version does not hold its classifier's fingerprint. There, the file that it names is looked at.
    """
    path = params.get("pretrained_rec")
    if not path or params.get("method_c") == "none":
        return []
    known, files = params.get("classifier"), runs.list_weights(path)
    if not known and not files:
        return [f"the network that the generator was trained with, {path}, is not there to compare: if it is the one "
                f"that judges ({embedder.name}), figures on embeddings are too good"]
    try:
        same = known == fingerprint(embedder.source) if known else sha256_of(files[0]) == embedder.sha256
    except (OSError, utils.UserError):
        return []
    return [f"the generator was trained with the network that judges it ({embedder.name}): figures on embeddings are "
            "too good; judge with another one (--weights)"] if same else []


def _names_of_labels(images):
    """List the names of the arrays in the first identity's labels; none where there are none."""
    path = os.path.join(images.root, images.identities[0], LABELS)
    try:
        with utils.open_regular(path) as opened, np.load(opened, allow_pickle=False) as file:
            return list(file.files)
    except utils.ARRAY_ERRORS:
        return []
