"""Controllers acting in a batch of worlds: the loop that everything here is built around."""

import numpy as np
import tensorflow as tf


def rollout(world, controller, parameters, seeds):
    """Plays one episode per row, all in lockstep, until the last has finished.

    Args:
        world: a batch of worlds, see common/worlds.py.
        controller: Controller.
        parameters: float32 [B, N], each row's own controller.
        seeds: [B] int, each row's episode.

    Returns:
        (returns float64 [B], lengths int [B]).
    """
    returns, lengths = np.zeros(len(seeds)), np.zeros(len(seeds), int)
    live, parameters = np.arange(len(seeds)), tf.constant(parameters, tf.float32)
    state = world.reset(seeds)
    while len(live):
        action = _act(controller, parameters, *state)
        state, reward, done = world.step(action)
        returns[live] += reward
        lengths[live] += 1
        if done.any():
            live, parameters = live[~done], tf.gather(parameters, np.flatnonzero(~done))
    return returns, lengths


@tf.function(reduce_retracing=True)
def _act(controller, parameters, z, h, c):
    return controller.act(parameters, controller.features(z, h, c))
