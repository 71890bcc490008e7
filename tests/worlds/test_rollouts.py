"""common/worlds/rollouts.py: the policies that need no controller, and what a score is."""

import numpy as np
import pytest

from common.worlds import games, rollouts

from counting import SEEDS, CountingGame


def test_random_actions_are_uniform_and_each_episodes_own():
    """Catches one generator for the batch, a wrong range, and rows that are not dropped."""
    low, high = np.array([-1, 0, 0]), np.array([1, 1, 0.5])
    policy = rollouts.RandomActions(range(1000, 1500), low, high)
    draws = np.stack([policy.act(None) for _ in range(20)])
    assert draws.shape == (20, 500, 3)
    tolerance = 5 * (high - low) / np.sqrt(12 * 20 * 500)
    np.testing.assert_array_less(np.abs(draws.mean((0, 1)) - (low + high) / 2), tolerance)
    assert (draws.min((0, 1)) < low + 0.01).all()
    assert (draws.min((0, 1)) >= low).all()
    assert (draws.max((0, 1)) <= high).all()
    alone = rollouts.RandomActions([1007], low, high)
    np.testing.assert_array_equal(np.stack([alone.act(None)[0] for _ in range(20)]), draws[:, 7])
    policy.keep([3, 7])
    np.testing.assert_array_equal(policy.act(None)[1], alone.act(None)[0])
    batch = games.Games([CountingGame() for _ in SEEDS])
    ended = []
    returns, lengths = rollouts.rollout(batch, rollouts.RandomActions(SEEDS, [-1], [1]), SEEDS, ended.append)
    assert ended == [lengths.tolist().count(length) for length in sorted(set(lengths))]
    assert lengths.tolist() == [2 + seed % 7 for seed in SEEDS]
    assert returns[0] == returns[4]


def test_summary():
    """Catches the population's deviation for the sample's, and the deviation reported as the standard error."""
    found = rollouts.summary([1000, 1001, 1002, 1003], np.array([1.0, 2, 3, 6]), np.array([4, 5, 6, 7]), game="x")
    assert found["game"] == "x"
    assert (found["n"], found["mean"]) == (4, 3)
    assert found["std"] == pytest.approx(np.sqrt(14 / 3))
    assert found["stderr"] == pytest.approx(np.sqrt(14 / 3) / 2)
    assert found["episodes"][3] == {"seed": 1003, "return": 6.0, "length": 7}
    assert rollouts.summary([1000], [5.0], [7])["std"] == 0


def test_exploring_is_random_for_its_share_of_the_steps_and_the_policys_else():
    """Catches a share of holds taken for one of steps, holds of another length, a policy asked with finished rows."""

    class Zeros:
        rows = 300

        def act(self, state):
            return np.zeros((self.rows, 2), np.float32)

        def keep(self, on):
            self.rows = len(on)

    policy = rollouts.Exploring(Zeros(), range(1000, 1300), 0.3, 5, np.array([-1, 0.5]), np.array([1, 1]))
    actions = np.stack([policy.act(None) for _ in range(400)])
    explored = actions[..., 1] != 0
    # a hold and the gap after it last 10 steps on average: as many independent draws as there are such pairs
    assert abs(explored.mean() - 0.3) < 5 * np.sqrt(0.3 * 0.7 / (400 * 300 / 10))
    assert (actions[explored][:, 1] >= 0.5).all()
    assert actions[explored][:, 0].min() < -0.9
    lengths = []
    for row in range(300):
        changes = np.flatnonzero(np.diff(actions[:, row, 1])) + 1
        holds = np.split(actions[:, row], changes)[1:-1]
        lengths += [len(hold) for hold in holds if hold[0, 1] != 0]
    frequency = np.bincount(lengths, minlength=6) / len(lengths)
    assert len(frequency) == 6
    np.testing.assert_allclose(frequency[1:], 0.2, atol=5 * np.sqrt(0.2 * 0.8 / len(lengths)))

    policy.keep([3, 7])
    kept = policy.act(None)
    Zeros.rows = 1
    alone = rollouts.Exploring(Zeros(), [1007], 0.3, 5, np.array([-1, 0.5]), np.array([1, 1]))
    np.testing.assert_array_equal([alone.act(None)[0] for _ in range(400)], actions[:, 7])
    np.testing.assert_array_equal(kept[1], alone.act(None)[0])


def test_held_actions_are_uniform_and_held_for_one_to_so_many_steps():
    """Catches a longest hold that is never drawn, a new draw before its time, and rows that are not dropped."""
    policy = rollouts.HeldActions(range(1000, 1400), 3, [-1, 0.5], [1, 1])
    draws = np.stack([policy.act(None) for _ in range(60)])
    assert draws.shape == (60, 400, 2)
    lengths, values = [], []
    for row in range(400):
        holds = np.split(draws[:, row], np.flatnonzero(np.diff(draws[:, row, 0])) + 1)
        lengths += [len(hold) for hold in holds[:-1]]
        values += [hold[0] for hold in holds]
    frequency = np.bincount(lengths) / len(lengths)
    assert len(frequency) == 4
    np.testing.assert_allclose(frequency[1:], 1 / 3, atol=5 * np.sqrt(2 / 9 / len(lengths)))
    low, high = np.min(values, axis=0), np.max(values, axis=0)
    np.testing.assert_allclose([low, high], [[-1, 0.5], [1, 1]], atol=0.01)
    policy.keep([3, 7])
    kept, alone = policy.act(None)[1], rollouts.HeldActions([1007], 3, [-1, 0.5], [1, 1])
    np.testing.assert_array_equal([alone.act(None)[0] for _ in range(60)], draws[:, 7])
    np.testing.assert_array_equal(alone.act(None)[0], kept)
