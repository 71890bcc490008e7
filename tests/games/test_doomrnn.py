"""The Doom pipeline in small, on the real game: every stage as a user runs it, killed, resumed, and given bad input."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import commands
import numpy as np
import pytest
from commands import in_this_process  # noqa: F401

from common.runtime import files, provenance
from common.runtime.files import ROOT

from doomrnn import config

GAME = os.path.join(ROOT, "doomrnn")
TINY = {
    "extract": ["--episodes", "6", "--first_seed", "300000", "--min_frames", "20"],
    "vae_train": ["--steps", "30", "--batch_size", "32", "--checkpoint_seconds", "0"],
    "series": ["--episodes_per_part", "1"],
    "rnn_train": ["--steps", "30", "--streams", "4", "--sequence_length", "16", "--hidden_size", "32",
                  "--validation_episodes", "1", "--checkpoint_seconds", "0"],
    "train": ["--generations", "6", "-t", "8", "--num_episode", "2", "--eval_steps", "3", "--eval_episodes", "8",
              "--checkpoint_seconds", "0"],
}  # fmt: skip
MAKES = {
    "extract": "record/300000.summary.json",
    "vae_train": "tf_vae/vae.json",
    "series": "series/series.npz",
    "rnn_train": "tf_rnn/rnn.json",
    "train": "log/doomrnn.cma.2.8.best.json",
}
STAGES = list(TINY)


def command(script, *arguments):
    return [sys.executable, f"{script}.py", *map(str, arguments)]


def run(script, *arguments, cwd=GAME, env=None):
    """A finished process, its output as text."""
    return subprocess.run(command(script, *arguments), cwd=cwd, env=env, capture_output=True, text=True, timeout=600)


def stage(name, folder, *more):
    return run(name, "--preset", "smoke", "--run", folder, *TINY[name], *more)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run folder in which every stage has been run once, undisturbed."""
    folder = tmp_path_factory.mktemp("run")
    for name in STAGES:
        result = stage(name, folder)
        assert result.returncode == 0, result.stderr
        assert (folder / MAKES[name]).exists()
    return folder


def test_recordings_hold_whole_episodes(made):
    """Catches a lost or shifted row: rewards of 1 per tic, the end in the last row only, frames that move."""
    names = [name for name in os.listdir(made / "record") if name.endswith(".npz")]
    assert len(names) == json.loads((made / MAKES["extract"]).read_text())["kept"] > 0
    for name in names:
        with np.load(made / "record" / name) as episode:
            frames = len(episode["obs"])
            assert episode["obs"].shape == (frames, 64, 64, 3)
            assert episode["done"].tolist() == [False] * (frames - 1) + [True]
            assert episode["reward"].sum() in (frames, frames - 1)  # the last tic may be the fatal one
            assert episode["action"].shape == (frames,)
            assert 1 < np.flatnonzero(np.diff(episode["action"])).size < frames / 2  # held for some tics
            assert (episode["obs"][1:] != episode["obs"][:-1]).any(axis=(1, 2, 3)).mean() > 0.5


def test_series_lines_up_with_the_recordings(made):
    """Catches episodes joined in another order than their lengths say, and actions of other frames."""
    with np.load(made / MAKES["series"]) as series:
        names = sorted(int(n[:-4]) for n in os.listdir(made / "record") if n.endswith(".npz"))
        recorded = [np.load(made / "record" / f"{name}.npz") for name in names]
        assert series["length"].tolist() == [len(episode["obs"]) for episode in recorded]
        np.testing.assert_array_equal(series["action"][:, 0], np.concatenate([e["action"] for e in recorded]))
        assert series["mu"].shape == series["logvar"].shape == (series["length"].sum(), 64)
        assert series["mu"].std(axis=0).max() > 0.01


def test_controller_files_are_the_authors(made):
    """Catches another layout of the log files that notebooks and other repositories read."""
    log = made / "log"
    read = {kind: json.loads((log / f"doomrnn.cma.2.8.{kind}").read_text()) for kind in
            ("json", "hist.json", "hist_best.json", "log.json", "best.json", "config.json")}  # fmt: skip
    controller_size = 64 + 2 * 32
    assert len(read["json"]) == 1
    assert len(read["json"][0]) == controller_size
    assert [len(row) for row in read["hist.json"]] == [9] * 6
    assert [row[0] for row in read["hist.json"]] == list(range(1, 7))
    assert [row[0] for row in read["hist_best.json"]] == [3, 6]
    assert read["hist_best.json"][0][2::2] == ["improvement", "curr", "prev", "best"]
    parameters, score = read["best.json"]
    assert len(parameters) == controller_size
    assert score == max(row[1] for row in read["log.json"])
    assert set(read["config.json"]["parents"]) == {"vae", "rnn", "initial_z"}


def test_a_finished_stage_says_so(made):
    """Catches results overwritten by running a command again."""
    before = {name: (made / MAKES[name]).read_bytes() for name in STAGES}
    for name in STAGES:
        result = stage(name, made)
        assert result.returncode == 0, result.stderr
        assert "already" in result.stdout
        assert (made / MAKES[name]).read_bytes() == before[name]


@pytest.mark.parametrize("name", ["vae_train", "rnn_train", "train"])
def test_a_killed_stage_ends_where_an_undisturbed_one_does(made, tmp_path, name):
    """Catches state that a checkpoint forgets: optimizer, carried memory, data order, noise, search distribution."""
    inputs = {"vae_train": ["record"], "rnn_train": ["series", "tf_vae"], "train": ["tf_vae", "tf_rnn", "tf_initial_z"]}
    for folder in inputs[name]:
        os.symlink(made / folder, tmp_path / folder)
    own = tmp_path / os.path.dirname(MAKES[name])
    kills = 0
    while kills < 2:
        process = subprocess.Popen(
            command(name, "--preset", "smoke", "--run", tmp_path, *TINY[name]), cwd=GAME,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        seen = newest(own)
        while newest(own) <= seen and process.poll() is None:
            time.sleep(0.01)
        assert process.poll() is None, "it ended before it could be killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    assert not (tmp_path / MAKES[name]).exists() or name == "train"
    result = stage(name, tmp_path)
    assert result.returncode == 0, result.stderr
    assert "continuing from" in result.stdout
    assert json.loads((tmp_path / MAKES[name]).read_text()) == json.loads((made / MAKES[name]).read_text())


def newest(folder):
    """When the checkpoint in a stage's folder was last replaced."""
    times = [os.stat(folder / name).st_mtime for name in (os.listdir(folder) if folder.exists() else [])
             if name.endswith(("checkpoint", "checkpoint.npz"))]  # fmt: skip
    return max(times, default=0.0)


def test_killed_recording_and_encoding_go_on(made, tmp_path):
    """Catches episodes recorded twice or never, and a series with a part missing."""
    process = subprocess.Popen(
        command("extract", "--preset", "smoke", "--run", tmp_path, *TINY["extract"]), cwd=GAME,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    while len(list((tmp_path / "record").glob("*.npz")) if (tmp_path / "record").exists() else []) < 2:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert stage("extract", tmp_path).returncode == 0
    for name in os.listdir(made / "record"):
        if name.endswith(".npz"):
            with np.load(made / "record" / name) as a, np.load(tmp_path / "record" / name) as b:
                np.testing.assert_array_equal(a["obs"], b["obs"])

    os.symlink(made / "tf_vae", tmp_path / "tf_vae")
    process = subprocess.Popen(
        command("series", "--preset", "smoke", "--run", tmp_path, *TINY["series"]), cwd=GAME,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while not (tmp_path / "series" / "part1.npz").exists():
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / MAKES["series"]).exists()
    assert stage("series", tmp_path).returncode == 0
    with np.load(tmp_path / MAKES["series"]) as resumed, np.load(made / MAKES["series"]) as whole:
        for name in whole.files:
            np.testing.assert_array_equal(resumed[name], whole[name])
    assert not list((tmp_path / "series").glob("part*"))


def test_evolution_is_the_same_over_mpi_ranks(made, tmp_path):
    """Catches results that depend on who computed a block; it may also hang, where ranks wait for each other."""
    for folder in ("tf_vae", "tf_rnn", "tf_initial_z"):
        os.symlink(made / folder, tmp_path / folder)
    result = run("train", "--preset", "smoke", "--run", tmp_path, *TINY["train"], "-n", 2, "-t", 4)
    assert result.returncode == 0, result.stderr
    for kind in ("best.json", "json", "log.json"):
        name = f"log/doomrnn.cma.2.8.{kind}"
        assert (tmp_path / name).read_bytes() == (made / name).read_bytes()


def test_several_mdn_rnns_share_the_dreams(made, tmp_path):
    """Catches episodes dreamed twice or by nobody, results under another episode, and a second one that is not used."""
    arrays = json.loads((made / "tf_rnn" / "rnn.json").read_text())
    weaker = [(np.array(array) // 2).tolist() for array in arrays]
    parents = json.loads((made / "tf_rnn" / "rnn.json.meta.json").read_text())["parents"]
    parents |= {"start_from": files.sha256(made / "tf_rnn" / "rnn.json")}
    for name, weights in (("same", arrays), ("other", weaker)):
        folder, also_in = tmp_path / name, str(tmp_path / f"{name}.json")
        with open(also_in, "w") as file:
            json.dump(weights, file, indent=1)  # another file, even where the weights are the same
        provenance.write(also_in, "rnn", "doomrnn", config.RNN["smoke"], parents, 1.0, unverified=False)
        folder.mkdir()
        for trained in ("tf_vae", "tf_rnn", "tf_initial_z"):
            os.symlink(made / trained, folder / trained)
        result = run("train", "--preset", "smoke", "--run", folder, *TINY["train"], "-t", 8, "--also_in", also_in)
        assert result.returncode == 0, result.stderr
    name = "log/doomrnn.cma.2.8.log.json"
    assert (tmp_path / "same" / name).read_bytes() == (made / name).read_bytes()
    assert (tmp_path / "other" / name).read_bytes() != (made / name).read_bytes()
    meta = json.loads((tmp_path / "other" / f"{name}.meta.json").read_text())
    assert meta["parents"]["also_in"] == [files.sha256(tmp_path / "other.json")]


def test_model_plays_the_game_and_the_dream(made, tmp_path):
    """Catches wrong seeds, missing episodes, a last line that scripts cannot read, and a video that is not one."""
    for world in ("doomreal", "doomrnn"):
        out = tmp_path / f"{world}.json"
        result = run("model", world, "norender", "log/doomrnn.cma.2.8.best.json", 500100,
                     "--episodes", 3, "--run", made, "--out", out)  # fmt: skip
        assert result.returncode == 0, result.stderr
        scores = json.loads(out.read_text())
        assert [row["seed"] for row in scores["episodes"]] == [500100, 500101, 500102]
        returns = [row["return"] for row in scores["episodes"]]
        assert scores["n"] == 3
        assert scores["mean"] == pytest.approx(np.mean(returns))
        assert scores["stderr"] == pytest.approx(np.std(returns, ddof=1) / np.sqrt(3))
        assert result.stdout.splitlines()[-1].split()[:3] == ["seed", "500100", "average_reward"]
        video = tmp_path / f"{world}.mp4"
        result = run("model", world, "render", "log/doomrnn.cma.2.8.best.json", 500100, "--run", made, "--video", video)
        assert result.returncode == 0, result.stderr
        assert video.stat().st_size > 1000


def test_an_episode_is_the_same_in_any_batch(made, tmp_path):
    """Catches episodes that depend on their neighbors in the lockstep batch."""
    alone, together = tmp_path / "alone.json", tmp_path / "together.json"
    for out, seed, episodes in ((alone, 500101, 1), (together, 500100, 3)):
        result = run("model", "doomreal", "norender", "random", seed, "--episodes", episodes, "--out", out)
        assert result.returncode == 0, result.stderr
    assert json.loads(alone.read_text())["episodes"][0] == json.loads(together.read_text())["episodes"][1]


def bad(made, tmp_path):
    """{name: (script, arguments, what the line must say)} of users' mistakes."""
    (tmp_path / "empty" / "record").mkdir(parents=True)
    (tmp_path / "short.json").write_text("[[0.1, 0.2, 0.3]]")
    smoke = ["--preset", "smoke", "--run"]
    yield "extract", ["--preset", "smoke", "--run", tmp_path / "short.json"], "is not a folder"
    yield "extract", ["--preset", "smoke", "--run", tmp_path, "--first_seed", "399999"], "--first_seed"
    yield "extract", ["--episode", "5"], "--episode"
    yield "vae_train", [*smoke, tmp_path], "bash extract.bash"
    yield "vae_train", [*smoke, tmp_path / "empty"], "bash extract.bash"
    yield "vae_train", [*smoke, made, "--learning_rate", "0.5"], "learning_rate"
    yield "rnn_train", [*smoke, tmp_path], "python series.py"
    yield "train", [*smoke, tmp_path / "empty", "--directions", "5000"], "--directions 5000"
    yield "train", [*smoke, made, "--also_in", made / "tf_rnn" / "rnn.json"], "dreamt in already"
    yield "train", [*smoke, made, "--also_in", "../carracing/rnn/rnn.json"], "carracing/rnn/rnn.json"
    yield "model", ["doomreal", "norender", "no.json"], "no.json"
    yield "model", ["doomreal", "norender", tmp_path / "short.json", "--run", made], "has no short.json.meta.json"
    yield "model", ["doomreal", "render", "random", "--run", made, "--video", "x.avi"], "x.avi"
    yield "doomrnn", ["--run", made], "no display"


def test_mistakes_are_one_line_and_exit_code_2(made, tmp_path, monkeypatch):
    """Catches tracebacks for a user's mistake, and messages that do not say what is wrong."""
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    for script, arguments, says in bad(made, tmp_path):
        done = commands.script("doomrnn", script, *arguments)
        assert done.refused(says), (script, arguments, done)


def test_no_mpi_launcher_is_one_line(made, tmp_path):
    """Catches a traceback, or a silent run on one rank, where there is no mpirun."""
    alone = tmp_path / "bin"
    alone.mkdir()
    os.symlink(sys.executable, alone / "python")
    env = os.environ | {"PATH": str(alone), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    result = subprocess.run(
        [alone / "python", "train.py", "--preset", "smoke", "--run", made, "-n", "2", "-t", "4"],
        cwd=GAME, env=env, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 2
    assert "mpich" in result.stderr.strip().splitlines()[-1]


def test_a_controller_is_not_played_with_another_mdn_rnn(made, tmp_path):
    """Catches a controller that trains well and tests at nothing because it was given another VAE or MDN-RNN."""
    other = tmp_path / "run"
    for folder in ("tf_vae", "tf_initial_z", "log"):
        shutil.copytree(made / folder, other / folder)
    shutil.copytree(made / "tf_rnn", other / "tf_rnn")
    arrays = json.loads((other / "tf_rnn" / "rnn.json").read_text())
    arrays[1][0] += 1
    (other / "tf_rnn" / "rnn.json").write_text(json.dumps(arrays))
    result = run("model", "doomreal", "norender", "log/doomrnn.cma.2.8.best.json", "--run", other)
    assert result.returncode == 2
    assert "the models that it was evolved on" in result.stderr
