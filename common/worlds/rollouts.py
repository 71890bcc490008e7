"""The loop that everything here is built around, and the policies that need no controller. No TensorFlow here."""

import numpy as np


def rollout(world, policy, seeds, finished=lambda count: None):
    """Plays one episode per row, all in lockstep, until the last has finished.

    Args:
        world: a batch of worlds, see common/protocols.py.
        policy: a policy, see common/protocols.py.
        seeds: [B] int, each row's episode.
        finished: called with the number of episodes that have ended, whenever some have.

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
    """A policy that draws a new uniform action at every step, from each episode's own generator.

    Args:
        seeds: [B] int, the episodes.
        low, high: [A] float, the range of each part of the action.
    """

    def __init__(self, seeds, low, high):
        self._rngs, self._low, self._high = [np.random.default_rng([int(s), 3]) for s in seeds], low, high

    def act(self, state):
        """Anything -> float64 [B, A]."""
        return np.stack([rng.uniform(self._low, self._high) for rng in self._rngs])

    def keep(self, on):
        """Forgets the rows that have finished."""
        self._rngs = [self._rngs[k] for k in on]


class HeldActions:
    """A policy that draws a uniform action and holds it for a random number of steps, so that the player gets somewhere.

    Args:
        seeds: [B] int, the episodes.
        max_hold: int, an action is held for 1 to this many steps.
        low, high: [A] float, the range of each part of the action.
    """

    def __init__(self, seeds, max_hold, low, high):
        self._low, self._high, self._max_hold = low, high, max_hold
        self._rows = [[np.random.default_rng(int(seed)), 0, None] for seed in seeds]

    def act(self, state):
        """Anything -> float64 [B, A]."""
        for row in self._rows:
            rng, left, _ = row
            if left == 0:
                row[2], row[1] = rng.uniform(self._low, self._high), int(rng.integers(1, self._max_hold + 1))
            row[1] -= 1
        return np.stack([held for _, _, held in self._rows])

    def keep(self, on):
        """Forgets the rows that have finished."""
        self._rows = [self._rows[k] for k in on]


class Exploring:
    """A policy that now and then does something random for a while, so that recordings hold more than its habits.

    Args:
        policy: what it does otherwise.
        seeds: [B] int, the episodes.
        share: float in [0, 1), of the steps that are random.
        max_hold: int, a random action is held for 1 to this many steps.
        low, high: [A] float, the range of each part of a random action.
    """

    def __init__(self, policy, seeds, share, max_hold, low, high):
        self._policy, self._low, self._high, self._max_hold = policy, low, high, max_hold
        mean_hold = (1 + max_hold) / 2
        self._begin = share / (mean_hold * (1 - share) + share)  # chance to begin a hold at a step outside of one
        self._rows = [[np.random.default_rng([int(seed), 5]), 0, None] for seed in seeds]

    def act(self, state):
        """State -> float32 [B, A]."""
        action = np.array(self._policy.act(state))
        for k, row in enumerate(self._rows):
            rng, left, held = row
            if left == 0 and rng.random() < self._begin:
                left, held = rng.integers(1, self._max_hold + 1), rng.uniform(self._low, self._high)
            if left:
                action[k], left = held, left - 1
            row[1:] = left, held
        return action

    def keep(self, on):
        """Forgets the rows that have finished."""
        self._policy.keep(on)
        self._rows = [self._rows[k] for k in on]


def summary(seeds, returns, lengths, **about):
    """What an evaluation reports: mean, standard deviation, standard error, and every episode."""
    returns = np.asarray(returns, float)
    std = returns.std(ddof=1) if len(returns) > 1 else 0.0
    rows = zip(map(int, seeds), map(float, returns), map(int, lengths), strict=True)
    episodes = [{"seed": seed, "return": value, "length": length} for seed, value, length in rows]
    mean, stderr = returns.mean(), std / np.sqrt(len(returns))
    return {**about, "n": len(returns), "mean": mean, "std": std, "stderr": stderr, "episodes": episodes}
