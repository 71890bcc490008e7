"""common/worlds/encoded.py: what the agent sees, does and remembers in games that paint their step counter."""

import numpy as np
import pytest
import tensorflow as tf

from common.agent import mdnrnn
from common.agent.controller import Controller
from common.worlds import candidates, encoded, games, rollouts

from counting import SEEDS, CountingGame
from painted import PaintedV, random_parameters, random_rnn


@pytest.mark.parametrize(("restart", "action_size"), [(True, 1), (False, 3)])
def test_observation_action_memory_and_reward_line_up(rng, restart, action_size):
    """Catches an action on the frame before or after, M a step early or late, rows mixed up as others leave."""
    rnn, controller = random_rnn(rng, restart, action_size), Controller("zch", 2, 4, action_size, bias=True)
    parameters = random_parameters(rng, controller, len(SEEDS))
    players = [CountingGame() for _ in range(len(SEEDS) + 2)]
    world = encoded.EncodedGames(games.Games(players), PaintedV(-80.0), rnn)
    returns, lengths = rollouts.rollout(world, candidates.Candidates(controller, parameters), SEEDS)
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
    """Catches any row that depends on its neighbors: V's noise drawn for the batch, finished rows mixed up."""
    rnn, controller = random_rnn(rng), Controller("zh", 2, 4, 1, bias=True)
    parameters = random_parameters(rng, controller, len(SEEDS))

    def play(rows):
        world = encoded.EncodedGames(games.Games([CountingGame() for _ in rows]), PaintedV(0.0), rnn)
        return rollouts.rollout(world, candidates.Candidates(controller, parameters[rows]), [SEEDS[k] for k in rows])

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
    """Catches a dead row that is still seen, frames of other rows than those that go on, and an h without the dead."""
    world = encoded.EncodedGames(games.Games([CountingGame() for _ in SEEDS]), PaintedV(-80.0), random_rnn(rng))
    live, step, state = list(SEEDS), 0, world.reset(SEEDS)
    while live:
        assert [len(part) for part in state] == [len(live)] * 3
        assert world.frames[:, 0, 0, :2].tolist() == [[step, seed - 1000] for seed in live]
        np.testing.assert_allclose(state[0], world.frames[:, 0, 0, :2] / 8, atol=1e-6)
        memory, action = state[1:], np.zeros((len(live), 1), np.float32)
        inputs = mdnrnn.inputs_of(state[0], action, np.full(len(live), float(step == 0), np.float32))
        state, reward, done = world.step(action)
        np.testing.assert_allclose(world.hidden, world.rnn.step(world.rnn.prepared(), inputs, memory)[0], atol=1e-6)
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
        rollouts.rollout(world, candidates.Candidates(controller, policy), [1003, 1001, 1002])[0] for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)


def test_the_world_and_m_know_the_action_as_the_game_receives_it(rng):
    """Catches CarRacing's raw tanh values handed to the game, or to M."""
    rnn, controller = random_rnn(rng, False, 3), Controller("z", 2, 4, 3, bias=True)
    parameters = random_parameters(rng, controller, 2)
    players = [CountingGame(), CountingGame()]
    world = encoded.EncodedGames(games.Games(players), PaintedV(-80.0), rnn)
    plain, mapped = (candidates.Candidates(controller, parameters, f) for f in (None, lambda raw: (raw + 1) / 2))
    state = world.reset([1000, 1001])
    np.testing.assert_allclose(mapped.act(state), (plain.act(state) + 1) / 2)
    (_, h, _), *_ = world.step(mapped.act(state))
    inputs = mdnrnn.inputs_of(state[0], mapped.act(state))
    np.testing.assert_allclose(h, rnn.step(rnn.prepared(), inputs, state[1:])[0], atol=1e-6)
    np.testing.assert_allclose([game.actions[0] for game in players], mapped.act(state), atol=1e-6)
