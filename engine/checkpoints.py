"""Checkpoints: complete or not there at all, found again, and restored with raw or with averaged weights."""
import contextlib
import glob
import logging
import os

import tensorflow as tf

from engine.runs import list_checkpoints, step_of
from utils import atomic_write, UserError

tf1 = tf.compat.v1

NAME = "model.ckpt"
AVERAGE = "/ExponentialMovingAverage"
FILE_ERRORS = (tf.errors.OpError, OSError, IndexError, RuntimeError, ValueError)  # all that TensorFlow raises for a file


def save(session, saver, run_dir, step, keep=2, keep_every=0):
    """Write `model.ckpt-<step>` into `run_dir`, then remove all but the newest `keep` and multiples of `keep_every`.

    The index file gets its name last: a checkpoint whose index is there is complete. Raises UserError, leaving
    nothing under a final name, when the disk does not take it.
    """
    prefix = os.path.join(run_dir, f"{NAME}-{step}")
    temporary = os.path.join(run_dir, f".tmp-{NAME}-{step}")
    try:
        saver.save(session, temporary, write_meta_graph=False, write_state=False)
        parts = sorted(glob.glob(glob.escape(temporary) + ".*"))            # .data-... before .index
        for part in parts:
            with open(part, "rb+") as file:
                os.fsync(file.fileno())
        for part in parts:
            os.replace(part, prefix + part[len(temporary):])
    except FILE_ERRORS as error:
        unfinished = [] if os.path.exists(prefix + ".index") else glob.glob(glob.escape(prefix) + ".data-*")
        for part in glob.glob(glob.escape(temporary) + ".*") + unfinished:
            os.remove(part)
        raise UserError(f"{prefix}: can't write the checkpoint ({first_line(error)}); the older ones are untouched")
    _remove_old(run_dir, step, keep, keep_every)
    names = [os.path.basename(p) for p in reversed(list_checkpoints(run_dir))]
    lines = [f'model_checkpoint_path: "{NAME}-{step}"'] + [f'all_model_checkpoint_paths: "{name}"' for name in names]
    with contextlib.suppress(OSError), atomic_write(os.path.join(run_dir, "checkpoint")) as file:
        file.write("\n".join(lines).encode())                  # for TensorFlow's own tools; nothing here reads it
    return prefix


def _remove_old(run_dir, step, keep, keep_every):
    """Remove what `save` says, and data that a kill left without index. Later ones than `step`, which a resumed run
    could not read, do not count."""
    there = [prefix for prefix in list_checkpoints(run_dir) if step_of(prefix) <= step]
    old = {prefix for prefix in there[keep:] if not keep_every or step_of(prefix) % keep_every}
    parts = glob.glob(os.path.join(glob.escape(run_dir), f"{NAME}-*"))
    for part in sorted(parts, key=lambda part: not part.endswith(".index")):            # an index goes before its data
        prefix = os.path.splitext(part)[0]
        if prefix in old or not os.path.exists(prefix + ".index"):
            os.remove(part)


def read(prefix, names):
    """Values of the variables `names` (all of them if None) in a checkpoint, as {name: array}; absent ones are left out.

    Everything is read and its checksum verified before anything is returned. Raises one of FILE_ERRORS for a
    checkpoint that is not whole.
    """
    reader = tf1.train.load_checkpoint(prefix)
    there = reader.get_variable_to_shape_map()
    return {name: reader.get_tensor(name) for name in (there if names is None else names) if name in there}


def read_newest(path, names):
    """`read` from the newest whole checkpoint at `path` -> (prefix, values). Raises UserError when there is none."""
    for prefix in list_checkpoints(path):
        try:
            return prefix, read(prefix, names)
        except FILE_ERRORS as error:
            logging.warning("%s is not a whole checkpoint (%s): trying the one before", prefix, first_line(error))
    raise UserError(f"{path}: no checkpoint there; give a run directory or a prefix such as RUN/{NAME}-1000")


def names_to_read(variables):
    """The names under which a checkpoint may hold `variables` or, for an average, its variable."""
    names = [v.op.name for v in variables]
    return list(dict.fromkeys(names + [n[:-len(AVERAGE)] for n in names if n.endswith(AVERAGE)]
                              + [n + AVERAGE for n in names]))


def assign(session, variables, values, source, required=(), averages=False):
    """Give `variables` their `values` {name: array}; `source` names the checkpoint in messages.

    With `averages`, a variable takes its moving average where there is one; an average that is absent takes its
    variable's value. A variable that is absent or of another shape raises UserError if its name is in `required`, and
    keeps its initial value, with a notice, if not. Returns the names that were not found.
    """
    loaded, missing, wrong = {}, [], {}
    for variable in variables:
        name = variable.op.name
        value = values.get(name)
        if averages and name + AVERAGE in values:
            value = values[name + AVERAGE]
        elif value is None and name.endswith(AVERAGE):
            value = values.get(name[:-len(AVERAGE)])
        if value is None:
            missing.append(name)
        elif list(value.shape) != variable.shape.as_list():
            wrong[name] = f"{name} is {list(value.shape)} there, {variable.shape.as_list()} here"
            missing.append(name)
        else:
            loaded[variable] = value
    needed = [wrong.get(name, f"{name} is not there") for name in missing if name in required]
    if needed:
        more = f" (and {len(needed) - 1} more)" if len(needed) > 1 else ""
        raise UserError(f"{source}: {needed[0]}{more}; give the options that its networks were trained with")
    if missing:
        shown = ", ".join(list(wrong.values())[:2] or missing[:3])
        logging.warning("%s: %d variables start anew: %s%s", source, len(missing), shown,
                        "" if len(missing) <= 3 else ", ...")
    session.run([v.initializer for v in loaded], {v.initializer.inputs[1]: value for v, value in loaded.items()})
    return missing


def first_line(error):
    """What an exception says, on one line of bearable length; of a failed graph, what its operation said."""
    text = str(getattr(error, "message", None) or error).strip() or type(error).__name__
    text = text.rpartition("\nNode: ")[2].partition("\n")[2].strip() or text
    return text.splitlines()[0][:160]


def average_of(variable):
    """The variable that holds the moving average of `variable`, under the name that TF's own class gives it.

    That class, `tf.train.ExponentialMovingAverage`, makes a function graph of each initial value: seconds of start-up.
    """
    name = variable.op.name + "/ExponentialMovingAverage"
    start = tf.identity(variable.initial_value)         # a tensor of its own: `checkpoints.assign` feeds it
    return tf1.get_variable(name, initializer=start, trainable=False, use_resource=True)
