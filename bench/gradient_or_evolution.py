"""PPO beside CMA-ES in CarRacing, in the dream and in the game, each with about as many steps.

    python bench/gradient_or_evolution.py --run runs/methods --write

The dream is of the VAE that ships, and of an MDN-RNN with heads that learns from nothing, on drives of the controller
that ships. So this is not a way to an agent from nothing: it asks what each method makes of one good dream. All
controllers begin at zero or at random weights, and drive the same validation tracks; docs/history/carracing.md has the
table.

    million steps  that the method learned from, in the dream or the game
    minutes        of its training
    in training    best evaluation of those of the training, in its world; dreams are cut after 300 steps
    in the game    mean return ± standard error, of other tracks and, with --seeds, of learning with other seeds
"""

import glob
import os
from typing import Any

from common.runtime import devices  # isort: skip  (loads TensorFlow without its banner)
import numpy as np

from common import game as games
from common.runtime import cli, files, provenance, seeds
from common.runtime.files import ROOT

from bench import running, variants

CONTROLLER = os.path.join(ROOT, "log", "carracing.cma.16.64.best.json")
RECORDED = 200  # drives of the controller that ships
RECORD = "--controller", CONTROLLER, "--first_seed", seeds.RECORDED, "--episodes", RECORDED, "--explore", 0.3
DREAM = "--world", "dream", "--preset", "dream", "--start_games", RECORDED, "--horizon", 300, "--starts", 8000
UPDATES = "--generations", 100, "--eval_steps", 25  # as many steps as CMA-ES has
METHODS: dict[str, tuple[Any, ...]] = {
    "PPO in the dream, linear": ("-o", "ppo", *DREAM, *UPDATES),
    "PPO in the dream, 128 and 64 hidden units": ("-o", "ppo", *DREAM, *UPDATES, "--hidden", "128,64"),
    "CMA-ES in the dream, linear": (*DREAM, "--num_episode", 4, "--generations", 84, "--eval_steps", 21),
    "PPO in the game, 128 and 64 hidden units": ("-o", "ppo", "--world", "game", "--preset", "laptop"),
    "CMA-ES in the game, linear": ("--preset", "laptop", "--generations", 20),
}
SCORE_SEED, BACKEND = seeds.TRIALS, "envpool"  # of the first scored track; where it is driven


def main() -> None:
    """Records, trains what is missing, drives, prints the table, and writes it."""
    parser = cli.OneLineParser(description=__doc__)
    parser.add_argument("--run", required=True, metavar="DIR", help="where all is trained, one folder for each method")
    parser.add_argument("--seeds", type=cli.number(int, 1), default=1, help="trainings by each method")
    parser.add_argument("--games", type=cli.number(int, 2), default=100, help="tracks that score a controller")
    parser.add_argument("--only", default="", metavar="NAMES", help=f"some of: {'; '.join(METHODS)}; by default all")
    parser.add_argument("--write", action="store_true", help="write log/carracing.methods.json and the table")
    arguments = parser.parse_args()
    names = running.chosen(arguments.only, METHODS)
    seeds.check(range(SCORE_SEED, SCORE_SEED + arguments.games), "validation", "--games")
    page = os.path.join(ROOT, "docs", "history", "carracing.md")
    if arguments.write:
        running.around(page, "methods")
    devices.for_blocks()
    about = {"game": "carracing", "budget": {**vars(arguments), "run": None}, **provenance.about_now()}
    bench = Bench(arguments.run, arguments.seeds, arguments.games)
    figures = {name: bench.figures(name) for name in names}
    print(table(figures))
    if arguments.write:
        path = os.path.join(ROOT, "log", "carracing.methods.json")
        made = running.merged(path, about, figures, METHODS)
        files.write_json(path, made, indent=1)
        running.insert(page, "methods", table(made["figures"]))


class Bench:
    """Runs the commands and reads their results.

    Args:
        run: where all is trained.
        seeds: trainings by each method.
        count: tracks that score a controller.
    """

    def __init__(self, run: str, seeds: int, count: int) -> None:
        self._run, self._seeds, self._count = os.path.abspath(run), seeds, count
        self._game = games.find("carracing")

    def figures(self, name: str) -> dict[str, Any]:
        """All that is measured of a method."""
        models = self._models()
        found: list[dict[str, float]] = []
        returns = []
        for seed in range(self._seeds):
            own = os.path.join(self._run, f"{name.replace(' ', '_').replace(',', '')}.{seed}")
            running.share(models, own, os.listdir(models))
            running.command(self._game, "train", "--run", own, "-s", seed, *METHODS[name])
            (best,) = glob.glob(os.path.join(glob.escape(own), "log", "*.best.json"))
            found.append(trained(best))
            returns.append(running.returns(self._game, best, SCORE_SEED, self._count, BACKEND))
        means = {key: float(np.mean([one[key] for one in found])) for key in found[0]}
        means |= {"score": float(np.mean(returns)), "stderr": running.standard_error(np.array(returns))}
        return {"means": np.mean(returns, axis=1).tolist(), **means}

    def _models(self) -> str:
        """Records and trains the models of all methods; returns their folder."""
        models = os.path.join(self._run, "models")
        vae = os.path.join(self._game.folder, self._game.config.SHIPPED[0]["vae"])
        parts = [os.path.basename(vae) + ending for ending in ("", provenance.ENDING)]
        running.share(os.path.dirname(vae), os.path.join(models, "tf_vae"), parts)
        preset = "--preset", "dream", "--run", models
        running.command(self._game, "extract", *preset, "--max_frames", 0, "--gymnasium_share", 0, *RECORD)
        running.command(self._game, "series", *preset)
        running.command(self._game, "rnn_train", *preset, "--streams", 16, "--steps", 2000)
        return models


def trained(best: str) -> dict[str, float]:
    """What the logs say of a training, by the path of its .best.json: steps, minutes, best evaluation."""
    rows, cfg = files.read_json(best.replace(".best.", ".hist.")), files.read_json(best + provenance.ENDING)["config"]
    if cfg["o"] == "ppo":
        steps = rows[-1][7]
    else:
        played = np.diff(variants.rollouts_of(cfg, len(rows)), prepend=0)
        steps = int(played @ [row[7] - 1 for row in rows])
    return {"steps": steps, "minutes": rows[-1][1] / 60, "in_training": files.read_json(best)[1]}


def table(figures: dict[str, dict[str, Any]]) -> str:
    """The figures of all methods as a table of Markdown."""
    lines = ["| method | million steps | minutes | in training | in the game |", "|---|---|---|---|---|"]
    for name, found in figures.items():
        score = running.score_cell(found)
        cells = f"{found['steps'] / 1e6:.1f} | {found['minutes']:.0f} | {found['in_training']:.0f} | {score}"
        lines.append(f"| {name} | {cells} |")
    return "\n".join(lines)


if __name__ == "__main__":
    cli.run_main(main)
