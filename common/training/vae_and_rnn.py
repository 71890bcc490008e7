"""Training of the VAE and the MDN-RNN, and the encoding between them: three stages that are the same in every game.

Each takes the game and the description of its script, and is resumed by the same command (common/runtime/runs.py).
"""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterable
from typing import Any

from common.runtime import devices  # isort: skip  (loads TensorFlow without its banner)
import keras
import numpy as np
import tensorflow as tf

from common.agent import mdnrnn, models, vae, weights
from common.data import recordings, series
from common.game import Game
from common.play import agents
from common.runtime import cli, files, provenance, runs, settings
from common.runtime.cli import UserError
from common.worlds import dream

PICTURE_EVERY = 1000  # steps of the training of the VAE between pictures for TensorBoard
RNN_LOSSES = "z_loss", "restart_loss", "reward_loss", "fall_loss"  # as mdnrnn.losses_of returns them
WARMUP = 200  # steps of the cosine schedule, or a tenth of all steps if that is less


def train_vae(game: Game, description: str | None) -> None:
    """vae_train.py: record/ -> tf_vae/."""
    cfg, arguments = cli.parse(game.config.VAE, description)
    if not cfg.gan and cfg.gan_gamma != game.config.VAE[arguments.preset].gan_gamma:
        raise UserError("--gan_gamma is of the VAE-GAN only; add --gan, or leave it out")
    if cfg.gan and cfg.batch_size < 2:
        raise UserError("--gan measures reconstructions by what varies in a batch: give a --batch_size of 2 or more")
    stage = runs.Stage(arguments, "tf_vae", "vae.json", cfg)
    if stage.finished:
        return
    folder = os.path.join(arguments.run, "record")
    frames = recordings.FrameStream(folder, cfg.batch_size, cfg.seed, mirror=cfg.mirror, action_sizes=game.action_sizes)
    made_of = recordings.training_sources(folder, frames.paths, arguments.unverified)
    parents: dict[str, Any] = {"recordings": list(made_of)}
    trainer = _vae_trainer(cfg)
    if cfg.start_from:
        path = agents.find(cfg.start_from, arguments.run)
        made_of.append(provenance.read(path, "vae", game.name, arguments.unverified))
        weights.vae_start_from(path, trainer.model)
        parents["start_from"] = files.sha256(path)
    start = trainer.resume(stage, frames, _source(frames.source, parents))
    with runs.progress(cfg.steps, start, "train the VAE") as bar:
        for step in range(start + 1, cfg.steps + 1):
            losses = trainer.step(step)
            bar.update()
            if step % cfg.report_every == 0 or step == cfg.steps:
                bar.set_postfix(recon=f"{losses[0]:.2f}", kl=f"{losses[1]:.2f}", refresh=False)
                stage.log(step, **dict(zip(trainer.names, losses, strict=True)))
            if step % PICTURE_EVERY == 0 or step == cfg.steps:
                stage.show(step, "vae/reconstructions", trainer.reconstructions())
            trainer.save_if_due(step)
    trainer.save(cfg.steps)
    weights.write_vae(stage.result, trainer.model)
    stage.write_meta(game.name, "vae", parents, provenance.any_unverified(*made_of))
    print(f"{stage.result}: written (peak memory {runs.peak_memory():.2f} GB)")


def _vae_trainer(cfg: Any) -> "VaeTrainer":
    """The trainer of the VAE, or that of a VAE-GAN."""
    if not cfg.gan:
        return VaeTrainer(cfg)
    from common.training import gan  # which builds on this module

    return gan.GanTrainer(cfg)


def encode(game: Game, description: str | None) -> None:
    """series.py: record/ and the VAE -> series/. Recordings that are newer than the series are added to it."""
    cfg, arguments = cli.parse(game.config.SERIES, description)
    folder = os.path.join(arguments.run, "record")
    paths, _ = recordings.scan(folder, game.action_sizes)
    made_of = recordings.training_sources(folder, paths, arguments.unverified)
    parents: dict[str, Any] = {"recordings": list(made_of)}
    vae_path = _vae_of(game, arguments.run)
    made_of.append(provenance.read(vae_path, "vae", game.name, arguments.unverified))
    parents["vae"] = files.sha256(vae_path)
    about = {"encoded": {"vae": parents["vae"]}}
    stage = runs.Stage(arguments, "series", "series.npz", cfg, may_change=("episodes_per_part",), about=about)
    missing, parts = series.not_encoded(paths, stage.folder)
    if not missing and parts == [stage.result] and stage.finished:
        return
    provenance.forget(stage.result)  # which is about to change
    devices.for_training(seed=0)
    series.encode(missing, parts, weights.read_vae(vae_path), stage.folder, cfg.episodes_per_part, cfg.mirror)
    stage.write_meta(game.name, "series", parents, provenance.any_unverified(*made_of))
    print(f"{stage.result}: written")


def _vae_of(game: Game, run: str) -> str:
    """Path of the VAE that a run encodes with: its own if it has trained one, else the first that ships."""
    own = os.path.join(run, game.config.TRAINED["vae"])
    if os.path.exists(own):
        return own
    if not models.sets(game, run):
        raise UserError(f"{own}: no such file, and no VAE ships; train one first with: python vae_train.py")
    return models.find(game, run)["vae"]


def _source(data: str, parents: dict[str, Any]) -> str:
    """What identifies the data that a training reads and, if there are any, the weights that it starts from."""
    start = parents.get("start_from")
    return hashlib.sha256(f"{data} {start}".encode()).hexdigest() if start else data


def _chunks(game: Game, cfg: Any, known: series.Series) -> series.StreamBatches | series.MixedBatches:
    """What the MDN-RNN is trained on, as the config says."""

    def mirrored(part: series.Series) -> series.Series:
        return part.with_mirror_images(game.config.MIRROR) if cfg.mirror else part

    if not cfg.newest:
        return series.StreamBatches(mirrored(known), cfg.streams, cfg.sequence_length, cfg.seed, cfg.heads)
    old, new = map(mirrored, known.split(cfg.newest))
    return series.MixedBatches(old, new, cfg.newest_share, cfg.streams, cfg.sequence_length, cfg.seed, cfg.heads)


def _split(data: series.Series, cfg: Any) -> tuple[series.Series, series.Series]:
    """(episodes to train on, those of the validation); UserError if the first validation would fail."""
    known, unseen = data.split(cfg.validation_episodes)
    if len(unseen.mu) <= cfg.sequence_length:
        raise UserError(
            f"--validation_episodes {cfg.validation_episodes}: their {len(unseen.mu)} frames do not fill a chunk of "
            f"{cfg.sequence_length + 1}; raise it, or lower --sequence_length"
        )
    return known, unseen


def train_rnn(game: Game, description: str | None) -> None:
    """rnn_train.py: series/ -> tf_initial_z/ and tf_rnn/."""
    cfg, arguments = cli.parse(game.config.RNN, description)
    cfg = _one_normal(cfg, game.config.RNN[arguments.preset])
    path = os.path.join(arguments.run, "series", "series.npz")
    data = series.Series(path)
    game = game.acting_by(data.action.shape[1])
    config, pay = game.config, game.pay if cfg.heads else None
    made_of = [provenance.read(path, "series", game.name, arguments.unverified)]
    parents: dict[str, Any] = {"series": files.sha256(path), "vae": made_of[0]["parents"].get("vae")}
    parents["recordings"] = made_of[0]["parents"].get("recordings", [])
    _check_vae(game, arguments, path, made_of[0])
    known, unseen = _split(data, cfg)
    stage = runs.Stage(arguments, "tf_rnn", "rnn.json", cfg)
    if stage.finished:
        meta = provenance.read(stage.result, "rnn", game.name, arguments.unverified)
        if provenance.is_known(meta) and meta["parents"].get("vae") != parents["vae"]:
            raise UserError(
                f"{stage.result}: was trained on another VAE than {path}; --fresh sets it aside and trains anew"
            )
        return
    chunks = _chunks(game, cfg, known)
    shape = mdnrnn.Shape(data.z_size, config.ACTION_SIZE, cfg.hidden_size, config.RESTART, cfg.mixtures, cfg.heads)
    trainer = RnnTrainer(cfg, shape, cfg.restart_weight if config.RESTART else 0.0, pay)
    trained_on_from = _start_rnn(game, cfg, arguments, trainer.model, parents, made_of) if cfg.start_from else []
    unverified = provenance.any_unverified(*made_of)
    start = trainer.resume(stage, chunks, _source(parents["series"], parents))
    initial_z = os.path.join(arguments.run, config.TRAINED["initial_z"])
    weights.write_initial_z(initial_z, *data.initial_z())
    first = {name: parents[name] for name in ("series", "vae")}
    provenance.write(initial_z, "initial_z", game.name, cfg, first, 0.0, unverified=made_of[0].get("unverified", False))
    own_vae = models.own_vae(game, arguments.run, data.z_size)  # to show dreams

    def log(step: int, prefix: str, losses: Any) -> None:
        stage.log(step, **{prefix + name: loss for name, loss in _named(losses, config.RESTART).items()})

    with runs.progress(cfg.steps, start, "train the MDN-RNN") as bar:
        for step in range(start + 1, cfg.steps + 1):
            losses = trainer.step(step)
            bar.update()
            if step % cfg.report_every == 0 or step == cfg.steps:
                told = {name: f"{loss:.4f}" for name, loss in _named(losses, config.RESTART).items()}
                bar.set_postfix(told, refresh=False)
                log(step, "rnn__", losses)
            if step % cfg.validate_every == 0 or step == cfg.steps:
                log(step, "rnn__validation_", trainer.losses_on(unseen))
                if own_vae:
                    stage.show(step, "rnn/dreams", trainer.dreams(unseen, own_vae.decode))
            trainer.save_if_due(step)
    trainer.save(cfg.steps)
    weights.write_rnn(stage.result, trainer.model, config.RNN_FILE_ORDER)
    stage.write_meta(game.name, "rnn", parents, unverified, trained_on_from=trained_on_from)
    print(f"{stage.result}: written")


def _start_rnn(
    game: Game, cfg: Any, arguments: Any, model: mdnrnn.MDNRNN, parents: dict[str, Any], made_of: list[dict[str, Any]]
) -> list[str]:
    """Gives an MDN-RNN the weights of --start_from, and adds that to its parents and their metas.

    Returns:
        The sha256 of all the MDN-RNNs that it then goes on from.

    Raises:
        UserError: that file is missing, does not fit, or predicts another kind of distribution.
    """
    earlier = agents.find(cfg.start_from, arguments.run)
    meta = provenance.read(earlier, "rnn", game.name, arguments.unverified)
    before = meta["config"].get("output", "mixture")
    if provenance.is_known(meta) and before != cfg.output:
        raise UserError(f"--start_from {earlier}: predicts a {before}; go on with --output {before}")
    weights.rnn_start_from(earlier, model, game.config.RNN_FILE_ORDER)
    parents["start_from"] = files.sha256(earlier)
    made_of.append(meta)
    return [parents["start_from"], *meta.get("trained_on_from", [])]


def _one_normal(cfg: Any, preset: Any) -> Any:
    """The config of an MDN-RNN with its number of mixtures: one if the output is gaussian.

    Raises:
        UserError: the user asks for a gaussian and for another number.
    """
    if cfg.output != "gaussian":
        return cfg
    if cfg.mixtures not in (1, preset.mixtures):
        raise UserError(f"--output gaussian is one normal; leave out --mixtures {cfg.mixtures}")
    return dataclasses.replace(cfg, mixtures=1)


def _named(losses: Iterable[float], restart: bool) -> dict[str, float]:
    """The losses of the MDN-RNN by name; that of the restart flag only if there is one."""
    by_name = dict(zip(RNN_LOSSES, losses, strict=False))
    return {name: loss for name, loss in by_name.items() if restart or name != "restart_loss"}


def _check_vae(game: Game, arguments: Any, path: str, meta: dict[str, Any]) -> None:
    """UserError if a series was encoded by another VAE than the one that the run has now."""
    vae_path = _vae_of(game, arguments.run)
    encoded_by, now = meta["parents"].get("vae"), files.sha256(vae_path)
    if provenance.is_known(meta) and encoded_by != now:
        raise UserError(
            f"{path}: was encoded by another VAE ({str(encoded_by)[:12]}) than {vae_path} ({now[:12]}); encode again "
            "with: python series.py --fresh, then python rnn_train.py --fresh"
        )


class ExponentialDecay(keras.optimizers.schedules.LearningRateSchedule):
    """1e-5 + (rate - 1e-5) * 0.99999^step, the schedule of the authors' code for the MDN-RNN."""

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def __call__(self, step: Any) -> Any:
        """Step -> learning rate."""
        return 1e-5 + (self.rate - 1e-5) * 0.99999 ** keras.ops.cast(step, "float32")


def adam(cfg: Any, variables: list[Any], **options: Any) -> keras.optimizers.Adam:
    """Adam with the learning rate and schedule of a config, its state built, ready to be restored.

    Args:
        cfg: settings.Vae or settings.Rnn; schedule "cosine" warms up for `WARMUP` steps and falls to zero at the last.
        variables: the Keras variables that it will train.
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
            source: what identifies the data and the first weights; training goes on with the same only.

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
        self._batches = self._distributed(batches.dataset(start, self.cfg.steps))
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
        self._train = vae.train_step_of(self.model, self._optimizer, self.strategy)

    def step(self, step: int) -> tuple[float, ...]:
        """Trains on the next batch; returns its losses: (reconstruction, kl), see ConvVAE.losses_of."""
        self._frames = next(self._batches)
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
        self._memory: tuple[Any, Any]
        blocks, gaussian, restart_z = (
            devices.blocks_of(cfg.streams),
            cfg.output == "gaussian",
            getattr(cfg, "restart_z", False),
        )
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
        self._memory = to_replicas(self.strategy, saved["state"]) if saved else self._no_memory(self.cfg.streams)
