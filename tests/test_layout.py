"""The house: what each file may import, that it says its job, and that every option is read somewhere."""
import ast
import sys
from pathlib import Path

import pytest

from config import LEGACY, get_config

ROOT = Path(__file__).resolve().parent.parent
FILES = {path.stem: path for path in sorted(ROOT.glob("*.py"))}
FLOORS = {
    "config": 0, "utils": 0, "layers": 0, "losses": 0, "backward": 0, "profiling": 0,
    "face_model": 0, "latents": 0, "renderer": 0, "crop": 0, "builtin_head": 0,
    "models": 1, "facenet": 1, "data_loader": 1, "checkpoints": 1, "dataset_writer": 1, "preflight": 1,
    "model_files": 1, "builtin_texture": 1, "commandline": 1, "labelled_data": 1, "verification": 1, "plots": 1,
    "torch_weights": 1,
    "graph": 2, "session": 2, "pretrained": 2, "builtin_model": 2, "processes": 2, "evaluate": 2,
    "trainer": 3, "align": 3, "gen_syn_latent": 3, "embedder": 3, "main": 4, "drawn_photos": 4, "classifier_training": 4,
    "recognizer": 5}
# Packages beyond the standard library; the files that are not named may import any of those that the project needs.
PACKAGES = {
    "config": set(), "utils": {"numpy", "PIL"}, "layers": {"tensorflow"}, "losses": {"tensorflow"},
    "backward": {"tensorflow"}, "profiling": {"tensorflow"},
    "face_model": {"numpy", "scipy"}, "renderer": {"numpy", "scipy"}, "latents": {"numpy", "scipy"},
    "crop": {"numpy", "PIL"}, "builtin_head": {"numpy", "scipy"}, "builtin_texture": {"numpy", "scipy"},
    "builtin_model": {"numpy", "scipy"}, "model_files": {"numpy", "scipy", "h5py"},     # TensorFlow brings h5py
    "commandline": {"tqdm"}, "processes": {"tqdm"}, "labelled_data": {"numpy", "h5py"}, "verification": {"numpy"},
    "plots": {"numpy", "PIL"}, "torch_weights": {"numpy"},
    "pretrained": {"numpy", "tensorflow", "google"},            # google: protobuf, TensorFlow's own
    "align": {"numpy", "PIL", "tensorflow", "mtcnn"},
    "models": {"tensorflow"}, "facenet": {"tensorflow"}, "preflight": set(), "main": set()}
ANY = {"numpy", "PIL", "scipy", "tensorflow", "tqdm"}
CHECKED_IN_CONFIG = {"syn_scale_size"}      # it has to equal input_scale_size, which is what the others read
READ_BY_NAME = {"dataset", "syn_dataset", "dataset_3dmm"}       # by preflight.py


def imports(path):
    """The first part of every module's name that a file imports, also within functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("name", FILES)
def test_a_file_imports_only_from_lower_floors(name):
    assert name in FLOORS, f"give {name}.py a floor in tests/test_layout.py"
    ours = imports(FILES[name]) & FLOORS.keys()
    assert {other for other in ours if FLOORS[other] >= FLOORS[name]} == set()
    assert ours <= FILES.keys()


@pytest.mark.parametrize("name", FILES)
def test_a_file_imports_only_its_packages(name):
    foreign = imports(FILES[name]) - FLOORS.keys() - sys.stdlib_module_names
    assert foreign <= PACKAGES.get(name, ANY)


@pytest.mark.parametrize("name", FILES)
def test_a_file_says_its_job_in_its_first_line(name):
    text = FILES[name].read_text()
    first = ast.get_docstring(ast.parse(text)).splitlines()[0]
    assert text.startswith('"""') and len(first) > 30
    assert text.count("\n") <= 450


def options_read(path):
    """The attributes that a file reads of a configuration: of what is called c or config, or ends in .config."""
    owners = {node: getattr(node.value, "id", getattr(node.value, "attr", None))
              for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
    of_tensorflow = {"experimental", "set_visible_devices", "threading"}        # tf.config's
    return {node.attr for node, owner in owners.items() if owner in ("c", "config")} - of_tensorflow


def test_every_option_is_read_outside_config_and_every_one_that_is_read_exists():
    options = set(vars(get_config(["--method_c", "none"])[0]))
    read = set().union(*(options_read(path) for name, path in FILES.items() if name != "config"))
    text = FILES["preflight"].read_text()
    assert all(f'"{option}"' in text for option in READ_BY_NAME)
    assert options - read == CHECKED_IN_CONFIG | READ_BY_NAME and read <= options
    assert not options & set(LEGACY)
