"""Compares the dream with the real game: scores of an agent, deaths by age, and how many deaths are predicted.

Prints and writes: the mean length of real validation games and of dreams at temperature 1, the deaths per 1,000 steps
by age in both, and the share of real deaths that the MDN-RNN predicts at 0.3 % false alarms.

    python fidelity.py log/doomrnn.cma.16.64.best.json --out fidelity.json
"""

from common.play import fidelity
from common.runtime import cli

from doomrnn.game import GAME

if __name__ == "__main__":
    cli.run_main(lambda: fidelity.main(GAME, __doc__))
