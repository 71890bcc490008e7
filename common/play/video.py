"""Frames -> a window where there is a display, an .mp4 or .gif where there is none."""

import os
import sys

import numpy as np
from PIL import Image

from common.runtime.cli import UserError


def panels(*frames, height=256):
    """Frames side by side, enlarged without smoothing.

    Args:
        *frames: each [H, W, 3], uint8, or float in [0, 1].
        height: of the result [pixels], made even as video formats want it.

    Returns:
        uint8 [height, width, 3].
    """

    def enlarged(frame):
        frame = np.asarray(frame)
        if frame.dtype != np.uint8:
            frame = np.rint(np.clip(frame, 0, 1) * 255).astype(np.uint8)
        width = round(frame.shape[1] * height / frame.shape[0] / 2) * 2
        return np.asarray(Image.fromarray(frame).resize((width, height), Image.NEAREST))

    return np.concatenate([enlarged(frame) for frame in frames], axis=1)


def has_display():
    """Whether a window can be opened here."""
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") or sys.platform in ("darwin", "win32"))


def write_gif(file, frames, fps):
    """Writes frames, a list of uint8 [H, W, 3], to a path or an open file, as a .gif that plays for ever."""
    first, *rest = map(Image.fromarray, frames)
    first.save(file, format="GIF", save_all=True, append_images=rest, duration=round(1000 / fps), loop=0)


class Video:
    """Writes shown frames to a file, under a temporary name until it is closed without an error.

    Args:
        path: ends in .mp4 or .gif.
        fps: frames per second.
    """

    def __init__(self, path, fps):
        self.path, self._fps, self._frames, self._writer = path, fps, [], None
        self._root, self._kind = os.path.splitext(path)
        if self._kind not in (".mp4", ".gif"):
            raise UserError(f"--video {path}: give a name that ends in .mp4 or .gif")
        folder = os.path.dirname(path) or "."
        if not os.path.isdir(folder):
            raise UserError(f"--video {path}: there is no folder {folder}")

    def show(self, frame):
        """Adds a frame, uint8 [H, W, 3]; all of the same size."""
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

    def keys(self):
        """No keyboard here: always the empty set."""
        return set()

    def __enter__(self):
        return self

    def __exit__(self, error, *_):
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
        title: str.
        fps: frames per second, at most.
        path: of a video to write of what is shown, if any.
    """

    def __init__(self, title, fps, path=None):
        import pygame

        self._video = Video(path, fps) if path else None
        self._pygame, self._title, self._fps, self._surface = pygame, title, fps, None
        pygame.display.init()  # not pygame.init(), which complains of a machine without sound
        self._clock = pygame.time.Clock()

    def show(self, frame):
        """Shows a frame, uint8 [H, W, 3], and waits for its turn; closing the window ends the program."""
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

    def keys(self):
        """Names of the keys that are held down, such as {"left"}."""
        pygame = self._pygame
        held = pygame.key.get_pressed()
        return {name for name in ("left", "right", "up", "down", "escape") if held[pygame.key.key_code(name)]}

    def __enter__(self):
        return self

    def __exit__(self, error, *rest):
        self._pygame.quit()
        if self._video:
            # the player who leaves wants what was played so far
            self._video.__exit__(None if error is KeyboardInterrupt else error, *rest)


def stage(title, fps, path=None):
    """A Window to play in, which writes a video too if a path is given; with no display, only the Video."""
    return Window(title, fps, path) if has_display() else Video(path, fps)


def screen(title, fps, path=None, default="render.mp4"):
    """A Video if a path is given; else a Window; else, with no display, a Video of the default name."""
    if path or not has_display():
        return Video(path or default, fps)
    return Window(title, fps)
