"""The one interface of a batch of worlds, and the real game behind it, seen through V and remembered by M.

A world is reset with one seed per row and then stepped with one action per row. Rows that have finished leave the
batch, so no work is done for the dead:

    reset(seeds [B])      -> (z, h, c) of all rows
    step(action [B, A])   -> (z, h, c) of the rows that go on, reward [B], done [B]

z is float32 [B, Z], h and c (M's memory of the past) float32 [B, H]. The dream is the other world: common/dream.py.
"""

import numpy as np
import tensorflow as tf

from common import mdnrnn, vae


class GameWorld:
    """Real games in lockstep: one V call and one M call per step for all of them."""

    def __init__(self, games, model_v, model_m):
        """
        Args:
            games: list of games, each with reset(seed) -> frame and step(action) -> (frame, reward, done).
            model_v: ConvVAE.
            model_m: MDNRNN.
        """
        self.games, self.vae, self.rnn = games, model_v, model_m
        self._weights = model_m.prepared()
        self.frames = None
        """uint8 [B, 64, 64, 3], what the rows saw last"""

    def reset(self, seeds):
        """Starts one episode per seed; see the head of this file."""
        if len(seeds) > len(self.games):
            raise ValueError(f"{len(seeds)} episodes for {len(self.games)} games")
        self._rows = self.games[: len(seeds)]
        # each episode has its own noise, so that it does not depend on its neighbours in the batch
        self._noise = [np.random.default_rng([int(seed), 1]) for seed in seeds]
        self.frames = np.stack([game.reset(seed) for game, seed in zip(self._rows, seeds, strict=True)])
        self._h, self._c = self.rnn.initial_state(len(seeds))
        self._restart = tf.ones([len(seeds)])
        self._z = self._see()
        return self._z, self._h, self._c

    def step(self, action):
        """Remembers what was seen and done, then plays it; see the head of this file."""
        h, c = self._remember(self._z, action, self._restart, self._h, self._c)
        results = [game.step(row) for game, row in zip(self._rows, np.asarray(action), strict=True)]
        frames, reward, done = map(np.array, zip(*results, strict=True))
        self._h, self._c, self.frames = h, c, frames
        if done.any():
            on = np.flatnonzero(~done)
            self._h, self._c, self.frames = tf.gather(h, on), tf.gather(c, on), frames[on]
            self._rows, self._noise = [self._rows[k] for k in on], [self._noise[k] for k in on]
        self._restart = tf.zeros([len(self._rows)])
        self._z = self._see() if self._rows else tf.zeros([0, self.vae.z_size])
        return (self._z, self._h, self._c), reward, done

    def _see(self):
        noise = np.stack([rng.standard_normal(self.vae.z_size, np.float32) for rng in self._noise])
        return self._encode(self.frames, noise)

    @tf.function(reduce_retracing=True)
    def _encode(self, frames, noise):
        # z is sampled at control time too, as the authors do
        return vae.sample(*self.vae.encode(frames), noise)

    @tf.function(reduce_retracing=True)
    def _remember(self, z, action, restart, h, c):
        inputs = mdnrnn.inputs_of(z, action, restart if self.rnn.shape.restart else None)
        return self.rnn.step(self._weights, inputs, (h, c))
