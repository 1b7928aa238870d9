"""Find, check and write runs on disk: their folders, options, numbers and checkpoints. No TensorFlow."""
import contextlib
import datetime
import errno
import glob
import hashlib
import importlib.metadata
import itertools
import json
import logging
import math
import os
import platform
import re
import time

import utils
from engine import weight_files
from engine.checkpoint_index import fingerprint
from utils import Diverged, UserError

IDENTITIES, PARAMS, STATS = "identities.json", "params.json", "stats.jsonl"
OF_A_CHECKPOINT = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})$")      # ends the names of a checkpoint's files
MOST_TASK = 200              # bytes of a branch's name in that of a run's folder
SHIPPED = os.path.join(utils.PROJECT, "weights")            # has a folder for each generator that comes with us
RECOGNIZER = re.compile(r"_rec_\d{4}_\d{6}(_\d+)?$")         # ends the folder's name of a run of recognizer.py


class Run:
    """A training on disk: its folder, and what is written there as it goes on.

    Use as a context from the first step on. Nothing is written before: a training that can't begin leaves no trace. The
    context holds the folder against a second training.
    """

    def __init__(self, options, identities, kind="gen", folder=None):
        """Describe a run by its `options`, a namespace, and its `identities`, a JSON value.

        `folder` is that of a run to go on with. Without it, entering the context creates a folder, whose name tells the
        `kind` of the run: gen, a training of main.py, or rec, one of recognizer.py.
        """
        self.options, self.identities, self.kind, self.folder = options, identities, kind, folder
        self._begun_from = self.checkpoints[:1]
        self._stats, self._held = None, None

    def __enter__(self):
        new = not self.folder
        if new:
            task = self.options.task or os.fsdecode(os.fsencode(utils.git_branch())[:MOST_TASK])
            self.folder = prepare_dirs(self.options.log_dir, task, self.kind)
        with contextlib.ExitStack() as stack:
            stack.enter_context(utils.hold(self.folder))
            if self.checkpoints[:1] != self._begun_from:
                raise UserError(f"{self.folder}: another training has gone on with it just now; run the same command "
                                "again")
            if not new:
                utils.clean_temporary(self.folder)
            utils.save_json(self.identities, os.path.join(self.folder, IDENTITIES))
            save_config(self.options, self.folder, identities=IDENTITIES, **self._classifier())
            self._stats = Stats(os.path.join(self.folder, STATS))
            logging.info("run directory: %s", self.folder)
            self._held = stack.pop_all()
        return self

    def _classifier(self):
        """Compute the fingerprint of the classifier of --pretrained_rec -> {"classifier": it}, or {} without one.

        By it, the classifier is known wherever its file lies. What a run to go on with knows stays.
        """
        path = getattr(self.options, "pretrained_rec", "")
        files = list_weights(path) if path else []
        known = fingerprint(files[0]) if files else load_params(self.folder).get("classifier")
        return {"classifier": known} if known else {}

    def __exit__(self, *exception):
        self._stats.close()
        self._begun_from = self.checkpoints[:1]
        self._held.close()

    @property
    def checkpoints(self):
        """List the prefixes of the checkpoints of this run, the newest first."""
        return list_checkpoints(self.folder) if self.folder else []

    def note(self, step, numbers):
        """Append the `numbers` {name: number} of a step to stats.jsonl."""
        self._stats.add({"step": step, **numbers})

    def check_losses(self, step, losses):
        """Raise Diverged where one of the `losses` {name: number} of `step` is not finite."""
        if not all(math.isfinite(value) for value in losses.values()):
            raise self.diverged(step, ", ".join(f"{name} {value:.4g}" for name, value in losses.items()))

    def diverged(self, step, what):
        """Make a Diverged that says `what` went wrong at `step`, and which checkpoint is the last good one."""
        newest = self.checkpoints[0] if self.checkpoints else "none"
        return Diverged(f"step {step}: {what}; last good checkpoint: {newest}")


class Stats:
    """A file of JSON objects, one a line. A full disk ends the file, with one warning."""

    def __init__(self, path):
        """Open the file `path` to append to it. Half a line, which a kill may have left, is ended first."""
        self._path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        size = os.lseek(self._file, 0, os.SEEK_END)
        if size and os.pread(self._file, 1, size - 1) != b"\n":
            self._write(b"\n")

    def add(self, numbers):
        """Append {name: number} as a line, floats rounded to 6 digits."""
        rounded = {name: float(f"{value:.6g}") if isinstance(value, float) else value
                   for name, value in numbers.items()}
        self._write(json.dumps(rounded).encode() + b"\n")

    def _write(self, line):
        try:
            if self._file is not None and os.write(self._file, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            logging.warning("%s: ends here (%s)", self._path, error.strerror)
            self.close()

    def close(self):
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


# Finding runs and checkpoints

def find_run(log_dir, load_path, missing="error"):
    """Find the folder of the run that `load_path` names: a folder in `log_dir`, or a path.

    The newest checkpoint of a run stands for the run. Where there is no such run, raises UserError, or returns None if
    `missing` is None.
    """
    older = None
    for run_dir in map(prefix_of, (os.path.join(log_dir, load_path), load_path)):
        if os.path.isfile(os.path.join(run_dir, PARAMS)) or (os.path.isdir(run_dir) and list_checkpoints(run_dir)):
            return os.path.normpath(run_dir)
        if list_checkpoints(run_dir):
            if list_checkpoints(folder_of(run_dir))[0] == list_checkpoints(run_dir)[0]:
                return os.path.normpath(folder_of(run_dir))
            older = older or folder_of(run_dir)
    if missing is None:
        return None
    if older:
        raise UserError(f"--load_path {load_path}: not the newest checkpoint, from which a run goes on; give "
                        f"--load_path {older}, or --pretrained_gen for the weights of this one")
    what = weight_files.describe(load_path)
    raise UserError(f"--load_path {load_path}: {what and what + 'and '}no such run, neither under {log_dir} nor as a "
                    "path; name a folder with params.json and checkpoints")


def find_checkpoint(log_dir, path, missing="error"):
    """Find the folder or prefix that --pretrained_gen names: `path`, `path` in `log_dir`, or weights that come with us.

    Where none of them has a checkpoint, raises UserError, or returns None if `missing` is None.
    """
    for place in map(prefix_of, (path, os.path.join(log_dir, path), os.path.join(SHIPPED, path))):
        if list_checkpoints(place):
            return place
    if missing is None:
        return None
    raise UserError(f"--pretrained_gen {path}: {weight_files.describe(path)}no checkpoint there; give its "
                    "prefix, such as RUN/model.ckpt-1000, a run directory, or the word demo")


def samples_folder(weights, log_dir):
    """Name the folder that samples drawn with the checkpoint or run `weights` are written to.

    It is the run's. Samples of weights that come with the program lie in a folder of `log_dir` with their name.
    """
    folder = folder_of(weights)
    if os.path.dirname(os.path.abspath(folder)) == SHIPPED:
        return os.path.join(log_dir, os.path.basename(folder))
    return folder


def prepare_dirs(log_dir, task, kind="gen"):
    """Create the folder `<log_dir>/<task>_<kind>_<mmdd_HHMMSS>` -> its path, ending in `_2`, `_3`, ... if taken.

    Raises UserError where it can't be created.
    """
    name = f"{task.replace(os.sep, '-')}_{kind}_{time.strftime('%m%d_%H%M%S')}"
    for number in itertools.count(1):
        run_dir = os.path.join(log_dir, name if number == 1 else f"{name}_{number}")
        try:
            os.makedirs(run_dir)
            return run_dir
        except FileExistsError:
            continue
        except OSError as error:
            raise _cannot_create(log_dir, error) from error


def newest_run(log_dir):
    """Find the run of main.py in `log_dir` with the newest checkpoint -> its folder, or None."""
    indexes = [index for index in glob.glob(os.path.join(glob.escape(log_dir), "*", "model.ckpt-*.index"))
               if os.path.isfile(index) and not RECOGNIZER.search(os.path.dirname(index))]
    return os.path.dirname(max(indexes, key=os.path.getmtime)) if indexes else None


def step_of(prefix):
    """Read the training step from a checkpoint's name, 0 where it has none."""
    match = re.search(r"-(\d+)$", prefix)
    return int(match.group(1)) if match else 0


def list_checkpoints(path):
    """List the prefixes of the checkpoints at `path`, the newest first.

    `path` is a folder, a checkpoint's prefix, or a prefix without its step, which stands for all steps. It may be one
    of the files of a checkpoint too, or the file `checkpoint` of a folder.
    """
    path = prefix_of(path)
    if os.path.isfile(path + ".index") or weight_files.is_first_format(path):
        return [path]
    pattern = os.path.join(glob.escape(path), "*.index") if os.path.isdir(path) else glob.escape(path) + "-*.index"
    found = [index.removesuffix(".index") for index in glob.glob(pattern)]
    return sorted((prefix for prefix in found if os.path.isdir(path) or step_of(prefix)), key=step_of, reverse=True)


def prefix_of(path):
    """Return the prefix of a checkpoint of which `path` is a file, as typed by completion; any other path unchanged.

    The file `checkpoint` stands for its folder. Slashes at the end are left out.
    """
    path = path.rstrip(os.sep) or path
    if os.path.basename(path) == "checkpoint" and os.path.isfile(path):
        return os.path.dirname(path) or "."
    return OF_A_CHECKPOINT.sub("", path) if os.path.isfile(path) else path


def folder_of(path):
    """Return the folder of `path`: itself where it is a folder, else the one that this prefix lies in."""
    path = prefix_of(path)
    return path if os.path.isdir(path) else os.path.dirname(path) or "."


def list_weights(path):
    """List the files at `path` that may hold a classifier's weights, the likeliest first.

    They are the checkpoints, as `list_checkpoints` finds them, then the frozen graphs of a folder. A file of dlib's has
    to be named itself, or by a word of weight_files.PACKAGED.
    """
    path = weight_files.locate(path)
    if weight_files.is_of_dlib(path) and os.path.isfile(path):
        return [path]
    graphs = sorted(glob.glob(os.path.join(glob.escape(path), "*.pb"))) if os.path.isdir(path) else \
        [path] if path.endswith(".pb") and os.path.isfile(path) else []
    return list_checkpoints(path) + [graph for graph in graphs if not weight_files.is_saved_model(graph)]


def package_version(name):
    """Look up the installed version of the package `name` -> str, or None where it is not installed."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(name)


def digest_of_program(folder=utils.PROJECT):
    """Digest the Python files of the program in `folder` -> 64 hexadecimal digits.

    Copies of one version have the same digest. Tests, benchmarks and documents do not count, as they are no packages.
    """
    total = hashlib.sha256()
    for path in sorted(_python_files(folder)):
        total.update(os.fsencode(os.path.relpath(path, folder)) + utils.sha256_of(path).encode())
    return total.hexdigest()


def _python_files(folder):
    """List the Python files in `folder` and in the packages below it."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".py"):
                yield entry.path
            elif os.path.isfile(os.path.join(entry.path, "__init__.py")):
                yield from _python_files(entry.path)


# Options of a run

def save_config(config, run_dir, **extra):
    """Write `<run_dir>/params.json`: every option of `config`, versions, git commit, date, and `extra`."""
    versions = {name: package_version(name) for name in ("numpy", "pillow", "tensorflow")}
    utils.save_json({**vars(config), **extra,
                     "versions": {"python": platform.python_version(), **versions},
                     "git_commit": utils.git("rev-parse", "HEAD"),
                     "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds")},
                    os.path.join(run_dir, PARAMS))


def load_params(run_dir):
    """Read `<run_dir>/params.json` -> dict, {} where there is none. Raises UserError for a broken file."""
    params = utils.load_json(os.path.join(run_dir, PARAMS), {})
    if not isinstance(params, dict):
        raise UserError(f"{run_dir}/{PARAMS}: can't be read (no options in it); {utils.RESTORE}")
    return params


def warn_without_options(folder, saved):
    """Warn where the params.json of a run, whose content is `saved`, tells no options."""
    if not saved:
        logging.warning("%s: no %s with options there; those of the command line count, and the defaults for all "
                        "others, its networks and data too", folder, PARAMS)


# Checks before work starts

def check_run_writable(log_dir, resumed):
    """Raise UserError where nothing can be written into the run `resumed`, or no run be created in `log_dir`.

    Nothing can be written where another process trains the run.
    """
    check_name(f"--load_path {resumed}" if resumed else f"--log_dir {log_dir}")
    try:
        utils.check_writable(resumed or log_dir)
        if resumed:
            utils.check_free(resumed)
    except OSError as error:
        if resumed:
            raise UserError(f"--load_path {resumed}: can't write there ({error.strerror}); make it writable") from error
        raise _cannot_create(log_dir, error) from error


def check_name(option):
    """Raise UserError where an `option` with its value is not UTF-8: TensorFlow can't write to a path of that name."""
    if any("\ud800" <= letter <= "\udfff" for letter in option):
        raise UserError(f"{option}: its name is not UTF-8, and TensorFlow can't write there; name another folder")


def _cannot_create(log_dir, error):
    return UserError(f"--log_dir {log_dir}: can't create a run directory there ({error.strerror}); "
                     "name a folder that can be written")


def warn_of_start(run_dir):
    """Warn where the run to go on with has saved no checkpoint yet."""
    if not list_checkpoints(run_dir):
        logging.warning("%s: stopped before its first checkpoint; it starts again from step 0", run_dir)


def check_options(run_dir, differences):
    """Raise UserError where there are `differences`, words, from the options of the run."""
    if differences:
        raise UserError(f"--load_path {run_dir}: trained with other options: {', '.join(differences)}; give the run's, "
                        "or start a new run")


def check_run_identities(run_dir, identities, all_known=True):
    """Raise UserError where the run was trained on other `identities`, a JSON value.

    With `all_known` False, `identities` are candidates, of which some may be lost later. The run's identities have to
    be among the candidates then.
    """
    path = os.path.join(run_dir, IDENTITIES)
    trained_on = utils.load_json(path, identities)
    lists = list(trained_on.values()) if isinstance(trained_on, dict) else [trained_on]
    if type(trained_on) is not type(identities) or not all(
            isinstance(names, list) and all(isinstance(name, str) for name in names) for names in lists):
        raise UserError(f"{path}: no identities in it; restore it, or start a new run")
    same = trained_on == identities if all_known else _are_among(trained_on, identities)
    if not same:
        before, now = (set().union(*(found.values() if isinstance(found, dict) else [found]))
                       for found in (trained_on, identities))
        which = [f"{len(names)} {what}, such as {min(names)}"
                 for names, what in ((before - now, "are missing now"), (now - before, "are new")) if names]
        raise UserError(f"--load_path {run_dir}: trained on other identities: "
                        f"{' and '.join(which) or 'their order is another one'}; restore them, or start a new run")


def _are_among(identities, candidates):
    """Tell whether a list of identities, or each list of a dict, is a part of that of the candidates."""
    if isinstance(identities, dict):
        return identities.keys() == candidates.keys() and all(
            isinstance(found, list) and set(found) <= set(candidates[name]) for name, found in identities.items())
    return set(identities) <= set(candidates)
