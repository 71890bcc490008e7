"""common/worlds/candidates.py: many controllers on many episodes, at once, in blocks, and what one of them reads."""

import numpy as np
import pytest

from common.agent.controller import Controller
from common.worlds import candidates, encoded, games, rollouts

from counting import CountingGame
from painted import PaintedV, random_parameters, random_rnn


class InThisProcess:
    """Workers whose `map` computes at once."""

    def __init__(self, world, controller):
        self.world, self.controller, self.blocks = world, controller, []

    def map(self, tasks):
        self.blocks += [(len(candidates), seeds.shape[1]) for candidates, seeds in tasks]
        return [candidates.evaluate(self.world, self.controller, *task) for task in tasks]


@pytest.mark.parametrize("block_rows", [1, 2, 4, 7, 8, 100])
def test_evaluation_in_blocks_is_evaluation(rng, block_rows):
    """Catches results put under another candidate or seed, and blocks larger than asked for."""
    controller, seeds = Controller("z", 2, 4, 1, bias=True), np.array([1000, 1005, 1001, 1003])
    population = random_parameters(rng, controller, 5)
    world = encoded.EncodedGames(games.Games([CountingGame() for _ in range(20)]), PaintedV(-80.0), random_rnn(rng))
    returns, lengths = candidates.evaluate(world, controller, population, seeds)
    assert lengths.tolist() == [(2 + seeds % 7).tolist()] * 5
    one = encoded.EncodedGames(games.Games([CountingGame()]), PaintedV(-80.0), world.rnn)
    alone, _ = rollouts.rollout(one, candidates.Candidates(controller, population[3:4]), seeds[1:2])
    np.testing.assert_allclose(returns[3, 1], alone[0], rtol=1e-6)

    workers = InThisProcess(world, controller)
    in_blocks = candidates.evaluate_in_blocks(workers, population, seeds, block_rows)
    np.testing.assert_allclose(in_blocks[0], returns, rtol=1e-6)
    np.testing.assert_array_equal(in_blocks[1], lengths)
    assert max(candidates * episodes for candidates, episodes in workers.blocks) <= block_rows

    # and where every candidate has episodes of its own
    own = np.array([np.roll(seeds, k) for k in range(5)])
    returns, lengths = candidates.evaluate_in_blocks(workers, population, own, block_rows)
    for k in range(5):
        np.testing.assert_allclose(returns[k], np.roll(in_blocks[0][k], k), rtol=1e-6)
        np.testing.assert_array_equal(lengths[k], np.roll(in_blocks[1][k], k))


def test_features_of_play(rng):
    """Catches steps left out, rows that go on after their end, and features of another controller's play."""
    controller, seeds = Controller("zh", 2, 4, 1, bias=True), np.arange(1000, 1007)
    parameters = random_parameters(rng, controller, 2)
    world = encoded.EncodedGames(games.Games([CountingGame() for _ in seeds]), PaintedV(-80.0), random_rnn(rng))
    read = [candidates.features_of_play(world, controller, one, seeds) for one in parameters]
    assert read[0].shape == ((2 + seeds % 7).sum(), 6)
    counter, seed = np.rint(read[0][:, :2] * 8).astype(int).T
    found = sorted(zip((seed + 1000).tolist(), counter.tolist(), strict=True))
    assert found == [(int(s), k) for s in seeds for k in range(2 + s % 7)]
    assert np.abs(read[0][:, 2:] - read[1][:, 2:]).max() > 1e-3


def test_candidates_act_as_the_game_takes_it(rng):
    """Catches the tanh values of CarRacing's candidates handed to the game, in their scores or in what they read."""
    controller, players = Controller("z", 2, 4, 1, bias=True), [CountingGame() for _ in range(4)]
    parameters, seeds = random_parameters(rng, controller, 2), [1000, 1001]
    world = encoded.EncodedGames(games.Games(players), PaintedV(-80.0), random_rnn(rng))

    def as_taken(raw):
        return (raw + 1) / 2

    for rows, play in (
        (4, lambda action_of: candidates.evaluate(world, controller, parameters, seeds, action_of)),
        (2, lambda action_of: candidates.features_of_play(world, controller, parameters[0], seeds, action_of)),
    ):
        played = []
        for action_of in (None, as_taken):
            play(action_of)
            played.append(np.array([game.actions[0] for game in players[:rows]]))
        np.testing.assert_allclose(played[1], as_taken(played[0]), atol=1e-6)
        assert np.abs(played[1] - played[0]).min() > 1e-3


def test_blocks_are_told_what_else_their_episodes_need():
    """Catches an evaluation in blocks by other rules than asked for, such as with another patience."""
    told = []

    class Told:
        def map(self, tasks):
            told.extend(tasks)
            return [(np.zeros(seeds.shape), np.zeros(seeds.shape, int)) for _, seeds, *_ in tasks]

    candidates.evaluate_in_blocks(Told(), np.zeros((3, 4)), np.arange(1000, 1005), 2, {"patience": 9}, "more")
    assert len(told) == 3 * 3
    assert all(settings == [{"patience": 9}, "more"] for _, _, *settings in told)
