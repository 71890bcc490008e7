"""docs/new_game.md, done: tests/tiny_game/ and the scripts that it says to copy make a whole World Models pipeline."""

import json
import os
import shutil
import subprocess
import sys

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import common  # noqa: F401  makes the dreams known to Gymnasium

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
COPIED = ("vae_train.py", "series.py", "rnn_train.py", "train.py")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The new game's folder, in which every stage has been run once as its guide says."""
    folder = tmp_path_factory.mktemp("game") / "catchdot"
    shutil.copytree(os.path.join(ROOT, "tests", "tiny_game"), folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in COPIED:
        shutil.copy(os.path.join(ROOT, "doomrnn", name), folder)
    for script in ("extract", "vae_train", "series", "rnn_train", "train"):
        done = subprocess.run([sys.executable, f"{script}.py"], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return folder


def test_the_guide_names_what_is_copied():
    """Catches a guide that tells less than is needed."""
    with open(os.path.join(ROOT, "docs", "new_game.md")) as file:
        guide = file.read()
    own = [name for name in os.listdir(os.path.join(ROOT, "tests", "tiny_game")) if name.endswith(".py")]
    assert [name for name in (*COPIED, *own) if f"`{name}`" not in guide] == []


def test_v_and_m_learn_the_new_game(folder):
    """Catches stages that run but learn nothing: V must do better than the mean frame, M than at its first report."""
    reports = {}
    for stage in ("tf_vae", "tf_rnn"):
        with open(folder / stage / "metrics.jsonl") as file:
            for row in map(json.loads, file):
                for key, value in row.items():
                    reports.setdefault(key, []).append(value)
    frames = np.concatenate([np.load(path)["obs"] for path in (folder / "record").glob("*.npz")]) / 255
    of_the_mean_frame = np.square(frames - frames.mean(axis=0)).sum(axis=(1, 2, 3)).mean()
    assert reports["vae/recon_loss"][-1] < 0.9 * of_the_mean_frame
    assert reports["rnn/z_loss"][-1] < reports["rnn/z_loss"][0] - 0.1
    with np.load(folder / "series" / "series.npz") as series:
        assert len(series["length"]) == 60
        assert series["reward"].max() == 1


def test_the_agent_plays_the_new_game(folder, tmp_path):
    """Catches a controller that cannot be played, or is scored on other episodes than asked for."""
    out = tmp_path / "scores.json"
    best = "log/catchdot.cma.4.8.best.json"
    command = [sys.executable, "model.py", best, "500000", "--episodes", "4", "--out", out]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    scores = json.loads(out.read_text())
    assert scores["game"] == "catchdot"
    assert [row["seed"] for row in scores["episodes"]] == [500000, 500001, 500002, 500003]
    assert all(row["length"] >= 13 for row in scores["episodes"])  # that is how long a dot falls


def test_the_new_games_dream_is_a_gymnasium_environment(folder):
    """Catches an environment that works for the two games it was written with."""
    env = gymnasium.make("WorldModels/Dream-v0", game=str(folder))
    assert env.observation_space.shape == (8 + 32,)
    assert env.metadata["render_fps"] == 20
    check_env(env.unwrapped)
