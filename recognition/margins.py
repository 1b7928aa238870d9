"""Heads of the ArcFace family: cosines of embeddings with a direction for each identity, less a margin, times a scale.

N identities have a kernel [E, N], whose columns count by their directions alone. An example's own identity has to beat
the others by a margin: ArcFace (Deng et al. 2019) adds it to the angle, and CosFace (Wang et al. 2018) takes it from
the cosine. AdaFace (Kim et al. 2022) does both, by the length of the bottleneck, which tells an image's quality.
All is computed in float32, whatever the network computes in.
"""
import math
from typing import NamedTuple

import tensorflow as tf

from engine import layers

tf1 = tf.compat.v1

LOSSES = "arcface", "cosface", "adaface"
SPREAD = .333                   # AdaFace's h: a length by so many deviations above the mean has the largest margin
RATE = .01                      # AdaFace's t_alpha: share of a batch in the running mean and deviation of lengths
FIRST_MEAN, FIRST_DEVIATION = 20., 100.         # of lengths, before the first batch, as in AdaFace's code
SHORTEST, LONGEST = .001, 100.  # lengths beyond count as these, as in AdaFace's code
_EPSILON = 1e-3                 # AdaFace keeps cosines and angles so far from their ends
_LEAST_SINE = 1e-3              # ArcFace's gradient is divided by the sine, which is 0 for a perfect embedding


class Margin(NamedTuple):
    """A loss of LOSSES with its margin (of an angle in radians, or of a cosine) and its scale."""
    loss: str
    margin: float
    scale: float


class Scores(NamedTuple):
    """What a head says of B examples."""
    cosines: tf.Tensor          # [B, N], without a margin: the largest one tells the identity
    logits: tf.Tensor           # [B, N], for the cross-entropy
    state: list                 # (variable of running statistics, its next value)


def score(bottleneck, labels, classes, how, scope="Logits", whole=None):
    """Score the `bottleneck` [B, E] of examples with `labels` [B] for each of N = `classes` identities -> Scores.

    `how` is a Margin. The variables are under `scope`: the kernel `weights` [E, N], and for AdaFace the running
    `length_mean` and `length_deviation`, in which this batch already counts. `whole` are the bottlenecks of a batch of
    which the examples are a part; by default, they are all.
    """
    with tf1.variable_scope(scope, reuse=tf1.AUTO_REUSE):
        kernel = layers.get_variable("weights", [bottleneck.shape[-1], classes], _FIRST_KERNELS[how.loss])
        cosines = tf.matmul(tf.nn.l2_normalize(bottleneck, 1, 1e-10), tf.nn.l2_normalize(kernel, 0))
        own = tf.one_hot(labels, classes)
        if how.loss == "adaface":
            return _adaface(bottleneck, cosines, own, how, bottleneck if whole is None else whole)
    change = {"arcface": _arcface, "cosface": lambda target, margin: target - margin}[how.loss]
    return Scores(cosines, how.scale * _with_target(cosines, own, lambda target: change(target, how.margin)), [])


def _with_target(cosines, own, change):
    """Apply `change` to the cosine of each example's own identity; `own` [B, N] is 1 there, and 0 elsewhere."""
    target = tf.reduce_sum(own * cosines, 1)
    return cosines + own * (change(target) - target)[:, None]


def _arcface(target, margin):
    """Compute cos(angle + margin) of cosines `target` [B]: InsightFace's formula without "easy margin".

    Where the sum is beyond pi, and its cosine would rise again, it is target - margin sin(margin), which falls on.
    """
    sine = tf.sqrt(tf.maximum(1. - tf.square(target), _LEAST_SINE ** 2))
    return tf.where(target > math.cos(math.pi - margin), target * math.cos(margin) - sine * math.sin(margin),
                    target - margin * math.sin(margin))


def _adaface(bottleneck, cosines, own, how, whole):
    """Compute the Scores of AdaFace in the scope of its head; `own` is that of `_with_target`.

    A length one mean deviation / SPREAD above the running mean gets an angle of -margin and a difference of
    2 margin; one as far below, an angle of +margin and no difference. The lengths get no gradient.
    """
    lengths = _lengths(bottleneck)
    of_all = lengths if whole is bottleneck else _lengths(whole)
    mean = layers.get_variable("length_mean", [], tf1.constant_initializer(FIRST_MEAN), trainable=False)
    deviation = layers.get_variable("length_deviation", [], tf1.constant_initializer(FIRST_DEVIATION), trainable=False)
    now = tf.reduce_mean(of_all)
    count = tf.cast(tf.size(of_all), tf.float32)
    spread = tf.sqrt(tf.reduce_sum(tf.square(of_all - now)) / (count - 1))
    next_mean = RATE * now + (1 - RATE) * mean.value()
    next_deviation = RATE * spread + (1 - RATE) * deviation.value()
    quality = tf.clip_by_value(SPREAD * (lengths - next_mean) / (next_deviation + _EPSILON), -1., 1.)

    def change(target):
        angle = tf.clip_by_value(tf.acos(target) - how.margin * quality, _EPSILON, math.pi - _EPSILON)
        return tf.cos(angle) - how.margin * (1 + quality)

    inner = tf.clip_by_value(cosines, -1 + _EPSILON, 1 - _EPSILON)
    return Scores(cosines, how.scale * _with_target(inner, own, change),
                  [(mean, next_mean), (deviation, next_deviation)])


def _lengths(bottleneck):
    """Compute the lengths [B] of bottlenecks [B, E], within AdaFace's limits. They get no gradient."""
    return tf.stop_gradient(tf.clip_by_value(tf.norm(bottleneck, axis=1), SHORTEST, LONGEST))


def _unit_columns(shape, dtype=tf.float32, partition_info=None):
    """Make a first kernel whose columns have length 1, as AdaFace's code does."""
    return tf.nn.l2_normalize(tf1.random_uniform_initializer(-1., 1.)(shape, dtype), 0)


# How a kernel begins in the authors' code; its length decides how fast its directions turn.
_FIRST_KERNELS = {"arcface": tf1.random_normal_initializer(stddev=.01), "adaface": _unit_columns,
                  "cosface": tf1.random_normal_initializer(stddev=.01)}
