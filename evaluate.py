"""Judge a data set, keep its best images, export it for other trainers, or see how training runs went.

    python evaluate.py judge DATA --photos DIR [--renderings DIR]
    python evaluate.py compare DATA DATA ... --photos DIR
    python evaluate.py distance --photos DIR FOLDER [FOLDER ...]
    python evaluate.py curves RUN [RUN ...] --output curves.png
    python evaluate.py export DATA --to rec --output OUT
    python evaluate.py filter DATA --keep .9 --by c_score --output OUT

`judge` measures whether faces look real, whether identities differ and stay, whether labels are kept, whether real
people show, and writes a report. `compare` prints the same figures of several sets side by side. `filter` writes the
best images of a data set as a set of its own. `export` writes a data set as others' trainers read it. `distance` prints
for each FOLDER the Frechet distance (Dowson, Landau 1982; Heusel et al. 2017, eq. 6) between its images and the photos,
each set seen as a normal distribution of simple features: colours and the amount of detail, place by place. It needs no
weights of any network and compares sets of the same size and kind; it is not the FID of the literature.
"""
if __name__ == "__main__":
    from cli import interrupts
    interrupts.leave_on_signals("evaluate.py")      # before the imports below, which take a while

import logging
import os
import sys

import numpy as np

import utils
from cli import cautions, outputs, places, program
from cli.options import boolean, BOOLEANS, checked, choose, Command, one_of, parse, place, text, whole
from datasets.export import export
from datasets.export.source import Source
from datasets.image_sets import check_images, find_photos, find_renderings, warn_of
from datasets.images import BrokenImage, load_image, PICTURES, save_picture
from datasets.neighbours import check_links, check_outside, check_picture_place
from engine.curves import draw_curves, MOST_RUNS, read_stats
from engine.runs import folder_of, list_checkpoints
from evaluation import judge_command
from evaluation.choosing import filter_command
from evaluation.distances.features import frechet_distance
from evaluation.judge_command import check_sets, image_folder

SIDE, PLACES = 32, 8        # pixels of a side that images are reduced to, and places along it
MINIMUM = 2                 # images that a set needs for a covariance


def features(image):
    """Compute the features [4 PLACES²], from 0 to 1, of `image` uint8 [SIDE, SIDE, 3].

    They are the mean red, green and blue of each place, then the deviation of the grey within each place.
    """
    step = SIDE // PLACES
    places = (image / 255.).reshape(PLACES, step, PLACES, step, 3)
    return np.concatenate([places.mean(axis=(1, 3)).ravel(), places.mean(axis=4).std(axis=(1, 3)).ravel()])


def read_features(folder, limit):
    """Compute the features [n, k] of at most `limit` images in and below `folder`, evenly chosen.

    Broken images are left out, with a warning. Raises UserError where there are too few.
    """
    images = find_photos(folder)
    count = len(images.names)
    chosen = np.unique(np.linspace(0, count - 1, min(limit, count)).round().astype(int))
    if len(chosen) < MINIMUM:
        raise utils.UserError(f"{folder}: one image only; name a folder with more")
    found, broken = [], []
    for i in chosen:
        try:
            found.append(features(load_image(os.path.join(images.root, images.names[i]), SIDE)))
        except BrokenImage as error:
            broken.append(str(error))
    warn_of(folder, "broken images", broken)
    if len(found) < MINIMUM:
        raise utils.UserError(f"{folder}: fewer than {MINIMUM} images there can be decoded; replace them")
    return np.array(found)


run_folder = checked("RUN", place, bool, "the folder of a run")


def distance_options(add):
    """Add the options of `distance`."""
    add("folders", image_folder, None, "folders of images, with or without a sub-folder for each person", needed=True,
        values="+", positional=True)
    add("photos", text, None, "folder of the photos that they should look like", needed=True)
    add("limit", whole(MINIMUM, 1_000_000), 5000, "images of each folder to look at")


def curves_options(add):
    """Add the options of `curves`."""
    add("runs", run_folder, None, f"folders of runs of main.py or recognizer.py train; {MOST_RUNS} at most are drawn",
        needed=True, values="+", positional=True)
    add("output", outputs.image_file(PICTURES), "curves.png", "picture to write")


def export_options(add):
    """Add the options of `export`."""
    add("data", image_folder, None, "data set with a folder for each identity, or a .rec file", needed=True,
        values="+", positional=True)
    add("to", one_of(export.FORMATS), None, "rec: train.rec, .idx, .lst and property, as InsightFace has them; "
        "webdataset: tar files; tfrecord: files of tf.train.Examples; folder: image files", needed=True)
    add("output", text, None, "folder to write to", needed=True)
    add("shard_size", whole(1), 10_000, "images in a file of webdataset or tfrecord")
    add("num_worker", whole(1, 1024), 4, "threads that decode images to find broken ones")


COMMANDS = [
    judge_command.JUDGE,
    judge_command.COMPARE,
    Command("evaluate.py", "distance", "Print how far the images of folders are, as a whole, from photos: a Frechet "
            "distance of simple features, which compares sets of the same size and kind. The word `distance` may be "
            "left out.",
            ("evaluate.py distance --photos data/real data/syn data/generated",), {"Distance": distance_options}),
    Command("evaluate.py", "curves", "Draw how the losses and other numbers of training runs went, a chart for each.",
            ("evaluate.py curves logs/first logs/second --output curves.png",), {"Curves": curves_options}),
    Command("evaluate.py", "export", "Write a data set in a format of the field, with a table of images, labels and "
            "scores, and with checksums. Images are copied as they are. Stopped, it goes on where it was.",
            ("evaluate.py export data/generated --to rec --output exported",), {"Export": export_options}),
    Command("evaluate.py", "filter", "Keep the best images of each identity, by how sure one can be of them, or by a "
            "score of synthesis. Without --output, tell what would stay. Images are not encoded anew.",
            ("evaluate.py filter data/generated --keep .9 --by c_score",
             "evaluate.py filter data/generated --threshold .5 --confidences report --output data/filtered"),
            {"Filter": filter_command.add_options}, filter_command.resolve)]


def main(arguments):
    """Run the sub-command that the command line names, `distance` where it names none."""
    beginnings = [command.name for command in COMMANDS] + ["-h", "--help"]
    first = arguments[0] if arguments else "-h"
    if first not in beginnings and (first.startswith("-") or os.sep in first or os.path.isdir(first)):
        arguments = ["distance", *arguments]
    command, arguments = choose(COMMANDS, arguments, default="distance")
    options = parse(command, folders_first(command, arguments)).options
    work = {"compare": judge_command.compare, "distance": print_distances, "curves": draw_runs, "export": export_set,
            "filter": filter_command.run}
    if command.name == "judge":
        return judge_command.judge(options, ["evaluate.py", *sys.argv[1:]])
    return work[command.name](options)


def folders_first(command, arguments):
    """Move the words that are no option's value to the front, as argparse takes these only when they stand together.

    Every option of the Command takes one value, which may be left out where it is true or false. Words after `--` are
    never options.
    """
    by_name = {name: option for option in command.by_name().values() if not option.positional for name in option.names}
    folders, options, words = [], [], list(arguments)
    while words:
        word = words.pop(0)
        if word == "--":
            return [*options, "--", *folders, *words]
        (options if word.startswith("-") else folders).append(word)
        if words and word in by_name and (by_name[word].type is not boolean or words[0].lower() in BOOLEANS):
            options.append(words.pop(0))
    return folders + options


def print_distances(options):
    """Print the distance of each folder to the photos."""
    check_sets({f"--photos {options.photos}": options.photos} | {name: name for name in options.folders})
    photos = read_features(options.photos, options.limit)
    distances = {folder: frechet_distance(read_features(folder, options.limit), photos) for folder in options.folders}
    for folder in options.folders:
        cautions.warn_of_same_folder((folder, folder), ("--photos", options.photos), "its distance to itself is 0")
    logging.info("distance to %d photos of %s:", len(photos), options.photos)
    for folder, distance in distances.items():
        print(f"{distance:8.3f}  {utils.one_line(folder)}")


def export_set(options):
    """Export a data set. Raises UserError, before anything is written where the data or the folder can't be used."""
    data, *more = options.data
    if more:
        raise utils.UserError(f"{more[0]}: one data set is exported at a time; give one, or join them in a folder")
    check_sets({data: data})
    outputs.check_apart("--output", options.output, {data: data})
    check_outside("--output", options.output)
    if os.path.isdir(options.output):
        check_links(options.output)
    source = Source(check_images(find_renderings(data), None, options.num_worker))
    written = export.format_of(options.to, source, options.shard_size)
    settings = export.settings_of(options.to, source, options.shard_size)
    outputs.check_output(options.output, settings)
    with outputs.begin_output(options.output, settings):
        export.write(source, written, options.output)
    logging.info("%s: %d images of %d identities, %s and %s", options.output, source.count, len(source.identities),
                 export.INDEX, export.MANIFEST)


def draw_runs(options):
    """Draw the curves of the runs into one picture."""
    places.check_written(f"--output {options.output}", [options.output])
    check_picture_place("--output", options.output)
    found = read_runs([folder_of(run) if list_checkpoints(run) else run for run in options.runs])
    image = draw_curves(found)
    os.makedirs(os.path.dirname(options.output) or ".", exist_ok=True)
    save_picture(image, options.output)
    logging.info("%s: curves of %s", options.output, ", ".join(found))


def read_runs(folders):
    """Read the numbers of runs -> {name: what `read_stats` returns}. A run without any is left out, with a warning.

    Raises UserError where no run has any.
    """
    found, problems = {}, []
    for name, folder in name_runs(folders).items():
        try:
            found[name] = read_stats(folder)
        except utils.UserError as problem:
            problems.append(problem)
    if not found:
        raise problems[0]
    for problem in problems:
        logging.warning("left out: %s", problem)
    if len(found) > MOST_RUNS:
        logging.warning("left out: all but the last %d runs, as there are no more colours", MOST_RUNS)
    return dict(list(found.items())[-MOST_RUNS:])


def name_runs(folders):
    """Name runs by the ends of their paths, as long as tells them apart -> {name: folder}.

    A folder that is repeated counts once.
    """
    distinct = {os.path.abspath(folder): folder for folder in folders}
    count, names = 0, {}
    while len(names) < len(distinct):
        count += 1
        names = {os.sep.join(path.split(os.sep)[-count:]): folder for path, folder in distinct.items()}
    return names


if __name__ == "__main__":
    sys.exit(program.run("evaluate.py", main, sys.argv[1:]))
