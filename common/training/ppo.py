"""PPO on batches of worlds, the dream or real games: collect, advantages, update.

Source: Schulman et al. 2017, algorithm 1 and equation 7; advantages: Schulman et al. 2016, equation 16. One update is

    for t in 0..T-1: the policy draws an action in every row, and every row of the world takes a step   (`_collect`)
    advantages of all T x B steps from the rewards and the value network                                (`advantages`)
    some epochs of minibatches of Adam on the clipped objective, the error of the value and the tether  (`_improve`)

In the dream all of this is one TensorFlow graph. Real games are played outside of it (`_play`).

The whole state of a run is arrays (`PPO.arrays`), and its noise follows from (seed, number of the update, step): a run
that is stopped and restored continues as if it had never stopped.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from common.runtime import devices  # isort: skip  (loads TensorFlow without its banner)
import numpy as np
import tensorflow as tf

from common.agent.controller import features_of
from common.agent.network import Layers, Network, Policy, folded, pack, unfolded
from common.runtime import settings
from common.runtime.cli import UserError
from common.worlds.game_rows import GameRows

ADAM = 0.9, 0.999, 1e-5  # beta 1, beta 2, epsilon
SMALLEST_SPREAD = 1e-3  # standard deviation of a feature; one that never changes is divided by this
VALUE_WEIGHT = 0.5  # of the squared error of the value in the loss
MOST_NORM = 0.5  # longest gradient; longer ones are scaled down to this
METRICS = "reward", "ends", "steps", "value_loss", "entropy", "tether", "moved"  # of an update, see PPO.update
State = tuple[tf.Tensor, ...]


class TensorWorld(Protocol):
    """A batch of episodes in the graph, such as tensor_dreams.Dreams. They go on from update to update."""

    rows: int
    """B"""

    def start(self, seed: tf.Tensor) -> State:
        """The initial state, a tuple of tensors [B, ...]."""

    def features(self, state: State) -> tf.Tensor:
        """What policy and value network read, float32 [B, F]."""

    def step(self, state: State, action: tf.Tensor, seed: tf.Tensor) -> tuple[Any, ...]:
        """Action float32 [B, A] -> (state, reward float32 [B], done [B]).

        done is bool, or float32: the probability that the episode ended with this step. Where it is 1, the row begins
        anew. A fourth part, cut bool [B], can say which rows are done only because the world follows them no further.
        """


def advantages(
    reward: tf.Tensor,
    done: tf.Tensor,
    value: tf.Tensor,
    last_value: tf.Tensor,
    discount: float,
    gae_lambda: float,
    cut: tf.Tensor | None = None,
) -> tf.Tensor:
    """Generalised advantage estimates (Schulman et al. 2016, equation 16).

    Args:
        reward: float32 [T, B].
        done: float32 [T, B], 1 where an episode ended with this step, or the probability that it did.
        value: float32 [T, B], of the state before the step.
        last_value: float32 [B], of the state after the last one.
        discount: gamma, in [0, 1].
        gae_lambda: lambda, in [0, 1].
        cut: float32 [T, B], 1 where the episode was only not followed any further. What such a step was worth is
            unknown: its advantage is 0, and the steps before it bootstrap from its value.

    Returns:
        float32 [T, B].
    """
    following = tf.concat([value[1:], last_value[tf.newaxis]], axis=0)
    error = reward + discount * following * (1 - done) - value
    error = error if cut is None else error * (1 - cut)
    return tf.scan(
        lambda later, now: now[0] + discount * gae_lambda * (1 - now[1]) * later,
        (error, done),
        initializer=tf.zeros_like(last_value),
        reverse=True,
    )


def standardized(advantage: tf.Tensor, teaches: tf.Tensor) -> tf.Tensor:
    """Advantages float32 [T, B] with mean 0 and standard deviation 1.

    Args:
        advantage: float32 [T, B].
        teaches: bool [T, B]. The other steps count for neither, and are 0.
    """
    known = tf.boolean_mask(advantage, teaches)
    return tf.where(teaches, (advantage - tf.reduce_mean(known)) / (tf.math.reduce_std(known) + 1e-8), 0.0)


class PPO:
    """A policy and a value network that learn in a world.

    Args:
        world: what it learns in.
        policy: the network and its head.
        cfg: of the training.
        parameters: float32 [N], where the policy begins (see `parameters`); by default a network with a last layer of
            zeros.
        reference: float32 [N], parameters of the policy that the tether holds it to; by default there is no tether.

    Raises:
        UserError: the parameters do not fit the network.
    """

    def __init__(
        self,
        world: TensorWorld | GameRows,
        policy: Policy,
        cfg: settings.PolicyGradient,
        parameters: np.ndarray | None = None,
        reference: np.ndarray | None = None,
    ) -> None:
        self.world, self.policy, self._cfg = world, policy, cfg
        features = policy.network.sizes[0]
        self._value = Network((features, *settings.units_of(cfg.value_hidden), 1))
        rng = np.random.default_rng([cfg.seed_start, 6])
        first = policy.network.initial(rng) if parameters is None else np.asarray(parameters, np.float32)
        if first.shape != (policy.network.parameters,):
            size = policy.network.parameters
            raise UserError(f"{first.size} parameters; a network of {policy.network.sizes} has {size}")
        both = np.concatenate([first, self._value.initial(rng)])
        state = () if isinstance(world, GameRows) else world.start(tf.constant([cfg.seed_start, -1]))
        initial = {
            "networks": both,
            "adam_mean": np.zeros_like(both),
            "adam_square": np.zeros_like(both),
            "adam_steps": np.int32(0),
            "feature_mean": np.zeros(features, np.float32),
            "feature_square": np.ones(features, np.float32),
            "update": np.int32(0),
            **{f"world{k}": part for k, part in enumerate(state)},
        }
        self._variables = {name: tf.Variable(array, trainable=False) for name, array in initial.items()}
        self._reference: Callable[[tf.Tensor], tf.Tensor] | None = None
        if reference is not None:
            held_to = policy.network.unpack(tf.constant(reference, tf.float32))
            self._reference = lambda read: policy.outputs(held_to, read)
        self._update = tf.function(self._update_in_graph)
        self._act = tf.function(self._act_in_graph)

    # -- a run's state ------------------------------------------------------------------------------------------------

    @property
    def updates(self) -> int:
        """Updates done."""
        return int(self._variables["update"])

    def parameters(self) -> np.ndarray:
        """The policy network for unscaled features: float32 [N], see Network."""
        v = self._variables
        mean, scale = _spread(v["feature_mean"], v["feature_square"])
        layers = self.policy.network.unpack(tf.convert_to_tensor(v["networks"])[: self.policy.network.parameters])
        return pack(folded(layers, mean, scale)).numpy()

    def arrays(self) -> dict[str, np.ndarray]:
        """The whole state of the run."""
        return {name: variable.numpy() for name, variable in self._variables.items()}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Takes over the state that `arrays` returned."""
        for name, variable in self._variables.items():
            variable.assign(arrays[name])

    # -- an update ----------------------------------------------------------------------------------------------------

    def update(self, learning_rate: float = 3e-4, tether: float = 0.0) -> dict[str, float]:
        """Collects steps, and learns from them.

        Args:
            learning_rate: step size of Adam.
            tether: weight of KL(policy || reference), per nat.

        Returns:
            {name: value} of `METRICS`: reward and ends per step, the steps that were played, and means of the squared
            error of the value, of the entropy, and of the divergences from the reference and from the policy before
            the update [nats].

        Raises:
            UserError: a number is not finite; the state before this update is kept.
        """
        played = self._play(self.world) if isinstance(self.world, GameRows) else None
        sound, metrics = self._update(tf.constant(learning_rate, tf.float32), tf.constant(tether, tf.float32), played)
        metrics = {name: float(value) for name, value in metrics.items()}
        if not sound:
            broken = [name for name, value in metrics.items() if not np.isfinite(value)] or ["the new weights"]
            raise UserError(
                f"update {self.updates + 1}: {', '.join(broken)} not finite; the state before it is kept. Go on from "
                "the last checkpoint with a lower --learning_rate, or train the MDN-RNN anew if it is what gives NaN"
            )
        return metrics

    def _update_in_graph(
        self, learning_rate: tf.Tensor, tether: tf.Tensor, data: Any
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """One update: (whether all is finite, metrics); `data` is _Collected from games, None where it dreams."""
        v, s = {name: tf.convert_to_tensor(variable) for name, variable in self._variables.items()}, self._cfg
        spread = _spread(v["feature_mean"], v["feature_square"])
        policy, value = (folded(layers, *spread) for layers in self._unpack(v["networks"]))
        key = tf.random.fold_in(tf.stack([s.seed_start, 7]), v["update"])
        world = tuple(v[f"world{k}"] for k in range(sum(name.startswith("world") for name in v)))

        if not isinstance(self.world, GameRows):
            world, data = self._collect(self.world, policy, world, key)

        values = tf.reshape(self._value(value, data.features), [s.steps + 1, -1])
        advantage = advantages(data.reward, data.done, values[:-1], values[-1], s.discount, s.gae_lambda, data.cut)

        teaches = data.played & (data.cut == 0)
        collected = data, standardized(advantage, teaches), advantage + values[:-1]
        after, losses = self._improve(v, collected, learning_rate, tether, key)

        after |= self._measured(after["networks"], v, data)
        after |= {f"world{k}": part for k, part in enumerate(world)} | {"update": v["update"] + 1}
        reward, ends = (tf.boolean_mask(x, data.played) for x in (data.reward, data.done))
        means = tf.reduce_mean(reward) / s.reward_scale, tf.reduce_mean(ends), tf.cast(tf.size(reward), tf.float32)
        metrics = dict(zip(METRICS, (*means, *losses), strict=True))
        return self._kept(v, after, metrics), metrics

    def _kept(self, before: dict[str, Any], after: dict[str, Any], metrics: dict[str, tf.Tensor]) -> tf.Tensor:
        """Takes over the state after an update if all of it is finite; returns whether it is."""
        states = [after["world0"]] if "world0" in after else []
        finite = [after["networks"], after["adam_square"], *states, *metrics.values()]
        sound = tf.reduce_all([tf.reduce_all(tf.math.is_finite(part)) for part in finite])
        for name, variable in self._variables.items():
            variable.assign(tf.where(sound, after[name], before[name]))
        return sound

    def _unpack(self, networks: tf.Tensor) -> tuple[Layers, Layers]:
        """The layers of the policy and of the value network."""
        size = self.policy.network.parameters
        return self.policy.network.unpack(networks[:size]), self._value.unpack(networks[size:])

    def _collect(self, dreams: TensorWorld, layers: Layers, world: State, key: tf.Tensor) -> tuple[State, "_Collected"]:
        """T steps of every row; features are of T + 1 steps, [(T + 1) * B, F], in the dtype of the products."""
        policy, steps, hold, dtype = self.policy, self._cfg.steps, self._cfg.hold_noise, devices.product_dtype()
        kinds = (dtype, *[tf.float32] * 5)  # features, drawn, log_prob, reward, done, cut
        written = [tf.TensorArray(kind, steps + (k == 0)) for k, kind in enumerate(kinds)]

        def step(t: tf.Tensor, world: State, written: list[tf.TensorArray]) -> Any:
            held, new = (tf.random.split(tf.random.fold_in(key, k), 2) for k in (t // hold, t))
            features = tf.cast(dreams.features(world), dtype)
            outputs = policy.outputs(layers, features)
            drawn = policy.head.draw(outputs, held[0])
            world, reward, *ends = dreams.step(world, policy.head.action_of(drawn), new[1])
            done, cut = (tf.cast(part, tf.float32) for part in (*ends, tf.zeros_like(reward))[:2])
            row = features, drawn, policy.head.log_prob(outputs, drawn), self._cfg.reward_scale * reward, done, cut
            return t + 1, world, [array.write(t, part) for array, part in zip(written, row, strict=True)]

        _, world, written = tf.while_loop(lambda t, *_: t < steps, step, (0, world, written))
        written[0] = written[0].write(steps, tf.cast(dreams.features(world), dtype))
        features, *others = (array.stack() for array in written)
        features = tf.reshape(features, [(steps + 1) * dreams.rows, self.policy.network.sizes[0]])
        shaped = (tf.ensure_shape(part, [steps, dreams.rows, *part.shape[2:]]) for part in others)
        drawn, log_prob, reward, done, cut = shaped
        played = tf.ones([steps, dreams.rows], tf.bool)
        return world, _Collected(features, drawn, log_prob, reward, done, cut, played)

    def _play(self, games: GameRows) -> "_Collected":
        """As `_collect`, in real games: T steps at most of a new episode in every row."""
        s, mode = self._cfg, self._cfg.controller_mode
        key = tf.random.fold_in(tf.stack([s.seed_start, 7]), self._variables["update"])
        state = games.start([s.seed_start, self.updates])
        written: list[tuple[Any, ...]] = []
        for t in range(s.steps):
            if not games.on.any():
                break
            action, *taken = self._act(features_of(mode, *state), tf.random.fold_in(key, t // s.hold_noise))
            state, reward, done, cut, played = games.step(state, action.numpy())
            ends = done.astype(np.float32), cut.astype(np.float32), played
            written.append((*(part.numpy() for part in taken), np.float32(s.reward_scale) * reward, *ends))
        waited = s.steps - len(written)  # all rows; these steps are of no use, but an update has so many
        parts = (
            np.pad(np.stack(part), [(0, waited)] + [(0, 0)] * np.ndim(part[0])) for part in zip(*written, strict=True)
        )
        features, drawn, log_prob, reward, done, cut, played = parts
        cut[len(written) :] = 1
        last = np.asarray(tf.cast(features_of(mode, *state), devices.product_dtype()))[np.newaxis]
        features = np.concatenate([features, last]).reshape(-1, features.shape[2])
        return _Collected(*map(tf.constant, (features, drawn, log_prob, reward, done, cut, played)))

    def _act_in_graph(self, features: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Features [B, F] -> (action [B, A], features in the dtype of the products, what was drawn, its log_prob)."""
        v, policy = self._variables, self.policy
        layers = policy.network.unpack(tf.convert_to_tensor(v["networks"])[: policy.network.parameters])
        features = tf.cast(features, devices.product_dtype())
        outputs = policy.outputs(folded(layers, *_spread(v["feature_mean"], v["feature_square"])), features)
        drawn = policy.head.draw(outputs, seed)
        return policy.head.action_of(drawn), features, drawn, policy.head.log_prob(outputs, drawn)

    def _improve(
        self,
        v: dict[str, tf.Tensor],
        collected: tuple["_Collected", tf.Tensor, tf.Tensor],
        learning_rate: tf.Tensor,
        tether: tf.Tensor,
        key: tf.Tensor,
    ) -> tuple[dict[str, tf.Tensor], list[tf.Tensor]]:
        """Epochs of minibatches of the steps that were played.

        Args:
            v: the state before the update.
            collected: the steps, their standardized advantages and their returns, each of these float32 [T, B].
            learning_rate: step size of Adam.
            tether: weight of KL(policy || reference).
            key: decides the order of the steps.

        Returns:
            (networks and Adam after it, mean losses of the last epoch).
        """
        s, policy = self._cfg, self.policy
        steps, *others = collected
        total = s.steps * self.world.rows
        mean, scale = _spread(v["feature_mean"], v["feature_square"])
        reference = self._reference(steps.features[:total]) if self._reference else tf.zeros([total, 0])
        flat = (tf.reshape(x, [total, *x.shape[2:]]) for x in (steps.drawn, steps.log_prob, *others))
        data = steps.features, *flat, reference
        played = tf.where(tf.reshape(steps.played, [total]))[:, 0]
        count = -(-tf.size(played) // s.minibatch)
        learns = tf.cast(v["update"] >= s.value_updates, tf.float32)
        # Adam begins when the policy does: its first steps would be too large after gradients that were all zero
        kept = tf.cast(tf.not_equal(v["update"], s.value_updates), tf.float32)
        adam = v["networks"], kept * v["adam_mean"], kept * v["adam_square"], tf.cast(kept, tf.int32) * v["adam_steps"]

        def gradient_of(adam: State, part: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            """The gradient of the loss of some steps, and their mean losses [4]."""
            features, drawn, log_prob, advantage, returns, reference = (tf.gather(x, part) for x in data)
            networks = self._unpack(adam[0])
            with tf.GradientTape() as tape:
                tape.watch(networks)
                layers, value_layers = (folded(x, mean, scale) for x in networks)
                outputs, value = policy.outputs(layers, features), self._value(value_layers, features)[:, 0]
                difference = policy.head.log_prob(outputs, drawn) - log_prob
                ratio = tf.exp(difference)
                clipped = tf.clip_by_value(ratio, 1 - s.clip, 1 + s.clip)
                gain = tf.reduce_mean(tf.minimum(ratio * advantage, clipped * advantage))
                entropy = tf.reduce_mean(policy.head.entropy(outputs))
                error = tf.reduce_mean(tf.square(value - returns))
                leaving = tf.reduce_mean(policy.head.divergence(outputs, reference)) if self._reference else 0.0
                loss = VALUE_WEIGHT * error + learns * (tether * leaving - gain - s.entropy * entropy)
            gradient = tf.concat([pack(part) for part in tape.gradient(loss, networks)], axis=0)
            moved = tf.reduce_mean(ratio - 1 - difference)  # an estimate of KL(old || new) that is never negative
            return gradient, tf.stack([error, entropy, leaving, moved])

        def minibatch(k: tf.Tensor, adam: State, order: tf.Tensor, losses: tf.Tensor) -> Any:
            first, last = k * tf.size(order) // count, (k + 1) * tf.size(order) // count  # of equal size, but for one
            parts = [order[first + b : last : s.blocks] for b in range(s.blocks)]
            gradients, shares = zip(*(gradient_of(adam, part) for part in parts), strict=True)  # a thread for each
            gradient, share = (tf.reduce_mean(tf.stack(x), axis=0) for x in (gradients, shares))
            return k + 1, _adam(adam, gradient, learning_rate), order, losses + share / tf.cast(count, tf.float32)

        for epoch in range(s.epochs):
            seed = tf.random.fold_in(key, s.steps + epoch)
            order = tf.random.experimental.stateless_shuffle(played, seed)
            start = 0, adam, order, tf.zeros([4])
            _, adam, _, losses = tf.while_loop(lambda k, *_: k < count, minibatch, start)
        return dict(zip(("networks", "adam_mean", "adam_square", "adam_steps"), adam, strict=True)), tf.unstack(losses)

    def _measured(self, networks: tf.Tensor, v: dict[str, tf.Tensor], data: "_Collected") -> dict[str, tf.Tensor]:
        """Updates the mean and mean square of the features, over all of the first updates, by those of one.

        Returns:
            networks that give the same with features scaled by the new mean and square; and these two.
        """
        update, mean, square = (v[name] for name in ("update", "feature_mean", "feature_square"))

        def measured() -> State:
            played = tf.boolean_mask(data.features[: tf.size(data.played)], tf.reshape(data.played, [-1]))
            features, weight = tf.cast(played, tf.float32), 1 / tf.cast(update + 1, tf.float32)
            new_mean = mean + weight * (tf.reduce_mean(features, axis=0) - mean)
            new_square = square + weight * (tf.reduce_mean(tf.square(features), axis=0) - square)
            old, new = _spread(mean, square), _spread(new_mean, new_square)
            layers = (unfolded(folded(part, *old), *new) for part in self._unpack(networks))
            return tf.concat([pack(part) for part in layers], axis=0), new_mean, new_square

        now = tf.cond(update < self._cfg.value_updates, measured, lambda: (networks, mean, square))
        return dict(zip(("networks", "feature_mean", "feature_square"), now, strict=True))


class _Collected(NamedTuple):
    """The steps of an update, each [T, B, ...] but the features, [(T + 1) * B, F]."""

    features: tf.Tensor
    drawn: tf.Tensor
    log_prob: tf.Tensor
    reward: tf.Tensor
    done: tf.Tensor
    cut: tf.Tensor
    played: tf.Tensor
    """bool; in games, rows that have ended wait for the others"""


def _spread(mean: tf.Tensor, square: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """(mean, 1 / standard deviation) of the features."""
    return tf.convert_to_tensor(mean), tf.math.rsqrt(tf.maximum(square - tf.square(mean), SMALLEST_SPREAD**2))


def _adam(adam: State, gradient: tf.Tensor, learning_rate: tf.Tensor) -> State:
    """One step of Adam (Kingma & Ba 2015, algorithm 1), with the gradient clipped to the norm MOST_NORM."""
    x, mean, square, steps = adam
    beta1, beta2, epsilon = ADAM
    gradient *= MOST_NORM / tf.maximum(tf.norm(gradient), MOST_NORM)
    steps += 1
    mean, square = beta1 * mean + (1 - beta1) * gradient, beta2 * square + (1 - beta2) * tf.square(gradient)
    t = tf.cast(steps, tf.float32)
    rate = learning_rate * tf.sqrt(1 - beta2**t) / (1 - beta1**t)
    return x - rate * mean / (tf.sqrt(square) + epsilon), mean, square, steps
