"""Blocks of work on threads or processes of this machine; common/runtime/mpi.py has the same for MPI ranks.

The result of a block depends on the block alone: it does not matter which worker computes it, nor how many there are.
"""

import collections
import concurrent.futures
import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
import traceback

from common.runtime import bound
from common.runtime.cli import UserError

ATTEMPTS = 3  # at a task whose process dies or does not answer in time


def cores() -> int:
    """Processor cores this process may use; on macOS, all there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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

    def map(self, tasks):
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

    def close(self):
        """Waits for the threads to end."""
        self._pool.shutdown()


def in_processes(work, tasks, processes, patience):
    """Tasks in processes of their own: one that dies, hangs or fails costs its task's time, and is replaced.

    Args:
        work: (task) -> result; importable, as it is called in the other processes.
        tasks: list; what they hold is sent by pickle.
        processes: int.
        patience: float, seconds that a task may take; twice as much at its second attempt, and so on.

    Yields:
        (task, result) of every task as it is finished; result None if it was given up after so many attempts.

    Raises:
        UserError, OSError: what `work` raised of these.
        Exception: a task was given up before any has succeeded: what `work` raised, or UserError if its process died.
    """
    waiting, attempts, succeeded = collections.deque(range(len(tasks))), collections.Counter(), False
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
                if isinstance(trouble, UserError | OSError):
                    raise trouble
                if trouble:
                    attempts[k] += 1
                    worker.end()
                    workers[i] = _Worker(work)
                    again = attempts[k] < ATTEMPTS
                    what = f"failed ({trouble})" if isinstance(trouble, Exception) else trouble
                    outcome = "it is given out again" if again else "it is given up"
                    print(f"\na process {what}, its task {tasks[k]}: {outcome}", file=sys.stderr)
                    if again:
                        waiting.append(k)
                    elif not succeeded:
                        raise (
                            trouble
                            if isinstance(trouble, Exception)
                            else UserError(f"each process {trouble}; see above")
                        )
                    else:
                        yield tasks[k], None
                elif worker.answered:
                    succeeded, worker.task = True, None
                    yield tasks[k], worker.result
    finally:
        for worker in workers:
            worker.end()


class _Worker:
    """One process that computes task after task."""

    def __init__(self, work):
        spawn = multiprocessing.get_context("spawn")
        self.pipe, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(work, theirs), daemon=True)
        self._process.start()
        theirs.close()  # so that its end is seen when the process ends
        self.task = None
        """number of the task it is at work on"""

    def give(self, k, task, limit):
        self.task, self._until, self.answered = k, time.monotonic() + limit, False
        with contextlib.suppress(BrokenPipeError):  # it has died meanwhile, as will be seen
            self.pipe.send(task)

    def trouble(self):
        """What is wrong with it: words, an exception of the work, or nothing; takes its answer if there is one."""
        if self.pipe.poll():
            try:
                self.result, error = self.pipe.recv()
            except (EOFError, ConnectionResetError):
                return "died"
            self.answered = error is None
            return error
        return "has not answered for too long" if time.monotonic() > self._until else None

    def end(self):
        self._process.kill()
        self._process.join()
        self.pipe.close()


def _serve(work, pipe):
    """In the other process."""
    bound.bind()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        try:
            answer = work(task), None
        except Exception as error:
            error.add_note(traceback.format_exc())  # which does not travel otherwise
            answer = None, error
        pipe.send(answer)
