"""engine/loop: what is due after each step, a status line, a good end on a signal, divergence, the time of a step."""
import json
import logging
import os
import re
import signal
import time
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from conftest import events, steps_saved
from engine import loop
from engine.cluster.team import ALONE
from engine.loop import Due, run_steps, status_line, StepResult, StopWatch
from engine.runs import Run
from engine.session import needs_met
from utils import Diverged, Interrupted, reason_of, SIGNALS, UserError

tf1 = tf.compat.v1


class Training:
    """What `run_steps` needs, without a network. It notes what it was asked for as `calls`.

    `at` {step, from 1: function} are called within a step; `during_save` whenever it saves. `readable` are the counts
    of images that can be read, one for each time it is asked; the last one is repeated.
    """

    all_finite, team = "all finite", ALONE

    def __init__(self, at=(), losses=None, finite=True, during_save=lambda step: None):
        self.at, self.losses, self.finite, self.during_save = dict(at), losses or {}, finite, during_save
        self.calls, self.saver, self.readable = [], self, [5]
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

    def restart(self, step):
        self.calls.append(("restart", step))

    def count_readable(self):
        self.calls.append(("count", self.readable[0]))
        return self.readable.pop(0) if len(self.readable) > 1 else self.readable[0]

    def done(self, what):
        """The steps of all calls of one kind."""
        return [call[1] for call in self.calls if call[0] == what]


@pytest.fixture
def run(tmp_path):
    return Run(Namespace(log_dir=str(tmp_path / "logs"), task="task", keep_every=1), ["a", "b"])


@pytest.fixture
def clock(monkeypatch):
    """A clock of the loop's own, which stands still but for sleep: `clock.now` in seconds."""
    def sleep(seconds):
        clock.now += seconds

    clock = SimpleNamespace(now=1000.)
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: clock.now, sleep=sleep))
    return clock


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


def test_a_signal_while_saving_ends_the_training_at_that_step(run):
    training = Training(during_save=lambda step: step == 3 and raise_signal(signal.SIGINT)())
    with pytest.raises(Interrupted, match="saved at step 3"):
        run_steps(training, run, Due(0, 10, log_step=1, checkpoint_step=3, look_step=3))
    assert training.done("save") == steps_saved(run.folder) == [3] and not training.done("look")


@pytest.mark.parametrize("checkpoint_step, saves", [(2, [2, 4]), (100, [4])])
@pytest.mark.parametrize("last", [4, 10])
def test_a_signal_cuts_a_look_short_and_ends_the_training_at_that_step(run, checkpoint_step, saves, last):
    """Whatever catches an exception there."""
    training, rest = Training(), []

    def look(run, step, events):
        training.calls.append(("look", step))
        try:
            raise_signal(signal.SIGTERM)()
        except Exception:
            rest.append("caught")
        rest.append("not cut short")

    training.look = look
    with pytest.raises(Interrupted, match="saved at step 4"):
        run_steps(training, run, Due(0, last, log_step=1, checkpoint_step=checkpoint_step, look_step=4))
    assert training.done("save") == saves and training.done("step") == [0, 1, 2, 3]
    assert training.done("look") == [4] and not rest


def test_a_signal_that_cannot_be_saved_ends_the_training_with_a_line(run):
    training = Training(at={3: raise_signal(signal.SIGINT)}, during_save=full_at(3))
    with pytest.raises(UserError, match=r"model.ckpt-3: can't write the checkpoint \(.*No space left on device\)"):
        run_steps(training, run, Due(0, 10, log_step=1, checkpoint_step=2, look_step=100))
    assert steps_saved(run.folder) == [2]


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


# A full disk

def full_at(*steps):
    """A function for `during_save`: there is no room for a checkpoint of these steps."""
    def full(step):
        if step in steps:
            raise OSError(28, "No space left on device")

    return full


FULL = r"model.ckpt-{}: can't write the checkpoint \(.*No space left on device\)"
OLDER = "; the older ones are untouched"


def test_a_full_disk_at_a_checkpoint_is_a_warning(run, caplog):
    training = Training(during_save=full_at(4))
    run_steps(training, run, Due(0, 10, log_step=1, checkpoint_step=2, look_step=5))
    assert training.done("save") == [2, 4, 6, 8, 10] and steps_saved(run.folder) == [2, 6, 8, 10]
    assert training.done("look") == [5, 10] and training.done("step") == [*range(10)]
    warning, = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    told = FULL.format(4) + OLDER + "; the training goes on, and tries again later$"
    assert re.search(told, warning) and "\n" not in warning


def test_a_full_disk_after_the_last_step_ends_the_training(run):
    told = FULL.format(10) + OLDER + "; saved at step 4; make room and go on with --load_path"
    with pytest.raises(UserError, match=told):
        run_steps(Training(during_save=full_at(6, 8, 10)), run, Due(0, 10, 1, checkpoint_step=2, look_step=100))
    assert steps_saved(run.folder) == [2, 4]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device", ".tmp-1", None, None),
                                   UserError("x.jpg: can't be decoded")])
@pytest.mark.parametrize("what", ["begin", "look"])
def test_a_training_goes_on_where_nothing_can_be_drawn(run, caplog, what, error):
    def draw(*arguments):
        raise error

    training = Training()
    setattr(training, what, draw)
    run_steps(training, run, Due(0, 4, log_step=1, checkpoint_step=2, look_step=4))
    assert steps_saved(run.folder) == [2, 4]
    warning, = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert f"nothing is drawn ({reason_of(error)}); the training goes on" in warning and "Errno" not in warning


@pytest.mark.parametrize("what", ["events", "stats"])
def test_a_training_goes_on_without_events_or_stats(run, monkeypatch, caplog, what):
    """A write that fails, as on a full disk, is one warning."""
    really_write = os.write

    def write(file, *arguments):
        if what == "events" or file == run._stats._file:
            raise OSError(28, "No space left on device")
        return really_write(file, *arguments)

    if what == "events":
        monkeypatch.setattr("engine.session.tf1.summary.FileWriter.add_summary", write)
    else:
        monkeypatch.setattr("engine.runs.os.write", write)
    run_steps(Training(), run, Due(0, 4, log_step=1, checkpoint_step=2, look_step=100))
    assert steps_saved(run.folder) == [2, 4]
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1


# Images that are gone

GONE = "data/real: none of its 3 images can be read any more (7.jpg: Stale file handle)"


def gone_times(times):
    """A function for `at`: images can't be read the first few times."""
    left = [times]

    def gone():
        left[0] -= 1
        if left[0] >= 0:
            raise tf.errors.UnknownError(None, None, f"NoImageLeft: {GONE}\nTraceback (most recent call last):\n ...")

    return gone


NO_WAIT = Due(0, 10, log_step=1, checkpoint_step=100, look_step=100)


@pytest.mark.parametrize("first, at, saved, words", [
    (0, 3, [2], "saved at step 2"), (5, 8, [7], "saved at step 7"), (5, 6, [], "saved at step 5"),
    (0, 1, [], "no step is saved yet")])
def test_images_that_are_gone_end_the_training_when_it_is_saved(run, caplog, first, at, saved, words):
    with pytest.raises(UserError) as end:
        run_steps(Training(at={at: gone_times(99)}), run, NO_WAIT._replace(first=first))
    assert str(end.value) == (f"step {at}: {GONE}; {words}; bring the images back and go on with --load_path "
                              f"{run.folder}")
    assert steps_saved(run.folder) == saved
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_other_errors_of_tensorflow_are_not_hidden(run):
    def other():
        raise tf.errors.UnknownError(None, None, "something else")

    with pytest.raises(tf.errors.UnknownError, match="something else"):
        run_steps(Training(at={3: other}), run, NO_WAIT)


@pytest.mark.parametrize("times, readable, waited", [
    (1, [0, 0, 4, 9, 9], 4),            # away, then coming back file by file
    (1, [9, 9], 1),                     # back before anybody looked
    (1, [0, 5, 0, 0, 5, 5], 5),
    (3, [9] * 6, 3)])                   # there, but not to be decoded for a while
def test_a_training_waits_for_images_and_does_the_same_steps(run, clock, caplog, times, readable, waited):
    caplog.set_level(logging.INFO)
    training = Training(at={4: gone_times(times)})
    training.readable, counts = list(readable), readable
    run_steps(training, run, NO_WAIT._replace(patience=60))
    assert training.done("step") == [0, 1, 2, *[3] * (times + 1), *range(4, 10)]
    assert training.done("restart") == [3] * times and training.done("count") == counts
    assert training.done("save") == steps_saved(run.folder) == [3, 10]
    assert training.calls.index(("save", 3)) < training.calls.index(("count", counts[0]))
    lines = [message for message in caplog.messages if message.startswith("step 4")]
    assert lines == [f"step 4: {GONE}; saved at step 3; waiting up to 60 s for them",
                     f"step 4: the images are back after {waited} s"]
    assert [row["seconds_per_step"] for row in rows(run)] == [0] * 10


@pytest.mark.parametrize("readable, times", [([0], 1), ([3, 4] * 99, 1), ([5], 999)])
def test_patience_ends(run, clock, caplog, readable, times):
    training = Training(at={4: gone_times(times)})
    training.readable = readable
    start = clock.now
    with pytest.raises(UserError, match=r"^step 4: .*; saved at step 3; bring the images back and go on with --load"):
        run_steps(training, run, NO_WAIT._replace(patience=20))
    assert 20 <= clock.now - start < 23 and steps_saved(run.folder) == [3]
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_the_waiting(run, number):
    training = Training(at={4: gone_times(99)})
    training.readable, start = [0], time.monotonic()
    training.count_readable = lambda: raise_signal(number)() or 0
    with pytest.raises(Interrupted, match=r"^saved at step 3; go on with --load_path .") as end:
        run_steps(training, run, NO_WAIT._replace(patience=60))
    assert end.value.signal == number and time.monotonic() - start < 1 and steps_saved(run.folder) == [3]


def test_a_full_disk_while_waiting_is_a_warning_and_in_the_end_an_error(run, clock, caplog):
    training = Training(at={4: gone_times(1)}, during_save=full_at(3))
    run_steps(training, run, NO_WAIT._replace(patience=60))
    assert steps_saved(run.folder) == [10] and re.search(FULL.format(3), caplog.text)
    training = Training(at={4: gone_times(99)}, during_save=full_at(3))
    with pytest.raises(UserError, match=FULL.format(3)):
        run_steps(training, run, NO_WAIT)


# Checkpoints by the clock

@pytest.mark.parametrize("minutes, seconds, checkpoint_step, saves", [
    (0, 50, 100, [10]), (1, 50, 100, [2, 4, 6, 8, 10]), (1, 70, 100, [*range(1, 11)]), (10, 50, 100, [10]),
    (2, 50, 4, [3, 4, 7, 8, 10]), (1.5, 50, 5, [2, 4, 5, 7, 9, 10])])
def test_a_checkpoint_is_due_when_minutes_have_passed(run, clock, minutes, seconds, checkpoint_step, saves):
    def later():
        clock.now += seconds

    training = Training(at=dict.fromkeys(range(1, 11), later))
    run_steps(training, run, Due(0, 10, 1, checkpoint_step, look_step=100, checkpoint_minutes=minutes))
    assert training.done("save") == steps_saved(run.folder) == saves


def test_a_checkpoint_that_failed_is_tried_again_after_as_many_minutes(run, clock):
    def later():
        clock.now += 50

    training = Training(at=dict.fromkeys(range(1, 11), later), during_save=full_at(2, 4))
    run_steps(training, run, NO_WAIT._replace(checkpoint_minutes=1))
    assert training.done("save") == [2, 4, 6, 8, 10]


# The end

@pytest.mark.parametrize("seconds, words", [(.1, "1 seconds"), (10, "100 seconds"), (60, "10 minutes"),
                                            (3000, "8.33 hours")])
def test_a_training_ends_with_a_summary(run, clock, caplog, seconds, words):
    def later():
        clock.now += seconds

    caplog.set_level(logging.INFO)
    run_steps(Training(at=dict.fromkeys(range(3, 13), later)), run, NO_WAIT._replace(first=2, last=12))
    assert caplog.messages[-2:] == [
        f"done: 12 steps, 10 of them now, in {words}; the last one: Loss 0.08333, k 0.1235",
        f"the run: {run.folder}"]


# Time

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
            needs_met(3):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
