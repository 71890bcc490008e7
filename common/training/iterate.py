"""From nothing to the agent in one command: rounds of play, learn the world, evolve in it, play again.

Source: Ha & Schmidhuber 2018, section 5, the iterative training procedure. Rounds are data in config.py. The stages are
the commands that users type as well, one after the other:

<run>/record/           all recordings
<run>/round<k>/         the VAE, the series, the MDN-RNNs and the evolution of round k, with links to unchanged ones
<run>/iterate.json      preset, seed, rounds, and each stage that is done with its command and seconds
<run>/rounds.json       a line for each round: time, games, scores; rounds.png is a picture of it

A run can continue in another place or on another machine. Keep iterate.json, rounds.json and, of every round, log/ and
the .json files of tf_*/ with their metas, also in rnn<k>/ and train<k>/. Recordings and series need not be kept: they
are made again when a round needs them, by the same commands and the same controllers.

A round may be edited in config.py before it begins. After that, --edited plays it and the later ones anew, and moves
what they had made to <run>/aside<k>/, which nothing reads.
"""

import argparse
import contextlib
import dataclasses
import itertools
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from typing import Any

from common.game import Game
from common.play import record
from common.runtime import bound, cli, files, provenance, runs, seeds, settings
from common.runtime.cli import UserError
from common.training import evolve, report, ship

SEEDS_PER_RUN = 30_000  # of recordings, so that runs with different seeds record different games
RUNS = (seeds.TRAINING[1] + 1 - seeds.TRAINING[0]) // SEEDS_PER_RUN
NOTE_SECONDS = 10  # between notes of the time of a stage, so that the time of a killed one counts too
MOST_GAMES = (seeds.REPORT - seeds.REAL_GAMES) // 3  # pick_best.py plays three times as many, from REAL_GAMES on
INTERRUPT_SECONDS = 0.5  # that a stage has to end by itself after Ctrl-C, less than interrupt.GRACE
MEMORY_GB = 3.5  # the most memory that a stage needs
MADE = {"vae_train": ("tf_vae",), "series": ("series",), "rnn_train": ("tf_rnn", "tf_initial_z"), "train": ("log",)}
"""folders of what a stage makes"""
MODELS = "tf_vae", "tf_rnn", "tf_initial_z"
"""folders of what a controller is trained in"""
Span = tuple[str, int, int]
"""("random" or "own", first seed, episodes) of what one command records"""


def main(game: Game, description: str | None) -> None:
    """iterate.py of every game."""
    parser = cli.OneLineParser(description=description)
    presets: dict[str, settings.Iterate] = getattr(game.config, "ITERATE", {})
    if not presets:
        raise UserError(f"{game.name}: has no rounds; add ITERATE to its config.py")
    usual = "laptop" if "laptop" in presets else next(iter(presets))
    parser.add_argument("--preset", choices=sorted(presets), help=f"which rounds to play (default: {usual})")
    text = "decides all random numbers of the run (default: 1)"
    parser.add_argument("--seed", type=cli.number(int, 1, RUNS), help=text)
    parser.add_argument("--run", metavar="DIR", help="folder of the run; it is made if it is missing")
    parser.add_argument(
        "--edited",
        action="store_true",
        help="if a round after the first was edited in config.py after it began, play it and later ones anew; what "
        "they had made is moved to DIR/aside<k>",
    )
    parser.add_argument("--ship", metavar="DIR", help="make the agent of this finished run the one that ships")
    parser.add_argument("--log", metavar="DIR", help="write the rounds and metas of this run to log/, ship nothing")
    arguments = parser.parse_args()
    if sum(map(bool, (arguments.run, arguments.ship, arguments.log))) != 1:
        raise UserError("give one of --run DIR, --ship DIR and --log DIR")
    if not arguments.run:
        for name in ("preset", "seed", "edited"):
            if getattr(arguments, name):
                raise UserError(f"--{name}: goes with --run DIR, not with --ship or --log; leave it out")
        (ship.ship if arguments.ship else ship.log)(game, arguments.ship or arguments.log)
        return
    preset, seed = arguments.preset or usual, arguments.seed or 1
    plan = game, arguments.run, preset, seed, presets[preset], arguments.edited
    is_new = not os.path.exists(arguments.run)
    with runs.new_run(arguments.run):
        if is_new:
            Iteration(*plan)  # its checks, while an error still leaves no folder
    held = runs.lock(os.path.join(arguments.run, "lock"))
    files.remove_temporary(arguments.run)
    Iteration(*plan).go()
    held.close()


class Iteration:
    """One run of the procedure, resumed where it was interrupted.

    Args:
        game: what is played.
        run: the folder of the run.
        preset: name of the preset.
        seed: of the run.
        cfg: its rounds.
        edited: whether to play a round anew that was edited after it began, and the later ones.

    Raises:
        UserError: the folder belongs to another game, preset or seed, a round was edited after it began, or the disk
            or memory is too small.
    """

    def __init__(
        self, game: Game, run: str, preset: str, seed: int, cfg: settings.Iterate, edited: bool = False
    ) -> None:
        self._game, self._run, self._seed, self._cfg, self._rounds = game, run, seed, cfg, cfg.rounds
        self._path, self._rounds_path = os.path.join(run, "iterate.json"), os.path.join(run, "rounds.json")
        self._record_folder, self._picture = os.path.join(run, "record"), os.path.join(run, "rounds.png")
        self._first_seed = seeds.TRAINING[0] + (seed - 1) * SEEDS_PER_RUN
        needed = ["extract", "vae_train", "series", "rnn_train", "train", "pick_best", "model"]
        # whether the dream can be compared with the game: the MDN-RNN predicts its ends, or what it pays
        expects = getattr(game.config.RNN[preset], "heads", False) and hasattr(game.config, "STOPS_PAYING")
        self._comparable = game.config.RESTART or expects
        needed += ["fidelity"] * self._comparable
        lacking = [f"{name}.py" for name in needed if not os.path.exists(os.path.join(game.folder, f"{name}.py"))]
        if lacking:
            raise UserError(f"{game.folder}: has no {', '.join(lacking)}, which the rounds need; see docs/new_game.md")
        first = cfg.rounds[0]
        if not first.random or first.own or None in (first.vae, first.rnn, first.train):
            raise UserError(f"{preset}: its first round must have random, vae, rnn and train, and no own games")
        for number, one in enumerate(cfg.rounds, 1):
            for field in ("random", "own", "more_rnns"):
                count = getattr(one, field)
                if not isinstance(count, int) or count < 0:
                    raise UserError(f"{preset}: round {number} has {field}={count}; give a whole number from 0 on")
            if one.vae is not None and one.rnn is None:
                raise UserError(
                    f"{preset}: round {number} has a new vae but no rnn, and the earlier one is of another VAE"
                )
            if one.train is None and one.also:
                raise UserError(f"{preset}: round {number} has also but no train, in which its flags are put")
            if one.train is None and (one.vae, one.rnn) != (None, None):
                raise UserError(
                    f"{preset}: round {number} has new models but no train, for a controller of the old ones"
                )
        self._preset = preset
        self._state = self._opened({"game": game.name, "preset": preset, "seed": seed}, edited)
        self._lines: list[dict[str, Any]] = _made(self._rounds_path) if os.path.exists(self._rounds_path) else []
        if len(self._lines) < len(self._rounds):
            self._check_room(cfg)
        self._check_flags(range(len(self._lines) + 1, len(self._rounds) + 1))

    def _opened(self, about: dict[str, Any], edited: bool) -> dict[str, Any]:
        # a field that is younger than the run had its default
        usual, *rounds = json.loads(json.dumps([dataclasses.asdict(one) for one in (settings.Round(), *self._rounds)]))
        try:
            before = files.read_json(self._path)
            known = {name: before[name] for name in about}
            begun = max((int(stage.split("/")[0]) for stage in before["seconds"]), default=0)
            earlier = [usual | one for one in before["rounds"]]
            before = before | {name: dict(before[name]) for name in ("done", "seconds")}
        except FileNotFoundError:
            left = [
                name for name in ("record", "round1", "rounds.json") if os.path.exists(os.path.join(self._run, name))
            ]
            if left:
                raise UserError(
                    f"--run {self._run}: has {left[0]} but no iterate.json; bring that too, or give another --run"
                ) from None
            return about | {"rounds": rounds, "done": {}, "seconds": {}}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{self._path}: damaged ({error}); begin in another --run") from None
        for name, value in about.items():
            if known[name] != value:
                raise UserError(f"--run {self._run}: is a run of {name} {known[name]}, not {value}; give another --run")
        changed = [k + 1 for k in range(begun) if rounds[k : k + 1] != earlier[k : k + 1]]
        if not changed:
            if edited:
                print(f"{self._path}: no round that has begun was edited", flush=True)
            return before | {"rounds": rounds}
        number = changed[0]
        if number == 1 or not edited:
            other = " or --edited, which plays it anew" * (number > 1)
            now, then = rounds[number - 1 : number], earlier[number - 1]
            fields = [
                f"{name} {value} -> {now[0][name]}" for name, value in then.items() if now and now[0][name] != value
            ]
            said = ", ".join(fields) or "it is no longer there"
            raise UserError(
                f"{self._path}: round {number} was edited after it began; give another --run{other} ({said})"
            )
        self._check_flags(range(number, len(rounds) + 1))  # before hours of work are set aside
        before = self._set_aside(number, before)
        files.write_json(self._path, before | {"rounds": rounds}, indent=1)  # last: till then, the same moves the rest
        return before | {"rounds": rounds}

    def _set_aside(self, number: int, state: dict[str, Any]) -> dict[str, Any]:
        """Moves what a round and the later ones have made to a folder of its own; returns the state before them."""
        places = (os.path.join(self._run, f"aside{k}") for k in itertools.count(1))
        aside = next(path for path in places if not os.path.exists(path))
        os.makedirs(os.path.join(aside, "record"))
        for path in (self._path, self._rounds_path):
            if os.path.exists(path):
                shutil.copy(path, aside)
        first = self._first_seed + sum(one.random + one.own for one in self._rounds[: number - 1])
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(self._record_folder):
                seed = name.split(".")[0]
                if seed.isdigit() and int(seed) >= first:
                    os.rename(os.path.join(self._record_folder, name), os.path.join(aside, "record", name))
        # the series of the round before holds the later games as well; it may be a link to an earlier round's
        series = os.path.realpath(os.path.join(self._folder(number - 1), "series"))
        if os.path.exists(series):
            os.rename(series, os.path.join(aside, "series"))
        for name in os.listdir(self._run):
            round_number = name.removeprefix("round")
            if name != round_number and round_number.isdigit() and int(round_number) >= number:
                os.rename(os.path.join(self._run, name), os.path.join(aside, name))
                _link_again(os.path.join(self._run, name), os.path.join(aside, name))
        if os.path.exists(self._rounds_path):
            lines = [line for line in _made(self._rounds_path) if line["round"] < number]
            files.write_json(self._rounds_path, lines, indent=1)
        kept = {
            what: {key: value for key, value in state.get(what, {}).items() if int(key.split("/")[0]) < number}
            for what in ("done", "seconds", "memory_gb")
        }
        lost = sum(state["seconds"].values()) - sum(kept["seconds"].values())
        kept["aside_minutes"] = round(state.get("aside_minutes", 0.0) + lost / 60, 1)
        print(f"round {number} was edited: what it and later rounds had made is in {aside} now", flush=True)
        return state | kept | {"anew": [key for key in state.get("anew", []) if int(key.split("/")[0]) < number]}

    def _check_flags(self, numbers: range) -> None:
        """Ends with code 2 where a stage would refuse the flags of a round that is to come: not after hours of others.

        Args:
            numbers: of those rounds.
        """
        preset, linear = ["--preset", self._preset], self._cfg.linear
        if self._cfg.backend not in ("", *self._game.backends):
            raise UserError(
                f"{self._preset}: has backend={self._cfg.backend!r}; give one of {', '.join(self._game.backends)}"
            )
        recorded = sum(one.random + one.own for one in self._rounds)
        if recorded > SEEDS_PER_RUN:  # the next ones are those of the run with the next seed
            raise UserError(f"{self._preset}: its rounds record {recorded} games; {SEEDS_PER_RUN} at most")
        given = [stage for number in numbers for stage in self._given(number)]
        given.append((0, "train", self._train_presets(linear or {}), linear))
        rnn_cfg: Any = None
        for number, script, presets, flags in given:
            if flags is None:
                continue
            name = f"round {number}, {script}" if number else f"linear, {script}"
            cfg, arguments = cli.check({name: presets}, [*preset, *cli.words(flags)])[name]
            try:
                self._check_stage(script, cfg, arguments)
                if script == "rnn_train":
                    rnn_cfg = cfg
                    self._check_held_out(number, cfg)
                elif script == "train" and rnn_cfg:
                    self._check_pays(cfg, rnn_cfg)
                starts = getattr(cfg, "starts", 0)
                if flags is linear and starts:
                    raise UserError(f"--starts {starts}: its dreams start at first frames only; give it starts=0")
            except UserError as error:
                raise UserError(f"{name}.py: {error}") from None

    def _given(self, number: int) -> list[tuple[int, str, Any, Any]]:
        """(number, script, its presets, its flags or None) of the stages of a round that take flags."""
        one, config = self._rounds[number - 1], self._game.config
        world = getattr(self._train_presets(one.train or {}).get(self._preset), "world", "")
        if one.more_rnns and one.train is not None and world == "game":
            raise UserError(f"{self._preset}: round {number} has more_rnns, and they are for training in the dream")
        if not 1 <= one.games <= MOST_GAMES:
            raise UserError(f"{self._preset}: round {number} has games={one.games}; give 1 to {MOST_GAMES}")
        others = [f"rnn{k + 2}" for k in range(one.more_rnns)]
        own = {"explore": one.explore} if one.own else {}
        shares = {"newest_share": one.own_share} if one.own else {}
        trains = [self._train_flags(number, flags, "the round before", others) for flags in _trainings(one)]
        return [
            (number, "extract", config.EXTRACT, one.record | own),
            (number, "vae_train", config.VAE, one.vae),
            (number, "rnn_train", config.RNN, None if one.rnn is None else one.rnn | shares),
            (number, "rnn_train", config.RNN, (one.rnn or {}) | one.more if others or one.more else None),
            *((number, "train", self._train_presets(flags), flags) for flags in trains),
        ]

    def _check_held_out(self, number: int, cfg: Any) -> None:
        """UserError if the games that are recorded by a round leave the MDN-RNN none to learn from."""
        recorded = sum(one.random + one.own for one in self._rounds[:number])
        if cfg.validation_episodes >= recorded:
            raise UserError(
                f"--validation_episodes {cfg.validation_episodes}: these leave none of the {recorded} games recorded "
                "by then to train on"
            )

    def _check_pays(self, cfg: Any, rnn_cfg: Any) -> None:
        """UserError if a controller is to be trained in the dream of an MDN-RNN that expects no reward."""
        if cfg.world == "dream" and not self._game.config.DREAM_REWARD and not getattr(rnn_cfg, "heads", True):
            raise UserError(
                "--world dream: its MDN-RNN expects no reward, so the dream has nothing to teach; give rnn heads=True"
            )

    def _check_stage(self, script: str, cfg: Any, arguments: argparse.Namespace) -> None:
        """UserError if options of a stage contradict each other; of `cli.check`."""
        config = self._game.config
        if script == "extract":
            record.check(self._game, cfg)
        elif script == "train":
            evolve.check(self._game, cfg)
        elif script == "vae_train":
            settings.check_vae(cfg, arguments)
        elif script == "rnn_train":
            settings.one_normal(cfg, config.RNN[self._preset])
            if cfg.mirror and not config.SERIES[self._preset].mirror:
                raise UserError(
                    f"--mirror: series.py encodes no mirror images in preset {self._preset}; set mirror in SERIES of "
                    "config.py, or leave it out here"
                )

    def _train_flags(
        self, number: int, train: dict[str, Any], start: str, others: list[str], which: int = 1
    ) -> dict[str, Any]:
        """The flags of train.py in a round.

        Args:
            number: of the round.
            train: its flags of train.py.
            start: the controller that a round after the first continues from, unless it has another "start_from".
            others: its further MDN-RNNs.
            which: of its trainings.
        """
        flags = train | {"seed_start": self._seed_of(number, which)}
        if number > 1 and "start_from" not in flags:
            flags |= {"start_from": start}
        return flags | ({"also_in": ",".join(others)} if others else {})

    def _seed_of(self, number: int, which: int = 1) -> int:
        """The seed of a training of a round, or of the MDN-RNNs that it has, which no other run or round has."""
        return 100 * self._seed + number + 10_000 * (which - 1)

    def _train_presets(self, flags: dict[str, Any]) -> dict[str, Any]:
        """The presets of train.py for these flags of it."""
        presets = self._game.ppo_presets if flags.get("o") == "ppo" else self._game.train_presets
        return presets(flags.get("world", ""))

    def _check_room(self, cfg: settings.Iterate) -> None:
        last = max(
            (k for k in range(len(self._lines) + 1, len(self._rounds) + 1) if self._reads_recordings(k)), default=0
        )
        spans = [span for k in range(1, last + 1) for span in self._recordings(k)]
        missing = sum(episodes - len(self._there(first, episodes)) for _, first, episodes in spans)
        needed = missing * cfg.mb_per_episode / 1000
        free = shutil.disk_usage(self._run).free / 1e9
        if free < needed:
            raise UserError(
                f"--run {self._run}: needs about {needed:.0f} GB of disk for recordings, {free:.0f} GB are free"
            )
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
        if memory < MEMORY_GB:
            raise UserError(f"needs {MEMORY_GB:g} GB of memory, this machine has {memory:.1f}")

    def go(self) -> None:
        """Plays all rounds that are not done."""
        played = len(self._lines) >= len(self._rounds)
        if played and (self._cfg.linear is None or "linear" in ship.best_of(self._lines)):
            if not os.path.exists(self._picture):
                report.draw(self._lines, self._picture, self._game.title)
            print(f"{self._rounds_path}: all {len(self._rounds)} rounds are done; nothing to do")
            print(self._played_by())
            return
        self._save()  # before anything else, so that nothing lies there without it
        for number, one in enumerate(self._rounds, 1):
            self._make_folder(number, one)
            if number > len(self._lines):
                self._play_round(number, one)
        if self._cfg.linear is not None:
            self._evolve_linear(self._cfg.linear)
        print(self._played_by())

    def _played_by(self) -> str:
        """The command that scores the agent of the best round, for people, on validation games of their own.

        Test games are for the final score of what ships; several runs may be compared before that.
        """
        best = ship.best_of(self._lines)["round"]
        folder = self._folder(best)
        file = self._named(self._controller(best), folder)
        words = ["python", "model.py", *self._how_to_play(), "norender", file, str(seeds.TRIALS), "--run", folder]
        return f"the best round is {best}; its agent plays by: {shlex.join(words)}"

    def _folder(self, number: int) -> str:
        return os.path.join(self._run, f"round{number}")

    def _link(self, number: int, name: str, target: str) -> None:
        """Lets a round use a folder of the run or of an earlier round."""
        path = os.path.join(self._folder(number), name)
        _link(path, target)
        os.makedirs(os.path.realpath(path), exist_ok=True)  # it may not have come along to another machine

    def _make_folder(self, number: int, one: Any) -> None:
        """Makes the folder of a round, with links to what does not change in it."""
        folder, before = self._folder(number), self._folder(number - 1)
        os.makedirs(folder, exist_ok=True)
        self._link(number, "record", self._record_folder)
        unchanged = ("tf_vae", "series") * (one.vae is None) + ("tf_rnn", "tf_initial_z") * (one.rnn is None)
        for name in unchanged:
            self._link(number, name, os.path.join(before, name))

    def _named(self, path: str, folder: str) -> str:
        """What to call a file of the run in a stage of a folder: as seen from there, wherever the run lies.

        Stages look a name up here first, then in their folder. If something else has the name here, it is the path.
        """
        name = os.path.join(os.path.relpath(self._run, folder), os.path.relpath(path, self._run))
        other = os.path.exists(name) and os.path.realpath(name) != os.path.realpath(path)
        return path if other else name

    def _controller(self, number: int, of: str = "") -> str:
        """Path of a controller of a round: the one, or with "linear_" the linear one."""
        return os.path.join(self._run, self._state["done"][f"{number}/{of}agent"]["controller"])

    def _play_round(self, number: int, one: Any) -> None:
        folder, before = self._folder(number), self._folder(number - 1) if number > 1 else ""
        for span in self._recordings(number):
            self._record(number, one, span)
        self._restore(number)

        def started(flags: dict[str, Any], name: str, seed: int) -> dict[str, Any]:
            """The flags, those of where it starts, and the seed: by default it continues from the round before."""
            if before and "start_from" not in flags:
                flags = flags | {"start_from": self._named(os.path.join(before, name), folder)}
            return flags | {"seed": seed}

        if one.vae is not None:
            flags = started(one.vae, "tf_vae/vae.json", self._seed)
            self._stage(number, "vae", "vae_train", flags, folder, "tf_vae/vae.json")
        if self._must_encode(number):
            at = self._encoded_in(number)
            self._forget(f"{at}/series")
            self._stage(at, "series", "series", {}, self._folder(at))
        self._keep_meta_of_series(folder)
        if one.rnn is not None:
            flags = started(self._newest(number, one) | one.rnn, "tf_rnn/rnn.json", self._seed_of(number))
            self._stage(number, "rnn", "rnn_train", flags, folder, "tf_rnn/rnn.json")
        others = self._train_more_rnns(number, one, folder)
        if one.train is not None:
            self._evolve(number, one, folder, others)
        self._report(number, one)

    @staticmethod
    def _keep_meta_of_series(folder: str) -> None:
        """Keeps the meta of the series that a round learns from: later rounds add to the series itself."""
        meta = os.path.join(folder, "series", f"series.npz{provenance.ENDING}")
        if os.path.exists(meta):
            with open(meta, "rb") as file, files.atomic(os.path.join(folder, f"series{provenance.ENDING}")) as kept:
                kept.write(file.read())

    def _recordings(self, number: int) -> list[Span]:
        """What is recorded in a round."""
        one = self._rounds[number - 1]
        first = self._first_seed + sum(earlier.random + earlier.own for earlier in self._rounds[: number - 1])
        spans = [("random", first, one.random), ("own", first + one.random, one.own)]
        return [span for span in spans if span[2]]

    def _record(self, number: int, one: Any, span: Span) -> None:
        name, first, episodes = span
        flags, folder = one.record | {"episodes": episodes, "first_seed": first}, self._run
        if name == "own":
            folder = self._folder(number - 1)
            flags |= {"explore": one.explore, "controller": self._named(self._controller(number - 1), folder)}
        self._stage(number, name, "extract", flags, folder)

    def _there(self, first: int, episodes: int) -> list[int]:
        """The seeds of a span of which there are recordings."""
        folder = self._record_folder
        return [s for s in range(first, first + episodes) if os.path.exists(os.path.join(folder, f"{s}.npz"))]

    def _summary(self, first: int) -> str:
        return os.path.join(self._record_folder, f"{first}.summary.json")

    def _is_recorded(self, span: Span) -> bool:
        """Whether a span has its summary and as many recordings as that says."""
        _, first, episodes = span
        try:
            return len(self._there(first, episodes)) >= int(files.read_json(self._summary(first))["kept"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return False

    def _encoded_in(self, number: int) -> int:
        """The last round up to this one that encodes recordings."""
        rounds = self._rounds[:number]
        return max(k for k, one in enumerate(rounds, 1) if one.random or one.own or one.vae is not None)

    def _must_encode(self, number: int) -> bool:
        """Whether series.py is to run in a round: for the first time, or because a later stage needs what is gone."""
        at = self._encoded_in(number)
        if f"{at}/series" not in self._state["done"] or f"{at}/series" in self._state.get("anew", []):
            return True
        gone = not os.path.exists(os.path.join(self._folder(at), "series", "series.npz"))
        return gone and bool(self._readers(number))

    def _reads_recordings(self, number: int) -> bool:
        """Whether a stage of a round that is not done reads the recordings."""
        one = self._rounds[number - 1]
        return (one.vae is not None and f"{number}/vae" not in self._state["done"]) or self._must_encode(number)

    def _readers(self, number: int) -> list[str]:
        """The stages of a round that are not done and read the series."""
        one = self._rounds[number - 1]
        names = ["rnn"] * (one.rnn is not None) + [f"rnn{k + 2}" for k in range(one.more_rnns)]
        for which, flags in enumerate(_trainings(one), 1):
            names += [_nth("train", which)] * self._starts_along_games(flags)
        return [key for key in (f"{number}/{name}" for name in names) if key not in self._state["done"]]

    def _starts_along_games(self, flags: dict[str, Any]) -> bool:
        """Whether the dreams of a training with these flags start along the recorded games."""
        cfg = self._train_presets(flags).get(self._state["preset"])
        return bool(flags.get("starts", getattr(cfg, "starts", 0)))

    def _restore(self, number: int) -> None:
        """Makes recordings again that are gone, if a stage of this round reads them.

        They may differ from the lost ones in the last bits, so what had begun on those begins anew.

        Raises:
            UserError: there are recordings of another origin.
        """
        if not self._reads_recordings(number):
            return
        end = self._first_seed + sum(one.random + one.own for one in self._rounds[:number])
        for name in os.listdir(self._record_folder):
            seed = name.removesuffix(".npz")
            if name.endswith(".npz") and seed.isdigit() and not self._first_seed <= int(seed) < end:
                raise UserError(f"{os.path.join(self._record_folder, name)}: is not of this run; take it out of there")
        lost = [(k, span) for k in range(1, number + 1) for span in self._recordings(k) if not self._is_recorded(span)]
        encoded = f"{self._encoded_in(number)}/series"
        if lost or encoded in self._state["done"]:
            anew = [f"{number}/vae"] * bool(lost) + self._readers(number)
            anew = [key for key in anew if key in self._state["seconds"] and key not in self._state["done"]]
            anew += [encoded] * bool(lost)
            self._state["anew"] = sorted({*self._state.get("anew", []), *anew})
        for k, span in lost:
            print(f"round {k}: recordings from seed {span[1]} on are gone; they are made again", flush=True)
            with contextlib.suppress(FileNotFoundError):
                os.remove(self._summary(span[1]))
            self._forget(f"{k}/{span[0]}")
            self._record(k, self._rounds[k - 1], span)

    def _forget(self, key: str) -> None:
        """Lets a stage count as not done."""
        self._state["done"].pop(key, None)

    def _newest(self, number: int, one: Any) -> dict[str, Any]:
        """The flags that give separate streams to the games of the controllers of this run."""
        own, usual = sum(earlier.own for earlier in self._rounds[:number]), self._game.config.RNN
        held_out = (one.rnn or {}).get("validation_episodes", usual[self._state["preset"]].validation_episodes)
        return {"newest": own - held_out, "newest_share": one.own_share} if own > held_out else {}

    def _train_more_rnns(self, number: int, one: Any, folder: str) -> list[str]:
        """Further MDN-RNNs of a round, each in its own folder; returns their files."""
        made, start = [], os.path.join(folder, "tf_rnn", "rnn.json")
        usual = self._newest(number, one) | (one.rnn or {}) | one.more
        for k in range(one.more_rnns):
            own = os.path.join(folder, f"rnn{k + 2}")
            os.makedirs(own, exist_ok=True)
            for name in ("tf_vae", "series"):
                _link(os.path.join(own, name), os.path.join(folder, name))
            flags = usual | {"start_from": self._named(start, own), "seed": self._seed_of(number, k + 2)}
            self._stage(number, f"rnn{k + 2}", "rnn_train", flags, own, "tf_rnn/rnn.json")
            start = os.path.join(own, "tf_rnn", "rnn.json")
            made.append(start)
        return made

    def _evolve(self, number: int, one: Any, folder: str, others: list[str]) -> None:
        """Evolves the controller of a round."""
        logs = []
        for which, flags in enumerate(_trainings(one), 1):
            own = folder if which == 1 else os.path.join(folder, _nth("train", which))
            os.makedirs(own, exist_ok=True)
            for name in (*MODELS, "series") if which > 1 else ():
                _link(os.path.join(own, name), os.path.join(folder, name))
            start = self._named(self._controller(number - 1), own) if number > 1 else ""
            rnns = [self._named(path, own) for path in others]
            flags = self._train_flags(number, flags, start, rnns, which)
            logs.append(self._train(number, _nth("train", which), flags, own))
        self._choose(number, "", logs, folder, one.games)

    def _train(self, number: int, name: str, flags: dict[str, Any], folder: str) -> str:
        """Evolves a controller in a folder; returns the path of its .log.json."""
        self._stage(number, name, "train", flags, folder)
        return self._only(os.path.join(folder, "log"), ".log.json")

    def _choose(self, number: int, of: str, logs: list[str], folder: str, games: int) -> None:
        """Notes the agent of a round: of the evaluated means the one with the best score in the real game."""
        base, ending = logs[0].removesuffix("log.json"), "best.json"
        if sum(len(_made(log)) for log in logs) > 1:  # else there is nothing to choose
            flags = {"": logs, "episodes": games, "final_episodes": 2 * games} | self._backend()
            ending = "picked.json"
            picked = os.path.join("log", os.path.basename(base) + ending)
            self._stage(number, f"{of}pick", "pick_best", flags, folder, picked)
        if f"{number}/{of}agent" not in self._state["done"]:
            self._note(number, f"{of}agent", controller=os.path.relpath(base + ending, self._run))

    def _evolve_linear(self, flags: dict[str, Any]) -> None:
        """Evolves the paper's linear controller with the models of the best round, beside that round's controller."""
        best = ship.best_of(self._lines)
        number, before = best["round"], self._folder(best["round"])
        one, folder = self._rounds[number - 1], os.path.join(before, "linear")
        os.makedirs(folder, exist_ok=True)
        for name in MODELS:
            _link(os.path.join(folder, name), os.path.join(before, name))
        log = self._train(number, "linear_train", flags | {"seed_start": 100 * self._seed}, folder)
        self._choose(number, "linear_", [log], folder, one.games)
        file = self._controller(number, "linear_")
        scores = self._score(number, "linear_", file, folder, one.games)
        best["linear"] = self._scored(file, scores)
        files.write_json(self._rounds_path, self._lines, indent=1)
        real = best["linear"]["real"]
        print(
            f"linear controller: game {real['mean']:.1f} ± {real['stderr']:.1f} ({real['n']} validation games)",
            flush=True,
        )

    @staticmethod
    def _only(folder: str, ending: str) -> str:
        found = [name for name in os.listdir(folder) if name.endswith(ending)] if os.path.isdir(folder) else []
        if len(found) != 1:
            raise UserError(
                f"{folder}: holds {len(found)} files *{ending}, not one; bring the one that was evolved there, alone"
            )
        return os.path.join(folder, found[0])

    def _report(self, number: int, one: Any) -> None:
        """Plays the controller on separate validation games, and adds the line of the round."""
        folder = self._folder(number)
        if f"{number}/agent" not in self._state["done"]:
            self._note(number, "agent", **self._state["done"][f"{number - 1}/agent"])
        file = self._controller(number)
        self._score(number, "", file, folder, one.games)
        if self._comparable:
            fidelity = self._made_again(number, "fidelity", os.path.join(folder, "fidelity.json"))
            flags = {"": file, "games": max(10, one.games // 2), "out": fidelity} | self._backend()
            self._stage(number, "fidelity", "fidelity", flags, folder, preset=False)
        line = self._line(number, folder, file)
        self._lines.append(line)
        files.write_json(self._rounds_path, self._lines, indent=1)  # from now on the round is done
        print(report.words(line), flush=True)
        report.draw(self._lines, self._picture, self._game.title)

    def _made_again(self, number: int, name: str, path: str) -> str:
        """The path of a result that a stage makes again if it is gone."""
        if not os.path.exists(path):
            self._forget(f"{number}/{name}")
        return path

    def _score(self, number: int, of: str, file: str, folder: str, games: int) -> str:
        """Plays a controller on the validation games of reports; returns the file of its scores."""
        scores = self._made_again(number, f"{of}score", os.path.join(folder, "scores.json"))
        flags = {"": [*self._how_to_play(), "norender", file, seeds.REPORT], "episodes": games, "out": scores}
        flags |= self._backend()
        self._stage(number, f"{of}score", "model", flags, folder, preset=False)
        return scores

    def _scored(self, file: str, scores: str) -> dict[str, Any]:
        """What rounds.json says of a controller: its dream score, its real score and its hash."""
        meta, made = provenance.read(file, "controller", self._game.name), _made(scores)
        return {
            "dream": meta.get("dream", meta["score"]["mean"] if meta.get("score", {}).get("of") == "dream" else None),
            "real": {key: made[key] for key in ("mean", "std", "stderr", "n", "backend")}
            | {"first_seed": seeds.REPORT},
            "controller": files.sha256(file),
        }

    def _backend(self) -> dict[str, str]:
        """The flag that says what validation games are played on."""
        return {"backend": self._cfg.backend} if self._cfg.backend else {}

    def _how_to_play(self) -> list[str]:
        return [self._game.world_names["real"]] if self._game.world_names else []

    def _line(self, number: int, folder: str, file: str) -> dict[str, Any]:
        """What rounds.json says of a round."""
        seconds = {name: round(time, 1) for name, time in self._state["seconds"].items()}
        done = self._rounds[:number]
        line = {
            "round": number,
            "minutes": round(sum(time for name, time in seconds.items() if int(name.split("/")[0]) <= number) / 60, 1),
            "random_games": sum(one.random for one in done),
            "own_games": sum(one.own for one in done),
            **self._scored(file, os.path.join(folder, "scores.json")),
            "seconds": {name.split("/")[1]: time for name, time in seconds.items() if name.startswith(f"{number}/")},
            "memory_gb": {name: most for name, most in self._memory(number).items() if most},
        }
        fidelity = os.path.join(folder, "fidelity.json")
        if self._state.get("aside_minutes"):  # of rounds that were edited and played anew
            line["aside_minutes"] = self._state["aside_minutes"]
        return line | ({"fidelity": _made(fidelity)} if os.path.exists(fidelity) else {})

    def _memory(self, number: int) -> dict[str, float]:
        """The peak memory of the stages of a round that took longer than NOTE_SECONDS [GB]."""
        every = self._state.get("memory_gb", {})
        return {name.split("/")[1]: most for name, most in every.items() if name.startswith(f"{number}/")}

    def _note(self, number: int, name: str, **about: Any) -> None:
        self._state["done"][f"{number}/{name}"] = about
        self._save()

    def _save(self) -> None:
        files.write_json(self._path, self._state, indent=1)

    def _is_done(self, key: str, result: str) -> bool:
        """Whether a stage is noted as done, and its result is there, if it is a file that is kept.

        Raises:
            UserError: the result is gone, and a later stage has built on it.
        """
        done = self._state["done"]
        if key not in done or not result or os.path.exists(result):
            return key in done
        if key != list(done)[-1]:
            raise UserError(f"{result}: is gone, and what came later needs it; bring it back, or give another --run")
        return False

    def _stage(
        self,
        number: int,
        name: str,
        script: str,
        flags: dict[str, Any],
        folder: str,
        result: str = "",
        preset: bool = True,
    ) -> None:
        """Runs one stage to its end, unless it is done. Its output goes where the output of this command goes."""
        key = f"{number}/{name}"
        if self._is_done(key, result and os.path.join(folder, result)):
            return
        if key in self._state.get("anew", []):
            self._begin_anew(key, script, folder)
        words = [os.path.join(self._game.folder, f"{script}.py")]
        extra = flags.get("", [])
        words += [str(word) for word in (extra if isinstance(extra, list) else [extra])]
        words += ["--preset", self._state["preset"]] if preset and script != "pick_best" else []
        words += ["--run", folder]
        words += cli.words({flag: value for flag, value in flags.items() if flag})
        print(f"round {number} of {len(self._rounds)}: {script}.py {' '.join(words[1:])}", flush=True)
        code = self._run_to_its_end(key, words)
        if code:
            raise UserError(
                f"round {number}: {script}.py ended with code {code}, see above; the same command continues there"
            )
        self._note(number, name, command=[os.path.basename(words[0]), *words[1:]])

    def _begin_anew(self, key: str, script: str, folder: str) -> None:
        """Sets aside, once, what a stage began on data that are gone; from then on it continues as any other does."""
        for name in MADE[script]:
            place = os.path.realpath(os.path.join(folder, name))
            if os.path.isdir(place) and os.listdir(place):  # else it was killed here before
                runs.set_aside(place)
            os.makedirs(place, exist_ok=True)  # later rounds link to it
        self._state["anew"].remove(key)
        self._save()

    def _run_to_its_end(self, key: str, words: list[str]) -> int:
        """Runs the command of a stage, notes its time and memory now and then, and returns its exit code."""
        before, began = self._state["seconds"].get(key, 0.0), time.monotonic()
        memory = self._state.setdefault("memory_gb", {})  # a younger note than those of other runs

        def note_time() -> None:
            self._state["seconds"][key] = before + time.monotonic() - began
            self._save()

        note_time()  # a round that has begun must not be edited
        process = subprocess.Popen(bound.command(sys.executable, *words))
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return process.wait(NOTE_SECONDS)
                memory[key] = round(max(memory.get(key, 0.0), runs.peak_memory_of(process.pid)), 2)
                note_time()
        except BaseException:  # a terminal sends Ctrl-C to the stage as well, else it is passed on
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(INTERRUPT_SECONDS)
            process.send_signal(signal.SIGINT)  # does nothing if it has ended
            process.wait()
            raise
        finally:
            note_time()


def _trainings(one: settings.Round) -> list[dict[str, Any]]:
    """The flags of train.py, for each training of a round."""
    return [] if one.train is None else [one.train, *(one.train | flags for flags in one.also)]


def _nth(name: str, which: int) -> str:
    """What a stage is called that a round has several of: train, train2, train3."""
    return name if which == 1 else f"{name}{which}"


def _link(path: str, target: str) -> None:
    """Makes a link to a file or folder of the same run, unless there is one: relative, so that the run can be moved."""
    if not os.path.lexists(path):
        os.symlink(os.path.relpath(target, os.path.dirname(path)), path)


def _link_again(before: str, now: str) -> None:
    """Mends the relative links in a folder that was moved, where what they name has stayed.

    Args:
        before: where the folder was.
        now: where it is.
    """
    for place, _, names in os.walk(now):  # a link that leads nowhere is no folder
        for name in names:
            path = os.path.join(place, name)
            if os.path.islink(path) and not os.path.exists(path):
                old_place = os.path.join(before, os.path.relpath(place, now))
                target = os.path.normpath(os.path.join(old_place, os.readlink(path)))
                os.remove(path)
                _link(path, target)


def _made(path: str) -> Any:
    """The value of a .json file that the run has made.

    Raises:
        UserError: it is not there, or damaged.
    """
    try:
        return files.read_json(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; bring it back, or give another --run") from None
    except ValueError as error:
        raise UserError(f"{error}; remove it, and the same command makes it again") from None
