"""Encodes the recorded frames by V, for M to learn from.

Reads record/ and V (tf_vae/, else the weights that ship); writes series/series.npz: mu and logvar of every frame, the
actions, rewards and ends, and the length of each episode. Killed, it goes on from the last part written.

    python series.py
    python series.py --help
"""

from common import cli, pipeline

import config

if __name__ == "__main__":
    cli.run_main(lambda: pipeline.encode(config, __doc__))
