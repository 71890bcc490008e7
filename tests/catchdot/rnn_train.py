"""Trains the MDN-RNN on the encoded recordings: series/ -> tf_rnn/, tf_initial_z/."""

from common.runtime import cli
from common.training import vae_and_rnn

from catchdot.game import GAME

if __name__ == "__main__":
    cli.run_main(lambda: vae_and_rnn.train_rnn(GAME, __doc__))
