"""Trains M, the MDN-RNN with a restart head, on the encoded episodes.

Reads series/series.npz; writes tf_initial_z/initial_z.json (first frames, where dreams start), tf_rnn/rnn.json (the
paper's format), checkpoints, and the metrics in tf_rnn/metrics.jsonl and for TensorBoard. Killed, it goes on from the
last checkpoint by the same command.

    python rnn_train.py            # laptop preset
    python rnn_train.py --help
"""

import os

from common import cli, episodes, mdnrnn, play, runs, training, weights

import config


def main():
    cfg, arguments = cli.parse(config.RNN, __doc__)
    stage = runs.Stage(arguments, "tf_rnn", "rnn.json", cfg)
    if stage.finished:
        return
    series = episodes.Series(os.path.join(arguments.run, "series", "series.npz"))
    weights.write_initial_z(os.path.join(arguments.run, config.TRAINED["initial_z"]), *series.initial_z())
    known, unseen = series.split(cfg.validation_episodes)
    chunks = episodes.StreamBatches(known, cfg.streams, cfg.sequence_length, cfg.seed)
    shape = mdnrnn.Shape(series.z_size, config.ACTION_SIZE, cfg.hidden_size, config.RESTART, cfg.mixtures)
    m = training.MTrainer(cfg, shape, cfg.restart_weight)
    if cfg.start_from:
        weights.start_from(play.find(cfg.start_from, arguments.run), m.model, config.RNN_FILE_ORDER)
    start = m.resume(stage, chunks)
    v = weights.own_vae(arguments.run, config, series.z_size)  # to show M's dreams
    with runs.progress(cfg.steps, start, "train M") as bar:
        for step in range(start + 1, cfg.steps + 1):
            z_loss, restart_loss = m.step(step)
            bar.update()
            if step % cfg.report_every == 0 or step == cfg.steps:
                bar.set_postfix(z=f"{z_loss:.4f}", restart=f"{restart_loss:.4f}", refresh=False)
                stage.log(step, rnn__z_loss=z_loss, rnn__restart_loss=restart_loss)
            if step % cfg.validate_every == 0 or step == cfg.steps:
                z_loss, restart_loss = m.losses_on(unseen)
                stage.log(step, rnn__validation_z_loss=z_loss, rnn__validation_restart_loss=restart_loss)
                if v:
                    stage.show(step, "rnn/dreams", m.dreams(unseen, v.decode))
            m.save_if_due(step)
    m.save(cfg.steps)
    weights.write_rnn(stage.result, m.model, config.RNN_FILE_ORDER)
    print(f"{stage.result}: written")


if __name__ == "__main__":
    cli.run_main(main)
