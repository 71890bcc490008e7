"""Records episodes of the game: record/<seed>.npz, for the VAE and the MDN-RNN to learn from.

python extract.py                                    # random play
python extract.py --controller log/catchdot.cma.4.8.best.json --first_seed 20000
"""

from common.play import record
from common.runtime import cli

from catchdot.game import GAME

if __name__ == "__main__":
    cli.run_main(lambda: record.main(GAME, __doc__))
