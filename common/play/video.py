"""Shows frames: in a window if there is a display, else in an .mp4 or .gif."""

import os
import sys
from collections.abc import Sequence
from typing import IO, Any, Self

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from common.runtime.cli import UserError


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
    """Whether a window can be opened on this machine."""
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") or sys.platform in ("darwin", "win32"))


def write_gif(file: str | IO[bytes], frames: Sequence[np.ndarray], fps: int) -> None:
    """Writes frames, uint8 [H, W, 3], to a path or an open file, as a .gif that plays in a loop."""
    first, *rest = map(Image.fromarray, frames)
    first.save(file, format="GIF", save_all=True, append_images=rest, duration=round(1000 / fps), loop=0)


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
        self._frames: list[np.ndarray] = []
        self._writer: Any = None
        self._root, self._kind = os.path.splitext(path)
        if self._kind not in (".mp4", ".gif"):
            raise UserError(f"--video {path}: give a name that ends in .mp4 or .gif")
        folder = os.path.dirname(path) or "."
        if not os.path.isdir(folder):
            raise UserError(f"--video {path}: there is no folder {folder}")

    def show(self, frame: np.ndarray) -> None:
        """Adds a frame, uint8 [H, W, 3]; all must have the same size."""
        if self._kind == ".gif":
            self._frames.append(frame)
            return
        if self._writer is None:
            import imageio_ffmpeg

            size = frame.shape[1], frame.shape[0]
            self._temporary = f"{self._root}.tmp{os.getpid()}.mp4"
            self._writer = imageio_ffmpeg.write_frames(self._temporary, size, fps=self._fps, macro_block_size=1)
            self._writer.send(None)
        self._writer.send(np.ascontiguousarray(frame))

    def keys(self) -> set[str]:
        """The empty set, because a video has no keyboard."""
        return set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *rest: object) -> None:
        if self._writer is not None:
            self._writer.close()
            if error is None:
                os.replace(self._temporary, self.path)
            else:
                os.remove(self._temporary)
        elif self._frames and error is None:
            write_gif(self.path, self._frames, self._fps)
        if error is None:
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
        pygame.display.init()  # not pygame.init(), which warns on a machine without sound
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
            self._video.__exit__(None if error is KeyboardInterrupt else error, *rest)


def stage(title: str, fps: int, path: str | None = None) -> Window | Video:
    """A Window to play in, which also writes a video if a path is given; without a display, only the Video."""
    return Window(title, fps, path) if has_display() or not path else Video(path, fps)


def screen(title: str, fps: int, path: str | None = None, default: str = "render.mp4") -> Window | Video:
    """A Video if a path is given; otherwise a Window, or without a display a Video of the default name."""
    if path or not has_display():
        return Video(path or default, fps)
    return Window(title, fps)
