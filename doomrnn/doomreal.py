"""The real game: ViZDoom's take_cover with the paper's rules.

python doomreal.py        # play it with the left and right arrow keys, seeing what V sees; escape ends it
"""

import contextlib
import os
import shlex
import tempfile
import threading
import weakref

import numpy as np
import vizdoom
from PIL import Image

from common.runtime import bound

from doomrnn import config

_folder = tempfile.TemporaryDirectory(prefix="vizdoom-")
_starting = threading.Lock()

LEFT, RIGHT, STAY = [1, 0], [0, 1], [0, 0]


def buttons(action):
    """The game's buttons for one tanh value: below -1/3 left, above 1/3 right, else neither."""
    return LEFT if action < -1 / 3 else RIGHT if action > 1 / 3 else STAY


def frame_of(screen):
    """What V sees of the 160x120 screen: its top 100 rows (as the paper's 400 of 480), resized.

    Args:
        screen: uint8 [120, 160, 3], RGB.

    Returns:
        uint8 [64, 64, 3].
    """
    return np.asarray(Image.fromarray(screen[:100]).resize((64, 64), Image.BILINEAR))


def _bound_engine():
    """Path of a program that is ViZDoom's engine, but ends when this process does; alone it would wait for ever."""
    engine, path = os.path.join(os.path.dirname(vizdoom.__file__), "vizdoom"), os.path.join(_folder.name, "engine")
    with open(path, "w") as file:
        file.write(f'#!/bin/sh\nexec {shlex.join(bound.command(engine))} "$@"\n')
    os.chmod(path, 0o755)
    return path


_ENGINE = _bound_engine()


class DoomTakeCover:
    """One game. Reward is 1 for every tic alive; an episode ends at death or after the time limit."""

    def __init__(self):
        game = vizdoom.DoomGame()
        game.load_config(os.path.join(vizdoom.scenarios_path, "take_cover.cfg"))
        # The old wrapper asked for skill 5 and was clamped to 4; today's ViZDoom honours 5, which is another game.
        game.set_doom_skill(4)
        game.set_episode_start_time(14)
        game.set_episode_timeout(config.MAX_STEPS)
        game.set_living_reward(1)
        game.set_screen_resolution(vizdoom.ScreenResolution.RES_160X120)
        game.set_screen_format(vizdoom.ScreenFormat.RGB24)
        game.set_render_hud(False)
        game.set_window_visible(False)
        game.set_sound_enabled(False)
        game.set_mode(vizdoom.Mode.PLAYER)
        game.set_vizdoom_path(_ENGINE)
        # It makes ./_vizdoom/ when it starts, and two processes starting in one folder race: each gets its own.
        with _starting, contextlib.chdir(_folder.name):
            game.init()
        weakref.finalize(self, game.close)
        self._game, self._frame = game, None

    def reset(self, seed):
        """Starts the episode of this seed; returns its first frame, uint8 [64, 64, 3]."""
        self._game.set_seed(int(seed))
        self._game.new_episode()
        return self._look()

    def step(self, action):
        """Plays one tic.

        Args:
            action: float in [-1, 1].

        Returns:
            (frame uint8 [64, 64, 3], reward float, done bool); after the last tic, the last frame there was.
        """
        reward = self._game.make_action(buttons(action))
        done = self._game.is_episode_finished()
        return (self._frame if done else self._look()), reward, done

    def _look(self):
        self._frame = frame_of(self._game.get_state().screen_buffer)
        return self._frame


if __name__ == "__main__":
    from common.play import play  # TensorFlow, which recorders do without
    from common.runtime import cli

    from doomrnn.game import GAME

    cli.run_main(lambda: play.play_game(GAME, __doc__))
