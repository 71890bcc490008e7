"""Carries a controller over to another M: fits the C that does there what it does on its own M.

What h means is M's own affair, so that a C plays with no M but the one it was evolved on. Here the old agent drives
while the new M watches; from the second round on the new agent drives and the old one, watching, says what it would
have done (DAgger, Ross et al. 2011). C is linear, so that to fit it is least squares. About a minute a round on two
cores. Reads FILE, its V and M in --old, the new M in --run; writes --out, for an evolution to start from:

    python carry_over.py log/carracing.cma.16.64.best.json --old . --run ../runs/second --out carried.json
    python train.py --run ../runs/second --start_from carried.json --sigma_init 0.05
"""

import argparse

from common import devices  # isort: skip  (sets TensorFlow's log level before its import)
import numpy as np
import tensorflow as tf

from common import cli, controller, farm, mdnrnn, play, rollouts, worlds
from common.cli import UserError

import config
import env
from model import controller_on, load_models

FIRST_SEED = 30_000  # of the tracks, a thousand further on in every round
ROWS = 48  # cars that step together
RIDGE = 1e-5  # of the squares of the weights, to the mean square of what they miss


class Lesson:
    """A policy in which one agent drives and the other watches, each with an M; it notes what both know and want."""

    def __init__(self, old_rnn, old, new):
        """
        Args:
            old_rnn: MDNRNN of the old agent; the new one's is the world's.
            old: float [1 + Z + H, 3], the old agent's bias and weight.
            new: the same of the new one, who drives; None: the old one does.
        """
        self._rnn, self._old, self._new = old_rnn, old, new
        self._weights, self._step = old_rnn.prepared(), tf.function(old_rnn.step, reduce_retracing=True)
        self._memory, self.notes = None, []

    def act(self, state):
        """(z, h, c) of the new M -> float32 [B, 3]."""
        z, h, _ = (part.numpy() for part in state)
        if self._memory is None:
            self._memory = self._rnn.initial_state(len(z))
        bias = np.ones((len(z), 1), np.float32)
        read = np.concatenate([bias, z, h], axis=1)
        wanted = np.concatenate([bias, z, self._memory[0]], axis=1) @ self._old
        self.notes.append((read, wanted))
        action = env.action_of(np.tanh(wanted if self._new is None else read @ self._new))
        self._memory = self._step(self._weights, mdnrnn.inputs_of(z, action), self._memory)
        return action

    def keep(self, on):
        """Forgets the rows that have finished."""
        self._memory = tuple(tf.gather(part, on) for part in self._memory)


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


def parse():
    parser = cli.OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", metavar="FILE", help="the old agent's controller .json")
    parser.add_argument("--old", default=".", metavar="DIR", help="run with the old agent's V and M")
    parser.add_argument("--run", required=True, metavar="DIR", help="run with the same V and the new M")
    parser.add_argument("--out", required=True, type=cli.new_file, metavar="OUT", help="the new agent's controller")
    parser.add_argument("--rounds", type=cli.number(int, 1), default=4, help="of driving and fitting (default 4)")
    parser.add_argument("--tracks", type=cli.number(int, 1), default=96, help="in each round (default 96)")
    parser.add_argument("--backend", choices=env.BACKENDS, default="envpool", help="the game's implementation")
    return parser.parse_args()


def main():
    arguments = parse()
    arguments.file = play.find(arguments.file, arguments.old)
    devices.for_blocks()
    vae, old_rnn, _, hashes = load_models(arguments.old)
    _, new_rnn, _, new_hashes = load_models(arguments.run)
    if new_hashes["vae"] != hashes["vae"]:
        raise UserError(f"--run {arguments.run}: has another V than {arguments.old}; both M's must read the same z")
    log = play.log_of(arguments.file)
    if log.get("config", {}).get("controller_mode", "zh") != "zh":
        raise UserError(f"{arguments.file}: only a controller that reads z and h can be carried over")
    _, parameters = play.load_controller(arguments, lambda _: controller_on(old_rnn), hashes)
    old, new = parameters.reshape(-1, config.ACTION_SIZE), None  # the bias comes first
    backend, sample_z = env.available(arguments.backend), log.get("config", {}).get("sample_z", True)

    def work(task):
        driver, seeds = task
        lesson = Lesson(old_rnn, old, driver)
        returns, _ = rollouts.rollout(worlds.SeenGames(env.cars(backend), vae, new_rnn, sample_z), lesson, seeds)
        return returns, *map(np.concatenate, zip(*lesson.notes, strict=True))

    workers, notes = farm.Threads(lambda: work, devices.cores()), []
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
