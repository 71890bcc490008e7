"""The heads of the MDN-RNN: what they learn is the reward, and without them nothing has changed."""

import dataclasses
import json
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from common.agent import mdnrnn, weights
from common.data import series
from common.game import find
from common.runtime import files
from common.runtime.cli import UserError
from common.runtime.settings import Pay

PAY = Pay(least=-1.0, most=6.0, fall_below=-50.0, cost=20.0, reward_weight=0.1, fall_weight=10.0)
SHAPE = mdnrnn.Shape(3, 2, 4, restart=False, heads=True)
ORDERS = ("kernel", "bias", "output_w", "output_b"), ("output_w", "output_b", "kernel", "bias")
ROWS, STEPS = 3, 6


@pytest.fixture(autouse=True)
def float32_products(monkeypatch):
    """Products in float32, whatever the processor."""
    monkeypatch.setenv("WORLDMODELS_DTYPE", "float32")


def random_rnn(rng, shape=SHAPE):
    """An MDN-RNN in which no weight is zero."""
    rnn = mdnrnn.MDNRNN(shape, "float32")
    rnn.set_weights([rng.normal(0, 0.5, variable.shape) for variable in rnn.variables])
    return rnn


def random_batch(rng):
    """A chunk as StreamBatches yields it with rewards: small ones, those beyond the range, and one end that costs."""
    mu = rng.normal(0, 1, (ROWS, STEPS + 1, 3)).astype(np.float16)
    action = rng.uniform(-1, 1, (ROWS, STEPS + 1, 2)).astype(np.float16)
    restart = (rng.random((ROWS, STEPS + 1)) < 0.2).astype(np.float32)
    reward = rng.normal(1, 4, (ROWS, STEPS + 1)).astype(np.float32)
    reward[1, 2] = -100.1
    return mu, np.full_like(mu, -40), action, restart, np.zeros(ROWS, np.float32), reward


def zero_state(hidden_size=4):
    return tuple(tf.zeros([ROWS, hidden_size]) for _ in range(2))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_head_losses_are_those_of_a_float64_loop(rng):
    """Catches a reward one step off or of the next episode, a range left out, a fall taken from the clipped reward,
    the weight on the wrong side, rows mixed with steps.
    """
    rnn, batch = random_rnn(rng), random_batch(rng)
    mu, _, action, restart, _, reward = (part.astype(np.float64) for part in batch)
    w = {name: getattr(rnn, name).numpy().astype(np.float64) for name in SHAPE.arrays}
    error, crossed = [], []
    for b in range(ROWS):
        h = c = np.zeros(4)
        for t in range(STEPS):
            h, c = h * (1 - restart[b, t]), c * (1 - restart[b, t])
            i, j, f, o = np.split(np.concatenate([mu[b, t], action[b, t], h]) @ w["kernel"] + w["bias"], 4)
            c = c * sigmoid(f + 1) + sigmoid(i) * np.tanh(j)
            h = sigmoid(o) * np.tanh(c)
            expected, logit = h @ w["heads_w"] + w["heads_b"]
            error.append((expected - min(max(reward[b, t], -1), 6)) ** 2)
            crossed.append(-10 * np.log(sigmoid(logit)) if reward[b, t] < -50 else -np.log(sigmoid(-logit)))
    noise = tf.zeros(batch[0].shape)
    *_, reward_loss, fall_loss, _ = mdnrnn.losses_of(rnn, batch, zero_state(), noise, 0.0, pay=PAY)
    np.testing.assert_allclose(reward_loss, np.mean(error), rtol=1e-5)
    np.testing.assert_allclose(fall_loss, np.mean(crossed), rtol=1e-5)


def test_what_is_trained_is_the_weighted_sum(rng):
    """Catches a head that is left out of the sum, and a weight of the reward that is 1."""
    batch, moved = random_batch(rng), {}
    for name, pay in (("whole", PAY), ("heavy", dataclasses.replace(PAY, reward_weight=0.7))):
        keras.utils.set_random_seed(1000)
        rnn = mdnrnn.MDNRNN(SHAPE, "float32")
        optimizer = keras.optimizers.SGD(1.0)
        optimizer.build(rnn.trainable_variables)
        train, _ = mdnrnn.train_step_of(rnn, optimizer, tf.distribute.get_strategy(), 0.0, pay=pay)
        before = rnn.heads_b.numpy()
        train(batch, zero_state(), np.array([1000, 1], np.int32))
        moved[name] = rnn.heads_b.numpy() - before
    clipped = np.clip(batch[5][:, :-1], -1, 6)
    np.testing.assert_allclose(moved["whole"][0], 0.1 * 2 * clipped.mean(), rtol=1e-4)  # the head expects 0 at first
    np.testing.assert_allclose(moved["heavy"][0], 7 * moved["whole"][0], rtol=1e-4)
    p, falls = sigmoid(mdnrnn.FALL_BIAS), 1 / (ROWS * STEPS)
    np.testing.assert_allclose(moved["whole"][1], 10 * falls * (1 - p) - (1 - falls) * p, rtol=1e-3)


def test_heads_are_multiplied_in_single_precision(rng):
    """Catches rewards of 8 bits where the processor multiplies bfloat16: their small differences are what counts."""
    rnn = mdnrnn.MDNRNN(SHAPE, "bfloat16")
    rnn.set_weights([rng.normal(0, 0.5, variable.shape) for variable in rnn.variables])
    hidden = rng.standard_normal((5, 4), np.float32)
    wanted = hidden.astype(np.float64) @ rnn.heads_w.numpy() + rnn.heads_b.numpy()
    np.testing.assert_allclose(np.stack(rnn.expect(rnn.prepared(), hidden), axis=1), wanted, rtol=1e-5, atol=1e-6)


def test_a_gradient_that_is_not_finite_shows_in_the_loss(rng):
    """Catches a step that breaks the weights while all its losses still look well."""
    pay, optimizer = dataclasses.replace(PAY, reward_weight=np.inf), keras.optimizers.SGD(0.1)
    train, _ = mdnrnn.train_step_of(random_rnn(rng), optimizer, tf.distribute.get_strategy(), 0.0, pay=pay)
    losses, _ = train(random_batch(rng), zero_state(), np.array([1000, 1], np.int32))
    assert np.isnan(losses).tolist() == [True, False, False, False]


def test_it_learns_what_steps_pay(rng):
    """The reward is the action, and a positive second action ends badly. Catches heads that no gradient reaches."""
    mu = np.zeros((16, 21, 3), np.float16)
    action = rng.uniform(-1, 1, (16, 21, 2)).astype(np.float16)
    reward = np.where(action[..., 1] > 0.8, -100, action[..., 0]).astype(np.float32)
    restart = np.zeros((16, 21), np.float32)
    batch = mu, np.full_like(mu, -40), action, restart, np.ones(16, np.float32), reward
    rnn = mdnrnn.MDNRNN(mdnrnn.Shape(3, 2, 16, restart=False, heads=True), "float32")
    optimizer = keras.optimizers.Adam(2e-2)
    optimizer.build(rnn.trainable_variables)
    train, _ = mdnrnn.train_step_of(rnn, optimizer, tf.distribute.get_strategy(), 0.0, pay=PAY)
    state = tuple(tf.zeros([16, 16]) for _ in range(2))
    losses = np.array([train(batch, state, np.array([1000, k], np.int32))[0] for k in range(250)])
    assert losses[-1, 2] < 0.2 * losses[0, 2]
    assert losses[-1, 3] < 0.3 * losses[0, 3]


def test_without_heads_nothing_has_changed(rng):
    """Bit for bit. Catches initial weights drawn in another order, and a loss with more terms."""
    plain, paid = (dataclasses.replace(SHAPE, heads=heads) for heads in (False, True))
    models = []
    for shape in (plain, paid):
        keras.utils.set_random_seed(1000)
        models.append(mdnrnn.MDNRNN(shape, "float32"))
    for name in plain.arrays:
        np.testing.assert_array_equal(getattr(models[0], name), getattr(models[1], name))
    assert mdnrnn.MDNRNN(mdnrnn.Shape(32, 3, 256, False)).count_params() == 422_368
    assert mdnrnn.MDNRNN(mdnrnn.Shape(32, 3, 256, False, heads=True)).count_params() == 422_368 + 2 * 257
    batch = random_batch(rng)
    without = mdnrnn.losses_of(models[0], batch[:5], zero_state(), tf.zeros(batch[0].shape), 10.0)
    with_heads = mdnrnn.losses_of(models[1], batch, zero_state(), tf.zeros(batch[0].shape), 10.0, pay=PAY)
    assert len(without) == 3
    np.testing.assert_array_equal(without[0], with_heads[0])


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("heads", [False, True])
def test_both_kinds_of_file_are_read(tmp_path, rng, order, heads):
    """Catches heads that stand elsewhere than at the end, or are lost; and a file of four arrays that is refused."""
    path, shape = str(tmp_path / "rnn.json"), dataclasses.replace(SHAPE, heads=heads)
    rnn = random_rnn(rng, shape)
    weights.write_rnn(path, rnn, order)
    content = json.loads(pathlib.Path(path).read_text())
    assert [np.shape(array) for array in content[:4]] == [shape.arrays[name] for name in order]
    assert [np.shape(array) for array in content[4:]] == [(4, 2), (2,)] * heads
    again = weights.read_rnn(path, order, 3, 2, False)
    assert again.shape == shape
    for name in shape.arrays:
        assert np.abs(getattr(again, name).numpy() - getattr(rnn, name).numpy()).max() <= 0.5001e-4


def test_a_file_of_five_arrays_is_named(tmp_path, rng):
    """Catches half a head, which no MDN-RNN has."""
    path = str(tmp_path / "rnn.json")
    weights.write_rnn(path, random_rnn(rng), ORDERS[0])
    files.write_json(path, json.loads(pathlib.Path(path).read_text())[:5])
    with pytest.raises(UserError, match="5 arrays, not 4"):
        weights.read_rnn(path, ORDERS[0], 3, 2, False)


@pytest.mark.parametrize(("heads_before", "heads_now"), [(False, True), (True, False), (True, True)])
def test_training_goes_on_from_either_kind(tmp_path, rng, heads_before, heads_now):
    """Catches an earlier MDN-RNN refused for want of heads, and heads not taken over from one that has them."""
    path = str(tmp_path / "rnn.json")
    earlier = random_rnn(rng, dataclasses.replace(SHAPE, heads=heads_before))
    weights.write_rnn(path, earlier, ORDERS[0])
    rnn = mdnrnn.MDNRNN(dataclasses.replace(SHAPE, heads=heads_now), "float32")
    weights.rnn_start_from(path, rnn, ORDERS[0])
    for name in ORDERS[0] + (mdnrnn.HEADS if heads_before and heads_now else ()):
        np.testing.assert_allclose(getattr(rnn, name), getattr(earlier, name), atol=1e-4)
    if heads_now and not heads_before:
        np.testing.assert_array_equal(rnn.heads_b, [0, mdnrnn.FALL_BIAS])


def small_series(tmp_path, rng, unpaid=0):
    """Two episodes of 30 frames, in which the reward is the number of the frame."""
    reward = np.arange(60, dtype=np.float32)
    reward[:unpaid] = np.nan
    arrays = {name: rng.normal(0, 1, (60, 3)).astype(np.float16) for name in ("mu", "logvar")}
    path = str(tmp_path / "series.npz")
    files.write_npz(
        path,
        **arrays,
        action=np.zeros((60, 2), np.float16),
        reward=reward,
        done=np.zeros(60, bool),
        length=np.array([30, 30], np.int32),
        recording=np.array(["2000", "2001"]),
        bytes=np.array([1, 1]),
    )
    return series.Series(path)


def test_chunks_carry_the_rewards_of_their_frames(tmp_path, rng):
    """Catches rewards in another order than the frames, of either kind of batches."""
    data = small_series(tmp_path, rng)
    old, new = data.split(1)
    for batches in (
        series.StreamBatches(data, 2, 8, 1000, rewards=True),
        series.MixedBatches(old, new, 0.5, 2, 8, 1000, rewards=True),
    ):
        for chunk in batches.dataset(0, 5):
            mu, _, _, _, _, reward = (part.numpy() for part in chunk)
            np.testing.assert_array_equal(mu, data.mu[reward.astype(int)])
            assert reward.dtype == np.float32
    assert len(next(series.StreamBatches(data, 2, 8, 1000).chunks())) == 5


def test_recordings_without_rewards_are_refused(tmp_path, rng):
    """Catches NaN that is trained on until the loss is NaN."""
    data = small_series(tmp_path, rng, unpaid=3)
    with pytest.raises(UserError, match="3 of 60 recorded steps hold no reward"):
        series.StreamBatches(data, 2, 8, 1000, rewards=True)
    series.StreamBatches(data, 2, 8, 1000)


def test_a_game_that_does_not_say_what_heads_learn_is_named():
    """Catches a traceback where Doom is given --heads."""
    with pytest.raises(UserError, match="--heads: Doom"):
        _ = find("doomrnn").pay
    assert find("carracing").pay.fall_below == -50
