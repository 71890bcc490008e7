"""python -m common.training.ahead GAME [--flags]: what gpu_jobs.bash runs first, see vae_and_rnn.check_ahead.

Not python -c, in which Ctrl-C would be a traceback while it loads its libraries.
"""

import sys

from common import game
from common.runtime import cli
from common.training import vae_and_rnn


def main() -> None:
    """Refuses, before the first stage, what a later one would refuse."""
    name = sys.argv.pop(1)
    vae_and_rnn.check_ahead(game.find(name))


if __name__ == "__main__":
    cli.run_main(main)
