"""Trains the VAE on the recorded frames: record/ -> tf_vae/."""

from common.runtime import cli
from common.training import vae_and_rnn

from catchdot.game import GAME

if __name__ == "__main__":
    cli.run_main(lambda: vae_and_rnn.train_vae(GAME, __doc__))
