"""The static graph: the networks, and one step of training."""
from typing import NamedTuple

import tensorflow as tf

import data_loader
import losses
from engine import layers
from engine.checkpoints import average_of, names_of
from engine.cluster.collectives import Exchange
from engine.cluster.replicas import replicas_of
from engine.layers import to_image, to_network
from engine.session import check_optimized_once
from games.began import Began
from games.hinge import Hinge
from models import Generator, Variant
from recognition import networks, registry
from recognition.input_size import offsets_of, View
from recognition.preprocessing import preprocess

tf1 = tf.compat.v1

NEARLY_BLACK = 16               # of 255: what JPEG makes of black beside a face stays below
# Added to the seed, so that no two uses of random numbers in a step share theirs; dropout counts on from its own.
DROPOUT_STREAM, BOTTLENECK_STREAM, CROP_STREAM, FLIP_STREAM = 0, 1000, 2000, 3000
PAIRED_STREAM, FORW_STREAM, BACK_STREAM, PAIRED_BACKGROUND_STREAM, SHADE_STREAM = 4000, 5000, 6000, 8000, 9000
GAMES = {"began": Began, "hinge": Hinge}


class Networks:
    """Holds the four trained networks and the identity classifier of `config`.

    Every graph calls them and so shares their variables. `view`, a View, is what the classifier sees of a photo;
    by default, the central window of config.image_size pixels. `architecture` is that of the classifier's weights.
    """

    BACKGROUND_STREAM = 7000            # added to a seed for `photos_of`

    def __init__(self, config, view=None, architecture=None):
        self.config, self.view = config, view or View(config.image_size)
        self.precision = layers.type_of(config.precision)
        variant = Variant(config.upsampling == "resize", config.normalization == "instance")
        self.G, self.G_inv = (Generator(name, config.conv_hidden_num_res, config.num_res_rep, skips, self.precision,
                                        variant)
                              for name, skips in (("G_inf", True), ("G_inv", False)))
        self.game = GAMES[config.game](config)
        self.D_forw, self.D_back = (self.game.discriminator(name, self.precision) for name in ("D_forw", "D_back"))
        self.has_classifier = bool(config.pretrained_rec)
        self.architecture = architecture or registry.named_by(config)
        self.classifier_variables = []

    def photos_of(self, s, dropout, noise, unshaded=None):
        """Make photos of renderings `s` [B, S, S, 3] by G, under a Dropout. The Dropout `noise` seeds backgrounds.

        With --background noise, smooth random colours take the place of the black around a face: without anything
        random there, G would give everybody the same background. Where `s` was shaded, `unshaded` are the renderings
        before that: what is dark in a shade is no background.
        """
        if self.config.background == "noise":
            s = tf.where(_is_background(s if unshaded is None else unshaded), layers.smooth_noise(s, noise), s)
        return self.G(s, dropout)

    def embed(self, x, offset=None, flips=None, dropout=None):
        """Embed photos `x` [B, S, S, 3] -> bottleneck and embeddings [B, E].

        `offset` and `flips` are those of `preprocess`, `dropout` is that of `networks.embed`.
        """
        crops = preprocess(x, self.view, offset, flips)
        with tf1.variable_scope(tf1.get_variable_scope(), dtype=self.precision, auxiliary_name_scope=False):
            result = networks.embed(crops, self.architecture, dropout)
        if not self.classifier_variables:                       # before an optimizer adds its own to the scope
            self.classifier_variables = tf1.global_variables(self.config.facenet_scope + "/")
        return result

    @property
    def weights(self):
        """List the trained variables of the four networks that were called; the classifier's are not among them."""
        return [variable for net in (self.G, self.G_inv, self.D_forw, self.D_back) for variable in net.variables]


class Batch(NamedTuple):
    """The images of one training step, uint8 [B, S, S, 3], and the classes of the renderings."""
    photo: tf.Tensor
    rendering: tf.Tensor
    label: tf.Tensor                # [B] int32, of the renderings
    paired_photo: tf.Tensor | None = None       # None in a training without pairs
    paired_rendering: tf.Tensor | None = None


class Tower(NamedTuple):
    """What one device computes for its share of the batch: images [B, S, S, 3] in [-1, 1], embeddings [B, E]."""
    s: tf.Tensor                    # renderings
    r: tf.Tensor                    # real photos
    paired_photo: tf.Tensor         # None without pairs
    paired_rendering: tf.Tensor     # renderings of the paired photos; None without pairs
    mask: tf.Tensor                 # where the renderings show a face, 0 or 1
    paired_mask: tf.Tensor          # where the paired renderings do; None without pairs
    label: tf.Tensor                # classes [B] of the renderings
    x: tf.Tensor                    # photos generated from s
    y: tf.Tensor                    # renderings generated from x
    fitted: tf.Tensor               # renderings generated from the paired photos; None without pairs
    painted: tf.Tensor              # photos generated from the paired renderings; None where no loss asks for them
    matching: tf.Tensor             # scalar: the feature matching loss of `painted` and the paired photos; or None
    forw: losses.Game               # D_forw on x and r
    back: losses.Game               # D_back on y and s
    x_reconstruction: tf.Tensor     # None in a game without reconstructions, as the next three
    r_reconstruction: tf.Tensor
    y_reconstruction: tf.Tensor
    s_reconstruction: tf.Tensor
    bottleneck: tf.Tensor           # None without a classifier
    embeddings: tf.Tensor


class TrainingGraph:
    """One training step of Gecer et al. 2018 on batches of the three image sets.

    A caller runs `train_op`, `losses` and `scores` (tensors by name), `gradients` and `summary`, and feeds the
    placeholders `start_step`, `g_lr`, `d_lr` and `lambda_c`. A caller may look at `tower` (the first one), `batch`, the
    variables `step`, `k` and `centroids`, the list `saved_variables`, and `trained` {optimizer: its variables}.
    """

    def __init__(self, networks, data, gradients=True, exchange=None):
        """`data` has the ImageSet `photos`, the Renderings `renderings` and the Pairs `pairs`, which may be None:
        then the paired loss is 0.
        Without `gradients`, the graph ends with the losses: `train_op`, `gradients` and `summary` are None.
        `exchange` is a `cluster.collectives.Exchange`, for several workers: losses and gradients are means over all.
        """
        self.config, self.networks, self.with_gradients = networks.config, networks, gradients
        self.exchange, self.replicas = exchange or Exchange(None), replicas_of(networks.config)
        self.n_id = len(data.renderings.identities)
        self.train_op = self.gradients = self.summary = None
        with tf1.name_scope("inputs"):
            self._build_inputs(data)
        self._build_state()
        towers = self._build_towers()
        self.tower = towers[0]
        with tf1.name_scope("losses"):
            self._build_losses(towers)
        self.trained = self._trained_variables()
        check_optimized_once(self.trained, tf1.trainable_variables(), self._variables_not_trained())
        if gradients:
            with tf1.name_scope("train"):
                self._build_gradients(towers)
                self._average_over_workers()
                self._build_train_op()
        self.saved_variables = self._saved_variables()
        if gradients:
            self._build_summary()                       # in no name scope: its tags would begin with it
        with tf1.name_scope("check"):
            floats = [variable for variable in self.saved_variables if variable.dtype.is_floating]
            self.all_finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(variable)) for variable in floats])

    def _build_inputs(self, data):
        config = self.config
        self.start_step = tf1.placeholder(tf.int64, [], "start_step")
        reading = data_loader.Reading(config.input_scale_size, config.batch_size * self.replicas.total,
                                      config.num_worker, config.grayscale, self.replicas.part(config.batch_size))
        order = data_loader.Order(config.random_seed, self.start_step)
        there = [data.pairs] if data.pairs else []
        dataset = tf.data.Dataset.zip((data_loader.get_loader(data.photos, reading, order),
                                       data_loader.get_syn_loader(data.renderings, reading, order),
                                       *(data_loader.get_3dmm_loader(pairs, reading, order) for pairs in there)))
        self.iterator = tf1.data.make_initializable_iterator(dataset)
        photo, (rendering, label), *pairs = self.iterator.get_next()
        self.batch = Batch(photo, rendering, label, *(images for both in pairs for images in both))

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
        """Build one `Tower` a device, each on its share of the batch. All of them share the variables."""
        _, first, here = self.replicas
        if here == 1:
            return [self._build_tower(self.batch, first)]
        towers = []
        given = [tensor for tensor in self.batch if tensor is not None]
        for i, share in enumerate(zip(*(tf.split(tensor, here) for tensor in given))):
            with tf.device(f"/gpu:{i}"), tf1.name_scope(f"tower_{i}"):
                towers.append(self._build_tower(Batch(*share), first + i))
        return towers

    def _build_tower(self, batch, index):
        net, config = self.networks, self.config
        inputs = batch.rendering, batch.photo, batch.paired_photo, batch.paired_rendering
        s, r, paired_photo, paired_rendering = (None if images is None else to_network(images) for images in inputs)
        masks = [None if images is None else tf.cast(images > 0, tf.float32)
                 for images in (batch.rendering, batch.paired_rendering)]
        unshaded = paired_rendering
        if batch.paired_photo is not None:
            paired_photo, paired_rendering = net.game.seen_pairs(paired_photo, paired_rendering,
                                                                 self._dropout(1, SHADE_STREAM, index))
        with tf1.name_scope("G"):
            x = net.photos_of(s, self._dropout(config.dropout_keep, DROPOUT_STREAM, index),
                              self._dropout(1, net.BACKGROUND_STREAM, index))
            painted, matches = None, config.lambda_m > 0 and net.game.matches_features
            if paired_rendering is not None and (config.lambda_f or matches):
                painted = net.photos_of(
                    paired_rendering, self._dropout(config.dropout_keep, PAIRED_STREAM, index),
                    self._dropout(1, PAIRED_BACKGROUND_STREAM, index), unshaded)
        with tf1.name_scope("G_inv"):
            y = net.G_inv(x if paired_photo is None else tf.concat([x, paired_photo], 0))
            y, fitted = (y, None) if paired_photo is None else tf.split(y, 2)
        with tf1.name_scope("D_forw"):
            forw = self._play(net.D_forw, x, r, self.k_now[0], self._dropout(1, FORW_STREAM, index))
        with tf1.name_scope("D_back"):
            back = self._play(net.D_back, y, s, self.k_now[1], self._dropout(1, BACK_STREAM, index), after=forw)
        with tf1.name_scope("identity"):
            with tf.control_dependencies(_gradients_of(back)):          # by then, the memory of both games is free
                seen = tf.identity(x)
            bottleneck, embeddings = self._embed_at_random(seen, index) if net.has_classifier else (None, None)
        matching = self._match(painted, paired_photo, masks[1], after=back) if painted is not None and matches else None
        return Tower(s, r, paired_photo, paired_rendering, *masks, batch.label, x, y, fitted, painted, matching, forw,
                     back, forw.fake_reconstruction, forw.real_reconstruction, back.fake_reconstruction,
                     back.real_reconstruction, bottleneck, embeddings)

    def _play(self, discriminator, fake, real, k, chance, after=None):
        """Build the Game of a discriminator, which waits for the Game `after`: two at a time take twice the memory.

        `chance` is the layers.Dropout that seeds what is random in it.
        """
        with tf.control_dependencies(_gradients_of(after)):
            images = tf.concat([fake, real], 0)
        return self.networks.game.play(discriminator, images, k, self.with_gradients, chance)

    def _match(self, made, photo, mask, after):
        """Build the feature matching loss of images `made` and the paired `photo`, after the Game `after` -> scalar.

        Where `mask` [B, S, S, 3] is 0, `made` is replaced by the photo, so that what is behind a face does not count.
        """
        with tf1.name_scope("matching"), tf.control_dependencies(_gradients_of(after)):
            wanted = tf.identity(photo)
        return self.networks.game.match_features(self.networks.D_forw, mask * made + (1 - mask) * wanted, wanted)

    def _seed(self, stream):
        """Make the seed [2] int32 of one use of random numbers in this step."""
        return tf.stack([(self.config.random_seed + stream) % 2 ** 31, self.step_now])

    def _dropout(self, keep, stream, index):
        """Make the layers.Dropout of the tower number `index`, counted over all workers, in this step."""
        return layers.Dropout(keep, self._seed(stream), index, self.replicas.total)

    def _embed_at_random(self, x, index):
        """Embed a window of `x` at one random offset for the whole batch, each image mirrored or not."""
        config = self.config
        offsets = offsets_of(config.input_scale_size, self.networks.view.window)
        offset = flips = None
        if offsets > 1 and config.random_crop:
            offset = tf.random.stateless_uniform([2], self._seed(CROP_STREAM), 0, offsets, tf.int32)
        if offsets > 1 and config.random_flip:
            flips = layers.uniform_share(tf.constant([config.batch_size]), self._dropout(1, FLIP_STREAM, index)) < 0.5
        return self.networks.embed(x, offset, flips, self._dropout(config.keep_probability, BOTTLENECK_STREAM, index))

    def _build_losses(self, towers):
        """Make `losses`, every term averaged over the towers, and `scores`, three terms of each example [B]."""
        terms, scores = [], []
        for tower, c_each in zip(towers, self._identity_losses(towers)):
            tower_terms, each = self._tower_losses(tower, c_each)
            terms.append(tower_terms)
            scores.append(each)
        self.losses = {name: _mean([each[name] for each in terms]) for name in terms[0]}
        self.losses["d_loss"] = self.losses["d_loss_forw"] + self.losses["d_loss_back"]
        self.losses["g_loss"] = self.losses["g_loss_forw"] + self.losses["g_loss_back"]     # logged, and not minimised
        self.scores = {name: tf.concat([each[name] for each in scores], 0) for name in scores[0]}

    def _tower_losses(self, tower, c_each):
        forw, back = tower.forw.terms, tower.back.terms
        s_each = losses.l1_per_example(tower.s, tower.y)
        s_loss = tf.reduce_mean(s_each)
        paired = losses.PairedTerms(*[tf.zeros([])] * 3) if tower.fitted is None else losses.paired_terms(
            tower.fitted, tower.paired_rendering, s_loss, self.k_now[2], self.config.gamma)
        terms = dict(
            d_loss_forw=forw.discriminator, g_loss_forw=forw.generator, balance1=forw.balance,
            d_loss_back=back.discriminator, g_loss_back=back.generator, balance2=back.balance,
            sd_loss_forw=paired.generator, sd_loss_real_forw=paired.real, balance3=paired.balance,
            s_loss=s_loss, c_loss=tf.reduce_mean(c_each),
            p_loss=self._pixel_loss(tower.x, tower.s, tower.mask, squared=self.config.pixel_loss == "squared"))
        if tower.painted is not None and self.config.lambda_f:
            terms["f_loss"] = self._pixel_loss(tower.painted, tower.paired_photo, tower.paired_mask)
        if self.config.lambda_e:
            terms["e_loss"] = losses.edge_loss(tower.x, tower.s, tower.mask)
        if tower.matching is not None:
            terms["m_loss"] = tower.matching
        return terms, dict(d_score=forw.fake_each, s_score=s_each, c_score=c_each)

    def _pixel_loss(self, made, wanted, mask, squared=False):
        """Compute the pixel loss of two batches of images, plus --chroma_weight times their chroma loss -> scalar."""
        compare, weight = losses.squared_pixel_loss if squared else losses.pixel_loss, self.config.chroma_weight
        loss = compare(made, wanted, mask)
        return loss + weight * losses.chroma_loss(made, wanted, mask) if weight else loss

    def _identity_losses(self, towers):
        """Make the identity term of every example: [B] for each tower.

        All towers of all workers move the centroids together.
        """
        config = self.config
        self.centroids = self.moved_centroids = None
        nothing = [tf.zeros([config.batch_size]) for _ in towers]
        if not self.networks.has_classifier:
            return nothing
        self.centroids = tf1.get_variable("centroids/centers", [self.n_id, config.embedding_size], tf.float32,
                                          tf1.zeros_initializer(), trainable=False, use_resource=True)
        before = self.centroids.value()
        moved = losses.move_centroids(before, *self.exchange.gather(
            tf.concat([tower.embeddings for tower in towers], 0), tf.concat([tower.label for tower in towers], 0)),
                                      config.center_loss_alfa)
        logits = [networks.logits(tower.bottleneck, self.n_id) for tower in towers]
        if config.method_c == "softmax":
            return [losses.softmax_loss(each, tower.label) for each, tower in zip(logits, towers)]
        if config.method_c == "none":
            return nothing
        self.moved_centroids = moved
        if config.method_c == "center":
            return [losses.center_loss(tower.embeddings, tower.label, before) for tower in towers]
        return [losses.magnet_loss(tower.embeddings, tower.label, moved) for tower in towers]

    def _identity_variables(self):
        """List what trains together with G for the identity loss: the tuned classifier, the softmax head."""
        config = self.config
        tuned = networks.trained_variables(config.facenet_scope) if config.relax_c else []
        return tuned + (tf1.trainable_variables("Logits/") if config.method_c == "softmax" else [])

    def _trained_variables(self):
        """List the variables of each of the three optimizers -> {"G": [...], "G_inv": [...], "D": [...]}."""
        net = self.networks
        return {"G": net.G.variables + self._identity_variables(), "G_inv": net.G_inv.variables,
                "D": net.D_forw.variables + net.D_back.variables}

    def _variables_not_trained(self):
        """List the trainable variables that no optimizer may change: of a frozen classifier, of an unused head."""
        trained = {variable.op.name for variable in self._identity_variables()}
        candidates = self.networks.classifier_variables + tf1.trainable_variables("Logits/")
        return [variable for variable in candidates if variable.op.name not in trained]

    def _loosened(self, weight):
        """Halve the `weight` of a loss after --loosen_step. n replicas do it after an n-th of these steps."""
        if not self.config.loosen_step:
            return weight
        return weight * tf.where(self.step_now < max(1, self.config.loosen_step // self.replicas.total), 1., .5)

    def _build_gradients(self, towers):
        """Make `gradients` {optimizer: list of (gradient, variable)}, all from the weights before the step."""
        config, loss, variables = self.config, self.losses, self.trained
        lambda_s, lambda_p, lambda_f = map(self._loosened, (config.lambda_s, config.lambda_p, config.lambda_f))
        # What G and G_inv minimise besides their losses in the game with their discriminators.
        others = {
            "G": self.lambda_c * loss["c_loss"] + lambda_s * loss["s_loss"] + lambda_p * loss["p_loss"],
            "G_inv": config.lambda_d * loss["sd_loss_forw"] + lambda_s * loss["s_loss"]}
        for name, weight in (("f_loss", lambda_f), ("m_loss", config.lambda_m), ("e_loss", config.lambda_e)):
            if name in loss:
                others["G"] += weight * loss[name]
        if config.weight_decay:
            decayed = [tf.nn.l2_loss(variable) for variable in self._identity_variables()]
            others["G"] += config.weight_decay * tf.add_n(decayed or [0.])
        made = {"G": [(tower.x, tower.forw.by_fake) for tower in towers],
                "G_inv": [(tower.y, tower.back.by_fake) for tower in towers]}
        by_towers = zip(*(tower.forw.by_variables + tower.back.by_variables for tower in towers))
        gradients = {"D": [_mean(each) for each in by_towers]}
        for name, images in made.items():
            gradients[name] = tf1.gradients(
                [others[name]] + [image for image, _ in images], variables[name],
                [None] + [gradient / len(towers) for _, gradient in images], colocate_gradients_with_ops=True)
        self.gradients = {name: list(zip(gradients[name], variables[name])) for name in variables}

    def _average_over_workers(self):
        """Let `losses` and `gradients` be the means over all workers."""
        names = list(self.losses)
        pairs = [pair for group in self.gradients.values() for pair in group]
        means = iter(self.exchange.means([*self.losses.values(), *(gradient for gradient, _ in pairs)]))
        self.losses = {name: next(means) for name in names}
        self.gradients = {name: [(next(means), variable) for _, variable in group]
                          for name, group in self.gradients.items()}

    def _build_train_op(self):
        """Make `train_op`: the averages move, then the weights, the k's and the centroids, then the step counts."""
        config, loss = self.config, self.losses
        rates = {"G": self.g_lr, "G_inv": self.g_lr, "D": self.d_lr}
        state = [(k, losses.update_k(now, loss[balance], config.lambda_k))
                 for k, now, balance in zip(self.k, self.k_now, ("balance1", "balance2", "balance3"))
                 if self.networks.game.balances]
        if self.moved_centroids is not None:
            state.append((self.centroids, self.moved_centroids))
        computed = [gradient for by_variable in self.gradients.values() for gradient, _ in by_variable]
        computed += [value for _, value in state]
        averaged = self._averaged_variables()
        shadows = [average_of(variable) for variable in averaged]
        step = tf.cast(self.step_now, tf.float32)
        decay = tf.minimum(config.average_decay, (1 + step) / (10 + step))
        # shadow - (1 - decay) (shadow - variable), in one pass over memory
        with tf.control_dependencies(computed):
            averages = tf1.train.GradientDescentOptimizer(1 - decay).apply_gradients(
                [(shadow - variable, shadow) for shadow, variable in zip(shadows, averaged)])
        with tf.control_dependencies([averages]), tf1.name_scope(None):           # Adam's powers lie at the top
            updates = [make_optimizer(config, rates[name]).apply_gradients(gradients)
                       for name, gradients in self.gradients.items()]
            updates += [variable.assign(value, read_value=False) for variable, value in state]
        with tf.control_dependencies(updates):
            self.train_op = self.step.assign_add(1, read_value=False)

    def _averaged_variables(self):
        """List every trained variable, and `Logits`, whose averages the original's checkpoints hold in any case."""
        trained = [variable for group in self.trained.values() for variable in group]
        names = names_of(trained)
        return trained + [variable for variable in tf1.trainable_variables("Logits/") if variable.op.name not in names]

    def _saved_variables(self):
        """List everything that the next step depends on: all variables but those of a frozen classifier."""
        frozen = () if self.config.relax_c else names_of(self.networks.classifier_variables)
        return [variable for variable in tf1.global_variables() if variable.op.name not in frozen]

    def _build_summary(self):
        tower, loss = self.tower, self.losses
        scalars = {f"loss/{name}": loss[name] for name in
                   ("d_loss", "g_loss", "g_loss_back", "s_loss", "p_loss", "c_loss", "sd_loss_forw")}
        scalars.update({"misc/k_t": self.k_now[0], "misc/k_t2": self.k_now[1], "misc/k_t3": self.k_now[2],
                        "misc/d_lr": self.d_lr, "misc/g_lr": self.g_lr, "misc/lambda_c": self.lambda_c,
                        "misc/balance": loss["balance1"]})
        scalars.update({f"loss/{name}": loss[name] for name in ("f_loss", "m_loss", "e_loss") if name in loss})
        images = dict(real=tower.r, generated=tower.x, generated_rendering=tower.y, rendering=tower.s,
                      generated_reconstruction=tower.x_reconstruction, real_reconstruction=tower.r_reconstruction)
        self.summary = tf1.summary.merge(
            [tf1.summary.scalar(name, value) for name, value in scalars.items()]
            + [tf1.summary.image(name, to_image(value), 4) for name, value in images.items() if value is not None])


def _is_background(s):
    """Tell where renderings `s` [B, S, S, 3] show no face -> bool [B, S, S, 1].

    There, most pixels of a window of 3 x 3 are nearly black.
    """
    dark = tf.reduce_max(s, axis=3, keepdims=True) < NEARLY_BLACK / 127.5 - 1
    return tf.nn.avg_pool2d(tf.cast(dark, tf.float32), 3, 1, "SAME") > .5


def _mean(tensors):
    """Compute the mean of a list of tensors of one shape."""
    return tf.add_n(tensors) / len(tensors)


def make_optimizer(config, rate):
    """Make the update rule of --optimizer with the learning rate `rate`, a scalar tensor."""
    if config.optimizer == "rmsprop":
        return tf1.train.RMSPropOptimizer(rate, decay=config.beta2, momentum=config.beta1)
    if config.optimizer == "sgd":
        return tf1.train.MomentumOptimizer(rate, config.beta1)
    return tf1.train.AdamOptimizer(rate, config.beta1, config.beta2)


def _gradients_of(game):
    """List the gradients of a Game: [] for None, and in a graph without gradients."""
    return [game.by_fake, *game.by_variables] if game and game.by_variables else []
