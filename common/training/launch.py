"""The stages of a run of iterate.py as processes of their own: each runs to its end, its time and memory are noted."""

import contextlib
import os
import signal
import subprocess
import sys
import time

from common.runtime import bound, cli, runs
from common.runtime.cli import UserError
from common.training.plan import Flags, Plan
from common.training.state import State

NOTE_SECONDS = 10  # between notes of the time of a stage, so that the time of a killed one counts too
INTERRUPT_SECONDS = 0.5  # that a stage has to end by itself after Ctrl-C, less than interrupt.GRACE
MEMORY_GB = 3.5  # the most memory that a stage needs
MADE = {"vae_train": ("tf_vae",), "series": ("series",), "rnn_train": ("tf_rnn", "tf_initial_z"), "train": ("log",)}
"""folders of what a stage makes"""


class Launcher:
    """Runs the stages of a run.

    Args:
        plan: of the run: its game, its preset and how many rounds it has.
        state: which stages are done; it is told what they took.
    """

    def __init__(self, plan: Plan, state: State) -> None:
        self._plan, self._state = plan, state

    def run(
        self,
        number: int,
        name: str,
        script: str,
        flags: Flags,
        folder: str,
        result: str = "",
        preset: bool = True,
    ) -> None:
        """Runs one stage to its end, unless it is done. Its output goes where the output of this command goes.

        Args:
            number: of the round.
            name: of the stage in the round.
            script: its command, without ".py".
            flags: of the command; words before the flags stand under "".
            folder: its --run.
            result: the file in the folder that the stage makes and that is kept, if it is to be there when it is done.
            preset: whether the command has --preset.

        Raises:
            UserError: the stage failed, or its result is gone and a later one has built on it.
        """
        stage = f"{number}/{name}"
        if self._state.is_done(stage, result and os.path.join(folder, result)):
            return
        if self._state.must_begin_anew(stage):
            self._begin_anew(stage, script, folder)
        words = [os.path.join(self._plan.game.folder, f"{script}.py")]
        extra = flags.get("", [])
        words += [str(word) for word in (extra if isinstance(extra, list) else [extra])]
        words += ["--preset", self._plan.preset] if preset and script != "pick_best" else []
        words += ["--run", folder]
        words += cli.words({flag: value for flag, value in flags.items() if flag})
        print(f"round {number} of {len(self._plan.rounds)}: {script}.py {' '.join(words[1:])}", flush=True)
        code = self._run_to_its_end(stage, words)
        if code:
            raise UserError(
                f"round {number}: {script}.py ended with code {code}, see above; the same command continues there"
            )
        self._state.note(stage, command=[os.path.basename(words[0]), *words[1:]])

    def _begin_anew(self, stage: str, script: str, folder: str) -> None:
        """Sets aside, once, what a stage began on data that are gone; from then on it continues as any other does."""
        for name in MADE[script]:
            place = os.path.realpath(os.path.join(folder, name))
            if os.path.isdir(place) and os.listdir(place):  # else it was killed here before
                runs.set_aside(place)
            os.makedirs(place, exist_ok=True)  # later rounds link to it
        self._state.note_anew(stage)

    def _run_to_its_end(self, stage: str, words: list[str]) -> int:
        """Runs the command of a stage, notes its time and memory now and then, and returns its exit code."""
        before, began = self._state.seconds.get(stage, 0.0), time.monotonic()

        def note_time(memory_gb: float | None = None) -> None:
            self._state.note_time(stage, before + time.monotonic() - began, memory_gb)

        note_time()  # a round that has begun must not be edited
        process = subprocess.Popen(bound.command(sys.executable, *words))
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return process.wait(NOTE_SECONDS)
                note_time(runs.peak_memory_of(process.pid))
        except BaseException:  # a terminal sends Ctrl-C to the stage as well, else it is passed on
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(INTERRUPT_SECONDS)
            process.send_signal(signal.SIGINT)  # does nothing if it has ended
            process.wait()
            raise
        finally:
            note_time()


def check_memory() -> None:
    """UserError if this machine has less memory than a stage needs."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    if memory < MEMORY_GB:
        raise UserError(f"needs {MEMORY_GB:g} GB of memory, this machine has {memory:.1f}")
