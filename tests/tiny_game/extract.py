"""Records episodes of random play: record/<seed>.npz, for V and M to learn from."""

import dataclasses
import functools
import os

import numpy as np

from common.data import recordings
from common.runtime import cli, files, runs
from common.worlds import games

import config
from game import CatchDot

ROWS = 16  # episodes that are played in lockstep


def main():
    cfg, arguments = cli.parse(config.EXTRACT, __doc__)
    with runs.recording_folder(arguments) as folder:
        record(folder, cfg)


def record(folder, cfg):
    """Plays every episode, and writes the summary."""
    summary = os.path.join(folder, f"{cfg.first_seed}.summary.json")
    if runs.recorded_already(summary, cfg):
        return
    world = games.Recorded(games.Games([CatchDot() for _ in range(ROWS)]), functools.partial(recordings.write, folder))
    seeds = np.arange(cfg.first_seed, cfg.first_seed + cfg.episodes)
    with runs.progress(len(seeds), 0, "record") as bar:
        for block in np.split(seeds, range(ROWS, len(seeds), ROWS)):
            rng, frames = np.random.default_rng(block), world.reset(block)
            while len(frames):
                action = rng.uniform(config.ACTION_LOW, config.ACTION_HIGH, (len(frames), config.ACTION_SIZE))
                frames, _, _ = world.step(action.astype(np.float16))
            bar.update(len(block))
    files.write_json(summary, {"config": dataclasses.asdict(cfg), "kept": len(seeds)})


if __name__ == "__main__":
    cli.run_main(main)
