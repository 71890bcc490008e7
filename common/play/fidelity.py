"""How faithful a dream is: scores of an agent in it and in the real game, and whether it ends or pays as the game does.

Real games are validation games. The dream has temperature 1, the distribution as the MDN-RNN predicts it.

Where the MDN-RNN predicts the end (Doom), deaths are counted in both, and how many of them are predicted. The ends of
dreams are drawn with the probability that the MDN-RNN gives them, if the weight of restarts in its loss is known. By
the threshold of the authors' code, deaths of small probability would never happen in it.

Where its heads expect the reward (CarRacing), it dreams on from shortly before the game stops paying, with the actions
that were played: does the dream stop paying as well?
"""

import functools
import itertools
import json
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from common.agent import mdnrnn
from common.game import Game
from common.play import agents, play
from common.protocols import Seeds
from common.runtime import cli, devices, files, provenance, seeds
from common.runtime.cli import UserError
from common.runtime.settings import Pay
from common.worlds import dream, rollouts
from common.worlds.encoded import EncodedGames

FIRST_SEED = seeds.FIDELITY  # of the real validation games, and of the dreams
AGES = (0, 200, 400, 600, 1000, 1500)  # steps; deaths are counted between one and the next, or the end of the time
FALSE_ALARMS = 0.003  # share of the steps without a death; the recall of deaths is given at this rate
LOGITS = (-6, -4, -2, 0, 2)  # of the restart flag; steps and deaths are counted below, between and above them
LEAD, FOLLOWED, PART = 10, 60, 10  # steps: dreamt on from so long before it, for so many, paid per so many


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


class Paid:
    """Games that note what every episode was paid, and what the MDN-RNN remembered.

    Args:
        world: the games.
    """

    def __init__(self, world: EncodedGames) -> None:
        self._world = world
        self.steps: list[tuple[np.ndarray, ...]] = []
        """of each step: (episode int, z, h, c, action, reward, done), each [B, ...]; z, h and c of before it"""

    def reset(self, seeds: Seeds) -> Any:
        """Starts one episode per seed."""
        self._live = np.asarray(seeds)
        return self._world.reset(seeds)

    def step(self, action: ArrayLike) -> tuple[Any, np.ndarray, np.ndarray]:
        """Plays a step of every row."""
        before = (np.asarray(part) for part in self._world.state)
        state, reward, done = self._world.step(action)
        self.steps.append((self._live, *before, np.asarray(action, np.float32), reward, done))
        self._live = self._live[~done]
        return state, reward, done

    def episodes(self) -> list[tuple[np.ndarray, ...]]:
        """(z [T, Z], h [T, H], c [T, H], action [T, A], reward [T]) of each episode."""
        which, *parts = (np.concatenate(part) for part in zip(*self.steps, strict=True))
        return [tuple(part[which == one] for part in parts[:-1]) for one in np.unique(which)]


def main(game: Game, description: str | None) -> None:
    """fidelity.py of a game."""
    parser = cli.OneLineParser(description=description)
    parser.add_argument("file", metavar="FILE", help="the .json of a controller")
    parser.add_argument("--games", type=cli.number(int, 10), default=100, help="real validation games to play")
    parser.add_argument("--dreams", type=cli.number(int, 10), default=512, help="dreams to play")
    parser.add_argument("--out", type=cli.new_file, metavar="FILE", help="write the figures here, as JSON")
    play.add_backend(parser, game)
    play.add_run(parser, "tf_*/ and log/")
    arguments = parser.parse_args()
    arguments.backend = game.backend_here(arguments.backend)
    played, dreamt_of = (range(FIRST_SEED, FIRST_SEED + count) for count in (arguments.games, arguments.dreams))
    seeds.check(played, "validation", "--games")
    seeds.check(dreamt_of, "validation", "--dreams")
    devices.for_blocks()
    agent = agents.load(game, arguments)
    compare = _deaths if game.config.RESTART else _payment
    found = compare(game, agent, arguments.backend, np.array(played), np.array(dreamt_of))
    found["real"] |= {"backend": arguments.backend, "first_seed": played.start}
    print(json.dumps(found), flush=True)  # before it is written: a full disk leaves it on the screen
    if arguments.out:
        files.write_json(arguments.out, found | agent.about() | provenance.about_now(), indent=1)


def _deaths(game: Game, agent: Any, backend: str, played: np.ndarray, dreamt_of: np.ndarray) -> dict[str, Any]:
    """Lengths and deaths in games and dreams of these seeds, and which deaths are predicted."""
    most = game.config.MAX_STEPS
    watched: list[Watched] = []

    def make_world(rows: int) -> Watched:
        watched.append(Watched(agent.world(game.real_games(rows, backend)), most))
        return watched[-1]

    _, real = play.measure(make_world, agent.policy, played)
    logits = np.concatenate([row for world in watched for row in world.logits])
    died = np.concatenate([row for world in watched for row in world.died])
    weight = agent.models.restart_weight
    dreaming = functools.partial(play.dreams, game, agent.models, 1.0, weight)
    _, dreamt = play.measure(lambda _: dreaming(), agent.policy, dreamt_of, rows=256)
    return {
        "ends": "drawn" if weight else "threshold",
        "real": summary(real, most),
        "dream": summary(dreamt, most),
        "recall": recall(logits, died),
        "false_alarms": FALSE_ALARMS,
        "by_logit": by_logit(logits, died, weight),
    }


def _payment(game: Game, agent: Any, backend: str, played: np.ndarray, dreamt_of: np.ndarray) -> dict[str, Any]:
    """Returns in games and dreams of these seeds, and what the dream pays where the game stops paying.

    Raises:
        UserError: the MDN-RNN has no heads.
    """
    rnn = agent.models.rnn
    if not hasattr(game.config, "STOPS_PAYING"):
        raise UserError(f"{game.title}: has no STOPS_PAYING in its config.py, which says when a game stops paying")
    if not rnn.shape.heads:
        raise UserError(
            f"{agent.models.paths['rnn']}: expects no reward (it has no heads), so its dream pays nothing; train one "
            "that does with: python rnn_train.py --heads"
        )
    watched: list[Paid] = []

    def make_world(rows: int) -> Paid:
        watched.append(Paid(agent.world(game.real_games(rows, backend))))
        return watched[-1]

    real, _ = play.measure(make_world, agent.policy, played)
    episodes = [episode for world in watched for episode in world.episodes()]
    dreamt, _ = play.measure(lambda _: play.dreams(game, agent.models, 1.0), agent.policy, dreamt_of, rows=256)
    return {
        "real": _score(real),
        "dream": _score(dreamt),
        "where_it_stops_paying": where_it_stops_paying(rnn, episodes, game.pay, game.config.STOPS_PAYING),
    }


def _score(returns: np.ndarray) -> dict[str, Any]:
    scores = rollouts.summary(range(len(returns)), returns, np.zeros(len(returns), int))
    return {name: scores[name] for name in ("mean", "stderr", "n")}


def where_it_stops_paying(
    rnn: mdnrnn.MDNRNN,
    episodes: list[tuple[np.ndarray, ...]],
    pay: Pay,
    stops: tuple[int, float, float],
    seed: int = 0,
) -> dict[str, Any]:
    """What game, MDN-RNN and dream pay from LEAD steps before a game stops paying.

    Args:
        rnn: an MDN-RNN with heads.
        episodes: of each, (z [T, Z], h [T, H], c [T, H], action [T, A], reward [T]), see Paid.
        pay: of the game; rewards are clipped to its range.
        stops: when a game stops paying, STOPS_PAYING of its config.
        seed: of the noise of the dreams.

    Returns:
        {"games": episodes that stop paying, "of": all episodes, and, for each part of PART steps, the mean pay
        "game": of the game, "expected": by the MDN-RNN that is shown the frames, "dreamt": in the dream that goes on
        with the same actions}; these lists are empty if no game stops paying.
    """
    chosen = []
    for z, h, c, action, reward in episodes:
        stop = _stop(reward, *stops)
        if stop is not None:
            steps = slice(stop - LEAD, stop - LEAD + FOLLOWED + 1)
            chosen.append([part[steps] for part in (z, h, c, action, reward)])
    found: dict[str, Any] = {"games": len(chosen), "of": len(episodes), "game": [], "expected": [], "dreamt": []}
    if not chosen:
        return found
    z, h, c, action, reward = (np.stack(part, axis=1) for part in zip(*chosen, strict=True))  # [FOLLOWED + 1, E, ...]
    weights, rng, restart = rnn.prepared(), np.random.default_rng([seed, 13]), tf.zeros([len(chosen)])
    step = tf.function(lambda state, action, *noise: dream.next_of(rnn, weights, state, restart, action, *noise))

    def expected(hidden: Any) -> np.ndarray:
        return np.clip(rnn.expect(weights, tf.constant(hidden)).reward.numpy(), pay.least, pay.most)

    state = tuple(tf.constant(part[0]) for part in (z, h, c))
    for t in range(FOLLOWED):
        uniform, normal = rng.random(z[t].shape, np.float32), rng.standard_normal(z[t].shape, np.float32)
        *state, _ = step(tuple(state), tf.constant(action[t]), tf.constant(uniform), tf.constant(normal), 1.0)
        found["game"].append(np.clip(reward[t], pay.least, pay.most))
        found["expected"].append(expected(h[t + 1]))
        found["dreamt"].append(expected(state[1]))
    for name in ("game", "expected", "dreamt"):
        parts = np.mean(found[name], axis=1).reshape(-1, PART).sum(axis=1)
        found[name] = [round(float(part), 2) for part in parts]
    return found


def _stop(reward: np.ndarray, span: int, much: float, little: float) -> int | None:
    """The first step after `span` steps that paid more than `much`, and before `span` that pay less than `little`."""
    total = np.concatenate([[0.0], np.cumsum(np.clip(reward, -1, None))])
    for t in range(span, len(reward) - span):
        if total[t] - total[t - span] > much and total[t + span] - total[t] < little:
            return t
    return None


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


def by_logit(logits: np.ndarray, died: np.ndarray, weight: float) -> list[dict[str, Any]]:
    """Steps and deaths by the restart logit, and the deaths to expect by the probability that the MDN-RNN gives them.

    Args:
        logits: [N] float, see `recall`.
        died: [N] bool, see `recall`.
        weight: of the restarts in the loss of the MDN-RNN, see mdnrnn.drawn_bar; 0 if it is not known.

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
