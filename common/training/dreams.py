"""The dreams that the controllers of a run are trained in: by which MDN-RNNs, from where, and how they end.

CMA-ES and its kind (evolve.py) and the policy gradient (policy_gradient.py) read the same options of the config.
"""

import argparse
import os
from typing import Any

from common.runtime import devices  # noqa: F401  isort: skip  (loads TensorFlow without its banner)

from common.agent import models, weights
from common.data import series
from common.game import Game
from common.play import agents, play
from common.runtime import files, provenance
from common.runtime.cli import UserError
from common.training import evolution
from common.worlds import dream, tensor_dreams


def ensemble(
    game: Game, also_in: str, arguments: argparse.Namespace, loaded: models.Models, made_of: provenance.Parents
) -> list[Any]:
    """The MDN-RNNs to dream in: that of the run, and those in the files, which must fit it; adds those to `made_of`.

    Raises:
        UserError: one of them is of another size or VAE, or is dreamt in already.
    """
    rnns, config, own = [loaded.rnn], game.config, loaded.rnn.shape
    for name in filter(None, also_in.split(",")):
        path = agents.find(name, arguments.run)
        meta = made_of.read(path, "rnn", game.name, arguments.unverified)
        sha = files.sha256(path)
        if provenance.is_known(meta):
            _check_related(path, sha, meta, loaded, arguments.unverified)
        if sha in (loaded.hashes["rnn"], *made_of.hashes.get("also_in", [])):
            raise UserError(f"--also_in {path}: holds the weights of an MDN-RNN that is dreamt in already")
        rnns.append(weights.read_rnn(path, config.RNN_FILE_ORDER, own.z_size, own.action_size, own.restart))
        if rnns[-1].shape != own:
            said = [f"{s.hidden_size} cells and {'' if s.heads else 'no '}heads" for s in (rnns[-1].shape, own)]
            raise UserError(f"--also_in {path}: has {said[0]}, not {said[1]}")
        made_of.hashes.setdefault("also_in", []).append(sha)
    return rnns


def _check_related(path: str, sha: str, meta: dict[str, Any], loaded: models.Models, unverified: bool) -> None:
    """UserError if a controller cannot learn in this MDN-RNN and in that of the run alike."""
    ours = loaded.metas["rnn"]
    if meta["parents"].get("vae") != loaded.hashes["vae"]:
        raise UserError(f"--also_in {path}: was trained on another VAE than {loaded.paths['vae']}")
    if not provenance.is_known(ours):
        return
    weights_of_ends = [one["config"].get("restart_weight") for one in (meta, ours)]
    if weights_of_ends[0] != weights_of_ends[1]:
        raise UserError(
            f"--also_in {path}: was trained with --restart_weight {weights_of_ends[0]}, not {weights_of_ends[1]}"
        )
    theirs = models.trained_on_from(meta)
    if not {sha, *theirs} & {loaded.hashes["rnn"], *models.trained_on_from(ours)}:
        provenance.pass_over(
            f"--also_in {path}: is no relation of {loaded.paths['rnn']}, so that their h mean different things",
            "train one on from the other with rnn_train.py --start_from, or use it all the same with --unverified",
            unverified,
        )


def check_pays(game: Game, loaded: models.Models) -> None:
    """UserError if the dream brings no reward to learn from."""
    if not game.config.DREAM_REWARD and not loaded.rnn.shape.heads:
        raise UserError(
            f"{loaded.paths['rnn']}: expects no reward (it has no heads), so its dream has nothing to teach; train "
            "one that does with: python rnn_train.py --heads, or give --world game"
        )


def dream_world(
    game: Game,
    cfg: Any,
    loaded: models.Models,
    rnn: Any,
    pool: tensor_dreams.Starts | None,
    dropout: float = 0.0,
) -> dream.DreamWorld:
    """The dreams of an MDN-RNN that a controller is evolved or evaluated in, by the options of the config.

    Args:
        game: Game.
        cfg: settings.DreamTrain or settings.Ppo.
        loaded: models.Models.
        rnn: MDNRNN, one of `ensemble`.
        pool: where its dreams start; None means at first frames.
        dropout: share of h that what predicts does not see.
    """
    ends = end_weight(game, cfg, loaded)
    more = {"dropout": dropout, "starts": pool, "horizon": cfg.horizon}
    return play.dreams(game, loaded, cfg.temperature, ends, rnn, **more)


def end_weight(game: Game, cfg: Any, loaded: models.Models) -> float:
    """What the ends of dreams are drawn with, see dream.DreamWorld; 0 unless the config says `drawn`.

    Raises:
        UserError: the MDN-RNN predicts no end, or does not say how much restarts weighed when it was trained.
    """
    if cfg.ends != "drawn":
        return 0.0
    if not (game.config.RESTART and loaded.restart_weight):
        raise UserError(
            f"--ends drawn: {loaded.paths['rnn']} does not tell the weight of the restarts it was trained with; give "
            "--ends threshold"
        )
    return loaded.restart_weight


def starts(
    game: Game,
    cfg: Any,
    arguments: argparse.Namespace,
    loaded: models.Models,
    rnns: list[Any],
    made_of: provenance.Parents,
    base: str = "",
) -> list[tensor_dreams.Starts | None]:
    """Where the dreams of each MDN-RNN start, None for first frames only; adds the series, if it is used, to `made_of`.

    For a search that is finished, the log files of which begin with `base`, no recorded game is replayed.

    Raises:
        UserError: the dream pays nothing, the series is missing or of another VAE, or the games along which dreams
            start are shorter than the horizon.
    """
    check_pays(game, loaded)
    if not cfg.starts:
        return [None] * len(rnns)
    path = f"{arguments.run}/series/series.npz"
    if not os.path.exists(path):
        raise UserError(f"--starts {cfg.starts}: {path}: no such file; make it first with: python series.py")
    meta = made_of.read(path, "series", game.name, arguments.unverified)
    if provenance.is_known(meta) and meta["parents"].get("vae") != loaded.hashes["vae"]:
        raise UserError(f"{path}: was encoded by another VAE than {loaded.paths['vae']}")
    data = series.Series(path)
    lengths = data.length[-cfg.start_games :]
    if cfg.horizon > lengths.max():
        of = f"of the last {len(lengths)} recorded games in {path}"
        raise UserError(f"--horizon {cfg.horizon}: {of} the longest has {lengths.max()} steps")
    made_of.hashes["series"] = files.sha256(path)
    if base and evolution.is_finished(arguments, base, cfg):
        return [None] * len(rnns)
    spans = [slice(start, start + length) for start, length in zip(data.first, data.length, strict=True)]
    spans = spans[-cfg.start_games :]
    games = [(data.mu[span], data.logvar[span], data.action[span]) for span in spans]
    places = tensor_dreams.drawn_places([data.reward[span] for span in spans], cfg.starts, cfg.seed_start)
    return [tensor_dreams.at_places(rnn, games, places, cfg.seed_start) for rnn in rnns]
