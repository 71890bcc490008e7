"""The agent that plans, and how planet.py plays it."""

import argparse
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from common.agent import planet, rssm
from common.agent.planner import Planner, Search
from common.game import Game
from common.play import agents, play, video
from common.protocols import Policy, World
from common.runtime import cli, devices, files, provenance, settings
from common.worlds import games
from common.worlds.believed import BelievedGames, Planning

BUDGET = "horizon", "iterations", "candidates", "elite"  # of the planner, which may differ from that of the training


@dataclasses.dataclass(frozen=True)
class Agent:
    """An RSSM, and how to plan in it."""

    game: Game
    model: rssm.RSSM
    search: Search
    action_repeat: int
    path: str = ""
    meta: dict[str, Any] = dataclasses.field(default_factory=dict)

    def planner(self, seed: int = 0) -> Planner:
        """A planner within the range of the game's actions."""
        low, high = planet.range_of(self.game)
        return Planner(self.model, self.search, low, high, seed)

    def policy(
        self, planner: Planner, seeds: Sequence[int] | np.ndarray, noise: float = 0.0, seed_offset: int = 0
    ) -> Policy:
        """A policy in which it plays all of these episodes; `noise` and `seed_offset` as in believed.Planning."""
        return Planning(planner, seeds, noise, seed_offset)

    def world(self, played: World) -> BelievedGames:
        """Games as it believes them to be; a step is `action_repeat` of theirs."""
        return BelievedGames(games.Repeated(played, self.action_repeat), self.model)


def load(game: Game, run: str, unverified: bool = False) -> Agent:
    """The agent of a run, or the one that ships."""
    path, meta = planet.find(game, run, unverified)
    return Agent(game, *planet.read(path, game), path, meta)


def main(game: Game, description: str | None, arguments: Sequence[str] | None = None) -> None:
    """planet.py norender and render: scores the agent over many episodes, or shows one."""
    parsed = _parse(game, description, arguments)
    parsed.backend = game.backend_here(parsed.backend)
    devices.for_blocks()
    agent = load(game, parsed.run, parsed.unverified)
    budget = {name: getattr(parsed, name) for name in BUDGET}
    search = dataclasses.replace(agent.search, **{name: value for name, value in budget.items() if value is not None})
    planet.check_search(search)
    agent = dataclasses.replace(agent, search=search)

    def make_world(rows: int) -> BelievedGames:
        return agent.world(game.real_games(rows, parsed.backend))

    planner = agent.planner()
    if parsed.mode == "norender":
        episodes, sha256 = np.arange(parsed.seed, parsed.seed + parsed.episodes), files.sha256(agent.path)
        returns, lengths = play.measure(make_world, lambda block: agent.policy(planner, block), episodes)
        about = {"game": game.name, "seed": parsed.seed, "backend": parsed.backend}
        about |= {"rssm": {"path": agents.name_of(agent.path), "sha256": sha256}}
        about |= {"planner": dataclasses.asdict(search), "action_repeat": agent.action_repeat}
        about |= {"length_unit": f"{agent.action_repeat} steps of the game"} | (
            {"unverified": True} if provenance.any_unverified(agent.meta) else {}
        )
        play.report(parsed, episodes, returns, lengths, **about)
        return
    world = make_world(1)

    def picture(state: rssm.State) -> np.ndarray:
        return video.panels(world.frames[0], agent.model.decode(state)[0] + 0.5)

    fps = max(1, game.config.FPS // agent.action_repeat)
    with video.screen(f"{game.title}, planned", fps, parsed.video, f"{game.name}.planet.mp4") as screen:
        reward, _ = play.watch(world, agent.policy(planner, [parsed.seed]), parsed.seed, screen, picture)
    print(f"seed {parsed.seed} reward {reward:.1f}")


def _parse(game: Game, description: str | None, arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.OneLineParser(description=description)
    parser.add_argument("mode", choices=["render", "norender"], help="watch one episode, or score many")
    play.add_seed(parser)
    play.add_scoring(parser, game)
    for name in BUDGET:
        text = "of the planner; by default as it was trained"
        most = settings.Planet.__dataclass_fields__[name].metadata["most"]
        parser.add_argument(f"--{name}", type=cli.number(int, 1, most), metavar="N", help=text)
    play.add_run(parser, f"{planet.FOLDER}/")
    parsed = parser.parse_args(arguments)
    play.check_mode(parsed)
    play.check_seeds(parsed)
    return parsed
