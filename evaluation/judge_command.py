"""The commands `evaluate.py judge` and `compare`: their options, what is checked first, what is printed and written."""
import contextlib
import logging
import os
import time

import utils
from cli import cautions, outputs, places
from cli.options import boolean, checked, Command, number, parse, path, place, text, whole
from cli.shards import FINISH, shard
from datasets.image_sets import find_renderings, subset
from datasets.neighbours import check_outside
from datasets.packed import records
from datasets.shards import Work
from engine import runs, weight_files
from engine.startup import start
from evaluation import embedding_shards, judged_sets
from evaluation.choosing import confidence_file
from evaluation.embedding_cache import usual_path
from evaluation.figures import PHOTOS, RENDERINGS, SET
from evaluation.report import console, report
from evaluation.usefulness import store

GATED = 3                   # exit status where --gate is not passed

image_folder = checked("FOLDER", place, bool, "the name of a folder")


def _judging_options(add):
    """Add the options that `judge` and `compare` share."""
    add("photos", text, None, "folder of photos of real people, a sub-folder for each; half of them are the floor",
        needed=True)
    add("renderings", path, "", "folder of the renderings that the set was made from")
    add("train_photos", path, "", "folder of the photos that the generator has seen, for leakage",
        "those of generator, if they are there; else half of photos stands for them")
    add("generator", path, "", "run of main.py that made the set: the report tells of it, and its training photos are "
        "found", "the one that the set's settings.json names, if it is there")
    add("weights", text, "dlib", "recogniser that judges: dlib, or what recognizer.py verify takes; never the one that "
        "the generator was trained with")
    add("seed", whole(0, 2 ** 31 - 1), 0, "seed of all that is drawn at random")
    add("cache", path, "", "file that embeddings and points of faces are kept in",
        "embeddings.sqlite3 beside the environment")
    add("shard", shard, None, "embed only each N-th image, from the I-th on, into a cache of its own beside that one, "
        f"and end: for several machines. {FINISH}: merge these caches, and judge", "all")
    add("batch_size", whole(1, 65536), 32, "images to embed at a time")
    add("num_worker", whole(1, 1024), len(os.sched_getaffinity(0)), "threads that decode images, and processes that "
        "look for faces", "one for each core")
    add("use_gpu", boolean, True, "use a GPU where there is one")


def judge_options(add):
    """Add the options of `judge`."""
    add("data", image_folder, None, "data set to judge, with a folder for each identity", needed=True, values="+",
        positional=True)
    add("output", text, None, "folder for report.html, report.json, DATASHEET.md", f"DATA{report.ENDING}")
    add("utility", boolean, False, "train small recognisers on the set, on its renderings and on real people, and "
        "compare them: minutes to hours; it goes on where it was stopped")
    add("filtered", path, "", "with utility: the part of the set that evaluate.py filter kept")
    add("gate", number(0, most=1), None, "exit with status 3 where a larger share of images shows a training photo",
        "no gate")
    _judging_options(add)


def compare_options(add):
    """Add the options of `compare`."""
    add("data", image_folder, None, "data sets to compare", needed=True, values="+", positional=True)
    _judging_options(add)


def resolve_judge(options, error):
    """Call `error` with one line where the options ask a single shard for what only the whole judgement has."""
    asked = [name for name, there in (("--gate", options.gate is not None), ("--utility", options.utility)) if there]
    if _embeds_only(options) and asked:
        error(f"{', '.join(asked)}: not with --shard I/N, which embeds images and judges nothing; give it with --shard "
              f"{FINISH}")


def _embeds_only(options):
    """Tell whether the options ask for a part of the embeddings, and for no judgement."""
    return options.shard not in (None, FINISH)


JUDGE = Command("evaluate.py", "judge", "Judge a data set: does it look real, is everybody a different person, are "
                "labels kept, does it show real people, whom does it represent? Prints the figures, writes a report.",
                ("evaluate.py judge data/generated --photos data/real --renderings data/syn",),
                {"Judging": judge_options}, resolve_judge)
COMPARE = Command("evaluate.py", "compare", "Print the figures of several data sets side by side.",
                  ("evaluate.py compare data/generated data/syn --photos data/real",), {"Judging": compare_options})


def options_for(data, photos, renderings, generator, classifier):
    """Make the options of `judge` for a set that main.py makes, from folders and the classifier it was trained with.

    dlib's recogniser judges if it is installed, and was not the one that was trained with.
    """
    dlib = runs.list_weights("dlib")
    other = classifier and not (dlib and runs.list_weights(classifier) != dlib)
    words = ["--photos", photos, "--renderings", renderings, "--weights", classifier if other else "dlib"]
    return parse(JUDGE, [data, *words, *(["--generator", generator] if generator else [])]).options


def check_sets(named):
    """Raise UserError unless each data set of `named`, {what a user typed: path}, is a folder or a .rec file there."""
    files = {typed: path for typed, path in named.items() if path.lower().endswith(records.SUFFIX)
             and not os.path.isdir(path)}
    places.check_files(files)
    places.check_folders({typed: path for typed, path in named.items() if typed not in files})


def _check_read(options, data):
    """Check what `judge` and `compare` read: the options' folders and weights, and the sets `data` -> None.

    Raises UserError, before TensorFlow is loaded.
    """
    named = {"--photos": options.photos, "--renderings": options.renderings, "--train_photos": options.train_photos,
             "--filtered": getattr(options, "filtered", "")}
    check_sets({each: each for each in data} | {f"{name} {each}": each for name, each in named.items() if each})
    if options.generator and not runs.find_run("", options.generator, missing=None):
        raise utils.UserError(f"--generator {options.generator}: no such run; name the folder of a run of main.py, "
                              "with params.json and checkpoints")
    if options.cache:
        places.check_written(f"--cache {options.cache}", [options.cache])
    weight_files.check_packaged("--weights", options.weights)
    if not runs.list_weights(options.weights):
        raise utils.UserError(f"--weights {options.weights}: {weight_files.describe(options.weights)}no weights there; "
                              "give the word dlib, or a run of recognizer.py train")
    for each in data:
        cautions.warn_of_same_folder((each, each), ("--photos", options.photos), "it can't be told from them")


def _generator_of(options, data):
    """Find the run that made the set in the folder `data`: as --generator says, or as the set's own settings do."""
    return options.generator or judged_sets.generator_of(data)


def _find(options, data):
    """Find the images of a judgement of the set in `data` -> judged_sets.Sets. Raises UserError."""
    training = options.train_photos or judged_sets.training_of(_generator_of(options, data))
    return judged_sets.find_sets(data, options.photos, options.renderings, training)


def _embedder(options, cache, **more):
    """Load the recogniser that judges, with the file `cache` -> embedding.SetEmbedder."""
    from evaluation.embedding import SetEmbedder, Settings

    settings = Settings(options.batch_size, options.num_worker, options.use_gpu, cache, **more)
    return SetEmbedder(options.weights, settings)


def _embed_shard(options, found):
    """Embed this shard's part of the images of all judgements, a list of Sets, into a cache of its own.

    Raises UserError.
    """
    work = Work(options.shard)
    path = embedding_shards.path_for(options.cache or usual_path(), options.shard)
    embedder = _embedder(options, path, journal=embedding_shards.JOURNAL)
    try:
        for sets in found:
            embedder.place_alike(sets.there)
            for images in sets.there:
                part = subset(images, work.of(range(len(images.names))))
                logging.info("%s: embedding %d of %d images", images.root, len(part.names), len(images.names))
                embedder.embed(part)
            embedding_shards.note_done(path, embedding_shards.work_of(sets.there, embedder.sha256))
    finally:
        embedder.close()
    logging.info("%s: %s is done; when all are, --shard %s merges their caches and judges", path, work, FINISH)


def _judge_one(options, data, sets, command):
    """Judge one data set, that in the folder `data`, of Sets -> (judge.Judgement, facts). Raises UserError."""
    from evaluation import judge as judging

    cache = options.cache or usual_path()
    embedder = _embedder(options, cache)
    try:
        if options.shard == FINISH:
            embedding_shards.merge(cache, embedding_shards.work_of(sets.there, embedder.sha256))
        found = judging.Judge(sets, embedder, options.num_worker, cache, options.seed).judge()
        named = {SET: data, PHOTOS: options.photos, RENDERINGS: options.renderings}
        facts = judging.facts_of(sets, named, embedder, _generator_of(options, data), command, options.seed)
    finally:
        embedder.close()
    for warning in facts["warnings"]:
        logging.warning("%s", warning)
    return found, facts


def check(options, data=()):
    """Check all that `judge` needs, and the sets `data` if they are there already -> the folder that it writes to.

    Raises UserError, before TensorFlow is loaded.
    """
    judged, *more = options.data
    if more:
        raise utils.UserError(f"{more[0]}: one data set is judged at a time; take evaluate.py compare for several")
    folder = options.output or report.folder_for(judged)
    _check_read(options, data)
    read = {judged: judged, "--photos": options.photos, "--renderings": options.renderings,
            "--train_photos": options.train_photos}
    outputs.check_apart("--output", folder, {name: each for name, each in read.items() if each})
    check_outside("--output", folder)
    written = [*report.NAMES, confidence_file.NAME]
    outputs.check_begun(folder, [*written, store.NAME])
    places.check_written(f"--output {folder}", [os.path.join(folder, name) for name in written])
    utils.check_free(folder)
    return folder


@contextlib.contextmanager
def _holding(folder):
    """Hold the folder of a report against other judgements in this context. A new one that stays empty is removed."""
    new = not os.path.lexists(folder)
    os.makedirs(folder, exist_ok=True)
    try:
        with utils.hold(folder):
            yield
    finally:
        with contextlib.suppress(OSError):          # where something is in it
            if new:
                os.rmdir(folder)


def judge(options, words=()):
    """Judge a data set, print its figures, write the report -> exit status GATED where --gate is not passed, else 0.

    `words` are those of the command line, for the report. Raises UserError.
    """
    data, folder = options.data[0], check(options, options.data)
    sets, filtered = _find(options, data), None
    if options.utility:
        store.Store(folder)                             # raises UserError where it is damaged, and not hours later
        filtered = find_renderings(options.filtered) if options.filtered else None
    if _embeds_only(options):
        start()
        _embed_shard(options, [sets])
        return 0
    with _holding(folder):
        found = _judge_into(options, sets, filtered, folder, list(words))
    if options.gate is not None and (found.leaked.value is None or found.leaked.value > options.gate):
        share = "was not measured" if found.leaked.value is None else f"is {found.leaked.value:.4f}"
        logging.error("--gate %g: the share of images that show a training photo %s", options.gate, share)
        return GATED
    return 0


def _judge_into(options, sets, filtered, folder, words):
    """Judge one of Sets, print its figures, and write the report into `folder` -> judge.Judgement.

    `filtered` are Renderings, the part of the set that was kept, for --utility; None where there is none.
    """
    data, began = options.data[0], time.monotonic()
    start()
    found, facts = _judge_one(options, data, sets, words)
    if options.utility:
        found.sections.append(_measure_use(options, sets, filtered, folder))
    facts["seconds"] = round(time.monotonic() - began)
    print(console.table_of({data: found.sections}))
    names = sets.judged.names
    report.save(found.illustrated(options.seed), facts, folder, {
        confidence_file.NAME: confidence_file.table_of(names, found.confidences_of(names))})
    logging.info("%s: %s", folder, ", ".join(report.NAMES))
    return found


def _measure_use(options, sets, filtered, folder):
    """Train recognisers on the judged one of Sets, on the Renderings `filtered` or None, and on the others -> Section.

    `folder` keeps the results.
    """
    from evaluation.usefulness import rows, training, utility

    compared = rows.Sets(sets.photos, sets.renderings, sets.judged, filtered, sets.training)
    try:
        trained, held_out, notes = rows.make(compared, seed=options.seed)
    except utils.UserError as problem:
        return utility.impossible(str(problem))
    settings = training.Settings(workers=options.num_worker, use_gpu=options.use_gpu)
    section = utility.measure(trained, held_out, settings, options.seed, folder)
    section.notes.extend(notes)
    return section


def compare(options):
    """Judge several data sets, and print their figures side by side."""
    _check_read(options, options.data)
    found = {each: _find(options, each) for each in options.data}
    start()
    if _embeds_only(options):
        _embed_shard(options, found.values())
        return
    found = {each: _judge_one(options, each, sets, [])[0].sections for each, sets in found.items()}
    print(console.table_of(found))
