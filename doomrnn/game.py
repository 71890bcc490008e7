"""DoomTakeCover for the rest of the code; the game itself is in doomreal.py."""

import numpy as np

from common.game import Game
from common.protocols import Policy, World
from common.worlds import games, rollouts

from doomrnn import config


def keyboard_action(keys: set[str]) -> list[int]:
    """The keys held down as the tanh value that stands for them: {"left"} -> [-1]."""
    return [("right" in keys) - ("left" in keys)]


def real_games(rows: int, backend: str = "") -> World:
    """A batch of that many games."""
    from doomrnn.doomreal import DoomTakeCover  # here, for dreams need no ViZDoom

    return games.Games([DoomTakeCover() for _ in range(rows)])


def held_actions(seeds: np.ndarray, cfg: config.Extract) -> Policy:
    """A uniform action in [-1, 1], held for 1 to `max_hold` tics."""
    return rollouts.HeldActions(seeds, cfg.max_hold, config.ACTION_LOW, config.ACTION_HIGH)


GAME = Game(
    config=config,
    title="Doom: Take Cover",
    goal="Monsters throw fireballs at you. Step aside, and live.",
    reward={"dream": "1 for every tic alive", "game": "1 for every tic alive"},
    keys={"left": "step left", "right": "step right"},
    actions={"move": -1},
    keyboard_action=keyboard_action,
    real_games=real_games,
    random_policies={"held": held_actions},
    backends=("vizdoom",),
    world_names={"real": "doomreal", "dream": "doomrnn"},
)
