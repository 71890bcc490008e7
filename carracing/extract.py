"""Records episodes of the game, for the VAE and the MDN-RNN to learn from.

Writes record/<seed>.npz. Random policies drive: random_network, the authors' (random linear controllers that read
noise), or brownian (a random walk of the action). With --controller an agent drives instead, and explores for a share of
the time: a further round of data, from where random policies do not get. A share of the episodes comes from Gymnasium,
the others from EnvPool, so that the VAE knows both renderers. After an interruption the same command plays only the
episodes that are missing.

    bash extract.bash              # laptop preset, one worker per core
    bash extract.bash --controller log/carracing.cma.16.64.best.json --first_seed 20000 --episodes 500
    python extract.py --help
"""

from common.play import record
from common.runtime import cli

from carracing.game import GAME

if __name__ == "__main__":
    cli.run_main(lambda: record.main(GAME, __doc__))
