"""Controllers acting in a batch of worlds: the loop that everything here is built around."""

from common import devices  # noqa: F401  isort: skip  (loads TensorFlow without its banner)
import numpy as np
import tensorflow as tf


class Candidates:
    """A policy in which every row acts by its own controller."""

    def __init__(self, controller, parameters, action_of=None):
        """
        Args:
            controller: Controller.
            parameters: float32 [B, N].
            action_of: raw tanh values, float32 [B, A] -> the actions that the world and M know; None if those are it.
        """
        self._controller, self._parameters = controller, tf.constant(parameters, tf.float32)
        self._action_of = action_of or (lambda raw: raw)

    def act(self, state):
        """(z, h, c) -> float32 [B, A]."""
        return self._action_of(_act(self._controller, self._parameters, *state))

    def keep(self, on):
        """Forgets the rows that have finished; `on` [B'] are the indices of the others."""
        self._parameters = tf.gather(self._parameters, on)


@tf.function(reduce_retracing=True)
def _act(controller, parameters, z, h, c):
    return controller.act(parameters, controller.features(z, h, c))


class RandomActions:
    """A policy that draws a new uniform action at every step, from each episode's own generator."""

    def __init__(self, seeds, low, high):
        """
        Args:
            seeds: [B] int, the episodes.
            low, high: [A] float, the range of each part of the action.
        """
        self._rngs, self._low, self._high = [np.random.default_rng([int(s), 3]) for s in seeds], low, high

    def act(self, state):
        """Anything -> float64 [B, A]."""
        return np.stack([rng.uniform(self._low, self._high) for rng in self._rngs])

    def keep(self, on):
        """Forgets the rows that have finished."""
        self._rngs = [self._rngs[k] for k in on]


class Exploring:
    """A policy that now and then does something random for a while, so that recordings hold more than its habits."""

    def __init__(self, policy, seeds, share, max_hold, low, high):
        """
        Args:
            policy: what it does otherwise.
            seeds: [B] int, the episodes.
            share: float in [0, 1), of the steps that are random.
            max_hold: int, a random action is held for 1 to this many steps.
            low, high: [A] float, the range of each part of a random action.
        """
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


def rollout(world, policy, seeds, finished=lambda count: None):
    """Plays one episode per row, all in lockstep, until the last has finished.

    Args:
        world: a batch of worlds, see common/worlds.py.
        policy: Candidates, RandomActions or the like.
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


def evaluate(world, controller, population, seeds, action_of=None):
    """Every candidate on every seed, in one batch.

    Args:
        world: a batch of worlds.
        controller: Controller.
        population: [P, N], one candidate per row.
        seeds: [E] int, the same episodes for all candidates, or [P, E], each one's own.
        action_of: see Candidates.

    Returns:
        (returns float64 [P, E], lengths int [P, E]).
    """
    seeds = np.broadcast_to(seeds, (len(population), np.shape(seeds)[-1]))
    rows = np.repeat(np.asarray(population, np.float32), seeds.shape[1], axis=0)
    returns, lengths = rollout(world, Candidates(controller, rows, action_of), seeds.ravel())
    return returns.reshape(seeds.shape), lengths.reshape(seeds.shape)


def features_of_play(world, controller, parameters, seeds, action_of=None):
    """What a controller reads while it plays.

    Args:
        world: a batch of worlds.
        controller: Controller.
        parameters: [N].
        seeds: [E] int, the episodes.
        action_of: see Candidates.

    Returns:
        float32 [steps of all episodes, F].
    """
    read = []

    class Noted(Candidates):
        def act(self, state):
            read.append(controller.features(*state).numpy())
            return super().act(state)

    rollout(world, Noted(controller, np.tile(parameters, (len(seeds), 1)), action_of), seeds)
    return np.concatenate(read)


def evaluate_in_blocks(workers, population, seeds, block_rows, *settings):
    """As `evaluate`, in blocks of candidates handed to workers whose result does not depend on who computes it.

    Args:
        workers: farm.Threads or farm.Ranks, whose worker takes (candidates, seeds, *settings) and calls `evaluate`.
        population: [P, N].
        seeds: [E] or [P, E] int.
        block_rows: int, about how many episodes step together.
        *settings: what else the workers are to know of these episodes.
    """
    # whole candidates if their episodes fit into a block, else (the mean on many seeds) one candidate's seeds in parts
    seeds = np.broadcast_to(seeds, (len(population), np.shape(seeds)[-1]))
    candidates = max(1, block_rows // seeds.shape[1])
    parts = range(0, seeds.shape[1], min(seeds.shape[1], block_rows))
    groups = [slice(k, k + candidates) for k in range(0, len(population), candidates)]
    tasks = [
        (population[group], seeds[group, first : first + block_rows], *settings) for group in groups for first in parts
    ]
    results = iter(workers.map(tasks))
    rows = [[next(results) for _ in parts] for _ in groups]
    returns, lengths = (
        np.concatenate([np.concatenate([block[which] for block in row], axis=1) for row in rows]) for which in (0, 1)
    )
    return returns, lengths


def summary(seeds, returns, lengths, **about):
    """What an evaluation reports: mean, standard deviation, standard error, and every episode."""
    returns = np.asarray(returns, float)
    std = returns.std(ddof=1) if len(returns) > 1 else 0.0
    rows = zip(map(int, seeds), map(float, returns), map(int, lengths), strict=True)
    episodes = [{"seed": seed, "return": value, "length": length} for seed, value, length in rows]
    mean, stderr = returns.mean(), std / np.sqrt(len(returns))
    return {**about, "n": len(returns), "mean": mean, "std": std, "stderr": stderr, "episodes": episodes}
