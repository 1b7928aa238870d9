"""engine/checkpoints: what one gives to a graph's variables, raw or averaged weights; what is absent or doesn't fit."""
import logging

import numpy as np
import pytest
import tensorflow as tf

from engine.checkpoints import assign, AVERAGE, average_of, names_to_read, set_values
from utils import UserError

tf1 = tf.compat.v1
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
    (["net/b", "net/b" + AVERAGE], WRONG, ["net/b", "net/b" + AVERAGE],
     r"^RUN: net/b is not there \(and 1 more\); give the options")])
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


# Values for single variables

def test_set_values_gives_arrays_to_variables_and_leaves_the_graph_as_it_is(model):
    model.session.run(model.reset)
    operations = len(model.session.graph.get_operations())
    w, step = (next(v for v in model.variables if v.op.name == name) for name in ("net/w", "step"))
    for number in (3., 4.):
        set_values(model.session, {w: np.full([4, 5], number), step: number})
        assert same(model.values, {**BEFORE, "net/w": np.full([4, 5], number), "step": np.array(number)})
    assert len(model.session.graph.get_operations()) == operations
    with pytest.raises(ValueError, match="shape"):
        set_values(model.session, {w: np.zeros([5, 4])})
    set_values(model.session, {})


def test_average_of_starts_as_its_variable_under_tensorflows_name():
    with tf.Graph().as_default(), tf1.Session() as session:
        tf1.set_random_seed(1)
        with tf1.variable_scope("net"):
            variable = tf1.get_variable("w", [4, 5], use_resource=True)
        theirs = tf1.train.ExponentialMovingAverage(.9).average_name(variable)
        average = average_of(variable)
        assert average.op.name == theirs == "net/w" + AVERAGE
        assert average not in tf1.trainable_variables() and average in tf1.global_variables()
        session.run(tf1.global_variables_initializer())
        first = session.run(variable)
        assert np.array_equal(session.run(average), first) and first.std() > 0
        set_values(session, {average: np.ones([4, 5])})         # of the average alone
        assert np.array_equal(session.run(variable), first) and (session.run(average) == 1).all()
