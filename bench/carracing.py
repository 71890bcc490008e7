"""How fast the CarRacing agent drives here: many cars in lockstep, next to the game alone and to one car at a time.

    python bench/carracing.py [--out FILE]

agent_steps_per_s           game, VAE, MDN-RNN and a different controller for every car, batches of cars on all cores
game_steps_per_s            the same drives in the same batches, the game alone (EnvPool)
one_at_a_time_steps_per_s   one Gymnasium car on one core, one call of VAE, MDN-RNN and controller at every step
ratio_per_core              agent_steps_per_s on one core / one_at_a_time_steps_per_s
game_fraction               agent_steps_per_s / game_steps_per_s

Weights do not matter to speed: the VAE, the MDN-RNN and the controllers are random. Medians of several rounds.
"""

import time

import numpy as np

from common.agent import mdnrnn, vae
from common.play import agents
from common.runtime import cli, devices, files, parallel, seeds
from common.training import evolve
from common.worlds import candidates, encoded, games

from carracing import config, env
from carracing.game import GAME

FIRST_SEED = seeds.TRAINING[0]
ROWS = config.TRAIN["laptop"].block_rows  # cars of a batch
WARM_UP = 10  # steps of a first round that is not counted


class NotedTracks:
    """EnvPool's tracks, noting what is driven on them, so that it can be driven again."""

    def __init__(self):
        self._tracks = env.PoolTracks()

    def start(self, seeds):
        """As the tracks."""
        self.seeds, self.drives = seeds, []
        return self._tracks.start(seeds)

    def drive(self, cars, action):
        """As the tracks."""
        self.drives.append((cars, action))
        return self._tracks.drive(cars, action)


class OneGame:
    """Gymnasium's car as it is, for games.Games."""

    def __init__(self):
        from gymnasium.envs.box2d.car_racing import CarRacing

        self._game = CarRacing()

    def reset(self, seed):
        """Starts the track of this seed."""
        return env.frame_of(self._game.reset(seed=int(seed))[0])

    def step(self, action):
        """Drives one step; it is never done, the bench ends before."""
        screen, reward, _, _, _ = self._game.step(action)
        return env.frame_of(screen), reward, False


class Agents:
    """Random controllers in a world of games that is used again and again."""

    def __init__(self, games, first_seed, rows, vae, rnn, action_of):
        self._world, self._c = encoded.EncodedGames(games, vae, rnn), agents.controller_on(GAME, rnn)
        self._seeds, self._action_of = np.arange(first_seed, first_seed + rows), action_of
        self._parameters = np.random.default_rng(first_seed).normal(0, 0.1, (rows, self._c.parameters))

    def ready(self, steps):
        """New episodes; returns a function that drives so many steps of all cars and counts the car steps."""
        policy = candidates.Candidates(self._c, self._parameters, self._action_of)
        start = self._world.reset(self._seeds)

        def drive():
            state, count = start, 0
            for _ in range(steps):
                action = policy.act(state)
                count += len(action)
                state, _, done = self._world.step(action)
                if done.any():
                    policy.keep(np.flatnonzero(~done))
            return count

        return drive


def replay(tracks):
    """A function that drives what the tracks have noted, the game alone, and counts the car steps."""
    alone = env.PoolTracks()
    alone.start(tracks.seeds)
    return lambda: sum(len(alone.drive(*drive)[1]) for drive in tracks.drives)


def timed(works):
    """Calls one function per thread, all at the same time; steps per second of all of them together."""
    workers = parallel.Threads(lambda: lambda work: work(), len(works))
    began = time.perf_counter()
    steps = sum(workers.map(works))
    seconds = time.perf_counter() - began
    workers.close()
    return steps / seconds


def main() -> None:
    """Measures, and prints or writes the figures."""
    parser = cli.OneLineParser(description=__doc__)
    parser.add_argument("--out", type=cli.new_file, metavar="FILE", help="write the figures here, as JSON")
    parser.add_argument("--steps", type=cli.number(int, 1), default=150, help="of every car in a round")
    parser.add_argument("--rounds", type=cli.number(int, 1), default=3, help="the median of them is reported")
    arguments = parser.parse_args()
    if env.available("envpool") != "envpool":
        raise cli.UserError("this measures EnvPool, which is not installed here")
    devices.for_blocks()
    cores = parallel.cores()
    threads = evolve.GAME_THREADS_PER_CORE * cores
    encoder, shape = vae.ConvVAE(32), mdnrnn.Shape(32, config.ACTION_SIZE, 256, restart=False)
    rnn = mdnrnn.MDNRNN(shape)
    tracks = [NotedTracks() for _ in range(threads)]
    batches = [
        Agents(env.Cars(noted), FIRST_SEED + thread * ROWS, ROWS, encoder, rnn, env.action_of)
        for thread, noted in enumerate(tracks)
    ]
    single = Agents(games.Games([OneGame()]), FIRST_SEED, 1, encoder, rnn, lambda raw: env.action_of(raw).astype(float))
    rounds = []
    for steps in [WARM_UP] + [arguments.steps] * arguments.rounds:
        agent = timed([batch.ready(steps) for batch in batches])
        game = timed([replay(noted) for noted in tracks])
        rounds.append((agent, game, timed([single.ready(steps)])))
    del rounds[0]  # in which TensorFlow compiled
    agent, game, one = map(float, np.median(rounds, axis=0))
    figures = {
        "agent_steps_per_s": agent,
        "game_steps_per_s": game,
        "one_at_a_time_steps_per_s": one,
        "ratio_per_core": agent / cores / one,
        "game_fraction": float(np.median([agent / game for agent, game, _ in rounds])),
    }
    for name, value in figures.items():
        print(f"{name:28}{value:12,.2f}")
    dtype = devices.product_dtype().name
    about = {"cores": cores, "threads": threads, "cars": ROWS, "dtype": dtype}
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    if arguments.out:
        files.write_json(arguments.out, figures | about, indent=1)


if __name__ == "__main__":
    cli.run_main(main)
