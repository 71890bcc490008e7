"""The three ranges of seeds do not meet, and each command keeps to its own."""

import dataclasses
import os
import pathlib
import re

import numpy as np
import pytest
from commands import GAMES, call, in_this_process  # noqa: F401

from common.play import fidelity, play, record, select
from common.play import planet as play_planet
from common.runtime import seeds
from common.runtime.cli import UserError
from common.runtime.files import ROOT
from common.studio import session
from common.training import es, evolution, evolve, plan, planet, policy_gradient
from common.worlds import gym_envs

TEST_SEEDS = (1_000, 1_999, 500_000, 2**31 - 1)


@pytest.mark.parametrize(("wanted", "first", "last"), [("training", 2_000, 399_999), ("validation", 400_000, 499_999)])
def test_a_range_that_leaves_its_purpose_is_refused(wanted, first, last):
    """Catches one seed too many at either end, and one in the middle of good ones."""
    seeds.check(range(first, last + 1), wanted, "--flag")
    seeds.check([], wanted, "--flag")
    for bad in ([first - 1], [last + 1], [first, last + 1, last], [first, first - 1, last], *[[s] for s in TEST_SEEDS]):
        with pytest.raises(UserError, match=rf"--flag: the seeds {min(bad)} to {max(bad)} are not all for {wanted}"):
            seeds.check(np.array(bad), wanted, "--flag")


def test_test_games_are_told_from_others():
    """Catches validation games, or those of a training, in the scores of an agent that ships."""
    assert seeds.are_test(TEST_SEEDS)
    for other in (999, 2_000, 399_999, 400_000, 460_000, 499_999):
        assert not seeds.are_test([1_000, other])


MANY = 2**31 - 1
COMMANDS = {
    "extract": (record.main, "--episodes"),
    "train": (evolve.main, "--eval_episodes"),
    "ppo": (policy_gradient.main, "-o", "ppo", "--eval_episodes"),
    "planet": (planet.main, "train", "--validation_episodes"),
    "planet play": (play_planet.main, "norender", "--episodes"),
    "play": (play.main, "doomrnn", "norender", "random", "--episodes"),
    "fidelity": (fidelity.main, "random.json", "--games"),
    "fidelity dreams": (fidelity.main, "random.json", "--dreams"),
    "pick_best": (select.main, "x.log.json", "--episodes"),
    "pick_best again": (select.main, "x.log.json", "--final_episodes"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_range_of_billions_is_refused_without_a_list_of_it(command, tmp_path, monkeypatch):
    """Catches two billion seeds in memory, for nothing: a number beyond all purposes, and one that none of them has."""
    monkeypatch.setattr(np, "arange", lambda *ends: pytest.fail(f"a list of {ends}"))
    main, *words = COMMANDS[command]
    assert call(main, GAMES["doomrnn"], *words, MANY, "--run", tmp_path).refused(words[-1])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", GAMES)
def test_every_preset_records_training_seeds(name):
    """Catches a preset, such as Doom's paper one once, that records over the seeds of validation or tests."""
    for cfg in GAMES[name].config.EXTRACT.values():
        seeds.check(range(cfg.first_seed, cfg.first_seed + cfg.episodes), "training", "a preset")


@pytest.mark.parametrize(("first", "episodes"), [(399_999, 2), (390_000, 12_800), (2_000, 398_001)])
@pytest.mark.parametrize("name", GAMES)
def test_extract_refuses_before_work(name, first, episodes, tmp_path, monkeypatch):
    """Catches validation or test games that are recorded, and a folder left behind by a refusal."""
    monkeypatch.setattr(record, "record", lambda *more: pytest.fail("it began to record"))
    words = ["--first_seed", first, "--episodes", episodes, "--run", tmp_path / "run"]
    done = call(record.main, GAMES[name], *words)
    assert done.refused("--first_seed and --episodes", "are not all for training"), done
    assert not os.path.exists(tmp_path / "run")


@pytest.mark.parametrize("first", [0, *TEST_SEEDS, 400_000, 499_999])
@pytest.mark.parametrize("name", GAMES)
def test_extract_begins_at_a_training_seed(name, first, tmp_path, monkeypatch):
    """Catches a first seed of another purpose that the parser lets through."""
    monkeypatch.setattr(record, "record", lambda *more: pytest.fail("it began to record"))
    assert call(record.main, GAMES[name], "--first_seed", first, "--run", tmp_path / "run").code == 2
    assert not os.path.exists(tmp_path / "run")


@pytest.mark.parametrize("name", GAMES)
def test_candidates_and_means_never_play_test_games(name, tmp_path, monkeypatch):
    """Catches an evolution that draws its episodes elsewhere, or evaluates its mean where it trains or is tested."""
    run = evolution.Evolution.__new__(evolution.Evolution)
    for preset in GAMES[name].config.TRAIN.values():
        run._cfg = preset
        for generation in (0, 1, 10_000):
            for seed_start in (0, 1, 12345):
                run._cfg, run.hist = dataclasses.replace(preset, seed_start=seed_start), [None] * generation
                seeds.check(run.seeds(1000), "training", "candidates")
        seeds.check(run.evaluation_seeds(), "validation", "means")
        assert len(run.evaluation_seeds()) == preset.eval_episodes
    monkeypatch.setattr(evolve, "evolve", lambda *more: pytest.fail("it began to evolve"))
    words = ["--preset", "smoke", "--eval_episodes", 100_001, "--run", tmp_path]
    assert call(evolve.main, GAMES[name], *words).refused("--eval_episodes", "are not all for validation")


def test_all_other_constants_keep_to_their_ranges():
    """Catches a seed of tests in a path that trains or chooses: directions, dreams without a seed, rounds, fidelity."""
    seeds.check(es.DIRECTION_SEEDS, "training", "directions")
    seeds.check(range(*gym_envs.SEEDS), "training", "dreams")
    assert (seeds.TRAINING[0], seeds.VALIDATION[1]) == session.SEEDS, "a page of the studio is for no test games"
    last = seeds.TRAINING[0] + plan.RUNS * plan.SEEDS_PER_RUN - 1
    assert last < seeds.RECORDED, "the recordings of iterate.py reach into those of the benches"


def test_blocks_are_apart():
    """Catches games that choose, report and compare that are the same ones, and a block that nobody has named."""
    known = {name: value for name, value in vars(seeds).items() if type(value) is int}
    blocks = {name: first for name, first in known.items() if name not in ("TEST_FROM", "MOST_EPISODES")}
    for wanted, (least, most), own in (("training", seeds.TRAINING, 2), ("validation", seeds.VALIDATION, 7)):
        firsts = [first for first in blocks.values() if least <= first <= most]
        assert len(firsts) == own
        assert firsts == sorted(firsts)
        for first, following in zip(firsts, [*firsts[1:], most + 1], strict=True):
            assert following - first >= 5_000
            seeds.check([first, following - 1], wanted, "a block")
    for game in GAMES.values():
        assert all(cfg.first_seed + cfg.episodes <= seeds.RECORDED for cfg in game.config.EXTRACT.values())
    for folder in ("common", "bench", "carracing", "doomrnn"):
        for path in pathlib.Path(ROOT, folder).rglob("*.py"):
            elsewhere = re.search(r"\b(3[89]|4\d)0_000\b", path.read_text())
            assert path.name == "seeds.py" or not elsewhere, f"{path}: {elsewhere}"


@pytest.mark.parametrize("name", GAMES)
def test_the_rounds_of_a_run_fit_into_its_seeds(name):
    """Catches rounds that record over the seeds of the run beside it."""
    for preset in getattr(GAMES[name].config, "ITERATE", {}).values():
        assert sum(one.random + one.own for one in preset.rounds) <= plan.SEEDS_PER_RUN
