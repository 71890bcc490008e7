#!/usr/bin/env bash
# Records episodes of the game; by default one worker per core.
#   bash extract.bash [WORKERS [EPISODES]] [--flags of extract.py]
set -eu
cd "$(dirname "$0")"
options=()
if [[ "${1:-}" =~ ^[0-9]+$ ]]; then options+=(--workers "$1"); shift; fi
if [[ "${1:-}" =~ ^[0-9]+$ ]]; then options+=(--episodes "$1"); shift; fi
python=../.venv/bin/python
[ -x "$python" ] || python=python
exec "$python" extract.py ${options[@]+"${options[@]}"} "$@"
