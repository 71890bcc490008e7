"""The dreams as Gymnasium environments, single and vectorised, so that any RL library can train in them.

    import common, gymnasium
    env = gymnasium.make("WorldModels/DoomTakeCoverDream-v0", render_mode="rgb_array")
    envs = gymnasium.make_vec("WorldModels/DoomTakeCoverDream-v0", num_envs=64)     # one MDN-RNN call per step

An observation is float32 [Z + H]: the dreamt z, then the h of the MDN-RNN. The action is that of the game. The restart
logit of the MDN-RNN terminates a dream, the time limit of the game truncates it. A `seed` gives the same dream as in
DreamWorld. In Doom the reward is 1 for every step. In CarRacing it is what the MDN-RNN expects (dream.paid), if it has
heads. The one that ships has none, and its dream gives 0: give a `run` that has, or add a reward in a wrapper.

An environment can be pickled and copied: what comes out is made anew from the same arguments, and has to be reset.
TensorFlow does not survive a fork, so environments in other processes need a fresh Python:

    gymnasium.make_vec(..., vectorization_mode="async", vector_kwargs={"context": "spawn"})
"""

import functools
import os
from collections.abc import Callable, Iterable
from typing import Any

from common.runtime import devices  # noqa: F401  isort: skip  (loads TensorFlow without its banner)
import gymnasium
import numpy as np
import tensorflow as tf
from gymnasium.vector import AutoresetMode

from common.agent import mdnrnn, models, vae
from common.game import Game, find
from common.runtime import seeds
from common.runtime.cli import UserError
from common.worlds import dream

SEEDS = seeds.TRAINING[0], seeds.TRAINING[1] + 1  # of dreams begun without a seed, for what learns in them
PROCESS = os.getpid()  # in which TensorFlow was loaded


def refuse_fork() -> None:
    """UserError in a process that was forked from one with TensorFlow: any call of it would hang."""
    if os.getpid() != PROCESS:
        raise UserError(
            "this process was forked from one in which TensorFlow runs, where it would hang; start it afresh: "
            'AsyncVectorEnv(..., context="spawn")'
        )


def _load(name: str, run: str | None, unverified: bool) -> tuple[Game, models.Models]:
    """A game by the name of its package, and the models of a run, by default those that ship."""
    game = find(name)
    folder = run or game.folder
    states = [(path, os.stat(path)) for paths in models.sets(game, folder)[:1] for path in paths.values()]
    written = tuple((path, state.st_mtime_ns, state.st_size) for path, state in states)
    return _loaded(name, folder, unverified, written)


@functools.lru_cache(maxsize=8)
def _loaded(name: str, folder: str, unverified: bool, written: object) -> tuple[Game, models.Models]:
    """The same, once for files as they are `written` now: they may be trained anew while this process runs."""
    refuse_fork()
    game = find(name)
    loaded = models.load_run(game, folder, unverified)
    return game.acting_by(loaded.rnn.shape.action_size), loaded


class _Dreams:
    """Dreams in lockstep in which each row begins at its own time. The rows of a DreamWorld begin together."""

    def __init__(self, game: str, run: str | None, temperature: float | None, rows: int, unverified: bool) -> None:
        found, loaded = _load(game, run, unverified)
        self.config, self._vae, self._rnn, self._initial_z = found.config, loaded.vae, loaded.rnn, loaded.initial_z
        self.fps = self.config.FPS
        self._temperature = float(self.config.TEMPERATURE if temperature is None else temperature)
        self._rngs: dict[int, np.random.Generator] = {}
        z_size, hidden_size = self._rnn.shape.z_size, self._rnn.shape.hidden_size
        self._z, self._h, self._c = (np.zeros((rows, size), np.float32) for size in (z_size, hidden_size, hidden_size))
        self._pay = found.pay if self._rnn.shape.heads else None
        self._alive = np.ones(rows, np.float32)
        self._uniform, self._normal = np.zeros((2, rows, dream.NOISE_STEPS, z_size), np.float32)
        self.age = np.zeros(rows, int)
        """steps of the dream of each row so far"""
        bound = np.concatenate([np.full(z_size, np.inf), np.ones(hidden_size)]).astype(np.float32)
        self.observation_space = gymnasium.spaces.Box(-bound, bound)
        low, high = (np.array(limit, np.float32) for limit in (self.config.ACTION_LOW, self.config.ACTION_HIGH))
        self.action_space = gymnasium.spaces.Box(low, high)

    @functools.cached_property
    def _weights(self) -> mdnrnn.Weights:
        return self._rnn.prepared()  # not before the first step: a forked process comes as far as `refuse_fork`

    def begin(self, rows: Iterable[int], seeds: Iterable[int]) -> None:
        """Starts the dreams of these seeds in these rows."""
        mu, logvar = self._initial_z
        for row, seed in zip(rows, seeds, strict=True):
            self._rngs[row] = rng = np.random.default_rng([int(seed), 2])
            first, noise = rng.integers(len(mu)), rng.standard_normal(mu.shape[1], np.float32)
            self._z[row] = vae.sample(mu[first], logvar[first], noise)
            self._h[row], self._c[row], self._alive[row], self.age[row] = 0, 0, 1, 0

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Float32 [B, A] -> (observations float32 [B, Z + H], reward float64 [B], terminated, truncated bool [B])."""
        row_step = self.age % dream.NOISE_STEPS
        for row in map(int, np.flatnonzero(row_step == 0)):
            self._uniform[row] = self._rngs[row].random(self._uniform[row].shape, np.float32)
            self._normal[row] = self._rngs[row].standard_normal(self._normal[row].shape, np.float32)
        rows = np.arange(len(row_step))
        noise = self._uniform[rows, row_step], self._normal[rows, row_step]
        restart = (self.age == 0).astype(np.float32)
        state, action = (self._z, self._h, self._c, self._alive), np.asarray(action, np.float32)
        *state, ended, reward = self._next(*state, restart, action, *noise)
        self._z, self._h, self._c, self._alive = map(np.array, state)
        self.age += 1
        terminated = ended.numpy()
        truncated = ~terminated & (self.age >= self.config.MAX_STEPS)
        return self.observations(), np.array(reward, float), terminated, truncated

    @tf.function(reduce_retracing=True)
    def _next(
        self,
        z: tf.Tensor,
        h: tf.Tensor,
        c: tf.Tensor,
        alive: tf.Tensor,
        restart: tf.Tensor,
        action: tf.Tensor,
        uniform: tf.Tensor,
        normal: tf.Tensor,
    ) -> tuple[tf.Tensor, ...]:
        noise = uniform, normal, self._temperature
        z, h, c, logit = dream.next_of(self._rnn, self._weights, (z, h, c), restart, action, *noise)
        reward = tf.fill(tf.shape(alive), float(self.config.DREAM_REWARD))
        if self._pay:
            reward, alive = dream.paid(self._rnn, self._weights, h, alive, self._pay)
        return z, h, c, alive, logit > 0, reward

    def observations(self) -> np.ndarray:
        """What the agent knows in all rows, float32 [B, Z + H]."""
        return np.concatenate([self._z, self._h], axis=1)

    def pictures(self) -> np.ndarray:
        """The z of every row, decoded by the VAE: uint8 [B, 64, 64, 3]."""
        return np.rint(self._vae.decode(self._z).numpy() * 255).astype(np.uint8)


class _Dreaming(gymnasium.utils.EzPickle):
    """What the environments of one and of many dreams share. What is pickled are the arguments of EzPickle."""

    make_dreams: Callable[..., Any] = _Dreams
    """(game, run, temperature, rows, unverified) -> dreams in lockstep"""
    _made: Any
    _begun = False
    """whether it was reset"""

    def _make(self, game: str, run: str | None, temperature: float | None, rows: int, unverified: bool) -> None:
        if rows < 1:
            raise UserError(f"num_envs {rows}: give 1 or more")
        if temperature is not None and not 0.01 <= temperature <= 100:
            raise UserError(f"temperature {temperature}: give a number from 0.01 to 100")
        self._made = self.make_dreams(game, run, temperature, rows, unverified)

    @property
    def _dreams(self) -> Any:
        refuse_fork()
        return self._made

    def _dream(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """One step of all rows.

        Raises:
            ResetNeeded: no dream was begun.
            ValueError: an action is of another shape or not finite, or a dream is not, for no later step would be.
        """
        if not self._begun:
            raise gymnasium.error.ResetNeeded("step before reset; a copy has to be reset too")
        shape = getattr(self, "num_envs", 1), *self._made.action_space.shape
        if actions.shape != shape:
            raise ValueError(f"actions have the shape {actions.shape}; give one of {shape[1:]} for each of {shape[0]}")
        if not np.isfinite(actions).all():
            raise ValueError(f"an action is not finite: {actions}")
        observations, *rest = self._dreams.step(actions)
        if not np.isfinite(observations).all():
            raise ValueError("a dream is not finite any more; were its models trained to their end?")
        return observations, *rest


class DreamEnv(_Dreaming, gymnasium.Env):
    """One dream of a game.

    Args:
        game: name of the package of the game, which must be importable.
        run: folder of a run. The dreams use its VAE and MDN-RNN if it has both; by default those that ship.
        temperature: > 0, see mdnrnn.sample; by default that of the game.
        render_mode: None or "rgb_array", the decoded z, uint8 [64, 64, 3].
        unverified: whether to use models without a valid meta, see common/runtime/provenance.py.

    Raises:
        common.runtime.cli.UserError: there are no weights, or their metas do not match.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 35}  # noqa: RUF012  Gymnasium's convention

    def __init__(
        self,
        game: str,
        run: str | None = None,
        temperature: float | None = None,
        render_mode: str | None = None,
        unverified: bool = False,
    ) -> None:
        super().__init__(game, run, temperature, render_mode, unverified)
        self._make(game, run, temperature, 1, unverified)
        self.render_mode = render_mode
        self.metadata = self.metadata | {"render_fps": self._made.fps}
        self.observation_space, self.action_space = self._made.observation_space, self._made.action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begins the dream of this seed, or without a seed the next one of the random generator of the last seed."""
        super().reset(seed=seed)
        self._dreams.begin([0], [int(self.np_random.integers(*SEEDS)) if seed is None else seed])
        self._begun = True
        return self._dreams.observations()[0], {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Dreams one step."""
        observations, reward, terminated, truncated = self._dream(np.asarray(action)[None])
        return observations[0], float(reward[0]), bool(terminated[0]), bool(truncated[0]), {}

    def render(self) -> Any:
        """The decoded z, uint8 [64, 64, 3], or None without a render mode."""
        return self._dreams.pictures()[0] if self.render_mode else None


class DreamVectorEnv(_Dreaming, gymnasium.vector.VectorEnv):
    """Many dreams of a game, with one MDN-RNN call per step; a dream that ends is followed by another in its row.

    Args:
        game: as in DreamEnv, like run, temperature, render_mode and unverified.
        num_envs: how many dreams.
        autoreset_mode: when a finished row begins anew: "NextStep", the default of Gymnasium (the action of that step
            is ignored, its reward is 0), or "SameStep" (the last observation is in info["final_obs"]).
    """

    metadata = DreamEnv.metadata | {"autoreset_mode": AutoresetMode.NEXT_STEP}

    def __init__(
        self,
        game: str,
        num_envs: int,
        run: str | None = None,
        temperature: float | None = None,
        render_mode: str | None = None,
        autoreset_mode: str | AutoresetMode = "NextStep",
        unverified: bool = False,
    ) -> None:
        super().__init__(game, num_envs, run, temperature, render_mode, autoreset_mode, unverified)
        self._make(game, run, temperature, num_envs, unverified)
        self.num_envs, self.render_mode = num_envs, render_mode
        mode, fps = AutoresetMode(autoreset_mode), self._made.fps
        if mode is AutoresetMode.DISABLED:
            raise ValueError("a row of dreams always begins anew: autoreset_mode is NextStep or SameStep")
        self._same_step = mode is AutoresetMode.SAME_STEP
        self.metadata = self.metadata | {"render_fps": fps, "autoreset_mode": mode}
        self.single_observation_space = self._made.observation_space
        self.single_action_space = self._made.action_space
        self.observation_space = gymnasium.vector.utils.batch_space(self.single_observation_space, num_envs)
        self.action_space = gymnasium.vector.utils.batch_space(self.single_action_space, num_envs)
        self._over = np.zeros(num_envs, bool)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Begins all rows anew: row i the dream of seed + i, or of seed[i] of a list, None for any."""
        seeds = range(seed, seed + self.num_envs) if isinstance(seed, int | np.integer) else seed
        given = [one for one in seeds or () if one is not None]
        if given:
            super().reset(seed=int(given[0]))  # later dreams are drawn from it
        if seeds is not None:
            seeds = [int(self.np_random.integers(*SEEDS)) if one is None else one for one in seeds]
        self._begin(np.arange(self.num_envs), seeds)
        self._over[:], self._begun = False, True
        return self._dreams.observations(), {}

    def _begin(self, rows: np.ndarray, seeds: Iterable[int] | None = None) -> None:
        self._dreams.begin(rows, self.np_random.integers(*SEEDS, len(rows)) if seeds is None else seeds)

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Dreams one step in every row."""
        observations, reward, terminated, truncated = self._dream(np.asarray(actions))
        info: dict[str, Any] = {}
        if not self._same_step:
            for array in (reward, terminated, truncated):
                array[self._over] = 0
            again, self._over = np.flatnonzero(self._over), terminated | truncated
        else:
            over = terminated | truncated
            again = np.flatnonzero(over)
            for row in map(int, again):
                info = self._add_info(info, {"final_obs": observations[row], "final_info": {}}, row)
        if len(again):
            self._begin(again)
            observations = self._dreams.observations()
        return observations, reward, terminated, truncated, info

    def render(self) -> tuple[np.ndarray, ...] | None:
        """The decoded z of each row, uint8 [64, 64, 3], or None without a render mode."""
        return tuple(self._dreams.pictures()) if self.render_mode else None
