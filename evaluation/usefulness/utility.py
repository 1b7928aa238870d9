"""Does the set help: small recognisers, trained on it and on other sets alike, are verified on real people."""
import logging
import time
from typing import NamedTuple

import numpy as np
from tqdm.contrib.logging import logging_redirect_tqdm

import utils
from datasets import crop_kinds
from evaluation.figures import HIGHER, Measure, not_measured, PHOTOS, RENDERINGS, Section, SET
from evaluation.people import separation
from evaluation.usefulness import rows as training_sets
from evaluation.usefulness import training, verified
from evaluation.usefulness.rows import BOTH, FILTERED, Row, TITLES
from evaluation.usefulness.store import Store
from utils import Diverged, Interrupted, StopRequest, UserError

UNTRAINED = "untrained"             # the network with its first weights: what a recogniser reaches without learning
KEY, TITLE = "utility", "Does it help to train a recogniser?"
_COLUMNS = {"accuracy": ("accuracy", HIGHER, "How often such a recogniser tells right whether two photos show one "
                         "person; .5 is chance."),
            **{key: (name, better, f"For such a recogniser: {meaning[:1].lower()}{meaning[1:]}")
               for key, (name, better, meaning) in separation.MEASURES.items()}}
# Rows that are compared: the first one less the second one.
_COMPARED = ((BOTH, PHOTOS), (SET, RENDERINGS), (FILTERED, SET), (SET, PHOTOS), (SET, UNTRAINED),
             (RENDERINGS, UNTRAINED))
INTERVALS = ("Intervals (95 %) cover which people were held out, by bootstrap over these, and the chance of a "
             "training, by Student's t over the seeds. The two are added as squares.")
_SETTINGS = training.Settings()


def measure(rows, held_out, settings=_SETTINGS, seed=0, folder="."):
    """Train the same small recogniser on each of `rows`, and verify all on the people `held_out` -> Section.

    `rows` is {name: Row, or (real, synthetic, weights)}, with Renderings or None; `usefulness.rows.make` makes it.
    `held_out` is a Renderings of real people. All rows are trained for as many steps, with the seeds `seed`, `seed` + 1
    and so on. What each training reached is kept in a file in `folder`: a program that is stopped goes on there.
    TensorFlow has to be started, see engine.startup. Raises Interrupted after SIGINT or SIGTERM. Raises UserError where
    a row learns from an image that is held out.
    """
    rows = {name: row if isinstance(row, Row) else Row(*row) for name, row in rows.items()}
    rows = {name: row._replace(why=_why_not(row)) for name, row in rows.items()}
    possible = [name for name, row in rows.items() if not row.why]
    if not possible:
        return impossible("; ".join(f"{name}: {row.why}" for name, row in rows.items()))
    several = int((np.bincount(held_out.labels) > 1).sum())
    if several < training_sets.LEAST_PEOPLE:
        return impossible(f"{several} people with several photos are held out in {held_out.root}, and "
                          f"{training_sets.LEAST_PEOPLE} are needed; give photos of more people")
    rows = {**rows, UNTRAINED: rows[possible[0]]}
    trainings = _plan(rows, held_out, settings, seed)
    store = Store(folder)
    left = [each for each in trainings if store.find(each.key) is None]
    if len(left) < len(trainings):
        logging.info("use: %d of %d trainings are in %s already", len(trainings) - len(left), len(trainings), folder)
    if left:
        _do_all(left, rows, _Bench(held_out, seed), store)
    found = {name: [store.find(each.key) for each in trainings if each.row == name] for name in rows}
    return _section(rows, found, held_out, settings, seed)


def impossible(why):
    """Make the Section that says `why` nothing can be measured."""
    return Section(KEY, TITLE, [Measure(f"use_{key}", _named(key), better, meaning, {SET: not_measured(why)})
                                for key, (_, better, meaning) in _COLUMNS.items()], [], [f"not measured: {why}"], {})


def _named(key):
    """Name a measure of _COLUMNS for readers."""
    return f"Trained on it: {_COLUMNS[key][0]}"


# Trainings

class _Training(NamedTuple):
    """A training that is to be done."""
    row: str                        # its name
    seed: int
    settings: training.Settings
    options: object                 # of `recognizer.py train`
    key: str                        # what it depends on
    work: int                       # how long it takes, by the images that it sees


class _Bench(NamedTuple):
    """What all trainings have in common."""
    held_out: object                # Renderings
    seed: int                       # of pairs and draws


def _why_not(row):
    """Say why nothing can be trained on a Row; "" where it can."""
    if row.why or not (row.real or row.synthetic):
        return row.why or "no images"
    for images in (row.real, row.synthetic):
        if images and len(images.identities) < 2:
            return f"{images.root} has one identity only, and a recogniser learns to tell people apart; give others"
        if images and len(images.names) == len(images.identities):
            return f"{images.root} has one image of each identity only: nothing shows how a face varies; give several"
    if training.crop_of(row) is None:
        return "the crops of the photos and those of the set are of two kinds; cut all alike (--template, --crop)"
    return ""


def _plan(rows, held_out, settings, seed):
    """List the _Training of all rows and seeds, seed by seed: all rows have a figure after the first.

    Raises UserError where an image is held out and trained on.
    """
    sets = {id(images): images for row in rows.values() for images in (row.real, row.synthetic, held_out) if images}
    contents = {number: list(training_sets.contents_of(images)) for number, images in sets.items()}
    digests = {number: training_sets.digest_of(images, contents[number]) for number, images in sets.items()}
    kept_apart, planned = set(contents[id(held_out)]) - {b""}, []
    for number, images in sets.items():
        shared = kept_apart.intersection(contents[number]) if images is not held_out else ()
        if shared:
            raise UserError(f"{images.root}: {len(shared)} of its images are among those of {held_out.root} that are "
                            "held out; a recogniser can't be verified on what it learns from; take one of the folders")
    for repeat in range(settings.seeds):
        for name, row in rows.items():
            if row.why:
                continue
            how = settings._replace(steps=0) if name == UNTRAINED else settings
            options = training.options_of(settings, seed + repeat, training.crop_of(row))
            learned = [digests.get(id(images), "") for images in (row.real, row.synthetic)]
            if name == UNTRAINED:                   # first weights depend on the form of the graph, and on no image
                learned = [bool(digest) for digest in learned]
            weights = [] if row.weights is None else row.weights.astype(float).round(6).tolist()
            data = [*learned, weights, digests[id(held_out)], crop_kinds.kind_of(held_out.root), seed]
            work = how.steps * sum(images is not None for images in (row.real, row.synthetic))
            planned.append(_Training(name, seed + repeat, how, options, training.key_of(how, options, data), work))
    return planned


def _do_all(left, rows, bench, store):
    """Do the list `left` of _Training, and keep what they reach in a Store. Raises Interrupted."""
    begun = time.monotonic()
    with StopRequest() as stop, logging_redirect_tqdm(), utils.progress_bar(
            "step", sum(each.settings.steps for each in left)) as bar:
        for done, each in enumerate(left):
            try:
                result, seconds = _do(each, rows[each.row], bench, bar.update, stop)
            except Interrupted as end:
                raise _interrupted(end.signal, done, len(left)) from None
            store.keep(each.key, result, {"row": each.row, "seed": each.seed, "steps": each.settings.steps,
                                          "seconds": round(seconds, 1)})
            _tell(result, left, done + 1, time.monotonic() - begun)
        if stop.signal:
            raise _interrupted(stop.signal, len(left), len(left))


def _do(each, row, bench, tell, stop):
    """Do a _Training on a _Bench -> (Verified, or a sentence on why there is none, seconds that it took).

    `tell` and `stop` are those of `training.train`. Raises Interrupted.
    """
    begun = time.monotonic()
    try:
        subject = training.train(row, bench.held_out, each.settings, each.options, tell, stop)
        result = verified.verify(subject, bench.seed)
    except Diverged as problem:
        result = f"{problem} (seed {each.seed})"
    return result, time.monotonic() - begun


def _interrupted(number, done, count):
    """Make the Interrupted for the signal `number` when so many of `count` trainings are `done`."""
    return Interrupted(number, f"{done} of {count} trainings were done and are kept; run the same command again for "
                       "the rest")


def _tell(result, left, number, seconds):
    """Log what training `number` of those `left` reached, and how long the others take by what these took."""
    each = left[number - 1]
    reached = result if isinstance(result, str) else f"AUC {result.values['auc']:.3f}"
    done, all_of_it = (sum(each.work for each in some) for some in (left[:number], left))
    rest = f", about {_duration(seconds * (all_of_it - done) / done)} left" if done and number < len(left) else ""
    logging.info("use: training %d of %d (%s, seed %d): %s%s", number, len(left), each.row, each.seed, reached, rest)


def _duration(seconds):
    """Write a time in words."""
    size, unit = next((size, unit) for size, unit in ((3600, "hours"), (60, "minutes"), (1, "seconds"))
                      if seconds >= 2 * size or size == 1)
    return f"{max(1, round(seconds / size))} {unit}"


# What is told

def _section(rows, found, held_out, settings, seed):
    """Make the Section of what the trainings of `rows` reached: `found` is {name: list of Verified or sentences}."""
    people = len(held_out.identities)
    good = {name: [each for each in some if not isinstance(each, str)] for name, some in found.items()}
    figures = {name: {key: _figure(row, found[name], key, people, name) for key in _COLUMNS}
               for name, row in rows.items()}
    measures = [Measure(f"use_{key}", _named(key), better, meaning,
                        {name: figures[name][key] for name in (SET, RENDERINGS, PHOTOS) if name in figures})
                for key, (_, better, meaning) in _COLUMNS.items()]
    table = [{"trained on": _titled(name), **_counted(name, row), **{_COLUMNS[key][0]: figures[name][key]
                                                                    for key in _COLUMNS}}
             for name, row in rows.items()]
    pairs = [(one, other) for one, other in _COMPARED if good.get(one) and len(good[one]) == len(good.get(other, ()))]
    differences = {pair: {key: verified.difference_of(good[pair[0]], good[pair[1]], key, people) for key in _COLUMNS}
                   for pair in pairs}
    compared = [{"compared": f"{_titled(one)} less {_titled(other)}",
                 **{_COLUMNS[key][0]: each[key] for key in _COLUMNS}}
                for (one, other), each in differences.items()]
    single = [{"trained on": _titled(name), "seed": number, **({"failed": each} if isinstance(each, str) else {
                   _COLUMNS[key][0]: value for key, value in each.values.items()})}
              for name, some in found.items() for number, each in enumerate(some, seed)]
    notes = [f"Each recogniser was trained for {settings.steps} steps of {settings.batch_size} images, with "
             f"{settings.seeds} seed{'s' * (settings.seeds != 1)}, and verified on {people} people who were held out. "
             "Real people and a set together have as many images of each in a step, so twice as many in all.",
             INTERVALS]
    if settings.seeds < 2:
        notes.append("With a single seed, the chance of a training is in no interval: repeat it with other seeds.")
    notes += [_sentence(pair, each["auc"]) for pair, each in differences.items() if each["auc"].value is not None]
    return Section(KEY, TITLE, measures, [], notes, {
        "Recognisers": table, **({"Differences": compared} if compared else {}), "Single trainings": single})


def _figure(row, results, key, people, name):
    """Make the Figure of number `key` of a row: the mean of its trainings, or why there is none."""
    if row.why:
        return not_measured(row.why)
    failed = [each for each in results if isinstance(each, str)]
    return not_measured(failed[0]) if failed else verified.mean_of(results, key, people)


def _titled(name):
    """Name a row for readers."""
    return {UNTRAINED: "an untrained network", **TITLES}.get(name, name)


def _counted(name, row):
    """Count what a Row learns from -> columns of the table."""
    sets = [images for images in (row.real, row.synthetic) if images and name != UNTRAINED]
    return {"identities": " + ".join(f"{len(images.identities):,}" for images in sets) or "0",
            "images": " + ".join(f"{len(images.names):,}" for images in sets) or "0"}


def _sentence(pair, difference):
    """Say in a sentence what the difference of two rows' AUC, a Figure, tells."""
    one, other = map(_titled, pair)
    tells = "no difference is shown" if difference.low <= 0 <= difference.high else \
        "it is higher" if difference.low > 0 else "it is lower"
    return (f"AUC trained on {one}, less that trained on {other}: {difference.value:+.3f} ({difference.low:+.3f} to "
            f"{difference.high:+.3f}): {tells}.").replace("trained on an untrained", "of an untrained")
