"""common/play/select.py: which game it plays, and what it says of the means; which seeds is in tests/test_golden.py."""

import dataclasses
import os
import shutil

import commands
import numpy as np
import pytest
from commands import in_this_process  # noqa: F401  a fixture

from common.play import play, select
from common.runtime import files, provenance

DOOM = commands.GAMES["doomrnn"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with small models, and the log of an evolution in them: the second mean plays best."""
    run = tmp_path_factory.mktemp("run")
    hashes, path = commands.write_models(DOOM, str(run), 1), str(run / "log" / "doomrnn.cma.2.4.log.json")
    files.write_json(path, [[10 * which, 100.0, np.full(20, which).tolist()] for which in (1, 2, 3)])
    provenance.write(path, "evolution", "doomrnn", {"sample_z": False}, hashes, 1.0, unverified=False)
    return run


@pytest.fixture
def chosen(run, monkeypatch):
    """(words, changes of the game) -> (the worlds that were played, how many episodes in each, validation.json)."""

    def chosen(*words, **changes):
        worlds, episodes = [], []

        def measure(make_world, make_policy, seeds, rows=32):
            worlds.append(make_world(2))
            episodes.append(len(seeds))
            score = {1: 30.0, 2: 50.0, 3: 40.0}[int(make_policy.__self__.parameters[0])]
            return np.full(len(seeds), score), np.ones(len(seeds), int)

        monkeypatch.setattr(play, "measure", measure)
        game = dataclasses.replace(
            DOOM, backends=("slow", "fast"), real_games=lambda rows, backend="": backend, **changes
        )
        done = commands.call(select.main, game, "log/doomrnn.cma.2.4.log.json", *words, "--run", run)
        assert done.code == 0, done.err
        return worlds, episodes, files.read_json(str(run / "log" / "doomrnn.cma.2.4.validation.json"))

    return chosen


@pytest.mark.parametrize("here", ["fast", "slow"])
def test_means_play_on_the_backend_that_is_asked_for(chosen, here):
    """Catches --backend in the file only, one that this machine does not have, and an agent that sees otherwise."""
    worlds, _, about = chosen("--backend", "fast", "--episodes", 2, backend_here={"fast": here}.get)
    assert {world.games for world in worlds} == {here}
    assert about["backend"] == here
    assert not any(world._sample_z for world in worlds)


def test_the_validation_says_which_mean_is_best(chosen):
    """Catches the first mean told for the best, and other defaults than the example in pick_best.py has."""
    worlds, episodes, about = chosen()
    assert episodes == [100] * 3 + [400] * 3
    assert about["best"] == about["means"][1]
    assert (about["best"]["generation"], about["best"]["mean"], about["best"]["n"]) == (20, 50.0, 500)
    assert {world.games for world in worlds} == {"slow"}


def test_the_best_of_several_evolutions_is_chosen_on_its_own_models(chosen, run):
    """Catches a mean told for that of another evolution, played in the models of another, and a meta of the first."""
    one, two = (str(run / place / "log" / "doomrnn.cma.2.4.log.json") for place in ("", "train2"))
    files.write_json(two, [[5, 1.0, np.full(20, 2).tolist()]])
    meta = provenance.read(one, "evolution", "doomrnn")
    files.write_json(one, [[10, 100.0, np.full(20, 3).tolist()]])
    for path, config in ((one, {"sample_z": False}), (two, {"sample_z": True})):
        provenance.write(path, "evolution", "doomrnn", config, meta["parents"], 1.0, unverified=False)
    worlds, _, about = chosen("train2/log/doomrnn.cma.2.4.log.json", "--episodes", 2, "--final_episodes", 0)
    assert [world._sample_z for world in worlds] == [False, True]
    assert [row["path"] for row in about["means"]] == [row["path"] for row in about["evolutions"]]
    assert (about["best"], about["best"]["generation"]) == (about["means"][1], 5)
    picked = provenance.read(str(run / "log" / "doomrnn.cma.2.4.picked.json"), "controller", "doomrnn")
    assert picked["config"] == {"sample_z": True}
    assert picked["parents"]["evolution"] == files.sha256(two)


@pytest.mark.parametrize("what", ["a log", "a model"])
def test_one_unverified_file_makes_the_choice_unverified(run, tmp_path, monkeypatch, what):
    """Catches an agent that looks like all others because its own log, or its models, or all other logs are known."""
    run = shutil.copytree(run, tmp_path / "run")
    parents = provenance.read(str(run / "log" / "doomrnn.cma.2.4.log.json"), "evolution", "doomrnn")["parents"]
    for name, unverified in (("one", False), ("two", what == "a log")):
        path = str(run / "log" / f"{name}.log.json")
        files.write_json(path, [[10, 1.0, [0.0] * 20]])
        provenance.write(path, "evolution", "doomrnn", {"sample_z": False}, parents, 1.0, unverified=unverified)
    if what == "a model":
        os.remove(run / (DOOM.config.TRAINED["initial_z"] + provenance.ENDING))
    monkeypatch.setattr(play, "measure", lambda make_world, policy, seeds: (np.zeros(len(seeds)), None))
    words = ["--episodes", 2, "--final_episodes", 0, "--run", run, *["--unverified"] * (what == "a model")]
    done = commands.call(select.main, DOOM, "log/one.log.json", "log/two.log.json", *words)
    assert done.code == 0, done.err
    assert files.read_json(run / "log" / "one.validation.json")["unverified"] is True
    assert files.read_json(run / "log" / f"one.picked.json{provenance.ENDING}")["unverified"] is True


def test_a_log_without_a_mean_to_choose_is_named(run, monkeypatch):
    """Catches a traceback, or games of the other logs played, where --from_generation leaves no mean of a log."""
    monkeypatch.setattr(play, "measure", lambda *_: pytest.fail("it began to play"))
    done = commands.call(select.main, DOOM, "log/doomrnn.cma.2.4.log.json", "--from_generation", 31, "--run", run)
    assert done.refused("no mean was evaluated in generation 31 or later")


def test_a_mean_of_another_length_is_known_before_any_is_played(run, tmp_path, monkeypatch):
    """Catches an hour of games before the last mean is found to fit no controller."""
    path, of = str(tmp_path / "x.log.json"), str(run / "log" / "doomrnn.cma.2.4.log.json")
    files.write_json(path, [[10, 1.0, [0.0] * 20], [20, 2.0, [0.0] * 19]])
    parents = provenance.read(of, "evolution", "doomrnn")["parents"]
    provenance.write(path, "evolution", "doomrnn", {"sample_z": False}, parents, 1.0, unverified=False)
    monkeypatch.setattr(play, "measure", lambda *_: pytest.fail("it began to play"))
    assert commands.call(select.main, DOOM, path, "--run", run).refused("holds 19 parameters", "has 20")
