"""The scripts that users type, in carracing/ and doomrnn/: each hands its game to the command of its name."""

import ast
import os

import commands
import pytest
from commands import GAMES, in_this_process  # noqa: F401  a fixture

from common.play import fidelity, play, record, select
from common.runtime.files import ROOT
from common.training import evolve, iterate, planet, vae_and_rnn

BOTH = {
    "extract": (record, "main"),
    "vae_train": (vae_and_rnn, "train_vae"),
    "series": (vae_and_rnn, "encode"),
    "rnn_train": (vae_and_rnn, "train_rnn"),
    "train": (evolve, "main"),
    "iterate": (iterate, "main"),
    "model": (play, "main"),
    "dream_model": (play, "watch_dream"),
    "pick_best": (select, "main"),
    "planet": (planet, "main"),
    "fidelity": (fidelity, "main"),
}
SCRIPTS = {
    "carracing": BOTH | {"dream_env": (play, "play_dream")},
    "doomrnn": BOTH | {"doomrnn": (play, "play_dream"), "doomreal": (play, "play_game")},
}
OTHERS = {"__init__", "config", "game", "env", "ppo_train"}  # no scripts, and two with a main of their own


@pytest.mark.parametrize(("name", "script"), [(name, script) for name, all_of in SCRIPTS.items() for script in all_of])
def test_a_script_hands_its_game_to_its_command(name, script, monkeypatch):
    """Catches a script of one game that plays the other, and one that does what another script is for."""
    asked = []
    for module, main in {*SCRIPTS[name].values(), *BOTH.values()}:
        monkeypatch.setattr(module, main, lambda *given, told=(module, main): asked.append((told, *given)))
    done = commands.script(name, script)
    assert (done.code, done.err) == (0, "")
    with open(os.path.join(ROOT, name, f"{script}.py"), encoding="utf-8") as file:
        description = ast.get_docstring(ast.parse(file.read()), clean=False)
    assert asked == [(SCRIPTS[name][script], GAMES[name], description)]


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_is_known_here(name):
    """Catches a new script that nobody looks at."""
    found = {file[:-3] for file in os.listdir(os.path.join(ROOT, name)) if file.endswith(".py")}
    assert found - OTHERS == SCRIPTS[name].keys()
