"""Trains V, the variational autoencoder, on the recorded frames.

Reads record/; writes tf_vae/vae.json (the paper's format), checkpoints, and the metrics in tf_vae/metrics.jsonl and for
TensorBoard. Memory stays flat however many episodes there are. Killed, it goes on from the last checkpoint by the same
command.

    python vae_train.py            # laptop preset
    python vae_train.py --help
"""

import os

from common import cli, episodes, runs, training, weights

import config

PICTURE_EVERY = 1000  # steps, for TensorBoard


def main():
    cfg, arguments = cli.parse(config.VAE, __doc__)
    stage = runs.Stage(arguments, "tf_vae", "vae.json", cfg)
    if stage.finished:
        return
    frames = episodes.FrameStream(os.path.join(arguments.run, "record"), cfg.batch_size, cfg.seed)
    v = training.VTrainer(cfg)
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


if __name__ == "__main__":
    cli.run_main(main)
