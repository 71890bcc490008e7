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
from common.play import agents, play
from common.runtime import cli, files, provenance, runs, seeds
from common.runtime.cli import UserError
from common.training import evolution, ppo
from common.worlds import rollouts, tensor_dreams
from common.worlds.candidates import NetworkPlayer

LEAST_RATE = 0.1  # of the learning rate at the start, to which it falls by the last update
START_GAMES = 300  # recorded games, the newest, along which dreams start


def main(game: Game, description: str | None) -> None:
    """train.py -o ppo of every game in which dreams bring reward."""
    if not hasattr(game.config, "PPO"):
        raise UserError(f"-o ppo: the dream of {game.title} brings no reward to learn from; give -o cma or -o openes")
    cfg, arguments = cli.parse(game.config.PPO, description)
    seeds.check(range(seeds.EVALUATION, seeds.EVALUATION + cfg.eval_episodes), "validation", "--eval_episodes")
    devices.for_training(cfg.seed_start)
    loaded = models.load_run(game, arguments.run, arguments.unverified)
    made_of = provenance.Parents(loaded.hashes, loaded.unverified)
    rnns = ensemble(game, cfg.also_in, arguments, loaded, made_of)
    policy, first, base = _policy(game, cfg, arguments, loaded, made_of)
    starts = [_starts(game, cfg, arguments, loaded, rnn, made_of) for rnn in rnns]
    most = game.config.MAX_STEPS
    world = tensor_dreams.Dreams(rnns, starts, cfg.temperature, most, cfg.rows, cfg.dropout, cfg.controller_mode)
    learner = Learner(ppo.PPO(world, policy, cfg, first, first if cfg.tether else None), base)
    name = f"{game.name}.ppo.{cfg.steps}.{cfg.rows}"
    run = evolution.Evolution(arguments, game, name, cfg, made_of.hashes, learner, unverified=made_of.unverified)
    if run.finished:
        return
    dreams = play.dreams(game, loaded, cfg.temperature)

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
            raise UserError(f"--also_in {path}: has {rnns[-1].shape.hidden_size} cells, not {own.hidden_size}")
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
        linear = controller.Controller(
            cfg.controller_mode, shape.z_size, shape.hidden_size, game.config.ACTION_SIZE, False
        )
        base = controller.read(path, linear)
        return network.policy_for(game.config, features, cfg.hidden, base), None, base
    if config["hidden"] != cfg.hidden:
        raise UserError(f"--start_from {path}: has hidden layers of {config['hidden']}, not {cfg.hidden}")
    policy, parameters = agents.read_network(game, path, meta, features)
    size = policy.network.parameters
    return policy, parameters[:size], parameters[size:]


def _starts(
    game: Game, cfg: Any, arguments: argparse.Namespace, loaded: models.Models, rnn: Any, made_of: provenance.Parents
) -> tensor_dreams.Starts:
    """Where the dreams of an MDN-RNN start."""
    first = tensor_dreams.first_frames(loaded.initial_z, rnn.shape.hidden_size)
    if not cfg.starts_every:
        return first
    path = f"{arguments.run}/series/series.npz"
    data = series.Series(path)
    meta = made_of.read(path, "series", game.name, arguments.unverified)
    if provenance.is_known(meta) and meta["parents"].get("vae") != loaded.hashes["vae"]:
        raise UserError(f"{path}: was encoded by another VAE than {loaded.paths['vae']}")
    made_of.hashes["series"] = files.sha256(path)
    spans = [slice(start, start + length) for start, length in zip(data.first, data.length, strict=True)][-START_GAMES:]
    games = [(data.mu[span], data.logvar[span], data.action[span]) for span in spans]
    along = tensor_dreams.along_games(rnn, games, cfg.starts_every, cfg.seed_start)
    return tensor_dreams.Starts(*(np.concatenate(pair) for pair in zip(first, along, strict=True)))
