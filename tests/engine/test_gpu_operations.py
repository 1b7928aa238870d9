"""What a GPU would run: operations of a step have kernels for it, none of which is known not to be deterministic.

TensorFlow's wheel for CPUs lists the kernels of GPUs too. What these compute, benchmarks/gpu.py tells on a GPU alone.
"""
import pytest
import tensorflow as tf
from tensorflow.python.framework import op_def_registry

from benchmarks import gpu_data, gpu_placement
from benchmarks.gpu_cases import NARROW, NARROW_CLASSIFIER
from benchmarks.gpu_parts import Place
from benchmarks.step import build_trainer

tf1 = tf.compat.v1
TRAININGS = {
    "magnet": {}, "none": {"method_c": "none", "optimizer": "rmsprop"}, "center": {"method_c": "center"},
    "softmax": {"method_c": "softmax", "relax_c": True, "optimizer": "sgd", "weight_decay": 1e-4},
    "hinge": {"game": "hinge", "augment": "shift,cut,color,zoom,shade", "r1": 1., "d_scales": 2, "upsampling": "resize",
              "background": "noise", "lambda_f": 1., "lambda_m": 1., "lambda_e": 1., "grayscale": True,
              "loosen_step": 5, "chroma_weight": 2., "pixel_loss": "squared"},
    "bfloat16": {"precision": "bfloat16", "keep_probability": .8, "input_scale_size": 32}}
CLASSIFIERS = {
    "softmax": {"random_rotate": True, "center_loss_factor": 1., "keep_probability": .8},
    "arcface": {"loss": "arcface", "optimizer": "sgd", "random_erasing": .5, "augment_crop": .5,
                "augment_resolution": .5, "augment_color": .5, "precision": "bfloat16"},
    "adaface": {"loss": "adaface", "optimizer": "mom"}}
SMALL = {"model_def": "small", "image_size": 32, "embedding_size": 16, "batch_size": 4}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where the drawn images of these graphs lie."""
    return Place(False, str(tmp_path_factory.mktemp("drawn")))


def trainer_of(place, **options):
    """The Trainer for options of main.py, with narrow networks."""
    config = place.config({**NARROW, **NARROW_CLASSIFIER, "batch_size": 2, **options})
    return build_trainer(config, place.data(config))


def check(graph, fetches):
    """Assert that a GPU has kernels for all that the `fetches` need, and deterministic ones as far as that is known."""
    nodes = gpu_placement.needed_for(graph, fetches)
    assert len(nodes) > 100
    assert gpu_placement.without_gpu_kernel(nodes) == {}
    assert gpu_placement.not_deterministic(nodes) == {}


@pytest.mark.long
@pytest.mark.parametrize("name", TRAININGS)
def test_a_step_of_training(place, name):
    trainer = trainer_of(place, **TRAININGS[name])
    check(trainer.session.graph, [trainer.training.train_op, *(each.op for each in trainer.training.losses.values())])
    trainer.close()


@pytest.mark.long
@pytest.mark.parametrize("game", ["began", "hinge"])
def test_synthesis(place, game):
    trainer = trainer_of(place, generate_dataset=True, game=game, background="noise")
    graph = trainer.synthesis
    assert len(graph.scores) == 3
    check(trainer.session.graph, [tensor.op for tensor in [graph.photos, *graph.scores]])
    trainer.close()


@pytest.mark.long
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_step_of_a_classifier_s_training(place, name):
    trainer = gpu_data.classifier_training(place, {**SMALL, **CLASSIFIERS[name]})
    check(trainer.session.graph, [trainer.graph.train_op])
    trainer.close()


# Whether the checks can fail

def operations(build):
    """The NodeDefs that what `build()` makes needs."""
    with tf.Graph().as_default() as graph:
        return gpu_placement.needed_for(graph, [build().op])


def upscaled_gradient():
    x = tf1.placeholder(tf.float32, [1, 4, 4, 1])
    return tf1.gradients(tf1.image.resize_nearest_neighbor(x, [8, 8]), x)[0]


def frozen_gradient():
    x = tf1.placeholder(tf.float32, [1, 4, 4, 1])
    ones = tf.ones([1])
    return tf1.gradients(tf1.nn.fused_batch_norm(x, ones, ones, ones, ones, is_training=False)[0], x)[0]


def training_gradient():
    x = tf1.placeholder(tf.float32, [1, 4, 4, 1])
    return tf1.gradients(tf1.nn.fused_batch_norm(x, tf.ones([1]), tf.ones([1]))[0], x)[0]


def in_a_loop():
    boxes, box_of = tf.constant([[0., 0, 1, 1]]), tf.zeros([1], tf.int32)

    def body(x):
        image = tf.reshape(x, [1, 2, 2, 1])
        return tf1.gradients(tf.image.crop_and_resize(image, boxes, box_of, [2, 2]), image)[0]
    return tf.map_fn(body, tf1.placeholder(tf.float32, [3, 4]))


@pytest.mark.parametrize("build, found", [
    (upscaled_gradient, {"ResizeNearestNeighborGrad"}), (frozen_gradient, {"FusedBatchNormGradV3"}),
    (training_gradient, set()), (in_a_loop, {"CropAndResizeGradImage", "CropAndResizeGradBoxes"}),
    (lambda: tf.math.bincount(tf1.placeholder(tf.int32, [3]), minlength=3), {"DenseBincount"})])
def test_what_is_not_deterministic_is_found(build, found):
    assert gpu_placement.not_deterministic(operations(build)).keys() == found


def test_what_has_no_kernel_for_a_gpu_is_found():
    assert gpu_placement.without_gpu_kernel(operations(
        lambda: tf.io.decode_jpeg(tf1.placeholder(tf.string, [])))).keys() == {"DecodeJpeg"}


def test_the_listed_operations_are_tensorflow_s():
    listed = gpu_placement.NOT_DETERMINISTIC | gpu_placement.OF_BATCH_NORM
    assert {name for name in listed if op_def_registry.get(name) is None} == set()
