"""The one interface of a batch of worlds: real games, and real games as V sees and M remembers them.

A world is reset with one seed per row and then stepped with one action per row. Rows that have finished leave the
batch, so no work is done for the dead:

    reset(seeds [B])      -> state of all rows
    step(action [B, A])   -> state of the rows that go on, reward [B], done [B]

The state is whatever the policy acts on: frames (Games), or (z, h, c), M's memory of the past being h and c (EncodedGames,
and the dream of common/dream.py).
"""

from common.runtime import devices  # noqa: F401  isort: skip  (loads TensorFlow without its banner)
import numpy as np
import tensorflow as tf

from common.agent import mdnrnn, vae


class EncodedGames:
    """Games in lockstep as the agent knows them: one V call and one M call per step for all; the state is (z, h, c).

    z is float32 [B, Z]; h and c float32 [B, H].

    Args:
        games: a batch of games whose state is frames, such as Games.
        model_v: ConvVAE.
        model_m: MDNRNN.
        sample_z: bool, whether z is a sample of V's posterior, as the authors have it, or its mean.
    """

    def __init__(self, games, model_v, model_m, sample_z=True):
        self.games, self.vae, self.rnn, self._sample_z = games, model_v, model_m, sample_z
        self._weights = model_m.prepared()
        self.frames = None
        """uint8 [B, 64, 64, 3], what the rows saw last"""
        self.state = None
        """(z, h, c) of the rows"""
        self.hidden = None
        """h of all rows that the last step was played in, from which the MDN-RNN predicts what it brought"""

    def reset(self, seeds):
        """Starts one episode per seed, M's memory empty."""
        # each episode has its own noise, so that it does not depend on its neighbours in the batch
        self._noise = [np.random.default_rng([int(seed), 1]) for seed in seeds]
        self._restart = np.ones(len(seeds), np.float32)
        return self._see(self.games.reset(seeds), *self.rnn.initial_state(len(seeds)))

    def step(self, action):
        """Remembers what was seen and done, then plays it."""
        h, c = self._remember(*self.state, action, self._restart)
        self.hidden = h
        frames, reward, done = self.games.step(np.asarray(action))
        if done.any():
            on = np.flatnonzero(~done)
            h, c, self._noise = tf.gather(h, on), tf.gather(c, on), [self._noise[k] for k in on]
        self._restart = np.zeros(len(frames), np.float32)
        return (self._see(frames, h, c) if len(frames) else None), reward, done

    def _see(self, frames, h, c):
        if self._sample_z:
            noise = np.stack([rng.standard_normal(self.vae.z_size, np.float32) for rng in self._noise])
        else:
            noise = np.zeros((len(frames), self.vae.z_size), np.float32)
        self.frames, self.state = frames, (self._encode(frames, noise), h, c)
        return self.state

    @tf.function(reduce_retracing=True)
    def _encode(self, frames, noise):
        # z is sampled at control time too, as the authors do
        return vae.sample(*self.vae.encode(frames), noise)

    @tf.function(reduce_retracing=True)
    def _remember(self, z, h, c, action, restart):
        inputs = mdnrnn.inputs_of(z, action, restart if self.rnn.shape.restart else None)
        return self.rnn.step(self._weights, inputs, (h, c))
