"""The dream: the MDN-RNN as a world, many dreams in lockstep."""

import math
from typing import TYPE_CHECKING, Any

from common.runtime import devices  # noqa: F401  isort: skip  (loads TensorFlow without its banner)
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from common.agent import mdnrnn, vae
from common.protocols import Seeds
from common.runtime.settings import Pay

if TYPE_CHECKING:
    from common.worlds.tensor_dreams import Starts

NOISE_STEPS = 64  # steps of noise drawn at a time


class DreamWorld:
    """A World of dreams. The restart logit of the MDN-RNN ends a dream.

    The reward is 1 per step; if the MDN-RNN has heads and `pay` is given, it is what they expect, see `paid`. The start
    of a dream and all its noise follow from its seed. All candidates of a generation thus meet the same noise (common
    random numbers), in any batch and on any rank.

    Args:
        rnn: the MDN-RNN that dreams.
        initial_z: (mu, logvar), each float32 [frames, Z], of first frames of real episodes.
        temperature: > 0, see mdnrnn.sample.
        max_steps: of an episode of the game, at which a dream ends.
        dropout: share of h that is set to zero for the prediction, each dream with its own mask.
        pay: what the heads of the MDN-RNN pay by; without heads it has no effect.
        starts: where dreams begin; by default at first frames, without a memory.
        end_weight: the weight of restarts in the loss of the MDN-RNN: ends are drawn, see mdnrnn.drawn_bar. 0: a dream
            ends where the restart logit is above 0, as in the authors' code.
        horizon: steps after which a dream ends wherever it started; 0 for no such limit.
    """

    def __init__(
        self,
        rnn: mdnrnn.MDNRNN,
        initial_z: tuple[np.ndarray, np.ndarray],
        temperature: float,
        max_steps: int,
        dropout: float = 0.0,
        pay: Pay | None = None,
        starts: "Starts | None" = None,
        end_weight: float = 0.0,
        horizon: int = 0,
    ) -> None:
        self._end_weight, self._horizon = end_weight, horizon or max_steps
        self.rnn, self.initial_z, self.max_steps, self.dropout = rnn, initial_z, max_steps, dropout
        self.starts, self._pay = starts, pay if rnn.shape.heads else None
        self.temperature = temperature
        """may be changed between two steps"""
        self._weights = rnn.prepared()
        self.state: Any = None
        """(z, h, c) of the rows"""

    def reset(self, seeds: Seeds) -> tuple[tf.Tensor, ...]:
        """Starts one dream per seed from a sample of a real frame."""
        unique, self._dream = np.unique(np.asarray(seeds), return_inverse=True)
        self._streams = [np.random.default_rng([int(seed), 2]) for seed in unique]
        mu, logvar = (self.starts.mu, self.starts.logvar) if self.starts else self.initial_z
        size = self.rnn.shape.z_size
        start = [(rng.integers(len(mu)), rng.standard_normal(size, np.float32)) for rng in self._streams]
        index, noise = map(np.array, zip(*start, strict=True))
        z = tf.gather(vae.sample(mu[index], logvar[index], noise), self._dream)
        age = self.starts.age[index] if self.starts else np.zeros(len(index), int)
        self._last = np.minimum(self.max_steps - age, self._horizon)[self._dream]
        memory, self._restart = self.rnn.initial_state(len(self._dream)), tf.ones([len(self._dream)])
        if self.starts:
            here = index[self._dream]
            memory = tf.constant(self.starts.h[here]), tf.constant(self.starts.c[here])
            self._restart = tf.constant(self.starts.age[here] == 0, tf.float32)
        self.state, self._mask = (z, *memory), None
        self._alive = tf.ones([len(self._dream)]) if self._pay else None
        self._chances = [np.random.default_rng([int(seed), 11]) for seed in unique]
        if self.dropout:
            uniform = [rng.random(self.rnn.shape.hidden_size, np.float32) for rng in self._streams]
            self._mask = mdnrnn.dropout_mask(np.stack(uniform), self.dropout)
        self._steps = 0
        return self.state

    def step(self, action: ArrayLike) -> tuple[tuple[tf.Tensor, ...], np.ndarray, np.ndarray]:
        """Dreams the next z of every row: float [B, A] -> (state, reward [B], done [B])."""
        uniform, normal = self._noise()
        noise = self._mask, uniform, normal, self._bar(), np.float32(self.temperature)
        state = (*self.state, self._alive)
        z, h, c, done, reward, self._alive = self._next(state, self._restart, action, self._dream, noise)
        self._steps += 1
        done, reward = done.numpy() | (self._steps >= self._last), reward.numpy()
        if done.any():
            on = np.flatnonzero(~done)
            z, h, c = (tf.gather(part, on) for part in (z, h, c))
            self._alive = None if self._alive is None else tf.gather(self._alive, on)
            self._dream, self._last = self._dream[on], self._last[on]
        if done.any() or self._steps == 1:
            self._restart = tf.zeros([len(self._dream)])
        self.state = (z, h, c)
        return self.state, reward, done

    def _bar(self) -> Any:
        """The bar of the restart logit of this step for every dream, float32 [dreams]."""
        if not self._end_weight:
            return np.zeros(len(self._chances), np.float32)
        return mdnrnn.drawn_bar(np.array([rng.random() for rng in self._chances], np.float32), self._end_weight)

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
        mask, uniform, normal, bar, temperature = noise
        own_noise, own_bar = (tf.gather(uniform, dream), tf.gather(normal, dream)), tf.gather(bar, dream)
        own_mask = None if mask is None else tf.gather(mask, dream)
        alive = state[-1]
        own = *own_noise, temperature, own_mask
        z, h, c, logit = next_of(self.rnn, self._weights, state[:3], restart, action, *own)
        # NaN in any input of the MDN-RNN makes all of h NaN: such a dream ends, and its return is NaN, not a high score
        sound = tf.math.is_finite(h[:, 0])
        reward = tf.ones_like(h[:, 0])
        if self._pay:
            reward, alive = paid(self.rnn, self._weights, mdnrnn.masked(h, own_mask), alive, self._pay)
        return z, h, c, (logit > own_bar) | ~sound, tf.where(sound, reward, np.nan), alive


def paid(
    rnn: mdnrnn.MDNRNN, weights: mdnrnn.Weights, hidden: tf.Tensor, alive: tf.Tensor, pay: Pay
) -> tuple[tf.Tensor, tf.Tensor]:
    """What a step of many dreams pays by the heads of the MDN-RNN.

    With r the reward it expects, clipped to the range of the game's config, and p the probability that the step is the
    end that costs:

        reward = alive * (r * (1 - p) - cost * p);    alive *= 1 - p

    So no dream is ended by a draw. Each goes on, and what follows counts by the probability of getting there: the mean
    over the draws, without their noise. The weight that such ends had in the loss is taken out of p, see
    mdnrnn.drawn_bar.

    Args:
        rnn: an MDN-RNN with heads.
        weights: its prepared weights.
        hidden: float32 [B, H], h as the prediction sees it.
        alive: float32 [B], probability that the dream has come so far; 1 at its start.
        pay: of the game.

    Returns:
        (reward, alive), each float32 [B].
    """
    expected = rnn.expect(weights, hidden)
    fall = tf.sigmoid(expected.fall - math.log(pay.fall_weight))
    reward = tf.clip_by_value(expected.reward, pay.least, pay.most) * (1 - fall) - pay.cost * fall
    return alive * reward, alive * (1 - fall)


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
        (z, h, c, logit float32 [B]): a dream ends where the restart logit is above a bar, in the authors' code above 0;
        without restarts it is minus infinity.
    """
    z, h, c = state
    h, c = rnn.step(weights, mdnrnn.inputs_of(z, action, restart if rnn.shape.restart else None), (h, c))
    mixture, logit = rnn.predict(weights, mdnrnn.masked(h, mask))
    z = mdnrnn.sample(mixture, temperature, uniform, normal)
    return z, h, c, tf.fill(tf.shape(restart), -math.inf) if logit is None else logit
