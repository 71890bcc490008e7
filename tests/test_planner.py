"""common/agent/planner.py: the cross-entropy method on functions with a known optimum, and plans in a known model."""

import numpy as np
import pytest
import tensorflow as tf

from common.agent import planner
from common.agent.planner import Planner, Search
from common.agent.rssm import RSSM, Shape, State

SEARCH = Search(horizon=3, iterations=8, candidates=300, elite=30)
LOW, HIGH = (-1.0, 0.0), (1.0, 1.0)


def searched(target, search=SEARCH, seed=1, low=LOW, high=HIGH, seen=None, std=1.0):
    """The mean and deviation that the search for plans near `target` [N, T, A] ends with."""

    def returns_of(actions, _):
        if seen is not None:
            seen.append(actions.numpy())
        return -tf.reduce_sum(tf.square(actions - tf.constant(target, tf.float32)[:, tf.newaxis]), axis=[2, 3])

    mean = tf.zeros((len(target), search.horizon, len(low)))
    return planner.cross_entropy(returns_of, mean, tf.constant(std), low, high, search, tf.constant([seed, 0]))


def test_it_finds_a_known_optimum(rng):
    """Catches a search that keeps the worst, mixes up games, steps or parts of an action, or does not narrow."""
    target = np.stack([rng.uniform(-0.9, 0.9, (5, 3)), rng.uniform(0.1, 0.9, (5, 3))], axis=-1)
    mean, std = searched(target)
    np.testing.assert_allclose(mean, target, atol=0.05)
    assert np.max(std) < 0.1


def test_it_never_leaves_the_range_and_finds_an_optimum_on_its_edge():
    """Catches candidates that are tried outside of the range, or an optimum on the edge that is missed."""
    seen, target = [], np.full((1, 3, 2), 5.0)
    mean, _ = searched(target, seen=seen)
    tried = np.concatenate(seen)
    assert tried.shape[1:] == (300, 3, 2)
    assert tried.min(axis=(0, 1, 2)).tolist() == [-1, 0]
    assert tried.max(axis=(0, 1, 2)).tolist() == [1, 1]
    np.testing.assert_allclose(mean, 1.0, atol=0.01)


def test_the_next_normal_is_fitted_to_the_clipped_elite():
    """Catches a mean absolute deviation, division by N - 1, and a normal fitted to what was drawn before clipping."""
    search, seen = Search(horizon=2, iterations=1, candidates=40, elite=4), []
    target = np.full((2, 2, 2), 0.8)
    mean, std = searched(target, search, seen=seen)
    (tried,) = seen
    distance = np.square(tried - target[:, None]).sum(axis=(2, 3))
    for game in range(2):
        best = tried[game][np.argsort(distance[game])[:4]]
        np.testing.assert_allclose(mean[game], best.mean(axis=0), atol=1e-5)
        np.testing.assert_allclose(std[game], best.std(axis=0), atol=1e-5)


def test_a_draw_is_held_for_so_many_actions():
    """Catches a draw that is held for one action more or less, one that all plans share, a plan that is cut short."""
    seen, search = [], Search(horizon=7, iterations=2, candidates=50, elite=5, hold=3)
    searched(np.zeros((2, 7, 2)), search, low=(-9.0, -9.0), high=(9.0, 9.0), seen=seen)
    drawn = seen[0][0]  # around a mean of zero, as wide everywhere
    assert drawn.shape == (50, 7, 2)
    for first, last in ((0, 3), (3, 6), (6, 7)):
        np.testing.assert_array_equal(drawn[:, first:last], drawn[:, first : first + 1].repeat(last - first, axis=1))
    assert len(np.unique(drawn)) == 50 * 3 * 2


def test_its_deviation_is_one(rng):
    """Catches a variance where a deviation belongs: 0.3 as a variance would spread the candidates 0.55 wide."""
    seen = []
    search = Search(horizon=1, iterations=1, candidates=20_000, elite=10)
    searched(np.zeros((1, 1, 1)), search, low=(-9.0,), high=(9.0,), seen=seen, std=0.3)
    assert np.std(seen[0]) == pytest.approx(0.3, rel=4 / np.sqrt(2 * 20_000))


def test_a_game_is_planned_for_as_if_it_were_alone(rng):
    """Catches plans that depend on the other games of the batch, and a seed that is not used."""
    target = np.stack([rng.uniform(-0.9, 0.9, (4, 3)), rng.uniform(0.1, 0.9, (4, 3))], axis=-1)
    together, _ = searched(target)
    for game in range(4):
        np.testing.assert_allclose(searched(target[game : game + 1])[0][0], together[game], atol=1e-5)
    assert np.abs(searched(target, seed=2)[0] - together).max() > 1e-3


class Line:
    """A model without noise: s is a place that the action moves, the reward is that place; beyond 2 episodes end."""

    def __init__(self, end):
        self.shape = Shape(1, end, deterministic=1, stochastic=1)

    def prepared(self):
        return None

    def transition(self, weights, state, action):
        return state.h, None, state.s + action

    def sample(self, prior, noise):
        return prior

    def reward(self, weights, state):
        return state.s[:, 0]

    def end_logit(self, weights, state):
        return tf.where(state.s[:, 0] > 2, 50.0, -50.0)


def at(*places):
    return State(tf.zeros((len(places), 1)), tf.constant(places, tf.float32)[:, tf.newaxis])


def test_a_return_is_the_sum_of_rewards_until_the_end():
    """Catches a reward that is missed or counted twice, one that is counted after the end, rows of games mixed up."""
    actions = tf.constant([[[1, 1, 1], [0, 0, 0]], [[1, 1, 1], [-1, 3, 0]]], tf.float32)[..., tf.newaxis]
    noise = tf.zeros((3, 2, 1))
    endless = planner.returns_of_plans(Line(False), None, at(0, 10), actions, noise)
    np.testing.assert_allclose(endless, [[1 + 2 + 3, 0], [11 + 12 + 13, 9 + 12 + 12]])
    # the step that ends an episode brings its reward still
    mortal = planner.returns_of_plans(Line(True), None, at(0, 1), actions, noise)
    np.testing.assert_allclose(mortal, [[1 + 2 + 3, 0], [2 + 3, 0 + 3]], atol=1e-5)


def test_plans_of_a_model_avoid_its_end():
    """Catches a planner that walks into the end, does not weigh what comes after it, or leaves the range of actions."""
    search = Search(horizon=4, iterations=6, candidates=200, elite=20)
    for end, wanted in ((False, 4.0), (True, 2.0)):
        plan = Planner(Line(end), search, (-1.0,), (1.0,)).plan(at(0.0, 0.0), 3)
        assert plan.shape == (2, 4, 1)
        assert np.abs(plan).max() <= 1
        # sums of the first three steps: 3 where there is no end; below the end at 2 where there is one
        place = np.cumsum(plan[0, :, 0])
        assert place[2] == pytest.approx(3.0, abs=0.1) if not end else place[2] < 2.05
        assert place.max() <= wanted + 1.01


def test_noise_of_states_differs_between_candidates_steps_and_plans():
    """Catches one sample for all candidates, for all steps ahead, or for every decision of an episode."""
    drawn = []

    class Noted(Line):
        def sample(self, prior, noise):
            drawn.append(noise.numpy())
            return prior

    search = Search(horizon=2, iterations=2, candidates=5, elite=2)
    tf.config.run_functions_eagerly(True)
    try:
        plans = Planner(Noted(False), search, (-1.0,), (1.0,), seed=4)
        for step in (7, 7, 8):
            plans.plan(at(0.0, 1.0, 2.0), step)
    finally:
        tf.config.run_functions_eagerly(False)
    first, again, other = np.split(np.array(drawn), 3)
    assert len(first) == 4
    np.testing.assert_array_equal(first, again)
    assert not np.isin(other, first).any()
    games = first.reshape(4, 3, 5)
    np.testing.assert_array_equal(games, games[:, :1].repeat(3, axis=1))
    assert len(np.unique(games)) == 4 * 5


class Lucky(Line):
    """A model whose reward is luck alone."""

    def sample(self, prior, noise):
        return 0 * prior + noise


def test_with_shared_noise_no_plan_is_better_by_luck(monkeypatch):
    """Catches noise of its own for each plan, which selects the lucky ones, and one noise for all steps ahead."""
    found, returns_of_plans = [], planner.returns_of_plans

    def noted(*given):
        found.append(returns_of_plans(*given).numpy())
        return tf.constant(found[-1])

    monkeypatch.setattr(planner, "returns_of_plans", noted)
    tf.config.run_functions_eagerly(True)
    try:
        for shared in (False, True):
            search = Search(horizon=2, iterations=2, candidates=5, elite=2, shared_noise=shared)
            Planner(Lucky(False), search, (-1.0,), (1.0,), seed=4).plan(at(0.0, 1.0), 7)
    finally:
        tf.config.run_functions_eagerly(False)
    own, same = found[:2], found[2:]
    assert all(len(np.unique(each[0])) == 5 for each in own)
    assert all(len(np.unique(each)) == 1 for each in same)
    assert same[0][0, 0] != same[1][0, 0]


def test_the_luck_of_a_plan_is_another_one_by_a_number():
    """Catches plans of all rounds that try the same candidates."""
    plans = Planner(Line(False), Search(2, 1, 5, 2), (-1.0,), (1.0,), seed=4)
    first, other, again = (plans.plan(at(0.0), 7, luck).numpy() for luck in (0, 1, 0))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3


def test_candidates_are_drawn_anew_in_every_iteration_and_at_every_step(monkeypatch):
    """Catches candidates that are the same ones, scaled, in every iteration, or those of another step."""
    drawn, normal = [], tf.random.stateless_normal

    def noted(shape, seed):
        drawn.append(tuple(np.array(seed)))
        return normal(shape, seed)

    monkeypatch.setattr(tf.random, "stateless_normal", noted)
    tf.config.run_functions_eagerly(True)
    try:
        for seed in (4, 9):
            plans = Planner(Line(False), Search(2, 3, 5, 2), (-1.0,), (1.0,), seed)
            for step in (7, 8):
                plans.plan(at(0.0), step)
    finally:
        tf.config.run_functions_eagerly(False)
    assert len(set(drawn)) == len(drawn) == 2 * 2 * (1 + 3)


def test_a_search_begins_at_no_action_and_half_as_wide_as_the_range(monkeypatch):
    """Catches a search as wide as the range, and one that begins in the middle of a range that holds no action."""
    tried = []

    def returns_of_plans(model, weights, state, actions, noise):
        tried.append(actions.numpy())
        return tf.zeros(actions.shape[:2])

    monkeypatch.setattr(planner, "returns_of_plans", returns_of_plans)
    tf.config.run_functions_eagerly(True)
    try:
        plans = Planner(Line(False), Search(1, 1, 20_000, 2), (-1.0, 0.0, 3.0), (1.0, 6.0, 5.0))
        plans.plan(at(0.0), 1)
    finally:
        tf.config.run_functions_eagerly(False)
    np.testing.assert_array_equal(plans.width, [1, 3, 1])
    beyond = (tried[0][0, :, 0] > [0.5, 1.5, 3.5]).mean(axis=0)  # half a deviation
    np.testing.assert_allclose(beyond, 0.3085, atol=5 * 0.46 / np.sqrt(20_000))


def test_a_plan_of_an_rssm_is_worth_more_than_random_plans(rng):
    """Catches a planner that does not reach the model's rewards: state, weights or noise handed on wrongly."""
    model = RSSM(Shape(2, True, deterministic=8, stochastic=3, hidden=8, head=8, depth=1), "float32")
    for variable in model.trainable_variables:
        variable.assign(rng.normal(0, 0.6, variable.shape))
    model.biases["end_out"].assign([-3.0])
    model.biases["prior_out"].assign([0.0] * 3 + [-5.0] * 3)  # little noise, and actions that matter
    model.kernels["action"].assign(model.kernels["action"] * np.float32([[1.0]] * 3 + [[4.0]] * 2))
    states = State(tf.zeros((4, 8)), tf.constant(rng.normal(0, 1, (4, 3)), tf.float32))
    search = Search(horizon=4, iterations=6, candidates=200, elite=20)
    plan = Planner(model, search, LOW, HIGH).plan(states, 0)
    random = rng.uniform(LOW, HIGH, (4, 64, 4, 2)).astype(np.float32)
    both = tf.concat([tf.repeat(plan[:, tf.newaxis], 64, axis=1), random], axis=1)
    noise = tf.constant(np.tile(rng.standard_normal((4, 64, 3)), (1, 2, 1)), tf.float32)
    returns = planner.returns_of_plans(model, model.prepared(), states, both, noise).numpy()
    planned, random = returns[:, :64].mean(axis=1), returns[:, 64:].mean(axis=1)
    assert (planned > random + 0.5 * returns[:, 64:].std(axis=1)).all(), (planned, random)
