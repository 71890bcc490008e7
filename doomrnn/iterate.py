"""From nothing to an agent: records games, trains the VAE, the MDN-RNN and the controller, round after round.

Rounds are data in config.py. After each round the controller plays real validation games; DIR/rounds.json gets a line,
and DIR/rounds.png shows the scores over time. After an interruption the same command continues where it was.

    python iterate.py --run ../runs/doom --seed 1               # laptop preset; about three hours on two cores
    python iterate.py --preset smoke --run ../runs/doomsmoke    # minutes
    python iterate.py --ship ../runs/doom                       # make the agent of a finished run the one that ships
"""

from common.runtime import cli
from common.training import iterate

from doomrnn.game import GAME

if __name__ == "__main__":
    cli.run_main(lambda: iterate.main(GAME, __doc__))
