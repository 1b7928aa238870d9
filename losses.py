"""Loss terms, and schedules of learning rates and loss weights. No function creates a variable.

Symbols follow Gecer et al. 2018. Images are [B, S, S, 3], embeddings [B, E], centroids [N, E], and labels [B].
"""
from typing import NamedTuple

import tensorflow as tf

EDGE_MARGIN = .12                       # 15 of 255 levels: by how much a photo's edge may exceed its rendering's


def l1_per_example(first, second):
    """Compute the mean absolute difference of two batches of images, for each example -> [B]."""
    return tf.reduce_mean(tf.abs(first - second), axis=[1, 2, 3])


class GameTerms(NamedTuple):
    """The losses of a discriminator D and its generator G. In BEGAN's game, L is D's reconstruction error."""
    discriminator: tf.Tensor        # scalar, which D minimises. BEGAN: L(real) - k L(fake)
    generator: tf.Tensor            # scalar, which G minimises. BEGAN: L(fake)
    real: tf.Tensor                 # scalar: what D minimises on real images alone. BEGAN: L(real)
    balance: tf.Tensor              # scalar, which moves k. BEGAN: gamma L(real) - L(fake)
    fake_each: tf.Tensor            # [B], what G minimises, of each example


class Game(NamedTuple):
    """A discriminator's play on a batch: its GameTerms and their gradients."""
    terms: GameTerms
    by_fake: tf.Tensor              # of the generator's loss by the fake images; None in a graph without gradients
    by_variables: list              # of the discriminator's loss by each of its variables; None likewise
    fake_reconstruction: tf.Tensor = None           # [B, S, S, 3]; None where the discriminator makes none
    real_reconstruction: tf.Tensor = None


def began_terms(real, real_reconstruction, fake, fake_reconstruction, k, gamma):
    """Compute the GameTerms of images and their reconstructions (Berthelot et al. 2017, sec. 3.4)."""
    real_loss = tf.reduce_mean(l1_per_example(real_reconstruction, real))
    fake_each = l1_per_example(fake_reconstruction, fake)
    fake_loss = tf.reduce_mean(fake_each)
    return GameTerms(real_loss - k * fake_loss, fake_loss, real_loss, gamma * real_loss - fake_loss, fake_each)


def hinge_terms(fake, real):
    """Compute the GameTerms of a discriminator's verdicts on patches (Lim, Ye 2017, eq. 4; Miyato et al. 2018, eq. 17).

    `fake` and `real` are lists of verdicts [B, h, w, 1], one for each scale and depth. All count alike (Wang et al.
    2018). D pushes the verdicts on real patches above 1, and those on fake ones below -1. G pushes the latter up.
    """
    on_fake, on_real = (tf.reduce_mean(tf.stack([tf.reduce_mean(tf.nn.relu(1 + sign * each)) for each in verdicts]))
                        for sign, verdicts in ((1, fake), (-1, real)))
    fake_each = verdict_per_example(fake)
    return GameTerms(on_real + on_fake, tf.reduce_mean(fake_each), on_real, tf.zeros([]), fake_each)


def verdict_per_example(verdicts):
    """Compute what G minimises of each example: minus the mean of a list of verdicts [B, h, w, 1] -> [B]."""
    return -tf.reduce_mean(tf.stack([tf.reduce_mean(each, axis=[1, 2, 3]) for each in verdicts]), 0)


class PairedTerms(NamedTuple):
    """The losses of G_inv on pairs, all scalars, where R is the error of its renderings of the photos."""
    generator: tf.Tensor            # R - k cycle_loss, which G_inv minimises
    balance: tf.Tensor              # gamma R - cycle_loss, which moves k
    real: tf.Tensor                 # R


def paired_terms(fitted, rendering, cycle_loss, k, gamma):
    """Compute the PairedTerms of `fitted` = G_inv(photo) and the photo's `rendering` (Gecer et al. 2018)."""
    real = tf.reduce_mean(l1_per_example(fitted, rendering))
    return PairedTerms(real - k * cycle_loss, gamma * real - cycle_loss, real)


def pixel_loss(photo, rendering, mask):
    """Compute the mean of mask |photo - rendering| over all values -> scalar.

    `mask`, 0 or 1, says where the rendering shows a face. The paired loss forward is of this kind too.
    """
    return tf.reduce_mean(mask * tf.abs(photo - rendering))


def squared_pixel_loss(photo, rendering, mask):
    """Compute twice the mean of mask (photo - rendering)^2 over all values -> scalar.

    `mask` is that of `pixel_loss`. A difference of 1/2, about 64 of 255 levels, costs as much as in `pixel_loss`. A
    larger difference costs more, and a smaller difference less.
    """
    return 2 * tf.reduce_mean(mask * tf.square(photo - rendering))


def chroma_loss(photo, rendering, mask):
    """Compute how differently colours change within a face in two batches of images -> scalar.

    `mask` [B, S, S, 3], 0 or 1, says where the face is. c is the difference of the opponent colours of `photo` and
    `rendering`, R - G and (R + G) / 2 - B (Hasler, Susstrunk 2003). m is the mean of c over the face, for each image
    and colour. The loss is the mean of |c - m| over all values, with 0 outside the face. So one tint of all of a face
    costs nothing, and neither does what adds the same to R, G and B.
    """
    red, green, blue = tf.split(photo - rendering, 3, axis=-1)
    difference = tf.concat([red - green, (red + green) / 2 - blue], -1)
    face = tf.reduce_max(mask, -1, keepdims=True)
    mean = (tf.reduce_sum(face * difference, [1, 2], keepdims=True)
            / tf.maximum(tf.reduce_sum(face, [1, 2], keepdims=True), 1.))
    return tf.reduce_mean(face * tf.abs(difference - mean))


def edge_loss(photo, rendering, mask):
    """Compute by how much edges of photos exceed those nearby in their renderings -> scalar.

    This is the project's own. `photo`, `rendering` and `mask` are [B, S, S, 3], the first two in [-1, 1], and `mask` is
    that of `pixel_loss`. The edge of a value is the sum of its absolute differences to the value in the next row and to
    that in the next column, even where these lie beside the face. Allowed is the largest edge of the rendering in a
    window of 2 (S // 32) + 1 pixels around it, plus EDGE_MARGIN. The loss is the mean of mask max(0, edge - allowed)
    over all values. So dots and lines cost where the rendering is smooth. Light that changes slowly, blur, and features
    that lie up to S // 32 pixels off cost nothing.
    """
    def edges(images):
        return tf.add_n([tf.abs(each) for each in tf.image.image_gradients(images)])

    window, allowed = 2 * (photo.shape[1] // 32) + 1, edges(rendering)
    for shape in ([window, 1], [1, window]):
        allowed = tf.nn.max_pool2d(allowed, shape, 1, "SAME")
    return tf.reduce_mean(mask * tf.nn.relu(edges(photo) - allowed - EDGE_MARGIN))


def feature_matching_loss(made, wanted):
    """Compute how far a discriminator's features of generated images are from those of wanted images -> scalar.

    This is feature matching after Wang et al. 2018 (High-Resolution Image Synthesis with Conditional GANs, eq. 4).
    `made` and `wanted` are lists of features [B, h, w, C], one for each layer. Unlike there, the mean absolute
    difference of each image and layer is divided by the mean absolute value of the wanted features. So all layers count
    alike, however large their features are. The loss is the mean over images and layers.
    """
    def size(features):
        return tf.reduce_mean(tf.abs(features), [1, 2, 3])

    return tf.reduce_mean(tf.stack([size(ours - theirs) / tf.maximum(size(theirs), 1e-8)
                                    for ours, theirs in zip(made, wanted)]))


def update_k(k, balance, lambda_k):
    """Compute the next k, within [0, 1], by proportional control (Berthelot et al. 2017, sec. 3.4)."""
    return tf.clip_by_value(k + lambda_k * balance, 0.0, 1.0)


def move_centroids(centroids, embeddings, labels, alfa):
    """Move each centroid towards the embeddings of its class (Wen et al. 2016) -> [N, E], without a gradient.

    Each example of the class moves the centroid by (1 - alfa) of the way from the old centroid to its embedding. These
    moves are added up by a product with the one-hot labels, which is deterministic on every device.
    """
    difference = (1 - alfa) * (tf.gather(centroids, labels) - embeddings)
    moves = tf.matmul(tf.one_hot(labels, centroids.shape[0]), difference, transpose_a=True)
    return tf.stop_gradient(centroids - moves)


def magnet_loss(embeddings, labels, centroids):
    """Compute the set-based loss of Gecer et al. 2018, after the magnet loss of Rippel et al. 2016 -> [B].

    The batch's variance is the sum of squared distances to the own centroid, over B - 1. In the exponent it is squared
    once more, as in the authors' code. For B = 1 it is infinite, so that the loss is the constant 1 + log(N - 1).
    """
    cost = tf.reduce_sum(tf.math.squared_difference(centroids[None], embeddings[:, None]), -1)      # [B, N]
    own = tf.one_hot(labels, centroids.shape[0])
    intra = tf.reduce_sum(own * cost, 1)                                                            # [B]
    freedom = tf.cast(tf.size(labels) - 1, tf.float32)
    weight = -0.5 * tf.square(freedom / tf.maximum(tf.reduce_sum(intra), 1e-8))             # -1 / (2 variance^2)
    numerator = tf.exp(weight * intra - 1)
    denominator = tf.reduce_sum((1 - own) * tf.exp(weight * cost), 1)
    return tf.nn.relu(-tf.math.log(numerator / (denominator + 1e-8) + 1e-8))


def center_loss(embeddings, labels, centroids):
    """Compute the mean squared difference of each embedding to its class's centroid (Wen et al. 2016) -> [B]."""
    return tf.reduce_mean(tf.math.squared_difference(embeddings, tf.gather(centroids, labels)), 1)


def softmax_loss(logits, labels):
    """Compute the cross-entropy of `logits` [B, N] with the labels -> [B]."""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)


def halvings(step, update_step):
    """Count how often the learning rate was halved before step number `step`, counted from 0.

    This is the schedule of the authors' code. There is an interval u, at first `update_step`. A step n ends with a
    halving of the learning rate if n + 1 is a multiple of u. Then u is halved too, rounded down. Once u is 0, each step
    ends with a halving.
    """
    count, done, interval = 0, 0, update_step           # `done`: steps up to the last halving
    while interval >= 1:
        last = done + (interval - 1 - done) % interval  # the next step that ends with a halving
        if last >= step:
            return count
        count, done, interval = count + 1, last + 1, interval // 2
    return count + step - done


def learning_rate(step, base, lower, update_step, warm_up=0, factor=1):
    """Compute the learning rate of step number `step`, counted from 0.

    It is `base`, halved as `halvings` counts, but not below `lower`. On `factor` GPUs, what is halved rises over the
    first `warm_up` steps from `base` to `factor * base` (Goyal et al. 2017).
    """
    rate = base * (1 + (factor - 1) * (min(1.0, step / warm_up) if warm_up else 1.0))
    return max(rate * 0.5 ** min(halvings(step, update_step), 60), min(lower, rate))


def identity_weight(step, base, upper, update_step):
    """Compute the weight of the identity loss at step number `step`, counted from 0.

    It is `base`, doubled whenever the learning rate is halved, up to `upper`.
    """
    return min(base * 2.0 ** min(halvings(step, update_step), 60), max(base, upper))


def classifier_rate(step, epoch_size, table, decay_epochs, factor):
    """Compute the learning rate of step number `step`, counted from 0, of a classifier's training.

    It is that of FaceNet's trainer. `table` lists (epoch, rate) in ascending order. Epochs count from 1, and a rate
    holds from its epoch on. The first rate holds before its epoch too. The rate is multiplied by `factor` after every
    `decay_epochs` epochs.
    """
    epoch = step // epoch_size + 1
    rate = next((rate for first, rate in reversed(table) if first <= epoch), table[0][1])
    return rate * factor ** (step // (decay_epochs * epoch_size))
