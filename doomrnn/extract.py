"""Records episodes of the real game, for the VAE and the MDN-RNN to learn from.

Writes record/<seed>.npz. A random value in [-1, 1] is held for 1 to 10 tics, so that the player gets somewhere. With
--controller an agent plays instead, and explores for a share of the time: a further round of data, from states that
random players do not live to see. After an interruption the same command plays only the episodes that are missing.

    bash extract.bash              # laptop preset, one worker per core
    bash extract.bash --controller log/doomrnn.cma.16.64.best.json --first_seed 20000 --episodes 1000
    python extract.py --help
"""

from common.play import record
from common.runtime import cli

from doomrnn.game import GAME

if __name__ == "__main__":
    cli.run_main(lambda: record.main(GAME, __doc__))
