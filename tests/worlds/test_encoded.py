"""common/worlds.py and common/rollouts.py with a game that paints its step counter into what it shows."""

import numpy as np
import pytest
import tensorflow as tf

from common.agent import mdnrnn
from common.agent.controller import Controller
from common.worlds import encoded, games, rollouts

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


class PaintedV:
    """Sees the step counter and the seed; its z is noisy as far as told."""

    z_size = 2

    def __init__(self, logvar):
        self.logvar = logvar

    def encode(self, frames):
        mu = tf.cast(frames[:, 0, 0, :2], tf.float32) / 8
        return mu, tf.fill(tf.shape(mu), self.logvar)


def random_rnn(rng, restart=True, action_size=1):
    rnn = mdnrnn.MDNRNN(mdnrnn.Shape(2, action_size, 4, restart), "float32")
    rnn.set_weights([rng.normal(0, 0.5, variable.shape) for variable in rnn.variables])
    return rnn


def random_parameters(rng, controller, rows):
    return rng.normal(0, 0.5, (rows, controller.parameters)).astype(np.float32)


@pytest.mark.parametrize(("restart", "action_size"), [(True, 1), (False, 3)])
def test_observation_action_memory_and_reward_line_up(rng, restart, action_size):
    """Catches an action on the frame before or after, M a step early or late, rows mixed up as others leave."""
    rnn, controller = random_rnn(rng, restart, action_size), Controller("zch", 2, 4, action_size, bias=True)
    parameters = random_parameters(rng, controller, len(SEEDS))
    players = [CountingGame() for _ in range(len(SEEDS) + 2)]
    world = encoded.EncodedGames(games.Games(players), PaintedV(-80.0), rnn)
    returns, lengths = rollouts.rollout(world, rollouts.Candidates(controller, parameters), SEEDS)
    for row, (game, seed) in enumerate(zip(players, SEEDS, strict=False)):
        state, expected = rnn.initial_state(1), []
        for step in range(game.length):
            z = tf.constant([[step / 8, (seed - 1000) / 8]])
            expected.append(controller.act(parameters[row : row + 1], controller.features(z, *state))[0])
            flag = tf.constant([float(step == 0)]) if restart else None
            state = rnn.step(rnn.prepared(), mdnrnn.inputs_of(z, expected[-1][tf.newaxis], flag), state)
        assert lengths[row] == game.length == len(game.actions)
        np.testing.assert_allclose(game.actions, expected, atol=1e-5)
        assert returns[row] == pytest.approx(sum(game.reward(*taken) for taken in enumerate(game.actions)))


def test_a_batch_is_as_many_runs_of_one(rng):
    """Catches any row that depends on its neighbours: V's noise drawn for the batch, finished rows mixed up."""
    rnn, controller = random_rnn(rng), Controller("zh", 2, 4, 1, bias=True)
    parameters = random_parameters(rng, controller, len(SEEDS))

    def play(rows):
        world = encoded.EncodedGames(games.Games([CountingGame() for _ in rows]), PaintedV(0.0), rnn)
        return rollouts.rollout(world, rollouts.Candidates(controller, parameters[rows]), [SEEDS[k] for k in rows])

    returns, lengths = play(range(len(SEEDS)))
    assert lengths.tolist() == [2 + seed % 7 for seed in SEEDS]
    for row in range(len(SEEDS)):
        alone, length = play([row])
        assert length == lengths[row]
        np.testing.assert_allclose(alone, returns[row : row + 1], rtol=1e-6)
    # the fractions are the actions: V's noise is there, and is the seed's
    assert abs(returns[0] - returns[4]) > 1e-3
    same = play([0])[0]
    np.testing.assert_array_equal(same, play([0])[0])


def test_z_is_sampled_at_control_time():
    """Catches mu used for z: the authors' agents see V's noise, new at every step."""
    rnn = mdnrnn.MDNRNN(mdnrnn.Shape(2, 1, 4, True), "float32")
    world = encoded.EncodedGames(games.Games([CountingGame() for _ in range(200)]), PaintedV(float(2 * np.log(3))), rnn)
    seeds = [1006] * 100 + [1006 + 7 * k for k in range(1, 101)]
    before, *_ = world.reset(seeds)
    (after, *_), *_ = world.step(np.zeros((200, 1), np.float32))
    for z, step in ((before, 0), (after, 1)):
        noise = z.numpy()[100:, 0] - step / 8
        assert abs(noise.std() - 3) < 5 * 3 / np.sqrt(200)
        np.testing.assert_array_equal(z[:100], tf.repeat(z[:1], 100, axis=0))
    assert np.abs(before - after).min() > 1e-4


def test_finished_rows_leave(rng):
    """Catches a dead row that is still seen, and frames that are not those of the rows that go on."""
    world = encoded.EncodedGames(games.Games([CountingGame() for _ in SEEDS]), PaintedV(-80.0), random_rnn(rng))
    live, step, state = list(SEEDS), 0, world.reset(SEEDS)
    while live:
        assert [len(part) for part in state] == [len(live)] * 3
        assert world.frames[:, 0, 0, :2].tolist() == [[step, seed - 1000] for seed in live]
        np.testing.assert_allclose(state[0], world.frames[:, 0, 0, :2] / 8, atol=1e-6)
        state, reward, done = world.step(np.zeros((len(live), 1), np.float32))
        assert reward.tolist() == [10 * step + 1000 * (seed - 1000) for seed in live]
        step += 1
        assert done.tolist() == [step == 2 + seed % 7 for seed in live]
        live = [seed for seed, over in zip(live, done, strict=True) if not over]
    assert step == max(2 + seed % 7 for seed in SEEDS)


def test_a_world_can_be_used_again(rng):
    """Catches memory, noise or rows left over from the episodes before."""
    controller = Controller("zch", 2, 4, 1, bias=False)
    policy = random_parameters(rng, controller, 3)
    world = encoded.EncodedGames(games.Games([CountingGame() for _ in range(3)]), PaintedV(0.0), random_rnn(rng))
    first, second = (
        rollouts.rollout(world, rollouts.Candidates(controller, policy), [1003, 1001, 1002])[0] for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)


def test_more_episodes_than_games_are_refused():
    """Catches episodes that are silently not played."""
    with pytest.raises(ValueError, match="3 episodes for 2 games"):
        games.Games([CountingGame(), CountingGame()]).reset([1000, 1001, 1002])


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


class InThisProcess:
    """Workers whose `map` computes at once."""

    def __init__(self, world, controller):
        self.world, self.controller, self.blocks = world, controller, []

    def map(self, tasks):
        self.blocks += [(len(candidates), seeds.shape[1]) for candidates, seeds in tasks]
        return [rollouts.evaluate(self.world, self.controller, *task) for task in tasks]


@pytest.mark.parametrize("block_rows", [1, 2, 4, 7, 8, 100])
def test_evaluation_in_blocks_is_evaluation(rng, block_rows):
    """Catches results put under another candidate or seed, and blocks larger than asked for."""
    controller, seeds = Controller("z", 2, 4, 1, bias=True), np.array([1000, 1005, 1001, 1003])
    population = random_parameters(rng, controller, 5)
    world = encoded.EncodedGames(games.Games([CountingGame() for _ in range(20)]), PaintedV(-80.0), random_rnn(rng))
    returns, lengths = rollouts.evaluate(world, controller, population, seeds)
    assert lengths.tolist() == [(2 + seeds % 7).tolist()] * 5
    one = encoded.EncodedGames(games.Games([CountingGame()]), PaintedV(-80.0), world.rnn)
    alone, _ = rollouts.rollout(one, rollouts.Candidates(controller, population[3:4]), seeds[1:2])
    np.testing.assert_allclose(returns[3, 1], alone[0], rtol=1e-6)

    workers = InThisProcess(world, controller)
    in_blocks = rollouts.evaluate_in_blocks(workers, population, seeds, block_rows)
    np.testing.assert_allclose(in_blocks[0], returns, rtol=1e-6)
    np.testing.assert_array_equal(in_blocks[1], lengths)
    assert max(candidates * episodes for candidates, episodes in workers.blocks) <= block_rows

    # and where every candidate has episodes of its own
    own = np.array([np.roll(seeds, k) for k in range(5)])
    returns, lengths = rollouts.evaluate_in_blocks(workers, population, own, block_rows)
    for k in range(5):
        np.testing.assert_allclose(returns[k], np.roll(in_blocks[0][k], k), rtol=1e-6)
        np.testing.assert_array_equal(lengths[k], np.roll(in_blocks[1][k], k))


def test_features_of_play(rng):
    """Catches steps left out, rows that go on after their end, and features of another controller's play."""
    controller, seeds = Controller("zh", 2, 4, 1, bias=True), np.arange(1000, 1007)
    parameters = random_parameters(rng, controller, 2)
    world = encoded.EncodedGames(games.Games([CountingGame() for _ in seeds]), PaintedV(-80.0), random_rnn(rng))
    read = [rollouts.features_of_play(world, controller, one, seeds) for one in parameters]
    assert read[0].shape == ((2 + seeds % 7).sum(), 6)
    counter, seed = np.rint(read[0][:, :2] * 8).astype(int).T
    found = sorted(zip((seed + 1000).tolist(), counter.tolist(), strict=True))
    assert found == [(int(s), k) for s in seeds for k in range(2 + s % 7)]
    assert np.abs(read[0][:, 2:] - read[1][:, 2:]).max() > 1e-3


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


def test_the_world_and_m_know_the_action_as_the_game_receives_it(rng):
    """Catches CarRacing's raw tanh values handed to the game, or to M."""
    rnn, controller = random_rnn(rng, False, 3), Controller("z", 2, 4, 3, bias=True)
    parameters = random_parameters(rng, controller, 2)
    players = [CountingGame(), CountingGame()]
    world = encoded.EncodedGames(games.Games(players), PaintedV(-80.0), rnn)
    plain, mapped = (rollouts.Candidates(controller, parameters, f) for f in (None, lambda raw: (raw + 1) / 2))
    state = world.reset([1000, 1001])
    np.testing.assert_allclose(mapped.act(state), (plain.act(state) + 1) / 2)
    (_, h, _), *_ = world.step(mapped.act(state))
    inputs = mdnrnn.inputs_of(state[0], mapped.act(state))
    np.testing.assert_allclose(h, rnn.step(rnn.prepared(), inputs, state[1:])[0], atol=1e-6)
    np.testing.assert_allclose([game.actions[0] for game in players], mapped.act(state), atol=1e-6)


def test_recorded_episodes_hold_what_was_seen_done_and_got_at_each_step():
    """Catches a frame that belongs to the step after, and episodes mixed up as others finish."""
    written, players = {}, [CountingGame() for _ in SEEDS[:4]]
    world = games.Recorded(games.Games(players), lambda seed, *arrays: written.update({seed: arrays}))
    rollouts.rollout(world, rollouts.RandomActions(SEEDS[:4], [-1, 0], [1, 1]), SEEDS[:4])
    assert list(written) == sorted(SEEDS[:4], key=lambda seed: seed % 7)
    for game in players:
        obs, action, reward, done = written[game.seed]
        steps = np.arange(game.length)
        assert obs.dtype == np.uint8
        assert obs.shape == (game.length, 64, 64, 3)
        np.testing.assert_array_equal(obs[:, 0, 0, 0], steps)
        np.testing.assert_array_equal(obs[:, 0, 0, 1], game.seed - 1000)
        np.testing.assert_array_equal(action, game.actions)
        np.testing.assert_allclose(reward, [game.reward(step, action[step]) for step in steps])
        assert done.tolist() == [False] * (game.length - 1) + [True]
