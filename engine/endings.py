"""Say that a training is done, what to look at, and what comes next. No TensorFlow."""
import glob
import logging
import os
import shlex


def tell_done(steps, option):
    """Log that a training has done its `steps`, and which `option`, a name, adds more."""
    logging.info("this training has done its %d steps; give a larger --%s to go on", steps, option)


def tell_generators(run_dir):
    """Log what to look at in the folder of a run of main.py, and the command that comes next."""
    sheets = sorted(glob.glob(os.path.join(glob.escape(run_dir), "*[0-9]_G.png")), key=os.path.getmtime)
    if sheets:
        logging.info("look at %s: photos made of the renderings in syn_fixed.png", sheets[-1])
    logging.info("next: python main.py --generate_dataset --load_path %s", shlex.quote(run_dir))


def tell_classifier(run_dir):
    """Log how to look at a run of recognizer.py, and the commands that come next."""
    run = shlex.quote(run_dir)
    logging.info("look at curves.png, drawn by: python evaluate.py curves %s", run)
    logging.info("next: python main.py --pretrained_rec %s", run)
    logging.info("or: python recognizer.py verify --weights %s --images FOLDER_OF_OTHER_PEOPLE", run)
