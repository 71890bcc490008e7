"""Records episodes of the real game, for V and M to learn from.

Writes record/<seed>.npz. A random value in [-1, 1] is held for 1 to 10 tics, so that the player gets somewhere. With
--controller the agent plays instead, exploring for a share of the time: a further round of data from states that random
players do not live to see. Run it again after an interruption and it plays only the episodes that are missing.

    bash extract.bash              # laptop preset, one worker per core
    bash extract.bash --controller log/doomrnn.cma.16.64.best.json --first_seed 20000 --episodes 1000
    python extract.py --help
"""

import dataclasses
import functools
import os

import numpy as np

from common import cli, episodes, farm, files, runs

import config
from doomreal import DoomTakeCover

GAMES_PER_BLOCK = 16  # that the agent plays together in one thread: a frame is 12 kB until its episode is written

SLOWEST = 0.1  # seconds that a tic may take: a thousand times what it does take

_game = None


def random_episode(game, seed, max_hold):
    """Plays one episode with held random actions.

    Returns:
        (obs uint8 [T, 64, 64, 3], action float16 [T], reward float32 [T], done bool [T]).
    """
    rng = np.random.default_rng(seed)
    rows, frame, done, hold = [], game.reset(seed), False, 0
    while not done:
        if hold == 0:
            action, hold = np.float16(rng.uniform(-1, 1)), rng.integers(1, max_hold + 1)
        seen = frame
        frame, reward, done = game.step(action)
        rows.append((seen, action, reward, done))
        hold -= 1
    return tuple(map(np.array, zip(*rows, strict=True)))


def _record(folder, cfg, seed):
    """In a worker process: plays and writes one episode; returns its length, 0 if it was too short to keep."""
    global _game
    _game = _game or DoomTakeCover()
    episode = random_episode(_game, seed, cfg.max_hold)
    if len(episode[0]) < cfg.min_frames:
        return 0
    episodes.write(folder, seed, *episode)
    return len(episode[0])


def record_random(folder, missing, cfg, done):
    """Random players, each worker a process of its own; calls done(frames) after every episode."""
    workers = cfg.workers or len(os.sched_getaffinity(0))
    patience = SLOWEST * config.MAX_STEPS
    for _, frames in farm.in_processes(functools.partial(_record, folder, cfg), missing, workers, patience):
        done(frames)


def record_agent(folder, missing, cfg, arguments, done):
    """The agent plays, many games in lockstep in every thread; calls done(frames) after every episode."""
    from common import devices, games, play, rollouts, worlds  # TensorFlow, which random players do without

    from model import load_models, play_controller, real_games

    devices.for_blocks()
    arguments.file = play.find(cfg.controller, arguments.run)
    vae, rnn, _, hashes = load_models(arguments.run)
    make_policy = play_controller(arguments, rnn, hashes)

    def write(seed, obs, action, reward, over):
        if len(obs) >= cfg.min_frames:
            episodes.write(folder, seed, obs, action[:, 0], reward, over)
        done(len(obs) if len(obs) >= cfg.min_frames else 0)

    def make_worker():
        world = worlds.SeenGames(games.Recorded(real_games(GAMES_PER_BLOCK), write), vae, rnn)

        def work(seeds):
            policy = rollouts.Exploring(make_policy(seeds), seeds, cfg.explore, cfg.max_hold, [-1.0], [1.0])
            return rollouts.rollout(world, policy, seeds)

        return work

    workers = farm.Threads(make_worker, cfg.workers or devices.cores())
    workers.map([missing[k : k + GAMES_PER_BLOCK] for k in range(0, len(missing), GAMES_PER_BLOCK)])
    workers.close()


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
    lengths = []
    with runs.progress(len(seeds), len(seeds) - len(missing), "record") as bar:

        def done(frames):
            lengths.append(frames)
            bar.update()
            frames, short, lost = sum(filter(None, lengths)), lengths.count(0), lengths.count(None)
            bar.set_postfix(frames=frames, too_short=short, lost=lost, refresh=False)

        if cfg.controller:
            record_agent(folder, missing, cfg, arguments, done)
        else:
            record_random(folder, missing, cfg, done)
    dropped, lost = lengths.count(0), lengths.count(None)
    kept = len(seeds) - dropped - lost
    counts = {"kept": kept, "too_short": dropped, "lost": lost, "set_aside": episodes.bad_ones(folder, seeds)}
    files.write_json(summary, {"config": dataclasses.asdict(cfg), **counts})
    print(f"{folder}: {kept} episodes, {dropped} more were shorter than {cfg.min_frames} frames and not kept"
          + f", {lost} lost to players that died" * (lost > 0))  # fmt: skip


if __name__ == "__main__":
    cli.run_main(main)
