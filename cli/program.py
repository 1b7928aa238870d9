"""Run a command: one line for what goes wrong, signals, exit status; and print what a dry run found."""
import contextlib
import errno
import functools
import sys

import utils
from cli.interrupts import leave
from cli.options import words
from utils import Diverged, Interrupted, one_line, SignalWatch, StopRequest, UserError

# What to do for want of memory.
SMALLER = {"main.py": "a smaller --batch_size, or narrower networks (--conv_hidden_num, --conv_hidden_num_res)",
           "recognizer.py": "a smaller --batch_size, or a smaller --image_size",
           "gen_syn_latent.py": "a smaller --size or --supersample, or fewer --workers",
           "align.py": "fewer --workers, or a smaller --detection_size",
           "evaluate.py": "a smaller --limit, or fewer runs"}
LESS = "less at a time"
OUT_OF_MEMORY = "OOM when allocating", "out of memory", "bad_alloc", "MemoryError", "Unable to allocate"


def run(name, work, arguments):
    """Run `work(arguments)` as the program `name` -> exit status. What goes wrong becomes one line on stderr.

    SIGINT and SIGTERM end the program at once, except in the contexts in which `work` notes them with a StopRequest:
    an exception could get lost in a callback of TensorFlow.
    The exit status is 0, 1 when a training diverged, 2 for bad input or a full disk, or 128 + the signal's number.
    """
    utils.set_up_logging("INFO")
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")       # a name may hold what the terminal has no letter for
    StopRequest.heard = None
    with SignalWatch(functools.partial(_leave, name)):          # to the last word: that tells how to go on
        try:
            return work(arguments) or 0
        except UserError as error:
            _tell(f"{name}: error: {one_line(str(error))}")
        except OSError as error:
            if error.errno == errno.ENOMEM:
                error.strerror += f"; take {SMALLER.get(name, LESS)}"
            reason = f"{error.filename or 'writing'}: {error.strerror or error}"
            _tell(f"{name}: error: {one_line(reason)}")
        except Interrupted as stop:
            _tell(f"{name}: interrupted; {one_line(str(stop))}")
            return 128 + stop.signal
        except Diverged as stop:
            _tell(f"{name}: the training diverged; {one_line(str(stop))}")
            return 1
        except Exception as error:
            if not is_want_of_memory(error):
                raise
            _tell(f"{name}: error: not enough memory; take {SMALLER.get(name, LESS)}")
    return 2


def _leave(name, number):
    """End the program `name` at once; after a first signal, as the StopRequest ends it that has heard that."""
    if StopRequest.heard:
        StopRequest.heard(number)
    else:
        leave(name, number)


def _tell(line):
    """Write a line to stderr, if anybody reads it."""
    with contextlib.suppress(BrokenPipeError):
        print(line, file=sys.stderr, flush=True)


def is_want_of_memory(error):
    """Tell whether an exception means want of memory: one of Python, of NumPy, or of TensorFlow, not imported here."""
    return isinstance(error, MemoryError) or (
        type(error).__module__.startswith("tensorflow") and (
            type(error).__name__ == "ResourceExhaustedError" or any(part in str(error) for part in OUT_OF_MEMORY)))


def tell(changed, data, parameters):
    """Print what --dry_run found.

    `changed` is {option: value}, `data` {name: a summary in words}, `parameters` {network: count}.
    """
    print("Options that differ from the defaults:")
    for name, value in changed.items():
        print(f"  {one_line(words({name: value}))}")
    print("Data:")
    for name, summary in data.items():
        print(f"  {name:20} {one_line(summary)}")
    print("Networks:")
    for name, count in parameters.items():
        print(f"  {name:20} {count:,} parameters")
