"""A night in half an hour: evolves Doom's controller under random faults, then compares it with an undisturbed twin.

The run has two MPI ranks and dreams with the models that ship; it is started again by the same command whenever it
ends. The faults and their times follow from the seed; when they strike depends on the machine. The twin evolves beside
it in threads, undisturbed. Every log file, the distribution and the checkpoint must be equal to the last bit, times
aside.

    python tests/faults/soak.py --out log/doomrnn.soak.jsonl      # what `make soak` does
"""

import collections
import contextlib
import json
import os
import pathlib
import resource
import shutil
import signal
import sys
import tempfile
import time

import numpy as np

from common.runtime import cli

import processes

BASE = "doomrnn.cma.2.8"
TINY = ["--preset", "smoke", "--num_episode", 2, "--block_rows", 4, "--eval_steps", 10, "--eval_episodes", 8]
TINY += ["--checkpoint_seconds", 0, "--temperature", 2]  # so hot that dreams, and so generations, are short
ENDLESS = 200_000  # generations, more than it gets through; train.py refuses so many that their log could not be read
REFUSED = 2  # exit code of a command that its user has to mend
REFUSALS = 3  # in a row, without a new generation: it is not by a fault
STUCK = 3600  # seconds without a new generation: the run is given up for lost
RANKS, THREADS = ["-n", 2, "-t", 4], ["-n", 1, "-t", 8]
LOGS = ("json", "best.json", "hist.json", "hist_best.json", "log.json")


class Run:
    """A training in a folder, started again by the same command whenever it ends."""

    def __init__(self, folder, shape):
        self.folder, self.process, self.starts, self._shape = pathlib.Path(folder), None, 0, shape
        self.output = open(self.folder / "output", "a")  # noqa: SIM115  as long as this object

    def log(self, kind):
        return self.folder / "log" / f"{BASE}.{kind}"

    def start(self, generations):
        """Starts it, or starts it again."""
        self.starts += 1
        arguments = [*TINY, *self._shape, "--run", self.folder, "--generations", generations]
        self.process = processes.start("doomrnn", "train", *arguments, stdout=self.output, stderr=self.output)

    def generation(self):
        """Generations in the log; as files are whole, so is this one."""
        with contextlib.suppress(FileNotFoundError, ValueError):
            return len(json.loads(self.log("hist.json").read_text()))
        return 0

    def ended(self):
        """The exit code of the present start, None while it is at work."""
        return self.process.poll()


def kill(who):
    """A fault: kill -9 of a process of the job."""
    return lambda run, rng, job: processes.signalled(job[who], signal.SIGKILL)


def stop(who, seconds=None):
    """A fault: a process that hangs, for good or for a while."""

    def fault(run, rng, job):
        processes.signalled(job[who], signal.SIGSTOP)
        if seconds:
            time.sleep(rng.uniform(1, seconds))
            processes.signalled(job[who], signal.SIGCONT)

    return fault


def power_cut(run, rng, job):
    """Everything at once, in the middle of writing a checkpoint, as far as its temporary file had come."""
    processes.end(run.process)
    whole = run.log("checkpoint.npz").read_bytes()
    torn = whole[: rng.integers(len(whole))]
    run.log(f"checkpoint.npz.tmp{job[0]}").write_bytes(torn)


def limit(kind, size):
    """A fault: rank 0 may not have more of something than this many bytes, or than it has now."""

    def fault(run, rng, job):
        with contextlib.suppress(ProcessLookupError):
            now = size
            if now is None:
                with open(f"/proc/{job[0]}/statm") as file:
                    now = int(file.read().split()[0]) * resource.getpagesize()
            resource.prlimit(job[0], kind, (now, resource.prlimit(job[0], kind)[1]))

    return fault


def clock_change(run, rng, job):
    """The files look as if written in another year."""
    year = rng.choice([-50, 50]) * 365 * 24 * 3600
    for path in (run.folder / "log").iterdir():
        with contextlib.suppress(FileNotFoundError):
            os.utime(path, (time.time() + year, time.time() + year))


def second_run(run, rng, job):
    """The same command again, beside the first, which must refuse."""
    arguments = [*TINY, *THREADS, "--run", run.folder, "--generations", ENDLESS]
    code, output = processes.finish("doomrnn", "train", *arguments, timeout=STUCK)
    assert code == 2, output
    assert "another process is at work" in output


def torn_log(run, rng, job):
    """A log file loses its end, and everything is killed: it is written again from the checkpoint."""
    processes.end(run.process)
    path = run.log(str(rng.choice(["hist.json", "json", "log.json"])))
    with contextlib.suppress(FileNotFoundError):
        path.write_bytes(path.read_bytes()[:20])


FAULTS = {
    "kill -9 of train.py": kill("launcher"),
    "kill -9 of mpirun": kill("mpirun"),
    "kill -9 of MPI's proxy": kill("proxy"),
    "kill -9 of rank 0": kill(0),
    "kill -9 of rank 1": kill(1),
    "SIGTERM to train.py": lambda run, rng, job: processes.signalled(job["launcher"], signal.SIGTERM),
    "rank 1 hangs for good": stop(1),
    "rank 0 hangs for good": stop(0),
    "rank 0 hangs for a while": stop(0, 5),
    "rank 1 hangs for a while": stop(1, 15),
    "kill -9 of everything, checkpoint half written": power_cut,
    "kill -9 of everything, log file torn": torn_log,
    "disk full (RLIMIT_FSIZE)": limit(resource.RLIMIT_FSIZE, 100_000),
    "memory limit (RLIMIT_AS)": limit(resource.RLIMIT_AS, None),
    "clock change (file times)": clock_change,
    "a second run in the folder": second_run,
}
NEEDS = {name: {"mpirun", "proxy", 0, 1} for name in FAULTS if "rank 1" in name or "proxy" in name}
RARE = {"rank 0 hangs for good", "a second run in the folder", "kill -9 of MPI's proxy"}  # they take a minute each


def soak(run, rng, faults, seconds, record):
    """Disturbs a run until there were that many faults and that many seconds; returns its generation."""
    names = list(FAULTS)
    weights = np.array([0.3 if name in RARE else 1.0 for name in names])
    # every kind once, then at random
    plan = [*rng.permutation(names), *rng.choice(names, 10 * faults, p=weights / weights.sum())]
    began = time.monotonic()
    run.start(ENDLESS)
    settle(run, 1)
    for number, name in enumerate(plan, 1):
        if number > faults and time.monotonic() - began > seconds:
            return run.generation()
        time.sleep(rng.exponential(3))
        job = job_with(run, NEEDS.get(name, {"mpirun", 0}))
        before, start = run.generation(), run.starts
        struck = time.monotonic()
        FAULTS[name](run, rng, job)
        settle(run, before + 2)  # the one it was in, and one more
        row = {"fault": number, "what": str(name), "generation": before, "seconds": round(struck - began, 1)}
        record(**row, recovered_in=round(time.monotonic() - struck, 1), starts=run.starts - start)
    raise AssertionError("the plan is too short")


def settle(run, generation):
    """Waits until the run has come so far, and starts it again whenever it ends."""
    until, before, refused = time.monotonic() + STUCK, run.generation(), 0
    while (now := run.generation()) < generation:
        if now > before:
            before, refused = now, 0
        if run.ended() is not None:
            refused = refused + 1 if run.ended() == REFUSED else 0
            if refused == REFUSALS or (refused and not now):  # a fault, such as a full disk, may cost one
                raise AssertionError(f"refused at generation {now}: see {run.folder}/output")
            processes.end(run.process)
            run.start(ENDLESS)
        if time.monotonic() > until:
            raise TimeoutError(f"no generation {generation} within {STUCK} s: see {run.folder}/output")
        time.sleep(0.2)


def job_with(run, needed):
    """The pids of a run whose processes of these names are alive and not stopped, started again if they are not."""
    until = time.monotonic() + STUCK
    while True:
        job = processes.job(run.process.pid) | {"launcher": run.process.pid}
        if run.ended() is None and needed <= {who for who, pid in job.items() if processes.works(pid)}:
            return job
        # rank 1 is lost, and the job goes on without it: a user would not notice
        processes.end(run.process)
        run.start(ENDLESS)
        settle(run, run.generation() + 1)
        if time.monotonic() > until:
            raise TimeoutError(f"no job with {needed} within {STUCK} s: see {run.folder}/output")


def finish(run, generations):
    """Lets a run go on to that generation, undisturbed."""
    run.start(generations)
    code = run.process.wait()
    assert code == 0, f"it ended with code {code}: see {run.folder}/output"


def results(run):
    """{what: content} of all that a run leaves, its times left out."""
    left = {kind: json.loads(run.log(kind).read_text()) for kind in LOGS}
    for kind in ("hist.json", "hist_best.json"):
        for row in left[kind]:
            del row[1]
    for kind in ("npz", "checkpoint.npz"):
        with np.load(run.log(kind)) as archive:
            left |= {f"{kind} {name}": archive[name].tobytes() for name in archive.files if name != "logs"}
    return left


def main():
    parser = cli.OneLineParser(description=__doc__)
    parser.add_argument("--faults", type=cli.number(int, 1), default=60, help="at least so many")
    parser.add_argument("--minutes", type=cli.number(float, 0), default=30, help="and for at least so long")
    parser.add_argument("--seed", type=cli.number(int, 0), default=1000, help="of the faults")
    parser.add_argument("--folder", help="where the two runs go; default: a new one, removed if they are equal")
    parser.add_argument("--out", required=True, type=cli.new_file, metavar="FILE", help="the log, one JSON per line")
    arguments = parser.parse_args()
    folder = pathlib.Path(arguments.folder or tempfile.mkdtemp(prefix="soak-"))
    print(f"the two runs are in {folder}", flush=True)
    (folder / "disturbed").mkdir(parents=True, exist_ok=True)
    (folder / "twin").mkdir(exist_ok=True)
    rng, began = np.random.default_rng(arguments.seed), time.monotonic()
    os.makedirs(os.path.dirname(os.path.abspath(arguments.out)), exist_ok=True)
    with open(arguments.out, "w") as out:

        def record(**row):
            out.write(json.dumps(row) + "\n")
            out.flush()
            print(row, flush=True)

        kinds = collections.Counter()
        run, twin = Run(folder / "disturbed", RANKS), Run(folder / "twin", THREADS)
        try:
            twin.start(2 * arguments.faults)  # the run will have come further than that
            generation = soak(run, rng, arguments.faults, 60 * arguments.minutes,
                              lambda **row: (kinds.update([row["what"]]), record(**row)))  # fmt: skip
            minutes = round((time.monotonic() - began) / 60, 1)
            processes.end(run.process)
            generations = generation + 3
            finish(run, generations)
            assert twin.process.wait() == 0, f"the twin failed: see {twin.folder}/output"
            finish(twin, generations)
        finally:
            for one in (run, twin):
                if one.process:
                    processes.end(one.process)
        disturbed, undisturbed = results(run), results(twin)
        unequal = [what for what in undisturbed if disturbed.get(what) != undisturbed[what]]
        record(faults=kinds.total(), minutes=minutes, generations=generations, kinds=kinds, unequal=unequal)
    if not (unequal or arguments.folder):
        shutil.rmtree(folder)
    verdict = f"NOT EQUAL to the undisturbed twin: {unequal}" if unequal else "equal to the undisturbed twin"
    print(f"{kinds.total()} faults in {minutes} minutes, {generations} generations: {verdict}")
    sys.exit(bool(unequal))


if __name__ == "__main__":
    cli.run_main(main)
