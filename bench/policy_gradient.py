"""What each setting of `train.py -o ppo` brings in Doom, one changed at a time; docs/history/policy_gradient.md has it.

    python bench/policy_gradient.py --run runs/settings --seeds 3 --write

All learn in the dream of the VAE and the MDN-RNN that ship with the network (doomrnn/laptop/), and all play the same
validation games. The same command goes on where it was stopped.

    dream steps   that the policy learned from, in millions
    in the dream  best evaluation of those of the training, in dreams as the setting has them, without dropout
    in the game   mean return of the most probable actions ± standard error, of playing other games and, where there
                  are several seeds, of learning with others
"""

import os
from typing import Any

from common.runtime import devices  # isort: skip  (loads TensorFlow without its banner)
import numpy as np

from common import game as games
from common.runtime import cli, files, provenance, seeds
from common.runtime.files import ROOT

from bench import running

LOG = os.path.join(ROOT, "log")
NETWORK, LINEAR = (os.path.join(LOG, f"doomrnn.ppo.64.512.{which}best.json") for which in ("", "linear."))
ON_LINEAR, ON_NETWORK = ("--start_from", LINEAR), ("--start_from", NETWORK)
DROPOUT, TETHER = ("--dropout", 0.1), ("--tether", 0.03)
OTHERS = "rnn1", "rnn2"
"""folders of further MDN-RNNs, trained on from the one that ships"""
SETTINGS: dict[str, tuple[Any, ...]] = {
    "as the preset has it": (),
    "dropout 0.1": DROPOUT,
    "dropout 0.1, temperature 1": (*DROPOUT, "--temperature", 1.0),
    "dropout 0.1, temperature 1.5": (*DROPOUT, "--temperature", 1.5),
    "dropout 0.1, on the linear controller": (*DROPOUT, *ON_LINEAR),
    "dropout 0.1, on the linear controller, tether 0.03": (*DROPOUT, *ON_LINEAR, *TETHER),
    "dropout 0.1, on the network that ships": (*DROPOUT, *ON_NETWORK),
    "dropout 0.1, on the network that ships, tether 0.03": (*DROPOUT, *ON_NETWORK, *TETHER),
    "temperature 1": ("--temperature", 1.0),
    "temperature 1.5": ("--temperature", 1.5),
    "ends by threshold": ("--ends", "threshold"),
    "100 updates": ("--generations", 100),
    "900 updates": ("--generations", 900),
    "no hidden layer": ("--hidden", ""),
    "32 hidden units": ("--hidden", "32"),
    "256 and 128 hidden units": ("--hidden", "256,128"),
    "on the linear controller": ON_LINEAR,
    "on the network that ships": ON_NETWORK,
    "along its recorded games": ("--starts", 8000, "--start_games", 400, "--horizon", 300),
    "in three MDN-RNNs": ("--also_in", ",".join(f"../{name}/tf_rnn/rnn.json" for name in OTHERS)),
}
REPEATED = "as the preset has it", "dropout 0.1"  # with --seeds, which tells how much is the seed
EVALUATED = "--eval_steps", 100  # updates; the preset evaluates four times as often
SCORE_SEED = seeds.TRIALS  # of the first scored game
RECORD_SEED, RECORDED = seeds.RECORDED, 400  # of the first game of the network that ships, for the last two settings


def main() -> None:
    """Trains what is missing, plays, prints the table, and writes it."""
    parser = cli.OneLineParser(description=__doc__)
    parser.add_argument("--run", required=True, metavar="DIR", help="where all is trained, one folder for each setting")
    text = f"trainings of each of: {'; '.join(REPEATED)}. The other settings have one"
    parser.add_argument("--seeds", type=cli.number(int, 1), default=1, help=text)
    parser.add_argument("--games", type=cli.number(int, 2), default=200, help="real games that score an agent")
    parser.add_argument("--only", default="", metavar="NAMES", help=f"some of: {'; '.join(SETTINGS)}; by default all")
    parser.add_argument("--write", action="store_true", help="write log/doomrnn.settings.json and the table")
    arguments = parser.parse_args()
    names = running.chosen(arguments.only, SETTINGS)
    seeds.check(range(SCORE_SEED, SCORE_SEED + arguments.games), "validation", "--games")
    page = os.path.join(ROOT, "docs", "history", "policy_gradient.md")
    if arguments.write:
        running.around(page, "settings")
    devices.for_blocks()
    about = {"game": "doomrnn", "budget": {**vars(arguments), "run": None}, **provenance.about_now()}
    bench = Bench(arguments.run, arguments.seeds, arguments.games)
    figures = {name: bench.figures(name) for name in names}
    print(table(figures))
    if arguments.write:
        path = os.path.join(LOG, "doomrnn.settings.json")
        made = running.merged(path, about, figures, SETTINGS)
        files.write_json(path, made, indent=1)
        running.insert(page, "settings", table(made["figures"]))


class Bench:
    """Runs the commands and reads their results.

    Args:
        run: where all is trained.
        seeds: with so many the settings REPEATED are trained, the others with one.
        count: games that score an agent.
    """

    def __init__(self, run: str, seeds: int, count: int) -> None:
        self._run, self._seeds, self._count = os.path.abspath(run), seeds, count
        self._game = games.find("doomrnn")

    def figures(self, name: str) -> dict[str, Any]:
        """All that is measured of a setting."""
        flags = SETTINGS[name]
        models = self._models("--starts" in flags, "--also_in" in flags)
        found: dict[str, Any] = {
            "flags": [flag if flag not in (LINEAR, NETWORK) else os.path.relpath(flag, ROOT) for flag in flags]
        }
        returns, dreams = [], []
        for seed in range(self._seeds if name in REPEATED else 1):
            own = os.path.join(self._run, f"{name.replace(' ', '_').replace(',', '')}.{seed}")
            running.share(models, own, os.listdir(models))
            running.command(self._game, "train", "-o", "ppo", "--run", own, "-s", seed, *EVALUATED, *flags)
            best = os.path.join(own, "log", "doomrnn.ppo.64.512.best.json")
            dreams.append(files.read_json(best)[1])
            returns.append(running.returns(self._game, best, SCORE_SEED, self._count))
            found["steps"] = files.read_json(best.replace(".best.", ".hist."))[-1][7]
        found |= {"dream": float(np.mean(dreams)), "means": np.mean(returns, axis=1).tolist()}
        return found | {"score": float(np.mean(returns)), "stderr": running.standard_error(np.array(returns))}

    def _models(self, recorded: bool, others: bool) -> str:
        """Makes the folder of the models that ship, with what a setting needs beside them; returns its path."""
        models = os.path.join(self._run, "models")
        for name, path in self._game.config.SHIPPED[1].items():
            folder = os.path.dirname(os.path.join(models, self._game.config.TRAINED[name]))
            shipped = os.path.dirname(os.path.join(self._game.folder, path))
            running.share(shipped, folder, [os.path.basename(path) + ending for ending in ("", provenance.ENDING)])
        if recorded or others:
            flags = "--explore", 0.1, "--min_frames", 0, "--first_seed", RECORD_SEED, "--episodes", RECORDED
            running.command(self._game, "extract", "--run", models, "--controller", NETWORK, *flags)
            running.command(self._game, "series", "--run", models)
        start = os.path.join(models, self._game.config.TRAINED["rnn"])
        for seed, name in enumerate(OTHERS if others else (), 1):
            other = os.path.join(self._run, name)
            running.share(models, other, ("record", "series", "tf_vae"))
            flags = self._game.config.TRAINED_ON | {"start_from": start, "steps": 300, "seed": seed}
            running.command(self._game, "rnn_train", "--run", other, *cli.words(flags))
        return models


def table(figures: dict[str, dict[str, Any]]) -> str:
    """The figures of all settings as a table of Markdown."""
    lines = ["| setting | million dream steps | in the dream | in the game |", "|---|---|---|---|"]
    for name, found in figures.items():
        score = running.score_cell(found)
        lines.append(f"| {name} | {found['steps'] / 1e6:.1f} | {found['dream']:.0f} | {score} |")
    return "\n".join(lines)


if __name__ == "__main__":
    cli.run_main(main)
