"""The discriminator of a VAE-GAN: it judges whether a frame is real, and reconstructions are compared in its features.

Source: Larsen et al. 2016, without their batch normalization: a frame is judged alike in any batch. (Normalizing each
frame by itself would blind the features to its brightness.)
"""

from typing import Any

from common.runtime import devices  # isort: skip  (sets TensorFlow's log level before its import)
import keras
import tensorflow as tf
from keras import layers

FEATURES = 3  # reconstructions are compared in the pixels and in the outputs of this many convolutions


class Discriminator(keras.Model):
    """Convolutions as in the encoder of the VAE, but padded, and a logit: above 0 for frames that seem real.

    Without padding, no filter after the first convolution would see the last rows and columns.

    Args:
        dtype: of the convolutions; weights, features and logits are float32. By default devices.product_dtype().
    """

    def __init__(self, dtype: Any = None) -> None:
        super().__init__(name="discriminator")
        dtype = tf.as_dtype(dtype or devices.product_dtype())
        policy = "float32" if dtype == tf.float32 else f"mixed_{dtype.name}"
        self.convs = [layers.Conv2D(filters, 4, 2, padding="same", dtype=policy) for filters in (32, 64, 128, 256)]
        self.fc_logit = layers.Dense(1, dtype="float32")
        for conv, (size, channels) in zip(self.convs, ((64, 3), (32, 32), (16, 64), (8, 128)), strict=True):
            conv.build((None, size, size, channels))
        self.fc_logit.build((None, 4096))
        self.built = True

    def judge(self, frames: tf.Tensor) -> tuple[list[tf.Tensor], tf.Tensor]:
        """What the discriminator sees in frames, and what it says.

        Args:
            frames: float32 [B, 64, 64, 3] in [0, 1].

        Returns:
            (features, logit): the pixels from -1 to 1 and the outputs of the first FEATURES convolutions, each
            float32 [B, H, W, C]; float32 [B].
        """
        x = 2 * frames - 1
        features = [x]
        for conv in self.convs:
            x = tf.cast(conv(x), tf.float32)
            features.append(x)
            x = tf.nn.leaky_relu(x)
        return features[: 1 + FEATURES], self.fc_logit(tf.reshape(x, [-1, 4096]))[:, 0]
