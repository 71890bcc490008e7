"""common/play/fidelity.py: deaths, pay and their prediction, by hand, in games and dreams of known lengths."""

import sys
import types

import numpy as np
import pytest
import tensorflow as tf

from common.agent import models
from common.play import agents, fidelity, play
from common.runtime import cli, files
from common.runtime.settings import Pay

MOST = 12  # steps of an episode
MODELS = models.Models(None, None, (), {}, {}, {"rnn": {"config": {"restart_weight": 10.0}}})


def length_of(seed):
    """1 to 12 steps; a twelfth of the episodes ends with the time."""
    return 1 + seed * 5 % MOST


def logit_of(seed, step):
    """High before every third death, else of no meaning."""
    return 50.0 if step == length_of(seed) and seed % 3 == 0 else np.sin(seed * 7.3 + step)


class Episodes:
    """Episodes of known lengths; `hidden` tells whose rows they are. Stands for games, dreams and the MDN-RNN."""

    def __init__(self):
        self.rnn = self

    def prepared(self):
        return "weights"

    def predict(self, weights, hidden):
        assert weights == "weights"
        return None, types.SimpleNamespace(numpy=lambda: np.array([logit_of(*row) for row in hidden], np.float32))

    def reset(self, seeds):
        self.seeds, self.steps = np.array(seeds), 0
        return self.seeds

    def step(self, action):
        assert len(action) == len(self.seeds)
        self.steps += 1
        self.hidden = [(int(seed), self.steps) for seed in self.seeds]
        done = np.array([length_of(seed) == self.steps for seed in self.seeds])
        self.seeds = self.seeds[~done]
        return self.seeds, np.ones(len(done)), done


class Idle:
    def __init__(self, seeds):
        self.rows = len(seeds)

    def act(self, state):
        return np.zeros((self.rows, 1))

    def keep(self, on):
        self.rows = len(on)


@pytest.fixture
def game(monkeypatch):
    """A game and an agent of such episodes; dreams have the lengths of games 3 seeds later."""
    agent = types.SimpleNamespace(
        world=lambda games: games, policy=Idle, models=MODELS, about=lambda: {"controller": 1}
    )
    monkeypatch.setattr(agents, "load", lambda game, arguments: agent)

    class Dreams(Episodes):
        def reset(self, seeds):
            return super().reset(np.array(seeds) + 3)

    def dreams(game, loaded, temperature, end_weight):
        assert temperature == 1
        assert end_weight == loaded.metas["rnn"]["config"].get("restart_weight", 0)  # with a weight ends are drawn
        return Dreams()

    monkeypatch.setattr(play, "dreams", dreams)
    monkeypatch.setattr(fidelity.devices, "for_blocks", lambda: None)
    monkeypatch.setattr(fidelity, "AGES", (0, 4, 8, MOST + 5))
    config = types.SimpleNamespace(MAX_STEPS=MOST, RESTART=True)
    return types.SimpleNamespace(
        config=config, backends=("",), backend_here=lambda name: name, real_games=lambda rows, backend: Episodes()
    )


def call(game, monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["fidelity.py", *map(str, words)])
    cli.run_main(lambda: fidelity.main(game, ""))


def by_hand(seeds):
    """The summary of these episodes, step by step."""
    steps, deaths = {}, {}
    for seed in seeds:
        for age in range(1, length_of(seed) + 1):
            span = "0-4" if age <= 4 else "4-8" if age <= 8 else "8-12"
            steps[span] = steps.get(span, 0) + 1
            deaths[span] = deaths.get(span, 0) + (age == length_of(seed) < MOST)
    return {span: round(1000 * deaths[span] / steps[span], 2) for span in steps}


def test_the_figures_are_those_counted_by_hand(game, monkeypatch, tmp_path, capsys):
    """Catches a logit of another step or row, an end by time that counts as a death, the game taken for the dream."""
    path = tmp_path / "fidelity.json"
    call(game, monkeypatch, "FILE", "--games", 120, "--dreams", 50, "--out", path)
    found = files.read_json(path)
    real = range(fidelity.FIRST_SEED, fidelity.FIRST_SEED + 120)
    dreamt = range(fidelity.FIRST_SEED + 3, fidelity.FIRST_SEED + 53)
    for name, seeds in (("real", real), ("dream", dreamt)):
        assert found[name]["n"] == len(seeds)
        assert found[name]["mean"] == pytest.approx(np.mean([length_of(seed) for seed in seeds]))
        assert found[name]["deaths_per_1000_steps"] == by_hand(seeds)
    deaths = [seed for seed in real if length_of(seed) < MOST]
    others = [logit_of(seed, k) for seed in real for k in range(1, length_of(seed) + (length_of(seed) == MOST))]
    threshold = sorted(others)[-3]  # 0.3 % of 670 steps are two alarms
    assert sum(x > threshold for x in others) / len(others) == pytest.approx(0.003, abs=2e-4)
    predicted = sum(logit_of(seed, length_of(seed)) > threshold for seed in deaths)
    assert found["recall"] == pytest.approx(predicted / len(deaths))
    assert 0.2 < found["recall"] < 0.5
    lengths = [length_of(seed) for seed in dreamt]
    assert found["dream"]["stderr"] == pytest.approx(np.std(lengths, ddof=1) / 50**0.5)
    assert (found["controller"], found["ends"]) == (1, "drawn")
    assert '"recall"' in capsys.readouterr().out


def test_without_the_weight_of_restarts_ends_are_by_the_threshold(game, monkeypatch, tmp_path):
    """Catches ends drawn by a weight that nobody knows, and figures that do not say how the dreams ended."""
    monkeypatch.setitem(MODELS.metas["rnn"], "config", {})
    path = tmp_path / "fidelity.json"
    call(game, monkeypatch, "FILE", "--games", 20, "--dreams", 20, "--out", path)
    found = files.read_json(path)
    assert found["ends"] == "threshold"
    assert {row["expected"] for row in found["by_logit"]} == {None}


def test_deaths_to_expect_by_the_logit():
    """Catches the weight of the restarts left in the probability or divided out twice, and a logit in another span."""
    logits, died = np.array([-7, -6, -4.1, 0, 1.9, 2, 30.0], np.float32), np.array([0, 1, 0, 0, 1, 0, 1], bool)
    rows = fidelity.by_logit(logits, died, 10.0)
    assert [(row["from"], row["to"], row["steps"], row["deaths"]) for row in rows] == [
        (None, -6, 1, 0), (-6, -4, 2, 1), (-4, -2, 0, 0), (-2, 0, 0, 0), (0, 2, 2, 1), (2, None, 2, 1),
    ]  # fmt: skip
    odds = [[1 / (1 + 10 * np.exp(-x)) for x in group] for group in ([-7], [-6, -4.1], [], [], [0, 1.9], [2, 30])]
    assert [row["expected"] for row in rows] == pytest.approx([sum(group) for group in odds], abs=0.051)
    assert [row["expected"] for row in fidelity.by_logit(logits, died, 0.0)] == [None] * 6
    # an MDN-RNN that has learned a probability p with the weight 10 gives the logit log(10 p / (1 - p))
    p = np.full(1000, 0.02)
    assert fidelity.by_logit(np.log(10 * p / (1 - p)), p < 0, 10.0)[3]["expected"] == 20.0


def test_deaths_by_age():
    """Catches the step of a death counted for the next age, steps after it, and ages that nobody has come to."""
    found = fidelity.summary(np.array([150, 200, 201, 450, 2100, 2100]), 2100)
    assert found["deaths_per_1000_steps"] == {
        "0-200": 1.74,  # 2 in 150 + 5 * 200
        "200-400": 1.66,  # 1 in 1 + 3 * 200
        "400-600": 2.22,  # 1 in 50 + 2 * 200
        "600-1000": 0.0,
        "1000-1500": 0.0,
        "1500-2100": 0.0,  # the time was up
    }
    assert (found["n"], found["mean"]) == (6, pytest.approx(5201 / 6))
    young = fidelity.summary(np.array([100, 50]), 2100)["deaths_per_1000_steps"]
    assert young == {"0-200": 13.33} | dict.fromkeys(["200-400", "400-600", "600-1000", "1000-1500", "1500-2100"])


def test_recall_at_a_rate_of_false_alarms(rng):
    """Catches a threshold over all steps, deaths too, and the share of alarms that are deaths (precision)."""
    alive, dead = rng.permutation(np.arange(1000.0)), np.array([996.0, 997.0, 1200.0, -5.0])
    logits, died = np.concatenate([alive, dead]), np.arange(1004) >= 1000
    assert fidelity.recall(logits, died) == 0.5  # three of 1,000 are above 996.003
    assert fidelity.recall(logits, np.zeros(1004, bool)) is None


def test_games_are_of_validation_seeds_only(game, monkeypatch, capsys):
    """Catches test games played by asking for many."""
    with pytest.raises(SystemExit) as end:
        call(game, monkeypatch, "FILE", "--games", 60_001)
    assert end.value.code == 2
    assert "--games" in capsys.readouterr().err


# -- where the game stops paying ---------------------------------------------------------------------------------------

STOPS = 60, 35.0, 5.0
PAY = Pay(least=-1.0, most=6.0, fall_below=-50.0, cost=20.0)


class Counting:
    """An MDN-RNN with heads that expects the first number of h. Its dream adds the action to h."""

    shape = types.SimpleNamespace(heads=True)

    def prepared(self):
        return "weights"

    def expect(self, weights, hidden):
        assert weights == "weights"
        return types.SimpleNamespace(reward=tf.constant(hidden)[:, 0])

    @staticmethod
    def next_of(rnn, weights, state, restart, action, uniform, normal, temperature):
        assert temperature == 1.0
        z, h, c = state
        return z, h + action + 100 * restart[:, tf.newaxis], c, 0 * restart


def drive(stop, length, rng):
    """(z, h, c, action, reward) of a game that pays 1 per step, and from step `stop` on nothing, but costs 0.1."""
    reward = np.where(np.arange(length) < stop, 1.0, -0.1)
    state = (rng.normal(size=(length, size)).astype(np.float32) for size in (2, 3, 3))
    return *state, rng.normal(size=(length, 1)).astype(np.float32), reward


def test_a_game_stops_paying_where_much_is_followed_by_little():
    """Catches games that never paid or that end, a lap that is finished, and one large cost taken for a stop."""
    rng = np.random.default_rng(1)
    assert (
        fidelity._stop(drive(200, 400, rng)[-1], *STOPS) == 191
    )  # until then 10 points and 50 costs of 0.1 are too much
    assert fidelity._stop(drive(30, 400, rng)[-1], *STOPS) is None  # 30 points are too few before it
    assert fidelity._stop(drive(400, 400, rng)[-1], *STOPS) is None
    assert fidelity._stop(drive(200, 250, rng)[-1], *STOPS) is None  # nobody knows what the 60 steps after it would pay
    once = np.ones(400)
    once[200] = -100
    assert fidelity._stop(once, *STOPS) is None


def test_the_dream_goes_on_from_before_the_stop_with_the_actions_that_were_played(monkeypatch):
    """Catches an action or state of another step, a memory that is lost, pay beyond the range, a restart in between."""
    rng = np.random.default_rng(1)
    monkeypatch.setattr(fidelity.dream, "next_of", Counting.next_of)
    drives = [drive(200, 400, rng), drive(400, 400, rng), drive(120, 300, rng)]
    drives[0][-1][185] = 9.0  # beyond the range, but before the game stops paying
    found = fidelity.where_it_stops_paying(Counting(), drives, PAY, STOPS)
    assert (found["games"], found["of"]) == (2, 3)
    wanted = {"game": [], "expected": [], "dreamt": []}
    for (_, h, _, action, reward), stop in ((drives[0], 191), (drives[2], 111)):
        first = stop - 10
        wanted["game"].append(np.clip(reward[first : first + 60], -1, 6))
        wanted["expected"].append(np.clip(h[first + 1 : first + 61, 0], -1, 6))
        wanted["dreamt"].append(np.clip(h[first, 0] + np.cumsum(action[first : first + 60, 0]), -1, 6))
    for name, rows in wanted.items():
        np.testing.assert_allclose(found[name], np.mean(rows, axis=0).reshape(6, 10).sum(axis=1), atol=6e-3)


def test_no_game_that_stops_paying_is_no_figure():
    """Catches a mean of nothing, which is NaN and no JSON."""
    found = fidelity.where_it_stops_paying(Counting(), [drive(400, 400, np.random.default_rng(1))], PAY, STOPS)
    assert found == {"games": 0, "of": 1, "game": [], "expected": [], "dreamt": []}


class Drives(Episodes):
    """Games that pay their seed in every step; the state of a row is its seed and its step."""

    def reset(self, seeds):
        super().reset(seeds)
        self.state = self._state()
        return self.state

    def _state(self):
        return tuple(np.stack([self.seeds, np.full(len(self.seeds), self.steps)], axis=1) for _ in range(3))

    def step(self, action):
        reward = self.seeds % 7
        _, _, done = super().step(action)
        self.state = self._state()
        return self.state, reward, done


def test_what_was_paid_and_remembered_is_noted_for_each_game(game, monkeypatch, tmp_path):
    """Catches rows that change places when one of them ends, a backend that is ignored, dream and game exchanged."""
    agent = agents.load(game, None)
    agent.models = types.SimpleNamespace(rnn=Counting(), about=dict)
    agent.policy = Idle
    asked, given = [], []
    monkeypatch.setattr(play, "dreams", lambda game, models, temperature: asked.append(temperature) or Drives())
    monkeypatch.setattr(
        fidelity, "where_it_stops_paying", lambda rnn, episodes, pay, stops: given.extend(episodes) or {"games": 3}
    )
    config = types.SimpleNamespace(MAX_STEPS=MOST, RESTART=False, STOPS_PAYING=STOPS)
    paying = types.SimpleNamespace(
        config=config,
        pay=PAY,
        backends=("slow", "fast"),
        backend_here=lambda name: name,
        real_games=lambda *words: asked.append(words) or Drives(),
    )
    path = tmp_path / "fidelity.json"
    call(paying, monkeypatch, "FILE", "--games", 12, "--dreams", 10, "--backend", "fast", "--out", path)
    found, first = files.read_json(path), fidelity.FIRST_SEED
    for name, count in (("real", 12), ("dream", 10)):
        returns = [length_of(seed) * (seed % 7) for seed in range(first, first + count)]
        assert (found[name]["mean"], found[name]["n"]) == (pytest.approx(np.mean(returns)), count)
    assert found["where_it_stops_paying"] == {"games": 3}
    assert {words[1] for words in asked if isinstance(words, tuple)} == {"fast"}
    assert {words for words in asked if not isinstance(words, tuple)} == {1.0}
    assert len(given) == 12
    for seed, (z, _, _, action, reward) in zip(range(first, first + 12), given, strict=True):
        steps = np.arange(length_of(seed))
        np.testing.assert_array_equal(z, np.stack([np.full(len(steps), seed), steps], axis=1))
        assert len(action) == len(reward) == len(steps)
        assert set(reward) == {seed % 7}


def test_an_mdnrnn_without_heads_is_named(game, monkeypatch, capsys):
    """Catches a traceback, or a comparison with a dream that pays nothing."""
    agent = agents.load(game, None)
    agent.models = types.SimpleNamespace(
        rnn=types.SimpleNamespace(shape=types.SimpleNamespace(heads=False)), paths={"rnn": "rnn.json"}
    )
    game.config.RESTART, game.config.STOPS_PAYING = False, STOPS
    with pytest.raises(SystemExit) as stopped:
        call(game, monkeypatch, "FILE")
    assert stopped.value.code == 2
    assert "rnn.json: expects no reward" in capsys.readouterr().err


def test_a_game_that_does_not_say_when_it_stops_paying_is_named(game, monkeypatch, capsys):
    """Catches a traceback, or CarRacing's points taken for those of another game."""
    agents.load(game, None).models = types.SimpleNamespace(rnn=Counting())
    game.title, game.config.RESTART = "Stub", False
    with pytest.raises(SystemExit) as stopped:
        call(game, monkeypatch, "FILE")
    assert stopped.value.code == 2
    assert "Stub: has no STOPS_PAYING in its config.py" in capsys.readouterr().err


def test_the_usual_numbers_of_games_and_dreams(game, monkeypatch, tmp_path):
    """Catches a comparison with ten dreams: iterate.py asks for no number of them."""
    call(game, monkeypatch, "FILE", "--out", tmp_path / "f.json")
    found = files.read_json(tmp_path / "f.json")
    assert (found["real"]["n"], found["dream"]["n"]) == (100, 512)


def test_the_file_says_which_games_were_played(game, monkeypatch, tmp_path):
    """Catches figures of which nobody knows from which implementation of the game they are, or of one not here."""
    asked = []
    game.backends, game.backend_here = ("slow", "fast"), lambda name: f"in place of {name}"
    game.real_games = lambda rows, backend: [asked.append(backend), Episodes()][1]
    call(game, monkeypatch, "FILE", "--games", 10, "--dreams", 10, "--backend", "fast", "--out", tmp_path / "f.json")
    real = files.read_json(tmp_path / "f.json")["real"]
    assert (real["backend"], real["first_seed"]) == ("in place of fast", fidelity.FIRST_SEED)
    assert set(asked) == {"in place of fast"}
