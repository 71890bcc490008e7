"""common/agent/mdnrnn.py against TensorFlow Probability, Keras, numpy and autodiff."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from common.agent import mdnrnn
from common.agent.mdnrnn import MDNRNN, Mixture, Shape
from common.data.series import CUT

tfd = tfp.distributions


def random_rnn(rng, shape, dtype="float32", scale=0.5):
    """An M whose biases are not zero."""
    rnn = MDNRNN(shape, dtype)
    rnn.set_weights([rng.normal(0, scale, variable.shape) for variable in rnn.variables])
    return rnn


def random_state(rng, rows, hidden_size):
    return tuple(tf.constant(rng.normal(0, 0.5, (rows, hidden_size)), tf.float32) for _ in range(2))


def random_mixture(rng, rows, mixtures, z_size):
    parts = rng.normal(0, 1, (3, rows, mixtures, z_size)).astype(np.float32)
    return Mixture(*map(tf.constant, parts))


def stepped(rnn, weights, inputs, keep, state):
    """What `sequence` stands for: `step` after step, (hidden [T, B, H], state)."""
    hidden = []
    for t in range(len(inputs)):
        state = rnn.step(weights, inputs[t], tuple(part * keep[t][:, tf.newaxis] for part in state))
        hidden.append(state[0])
    return tf.stack(hidden), state


def stream_batch(rng, shape, rows, steps, restart_share=0.0):
    """A chunk of random (mu, logvar, action, restart, fresh) as StreamBatches yields it, z nearly free of noise."""
    mu = rng.normal(0, 1, (rows, steps + 1, shape.z_size)).astype(np.float16)
    action = rng.uniform(-1, 1, (rows, steps + 1, shape.action_size)).astype(np.float16)
    restart = (rng.random((rows, steps + 1)) < restart_share).astype(np.float32)
    return mu, np.full_like(mu, -40), action, restart, np.zeros(rows, np.float32)


@pytest.mark.parametrize(
    ("shape", "parameters"), [(Shape(32, 3, 256, False), 422_368), (Shape(64, 1, 512, True), 1_678_785)]
)
def test_parameter_count(shape, parameters):
    """Catches one mixture shared by all dimensions, a restart flag not read or not predicted."""
    assert MDNRNN(shape).count_params() == parameters


def test_log_prob_is_the_mixtures(rng):
    """Catches weights that are not normalized or with the sign inverted, sigma forced, exp(log sigma) squared."""
    mixture, z = random_mixture(rng, 40, 5, 3), rng.normal(0, 2, (40, 3)).astype(np.float32)
    by_dimension = [np.moveaxis(part.numpy(), 1, 2) for part in mixture]
    logits, mean, logstd = by_dimension
    oracle = tfd.MixtureSameFamily(tfd.Categorical(logits=logits), tfd.Normal(mean, np.exp(logstd)))
    found = mdnrnn.log_prob(mixture, z)
    assert found.shape == (40, 3)
    np.testing.assert_allclose(found, oracle.log_prob(z), rtol=2e-5, atol=1e-5)

    logits, mean, logstd = (part.astype(np.float64) for part in by_dimension)
    for n, d in np.ndindex(40, 3):
        pi = np.exp(logits[n, d]) / np.exp(logits[n, d]).sum()
        sigma = np.exp(logstd[n, d])
        density = pi * np.exp(-((z[n, d] - mean[n, d]) ** 2) / (2 * sigma**2)) / np.sqrt(2 * np.pi * sigma**2)
        np.testing.assert_allclose(found[n, d], np.log(density.sum()), rtol=2e-5, atol=1e-5)


def test_log_prob_far_from_every_component_is_finite(rng):
    """Catches the logarithm of a sum of densities that have all become 0: the exploding mixture loss."""
    mixture = random_mixture(rng, 4, 5, 3)
    assert np.isfinite(mdnrnn.log_prob(mixture, np.full((4, 3), 1e4, np.float32))).all()


@pytest.mark.parametrize("temperature", [1.0, 1.3])
def test_samples_have_the_tempered_mixtures_moments(rng, temperature):
    """Catches tau (or no tau) where sqrt(tau) belongs, logits multiplied by tau, a mean with another's sigma."""
    draws = 200_000
    logits, mean, logstd = (part[0].numpy().astype(np.float64) for part in random_mixture(rng, 1, 5, 3))
    mixture = Mixture(
        *(tf.tile(tf.constant(part[np.newaxis], tf.float32), [draws, 1, 1]) for part in (logits, mean, logstd))
    )
    uniform, normal = rng.random((draws, 3), np.float32), rng.standard_normal((draws, 3), np.float32)
    z = mdnrnn.sample(mixture, temperature, uniform, normal).numpy().astype(np.float64)

    def moments(sigma, logits):
        pi = np.exp(logits) / np.exp(logits).sum(0)
        center = (pi * mean).sum(0)
        d = mean - center
        fourth = (pi * (d**4 + 6 * d**2 * sigma**2 + 3 * sigma**4)).sum(0)
        return center, (pi * (d**2 + sigma**2)).sum(0), fourth

    center, variance, fourth = moments(np.exp(logstd) * np.sqrt(temperature), logits / temperature)
    tolerance = 5 * np.sqrt((fourth - variance**2) / draws)  # five standard errors of a variance
    np.testing.assert_array_less(np.abs(z.mean(0) - center), 5 * np.sqrt(variance / draws))
    np.testing.assert_array_less(np.abs(z.var(0) - variance), tolerance)
    if temperature != 1:
        _, feared, _ = moments(np.exp(logstd) * temperature, logits / temperature)
        assert (np.abs(feared - variance) > 3 * tolerance).any(), "too few draws to tell tau from sqrt(tau)"


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.3])
def test_components_are_chosen_as_often_as_their_tempered_weights_say(rng, temperature):
    """Catches weights that are not tempered, and cumulative sums that are off by one component."""
    draws, logits = 200_000, rng.normal(0, 1, (5, 2)).astype(np.float32)
    means = np.tile(np.float32([-20, -10, 0, 10, 20])[:, np.newaxis], [1, 2])
    parts = (logits, means, np.full((5, 2), -3, np.float32))
    mixture = Mixture(*(tf.tile(tf.constant(part[np.newaxis]), [draws, 1, 1]) for part in parts))
    z = mdnrnn.sample(
        mixture, temperature, rng.random((draws, 2), np.float32), rng.standard_normal((draws, 2), np.float32)
    )
    chosen = np.rint(z.numpy() / 10).astype(int) + 2
    expected = tfd.Categorical(logits=logits.T / temperature).probs_parameter().numpy()
    for d in range(2):
        frequency = np.bincount(chosen[:, d], minlength=5) / draws
        np.testing.assert_array_less(
            np.abs(frequency - expected[d]), 5 * np.sqrt(expected[d] * (1 - expected[d]) / draws)
        )


def test_no_sum_depends_on_which_memory_is_free(rng):
    """Catches dreams that differ from run to run: AddN begins with whichever input nobody else still reads.

    Where a draw falls between two components to the last bit, the order decided which of them it was.
    """

    @tf.function
    def drawn(logmix, uniform):
        return mdnrnn.sample(Mixture(logmix, logmix, logmix), 1.25, uniform, uniform)

    graph = drawn.get_concrete_function(tf.TensorSpec([16, 5, 64]), tf.TensorSpec([16, 64])).graph
    assert "AddN" not in {operation.type for operation in graph.get_operations()}


def test_sample_at_the_edges_of_the_uniform_draw(rng):
    """Catches a component without weight chosen at uniform 0, or none at all just below 1."""
    logits = np.float32([-1e4, 0, 0, 0, -1e4]).reshape(1, 5, 1)
    mixture = Mixture(logits, np.arange(5, dtype=np.float32).reshape(1, 5, 1), np.full((1, 5, 1), -20, np.float32))
    for uniform, component in ((0.0, 1), (np.nextafter(np.float32(1), np.float32(0)), 3)):
        z = mdnrnn.sample(mixture, 1.0, np.full((1, 1), uniform, np.float32), np.zeros((1, 1), np.float32))
        assert float(z[0, 0]) == component


def test_step_is_keras_lstm_with_gates_reordered(rng):
    """Catches gates in another order, a forgotten or stored forget bias, h and inputs swapped in the kernel's rows."""
    rnn = random_rnn(rng, Shape(3, 2, 4, True))
    kernel, bias = rnn.kernel.numpy(), rnn.bias.numpy()
    i, j, f, o = np.split(np.concatenate([kernel, bias[np.newaxis]]), 4, axis=1)
    f[-1] += 1
    reordered = np.concatenate([i, f, j, o], axis=1)
    lstm = keras.layers.LSTM(4, return_sequences=True, return_state=True, unit_forget_bias=False)
    inputs, state = rng.normal(0, 1, (5, 2, 6)).astype(np.float32), random_state(rng, 2, 4)
    lstm.build((2, 5, 6))
    lstm.set_weights([reordered[:6], reordered[6:10], reordered[10]])
    expected, _, last_c = lstm(np.moveaxis(inputs, 0, 1), initial_state=state)
    hidden, (_, c) = stepped(rnn, rnn.prepared(), inputs, tf.ones([5, 2]), state)
    np.testing.assert_allclose(hidden, np.moveaxis(expected.numpy(), 0, 1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(c, last_c, rtol=1e-5, atol=1e-6)


def test_sequence_and_its_gradients_are_those_of_repeated_steps(rng):
    """Catches a term lost in the handwritten backpropagation, also through restarts and the carried state."""
    rnn = random_rnn(rng, Shape(3, 1, 5, True))
    inputs, state = tf.constant(rng.normal(0, 1, (7, 4, 5)), tf.float32), random_state(rng, 4, 5)
    keep = np.ones((7, 4), np.float32)
    keep[0, 0] = keep[3, 1] = keep[2:4, 2] = keep[6, 3] = 0
    pull = [tf.constant(rng.normal(0, 1, shape), tf.float32) for shape in ((7, 4, 5), (4, 5), (4, 5))]

    def run(sequence):
        with tf.GradientTape() as tape:
            hidden, (h, c) = sequence(rnn.prepared(), inputs, tf.constant(keep), state)
            loss = sum(tf.reduce_sum(a * b) for a, b in zip((hidden, h, c), pull, strict=True))
        return hidden, h, c, *tape.gradient(loss, [rnn.kernel, rnn.bias])

    expected = run(lambda *arguments: stepped(rnn, *arguments))
    for compiled in (run, tf.function(run)):
        for found, wanted in zip(compiled(rnn.sequence), expected, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_bfloat16_products_stay_near_float32(rng):
    """Catches activations, states, biases or sums kept in bfloat16: errors would grow over the 50 steps."""
    shape = Shape(8, 2, 32, True)
    exact, fast = random_rnn(rng, shape, "float32", 0.2), MDNRNN(shape, "bfloat16")
    fast.set_weights(exact.get_weights())
    np.testing.assert_array_equal(np.sort(fast.prepared().mixture_b), np.sort(exact.output_b[1:]))
    inputs, state = tf.constant(rng.normal(0, 1, (50, 4, 11)), tf.float32), random_state(rng, 4, 32)
    results = []
    for rnn in (exact, fast):
        with tf.GradientTape() as tape:
            weights = rnn.prepared()
            hidden, (h, c) = rnn.sequence(weights, inputs, tf.ones([50, 4]), state)
            mixture, restart = rnn.predict(weights, hidden[-1])
            loss = tf.reduce_mean(hidden**2) + tf.reduce_mean(restart)
        results.append([hidden, h, c, *mixture, restart, *tape.gradient(loss, rnn.trainable_variables)])
    for near, true in zip(results[1], results[0], strict=True):
        assert near.dtype == tf.float32
        assert np.sqrt(np.mean((near - true) ** 2)) < 0.02 * np.sqrt(np.mean(true**2))


def test_losses_are_those_of_the_prediction_one_step_ahead(rng):
    """Catches targets off by a step, the restart flag not read, a sum where the mean belongs, a weight on all steps."""
    shape = Shape(3, 2, 4, True)
    rnn, state = random_rnn(rng, shape), random_state(rng, 5, 4)
    mu, logvar, action, restart, fresh = stream_batch(rng, shape, 5, 6, restart_share=0.3)
    logvar, noise = rng.normal(-2, 1, mu.shape).astype(np.float16), rng.standard_normal(mu.shape, np.float32)
    z = mu.astype(np.float32) + np.exp(logvar.astype(np.float32) / 2) * noise
    inputs = np.concatenate([z, action, restart[..., np.newaxis]], axis=2).astype(np.float32)
    weights, nats, entropies = rnn.prepared(), [], []
    h, c = state
    for t in range(6):
        h, c = rnn.step(weights, inputs[:, t], (h * (1 - restart[:, t, None]), c * (1 - restart[:, t, None])))
        mixture, logit = rnn.predict(weights, h)
        nats.append(-mdnrnn.log_prob(mixture, z[:, t + 1]))
        p = 1 / (1 + np.exp(-logit.numpy().astype(np.float64)))
        entropies.append(np.where(restart[:, t + 1] == 1, -10 * np.log(p), -np.log(1 - p)))
    z_loss, restart_loss, (new_h, new_c) = mdnrnn.losses_of(
        rnn, (mu, logvar, action, restart, fresh), state, noise, restart_weight=10.0, restart_z=True
    )
    np.testing.assert_allclose(z_loss, np.mean(nats), rtol=1e-5)
    np.testing.assert_allclose(restart_loss, np.mean(entropies), rtol=1e-5)
    np.testing.assert_allclose(new_h, h, atol=1e-6)
    np.testing.assert_allclose(new_c, c, atol=1e-6)


@pytest.mark.parametrize("has_restart", [True, False])
def test_two_chunks_with_the_state_carried_are_one_long_chunk(rng, has_restart):
    """Catches a state that is dropped or taken a step too early, and a column skipped at the seam."""
    shape = Shape(3, 2, 4, has_restart)
    rnn, state = random_rnn(rng, shape), random_state(rng, 5, 4)
    *columns, fresh = stream_batch(rng, shape, 5, 8)
    if has_restart:
        columns[3] = (rng.random((5, 9)) < 0.3).astype(np.float32)
    noise = rng.standard_normal((5, 9, 3), np.float32)
    *whole, end = mdnrnn.losses_of(rnn, (*columns, fresh), state, noise, 10.0, restart_z=has_restart)
    halves = []
    for cut in (slice(0, 5), slice(4, 9)):
        chunk = (*(part[:, cut] for part in columns), fresh)
        *losses, state = mdnrnn.losses_of(rnn, chunk, state, noise[:, cut], 10.0, restart_z=has_restart)
        halves.append(losses)
    np.testing.assert_allclose(np.mean(halves, axis=0), whole, rtol=1e-5)
    np.testing.assert_allclose(state, end, atol=1e-6)


def test_a_fresh_epoch_and_a_restart_forget_the_past(rng):
    """Catches a state carried into another epoch or episode."""
    shape = Shape(3, 2, 4, True)
    rnn, noise = random_rnn(rng, shape), np.zeros((5, 7, 3), np.float32)
    mu, logvar, action, restart, fresh = stream_batch(rng, shape, 5, 6)

    def end_of(state, fresh, restart, mu=mu):
        return mdnrnn.losses_of(rnn, (mu, logvar, action, restart, fresh), state, noise, 10.0)[2]

    zero, past = rnn.initial_state(5), random_state(rng, 5, 4)
    assert np.abs(end_of(past, fresh, restart)[0] - end_of(zero, fresh, restart)[0]).max() > 1e-3
    np.testing.assert_array_equal(end_of(past, fresh + 1, restart), end_of(zero, fresh, restart))
    restart[:, 3] = 1
    other = mu.copy()
    other[:, :3] += 1
    np.testing.assert_array_equal(end_of(past, fresh, restart, other), end_of(zero, fresh, restart))


@pytest.mark.parametrize("has_restart", [True, False])
def test_a_start_after_a_cut_is_read_as_a_start_but_is_no_end(rng, has_restart):
    """Catches a cut that is learned as a death, one that is learned as a life, and a start that is read otherwise."""
    shape, steps = Shape(3, 2, 4, has_restart), 6
    rnn, state, noise = random_rnn(rng, shape), random_state(rng, 1, 4), np.zeros((1, steps + 1, 3), np.float32)
    batch = stream_batch(rng, shape, 1, steps)

    def losses(column, flag):
        batch[3][:], batch[3][:, column] = 0, flag
        return mdnrnn.losses_of(rnn, batch, state, noise, 10.0)

    (z_loss, _, after), (cut_z_loss, _, cut_after) = losses(3, 1), losses(3, CUT)
    assert z_loss == cut_z_loss
    np.testing.assert_array_equal(after, cut_after)
    if has_restart:
        end, cut, life = (float(losses(steps, flag)[1]) for flag in (1, CUT, 0))
        assert np.exp(-(end - cut) * steps / 10) + np.exp(-(life - cut) * steps) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(("has_restart", "restart_z"), [(True, True), (True, False), (False, False)])
def test_another_episodes_first_frame_is_a_target_only_where_it_should_be(rng, has_restart, restart_z):
    """Catches another episode's first frame as a target, and a weight of the others that depends on their number."""
    shape = Shape(3, 2, 4, has_restart)
    rnn, state, noise = random_rnn(rng, shape), random_state(rng, 5, 4), np.zeros((5, 7, 3), np.float32)
    mu, logvar, action, restart, fresh = stream_batch(rng, shape, 5, 6)
    restart[:2, -1] = 1

    def z_loss(mu, rows=slice(None), steps=7):
        batch = [part[rows, :steps] for part in (mu, logvar, action, restart)]
        rows_state = tuple(part[rows] for part in state)
        batch = (*batch, fresh[rows])
        return mdnrnn.losses_of(rnn, batch, rows_state, noise[rows, :steps], 1.0, restart_z=restart_z)[0].numpy()

    other = mu.copy()
    other[:2, -1] += 5
    assert (z_loss(mu) == z_loss(other)) == (not restart_z)
    if not restart_z:
        expected = (2 * 5 * z_loss(mu, slice(0, 2), 6) + 3 * 6 * z_loss(mu, slice(2, 5))) / (5 * 6)
        np.testing.assert_allclose(z_loss(mu), expected, rtol=1e-5)


@pytest.mark.parametrize("restart_z", [True, False])
def test_first_frames_are_trained_on_if_that_is_asked_for(rng, restart_z):
    """Catches --restart_z or --no-restart_z that the loss knows and the step of the training does not hand on."""
    shape = Shape(3, 1, 6, True)
    rnn, state, batch = random_rnn(rng, shape), random_state(rng, 4, 6), stream_batch(rng, shape, 4, 5, 0.3)
    noise, optimizer = np.zeros(batch[0].shape, np.float32), keras.optimizers.SGD(0.0)
    wanted, other = (
        mdnrnn.losses_of(rnn, batch, state, noise, 1.0, restart_z=z)[0] for z in (restart_z, not restart_z)
    )
    assert abs(wanted - other) > 1e-3
    for step in mdnrnn.train_step_of(rnn, optimizer, tf.distribute.get_strategy(), 1.0, restart_z=restart_z):
        (z_loss, _), _ = step(batch, state, np.array([1000, 1], np.int32))
        assert float(z_loss) == pytest.approx(float(wanted), rel=1e-4)


def test_restart_loss_weighs_restarts_only():
    """Catches the weight on the wrong class, and a cross-entropy that overflows."""
    logit, restart = np.float32([-3, 2, -3, 2, 200, -200]), np.float32([0, 0, 1, 1, 1, 0])
    positive, negative = np.log1p(np.exp([3, -2])), np.log1p(np.exp([-3, 2]))
    expected = [*negative, *(10 * positive), 0, 0]
    np.testing.assert_allclose(mdnrnn.restart_loss(logit, restart, 10.0), expected, rtol=1e-5, atol=1e-6)


def trained(rnn, batches, rate):
    """Trains M on batches as rnn_train.py does; the losses of the last tenth."""
    optimizer = keras.optimizers.Adam(rate, clipvalue=1.0)
    train_step, _ = mdnrnn.train_step_of(rnn, optimizer, tf.distribute.get_strategy(), 10.0)
    losses = []
    for step, batch in enumerate(batches):
        state = rnn.initial_state(len(batch[0]))
        (z_loss, _), _ = train_step(batch, state, np.array([1000, step], np.int32))
        losses.append(float(z_loss))
    return np.mean(losses[-len(losses) // 10 :])


def test_m_recovers_a_known_mixture(rng):
    """Catches any loss whose minimum is not the data's distribution: softmax's sign, sigma at least 1, log sigma^2."""
    truth = tfd.MixtureSameFamily(tfd.Categorical(probs=[0.3, 0.7]), tfd.Normal([-1.0, 1.0], [0.2, 0.5]))
    rnn = MDNRNN(Shape(1, 1, 8, False), "float32")

    def batch():
        second = rng.random((64, 17, 1)) < 0.7
        z = np.where(second, rng.normal(1, 0.5, second.shape), rng.normal(-1, 0.2, second.shape)).astype(np.float16)
        zeros = np.zeros((64, 17), np.float32)
        return z, np.full_like(z, -40), np.zeros_like(z), zeros, zeros[:, 0]

    trained(rnn, (batch() for _ in range(400)), 1e-2)
    test_z = batch()[0].astype(np.float32)
    weights = rnn.prepared()
    inputs = mdnrnn.inputs_of(np.moveaxis(test_z, 0, 1)[:-1], np.zeros((16, 64, 1), np.float32))
    hidden, _ = rnn.sequence(weights, inputs, tf.ones([16, 64]), rnn.initial_state(64))
    mixture, _ = rnn.predict(weights, tf.reshape(hidden, [-1, 8]))
    grid = np.linspace(-3, 4, 1401, dtype=np.float32)
    learned = Mixture(*(part[-1:] for part in mixture))
    density = np.exp([float(mdnrnn.log_prob(learned, np.full((1, 1), z))[0, 0]) for z in grid[::7]])
    distance = 0.5 * np.sum(np.abs(density - truth.prob(grid[::7]).numpy())) * 0.035
    assert distance < 0.06  # total variation; the best single normal is at 0.28


def test_m_needs_the_right_actions_and_the_next_frame(rng):
    """Catches actions or targets shifted by a step: M would not learn z' = z/2 + action, or score the wrong z."""
    rnn = MDNRNN(Shape(1, 1, 8, False), "float32")

    def batch(rows=64, steps=16):
        action = rng.choice([-1.0, 1.0], (rows, steps + 1, 1))
        z = np.zeros((rows, steps + 1, 1))
        for t in range(steps):
            z[:, t + 1] = 0.5 * z[:, t] + action[:, t] + rng.normal(0, 0.1, (rows, 1))
        zeros = np.zeros((rows, steps + 1), np.float32)
        return z.astype(np.float16), np.full_like(z, -40, np.float16), action.astype(np.float16), zeros, zeros[:, 0] + 1

    truly = trained(rnn, (batch() for _ in range(300)), 1e-2)
    entropy = 0.5 * np.log(2 * np.pi * np.e * 0.1**2)
    assert entropy - 0.1 < truly < entropy + 0.7

    mu, logvar, action, restart, fresh = batch(256)
    state, noise = rnn.initial_state(256), np.zeros(mu.shape, np.float32)
    right = mdnrnn.losses_of(rnn, (mu, logvar, action, restart, fresh), state, noise, 1.0)[0]
    shuffled = mdnrnn.losses_of(rnn, (mu, logvar, action[::-1], restart, fresh), state, noise, 1.0)[0]
    assert shuffled > right + 1

    z = np.moveaxis(mu, 0, 1).astype(np.float32)
    weights = rnn.prepared()
    inputs = mdnrnn.inputs_of(z[:-1], np.moveaxis(action, 0, 1)[:-1])
    hidden, _ = rnn.sequence(weights, inputs, tf.ones(z.shape[:2])[:-1], state)
    mixture, _ = rnn.predict(weights, tf.reshape(hidden, [-1, 8]))
    shifted, unshifted = (-np.mean(mdnrnn.log_prob(mixture, part.reshape(-1, 1))) for part in (z[1:], z[:-1]))
    np.testing.assert_allclose(shifted, right, rtol=1e-4)
    assert unshifted > shifted + 1


def test_two_blocks_train_as_one_does(rng):
    """Catches gradients that are added up, a block left out, memory of the wrong rows, and a loss of one block."""
    shape, ended = Shape(3, 1, 6, True), []
    batches, state = [stream_batch(rng, shape, 4, 8, 0.2) for _ in range(3)], random_state(rng, 4, 6)
    first = random_rnn(rng, shape)
    for blocks in (1, 2):
        rnn, optimizer = MDNRNN(shape, "float32"), keras.optimizers.SGD(0.1)
        rnn.set_weights(first.get_weights())
        options = {"blocks": blocks, "restart_z": True}
        step, _ = mdnrnn.train_step_of(rnn, optimizer, tf.distribute.get_strategy(), 10.0, **options)
        memory, losses = state, []
        for k, batch in enumerate(batches):
            loss, memory = step(tuple(map(tf.constant, batch)), memory, np.array([1000, k], np.int32))
            losses.append(loss)
        ended.append([np.array(losses), np.stack(memory), *rnn.get_weights()])
    for one, two in zip(*ended, strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-4, atol=1e-5)


def test_blocks_have_noise_and_dropout_of_their_own(rng, monkeypatch):
    """Catches one draw for both halves of the streams."""
    shape, drawn, losses_of = Shape(3, 1, 6, True), [], mdnrnn.losses_of

    def noted(rnn, batch, state, noise, weight, mask, *more):
        drawn.append((noise.numpy(), mask.numpy()))
        return losses_of(rnn, batch, state, noise, weight, mask, *more)

    monkeypatch.setattr(mdnrnn, "losses_of", noted)
    rnn, optimizer = random_rnn(rng, shape), keras.optimizers.SGD(0.1)
    step, _ = mdnrnn.train_step_of(rnn, optimizer, tf.distribute.get_strategy(), 10.0, 0.5, blocks=2)
    batch = tuple(map(tf.constant, stream_batch(rng, shape, 8, 5)))
    tf.config.run_functions_eagerly(True)
    try:
        step(batch, rnn.initial_state(8), np.array([1000, 1], np.int32))
    finally:
        tf.config.run_functions_eagerly(False)
    (noise, mask), (other_noise, other_mask) = drawn
    assert (noise != other_noise).all()
    assert (mask != other_mask).any()
