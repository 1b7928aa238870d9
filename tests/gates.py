"""ReLU gates that rounding leaves undecided, and which of them the original's CPU had the other way round.

A unit whose input is 0 up to rounding may pass the gradient on one CPU and stop it on another: a few of the millions of
units of a golden case do, and one alone moves a gradient's sum by 1e-2 of its norm. Here they are listed, each is tried
the other way round, and those whose effect explains the difference to the golden gradients are kept: about a hundred
yes-or-no unknowns against some hundred norms and sums, so that an error of the graph itself can't hide behind them.
"""
import numpy as np

UNDECIDED = {"G": 3e-5, "G_inv": 1e-5, "identity": 1e-5}        # of the layer's root mean square, by scope
OPTIMIZERS = ("G", "G_inv")         # the discriminators have no ReLU
TOUCHED = {"G": ("G",), "G_inv": OPTIMIZERS, "identity": ("G",)}        # whose gradients a scope's gates are in


def gradient_numbers(trainer, feed, golden, touched=OPTIMIZERS):
    """What the goldens tell of the generators' gradients, as computed with `feed`: norms and sums, over the norms.

    Those of optimizers that are not in `touched` are left at 0.
    """
    numbers = []
    values = trainer.session.run({name: [g for g, _ in trainer.training.gradients[name]] for name in touched}, feed)
    for name in OPTIMIZERS:
        if name not in touched:
            numbers.append(np.zeros(2 * len(golden[f"grad/{name}/l2"])))
            continue
        by_name = {v.op.name: value.astype(np.float64)
                   for value, (_, v) in zip(values[name], trainer.training.gradients[name])}
        listed, norms = golden[f"grad/{name}/names"], golden[f"grad/{name}/l2"]
        scale = np.where(norms > 0, norms, 1)
        numbers += [[np.linalg.norm(by_name[n]) for n in listed] / scale, [by_name[n].sum() for n in listed] / scale]
    return np.concatenate(numbers)


def golden_numbers(golden):
    """`gradient_numbers` of the original."""
    numbers = []
    for name in OPTIMIZERS:
        norms = golden[f"grad/{name}/l2"]
        scale = np.where(norms > 0, norms, 1)
        numbers += [norms / scale, golden[f"grad/{name}/sum"] / scale]
    return np.concatenate(numbers)


def scope_of(op):
    """The network that an operation is part of."""
    return op.name.split("/")[0]


def undecided_gates(trainer, feed):
    """The gates within rounding of 0: (list of (ReLU's output tensor, index), {tensor: its value})."""
    relus = [op for op in trainer.session.graph.get_operations() if op.type == "Relu" and scope_of(op) in UNDECIDED]
    gates, outputs = [], {}
    for op, before in zip(relus, trainer.session.run([op.inputs[0] for op in relus], feed)):
        near = np.abs(before) < UNDECIDED[scope_of(op)] * np.sqrt(np.mean(np.square(before, dtype=np.float64)))
        gates += [(op.outputs[0], tuple(index)) for index in np.argwhere(near)]
        if near.any():
            outputs[op.outputs[0]] = np.maximum(before, 0)
    return gates, outputs


def flipped(gates, outputs):
    """Values to feed so that each of `gates` is the other way round: {tensor: array}."""
    fed = {}
    for tensor, index in gates:
        array = fed.setdefault(tensor, outputs[tensor].copy())
        array[index] = 0 if array[index] > 0 else 1e-30
    return fed


def effect(trainer, feed, golden, touched, start):
    """What `feed` changes in `gradient_numbers`, which were `start`; 0 for optimizers that are not in `touched`."""
    numbers = gradient_numbers(trainer, feed, golden, touched)
    return np.where(numbers == 0, 0, numbers - start)


def resolve(trainer, feed, golden):
    """(values to feed, how many were flipped of how many undecided) that bring the gradients nearest to the golden."""
    gates, outputs = undecided_gates(trainer, feed)
    start = gradient_numbers(trainer, feed, golden)
    effects = [effect(trainer, {**feed, **flipped([gate], outputs)}, golden, TOUCHED[scope_of(gate[0].op)], start)
               for gate in gates]
    rest, chosen = golden_numbers(golden) - start, []
    while gates:                # turn the gate that helps most, to and fro, until none helps
        turns = [-each if i in chosen else each for i, each in enumerate(effects)]
        gain, best = max((np.sum(rest ** 2) - np.sum((rest - turn) ** 2), i) for i, turn in enumerate(turns))
        if gain <= 1e-12:
            break
        rest = rest - turns[best]
        chosen.remove(best) if best in chosen else chosen.append(best)
    return flipped([gates[i] for i in chosen], outputs), len(chosen), len(gates)
