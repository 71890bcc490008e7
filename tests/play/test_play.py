"""common/play/play.py: the same episodes in any batch, scores that can be checked, and a player at the keys."""

import argparse
import dataclasses
import json
import re
import threading

import numpy as np
import pytest

from common.play import play
from common.runtime import parallel
from common.runtime.cli import UserError

import toy


class CountingWorld:
    """Episodes of 2 to 6 steps, by their seeds; the state tells seed and step, the reward those and the action."""

    def reset(self, seeds):
        self.seeds, self.steps = np.array(seeds), 0
        return self.state()

    def state(self):
        return np.stack([self.seeds, np.full(len(self.seeds), self.steps)], axis=1)

    def step(self, action):
        assert len(action) == len(self.seeds)
        self.steps += 1
        reward = 100.0 * self.seeds + 10 * self.steps + np.asarray(action)[:, 0]
        done = self.steps >= 2 + self.seeds % 5
        self.seeds = self.seeds[~done]
        return self.state(), reward, done


class SeedsPolicy:
    """Acts by the seed it was made for; fails when it is given another row's state."""

    def __init__(self, seeds):
        self.seeds = np.array(seeds)

    def act(self, state):
        np.testing.assert_array_equal(state[:, 0], self.seeds)
        return (self.seeds % 7 / 8)[:, None]

    def keep(self, on):
        self.seeds = self.seeds[on]


class Screen:
    """Remembers what it was shown; holds keys down."""

    def __init__(self, *keys):
        self.shown, self.held = [], set(keys)

    def show(self, frame):
        self.shown.append(frame)

    def keys(self):
        return self.held


def arguments(out=None):
    return argparse.Namespace(out=out and str(out), seed=1000)


@pytest.mark.parametrize("rows", [1, 3, 4, 32])
def test_measure_is_one_episode_at_a_time_in_the_same_order(monkeypatch, rows):
    """Catches an episode played twice, left out, by another's policy, or listed under another's seed."""
    seeds, worlds = np.arange(1000, 1011), []
    monkeypatch.setattr(parallel, "cores", lambda: 2)

    def make_world(count):
        assert count <= rows
        worlds.append((threading.get_ident(), count))
        return CountingWorld()

    returns, lengths = play.measure(make_world, SeedsPolicy, seeds, rows)
    expected = [sum(100.0 * s + 10 * k + s % 7 / 8 for k in range(1, 3 + s % 5)) for s in seeds.tolist()]
    np.testing.assert_allclose(returns, expected, rtol=1e-12)
    np.testing.assert_array_equal(lengths, 2 + seeds % 5)
    assert len({thread for thread, _ in worlds}) == len(worlds) <= 2


def test_report_prints_the_authors_last_line_and_writes_every_episode(tmp_path, capsys):
    """Catches a last line that scripts cannot read, a biased deviation, and scores that cannot be checked later."""
    out, seeds, returns = tmp_path / "scores.json", [1000, 1001, 1002, 1003], [1.0, 2.0, 3.0, 6.0]
    play.report(arguments(out), seeds, returns, [5, 6, 7, 8], game="g", models={"vae": "a"})
    last = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(r"seed 1000 average_reward 3\.0000 stdev 2\.1602", last)
    scores = json.loads(out.read_text())
    assert scores.pop("std") == pytest.approx((14 / 3) ** 0.5)
    assert scores.pop("stderr") == pytest.approx((14 / 3) ** 0.5 / 2)
    episodes = [{"seed": 1000 + k, "return": returns[k], "length": 5 + k} for k in range(4)]
    assert {"command", "commit", "versions", "machine", "dtype", "made"} <= scores.keys()
    told = {name: scores[name] for name in ("game", "models", "n", "mean", "episodes")}
    assert told == {"game": "g", "models": {"vae": "a"}, "n": 4, "mean": 3.0, "episodes": episodes}


def test_report_of_one_episode_writes_nothing_unasked(tmp_path, capsys, monkeypatch):
    """Catches NaN for the deviation of one episode, and files nobody asked for."""
    monkeypatch.chdir(tmp_path)
    play.report(arguments(), [1000], [4.0], [5])
    assert capsys.readouterr().out.splitlines()[-1] == "seed 1000 average_reward 4.0000 stdev 0.0000"
    assert not list(tmp_path.iterdir())


def test_the_keyboard_acts_by_the_keys_held_and_escape_ends():
    """Catches keys of another moment, an action without a row for it, and a game that cannot be left."""
    screen = Screen("left")
    keyboard = play.Keyboard(screen, lambda keys: [-1.0 if "left" in keys else 1.0, len(keys)])
    action = keyboard.act(None)
    assert action.dtype == np.float32
    np.testing.assert_array_equal(action, [[-1, 1]])
    screen.held = {"right", "up"}
    np.testing.assert_array_equal(keyboard.act(None), [[1, 2]])
    screen.held = {"right", "escape"}
    with pytest.raises(KeyboardInterrupt):
        keyboard.act(None)


def test_watch_shows_every_state():
    """Catches a first frame that is not shown, one shown twice, and a picture of the state before."""
    screen, seed = Screen(), 1003
    value, length = play.watch(CountingWorld(), SeedsPolicy([seed]), seed, screen, lambda state: tuple(state[0]))
    assert length == 2 + seed % 5
    assert screen.shown == [(seed, step) for step in range(length)]
    assert value == pytest.approx(sum(100.0 * seed + 10 * k + seed % 7 / 8 for k in range(1, length + 1)))


@pytest.fixture
def game(tmp_path):
    """A game with a dream and two backends."""
    game = toy.game_in(str(tmp_path))
    return dataclasses.replace(game, backends=("slow", "fast"), world_names={"real": "real", "dream": "dream"})


def parsed(monkeypatch, game, *words):
    monkeypatch.setattr("sys.argv", ["model.py", *words])
    return play._parse(game, "What it does.")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--episodes", "0"], "argument --episodes: 0: give a number from 1 to 1000000"),
        (["--episodes", "-3"], "argument --episodes: -3: give a number from 1 to 1000000"),
        (["--episodes", "many"], "argument --episodes: invalid int value: 'many'"),
        (["--backend", "atari"], "atari"),
        (["--temperature", "0"], "argument --temperature: 0: give a number from 0.01"),
    ],
)
def test_what_cannot_be_played_is_refused(monkeypatch, game, capsys, words, said):
    """Catches a traceback, or a score of no episode at all."""
    with pytest.raises(SystemExit) as ended:
        parsed(monkeypatch, game, "real", "norender", "random", *words)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_an_unknown_file_and_seeds_beyond_the_largest_are_known_at_once(monkeypatch, game):
    """Catches models that are loaded to find out, and episodes whose seeds the game cannot take."""
    with pytest.raises(UserError, match=r"none\.json: no such file"):
        parsed(monkeypatch, game, "real", "norender", "none.json")
    with pytest.raises(UserError, match="the largest"):
        parsed(monkeypatch, game, "real", "norender", "random", str(2**31 - 1), "--episodes", "2")
    parsed(monkeypatch, game, "real", "norender", "random", str(2**31 - 2), "--episodes", "2")


def test_scores_are_reported_in_the_first_backend(monkeypatch, game):
    """Catches another default, and a game with one world that must be told which."""
    arguments = parsed(monkeypatch, game, "dream", "norender", "random")
    assert (arguments.backend, arguments.seed, arguments.episodes, arguments.temperature) == ("slow", 0, 100, 1.0)
    arguments = parsed(monkeypatch, dataclasses.replace(game, world_names={}), "norender", "random", "7")
    assert (arguments.mode, arguments.seed) == ("norender", 7)
