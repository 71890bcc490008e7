"""Trains V, the variational autoencoder, on the recorded frames.

Reads record/; writes tf_vae/vae.json (the paper's format), tf_vae/metrics.jsonl and checkpoints. Memory stays flat
however many episodes there are. Killed, it goes on from the last checkpoint by the same command.

    python vae_train.py            # laptop preset
    python vae_train.py --help
"""

import os

import numpy as np

from common import cli, devices, episodes, runs, training, vae, weights

import config


def main():
    cfg, arguments = cli.parse(config.VAE, __doc__)
    stage = runs.Stage(arguments, "tf_vae", "vae.json", cfg)
    if stage.finished:
        return
    stream = episodes.FrameStream(os.path.join(arguments.run, "record"), cfg.batch_size, cfg.seed)

    strategy = devices.for_training(cfg.seed)
    with strategy.scope():
        model = vae.ConvVAE(cfg.z_size)
        optimizer = training.adam(cfg, model.trainable_variables)
    train_step = vae.train_step_of(model, optimizer, strategy)
    variables = model.trainable_variables + optimizer.variables
    start, _ = stage.restore(variables)

    frames = iter(strategy.experimental_distribute_dataset(stream.dataset(start, cfg.steps)))
    with runs.progress(cfg.steps, start, "train V") as bar:
        for step in range(start + 1, cfg.steps + 1):
            losses = train_step(next(frames), np.array([cfg.seed, step], np.int32))
            stage.check(step, losses)
            bar.update()
            if step % cfg.report_every == 0 or step == cfg.steps:
                recon, kl = map(float, losses)
                bar.set_postfix(recon=f"{recon:.2f}", kl=f"{kl:.2f}", refresh=False)
                stage.log(step, vae__recon_loss=recon, vae__kl_loss=kl)
            stage.save_if_due(step, variables)
    stage.save(cfg.steps, variables)
    weights.write_vae(stage.result, model)
    print(f"{stage.result}: written")


if __name__ == "__main__":
    cli.run_main(main)
