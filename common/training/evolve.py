"""The one loop that evolves a controller: ask, evaluate, tell, log, checkpoint; in the dream or in the real game.

Candidates are tried in an `Arena`. The work is done in blocks of candidates x episodes by threads of this process or by
MPI ranks. The result of a block does not depend on who computes it.
"""

import argparse
import dataclasses
import itertools
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from common.game import Game
from common.protocols import Strategy
from common.runtime import cli, mpi, parallel, provenance, runs, seeds, settings
from common.runtime.cli import UserError

if TYPE_CHECKING:  # these load TensorFlow, which a process that only starts MPI ranks does not need
    from common.agent.controller import Controller
    from common.agent.models import Models
    from common.training.evolution import Evolution
    from common.worlds.dream import DreamWorld
    from common.worlds.encoded import EncodedGames

GAME_THREADS_PER_CORE = 2  # a game steps its batch in another thread or process, and ours waits for it
MAY_CHANGE = ("fewer_episodes", "track_groups", "patience", "backend", "eval_episodes", "block_rows")
"""fields of the config that may change when a search continues"""
Scores = tuple[np.ndarray, np.ndarray]
"""(returns float64 [P, E], lengths int [P, E])"""


class Arena(Protocol):
    """Where candidates are tried."""

    score_of: str
    """where its scores are from, "dream" or "game" """

    def seeds(self, run: "Evolution[Strategy]") -> np.ndarray:
        """The episodes of the next generation, [E] or [P, E] int."""

    def play(self, population: np.ndarray, seeds: np.ndarray) -> Scores:
        """Every candidate in its episodes, under the rules of training."""

    def evaluate(self, mean: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        """The returns [E] of one controller under the rules of the game."""

    def fitness(self, returns: np.ndarray) -> np.ndarray:
        """The fitness of each candidate that the strategy is told: returns [P, E] -> [P]."""

    def features(self, mean: np.ndarray) -> np.ndarray:
        """What candidates read here, float32 [T, F]; `mean` [N] is the controller that plays to find out."""

    def close(self) -> None:
        """Ends the workers."""


def main(game: Game, description: str | None) -> None:
    """train.py of every game."""
    if _given(sys.argv, "-o", "--optimizer", "--o") == "ppo":
        from common.training import policy_gradient  # TensorFlow, which starting MPI ranks does not need

        policy_gradient.main(game, policy_gradient.__doc__, _given(sys.argv, "--world"))
        return
    cfg, arguments = cli.parse(game.train_presets(_given(sys.argv, "--world")), description)
    check(game, cfg)
    if hasattr(cfg, "backend"):  # what plays, so that scores tell it
        cfg = dataclasses.replace(cfg, backend=game.backend_here(cfg.backend))
    base = _base(game, cfg)
    if cfg.n > 1 and not mpi.under_mpi():
        mpi.launch(cfg.n, os.path.join(arguments.run, "log", f"{base}.checkpoint.npz"))
    from common.agent import models  # TensorFlow, which starting MPI ranks does not need
    from common.play import agents
    from common.runtime import devices
    from common.training import es, evolution

    devices.for_blocks()
    loaded = models.load_run(game, arguments.run, arguments.unverified)
    game = game.acting_by(loaded.rnn.shape.action_size)
    shape = agents.controller_on(game, loaded.rnn, cfg.controller_mode)
    evolution.check_log(cfg, shape.parameters)
    made_of = provenance.Parents(loaded.hashes, loaded.unverified)
    # before the run is opened: an error leaves no trace
    mean = _first_mean(game, cfg, arguments, loaded, shape, made_of)
    arena: Arena
    if hasattr(cfg, "also_in"):
        arena = _dream_arena(game, cfg, arguments, loaded, shape, made_of)
    else:
        arena = _game_arena(game, cfg, loaded, shape)

    def subspace() -> tuple[np.ndarray, np.ndarray]:
        return mean, shape.principal_directions(arena.features(mean), cfg.directions)

    strategy = es.strategy(cfg, shape, mean, subspace)
    if not evolution.has_begun(arguments, base):
        _ = strategy.mean  # finds the directions, which may be refused: before a log is begun
    run = evolution.Evolution(
        arguments, game, base, cfg, made_of.hashes, strategy, MAY_CHANGE, arena.score_of, made_of.unverified
    )
    if not run.finished:
        evolve(run, arena, cfg)
        print(run.latest())
    arena.close()


def evolve(run: "Evolution[Strategy]", arena: Arena, cfg: Any) -> None:
    """Evolves for the number of generations of the config; the same call continues an earlier evolution.

    Args:
        run: the evolution, with its strategy.
        arena: where candidates are tried.
        cfg: settings.Train.
    """
    with runs.progress(cfg.generations, run.generation, "evolve the controller") as bar:
        while run.generation < cfg.generations:
            population, seeds = run.strategy.ask(), arena.seeds(run)
            returns, lengths = arena.play(population, seeds)
            run.strategy.tell(arena.fitness(returns))
            run.add_generation(returns, lengths)
            if run.generation % cfg.eval_steps == 0 or run.generation == cfg.generations:
                run.add_evaluation(arena.evaluate(run.mean, run.evaluation_seeds()).mean())
            bar.update()
            bar.set_postfix_str(run.latest(), refresh=False)
            run.save_if_due()
    run.save()


def _given(words: list[str], *names: str) -> str:
    """The value of the last flag of these names in a command line. It decides which other flags there are."""
    found = ""
    for flag, value in itertools.pairwise([*words, ""]):
        if flag in names:
            found = value
        elif flag.startswith(tuple(f"{name}=" for name in names if name.startswith("--"))):
            found = flag.split("=", 1)[1]
    return found


def _base(game: Game, cfg: Any) -> str:
    """How the names of the log files of a search begin."""
    return f"{game.log_name(cfg.world)}.{cfg.o}.{cfg.num_episode}.{cfg.n * cfg.t}"


def check(game: Game, cfg: Any) -> None:
    """UserError if options of train.py contradict each other; `cfg` is settings.Train or settings.PolicyGradient."""
    if getattr(cfg, "ends", "") == "drawn" and not game.config.RESTART:
        raise UserError(f"--ends drawn: the MDN-RNNs of {game.title} predict no end to draw; give --ends threshold")
    starts, directions = getattr(cfg, "starts", 0), getattr(cfg, "directions", 0)
    if starts and directions > starts - game.config.CONTROLLER_BIAS:  # with a bias, of deviations from the mean
        raise UserError(
            f"--directions {directions}: {starts} --starts do not vary in so many; give fewer, or more --starts"
        )
    if isinstance(cfg, settings.PolicyGradient):
        _check_policy_gradient(game, cfg)
    else:
        _check_evolution(cfg)


def _check_evolution(cfg: Any) -> None:
    if cfg.o == "ppo":
        raise UserError("-oppo: give it as two words, -o ppo, for the flags depend on it")
    _check_population(cfg)
    if cfg.o not in ("openes", "pepg") and cfg.learning_rate != settings.Train.learning_rate:
        raise UserError(f"--learning_rate {cfg.learning_rate}: is of openes and pepg, not of {cfg.o}; leave it out")
    if hasattr(cfg, "fewer_episodes"):
        episodes_by_generation(cfg)
    rnns = _dreamt_in(cfg)
    if min(cfg.num_episode, cfg.eval_episodes) < rnns:
        raise UserError(f"--also_in: {rnns} MDN-RNNs need as many episodes; raise --num_episode or --eval_episodes")
    seeds.check(range(seeds.EVALUATION, seeds.EVALUATION + cfg.eval_episodes), "validation", "--eval_episodes")


def _dreamt_in(cfg: Any) -> int:
    """How many MDN-RNNs a config dreams in; 1 in the game."""
    return 1 + len(list(filter(None, getattr(cfg, "also_in", "").split(","))))


def _check_population(cfg: Any) -> None:
    popsize = cfg.n * cfg.t
    if popsize > settings.MOST_CANDIDATES:
        raise UserError(f"-n {cfg.n} -t {cfg.t}: {popsize} candidates are more than {settings.MOST_CANDIDATES}")
    if cfg.o == "cma" and popsize < 3:
        raise UserError(f"-n {cfg.n} -t {cfg.t}: CMA-ES needs at least 3 candidates")
    if cfg.o == "ga" and popsize < 2:
        raise UserError(f"-n {cfg.n} -t {cfg.t}: ga needs at least 2 candidates")
    if cfg.o in ("openes", "pepg", "ses") and popsize % 2:
        raise UserError(f"-n {cfg.n} -t {cfg.t}: {cfg.o} has pairs of candidates, and {popsize} is odd")
    if getattr(cfg, "track_groups", 1) > 1:
        if popsize % cfg.track_groups:
            raise UserError(f"--track_groups {cfg.track_groups}: the {popsize} candidates cannot be shared out equally")
        if popsize < 2 * cfg.track_groups:
            raise UserError(
                f"--track_groups {cfg.track_groups}: leaves one candidate of {popsize} in a group, and none "
                "to compare it with"
            )


def _check_policy_gradient(game: Game, cfg: Any) -> None:
    steps, most = cfg.rows * cfg.steps, game.config.MAX_STEPS
    if cfg.minibatch > steps:
        raise UserError(f"--minibatch {cfg.minibatch}: is more than the {cfg.rows} x {cfg.steps} steps of an update")
    if cfg.minibatch % cfg.blocks:
        raise UserError(f"--minibatch {cfg.minibatch}: does not divide into {cfg.blocks} --blocks")
    if cfg.minibatch < 2 * cfg.blocks:
        raise UserError(f"--minibatch {cfg.minibatch}: give {2 * cfg.blocks} or more, two for each of the --blocks")
    if cfg.world == "dream" and steps % cfg.minibatch:
        raise UserError(f"--minibatch {cfg.minibatch}: does not divide the {cfg.rows} x {cfg.steps} steps of an update")
    for hidden in (cfg.hidden, cfg.value_hidden):
        settings.units_of(hidden)
    rnns = _dreamt_in(cfg)
    shares = rnns * max(1, cfg.blocks // rnns)  # as policy_gradient.py shares the rows out
    if cfg.world == "dream" and cfg.rows % shares:
        raise UserError(f"--rows {cfg.rows}: do not divide among {shares} MDN-RNNs or blocks; give a multiple")
    if cfg.world == "game" and cfg.rows % cfg.blocks:
        raise UserError(f"--rows {cfg.rows}: do not divide into {cfg.blocks} --blocks")
    if cfg.world == "game" and cfg.steps > most:
        raise UserError(f"--steps {cfg.steps}: an episode of {game.title} has {most} at most")
    if cfg.tether and not cfg.start_from:
        raise UserError(f"--tether {cfg.tether}: holds the policy to that of --start_from; give that as well")
    seeds.check(range(seeds.EVALUATION, seeds.EVALUATION + cfg.eval_episodes), "validation", "--eval_episodes")


def _first_mean(
    game: Game,
    cfg: Any,
    arguments: argparse.Namespace,
    loaded: "Models",
    shape: "Controller",
    made_of: provenance.Parents,
) -> np.ndarray:
    """Where the search begins, float [N]: at zero, or at a controller."""
    from common.agent import controller
    from common.play import agents

    if not cfg.start_from:
        return np.zeros(shape.parameters)
    path, _ = agents.start_from(game, cfg.start_from, arguments, loaded, made_of)
    return controller.read(path, shape)


class DreamArena:
    """Candidates act in dreams, all of a generation in the same ones; each MDN-RNN dreams its share of the episodes.

    Dropout makes the dreams harder to exploit while a controller learns. Evaluations are without it, as are those of
    the policy gradient and the dreams that model.py plays.

    Args:
        make_world: (number of an MDN-RNN, dropout rate) -> its dreams.
        count: how many MDN-RNNs there are.
        shape: the sizes of the candidates.
        action_of: see candidates.Candidates.
        cfg: settings.DreamTrain.
        threads: how many work at the same time.
    """

    score_of = "dream"

    def __init__(
        self,
        make_world: "Callable[[int, float], DreamWorld]",
        count: int,
        shape: "Controller",
        action_of: Any,
        cfg: Any,
        threads: int,
    ) -> None:
        from common.worlds import candidates

        self._make_world, self._count, self._shape, self._rows = make_world, count, shape, cfg.block_rows
        self._action_of, self._candidates, self._dropout = action_of, candidates, cfg.dropout

        def make_worker() -> Callable[[Any], Scores]:
            kinds = itertools.product(range(count), {cfg.dropout, 0.0})
            worlds = {kind: make_world(*kind) for kind in kinds}

            def work(task: Any) -> Scores:
                population, seeds, *kind = task
                return candidates.evaluate(worlds[tuple(kind)], shape, population, seeds, action_of)

            return work

        self._workers = mpi.start(make_worker, threads)

    def seeds(self, run: "Evolution[Strategy]") -> np.ndarray:
        """The dreams of the next generation, [E]."""
        return run.seeds()

    def play(self, population: np.ndarray, seeds: np.ndarray) -> Scores:
        """Every candidate in every dream, with the dropout of training."""
        return self._in_blocks(population, seeds, self._dropout)

    def evaluate(self, mean: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        """The returns [E] of one controller, without dropout."""
        return self._in_blocks(mean[None], seeds, 0.0)[0][0]

    def _in_blocks(self, population: np.ndarray, seeds: np.ndarray, dropout: float) -> Scores:
        def played(*task: Any) -> Scores:
            return self._candidates.evaluate_in_blocks(self._workers, *task, dropout)

        parts = [played(population, seeds[k :: self._count], self._rows, k) for k in range(self._count)]
        returns, lengths = (np.concatenate(part, axis=1) for part in zip(*parts, strict=True))
        return returns, lengths

    def fitness(self, returns: np.ndarray) -> np.ndarray:
        """The mean return of each candidate."""
        return returns.mean(axis=1)

    def features(self, mean: np.ndarray) -> np.ndarray:
        """What candidates read where the dreams start, else what the mean reads while it plays."""
        from common.training import es

        world = self._make_world(0, self._dropout)
        if world.starts:  # what players read in the recorded games, of which there is more
            return self._shape.features(world.starts.mu, world.starts.h, world.starts.c).numpy()
        return self._candidates.features_of_play(world, self._shape, mean, es.DIRECTION_SEEDS, self._action_of)

    def close(self) -> None:
        """Ends the workers."""
        self._workers.close()


class GameArena:
    """Candidates play the real game, all of a group the same episodes.

    Args:
        make_world: (whether hurried) -> the games; hurried ones have the rules of the config.
        shape: the sizes of the candidates.
        action_of: see candidates.Candidates.
        cfg: settings.GameTrain.
        threads: how many work at the same time.
    """

    score_of = "game"

    def __init__(
        self,
        make_world: "Callable[[bool], EncodedGames]",
        shape: "Controller",
        action_of: Callable[[Any], np.ndarray],
        cfg: Any,
        threads: int,
    ) -> None:
        from common.worlds import candidates

        self._make_world, self._shape, self._action_of, self._cfg = make_world, shape, action_of, cfg
        self._hurried = bool(cfg.rules())
        self._episodes_of, self._candidates = episodes_by_generation(cfg), candidates

        def make_worker() -> Callable[[Any], Scores]:
            worlds = {hurried: make_world(hurried) for hurried in {self._hurried, False}}

            def work(task: Any) -> Scores:
                population, seeds, hurried = task
                return candidates.evaluate(worlds[hurried], shape, population, seeds, action_of)

            return work

        self._workers = mpi.start(make_worker, threads)

    def seeds(self, run: "Evolution[Strategy]") -> np.ndarray:
        """The episodes of the next generation, [P, E]: candidate k is of group k modulo the number of groups."""
        cfg, groups = self._cfg, self._cfg.track_groups
        episodes = self._episodes_of(run.generation + 1)
        return np.tile(run.seeds(groups * episodes).reshape(groups, episodes), (cfg.n * cfg.t // groups, 1))

    def play(self, population: np.ndarray, seeds: np.ndarray) -> Scores:
        """Every candidate in its episodes, under the rules of training."""
        return self._in_blocks(population, seeds, self._hurried)

    def evaluate(self, mean: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        """The returns [E] of one controller under the rules of the game."""
        return self._in_blocks(mean[None], seeds, False)[0][0]

    def _in_blocks(self, population: np.ndarray, seeds: np.ndarray, hurried: bool) -> Scores:
        # four blocks or more, for the threads of two cores; how many episodes step together changes no result
        rows = min(self._cfg.block_rows, -(-len(population) * seeds.shape[-1] // 4))
        return self._candidates.evaluate_in_blocks(self._workers, population, seeds, rows, hurried)

    def fitness(self, returns: np.ndarray) -> np.ndarray:
        """See `fitness_above_group`."""
        return fitness_above_group(returns, self._cfg.track_groups)

    def features(self, mean: np.ndarray) -> np.ndarray:
        """What the mean reads while it plays."""
        from common.training import es

        world, played = self._make_world(False), es.DIRECTION_SEEDS
        blocks = np.array_split(played, -(-len(played) // self._cfg.block_rows))
        read = self._candidates.features_of_play
        return np.concatenate([read(world, self._shape, mean, block, self._action_of) for block in blocks])

    def close(self) -> None:
        """Ends the workers."""
        self._workers.close()


def _dream_arena(
    game: Game,
    cfg: Any,
    arguments: argparse.Namespace,
    loaded: "Models",
    shape: "Controller",
    made_of: provenance.Parents,
) -> Arena:
    from common.training import dreams

    rnns = dreams.ensemble(game, cfg.also_in, arguments, loaded, made_of)
    dreams.end_weight(game, cfg, loaded)  # which may be refused: before games are replayed and a log is begun
    starts = dreams.starts(game, cfg, arguments, loaded, rnns, made_of, _base(game, cfg))

    def make_world(which: int, dropout: float) -> Any:
        return dreams.dream_world(game, cfg, loaded, rnns[which], starts[which], dropout)

    return DreamArena(make_world, len(rnns), shape, game.action_of, cfg, parallel.cores())


def _game_arena(game: Game, cfg: Any, loaded: "Models", shape: "Controller") -> Arena:
    from common.worlds.encoded import EncodedGames

    def make_world(hurried: bool) -> EncodedGames:
        rules = cfg.rules() if hurried else {}
        return EncodedGames(game.real_games(cfg.block_rows, cfg.backend, **rules), loaded.vae, loaded.rnn, cfg.sample_z)

    return GameArena(make_world, shape, game.action_of, cfg, GAME_THREADS_PER_CORE * parallel.cores())


def episodes_by_generation(cfg: Any) -> Callable[[int], int]:
    """generation (from 1) -> episodes per candidate, from the config's `fewer_episodes` and `num_episode`."""
    try:
        pairs = [part.split(":") for part in cfg.fewer_episodes.split(",") if part]
        steps = [(int(generation), int(episodes)) for generation, episodes in pairs]
    except ValueError:
        steps = [(0, 0)]
    rising = all(last < following for (last, _), (following, _) in itertools.pairwise([(0, 0), *steps]))
    if not rising or not all(1 <= episodes <= settings.MOST_CANDIDATES for _, episodes in steps):
        raise UserError(
            f"--fewer_episodes {cfg.fewer_episodes}: give generation:episodes,... such as 20:2,60:4, of generations "
            f"from 1 on that rise, and 1 to {settings.MOST_CANDIDATES} episodes"
        )
    return lambda generation: next((episodes for last, episodes in steps if generation <= last), cfg.num_episode)


def fitness_above_group(returns: np.ndarray, groups: int) -> np.ndarray:
    """The mean of each candidate's returns, above the median of its group, which played the same episodes.

    Candidate k is of group k modulo `groups`. The difficulty of an episode thus cancels out, but not the spread of its
    returns: on an easy track candidates differ little, on a track with a hairpin they differ much. One candidate that
    fails does not raise the fitness of the others of its group, as it would if they were compared with the mean.

    Args:
        returns: float [P, E].
        groups: int, a divisor of P.

    Returns:
        float [P].
    """
    fitness = returns.mean(axis=1).reshape(-1, groups)
    return (fitness - np.nanmedian(fitness, axis=0)).ravel()
