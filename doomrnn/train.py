"""Evolves C with CMA-ES inside M's dream; the real game is not played.

Reads V, M and the first frames (the run's own, else those that ship); writes log/doomrnn.cma.<episodes>.<popsize>.*
(see common/evolution.py). Killed, it goes on from the last checkpoint by the same command, with the same numbers. Alone
it uses every core; with -n it relaunches itself under mpirun; the result is the same for any number of ranks.

    python train.py                         # laptop preset
    python train.py -n 2 -t 32              # 2 ranks, population 64
    mpirun -np 8 --hostfile hosts python train.py
    python train.py --also_in ../runs/earlier/tf_rnn/rnn.json     # half of the dreams in an earlier M
"""

import os

import numpy as np

from common import cli, farm, runs
from common.cli import UserError

import config


def ensemble(rnn, files):
    """The M's to dream in: `rnn`, and those in the comma-separated files, which must be of its shape."""
    from common import weights

    shape, models = rnn.shape, [rnn]
    for path in filter(None, files.split(",")):
        other = weights.read_rnn(path, config.RNN_FILE_ORDER, shape.z_size, shape.action_size, shape.restart)
        if other.shape != shape:
            raise UserError(f"--also_in {path}: has {other.shape.hidden_size} cells, not the {shape.hidden_size} of M")
        models.append(other)
    return models


def main():
    cfg, arguments = cli.parse(config.TRAIN, __doc__)
    popsize = cfg.n * cfg.t
    base = f"{config.GAME}.{cfg.o}.{cfg.num_episode}.{popsize}"
    if cfg.n > 1 and not farm.under_mpi():
        farm.launch(cfg.n, os.path.join(arguments.run, "log", f"{base}.checkpoint.npz"))
    from common import devices, es, evolution, play, rollouts  # TensorFlow, which the one that launches does without

    from model import controller_on, dreams, load_models

    devices.for_blocks()
    _, rnn, initial_z, hashes = load_models(arguments.run)
    controller = controller_on(rnn, cfg.controller_mode)
    mean = play.first_mean(cfg, arguments.run, controller)  # before the run is opened: a mistyped file leaves no trace

    models = ensemble(rnn, cfg.also_in)
    if cfg.num_episode < len(models) or cfg.eval_episodes < len(models):
        raise UserError(f"--also_in: {len(models)} M's need as many episodes; raise --num_episode or --eval_episodes")

    def make_worker():
        worlds = [dreams(model, initial_z, cfg.temperature) for model in models]

        def work(task):
            candidates, seeds, which = task
            return rollouts.evaluate(worlds[which], controller, candidates, seeds)

        return work

    def evaluate(population, seeds):
        # every M dreams its share of the episodes
        parts = [
            rollouts.evaluate_in_blocks(workers, population, seeds[which :: len(models)], cfg.block_rows, which)
            for which in range(len(models))
        ]
        return (np.concatenate(part, axis=1) for part in zip(*parts, strict=True))

    def find_directions():
        features = rollouts.features_of_play(
            dreams(rnn, initial_z, cfg.temperature), controller, mean, es.DIRECTION_SEEDS
        )
        return mean, controller.principal_directions(features, cfg.directions)

    strategy = es.strategy(cfg, controller, mean, find_directions)
    workers = farm.start(make_worker, devices.cores())
    run = evolution.Evolution(arguments, base, cfg, hashes, strategy)
    if run.finished:
        return workers.close()
    with runs.progress(cfg.generations, run.generation, "evolve C") as bar:
        while run.generation < cfg.generations:
            population = run.strategy.ask()
            returns, lengths = evaluate(population, run.seeds())
            run.strategy.tell(returns.mean(axis=1))
            run.add_generation(returns, lengths)
            if run.generation % cfg.eval_steps == 0 or run.generation == cfg.generations:
                returns, _ = evaluate(run.mean[None], run.evaluation_seeds())
                run.add_evaluation(returns.mean())
            bar.update()
            bar.set_postfix_str(run.latest(), refresh=False)
            run.save_if_due()
    run.save()
    workers.close()
    print(run.latest())


if __name__ == "__main__":
    cli.run_main(main)
