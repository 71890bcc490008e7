"""Trains M, the MDN-RNN, on the encoded episodes.

Reads series/series.npz; writes tf_initial_z/initial_z.json (first frames, where dreams start), tf_rnn/rnn.json (the
paper's format), checkpoints, and the metrics in tf_rnn/metrics.jsonl and for TensorBoard. Killed, it goes on from the
last checkpoint by the same command.

    python rnn_train.py            # laptop preset
    python rnn_train.py --help
"""

from common import cli, pipeline

import config

if __name__ == "__main__":
    cli.run_main(lambda: pipeline.train_m(config, __doc__))
