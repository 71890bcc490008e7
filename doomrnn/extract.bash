#!/usr/bin/env bash
# Records episodes of the game; by default one worker per core.
#   bash extract.bash [WORKERS [EPISODES]] [--flags of extract.py]
set -eu
cd "$(dirname "$0")"
if [[ "${1:-}" =~ ^[0-9]+$ && "${2:-}" =~ ^[0-9]+$ ]]; then set -- --workers "$1" --episodes "$2" "${@:3}"
elif [[ "${1:-}" =~ ^[0-9]+$ ]]; then set -- --workers "$1" "${@:2}"
fi
python=../.venv/bin/python
[ -x "$python" ] || python=python
exec "$python" extract.py "$@"
