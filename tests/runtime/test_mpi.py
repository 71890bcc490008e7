"""common/runtime/mpi.py: what threads compute, and a run that outlives ranks that die, hang or are late."""

import collections
import json
import os
import signal
import subprocess
import sys
import types

import pytest

from common.runtime import mpi, parallel
from common.runtime.cli import UserError
from common.runtime.files import ROOT

BIN = os.path.dirname(sys.executable)
BLOCKS = 8
SCRIPT = '''
"""Two rounds of blocks, with a fault in rank 1 or elsewhere; prints the results."""
import json, os, pathlib, signal, sys, time
import numpy as np
from common.runtime import cli, mpi, parallel
from common.runtime.cli import UserError

folder, fault = pathlib.Path(sys.argv[1]), sys.argv[2]
mpi.PATIENCE, mpi.LEAST, mpi.GOODBYE = 0.5, 0.5, 30
mpi.SILENCES = 4 if fault in ("kill0", "stop0", "long") else 60
rank = int(os.environ.get("PMI_RANK", 0))

def once(name):
    first = not (folder / name).exists()
    (folder / name).touch()
    return first

def wait_until(condition):
    while not condition():
        time.sleep(0.01)

def wait_for(name):
    wait_until((folder / name).exists)

def rank_1_is_used_again():
    return (folder / "rank1").exists() and "\\n2 " in (folder / "rank1").read_text()

def make_worker():
    def work(task):
        number, k, array = task
        with open(folder / f"rank{rank}", "a") as file:
            file.write(f"{number} {k}\\n")
        assert (array == 100 * number + k).all()
        if rank == 1 and fault == "hang" and once("hung"):
            time.sleep(1000)
        if rank == 1 and fault == "kill" and once("killed"):
            os.kill(os.getpid(), signal.SIGKILL)
        if rank == 0 and fault in ("kill0", "stop0") and once("killed"):
            os.kill(os.getpid(), signal.SIGKILL if fault == "kill0" else signal.SIGSTOP)
        if rank == 1 and fault == "late" and number == 1:
            wait_for("round2")
        if fault == "late" and number == 2 and rank != 1:
            wait_until(rank_1_is_used_again)
        if fault == "raise" and rank > 0:
            raise UserError("bad block on a rank")
        time.sleep({"long": 0.45 if number == 1 else 4}.get(fault, 0.02))
        return array + 0.5
    return work

def main():
    if "launch" in sys.argv and not mpi.under_mpi():
        mpi.launch(3, folder / "checkpoint")
    workers = mpi.start(make_worker, 1)
    (folder / "starts").open("a").write("x")
    if fault == "refuse":
        raise UserError("refused by rank 0")
    for number in (1, 2):
        (folder / f"round{number}").touch()
        blocks = range(1 if fault == "long" and number == 2 else 8)
        tasks = [(number, k, np.full(200_000, 100.0 * number + k)) for k in blocks]
        print(json.dumps([array.tolist()[-1] for array in workers.map(tasks)]), flush=True)
    workers.close()
    print("the end")

cli.run_main(main)
'''
EXPECTED = [[number * 100 + k + 0.5 for k in range(BLOCKS)] for number in (1, 2)]


@pytest.fixture
def run(tmp_path):
    """(fault, *options) -> (exit code, stdout, stderr) of the script on 3 ranks; fails if it does not end."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)

    def start(fault, *options, mpirun=()):
        process = subprocess.Popen(
            [*mpirun, sys.executable, script, tmp_path, fault, *options],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        try:
            return process.communicate(timeout=240), process.returncode
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)

    def outcome(*args, **kwargs):
        (stdout, stderr), code = start(*args, **kwargs)
        return code, stdout, stderr

    return outcome


def computed(folder, rank):
    """[(round, block)] that a rank was given."""
    path = folder / f"rank{rank}"
    return [tuple(map(int, line.split())) for line in path.read_text().splitlines()] if path.exists() else []


def results(stdout):
    """The results that the script printed, among what mpirun says of a killed rank."""
    lines = stdout.splitlines()
    assert lines.count("the end") == 1
    return [json.loads(line) for line in lines if line.startswith("[")]


def test_ranks_compute_what_threads_do(run, tmp_path):
    """Catches results in another order, tasks sent from memory that is given back too early, a rank left idle."""
    mpirun = [os.path.join(BIN, "mpirun"), "-np", "3"]
    code, stdout, stderr = run("none", mpirun=mpirun)
    assert code == 0, stderr
    assert results(stdout) == EXPECTED
    assert all(computed(tmp_path, rank) for rank in range(3))
    code, stdout, stderr = run("none")
    assert code == 0, stderr
    assert results(stdout) == EXPECTED


def test_a_rank_that_hangs_costs_its_block_only(run, tmp_path):
    """Catches a run that waits forever for a rank that hangs, in the end too, or that starts all over for it."""
    code, stdout, stderr = run("hang", "launch")
    assert code == 0, stderr
    assert results(stdout) == EXPECTED
    assert (tmp_path / "starts").read_text() == "x"
    assert "rank 1 has not answered" in stderr
    (lost,) = computed(tmp_path, 1)
    assert lost in computed(tmp_path, 0) + computed(tmp_path, 2)


def test_a_killed_rank_costs_one_start_at_most(run, tmp_path):
    """Catches a run that never ends, or ends with a signal's exit code, because a rank was killed."""
    code, stdout, stderr = run("kill", "launch")
    assert code == 0, stderr
    assert [row for row in results(stdout) if row == EXPECTED[1]] == EXPECTED[1:]
    # MPICH 5's launcher may kill the other ranks some time after one was, whatever -disable-auto-cleanup says
    assert len((tmp_path / "starts").read_text()) <= 2


def test_a_late_result_is_not_taken_for_another_rounds(run, tmp_path):
    """Catches a fitness of the last generation given to a candidate of this one, and a rank never used again.

    However busy the machine: rank 1 is late until the second round begins, which does not end without it.
    """
    code, stdout, stderr = run("late", "launch")
    assert code == 0, stderr
    assert results(stdout) == EXPECTED
    assert "rank 1 has not answered" in stderr
    assert any(number == 2 for number, _ in computed(tmp_path, 1))


@pytest.mark.parametrize("fault", ["kill0", "stop0"])
def test_the_death_of_rank_0_ends_the_job_and_starts_it_again(run, tmp_path, fault):
    """Catches ranks that wait forever for a rank 0 that is dead, so that mpirun never ends."""
    code, stdout, stderr = run(fault, "launch")
    assert code == 0, stderr
    # the other ranks end the job, not the launcher, which waits longer; what they say can be lost as mpirun ends
    assert "gives no sign of life" not in stderr
    assert "mpirun ended with code" in stderr
    assert (tmp_path / "starts").read_text() == "xx"
    assert results(stdout) == EXPECTED


def test_an_idle_rank_waits_out_a_long_block(run, tmp_path):
    """Catches ranks that take rank 0 for dead while it has nothing for them to do."""
    code, stdout, stderr = run("long", "launch")
    assert code == 0, stderr
    assert "silent" not in stderr
    assert (tmp_path / "starts").read_text() == "x"
    assert results(stdout) == [EXPECTED[0], EXPECTED[1][:1]]


@pytest.mark.parametrize(("fault", "says"), [("raise", "bad block on a rank"), ("refuse", "refused by rank 0")])
def test_a_users_mistake_ends_all_ranks_with_code_2(run, tmp_path, fault, says):
    """Catches ranks that serve on after rank 0 has ended with an error, and starts again of what cannot succeed."""
    code, _, stderr = run(fault, "launch")
    assert code == 2, stderr
    assert says in stderr
    assert (tmp_path / "starts").read_text() == "x"


@pytest.mark.parametrize("name", ["PMI_SIZE", "OMPI_COMM_WORLD_SIZE"])
@pytest.mark.parametrize(("size", "several"), [("3", True), ("1", False), (None, False)])
def test_a_rank_knows_that_it_is_one_of_several(monkeypatch, name, size, several):
    """Catches ranks of Open MPI that each evolve by themselves, and a process alone that waits for others."""
    for each in ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE"):
        monkeypatch.delenv(each, raising=False)
    if size:
        monkeypatch.setenv(name, size)
    assert mpi.under_mpi() == several


@pytest.fixture
def mpirun(tmp_path, monkeypatch):
    """(exit codes of its starts, line of shell) -> a fake mpirun beside Python; returns the file it writes to."""
    os.symlink(sys.executable, tmp_path / "python")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(sys, "argv", ["train.py", "-n", "3", "--fresh"])
    monkeypatch.setattr(mpi, "PULSE", 0.02)

    def make(codes, line=""):
        codes = " ".join(map(str, codes))
        (tmp_path / "mpirun").write_text(
            f'#!/bin/sh\necho "$@" >> {tmp_path}/starts\n{line}\nset -- {codes}\nshift $(($(wc -l < {tmp_path}/starts) - 1))\nexit $1\n'  # noqa: E501
        )
        (tmp_path / "mpirun").chmod(0o755)
        return tmp_path / "starts"

    return make


ALWAYS = [1] * 20


@pytest.mark.parametrize(
    ("codes", "code", "starts"),
    [
        ([0], 0, 1),
        ([2], 2, 1),
        ([130], 130, 1),
        ([143], 143, 1),
        ([9, 1, 0], 0, 3),
        ([9, 2], 2, 2),
        (ALWAYS, 1, 1 + mpi.RESTARTS),
    ],
)
def test_launch_starts_a_died_job_again(mpirun, tmp_path, codes, code, starts):
    """Catches a job that stays dead, one started for ever, a user's mistake made again, --fresh forgotten too soon."""
    lines = mpirun(codes)
    (tmp_path / "checkpoint").write_text("the run before, which no start lived to set aside")
    with pytest.raises(SystemExit) as ended:
        mpi.launch(3, tmp_path / "checkpoint")
    assert ended.value.code == code
    lines = lines.read_text().splitlines()
    assert len(lines) == starts
    words = ["-np", "3", "-disable-auto-cleanup", sys.executable, "train.py", "-n", "3"]
    assert all(line.split() == [*words, "--fresh"] for line in lines)


@pytest.mark.parametrize("done", ["rm checkpoint", "echo new > new; mv new checkpoint"])
def test_launch_sets_aside_only_once(mpirun, tmp_path, done):
    """Catches a job that discards its own generations whenever it is started again."""
    (tmp_path / "checkpoint").write_text("the run before")
    lines = mpirun([9, 9, 0], f"cd {tmp_path}; test $(wc -l < starts) -ne 2 || {{ {done}; }}")
    with pytest.raises(SystemExit):
        mpi.launch(3, tmp_path / "checkpoint")
    assert ["--fresh" in line for line in lines.read_text().splitlines()] == [True, True, False]


def test_launch_counts_only_starts_without_progress(mpirun, tmp_path):
    """Catches a long night given up after a few faults, and a job that dies for ever at the same place."""
    # a new checkpoint at each of the first five starts, then none
    lines = mpirun(ALWAYS, f"cd {tmp_path}; test $(wc -l < starts) -gt 5 || {{ echo x > new; mv new checkpoint; }}")
    with pytest.raises(SystemExit) as ended:
        mpi.launch(3, tmp_path / "checkpoint")
    assert ended.value.code == 1
    assert len(lines.read_text().splitlines()) == 5 + mpi.RESTARTS


def test_launch_ends_a_job_whose_rank_0_is_silent(mpirun, tmp_path, monkeypatch, capfd):
    """Catches a launcher that waits for ever for an mpirun that has lost its ranks, or that ends one that loads."""
    monkeypatch.setattr(mpi, "SILENT", 5)
    monkeypatch.setattr(mpi, "GOODBYE", 1)
    lines = mpirun(
        [1, 0],
        f'cd {tmp_path}; test $(wc -l < starts) -gt 1 || {{ sleep 0.3; touch began "${mpi.DONE}"; exec sleep 1000; }}',
    )
    with pytest.raises(SystemExit) as ended:
        mpi.launch(3, tmp_path / "checkpoint")
    assert ended.value.code == 0
    assert len(lines.read_text().splitlines()) == 2
    assert "no sign of life" in capfd.readouterr().err
    assert (tmp_path / "began").exists(), "while it loads, it may be silent for longer"


def test_launch_knows_work_that_was_done_without_a_killed_rank(mpirun):
    """Catches a finished run that is started again, or reported as failed, because one rank had been killed."""
    lines = mpirun([9, 9, 9, 9, 9], f"echo done > ${mpi.DONE}")
    with pytest.raises(SystemExit) as ended:
        mpi.launch(3, "checkpoint")
    assert ended.value.code == 0
    assert len(lines.read_text().splitlines()) == 1


def test_launch_without_mpirun_is_the_users_mistake(tmp_path, monkeypatch):
    """Catches a traceback where there is no mpirun."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="pip install mpich"):
        mpi.launch(3, "checkpoint")


def test_too_little_shared_memory_is_named_before_mpirun_starts(tmp_path, monkeypatch):
    """Catches a bus error in a container with a small /dev/shm, and three more starts of the same."""
    monkeypatch.setattr(mpi, "_run_job", lambda command: pytest.fail("mpirun was started"))
    monkeypatch.setattr(parallel, "SHARED", "/")
    about = types.SimpleNamespace(f_bavail=64_000_000, f_frsize=1)
    monkeypatch.setattr(os, "statvfs", lambda path: about)
    with pytest.raises(UserError, match=r"/: has 64000 kB left, and -n 16 needs 96000; .*--shm-size"):
        mpi.launch(16, str(tmp_path / "checkpoint"))


ALIVE = """
import os, time
from common.runtime import mpi
ranks = mpi.Ranks(lambda: abs)
until = time.monotonic() + 20
while not os.stat(os.environ[mpi.DONE]).st_mtime_ns and time.monotonic() < until:
    time.sleep(0.01)
print(os.stat(os.environ[mpi.DONE]).st_mtime_ns > 0, ranks.map([-1, -2]))
ranks.close()
"""


def test_rank_0_tells_launch_that_it_is_alive(tmp_path):
    """Catches long runs that are all ended after ten minutes, because rank 0 gives no sign of life."""
    told = tmp_path / "told"
    told.touch()
    os.utime(told, (0, 0))
    environment = os.environ | {"PYTHONPATH": ROOT, mpi.DONE: str(told)}
    done = subprocess.run([sys.executable, "-c", ALIVE], env=environment, capture_output=True, text=True)
    assert (done.stdout, told.read_text()) == ("True [1, 2]\n", "done"), done.stderr


def test_a_slow_rank_has_time_by_the_slowest_block(monkeypatch, capsys):
    """Catches blocks that are all computed twice where they are long, and a first one, which compiles, as a measure."""
    clock = [1000.0]
    monkeypatch.setattr(mpi.time, "monotonic", lambda: clock[0])
    ranks = mpi.Ranks.__new__(mpi.Ranks)
    ranks._warm, ranks._slowest = set(), 0.0
    for rank, seconds in ((1, 100.0), (1, 7.0), (1, 5.0)):
        ranks._took(rank, seconds)
    assert ranks._slowest == 7

    def given_up(rank, seconds):
        waiting, out = collections.deque([4]), {rank: (3, clock[0])}
        clock[0] += seconds
        ranks._give_up_on_slow(out, waiting)
        assert (3 in waiting) == (rank not in out)
        return list(waiting) == [3, 4]

    assert [given_up(1, seconds) for seconds in (70, 71)] == [False, True]
    assert [given_up(2, seconds) for seconds in (mpi.PATIENCE, mpi.PATIENCE + 1)] == [False, True]
    ranks._slowest = 0.01
    assert [given_up(1, seconds) for seconds in (mpi.LEAST, mpi.LEAST + 1)] == [False, True]
    assert capsys.readouterr().err.count("given out again") == 3
