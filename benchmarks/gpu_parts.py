"""Measure one case of gpu.py, in a process of its own: python benchmarks/gpu_parts.py CASE.json

CASE.json tells what and where; the result is printed as JSON, in the last line. A case for which the device's memory is
too small gives {"out of memory": why}.
"""
import contextlib
import hashlib
import json
import logging
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(1, os.path.join(sys.path[0], "tests"))              # for drawn images, and the check of the goldens
sys.path.insert(2, os.path.join(sys.path[0], "tests", "golden"))

from benchmarks import gpu_data, quality_data
from cli.program import is_want_of_memory
from utils import PROJECT, UserError

WARM = 3                    # steps that do not count: the first ones compile, and choose kernels
LEAST = 3                   # steps that count at least


class Place:
    """Where a case is measured: on a GPU or not, and the folder for what is kept between cases."""

    def __init__(self, gpu, folder):
        """Take whether there is a GPU to measure, and the folder."""
        self.gpu, self.folder = gpu, folder

    def config(self, options):
        """Resolve `options` of main.py. Synthesis takes those of the newest run in log_dir: there is none."""
        from config import get_config
        return get_config(gpu_data.as_words({"log_dir": os.devnull, "use_gpu": self.gpu, **options}))[0]

    def data(self, config):
        """Name the folder of drawn images of the size that `config` asks for."""
        return gpu_data.images_of(self.folder, config.input_scale_size)

    def memory(self):
        """Read the most memory that was used so far -> {what: GiB}.

        Of a GPU, TensorFlow tells what was in use, and the driver what all programs hold.
        """
        if not self.gpu:
            return {"peak GiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2 ** 20}
        import tensorflow as tf
        found = {}
        with contextlib.suppress(ValueError, RuntimeError, tf.errors.OpError):      # a device that does not tell
            found["peak GiB"] = tf.config.experimental.get_memory_info("GPU:0")["peak"] / 2 ** 30
        held = re.match(r"[\d.]+(?= MiB)", next(iter(gpu_data.ask_driver("memory.used")), ""))
        return {**found, "held GiB": float(held[0]) / 1024} if held else found


def open_trainer(place, options, deterministic=True):
    """Start TensorFlow, and build the Trainer that `options` of main.py ask for, on drawn images.

    Where it need not be `deterministic`, TensorFlow may build another graph, and choose kernels that sum in any order.
    """
    from benchmarks.step import build_trainer
    from engine.startup import start

    config = place.config(options)
    start(config.xla, config.precision)
    if not deterministic:
        from tensorflow.python.framework import config as of_tensorflow
        of_tensorflow.disable_op_determinism()
    return build_trainer(config, place.data(config))


def timed(run, seconds):
    """Call `run()` for about so many `seconds`, after WARM calls -> median seconds of a call."""
    for _ in range(WARM):
        run()
    times, end = [], time.perf_counter() + seconds
    while len(times) < LEAST or time.perf_counter() < end:
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


# What is measured: functions of a Place and a case's settings, each of which returns what JSON can hold

def device(place):
    """Tell the machine, TensorFlow and the GPUs that it sees. Raises UserError where a GPU is asked for and none is."""
    from importlib import metadata

    from engine.startup import start
    start()
    import tensorflow as tf

    built = tf.sysconfig.get_build_info()
    gpus = [{**tf.config.experimental.get_device_details(each), "name": each.name}
            for each in tf.config.list_physical_devices("GPU")] if place.gpu else []
    if place.gpu and not gpus:
        raise UserError("TensorFlow finds no GPU; docs/troubleshooting.md tells what it needs")
    packages = {each.metadata["Name"]: each.version for each in metadata.distributions()
                if re.match(r"nvidia-(cudnn|cuda-runtime|cublas|cuda-nvcc|nccl)", each.metadata["Name"] or "")}
    return {"processor": quality_data.cpu_name(), "cores": len(os.sched_getaffinity(0)),
            "python": platform.python_version(), "tensorflow": tf.__version__,
            "built for CUDA": built.get("cuda_version", "none"),
            "built for cuDNN": built.get("cudnn_version", "none"),
            "code for": " ".join(built.get("cuda_compute_capabilities", [])), "packages": packages,
            "driver": gpu_data.ask_driver("name", "driver_version", "memory.total") if place.gpu else [],
            "GPUs": [{key: str(value) for key, value in each.items()} for each in gpus]}


def start(place, options, kinds):
    """Time main.py from its start to the end of the first step -> {"cold s", "warm s"}, as far as `kinds` ask.

    At the cold start, CUDA has compiled nothing: CUDA_CACHE_PATH is an empty folder. The warm one follows it.
    """
    config, found = place.config(options), {}
    data = place.data(config)
    with tempfile.TemporaryDirectory() as folder:
        os.mkdir(f"{folder}/cache")
        for kind in kinds:
            words = gpu_data.as_words({
                **options, **gpu_data.NAMES, "data_dir": data, "log_dir": os.path.join(folder, kind), "log_step": 1,
                "max_step": 1, "num_log_id": 1, "num_log_samples": 1, "use_gpu": place.gpu, "pretrained_rec": ""})
            begin, said = time.perf_counter(), ""
            with subprocess.Popen([sys.executable, os.path.join(PROJECT, "main.py"), *words], text=True,
                                  stderr=subprocess.PIPE, env={**os.environ, "CUDA_CACHE_PATH": f"{folder}/cache"},
                                  preexec_fn=quality_data.end_with_us()) as program:
                for said in program.stderr:
                    if "[1/1]" in said:
                        found[f"{kind} s"] = time.perf_counter() - begin
                program.wait()
            if program.returncode:
                raise RuntimeError(f"main.py ended with status {program.returncode}: {said.strip()}")
    return found


def placement(place, what, options):
    """Tell where each operation of a step runs, without soft placement, and which have no kernel for a GPU."""
    import tensorflow as tf

    from benchmarks import gpu_placement
    from engine.session import session_options

    graph, fetches, feed, reading = _step_of(place, what, options)
    settings = session_options(place.gpu)
    settings.allow_soft_placement = False
    with graph.as_default(), tf.compat.v1.Session(graph=graph, config=settings) as session:
        session.run([variable.initializer for variable in tf.compat.v1.global_variables()])
        if reading:
            session.run(*reading)
        metadata = gpu_placement.run_with_metadata(session, fetches, feed)
    asked = gpu_placement.needed_for(graph, [each.op if isinstance(each, tf.Tensor) else each for each in fetches])
    counts = gpu_placement.count_operations(metadata)
    return {**gpu_placement.sort_out(gpu_placement.nodes_of(metadata), "GPU" if place.gpu else "CPU"),
            "operations": sum(counts.values()), "types": counts,
            "no kernel for a GPU": gpu_placement.without_gpu_kernel(asked),
            "not deterministic": gpu_placement.not_deterministic(asked)}


def _step_of(place, what, options):
    """Build "training", "synthesis" or the training of a "classifier", and close its session again.

    Returns its tf.Graph, what a step fetches and is fed, and the operation and feed with which reading begins, or None.
    """
    import numpy as np

    if what == "classifier":
        trainer = gpu_data.classifier_training(place, options)
        graph, feed = trainer.graph, {trainer.graph.rate: .05}
    else:
        trainer = open_trainer(place, options)
        graph = trainer.training
        feed = graph and {graph.g_lr: 1e-4, graph.d_lr: 1e-4, graph.lambda_c: 1e-3}
    if what == "synthesis":
        graph, reading = trainer.synthesis, None
        fetches = [graph.photos] + graph.scores
        feed = {graph.renderings: np.zeros(graph.renderings.shape, np.uint8),
                graph.seeds: np.ones(graph.seeds.shape, np.int32)}
    else:
        fetches = [graph.train_op, *graph.losses.values()]
        reading = graph.iterator.initializer, {graph.start_step: 0}
    trainer.close()
    return trainer.session.graph, fetches, feed, reading


def goldens(place, precision, files):
    """Compare with the original's numbers -> {"when, kind": the largest error of all cases}."""
    import check_goldens
    from engine.startup import start

    start(precision=precision)
    cases, worst = check_goldens.read_cases(check_goldens.GOLDEN), {}
    for path, golden in cases.items():
        if files and os.path.basename(path).removesuffix(".npz") not in files:
            continue
        more = ["--precision", precision, "--use_gpu", str(place.gpu)]
        for when, errors in check_goldens.errors_of(golden, list(cases.values()), more):
            for kind, error in errors.items():
                worst[f"{when}, {kind}"] = max(worst.get(f"{when}, {kind}", 0), error)
    return worst


def train_steps(place, options, steps, deterministic, resume, keep):
    """Train `steps` -> {"digest" of all that the next step depends on, "seconds" of a step}.

    Half-way, a checkpoint is saved in the folder `keep`, unless that is "". With `resume`, the training goes on from
    it.
    """
    from engine import checkpoints

    trainer = open_trainer(place, options, deterministic)
    graph, times, first = trainer.training, [], 0
    folder = os.path.join(place.folder, "trained", keep)
    if resume:
        variables = graph.saved_variables
        prefix, values = checkpoints.read_newest(folder, [variable.op.name for variable in variables])
        checkpoints.assign(trainer.session, variables, values, prefix)
        first = int(trainer.session.run(graph.step))
    trainer.restart(first)
    for step in range(first, steps):
        begin = time.perf_counter()
        losses = trainer.run_step(step, {"losses": graph.losses})["losses"]
        times.append(time.perf_counter() - begin)
        if step + 1 == steps // 2 and keep and not resume:
            os.makedirs(folder, exist_ok=True)
            checkpoints.save(trainer.session, trainer.saver, folder, steps // 2)
    total = hashlib.sha256()
    for name, value in sorted(trainer.session.run({v.op.name: v for v in graph.saved_variables}).items()):
        total.update(name.encode() + value.tobytes())
    trainer.close()
    return {"digest": total.hexdigest(), "from": first, "seconds": statistics.median(times[min(WARM, len(times) - 1):]),
            "s_loss": float(losses["s_loss"])}


def steps(place, options, seconds):
    """Time a training step -> {"seconds", "images/s", "with input s", memory}.

    `seconds` are those of a step whose images are there; "with input s" those of one that reads and decodes them.
    """
    trainer = open_trainer(place, options)
    graph = trainer.training
    batch = [tensor for tensor in graph.batch if tensor is not None]
    batch = dict(zip(batch, trainer.session.run(batch)))
    took = timed(lambda: trainer.run_step(0, {"losses": graph.losses}, batch), seconds)
    with_input = timed(lambda: trainer.run_step(0, {"losses": graph.losses}), seconds)
    found = {"seconds": took, "images/s": trainer.config.batch_size / took, "with input s": with_input,
             **place.memory()}
    trainer.close()
    return found


def synthesis(place, options, seconds):
    """Time synthesis without files -> {"seconds" of a batch, "images/s", memory}."""
    import numpy as np
    trainer = open_trainer(place, options)
    graph = trainer.synthesis
    feed = {graph.renderings: np.random.default_rng(1).integers(0, 256, graph.renderings.shape, np.uint8),
            graph.seeds: np.ones(graph.seeds.shape, np.int32)}
    took = timed(lambda: trainer.session.run([graph.photos] + graph.scores, feed), seconds)
    found = {"seconds": took, "images/s": graph.BATCH / took, **place.memory()}
    trainer.close()
    return found


def input_alone(place, options, batches):
    """Time what a training reads: photos, renderings, both images of pairs -> {"seconds" of a batch, "images/s"}."""
    trainer = open_trainer(place, options)
    batch = [tensor for tensor in trainer.training.batch if tensor is not None]
    for _ in range(WARM):
        trainer.session.run(batch)
    begin = time.perf_counter()
    for _ in range(batches):
        trainer.session.run(batch)
    took = (time.perf_counter() - begin) / batches
    trainer.close()
    return {"seconds": took, "images/s": 4 * trainer.config.batch_size / took}


def profile(place, options):
    """Trace a few training steps -> what gpu_trace.read tells of them."""
    from benchmarks import gpu_trace
    from engine.profiling import SKIPPED, Trace, TRACED

    trainer = open_trainer(place, options)
    with tempfile.TemporaryDirectory() as folder:
        with Trace(folder) as trace:
            for step in range(SKIPPED + TRACED):
                with trace.step(step):
                    trainer.run_step(step, {"losses": trainer.training.losses})
        trainer.close()
        return gpu_trace.read(folder, place.gpu)


def training(place, seconds, quick):
    """Train on drawn people by main.py for so many `seconds` -> {"steps", "seconds a step", "picture"}."""
    return gpu_data.train_people(place.folder, place.gpu, seconds, quick)


KINDS = {function.__name__: function for function in (
    device, start, placement, goldens, train_steps, steps, synthesis, input_alone, profile, training)}


def main(path):
    """Measure the case that the file `path` describes, and print the result -> exit status."""
    with open(path, encoding="utf-8") as file:
        case = json.load(file)
    logging.basicConfig(level=logging.INFO)
    try:
        result = KINDS[case["kind"]](Place(case["gpu"], case["folder"]), **case["settings"])
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except Exception as error:
        if not is_want_of_memory(error):
            raise
        result = {"out of memory": type(error).__name__}
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    status = main(sys.argv[1])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)        # threads that still decode images would hold Python at its end
