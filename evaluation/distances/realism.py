"""Realism: do the images of a set look like photos? Measures on an embedder's features and on pixels.

All sets are compared with the same photos, the first half of them. The second half is a set, too. Its figures are the
floor: what photos of other people reach. Measures that depend on the number of images are only comparable for equal
numbers, so as many images are chosen of each set and of the reference.
"""
from typing import NamedTuple

import numpy as np

from evaluation import bootstrap
from evaluation.distances import features as feature_distances
from evaluation.distances import neighbours, patches, sliced, two_sample
from evaluation.distances.features import FEW_REPEATS, repeats_for
from evaluation.distances.pixels import shrink, SHRUNK, to_lab
from evaluation.figures import Figure, HIGHER, LOWER, Measure, not_measured, Section
from evaluation.logistic import FOLDS
from evaluation.subjects import balanced

REFERENCE = "reference"             # the key of the reference beside the names of the sets
KS = neighbours.PRECISION_K, neighbours.DENSITY_K
LEAST, MOST = 20, 10_000            # images of a set: fewer are not measured, of more some are chosen
FEW_IDENTITIES = 10                 # below which intervals are too narrow
MOST_OF_A_PART = 500                # images of a group of a set, and of the photos it is compared with
MOST_DEGRADED = 1000                # images of a set that are embedded anew
SUBSET = 1000                       # images of a subset of KID
PATCHES, OF_AN_IMAGE = 2 ** 17, 128     # of a set on each level of the pyramid, and most of an image
COLOURS = 2 ** 19                   # pixels of a set whose colours are compared
DIRECTIONS, DRAWN_DIRECTIONS = 128, 32  # that patches are projected on, and those of them that intervals rest on
COLOUR_DIRECTIONS = 16
CHUNK = 256                         # images that are read at a time
FEATURES = "kid", "frechet", "two_sample", "precision", "recall", "density", "coverage"
PATCH_KEYS = "swd", "swd_fine", "swd_middle", "swd_coarse"
PIXELS = *PATCH_KEYS, "colour", "colour_mean", "colour_deviation"
ALL = *FEATURES, "two_sample_degraded", *PIXELS


class Sample(NamedTuple):
    """The images of a set that are measured."""
    indices: np.ndarray             # [n] in the Subject
    labels: np.ndarray              # [n] their identities, numbered from 0
    features: np.ndarray            # [n, d]
    drawn: np.ndarray               # [repeats, identities] how often the bootstrap draws each identity

    @property
    def identities(self):
        """Count the identities."""
        return self.drawn.shape[1]

    @property
    def weights(self):
        """Tell how often each image is drawn: [repeats, n]."""
        return self.drawn[:, self.labels]


def measure(subjects, reference, images, embedder, seed=0, degraded=None):
    """Measure how far each set is from photos -> Section.

    `subjects` is {name of a set: Subject}, and `reference` the Subject of photos that they are compared with.
    `images` is {name: pixels uint8 [n, S, S, 3], or a function that reads them for indices [k]}, with an entry
    REFERENCE for the reference. `embedder` is the name of the network that made the features. `degraded`, of the same
    form as `images`, has features of copies made by `pixels.degrade`; of each set up to MOST_DEGRADED are asked for.
    Images without finite features are left out.
    """
    everything = subjects | {REFERENCE: reference}
    usable = {name: np.flatnonzero(np.isfinite(subject.features).all(axis=1)) for name, subject in everything.items()}
    small = [name for name, indices in usable.items() if len(indices) < LEAST]
    if REFERENCE in small:
        why = f"{reference.count} photos to compare with are fewer than {LEAST}: add photos"
        return _section(embedder, {key: dict.fromkeys(subjects, not_measured(why)) for key in ALL}, [])
    count = min(MOST, *(len(indices) for name, indices in usable.items() if name not in small))
    samples = {name: _choose(everything[name], usable[name], count, [seed, int(name == REFERENCE)])
               for name in everything if name not in small}
    images = {name: images[name] for name in samples}
    base = samples.pop(REFERENCE)
    found = {key: {} for key in ALL}
    for judge in (_FeatureJudge(base, seed), _PixelJudge(base, images, seed), _DegradedJudge(base, degraded, seed)):
        for name, sample in samples.items():
            for key, figure in judge.figures(name, sample).items():
                found[key][name] = figure
    for name in small:
        why = f"{len(usable[name])} images are fewer than {LEAST}: add images"
        for figures in found.values():
            figures[name] = not_measured(why)
    found = {key: {name: figures[name] for name in subjects if name in figures} for key, figures in found.items()}
    return _section(embedder, found, _notes(samples, base, everything, images))


def _choose(subject, usable, count, seed):
    """Choose `count` images of a Subject, evenly over identities -> Sample."""
    labels = np.asarray(subject.images.labels)
    indices = usable[balanced(labels[usable], count, seed)]
    return _sample(indices, labels[indices], subject.features[indices], seed)


def _sample(indices, labels, features, seed):
    """Make a Sample: number the identities anew, and draw them."""
    numbers = np.unique(labels, return_inverse=True)[1]
    repeats = bootstrap.REPEATS
    drawn = bootstrap.counts(numbers, repeats, seed) if len(numbers) else np.zeros([repeats, 0], np.int64)
    return Sample(indices, numbers, features, drawn)


def _figure(sample, base, value, draws, shift=False, least=0):
    """Make a Figure of a value and of its values for draws of identities.

    `shift` is for measures that draws bias, and `least` what the measure can't be below.
    """
    low, high = None, None
    if min(sample.identities, base.identities) > 1:
        low, high = bootstrap.between(draws, around=value if shift else None)
        low = low if low is None else max(low, least)
    return Figure(float(value), low, high, len(sample.indices))


class _FeatureJudge:
    """Measures features against those of the reference."""

    def __init__(self, base, seed):
        self.base, self.seed, self.unfit = base, seed, unfit(base)
        if self.unfit:
            return
        self.scale = np.sqrt(base.features.shape[1])
        self.repeats = repeats_for(base.features.shape[1], len(base.drawn))
        self.moments = list(feature_distances.moments_of_draws(base.features, base.weights[:self.repeats]))
        self.roots = [feature_distances.root_of(covariance) for _, covariance in self.moments]
        self.within = feature_distances.kid_within(base.features * self.scale, base.labels, base.weights)
        self.radii = neighbours.squared_radii(base.features, base.labels, *KS)

    def figures(self, _, sample):
        """Compute {key: Figure} of a Sample."""
        if self.unfit or unfit(sample):
            why = f"first half of the photos: {self.unfit}" if self.unfit else unfit(sample)
            return dict.fromkeys(FEATURES, not_measured(why))
        return {**self._kid(sample), **self._frechet(sample), **self._membership(sample),
                "two_sample": accuracy(sample, self.base, self.seed)}

    def _kid(self, sample):
        base, own, others = self.base, sample.features * self.scale, self.base.features * self.scale
        value = feature_distances.kid_of_subsets(own, others, sample.labels, base.labels, SUBSET, self.seed)
        return {"kid": _kid_figure(sample, base, value, own, others, self.within)}

    def _frechet(self, sample):
        value = feature_distances.frechet_of(*(feature_distances.moments(each.features.astype(np.float64))
                                               for each in (self.base, sample)))
        drawn = feature_distances.moments_of_draws(sample.features, sample.weights[:self.repeats])
        draws = [feature_distances.frechet_of(*each) for each in zip(self.moments, drawn, self.roots)]
        return {"frechet": _figure(sample, self.base, value, draws, shift=True)}

    def _membership(self, sample):
        base = self.base
        radii = neighbours.squared_radii(sample.features, sample.labels, KS[0])
        found = neighbours.compare(sample.features, base.features, radii, self.radii)
        sides = {"precision": sample, "recall": base, "density": sample, "coverage": base}
        return {key: _figure(sample, base, values.mean(), bootstrap.shares(values, sides[key].labels, sides[key].drawn))
                for key, values in found._asdict().items()}


def kid_of(subject, reference, seed=0):
    """Measure KID between the images of two Subjects -> Figure; for a part of a set. Images are cut to MOST_OF_A_PART.

    The measure does not depend on how many images there are, so those of parts of other sizes can be compared.
    """
    samples = []
    for side, each in enumerate((subject, reference)):
        usable = np.flatnonzero(np.isfinite(each.features).all(axis=1))
        samples.append(_choose(each, usable, MOST_OF_A_PART, [seed, side]))
    for sample, name in zip(samples, ("images", "photos to compare with")):
        if len(sample.indices) < LEAST or sample.identities < 2:
            return not_measured(f"{len(sample.indices)} {name} of {sample.identities} identities are too few")
    own, base = samples
    first, second = (each.features * np.sqrt(each.features.shape[1]) for each in samples)
    value = feature_distances.kid(first, second, own.labels, base.labels)
    within = feature_distances.kid_within(second, base.labels, base.weights)
    return _kid_figure(own, base, value, first, second, within)


def _kid_figure(sample, base, value, own, others, within):
    """Make the Figure of the KID `value` of two Samples, with features scaled to `own` and `others`.

    `within` [repeats] is what `features.kid_within` tells of the second one.
    """
    draws = feature_distances.kid_within(own, sample.labels, sample.weights) + within
    draws -= 2 * feature_distances.kid_between(own, others, sample.weights, base.weights)
    return _figure(sample, base, value, draws, shift=True, least=-np.inf)


def unfit(sample):
    """Tell why features of a Sample can't be measured, or "" where they can."""
    others = len(sample.labels) - int(np.bincount(sample.labels).max())
    return f"an identity has but {others} images of others beside it: add people" if others < max(KS) else ""


def accuracy(sample, base, seed):
    """Measure how well a classifier tells two Samples apart -> Figure. Draws repeat the test, not the training."""
    if min(sample.identities, base.identities) < FOLDS:
        return not_measured(f"needs {FOLDS} identities on each side: add people")
    sides = (sample, base)
    correct = two_sample.tell_apart(*(side.features for side in sides), *(side.labels for side in sides), seed)
    draws = [bootstrap.shares(values, side.labels, side.drawn) for values, side in zip(correct, sides)]
    return _figure(sample, base, np.mean([values.mean() for values in correct]), np.mean(draws, axis=0))


class _DegradedJudge:
    """Repeats the two-sample test on features of copies that were shrunk and recompressed."""

    def __init__(self, base, sources, seed):
        self.sources, self.seed = sources, seed
        self.base = self._embedded(REFERENCE, base) if sources else base

    def figures(self, name, sample):
        """Compute {key: Figure} of a Sample."""
        if not self.sources:
            figure = not_measured("the images were not embedded a second time, shrunk and recompressed")
        else:
            figure = accuracy(self._embedded(name, sample), self.base, self.seed)
        return {"two_sample_degraded": figure}

    def _embedded(self, name, sample):
        """Choose a part of a Sample, with the features of the copies."""
        part = balanced(sample.labels, MOST_DEGRADED, self.seed)
        features = read(self.sources[name], sample.indices[part])
        finite = np.isfinite(features).all(axis=1)
        part, features = part[finite], features[finite]
        return _sample(sample.indices[part], sample.labels[part], features, [self.seed, int(name == REFERENCE)])


class _Looks(NamedTuple):
    """Patches and colours of a Sample. Lists have an entry for each level of patches, then one for colours."""
    projections: list               # float32 [directions, n], rows sorted
    shares: list                    # [repeats, directions, BINS] of projections in bins, for each draw
    moments: np.ndarray             # [2, 3] mean and deviation of colours in L*a*b*
    drawn_moments: np.ndarray       # [repeats, 2, 3]


class _PixelJudge:
    """Measures patches and colours of images against those of the reference."""

    def __init__(self, base, images, seed):
        self.base, self.images, self.seed = base, images, seed
        self.size = min(side_of(source) for source in images.values())
        rng = np.random.default_rng(seed)
        self.directions = [sliced.draw_directions(3, COLOUR_DIRECTIONS, rng)]
        if self.size >= patches.SMALLEST:
            self.directions = [sliced.draw_directions(3 * patches.SIDE ** 2, DIRECTIONS, rng)
                               for _ in range(patches.LEVELS)] + self.directions
        self.bins = None                # as the reference needs them
        self.looks = self._look(REFERENCE, base)

    def figures(self, name, sample):
        """Compute {key: Figure} of a Sample."""
        base, own, others = self.base, self._look(name, sample), self.looks
        values = [sliced.distance(*pair) for pair in zip(own.projections, others.projections)]
        draws = [bins.distances(*pair) for bins, *pair in zip(self.bins, own.shares, others.shares)]
        found = {"colour": _figure(sample, base, values.pop(), draws.pop(), shift=True)}
        for part, key in enumerate(("colour_mean", "colour_deviation")):
            value = np.linalg.norm(own.moments[part] - others.moments[part])
            drawn = np.linalg.norm(own.drawn_moments[:, part] - others.drawn_moments[:, part], axis=1)
            found[key] = _figure(sample, base, value, drawn, shift=True)
        if not values:
            why = f"images of {self.size} pixels: patches need {patches.SMALLEST}"
            return found | dict.fromkeys(PATCH_KEYS, not_measured(why))
        values, draws = ([1000 * np.mean(each, axis=0), *(1000 * one for one in each)] for each in (values, draws))
        return found | {key: _figure(sample, base, value, drawn, shift=True)
                        for key, value, drawn in zip(PATCH_KEYS, values, draws)}

    def _look(self, name, sample):
        """Read the images of a Sample, and describe them -> _Looks."""
        points = self._points(name, sample)
        colours = points[-1].astype(np.float64)
        owners = [np.repeat(sample.labels, len(each) // len(sample.labels)) for each in points]
        for level, directions in enumerate(self.directions):        # in place: points take much memory
            patch_like = level < len(points) - 1
            points[level] = directions @ (patches.normalize(points[level]) if patch_like else points[level]).T
        drawn = [each[:DRAWN_DIRECTIONS] for each in points]
        self.bins = self.bins or [sliced.Bins(each) for each in drawn]
        shares = [bins.shares(each, owner, sample.drawn) for bins, each, owner in zip(self.bins, drawn, owners)]
        for each in points:
            each.sort(axis=1)
        means, squares = (np.stack([bootstrap.shares(column, owners[-1], sample.drawn) for column in each.T], axis=1)
                          for each in (colours, colours ** 2))
        deviations = np.sqrt(np.maximum(squares - means ** 2, 0))
        return _Looks(points, shares, np.stack([colours.mean(axis=0), colours.std(axis=0)]),
                      np.stack([means, deviations], axis=1))

    def _points(self, name, sample):
        """Read patches of each level, where images are large enough, and colours -> arrays [points, width]."""
        rng = np.random.default_rng(self.seed)
        count, levels = len(sample.indices), len(self.directions) - 1
        of_patches, of_colours = min(OF_AN_IMAGE, max(1, PATCHES // count)), min(self.size ** 2, COLOURS // count)
        found = [np.empty([count, of_patches, 3 * patches.SIDE ** 2], np.float32) for _ in range(levels)]
        found.append(np.empty([count, of_colours, 3], np.float32))
        for start in range(0, count, CHUNK):
            part = slice(start, min(start + CHUNK, count))
            pixels = shrink(read(self.images[name], sample.indices[part]), self.size)
            places = rng.integers(self.size ** 2, size=[len(pixels), of_colours])
            found[-1][part] = to_lab(np.take_along_axis(pixels.reshape(len(pixels), -1, 3), places[:, :, None], axis=1))
            for all_patches, cut in zip(found, patches.cut(pixels, of_patches, rng) if levels else ()):
                all_patches[part] = cut.reshape(len(pixels), of_patches, -1)
        return [each.reshape(-1, each.shape[2]) for each in found]


def read(source, indices):
    """Read what `source` has for `indices`: an array, or a function of indices."""
    return np.asarray(source(indices) if callable(source) else source[indices])


def side_of(source):
    """Tell how many pixels a side of the images of `source` has."""
    return read(source, np.array([0])).shape[1]


def _notes(samples, base, everything, images):
    """Say what a reader has to know of the figures."""
    count, width = len(base.indices), base.features.shape[1]
    people = ", ".join(f"{name} {sample.identities}" for name, sample in samples.items())
    subsets = f"subsets of {SUBSET}" if count > SUBSET else f"all {count}"
    notes = [
        f"Each figure compares {count} images of a set with {count} photos of the first half, chosen evenly over "
        f"identities. Identities among them: {people}, first half of the photos {base.identities}.",
        "All distances but KID are larger for fewer images or identities, however good the images are. So compare each "
        "figure with that of the second half of the photos.",
        f"KID was computed on {subsets} images, from features scaled to a mean square of 1. It leaves out pairs of an "
        "identity with itself, and so is 0 on average for photos of other people.",
        "Neighbours in precision, recall, density and coverage are images of other identities.",
        "Intervals come from drawing identities of both sides anew. For distances, they are moved to the figure, as "
        "drawn sets are further apart. For the two-sample test, only the test is repeated. For precision and density, "
        "only the set is drawn, and for recall and coverage only the photos."]
    if count <= width:
        notes.append(f"{count} images are too few for a covariance of {width} features: the Frechet distance is much "
                     "too large here. Read KID instead.")
    elif len(base.drawn) > repeats_for(width, len(base.drawn)):
        notes.append(f"Intervals of the Frechet distance rest on {FEW_REPEATS} draws, as there are {width} features.")
    few = [name for name, sample in {**samples, "first half of the photos": base}.items()
           if sample.identities < FEW_IDENTITIES]
    if few:
        notes.append(f"Fewer than {FEW_IDENTITIES} identities ({', '.join(few)}): intervals are too narrow.")
    sizes = {name: side_of(source) for name, source in images.items()}
    if len({*sizes.values()}) > 1:
        told = ", ".join(f"{name} {size}" for name, size in sizes.items())
        notes.append(f"Patches and colours were compared at {min(sizes.values())} pixels, the smallest size of all "
                     f"({told}); larger images were reduced.")
    without = {name: int((~np.isfinite(each.features).all(axis=1)).sum()) for name, each in everything.items()}
    if any(without.values()):
        told = ", ".join(f"{name} {number}" for name, number in without.items() if number)
        notes.append(f"Images without features were left out: {told}.")
    return notes


def _section(embedder, found, notes):
    """Put figures {key: {name of a set: Figure}} into the Section."""
    features = f"on {embedder}'s features"
    described = {
        "kid": (f"KID {features}", LOWER, "How far the faces, as this network sees them, are from those of photos; "
                "0 is no difference."),
        "frechet": (f"Frechet distance {features}", LOWER, "The same, with both sets seen as normal distributions; it "
                    "depends on the number of images and of identities."),
        "two_sample": (f"accuracy of telling it from photos {features}", LOWER, "How often a simple classifier tells "
                       "an image of the set from a photo, of people that it has not seen; .5 is chance and best."),
        "two_sample_degraded": (f"the same, both shrunk to {SHRUNK} px and recompressed, {features}", LOWER,
                                "Whether they can still be told apart when fine detail and traces of compression are "
                                "gone; .5 is best."),
        "precision": (f"precision {features}", HIGHER, "The share of images that lie among the photos: how many look "
                      "real."),
        "recall": (f"recall {features}", HIGHER, "The share of photos that lie among the images: how much of the "
                   "variety of photos the set has."),
        "density": (f"density {features}", HIGHER, "Like precision, but one odd photo counts little; photos reach "
                    "about 1, and more means that images crowd where photos are."),
        "coverage": (f"coverage {features}", HIGHER, "The share of photos that have an image of the set near them; "
                     "like recall, but odd images count little."),
        "swd": ("sliced Wasserstein distance of patches, x 1000", LOWER, "How different the textures are, the mean of "
                "three scales; needs no network."),
        "swd_fine": ("... of the finest detail, x 1000", LOWER, "Differences of the finest detail: noise, sharpness, "
                     "traces of compression."),
        "swd_middle": ("... of detail twice as large, x 1000", LOWER, "Differences of detail such as edges and hair."),
        "swd_coarse": ("... of what is left, x 1000", LOWER, "Differences of large shapes."),
        "colour": ("colour distance, in L*a*b*", LOWER, "How far colours of pixels have to be moved to be those of "
                   "photos; 1 can hardly be seen."),
        "colour_mean": ("distance of the mean colours, in L*a*b*", LOWER, "A colour cast, or images too dark or too "
                        "light."),
        "colour_deviation": ("distance of the deviations of colours, in L*a*b*", LOWER, "Too much or too little "
                             "contrast, or colours too strong or too weak.")}
    measures = [Measure(key, *described[key], found[key]) for key in described]
    return Section("realism", "Do the images look like photos?", measures, [], notes, {})
