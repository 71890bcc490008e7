"""Trains the VAE on the recorded frames.

Reads record/; writes tf_vae/vae.json (the format of the authors), its meta, checkpoints, and the metrics, in
tf_vae/metrics.jsonl and for TensorBoard. Memory does not grow with the number of episodes. After an interruption the
same command continues from the last checkpoint.

    python vae_train.py            # laptop preset
    python vae_train.py --help
"""

from common.runtime import cli
from common.training import vae_and_rnn

from doomrnn.game import GAME

if __name__ == "__main__":
    cli.run_main(lambda: vae_and_rnn.train_vae(GAME, __doc__))
