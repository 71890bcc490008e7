"""Adam and its schedules, shared by the training of V and M."""

from common import devices  # noqa: F401  isort: skip  (loads TensorFlow without its banner)
import keras
import numpy as np
import tensorflow as tf

from common.cli import UserError

WARMUP = 200  # steps of the cosine schedule, or a tenth of all steps if that is less


class PaperDoomDecay(keras.optimizers.schedules.LearningRateSchedule):
    """The authors' schedule for Doom's M: 1e-5 + (rate - 1e-5) * 0.99999^step."""

    def __init__(self, rate):
        self.rate = rate

    def __call__(self, step):
        return 1e-5 + (self.rate - 1e-5) * 0.99999 ** keras.ops.cast(step, "float32")


def adam(cfg, variables, **options):
    """Adam with a config's `learning_rate`, `schedule` and `steps`, its state made, ready to be restored.

    Args:
        cfg: a stage's config; schedule "cosine" warms up for `WARMUP` steps and falls to zero at the last.
        variables: what it will train.
        **options: further arguments of keras.optimizers.Adam.
    """
    rate = cfg.learning_rate
    if cfg.schedule == "cosine":
        warmup = max(1, min(WARMUP, cfg.steps // 10))
        decay = max(1, cfg.steps - warmup)
        rate = keras.optimizers.schedules.CosineDecay(0.0, decay, warmup_target=rate, warmup_steps=warmup)
    elif cfg.schedule == "paper_doom":
        rate = PaperDoomDecay(rate)
    optimizer = keras.optimizers.Adam(rate, **options)
    optimizer.build(variables)
    return optimizer


def nan_unless_finite(loss, gradients):
    """The loss, or NaN if a gradient is not finite: so that a broken step shows in what it reports."""
    finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(gradient)) for gradient in gradients])
    return tf.where(finite, loss, np.nan)


def to_replicas(strategy, arrays):
    """Splits the rows of M's state over the devices: [2, B, H] -> (h, c), on each device its own rows."""

    if len(arrays[0]) % strategy.num_replicas_in_sync:
        raise UserError(
            f"{len(arrays[0])} rows do not divide among {strategy.num_replicas_in_sync} devices; give another --streams"
        )

    def distributed(array):
        rows = np.split(array, strategy.num_replicas_in_sync)
        return strategy.experimental_distribute_values_from_function(
            lambda context: keras.ops.convert_to_tensor(rows[context.replica_id_in_sync_group])
        )

    return tuple(distributed(array) for array in arrays)


def from_replicas(strategy, state):
    """The opposite of `to_replicas`: float32 [2, B, H]."""
    parts = [strategy.experimental_local_results(part) for part in state]
    return np.stack([np.concatenate([rows.numpy() for rows in part]) for part in parts])
