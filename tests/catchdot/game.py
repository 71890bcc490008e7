"""Catch the falling dot: a paddle moves left and right, a dot falls; a miss ends the episode. NumPy only."""

import numpy as np

from common.game import Game
from common.protocols import Policy, World
from common.runtime import settings
from common.worlds import games, rollouts

from catchdot import config

SIZE, DOT, REACH, FLOOR, SPEED = 64, 4, 8, 56, 4  # pixels; REACH is half the paddle's width, SPEED is per step


class CatchDot:
    """One game. Reward is 1 for every dot caught."""

    def reset(self, seed):
        """Starts the episode of this seed; returns its first frame, uint8 [64, 64, 3]."""
        self._rng, self._paddle, self._steps = np.random.default_rng([int(seed), 7]), SIZE / 2, 0
        self._drop()
        return self._look()

    def step(self, action):
        """Plays one step.

        Args:
            action: [1] float in [-1, 1], how far the paddle moves.

        Returns:
            (frame uint8 [64, 64, 3], reward float, done bool).
        """
        self._paddle = np.clip(self._paddle + SPEED * float(np.squeeze(action)), REACH, SIZE - REACH)
        self._y, self._steps = self._y + SPEED, self._steps + 1
        landed = self._y >= FLOOR
        caught = landed and abs(self._x - self._paddle) <= REACH + DOT
        if caught:
            self._drop()
        return self._look(), float(caught), bool((landed and not caught) or self._steps >= config.MAX_STEPS)

    def _drop(self):
        self._x, self._y = self._rng.integers(DOT, SIZE - DOT), DOT

    def _look(self):
        frame = np.full((SIZE, SIZE, 3), 120, np.uint8)
        frame[self._y - DOT : self._y + DOT, self._x - DOT : self._x + DOT] = 255, 255, 255
        left = round(self._paddle) - REACH
        frame[FLOOR + 2 : FLOOR + 6, left : left + 2 * REACH] = 0, 0, 0
        return frame


def keyboard_action(keys: set[str]) -> list[int]:
    """The keys held down as an action: {"left"} -> [-1]."""
    return [("right" in keys) - ("left" in keys)]


def real_games(rows: int, backend: str = "") -> World:
    """A batch of that many games."""
    return games.Games([CatchDot() for _ in range(rows)])


def random_actions(seeds: np.ndarray, cfg: settings.Extract) -> Policy:
    """A new uniform action at every step."""
    return rollouts.RandomActions(seeds, config.ACTION_LOW, config.ACTION_HIGH)


GAME = Game(
    config=config,
    title="Catch the dot",
    goal="Move the paddle below the dot.",
    reward={"dream": "1 for every step lived through", "game": "1 for every dot caught"},
    keys={"left": "move left", "right": "move right"},
    actions={"move": -1},
    keyboard_action=keyboard_action,
    real_games=real_games,
    random_policies={"random": random_actions},
)
