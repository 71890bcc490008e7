"""Plays a controller in the real game or in the dream, and reports its score.

    python model.py doomreal norender log/doomrnn.cma.16.64.best.json 1000 --episodes 1000 --out scores.json
    python model.py doomreal render log/doomrnn.cma.16.64.best.json 1000 --video agent.mp4
    python model.py doomreal norender random 1000        # the random policy: a new uniform action every tic
    python model.py doomrnn norender log/doomrnn.cma.16.64.best.json 1000     # in the dream

Agents use the run's own V and M when they are complete, else the ones that ship. The last line printed is
seed, average_reward, stdev.
"""

import numpy as np

from common import cli, controller, devices, dream, games, play, rollouts, video, weights, worlds

import config
from doomreal import DoomTakeCover


def load_models(run):
    """(V, M, initial_z, hashes of V and M): the run's own when they are complete, else the ones that ship."""
    return weights.load_models(run, config)


def controller_on(rnn, mode=None):
    """C's sizes on top of this M; it reads z, c and h unless told otherwise."""
    return controller.Controller(mode or "zch", rnn.shape.z_size, rnn.shape.hidden_size, config.ACTION_SIZE, bias=False)


def play_controller(arguments, rnn, hashes):
    """(seeds) -> a policy in which the controller that `arguments.file` names plays all of those episodes."""
    c, parameters = play.load_controller(arguments, lambda mode: controller_on(rnn, mode), hashes)
    return lambda seeds: rollouts.Candidates(c, np.tile(parameters, (len(seeds), 1)))


def real_games(count):
    """A batch of that many games."""
    return games.Games([DoomTakeCover() for _ in range(count)])


def dreams(rnn, initial_z, temperature):
    """A batch of dreams of the game."""
    return dream.DreamWorld(rnn, initial_z, temperature, config.MAX_STEPS)


def parse():
    parser = play.parser(__doc__)
    parser.add_argument("world", choices=["doomreal", "doomrnn"], help="the real game, or M's dream of it")
    parser.add_argument("mode", choices=["render", "norender"], help="watch one episode, or measure many")
    play.add_file_and_seed(parser, ", or the word: random")
    parser.add_argument("--temperature", type=cli.number(float, 0), default=config.TEMPERATURE, help="of the dream")
    return play.parse(parser)


def main():
    arguments = parse()
    devices.for_blocks()
    random, hashes = arguments.file == "random", {}
    blind = random and arguments.world == "doomreal" and arguments.mode == "norender"  # needs neither V nor M
    if not blind:
        vae, rnn, initial_z, hashes = load_models(arguments.run)

    if random:

        def make_policy(seeds):
            return rollouts.RandomActions(seeds, [-1.0], [1.0])
    else:
        make_policy = play_controller(arguments, rnn, hashes)

    def make_world(rows):
        if arguments.world == "doomrnn":
            return dreams(rnn, initial_z, arguments.temperature)
        played = real_games(rows)
        return played if blind else worlds.SeenGames(played, vae, rnn)

    about = {"game": arguments.world, "backend": "vizdoom" if arguments.world == "doomreal" else "dream"}
    if arguments.mode == "norender":
        seeds = np.arange(arguments.seed, arguments.seed + arguments.episodes)
        returns, lengths = play.measure(make_world, make_policy, seeds)
        play.report(arguments, seeds, returns, lengths, **about, seed=arguments.seed, hashes=hashes)
        return
    world = make_world(1)
    if arguments.world == "doomreal":
        picture = play.three_panels(world, arguments.seed)
    else:

        def picture(state):
            return video.panels(vae.decode(state[0])[0])

    with video.screen(arguments.world, config.FPS, arguments.video, f"{arguments.world}.mp4") as screen:
        returns, _ = play.watch(world, make_policy([arguments.seed]), arguments.seed, screen, picture)
    print(f"seed {arguments.seed} reward {returns:.0f}")


if __name__ == "__main__":
    cli.run_main(main)
