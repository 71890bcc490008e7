"""Every mode of the controller, evolved and then played by each command and in the studio."""

import json

import commands
import pytest
from commands import GAMES, in_this_process  # noqa: F401  a fixture

from common.data import recordings
from common.play import play, record, select
from common.runtime import settings
from common.studio import export, session
from common.training import evolve

TRAIN = "-t", 4, "--num_episode", 1, "--generations", 1, "--eval_steps", 1, "--eval_episodes", 1
CONTROLLER = "log/doomrnn.cma.1.4.best.json"
PARAMETERS = {"z": 4, "z_hidden": 4 * 40 + 40, "zc": 12, "zh": 12, "zch": 20}


@pytest.fixture(scope="module")
def small():
    """Doom, but for a game of some twenty frames and dreams of 30 steps."""
    return commands.counting(GAMES["doomrnn"], MAX_STEPS=30)


@pytest.mark.parametrize("mode", settings.CONTROLLER_MODES)
def test_a_controller_of_any_mode_is_playable_everywhere(mode, small, tmp_path, monkeypatch):
    """Catches a command that takes every controller for the game's own mode, or for one layer of weights."""
    run = tmp_path / "run"
    commands.record_in_this_process(monkeypatch, small)
    commands.write_models(small, str(run), 1)
    monkeypatch.chdir(tmp_path)

    def does(main, *words):
        done = commands.call(main, small, *words, "--run", run)
        assert done.code == 0, done.err
        return done.out

    does(evolve.main, "--preset", "smoke", *TRAIN, "--controller_mode", mode)
    assert len(json.loads((run / CONTROLLER).read_text())[0]) == PARAMETERS[mode]
    for world in ("doomreal", "doomrnn"):
        assert "average_reward" in does(play.main, world, "norender", CONTROLLER, "--episodes", 2)
    does(play.watch_dream, CONTROLLER, "--video", "dream.gif")
    does(select.main, CONTROLLER.replace(".best", ".log"), "--episodes", 1, "--final_episodes", 1)
    does(record.main, "--controller", CONTROLLER, "--first_seed", 9000, "--episodes", 1, "--min_frames", 5)
    assert len(recordings.read(str(run / "record" / "9000.npz"))["obs"]) >= 20

    stage = session.Stage(small, str(run), controller=str(run / CONTROLLER))
    page = session.Session(lambda name: stage, seed=1000)
    controls = {"temperature": 1.0, "held": {}}
    for message in ({"do": "open", "game": "doomrnn"}, {"do": "start", "world": "dream", "frame": 0, **controls}):
        page.answer(json.dumps(message))
    answer = json.loads(page.answer(json.dumps({"do": "step", "driver": "agent", **controls})).split(b"\n")[0])
    assert "error" not in answer
    assert len(answer["action"]) == 1
    layers = export.manifest_of(stage)[0]["controller"]["stacks"][0]
    assert len(layers) == (2 if mode == "z_hidden" else 1)
