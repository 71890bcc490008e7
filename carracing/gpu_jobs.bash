#!/usr/bin/env bash
# Trains the VAE, encodes the recordings, trains the MDN-RNN; on a GPU if there is one.
#   bash gpu_jobs.bash [--flags]      flags such as --preset or --run go to all three stages
set -eu
cd "$(dirname "$0")"
python=../.venv/bin/python
[ -x "$python" ] || python=python
# what a later stage would refuse is refused before the first, which takes hours
"$python" -c 'from common.runtime import cli; from common.training import vae_and_rnn; from carracing.game import GAME
cli.run_main(lambda: vae_and_rnn.check_ahead(GAME))' "$@"
for stage in vae_train series rnn_train; do
  "$python" "$stage.py" "$@"
done
