"""What a checkpoint gives to the variables of a graph: raw or averaged weights, and what is absent or does not fit."""
import logging
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest
import tensorflow as tf

from engine.checkpoints import assign, AVERAGE, names_to_read
from utils import UserError

tf1 = tf.compat.v1
tf1.disable_eager_execution()
SHAPES = {"net/w": [4, 5], "net/w/Adam": [4, 5], "net/w/Adam_1": [4, 5], "net/w" + AVERAGE: [4, 5],
          "net/b": [3], "net/b" + AVERAGE: [3], "step": []}
BEFORE = {name: np.full(shape, 1, np.float32) for name, shape in SHAPES.items()}
FITS = {name: np.full(shape, 7 + i, np.float32) for i, (name, shape) in enumerate(SHAPES.items())}
WRONG = {"net/w": np.zeros([4, 6])}


class Model:
    """A session with the variables of SHAPES, whose initial values are BEFORE."""

    def __init__(self):
        with tf.Graph().as_default() as graph:
            self.variables = [tf1.get_variable(name, initializer=value, use_resource=True)
                              for name, value in BEFORE.items()]
            self.reset = tf1.global_variables_initializer()
            self.session = tf1.Session(graph=graph)

    @property
    def values(self):
        return dict(zip(SHAPES, self.session.run(self.variables)))

    def assign(self, values, **options):
        """The names that `checkpoints.assign` did not find."""
        self.session.run(self.reset)
        return assign(self.session, self.variables, values, "RUN", **options)


@pytest.fixture(scope="module")
def model():
    model = Model()
    yield model
    model.session.close()


def same(values, wanted):
    return values.keys() == wanted.keys() and all(np.array_equal(values[name], wanted[name]) for name in wanted)


def test_raw_weights_and_all_the_rest(model):
    assert model.assign(FITS, required=list(SHAPES)) == [] and same(model.values, FITS)


def test_averaged_weights(model):
    assert model.assign(FITS, averages=True) == []
    assert same(model.values, {**FITS, "net/w": FITS["net/w" + AVERAGE], "net/b": FITS["net/b" + AVERAGE]})


@pytest.mark.parametrize("name", ["net/w", "net/w" + AVERAGE])
def test_names_to_read_are_of_the_variable_and_its_average(model, name):
    names = names_to_read([v for v in model.variables if v.op.name == name])
    assert {"net/w", "net/w" + AVERAGE} <= set(names) and len(names) == len(set(names))


@pytest.mark.parametrize("left_out, change, required, message", [
    ([], WRONG, list(SHAPES), r"^RUN: net/w is \[4, 6\] there, \[4, 5\] here; give the options"),
    ([], {**WRONG, "net/b": np.zeros([4])}, list(SHAPES), r"^RUN: net/w is .* here \(and 1 more\); give the options"),
    (["net/b", "net/b" + AVERAGE], WRONG, ["net/b", "net/b" + AVERAGE], r"^RUN: net/b is not there \(and 1 more\); give the options")])
def test_what_is_required_and_does_not_fit_is_an_error(model, left_out, change, required, message):
    values = {name: value for name, value in {**FITS, **change}.items() if name not in left_out}
    with pytest.raises(UserError, match=message):
        model.assign(values, required=required)
    assert same(model.values, BEFORE)


@pytest.mark.parametrize("left_out, change, anew, message", [
    (["net/w/Adam", "net/w/Adam_1"], {}, ["net/w/Adam", "net/w/Adam_1"],
     "2 variables start anew: net/w/Adam, net/w/Adam_1"),
    ([], WRONG, ["net/w"], "1 variables start anew: net/w is [4, 6] there, [4, 5] here"),
    (["net/w" + AVERAGE], {}, [], None)])
def test_what_is_not_required_starts_anew_with_a_notice(model, caplog, left_out, change, anew, message):
    """But an absent average takes its variable's value."""
    values = {name: value for name, value in {**FITS, **change}.items() if name not in left_out}
    assert model.assign(values, required=["net/b", "step"]) == anew
    assert [(r.levelno, r.getMessage()) for r in caplog.records] == (
        [(logging.WARNING, f"RUN: {message}")] if message else [])
    wanted = {name: BEFORE[name] if name in anew else values.get(name, FITS["net/w"]) for name in SHAPES}
    assert same(model.values, wanted)
