"""The dream of the game, shown by the decoder of the VAE. Drive in it with the arrow keys; escape ends it.

python dream_env.py
python dream_env.py --temperature 1.0 --seed 7
"""

from common.play import play
from common.runtime import cli

from carracing.game import GAME

if __name__ == "__main__":
    cli.run_main(lambda: play.play_dream(GAME, __doc__))
