"""Encodes the recorded frames with the VAE, for the MDN-RNN to learn from.

Reads record/ and the VAE (tf_vae/, else the one that ships); writes series/series.npz and its meta: mu and logvar of
every frame, actions, rewards, ends, and the length of each episode. New recordings are added. After an interruption the
same command continues from the last part written.

    python series.py
    python series.py --help
"""

from common.runtime import cli
from common.training import vae_and_rnn

from carracing.game import GAME

if __name__ == "__main__":
    cli.run_main(lambda: vae_and_rnn.encode(GAME, __doc__))
