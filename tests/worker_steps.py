"""Take three steps of several trainings, alone or as one of several workers, and keep what comes out of them."""
import json

import numpy as np
import tensorflow as tf

import preflight
import recognizer
from cli.options import parse
from config import get_config
from conftest import words
from engine.cluster.joining import join
from recognition import labelled_data
from recognition.training import ClassifierTrainer
from trainer import Trainer

STEPS = 3


def take(arguments):
    """Take the steps of the cases in a JSON file, and write the values of each to a file `<out><number>.npz`.

    `arguments` are the file, `out`, and more options for all cases. A case is [program, options].
    """
    path, out, *more = arguments
    with open(path) as file:
        cases = json.load(file)
    for number, (program, options) in enumerate(cases):
        values = {"main": of_generators, "recognizer": of_classifier}[program]([*words(**options), *more])
        np.savez(f"{out}{number}.npz", **values)


def of_generators(given):
    """Train the generators -> {name: array}: losses of each step, and all variables in the end."""
    config, _ = get_config(given)
    data = preflight.check(config).data
    with join(config, {"--dataset": data.photos}) as team:
        trainer = Trainer(config, team)
        trainer.build_model(data)
        trainer.set_values(drawn_values(trainer.weights))
        trainer.restart(0)
        losses = [trainer.train_step(step, summarize=False).losses for step in range(STEPS)]
        values = trainer.session.run(trainer.variables)
        trainer.close()
    return values | named(losses)


def of_classifier(given):
    """Train a classifier -> as `of_generators`."""
    options = parse(recognizer.COMMANDS[0], given).options
    faces = labelled_data.load(options)
    with join(options, {"--real": faces.real}) as team:
        trainer = ClassifierTrainer(options, faces, lambda step: 1e-3, team=team)
        variables = {each.op.name: each for each in trainer.graph.saved_variables}
        trained = {each.op.name: each for each in trainer.graph.trained}
        session, drawn = trainer.session, drawn_values(trained.values())
        session.run([each.initializer for each in trained.values()],
                    {trained[name].initializer.inputs[1]: value for name, value in drawn.items()})
        trainer.restart(0)
        results = [trainer.train_step(step, summarize=False) for step in range(STEPS)]
        values = session.run(variables)
        trainer.close()
    return values | named([result.losses | {"accuracy": result.numbers["accuracy"]} for result in results])


def drawn_values(variables):
    """First values of variables, which don't depend on the graph -> {name: array}."""
    return {each.op.name: np.random.default_rng(len(each.op.name)).normal(0, .1, each.shape).astype(np.float32)
            for each in variables}


def named(losses):
    """Name the losses of each step."""
    assert not tf.executing_eagerly()
    return {f"losses of step {step}/{name}": np.float32(value)
            for step, each in enumerate(losses, 1) for name, value in each.items()}
