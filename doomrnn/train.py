"""Evolves the controller inside the dream; the real game is not played, except with --world game.

Reads the VAE, the MDN-RNN and the first frames (those of the run, else those that ship); writes
log/doomrnn.<optimizer>.<episodes>.<popsize>.* (see common/training/evolution.py). After an interruption the same
command continues from the last checkpoint, with the same numbers. By default it uses every core; with -n it starts
itself again under mpirun. The number of ranks does not change the result.

    python train.py                         # laptop preset
    python train.py -n 2 -t 32              # 2 ranks, population 64
    mpirun -np 8 --hostfile hosts python train.py
    python train.py --world game --start_from log/doomrnn.cma.16.64.best.json     # its logs are doomrnn.game.*
    python train.py -o ppo --run DIR        # a network, by a policy gradient in the dream of a run of your own
    python train.py -o ppo --ends threshold       # the same in the dream of the MDN-RNN that ships
    python train.py -o ppo --world game     # such a network in the real game
    python train.py --also_in ../runs/earlier/tf_rnn/rnn.json     # half of the dreams in another MDN-RNN
"""

from common.runtime import cli
from common.training import evolve

from doomrnn.game import GAME

if __name__ == "__main__":
    cli.run_main(lambda: evolve.main(GAME, __doc__))
