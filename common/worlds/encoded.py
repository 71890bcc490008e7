"""Real games as the agent knows them: the VAE encodes the frames, the MDN-RNN remembers frames and actions."""

from typing import Any

from common.runtime import devices  # noqa: F401  isort: skip  (loads TensorFlow without its banner)
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from common.agent import mdnrnn, vae
from common.protocols import Seeds, World


class EncodedGames:
    """A World of games in lockstep, with one call of the VAE and one of the MDN-RNN per step for all rows.

    The state is (z, h, c): float32 [B, Z], and the state of the MDN-RNN, each float32 [B, H].

    Args:
        games: a batch of games with frames as its state, such as Games.
        vae: encodes the frames.
        rnn: remembers.
        sample_z: whether z is a sample of the posterior of the VAE, as in the authors' code, or its mean.
    """

    def __init__(self, games: World, vae: vae.ConvVAE, rnn: mdnrnn.MDNRNN, sample_z: bool = True) -> None:
        self.games, self.vae, self.rnn, self._sample_z = games, vae, rnn, sample_z
        self._weights = rnn.prepared()
        self.frames: Any = None
        """uint8 [B, 64, 64, 3], what the rows saw last"""
        self.state: Any = None
        """(z, h, c) of the rows"""
        self.hidden: Any = None
        """h of all rows of the last step, from which the MDN-RNN predicts the state after it"""

    def reset(self, seeds: Seeds) -> tuple[tf.Tensor, ...]:
        """Starts one episode per seed, with the memory of the MDN-RNN empty."""
        # each episode has its own noise, so that it does not depend on the other rows of the batch
        self._noise = [np.random.default_rng([int(seed), 1]) for seed in seeds]
        self._restart = np.ones(len(seeds), np.float32)
        return self._see(self.games.reset(seeds), *self.rnn.initial_state(len(seeds)))

    def step(self, action: ArrayLike) -> tuple[Any, np.ndarray, np.ndarray]:
        """Remembers the frame and the action, then plays it: float [B, A] -> (state, reward [B], done [B])."""
        h, c = self._remember(*self.state, action, self._restart)
        self.hidden = h
        frames, reward, done = self.games.step(np.asarray(action))
        if done.any():
            on = np.flatnonzero(~done)
            h, c, self._noise = tf.gather(h, on), tf.gather(c, on), [self._noise[k] for k in on]
        self._restart = np.zeros(len(frames), np.float32)
        return (self._see(frames, h, c) if len(frames) else None), reward, done

    def _see(self, frames: np.ndarray, h: tf.Tensor, c: tf.Tensor) -> tuple[tf.Tensor, ...]:
        if self._sample_z:
            noise = np.stack([rng.standard_normal(self.vae.z_size, np.float32) for rng in self._noise])
        else:
            noise = np.zeros((len(frames), self.vae.z_size), np.float32)
        self.frames, self.state = frames, (self._encode(frames, noise), h, c)
        return self.state

    @tf.function(reduce_retracing=True)
    def _encode(self, frames: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
        # z is sampled at control time too, as in the authors' code
        return vae.sample(*self.vae.encode(frames), noise)

    @tf.function(reduce_retracing=True)
    def _remember(
        self, z: tf.Tensor, h: tf.Tensor, c: tf.Tensor, action: tf.Tensor, restart: tf.Tensor
    ) -> mdnrnn.State:
        inputs = mdnrnn.inputs_of(z, action, restart if self.rnn.shape.restart else None)
        return self.rnn.step(self._weights, inputs, (h, c))
