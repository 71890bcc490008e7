#!/usr/bin/env bash
# Records the game: bash extract.bash [WORKERS [EPISODES]] [--flags of extract.py]; by default a worker per core.
set -eu
cd "$(dirname "$0")"
options=()
if [[ "${1:-}" =~ ^[0-9]+$ ]]; then options+=(--workers "$1"); shift; fi
if [[ "${1:-}" =~ ^[0-9]+$ ]]; then options+=(--episodes "$1"); shift; fi
python=../.venv/bin/python
[ -x "$python" ] || python=python
exec "$python" extract.py "${options[@]}" "$@"
