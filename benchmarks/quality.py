"""Train a configuration for a budget, and judge what it makes of renderings that it has not seen.

    python benchmarks/quality.py NAME --photos_root PHOTOS --minutes 27 -- --preset cpu --method_c none
    python benchmarks/quality.py NAME --domain drawn --steps 2000 -- --preset demo --method_c none

What stands after `--` are options of main.py. Training and synthesis are main.py's own, in a process of its own.
The same command goes on with a training that was stopped. benchmarks/README.md tells what is written, and what the
columns of the table mean.
"""
import contextlib
import glob
import logging
import os
import re
import resource
import shutil
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import numpy as np

import config
import preflight
import utils
from benchmarks import quality_data, quality_table
from cli import places, program
from cli.options import checked, Command, number, one_of, parse, path, text, whole
from datasets.image_sets import find_renderings
from datasets.images import load_image, make_grid, save_picture, stem
from engine import runs, weight_files
from utils import UserError

# Options of main.py that this program gives itself.
OWN = {"data_dir", "dataset", "syn_dataset", "dataset_3dmm", "dataset_3dmm_test", "split", "log_dir",
       "input_scale_size", "syn_scale_size", "random_seed", "task", "load_path", "cont", "generate_dataset",
       "fit_dataset", "is_train", "train_generator", "save_syn_dataset", "save_fitting", "overwrite", "dry_run",
       "judge", "test_data_path", "sample_per_image", "scores"}
ENDLESS = 10 ** 8           # --max_step where minutes end a training
POLL, NOTE = .2, 15         # seconds between two looks at a training, and between two notes of its time
SHOWN, COLUMNS = 64, 16     # images of a sheet, and of a row of it
_STATE = "quality.json"     # beside the run of main.py: what was begun, and how long it was trained

name = checked("NAME", str, re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,99}").fullmatch,
               "a name of letters, digits and _ . + -")


def _what(add):
    """Add the options that say what is measured."""
    add("name", name, None, "name of the row", needed=True, values="+", positional=True)
    add("domain", one_of(quality_data.DOMAINS), quality_data.PHOTOS, f"{quality_data.PHOTOS}: photos and renderings of "
        f"photos_root; {quality_data.DRAWN}: people of the demo, rendered and drawn first")
    add("photos_root", path, "", "folder with real/PERSON, syn/IDENTITY, paired and paired/3dmm")
    add("size", config.side, None, "side of the crops in pixels",
        ", ".join(f"{size} with {domain}" for domain, size in quality_data.SIZES.items()))
    add("out", text, "quality", "folder to write to")


def _budget(add):
    """Add the options that say how long is trained."""
    add("steps", whole(1), None, "steps to train")
    add("minutes", number(above=0), None, "minutes to train, the start of main.py included")
    add("cpu_minutes", number(above=0), None, "minutes to train in time of all cores together: fair on a busy machine")
    add("seed", whole(0), 123, "seed of the training")


def _judging(add):
    """Add the options of the judge."""
    add("weights", text, "dlib", "recogniser that judges, as in evaluate.py judge; never the one trained with")
    add("num_worker", whole(1, 1024), len(os.sched_getaffinity(0)), "processes that look for faces, and threads")


def _resolve(options, error):
    """Fill in the size. Call `error` where there is no single name, or no single budget."""
    if len(options.name or ()) > 1:
        error(f"{options.name[1]}: one name is enough; options of main.py stand after --")
    options.name = (options.name or [""])[0]
    options.size = options.size or quality_data.SIZES[options.domain]
    if sum(each is not None for each in (options.steps, options.minutes, options.cpu_minutes)) != 1:
        error("give one of --steps, --minutes and --cpu_minutes")


COMMAND = Command("quality.py", "", "Train a configuration for a budget, and judge what it makes of renderings that it "
                  "has not seen. Options of main.py stand after --.",
                  ("benchmarks/quality.py narrow --photos_root PHOTOS --minutes 27 -- --preset cpu --method_c none",
                   "benchmarks/quality.py demo --domain drawn --steps 1200 -- --preset demo --method_c none"),
                  {"What": _what, "Budget": _budget, "Judging": _judging}, _resolve)


# The command line

def read(arguments):
    """Read the words of the command line -> (options, words for main.py). Raises UserError before long work."""
    place = arguments.index("--") if "--" in arguments else len(arguments)
    options, words = parse(COMMAND, arguments[:place]).options, arguments[place + 1:]
    asked = config.read_command_line(words)
    taken = sorted(asked.typed.keys() & (OWN | ({"max_step"} if options.steps else set())))
    if taken:
        raise UserError(f"--{taken[0]}: quality.py gives this option of main.py itself; leave it out")
    preflight.check_classifier(asked.options)
    quality_data.check(options.domain, options.photos_root, options.out)
    places.check_written(f"--out {options.out}", [os.path.join(options.out, "table.md")])
    weight_files.check_packaged("--weights", options.weights)
    if not runs.list_weights(options.weights):
        raise UserError(f"--weights {options.weights}: {weight_files.describe(options.weights)}no weights there; give "
                        "the word dlib, or a run of recognizer.py train")
    return options, words


class Training:
    """A training of main.py in OUT/runs/NAME, and the record of it."""

    def __init__(self, options, words):
        """Find what was begun. Raises UserError where it was begun with other settings or has more steps already."""
        self.options, self.words = options, words
        self.folder = os.path.join(options.out, "runs", options.name)
        self._path = os.path.join(self.folder, _STATE)
        settings = {"domain": options.domain, "size": options.size, "seed": options.seed, "options": words}
        begun = {"settings": settings, "sessions": []}
        self.state = utils.load_json(self._path, begun) if self.run else begun
        self.sessions = self.state["sessions"]
        for key, value in settings.items():
            before = self.state["settings"].get(key)
            if before != value:
                shown = " ".join(before) if isinstance(before, list) else before
                raise UserError(f"{options.name}: was begun with {key} {shown}; give the same, or another name")
        if options.steps and options.steps < self.steps:
            raise UserError(f"{options.name}: has {self.steps} steps already; give --steps {self.steps} or more, or "
                            "another name")

    @property
    def run(self):
        """Find the folder of main.py's run; None where it has no checkpoint."""
        return runs.newest_run(self.folder)

    @property
    def steps(self):
        """Count the steps that are saved."""
        return runs.step_of(runs.list_checkpoints(self.run)[0]) if self.run else 0

    def spent(self, key):
        """Sum what the sessions took, "minutes" or "cpu_minutes"."""
        return sum(session[key] for session in self.sessions)

    def _is_done(self):
        """Tell whether the budget is spent."""
        if self.options.steps:
            return self.steps >= self.options.steps
        return bool(self.run) and self._time_is_over()

    def _time_is_over(self):
        """Tell whether the minutes of the budget, of either kind, are spent."""
        return any(budget is not None and self.spent(key) >= budget for key, budget in (
            ("minutes", self.options.minutes), ("cpu_minutes", self.options.cpu_minutes)))

    def train(self, split):
        """Train until the budget is spent, on the training folder of a Split. Raises UserError, Interrupted."""
        if self._is_done():
            return
        os.makedirs(self.folder, exist_ok=True)
        session = {"commit": utils.git("describe", "--always", "--dirty") or "", "cpu": quality_data.cpu_name(),
                   "cores": len(os.sched_getaffinity(0)), "from": self.steps, "minutes": 0., "cpu_minutes": 0.}
        self.sessions.append(session)
        utils.save_json(self.state, self._path)
        with utils.StopRequest() as stop:
            status = self._watch(self._command(split), session, stop)
        session["to"] = self.steps
        utils.save_json(self.state, self._path)
        if stop.signal:
            raise utils.Interrupted(stop.signal)
        if status not in (0, 128 + 15):
            raise UserError(f"main.py ended with status {status}: {last_line(self.log)}")
        if not self.steps:
            raise UserError(f"{self.options.name}: the budget ended before the first step; give a larger one")

    @property
    def log(self):
        """Name the file of what main.py says."""
        return os.path.join(self.folder, "log.txt")

    def _command(self, split):
        """Write the command line of the training."""
        options = self.options
        given = {"data_dir": split.training, "dataset": "real", "syn_dataset": "syn", "dataset_3dmm": "paired",
                 "log_dir": self.folder, "task": options.name, "input_scale_size": options.size,
                 "random_seed": options.seed}
        if options.steps or "max_step" not in config.read_command_line(self.words).typed:
            given["max_step"] = options.steps or ENDLESS
        if self.run:
            given["load_path"] = self.run
        return main_command({**given, "train_generator": True}, self.words)

    def _watch(self, command, session, stop):
        """Run main.py until it ends, the budget is spent or a StopRequest asks for it; note its time -> exit status."""
        began = noted = time.monotonic()
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        logging.info("training; %s tells how it goes", self.log)
        with open(self.log, "ab") as log, subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True,
                preexec_fn=quality_data.end_with_us()) as process:
            asked = False
            while process.poll() is None:
                time.sleep(POLL)
                session["minutes"] = (time.monotonic() - began) / 60
                session["cpu_minutes"] = cpu_seconds(process.pid) / 60 or session["cpu_minutes"]
                if not asked and (self._time_is_over() or stop.signal):
                    process.terminate()
                    asked = True
                if time.monotonic() - noted > NOTE:
                    noted = time.monotonic()
                    utils.save_json(self.state, self._path)
        now = resource.getrusage(resource.RUSAGE_CHILDREN)
        session["cpu_minutes"] = (now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime) / 60
        return process.returncode

    def synthesize(self, split):
        """Make photos of the held-out renderings of a Split -> their folder. Raises UserError, Interrupted."""
        made = os.path.abspath(os.path.join(self.options.out, "generated", self.options.name))
        given = {"data_dir": os.path.abspath(split.judged), "syn_dataset": os.path.basename(split.renderings),
                 "load_path": os.path.abspath(self.run), "log_dir": self.folder, "save_syn_dataset": made,
                 "generate_dataset": True, "scores": False, "overwrite": True}
        logging.info("synthesizing")
        with open(self.log, "ab") as log:
            status = subprocess.run(main_command(given, []), stdout=log, stderr=log,
                                    preexec_fn=quality_data.end_with_us()).returncode
        if status:
            raise UserError(f"main.py --generate_dataset ended with status {status}: {last_line(self.log)}")
        return made


def main_command(given, words):
    """Write a command line of main.py, from {option: value} and more words."""
    return [sys.executable, os.path.join(utils.PROJECT, "main.py"), *words,
            *(word for option, value in given.items() for word in (f"--{option}", str(value)))]


def last_line(path):
    """Read the last line of a log that says something."""
    lines = utils.read_text(path, "replace").replace("\r", "\n").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


def cpu_seconds(pid):
    """Read how long a process has used the cores, 0 where that is not known."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        fields = utils.read_text(f"/proc/{pid}/stat").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.


# What is kept

def save_sheet(split, made, size, path):
    """Lay out the first held-out renderings, and below each row what was made of them: of each person the same number.

    It is always the first people and their first images, SHOWN in all where there are so many.
    """
    images = find_renderings(split.renderings)
    each = -(-SHOWN // len(images.identities))
    chosen = [i for label in range(len(images.identities)) for i in np.flatnonzero(images.labels == label)[:each]]
    names = [images.names[i] for i in chosen[:SHOWN]]
    files = {stem(file): file for file in find_renderings(made).names}
    rows = []
    for start in range(0, len(names), COLUMNS):
        part = names[start:start + COLUMNS]
        empty = [np.zeros([size, size, 3], np.uint8)] * (COLUMNS - len(part))
        rows += [load_image(os.path.join(images.root, one), size) for one in part] + empty
        rows += [load_image(os.path.join(made, files[stem(one)]), size) for one in part] + empty
    os.makedirs(os.path.dirname(path), exist_ok=True)
    save_picture(make_grid(np.stack(rows), COLUMNS), path)


def keep_grids(run, folder):
    """Copy the last sample grids of a run, and those of the data, instead of earlier ones."""
    shutil.rmtree(folder, ignore_errors=True)
    grids = [os.path.basename(path) for path in glob.glob(os.path.join(glob.escape(run), "*.png"))]
    steps = [int(match[0]) for match in (re.match(r"\d+", grid) for grid in grids) if match]
    os.makedirs(folder, exist_ok=True)
    for grid in grids:
        match = re.match(r"\d+", grid)
        if not match or int(match[0]) == max(steps):
            shutil.copyfile(os.path.join(run, grid), os.path.join(folder, grid))


def references(judge, options, split):
    """Judge the held-out renderings, and the photos that are trained on, unless that is done."""
    path = os.path.join(os.path.dirname(split.judged), f"reference_{judge.sha256[:12]}.json")
    if os.path.isfile(path):
        return
    logging.info("judging the renderings themselves, and real people")
    rows = {quality_table.RENDERINGS: judge.figures(split.renderings), quality_table.PEOPLE: judge.figures(split.seen)}
    utils.save_json({"domain": options.domain, "size": options.size, "judge": judge.name,
                     "images": quality_data.count(split), "rows": rows}, path)


def main(arguments):
    """Train, synthesize, judge, and write the row."""
    options, words = read(arguments)
    training = Training(options, words)
    split = quality_data.make(options.out, options.domain, options.size, options.photos_root)
    training.train(split)
    logging.info("%d steps in %.1f minutes, %.1f of all cores", training.steps, training.spent("minutes"),
                 training.spent("cpu_minutes"))
    made = training.synthesize(split)
    save_sheet(split, made, options.size, os.path.join(options.out, "sheets", f"{options.name}.png"))
    keep_grids(training.run, os.path.join(options.out, "sheets", options.name))

    from benchmarks.quality_judge import Judge
    from engine.startup import start
    start()
    logging.info("judging")
    with Judge(options.weights, split.people, options.size, options.num_worker) as judge:
        references(judge, options, split)
        figures = judge.figures(made, split.renderings)
    result = {"name": options.name, **training.state["settings"], "judge": judge.name, "judge_sha256": judge.sha256,
              "steps": training.steps, "minutes": training.spent("minutes"),
              "cpu_minutes": training.spent("cpu_minutes"), "sessions": training.sessions,
              "finished": time.strftime("%Y-%m-%d %H:%M:%S"), "figures": figures}
    row = options.name if options.weights == "dlib" else f"{options.name}@{judge.sha256[:12]}"
    os.makedirs(os.path.join(options.out, "results"), exist_ok=True)
    with quality_data.waiting_for(os.path.join(options.out, "table.lock")):
        utils.save_json(result, os.path.join(options.out, "results", f"{row}.json"))
        quality_table.write(options.out)
    print(utils.read_text(os.path.join(options.out, "table.md")), end="")


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.exit(program.run("quality.py", main, sys.argv[1:]))
