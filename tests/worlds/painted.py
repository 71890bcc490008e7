"""What the tests of common/worlds share: a VAE that sees what CountingGame paints, and small models."""

import numpy as np
import tensorflow as tf

from common.agent import mdnrnn


class PaintedV:
    """Sees the step counter and the seed; its z is noisy as far as told."""

    z_size = 2

    def __init__(self, logvar):
        self.logvar = logvar

    def encode(self, frames):
        mu = tf.cast(frames[:, 0, 0, :2], tf.float32) / 8
        return mu, tf.fill(tf.shape(mu), self.logvar)


def random_rnn(rng, restart=True, action_size=1):
    rnn = mdnrnn.MDNRNN(mdnrnn.Shape(2, action_size, 4, restart), "float32")
    rnn.set_weights([rng.normal(0, 0.5, variable.shape) for variable in rnn.variables])
    return rnn


def random_parameters(rng, controller, rows):
    return rng.normal(0, 0.5, (rows, controller.parameters)).astype(np.float32)
