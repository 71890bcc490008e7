"""The variants of docs/variants.md, each trained at the same budget from the same recordings, in one table.

    python bench/variants.py --game doomrnn --preset smoke --run runs/variants           # minutes: does it work
    python bench/variants.py --game carracing --run runs/variants --seeds 3 --write      # the laptop preset: days

docs/variants.md has the flags with which a table takes one core two and a half hours. Every variant differs from the
first one, `standard`, in one stage. The stages before that one are shared, those from it on are run with the same
flags. All are commands of the game, so that a command that was stopped continues where it was.

    pixels      squared error of a reconstruction, summed over pixels and colors, on unseen episodes
    sharpness   gradient energy of reconstructions, as a share of that of the frames; 1 is as sharp as the game
    kl          KL of z to the standard normal, in nats per frame, on the same
    z_nats      -log p of the next z per dimension, on the same; two VAEs have two kinds of z, and compare only roughly
    score       mean return in the real game of the controllers of all seeds, on validation games, ± the standard error
                of both: of evolving with other seeds (if there are several), and of playing other games
    seconds     of the stage in which the variant differs; of an evolution per generation, of which most is play
    ask_tell_ms what the evolution strategy itself takes of a generation

With --gan_seeds 10 it trains ten VAE-GANs instead, with other seeds, and says which collapse; before them a VAE, as
far as they are trained, for comparison:

    missed        squared error of the pixels of reconstructions, as a share of the variance of these pixels, on unseen
                  episodes; 1 is no better than one picture for all frames
    sharpness     as above
    spread        variance of a pixel between reconstructions, as a share of that between the frames
    collapsed     it misses 1 or more, the sharpness is above 4 (noise), the spread is below 0.1 (one picture for
                  all), or the training stopped because a number was not finite
"""

import argparse
import os
import shlex
import sys
import time
import types
from typing import Any

from common.runtime import devices  # isort: skip  (loads TensorFlow without its banner)
import numpy as np
from PIL import Image

from common import game as games
from common.agent import mdnrnn, models, vae, weights
from common.data import recordings
from common.game import Game
from common.runtime import cli, files, provenance, seeds, settings
from common.runtime.files import ROOT
from common.training import es, evolve

from bench import running

STAGES = "extract", "vae_train", "series", "rnn_train", "train"
WRITES = {
    "extract": ("record",),
    "vae_train": ("tf_vae",),
    "series": ("series",),
    "rnn_train": ("tf_rnn", "tf_initial_z"),
}
# what a variant is: the stage in which it differs, and how
VARIANTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "standard": ("extract", ()),
    "vae-gan": ("vae_train", ("--gan",)),
    "gaussian": ("rnn_train", ("--output", "gaussian")),
    "two actions": ("extract", ("--actions", "2")),
    "random starts": ("extract", ("--random_start", "--gymnasium_share", "1")),
    **{name: ("train", ("-o", name)) for name in es.STRATEGIES if name != "cma"},
    **{f"mode {mode}": ("train", ("--controller_mode", mode)) for mode in settings.CONTROLLER_MODES},
}
UNSEEN_SEED, SCORE_SEED = seeds.UNSEEN, seeds.TRIALS
RESULT = {"vae_train": "tf_vae/vae.json", "rnn_train": "tf_rnn/rnn.json"}
HEALTH = "missed", "sharpness", "spread"
COLUMNS = "pixels", "sharpness", "kl", "z_nats", "score", "seconds", "ask_tell_ms"


def main() -> None:
    """Trains what is missing, measures, prints the table, and writes it."""
    parser = cli.OneLineParser(description=__doc__)
    parser.add_argument("--game", choices=("carracing", "doomrnn"), required=True)
    parser.add_argument(
        "--run", required=True, metavar="DIR", help="where the variants are trained, one folder for each"
    )
    parser.add_argument("--preset", choices=("paper", "laptop", "smoke"), default="laptop", help="of all stages")
    for name, least in (("episodes", 2), ("vae_steps", 1), ("rnn_steps", 1), ("generations", 1)):
        parser.add_argument(f"--{name}", type=cli.number(int, least), help="by default those of the preset")
    text = "more flags of train.py for all evolutions, such as --train='-t 32 --num_episode 8'"
    parser.add_argument("--train", type=shlex.split, default=[], metavar="FLAGS", help=text)
    text = "evolutions by each strategy; the other variants have one"
    parser.add_argument("--seeds", type=cli.number(int, 1), default=1, help=text)
    parser.add_argument("--games", type=cli.number(int, 2), default=100, help="real games that score an evolution")
    text = "where controllers evolve; by default where train.py of the game does"
    parser.add_argument("--world", choices=settings.WORLDS, default="", help=text)
    parser.add_argument("--unseen", type=cli.number(int, 1), default=8, help="episodes that the losses are measured on")
    parser.add_argument("--only", default="", help=f"some of: {', '.join(VARIANTS)}; by default all of the game")
    parser.add_argument("--gan_seeds", type=cli.number(int, 1), help="train so many VAE-GANs instead of the variants")
    parser.add_argument("--write", action="store_true", help="write log/<game>.*.json and docs/variants.md")
    arguments = parser.parse_args()
    game = games.find(arguments.game)
    chosen = variants_of(game)
    only = {part.strip() for part in arguments.only.split(",") if part.strip()}
    if not only <= set(chosen):
        raise cli.UserError(f"--only {arguments.only}: {game.title} has {', '.join(chosen)}")
    names = [name for name in chosen if name in only | {"standard"} or not only]
    bench = Bench(game, arguments)
    bench.check(names)
    page, mark = os.path.join(ROOT, "docs", "variants.md"), "gan " * bool(arguments.gan_seeds) + game.name
    if arguments.write:
        running.around(page, mark)
    devices.for_blocks()
    about = {"game": game.name, "budget": {**vars(arguments), "run": None}, **provenance.about_now()}
    if arguments.gan_seeds:
        rows = bench.gan_seeds(arguments.gan_seeds)
        print(seeds_table(rows))
        if arguments.write:
            files.write_json(
                os.path.join(ROOT, "log", f"{game.name}.gan_seeds.json"), about | {"seeds": rows}, indent=1
            )
            running.insert(page, mark, seeds_table(rows))
        return
    figures = {name: bench.figures(name) for name in names}
    print(table(figures))
    if arguments.write:
        path = os.path.join(ROOT, "log", f"{game.name}.variants.json")
        made = running.merged(path, about, figures, chosen)
        files.write_json(path, made, indent=1)
        if any("-o" in VARIANTS[name][1] for name in figures):
            plot(made["figures"], os.path.join(ROOT, "docs", f"variants.{game.name}.png"))
        if "vae-gan" in figures:
            bench.show(os.path.join(ROOT, "docs", f"variants.{game.name}.frames.png"))
        running.insert(page, mark, table(made["figures"]))


def variants_of(game: Game) -> list[str]:
    """The names of the variants that a game has."""
    lacks = {f"mode {game.config.CONTROLLER_MODE}"}  # which is the standard
    if not game.with_fewer_actions:
        lacks.add("two actions")
    if not hasattr(game.config.EXTRACT["laptop"], "random_start"):
        lacks.add("random starts")
    return [name for name in VARIANTS if name not in lacks]


class Bench:
    """Runs the commands and measures their results.

    Args:
        game: Game.
        arguments: the command line.
    """

    def __init__(self, game: Game, arguments: argparse.Namespace) -> None:
        self.game, self.arguments, self.run = game, arguments, os.path.abspath(arguments.run)

    def check(self, names: list[str]) -> None:
        """UserError, or exit code 2, for what a command for these variants would refuse: not after hours of others."""
        unseen, games = self.arguments.unseen, self.arguments.games
        seeds.check(range(UNSEEN_SEED, UNSEEN_SEED + unseen), "training", "--unseen")
        if self.arguments.gan_seeds:  # which play and evolve nothing
            return
        seeds.check(range(SCORE_SEED, SCORE_SEED + games), "validation", "--games")
        for differs, flags in (VARIANTS[name] for name in names):
            self._config(self._evolution(self.run, 0, flags if differs == "train" else ()))

    def _config(self, flags: tuple[Any, ...]) -> Any:
        """What train.py makes of its flags; UserError, or exit code 2, where it would refuse them."""
        words = list(map(str, flags))
        where = cli.OneLineParser(add_help=False)
        where.add_argument("--world", default="")  # it decides which other flags there are
        presets = self.game.train_presets(where.parse_known_args(words)[0].world)
        cfg, _ = cli.check({"train": presets}, words)["train"]
        if cfg.o == "ppo":
            raise cli.UserError("--train '-o ppo': is no evolution strategy; leave it out")
        try:
            evolve.check(self.game, cfg)
        except cli.UserError as error:
            raise cli.UserError(f"train.py: {error}") from None
        return cfg

    def _flags(self, script: str, run: str, *flags: Any) -> tuple[Any, ...]:
        """All flags of a stage: these, the preset, and the budget."""
        budget = {"extract": "episodes", "vae_train": "vae_steps", "rnn_train": "rnn_steps", "train": "generations"}
        value = getattr(self.arguments, budget.get(script, ""), None)
        name = budget.get(script, "").removeprefix("vae_").removeprefix("rnn_")
        own = (f"--{name}", value) if value and f"--{name}" not in flags else ()
        return "--preset", self.arguments.preset, "--run", run, *own, *flags

    def _stage(self, script: str, run: str, *flags: Any) -> None:
        os.makedirs(run, exist_ok=True)
        running.command(self.game, script, *self._flags(script, run, *flags))

    def trained(self, name: str) -> str:
        """Runs the stages of a variant but for the evolution; returns its folder."""
        run, (differs, flags) = os.path.join(self.run, name.replace(" ", "_")), VARIANTS[name]
        for stage in STAGES[:-1]:
            if STAGES.index(stage) < STAGES.index(differs):
                running.share(os.path.join(self.run, "standard"), run, WRITES[stage])
            else:
                self._stage(stage, run, *(flags if stage == differs else ()))
        return run

    def figures(self, name: str) -> dict[str, Any]:
        """All that is measured of a variant."""
        run, (differs, flags) = self.trained(name), VARIANTS[name]
        found: dict[str, Any] = losses(self.game, run, self._unseen(flags if "--actions" in flags else ()))
        found |= {"curves": []}
        returns = []
        for seed in range(self.arguments.seeds if name == "standard" or "-o" in flags else 1):
            best = self._evolved(run, seed, flags if differs == "train" else ())
            returns.append(running.returns(self.game, best, SCORE_SEED, self.arguments.games))
            hist = files.read_json(best.replace(".best.json", ".hist.json"))
            config = files.read_json(best + provenance.ENDING)["config"]
            found["curves"].append([rollouts_of(config, len(hist)).tolist(), [row[2] for row in hist]])
            found["seconds_per_generation"] = round(hist[-1][1] / len(hist), 3)
        found["means"] = np.mean(returns, axis=1).tolist()
        found |= {"score": float(np.mean(returns)), "stderr": running.standard_error(np.array(returns))}
        if name == "standard" or differs == "train":
            popsize, parameters = config["n"] * config["t"], len(files.read_json(best)[0])
            found["ask_tell_ms"] = ask_tell_ms(config["o"], parameters, popsize)
        if differs in RESULT:
            found["seconds"] = files.read_json(os.path.join(run, RESULT[differs]) + provenance.ENDING)["seconds"]
        elif differs == "train":
            found["seconds"] = found["seconds_per_generation"]
        return found

    def _unseen(self, flags: tuple[str, ...] = ()) -> str:
        """Records the episodes that no stage learns from; returns their folder."""
        unseen = os.path.join(self.run, "unseen_two" if flags else "unseen")
        self._stage("extract", unseen, "--first_seed", UNSEEN_SEED, "--episodes", self.arguments.unseen, *flags)
        return os.path.join(unseen, "record")

    def gan_seeds(self, count: int) -> list[dict[str, Any]]:
        """Trains a VAE, and so many VAE-GANs that differ in their seed only; for each what tells of a collapse."""
        standard, unseen, rows = os.path.join(self.run, "standard"), self._unseen(), []
        self._stage("extract", standard)
        for seed in range(count + 1):
            name, flags = (f"seed {seed}", ("--gan", "--seed", seed)) if seed else ("without --gan", ())
            run = os.path.join(self.run, f"gan{seed}" if seed else "short")
            running.share(standard, run, WRITES["extract"])
            try:
                self._stage("vae_train", run, *flags)
                rows.append({"name": name} | health(run, unseen, self.game.config.TRAINED["vae"]))
            except running.NotFinite as error:  # the other seeds go on
                print(f"{name}: {error}", file=sys.stderr)
                rows.append({"name": name, "collapsed": True})
        return rows

    def _evolution(self, run: str, seed: int, flags: tuple[str, ...]) -> tuple[Any, ...]:
        """The flags of train.py."""
        world = self.arguments.world
        # in a subspace, as some presets do, the strategies and modes would hardly differ
        everywhere = ("--world", world, "--directions", 0) if world else ()
        return self._flags("train", run, "-s", seed, *everywhere, *self.arguments.train, *flags)

    def _evolved(self, run: str, seed: int, flags: tuple[str, ...]) -> str:
        """Evolves a controller on the models of a variant; returns the path of its best mean."""
        evolved = os.path.join(run, f"evolved{seed}{self.arguments.world}")
        running.share(run, evolved, [part for parts in WRITES.values() for part in parts])
        words = self._evolution(evolved, seed, flags)
        running.command(self.game, "train", *words)
        cfg = self._config(words)  # another start, with other flags, has files of another name in the same folder
        base = f"{self.game.log_name(cfg.world)}.{cfg.o}.{cfg.num_episode}.{cfg.n * cfg.t}"
        return os.path.join(evolved, "log", f"{base}.best.json")

    def show(self, path: str, count: int = 10) -> None:
        """Writes unseen frames as the game shows them, and below as the VAE and as the VAE-GAN reconstruct them."""
        episodes = [recordings.read(file)["obs"] for file in recordings.scan(f"{self.run}/unseen/record")[0]]
        frames = np.concatenate(episodes)
        frames = frames[np.linspace(0, len(frames) - 1, count).astype(int)]
        rows = [frames / np.float32(255)]
        for name in ("standard", "vae-gan"):
            model = weights.read_vae(os.path.join(self.run, name, self.game.config.TRAINED["vae"]))
            rows.append(model.decode(model.encode(frames)[0]).numpy())
        picture = np.concatenate([np.concatenate(row, axis=1) for row in rows])
        with files.atomic(path) as file:
            Image.fromarray(np.rint(255 * picture).astype(np.uint8)).save(file, format="png")


def health(run: str, record: str, vae_path: str) -> dict[str, Any]:
    """What tells of the collapse of a VAE-GAN, on the recordings of a folder: see the head of this file."""
    model = weights.read_vae(os.path.join(run, vae_path))
    episodes = [recordings.read(file)["obs"] for file in recordings.scan(record)[0]]
    frames = np.concatenate(episodes) / np.float32(255)
    made = np.concatenate([model.decode(model.encode(each)[0]).numpy() for each in episodes])
    variance = frames.var(axis=0).mean()
    values = (
        ((frames - made) ** 2).mean() / variance,
        sharpness(made) / sharpness(frames),
        made.var(axis=0).mean() / variance,
    )
    found = dict(zip(HEALTH, map(float, values), strict=True))
    return found | {"collapsed": collapsed(**found)}


def collapsed(missed: float, sharpness: float, spread: float) -> bool:
    """See the head of this file."""
    return not (missed < 1 and sharpness <= 4 and spread >= 0.1)


def seeds_table(rows: list[dict[str, Any]]) -> str:
    """What `Bench.gan_seeds` returns as a table of Markdown."""
    lines = ["| VAE-GAN | " + " | ".join(HEALTH) + " | collapsed |", "|---" * (2 + len(HEALTH)) + "|"]
    for row in rows:
        cells = [f"{row[key]:.3g}" if key in row else "" for key in HEALTH]
        lines.append(" | ".join([f"| {row['name']}", *cells, "yes |" if row["collapsed"] else "no |"]))
    return "\n".join(lines)


def losses(game: Game, run: str, record: str) -> dict[str, float]:
    """The VAE and the MDN-RNN of a run, on the recordings of a folder: see the head of this file."""
    paths = {name: os.path.join(run, game.config.TRAINED[name]) for name in models.NAMES}
    loaded, rng = models.load(game, paths), np.random.default_rng(0)
    rows = []
    for path in recordings.scan(record)[0]:
        episode = recordings.read(path)
        action = episode["action"].reshape(1, len(episode["obs"]), -1)
        mu, logvar = (part.numpy() for part in loaded.vae.encode(episode["obs"]))
        frames, made = episode["obs"] / np.float32(255), loaded.vae.decode(mu).numpy()
        noise = rng.standard_normal((1, *mu.shape), np.float32)
        first = (np.arange(len(mu)) == 0).astype(np.float32)[None]
        batch = mu[None], logvar[None], action, first, np.ones(1, np.float32)
        z_nats, *_ = mdnrnn.losses_of(loaded.rnn, batch, loaded.rnn.initial_state(1), noise, 1.0)
        pixels = np.sum((frames - made) ** 2, axis=(1, 2, 3)).mean()
        kl = vae.kl_to_standard_normal(mu, logvar).numpy().mean()
        rows.append([pixels, sharpness(made) / sharpness(frames), kl, float(z_nats)])
    return dict(zip(COLUMNS, map(float, np.mean(rows, axis=0)), strict=False))


def rollouts_of(config: dict[str, Any], generations: int) -> np.ndarray:
    """Episodes that candidates have played after each generation, int [generations], by the config of an evolution."""
    cfg = types.SimpleNamespace(**{"fewer_episodes": "", **config})
    episodes = map(evolve.episodes_by_generation(cfg), range(1, generations + 1))
    return np.cumsum([cfg.n * cfg.t * each for each in episodes])


def ask_tell_ms(name: str, parameters: int, popsize: int, generations: int = 20) -> float:
    """Milliseconds of ask and tell in a generation of an evolution strategy, the mean over some after the first."""
    rate = (1.0,) if name == "openes" else ()
    strategy, rng = es.STRATEGIES[name](np.zeros(parameters), popsize, 0.1, 0, *rate), np.random.default_rng(0)
    for generation in range(generations + 1):
        if generation == 1:
            began = time.perf_counter()
        strategy.ask()
        strategy.tell(rng.standard_normal(popsize))
    return 1000 * (time.perf_counter() - began) / generations


def sharpness(frames: np.ndarray) -> float:
    """Gradient energy: the mean squared difference of neighboring pixels of frames, float [N, H, W, 3]."""
    return float(np.mean(np.diff(frames, axis=1) ** 2) + np.mean(np.diff(frames, axis=2) ** 2))


def table(figures: dict[str, dict[str, Any]]) -> str:
    """The figures of all variants as a table of Markdown."""
    lines = ["| variant | " + " | ".join(COLUMNS) + " |", "|---" * (1 + len(COLUMNS)) + "|"]
    for name, found in figures.items():
        cells = [f"{found[key]:.4g}" if found.get(key) is not None else "" for key in COLUMNS]
        if found.get("stderr") is not None:
            cells[COLUMNS.index("score")] += f" ± {found['stderr']:.2g}"
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot(figures: dict[str, dict[str, Any]], path: str) -> None:
    """Draws the mean fitness of the population against the rollouts so far, a line for each evolution."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4))
    for k, (name, found) in enumerate(figures.items()):
        if "-o" in VARIANTS[name][1] or name == "standard":
            for s, curve in enumerate(found["curves"]):
                axes.plot(*curve, color=f"C{k}", label=None if s else name.replace("standard", "cma"))
    axes.set(xlabel="rollouts", ylabel="mean return of the population")
    axes.legend()
    with files.atomic(path) as file:
        figure.savefig(file, format="png", dpi=100, bbox_inches="tight")
    pyplot.close(figure)


if __name__ == "__main__":
    cli.run_main(main)
