"""Commands as users run them, the processes they start, and what can be done to those; Linux only (/proc)."""

import os
import signal
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def start(game, script, *arguments, **options):
    """Starts a stage in its game's folder, in a session of its own, its output to `stdout` or nowhere."""
    command = [sys.executable, f"{script}.py", *map(str, arguments)]
    options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL} | options
    return subprocess.Popen(command, cwd=os.path.join(ROOT, game), start_new_session=True, **options)


def finish(game, script, *arguments, timeout=3600, **options):
    """The same, once it has ended: (exit code, its output as text)."""
    process = start(game, script, *arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    try:
        output, _ = process.communicate(timeout=timeout)
        return process.returncode, output
    finally:
        end(process)


def end(process):
    """Kills whatever is left of what `start` began, all at once."""
    for pid in {*session(process.pid), *descendants(process.pid)}:  # MPI's proxy has a session of its own
        signalled(pid, signal.SIGKILL)
    process.wait()


def _stat(pid):
    """(state, parent, session) of a process, None if it has ended."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            state, parent, _, leader, *_ = file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return state, int(parent), int(leader)


def _all():
    stats = {int(name): _stat(name) for name in os.listdir("/proc") if name.isdigit()}
    return {pid: stat for pid, stat in stats.items() if stat and stat[0] != "Z"}


def session(leader):
    """The live processes of a session."""
    return [pid for pid, (_, _, of) in _all().items() if of == leader]


def descendants(pid):
    """The live processes that a process has started, and theirs, parents first."""
    processes, found = _all(), [pid]
    for parent in found:
        found.extend(child for child, (_, of, _) in processes.items() if of == parent)
    return found[1:]


def name_of(pid):
    """What a process runs, such as "mpirun" or "python3", "" if it has ended."""
    try:
        with open(f"/proc/{pid}/comm") as file:
            return file.read().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def rank_of(pid):
    """A process's number among an MPI job's ranks, None if it is none."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            words = dict(word.split(b"=", 1) for word in file.read().split(b"\0") if b"=" in word)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    return int(words[b"PMI_RANK"]) if b"PMI_RANK" in words else None


def job(launcher):
    """{"mpirun": pid, "proxy": pid, 0: pid, 1: pid, ...} of the MPI job below a launcher, as far as it is alive."""
    found = {}
    for pid in descendants(launcher):
        name = name_of(pid)
        if name.startswith("mpi"):
            found["mpirun"] = pid
        elif name.startswith("hydra"):
            found["proxy"] = pid
        elif (rank := rank_of(pid)) is not None:
            found.setdefault(rank, pid)  # a rank's own child, if any, has its environment too
    return found


def works(pid):
    """Whether a process is alive and not stopped."""
    stat = _stat(pid)
    return stat is not None and stat[0] not in "ZT"


def signalled(pid, number):
    """Sends a signal; False if there is no such process any more."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def wait_until(condition, seconds, what):
    """Waits for a condition and returns its value; TimeoutError if it does not come true."""
    until = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > until:
            raise TimeoutError(f"{what}: not within {seconds} s")
        time.sleep(0.02)
    return value
