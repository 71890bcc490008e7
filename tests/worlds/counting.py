"""What the tests of common/worlds share: a game that paints its step counter into what it shows. No TensorFlow here."""

import numpy as np

from common.worlds import games

SEEDS = [1003, 1000, 1006, 1001, 1003]


class CountingGame:
    """An episode of 2 to 8 steps, by its seed; reward tells the step, the action and the seed."""

    def reset(self, seed):
        self.seed, self.step_number, self.actions = seed, 0, []
        return self.frame()

    def frame(self):
        frame = np.zeros((64, 64, 3), np.uint8)
        frame[0, 0, :2] = self.step_number, (self.seed - 1000) % 256
        return frame

    def reward(self, step, action):
        return 10.0 * step + float(action[0]) + 1000 * (self.seed - 1000)

    def step(self, action):
        assert self.step_number < self.length, "played on after its end"
        reward = self.reward(self.step_number, action)
        self.actions.append(np.array(action))
        self.step_number += 1
        return self.frame(), reward, self.step_number == self.length

    @property
    def length(self):
        return 2 + self.seed % 7


class Loud(CountingGame):
    """A game that prints."""

    def step(self, action):
        print("step")
        return super().step(action)


def loud_games(rows):
    """A batch of that many."""
    return games.Games([Loud() for _ in range(rows)])
