"""common/runtime/parallel.py: threads that keep order, and processes that may die, hang or fail."""

import errno
import functools
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
import types

import pytest

from common.runtime import bound, parallel
from common.runtime.cli import UserError


def test_threads_keep_the_order_of_the_tasks():
    """Catches results in the order in which threads happen to finish."""
    barrier = threading.Barrier(2)

    def make_worker():
        def work(task):
            if task < 2:
                barrier.wait(10)  # two threads are really at work
            threading.Event().wait(0.02 * (6 - task))
            return task**2

        return work

    workers = parallel.Threads(make_worker, 2)
    assert workers.map(range(6)) == [0, 1, 4, 9, 16, 25]
    assert workers.map([]) == []
    workers.close()


def test_every_thread_has_one_worker_of_its_own():
    """Catches a batch of worlds that two threads step at once, and one that is built anew for every block."""
    made, used, barrier = [], [], threading.Barrier(3)

    def make_worker():
        made.append(threading.get_ident())
        barrier.wait(10)  # all three threads are at work
        return lambda task: used.append((made.index(threading.get_ident()), threading.get_ident()))

    workers = parallel.Threads(make_worker, 3)
    workers.map(range(12))
    workers.map(range(12))
    workers.close()
    assert len(made) == len(set(made)) == 3
    assert len(used) == 24
    assert all(made[k] == thread for k, thread in used)


def test_an_exception_in_a_thread_ends_the_map_and_what_waits():
    """Catches a failed block that is passed over in silence, and a program that computes for hours before it ends."""
    begun = []

    def make_worker():
        def work(task):
            begun.append(task)
            if task == 0:
                raise UserError("no such world")
            threading.Event().wait(0.05)

        return work

    workers = parallel.Threads(make_worker, 1)
    with pytest.raises(UserError, match="no such world"):
        workers.map(range(50))
    workers.close()
    assert len(begun) < 10


class Slow:
    """Stands for a process: answers a task in a second, or a third one only when it has had so much time."""

    limits: list = []  # noqa: RUF012

    def __init__(self, work):
        self.pipe, self.task, self.work = None, None, work

    def give(self, k, task, limit):
        """Notes how much time it has."""
        self.task, self.limit, self.answered = k, limit, False
        self.limits.append((task, limit))

    def trouble(self):
        """What is wrong with it."""
        self.answered, self.result = True, self.work(self.task)
        return "has not answered for too long" if self.task == 2 and self.limit < 40 else None

    def end(self):
        """Ends it."""


def test_a_task_has_twice_the_time_at_its_second_attempt(monkeypatch, capsys):
    """Catches a long game that is given up on a slow machine, and a short one that hangs for hours at first."""
    monkeypatch.setattr(Slow, "limits", [])
    monkeypatch.setattr(parallel, "_Worker", Slow)
    monkeypatch.setattr(parallel.multiprocessing.connection, "wait", lambda pipes, seconds: pipes)
    results = parallel.in_processes(lambda k: 10 * k, ["a", "b", "c"], 1, 10.0)
    assert sorted(results) == [("a", 0), ("b", 10), ("c", 20)]
    assert Slow.limits == [("a", 10), ("b", 10), ("c", 10), ("c", 20), ("c", 40)]
    assert capsys.readouterr().err.count("it is given out again") == 2


def test_ctrl_c_is_not_for_the_processes():
    """Catches a traceback of each process that is still starting when a terminal sends Ctrl-C to all of a command."""
    blocked_in = functools.partial(signal.pthread_sigmask, signal.SIG_BLOCK)
    found = [blocked for _, blocked in parallel.in_processes(blocked_in, [(), ()], 2, 1000.0)]
    assert all(signal.SIGINT in blocked for blocked in found)
    assert len(found) == 2
    assert signal.SIGINT not in blocked_in(())


class Full(Slow):
    """Stands for a process that cannot write."""

    def trouble(self):
        """What is wrong with it."""
        return OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_ends_the_recording_at_once(monkeypatch, capsys):
    """Catches three attempts at each of ten thousand episodes that cannot be written."""
    monkeypatch.setattr(parallel, "_Worker", Full)
    monkeypatch.setattr(parallel.multiprocessing.connection, "wait", lambda pipes, seconds: pipes)
    with pytest.raises(OSError, match="No space left"):
        list(parallel.in_processes(abs, [1, 2, 3], 1, 10.0))
    assert "given out again" not in capsys.readouterr().err


def test_only_cores_that_this_process_may_use_are_counted(monkeypatch):
    """Catches 64 threads in a container that has 3 cores of a machine's 64."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 5, 7}, raising=False)
    assert parallel.cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    assert parallel.cores() == os.cpu_count()


def test_just_enough_shared_memory_is_enough(monkeypatch):
    """Catches memory counted in blocks instead of bytes, and a machine without /dev/shm that is refused."""
    monkeypatch.setattr(os, "statvfs", lambda path: types.SimpleNamespace(f_bavail=25, f_frsize=4000))
    monkeypatch.setattr(parallel, "SHARED", "/")
    parallel.check_shared_memory(100_000, "it", "x*")
    with pytest.raises(UserError, match="/: has 100 kB left, and it needs 101; remove old x"):
        parallel.check_shared_memory(101_000, "it", "x*")
    monkeypatch.setattr(parallel, "SHARED", "/none")
    parallel.check_shared_memory(101_000, "it", "x*")


PLAYERS = """
import functools, os, pathlib, signal, sys, time
from common.runtime import parallel
from common.runtime.cli import UserError

def once(path):
    first = not path.exists()
    path.touch()
    return first

def play(folder, fault, seed):
    with open(folder / f"pid{os.getpid()}", "a") as file:
        file.write(f"{seed}\\n")
    if seed == 3 and fault == "die" and once(folder / "died"):
        os.kill(os.getpid(), signal.SIGKILL)
    if seed == 3 and fault == "hang" and once(folder / "hung"):
        os.kill(os.getpid(), signal.SIGSTOP)
    if seed == 3 and fault == "fail" and once(folder / "failed"):
        raise RuntimeError("the engine is gone")
    if seed == 3 and fault == "always":
        os._exit(1)
    if fault == "bug":
        raise RuntimeError("a bug")
    if fault == "all":
        os._exit(1)
    if seed == 3 and fault == "mistake":
        raise UserError("no such game")
    if fault == "long":
        time.sleep(100)
    return seed ** 2

if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1])
    work = functools.partial(play, folder, sys.argv[2])
    for seed, result in parallel.in_processes(work, list(range(8)), 2, 2.0 if sys.argv[2] == "hang" else 1000):
        print(seed, result, flush=True)
"""


@pytest.fixture
def players(tmp_path):
    """(fault) -> the started program, in which two processes play eight episodes."""
    started = []

    def start(fault):
        script = tmp_path / "players.py"
        script.write_text(PLAYERS)
        command = [sys.executable, script, tmp_path, fault]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return started[0]

    yield start
    started[0].kill()
    with started[0]:  # does not wait for players that live on with its pipes
        pass


def played(folder):
    """{process: [episodes it was given]}."""
    return {int(path.name[3:]): path.read_text().split() for path in folder.glob("pid*")}


def is_alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize(
    ("fault", "says"), [("die", "died"), ("hang", "has not answered"), ("fail", "failed (the engine is gone)")]
)
def test_a_player_that_dies_hangs_or_fails_costs_its_episode_only(players, tmp_path, fault, says):
    """Catches a recording that ends, waits for ever or has a hole because one process was lost."""
    stdout, stderr = players(fault).communicate(timeout=120)
    assert sorted(map(str.split, stdout.splitlines())) == [[str(k), str(k**2)] for k in range(8)], stderr
    assert f"a process {says}" in stderr
    assert "its task 3: it is given out again" in stderr
    assert not any(map(is_alive, played(tmp_path)))
    if fault != "hang":  # where the machine is slow, another may be taken to hang
        episodes = [seed for seeds in played(tmp_path).values() for seed in seeds]
        assert sorted(episodes) == sorted([*"01234567", "3"])
        assert len(played(tmp_path)) in (2, 3)  # the other may play all that is left


def test_an_episode_that_kills_every_player_is_given_up(players):
    """Catches an endless recording, and one that ends without the other episodes."""
    stdout, stderr = players("always").communicate(timeout=120)
    rows = dict(map(str.split, stdout.splitlines()))
    assert rows == {str(k): str(k**2) for k in range(8)} | {"3": "None"}
    assert stderr.count("died, its task 3") == parallel.ATTEMPTS
    assert "it is given up" in stderr


@pytest.mark.parametrize(
    ("fault", "says"), [("bug", "a bug"), ("mistake", "no such game"), ("all", "each process died")]
)
def test_a_bug_and_a_users_mistake_end_the_recording(players, fault, says):
    """Catches a bug that passes for ten thousand lost episodes, and a mistake that is made three times each."""
    process = players(fault)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 1
    assert says in stderr
    assert fault != "mistake" or "given out again" not in stderr


def test_players_do_not_outlive_a_killed_program(players, tmp_path):
    """Catches processes that play on for nobody after kill -9, with the memory and the cores."""
    process = players("long")
    while len(played(tmp_path)) < 2:
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    until = time.monotonic() + 30
    while any(map(is_alive, played(tmp_path))):
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.skipif(sys.platform != "linux", reason="bound programs end with their parent on Linux only")
def test_a_program_is_not_begun_for_a_parent_that_has_died_already(tmp_path):
    """Catches a game engine that is left behind because its player died while the engine was being started."""
    begun = tmp_path / "begun"
    command = bound.command(sys.executable, "-c", f"open({str(begun)!r}, 'w')")
    assert subprocess.run(command).returncode == 0
    assert begun.exists()
    begun.unlink()
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    of_the_dead = [str(dead.pid) if word == str(os.getpid()) else word for word in command]
    assert subprocess.run(of_the_dead).returncode == -signal.SIGKILL
    assert not begun.exists()
