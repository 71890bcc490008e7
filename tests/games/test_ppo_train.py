"""doomrnn/ppo_train.py: PPO learns in the dream, goes on where it was, and plays the real game.

One test needs the extra ppo. In the others a few lines stand for Stable-Baselines3.
"""

import importlib
import importlib.util
import json
import os
import subprocess
import sys
import types

import gymnasium
import numpy as np
import pytest

from common.runtime.cli import UserError
from common.runtime.files import ROOT

FOLDER = os.path.join(ROOT, "doomrnn")
missing = importlib.util.find_spec("stable_baselines3") is None


@pytest.mark.skipif(missing, reason="the optional extra ppo is not installed")
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


class VecEnv:
    """Stands for that of Stable-Baselines3."""

    def __init__(self, num_envs, observation_space, action_space):
        self.num_envs, self.spaces = num_envs, (observation_space, action_space)


class PPO:
    """Stands for that of Stable-Baselines3: it counts steps, its file holds their number, it plays what it reads."""

    made: list = []  # noqa: RUF012

    def __init__(self, policy, env, **options):
        self.num_timesteps, self.env, self.learned = 0, env, []
        self.made.append(self)

    @classmethod
    def load(cls, path, device):
        agent = cls("", None)
        with open(path) as file:
            agent.num_timesteps = int(file.read())
        return agent

    def set_env(self, env):
        self.env = env

    def learn(self, steps, reset_num_timesteps):
        assert not reset_num_timesteps
        self.learned.append(steps)
        self.num_timesteps += steps

    def save(self, file):
        file.write(str(self.num_timesteps).encode())

    def predict(self, read, deterministic):
        assert deterministic
        return read, None


class Three(gymnasium.vector.VectorEnv):
    """Three dreams: in their first step one ends by itself, one because its time is up. Observations tell the row."""

    num_envs = 3
    single_observation_space = single_action_space = gymnasium.spaces.Box(-1, 1, (1,))

    def reset(self, *, seed=None, options=None):
        self.seed = seed
        return np.zeros((3, 1)), {}

    def step(self, actions):
        after, last = 10 * np.arange(3.0)[:, np.newaxis], np.arange(3.0)[:, np.newaxis]
        return after, np.ones(3), np.array([False, True, False]), np.array([False, False, True]), {"final_obs": last}


@pytest.fixture
def ppo_train(monkeypatch):
    """The module, on what stands for Stable-Baselines3."""
    monkeypatch.setattr(PPO, "made", [])
    for name in ("stable_baselines3", "stable_baselines3.common", "stable_baselines3.common.vec_env"):
        stub = types.ModuleType(name)
        stub.PPO, stub.VecEnv, stub.VecMonitor = PPO, VecEnv, lambda env: env
        monkeypatch.setitem(sys.modules, name, stub)
    sys.modules.pop("doomrnn.ppo_train", None)
    yield importlib.import_module("doomrnn.ppo_train")
    del sys.modules["doomrnn.ppo_train"], sys.modules["doomrnn"].ppo_train


def test_the_ends_of_dreams_are_told_as_stable_baselines3_asks_for_them(ppo_train):
    """Catches a time limit learned as a death, and a last observation that is the first of the next dream."""
    dreams = ppo_train.Dreams(Three(), 7)
    assert dreams.num_envs == 3
    dreams.reset()
    assert dreams._envs.seed == 7
    dreams.step_async(np.zeros((3, 1)))
    observations, _, done, infos = dreams.step_wait()
    assert (np.ravel(observations).tolist(), done.tolist()) == ([0, 10, 20], [False, True, True])
    assert infos == [
        {},
        {"terminal_observation": [1], "TimeLimit.truncated": False},
        {"terminal_observation": [2], "TimeLimit.truncated": True},
    ]


def test_it_goes_on_in_other_dreams_and_plays_the_games_asked_for(ppo_train, tmp_path, monkeypatch):
    """Catches options that are not handed on, a reward of another size, the same dreams again, steps learned twice, an
    agent that reads h for z, and one that goes on in dreams of another temperature.
    """
    made, played = [], []

    def make_vec(name, **how):
        made.append((name, how))
        return Three()

    def measure(make_world, make_policy, episodes):
        z, h = np.float32([[1, 2]]), np.float32([[3]])
        played.append((episodes.tolist(), make_policy(episodes).act((z, h, 0 * h)).tolist()))
        return np.ones(len(episodes)), np.ones(len(episodes), int)

    loaded = types.SimpleNamespace(hashes={"rnn": "a"}, about=lambda: {"models": {"rnn": "a"}})
    monkeypatch.setattr(ppo_train.models, "load_run", lambda game, run, unverified: loaded)
    monkeypatch.setattr(ppo_train.devices, "for_blocks", lambda: None)
    monkeypatch.setattr(ppo_train.play, "measure", measure)
    monkeypatch.setattr(ppo_train, "STEPS_PER_SAVE", 10)
    monkeypatch.setattr(gymnasium, "make_vec", make_vec)

    def call(*words):
        given = ["--run", tmp_path, "--num_envs", 3, "--seed", 460_000, "--episodes", 2, *words]
        monkeypatch.setattr(sys, "argv", ["ppo_train.py", *map(str, given)])
        ppo_train.main()

    call("--steps", 25, "--temperature", 0.9, "--out", tmp_path / "scores.json")
    call("--steps", 30, "--temperature", 0.9)
    options = {"num_envs": 3, "run": str(tmp_path), "unverified": False, "temperature": 0.9}
    assert made == [("WorldModels/DoomTakeCoverDream-v0", options | {"autoreset_mode": "SameStep"})] * 2
    assert [agent.learned for agent in PPO.made] == [[10, 10, 5], [5]]
    assert [agent.env._seed for agent in PPO.made] == [20_000, 20_025]
    env = PPO.made[0].env
    env.step_async(np.zeros((3, 1)))
    assert env.step_wait()[1].tolist() == [0.01] * 3
    assert played == [([460_000, 460_001], [[1, 2, 3]])] * 2
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert (scores["game"], scores["backend"], scores["dreamt_steps"]) == ("doomreal", "vizdoom", 25)
    with pytest.raises(UserError, match=r"model\.zip: has not learned in these dreams"):
        call("--steps", 40, "--temperature", 1.0)
