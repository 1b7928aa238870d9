"""recognition.registry: sizes of input, windows of crops, how a checkpoint is recognised; all without TensorFlow."""
import subprocess
import sys
from types import SimpleNamespace

import pytest

from conftest import HERE, small_classifier
from recognition import input_size, networks, registry
from recognition.registry import Architecture, CLASSIFIERS

NAMES = tuple(CLASSIFIERS)


def test_every_network_has_facts():
    assert CLASSIFIERS.keys() == networks._BOTTLENECKS.keys()


def test_no_package_is_needed():
    """A command line asks before NumPy and TensorFlow load."""
    code = "import sys; import recognition.registry; print(sorted({'numpy', 'tensorflow'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], cwd=HERE.parent, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# Sizes of the input

@pytest.mark.parametrize("name, least, most", [("nn4", 65, 96), ("inception_resnet_v1", 75, None), ("small", 32, None),
                                               *((name, 32, None) for name in registry.STAGES)])
def test_image_sizes(name, least, most):
    refused = [least - 1] + ([most + 1] if most else [])
    for size in refused:
        problem = registry.image_size_problem(name, size)
        assert problem == f"--image_size {size}: must be {CLASSIFIERS[name].sizes} for --model_def {name}"
    assert all(registry.image_size_problem(name, size) is None for size in (least, most or 10 ** 4))
    assert CLASSIFIERS[name].sizes == (f"from {least} to {most}" if most else f"from {least} up")


def test_dlibs_network_has_one_size():
    assert [size for size in range(100, 200) if not registry.image_size_problem("dlib", size)] == [150]
    assert registry.image_size_problem("dlib", 96) == "--image_size 96: must be 150 for --model_def dlib"


def test_the_usual_sizes_are_valid():
    assert [CLASSIFIERS[name].usual for name in ("nn4", "inception_resnet_v1", "small")] == [96, 160, 160]
    assert {CLASSIFIERS[name].usual for name in registry.STAGES} == {112}
    assert not any(registry.image_size_problem(name, CLASSIFIERS[name].usual) for name in NAMES)


def test_help_names_every_size():
    assert registry.SIZES == ("from 65 to 96 for nn4, from 75 up for inception_resnet_v1, from 32 up for small, "
                              "iresnet18, iresnet34, iresnet50, ir_se50 and iresnet100, 150 for dlib")


# Windows of crops

def test_window_of():
    """96 of the paper's crops of 108, in proportion; all of a crop below 96."""
    windows = {16: 16, 64: 64, 92: 92, 95: 95, 96: 85, 108: 96, 128: 114, 180: 160}
    assert {size: input_size.window_of(size) for size in windows} == windows


def test_offsets_of():
    assert [input_size.offsets_of(size) for size in (16, 64, 92, 96, 108, 128)] == [1, 1, 1, 12, 13, 15]


def test_shifts_of():
    shifts = {108: (-6, 6), 128: (-7, 7), 96: (-5, 6), 36: (-2, 2), 64: (-4, 4)}
    assert {size: input_size.shifts_of(size) for size in shifts} == shifts


@pytest.mark.parametrize("size", [96, 97, 108, 128, 180])
def test_shifts_reach_every_offset_and_no_other(size):
    """From the central place, which `preprocess` takes by default."""
    least, most = input_size.shifts_of(size)
    central = (size - input_size.window_of(size)) // 2
    assert [central + least, central + most] == [0, input_size.offsets_of(size) - 1]


def test_crop_for():
    assert [input_size.crop_for(size) for size in (32, 64, 96, 160)] == [36, 72, 108, 180]
    assert all(input_size.window_of(input_size.crop_for(size)) == size for size in range(96, 300))


# Recognising a checkpoint

def shapes_of(scope="InceptionResnetV1", embedding_size=16):
    return {name: value.shape for name, value in small_classifier(scope, embedding_size).items()}


def test_small_is_recognised():
    assert registry.recognise(shapes_of()) == ("small", 16)
    assert registry.recognise(shapes_of("teacher", 8), "teacher") == ("small", 8)
    assert registry.recognise(shapes_of("teacher")) == registry.recognise({}) == (None, None)


@pytest.mark.parametrize("name", NAMES)
def test_each_network_has_a_layer_of_its_own(name):
    shapes = {f"a/{CLASSIFIERS[name].layer}/weights": [3, 3, 3, 32], "a/Bottleneck/weights": [192, 512]}
    assert registry.recognise(shapes, "a") == (name, 512)


def test_half_a_network_is_half_recognised():
    first, bottleneck = "InceptionResnetV1/Conv2d_1/weights", "InceptionResnetV1/Bottleneck/weights"
    assert registry.recognise({first: (3, 3, 3, 32)}) == ("small", None)
    assert registry.recognise({bottleneck: (192, 16)}) == (None, 16)


# Against the options

@pytest.mark.parametrize("name", NAMES)
def test_only_dlibs_network_is_used_as_it_is(name):
    assert bool(registry.frozen_problem(name)) == (name == "dlib")
    assert registry.standardization_problem(name, "auto") is None
    assert bool(registry.standardization_problem(name, "fixed")) == (name == "dlib")


def config(**others):
    given = dict(pretrained_rec="RUN", model_def="small", embedding_size=16, facenet_scope="InceptionResnetV1")
    return SimpleNamespace(**{**given, **others})


def test_the_network_asked_for_is_no_problem():
    assert registry.architecture_problem(Architecture("small", 16), config()) is None


@pytest.mark.parametrize("others", [dict(model_def="nn4"), dict(embedding_size=128)])
def test_another_network_is_named_with_the_options_to_give(others):
    problem = registry.architecture_problem(Architecture("small", 16), config(**others))
    assert problem == "--pretrained_rec RUN: holds another network; give --model_def small --embedding_size 16"


def test_no_network_names_the_scope():
    problem = registry.architecture_problem(None, config(facenet_scope="teacher"))
    assert problem.startswith("--pretrained_rec RUN: no classifier under teacher/")
