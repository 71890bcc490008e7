"""common/agent/network.py: the network, its heads, and the linear controller that can be under it."""

import itertools
import types

import numpy as np
import pytest
import tensorflow as tf

from common.agent import network
from common.runtime import settings
from common.runtime.cli import UserError

CHOICES = ((-1.0,), (0.0,), (1.0,))
DOOM = types.SimpleNamespace(
    CHOICES=CHOICES, ACTION_SIZE=1, ACTION_LOW=(-1.0,), ACTION_HIGH=(1.0,), CONTROLLER_BIAS=False
)
CAR = types.SimpleNamespace(
    ACTION_SIZE=3, ACTION_LOW=(-1.0, 0.0, 0.0), ACTION_HIGH=(1.0, 1.0, 1.0), CONTROLLER_BIAS=True
)


@pytest.fixture(autouse=True)
def exact(monkeypatch):
    """Products in float32, so that what is expected holds on every processor."""
    monkeypatch.setenv("WORLDMODELS_DTYPE", "float32")


def test_a_network_is_a_float64_loop_over_its_flat_vector(rng):
    """Catches a bias behind its weight, a weight by columns, and a tanh too many or too few."""
    net = network.Network((3, 5, 4, 2))
    assert net.parameters == 4 * 5 + 6 * 4 + 5 * 2
    flat, x = rng.normal(size=net.parameters).astype(np.float32), rng.normal(size=(7, 3)).astype(np.float32)
    expected, start = x.astype(float), 0
    for k, (inputs, outputs) in enumerate(itertools.pairwise(net.sizes)):
        bias, weight = np.split(flat[start : start + outputs * (1 + inputs)].astype(float), [outputs])
        expected = (np.tanh(expected) if k else expected) @ weight.reshape(inputs, outputs) + bias
        start += outputs * (1 + inputs)
    np.testing.assert_allclose(net(net.unpack(flat), x), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(network.pack(net.unpack(tf.constant(flat))), flat)


def test_a_new_network_is_undecided_whatever_its_size():
    """Catches units that saturate where they read much, and a last layer that prefers an action."""
    net = network.Network((400, 100, 50, 3))
    for last in (0.0, 0.5):
        parts = net.unpack(net.initial(np.random.default_rng(1), last))
        assert not any(bias.any() for bias, _ in parts)
        spread = [weight.std() * np.sqrt(len(weight)) for _, weight in parts]
        np.testing.assert_allclose(spread, [1, 1, last], rtol=0.25)


def test_folded_layers_read_features_as_they_are(rng):
    """Catches a mean or a scale on the wrong side, and an opposite that is none."""
    net = network.Network((3, 5, 2))
    layers = net.unpack(tf.constant(rng.normal(size=net.parameters), tf.float32))
    x, mean, scale = (tf.constant(part, tf.float32) for part in (rng.normal(size=(7, 3)), [1, -2, 3], [0.5, 2, 4]))
    folded = network.folded(layers, mean, scale)
    np.testing.assert_allclose(net(folded, x), net(layers, (x - mean) * scale), rtol=1e-4, atol=1e-5)
    back = network.unfolded(folded, mean, scale)
    np.testing.assert_allclose(network.pack(back), network.pack(layers), rtol=1e-4, atol=1e-5)


def test_a_continuous_action_stays_in_its_range_and_reaches_its_ends():
    """Catches a range of -1 to 1 for the gas of a car, and one that no action comes to the ends of."""
    head = network.SquashedNormal(CAR.ACTION_LOW, CAR.ACTION_HIGH)
    outputs = np.repeat(np.float32([[-9], [0], [9]]), 6, axis=1)
    action = head.best(outputs)
    np.testing.assert_allclose(action, [CAR.ACTION_LOW, [0, 0.5, 0.5], CAR.ACTION_HIGH], atol=1e-5)
    drawn = head.action_of(head.draw(np.zeros((10_000, 6), np.float32), [1000, 1])).numpy()
    assert (drawn >= CAR.ACTION_LOW).all()
    assert (drawn <= CAR.ACTION_HIGH).all()
    assert (drawn.min(axis=0) < [-0.5, 0.25, 0.25]).all()
    assert (drawn.max(axis=0) > [0.5, 0.75, 0.75]).all()


def test_the_best_continuous_action_is_the_expected_one(rng):
    """Over 100,000 draws, within five standard errors. Catches the action of the mean, which does not brake."""
    head = network.SquashedNormal(CAR.ACTION_LOW, CAR.ACTION_HIGH, [False, False, True])
    outputs = np.float32([[0.4, -0.2, -0.9, 1, -1, 3]])
    drawn = head.action_of(head.draw(outputs.repeat(100_000, 0), [1000, 1])).numpy()
    error = drawn.std(axis=0) / np.sqrt(len(drawn))
    assert (np.abs(head.best(outputs)[0] - drawn.mean(axis=0)) < 5 * error).all()
    assert np.abs(head.action_of(outputs[:, :3])[0, 2] - drawn.mean(axis=0)[2]) > 50 * error[2]


def test_the_standard_deviation_of_a_continuous_action_is_bounded():
    """Catches a policy that stops exploring for good, or that explodes, as its outputs grow."""
    head = network.SquashedNormal([-1.0], [1.0])
    entropy = head.entropy(np.float32([[0, -99], [0, 99]])) - 0.5 * np.log(2 * np.pi * np.e)
    np.testing.assert_allclose(entropy, [-3, 0.5], atol=1e-5)


@pytest.mark.parametrize("head", [network.Choice(CHOICES), network.SquashedNormal([-1, 0], [1, 1])])
def test_entropy_and_divergence_are_means_of_log_probabilities(head, rng):
    """Over 100,000 draws, within five standard errors. Catches the wrong direction of the divergence."""
    one, other = (np.repeat(rng.normal(size=(1, head.outputs)), 100_000, axis=0).astype(np.float32) for _ in range(2))
    drawn = head.draw(one, [1000, 1])
    logs = head.log_prob(one, drawn).numpy()
    ratio = logs - head.log_prob(other, drawn).numpy()
    assert abs(head.entropy(one)[0] + logs.mean()) < 5 * logs.std() / np.sqrt(len(logs))
    assert abs(head.divergence(one, other)[0] - ratio.mean()) < 5 * ratio.std() / np.sqrt(len(ratio))


def test_a_linear_controller_under_a_network_presses_the_buttons_of_its_game(rng):
    """Catches left for right, another threshold or sharpness, and a network that is not added."""
    from doomrnn import config, doomreal

    weight, x = rng.normal(size=6), rng.normal(size=(500, 6)).astype(np.float32)
    policy = network.policy_for(config, 6, "4", weight)
    zeros = policy.network.unpack(np.zeros(policy.network.parameters, np.float32))
    action = policy.head.best(policy.outputs(zeros, x)).numpy()
    pressed = [doomreal.buttons(np.tanh(row @ weight)) for row in x]
    assert [doomreal.buttons(row[0]) for row in action] == pressed
    assert len({tuple(row) for row in pressed}) == 3
    u = np.tanh(x @ weight)
    logits = 5 * np.stack([-u - 1 / 3, 0 * u, u - 1 / 3], axis=1)
    np.testing.assert_allclose(policy.outputs(zeros, x), logits, atol=1e-4)
    other = policy.network.unpack(rng.normal(size=policy.network.parameters).astype(np.float32))
    added = policy.outputs(other, x) - policy.outputs(zeros, x)
    np.testing.assert_allclose(added, policy.network(other, x), rtol=1e-3, atol=1e-4)


def test_a_linear_controller_with_a_bias_chooses_by_it(rng):
    """Catches a bias read as a weight, and one that is left out; more than one number chooses by none of them."""
    biased = types.SimpleNamespace(**{**vars(DOOM), "CONTROLLER_BIAS": True})
    flat, x = np.r_[0.9, rng.normal(size=4)], rng.normal(size=(50, 4)).astype(np.float32)
    assert network.base_size(biased, 4) == len(flat)
    policy = network.policy_for(biased, 4, "5", flat)
    zeros = policy.network.unpack(np.zeros(policy.network.parameters, np.float32))
    u = np.tanh(x @ flat[1:] + flat[0])
    logits = 5 * np.stack([-u - 1 / 3, 0 * u, u - 1 / 3], axis=1)
    np.testing.assert_allclose(policy.outputs(zeros, x), logits, atol=1e-4)
    two = types.SimpleNamespace(**{**vars(DOOM), "ACTION_SIZE": 2, "CHOICES": ((-1.0, 0.0), (0.0, 0.0), (1.0, 1.0))})
    with pytest.raises(UserError, match="three choices of one number"):
        network.policy_for(two, 4, "5", np.zeros(8))


def test_the_quadrature_of_the_expected_action_errs_as_little_as_its_docstring_says():
    """Catches fewer nodes, or a claim that the expected action is exact."""
    head = network.SquashedNormal([0.0], [1.0], [True])
    means, grid = np.linspace(-3, 3, 61), np.linspace(-10, 10, 20_001)
    density = np.exp(-(grid**2) / 2) / np.exp(-(grid**2) / 2).sum()
    for std, least, most in ((np.exp(0.5), 1e-3, 3.2e-3), (1.0, 5e-5, 1.5e-4)):
        share = (np.log(std) + 3) / 3.5
        logstd = 99.0 if share > 0.999 else np.log(share / (1 - share))
        found = head.best(np.stack([means, np.full(61, logstd)], axis=1).astype(np.float32)).numpy()[:, 0]
        exact = ((np.tanh(means[:, None] + std * grid) + 1) / 2) ** 3 @ density
        assert least < np.abs(found - exact).max() < most


def test_the_parameters_of_a_file_tell_whether_a_linear_controller_is_under_the_network():
    """Catches weights of the network taken for a linear controller, or a file of other layers accepted."""
    alone = network.policy_for(DOOM, 4, "5")
    assert network.policy_of(DOOM, 4, "5", np.zeros(alone.parameters)).base is None
    under = network.policy_of(DOOM, 4, "5", np.r_[np.zeros(alone.parameters), 9, 0, 0, 0])
    assert under.parameters == alone.parameters + 4
    read = np.float32([[1, 0, 0, 0]])
    np.testing.assert_array_equal(under.head.best(under.outputs(under.network.unpack(np.zeros(99)), read)), [[1]])
    for count in (alone.parameters - 1, alone.parameters + 1, alone.parameters + 5, 0):
        with pytest.raises(UserError, match=rf"^{count} parameters do not fit layers of 4, 5, 3"):
            network.policy_of(DOOM, 4, "5", np.zeros(count))
    car = network.policy_for(CAR, 4, "5").parameters
    assert network.policy_of(CAR, 4, "5", np.zeros(car + 3 * 5)).base is not None
    for shape in ((), (1, alone.parameters)):
        with pytest.raises(UserError, match="parameters do not fit"):
            network.policy_of(DOOM, 4, "5", np.zeros(shape))


@pytest.mark.parametrize("hidden", ["0", "8,0", "-1", "many", "8;4", "2.5"])
def test_hidden_layers_that_are_none_are_named(hidden):
    """Catches a layer without units, with which every action is the same, and a traceback."""
    with pytest.raises(UserError, match=rf"hidden layers {hidden}: give"):
        settings.units_of(hidden)


def test_hidden_layers_are_read():
    """Catches layers in another order; none at all is a linear policy."""
    assert settings.units_of("128,64") == (128, 64)
    assert settings.units_of("") == ()


def test_the_head_of_a_game_is_that_of_its_actions():
    """Catches continuous actions in a game with three choices, and the reverse."""
    assert network.policy_for(DOOM, 4, "8").network.sizes == (4, 8, 3)
    assert network.policy_for(CAR, 4, "8").network.sizes == (4, 8, 6)
