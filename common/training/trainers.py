"""The trainers of the VAE and the MDN-RNN: a model, its Adam and its checkpoint, on all devices."""

from collections.abc import Callable
from typing import Any

from common.runtime import devices  # isort: skip  (loads TensorFlow without its banner)
import keras
import numpy as np
import tensorflow as tf

from common.agent import mdnrnn, vae
from common.data import series
from common.runtime import runs, settings
from common.runtime.cli import UserError
from common.worlds import dream

WARMUP = 200  # steps of the cosine schedule, or a tenth of all steps if that is less


class ExponentialDecay(keras.optimizers.schedules.LearningRateSchedule):
    """1e-5 + (rate - 1e-5) * 0.99999^step, the schedule of the authors' code for the MDN-RNN."""

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def __call__(self, step: Any) -> Any:
        """Step -> learning rate."""
        return 1e-5 + (self.rate - 1e-5) * 0.99999 ** keras.ops.cast(step, "float32")


def adam(cfg: Any, variables: list[Any], clock: tf.Variable | None = None, **options: Any) -> keras.optimizers.Adam:
    """Adam with the learning rate and schedule of a config, its state built, ready to be restored.

    Args:
        cfg: settings.Vae or settings.Rnn; schedule "cosine" warms up for `WARMUP` steps and falls to zero at the last.
        variables: the Keras variables that it will train.
        clock: int [], the step of the training, for the schedule of an Adam that rests in some steps; by default it
            counts its own.
        **options: further arguments of keras.optimizers.Adam.
    """
    rate = cfg.learning_rate
    if cfg.schedule == "cosine":
        warmup = max(1, min(WARMUP, cfg.steps // 10))
        decay = max(1, cfg.steps - warmup)
        rate = keras.optimizers.schedules.CosineDecay(0.0, decay, warmup_target=rate, warmup_steps=warmup)
    elif cfg.schedule == "exponential":
        rate = ExponentialDecay(rate)
    of_clock = callable(rate) and clock is not None
    optimizer = keras.optimizers.Adam((lambda: rate(clock)) if of_clock else rate, **options)
    optimizer.build(variables)
    return optimizer


def to_replicas(strategy: tf.distribute.Strategy, arrays: np.ndarray) -> tuple[Any, Any]:
    """Splits the rows of the state over the devices: float32 [2, B, H] -> (h, c), on each device its own rows.

    Raises:
        UserError: the rows do not divide among the devices.
    """
    if len(arrays[0]) % strategy.num_replicas_in_sync:
        raise UserError(
            f"{len(arrays[0])} rows do not divide among {strategy.num_replicas_in_sync} devices; give another --streams"
        )

    def distributed(array: np.ndarray) -> Any:
        rows = np.split(array, strategy.num_replicas_in_sync)
        return strategy.experimental_distribute_values_from_function(
            lambda context: keras.ops.convert_to_tensor(rows[context.replica_id_in_sync_group])
        )

    h, c = arrays
    return distributed(h), distributed(c)


def from_replicas(strategy: tf.distribute.Strategy, state: tuple[Any, Any]) -> np.ndarray:
    """The opposite of `to_replicas`: float32 [2, B, H]."""
    parts = [strategy.experimental_local_results(part) for part in state]
    return np.stack([np.concatenate([rows.numpy() for rows in part]) for part in parts])


class Trainer:
    """A model and its Adam on all devices, fed with batches, saved in a stage's checkpoint and restored from it.

    Args:
        cfg: settings.Vae or settings.Rnn.
        new_model: () -> the model.
        trained: (the model) -> the variables that Adam trains.
        blocks: see devices.for_training.
        **options: of Adam.
    """

    def __init__(
        self,
        cfg: Any,
        new_model: Callable[[], keras.Model],
        trained: Callable[[Any], list[Any]] = lambda model: model.trainable_variables,
        blocks: bool = False,
        **options: Any,
    ) -> None:
        self.cfg, self.strategy = cfg, devices.for_training(cfg.seed, blocks)
        with self.strategy.scope():
            self.model = new_model()
            self._optimizer = adam(cfg, trained(self.model), **options)
        self._variables = self.model.trainable_variables + self._optimizer.variables

    def resume(self, stage: runs.Stage, batches: Any, source: str) -> int:
        """Goes on from the checkpoint of the stage, if there is one, with the batches that follow it.

        Args:
            stage: runs.Stage.
            batches: what to train on, with `dataset(start, stop)`, such as recordings.FrameStream.
            source: what identifies the data and the first weights; training continues with the same only.

        Returns:
            int, steps done.

        Raises:
            UserError: the checkpoint is damaged, or its training began on other data.
        """
        start, saved = stage.restore(self._variables)
        self._stage, self._source = stage, source
        before = str(saved.pop("source", self._source))
        if before != self._source:  # or episodes that were held out so far could be trained on
            raise UserError(
                f"{stage.folder}: its training began on other data ({before[:12]}, now {self._source[:12]}); "
                "give another --run, or begin anew with --fresh"
            )
        self._restore_state(saved)
        self._data, self._batches = batches, self._distributed(batches.dataset(start, self.cfg.steps))
        return start

    def save(self, step: int) -> None:
        """Writes a checkpoint after this step."""
        self._stage.save(step, self._variables, source=self._source, **self._state())

    def save_if_due(self, step: int) -> None:
        """Writes a checkpoint when the last one is older than `checkpoint_seconds` of the config."""
        self._stage.save_if_due(step, self._variables, source=self._source, **self._state())

    def _checked(self, step: int, tensors: Any) -> tuple[float, ...]:
        """The losses as floats; UserError if one, or a gradient, is not finite: nothing is saved from then on."""
        losses = tuple(map(float, tensors))
        if not np.isfinite(losses).all():
            raise UserError(
                f"step {step}: the loss {losses} of this batch, or a gradient, is not finite; the last good checkpoint "
                f"in {self._stage.folder} is kept. Lower --learning_rate, or check the data"
            )
        return losses

    def _next(self) -> Any:
        """The next batch; what prevents it is raised as it was, not as TensorFlow reports it from the background."""
        try:
            return next(self._batches)
        except tf.errors.OpError as error:
            raise getattr(self._data, "failure", None) or error from None

    def _distributed(self, dataset: tf.data.Dataset) -> Any:
        return iter(self.strategy.experimental_distribute_dataset(dataset))

    def _state(self) -> dict[str, np.ndarray]:
        """What a checkpoint holds beside the variables: nothing, or the memory of the MDN-RNN."""
        return {}

    def _restore_state(self, saved: dict[str, np.ndarray]) -> None:
        """Takes over what `_state` gave; {} at the start of a training."""


class VaeTrainer(Trainer):
    """Training of the VAE: `resume`, then one `step` after the other.

    Args:
        cfg: settings.Vae.
    """

    names: tuple[str, ...] = ("vae__recon_loss", "vae__kl_loss")
    """of the losses that `step` returns, in metrics.jsonl"""

    def __init__(self, cfg: Any) -> None:
        super().__init__(cfg, lambda: vae.ConvVAE(cfg.z_size))
        self._train = vae.train_step_of(self.model, self._optimizer, self.strategy, cfg.rare_pixels)

    def step(self, step: int) -> tuple[float, ...]:
        """Trains on the next batch; returns its losses: (reconstruction, kl), see ConvVAE.losses_of."""
        self._frames = self._next()
        return self._checked(step, self._train(self._frames, np.array([self.cfg.seed, step], np.int32)))

    def reconstructions(self, count: int = 10) -> np.ndarray:
        """Frames of the last batch side by side, with their reconstructions below: float32 [128, 64 * count, 3]."""
        frames = self.strategy.experimental_local_results(self._frames)[0][:count]
        mu, _ = self.model.encode(frames)
        rows = [np.array(frames) / np.float32(255), np.array(self.model.decode(mu))]
        return np.concatenate([np.concatenate(row, axis=1) for row in rows])


class RnnTrainer(Trainer):
    """Training of the MDN-RNN: `resume`, then `step`. Its memory is carried from one chunk of the streams to the next.

    Args:
        cfg: settings.Rnn.
        shape: mdnrnn.Shape.
        restart_weight: weight of the restarts in the cross-entropy of the flag; without restarts it has no effect.
        pay: settings.Pay, what the heads learn, if the shape has any.
    """

    def __init__(
        self, cfg: Any, shape: mdnrnn.Shape, restart_weight: float = 0.0, pay: settings.Pay | None = None
    ) -> None:
        super().__init__(cfg, lambda: mdnrnn.MDNRNN(shape), blocks=True, clipvalue=cfg.clip)
        self._memory = self._no_memory(cfg.streams)
        blocks, gaussian = devices.blocks_of(cfg.streams), cfg.output == "gaussian"
        restart_z = getattr(cfg, "restart_z", False)
        self._train, self._evaluate = mdnrnn.train_step_of(
            self.model, self._optimizer, self.strategy, restart_weight, cfg.dropout, pay, gaussian, blocks, restart_z
        )

    def step(self, step: int) -> tuple[float, ...]:
        """Trains on the next chunk; returns its losses, see mdnrnn.losses_of."""
        seed = np.array([self.cfg.seed, step], np.int32)
        losses, self._memory = self._train(next(self._batches), self._memory, seed)
        return self._checked(step, losses)

    def losses_on(self, unseen: series.Series) -> np.ndarray:
        """The losses over one pass through other episodes, float64, always with the same noise."""
        replicas, cfg = self.strategy.num_replicas_in_sync, self.cfg
        batches = series.StreamBatches(unseen, replicas, cfg.sequence_length, cfg.seed, cfg.heads)
        chunks, memory = self._distributed(batches.dataset()), self._no_memory(replicas)
        total = np.zeros(4 if cfg.heads else 2)
        for k in range(batches.per_epoch):
            losses, memory = self._evaluate(next(chunks), memory, np.array([cfg.seed, -k], np.int32))
            total += np.array(losses)
        return total / batches.per_epoch

    def dreams(
        self, unseen: series.Series, decode: Callable[[Any], Any], steps: int = 60, every: int = 6
    ) -> np.ndarray:
        """An episode as the VAE saw it, and the dream of the MDN-RNN from its first frame with the same actions.

        Args:
            unseen: episodes; the longest is taken, repeated if it is too short.
            decode: of the VAE, float32 [B, Z] -> float32 [B, 64, 64, 3].
            steps: how long to dream.
            every: steps from one picture to the next.

        Returns:
            float32 [128, 64 * steps / every, 3]: what was seen above the dream at temperature 1.
        """
        frames = np.resize(unseen.first[unseen.length.argmax()] + np.arange(unseen.length.max()), steps)
        seen, action = unseen.mu[frames].astype(np.float32), unseen.action[frames]
        rng, weights = np.random.default_rng(self.cfg.seed), self.model.prepared()
        dreamt, memory = [seen[:1]], self.model.initial_state(1)
        for t in range(steps - 1):
            noise = rng.random((1, unseen.z_size), np.float32), rng.standard_normal((1, unseen.z_size), np.float32)
            start, state = np.array([t == 0], np.float32), (dreamt[-1], *memory)
            z, *memory, _ = dream.next_of(self.model, weights, state, start, action[t : t + 1], *noise, 1.0)
            dreamt.append(z)
        rows = [np.array(decode(row[::every])) for row in (seen, np.concatenate(dreamt))]
        return np.concatenate([np.concatenate(row, axis=1) for row in rows])

    def _no_memory(self, streams: int) -> tuple[Any, Any]:
        return to_replicas(self.strategy, np.zeros((2, streams, self.cfg.hidden_size), np.float32))

    def _state(self) -> dict[str, np.ndarray]:
        return {"state": from_replicas(self.strategy, self._memory)}

    def _restore_state(self, saved: dict[str, np.ndarray]) -> None:
        if saved:
            self._memory = to_replicas(self.strategy, saved["state"])
