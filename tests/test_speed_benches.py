"""bench/dream.py, ppo.py, planner.py and carracing.py: what their figures are of. How fast it is, no test says."""

import os
import types

import commands
import numpy as np
import pytest
from commands import in_this_process  # noqa: F401  a fixture

from common.runtime import files
from common.runtime.files import ROOT

from bench import carracing, dream, planner, ppo


def measured(bench, path, *words):
    done = commands.call(lambda *_: bench.main(), None, *words, "--out", path)
    assert done.code == 0, done.err
    figures = files.read_json(str(path))
    assert (
        figures.keys() == files.read_json(os.path.join(ROOT, "bench", f"{bench.__name__.split('.')[-1]}.json")).keys()
    )
    return figures


def test_the_loop_is_told_as_a_share_of_the_dream_alone(tmp_path, monkeypatch):
    """Catches a ratio turned over, and steps of another number of rows."""
    clock = iter(np.cumsum([0, 9, 9, 2, 0, 4]))  # the first dream and update, which compile; the next take 2 and 4 s
    monkeypatch.setattr(ppo.time, "perf_counter", lambda: float(next(clock)))
    found = measured(ppo, tmp_path / "ppo.json", "--rows", 8, "--steps", 4, "--repetitions", 1)
    assert (found["dream_steps_per_s"], found["ppo_steps_per_s"], found["ppo_fraction"]) == (16, 8, 0.5)


def test_rates_are_of_a_core_and_of_what_was_dreamt(tmp_path, monkeypatch):
    """Catches a ratio of all cores that is told of one, and a rate of more steps than were dreamt."""
    for name, value in {
        "CANDIDATES": 4,
        "CANDIDATES_PER_BLOCK": 2,
        "EPISODES": 2,
        "STEPS": 5,
        "REPETITIONS": 1,
    }.items():
        monkeypatch.setattr(dream, name, value)
    clock = iter(np.cumsum([0, 1, 0, 4, 0, 2]))  # the product, the dreams in lockstep, a dream alone
    monkeypatch.setattr(dream.time, "perf_counter", lambda: float(next(clock)))
    monkeypatch.setattr(dream.parallel, "cores", lambda: 2)
    found = measured(dream, tmp_path / "dream.json")
    assert (found["steps_per_s"], found["one_at_a_time_steps_per_s"]) == (4 * 2 * 5 / 4, 5 / 2)
    assert found["ratio_per_core"] == pytest.approx(10 / 2 / 2.5)
    assert found["ratio_to_authors_per_core"] == pytest.approx(10 / 2 / 150)


def test_a_decision_is_of_one_game_and_steps_are_of_all(tmp_path, monkeypatch):
    """Catches the time of all games told of one, steps of one game told of all, and a first plan that compiles."""
    planned = []

    class Plans:
        def __init__(self, model, search, low, high):
            self.search = search

        def plan(self, state, step):
            planned.append((len(state.h), step))
            return types.SimpleNamespace(numpy=lambda: None)

    monkeypatch.setattr(planner, "Planner", Plans)
    monkeypatch.setattr(planner, "GAMES", (1, 4))
    monkeypatch.setattr(planner, "REPETITIONS", 1)
    clock = iter(np.cumsum([0, 9, 9, 2, 0, 4]))  # plans that compile; then one game takes 2 s, and four take 4
    monkeypatch.setattr(planner.time, "perf_counter", lambda: float(next(clock)))
    words = "--preset", "smoke", "--out", tmp_path / "planner.json"
    assert commands.call(lambda *_: planner.main(), None, *words).code == 0
    found = files.read_json(str(tmp_path / "planner.json"))
    cfg = planner.GAME.config.PLANET["smoke"]
    rows = cfg.horizon * cfg.iterations * cfg.candidates
    assert planned == [(1, 0), (4, 0), (1, 1), (4, 1)]
    assert found["rows_per_decision"] == rows
    assert found["ms_per_decision"] == {"1": 2000, "4": 1000}
    assert found["steps_per_s"] == {"1": rows / 2, "4": rows}


def test_cars_are_counted_while_they_drive(monkeypatch):
    """Catches a step of a batch counted as one, cars that have left the track, and a rate of one thread alone."""

    class World:
        def reset(self, seeds):
            self.cars = len(seeds)
            return np.zeros((self.cars, 1))

        def step(self, action):
            done = np.arange(self.cars) == 1  # the second of them leaves
            self.cars -= done.sum()
            return np.zeros((self.cars, 1)), None, done

    kept = []
    driver = {"act": lambda state: np.zeros((len(state), 3)), "keep": lambda on: kept.append(on.tolist())}
    policy = types.SimpleNamespace(**driver)
    monkeypatch.setattr(carracing.candidates, "Candidates", lambda *given: policy)
    batch = carracing.Agents.__new__(carracing.Agents)
    batch._world, batch._seeds = World(), np.arange(3)
    batch._c = batch._parameters = batch._action_of = None
    drive = batch.ready(4)
    assert (drive(), kept) == (3 + 2 + 1 + 1, [[0, 2], [0]])
    clock = iter([1.0, 5.0])
    monkeypatch.setattr(carracing.time, "perf_counter", lambda: next(clock))
    assert carracing.timed([lambda: 3, lambda: 5]) == 2


def test_carracings_rates_are_of_the_same_round_and_of_a_core(tmp_path, monkeypatch):
    """Catches a ratio of all cores told of one, a fraction turned over, and the round in which TensorFlow compiles."""
    rates = iter([1.0, 1.0, 1.0, 40.0, 80.0, 5.0, 60.0, 100.0, 4.0])
    made = types.SimpleNamespace(ready=lambda steps: steps)
    for module, name, value in (
        (carracing, "Agents", lambda *given: made),
        (carracing, "NotedTracks", lambda: None),
        (carracing, "replay", lambda tracks: None),
        (carracing, "timed", lambda works: next(rates)),
        (carracing.env, "Cars", lambda tracks: None),
        (carracing.env, "available", lambda name: name),
        (carracing.vae, "ConvVAE", lambda size: None),
        (carracing.mdnrnn, "MDNRNN", lambda shape: None),
        (carracing.parallel, "cores", lambda: 2),
    ):
        monkeypatch.setattr(module, name, value)
    found = measured(carracing, tmp_path / "carracing.json", "--rounds", 2)
    assert (found["agent_steps_per_s"], found["game_steps_per_s"], found["one_at_a_time_steps_per_s"]) == (50, 90, 4.5)
    assert found["ratio_per_core"] == pytest.approx(50 / 2 / 4.5)
    assert found["game_fraction"] == pytest.approx(0.55)
