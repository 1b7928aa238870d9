"""Kill commands at random moments until they have ended by themselves, and compare with runs that were left alone.

    python tests/kill.py --kills 200

The kills are shared out among rendering people, drawing photos, cropping (where the detector is installed), training a
classifier, training the generators, synthesis and fitting. Half of them hit the main process alone, half all of its
processes. After each kill, every image under its own name has to be that of the undisturbed run, and every checkpoint
that has an index has to be whole. In the end, images, labels and tables have to be equal byte for byte, checkpoints
variable for variable, scores to 5 digits. A line is printed for each command. The exit status is 1 where anything was
lost or differs.
"""
import argparse
import importlib.util
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

NETWORKS = ("--dataset real --syn_dataset syn --dataset_3dmm paired --method_c none --input_scale_size 32 "
            "--batch_size 4 --conv_hidden_num 4 --conv_hidden_num_res 4 --z_num 8 --num_res_rep 1")
STEPS = "--max_step 200 --log_step 10 --save_step 5 --checkpoint_step 10 --num_log_id 4 --num_log_samples 4"
CLASSIFIER = ("--real real --model_def small --image_size 32 --input_scale_size 32 --embedding_size 16 --batch_size 8 "
              "--epoch_size 10 --max_nrof_epochs 20 --log_step 5")
TRIALS = 20                     # starts that a command may end by itself before it got its kills


class Series(NamedTuple):
    """A command, and where its result is."""
    words: str                  # the command line
    result: str                 # folder of the result, or of the runs
    trains: str = ""            # the program with which a run in `result` is gone on with; "" where there are no runs


SERIES = {
    "people": Series("gen_syn_latent.py people --model builtin --output data/syn --n_id 60 --n_im 8 --size 32",
                     "data/syn"),
    "drawn": Series("gen_syn_latent.py drawn --model builtin --output data --photos 200 --pairs 60 --size 32",
                    "data"),
    "crops": Series("align.py --input data/real --output crops --size 32 --workers 1", "crops"),
    "classifier": Series(f"recognizer.py train {CLASSIFIER} --log_dir rec", "rec", "recognizer.py train --log_dir rec"),
    "generators": Series(f"main.py {NETWORKS} {STEPS}", "logs", "main.py"),
    "synthesis": Series("main.py --generate_dataset", "data/generated"),
    "fitting": Series("main.py --fit_dataset", "data/fitting")}


# Running

def start(words, folder):
    """Start a command of ours in `folder`, with its output in log.txt there, in a process group of its own."""
    with open(folder / "log.txt", "ab") as log:
        return subprocess.Popen([sys.executable, ROOT / words[0], *words[1:]], cwd=folder, stdout=log, stderr=log,
                                start_new_session=True)


def finish(words, folder):
    """Run a command of ours in `folder` to its end -> seconds. Ends the program where the command fails."""
    began = time.monotonic()
    if start(words, folder).wait():
        raise SystemExit(f"{' '.join(words)}: failed; see {folder}/log.txt")
    return time.monotonic() - began


def run_of(series, folder):
    """Find the newest run of a training in `folder` that has its options; None where there is none."""
    runs = sorted((folder / series.result).glob("*/params.json"), key=os.path.getmtime)
    return runs[-1].parent if series.trains and runs else None


def words_for(series, folder):
    """List the words that begin a command in `folder`, or go on with it after a kill."""
    run = run_of(series, folder)
    return [*series.trains.split(), "--load_path", run.name] if run else series.words.split()


def disturb(series, alone, folder, seconds, kills, chance):
    """Run a command in `folder`, kill it `kills` times, and let it end -> (number of kills, list of problems)."""
    done, ended, problems = 0, 0, []
    while done < kills and ended < TRIALS:
        process = start(words_for(series, folder), folder)
        try:
            status = process.wait(timeout=chance.uniform(.1, 1) * seconds)
        except subprocess.TimeoutExpired:
            (os.killpg if chance.random() < .5 else os.kill)(process.pid, signal.SIGKILL)
            process.wait()
            time.sleep(.3)                              # for workers, which notice it
            done += 1
            problems += [f"after kill {done}: {problem}" for problem in compare_images(series, alone, folder)]
            continue
        if status:
            return done, [*problems, f"ended with status {status} after kill {done}; see {folder}/log.txt"]
        ended += 1                                      # with the right result, or the next line says what is wrong
        problems += compare(series, alone, folder)
        shutil.rmtree(folder / series.result)
        if series.result == "data":
            shutil.copytree(alone / "data/syn", folder / "data/syn")
    finish(words_for(series, folder), folder)
    return done, problems + compare(series, alone, folder)


# Comparing

def visible(folder):
    """List the names of the files in and below `folder` that are not hidden."""
    names = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    return [name for name in names if not any(part.startswith(".") for part in name.parts)]


def place_of(series, folder):
    """Return the folder of a command's result: of its run, where it trains."""
    return run_of(series, folder) or folder / series.result


def compare_images(series, alone, folder):
    """List what is wrong with images and checkpoints of a command that may not have ended."""
    from engine import checkpoint_index, runs

    here, there = place_of(series, folder), place_of(series, alone)
    if not here.is_dir():
        return []
    problems = [f"{name} differs" for name in visible(here) if name.suffix in (".jpg", ".png")
                and (there / name).is_file() and (here / name).read_bytes() != (there / name).read_bytes()]
    found = map(checkpoint_index.check_whole, runs.list_checkpoints(str(here)))
    return problems + [problem for problem in found if problem]


def compare(series, alone, folder):
    """List how the results of a command that has ended differ."""
    here, there = place_of(series, folder), place_of(series, alone)
    if series.trains:
        return compare_images(series, alone, folder) + compare_checkpoints(here, there)
    names = set(visible(here)) | set(visible(there))
    problems = [f"{name} is not in both" for name in names
                if not ((here / name).is_file() and (there / name).is_file())]
    for name in names if not problems else ():
        first, second = (here / name).read_bytes(), (there / name).read_bytes()
        if name.name == "confidence_scores.csv":
            rows = [[line.rsplit(maxsplit=3) for line in content.decode().splitlines()] for content in (first, second)]
            numbers = [np.array([row[1:] for row in table], float) for table in rows]
            same = [row[0] for row in rows[0]] == [row[0] for row in rows[1]]
            if not same or not np.allclose(*numbers, atol=2e-5, equal_nan=True):
                problems.append(f"{name} differs")
        elif first != second:
            problems.append(f"{name} differs")
    return problems


def compare_checkpoints(here, there):
    """List how the newest checkpoints of two runs differ."""
    from engine import checkpoints, runs

    first, second = (checkpoints.read(runs.list_checkpoints(str(run))[0], None) for run in (here, there))
    if first.keys() != second.keys():
        return ["the checkpoints have other variables"]
    return [f"{name} differs" for name in first if first[name].tobytes() != second[name].tobytes()]


# The whole

def main():
    """Run every Series alone and with its share of the kills -> exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200, help="kills of all commands together (default: 200)")
    parser.add_argument("--folder", help="new folder to work in (default: a temporary one)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments (default: 0)")
    options = parser.parse_args()
    from engine.startup import start as start_tensorflow

    start_tensorflow()                                  # for reading checkpoints
    alone, killed = (Path(options.folder or tempfile.mkdtemp()).resolve() / name for name in ("alone", "killed"))
    for folder in (alone, killed):
        folder.mkdir(parents=True)
    chance, total, wrong, left = random.Random(options.seed), 0, 0, options.kills
    wanted = [name for name in SERIES if name != "crops" or importlib.util.find_spec("mtcnn")]
    for place, name in enumerate(wanted):
        series = SERIES[name]
        seconds = finish(words_for(series, alone), alone)
        kills, problems = disturb(series, alone, killed, seconds, left // (len(wanted) - place), chance)
        left, total, wrong = left - kills, total + kills, wrong + len(problems)
        print(f"{name}: {kills} kills, undisturbed {seconds:.1f} s; "
              f"{'all equal' if not problems else f'{len(problems)} problems:'}", flush=True)
        for problem in problems[:10]:
            print(f"    {problem}")
    print(f"{total} kills, {wrong} problems")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
