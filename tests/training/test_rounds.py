"""common/training/iterate.py: which stages a round runs, and what is shipped where. No stage is run here."""

import dataclasses
import itertools
import json
import os
import types

import pytest

from common.runtime import files, provenance, settings
from common.runtime.cli import UserError
from common.training import iterate

import toy


@pytest.fixture
def game(tmp_path, monkeypatch):
    """The toy, with two sets of weights that ship and a preset that ships the second."""
    (tmp_path / "toy").mkdir()
    made = toy.game_in(str(tmp_path / "toy"))
    rounds = tuple(settings.Round(own=k and 2, rnn={}, train={}) for k in range(3))
    made.config.ITERATE = {
        "laptop": settings.Iterate(rounds, 0.1),
        "dream": settings.Iterate(rounds, 0.1, backend="fast", ships=1, controller="log/toy.dream.best.json"),
    }
    monkeypatch.setattr(iterate, "ROOT", str(tmp_path))
    return made


def finished_run(game, tmp_path, preset, means):
    """A run of rounds with these validation scores; every file of it says its kind and its round."""
    run = tmp_path / "run"
    state = {"game": "toy", "preset": preset, "seed": 3, "rounds": [{}] * len(means), "done": {}, "seconds": {}}
    lines = []
    for number, mean in enumerate(means, 1):
        folder, controller = run / f"round{number}", f"round{number}/log/c.json"
        paths = toy.in_run(game, str(folder)) | {"controller": str(run / controller)}
        for name, path in paths.items():
            files.write_json(path, [name, number])
            provenance.write(path, name, "toy", settings.Rnn(), {}, 1.0, unverified=False)
        state["done"][f"{number}/agent"] = {"controller": controller}
        lines.append({"round": number, "real": {"mean": mean}})
    files.write_json(str(run / "iterate.json"), state)
    files.write_json(str(run / "rounds.json"), lines)
    return str(run)


@pytest.mark.parametrize(
    ("preset", "place", "controller"),
    [("laptop", "first", "log/toy.cma.1.4.best.json"), ("dream", "second", "log/toy.dream.best.json")],
)
def test_the_best_round_ships_to_the_place_of_its_preset(game, tmp_path, preset, place, controller):
    """Catches the last round shipped where an earlier one plays better, and one preset's agent over another's."""
    iterate.ship(game, finished_run(game, tmp_path, preset, [5.0, 9.0, 7.0]))
    for name in ("vae", "rnn", "initial_z"):
        path = str(tmp_path / "toy" / place / f"{name}.json")
        assert files.read_json(path) == [name, 2]
        provenance.read(path, name, "toy")
    assert files.read_json(str(tmp_path / controller)) == ["controller", 2]
    assert not (tmp_path / "toy" / {"first": "second", "second": "first"}[place]).exists()
    assert (tmp_path / "log" / f"toy.{preset}.3.rounds.json").exists()


def test_an_unfinished_run_does_not_ship(game, tmp_path):
    """Catches a run that is shipped before it could be chosen among all its rounds."""
    run = finished_run(game, tmp_path, "dream", [5.0, 9.0])
    state = files.read_json(os.path.join(run, "iterate.json"))
    files.write_json(os.path.join(run, "iterate.json"), state | {"rounds": [{}] * 3})
    with pytest.raises(UserError, match="2 of 3 rounds are done"):
        iterate.ship(game, run)


@pytest.fixture
def commands(game, tmp_path, monkeypatch):
    """(rounds, preset) -> [(script, words)] of what iterate.py runs for them; what a stage makes is made up."""

    def run(rounds, preset="dream", evaluated=1):
        found = []

        def call(words):
            script, words = os.path.basename(words[0]).removesuffix(".py"), [str(word) for word in words[1:]]
            found.append((script, words))
            folder = words[words.index("--run") + 1]
            if script == "train":
                log = os.path.join(folder, "log", "c.")
                files.write_json(log + "log.json", [[1, 2.0, [0]]] * evaluated)
                for ending in ("best.json", "picked.json"):
                    files.write_json(log + ending, [[0], 2.0])
                    about = {"score": {"of": "dream", "mean": 2.0}}
                    provenance.write(log + ending, "controller", "toy", {}, {}, 1.0, unverified=False, **about)
            if script == "model":
                scores = {"mean": 1.0, "std": 1.0, "stderr": 1.0, "n": 4}
                files.write_json(words[words.index("--out") + 1], scores)
            return types.SimpleNamespace(wait=lambda seconds=None: 0)

        monkeypatch.setattr(iterate.bound, "command", lambda _, *words: words)
        monkeypatch.setattr(iterate.subprocess, "Popen", call)
        monkeypatch.setattr(iterate, "draw", lambda *_: None)
        game.config.RESTART = False
        (tmp_path / "run").mkdir(exist_ok=True)
        cfg = dataclasses.replace(game.config.ITERATE[preset], rounds=rounds)
        iterate.Iteration(game, str(tmp_path / "run"), preset, 1, cfg).go()
        return found

    return run


def test_a_stage_without_flags_of_its_own_still_runs(commands):
    """Catches `vae={}`, the preset as it is, taken for a round that trains none."""
    found = commands((settings.Round(random=2, vae={}, rnn={}, train={}),))
    assert [script for script, _ in found] == ["extract", "vae_train", "series", "rnn_train", "train", "model"]
    found = dict(found)
    assert found["model"][-2:] == ["--backend", "fast"]
    assert found["train"][:2] == ["--preset", "dream"]


def test_the_flags_of_a_round_reach_its_stages(commands):
    """Catches recordings off their leash, the newest games overruled, and a choice where there is none."""
    first = settings.Round(random=2, record={"patience": 80}, vae={"steps": 5}, rnn={}, train={})
    second = settings.Round(own=3, record={"patience": 70}, rnn={"newest": 7}, train={"world": "dream"}, games=4)
    found = commands((first, second), evaluated=2)
    by_script = {}
    for script, words in found:
        by_script.setdefault(script, []).append(dict(itertools.pairwise(words)))
    assert [flags["--patience"] for flags in by_script["extract"]] == ["80", "70"]
    assert by_script["rnn_train"][1]["--newest"] == "7"
    assert by_script["train"][1]["--world"] == "dream"
    assert len(by_script["vae_train"]) == 1
    assert len(by_script["pick_best"]) == 2
    assert by_script["model"][1]["--episodes"] == "4"


def test_a_run_goes_on_where_rounds_have_a_field_that_is_younger(commands, tmp_path):
    """Catches a run that an update of the code makes impossible to finish; an edit is still refused."""
    rounds = (settings.Round(random=2, vae={}, rnn={}, train={}), settings.Round(own=1, train={}))
    commands(rounds[:1])
    path = tmp_path / "run" / "iterate.json"
    state = json.loads(path.read_text())
    del state["rounds"][0]["record"]
    path.write_text(json.dumps(state))
    assert [script for script, _ in commands(rounds)][:2] == ["extract", "series"]
    with pytest.raises(UserError, match="round 1 was edited"):
        commands((dataclasses.replace(rounds[0], random=3), rounds[1]))
