"""The dream as a world of tensors, all in the graph: the policy gradient learns in it.

Rows never leave the batch: a dream that ends is followed in its row by another one, from a pool of initial states.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from common.runtime import devices  # noqa: F401  isort: skip  (loads TensorFlow without its banner)
import numpy as np
import tensorflow as tf

from common.agent import controller, mdnrnn, vae
from common.runtime.cli import UserError
from common.runtime.settings import Pay
from common.worlds import dream

FIRST, PAID = 0.25, 0.55  # shares of the drawn places that are first frames, and that are where reward has just come
SINCE = 8  # steps, at most, since that reward


class Starts(NamedTuple):
    """Initial states of the dreams of one MDN-RNN: P of them, as arrays or tensors."""

    mu: Any  # float [P, Z], of the posterior of the VAE for a frame
    logvar: Any  # float [P, Z]
    h: Any  # float [P, H], the memory of the frames before
    c: Any  # float [P, H]
    age: Any  # int [P], steps of the episode so far; at 0 the restart flag is set


def first_frames(initial_z: tuple[np.ndarray, np.ndarray], hidden_size: int) -> Starts:
    """Starts at first frames of real episodes, without a memory; `initial_z` as in dream.DreamWorld."""
    memory = np.zeros((len(initial_z[0]), hidden_size), np.float32)
    return Starts(*initial_z, memory, memory, np.zeros(len(memory), np.int32))


def at_places(
    rnn: mdnrnn.MDNRNN,
    games: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]],
    places: np.ndarray,
    seed: int,
) -> Starts:
    """Starts at chosen places of recorded games, as the MDN-RNN remembers them there.

    Args:
        rnn: remembers the games.
        games: (mu [T, Z], logvar [T, Z], action [T, A]) of each.
        places: int [P, 2], (game, step) of each, such as `drawn_places` gives.
        seed: int, decides the samples of z that the memory is of.

    Returns:
        Starts, in an order of their own; a place that was drawn twice is there twice.
    """
    steps = [np.sort(places[places[:, 0] == k, 1]) for k in range(len(games))]
    return _remembered(rnn, games, steps, seed)


def drawn_places(rewards: Sequence[np.ndarray], count: int, seed: int) -> np.ndarray:
    """Draws places along recorded games for dreams to start at: what a search needs to meet, in balance.

    A share of FIRST are first frames; a share of PAID come 1 to SINCE steps after one with a positive reward, where
    there is something to gain and to lose; the others are anywhere.

    Args:
        rewards: float [T] of each game.
        count: int, P.
        seed: int.

    Returns:
        int [P, 2], (game, step).
    """
    rng = np.random.default_rng([seed, 9])
    which, kind = rng.integers(len(rewards), size=count), rng.random(count)
    paid = [np.flatnonzero(np.asarray(reward) > 0) for reward in rewards]
    places = np.zeros((count, 2), int)
    for row, (game, share) in enumerate(zip(which, kind, strict=True)):
        last = len(rewards[game]) - 1
        if share < FIRST:
            places[row] = game, 0
        elif share < FIRST + PAID and len(paid[game]):
            places[row] = game, min(last, rng.choice(paid[game]) + rng.integers(1, SINCE + 1))
        else:
            places[row] = game, rng.integers(last + 1)
    return places


def _remembered(
    rnn: mdnrnn.MDNRNN,
    games: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]],
    steps: Sequence[np.ndarray],
    seed: int,
) -> Starts:
    """Starts at these steps of each game, int [places] in order, with the memory that the MDN-RNN has there."""
    lengths = np.array([len(mu) for mu, _, _ in games])
    mu, logvar, action = (
        np.stack([np.pad(part, [(0, lengths.max() - len(part)), (0, 0)]) for part in column]).astype(np.float32)
        for column in zip(*games, strict=True)
    )
    rng, weights = np.random.default_rng([seed, 8]), rnn.prepared()
    z = mu + np.exp(0.5 * logvar) * rng.standard_normal(mu.shape, np.float32)
    step = tf.function(lambda z, action, restart, state: rnn.step(weights, mdnrnn.inputs_of(z, action, restart), state))
    h, c = rnn.initial_state(len(games))
    at, found = np.concatenate(steps), []
    game = np.repeat(np.arange(len(games)), [len(part) for part in steps])
    for t in range(at.max() + 1):
        rows = game[at == t]
        found.append((mu[rows, t], logvar[rows, t], h.numpy()[rows], c.numpy()[rows], np.full(len(rows), t, np.int32)))
        restart = tf.fill([len(games)], float(t == 0)) if rnn.shape.restart else None
        h, c = step(z[:, t], action[:, t], restart, (h, c))
    return Starts(*(np.concatenate(part) for part in zip(*found, strict=True)))


class Dreams:
    """Dreams in lockstep. A dream that ends is followed by another in its row. The reward is -1 where a dream ends.

    With a discount this equals the reward of the game, 1 per step, minus a constant. The time limit is no such end and
    costs nothing. If the MDN-RNNs have heads and `pay` is given, the reward is what they expect, see dream.paid: the
    end that costs is not drawn, its probability is part of `done`.

    A state is (z, h, c, age): float32 [B, Z], [B, H], [B, H], int32 [B]; with dropout also the mask, float32 [B, H];
    with a horizon also the steps left, int32 [B].

    Args:
        models: MDN-RNNs; each dreams an equal share of the rows.
        starts: of each of them, where its dreams begin.
        temperature: > 0, see mdnrnn.sample.
        max_steps: after which a dream ends.
        rows: how many dreams, B.
        dropout: share of the units of h that is set to zero for the prediction, each dream with its own mask.
        mode: what the controller reads, in the order of the letters.
        pay: what the heads of the MDN-RNNs pay by.
        horizon: steps after which a dream is cut short, wherever in an episode it started; 0 means never.
        end_weight: see dream.DreamWorld.
    """

    def __init__(  # noqa: PLR0913, PLR0917
        self,
        models: Sequence[mdnrnn.MDNRNN],
        starts: Sequence[Starts],
        temperature: float,
        max_steps: int,
        rows: int,
        dropout: float = 0.0,
        mode: str = "zch",
        pay: Pay | None = None,
        horizon: int = 0,
        end_weight: float = 0.0,
    ) -> None:
        if rows % len(models):
            raise UserError(f"--rows {rows}: do not divide among {len(models)} MDN-RNNs or blocks; give a multiple")
        self.models, self.rows, self.max_steps, self.dropout, self.mode = models, rows, max_steps, dropout, mode
        self.temperature, self.horizon, self._end_weight = temperature, horizon, end_weight
        self._pay = pay if models[0].shape.heads else None
        self._weights = [rnn.prepared() for rnn in models]
        kinds = (tf.float32, tf.float32, tf.float32, tf.float32, tf.int32)
        self._starts = [Starts(*map(tf.constant, pool, kinds)) for pool in starts]

    def start(self, seed: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """The initial state of all rows. With a horizon the steps left differ, so that few rows are cut at once."""
        rows = self.rows // len(self.models)
        parts = [self._beginnings(pool, rows, tf.random.fold_in(seed, k)) for k, pool in enumerate(self._starts)]
        *state, last = (tf.concat(part, axis=0) for part in zip(*parts, strict=True))
        return *state, 1 + tf.range(self.rows) % self.horizon if self.horizon else last

    def features(self, state: tuple[tf.Tensor, ...]) -> tf.Tensor:
        """What the controller reads, float32 [B, F]."""
        z, h, c, *_ = state
        return controller.features_of(self.mode, z, h, c)

    def step(self, state: tuple[tf.Tensor, ...], action: tf.Tensor, seed: tf.Tensor) -> tuple[Any, ...]:
        """One step of every row, see common/training/ppo.py.

        Rows at the time limit or the horizon are cut, for the agent knows neither its age nor the steps left.
        """
        shares = [tf.split(part, len(self.models)) for part in (*state, action)]
        parts = [
            self._step_in(k, list(share[:-1]), share[-1], tf.random.fold_in(seed, k))
            for k, share in enumerate(zip(*shares, strict=True))
        ]
        *after, reward, ends, cut = (tf.concat(part, axis=0) for part in zip(*parts, strict=True))
        return tuple(after), reward, ends, cut

    def _step_in(self, k: int, state: Sequence[tf.Tensor], action: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """One step of the rows that dream in MDN-RNN number k: the state, reward, done and cut."""
        rnn, weights, (z, h, c, age, *more) = self.models[k], self._weights[k], state
        mask = more.pop(0) if self.dropout else None
        seeds = tf.random.split(seed, 4)
        restart = tf.cast(tf.equal(age, 0), tf.float32)
        uniform = tf.random.stateless_uniform(tf.shape(z), seeds[0])
        normal = tf.random.stateless_normal(tf.shape(z), seeds[1])
        noise = uniform, normal, self.temperature, mask
        z, h, c, logit = dream.next_of(rnn, weights, (z, h, c), restart, action, *noise)
        age += 1
        bar: Any = 0.0
        if self._end_weight:
            bar = mdnrnn.drawn_bar(tf.random.stateless_uniform(tf.shape(age), seeds[3]), self._end_weight)
        ended = logit > bar
        reward, after = -tf.cast(ended, tf.float32), [z, h, c, age]
        after += [mask] if self.dropout else []
        if self._pay:
            reward, goes_on = dream.paid(rnn, weights, mdnrnn.masked(h, mask), tf.ones_like(logit), self._pay)
        cut = age >= self.max_steps
        if self.horizon:
            left = more.pop(0) - 1
            cut |= left == 0
            after.append(left)
        done, cut = ended | cut, cut & ~ended
        ends = tf.where(done, 1.0, 1 - goes_on) if self._pay else done

        def begun_anew() -> list[tf.Tensor]:
            rows = tf.where(done)
            new = self._beginnings(self._starts[k], tf.shape(rows)[0], seeds[2])
            return [tf.tensor_scatter_nd_update(old, rows, part) for old, part in zip(after, new, strict=True)]

        after = tf.cond(tf.reduce_any(done), begun_anew, lambda: after)
        return *after, reward, ends, cut

    def _beginnings(self, pool: Starts, count: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Initial states of `count` rows."""
        seeds = tf.random.split(seed, 3)
        which = tf.random.stateless_uniform([count], seeds[0], maxval=tf.shape(pool.age)[0], dtype=tf.int32)
        mu, logvar, h, c, age = (tf.gather(part, which) for part in pool)
        z = vae.sample(mu, logvar, tf.random.stateless_normal(tf.shape(mu), seeds[1]))
        more = []
        if self.dropout:
            more.append(mdnrnn.dropout_mask(tf.random.stateless_uniform(tf.shape(h), seeds[2]), self.dropout))
        more += [tf.fill([count], self.horizon)] if self.horizon else []
        return z, h, c, age, *more
