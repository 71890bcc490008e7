"""What training V and M is made of, in every game: Adam and its schedules, the devices, going on where it was."""

from common import devices  # isort: skip  (loads TensorFlow without its banner)
import keras
import numpy as np

from common import dream, episodes, mdnrnn, vae
from common.cli import UserError

WARMUP = 200  # steps of the cosine schedule, or a tenth of all steps if that is less


class ExponentialDecay(keras.optimizers.schedules.LearningRateSchedule):
    """1e-5 + (rate - 1e-5) * 0.99999^step, the authors' schedule for M."""

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
    elif cfg.schedule == "exponential":
        rate = ExponentialDecay(rate)
    optimizer = keras.optimizers.Adam(rate, **options)
    optimizer.build(variables)
    return optimizer


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


class _Trainer:
    """A model and its Adam on all devices, fed with batches, saved in a stage's checkpoint and restored from it."""

    def __init__(self, cfg, new_model, **options):
        self.cfg, self.strategy = cfg, devices.for_training(cfg.seed)
        with self.strategy.scope():
            self.model = new_model()
            self._optimizer = adam(cfg, self.model.trainable_variables, **options)
        self._variables = self.model.trainable_variables + self._optimizer.variables

    def resume(self, stage, batches):
        """Goes on from the stage's checkpoint, if there is one, with the batches that follow it.

        Args:
            stage: runs.Stage.
            batches: what to train on, with `dataset(start, stop)`, such as episodes.FrameStream.

        Returns:
            int, steps done.
        """
        start, saved = stage.restore(self._variables)
        self._stage = stage
        self._restore_state(saved, batches)
        self._batches = self._distributed(batches.dataset(start, self.cfg.steps))
        return start

    def save(self, step):
        """Writes a checkpoint after this step."""
        self._stage.save(step, self._variables, **self._state())

    def save_if_due(self, step):
        """Writes one when the last is as old as the config says."""
        self._stage.save_if_due(step, self._variables, **self._state())

    def _checked(self, step, losses):
        """The losses as floats; UserError if one, or a gradient, is not finite: nothing is saved from then on."""
        losses = tuple(map(float, losses))
        if not np.isfinite(losses).all():
            raise UserError(
                f"step {step}: the loss {losses} of this batch, or a gradient, is not finite; the last good checkpoint "
                f"in {self._stage.folder} is kept. Lower --learning_rate, or look at what it was fed"
            )
        return losses

    def _distributed(self, dataset):
        return iter(self.strategy.experimental_distribute_dataset(dataset))

    def _state(self):
        return {}

    def _restore_state(self, saved, batches):
        pass


class VTrainer(_Trainer):
    """Training of V; from `resume` on, one `step` after the other."""

    def __init__(self, cfg):
        """
        Args:
            cfg: stages.Vae.
        """
        super().__init__(cfg, lambda: vae.ConvVAE(cfg.z_size))
        self._train = vae.train_step_of(self.model, self._optimizer, self.strategy)

    def step(self, step):
        """Trains on the next batch; returns (reconstruction, kl) of it, see ConvVAE.losses_of."""
        self._frames = next(self._batches)
        return self._checked(step, self._train(self._frames, np.array([self.cfg.seed, step], np.int32)))

    def reconstructions(self, count=10):
        """Frames of the last batch side by side, V's reconstructions below them: float32 [128, 64 * count, 3]."""
        frames = self.strategy.experimental_local_results(self._frames)[0][:count]
        mu, _ = self.model.encode(frames)
        rows = [np.array(frames) / np.float32(255), np.array(self.model.decode(mu))]
        return np.concatenate([np.concatenate(row, axis=1) for row in rows])


class MTrainer(_Trainer):
    """Training of M, whose memory is carried from one chunk of the streams to the next; used like VTrainer."""

    def __init__(self, cfg, shape, restart_weight=0.0):
        """
        Args:
            cfg: stages.Rnn.
            shape: mdnrnn.Shape.
            restart_weight: float, weight of restarts in their cross-entropy; of no use to an M without restarts.
        """
        super().__init__(cfg, lambda: mdnrnn.MDNRNN(shape), clipvalue=cfg.clip)
        self._train, self._evaluate = mdnrnn.train_step_of(self.model, self._optimizer, self.strategy, restart_weight)

    def step(self, step):
        """Trains on the next chunk; returns (z_loss, restart_loss) of it, see mdnrnn.losses_of."""
        seed = np.array([self.cfg.seed, step], np.int32)
        losses, self._memory = self._train(next(self._batches), self._memory, seed)
        return self._checked(step, losses)

    def losses_on(self, series):
        """(z_loss, restart_loss) over one pass through other episodes, and noise that is always the same.

        Args:
            series: episodes.Series.
        """
        replicas, cfg = self.strategy.num_replicas_in_sync, self.cfg
        batches = episodes.StreamBatches(series, replicas, cfg.sequence_length, cfg.seed)
        chunks, memory = self._distributed(batches.dataset()), self._no_memory(replicas)
        total = np.zeros(2)
        for k in range(batches.per_epoch):
            losses, memory = self._evaluate(next(chunks), memory, np.array([cfg.seed, -k], np.int32))
            total += np.array(losses)
        return total / batches.per_epoch

    def dreams(self, series, decode, steps=60, every=6):
        """An episode as V saw it, and what M dreams from its first frame, given the same actions.

        Args:
            series: episodes.Series; its longest episode is taken, repeated if it is too short.
            decode: V's decoder, float32 [B, Z] -> float32 [B, 64, 64, 3].
            steps, every: int, how long to dream, and how many steps are from picture to picture.

        Returns:
            float32 [128, 64 * steps / every, 3]: above what was seen, below the dream at temperature 1.
        """
        frames = np.resize(series.first[series.length.argmax()] + np.arange(series.length.max()), steps)
        seen, action = series.mu[frames].astype(np.float32), series.action[frames]
        rng, weights = np.random.default_rng(self.cfg.seed), self.model.prepared()
        dreamt, memory = [seen[:1]], self.model.initial_state(1)
        for t in range(steps - 1):
            luck = rng.random((1, series.z_size), np.float32), rng.standard_normal((1, series.z_size), np.float32)
            start, state = np.float32([t == 0]), (dreamt[-1], *memory)
            z, *memory, _ = dream.next_of(self.model, weights, state, start, action[t : t + 1], *luck, 1.0)
            dreamt.append(z)
        rows = [np.array(decode(row[::every])) for row in (seen, np.concatenate(dreamt))]
        return np.concatenate([np.concatenate(row, axis=1) for row in rows])

    def _no_memory(self, streams):
        return to_replicas(self.strategy, np.zeros((2, streams, self.cfg.hidden_size), np.float32))

    def _state(self):
        return {"state": from_replicas(self.strategy, self._memory), "frames": self._series_frames}

    def _restore_state(self, saved, batches):
        self._series_frames = len(batches.series.mu)
        before = int(saved.get("frames", self._series_frames))
        if before != self._series_frames:  # episodes held out of training so far would come into it
            raise UserError(
                f"{self._stage.folder}: its training began on {before} frames, the series has {self._series_frames} "
                "now; give another --run, or begin anew with --fresh"
            )
        self._memory = to_replicas(self.strategy, saved["state"]) if saved else self._no_memory(self.cfg.streams)
