"""The loop of every evaluation, and the policies that need no controller. No TensorFlow is imported here."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from common.protocols import Policy, Seeds, World


def rollout(
    world: World, policy: Policy, seeds: Seeds, finished: Callable[[int], object] = lambda count: None
) -> tuple[np.ndarray, np.ndarray]:
    """Plays one episode per row, all in lockstep, until the last has finished.

    Args:
        world: the episodes.
        policy: acts in them.
        seeds: [B] int, one episode per row.
        finished: called with the number of episodes that have just ended, if any.

    Returns:
        (returns float64 [B], lengths int [B]).
    """
    returns, lengths, live = np.zeros(len(seeds)), np.zeros(len(seeds), int), np.arange(len(seeds))
    state = world.reset(seeds)
    while len(live):
        state, reward, done = world.step(policy.act(state))
        returns[live] += reward
        lengths[live] += 1
        if done.any():
            finished(int(done.sum()))
            if not done.all():
                policy.keep(np.flatnonzero(~done))
        live = live[~done]
    return returns, lengths


class RandomActions:
    """A policy that draws a new uniform action at every step, from the random generator of each episode.

    Args:
        seeds: [B] int, the episodes.
        low: [A] float, the least action.
        high: [A] float, the greatest action.
    """

    def __init__(self, seeds: Seeds, low: Sequence[float], high: Sequence[float]) -> None:
        self._rngs, self._low, self._high = [np.random.default_rng([int(s), 3]) for s in seeds], low, high

    def act(self, state: Any) -> np.ndarray:
        """Any state -> float64 [B, A]."""
        return np.stack([rng.uniform(self._low, self._high) for rng in self._rngs])

    def keep(self, on: np.ndarray) -> None:
        """Forgets the rows that have finished."""
        self._rngs = [self._rngs[k] for k in on]


@dataclasses.dataclass
class _Row:
    """An episode in which a policy holds random actions."""

    rng: np.random.Generator
    left: int = 0
    """steps that the action is still held for"""
    held: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))
    """float64 [A]"""


class HeldActions:
    """A policy that draws a uniform action and holds it for a random number of steps, so that the player moves far.

    Args:
        seeds: [B] int, the episodes.
        max_hold: an action is held for 1 to this many steps.
        low: [A] float, the least action.
        high: [A] float, the greatest action.
    """

    def __init__(self, seeds: Seeds, max_hold: int, low: Sequence[float], high: Sequence[float]) -> None:
        self._low, self._high, self._max_hold = low, high, max_hold
        self._rows = [_Row(np.random.default_rng(int(seed))) for seed in seeds]

    def act(self, state: Any) -> np.ndarray:
        """Any state -> float64 [B, A]."""
        for row in self._rows:
            if row.left == 0:
                row.held = row.rng.uniform(self._low, self._high)
                row.left = int(row.rng.integers(1, self._max_hold + 1))
            row.left -= 1
        return np.stack([row.held for row in self._rows])

    def keep(self, on: np.ndarray) -> None:
        """Forgets the rows that have finished."""
        self._rows = [self._rows[k] for k in on]


class Exploring:
    """A policy that holds a random action now and then, so that recordings show more than its usual behavior.

    Args:
        policy: acts in all other steps.
        seeds: [B] int, the episodes.
        share: of the steps that are random, in [0, 1).
        max_hold: a random action is held for 1 to this many steps.
        low: [A] float, the least random action.
        high: [A] float, the greatest random action.
    """

    def __init__(
        self, policy: Policy, seeds: Seeds, share: float, max_hold: int, low: Sequence[float], high: Sequence[float]
    ) -> None:
        self._policy, self._low, self._high, self._max_hold = policy, low, high, max_hold
        mean_hold = (1 + max_hold) / 2
        self._begin = share / (mean_hold * (1 - share) + share)  # probability to begin a hold at a step outside of one
        self._rows = [_Row(np.random.default_rng([int(seed), 5])) for seed in seeds]

    def act(self, state: Any) -> np.ndarray:
        """The state -> float [B, A], in the dtype of the policy."""
        action = np.array(self._policy.act(state))
        for k, row in enumerate(self._rows):
            if row.left == 0 and row.rng.random() < self._begin:
                row.left = int(row.rng.integers(1, self._max_hold + 1))
                row.held = row.rng.uniform(self._low, self._high)
            if row.left:
                action[k] = row.held
                row.left -= 1
        return action

    def keep(self, on: np.ndarray) -> None:
        """Forgets the rows that have finished."""
        self._policy.keep(on)
        self._rows = [self._rows[k] for k in on]


def summary(seeds: Seeds, returns: ArrayLike, lengths: Seeds, **about: Any) -> dict[str, Any]:
    """The scores of an evaluation: mean, standard deviation, standard error, and every episode; `about` comes first."""
    returns = np.asarray(returns, float)
    std = returns.std(ddof=1) if len(returns) > 1 else 0.0
    rows = zip(map(int, seeds), map(float, returns), map(int, lengths), strict=True)
    episodes = [{"seed": seed, "return": value, "length": length} for seed, value, length in rows]
    mean, stderr = returns.mean(), std / np.sqrt(len(returns))
    return {**about, "n": len(returns), "mean": mean, "std": std, "stderr": stderr, "episodes": episodes}
