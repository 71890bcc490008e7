"""Real games for the policy gradient: one whole episode in each row.

A game cannot be put back into the middle of an episode, so every update of the policy gradient plays new ones, from
their start. A row that has ended waits for the others.
"""

import concurrent.futures
import functools
from collections.abc import Callable
from typing import Any

from common.runtime import devices  # noqa: F401  isort: skip  (loads TensorFlow without its banner)
import numpy as np

from common.protocols import Policy, Seeds, World
from common.worlds import rollouts


class GameRows:
    """Games in lockstep. The state is (z, h, c), float32 [B, Z], [B, H], [B, H]; of a row that waits, its last.

    Args:
        make_block: (rows) -> a batch of games as the agent knows them, such as EncodedGames. Called at the first start.
        blocks: how many of these share the rows; each steps in a thread of its own.
        rows: how many games, B.
        max_steps: after which the time of a game is up, which nothing that is seen announces.
        seeds: the first and the last of those that its episodes are drawn from.
        complete_above: an episode that ends with a reward above this is complete. That could not be foreseen either: a
            car that completes its track only sees that it drove on.
    """

    def __init__(
        self,
        make_block: Callable[[int], World],
        blocks: int,
        rows: int,
        max_steps: int,
        seeds: tuple[int, int],
        complete_above: float = np.inf,
    ) -> None:
        self.rows, self._make_block, self._max_steps, self._seeds = rows, make_block, max_steps, seeds
        self._complete_above = complete_above
        self._shares = np.array_split(np.arange(rows), blocks)
        self._threads = concurrent.futures.ThreadPoolExecutor(blocks)
        self.on = np.zeros(rows, bool)
        """bool [B], the rows that do not wait"""
        self._steps = 0

    @functools.cached_property
    def _blocks(self) -> list[World]:
        return [self._make_block(len(share)) for share in self._shares]

    def start(self, seed: Seeds) -> tuple[np.ndarray, ...]:
        """Begins an episode in every row; `seed`, one or more int, decides which."""
        first, last = self._seeds
        seeds = np.random.default_rng(seed).integers(first, last + 1, self.rows)
        self.on, self._steps = np.ones(self.rows, bool), 0
        states = self._threads.map(lambda block, share: block.reset(seeds[share]), self._blocks, self._shares)
        return tuple(np.concatenate(part) for part in zip(*states, strict=True))

    def step(self, state: tuple[np.ndarray, ...], action: np.ndarray) -> tuple[Any, ...]:
        """One step of the rows that do not wait, see common/training/ppo.py.

        Args:
            state: as it was last returned.
            action: float32 [B, A].

        Returns:
            (state, reward float32 [B], done bool [B], cut bool [B], played bool [B]): cut are those of which only the
            time is up or that are complete, and played are those that did not wait.
        """
        state, played = tuple(part.copy() for part in state), self.on
        reward, done = np.zeros(self.rows, np.float32), ~self.on

        def work(block: World, share: np.ndarray) -> None:
            rows = share[played[share]]
            if not len(rows):
                return
            after, reward[rows], done[rows] = block.step(action[rows])
            if after is not None:
                for whole, part in zip(state, after, strict=True):
                    whole[rows[~done[rows]]] = part

        list(self._threads.map(work, self._blocks, self._shares))
        self.on, self._steps = ~done, self._steps + 1
        unannounced = (self._steps >= self._max_steps) | (reward > self._complete_above)
        return state, reward, done, done & unannounced, played

    def evaluate(self, policy: Policy, seeds: Seeds) -> np.ndarray:
        """The returns, float64 [E], of a policy that remembers nothing, over all of these episodes."""

        def work(block: World, share: np.ndarray, most: int) -> np.ndarray:
            parts = [share[k : k + most] for k in range(0, len(share), most)]
            return np.concatenate([np.zeros(0), *(rollouts.rollout(block, policy, part)[0] for part in parts)])

        shares = np.array_split(np.asarray(seeds), len(self._blocks))
        return np.concatenate([*self._threads.map(work, self._blocks, shares, map(len, self._shares))])
