"""Blocks of work on the ranks of an MPI job, and the launcher that starts such a job again from its checkpoint.

Ranks exchange point-to-point messages with time limits. A rank that hangs or dies costs the time of its block, if the
MPI launcher keeps the other ranks running. If it does not, or if rank 0 dies, the job ends and `launch` starts it
again. When the process of `launch` dies, the job ends too, so that nothing holds the lock of the run.
"""

import atexit
import collections
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from common.runtime import bound, interrupt, parallel
from common.runtime.cli import UserError
from common.runtime.parallel import Threads, Worker

SHARED_BYTES = 6_000_000  # of shared memory that MPICH takes for a rank, 5.4 million
RESTARTS = 3  # of an mpirun that died, without a new checkpoint
PATIENCE = 120  # seconds that a rank has for its first block, which includes compiling its worlds
LEAST = 30  # seconds that a rank has for a block, or ten times the slowest block so far if that is more
SILENCES = 5  # times PATIENCE without a message from rank 0, after which the others take it for dead
GOODBYE = 10  # seconds that an idle rank has to answer the last message
POLL = 0.0005  # seconds between looks for a message; a blocking receive would burn a core that another rank could use
PULSE = 1  # seconds between rank 0's signs of life to `launch`
SILENT, STARTING = 60, 600  # signs that may be missing: after the first one, and before it
TASK, RESULT, ALIVE, STOP = 1, 2, 3, 4  # message tags
DONE = "WORLDMODELS_DONE"  # environment variable: the file by which rank 0 tells `launch` that it is alive, then done


def under_mpi() -> bool:
    """Whether this process was started by an MPI launcher with more than one rank."""
    return int(os.environ.get("PMI_SIZE") or os.environ.get("OMPI_COMM_WORLD_SIZE") or 1) > 1


def launch(ranks: int, checkpoint: str) -> NoReturn:
    """Starts this same command under mpirun, and again from its checkpoint if the job dies; never returns.

    Args:
        ranks: how many.
        checkpoint: path of the file that the job replaces as it makes progress. A job that dies is given up only when
            this file has not changed during `RESTARTS` starts: a long run may meet any number of faults.

    Raises:
        UserError: there is no mpirun, or too little shared memory for it.
    """
    beside_python = os.path.join(os.path.dirname(sys.executable), "mpirun")
    mpirun = beside_python if os.path.exists(beside_python) else shutil.which("mpirun")
    if not mpirun:
        raise UserError("-n > 1 needs an MPI launcher and there is no mpirun: pip install mpich, or leave -n out")
    parallel.check_shared_memory(ranks * SHARED_BYTES, f"-n {ranks}", "mpich*")
    command, left = [mpirun, "-np", str(ranks), "-disable-auto-cleanup", sys.executable, *sys.argv], RESTARTS
    while True:
        before = _version(checkpoint)
        code = _run_job(command)
        if code in (0, 2, 130, 143):  # done, a mistake of the user, Ctrl-C, terminated
            sys.exit(code)
        if _version(checkpoint) != before:  # set aside, or made: the one that is there now is of this run
            command, left = [word for word in command if word != "--fresh"], RESTARTS
        print(f"mpirun ended with code {code}; starts left without a new checkpoint: {left}", file=sys.stderr)
        if not left:
            sys.exit(code)
        left -= 1


def _version(path: str) -> tuple[int, int, int] | None:
    """Numbers that change when a file is replaced, even if the clock is wrong; None if there is no file."""
    try:
        about = os.stat(path)
    except FileNotFoundError:
        return None
    return about.st_ino, about.st_mtime_ns, about.st_size


def _run_job(command: Sequence[str]) -> int:
    """Runs mpirun until it ends or its rank 0 is silent for too long; returns its exit code, 0 if the work is done."""
    with tempfile.NamedTemporaryFile() as told:
        with interrupt.not_for_children():  # mpirun would tell at length which ranks ended, and how
            job = subprocess.Popen(bound.command(*command, deaf=True), env=os.environ | {DONE: told.name})
        before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        pulse = began = _version(told.name)
        silence = 0  # counted, not measured by the clock, which goes on while a job is suspended
        try:
            while silence < (STARTING if pulse == began else SILENT):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    code = job.wait(PULSE)
                    return 0 if told.read() else code  # mpirun reports the signal of a killed rank only
                silence = silence + 1 if _version(told.name) == pulse else 0
                pulse = _version(told.name)
            print("rank 0 gives no sign of life: ending the job", file=sys.stderr)
            return 1
        finally:
            _end(job)
            signal.signal(signal.SIGTERM, before)


def _end(job: subprocess.Popen) -> None:
    """Terminates a process that may have ended, then kills it."""
    job.terminate()
    try:
        job.wait(GOODBYE)
    except subprocess.TimeoutExpired:
        job.kill()  # the ranks are bound to it
        job.wait()


class Ranks:
    """Blocks on the ranks of an MPI job. Rank 0 hands them out, and computes in a thread as well; the others `serve`.

    Args:
        make_worker: () -> worker, called once.
    """

    def __init__(self, make_worker: Callable[[], Worker]) -> None:
        from mpi4py import MPI

        bound.bind(os.getppid())  # to the launcher: without it nothing would end this rank
        self._mpi, self._comm = MPI, MPI.COMM_WORLD
        self._comm.Set_errhandler(MPI.ERRORS_RETURN)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # MPICH's launcher sends it when another rank dies
        self.rank, self._own = self._comm.Get_rank(), Threads(make_worker, 1)
        self._sent: list[Any] = []
        self._idle = set(range(1, self._comm.Get_size()))
        self._warm: set[int] = set()  # ranks that have answered once
        self._slowest = 0.0  # seconds of the slowest block of a warm rank
        self._round, self._heard, self._code = 0, time.monotonic(), 1
        if self.rank == 0:
            threading.Thread(target=_live, daemon=True).start()
            atexit.register(self._leave)

    def _send(self, message: Any, rank: int, tag: int) -> None:
        # requests are kept until they are complete, because MPI sends from their memory
        self._sent = [request for request in self._sent if not request.test()[0]]
        self._sent.append(self._comm.isend(message, dest=rank, tag=tag))

    def serve(self) -> None:
        """On ranks above 0: computes what rank 0 sends until it says stop, or is silent for too long."""
        status, silence = self._mpi.Status(), 0.0
        while True:
            if not self._comm.iprobe(source=0, status=status):
                time.sleep(POLL)
                silence += POLL  # counted, not measured by the clock, which goes on while a job is suspended
                if silence > SILENCES * PATIENCE:
                    print(f"rank {self.rank}: rank 0 is silent; ending the job", file=sys.stderr, flush=True)
                    self._comm.Abort(1)
                continue
            silence, message = 0.0, self._comm.recv(source=0)
            if status.Get_tag() == TASK:
                number, k, task = message
                self._send((number, k, *self._outcome(task)), 0, RESULT)
            elif status.Get_tag() == STOP:
                self._send(None, 0, STOP)
                return

    def _outcome(self, task: Any) -> tuple[Any, Exception | None]:
        """(the result of a task, None), or (None, the error that it raised)."""
        try:
            return self._own.submit(task).result(), None
        except Exception as error:
            error.add_note(f"on rank {self.rank}: {traceback.format_exc()}")  # a pickled exception has no traceback
            return None, error

    def map(self, tasks: Sequence[Any]) -> list[Any]:
        """On rank 0: results of all tasks, in order."""
        self._round += 1
        waiting, mine = collections.deque(range(len(tasks))), None
        results: dict[int, Any] = {}
        out: dict[int, tuple[int, float]] = {}  # {rank: (block, when it was sent)}
        while len(results) < len(tasks):
            while waiting and self._idle:
                rank, k = self._idle.pop(), waiting.popleft()
                self._send((self._round, k, tasks[k]), rank, TASK)
                out[rank] = (k, time.monotonic())
            if mine is None and waiting:
                k = waiting.popleft()
                mine = (k, self._own.submit(tasks[k]), time.monotonic())
            finished = len(results)
            if mine and mine[1].done():
                results.setdefault(mine[0], mine[1].result())
                self._took(0, time.monotonic() - mine[2])
                mine = None
            self._receive(results, out)
            if len(results) == finished:
                time.sleep(POLL)
            self._give_up_on_slow(out, waiting)
            self._sign_of_life()
            while waiting and waiting[0] in results:
                waiting.popleft()
        return [results[k] for k in range(len(tasks))]

    def _receive(self, results: dict[int, Any], out: dict[int, tuple[int, float]]) -> None:
        """Takes one result, if one has come."""
        status = self._mpi.Status()
        if not self._comm.iprobe(tag=RESULT, status=status):
            return
        rank = status.Get_source()
        number, k, result, error = self._comm.recv(source=rank, tag=RESULT)
        self._idle.add(rank)
        if rank in out:  # else it was given up, and its time says nothing about blocks
            self._took(rank, time.monotonic() - out.pop(rank)[1])
        if number == self._round:
            if error is not None:
                raise error
            results.setdefault(k, result)

    def _took(self, rank: int, seconds: float) -> None:
        """Notes how long a rank took for a block."""
        if rank in self._warm:
            self._slowest = max(self._slowest, seconds)
        self._warm.add(rank)

    def _give_up_on_slow(self, out: dict[int, tuple[int, float]], waiting: collections.deque[int]) -> None:
        """Hands out the blocks of ranks that do not answer in time again."""
        for rank, (k, since) in list(out.items()):
            limit = max(LEAST, 10 * self._slowest) if rank in self._warm else PATIENCE
            if time.monotonic() - since > limit:
                del out[rank]
                waiting.appendleft(k)
                print(f"rank {rank} has not answered for {limit:.0f} s: block {k} is given out again", file=sys.stderr)

    def _sign_of_life(self) -> None:
        """Tells the idle ranks now and then that rank 0 is alive."""
        if time.monotonic() - self._heard > PATIENCE:
            self._heard = time.monotonic()
            for rank in self._idle:
                self._send(None, rank, ALIVE)

    def close(self) -> None:
        """On rank 0: the work is done. The other ranks end when the program ends."""
        self._own.close()
        self._code = 0
        if os.environ.get(DONE):
            with open(os.environ[DONE], "w") as file:
                file.write("done")

    def _leave(self) -> None:
        """At the exit of rank 0, whatever its reason: stops the others, and ends the job without those that hang."""
        ranks, status = set(range(1, self._comm.Get_size())), self._mpi.Status()
        for rank in ranks:
            self._send(None, rank, STOP)
        gone: set[int] = set()
        until = time.monotonic() + GOODBYE
        # when all is done, a rank that is still busy hangs; after an error it may be in the middle of a block
        awaited = self._idle if self._code == 0 else ranks
        while not awaited <= gone and time.monotonic() < until:
            if not self._comm.iprobe(status=status):
                time.sleep(POLL)
                continue
            self._comm.recv(
                source=status.Get_source(), tag=status.Get_tag()
            )  # late results too: their senders wait for it
            if status.Get_tag() == STOP:
                gone.add(status.Get_source())
        if gone < ranks:  # MPI would wait for every rank
            print(f"ending without ranks {sorted(ranks - gone)}, which do not answer", file=sys.stderr)
            sys.stdout.flush()
            sys.stderr.flush()
            self._comm.Abort(self._code)


def _live() -> None:
    """Tells `launch` that this process is alive, for as long as it is."""
    while os.environ.get(DONE):
        with contextlib.suppress(FileNotFoundError):
            os.utime(os.environ[DONE])
        time.sleep(PULSE)


def start(make_worker: Callable[[], Worker], threads: int) -> Ranks | Threads:
    """Ranks under an MPI launcher, else Threads. A rank above 0 works in here until rank 0 is done, then exits."""
    if not under_mpi():
        return Threads(make_worker, threads)
    ranks = Ranks(make_worker)
    if ranks.rank > 0:
        ranks.serve()
        sys.exit(0)
    return ranks
