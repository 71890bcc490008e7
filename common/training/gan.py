"""VAE-GAN: a discriminator judges the decoder too, and reconstructions are compared in pixels and in its features.

What each part learns from:
    encoder         KL + feature loss                           no gradient of the judgment reaches it
    decoder         feature loss + weight * judged unreal       of reconstructions and of decoded samples of the prior
    discriminator   real judged unreal + unreal judged real     on the same and on the real frames

The feature loss compares pixels and the outputs of three convolutions; with deep features alone, the decoder covered
frames with a pattern of dots. The weight makes the gradient of the judgment, at all frames that the decoder made, a
fixed share of that of the feature loss in length, so that neither can drown the other. It is zero in the first third of
the training and full in the last: what to draw is learned before how sharp.

The result is a VAE like any other. The discriminator is needed for training only and stays in the checkpoint.

Source: Larsen et al. 2016; the equilibrium rule is that of their code. They compare in the third convolution only, and
their weight is constant. One that follows the gradients is from Esser et al. 2021, who take them at the last layer.
"""

from collections.abc import Callable, Sequence
from typing import Any

from common.runtime import devices  # isort: skip  (loads TensorFlow without its banner)
import keras
import numpy as np
import tensorflow as tf

from common.agent import vae
from common.agent.discriminator import Discriminator
from common.runtime.cli import UserError
from common.training import trainers

EQUILIBRIUM, MARGIN = 0.68, 0.35  # of the losses of the discriminator; at 0.69 it can only guess
RAMP_BEGINS, RAMP_ENDS = 1 / 3, 2 / 3  # shares of all steps between which the weight of the judgment rises
FEATURE_SCALE = 100.0  # makes the feature loss of the order of the error of the pixels, which the KL is weighed against
NAMES = "feature_loss", "real_loss", "unreal_loss", "decoder_learns", "discriminator_learns"


def learners(real: tf.Tensor, unreal: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Which side learns in a step: one that does well in some way waits for the other.

    Args:
        real: float32 [], loss of the discriminator on real frames, nats.
        unreal: float32 [], the same on those that the decoder made.

    Returns:
        (decoder, discriminator), bool []: the discriminator rests where one of its losses is low, the decoder where one
        is high; where both would rest, both learn.
    """
    decoder = tf.maximum(real, unreal) < EQUILIBRIUM + MARGIN
    discriminator = tf.minimum(real, unreal) > EQUILIBRIUM - MARGIN
    neither = ~decoder & ~discriminator
    return decoder | neither, discriminator | neither


def missed(real: tf.Tensor, made: tf.Tensor) -> tf.Tensor:
    """The share of the variance of features that reconstructions miss: 1 if the mean of the batch were each of them.

    A share does not depend on the scale of the features, which changes while the discriminator learns.

    Args:
        real: float32 [B, ...], features of frames.
        made: float32 [B, ...], those of their reconstructions.

    Returns:
        float32 [].
    """
    variance = tf.reduce_mean(tf.math.reduce_variance(real, axis=0))
    return tf.reduce_mean(tf.square(real - made)) / (variance + 1e-6)


def ramp(step: int, steps: int) -> float:
    """How much of its weight the judgment has after so many of all steps, from 0 to 1."""
    return float(np.clip((step / steps - RAMP_BEGINS) / (RAMP_ENDS - RAMP_BEGINS), 0, 1))


def encoder_of(model: vae.ConvVAE) -> list[keras.Variable]:
    """The variables of the encoder of a VAE, with its two heads."""
    parts = model.encoder, model.fc_mu, model.fc_logvar
    return [variable for part in parts for variable in part.trainable_variables]


def train_step_of(
    model: vae.ConvVAE, discriminator: Discriminator, optimizers: Sequence[keras.Optimizer]
) -> Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, ...]]:
    """Compiles a training step of a VAE-GAN.

    Args:
        model: the VAE.
        discriminator: judges its frames.
        optimizers: of the encoder, the decoder and the discriminator.

    Returns:
        step(frames uint8 [B, 64, 64, 3], seed int32 [2], judgment float32 []) ->
        (reconstruction, kl, *those of NAMES), float32 []. `judgment` is the length of the gradient of the judgment at
        the frames, as a share of that of the feature loss. Of what it returns, the first two are as in
        ConvVAE.losses_of; the first is only reported, for what trains is the share of the variance that pixels miss.
        The last two are 0 or 1.
    """
    parts = encoder_of(model), model.decoder.trainable_variables, discriminator.trainable_variables
    says, judge = tf.nn.sigmoid_cross_entropy_with_logits, discriminator.judge

    def apply_if(learns: tf.Tensor, which: int, gradients: list[tf.Tensor]) -> None:
        # an update by gradients of zero would still move the weights, by what Adam remembers
        def apply() -> tf.Tensor:
            optimizers[which].apply_gradients(zip(gradients, parts[which], strict=True))
            return tf.constant(True)

        tf.cond(learns, apply, lambda: tf.constant(False))

    @tf.function
    def step(frames: tf.Tensor, seed: tf.Tensor, judgment: tf.Tensor) -> tuple[tf.Tensor, ...]:
        noise, prior = tf.unstack(tf.random.stateless_normal([2, tf.shape(frames)[0], model.z_size], seed))
        target = tf.cast(frames, tf.float32) / 255.0
        with tf.GradientTape(persistent=True) as drawing:
            mu, logvar = model.encode(frames)
            kl = tf.reduce_mean(tf.maximum(vae.kl_to_standard_normal(mu, logvar), 0.5 * model.z_size))
            decoded, drawn = made = [model.decode(z) for z in (vae.sample(mu, logvar, noise), prior)]
        with tf.GradientTape(persistent=True) as judging:
            judging.watch(made)
            (seen, of_real), (seen_again, of_decoded), (_, of_drawn) = map(judge, (target, decoded, drawn))
            shares = [missed(*layer) for layer in zip(seen, seen_again, strict=True)]
            feature_loss = FEATURE_SCALE * tf.reduce_mean(shares)
            of_unreal = tf.concat([of_decoded, of_drawn], axis=0)
            real = tf.reduce_mean(says(tf.ones_like(of_real), of_real))
            unreal = tf.reduce_mean(says(tf.zeros_like(of_unreal), of_unreal))
            judged = tf.reduce_mean(says(tf.ones_like(of_unreal), of_unreal))
            both = (real + unreal) / 2
        to_frames = judging.gradient(feature_loss, decoded)
        to_real = judging.gradient(judged, made)
        weight = judgment * tf.math.divide_no_nan(tf.norm(to_frames), tf.linalg.global_norm(to_real))
        pulls = [to_frames + weight * to_real[0], weight * to_real[1]]
        gradients = (
            drawing.gradient([kl, decoded], parts[0], output_gradients=[tf.ones([]), to_frames]),
            drawing.gradient(made, parts[1], output_gradients=pulls),
            judging.gradient(both, parts[2]),
        )
        decoder, critic = learners(real, unreal)
        for which, learns in enumerate((tf.constant(True), decoder, critic)):
            apply_if(learns, which, gradients[which])
        pixels = tf.reduce_mean(tf.reduce_sum(tf.square(target - decoded), axis=[1, 2, 3]))
        pixels = devices.nan_unless_finite(pixels, [part for group in gradients for part in group])
        return pixels, kl, feature_loss, real, unreal, tf.cast(decoder, tf.float32), tf.cast(critic, tf.float32)

    return step


class GanTrainer(trainers.VaeTrainer):
    """Training of the VAE of a VAE-GAN, on one device: as VaeTrainer.

    Args:
        cfg: settings.Vae.
        plain: a VAE to show beside it.

    Raises:
        UserError: there are several devices.
    """

    names = (*trainers.VaeTrainer.names, *(f"gan__{name}" for name in NAMES))

    def __init__(self, cfg: Any, plain: vae.ConvVAE | None = None) -> None:
        self._plain = plain
        trainers.Trainer.__init__(self, cfg, lambda: vae.ConvVAE(cfg.z_size), encoder_of)
        if self.strategy.num_replicas_in_sync > 1:
            raise UserError("--gan trains on one device; choose one, such as with CUDA_VISIBLE_DEVICES=0")
        self.discriminator = Discriminator()
        adversaries = self.model.decoder.trainable_variables, self.discriminator.trainable_variables
        # less memory of past gradients than usual, for what an adversary does changes (Radford et al. 2016)
        self._clock = tf.Variable(0)
        others = [trainers.adam(cfg, variables, self._clock, beta_1=0.5) for variables in adversaries]
        self.optimizers = self._optimizer, *others
        """of the encoder, the decoder and the discriminator"""
        self._variables = [*self.model.trainable_variables, *self._optimizer.variables, *adversaries[1]]
        self._variables += [variable for optimizer in others for variable in optimizer.variables]
        self._train_all = train_step_of(self.model, self.discriminator, self.optimizers)

    def step(self, step: int) -> tuple[float, ...]:
        """As VaeTrainer; the learning rates follow the step of the training, also of a side that rested."""
        self._clock.assign(step - 1)
        self._frames = self._next()
        judgment = self.cfg.gan_judgment * ramp(step - 1, self.cfg.steps)
        seed = np.array([self.cfg.seed, step], np.int32)
        return self._checked(step, self._train_all(self._frames, seed, tf.constant(judgment)))

    def reconstructions(self, count: int = 10) -> np.ndarray:
        """Rows of pictures: frames of the last batch, by the plain VAE if there is one, by this one, of the prior.

        Returns:
            float32 [256, 64 * count, 3], or without a plain VAE [192, 64 * count, 3].
        """
        frames = self._frames[:count]
        prior = np.random.default_rng(self.cfg.seed).standard_normal((len(frames), self.cfg.z_size), np.float32)
        made = [model.decode(model.encode(frames)[0]) for model in (self._plain, self.model) if model]
        rows = [np.array(frames) / np.float32(255), *made, self.model.decode(prior)]
        return np.concatenate([np.concatenate(np.array(row), axis=1) for row in rows])
