"""Every command: files and options that are changed at random end well, or with one line; nothing else is touched.

FUZZ_SECONDS (15) is how long this goes on, FUZZ_SEED (0) makes the changes. A failure names the number of its trial,
with which FUZZ_FIRST repeats it.
"""
import contextlib
import hashlib
import itertools
import json
import os
import random
import shutil
import signal
import time
import traceback
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io

import align
import config
import evaluate
import gen_syn_latent
import main
import preflight
import recognizer
from cli import processes
from cli.options import parse
from config import get_config
from conftest import NAMES, NARROW, SMALL, small_classifier, words, write_checkpoint
from datasets.image_sets import find_renderings
from datasets.scores import ScoreStore, write_scores
from drawn import draw_face, write
from engine import startup
from engine.runs import Run
from evaluation.choosing import confidence_file
from morphable import latents, model_files
from synthesis import products
from tool import builtin_face_model, call, share_model
from utils import save_json, UserError

SECONDS, SEED, FIRST = (int(os.environ.get(f"FUZZ_{name}", default))
                        for name, default in (("SECONDS", 15), ("SEED", 0), ("FIRST", 0)))
LONGEST = 20                    # seconds of one command
pytestmark = [pytest.mark.slow, pytest.mark.long]
PROGRAMS = {"align.py": align, "evaluate.py": evaluate, "gen_syn_latent.py": gen_syn_latent, "main.py": main,
            "recognizer.py": recognizer}
NETWORKS = " ".join(words(**NAMES, **NARROW, **SMALL, method_c="magnet", pretrained_rec="rec"))
TRAIN = "recognizer.py train --real real --model_def small --image_size 32 --embedding_size 16 --dry_run "
# Command lines that end well, with the kinds of files that each reads.
LINES = [
    f"main.py {NETWORKS} --dry_run",
    "main.py --load_path run --dry_run --max_step 9",
    "main.py --load_path run --generate_dataset --dry_run",
    "main.py --pretrained_gen run --fit_dataset --dry_run",
    f"main.py {NETWORKS} --preset mine.json --dry_run",
    "gen_syn_latent.py people --n_id 2 --n_im 2 --size 16 --output data/people",
    "gen_syn_latent.py people --n_id 2 --n_im 2 --size 16 --output new --model model.npz --statistics annotated",
    "gen_syn_latent.py pairs --annotations annotated --model model.npz --output new --size 16",
    "gen_syn_latent.py drawn --photos 2 --pairs 1 --size 16 --output new",
    "align.py --input photos --output crops --size 16",
    "align.py --input photos --output new --size 16 --preview sheet.png",
    TRAIN + "--learning_rate -1 --learning_rate_schedule_file schedule.txt",
    TRAIN + "--filter_filename filter.h5 --filter_percentile 90 --lfw_dir photos --lfw_pairs pairs.txt",
    TRAIN + "--synthetic generated --score_weights calibrated",
    "recognizer.py train --load_path recrun --log_dir . --dry_run",
    "recognizer.py verify --weights rec --images photos --pairs pairs.txt --output new --image_size 32",
    "recognizer.py convert --input weights.npz --output new",
    "evaluate.py distance --photos photos data/real data/syn",
    "evaluate.py curves run recrun --output curves.png",
    "evaluate.py filter data/generated --keep .5 --by c_score --output new",
    "evaluate.py filter data/generated --threshold .5 --confidences judged --at_least 2 --output new"]
REFUSED = "convert", "pairs --annotations"          # these stop at weights and at a model that are not real


# The place that commands work in

@pytest.fixture(scope="module")
def original(tmp_path_factory, drawn, classifier):
    """Files of all kinds that commands read, in a folder."""
    place = tmp_path_factory.mktemp("fuzz")
    shutil.copytree(drawn, place / "data")
    shutil.copytree(Path(classifier).parent, place / "rec")
    for person in range(3):
        for number in range(3):
            write(str(place), f"photos/{person}/{number}.jpg", draw_face(person, number, 16, photo=True))
    (place / "mine.json").write_text(json.dumps({"main.py": {"batch_size": 3, "g_lr": 1e-3}}))
    (place / "pairs.txt").write_text("2\t1\n0\t1\t2\n0\t1\t1\t2\n1\t1\t2\n1\t1\t2\t2\n")
    (place / "schedule.txt").write_text("# rates\n1: 0.05\n5: 0.005\n9: -1\n")
    with h5py.File(place / "filter.h5", "w") as file:
        names = sorted(str(path.relative_to(place / "data/real")) for path in (place / "data/real").rglob("*.jpg"))
        file["image_list"], file["label_list"] = [name.encode() for name in names], np.zeros(len(names))
        file["distance_to_center"] = np.linspace(0, 1, len(names))
    return place


@pytest.fixture(scope="module")
def begun(original):
    """The same, with what our commands write: runs of both trainings, crops, people, a synthesized set, a model."""
    ours = pytest.MonkeyPatch()
    ours.chdir(original)
    with ours.context() as patch:
        stub(patch)
        for line in (LINES[5], LINES[9]):
            run(line)
    model = builtin_face_model()
    model_files.save(model._replace(shape_basis=model.shape_basis[:3], shape_std=model.shape_std[:3]), "model.npz")
    (original / "annotated").mkdir()
    for number in range(2):
        shutil.copy("photos/0/0.jpg", f"annotated/{number}.jpg")
        scipy.io.savemat(f"annotated/{number}.mat", {
            name: np.full([count, 1], .1) for name, count in latents.BLOCKS.items()})
    write_run("run", get_config(NETWORKS.split() + ["--log_dir", "runs"])[0], sorted(os.listdir("data/syn")), {
        "step": np.int32(5), "G_inf/c7s1_32/weights": np.zeros([7, 7, 3, NARROW["conv_hidden_num_res"]], np.float32)})
    options = parse(recognizer.COMMANDS[0], TRAIN.split()[2:] + ["--log_dir", "runs"]).options
    write_run("recrun", options, {"real": sorted(os.listdir("data/real")), "synthetic": []}, small_classifier())
    shutil.copytree("data/syn", "data/generated")
    names = [f"{path.parent.name}/{path.name}" for path in Path("data/generated").rglob("*.jpg")]
    store = ScoreStore("data/generated", "mark")
    for name in names:
        store.add(name, .1, .2, np.ones(4, np.float32))
    store.flush()
    write_scores("data/generated", names, np.zeros(len(names), int), store)
    os.mkdir("judged")
    Path("judged/confidences.csv").write_bytes(confidence_file.table_of(names, np.linspace(0, 1, len(names))))
    np.savez("weights.npz", a=np.zeros(3))
    synthesis = get_config(LINES[2].split()[1:])[0]
    product, = products.products_of(synthesis, preflight.Data(renderings=find_renderings("data/syn")))
    save_json(products.settings_of(synthesis, product, "run/model.ckpt-5"), "data/generated/settings.json")
    ours.undo()
    return original


def write_run(name, options, identities, values):
    """Write a run with these options, identities and one checkpoint of `values` {variable: array}."""
    with Run(options, identities) as run:
        run.note(1, {"loss": .5})
        run.note(2, {"loss": .25})
    write_checkpoint(Path(run.folder) / "model.ckpt-5", values)
    os.rename(run.folder, name)


def stub(patch):
    """Let commands work in this process, on a few items, without detector, and without building a model each time."""
    def work(function, shared, items, keep, pool):
        for item in itertools.islice(items, 10):
            keep(function(shared, item))
        if len(items) > 10:
            raise UserError("enough of it")

    patch.setattr(processes, "process_all", work)
    patch.setattr(align, "detector", lambda: None)
    patch.setattr(align, "detect", lambda picture, size: np.empty([0, 15]))
    share_model(patch)


def run(line_or_words):
    """Run a command line, a text or its words, in this process -> (its program, Result)."""
    name, *arguments = line_or_words.split() if isinstance(line_or_words, str) else line_or_words
    return name, call(PROGRAMS[name], *arguments)


# Changes

def set_value(content, chance):
    """Change one value somewhere in the JSON `content`."""
    places = [(content, key) for key in (content if isinstance(content, dict) else range(len(content)))]
    for place, key in list(places):
        inner = place[key]
        if isinstance(inner, (dict, list)) and inner:
            places += [(inner, key) for key in (inner if isinstance(inner, dict) else range(len(inner)))]
    place, key = chance.choice(places)
    place[key] = chance.choice([None, [], {}, "", "x", -1, 0, 1e308, True, "nan", ["a", "b"], {"a": 1}, 2 ** 70, "a\nb",
                                "\udcff", [[1]], float("nan")])


def change_file(place, chance):
    """Change a file in `place` -> what was done, in words."""
    files = sorted(path for path in place.rglob("*") if path.is_file())
    side = [path for path in files if path.suffix not in (".jpg", ".png") or chance.random() < .02]
    path = chance.choice(side)
    content = path.read_bytes()
    kind = chance.choice(["empty", "cut", "bytes", "noise", "lost", "folder", "loop", "pipe", "text", "twice", "json",
                          "json", "other"])
    if kind == "json":
        with contextlib.suppress(ValueError):
            value = json.loads(content)
            set_value(value, chance)
            path.write_text(json.dumps(value))
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "cut":
        path.write_bytes(content[:chance.randrange(len(content) + 1)])
    elif kind == "bytes":
        changed = bytearray(content)
        for _ in range(chance.choice([1, 4, 64]) if content else 0):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        path.write_bytes(bytes(changed))
    elif kind == "noise":
        path.write_bytes(chance.randbytes(chance.choice([1, 100, 5000])))
    elif kind == "text":
        path.write_text(chance.choice(["\n", "{}", "[]", "null", "{", "1 2 3\n", "\ufeff" + "a,b\n1,2\n", "[" * 5000]))
    elif kind == "twice":
        path.write_bytes(content + content)
    elif kind == "other":
        path.write_bytes(chance.choice(files).read_bytes())
    else:
        path.unlink()
        if kind == "folder":
            path.mkdir()
        elif kind == "loop":
            path.symlink_to(path.name)
        elif kind == "pipe":
            os.mkfifo(path)
    return f"{path.relative_to(place)}: {kind}"


VALUES = ["", " ", "0", "-1", "1", "3", "17", "nan", "inf", "-inf", "1e400", "1e9", "9" * 30, "x", "None", "true", "-",
          "--", "a" * 300, "a" * 5000, "a\nb", "\udcff", "*", "[1]", "~", "..", ".", "/", "/dev/null", "photos", "data",
          "run", "mine.json", "pairs.txt", "annotated", "data/generated", "loop", "new/deep/er", "photos/0/0.jpg",
          "model.npz", "1/2", "0.5", "\uff11\uff12", "a b", "'", "%s", "{}", "#", "a,b"]


def change_options(arguments, chance):
    """Change the words of a command line -> the new words."""
    arguments = list(arguments)
    begin = next(i for i, word in enumerate(arguments) if word.startswith("--"))
    program, *rest = arguments[:begin]
    command = next(each for each in commands_of(program) if not each.name or [each.name] == rest[:1])
    option = chance.choice([option for option in command.by_name().values() if not option.positional])
    count = len(option.values) if isinstance(option.values, tuple) else 1
    kind = chance.choice(["value", "value", "value", "value", "drop", "bare", "twice", "unknown"])
    if kind == "value":
        arguments += [f"--{option.name}", *(chance.choice(VALUES) for _ in range(count))]
    elif kind == "bare":
        arguments += [f"--{option.name}"]
    elif kind == "unknown":
        arguments += [f"--{option.name[:-1]}", chance.choice(VALUES)]
    elif kind == "twice":
        arguments += arguments[begin:]
    else:
        place = chance.randrange(begin, len(arguments))
        del arguments[place]
    return arguments


def commands_of(program):
    """List the Commands of a program."""
    module = PROGRAMS[program]
    return getattr(module, "COMMANDS", None) or [getattr(module, "COMMAND", None) or config.COMMAND]


# The test

class Late(BaseException):
    """A command takes too long. No command catches this."""


@contextlib.contextmanager
def at_most(seconds):
    """Raise Late in this context after so many seconds."""
    def late(number, frame):
        raise Late(f"longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def state_of(place):
    """{path: (size, time)} of the files that no command began."""
    ours = {"crops", "people", "curves.png", "sheet.png", "new", "run", "recrun", "generated"}
    return {path: (path.lstat().st_size, path.lstat().st_mtime_ns) for path in place.rglob("*")
            if not ours & set(path.relative_to(place).parts) and not path.is_dir()}


def trial(begun, folder, number):
    """Change something, run a command, and say what is wrong with its end, "" if nothing is."""
    chance = random.Random(f"{SEED}-{number}")
    place = shutil.copytree(begun, folder / "place", symlinks=True)
    (place / "loop").symlink_to("loop")
    os.chdir(place)
    arguments, done = chance.choice(LINES).split(), []
    for _ in range(chance.choice([1, 1, 2])):
        if chance.random() < .6:
            done.append(change_file(place, chance))
        else:
            arguments = change_options(arguments, chance)
    before, told = state_of(place), f"trial {number}: {arguments}; {done}: "
    try:
        with at_most(LONGEST):
            name, result = run(arguments)
    except (Exception, Late) as error:
        return told + "".join(traceback.format_exception(error)[-3:])
    finally:
        os.chdir(begun)
    lines = [line for line in result.err.splitlines() if line.startswith(name)]
    if result.status not in (0, 2) or len(lines) != (result.status == 2) or "Traceback" in result.err:
        return f"{told}status {result.status}: {result.err[-1500:]}"
    after = state_of(place)
    touched = [str(path) for path in before if after.get(path) != before[path]]
    return f"{told}touched {touched}" if touched else ""


def test_every_line_ends_as_it_should_when_nothing_is_changed(begun, tmp_path, monkeypatch):
    stub(monkeypatch)
    for line in LINES:
        monkeypatch.chdir(shutil.copytree(begun, tmp_path / hashlib.md5(line.encode()).hexdigest()))
        _, result = run(line)
        assert result.status == (2 if any(word in line for word in REFUSED) else 0), f"{line}\n{result.err}"


def test_changed_files_and_options(begun, tmp_path, monkeypatch):
    stub(monkeypatch)
    monkeypatch.chdir(begun)
    monkeypatch.setattr(startup, "start", lambda *arguments: None)      # it was started for all tests
    end, number, wrong = time.monotonic() + SECONDS, FIRST, []
    while (time.monotonic() < end or number - FIRST <= SECONDS) and len(wrong) < 20:     # other programs may be busy
        problem = trial(begun, tmp_path, number)
        wrong += [problem] * bool(problem)
        shutil.rmtree(tmp_path / "place")
        number += 1
    print(f"{number - FIRST} trials")
    assert not wrong, "\n\n".join(wrong)
