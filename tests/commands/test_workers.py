"""Several workers on this machine: the steps of towers, exact resume, a stop for all, and what is lost or differs."""
import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from conftest import differences, HERE, NAMES, NARROW, only_run, SMALL, steps_saved, TIMEOUT, tree, words
from drawn import draw_face, write
from tool import wait_for

pytestmark = pytest.mark.slow
LIMIT = 10.                     # seconds of --collective_timeout


class Pool:
    """The process of worker_pool.py."""

    def __init__(self, folder):
        self.folder, self.numbers = folder, itertools.count()
        self.process = subprocess.Popen([sys.executable, str(HERE / "worker_pool.py")], cwd=folder, text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={
                                            **os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})

    def ask(self, **question):
        """Send a question and read the answer."""
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


class Worker:
    """A command that a Pool has started: its log, its signals, its end."""

    def __init__(self, pool, module, function, *arguments):
        self.pool, self.log, self.status = pool, Path(pool.folder) / f"log{next(pool.numbers)}.txt", None
        self.began = time.monotonic()
        self.pid = pool.ask(start=[module, function, *map(str, arguments)], log=str(self.log))

    @property
    def text(self):
        """What it has said."""
        return self.log.read_text() if self.log.exists() else ""

    @property
    def last_words(self):
        """The line with which the program ends; there must be no other complaint."""
        assert "Traceback" not in self.text, self.text[-3000:]
        found = re.findall(r"^\w+\.py: .*$", self.text, re.MULTILINE)
        assert len(found) == 1, self.text[-3000:]
        return found[0]

    def ended(self):
        """Tell whether it has ended."""
        if self.status is None:
            self.status = self.pool.ask(ask=self.pid)
        return self.status is not None

    def wait(self):
        """Wait for the end -> the exit status."""
        wait_for(self.ended, TIMEOUT)
        return self.status

    def say(self, pattern):
        """Wait until it has said something."""
        wait_for(lambda: re.search(pattern, self.text) or self.ended(), TIMEOUT)
        assert re.search(pattern, self.text), self.text[-3000:]

    def send(self, number):
        """Send it a signal."""
        os.kill(self.pid, number)

    def kill(self):
        """End it in any case."""
        if not self.ended():
            self.send(signal.SIGKILL)
            self.wait()


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    pool = Pool(tmp_path_factory.mktemp("pool"))
    yield pool
    pool.process.stdin.close()
    pool.process.wait(TIMEOUT)


@pytest.fixture
def start(pool):
    """A function that starts workers with the same options, and different ones {number: options} -> list of Workers."""
    started = []

    def start(module, options, count=2, different=(), function="main", before=()):
        addresses = ",".join(f"localhost:{port}" for port in free_ports(count))
        given = dict(cluster=addresses, collective_timeout=LIMIT, **options)
        workers = [Worker(pool, module, function, *before, *words(**given | {"worker": number} | dict(different).get(
            number, {}))) for number in range(count)]
        started.extend(workers)
        return workers

    yield start
    for worker in started:
        worker.kill()


def free_ports(count):
    """Ports that nobody uses just now."""
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server(("", 0))) for _ in range(count)]
        return [server.getsockname()[1] for server in servers]


def narrow_options(drawn):
    """Options of the narrowest training, without a classifier."""
    return dict(**NAMES, **NARROW, data_dir=drawn, method_c="none", batch_size=2, log_step=1, save_step=100,
                num_log_id=2, num_log_samples=2)


@pytest.fixture
def narrow(drawn, tmp_path):
    """Those options, and where to write."""
    return narrow_options(drawn) | {"log_dir": tmp_path / "logs"}


# Together

@pytest.fixture(scope="module")
def at_once(pool, drawn, tmp_path_factory):
    """6 steps of 2 workers -> (folder of runs, list of Workers that have ended)."""
    logs = tmp_path_factory.mktemp("at_once") / "logs"
    addresses = ",".join(f"localhost:{port}" for port in free_ports(2))
    workers = [Worker(pool, "main", "main", *words(
        **narrow_options(drawn), log_dir=logs, max_step=12, cluster=addresses, worker=number, checkpoint_step=3,
        keep_every=3)) for number in range(2)]
    for worker in workers:
        worker.wait()
    return logs, workers


def test_workers_share_the_steps_and_worker_0_writes(at_once):
    logs, workers = at_once
    assert [worker.status for worker in workers] == [0, 0], workers[0].text[-3000:]
    run = only_run(logs)
    assert steps_saved(run) == [3, 6] and (run / "6_G.png").exists()
    lines = [re.findall(r"\[(\d)/6\].*(Loss_D.*)", worker.text) for worker in workers]
    assert len(lines[0]) == 6 and lines[0] == lines[1]
    assert "run directory" in workers[0].text and "run directory" not in workers[1].text
    assert "step/s" not in workers[1].text.replace("s/step", "")            # no progress bar


def test_a_signal_to_any_worker_stops_all_and_a_resumed_training_has_the_same_bits(start, at_once, narrow):
    options = narrow | dict(max_step=12, checkpoint_step=100)
    workers = start("main", options)
    workers[1].say(r"\[1/6\]")
    workers[1].send(signal.SIGTERM)
    assert [worker.wait() for worker in workers] == [128 + signal.SIGTERM] * 2
    run = only_run(narrow["log_dir"])
    step, = steps_saved(run)
    assert 1 <= step < 6
    assert f"saved at step {step}; go on with --load_path {run}" in workers[0].last_words
    assert f"worker 0 saves step {step}" in workers[1].last_words
    workers = start("main", options | dict(load_path=run))
    assert [worker.wait() for worker in workers] == [0, 0], workers[0].text[-3000:]
    assert not differences(only_run(at_once[0]) / "model.ckpt-6", run / "model.ckpt-6")


# The same as towers

SGD = dict(optimizer="sgd", batch_size=2, g_lr=1e-4, d_lr=1e-4, lambda_k=.1, lambda_c=.1, max_step=100)
HINGE = dict(game="hinge", d_scales=2, augment="shift,cut,color,zoom,shade", r1=.1, lambda_f=1, lambda_m=1, lambda_e=1,
             background="noise", method_c="none")
USUAL = {"none, hinge": ("main", HINGE)}
SELDOM = {
    "magnet": ("main", dict(method_c="magnet", relax_c=True, keep_probability=.7, input_scale_size=96)),
    "adaface": ("recognizer", dict(loss="adaface", scale=8)),
    "softmax": ("main", dict(method_c="softmax", relax_c=True, weight_decay=1e-3)),
    "center": ("main", dict(method_c="center")),
    "softmax_center": ("recognizer", dict(loss="softmax_center", center_loss_factor=.1, weight_decay=1e-3))}
RANDOM = dict(random_rotate=True, random_erasing=.5, augment_crop=.5, augment_resolution=.5, augment_color=.5)


@pytest.fixture(scope="module")
def same_steps(pool, tools, tmp_path_factory):
    """A function of some cases, which takes their steps in the first call with them: see `take_steps`."""
    taken = {}

    def steps(cases):
        if id(cases) not in taken:
            taken[id(cases)] = take_steps(cases, pool, tools, tmp_path_factory.mktemp("steps"))
        return taken[id(cases)]

    return steps


def take_steps(wanted, pool, tools, folder):
    """What 3 steps of `wanted` cases leave of two towers, and of each of two workers -> list of 3 {case: values}."""
    for person, image in itertools.product(range(1, 4), range(1, 4)):
        write(str(folder), f"faces/{person}/{image}.jpg", draw_face(person, image, 36, photo=True))
    cases = []
    for program, options in wanted.values():
        if program == "main":
            given = {**NAMES, **NARROW, **SMALL, **SGD, **options, "log_dir": str(folder / "logs")}
            given["data_dir"] = str(tools.drawn96 if given["input_scale_size"] == 96 else tools.drawn)
            given |= dict(pretrained_rec=tools.classifier) if given["method_c"] != "none" else {}
        else:
            given = dict(SMALL, **RANDOM, keep_probability=.7, optimizer="sgd", batch_size=6, data_dir=str(folder),
                         real="faces", log_dir=str(folder / "logs"), **options)
        cases.append([program, given | {"cluster": ",".join(f"localhost:{port}" for port in free_ports(2))}])
    (folder / "cases.json").write_text(json.dumps(cases))
    arguments = [words(num_gpu=2, cluster="localhost:1", worker=0), *(words(worker=number) for number in range(2))]
    workers = [Worker(pool, "worker_steps", "take", folder / "cases.json", folder / f"{number}-", *more)
               for number, more in enumerate(arguments)]
    assert [worker.wait() for worker in workers] == [0] * 3, workers[1].text[-3000:]
    return [{name: dict(np.load(folder / f"{number}-{case}.npz")) for case, name in enumerate(wanted)}
            for number in range(3)]


@pytest.mark.parametrize("cases, case", [
    *((USUAL, case) for case in USUAL), *(pytest.param(SELDOM, case, marks=pytest.mark.long) for case in SELDOM)],
    ids=[*USUAL, *SELDOM])
def test_two_workers_take_the_steps_of_two_towers(same_steps, cases, case):
    towers, first, second = (each[case] for each in same_steps(cases))
    assert towers.keys() == first.keys() == second.keys()
    for name, wanted in towers.items():
        assert first[name].tobytes() == second[name].tobytes(), name
        scale = max(np.abs(wanted).max(), 1e-3) if wanted.dtype.kind == "f" else 1
        assert np.abs(wanted.astype(float) - first[name]).max() <= 1e-5 * scale, name


# Lost workers

@pytest.mark.long
@pytest.mark.parametrize("count, victim, number", [
    (3, 1, signal.SIGKILL), (2, 0, signal.SIGSTOP)])
def test_a_lost_worker_ends_the_others(start, narrow, count, victim, number):
    workers = start("main", narrow | dict(max_step=10 ** 6, checkpoint_step=2), count)
    workers[victim].say(r"\[4/\d+\]")
    lost = workers.pop(victim)
    lost.send(number)
    began = time.monotonic()
    for worker in workers:
        assert worker.wait() == 2, worker.text[-3000:]
        assert time.monotonic() < began + LIMIT
        assert re.search(rf"error: worker {victim} \(localhost:\d+\) does not answer any more; .*start all workers "
                         "again", worker.last_words) and "worker 0" not in worker.last_words.replace(
                             f"worker {victim} ", "")
    if number == signal.SIGSTOP:                # awake again, it finds the others lost
        lost.send(signal.SIGCONT)
        assert lost.wait() == 2 and "worker 1 (localhost" in lost.last_words
    run = only_run(narrow["log_dir"])
    assert steps_saved(run)[-1] >= 2
    if victim:
        assert workers[0].last_words.endswith(f"--load_path {run}")


def test_workers_wait_for_one_that_never_comes(start, narrow):
    options = narrow | dict(max_step=12, collective_timeout=5)
    first, _ = start("main", {name: value for name, value in options.items() if name != "collective_timeout"}, 2,
                     {1: dict(dry_run=True), 0: dict(collective_timeout=5)})
    assert first.wait() == 2
    assert re.search(r"worker 1 \(localhost:\d+\): not there after 5 s", first.last_words)
    assert not narrow["log_dir"].exists()


@pytest.mark.parametrize("different, named", [
    (dict(batch_size=3), "--batch_size: 3 there, 2 here"), (dict(g_lr=1e-3), "--g_lr: 0.001 there, 8e-05 here"),
    (dict(data_dir="other"), "the images of --syn_dataset: 17 images with digest")], ids=["batch_size", "g_lr", "data"])
def test_other_options_or_data_are_one_line_on_each_worker(start, drawn, tmp_path, narrow, different, named):
    if "data_dir" in different:
        different = dict(data_dir=shutil.copytree(drawn, tmp_path / "data"))
        (tmp_path / "data/syn/00005/00001.jpg").rename(tmp_path / "data/syn/00004/00009.jpg")
    workers = start("main", narrow | dict(max_step=12), different={1: different})
    assert [worker.wait() for worker in workers] == [2, 2], workers[0].text[-3000:]
    assert named in workers[0].last_words and "worker 1 (localhost" in workers[0].last_words
    assert "worker 0 (localhost" in workers[1].last_words and "differs from this worker in" in workers[1].last_words
    assert not narrow["log_dir"].exists()


@pytest.mark.parametrize("change, first, second", [
    (lambda ports: f"{ports},localhost:9", "worker 1 .* belongs to 3 workers, and this one to 2",
     "worker 0 .* belongs to 2 workers, and this one to 3"),
    (lambda ports: ",".join(reversed(ports.split(","))), "can't listen|takes itself|not there",
     "can't listen|takes itself|not there")], ids=["size", "order"])
def test_another_list_of_workers_is_one_line(pool, narrow, change, first, second):
    ports = ",".join(f"localhost:{port}" for port in free_ports(2))
    workers = [Worker(pool, "main", "main", *words(**narrow, max_step=12, cluster=cluster, worker=number,
                                                   collective_timeout=5))
               for number, cluster in enumerate((ports, change(ports)))]
    assert [worker.wait() for worker in workers] == [2, 2], workers[0].text[-3000:]
    assert re.search(first, workers[0].last_words) and re.search(second, workers[1].last_words)


# The classifier

@pytest.mark.long
def test_a_classifier_trained_by_two_workers_and_gone_on_with(start, tmp_path):
    for person, image in itertools.product(range(1, 4), range(1, 4)):
        write(str(tmp_path), f"faces/{person}/{image}.jpg", draw_face(person, image, 36, photo=True))
    options = dict(SMALL, data_dir=tmp_path, real="faces", batch_size=2, epoch_size=3, log_step=1, log_dir=tmp_path
                   / "rec", max_nrof_epochs=2, keep_every=3)
    workers = start("recognizer", options, different={1: dict(log_dir=tmp_path / "nothing")}, before=["train"])
    assert [worker.wait() for worker in workers] == [0, 0], workers[0].text[-3000:]
    run = only_run(tmp_path / "rec")
    assert steps_saved(run) == [3, 6] and not (tmp_path / "nothing").exists()
    later = tree(run)
    for name in [name for name in later if "model.ckpt-6" in name]:
        (run / name).unlink()
    workers = start("recognizer", options | dict(load_path=run), before=["train"])
    assert [worker.wait() for worker in workers] == [0, 0], workers[0].text[-3000:]
    assert "going on after step 3" in workers[1].text
    assert {name: tree(run)[name] for name in later if ".data-" in name} == {
        name: content for name, content in later.items() if ".data-" in name}
