"""The record of an evolution: the authors' log files, the checkpoint, and the seeds of each generation."""

import argparse
import json
import os
import sys
import time
from collections.abc import Collection, Mapping
from typing import Any, Generic, TypeVar

import numpy as np

from common.agent import controller
from common.game import Game
from common.protocols import Search
from common.runtime import files, provenance, runs, seeds
from common.runtime.cli import UserError

S = TypeVar("S", bound=Search)
NUMBER_BYTES = 9  # of a parameter in log.json, at most: such as "-0.1234, "
SCORED_BY = {"n": "eval_episodes", "backend": "backend"}
"""{name in a row of the log: field of the config} that may change when a search goes on: what a score is a score of"""
FIRST_SEED, LAST_SEED = 20_000, seeds.TRAINING[1]  # of the episodes of candidates


class Evolution(Generic[S]):
    """One evolution of a controller in <run>/log/, resumed from its checkpoint where there is one.

    <base>.json            [[the current mean]]
    <base>.hist.json       a row per generation: [generation, seconds, mean, min and max fitness, std, rms_stdev,
                           mean and max steps + 1]; of the policy gradient: [update, seconds, mean return, entropy,
                           squared error of the value, KL to the reference, KL moved, steps so far]
    <base>.hist_best.json  a row per evaluation of the mean: [generation, seconds, "improvement", x, "curr", x,
                           "prev", x, "best", x]
    <base>.log.json        a row per evaluation: [generation, score, parameters, {"n": episodes, "backend": ...}]
    <base>.best.json       [[the mean with the best evaluation of those that were made as the latest], its score]
    <base>.npz             the distribution, for another machine to continue from: see es.CMA.arrays; and the average
    <base>.checkpoint.npz  all of the above and the whole state of the search, to continue bit for bit: see es.CMA.state

    The evaluations are of `mean`: with `averaging` in the config, a running average of the means of the search. The
    controllers and log.json have metas (common/runtime/provenance.py) that name the files they were evolved on.

    Args:
        arguments: as `cli.parse` returns them.
        game: the game.
        base: "<game>.<strategy>.<episodes>.<popsize>".
        cfg: the config of the training.
        parents: {"vae", "rnn", ...: sha256} of the files it builds on.
        strategy: a new search, such as es.CMA; where an evolution continues, it takes over the state of that.
        may_change: names of config fields that a later start may change, besides the number of generations and ranks.
        score_of: where the scores are from, "dream" or "game".
        unverified: whether one of the parents is, see provenance.any_unverified.

    Raises:
        UserError: a file in the folder is damaged or of another search.
    """

    def __init__(
        self,
        arguments: argparse.Namespace,
        game: Game,
        base: str,
        cfg: Any,
        parents: dict[str, Any],
        strategy: S,
        may_change: Collection[str] = (),
        score_of: str = "dream",
        unverified: bool = False,
    ) -> None:
        # n and t as well: their product, the number of candidates, is in the name of the files
        free = ("generations", "n", "t", "averaging", *may_change)
        self._stage = runs.Stage(arguments, "log", "json", cfg, f"{base}.", free, {"parents": parents})
        self._cfg, self._began = cfg, time.monotonic()
        self._game, self._parents, self._score_of, self._unverified = game.name, parents, score_of, unverified
        self.strategy, self._path = strategy, self._stage.path("checkpoint.npz")
        self.hist: list[list[Any]] = []
        """the rows of <base>.hist.json"""
        self._hist_best: list[list[Any]] = []
        self._log: list[list[Any]] = []
        self._seconds_before = 0.0
        self._average: np.ndarray | None = None  # before the first generation
        if os.path.exists(self._path):
            self._restore()
        elif os.path.exists(self._stage.path("npz")):
            self._take_over()
        if not getattr(cfg, "averaging", 0.0):  # an average that is no longer kept up is not the mean
            self._average = None
        premature = self._forget_last_evaluation()
        if self.hist:
            print(f"{self._stage.path('json')}: continuing from generation {len(self.hist)}")
        self._saved_at, self.broken = time.monotonic(), 0
        self._stage.forget_metrics_after(self.generation)
        if premature:
            self._stage.forget_metric(premature, "es/evaluation")

    def _restore(self) -> None:
        """Goes on from the checkpoint, exactly."""
        try:
            arrays = files.read_npz(self._path)
            logs, average = json.loads(str(arrays.pop("logs"))), arrays.pop("average", None)
            self.strategy.set_state(arrays)
            self._average = self._checked(average)
            self.hist, self._hist_best, self._log = logs["hist"], logs["hist_best"], self._completed(logs["log"])
            self._seconds_before = logs["seconds"]
            if self._logs_are_behind():
                self._write_logs()
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{self._path}: damaged, or of another search ({error}); remove it to continue from the .npz beside "
                "it, or begin anew with --fresh"
            ) from None

    def _take_over(self) -> None:
        """Goes on without a checkpoint, from the log files and the distribution that another machine wrote."""
        if os.path.exists(self._stage.path("checkpoint")):
            print(
                f"{self._stage.path('checkpoint')}: of an earlier version, not read; continuing from the .npz beside it"
            )
        path = self._stage.path("npz")
        logs: dict[str, list[Any]] = {"hist": [], "hist_best": [], "log": []}
        try:
            arrays = files.read_npz(path)
            average = arrays.pop("average", None)
            self.strategy.continue_from(arrays)
            self._average = self._checked(average)
            for name in logs:
                path = self._stage.path(f"{name}.json")
                if os.path.exists(path):
                    logs[name] = files.read_json(path)
            self.hist, self._hist_best, log = logs.values()
            self._log = self._completed(log)
            self._seconds_before = self.hist[-1][1] if self.hist else 0.0
        except (ValueError, KeyError, TypeError, UserError) as error:
            raise UserError(f"{path}: damaged, or of another search ({error}); begin anew with --fresh") from None

    def _completed(self, log: list[list[Any]]) -> list[list[Any]]:
        """The rows of a log, with what their scores are scores of; an earlier version's did not say so."""
        before = _scored_by(vars(self._cfg) | self._stage.before)
        return [[*row[:3], *(row[3:] or [before])] for row in log]

    def _forget_last_evaluation(self) -> int:
        """Removes an evaluation that was made only because the search ended, if the search now continues.

        Returns:
            the generation of that evaluation; 0 if there was none.
        """
        if self._log and self.generation < self._cfg.generations and self._log[-1][0] % self._cfg.eval_steps:
            del self._hist_best[-1:]  # which did not come along, perhaps
            return self._log.pop()[0]
        return 0

    @property
    def _best(self) -> list[Any] | None:
        """The row of the best evaluation of those made as now, the first of equal ones; None if there is none."""
        return max(self._alike, key=lambda row: row[1], default=None)

    @property
    def _alike(self) -> list[list[Any]]:
        """The rows of the log with scores that can be compared with one of now."""
        return [row for row in self._log if row[3] == _scored_by(vars(self._cfg))]

    def _checked(self, average: np.ndarray | None) -> np.ndarray | None:
        """The running average of a file, float64 [N], None if there is none.

        The strategy is restored before: one that searches in a subspace would play to find it, to tell its size.

        Raises:
            ValueError: it does not fit.
        """
        if average is not None:
            size = self.strategy.mean.shape
            if average.dtype != float or average.shape != size or not np.isfinite(average).all():
                raise ValueError(f"average is {average.dtype}{list(average.shape)} or not finite")
        return average

    @property
    def generation(self) -> int:
        """Generations done."""
        return len(self.hist)

    @property
    def finished(self) -> bool:
        """Whether all generations are done; if they are, prints so."""
        if self.generation >= self._cfg.generations:
            path = self._stage.path("best.json")
            print(
                f"{path}: already evolved for {self.generation} generations; nothing to do "
                "(--generations with a higher number continues it, --fresh sets it aside and starts anew)"
            )
            return True
        return False

    def latest(self) -> str:
        """The progress of the evolution in one line."""
        if not self.hist:
            return "no generation yet"
        evaluation = f", evaluated {self._log[-1][1]:.1f}" if self._log else ""
        return f"{self.generation} done: mean {self.hist[-1][2]:.1f}{evaluation}"

    @property
    def mean(self) -> np.ndarray:
        """The running average of the means of the search, float64 [N], or without `averaging` the last mean.

        Near an optimum the fitness of a few episodes is mostly noise, which moves the mean of the search; the average
        cancels it (Polyak & Juditsky 1992). Rounded to the 4 decimals that controllers are saved with.
        """
        return self.strategy.mean if self._average is None else np.round(self._average, 4)

    def seeds(self, count: int | None = None) -> np.ndarray:
        """The seeds of the episodes of the next generation, int64 [count], the same after a resume.

        Args:
            count: how many; by default `num_episode` of the config.
        """
        rng = np.random.default_rng([self._cfg.seed_start, self.generation])
        return rng.integers(FIRST_SEED, LAST_SEED + 1, count or self._cfg.num_episode)

    def evaluation_seeds(self) -> np.ndarray:
        """The seeds of the episodes that evaluate the mean, int64 [E], always the same."""
        return np.arange(seeds.EVALUATION, seeds.EVALUATION + self._cfg.eval_episodes)

    def _seconds(self) -> float:
        return round(self._seconds_before + time.monotonic() - self._began, 1)

    def add_generation(self, returns: np.ndarray, lengths: np.ndarray) -> None:
        """Logs a generation after the strategy was told its fitness: returns and lengths, [P, E]."""
        if self._cfg.averaging:
            before = self.strategy.mean if self._average is None else self._average
            self._average = self._cfg.averaging * before + (1 - self._cfg.averaging) * self.strategy.mean
        fitness = returns.mean(axis=1)
        broken = np.flatnonzero(~np.isfinite(fitness))
        if len(broken):
            self.broken += len(broken)
            text = f"candidates {broken.tolist()} have no finite fitness and rank last ({self.broken} so far)"
            print(f"\ngeneration {self.generation + 1}: {text}", file=sys.stderr)
            fitness = np.delete(fitness, broken)
        scores = [round(float(x), 2) for x in (fitness.mean(), fitness.min(), fitness.max(), fitness.std())]
        steps = [round(float(lengths.mean()) + 1, 2), int(lengths.max()) + 1]
        self.hist.append([self.generation + 1, self._seconds(), *scores, round(self.strategy.rms_stdev, 5), *steps])
        mean, least, most, _ = scores
        self._stage.log(self.generation, es__return_mean=mean, es__return_min=least, es__return_max=most)

    def add_update(self, metrics: Mapping[str, float], mean: float) -> None:
        """Logs an update of the policy gradient.

        Args:
            metrics: as PPO.update returns them.
            mean: the mean return of an episode.
        """
        steps, before = int(metrics["steps"]), self.hist[-1][-1] if self.hist else 0
        learned = [round(metrics[name], 5) for name in ("entropy", "value_loss", "tether", "moved")]
        self.hist.append([self.generation + 1, self._seconds(), round(mean, 2), *learned, before + steps])
        names = {f"ppo__{name}": value for name, value in metrics.items()}
        self._stage.log(self.generation, ppo__return_mean=mean, **names)

    def add_evaluation(self, score: float) -> None:
        """Logs an evaluation of the current mean; keeps it as the best if it is."""
        score, mean = float(score), self.mean.tolist()
        if not np.isfinite(score):
            print(f"\ngeneration {self.generation}: the mean has no finite score and is left out", file=sys.stderr)
            return
        self._stage.log(self.generation, es__evaluation=score)
        previous = self._alike[-1][1] if self._alike else score
        best_before = self._best[1] if self._best else score
        self._log.append([self.generation, score, mean, _scored_by(vars(self._cfg))])
        best = max(best_before, score)
        row = ["improvement", score - best_before, "curr", score, "prev", previous, "best", best]
        rounded = [round(x, 2) if isinstance(x, float) else x for x in row]
        self._hist_best.append([self.generation, self._seconds(), *rounded])

    def save_if_due(self) -> None:
        """As `save`, when the last time is longer ago than `checkpoint_seconds` of the config."""
        if time.monotonic() - self._saved_at > self._cfg.checkpoint_seconds:
            self.save()

    def save(self) -> None:
        """Writes the checkpoint, then the log files; after a kill in between, the next start writes these."""
        logs = {"hist": self.hist, "hist_best": self._hist_best, "log": self._log}
        text = json.dumps(logs | {"seconds": self._seconds()})
        files.write_npz(self._path, compresslevel=0, **self.strategy.state(), **self._averages(), logs=text)
        self._write_logs()
        self._saved_at = time.monotonic()

    def _averages(self) -> dict[str, np.ndarray]:
        return {} if self._average is None else {"average": self._average}

    def _write_logs(self) -> None:
        stage = self._stage
        controller.write(stage.path("json"), self.strategy.mean)
        self._write_meta("json", "controller")
        if self._best:
            generation, score, mean, scored_by = self._best
            controller.write(stage.path("best.json"), mean, score)
            about = {"of": self._score_of, "mean": score, **scored_by, "first_seed": seeds.EVALUATION}
            self._write_meta("best.json", "controller", generation=generation, score=about)
        files.write_json(stage.path("hist_best.json"), self._hist_best)
        files.write_json(stage.path("log.json"), self._log)
        self._write_meta("log.json", "evolution", score={"of": self._score_of})
        files.write_npz(stage.path("npz"), **self.strategy.arrays(), **self._averages())
        files.write_json(stage.path("hist.json"), self.hist)  # the last, so that it tells whether all are written

    def _write_meta(self, name: str, kind: str, **more: Any) -> None:
        path = self._stage.path(name)
        about = {"generation": self.generation, "unverified": self._unverified} | more
        provenance.write(path, kind, self._game, self._cfg, self._parents, self._seconds(), **about)

    def _logs_are_behind(self) -> bool:
        try:
            return files.read_json(self._stage.path("hist.json")) != self.hist
        except (FileNotFoundError, ValueError):
            return True


def _scored_by(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a score is a score of, under this config."""
    return {name: config[field] for name, field in SCORED_BY.items() if field in config}


def check_log(cfg: Any, parameters: int) -> None:
    """UserError if the log of a search, which has the parameters of each evaluation, would be too large to be read.

    Args:
        cfg: of the training.
        parameters: how many a candidate has.
    """
    evaluations = -(-cfg.generations // cfg.eval_steps)
    size = evaluations * parameters * NUMBER_BYTES
    if size > files.JSON_LIMIT:
        raise UserError(
            f"--eval_steps {cfg.eval_steps}: a log of {evaluations} evaluations of {parameters} parameters has about "
            f"{size / 1e6:.0f} MB, and {files.JSON_LIMIT / 1e6:.0f} are read; give more, or fewer --generations"
        )


def has_begun(arguments: argparse.Namespace, base: str) -> bool:
    """Whether an Evolution of these arguments would continue an earlier one."""
    path = os.path.join(arguments.run, "log", f"{base}.")
    return not arguments.fresh and any(os.path.exists(path + name) for name in ("checkpoint.npz", "npz"))


def is_finished(arguments: argparse.Namespace, base: str, cfg: Any) -> bool:
    """Whether an Evolution of these arguments would be finished, before it is opened: nothing need be prepared then."""
    path = os.path.join(arguments.run, "log", f"{base}.")
    try:
        if os.path.exists(f"{path}checkpoint.npz"):
            hist = json.loads(str(files.read_npz(f"{path}checkpoint.npz", only=["logs"])["logs"]))["hist"]
        else:
            hist = files.read_json(f"{path}hist.json") if os.path.exists(f"{path}npz") else []
        return not arguments.fresh and len(hist) >= cfg.generations
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return False
