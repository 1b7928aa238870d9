"""Bad input: exit status 2 and one line that says what, where and what to do, before any long work; odd images work."""
import resource
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import NAMES, NARROW, Program, run, SMALL, succeed, tree, write_checkpoint


def copied(drawn, folder):
    shutil.copytree(drawn, folder)
    return folder


def no_folder(data):
    shutil.rmtree(data / "real")


def empty_folder(data):
    no_folder(data)
    (data / "real").mkdir()


def no_identities(data):
    shutil.rmtree(data / "syn")
    (data / "syn").mkdir()
    Image.new("RGB", (16, 16)).save(data / "syn" / "1.png")


def one_identity(data):
    for folder in sorted((data / "syn").iterdir())[1:]:
        shutil.rmtree(folder)


def no_partners(data):
    shutil.rmtree(data / "paired" / "3dmm")


def all_broken(data):
    for path in (data / "paired" / "3dmm").iterdir():
        path.write_bytes(path.read_bytes()[:100])


BAD_DATA = [                # what happens to the data, further options, what the line names
    (no_folder, {}, ["--dataset", "real"]),
    (empty_folder, {}, ["real", "no images"]),
    (no_identities, {}, ["syn", "no identities"]),
    (one_identity, dict(method_c="magnet", pretrained_rec="unused"), ["one identity", "--method_c none"]),
    (no_partners, {}, ["paired", "no pairs", "3dmm"]),
    (all_broken, {}, ["paired", "decoded"]),
]
BAD_OPTIONS = [             # options, what the line names
    (dict(data_dir="nowhere"), ["--dataset", "nowhere"]),
    (dict(input_scale_size=50), ["--input_scale_size 50", "multiple of 4", "52"]),
    (dict(input_scale_size=12), ["--input_scale_size 12"]),
    (dict(batchsize=3), ["--batchsize", "--batch_size"]),
    (dict(g_lr="fast"), ["--g_lr", "fast"]),
    (dict(gamma="nan"), ["--gamma", "nan"]),
    (dict(batch_size=0), ["--batch_size", "0"]),
    (dict(use_gpu="maybe"), ["--use_gpu", "maybe"]),
    (dict(log_dir="file"), ["--log_dir file"]),
    (dict(load_path="nowhere"), ["--load_path nowhere"]),
    (dict(cont="gen"), ["--cont"]),
    (dict(pretrained_gen="nowhere/model.ckpt"), ["--pretrained_gen nowhere/model.ckpt"]),
    (dict(method_c="magnet"), ["--pretrained_rec", "--method_c none", "FaceNet"]),
    (dict(method_c="softmax", pretrained_rec="nowhere/model"), ["--pretrained_rec nowhere/model", "--method_c none"]),
    (dict(generate_dataset=True), ["no weights", "--pretrained_gen"]),
    (dict(fit_dataset=True), ["no weights", "--pretrained_gen"]),
    (dict(is_train=False), ["no weights", "--pretrained_gen"]),
    (dict(is_train=False, test_data_path="nowhere"), ["--test_data_path", "nowhere"]),
    (dict(generate_dataset=True, save_syn_dataset="/dev/null/x", pretrained_gen="run"), ["--save_syn_dataset"]),
]


def refused(result, *named):
    """Assert that the program said one line that names `named` and left with status 2."""
    assert result.status == 2, result.err[-2000:]
    assert len(result.errors) == 1 and result.errors[0].startswith("main.py: error: "), result.err[-2000:]
    assert "Traceback" not in result.err
    for word in named:
        assert word in result.errors[0]


def before_long_work(result):
    """Assert that TensorFlow was not even loaded."""
    assert "absl::InitializeLog" not in result.err and "oneDNN" not in result.err


@pytest.mark.parametrize("spoil, options, named", BAD_DATA, ids=[row[0].__name__ for row in BAD_DATA])
def test_bad_data(drawn, tmp_path, spoil, options, named):
    data = copied(drawn, tmp_path / "data")
    spoil(data)
    before = tree(data)
    result = run(cwd=tmp_path, **{**NAMES, **NARROW, "data_dir": "data", "method_c": "none", **options})
    refused(result, *named)
    before_long_work(result)
    assert tree(data) == before and not (tmp_path / "logs").exists()


@pytest.mark.parametrize("options, named", BAD_OPTIONS, ids=["-".join(row[0]) for row in BAD_OPTIONS])
def test_bad_options(drawn, tmp_path, options, named):
    (tmp_path / "file").write_text("not a folder")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.ckpt-1.index").write_text("")        # never read: the folder's mistake is found first
    (tmp_path / "data").symlink_to(drawn)
    result = run(cwd=tmp_path, **{**NAMES, **NARROW, "data_dir": "data", "method_c": "none", **options})
    refused(result, *named)
    before_long_work(result)
    assert not (tmp_path / "logs").exists()


@pytest.mark.slow
def test_other_widths_are_named_before_long_work(drawn, trained, tmp_path):
    options = {**NAMES, **NARROW, "data_dir": drawn, "load_path": trained.run_dir, "save_syn_dataset": tmp_path / "out"}
    for option in ("conv_hidden_num_res", "num_res_rep", "conv_hidden_num", "z_num"):
        result = run(generate_dataset=True, **{**options, option: 3})
        refused(result, option, "given: 3")
        before_long_work(result)


@pytest.mark.slow
def test_a_checkpoint_of_other_networks_is_refused(drawn, trained, tmp_path):
    """Without params.json beside it, the variables themselves tell."""
    shutil.copytree(trained.run_dir, tmp_path / "run")
    (tmp_path / "run" / "params.json").unlink()
    options = {**NAMES, **NARROW, "data_dir": drawn, "generate_dataset": True, "save_syn_dataset": tmp_path / "out"}
    refused(run(pretrained_gen=tmp_path / "run", **{**options, "conv_hidden_num_res": 3}), "G_inf/c7s1_32/weights", "[7, 7, 3, 3]")
    alien = write_checkpoint(tmp_path / "alien-1", {"a": np.zeros(3, np.float32)})
    refused(run(pretrained_gen=alien, **options), "alien-1", "G_inf/", "not there")
    refused(run(pretrained_gen=trained.run_dir, pretrained_rec=alien, **SMALL, **options), "--pretrained_rec", "alien-1")
    training = {**NAMES, **NARROW, "data_dir": drawn, "train_generator": True, "log_dir": tmp_path / "logs"}
    refused(run(pretrained_gen=alien, method_c="none", **training), "alien-1", "G_inf/", "not there")
    assert not list((tmp_path / "logs").iterdir())              # a training that could not begin leaves no run
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def odd_images(data):
    """Replace some images by ones of every odd kind that has to work, and break two."""
    real = sorted((data / "real").rglob("*.jpg"))
    rgba = np.dstack([np.full([16, 16, 3], 200, np.uint8), np.arange(256, dtype=np.uint8).reshape(16, 16)])
    kinds = [Image.fromarray(rgba), Image.fromarray(np.arange(256, dtype=np.uint16).reshape(16, 16) * 256),
             Image.new("L", (16, 16), 99), Image.new("P", (20, 12), 3), Image.new("LA", (16, 16), (50, 60))]
    for path, kind in zip(real, kinds):
        path.unlink()
        kind.save(path.with_suffix(".png"))
    real[5].unlink()
    Image.new("CMYK", (16, 16), (10, 20, 30, 40)).save(real[5])
    real[6].write_bytes(real[6].read_bytes()[:200])
    rendering = next((data / "syn").rglob("*.jpg"))
    rendering.write_bytes(b"no image")
    return real[6], rendering


@pytest.mark.slow
def test_odd_images_work_and_broken_ones_are_named_and_skipped(drawn, tmp_path):
    data = copied(drawn, tmp_path / "data")
    broken = odd_images(data)
    result = succeed(**NAMES, **NARROW, data_dir=data, method_c="none", batch_size=10, max_step=2, log_dir=tmp_path / "logs")
    for path in broken:
        assert sum("skipped" in line and str(path.relative_to(data)) in line for line in result.err.splitlines()) == 1, result.err[-3000:]


def limit_files(size):
    """For a child: no file may grow beyond `size` bytes, which is how a full disk looks to it."""
    def apply():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    return apply


@pytest.mark.slow
def test_disk_full_while_saving_a_checkpoint(drawn, tmp_path):
    """The events file and the sheets fit, the checkpoint does not."""
    options = {**NAMES, **NARROW, "conv_hidden_num": 128, "data_dir": drawn, "method_c": "none", "batch_size": 1,
               "max_step": 1, "log_dir": tmp_path / "logs"}
    result = Program(preexec_fn=limit_files(20_000_000), **options).finish()
    refused(result, "model.ckpt-1", "can't write the checkpoint")
    run_dir = next(Path(tmp_path / "logs").iterdir())
    assert not [p for p in run_dir.iterdir() if "model.ckpt" in p.name]


@pytest.mark.slow
def test_disk_full_while_writing_images(drawn, trained, tmp_path):
    out = tmp_path / "out"
    options = {**NAMES, **NARROW, "data_dir": drawn, "generate_dataset": True, "save_syn_dataset": out,
               "load_path": trained.run_dir}
    result = Program(preexec_fn=limit_files(300), **options).finish()
    refused(result, "can't write the image")
    assert not [path for path in out.rglob("*") if path.is_file()]
