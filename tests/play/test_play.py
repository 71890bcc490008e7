"""common/play.py and common/video.py: the right controller, the same episodes in any batch, real videos."""

import argparse
import json
import re
import threading

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from common.agent import controller
from common.play import play, video
from common.runtime import devices
from common.runtime.cli import UserError

HASHES = {"vae": "a" * 64, "rnn": "b" * 64}
SHAPE = controller.Controller("z", 3, 2, 2, bias=True)


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


def arguments(path, run=".", out=None):
    return argparse.Namespace(file=str(path), run=str(run), out=out and str(out), seed=1000)


def test_a_file_is_looked_for_here_then_in_the_run_then_at_the_root(tmp_path, monkeypatch):
    """Catches the shipped controller played in place of the user's own of the same name."""
    here, run, root = (tmp_path / name for name in ("here", "run", "root"))
    for folder in (here, run, root / "common"):
        folder.mkdir(parents=True)
    monkeypatch.chdir(here)
    monkeypatch.setattr(play, "__file__", str(root / "common" / "play.py"))
    with pytest.raises(UserError, match=r"^c\.json: no such file"):
        play.find("c.json", str(run))
    for folder, found in ((root, root / "c.json"), (run, run / "c.json"), (here, "c.json")):
        (folder / "c.json").write_text("[]")
        assert play.find("c.json", str(run)) == str(found)


def test_a_search_starts_at_zero_or_at_the_controller_named(tmp_path):
    """Catches a start that is ignored, or taken from a controller of another length."""
    c = controller.Controller("z", 4, 2, 1, bias=False)
    np.testing.assert_array_equal(play.first_mean(argparse.Namespace(start_from=""), ".", c), np.zeros(4))
    for name, length in (("good.json", 4), ("long.json", 5)):
        controller.write(tmp_path / name, np.arange(length) / 8, 700)
    named = argparse.Namespace(start_from="good.json")
    np.testing.assert_array_equal(play.first_mean(named, str(tmp_path), c), np.arange(4) / 8)
    named.start_from = "long.json"
    with pytest.raises(UserError, match="holds 5 parameters"):
        play.first_mean(named, str(tmp_path), c)


def test_the_log_of_every_file_of_an_evolution_is_found(tmp_path):
    """Catches hashes and mode of another evolution in the same folder, or of none."""
    for base, episodes in (("doomrnn.cma.16.64", 16), ("doomrnn.cma.16.640", 640)):
        (tmp_path / f"{base}.config.json").write_text(json.dumps({"config": {"num_episode": episodes}}))
    for kind in ("json", "best.json", "log.json"):
        assert play.log_of(str(tmp_path / f"doomrnn.cma.16.64.{kind}")) == {"config": {"num_episode": 16}}
    assert play.log_of(str(tmp_path / "doomrnn.cma.4.64.json")) == {}
    assert play.log_of(str(tmp_path / "mine.json")) == {}


@pytest.mark.parametrize(
    ("episodes", "said"),
    [("0", "0: give a number from 1 up"), ("-3", "-3: give a number from 1 up"), ("many", "invalid int value: 'many'")],
)
def test_a_number_of_episodes_is_one_or_more(episodes, said, capsys):
    """Catches a traceback, or a score of no episode at all."""
    with pytest.raises(SystemExit) as ended:
        play.parser("").parse_args(["--episodes", episodes])
    assert ended.value.code == 2
    assert f"argument --episodes: {said}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"config": []}', '{"config": {"controller_mode": "zzz"}}', '{"hashes": {"other": "a"}}', "[" * 10**5],
)
def test_a_strange_log_beside_a_controller_is_named(tmp_path, text):
    """Catches a traceback, or what a stranger's file asks for, instead of a line."""
    (tmp_path / "game.cma.16.64.config.json").write_text(text)
    with pytest.raises(UserError, match=r"config\.json: not what train\.py writes"):
        play.log_of(str(tmp_path / "game.cma.16.64.best.json"))


@pytest.mark.parametrize("name", ["vae", "rnn"])
def test_a_controller_of_another_v_or_m_is_refused(name):
    """Catches a controller that is played with a V or M it has never seen."""
    play.check_hashes("c.json", {"hashes": HASHES}, HASHES)
    play.check_hashes("c.json", {}, HASHES)
    with pytest.raises(UserError, match=f"c.json: was evolved with another {name} .*aaaaaaaaaaaa|bbbbbbbbbbbb"):
        play.check_hashes("c.json", {"hashes": HASHES}, HASHES | {name: "c" * 64})


def test_a_controller_is_loaded_in_its_own_mode(tmp_path):
    """Catches the usual mode's sizes for a controller of another, the score read as a parameter, hashes unchecked."""
    path, modes = tmp_path / "x.cma.1.4.best.json", []
    parameters = np.linspace(-1, 1, SHAPE.parameters)
    controller.write(str(path), parameters, 7.5)

    def controller_of(mode):
        modes.append(mode)
        return SHAPE

    shape, loaded = play.load_controller(arguments(path), controller_of, HASHES)
    assert shape is SHAPE
    assert loaded.dtype == np.float32
    np.testing.assert_allclose(loaded, parameters, rtol=0, atol=0.5001e-4)
    log = {"config": {"controller_mode": "z"}, "hashes": HASHES}
    (tmp_path / "x.cma.1.4.config.json").write_text(json.dumps(log))
    play.load_controller(arguments(path), controller_of, HASHES)
    assert modes == [None, "z"]
    with pytest.raises(UserError, match="another rnn"):
        play.load_controller(arguments(path), controller_of, HASHES | {"rnn": "c" * 64})


@pytest.mark.parametrize("rows", [1, 3, 4, 32])
def test_measure_is_one_episode_at_a_time_in_the_same_order(monkeypatch, rows):
    """Catches an episode played twice, left out, by another's policy, or listed under another's seed."""
    seeds, worlds = np.arange(1000, 1011), []
    monkeypatch.setattr(devices, "cores", lambda: 2)

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
    play.report(arguments("c.json", out=out), seeds, returns, [5, 6, 7, 8], game="g", hashes=HASHES)
    last = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(r"seed 1000 average_reward 3\.0000 stdev 2\.1602", last)
    scores = json.loads(out.read_text())
    assert scores.pop("std") == pytest.approx((14 / 3) ** 0.5)
    assert scores.pop("stderr") == pytest.approx((14 / 3) ** 0.5 / 2)
    episodes = [{"seed": 1000 + k, "return": returns[k], "length": 5 + k} for k in range(4)]
    assert scores == {"game": "g", "hashes": HASHES, "n": 4, "mean": 3.0, "episodes": episodes}


def test_report_of_one_episode_writes_nothing_unasked(tmp_path, capsys, monkeypatch):
    """Catches NaN for the deviation of one episode, and files nobody asked for."""
    monkeypatch.chdir(tmp_path)
    play.report(arguments("c.json"), [1000], [4.0], [5])
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


def test_without_a_display_there_is_nothing_to_play_on(monkeypatch):
    """Catches a traceback of pygame's, and a window expected where there is none."""
    monkeypatch.setattr(video, "has_display", lambda: False)
    with pytest.raises(UserError, match="no display"):
        play.need_display(None)
    play.need_display("x.mp4")
    assert isinstance(video.screen("game", 10, default="x.mp4"), video.Video)
    assert isinstance(video.stage("game", 10, "x.mp4"), video.Video)
    monkeypatch.setattr(video, "has_display", lambda: True)
    play.need_display(None)
    assert video.screen("game", 10, "given.gif").path == "given.gif"


def frames(count, height=64, width=96):
    """Frames whose grey tells their number."""
    return [np.full((height, width, 3), 20 + 25 * k, np.uint8) for k in range(count)]


def test_panels_are_side_by_side_and_enlarged_without_smoothing():
    """Catches panels in another order, colours of floats that overflow, and blurred pixels."""
    checks = np.indices((64, 64)).sum(0) % 2
    left = np.stack([checks * 255] * 3, axis=-1).astype(np.uint8)
    right = np.stack([np.full((64, 96), value) for value in (-0.5, 0.5, 1.5)], axis=-1)
    picture = video.panels(left, right)
    assert picture.dtype == np.uint8
    assert picture.shape == (256, 256 + 384, 3)
    np.testing.assert_array_equal(picture[:, :256], left.repeat(4, axis=0).repeat(4, axis=1))
    assert np.unique(picture[:, 256:].reshape(-1, 3), axis=0).tolist() == [[0, 128, 255]]


def test_an_mp4_holds_every_frame(tmp_path, capsys):
    """Catches a file that no player opens, a lost or doubled frame, another size or rate, frames out of order."""
    path = str(tmp_path / "a.mp4")
    with video.Video(path, 20) as screen:
        assert screen.keys() == set()
        for frame in frames(9):
            screen.show(frame)
    assert f"{path}: written" in capsys.readouterr().out
    assert [file.name for file in tmp_path.iterdir()] == ["a.mp4"]
    reader = imageio_ffmpeg.read_frames(path)
    about = next(reader)
    assert about["size"] == (96, 64)
    assert about["fps"] == pytest.approx(20)
    greys = [np.frombuffer(frame, np.uint8).mean() for frame in reader]
    np.testing.assert_allclose(greys, [frame.mean() for frame in frames(9)], atol=4)  # lossy by a few greys


def test_a_gif_holds_every_frame(tmp_path):
    """Catches a file that no viewer opens, a lost first frame, another rate, one that plays only once."""
    with video.Video(str(tmp_path / "a.gif"), 20) as screen:
        for frame in frames(9):
            screen.show(frame)
    assert [file.name for file in tmp_path.iterdir()] == ["a.gif"]
    with Image.open(tmp_path / "a.gif") as gif:
        assert (gif.format, gif.n_frames, gif.size) == ("GIF", 9, (96, 64))
        assert (gif.info["duration"], gif.info["loop"]) == (50, 0)
        for k, frame in enumerate(frames(9)):
            gif.seek(k)
            assert np.array(gif.convert("RGB")).mean() == pytest.approx(frame.mean(), abs=1)


def test_a_window_writes_what_was_played_until_the_player_left(tmp_path, monkeypatch):
    """Catches a recording that is lost when its player presses escape, and one of an error that is kept."""
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setattr(video, "has_display", lambda: True)

    def play_until(error):
        with video.stage("game", 1000, str(tmp_path / "a.gif")) as screen:
            assert isinstance(screen, video.Window)
            for frame in frames(5):
                screen.show(frame)
            raise error

    with pytest.raises(ValueError):  # noqa: PT011
        play_until(ValueError)
    assert not list(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt):
        play_until(KeyboardInterrupt)
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.n_frames == 5


@pytest.mark.parametrize("name", ["x.avi", "x", "nowhere/x.mp4"])
def test_a_video_that_cannot_be_written_is_refused_before_the_episode(tmp_path, monkeypatch, name):
    """Catches a traceback of ffmpeg's after the episode has been played."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=name):
        video.Video(name, 20)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.mp4", "a.gif"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_nothing_is_left_behind_after_an_error(tmp_path, capsys, name, error):
    """Catches half a video under its own name or a temporary one, and an earlier one lost for it."""

    def fail(path):
        with video.Video(str(path), 20) as screen:
            screen.show(frames(1)[0])
            raise error

    with pytest.raises(error):
        fail(tmp_path / f"new{name}")
    assert not list(tmp_path.iterdir())
    assert "written" not in capsys.readouterr().out
    (tmp_path / name).write_bytes(b"the earlier one")
    with pytest.raises(error):
        fail(tmp_path / name)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"the earlier one"]
