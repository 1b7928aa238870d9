"""Side files and names on every command: damaged ones in one line before the work, odd but good ones as others."""
import json
import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import align
import evaluate
import gen_syn_latent
import main
import recognizer
from conftest import NAMES, NARROW, words
from datasets import alignment_table, labelled_crops
from datasets.image_sets import find_renderings
from drawn import draw_face, write
from tool import call, Tool

PROGRAMS = {program.__name__: program for program in (main, recognizer, align, evaluate, gen_syn_latent)}
MAIN = ["main", *words(**NAMES, **NARROW, data_dir="data", method_c="none", dry_run=True)]
TRAIN = ["recognizer", "train", "--data_dir", "data", "--real", "real", "--model_def", "small", "--image_size", "32"]
FILTER = [*TRAIN, "--filter_percentile", "50", "--filter_filename", "FILE"]
SCHEDULE = [*TRAIN, "--learning_rate", "-1", "--learning_rate_schedule_file", "FILE"]
LFW = [*TRAIN, "--lfw_dir", "data/real", "--lfw_pairs", "FILE"]
PEOPLE = ["gen_syn_latent", "people", "--output", "out", "--model", "FILE"]


@pytest.fixture
def place(tmp_path, drawn, monkeypatch):
    """The working folder, with `data`. TensorFlow is out of reach."""
    def start(*arguments, **options):
        raise AssertionError("TensorFlow is asked for")

    shutil.copytree(drawn, tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    for program in (main, recognizer):
        monkeypatch.setattr(program, "start", start)
    return tmp_path


def make(path, content):
    """Make a file of these bytes, or a folder, a pipe, or a link to itself."""
    if content == "folder":
        path.mkdir()
    elif content == "pipe":
        os.mkfifo(path)
    elif content == "link":
        path.symlink_to(path.name)
    else:
        path.write_bytes(content)


KINDS = {"empty": b"", "binary": bytes(range(256)) * 4, "deep": b"[" * 10 ** 6, "NaN": b"NaN", "pipe": "pipe",
         "folder": "folder", "link": "link", "pickle": b"\x80\x04cos\nsystem\n(S'touch evil'\ntR."}
READERS = {                 # words of a command line that read FILE
    "preset": [*MAIN, "--preset", "FILE"],
    "preset of people": ["gen_syn_latent", "--output", "out", "--preset", "FILE"],
    "schedule": SCHEDULE, "filter": FILTER, "pairs": LFW, "model": PEOPLE,
    "torch": ["recognizer", "convert", "--input", "FILE", "--output", "out"]}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reader", READERS)
def test_files_of_no_use(place, reader, kind):
    make(place / "FILE", KINDS[kind])
    program, *arguments = READERS[reader]
    result = call(PROGRAMS[program], *arguments)
    Tool(f"{program}.py").refused(result, "FILE")
    assert not (place / "out").exists() and not (place / "evil").exists()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("file, arguments", [
    ("run/params.json", [*MAIN, "--load_path", "run"]), ("run/params.json", [*TRAIN, "--load_path", "run"]),
    ("out/settings.json", ["align", "--input", "data/real", "--output", "out"]),
    ("run/stats.jsonl", ["evaluate", "curves", "run", "--output", "curves.png"])])
def test_files_of_runs_and_outputs_of_no_use(place, file, arguments, kind):
    if file == "run/params.json" and kind in ("pipe", "folder", "link"):
        (place / "run").mkdir()
        (place / "run/model.ckpt-1.index").write_bytes(b"")             # so that it is a run
    (place / file).parent.mkdir(exist_ok=True)
    make(place / file, KINDS[kind])
    program, *arguments = arguments
    Tool(f"{program}.py").refused(call(PROGRAMS[program], *arguments), os.path.dirname(file))


@pytest.mark.parametrize("value", [
    None, [], {}, "x", -1, 1e308, 10 ** 400, True, float("nan"), "a\nb", "\udcff", [[1]], {"a": [{}]}])
@pytest.mark.parametrize("option", ["batch_size", "g_lr", "method_c", "use_gpu", "data_dir"])
def test_presets_with_any_value(place, option, value):
    """Each is taken as if it were typed, or refused in one line."""
    (place / "FILE").write_text(json.dumps({"main.py": {option: value}}))
    result = call(main, *words(**NAMES, **NARROW), "--max_step", "0", "--preset", "FILE")
    Tool("main.py").refused(result)


# A mark of UTF-8

def marked(text):
    return b"\xef\xbb\xbf" + text.encode()


def reaches(arguments, named):
    """Assert that a command gets beyond reading its files, to what is wrong on purpose."""
    program, *arguments = arguments
    Tool(f"{program}.py").refused(call(PROGRAMS[program], *arguments), named)


def test_a_mark_of_utf_8_is_taken(place):
    (place / "FILE").write_bytes(marked(json.dumps({"main.py": {"batch_size": 3, "dataset": "nowhere"}})))
    reaches(["main", "--data_dir", "data", "--method_c", "none", "--preset", "FILE"], "data/nowhere")
    (place / "FILE").write_bytes(marked("1: .1\n3: .01\n"))
    reaches([*SCHEDULE[:-1], "FILE", "--real", "nowhere"], "data/nowhere")
    people = sorted(os.listdir("data/real"))
    rows = [f"{people[0]}\t1\t2", f"{people[0]}\t1\t{people[1]}\t1"]
    (place / "FILE").write_bytes(marked("\n".join(["1", *rows])))
    reaches([*LFW, "--lfw_nrof_folds", "2"], "of its 2 folds one has no pair of both kinds")
    (place / "out").mkdir()
    (place / "out/settings.json").write_bytes(marked('{"size": 5}'))
    reaches(["align", "--input", "data/real", "--output", "out"], "begun with other settings")
    (place / "run").mkdir()
    (place / "run/stats.jsonl").write_bytes(marked('{"step": 1, "Loss": 2}\n'))
    assert call(evaluate, "curves", "run", "--output", "c.png").status == 0


# What goes on

def test_distance_leaves_broken_images_out(place):
    broken = sorted(place.glob("data/real/*/*.jpg"))[1]
    broken.write_bytes(broken.read_bytes()[:200])
    result = call(evaluate, "--photos", "data/syn", "data/real")
    assert result.status == 0 and len(result.out.splitlines()) == 1
    (line,) = [line for line in result.err.splitlines() if "skipped" in line]
    assert "data/real: 1 broken images, skipped: " in line and str(broken.relative_to(place)) in line
    for path in place.glob("data/real/*/*.jpg"):
        path.write_bytes(b"")
    Tool("evaluate.py").refused(call(evaluate, "--photos", "data/syn", "data/real"), "data/real: fewer than 2 images")


def test_a_broken_image_leaves_a_black_cell_in_the_sheet(place, caplog):
    from synthesis.sheets import sample_sheet
    renderings = find_renderings("data/syn")
    (place / "data/syn" / renderings.names[1]).write_bytes(b"")
    config = SimpleNamespace(num_log_id=1, num_log_samples=3, input_scale_size=16, grayscale=False, random_seed=1)
    sheet = sample_sheet(config, renderings)
    assert [cell for cell, _ in sheet.cells] == [0, 2] and not sheet.images[1].any() and sheet.images[2].any()
    assert f"left out of the sheet: data/syn/{renderings.names[1]} (" in caplog.text


@pytest.mark.parametrize("name", ["\udcff", "x" * 255, "x y ", "-dash", "#,\"'", "%s{}", "\u00a0ü☃"])
def test_folders_of_any_name(place, name):
    shutil.move("data/real", f"data/{name}")
    for odd in ("a\nb", "\r", " ", "\u2028"):
        write(f"data/{name}", f"{odd}/{odd}.jpg", draw_face(1, 1, 16, photo=True))
    result = call(evaluate, "--photos", "data/syn", "--", f"data/{name}")
    assert result.status == 0 and len(result.out.splitlines()) == 1, result.err
    write(f"data/{name}", "new/1.heic.png", draw_face(1, 1, 16, photo=True))
    os.rename(f"data/{name}/new/1.heic.png", f"data/{name}/new/1.heic")
    result = call(main, *MAIN[1:], "--dataset", name if not name.startswith("-") else f"./{name}",
                  "--pretrained_gen", "nowhere")
    Tool("main.py").refused(result, "nowhere")
    run = place / f"run{name[:200]}"
    run.mkdir()
    (run / "stats.jsonl").write_text('{"step": 1, "a\\nb": 2}\n')
    result = call(evaluate, "curves", run, "--output", "c.png")
    assert result.status == 0 and len(result.err.splitlines()) == 1, result.err


def test_training_without_pairs_needs_a_paired_loss_of_0(place):
    shutil.rmtree("data/paired")
    for line in ("", "--lambda_d 0 --lambda_f 1", "--lambda_d 0 --lambda_m 1 --game hinge"):
        Tool("main.py").refused(call(main, *MAIN[1:], *line.split()), "--dataset_3dmm")
    for line in ("--lambda_d 0", "--lambda_d 0 --lambda_m 1"):          # in BEGAN's game, lambda_m has no effect
        with pytest.raises(AssertionError, match="TensorFlow is asked for"):
            call(main, *MAIN[1:], *line.split())


def test_two_images_that_would_become_one_are_refused(place):
    for ending in ("gif", "png"):
        Image.new("RGB", (16, 16)).save(place / f"data/real/new.{ending}")
    result = call(main, *MAIN[1:], "--fit_dataset", "--train_generator")
    Tool("main.py").refused(result, "data/real: what is made of new.gif and of new.png would have one name, new.png")


@pytest.mark.parametrize("option", ["log_dir", "task", "profile"])
def test_tensorflow_can_write_no_names_that_are_not_utf_8(place, option):
    Tool("main.py").refused(call(main, *MAIN[1:], f"--{option}", "x\udcff"), f"--{option} x\\udcff", "UTF-8")


# Face models and annotations

def test_annotations_are_read_once_each(place, caplog):
    from morphable import latents
    for folder in ("a", "b"):
        (place / "mats" / folder).mkdir(parents=True)
        (place / "mats" / folder / "1.mat").write_bytes(b"")
    (place / "mats/a/loop").symlink_to("..")
    (place / "mats/b/again").symlink_to("../a")
    (place / "mats/b/2.mat").symlink_to("1.mat")
    (place / "mats/b/dead.mat").symlink_to("nowhere.mat")
    found = [os.path.realpath(path) for path in latents.find_mat_files("mats")]
    assert sorted(found) == [str(place / "mats/a/1.mat"), str(place / "mats/b/1.mat")]
    assert [record.message for record in caplog.records] == [
        "mats: 2 links that lead nowhere or in a circle, skipped: a/loop, b/dead.mat"]


# The table of align.py

def table_of(*rows):
    return (",".join(align.FIELDS) + "\n").encode() + b"".join(rows)


GOOD_ROW = align.encode_rows([dict.fromkeys(align.FIELDS, "1") | {"source": "a.jpg", "status": align.CROPPED}])
BAD_ROWS = {
    "words": GOOD_ROW.replace(b"a.jpg,1,1", b"b.jpg,1,x"), "short": b"b.jpg,1\n", "empty": b",,\n",
    "long": GOOD_ROW.replace(b"a.jpg", b"b.jpg")[:-1] + b",1,2\n",
    "nan": GOOD_ROW.replace(b"a.jpg,1,1", b"b.jpg,1,nan"),
    "nothing": b"b.jpg" + b"," * (len(align.FIELDS) - 1) + b"\n", "binary": b"\xff\x01\x02\n"}


@pytest.mark.parametrize("row", BAD_ROWS)
def test_damaged_rows_are_left_out_of_the_table(tmp_path, caplog, row):
    path = tmp_path / "alignment.csv"
    for content in (table_of(GOOD_ROW, BAD_ROWS[row]), table_of(BAD_ROWS[row], GOOD_ROW), marked("") + table_of(
            GOOD_ROW, BAD_ROWS[row])):
        path.write_bytes(content)
        caplog.clear()
        assert list(alignment_table.load_table(str(path))) == ["a.jpg"]
        assert [record.message for record in caplog.records] == [
            f"{path}: 1 damaged rows, whose photos are cropped again"]


@pytest.mark.parametrize("name", ["\udcff.jpg", "a\nb.jpg", "c\rd.jpg", "e\r\nf.jpg", '"q".jpg', "#,;.jpg", " .jpg"])
def test_names_in_the_table(tmp_path, name):
    row = dict.fromkeys(align.FIELDS, "1") | {"source": name, "crop": name, "status": align.CROPPED}
    align.save_table(str(tmp_path / "t.csv"), {name: row})
    assert alignment_table.load_table(str(tmp_path / "t.csv")) == {name: row}
    align.save_table(str(tmp_path / "more.csv"), {name: row, "z": row | {"source": "z", "crop": "z"}})
    cut = labelled_crops.rows_of(str(tmp_path / "more.csv"), "crop", {name})        # as a selection of the crops has it
    (tmp_path / "cut.csv").write_bytes(cut)
    assert alignment_table.load_table(str(tmp_path / "cut.csv")) == {name: row}
    assert np.isfinite(float(row["left"]))
