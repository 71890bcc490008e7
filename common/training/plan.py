"""What a run of iterate.py will do, known before any work: seeds and flags of each round, and all checks of them."""

import argparse
import os
from typing import Any

from common.game import Game
from common.play import record
from common.runtime import cli, seeds, settings
from common.runtime.cli import UserError
from common.training import evolve

SEEDS_PER_RUN = 30_000  # of recordings, so that runs with different seeds record different games
RUNS = (seeds.RECORDED - seeds.TRAINING[0]) // SEEDS_PER_RUN
MOST_GAMES = (seeds.REPORT - seeds.REAL_GAMES) // 3  # pick_best.py plays three times as many, from REAL_GAMES on
Flags = dict[str, Any]
"""{flag: value} of a stage"""
Span = tuple[str, int, int]
"""("random" or "own", first seed, episodes) of what one command records"""


class Plan:
    """The rounds of a run, with the seeds and flags of their stages.

    Rounds are numbered from 1.

    Args:
        game: what is played.
        preset: name of the preset.
        seed: of the run, from 1 to `RUNS`.
        cfg: the rounds of the preset.

    Raises:
        UserError: the game has not all scripts, or a round contradicts itself.
    """

    def __init__(self, game: Game, preset: str, seed: int, cfg: settings.Iterate) -> None:
        self.game, self.preset, self.seed, self.cfg, self.rounds = game, preset, seed, cfg, cfg.rounds
        self._first_seed = seeds.TRAINING[0] + (seed - 1) * SEEDS_PER_RUN
        expects = getattr(game.config.RNN[preset], "heads", False) and hasattr(game.config, "STOPS_PAYING")
        self.comparable = game.config.RESTART or expects
        """whether the dream can be compared with the game: the MDN-RNN predicts its ends, or what it pays"""
        self._check_scripts()
        self._check_rounds()

    def recorded(self, number: int) -> int:
        """How many games are recorded up to a round, with those of the round."""
        return sum(one.random + one.own for one in self.rounds[:number])

    def first_seed(self, number: int) -> int:
        """The seed of the first game that a round records; it may be the round after the last one."""
        return self._first_seed + self.recorded(number - 1)

    def recordings(self, number: int) -> list[Span]:
        """What is recorded in a round."""
        one, first = self.rounds[number - 1], self.first_seed(number)
        spans = [("random", first, one.random), ("own", first + one.random, one.own)]
        return [span for span in spans if span[2]]

    def encoded_in(self, number: int) -> int:
        """The last round up to this one that encodes recordings."""
        rounds = self.rounds[:number]
        return max(k for k, one in enumerate(rounds, 1) if one.random or one.own or one.vae is not None)

    def readers(self, number: int) -> list[str]:
        """The stages of a round that read the series."""
        one = self.rounds[number - 1]
        names = ["rnn"] * (one.rnn is not None) + [nth("rnn", k + 2) for k in range(one.more_rnns)]
        for which, flags in enumerate(trainings(one), 1):
            names += [nth("train", which)] * self._starts_along_games(flags)
        return [f"{number}/{name}" for name in names]

    def seed_of(self, number: int, which: int = 1) -> int:
        """The seed of a training of a round, or of the MDN-RNNs that it has, which no other run or round has.

        Args:
            number: of the round; 0 for the linear controller, which is evolved after all of them.
            which: of the trainings of the round, or of its MDN-RNNs.
        """
        return 100 * self.seed + number + 10_000 * (which - 1)

    def record_flags(self, number: int, span: Span, controller: str) -> Flags:
        """The flags of extract.py for a span of a round.

        Args:
            number: of the round.
            span: one of its `recordings`.
            controller: the file of the controller of the round before, which plays the "own" games.
        """
        (name, first, episodes), one = span, self.rounds[number - 1]
        flags = one.record | {"episodes": episodes, "first_seed": first}
        return flags | ({"explore": one.explore, "controller": controller} if name == "own" else {})

    def vae_flags(self, number: int, vae: Flags, start: str) -> Flags:
        """The flags of vae_train.py in a round.

        Args:
            number: of the round.
            vae: its flags of vae_train.py.
            start: the VAE that a round after the first continues from, unless it has another "start_from".
        """
        return _continued(number, vae, start) | {"seed": self.seed}

    def rnn_flags(self, number: int, rnn: Flags, start: str) -> Flags:
        """The flags of rnn_train.py in a round; arguments as those of `vae_flags`."""
        return _continued(number, self._newest(number) | rnn, start) | {"seed": self.seed_of(number)}

    def more_rnn_flags(self, number: int, which: int, start: str) -> Flags:
        """The flags of rnn_train.py for a further MDN-RNN of a round.

        Args:
            number: of the round.
            which: of its MDN-RNNs, from 2 on.
            start: the MDN-RNN before it, from which it continues.
        """
        one = self.rounds[number - 1]
        usual = self._newest(number) | (one.rnn or {}) | one.more
        return usual | {"start_from": start, "seed": self.seed_of(number, which)}

    def train_flags(self, number: int, train: Flags, start: str, others: list[str], which: int = 1) -> Flags:
        """The flags of train.py in a round.

        Args:
            number: of the round.
            train: its flags of train.py.
            start: the controller that a round after the first continues from, unless it has another "start_from".
            others: its further MDN-RNNs.
            which: of its trainings.
        """
        flags = _continued(number, train | {"seed_start": self.seed_of(number, which)}, start)
        return flags | ({"also_in": ",".join(others)} if others else {})

    def backend_flags(self) -> Flags:
        """The flag that says what validation games are played on."""
        return {"backend": self.cfg.backend} if self.cfg.backend else {}

    def check_flags(self, numbers: range) -> None:
        """Ends with code 2 where a stage would refuse the flags of a round that is to come: not after hours of others.

        Args:
            numbers: of those rounds.

        Raises:
            UserError: flags contradict each other, or the rounds.
        """
        preset, linear = ["--preset", self.preset], self.cfg.linear
        if self.cfg.backend not in ("", *self.game.backends):
            raise UserError(
                f"{self.preset}: has backend={self.cfg.backend!r}; give one of {', '.join(self.game.backends)}"
            )
        recorded = self.recorded(len(self.rounds))
        if recorded > SEEDS_PER_RUN:  # the next ones are those of the run with the next seed
            raise UserError(f"{self.preset}: its rounds record {recorded} games; {SEEDS_PER_RUN} at most")
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

    def _check_scripts(self) -> None:
        needed = ["extract", "vae_train", "series", "rnn_train", "train", "pick_best", "model"]
        needed += ["fidelity"] * self.comparable
        folder = self.game.folder
        lacking = [f"{name}.py" for name in needed if not os.path.exists(os.path.join(folder, f"{name}.py"))]
        if lacking:
            raise UserError(f"{folder}: has no {', '.join(lacking)}, which the rounds need; see docs/new_game.md")

    def _check_rounds(self) -> None:
        """UserError if a round lacks what it needs, whatever the flags of its stages are."""
        preset, first = self.preset, self.rounds[0]
        if not first.random or first.own or None in (first.vae, first.rnn, first.train):
            raise UserError(f"{preset}: its first round must have random, vae, rnn and train, and no own games")
        for number, one in enumerate(self.rounds, 1):
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

    def _given(self, number: int) -> list[tuple[int, str, Any, Any]]:
        """(number, script, its presets, its flags or None) of the stages of a round that take flags."""
        one, config = self.rounds[number - 1], self.game.config
        world = getattr(self._train_presets(one.train or {}).get(self.preset), "world", "")
        if one.more_rnns and one.train is not None and world == "game":
            raise UserError(f"{self.preset}: round {number} has more_rnns, and they are for training in the dream")
        if not 1 <= one.games <= MOST_GAMES:
            raise UserError(f"{self.preset}: round {number} has games={one.games}; give 1 to {MOST_GAMES}")
        others = [nth("rnn", k + 2) for k in range(one.more_rnns)]
        own = {"explore": one.explore} if one.own else {}
        shares = {"newest_share": one.own_share} if one.own else {}
        trains = [self.train_flags(number, flags, "the round before", others) for flags in trainings(one)]
        return [
            (number, "extract", config.EXTRACT, one.record | own),
            (number, "vae_train", config.VAE, one.vae),
            (number, "rnn_train", config.RNN, None if one.rnn is None else one.rnn | shares),
            (number, "rnn_train", config.RNN, (one.rnn or {}) | shares | one.more if others or one.more else None),
            *((number, "train", self._train_presets(flags), flags) for flags in trains),
        ]

    def _check_held_out(self, number: int, cfg: Any) -> None:
        """UserError if the games that are recorded by a round leave the MDN-RNN none to learn from."""
        recorded = self.recorded(number)
        if cfg.validation_episodes >= recorded:
            raise UserError(
                f"--validation_episodes {cfg.validation_episodes}: these leave none of the {recorded} games recorded "
                "by then to train on"
            )

    def _check_pays(self, cfg: Any, rnn_cfg: Any) -> None:
        """UserError if a controller is to be trained in the dream of an MDN-RNN that expects no reward."""
        if cfg.world == "dream" and not self.game.config.DREAM_REWARD and not getattr(rnn_cfg, "heads", True):
            raise UserError(
                "--world dream: its MDN-RNN expects no reward, so the dream has nothing to teach; give rnn heads=True"
            )

    def _check_stage(self, script: str, cfg: Any, arguments: argparse.Namespace) -> None:
        """UserError if options of a stage contradict each other; of `cli.check`."""
        config = self.game.config
        if script == "extract":
            record.check(self.game, cfg)
        elif script == "train":
            evolve.check(self.game, cfg)
        elif script == "vae_train":
            settings.check_vae(cfg, arguments)
        elif script == "rnn_train":
            settings.one_normal(cfg, config.RNN[self.preset])
            if cfg.mirror and not config.SERIES[self.preset].mirror:
                raise UserError(
                    f"--mirror: series.py encodes no mirror images in preset {self.preset}; set mirror in SERIES of "
                    "config.py, or leave it out here"
                )

    def _newest(self, number: int) -> Flags:
        """The flags that give separate streams to the games of the controllers of this run."""
        one = self.rounds[number - 1]
        own, usual = sum(earlier.own for earlier in self.rounds[:number]), self.game.config.RNN
        held_out = (one.rnn or {}).get("validation_episodes", usual[self.preset].validation_episodes)
        return {"newest": own - held_out, "newest_share": one.own_share} if own > held_out else {}

    def _train_presets(self, flags: Flags) -> dict[str, Any]:
        """The presets of train.py for these flags of it."""
        presets = self.game.ppo_presets if flags.get("o") == "ppo" else self.game.train_presets
        return presets(flags.get("world", ""))

    def _starts_along_games(self, flags: Flags) -> bool:
        """Whether the dreams of a training with these flags start along the recorded games."""
        cfg = self._train_presets(flags).get(self.preset)
        return bool(flags.get("starts", getattr(cfg, "starts", 0)))


def trainings(one: settings.Round) -> list[Flags]:
    """The flags of train.py, for each training of a round."""
    return [] if one.train is None else [one.train, *(one.train | flags for flags in one.also)]


def nth(name: str, which: int) -> str:
    """What a stage is called that a round has several of: train, train2, train3."""
    return name if which == 1 else f"{name}{which}"


def _continued(number: int, flags: Flags, start: str) -> Flags:
    """Flags with the file that a stage continues from, in a round after the first that names none."""
    return flags | {"start_from": start} if number > 1 and "start_from" not in flags else flags
