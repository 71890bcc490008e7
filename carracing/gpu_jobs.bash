#!/usr/bin/env bash
# Trains V, encodes the recordings, trains M; on a GPU where there is one. Flags, such as --preset or --run, go to all.
set -eu
cd "$(dirname "$0")"
python=../.venv/bin/python
[ -x "$python" ] || python=python
for stage in vae_train series rnn_train; do
  "$python" "$stage.py" "$@"
done
