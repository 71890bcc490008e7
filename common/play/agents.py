"""The controller that a file holds, on the VAE and the MDN-RNN that it was evolved on, ready to play."""

import argparse
import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from common.agent import controller, models, network
from common.game import ROOT, Game
from common.protocols import Policy, World
from common.runtime import files, provenance, settings
from common.runtime.cli import UserError
from common.worlds.candidates import Candidates, NetworkPlayer
from common.worlds.encoded import EncodedGames


@dataclasses.dataclass(frozen=True)
class Agent:
    """A controller and the models it acts by."""

    game: Game
    path: str
    controller: controller.Controller | network.Policy
    parameters: np.ndarray
    """float32 [N]"""
    models: models.Models
    meta: dict[str, Any]
    """of the controller; empty if it is unverified"""

    @property
    def sample_z(self) -> bool:
        """Whether it sees a sample of the posterior of the VAE, or its mean."""
        return bool(self.meta.get("config", {}).get("sample_z", True))

    def policy(self, seeds: Sequence[int] | np.ndarray) -> Policy:
        """A policy in which it plays all of these episodes."""
        if isinstance(self.controller, network.Policy):
            return NetworkPlayer(self.controller, self.meta["config"]["controller_mode"], self.parameters)
        return Candidates(self.controller, np.tile(self.parameters, (len(seeds), 1)), self.game.action_of)

    def world(self, games: World) -> EncodedGames:
        """Games as it sees and remembers them."""
        return EncodedGames(games, self.models.vae, self.models.rnn, self.sample_z)

    def about(self) -> dict[str, Any]:
        """What a score file says of it."""
        about = {"path": name_of(self.path), "sha256": files.sha256(self.path)}
        return {"controller": about, "models": self.models.hashes} | ({} if self.meta else {"unverified": True})


def name_of(path: str) -> str:
    """A path as it is written into files: from the root of the repository where it lies below, never of one machine."""
    inside = os.path.relpath(os.path.abspath(path), ROOT)
    return os.path.basename(path) if inside.startswith("..") else inside


def find(path: str, run: str) -> str:
    """A file as the user names it: from here, from the folder of the run, or from the root of the repository.

    An installed copy has the files of log/ in common/shipped/.
    """
    candidates = [path, os.path.join(run, path), os.path.join(ROOT, path)]
    folder, name = os.path.split(os.path.normpath(path))
    if folder == "log":
        candidates.append(os.path.join(ROOT, "common", "shipped", name))
    for candidate in candidates:
        if os.path.exists(candidate):
            return candidate
    raise UserError(f"{path}: no such file here, in {run} or at the root of the repository")


def controller_on(game: Game, rnn: Any, mode: str = "") -> controller.Controller:
    """The sizes of a controller that reads this MDN-RNN, in the mode of the game unless told otherwise."""
    config = game.config
    return controller.Controller(
        mode or config.CONTROLLER_MODE,
        rnn.shape.z_size,
        rnn.shape.hidden_size,
        config.ACTION_SIZE,
        bias=config.CONTROLLER_BIAS,
    )


def load(game: Game, arguments: argparse.Namespace) -> Agent:
    """The agent that a command line names.

    Args:
        game: Game.
        arguments: with `file`, `run` and `unverified`.

    Raises:
        UserError: the file or its models are missing, or are not what the meta of the file says.
    """
    path = find(arguments.file, arguments.run)
    meta = provenance.read(path, "controller", game.name, arguments.unverified)
    if meta:
        paths = models.find_by_hash(game, arguments.run, meta["parents"], path)
    else:
        paths = models.find(game, arguments.run)
    loaded = models.load(game, paths, arguments.unverified)
    mode = meta.get("config", {}).get("controller_mode", "")
    if mode and mode not in settings.CONTROLLER_MODES:
        raise UserError(f"{path}: the controller_mode {mode} in its meta is none of {settings.CONTROLLER_MODES}")
    if meta.get("config", {}).get("o") == "ppo":
        rnn = loaded.rnn.shape
        features = controller.features_read(mode, rnn.z_size, rnn.hidden_size)
        policy, parameters = read_network(game, path, meta, features)
        return Agent(game, path, policy, parameters, loaded, meta)
    shape = controller_on(game, loaded.rnn, mode)
    return Agent(game, path, shape, controller.read(path, shape), loaded, meta)


def read_network(game: Game, path: str, meta: dict[str, Any], features: int) -> tuple[network.Policy, np.ndarray]:
    """A controller with hidden layers.

    Args:
        game: Game.
        path: the file.
        meta: of the file; its config has the layers.
        features: int, what it reads.

    Returns:
        (policy, parameters float32 [N]); the weights of a linear controller under it, if there is one, are the last ones.

    Raises:
        UserError: the file does not fit.
    """
    hidden = meta["config"]["hidden"]
    policy = network.policy_for(game.config, features, hidden)
    holds = len(files.read_json(path)[0])
    if holds == policy.parameters + features:
        parameters = controller.read(path, network.policy_for(game.config, features, hidden, np.zeros(features)))
        return network.policy_for(game.config, features, hidden, parameters[policy.parameters :]), parameters
    return policy, controller.read(path, policy)
