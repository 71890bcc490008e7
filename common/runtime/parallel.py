"""Blocks of work on threads or processes of this machine; common/runtime/mpi.py has the same for MPI ranks.

The result of a block depends on the block alone: it does not matter which worker computes it, nor how many there are.
"""

import collections
import concurrent.futures
import contextlib
import multiprocessing
import multiprocessing.connection
import multiprocessing.resource_tracker
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any

from common.runtime import bound, interrupt
from common.runtime.cli import UserError

SHARED = "/dev/shm"  # shared memory, on Linux
ATTEMPTS = 3  # at a task, if its process dies or does not answer in time
Worker = Callable[[Any], Any]
"""(task) -> result"""


def check_shared_memory(least: int, who: str, old: str) -> None:
    """UserError where there is too little shared memory: a program that lacks it dies of a bus error, without a word.

    Args:
        least: what is needed [bytes].
        who: needs it.
        old: the names of files that who leaves there when killed.
    """
    if not os.path.isdir(SHARED):
        return
    about = os.statvfs(SHARED)
    free = about.f_bavail * about.f_frsize
    if free < least:
        raise UserError(
            f"{SHARED}: has {free // 1000} kB left, and {who} needs {least // 1000}; remove old {old} files there, or "
            "make it larger (docker run --shm-size=1g)"
        )


def cores() -> int:
    """Processor cores this process may use; on macOS, all there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Threads:
    """Blocks on threads of this process.

    Args:
        make_worker: () -> worker, called once in each thread.
        threads: how many.
    """

    def __init__(self, make_worker: Callable[[], Worker], threads: int) -> None:
        self._own = threading.local()
        self._make_worker = make_worker
        self._pool = concurrent.futures.ThreadPoolExecutor(threads)

    def _work(self, task: Any) -> Any:
        if not hasattr(self._own, "worker"):
            self._own.worker = self._make_worker()
        return self._own.worker(task)

    def submit(self, task: Any) -> concurrent.futures.Future:
        """A future of the result of a task."""
        return self._pool.submit(self._work, task)

    def map(self, tasks: Sequence[Any]) -> list[Any]:
        """Results of all tasks, in order."""
        futures = [self.submit(task) for task in tasks]
        try:
            for future in concurrent.futures.as_completed(futures):
                future.result()
        except BaseException:  # Ctrl-C too: the program does not end before its threads do
            for future in futures:
                future.cancel()
            raise
        return [future.result() for future in futures]

    def close(self) -> None:
        """Waits for the threads to end."""
        self._pool.shutdown()


def in_processes(work: Worker, tasks: Sequence[Any], processes: int, patience: float) -> Iterator[tuple[Any, Any]]:
    """Tasks in separate processes. A process that dies, hangs or fails costs the time of its task, and is replaced.

    Args:
        work: (task) -> result; must be importable, because it is called in the other processes.
        tasks: each is sent by pickle.
        processes: how many.
        patience: time that a task may take [s]; twice as much at its second attempt, and so on.

    Yields:
        (task, result) of every task as it is finished; the result is None if it was given up after `ATTEMPTS` attempts.

    Raises:
        UserError, OSError: as raised by `work`.
        Exception: a task was given up before any succeeded: what `work` raised, or UserError if its process died.
    """
    waiting, succeeded = collections.deque(range(len(tasks))), False
    attempts: collections.Counter[int] = collections.Counter()
    workers = [_Worker(work) for _ in range(min(processes, len(tasks)))]
    try:
        while waiting or any(worker.task is not None for worker in workers):
            for worker in workers:
                if worker.task is None and waiting:
                    k = waiting.popleft()
                    worker.give(k, tasks[k], patience * 2 ** attempts[k])
            multiprocessing.connection.wait([worker.pipe for worker in workers if worker.task is not None], 1)
            for i, worker in enumerate(workers):
                if worker.task is None:
                    continue
                k, trouble = worker.task, worker.trouble()
                if trouble:
                    attempts[k] += 1
                    given_up = _gives_up(trouble, tasks[k], attempts[k], succeeded)
                    worker.end()
                    workers[i] = _Worker(work)
                    if given_up:
                        yield tasks[k], None
                    else:
                        waiting.append(k)
                elif worker.answered:
                    succeeded, worker.task = True, None
                    yield tasks[k], worker.result
    finally:
        for worker in workers:
            worker.end()


def _gives_up(trouble: str | Exception, task: Any, attempts: int, succeeded: bool) -> bool:
    """Whether a task with trouble is given up; otherwise it is given out again.

    Raises:
        Exception: see `in_processes`.
    """
    if isinstance(trouble, UserError | OSError):
        raise trouble
    last = attempts >= ATTEMPTS
    what = f"failed ({trouble})" if isinstance(trouble, Exception) else trouble
    outcome = "it is given up" if last else "it is given out again"
    print(f"\na process {what}, its task {task}: {outcome}", file=sys.stderr)
    if last and not succeeded:
        raise trouble if isinstance(trouble, Exception) else UserError(f"each process {trouble}; see above")
    return last


class _Worker:
    """One process that computes task after task."""

    def __init__(self, work: Worker) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.pipe, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(work, theirs, os.getpid()), daemon=True)
        multiprocessing.resource_tracker.ensure_running()  # or `start` does so, and lets Ctrl-C through again
        with interrupt.not_for_children():  # Ctrl-C is for the process that asks
            self._process.start()
        theirs.close()  # so that its end is seen when the process ends
        self.task: int | None = None
        """number of the task that it works on"""

    def give(self, k: int, task: Any, limit: float) -> None:
        """Sends it task number k, which may take `limit` seconds."""
        self.task, self._until, self.answered = k, time.monotonic() + limit, False
        with contextlib.suppress(BrokenPipeError):  # it has died, as `trouble` will see
            self.pipe.send(task)

    def trouble(self) -> str | Exception | None:
        """What is wrong with it: words, an exception of the work, or nothing. Takes its answer if there is one."""
        if self.pipe.poll():
            try:
                self.result, error = self.pipe.recv()
            except (EOFError, ConnectionResetError):
                return "died"
            self.answered = error is None
            return error
        return "has not answered for too long" if time.monotonic() > self._until else None

    def end(self) -> None:
        """Kills the process."""
        self._process.kill()
        self._process.join()
        self.pipe.close()


def _serve(work: Worker, pipe: Connection, parent: int) -> None:
    """Computes what the pipe brings, in the other process."""
    bound.bind(parent)
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        try:
            result, error = work(task), None
        except Exception as raised:
            raised.add_note(traceback.format_exc())  # a pickled exception has no traceback
            result, error = None, raised
        pipe.send((result, error))
