"""Dropout in the MDN-RNN: one mask for a whole chunk or a whole dream, on what predicts and on nothing else."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from common.agent import mdnrnn
from common.worlds import dream

SHAPE = mdnrnn.Shape(3, 1, 4, restart=True)


def random_rnn(rng):
    """An MDN-RNN with narrow mixtures of one component, so that a prediction shows in the next z; dreams do not end."""
    rnn = mdnrnn.MDNRNN(SHAPE, "float32")
    kernel, bias, output_w, output_b = (rng.normal(0, 1, variable.shape) for variable in rnn.variables)
    by_dimension = output_w[:, 1:].reshape(4, 3, 3, 5), output_b[1:].reshape(3, 3, 5)  # [.., Z, kind, K]
    for part in by_dimension:
        part[..., 0, :], part[..., 2, :] = 0, 0
    by_dimension[1][:, 0, 0], by_dimension[1][:, 2, :] = 80, -12
    output_b[0], output_w[:, 0] = -100, 0
    rnn.set_weights([kernel, bias, output_w, output_b])
    return rnn


@pytest.fixture
def initial_z(rng):
    return rng.normal(0, 1, (20, 3)).astype(np.float32), np.full((20, 3), -2, np.float32)


def test_a_mask_drops_its_share_and_keeps_the_mean(rng):
    """Catches the share that is kept taken for the share that is dropped, and no correction for it."""
    uniform = rng.random((400, 500), np.float32)
    for share in (0.1, 0.5, 0.8):
        mask = mdnrnn.dropout_mask(uniform, share).numpy()
        np.testing.assert_allclose(np.unique(mask), [0, 1 / (1 - share)], rtol=1e-6)
        assert abs((mask == 0).mean() - share) < 5 * np.sqrt(share * (1 - share) / mask.size)


def masks_seen(rnn, world, seeds, steps):
    """For every dream, the masks of all 16 possible ones that explain each of its steps."""
    masks = 2 * np.array(list(itertools.product([0, 1], repeat=4)), np.float32)
    weights = rnn.prepared()
    world.reset(seeds)
    fitting = np.ones((16, len(seeds)), bool)
    for step in range(steps):
        (z, h, _), _, done = world.step(np.full((len(seeds), 1), np.sin(step), np.float32))
        assert not done.any()
        mixture, _ = rnn.predict(weights, tf.reshape(masks[:, None] * h, [-1, 4]))
        predicted = np.reshape(mixture.mean[:, 0], [16, len(seeds), 3])
        fitting &= np.abs(predicted - z).max(axis=2) < 1e-3
    return fitting.T


def test_a_dream_has_one_mask_from_its_seed(rng, initial_z):
    """Catches a new mask at every step, one for all dreams, one per row, and a mask on the memory itself."""
    rnn = random_rnn(rng)
    seeds = [*range(1000, 1030), 1003, 1007]
    fitting = masks_seen(rnn, dream.DreamWorld(rnn, initial_z, 1.0, 100, dropout=0.5), seeds, 70)
    assert (fitting.sum(axis=1) == 1).all()
    mask = fitting.argmax(axis=1)
    assert len(set(mask)) > 8
    assert (mask[30], mask[31]) == (mask[3], mask[7])
    alone = masks_seen(rnn, dream.DreamWorld(rnn, initial_z, 1.0, 100, dropout=0.5), [1007], 5)
    assert alone[0, mask[7]]


def test_dreams_without_dropout_are_what_they_were_before_there_was_any(rng, initial_z):
    """Catches a draw for a mask that nobody needs: it would shift the noise of all dreams."""
    rnn, world = random_rnn(rng), None
    world = dream.DreamWorld(rnn, initial_z, 1.25, 100)
    z, h, c = world.reset([1005])
    generator = np.random.default_rng([1005, 2])
    generator.integers(20), generator.standard_normal(3, np.float32)
    shape = dream.NOISE_STEPS, 3
    uniform, normal = generator.random(shape, np.float32), generator.standard_normal(shape, np.float32)
    state, action = (z, h, c), np.full((1, 1), 0.3, np.float32)
    for step in range(5):
        restart = tf.fill([1], float(step == 0))
        noise = uniform[step : step + 1], normal[step : step + 1]
        *state, _ = dream.next_of(rnn, rnn.prepared(), state, restart, action, *noise, np.float32(1.25))
        found, *_ = world.step(action)
        for part, wanted in zip(found, state, strict=True):
            np.testing.assert_allclose(part, wanted, atol=1e-5)


def chunk(rng, rows=6, steps=9):
    """(batch, state) as training has them."""
    mu = rng.normal(0, 1, (rows, steps + 1, 3))
    restart = (rng.random((rows, steps + 1)) < 0.1).astype(float)
    batch = mu, np.full(mu.shape, -1.0), rng.normal(0, 1, (rows, steps + 1, 1)), restart, np.zeros(rows)
    state = tuple(tf.constant(rng.normal(0, 0.5, (rows, 4)), tf.float32) for _ in range(2))
    return tuple(tf.constant(part, tf.float32) for part in batch), state


def steps_of(weights, dropout):
    rnn = mdnrnn.MDNRNN(SHAPE, "float32")
    rnn.set_weights(weights)
    optimizer = keras.optimizers.SGD(0.1)
    optimizer.build(rnn.trainable_variables)
    return rnn, *mdnrnn.train_step_of(rnn, optimizer, tf.distribute.get_strategy(), 10.0, dropout)


def test_dropout_is_on_in_training_only_and_leaves_the_memory_alone(rng):
    """Catches a validation with dropout, training without it, and a mask on what the LSTM remembers."""
    weights = [rng.normal(0, 0.5, size) for size in SHAPE.arrays.values()]
    batch, state = chunk(rng)
    seed = tf.constant([7, 1])
    results = {}
    for dropout in (0.0, 0.5):
        rnn, train, evaluate = steps_of(weights, dropout)
        before = evaluate(batch, state, seed)
        results[dropout] = before, train(batch, state, seed), rnn.get_weights()
    for found, wanted in zip(tf.nest.flatten(results[0.5][0]), tf.nest.flatten(results[0.0][0]), strict=True):
        np.testing.assert_array_equal(found, wanted)
    (losses, memory), (losses_without, memory_without) = results[0.5][1], results[0.0][1]
    assert abs(losses[0] - losses_without[0]) > 1e-3
    for found, wanted in zip(memory, memory_without, strict=True):
        np.testing.assert_array_equal(found, wanted)
    for found, wanted in zip(results[0.0][1][0], results[0.0][0][0], strict=True):
        np.testing.assert_array_equal(found, wanted)  # without dropout, training sees what a validation sees
    assert any(np.abs(a - b).max() > 1e-4 for a, b in zip(results[0.5][2], results[0.0][2], strict=True))


def test_a_chunk_has_one_mask_for_each_stream_and_no_mask_is_a_mask_of_ones(rng):
    """Catches a mask that changes along the chunk, is shared by all streams, or scales what it does not drop."""
    rnn = mdnrnn.MDNRNN(SHAPE, "float32")
    rnn.set_weights([rng.normal(0, 0.5, size) for size in SHAPE.arrays.values()])
    batch, state = chunk(rng)
    noise = tf.zeros(batch[0].shape)
    plain = mdnrnn.losses_of(rnn, batch, state, noise, 10.0)
    ones = mdnrnn.losses_of(rnn, batch, state, noise, 10.0, tf.ones([6, 4]))
    for found, wanted in zip(tf.nest.flatten(ones), tf.nest.flatten(plain), strict=True):
        np.testing.assert_array_equal(found, wanted)
    mask = mdnrnn.dropout_mask(rng.random((6, 4), np.float32), 0.5)
    together = mdnrnn.losses_of(rnn, batch, state, noise, 10.0, mask, restart_z=True)[0]
    alone = []
    for row in range(6):
        one = tuple(part[row : row + 1] for part in batch), tuple(part[row : row + 1] for part in state)
        masked = mdnrnn.MDNRNN(SHAPE, "float32")  # the same mask, on the rows of the output weights
        weights = rnn.get_weights()
        weights[2] = weights[2] * mask[row].numpy()[:, None]
        masked.set_weights(weights)
        alone.append(mdnrnn.losses_of(masked, *one, noise[:1], 10.0, restart_z=True)[0])
    np.testing.assert_allclose(together, np.mean(alone), rtol=1e-5)
