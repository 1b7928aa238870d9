"""Train, resume, synthesize, fit, test: `python main.py --help` lists the options."""
if __name__ == "__main__":
    from cli import interrupts
    interrupts.leave_on_signals("main.py")      # before the imports below, which take a while

import logging
import os
import sys

import preflight
import utils
from cli import program
from cli.options import changed_options
from cli.shards import FINISH
from config import COMMAND, read_command_line
from engine import endings
from engine.cluster.replicas import replicas_of
from engine.runs import folder_of, Run, samples_folder
from engine.startup import hush, start
from evaluation import judge_command
from synthesis import products


def main(arguments):
    """Check what the command line asks for, then do it."""
    parsed = read_command_line(arguments)
    config = parsed.options
    utils.set_up_logging(config.log_level)
    for note in parsed.notes:
        logging.info("%s", note)
    if parsed.legacy:
        logging.warning("options with nothing to act on here: %s (those of training a classifier are recognizer.py's)",
                        " ".join(f"--{name}" for name in parsed.legacy))
    done = preflight.done_run(config)
    if done:
        endings.tell_done(config.max_step // replicas_of(config).total, "max_step")
        endings.tell_generators(done)
        return
    work = preflight.check(config, parsed.typed)
    if config.shard == FINISH and not config.dry_run:
        products.finish(config, work.whole, work.weights)
        return
    if config.cluster:
        hush()
    start(config.xla, config.precision)
    if config.dry_run:
        tell(config, work.data)
    else:
        run(config, work)


def run(config, work):
    """Build one graph for all that is asked for, and do it. `work` is what `preflight.check` found."""
    from engine.cluster.joining import join
    from engine.cluster.team import ALONE

    images = {f"--{option}": getattr(work.data, field) for option, field in preflight.FIELDS.items()}
    with join(config, images) if config.train_generator else ALONE as team:
        run_together(config, work, team)


def run_together(config, work, team):
    """Do what `run` does, as one of the workers of a cluster.team.Team."""
    from synthesis.sheets import sample_sheet
    from trainer import Trainer

    data, weights = work.data, work.weights
    trainer = Trainer(config, team)
    try:
        trainer.build_model(data if config.train_generator else None,
                            synthesis=config.train_generator or config.generate_dataset or not config.is_train,
                            fitting=config.fit_dataset or bool(data.test_pairs), crop=work.crop)
        if config.train_generator:
            training = Run(config, data.renderings.identities, folder=work.resumed)
            weights = trainer.train(training, sample_sheet(config, data.renderings), weights).folder
            if team.leads and not (config.generate_dataset or config.fit_dataset):
                endings.tell_generators(weights)
        if config.generate_dataset or config.fit_dataset or not config.is_train:
            prefix = trainer.load_weights(weights)
        for product in products.products_of(config, data, work.whole):
            with products.begin_product(config, product, prefix):
                make = trainer.generate_dataset if product.scores else trainer.fit_dataset
                make(product)
                products.end_product(config, product)
        if not config.is_train:
            folder = samples_folder(prefix, config.log_dir)
            os.makedirs(folder, exist_ok=True)
            trainer.test(data.renderings, data.test_renderings, folder, prefix)
    finally:
        trainer.close()
    if config.judge and config.generate_dataset:
        judge_command.judge(preflight.judging_of(config, folder_of(prefix)), ["main.py", *sys.argv[1:]])


def tell(config, data):
    """Print the options that differ from the defaults, the data found, and the networks with their sizes."""
    from trainer import count_parameters

    images = {name: images.summary for name, images in data._asdict().items() if images}
    program.tell(changed_options(COMMAND, config), images, count_parameters(config))


if __name__ == "__main__":
    sys.exit(program.run("main.py", main, sys.argv[1:]))
