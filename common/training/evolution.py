"""The record of an evolution: the authors' log files, the checkpoint, and the seeds of each generation."""

import json
import os
import sys
import time

import numpy as np

from common.agent import controller
from common.runtime import files, provenance, runs, seeds
from common.runtime.cli import UserError

FIRST_SEED, LAST_SEED = 20_000, seeds.TRAINING[1]  # of the episodes of candidates


class Evolution:
    """One evolution of a controller in <run>/log/, resumed from its checkpoint where there is one.

    <base>.json            [[the current mean]]
    <base>.hist.json       a row per generation: [generation, seconds, mean, min and max fitness, std, rms_stdev,
                           mean and max steps + 1]; of the policy gradient: [update, seconds, steps per dream, entropy,
                           squared error of the value, KL to the reference, KL moved, steps dreamt so far]
    <base>.hist_best.json  a row per evaluation of the mean: [generation, seconds, "improvement", x, "curr", x,
                           "prev", x, "best", x]
    <base>.log.json        a row per evaluation: [generation, score, parameters]
    <base>.best.json       [[the mean with the best evaluation], its score]
    <base>.npz             the distribution, for another machine to go on from: see es.CMA.arrays; and the average
    <base>.checkpoint.npz  all of the above and the search's whole state, to go on from bit for bit: see es.CMA.state

    What is evaluated is `mean`: with the `averaging` of the config, the running average of the means of the search. The
    controllers and log.json have metas (common/runtime/provenance.py) that name what they were evolved on.

    Args:
        arguments: what `cli.parse` returned.
        game: Game.
        base: "<game>.<strategy>.<episodes>.<popsize>".
        cfg: the config of the training.
        parents: {"vae", "rnn", ...: sha256} of the files it builds on.
        strategy: a fresh one, such as es.CMA; it takes over the state of the search that it goes on with.
        may_change: names of config fields that a later start may change, besides these.
        score_of: what its scores are scores of, "dream" or "game".
    """

    def __init__(self, arguments, game, base, cfg, parents, strategy, may_change=(), score_of="dream"):
        # more generations; other ranks, for popsize = n * t is in the file name
        may_change = ("generations", "n", "t", "averaging", *may_change)
        self._stage = runs.Stage(arguments, "log", "json", cfg, f"{base}.", may_change, {"parents": parents})
        self._cfg, self._began = cfg, time.monotonic()
        self._game, self._parents, self._score_of = game.name, parents, score_of
        self.strategy, self._path = strategy, self._stage.path("checkpoint.npz")
        self.hist, self._hist_best, self._log, self._seconds_before = [], [], [], 0.0
        self._average = None  # before the first generation
        if os.path.exists(self._path):
            self._restore()
        elif os.path.exists(self._stage.path("npz")):
            self._take_over()
        premature = self._forget_last_evaluation()
        if self.hist:
            print(f"{self._stage.path('json')}: going on from generation {len(self.hist)}")
        self._saved_at, self.broken = time.monotonic(), 0
        self._stage.forget_metrics_after(self.generation)
        if premature:
            self._stage.forget_metric(premature, "es/evaluation")

    def _restore(self):
        """Goes on from the checkpoint, exactly."""
        try:
            arrays = files.read_npz(self._path)
            logs, self._average = json.loads(str(arrays.pop("logs"))), self._average_in(arrays)
            self.strategy.set_state(arrays)
            self.hist, self._hist_best, self._log = logs["hist"], logs["hist_best"], logs["log"]
            self._seconds_before = logs["seconds"]
            if self._logs_are_behind():
                self._write_logs()
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{self._path}: damaged, or of another search ({error}); remove it to go on from the .npz beside it, "
                "or begin anew with --fresh"
            ) from None

    def _take_over(self):
        """Without a checkpoint: goes on from the log files and the distribution, such as another machine left them."""
        if os.path.exists(self._stage.path("checkpoint")):
            print(
                f"{self._stage.path('checkpoint')}: of an earlier version, not read; going on from the .npz beside it"
            )
        path, logs = self._stage.path("npz"), {"hist": [], "hist_best": [], "log": []}
        try:
            arrays = files.read_npz(path)
            self._average = self._average_in(arrays)
            self.strategy.continue_from(arrays)
            for name in logs:
                path = self._stage.path(f"{name}.json")
                if os.path.exists(path):
                    logs[name] = files.read_json(path)
            self.hist, self._hist_best, self._log = logs.values()
            self._seconds_before = self.hist[-1][1] if self.hist else 0.0
        except (ValueError, KeyError, TypeError, UserError) as error:
            raise UserError(f"{path}: damaged, or of another search ({error}); begin anew with --fresh") from None

    def _forget_last_evaluation(self):
        """A search that goes on forgets an evaluation that it had only because it ended: it ends elsewhere now.

        Returns:
            int, the generation of that evaluation; 0 if there was none.
        """
        if self._log and self.generation < self._cfg.generations and self._log[-1][0] % self._cfg.eval_steps:
            del self._hist_best[-1]
            return self._log.pop()[0]
        return 0

    @property
    def _best(self):
        """[generation, score, parameters] of the best evaluation, the first of equals; None before there is one."""
        return max(self._log, key=lambda row: row[1], default=None)

    def _average_in(self, arrays):
        """Takes the running average out of a file's arrays, float64 [N], or None; ValueError if it is no such thing."""
        average = arrays.pop("average", None)
        if average is not None:
            size = self.strategy.mean.shape
            if average.dtype != float or average.shape != size or not np.isfinite(average).all():
                raise ValueError(f"average is {average.dtype}{list(average.shape)} or not finite")
        return average

    @property
    def generation(self):
        """Generations done."""
        return len(self.hist)

    @property
    def finished(self):
        """Whether all generations are done; says so."""
        if self.generation >= self._cfg.generations:
            path = self._stage.path("best.json")
            print(f"{path}: already evolved for {self.generation} generations; nothing to do "
                  "(--generations with a higher number goes on, --fresh sets it aside and starts anew)")  # fmt: skip
            return True
        return False

    def latest(self):
        """One line: where the evolution stands."""
        if not self.hist:
            return "no generation yet"
        evaluation = f", evaluated {self._log[-1][1]:.1f}" if self._log else ""
        return f"{self.generation} done: mean {self.hist[-1][2]:.1f}{evaluation}"

    @property
    def mean(self):
        """What is evaluated: the running average of the search's means (Polyak & Juditsky 1992), float64 [N].

        Near an optimum the fitness of a few episodes is mostly noise, which drives the mean of the search about; in the
        average it cancels out. Rounded to the 4 decimals that controllers are saved with.
        """
        return self.strategy.mean if self._average is None else np.round(self._average, 4)

    def seeds(self, count=None):
        """The seeds of the next generation's episodes, the same for all candidates and for any resumed run.

        Args:
            count: int, how many; None means the config's `num_episode`.
        """
        rng = np.random.default_rng([self._cfg.seed_start, self.generation])
        return rng.integers(FIRST_SEED, LAST_SEED + 1, count or self._cfg.num_episode)

    def evaluation_seeds(self):
        """The seeds on which the mean is evaluated, the same every time."""
        return np.arange(seeds.EVALUATION, seeds.EVALUATION + self._cfg.eval_episodes)

    def _seconds(self):
        return round(self._seconds_before + time.monotonic() - self._began, 1)

    def add_generation(self, returns, lengths):
        """Logs a generation, which the strategy has been told: returns and lengths, [P, E]."""
        if self._cfg.averaging:
            before = self.strategy.mean if self._average is None else self._average
            self._average = self._cfg.averaging * before + (1 - self._cfg.averaging) * self.strategy.mean
        fitness = returns.mean(axis=1)
        broken = np.flatnonzero(~np.isfinite(fitness))
        if len(broken):
            self.broken += len(broken)
            print(f"\ngeneration {self.generation + 1}: candidates {broken.tolist()} have no finite fitness and rank "
                  f"last ({self.broken} so far)", file=sys.stderr)  # fmt: skip
            fitness = np.delete(fitness, broken)
        scores = [round(float(x), 2) for x in (fitness.mean(), fitness.min(), fitness.max(), fitness.std())]
        steps = [round(float(lengths.mean()) + 1, 2), int(lengths.max()) + 1]
        self.hist.append([self.generation + 1, self._seconds(), *scores, round(self.strategy.rms_stdev, 5), *steps])
        mean, least, most, _ = scores
        self._stage.log(self.generation, es__return_mean=mean, es__return_min=least, es__return_max=most)

    def add_update(self, metrics, steps):
        """Logs an update of the policy gradient.

        Args:
            metrics: what PPO.update returned.
            steps: int, dreamt in it.
        """
        per_dream = steps if metrics["ends"] == 0 else min(steps, 1 / metrics["ends"])
        learnt = [round(metrics[name], 5) for name in ("entropy", "value_loss", "tether", "moved")]
        dreamt = steps * (self.generation + 1)
        self.hist.append([self.generation + 1, self._seconds(), round(per_dream, 2), *learnt, dreamt])
        names = {f"ppo__{name}": value for name, value in metrics.items()}
        self._stage.log(self.generation, ppo__steps_per_dream=per_dream, **names)

    def add_evaluation(self, score):
        """Logs an evaluation of the present mean; keeps it as the best if it is."""
        score, mean = float(score), self.mean.tolist()
        if not np.isfinite(score):
            print(f"\ngeneration {self.generation}: the mean has no finite score and is left out", file=sys.stderr)
            return
        self._stage.log(self.generation, es__evaluation=score)
        previous = self._log[-1][1] if self._log else score
        best_before = self._best[1] if self._best else score
        self._log.append([self.generation, score, mean])
        row = ["improvement", score - best_before, "curr", score, "prev", previous, "best", self._best[1]]
        row = [round(x, 2) if isinstance(x, float) else x for x in row]
        self._hist_best.append([self.generation, self._seconds(), *row])

    def save_if_due(self):
        """Writes everything if the last time is the config's `checkpoint_seconds` ago."""
        if time.monotonic() - self._saved_at > self._cfg.checkpoint_seconds:
            self.save()

    def save(self):
        """Writes the checkpoint, and then the log files, which a start after a kill between the two writes again."""
        logs = {"hist": self.hist, "hist_best": self._hist_best, "log": self._log}
        logs = json.dumps(logs | {"seconds": self._seconds()})
        files.write_npz(self._path, compresslevel=0, **self.strategy.state(), **self._averages(), logs=logs)
        self._write_logs()
        self._saved_at = time.monotonic()

    def _averages(self):
        return {} if self._average is None else {"average": self._average}

    def _write_logs(self):
        stage = self._stage
        controller.write(stage.path("json"), self.strategy.mean)
        self._write_meta("json", "controller")
        if self._best:
            generation, score, mean = self._best
            controller.write(stage.path("best.json"), mean, score)
            about = {"of": self._score_of, "mean": score, "n": self._cfg.eval_episodes, "first_seed": seeds.EVALUATION}
            self._write_meta("best.json", "controller", generation=generation, score=about)
        files.write_json(stage.path("hist_best.json"), self._hist_best)
        files.write_json(stage.path("log.json"), self._log)
        self._write_meta("log.json", "evolution")
        files.write_npz(stage.path("npz"), **self.strategy.arrays(), **self._averages())
        files.write_json(stage.path("hist.json"), self.hist)  # the last, so that it tells whether all are written

    def _write_meta(self, name, kind, **more):
        path = self._stage.path(name)
        more = {"generation": self.generation} | more
        provenance.write(path, kind, self._game, self._cfg, self._parents, self._seconds(), **more)

    def _logs_are_behind(self):
        try:
            return files.read_json(self._stage.path("hist.json")) != self.hist
        except (FileNotFoundError, ValueError):
            return True


def read_log(path):
    """[(generation, score, float64 [N] parameters)] of the means that an evolution evaluated, from <base>.log.json.

    Raises:
        UserError: it is damaged, or another kind of file.
    """
    try:
        return [
            (int(generation), float(score), np.array(mean, float)) for generation, score, mean in files.read_json(path)
        ]
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: not an evolution's .log.json ({error})") from None
