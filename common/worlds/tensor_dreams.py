"""The dream as a world of tensors, all in the graph: what the policy gradient learns in.

Rows never leave the batch: a dream that ends is followed in its row by another one, from a pool of states to start from.
"""

import typing
from collections.abc import Sequence

from common.runtime import devices  # noqa: F401  isort: skip  (loads TensorFlow without its banner)
import numpy as np
import tensorflow as tf

from common.agent import mdnrnn
from common.runtime.cli import UserError


class Starts(typing.NamedTuple):
    """States that dreams of one MDN-RNN begin from."""

    mu: np.ndarray  # float [P, Z], of the VAE's posterior of a frame
    logvar: np.ndarray  # float [P, Z]
    h: np.ndarray  # float [P, H], what the MDN-RNN remembers of the frames before
    c: np.ndarray  # float [P, H]
    age: np.ndarray  # int [P], steps of the episode so far; at 0 the MDN-RNN's restart flag is set


def first_frames(initial_z: tuple[np.ndarray, np.ndarray], hidden_size: int) -> Starts:
    """Starts at first frames of real episodes, without a memory; `initial_z` as in dream.DreamWorld."""
    memory = np.zeros((len(initial_z[0]), hidden_size), np.float32)
    return Starts(*initial_z, memory, memory, np.zeros(len(memory), np.int32))


def along_games(
    rnn: mdnrnn.MDNRNN, games: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], every: int, seed: int
) -> Starts:
    """Starts along recorded games, as the MDN-RNN remembers them there.

    Args:
        rnn: MDNRNN.
        games: (mu [T, Z], logvar [T, Z], action [T, A]) of each.
        every: int, steps from one start of a game to its next; the first is somewhere among its first steps.
        seed: int, decides where those are, and the samples of z that the memory is of.
    """
    lengths = np.array([len(mu) for mu, _, _ in games])
    mu, logvar, action = (
        np.stack([np.pad(part, [(0, lengths.max() - len(part)), (0, 0)]) for part in column]).astype(np.float32)
        for column in zip(*games, strict=True)
    )
    rng, weights = np.random.default_rng([seed, 8]), rnn.prepared()
    z = mu + np.exp(0.5 * logvar) * rng.standard_normal(mu.shape, np.float32)
    step = tf.function(lambda z, action, restart, state: rnn.step(weights, mdnrnn.inputs_of(z, action, restart), state))
    h, c = rnn.initial_state(len(games))
    phase, found = rng.integers(every, size=len(games)), []
    for t in range(lengths.max()):
        rows = np.flatnonzero((lengths > t) & ((t - phase) % every == 0))
        found.append((mu[rows, t], logvar[rows, t], h.numpy()[rows], c.numpy()[rows], np.full(len(rows), t, np.int32)))
        restart = tf.fill([len(games)], float(t == 0)) if rnn.shape.restart else None
        h, c = step(z[:, t], action[:, t], restart, (h, c))
    return Starts(*(np.concatenate(part) for part in zip(*found, strict=True)))


class Dreams:
    """Dreams in lockstep; one that ends is followed in its row by another. The reward is -1 where a dream ends.

    With a discount that is the game's reward of 1 a step, less a constant. Time that is up is no end: it costs nothing.
    A state is (z, h, c, age): float32 [B, Z], [B, H], [B, H], int32 [B]; with dropout also its mask, float32 [B, H].
    """

    def __init__(
        self,
        models: Sequence[mdnrnn.MDNRNN],
        starts: Sequence[Starts],
        temperature: float,
        max_steps: int,
        rows: int,
        dropout: float = 0.0,
        mode: str = "zch",
    ):
        """
        Args:
            models: MDN-RNNs with a restart flag, each of which dreams an equal share of the rows.
            starts: where each one's dreams begin.
            temperature: float > 0, see mdnrnn.sample.
            max_steps: int, after which a dream ends.
            rows: int, B.
            dropout: share of h's units that what predicts the next z and the end does not see, others for each dream.
            mode: what the controller reads, in the order of the letters.
        """
        if rows % len(models):
            raise UserError(f"{rows} dreams do not divide among {len(models)} MDN-RNNs; give a multiple")
        self.models, self.rows, self.max_steps, self.dropout, self.mode = models, rows, max_steps, dropout, mode
        self.temperature = temperature
        self._weights = [mdnrnn.Weights(*(tf.Variable(x, trainable=False) for x in rnn.prepared())) for rnn in models]
        self._starts = [
            Starts(*(tf.Variable(part, dtype=kind, shape=[None, *np.shape(part)[1:]], trainable=False)
                     for part, kind in zip(pool, (*[tf.float32] * 4, tf.int32), strict=True)))
            for pool in starts
        ]  # fmt: skip

    def take_over(self) -> None:
        """Dreams with the weights that the models have by now, after they have been trained on."""
        for rnn, variables in zip(self.models, self._weights, strict=True):
            for variable, array in zip(variables, rnn.prepared(), strict=True):
                variable.assign(array)

    def begin_from(self, starts: Sequence[Starts]) -> None:
        """Where each model's dreams begin from now on."""
        for variables, pool in zip(self._starts, starts, strict=True):
            for variable, part in zip(variables, pool, strict=True):
                variable.assign(part)

    def start(self, seed: tf.Tensor) -> tuple:
        """All rows at their beginnings."""
        rows = self.rows // len(self.models)
        parts = [self._beginnings(pool, rows, tf.random.fold_in(seed, k)) for k, pool in enumerate(self._starts)]
        return tuple(tf.concat(part, axis=0) for part in zip(*parts, strict=True))

    def features(self, state: tuple) -> tf.Tensor:
        """What the controller reads, float32 [B, F]."""
        z, h, c, *_ = state
        return tf.concat([{"z": z, "c": c, "h": h}[letter] for letter in self.mode], axis=1)

    def step(self, state: tuple, action: tf.Tensor, seed: tf.Tensor) -> tuple:
        """Every row dreams on; see common/training/ppo.py."""
        shares = [tf.split(part, len(self.models)) for part in (*state, action)]
        parts = [
            self._step_in(k, list(share[:-1]), share[-1], tf.random.fold_in(seed, k))
            for k, share in enumerate(zip(*shares, strict=True))
        ]
        *state, reward, done = (tf.concat(part, axis=0) for part in zip(*parts, strict=True))
        return tuple(state), reward, done

    def _step_in(self, k, state, action, seed):
        rnn, weights, (z, h, c, age, *mask) = self.models[k], self._weights[k], state
        seeds = tf.random.split(seed, 3)
        restart = tf.cast(tf.equal(age, 0), tf.float32) if rnn.shape.restart else None
        h, c = rnn.step(weights, mdnrnn.inputs_of(z, action, restart), (h, c))
        mixture, logit = rnn.predict(weights, h * mask[0] if mask else h)
        uniform = tf.random.stateless_uniform(tf.shape(z), seeds[0])
        normal = tf.random.stateless_normal(tf.shape(z), seeds[1])
        z = mdnrnn.sample(mixture, self.temperature, uniform, normal)
        age += 1
        ended = logit > 0 if rnn.shape.restart else tf.zeros_like(age, tf.bool)
        done = ended | (age >= self.max_steps)

        def begun_anew():
            rows = tf.where(done)
            new = self._beginnings(self._starts[k], tf.shape(rows)[0], seeds[2])
            return [tf.tensor_scatter_nd_update(old, rows, part) for old, part in zip(after, new, strict=True)]

        after = [z, h, c, age, *mask]
        after = tf.cond(tf.reduce_any(done), begun_anew, lambda: after)
        return *after, -tf.cast(ended, tf.float32), done

    def _beginnings(self, pool, count, seed):
        """States of `count` rows that begin."""
        seeds = tf.random.split(seed, 3)
        which = tf.random.stateless_uniform([count], seeds[0], maxval=tf.shape(pool.age)[0], dtype=tf.int32)
        mu, logvar, h, c, age = (tf.gather(part, which) for part in pool)
        z = mu + tf.exp(0.5 * logvar) * tf.random.stateless_normal(tf.shape(mu), seeds[1])
        if not self.dropout:
            return z, h, c, age
        kept = tf.random.stateless_uniform(tf.shape(h), seeds[2]) >= self.dropout
        return z, h, c, age, tf.cast(kept, tf.float32) / (1 - self.dropout)
