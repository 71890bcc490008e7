"""common/game.py: which packages are games, and what each says of itself."""

import dataclasses
import types

import pytest

from common import game
from common.runtime import settings
from common.runtime.cli import UserError


def test_games_are_packages_here_and_beside_this_one(tmp_path, monkeypatch):
    """Catches a user's own game that is not found, and a folder that is no package, or no game, offered as one."""
    for name, files in {
        "mine": ("config.py", "game.py"),
        "half": ("config.py",),
        "my-game": ("config.py", "game.py"),
    }.items():
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / file).touch()
    monkeypatch.chdir(tmp_path)
    assert game.names() == ["carracing", "doomrnn", "mine"]


def test_what_a_game_does_not_have_is_said():
    """Catches a traceback for a flag that a game has no numbers for, and the presets of the dream for the game."""
    bare = dataclasses.replace(game.find("doomrnn"), title="Dots", config=types.SimpleNamespace())
    with pytest.raises(UserError, match=r"--heads: Dots has no PAY"):
        _ = bare.pay
    for world, name in (("", "PPO"), ("dream", "PPO"), ("game", "PPO_GAME")):
        with pytest.raises(UserError, match=rf"-o ppo: Dots has no {name} in its config\.py; give -o cma"):
            bare.ppo_presets(world)
        presets = {"laptop": settings.Ppo()}
        config = types.SimpleNamespace(**{name: presets})
        assert dataclasses.replace(bare, config=config).ppo_presets(world) is presets
