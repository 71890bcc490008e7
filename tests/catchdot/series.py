"""Encodes the recordings with the VAE: record/ -> series/."""

from common.runtime import cli
from common.training import vae_and_rnn

from catchdot.game import GAME

if __name__ == "__main__":
    cli.run_main(lambda: vae_and_rnn.encode(GAME, __doc__))
