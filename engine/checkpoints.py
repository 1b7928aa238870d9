"""Checkpoints: written whole or not at all, read, and assigned to variables, with raw or with averaged weights."""
import contextlib
import glob
import logging
import os
import re
import shutil
import tempfile

import numpy as np
import tensorflow as tf

from engine.checkpoint_index import check_whole
from engine.runs import list_checkpoints, step_of
from utils import atomic_write, TEMPORARY, UserError

tf1 = tf.compat.v1

NAME = "model.ckpt"
AVERAGE = "/ExponentialMovingAverage"       # ends the name of a variable's moving average
FILE_ERRORS = (tf.errors.OpError, OSError, IndexError, RuntimeError, ValueError)    # what TensorFlow raises for a file


def save(session, saver, run_dir, step, keep=2, keep_every=0):
    """Write `<run_dir>/model.ckpt-<step>`, and remove checkpoints that are not needed -> the prefix.

    The newest `keep` checkpoints are kept, and those whose step is a multiple of `keep_every` (0: no others). Where the
    disk is full, the oldest one goes before, and not after, this one is written, if that makes enough room.
    The index file gets its name last: a checkpoint whose index is there is whole.
    Raises UserError, and leaves nothing of the checkpoint, when it can't be written.
    """
    prefix = os.path.join(run_dir, f"{NAME}-{step}")
    try:
        try:
            _write(session, saver, prefix)
        except FILE_ERRORS:
            spare = _spare(run_dir, step, keep, keep_every)
            if not spare:
                raise
            logging.warning("%s: no room for it; the older checkpoint %s makes way", prefix, os.path.basename(spare))
            for path in _files_of(spare):
                os.remove(path)
            _write(session, saver, prefix)
    except FILE_ERRORS as error:
        reason = re.sub(r"\.tempstate\d+", "", first_line(error)).replace(f"{TEMPORARY}{NAME}", NAME)
        older = "; the older ones are untouched" if list_checkpoints(run_dir) else ""
        raise UserError(f"{prefix}: can't write the checkpoint ({reason}){older}") from error
    _remove_old(run_dir, step, keep, keep_every)
    names = [os.path.basename(found) for found in reversed(list_checkpoints(run_dir))]
    lines = [f'model_checkpoint_path: "{NAME}-{step}"'] + [f'all_model_checkpoint_paths: "{name}"' for name in names]
    with contextlib.suppress(OSError), atomic_write(os.path.join(run_dir, "checkpoint")) as file:
        file.write("\n".join(lines).encode())                  # for TensorFlow's own tools; nothing here reads it
    return prefix


def _write(session, saver, prefix):
    """Write the checkpoint `prefix`, or raise one of FILE_ERRORS and leave nothing of it."""
    run_dir, name = os.path.split(prefix)
    temporary = os.path.join(run_dir, TEMPORARY + name)
    try:
        saver.save(session, temporary, write_meta_graph=False, write_state=False)
        written = sorted(glob.glob(glob.escape(temporary) + ".*"))          # .data-... before .index
        for path in written:
            with open(path, "rb+") as file:
                os.fsync(file.fileno())
        for path in written:
            os.replace(path, prefix + path[len(temporary):])
    except FILE_ERRORS:
        unfinished = [] if os.path.exists(prefix + ".index") else glob.glob(glob.escape(prefix) + ".data-*")
        for path in glob.glob(glob.escape(temporary) + ".*") + unfinished:
            os.remove(path)
        raise


def _spare(run_dir, step, keep, keep_every):
    """Find a checkpoint that would be removed after `step` is saved, and whose room `step` needs -> its prefix or None.

    There has to be a newer one, which is whole and as large as the one of `step`.
    """
    there = [prefix for prefix in list_checkpoints(run_dir) if step_of(prefix) < step]
    old = [prefix for prefix in there[max(keep - 1, 1):] if not keep_every or step_of(prefix) % keep_every]
    if not old or check_whole(there[0]):
        return None
    needed, more = (sum(map(os.path.getsize, _files_of(prefix))) for prefix in (there[0], old[-1]))
    free = shutil.disk_usage(run_dir).free
    return old[-1] if free < needed <= free + more else None


def _files_of(prefix):
    """List the paths of the files of a checkpoint, the index first."""
    return sorted(glob.glob(glob.escape(prefix) + ".*"), key=lambda path: not path.endswith(".index"))


def _remove_old(run_dir, step, keep, keep_every):
    """Remove the checkpoints that `save` does not keep after `step`, and data files without an index.

    A kill can leave data without an index. A checkpoint of a later step is not whole, or a resumed run would have begun
    there: it is neither removed nor counted among the newest `keep`.
    """
    there = [prefix for prefix in list_checkpoints(run_dir) if step_of(prefix) <= step]
    old = {prefix for prefix in there[keep:] if not keep_every or step_of(prefix) % keep_every}
    paths = glob.glob(os.path.join(glob.escape(run_dir), f"{NAME}-*"))
    for path in sorted(paths, key=lambda path: not path.endswith(".index")):            # an index goes before its data
        prefix = os.path.splitext(path)[0]
        if prefix in old or not os.path.exists(prefix + ".index"):
            os.remove(path)


def read(prefix, names):
    """Read the variables `names`, or all if None, of the checkpoint `prefix` -> {name: array}.

    Names that the checkpoint lacks are left out. Checksums are verified. Numbers of 16 bits become float32.
    Raises one of FILE_ERRORS for a checkpoint that is not whole.
    """
    with _without_wildcards(prefix) as plain:
        reader = tf1.train.load_checkpoint(plain)
        there = reader.get_variable_to_shape_map()
        values = {name: reader.get_tensor(name) for name in (there if names is None else names) if name in there}
    return {name: value.astype(np.float32) if value.dtype == np.float16 else value for name, value in values.items()}


@contextlib.contextmanager
def _without_wildcards(prefix):
    """Give a path of a checkpoint's files that has no [, ], * or ?, which TensorFlow takes for wildcards.

    Nor has it bytes that are not UTF-8, which TensorFlow can't read.
    """
    if not any(letter in "[]*?" or "\ud800" <= letter <= "\udfff" for letter in prefix):
        yield prefix
        return
    with tempfile.TemporaryDirectory() as folder:
        for path in glob.glob(glob.escape(os.path.abspath(prefix)) + "*"):
            os.symlink(path, os.path.join(folder, NAME + path[len(os.path.abspath(prefix)):]))
        yield os.path.join(folder, NAME)


def read_newest(path, names):
    """Read the variables `names` of the newest whole checkpoint at `path` -> (its prefix, {name: array}).

    Raises UserError when no checkpoint there is whole.
    """
    for prefix in list_checkpoints(path):
        try:
            return prefix, read(prefix, names)
        except FILE_ERRORS as error:
            logging.warning("%s is not a whole checkpoint (%s): trying the one before", prefix, first_line(error))
    raise UserError(f"{path}: no checkpoint there; give a run directory or a prefix such as RUN/{NAME}-1000")


def names_of(variables):
    """Collect the names of `variables` -> a set."""
    return {variable.op.name for variable in variables}


def names_to_read(variables):
    """List the names of all that `assign` may look for in a checkpoint to give `variables` their values."""
    names = [variable.op.name for variable in variables]
    averaged = [name.removesuffix(AVERAGE) for name in names if name.endswith(AVERAGE)]
    return list(dict.fromkeys(names + averaged + [name + AVERAGE for name in names]))


def assign(session, variables, values, source, required=(), averages=False):
    """Give `variables` their `values` {name: array} from a checkpoint -> the names that found no value.

    With `averages`, the value of a variable is that of its moving average, where the checkpoint has one. The value of a
    moving average that the checkpoint lacks is that of the averaged variable.
    A variable without a value of its shape raises UserError if its name is in `required`. Any other one keeps its
    present value, with a warning. A value that is not finite raises UserError. `source` names the checkpoint in
    messages.
    """
    loaded, missing, wrong = {}, [], {}
    for variable in variables:
        name = variable.op.name
        value = values.get(name)
        if averages and name + AVERAGE in values:
            value = values[name + AVERAGE]
        elif value is None and name.endswith(AVERAGE):
            value = values.get(name.removesuffix(AVERAGE))
        if value is None:
            missing.append(name)
        elif list(value.shape) != variable.shape.as_list():
            wrong[name] = f"{name} is {list(value.shape)} there, {variable.shape.as_list()} here"
            missing.append(name)
        elif variable.dtype.is_floating and not np.isfinite(value).all():
            raise UserError(f"{source}: {name} holds NaN or infinity; name another checkpoint")
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
    set_values(session, loaded)
    return missing


def set_values(session, values):
    """Give variables the arrays of {variable: array}, without a new operation in the graph.

    Each variable's initializer is run, and its initial value, which is the initializer's second input, is fed.
    """
    session.run([variable.initializer for variable in values],
                {variable.initializer.inputs[1]: value for variable, value in values.items()})


def first_line(error):
    """Shorten the message of an exception to one line of at most 160 characters.

    For a failed graph, that is the message of the operation that failed.
    """
    text = str(getattr(error, "message", None) or error).strip() or type(error).__name__
    text = text.rpartition("\nNode: ")[2].partition("\n")[2].strip() or text
    return text.splitlines()[0][:160]


def average_of(variable):
    """Make a variable for the moving average of `variable`. Both begin with the same value.

    Its name is that which `tf.train.ExponentialMovingAverage` would give. That class is not used, since it makes a
    function graph of each initial value, which needs seconds.
    """
    start = tf.identity(variable.initial_value)         # a tensor of its own, for `set_values` to feed
    return tf1.get_variable(variable.op.name + AVERAGE, initializer=start, trainable=False, use_resource=True)


@contextlib.contextmanager
def averages_read():
    """Let networks that are called in this context read the moving averages of their variables.

    `average_of` must have made these before: ValueError is raised where one is not there, and no variable is created.
    """
    def get_average(getter, name, **options):
        return getter(name + AVERAGE, **{**options, "reuse": True})

    with tf1.variable_scope(tf1.get_variable_scope(), custom_getter=get_average, auxiliary_name_scope=False):
        yield
