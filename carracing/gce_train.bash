#!/usr/bin/env bash
# Evolves the controller: a population of 64, shared among MPI ranks, whose number must divide it. Without a number, one
# process uses all cores. To continue after an interruption, run the same command again.
#   bash gce_train.bash [RANKS] [--flags of train.py]
set -eu
cd "$(dirname "$0")"
if [[ "${1:-}" =~ ^[1-9][0-9]*$ ]]; then
  if ((64 % $1)); then echo "$0: $1 ranks do not divide the population of 64" >&2; exit 2; fi
  set -- -n "$1" -t "$((64 / $1))" "${@:2}"
fi
python=../.venv/bin/python
[ -x "$python" ] || python=python
exec "$python" train.py "$@"
