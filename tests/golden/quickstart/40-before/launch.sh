#!/usr/bin/env bash
# 40-before: eval from base (quickstart.ft:34)
# Works in the run folder. FT_PYTHON: the engine's Python.
set -euo pipefail
trap 'exit 143' TERM # asked to stop: what runs is waited for, and may still save
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export FT_PYTHON="${FT_PYTHON:-python3}"
case "$FT_PYTHON" in */*) PATH="$(dirname "$FT_PYTHON"):$PATH" ;; esac
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

# are rows of the evaluation in the training data?
"$FT_PYTHON" -m runtime.data leaks 40-before/leaks.json

"$FT_PYTHON" runtime/llamafactory.py train 40-before/stage.json
