"""Write the similarities of pairs for PyEER, in two text files: a number a line, of genuine pairs and of impostors."""
import os

import numpy as np

import utils

KINDS = "genuine", "impostor"


def files_of(name=""):
    """Name the two files of one set of pairs, whose `name` goes before; "" for the only one."""
    return [f"{name}_{kind}.txt" if name else f"{kind}.txt" for kind in KINDS]


def write(folder, distances, same, metric, name=""):
    """Write the similarities of pairs with these `distances` [n] into `folder`, those that are `same` [n] first.

    A similarity is minus the squared distance where `metric` is 0, and the cosine of the angle where it is 1.
    """
    similarities = np.cos(np.pi * distances) if metric else -distances
    for file_name, chosen in zip(files_of(name), (same, ~same)):
        with utils.atomic_write(os.path.join(folder, file_name)) as file:
            file.write("".join(f"{value:.9g}\n" for value in similarities[chosen]).encode())
