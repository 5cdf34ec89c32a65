#!/usr/bin/env bash
# 60-after: eval from sft (quickstart.ft:54)
# Works in the run folder. FT_PYTHON: the engine's Python.
set -euo pipefail
trap 'exit 143' TERM # asked to stop: what runs is waited for, and may still save
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export FT_PYTHON="${FT_PYTHON:-python3}"
case "$FT_PYTHON" in */*) PATH="$(dirname "$FT_PYTHON"):$PATH" ;; esac
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

# are rows of the evaluation in the training data?
"$FT_PYTHON" -m runtime.data leaks 60-after/leaks.json

"$FT_PYTHON" runtime/llamafactory.py train 60-after/stage.json

# exit status 3: a bound is not met
"$FT_PYTHON" runtime/gate.py 60-after/gate.json
