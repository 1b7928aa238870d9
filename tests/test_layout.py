"""The house: which room may import which, which packages it needs, that it says its job, that every option is read."""
import ast
import functools
import sys
from pathlib import Path

import pytest

from config import get_config, LEGACY

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = "engine", "cli", "datasets", "morphable", "recognition", "games", "synthesis", "evaluation"
ROOMS = (                                       # within packages
    "datasets/export", "datasets/packed", "engine/cluster", "morphable/fitting", "morphable/makehuman",
    "recognition/conversion", "evaluation/choosing", "evaluation/distances", "evaluation/labels", "evaluation/people",
    "evaluation/report", "evaluation/usefulness")
FILES = {".".join(path.relative_to(ROOT).with_suffix("").parts): path
         for folder in ("", *PACKAGES, *ROOMS) for path in sorted((ROOT / folder).glob("*.py"))}
MODULES = [name for name in FILES if not name.endswith("__init__")]
# Where a room stands: a file, or a package with all files in it. A room imports only from lower floors, and a package
# from itself.
FLOORS = {
    "utils": 0, "losses": 0,
    "engine": 1, "cli": 1, "datasets": 1,
    "models": 2, "data_loader": 2, "synthesis": 2, "morphable": 2,
    "recognition": 3, "games": 3,
    "config": 4, "footprint": 4, "graph": 4, "evaluation": 4,
    "preflight": 5, "trainer": 5,
    "main": 6, "gen_syn_latent": 6, "align": 6, "recognizer": 6, "evaluate": 6}
# What a room may import, where that is less than all lower floors.
ONLY = {"morphable": {"utils", "datasets"}}
# Files that load no TensorFlow, by themselves or by what they import: what a command needs before it may take seconds.
WITHOUT_TENSORFLOW = (
    "utils", "cli.options", "cli.program", "cli.outputs", "cli.processes", "datasets.image_sets", "datasets.scores",
    "datasets.writer", "cli.places", "engine.runs", "engine.weight_files", "engine.checkpoint_index",
    "engine.curves", "engine.startup", "engine.cluster.addresses", "engine.cluster.slurm", "engine.cluster.replicas",
    "cli.cluster_options", "morphable.scene", "morphable.identities", "morphable.drawn_photos",
    "morphable.fitting.photo_fits", "morphable.fitting.preview",
    "recognition.registry", "recognition.input_size", "recognition.recognizer_options", "recognition.standard_sets",
    "recognition.pyeer", "recognition.schedule", "recognition.dlib_file", "recognition.alignment",
    "recognition.labelled_data", "recognition.verification", "recognition.conversion.published",
    "recognition.known_people",
    "cli.cautions", "config", "footprint", "engine.memory", "engine.endings", "cli.interrupts", "datasets.sources",
    "morphable.mat_files", "preflight", "synthesis.products",
    "cli.shards", "datasets.shards", "datasets.alignment_table",
    "evaluation.judge_command", "evaluation.embedding_shards",
    "evaluation.choosing.filter_command", "evaluation.distances.realism",
    "evaluation.labels.balance", "evaluation.people.identity", "evaluation.people.leakage",
    "evaluation.report.charts", "evaluation.report.illustrations", "evaluation.report.report",
    "evaluation.report.sheets", "evaluation.usefulness.utility",
    "main",
    "gen_syn_latent", "align", "recognizer", "evaluate")
# Third-party packages of a room; the most exact name counts.
NEEDS = {
    "utils": {"tqdm"}, "losses": {"tensorflow"},
    "engine": {"tensorflow", "tqdm"}, "engine.checkpoints": {"numpy", "tensorflow"}, "engine.runs": set(),
    "engine.endings": set(), "engine.checkpoint_index": set(), "engine.weight_files": set(), "engine.memory": set(),
    "engine.cluster.addresses": set(), "engine.cluster.slurm": set(), "engine.cluster.replicas": set(),
    "engine.cluster.liveness": {"grpc"}, "engine.cluster.team": {"numpy", "tensorflow"},       # TensorFlow brings grpc
    "engine.charts": {"numpy", "PIL"}, "engine.curves": {"numpy"},
    "cli": {"tqdm"}, "datasets": {"numpy", "PIL"}, "datasets.detection": {"numpy", "PIL", "mtcnn", "tensorflow"},
    "models": {"tensorflow"}, "data_loader": {"numpy", "tensorflow"},
    "morphable": {"numpy", "scipy"}, "morphable.model_files": {"numpy", "scipy", "h5py"},   # TensorFlow brings h5py
    "morphable.drawn_photos": {"numpy", "scipy", "PIL"}, "morphable.makehuman.photos": {"numpy", "scipy", "PIL"},
    **{f"morphable.fitting.{name}": {"numpy", "scipy", "PIL"} for name in (
        "appearance", "correspondences", "criteria", "preview")},
    "morphable.fitting.landmark_net": {"numpy", "PIL", "ai_edge_litert", "tensorflow"},
    "recognition": {"numpy", "tensorflow", "tqdm", "google"},           # google: protobuf, TensorFlow's own
    "recognition.registry": set(), "recognition.input_size": set(), "recognition.recognizer_options": set(),
    "recognition.schedule": set(), "recognition.known_people": set(),
    "recognition.labelled_data": {"numpy", "h5py"},
    "recognition.verification": {"numpy"}, "recognition.standard_sets": {"numpy"}, "recognition.pyeer": {"numpy"},
    "recognition.alignment": {"numpy"}, "recognition.dlib_file": {"numpy"},
    **{f"recognition.conversion.{name}": {"numpy"} for name in (
        "published", "torch_weights", "iresnet_weights", "onnx_file", "onnx_iresnet")},
    "evaluation": {"numpy", "scipy"}, "evaluation.labels.face_points": {"numpy", "PIL"},
    "evaluation.figures": set(), "evaluation.judge_command": set(), "evaluation.bootstrap": {"numpy"},
    "evaluation.embedding": {"numpy", "tensorflow"}, "evaluation.usefulness.utility": {"numpy", "tqdm"},
    "evaluation.distances.pixels": {"numpy", "PIL"},
    "evaluation.report.charts": {"numpy", "matplotlib"}, "evaluation.report.pictures": {"numpy", "PIL"},
    **{f"evaluation.report.{name}": set() for name in (
        "report", "page", "markup", "standing", "datasheet", "verdicts", "console", "numbers", "facts")},
    "config": set(), "footprint": set(), "graph": {"tensorflow"}, "synthesis": {"numpy"},
    "synthesis.graphs": {"tensorflow"}, "games": {"tensorflow"}, "preflight": set(),
    "trainer": {"numpy", "tensorflow", "tqdm"},
    "main": set(), "gen_syn_latent": set(), "align": {"numpy", "PIL"}, "recognizer": {"numpy"},
    "evaluate": {"numpy"}}
QUIET = ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign       # statements that change nothing
CHECKED_IN_CONFIG = {"syn_scale_size"}      # it has to equal input_scale_size, which is what the others read


@functools.cache
def parse(path):
    """The syntax tree of a file."""
    return ast.parse(path.read_text())


@functools.cache
def imports(path):
    """The full names of the modules that a file imports, also within functions; `from a import b` counts as a.b too."""
    return imports_of(parse(path))


def imports_of(tree):
    """The same of a syntax tree."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import of {node.module}"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def room(module):
    """The entry of FLOORS that a module of ours belongs to."""
    return module if module in FLOORS else module.partition(".")[0]


def test_packages_are_empty():
    """So that a command can check its input before TensorFlow loads."""
    assert {name: FILES[name].read_text() for name in FILES if name.endswith("__init__")} == {
        f"{package.replace('/', '.')}.__init__": "" for package in (*PACKAGES, *ROOMS)}


@pytest.mark.parametrize("name", MODULES)
def test_a_file_imports_only_from_lower_floors(name):
    assert room(name) in FLOORS, f"give {name} a floor in tests/test_layout.py"
    ours = imports(FILES[name]) & FILES.keys() - {name}
    others = {other for other in ours if room(other) != room(name)}
    assert not {other for other in others if FLOORS[room(other)] >= FLOORS[room(name)]}
    assert {room(other) for other in others} <= ONLY.get(room(name), FLOORS.keys())


@pytest.mark.parametrize("name", MODULES)
def test_a_file_imports_only_its_packages(name):
    first_parts = {module.partition(".")[0] for module in imports(FILES[name])}
    foreign = first_parts - {room.partition(".")[0] for room in FLOORS} - sys.stdlib_module_names
    assert foreign <= NEEDS.get(name, NEEDS.get(room(name)))


@pytest.mark.parametrize("name", MODULES)
def test_a_file_says_its_job_in_its_first_line(name):
    text = FILES[name].read_text()
    first = ast.get_docstring(parse(FILES[name])).splitlines()[0]
    assert text.startswith('"""') and len(first) > 30
    assert text.count("\n") <= 460


@functools.cache
def imports_at_the_top(name):
    """The full names of the modules that the top level of a file imports."""
    return imports_of(ast.Module([node for node in parse(FILES[name]).body
                                  if isinstance(node, (ast.Import, ast.ImportFrom))], []))


def loaded_by(name):
    """All modules that importing `name` loads: those at the top level of a file, and what they import in turn."""
    found, waiting = set(), [name]
    while waiting:
        module = waiting.pop()
        if module in found:
            continue
        found.add(module)
        if module in FILES:
            waiting += imports_at_the_top(module)
    return found


@pytest.mark.parametrize("name", WITHOUT_TENSORFLOW)
def test_a_file_loads_no_tensorflow(name):
    assert not {module for module in loaded_by(name) if module.partition(".")[0] == "tensorflow"}


@pytest.mark.parametrize("name", MODULES)
def test_importing_a_file_changes_nothing(name):
    """At its top level, a file only imports, defines and assigns to names of its own.

    A program may begin with what it does before its imports, and end with what it does.
    """
    tree = parse(FILES[name])
    own = {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    for node in tree.body[1:]:
        if isinstance(node, ast.If):
            assert ast.unparse(node.test) == "__name__ == '__main__'" and node in (tree.body[1], tree.body[-1])
            continue
        assert isinstance(node, QUIET), ast.unparse(node)
        for target in node.targets if isinstance(node, ast.Assign) else ():
            names = target.elts if isinstance(target, ast.Tuple) else [target]
            assert all(isinstance(each, ast.Name) or (isinstance(each, ast.Attribute) and each.value.id in own)
                       for each in names), ast.unparse(node)


def test_what_a_program_begins_with_loads_next_to_nothing():
    """Until it is loaded, Ctrl-C ends in a traceback."""
    assert loaded_by("cli.interrupts") == {"cli.interrupts", "atexit", "functools", "os", "signal", "sys"}
    for name in (name for name in MODULES if FLOORS[room(name)] == 6):
        first = parse(FILES[name]).body[1]
        assert isinstance(first, ast.If) and imports_of(first) == {"cli", "cli.interrupts"}


def test_the_root_shows_the_commands_and_the_method():
    at_the_root = {name for name in MODULES if "." not in name}
    assert at_the_root == {room for room in FLOORS if room not in PACKAGES}
    assert sum(FLOORS[name] == 6 for name in at_the_root) == 5


def options_read(path):
    """The attributes that a file reads of a configuration: of what is called config, in engine/ also options."""
    owners = {node: getattr(node.value, "id", getattr(node.value, "attr", None))
              for node in ast.walk(parse(path)) if isinstance(node, ast.Attribute)}
    of_tensorflow = {"experimental", "set_visible_devices", "threading", "list_physical_devices"}        # tf.config's
    names = {"config", "options"} if "engine" in path.relative_to(ROOT).parts else {"config"}
    return {node.attr for node, owner in owners.items() if owner in names} - of_tensorflow


def test_every_option_is_read_outside_config_and_every_one_that_is_read_exists():
    options = set(vars(get_config(["--method_c", "none"])[0]))
    read = set().union(*(options_read(path) for name, path in FILES.items() if name != "config"))
    assert options - read == CHECKED_IN_CONFIG | {"preset"} and read <= options
    assert not options & set(LEGACY)
