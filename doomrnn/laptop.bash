#!/usr/bin/env bash
# Everything that made the weights that ship, from nothing, on two cores; interrupted, it goes on by the same command.
#   bash laptop.bash [DIR]      DIR, by default ../runs/doom, holds the run; DIR.short and so on the earlier rounds'
set -eu
cd "$(dirname "$0")"
run=${1:-../runs/doom}
short=$run.short
random=$run.random
agent=$run.agent
warm=$run.warm
hot=$run.hot
python=../.venv/bin/python
[ -x "$python" ] || python=python
mkdir -p "$short" "$random/record" "$agent/record" "$warm/record" "$hot" "$run/record"

# V, and a first M with short chunks, on the first 3,000 episodes
"$python" extract.py --run "$short" --episodes 3000
"$python" vae_train.py --run "$short"
"$python" series.py --run "$short"
"$python" rnn_train.py --run "$short"

# M again with chunks as long as a life, on 10,000 episodes, from the first M's weights; a C in its dream
long_chunks=(--streams 48 --sequence_length 400 --learning_rate 1e-3 --validation_episodes 200)
cp -aln "$short/record/." "$random/record/"
cp -an "$short/tf_vae" "$random/"
"$python" extract.py --run "$random" --first_seed 10000 --episodes 7000
"$python" series.py --run "$random"
"$python" rnn_train.py --run "$random" "${long_chunks[@]}" --start_from "$short/tf_rnn/rnn.json" --steps 1300 --validate_every 250
"$python" train.py --run "$random" --generations 20

# Games of that agent, which lives to see what random players do not; M goes on with them
"$python" extract.py --run "$random" --controller log/doomrnn.cma.16.64.best.json --first_seed 20000 --episodes 1200 --explore 0.1
cp -aln "$random/record/." "$agent/record/"
cp -an "$random/tf_vae" "$agent/"
cp -an "$random/series" "$agent/"  # which goes on with what is new
"$python" series.py --run "$agent"
"$python" rnn_train.py --run "$agent" "${long_chunks[@]}" --start_from "$random/tf_rnn/rnn.json" --steps 1200 --validate_every 200
"$python" train.py --run "$agent" --generations 107

# More deaths for M; C goes on in its dream from where the last search stood
"$python" extract.py --run "$warm" --first_seed 30000 --episodes 5228
cp -aln "$agent/record/." "$warm/record/"
cp -an "$agent/tf_vae" "$warm/"
cp -an "$agent/series" "$warm/"
"$python" series.py --run "$warm"
"$python" rnn_train.py --run "$warm" "${long_chunks[@]}" --start_from "$agent/tf_rnn/rnn.json" --steps 420 --validate_every 200
mkdir -p "$warm/log" "$hot/log"
cp -n "$agent/log/doomrnn.cma.16.64.npz" "$warm/log/"
"$python" train.py --run "$warm" --generations 20

# And on in hotter dreams, which are harder than the game; its last mean is the C that ships
cp -an "$warm"/tf_* "$hot/"
cp -n "$warm/log/doomrnn.cma.16.64.npz" "$hot/log/"
"$python" train.py --run "$hot" --generations 20 --temperature 1.6
agent_c=$hot/log/doomrnn.cma.16.64.json

# Games of that C, for the M that ships
"$python" extract.py --run "$hot" --first_seed 40000 --episodes 4334
"$python" extract.py --run "$hot" --controller "$agent_c" --first_seed 50000 --episodes 1665 --explore 0.1
cp -aln "$hot/record/." "$run/record/"
cp -an "$hot/tf_vae" "$run/"
"$python" series.py --run "$run"
"$python" rnn_train.py --run "$run" "${long_chunks[@]}" --start_from "$hot/tf_rnn/rnn.json" --steps 1500 --validate_every 250
mkdir -p "$run/log"
cp -n "$agent_c" "$run/log/doomrnn.cma.16.64.best.json"  # without its config, which knows the M before
