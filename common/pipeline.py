"""The three stages that are the same in every game: training V, encoding the recordings by it, training M.

Each takes the game's config module and its script's description, and is resumed by the same command (common/runs.py).
"""

import os

from common import cli, devices, episodes, files, mdnrnn, play, runs, training, weights

PICTURE_EVERY = 1000  # steps of V's training, for TensorBoard


def train_v(config, description):
    """record/ -> tf_vae/."""
    cfg, arguments = cli.parse(config.VAE, description)
    stage = runs.Stage(arguments, "tf_vae", "vae.json", cfg)
    if stage.finished:
        return
    frames = episodes.FrameStream(os.path.join(arguments.run, "record"), cfg.batch_size, cfg.seed)
    v = training.VTrainer(cfg)
    if cfg.start_from:
        weights.vae_start_from(play.find(cfg.start_from, arguments.run), v.model)
    start = v.resume(stage, frames)
    with runs.progress(cfg.steps, start, "train V") as bar:
        for step in range(start + 1, cfg.steps + 1):
            recon, kl = v.step(step)
            bar.update()
            if step % cfg.report_every == 0 or step == cfg.steps:
                bar.set_postfix(recon=f"{recon:.2f}", kl=f"{kl:.2f}", refresh=False)
                stage.log(step, vae__recon_loss=recon, vae__kl_loss=kl)
            if step % PICTURE_EVERY == 0 or step == cfg.steps:
                stage.show(step, "vae/reconstructions", v.reconstructions())
            v.save_if_due(step)
    v.save(cfg.steps)
    weights.write_vae(stage.result, v.model)
    print(f"{stage.result}: written (peak memory {runs.peak_memory():.2f} GB)")


def encode(config, description):
    """record/ and V -> series/; recordings that have come since are added."""
    cfg, arguments = cli.parse(config.SERIES, description)
    paths, _ = episodes.scan(os.path.join(arguments.run, "record"))
    vae_path = weights.find(arguments.run, config, "vae")["vae"]
    about = {"encoded": {"vae": files.sha256(vae_path)}}
    stage = runs.Stage(arguments, "series", "series.npz", cfg, may_change=("episodes_per_part",), about=about)
    missing, parts = episodes.not_encoded(paths, stage.folder)
    if not missing and parts == [stage.result] and stage.finished:
        return
    devices.for_training(seed=0)
    episodes.encode(missing, parts, weights.read_vae(vae_path), stage.folder, cfg.episodes_per_part)
    print(f"{stage.result}: written")


def train_m(config, description):
    """series/ -> tf_initial_z/ and tf_rnn/; with a restart head if the config's `RESTART` says so."""
    cfg, arguments = cli.parse(config.RNN, description)
    stage = runs.Stage(arguments, "tf_rnn", "rnn.json", cfg)
    if stage.finished:
        return
    series = episodes.Series(os.path.join(arguments.run, "series", "series.npz"))
    weights.write_initial_z(os.path.join(arguments.run, config.TRAINED["initial_z"]), *series.initial_z())
    known, unseen = series.split(cfg.validation_episodes)
    chunks = episodes.StreamBatches(known, cfg.streams, cfg.sequence_length, cfg.seed)
    shape = mdnrnn.Shape(series.z_size, config.ACTION_SIZE, cfg.hidden_size, config.RESTART, cfg.mixtures)
    m = training.MTrainer(cfg, shape, cfg.restart_weight if config.RESTART else 0.0)
    if cfg.start_from:
        weights.rnn_start_from(play.find(cfg.start_from, arguments.run), m.model, config.RNN_FILE_ORDER)
    start = m.resume(stage, chunks)
    v = weights.own_vae(arguments.run, config, series.z_size)  # to show M's dreams
    names = ("z_loss", "restart_loss") if config.RESTART else ("z_loss",)

    def log(step, prefix, losses):
        stage.log(step, **{prefix + name: loss for name, loss in zip(names, losses, strict=False)})

    with runs.progress(cfg.steps, start, "train M") as bar:
        for step in range(start + 1, cfg.steps + 1):
            losses = m.step(step)
            bar.update()
            if step % cfg.report_every == 0 or step == cfg.steps:
                bar.set_postfix({name: f"{x:.4f}" for name, x in zip(names, losses, strict=False)}, refresh=False)
                log(step, "rnn__", losses)
            if step % cfg.validate_every == 0 or step == cfg.steps:
                log(step, "rnn__validation_", m.losses_on(unseen))
                if v:
                    stage.show(step, "rnn/dreams", m.dreams(unseen, v.decode))
            m.save_if_due(step)
    m.save(cfg.steps)
    weights.write_rnn(stage.result, m.model, config.RNN_FILE_ORDER)
    print(f"{stage.result}: written")
