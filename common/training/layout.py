"""Where the files of a run of iterate.py lie: its folders, the links between its rounds, what was set aside."""

import contextlib
import itertools
import os
import shutil
from collections.abc import Iterable
from typing import Any

from common.runtime import files
from common.runtime.cli import UserError


class Paths:
    """The paths of a run.

    Args:
        run: the folder of the run.
    """

    def __init__(self, run: str) -> None:
        self.run = run
        self.iterate_json, self.rounds_json = os.path.join(run, "iterate.json"), os.path.join(run, "rounds.json")
        self.record, self.picture = os.path.join(run, "record"), os.path.join(run, "rounds.png")

    def round(self, number: int) -> str:
        """The folder of a round."""
        return os.path.join(self.run, f"round{number}")

    def make_round(self, number: int, unchanged: Iterable[str]) -> None:
        """Makes the folder of a round, with links to the recordings and to what does not change in it.

        Args:
            number: of the round.
            unchanged: names of folders that are those of the round before.
        """
        folder, before = self.round(number), self.round(number - 1)
        os.makedirs(folder, exist_ok=True)
        for name, target in [("record", self.record), *((name, os.path.join(before, name)) for name in unchanged)]:
            path = os.path.join(folder, name)
            _link(path, target)
            os.makedirs(os.path.realpath(path), exist_ok=True)  # it may not have come along to another machine

    def named(self, path: str, folder: str) -> str:
        """What to call a file of the run in a stage of a folder: as seen from there, wherever the run lies.

        Stages look a name up here first, then in their folder. If something else has the name here, it is the path.
        """
        name = os.path.join(os.path.relpath(self.run, folder), os.path.relpath(path, self.run))
        other = os.path.exists(name) and os.path.realpath(name) != os.path.realpath(path)
        return path if other else name

    def set_aside(self, number: int, first_seed: int) -> str:
        """Moves what a round and the later ones have made to a folder of its own, but not iterate.json.

        Args:
            number: of the round, after the first.
            first_seed: of its recordings.

        Returns:
            The folder: <run>/aside<k>.

        Raises:
            UserError: rounds.json is damaged.
        """
        places = (os.path.join(self.run, f"aside{k}") for k in itertools.count(1))
        aside = next(path for path in places if not os.path.exists(path))
        os.makedirs(os.path.join(aside, "record"))
        for path in (self.iterate_json, self.rounds_json):
            if os.path.exists(path):
                shutil.copy(path, aside)
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(self.record):
                seed = name.split(".")[0]
                if seed.isdigit() and int(seed) >= first_seed:
                    os.rename(os.path.join(self.record, name), os.path.join(aside, "record", name))
        # the series of the round before holds the later games as well; it may be a link to an earlier round's
        series = os.path.realpath(os.path.join(self.round(number - 1), "series"))
        if os.path.exists(series):
            os.rename(series, os.path.join(aside, "series"))
        for name in os.listdir(self.run):
            round_number = name.removeprefix("round")
            if name != round_number and round_number.isdigit() and int(round_number) >= number:
                os.rename(os.path.join(self.run, name), os.path.join(aside, name))
                _link_again(os.path.join(self.run, name), os.path.join(aside, name))
        if os.path.exists(self.rounds_json):
            lines = [line for line in made(self.rounds_json) if line["round"] < number]
            files.write_json(self.rounds_json, lines, indent=1)
        return aside


def make_within(folder: str, name: str, linked: Iterable[str]) -> str:
    """Makes a folder in that of a round, for a further training.

    Args:
        folder: of the round.
        name: of the new folder.
        linked: names of folders of the round that the training reads; the new one has links to them.

    Returns:
        The new folder.
    """
    within = os.path.join(folder, name)
    os.makedirs(within, exist_ok=True)
    for other in linked:
        _link(os.path.join(within, other), os.path.join(folder, other))
    return within


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


def made(path: str) -> Any:
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
