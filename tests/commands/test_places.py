"""Every option of every command that names a file, a folder or a name: what can't be is one line, before the work."""
import os
import pickle
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import align
import evaluate
import gen_syn_latent
import main
import recognizer
from cli import processes
from conftest import NAMES, NARROW, SMALL, small_classifier, words, write_checkpoint
from datasets import selection
from datasets.image_sets import find_renderings
from drawn import write_dataset
from evaluation import judge_command
from evaluation.choosing import confidence_file
from preflight import GENERATOR
from tool import call, share_model, Tool, touch

LONG, DEEP, CONTROLS = "n" * 300, "folder/" * 700, ["nul\0byte", "line\nend", "bell\a", "\r"]
NAMES_OF_NOTHING = [LONG, DEEP, *CONTROLS, "  ", "\t"]
NO_FOLDER = ["file", "pipe", "missing", "file/below", "dead", "loop", "/dev/null", *NAMES_OF_NOTHING]
NO_FILE = ["folder", "/dev/zero", "pipe", "missing", "file/below", "dead", "loop", *NAMES_OF_NOTHING]
NO_PLACE = ["file", "pipe", "file/below", "dead", "loop", "loop/below", "/dev/null", "/proc/new", *NAMES_OF_NOTHING]
NO_PICTURE = ["folder.png", "file/below.png", "loop/below.png", "dead/below.png", "/proc/new.png", f"{LONG}.png",
              f"{DEEP}.png", "nul\0byte.png", "line\nend.png"]
NO_CACHE = ["folder", "file/below", "loop/below", "dead/below", "/proc/new", LONG, DEEP, "nul\0byte", "line\nend"]
NO_MODEL = ["/dev/zero", "pipe", "missing", "file/below", "dead", "loop", *NAMES_OF_NOTHING]
NO_WEIGHTS = ["file", "/dev/zero", "pipe", "missing", "file/below", "dead", "loop", "folder", "/dev/null",
              *NAMES_OF_NOTHING]


class Asked(NamedTuple):
    """A command line that is right, so that one of its options can be wrong."""
    module: object
    line: list


GENERATOR_RUN = {"pretrained_gen": "run/model.ckpt-5"}
COMMANDS = {
    "train": Asked(main, words(**NAMES, **NARROW, method_c="none")),
    "magnet": Asked(main, words(**NAMES, **NARROW, **SMALL, pretrained_rec="classifier")),
    "synthesize": Asked(main, words(**NAMES, **NARROW, generate_dataset=True, **GENERATOR_RUN)),
    "fit": Asked(main, words(**NAMES, **NARROW, fit_dataset=True, **GENERATOR_RUN)),
    "sheet": Asked(main, words(**NAMES, **NARROW, is_train=False, **GENERATOR_RUN)),
    "classify": Asked(recognizer, ["train", *words(**SMALL, real="real", batch_size=2)]),
    "verify": Asked(recognizer, ["verify", *words(weights="classifier", images="data/syn")]),
    "standard": Asked(recognizer, ["verify", *words(weights="classifier", bin="lfw.bin")]),
    "convert": Asked(recognizer, ["convert", *words(input="file", output="new")]),
    "people": Asked(gen_syn_latent, ["people", *words(output="new", n_id=1, n_im=1)]),
    "pairs": Asked(gen_syn_latent, ["pairs", *words(annotations="data/real", model="file", output="new")]),
    "pairs_of_photos": Asked(gen_syn_latent, ["fit", *words(photos="data/real", output="new")]),
    "drawn": Asked(gen_syn_latent, ["drawn", *words(output="new", photos=1, pairs=1)]),
    "align": Asked(align, words(input="data/real", output="new")),
    "judge": Asked(evaluate, ["judge", "data/syn", *words(photos="data/real", weights="classifier", output="new")]),
    "compare": Asked(evaluate, ["compare", "data/syn", *words(photos="data/real", weights="classifier")]),
    "distance": Asked(evaluate, ["distance", "data/syn", "--photos", "data/real"]),
    "curves": Asked(evaluate, ["curves", "run"]),
    "export": Asked(evaluate, ["export", "data/syn", *words(to="rec", output="new")]),
    "filter": Asked(evaluate, ["filter", "data/syn", *words(keep=.5, confidences="judged", output="new")])}
TABLE = [
    ("train", "preset", NO_FILE), ("train", "data_dir", NO_FOLDER), ("train", "dataset", NO_FOLDER),
    ("train", "syn_dataset", NO_FOLDER), ("train", "dataset_3dmm", NO_FOLDER),
    ("train", "dataset_3dmm_test", NO_FOLDER), ("train", "split", NO_FOLDER),
    ("train", "load_path", NO_WEIGHTS), ("train", "log_dir", NO_PLACE),
    ("train", "task", [LONG, DEEP, *CONTROLS, "", "  ", ".hidden", ".."]), ("train", "profile", NO_PLACE),
    ("train", "pretrained_gen", NO_WEIGHTS), ("magnet", "pretrained_rec", NO_WEIGHTS),
    ("magnet", "facenet_scope", [LONG, *CONTROLS, "", "  ", "with blank", "-dash"]),
    ("synthesize", "syn_dataset", NO_FOLDER), ("synthesize", "save_syn_dataset", NO_PLACE),
    ("synthesize", "pretrained_gen", NO_WEIGHTS), ("synthesize", "load_path", NO_WEIGHTS),
    ("fit", "dataset", NO_FOLDER), ("fit", "save_fitting", NO_PLACE), ("fit", "split", NO_FOLDER),
    ("sheet", "test_data_path", NO_FOLDER), ("sheet", "pretrained_gen", NO_WEIGHTS),
    ("classify", "preset", NO_FILE), ("classify", "data_dir", NO_FOLDER), ("classify", "real", NO_FOLDER),
    ("classify", "synthetic", NO_FOLDER), ("classify", "filter_filename", NO_FILE),
    ("classify", "learning_rate_schedule_file", NO_FILE), ("classify", "lfw_dir", NO_FOLDER),
    ("classify", "lfw_pairs", NO_FILE), ("classify", "load_path", NO_WEIGHTS), ("classify", "log_dir", NO_PLACE),
    ("classify", "task", [LONG, DEEP, *CONTROLS, "", "  ", ".hidden", ".."]),
    ("verify", "weights", NO_WEIGHTS), ("verify", "images", NO_FOLDER), ("verify", "output", NO_PLACE),
    ("verify", "pairs", NO_FILE), ("standard", "bin", NO_FILE),
    ("convert", "input", NO_FILE), ("convert", "output", NO_PLACE), ("export", "output", NO_PLACE),
    ("judge", "photos", NO_FOLDER), ("judge", "renderings", NO_FOLDER), ("judge", "train_photos", NO_FOLDER),
    ("judge", "filtered", NO_FOLDER), ("judge", "generator", NO_WEIGHTS), ("judge", "weights", NO_WEIGHTS),
    ("judge", "output", NO_PLACE), ("judge", "cache", NO_CACHE), ("compare", "photos", NO_FOLDER),
    ("filter", "output", NO_PLACE), ("filter", "confidences", NO_WEIGHTS),
    ("people", "preset", NO_FILE), ("people", "output", NO_PLACE), ("people", "model", NO_MODEL),
    ("people", "statistics", NO_FOLDER), ("pairs", "annotations", NO_FOLDER), ("pairs", "model", NO_MODEL),
    ("pairs", "output", NO_PLACE), ("pairs_of_photos", "photos", NO_FOLDER),
    ("pairs_of_photos", "model", NO_MODEL), ("pairs_of_photos", "output", NO_PLACE),
    ("pairs_of_photos", "preview", NO_PICTURE), ("drawn", "preset", NO_FILE), ("drawn", "output", NO_PLACE),
    ("drawn", "model", NO_MODEL),
    ("align", "input", NO_FOLDER), ("align", "output", NO_PLACE), ("align", "pairs", NO_FOLDER),
    ("align", "preview", NO_PICTURE), ("distance", "photos", NO_FOLDER), ("curves", "output", NO_PICTURE)]
MORE = {"filter_filename": ["--filter_percentile", "50"], "learning_rate_schedule_file": ["--learning_rate", "-1"],
        "lfw_pairs": ["--lfw_dir", "data/syn"]}
EMPTY_IS_NONE = {"split", "load_path", "pretrained_gen", "profile", "lfw_dir", "lfw_pairs", "filter_filename"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with all that the command lines of COMMANDS name, and with what no option can use."""
    folder = tmp_path_factory.mktemp("places")
    write_dataset(str(folder / "data"), size=16, identities=2, per_identity=2, photos=10, pairs=2)
    touch(folder, "file", "data/file")
    for name in ("pipe", "data/pipe"):
        os.mkfifo(folder / name)
    (folder / "file").write_text("words\n")
    for name in ("folder", "folder.png", "run", "data/folder"):
        (folder / name).mkdir()
    for parent in (folder, folder / "data"):
        for name in ("", ".png"):
            (parent / f"dead{name}").symlink_to("nowhere")
            (parent / f"loop{name}").symlink_to(f"loop{name}")
    (folder / "run/stats.jsonl").write_text('{"step": 1, "loss": 0.5}\n')
    (folder / "lfw.bin").write_bytes(pickle.dumps(([b"image"] * 20, [True, False] * 5)))
    (folder / "judged").mkdir()
    names = find_renderings(str(folder / "data/syn")).names
    (folder / "judged/confidences.csv").write_bytes(confidence_file.table_of(names, np.linspace(0, 1, len(names))))
    write_checkpoint(folder / "classifier", small_classifier())
    write_checkpoint(folder / "run/model.ckpt-5", {GENERATOR: np.zeros([7, 7, 3, 4], np.float32)})
    return folder


@pytest.fixture
def no_work(place, monkeypatch):
    """Stand in the place, and fail where TensorFlow or a worker is asked for."""
    def work(*arguments, **options):
        raise AssertionError("work has begun")

    monkeypatch.chdir(place)
    share_model(monkeypatch)
    for module, name in ((main, "start"), (recognizer, "start"), (judge_command, "start"), (processes, "process_all"),
                         (evaluate, "frechet_distance"), (evaluate, "draw_curves"),
                         (evaluate.export, "write"), (selection, "write")):
        monkeypatch.setattr(module, name, work)
    return place


def files(folder):
    return sorted(map(str, Path(folder).rglob("*")))


@pytest.mark.parametrize("command, option, word", [
    pytest.param(command, option, word, id=f"{command}-{option}-{number}")
    for command, option, wrong in TABLE for number, word in enumerate(wrong)])
def test_what_cannot_be_is_one_line(no_work, command, option, word):
    asked, before = COMMANDS[command], files(no_work)
    result = call(asked.module, *asked.line, f"--{option}", word, *MORE.get(option, []))
    Tool(Path(asked.module.__file__).name).refused(result, f"--{option}")
    assert result.out == "" and files(no_work) == before and "\0" not in result.err and len(result.err) < 3000


@pytest.mark.parametrize("command", sorted(COMMANDS.keys() - {"convert", "pairs", "pairs_of_photos"}))
def test_the_command_lines_themselves_begin_to_work(no_work, command):
    """Or else the table would show nothing. Left out is what needs files of other people, or packages."""
    asked = COMMANDS[command]
    with pytest.raises(AssertionError, match="work has begun"):
        call(asked.module, *asked.line)
    shutil.rmtree("new", ignore_errors=True)            # of rendering, which writes its settings first


def test_every_option_that_names_something_is_in_the_table():
    """So that a new option gets its rows."""
    named = {option for _, option, _ in TABLE}
    modules = {asked.module for asked in COMMANDS.values()}
    commands = [command for module in modules for command in getattr(module, "COMMANDS", [])] + [main.COMMAND,
                                                                                                align.COMMAND]
    kinds = {option.name for command in commands for option in command.by_name().values()
             if option.type.metavar in ("NAME", "PATH", "FILE")}
    assert kinds == named
