"""How faithful a dream is: scores and deaths of an agent in it and in the real game, and how many deaths are predicted.

Real games are validation games. The dream has temperature 1, the distribution as the MDN-RNN predicts it. Its ends are
drawn with the probability that the MDN-RNN gives them, if the weight of restarts in its loss is known. By the threshold
of the authors' code, deaths of small probability would never happen in it.
"""

import functools
import itertools
import json
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from common.game import Game
from common.play import agents, play
from common.protocols import Seeds
from common.runtime import cli, devices, files, provenance, seeds
from common.worlds import rollouts
from common.worlds.encoded import EncodedGames

FIRST_SEED = 440_000  # of the real validation games, and of the dreams
AGES = (0, 200, 400, 600, 1000, 1500)  # steps; deaths are counted between one and the next, or the end of the time
FALSE_ALARMS = 0.003  # share of the steps without a death; the recall of deaths is given at this rate
LOGITS = (-6, -4, -2, 0, 2)  # of the restart flag; steps and deaths are counted below, between and above them


class Watched:
    """Games that note the restart logit of the MDN-RNN for every step.

    Args:
        world: the games.
        most: steps after which an episode ends without a death.
    """

    def __init__(self, world: EncodedGames, most: int) -> None:
        self._world, self._most, self._weights = world, most, world.rnn.prepared()
        self.logits: list[np.ndarray] = []
        """[B] float32 for each step"""
        self.died: list[np.ndarray] = []
        """[B] bool for each step"""

    def reset(self, seeds: Seeds) -> Any:
        """Starts one episode per seed."""
        self._steps = 0
        return self._world.reset(seeds)

    def step(self, action: ArrayLike) -> tuple[Any, np.ndarray, np.ndarray]:
        """Plays a step of every row."""
        state, reward, done = self._world.step(action)
        _, logit = self._world.rnn.predict(self._weights, self._world.hidden)
        assert logit is not None
        self._steps += 1
        self.logits.append(logit.numpy())
        self.died.append(done & (self._steps < self._most))
        return state, reward, done


def main(game: Game, description: str | None) -> None:
    """fidelity.py of the games in which the MDN-RNN predicts the end."""
    parser = cli.OneLineParser(description=description)
    parser.add_argument("file", metavar="FILE", help="the .json of a controller")
    parser.add_argument("--games", type=cli.number(int, 10), default=100, help="real validation games to play")
    parser.add_argument("--dreams", type=cli.number(int, 10), default=512, help="dreams to play")
    parser.add_argument("--out", type=cli.new_file, metavar="FILE", help="write the figures here, as JSON")
    play.add_run(parser, "tf_*/ and log/")
    arguments = parser.parse_args()
    played, dreamt_of = (range(FIRST_SEED, FIRST_SEED + count) for count in (arguments.games, arguments.dreams))
    seeds.check(played, "validation", "--games")
    seeds.check(dreamt_of, "validation", "--dreams")
    devices.for_blocks()
    agent = agents.load(game, arguments)
    most = game.config.MAX_STEPS
    watched: list[Watched] = []

    def make_world(rows: int) -> Watched:
        watched.append(Watched(agent.world(game.real_games(rows)), most))
        return watched[-1]

    _, real = play.measure(make_world, agent.policy, np.array(played))
    logits = np.concatenate([row for world in watched for row in world.logits])
    died = np.concatenate([row for world in watched for row in world.died])
    dreams = np.array(dreamt_of)
    weight = agent.models.metas["rnn"]["config"].get("restart_weight")
    dreaming = functools.partial(play.dreams, game, agent.models, 1.0, weight or 0.0)
    _, dreamt = play.measure(lambda _: dreaming(), agent.policy, dreams, rows=256)
    found = {
        "ends": "drawn" if weight else "threshold",
        "real": summary(real, most),
        "dream": summary(dreamt, most),
        "recall": recall(logits, died),
        "false_alarms": FALSE_ALARMS,
        "by_logit": by_logit(logits, died, weight),
    }
    if arguments.out:
        files.write_json(arguments.out, found | agent.about() | provenance.about_now(), indent=1)
    print(json.dumps(found))


def summary(lengths: np.ndarray, most: int) -> dict[str, Any]:
    """Mean length with its standard error, and deaths per 1,000 steps by age.

    Args:
        lengths: [E] int, of episodes.
        most: steps after which an episode ends without a death.
    """
    scores = rollouts.summary(range(len(lengths)), lengths, lengths)
    rates: dict[str, float | None] = {}
    for low, high in itertools.pairwise((*(age for age in AGES if age < most), most)):
        steps = np.clip(lengths - low, 0, high - low).sum()
        deaths = ((lengths > low) & (lengths <= high) & (lengths < most)).sum()
        rates[f"{low}-{high}"] = round(1000 * deaths / steps, 2) if steps else None
    return {"mean": scores["mean"], "stderr": scores["stderr"], "n": len(lengths), "deaths_per_1000_steps": rates}


def by_logit(logits: np.ndarray, died: np.ndarray, weight: float | None) -> list[dict[str, Any]]:
    """Steps and deaths by the restart logit, and the deaths to expect by the probability that the MDN-RNN gives them.

    Args:
        logits: [N] float, see `recall`.
        died: [N] bool, see `recall`.
        weight: of the restarts in the loss of the MDN-RNN, see mdnrnn.drawn_bar; None if it is not known.

    Returns:
        {"from", "to", "steps", "deaths", "expected"} for each span of logits; None is no bound, or not known.
    """
    span = np.digitize(logits, LOGITS)
    rows: list[dict[str, Any]] = []
    for k, (low, high) in enumerate(itertools.pairwise((None, *LOGITS, None))):
        there = logits[span == k].astype(np.float64)
        expected = round(float(np.sum(1 / (1 + weight * np.exp(-there)))), 1) if weight else None
        steps, deaths = len(there), int(died[span == k].sum())
        rows.append({"from": low, "to": high, "steps": steps, "deaths": deaths, "expected": expected})
    return rows


def recall(logits: np.ndarray, died: np.ndarray) -> float | None:
    """Share of the deaths with a restart logit above that of all but FALSE_ALARMS of the other steps.

    Args:
        logits: [N] float, of the restart flag after each step.
        died: [N] bool, whether the player died in the step.
    """
    if not died.any():
        return None
    threshold = np.quantile(logits[~died], 1 - FALSE_ALARMS)
    return float((logits[died] > threshold).mean())
