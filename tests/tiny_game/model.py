"""Plays a controller in the game and reports its score: python model.py FILE [seed] [--episodes N] [--out FILE]."""

import numpy as np

from common.agent import controller, weights
from common.play import play
from common.runtime import cli, devices
from common.worlds import dream, encoded, games, rollouts

import config
from game import CatchDot


def load_models(run):
    """(V, M, initial_z, hashes of V and M): the run's own when they are complete, else the ones that ship."""
    return weights.load_models(run, config)


def controller_on(rnn, mode=None):
    """C's sizes on top of this M."""
    return controller.Controller(mode or "zch", rnn.shape.z_size, rnn.shape.hidden_size, config.ACTION_SIZE, bias=True)


def dreams(rnn, initial_z, temperature):
    """A batch of dreams of the game."""
    return dream.DreamWorld(rnn, initial_z, temperature, config.MAX_STEPS)


def main():
    parser = play.parser(__doc__)
    play.add_file_and_seed(parser)
    arguments = play.parse(parser)
    devices.for_blocks()
    vae, rnn, _, hashes = load_models(arguments.run)
    c, parameters = play.load_controller(arguments, lambda mode: controller_on(rnn, mode), hashes)
    seeds = np.arange(arguments.seed, arguments.seed + arguments.episodes)
    returns, lengths = play.measure(
        lambda rows: encoded.EncodedGames(games.Games([CatchDot() for _ in range(rows)]), vae, rnn),
        lambda block: rollouts.Candidates(c, np.tile(parameters, (len(block), 1))),
        seeds,
    )
    play.report(arguments, seeds, returns, lengths, game=config.GAME, seed=arguments.seed, hashes=hashes)


if __name__ == "__main__":
    cli.run_main(main)
