"""iterate.py --ship, --log and planet.py ship: what a finished run made becomes what ships; what it made is told."""

import dataclasses
import glob
import itertools
import os
from typing import Any

from common.agent import planet
from common.game import Game
from common.runtime import files, provenance, seeds
from common.runtime.cli import UserError
from common.runtime.files import ROOT

TESTED = "test.json"
"""of a run: the scores of its best agent in test games, which model.py writes"""


def best_of(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """The line of the best round: the highest real score less its standard error, so that few games decide little.

    Of equal rounds it is the last. Rounds that were scored in another implementation of the game than the last one
    are not compared with it.
    """
    comparable = [line for line in lines if line["real"].get("backend") == lines[-1]["real"].get("backend")]
    return max(comparable, key=lambda line: (line["real"]["mean"] - line["real"]["stderr"], line["round"]))


def ship(game: Game, run: str) -> None:
    """Makes the best agent of a finished run the one that ships: copies its files, with their metas.

    The best is that of `best_of` its rounds. Its linear controller, if it has one, ships beside it. The metas of all
    that was made on the way come along in one file, <game>.<preset>.<seed>.metas.json.

    Raises:
        UserError: the run is of another game, not finished, or a file does not match its meta.
    """
    state, lines, picked = _read(game, run, "--ship")
    preset, best = state["preset"], best_of(lines)["round"]
    if len(lines) < len(state["rounds"]):
        raise UserError(f"--ship {run}: {len(lines)} of {len(state['rounds'])} rounds are done; finish it first")
    config, cfg = game.config, getattr(game.config, "ITERATE", {}).get(preset)
    if cfg is not None and cfg.linear is not None and "linear" not in best_of(lines):
        raise UserError(f"--ship {run}: its linear controller is not evolved; finish it first")
    if cfg is None or cfg.ships >= len(config.SHIPPED):
        raise UserError(f"--ship {run}: config.py does not say where an agent of the preset {preset} ships")
    pairs = {name: os.path.join(run, f"round{best}", config.TRAINED[name]) for name in ("vae", "rnn", "initial_z")}
    scored = {"agent": best_of(lines)} | {"linear_agent": best_of(lines).get("linear", {})}
    for name, path in picked.items():
        _check_chain(game, run, pairs, path)
        if files.sha256(path) != scored[name].get("controller"):
            raise UserError(f"--ship {run}: {path} is not the controller that rounds.json tells the score of")
    told = _scores(run, picked["agent"]), _metas(run)  # which refuse what is damaged, before anything is replaced
    places = _places(run)
    for name, path in pairs.items():
        _copy(path, os.path.join(game.folder, config.SHIPPED[cfg.ships][name]), places)
    target = cfg.controller or config.SHIPPED_CONTROLLER
    targets = {"agent": target, "linear_agent": linear_beside(target)}
    for name, path in picked.items():
        _copy(path, os.path.join(ROOT, targets[name]), places)
    shipped = {path: targets[name] for name, path in picked.items()}
    _ship_curves(f"{game.name}.{preset}" if cfg.ships else game.name, pairs, shipped)
    _log(run, state, lines, picked["agent"], *told)
    print(f"{target}: is the agent of round {best} of {run} now")


def ship_planet(game: Game, run: str) -> None:
    """Makes the RSSM of a finished run of planet.py the one that ships, with its meta.

    Its curve goes to log/<game>.planet.metrics.jsonl, its scores in test games, if they are in TESTED of the run, to
    log/<game>.planet.scores.json.

    Raises:
        UserError: the run is not finished, or of another game, or a file does not match its meta.
    """
    folder = os.path.join(run, planet.FOLDER)
    source, curve = (os.path.join(folder, name) for name in (planet.FILE, "metrics.jsonl"))
    try:
        episodes = files.read_json(os.path.join(folder, "config.json"))["config"]["episodes"]
        saved = files.read_npz(os.path.join(folder, "checkpoint.npz"), only=["state_episodes", "state_validated"])
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder}: no run of planet.py train is here ({error})") from None
    if not saved["state_episodes"] == saved["state_validated"] >= episodes:
        raise UserError(
            f"{folder}: {saved['state_episodes']} of {episodes} episodes are played and learned from; finish it first, "
            "or give planet.py train fewer --episodes"
        )
    meta = provenance.read(source, "rssm", game.name)
    if meta.get("unverified"):
        raise UserError(f"{source}: was made from files that were not verified")
    _, search, _ = planet.read(source, game)
    scores = _scores(run, source, "rssm")
    own = {"planner": dataclasses.asdict(search), "backend": game.backends[0]}
    if scores is not None and {name: scores.get(name) for name in own} != own:
        raise UserError(
            f"{os.path.join(run, TESTED)}: was played with another planner or --backend than the model's own; play it "
            "again, or remove the file"
        )
    command = meta.get("command", [])
    told = [word for flag, word in itertools.pairwise(command) if flag == "--run"]
    places = sorted({name for place in (run, *told) for name in _names_of(place)}, key=len, reverse=True)
    _copy(source, os.path.join(game.folder, planet.SHIPPED, planet.FILE), places)
    base = os.path.join(ROOT, "log", f"{game.name}.planet")
    _log_scores(f"{base}.scores.json", _placeless(scores, places), source, "rssm")
    with open(curve, "rb") as file, files.atomic(f"{base}.metrics.jsonl") as copied:
        copied.write(file.read())
    print(f"{game.name}: the RSSM of {run} is the one that ships now")


def log(game: Game, run: str) -> None:
    """Writes the rounds of a run, and the metas of all that was made on the way, to log/; its agent does not ship.

    Raises:
        UserError: the run is of another game, or no round of it is done.
    """
    state, lines, picked = _read(game, run, "--log")
    agent = picked["agent"]
    print(f"{_log(run, state, lines, agent, _scores(run, agent), _metas(run))}.rounds.json: written")


def _read(game: Game, run: str, flag: str) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, str]]:
    """(iterate.json, rounds.json, {"agent" and perhaps "linear_agent" of the best round: file}) of a run of this game.

    Raises:
        UserError: it is of another game, or no round is done.
    """
    try:
        state = files.read_json(os.path.join(run, "iterate.json"))
        lines = files.read_json(os.path.join(run, "rounds.json"))
        of, *_ = (state[name] for name in ("game", "preset", "seed", "rounds"))
        best = best_of(lines)["round"]
        picked = {
            name: os.path.join(run, state["done"][f"{best}/{name}"]["controller"])
            for name in ("agent", "linear_agent")
            if f"{best}/{name}" in state["done"] or name == "agent"
        }
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{flag} {run}: not a run of iterate.py with a round that is done ({error})") from None
    if of != game.name:
        raise UserError(f"{flag} {run}: is a run of {of}, not of {game.name}")
    return state, lines, picked


def _scores(run: str, agent: str, kind: str = "controller") -> dict[str, Any] | None:
    """The scores of the agent in test games, if model.py or planet.py was told to write them to TESTED of the run.

    Args:
        run: the folder.
        agent: the file.
        kind: what they call the file.

    Raises:
        UserError: they are of another agent.
    """
    path = os.path.join(run, TESTED)
    if not os.path.exists(path):
        return None
    try:
        scores = files.read_json(path)
        player, played = scores[kind]["sha256"], [int(episode["seed"]) for episode in scores["episodes"]]
    except (ValueError, KeyError, TypeError):
        player, played = None, []
    if player != files.sha256(agent):
        raise UserError(f"{path}: holds no scores of {agent}, the best agent of the run; play it, or remove the file")
    if not seeds.are_test(played):
        raise UserError(f"{path}: was not played with test seeds; play {agent} from seed 1000 on, or remove the file")
    return scores


def _log_scores(path: str, scores: dict[str, Any] | None, agent: str, kind: str = "controller") -> None:
    """Writes the scores of the agent; without any, removes a file in their place that is not of its scores."""
    if scores is not None:
        files.write_json(path, scores, indent=1)
        return
    try:
        player = files.read_json(path)[kind]["sha256"]
    except FileNotFoundError:
        return
    except (ValueError, KeyError, TypeError):  # damaged
        player = None
    if player != files.sha256(agent):
        os.remove(path)
        print(f"{path}: removed, for it does not hold the scores of this agent")


def _log(
    run: str,
    state: dict[str, Any],
    lines: list[dict[str, Any]],
    agent: str,
    scores: dict[str, Any] | None,
    metas: list[dict[str, Any]],
) -> str:
    """Writes <game>.<preset>.<seed>.rounds.json, .metas.json and .scores.json to log/; returns how they begin."""
    base = os.path.join(ROOT, "log", f"{state['game']}.{state['preset']}.{state['seed']}")
    places = _places(run)
    _log_scores(f"{base}.scores.json", _placeless(scores, places), agent)
    files.write_json(f"{base}.rounds.json", _placeless(lines, places), indent=1)
    files.write_json(f"{base}.metas.json", metas)
    return base


def _copy(source: str, target: str, places: list[str]) -> None:
    """Copies a file and its meta, which is sealed anew without the places of the run."""
    provenance.copy(source, target)
    provenance.save(target, _unsealed(files.read_json(target + provenance.ENDING), places))


def _unsealed(meta: dict[str, Any], places: list[str]) -> dict[str, Any]:
    """A meta without the places of the run, and without the seal, which is of the meta with them."""
    return {name: value for name, value in _placeless(meta, places).items() if name != provenance.SEAL}


def _places(run: str) -> list[str]:
    """How the folder of the run is named, the longest first: now, and where and from where its stages were started."""
    found = set(_names_of(run))
    for path in glob.glob(os.path.join(glob.escape(run), "round*", "**", f"*{provenance.ENDING}"), recursive=True):
        command = files.read_json(path).get("command", [])
        told = (word for flag, word in itertools.pairwise(command) if flag == "--run")
        found |= {place for place, inside, _ in (word.rpartition("/round") for word in told) if inside}
    return sorted(found, key=len, reverse=True)


def _names_of(folder: str) -> list[str]:
    """How a folder may be named now."""
    return [folder.rstrip("/"), os.path.abspath(folder), os.path.realpath(folder)]


def _placeless(value: Any, places: list[str]) -> Any:
    """The value with RUN for the folder of the run, which is of no use to others, in all of its text."""
    if isinstance(value, str):
        for place in places:
            if value == place or value.startswith(f"{place}/"):
                return "RUN" + value[len(place) :]
        return value
    if isinstance(value, list):
        return [_placeless(part, places) for part in value]
    if isinstance(value, dict):
        return {name: _placeless(part, places) for name, part in value.items()}
    return value


def linear_beside(controller: str) -> str:
    """Path of the linear controller that ships beside a controller."""
    return controller.removesuffix("best.json") + "linear.best.json"


def _ship_curves(begins: str, pairs: dict[str, str], controllers: dict[str, str]) -> None:
    """Copies the training curves of models and controllers to log/, where plot_training_progress.ipynb shows them.

    Names of the curves of models begin with `begins`, those of a controller as its file that ships: those of a second
    set do not replace those of the first.

    Args:
        begins: see above.
        pairs: {name of a model: its file in the run}.
        controllers: {file in the run: file that ships}.
    """
    curves = {
        os.path.join(os.path.dirname(pairs[name]), "metrics.jsonl"): f"{begins}.{name}.metrics.jsonl"
        for name in ("vae", "rnn")
    }
    for path, target in controllers.items():
        base, name = _evolution_of(path), target.removesuffix("best.json")
        curves |= {f"{base}{ending}": os.path.basename(name) + ending for ending in ("hist.json", "hist_best.json")}
    for source, name in curves.items():
        if not os.path.exists(source):
            continue  # it did not come along to this machine, and nothing needs it
        with open(source, "rb") as file, files.atomic(os.path.join(ROOT, "log", name)) as copied:
            copied.write(file.read())


def _evolution_of(controller: str) -> str:
    """How the names of the files begin of the evolution that made a controller of a round, which may have several."""
    base = controller.removesuffix("picked.json").removesuffix("best.json")
    evolution = files.read_json(controller + provenance.ENDING)["parents"].get("evolution")
    folder = os.path.dirname(os.path.dirname(controller))
    others = glob.glob(f"{glob.escape(folder)}/train*/log/*.log.json")
    logs = [path for path in others if files.sha256(path) == evolution]
    return logs[0].removesuffix("log.json") if logs else base


def _metas(run: str) -> list[dict[str, Any]]:
    """The metas of all files of a run, without its place, but for those of rounds that were set aside."""
    found: list[str] = []
    for folder, folders, names in os.walk(run):
        if folder == run:
            folders[:] = [name for name in folders if not name.startswith("aside")]
        found += [os.path.join(folder, name) for name in names if name.endswith(provenance.ENDING)]
    metas = []
    for path in sorted(found):
        try:
            metas.append({**files.read_json(path)})
        except (ValueError, TypeError) as error:
            raise UserError(f"{path}: damaged ({error}); bring it from where the run was made") from None
    places = _places(run)
    return [_unsealed(meta, places) for meta in metas]


def _check_chain(game: Game, run: str, pairs: dict[str, str], controller: str) -> None:
    """UserError if the files of an agent were not verified, or do not belong together."""
    metas = {
        name: provenance.read(path, name, game.name) for name, path in (pairs | {"controller": controller}).items()
    }
    for name, meta in metas.items():
        if meta.get("unverified"):
            raise UserError(f"--ship {run}: its {name} was made from files that were not verified")
    for name, path in pairs.items():
        if metas[name]["sha256"] != metas["controller"]["parents"].get(name):
            raise UserError(f"--ship {run}: {controller} was evolved on another {name} than {path}")
