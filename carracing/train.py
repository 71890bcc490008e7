"""Evolves the controller in the real game, many cars in lockstep; or in the dream alone, with --world dream.

Reads the VAE and the MDN-RNN (those of the run, else those that ship); writes
log/carracing.<optimizer>.<tracks>.<popsize>.* (see common/training/evolution.py). All candidates of a generation race
on the same tracks. After an interruption the same command continues from the last checkpoint, with the same numbers. By
default it uses every core; with -n it starts itself again under mpirun. The number of ranks does not change the result.

    python train.py                         # laptop preset
    python train.py --generations 400       # continue
    python train.py -n 2 -t 32              # 2 ranks, population 64
    python train.py --world dream           # in the dream of an MDN-RNN with heads; its logs are carracing.dream.*
    python train.py -o ppo                  # there by a policy gradient, a network as the controller
    python train.py -o ppo --world game     # such a network in the real game
    mpirun -np 8 --hostfile hosts python train.py
"""

from common.runtime import cli
from common.training import evolve

from carracing.game import GAME

if __name__ == "__main__":
    cli.run_main(lambda: evolve.main(GAME, __doc__))
