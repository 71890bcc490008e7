"""The dream as a world of tensors, all in the graph: the policy gradient learns in it.

Rows never leave the batch: a dream that ends is followed in its row by another one, from a pool of initial states.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from common.runtime import devices  # noqa: F401  isort: skip  (loads TensorFlow without its banner)
import numpy as np
import tensorflow as tf

from common.agent import mdnrnn
from common.runtime.cli import UserError


class Starts(NamedTuple):
    """Initial states of the dreams of one MDN-RNN: P of them, as NumPy arrays or tf.Variables."""

    mu: Any  # float [P, Z], of the posterior of the VAE for a frame
    logvar: Any  # float [P, Z]
    h: Any  # float [P, H], the memory of the frames before
    c: Any  # float [P, H]
    age: Any  # int [P], steps of the episode so far; at 0 the restart flag is set


def first_frames(initial_z: tuple[np.ndarray, np.ndarray], hidden_size: int) -> Starts:
    """Starts at first frames of real episodes, without a memory; `initial_z` as in dream.DreamWorld."""
    memory = np.zeros((len(initial_z[0]), hidden_size), np.float32)
    return Starts(*initial_z, memory, memory, np.zeros(len(memory), np.int32))


def along_games(
    rnn: mdnrnn.MDNRNN, games: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], every: int, seed: int
) -> Starts:
    """Starts along recorded games, as the MDN-RNN remembers them there.

    Args:
        rnn: remembers the games.
        games: (mu [T, Z], logvar [T, Z], action [T, A]) of each.
        every: steps from one start of a game to the next; the first one is at random among the first `every` steps.
        seed: decides where the first ones are, and the samples of z that the MDN-RNN reads.
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


def _variable(part: np.ndarray, kind: tf.DType) -> tf.Variable:
    """A variable in which an array with any number of rows fits."""
    return tf.Variable(part, dtype=kind, shape=[None, *np.shape(part)[1:]], trainable=False)


class Dreams:
    """Dreams in lockstep. A dream that ends is followed by another in its row. The reward is -1 where a dream ends.

    With a discount this equals the reward of the game, 1 per step, minus a constant. The time limit is no such end and
    costs nothing. A state is (z, h, c, age): float32 [B, Z], [B, H], [B, H], int32 [B]; with dropout also the mask,
    float32 [B, H].

    Args:
        models: MDN-RNNs with a restart flag; each dreams an equal share of the rows.
        starts: of each of them, where its dreams begin.
        temperature: > 0, see mdnrnn.sample.
        max_steps: after which a dream ends.
        rows: how many dreams, B.
        dropout: share of the units of h that is set to zero for the prediction, each dream with its own mask.
        mode: what the controller reads, in the order of the letters.
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
    ) -> None:
        if rows % len(models):
            raise UserError(f"{rows} dreams do not divide among {len(models)} MDN-RNNs; give a multiple")
        self.models, self.rows, self.max_steps, self.dropout, self.mode = models, rows, max_steps, dropout, mode
        self.temperature = temperature
        self._weights = [mdnrnn.Weights(*(tf.Variable(x, trainable=False) for x in rnn.prepared())) for rnn in models]
        kinds = (tf.float32, tf.float32, tf.float32, tf.float32, tf.int32)
        self._starts = [Starts(*map(_variable, pool, kinds)) for pool in starts]

    def take_over(self) -> None:
        """From now on dreams with the current weights of the models, after further training."""
        for rnn, variables in zip(self.models, self._weights, strict=True):
            for variable, array in zip(variables, rnn.prepared(), strict=True):
                variable.assign(array)

    def begin_from(self, starts: Sequence[Starts]) -> None:
        """From now on begins the dreams of each model in these states."""
        for variables, pool in zip(self._starts, starts, strict=True):
            for variable, part in zip(variables, pool, strict=True):
                variable.assign(part)

    def start(self, seed: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """The initial state of all rows."""
        rows = self.rows // len(self.models)
        parts = [self._beginnings(pool, rows, tf.random.fold_in(seed, k)) for k, pool in enumerate(self._starts)]
        return tuple(tf.concat(part, axis=0) for part in zip(*parts, strict=True))

    def features(self, state: tuple[tf.Tensor, ...]) -> tf.Tensor:
        """What the controller reads, float32 [B, F]."""
        z, h, c, *_ = state
        return tf.concat([{"z": z, "c": c, "h": h}[letter] for letter in self.mode], axis=1)

    def step(
        self, state: tuple[tf.Tensor, ...], action: tf.Tensor, seed: tf.Tensor
    ) -> tuple[tuple[tf.Tensor, ...], tf.Tensor, tf.Tensor]:
        """One step of every row, see common/training/ppo.py."""
        shares = [tf.split(part, len(self.models)) for part in (*state, action)]
        parts = [
            self._step_in(k, list(share[:-1]), share[-1], tf.random.fold_in(seed, k))
            for k, share in enumerate(zip(*shares, strict=True))
        ]
        *after, reward, done = (tf.concat(part, axis=0) for part in zip(*parts, strict=True))
        return tuple(after), reward, done

    def _step_in(self, k: int, state: Sequence[tf.Tensor], action: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """One step of the rows that dream in MDN-RNN number k: the state, reward and done."""
        rnn, weights, (z, h, c, age, *mask) = self.models[k], self._weights[k], state
        seeds = tf.random.split(seed, 3)
        restart = tf.cast(tf.equal(age, 0), tf.float32) if rnn.shape.restart else None
        h, c = rnn.step(weights, mdnrnn.inputs_of(z, action, restart), (h, c))
        mixture, logit = rnn.predict(weights, h * mask[0] if mask else h)
        uniform = tf.random.stateless_uniform(tf.shape(z), seeds[0])
        normal = tf.random.stateless_normal(tf.shape(z), seeds[1])
        z = mdnrnn.sample(mixture, self.temperature, uniform, normal)
        age += 1
        ended = tf.zeros_like(age, tf.bool) if logit is None else logit > 0
        done = ended | (age >= self.max_steps)

        def begun_anew() -> list[tf.Tensor]:
            rows = tf.where(done)
            new = self._beginnings(self._starts[k], tf.shape(rows)[0], seeds[2])
            return [tf.tensor_scatter_nd_update(old, rows, part) for old, part in zip(after, new, strict=True)]

        after = [z, h, c, age, *mask]
        after = tf.cond(tf.reduce_any(done), begun_anew, lambda: after)
        return *after, -tf.cast(ended, tf.float32), done

    def _beginnings(self, pool: Starts, count: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Initial states of `count` rows."""
        seeds = tf.random.split(seed, 3)
        which = tf.random.stateless_uniform([count], seeds[0], maxval=tf.shape(pool.age)[0], dtype=tf.int32)
        mu, logvar, h, c, age = (tf.gather(part, which) for part in pool)
        z = mu + tf.exp(0.5 * logvar) * tf.random.stateless_normal(tf.shape(mu), seeds[1])
        if not self.dropout:
            return z, h, c, age
        kept = tf.random.stateless_uniform(tf.shape(h), seeds[2]) >= self.dropout
        return z, h, c, age, tf.cast(kept, tf.float32) / (1 - self.dropout)
