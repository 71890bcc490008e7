"""Ranks the means that an evolution evaluated by playing the real game, and makes the best one best.json.

The dream's score climbs while the real one stalls, so the dream cannot say which mean to keep. Reads
log/<base>.log.json; plays every mean on the same validation seeds, the few best again on more; writes
log/<base>.validation.json and log/<base>.best.json. Test seeds (1000-1999) are not touched.

    python pick_best.py log/doomrnn.cma.16.64.log.json
"""

import argparse

import numpy as np
from model import controller_on, load_models, real_games

from common.agent import controller
from common.play import play
from common.runtime import cli, devices, files
from common.training import evolution
from common.worlds import encoded, rollouts

FIRST_SEED = 5000  # of validation episodes in the real game


def main():
    parser = cli.OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", metavar="FILE", help="an evolution's .log.json")
    parser.add_argument("--episodes", type=cli.number(int, 1), default=100, help="games per mean in the first round")
    parser.add_argument("--finalists", type=cli.number(int, 1), default=3, help="means that play a second round")
    parser.add_argument(
        "--final_episodes", type=cli.number(int, 0), default=400, help="games per mean in the second round"
    )
    parser.add_argument("--from_generation", type=cli.number(int, 0), default=0, help="leave the means before it out")
    parser.add_argument("--run", default=".", metavar="DIR", help="folder with this run's tf_*/ and log/")
    arguments = parser.parse_args()
    path = play.find(arguments.file, arguments.run)
    if not path.endswith(".log.json"):
        raise cli.UserError(f"{path}: give the .log.json of an evolution")
    base = path.removesuffix("log.json")
    means, log = [row for row in evolution.read_log(path) if row[0] >= arguments.from_generation], play.log_of(path)
    if not means:
        raise cli.UserError(f"{path}: no mean was evaluated in generation {arguments.from_generation} or later")

    devices.for_blocks()
    vae, rnn, _, hashes = load_models(arguments.run)
    play.check_hashes(path, log, hashes)
    c = controller_on(rnn, log.get("config", {}).get("controller_mode"))

    def score(parameters, seeds):
        returns, _ = play.measure(
            lambda rows: encoded.EncodedGames(real_games(rows), vae, rnn),
            lambda block: rollouts.Candidates(c, np.tile(parameters, (len(block), 1))),
            seeds,
        )
        return returns

    first = np.arange(FIRST_SEED, FIRST_SEED + arguments.episodes)
    more = np.arange(first[-1] + 1, first[-1] + 1 + arguments.final_episodes)
    rounds = []
    for generation, dreamt, parameters in means:
        returns = score(parameters, first)
        rounds.append({"generation": generation, "dream": dreamt, "n": len(first), "mean": returns.mean()})
        print(f"generation {generation}: dream {dreamt:.1f}, game {returns.mean():.1f} over {len(first)}", flush=True)
    finalists = sorted(range(len(means)), key=lambda k: -rounds[k]["mean"])[: arguments.finalists]
    for k in finalists:
        returns = score(means[k][2], more)
        total = rounds[k]["mean"] * len(first) + returns.sum()
        rounds[k].update(n=len(first) + len(more), mean=total / (len(first) + len(more)))
        print(f"generation {means[k][0]}: game {rounds[k]['mean']:.1f} over {rounds[k]['n']}", flush=True)
    best = max(finalists, key=lambda k: rounds[k]["mean"])
    seeds = [int(first[0]), int(more[-1] if len(more) else first[-1])]
    files.write_json(base + "validation.json", {"seeds": seeds, "means": rounds, "best": rounds[best]}, indent=1)
    controller.write(base + "best.json", means[best][2], rounds[best]["mean"])
    print(f"{base}best.json: generation {means[best][0]}, {rounds[best]['mean']:.1f} over {rounds[best]['n']} games")


if __name__ == "__main__":
    cli.run_main(main)
