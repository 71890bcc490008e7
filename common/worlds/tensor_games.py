"""Real games as a world of tensors: the policy gradient learns in them as it does in the dream.

A game cannot be put back into the middle of an episode, so every update of the policy gradient plays new episodes: one
in each row, from its start. A row that has ended waits for the others.
"""

import concurrent.futures
from collections.abc import Sequence
from typing import Any

from common.runtime import devices  # noqa: F401  isort: skip  (loads TensorFlow without its banner)
import numpy as np
import tensorflow as tf

from common.agent import controller
from common.protocols import Policy, Seeds, World
from common.worlds import rollouts


class TensorGames:
    """Games in lockstep. The state is (z, h, c, on): float32 [B, Z], [B, H], [B, H], and bool [B], which still play.

    Args:
        blocks: batches of games as the agent knows them, such as EncodedGames, of equal shares of the rows; each steps
            in a thread of its own.
        rows: how many games, B.
        mode: what the controller reads, in the order of the letters.
        sizes: of z and of h, (Z, H).
        max_steps: after which the time of a game is up, which is no end of it that anything seen announces.
        seeds: the first and the last of those that its episodes are drawn from.
    """

    whole = True

    def __init__(
        self,
        blocks: Sequence[World],
        rows: int,
        mode: str,
        sizes: tuple[int, int],
        max_steps: int,
        seeds: tuple[int, int],
    ) -> None:
        self.rows, self._blocks, self._mode, self._max_steps, self._seeds = rows, blocks, mode, max_steps, seeds
        self._shares = np.array_split(np.arange(rows), len(blocks))
        z_size, hidden_size = sizes
        self._sizes = z_size, hidden_size, hidden_size
        self._threads = concurrent.futures.ThreadPoolExecutor(len(blocks))
        self._on = np.zeros(rows, bool)
        self._age = 0

    def start(self, seed: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Begins a new episode in every row, see common/training/ppo.py."""
        parts = tf.numpy_function(self._begin, [seed], [tf.float32] * 3)
        return *self._shaped(parts), tf.ones([self.rows], tf.bool)

    def features(self, state: tuple[tf.Tensor, ...]) -> tf.Tensor:
        """What the controller reads, float32 [B, F]; of a row that has ended, as it was last."""
        return controller.features_of(self._mode, *state[:3])

    def step(self, state: tuple[tf.Tensor, ...], action: tf.Tensor, seed: tf.Tensor) -> tuple[Any, ...]:
        """One step of the rows that still play: the state, reward, done, cut, and which rows have played it."""
        kinds = [tf.float32] * 4 + [tf.bool] * 2
        *parts, reward, done, cut = tf.numpy_function(self._play, [*state[:3], action], kinds)
        reward, done, cut = (tf.ensure_shape(part, [self.rows]) for part in (reward, done, cut))
        played = state[3]
        return (*self._shaped(parts), played & ~done), reward, done, cut, played

    def evaluate(self, policy: Policy, seeds: Seeds) -> np.ndarray:
        """The returns, float64 [E], of a policy that remembers nothing."""

        def work(block: World, share: np.ndarray, most: int) -> np.ndarray:
            parts = [share[k : k + most] for k in range(0, len(share), most)]
            return np.concatenate([np.zeros(0), *(rollouts.rollout(block, policy, part)[0] for part in parts)])

        shares = np.array_split(np.asarray(seeds), len(self._blocks))
        return np.concatenate([*self._threads.map(work, self._blocks, shares, map(len, self._shares))])

    def _shaped(self, parts: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        return [tf.ensure_shape(part, [self.rows, size]) for part, size in zip(parts, self._sizes, strict=True)]

    def _begin(self, seed: np.ndarray) -> list[np.ndarray]:
        first, last = self._seeds
        seeds = np.random.default_rng(np.asarray(seed, np.uint32)).integers(first, last + 1, self.rows)
        self._on, self._age = np.ones(self.rows, bool), 0
        states = self._threads.map(lambda block, share: block.reset(seeds[share]), self._blocks, self._shares)
        return [np.concatenate(part) for part in zip(*states, strict=True)]

    def _play(self, z: np.ndarray, h: np.ndarray, c: np.ndarray, action: np.ndarray) -> list[np.ndarray]:
        """One step; the rows that go on are written over in copies of z, h and c."""
        state = [part.copy() for part in (z, h, c)]
        reward, done = np.zeros(self.rows, np.float32), ~self._on

        def work(block: World, share: np.ndarray) -> None:
            rows = share[self._on[share]]
            if not len(rows):
                return
            after, reward[rows], done[rows] = block.step(action[rows])
            if after is not None:
                for whole, part in zip(state, after, strict=True):
                    whole[rows[~done[rows]]] = part

        list(self._threads.map(work, self._blocks, self._shares))
        self._on, self._age = ~done, self._age + 1
        return [*state, reward, done, done & (self._age >= self._max_steps)]
