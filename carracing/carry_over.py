"""Carries a controller over to another V and M: fits the C that does there what it does on its own.

What z and h mean is V's and M's own affair, so that a C plays with none but those it was evolved on. Here the old agent
drives while the new V and M watch; from the second round on the new agent drives and the old one, watching, says what
it would have done (DAgger, Ross et al. 2011). C is linear, so that to fit it is least squares. With --symmetry the old
agent also watches in a mirror, and has its share of the steering: what it does well in left turns, the new one then
does in right ones too. About a minute a round on two cores. Reads FILE, its V and M in --old, the new V and M in --run;
writes --out, for an evolution to start from:

    python carry_over.py log/carracing.cma.16.64.best.json --old . --run ../runs/second --out carried.json
    python train.py --run ../runs/second --start_from carried.json --sigma_init 0.05
"""

import argparse

from common.runtime import devices  # isort: skip  (sets TensorFlow's log level before its import)
import config
import env
import numpy as np
import tensorflow as tf
from model import controller_on, load_models

from common.agent import controller, mdnrnn
from common.play import play
from common.runtime import cli, parallel
from common.runtime.cli import UserError
from common.worlds import encoded, rollouts

FIRST_SEED = 30_000  # of the tracks, a thousand further on in every round
ROWS = 48  # cars that step together
RIDGE = 1e-5  # of the squares of the weights, to the mean square of what they miss


class Watcher:
    """An agent that sees what another does, itself or in a mirror, and says what it would do."""

    def __init__(self, vae, rnn, parameters, in_mirror=False):
        """
        Args:
            vae, rnn: ConvVAE and MDNRNN; z is the mean of the posterior.
            parameters: float [1 + Z + H, 3], bias and weight of its C.
            in_mirror: bool.
        """
        self._rnn, self._parameters, self._in_mirror = rnn, parameters, in_mirror
        self._encode = tf.function(vae.encode, reduce_retracing=True)
        self._weights, self._step = rnn.prepared(), tf.function(rnn.step, reduce_retracing=True)
        self._z, self._memory = None, None

    def wants(self, frames):
        """uint8 [B, 64, 64, 3] -> float32 [B, 3], before the tanh."""
        self._z = self._encode(env.mirrored(frames) if self._in_mirror else frames)[0].numpy()
        if self._memory is None:
            self._memory = self._rnn.initial_state(len(frames))
        wanted = with_bias(self._z, self._memory[0]) @ self._parameters
        return wanted * env.MIRROR if self._in_mirror else wanted

    def remember(self, action):
        """Notes what was done, float32 [B, 3]."""
        inputs = mdnrnn.inputs_of(self._z, action * env.MIRROR if self._in_mirror else action)
        self._memory = self._step(self._weights, inputs, self._memory)

    def keep(self, on):
        """Forgets the rows that have finished."""
        self._memory = tuple(tf.gather(part, on) for part in self._memory)


class Lesson:
    """A policy in which the old agent or the new one drives; it notes what the new one reads and the old one wants."""

    def __init__(self, world, old_vae, old_rnn, old, new, symmetry=0.0):
        """
        Args:
            world: encoded.EncodedGames, with the V and the M of the new agent.
            old_vae, old_rnn: ConvVAE and MDNRNN of the old one.
            old: float [1 + Z + H, 3], the old agent's bias and weight.
            new: the same of the new one, who drives; None: the old one does.
            symmetry: float in [0, 1], share of the steering as the old agent wants it who sees all in a mirror.
        """
        self._world, self._new = world, new
        self._watchers = [Watcher(old_vae, old_rnn, old)]
        if symmetry:
            self._watchers.append(Watcher(old_vae, old_rnn, old, in_mirror=True))
        self._symmetry, self.notes = np.float32([symmetry, 0, 0]), []

    def act(self, state):
        """(z, h, c) of the new agent -> float32 [B, 3]."""
        z, h, _ = state
        read = with_bias(z, h)
        wants = [watcher.wants(self._world.frames) for watcher in self._watchers]
        wanted = wants[0] + self._symmetry * (wants[-1] - wants[0])
        self.notes.append((read, wanted))
        action = env.action_of(np.tanh(wanted if self._new is None else read @ self._new))
        for watcher in self._watchers:
            watcher.remember(action)
        return action

    def keep(self, on):
        """Forgets the rows that have finished."""
        for watcher in self._watchers:
            watcher.keep(on)


def with_bias(z, h):
    """What C's parameters weigh: 1, z and h side by side, float32 [B, 1 + Z + H]."""
    return np.concatenate([np.ones((len(z), 1), np.float32), z, h], axis=1)


def fit(read, wanted):
    """The weights that bring `read` to `wanted`, where it matters: a steering that is full anyhow may be fuller.

    Args:
        read: float [N, F].
        wanted: float [N, 3], before the tanh.

    Returns:
        float64 [F, 3].
    """
    read, columns = read.astype(float), []
    for column in wanted.T.astype(float):
        weight = (1 - np.tanh(column) ** 2) ** 2 + 0.02
        weighted = read * weight[:, np.newaxis]
        squares = weighted.T @ read + RIDGE * len(read) * np.eye(read.shape[1])
        columns.append(np.linalg.solve(squares, weighted.T @ column))
    return np.stack(columns, axis=1)


def share(text):
    """A command line's number from 0 to 1."""
    number = cli.number(float, 0)(text)
    if number > 1:
        raise argparse.ArgumentTypeError(f"{text} is more than 1")
    return number


def parse():
    parser = cli.OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", metavar="FILE", help="the old agent's controller .json")
    parser.add_argument("--old", default=".", metavar="DIR", help="run with the old agent's V and M")
    parser.add_argument("--run", required=True, metavar="DIR", help="run with the new V and M")
    parser.add_argument("--out", required=True, type=cli.new_file, metavar="OUT", help="the new agent's controller")
    parser.add_argument(
        "--symmetry",
        type=share,
        default=0.0,
        help="share of the steering as the old agent wants it who sees all in a mirror (default 0)",
    )
    parser.add_argument("--rounds", type=cli.number(int, 1), default=4, help="of driving and fitting (default 4)")
    parser.add_argument("--tracks", type=cli.number(int, 1), default=96, help="in each round (default 96)")
    parser.add_argument("--backend", choices=env.BACKENDS, default="envpool", help="the game's implementation")
    return parser.parse_args()


def main():
    arguments = parse()
    arguments.file = play.find(arguments.file, arguments.old)
    devices.for_blocks()
    old_vae, old_rnn, _, hashes = load_models(arguments.old)
    vae, rnn, _, _ = load_models(arguments.run)
    log = play.log_of(arguments.file)
    if log.get("config", {}).get("controller_mode", "zh") != "zh":
        raise UserError(f"{arguments.file}: only a controller that reads z and h can be carried over")
    _, parameters = play.load_controller(arguments, lambda _: controller_on(old_rnn), hashes)
    old, new = parameters.reshape(-1, config.ACTION_SIZE), None  # the bias comes first
    backend, sample_z = env.available(arguments.backend), log.get("config", {}).get("sample_z", True)

    def work(task):
        driver, seeds = task
        world = encoded.EncodedGames(env.cars(backend), vae, rnn, sample_z)
        lesson = Lesson(world, old_vae, old_rnn, old, driver, arguments.symmetry)
        returns, _ = rollouts.rollout(world, lesson, seeds)
        return returns, *map(np.concatenate, zip(*lesson.notes, strict=True))

    workers, notes = parallel.Threads(lambda: work, devices.cores()), []
    for k in range(arguments.rounds):
        first = FIRST_SEED + 1000 * k
        seeds = np.arange(first, first + arguments.tracks)
        blocks = [(new, seeds[start : start + ROWS]) for start in range(0, len(seeds), ROWS)]
        returns, *noted = zip(*workers.map(blocks), strict=True)
        notes.append([np.concatenate(part) for part in noted])
        driver, returns = "the old agent" if new is None else "the new agent", np.concatenate(returns)
        new = fit(*(np.concatenate(part) for part in zip(*notes, strict=True)))
        print(f"round {k + 1}: {driver} drove: {returns.mean():.1f} ± {returns.std() / len(returns) ** 0.5:.1f}")
        controller.write(arguments.out, new.ravel())
    workers.close()
    print(f"{arguments.out}: written")


if __name__ == "__main__":
    cli.run_main(main)
