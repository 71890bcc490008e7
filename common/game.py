"""The description of a game. A game is a package with config.py, game.py and frames.png.

config.py has the numbers and presets; game.py has the game and `GAME`, a `Game`. Neither imports TensorFlow, so that
the processes that only record stay small.
"""

import dataclasses
import importlib
import os
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from PIL import Image

from common.protocols import Policy, World
from common.runtime import settings
from common.runtime.cli import UserError
from common.runtime.files import ROOT


class Config(Protocol):
    """The names that the config.py of a game defines."""

    __file__: str | None
    GAME: str
    """name of the package, and the first part of the names of its log files"""
    MAX_STEPS: int
    """of an episode, in the game and in the dream"""
    FPS: int
    """steps per second, for a person who plays or watches"""
    ACTION_SIZE: int
    ACTION_LOW: tuple[float, ...]
    ACTION_HIGH: tuple[float, ...]
    MIRROR: tuple[float, ...]
    """an action times this is its mirror image, with left and right exchanged"""
    RESTART: bool
    """whether the MDN-RNN reads and predicts a restart flag, so that a dream can end"""
    TEMPERATURE: float
    """of the dreams that people play in, and of the Gymnasium environment"""
    DREAM_REWARD: float
    """of a step in the dream; 0 if the MDN-RNN does not predict the reward"""
    CONTROLLER_MODE: str
    """what the controller reads by default, see controller.Controller"""
    CONTROLLER_BIAS: bool
    TRAINED: dict[str, str]
    """{"vae", "rnn", "initial_z": file in the folder of a run}"""
    SHIPPED: tuple[dict[str, str], ...]
    """the sets of weights that ship, each like TRAINED, in the folder of the game"""
    SHIPPED_CONTROLLER: str
    """the controller that ships, a path from the root of the repository"""
    RNN_FILE_ORDER: tuple[str, ...]
    """the arrays of rnn.json in the order of the file, see mdnrnn.Shape.arrays"""
    EXTRACT: dict[str, Any]
    VAE: dict[str, settings.Vae]
    SERIES: dict[str, settings.Series]
    RNN: dict[str, Any]
    TRAIN: dict[str, Any]


def same(raw: np.ndarray) -> np.ndarray:
    """Actions of a game that takes the tanh values of the controller unchanged."""
    return raw


def as_named(backend: str) -> str:
    """Returns the backend as it is, for games in which every machine can have all backends."""
    return backend


def one_block(seeds: Sequence[int], cfg: Any) -> list[tuple[str, np.ndarray]]:
    """[(backend, seeds)] of a game with one backend, one episode in each block."""
    return [("", np.array([seed])) for seed in seeds]


@dataclasses.dataclass(frozen=True)
class Game:
    """Everything that differs between games."""

    config: Config
    title: str
    goal: str
    """what to do, in a sentence"""
    reward: dict[str, str]
    """{"dream": what gives reward there, "game": the same}, each in a few words"""
    keys: dict[str, str]
    """{key: what it does}, of the keys that `keyboard_action` knows"""
    actions: dict[str, int]
    """{name: least value, -1 or 0} of the A numbers of an action"""
    keyboard_action: Callable[[set[str]], Any]
    """(names of the keys held down) -> [A] float"""
    real_games: Callable[..., World]
    """(rows, backend, **rules) -> a batch of that many games; its state is their frames"""
    random_policies: dict[str, Callable[[np.ndarray, Any], Policy]]
    """{name: (seeds, the config of extract.py) -> policy} of the policies that record; the first is the default"""
    backends: tuple[str, ...] = ("",)
    """implementations of the game; the first is what scores are reported in"""
    backend_here: Callable[[str], str] = as_named
    """backend -> the one that this machine plays in its place; "" is the first"""
    action_of: Callable[[np.ndarray], np.ndarray] = same
    """tanh values of the controller [B, A] -> the actions that the game and the MDN-RNN know"""
    recording_blocks: Callable[[Sequence[int], Any], list[tuple[str, np.ndarray]]] = one_block
    """(seeds, the config of extract.py) -> [(backend, seeds)], the episodes that are played together"""
    world_names: dict[str, str] = dataclasses.field(default_factory=dict)
    """{"real": ..., "dream": ...}: what model.py calls the game and its dream, if it can play both"""
    seconds_per_step: float = 0.1
    """time that a step of a random player may take [s]; its process is killed if it needs more"""
    with_fewer_actions: "Game | None" = None
    """the same game, played with fewer numbers in an action, if it can be; see `acting_by`"""

    def acting_by(self, size: int) -> "Game":
        """This game, or the same one with fewer numbers in an action: so many as a series or an MDN-RNN has.

        Raises:
            UserError: it is not played by so many.
        """
        known = self._by_actions()
        if size not in known:
            raise UserError(f"{self.title} has {' or '.join(map(str, known))} numbers in an action, not {size}")
        return known[size]

    @property
    def action_sizes(self) -> tuple[int, ...]:
        """How many numbers an action may have; the usual size first."""
        return tuple(self._by_actions())

    def _by_actions(self) -> dict[int, "Game"]:
        fewer = self.with_fewer_actions
        return {game.config.ACTION_SIZE: game for game in (self, *([fewer] if fewer else []))}

    @property
    def name(self) -> str:
        """Name of the package."""
        return self.config.GAME

    @property
    def folder(self) -> str:
        """Path of the package."""
        return os.path.dirname(os.path.abspath(str(self.config.__file__)))

    @property
    def usual_world(self) -> str:
        """Where its controllers are evolved by default, "dream" or "game"."""
        return next(iter(self.config.TRAIN.values())).world

    def train_presets(self, world: str) -> dict[str, Any]:
        """The presets of train.py for a world; "" is the usual one.

        Raises:
            UserError: the config has none for it.
        """
        if world not in settings.WORLDS or world == self.usual_world:  # neither: refused with the other flags
            return self.config.TRAIN
        name = f"TRAIN_{world.upper()}"
        if not hasattr(self.config, name):
            raise UserError(f"--world {world}: {self.title} has no {name} in its config.py")
        return getattr(self.config, name)

    def ppo_presets(self, world: str) -> dict[str, Any]:
        """The presets of train.py -o ppo for a world; "" is the dream.

        Raises:
            UserError: the config has none for it.
        """
        name = "PPO_GAME" if world == "game" else "PPO"
        if not hasattr(self.config, name):
            ways = {"PPO": "leave out --world game", "PPO_GAME": "give --world game"}
            other = next(
                (way for there, way in ways.items() if hasattr(self.config, there)), "give -o cma or -o openes"
            )
            raise UserError(f"-o ppo: {self.title} has no {name} in its config.py; {other}")
        return getattr(self.config, name)

    def log_name(self, world: str) -> str:
        """How the names of log files begin: with the name of the game, and the world if it is not the usual one."""
        return self.name if world == self.usual_world else f"{self.name}.{world}"

    @property
    def pay(self) -> settings.Pay:
        """What the heads of an MDN-RNN learn of its reward, and what its dream pays by them.

        Raises:
            UserError: the config does not say.
        """
        if not hasattr(self.config, "PAY"):
            raise UserError(f"--heads: {self.title} has no PAY in its config.py, which says what they learn")
        return self.config.PAY

    @property
    def frames_picture(self) -> str:
        """Path of a picture of 64x64 frames, one below the other, from which dreams can start."""
        return os.path.join(self.folder, "frames.png")

    def first_frames(self) -> np.ndarray:
        """The frames of that picture, uint8 [N, 64, 64, 3]."""
        with Image.open(self.frames_picture) as picture:
            return np.asarray(picture.convert("RGB")).reshape(-1, 64, 64, 3)


def find(name: str) -> Game:
    """The game of a package, by its name.

    Raises:
        UserError: there is no such package, or it is not a game.
    """
    try:
        module = importlib.import_module(f"{name}.game")
    except ModuleNotFoundError as error:
        if error.name not in (name, f"{name}.game"):
            raise
        raise UserError(
            f"{name}: no such game; it is a package with config.py and game.py, see docs/new_game.md"
        ) from None
    return module.GAME


def names() -> list[str]:
    """The packages beside this one, and in the current folder, that are games."""
    found = []
    for folder in dict.fromkeys((ROOT, os.getcwd())):
        for name in sorted(os.listdir(folder)):
            has = [os.path.exists(os.path.join(folder, name, part)) for part in ("config.py", "game.py")]
            if name.isidentifier() and all(has) and name not in found:
                found.append(name)
    return found
