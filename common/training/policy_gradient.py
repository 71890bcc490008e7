"""Trains the controller, a small network, by PPO: in the dream, where the real game is not played, or in the game.

Reads the VAE, the MDN-RNN and the first frames (those of the run, else those that ship); writes
log/<game>.ppo.<steps>.<rows>.* (CarRacing in the dream: log/carracing.dream.ppo.*). After an interruption the same
command continues from the last checkpoint, with the same numbers. See docs/policy_gradient.md.

    python train.py -o ppo --run DIR             # in the dream of a run with an MDN-RNN of its own
    python train.py -o ppo --ends threshold      # Doom, in the dream of the MDN-RNN that ships
    python train.py -o ppo --world game          # in the real game
"""

# The algorithm is in ppo.py, its worlds are in worlds/tensor_dreams.py and worlds/game_rows.py; here are the stage,
# its files and its loop.

import argparse
import dataclasses
from collections.abc import Callable
from typing import Any

from common.runtime import devices  # isort: skip  (loads TensorFlow without its banner)
import numpy as np

from common.agent import controller, models, network
from common.game import Game
from common.play import agents
from common.runtime import cli, provenance, runs
from common.runtime.cli import UserError
from common.training import dreams, evolution, evolve, ppo
from common.worlds import game_rows, rollouts, tensor_dreams
from common.worlds.candidates import NetworkPlayer
from common.worlds.encoded import EncodedGames

MAY_CHANGE = ("learning_rate", "patience", "backend", "eval_episodes")
"""fields of the config that may change when the learning continues, as after an update that was not finite"""
LEAST_RATE = 0.1  # of the learning rate at the start, to which it falls by the last update


def main(game: Game, description: str | None, where: str = "") -> None:
    """train.py -o ppo of every game; `where` is the world, "" the dream."""
    cfg, arguments = cli.parse(game.ppo_presets(where), description)
    evolve.check(game, cfg)
    if hasattr(cfg, "backend"):  # what plays, so that scores tell it
        cfg = dataclasses.replace(cfg, backend=game.backend_here(cfg.backend))
    devices.for_blocks(gpus=True)
    loaded = models.load_run(game, arguments.run, arguments.unverified)
    game = game.acting_by(loaded.rnn.shape.action_size)
    made_of = provenance.Parents(loaded.hashes, loaded.unverified)
    name = f"{game.log_name(cfg.world)}.ppo.{cfg.steps}.{cfg.rows}"
    policy, first, base = _policy(game, cfg, arguments, loaded, made_of)
    evolution.check_log(cfg, policy.parameters)
    world: ppo.TensorWorld | game_rows.GameRows
    if cfg.world == "game":
        world, evaluated = _game(game, cfg, loaded)
    else:
        world, evaluated = _dream(game, cfg, arguments, loaded, made_of, name)
    # a network of zeros adds nothing to the linear controller under it
    reference = np.zeros(policy.network.parameters) if first is None else first
    learner = Learner(ppo.PPO(world, policy, cfg, first, reference if cfg.tether else None), base)
    run = evolution.Evolution(
        arguments, game, name, cfg, made_of.hashes, learner, MAY_CHANGE, cfg.world, made_of.unverified
    )
    if run.finished:
        return
    with runs.progress(cfg.generations, run.generation, "learn by policy gradient") as bar:
        while run.generation < cfg.generations:
            done = run.generation / cfg.generations
            metrics = learner.ppo.update((1 - (1 - LEAST_RATE) * done) * cfg.learning_rate, cfg.tether)
            run.add_update(metrics, _return_of(metrics, cfg, loaded))
            if run.generation % cfg.eval_steps == 0 or run.generation == cfg.generations:
                player = NetworkPlayer(policy, cfg.controller_mode, run.mean)
                run.add_evaluation(evaluated(player, run.evaluation_seeds()).mean())
            bar.update()
            bar.set_postfix_str(run.latest(), refresh=False)
            run.save_if_due()
    run.save()
    print(run.latest())


def _return_of(metrics: dict[str, float], cfg: Any, loaded: models.Models) -> float:
    """The mean return of an episode of an update; in games each row has one."""
    if cfg.world == "game":
        return metrics["reward"] * metrics["steps"] / cfg.rows
    lasts = min(metrics["steps"], 1 / metrics["ends"] if metrics["ends"] else metrics["steps"])
    # without heads only an end costs: what counts are the steps before it
    return lasts * (metrics["reward"] if loaded.rnn.shape.heads else 1)


Evaluated = Callable[[NetworkPlayer, np.ndarray], np.ndarray]
"""(policy, seeds [E]) -> its returns [E]"""


def _dream(
    game: Game, cfg: Any, arguments: argparse.Namespace, loaded: models.Models, made_of: provenance.Parents, name: str
) -> tuple[ppo.TensorWorld, Evaluated]:
    """The dreams to learn in, and how a policy is evaluated in them."""
    rnns = dreams.ensemble(game, cfg.also_in, arguments, loaded, made_of)
    end_weight = dreams.end_weight(game, cfg, loaded)  # which may be refused: before games are replayed
    pools = dreams.starts(game, cfg, arguments, loaded, rnns, made_of, name)
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
        end_weight,
    )
    alone = dreams.dream_world(game, cfg, loaded, loaded.rnn, pools[0])
    return world, lambda policy, seeds: rollouts.rollout(alone, policy, seeds)[0]


def _game(game: Game, cfg: Any, loaded: models.Models) -> tuple[game_rows.GameRows, Evaluated]:
    """The real games to learn in, and how a policy is evaluated in them."""

    def games(**rules: Any) -> game_rows.GameRows:
        def make_block(rows: int) -> EncodedGames:
            return EncodedGames(game.real_games(rows, cfg.backend, **rules), loaded.vae, loaded.rnn, cfg.sample_z)

        span = evolution.FIRST_SEED, evolution.LAST_SEED
        complete_above = getattr(game.config, "COMPLETE_ABOVE", np.inf)
        return game_rows.GameRows(make_block, cfg.blocks, cfg.rows, game.config.MAX_STEPS, span, complete_above)

    rules = cfg.rules()
    world = games(**rules)
    return world, (games() if rules else world).evaluate


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
        """Makes this the learning that gave `state`; it continues bit for bit.

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
        """As `state`: there is no shorter form that another machine could continue from."""
        return self.state()

    def continue_from(self, arrays: dict[str, np.ndarray]) -> None:
        """As `set_state`."""
        self.set_state(arrays)


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
