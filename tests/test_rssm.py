"""common/agent/rssm.py against TensorFlow Probability, Keras and step-by-step loops."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from common.agent import rssm
from common.agent.rssm import RSSM, Chunks, Normal, Shape, State
from common.agent.vae import ConvVAE
from common.runtime import settings

tfd = tfp.distributions
SMALL = Shape(2, True, deterministic=6, stochastic=3, hidden=5, head=4, depth=1)
CONFIG = settings.Planet(free_nats=0.0)


def random_model(rng, shape=SMALL, scale=0.5):
    """An RSSM in float32 all of whose weights are random, biases too."""
    model = RSSM(shape, "float32")
    for variable in model.trainable_variables:
        variable.assign(rng.normal(0, scale, variable.shape))
    return model


def tensors(rng, *sizes):
    return (tf.constant(rng.standard_normal(size, np.float32)) for size in sizes)


def random_chunks(rng, steps, rows, known=None):
    """Chunks of noise; every step has a frame unless `known` says otherwise."""
    known = np.ones((steps, rows)) if known is None else known
    return Chunks(
        tf.constant(rng.integers(0, 256, (steps, rows, 64, 64, 3)), tf.uint8),
        *(tf.constant(x, tf.float32) for x in (rng.uniform(-1, 1, (steps, rows, 2)), rng.normal(0, 1, (steps, rows)))),
        tf.zeros((steps, rows)),
        tf.constant(known, tf.float32),
    )


def all_shown(chunks):
    return tf.range(tf.size(chunks.known))


def test_the_convolutions_are_those_of_the_vae():
    """Catches another encoder or decoder than the VAE's."""
    shape = Shape(3, False)
    model, other = RSSM(shape, "float32"), ConvVAE(shape.features, "float32")
    for mine, theirs in ((model.encoder, other.encoder), (model.decoder, other.decoder)):
        assert [v.shape for v in mine.trainable_variables] == [v.shape for v in theirs.trainable_variables]
    x = np.random.default_rng(1).standard_normal((2, 230)).astype(np.float32)
    other.decoder.set_weights(model.decoder.get_weights())
    # PlaNet's decoder gives the mean of a normal, where the VAE's ends in a sigmoid
    np.testing.assert_allclose(tf.sigmoid(model.decoder(x)), other.decoder(x), atol=1e-6)


def test_kl_is_tfps_and_from_the_posterior_to_the_prior(rng):
    """Catches the direction reversed (2.8 nats apart here), a variance for a deviation, a mean for a sum."""
    q_mean, p_mean, q_raw, p_raw = tensors(rng, *[(7, 4)] * 4)
    q, p = Normal(q_mean, tf.exp(q_raw)), Normal(p_mean, tf.exp(p_raw))
    oracle = tfd.kl_divergence(tfd.MultivariateNormalDiag(*q), tfd.MultivariateNormalDiag(*p))
    np.testing.assert_allclose(rssm.kl(q, p), oracle, rtol=1e-4)
    assert np.abs(rssm.kl(p, q) - oracle).max() > 1

    model, chunks = random_model(rng), random_chunks(rng, 5, 4)
    seed = np.array([3, 40], np.int32)
    weights, noise = model.prepared(), tf.random.stateless_normal([5, 4, 3], seed + [0, 1])
    images = rssm.image_of(tf.reshape(chunks.frames, [-1, 64, 64, 3]))
    embedded = tf.reshape(model.embed(images), [5, 4, -1])
    _, prior, posterior = model.unroll(weights, embedded, chunks.action, chunks.known, noise)
    losses = rssm.losses_of(model, chunks, all_shown(chunks), seed, CONFIG)
    forward = tfd.kl_divergence(tfd.MultivariateNormalDiag(*posterior), tfd.MultivariateNormalDiag(*prior))
    backward = tfd.kl_divergence(tfd.MultivariateNormalDiag(*prior), tfd.MultivariateNormalDiag(*posterior))
    assert abs(np.mean(backward) / np.mean(forward) - 1) > 0.05
    np.testing.assert_allclose(losses["kl"], np.mean(forward), rtol=1e-4)


def test_free_nats_are_free_per_step(rng):
    """Catches free nats subtracted from the mean, so that a step below them pays for one above."""
    model, chunks, seed = random_model(rng), random_chunks(rng, 6, 5), np.array([3, 40], np.int32)
    configs = (CONFIG, dataclasses.replace(CONFIG, free_nats=8.0))  # the steps have 5 to 20 nats
    losses = [rssm.losses_of(model, chunks, all_shown(chunks), seed, cfg)["kl"] for cfg in configs]
    assert losses[0] > 8.5
    assert 4 < losses[0] - losses[1] < 8 - 0.2


def test_gru_is_kerass(rng):
    """Catches gates in another order, or the reset gate applied before the product."""
    model = random_model(rng)
    cell = keras.layers.GRUCell(6, reset_after=True)
    cell.build((None, 5))
    biases = np.stack([model.biases[name].numpy() for name in ("gru_x", "gru_h")])
    cell.set_weights([model.kernels["gru_x"].numpy(), model.kernels["gru_h"].numpy(), biases])
    h, s, action = tensors(rng, (4, 6), (4, 3), (4, 2))
    x = tf.nn.relu(tf.concat([s, action], 1) @ model.kernels["action"] + model.biases["action"])
    ours, _, _ = model.transition(model.prepared(), State(h, s), action)
    np.testing.assert_allclose(ours, cell(x, h)[0], atol=1e-5)


def test_a_new_memory_keeps_what_it_has():
    """Catches a GRU that begins with half-open gates, and forgets within a few steps."""
    model = RSSM(SMALL, "float32")
    assert model.biases["gru_x"].numpy().tolist() == [1.0] * 12 + [0.0] * 6
    assert not model.biases["gru_h"].numpy().any()


def test_only_what_is_decoded_is_spread_by_noise(rng):
    """Catches levels of colors learned as they are, to which a decoder can fit too well, and noise in what is read."""
    model, chunks = random_model(rng, dataclasses.replace(SMALL, paths="deterministic")), random_chunks(rng, 4, 3)
    one, other = (
        rssm.losses_of(model, chunks, all_shown(chunks), np.array([seed, 40], np.int32), CONFIG) for seed in (3, 4)
    )
    assert {name for name in one if one[name] != other[name]} == {"image"}
    np.testing.assert_allclose(one["image"], other["image"], rtol=1e-2)


def test_transition_reads_state_and_action_and_a_std_has_its_least_value(rng):
    """Catches an action that is not read, and a standard deviation below 0.1 (or the softplus left out)."""
    model = random_model(rng)
    h, s, action = tensors(rng, (4, 6), (4, 3), (4, 2))
    weights = model.prepared()
    base = model.transition(weights, State(h, s), action)[2]
    for other in (State(h + 1, s), State(h, s + 1)):
        assert np.abs(model.transition(weights, other, action)[2].mean - base.mean).min(axis=1).max() > 0
    assert np.abs(model.transition(weights, State(h, s), action + 1)[2].mean - base.mean).max() > 1e-3
    model.biases["prior_out"].assign([0.0] * 3 + [-50.0] * 3)
    std = model.transition(model.prepared(), State(h, s), action)[2].std
    np.testing.assert_allclose(std, 0.1, atol=1e-4)


@pytest.mark.parametrize("paths", rssm.PATHS)
def test_unroll_is_step_after_step(rng, paths):
    """Catches a frame or an action used a step late, noise mixed up between steps, and a state that is not carried."""
    shape = dataclasses.replace(SMALL, paths=paths)
    model, chunks = random_model(rng, shape), random_chunks(rng, 4, 3)
    weights, (noise,) = model.prepared(), tensors(rng, (4, 3, 3))
    images = rssm.image_of(chunks.frames)
    embedded = tf.reshape(model.embed(tf.reshape(images, [-1, 64, 64, 3])), [4, 3, -1])
    states, prior, posterior = model.unroll(weights, embedded, chunks.action, chunks.known, noise)
    state = model.initial_state(3)
    for t in range(4):
        state = model.observe(weights, state, chunks.action[t], images[t], noise[t])
        np.testing.assert_allclose(state.h, states.h[t], atol=1e-5)
        np.testing.assert_allclose(state.s, states.s[t], atol=1e-5)
    drawn = posterior.mean if paths == "deterministic" else posterior.mean + posterior.std * noise
    np.testing.assert_allclose(states.s, drawn, atol=1e-5)
    assert states.h.shape[-1] == (0 if paths == "stochastic" else 6)
    assert np.abs(prior.mean - posterior.mean).max() > 0.01


def test_without_a_frame_the_posterior_is_the_prior(rng):
    """Catches a frame of padding that is seen, and a KL that is paid where nothing was."""
    known = np.ones((4, 3))
    known[2, 1] = 0
    model, chunks = random_model(rng), random_chunks(rng, 4, 3, known)
    weights, (embedded, noise) = model.prepared(), tensors(rng, (4, 3, 32), (4, 3, 3))
    _, prior, posterior = model.unroll(weights, embedded, chunks.action, chunks.known, noise)
    same = np.isclose(prior.mean, posterior.mean).all(axis=-1)
    np.testing.assert_array_equal(same, known == 0)


def test_what_is_not_there_changes_no_loss(rng):
    """Catches masks left out: frames, rewards and actions of steps that are not there must not matter."""
    known = np.ones((6, 4))
    known[3:, 2] = 0
    chunks, seed = random_chunks(rng, 6, 4, known), np.array([3, 40], np.int32)
    end = np.zeros((6, 4), np.float32)
    end[3, 2] = 1
    chunks = chunks._replace(end=tf.constant(end))
    beyond = np.zeros((6, 4), bool)
    beyond[4:, 2] = True  # row 3 is the end, of which only the action and the reward count
    model, cfg = random_model(rng), dataclasses.replace(CONFIG, overshooting=3)

    def changed(array, where):
        array = np.array(array)
        array[where] = rng.integers(0, 100, array[where].shape)
        return tf.constant(array)

    other = chunks._replace(
        frames=changed(chunks.frames, known == 0),
        reward=changed(chunks.reward, beyond),
        action=changed(chunks.action, beyond),
    )
    assert not np.array_equal(chunks.frames, other.frames)
    one, two = (rssm.losses_of(model, c, all_shown(c), seed, cfg) for c in (chunks, other))
    assert one.keys() == {"image", "reward", "kl", "end", "overshooting"}
    for name in one:
        np.testing.assert_allclose(one[name], two[name], rtol=1e-5, err_msg=name)


def test_the_end_is_predicted_from_the_prior(rng):
    """Catches an end read from the posterior, which at an end has seen no frame and would give it away."""
    model, seed = random_model(rng), np.array([3, 40], np.int32)
    chunks = random_chunks(rng, 1, 6)
    other = chunks._replace(frames=tf.reverse(chunks.frames, [1]))  # at the first step only the posterior sees them
    one, two = (rssm.losses_of(model, c, all_shown(c), seed, CONFIG) for c in (chunks, other))
    np.testing.assert_allclose(one["end"], two["end"], rtol=1e-5)
    assert abs(one["reward"] - two["reward"]) > 1e-4


@pytest.mark.parametrize("paths", rssm.PATHS)
def test_without_noise_everything_is_predicted_from_the_prior(rng, paths):
    """Catches a deterministic path that is trained to show what it sees, and never to predict it."""
    model, seed = random_model(rng, dataclasses.replace(SMALL, paths=paths)), np.array([3, 40], np.int32)
    chunks = random_chunks(rng, 1, 6)
    other = chunks._replace(frames=tf.reverse(chunks.frames, [1]))  # at the first step only the posterior sees them
    one, two = (rssm.losses_of(model, c, all_shown(c), seed, CONFIG) for c in (chunks, other))
    assert np.isclose(one["reward"], two["reward"], rtol=1e-5) == (paths == "deterministic")
    # its KL is a squared distance: far less than the free nats of the others would hide all that it has to learn
    free = dataclasses.replace(CONFIG, free_nats=1e3)
    assert (rssm.losses_of(model, chunks, all_shown(chunks), seed, free)["kl"] > 0) == (paths == "deterministic")


def test_ends_and_their_absence_are_learned(rng):
    """Catches ends that their own loss leaves out, life learned as the end, and a loss of steps that are not there."""
    known, end = np.ones((4, 2), np.float32), np.zeros((4, 2), np.float32)
    known[3], end[3, 0] = 0, 1  # the second row was cut
    model, chunks = random_model(rng), random_chunks(rng, 4, 2, known)._replace(end=tf.constant(end))
    seed, weights = np.array([3, 40], np.int32), model.prepared()
    embedded = tf.reshape(model.embed(rssm.image_of(tf.reshape(chunks.frames, [-1, 64, 64, 3]))), [4, 2, -1])
    first, second = (tf.random.stateless_normal([4, 2, 3], seed + [0, k]) for k in (1, 2))
    state, prior, _ = model.unroll(weights, embedded, chunks.action, chunks.known, first)
    s = prior.mean + prior.std * second
    logit = model.end_logit(weights, State(tf.reshape(state.h, [8, -1]), tf.reshape(s, [8, -1]))).numpy().reshape(4, 2)
    loss = np.log1p(np.exp(logit)) - end * logit
    found = rssm.losses_of(model, chunks, all_shown(chunks), seed, CONFIG)["end"]
    assert float(found) == pytest.approx((loss.sum() - loss[3, 1]) / 7, rel=1e-4)


def test_the_reward_of_an_end_is_learned_from_the_prior(rng):
    """Catches the reward of the step that ended an episode left out of the loss, or read from a posterior."""
    known, end = np.ones((4, 2), np.float32), np.zeros((4, 2), np.float32)
    known[3], end[3] = 0, 1
    model, chunks = random_model(rng), random_chunks(rng, 4, 2, known)._replace(end=tf.constant(end))
    seed, weights = np.array([3, 40], np.int32), model.prepared()
    reward = tf.concat([chunks.reward[:3], chunks.reward[3:] - 10], axis=0)
    one, two = (
        rssm.losses_of(model, chunks._replace(reward=r), all_shown(chunks), seed, CONFIG)
        for r in (chunks.reward, reward)
    )
    noise = tf.random.stateless_normal([4, 2, 3], seed + [0, 1])
    embedded = tf.reshape(model.embed(rssm.image_of(tf.reshape(chunks.frames, [-1, 64, 64, 3]))), [4, 2, -1])
    state, prior, _ = model.unroll(weights, embedded, chunks.action, chunks.known, noise)
    expected = model.reward(weights, State(state.h[3], prior.mean[3] + prior.std[3] * noise[3]))
    errors = [0.5 * np.square(expected - r[3]).sum() for r in (chunks.reward, reward)]
    assert float(two["reward"] - one["reward"]) == pytest.approx((errors[1] - errors[0]) / 8, rel=1e-3)


def test_decoding_some_frames_estimates_the_loss_of_all(rng):
    """Catches an image loss that is summed over the batch, so that its weight follows how many frames are decoded."""
    model, chunks, seed = random_model(rng, scale=0.1), random_chunks(rng, 4, 4), np.array([3, 40], np.int32)
    every = [rssm.losses_of(model, chunks, tf.constant([k]), seed, CONFIG)["image"] for k in range(16)]
    whole = rssm.losses_of(model, chunks, all_shown(chunks), seed, CONFIG)["image"]
    np.testing.assert_allclose(np.mean(every), whole, rtol=1e-3)  # the noise of their pixels is another one
    assert np.std(every) > 0


def test_the_image_loss_is_half_the_squared_error(rng):
    """Catches an image that weighs twice as much beside the reward, and one that is decoded from another state."""
    model, chunks, seed = random_model(rng), random_chunks(rng, 3, 2), np.array([3, 40], np.int32)
    frames = tf.reshape(chunks.frames, [-1, 64, 64, 3])
    embedded = tf.reshape(model.embed(rssm.image_of(frames)), [3, 2, -1])
    noise = tf.random.stateless_normal([3, 2, 3], seed + [0, 1])
    state, *_ = model.unroll(model.prepared(), embedded, chunks.action, chunks.known, noise)
    decoded = model.decode(State(*(tf.reshape(part, [6, -1]) for part in state)))
    target = rssm.image_of(frames, tf.random.stateless_uniform(frames.shape, seed))
    found = rssm.losses_of(model, chunks, all_shown(chunks), seed, CONFIG)["image"]
    assert float(found) == pytest.approx(0.5 * np.sum(np.square(target - decoded)) / 6, rel=1e-4)


def test_image_of_keeps_five_bits():
    """Catches frames that are not shifted, eight bits left in, or noise that is wider than a level."""
    frames = np.array([0, 7, 8, 255], np.uint8)
    np.testing.assert_allclose(rssm.image_of(frames, 0.0), [-0.5, -0.5, -0.46875, 0.46875])
    np.testing.assert_allclose(rssm.image_of(frames, 0.5), [-0.484375, -0.484375, -0.453125, 0.484375])


def test_overshooting_rolls_priors_from_the_posteriors(rng):
    """Catches overshooting that starts from the prior, counts distance 1, or compares with a posterior a step off."""
    model, chunks = random_model(rng), random_chunks(rng, 5, 3)
    weights, (embedded, noise, ahead) = model.prepared(), tensors(rng, (5, 3, 32), (5, 3, 3), (3, 5, 3, 3))
    state, _, posterior = model.unroll(weights, embedded, chunks.action, chunks.known, noise)
    cfg = dataclasses.replace(CONFIG, overshooting=3, free_nats=0.2)
    found = rssm.overshooting_loss(model, weights, state, posterior, chunks, cfg, ahead)
    nats = {2: [], 3: []}
    for start in range(5):
        rolled = State(state.h[start], state.s[start])
        for distance in range(1, 4):
            if start + distance > 4:
                break
            h, _, prior = model.transition(weights, rolled, chunks.action[start + distance])
            rolled = State(h, prior.mean + prior.std * ahead[distance - 1, start])
            if distance > 1:
                target = tfd.MultivariateNormalDiag(posterior.mean[start + distance], posterior.std[start + distance])
                divergence = tfd.kl_divergence(target, tfd.MultivariateNormalDiag(*prior))
                nats[distance].append(np.maximum(divergence - 0.2, 0))
    np.testing.assert_allclose(found, (np.mean(nats[2]) + np.mean(nats[3])) / 2, rtol=1e-4)


def test_overshooting_stops_at_the_posteriors(rng):
    """Catches posteriors that are drawn toward priors of long ago: their own layers get a gradient as samples only."""
    model, chunks = random_model(rng), random_chunks(rng, 4, 3)
    embedded, ahead = tensors(rng, (4, 3, 32), (2, 4, 3, 3))
    cfg = dataclasses.replace(CONFIG, overshooting=2)
    with tf.GradientTape() as tape:
        weights = model.prepared()
        state, _, posterior = model.unroll(weights, embedded, chunks.action, chunks.known, tf.zeros((4, 3, 3)))
        state = State(*map(tf.stop_gradient, state))  # what is left are the posteriors as targets, and the priors
        loss = rssm.overshooting_loss(model, weights, state, posterior, chunks, cfg, ahead)
    to_posterior, to_prior = tape.gradient(loss, [model.kernels["posterior_out"], model.kernels["prior_out"]])
    assert to_posterior is None
    assert np.abs(to_prior).max() > 0


def test_overshooting_on_and_off(rng):
    """Catches overshooting that cannot be turned off, or is computed but not trained on."""
    model, chunks, seed = random_model(rng), random_chunks(rng, 4, 3), np.array([3, 40], np.int32)
    off = rssm.losses_of(model, chunks, all_shown(chunks), seed, CONFIG)
    cfg = dataclasses.replace(CONFIG, overshooting=3, overshooting_weight=2.0)
    on = rssm.losses_of(model, chunks, all_shown(chunks), seed, cfg)
    assert "overshooting" not in off
    added = float(rssm.total_of(on, cfg) - rssm.total_of(off, cfg))  # of sums of thousands, in float32
    assert added == pytest.approx(2 * float(on["overshooting"]), rel=0.01)
    assert added > 1


def test_rare_pixels_weigh_more_than_the_usual_ones(rng):
    """Catches a weight without effect, one by frames that are none (they are black), and one of other frames."""
    model, (steps, rows) = random_model(rng), (2, 5)
    frames = np.full((steps, rows, 64, 64, 3), 96, np.uint8)
    frames[0, 0, 8:12, 8:12] = 224
    known = np.ones((steps, rows), np.float32)
    known[1, 2:] = 0
    frames[1, 2:] = 0
    zeros = np.zeros((steps, rows), np.float32)
    chunks = Chunks(*map(tf.constant, (frames, np.zeros((steps, rows, 2), np.float32), zeros, zeros, known)))
    images = {}
    for weight in (0.0, 1.0):
        cfg = settings.Planet(rare_pixels=weight)
        for name, shown in (
            ("all", np.arange(10)),
            ("rare", np.array([0, 1, 2, 7])),
            ("usual", np.array([1, 2, 3, 4])),
        ):
            losses = rssm.losses_of(model, chunks, tf.constant(shown, tf.int32), tf.constant([3, 4]), cfg)
            images[name, weight] = float(losses["image"])
    assert images["usual", 1.0] == pytest.approx(images["usual", 0.0], rel=1e-5)  # none is unusual among them
    square = 0.5 * 16 * 3 * (0.5 * (224 - 96) / 255) ** 2 / 3  # a decoder that is off by half of it, in one of 3 frames
    assert images["rare", 1.0] - images["rare", 0.0] > 0.2 * square
    assert images["all", 1.0] > images["all", 0.0]


def test_weights_of_the_losses(rng):
    """Catches a loss that is left out of the sum, or weighed by another's weight."""
    losses = {name: tf.constant(1.0) for name in ("image", "reward", "kl", "end")}
    cfg = settings.Planet(image_weight=2.0, reward_weight=30.0, end_weight=400.0)
    assert float(rssm.total_of(losses, cfg)) == 433.0


def test_imagine_is_transition_after_transition(rng):
    """Catches open-loop predictions that lose the state, or use an action twice."""
    model = random_model(rng)
    weights = model.prepared()
    h, s, action, noise = tensors(rng, (2, 6), (2, 3), (3, 2, 2), (3, 2, 3))
    states, state = model.imagine(weights, State(h, s), action, noise), State(h, s)
    for t in range(3):
        h, _, prior = model.transition(weights, state, action[t])
        state = State(h, prior.mean + prior.std * noise[t])
        np.testing.assert_allclose(states.s[t], state.s, atol=1e-6)


def moving_bar(rng, rows, steps):
    """A world without noise: a bar moves as the action says (left or right), the reward is where it is."""
    frames, place = np.full((steps, rows, 64, 64, 3), 112, np.uint8), np.full(rows, 32.0)
    action = rng.uniform(-1, 1, (steps, rows, 1)).astype(np.float32)
    action[0] = 0
    reward = np.zeros((steps, rows), np.float32)
    for t in range(steps):
        place = np.clip(place + 8 * action[t, :, 0], 8, 56)
        for row, x in enumerate(np.rint(place).astype(int)):
            frames[t, row, :, x - 8 : x + 8] = 144
        reward[t] = (place - 32) / 24
    ones = np.ones((steps, rows), np.float32)
    return Chunks(*map(tf.constant, (frames, action, reward, 0 * ones, ones)))


def test_posterior_and_prior_agree_when_trained_on_noise_free_data(rng):
    """Catches a model whose prior does not learn what the posterior sees: here nothing is left to see.

    The bar starts in one place and moves as the action says, so that the prior can know each frame. It also catches
    rewards and actions a step late: with other actions than those that were played, frames must surprise the prior, and
    the rewards must be predicted worse.
    """
    shape = Shape(1, False, deterministic=32, stochastic=4, hidden=32, head=32, depth=2)
    model = RSSM(shape, "float32")
    cfg = settings.Planet(free_nats=0.0, reward_weight=100.0)
    optimizer = keras.optimizers.Adam(3e-3, epsilon=1e-4, global_clipnorm=1000.0)
    step = rssm.train_step_of(model, optimizer, cfg)
    losses = []
    for k in range(250):
        shown = tf.constant(rng.choice(128, 32, replace=False), tf.int32)
        losses.append(step(moving_bar(rng, 16, 8), shown, np.array([1, 4 * k], np.int32)))
    image, agree = ([float(row[name]) for row in losses] for name in ("image", "kl"))
    assert np.mean(image[-10:]) < 0.25 * np.mean(image[:10])
    assert np.mean(agree[-10:]) < 0.1

    chunks = moving_bar(rng, 64, 8)
    others = chunks._replace(action=tf.reverse(chunks.action, [1]))
    told, lied = (
        rssm.losses_of(model, c, all_shown(c)[:32], np.array([2, 0], np.int32), cfg) for c in (chunks, others)
    )
    assert lied["kl"] > 10 * told["kl"]
    errors, weights, zero = [], model.prepared(), tf.zeros((7, 64, 4))
    start = model.observe(weights, model.initial_state(64), chunks.action[0], rssm.image_of(chunks.frames[0]), zero[0])
    for action in (chunks.action, others.action):
        states = model.imagine(weights, start, action[1:], zero)
        flat = State(*(tf.reshape(part, [-1, part.shape[-1]]) for part in states))
        errors.append(np.square(model.reward(weights, flat) - tf.reshape(chunks.reward[1:], [-1])).mean())
    assert errors[0] < 0.1 * np.var(chunks.reward[1:])
    assert errors[1] > 10 * errors[0]


def test_a_gradient_that_is_not_finite_shows_in_the_loss(rng):
    """Catches a step that breaks the weights while its loss still looks well."""
    model = random_model(rng)
    step = rssm.train_step_of(model, keras.optimizers.Adam(1e-3), CONFIG)
    chunks = random_chunks(rng, 2, 2)
    chunks = chunks._replace(reward=tf.constant(np.full((2, 2), 1e38, np.float32)))
    assert np.isnan(step(chunks, all_shown(chunks), np.array([1, 4], np.int32))["image"])
