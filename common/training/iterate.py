"""From nothing to the agent in one command: rounds of play, learn the world, evolve in it, play again.

Source: Ha & Schmidhuber 2018, section 5, the iterative training procedure. Rounds are data in config.py. The stages are
the commands that users type as well, one after the other:

<run>/record/, <run>/series/   all recordings, and the same encoded by the VAE
<run>/round<k>/                the VAE, the MDN-RNNs and the evolution of round k, with links to unchanged ones
<run>/iterate.json             preset, seed, rounds, and each stage that is done with its command and seconds
<run>/rounds.json              a line for each round: time, games, scores; rounds.png is a picture of it
"""

import argparse
import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from typing import Any

from common.game import ROOT, Game
from common.runtime import bound, cli, files, provenance, runs, seeds, settings
from common.runtime.cli import UserError

SEEDS_PER_RUN = 30_000  # of recordings, so that runs with different seeds record different games
RUNS = (seeds.TRAINING[1] + 1 - seeds.TRAINING[0]) // SEEDS_PER_RUN
NOTE_SECONDS = 10  # between notes of the time of a stage, so that the time of a killed one counts too
REPORT = 430_000  # first seed of the validation games for the report of a round; other ones choose its controller
MEMORY_GB = 3.0  # the most memory that a stage needs


def main(game: Game, description: str | None) -> None:
    """iterate.py of every game."""
    parser = cli.OneLineParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    presets: dict[str, settings.Iterate] = getattr(game.config, "ITERATE", {})
    if not presets:
        raise UserError(f"{game.name}: has no rounds; add ITERATE to its config.py")
    usual = "laptop" if "laptop" in presets else next(iter(presets))
    parser.add_argument("--preset", choices=sorted(presets), default=usual, help=f"which rounds to play ({usual})")
    parser.add_argument(
        "--seed", type=cli.number(int, 1, RUNS), default=1, help="decides all random numbers of the run"
    )
    parser.add_argument("--run", metavar="DIR", help="folder of the run; it is made if it is missing")
    parser.add_argument("--ship", metavar="DIR", help="make the agent of this finished run the one that ships")
    arguments = parser.parse_args()
    if bool(arguments.run) == bool(arguments.ship):
        raise UserError("give either --run DIR or --ship DIR")
    if arguments.ship:
        ship(game, arguments.ship)
        return
    os.makedirs(arguments.run, exist_ok=True)
    held = runs.lock(os.path.join(arguments.run, "lock"))
    Iteration(game, arguments.run, arguments.preset, arguments.seed, presets[arguments.preset]).go()
    held.close()


class Iteration:
    """One run of the procedure, resumed where it was interrupted.

    Args:
        game: what is played.
        run: the folder of the run.
        preset: name of the preset.
        seed: of the run.
        cfg: its rounds.

    Raises:
        UserError: the folder belongs to another game, preset or seed, a round was edited after it began, or the disk
            or memory is too small.
    """

    def __init__(self, game: Game, run: str, preset: str, seed: int, cfg: settings.Iterate) -> None:
        self._game, self._run, self._seed, self._rounds, self._backend = game, run, seed, cfg.rounds, cfg.backend
        self._path, self._rounds_path = os.path.join(run, "iterate.json"), os.path.join(run, "rounds.json")
        self._first_seed = seeds.TRAINING[0] + (seed - 1) * SEEDS_PER_RUN
        self._state = self._opened({"game": game.name, "preset": preset, "seed": seed})
        if not self._state["done"]:
            self._check_room(cfg)

    def _opened(self, about: dict[str, Any]) -> dict[str, Any]:
        rounds = json.loads(json.dumps([dataclasses.asdict(one) for one in self._rounds]))
        try:
            before = files.read_json(self._path)
        except FileNotFoundError:
            return about | {"rounds": rounds, "done": {}, "seconds": {}}
        except ValueError as error:
            raise UserError(f"{self._path}: damaged ({error}); begin in another --run") from None
        for name, value in about.items():
            if before[name] != value:
                raise UserError(
                    f"--run {self._run}: is a run of {name} {before[name]}, not {value}; give another --run"
                )
        begun = max((int(stage.split("/")[0]) for stage in before["seconds"]), default=0)
        usual = dataclasses.asdict(settings.Round())  # a field that is younger than the run had its default
        earlier = [usual | one for one in before["rounds"]]
        changed = [k + 1 for k in range(begun) if rounds[k : k + 1] != earlier[k : k + 1]]
        if changed:
            raise UserError(f"{self._path}: round {changed[0]} was edited after it began; give another --run")
        return before | {"rounds": rounds}

    def _check_room(self, cfg: settings.Iterate) -> None:
        episodes = sum(one.random + one.own for one in self._rounds)
        needed = episodes * cfg.mb_per_episode / 1000
        free = shutil.disk_usage(self._run).free / 1e9
        if free < needed:
            raise UserError(
                f"--run {self._run}: needs about {needed:.0f} GB of disk for recordings, {free:.0f} GB are free"
            )
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
        if memory < MEMORY_GB:
            raise UserError(f"needs {MEMORY_GB:.0f} GB of memory, this machine has {memory:.1f}")

    def go(self) -> None:
        """Plays all rounds that are not done."""
        if os.path.exists(self._rounds_path) and len(files.read_json(self._rounds_path)) == len(self._rounds):
            print(f"{self._rounds_path}: all {len(self._rounds)} rounds are done; nothing to do")
            return
        for number, one in enumerate(self._rounds, 1):
            self._play_round(number, one)

    def _folder(self, number: int) -> str:
        return os.path.join(self._run, f"round{number}")

    def _link(self, number: int, name: str, target: str) -> None:
        """Lets a round use a folder of the run or of an earlier round."""
        path = os.path.join(self._folder(number), name)
        if not os.path.lexists(path):
            os.symlink(os.path.relpath(target, os.path.dirname(path)), path)

    def _play_round(self, number: int, one: Any) -> None:
        folder, before = self._folder(number), self._folder(number - 1) if number > 1 else ""
        os.makedirs(folder, exist_ok=True)
        os.makedirs(os.path.join(self._run, "record"), exist_ok=True)
        self._link(number, "record", os.path.join(self._run, "record"))
        first = self._first_seed + sum(earlier.random + earlier.own for earlier in self._rounds[: number - 1])
        if one.random:
            flags = one.record | {"episodes": one.random, "first_seed": first}
            self._stage(number, "random", "extract", flags, self._run)
        if one.own:
            flags = one.record | {"episodes": one.own, "first_seed": first + one.random, "explore": one.explore}
            controller = self._state["done"][f"{number - 1}/agent"]["controller"]
            flags |= {"controller": os.path.join(self._run, controller)}
            self._stage(number, "own", "extract", flags, before)
        if one.vae is not None:
            start = {"start_from": os.path.join(before, "tf_vae", "vae.json")} if before else {}
            self._stage(number, "vae", "vae_train", one.vae | start | {"seed": self._seed}, folder)
        else:
            self._link(number, "tf_vae", os.path.join(before, "tf_vae"))
            self._link(number, "series", os.path.join(before, "series"))
        if one.random or one.own or one.vae is not None:
            self._stage(number, "series", "series", {}, folder)
        if one.rnn is not None:
            start = {"start_from": os.path.join(before, "tf_rnn", "rnn.json")} if before else {}
            flags = self._newest(number, one) | one.rnn | start | {"seed": 100 * self._seed + number}
            self._stage(number, "rnn", "rnn_train", flags, folder)
        else:
            self._link(number, "tf_rnn", os.path.join(before, "tf_rnn"))
            self._link(number, "tf_initial_z", os.path.join(before, "tf_initial_z"))
        others = self._train_more_rnns(number, one, folder)
        if one.train is not None:
            self._evolve(number, one, folder, before, others)
        self._report(number, one, folder)

    def _newest(self, number: int, one: Any) -> dict[str, Any]:
        """The flags that give separate streams to the games of the controllers of this run."""
        own = sum(earlier.own for earlier in self._rounds[:number])
        held_out = one.rnn.get("validation_episodes", 0)
        return {"newest": own - held_out, "newest_share": one.own_share} if own > held_out else {}

    def _train_more_rnns(self, number: int, one: Any, folder: str) -> list[str]:
        """Further MDN-RNNs of a round, each in its own folder; returns their files."""
        made, start = [], os.path.join(folder, "tf_rnn", "rnn.json")
        for k in range(one.more_rnns):
            own = os.path.join(folder, f"rnn{k + 2}")
            os.makedirs(own, exist_ok=True)
            for name in ("tf_vae", "series"):
                path = os.path.join(own, name)
                if not os.path.lexists(path):
                    os.symlink(os.path.join(os.pardir, name), path)
            flags = (
                (one.rnn or {}) | one.more | {"start_from": start, "seed": 100 * self._seed + number + 1000 * (k + 1)}
            )
            self._stage(number, f"rnn{k + 2}", "rnn_train", flags, own)
            start = os.path.join(own, "tf_rnn", "rnn.json")
            made.append(start)
        return made

    def _evolve(self, number: int, one: Any, folder: str, before: str, others: list[str]) -> None:
        """Evolves the controller, and chooses among the evaluated means by their scores in the real game."""
        flags = one.train | {"seed_start": 100 * self._seed + number}
        if before and "start_from" not in flags:
            earlier = self._state["done"][f"{number - 1}/agent"]["controller"]
            flags |= {"start_from": os.path.join(self._run, earlier)}
        if others:
            flags |= {"also_in": ",".join(others)}
        self._stage(number, "train", "train", flags, folder)
        log = self._only(os.path.join(folder, "log"), ".log.json")
        ending = "best.json"
        if len(files.read_json(log)) > 1:  # else there is nothing to choose
            flags = {"": log, "episodes": one.games, "final_episodes": 2 * one.games}
            self._stage(number, "pick", "pick_best", flags, folder)
            ending = "picked.json"
        picked = os.path.relpath(log.removesuffix("log.json") + ending, self._run)
        self._note(number, "agent", controller=picked)

    @staticmethod
    def _only(folder: str, ending: str) -> str:
        found = [os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(ending)]
        if len(found) != 1:
            raise UserError(f"{folder}: holds {len(found)} files *{ending}, not one; was something else evolved there?")
        return found[0]

    def _report(self, number: int, one: Any, folder: str) -> None:
        """Plays the controller on separate validation games, and adds the line of the round."""
        if f"{number}/agent" not in self._state["done"]:
            self._note(number, "agent", **self._state["done"][f"{number - 1}/agent"])
        file = os.path.join(self._run, self._state["done"][f"{number}/agent"]["controller"])
        scores = os.path.join(folder, "scores.json")
        flags = {"": [*self._how_to_play(), "norender", file, REPORT], "episodes": one.games, "out": scores}
        flags |= {"backend": self._backend} if self._backend else {}
        self._stage(number, "score", "model", flags, folder, preset=False)
        if self._game.config.RESTART:
            fidelity = os.path.join(folder, "fidelity.json")
            self._stage(number, "fidelity", "fidelity", {"": file, "out": fidelity}, folder, preset=False)
        line = self._line(number, folder, file)
        lines = files.read_json(self._rounds_path) if os.path.exists(self._rounds_path) else []
        files.write_json(self._rounds_path, [*lines[: number - 1], line], indent=1)
        draw(self._rounds_path, os.path.join(self._run, "rounds.png"), self._game.title)
        print(words(line), flush=True)

    def _how_to_play(self) -> list[str]:
        return [self._game.world_names["real"]] if self._game.world_names else []

    def _line(self, number: int, folder: str, file: str) -> dict[str, Any]:
        """What rounds.json says of a round."""
        scores, meta = files.read_json(os.path.join(folder, "scores.json")), files.read_json(file + provenance.ENDING)
        seconds = {name: round(time, 1) for name, time in self._state["seconds"].items()}
        done = self._rounds[:number]
        line = {
            "round": number,
            "minutes": round(sum(time for name, time in seconds.items() if int(name.split("/")[0]) <= number) / 60, 1),
            "random_games": sum(one.random for one in done),
            "own_games": sum(one.own for one in done),
            "dream": meta.get("dream", meta["score"]["mean"] if meta.get("score", {}).get("of") == "dream" else None),
            "real": {key: scores[key] for key in ("mean", "std", "stderr", "n")} | {"first_seed": REPORT},
            "controller": files.sha256(file),
            "seconds": {name.split("/")[1]: time for name, time in seconds.items() if name.startswith(f"{number}/")},
        }
        fidelity = os.path.join(folder, "fidelity.json")
        return line | ({"fidelity": files.read_json(fidelity)} if os.path.exists(fidelity) else {})

    def _note(self, number: int, name: str, **about: Any) -> None:
        self._state["done"][f"{number}/{name}"] = about
        files.write_json(self._path, self._state, indent=1)

    def _stage(
        self, number: int, name: str, script: str, flags: dict[str, Any], folder: str, preset: bool = True
    ) -> None:
        """Runs one stage to its end, unless it is done. Its output goes where the output of this command goes."""
        key = f"{number}/{name}"
        if key in self._state["done"]:
            return
        words = [os.path.join(self._game.folder, f"{script}.py")]
        extra = flags.get("", [])
        words += [str(word) for word in (extra if isinstance(extra, list) else [extra])]
        words += ["--preset", self._state["preset"]] if preset and script != "pick_best" else []
        words += ["--run", folder]
        for flag, value in flags.items():
            if isinstance(value, bool):
                words.append(f"--{flag}" if value else f"--no-{flag}")
            elif flag:
                words += [f"--{flag}", str(value)]
        print(f"round {number} of {len(self._rounds)}: {script}.py {' '.join(words[1:])}", flush=True)
        before, began = self._state["seconds"].get(key, 0.0), time.monotonic()
        process = subprocess.Popen(bound.command(sys.executable, *words))
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    code = process.wait(NOTE_SECONDS)
                    break
                self._state["seconds"][key] = before + time.monotonic() - began
                files.write_json(self._path, self._state, indent=1)
        except BaseException:  # Ctrl-C reaches the stage as well, which saves its state
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGINT)
            process.wait()
            raise
        self._state["seconds"][key] = before + time.monotonic() - began
        if code:
            files.write_json(self._path, self._state, indent=1)
            raise UserError(
                f"round {number}: {script}.py ended with code {code}, see above; the same command goes on there"
            )
        self._note(number, name, command=[os.path.basename(words[0]), *words[1:]])


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
    )


def draw(rounds: str, path: str, title: str) -> None:
    """Draws rounds.json: the real score of each round over the time of the run."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    lines = files.read_json(rounds)
    figure, axes = pyplot.subplots(figsize=(6, 4))
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
    pyplot.close(figure)


def ship(game: Game, run: str) -> None:
    """Makes the best agent of a finished run the one that ships: copies its files, with their metas.

    The best is that of the round with the highest score in its validation games.

    Raises:
        UserError: the run is of another game, not finished, or a file does not match its meta.
    """
    try:
        state = files.read_json(os.path.join(run, "iterate.json"))
        lines = files.read_json(os.path.join(run, "rounds.json"))
    except (FileNotFoundError, ValueError) as error:
        raise UserError(f"--ship {run}: not a finished run of iterate.py ({error})") from None
    if state["game"] != game.name:
        raise UserError(f"--ship {run}: is a run of {state['game']}, not of {game.name}")
    if len(lines) < len(state["rounds"]):
        raise UserError(f"--ship {run}: {len(lines)} of {len(state['rounds'])} rounds are done; finish it first")
    best = max(lines, key=lambda line: (line["real"]["mean"], line["round"]))["round"]
    folder = os.path.join(run, f"round{best}")
    picked = os.path.join(run, state["done"][f"{best}/agent"]["controller"])
    config, cfg = game.config, getattr(game.config, "ITERATE", {})[state["preset"]]
    target = cfg.controller or config.SHIPPED_CONTROLLER
    pairs = {name: os.path.join(folder, config.TRAINED[name]) for name in ("vae", "rnn", "initial_z")}
    metas = {name: provenance.read(path, name, game.name) for name, path in pairs.items()}
    metas["controller"] = provenance.read(picked, "controller", game.name)
    for name, meta in metas.items():
        if meta.get("unverified"):
            raise UserError(f"--ship {run}: its {name} was made from files that were not verified")
    for name, path in pairs.items():
        provenance.copy(path, os.path.join(game.folder, config.SHIPPED[cfg.ships][name]))
    provenance.copy(picked, os.path.join(ROOT, target))
    rounds = os.path.join(ROOT, "log", f"{game.name}.{state['preset']}.{state['seed']}.rounds.json")
    shutil.copy(os.path.join(run, "rounds.json"), rounds)
    print(f"{target}: is the agent of round {best} of {run} now")
