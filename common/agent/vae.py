"""The convolutional variational autoencoder (V in the paper): a frame of 64x64 pixels <-> a latent z.

Source: Ha & Schmidhuber 2018, appendix A.1.
"""

from collections.abc import Callable
from typing import Any

from common.runtime import devices  # isort: skip  (sets TensorFlow's log level before its import)
import keras
import tensorflow as tf
from keras import layers

LEAST_VARIANCE = 1e-3  # of a pixel over a batch, in the square of its standard score: (0.03 of full brightness)^2
RAREST = 30.0  # the most that such a square counts


class DeconvFromPoint(layers.Conv2DTranspose):
    """A transposed convolution of a 1x1 image: the same weights and result as one matrix product."""

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """float [B, 1, 1, C] -> float [B, height, width, filters]."""
        height, width, filters, inputs = self.kernel.shape
        kernel = tf.cast(tf.reshape(self.kernel, [-1, inputs]), x.dtype)
        image = tf.matmul(x[:, 0, 0], kernel, transpose_b=True)
        image = tf.reshape(image, [-1, height, width, filters]) + tf.cast(self.bias, x.dtype)
        return self.activation(image)


class ConvVAE(keras.Model):
    """The VAE: `encode` a frame into (mu, logvar), `sample` z, `decode` z into a frame.

    Args:
        z_size: dimensions of z, Z.
        dtype: of the convolutions; weights, z and losses are float32. By default devices.product_dtype().
    """

    def __init__(self, z_size: int, dtype: Any = None) -> None:
        super().__init__(name="vae")
        self.z_size = z_size
        dtype = tf.as_dtype(dtype or devices.product_dtype())
        policy = "float32" if dtype == tf.float32 else f"mixed_{dtype.name}"
        conv = [layers.Conv2D(f, 4, 2, activation="relu", dtype=policy) for f in (32, 64, 128, 256)]
        self.encoder = keras.Sequential([keras.Input((64, 64, 3)), *conv, layers.Flatten()], name="encoder")
        self.fc_mu = layers.Dense(z_size, dtype="float32")
        self.fc_logvar = layers.Dense(z_size, dtype="float32")
        self.decoder = keras.Sequential(
            [
                keras.Input((z_size,)),
                layers.Dense(1024, dtype=policy),
                layers.Reshape((1, 1, 1024)),
                DeconvFromPoint(128, 5, 2, activation="relu", dtype=policy),
                layers.Conv2DTranspose(64, 5, 2, activation="relu", dtype=policy),
                layers.Conv2DTranspose(32, 6, 2, activation="relu", dtype=policy),
                layers.Conv2DTranspose(3, 6, 2, dtype=policy),
                layers.Activation("sigmoid", dtype="float32"),
            ],
            name="decoder",
        )
        self.fc_mu.build((None, 1024))
        self.fc_logvar.build((None, 1024))
        self.built = True

    @property
    def paper_weights(self) -> list[keras.Variable]:
        """The 22 variables in the order of the vae.json of the authors."""
        encoder, decoder = self.encoder.trainable_variables, self.decoder.trainable_variables
        return [*encoder, *self.fc_mu.trainable_variables, *self.fc_logvar.trainable_variables, *decoder]

    def encode(self, frames: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """uint8 [B, 64, 64, 3] -> (mu, logvar), each float32 [B, Z]."""
        hidden = tf.cast(self.encoder(tf.cast(frames, tf.float32) / 255.0), tf.float32)
        return self.fc_mu(hidden), self.fc_logvar(hidden)

    def decode(self, z: tf.Tensor) -> tf.Tensor:
        """float32 [B, Z] -> float32 [B, 64, 64, 3] in [0, 1]."""
        return self.decoder(z)

    def losses_of(
        self, frames: tf.Tensor, noise: tf.Tensor, rare_pixels: float = 0.0
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """The two terms of the loss and what is trained, each float32 [], averaged over the batch.

        Args:
            frames: uint8 [B, 64, 64, 3].
            noise: float32 [B, Z], standard normal, for the reparameterised sample of z.
            rare_pixels: the squared error of a pixel weighs 1 + this times its `rarity` in what is trained.

        Returns:
            (reconstruction, kl, loss): squared error summed over pixels; KL to N(0, I) in nats, at least half a nat per
            dimension (free bits: below that, there is no push toward the prior); the sum of the two, where the error
            is weighted.
        """
        mu, logvar = self.encode(frames)
        decoded = self.decode(sample(mu, logvar, noise))
        target = tf.cast(frames, tf.float32) / 255.0
        error = tf.square(target - decoded)
        reconstruction = tf.reduce_mean(tf.reduce_sum(error, axis=[1, 2, 3]))
        kl = tf.reduce_mean(tf.maximum(kl_to_standard_normal(mu, logvar), 0.5 * self.z_size))
        if not rare_pixels:
            return reconstruction, kl, reconstruction + kl
        weighted = error * (1 + rare_pixels * rarity(target))
        return reconstruction, kl, tf.reduce_mean(tf.reduce_sum(weighted, axis=[1, 2, 3])) + kl


def rarity(frames: tf.Tensor, among: tf.Tensor | None = None) -> tf.Tensor:
    """How unusual each pixel is: the square of its standard score in the batch, averaged over colors, at most RAREST.

    A fireball far away is a few bright pixels where other frames show a wall. Its share of the squared error of a frame
    is too small for the decoder to draw it before it draws all the rest well.

    Args:
        frames: float32 [B, H, W, C].
        among: float32 [N, H, W, C], the frames that tell what is usual; by default `frames`.

    Returns:
        float32 [B, H, W, 1]; its mean over what is usual is 1 at most.
    """
    mean, variance = tf.nn.moments(frames if among is None else among, axes=[0])
    score = tf.square(frames - mean) / (variance + LEAST_VARIANCE)
    return tf.minimum(tf.reduce_mean(score, axis=-1, keepdims=True), RAREST)


def sample(mu: tf.Tensor, logvar: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
    """z = mu + exp(logvar / 2) * noise, all float32 [..., Z]."""
    return mu + tf.exp(0.5 * logvar) * noise


def kl_to_standard_normal(mu: tf.Tensor, logvar: tf.Tensor) -> tf.Tensor:
    """KL(N(mu, sigma) || N(0, I)) in nats: float32 [B, Z], [B, Z] -> [B] (Kingma & Welling 2014, appendix B)."""
    return -0.5 * tf.reduce_sum(1.0 + logvar - tf.square(mu) - tf.exp(logvar), axis=1)


def train_step_of(
    vae: ConvVAE, optimizer: keras.Optimizer, strategy: tf.distribute.Strategy, rare_pixels: float = 0.0
) -> Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, ...]]:
    """Compiles a training step of the VAE; `rare_pixels` as in `ConvVAE.losses_of`.

    Returns:
        step(frames uint8 [B, 64, 64, 3], seed int32 [2]) -> (reconstruction, kl), float32 [], means over all devices.
    """

    def replica_step(frames: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        noise = tf.random.stateless_normal([tf.shape(frames)[0], vae.z_size], seed + [0, replica])
        with tf.GradientTape() as tape:
            reconstruction, kl, loss = vae.losses_of(frames, noise, rare_pixels)
            loss /= strategy.num_replicas_in_sync
        gradients = tape.gradient(loss, vae.trainable_variables)
        optimizer.apply_gradients(zip(gradients, vae.trainable_variables, strict=True))
        return devices.nan_unless_finite(reconstruction, gradients), kl

    @tf.function
    def step(frames: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, ...]:
        losses = strategy.run(replica_step, (frames, seed))
        return tuple(strategy.reduce(tf.distribute.ReduceOp.MEAN, loss, axis=None) for loss in losses)

    return step
