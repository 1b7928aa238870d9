"""A judgement: sets are read and embedded, each section measures them, and what is found becomes a report."""
import logging
import os
import time
from typing import NamedTuple

import numpy as np

import utils
from datasets.image_sets import find_renderings, LABELS, Renderings
from datasets.images import BrokenImage, load_image, read_picture
from datasets.scores import CSV_NAME, read_scores
from engine import runs
from evaluation.choosing import calibration
from evaluation.distances import neighbours, pixels, realism
from evaluation.embedding import sha256_of
from evaluation.figures import PHOTOS, PIXELS, RENDERINGS, SET
from evaluation.labels import balance, face_points, label_keeping
from evaluation.labels.known_labels import read_labels
from evaluation.people import identity, leakage
from evaluation.people.nearest import nearest
from evaluation.people.uniqueness import distances_to_means, means_of
from evaluation.report.illustrations import illustrate
from evaluation.subjects import balanced, halves, measurable, part_of, Subject
from utils import UserError

MOST_SEEN = 2000                # images of a set in which faces and labels are looked for
MOST_PIXELS = 5000              # images of a set whose bare pixels are compared
PIXEL_SIDE = 27                 # pixels of a side, of bare pixels
SIDE = 64                       # pixels of a side, at most, at which patches and colours are compared
SCORES = "d_score", "s_score", "c_score"


class Sets(NamedTuple):
    """The sets of a judgement, as files: Renderings; None for what is not there."""
    judged: Renderings
    photos: Renderings
    renderings: Renderings | None = None
    training: Renderings | None = None          # the photos that the generator has seen


class Judgement(NamedTuple):
    """What was found."""
    sections: list                  # of Section
    confidences: np.ndarray | None  # [n] of the judged images, None where they could not be had
    subject: Subject                # the judged set, without images that can't be read
    leaked: object                  # Figure: share of images that show a photo of the training


class Judge:
    """Measures the sets of a judgement, one section after another."""

    def __init__(self, sets, embedder, workers, seed=0):
        """Embed all images of Sets by an embedding.SetEmbedder. `workers` processes look for faces."""
        self._sets, self._embedder, self._workers, self._seed = sets, embedder, workers, seed
        embedder.place_alike([each for each in sets if each is not None])
        self.subject = self._read(sets.judged)
        self._first, self._second = halves(self._read(sets.photos), seed)
        rows = {SET: self.subject, RENDERINGS: sets.renderings and self._read(sets.renderings), PHOTOS: self._second}
        self._rows = {name: row for name, row in rows.items() if row}
        self._training = self._read(sets.training) if sets.training else None

    def _read(self, images):
        """Embed Renderings -> Subject, without the images that can't be read. Raises UserError where none is left."""
        logging.info("%s: embedding %d images", images.root, len(images.names))
        subject = measurable(Subject(images.root, images, self._embedder.embed(images), {}))
        if not subject.count:
            raise UserError(f"{images.root}: none of its images can be decoded; replace them")
        return subject

    def judge(self):
        """Measure everything -> Judgement."""
        labels = {**read_labels(self.subject.images)}
        self.subject = self.subject._replace(labels=labels)
        self._rows[SET] = self.subject
        steps = {"realism": self._realism, "identity": self._identity, "labels": self._labels,
                 "leakage": self._leakage, "confidence": self._confidence, "balance": self._balance}
        sections = []
        for name, step in steps.items():
            logging.info("measuring: %s", name)
            sections.append(step())
        order = {"confidence": 5, "balance": 4}
        sections.sort(key=lambda section: order.get(section.key, 0))
        return Judgement(sections, self._values, self.subject, leakage.share_of(self._leaks))

    # The sections

    def _realism(self):
        """Measure how real the images look."""
        sides = [self.side_of(each.images) for each in (*self._rows.values(), self._first)]
        side = min(SIDE, *sides)
        everything = {**self._rows, realism.REFERENCE: self._first}
        images = {name: self._reader(each, side) for name, each in everything.items()}
        degraded = {name: self._degraded(each) for name, each in everything.items()}
        return realism.measure(self._rows, self._first, images, self._embedder.name, self._seed, degraded)

    @staticmethod
    def side_of(images):
        """Tell the shorter side in pixels of the first image of Renderings that can be read."""
        for name in images.names:
            try:
                return min(read_picture(os.path.join(images.root, name)).size)
            except BrokenImage:
                continue
        return SIDE

    @staticmethod
    def _reader(subject, side):
        """Make the function that reads images by their indices at `side` pixels -> uint8 [n, side, side, 3]."""
        def read(indices):
            return np.stack([_load(subject.images, i, side) for i in indices])
        return read

    def _degraded(self, subject):
        """Make the function that embeds shrunken and recompressed copies of images by their indices."""
        def embed(indices):
            read = self._reader(subject, self._embedder.side_for(subject.images))
            return self._embedder.embed_pixels(pixels.degrade(read(indices)), subject.images, indices)
        return embed

    def _identity(self):
        """Measure whether everybody is a different person, and always the same."""
        chosen = part_of(self.subject, balanced(self.subject.images.labels, MOST_PIXELS, self._seed))
        bare = self._reader(chosen, PIXEL_SIDE)(range(chosen.count)).reshape(chosen.count, -1).astype(np.float32)
        bare -= bare.mean(axis=1, keepdims=True)
        bare /= np.maximum(np.linalg.norm(bare, axis=1, keepdims=True), 1e-6)
        rows = {**self._rows, PIXELS: chosen._replace(features=bare)}
        return identity.judge(rows, self._first, self._embedder.name, self._seed)

    def _labels(self):
        """Measure whether images keep their labels, on some of them."""
        self._errors = None
        missing = face_points.missing()
        if missing:
            return label_keeping.unmeasured(missing)
        rows, seen = {}, {}
        for name, row in self._rows.items():
            row = part_of(row, balanced(row.images.labels, MOST_SEEN, self._seed))
            rows[name] = row._replace(labels=label_keeping.read_labels(row.images))
            points = face_points.find(row.images, self._workers)
            bright = label_keeping.reduce(self._reader(row, SIDE)(range(row.count)))
            seen[name] = label_keeping.Seen(points, bright)
        self._errors = label_keeping.errors_of(rows, seen)
        section = label_keeping.measure(rows, seen, self._seed)
        if rows[SET].count < self.subject.count:
            section.notes.append(f"Measured on {rows[SET].count} of {self.subject.count} images, chosen evenly over "
                                 "identities.")
        return section

    def _leakage(self):
        """Measure whether the set shows somebody of the training photos."""
        training, strangers = self._training, None
        if training is None:
            training, strangers = self._first, self._second
        # The second half of the photos can't show how near strangers come where they say what that is.
        rows = {name: row for name, row in self._rows.items() if name != PHOTOS or strangers is None}
        self._leaks = leakage.judge(rows, training, strangers, self._embedder.name, self._seed)
        if self._training is None:
            self._leaks.notes.insert(0, "The training photos were not named (--train_photos): the first half of "
                                     "--photos stands for them.")
        self._gallery = training
        return self._leaks

    def _confidence(self):
        """Turn scores into the probability that an image is good."""
        self._values = None
        scores = self._scores()
        means, labels = means_of(self.subject), self.subject.images.labels
        own = distances_to_means(self.subject, means)
        others, _ = nearest(self.subject.features, means, labels, np.arange(len(means)))
        scores |= {"near its identity": -own,
                   "far from other identities": np.where(np.isfinite(others), others, np.nan),
                   "near to photos": -nearest(self.subject.features, self._first.features)[0]}
        known, parts = np.ones(self.subject.count, bool), {"shows its identity": own < others}
        parts["looks like photos"] = self._looks_real()
        if self._errors is not None:
            kept = np.zeros(self.subject.count, bool)
            places = {name: i for i, name in enumerate(self.subject.images.names)}
            indices = np.array([places[name] for name in self._errors.names])
            kept[indices] = calibration.keeps_labels(self._errors.own, self._errors.renderings)
            known[:] = False
            known[indices] = True
            parts["keeps its labels"] = kept
        try:
            good, named = calibration.outcomes(parts)
            found = calibration.confidences(scores, good, labels, self._seed, known)
        except ValueError as problem:
            return calibration.unmeasured(str(problem))
        self._values = found.values
        found.section.notes.append(f"An image is good if it {', '.join(named)}.")
        return found.section

    def _looks_real(self):
        """Tell which images lie among photos, as precision does it; None where there are too few photos."""
        try:
            radii = neighbours.squared_radii(self._first.features, self._first.images.labels, neighbours.DENSITY_K)[0]
        except ValueError:
            return None
        inside = np.zeros(self.subject.count, bool)
        gallery, wide = self._first.features.astype(np.float64), np.sqrt(radii)
        for start in range(0, self.subject.count, 1024):
            part = self.subject.features[start:start + 1024].astype(np.float64)
            distances = np.sqrt(np.maximum(2 - 2 * part @ gallery.T, 0))
            inside[start:start + 1024] = (distances <= wide).any(axis=1)
        return inside

    def _scores(self):
        """Read the scores that synthesis wrote -> {name: [n], higher is better, nan where unknown}."""
        root = self.subject.images.root
        if not os.path.isfile(os.path.join(root, CSV_NAME)):
            return {}
        there = read_scores(root, "judge a copy without it")
        rows = np.array([there.get(os.path.abspath(os.path.join(root, name)), (np.nan,) * 3)
                         for name in self.subject.images.names])
        return {name: -rows[:, i] for i, name in enumerate(SCORES) if np.isfinite(rows[:, i]).any()}

    def _balance(self):
        """Measure whom the set represents, and whether a group is worse off."""
        values = {}
        if self._values is not None:
            values["confidence"] = ("Confidence", "higher", self._values)
        return balance.judge(self.subject, values=values, seed=self._seed)

    def confidences_of_all(self, judgement):
        """List all images that were found, and their confidences -> (names, [n]); nan for those that can't be read."""
        names = self._sets.judged.names
        known = dict(zip(self.subject.images.names, judgement.confidences))
        return names, np.array([known.get(name, np.nan) for name in names])

    def pictures(self, judgement):
        """Add pictures of the images -> the sections of a Judgement."""
        scores = {} if judgement.confidences is None else {"confidence": judgement.confidences}
        return illustrate(judgement.sections, self.subject.images, self._gallery.images, scores, self._seed)


def _load(images, index, side):
    """Load image number `index` at `side` pixels -> uint8 [side, side, 3]; grey where it can't be decoded any more."""
    try:
        return load_image(os.path.join(images.root, images.names[index]), side)
    except BrokenImage:
        return np.full([side, side, 3], 128, np.uint8)


def find_sets(judged, photos, renderings="", training=""):
    """Find the images of the folders of a judgement -> Sets. Renderings are those of identities that are judged.

    Raises UserError where a folder has no images, and where the judged set has a single identity.
    """
    found = find_renderings(judged)
    if len(found.identities) < 2:
        raise UserError(f"{judged}: one identity only; a set that can be judged has two or more")
    return Sets(found, find_renderings(photos), find_renderings(renderings) if renderings else None,
                find_renderings(training) if training else None)


# What is known of it all

def facts_of(sets, named, embedder, generator, command, seed):
    """Collect what a report tells besides figures -> the dict that docs/files.md describes.

    `named` is {row: folder as it was typed}, and `generator` the folder of the run that made the set, "" where it is
    not known.
    """
    known = {row: {"folder": named[row], "images": len(images.names), "identities": len(images.identities),
                   "size": Judge.side_of(images), "labels": _names_of_labels(images),
                   "settings": _json_in(images.root, "settings.json")}
             for row, images in ((SET, sets.judged), (RENDERINGS, sets.renderings), (PHOTOS, sets.photos)) if images}
    facts = {"command": command, "date": time.strftime("%Y-%m-%d %H:%M"), "seed": seed,
             "versions": {name: runs.package_version(name) for name in ("numpy", "scipy", "tensorflow")},
             "warnings": [], "sets": known,
             "embedder": {"name": embedder.name, "file": embedder.source, "sha256": embedder.sha256,
                          "size": embedder.size}}
    if generator:
        params = runs.load_params(generator)
        prefix = next(iter(runs.list_checkpoints(generator)), None)
        facts["generator"] = {"run": generator, "weights": prefix, "params": params,
                              "sha256": prefix and sha256_of(prefix)}
        if _same_network(params.get("pretrained_rec"), embedder):
            facts["warnings"].append(
                f"the generator was trained with the network that judges it ({embedder.name}): figures on embeddings "
                "are too good; judge with another one (--weights)")
    return facts


def _same_network(path, embedder):
    """Tell whether the weights at `path` are those of a SetEmbedder."""
    files = runs.list_weights(path) if path else []
    try:
        return any(sha256_of(each) == embedder.sha256 for each in files)
    except OSError:
        return False


def training_of(generator):
    """Find the folder of the photos that the run of a generator was trained on; "" where it is not there any more."""
    params = runs.load_params(generator) if generator else {}
    folder = os.path.join(str(params.get("data_dir", "")), str(params.get("dataset", "")))
    return folder if params.get("dataset") and os.path.isdir(folder) else ""


def _names_of_labels(images):
    """List the names of the arrays in the first identity's labels; none where there are none."""
    path = os.path.join(images.root, images.identities[0], LABELS)
    try:
        with np.load(path, allow_pickle=False) as file:
            return list(file.files)
    except (OSError, ValueError):
        return []


def _json_in(folder, name):
    """Read a JSON file in a folder, {} where there is none that can be read."""
    try:
        found = utils.read_json(os.path.join(folder, name))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
