"""Encodes the recorded frames by V, for M to learn from.

Reads record/ and V (tf_vae/, else the weights that ship); writes series/series.npz: mu and logvar of every frame, the
actions, rewards and ends, and the length of each episode. Killed, it goes on from the last part written.

    python series.py
    python series.py --help
"""

import os

from common import cli, devices, episodes, files, runs, weights

import config


def main():
    cfg, arguments = cli.parse(config.SERIES, __doc__)
    paths, _ = episodes.scan(os.path.join(arguments.run, "record"))
    vae_path = weights.find(arguments.run, config, "vae")["vae"]
    about = {"encoded": {"vae": files.sha256(vae_path), "recordings": len(paths)}}
    stage = runs.Stage(arguments, "series", "series.npz", cfg, about=about)
    if stage.finished:
        return
    devices.for_training(seed=0)
    episodes.encode(paths, weights.read_vae(vae_path), stage.folder, cfg.episodes_per_part)
    print(f"{stage.result}: written")


if __name__ == "__main__":
    cli.run_main(main)
