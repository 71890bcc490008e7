"""CarRacing for the rest of the code; the game itself is in env.py."""

import dataclasses
import types
from collections.abc import Sequence
from typing import Any

import numpy as np

from common.game import Game
from common.protocols import Seeds
from common.runtime.cli import UserError

from carracing import config, env

BROWNIAN_DT = 1 / 50  # seconds between two steps of the random walk
CAUCHY_STDEV = 0.01  # of the random weights of an episode, at most
PAPER_Z = 32  # numbers that a random network reads; they are noise, whatever the z_size of the VAE


class RandomNetworks:
    """The random policy of the authors: each episode has its own random linear controller, which reads noise.

    Its weights are standard Cauchy times a number from 0 to 0.01 that differs between episodes. The authors ran the VAE
    and the MDN-RNN for it, with random weights divided by 10,000, so that z was noise and h zero.

    Args:
        seeds: [B] int, the episodes.
        actions: numbers in an action, A.
    """

    def __init__(self, seeds: Seeds, actions: int = config.ACTION_SIZE) -> None:
        self._rngs = [np.random.default_rng([int(seed), 6]) for seed in seeds]
        shape = (1 + PAPER_Z, actions)  # the first row is the bias
        self._weights = np.stack([rng.standard_cauchy(shape) * rng.uniform(0, CAUCHY_STDEV) for rng in self._rngs])

    def act(self, state: Any) -> np.ndarray:
        """Any state -> float32 [B, A]."""
        noise = np.stack([rng.standard_normal(PAPER_Z) for rng in self._rngs])
        raw = np.tanh(self._weights[:, 0] + np.einsum("bz,bza->ba", noise, self._weights[:, 1:]))
        return env.action_of(raw)

    def keep(self, on: np.ndarray) -> None:
        """Forgets the rows that have finished."""
        self._rngs, self._weights = [self._rngs[k] for k in on], self._weights[on]


class Brownian:
    """A random walk within the range of actions.

    Args:
        seeds: [B] int, the episodes.
        actions: numbers in an action, A.
    """

    def __init__(self, seeds: Seeds, actions: int = config.ACTION_SIZE) -> None:
        self._rngs = [np.random.default_rng([int(seed), 6]) for seed in seeds]
        scene = GAME.acting_by(actions)
        self._low, self._high = np.array(scene.config.ACTION_LOW), np.array(scene.config.ACTION_HIGH)
        self._action = np.stack([rng.uniform(self._low, self._high) for rng in self._rngs])

    def act(self, state: Any) -> np.ndarray:
        """Any state -> float64 [B, A]."""
        action = self._action
        steps = np.stack([rng.standard_normal(action.shape[1]) for rng in self._rngs])
        self._action = np.clip(action + np.sqrt(BROWNIAN_DT) * steps, self._low, self._high)
        return action

    def keep(self, on: np.ndarray) -> None:
        """Forgets the rows that have finished."""
        self._rngs, self._action = [self._rngs[k] for k in on], self._action[on]


def blocks_of(seeds: Sequence[int], cfg: config.Extract) -> list[tuple[str, np.ndarray]]:
    """[(backend, seeds)] to play together; the share of Gymnasium is spread evenly, and first because it is slower."""
    if cfg.random_start and cfg.gymnasium_share < 1:
        raise UserError("--random_start is possible in Gymnasium only: give --gymnasium_share 1 as well")
    index = np.asarray(seeds) - cfg.first_seed
    slow = np.floor((index + 1) * cfg.gymnasium_share) > np.floor(index * cfg.gymnasium_share)
    parts = [("gymnasium", np.asarray(seeds)[slow]), (env.available("envpool"), np.asarray(seeds)[~slow])]
    return [(backend, part[k : k + cfg.rows]) for backend, part in parts for k in range(0, len(part), cfg.rows)]


_THREE_ACTIONS = Game(
    config=config,
    title="CarRacing",
    goal="Follow the road.",
    reward={"dream": "none: the MDN-RNN does not predict it", "game": "1000 / tiles for a new tile, -0.1 a step"},
    keys={"left": "steer left", "right": "steer right", "up": "gas", "down": "brake"},
    actions={"steering": -1, "gas": 0, "brake": 0},
    keyboard_action=env.keyboard_action,
    real_games=env.real_games,
    random_policies={
        "random_network": lambda seeds, cfg: RandomNetworks(seeds, getattr(cfg, "actions", config.ACTION_SIZE)),
        "brownian": lambda seeds, cfg: Brownian(seeds, getattr(cfg, "actions", config.ACTION_SIZE)),
    },
    backends=env.BACKENDS,
    backend_here=env.available,
    action_of=env.action_of,
    recording_blocks=blocks_of,
)

_two = {"ACTION_SIZE": config.TWO_ACTIONS, "ACTION_LOW": (-1.0, -1.0), "ACTION_HIGH": (1.0, 1.0), "MIRROR": (-1.0, 1.0)}
_same = {name: value for name, value in vars(config).items() if name.isupper() and name != "ACTION_CUT"}
TWO_ACTIONS = dataclasses.replace(
    _THREE_ACTIONS,
    config=types.SimpleNamespace(**_same | _two, __file__=config.__file__),
    actions={"steering": -1, "pedals": -1},
    keyboard_action=env.two_axes,
)
"""the game of those who record with extract.py --actions 2"""
GAME = dataclasses.replace(_THREE_ACTIONS, with_fewer_actions=TWO_ACTIONS)
