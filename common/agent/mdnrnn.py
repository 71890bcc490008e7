"""The MDN-RNN (M in the paper): an LSTM that predicts a mixture of five normals for every dimension of the next z.

Source: Ha & Schmidhuber 2018, appendix A.2. As in the Doom experiment, the MDN-RNN can also read a restart flag and
predict the next one as a logit. Then one long stream can hold many episodes, and a dream can end.

With a mixture of one normal, it can be trained by the KL divergence from the posterior of the VAE instead (`--output
gaussian`): files, dreams and controllers are those of a mixture of one.

With two more linear outputs, `heads`, it also expects what a step pays: its reward, and the end that costs, such as
leaving the field, as a logit. The authors' MDN-RNN has neither, and CarRacing's controller was evolved in the game.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

from common.runtime import devices  # isort: skip  (sets TensorFlow's log level before its import)
import keras
import tensorflow as tf

from common.agent import vae
from common.data.series import CUT
from common.runtime.settings import Pay

FORGET_BIAS = 1.0  # added at run time, not stored in the bias
HEADS = "heads_w", "heads_b"  # the arrays of the two heads, which come last in a file
FALL_BIAS = -4.0  # of the logit at first: the end that costs is expected in one step of 55
State = tuple[tf.Tensor, tf.Tensor]
"""(h, c) of the LSTM, each float32 [B, H]"""


@dataclasses.dataclass(frozen=True)
class Shape:
    """The sizes of an MDN-RNN."""

    z_size: int
    """dimensions of z, Z"""
    action_size: int
    """numbers in an action, A"""
    hidden_size: int
    """cells of the LSTM, H"""
    restart: bool
    """whether it reads and predicts the restart flag"""
    mixtures: int = 5
    """normals in the mixture of each dimension of z, K"""
    heads: bool = False
    """whether it also expects the reward of a step, and the end that costs"""

    @property
    def input_size(self) -> int:
        """How many numbers the LSTM reads, I: z, action and, where there is one, the restart flag."""
        return self.z_size + self.action_size + self.restart

    @property
    def output_size(self) -> int:
        """The restart logit, where there is one, then the log-weights, means and log-sigmas of all mixtures."""
        return self.restart + self.z_size * self.mixtures * 3

    @property
    def arrays(self) -> dict[str, tuple[int, ...]]:
        """{name: shape} of the four arrays of a paper rnn.json and, where there are heads, of their two."""
        gates = 4 * self.hidden_size
        arrays: dict[str, tuple[int, ...]] = {
            "kernel": (self.input_size + self.hidden_size, gates),
            "bias": (gates,),
            "output_w": (self.hidden_size, self.output_size),
            "output_b": (self.output_size,),
        }
        return arrays | (dict(zip(HEADS, ((self.hidden_size, 2), (2,)), strict=True)) if self.heads else {})


class Weights(NamedTuple):
    """The weights as the products below use them: cast to their dtype, output columns regrouped from [Z, 3, K]."""

    kernel: tf.Tensor  # [I + H, 4H]
    bias: tf.Tensor  # float32 [4H]
    mixture_w: tf.Tensor  # [H, 3 * K * Z]
    mixture_b: tf.Tensor  # float32 [3 * K * Z]
    restart_w: tf.Tensor  # [H, 1], or [H, 0] without restarts
    restart_b: tf.Tensor  # float32 [1] or [0]
    heads_w: tf.Tensor  # float32 [H, 2], or [H, 0] without heads
    heads_b: tf.Tensor  # float32 [2] or [0]


class Mixture(NamedTuple):
    """The prediction of N next values of z: a mixture of K normals for every dimension."""

    logmix: tf.Tensor  # float32 [N, K, Z], not normalized
    mean: tf.Tensor  # float32 [N, K, Z]
    logstd: tf.Tensor  # float32 [N, K, Z]


class Expected(NamedTuple):
    """What N steps are expected to pay."""

    reward: tf.Tensor  # float32 [N]
    fall: tf.Tensor  # float32 [N], the logit of the end that costs


class MDNRNN(keras.Model):
    """The MDN-RNN. Weights are laid out as in the paper's file: kernel rows are input, then h; gate columns i, j, f, o.

    The methods that compute take the `prepared` weights: a dream prepares them once, training once per batch.

    Args:
        shape: Shape.
        dtype: of the matrix products, all else is float32; by default devices.product_dtype().
    """

    def __init__(self, shape: Shape, dtype: Any = None) -> None:
        super().__init__(name="mdnrnn")
        self.shape, self.product_dtype = shape, tf.as_dtype(dtype or devices.product_dtype())
        for name, size in shape.arrays.items():
            initializer = "glorot_uniform" if len(size) == 2 and name not in HEADS else "zeros"
            setattr(self, name, self.add_weight(name=name, shape=size, initializer=initializer))
        if shape.heads:
            self.heads_b.assign([0.0, FALL_BIAS])
        self.built = True

    def prepared(self) -> Weights:
        """The weights as `step`, `sequence` and `predict` take them."""
        first, shape = int(self.shape.restart), self.shape

        def regroup(columns: tf.Tensor) -> tf.Tensor:
            by_dimension = tf.reshape(columns[..., first:], [-1, shape.z_size, 3 * shape.mixtures])
            return tf.reshape(tf.transpose(by_dimension, [0, 2, 1]), [-1, shape.output_size - first])

        return Weights(
            kernel=tf.cast(self.kernel, self.product_dtype),
            bias=tf.convert_to_tensor(self.bias),
            mixture_w=tf.cast(regroup(self.output_w), self.product_dtype),
            mixture_b=regroup(self.output_b)[0],
            restart_w=tf.cast(self.output_w[:, :first], self.product_dtype),
            restart_b=self.output_b[:first],
            heads_w=tf.convert_to_tensor(self.heads_w) if shape.heads else tf.zeros([shape.hidden_size, 0]),
            heads_b=tf.convert_to_tensor(self.heads_b) if shape.heads else tf.zeros([0]),
        )

    def initial_state(self, rows: int) -> State:
        """(h, c) at the start of an episode, each float32 zeros [rows, H]."""
        return tf.zeros([rows, self.shape.hidden_size]), tf.zeros([rows, self.shape.hidden_size])

    def step(self, weights: Weights, inputs: tf.Tensor, state: State) -> State:
        """One step of the LSTM: float32 [B, I], (h, c) -> new (h, c), each float32 [B, H]."""
        h, c = state
        _, c, h = _cell(_product(tf.concat([inputs, h], axis=1), weights.kernel) + weights.bias, c)
        return h, c

    def sequence(self, weights: Weights, inputs: tf.Tensor, keep: tf.Tensor, state: State) -> tuple[tf.Tensor, State]:
        """The LSTM over many steps.

        Args:
            weights: Weights.
            inputs: float32 [T, B, I]; these are data, no gradient flows into them.
            keep: float32 [T, B], 0 where the state is set to zero before the step, else 1.
            state: (h, c), each float32 [B, H], before the first step; gradients stop there.

        Returns:
            (hidden float32 [T, B, H], the state after the last step).
        """
        hidden, last_c = _unrolled(inputs, keep[..., tf.newaxis], *state)(weights.kernel, weights.bias)
        return hidden, (hidden[-1], last_c)

    def predict(self, weights: Weights, hidden: tf.Tensor) -> tuple[Mixture, tf.Tensor | None]:
        """Predicts the next z and, where there is one, the next restart flag.

        Args:
            weights: Weights.
            hidden: float32 [N, H].

        Returns:
            (Mixture, restart logit float32 [N], or None without restarts).
        """
        flat = _product(hidden, weights.mixture_w) + weights.mixture_b
        parts = tf.reshape(flat, [-1, 3, self.shape.mixtures, self.shape.z_size])
        restart = (_product(hidden, weights.restart_w) + weights.restart_b)[:, 0] if self.shape.restart else None
        return Mixture(parts[:, 0], parts[:, 1], parts[:, 2]), restart

    def expect(self, weights: Weights, hidden: tf.Tensor) -> Expected:
        """What the step that led to `hidden`, float32 [N, H], is expected to pay; for an MDN-RNN with heads."""
        reward, fall = tf.unstack(_product(hidden, weights.heads_w) + weights.heads_b, num=2, axis=1)
        return Expected(reward, fall)


def inputs_of(z: tf.Tensor, action: tf.Tensor, restart: tf.Tensor | None = None) -> tf.Tensor:
    """What the LSTM reads, float32 [..., I], from z [..., Z], action [..., A] and, with restarts, the flag [...]."""
    parts = [z, action] if restart is None else [z, action, restart[..., tf.newaxis]]
    return tf.concat([tf.cast(part, tf.float32) for part in parts], axis=-1)


def _product(a: tf.Tensor, b: tf.Tensor, **transposed: bool) -> tf.Tensor:
    """a @ b in the dtype of b, as float32."""
    return tf.cast(tf.matmul(tf.cast(a, b.dtype), b, **transposed), tf.float32)


def _cell(gates: tf.Tensor, c: tf.Tensor) -> tuple[tuple[tf.Tensor, ...], tf.Tensor, tf.Tensor]:
    """[B, 4H] before the activations, c [B, H] -> (the four activated gates, new c, new h), each [B, H]."""
    i, j, f, o = tf.split(gates, 4, axis=1)
    i, j, f, o = tf.sigmoid(i), tf.tanh(j), tf.sigmoid(f + FORGET_BIAS), tf.sigmoid(o)
    c = c * f + i * j
    return (i, j, f, o), c, o * tf.tanh(c)


def _unrolled(
    inputs: tf.Tensor, keep: tf.Tensor, h0: tf.Tensor, c0: tf.Tensor
) -> Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """The LSTM over a chunk as a function of (kernel, bias), with its backpropagation through time written out.

    TensorFlow's gradient of a loop adds up a whole kernel at every step. Here the gradient of the kernel is one matrix
    product over all steps. Shapes as in `MDNRNN.sequence`, keep [T, B, 1].
    """
    steps, size, hidden_size = inputs.shape[0], inputs.shape[2], h0.shape[1]

    def before(values: tf.Tensor, first: tf.Tensor) -> tf.Tensor:
        """The state that each step starts from: that of the step before, `first` at first, zero where keep is 0."""
        return tf.concat([first[tf.newaxis], values[:-1]], axis=0) * keep

    def arrays(count: int) -> list[tf.TensorArray]:
        return [tf.TensorArray(tf.float32, steps, element_shape=[None, hidden_size]) for _ in range(count)]

    @tf.custom_gradient
    def run(kernel: tf.Tensor, bias: tf.Tensor) -> Any:
        projected = _product(tf.reshape(inputs, [-1, size]), kernel[:size]) + bias
        projected = tf.reshape(projected, [steps, -1, 4 * hidden_size])
        recurrent = kernel[size:]

        def forward(t: tf.Tensor, h: tf.Tensor, c: tf.Tensor, *saved: tf.TensorArray) -> Any:
            gates, c, h = _cell(projected[t] + _product(h * keep[t], recurrent), c * keep[t])
            return t + 1, h, c, *(array.write(t, value) for array, value in zip(saved, (*gates, c), strict=True))

        _, _, last_c, *saved = tf.while_loop(lambda t, *_: t < steps, forward, [0, h0, c0, *arrays(5)])
        all_i, all_j, all_f, all_o, all_c = (array.stack() for array in saved)
        tanh_c = tf.tanh(all_c)
        hidden = all_o * tanh_c

        def gradient(d_hidden: tf.Tensor, d_last_c: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            c_before = before(all_c, c0)
            # the factors that do not depend on the step after, for all steps at once
            to_c, to_o = all_o * (1 - tanh_c**2), tanh_c * all_o * (1 - all_o)
            to_i, to_j, to_f = all_j * all_i * (1 - all_i), all_i * (1 - all_j**2), c_before * all_f * (1 - all_f)

            def backward(t: tf.Tensor, dh: tf.Tensor, dc: tf.Tensor, all_d_gates: tf.TensorArray) -> Any:
                dh += d_hidden[t]
                dc += dh * to_c[t]
                d_gates = tf.concat([dc * to_i[t], dc * to_j[t], dc * to_f[t], dh * to_o[t]], axis=1)
                dh = _product(d_gates, recurrent, transpose_b=True) * keep[t]
                return t - 1, dh, dc * all_f[t] * keep[t], all_d_gates.write(t, tf.cast(d_gates, kernel.dtype))

            array = tf.TensorArray(kernel.dtype, steps, element_shape=[None, 4 * hidden_size])
            start = [steps - 1, tf.zeros_like(h0), d_last_c, array]
            *_, all_d_gates = tf.while_loop(lambda t, *_: t >= 0, backward, start)
            d_gates = tf.reshape(all_d_gates.stack(), [-1, 4 * hidden_size])
            read = tf.reshape(tf.concat([inputs, before(hidden, h0)], axis=2), [-1, size + hidden_size])
            d_kernel = tf.matmul(tf.cast(read, kernel.dtype), d_gates, transpose_a=True)
            return d_kernel, tf.reduce_sum(tf.cast(d_gates, tf.float32), axis=0)

        return (hidden, last_c), gradient

    return run


def log_prob(mixture: Mixture, z: tf.Tensor) -> tf.Tensor:
    """log p of every dimension of z: Mixture, float32 [N, Z] -> float32 [N, Z], nats."""
    z = z[:, tf.newaxis]
    normal = (
        -0.5 * tf.square((z - mixture.mean) * tf.exp(-mixture.logstd)) - mixture.logstd - 0.5 * math.log(2 * math.pi)
    )
    return tf.reduce_logsumexp(mixture.logmix + normal, axis=1) - tf.reduce_logsumexp(mixture.logmix, axis=1)


def divergence(mixture: Mixture, mu: tf.Tensor, logvar: tf.Tensor) -> tf.Tensor:
    """KL(posterior || prediction) of every dimension of z, where the prediction is one normal.

    Less the entropy of the posterior, it is the mean of -log p over all samples of the posterior, without their noise.

    Args:
        mixture: Mixture, of one component.
        mu: float32 [N, Z], of the posterior of the VAE.
        logvar: float32 [N, Z], likewise.

    Returns:
        float32 [N, Z], nats.
    """
    mean, logstd = mixture.mean[:, 0], mixture.logstd[:, 0]
    square = tf.exp(logvar - 2 * logstd) + tf.square((mu - mean) * tf.exp(-logstd))
    return logstd - 0.5 * logvar + 0.5 * (square - 1)


def sample(mixture: Mixture, temperature: float, uniform: tf.Tensor, normal: tf.Tensor) -> tf.Tensor:
    """Draws z at a temperature tau: the mixture logits are divided by tau, the noise is multiplied by sqrt(tau).

    Source: Ha & Eck 2017 (Sketch-RNN), as in the authors' code.

    Args:
        mixture: Mixture.
        temperature: float > 0; 1 is the distribution as predicted, more makes the dream harder and less certain.
        uniform: float32 [N, Z] in [0, 1), chooses the component.
        normal: float32 [N, Z], standard normal.

    Returns:
        float32 [N, Z].
    """
    logits = mixture.logmix / temperature
    weight = tf.exp(logits - tf.reduce_max(logits, axis=1, keepdims=True))
    weight, means, logstds = (tf.unstack(part, axis=1) for part in (weight, mixture.mean, mixture.logstd))
    # not tf.add_n, which adds in another order when the memory of one of its inputs can be used again
    cumulative = list(itertools.accumulate(weight))
    threshold = uniform * cumulative[-1]
    # inverse of the cumulative distribution: the last component whose predecessors weigh less than the threshold
    mean, logstd = means[0], logstds[0]
    for k in range(1, len(means)):
        chosen = threshold >= cumulative[k - 1]
        mean, logstd = tf.where(chosen, means[k], mean), tf.where(chosen, logstds[k], logstd)
    return mean + tf.exp(logstd) * tf.sqrt(temperature) * normal


def drawn_bar(uniform: Any, weight: float) -> Any:
    """A bar for the restart logit above which an episode ends, drawn so that it ends as often as it should.

    With a weight on the restarts in the loss, a restart of probability p has the logit log(weight * p / (1 - p)). So p
    is sigmoid(logit - log(weight)), and the logit is above this bar with probability p.

    Args:
        uniform: float, in [0, 1).
        weight: of the restarts in the loss that the MDN-RNN was trained with.
    """
    return math.log(weight) + tf.math.log(uniform) - tf.math.log1p(-uniform)


def restart_loss(logit: tf.Tensor, restart: tf.Tensor, weight: float) -> tf.Tensor:
    """Cross-entropy of the restart flag, with a weight on the restarts: [N], [N], float -> float32 [N], nats."""
    loss = tf.nn.sigmoid_cross_entropy_with_logits(labels=restart, logits=logit)
    return loss * (1 + (weight - 1) * restart)


def head_losses(expected: Expected, reward: tf.Tensor, pay: Pay) -> tuple[tf.Tensor, tf.Tensor]:
    """How far what was expected is from what the steps paid.

    Args:
        expected: of N steps.
        reward: float32 [N], of these steps in the game.
        pay: Pay.

    Returns:
        (reward_loss, fall_loss), float32 []: mean squared error of the reward, which is clipped to its range; mean
        cross-entropy of the end that costs, weighted as the restart flag's.
    """
    error = tf.square(expected.reward - tf.clip_by_value(reward, pay.least, pay.most))
    fell = tf.cast(reward < pay.fall_below, tf.float32)
    return tf.reduce_mean(error), tf.reduce_mean(restart_loss(expected.fall, fell, pay.fall_weight))


def losses_of(
    rnn: MDNRNN,
    batch: tuple[tf.Tensor, ...],
    state: State,
    noise: tf.Tensor,
    restart_weight: float,
    mask: tf.Tensor | None = None,
    pay: Pay | None = None,
    gaussian: bool = False,
    restart_z: bool = False,
) -> tuple[Any, ...]:
    """The terms of the loss of the MDN-RNN, on one chunk of streams.

    Args:
        rnn: MDNRNN.
        batch: (mu, logvar, action, restart, fresh) of series.StreamBatches, [B, T + 1, ...]; with heads also rewards.
        state: (h, c), each float32 [B, H], carried over from the chunk before.
        noise: float32 [B, T + 1, Z], standard normal: z is drawn anew from the posterior of the VAE for every batch.
        restart_weight: float, weight of the restarts in the cross-entropy of the flag.
        mask: float32 [B, H], by which h is multiplied before it predicts, see `dropout_mask`; None for no dropout.
        pay: what the heads learn; an MDN-RNN without heads needs none.
        gaussian: whether z_loss is the `divergence` from the posterior of the VAE, not the likelihood of a sample.
        restart_z: whether the z of the first frame of the next episode is learned as well, as in the authors' code.
            A dream that lives on is then led back to a first frame, with the probability that it should have ended.

    Returns:
        (z_loss, restart_loss, state): float32 [], nats per dimension; float32 [], nats per step, 0 without restarts;
        and the state to carry over. With heads two more before it: reward_loss and fall_loss, see `head_losses`.
    """
    mu, logvar, action, restart, fresh, *reward = (tf.cast(part, tf.float32) for part in batch)
    z = vae.sample(mu, logvar, noise)
    z, action, restart = tf.transpose(z, [1, 0, 2]), tf.transpose(action, [1, 0, 2]), tf.transpose(restart)
    told = tf.reshape(tf.cast(restart[1:] < CUT, tf.float32), [-1])
    restart = tf.minimum(restart, 1.0)
    inputs = inputs_of(z[:-1], action[:-1], restart[:-1] if rnn.shape.restart else None)
    h, c = (part * (1 - fresh[:, tf.newaxis]) for part in state)

    weights = rnn.prepared()
    hidden, state = rnn.sequence(weights, inputs, 1 - restart[:-1], (h, c))
    seen = tf.reshape(masked(hidden, mask), [-1, rnn.shape.hidden_size])
    mixture, logit = rnn.predict(weights, seen)
    # unlike z, the reward of an episode's last step is known
    paid = tf.reshape(tf.transpose(reward[0])[:-1], [-1]) if reward else None
    heads = head_losses(rnn.expect(weights, seen), paid, pay) if pay and rnn.shape.heads else ()
    if gaussian:
        posterior = (tf.reshape(tf.transpose(part, [1, 0, 2])[1:], [-1, rnn.shape.z_size]) for part in (mu, logvar))
        nats = divergence(mixture, *posterior)
    else:
        nats = -log_prob(mixture, tf.reshape(z[1:], [-1, rnn.shape.z_size]))
    began = tf.reshape(restart[1:], [-1])
    # a step that is not learned counts as 0, so that the mean over blocks or devices is the mean over all steps
    z_loss = tf.reduce_mean(nats if restart_z else nats * (1 - began[:, tf.newaxis]))
    if not rnn.shape.restart:
        return z_loss, tf.constant(0.0), *heads, state
    return z_loss, tf.reduce_mean(told * restart_loss(logit, began, restart_weight)), *heads, state


def dropout_mask(uniform: tf.Tensor, dropout: float) -> tf.Tensor:
    """A dropout mask by which h is multiplied for the prediction: 0 for a share of its units, else 1 / (1 - share).

    Source: Srivastava et al. 2014, with one mask for a whole chunk or a whole dream as in Gal & Ghahramani 2016.

    Args:
        uniform: float32 [..., H] in [0, 1).
        dropout: the share.

    Returns:
        float32 [..., H].
    """
    return tf.cast(uniform >= dropout, tf.float32) / (1 - dropout)


def masked(hidden: tf.Tensor, mask: tf.Tensor | None) -> tf.Tensor:
    """What predicts sees of h, float32 [..., H]: h times its `dropout_mask`, or h itself without one."""
    return hidden if mask is None else hidden * mask


def train_step_of(
    rnn: MDNRNN,
    optimizer: keras.Optimizer,
    strategy: tf.distribute.Strategy,
    restart_weight: float,
    dropout: float = 0.0,
    pay: Pay | None = None,
    gaussian: bool = False,
    blocks: int = 1,
    restart_z: bool = False,
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Compiles a training step of the MDN-RNN, and the same step without dropout and update of the weights.

    Args:
        rnn: MDNRNN.
        optimizer: of its weights.
        strategy: of devices.for_training.
        restart_weight: see `losses_of`.
        dropout: share of the units of h that do not predict, see `dropout_mask`.
        pay: see `losses_of`, like gaussian.
        gaussian: bool.
        blocks: parts of the rows of a training step, each of which can have a thread; losses and gradients are their
            means.
        restart_z: see `losses_of`.

    Returns:
        (train, evaluate): each step(batch, state, seed int32 [2]) -> (losses, state), as `losses_of` has them.
    """
    # what is minimised is the sum of the losses, each times its weight
    scales = (1.0, 1.0, pay.reward_weight, 1.0) if rnn.shape.heads and pay else (1.0, 1.0)

    def replica_losses(
        batch: tuple[tf.Tensor, ...], state: State, seed: tf.Tensor, share: float = 0.0
    ) -> tuple[Any, ...]:
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        noise = tf.random.stateless_normal(tf.shape(batch[0]), seed + [0, replica])
        mask = None
        if share:
            mask = dropout_mask(tf.random.stateless_uniform(tf.shape(state[0]), seed + [1, replica]), share)
        return losses_of(rnn, batch, state, noise, restart_weight, mask, pay, gaussian, restart_z)

    def block_train(batch: tuple[tf.Tensor, ...], state: State, seed: tf.Tensor) -> tuple[Any, ...]:
        with tf.GradientTape() as tape:
            *losses, state = replica_losses(batch, state, seed, dropout)
            loss = sum(scale * part for scale, part in zip(scales, losses, strict=True)) / strategy.num_replicas_in_sync
        return tape.gradient(loss, rnn.trainable_variables), losses, state

    def replica_train(batch: tuple[tf.Tensor, ...], state: State, seed: tf.Tensor) -> tuple[Any, ...]:
        rows = zip(*(tf.split(part, blocks) for part in (*batch, *state)), strict=True)
        parts = [
            block_train(part[:-2], part[-2:], tf.random.fold_in(seed, k) if k else seed) for k, part in enumerate(rows)
        ]
        gradients, (z_loss, *others) = (
            [tf.reduce_mean(tf.stack(part), axis=0) for part in zip(*of_blocks, strict=True)]
            for of_blocks in ([part[0] for part in parts], [part[1] for part in parts])
        )
        state = tuple(tf.concat(part, axis=0) for part in zip(*(part[2] for part in parts), strict=True))
        if strategy.num_replicas_in_sync > 1:
            # Keras clips the part of each device and then adds the parts up: so the first device brings the whole sum
            context = tf.distribute.get_replica_context()
            is_first = tf.cast(tf.equal(context.replica_id_in_sync_group, 0), tf.float32)
            gradients = [part * is_first for part in context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)]
        optimizer.apply_gradients(zip(gradients, rnn.trainable_variables, strict=True))
        return devices.nan_unless_finite(z_loss, gradients), *others, state

    def compiled(replica_step: Callable[..., Any]) -> Callable[..., Any]:
        @tf.function
        def step(batch: tuple[tf.Tensor, ...], state: State, seed: tf.Tensor) -> tuple[tuple[tf.Tensor, ...], State]:
            *losses, state = strategy.run(replica_step, (batch, state, seed))
            return tuple(strategy.reduce(tf.distribute.ReduceOp.MEAN, loss, axis=None) for loss in losses), state

        return step

    return compiled(replica_train), compiled(replica_losses)
