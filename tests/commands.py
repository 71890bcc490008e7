"""For tests of what commands do with files and seeds: they are called in this process, on a game of a few frames.

What takes long or is random, such as playing a whole game, a test replaces by a spy; all else is what users run.
"""

import contextlib
import dataclasses
import functools
import io
import os
import runpy
import shutil
import sys
import types

import keras
import numpy as np
import pytest

from common import game as games_here
from common.agent import controller, mdnrnn, models, vae, weights
from common.play import agents, record
from common.runtime import cli, devices, files, parallel, provenance
from common.training import ship
from common.worlds import games

GAMES = {name: games_here.find(name) for name in ("carracing", "doomrnn")}


@dataclasses.dataclass
class Done:
    """What a command did."""

    code: int
    out: str
    err: str

    def refused(self, *words):
        """Whether it ended with exit code 2 and one line on stderr, in which all these words stand."""
        lines = self.err.strip().splitlines()
        return self.code == 2 and len(lines) == 1 and all(str(word) in lines[0] for word in words)


def call(main, game, *words):
    """Calls the main of a script, such as play.main, as `python script.py *words` would."""
    return _called(lambda: cli.run_main(lambda: main(game, "A script.")), "script.py", *words)


def script(game, name, *words):
    """`python name.py *words` in the folder of the game, but in this process: for what ends before it works."""
    with contextlib.chdir(os.path.join(games_here.ROOT, game)):
        return _called(lambda: runpy.run_path(f"{name}.py", run_name="__main__"), f"{name}.py", *words)


def _called(command, *argv):
    out, err, before, code = io.StringIO(), io.StringIO(), sys.argv, 0
    sys.argv = [*map(str, argv)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            command()
    except SystemExit as end:
        code = end.code
    finally:
        sys.argv = before
    return Done(code, out.getvalue(), err.getvalue())


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    """What only a process of its own can do is left out; weights that were read once are not read again."""
    monkeypatch.setattr(devices, "for_blocks", lambda **_: None)  # TensorFlow has its threads already
    monkeypatch.setattr(weights, "read_vae", read_vae)


@functools.cache
def _vae(sha, path):
    return _read_vae(path)


_read_vae = weights.read_vae


def read_vae(path):
    """weights.read_vae, which takes seconds, once for all files with the same content."""
    return _vae(files.sha256(path), str(path))


def controllers(game):
    """Paths from the root of the controllers that ship, or will: the one, and those of other presets of iterate.py."""
    presets = getattr(game.config, "ITERATE", {}).values()
    others = {preset.controller for preset in presets if preset.controller}
    others |= {ship.linear_beside(path) for path in (game.config.SHIPPED_CONTROLLER, *others)}
    return [game.config.SHIPPED_CONTROLLER, *sorted(others - {game.config.SHIPPED_CONTROLLER})]


def shipped_files(game):
    """{path from the root: kind} of all that ships of a game; a set of which nothing is there does not ship yet."""
    sets = [{os.path.join(game.name, path): kind for kind, path in group.items()} for group in game.config.SHIPPED]
    there = [group for group in sets if any(map(is_there, group))]
    found = {path: kind for group in there for path, kind in group.items()}
    one, *others = controllers(game)
    return found | {path: "controller" for path in (one, *filter(is_there, others))}


def is_there(path):
    """Whether the repository has this file."""
    return os.path.exists(os.path.join(games_here.ROOT, path))


def copy_of(game, root, **changes):
    """A game whose shipped files are copies in another folder, so that a test may damage them.

    `agents.ROOT` has to be that folder as well. **changes are of its config.
    """
    for path in shipped_files(game):
        for ending in ("", provenance.ENDING):
            os.makedirs(os.path.dirname(root / path), exist_ok=True)
            shutil.copy(os.path.join(games_here.ROOT, path + ending), root / (path + ending))
    shutil.copy(game.frames_picture, root / game.name)
    own = {name: value for name, value in vars(game.config).items() if name.isupper()}
    config = types.SimpleNamespace(**(own | {"__file__": str(root / game.name / "config.py")} | changes))
    return dataclasses.replace(game, config=config)


class Counting:
    """A game that shows how many steps it has played, and ends by itself; it notes the actions that it was given."""

    def __init__(self, length=lambda seed: 20 + seed % 5):
        self._length, self.actions = length, []

    def reset(self, seed):
        """The first frame."""
        self._seed, self._steps = int(seed), 0
        return self._look()

    def step(self, action):
        """The next one; a step brings 1."""
        self.actions.append(np.array(action))
        self._steps += 1
        return self._look(), 1.0, self._steps >= self._length(self._seed)

    def _look(self):
        return np.full((64, 64, 3), self._steps, np.uint8)


def counting(game, **changes):
    """The same game to play, but it is Counting. **changes are of its config."""
    own = {name: value for name, value in vars(game.config).items() if name.isupper()}
    config = types.SimpleNamespace(**(own | {"__file__": game.config.__file__} | changes))
    one = functools.partial(games.Games)

    def real_games(rows, backend="", **rules):
        return one([Counting() for _ in range(rows)])

    return dataclasses.replace(game, config=config, real_games=real_games)


def record_in_this_process(monkeypatch, game):
    """Lets record.py play `game` here: other processes know the games by name only."""

    def in_processes(work, tasks, processes, patience):
        for task in tasks:
            yield task, work(task)

    monkeypatch.setattr(parallel, "in_processes", in_processes)
    monkeypatch.setattr(record, "find", lambda name: game)
    monkeypatch.setattr(record, "_worlds", {})


def edit(path, place=0.5):
    """Changes one byte: the first digit from this share of the file on, or without a digit the byte there."""
    with open(path, "rb") as file:
        data = bytearray(file.read())
    k = int(place * (len(data) - 1))
    k = next((i for i in range(k, len(data)) if chr(data[i]).isdigit()), k)
    data[k] = ord("1") if data[k] != ord("1") else ord("2")
    with open(path, "wb") as file:
        file.write(data)


def edit_exactly(path, k):
    """Changes the byte number k."""
    with open(path, "rb") as file:
        data = bytearray(file.read())
    data[k] ^= 1
    with open(path, "wb") as file:
        file.write(data)


def namespace(**more):
    """What a command line gives agents.load."""
    return types.SimpleNamespace(**({"run": ".", "unverified": False} | more))


def write_models(game, run, seed, vae_sha=None, **more):
    """Small models with their metas in a run; all on the VAE beside them, or on one with another hash."""
    keras.utils.set_random_seed(seed)
    config, cfg = game.config, {"seed": seed}
    paths = {name: os.path.join(run, config.TRAINED[name]) for name in models.NAMES}
    shape = mdnrnn.Shape(4, config.ACTION_SIZE, 8, config.RESTART)
    weights.write_vae(paths["vae"], vae.ConvVAE(4))
    weights.write_rnn(paths["rnn"], mdnrnn.MDNRNN(shape), config.RNN_FILE_ORDER)
    weights.write_initial_z(paths["initial_z"], np.full((10, 4), 0.1 * seed), np.full((10, 4), -2.0))
    provenance.write(paths["vae"], "vae", game.name, cfg, {}, 1.0, unverified=False)
    parents = {"vae": vae_sha or files.sha256(paths["vae"])}
    for name in ("rnn", "initial_z"):
        provenance.write(paths[name], name, game.name, cfg, parents, 1.0, unverified=False, **more)
    return {name: files.sha256(path) for name, path in paths.items()}


def write_controller(game, path, parents, value=0.1, **config):
    """A controller with a meta; on small models, or on those that ship."""
    rnn = types.SimpleNamespace(shape=mdnrnn.Shape(4, game.config.ACTION_SIZE, 8, game.config.RESTART))
    shape = agents.controller_on(game, rnn)
    controller.write(path, np.full(shape.parameters, value))
    provenance.write(path, "controller", game.name, config, parents, 1.0, unverified=False)
