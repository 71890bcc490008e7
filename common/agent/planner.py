"""The planner: the cross-entropy method looks for the actions that bring the most reward in a learned model.

Source: Hafner et al. 2019, algorithm 2. Many games are planned for at once: N games of K candidates are one batch of
N * K rows, in every iteration one product per layer and step ahead for all of them.
"""

import dataclasses
from collections.abc import Callable, Sequence

from common.runtime import devices  # noqa: F401  isort: skip  (sets TensorFlow's log level before its import)
import numpy as np
import tensorflow as tf

from common.agent.rssm import RSSM, State, Weights


@dataclasses.dataclass(frozen=True)
class Search:
    """The budget of a plan."""

    horizon: int = 12
    """actions ahead"""
    iterations: int = 10
    candidates: int = 1000
    """in each iteration"""
    elite: int = 100
    """best candidates, to which the next iteration's normal is fitted"""
    hold: int = 1
    """actions in a row of a candidate that differ from the mean by the same draw, in deviations"""
    shared_noise: bool = False
    """whether the model imagines all candidates of an iteration with the same noise"""

    @property
    def rows(self) -> int:
        """Steps of the model that one plan of one game takes."""
        return self.horizon * self.iterations * self.candidates


def cross_entropy(
    returns_of: Callable[[tf.Tensor, int], tf.Tensor],
    mean: tf.Tensor,
    std: tf.Tensor,
    low: Sequence[float],
    high: Sequence[float],
    search: Search,
    seed: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Fits a normal to the best candidates drawn from it, again and again.

    Candidates are cut to the range of actions before they are tried, so the normal is fitted to what was tried. All
    games share the random numbers of their candidates: what is planned for one does not depend on the others.

    Args:
        returns_of: (actions float32 [N, K, T, A], number of the iteration) -> their returns, float32 [N, K].
        mean: float32 [N, T, A], where the search begins.
        std: float32 [N, T, A] or [A], its width there.
        low: [A], the least value of each part of an action.
        high: [A], the greatest.
        search: Search.
        seed: int32 [2], decides the candidates.

    Returns:
        (mean, std), each float32 [N, T, A], after the last iteration.
    """
    low, high = tf.constant(low, tf.float32), tf.constant(high, tf.float32)
    std = tf.broadcast_to(std, tf.shape(mean))
    for iteration in range(search.iterations):
        shape = [search.candidates, -(-search.horizon // search.hold), mean.shape[-1]]
        drawn = tf.random.stateless_normal(shape, seed + [0, iteration])
        noise = tf.repeat(drawn, search.hold, axis=1)[:, : search.horizon]
        actions = tf.clip_by_value(mean[:, tf.newaxis] + std[:, tf.newaxis] * noise, low, high)
        _, best = tf.math.top_k(returns_of(actions, iteration), search.elite, sorted=False)
        elite = tf.gather(actions, best, batch_dims=1)
        mean = tf.reduce_mean(elite, axis=1)
        std = tf.sqrt(tf.reduce_mean(tf.square(elite - mean[:, tf.newaxis]), axis=1))
    return mean, std


def returns_of_plans(model: RSSM, weights: Weights, state: State, actions: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
    """What a model promises of plans: rewards, each weighed by the chance that the episode goes on until then.

    Args:
        model: RSSM.
        weights: its prepared weights.
        state: State of N rows, where the plans begin.
        actions: float32 [N, K, T, A].
        noise: float32 [T, K, S], or [T, 1, S] for all candidates, standard normal, the same for every game.

    Returns:
        float32 [N, K].
    """
    games, candidates, steps = tf.shape(actions)[0], actions.shape[1], actions.shape[2]
    ahead = tf.unstack(tf.reshape(actions, [-1, steps, actions.shape[3]]), axis=1)
    state = State(*(tf.repeat(part, candidates, axis=0) for part in state))
    total, alive = tf.zeros([games * candidates]), tf.ones([games * candidates])
    for t in range(steps):
        h, _, prior = model.transition(weights, state, ahead[t])
        drawn = tf.broadcast_to(noise[t], [candidates, noise.shape[2]])
        state = State(h, model.sample(prior, tf.tile(drawn, [games, 1])))
        total += alive * model.reward(weights, state)
        if model.shape.end:
            alive *= tf.sigmoid(-model.end_logit(weights, state))
    return tf.reshape(total, [games, candidates])


class Planner:
    """Plans for many games at once in an RSSM.

    Args:
        model: RSSM.
        search: Search.
        low: [A], the least value of each part of an action.
        high: [A], the greatest.
        seed: int, decides the candidates and the noise of what the model imagines.
    """

    def __init__(self, model: RSSM, search: Search, low: Sequence[float], high: Sequence[float], seed: int = 0) -> None:
        self.model, self.search, self.low, self.high, self._seed = model, search, low, high, seed
        self._start = np.clip(np.zeros(len(low), np.float32), low, high)
        self.width = (np.array(high, np.float32) - np.array(low, np.float32)) / 2
        """half the range of each part of an action, float32 [A]: the unit of noise, 1 in the paper"""

    def plan(self, state: State, step: int, seed_offset: int = 0) -> tf.Tensor:
        """The best actions found.

        Args:
            state: State of N rows.
            step: int, of the episodes; decides the draws together with the seed of the planner.
            seed_offset: int, added to the seed.

        Returns:
            float32 [N, T, A], of which the first is to be played.
        """
        return self._plan(state, tf.constant([self._seed + seed_offset, step * 1000], tf.int32))

    @tf.function(reduce_retracing=True)
    def _plan(self, state: State, seed: tf.Tensor) -> tf.Tensor:
        search, weights = self.search, self.model.prepared()
        worlds = 1 if search.shared_noise else search.candidates
        shape = [search.iterations, search.horizon, worlds, self.model.shape.stochastic]
        noise = tf.random.stateless_normal(shape, seed + [1, 0])
        # the search begins at no action, as wide as half the range: mean 0 and deviation 1 where that is -1 to 1
        mean = tf.broadcast_to(
            tf.constant(self._start, tf.float32), [tf.shape(state.h)[0], search.horizon, len(self.low)]
        )

        def returns_of(actions: tf.Tensor, iteration: int) -> tf.Tensor:
            return returns_of_plans(self.model, weights, state, actions, noise[iteration])

        return cross_entropy(returns_of, mean, self.width, self.low, self.high, search, seed)[0]
