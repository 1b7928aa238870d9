"""--precision: what it switches on a GPU, and that float32 and tf32 have the same digits on a CPU."""
import numpy as np
import pytest
import tensorflow as tf

import recognizer
from config import get_config
from conftest import NARROW, words
from drawn import write_dataset
from engine import startup
from engine.layers import type_of
from graph import Networks

tf1 = tf.compat.v1


@pytest.fixture(autouse=True)
def as_before():
    """TF32 is off after a test, as it is in all others."""
    yield
    startup.start()


@pytest.mark.parametrize("precision, allowed, computed", [
    ("float32", False, tf.float32), ("tf32", True, tf.float32), ("bfloat16", False, tf.bfloat16)])
def test_a_precision_tells_whether_a_gpu_may_round_and_in_what_convolutions_compute(precision, allowed, computed):
    startup.start(precision=precision)
    assert tf.config.experimental.tensor_float_32_execution_enabled() is allowed
    assert type_of(precision) == computed


def test_tensorflow_would_round_if_it_were_not_told_not_to():
    """Else float32 needs no switch. A start without a precision does not round either."""
    tf.config.experimental.enable_tensor_float_32_execution(True)
    startup.start()
    assert not tf.config.experimental.tensor_float_32_execution_enabled()


def photos(precision):
    """The photos that G makes at a precision, on a CPU, of images that are always the same."""
    startup.start(precision=precision)
    config, _ = get_config(words(**NARROW, method_c="none", precision=precision))
    with tf.Graph().as_default(), tf1.Session() as session:
        tf1.set_random_seed(1)
        made = Networks(config).G(tf.constant(np.random.default_rng(1).uniform(-1, 1, [2, 16, 16, 3]), tf.float32))
        session.run(tf1.global_variables_initializer())
        return session.run(made).tobytes()


def test_on_a_cpu_tf32_is_float32_to_the_last_bit():
    assert photos("tf32") == photos("float32") != photos("bfloat16")


@pytest.mark.parametrize("precision", ["float32", "tf32"])
def test_the_training_of_a_classifier_starts_with_its_precision(precision, tmp_path, monkeypatch):
    class Started(Exception):
        pass

    def start(precision):
        raise Started(precision)

    write_dataset(str(tmp_path), size=32)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(recognizer, "start", start)
    with pytest.raises(Started, match=precision):
        recognizer.main(["train", "--data_dir", ".", "--real", "real", "--model_def", "small", "--image_size", "32",
                         "--precision", precision])
