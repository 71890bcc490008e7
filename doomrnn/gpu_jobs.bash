#!/usr/bin/env bash
# Trains the VAE, encodes the recordings, trains the MDN-RNN; on a GPU if there is one.
#   bash gpu_jobs.bash [--flags]      flags such as --preset or --run go to all three stages
set -eu
cd "$(dirname "$0")"
python=../.venv/bin/python
[ -x "$python" ] || python=python
# what a later stage would refuse is refused before the first, which takes hours
"$python" -m common.training.ahead doomrnn "$@"
for stage in vae_train series rnn_train; do
  "$python" "$stage.py" "$@"
done
