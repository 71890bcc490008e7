"""Compares the dream with the real game: scores of an agent, and what the dream pays where the game stops paying.

Prints and writes: the mean return of real validation games and of dreams at temperature 1. From ten steps before a game
stops paying, as where the car leaves the road, the MDN-RNN also dreams on with the actions that were played: what the
game paid, what the MDN-RNN expected that was shown its frames, and what the dream pays, in points per ten steps.

    python fidelity.py FILE --run DIR --backend envpool --out fidelity.json
"""

from common.play import fidelity
from common.runtime import cli

from carracing.game import GAME

if __name__ == "__main__":
    cli.run_main(lambda: fidelity.main(GAME, __doc__))
