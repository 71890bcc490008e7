"""Controllers with hidden layers, for the policy gradient: the network, and the head that makes actions of outputs."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from common.runtime import devices  # isort: skip  (loads TensorFlow without its banner)
import numpy as np
import tensorflow as tf

from common.game import Config
from common.runtime import settings
from common.runtime.cli import UserError

Layers = Sequence[tuple[tf.Tensor, tf.Tensor]]
"""(bias [O], weight [I, O]) of each layer"""
LOGSTD = -3.0, 0.5  # least and greatest log standard deviation of an action, before tanh
CUT_POWER = 3.0  # see SquashedNormal
NODES, SHARES = (part.astype(np.float32) for part in np.polynomial.hermite_e.hermegauss(17))
SHARES /= SHARES.sum()  # of a standard normal: Gauss-Hermite quadrature
LEAST_SHARE = 1e-6  # of its range, by which the action of a linear controller under a network stays off the ends
LINEAR_SHARPNESS = 5.0  # logits per unit of distance of a linear controller's output from a threshold


class Choice:
    """One of K actions: the outputs are their logits, a drawn action is its index, float32 [B, 1].

    Args:
        actions: [K, A], the action of each choice.
    """

    def __init__(self, actions: Sequence[Sequence[float]]) -> None:
        self.actions = tf.constant(actions, tf.float32)
        self.outputs = len(actions)

    def draw(self, outputs: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Outputs float32 [B, K] -> float32 [B, 1], drawn by the Gumbel-max trick."""
        uniform = tf.random.stateless_uniform(tf.shape(outputs), seed, minval=1e-20)
        return self._greatest(outputs - tf.math.log(-tf.math.log(uniform)))

    def best(self, outputs: tf.Tensor) -> tf.Tensor:
        """The action of the most probable choice, float32 [B, A]."""
        return self.action_of(self._greatest(outputs))

    @staticmethod
    def _greatest(outputs: tf.Tensor) -> tf.Tensor:
        return tf.cast(tf.argmax(outputs, axis=1), tf.float32)[:, tf.newaxis]

    def action_of(self, drawn: tf.Tensor) -> tf.Tensor:
        """The action of each choice: float32 [B, 1] -> float32 [B, A]."""
        return tf.gather(self.actions, tf.cast(drawn[:, 0], tf.int32))

    def log_prob(self, outputs: tf.Tensor, drawn: tf.Tensor) -> tf.Tensor:
        """Log-probability of the choices, float32 [B], nats."""
        return tf.gather(tf.nn.log_softmax(outputs), tf.cast(drawn[:, 0], tf.int32), batch_dims=1)

    def entropy(self, outputs: tf.Tensor) -> tf.Tensor:
        """Entropy of the choice, float32 [B], nats."""
        return -tf.reduce_sum(tf.nn.softmax(outputs) * tf.nn.log_softmax(outputs), axis=1)

    def divergence(self, outputs: tf.Tensor, reference: tf.Tensor) -> tf.Tensor:
        """KL(policy || reference), float32 [B], nats."""
        difference = tf.nn.log_softmax(outputs) - tf.nn.log_softmax(reference)
        return tf.reduce_sum(tf.nn.softmax(outputs) * difference, axis=1)


class SquashedNormal:
    """Continuous actions: a normal for each number of the action, squashed by tanh and stretched to its range.

    A linear controller cuts some numbers off at the ends of their range: the brake of a car is 0 for all outputs below
    0. There the mean of a policy would not matter, and act otherwise than the actions that are drawn around it. So such
    a number is squashed to [0, 1] and raised to a power instead, then stretched: small where the other is 0, never
    flat.

    The outputs are means and log standard deviations before tanh, and drawn actions are stored before tanh. Their
    log-probabilities differ from those of the squashed actions by a term that does not depend on the policy.

    Args:
        low: [A], the least action.
        high: [A], the greatest action.
        cut: [A], which numbers a linear controller cuts off at the ends of their range; by default none.
    """

    def __init__(
        self,
        low: Sequence[float],
        high: Sequence[float],
        cut: Sequence[bool] | None = None,
    ) -> None:
        self.low, self.high = tf.constant(low, tf.float32), tf.constant(high, tf.float32)
        self.cut = tf.constant([False] * len(low) if cut is None else cut)
        self.power = tf.where(self.cut, CUT_POWER, 1.0)
        self.outputs = 2 * len(low)

    def _moments(self, outputs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        mean, logstd = tf.split(outputs, 2, axis=1)
        least, most = LOGSTD
        return mean, least + (most - least) * tf.sigmoid(logstd)

    def draw(self, outputs: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Outputs float32 [B, 2A] -> float32 [B, A], drawn, before tanh."""
        mean, logstd = self._moments(outputs)
        return mean + tf.exp(logstd) * tf.random.stateless_normal(tf.shape(mean), seed)

    def best(self, outputs: tf.Tensor) -> tf.Tensor:
        """The expected action, float32 [B, A].

        The action of the mean is another one. Drawn actions may brake hard now and then, while the mean hardly brakes.
        The quadrature errs by up to 0.003 of the range at the largest standard deviation, with CUT_POWER, and by 1e-4
        at a standard deviation of 1.
        """
        mean, logstd = self._moments(outputs)
        drawn = mean + tf.exp(logstd) * NODES[:, np.newaxis, np.newaxis]
        return tf.reduce_sum(SHARES[:, np.newaxis, np.newaxis] * self.action_of(drawn), axis=0)

    def action_of(self, drawn: tf.Tensor) -> tf.Tensor:
        """The squashed actions: float32 [B, A] -> float32 [B, A]."""
        return self.low + (self.high - self.low) * ((tf.tanh(drawn) + 1) / 2) ** self.power

    def mean_of_linear(self, outputs: tf.Tensor) -> tf.Tensor:
        """The means, before tanh, with the action of a linear controller of these outputs: float32 [B, A] -> [B, A].

        That is their own action, see `action_of`. The expected action, which is played, differs by the spread.
        """
        acted = tf.clip_by_value(tf.tanh(outputs), self.low, self.high)
        share = tf.clip_by_value((acted - self.low) / (self.high - self.low), LEAST_SHARE, 1 - LEAST_SHARE)
        return tf.where(self.cut, tf.atanh(2 * share ** (1 / self.power) - 1), outputs)

    def log_prob(self, outputs: tf.Tensor, drawn: tf.Tensor) -> tf.Tensor:
        """Log-probability of drawn actions, before tanh: float32 [B], nats."""
        mean, logstd = self._moments(outputs)
        distance = tf.square((drawn - mean) * tf.exp(-logstd))
        return tf.reduce_sum(-0.5 * distance - logstd - 0.5 * math.log(2 * math.pi), axis=1)

    def entropy(self, outputs: tf.Tensor) -> tf.Tensor:
        """Entropy of the normals, before tanh: float32 [B], nats."""
        return tf.reduce_sum(self._moments(outputs)[1] + 0.5 * math.log(2 * math.pi * math.e), axis=1)

    def divergence(self, outputs: tf.Tensor, reference: tf.Tensor) -> tf.Tensor:
        """KL(policy || reference), which tanh does not change: float32 [B], nats."""
        (mean, logstd), (other, other_logstd) = self._moments(outputs), self._moments(reference)
        square = tf.exp(2 * (logstd - other_logstd)) + tf.square((mean - other) * tf.exp(-other_logstd))
        return tf.reduce_sum(other_logstd - logstd + 0.5 * (square - 1), axis=1)


@dataclasses.dataclass(frozen=True)
class Network:
    """Layers with tanh, the last one linear. The flat vector is, for each layer, the bias, then the weight by rows."""

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
        """Initial parameters, float32 [N]: normal weights of variance 1 / inputs, in the last layer times `last`."""
        scales = [1.0] * (len(self.layers) - 1) + [last]
        parts: list[np.ndarray] = []
        for (inputs, outputs), scale in zip(self.layers, scales, strict=True):
            parts += [np.zeros(outputs), scale * rng.standard_normal(inputs * outputs) / np.sqrt(inputs)]
        return np.concatenate(parts).astype(np.float32)

    def unpack(self, flat: Any) -> list[tuple[Any, Any]]:
        """Float32 [N] -> [(bias [O], weight [I, O])] of each layer; views if it is a NumPy array."""
        parts, start = [], 0
        for inputs, outputs in self.layers:
            middle, end = start + outputs, start + outputs * (1 + inputs)
            reshape = np.reshape if isinstance(flat, np.ndarray) else tf.reshape
            parts.append((flat[start:middle], reshape(flat[middle:end], (inputs, outputs))))
            start = end
        return parts

    def __call__(self, layers: Layers, features: tf.Tensor) -> tf.Tensor:
        """Features float [B, F] -> float32 [B, outputs]."""
        x = features
        for k, (bias, weight) in enumerate(layers):
            x = product(x if k == 0 else tf.tanh(x), weight) + bias
        return x


def pack(layers: Iterable[tuple[tf.Tensor, tf.Tensor]]) -> tf.Tensor:
    """The opposite of Network.unpack: float32 [N]."""
    return tf.concat([tf.reshape(part, [-1]) for layer in layers for part in layer], axis=0)


def product(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """a @ b in the faster dtype of the processor, as float32."""
    dtype = devices.product_dtype()
    return tf.cast(tf.matmul(tf.cast(a, dtype), tf.cast(b, dtype)), tf.float32)


def folded(layers: Layers, mean: tf.Tensor, scale: tf.Tensor) -> Layers:
    """Layers that give for raw features what these give for (features - mean) * scale."""
    (bias, weight), *others = layers
    weight = scale[:, tf.newaxis] * weight
    return [(bias - tf.linalg.matvec(weight, mean, transpose_a=True), weight), *others]


def unfolded(layers: Layers, mean: tf.Tensor, scale: tf.Tensor) -> Layers:
    """The opposite of `folded`."""
    (bias, weight), *others = layers
    return [(bias + tf.linalg.matvec(weight, mean, transpose_a=True), weight / scale[:, tf.newaxis]), *others]


class Policy:
    """A network and an action head. The network can add to the outputs of a fixed policy.

    Args:
        features: how many numbers it reads, F.
        hidden: units of each hidden layer.
        head: turns outputs into actions.
        base: float32 [B, F] -> outputs [B, K] of a fixed policy, see `linear_base` and `normal_base`.
        base_parameters: how many parameters that has.
    """

    def __init__(
        self,
        features: int,
        hidden: Sequence[int],
        head: Choice | SquashedNormal,
        base: Callable[[tf.Tensor], tf.Tensor] | None = None,
        base_parameters: int = 0,
    ) -> None:
        self.network, self.head, self.base = Network((features, *hidden, head.outputs)), head, base
        self._base_parameters = base_parameters

    @property
    def parameters(self) -> int:
        """Length of the flat vector in the file of a controller: the network, then the fixed policy if there is one."""
        return self.network.parameters + self._base_parameters

    def outputs(self, layers: Layers, features: tf.Tensor) -> tf.Tensor:
        """Features float [B, F] -> outputs float32 [B, K], for the head."""
        outputs = self.network(layers, features)
        return outputs if self.base is None else outputs + self.base(tf.cast(features, tf.float32))


def linear_base(parameters: np.ndarray, features: int, threshold: float = 1 / 3) -> Callable[[tf.Tensor], tf.Tensor]:
    """A linear controller tanh(w x + b) of one action, as logits of three choices: below -threshold, between, above it.

    Args:
        parameters: float [N], see `_bias_and_weight`.
        features: how many numbers it reads, F.
        threshold: the least action for which the game presses a button.

    Returns:
        features float32 [B, F] -> logits float32 [B, 3].
    """
    bias, weight = _bias_and_weight(parameters, features, 1)

    def outputs(read: tf.Tensor) -> tf.Tensor:
        u = tf.tanh(tf.matmul(read, weight) + bias)
        return LINEAR_SHARPNESS * tf.concat([-u - threshold, tf.zeros_like(u), u - threshold], axis=1)

    return outputs


def normal_base(parameters: np.ndarray, head: SquashedNormal, features: int) -> Callable[[tf.Tensor], tf.Tensor]:
    """A linear controller as the means of a SquashedNormal, whose standard deviations stay as they are.

    Args:
        parameters: float [N], see `_bias_and_weight`.
        head: the SquashedNormal.
        features: how many numbers it reads, F.
    """
    bias, weight = _bias_and_weight(parameters, features, len(head.cut))

    def outputs(read: tf.Tensor) -> tf.Tensor:
        mean = head.mean_of_linear(tf.matmul(read, weight) + bias)
        return tf.concat([mean, tf.zeros_like(mean)], axis=1)

    return outputs


def _bias_and_weight(parameters: np.ndarray, features: int, actions: int) -> tuple[tf.Tensor, tf.Tensor]:
    """(bias [A], weight [F, A]) of a controller.Controller of one layer: [N], the bias, if any, then the weight."""
    bias, weight = np.split(np.asarray(parameters, np.float32), [len(parameters) - features * actions])
    return tf.constant(bias if len(bias) else np.zeros(actions, np.float32)), tf.constant(weight.reshape(-1, actions))


def base_size(config: Config, features: int) -> int:
    """How many parameters the linear controller of a game has, which can be under a network."""
    return config.ACTION_SIZE * (features + config.CONTROLLER_BIAS)


def policy_for(config: Config, features: int, hidden: str, base: np.ndarray | None = None) -> Policy:
    """The policy of a game: a choice if its config has CHOICES, otherwise continuous actions.

    Args:
        config: of the game.
        features: how many numbers it reads, F.
        hidden: units of each hidden layer, such as "128,64".
        base: float [N], the linear controller under it, see `base_size`, if there is one.

    Raises:
        UserError: `hidden` is not such a list, or a linear controller does not fit the game.
    """
    choices = getattr(config, "CHOICES", None)
    if base is not None and choices is not None and (len(choices), config.ACTION_SIZE) != (3, 1):
        raise UserError(
            "a linear controller can be under a network only where the game has three choices of one number, or none"
        )
    head: Choice | SquashedNormal
    if choices:
        head, under = Choice(choices), None if base is None else linear_base(base, features)
    else:
        head = SquashedNormal(config.ACTION_LOW, config.ACTION_HIGH, getattr(config, "ACTION_CUT", None))
        under = None if base is None else normal_base(base, head, features)
    return Policy(features, settings.units_of(hidden), head, under, 0 if base is None else len(base))


def policy_of(config: Config, features: int, hidden: str, parameters: np.ndarray) -> Policy:
    """The policy that the parameters in a file are of: what the network leaves of them is the linear one under it.

    Args:
        config: of the game.
        features: how many numbers it reads, F.
        hidden: units of each hidden layer.
        parameters: float [N].

    Raises:
        UserError: as `policy_for`, or there are too many or too few parameters.
    """
    alone = policy_for(config, features, hidden)
    under = np.ravel(parameters)[alone.parameters :]
    policy = policy_for(config, features, hidden, under) if len(under) == base_size(config, features) else alone
    if parameters.shape != (policy.parameters,):
        raise UserError(f"{parameters.size} parameters do not fit layers of {', '.join(map(str, alone.network.sizes))}")
    return policy
