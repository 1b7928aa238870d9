"""The static graph: the networks, one step of training, and the synthesis of images from them."""
from typing import NamedTuple

import tensorflow as tf

import data_loader
import losses
from engine import layers
from engine.checkpoints import average_of
from engine.layers import to_image, to_network
from models import DiscriminatorCNN, Generator
from recognition import facenet

tf1 = tf.compat.v1
tf1.disable_eager_execution()

# Added to the seed, so that no two uses of random numbers in a step share theirs; dropout counts on from its own.
DROPOUT_STREAM, BOTTLENECK_STREAM, CROP_STREAM, FLIP_STREAM = 0, 1000, 2000, 3000


class Networks:
    """The four trained networks and the identity classifier of `config`; every graph below shares their variables.

    `standardization` is what the classifier expects (`facenet.standardize`).
    """

    def __init__(self, config, standardization="image"):
        self.config, self.standardization, self.precision = config, standardization, tf.as_dtype(config.precision)
        generator = config.conv_hidden_num_res, config.num_res_rep
        self.G = Generator("G_inf", *generator, skips=True, precision=self.precision)
        self.G_inv = Generator("G_inv", *generator, skips=False, precision=self.precision)
        self.D_forw = DiscriminatorCNN("D_forw", config.conv_hidden_num, config.z_num, self.precision)
        self.D_back = DiscriminatorCNN("D_back", config.conv_hidden_num, config.z_num, self.precision)
        self.has_classifier = bool(config.pretrained_rec)
        self.classifier_variables = []

    def embed(self, x, offset=None, flips=None, keep=1.0, seed=None, part=(0, 1)):
        """Bottleneck and embeddings [B, E] of photos `x` [B, S, S, 3]; see `facenet.preprocess` for the others."""
        c = self.config
        crops = facenet.preprocess(x, c.image_size, offset, flips, self.standardization)
        with tf1.variable_scope(tf1.get_variable_scope(), dtype=self.precision, auxiliary_name_scope=False):
            result = facenet.embed(crops, c.model_def, c.embedding_size, c.facenet_scope, keep, seed, part)
        if not self.classifier_variables:                       # before an optimizer adds its own to the scope
            self.classifier_variables = tf1.global_variables(c.facenet_scope + "/")
        return result

    @property
    def weights(self):
        """The trained variables of the networks built so far, without the classifier's."""
        return [v for net in (self.G, self.G_inv, self.D_forw, self.D_back) for v in net.variables]


class Batch(NamedTuple):
    """One training step's uint8 images [B, S, S, 3] and the renderings' classes [B] int32."""
    real: tf.Tensor
    syn: tf.Tensor
    label: tf.Tensor
    image_3dmm: tf.Tensor
    annot_3dmm: tf.Tensor


class Game(NamedTuple):
    """One discriminator's play on a batch: reconstructions [B, S, S, 3], its `losses.BeganTerms`, and gradients."""
    fake_reconstruction: tf.Tensor
    real_reconstruction: tf.Tensor
    terms: losses.BeganTerms
    by_fake: tf.Tensor              # of the generator's loss by the fake images
    by_variables: list              # of its own loss by each of its variables


class Tower(NamedTuple):
    """What one device computes for its part of the batch: images [B, S, S, 3] in [-1, 1], embeddings [B, E]."""
    s: tf.Tensor                    # renderings
    r: tf.Tensor                    # real photos
    s3: tf.Tensor                   # renderings of the paired photos
    mask: tf.Tensor                 # where the renderings show a face, 0 or 1
    label: tf.Tensor                # their classes [B]
    x: tf.Tensor                    # photos generated from s
    y: tf.Tensor                    # renderings generated from x
    p: tf.Tensor                    # renderings generated from the paired photos
    forw: Game                      # D_forw on x and r
    back: Game                      # D_back on y and s
    x_reconstruction: tf.Tensor
    r_reconstruction: tf.Tensor
    y_reconstruction: tf.Tensor
    s_reconstruction: tf.Tensor
    bottleneck: tf.Tensor           # None without a classifier
    embeddings: tf.Tensor


class TrainingGraph:
    """One training step of Gecer et al. 2018 on batches of the three image sets.

    `photos`, `renderings` and `pairs` are `ImageSet`, `Renderings` and `Pairs`. What a caller runs or looks at:
    `train_op`, `losses` and `scores` (tensors by name), `gradients`, `tower`, `summary`, the variables `step`, `k`
    and `centroids`, `saved_variables`, and the placeholders `start_step`, `g_lr`, `d_lr`, `lambda_c`.
    """

    def __init__(self, networks, photos, renderings, pairs):
        self.config, self.networks = networks.config, networks
        self.n_id = len(renderings.identities)
        with tf1.name_scope("inputs"):
            self._build_inputs(photos, renderings, pairs)
        self._build_state()
        towers = self._build_towers()
        self.tower = towers[0]
        with tf1.name_scope("losses"):
            self._build_losses(towers)
        with tf1.name_scope("train"):
            self._build_gradients(towers)
            self._build_train_op()
        self.saved_variables = self._saved_variables()
        self._build_summary()                           # in no name scope: its tags would begin with it
        with tf1.name_scope("check"):
            self.all_finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(v)) for v in self.saved_variables
                                             if v.dtype.is_floating])

    def _build_inputs(self, photos, renderings, pairs):
        c = self.config
        self.start_step = tf1.placeholder(tf.int64, [], "start_step")
        options = dict(size=c.input_scale_size, batch_size=c.batch_size * c.num_gpu, seed=c.random_seed,
                       start=self.start_step, workers=c.num_worker, grayscale=c.grayscale)
        dataset = tf.data.Dataset.zip((data_loader.get_loader(photos, **options),
                                       data_loader.get_syn_loader(renderings, **options),
                                       data_loader.get_3dmm_loader(pairs, **options)))
        self.iterator = tf1.data.make_initializable_iterator(dataset)
        real, (syn, label), (image_3dmm, annot_3dmm) = self.iterator.get_next()
        self.batch = Batch(real, syn, label, image_3dmm, annot_3dmm)

    def _build_state(self):
        def scalar(name, dtype=tf.float32):
            return tf1.get_variable(name, [], dtype, tf1.zeros_initializer(), trainable=False, use_resource=True)

        self.step = scalar("step", tf.int32)
        self.k = [scalar(name) for name in ("k_t", "k_t2", "k_t3")]
        # Each is read once, before the step's updates; every use shares that value.
        self.step_now, self.k_now = self.step.value(), [k.value() for k in self.k]
        self.g_lr, self.d_lr, self.lambda_c = (tf1.placeholder(tf.float32, [], name)
                                               for name in ("g_lr", "d_lr", "lambda_c"))

    def _build_towers(self):
        """One `Tower` a device, each on its part of the batch; all share the variables."""
        if self.config.num_gpu == 1:
            return [self._build_tower(self.batch, 0)]
        towers = []
        for i, part in enumerate(zip(*(tf.split(tensor, self.config.num_gpu) for tensor in self.batch))):
            with tf.device(f"/gpu:{i}"), tf1.name_scope(f"tower_{i}"):
                towers.append(self._build_tower(Batch(*part), i))
        return towers

    def _build_tower(self, batch, index):
        net, part = self.networks, (index, self.config.num_gpu)
        s, r, photo, s3 = (to_network(v) for v in (batch.syn, batch.real, batch.image_3dmm, batch.annot_3dmm))
        with tf1.name_scope("G"):
            x = net.G(s, self.config.dropout_keep, self._seed(DROPOUT_STREAM), part)
        with tf1.name_scope("G_inv"):
            y, p = tf.split(net.G_inv(tf.concat([x, photo], 0)), 2)
        with tf1.name_scope("D_forw"):
            forw = self._play(net.D_forw, x, r, self.k_now[0])
        with tf1.name_scope("D_back"):
            back = self._play(net.D_back, y, s, self.k_now[1], after=[forw.by_fake, *forw.by_variables])
        with tf1.name_scope("identity"):
            with tf.control_dependencies([back.by_fake, *back.by_variables]):           # by then, their memory is free
                seen = tf.identity(x)
            bottleneck, embeddings = self._embed_at_random(seen, part) if net.has_classifier else (None, None)
        mask = tf.cast(batch.syn > 0, tf.float32)
        return Tower(s, r, s3, mask, batch.label, x, y, p, forw, back, forw.fake_reconstruction,
                     forw.real_reconstruction, back.fake_reconstruction, back.real_reconstruction, bottleneck, embeddings)

    def _play(self, discriminator, fake, real, k, after=()):
        """The Game of a discriminator. `after`: tensors to wait for, as two games at a time take twice the memory."""
        with tf.control_dependencies(after):
            images = tf.concat([fake, real], 0)
        reconstruction, network = discriminator.reconstruct(images)
        fake_reconstruction, real_reconstruction = tf.split(reconstruction, 2)
        terms = losses.began_terms(real, real_reconstruction, fake, fake_reconstruction, k, self.config.gamma)
        return Game(fake_reconstruction, real_reconstruction, terms,
                    *both_players(network, fake, terms.real + terms.generator, k))

    def _seed(self, stream):
        """Seed [2] int32 of one use of random numbers in this step."""
        return tf.stack([(self.config.random_seed + stream) % 2 ** 31, self.step_now])

    def _embed_at_random(self, x, part):
        """`Networks.embed` of a crop at one random offset for the batch, each image flipped or not."""
        c = self.config
        offsets = facenet.crop_range(c.input_scale_size)
        offset = flips = None
        if offsets > 1 and c.random_crop:
            offset = tf.random.stateless_uniform([2], self._seed(CROP_STREAM), 0, offsets, tf.int32)
        if offsets > 1 and c.random_flip:
            flips = layers.uniform_part(tf.constant([c.batch_size]), self._seed(FLIP_STREAM), part) < 0.5
        return self.networks.embed(x, offset, flips, c.keep_probability, self._seed(BOTTLENECK_STREAM), part)

    def _build_losses(self, towers):
        """`losses`: every term, averaged over the towers; `scores`: the same per example, [B]."""
        terms, scores = [], []
        for tower, c_each in zip(towers, self._identity_losses(towers)):
            tower_terms, each = self._tower_losses(tower, c_each)
            terms.append(tower_terms)
            scores.append(each)
        self.losses = {name: _mean([t[name] for t in terms]) for name in terms[0]}
        self.losses["d_loss"] = self.losses["d_loss_forw"] + self.losses["d_loss_back"]
        self.losses["g_loss"] = self.losses["g_loss_forw"] + self.losses["g_loss_back"]     # logged, minimised by nobody
        self.scores = {name: tf.concat([each[name] for each in scores], 0) for name in scores[0]}

    def _tower_losses(self, tower, c_each):
        forw, back = tower.forw.terms, tower.back.terms
        s_each = losses.l1_per_example(tower.s, tower.y)
        s_loss = tf.reduce_mean(s_each)
        paired = losses.paired_terms(tower.p, tower.s3, s_loss, self.k_now[2], self.config.gamma)
        terms = dict(
            d_loss_forw=forw.discriminator, g_loss_forw=forw.generator, balance1=forw.balance,
            d_loss_back=back.discriminator, g_loss_back=back.generator, balance2=back.balance,
            sd_loss_forw=paired.generator, sd_loss_real_forw=paired.real, balance3=paired.balance,
            s_loss=s_loss, p_loss=losses.pixel_loss(tower.x, tower.s, tower.mask), c_loss=tf.reduce_mean(c_each))
        return terms, dict(d_score=forw.fake_each, s_score=s_each, c_score=c_each)

    def _identity_losses(self, towers):
        """The identity term of every example, [B] a tower. All towers' embeddings move the centroids at once."""
        c = self.config
        self.centroids = self.moved_centroids = None
        nothing = [tf.zeros([c.batch_size]) for _ in towers]
        if not self.networks.has_classifier:
            return nothing
        self.centroids = tf1.get_variable("centroids/centers", [self.n_id, c.embedding_size], tf.float32,
                                          tf1.zeros_initializer(), trainable=False, use_resource=True)
        before = self.centroids.value()
        moved = losses.move_centroids(before, tf.concat([t.embeddings for t in towers], 0),
                                      tf.concat([t.label for t in towers], 0), c.center_loss_alfa)
        logits = [facenet.logits(t.bottleneck, self.n_id) for t in towers]
        if c.method_c == "softmax":
            return [losses.softmax_loss(each, t.label) for each, t in zip(logits, towers)]
        if c.method_c == "none":
            return nothing
        self.moved_centroids = moved
        if c.method_c == "center":
            return [losses.center_loss(t.embeddings, t.label, before) for t in towers]
        return [losses.magnet_loss(t.embeddings, t.label, moved) for t in towers]

    def _identity_variables(self):
        """What trains together with G for the identity loss: the tuned classifier, the softmax head."""
        c = self.config
        tuned = facenet.trained_variables(c.facenet_scope) if c.relax_c else []
        return tuned + (tf1.trainable_variables("Logits/") if c.method_c == "softmax" else [])

    def _trained_variables(self):
        """The variables of each of the three optimizers: {"G": [...], "G_inv": [...], "D": [...]}."""
        net = self.networks
        return {"G": net.G.variables + self._identity_variables(), "G_inv": net.G_inv.variables,
                "D": net.D_forw.variables + net.D_back.variables}

    def _build_gradients(self, towers):
        """`gradients`: (gradient, variable) pairs of each optimizer, all from the weights as they are."""
        c, loss, variables = self.config, self.losses, self._trained_variables()
        # What G and G_inv minimise besides L(fake) of their discriminators.
        others = {
            "G": self.lambda_c * loss["c_loss"] + c.lambda_s * loss["s_loss"] + c.lambda_p * loss["p_loss"],
            "G_inv": c.lambda_d * loss["sd_loss_forw"] + c.lambda_s * loss["s_loss"]}
        if c.weight_decay:
            others["G"] += c.weight_decay * tf.add_n([tf.nn.l2_loss(v) for v in self._identity_variables()] or [0.])
        made = {"G": [(t.x, t.forw.by_fake) for t in towers], "G_inv": [(t.y, t.back.by_fake) for t in towers]}
        gradients = {"D": [_mean(each) for each in zip(*(t.forw.by_variables + t.back.by_variables for t in towers))]}
        for name, pairs in made.items():
            gradients[name] = tf1.gradients(
                [others[name]] + [image for image, _ in pairs], variables[name],
                [None] + [gradient / len(towers) for _, gradient in pairs], colocate_gradients_with_ops=True)
        self.gradients = {name: list(zip(gradients[name], variables[name])) for name in variables}

    def _build_train_op(self):
        """From the gradients: the averages, then the optimizers, the k's, centroids and step."""
        c, loss = self.config, self.losses
        rates = {"G": self.g_lr, "G_inv": self.g_lr, "D": self.d_lr}
        state = [(k, losses.update_k(now, loss[balance], c.lambda_k))
                 for k, now, balance in zip(self.k, self.k_now, ("balance1", "balance2", "balance3"))]
        if self.moved_centroids is not None:
            state.append((self.centroids, self.moved_centroids))
        computed = [gradient for pairs in self.gradients.values() for gradient, _ in pairs] + [v for _, v in state]
        averaged = self._averaged_variables()
        shadows = [average_of(variable) for variable in averaged]
        step = tf.cast(self.step_now, tf.float32)
        decay = tf.minimum(0.9999, (1 + step) / (10 + step))
        with tf.control_dependencies(computed):         # shadow - (1 - decay) (shadow - variable), in one pass over memory
            averages = tf1.train.GradientDescentOptimizer(1 - decay).apply_gradients(
                [(shadow - variable, shadow) for shadow, variable in zip(shadows, averaged)])
        with tf.control_dependencies([averages]), tf1.name_scope(None):           # Adam's powers lie at the top
            updates = [_optimizer(c, rates[name]).apply_gradients(pairs) for name, pairs in self.gradients.items()]
            updates += [variable.assign(value, read_value=False) for variable, value in state]
        with tf.control_dependencies(updates):
            self.train_op = self.step.assign_add(1, read_value=False)

    def _averaged_variables(self):
        """Every trained variable, and `Logits`, whose averages the original's checkpoints hold in any case."""
        trained = [v for group in self._trained_variables().values() for v in group]
        names = {v.op.name for v in trained}
        return trained + [v for v in tf1.trainable_variables("Logits/") if v.op.name not in names]

    def _saved_variables(self):
        """Everything that the next step depends on: all variables but the frozen classifier's."""
        frozen = () if self.config.relax_c else {v.op.name for v in self.networks.classifier_variables}
        return [v for v in tf1.global_variables() if v.op.name not in frozen]

    def _build_summary(self):
        tower, loss = self.tower, self.losses
        scalars = {f"loss/{name}": loss[name] for name in
                   ("d_loss", "g_loss", "g_loss_back", "s_loss", "p_loss", "c_loss", "sd_loss_forw")}
        scalars.update({"misc/k_t": self.k_now[0], "misc/k_t2": self.k_now[1], "misc/k_t3": self.k_now[2],
                        "misc/d_lr": self.d_lr, "misc/g_lr": self.g_lr, "misc/lambda_c": self.lambda_c,
                        "misc/balance": loss["balance1"]})
        images = dict(real=tower.r, generated=tower.x, generated_rendering=tower.y, rendering=tower.s,
                      generated_reconstruction=tower.x_reconstruction, real_reconstruction=tower.r_reconstruction)
        self.summary = tf1.summary.merge(
            [tf1.summary.scalar(name, value) for name, value in scalars.items()]
            + [tf1.summary.image(name, to_image(value), 4) for name, value in images.items()])


def _mean(tensors):
    """The mean of a list of tensors of one shape: of the towers' shares."""
    return tf.add_n(tensors) / len(tensors)


def _optimizer(config, rate):
    if config.optimizer == "rmsprop":
        return tf1.train.RMSPropOptimizer(rate, decay=config.beta2, momentum=config.beta1)
    if config.optimizer == "sgd":
        return tf1.train.MomentumOptimizer(rate, config.beta1)
    return tf1.train.AdamOptimizer(rate, config.beta1, config.beta2)


class SynthesisGraph:
    """Renderings to photos, `BATCH` at a time whatever `--batch_size`, so that an image does not depend on it.

    To be fed: `renderings` uint8 [N, S, S, 3] and `seeds` [N, 2] int32, a dropout seed for each image. To be run:
    `photos` uint8 [N, S, S, 3] and, built with `scores`, the list `scores`: d_score [N], s_score [N] and, with a
    classifier, embeddings [N, E].
    """

    BATCH = 16

    def __init__(self, networks, scores):
        c = networks.config
        with tf1.name_scope("synthesis"):
            self.renderings = tf1.placeholder(tf.uint8, [self.BATCH, c.input_scale_size, c.input_scale_size, 3])
            self.seeds = tf1.placeholder(tf.int32, [self.BATCH, 2])
            s = to_network(self.renderings)
            x = networks.G(s, c.dropout_keep if c.generation_dropout else 1.0, self.seeds)
            self.photos = to_image(x)
            self.scores = []
            if scores:
                self.scores += [losses.l1_per_example(networks.D_forw(x), x), losses.l1_per_example(networks.G_inv(x), s)]
                self.scores += [networks.embed(x)[1]] if networks.has_classifier else []


class FittingGraph:
    """Photos to renderings. To be fed: `photos` uint8 [N, S, S, 3]; to be run: `renderings`, the same shape.

    `error` [N] is the mean absolute difference to `annotations` uint8 [N, S, S, 3], to be fed if it is run.
    """

    BATCH = 16

    def __init__(self, networks):
        size = networks.config.input_scale_size
        with tf1.name_scope("fitting"):
            self.photos, self.annotations = (tf1.placeholder(tf.uint8, [self.BATCH, size, size, 3]) for _ in range(2))
            fitted = networks.G_inv(to_network(self.photos))
            self.renderings = to_image(fitted)
            self.error = losses.l1_per_example(fitted, to_network(self.annotations))


# One backward pass through a discriminator for both players

def both_players(layers, fake, loss, k):
    """Gradients of both losses of a discriminator (Berthelot et al. 2017, sec. 3.4), back-propagated once.

    `layers` are the `models.Layer`s of its call on images [fake, real], as many of the one as of the other, `fake`
    [B, S, S, 3] are the first half, and `loss` is L(real) + L(fake). Down to any layer's output, the gradient of
    L(fake) is that of `loss` on the fake half, and the gradient of L(real) - k L(fake), which the discriminator
    minimises, is the same but for a factor of -k there. Its variables add up what comes from each image. So only these
    sums take the two halves apart: exact for k = 0 too.

    Returns the gradient of L(fake) by `fake`, and those of L(real) - k L(fake) by every variable in the layers' order.
    """
    first = layers[0]
    *upstream, directly = _gradients(loss, [layer.output for layer in layers] + [fake], stop=[first.output])
    through = _gradients(first.product(fake), [fake], tf.split(upstream[0], 2)[0])[0]
    by_variables = [by for layer, gradient in zip(layers, upstream) for by in _by_variables(layer, gradient, k)]
    return directly + through, by_variables


def _by_variables(layer, upstream, k):
    """The gradients by a layer's weights and biases, given that of `loss` by its output [2B, ...].

    The biases' is one sum over the weighted batch, as in the original: halves summed apart are rounded otherwise, by
    more than 1e-4. Where an output is smaller than the weights, theirs is such a sum too, which is then the faster one.
    """
    half = tf.ones([tf.shape(upstream)[0] // 2] + [1] * (upstream.shape.rank - 1))
    weighted = tf.concat([-k * half, half], 0) * upstream
    if upstream.shape[1:].num_elements() <= layer.weights.shape.num_elements():
        return _gradients(layer.output, [layer.weights, layer.biases], weighted)
    fake, real = (_gradients(layer.product(x), [layer.weights], gradient)[0]
                  for x, gradient in zip(tf.split(layer.input, 2), tf.split(upstream, 2)))
    return [real - k * fake] + _gradients(layer.output, [layer.biases], weighted)


def _gradients(ys, xs, upstream=None, stop=None):
    """`tf.gradients`, each on the device of what it is the gradient of."""
    return tf1.gradients(ys, xs, upstream, colocate_gradients_with_ops=True, stop_gradients=stop)
