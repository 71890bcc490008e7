"""common/agent/vae.py against closed forms, numpy and Keras's own layers."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from common.agent import vae


@pytest.mark.parametrize(("z_size", "parameters"), [(32, 4_348_547), (64, 4_446_915)])
def test_parameter_count(z_size, parameters):
    """Catches any layer of another size, and a paper_weights that leaves out or repeats an array."""
    model = vae.ConvVAE(z_size)
    assert model.count_params() == parameters
    assert len(model.paper_weights) == len({id(variable) for variable in model.paper_weights}) == 22
    assert sum(np.prod(variable.shape) for variable in model.paper_weights) == parameters


def test_paper_weights_are_kernel_then_bias_from_input_to_output():
    """Catches mu's and log-variance's heads, or encoder and decoder, swapped in the file."""
    model = vae.ConvVAE(32)
    kernels, biases = model.paper_weights[0::2], model.paper_weights[1::2]
    assert [tuple(kernel.shape) for kernel in kernels] == [
        *[(4, 4, 3, 32), (4, 4, 32, 64), (4, 4, 64, 128), (4, 4, 128, 256)],
        *[(1024, 32), (1024, 32), (32, 1024)],
        *[(5, 5, 128, 1024), (5, 5, 64, 128), (6, 6, 32, 64), (6, 6, 3, 32)],
    ]
    assert [len(bias.shape) for bias in biases] == [1] * 11
    assert kernels[4] is model.fc_mu.kernel
    assert kernels[5] is model.fc_logvar.kernel


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_encode_and_decode_shapes_and_dtypes(rng, dtype):
    """Catches z or frames that stay bfloat16, frames not divided by 255 (2 frames 255x apart), a missing sigmoid."""
    model = vae.ConvVAE(32, dtype)
    frames = rng.integers(0, 256, (3, 64, 64, 3), np.uint8)
    mu, logvar = model.encode(frames)
    decoded = model.decode(tf.constant(rng.normal(0, 1000, (3, 32)), tf.float32))
    assert mu.shape == logvar.shape == (3, 32)
    assert decoded.shape == (3, 64, 64, 3)
    assert mu.dtype == logvar.dtype == decoded.dtype == tf.float32
    assert tf.reduce_max(tf.abs(mu)) < 5
    assert 0 <= tf.reduce_min(decoded) < 0.3
    assert 0.7 < tf.reduce_max(decoded) <= 1


def test_bfloat16_encodes_as_float32_does(rng):
    """Catches weights or z kept in bfloat16 (8 bits of mantissa) where only products may be."""
    exact, fast = vae.ConvVAE(32, "float32"), vae.ConvVAE(32, "bfloat16")
    fast.set_weights(exact.get_weights())
    assert all(variable.dtype == "float32" for variable in fast.variables)
    frames = rng.integers(0, 256, (8, 64, 64, 3), np.uint8)
    spread = np.std(exact.encode(frames)[0])
    for near, true in zip(fast.encode(frames), exact.encode(frames), strict=True):
        assert np.sqrt(np.mean((near - true) ** 2)) < 0.02 * spread


def test_kl_is_the_closed_form(rng):
    """Catches a wrong sign, a mean over dimensions instead of a sum, sigma where log sigma^2 is meant."""
    mu, logvar = (rng.normal(0, 1.5, (50, 32)).astype(np.float32) for _ in range(2))
    normal = tfp.distributions.MultivariateNormalDiag
    expected = tfp.distributions.kl_divergence(normal(mu, np.exp(0.5 * logvar)), normal(np.zeros(32, np.float32)))
    np.testing.assert_allclose(vae.kl_to_standard_normal(mu, logvar), expected, rtol=1e-5)


def test_sample_has_the_posteriors_moments(rng):
    """Catches exp(log sigma^2) used as sigma: the deviation would be 0.09 or 4, not 0.3 or 2."""
    draws, mu, sigma = 100_000, np.float32([-2, 1]), np.float32([0.3, 2])
    noise = rng.standard_normal((draws, 2), np.float32)
    z = vae.sample(mu, 2 * np.log(sigma), noise).numpy()
    np.testing.assert_array_less(np.abs(z.mean(0) - mu), 5 * sigma / np.sqrt(draws))
    np.testing.assert_array_less(np.abs(z.std(0) - sigma), 5 * sigma / np.sqrt(2 * draws))


def test_reconstruction_loss_is_a_sum_over_pixels(rng):
    """Catches the mean over pixels (posterior collapse), the sum over the batch, and a decoder fed mu instead of z."""
    model = vae.ConvVAE(32, "float32")
    dense = model.decoder.trainable_variables[0]
    dense.assign(300 * dense)  # so that the noise in z shows
    frames, noise = rng.integers(0, 256, (4, 64, 64, 3), np.uint8), rng.standard_normal((4, 32), np.float32)
    reconstruction, kl, loss = model.losses_of(frames, noise)
    mu, logvar = (part.numpy() for part in model.encode(frames))
    decoded = model.decode(mu + np.exp(logvar / 2) * noise).numpy().astype(np.float64)
    error = (frames / 255 - decoded) ** 2
    np.testing.assert_allclose(reconstruction, np.sum(error) / 4, rtol=1e-5)
    np.testing.assert_allclose(loss, reconstruction + kl, rtol=1e-6)
    plain, same_kl, loss = model.losses_of(frames, noise, rare_pixels=0.5)
    np.testing.assert_array_equal([plain, same_kl], [reconstruction, kl])
    weighted = np.sum(error * (1 + 0.5 * vae.rarity(tf.constant(frames / 255, tf.float32)).numpy())) / 4
    np.testing.assert_allclose(loss, weighted + kl, rtol=1e-5)


def test_rare_pixels_are_trained_on_and_a_gradient_that_is_not_finite_shows(rng):
    """Catches --rare_pixels that only the loss knows, and a step that breaks the weights while it still looks well."""
    model, optimizer = vae.ConvVAE(4, "float32"), keras.optimizers.SGD(0.1)
    step = vae.train_step_of(model, optimizer, tf.distribute.get_strategy(), np.inf)
    reconstruction, kl = step(rng.integers(0, 256, (2, 64, 64, 3), np.uint8), np.array([1000, 1], np.int32))
    assert np.isnan(reconstruction)
    assert np.isfinite(kl)


def test_a_rare_pixel_is_one_that_is_elsewhere_in_the_batch_another(rng):
    """Catches the score along the wrong axis, taken without its square, and one without a limit."""
    frames = rng.normal(0.5, 0.1, (40, 4, 4, 3)).clip(0, 1)
    frames[:, 0, 0] = 0.2  # never changes
    frames[0, 1, 1] = 1.0
    frames[:, 2, 2], frames[7, 2, 2] = 0.2, 0.9
    rarity = vae.rarity(tf.constant(frames, tf.float32)).numpy()
    assert rarity.shape == (40, 4, 4, 1)
    score = (frames - frames.mean(0)) ** 2 / (frames.var(0) + vae.LEAST_VARIANCE)
    np.testing.assert_allclose(rarity[..., 0], np.minimum(score.mean(-1), vae.RAREST), rtol=1e-3, atol=1e-4)
    assert rarity[:, 0, 0].max() < 1e-4
    assert rarity[7, 2, 2] == vae.RAREST
    others = np.concatenate([frames, np.zeros((40, 4, 4, 3))])  # what is not to tell what is usual
    among = vae.rarity(tf.constant(others, tf.float32), tf.constant(frames, tf.float32)).numpy()
    np.testing.assert_allclose(among[:40], rarity, rtol=1e-4, atol=1e-6)
    assert rarity.mean() < 1


def test_free_bits_hold_each_frame_at_half_a_nat_per_dimension(rng):
    """Catches a missing floor and a floor under the batch's mean instead of under each frame's KL."""
    model = vae.ConvVAE(32, "float32")
    model.fc_mu.kernel.assign(100 * model.fc_mu.kernel)
    frames = np.stack([np.zeros((64, 64, 3), np.uint8), rng.integers(0, 256, (64, 64, 3), np.uint8)])
    nothing, much = vae.kl_to_standard_normal(*model.encode(frames)).numpy()
    assert nothing < 1e-6
    assert much > 3 * 16
    _, kl, _ = model.losses_of(frames, np.zeros((2, 32), np.float32))
    np.testing.assert_allclose(kl, (16 + much) / 2, rtol=1e-6)


def test_deconvolution_from_a_point_is_keras_transposed_convolution(rng):
    """Catches the kernel's axes in another order, a lost bias and a lost activation."""
    ours, theirs = (
        vae.DeconvFromPoint(7, 5, 2, activation="relu"),
        keras.layers.Conv2DTranspose(7, 5, 2, activation="relu"),
    )
    x = rng.standard_normal((3, 1, 1, 11), np.float32)
    ours.build(x.shape)
    theirs.build(x.shape)
    arrays = [rng.standard_normal(variable.shape, np.float32) for variable in ours.variables]
    ours.set_weights(arrays)
    theirs.set_weights(arrays)
    expected = theirs(x).numpy()
    assert (expected > 0).mean() > 0.2
    np.testing.assert_allclose(ours(x), expected, rtol=1e-5, atol=1e-5)


def test_training_overfits_eight_frames(rng):
    """Catches a training step that does not train: no update, a loss that ignores z, gradients lost in the decoder."""
    frames = np.zeros((8, 64, 64, 3), np.uint8)
    for k, (row, column) in enumerate(rng.integers(0, 32, (8, 2))):
        frames[k, row : row + 32, column : column + 32] = rng.integers(100, 256, 3)
    scaled = frames / 255
    one_picture_for_all = np.sum((scaled - scaled.mean(0)) ** 2) / 8
    model = vae.ConvVAE(32, "float32")
    train_step = vae.train_step_of(model, keras.optimizers.Adam(2e-3), tf.distribute.get_strategy())
    losses = [train_step(frames, np.array([1000, step], np.int32)) for step in range(160)]
    assert losses[-1][0] < 0.1 * one_picture_for_all
    assert losses[-1][1] >= 16
