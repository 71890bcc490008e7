"""iterate.json: which stages of a run are done, and with which rounds it was begun.

Stages are named "2/rnn", by their round.
"""

import dataclasses
import json
import os
from typing import Any

from common.runtime import files, settings
from common.runtime.cli import UserError
from common.training.layout import Paths
from common.training.plan import Plan


class State:
    """What is done in a run, as iterate.json says and is told.

    Args:
        plan: the rounds of the run as they are now.
        paths: where its files lie.
        edited: whether to play a round anew that was edited after it began, and the later ones: what they have made is
            set aside.

    Raises:
        UserError: the folder belongs to another game, preset or seed, or iterate.json is damaged or missing; a round
            was edited after it began, and is the first one or `edited` is False.
    """

    def __init__(self, plan: Plan, paths: Paths, edited: bool = False) -> None:
        self._plan, self._paths = plan, paths
        self._notes = self._opened(edited)
        self.done: dict[str, dict[str, Any]] = self._notes["done"]
        """{stage: what `note` was told of it}, in the order in which they were done; to be read only"""
        self.seconds: dict[str, float] = self._notes["seconds"]
        """{stage: time that it has taken so far [s]} of all stages that have begun; to be read only"""

    @property
    def memory_gb(self) -> dict[str, float]:
        """{stage: its peak memory [GB]} of the stages that took longer than a moment."""
        return self._notes.get("memory_gb", {})

    @property
    def aside_minutes(self) -> float:
        """Time that the rounds took that were edited and set aside [min]."""
        return self._notes.get("aside_minutes", 0.0)

    def controller(self, number: int, of: str = "") -> str:
        """Path of a controller of a round that is done: the one, or with "linear_" the linear one."""
        return os.path.join(self._paths.run, self.done[f"{number}/{of}agent"]["controller"])

    def is_done(self, stage: str, result: str) -> bool:
        """Whether a stage is noted as done, and its result is there.

        Args:
            stage: its name.
            result: path of its result, if that is a file that is kept, or "".

        Raises:
            UserError: the result is gone, and a later stage has built on it.
        """
        if stage not in self.done or not result or os.path.exists(result):
            return stage in self.done
        if stage != list(self.done)[-1]:
            raise UserError(f"{result}: is gone, and what came later needs it; bring it back, or give another --run")
        return False

    def note(self, stage: str, **about: Any) -> None:
        """Notes that a stage is done."""
        self.done[stage] = about
        self.save()

    def forget(self, stage: str) -> None:
        """Lets a stage count as not done, from the next time on that something is noted."""
        self.done.pop(stage, None)

    def note_time(self, stage: str, seconds: float, memory_gb: float | None = None) -> None:
        """Notes the time and the peak memory of a stage so far.

        Args:
            stage: its name.
            seconds: over all its starts.
            memory_gb: of this start, if it is known.
        """
        self.seconds[stage] = seconds
        most = self._notes.setdefault("memory_gb", {})  # a younger note than those of other runs
        if memory_gb is not None:
            most[stage] = round(max(most.get(stage, 0.0), memory_gb), 2)
        self.save()

    def must_begin_anew(self, stage: str) -> bool:
        """Whether a stage is to set aside what it began."""
        return stage in self._notes.get("anew", [])

    def let_begin_anew(self, stages: list[str]) -> None:
        """Tells stages to set aside what they began, from the next time on that something is noted."""
        self._notes["anew"] = sorted({*self._notes.get("anew", []), *stages})

    def note_anew(self, stage: str) -> None:
        """Notes that a stage has set aside what it began."""
        self._notes["anew"].remove(stage)
        self.save()

    def save(self) -> None:
        """Writes iterate.json."""
        files.write_json(self._paths.iterate_json, self._notes, indent=1)

    def _opened(self, edited: bool) -> dict[str, Any]:
        plan, path = self._plan, self._paths.iterate_json
        about = {"game": plan.game.name, "preset": plan.preset, "seed": plan.seed}
        # a field that is younger than the run had its default
        usual, *rounds = json.loads(json.dumps([dataclasses.asdict(one) for one in (settings.Round(), *plan.rounds)]))
        try:
            before = files.read_json(path)
            known = {name: before[name] for name in about}
            begun = max((int(stage.split("/")[0]) for stage in before["seconds"]), default=0)
            earlier = [usual | one for one in before["rounds"]]
            before = before | {name: dict(before[name]) for name in ("done", "seconds")}
        except FileNotFoundError:
            self._check_empty()
            return about | {"rounds": rounds, "done": {}, "seconds": {}}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path}: damaged ({error}); begin in another --run") from None
        for name, value in about.items():
            if known[name] != value:
                raise UserError(
                    f"--run {self._paths.run}: is a run of {name} {known[name]}, not {value}; give another --run"
                )
        changed = [k + 1 for k in range(begun) if rounds[k : k + 1] != earlier[k : k + 1]]
        if not changed:
            if edited:
                print(f"{path}: no round that has begun was edited", flush=True)
            return before | {"rounds": rounds}
        number = changed[0]
        if number == 1 or not edited:
            raise _edited(path, number, earlier, rounds)
        plan.check_flags(range(number, len(rounds) + 1))  # before hours of work are set aside
        before = self._set_aside(number, before)
        files.write_json(path, before | {"rounds": rounds}, indent=1)  # last: till then, the same moves the rest
        return before | {"rounds": rounds}

    def _check_empty(self) -> None:
        """UserError if something lies in the folder of a run that has no iterate.json."""
        run = self._paths.run
        left = [name for name in ("record", "round1", "rounds.json") if os.path.exists(os.path.join(run, name))]
        if left:
            raise UserError(f"--run {run}: has {left[0]} but no iterate.json; bring that too, or give another --run")

    def _set_aside(self, number: int, notes: dict[str, Any]) -> dict[str, Any]:
        """Moves what a round and the later ones have made to a folder of its own; returns the notes before them."""
        aside = self._paths.set_aside(number, self._plan.first_seed(number))
        kept = {
            what: {key: value for key, value in notes.get(what, {}).items() if int(key.split("/")[0]) < number}
            for what in ("done", "seconds", "memory_gb")
        }
        lost = sum(notes["seconds"].values()) - sum(kept["seconds"].values())
        kept["aside_minutes"] = round(notes.get("aside_minutes", 0.0) + lost / 60, 1)
        print(f"round {number} was edited: what it and later rounds had made is in {aside} now", flush=True)
        return notes | kept | {"anew": [key for key in notes.get("anew", []) if int(key.split("/")[0]) < number]}


def _edited(path: str, number: int, earlier: list[dict[str, Any]], rounds: list[dict[str, Any]]) -> UserError:
    """The error that says how a round was edited.

    Args:
        path: of iterate.json.
        number: of the round.
        earlier: the rounds as they were.
        rounds: as they are.
    """
    other = " or --edited, which plays it anew" * (number > 1)
    now, then = rounds[number - 1 : number], earlier[number - 1]
    fields = [f"{name} {value} -> {now[0][name]}" for name, value in then.items() if now and now[0][name] != value]
    said = ", ".join(fields) or "it is no longer there"
    return UserError(f"{path}: round {number} was edited after it began; give another --run{other} ({said})")
