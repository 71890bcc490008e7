"""All trainings while they are killed, starved, fed with NaN or told another time; the last one over MPI ranks."""

import contextlib
import itertools
import json
import os
import pathlib
import re
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soak

import processes

pytestmark = pytest.mark.slow
TINY = {
    "extract": ["--episodes", 6, "--first_seed", 300000, "--min_frames", 20],
    "vae_train": ["--steps", 40, "--batch_size", 32, "--report_every", 3],
    "series": ["--episodes_per_part", 1],
    "rnn_train": ["--steps", 60, "--streams", 4, "--sequence_length", 16, "--hidden_size", 32,
                  "--validation_episodes", 1, "--report_every", 3],
    "train": ["--generations", 12, "-t", 8, "--num_episode", 2, "--eval_steps", 3, "--eval_episodes", 8],
    "ppo": ["-o", "ppo", "--ends", "threshold", "--generations", 40, "--steps", 8, "--rows", 16, "--minibatch", 64,
            "--hidden", "8", "--value_updates", 2, "--eval_steps", 3, "--eval_episodes", 8, "--temperature", 2],
}  # fmt: skip
SCRIPT = {"ppo": "train"}  # where the stage is not the name of its script
MAKES = {
    "vae_train": "tf_vae/vae.json",
    "rnn_train": "tf_rnn/rnn.json",
    "train": "log/doomrnn.cma.2.8.best.json",
    "ppo": "log/doomrnn.ppo.8.16.best.json",
}
LOGS = {
    "vae_train": "tf_vae/metrics.jsonl",
    "rnn_train": "tf_rnn/metrics.jsonl",
    "train": "log/doomrnn.cma.2.8.log.json",
    "ppo": "log/doomrnn.ppo.8.16.log.json",
}
NEEDS = {"vae_train": ["record"], "rnn_train": ["series", "tf_vae"], "train": [], "ppo": []}  # models that ship
OTHER_TIMES = '''
"""Loaded by Python at its start: a clock that is set forward and back by years, again and again."""
import random, time
now, told = time.time, random.Random(1000)
time.time = lambda: now() + told.choice([-3e8, -5, 0, 60, 3e8])
'''


def arguments(name, run, *more):
    often = [] if name in ("extract", "series") else ["--checkpoint_seconds", 0]
    return [SCRIPT.get(name, name), "--preset", "smoke", "--run", run, *TINY[name], *often, *more]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run folder in which every stage has been run once, undisturbed, those that train a controller in `shipped`."""
    run = tmp_path_factory.mktemp("undisturbed")
    (run / "shipped").mkdir()
    for name in TINY:
        code, output = processes.finish("doomrnn", *arguments(name, home(run, name)))
        assert code == 0, output
    return run


def home(run, name):
    """Where in `made` a stage was run."""
    return run / "shipped" if MAKES.get(name, "").startswith("log/") else run


@pytest.fixture
def run_of(made, tmp_path):
    """(stage) -> a folder with what that stage reads."""

    def folder(name):
        for needed in NEEDS[name]:
            os.symlink(made / needed, tmp_path / needed)
        return tmp_path

    return folder


def checkpoint(run, name):
    """The newest checkpoint's identity; None if there is none."""
    paths = list((run / MAKES[name]).parent.glob("*checkpoint.npz"))
    return paths and (paths[0].stat().st_ino, paths[0].stat().st_mtime_ns)


def until_checkpoint(run, name, process):
    """Waits until this start has written a checkpoint; False if it has ended before."""
    before = checkpoint(run, name)
    condition = lambda: checkpoint(run, name) not in (before, None, []) or process.poll() is not None  # noqa: E731
    processes.wait_until(condition, 1800, f"a checkpoint of {name}")
    return process.poll() is None


def killed(process, run):
    processes.signalled(process.pid, signal.SIGKILL)


def terminated(process, run):
    processes.signalled(process.pid, signal.SIGTERM)


def out_of_disk(process, run):
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (100_000, 100_000))


def out_of_memory(process, run):
    pages = int(pathlib.Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    resource.prlimit(process.pid, resource.RLIMIT_AS, (pages * resource.getpagesize(),) * 2)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(10)
    killed(process, run)


def clock_set(process, run):
    """The clock of this start has jumped all along; its files, too, are of another time."""
    for path in run.glob("*/*"):
        os.utime(path, (0, 0))
    killed(process, run)


STORM = {
    "kill -9 at a random moment": [killed] * 3,
    "SIGTERM": [terminated],
    "file size limit": [out_of_disk],
    "clock set to other years": [clock_set],
    "memory limit": [out_of_memory],  # the last: who gets along with the memory it has goes on to its end
}


@pytest.mark.parametrize("name", MAKES)
def test_a_storm_of_faults_ends_where_an_undisturbed_training_does(made, run_of, tmp_path, table, name):
    """Catches any state that a checkpoint forgets, a step counted twice, and what a full disk or memory leaves torn."""
    run, rng = run_of(name), np.random.default_rng(1000)
    (tmp_path / "clock").mkdir()
    (tmp_path / "clock" / "sitecustomize.py").write_text(OTHER_TIMES)
    injected = dict.fromkeys(STORM, 0)
    for what, faults in STORM.items():
        for fault in faults:
            path = [str(tmp_path / "clock")] * (fault is clock_set) + [os.environ.get("PYTHONPATH", "")]
            process = processes.start("doomrnn", *arguments(name, run), stderr=subprocess.PIPE, text=True,
                                      env=os.environ | {"PYTHONPATH": os.pathsep.join(path)})  # fmt: skip
            try:
                if until_checkpoint(run, name, process):
                    time.sleep(rng.uniform(0, 0.3))
                    fault(process, run)
                    _, stderr = process.communicate(timeout=600)
                    assert process.returncode != 0 or fault is out_of_memory, f"{what}: it went on to its end"
                    assert fault is not out_of_disk or "too large" in stderr.splitlines()[-1]
                    injected[what] += 1
            finally:
                processes.end(process)
    assert all(injected.values()), f"it was done before they could be injected: {injected}"
    code, output = processes.finish("doomrnn", *arguments(name, run))
    assert code == 0, output
    for path in (MAKES[name], LOGS[name]):
        assert (run / path).read_bytes() == (home(made, name) / path).read_bytes()
    assert not list((run / MAKES[name]).parent.glob("*.tmp*"))
    for what, times in injected.items():
        table(f"{name}: {what}", times, "steps since the last checkpoint")


@pytest.mark.parametrize("name", ["vae_train", "rnn_train"])
def test_a_training_that_breaks_stops_at_its_last_good_checkpoint(run_of, table, name):
    """Catches NaN weights that are saved, and a message that does not say which batch it was."""
    run = run_of(name)
    code, output = processes.finish("doomrnn", *arguments(name, run, "--learning_rate", 1e6, "--schedule", "constant"))
    assert code == 2, output
    assert re.search(r"step \d+: ", output.splitlines()[-1])
    assert not (run / MAKES[name]).exists()
    for path in (run / MAKES[name]).parent.glob("*checkpoint.npz"):
        with np.load(path) as saved:
            assert all(np.isfinite(saved[key]).all() for key in saved.files if saved[key].dtype.kind == "f")
    table(f"{name}: loss that is not finite", 1, "steps since the last checkpoint")


@pytest.mark.parametrize(
    ("name", "says"),
    [("train", "no candidate of this generation has a finite fitness"), ("ppo", "update 1: ")],
)
def test_dreams_that_break_end_the_training(made, tmp_path, table, name, says):
    """Catches a broken MDN-RNN in whose dreams nobody ever dies, the best fitness there is."""
    run = tmp_path
    for trained in ("tf_vae", "tf_initial_z"):
        os.symlink(made / trained, run / trained)
    (run / "tf_rnn").mkdir()
    arrays = json.loads((made / "tf_rnn" / "rnn.json").read_text())
    arrays[2] = (np.array(arrays[2]) * 10.0**33).tolist()  # output_w
    (run / "tf_rnn" / "rnn.json").write_text(json.dumps(arrays))
    code, output = processes.finish("doomrnn", *arguments(name, run, "--unverified"))
    assert code == 2, output
    assert says in output.splitlines()[-1]
    assert not (run / MAKES[name]).exists()
    table(f"{name}: dreams that are not finite", 1, "nothing: no generation was done")


def test_a_soak_that_is_refused_again_and_again_is_given_up(monkeypatch, tmp_path):
    """Catches a command that is started again for an hour, and one that a single fault ends."""
    monkeypatch.setattr(processes, "end", lambda process: None)
    monkeypatch.setattr(soak.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(soak.time, "monotonic", itertools.count().__next__)

    class Refused:
        folder, process, starts = tmp_path, None, 0

        def __init__(self, *generations):
            self._generations = generations

        def start(self, generations):
            self.starts += 1

        def generation(self):
            return self._generations[min(self.starts, len(self._generations) - 1)]

        def ended(self):
            return soak.REFUSED

    for generations, starts in (((5,), 2), ((0,), 0), ((5, 5, 6), 4)):
        run = Refused(*generations)
        with pytest.raises(AssertionError, match="refused at generation"):
            soak.settle(run, 9)
        assert run.starts == starts
    soak.settle(Refused(5, 5, 9), 9)


def test_every_fault_of_the_soak(tmp_path, table):
    """Catches a job over MPI ranks that ends, hangs or goes astray by any one fault of the soak."""
    log = tmp_path / "log.jsonl"
    command = [sys.executable, soak.__file__, "--faults", "16", "--minutes", "0", "--folder", tmp_path, "--out", log]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    *_, summary = map(json.loads, log.read_text().splitlines())
    assert summary["unequal"] == []
    for what, times in summary["kinds"].items():
        table(f"train -n 2: {what}", times, "the generation it was in")


def test_sixteen_ranks_compute_a_tiny_generation(tmp_path, table):
    """Catches what grows with the number of ranks; two cores are shared by all of them."""
    run = tmp_path
    (run / "alone").mkdir()
    few = ["--generations", 1, "--eval_steps", 1, "--num_episode", 1]
    for shape in (["-n", 16, "-t", 1], ["-n", 1, "-t", 16, "--run", run / "alone"]):
        code, output = processes.finish("doomrnn", *arguments("train", run, *few, *shape), timeout=3600)
        assert code == 0, output
    base = "log/doomrnn.cma.1.16.json"
    assert (run / base).read_bytes() == (run / "alone" / base).read_bytes()
    table("train -n 16 on this machine", 1, "nothing")
