"""Shows frames: in a window if there is a display, else in an .mp4 or .gif."""

import contextlib
import itertools
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any, Self

import numpy as np
from numpy.typing import ArrayLike
from PIL import GifImagePlugin, Image

from common.runtime import cli, files
from common.runtime.cli import UserError

UNSEEN = "dummy", "offscreen"  # drivers of SDL with a window that nobody sees; it tries the second last of all
Add = Callable[[np.ndarray], None]
"""adds a frame, uint8 [H, W, 3], to a file"""


def panels(*frames: ArrayLike, height: int = 256) -> np.ndarray:
    """Frames side by side, enlarged without smoothing.

    Args:
        *frames: each [H, W, 3], uint8, or float in [0, 1].
        height: of the result [pixels]; the width is rounded to an even number, which video formats need.

    Returns:
        uint8 [height, width, 3].
    """

    def enlarged(picture: ArrayLike) -> np.ndarray:
        frame = np.asarray(picture)
        if frame.dtype != np.uint8:
            frame = np.rint(np.clip(frame, 0, 1) * 255).astype(np.uint8)
        width = round(frame.shape[1] * height / frame.shape[0] / 2) * 2
        return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.NEAREST))

    return np.concatenate([enlarged(frame) for frame in frames], axis=1)


def has_display() -> bool:
    """Whether a window can be opened on this machine. A DISPLAY that nothing answers is none."""
    if os.environ.get("SDL_VIDEODRIVER") in UNSEEN:
        return False
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") or sys.platform in ("darwin", "win32")):
        return False
    import pygame

    try:
        pygame.display.init()  # not pygame.init(), which warns on a machine without sound
        return pygame.display.get_driver() not in UNSEEN
    except pygame.error:
        return False
    finally:
        pygame.display.quit()


@contextlib.contextmanager
def _gif(file: IO[bytes], fps: int) -> Iterator[Add]:
    """Writes a .gif that plays in a loop, frame by frame; each has its own colors."""
    numbers = itertools.count()

    def add(frame: np.ndarray) -> None:
        picture, k = Image.fromarray(frame).convert("P", palette=Image.Palette.ADAPTIVE), next(numbers)
        if k == 0:
            file.writelines(GifImagePlugin.getheader(picture, info={"loop": 0})[0])
        # times are whole hundredths of a second: rounded one by one, 35 frames per second would be 33 or 50
        hundredths = round((k + 1) * 100 / fps) - round(k * 100 / fps)
        data = GifImagePlugin.getdata(picture, duration=10 * hundredths, include_color_table=True)
        file.writelines(data)
        data.clear()  # Pillow has it in a cycle, where it would stay for a while

    yield add
    file.write(b";")


def write_gif(file: IO[bytes], frames: Iterable[np.ndarray], fps: int) -> None:
    """Writes frames, uint8 [H, W, 3], to an open file, as a .gif that plays in a loop."""
    with _gif(file, fps) as add:
        for frame in frames:
            add(frame)


@contextlib.contextmanager
def _mp4(file: IO[bytes], fps: int, path: str, size: tuple[int, int]) -> Iterator[Add]:
    """Writes an .mp4 of frames of this size, (width, height), under the name of an open file; `path` is for errors."""
    import imageio_ffmpeg

    how: dict[str, Any] = {"fps": fps, "macro_block_size": 1, "ffmpeg_log_level": "quiet"}
    # by its whole path: ffmpeg takes -x.mp4 for an option and a:b/x.mp4 for a protocol
    name = "file:" + os.path.abspath(file.name)
    writer = imageio_ffmpeg.write_frames(name, size, output_params=["-f", "mp4"], **how)
    writer.send(None)
    broken = UserError(f"{path}: the video could not be written; is the disk full? An earlier one is kept")
    numbers = itertools.count()

    def add(frame: np.ndarray) -> None:
        try:
            writer.send(np.ascontiguousarray(frame))
        except OSError:
            raise broken from None
        next(numbers)

    try:
        yield add
    finally:
        writer.close()
    try:  # ffmpeg's exit code is not to be had
        written, _ = imageio_ffmpeg.count_frames_and_secs(name)
    except RuntimeError:
        written = 0
    if written != next(numbers):
        raise broken


def check_name(path: str) -> None:
    """UserError if no video can be written there."""
    if os.path.splitext(path)[1] not in (".mp4", ".gif"):
        raise UserError(f"--video {path}: give a name that ends in .mp4 or .gif")
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise UserError(f"--video {path}: there is no folder {folder}")


def new_file(path: str) -> str:
    """An argparse type: a video that can be written. An error comes before models are loaded."""
    check_name(cli.new_file(path))
    return path


class Video:
    """Writes shown frames to a file, under a temporary name until it is closed without an error.

    Args:
        path: ends in .mp4 or .gif.
        fps: frames per second.

    Raises:
        UserError: the path has another ending, or its folder is missing.
    """

    def __init__(self, path: str, fps: int) -> None:
        self.path, self._fps = path, fps
        self._add: Add | None = None
        self._open = contextlib.ExitStack()
        check_name(path)

    def show(self, frame: np.ndarray) -> None:
        """Adds a frame, uint8 [H, W, 3]; all must have the same size."""
        if self._add is None:
            file, (height, width, _) = self._open.enter_context(files.atomic(self.path)), frame.shape
            gif = self.path.endswith(".gif")
            writer = _gif(file, self._fps) if gif else _mp4(file, self._fps, self.path, (width, height))
            self._add = self._open.enter_context(writer)
        self._add(frame)

    def keys(self) -> set[str]:
        """The empty set, because a video has no keyboard."""
        return set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)
        if self._add and error[0] is None:
            print(f"{self.path}: written")


class Window:
    """Shows frames in a window and reads the keyboard.

    Args:
        title: of the window.
        fps: frames per second, at most.
        path: of a video of the shown frames, if one is wanted.
    """

    def __init__(self, title: str, fps: int, path: str | None = None) -> None:
        import pygame

        self._video = Video(path, fps) if path else None
        self._pygame, self._title, self._fps = pygame, title, fps
        self._surface: Any = None
        pygame.display.init()
        self._clock = pygame.time.Clock()

    def show(self, frame: np.ndarray) -> None:
        """Shows a frame, uint8 [H, W, 3], in time with `fps`; closing the window ends the program."""
        pygame = self._pygame
        if self._surface is None:
            self._surface = pygame.display.set_mode((frame.shape[1], frame.shape[0]))
            pygame.display.set_caption(self._title)
        self._surface.blit(pygame.surfarray.make_surface(frame.swapaxes(0, 1)), (0, 0))
        pygame.display.flip()
        if self._video:
            self._video.show(frame)
        self._clock.tick(self._fps)
        if any(event.type == pygame.QUIT for event in pygame.event.get()):
            raise KeyboardInterrupt

    def keys(self) -> set[str]:
        """Names of the keys that are held down, such as {"left"}."""
        pygame = self._pygame
        held = pygame.key.get_pressed()
        return {name for name in ("left", "right", "up", "down", "escape") if held[pygame.key.key_code(name)]}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *rest: object) -> None:
        self._pygame.quit()
        if self._video:
            # a player who leaves keeps the video so far
            self._video.__exit__(*((None, None, None) if error is KeyboardInterrupt else (error, *rest)))


def stage(title: str, fps: int, path: str | None = None) -> Window | Video:
    """A Window to play in, which also writes a video if a path is given; without a display, only the Video."""
    return Window(title, fps, path) if has_display() or not path else Video(path, fps)


def screen(title: str, fps: int, path: str | None = None, default: str = "render.mp4") -> Window | Video:
    """A Video if a path is given; otherwise a Window, or without a display a Video of the default name."""
    if path or not has_display():
        return Video(path or default, fps)
    return Window(title, fps)
