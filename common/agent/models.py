"""The VAE, the MDN-RNN and the first frames that belong together: what a run has, what ships, and their loading."""

import contextlib
import dataclasses
import os
from typing import Any

import numpy as np

from common.agent import mdnrnn, vae, weights
from common.game import Game
from common.runtime import files, provenance
from common.runtime.cli import UserError

NAMES = ("vae", "rnn", "initial_z")


@dataclasses.dataclass(frozen=True)
class Models:
    """What an agent sees and remembers with."""

    vae: vae.ConvVAE
    rnn: mdnrnn.MDNRNN
    initial_z: tuple[np.ndarray, np.ndarray]
    """(mu, logvar), each float32 [frames, Z], of first frames, where dreams begin"""
    hashes: dict[str, str]
    """{"vae", "rnn", "initial_z": sha256 of the file}"""
    paths: dict[str, str]
    metas: dict[str, dict[str, Any]]
    """see common/runtime/provenance.py"""

    @property
    def unverified(self) -> bool:
        """Whether one of the files is, or was made from one that is."""
        return provenance.any_unverified(*self.metas.values())

    @property
    def restart_weight(self) -> float:
        """Of restarts in the loss of the MDN-RNN, by which the ends of dreams are drawn; 0 if it is not known."""
        return float(self.metas["rnn"]["config"].get("restart_weight") or 0)

    def about(self) -> dict[str, Any]:
        """What a score file says of them."""
        return {"models": self.hashes} | ({"unverified": True} if self.unverified else {})

    def goes_on_from(self, rnn: str) -> bool:
        """Whether the MDN-RNN is the one with this sha256, or was trained on from it, in one step or several."""
        return rnn in (self.hashes["rnn"], *trained_on_from(self.metas["rnn"]))


def trained_on_from(meta: dict[str, Any]) -> list[str]:
    """The sha256 of the MDN-RNNs that the one with this meta was trained on from, in one step or several."""
    start = meta["parents"].get("start_from")
    return [*([start] if start else []), *meta.get("trained_on_from", ())]


def sets(game: Game, run: str) -> list[dict[str, str]]:
    """The sets of weights that there are, {name: path}: that of the run, if it is complete, then those that ship."""
    own = {name: os.path.join(run, game.config.TRAINED[name]) for name in NAMES}
    folder = os.path.relpath(game.folder)
    shipped = [
        {name: os.path.normpath(os.path.join(folder, group[name])) for name in NAMES} for group in game.config.SHIPPED
    ]
    return [paths for paths in (own, *shipped) if all(map(os.path.exists, paths.values()))]


def find(game: Game, run: str) -> dict[str, str]:
    """The set that a run uses: its own if it is complete, else the first that ships; says which.

    Raises:
        UserError: there is none, no such run, or it has rounds, of which one must be named.
    """
    if not os.path.isdir(run):
        raise UserError(f"--run {run}: no such folder")
    check_no_rounds(run)
    found = sets(game, run)
    own = os.path.join(run, game.config.TRAINED["rnn"])
    if not found:
        raise UserError(f"neither {own} nor weights that ship are there; train them first with: bash gpu_jobs.bash")
    why = "" if found[0]["rnn"] == own else f" (those that ship: {run} has no complete set of its own)"
    print(f"weights: {', '.join(found[0].values())}{why}")
    return found[0]


def rounds_of(run: str) -> list[str]:
    """The folders of the rounds of a run of iterate.py, in order; [] for any other folder."""
    if not os.path.exists(os.path.join(run, "iterate.json")):
        return []
    names = [name for name in os.listdir(run) if name.startswith("round") and name[5:].isdigit()]
    return [os.path.join(run, name) for name in sorted(names, key=lambda name: int(name[5:]))]


def check_no_rounds(run: str) -> None:
    """UserError if the folder is a run of iterate.py, of which one round must be named."""
    if rounds := rounds_of(run):
        raise UserError(f"--run {run}: is a run of iterate.py, with models in each round; give --run {rounds[-1]}")


def find_by_hash(game: Game, run: str, wanted: dict[str, str], file: str) -> dict[str, str]:
    """The set that a controller was evolved on, by the sha256 of its files.

    Args:
        game: Game.
        run: the folder of the run.
        wanted: {"vae", "rnn", "initial_z": sha256}, the parents of the controller.
        file: path of the controller, for the error.

    Raises:
        UserError: no set in the run, in a round of it or among those that ship has these files.
    """
    for paths in [paths for folder in (run, *rounds_of(run)) for paths in sets(game, folder)]:
        if all(files.sha256(paths[name]) == wanted.get(name) for name in NAMES):
            print(f"weights: {', '.join(paths.values())}, those that {file} was evolved on")
            return paths
    raise UserError(
        f"{file}: the models that it was evolved on (rnn {str(wanted.get('rnn'))[:12]}) are neither in {run} nor among "
        "those that ship; give the run that has them with --run DIR"
    )


def load(game: Game, paths: dict[str, str], unverified: bool = False) -> Models:
    """Reads a set of weights, once their metas prove that they were made for each other.

    Args:
        game: Game.
        paths: {name: path}, such as `find` returns.
        unverified: see provenance.read.

    Raises:
        UserError: a file or its meta is missing, damaged or of another game, or the MDN-RNN was trained on another VAE.
    """
    metas = {name: provenance.read(paths[name], name, game.name, unverified) for name in NAMES}
    hashes = {name: files.sha256(paths[name]) for name in NAMES}
    for name in ("rnn", "initial_z"):
        made_on = str(metas[name]["parents"].get("vae"))
        if provenance.is_known(metas[name]) and made_on != hashes["vae"]:
            provenance.pass_over(
                f"{paths[name]}: was made on another VAE ({made_on[:12]}) than {paths['vae']} ({hashes['vae'][:12]})",
                "make it again with: python series.py --fresh, python rnn_train.py --fresh",
                unverified,
            )
            metas[name] = metas[name] | {"unverified": True}
    encoder = weights.read_vae(paths["vae"])
    config = game.config
    reads, action_size = (paths["rnn"], config.RNN_FILE_ORDER, encoder.z_size), config.ACTION_SIZE
    fewer = game.with_fewer_actions
    if fewer and weights.action_size_of(*reads, config.RESTART) == fewer.config.ACTION_SIZE:
        action_size = fewer.config.ACTION_SIZE
    rnn = weights.read_rnn(*reads, action_size, config.RESTART)
    initial_z = weights.read_initial_z(paths["initial_z"], encoder.z_size)
    return Models(encoder, rnn, initial_z, hashes, paths, metas)


def load_run(game: Game, run: str, unverified: bool = False) -> Models:
    """The models of a run, or those that ship: `find`, then `load`."""
    return load(game, find(game, run), unverified)


def own_vae(game: Game, run: str, z_size: int) -> Any:
    """The VAE that a run trained, if it did and its size is this, else None; to show dreams with."""
    path = os.path.join(run, game.config.TRAINED["vae"])
    with contextlib.suppress(UserError):
        model = weights.read_vae(path) if os.path.exists(path) else None
        return model if model and model.z_size == z_size else None
    return None
