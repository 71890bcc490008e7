"""Policies with hidden layers, for the policy gradient: what their outputs mean, and their weights as a flat vector."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence

from common.runtime import devices  # isort: skip  (loads TensorFlow without its banner)
import numpy as np
import tensorflow as tf

from common.game import Config
from common.runtime.cli import UserError

LINEAR_SHARPNESS = 5.0  # logits per unit of distance of a linear controller's output from a threshold


class Choice:
    """One of K actions: the outputs are their logits, a drawn action is its index, float32 [B, 1]."""

    def __init__(self, actions: Sequence[Sequence[float]]):
        """
        Args:
            actions: [K, A], what the world is given for each choice.
        """
        self.actions = tf.constant(actions, tf.float32)
        self.outputs = len(actions)

    def draw(self, outputs: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Float32 [B, K] -> float32 [B, 1], by the Gumbel trick."""
        uniform = tf.random.stateless_uniform(tf.shape(outputs), seed, minval=1e-20)
        return self.greedy(outputs - tf.math.log(-tf.math.log(uniform)))

    def greedy(self, outputs: tf.Tensor) -> tf.Tensor:
        """The most probable choice, float32 [B, 1]."""
        return tf.cast(tf.argmax(outputs, axis=1), tf.float32)[:, tf.newaxis]

    def action_of(self, drawn: tf.Tensor) -> tf.Tensor:
        """What the world is given, float32 [B, A]."""
        return tf.gather(self.actions, tf.cast(drawn[:, 0], tf.int32))

    def log_prob(self, outputs: tf.Tensor, drawn: tf.Tensor) -> tf.Tensor:
        """Float32 [B], nats."""
        return tf.gather(tf.nn.log_softmax(outputs), tf.cast(drawn[:, 0], tf.int32), batch_dims=1)

    def entropy(self, outputs: tf.Tensor) -> tf.Tensor:
        """Float32 [B], nats."""
        return -tf.reduce_sum(tf.nn.softmax(outputs) * tf.nn.log_softmax(outputs), axis=1)

    def divergence(self, outputs: tf.Tensor, reference: tf.Tensor) -> tf.Tensor:
        """KL(policy || reference), float32 [B], nats."""
        difference = tf.nn.log_softmax(outputs) - tf.nn.log_softmax(reference)
        return tf.reduce_sum(tf.nn.softmax(outputs) * difference, axis=1)


class SquashedNormal:
    """Continuous actions: a normal per part of the action, squashed by tanh into its range.

    The outputs are the means and the log standard deviations before the squashing, and a drawn action is kept as it was
    before it: log-probabilities then differ from those of the squashed action by what the policy has no part in.
    """

    def __init__(self, low: Sequence[float], high: Sequence[float], logstd_range: tuple[float, float] = (-3.0, 0.5)):
        """
        Args:
            low, high: [A], the range of each part of the action.
            logstd_range: bounds of the log standard deviation.
        """
        self.low, self.high = tf.constant(low, tf.float32), tf.constant(high, tf.float32)
        self.logstd_range = logstd_range
        self.outputs = 2 * len(low)

    def _moments(self, outputs):
        mean, logstd = tf.split(outputs, 2, axis=1)
        least, most = self.logstd_range
        return mean, least + (most - least) * tf.sigmoid(logstd)

    def draw(self, outputs: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Float32 [B, 2A] -> float32 [B, A], before the squashing."""
        mean, logstd = self._moments(outputs)
        return mean + tf.exp(logstd) * tf.random.stateless_normal(tf.shape(mean), seed)

    def greedy(self, outputs: tf.Tensor) -> tf.Tensor:
        """The means, float32 [B, A]."""
        return self._moments(outputs)[0]

    def action_of(self, drawn: tf.Tensor) -> tf.Tensor:
        """What the world is given, float32 [B, A]."""
        return self.low + (self.high - self.low) * (tf.tanh(drawn) + 1) / 2

    def log_prob(self, outputs: tf.Tensor, drawn: tf.Tensor) -> tf.Tensor:
        """Of what was drawn, before the squashing; float32 [B], nats."""
        mean, logstd = self._moments(outputs)
        distance = tf.square((drawn - mean) * tf.exp(-logstd))
        return tf.reduce_sum(-0.5 * distance - logstd - 0.5 * math.log(2 * math.pi), axis=1)

    def entropy(self, outputs: tf.Tensor) -> tf.Tensor:
        """Of the normals, before the squashing; float32 [B], nats."""
        return tf.reduce_sum(self._moments(outputs)[1] + 0.5 * math.log(2 * math.pi * math.e), axis=1)

    def divergence(self, outputs: tf.Tensor, reference: tf.Tensor) -> tf.Tensor:
        """KL(policy || reference), which the squashing does not change; float32 [B], nats."""
        (mean, logstd), (other, other_logstd) = self._moments(outputs), self._moments(reference)
        square = tf.exp(2 * (logstd - other_logstd)) + tf.square((mean - other) * tf.exp(-other_logstd))
        return tf.reduce_sum(other_logstd - logstd + 0.5 * (square - 1), axis=1)


@dataclasses.dataclass(frozen=True)
class Network:
    """Layers of tanh, the last one linear, as a flat vector: of each layer the bias, then the weight row by row."""

    sizes: tuple[int, ...]
    """features, hidden units of each layer, outputs"""

    @property
    def layers(self) -> list[tuple[int, int]]:
        """(inputs, outputs) of each layer."""
        return list(itertools.pairwise(self.sizes))

    @property
    def parameters(self) -> int:
        """Length of the flat vector."""
        return sum(outputs * (1 + inputs) for inputs, outputs in self.layers)

    def initial(self, rng: np.random.Generator, last: float = 0.0) -> np.ndarray:
        """Float32 [N]: weights normal with variance 1 / inputs, in the last layer times `last`; biases 0."""
        scales = [1.0] * (len(self.layers) - 1) + [last]
        parts = []
        for (inputs, outputs), scale in zip(self.layers, scales, strict=True):
            parts += [np.zeros(outputs), scale * rng.standard_normal(inputs * outputs) / np.sqrt(inputs)]
        return np.concatenate(parts).astype(np.float32)

    def unpack(self, flat):
        """Float32 [N] -> [(bias [O], weight [I, O])] of each layer; of a NumPy array, views."""
        parts, start = [], 0
        for inputs, outputs in self.layers:
            middle, end = start + outputs, start + outputs * (1 + inputs)
            parts.append((flat[start:middle], flat[middle:end].reshape(inputs, outputs) if isinstance(flat, np.ndarray)
                          else tf.reshape(flat[middle:end], [inputs, outputs])))  # fmt: skip
            start = end
        return parts

    def __call__(self, layers, features: tf.Tensor) -> tf.Tensor:
        """Float [B, F] -> float32 [B, outputs]."""
        x = features
        for k, (bias, weight) in enumerate(layers):
            x = product(x if k == 0 else tf.tanh(x), weight) + bias
        return x


def pack(layers) -> tf.Tensor:
    """The opposite of Network.unpack."""
    return tf.concat([tf.reshape(part, [-1]) for layer in layers for part in layer], axis=0)


def product(a, b):
    """a @ b in the processor's faster dtype, as float32."""
    dtype = devices.product_dtype()
    return tf.cast(tf.matmul(tf.cast(a, dtype), tf.cast(b, dtype)), tf.float32)


def folded(layers, mean, scale):
    """The layers that do with the features as they are what these do with (features - mean) * scale."""
    (bias, weight), *others = layers
    weight = scale[:, tf.newaxis] * weight
    return [(bias - tf.linalg.matvec(weight, mean, transpose_a=True), weight), *others]


def unfolded(layers, mean, scale):
    """The opposite of `folded`."""
    (bias, weight), *others = layers
    return [(bias + tf.linalg.matvec(weight, mean, transpose_a=True), weight / scale[:, tf.newaxis]), *others]


class Policy:
    """A network under an action head, alone or on top of a fixed policy whose outputs it adds to."""

    def __init__(
        self,
        features: int,
        hidden: Sequence[int],
        head: Choice | SquashedNormal,
        base: Callable[[tf.Tensor], tf.Tensor] | None = None,
    ):
        """
        Args:
            features: int, F.
            hidden: units of each hidden layer.
            head: what the outputs mean.
            base: float32 [B, F] -> outputs [B, K] of a fixed policy, see `linear_base`.
        """
        self.network, self.head, self.base = Network((features, *hidden, head.outputs)), head, base

    @property
    def parameters(self) -> int:
        """Length of the flat vector in the file of a controller: the network, then the fixed policy if there is one."""
        return self.network.parameters + (self.network.sizes[0] if self.base is not None else 0)

    def outputs(self, layers, features: tf.Tensor) -> tf.Tensor:
        """Float [B, F] -> float32 [B, K]."""
        outputs = self.network(layers, features)
        return outputs if self.base is None else outputs + self.base(tf.cast(features, tf.float32))


def linear_base(weight: np.ndarray, threshold: float = 1 / 3) -> Callable[[tf.Tensor], tf.Tensor]:
    """A linear controller tanh(w x) of one action, as logits of below -threshold, between, and above it.

    Args:
        weight: float [F].
        threshold: where the game begins to understand the action as one of its buttons.
    """
    column = tf.constant(weight, tf.float32)[:, tf.newaxis]

    def outputs(features):
        u = tf.tanh(tf.matmul(features, column))
        return LINEAR_SHARPNESS * tf.concat([-u - threshold, tf.zeros_like(u), u - threshold], axis=1)

    return outputs


def units_of(hidden: str) -> tuple[int, ...]:
    """ "128,64" -> (128, 64), the units of each hidden layer; "" means none."""
    try:
        units = tuple(int(part) for part in hidden.split(",") if part)
    except ValueError:
        units = (0,)
    if any(unit < 1 for unit in units):
        raise UserError(f"{hidden}: give the units of each hidden layer, such as 128,64")
    return units


def policy_for(config: Config, features: int, hidden: str, base: np.ndarray | None = None) -> Policy:
    """The policy of a game: a choice where its config has CHOICES, else one of continuous actions.

    Args:
        config: of the game.
        features: int, F, what it reads.
        hidden: units of each hidden layer, such as "128,64".
        base: float [F], the weights of a linear controller of one action under it; None for none.

    Raises:
        UserError: `hidden` is not such a list, or the game has no place for a linear controller.
    """
    choices = getattr(config, "CHOICES", None)
    if base is not None and (choices is None or len(choices) != 3):
        raise UserError("a linear controller can be under a network only where the game has three choices")
    head = Choice(choices) if choices else SquashedNormal(config.ACTION_LOW, config.ACTION_HIGH)
    return Policy(features, units_of(hidden), head, None if base is None else linear_base(base))
