"""Shows an agent inside its dream.

python dream_model.py log/catchdot.cma.4.8.best.json --video dream.mp4
"""

from common.play import play
from common.runtime import cli

from catchdot.game import GAME

if __name__ == "__main__":
    cli.run_main(lambda: play.watch_dream(GAME, __doc__))
