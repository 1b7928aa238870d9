"""engine/startup: what a program says at its start, what gets through, and that nothing else changes TensorFlow."""
import os
import signal
import subprocess
import sys

import pytest

from conftest import HERE

GREETING = (b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n"
            b"I0000 00:00:1.2   77 port.cc:153] oneDNN custom operations are on. You may see other results\n"
            b"I0000 00:00:1.2   77 cpu_feature_guard.cc:210] This TensorFlow binary is optimized to use available CPU\n"
            b"To enable the following instructions: AVX2 FMA, in other operations, rebuild TensorFlow\n")
NO_GPU = (b"I0000 00:00:1.2   77 stub.cc:31] Could not find cuda drivers on your machine, GPU will not be used.\n"
          b"E0000 00:00:1.2   77 cuda_platform.cc:51] failed call to cuInit: INTERNAL: CUDA error\n")
KNOWN = "InitializeLog", "oneDNN", "cpu_feature_guard", "This TensorFlow binary", "cuda drivers", "cuInit"
HEAD = "import os, signal, sys, time\nfrom engine import startup\nfrom engine.startup import start, without_greeting\n"


def python(code, **environment):
    """Run code in a process of its own -> (status, stdout, stderr)."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
    done = subprocess.run([sys.executable, "-c", HEAD + code], cwd=HERE.parent, env=kept | environment,
                          capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout, done.stderr


# The start

@pytest.mark.slow
@pytest.mark.parametrize("level", [None, "0"])
def test_a_start_says_nothing_and_settles_everything(level):
    """Also where TensorFlow is asked to log everything: of that, only what is no greeting may be seen."""
    code = """
start()
assert "keras" not in sys.modules and "TF_USE_LEGACY_KERAS" not in os.environ
import tensorflow as tf
from tensorflow.python.framework import config
assert not tf.executing_eagerly() and config.is_op_determinism_enabled()
assert tf.compat.v1.logging.get_verbosity() == tf.compat.v1.logging.ERROR
with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    print(session.run(tf.add(1, 2)), os.environ["TF_CPP_MIN_LOG_LEVEL"], os.environ.get("TF_XLA_FLAGS"))
"""
    status, out, err = python(code, **{"TF_CPP_MIN_LOG_LEVEL": level} if level else {})
    assert (status, out) == (0, f"3 {level or 2} None\n"), err
    assert not [line for line in err.splitlines() if any(word in line for word in KNOWN)]
    assert level or err == ""


@pytest.mark.slow
def test_tensorflow_would_greet_otherwise():
    """Else the test above says nothing."""
    status, _, err = python("import tensorflow as tf; tf.config.list_physical_devices('GPU')", TF_CPP_MIN_LOG_LEVEL="0")
    assert status == 0 and any(word in err for word in KNOWN)


@pytest.mark.long
@pytest.mark.slow
def test_xla_is_allowed_on_the_cpu_unless_the_user_says_otherwise():
    assert python("start(xla=True); print(os.environ['TF_XLA_FLAGS'])")[:2] == (
        0, "--tf_xla_cpu_global_jit --tf_xla_ops_to_cluster=PW,RED,MISC\n")
    theirs = "--tf_xla_max_cluster_size=7"
    assert python("start(xla=True); print(os.environ['TF_XLA_FLAGS'])", TF_XLA_FLAGS=theirs)[:2] == (0, f"{theirs}\n")


# What gets through

def test_every_line_but_the_greeting_gets_through_in_order():
    code = f"""
print("before", file=sys.stderr)
with without_greeting():
    for line in ({GREETING!r}, b"from C++\\n", {GREETING!r}, b"no end of a line"):
        os.write(2, line)
    os.write(2, b", is there\\n")
    print("from Python", file=sys.stderr)
    os.system("echo from a child >&2")
    print("stdout")
print("after", file=sys.stderr)
os.write(2, {GREETING!r})
"""
    status, out, err = python(code)
    assert (status, out) == (0, "stdout\n")
    assert err == "before\nfrom C++\nno end of a line, is there\nfrom Python\nfrom a child\nafter\n" + GREETING.decode()


@pytest.mark.parametrize("there", [False, True])
def test_what_is_said_of_a_gpu_is_heard_where_there_is_one(there):
    code = f"startup.GPU_DEVICE = {'/dev/null' if there else '/dev/nothing'!r}\n" \
           f"with without_greeting():\n    os.write(2, {NO_GPU + GREETING!r})\n"
    assert python(code) == (0, "", NO_GPU.decode() if there else "")


@pytest.mark.parametrize("end, status", [
    ("os.abort()", -signal.SIGABRT), ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL), ("os._exit(7)", 7)])
def test_the_last_words_of_a_process_that_dies_inside_get_through(end, status):
    code = f"""
import faulthandler
with without_greeting():
    os.write(2, {GREETING!r} + b"F0000 a check failed\\nhalf a li")
    {end}
"""
    assert python(code) == (status, "", "F0000 a check failed\nhalf a li")


def test_an_error_inside_is_raised_and_stderr_is_as_before():
    code = f"""
before = os.fstat(2)
try:
    with without_greeting():
        os.write(2, {GREETING!r})
        raise ImportError("no TensorFlow")
except ImportError as error:
    print(error)
after = os.fstat(2)
print((before.st_dev, before.st_ino) == (after.st_dev, after.st_ino), len(os.listdir("/proc/self/fd")))
with without_greeting():
    pass
print(len(os.listdir("/proc/self/fd")))
try:
    os.wait()
except ChildProcessError:
    print("no child is left")
"""
    status, out, err = python(code)
    first, same, again, children = out.splitlines()
    assert (status, err, first, children) == (0, "", "no TensorFlow", "no child is left")
    assert same == f"True {again}"


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_a_signal_from_the_terminal_does_not_silence_it(number):
    """Such a signal goes to every process of the group, and the main one decides what to do."""
    code = f"""
os.setpgid(0, 0)
signal.signal(signal.{number}, lambda *_: os.write(2, b"a signal\\n"))
with without_greeting():
    time.sleep(.5)
    os.killpg(0, signal.{number})
    time.sleep(.1)
    os.write(2, b"still here\\n")
"""
    assert python(code) == (0, "", "a signal\nstill here\n")


# Nothing else

@pytest.mark.slow
def test_importing_changes_nothing():
    """Neither TensorFlow's settings nor those of the process; TensorFlow's own changes come before."""
    code = """
import importlib, logging, pathlib
import numpy, PIL.Image, scipy, h5py, tqdm
import tensorflow as tf
from tensorflow.python.framework import config
tf1 = tf.compat.v1

def state():
    loggers = [logging.getLogger(name) for name in (None, "tensorflow", "absl", "PIL")]
    return {
        "eager": tf.executing_eagerly(), "determinism": config.is_op_determinism_enabled(),
        "verbosity": tf1.logging.get_verbosity(), "environment": dict(os.environ), "path": list(sys.path),
        "loggers": [(logger.level, list(logger.handlers)) for logger in loggers],
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)],
        "disabled": logging.root.manager.disable, "folder": os.getcwd(), "umask": (os.umask(0o22), os.umask(0o22)),
        "graph": len(tf1.get_default_graph().get_operations()), "pixels": PIL.Image.MAX_IMAGE_PIXELS,
        "numpy": (numpy.geterr(), str(numpy.get_printoptions())),
        "threads": (tf.config.threading.get_intra_op_parallelism_threads(),
                    tf.config.threading.get_inter_op_parallelism_threads())}

before, changed = state(), []
names = [".".join(path.with_suffix("").parts) for pattern in ("*.py", "*/*.py") for path in pathlib.Path().glob(pattern)
         if not {"tests", "benchmarks", "__init__.py"} & set(path.parts)]
for name in sorted(names):
    importlib.import_module(name)
    after = state()
    changed += [(name, key) for key in before if before[key] != after[key]]
    before = after
print({"engine.loop", "engine.startup", "graph", "trainer", "recognition.facenet"} <= set(names))
print(changed)
"""
    status, out, err = python(code, TF_CPP_MIN_LOG_LEVEL="3")
    assert (status, out) == (0, "True\n[]\n"), out + err
