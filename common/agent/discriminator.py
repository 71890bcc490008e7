"""The discriminator of a VAE-GAN: it judges whether a frame is real, and its features measure reconstructions.

Source: Larsen et al. 2016, without their batch normalization: a frame is judged alike in any batch. (Normalizing each
frame by itself would blind the features to its brightness.)
"""

from typing import Any

from common.runtime import devices  # isort: skip  (sets TensorFlow's log level before its import)
import keras
import tensorflow as tf
from keras import layers

FEATURES = 2  # reconstructions are compared in the features of this convolution, the third


class Discriminator(keras.Model):
    """Convolutions as in the encoder of the VAE, and a logit: above 0 for frames that seem real.

    Args:
        dtype: of the convolutions; weights, features and logits are float32. By default devices.product_dtype().
    """

    def __init__(self, dtype: Any = None) -> None:
        super().__init__(name="discriminator")
        dtype = tf.as_dtype(dtype or devices.product_dtype())
        policy = "float32" if dtype == tf.float32 else f"mixed_{dtype.name}"
        self.convs = [layers.Conv2D(filters, 4, 2, dtype=policy) for filters in (32, 64, 128, 256)]
        self.fc_logit = layers.Dense(1, dtype="float32")
        for conv, (size, channels) in zip(self.convs, ((64, 3), (31, 32), (14, 64), (6, 128)), strict=True):
            conv.build((None, size, size, channels))
        self.fc_logit.build((None, 1024))
        self.built = True

    def judge(self, frames: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """float32 [B, 64, 64, 3] in [0, 1] -> (features float32 [B, F], logit float32 [B])."""
        x = features = 2 * frames - 1
        for k, conv in enumerate(self.convs):
            x = tf.cast(conv(x), tf.float32)
            if k == FEATURES:
                features = tf.reshape(x, [-1, x.shape[1] * x.shape[2] * x.shape[3]])
            x = tf.nn.leaky_relu(x)
        return features, self.fc_logit(tf.reshape(x, [-1, 1024]))[:, 0]
