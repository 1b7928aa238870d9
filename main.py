"""Train, resume, synthesize, fit, test: `python main.py --help` lists the options."""
import functools
import logging
import os
import sys

import preflight
import utils
from cli import program
from config import get_config, structural_differences
from engine import runs


def main():
    """Run what the command line asks for. Exit status: 2 bad input, 1 diverged, 128 + signal when interrupted."""
    program.leave_on_signals("main.py")
    config, without_effect = get_config()
    utils.set_up_logging(config.log_level)
    if without_effect:
        logging.warning("options with nothing to act on here: %s (those of training a classifier are recognizer.py's)",
                        " ".join(f"--{name}" for name in without_effect))
    return program.in_one_line("main.py", run, config)


def run(config):
    """Check the input, build one graph for all that is asked for, and do it. Returns the exit status."""
    c = config
    data = preflight.load_data(c)
    preflight.check_classifier(c)
    resumed, source = preflight.find_weights(c)
    if c.train_generator:
        runs.check_log_dir(c.log_dir)
        if resumed:
            runs.check_run(resumed, structural_differences(c, runs.load_params(resumed)), data.renderings.identities)
    preflight.open_outputs(c)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if c.xla:       # on CPUs too; convolutions stay with oneDNN and cuDNN, which are faster and, on a GPU, deterministic
        os.environ.setdefault("TF_XLA_FLAGS", "--tf_xla_cpu_global_jit --tf_xla_ops_to_cluster=PW,RED,MISC")
    from trainer import sample_sheet, Trainer  # importing TensorFlow takes seconds

    trainer = Trainer(c)
    try:
        trainer.build_model(
            training_data=(data.photos, data.renderings, data.pairs) if c.train_generator else None,
            synthesis=c.train_generator or c.generate_dataset or not c.is_train,
            fitting=c.fit_dataset or bool(data.test_pairs))
        if c.train_generator:
            trainer.train(sample_sheet(c, data.renderings), data.test_pairs, resumed,
                          functools.partial(runs.open_run, c, resumed, data.renderings.identities))
            source = trainer.run_dir
        if c.generate_dataset or c.fit_dataset or not c.is_train:
            prefix = trainer.load_weights(source)
        if c.generate_dataset:
            trainer.generate_dataset(data.renderings, os.path.join(c.data_dir, c.save_syn_dataset))
        if c.fit_dataset:
            trainer.fit_dataset(data.photos, os.path.join(c.data_dir, c.save_fitting))
        if not c.is_train:
            trainer.test(data.renderings, data.test_renderings, os.path.dirname(prefix), prefix)
    finally:
        trainer.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
