"""Evolves C with CMA-ES (or OpenES) in the game, many cars in lockstep.

Reads V and M (the run's own, else those that ship); writes log/carracing.<optimizer>.<tracks>.<popsize>.* (see
common/evolution.py). All candidates of a generation race on the same tracks. Killed, it goes on from the last
checkpoint by the same command, with the same numbers. Alone it uses every core; with -n it relaunches itself under
mpirun; the result is the same for any number of ranks.

    python train.py                         # laptop preset
    python train.py --generations 400       # go on
    python train.py -n 2 -t 32              # 2 ranks, population 64
    mpirun -np 8 --hostfile hosts python train.py
"""

import os

import numpy as np

from common import cli, farm, runs
from common.cli import UserError

import config
import env

THREADS_PER_CORE = 2  # EnvPool steps a batch in a thread of its own, for which ours waits
# when an evolution goes on
MAY_CHANGE = ("fewer_episodes", "track_groups", "patience", "backend", "eval_episodes", "block_rows")


def tracks_by_generation(cfg):
    """generation (from 1) -> tracks per candidate, from the config's `fewer_episodes` and `num_episode`."""
    try:
        pairs = [part.split(":") for part in cfg.fewer_episodes.split(",") if part]
        steps = [(int(generation), int(tracks)) for generation, tracks in pairs]
    except ValueError:
        steps = [(0, 0)]
    if any(tracks < 1 for _, tracks in steps) or steps != sorted(steps):
        raise UserError(f"--fewer_episodes {cfg.fewer_episodes}: give generation:tracks,... such as 20:2,60:4")
    return lambda generation: next((tracks for last, tracks in steps if generation <= last), cfg.num_episode)


def fitness_of(returns, groups):
    """The mean of each candidate's returns, above the median of its group's, which raced on the same tracks.

    Candidate k is of group k modulo `groups`. What a track is worth by itself cancels out; what is at stake on it does
    not: a wide curve decides little between its candidates, a hairpin that throws most of them off the road much. One
    candidate that is thrown off does not make the others of its group look any better, as it would against their mean.

    Args:
        returns: float [P, E].
        groups: int, a divisor of P.

    Returns:
        float [P].
    """
    fitness = returns.mean(axis=1).reshape(-1, groups)
    return (fitness - np.nanmedian(fitness, axis=0)).ravel()


def main():
    cfg, arguments = cli.parse(config.TRAIN, __doc__)
    tracks_of = tracks_by_generation(cfg)
    popsize = cfg.n * cfg.t
    if popsize % cfg.track_groups:
        raise UserError(f"--track_groups {cfg.track_groups}: the {popsize} candidates cannot be shared out equally")
    base = f"{config.GAME}.{cfg.o}.{cfg.num_episode}.{popsize}"
    if cfg.n > 1 and not farm.under_mpi():
        farm.launch(cfg.n, os.path.join(arguments.run, "log", f"{base}.checkpoint.npz"))
    # TensorFlow from here on, which the one that launches does without
    from common import devices, es, evolution, play, rollouts, worlds

    from model import controller_on, load_models

    devices.for_blocks()
    vae, rnn, _, hashes = load_models(arguments.run)
    controller = controller_on(rnn, cfg.controller_mode)
    mean = play.first_mean(cfg, arguments.run, controller)  # before the run is opened: a mistyped file leaves no trace
    backend = env.available(cfg.backend)

    def make_worker():
        # with the config's patience to train in, without it to be evaluated in
        seen = {
            patience: worlds.SeenGames(env.cars(backend, patience=patience), vae, rnn, cfg.sample_z)
            for patience in {cfg.patience, 0}
        }

        def work(task):
            candidates, seeds, patience = task
            return rollouts.evaluate(seen[patience], controller, candidates, seeds, env.action_of)

        return work

    def block_rows(candidates, seeds):
        # four blocks or more, for the threads of two cores; how many steps together changes no result
        return min(cfg.block_rows, -(-len(candidates) * seeds.shape[-1] // 4))

    def find_directions():
        world = worlds.SeenGames(env.cars(backend), vae, rnn, cfg.sample_z)
        features = rollouts.features_of_play(world, controller, mean, es.DIRECTION_SEEDS, env.action_of)
        return mean, controller.principal_directions(features, cfg.directions)

    strategy = es.strategy(cfg, controller, mean, find_directions)
    workers = farm.start(make_worker, THREADS_PER_CORE * devices.cores())
    run = evolution.Evolution(arguments, base, cfg, hashes, strategy, MAY_CHANGE)
    if run.finished:
        return workers.close()
    with runs.progress(cfg.generations, run.generation, "evolve C") as bar:
        while run.generation < cfg.generations:
            population, tracks = run.strategy.ask(), tracks_of(run.generation + 1)
            seeds = run.seeds(cfg.track_groups * tracks).reshape(cfg.track_groups, tracks)
            seeds = np.tile(seeds, (popsize // cfg.track_groups, 1))
            returns, lengths = rollouts.evaluate_in_blocks(
                workers, population, seeds, block_rows(population, seeds), cfg.patience
            )
            run.strategy.tell(fitness_of(returns, cfg.track_groups))
            run.add_generation(returns, lengths)
            if run.generation % cfg.eval_steps == 0 or run.generation == cfg.generations:
                evaluated, seeds = run.mean[None], run.evaluation_seeds()
                returns, _ = rollouts.evaluate_in_blocks(workers, evaluated, seeds, block_rows(evaluated, seeds), 0)
                run.add_evaluation(returns.mean())
            bar.update()
            bar.set_postfix_str(run.latest(), refresh=False)
            run.save_if_due()
    run.save()
    workers.close()
    print(run.latest())


if __name__ == "__main__":
    cli.run_main(main)
