"""Records episodes of the game, for the VAE and the MDN-RNN to learn from.

Writes record/<seed>.npz. A random policy drives: random_network, that of the authors (random linear controllers that
read noise), or brownian (a random walk of the action). With --controller an agent drives instead, with random actions
in a share of the steps: a further round of data, from places that random policies do not reach. A share of the episodes
comes from Gymnasium, the others from EnvPool, so that the VAE sees both renderers. After an interruption the same
command plays only the missing episodes.

    bash extract.bash              # laptop preset, one worker per core
    bash extract.bash --controller log/carracing.cma.16.64.best.json --first_seed 20000 --episodes 500
    python extract.py --help
"""

from common.play import record
from common.runtime import cli

from carracing.game import GAME

if __name__ == "__main__":
    cli.run_main(lambda: record.main(GAME, __doc__))
