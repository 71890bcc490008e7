"""Compares the dream with the game: scores, deaths by age, and how many deaths are predicted."""

from common.play import fidelity
from common.runtime import cli

from catchdot.game import GAME

if __name__ == "__main__":
    cli.run_main(lambda: fidelity.main(GAME, __doc__))
