"""Every command: outputs stay apart from inputs; folders and files that it did not begin stay as they are."""
import shutil

import numpy as np
import pytest
from PIL import Image

import align
import evaluate
import gen_syn_latent
import main
import recognizer
from conftest import NAMES, NARROW, only_run, tree, write_checkpoint
from drawn import draw_face, write
from engine.runs import Run
from tool import call, held, share_model, Tool
from utils import check_free

PROGRAMS = {"align.py": align, "evaluate.py": evaluate, "gen_syn_latent.py": gen_syn_latent, "main.py": main,
            "recognizer.py": recognizer}
NETWORKS = " ".join(f"--{name} {value}" for name, value in {**NAMES, **NARROW, "method_c": "none"}.items())


@pytest.fixture(scope="module")
def original(tmp_path_factory, drawn, classifier):
    """Photos of people, drawn data, annotated photos, a run of main.py, a classifier, notes, links to all of these."""
    place = tmp_path_factory.mktemp("safety")
    shutil.copytree(drawn, place / "data")
    for number in range(3):
        write(str(place), f"photos/person/{number}.jpg", draw_face(number, 1, 16, photo=True))
        write(str(place), f"flat/{number}.jpg", draw_face(number, 2, 16, photo=True))
        write(str(place), f"annotated/{number}.jpg", draw_face(number, 3, 16, photo=True))
        (place / f"annotated/{number}.mat").write_bytes(b"")
    (place / "logs/run").mkdir(parents=True)
    write_checkpoint(place / "logs/run/model.ckpt-5", {
        "step": np.int32(5), "G_inf/c7s1_32/weights": np.zeros([7, 7, 3, NARROW["conv_hidden_num_res"]], np.float32)})
    (place / "logs/run/stats.jsonl").write_text('{"step": 1, "loss": 1.0}\n')
    (place / "rec").symlink_to(classifier.rpartition("/")[0])
    write(str(place), "set/real/00001/00001.jpg", draw_face(1, 4, 16, photo=True))
    (place / "set/real/settings.json").write_text('{"command": "gen_syn_latent.py drawn", "version": 1}')
    (place / "results").mkdir()
    (place / "results/verification.json").write_text('{"paths": {"weights": "x", "images": "photos", "pairs": ""}}')
    np.savez(place / "other.npz", weights=np.zeros(3))
    (place / "notes").mkdir()
    (place / "notes/todo.txt").write_text("mine")
    (place / "me.png").write_bytes((place / "flat/1.jpg").read_bytes())
    return place


@pytest.fixture
def place(original, tmp_path, monkeypatch):
    """A copy of `original` as the working folder."""
    folder = shutil.copytree(original, tmp_path / "place", symlinks=True)
    for name in ("photos", "annotated", "notes", "flat"):
        (folder / f"link_to_{name}").symlink_to(folder / name)
    (folder / "link_to_real").symlink_to(folder / "data/real")
    monkeypatch.chdir(folder)
    share_model(monkeypatch)
    return folder


MAIN = f"main.py {NETWORKS} "
MAKE = MAIN + "--pretrained_gen logs/run --generate_dataset "
FIT = MAIN + "--pretrained_gen logs/run --fit_dataset "
PAIRS = "gen_syn_latent.py pairs --annotations annotated --model none.mat --output "
FITS = "gen_syn_latent.py fit --photos photos --output "
TRAIN = "recognizer.py train --real real --model_def small --image_size 32 "

OVERLAPS = [
    *((f"align.py --input photos --output {output}", "--output")
      for output in ("photos", "photos/", "./photos", "photos/new", "photos/person", ".", "link_to_photos",
                     "link_to_photos/new", "data/../photos")),
    ("align.py --input link_to_photos --output photos", "--output"),
    ("align.py --input flat --pairs annotated --output annotated/out", "--output"),
    ("align.py --input flat --pairs link_to_annotated --output annotated", "--output"),
    ("align.py --input photos --output new --preview photos/sheet.png", "--preview"),
    ("align.py --input photos --output new --preview link_to_photos/sheet.png", "--preview"),
    *((PAIRS + output, "--output")
      for output in ("annotated", "annotated/crops", ".", "link_to_annotated", "link_to_annotated/../annotated")),
    *((FITS + output, "--output") for output in ("photos", "photos/new", ".", "link_to_photos/new")),
    (FITS + "new --preview photos/sheet.png", "--preview"),
    ("gen_syn_latent.py --statistics annotated --output annotated", "--output"),
    ("gen_syn_latent.py people --statistics annotated --output link_to_annotated/new", "--output"),
    *((MAKE + f"--save_syn_dataset {output}", "--save_syn_dataset")
      for output in ("syn", "real", "paired", "./syn", "syn/new", "real/10001", "../link_to_real", ".", "..")),
    *((FIT + f"--save_fitting {output}", "--save_fitting")
      for output in ("real", "syn", "real/new", "../link_to_real")),
    (MAKE + "--fit_dataset --save_fitting generated", "--save_fitting"),
    (MAKE + "--fit_dataset --save_fitting generated/fit", "--save_fitting"),
    *((MAIN + f"--log_dir {output}", "--log_dir")
      for output in ("data/real", "data/syn/logs", "link_to_real", "link_to_real/new", "data/paired/3dmm")),
    *((TRAIN + f"--log_dir {output}", "--log_dir") for output in ("data/real", "link_to_real/runs", "data/real/10001")),
    *((MAIN + f"--profile {output}", "--profile") for output in ("data/real", "data/syn/new", "link_to_real")),
    (TRAIN + "--lfw_dir photos --log_dir photos", "--log_dir"),
    ("recognizer.py train --synthetic syn --model_def small --image_size 32 --log_dir data/syn/x", "--log_dir"),
    *((f"recognizer.py verify --weights rec --images photos --output {output}", "--output")
      for output in ("photos", "photos/person", "link_to_photos", "."))]

FOREIGN = [
    *((f"align.py --input photos --output {output}", "--output")
      for output in ("flat", "annotated", "notes", "data", "data/real", "data/syn", "link_to_flat", "logs")),
    ("align.py --input photos --output new --preview me.png", "--preview"),
    *((f"gen_syn_latent.py --n_id 1 --n_im 1 --size 16 --output {output}", "--output")
      for output in ("photos", "flat", "notes", "data/real", "data/syn", "link_to_photos")),
    *((FITS + output, "--output") for output in ("flat", "notes", "data", "data/real", "link_to_flat")),
    (FITS + "new --preview flat/sheet.png", "--preview"), (FITS + "new --preview me.png", "--preview"),
    ("gen_syn_latent.py drawn --photos 1 --pairs 0 --size 16 --output data", "data/real"),
    ("gen_syn_latent.py drawn --photos 0 --pairs 1 --size 16 --output data", "data/paired"),
    *((MAKE + f"--save_syn_dataset {output}", "--save_syn_dataset")
      for output in ("../photos", "../flat", "../notes", "../link_to_flat", "../logs/run")),
    *((FIT + f"--save_fitting {output}", "--save_fitting") for output in ("../photos", "../notes")),
    *((MAKE + f"--overwrite --save_syn_dataset {output}", "--save_syn_dataset")
      for output in ("../photos", "../notes")),
    *((MAIN + f"--log_dir {output}", "--log_dir") for output in ("photos", "flat", "link_to_flat")),
    *((TRAIN + f"--log_dir {output}", "--log_dir") for output in ("photos", "flat")),
    *((f"recognizer.py verify --weights rec --images photos --output {output}", "--output")
      for output in ("flat", "notes", "data/real", "link_to_flat")),
    ("recognizer.py convert --input notes/todo.txt --output flat", "--output"),
    ("recognizer.py convert --input notes/todo.txt --output notes", "--output"),
    ("recognizer.py convert --input other.npz --output new", "--input other.npz: not weights of facenet-pytorch's"),
    ("evaluate.py curves logs/run --output me.png", "--output"),
    ("evaluate.py curves logs/run --output flat/1.jpg", "--output"),
    ("evaluate.py curves logs/run --output flat/new.png", "--output"),
    ("evaluate.py curves logs/run --output link_to_flat/new.png", "--output"),
    ("align.py --input photos --output new --preview flat/sheet.png", "--preview")]


# A data set that the command itself does not read, and folders in it.
WITHIN = [
    *((f"gen_syn_latent.py --n_id 1 --n_im 1 --size 16 --output {output}", "--output")
      for output in ("set/real/new", "set/real/00001/new", "flat/new", "link_to_flat/new")),
    *((f"gen_syn_latent.py drawn --photos 1 --pairs 1 --size 16 --output {output}", "--output")
      for output in ("set/real", "set/real/00001", "flat")),
    (PAIRS + "set/real/new", "--output"),
    *((f"align.py --input photos --output {output}", "--output") for output in ("set/real/new", "flat/new")),
    *((f"align.py --input photos --output new --preview {preview}", "--preview")
      for preview in ("set/real/sheet.png", "set/real/00001/sheet.png", "flat/new.png")),
    *((MAKE + f"--save_syn_dataset {output}", "--save_syn_dataset") for output in ("../set/real/new", "../flat/new")),
    *((FIT + f"--save_fitting {output}", "--save_fitting") for output in ("../set/real/new", "../flat/new")),
    *((MAIN + f"--{option} {output}", f"--{option}")
      for option in ("log_dir", "profile") for output in ("set/real", "set/real/new", "flat", "flat/new")),
    (TRAIN + "--log_dir set/real/logs", "--log_dir"),
    *((f"recognizer.py verify --weights rec --images photos --output {output}", "--output")
      for output in ("set/real/new", "set/real/00001/new", "flat/new")),
    ("recognizer.py verify --weights rec --images photos --output results", "holds the results of --weights x, "),
    ("recognizer.py convert --input notes/todo.txt --output set/real/new", "--output"),
    *((f"evaluate.py curves logs/run --output {output}", "--output")
      for output in ("set/real/curves.png", "set/real/00001/curves.png"))]
REFUSED = OVERLAPS + FOREIGN + WITHIN


@pytest.mark.parametrize("line, option", REFUSED,
                         ids=[f"{line.split()[0]}-{' '.join(line.split()[-2:])}" for line, _ in REFUSED])
def test_the_command_is_refused_and_nothing_is_touched(place, line, option):
    name, *words = line.split()
    before = {path: path.lstat().st_mtime_ns for path in place.rglob("*")}
    result = call(PROGRAMS[name], *words)
    Tool(name).refused(result, option)
    assert not result.out and before == {path: path.lstat().st_mtime_ns for path in place.rglob("*")}


HELD = [
    ("align.py --input photos --output out", "out"),
    ("gen_syn_latent.py --n_id 1 --n_im 1 --size 16 --output out", "out"),
    ("gen_syn_latent.py --n_id 4 --n_im 1 --size 16 --output out --shard 2/3", "out"),
    ("align.py --input photos --output out --shard 1/2", "out"),
    ("gen_syn_latent.py drawn --photos 1 --pairs 0 --size 16 --output out", "out/real"),
    ("gen_syn_latent.py drawn --photos 1 --pairs 0 --size 16 --output out --shard 1/2", "out/real"),
    (MAKE + "--shard 1/2 --save_syn_dataset ../out", "out"),
    ("gen_syn_latent.py drawn --photos 0 --pairs 1 --size 16 --output out", "out/paired"),
    (MAKE + "--save_syn_dataset ../out", "out"),
    (FIT + "--save_fitting ../out", "out"),
    (MAKE + "--overwrite --save_syn_dataset ../out", "out"),
    (MAIN + "--load_path run --max_step 9", "logs/run"),
    (TRAIN + "--load_path logs/run --log_dir .", "logs/run"),
    ("evaluate.py judge data/syn --photos data/real --weights rec --output out", "out")]


@pytest.mark.slow
@pytest.mark.parametrize("line, folder", HELD, ids=[f"{line.split()[0]}-{folder}" for line, folder in HELD])
def test_a_folder_that_another_process_writes_to_is_refused(place, line, folder):
    """The line names the process. When it was killed, its lock is no obstacle any more."""
    (place / folder).mkdir(parents=True, exist_ok=True)
    with held(place / folder) as process:
        name, *words = line.split()
        result = call(PROGRAMS[name], *words)
        Tool(name).refused(result, folder.rpartition("/")[2], f"process {process} on ", "is writing there")
    check_free(str(place / folder))


def test_a_folder_of_runs_may_be_gone_on_with(place):
    """One that holds pictures of earlier runs; and a working folder with data and logs in it."""
    from argparse import Namespace

    with Run(Namespace(log_dir="logs2", task="a", keep_every=0), []) as run:
        Image.new("RGB", (8, 8)).save(f"{run.folder}/5_G.png")
    (place / "me.png").unlink()
    call(evaluate, "curves", "logs/run")
    assert (place / "curves.png").is_file()
    for log_dir in ("logs2", "logs", "."):
        result = call(main, *f"{NETWORKS} --log_dir {log_dir} --max_step 1 --dry_run".split())
        assert result.status == 0, result.err
    assert only_run("logs2")


def test_our_own_pictures_are_drawn_again(place):
    for name in ("new.png", "new.jpg", "new.JPEG"):
        for _ in range(2):
            result = call(evaluate, "curves", "logs/run", "--output", name)
            assert result.status == 0, result.err
        assert Image.open(name).size[0] > 100
    assert set(tree("notes")) == {"todo.txt"}
