"""What the end-to-end tests share: the command line, drawn data, a classifier, and runs in the background."""
import fcntl
import glob
import inspect
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

# NumPy asks when it is loaded. Its threads wait by spinning, which costs tenfold where other processes want the cores.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")       # the least: they sleep at once

import numpy as np
import pytest

from drawn import draw_face, write, write_dataset

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "golden"))            # for the rule that made the goldens
MAIN = str(HERE.parent / "main.py")
NAMES = dict(dataset="real", syn_dataset="syn", dataset_3dmm="paired")
NARROW = dict(input_scale_size=16, conv_hidden_num=4, conv_hidden_num_res=4, z_num=8, num_res_rep=1)
SMALL = dict(model_def="small", image_size=32, embedding_size=16)
TIMEOUT = 300                   # seconds, for a machine that others use too


@pytest.fixture(scope="session", autouse=True)
def started():
    """TensorFlow as every command starts it."""
    from engine.startup import start
    start()


@pytest.fixture(scope="session", autouse=True)
def usual_people():
    """Commands in this process use the built-in model where none is named, whatever is installed."""
    from morphable import scene
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scene, "usual_model", lambda: scene.BUILTIN)
        yield


# The command line

def words(**options):
    """Options as the words of a command line."""
    return [word for name, value in options.items() for word in (f"--{name}", str(value))]


class Result(NamedTuple):
    """What a finished command left: exit status, stdout and stderr."""
    status: int
    out: str
    err: str

    @property
    def errors(self):
        """The lines with which main.py itself ends."""
        return [line for line in self.err.splitlines() if line.startswith("main.py:")]


class Program:
    """A started `python main.py`, with these options, that is killed when it takes too long."""

    def __init__(self, cwd=None, preexec_fn=None, **options):
        # The tests change the working folder, perhaps in another thread just now.
        self.process = subprocess.Popen([sys.executable, MAIN, *words(**options)], cwd=cwd or HERE,
                                        preexec_fn=preexec_fn, text=True, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE)
        self.read = ""                  # of its stderr, so far
        self.timer = threading.Timer(TIMEOUT, self.process.kill)
        self.timer.start()

    def read_until(self, pattern):
        """Read stderr up to the first line that matches `pattern`."""
        for line in self.process.stderr:
            self.read += line
            if re.search(pattern, line):
                return
        raise AssertionError(f"ended without {pattern}:\n{self.finish().err[-3000:]}")

    def finish(self):
        """Wait for the end -> Result."""
        self.read += self.process.stderr.read()
        out = self.process.stdout.read()
        self.process.wait()
        self.timer.cancel()
        return Result(self.process.returncode, out, self.read)

    def end(self, number=signal.SIGKILL):
        """Send a signal and wait for the end -> Result."""
        self.process.send_signal(number)
        return self.finish()

    @property
    def memory(self):
        """(resident memory, its peak so far) in MB."""
        with open(f"/proc/{self.process.pid}/status") as status:
            found = dict(re.findall(r"(VmRSS|VmHWM):\s+(\d+)", status.read()))
        return int(found["VmRSS"]) / 1024, int(found["VmHWM"]) / 1024


def run(**options):
    """Run `python main.py` with these options -> Result."""
    return Program(**options).finish()


def succeed(**options):
    """Run `python main.py`, which has to end well -> Result."""
    result = run(**options)
    assert result.status == 0, result.err[-3000:]
    return result


# Files

def only_run(log_dir):
    """The one run directory in a folder of runs."""
    runs = list(Path(log_dir).iterdir())
    assert len(runs) == 1, runs
    return runs[0]


def steps_saved(run_dir):
    """The steps of the checkpoints in a run directory, in order."""
    return sorted(int(path.stem.split("-")[1]) for path in Path(run_dir).glob("model.ckpt-*.index"))


def tree(folder):
    """{relative path: content} of all files in a folder, hidden ones too."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def products(folder):
    """The same of an output folder, without what the program writes there for its next run."""
    return {name: content for name, content in tree(folder).items() if name not in ("settings.json", ".sources.jsonl")}


def read_checkpoint(prefix):
    """{name: array} of all variables in a checkpoint."""
    import tensorflow as tf
    reader = tf.train.load_checkpoint(str(prefix))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def differences(prefix, other):
    """The names of the variables in which two checkpoints differ in any bit."""
    a, b = read_checkpoint(prefix), read_checkpoint(other)
    assert a.keys() == b.keys(), a.keys() ^ b.keys()
    return [name for name in a if a[name].tobytes() != b[name].tobytes() or a[name].shape != b[name].shape]


def events(run_dir):
    """{(tag, step): value} of the scalars in a run's TensorBoard events, and the set of the images' tags."""
    import tensorflow as tf
    scalars, images = {}, set()
    for path in sorted(glob.glob(str(Path(run_dir) / "events.out.tfevents.*"))):
        for event in tf.compat.v1.train.summary_iterator(path):
            for value in event.summary.value:
                if value.HasField("image"):
                    images.add(value.tag)
                else:
                    scalars[value.tag, event.step] = value.simple_value
    return scalars, images


def write_checkpoint(prefix, values):
    """Write {name: array} as a checkpoint, by plain TensorFlow."""
    import tensorflow as tf
    tf1 = tf.compat.v1
    with tf.Graph().as_default(), tf1.Session() as session:
        variables = [tf1.get_variable(name, initializer=value, use_resource=False) for name, value in values.items()]
        session.run(tf1.global_variables_initializer())
        tf1.train.Saver(variables).save(session, str(prefix), write_meta_graph=False, write_state=False)
    return str(prefix)


# Data

@pytest.fixture(scope="session")
def drawn(tmp_path_factory):
    """The folder of a drawn data set of 16 x 16 pixels: 17 renderings of 5 identities, 10 photos, 6 pairs."""
    folder = tmp_path_factory.mktemp("drawn")
    write_dataset(str(folder), size=16, identities=4, per_identity=4)
    write(str(folder), "syn/00005/00001.jpg", draw_face(5, 1, 16, photo=False))
    return folder


@pytest.fixture(scope="session")
def drawn96(tmp_path_factory):
    """The folder of a drawn data set of 96 x 96 pixels, the smallest of which the classifier sees random crops."""
    folder = tmp_path_factory.mktemp("drawn96")
    write_dataset(str(folder), size=96, identities=3, per_identity=3, photos=5, pairs=3)
    return folder


def small_classifier(scope="InceptionResnetV1", embedding_size=16):
    """{name: array} of the network `small` with random weights, under FaceNet's names."""
    rng = np.random.default_rng(7)
    values, channels = {}, 3
    for i, filters in enumerate((32, 64, 128, 256, 192), 1):
        values[f"{scope}/Conv2d_{i}/weights"] = rng.normal(0, (2 / (9 * channels)) ** .5, [3, 3, channels, filters])
        values[f"{scope}/Conv2d_{i}/BatchNorm/beta"] = rng.normal(0, .1, [filters])
        channels = filters
    values[f"{scope}/Bottleneck/weights"] = rng.normal(0, channels ** -.5, [channels, embedding_size])
    values[f"{scope}/Bottleneck/BatchNorm/beta"] = rng.normal(0, .1, [embedding_size])
    for name in [name for name in values if name.endswith("beta")]:
        values[name.replace("beta", "moving_mean")] = rng.normal(0, .1, values[name].shape)
        values[name.replace("beta", "moving_variance")] = rng.uniform(.5, 1.5, values[name].shape)
    return {name: value.astype(np.float32) for name, value in values.items()}


@pytest.fixture(scope="session")
def classifier(tmp_path_factory):
    """The prefix of a checkpoint of the network `small` for SMALL's options, with random weights."""
    return write_checkpoint(tmp_path_factory.mktemp("classifier") / "model-1.ckpt-10", small_classifier())


# Runs in the background

class Tools(NamedTuple):
    """What a scenario gets: data, the classifier, and functions that make a new folder, and a value once for all."""
    drawn: Path
    drawn96: Path
    classifier: str
    new_folder: object
    once: object


SCENARIOS = {}


def scenario(function):
    """Make a fixture of `function(tools, ...)`: what it returned, or the error it raised.

    The first one that a file asks for starts all that the file's selected tests need. They run in the background, two
    at a time, in the order of their definition. Further arguments are the results of earlier scenarios.
    """
    SCENARIOS[function.__name__] = function

    @pytest.fixture(scope="module", name=function.__name__)
    def fixture(request, background):
        return background(request.path)[function.__name__].result()

    return fixture


@pytest.fixture(scope="session")
def tools(request, drawn, drawn96, classifier, tmp_path_factory):
    """Tools for all scenarios."""
    folder = tmp_path_factory.getbasetemp()
    shared = folder.parent if hasattr(request.config, "workerinput") else folder     # of all workers of pytest-xdist

    def once(name, make):
        """Make a value, unless another process that tests has made it -> the value, which pickle can write."""
        path = shared / f"{name}.pickle"
        with open(shared / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                path.write_bytes(pickle.dumps(make()))
        return pickle.loads(path.read_bytes())

    return Tools(drawn, drawn96, classifier, lambda: tmp_path_factory.mktemp("run"), once)


@pytest.fixture(scope="session")
def background(request, tools):
    """A function: a file -> {name: future} of scenarios, those that the file's selected tests need among them."""
    futures = {}

    def work(name, needs):
        return SCENARIOS[name](tools, *(futures[other].result() for other in needs))

    def start(file):
        needs = {name: list(inspect.signature(function).parameters)[1:] for name, function in SCENARIOS.items()}
        needed = {name for item in request.session.items if item.path == file for name in item.fixturenames}
        for name in reversed(SCENARIOS):
            needed.update(needs[name] if name in needed else [])
        for name in SCENARIOS:
            if name in needed and name not in futures:
                futures[name] = pool.submit(work, name, needs[name])
        return futures

    with ThreadPoolExecutor(2) as pool:
        yield start
        pool.shutdown(cancel_futures=True)


class Trained(NamedTuple):
    """A finished training: its options, directory, and its memory (`Program.memory`) after steps 50 and 200."""
    options: dict
    run_dir: Path
    memory: dict
    result: Result


def train(tools):
    """Train for 200 steps -> Trained."""
    options = dict(**NAMES, **NARROW, **SMALL, data_dir=tools.drawn, pretrained_rec=tools.classifier, batch_size=4,
                   log_dir=tools.new_folder(), log_step=10, save_step=10, num_log_samples=4, g_lr=1e-3, d_lr=1e-3)
    program, memory = Program(max_step=200, **options), {}
    for step in (50, 200):
        program.read_until(rf"\[{step}/200\]")
        memory[step] = program.memory
    result = program.finish()
    assert result.status == 0, result.err[-3000:]
    return Trained(options, only_run(options["log_dir"]), memory, result)


@scenario
def trained(tools):
    """200 steps of narrow networks at 16 x 16 with the set-based loss, once for all processes that test."""
    return tools.once("trained", lambda: train(tools))
