#!/usr/bin/env bash
# Everything that made the weights that ship, from nothing, on two cores; interrupted, it goes on by the same command.
#   bash laptop.bash [DIR]      DIR, by default ../runs/doom, holds the run; DIR.short the first M's
set -eu
cd "$(dirname "$0")"
run=${1:-../runs/doom}
short=$run.short
python=../.venv/bin/python
[ -x "$python" ] || python=python
mkdir -p "$short" "$run/record"

# V, and a first M with short chunks, on the first 3,000 episodes
"$python" extract.py --run "$short" --episodes 3000
"$python" vae_train.py --run "$short"
"$python" series.py --run "$short"
"$python" rnn_train.py --run "$short"

# M again with chunks as long as a life, on 10,000 episodes, from the first M's weights
cp -aln "$short/record/." "$run/record/"
cp -an "$short/tf_vae" "$run/"
"$python" extract.py --run "$run" --first_seed 10000 --episodes 7000
"$python" series.py --run "$run"
"$python" rnn_train.py --run "$run" --start_from "$short/tf_rnn/rnn.json" \
  --streams 48 --sequence_length 400 --steps 1300 --learning_rate 1e-3 --validation_episodes 200 --validate_every 250

# C in the dream, and the mean that does best in the real game on validation seeds
"$python" train.py --run "$run"
"$python" pick_best.py log/doomrnn.cma.16.64.log.json --run "$run"
