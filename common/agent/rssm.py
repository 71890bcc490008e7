"""The RSSM, PlaNet's recurrent state-space model: a world model that predicts rewards, so that one can plan in it.

A state is (h, s): h the memory of a GRU, the deterministic path; s a sample of a normal, the stochastic path. The prior
says what s is to be expected from h alone; the posterior has seen the frame as well.

    h[t] = GRU(h[t - 1], s[t - 1], a[t - 1])      prior p(s[t] | h[t])      posterior q(s[t] | h[t], frame[t])

Frame and reward are predicted from (h, s). In games that can be lost, the end is predicted too: from a sample of the
prior, because after an end there is no frame. So is the reward of the step that ended an episode. Without noise
(`paths="deterministic"`) everything is predicted from the prior's mean: a posterior's mean could tell the decoder all
of the frame within the free nats, and the prior would learn nothing.
Source: Hafner et al. 2019, "Learning latent dynamics for planning from pixels", and the appendix on its networks.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from common.runtime import devices  # isort: skip  (sets TensorFlow's log level before its import)
import keras
import tensorflow as tf
from keras import layers

from common.agent.vae import DeconvFromPoint, rarity
from common.runtime import settings

PATHS = ("both", "deterministic", "stochastic")
BITS = 5  # of a color that the model sees


@dataclasses.dataclass(frozen=True)
class Shape:
    """Sizes of an RSSM, from which the shapes of its weights follow."""

    action_size: int
    end: bool
    """whether it predicts the end of an episode"""
    deterministic: int = 200
    """cells of the GRU"""
    stochastic: int = 30
    """dimensions of s"""
    hidden: int = 200
    """units of each dense layer between states"""
    head: int = 300
    """units of each of the three dense layers that predict the reward, and of those that predict the end"""
    depth: int = 32
    """channels of the first convolution; 32 makes the convolutions those of the VAE"""
    least_std: float = 0.1
    """of prior and posterior"""
    paths: str = "both"
    """both; deterministic: s is a mean, without noise; stochastic: without a GRU"""

    def __post_init__(self) -> None:
        if self.paths not in PATHS:
            raise ValueError(f"paths {self.paths}: one of {', '.join(PATHS)}")

    @property
    def memory(self) -> int:
        """Size of h."""
        return 0 if self.paths == "stochastic" else self.deterministic

    @property
    def features(self) -> int:
        """Size of (h, s)."""
        return self.memory + self.stochastic

    @property
    def embedded(self) -> int:
        """Size of what the convolutions make of a frame."""
        return 32 * self.depth

    @property
    def dense(self) -> dict[str, tuple[int, int]]:
        """{name: (inputs, outputs)} of the dense layers."""
        read = self.memory or self.hidden  # by prior and posterior
        found = {"action": (self.stochastic + self.action_size, self.hidden)}
        if self.memory:
            found |= {"gru_x": (self.hidden, 3 * self.memory), "gru_h": (self.memory, 3 * self.memory)}
        found |= {"prior": (read, self.hidden), "prior_out": (self.hidden, 2 * self.stochastic)}
        found |= {"posterior": (read, self.hidden), "posterior_frame": (self.embedded, self.hidden)}
        found |= {"posterior_out": (self.hidden, 2 * self.stochastic)}
        for head in ("reward", "end") if self.end else ("reward",):
            found |= {f"{head}_1": (self.features, self.head), f"{head}_out": (self.head, 1)}
            found |= {f"{head}_{k}": (self.head, self.head) for k in (2, 3)}
        return found


Weights = dict[str, tuple[tf.Tensor, tf.Tensor]]
"""{name of a dense layer: (kernel, bias)} as the products take them"""


class State(NamedTuple):
    """Where the model believes the game to be, in N rows or [T, N]."""

    h: tf.Tensor  # float32 [..., H]
    s: tf.Tensor  # float32 [..., S]


class Normal(NamedTuple):
    """A normal of independent dimensions."""

    mean: tf.Tensor  # float32 [..., S]
    std: tf.Tensor  # float32 [..., S]


class Chunks(NamedTuple):
    """B pieces of episodes, T steps long: row t holds a frame, and what led to it."""

    frames: tf.Tensor  # uint8 [T, B, 64, 64, 3]
    action: tf.Tensor  # float32 [T, B, A], played at the frame before; 0 at the first frame of an episode
    reward: tf.Tensor  # float32 [T, B], that the action brought
    end: tf.Tensor  # float32 [T, B], 1 where the action ended the episode, so that there is no frame
    known: tf.Tensor  # float32 [T, B], 1 where there is a frame; where neither this nor `end` is 1, there is no step


class RSSM(keras.Model):
    """The model. What computes takes the `prepared` weights, prepared once for many steps.

    Args:
        shape: Shape.
        dtype: what convolutions and matrix products compute in; all else is float32. Default: devices.product_dtype().
    """

    def __init__(self, shape: Shape, dtype: Any = None) -> None:
        super().__init__(name="rssm")
        self.shape, self.product_dtype = shape, tf.as_dtype(dtype or devices.product_dtype())
        policy = "float32" if self.product_dtype == tf.float32 else f"mixed_{self.product_dtype.name}"
        depth = shape.depth
        conv = [layers.Conv2D(k * depth, 4, 2, activation="relu", dtype=policy) for k in (1, 2, 4, 8)]
        self.encoder = keras.Sequential([keras.Input((64, 64, 3)), *conv, layers.Flatten()], name="encoder")
        self.decoder = keras.Sequential(
            [
                keras.Input((shape.features,)),
                layers.Dense(32 * depth, dtype=policy),
                layers.Reshape((1, 1, 32 * depth)),
                DeconvFromPoint(4 * depth, 5, 2, activation="relu", dtype=policy),
                layers.Conv2DTranspose(2 * depth, 5, 2, activation="relu", dtype=policy),
                layers.Conv2DTranspose(depth, 6, 2, activation="relu", dtype=policy),
                layers.Conv2DTranspose(3, 6, 2, dtype=policy),
            ],
            name="decoder",
        )
        self.kernels, self.biases = {}, {}
        for name, (inputs, outputs) in shape.dense.items():
            size = (inputs, outputs)
            self.kernels[name] = self.add_weight(name=f"{name}_kernel", shape=size, initializer="glorot_uniform")
            self.biases[name] = self.add_weight(name=f"{name}_bias", shape=(outputs,), initializer="zeros")
        if shape.memory:  # the GRU begins with open gates, as the authors' cell does
            self.biases["gru_x"].assign([1.0] * (2 * shape.memory) + [0.0] * shape.memory)
        self.built = True

    def arrays(self) -> dict[str, keras.Variable]:
        """{name: variable} of all weights, in the order of a file."""
        own = {part.name: part for name in self.shape.dense for part in (self.kernels[name], self.biases[name])}
        for net in (self.encoder, self.decoder):
            own |= {f"{net.name}_{k}": variable for k, variable in enumerate(net.trainable_variables)}
        return own

    def prepared(self) -> Weights:
        """The dense weights as the methods below use them: {name: (kernel in the product's dtype, bias)}."""
        return {
            name: (tf.cast(self.kernels[name], self.product_dtype), tf.convert_to_tensor(self.biases[name]))
            for name in self.shape.dense
        }

    def initial_state(self, rows: int | tf.Tensor) -> State:
        """The state before the first frame: zeros."""
        return State(tf.zeros([rows, self.shape.memory]), tf.zeros([rows, self.shape.stochastic]))

    def embed(self, images: tf.Tensor) -> tf.Tensor:
        """What the posterior reads of images: float32 [N, 64, 64, 3] -> float32 [N, E]."""
        return tf.cast(self.encoder(images), tf.float32)

    def transition(self, weights: Weights, state: State, action: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, Normal]:
        """One step ahead without seeing anything.

        Args:
            weights: what `prepared` returned.
            state: State of N rows.
            action: float32 [N, A].

        Returns:
            (h float32 [N, H], read float32 [N, R] for `posterior`, the prior: Normal).
        """
        x = tf.nn.relu(_dense(weights["action"], tf.concat([state.s, action], axis=1)))
        if self.shape.memory:
            h = x = _gru(_dense(weights["gru_x"], x), _dense(weights["gru_h"], state.h), state.h)
        else:
            h = state.h
        return h, x, self._normal(weights["prior_out"], tf.nn.relu(_dense(weights["prior"], x)))

    def posterior(self, weights: Weights, read: tf.Tensor, seen: tf.Tensor) -> Normal:
        """The belief once the frame is seen.

        Args:
            weights: what `prepared` returned.
            read: float32 [N, R] of `transition`.
            seen: float32 [N, U], the embedded frame times the weights "posterior_frame".
        """
        return self._normal(weights["posterior_out"], tf.nn.relu(_dense(weights["posterior"], read) + seen))

    def observe(self, weights: Weights, state: State, action: tf.Tensor, images: tf.Tensor, noise: tf.Tensor) -> State:
        """The state after an action was played and its frame seen.

        Args:
            weights: what `prepared` returned.
            state: State of N rows, before.
            action: float32 [N, A], the one that was played.
            images: float32 [N, 64, 64, 3], see `image_of`.
            noise: float32 [N, S], standard normal; 0 for the mean.
        """
        h, read, _ = self.transition(weights, state, action)
        seen = _dense(weights["posterior_frame"], self.embed(images))
        return State(h, self.sample(self.posterior(weights, read, seen), noise))

    def sample(self, normal: Normal, noise: tf.Tensor) -> tf.Tensor:
        """s of a normal; its mean in a model without noise."""
        return normal.mean if self.shape.paths == "deterministic" else normal.mean + normal.std * noise

    def unroll(
        self, weights: Weights, embedded: tf.Tensor, action: tf.Tensor, known: tf.Tensor, noise: tf.Tensor
    ) -> tuple[State, Normal, Normal]:
        """Follows episodes from their first row on, from the zero state.

        Args:
            weights: what `prepared` returned.
            embedded: float32 [T, B, E].
            action: float32 [T, B, A], see Chunks.
            known: float32 [T, B], see Chunks.
            noise: float32 [T, B, S], standard normal.

        Returns:
            (State [T, B], prior, posterior: Normal [T, B]); where there is no frame the posterior is the prior.
        """
        steps, rows = action.shape[0], tf.shape(action)[1]
        flat = _dense(weights["posterior_frame"], tf.reshape(embedded, [-1, self.shape.embedded]))
        seen = tf.unstack(tf.reshape(flat, [steps, -1, self.shape.hidden]))
        state = self.initial_state(rows)
        states: list[State] = []
        priors: list[Normal] = []
        posteriors: list[Normal] = []
        for t in range(steps):
            h, read, prior = self.transition(weights, state, action[t])
            posterior = self.posterior(weights, read, seen[t])
            there = known[t][:, tf.newaxis] > 0
            posterior = Normal(*(tf.where(there, q, p) for q, p in zip(posterior, prior, strict=True)))
            state = State(h, self.sample(posterior, noise[t]))
            states.append(state)
            priors.append(prior)
            posteriors.append(posterior)
        return State(*_stacked(states)), Normal(*_stacked(priors)), Normal(*_stacked(posteriors))

    def imagine(self, weights: Weights, state: State, action: tf.Tensor, noise: tf.Tensor) -> State:
        """Goes on without seeing: State of N rows, action [T, N, A], noise [T, N, S] -> State [T, N]."""
        states = []
        for t in range(action.shape[0]):
            h, _, prior = self.transition(weights, state, action[t])
            state = State(h, self.sample(prior, noise[t]))
            states.append(state)
        return State(*_stacked(states))

    def decode(self, state: State) -> tf.Tensor:
        """The frames of states, float32 [N, 64, 64, 3], about -0.5 to 0.5."""
        return tf.cast(self.decoder(tf.concat(state, axis=-1)), tf.float32)

    def reward(self, weights: Weights, state: State) -> tf.Tensor:
        """The reward that led to each state: float32 [N]."""
        return self._head(weights, "reward", state)

    def end_logit(self, weights: Weights, state: State) -> tf.Tensor:
        """Whether the step to each state, of which s was drawn from the prior, ended the episode: float32 [N]."""
        return self._head(weights, "end", state)

    def _head(self, weights: Weights, name: str, state: State) -> tf.Tensor:
        x = tf.concat(state, axis=-1)
        for k in (1, 2, 3):
            x = tf.nn.relu(_dense(weights[f"{name}_{k}"], x))
        return _dense(weights[f"{name}_out"], x)[:, 0]

    def _normal(self, weights: tuple[tf.Tensor, tf.Tensor], x: tf.Tensor) -> Normal:
        mean, raw = tf.split(_dense(weights, x), 2, axis=1)
        if self.shape.paths == "deterministic":
            return Normal(mean, tf.ones_like(raw))  # so that the KL is half the squared distance of the means
        return Normal(mean, tf.nn.softplus(raw) + self.shape.least_std)


def _dense(weights: tuple[tf.Tensor, tf.Tensor], x: tf.Tensor) -> tf.Tensor:
    """x @ kernel + bias, the product in the kernel's dtype, the result float32."""
    kernel, bias = weights
    return tf.cast(tf.matmul(tf.cast(x, kernel.dtype), kernel), tf.float32) + bias


def _gru(x: tf.Tensor, h: tf.Tensor, before: tf.Tensor) -> tf.Tensor:
    """The GRU's new h; x and h [N, 3H] are its two products, in Keras's order: update, reset, candidate."""
    (update_x, reset_x, new_x), (update_h, reset_h, new_h) = tf.split(x, 3, axis=1), tf.split(h, 3, axis=1)
    update = tf.sigmoid(update_x + update_h)
    new = tf.tanh(new_x + tf.sigmoid(reset_x + reset_h) * new_h)
    return update * before + (1 - update) * new


def _stacked(steps: Sequence[tuple[tf.Tensor, ...]]) -> Iterator[tf.Tensor]:
    """[(a, b), ...] of T steps -> a [T, ...], b [T, ...]."""
    return (tf.stack(part) for part in zip(*steps, strict=True))


def image_of(frames: tf.Tensor, noise: tf.Tensor | float = 0.5) -> tf.Tensor:
    """What the model sees of frames: 5 bits of each color, spread over their step by the noise, shifted by a half.

    Args:
        frames: uint8 [..., 64, 64, 3].
        noise: float32 in [0, 1), of the same shape; 0.5, its mean, while playing.

    Returns:
        float32 [..., 64, 64, 3] in [-0.5, 0.5).
    """
    levels = 2**BITS
    return (tf.floor(tf.cast(frames, tf.float32) / (256 / levels)) + noise) / levels - 0.5


def kl(q: Normal, p: Normal) -> tf.Tensor:
    """KL(q || p), from the posterior to the prior, in nats: [..., S] -> [...]."""
    terms = tf.math.log(p.std / q.std) + (tf.square(q.std) + tf.square(q.mean - p.mean)) / (2 * tf.square(p.std)) - 0.5
    return tf.reduce_sum(terms, axis=-1)


def mean_of(values: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """The mean of values where the mask is 1; 0 if it is nowhere."""
    return tf.reduce_sum(values * mask) / tf.maximum(tf.reduce_sum(mask), 1.0)


def overshooting_loss(
    model: RSSM,
    weights: Weights,
    state: State,
    posterior: Normal,
    chunks: Chunks,
    cfg: settings.Planet,
    noise: tf.Tensor,
) -> tf.Tensor:
    """Latent overshooting: the posteriors as they were to be expected 2 to D steps before.

    From every posterior sample the model goes on without seeing; after d steps its prior is compared with the posterior
    of that step, through which no gradient flows. (Distance 1 is the KL of every training.)

    Args:
        model: RSSM.
        weights: its prepared weights.
        state: State [T, B] of `unroll`.
        posterior: Normal [T, B] of `unroll`.
        chunks: Chunks that were unrolled.
        cfg: with `overshooting`, D, and `free_nats`.
        noise: float32 [D, T, B, S], standard normal.

    Returns:
        float32 [], nats, averaged over steps and distances.
    """
    steps, target = chunks.action.shape[0], Normal(*map(tf.stop_gradient, posterior))
    total = []
    for distance in range(1, min(cfg.overshooting, steps - 1) + 1):
        # the starts that have a step so far ahead: state[t] goes on by the action that led to t + distance
        left = steps - distance
        action, flat = chunks.action[distance:], [tf.reshape(x[:left], [-1, x.shape[-1]]) for x in state]
        h, _, prior = model.transition(weights, State(*flat), tf.reshape(action, [-1, model.shape.action_size]))
        s = model.sample(prior, tf.reshape(noise[distance - 1, :left], [-1, model.shape.stochastic]))
        state = State(*(tf.reshape(x, [left, -1, x.shape[-1]]) for x in (h, s)))
        if distance > 1:
            prior = Normal(*(tf.reshape(x, [left, -1, model.shape.stochastic]) for x in prior))
            nats = kl(Normal(*(x[distance:] for x in target)), prior)
            total.append(mean_of(tf.maximum(nats - cfg.free_nats, 0.0), chunks.known[distance:]))
    return tf.reduce_mean(tf.stack(total)) if total else tf.constant(0.0)


def losses_of(
    model: RSSM, chunks: Chunks, shown: tf.Tensor, seed: tf.Tensor, cfg: settings.Planet
) -> dict[str, tf.Tensor]:
    """What training minimises the weighted sum of.

    Args:
        model: RSSM.
        chunks: Chunks.
        shown: int32 [N] in 0..TB - 1, the frames that are decoded: all, or some to save time.
        seed: int32 [2], decides all noise; the second number of two calls is at least 4 apart.
        cfg: settings.Planet.

    Returns:
        {"image", "reward", "kl", "end", "overshooting": float32 [], means per step}, without their weights. image and
        reward are negative log-likelihoods of a normal of variance 1 without its constant; kl counts what is above the
        free nats, of which a model without noise has none.
    """
    shape, (steps, rows) = model.shape, (chunks.action.shape[0], tf.shape(chunks.action)[1])
    per_step = tf.stack([steps, rows, shape.stochastic])
    cfg = dataclasses.replace(cfg, free_nats=0.0) if shape.paths == "deterministic" else cfg

    def normal(k: int) -> tf.Tensor:
        return tf.random.stateless_normal(per_step, seed + [0, k])

    frames = tf.reshape(chunks.frames, [-1, 64, 64, 3])
    weights = model.prepared()
    # a departure from the paper: only what is decoded is spread by noise; what is read is what is read while playing
    embedded = tf.reshape(model.embed(image_of(frames)), [steps, -1, shape.embedded])
    state, prior, posterior = model.unroll(weights, embedded, chunks.action, chunks.known, normal(1))
    expected = State(state.h, model.sample(prior, normal(2)))
    told = expected if shape.paths == "deterministic" else state
    flat, expected = (State(*(tf.reshape(part, [-1, part.shape[-1]]) for part in x)) for x in (told, expected))
    known, end = tf.reshape(chunks.known, [-1]), tf.reshape(chunks.end, [-1])
    there = tf.maximum(known, end)  # an end has a reward, but no frame: its s is the prior's

    decoded, target = model.decode(State(*(tf.gather(part, shown) for part in flat))), tf.gather(frames, shown)
    plain, target = image_of(target), image_of(target, tf.random.stateless_uniform(tf.shape(target), seed))
    squares = tf.square(target - decoded)
    if cfg.rare_pixels:
        seen = tf.boolean_mask(plain, tf.gather(known, shown) > 0)  # the others are black, and no frames
        squares *= 1 + cfg.rare_pixels * rarity(plain, seen)
    errors = 0.5 * tf.reduce_sum(squares, axis=[1, 2, 3])
    reward = 0.5 * tf.square(model.reward(weights, flat) - tf.reshape(chunks.reward, [-1]))
    losses = {
        "image": mean_of(errors, tf.gather(known, shown)),
        "reward": mean_of(reward, there),
        "kl": mean_of(tf.maximum(kl(posterior, prior) - cfg.free_nats, 0.0), chunks.known),
    }
    if shape.end:
        entropy = tf.nn.sigmoid_cross_entropy_with_logits(labels=end, logits=model.end_logit(weights, expected))
        losses["end"] = mean_of(entropy, there)
    if cfg.overshooting > 1:
        noise = tf.random.stateless_normal(tf.concat([[cfg.overshooting], per_step], 0), seed + [0, 3])
        losses["overshooting"] = overshooting_loss(model, weights, state, posterior, chunks, cfg, noise)
    return losses


def total_of(losses: dict[str, tf.Tensor], cfg: settings.Planet) -> tf.Tensor:
    """The weighted sum of `losses_of`."""
    factors = {"image": cfg.image_weight, "reward": cfg.reward_weight, "kl": 1.0}
    factors |= {"end": cfg.end_weight, "overshooting": cfg.overshooting_weight}
    return tf.reduce_sum(tf.stack([factors[name] * loss for name, loss in losses.items()]))


def train_step_of(
    model: RSSM, optimizer: keras.optimizers.Optimizer, cfg: settings.Planet
) -> Callable[..., dict[str, tf.Tensor]]:
    """Compiles the training step.

    Returns:
        step(chunks, shown, seed) -> the losses of `losses_of`; their "image" is NaN if a gradient is not finite.
    """
    variables = model.trainable_variables

    @tf.function
    def step(chunks: Chunks, shown: tf.Tensor, seed: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.GradientTape() as tape:
            losses = losses_of(model, chunks, shown, seed, cfg)
            total = total_of(losses, cfg)
        gradients = tape.gradient(total, variables, unconnected_gradients="zero")
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return losses | {"image": devices.nan_unless_finite(losses["image"], gradients)}

    return step
