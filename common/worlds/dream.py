"""The dream: M as a world of its own, many dreams in lockstep."""

from common.runtime import devices  # noqa: F401  isort: skip  (loads TensorFlow without its banner)
import numpy as np
import tensorflow as tf

from common.agent import mdnrnn, vae

NOISE_STEPS = 64  # steps of noise drawn at a time


class DreamWorld:
    """A batch of dreams; the interface is in common/worlds.py. Reward is 1 per step; M's restart logit ends a dream.

    A dream's first z and all its noise follow from its seed, so that every candidate of a generation meets the same
    noise (common random numbers), in whatever batch and on whatever rank it is dreamed.

    Args:
        model_m: MDNRNN.
        initial_z: (mu, logvar), each float32 [frames, Z], of first frames of real episodes.
        temperature: float > 0, see mdnrnn.sample.
        max_steps: int, after which a dream ends.
        dropout: float, share of h that what predicts does not see, another one in each dream.
    """

    def __init__(self, model_m, initial_z, temperature, max_steps, dropout=0.0):
        self.dropout = dropout
        self.rnn, self.initial_z, self.max_steps = model_m, initial_z, max_steps
        self.temperature = temperature
        """may be changed between two steps"""
        self._weights = model_m.prepared()
        self.state = None
        """(z, h, c) of the rows"""

    def reset(self, seeds):
        """Starts one dream per seed from a sample of a real first frame."""
        unique, self._dream = np.unique(np.asarray(seeds), return_inverse=True)
        self._streams = [np.random.default_rng([int(seed), 2]) for seed in unique]
        mu, logvar = self.initial_z
        size = self.rnn.shape.z_size
        start = [(rng.integers(len(mu)), rng.standard_normal(size, np.float32)) for rng in self._streams]
        index, noise = map(np.array, zip(*start, strict=True))
        z = tf.gather(vae.sample(mu[index], logvar[index], noise), self._dream)
        self.state = (z, *self.rnn.initial_state(len(self._dream)))
        self._restart = tf.ones([len(self._dream)])
        uniform = [
            rng.random(self.rnn.shape.hidden_size, np.float32) if self.dropout else [1.0] for rng in self._streams
        ]
        self._mask = mdnrnn.dropout_mask(np.array(uniform, np.float32), self.dropout)
        self._steps = 0
        return self.state

    def step(self, action):
        """M dreams the next z of every row."""
        uniform, normal = self._noise()
        noise = self._mask, uniform, normal, np.float32(self.temperature)
        z, h, c, done, reward = self._next(*self.state, self._restart, action, self._dream, *noise)
        self._steps += 1
        done, reward = done.numpy() | (self._steps >= self.max_steps), reward.numpy()
        if done.any():
            on = np.flatnonzero(~done)
            z, h, c, self._dream = tf.gather(z, on), tf.gather(h, on), tf.gather(c, on), self._dream[on]
        if done.any() or self._steps == 1:
            self._restart = tf.zeros([len(self._dream)])
        self.state = (z, h, c)
        return self.state, reward, done

    def _noise(self):
        """This step's noise of every dream, not of every row: uniform and normal, each float32 [dreams, Z]."""
        k = self._steps % NOISE_STEPS
        if k == 0:
            shape, alive = (NOISE_STEPS, self.rnn.shape.z_size), set(self._dream.tolist())
            idle = np.zeros(shape, np.float32)
            pairs = [
                (rng.random(shape, np.float32), rng.standard_normal(shape, np.float32))
                if dream in alive
                else (idle, idle)
                for dream, rng in enumerate(self._streams)
            ]
            self._uniform, self._normal = (np.stack(part, axis=1) for part in zip(*pairs, strict=True))
        return self._uniform[k], self._normal[k]

    @tf.function(reduce_retracing=True)
    def _next(self, z, h, c, restart, action, dream, mask, uniform, normal, temperature):
        noise = tf.gather(uniform, dream), tf.gather(normal, dream), temperature
        mask = tf.gather(mask, dream) if self.dropout else None
        z, h, c, done = next_of(self.rnn, self._weights, (z, h, c), restart, action, *noise, mask)
        # NaN anywhere in what M read is NaN in all of h: such a dream ends, and its return is NaN, not a record
        sound = tf.math.is_finite(h[:, 0])
        return z, h, c, done | ~sound, tf.where(sound, 1.0, np.nan)


def next_of(rnn, weights, state, restart, action, uniform, normal, temperature, mask=None):
    """One step of many dreams.

    Args:
        rnn, weights: MDNRNN and its prepared weights.
        state: (z, h, c), float32 [B, Z], [B, H], [B, H].
        restart: float32 [B], 1 on a dream's first step.
        action: float [B, A].
        uniform, normal, temperature: see mdnrnn.sample.
        mask: float32 [B, H], see mdnrnn.dropout_mask; None for no dropout.

    Returns:
        (z, h, c, done bool [B]): M's restart logit ends a dream; without one, nothing does.
    """
    z, h, c = state
    has_restart = rnn.shape.restart
    h, c = rnn.step(weights, mdnrnn.inputs_of(z, action, restart if has_restart else None), (h, c))
    mixture, logit = rnn.predict(weights, h if mask is None else h * mask)
    z = mdnrnn.sample(mixture, temperature, uniform, normal)
    return z, h, c, logit > 0 if has_restart else tf.zeros_like(restart, tf.bool)
