"""Chooses among the means that evolutions evaluated by playing the real game, on validation seeds.

The score in the dream still rises when the real one does not, so the dream cannot choose the mean to keep.
"""

import argparse
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from common.agent import controller, models
from common.game import Game
from common.play import agents, play
from common.runtime import cli, devices, files, provenance, seeds
from common.runtime.cli import UserError
from common.worlds import rollouts

Row = tuple[int, float, np.ndarray]
"""generation, score in the evolution, parameters"""


class Evolution(NamedTuple):
    """An evolution that takes part in the choice: its .log.json, the meta of that file, and the models it used."""

    path: str
    meta: dict[str, Any]
    loaded: models.Models
    sha256: str
    """of the file as it was read: the evolution may go on"""


class Mean(NamedTuple):
    """A mean that an evolution evaluated."""

    of: Evolution
    generation: int
    evolved: float
    """score in the evolution"""
    parameters: np.ndarray


def main(game: Game, description: str | None) -> None:
    """pick_best.py of every game."""
    arguments = _parse(game, description)
    arguments.backend = game.backend_here(arguments.backend)
    episodes = arguments.episodes + arguments.final_episodes
    played = range(seeds.REAL_GAMES, seeds.REAL_GAMES + episodes)
    seeds.check(played, "validation", "--episodes and --final_episodes")
    first, more = np.split(np.array(played), [arguments.episodes])
    if not os.path.isdir(arguments.run):
        raise UserError(f"--run {arguments.run}: no such folder")
    hashes: dict[str, str] = {}
    rows: dict[str, list[Row]] = {agents.find(file, arguments.run): [] for file in arguments.files}
    for path in rows:
        if not path.endswith(".log.json"):
            raise UserError(f"{path}: give the .log.json of an evolution")
        hashes[path] = files.sha256(path)
        rows[path] = [row for row in read_log(path) if row[0] >= arguments.from_generation]
        if not rows[path]:
            raise UserError(f"{path}: no mean was evaluated in generation {arguments.from_generation} or later")
    devices.for_blocks()
    evolutions = [
        Evolution(path, *agents.on_its_models(game, path, "evolution", arguments), hashes[path]) for path in rows
    ]
    means = [Mean(one, *row) for one in evolutions for row in rows[one.path]]
    for mean in means:  # before the first is played
        agents.acting(game, *mean.of[:3], mean.parameters)

    def score(mean: Mean, episodes: np.ndarray) -> np.ndarray:
        agent = agents.acting(game, *mean.of[:3], mean.parameters)
        returns, _ = play.measure(
            lambda rows: agent.world(game.real_games(rows, arguments.backend)), agent.policy, episodes
        )
        return returns

    rounds, best = select(means, score, first, more, arguments.finalists)
    base = os.path.join(arguments.run, "log", os.path.basename(evolutions[0].path).removesuffix("log.json"))
    about: dict[str, Any] = {
        "evolutions": [
            {"path": agents.name_of(one.path), "sha256": one.sha256, "models": one.loaded.hashes} for one in evolutions
        ],
        "backend": arguments.backend,
        "seeds": [played[0], played[-1]],
        "means": rounds,
        "best": rounds[best],
    }
    unverified = any(one.loaded.unverified or provenance.any_unverified(one.meta) for one in evolutions)
    about |= {"unverified": True} if unverified else {}
    files.write_json(base + "validation.json", about | provenance.about_now(), indent=1)
    _write_controller(game, base + "picked.json", means[best], rounds[best], unverified)
    print(f"{base}picked.json: {_words(means[best], rounds[best])}")


def _parse(game: Game, description: str | None) -> argparse.Namespace:
    parser = cli.OneLineParser(description=description)
    text = "the .log.json of an evolution; the best of several is written where that of the first would be"
    parser.add_argument("files", nargs="+", metavar="FILE", help=text)
    parser.add_argument("--episodes", type=cli.number(int, 1), default=100, help="games per mean in the first round")
    parser.add_argument("--finalists", type=cli.number(int, 1), default=3, help="means that play a second round")
    parser.add_argument(
        "--final_episodes", type=cli.number(int, 0), default=400, help="games per mean in the second round"
    )
    parser.add_argument("--from_generation", type=cli.number(int, 0), default=0, help="leave the means before it out")
    play.add_backend(parser, game)
    play.add_run(parser, "tf_*/ and log/")
    return parser.parse_args()


def select(
    means: list[Mean],
    score: Callable[[Mean, np.ndarray], np.ndarray],
    first: np.ndarray,
    more: np.ndarray,
    finalists: int,
) -> tuple[list[dict[str, Any]], int]:
    """Plays every mean on the first seeds, and the few best on more.

    Args:
        means: of the evolutions.
        score: (mean, seeds [E]) -> returns [E].
        first: int [E], the seeds of the first round.
        more: int [E], those of the second; may be empty.
        finalists: how many play the second round.

    Returns:
        ({path, generation, evolved, mean, stderr, n} of every mean over all its games, index of the best finalist).
    """
    returns, rounds = [], []
    for mean in means:
        returns.append(score(mean, first))
        rounds.append(_summary(mean, returns[-1]))
        print(f"{_words(mean, rounds[-1])}; {mean.evolved:.1f} in the evolution", flush=True)

    def rank(k: int) -> float:  # a score that is not finite is worse than all others
        mean = rounds[k]["mean"]
        return mean if np.isfinite(mean) else -np.inf

    ranked = sorted(range(len(means)), key=rank, reverse=True)[:finalists]
    for k in ranked if len(more) else ():
        rounds[k] = _summary(means[k], np.concatenate([returns[k], score(means[k], more)]))
        print(f"second round: {_words(means[k], rounds[k])}", flush=True)
    return rounds, max(ranked, key=rank)


def _summary(mean: Mean, returns: np.ndarray) -> dict[str, Any]:
    scores = rollouts.summary(range(len(returns)), returns, np.zeros(len(returns)))
    return (
        {"path": agents.name_of(mean.of.path), "generation": mean.generation, "evolved": mean.evolved}
        | {key: float(scores[key]) for key in ("mean", "stderr")}
        | {"n": len(returns)}
    )


def _words(mean: Mean, row: dict[str, Any]) -> str:
    of = f"{mean.of.path}, generation {mean.generation}"
    return f"{of}: game {row['mean']:.1f} ± {row['stderr']:.1f} (standard error, {row['n']} games)"


def _write_controller(game: Game, path: str, mean: Mean, row: dict[str, Any], unverified: bool) -> None:
    """Writes the chosen controller, with a meta that says where its score is from."""
    (_, meta, loaded, sha256), generation, evolved, parameters = mean
    provenance.forget(path)
    controller.write(path, parameters, row["mean"])
    score = {"of": "game"} | {key: row[key] for key in ("mean", "stderr", "n")} | {"first_seed": seeds.REAL_GAMES}
    parents = meta["parents"] | loaded.hashes | {"evolution": sha256}
    in_evolution = {meta["score"]["of"]: evolved} if meta.get("score", {}).get("of") == "dream" else {}
    provenance.write(
        path,
        "controller",
        game.name,
        meta["config"],
        parents,
        meta.get("seconds", 0.0),
        unverified=unverified,
        generation=generation,
        score=score,
        **in_evolution,
    )


def read_log(path: str) -> list[Row]:
    """[(generation, score, float64 [N] parameters)] of the means that an evolution evaluated, from <base>.log.json.

    Raises:
        UserError: it is damaged, or not such a file.
    """
    try:
        return [
            (int(generation), float(score), np.array(mean, float))
            for generation, score, mean, *_ in files.read_json(path)
        ]
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: not an evolution's .log.json ({error})") from None
