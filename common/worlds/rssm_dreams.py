"""The dreams of an RSSM as Gymnasium environments, as those of the MDN-RNN are (gym_envs.py).

    import common, gymnasium
    env = gymnasium.make("WorldModels/PlanetDream-v0", game="carracing", run="runs/planet", render_mode="rgb_array")

A dream begins at a frame of frames.png of the game. An observation is float32 [H + S], the state (h, s). A step is as
many steps of the game as the model was trained to repeat an action for; its reward is what the model expects of them.
Where it knows of ends, a dream ends as often as the model says: each end is drawn from its probability. The temperature
multiplies the variance of s.
"""

from collections.abc import Iterable

from common.runtime import devices  # noqa: F401  isort: skip  (loads TensorFlow without its banner)
import gymnasium
import numpy as np
import tensorflow as tf

from common.agent import planet, rssm
from common.agent.rssm import RSSM, State
from common.game import Game, find
from common.worlds.gym_envs import DreamEnv, DreamVectorEnv, refuse_fork


class RssmDreams:
    """Dreams in lockstep in which each row begins at its own time.

    Args:
        game: Game.
        model: its RSSM.
        repeat: steps of the game that the model was trained to repeat an action for.
        rows: how many dreams.
        temperature: > 0; may be changed between two steps.
    """

    def __init__(self, game: Game, model: RSSM, repeat: int, rows: int, temperature: float = 1.0) -> None:
        self._model, self._weights, self.temperature = model, model.prepared(), temperature
        self.fps, self._max_steps = max(1, game.config.FPS // repeat), -(-game.config.MAX_STEPS // repeat)
        self._first = game.first_frames()
        self._rngs: dict[int, np.random.Generator] = {}
        shape = self._model.shape
        self._h, self._s = np.zeros((rows, shape.memory), np.float32), np.zeros((rows, shape.stochastic), np.float32)
        self.age = np.zeros(rows, int)
        """steps of the dream of each row so far"""
        bound = np.concatenate([np.ones(shape.memory), np.full(shape.stochastic, np.inf)]).astype(np.float32)
        self.observation_space = gymnasium.spaces.Box(-bound, bound)
        low, high = (np.array(limit, np.float32) for limit in planet.range_of(game))
        self.action_space = gymnasium.spaces.Box(low, high)

    @classmethod
    def load(cls, game: str, run: str | None, temperature: float | None, rows: int, unverified: bool) -> "RssmDreams":
        """The dreams of the RSSM of a run, by default of the one that ships; arguments as in DreamEnv."""
        refuse_fork()
        found = find(game)
        path, _ = planet.find(found, run or found.folder, unverified)
        model, _, repeat = planet.read(path, found)
        return cls(found, model, repeat, rows, temperature or 1.0)

    def begin(self, rows: Iterable[int], seeds: Iterable[int], first: np.ndarray | None = None) -> None:
        """Starts the dreams of these seeds in these rows: at what is believed when a first frame is seen.

        Args:
            rows: the rows.
            seeds: of their dreams.
            first: uint8 [64, 64, 3], the frame; by default one of `frames.png`, which the seed decides.
        """
        for row, seed in zip(rows, seeds, strict=True):
            self._rngs[row] = rng = np.random.default_rng([int(seed), 2])
            drawn = self._first[rng.integers(len(self._first))]
            frame = (drawn if first is None else first)[None]
            self._h[row], self._s[row] = (part[0] for part in self._see(frame, self._noise(row)[None]))
            self.age[row] = 0

    def _noise(self, row: int) -> np.ndarray:
        return np.float32(self.temperature**0.5) * self._rngs[row].standard_normal(self._s.shape[1], np.float32)

    @tf.function
    def _see(self, frame: tf.Tensor, noise: tf.Tensor) -> State:
        model, nothing = self._model, tf.zeros([1, self._model.shape.action_size])
        return model.observe(self._weights, model.initial_state(1), nothing, rssm.image_of(frame), noise)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Float32 [B, A] -> (observations float32 [B, H + S], reward float64 [B], terminated, truncated bool [B])."""
        noise = np.stack([self._noise(row) for row in range(len(self.age))])
        h, s, reward, end = self._next(State(self._h, self._s), np.asarray(action, np.float32), noise)
        self._h, self._s, self.age = np.array(h), np.array(s), self.age + 1
        terminated = np.array([self._rngs[row].random() for row in range(len(self.age))]) < end.numpy()
        truncated = ~terminated & (self.age >= self._max_steps)
        return self.observations(), np.array(reward, float), terminated, truncated

    @tf.function(reduce_retracing=True)
    def _next(self, state: State, action: tf.Tensor, noise: tf.Tensor) -> tuple[tf.Tensor, ...]:
        state = State(*(part[0] for part in self._model.imagine(self._weights, state, action[None], noise[None])))
        reward = self._model.reward(self._weights, state)
        if self._model.shape.end:
            return *state, reward, tf.sigmoid(self._model.end_logit(self._weights, state))
        return *state, reward, tf.zeros_like(reward)

    @property
    def state(self) -> State:
        """(h, s) of all rows."""
        return State(self._h, self._s)

    def observations(self) -> np.ndarray:
        """The state of all rows, float32 [B, H + S]."""
        return np.concatenate([self._h, self._s], axis=1)

    def pictures(self) -> np.ndarray:
        """The decoded state of every row, uint8 [B, 64, 64, 3]."""
        frames = self._model.decode(State(self._h, self._s)).numpy() + 0.5
        return np.rint(np.clip(frames, 0, 1) * 255).astype(np.uint8)


class PlanetDreamEnv(DreamEnv):
    """One dream of an RSSM; arguments as in DreamEnv, `run` with an RSSM."""

    make_dreams = RssmDreams.load


class PlanetDreamVectorEnv(DreamVectorEnv):
    """Many dreams of an RSSM, with one call of the model per step; arguments as in DreamVectorEnv."""

    make_dreams = RssmDreams.load
