"""The judge of quality.py: the figures of a set of images against photos of people whom no generator has seen."""
import os

import numpy as np

from datasets.image_sets import find_renderings
from datasets.images import load_image, stem
from evaluation.distances import realism
from evaluation.embedding import SetEmbedder, Settings
from evaluation.embedding_cache import usual_path
from evaluation.figures import SET
from evaluation.labels import face_points
from evaluation.labels.label_keeping import landmark_errors, LANDMARKS, MESH_POINTS
from evaluation.people import identity
from evaluation.subjects import measurable, Subject

BATCH = 32              # images that are embedded at a time
FAR = .001              # share of strangers that are nearer than the threshold of consistency and of collisions
KEYS = ("kid", "frechet", "two_sample", "precision", "recall", "swd", "swd_fine", "swd_middle", "swd_coarse", "colour",
        "colour_mean", "colour_deviation", "d_prime", "auc", f"consistency_at_{FAR:g}", f"collision_rate_at_{FAR:g}",
        "genuine_distance", "impostor_distance")


class Judge:
    """A recogniser and the photos that sets are compared with. Use as a context."""

    def __init__(self, weights, people, size, workers):
        """Load the recogniser of `weights`, and embed the photos in the folder `people`. Images are `size` wide."""
        self._embedder = SetEmbedder(weights, Settings(BATCH, workers, True, usual_path()))
        self._size, self._workers = size, workers
        self.name, self.sha256 = self._embedder.name, self._embedder.sha256
        self._people = self._read(people)
        self._points = {}                                       # {folder: what `_find` returns}

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._embedder.close()

    def _read(self, folder):
        """Embed the images in `folder` -> Subject."""
        images = find_renderings(folder)
        return measurable(Subject(folder, images, self._embedder.embed(images), {}))

    def figures(self, folder, renderings=""):
        """Judge the images in `folder` -> {key: {"value", "low", "high", "n"} or {"not_measured": reason}}.

        `renderings` is the folder that they were made from, by which it is told whether landmarks stay.
        """
        subject = self._read(folder)
        images = {name: self._reader(each.images) for name, each in ((SET, subject), (realism.REFERENCE, self._people))}
        sections = [realism.measure({SET: subject}, self._people, images, self.name),
                    identity.judge({SET: subject}, self._people, self.name)]
        found = {measure.key: measure.figures[SET].as_json() for section in sections for measure in section.measures}
        return {key: found[key] for key in KEYS} | self._labels(folder, renderings)

    def _reader(self, images):
        """Make the function that reads images by their indices -> uint8 [n, S, S, 3]."""
        return lambda indices: np.stack([load_image(os.path.join(images.root, images.names[i]), self._size)
                                         for i in indices])

    def _labels(self, folder, renderings):
        """Measure in how many images a face is found, and how far landmarks moved from those of the renderings."""
        missing = face_points.missing()
        if missing:
            return {key: {"not_measured": missing} for key in ("faces_found", "label_error")}
        points = self._find(folder)
        all_points = np.stack(list(points.values()))
        share = np.isfinite(all_points[:, 0, 0]).mean()
        found = {"faces_found": {"value": float(share), "n": len(points)}}
        if renderings:
            there = self._find(renderings)
            errors = moved(points, there)
            known = errors[np.isfinite(errors)]
            found["label_error"] = {"value": float(known.mean()), "n": len(known)} if len(known) else {
                "not_measured": "no face is found"}
        return found

    def _find(self, folder):
        """Find the points of the images in `folder` -> {name without suffix: [468, 2]}."""
        if folder not in self._points:
            images = find_renderings(folder)
            points = face_points.find(images, self._workers, usual_path())
            self._points[folder] = {stem(name): each for name, each in zip(images.names, points)}
        return self._points[folder]


def moved(points, renderings):
    """Compute how far landmarks lie from those found in the renderings, in shares of the distance between the eyes.

    Arguments are {name: [468, 2]}. Seven landmarks count, as in evaluate.py judge: corners of eyes and mouth, tip of
    the nose. Returns [n], nan where a face is not found.
    """
    names = sorted(points.keys() & renderings.keys())
    own, there = (np.array([each[name] for name in names]).reshape(-1, 468, 2) for each in (points, renderings))
    landmarks = np.full([len(names), 68, 2], np.nan)
    landmarks[:, LANDMARKS] = there[:, MESH_POINTS]
    return landmark_errors(own, landmarks)
