"""Rounds of all stages, from nothing to an agent, in a run folder of their own."""

from common.runtime import cli
from common.training import iterate

from catchdot.game import GAME

if __name__ == "__main__":
    cli.run_main(lambda: iterate.main(GAME, __doc__))
