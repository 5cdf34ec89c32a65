#!/usr/bin/env bash
# 50-exam: eval from dpo (align_8gpu.ft:56)
# Works in the run folder. FT_PYTHON: the engine's Python.
set -euo pipefail
trap 'exit 143' TERM # asked to stop: what runs is waited for, and may still save
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export FT_PYTHON="${FT_PYTHON:-python3}"
case "$FT_PYTHON" in */*) PATH="$(dirname "$FT_PYTHON"):$PATH" ;; esac
export CUDA_VISIBLE_DEVICES="${CUDA_VISIBLE_DEVICES:-0}"

# are rows of the evaluation in the training data?
"$FT_PYTHON" -m runtime.data leaks 50-exam/leaks.json

"$FT_PYTHON" runtime/llamafactory.py train 50-exam/stage.json

# exit status 3: a bound is not met
"$FT_PYTHON" runtime/gate.py 50-exam/gate.json
