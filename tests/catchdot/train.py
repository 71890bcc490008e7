"""Evolves the controller in the dream: tf_vae/, tf_rnn/, tf_initial_z/ -> log/."""

from common.runtime import cli
from common.training import evolve

from catchdot.game import GAME

if __name__ == "__main__":
    cli.run_main(lambda: evolve.main(GAME, __doc__))
