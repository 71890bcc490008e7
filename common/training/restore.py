"""The recordings of a run of iterate.py: which a later stage still reads, and which of those are gone.

Neither they nor the series made of them need be kept: the same commands and the same controllers make them again.
"""

import contextlib
import os
import shutil

from common.runtime import files
from common.runtime.cli import UserError
from common.training.layout import Paths
from common.training.plan import Plan, Span
from common.training.state import State


class Recordings:
    """What a run has recorded, beside what its stages need.

    Args:
        plan: its rounds.
        paths: where its files lie.
        state: which stages are done.
    """

    def __init__(self, plan: Plan, paths: Paths, state: State) -> None:
        self._plan, self._paths, self._state = plan, paths, state

    def check_disk(self, played: int) -> None:
        """UserError if the disk is too small for what is to be recorded.

        Args:
            played: how many rounds are done.
        """
        numbers = range(played + 1, len(self._plan.rounds) + 1)
        last = max((number for number in numbers if self.are_read_in(number)), default=0)
        spans = [span for number in range(1, last + 1) for span in self._plan.recordings(number)]
        missing = sum(episodes - len(self._there(first, episodes)) for _, first, episodes in spans)
        needed = missing * self._plan.cfg.mb_per_episode / 1000
        free = shutil.disk_usage(self._paths.run).free / 1e9
        if free < needed:
            raise UserError(
                f"--run {self._paths.run}: needs about {needed:.0f} GB of disk for recordings, {free:.0f} GB are free"
            )

    def are_read_in(self, number: int) -> bool:
        """Whether a stage of a round that is not done reads the recordings."""
        one = self._plan.rounds[number - 1]
        return (one.vae is not None and f"{number}/vae" not in self._state.done) or self.must_encode(number)

    def must_encode(self, number: int) -> bool:
        """Whether series.py is to run in a round: for the first time, or because a later stage needs what is gone."""
        at = self._plan.encoded_in(number)
        if f"{at}/series" not in self._state.done or self._state.must_begin_anew(f"{at}/series"):
            return True
        gone = not os.path.exists(os.path.join(self._paths.round(at), "series", "series.npz"))
        return gone and bool(self._readers(number))

    def check_origin(self, number: int) -> None:
        """UserError if there is a recording that is not of this run up to a round."""
        begin, end = self._plan.first_seed(1), self._plan.first_seed(number + 1)
        for name in os.listdir(self._paths.record):
            seed = name.removesuffix(".npz")
            if name.endswith(".npz") and seed.isdigit() and not begin <= int(seed) < end:
                raise UserError(f"{os.path.join(self._paths.record, name)}: is not of this run; take it out of there")

    def lost(self, number: int) -> list[tuple[int, Span]]:
        """(round, span) of what was to be recorded up to a round and is not there, in whole or in part."""
        numbers = range(1, number + 1)
        return [(k, span) for k in numbers for span in self._plan.recordings(k) if not self._is_there(span)]

    def let_begin_anew(self, number: int, lost: bool) -> None:
        """Tells the stages of a round that have begun on recordings or a series that are made again to begin anew.

        Args:
            number: of the round.
            lost: whether recordings are gone, not the series alone.
        """
        encoded = f"{self._plan.encoded_in(number)}/series"
        if lost or encoded in self._state.done:
            anew = [f"{number}/vae"] * lost + self._readers(number)
            anew = [stage for stage in anew if stage in self._state.seconds and stage not in self._state.done]
            self._state.let_begin_anew(anew + [encoded] * lost)

    def forget(self, number: int, span: Span) -> None:
        """Lets a span of a round count as not recorded; recordings that are there stay."""
        name, first, _ = span
        with contextlib.suppress(FileNotFoundError):
            os.remove(self._summary(first))
        self._state.forget(f"{number}/{name}")

    def _readers(self, number: int) -> list[str]:
        """The stages of a round that are not done and read the series."""
        return [stage for stage in self._plan.readers(number) if stage not in self._state.done]

    def _there(self, first: int, episodes: int) -> list[int]:
        """The seeds of a span of which there are recordings."""
        folder = self._paths.record
        return [s for s in range(first, first + episodes) if os.path.exists(os.path.join(folder, f"{s}.npz"))]

    def _summary(self, first: int) -> str:
        return os.path.join(self._paths.record, f"{first}.summary.json")

    def _is_there(self, span: Span) -> bool:
        """Whether a span has its summary and as many recordings as that says."""
        _, first, episodes = span
        try:
            return len(self._there(first, episodes)) >= int(files.read_json(self._summary(first))["kept"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return False
