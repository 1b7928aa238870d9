"""What the cases of gpu.py share: drawn images, the driver's words, a training by the command line with its picture."""
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np

from benchmarks.quality_data import end_with_us
from datasets.images import read_picture, save_picture
from engine import runs
from utils import PROJECT

NAMES = {"dataset": "real", "syn_dataset": "syn", "dataset_3dmm": "paired"}
# Of the training by the command line: enough for two minutes, and drawn by 16 cores in half a minute.
PEOPLE, OF_EACH, PHOTOS, PAIRS = 60, 8, 300, 100
GRACE = 120                 # seconds to save and leave, after a training was asked to


def ask_driver(*what):
    """Ask the NVIDIA driver for facts of its GPUs -> a line for each, [] where there is no driver."""
    try:
        done = subprocess.run(["nvidia-smi", f"--query-gpu={','.join(what)}", "--format=csv,noheader"],
                              capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.strip().splitlines() if done.returncode == 0 else []


def as_words(options):
    """Write {option: value} as the words of a command line."""
    return [word for name, value in options.items() for word in (f"--{name}", str(value))]


def images_of(folder, size):
    """Name the folder of drawn images of `size` pixels in `folder`, and draw them if they are not there."""
    place = os.path.join(folder, "data", str(size))
    if not os.path.isdir(place):
        import drawn
        new = f"{place}.{os.getpid()}"
        drawn.write_dataset(new, size=size)
        with contextlib.suppress(OSError):
            os.rename(new, place)
        shutil.rmtree(new, ignore_errors=True)          # where another process was faster
    return place


def classifier_training(place, options):
    """Start TensorFlow, and build the training of a classifier of drawn people by `options` of recognizer.py."""
    from cli.options import Command, parse
    from engine.startup import start
    from recognition import labelled_data
    from recognition.recognizer_options import resolve, TRAIN

    command = Command("recognizer.py", "train", "", (), TRAIN, resolve)
    given = {"data_dir": images_of(place.folder, 108), "real": "real", "use_gpu": place.gpu}
    chosen = parse(command, as_words({**options, **given})).options
    start(precision=chosen.precision)
    from recognition.training import ClassifierTrainer
    return ClassifierTrainer(chosen, labelled_data.load(chosen), lambda step: .05)


def train_people(folder, gpu, seconds, quick):
    """Draw people, train by main.py for so many `seconds`, and draw samples -> {"steps", "seconds a step", "picture"}.

    The training is stopped by SIGTERM, as a batch system would, and saves. The picture shows renderings, and below
    them what was made of them. All other files lie in `folder`/people.
    """
    place = os.path.join(folder, "people")
    shutil.rmtree(place, ignore_errors=True)
    data, logs = os.path.join(place, "data"), os.path.join(place, "logs")
    size = "32" if quick else "64"
    usual = ["--preset", "demo", "--size", size]
    count = (4, 2, 10, 4) if quick else (PEOPLE, OF_EACH, PHOTOS, PAIRS)
    people, each, photos, pairs = map(str, count)
    _run("gen_syn_latent.py", "people", *usual, "--model", "builtin", "--n_id", people, "--n_im", each, "--output",
         os.path.join(data, "syn"))
    _run("gen_syn_latent.py", "drawn", *usual, "--model", "builtin", "--photos", photos, "--pairs", pairs, "--output",
         data)
    given = {"data_dir": data, "log_dir": logs, "use_gpu": gpu}
    training = {**given, "task": "people", "method_c": "none", "max_step": 10 ** 8, "lr_update_step": 10 ** 7,
                "log_step": 20, "save_step": 500}
    if quick:
        training |= {"conv_hidden_num": 4, "conv_hidden_num_res": 4, "num_res_rep": 1, "log_step": 1}
    began = time.monotonic()
    with subprocess.Popen(_command("main.py", *usual, *as_words(training)), stderr=subprocess.PIPE, text=True,
                          preexec_fn=end_with_us()) as program:
        found = _watch(program, seconds)
    if program.returncode != 128 + signal.SIGTERM:
        raise RuntimeError(f"main.py ended with status {program.returncode}: {found['said']}")
    run, = (os.path.join(logs, name) for name in os.listdir(logs))
    steps = runs.step_of(runs.list_checkpoints(run)[0])
    took = time.monotonic() - began
    _run("main.py", *as_words({**given, "is_train": False, "load_path": run}))
    picture = os.path.join(folder, "training.png")
    sheets = [np.asarray(read_picture(os.path.join(run, name))) for name in ("syn_fixed.png", f"{steps}_test.png")]
    save_picture(np.concatenate(sheets), picture)
    return {"steps": steps, "seconds": took, "seconds a step": found["seconds a step"],
            "last line": found["said"], "picture": os.path.basename(picture)}


def _watch(program, seconds):
    """Read what a training says, and ask it to stop after so many `seconds` from its first log line.

    Returns {"said": its last log line, "seconds a step" in that}.
    """
    found, deadline = {"said": "", "seconds a step": None}, None
    for line in program.stderr:
        match = re.search(r"\[\d+/\d+\]\s+([\d.]+) s/step", line)
        if match:
            found = {"said": line.strip()[:200], "seconds a step": float(match[1])}
            deadline = deadline or time.monotonic() + seconds
        elif not found["seconds a step"]:
            found["said"] = line.strip()[:200] or found["said"]
        if deadline and time.monotonic() > deadline and program.poll() is None:
            program.terminate()
            deadline = time.monotonic() + GRACE
    return found


def _command(program, *words):
    """Write a command line of a program of the project."""
    return [sys.executable, os.path.join(PROJECT, program), *words]


def _run(program, *words):
    """Run a program of the project. Raises RuntimeError, with its last line, where it does not end well."""
    done = subprocess.run(_command(program, *words), capture_output=True, text=True, preexec_fn=end_with_us())
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["it said nothing"]
        raise RuntimeError(f"{program} ended with status {done.returncode}: {said[-1]}")
