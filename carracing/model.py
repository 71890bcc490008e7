"""Plays a controller in the game, and reports its score.

    python model.py norender log/carracing.cma.16.64.best.json 1000 --out scores.json      # 100 tracks
    python model.py norender log/carracing.cma.16.64.best.json 1000 --backend envpool
    python model.py render log/carracing.cma.16.64.best.json 1000 --video agent.mp4
    python model.py norender random 1000       # the random policy: action_space.sample()

Agents use the run's own V and M when they are complete, else the ones that ship. The last line printed is
seed, average_reward, stdev.
"""

import numpy as np

from common import cli, controller, devices, play, rollouts, video, weights, worlds

import config
import env


def load_models(run):
    """(V, M, initial_z, hashes of V and M): the run's own when they are complete, else the ones that ship."""
    return weights.load_models(run, config)


def controller_on(rnn, mode=None):
    """C's sizes on top of this M; it reads z and h unless told otherwise."""
    return controller.Controller(mode or "zh", rnn.shape.z_size, rnn.shape.hidden_size, config.ACTION_SIZE, bias=True)


def play_controller(arguments, rnn, hashes):
    """The controller that `arguments.file` names, as it was trained.

    Returns:
        ((seeds) -> a policy in which it drives all of those episodes, whether z is sampled for it).
    """
    c, parameters = play.load_controller(arguments, lambda mode: controller_on(rnn, mode), hashes)
    log = play.log_of(arguments.file)

    def make_policy(seeds):
        return rollouts.Candidates(c, np.tile(parameters, (len(seeds), 1)), env.action_of)

    return make_policy, log.get("config", {}).get("sample_z", True)


def random_policy(seeds):
    """Each action drawn anew from the game's action space."""
    return rollouts.RandomActions(seeds, env.LOW, env.HIGH)


def parse():
    parser = play.parser(__doc__)
    parser.add_argument("mode", choices=["render", "norender"], help="watch one episode, or measure many")
    play.add_file_and_seed(parser, ", or the word: random")
    parser.add_argument("--backend", choices=env.BACKENDS, default="gymnasium", help="the game's implementation")
    return play.parse(parser)


def main():
    arguments = parse()
    devices.for_blocks()
    backend = env.available(arguments.backend)
    random, hashes, sample_z = arguments.file == "random", {}, True
    blind = random and arguments.mode == "norender"  # needs neither V nor M
    if not blind:
        vae, rnn, _, hashes = load_models(arguments.run)
    make_policy = random_policy
    if not random:
        make_policy, sample_z = play_controller(arguments, rnn, hashes)

    def make_world(rows):
        cars = env.cars(backend)
        return cars if blind else worlds.SeenGames(cars, vae, rnn, sample_z)

    if arguments.mode == "norender":
        seeds = np.arange(arguments.seed, arguments.seed + arguments.episodes)
        returns, lengths = play.measure(make_world, make_policy, seeds)
        about = {"game": config.GAME, "backend": backend, "seed": arguments.seed, "hashes": hashes}
        play.report(arguments, seeds, returns, lengths, **about)
        return
    world = make_world(1)
    picture = play.three_panels(world, arguments.seed)
    with video.screen("CarRacing", config.FPS, arguments.video, f"{config.GAME}.mp4") as screen:
        reward, _ = play.watch(world, make_policy([arguments.seed]), arguments.seed, screen, picture)
    print(f"seed {arguments.seed} reward {reward:.1f}")


if __name__ == "__main__":
    cli.run_main(main)
