"""The dream: the MDN-RNN as a world, many dreams in lockstep."""

from typing import Any

from common.runtime import devices  # noqa: F401  isort: skip  (loads TensorFlow without its banner)
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from common.agent import mdnrnn, vae
from common.protocols import Seeds

NOISE_STEPS = 64  # steps of noise drawn at a time


class DreamWorld:
    """A World of dreams. The reward is 1 per step; the restart logit of the MDN-RNN ends a dream.

    The first z of a dream and all its noise follow from its seed. All candidates of a generation thus meet the same
    noise (common random numbers), in any batch and on any rank.

    Args:
        rnn: the MDN-RNN that dreams.
        initial_z: (mu, logvar), each float32 [frames, Z], of first frames of real episodes.
        temperature: > 0, see mdnrnn.sample.
        max_steps: after which a dream ends.
        dropout: share of h that is set to zero for the prediction, each dream with its own mask.
    """

    def __init__(
        self,
        rnn: mdnrnn.MDNRNN,
        initial_z: tuple[np.ndarray, np.ndarray],
        temperature: float,
        max_steps: int,
        dropout: float = 0.0,
    ) -> None:
        self.rnn, self.initial_z, self.max_steps, self.dropout = rnn, initial_z, max_steps, dropout
        self.temperature = temperature
        """may be changed between two steps"""
        self._weights = rnn.prepared()
        self.state: Any = None
        """(z, h, c) of the rows"""

    def reset(self, seeds: Seeds) -> tuple[tf.Tensor, ...]:
        """Starts one dream per seed from a sample of a real first frame."""
        unique, self._dream = np.unique(np.asarray(seeds), return_inverse=True)
        self._streams = [np.random.default_rng([int(seed), 2]) for seed in unique]
        mu, logvar = self.initial_z
        size = self.rnn.shape.z_size
        start = [(rng.integers(len(mu)), rng.standard_normal(size, np.float32)) for rng in self._streams]
        index, noise = map(np.array, zip(*start, strict=True))
        z = tf.gather(vae.sample(mu[index], logvar[index], noise), self._dream)
        self.state = (z, *self.rnn.initial_state(len(self._dream)))
        self._restart = tf.ones([len(self._dream)])
        uniform = [
            rng.random(self.rnn.shape.hidden_size, np.float32) if self.dropout else [1.0] for rng in self._streams
        ]
        self._mask = mdnrnn.dropout_mask(np.array(uniform, np.float32), self.dropout)
        self._steps = 0
        return self.state

    def step(self, action: ArrayLike) -> tuple[tuple[tf.Tensor, ...], np.ndarray, np.ndarray]:
        """Dreams the next z of every row: float [B, A] -> (state, reward [B], done [B])."""
        uniform, normal = self._noise()
        noise = self._mask, uniform, normal, np.float32(self.temperature)
        z, h, c, done, reward = self._next(self.state, self._restart, action, self._dream, noise)
        self._steps += 1
        done, reward = done.numpy() | (self._steps >= self.max_steps), reward.numpy()
        if done.any():
            on = np.flatnonzero(~done)
            z, h, c, self._dream = tf.gather(z, on), tf.gather(h, on), tf.gather(c, on), self._dream[on]
        if done.any() or self._steps == 1:
            self._restart = tf.zeros([len(self._dream)])
        self.state = (z, h, c)
        return self.state, reward, done

    def _noise(self) -> tuple[np.ndarray, np.ndarray]:
        """The noise of this step for every dream, not every row: (uniform, normal), each float32 [dreams, Z]."""
        k = self._steps % NOISE_STEPS
        if k == 0:
            shape, alive = (NOISE_STEPS, self.rnn.shape.z_size), set(self._dream.tolist())
            idle = np.zeros(shape, np.float32)
            pairs = [
                (rng.random(shape, np.float32), rng.standard_normal(shape, np.float32))
                if dream in alive
                else (idle, idle)
                for dream, rng in enumerate(self._streams)
            ]
            self._uniform, self._normal = (np.stack(part, axis=1) for part in zip(*pairs, strict=True))
        return self._uniform[k], self._normal[k]

    @tf.function(reduce_retracing=True)
    def _next(
        self,
        state: tuple[tf.Tensor, ...],
        restart: tf.Tensor,
        action: tf.Tensor,
        dream: tf.Tensor,
        noise: tuple[tf.Tensor, ...],
    ) -> tuple[tf.Tensor, ...]:
        mask, uniform, normal, temperature = noise
        own_noise = tf.gather(uniform, dream), tf.gather(normal, dream)
        own_mask = tf.gather(mask, dream) if self.dropout else None
        z, h, c, done = next_of(self.rnn, self._weights, state, restart, action, *own_noise, temperature, own_mask)
        # NaN in any input of the MDN-RNN makes all of h NaN: such a dream ends, and its return is NaN, not a high score
        sound = tf.math.is_finite(h[:, 0])
        return z, h, c, done | ~sound, tf.where(sound, 1.0, np.nan)


def next_of(
    rnn: mdnrnn.MDNRNN,
    weights: mdnrnn.Weights,
    state: tuple[tf.Tensor, ...],
    restart: tf.Tensor,
    action: tf.Tensor,
    uniform: tf.Tensor,
    normal: tf.Tensor,
    temperature: float,
    mask: tf.Tensor | None = None,
) -> tuple[tf.Tensor, ...]:
    """One step of many dreams.

    Args:
        rnn: the MDN-RNN that dreams.
        weights: prepared, of the same.
        state: (z, h, c), float32 [B, Z], [B, H], [B, H].
        restart: float32 [B], 1 on the first step of a dream.
        action: float [B, A].
        uniform: float32 [B, Z], see mdnrnn.sample.
        normal: float32 [B, Z], likewise.
        temperature: likewise.
        mask: float32 [B, H], see mdnrnn.dropout_mask; None for no dropout.

    Returns:
        (z, h, c, done bool [B]): a positive restart logit ends a dream; without restarts, done is always False.
    """
    z, h, c = state
    h, c = rnn.step(weights, mdnrnn.inputs_of(z, action, restart if rnn.shape.restart else None), (h, c))
    mixture, logit = rnn.predict(weights, h if mask is None else h * mask)
    z = mdnrnn.sample(mixture, temperature, uniform, normal)
    return z, h, c, tf.zeros_like(restart, tf.bool) if logit is None else logit > 0
