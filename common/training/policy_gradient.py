"""train.py -o ppo: a controller with hidden layers learns by a policy gradient, only in dreams.

The algorithm is in ppo.py, the dream in worlds/tensor_dreams.py; here are the stage, its files and its loop.
"""

import argparse
from typing import Any

from common.runtime import devices  # isort: skip  (loads TensorFlow without its banner)
import numpy as np

from common.agent import controller, models, network, weights
from common.data import series
from common.game import Game
from common.play import agents
from common.runtime import cli, files, provenance, runs, seeds
from common.runtime.cli import UserError
from common.training import evolution, evolve, ppo
from common.worlds import dream, rollouts, tensor_dreams
from common.worlds.candidates import NetworkPlayer

MAY_CHANGE = ("learning_rate",)
"""fields of the config that may change when the learning goes on, as after an update that was not finite"""
LEAST_RATE = 0.1  # of the learning rate at the start, to which it falls by the last update


def main(game: Game, description: str | None) -> None:
    """train.py -o ppo of every game in which dreams bring reward."""
    if not hasattr(game.config, "PPO"):
        raise UserError(f"-o ppo: the dream of {game.title} brings no reward to learn from; give -o cma or -o openes")
    cfg, arguments = cli.parse(game.config.PPO, description)
    seeds.check(range(seeds.EVALUATION, seeds.EVALUATION + cfg.eval_episodes), "validation", "--eval_episodes")
    if cfg.tether and not cfg.start_from:
        raise UserError(f"--tether {cfg.tether}: holds the policy to that of --start_from; give that as well")
    devices.for_blocks(gpus=True)
    loaded = models.load_run(game, arguments.run, arguments.unverified)
    game = game.acting_by(loaded.rnn.shape.action_size)
    made_of = provenance.Parents(loaded.hashes, loaded.unverified)
    rnns = ensemble(game, cfg.also_in, arguments, loaded, made_of)
    policy, first, base = _policy(game, cfg, arguments, loaded, made_of)
    pools = starts(game, cfg, arguments, loaded, rnns, made_of)
    first_frames = [tensor_dreams.first_frames(loaded.initial_z, rnn.shape.hidden_size) for rnn in rnns]
    copies = max(1, cfg.blocks // len(rnns))  # the rows of each copy step in a thread of their own
    world = tensor_dreams.Dreams(
        rnns * copies,
        [pool or first for pool, first in zip(pools, first_frames, strict=True)] * copies,
        cfg.temperature,
        game.config.MAX_STEPS,
        cfg.rows,
        cfg.dropout,
        cfg.controller_mode,
        game.pay if loaded.rnn.shape.heads else None,
        cfg.horizon,
        end_weight(game, cfg, loaded),
    )
    # a network of zeros adds nothing to the linear controller under it
    reference = np.zeros(policy.network.parameters) if first is None else first
    learner = Learner(ppo.PPO(world, policy, cfg, first, reference if cfg.tether else None), base)
    name = f"{evolve.log_name(game, cfg)}.ppo.{cfg.steps}.{cfg.rows}"
    run = evolution.Evolution(
        arguments, game, name, cfg, made_of.hashes, learner, MAY_CHANGE, unverified=made_of.unverified
    )
    if run.finished:
        return
    dreams = dream_world(game, cfg, loaded, loaded.rnn, pools[0] if cfg.starts else None)

    def evaluate() -> float:
        player = NetworkPlayer(policy, cfg.controller_mode, run.mean)
        return rollouts.rollout(dreams, player, run.evaluation_seeds())[0].mean()

    with runs.progress(cfg.generations, run.generation, "learn by policy gradient") as bar:
        while run.generation < cfg.generations:
            share = 1 - (1 - LEAST_RATE) * run.generation / cfg.generations
            metrics = learner.ppo.update(share * cfg.learning_rate, cfg.tether)
            run.add_update(metrics, cfg.rows * cfg.steps)
            if run.generation % cfg.eval_steps == 0 or run.generation == cfg.generations:
                run.add_evaluation(evaluate())
            bar.update()
            bar.set_postfix_str(run.latest(), refresh=False)
            run.save_if_due()
    run.save()
    print(run.latest())


class Learner:
    """PPO as a Search of evolution.Evolution: its mean is the policy as it is saved.

    Args:
        learner: the algorithm and its state.
        base: float [F] or [0], the weights of the linear controller under the network, if there is one.
    """

    rms_stdev = 0.0

    def __init__(self, learner: ppo.PPO, base: np.ndarray) -> None:
        self.ppo, self._base = learner, base

    @property
    def mean(self) -> np.ndarray:
        """The parameters of the policy as its file holds them, float64 [N]."""
        return np.round(np.concatenate([self.ppo.parameters(), self._base]).astype(float), 4)

    def state(self) -> dict[str, np.ndarray]:
        """All of the learning, for `set_state`."""
        return self.ppo.arrays()

    def set_state(self, arrays: dict[str, np.ndarray]) -> None:
        """Makes this the learning that gave `state`; it goes on bit for bit.

        Raises:
            ValueError: that was not the state of such a learning.
        """
        fresh = self.ppo.arrays()
        if arrays.keys() != fresh.keys():
            raise ValueError(f"it holds {', '.join(arrays)}")
        for name, array in arrays.items():
            if array.shape != fresh[name].shape or array.dtype != fresh[name].dtype:
                raise ValueError(f"{name} is {array.dtype}{list(array.shape)}")
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise ValueError(f"{name} is not finite")
        self.ppo.restore(arrays)

    def arrays(self) -> dict[str, np.ndarray]:
        """As `state`: there is no shorter form that another machine could go on from."""
        return self.state()

    def continue_from(self, arrays: dict[str, np.ndarray]) -> None:
        """As `set_state`."""
        self.set_state(arrays)


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
        if provenance.is_known(meta) and meta["parents"].get("vae") != loaded.hashes["vae"]:
            raise UserError(f"--also_in {path}: was trained on another VAE than {loaded.paths['vae']}")
        sha = files.sha256(path)
        if sha in (loaded.hashes["rnn"], *made_of.hashes.get("also_in", [])):
            raise UserError(f"--also_in {path}: holds the weights of an MDN-RNN that is dreamt in already")
        rnns.append(weights.read_rnn(path, config.RNN_FILE_ORDER, own.z_size, own.action_size, own.restart))
        if rnns[-1].shape != own:
            said = [f"{s.hidden_size} cells and {'' if s.heads else 'no '}heads" for s in (rnns[-1].shape, own)]
            raise UserError(f"--also_in {path}: has {said[0]}, not {said[1]}")
        made_of.hashes.setdefault("also_in", []).append(sha)
    return rnns


def _policy(
    game: Game, cfg: Any, arguments: argparse.Namespace, loaded: models.Models, made_of: provenance.Parents
) -> tuple[network.Policy, np.ndarray | None, np.ndarray]:
    """(policy, the parameters of its network to start from or None, the weights of the linear controller under it)."""
    shape, none = loaded.rnn.shape, np.zeros(0, np.float32)
    features = controller.features_read(cfg.controller_mode, shape.z_size, shape.hidden_size)
    if not cfg.start_from:
        return network.policy_for(game.config, features, cfg.hidden), None, none
    path, meta = agents.start_from(game, cfg.start_from, arguments, loaded, made_of)
    config = meta["config"]
    if config.get("controller_mode", cfg.controller_mode) != cfg.controller_mode:
        raise UserError(f"--start_from {path}: reads {config['controller_mode']}, not {cfg.controller_mode}")
    if config.get("o") != "ppo":
        base = controller.read(path, agents.controller_on(game, loaded.rnn, cfg.controller_mode))
        return network.policy_for(game.config, features, cfg.hidden, base), None, base
    policy, parameters = agents.read_network(game, path, meta, loaded)
    if config["hidden"] != cfg.hidden:
        raise UserError(f"--start_from {path}: has hidden layers of {config['hidden']}, not of {cfg.hidden}")
    size = policy.network.parameters
    return policy, parameters[:size], parameters[size:]


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
    """The dreams of an MDN-RNN that a controller is evolved or evaluated in.

    Args:
        game: Game.
        cfg: settings.DreamTrain or settings.Ppo.
        loaded: models.Models.
        rnn: MDNRNN, one of `ensemble`.
        pool: where its dreams start; None means at first frames.
        dropout: share of h that what predicts does not see.
    """
    most, pay = cfg.horizon or game.config.MAX_STEPS, game.pay if rnn.shape.heads else None
    ends = end_weight(game, cfg, loaded)
    return dream.DreamWorld(rnn, loaded.initial_z, cfg.temperature, most, dropout, pay, pool, ends)


def end_weight(game: Game, cfg: Any, loaded: models.Models) -> float:
    """What the ends of dreams are drawn with, see dream.DreamWorld; 0 unless the config says `drawn`.

    Raises:
        UserError: the MDN-RNN predicts no end, or does not say how much restarts weighed when it was trained.
    """
    if cfg.ends != "drawn":
        return 0.0
    weight = loaded.metas["rnn"]["config"].get("restart_weight") if game.config.RESTART else None
    if not weight:
        raise UserError(
            f"--ends drawn: {loaded.paths['rnn']} does not tell the weight of the restarts it was trained with"
        )
    return float(weight)


def starts(
    game: Game,
    cfg: Any,
    arguments: argparse.Namespace,
    loaded: models.Models,
    rnns: list[Any],
    made_of: provenance.Parents,
) -> list[tensor_dreams.Starts | None]:
    """Where the dreams of each MDN-RNN start, None for first frames only; adds the series, if it is used, to `made_of`.

    Raises:
        UserError: the dream pays nothing, the series is missing or of another VAE, or its games are shorter than the
            horizon.
    """
    check_pays(game, loaded)
    every = getattr(cfg, "starts_every", 0)
    if not cfg.starts and not every:
        return [None] * len(rnns)
    path = f"{arguments.run}/series/series.npz"
    meta = made_of.read(path, "series", game.name, arguments.unverified)
    if provenance.is_known(meta) and meta["parents"].get("vae") != loaded.hashes["vae"]:
        raise UserError(f"{path}: was encoded by another VAE than {loaded.paths['vae']}")
    data = series.Series(path)
    if cfg.horizon > data.length.max():
        raise UserError(f"--horizon {cfg.horizon}: the longest recorded game in {path} has {data.length.max()} steps")
    made_of.hashes["series"] = files.sha256(path)
    spans = [slice(start, start + length) for start, length in zip(data.first, data.length, strict=True)]
    spans = spans[-cfg.start_games :]
    games = [(data.mu[span], data.logvar[span], data.action[span]) for span in spans]
    if cfg.starts:
        places = tensor_dreams.drawn_places([data.reward[span] for span in spans], cfg.starts, cfg.seed_start)
        return [tensor_dreams.at_places(rnn, games, places, cfg.seed_start) for rnn in rnns]
    pools: list[tensor_dreams.Starts | None] = []
    for rnn in rnns:
        first = tensor_dreams.first_frames(loaded.initial_z, rnn.shape.hidden_size)
        along = tensor_dreams.along_games(rnn, games, every, cfg.seed_start)
        pools.append(tensor_dreams.Starts(*(np.concatenate(pair) for pair in zip(first, along, strict=True))))
    return pools
