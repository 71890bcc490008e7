"""Blocks of work handed to threads of one process, or to MPI ranks; the result is the same.

A block's result depends on the block alone, so it does not matter which thread or rank computes it, nor how many there
are. Ranks talk point to point with time limits: one that dies or hangs costs its block's time, not the run.
"""

import collections
import concurrent.futures
import os
import shutil
import subprocess
import sys
import threading
import time

from common.cli import UserError

RESTARTS = 3  # of an mpirun that died; training resumes from its checkpoint
PATIENCE = 120  # seconds, the least time a rank has for a block
TASK, RESULT, STOP = 1, 2, 3  # message tags


def under_mpi():
    """Whether this process was started by an MPI launcher with more than one rank."""
    return int(os.environ.get("PMI_SIZE") or os.environ.get("OMPI_COMM_WORLD_SIZE") or 1) > 1


def launch(ranks):
    """Starts this very command again under mpirun, and again from its checkpoint should the job die; never returns.

    Raises:
        UserError: there is no mpirun.
    """
    beside_python = os.path.join(os.path.dirname(sys.executable), "mpirun")
    mpirun = beside_python if os.path.exists(beside_python) else shutil.which("mpirun")
    if not mpirun:
        raise UserError("-n > 1 needs an MPI launcher and there is no mpirun: pip install mpich, or leave -n out")
    for attempt in range(1 + RESTARTS):
        options = ["-np", str(ranks), "-disable-auto-cleanup"]
        code = subprocess.run([mpirun, *options, sys.executable, *sys.argv]).returncode
        if code in (0, 2, 130):  # done, the user's mistake, Ctrl-C
            sys.exit(code)
        print(f"mpirun ended with code {code}, start {attempt + 1} of {1 + RESTARTS}", file=sys.stderr)
    sys.exit(code)


class Threads:
    """Blocks on threads of this process."""

    def __init__(self, make_worker, threads):
        """
        Args:
            make_worker: called once in each thread: () -> worker; worker(task) -> result.
            threads: int.
        """
        self._own = threading.local()
        self._make_worker = make_worker
        self._pool = concurrent.futures.ThreadPoolExecutor(threads)

    def _work(self, task):
        if not hasattr(self._own, "worker"):
            self._own.worker = self._make_worker()
        return self._own.worker(task)

    def submit(self, task):
        """A future of the task's result."""
        return self._pool.submit(self._work, task)

    def map(self, tasks, done=lambda k: None):
        """Results of all tasks, in order; calls done(k) when task k is finished."""
        futures = {self.submit(task): k for k, task in enumerate(tasks)}
        for future in concurrent.futures.as_completed(futures):
            future.result()
            done(futures[future])
        return [future.result() for future in futures]

    def close(self):
        """Waits for the threads to end."""
        self._pool.shutdown()


class Ranks:
    """Blocks on the ranks of an MPI job. Rank 0 hands out, and computes in a thread beside; others `serve`."""

    def __init__(self, make_worker):
        from mpi4py import MPI

        self._mpi, self._comm = MPI, MPI.COMM_WORLD
        self._comm.Set_errhandler(MPI.ERRORS_RETURN)
        self.rank, self._own = self._comm.Get_rank(), Threads(make_worker, 1)
        self._idle = set(range(1, self._comm.Get_size()))
        self._lost, self._round, self._slowest = set(), 0, 0.0

    def serve(self):
        """On ranks above 0: computes what rank 0 sends until it says stop."""
        while True:
            status = self._mpi.Status()
            while not self._comm.iprobe(source=0, status=status):
                time.sleep(0.0005)  # a blocking receive would burn a core that another rank could use
            message = self._comm.recv(source=0)
            if status.Get_tag() == STOP:
                return
            number, k, task = message
            self._comm.send((number, k, self._own.submit(task).result()), dest=0, tag=RESULT)

    def map(self, tasks, done=lambda k: None):
        """On rank 0: results of all tasks, in order; calls done(k) when task k is finished."""
        self._round += 1
        waiting, results, out, mine = collections.deque(range(len(tasks))), {}, {}, None
        while len(results) < len(tasks):
            while waiting and self._idle:
                rank, k = self._idle.pop(), waiting.popleft()
                self._comm.isend((self._round, k, tasks[k]), dest=rank, tag=TASK)
                out[rank] = (k, time.monotonic())
            if mine is None and waiting:
                k = waiting.popleft()
                mine = (k, self._own.submit(tasks[k]))
            finished = len(results)
            if mine and mine[1].done():
                results.setdefault(mine[0], mine[1].result())
                mine = None
            self._receive(results, out)
            if len(results) == finished:
                time.sleep(0.0005)
            for k in list(results)[finished:]:
                done(k)
            self._give_up_on_slow(out, waiting)
            while waiting and waiting[0] in results:
                waiting.popleft()
        return [results[k] for k in range(len(tasks))]

    def _receive(self, results, out):
        status = self._mpi.Status()
        if not self._comm.iprobe(tag=RESULT, status=status):
            return
        rank = status.Get_source()
        number, k, result = self._comm.recv(source=rank, tag=RESULT)
        if number == self._round:
            results.setdefault(k, result)
        if rank in out:
            self._slowest = max(self._slowest, time.monotonic() - out.pop(rank)[1])
        self._lost.discard(rank)
        self._idle.add(rank)

    def _give_up_on_slow(self, out, waiting):
        limit = max(PATIENCE, 10 * self._slowest)
        for rank, (k, since) in list(out.items()):
            if time.monotonic() - since > limit:
                del out[rank]
                self._lost.add(rank)
                waiting.appendleft(k)
                print(f"rank {rank} has not answered for {limit:.0f} s: block {k} is given out again", file=sys.stderr)

    def close(self):
        """On rank 0: tells the others to stop."""
        for rank in range(1, self._comm.Get_size()):
            self._comm.isend(None, dest=rank, tag=STOP)
        self._own.close()
        if self._lost:  # MPI's own ending waits for every rank
            sys.stdout.flush()
            os._exit(0)


def start(make_worker, threads):
    """Ranks under an MPI launcher, else Threads. On ranks above 0 it works until rank 0 is done, then exits."""
    if not under_mpi():
        return Threads(make_worker, threads)
    ranks = Ranks(make_worker)
    if ranks.rank > 0:
        ranks.serve()
        sys.exit(0)
    return ranks
