"""Training of the VAE and the MDN-RNN, and the encoding between them: three stages that are the same in every game.

Each takes the game and the description of its script, and is resumed by the same command (common/runtime/runs.py).
"""

import hashlib
import math
import os
from collections.abc import Iterable
from typing import Any

from common.runtime import devices  # isort: skip  (loads TensorFlow without its banner)

from common.agent import mdnrnn, models, weights
from common.data import recordings, series
from common.game import Game
from common.play import agents
from common.runtime import cli, files, provenance, runs, settings
from common.runtime.cli import UserError
from common.training import gan, trainers

PICTURE_EVERY = 1000  # steps of the training of the VAE between pictures for TensorBoard
WEIGHT_BYTES = 5  # of a number in a weight file, such as "-123,"; those that ship have 4.2 to 4.5
RNN_LOSSES = "z_loss", "restart_loss", "reward_loss", "fall_loss"  # as mdnrnn.losses_of returns them


def train_vae(game: Game, description: str | None) -> None:
    """vae_train.py: record/ -> tf_vae/."""
    cfg, arguments = cli.parse(game.config.VAE, description)
    settings.check_vae(cfg, arguments)
    runs.check_run(arguments)
    place = arguments, "tf_vae", "vae.json"
    if runs.is_made(*place) and runs.Stage(*place, cfg).finished:
        return
    folder = os.path.join(arguments.run, "record")
    own: dict[str, Any] = {"action_sizes": game.action_sizes, "game": game.name}
    frames = recordings.FrameStream(folder, cfg.batch_size, cfg.seed, mirror=cfg.mirror, **own)
    made_of = recordings.training_sources(folder, frames.paths, arguments.unverified)
    parents: dict[str, Any] = {"recordings": list(made_of)}
    trainer = _vae_trainer(game, cfg)
    if cfg.start_from:
        path = agents.find(cfg.start_from, arguments.run)
        made_of.append(provenance.read(path, "vae", game.name, arguments.unverified))
        weights.vae_start_from(path, trainer.model)
        parents["start_from"] = files.sha256(path)
    stage = runs.Stage(*place, cfg)  # after the checks: an error leaves no trace
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


def _vae_trainer(game: Game, cfg: Any) -> trainers.VaeTrainer:
    """The trainer of the VAE, or that of a VAE-GAN, which shows the VAE that ships as well."""
    if not cfg.gan:
        return trainers.VaeTrainer(cfg)
    shipped = [os.path.join(game.folder, group["vae"]) for group in game.config.SHIPPED]
    return gan.GanTrainer(cfg, next((weights.read_vae(path) for path in shipped if os.path.exists(path)), None))


def encode(game: Game, description: str | None) -> None:
    """series.py: record/ and the VAE -> series/. Recordings that are newer than the series are added to it."""
    cfg, arguments = cli.parse(game.config.SERIES, description)
    runs.check_run(arguments)
    place, folder = (arguments, "series", "series.npz"), os.path.join(arguments.run, "record")

    def opened(vae_path: str) -> runs.Stage:
        about = {"encoded": {"vae": files.sha256(vae_path)}}
        return runs.Stage(*place, cfg, may_change=("episodes_per_part",), about=about)

    nothing_new = not recordings.are_in(folder) and runs.is_made(*place)
    if nothing_new and opened(_vae_of(game, arguments.run)).finished:
        return
    paths, _ = recordings.scan(folder, game.action_sizes, game.name)
    made_of = recordings.training_sources(folder, paths, arguments.unverified)
    parents: dict[str, Any] = {"recordings": list(made_of)}
    vae_path = _vae_of(game, arguments.run)
    made_of.append(provenance.read(vae_path, "vae", game.name, arguments.unverified))
    parents["vae"] = files.sha256(vae_path)
    devices.for_training(seed=0)
    coder = weights.read_vae(vae_path)
    stage = opened(vae_path)
    missing, parts, gone = series.not_encoded(paths, stage.folder)
    if not missing and parts == [stage.result] and stage.finished:
        return
    if gone:
        removed = _of_the_gone(game, stage.result, parents["recordings"], gone)
        parents["recordings"], made_of = parents["recordings"] + removed, made_of + removed
    provenance.forget(stage.result)  # which is about to change
    series.encode(missing, parts, coder, stage.folder, cfg.episodes_per_part, cfg.mirror, cfg.z_noise)
    stage.write_meta(game.name, "series", parents, provenance.any_unverified(*made_of))
    print(f"{stage.result}: written")


def _of_the_gone(game: Game, result: str, known: list[dict[str, Any]], gone: int) -> list[dict[str, Any]]:
    """The origins of encoded episodes of which the recordings were removed, from the earlier meta of the series.

    Args:
        game: the game.
        result: the series.
        known: the origins of the recordings that are there.
        gone: how many are not.
    """
    if not os.path.exists(result + provenance.ENDING):
        return [{"unknown": gone, "unverified": True}]
    before = provenance.read(result, "series", game.name, unverified=False)["parents"].get("recordings", [])
    spans = [(one.get("first_seed"), one.get("episodes")) for one in known]
    return [one for one in before if (one.get("first_seed"), one.get("episodes")) not in spans]


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

    if cfg.newest and cfg.streams < 2:
        raise UserError("--newest has streams of its own beside those of the other episodes: give --streams 2 or more")
    if not cfg.newest:
        return series.StreamBatches(mirrored(known), cfg.streams, cfg.sequence_length, cfg.seed, cfg.heads)
    old, new = map(mirrored, known.split(cfg.newest, "--newest"))
    return series.MixedBatches(old, new, cfg.newest_share, cfg.streams, cfg.sequence_length, cfg.seed, cfg.heads)


def _split(data: series.Series, cfg: Any) -> tuple[series.Series, series.Series]:
    """(episodes to train on, those of the validation); UserError if the first validation would fail."""
    known, unseen = data.split(cfg.validation_episodes)
    if len(unseen.mu) <= cfg.sequence_length:
        raise UserError(
            f"--validation_episodes {cfg.validation_episodes}: their {len(unseen.mu)} frames do not fill a chunk of "
            f"{cfg.sequence_length + 1}; raise it, or lower --sequence_length"
        )
    series.StreamBatches(unseen, 1, cfg.sequence_length, cfg.seed, cfg.heads)  # which needs their rewards
    return known, unseen


def train_rnn(game: Game, description: str | None) -> None:
    """rnn_train.py: series/ -> tf_initial_z/ and tf_rnn/."""
    cfg, arguments = cli.parse(game.config.RNN, description)
    cfg = settings.one_normal(cfg, game.config.RNN[arguments.preset])
    runs.check_run(arguments)
    place, path = (arguments, "tf_rnn", "rnn.json"), os.path.join(arguments.run, "series", "series.npz")
    if not os.path.exists(path) and runs.is_made(*place) and runs.Stage(*place, cfg).finished:
        return
    data = series.Series(path)
    game = game.acting_by(data.action.shape[1])
    config, pay = game.config, game.pay if cfg.heads else None
    made_of = [provenance.read(path, "series", game.name, arguments.unverified)]
    parents: dict[str, Any] = {"series": files.sha256(path), "vae": made_of[0]["parents"].get("vae")}
    parents["recordings"] = made_of[0]["parents"].get("recordings", [])
    _check_vae(game, arguments, path, made_of[0])
    if runs.is_made(*place) and (stage := runs.Stage(*place, cfg)).finished:
        meta = provenance.read(stage.result, "rnn", game.name, arguments.unverified)
        if provenance.is_known(meta) and meta["parents"].get("vae") != parents["vae"]:
            raise UserError(
                f"{stage.result}: was trained on another VAE than {path}; --fresh sets it aside and trains anew"
            )
        return
    known, unseen = _split(data, cfg)
    chunks = _chunks(game, cfg, known)
    shape = _shape(game, cfg, data.z_size)
    trainer = trainers.RnnTrainer(cfg, shape, cfg.restart_weight if config.RESTART else 0.0, pay)
    trained_on_from = _start_rnn(game, cfg, arguments, trainer.model, parents, made_of) if cfg.start_from else []
    unverified = provenance.any_unverified(*made_of)
    stage = runs.Stage(*place, cfg)  # after the checks: an error leaves no trace
    start = trainer.resume(stage, chunks, _source(parents["series"], parents))
    initial_z = os.path.join(arguments.run, config.TRAINED["initial_z"])
    if arguments.fresh:  # with the MDN-RNN: an earlier controller plays with both or not at all
        runs.set_aside(os.path.dirname(initial_z))
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


def check_ahead(game: Game) -> None:
    """gpu_jobs.bash, first: refuses what one of its stages would, which the headers of the recordings tell.

    Raises:
        UserError: the MDN-RNN could not be trained on these recordings as its config says.
    """
    config = game.config
    stages = cli.check({"vae_train": config.VAE, "series": config.SERIES, "rnn_train": config.RNN})
    (encoding, _), (cfg, arguments) = stages["series"], stages["rnn_train"]
    runs.check_run(arguments)
    if runs.is_made(arguments, "tf_rnn", "rnn.json"):
        return  # it is not trained on these recordings, which may be gone
    paths, lengths = recordings.scan(os.path.join(arguments.run, "record"), game.action_sizes, game.name)
    size, paid = recordings.action_size(paths[0]), [recordings.has_reward(path) for path in paths]
    game = game.acting_by(size or config.ACTION_SIZE)
    known, _ = _split(series.Series.outline(lengths, game.config.ACTION_SIZE, paid, encoding.mirror), cfg)
    _chunks(game, cfg, known)


def _shape(game: Game, cfg: Any, z_size: int) -> mdnrnn.Shape:
    """The sizes of the MDN-RNN; UserError if the file of its weights would be too large to be read."""
    config = game.config
    shape = mdnrnn.Shape(z_size, config.ACTION_SIZE, cfg.hidden_size, config.RESTART, cfg.mixtures, cfg.heads)
    count = sum(math.prod(sizes) for sizes in shape.arrays.values())
    if count * WEIGHT_BYTES > files.JSON_LIMIT:
        raise UserError(
            f"--hidden_size {cfg.hidden_size}, --mixtures {cfg.mixtures}: an rnn.json of {count} weights has about "
            f"{count * WEIGHT_BYTES / 1e6:.0f} MB, and {files.JSON_LIMIT / 1e6:.0f} are read; give less of one"
        )
    return shape


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
        raise UserError(f"--start_from {earlier}: predicts a {before}; continue with --output {before}")
    weights.rnn_start_from(earlier, model, game.config.RNN_FILE_ORDER)
    parents["start_from"] = files.sha256(earlier)
    made_of.append(meta)
    return [parents["start_from"], *meta.get("trained_on_from", [])]


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
