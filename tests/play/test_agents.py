"""common/play/agents.py: which file is meant, and the controller on the very models that it was evolved on."""

import argparse
import dataclasses
import os
import types

import numpy as np
import pytest

from common.agent import controller, models
from common.play import agents
from common.runtime import files, provenance, settings
from common.runtime.cli import UserError

import toy


def test_a_file_is_looked_for_here_then_in_the_run_then_at_the_root(tmp_path, monkeypatch):
    """Catches the shipped controller played in place of the user's own of the same name."""
    here, run, root = (tmp_path / name for name in ("here", "run", "root"))
    for folder in (here, run, root / "common" / "shipped"):
        folder.mkdir(parents=True)
    monkeypatch.chdir(here)
    monkeypatch.setattr(agents, "ROOT", str(root))
    with pytest.raises(UserError, match=r"^log/c\.json: no such file"):
        agents.find("log/c.json", str(run))
    places = (root / "common" / "shipped" / "c.json", root / "log" / "c.json", run / "log" / "c.json")
    for path in places:
        path.parent.mkdir(exist_ok=True)
        path.write_text("[]")
        assert agents.find("log/c.json", str(run)) == str(path)
    (here / "log").mkdir()
    (here / "log" / "c.json").write_text("[]")
    assert agents.find("log/c.json", str(run)) == "log/c.json"


def test_a_path_in_a_file_is_never_one_of_a_machine(tmp_path):
    """Catches score files that tell where somebody's home is."""
    assert agents.name_of(os.path.join(agents.ROOT, "log", "x.json")) == os.path.join("log", "x.json")
    assert agents.name_of(str(tmp_path / "x.json")) == "x.json"


@pytest.fixture
def game(tmp_path, monkeypatch):
    """The toy, of which a run and two sets that ship have models that are only names; C's files go to ./run."""
    monkeypatch.chdir(tmp_path)
    game = toy.game_in(str(tmp_path / "game"))
    for number, paths in enumerate(sets(game)):
        for name, path in paths.items():
            files.write_json(path, [number, name])

    def load(game, paths, unverified=False):
        rnn = types.SimpleNamespace(shape=types.SimpleNamespace(z_size=toy.Z, hidden_size=toy.H, action_size=1))
        return models.Models(None, rnn, None, hashes_of(paths), paths, {})

    monkeypatch.setattr(models, "load", load)
    return game


def sets(game):
    """[{name: path}] of the run and of what ships."""
    shipped = [{name: os.path.join("game", path) for name, path in paths.items()} for paths in game.config.SHIPPED]
    return [toy.in_run(game, "run"), *shipped]


def hashes_of(paths):
    return {name: files.sha256(path) for name, path in paths.items()}


def load(game, unverified=False):
    return agents.load(game, argparse.Namespace(file="c.json", run="run", unverified=unverified))


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_controller_is_loaded_on_its_own_models(game, which):
    """Catches the models of the run below a controller evolved on others, and its score read as a parameter."""
    parameters = np.linspace(-1, 1, toy.Z + 1)
    hashes = hashes_of(sets(game)[which])
    toy.write_controller("run/c.json", game, hashes, parameters)
    agent = load(game)
    assert agent.models.paths == sets(game)[which]
    assert agent.path == "run/c.json"
    np.testing.assert_allclose(agent.parameters, parameters, atol=0.5001e-4)
    about = agent.about()
    assert about["controller"]["sha256"] == files.sha256("run/c.json")
    assert about["models"] == hashes
    assert "unverified" not in about


def test_a_score_is_of_the_controller_that_played(game):
    """Catches the sha256 of what a training wrote in its place while it played."""
    hashes = hashes_of(sets(game)[0])
    toy.write_controller("run/c.json", game, hashes, np.zeros(toy.Z + 1))
    agent, played = load(game), files.sha256("run/c.json")
    toy.write_controller("run/c.json", game, hashes, np.ones(toy.Z + 1))
    assert agent.about()["controller"]["sha256"] == played != files.sha256("run/c.json")
    os.remove("run/c.json")
    assert agent.about()["controller"]["path"] == "c.json"


def test_a_controller_is_loaded_in_its_own_mode_and_sees_what_it_saw(game):
    """Catches the usual mode's sizes for a controller of another, and a sample of z for one that saw the mean."""
    hashes, size = hashes_of(sets(game)[0]), toy.Z + toy.H + 1
    controller.write("run/c.json", np.zeros(size))
    for sample_z in (True, False):
        cfg = settings.Train(controller_mode="zh", sample_z=sample_z)
        provenance.write("run/c.json", "controller", "toy", cfg, hashes, 1.0, unverified=False)
        agent = load(game)
        assert (agent.controller.mode, agent.controller.parameters, agent.sample_z) == ("zh", size, sample_z)
    provenance.write(
        "run/c.json", "controller", "toy", settings.Train(controller_mode="z"), hashes, 1.0, unverified=False
    )
    with pytest.raises(UserError, match="holds 13 parameters"):
        load(game)


def test_a_controller_of_unknown_origin_plays_only_unverified(game):
    """Catches a controller that is played on models that it has never seen, and a score that does not say so."""
    controller.write("run/c.json", np.zeros(toy.Z + 1))
    with pytest.raises(UserError, match=r"c\.json: has no c\.json\.meta\.json"):
        load(game)
    agent = load(game, unverified=True)
    assert agent.models.paths == sets(game)[0]
    assert agent.about()["unverified"] is True
    other = {"vae": "a" * 64, "rnn": "b" * 64, "initial_z": "c" * 64}
    toy.write_controller("run/c.json", game, other, np.zeros(toy.Z + 1))
    with pytest.raises(UserError, match=r"c\.json: the models that it was evolved on .*bbbbbbbbbbbb.* --run DIR"):
        load(game)
    agent = load(game, unverified=True)
    assert agent.models.paths == sets(game)[0]
    assert agent.about()["unverified"] is True


@pytest.mark.parametrize(
    "change",
    [{"config": []}, {"config": {"controller_mode": "zzz"}}, {"parents": []}, {"config": {"controller_mode": 3}}],
)
def test_a_strange_meta_beside_a_controller_is_named(game, change):
    """Catches a traceback, or what a stranger's file asks for, instead of a line."""
    toy.write_controller("run/c.json", game, hashes_of(sets(game)[0]), np.zeros(toy.Z + 1))
    provenance.save("run/c.json", provenance.read("run/c.json", "controller", "toy") | change)
    with pytest.raises(UserError, match=r"run/c\.json.*meta"):
        load(game)


def test_ends_are_drawn_if_the_controller_and_the_mdn_rnn_say_so():
    """Catches the weight of restarts for a controller evolved with the threshold, and none for drawn ends."""
    for ends, weight, expected in (
        ("drawn", 10.0, 10.0),
        ("threshold", 10.0, 0.0),
        ("drawn", None, 0.0),
        ("", 10, 0.0),
    ):
        config = {"restart_weight": weight} if weight else {}
        loaded = models.Models(None, None, (), {}, {}, {"rnn": {"config": config}})
        meta = {"config": {"ends": ends} if ends else {}}
        assert agents.Agent(None, "", None, None, loaded, meta).end_weight == expected


def test_an_agent_plays_in_the_actions_that_its_models_know(game):
    """Catches tanh values handed to a game that has actions of its own, and a third number where there are two."""
    toy.write_controller("run/c.json", game, hashes_of(sets(game)[0]), np.linspace(-1, 1, toy.Z + 1))
    game = dataclasses.replace(game, action_of=lambda raw: np.float32(5 + raw))
    wide = types.SimpleNamespace(**vars(game.config) | {"ACTION_SIZE": 3})
    agent = load(dataclasses.replace(game, config=wide, with_fewer_actions=game))
    assert agent.game is game
    state = np.ones((2, toy.Z), np.float32), np.zeros((2, toy.H), np.float32), np.zeros((2, toy.H), np.float32)
    read = np.concatenate([state[0], np.ones((2, 1))], axis=1)
    wanted = 5 + np.tanh(read @ agent.parameters)
    np.testing.assert_allclose(agent.policy([1000, 1001]).act(state)[:, 0], wanted, atol=1e-5)


@pytest.mark.parametrize("sample_z", [True, False])
def test_an_agent_sees_games_as_it_did_when_it_was_evolved(game, monkeypatch, sample_z):
    """Catches a sample of z for an agent that was evolved on its mean."""
    parameters = np.zeros(toy.Z + 1)
    toy.write_controller("run/c.json", game, hashes_of(sets(game)[0]), parameters, sample_z=sample_z)
    agent = load(game)
    monkeypatch.setattr(agents, "EncodedGames", lambda *more: more)
    assert agent.world("games") == ("games", agent.models.vae, agent.models.rnn, sample_z)


def test_a_score_on_unverified_models_says_so(game):
    """Catches a known controller that passes for verified though nobody knows what it sees with."""
    toy.write_controller("run/c.json", game, hashes_of(sets(game)[0]), np.zeros(toy.Z + 1))
    agent = load(game)
    loaded = dataclasses.replace(agent.models, metas={"vae": {"unverified": True}})
    assert not agent.unverified
    assert dataclasses.replace(agent, models=loaded).unverified


def test_a_mean_of_another_length_is_named(game):
    """Catches a traceback, or a mean that plays by weights of another controller."""
    toy.write_controller("run/c.json", game, hashes_of(sets(game)[0]), np.zeros(toy.Z + 1))
    agent = load(game)
    mean = np.linspace(-1, 1, toy.Z + 1)
    np.testing.assert_allclose(agents.acting(game, "x.json", agent.meta, agent.models, mean).parameters, mean)
    with pytest.raises(UserError, match=r"x\.json: holds 4 parameters, its controller has 5"):
        agents.acting(game, "x.json", agent.meta, agent.models, mean[:-1])
