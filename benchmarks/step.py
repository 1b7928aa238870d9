"""Time training steps, synthesis, the input pipeline and the start: python benchmarks/step.py [CASE ...]

Every case runs in a process of its own, and so does the yardstick before and after it: forward and both gradients of
four 3x3 64->64 convolutions with ELU on [4, 108, 108, 64], in a session with TensorFlow's own settings. Ratios to it
can be compared between machines, and between moments of a busy one; those of CPU time also where other programs take
their share. Networks have their default widths, the classifier is Inception-ResNet-v1 with random weights, and the
images are drawn.
"""
import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

PROJECT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

CASES = {                   # what, options
    "train-108-2": ("step", dict(input_scale_size=108, batch_size=2)),
    "train-108-16": ("step", dict(input_scale_size=108, batch_size=16)),
    "train-64-4": ("step", dict(input_scale_size=64, batch_size=4)),
    "synthesis-108-16": ("synthesis", dict(input_scale_size=108, generate_dataset=True)),
    "synthesis-108-16-images-only": ("synthesis", dict(input_scale_size=108, generate_dataset=True, scores=False)),
    "input-108-16": ("input", dict(input_scale_size=108, batch_size=16)),
    "start-108-2": ("start", dict(input_scale_size=108, batch_size=2)),
}
REPEATS = 5


def median_seconds(run, repeats=REPEATS):
    """Median (seconds, CPU seconds of all threads) of `run()`, after two runs that don't count."""
    times = []
    for _ in range(repeats + 2):
        start, cpu = time.perf_counter(), time.process_time()
        run()
        times.append((time.perf_counter() - start, time.process_time() - cpu))
    return tuple(statistics.median(column) for column in zip(*times[2:]))


def time_yardstick():
    """{"seconds": (seconds, CPU seconds) of the yardstick}."""
    from engine.startup import without_greeting

    with without_greeting():
        import tensorflow as tf
        tf.config.list_physical_devices("GPU")          # which may greet too
    tf1 = tf.compat.v1
    with tf.Graph().as_default():
        tf1.set_random_seed(1)
        first = x = tf1.get_variable("x", [4, 108, 108, 64])
        weights = [tf1.get_variable(f"w{i}", [3, 3, 64, 64]) for i in range(4)]
        for w in weights:
            x = tf.nn.elu(tf.nn.conv2d(x, w, 1, "SAME"))
        gradients = [g.op for g in tf1.gradients(x, weights + [first])]
        with tf1.Session() as session:
            session.run(tf1.global_variables_initializer())
            return {"seconds": median_seconds(lambda: session.run(gradients), 3 * REPEATS)}


def open_trainer(config, folder):
    """A Trainer on drawn images that is ready for what `config` asks for, with a classifier of random weights."""
    import drawn

    drawn.write_dataset(folder, size=config.input_scale_size)
    return build_trainer(config, folder)


def build_trainer(config, folder):
    """The same on images that are in `folder` already."""
    from datasets.image_sets import find_pairs, find_photos, find_renderings
    from preflight import Data
    from recognition.pretrained import Weights
    from trainer import Trainer

    data = Data(find_photos(os.path.join(folder, "real")), find_renderings(os.path.join(folder, "syn")),
                find_pairs(os.path.join(folder, "paired")))
    trainer = Trainer(config)
    trainer.build_model(data if config.train_generator else None, config.generate_dataset,
                        classifier=Weights("random", {}, None, "image"))
    trainer.session.run([v.initializer for v in trainer.networks.classifier_variables])
    if trainer.training:
        trainer.session.run(trainer.training.iterator.initializer, {trainer.training.start_step: 0})
    return trainer


def time_step(config, folder):
    """{"seconds": (seconds, CPU seconds) of a training step}."""
    trainer = open_trainer(config, folder)
    graph = trainer.training
    seconds = median_seconds(lambda: trainer.run_step(0, {"losses": graph.losses}))
    trainer.close()
    return {"seconds": seconds}


def time_synthesis(config, folder):
    """{"seconds": ..., "images/s": ...} of synthesis without reading or writing files."""
    import numpy as np
    trainer = open_trainer(config, folder)
    graph = trainer.synthesis
    feed = {graph.renderings: np.random.default_rng(1).integers(0, 256, graph.renderings.shape, np.uint8),
            graph.seeds: np.ones(graph.seeds.shape, np.int32)}
    seconds = median_seconds(lambda: trainer.session.run([graph.photos] + graph.scores, feed))
    trainer.close()
    return {"seconds": seconds, "images/s": graph.BATCH / seconds[0]}


def time_input(config, folder):
    """{"seconds": ..., "images/s": ...} of the training input alone: photos, renderings and both halves of pairs."""
    trainer = open_trainer(config, folder)
    graph = trainer.training
    seconds = [each / 50 for each in median_seconds(lambda: [trainer.session.run(graph.batch) for _ in range(50)])]
    trainer.close()
    return {"seconds": seconds, "images/s": 4 * config.batch_size / seconds[0]}


def time_start(config, folder):
    """{"seconds": seconds from `python main.py` on 1,000 images to the end of the first training step}."""
    import tensorflow as tf

    import drawn
    from recognition import networks, registry
    tf1 = tf.compat.v1
    with tf.Graph().as_default(), tf1.Session() as session:         # a classifier of random weights
        tf1.set_random_seed(1)
        networks.embed(tf1.placeholder(tf.float32, [None, 96, 96, 3]),
                      registry.Architecture(config.model_def, config.embedding_size))
        session.run(tf1.global_variables_initializer())
        classifier = tf1.train.Saver().save(session, os.path.join(folder, "classifier"), write_meta_graph=False)
    drawn.write_dataset(folder, size=config.input_scale_size, identities=20, per_identity=20, photos=400, pairs=100)
    options = dict(data_dir=folder, dataset="real", syn_dataset="syn", dataset_3dmm="paired", log_dir=folder,
                   log_step=1, max_step=1, input_scale_size=config.input_scale_size, batch_size=config.batch_size,
                   model_def=config.model_def, pretrained_rec=classifier, precision=config.precision, xla=config.xla)
    command = [sys.executable, os.path.join(PROJECT, "main.py")]
    start = time.perf_counter()
    with subprocess.Popen(command + [word for name, value in options.items() for word in (f"--{name}", str(value))],
                          stderr=subprocess.PIPE, text=True) as program:
        seconds = next((time.perf_counter() - start for line in program.stderr if "[1/1]" in line), None)
        program.stderr.read()
    if seconds is None:
        raise RuntimeError("main.py ended before its first step")
    program_cpu = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"seconds": (seconds, program_cpu.ru_utime + program_cpu.ru_stime)}


def case_config(name, options):
    """The configuration of case `name`, with more `options` of main.py; mistakes in them end the program."""
    from config import get_config
    # Synthesis takes the options of the newest run in log_dir: let there be none.
    all_options = {"model_def": "inception_resnet_v1", "pretrained_rec": "random", "log_dir": os.devnull,
                   **CASES[name][1]}
    words = [word for option, value in all_options.items() for word in (f"--{option}", str(value))]
    return get_config(words + options.split())[0]


def run_case(name, options):
    """The figures of case `name`, with more `options` of main.py, and the most memory this process took."""
    from engine.startup import start

    kind, config = CASES[name][0], case_config(name, options)
    start(config.xla)
    with tempfile.TemporaryDirectory() as folder:
        time_it = {"step": time_step, "synthesis": time_synthesis, "input": time_input, "start": time_start}[kind]
        figures = time_it(config, folder)
    return {**figures, "peak RSS GiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2 ** 20}


def in_own_process(name, options=""):
    """The figures of case `name`, or of the "yardstick", with more `options` of main.py."""
    command = [sys.executable, __file__, name, "--child", f"--options={options}"]
    output = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    return json.loads(output.decode().splitlines()[-1])


def main():
    """Time the cases of the command line, or in a process of its own, one of them."""
    sys.path[:0] = [PROJECT, os.path.join(PROJECT, "tests")]
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)} (default: all)")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--options", default="", help="more options of main.py, such as '--precision bfloat16'")
    arguments = parser.parse_args()
    if arguments.child:
        name = arguments.cases[0]
        print(json.dumps(time_yardstick() if name == "yardstick" else run_case(name, arguments.options)))
        return
    for name in arguments.cases:
        if name not in CASES:
            parser.error(f"{name}: no such case; one of {', '.join(CASES)}")
    for name in arguments.cases or CASES:
        case_config(name, arguments.options)                        # a mistake shows before long work
    print(f"{'case':30} {'seconds':>8} {'yardsticks':>10} {'of CPU':>7} {'images/s':>9} {'peak GiB':>8}   (one in s)")
    for name in arguments.cases or CASES:
        before, figures, after = map(in_own_process, ("yardstick", name, "yardstick"), ("", arguments.options, ""))
        one = [sum(each) / 2 for each in zip(before["seconds"], after["seconds"])]
        ratio, cpu_ratio = (seconds / yardstick for seconds, yardstick in zip(figures["seconds"], one))
        rate = f"{figures['images/s']:9.2f}" if "images/s" in figures else " " * 9
        print(f"{name:30} {figures['seconds'][0]:8.3f} {ratio:10.2f} {cpu_ratio:7.2f} {rate} "
              f"{figures['peak RSS GiB']:8.2f}   ({one[0]:.3f})", flush=True)


if __name__ == "__main__":
    main()
