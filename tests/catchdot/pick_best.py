"""Chooses among the means that an evolution evaluated, by playing the game: log/*.log.json -> log/*.picked.json."""

from common.play import select
from common.runtime import cli

from catchdot.game import GAME

if __name__ == "__main__":
    cli.run_main(lambda: select.main(GAME, __doc__))
