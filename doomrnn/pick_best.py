"""Chooses among the means that an evolution, or several, evaluated: plays the real game with each, on validation seeds.

Reads log/<base>.log.json; plays every mean on the same games, the few best again on more; writes
log/<base>.validation.json and, with its meta, the best as log/<base>.picked.json, both in the folder of the run. The
best.json of the evolution stays as it is. Of several evolutions, the best of all is written where that of the first
would be. Test seeds are not played.

    python pick_best.py log/doomrnn.cma.16.64.log.json
    python pick_best.py log/doomrnn.cma.16.64.log.json --episodes 100 --finalists 3 --final_episodes 400
"""

from common.play import select
from common.runtime import cli

from doomrnn.game import GAME

if __name__ == "__main__":
    cli.run_main(lambda: select.main(GAME, __doc__))
