"""bench/dream.py and bench/ppo.py: what their figures are of. How fast it is, no test says."""

import os

import commands
import numpy as np
import pytest
from commands import in_this_process  # noqa: F401  a fixture

from common.runtime import files
from common.runtime.files import ROOT

from bench import dream, ppo


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
