"""Make the weights that come with the program anew, from nothing: python weights/make.py

People are rendered and photos of other people drawn, the networks are trained on both, and judged. All commands have
fixed seeds, so that the same machine and versions give the same weights, bit for bit. It takes about an hour. What is
begun and not finished is gone on with. The folder weights/demo is written last:

    model.ckpt-STEPS.*    averaged weights of the four networks, as numbers of 16 bits
    params.json           what the networks are, how they were trained, and on what
    report.json           the judgement of photos made of people who were not trained with
    SHA256SUMS            digests of the others
"""
import hashlib
import json
import os
import shutil
import subprocess
import sys

PROJECT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

WORK, TARGET = "weights-demo", os.path.join("weights", "demo")     # what is made on the way, and what is left
DATA, LOGS, REPORT = (os.path.join(WORK, name) for name in ("data", "logs", "report"))
SEED_OF_OTHERS = 7                                  # of the people who are not trained with
COMMANDS = [
    ["gen_syn_latent.py", "people", "--preset", "cpu", "--n_id", "120", "--n_im", "8", "--output", f"{DATA}/syn"],
    ["gen_syn_latent.py", "drawn", "--preset", "cpu", "--photos", "1600", "--pairs", "400", "--output", DATA],
    ["gen_syn_latent.py", "people", "--preset", "cpu", "--n_id", "60", "--n_im", "8", "--seed", f"{SEED_OF_OTHERS}",
     "--output", f"{DATA}/others"]]
TRAIN = ["main.py", "--preset", "cpu", "--method_c", "none", "--data_dir", DATA, "--log_dir", LOGS, "--task", "demo"]
TRAINED_BY = ("batch_size", "max_step", "lr_update_step", "g_lr", "d_lr", "optimizer", "beta1", "beta2",
              "average_decay", "augment", "r1", "lambda_s", "lambda_p", "lambda_d", "lambda_f")
REMEMBERED = ("input_scale_size", "conv_hidden_num", "conv_hidden_num_res", "num_res_rep", "z_num", "grayscale",
              "upsampling", "game", "d_scales", "background", "dropout_keep", "method_c")     # what the networks are
# The same of an option that is younger than the weights. It is written only where it is not what config.FORMERLY says:
# so the weights that there are can be made again with the same params.json.
LATER = ("normalization", "d_layers")
# Options of the training that are younger, and what they are where they are not written.
TRAINED_BY_LATER = {"loosen_step": 0, "chroma_weight": 0, "lambda_m": 0, "lambda_e": 0, "pixel_loss": "absolute"}


def main(words):
    """Run the command with more options of main.py's training, such as --max_step. A bad one ends it at once."""
    import config
    config.get_config([*TRAIN[1:], *words])             # before an hour of work
    os.chdir(PROJECT)
    os.makedirs(DATA, exist_ok=True)
    for command in COMMANDS:
        run(*command)
    found = sorted(os.listdir(LOGS)) if os.path.isdir(LOGS) else []
    run(*TRAIN, *words, *(["--load_path", found[-1]] if found else []))
    folder = os.path.join(LOGS, sorted(os.listdir(LOGS))[-1])
    export(folder, [*COMMANDS, [*TRAIN, *words]])
    run("main.py", "--generate_dataset", "--pretrained_gen", "demo", "--data_dir", DATA, "--syn_dataset", "others",
        "--save_syn_dataset", "made")
    run("evaluate.py", "judge", f"{DATA}/made", "--photos", f"{DATA}/real", "--renderings", f"{DATA}/others",
        "--generator", folder, "--output", REPORT)
    with open(f"{REPORT}/report.json") as source, open(f"{TARGET}/report.json", "w") as target:
        target.write(source.read().replace(f"{PROJECT}{os.sep}", ""))           # no paths of this machine
    write_digests()


def run(program, *words):
    """Run a program of the project, and end where it fails."""
    print(program, *words, flush=True)
    status = subprocess.run([sys.executable, os.path.join(PROJECT, program), *words], check=False).returncode
    if status:
        sys.exit(status)


def export(folder, commands):
    """Write the averaged weights of the newest checkpoint of the run in `folder`, and their params.json."""
    import tensorflow as tf

    import config
    from engine import checkpoints, runs
    tf.compat.v1.disable_eager_execution()
    prefix, values = checkpoints.read_newest(folder, None)
    kept = {name: values[name + checkpoints.AVERAGE].astype("float16") for name in sorted(values)
            if name.startswith(("G_inf/", "G_inv/", "D_forw/", "D_back/")) and name + checkpoints.AVERAGE in values}
    shutil.rmtree(TARGET, ignore_errors=True)
    os.makedirs(TARGET)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        session.run(tf.raw_ops.SaveV2(prefix=os.path.join(TARGET, os.path.basename(prefix)), tensor_names=list(kept),
                                      shape_and_slices=[""] * len(kept), tensors=list(kept.values())))
    trained = runs.load_params(folder)
    words = [" ".join(command) for command in commands]
    later = {name: trained[name] for name in LATER if trained[name] != config.FORMERLY[name]}
    trained_later = {name: trained[name] for name, usual in TRAINED_BY_LATER.items() if trained[name] != usual}
    with open(os.path.join(TARGET, runs.PARAMS), "w") as file:
        json.dump({**{name: trained[name] for name in REMEMBERED}, **later, "random_seed": trained["random_seed"],
                   "commands": words, "versions": trained["versions"],
                   "training": {**{name: trained[name] for name in TRAINED_BY}, **trained_later}}, file, indent=1)
        file.write("\n")


def write_digests():
    """Write SHA256SUMS, which `sha256sum -c` reads."""
    lines = []
    for name in sorted(os.listdir(TARGET)):
        if name != "SHA256SUMS":
            with open(os.path.join(TARGET, name), "rb") as file:
                lines.append(f"{hashlib.sha256(file.read()).hexdigest()}  {name}\n")
    with open(os.path.join(TARGET, "SHA256SUMS"), "w") as file:
        file.writelines(lines)


if __name__ == "__main__":
    sys.path.insert(0, PROJECT)
    main(sys.argv[1:])
