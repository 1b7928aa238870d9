"""Start TensorFlow for a program: its environment, a quiet import, static graphs, determinism, the log level."""
import contextlib
import ctypes
import os
import re
import signal
import sys

# Lines with which TensorFlow greets every program. They mean nothing to its users.
HARMLESS = re.compile(rb"All log messages before absl::InitializeLog\(\) is called are written to STDERR"
                      rb"|oneDNN custom operations are on\.|This TensorFlow binary is optimized to use available CPU"
                      rb"|To enable the following instructions: ")
# What a machine without a GPU says besides. With a GPU, these lines tell what is wrong with its driver.
WITHOUT_GPU = re.compile(rb"Could not find cuda drivers on your machine|failed call to cuInit")
GPU_DEVICE = "/dev/nvidiactl"
TF32 = "tf32"               # of the values of --precision


def start(xla=False, precision="float32"):
    """Import TensorFlow and make the settings that every program needs. Call it once, before any graph is built.

    With `xla`, XLA may compile on the CPU too. With the `precision` tf32, GPUs that can may round what they multiply to
    10 bits, as they do unless they are told not to. No other place changes TensorFlow's global settings, except
    `datasets.detection`, which runs in processes of its own.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if xla:     # convolutions stay with oneDNN and cuDNN, which are faster and, on a GPU, deterministic
        os.environ.setdefault("TF_XLA_FLAGS", "--tf_xla_cpu_global_jit --tf_xla_ops_to_cluster=PW,RED,MISC")
    _keep_freed_memory()
    with without_greeting():
        with _without_keras():
            import tensorflow as tf
        tf.config.list_physical_devices("GPU")          # here and not later, since it may greet too
    tf1 = tf.compat.v1
    tf1.logging.set_verbosity(tf1.logging.ERROR)        # its deprecation notes are not for a program's users
    tf1.disable_eager_execution()
    tf.config.experimental.enable_op_determinism()      # a resumed run repeats the digits of an uninterrupted one
    tf.config.experimental.enable_tensor_float_32_execution(precision == TF32)


def hush():
    """Keep what TensorFlow's C++ says of broken connections off the log; call it before `start`.

    One lost worker makes it write tens of lines, among which the one that names the worker would be overlooked. What
    fails raises an exception besides.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@contextlib.contextmanager
def _without_keras():
    """Keep TensorFlow's import in this context from loading Keras as well. Nothing here uses Keras.

    Loading Keras takes a quarter of the import's time. Where this variable is 1, TensorFlow loads an older Keras
    instead, and none where that is not installed. The variable is as before afterwards: `datasets.detection` needs
    Keras in its own processes.
    """
    name = "TF_USE_LEGACY_KERAS"
    before = os.environ.get(name)
    os.environ.setdefault(name, "1")
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]


@contextlib.contextmanager
def without_greeting():
    """Leave TensorFlow's greeting out of what Python and C++ write to stderr in this context.

    Every other line gets through. A process of its own passes the lines on, so that those of a crash arrive too.
    That process ends when no other one holds its pipe open any more.
    """
    if sys.stderr is None:              # closed by who started the program
        yield
        return
    sys.stderr.flush()
    reader, writer = os.pipe()
    before = os.dup(2)
    child = os.fork()
    if child == 0:
        os.close(writer)
        _pass_on(reader, before)
    os.close(reader)
    os.dup2(writer, 2)
    os.close(writer)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(before, 2)
        os.close(before)
        os.waitpid(child, 0)


def _pass_on(reader, target):
    """Copy lines from one file descriptor to another, but for the greeting, and end this process."""
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)       # the main process decides when to end
        known = [HARMLESS] if os.path.exists(GPU_DEVICE) else [HARMLESS, WITHOUT_GPU]
        with os.fdopen(reader, "rb") as lines:
            for line in lines:
                if not any(pattern.search(line) for pattern in known):
                    os.write(target, line)
    finally:
        os._exit(0)         # in any case: an exception would go on with the main process's work a second time


def _keep_freed_memory():
    """Ask glibc to keep freed memory for the next step, instead of returning it to the system.

    Returning it page by page takes a sixth of a step where TensorFlow computes without oneDNN, as it does by default on
    CPUs without AVX-512 VNNI. Elsewhere, and with other C libraries, this changes nothing. Blocks above 64 MiB are
    still returned, since they would leave holes.
    """
    if sys.platform != "linux":
        return
    set_option = getattr(ctypes.CDLL(None), "mallopt", lambda option, value: 0)
    trim_threshold, mmap_threshold, most_arenas = -1, -3, -8                # the numbers of these options in malloc.h
    if set_option(mmap_threshold, 64 * 2 ** 20):        # an old glibc refuses this; the other options would harm then
        set_option(trim_threshold, -1)                                      # -1: never
        set_option(most_arenas, 1)
