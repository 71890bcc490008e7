"""Trains the MDN-RNN on the encoded episodes.

Reads series/series.npz; writes tf_initial_z/initial_z.json (first frames, where dreams start), tf_rnn/rnn.json (the
format of the authors), their metas, checkpoints, and the metrics, in tf_rnn/metrics.jsonl and for TensorBoard. After an
interruption the same command continues from the last checkpoint.

    python rnn_train.py            # laptop preset
    python rnn_train.py --help
"""

from common.runtime import cli
from common.training import vae_and_rnn

from carracing.game import GAME

if __name__ == "__main__":
    cli.run_main(lambda: vae_and_rnn.train_rnn(GAME, __doc__))
