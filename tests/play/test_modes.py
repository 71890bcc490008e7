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
CONTROLLER = "log/{}.cma.1.4.best.json"
PARAMETERS = {
    "doomrnn": {"z": 4, "z_hidden": 4 * 40 + 40, "zc": 12, "zh": 12, "zch": 20},
    # three outputs, and a bias in each layer
    "carracing": {"z": 3 * 5, "z_hidden": 40 * 5 + 3 * 41, "zc": 3 * 13, "zh": 3 * 13, "zch": 3 * 21},
}


@pytest.fixture(scope="module")
def small():
    """The games, but of some twenty frames and with dreams of 30 steps."""
    return {name: commands.counting(game, MAX_STEPS=30) for name, game in GAMES.items()}


@pytest.mark.parametrize("mode", settings.CONTROLLER_MODES)
@pytest.mark.parametrize("name", PARAMETERS)
def test_a_controller_of_any_mode_is_playable_everywhere(name, mode, small, tmp_path, monkeypatch):
    """Catches a command that takes every controller for the game's own mode, for one layer, or for one without bias."""
    run, game, file = tmp_path / "run", small[name], CONTROLLER.format(name)
    commands.record_in_this_process(monkeypatch, game)
    commands.write_models(game, str(run), 1)
    monkeypatch.chdir(tmp_path)

    def does(main, *words):
        done = commands.call(main, game, *words, "--run", run)
        assert done.code == 0, done.err
        return done.out

    does(evolve.main, "--preset", "smoke", *TRAIN, "--controller_mode", mode)
    assert len(json.loads((run / file).read_text())[0]) == PARAMETERS[name][mode]
    for world in (["doomreal"], ["doomrnn"]) if name == "doomrnn" else ([],):
        assert "average_reward" in does(play.main, *world, "norender", file, "--episodes", 2)
    does(play.watch_dream, file, "--video", "dream.gif")
    does(select.main, file.replace(".best", ".log"), "--episodes", 1, "--final_episodes", 1)
    does(record.main, "--controller", file, "--first_seed", 9000, "--episodes", 1, "--min_frames", 5)
    recorded = recordings.read(str(run / "record" / "9000.npz"))
    assert len(recorded["obs"]) >= 20
    if name == "carracing":  # the outputs of the controller as the game takes them: gas and brake from 0 to 1
        assert recorded["action"].shape[1] == 3
        assert (recorded["action"][:, 1:] >= 0).all()
        assert (recorded["action"][:, 1] > 0).any()

    stage = session.Stage(game, str(run), controller=str(run / file))
    page = session.Session(lambda name: stage, seed=1000)
    controls = {"temperature": 1.0, "held": {}}
    for message in ({"do": "open", "game": name}, {"do": "start", "world": "dream", "frame": 0, **controls}):
        page.answer(json.dumps(message))
    answer = json.loads(page.answer(json.dumps({"do": "step", "driver": "agent", **controls})).split(b"\n")[0])
    assert "error" not in answer
    assert len(answer["action"]) == game.config.ACTION_SIZE
    layers = export.manifest_of(stage)[0]["controller"]["stacks"][0]
    assert len(layers) == (2 if mode == "z_hidden" else 1)
