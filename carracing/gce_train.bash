#!/usr/bin/env bash
# Evolves C: bash gce_train.bash [RANKS] [--flags of train.py]. Population 64, shared by that many MPI ranks (which must
# divide it); without a number, by the cores of one process. The same command goes on after an interruption.
set -eu
cd "$(dirname "$0")"
options=()
if [[ "${1:-}" =~ ^[1-9][0-9]*$ ]]; then
  if ((64 % $1)); then echo "$0: $1 ranks do not divide the population of 64" >&2; exit 2; fi
  options+=(-n "$1" -t "$((64 / $1))")
  shift
fi
python=../.venv/bin/python
[ -x "$python" ] || python=python
exec "$python" train.py "${options[@]}" "$@"
