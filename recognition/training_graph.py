"""Training of the identity classifier by FaceNet's recipe or ArcFace's: the static graph of a step.

FaceNet's recipe is that of Sandberg's train_softmax. A dense layer on the bottleneck, the softmax head, tells the
identities apart, and cross-entropy and center loss are minimised. With ArcFace's, a head of margins.py takes its place,
and there is no center loss. Batch norm works with the batch's statistics. Moving averages of the weights are what is
verified and used. Synthetic identities have a head of their own, or are more classes of one head.
"""
import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

import data_loader
import losses
from data_loader import Order, Reading, training_batches
from engine import layers
from engine.checkpoints import average_of
from engine.cluster.collectives import Exchange
from engine.cluster.replicas import replicas_of
from engine.layers import to_image, to_network
from engine.session import check_optimized_once
from recognition import augmentation, input_size, margins, networks, registry
from recognition.batch_norm import batch_statistics
from recognition.embedder import Embedder, Recipe
from recognition.preprocessing import augment

tf1 = tf.compat.v1

# Added to the seed, so that no two uses of random numbers in a step have the same ones. To each, the index of the
# LabelledBatch is added too.
_DROPOUT_STREAM, _SHIFT_STREAM, _FLIP_STREAM, _ROTATE_STREAM = 0, 10, 20, 30
_ALTER_STREAMS = 40, 50, 60, 70     # of the changes in augmentation.Chances
_ROTATION = 10                  # most degrees of a random rotation in either direction, as in FaceNet
_SYNTHETIC = "_synthetic"       # ends the names of what belongs to the synthetic identities


class LabelledBatch(NamedTuple):
    """The real or the synthetic images of one step."""
    suffix: str                 # ends the names of what belongs to them: "", or _SYNTHETIC
    classes: int                # number of identities that its head tells apart
    images: tf.Tensor           # crops, uint8 [B, S, S, 3]
    labels: tf.Tensor           # identity of each image in its head, int32 [B]
    weights: tf.Tensor          # of each image in the loss, float32 [B]


class Share(NamedTuple):
    """What one step computes of its real or of its synthetic images."""
    suffix: str                 # ends the names of its variables and losses: "", or _SYNTHETIC
    inputs: tf.Tensor           # the network's input [B, s, s, 3]
    cross_entropy: tf.Tensor    # scalar
    center: tf.Tensor           # the center loss, scalar; None with a head of margins.py
    accuracy: tf.Tensor         # fraction of the images whose identity the head tells right, scalar
    statistics: list            # (variable of batch norm's moving statistics, its value in this batch)


class Embedded(NamedTuple):
    """A LabelledBatch behind the network."""
    batch: LabelledBatch
    inputs: tf.Tensor           # [B, s, s, 3]
    bottleneck: tf.Tensor       # [B, E]
    statistics: list            # as in Share


def view_of(options):
    """Make the input_size.View of a network in training from its options."""
    return input_size.View(options.image_size, options.standardization,
                           input_size.window_for(options.crop, options.crop))


def recipe_of(options):
    """Make the embedder.Recipe of the validation from the options of a training."""
    architecture = registry.Architecture(options.model_def, options.embedding_size, width=options.width)
    return Recipe(options.input_scale_size, view_of(options), architecture, options.lfw_use_flipped_images)


class ClassifierGraph:
    """Operations of one training step on a batch of real images, of synthetic ones, or of both.

    A caller uses `train_op`, `losses` ({name: scalar}), `shares`, `summary`, `step`, `saved_variables`, `all_finite`,
    `iterator`, the placeholders `start_step` and `rate`, and `embedder`, which has the averaged weights.
    """

    def __init__(self, options, faces, validation=None, exchange=None):
        """Build the graph for the `options` of `recognizer.py train` and for labelled_data.Faces.

        `validation` is the kind of the crops that `embedder` is for, "box" or "arcface". With None, there is none.
        `exchange` is a `cluster.collectives.Exchange`, for several workers: all that is computed is a mean over them.
        """
        self.options, self.exchange = options, exchange or Exchange(None)
        self.start_step = tf1.placeholder(tf.int64, [], "start_step")
        self.rate = tf1.placeholder(tf.float32, [], "learning_rate")
        self.step = tf1.get_variable(registry.STEP, [], tf.int32, tf1.zeros_initializer(), trainable=False,
                                     use_resource=True)
        self.step_now = self.step.value()
        name, value = registry.standardization_note(options.standardization)
        tf1.get_variable(name, initializer=tf.constant(value), trainable=False, use_resource=True)
        with tf1.name_scope("inputs"):
            batches = self._build_inputs(faces)
        self.shares, self._head_state = [], []          # the latter: (variable of a head's statistics, its next value)
        indexed = list(enumerate(batches))
        for together in [indexed] if options.shared_head else [[each] for each in indexed]:
            self._build_shares([self._embed(index, batch) for index, batch in together])
        self._classifier_variables = tf1.global_variables(registry.SCOPE + "/")
        with tf1.name_scope("losses"):
            self._build_losses()
        with tf1.name_scope("train"):
            self._build_train_op()
        self.saved_variables = tf1.global_variables()
        self.embedder = self._build_validation(validation) if validation else None
        self._build_summary()
        self.all_finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(variable)) for variable in self.saved_variables
                                         if variable.dtype.is_floating])

    def _build_inputs(self, faces):
        """Make a LabelledBatch of the real images and one of the synthetic ones, as far as `faces` has any."""
        options, sets = self.options, []
        replicas = replicas_of(options)
        reading = Reading(options.input_scale_size, options.batch_size * replicas.total, options.num_worker,
                          part=replicas.part(options.batch_size))
        order = Order(options.seed, self.start_step)
        classes = 0
        for suffix, stream, images, weights in (("", data_loader.REAL, faces.real, None),
                                                (_SYNTHETIC, data_loader.SYN, faces.synthetic, faces.weights)):
            if images:
                weights = np.ones(len(images.names), np.float32) if weights is None else weights
                batches = training_batches([images], reading, order, stream,
                                           images.labels if options.oversample else None)
                sets.append((suffix, images.labels + np.int32(classes), weights, batches))
                classes += len(images.identities) if options.shared_head else 0
        self.iterator = tf1.data.make_initializable_iterator(tf.data.Dataset.zip(tuple(each[-1] for each in sets)))
        counts = [classes] * 2 if options.shared_head else [
            len(images.identities) for images in (faces.real, faces.synthetic) if images]
        return [LabelledBatch(suffix, count, batch, tf.gather(tf.constant(labels), indices),
                              tf.gather(tf.constant(weights), indices))
                for (suffix, labels, weights, _), count, (indices, batch) in zip(
                    sets, counts, self.iterator.get_next())]

    def _seed(self, stream):
        """Make the seed [2] int32 of one use of random numbers in this step."""
        return tf.stack([(self.options.seed + stream) % 2 ** 31, self.step_now])

    def _augment(self, index, images):
        """Turn crops `images` uint8 [B, S, S, 3] into the network's input, at random as the options say.

        The crops are moved, mirrored and turned, and changed as augmentation.Chances say. `index` is that of their
        LabelledBatch.
        """
        options, count = self.options, images.shape[0]
        replicas = replicas_of(options)
        first, whole = replicas.first * options.batch_size, replicas.total * options.batch_size
        view = view_of(options)
        low, high = input_size.shifts_of(options.input_scale_size, view.window)
        shifts, flips, angles = tf.zeros([count, 2], tf.int32), tf.zeros([count], tf.bool), tf.zeros([count])

        def draw(shape, stream, *limits):
            """Draw random numbers for the whole batch, of which these images take their part."""
            numbers = tf.random.stateless_uniform([whole, *shape], self._seed(stream + index), *limits)
            return numbers if count == whole else numbers[first:first + count]

        if options.random_crop:
            shifts = draw([2], _SHIFT_STREAM, low, high + 1, tf.int32)
        if options.random_flip:
            flips = draw([], _FLIP_STREAM) < .5
        if options.random_rotate:
            most = math.radians(_ROTATION)
            angles = draw([], _ROTATE_STREAM, -most, most)
        chances = augmentation.chances_of(options)

        def alter(x):
            return augmentation.alter(x, chances, [self._seed(stream + index) for stream in _ALTER_STREAMS],
                                      None if count == whole else (first, whole))

        return augment(to_network(images), view, shifts, flips, angles, alter if any(chances) else None)

    def _embed(self, index, batch):
        """Send a LabelledBatch, which has this `index` in the step, through the network -> Embedded.

        Each of several GPUs takes its share of the images, and batch norm's statistics are the means of theirs.
        """
        options, parts = self.options, []
        total, first, here = replicas_of(options)
        inputs = self._augment(index, batch.images)
        seed = self._seed(_DROPOUT_STREAM + index)
        if here == 1:
            return Embedded(batch, inputs, *self._run_network(inputs, batch, layers.Dropout(
                options.keep_probability, seed, first, total)))
        for gpu, share in enumerate(tf.split(inputs, here)):
            with tf.device(f"/gpu:{gpu}"), tf1.name_scope(f"tower_{gpu}"):
                parts.append(self._run_network(share, batch, layers.Dropout(
                    options.keep_probability, seed, first + gpu, total)))
        bottlenecks, statistics = zip(*parts)
        means = [(each[0][0], tf.add_n([value for _, value in each]) / here) for each in zip(*statistics)]
        return Embedded(batch, inputs, tf.concat(bottlenecks, 0), means)

    def _run_network(self, inputs, batch, dropout):
        """Run the network on `inputs` [B, s, s, 3] of a LabelledBatch -> bottleneck [B, E], statistics as in Share."""
        with tf1.name_scope("network" + batch.suffix), batch_statistics() as statistics, tf1.variable_scope(
                tf1.get_variable_scope(), dtype=layers.type_of(self.options.precision), auxiliary_name_scope=False):
            bottleneck, _ = networks.embed(inputs, recipe_of(self.options).architecture, dropout)
        return bottleneck, statistics

    def _build_shares(self, parts):
        """Add the Shares of one or more Embedded batches that have one head."""
        options, first = self.options, parts[0].batch
        bottleneck, labels = (_joined(each) for each in zip(*((part.bottleneck, part.batch.labels) for part in parts)))
        if options.loss == "softmax_center":
            scores = logits = networks.logits(bottleneck, first.classes, "Logits" + first.suffix)
            variable = layers.get_variable("centers" + first.suffix, [first.classes, options.embedding_size],
                                           tf1.zeros_initializer(), trainable=False)
            centers = variable.value()
            self._head_state.append((variable, losses.move_centroids(
                centers, *self.exchange.gather(bottleneck, labels), options.center_loss_alfa)))
        else:
            whole = self.exchange.gather(bottleneck)[0] if options.loss == "adaface" else bottleneck
            head = margins.score(bottleneck, labels, first.classes, margins.Margin(
                options.loss, options.margin, options.scale), "Logits" + first.suffix, whole)
            scores, logits, centers = head.cosines, head.logits, None
            self._head_state += head.state
        for part, its_scores, its_logits in zip(parts, *(tf.split(each, len(parts)) if len(parts) > 1 else [each]
                                                         for each in (scores, logits))):
            batch = part.batch
            right = tf.equal(tf.argmax(its_scores, 1, tf.int32), batch.labels)
            self.shares.append(Share(
                batch.suffix, part.inputs,
                tf.reduce_mean(batch.weights * losses.softmax_loss(its_logits, batch.labels)),
                None if centers is None else tf.reduce_mean(
                    batch.weights * losses.center_loss(part.bottleneck, batch.labels, centers)),
                tf.reduce_mean(tf.cast(right, tf.float32)), part.statistics))

    def _build_losses(self):
        """Add up the losses, and find the variables that minimise them."""
        network = networks.trained_variables()
        self.trained = network + [variable for share in self.shares
                                  for variable in tf1.trainable_variables(f"Logits{share.suffix}/")]
        check_optimized_once({"classifier": self.trained}, tf1.trainable_variables(), not_trained=[
            variable for variable in self._classifier_variables if variable not in network])
        decayed = [tf.nn.l2_loss(variable) for variable in self.trained
                   if self.options.optimizer == "sgd" or variable.op.name.endswith("/weights")]
        self.losses = {"regularization": self.options.weight_decay * tf.add_n(decayed)}
        total = self.losses["regularization"]
        for share in self.shares:
            weight = self.options.lambda_synthetic if share.suffix else 1.0
            loss = share.cross_entropy
            self.losses["cross_entropy" + share.suffix] = share.cross_entropy
            if share.center is not None:
                loss += self.options.center_loss_factor * share.center
                self.losses["center" + share.suffix] = share.center
            total += weight * loss
        self.losses["total"] = total

    def _means_over_workers(self, gradients):
        """Average `gradients`, the losses, the accuracies and batch norm's statistics over all workers -> gradients."""
        names, shares = list(self.losses), self.shares
        statistics = [pair for share in shares for pair in share.statistics]
        means = iter(self.exchange.means([*gradients, *self.losses.values(), *(share.accuracy for share in shares),
                                          *(value for _, value in statistics)]))
        gradients = [next(means) for _ in gradients]
        self.losses = {name: next(means) for name in names}
        accuracies = [next(means) for _ in shares]
        self.shares = [share._replace(accuracy=accuracy, statistics=[
            (moving, next(means)) for moving, _ in share.statistics]) for share, accuracy in zip(shares, accuracies)]
        return gradients

    def _build_train_op(self):
        """Update weights and statistics, then the averages, then the step.

        All gradients and statistics are computed from the weights as they are before. Batch norm's moving statistics
        follow the real images, if there are any, because the classifier is for these.
        """
        several = self.options.num_gpu > 1
        gradients = self._means_over_workers(
            tf1.gradients(self.losses["total"], self.trained, colocate_gradients_with_ops=several))
        gradients = list(zip(gradients, self.trained))
        step = tf.cast(self.step_now, tf.float32)
        warm = (1 + step) / (10 + step)                 # decay of a young average, which soon forgets its beginning
        slow = 1 - tf.minimum(registry.CLASSIFIERS[self.options.model_def].statistics_decay, warm)
        state = [(moving, moving + slow * (value - moving)) for moving, value in self.shares[0].statistics]
        state += self._head_state
        with tf.control_dependencies([gradient for gradient, _ in gradients] + [value for _, value in state]), \
                tf1.name_scope(None):                   # the optimizer's variables are named as the others
            updates = [make_optimizer(self.options.optimizer, self.rate).apply_gradients(gradients)]
            updates += [variable.assign(value, read_value=False) for variable, value in state]
        self._averages = {variable.op.name: average_of(variable) for variable in self._classifier_variables}
        rate = 1 - tf.minimum(self.options.moving_average_decay, warm)
        with tf.control_dependencies(updates):
            moves = []
            for variable in self._classifier_variables:
                average = self._averages[variable.op.name]
                moves.append(average.assign_sub(rate * (average - variable.read_value()), read_value=False))
        with tf.control_dependencies(moves):
            self.train_op = self.step.assign_add(1, read_value=False)

    def _build_validation(self, crop):
        """Make the Embedder of the averaged weights for crops of the kind `crop`."""
        def average(getter, name, *arguments, **options):
            return self._averages[name]

        with tf1.variable_scope(tf1.get_variable_scope(), custom_getter=average):
            recipe = recipe_of(self.options)
            view = recipe.view._replace(window=input_size.window_for(self.options.crop, crop))
            return Embedder(recipe._replace(view=view), self.options.lfw_batch_size)

    def _build_summary(self):
        """Collect what TensorBoard shows: losses, accuracies, the learning rate and some of the network's inputs."""
        scalars = {f"loss/{name}": value for name, value in self.losses.items()}
        scalars.update({f"misc/accuracy{share.suffix}": share.accuracy for share in self.shares})
        scalars["misc/learning_rate"] = self.rate
        self.summary = tf1.summary.merge(
            [tf1.summary.scalar(name, value) for name, value in scalars.items()]
            + [tf1.summary.image("input" + share.suffix, to_image(share.inputs / 3), 4) for share in self.shares])


def _joined(tensors):
    """Join tensors [B, ...] along their first axis; a single one stays as it is."""
    return tf.concat(tensors, 0) if len(tensors) > 1 else tensors[0]


def make_optimizer(name, rate):
    """Make the optimizer `name` with the learning `rate` and FaceNet's settings; "sgd" with ArcFace's."""
    return {"adagrad": lambda: tf1.train.AdagradOptimizer(rate),
            "adadelta": lambda: tf1.train.AdadeltaOptimizer(rate, rho=.9, epsilon=1e-6),
            "adam": lambda: tf1.train.AdamOptimizer(rate, beta1=.9, beta2=.999, epsilon=.1),
            "rmsprop": lambda: tf1.train.RMSPropOptimizer(rate, decay=.9, momentum=.9, epsilon=1.),
            "mom": lambda: tf1.train.MomentumOptimizer(rate, .9, use_nesterov=True),
            "sgd": lambda: tf1.train.MomentumOptimizer(rate, .9)}[name]()
