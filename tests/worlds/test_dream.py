"""common/worlds/dream.py: M's own world, the same for the same seed whoever else is dreaming."""

import numpy as np
import pytest
import tensorflow as tf

from common.agent import mdnrnn, vae
from common.worlds.dream import NOISE_STEPS, DreamWorld

SHAPE = mdnrnn.Shape(3, 1, 4, restart=True)
LOGIT, LOGMIX = 0, 1  # the first columns of M's output: the restart logit, then the first dimension's log-weights


def random_rnn(rng, shape=SHAPE):
    """An M whose restart logit stays below 0."""
    rnn = mdnrnn.MDNRNN(shape, "float32")
    rnn.set_weights([rng.normal(0, 0.5, variable.shape) for variable in rnn.variables])
    if shape.restart:
        rnn.output_b.assign(tf.concat([[-100.0], rnn.output_b[1:]], axis=0))
    return rnn


def pure_noise_rnn():
    """An M that dreams only its noise, N(0, 1) at temperature 1, and ends a dream when the action is positive."""
    rnn = mdnrnn.MDNRNN(SHAPE, "float32")
    kernel, bias, output_w, output_b = (np.zeros(variable.shape, np.float32) for variable in rnn.variables)
    kernel[SHAPE.z_size, 4:8] = 10  # the action decides the candidate j
    bias[0:4] = bias[12:16] = 20  # gates i and o are open
    bias[8:12] = -20  # f is shut: nothing is remembered
    output_w[:, LOGIT] = 1
    output_b[LOGMIX::15] = 50  # only the first component of each dimension is ever chosen
    rnn.set_weights([kernel, bias, output_w, output_b])
    return rnn


@pytest.fixture
def initial_z(rng):
    """(mu, logvar) of 20 first frames."""
    return rng.normal(0, 1, (20, 3)).astype(np.float32), rng.normal(-2, 1, (20, 3)).astype(np.float32)


def actions(*values):
    return np.float32(values)[:, np.newaxis]


def test_a_dream_starts_from_a_sample_of_one_first_frame(rng):
    """Catches mu of one frame with log-variance of another, no noise at all, and the same frame for every seed."""
    mu = np.arange(20, dtype=np.float32)[:, np.newaxis] * np.float32([10, 10, 10])
    logvar = np.tile(np.float32([-40, 0, 2 * np.log(2)]), [20, 1])
    z, h, c = DreamWorld(random_rnn(rng), (mu, logvar), 1.0, 10).reset(range(1000, 1500))
    z = z.numpy()
    frame = np.rint(z[:, 0] / 10)
    np.testing.assert_allclose(z[:, 0], frame * 10, atol=1e-5)
    assert len(set(frame)) == 20
    noise = z - frame[:, np.newaxis] * 10
    np.testing.assert_allclose(noise.std(0)[1:], [1, 2], rtol=5 / np.sqrt(2 * 500))
    assert not np.any(h)
    assert not np.any(c)
    assert h.shape == c.shape == (500, 4)


def test_a_step_is_ms_step_with_the_restart_flag_on_the_first(rng, initial_z):
    """Catches a flag that stays 1 or was never 1, the state of a step before, M fed with another z."""
    rnn = random_rnn(rng)
    world = DreamWorld(rnn, initial_z, 1.25, 10)
    z, h, c = world.reset([1000, 1001])
    for step in range(3):
        action = rng.uniform(-1, 1, (2, 1)).astype(np.float32)
        inputs = mdnrnn.inputs_of(z, action, tf.fill([2], float(step == 0)))
        expected = rnn.step(rnn.prepared(), inputs, (h, c))
        (z, h, c), reward, done = world.step(action)
        np.testing.assert_allclose(h, expected[0], atol=1e-6)
        np.testing.assert_allclose(c, expected[1], atol=1e-6)
        assert reward.tolist() == [1, 1]
        assert done.tolist() == [False, False]


def test_the_dreamed_z_is_a_sample_of_ms_prediction(rng, initial_z):
    """Catches a prediction from the state before the step: a narrow mixture must hold the next z, whoever draws it."""
    rnn = random_rnn(rng)
    narrow = rnn.output_b.numpy()
    for dimension in range(3):
        narrow[1 + 15 * dimension + 10 : 1 + 15 * dimension + 15] = -12  # log-sigmas
        rnn.output_w.assign(rnn.output_w.numpy() * ~np.isin(np.arange(46), np.arange(10, 15) + 1 + 15 * dimension))
    rnn.output_b.assign(narrow)
    world = DreamWorld(rnn, initial_z, 1.0, 10)
    state = world.reset(range(1000, 1050))
    for _ in range(3):
        state, *_ = world.step(rng.uniform(-1, 1, (50, 1)).astype(np.float32))
        mixture, _ = rnn.predict(rnn.prepared(), state[1])
        nearest = np.abs(mixture.mean - state[0][:, tf.newaxis]).min(axis=1)
        assert nearest.max() < 1e-3


@pytest.mark.parametrize("temperature", [0.5, 1.25])
def test_the_temperature_is_passed_on(initial_z, temperature):
    """Catches a dream that is always at temperature 1, and tau where sqrt(tau) belongs."""
    worlds = [DreamWorld(pure_noise_rnn(), initial_z, t, 10) for t in (1.0, temperature)]
    (cool, *_), (warm, *_) = [(world.reset([1000, 1001]), world.step(actions(-1, -1)))[1][0] for world in worlds]
    np.testing.assert_allclose(warm, cool * np.sqrt(temperature), rtol=1e-5)


def test_the_noise_is_standard_normal_and_new_at_every_step(initial_z):
    """Catches noise repeated from step to step, or when a further block of it is drawn."""
    world = DreamWorld(pure_noise_rnn(), initial_z, 1.0, 1000)
    world.reset(range(1000, 1030))
    z = np.stack([world.step(actions(*[-1] * 30))[0][0] for _ in range(2 * NOISE_STEPS + 10)])
    assert len(np.unique(z)) > 0.999 * z.size
    np.testing.assert_allclose([z.mean(), z.std()], [0, 1], atol=5 / np.sqrt(z.size))


def test_the_same_seed_is_the_same_dream_in_any_batch(rng, initial_z):
    """Catches luck that depends on a dream's place in the batch or on its neighbors; few steps, as dreams diverge."""
    rnn, seeds = random_rnn(rng), [1007, 1003, 1011, 1003]
    moves = rng.uniform(-1, 1, (4, 4, 1)).astype(np.float32)
    moves[:, 3] = moves[:, 1]

    def dream(rows):
        world = DreamWorld(rnn, initial_z, 1.25, 10)
        start = world.reset([seeds[row] for row in rows])
        return [np.concatenate(start, axis=1)] + [np.concatenate(world.step(m[rows])[0], axis=1) for m in moves]

    together = np.array(dream([0, 1, 2, 3]))
    np.testing.assert_allclose(together[:, 1], together[:, 3], atol=1e-5)
    for rows in ([0], [1], [2], [3, 2], [2, 0, 1]):
        np.testing.assert_allclose(dream(rows), together[:, rows], atol=1e-5)
    np.testing.assert_array_equal(dream([1]), dream([1]))
    assert np.abs(together[:, 0] - together[:, 1]).max() > 0.1


def test_candidates_with_equal_seeds_meet_the_same_luck(initial_z):
    """Catches noise per row: without common random numbers candidates are compared on different dreams."""
    world = DreamWorld(pure_noise_rnn(), initial_z, 1.0, 200)
    world.reset([1000, 1001, 1000])
    for step in range(NOISE_STEPS + 5):
        (z, *_), *_ = world.step(actions(-1, -1, -0.5 - 0.001 * step))
        np.testing.assert_array_equal(z[0], z[2])
        assert np.abs(z[0] - z[1]).max() > 1e-3


def test_finished_rows_leave_and_the_others_keep_their_luck(initial_z):
    """Catches a row taken out at the wrong place, and the noise of the one that left given to its neighbor."""
    alone = {}
    for seed in (1000, 1001, 1002, 1003):
        world = DreamWorld(pure_noise_rnn(), initial_z, 1.0, 200)
        world.reset([seed])
        alone[seed] = np.stack([world.step(actions(-1))[0][0][0] for _ in range(NOISE_STEPS + 10)])
    world = DreamWorld(pure_noise_rnn(), initial_z, 1.0, 200)
    live = [1003, 1000, 1002, 1001]
    world.reset(live)
    ends = {2: 1000, 5: 1003, NOISE_STEPS: 1001}
    for step in range(NOISE_STEPS + 10):
        (z, h, c), reward, done = world.step(actions(*(1 if ends.get(step) == seed else -1 for seed in live)))
        assert reward.tolist() == [1] * len(live)
        assert done.tolist() == [ends.get(step) == seed for seed in live]
        live = [seed for seed, over in zip(live, done, strict=True) if not over]
        assert len(z) == len(h) == len(c) == len(live)
        for row, seed in enumerate(live):
            np.testing.assert_allclose(z[row], alone[seed][step], rtol=1e-6)
    assert live == [1002]


@pytest.mark.parametrize("restart", [True, False])
def test_a_dream_that_breaks_ends_without_a_return(rng, initial_z, restart):
    """Catches a broken M whose dreams never end: NaN is not above 0, and its candidate would be the best of all."""
    rnn = random_rnn(rng, mdnrnn.Shape(3, 1, 4, restart))
    world = DreamWorld(rnn, initial_z, 1.0, 100)
    world.reset([1000, 1001])
    _, reward, done = world.step(actions(0, np.nan))
    assert done.tolist() == [False, True]
    assert reward[0] == 1
    assert np.isnan(reward[1])
    _, reward, done = world.step(actions(0))
    assert (reward.tolist(), done.tolist()) == ([1], [False])


@pytest.mark.parametrize("restart", [True, False])
def test_a_dream_ends_at_max_steps(rng, initial_z, restart):
    """Catches a cap that is off by one, and an M without restarts whose dreams never end."""
    world = DreamWorld(random_rnn(rng, mdnrnn.Shape(3, 1, 4, restart)), initial_z, 1.0, 3)
    for _ in range(2):  # a world can be used again
        world.reset([1000, 1001])
        ends = [world.step(actions(0, 0))[2].tolist() for _ in range(3)]
        assert ends == [[False, False], [False, False], [True, True]]


def test_the_first_sample_is_v_s_own(rng, initial_z):
    """Catches a start that does not follow from the seed alone."""
    z = DreamWorld(random_rnn(rng), initial_z, 1.0, 3).reset([1000])[0]
    generator = np.random.default_rng([1000, 2])
    index = generator.integers(20)
    expected = vae.sample(initial_z[0][index], initial_z[1][index], generator.standard_normal(3, np.float32))
    np.testing.assert_allclose(z[0], expected, rtol=1e-6)


def certain_rnn(p, weight):
    """An MDN-RNN for which every step is the last with probability p; it was trained with a weight on restarts."""
    rnn = pure_noise_rnn()
    rnn.output_w.assign(tf.zeros_like(rnn.output_w))
    rnn.output_b.assign(tf.concat([[np.log(weight * p / (1 - p))], rnn.output_b[1:]], axis=0))
    return rnn


def test_drawn_ends_come_as_often_as_they_should(initial_z):
    """Catches a weight of the loss that is not taken out, a draw that all dreams share, and one for each row."""
    p, rows, steps, still = 0.05, 400, 100, actions(*[-1] * 400)
    world = DreamWorld(certain_rnn(p, 10), initial_z, 1.0, 1000)
    world.reset(range(1000, 1000 + rows))
    assert not any(world.step(still)[2].any() for _ in range(20))  # the logit is below 0
    world = DreamWorld(certain_rnn(p, 10), initial_z, 1.0, 1000, end_weight=10)
    world.reset([*range(1000, 1000 + rows // 2)] * 2)  # the same dreams twice
    live, ends, lived = np.arange(rows), [], 0
    for _ in range(steps):
        _, _, done = world.step(still[: len(live)])
        assert set(live[done] % (rows // 2)).isdisjoint(live[~done] % (rows // 2))
        lived, ends, live = lived + len(live), ends + [done.sum()], live[~done]
    deviation = np.sqrt(2 * p * lived)  # as each dream is there twice
    assert abs(sum(ends) - p * lived) < 4 * deviation
    assert sum(end > 0 for end in ends) > 40
