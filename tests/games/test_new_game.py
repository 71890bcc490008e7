"""docs/new_game.md: a package as it describes one, tests/catchdot, has all stages, a dream and the studio."""

import ast
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from common.runtime.files import ROOT

CATCHDOT = os.path.join(ROOT, "tests", "catchdot")
STAGES = ("extract", "vae_train", "series", "rnn_train", "train")
SCRIPTS = (*STAGES, "model", "dream_model", "iterate", "pick_best", "fidelity")
BEST = "log/catchdot.cma.4.8.best.json"
ELSEWHERE = '''
"""In the folder that the new game's package is in: its dream for any RL library, and the studio."""
import json, sys
import common, gymnasium
from gymnasium.utils.env_checker import check_env
from common import game

assert "catchdot" in game.names() and "common" not in game.names(), game.names()
env = gymnasium.make("WorldModels/Dream-v0", game="catchdot")
assert env.observation_space.shape == (8 + 32,), env.observation_space
assert env.metadata["render_fps"] == 20
check_env(env.unwrapped)
envs = gymnasium.make_vec("WorldModels/Dream-v0", num_envs=3, game="catchdot")
assert envs.reset(seed=1000)[0].shape == (3, 40)

from common.studio import session

found = game.find("catchdot")
stage = session.Stage(found, found.folder)
assert stage.no_agent == "", stage.no_agent
assert len(stage.frames) == 16
page = session.Session(lambda name: stage, seed=1000)

def ask(**message):
    answer = json.loads(page.answer(json.dumps(message | {"temperature": 1.0, "held": {}})).partition(b"\\n")[0])
    assert "error" not in answer, answer
    return answer

assert ask(do="open", game="catchdot")["title"] == "Catch the dot"
for world in ("dream", "game"):
    ask(do="start", world=world, frame=3)
    assert ask(do="step", driver="you", keys=["left"])["action"] == [-1]
    assert ask(do="step", driver="agent")["steps"] == 2
print("all is well")
'''


def run(*command, cwd):
    """Runs Python there; returns what it printed."""
    done = subprocess.run([sys.executable, *map(str, command)], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The new game's folder, in which every stage has been run once as its guide says."""
    folder = tmp_path_factory.mktemp("games") / "catchdot"
    shutil.copytree(CATCHDOT, folder, ignore=shutil.ignore_patterns("__pycache__"))
    for script in STAGES:
        run(f"{script}.py", cwd=folder)
    return folder


def code_of(game, script):
    """A script without its docstring, the game's name left out."""
    with open(os.path.join(game, f"{script}.py")) as file:
        tree = ast.parse(file.read())
    return ast.unparse(tree.body[1:]).replace(f"from {os.path.basename(game)}.game", "from GAME.game")


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_scripts_are_those_of_doom_with_one_word_changed(script):
    """Catches a script of Doom that works for no other game, and a guide that tells less than is needed."""
    assert code_of(CATCHDOT, script) == code_of(os.path.join(ROOT, "doomrnn"), script)
    with open(os.path.join(ROOT, "docs", "new_game.md")) as file:
        assert f"`{script}.py`" in file.read()


def test_the_vae_and_the_mdn_rnn_learn_the_new_game(folder):
    """Catches stages that run but learn nothing: the VAE must beat the mean frame, the MDN-RNN its first report."""
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
    assert np.isfinite(reports["rnn/validation_z_loss"]).all()
    with np.load(folder / "series" / "series.npz") as series:
        assert len(series["length"]) == 60
        assert series["reward"].max() == 1


def test_the_agent_plays_the_new_game(folder, tmp_path):
    """Catches a controller that cannot be played, or is scored on other episodes than asked for."""
    out = tmp_path / "scores.json"
    run("model.py", "norender", BEST, "500000", "--episodes", "4", "--out", out, cwd=folder)
    scores = json.loads(out.read_text())
    assert scores["game"] == "catchdot"
    assert [row["seed"] for row in scores["episodes"]] == [500000, 500001, 500002, 500003]
    assert all(row["length"] >= 13 for row in scores["episodes"])  # that is how long a dot falls
    assert "unverified" not in scores
    assert scores["controller"]["path"] == os.path.basename(BEST)


def test_the_dream_of_the_new_game_is_shown(folder, tmp_path):
    """Catches a dream_model.py that knows only the games it was written with."""
    out = run("dream_model.py", BEST, "--video", tmp_path / "dream.gif", cwd=folder)
    assert "dreamt" in out
    assert (tmp_path / "dream.gif").stat().st_size > 1000


def test_its_dream_is_a_gymnasium_environment_and_the_studio_plays_it(folder):
    """Catches an environment, or a page, that works for the two games it was written with."""
    assert "all is well" in run("-c", ELSEWHERE, cwd=folder.parent)
