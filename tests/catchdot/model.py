"""Plays a controller in the game, and reports its score.

python model.py norender log/catchdot.cma.4.8.best.json 1000 --out scores.json
python model.py norender random 1000
"""

from common.play import play
from common.runtime import cli

from catchdot.game import GAME

if __name__ == "__main__":
    cli.run_main(lambda: play.main(GAME, __doc__))
