"""Plays a controller in the game, and reports its score.

    python model.py norender log/carracing.cma.16.64.best.json 460000      # 100 validation tracks, for trials
    python model.py norender log/carracing.cma.16.64.best.json 1000 --out scores.json      # 100 test tracks
    python model.py norender log/carracing.cma.16.64.best.json 460000 --backend envpool
    python model.py render log/carracing.cma.16.64.best.json 460000 --video agent.mp4
    python model.py norender random 460000     # the random policy: action_space.sample()

A controller plays on the VAE and the MDN-RNN that it was evolved on, which its .meta.json names: they are found in the
run, else among those that ship. The last line printed is: seed, average_reward, stdev.
"""

from common.play import play
from common.runtime import cli

from carracing.game import GAME

if __name__ == "__main__":
    cli.run_main(lambda: play.main(GAME, __doc__))
