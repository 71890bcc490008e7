"""Records episodes of the real game under random actions, for V and M to learn from.

Reads nothing; writes record/<seed>.npz. A random value in [-1, 1] is held for 1 to 10 tics, so that the player gets
somewhere. Run it again after an interruption and it plays only the episodes that are missing.

    bash extract.bash              # laptop preset, one worker per core
    python extract.py --help
"""

import concurrent.futures
import dataclasses
import multiprocessing
import os

import numpy as np

from common import cli, episodes, files, runs

import config
from doomreal import DoomTakeCover

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


def _record(folder, seed, cfg):
    """In a worker: plays and writes one episode; returns its length, 0 if it was too short to keep."""
    global _game
    _game = _game or DoomTakeCover()
    episode = random_episode(_game, seed, cfg.max_hold)
    if len(episode[0]) < cfg.min_frames:
        return 0
    episodes.write(folder, seed, *episode)
    return len(episode[0])


def main():
    cfg, arguments = cli.parse(config.EXTRACT, __doc__)
    folder = runs.recording_folder(arguments)
    summary = os.path.join(folder, f"{cfg.first_seed}.summary.json")
    if runs.recorded_already(summary, cfg):
        return
    seeds = range(cfg.first_seed, cfg.first_seed + cfg.episodes)
    missing = [seed for seed in seeds if not os.path.exists(os.path.join(folder, f"{seed}.npz"))]
    frames = dropped = 0
    workers = cfg.workers or len(os.sched_getaffinity(0))
    spawn = multiprocessing.get_context("spawn")
    with (
        runs.progress(len(seeds), len(seeds) - len(missing), "record") as bar,
        concurrent.futures.ProcessPoolExecutor(workers, spawn) as pool,
    ):
        for future in concurrent.futures.as_completed(pool.submit(_record, folder, seed, cfg) for seed in missing):
            frames += future.result()
            dropped += future.result() == 0
            bar.update()
            bar.set_postfix(frames=frames, too_short=dropped, refresh=False)
    kept = len(seeds) - dropped
    files.write_json(summary, {"config": dataclasses.asdict(cfg), "kept": kept, "too_short": dropped})
    print(f"{folder}: {kept} episodes, {dropped} more were shorter than {cfg.min_frames} frames and not kept")


if __name__ == "__main__":
    cli.run_main(main)
