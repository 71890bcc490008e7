"""The real game: the take_cover scenario of ViZDoom, with the rules of the paper.

python doomreal.py        # play it with the left and right arrow keys; it shows the frames of the VAE; escape ends it
"""

import contextlib
import os
import shlex
import tempfile
import threading
import weakref
from typing import Any

import numpy as np
import vizdoom
from PIL import Image

from common.runtime import bound, parallel
from common.runtime.cli import UserError

from doomrnn import config

_folder = tempfile.TemporaryDirectory(prefix="vizdoom-")
_starting = threading.Lock()

SHARED_BYTES = 1_000_000  # more than a game takes of shared memory, where the engine leaves its screen for us
LEFT, RIGHT, STAY = [1, 0], [0, 1], [0, 0]


def buttons(action: Any) -> list[int]:
    """The buttons of the game for a tanh value, float [] or [1]: below -1/3 left, above 1/3 right, else neither."""
    return LEFT if action < -1 / 3 else RIGHT if action > 1 / 3 else STAY


def frame_of(screen: np.ndarray) -> np.ndarray:
    """The frame for the VAE: the top 100 rows of the 160x120 screen (in the paper 400 of 480), resized.

    Args:
        screen: uint8 [120, 160, 3], RGB.

    Returns:
        uint8 [64, 64, 3].
    """
    return _resized(screen[:100])


def _resized(picture: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).resize((64, 64), Image.Resampling.BILINEAR))


def _bound_engine() -> str:
    """Path of a program that is the engine of ViZDoom, but ends when this process ends; else it would never end."""
    engine, path = os.path.join(os.path.dirname(vizdoom.__file__), "vizdoom"), os.path.join(_folder.name, "engine")
    with open(path, "w") as file:
        # Ctrl-C is for this process; Python, which is to bind the engine, would answer it while it is starting
        file.write(f"#!/bin/sh\ntrap '' INT\nexec {shlex.join(bound.command(engine, deaf=True))} \"$@\"\n")
    os.chmod(path, 0o755)
    return path


def _check_folders() -> None:
    """UserError where the engine would crash, or end without a word."""
    if os.statvfs(_folder.name).f_flag & getattr(os, "ST_NOEXEC", 0):  # Linux
        raise UserError(
            f"{_folder.name}: lies where no program may be run (mounted noexec), and the engine of ViZDoom starts from "
            "there; set TMPDIR to another folder"
        )
    parallel.check_shared_memory(SHARED_BYTES, "a game of Doom", "ViZDoom*")


class DoomTakeCover:
    """One game. The reward is 1 for every tic alive; an episode ends at death or after the time limit.

    Args:
        labels: whether `objects` can tell what is on the screen; the game is the same.
    """

    def __init__(self, labels: bool = False) -> None:
        _check_folders()
        game = vizdoom.DoomGame()
        game.load_config(os.path.join(vizdoom.scenarios_path, "take_cover.cfg"))
        # The environment of the authors asked for skill 5, and ViZDoom reduced it to 4; today 5 would be another game.
        game.set_doom_skill(4)
        game.set_episode_start_time(14)
        game.set_episode_timeout(config.MAX_STEPS)
        game.set_living_reward(1)
        game.set_screen_resolution(vizdoom.ScreenResolution.RES_160X120)
        game.set_screen_format(vizdoom.ScreenFormat.RGB24)
        game.set_render_hud(False)
        game.set_labels_buffer_enabled(labels)
        game.set_window_visible(False)
        game.set_sound_enabled(False)
        game.set_mode(vizdoom.Mode.PLAYER)
        # It makes ./_vizdoom/ when it starts, a race between two processes in one folder: each has its own.
        with _starting, contextlib.chdir(_folder.name):
            game.set_vizdoom_path(_bound_engine())
            game.init()
        weakref.finalize(self, game.close)
        self._game = game
        self._frame = np.zeros((64, 64, 3), np.uint8)

    def reset(self, seed: int) -> np.ndarray:
        """Starts the episode of this seed; returns its first frame, uint8 [64, 64, 3]."""
        self._game.set_seed(int(seed))
        self._game.new_episode()
        return self._look()

    def step(self, action: Any) -> tuple[np.ndarray, float, bool]:
        """Plays one tic.

        Args:
            action: float [] or [1], in [-1, 1].

        Returns:
            (frame uint8 [64, 64, 3], reward, done); after the last tic, the frame before it.
        """
        reward = self._game.make_action(buttons(action))
        done = self._game.is_episode_finished()
        return (self._frame if done else self._look()), reward, done

    def objects(self) -> list[tuple[str, np.ndarray]]:
        """[(name, its pixels in the frame, bool [64, 64])] of what is on the screen; a DoomImpBall is a fireball."""
        state: Any = self._game.get_state()
        masks = [(label.object_name, 255 * (state.labels_buffer == label.value)[:100]) for label in state.labels]
        return [(name, _resized(mask.astype(np.uint8)) > 127) for name, mask in masks]

    def _look(self) -> np.ndarray:
        self._frame = frame_of(self._game.get_state().screen_buffer)
        return self._frame


if __name__ == "__main__":
    from common.play import play  # loads TensorFlow, which recorders do not need
    from common.runtime import cli

    from doomrnn.game import GAME

    cli.run_main(lambda: play.play_game(GAME, __doc__))
