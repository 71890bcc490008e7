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

plan.py has the seeds and flags of each round, and the checks of them; layout.py the paths, state.py iterate.json,
launch.py how a stage runs, restore.py which recordings are gone, report.py the line of a round.
"""

import os
import shlex
from typing import Any

from common.game import Game
from common.runtime import cli, files, provenance, runs, seeds, settings
from common.runtime.cli import UserError
from common.training import launch, layout, report, ship
from common.training.layout import Paths
from common.training.plan import RUNS, Flags, Plan, Span, nth, trainings
from common.training.restore import Recordings
from common.training.state import State

MODELS = "tf_vae", "tf_rnn", "tf_initial_z"
"""folders of what a controller is trained in"""


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
    given = game, arguments.run, preset, seed, presets[preset], arguments.edited
    is_new = not os.path.exists(arguments.run)
    with runs.new_run(arguments.run):
        if is_new:
            Iteration(*given)  # its checks, while an error still leaves no folder
    held = runs.lock(os.path.join(arguments.run, "lock"))
    files.remove_temporary(arguments.run)
    Iteration(*given).go()
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
        UserError: the rounds contradict themselves, the folder belongs to another game, preset or seed, a round was
            edited after it began, or the disk or memory is too small.
    """

    def __init__(
        self, game: Game, run: str, preset: str, seed: int, cfg: settings.Iterate, edited: bool = False
    ) -> None:
        self._game, self._run, self._cfg, self._rounds = game, run, cfg, cfg.rounds
        self._plan, self._paths = Plan(game, preset, seed, cfg), Paths(run)
        self._state = State(self._plan, self._paths, edited)
        self._stages = launch.Launcher(self._plan, self._state)
        self._recordings = Recordings(self._plan, self._paths, self._state)
        written = os.path.exists(self._paths.rounds_json)
        self._lines: list[dict[str, Any]] = layout.made(self._paths.rounds_json) if written else []
        if len(self._lines) < len(self._rounds):
            self._recordings.check_disk(len(self._lines))
            launch.check_memory()
        self._plan.check_flags(range(len(self._lines) + 1, len(self._rounds) + 1))

    def go(self) -> None:
        """Plays all rounds that are not done.

        Raises:
            UserError: a stage failed, or a file is gone or damaged that a stage needs.
        """
        played = len(self._lines) >= len(self._rounds)
        if played and (self._cfg.linear is None or "linear" in ship.best_of(self._lines)):
            if not os.path.exists(self._paths.picture):
                report.draw(self._lines, self._paths.picture, self._game.title)
            print(f"{self._paths.rounds_json}: all {len(self._rounds)} rounds are done; nothing to do")
            print(self._played_by())
            return
        self._state.save()  # before anything else, so that nothing lies there without it
        for number, one in enumerate(self._rounds, 1):
            # what a round does not train is that of the round before
            unchanged = ("tf_vae", "series") * (one.vae is None) + ("tf_rnn", "tf_initial_z") * (one.rnn is None)
            self._paths.make_round(number, unchanged)
            if number > len(self._lines):
                self._play_round(number, one)
        if self._cfg.linear is not None:
            self._evolve_linear(self._cfg.linear)
        print(self._played_by())

    def _play_round(self, number: int, one: settings.Round) -> None:
        """Records games, trains the VAE and the MDN-RNNs, evolves the controller in them, and reports its score."""
        folder = self._paths.round(number)
        for span in self._plan.recordings(number):
            self._record(number, span)
        self._restore(number)
        if one.vae is not None:
            flags = self._plan.vae_flags(number, one.vae, self._before(number, "tf_vae/vae.json"))
            self._stages.run(number, "vae", "vae_train", flags, folder, "tf_vae/vae.json")
        if self._recordings.must_encode(number):
            at = self._plan.encoded_in(number)
            self._state.forget(f"{at}/series")
            self._stages.run(at, "series", "series", {}, self._paths.round(at))
        _keep_meta_of_series(folder)
        if one.rnn is not None:
            flags = self._plan.rnn_flags(number, one.rnn, self._before(number, "tf_rnn/rnn.json"))
            self._stages.run(number, "rnn", "rnn_train", flags, folder, "tf_rnn/rnn.json")
        others = self._train_more_rnns(number, one, folder)
        if one.train is not None:
            self._evolve(number, one, folder, others)
        self._report(number, one)

    def _before(self, number: int, name: str) -> str:
        """What a stage of a round calls a file of the round before, from which it continues; in round 1 it is ""."""
        if number == 1:
            return ""
        return self._paths.named(os.path.join(self._paths.round(number - 1), name), self._paths.round(number))

    def _record(self, number: int, span: Span) -> None:
        """Records a span of the games of a round."""
        folder, controller = self._run, ""
        if span[0] == "own":
            folder = self._paths.round(number - 1)
            controller = self._paths.named(self._state.controller(number - 1), folder)
        self._stages.run(number, span[0], "extract", self._plan.record_flags(number, span, controller), folder)

    def _restore(self, number: int) -> None:
        """Makes recordings again that are gone, if a stage of this round reads them.

        They may differ from the lost ones in the last bits, so what had begun on those begins anew.

        Raises:
            UserError: there are recordings of another origin.
        """
        if not self._recordings.are_read_in(number):
            return
        self._recordings.check_origin(number)
        lost = self._recordings.lost(number)
        self._recordings.let_begin_anew(number, bool(lost))
        for k, span in lost:
            print(f"round {k}: recordings from seed {span[1]} on are gone; they are made again", flush=True)
            self._recordings.forget(k, span)
            self._record(k, span)

    def _train_more_rnns(self, number: int, one: settings.Round, folder: str) -> list[str]:
        """Further MDN-RNNs of a round, each in its own folder; returns their files."""
        made, start = [], os.path.join(folder, "tf_rnn", "rnn.json")
        for which in range(2, 2 + one.more_rnns):
            name = nth("rnn", which)
            own = layout.make_within(folder, name, ("tf_vae", "series"))
            flags = self._plan.more_rnn_flags(number, which, self._paths.named(start, own))
            self._stages.run(number, name, "rnn_train", flags, own, "tf_rnn/rnn.json")
            start = os.path.join(own, "tf_rnn", "rnn.json")
            made.append(start)
        return made

    def _evolve(self, number: int, one: settings.Round, folder: str, others: list[str]) -> None:
        """Evolves the controller of a round."""
        logs = []
        for which, train in enumerate(trainings(one), 1):
            name = nth("train", which)
            own = folder if which == 1 else layout.make_within(folder, name, (*MODELS, "series"))
            start = self._paths.named(self._state.controller(number - 1), own) if number > 1 else ""
            rnns = [self._paths.named(path, own) for path in others]
            flags = self._plan.train_flags(number, train, start, rnns, which)
            logs.append(self._train(number, name, flags, own))
        self._choose(number, "", logs, folder, one.games)

    def _train(self, number: int, name: str, flags: Flags, folder: str) -> str:
        """Evolves a controller in a folder; returns the path of its .log.json."""
        self._stages.run(number, name, "train", flags, folder)
        return _only(os.path.join(folder, "log"), ".log.json")

    def _choose(self, number: int, of: str, logs: list[str], folder: str, games: int) -> None:
        """Notes the agent of a round: of the evaluated means the one with the best score in the real game."""
        base, ending = logs[0].removesuffix("log.json"), "best.json"
        if sum(len(layout.made(log)) for log in logs) > 1:  # else there is nothing to choose
            flags = {"": logs, "episodes": games, "final_episodes": 2 * games} | self._plan.backend_flags()
            ending = "picked.json"
            picked = os.path.join("log", os.path.basename(base) + ending)
            self._stages.run(number, f"{of}pick", "pick_best", flags, folder, picked)
        if f"{number}/{of}agent" not in self._state.done:
            self._state.note(f"{number}/{of}agent", controller=os.path.relpath(base + ending, self._run))

    def _report(self, number: int, one: settings.Round) -> None:
        """Plays the controller on separate validation games, and adds the line of the round."""
        folder = self._paths.round(number)
        if f"{number}/agent" not in self._state.done:
            self._state.note(f"{number}/agent", **self._state.done[f"{number - 1}/agent"])
        file = self._state.controller(number)
        self._score(number, "", file, folder, one.games)
        if self._plan.comparable:
            fidelity = self._made_again(number, "fidelity", os.path.join(folder, "fidelity.json"))
            flags = {"": file, "games": max(10, one.games // 2), "out": fidelity} | self._plan.backend_flags()
            self._stages.run(number, "fidelity", "fidelity", flags, folder, preset=False)
        line = report.line(number, self._plan, self._paths, self._state)
        self._lines.append(line)
        files.write_json(self._paths.rounds_json, self._lines, indent=1)  # from now on the round is done
        print(report.words(line), flush=True)
        report.draw(self._lines, self._paths.picture, self._game.title)

    def _score(self, number: int, of: str, file: str, folder: str, games: int) -> str:
        """Plays a controller on the validation games of reports; returns the file of its scores."""
        scores = self._made_again(number, f"{of}score", os.path.join(folder, "scores.json"))
        flags = {"": [*self._how_to_play(), "norender", file, seeds.REPORT], "episodes": games, "out": scores}
        flags |= self._plan.backend_flags()
        self._stages.run(number, f"{of}score", "model", flags, folder, preset=False)
        return scores

    def _made_again(self, number: int, name: str, path: str) -> str:
        """The path of a result that a stage makes again if it is gone."""
        if not os.path.exists(path):
            self._state.forget(f"{number}/{name}")
        return path

    def _evolve_linear(self, flags: Flags) -> None:
        """Evolves the paper's linear controller with the models of the best round, beside that round's controller."""
        best = ship.best_of(self._lines)
        number = best["round"]
        games = self._rounds[number - 1].games
        folder = layout.make_within(self._paths.round(number), "linear", MODELS)
        log = self._train(number, "linear_train", self._plan.train_flags(0, flags, "", []), folder)
        self._choose(number, "linear_", [log], folder, games)
        file = self._state.controller(number, "linear_")
        scores = self._score(number, "linear_", file, folder, games)
        best["linear"] = report.scored(self._game, file, scores)
        files.write_json(self._paths.rounds_json, self._lines, indent=1)
        real = best["linear"]["real"]
        print(
            f"linear controller: game {real['mean']:.1f} ± {real['stderr']:.1f} ({real['n']} validation games)",
            flush=True,
        )

    def _played_by(self) -> str:
        """The command that scores the agent of the best round, for people, on validation games of their own.

        Test games are for the final score of what ships; several runs may be compared before that.
        """
        best = ship.best_of(self._lines)["round"]
        folder = self._paths.round(best)
        file = self._paths.named(self._state.controller(best), folder)
        words = ["python", "model.py", *self._how_to_play(), "norender", file, str(seeds.TRIALS), "--run", folder]
        return f"the best round is {best}; its agent plays by: {shlex.join(words)}"

    def _how_to_play(self) -> list[str]:
        """What model.py calls the real game, if it is told."""
        return [self._game.world_names["real"]] if self._game.world_names else []


def _keep_meta_of_series(folder: str) -> None:
    """Keeps the meta of the series that a round learns from: later rounds add to the series itself."""
    meta = os.path.join(folder, "series", f"series.npz{provenance.ENDING}")
    if os.path.exists(meta):
        with open(meta, "rb") as file, files.atomic(os.path.join(folder, f"series{provenance.ENDING}")) as kept:
            kept.write(file.read())


def _only(folder: str, ending: str) -> str:
    """Path of the only file in a folder with an ending.

    Raises:
        UserError: there is none, or more than one.
    """
    found = [name for name in os.listdir(folder) if name.endswith(ending)] if os.path.isdir(folder) else []
    if len(found) != 1:
        raise UserError(
            f"{folder}: holds {len(found)} files *{ending}, not one; bring the one that was evolved there, alone"
        )
    return os.path.join(folder, found[0])
