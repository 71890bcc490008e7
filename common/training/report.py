"""What iterate.py says of a round: its line in rounds.json, and that line in words and in a picture."""

import math
import os
from typing import Any

from common.game import Game
from common.runtime import files, provenance, seeds
from common.training import layout
from common.training.layout import Paths
from common.training.plan import Plan
from common.training.state import State

FORESEEN = 0.5  # share of the deaths; if fewer are foreseen, the VAE does not show what kills
SURPRISED = 1.5  # times as many deaths as the MDN-RNN expects
LOST = 0.1  # of what a game paid before it stopped; a dream that pays so much more afterwards is none of that game


def line(number: int, plan: Plan, paths: Paths, state: State) -> dict[str, Any]:
    """The line of a round in rounds.json.

    Args:
        number: of the round, of which all stages are done.
        plan: the rounds of the run.
        paths: where its files lie.
        state: what its stages took, and which controller is that of the round.

    Raises:
        UserError: a file is gone or damaged, or does not match its meta.
    """
    folder = paths.round(number)
    seconds = {name: round(time, 1) for name, time in state.seconds.items()}
    rounds = plan.rounds[:number]
    found = {
        "round": number,
        "minutes": round(sum(time for name, time in seconds.items() if int(name.split("/")[0]) <= number) / 60, 1),
        "random_games": sum(one.random for one in rounds),
        "own_games": sum(one.own for one in rounds),
        **scored(plan.game, state.controller(number), os.path.join(folder, "scores.json")),
        "seconds": _of_round(number, seconds),
        "memory_gb": {name: most for name, most in _of_round(number, state.memory_gb).items() if most},
    }
    if state.aside_minutes:  # of rounds that were edited and played anew
        found["aside_minutes"] = state.aside_minutes
    fidelity = os.path.join(folder, "fidelity.json")
    return found | ({"fidelity": layout.made(fidelity)} if os.path.exists(fidelity) else {})


def scored(game: Game, controller: str, scores: str) -> dict[str, Any]:
    """What rounds.json says of a controller: its dream score, its real score and its hash.

    Args:
        game: what it plays.
        controller: its file.
        scores: the file of its scores in the real game, which model.py wrote.

    Raises:
        UserError: a file is gone or damaged, or does not match its meta.
    """
    meta, real = provenance.read(controller, "controller", game.name), layout.made(scores)
    return {
        "dream": meta.get("dream", meta["score"]["mean"] if meta.get("score", {}).get("of") == "dream" else None),
        "real": {key: real[key] for key in ("mean", "std", "stderr", "n", "backend")} | {"first_seed": seeds.REPORT},
        "controller": files.sha256(controller),
    }


def _of_round(number: int, every: dict[str, float]) -> dict[str, float]:
    """{stage in the round: number} of {"round/stage": number}."""
    return {name.split("/")[1]: value for name, value in every.items() if name.startswith(f"{number}/")}


def words(line: dict[str, Any]) -> str:
    """The line of a round in words."""
    real, text = line["real"], ""
    if line.get("dream"):
        text = f"dream {line['dream']:.0f}, "
    if "fidelity" in line:
        text += f"dream at temperature 1 {line['fidelity']['dream']['mean']:.0f}, "
    return (
        f"round {line['round']}: {line['minutes']:.0f} min, "
        f"{line['random_games']} + {line['own_games']} games recorded, {text}"
        f"game {real['mean']:.1f} ± {real['stderr']:.1f} (standard error, {real['n']} validation games)"
        + (f"\n{faithful(line['fidelity'])}" if line.get("fidelity", {}).get("by_logit") else "")
        + (f"\n{paid(line['fidelity'])}" if line.get("fidelity", {}).get("where_it_stops_paying") else "")
    )


def faithful(found: dict[str, Any]) -> str:
    """What fidelity.py found, in words, and on which part the next round should spend its time.

    If few deaths are foreseen, the frames as the VAE encodes them do not show the danger. If the agent dies more often
    than the MDN-RNN expects in the same games, it plays where the MDN-RNN knows little, and needs games of its own. If
    the MDN-RNN expects these deaths, but the dream lasts longer than the game, its dreams do not reach the danger.
    """
    real, dream, recall = found["real"], found["dream"], found["recall"]
    ages = [
        f"{age}: {rate} and {dream['deaths_per_1000_steps'].get(age)}"
        for age, rate in real["deaths_per_1000_steps"].items()
        if rate is not None
    ]
    text = f"deaths per 1,000 steps in game and dream, by age: {', '.join(ages)}"
    if recall is None:
        return text
    seen = sum(row["deaths"] for row in found["by_logit"])
    expected = sum(row["expected"] or 0.0 for row in found["by_logit"])
    apart = dream["mean"] - real["mean"] > 2 * math.hypot(dream["stderr"], real["stderr"])
    if recall < FORESEEN:
        part = "the VAE: few of the deaths are foreseen"
    elif expected and seen > SURPRISED * expected:
        part = "own games: the agent plays where the MDN-RNN knows little"
    else:
        part = "the MDN-RNN: its dreams are safer than the game" if apart else "the controller: dream and game agree"
    known = f", {expected:.0f} expected" if expected else ""
    foreseen = f"{recall:.0%} of them foreseen at {found['false_alarms']:.1%} false alarms"
    return f"{text}\n{seen} deaths in these games{known}, {foreseen}: spend time on {part}"


def paid(found: dict[str, Any]) -> str:
    """What fidelity.py found where the game stops paying, in words, and what the next round should spend its time on.

    If the MDN-RNN expects pay that does not come though it is shown the frames, it needs more training. If only the
    dream goes on paying, it has not learned what the actions do there: the road bends as the car steers, as in the
    recordings of a car that drives well. Games help in which steps explore.
    """
    there = found["where_it_stops_paying"]
    text = f"{there['games']} of {there['of']} games stop paying"
    if not there["games"]:
        return text
    game, expected, dreamt = (sum(there[name][-2:]) / 2 for name in ("game", "expected", "dreamt"))
    more = LOST * there["game"][0]
    if expected - game > more:
        part = "the MDN-RNN: it expects pay that does not come"
    elif dreamt - game > more:
        part = "own games that explore: where the game stops paying, the dream goes on"
    else:
        part = "the controller: dream and game agree"
    return (
        f"{text}: 30 to 50 steps later 10 steps pay {game:.1f} in the game, {expected:.1f} as the MDN-RNN expects, "
        f"{dreamt:.1f} in the dream: spend time on {part}"
    )


def draw(lines: list[dict[str, Any]], path: str, title: str) -> None:
    """Draws the lines of rounds.json: the real score of each round over the time of the run."""
    os.environ["MPLBACKEND"] = "Agg"  # where it names none that there is, matplotlib cannot even be imported
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4))
    axes = figure.subplots()
    minutes, means, errors = (
        [line["minutes"] for line in lines],
        [line["real"]["mean"] for line in lines],
        [line["real"]["stderr"] for line in lines],
    )
    axes.errorbar(minutes, means, errors, marker="o", capsize=3, label="real game, validation")
    axes.set(xlabel="minutes from nothing", ylabel="score", title=title)
    axes.set_xlim(left=0)
    axes.legend()
    figure.tight_layout()
    with files.atomic(path) as file:
        figure.savefig(file, format="png", dpi=120)
