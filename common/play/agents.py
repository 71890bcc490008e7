"""The controller that a file holds, on the VAE and the MDN-RNN that it was evolved on, ready to play."""

import argparse
import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from common.agent import controller, models, network
from common.game import Game
from common.protocols import Policy, World
from common.runtime import files, provenance, settings
from common.runtime.cli import UserError
from common.runtime.files import ROOT
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
    """of the controller, see provenance.read"""
    sha256: str = ""
    """of the file as it was read: a training that goes on may write another in its place"""

    @property
    def sample_z(self) -> bool:
        """Whether it sees a sample of the posterior of the VAE, or its mean."""
        return bool(self.meta["config"].get("sample_z", True))

    @property
    def end_weight(self) -> float:
        """What ends of dreams are drawn with, see dream.DreamWorld; 0 if it was trained with the threshold."""
        drawn = self.meta["config"].get("ends") == "drawn"
        return self.models.restart_weight if drawn else 0.0

    @property
    def unverified(self) -> bool:
        """Whether it or its models are, or were made from a file that is."""
        return self.models.unverified or provenance.any_unverified(self.meta)

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
        about = {"path": name_of(self.path), "sha256": self.sha256}
        return {"controller": about, **self.models.about()} | ({"unverified": True} if self.unverified else {})


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
        rnn.shape.action_size,
        bias=config.CONTROLLER_BIAS,
    )


def shipped(game: Game) -> str:
    """Path of the controller that ships, SHIPPED_CONTROLLER of the config; no other file is ever taken for it.

    An installed copy has it in common/shipped/.
    """
    inside = game.config.SHIPPED_CONTROLLER
    places = os.path.join(ROOT, inside), os.path.join(ROOT, "common", "shipped", os.path.basename(inside))
    return next(filter(os.path.exists, places), places[0])


def load(game: Game, arguments: argparse.Namespace) -> Agent:
    """The agent that a command line names.

    Args:
        game: Game.
        arguments: with `file`, `run` and `unverified`.

    Raises:
        UserError: the file or its models are missing, or are not what the meta of the file says.
    """
    path = find(arguments.file, arguments.run)
    sha256 = files.sha256(path)
    meta, loaded = on_its_models(game, path, "controller", arguments)
    game = game.acting_by(loaded.rnn.shape.action_size)
    if meta["config"].get("o") == "ppo":
        return Agent(game, path, *read_network(game, path, meta, loaded), loaded, meta, sha256)
    shape = controller_on(game, loaded.rnn, _mode(path, meta))
    return Agent(game, path, shape, controller.read(path, shape), loaded, meta, sha256)


def on_its_models(
    game: Game, path: str, kind: str, arguments: argparse.Namespace
) -> tuple[dict[str, Any], models.Models]:
    """The meta and the models of a file that an evolution made.

    Args:
        game: Game.
        path: the file.
        kind: "controller", or "evolution" for a log.json.
        arguments: with `run` and `unverified`.

    Raises:
        UserError: as `load`.
    """
    meta = provenance.read(path, kind, game.name, arguments.unverified)
    if provenance.is_known(meta):
        try:
            paths = models.find_by_hash(game, arguments.run, meta["parents"], path)
        except UserError as error:
            provenance.pass_over(str(error), "or play it on other ones with --unverified", arguments.unverified)
            paths, meta = models.find(game, arguments.run), meta | {"unverified": True}
    else:
        paths = models.find(game, arguments.run)
        print(f"{path}: nothing tells how it was evolved, so it acts by a sample of z, in the mode of the game")
    return meta, models.load(game, paths, arguments.unverified)


def start_from(
    game: Game, file: str, arguments: argparse.Namespace, loaded: models.Models, made_of: provenance.Parents
) -> tuple[str, dict[str, Any]]:
    """(path, meta) of a controller that an evolution starts from; adds it to `made_of`.

    Args:
        game: Game.
        file: as the user names it.
        arguments: with `run` and `unverified`.
        loaded: the models that the evolution is to be on.
        made_of: what the evolution is made from.

    Raises:
        UserError: its meta is missing or wrong, or it reads the memory of an MDN-RNN that this one does not go on from.
    """
    path = find(file, arguments.run)
    meta = made_of.read(path, "controller", game.name, arguments.unverified)
    evolved_in = str(meta["parents"].get("rnn"))
    if provenance.is_known(meta) and not loaded.goes_on_from(evolved_in):
        provenance.pass_over(
            f"--start_from {path}: was evolved in another MDN-RNN ({evolved_in[:12]}) than {loaded.paths['rnn']}, "
            "which was not trained on from that one: their memories have nothing in common",
            "start elsewhere, or there all the same with --unverified",
            arguments.unverified,
        )
        made_of.unverified = True
    made_of.hashes["start_from"] = files.sha256(path)
    return path, meta


def acting(game: Game, path: str, meta: dict[str, Any], loaded: models.Models, parameters: np.ndarray) -> Agent:
    """The agent of one of the means of an evolution.

    Args:
        game: the game.
        path: of the log.json of the evolution.
        meta: of that file.
        loaded: the models of the agent.
        parameters: float [N], the mean.

    Raises:
        UserError: the number of parameters is not that of such a controller.
    """
    shape: network.Policy | controller.Controller
    game = game.acting_by(loaded.rnn.shape.action_size)
    if meta["config"].get("o") == "ppo":
        shape = _network(game, path, meta, loaded, parameters)
    else:
        shape = controller_on(game, loaded.rnn, _mode(path, meta))
        if parameters.shape != (shape.parameters,):
            raise UserError(f"{path}: holds {parameters.size} parameters, its controller has {shape.parameters}")
    return Agent(game, path, shape, parameters.astype(np.float32), loaded, meta)


def _mode(path: str, meta: dict[str, Any]) -> str:
    """The mode of a linear controller, "" if nothing tells it; UserError if there is no such mode."""
    mode = meta["config"].get("controller_mode", "")
    if mode and mode not in settings.CONTROLLER_MODES:
        raise UserError(
            f"{path}: its meta has the controller_mode {mode}, which is none of {settings.CONTROLLER_MODES}"
        )
    return mode


def read_network(
    game: Game, path: str, meta: dict[str, Any], loaded: models.Models
) -> tuple[network.Policy, np.ndarray]:
    """A controller with hidden layers.

    Args:
        game: the game.
        path: the file.
        meta: of the file; its config has the layers.
        loaded: the models that it reads.

    Returns:
        (policy, parameters float32 [N]). The weights of a linear controller under it, if there is one, are the last.

    Raises:
        UserError: the file or its meta does not fit.
    """
    parameters = controller.read_any(path)
    return _network(game, path, meta, loaded, parameters), parameters


def _network(
    game: Game, path: str, meta: dict[str, Any], loaded: models.Models, parameters: np.ndarray
) -> network.Policy:
    """The policy of which a file holds these parameters, float [N]."""
    mode, hidden = meta["config"].get("controller_mode"), meta["config"].get("hidden")
    if mode not in settings.NETWORK_MODES or not isinstance(hidden, str):
        raise UserError(f"{path}: its meta has no network: controller_mode {mode}, hidden layers {hidden}")
    rnn = loaded.rnn.shape
    features = controller.features_read(mode, rnn.z_size, rnn.hidden_size)
    try:
        return network.policy_of(game.config, features, hidden, parameters)
    except UserError as error:
        raise UserError(f"{path}: {error}; was it made for another game, or its meta for another file?") from None
