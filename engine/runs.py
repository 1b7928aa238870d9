"""Runs on disk: their folders, options and checkpoints, found, checked and opened. No TensorFlow."""
import contextlib
import datetime
import glob
import importlib.metadata
import itertools
import logging
import os
import platform
import re
import time

import utils
from utils import UserError

IDENTITIES = "identities.json"


def find_run(log_dir, load_path):
    """The run directory that `load_path` means: a run's name under `log_dir`, or a path. Raises UserError if absent."""
    for run_dir in (os.path.join(log_dir, load_path), load_path):
        if os.path.isfile(os.path.join(run_dir, "params.json")) or os.path.isdir(run_dir) and list_checkpoints(run_dir):
            return os.path.normpath(run_dir)
    raise UserError(f"--load_path {load_path}: no such run, neither under {log_dir} nor as a path; "
                    f"name a folder with params.json and checkpoints")


def prepare_dirs(log_dir, task, kind="gen"):
    """Create `<log_dir>/<task>_<kind>_<mmdd_HHMMSS>`, with `_2`, `_3`, ... if taken. Raises UserError if not writable."""
    name = f"{task.replace(os.sep, '-')}_{kind}_{time.strftime('%m%d_%H%M%S')}"
    for number in itertools.count(1):
        run_dir = os.path.join(log_dir, name if number == 1 else f"{name}_{number}")
        try:
            os.makedirs(run_dir)
            return run_dir
        except FileExistsError:
            continue
        except OSError as error:
            raise UserError(f"--log_dir {log_dir}: can't create a run directory there ({error.strerror}); "
                            f"name a folder that can be written") from error


def newest_run(log_dir):
    """The run directory under `log_dir` with the newest checkpoint, or None. Those of `recognizer.py` don't count."""
    indexes = [index for index in glob.glob(os.path.join(glob.escape(log_dir), "*", "model.ckpt-*.index"))
               if not re.search(r"_rec_\d{4}_\d{6}(_\d+)?$", os.path.dirname(index))]
    return os.path.dirname(max(indexes, key=os.path.getmtime)) if indexes else None


def step_of(prefix):
    """The training step in a checkpoint's name, 0 where it has none."""
    match = re.search(r"-(\d+)$", prefix)
    return int(match.group(1)) if match else 0


def list_checkpoints(path):
    """Prefixes of the checkpoints at `path`, the newest first: a prefix itself, one without its step, or a folder."""
    if os.path.isfile(path + ".index") or os.path.isfile(path):     # the latter in TensorFlow's first format
        return [path]
    pattern = os.path.join(glob.escape(path), "*.index") if os.path.isdir(path) else glob.escape(path) + "-*.index"
    found = [index.removesuffix(".index") for index in glob.glob(pattern)]
    return sorted((prefix for prefix in found if os.path.isdir(path) or step_of(prefix)), key=step_of, reverse=True)


def folder_of(path):
    """The folder that `path`, a folder itself or a checkpoint's prefix in one, means."""
    return path if os.path.isdir(path) else os.path.dirname(path)


def list_weights(path):
    """Files that may hold a classifier's weights at `path`, the likeliest first: checkpoints, then frozen graphs."""
    graphs = sorted(glob.glob(os.path.join(glob.escape(path), "*.pb"))) if os.path.isdir(path) else []
    return list_checkpoints(path) + graphs


def package_version(name):
    """The installed version of package `name`, or None."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(name)


def save_config(config, run_dir, **extra):
    """Write `<run_dir>/params.json`: every option of `config`, versions, git commit, date, and `extra`."""
    versions = {name: package_version(name) for name in ("numpy", "pillow", "tensorflow")}
    utils.save_json({**vars(config), **extra,
               "versions": {"python": platform.python_version(), **versions},
               "git_commit": utils.git("rev-parse", "HEAD"),
               "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds")},
              os.path.join(run_dir, "params.json"))


def load_params(run_dir):
    """The dict in `<run_dir>/params.json`, {} where there is none. Raises UserError when the file is broken."""
    params = utils.load_json(os.path.join(run_dir, "params.json"), {})
    if not isinstance(params, dict):
        raise UserError(f"{run_dir}/params.json: can't be read (no options in it); restore it, or remove it to go without")
    return params


def check_log_dir(log_dir):
    """Raise UserError where no run directory can be created."""
    try:
        utils.check_writable(log_dir)
    except OSError as error:
        raise UserError(f"--log_dir {log_dir}: can't create a run directory there ({error.strerror}); name a folder that "
                        "can be written") from error


def warn_of_start(run_dir):
    """Warn where a run to go on with has saved nothing yet."""
    if not list_checkpoints(run_dir):
        logging.warning("%s: stopped before its first checkpoint; it starts again from step 0", run_dir)


def check_run(run_dir, differences, identities):
    """Raise UserError when the run was trained with other structural options (`differences`, a list) or identities."""
    if differences:
        raise UserError(f"--load_path {run_dir}: trained with other options: {', '.join(differences)}; give the run's, "
                        "or start a new run")
    if utils.load_json(os.path.join(run_dir, IDENTITIES), identities) != identities:
        raise UserError(f"--load_path {run_dir}: trained on other identities; restore them, or start a new run")


def open_run(config, run_dir, identities, kind="gen"):
    """`run_dir` to go on in, or else a new run directory of this `kind`; options and identities are written into it.

    To be called when all is ready for the first step: a training that can't begin leaves no trace.
    """
    if run_dir:
        utils.clean_temporary(run_dir)
    else:
        run_dir = prepare_dirs(config.log_dir, config.task or utils.git_branch(), kind)
    utils.save_json(identities, os.path.join(run_dir, IDENTITIES))
    save_config(config, run_dir, identities=IDENTITIES)
    logging.info("run directory: %s", run_dir)
    return run_dir
