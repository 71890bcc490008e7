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
sister=$run.sister
python=../.venv/bin/python
[ -x "$python" ] || python=python
mkdir -p "$short" "$random/record" "$agent/record" "$warm/record" "$hot" "$sister/record" "$run/record"

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

# And on in hotter dreams, which are harder than the game
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

# Where an evolution in that M's dream alone leads to is what that M has got wrong: games of that C too, for a sister of
# that M. The record of random play and of the agent is its own
"$python" train.py --run "$run" -t 256 --start_from "$agent_c" --sigma_init 0.1 --temperature 1.3 --averaging 0.8 --eval_steps 4 --eval_episodes 512 --generations 25
"$python" extract.py --run "$sister" --first_seed 100000 --episodes 1500
cp -n "$agent_c" "$run/agent.json"  # without its config, which knows the M before
"$python" extract.py --run "$run" --controller agent.json --first_seed 200000 --episodes 1031 --explore 0.1
cp -n "$run/log/doomrnn.cma.16.256.best.json" "$run/alone.json"
"$python" extract.py --run "$run" --controller alone.json --first_seed 210000 --episodes 700 --explore 0.1
cp -aln "$run"/record/2?????.npz "$sister/record/"
cp -an "$run/tf_vae" "$sister/"
"$python" series.py --run "$sister"
"$python" rnn_train.py --run "$sister" "${long_chunks[@]}" --validation_episodes 60 --start_from "$hot/tf_rnn/rnn.json" --steps 700 --validate_every 175

# C goes on in the dreams of three M's at once; what ships is the mean of its averages at generations 30, 35, 40 and 45
"$python" train.py --run "$run" -t 128 --num_episode 12 --directions 60 --start_from "$agent_c" --sigma_init 0.8 --temperature 1.3 --averaging 0.8 --generations 46 --eval_steps 5 --eval_episodes 384 --also_in "$hot/tf_rnn/rnn.json,$sister/tf_rnn/rnn.json"
"$python" pick_best.py log/doomrnn.cma.12.128.log.json --run "$run"
