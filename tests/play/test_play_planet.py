"""common/play/planet.py: what planet.py hands to what when it plays."""

import dataclasses

import commands
import numpy as np
import pytest
from commands import in_this_process  # noqa: F401  a fixture

from common.agent import planet as files_planet
from common.agent import rssm
from common.agent.planner import Search
from common.play import planet, play, video
from common.runtime import files
from common.worlds import games

import toy


class OnBackend(games.Games):
    """The toy on a backend."""

    def __init__(self, rows, backend):
        super().__init__([toy.Counting() for _ in range(rows)])
        self.backend = backend


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """(words, changes of the game) -> done; a run with a small RSSM, which repeats an action four times."""
    shape = rssm.Shape(1, True, deterministic=8, stochastic=3, hidden=8, head=8, depth=1)
    path = str(tmp_path / files_planet.FOLDER / files_planet.FILE)
    files_planet.write(path, rssm.RSSM(shape, "float32"), Search(3, 2, 10, 2), 4)
    game = dataclasses.replace(toy.game_in(str(tmp_path / "game")), backends=("slow", "fast"), real_games=OnBackend)
    monkeypatch.setattr(video, "has_display", lambda: False)

    def run(*words, **changes):
        words = *words, "--run", tmp_path, "--unverified"
        done = commands.call(planet.main, dataclasses.replace(game, **changes), *words)
        assert done.code == 0, done.err
        return done

    return run


def test_a_score_is_of_the_games_and_the_plans_that_were_asked_for(planned, monkeypatch, tmp_path):
    """Catches --backend, the seed or a budget without effect, or told but not played, and the score of no model."""
    seen, path = [], tmp_path / files_planet.FOLDER / files_planet.FILE

    def measure(make_world, make_policy, seeds, rows=32):
        seen.append((make_world(2), make_policy(seeds), seeds.tolist()))
        return np.zeros(len(seeds)), np.ones(len(seeds), int)

    monkeypatch.setattr(play, "measure", measure)
    out = tmp_path / "scores.json"
    words = "norender", 1234, "--episodes", 3, "--backend", "fast", "--candidates", 30, "--out", out
    for here in ("fast", "slow"):
        planned(*words, backend_here={"fast": here}.get)
        world, policy, episodes = seen.pop()
        assert episodes == [1234, 1235, 1236]
        assert (world.games._games.backend, world.games._times) == (here, 4)
        assert policy._planner.search == Search(3, 2, 30, 2)
        assert policy._noise == 0
        about = files.read_json(str(out))
        assert (about["backend"], about["planner"]["candidates"], about["action_repeat"]) == (here, 30, 4)
        assert about["rssm"] == {"path": path.name, "sha256": files.sha256(str(path))}
        assert (about["unverified"], about["length_unit"]) == (True, "4 steps of the game")


def test_a_policy_has_the_noise_and_the_offset_asked_for():
    """Catches training without noise, and the same draws of the planner in every round of it."""
    policy = planet.Agent(None, None, Search(), 1).policy("planner", [1000, 1001], 0.4, 7)
    assert (policy._planner, len(policy._rngs), policy._seed_offset) == ("planner", 2, 7)
    assert policy._noise == np.float32(0.4)


def test_render_shows_the_planned_game(planned, monkeypatch, tmp_path):
    """Catches another seed or backend, a video that is too fast, and a belief that is shown half a level too dark."""
    seen = []

    def watch(world, policy, seed, screen, picture):
        state = world.reset([seed])
        seen.append((world, seed, screen, picture(state), world.model.decode(state)[0] + 0.5))
        return 7.0, 9

    monkeypatch.setattr(play, "watch", watch)
    done = planned("render", 1234, "--backend", "fast", "--video", tmp_path / "seen.gif")
    ((world, seed, screen, picture, believed),) = seen
    assert (world.games._games.backend, seed, screen._fps) == ("fast", 1234, 2)
    np.testing.assert_array_equal(picture[:, :256], video.panels(world.frames[0]))
    np.testing.assert_array_equal(picture[:, 256:], video.panels(believed))
    assert "seed 1234 reward 7.0" in done.out


def test_a_budget_that_cannot_be_is_refused(planned):
    """Catches a search that fails in its first decision, after the model is loaded."""
    with pytest.raises(AssertionError, match="--candidates 3: fewer than --elite 5"):
        planned("norender", 1234, "--candidates", 3, "--elite", 5)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["norender", "--video", "a.mp4"], "--video: goes with render, not with norender"),
        (["render", "--out", "s.json"], "--out: goes with norender, not with render"),
        (["render", "--episodes", "100"], "--episodes: goes with norender, not with render"),
        (["norender", 2**31 - 1, "--episodes", 2], "the largest"),
        (["norender", "--candidates", 2_000_000_000], "--candidates"),
    ],
)
def test_what_has_no_effect_or_cannot_be_is_refused(tmp_path, monkeypatch, words, said):
    """Catches a video or a file of scores that never comes, said after the model is loaded or not at all.

    And seeds that no game takes, and more plans than there is memory for.
    """
    monkeypatch.chdir(tmp_path)
    done = commands.call(planet.main, toy.game_in(str(tmp_path / "game")), *words)
    assert done.refused(said), done
