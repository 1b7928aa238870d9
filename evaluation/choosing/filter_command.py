"""Run `evaluate.py filter`: its options, its checks, what it writes and what it tells."""
import logging
import os
import shlex

import utils
from cli import outputs, places
from cli.options import number, one_of, text, whole
from datasets import scores, selection
from datasets.export.source import Source
from datasets.image_sets import check_images, columns_for, find_renderings, subset
from datasets.neighbours import check_links, check_outside, warn_of_others
from evaluation.choosing import confidence_file, filtering
from evaluation.judge_command import image_folder
from evaluation.report import report
from utils import UserError

UNPACK = "images in a .rec file can't be filtered; unpack them with evaluate.py export --to folder"


# Options

def add_options(add):
    """Add the options of `filter`."""
    add("data", image_folder, None, "data set with a folder for each identity", needed=True, values="+",
        positional=True)
    add("keep", number(above=0, below=1), None, "share of the images of each identity that stays: this or --threshold")
    add("threshold", number(), None, "confidence that an image must have at least, or score that it may have at most")
    add("by", one_of(filtering.KINDS), filtering.CALIBRATED, "calibrated: the confidences of a judgement, high is "
        "good; or a score of confidence_scores.csv, low is good")
    add("confidences", text, None, f"{confidence_file.NAME} of a judgement, or the folder of its report",
        f"the folder FOLDER{report.ENDING}, with --by {filtering.CALIBRATED}")
    add("at_least", whole(0), 1, "images of each identity that stay in any case; 0: identities may get lost")
    add("output", text, None, "folder to write the images that stay to", "only tell what would stay")
    add("num_worker", whole(1, 1024), 4, "threads that decode images to find broken ones")


def resolve(options, error):
    """Call `error` with one line unless the options name one limit, and one that there can be."""
    if (options.keep is None) == (options.threshold is None):
        error("--keep, --threshold: give one of them: the share of each identity that stays, or the limit of the score")
    if options.threshold is not None and options.by == filtering.CALIBRATED and not 0 <= options.threshold <= 1:
        error(f"--threshold {options.threshold:g}: a confidence lies between 0 and 1")


# Work

def run(options):
    """Choose the best images of a data set, tell what that changes, and write them to --output, if it is given.

    Raises UserError, before anything is written, where the data or the folder can't be used.
    """
    data, *more = options.data
    if more:
        raise UserError(f"{more[0]}: one data set is filtered at a time; give one, or join them in a folder")
    data = data.rstrip(os.sep) or os.sep
    if os.path.isfile(data):
        raise UserError(f"{data}: a file, and no folder; {UNPACK}")
    places.check_folders({data: data})
    judged = _find_confidences(options, data)
    if judged and os.path.isdir(judged):
        report.check_beside(judged, confidence_file.NAME)
    if options.output:
        _check_output(options.output, {data: data} | ({f"the judgement {judged}": judged} if judged else {}))
    rule = filtering.Rule(options.by, options.keep, options.threshold, options.at_least)
    found = find_renderings(data)
    if found.root != data:
        raise UserError(f"{found.root}: {UNPACK}")
    columns = filtering.read_columns(found, rule.by, confidence_file.read(judged) if judged else None)
    images = check_images(found, None, options.num_worker)
    columns = columns_for(columns, found, images)
    chosen = filtering.choose(images, columns, rule)
    if options.output:
        filtering.check_smaller(images, chosen, rule)
        _write(options.output, images, chosen, rule)
    for line in filtering.describe(images, columns, chosen, rule):
        print(utils.one_line(line))
    if options.output:
        _tell_of_reports(judged or report.folder_for(data), options.output.rstrip(os.sep), len(chosen))
    else:
        logging.info("nothing was written; give --output FOLDER to write these images")


def _find_confidences(options, data):
    """Find the file of confidences, or the report's folder, that the `options` name; None where none is needed.

    Raises UserError where nothing is there.
    """
    if not options.confidences and options.by != filtering.CALIBRATED:
        return None
    judged = options.confidences or report.folder_for(data)
    path = os.path.join(judged, confidence_file.NAME) if os.path.isdir(judged) or not options.confidences else judged
    problem = places.file_problem(path)
    if problem:
        typed = f"--confidences {options.confidences}" if options.confidences else f"--by {options.by}"
        raise UserError(f"{typed}: {path}: {problem}; judge the set (evaluate.py judge), name its report's folder with "
                        f"--confidences, or choose --by {', '.join(scores.COLUMNS)}")
    return judged


def _check_output(output, inputs):
    """Raise UserError where the folder `output` overlaps one of `inputs`, {what a user typed: path}, or others' files.

    Nothing is created.
    """
    outputs.check_apart("--output", output, inputs)
    check_outside("--output", output)
    if os.path.isdir(output):
        check_links(output)
    outputs.check_ours(output, command=filtering.COMMAND)


def _write(output, images, chosen, rule):
    """Write the images of Renderings that a Rule has chosen, by their indices, into the folder `output`."""
    kept = subset(images, chosen)
    tables, there = selection.read_tables(kept), outputs.settings_in(images.root)
    if isinstance(there.get(outputs.RUN), str):             # a path from the other folder
        run = os.path.join(os.path.realpath(images.root), there[outputs.RUN])
        there[outputs.RUN] = os.path.relpath(run, os.path.realpath(output))
    settings = filtering.settings_of(there, images, chosen, rule, Source(images).fingerprint())
    outputs.check_output(output, settings)
    warn_of_others(output, set(kept.names).__contains__)
    with outputs.begin_output(output, settings):
        selection.write(kept, tables, output)


def _tell_of_reports(judged, output, count):
    """Print what a filter changed, if both sets were judged; else log how to judge the folder `output`.

    `judged` is the report of the set that was filtered: its folder, or the confidences in it. `count` images are in
    `output`.
    """
    before, after = (os.path.join(folder, report.JSON) for folder in (
        judged if os.path.isdir(judged) else os.path.dirname(judged), report.folder_for(output)))
    if os.path.isfile(before) and os.path.isfile(after):
        try:
            loaded = report.load(before), report.load(after)
        except UserError as problem:            # the images are written all the same
            logging.warning("measures can't be compared: %s", problem)
            return
        told = ((loaded[1][1].get("sets") or {}).get(filtering.SET) or {}).get("images", count)
        if told != count:
            logging.warning("%s tells of %s images, and %s has %d: judge it again", after, told, output, count)
        print()
        filtering.before_and_after(*loaded)
    else:
        logging.info("%s is written; for before and after of every measure, judge it as you judged the other set, with "
                     "evaluate.py judge %s --output %s, then run this command again",
                     output, shlex.quote(output), shlex.quote(report.folder_for(output)))
