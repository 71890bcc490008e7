"""Games as an RSSM believes them to be, and the policy that plans in it."""

from collections.abc import Sequence

from common.runtime import devices  # noqa: F401  isort: skip  (loads TensorFlow without its banner)
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from common.agent import rssm
from common.agent.planner import Planner
from common.agent.rssm import RSSM, State
from common.protocols import World


class BelievedGames:
    """Games in lockstep, each with its posterior; one call of the model per step for all. The state is rssm.State.

    The belief goes on with the actions that were played, noise included.

    Args:
        games: a batch of games, the state of which is frames.
        model: RSSM.
    """

    def __init__(self, games: World, model: RSSM) -> None:
        self.games, self.model = games, model
        self.frames = np.zeros((0, 64, 64, 3), np.uint8)
        """uint8 [B, 64, 64, 3], what the rows saw last"""
        self.state = model.initial_state(0)
        """State of the rows"""

    def reset(self, seeds: Sequence[int] | np.ndarray) -> State:
        """Starts one episode per seed; before its first frame nothing is believed, and no action was played."""
        # each episode has its own noise, so that it does not depend on its neighbors in the batch
        self._noise = [np.random.default_rng([int(seed), 8]) for seed in seeds]
        frames, nothing = self.games.reset(seeds), np.zeros((len(seeds), self.model.shape.action_size), np.float32)
        return self._see(frames, self.model.initial_state(len(seeds)), nothing)

    def step(self, action: ArrayLike) -> tuple[State | None, np.ndarray, np.ndarray]:
        """Plays the actions, float32 [B, A]; then looks."""
        action = np.asarray(action, np.float32)
        frames, reward, done = self.games.step(action)
        on, state = np.flatnonzero(~done), self.state
        if done.any():
            state, self._noise = State(*(tf.gather(part, on) for part in state)), [self._noise[k] for k in on]
        return (self._see(frames, state, action[on]) if len(frames) else None), reward, done

    def _see(self, frames: np.ndarray, state: State, action: np.ndarray) -> State:
        noise = np.stack([rng.standard_normal(self.model.shape.stochastic, np.float32) for rng in self._noise])
        self.frames, self.state = frames, self._observe(state, action, frames, noise)
        return self.state

    @tf.function(reduce_retracing=True)
    def _observe(self, state: State, action: tf.Tensor, frames: tf.Tensor, noise: tf.Tensor) -> State:
        return self.model.observe(self.model.prepared(), state, action, rssm.image_of(frames), noise)


class Planning:
    """A policy that plans at every step, and plays the first action of its plan.

    Args:
        planner: Planner.
        seeds: [B] int, the episodes.
        noise: standard deviation of what is added to the action, in halves of its range.
        seed_offset: int, decides the draws of its plans together with the seed of the planner.
    """

    def __init__(
        self, planner: Planner, seeds: Sequence[int] | np.ndarray, noise: float = 0.0, seed_offset: int = 0
    ) -> None:
        self._planner, self._noise, self._seed_offset, self._step = planner, np.float32(noise), seed_offset, 0
        self._rngs = [np.random.default_rng([int(seed), 9]) for seed in seeds]

    def act(self, state: State) -> np.ndarray:
        """State of B rows -> float32 [B, A], rounded to what recordings hold."""
        planner = self._planner
        action = planner.plan(state, self._step, self._seed_offset)[:, 0].numpy()
        self._step += 1
        if self._noise:
            normal = np.stack([rng.standard_normal(action.shape[1], np.float32) for rng in self._rngs])
            action = np.clip(action + self._noise * planner.width * normal, planner.low, planner.high)
        return action.astype(np.float16).astype(np.float32)

    def keep(self, on: np.ndarray) -> None:
        """Forgets the rows that have finished."""
        self._rngs = [self._rngs[k] for k in on]
