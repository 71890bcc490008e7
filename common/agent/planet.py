"""The file of an agent that plans: an RSSM, the budget of its planner, and how often an action is repeated.

rssm.npz holds the weights by name, and `about`, a JSON text with all else. A run has it in tf_planet/; the one that
ships is in planet/ of the game.
"""

import dataclasses
import json
import os
from typing import Any

import numpy as np

from common.agent import rssm
from common.agent.planner import Search
from common.game import Game
from common.runtime import files, provenance
from common.runtime.cli import UserError

FILE = "rssm.npz"
FOLDER = "tf_planet"
SHIPPED = "planet"


def range_of(game: Game) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(low, high) of the parts of an action.

    Raises:
        UserError: the game has no range to plan in.
    """
    low, high = (getattr(game.config, name, ()) for name in ("ACTION_LOW", "ACTION_HIGH"))
    sound = len(low) == len(high) == game.config.ACTION_SIZE and np.isfinite([*low, *high]).all()
    if not sound or not (np.array(low) < np.array(high)).all():
        raise UserError(
            f"{game.name}: its config.py gives no range of actions to plan in; set ACTION_LOW and ACTION_HIGH, "
            f"{game.config.ACTION_SIZE} finite numbers each, the second greater"
        )
    return tuple(low), tuple(high)


def has_end(game: Game) -> bool:
    """Whether a game can be lost, so that its model predicts the end: by death, or by a fall as in PAY."""
    return game.config.RESTART or hasattr(game.config, "PAY")


def check_search(search: Search) -> None:
    """UserError if a budget cannot be: `elite` best of fewer candidates, draws held for longer than a plan."""
    if search.candidates < search.elite:
        raise UserError(f"--candidates {search.candidates}: fewer than --elite {search.elite}, the best of them")
    if search.horizon < search.hold:
        raise UserError(f"--horizon {search.horizon}: shorter than the {search.hold} actions of one draw (hold)")


def write(path: str, model: rssm.RSSM, search: Search, action_repeat: int) -> None:
    """Writes rssm.npz whole.

    Raises:
        UserError: a weight is not finite; nothing is written.
    """
    arrays = {name: variable.numpy() for name, variable in model.arrays().items()}
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise UserError(f"{path}: not written, because a weight is not finite; continue from an earlier checkpoint")
    about = {"shape": dataclasses.asdict(model.shape), "search": dataclasses.asdict(search), "repeat": action_repeat}
    files.write_npz(path, about=np.array(json.dumps(about)), **arrays)


def read(path: str, game: Game) -> tuple[rssm.RSSM, Search, int]:
    """The (model, budget of the planner, action repeat) of an rssm.npz.

    Raises:
        UserError: no such file, damaged, or weights of another shape than it says or the game has.
    """
    try:
        arrays = files.read_npz(path)
        about = json.loads(str(arrays.pop("about")))
        shape, search, repeat = rssm.Shape(**about["shape"]), Search(**about["search"]), int(about["repeat"])
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not an RSSM ({error})") from None
    wanted = game.config.ACTION_SIZE, has_end(game)
    if (shape.action_size, shape.end) != wanted:
        raise UserError(
            f"{path}: an RSSM for {shape.action_size} action(s), {'with' if shape.end else 'without'} an end, not for "
            f"{game.name}; was it made for another game?"
        )
    model = rssm.RSSM(shape)
    variables = model.arrays()
    for name, variable in variables.items():
        found = arrays[name].shape if name in arrays else "missing"
        if found != tuple(variable.shape):
            raise UserError(f"{path}: weights of another shape: {name} is {found}, not {tuple(variable.shape)}")
        if not np.isfinite(arrays[name]).all():
            raise UserError(f"{path}: holds a value that is not finite")
        variable.assign(arrays[name])
    return model, search, repeat


def find(game: Game, run: str, unverified: bool = False) -> tuple[str, dict[str, Any]]:
    """The (path, meta) of the file of a run, or of the one that ships; says which.

    Raises:
        UserError: there is none, or its meta does not match.
    """
    if not os.path.isdir(run):
        raise UserError(f"--run {run}: no such folder")
    own = os.path.join(run, FOLDER, FILE)
    shipped = os.path.join(os.path.relpath(game.folder), SHIPPED, FILE)
    path = next((path for path in (own, shipped) if os.path.exists(path)), None)
    if path is None:
        raise UserError(f"neither {own} nor an RSSM that ships is there; train it first with: python planet.py train")
    meta = provenance.read(path, "rssm", game.name, unverified)
    print(f"weights: {path}" + f" (those that ship: {run} has none of its own)" * (path == shipped))
    return path, meta
