"""engine/loop: what is due after each step, a status line, a good end on a signal, divergence, the time of a step."""
import json
import logging
import os
import signal
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from conftest import events, steps_saved
from engine import loop
from engine.loop import Due, run_steps, status_line, StepResult, StopWatch
from engine.runs import Run
from engine.session import images_needed
from utils import Diverged, Interrupted, SIGNALS, UserError

tf1 = tf.compat.v1


class Training:
    """What `run_steps` needs, without a network. It notes what it was asked for as `calls`.

    `at` {step, from 1: function} are called within a step; `during_save` whenever it saves.
    """

    all_finite = "all finite"

    def __init__(self, at=(), losses=None, finite=True, during_save=lambda step: None):
        self.at, self.losses, self.finite, self.during_save = dict(at), losses or {}, finite, during_save
        self.calls, self.saver = [], self
        self.session = SimpleNamespace(graph=tf.Graph(), run=self._run)

    def _run(self, fetched):
        assert fetched == self.all_finite
        return self.finite

    def save(self, session, prefix, **_):
        """Write a checkpoint in the place of a tf1.train.Saver."""
        step = int(prefix.rpartition("-")[2])
        self.calls.append(("save", step))
        for ending in (".index", ".data-00000-of-00001"):
            Path(prefix + ending).write_bytes(b"content")
        self.during_save(step)

    def begin(self, run):
        assert Path(run.folder, "params.json").exists()
        self.calls.append(("begin", run.folder))

    def train_step(self, step, summarize):
        self.calls.append(("step", step, summarize))
        if step + 1 in self.at:
            self.at[step + 1]()
        loss = self.losses.get(step + 1, 1 / (step + 1))
        summary = tf1.Summary(value=[tf1.Summary.Value(tag="loss", simple_value=loss)]).SerializeToString()
        return StepResult({"loss": loss, "other": 1.}, {"Loss": loss, "k": 0.123456789}, {"L": loss},
                          summary if summarize else None)

    def look(self, run, step, events):
        self.calls.append(("look", step))
        events.add(tf1.Summary(value=[tf1.Summary.Value(tag="look", simple_value=step)]), step)

    def done(self, what):
        """The steps of all calls of one kind."""
        return [call[1] for call in self.calls if call[0] == what]


@pytest.fixture
def run(tmp_path):
    return Run(Namespace(log_dir=str(tmp_path / "logs"), task="task", keep_every=1), ["a", "b"])


def rows(run):
    """The objects in a run's stats.jsonl."""
    return [json.loads(line) for line in Path(run.folder, "stats.jsonl").read_text().splitlines()]


def raise_signal(number):
    return lambda: os.kill(os.getpid(), number)


# What is due

def test_everything_is_done_when_it_is_due(run, caplog):
    caplog.set_level(logging.INFO)
    training = Training()
    run_steps(training, run, Due(first=0, last=10, log_step=2, checkpoint_step=3, look_step=4))
    assert training.calls[0] == ("begin", run.folder) and training.done("begin") == [run.folder]
    assert [call[1:] for call in training.calls if call[0] == "step"] == [(i, i % 2 == 1) for i in range(10)]
    assert training.done("save") == steps_saved(run.folder) == [3, 6, 9, 10]
    assert training.done("look") == [4, 8, 10]
    assert [row["step"] for row in rows(run)] == [2, 4, 6, 8, 10]
    scalars, _ = events(run.folder)
    assert set(scalars) == {("loss", step) for step in (2, 4, 6, 8, 10)} | {("look", step) for step in (4, 8, 10)}
    assert len([message for message in caplog.messages if message.startswith("[")]) == 5


def test_a_training_goes_on_after_the_steps_that_were_done(run):
    """Steps count from the very first one; the last is due for all but a log line."""
    training = Training()
    run_steps(training, run, Due(first=7, last=11, log_step=5, checkpoint_step=4, look_step=100))
    assert training.done("step") == [7, 8, 9, 10] and training.done("save") == [8, 11] and training.done("look") == [11]
    assert [row["step"] for row in rows(run)] == [10]


def test_a_checkpoint_is_there_before_a_look(run):
    training = Training()
    run_steps(training, run, Due(0, 2, log_step=9, checkpoint_step=1, look_step=1))
    assert [call[:2] for call in training.calls[1:]] == [
        ("step", 0), ("save", 1), ("look", 1), ("step", 1), ("save", 2), ("look", 2)]


def test_log_line_and_stats_have_the_same_numbers(run, caplog):
    caplog.set_level(logging.INFO)
    run_steps(Training(losses={3: 1 / 3}), run, Due(0, 3, log_step=3, checkpoint_step=9, look_step=9))
    row, = rows(run)
    assert row == {"step": 3, "seconds_per_step": row["seconds_per_step"], "Loss": .333333, "k": .123457}
    line, = [message for message in caplog.messages if message.startswith("[3/3]")]
    assert line == f"[3/3] {row['seconds_per_step']:6.3f} s/step  Loss: 0.3333      k: 0.1235"


# The line

@pytest.mark.parametrize("step, last, numbers, line", [
    (50, 200, {"seconds_per_step": .1234, "Loss_D": .5, "k_t": 0.},
     "[50/200]   0.123 s/step  Loss_D: 0.5         k_t: 0"),
    (200, 200, {"Loss_D": 1.23456789, "seconds_per_step": 12.5, "k_t": 1e-5},
     "[200/200] 12.500 s/step  Loss_D: 1.235       k_t: 1e-05"),
    (1, 1, {"seconds_per_step": 0}, "[1/1]  0.000 s/step")])
def test_status_line(step, last, numbers, line):
    assert status_line(step, last, numbers) == line


def test_status_lines_of_a_training_are_aligned():
    rng = np.random.default_rng(0)
    lines = [status_line(step, 248000, {"seconds_per_step": rng.uniform(0, 99), "Loss_D": loss * rng.uniform(.1, .9),
                                        "cycle": loss ** 2, "identity": 0, "k_t": rng.uniform()})
             for step in (1, 50, 999, 10000, 248000) for loss in (1e-9, 1e-3, 1., 1e3, 1e9, -.1, -1., -1e3, -1e-10)]
    for name in ("s/step", "Loss_D:", "cycle:", "identity:", "k_t:"):
        assert len({line.index(name) for line in lines}) == 1, lines
    assert all(line == line.rstrip() and "\n" not in line for line in lines)


# Signals

@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_the_training_when_the_step_is_saved(run, number):
    handlers = [signal.getsignal(each) for each in SIGNALS]
    training = Training(at={5: raise_signal(number)})
    with pytest.raises(Interrupted, match=r"^saved at step 5; go on with --load_path .") as stopped:
        run_steps(training, run, Due(0, 10, log_step=5, checkpoint_step=100, look_step=1))
    assert stopped.value.signal == number and str(stopped.value).endswith(run.folder)
    assert training.done("step") == [*range(5)] and training.done("save") == steps_saved(run.folder) == [5]
    assert training.done("look") == [1, 2, 3, 4]                    # no time for another
    assert [row["step"] for row in rows(run)] == [5]
    assert [signal.getsignal(each) for each in SIGNALS] == handlers


def test_a_signal_at_a_checkpoint_saves_once(run):
    training = Training(at={6: raise_signal(signal.SIGTERM)})
    with pytest.raises(Interrupted, match="saved at step 6"):
        run_steps(training, run, Due(0, 10, log_step=1, checkpoint_step=3, look_step=10))
    assert training.done("save") == [3, 6]


def test_a_signal_while_saving_ends_the_training_after_one_more_step(run):
    training = Training(during_save=lambda step: step == 3 and raise_signal(signal.SIGINT)())
    with pytest.raises(Interrupted, match="saved at step 4"):
        run_steps(training, run, Due(0, 10, log_step=1, checkpoint_step=3, look_step=10))
    assert training.done("save") == steps_saved(run.folder) == [3, 4]


# Ends that are not good

@pytest.mark.parametrize("loss", [np.nan, np.inf, -np.inf])
def test_a_loss_that_is_not_finite_ends_the_training(run, loss):
    training = Training(losses={5: loss})
    with pytest.raises(Diverged) as end:
        run_steps(training, run, Due(0, 10, log_step=1, checkpoint_step=2, look_step=1))
    assert str(end.value) == f"step 5: loss {loss}, other 1; last good checkpoint: {run.folder}/model.ckpt-4"
    assert steps_saved(run.folder) == [2, 4] and training.done("look") == [1, 2, 3, 4]
    assert [row["step"] for row in rows(run)] == [1, 2, 3, 4]


def test_weights_that_are_not_finite_are_not_saved(run):
    training = Training(finite=False)
    with pytest.raises(Diverged, match=r"^step 2: a weight is not finite; last good checkpoint: none$"):
        run_steps(training, run, Due(0, 10, log_step=1, checkpoint_step=2, look_step=1))
    assert training.done("save") == steps_saved(run.folder) == []


def test_a_full_disk_ends_the_training(run):
    def full(step):
        if step == 4:
            raise OSError(28, "No space left on device")

    training = Training(during_save=full)
    with pytest.raises(UserError, match=r"model.ckpt-4: can't write the checkpoint \(.*No space left on device\)"):
        run_steps(training, run, Due(0, 10, log_step=1, checkpoint_step=2, look_step=100))
    assert steps_saved(run.folder) == [2]


def test_images_that_are_gone_end_the_training_with_the_way_on(run):
    def gone():
        raise tf.errors.UnknownError(None, None, "BrokenImage: data/real: none of its 3 images can be decoded any more")

    def other():
        raise tf.errors.UnknownError(None, None, "something else")

    message = r"^step 3: BrokenImage: data/real: none .*; bring the images back and go on with --load_path (.*)$"
    due = Due(0, 10, log_step=1, checkpoint_step=1, look_step=100)
    with pytest.raises(UserError, match=message) as end:
        run_steps(Training(at={3: gone}), run, due)
    assert str(end.value).endswith(run.folder) and steps_saved(run.folder) == [1, 2]
    with pytest.raises(tf.errors.UnknownError, match="something else"):
        run_steps(Training(at={3: other}), run, due)


# Time

@pytest.fixture
def clock(monkeypatch):
    """A clock of the loop's own, which stands still: `clock.now` in seconds."""
    clock = SimpleNamespace(now=1000.)
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def test_a_stop_watch_measures_the_mean_step_since_it_was_asked_last(clock):
    watch = StopWatch(7)
    clock.now += 6
    assert watch.lap(10) == 2
    clock.now += 5
    assert watch.lap(11) == 5
    clock.now += 1
    assert watch.lap(11) == 1               # no step between


def test_a_stop_watch_leaves_pauses_out(clock):
    watch = StopWatch(0)
    clock.now += 4
    for _ in range(3):
        with watch.paused():
            clock.now += 100
    clock.now += 4
    assert watch.lap(4) == 2
    with watch.paused():
        clock.now += 50
    clock.now += 3
    assert watch.lap(5) == 3


def test_checkpoints_and_looks_are_no_part_of_a_steps_time(run, clock):
    def later(seconds):
        def wait(*_):
            clock.now += seconds
        return wait

    training = Training(at={step: later(2) for step in range(1, 7)}, during_save=later(100))
    training.look = later(1000)
    run_steps(training, run, Due(0, 6, log_step=2, checkpoint_step=1, look_step=3))
    assert [row["seconds_per_step"] for row in rows(run)] == [2, 2, 2]


def test_too_little_memory_is_said_in_one_line(run):
    with pytest.raises(UserError, match=r"step 3: not enough memory; take a smaller --batch_size"), \
            images_needed(run, 3):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
