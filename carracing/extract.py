"""Records episodes of the game, for V and M to learn from.

Writes record/<seed>.npz. Random policies drive: random_network, the authors' (random linear controllers that read
noise), or brownian (a random walk of the action). With --controller the agent drives instead, exploring for a share of
the time: a further round of data from where random policies do not get. A share of the episodes comes from Gymnasium,
the others from EnvPool, so that V knows both renderers. Run it again after an interruption and it plays only the
episodes that are missing.

    bash extract.bash              # laptop preset, one worker per core
    bash extract.bash --controller log/carracing.cma.16.64.best.json --first_seed 20000 --episodes 500
    python extract.py --help
"""

import dataclasses
import functools
import os

import numpy as np

from common import cli, episodes, farm, files, games, runs

import config
import env

BROWNIAN_DT = 1 / 50  # seconds between two steps of the random walk
CAUCHY_STDEV = 0.01  # of an episode's random weights, at most
SLOWEST = 0.1  # seconds that a step of a car may take: twenty times what Gymnasium's takes on one core
PAPER_Z = 32  # what a random network reads is noise, whatever V's own z_size is


class RandomNetworks:
    """The authors' policy: each episode its own linear controller on noise, M's h being zero.

    Weights are standard Cauchy times a number from 0 to 0.01 that is the episode's own. The authors ran V and M for it,
    but with their random weights divided by 10,000, so that z was noise and h zero.
    """

    def __init__(self, seeds):
        """seeds: [B] int, the episodes."""
        self._rngs = [np.random.default_rng([int(seed), 6]) for seed in seeds]
        shape = (1 + PAPER_Z, config.ACTION_SIZE)  # the first row is the bias
        self._weights = np.stack([rng.standard_cauchy(shape) * rng.uniform(0, CAUCHY_STDEV) for rng in self._rngs])

    def act(self, state):
        """Anything -> float32 [B, 3]."""
        noise = np.stack([rng.standard_normal(PAPER_Z) for rng in self._rngs])
        raw = np.tanh(self._weights[:, 0] + np.einsum("bz,bza->ba", noise, self._weights[:, 1:]))
        return env.action_of(raw)

    def keep(self, on):
        """Forgets the rows that have finished."""
        self._rngs, self._weights = [self._rngs[k] for k in on], self._weights[on]


class Brownian:
    """A random walk within the range of actions."""

    def __init__(self, seeds):
        """seeds: [B] int, the episodes."""
        self._rngs = [np.random.default_rng([int(seed), 6]) for seed in seeds]
        self._action = np.stack([rng.uniform(env.LOW, env.HIGH) for rng in self._rngs])

    def act(self, state):
        """Anything -> float64 [B, 3]."""
        action = self._action
        steps = np.stack([rng.standard_normal(config.ACTION_SIZE) for rng in self._rngs])
        self._action = np.clip(action + np.sqrt(BROWNIAN_DT) * steps, env.LOW, env.HIGH)
        return action

    def keep(self, on):
        """Forgets the rows that have finished."""
        self._rngs, self._action = [self._rngs[k] for k in on], self._action[on]


POLICIES = {"random_network": RandomNetworks, "brownian": Brownian}


def _record(folder, cfg, block):
    """In a worker process: plays and writes some episodes in lockstep; returns their lengths."""
    (backend, seeds), lengths = block, []

    def write(seed, obs, action, reward, done):
        episodes.write(folder, seed, obs, action, reward, done)
        lengths.append(len(obs))

    world = games.Recorded(env.cars_here(backend, max_steps=cfg.max_frames), write)
    policy, frames = POLICIES[cfg.policy](seeds), world.reset(seeds)
    while len(frames):
        # played as it is recorded, in float16
        frames, _, done = world.step(policy.act(frames).astype(np.float16))
        policy.keep(np.flatnonzero(~done))
    return lengths


def record_random(folder, blocks, cfg, done):
    """Random policies, each worker a process of its own; calls done(frames) for every episode."""
    workers = cfg.workers or len(os.sched_getaffinity(0))
    patience = SLOWEST * cfg.max_frames * cfg.rows
    for (_, seeds), lengths in farm.in_processes(functools.partial(_record, folder, cfg), blocks, workers, patience):
        for frames in lengths or [None] * len(seeds):
            done(frames)


def record_agent(folder, blocks, cfg, arguments, done):
    """The agent drives, many cars in lockstep in every thread; calls done(frames) for every episode."""
    from common import devices, play, rollouts, worlds  # TensorFlow, which random policies do without

    from model import load_models, play_controller

    devices.for_blocks()
    arguments.file = play.find(cfg.controller, arguments.run)
    vae, rnn, _, hashes = load_models(arguments.run)
    make_policy, sample_z = play_controller(arguments, rnn, hashes)

    def write(seed, obs, action, reward, over):
        episodes.write(folder, seed, obs, action, reward, over)
        done(len(obs))

    def work(block):
        backend, seeds = block
        cars = env.cars(backend, max_steps=cfg.max_frames)
        world = worlds.SeenGames(games.Recorded(cars, write), vae, rnn, sample_z)
        policy = rollouts.Exploring(make_policy(seeds), seeds, cfg.explore, cfg.max_hold, env.LOW, env.HIGH)
        return rollouts.rollout(world, policy, seeds)

    workers = farm.Threads(lambda: work, cfg.workers or devices.cores())
    workers.map(blocks)
    workers.close()


def blocks_of(seeds, cfg):
    """[(backend, seeds)] to be played together; Gymnasium's share spread evenly, and first, because it takes longer."""
    index = np.asarray(seeds) - cfg.first_seed
    slow = np.floor((index + 1) * cfg.gymnasium_share) > np.floor(index * cfg.gymnasium_share)
    parts = [("gymnasium", np.asarray(seeds)[slow]), (env.available("envpool"), np.asarray(seeds)[~slow])]
    return [(backend, part[k : k + cfg.rows]) for backend, part in parts for k in range(0, len(part), cfg.rows)]


def main():
    cfg, arguments = cli.parse(config.EXTRACT, __doc__)
    with runs.recording_folder(arguments) as folder:
        record(folder, cfg, arguments)


def record(folder, cfg, arguments):
    """Plays what is missing in the folder, and writes the summary."""
    summary = os.path.join(folder, f"{cfg.first_seed}.summary.json")
    if runs.recorded_already(summary, cfg):
        return
    seeds = range(cfg.first_seed, cfg.first_seed + cfg.episodes)
    missing = episodes.set_bad_aside(folder, seeds)
    blocks, lengths = blocks_of(missing, cfg), []
    with runs.progress(len(seeds), len(seeds) - len(missing), "record") as bar:

        def done(frames):
            lengths.append(frames)
            bar.update()
            bar.set_postfix(frames=sum(filter(None, lengths)), lost=lengths.count(None), refresh=False)

        if cfg.controller:
            record_agent(folder, blocks, cfg, arguments, done)
        else:
            record_random(folder, blocks, cfg, done)
    lost = lengths.count(None)
    kept = len(seeds) - lost
    counts = {"kept": kept, "lost": lost, "set_aside": episodes.bad_ones(folder, seeds)}
    files.write_json(summary, {"config": dataclasses.asdict(cfg), **counts})
    print(f"{folder}: {kept} episodes" + f", {lost} lost to players that died" * (lost > 0))


if __name__ == "__main__":
    cli.run_main(main)
