"""Plays a controller in the real game or in the dream, and reports its score.

    python model.py doomreal norender log/doomrnn.cma.16.64.best.json 460000     # 100 validation games, for trials
    python model.py doomreal norender log/doomrnn.cma.16.64.best.json 1000 --episodes 1000 --out scores.json
    python model.py doomreal render log/doomrnn.cma.16.64.best.json 460000 --video agent.mp4
    python model.py doomreal norender random 460000      # the random policy: a new uniform action every tic
    python model.py doomrnn norender log/doomrnn.cma.16.64.best.json 460000     # in the dream

The second command plays test games, for the final score.

A controller plays on the VAE and the MDN-RNN that it was evolved on, which its .meta.json names: they are found in the
run, else among those that ship. The last line printed is: seed, average_reward, stdev.
"""

from common.play import play
from common.runtime import cli

from doomrnn.game import GAME

if __name__ == "__main__":
    cli.run_main(lambda: play.main(GAME, __doc__))
