"""PlaNet: learns a model of the game from its frames, and plays by planning in it (Hafner et al. 2019).

    python planet.py train --run ../runs/planet     # laptop preset; the same command continues after an interruption
    python planet.py norender 460000 --episodes 100 --out scores.json     # validation games, see docs/reference.md
    python planet.py render 460000 --video planet.mp4
    python planet.py ship --run ../runs/planet      # the model of a finished run becomes the one that ships

train plays random episodes, then learns and plays by turns; it writes tf_planet/ of the run. norender and render play
the model of the run, else the one in planet/ beside this file. The last line that norender prints is: seed,
average_reward, stdev.
"""

from common.runtime import cli
from common.training import planet

from doomrnn.game import GAME

if __name__ == "__main__":
    cli.run_main(lambda: planet.main(GAME, __doc__))
