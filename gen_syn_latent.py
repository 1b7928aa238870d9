"""Render people of a 3D morphable model with their labels, render the people of photos, or draw photos.

    python gen_syn_latent.py people --output data/syn --n_id 10000 --n_im 50
    python gen_syn_latent.py fit --photos PHOTOS --output data/paired
    python gen_syn_latent.py pairs --annotations 300W-3D --model 3DDFA --output data/paired
    python gen_syn_latent.py drawn --output data --photos 600 --pairs 200
"""
if __name__ == "__main__":
    from cli import interrupts
    interrupts.leave_on_signals("gen_syn_latent.py")      # before the imports below, which take a while

import contextlib
import logging
import os
import sys
from typing import NamedTuple

import footprint
import utils
from cli import cautions, outputs, places, processes, program
from cli.options import choose, Command, parse
from cli.people_options import (
    ANGLES,
    drawn_options,
    DRAWN_SIZE,
    fit_options,
    pairs_options,
    people_options,
    people_picture_options,
    picture_options,
    resolve_people,
    resolve_pictures,
)
from datasets.shards import Work
from utils import UserError

NAMED_MODELS = {"built-in": "builtin", "MakeHuman": "makehuman"}       # a model's own name, and what --model calls it


class _Job(NamedTuple):
    """What a worker needs to write images."""
    scene: object               # a morphable.scene.Scene
    output: str                 # folder to write to
    series: object = None       # a morphable.identities.Series, for people


# The command line

def _resolve_drawn(options, error):
    """Fill in --size and --margin, and call `error` with one line if nothing is to be drawn."""
    resolve_pictures(options, error, DRAWN_SIZE)
    if not (options.photos or options.pairs):
        error("--photos 0 --pairs 0: nothing to draw; give one of them")


COMMANDS = [
    Command("gen_syn_latent.py", "people", "Render people of a face model: OUTPUT/IDENTITY/IMAGE.jpg, with latents.npz "
            "beside them. The word `people` may be left out.",
            ("gen_syn_latent.py people --output data/syn --n_id 100 --n_im 10 --size 64",),
            {"People": people_options, "Pictures": people_picture_options}, resolve_people, presets=True),
    Command("gen_syn_latent.py", "fit", "Fit a face model to photos and render it as each shows it: OUTPUT/*.jpg and "
            "OUTPUT/3dmm/*.jpg, with fitting.csv and latents.npz beside them.",
            ("gen_syn_latent.py fit --photos PHOTOS --output data/paired --preview sheet.png",),
            {"Fits": fit_options, "Pictures": picture_options}, resolve_pictures),
    Command("gen_syn_latent.py", "pairs", "Render the people of annotated photos: OUTPUT/*.jpg and OUTPUT/3dmm/*.jpg.",
            ("gen_syn_latent.py pairs --annotations 300W-3D --model 3DDFA/Model_Shape.mat --output data/paired",),
            {"Pairs": pairs_options, "Pictures": picture_options}, resolve_pictures),
    Command("gen_syn_latent.py", "drawn", "Draw photos of a face model's people, OUTPUT/real/PERSON/*.jpg, and "
            "pairs, OUTPUT/paired/*.jpg with OUTPUT/paired/3dmm/*.jpg: data to try everything on.",
            ("gen_syn_latent.py drawn --output data --photos 600 --pairs 200 --size 64",),
            {"Drawn photos": drawn_options}, _resolve_drawn, presets=True)]


def main(arguments):
    """Run the sub-command that `arguments`, the words of the command line, ask for. Raises UserError."""
    command, arguments = choose(COMMANDS, arguments, default="people")
    parsed = parse(command, arguments)
    options = parsed.options
    cautions.warn_of_unused(cautions.PEOPLE if command.name == "people" else (), options, parsed.typed)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")      # each worker has one core; NumPy asks when it is loaded
    if command.name == "people":
        render_people(options, parsed.typed)
    else:
        {"pairs": render_pairs, "fit": fit_photos, "drawn": draw_photos}[command.name](options)


def _settings_of(command, options, model, names, **settings):
    """Collect the settings that all images of a folder share -> dict.

    They are the name of the sub-command, a FaceModel, the options with these `names`, and `settings`.
    """
    from morphable.face_model import checksum
    from morphable.identities import VERSION

    return {"command": f"gen_syn_latent.py {command}", "version": VERSION, "model": model.name,
            "model_checksum": checksum(model), **settings, **{name: getattr(options, name) for name in names}}


def _settings_of_cast(cast):
    """Collect the settings of a scene.Cast -> dict."""
    return {"targets_checksum": cast.head.checksum, "age": list(cast.wishes.age), "female": cast.wishes.female,
            "origin": list(cast.wishes.origin)}


def _check_place(command, folder, work):
    """Raise UserError where a sub-command can't begin an output folder, or go on with it, whatever the settings are.

    `work` is the shards.Work that is to be done in it.
    """
    from datasets.neighbours import check_links, check_outside

    check_outside("--output", folder)
    check_links(folder)
    outputs.check_ours(folder, command=f"gen_syn_latent.py {command}")
    utils.check_free(folder, work.share)
    work.check_there(folder)


def _keep_model(options, folder):
    """Take the model that an output folder was begun with where --model is not given, whatever is installed now."""
    there = outputs.settings_in(folder).get("model")
    if options.model is None and there in NAMED_MODELS:
        options.model = NAMED_MODELS[there]


def _check_model(options):
    """Raise UserError where --model names what is not there. A model is a file, or a folder of some."""
    if options.model and options.model not in ("builtin", "makehuman") and not os.path.isdir(options.model):
        places.check_files({f"--model {options.model}": options.model})


def _scene_of(options, model, statistics=None, cast=None):
    """Make the Scene of a FaceModel, framed as the `options` say."""
    from morphable.scene import set_scene

    framing = _framing_of(options)
    logging.info("model: %s, %d vertices", model.name, len(model.shape_mean))
    return set_scene(model, framing, statistics, getattr(options, "seed", 1), cast)


def _framing_of(options):
    """Make the morphable.scene.Framing that the `options` ask for."""
    from morphable.scene import Framing

    return Framing(options.size, options.margin, options.supersample, options.crop == "none",
                   options.crop == "arcface")


def _wishes_of(options):
    """Collect whom the `options` ask for -> makehuman_people.Wishes."""
    from morphable.makehuman.people import Wishes

    usual = Wishes()
    age = options.age or (5.0 if options.children else usual.age[0], usual.age[1])
    return Wishes(tuple(age), usual.female if options.sex is None else options.sex, options.origin or usual.origin)


# People

def render_people(options, typed):
    """Render those identities of this shard that are not there yet. Raises UserError for bad input."""
    work = Work(options.shard)
    outputs.check_apart("--output", options.output, {"--statistics": options.statistics or ""})
    _check_place("people", options.output, work)
    _keep_model(options, options.output)
    places.check_folders({f"--statistics {options.statistics}": options.statistics})
    _check_model(options)
    wanted = work.of(range(1, options.n_id + 1))
    footprint.check(footprint.of_rendering(options, len(wanted)))
    from morphable import identities, people_index

    scene, settings = _scene_of_people(options, typed)
    ranges = {name: getattr(options, name) for name in ANGLES if getattr(options, name)}
    series = identities.Series(options.output, options.n_im, options.format, ranges, options.sweep,
                               options.seed)
    job = _Job(scene, options.output, series)
    with outputs.begin_output(options.output, settings, share=work.share):
        work.begin(options.output, range(1, options.n_id + 1), settings)
        missing = _find_missing_people(options, series, wanted)
        identities.remove_temporary(options.output, wanted, alone=not work.in_shards)
        pool = processes.Pool(options.workers, "image", options.n_im)
        of_others = []
        processes.process_all(_render_identity, job, missing, lambda folder: folder and of_others.append(folder), pool)

        def write_index():
            """Write the table of people, if they have labels to tell of -> names of files."""
            return people_index.write(options.output) if scene.cast else []

        if work.share or of_others:                 # of those who are there by now
            write_index()
        if not of_others:
            work.end(options.output, identities.files_of(series, wanted), write_index)
    rendered = len(missing) - len(of_others)
    logging.info("%s: %d images of %d identities rendered", options.output, rendered * options.n_im, rendered)
    if of_others:
        raise UserError(f"{min(of_others)}: has the name of an identity, and images that this command did not make "
                        f"(so have {len(of_others) - 1} others); nothing was changed there; move it elsewhere and run "
                        "the same command again")


def _scene_of_people(options, typed):
    """Set the Scene of the people that the `options` ask for -> (Scene, settings that all its images share).

    Warns of `typed` options without effect. Raises UserError for a model or statistics that can't be read.
    """
    from morphable import sweeps
    from morphable.latents import mark_of
    from morphable.scene import load_people

    cast, model, statistics = load_people(options.model, _wishes_of(options), options.statistics)
    if not cast:
        cautions.warn_of_unused(cautions.NOT_DRAWN, options, typed)
    tell = logging.warning if options.statistics and statistics.description.startswith("built-in") else logging.info
    tell("statistics: %s", statistics.description)
    scene = _scene_of(options, model, statistics, cast)
    names = "seed", "n_im", *ANGLES, "crop", "size", "margin", "format", "supersample"
    settings = _settings_of("people", options, model, names, statistics=mark_of(statistics))
    if options.sweep:
        sweeps.check(scene, options.sweep)
        settings.update(sweep=options.sweep)
    if cast:
        settings.update(_settings_of_cast(cast))
    return scene, settings


def _find_missing_people(options, series, wanted):
    """Find which identities `wanted` an identities.Series lacks -> numbers. Tells what is there, ours or others'."""
    from datasets.neighbours import warn_of_others
    from morphable import identities

    missing, damaged = identities.find_missing(series, wanted)
    if damaged:
        logging.warning("%s: %d identities have lost or damaged files, which are made again, such as %s",
                        options.output, len(damaged), damaged[0])
    if len(missing) < len(wanted):
        logging.info("%s: %d identities are there and are kept", options.output, len(wanted) - len(missing))
    beyond = identities.count_beyond(options.output, options.n_id)
    if beyond:
        logging.warning("%s: %d identities beyond --n_id %d are there too, and are kept", options.output, beyond,
                        options.n_id)
    warn_of_others(options.output, lambda name: identities.is_named_by_us(series, name))
    return missing


def _render_identity(job, identity):
    """Render the folder of one identity, in a worker -> None, or the folder if its images are somebody else's."""
    from morphable import identities

    return identities.render_identity(job.scene, job.series, identity)


# Pairs

def render_pairs(options):
    """Crop each annotated photo and the rendering of its annotation alike. Raises UserError for bad input."""
    from morphable.pairs import check_annotated_model, find_annotated, pair_paths
    from morphable.scene import load_model

    places.check_folders({f"--annotations {options.annotations}": options.annotations})
    outputs.check_apart("--output", options.output, {"--annotations": options.annotations})
    work = Work(options.shard)
    _check_place("pairs", options.output, work)
    _check_model(options)
    found = find_annotated(options.annotations)
    photos = work.of(found)
    footprint.check(footprint.of_rendering(options, len(photos)))
    model = load_model(options.model)
    check_annotated_model(model, options.model)
    scene = _scene_of(options, model)
    settings = _settings_of("pairs", options, model, ("crop", "size", "margin", "supersample"))
    by_name, all_names = ({os.path.basename(pair_paths(options.output, photo)[0]): photo for photo in some}
                          for some in (photos, found))
    with outputs.begin_output(options.output, settings, share=work.share):
        work.begin(options.output, list(all_names), settings)
        record, missing = _find_missing_pairs(options, by_name, all_names, work)
        os.makedirs(os.path.join(options.output, "3dmm"), exist_ok=True)
        utils.clean_temporary(os.path.join(options.output, "3dmm"), alone=not work.in_shards)
        problems = []

        def keep(result):
            """Record a pair that was made, or note what is wrong with its photo."""
            name, problem = result
            if problem:
                problems.append(problem)
            else:
                record.add(name)
                if record.full:
                    record.flush()

        with record.of_run(missing):
            processes.process_all(_render_pair, _Job(scene, options.output), list(missing.items()), keep,
                                  processes.Pool(options.workers, "image"))
        work.end(options.output, [os.path.relpath(path, options.output) for photo in photos
                                  for path in pair_paths(options.output, photo) if os.path.exists(path)])
    for problem in sorted(problems):
        logging.warning("not used: %s", problem)
    if problems and len(problems) == len(photos) and not work.share:
        raise UserError(f"--annotations {options.annotations}: none of {len(photos)} annotated photos can be used")
    logging.info("%s: %d pairs rendered, %d were there and were kept", options.output, len(missing) - len(problems),
                 len(photos) - len(missing))


def _find_missing_pairs(options, by_name, all_names, work):
    """Find which pairs are to be made of the photos `by_name` -> (SourceRecord, {name of a pair: photo}).

    `all_names` are those of the pairs of all shards, of which `work` is one. Pairs of photos that have changed are made
    again. Tells what else is there. Raises UserError where most photos are others than those that the pairs were made
    from, and where a pair's name is somebody else's.
    """
    from datasets.images import stem
    from datasets.neighbours import warn_of_others
    from datasets.sources import SourceRecord
    from datasets.writer import is_whole
    from morphable.pairs import pair_paths

    paths = {name: pair_paths(options.output, photo) for name, photo in by_name.items()}
    record = SourceRecord(options.output, lambda name: [by_name[name], stem(by_name[name]) + ".mat"],
                          work=work)
    record.check_own(by_name, paths.get)
    whole = {name for name in by_name if all(map(is_whole, paths[name]))}
    changed = record.changed(whole)
    if record.are_others(changed, whole):
        raise UserError(f"--annotations {options.annotations}: other photos of the same names than those that "
                        f"--output {options.output} was made from; name another folder")
    others = sorted(name for name in set(record.names) - all_names.keys()
                    if os.path.exists(os.path.join(options.output, name)))
    if others:
        logging.warning("%s: %d pairs of photos that --annotations does not have are there too, and are kept, such "
                        "as %s", options.output, len(others), others[0])
    made = all_names.keys() | record.names
    warn_of_others(options.output, lambda name: name.removeprefix("3dmm/") in made)
    return record, {name: photo for name, photo in by_name.items() if name not in whole or name in changed}


def _render_pair(job, named):
    """Write the crop of a photo and its rendering, in a worker -> (name, what is wrong with the photo, or None).

    `named` is the name of the crop and the path of the photo.
    """
    from morphable import pairs

    name, photo = named
    return name, pairs.render_pair(job.scene, job.output, photo)


# Pairs of any photos

def fit_photos(options):
    """Fit a model to those photos that are not fitted yet, and crop photo and rendering alike. Raises UserError."""
    places.check_folders({f"--photos {options.photos}": options.photos})
    outputs.check_apart("--output", options.output, {"--photos": options.photos})
    work = Work(options.shard)
    _check_place("fit", options.output, work)
    _keep_model(options, options.output)
    _check_model(options)
    from morphable.fitting import albums, landmark_net, photo_fits, preview, template

    preview.check(options.preview, {"--photos": options.photos, "--output": options.output})
    landmark_net.check()
    people = albums.find(options.photos, options.faces == photo_fits.ALL)
    footprint.check(footprint.of_rendering(options, sum(len(album.photos) for album in people)))
    fitted, chosen = template.load(options.model), work.of(people)
    settings = _settings_of("fit", options, fitted.model, ("faces", "crop", "size", "margin", "supersample"),
                            networks_checksum=landmark_net.checksum())
    with outputs.begin_output(options.output, settings, share=work.share):
        work.begin(options.output, [[album.person, *album.photos] for album in people], settings)
        missing = albums.find_missing(options.photos, options.output, chosen)
        albums.claim(options.output, missing, work)
        albums.prepare(options.output, alone=not work.in_shards)
        try:
            if missing:
                found, pool = [], processes.Pool(options.workers, "person", prepare=processes.silence)
                processes.process_all(photo_fits.match, fitted, [None], found.append, pool._replace(unit="model"))
                job = photo_fits.make_job(options, _framing_of(options), fitted, *found)
                processes.process_all(photo_fits.fit_person, job, missing, lambda nothing: None, pool)
        except utils.Interrupted:
            albums.write_tables(options.output, people)
            raise
        rows = albums.write_tables(options.output, people)

        def write_again():
            """Write the tables of what all shards have found by now -> their names."""
            rows[:] = albums.write_tables(options.output, people)
            return albums.tables_in(options.output)

        work.end(options.output, albums.files_of(options.output, chosen), write_again if work.in_shards else list)
    albums.tell(options, rows, len(missing), people)
    if options.preview:
        preview.draw(options.preview, options.output, rows)


# Drawn photos

def draw_photos(options):
    """Draw those photos and pairs of a model's people that are not there yet. Raises UserError."""
    work = {folder: Work(options.shard) for folder in ("real", "paired")}
    for folder, wanted in (("real", options.photos), ("paired", options.pairs)):
        if wanted:
            _check_place("drawn", os.path.join(options.output, folder), work[folder])
            _keep_model(options, os.path.join(options.output, folder))
    _check_model(options)
    footprint.check(footprint.of_rendering(options, max(options.photos, options.pairs)))
    from morphable import drawn_photos
    from morphable.makehuman.people import Wishes
    from morphable.scene import load_people

    options.supersample = 2
    cast, model, statistics = load_people(options.model, Wishes())
    job = _Job(_scene_of(options, model, statistics, cast), options.output)
    kinds = [("real", options.photos, drawn_photos.photo_names, _write_photo),
             ("paired", options.pairs, drawn_photos.pair_names, _write_pair)]
    settings = _settings_of("drawn", options, model, ("seed", "crop", "size", "margin"))
    settings.update(_settings_of_cast(cast) if cast else {})
    folders = {folder: wanted for folder, wanted, *_ in kinds if wanted}
    for folder, wanted in folders.items():                          # all are checked before one is created
        path = os.path.join(options.output, folder)
        outputs.check_output(path, settings, share=work[folder].share)
        work[folder].check(path, range(wanted), settings)
    counts = []
    with contextlib.ExitStack() as stack:
        for folder, wanted in folders.items():
            path = os.path.join(options.output, folder)
            stack.enter_context(outputs.begin_output(path, settings, share=work[folder].share))
            work[folder].begin(path, range(wanted), settings)
        begun = [drawn_photos.begin(options.output, wanted, name_files) if wanted else ([], [])
                 for _, wanted, name_files, _ in kinds]
        for (folder, wanted, name_files, write), (missing, more) in zip(kinds, begun):
            own = work[folder].of(range(wanted))
            missing = [number for number in missing if number in own] if work[folder].in_shards else missing
            if more:
                logging.warning("%s: %d images that are not among those asked for now are there too, and are kept, "
                                "such as %s", options.output, len(more), more[0])
            processes.process_all(write, job, missing, lambda nothing: None, processes.Pool(options.workers, "image"))
            counts += [len(missing), len(own) - len(missing)]
            if wanted:
                work[folder].end(os.path.join(options.output, folder), [
                    name.partition("/")[2] for number in own for name in name_files(number)])
    logging.info("%s: %d photos drawn, %d were there and were kept; %d pairs drawn, %d were there and were kept",
                 options.output, *counts)


def _write_photo(job, number):
    """Draw photo `number`, from 0, in a worker."""
    from morphable import drawn_photos

    drawn_photos.write_photo(job.scene, job.output, number)


def _write_pair(job, number):
    """Draw pair `number`, from 0, in a worker."""
    from morphable import drawn_photos

    drawn_photos.write_pair(job.scene, job.output, number)


if __name__ == "__main__":
    sys.exit(program.run("gen_syn_latent.py", main, sys.argv[1:]))
