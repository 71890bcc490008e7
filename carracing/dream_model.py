"""Shows an agent inside its dream: in a window, or as a video where there is no display.

python dream_model.py log/carracing.cma.16.64.best.json
python dream_model.py log/carracing.cma.16.64.best.json 7 --temperature 1.0 --video dream.mp4
"""

from common.play import play
from common.runtime import cli

from carracing.game import GAME

if __name__ == "__main__":
    cli.run_main(lambda: play.watch_dream(GAME, __doc__))
