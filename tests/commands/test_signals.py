"""Ctrl-C and SIGTERM at any moment of any command: a line, the signal's status, no traceback, nothing left behind."""
import os
import signal
import time

import pytest

from conftest import NAMES, NARROW, only_run, steps_saved, tree, words
from drawn import write_dataset
from tool import alive, finish, Tool, wait_for

pytestmark = pytest.mark.slow
FACES = {"model_def": "small", "image_size": 32, "embedding_size": 8, "batch_size": 4}
SHORT = "verify", "curves", "distance"          # commands that end by themselves within a second
TOLD, AT_ONCE = "finishing what is under way; once more to stop at once", "stopped at once"
# Without a word on stderr but those of an interruption, until a command has begun with what it says of its data.
COMMANDS = {
    "train": ("main.py", [*words(**NAMES, **NARROW, method_c="none", batch_size=2, max_step=10 ** 6)]),
    "classify": ("recognizer.py", ["train", *words(**FACES, real="syn", max_nrof_epochs=10 ** 5)]),
    "verify": ("recognizer.py", ["verify", *words(weights="nowhere", images="data/syn")]),
    "render": ("gen_syn_latent.py", ["people", *words(output="out", model="builtin", n_id=3000, n_im=2, size=32,
                                                      workers=2)]),
    "draw": ("gen_syn_latent.py", ["drawn", *words(output="out", photos=3000, size=32, workers=2, model="builtin")]),
    "align": ("align.py", [*words(input="data/many", output="out", workers=2)]),
    "curves": ("evaluate.py", ["curves", "data"]),
    "distance": ("evaluate.py", ["distance", "--photos", "data/real", "data/syn"])}
LASTING = [name for name in COMMANDS if name not in SHORT]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder to work in, with data."""
    root = tmp_path_factory.mktemp("signals")
    write_dataset(str(root / "data"), size=16, identities=3, per_identity=3)
    write_dataset(str(root / "many"), size=64, identities=1, per_identity=1, photos=300)
    (root / "many/real").rename(root / "data/many")
    return root


@pytest.fixture
def place(data, tmp_path):
    (tmp_path / "data").symlink_to(data / "data")
    return tmp_path


def started(place, name, *more):
    """A command that works in `place`."""
    program, arguments = COMMANDS[name]
    return Tool(program).start(*arguments, *more, cwd=place)


def said(result):
    """The lines of stderr that are neither of the log nor of a progress bar."""
    return [line for line in result.err.splitlines() if line.strip() and "[" not in line and "it/s" not in line]


@pytest.mark.parametrize("name, delay, number", [
    *((name, .15, signal.SIGINT) for name in SHORT), *((name, .8, signal.SIGTERM) for name in LASTING),
    *(pytest.param(name, delay, signal.SIGINT, marks=pytest.mark.long) for delay in (.15, 2.5) for name in LASTING)])
def test_a_signal_ends_any_command_in_good_order(place, name, delay, number):
    process = started(place, name)
    time.sleep(delay)
    if process.poll() is not None:
        finish(process)
        pytest.skip("it was faster")
    os.killpg(process.pid, number)
    result = finish(process)
    wait_for(lambda: not alive(process.pid), seconds=10)
    lines = said(result)
    if result.status in (0, 2) and TOLD not in lines:
        pytest.skip("it had ended, and Python was cleaning up")
    assert result.status in (128 + number, -number) and "Traceback" not in result.err, result.err[-2000:]
    if result.status < 0:
        pytest.skip("it had ended, and Python was cleaning up")
    assert len(lines) <= 2 and ": interrupted" in lines[-1] and lines[:-1] in ([], [TOLD]), result.err[-2000:]


@pytest.mark.parametrize("name, begun", [
    ("train", "logs/*/stats.jsonl"), ("render", "out/0*"), *(pytest.param(*case, marks=pytest.mark.long) for case in (
        ("classify", "recognizers/*/stats.jsonl"), ("draw", "out/real/*"), ("align", "out/settings.json")))])
def test_a_second_signal_ends_it_at_once(place, name, begun):
    process = started(place, name)
    wait_for(lambda: list(place.glob(begun)))
    time.sleep(.3)
    os.kill(process.pid, signal.SIGINT)
    time.sleep(.15)                         # not one and the same
    os.kill(process.pid, signal.SIGINT)
    start = time.monotonic()
    result = finish(process)
    wait_for(lambda: not alive(process.pid), seconds=10)
    assert time.monotonic() - start < 3 and result.status in (130, -2) and "Traceback" not in result.err
    lines = said(result)
    assert lines == [TOLD, AT_ONCE] or (len(lines) == 2 and lines[0] == TOLD and ": interrupted; " in lines[1])
    for path in tree(place):
        assert "/.tmp-" in f"/{path}" or not path.endswith(".jpg") or os.path.getsize(place / path) > 300


@pytest.mark.long
def test_a_second_signal_leaves_a_run_that_goes_on(place):
    process = started(place, "train", "--checkpoint_step", 2)
    wait_for(lambda: list(place.glob("logs/*/model.ckpt-4.index")))
    for _ in range(2):
        os.kill(process.pid, signal.SIGTERM)
        time.sleep(.11)
    finish(process)
    saved = steps_saved(only_run(place / "logs"))[-1]
    result = Tool("main.py").run("--load_path", only_run(place / "logs").name, "--max_step", saved + 2, cwd=place)
    assert result.status == 0 and steps_saved(only_run(place / "logs"))[-1] == saved + 2, result.err[-2000:]


@pytest.mark.parametrize("name", ["train", "render", "verify"])
def test_a_signal_is_heard_though_nobody_reads_stderr_any_more(place, name):
    """As after Ctrl-C in `command 2>&1 | tee log`, which ends tee too."""
    process = started(place, name)
    process.stderr.close()
    time.sleep(.2 if name == "verify" else 4)
    for _ in range(2):
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        time.sleep(.3)
    process.stderr = None
    assert finish(process).status != 0
    wait_for(lambda: not alive(process.pid), seconds=10)
