"""common/play/play.py: the same episodes in any batch, scores that can be checked, and a player at the keys."""

import argparse
import dataclasses
import json
import os
import re
import threading
import types

import commands
import numpy as np
import pytest
from commands import in_this_process  # noqa: F401  a fixture

from common.agent import mdnrnn
from common.play import agents, play, video
from common.runtime import parallel, settings
from common.runtime.cli import UserError
from common.worlds import encoded, games, rollouts

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
    told, written, last = capsys.readouterr().out.splitlines()
    assert written == f"{out}: written"
    assert told == "3.0 ± 2.2 over 4 episodes, standard error 1.1"
    assert re.fullmatch(r"seed 1000 average_reward 3\.0000 stdev 2\.1602", last)
    scores = json.loads(out.read_text())
    assert scores.pop("std") == pytest.approx((14 / 3) ** 0.5)
    assert scores.pop("stderr") == pytest.approx((14 / 3) ** 0.5 / 2)
    episodes = [{"seed": 1000 + k, "return": returns[k], "length": 5 + k} for k in range(4)]
    assert {"command", "commit", "versions", "machine", "dtype", "made"} <= scores.keys()
    told = {name: scores[name] for name in ("game", "models", "n", "mean", "episodes")}
    assert told == {"game": "g", "models": {"vae": "a"}, "n": 4, "mean": 3.0, "episodes": episodes}


def test_a_score_that_cannot_be_written_is_told(tmp_path, capsys, monkeypatch):
    """Catches hours of play that are lost to a full disk."""

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(play.files, "write_json", full)
    with pytest.raises(OSError, match="No space"):
        play.report(arguments(tmp_path / "scores.json"), [1000, 1001], [1.0, 3.0], [5, 6])
    assert capsys.readouterr().out == "2.0 ± 1.4 over 2 episodes, standard error 1.0\n"


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


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["real", "norender", "--video", "a.mp4"], "--video: goes with render, not with norender"),
        (["real", "render", "--out", "s.json"], "--out: goes with norender, not with render"),
        (["dream", "render", "--episodes", "100"], "--episodes: goes with norender, not with render"),
        (["real", "norender", "--temperature", "1.0"], "--temperature: goes with dream, not with real"),
        (["real", "render", "--temperature", "0.5"], "--temperature: goes with dream, not with real"),
    ],
)
def test_a_flag_without_effect_is_refused(tmp_path, monkeypatch, game, words, said):
    """Catches a video or a file of scores that never comes, one episode for 500, and a temperature of no dream."""
    monkeypatch.chdir(tmp_path)
    world, mode, *flags = words
    done = commands.call(play.main, game, world, mode, "nowhere.json", *flags)
    assert done.refused(said), done


def test_the_last_seed_can_be_watched(monkeypatch, game):
    """Catches episodes that render does not play, counted on beyond the largest seed."""
    assert parsed(monkeypatch, game, "real", "render", "random", str(2**31 - 1)).episodes == 1


def test_help_tells_the_defaults_that_depend_on_the_mode(monkeypatch, game, capsys):
    """Catches a default that only the code knows."""
    with pytest.raises(SystemExit):
        parsed(monkeypatch, game, "--help")
    told = " ".join(capsys.readouterr().out.split())
    assert "episode i has seed + i (default: 100)" in told
    assert f"less realistic (default: {game.config.TEMPERATURE})" in told


@pytest.mark.parametrize("name", ["x.avi", "nowhere/x.gif", "", "/proc/x.mp4", "a" * 252 + ".gif"])
def test_a_video_that_cannot_be_written_is_known_before_models_are_loaded(monkeypatch, tmp_path, game, capsys, name):
    """Catches seconds of loading, and a traceback after them, for the name of a video."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises((SystemExit, UserError)) as ended:
        parsed(monkeypatch, game, "real", "render", "random", "--video", name)
    said = capsys.readouterr().err or str(ended.value)
    assert "--video" in said
    assert name in said


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


class OnBackend(games.Games):
    """The toy on a backend."""

    def __init__(self, rows, backend):
        super().__init__([toy.Counting() for _ in range(rows)])
        self.backend = backend


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(game, run): the toy on two backends, and a run with its models and an agent that sees the mean of z."""
    root = tmp_path_factory.mktemp("made")
    game, run = toy.game_in(str(root / "game")), str(root / "run")
    hashes = toy.write_models(game, toy.in_run(game, run))
    toy.write_controller(os.path.join(run, "agent.json"), game, hashes, [0.5, 0, 0, 0, 0], sample_z=False)
    worlds = {"real": "real", "dream": "dream"}
    return dataclasses.replace(game, backends=("slow", "fast"), world_names=worlds, real_games=OnBackend), run


@pytest.fixture
def watched(made, tmp_path, monkeypatch):
    """(main, words, changes of the game) -> what it gives to play.watch; there is no display."""

    def run(main, *words, **changes):
        found = []

        def watch(world, policy, seed, screen, picture):
            found.append(types.SimpleNamespace(world=world, policy=policy, seed=seed, screen=screen))
            return 7.0, 9

        monkeypatch.setattr(play, "watch", watch)
        monkeypatch.setattr(video, "has_display", lambda: False)
        game = dataclasses.replace(made[0], **changes)
        done = commands.call(main, game, *words, "--video", tmp_path / "seen.gif")
        assert done.code == 0, done.err
        (shown,) = found
        assert shown.screen.path == str(tmp_path / "seen.gif")
        return shown

    return run


def test_render_shows_the_episode_that_was_asked_for(made, watched):
    """Catches another seed, backend or temperature than on the command line, and an agent that sees otherwise."""
    on = "--run", made[1]
    real = watched(play.main, "real", "render", "agent.json", 1234, "--backend", "fast", *on)
    assert isinstance(real.world, encoded.EncodedGames)
    assert (real.world.games.backend, real.world._sample_z, real.seed) == ("fast", False, 1234)
    dreamt = watched(play.main, "dream", "render", "agent.json", 1234, "--temperature", 0.5, *on)
    assert (dreamt.world.temperature, dreamt.seed) == (0.5, 1234)
    assert watched(play.main, "dream", "render", "agent.json", *on).world.temperature == 1.0
    random = watched(play.main, "real", "render", "random", 1234, *on)
    assert (random.world.games.backend, random.world._sample_z) == ("slow", True)
    np.testing.assert_array_equal(random.policy.act(None), rollouts.RandomActions([1234], (-1,), (1,)).act(None))


def test_dreams_are_watched_and_played_as_asked_for(made, watched):
    """Catches --temperature or the seed without effect, and keys that are not those of the game."""
    shown = watched(play.watch_dream, "agent.json", 1234, "--temperature", 0.5, "--run", made[1])
    assert (shown.world.temperature, shown.seed) == (0.5, 1234)
    shown = watched(play.play_dream, "--seed", 1234, "--temperature", 0.5, "--run", made[1])
    assert (shown.world.temperature, shown.seed) == (0.5, 1234)
    assert play.Keyboard(Screen("right"), shown.policy._action_of).act(None).tolist() == [[1]]


@pytest.mark.parametrize("weight", [0.0, 10.0])
def test_dreams_end_as_where_the_agent_was_trained(made, watched, monkeypatch, tmp_path, weight):
    """Catches the threshold for an agent that learned in dreams whose ends are drawn: they last longer, scores rise."""
    monkeypatch.setattr(agents.Agent, "end_weight", weight)
    worlds, measure = [], play.measure

    def kept(make_world, make_policy, seeds):
        return measure(lambda rows: worlds.append(make_world(rows)) or worlds[-1], make_policy, seeds)

    monkeypatch.setattr(play, "measure", kept)
    on = "--run", made[1]
    worlds.append(watched(play.main, "dream", "render", "agent.json", *on).world)
    worlds.append(watched(play.watch_dream, "agent.json", *on).world)
    words = "dream", "norender", "agent.json", 1000, "--episodes", 2, "--out", tmp_path / "scores.json", *on
    assert commands.call(play.main, made[0], *words).code == 0
    assert len(worlds) >= 3
    assert {world._end_weight for world in worlds} == {weight}
    ends = json.loads((tmp_path / "scores.json").read_text())["ends"]
    assert ends == ("drawn" if weight else "threshold")


def test_a_person_plays_the_seed_and_the_first_backend(watched):
    """Catches --seed without effect, and a game on another backend than the one of the scores."""
    shown = watched(play.play_game, "--seed", 1234)
    assert (shown.seed, shown.world.backend) == (1234, "slow")


@pytest.mark.parametrize("file", ["random", "agent.json"])
def test_scores_are_of_the_backend_that_was_asked_for(made, monkeypatch, tmp_path, file):
    """Catches --backend in the score file only, and a score that names a backend which this machine does not have."""
    seen = []

    def measure(make_world, make_policy, seeds, rows=32):
        world = make_world(2)
        seen.append(getattr(world, "games", world).backend)
        return np.zeros(len(seeds)), np.ones(len(seeds), int)

    monkeypatch.setattr(play, "measure", measure)
    words = "real", "norender", file, 1000, "--backend", "fast", "--run", made[1], "--out", tmp_path / "scores.json"
    for here in ("fast", "slow"):
        game = dataclasses.replace(made[0], backend_here={"fast": here}.get)
        assert commands.call(play.main, game, *words).code == 0
        assert seen.pop() == here
        assert json.loads((tmp_path / "scores.json").read_text())["backend"] == here


def test_the_panels_are_the_frame_what_is_seen_and_what_is_expected():
    """Catches the last two exchanged, what is seen shown twice, and a prediction from c in the place of h."""
    ones = np.ones((1, 1, 1), np.float32)
    rnn = types.SimpleNamespace(
        prepared=lambda: "weights",
        predict=lambda weights, h: (mdnrnn.Mixture(0 * ones, h[:, None], -20 * ones), None),
    )
    decoder = types.SimpleNamespace(decode=lambda z: np.full((1, 64, 64, 3), z))
    world = types.SimpleNamespace(rnn=rnn, vae=decoder, frames=np.full((1, 64, 64, 3), 51, np.uint8))
    state = [np.full((1, 1), value, np.float32) for value in (0.4, 0.6, 0.8)]
    shown = play.three_panels(world, 1000)(state)
    assert shown.shape == (256, 3 * 256, 3)
    assert [np.unique(shown[:, k : k + 256]).tolist() for k in (0, 256, 512)] == [[51], [102], [153]]


def test_a_dream_pays_and_ends_as_it_is_told(made):
    """Catches heads that nobody asks what a step pays, ends by the threshold where they are to be drawn."""
    pay = settings.Pay(-1.0, 6.0, -50.0, 20.0)
    made[0].config.PAY = pay
    initial_z = np.zeros((2, 5, 4), np.float32)
    for heads in (True, False):
        rnn = mdnrnn.MDNRNN(mdnrnn.Shape(4, 1, 8, restart=True, heads=heads), "float32")
        loaded = types.SimpleNamespace(rnn=rnn, initial_z=initial_z)
        world = play.dreams(made[0], loaded, 0.5, 10.0)
        assert world._pay is (pay if heads else None)
        assert (world.temperature, world.max_steps, world._end_weight) == (0.5, toy.ALIVE, 10.0)
        assert play.dreams(made[0], loaded, 0.5)._end_weight == 0
