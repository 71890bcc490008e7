"""Adds the mirror image of every recording, so that V and M see as many right turns as left ones.

Tracks run counterclockwise: of the agent's sharp curves seven in ten are to the left. The game itself has no left and
right: a drive's mirror image, its frames flipped and its steering reversed, is a drive too. Reads record/<seed>.npz;
writes record/<seed + 1,000,000,000>.npz. Run it again, and it adds only what is missing.

    python mirror.py --run ../runs/third
"""

import argparse
import concurrent.futures
import functools
import os

from common import cli, episodes, runs

import env

OFFSET = 1_000_000_000  # from a recording's seed to its image's


def mirror(folder, seed):
    """Writes the mirror image of one recording; returns what is wrong with it if that cannot be done, else None."""
    try:
        episode = episodes.read(os.path.join(folder, f"{seed}.npz"))
        reward, done = episode["reward"], episode["done"]
    except (ValueError, KeyError) as error:  # damaged, or of the authors' code, whose recordings hold no reward
        return f"{seed}.npz: {error}"
    frames, action = env.mirrored(episode["obs"]), episode["action"] * env.MIRROR
    episodes.write(folder, seed + OFFSET, frames, action, reward, done)
    return None


def main():
    parser = cli.OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", default=".", metavar="DIR", help="folder that holds record/")
    folder = os.path.join(parser.parse_args().run, "record")
    recorded = {int(os.path.basename(path)[:-4]) for path in episodes.scan(folder)[0]}
    originals = {seed for seed in recorded if seed < OFFSET}
    missing = sorted(seed for seed in originals if seed + OFFSET not in recorded)
    with (
        runs.progress(len(originals), len(originals) - len(missing), "mirror") as bar,
        concurrent.futures.ProcessPoolExecutor(len(os.sched_getaffinity(0))) as workers,
    ):
        bad = 0
        for problem in workers.map(functools.partial(mirror, folder), missing, chunksize=4):
            bar.update()
            if problem:
                bad += 1
                print(f"\nskipped: {problem}")
    print(f"{folder}: {len(originals) - bad} episodes have their mirror images")


if __name__ == "__main__":
    cli.run_main(main)
