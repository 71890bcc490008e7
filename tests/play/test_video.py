"""common/play/video.py: pictures side by side, and videos that are real and whole."""

import argparse
import collections
import io
import resource
import shutil
import signal
import subprocess
import sys
import types
import weakref

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from common.play import play, video
from common.runtime.cli import UserError


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


def test_a_display_that_nothing_answers_is_none(monkeypatch):
    """Catches a window that nobody sees, or a crash, where DISPLAY is left over from a session that has ended."""
    monkeypatch.setenv("DISPLAY", ":4999")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert not video.has_display()
    assert isinstance(video.screen("game", 10, default="x.mp4"), video.Video)
    with pytest.raises(UserError, match="no display"):
        play.need_display(None)


@pytest.mark.parametrize("driver", ["dummy", "offscreen"])
def test_a_driver_without_a_window_is_no_display(monkeypatch, driver):
    """Catches a person who plays for ever in a window that is not there."""
    monkeypatch.setenv("SDL_VIDEODRIVER", driver)
    monkeypatch.setenv("DISPLAY", ":0")
    assert not video.has_display()


@pytest.mark.parametrize("name", ["a:b/x.mp4", "-x.mp4", "http:y.mp4", "%03d.mp4", "file:z.mp4", "-x.gif"])
def test_a_name_is_a_name_whatever_ffmpeg_reads_into_it(tmp_path, monkeypatch, name):
    """Catches a disk that is said to be full for an option or a protocol of ffmpeg's, and a file of another name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a:b").mkdir()
    with video.Video(name, 10) as screen:
        for frame in frames(3):
            screen.show(frame)
    assert (tmp_path / name).stat().st_size > 100
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / name]


WINDOWS = """
import common, gymnasium, numpy as np
from common.play import video
env = gymnasium.make("WorldModels/DoomTakeCoverDream-v0", render_mode="human")
env.reset(seed=1)
env.step(env.action_space.sample())
env.close()
with video.stage("game", 1000) as screen:
    screen.show(np.zeros((64, 64, 3), np.uint8))
    print(type(screen).__name__, screen.keys())
"""


@pytest.mark.skipif(shutil.which("xvfb-run") is None, reason="needs an X server: apt-get install xvfb")
def test_a_window_opens_beside_tensorflow():
    """Catches a crash of Mesa in software and TensorFlow in one process, in our windows and in Gymnasium's."""
    command = ["xvfb-run", "-a", sys.executable, "-c", WINDOWS]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "Window set()"


def frames(count, height=64, width=96):
    """Frames whose gray tells their number."""
    return [np.full((height, width, 3), 20 + 25 * k, np.uint8) for k in range(count)]


def test_panels_are_side_by_side_and_enlarged_without_smoothing():
    """Catches panels in another order, colors of floats that overflow, and blurred pixels."""
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
    grays = [np.frombuffer(frame, np.uint8).mean() for frame in reader]
    np.testing.assert_allclose(grays, [frame.mean() for frame in frames(9)], atol=4)  # lossy by a few grays


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


@pytest.mark.parametrize("fps", [20, 30, 35, 50])
def test_a_gif_plays_at_its_speed(fps):
    """Catches a game of 35 frames per second that is shown at 50, because a .gif knows hundredths of a second only."""
    file = io.BytesIO()
    video.write_gif(file, frames(2, 8, 8) * 35, fps)
    with Image.open(file) as gif:
        seconds = sum(gif.seek(k) or gif.info["duration"] for k in range(gif.n_frames)) / 1000
        assert gif.n_frames == 70
    assert seconds == pytest.approx(70 / fps, abs=0.006)


def test_the_memory_of_a_gif_does_not_grow_with_its_length(tmp_path):
    """Catches frames that are held until the end: 1.6 GB of a game of Doom."""
    with video.Video(str(tmp_path / "a.gif"), 20) as screen:
        shown = []
        for frame in frames(9):
            copy = frame.copy()
            shown.append(weakref.ref(copy))
            screen.show(copy)
            del copy
        assert not any(reference() is not None for reference in shown)


@pytest.mark.parametrize("kind", ["mp4", "gif"])
def test_a_full_disk_costs_the_new_video_only(tmp_path, kind):
    """Catches an earlier video that is lost, a part of one that passes for whole, a traceback, and litter."""
    path = tmp_path / f"a.{kind}"
    path.write_bytes(b"the earlier one")

    def show(pictures):
        with video.Video(str(path), 20) as screen:
            for picture in pictures:
                screen.show(picture)

    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    rng = np.random.default_rng(1000)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        with pytest.raises((UserError, OSError)) as caught:
            show(rng.integers(256, size=(30, 64, 64, 3), dtype=np.uint8))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert str(path) in str(caught.value)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"the earlier one"]


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


@pytest.fixture
def window(monkeypatch):
    """A window that nobody sees."""
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    with video.Window("game", 1000) as screen:
        yield screen


def test_a_window_shows_the_frame_as_it_is(window, rng):
    """Catches rows shown as columns, a picture upside down or mirrored, and red and blue exchanged."""
    frame = rng.integers(0, 256, (48, 80, 3), np.uint8)
    window.show(frame)
    shown = window._pygame.surfarray.array3d(window._surface)
    np.testing.assert_array_equal(shown, frame.swapaxes(0, 1))


def test_closing_the_window_ends_the_game(window):
    """Catches a window that cannot be closed."""
    window._pygame.event.post(window._pygame.event.Event(window._pygame.QUIT))
    with pytest.raises(KeyboardInterrupt):
        window.show(np.zeros((48, 80, 3), np.uint8))


def test_frames_are_shown_in_the_time_of_the_game(window, monkeypatch):
    """Catches a game that a person cannot play, because it runs as fast as the machine can."""
    asked = []
    monkeypatch.setattr(window, "_clock", types.SimpleNamespace(tick=lambda fps=0: asked.append(fps)))
    window.show(np.zeros((48, 80, 3), np.uint8))
    assert asked == [1000]


@pytest.mark.parametrize("name", ["left", "right", "up", "down", "escape"])
def test_a_key_that_is_held_is_told_by_its_name(window, monkeypatch, name):
    """Catches a key without effect, or taken for another one."""
    code = {"left": "K_LEFT", "right": "K_RIGHT", "up": "K_UP", "down": "K_DOWN", "escape": "K_ESCAPE"}[name]
    held = collections.defaultdict(bool, {getattr(window._pygame, code): True})
    monkeypatch.setattr(window._pygame.key, "get_pressed", lambda: held)
    assert window.keys() == {name}


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


def test_a_panel_has_an_even_width():
    """Catches an .mp4 that many players do not show, because its width is odd."""
    assert video.panels(np.zeros((48, 65, 3), np.uint8)).shape == (256, 346, 3)
    assert video.panels(np.zeros((256, 3, 3), np.uint8)).shape == (256, 4, 3)


def test_a_video_on_a_command_line_is_refused_before_the_work(tmp_path):
    """Catches a flag that takes the name of what is no video, or of what cannot be written."""
    good = str(tmp_path / "a.gif")
    assert video.new_file(good) == good
    with pytest.raises(UserError, match=r"ends in \.mp4 or \.gif"):
        video.new_file(str(tmp_path / "a.json"))
    (tmp_path / "b.gif").mkdir()
    with pytest.raises(argparse.ArgumentTypeError, match=r"b\.gif"):
        video.new_file(str(tmp_path / "b.gif"))
