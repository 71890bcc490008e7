"""The dream of the game: play it with the left and right arrow keys; escape ends it.

python doomrnn.py
python doomrnn.py --temperature 1.0 --seed 7
"""

from common.play import play
from common.runtime import cli

from doomrnn.game import GAME

if __name__ == "__main__":
    cli.run_main(lambda: play.play_dream(GAME, __doc__))
