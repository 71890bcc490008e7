"""Trains V, the variational autoencoder, on the recorded frames.

Reads record/; writes tf_vae/vae.json (the paper's format), checkpoints, and the metrics in tf_vae/metrics.jsonl and for
TensorBoard. Memory stays flat however many episodes there are. Killed, it goes on from the last checkpoint by the same
command.

    python vae_train.py            # laptop preset
    python vae_train.py --help
"""

from common import cli, pipeline

import config

if __name__ == "__main__":
    cli.run_main(lambda: pipeline.train_v(config, __doc__))
