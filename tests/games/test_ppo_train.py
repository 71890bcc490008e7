"""doomrnn/ppo_train.py: PPO learns in the dream, goes on where it was, and plays the real game. Needs the extra ppo."""

import json
import os
import subprocess
import sys

import pytest

from common.runtime.files import ROOT

pytest.importorskip("stable_baselines3", reason="the optional extra ppo is not installed")

FOLDER = os.path.join(ROOT, "doomrnn")


def test_ppo_trains_in_the_dream_and_plays_the_game(tmp_path):
    """Catches an adapter whose ends Stable-Baselines3 refuses, a start that forgets the one before, wrong seeds."""
    out = tmp_path / "scores.json"
    command = [sys.executable, "ppo_train.py", "--run", tmp_path, "--num_envs", "8", "--seed", "500000", "--out", out]
    for steps, says in (("2048", ""), ("4096", "continuing from step 2048")):
        done = subprocess.run(
            [*command, "--steps", steps, "--episodes", "2"], cwd=FOLDER, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert says in done.stdout
    scores = json.loads(out.read_text())
    assert scores["dreamt_steps"] == 4096
    assert [row["seed"] for row in scores["episodes"]] == [500000, 500001]
    assert done.stdout.splitlines()[-1].startswith("seed 500000 average_reward")
